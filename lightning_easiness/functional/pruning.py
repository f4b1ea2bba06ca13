"""Which examples stay when a share of them is taken away by easiness, and labels that are replaced.

For the first one function, `ablate`, and one rule for each `sampling`:

- "proportional", of the 2019 paper, draws by difficulty;
- "beta", of the 2018 paper, draws by rank;
- "top" cuts one end off;
- "stratified" covers every level of difficulty alike;
- "window" cuts both ends off.

`remove="random"` is the uniform baseline of equal size for all of them. What is drawn is drawn on the CPU, from
generators of its own, so that every device and every rank gets the same examples.
"""

from dataclasses import replace

import torch
from torch import Tensor

from lightning_easiness.functional._checks import (
    check_at_least,
    check_per_example,
    check_real,
    check_same_length,
    check_tensor,
    is_integer,
    widen,
)
from lightning_easiness.functional.selection_rules import (
    RULES,
    Pool,
    in_each_class,
    separate_generator,
    share,
    uniform,
)

_REMOVES = ("easy", "hard", "random")
_NOISES = ("uniform", "next_class")


def ablate(
    values: Tensor,
    ratio: float,
    remove: str = "easy",
    sampling: str = "proportional",
    *,
    higher_is_easier: bool,
    seed: int = 0,
    target: Tensor | None = None,
    class_balanced: bool = False,
    tie_breaker: Tensor | None = None,
    hardest_dropped: float = 0.0,
    num_strata: int = 50,
) -> Tensor:
    """Indices of the examples that are KEPT when a share of them is removed by easiness.

    With `remove="random"`, what goes is drawn uniformly, whatever `sampling` says: the baseline of equal size. Else:

    - "proportional": drawn without replacement with probability proportional to difficulty. To remove "hard", what goes
      is drawn so; to remove "easy", what STAYS is drawn so. Difficulty is the value itself where low is easy (a loss),
      and the largest value less the value where high is easy: for count easiness, 1 - easiness. Only ratios matter, so
      nothing is normalised. Examples of no difficulty come after all others, in uniformly random order. Section 3.5 of
      "Empirical Study of Easy and Hard Examples in CNN Training" (2019).
    - "beta": what goes is drawn without replacement by the density of a beta distribution at the rank quantile
      q = (rank + 1/2) / N, near 0 for the hardest and near 1 for the easiest: Beta(3, 1), which is 3 q^2, to remove
      "easy", and Beta(1, 3), which is 3 (1 - q)^2, to remove "hard". Section 7 of the first version of that paper
      (2018).
    - "top": exactly the easiest or hardest go, those of `easiest` and `hardest` with the same seed.
    - "stratified": coverage-centric selection. The share `hardest_dropped` of the hardest goes first; what is left is
      cut into `num_strata` ranges of equal width in `values`, and each keeps equally many, drawn uniformly; a range
      with too few keeps all and leaves the rest to larger ones. "Coverage-centric Coreset Selection for High Pruning
      Rates" (Zheng et al., 2023). It takes from both ends: "easy" and "hard" are the same.
    - "window": the share `hardest_dropped` of the hardest goes, and then as many of the easiest as it takes, so that
      one window of difficulty is left. Double-end pruning in "ELFS: Label-Free Coreset Selection with Proxy Training
      Dynamics" (Zheng et al., 2025), best at high ratios. "easy" and "hard" are the same.

    With one seed, a larger ratio keeps a subset, except by "stratified" and with `class_balanced`. "proportional" and
    "random" take time linear in N; the others sort.

    Args:
        values: One value an example, any real dtype, shape (N,), not NaN.
        ratio: Share that is removed, in [0, 1). As a count it is rounded half up, on the decimal number as it is
            written; at least one example stays.
        remove: "easy", "hard" or "random".
        sampling: "proportional", "beta", "top", "stratified" or "window".
        higher_is_easier: Direction of `values`.
        seed: Seed of the draw and of the order among ties; the global random stream is not touched.
        target: Class of each example, integers, shape (N,); for `class_balanced`.
        class_balanced: Whether to remove the same share of each class, each by the rule on its own, up to less than one
            example (largest remainder; a draw among equal ones). A class so small that less than one example would
            stay can be lost. "Class-Proportional Coreset Selection for Difficulty-Separable Data" (Tsai et al., 2025).
        tie_breaker: One number an example, LOW is easy, NaN last, shape (N,); orders equal `values` where rank matters.
        hardest_dropped: Share of all examples, in [0, ratio]; for "stratified" and "window".
        num_strata: Number of ranges; for "stratified". The paper takes 50.

    Returns:
        Shape (n,), int64, ASCENDING, on the device of `values`. The same on every device.

    Raises:
        TypeError: If a tensor is of the wrong kind, or `higher_is_easier` is no bool.
        ValueError: If a number is outside its range, a name unknown or a shape wrong; if `values` hold NaN, or are
            infinite, negative or all of no difficulty where that gives no weights; if `class_balanced` lacks a target.

    Example:
        >>> import torch
        >>> loss = torch.tensor([0.1, 2.0, 0.3, 0.2, 4.0])
        >>> ablate(loss, 0.4, remove="easy", sampling="top", higher_is_easier=False)
        tensor([1, 2, 4])
        >>> ablate(loss, 0.4, remove="easy", sampling="window", higher_is_easier=False, hardest_dropped=0.2)
        tensor([1, 2, 3])
        >>> len(ablate(loss, 0.4, remove="easy", sampling="proportional", higher_is_easier=False, seed=1))
        3
    """
    _check_choices(ratio, remove, sampling, higher_is_easier)
    _check_strata(sampling, remove, ratio, hardest_dropped, num_strata)
    pool = Pool(
        values=_numbers("values", values),
        higher_is_easier=higher_is_easier,
        removes_easy=remove == "easy",
        seed=seed,
        tie_breaker=None if tie_breaker is None else _numbers("tie_breaker", tie_breaker, values),
        hardest_dropped=hardest_dropped,
        num_strata=num_strata,
    )
    classes = _check_classes(target, class_balanced, values)
    _check_not_nan(pool.values)
    num_removed = share(ratio, len(pool))
    if not num_removed:
        return torch.arange(len(pool), device=values.device)
    rule = uniform if remove == "random" else RULES[sampling]
    if remove != "random":
        pool = _prepare(pool, sampling)
    num_kept = max(1, len(pool) - num_removed)
    kept = rule(pool, num_kept) if classes is None else in_each_class(rule, pool, classes, num_kept)
    return kept.to(values.device)


def relabel(target: Tensor, indices: Tensor, noise: str, num_classes: int, seed: int = 0) -> Tensor:
    """Labels with those of some examples replaced by wrong ones; the others stay.

    - "uniform": a label drawn uniformly from all classes, so that one in K keeps its label by chance. With the examples
      that `ablate` removes, the corrupted labels of section 7 of "Empirical Study of Easy and Hard Examples in CNN
      Training" (2018).
    - "next_class": the next class, and class 0 after the last: never the old label, with two classes or more.

    Args:
        target: Class of each example, integers in [0, K), shape (N,); left as it is.
        indices: Examples to relabel, each once, in any order, which does not matter, integers, shape (n,).
        noise: "uniform" or "next_class".
        num_classes: K.
        seed: Seed of the draw; the global random stream is not touched.

    Returns:
        Shape (N,), int64, on the device of `target`. The same on every device.

    Raises:
        TypeError: If `target` or `indices` is no integer tensor.
        ValueError: If a shape is wrong, `noise` is unknown, `num_classes` is below 1, a label is outside [0, K), or an
            index is outside [0, N) or comes twice.

    Example:
        >>> import torch
        >>> relabel(torch.tensor([0, 1, 2, 2]), torch.tensor([3, 1]), noise="next_class", num_classes=3)
        tensor([0, 2, 2, 0])
    """
    _check_choice("relabel", "noise", noise, _NOISES)
    check_at_least("relabel", "num_classes", num_classes, least=1)
    _check_integers("relabel", "target", target)
    _check_labels(target, num_classes)
    chosen = _distinct(indices, len(target)).to(target.device)
    relabelled = target.detach().to(torch.int64, copy=True)
    if noise == "next_class":
        relabelled[chosen] = (relabelled[chosen] + 1) % num_classes
    else:
        # numbers of its own, as the same seed may have chosen the examples
        drawn = torch.randint(num_classes, (len(chosen),), generator=separate_generator(seed, 1))
        relabelled[chosen] = drawn.to(target.device)
    return relabelled


def _check_integers(owner: str, name: str, tensor: Tensor) -> None:
    check_tensor(owner, name, tensor)
    check_per_example(owner, name, tensor)
    # An empty list becomes an empty float tensor; there is nothing to misread in it.
    if not is_integer(tensor) and tensor.numel():
        way = "take the indices of a mask with .nonzero()[:, 0]" if tensor.dtype == torch.bool else "use .long()"
        raise TypeError(f"The `{name}` of {owner} must hold integers; got {tensor.dtype}: {way}.")


def _check_labels(target: Tensor, num_classes: int) -> None:
    outside = (target < 0) | (target >= num_classes)
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"The `target` of relabel must be in [0, {num_classes}), the classes; got {int(target[first])} at index "
            f"{first}: raise `num_classes`, or leave out examples without a label."
        )


def _distinct(indices: Tensor, n: int) -> Tensor:
    """Return the indices ascending, so that equal sets get equal labels; raise unless each is in [0, n) and once."""
    _check_integers("relabel", "indices", indices)
    ordered = indices.long().sort().values
    outside = ordered[(ordered < 0) | (ordered >= n)]
    if len(outside):
        raise ValueError(
            f"The `indices` of relabel must be in [0, {n}), the examples of `target`; got {int(outside[0])}: give "
            "indices into the whole data set."
        )
    twice = ordered[1:][ordered.diff() == 0]
    if len(twice):
        raise ValueError(
            f"The `indices` of relabel must name each example once; got example {int(twice[0])} more than once: drop "
            "repeats with .unique()."
        )
    return ordered


def _numbers(name: str, tensor: Tensor, values: Tensor | None = None) -> Tensor:
    check_real("ablate", name, tensor)
    if values is None:
        check_per_example("ablate", name, tensor)
    else:
        check_same_length("ablate", name, tensor, "values", values)
    tensor = tensor.detach().cpu()
    return widen(tensor) if tensor.is_floating_point() else tensor.to(torch.float64)


def _check_choices(ratio: float, remove: str, sampling: str, higher_is_easier: bool) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(
            f"The `ratio` of ablate must be in [0, 1); got {ratio}: it is the share to remove, 30 % is 0.3."
        )
    for name, choice, choices in (("remove", remove, _REMOVES), ("sampling", sampling, tuple(RULES))):
        _check_choice("ablate", name, choice, choices)
    if not isinstance(higher_is_easier, bool):
        raise TypeError(f"The `higher_is_easier` of ablate must be True or False; got {higher_is_easier!r}.")


def _check_choice(owner: str, name: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        listed = ", ".join(map(repr, choices[:-1]))
        raise ValueError(f"The `{name}` of {owner} must be {listed} or {choices[-1]!r}; got {choice!r}.")


def _check_strata(sampling: str, remove: str, ratio: float, hardest_dropped: float, num_strata: int) -> None:
    check_at_least("ablate", "num_strata", num_strata, least=1)
    if not 0 <= hardest_dropped <= ratio:
        raise ValueError(
            f"The `hardest_dropped` of ablate must be in [0, ratio], [0, {ratio}]; got {hardest_dropped}: it is a part "
            "of what is removed, as a share of all examples."
        )
    if hardest_dropped and sampling not in ("stratified", "window") and remove != "random":
        raise ValueError(
            f"The `hardest_dropped` of ablate must be 0 for sampling={sampling!r}; got {hardest_dropped}: it is for "
            "'stratified' and 'window'."
        )


def _check_classes(target: Tensor | None, class_balanced: bool, values: Tensor) -> Tensor | None:
    if target is not None:
        _check_integers("ablate", "target", target)
        check_same_length("ablate", "target", target, "values", values)
    if not class_balanced:
        return None
    if target is None:
        raise ValueError(
            "The `target` of ablate must be given with class_balanced=True; got None: give the class of each example, "
            "integers of shape (N,)."
        )
    unknown = int((target < 0).sum())
    if unknown:
        raise ValueError(
            f"The `target` of ablate must be at least 0; got {unknown} of {len(target)} below 0, which are unknown "
            "labels: set class_balanced=False, or leave those examples out."
        )
    return target.detach().cpu().long()


def _check_not_nan(values: Tensor) -> None:
    if not len(values) or not values.amax().isnan():
        return
    unknown = values.isnan()
    raise ValueError(
        f"The `values` of ablate must not be NaN; got {int(unknown.sum())} NaN of {len(values)}, the first at index "
        f"{int(unknown.nonzero()[0])}: choose among `known = (~values.isnan()).nonzero()[:, 0]`, that is "
        "`known[ablate(values[known], ...)]`."
    )


def _prepare(pool: Pool, sampling: str) -> Pool:
    """Check that the values suit the rule, and add the difficulty where it is drawn by."""
    if sampling not in ("proportional", "stratified"):
        return pool
    low, high = pool.values.aminmax()
    if low == -torch.inf or high == torch.inf:
        raise ValueError(
            f"The `values` of ablate must be finite for sampling={sampling!r}; got "
            f"{int(pool.values.isinf().sum())} infinite of {len(pool)}, the first at index "
            f"{int(pool.values.isinf().nonzero()[0])}: take sampling='beta' or 'top', which need their order alone."
        )
    if sampling == "stratified":
        return pool
    if low < 0 and not pool.higher_is_easier:
        raise ValueError(
            f"The `values` of ablate must be at least 0 for sampling='proportional' where low is easy; got "
            f"{low.item()} at index {int(pool.values.argmin())}: if it is a margin, set higher_is_easier=True, "
            "and else take sampling='beta', which needs their order alone."
        )
    difficulty = high - pool.values if pool.higher_is_easier else pool.values
    if not difficulty.any():
        raise ValueError(
            f"The `values` of ablate must give some example a difficulty above 0 for sampling='proportional'; got "
            f"{low.item()} for each of {len(pool)}: remove='random' is what is left to do."
        )
    return replace(pool, difficulty=difficulty)
