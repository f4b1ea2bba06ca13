"""Slow references for selection: exact laws by enumeration, in plain Python with exact fractions.

A law says with what probability each set of examples comes out. Draws without replacement are enumerated one ordered
draw after the other, as the papers speak of them; ties are resolved in each possible way, all equally likely. Nothing
here imports torch or the package.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import scipy.stats

from tests.functional.references import tied_groups

Law = dict[frozenset[int], Fraction]
LEAST_P = 1e-4  # the seeds are fixed, so a test passes always or never


def assert_law(draw: Callable[[int], Iterable[int]], law: Law, seeds: int = 800) -> None:
    """The sets that `draw(seed)` gives over many seeds come as often as the law says, by a chi-square test."""
    counts = Counter(frozenset(draw(seed)) for seed in range(seeds))
    assert counts.keys() <= law.keys(), "a set came that has no probability"
    common = [chosen for chosen, probability in law.items() if seeds * probability >= 5]
    common.sort(key=lambda chosen: law[chosen])
    observed = [counts[chosen] for chosen in common]
    expected = [float(seeds * law[chosen]) for chosen in common]
    observed[0] += seeds - sum(observed)  # what is rare is counted with the least of the common
    expected[0] += seeds - sum(expected)
    if len(common) > 1:
        assert scipy.stats.chisquare(observed, expected).pvalue > LEAST_P


# how many


def removed_count(ratio: float, n: int) -> int:
    """Half up on the decimal as it is written; something always stays."""
    return min(math.floor(Fraction(repr(float(ratio))) * n + Fraction(1, 2)), max(n - 1, 0))


def shares(count: int, sizes: Sequence[int]) -> tuple[list[int], list[int], int]:
    """`count` in proportion to `sizes` by the largest remainder.

    Returns:
        What each gets for certain, the places that are level for what is left over, and how much that is.
    """
    quotas = [Fraction(count * size, sum(sizes)) for size in sizes]
    certain = [math.floor(quota) for quota in quotas]
    left = count - sum(certain)
    for remainder in sorted({quota - math.floor(quota) for quota in quotas}, reverse=True):
        level = [place for place, quota in enumerate(quotas) if quota - math.floor(quota) == remainder]
        if left <= len(level):
            return certain, level, left
        for place in level:
            certain[place] += 1
        left -= len(level)
    raise AssertionError("remainders sum to less than the number of places")


# laws


def draw_law(weights: Sequence[Fraction | float], count: int) -> Law:
    """`count` draws one after the other, each in proportion to the weights of what is still there."""
    weights = [Fraction(weight) for weight in weights]
    law: dict[frozenset[int], Fraction] = defaultdict(Fraction)
    for drawn in itertools.permutations(range(len(weights)), count):
        probability, left = Fraction(1), sum(weights, Fraction(0))
        for example in drawn:
            if not weights[example]:
                probability = Fraction(0)
                break
            probability *= weights[example] / left
            left -= weights[example]
        law[frozenset(drawn)] += probability
    return {chosen: probability for chosen, probability in law.items() if probability}


def uniform_law(examples: Iterable[int], count: int) -> Law:
    sets = [frozenset(chosen) for chosen in itertools.combinations(sorted(examples), count)]
    return {chosen: Fraction(1, len(sets)) for chosen in sets}


def rename(law: Law, names: Sequence[int]) -> Law:
    return {frozenset(names[place] for place in chosen): probability for chosen, probability in law.items()}


def complement(law: Law, n: int) -> Law:
    return {frozenset(range(n)) - chosen: probability for chosen, probability in law.items()}


def mixture(laws: Iterable[Law]) -> Law:
    """Each law as likely as the others."""
    laws = list(laws)
    mixed: dict[frozenset[int], Fraction] = defaultdict(Fraction)
    for law in laws:
        for chosen, probability in law.items():
            mixed[chosen] += probability / len(laws)
    return dict(mixed)


def independent(laws: Iterable[Law]) -> Law:
    """The union of independent draws from disjoint parts."""
    joint: Law = {frozenset(): Fraction(1)}
    for law in laws:
        joint = {
            chosen | other: probability * other_probability
            for chosen, probability in joint.items()
            for other, other_probability in law.items()
        }
    return joint


def inclusion(law: Law, n: int) -> list[Fraction]:
    return [sum((p for chosen, p in law.items() if example in chosen), Fraction(0)) for example in range(n)]


# ablation


def orders(
    values: Sequence[float], higher_is_easier: bool, tie_breaker: Sequence[float] | None = None
) -> Iterator[tuple[int, ...]]:
    """Every equally likely order, easiest first."""
    groups = tied_groups(values, higher_is_easier, tie_breaker)
    for parts in itertools.product(*(itertools.permutations(sorted(group)) for group in groups)):
        yield tuple(itertools.chain.from_iterable(parts))


def difficulty(values: Sequence[float], higher_is_easier: bool) -> list[Fraction]:
    """The loss as it is; a score that is high for easy examples counts down from the highest."""
    exact = [Fraction(value) for value in values]
    return [max(exact) - value for value in exact] if higher_is_easier else exact


def proportional_law(values: Sequence[float], removed: int, remove: str, higher_is_easier: bool) -> Law:
    """What goes (2019, section 3.5): "hard" draws it by difficulty, "easy" draws by difficulty what stays."""
    n, weights = len(values), difficulty(values, higher_is_easier)
    if remove == "random":
        return uniform_law(range(n), removed)
    return draw_law(weights, removed) if remove == "hard" else complement(draw_law(weights, n - removed), n)


def beta_weights(n: int, remove: str) -> list[Fraction]:
    """Weights from the easiest to the hardest (2018, section 7): the density at the middle of each rank's 1/n.

    Beta(3, 1) has the density 3 q^2, Beta(1, 3) has 3 (1 - q)^2, Beta(1, 1) has 1; q runs to 1 at the easiest.
    """
    quantiles = [Fraction(2 * (n - rank) - 1, 2 * n) for rank in range(n)]
    density = {"easy": lambda q: 3 * q**2, "hard": lambda q: 3 * (1 - q) ** 2, "random": lambda q: Fraction(1)}[remove]
    return [density(quantile) for quantile in quantiles]


def beta_law(order: Sequence[int], removed: int, remove: str) -> Law:
    return rename(draw_law(beta_weights(len(order), remove), removed), order)


def top_law(order: Sequence[int], removed: int, remove: str) -> Law:
    if remove == "random":
        return uniform_law(order, removed)
    gone = order[:removed] if remove == "easy" else order[len(order) - removed :]
    return {frozenset(gone): Fraction(1)}


# coverage


def strata(values: Sequence[float], examples: Iterable[int], num_strata: int) -> list[set[int]]:
    """Equal widths between the lowest and the highest value; an edge belongs to the stratum above it."""
    exact = {example: Fraction(values[example]) for example in examples}
    low, high = min(exact.values()), max(exact.values())
    found: list[set[int]] = [set() for _ in range(num_strata)]
    for example, value in exact.items():
        place = math.floor((value - low) * num_strata / (high - low)) if high > low else 0
        found[min(place, num_strata - 1)].add(example)
    return found


def coverage_budgets(sizes: Sequence[int], budget: int) -> list[int]:
    """Algorithm 1 of Zheng et al. (2023): the smallest stratum first, what it leaves goes to the others."""
    budgets, waiting = [0] * len(sizes), list(range(len(sizes)))
    while waiting:
        smallest = min(waiting, key=lambda place: sizes[place])
        budgets[smallest] = min(sizes[smallest], budget // len(waiting))
        budget -= budgets[smallest]
        waiting.remove(smallest)
    return budgets
