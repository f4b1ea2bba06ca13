"""Metrics (torchmetrics) of sample easiness and of the agreement of two scores.

States stay on the device and are synchronised over processes; no update waits for the device. Additional keywords are
those of `torchmetrics.Metric`. An argument out of range raises a ValueError with one sentence.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import easiest, hardest, matching_rate
from lightning_easiness.functional.levels import DEFAULT_TOL, default_is_wide
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2, draw_seeds, easiness_and_weakest

__all__ = ["ExpectedSampleEasinessError", "MatchingRate", "MediumSampleRate"]


class _Rate(Metric):
    """Base of metrics in [0, 1]."""

    is_differentiable = False
    full_state_update = False
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value or a sequence of values, as in torchmetrics; return figure and axes. Needs Matplotlib."""
        return self._plot(val, ax)


class _Sums(_Rate):
    """Sums in float64, or in float32 on devices without float64."""

    higher_is_better = False

    def _add_sum(self, name: str, *shape: int) -> None:
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        # Apple's devices have no float64, so the states must be converted before they are moved there.
        if fn(torch.zeros(0)).device.type == "mps":
            for name, default in self._defaults.items():
                self._defaults[name] = default.float()  # type: ignore[union-attr]
                setattr(self, name, getattr(self, name).float())
        return super()._apply(fn, exclude_state)


class Mean(_Sums):
    """Mean over all counted examples. For internal use."""

    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sum("total")
        self._add_sum("count")

    def update(self, total: Tensor | float, count: Tensor | int) -> None:
        """Add a sum over `count` examples, shape () each."""
        self.total = self.total + total
        self.count = self.count + count

    def compute(self) -> Tensor:
        """Return the mean, shape (), float32; NaN without examples."""
        return (self.total / self.count).float()


class MediumSampleRate(Mean):
    """Fraction of medium examples (MSR) over all batches and processes: in [0, 1], LOW means a certain model.

    The metric of `functional.medium_sample_rate`, from "Medium Samples Are All You Need: Sample Easiness-Aware
    Learning for Neural Networks". Examples whose easiness is NaN are left out.

    Args:
        sigma2: Variance of the noise on each probability, above 0.
        tol: As in `functional.easiness_level`. The default is too wide for 2,000 draws and more, which is warned of.
        num_draws: Count the easiness in so many draws, as the paper does with 1,000; None for exact. See `BatchReader`.

    Example:
        >>> metric = MediumSampleRate()
        >>> metric.update(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[0.0, 4.0], [9.0, 0.0]]), torch.tensor([0, 0]))
        >>> metric.compute()
        tensor(0.2500)
    """

    def __init__(
        self,
        sigma2: float = DEFAULT_SIGMA2,
        tol: float = DEFAULT_TOL,
        num_draws: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check.positive(type(self).__name__, "sigma2", sigma2)
        check.tol(type(self).__name__, tol)
        check.num_draws(type(self).__name__, num_draws)
        problem = default_is_wide(num_draws) if tol == DEFAULT_TOL else None
        if problem is not None:
            warn_user(f"{problem}.")
        self.sigma2 = sigma2
        self.tol = tol
        self.num_draws = num_draws

    @refuse_renamed("MediumSampleRate.update", logits="give `preds`")
    def update(self, preds: Tensor, target: Tensor, index: Tensor | None = None) -> None:  # type: ignore[override]
        """Add a batch of logits (B, K), floating point, K >= 2, and class indices (B,), integers in [0, K).

        With `num_draws`, `index` is the index of each example in the data set, integers, shape (B,), on which its draws
        depend. By default the examples of each batch are numbered from 0.
        """
        super().update(*count_medium(*_easiness(self, preds, target, index), self.tol))


def _easiness(
    metric: "MediumSampleRate | ExpectedSampleEasinessError", preds: Tensor, target: Tensor, index: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return sample easiness and the weakest comparison, (B,) each, by the settings of a metric."""
    owner = type(metric).__name__
    preds, target = check.logits(owner, preds, target)
    if index is not None:
        check.integers(owner, "index", index)
        check.same_length(owner, "index", index, "target", target)
    seeds = None
    if metric.num_draws is not None:
        seeds = draw_seeds(range(len(target)) if index is None else index.tolist())
    return easiness_and_weakest(preds, target, metric.sigma2, metric.num_draws, seeds)


def count_medium(easiness: Tensor, weakest: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """Return the numbers of medium and of known examples, shape () each; NaN fails every comparison."""
    return ((weakest > tol) & (easiness < 1 - tol)).sum(), (easiness >= 0).sum()


class EasinessError(_Sums):
    """`ExpectedSampleEasinessError` for easiness that is already computed. For internal use."""

    gaps: Tensor
    num_known: Tensor

    def __init__(self, num_bins: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check.at_least(type(self).__name__, "num_bins", num_bins, least=1)
        self.num_bins = num_bins
        self._add_sum("gaps", num_bins)
        self._add_sum("num_known")

    def update(self, easiness: Tensor, correct: Tensor) -> None:
        """Add the easiness of a batch and whether it is classified correctly, shape (B,) each; NaN is left out."""
        known = easiness >= 0  # False for NaN
        gap = torch.where(known, correct.to(self.gaps.dtype) - easiness, 0)
        # NaN becomes an arbitrary integer, which is clamped to a bin and adds a gap of 0.
        bins = (easiness * self.num_bins).long().clamp(0, self.num_bins - 1)
        self.gaps = self.gaps.index_add(0, bins, gap)
        self.num_known = self.num_known + known.sum()

    def compute(self) -> Tensor:
        """Return the error, shape (), float32; NaN without examples."""
        # P(bin) |accuracy - mean E| is |sum of (correct - E) in the bin| / N, so empty bins need no special case.
        return (self.gaps.abs().sum() / self.num_known).float()


class ExpectedSampleEasinessError(EasinessError):
    """Gap between easiness and accuracy (ESE) over all batches and processes: in [0, 1], 0 is a perfect estimate.

    The metric of `functional.expected_sample_easiness_error`, equation 4 of "Medium Samples Are All You Need: Sample
    Easiness-Aware Learning for Neural Networks". The bins collect all batches before the gaps are computed, which
    differs from a mean over batches. Examples whose easiness is NaN are left out.

    Args:
        num_bins: Number of equal bins of the easiness over [0, 1], at least 1.
        sigma2: Variance of the noise on each probability, above 0.
        num_draws: As in `MediumSampleRate`.

    Example:
        >>> metric = ExpectedSampleEasinessError()
        >>> metric.update(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))
        >>> metric.update(torch.tensor([[0.0, 4.0], [9.0, 0.0]]), torch.tensor([0, 0]))
        >>> metric.compute()
        tensor(0.1250)
    """

    def __init__(
        self,
        num_bins: int = 5,
        sigma2: float = DEFAULT_SIGMA2,
        num_draws: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_bins, **kwargs)
        check.positive(type(self).__name__, "sigma2", sigma2)
        check.num_draws(type(self).__name__, num_draws)
        self.sigma2 = sigma2
        self.num_draws = num_draws

    @refuse_renamed("ExpectedSampleEasinessError.update", logits="give `preds`")
    def update(self, preds: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """Add a batch, as in `MediumSampleRate.update`."""
        super().update(_easiness(self, preds, target, index)[0], preds.argmax(1) == target)


class MatchingRate(_Rate):
    """Fraction of easiest (or hardest) examples that two scores have in common: in [0, 1], 1 means the same examples.

    The metric of `functional.matching_rate`, equation 2 of "Empirical Study of Easy and Hard Examples in CNN Training"
    (2018, 2019). By chance it equals `fraction`. The metric stores all values, N per score.

    Args:
        fraction: Fraction of the examples to compare, in (0, 1].
        higher_is_easier: Direction of both scores, or a pair: False for a mean loss, True for sample easiness.
        which: Compare the "easy" or the "hard" end of the order.

    Example:
        >>> metric = MatchingRate(fraction=0.5, higher_is_easier=False)
        >>> metric.update(torch.tensor([0.1, 0.9]), torch.tensor([0.3, 0.4]))
        >>> metric.update(torch.tensor([0.2, 0.8]), torch.tensor([0.9, 0.8]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = True

    preds: list[Tensor]
    target: list[Tensor]
    index: list[Tensor]

    @refuse_renamed("MatchingRate", end='give `which`, "easy" or "hard"')
    def __init__(
        self,
        fraction: float = 0.1,
        *,
        higher_is_easier: bool | tuple[bool, bool],
        which: Literal["easy", "hard"] = "easy",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        check.fraction(owner, fraction)
        check.choice(owner, "which", which, ("easy", "hard"))
        self.fraction = fraction
        self.which = which
        self.higher_is_easier = _pair_of_directions(owner, higher_is_easier)
        for name in ("preds", "target", "index"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @refuse_renamed("MatchingRate.update", a="give `preds`", b="give `target`")
    def update(self, preds: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            preds: Values of one score, any real dtype, shape (B,). NaN means unknown and is in neither set.
            target: Values of the other score for the same examples in the same order, shape (B,).
            index: Index of each example in the data set, integers of at least 0, shape (B,). Repeated examples, such as
                the padding of a distributed sampler, then count once. By default all are different.
        """
        owner = type(self).__name__
        for name, values in (("preds", preds), ("target", target)):
            check.real(owner, name, values, "N")
        check.same_length(owner, "target", target, "preds", preds)
        if index is None:  # always set, so that all processes gather the same states; -1 is a separate example
            index = torch.full_like(preds, -1, dtype=torch.int64)
        check.integers(owner, "index", index)
        check.same_length(owner, "index", index, "preds", preds)
        self.preds.append(preds.detach())
        self.target.append(target.detach())
        self.index.append(index.long())

    def compute(self) -> Tensor:
        """Return the rate, shape (), float32; raise ValueError if there is no example with a value."""
        if not len(self.index):
            raise ValueError(f"{type(self).__name__} must be given examples before it is computed: call update().")
        # Ties are broken by a draw that depends on the values in order, so sort by index, not by arrival.
        index, order = dim_zero_cat(self.index).sort(stable=True)
        kept = order[(index < 0) | (index != index.roll(1)) | (torch.arange(len(index), device=index.device) == 0)]
        end = easiest if self.which == "easy" else hardest
        sets = [
            end(dim_zero_cat(values)[kept], self.fraction, higher_is_easier=higher_is_easier)
            for values, higher_is_easier in zip((self.preds, self.target), self.higher_is_easier, strict=True)
        ]
        return matching_rate(*sets)


def _pair_of_directions(owner: str, higher_is_easier: object) -> tuple[bool, bool]:
    """Return the direction of each score; raise TypeError for anything but a bool or a pair of bools."""
    pair = (higher_is_easier, higher_is_easier) if isinstance(higher_is_easier, bool) else higher_is_easier
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(one, bool) for one in pair)):
        must = "be a bool, or two bools for scores with different directions"
        check.refuse(owner, "higher_is_easier", must, repr(higher_is_easier), error=TypeError)
    return pair[0], pair[1]
