"""Finding label errors: threshold examples, refinement by sample easiness, and scores from probabilities.

Rules that need no second training are in `mixture`. Probabilities, floating point of shape (N, K), are averaged over
training, or out of sample; given labels are integers of shape (N,), below 0 for unlabelled examples.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.functional.levels import DEFAULT_TOL, EASY, HARD, levels_of

_BLOCK = 2**22  # probabilities processed at once


class ThresholdComparison(NamedTuple):
    """Comparison of each example with the thresholds of the runs of the threshold protocol.

    Attributes:
        excess: Distance of each example from the threshold, positive on the easy side, averaged over the runs in which
            it had its own label, float64, shape (N,); at most 0 is flagged. NaN if there is no score in these runs.
        thresholds: Threshold of each run, float64, shape (R,).
    """

    excess: Tensor
    thresholds: Tensor


def threshold_examples(target: Tensor, num_classes: int, part: int = 0, seed: int = 0) -> Tensor:
    """Return the indices of N / (K + 1) examples, int64 (n,), ascending, that get the extra class K.

    They are drawn uniformly. A model with K + 1 outputs is trained with label K for these examples, so that their
    margins resemble those of label errors. This run cannot rate their own labels, so a second run is needed: `part` 0
    and 1 give two disjoint sets. The number is rounded half up; too few examples for two sets are an error.
    "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).

    Args:
        target: Class of each example, integers in [0, K), shape (N,).
        num_classes: K, without the extra class, at least 2.
        part: 0 or 1, one of the two sets.
        seed: Seed of the draw, the same for both parts.

    Example:
        >>> sets = [threshold_examples(torch.arange(9) % 2, num_classes=2, part=part) for part in (0, 1)]
        >>> len(sets[0]), len(sets[1]), set(sets[0].tolist()) & set(sets[1].tolist())
        (3, 3, set())
    """
    owner = "threshold_examples"
    check.num_classes(owner, num_classes)
    if part not in (0, 1):
        check.refuse(owner, "part", "be 0 or 1, one of the two runs", repr(part))
    number = len(check.labels(owner, "target", target, num_classes))
    size = math.floor(Fraction(number, num_classes + 1) + Fraction(1, 2))
    if not 1 <= size <= number // 2:
        must = "have enough examples for two sets of N / (K + 1)"
        check.refuse(owner, "target", must, f"N = {number} and K = {num_classes}")
    drawn = torch.randperm(number, generator=generator(seed))
    return drawn[part * size : (part + 1) * size].sort().values.to(target.device)


def threshold_of(values: Tensor, percentile: float = 99.0, *, higher_is_easier: bool = True) -> Tensor:
    """Return the threshold for suspicious labels, float64 (), from the scores of the threshold examples alone.

    A percentile counted from the hard end: at 99, all but 1 % of the threshold examples would be flagged. Interpolates
    linearly between values.

    Args:
        values: Score of each threshold example, floating point, shape (n,); NaN is left out.
        percentile: In (0, 100].
        higher_is_easier: Direction of `values`: True for the area under the margin.

    Example:
        >>> threshold_of(torch.arange(101.0))
        tensor(99., dtype=torch.float64)
    """
    owner = "threshold_of"
    values = check.floating(owner, "values", values, "N")
    if not 0 < percentile <= 100:
        check.refuse(owner, "percentile", "be in (0, 100]", percentile, "the paper's is 99")
    known = values.detach()[~values.isnan()].cpu().double()
    if len(known) == 0:
        got, way = f"{len(values)}, all NaN", "check that the threshold examples were trained on"
        check.refuse(owner, "values", "contain at least one known value", got, way)
    ordered = (known if higher_is_easier else -known).sort().values
    place = (len(ordered) - 1) * percentile / 100
    low, part = math.floor(place), place - math.floor(place)
    below, above = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    # not below + part * (above - below), which is NaN for two infinities of the same sign
    threshold = below if part == 0 or below == above else (1 - part) * below + part * above
    return threshold if higher_is_easier else -threshold


def flag_by_threshold(values: Tensor, threshold: float | Tensor, *, higher_is_easier: bool = True) -> Tensor:
    """Return whether each example is at least as hard as the threshold, and so a suspected label error, bool (N,).

    Args:
        values: One value per example, floating point, shape (N,). NaN is never flagged.
        threshold: A number, for example from `threshold_of`.
        higher_is_easier: Direction of `values`.

    Example:
        >>> flag_by_threshold(torch.tensor([-2.0, 1.0, float("nan")]), threshold=-2.0)
        tensor([ True, False, False])
    """
    values = check.floating("flag_by_threshold", "values", values, "N")
    limit = float(threshold)
    return values <= limit if higher_is_easier else values >= limit


def compare_to_thresholds(
    values: Tensor, threshold_indices: Sequence[Tensor], percentile: float = 99.0, *, higher_is_easier: bool = True
) -> ThresholdComparison:
    """Compare each example with the threshold of each run in which it is not a threshold example.

    For several such runs, the distances from their thresholds are averaged. With one run, the flags are those of
    `flag_by_threshold`. The result is on the CPU.

    Args:
        values: Score of each example in each run, floating point, shape (R, N); NaN where not seen.
        threshold_indices: Threshold examples of each run, integers, shape (n,) each; disjoint, as returned by
            `threshold_examples`.
        percentile: As in `threshold_of`.
        higher_is_easier: Direction of `values`.

    Example:
        >>> values = torch.tensor([[-2.0, 5.0, -3.0, 9.0], [-4.0, -1.0, 7.0, 9.0]])
        >>> compare_to_thresholds(values, [torch.tensor([0]), torch.tensor([1])]).excess
        tensor([-3.0000,  7.0000,  3.5000, 10.5000], dtype=torch.float64)
    """
    owner = "compare_to_thresholds"
    exact = check.floating(owner, "values", values, "run").detach().cpu().double()
    if len(threshold_indices) != len(exact):
        must = f"have one entry per run, {len(exact)}"
        check.refuse(owner, "threshold_indices", must, len(threshold_indices))
    members = _members(owner, threshold_indices, exact.shape[1])
    parts = [run[own] for run, own in zip(exact, members, strict=True)]
    thresholds = torch.stack([threshold_of(part, percentile, higher_is_easier=higher_is_easier) for part in parts])
    excess = exact - thresholds.unsqueeze(1)
    excess = excess if higher_is_easier else -excess
    return ThresholdComparison(excess.masked_fill(members, torch.nan).nanmean(0), thresholds)


def _members(owner: str, threshold_indices: Sequence[Tensor], number: int) -> Tensor:
    """Return the mask of the threshold examples of each run, bool (R, N)."""
    name = "threshold_indices"
    members = torch.zeros(len(threshold_indices), number, dtype=torch.bool)
    for run, indices in enumerate(threshold_indices):
        check.integers(owner, name, indices)
        outside = indices[(indices < 0) | (indices >= number)]
        if len(outside):
            must = f"be in [0, {number}), the examples of `values`"
            check.refuse(owner, name, must, f"{int(outside[0])} in run {run}")
        members[run, indices.detach().cpu().long()] = True
    shared = (members.sum(0) > 1).nonzero()[:, 0]
    if len(shared):
        must = "be disjoint, so that each example has its own label in some run"
        way = "use `part` 0 and 1 of threshold_examples() with the same seed"
        check.refuse(owner, name, must, f"example {int(shared[0])} in more than one run", way)
    return members


def refine_by_sample_easiness(
    flagged: Tensor,
    easiness: Tensor,
    which: Literal["easy", "hard"] = "hard",
    tol: float = DEFAULT_TOL,
    *,
    weakest_comparison: Tensor | None = None,
) -> Tensor:
    """Keep a flag, bool (N,), only where the example is easy, or only where it is hard, for its given label (AUM-SE).

    Section 4.3 of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks" keeps a flag
    where the example is easy, and elsewhere says that sample easiness finds hard examples. Both readings are available.
    "hard" is the default, since "easy" keeps hardly any label errors (`examples/paper/sel_aum.py`).

    Args:
        flagged: Flags by the area under the margin, bool, shape (N,).
        easiness: Sample easiness at the given label, as in `easiness_level`; for "easy" E of shape (N,) is enough. What
            is not known is neither.
        which: The level of the flags to keep.
        tol: As in `easiness_level`.
        weakest_comparison: As in `easiness_level`.

    Example:
        >>> flagged, easiness = torch.tensor([True, True, True, False]), torch.tensor([1.0, 0.0, 0.0, 0.0])
        >>> weakest = torch.tensor([1.0, 0.4, 0.0, 0.0])
        >>> refine_by_sample_easiness(flagged, easiness, "hard", weakest_comparison=weakest)
        tensor([False, False,  True, False])
    """
    owner = "refine_by_sample_easiness"
    check.choice(owner, "which", which, ("easy", "hard"))
    check.mask(owner, "flagged", flagged)
    level = levels_of(owner, easiness, weakest_comparison, tol, hard_is_asked=which == "hard")
    check.same_length(owner, "easiness", level, "flagged", flagged)
    return flagged & (level == (EASY if which == "easy" else HARD))


# ----------------------------------------------------------------------------------------------------- probabilities


def suggest_labels(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return a suggested label, int64 (N,): the most probable class other than the given one.

    It is meant for label errors; correct labels get a suggestion, too. -1 where a probability is NaN; the most probable
    of all classes for unlabelled examples.

    Args:
        probabilities: Probability of each class, floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 for unlabelled examples.

    Example:
        >>> suggest_labels(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([1, 0])
    """
    probabilities, given = check.probabilities("suggest_labels", probabilities, given)
    suggested = _others(probabilities, given).argmax(1)
    return suggested.masked_fill(probabilities.isnan().any(1), -1)


def self_confidence(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the probability of the given label, (N,): in [0, 1], HIGH is clean.

    "Confident Learning: Estimating Uncertainty in Dataset Labels" (Northcutt et al., 2021), which uses out-of-sample
    probabilities; averages over training work similarly, as long as labels are not memorised. NaN where a probability
    is NaN or no label is given. Arguments are those of `suggest_labels`.

    Example:
        >>> self_confidence(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([0.7000, 0.4000])
    """
    probabilities, given = check.probabilities("self_confidence", probabilities, given)
    return _of_given(probabilities, given)


def normalized_margin(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return (p - q + 1) / 2, p the given label's probability, q the largest other, (N,): in [0, 1], HIGH is clean.

    "Model-agnostic label quality scoring to detect real-world label errors" (Kuan and Mueller, 2022), scaled like
    the other label scores; 0.5 is a tie. Otherwise like `self_confidence`.

    Example:
        >>> normalized_margin(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.1, 0.4]]), torch.tensor([0, 2]))
        tensor([0.7500, 0.4500])
    """
    probabilities, given = check.probabilities("normalized_margin", probabilities, given)
    return (_of_given(probabilities, given) - _others(probabilities, given).amax(1) + 1) / 2


def _of_given(probabilities: Tensor, given: Tensor) -> Tensor:
    chosen = probabilities.gather(1, given.clamp(min=0).unsqueeze(1)).squeeze(1)
    return chosen.masked_fill((given < 0) | probabilities.isnan().any(1), torch.nan)


def _others(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the probabilities with those of the given labels set to -1."""
    hidden = probabilities.scatter(1, given.clamp(min=0).unsqueeze(1), -1.0)
    return torch.where(given.unsqueeze(1) < 0, probabilities, hidden)


def confident_joint(probabilities: Tensor, given: Tensor) -> Tensor:
    """Count the examples with each given label that are confidently of each class.

    An example is confidently of class j if its probability of j is at least the mean probability of j among the
    examples given j. If this holds for several classes, the most probable one counts; if for none, the example does not
    count. "Confident Learning: Estimating Uncertainty in Dataset Labels" (Northcutt et al., 2021), section 3.1.
    Arguments are those of `suggest_labels`; unlabelled examples and those with NaN are left out.

    Returns:
        Shape (K, K), int64: row i, column j counts the examples given i that are confidently j.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
        >>> confident_joint(probabilities, torch.tensor([0, 0, 0, 1, 1]))
        tensor([[2, 1],
                [0, 1]])
    """
    return _joint("confident_joint", probabilities, given)


def _joint(owner: str, probabilities: Tensor, given: Tensor) -> Tensor:
    """Compute `confident_joint`; errors name `owner`."""
    probabilities, given = check.probabilities(owner, probabilities, given)
    num_classes = probabilities.shape[1]
    thresholds = _mean_own(probabilities, given)
    joint = torch.zeros(num_classes**2, dtype=torch.int64, device=probabilities.device)
    length = max(1, _BLOCK // num_classes)
    for rows, labels in zip(torch.split(probabilities, length), torch.split(given, length), strict=True):
        confident = rows >= thresholds
        counted = confident.any(1) & (labels >= 0)
        candidate = torch.where(confident, rows, -1.0).argmax(1)
        joint += torch.bincount((labels * num_classes + candidate)[counted], minlength=num_classes**2)
    return joint.reshape(num_classes, num_classes)


def _mean_own(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the mean probability of each class among the examples given it, (K,); NaN for a class without examples."""
    own = probabilities.gather(1, given.clamp(min=0).unsqueeze(1)).squeeze(1)
    known = (given >= 0) & ~own.isnan()
    labels, own = given[known], own[known].to(check.exact_dtype(probabilities))
    num_classes = probabilities.shape[1]
    sums = torch.zeros(num_classes, dtype=own.dtype, device=own.device).index_add_(0, labels, own)
    return sums / torch.bincount(labels, minlength=num_classes)


def estimate_wrong_share(probabilities: Tensor, given: Tensor) -> Tensor:
    """Estimate the fraction of label errors among the examples given each class.

    The off-diagonal part of each row of `confident_joint`. The model's own mistakes count as label errors, too: with a
    weak model the estimate is too high, and with a model that has memorised label errors it is too low. Arguments are
    those of `suggest_labels`.

    Returns:
        Shape (K,), float64 (float32 on Apple's devices), in [0, 1]; 0 for a class without a counted example. The
        fraction among all labels is the mean over examples, `shares[given].mean()`.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
        >>> estimate_wrong_share(probabilities, torch.tensor([0, 0, 0, 1, 1]))
        tensor([0.3333, 0.0000], dtype=torch.float64)
    """
    joint = _joint("estimate_wrong_share", probabilities, given)
    counted = joint.sum(1)
    wrong = (counted - joint.diagonal()).to(check.exact_dtype(probabilities))
    return wrong / counted.clamp(min=1)


def replace_confidence(probabilities: Tensor, given: Tensor, confidence: Tensor) -> Tensor:
    """Replace each example's probability of its given label, and scale those of the other classes to match.

    If labels were memorised, the probabilities averaged over training mostly repeat the given labels. With the
    probability of the given label from the time of learning, `confidence(loss, learning_weights(accuracy))`, they show
    again which other class the model predicted.

    Args:
        probabilities: As in `suggest_labels`.
        given: As in `suggest_labels`; rows of unlabelled examples are unchanged.
        confidence: Probability of the given label in [0, 1], floating point, shape (N,).

    Returns:
        Shape (N, K), in the dtype of `probabilities` (float32 for half precision); NaN where `confidence` is. If the
        given label had all of the probability, the rest is split evenly among the other classes.

    Example:
        >>> replace_confidence(torch.tensor([[0.90, 0.08, 0.02]]), torch.tensor([0]), torch.tensor([0.5]))
        tensor([[0.5000, 0.4000, 0.1000]])
    """
    owner = "replace_confidence"
    probabilities, given = check.probabilities(owner, probabilities, given)
    confidence = check.floating(owner, "confidence", confidence, "N")
    check.same_length(owner, "confidence", confidence, "given", given)
    check.unit_interval(owner, "confidence", confidence, "probabilities")
    index, new = given.clamp(min=0).unsqueeze(1), confidence.to(probabilities).unsqueeze(1)
    others = probabilities.scatter(1, index, 0.0)
    rest = others.sum(1, keepdim=True)
    alike = torch.full_like(probabilities, 1 / (probabilities.shape[1] - 1))
    replaced = (torch.where(rest > 0, others / rest, alike) * (1 - new)).scatter(1, index, new)
    return torch.where(given.unsqueeze(1) < 0, probabilities, replaced)
