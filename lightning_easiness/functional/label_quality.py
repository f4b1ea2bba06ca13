"""Which labels are probably wrong: threshold examples, refinement by sample easiness, and averaged probabilities.

Rules that need no second training are in `two_groups`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_easiness.functional._checks import (
    check_floating,
    check_per_example,
    check_rows,
    check_same_length,
    check_tensor,
    is_integer,
)
from lightning_easiness.functional._label_checks import (
    check_labels,
    check_mask,
    check_num_classes,
    check_probabilities,
)
from lightning_easiness.functional.sample_easiness import DEFAULT_TOL, EASY, HARD, easiness_level

_LEVELS = {"easy": EASY, "hard": HARD}


class ThresholdComparison(NamedTuple):
    """What the runs of the threshold protocol say of each example.

    Attributes:
        excess: Mean over the runs that judge an example of how far it is on the easy side of that run's threshold,
            float64, shape (N,): at most 0 is flagged. NaN where no run judges it.
        thresholds: Threshold of each run, float64, shape (R,).
    """

    excess: Tensor
    thresholds: Tensor


def threshold_examples(target: Tensor, num_classes: int, part: int = 0, seed: int = 0) -> Tensor:
    """Indices of the examples that get the class K, which does not exist: N / (K + 1), drawn uniformly.

    A model with K + 1 outputs is trained with them under label K, which no picture of theirs can explain: what their
    margins look like is what a wrong label looks like. They cannot be judged in that run, so it takes two, with
    `part` 0 and 1: these sets are disjoint, so that each example is judged by at least one run, and most by both.
    "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).

    Args:
        target: Class of each example, integers in [0, K), shape (N,).
        num_classes: K, without the class that does not exist, at least 2.
        part: 0 or 1: which of the two sets.
        seed: Seed of the draw, the same for both parts; the global random stream is not touched.

    Returns:
        Shape (n,), int64, ascending, n = N / (K + 1) rounded half up; on the device of `target`. The same on every
        device.

    Raises:
        TypeError: If `target` is no integer tensor.
        ValueError: If `target` has another shape, a label is outside [0, K), as one that is K already is, there is one
            class, `part` is neither 0 nor 1, or there are too few examples for two sets.

    Example:
        >>> import torch
        >>> target = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1])
        >>> first, second = (threshold_examples(target, 2, part) for part in (0, 1))
        >>> len(first), len(second), set(first.tolist()) & set(second.tolist())
        (3, 3, set())
    """
    check_num_classes("threshold_examples", num_classes)
    if part not in (0, 1):
        raise ValueError(f"The `part` of threshold_examples must be 0 or 1, the run of the two; got {part!r}.")
    number = len(check_labels("threshold_examples", "target", target, num_classes))
    size = math.floor(Fraction(number, num_classes + 1) + Fraction(1, 2))
    if not 1 <= size <= number // 2:
        raise ValueError(
            f"The `target` of threshold_examples must hold enough examples for two sets of N / (K + 1); got N = "
            f"{number} and K = {num_classes}."
        )
    drawn = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    return drawn[part * size : (part + 1) * size].sort().values.to(target.device)


def threshold_of(values: Tensor, percentile: float = 99.0, *, higher_is_easier: bool = True) -> Tensor:
    """Score below which labels are suspected, from the scores of the threshold examples alone.

    The percentile, counted from the hard end: all but 1 % of threshold examples would be flagged. Between two values it
    is interpolated linearly.

    Args:
        values: Score of each threshold example, floating point, shape (n,); NaN is left out.
        percentile: In (0, 100].
        higher_is_easier: Direction of `values`: True for the area under the margin.

    Returns:
        Shape (), float64, on the CPU.

    Raises:
        TypeError: If `values` is no floating point tensor.
        ValueError: If `values` has another shape, no value is known, or `percentile` is out of range.

    Example:
        >>> import torch
        >>> threshold_of(torch.arange(101.0))
        tensor(99., dtype=torch.float64)
    """
    values = check_floating("threshold_of", "values", values)
    check_per_example("threshold_of", "values", values)
    if not 0 < percentile <= 100:
        raise ValueError(f"The `percentile` of threshold_of must be in (0, 100]; got {percentile}: the paper's is 99.")
    known = values.detach()[~values.isnan()].cpu().double()
    if len(known) == 0:
        raise ValueError(
            f"The `values` of threshold_of must hold one that is known; got {len(values)}, all NaN: were the "
            "threshold examples trained on?"
        )
    ordered = (known if higher_is_easier else -known).sort().values
    place = (len(ordered) - 1) * percentile / 100
    low, part = math.floor(place), place - math.floor(place)
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    # not below + part * (above - below), which is NaN between infinities of one sign
    threshold = below if part == 0 or below == above else (1 - part) * below + part * above
    return threshold if higher_is_easier else -threshold


def flag_by_threshold(values: Tensor, threshold: float | Tensor, *, higher_is_easier: bool = True) -> Tensor:
    """Whether each example is as hard as the threshold, or harder: suspected of a wrong label.

    Args:
        values: One value an example, floating point, shape (N,). NaN is never flagged.
        threshold: A number, as `threshold_of` gives.
        higher_is_easier: Direction of `values`.

    Returns:
        Shape (N,), bool.

    Raises:
        TypeError: If `values` is no floating point tensor.
        ValueError: If `values` has another shape.

    Example:
        >>> import torch
        >>> flag_by_threshold(torch.tensor([-2.0, 1.0, float("nan")]), threshold=-2.0)
        tensor([ True, False, False])
    """
    values = check_floating("flag_by_threshold", "values", values)
    check_per_example("flag_by_threshold", "values", values)
    limit = float(threshold)
    return values <= limit if higher_is_easier else values >= limit


def compare_to_thresholds(
    values: Tensor, threshold_indices: Sequence[Tensor], percentile: float = 99.0, *, higher_is_easier: bool = True
) -> ThresholdComparison:
    """Compare each example with the threshold of each run in which it is no threshold example.

    Run r judges all examples that it has seen but for `threshold_indices[r]`. What several runs judge is judged by the
    mean of its distances from their thresholds. With one run and no threshold example, the flags are those of
    `flag_by_threshold`.

    Args:
        values: Score of each example in each run, floating point, shape (R, N); NaN where not seen.
        threshold_indices: Threshold examples of each run, integers, shape (n,) each; disjoint, as those of
            `threshold_examples` are.
        percentile: As in `threshold_of`.
        higher_is_easier: Direction of `values`.

    Returns:
        See `ThresholdComparison`; on the CPU.

    Raises:
        TypeError: If `values` is no floating point tensor, or indices are no integers.
        ValueError: If a shape is wrong, an index is outside [0, N), runs share a threshold example, or the threshold
            examples of a run are all unknown.

    Example:
        >>> import torch
        >>> values = torch.tensor([[-2.0, 5.0, -3.0, 9.0], [-4.0, -1.0, 7.0, 9.0]])
        >>> compare_to_thresholds(values, [torch.tensor([0]), torch.tensor([1])]).excess
        tensor([-3.0000,  7.0000,  3.5000, 10.5000], dtype=torch.float64)
    """
    owner = "compare_to_thresholds"
    values = check_floating(owner, "values", values)
    check_rows(owner, "values", values, row="run")
    if len(threshold_indices) != len(values):
        raise ValueError(
            f"The `threshold_indices` of {owner} must name those of each of the {len(values)} runs; got "
            f"{len(threshold_indices)}."
        )
    exact = values.detach().cpu().double()
    members = _members(owner, threshold_indices, exact.shape[1])
    thresholds = torch.stack(
        [
            threshold_of(run[mask], percentile, higher_is_easier=higher_is_easier)
            for run, mask in zip(exact, members, strict=True)
        ]
    )
    excess = exact - thresholds.unsqueeze(1)
    excess = excess if higher_is_easier else -excess
    return ThresholdComparison(excess.masked_fill(members, torch.nan).nanmean(0), thresholds)


def _members(owner: str, threshold_indices: Sequence[Tensor], number: int) -> Tensor:
    """Return which examples are threshold examples of which run, bool (R, N)."""
    members = torch.zeros(len(threshold_indices), number, dtype=torch.bool)
    for run, indices in enumerate(threshold_indices):
        check_tensor(owner, "threshold_indices", indices)
        check_per_example(owner, "threshold_indices", indices)
        if not is_integer(indices):
            raise TypeError(f"The `threshold_indices` of {owner} must hold integers; got {indices.dtype}.")
        outside = indices[(indices < 0) | (indices >= number)]
        if len(outside):
            raise ValueError(
                f"The `threshold_indices` of {owner} must be in [0, {number}), the examples of `values`; got "
                f"{int(outside[0])} in run {run}."
            )
        members[run, indices.detach().cpu().long()] = True
    shared = (members.sum(0) > 1).nonzero()[:, 0]
    if len(shared):
        raise ValueError(
            f"The `threshold_indices` of {owner} must be disjoint, so that each example is judged by a run in which "
            f"its label is its own; got example {int(shared[0])} in more than one run: take `part` 0 and 1 of "
            "threshold_examples() with one seed."
        )
    return members


def refine_by_sample_easiness(
    flagged: Tensor, easiness: Tensor, which: Literal["easy", "hard"] = "hard", tol: float = DEFAULT_TOL
) -> Tensor:
    """Keep a flag only where the example is easy, or only where it is hard, at its given label (AUM-SE).

    Section 4.3 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks" says that a
    flagged example counts as mislabelled if it is marked as easy, that is with an easiness of 1, and elsewhere that
    sample easiness finds hard examples. Both readings are here; the second is the default, as the first keeps hardly a
    wrong label (`examples/aum_se.py`).

    Args:
        flagged: What the area under the margin flags, bool, shape (N,).
        easiness: Sample easiness at the given label in [0, 1], floating point, shape (N,). NaN is neither.
        which: "easy": E >= 1 - tol. "hard": E <= tol.
        tol: As in `easiness_level`.

    Returns:
        Shape (N,), bool; never more than `flagged`.

    Raises:
        TypeError: If `flagged` is no bool tensor or `easiness` not floating point.
        ValueError: If shapes differ, `which` is unknown or `tol` is outside [0, 0.5).

    Example:
        >>> import torch
        >>> flagged, easiness = torch.tensor([True, True, True, False]), torch.tensor([1.0, 0.4, 0.0, 0.0])
        >>> refine_by_sample_easiness(flagged, easiness, "hard")
        tensor([False, False,  True, False])
        >>> refine_by_sample_easiness(flagged, easiness, "easy")
        tensor([ True, False, False, False])
    """
    owner = "refine_by_sample_easiness"
    if which not in _LEVELS:
        raise ValueError(f"The `which` of {owner} must be 'easy' or 'hard'; got {which!r}.")
    check_mask(owner, "flagged", flagged)
    level = easiness_level(easiness, tol)
    check_same_length(owner, "easiness", easiness, "flagged", flagged)
    return flagged & (level == _LEVELS[which])


def suggest_labels(probabilities: Tensor, given: Tensor) -> Tensor:
    """Label to give instead: the most probable class other than the given one.

    It is a suggestion for labels that are wrong: a right label gets one, too.

    Args:
        probabilities: Averaged over training or runs, floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 where there is none.

    Returns:
        Shape (N,), int64; -1 where a probability is NaN. The most probable of all classes where no label is given.

    Raises:
        TypeError: If `probabilities` is not floating point or `given` no integer tensor.
        ValueError: If a shape is wrong, a label is K or above, or a row does not sum to 1.

    Example:
        >>> import torch
        >>> suggest_labels(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([1, 0])
    """
    probabilities, given = check_probabilities("suggest_labels", probabilities, given)
    suggested = _others(probabilities, given).argmax(1)
    return suggested.masked_fill(probabilities.isnan().any(1), -1)


def self_confidence(probabilities: Tensor, given: Tensor) -> Tensor:
    """Probability of the given label: in [0, 1], HIGH is clean.

    "Confident Learning: Estimating Uncertainty in Dataset Labels" (Northcutt et al., 2021), which takes out-of-sample
    probabilities; averaged over training they tell much the same, as long as labels are not learnt by heart.

    Args:
        probabilities: Floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 where there is none.

    Returns:
        Shape (N,), float32 (float64 for float64 `probabilities`). NaN where a probability is NaN or no label is given.

    Raises:
        TypeError: If `probabilities` is not floating point or `given` no integer tensor.
        ValueError: If a shape is wrong, a label is K or above, or a row does not sum to 1.

    Example:
        >>> import torch
        >>> self_confidence(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([0.7000, 0.4000])
    """
    probabilities, given = check_probabilities("self_confidence", probabilities, given)
    return _of_given(probabilities, given)


def normalized_margin(probabilities: Tensor, given: Tensor) -> Tensor:
    """Probability of the given label less the largest other, plus 1, halved: in [0, 1], HIGH is clean, 0.5 is a tie.

    "Model-agnostic label quality scoring to detect real-world label errors" (Kuan and Mueller, 2022), on the scale
    of the other label scores.

    Args:
        probabilities: Floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 where there is none.

    Returns:
        Shape (N,), float32 (float64 for float64 `probabilities`). NaN where a probability is NaN or no label is given.

    Raises:
        TypeError: If `probabilities` is not floating point or `given` no integer tensor.
        ValueError: If a shape is wrong, a label is K or above, or a row does not sum to 1.

    Example:
        >>> import torch
        >>> normalized_margin(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([0.7500, 0.4500])
    """
    probabilities, given = check_probabilities("normalized_margin", probabilities, given)
    return (_of_given(probabilities, given) - _others(probabilities, given).amax(1) + 1) / 2


def _of_given(probabilities: Tensor, given: Tensor) -> Tensor:
    chosen = probabilities.gather(1, given.clamp(min=0).unsqueeze(1)).squeeze(1)
    return chosen.masked_fill((given < 0) | probabilities.isnan().any(1), torch.nan)


def _others(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the probabilities with those of the given labels out of the way."""
    hidden = probabilities.scatter(1, given.clamp(min=0).unsqueeze(1), -1.0)
    return torch.where(given.unsqueeze(1) < 0, probabilities, hidden)
