"""Agreement of two sets of examples, of two scores, and of two halves of the runs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.functional.easiness import selection_probability
from lightning_easiness.functional.held_out import mean_over_runs

# The runs of the first half and of the second half, each ascending.
_Halves = tuple[tuple[int, ...], tuple[int, ...]]


def matching_rate(a: Tensor, b: Tensor) -> Tensor:
    """Return the fraction that two sets of examples have in common, (): in [0, 1], 1 means the same set.

    |A n B| / max(|A|, |B|), equation 2 of "Empirical Study of Easy and Hard Examples in CNN Training" (2018, 2019). Two
    random sets of a fraction f each match at a rate of f. 0 if one set is empty; two empty sets are an error.

    Args:
        a: Indices of examples, each once, integers of shape (n,), or a bool mask over all examples, shape (N,).
        b: Of the same kind as `a`: a mask of the same length, or any number of indices.

    Example:
        >>> matching_rate(torch.tensor([4, 8, 15]), torch.tensor([8, 4, 23, 42]))
        tensor(0.5000)
    """
    owner = "matching_rate"
    a, b = _index_set(owner, "a", a), _index_set(owner, "b", b)
    if a.dtype != b.dtype:
        way = f"`a` is {a.dtype}, and a mask becomes indices with mask.nonzero()[:, 0]"
        check.refuse(owner, "b", "be of the same kind as `a`, indices or a mask", b.dtype, way, error=TypeError)
    if a.dtype == torch.bool:
        check.same_length(owner, "b", b, "a", a)
        sizes, shared = torch.stack((a.sum(), b.sum())), (a & b).sum()
    else:
        sizes, shared = torch.tensor([len(a), len(b)], device=a.device), torch.isin(a, b).sum()
    largest = sizes.amax()
    if largest == 0:
        check.refuse(owner, "a", "not be empty if `b` is empty", "two empty sets")
    return shared.float() / largest.float()


def expected_matching_rate(a: Tensor, b: Tensor) -> Tensor:
    """Return the matching rate to expect between two sets that are drawn independently, (): in [0, 1].

    Scores with few values tie at the edge of a set: if 94 % of the examples were never forgotten, a draw decides which
    of them are the easiest 10 %. Breaking those ties by a second score and then comparing with it finds 1 where there
    is no agreement. Here each example counts as likely as it is in both sets, so that no draw and no second score
    matters. Without ties this is `matching_rate`.

    Args:
        a: How likely each example is to be in the first set, as from `selection_probability`, in [0, 1], shape (N,).
        b: The same for the second set, of the same examples.

    Example:
        >>> from lightning_easiness.functional import selection_probability
        >>> loss, forgotten = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 0, 0, 0])
        >>> sets = [selection_probability(each, 0.5, higher_is_easier=False) for each in (loss, forgotten)]
        >>> expected_matching_rate(*sets)
        tensor(0.5000)
    """
    owner = "expected_matching_rate"
    dtype = torch.promote_types(*(_check_probabilities(owner, name, each).dtype for name, each in (("a", a), ("b", b))))
    check.same_length(owner, "b", b, "a", a)
    a, b = a.to(check.exact_dtype(a)), b.to(check.exact_dtype(b))
    largest = torch.maximum(a.sum(), b.sum())
    if largest == 0:
        check.refuse(owner, "a", "not be empty if `b` is empty", "two empty sets")
    return ((a * b).sum() / largest).to(dtype)


def matching_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Return the matching rate of each of A sets with each of B sets, (A, B): in [0, 1], 1 means the same set.

    As in Table 1 of "Empirical Study of Easy and Hard Examples in CNN Training" (2018), where the sets are the easy
    examples of several networks. Each element is the `matching_rate` of two masks, or the `expected_matching_rate` of
    two sets of probabilities; two empty sets are an error.

    Args:
        a: Masks over all examples, bool, or how likely each example is to be in each set, in [0, 1], shape (A, N).
        b: The same, of the same examples, shape (B, N).

    Example:
        >>> sets = torch.tensor([[True, True, False, False], [False, True, True, False]])
        >>> matching_matrix(sets, sets)
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    owner = "matching_matrix"
    a, b = (_check_sets(owner, name, sets) for name, sets in (("a", a), ("b", b)))
    if a.shape[1] != b.shape[1]:
        check.refuse(owner, "b", f"hold the {a.shape[1]} examples that `a` holds", f"shape {tuple(b.shape)}")
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = a.to(check.exact_dtype(a)), b.to(check.exact_dtype(b))
    largest = torch.maximum(a.sum(1)[:, None], b.sum(1))
    if bool((largest == 0).any()):
        check.refuse(owner, "a", "not be empty where `b` is empty", "two empty sets")
    return (a @ b.T / largest).to(dtype)


def _check_sets(owner: str, name: str, sets: Tensor) -> Tensor:
    """Return masks as float32 and probabilities in the dtype for computation, (A, N)."""
    check.tensor(owner, name, sets)
    if sets.ndim != 2:
        check.refuse(owner, name, "have shape (A, N), one set in each row", f"shape {tuple(sets.shape)}")
    if sets.dtype == torch.bool:
        return sets.float()
    _check_probabilities(owner, name, sets.flatten())
    return check.widen(sets)


def _check_probabilities(owner: str, name: str, values: Tensor) -> Tensor:
    """Return probabilities (N,) in the dtype for computation; raise for a number outside [0, 1], and for NaN."""
    check.real(owner, name, values, "N")
    wrong = values[~((values >= 0) & (values <= 1))]
    if len(wrong):
        check.refuse(owner, name, "be in [0, 1]", float(wrong[0]), "take it from selection_probability()")
    return check.widen(values)


def _index_set(owner: str, name: str, examples: Tensor) -> Tensor:
    """Return a checked set: a mask unchanged, indices as int64; torch.tensor([]), a float tensor, passes."""
    check.tensor(owner, name, examples)
    if examples.ndim != 1:
        check.refuse(owner, name, "have shape (n,), indices or a mask", f"shape {tuple(examples.shape)}")
    if examples.dtype == torch.bool:
        return examples
    if not check.is_integer(examples) and examples.numel():
        way = "give indices of examples, not their values"
        check.refuse(owner, name, "hold integer indices or be a bool mask", examples.dtype, way, error=TypeError)
    examples = examples.long()
    unique, counts = torch.unique(examples, return_counts=True)
    if len(unique) < len(examples):
        got = f"example {int(unique[counts > 1][0])} more than once"
        check.refuse(owner, name, "contain each example once", got, "drop repeats with .unique()")
    return examples


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's rank correlation of two scores, (): in [-1, 1], 1 means the same order.

    Tied values get the mean of their ranks (Spearman, 1904). Examples that are NaN in either score are left out. NaN
    for fewer than two examples or a constant score; float64 if either score is.

    Args:
        a: One value per example, any real dtype, shape (N,).
        b: The same examples in the same order, shape (N,).

    Example:
        >>> rank_correlation(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 4.0, 9.0, 16.0]))
        tensor(1.)
    """
    for name, values in (("a", a), ("b", b)):
        check.real("rank_correlation", name, values, "N")
    check.same_length("rank_correlation", "b", b, "a", a)
    return _rank_correlation(a, b)


def _rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    dtype = torch.promote_types(check.widen(a).dtype, check.widen(b).dtype)
    known = ~(a.isnan() | b.isnan())
    a, b = _centred_ranks(a[known]), _centred_ranks(b[known])
    # A constant score has only zeros here, and 0 / 0 gives the NaN.
    correlation = (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()
    return correlation.clamp(-1, 1).to(dtype)


def _centred_ranks(values: Tensor) -> Tensor:
    """Return the average rank of each value, minus the mean of all ranks."""
    # Adding 0 turns -0.0 into 0.0, so that they tie.
    _, group, counts = torch.unique(values + 0, return_inverse=True, return_counts=True)
    counts = counts.to(check.exact_dtype(values))
    mean_rank: Tensor = counts.cumsum(0) - (counts - 1) / 2 - (len(values) + 1) / 2
    return mean_rank[group]


def split_half_agreement(
    values: Tensor, *, counts: Tensor | None = None, seed: int = 0, num_splits: int = 20
) -> Tensor:
    """Return the agreement of one random half of the runs with the other, (): in [-1, 1], 1 needs no more runs.

    The mean, over random splits, of Spearman's correlation between the means of the two halves. If the number of runs
    is odd, each split leaves out one random run. This measures the reliability of a score from R / 2 runs;
    `extrapolate_agreement` with a factor of 2 estimates that of all R runs.

    Args:
        values: One value per run and example, any real dtype, shape (R, N), R >= 2. An example that is NaN in a run is
            left out of the splits that include this run.
        counts: Whether a run counts for an example, bool (R, N), as where runs hold out examples: the mean of a half is
            over its runs that count, and an example for which none does is left out of the split. None: all count.
        seed: Seed of the splits.
        num_splits: Number of random splits; each distinct split is computed once.

    Example:
        >>> split_half_agreement(torch.tensor([[0.1, 0.2, 0.3], [1.0, 3.0, 2.0]]))
        tensor(0.5000)
    """
    return _mean_over_splits("split_half_agreement", values, counts, seed, num_splits, _rank_correlation)


def split_half_matching(
    values: Tensor,
    fraction: float,
    *,
    higher_is_easier: bool,
    which: str = "easy",
    counts: Tensor | None = None,
    seed: int = 0,
    num_splits: int = 20,
) -> Tensor:
    """Return the matching rate of one random half of the runs with the other, (): in [0, 1], 1 means the same set.

    What chance does not tell about a matching rate of two models: how much other seeds of the same one share. The mean,
    over random splits, of `expected_matching_rate` between the examples that are easiest, or hardest, by the means of
    the two halves. If the number of runs is odd, each split leaves out one random run. Halves are noisier than all runs
    are, so that R runs and R others would match better. NaN if no example has a value. The diagonal of
    `compare_networks` answers another question, what to expect of other networks: its groups are as large as theirs.

    Args:
        values: One value per run and example, any real dtype, shape (R, N), R >= 2. An example that is NaN in a run is
            in no set of the splits that include this run.
        fraction: In (0, 1], as a fraction of all N examples.
        higher_is_easier: Direction of `values`.
        which: "easy" or "hard".
        counts: As in `split_half_agreement`.
        seed: Seed of the splits.
        num_splits: Number of random splits; each distinct split is computed once.

    Example:
        >>> loss = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 3.0, 2.0, 4.0]])
        >>> split_half_matching(loss, fraction=0.5, higher_is_easier=False)
        tensor(0.5000)
    """

    def match(first: Tensor, second: Tensor) -> Tensor:
        a, b = (selection_probability(mean, fraction, **options) for mean in (first, second))
        return expected_matching_rate(a, b) if a.any() or b.any() else a.new_full((), torch.nan)

    owner = "split_half_matching"
    check.direction(owner, higher_is_easier)
    check.fraction(owner, fraction)
    check.choice(owner, "which", which, ("easy", "hard"))
    options: dict[str, Any] = {"higher_is_easier": higher_is_easier, "which": which}
    return _mean_over_splits(owner, values, counts, seed, num_splits, match)


def _mean_over_splits(
    owner: str,
    values: Tensor,
    counts: Tensor | None,
    seed: int,
    num_splits: int,
    compare: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Return the mean over random splits of what compares the means of two halves of the runs, ()."""
    check.real(owner, "values", values, "run")
    check.at_least(owner, "num_splits", num_splits, least=1)
    if len(values) < 2:
        check.refuse(owner, "values", "hold at least 2 runs", 1, "repeat the training with another seed")
    if counts is not None:
        check.runs(owner, "counts", counts, "values", values)
    values = check.widen(values)
    total = torch.zeros((), dtype=values.dtype, device=values.device)
    for halves, times in _draw_splits(len(values), num_splits, seed).items():
        first, second = (_mean(values, counts, list(half)) for half in halves)
        total += times * compare(first, second)
    return total / num_splits


def _mean(values: Tensor, counts: Tensor | None, runs: list[int]) -> Tensor:
    return values[runs].mean(0) if counts is None else mean_over_runs(values[runs], counts[runs])


def _draw_splits(num_runs: int, num_splits: int, seed: int) -> Counter[_Halves]:
    """Draw splits of the runs and count each distinct one, so that none is computed twice."""
    source, half = generator(seed), num_runs // 2
    splits: Counter[_Halves] = Counter()
    for _ in range(num_splits):
        runs = torch.randperm(num_runs, generator=source).tolist()
        first, second = sorted((tuple(sorted(runs[:half])), tuple(sorted(runs[half : 2 * half]))))
        splits[first, second] += 1
    return splits


def extrapolate_agreement(agreement: Tensor | float, factor: float) -> Tensor:
    """Return the agreement expected with `factor` times the runs: f r / (1 + (f - 1) r), at most 1, of any shape.

    The formula of Spearman (1910) and Brown (1910) for a test that is f times as long. It assumes that runs differ only
    in their seed, and means little for an agreement below 0.

    Args:
        agreement: Correlation between two scores from the same number of runs.
        factor: Ratio of the numbers of runs, above 0: 2 for all runs from two halves, 0.5 for half as many.

    Example:
        >>> extrapolate_agreement(0.5, factor=2)
        tensor(0.6667)
    """
    agreement = torch.as_tensor(agreement)
    check.real("extrapolate_agreement", "agreement", agreement)
    check.positive("extrapolate_agreement", "factor", factor)
    agreement = check.widen(agreement)
    lengthened: Tensor = factor * agreement / (1 + (factor - 1) * agreement)
    return lengthened
