"""What the course of an example's losses over epochs shows a rule that chooses anew for each."""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.dynamic import check_left_out
from lightning_easiness.functional.easiness import round_half_up
from lightning_easiness.functional.sampling import positions, smallest, uniform_keys

_FEWEST = 3  # losses of a course: two are always on a line
_ROUNDING = 1e-5  # of the size of a course
_BLOCK = 2**14  # courses at a time, which a processor's cache holds


def running_mean(mean: Tensor, value: Tensor, momentum: float = 0.9) -> Tensor:
    """Return the exponential mean of what was seen of each example so far, (N,): momentum mean + (1 - momentum) value.

    It begins with the first value. An example without a new value keeps its mean. With the mean loss of the batches
    that an example was in as the value, this is the score of "Batch Loss Score for Dynamic Data Pruning" (Zhou et al.,
    2026), where the mean begins at 0, which would take examples that were seen seldom for easy.

    Args:
        mean: Mean so far, floating point, shape (N,); NaN where nothing was seen.
        value: New value, shape (N,); NaN where there is none. An infinite one, as of an overflow, counts for none.
        momentum: In [0, 1); 0 takes the last value alone.

    Example:
        >>> nan = float("nan")
        >>> running_mean(torch.tensor([1.0, nan, 3.0]), torch.tensor([2.0, 4.0, nan]), momentum=0.5)
        tensor([1.5000, 4.0000, 3.0000])
    """
    owner = "running_mean"
    mean, value = check.floating(owner, "mean", mean, "N"), check.floating(owner, "value", value, "N")
    check.same_length(owner, "value", value, "mean", mean)
    check_momentum(owner, momentum)
    moved = torch.where(mean.isnan(), value, momentum * mean + (1 - momentum) * value)
    return torch.where(value.isfinite(), moved, mean)


def check_momentum(owner: str, momentum: float) -> None:
    """Raise ValueError unless a momentum is in [0, 1)."""
    if not (check.is_number(momentum) and 0 <= momentum < 1):
        check.refuse(owner, "momentum", "be in [0, 1)", momentum, "the weight of what was before")


def alignment(losses: Tensor, reference: Tensor) -> Tensor:
    """Return the correlation of each example's losses with a course, (N,): in [-1, 1], HIGH is aligned; NaN is unknown.

    Pearson's correlation over the epochs at which both are known and finite. With the mean course of examples whose
    labels are right as the reference, examples with wrong labels are the least aligned: their losses do not fall with
    the others. The dynamic alignment score of "Beyond Loss Values: Robust Dynamic Pruning via Loss Trajectory
    Alignment" (Qin et al., 2026). A course of fewer than three losses, or one that changes by rounding alone, has none.

    Args:
        losses: Loss at each epoch, floating point, shape (C, N); NaN where the example was not seen.
        reference: The course to compare with, floating point, shape (C,); NaN where it is not known.

    Example:
        >>> losses = torch.tensor([[3.0, 1.0, 2.0], [2.0, 2.0, 2.0], [1.0, 3.0, 2.0]])
        >>> alignment(losses, torch.tensor([5.0, 4.0, 3.0]))
        tensor([ 1., -1., nan])
    """
    losses = check.floating("alignment", "losses", losses, "epoch")
    reference = check.floating("alignment", "reference", reference, "N").to(losses)
    if len(reference) != len(losses):
        must = f"have one value per epoch, ({len(losses)},)"
        check.refuse("alignment", "reference", must, tuple(reference.shape), "give the losses of the same epochs")
    return torch.cat([_alignment(part, reference) for part in torch.split(losses, _BLOCK, dim=1)])


def _alignment(losses: Tensor, reference: Tensor) -> Tensor:
    known = losses.isfinite() & reference.isfinite().unsqueeze(1)
    courses = losses, reference.unsqueeze(1).expand_as(losses)
    x, y = (_centred(course, known) for course in courses)
    found = ((x * y).sum(0) / (_norm(x) * _norm(y))).clamp(-1, 1)
    is_flat = _changes_by_rounding(x, courses[0], known) | _changes_by_rounding(y, courses[1], known)
    return found.masked_fill((known.sum(0) < _FEWEST) | is_flat, torch.nan)


def _norm(values: Tensor) -> Tensor:
    return values.square().sum(0).sqrt()


def _changes_by_rounding(centred: Tensor, course: Tensor, known: Tensor) -> Tensor:
    """Return of which courses, (C, N), the changes are no more than rounding, bool (N,)."""
    return _norm(centred) <= _ROUNDING * _norm(course.masked_fill(~known, 0))


def most_aligned(alignment: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """Return the indices of the examples left after the least aligned share, int64 (n,), ASCENDING.

    Exactly the share of all is left out, unless more are unknown: an example without an alignment stays.

    Args:
        alignment: HIGH is aligned, floating point, shape (N,), as `alignment` returns it. Ties are broken at random.
        share: Fraction of all examples to leave out, in [0, 1); rounded half up, at least one example stays.
        generator: Source of the draw, on the CPU.

    Example:
        >>> most_aligned(torch.tensor([0.9, -0.2, float("nan"), 0.3]), 0.5, generator=torch.Generator())
        tensor([0, 2])
    """
    owner = "most_aligned"
    known = check.floating(owner, "alignment", alignment, "N").detach().cpu()
    check_left_out(owner, share)
    size = len(known)
    number = min(round_half_up(share, size), int((~known.isnan()).sum()), max(size - 1, 0))
    order = uniform_keys(size, generator).argsort()  # ties by this draw, as `smallest` takes equal keys in their order
    chosen = torch.zeros(size, dtype=torch.bool)
    chosen[order] = smallest(known[order].nan_to_num(nan=torch.inf).double(), number)
    return positions(~chosen).to(alignment.device)


def _centred(values: Tensor, known: Tensor) -> Tensor:
    """Return known values less their mean over epochs, 0 for the others, (C, N)."""
    values = values.masked_fill(~known, 0)
    mean = values.sum(0) / known.sum(0).clamp(min=1)
    return (values - mean).masked_fill(~known, 0)
