"""How far networks agree on which examples are easy or hard: Table 1 of the 2018 easiness paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness._utils.tables import TitledTable
from lightning_easiness._utils.tables import to_pandas as table_of
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import matching_matrix
from lightning_easiness.functional._rng import generator
from lightning_easiness.record.ends import Ends, Ties, class_chance, named_end
from lightning_easiness.record.matching import check_other_runs
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

_Split = tuple[tuple[int, ...], tuple[int, ...]]  # two groups of runs, each ascending


@dataclass(frozen=True, eq=False)
class MatchingMatrix(TitledTable):
    """The matching rate of each network with each other, and on the diagonal with other runs of itself.

    `str()` of it is a table.
    """

    names: tuple[str, ...]  # of the networks, M
    rates: Tensor  # (M, M), symmetric; the mean over splits of the runs. NaN on the diagonal where it is not known
    spread: Tensor  # (M, M), the standard deviation over these splits; NaN for a single split
    which: str  # "easy" or "hard"
    fraction: float  # of the examples that is in each set
    score: str
    num_runs: int  # in each group that is compared
    num_splits: int
    class_chance: Tensor  # (M, M): the rate if examples were drawn at random, as many of each class; NaN if unknown

    @property
    def chance(self) -> float:
        """The matching rate of random sets of the same size."""
        return self.fraction

    @property
    def others(self) -> Tensor:
        """The rates of two different networks each, float (M (M - 1) / 2,)."""
        above = torch.ones_like(self.rates, dtype=torch.bool).triu(1)
        return self.rates[above]

    @override
    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each pair of networks, each with itself among them."""
        pairs = [(i, j) for i in range(len(self.names)) for j in range(i, len(self.names))]
        columns: dict[str, Any] = {
            "network": [self.names[i] for i, _ in pairs],
            "other": [self.names[j] for _, j in pairs],
            "matching_rate": [float(self.rates[pair]) for pair in pairs],
            "spread": [float(self.spread[pair]) for pair in pairs],
            "chance": [self.chance] * len(pairs),
            "class_chance": [float(self.class_chance[pair]) for pair in pairs],
        }
        return table_of(columns, index="network")

    @override
    def _columns(self) -> dict[str, list[Any]]:
        """Return the upper triangle as text, and what chance gives."""
        columns: dict[str, list[Any]] = {"": list(self.names)}
        for j, name in enumerate(self.names):
            cells = [float(self.rates[i, j]) if i <= j else torch.nan for i in range(len(self.names))]
            columns[name] = [f"{cell:.2f}" if cell == cell else "-" for cell in cells]
        return {**columns, "chance": [f"{self.chance:g}"] * len(self.names)}

    @override
    def _title(self) -> str:
        groups = "all runs" if self.num_splits == 0 else f"groups of {self.num_runs} runs, {self.num_splits} splits"
        return f"Matching rate of the {named_end(self.which, self.fraction)} by {self.score} ({groups})"


def compare_networks(
    records: Mapping[str, EasinessRecord | Scores],
    score: str = "count",
    *,
    fraction: float = 0.1,
    which: Literal["easy", "hard"] = "easy",
    checkpoint: int = -1,
    ties: Ties = "broken",
    num_splits: int = 20,
    seed: int = 0,
) -> MatchingMatrix:
    """Measure how far networks agree on which examples are easy or hard, as Table 1 of the 2018 easiness paper.

    Every element compares groups of equally many runs, half of the runs of the record that has the fewest: a network
    with another, and on the diagonal a network with other runs of itself, which is the most that a network can be
    expected to agree with others. Elements are means over random splits into groups. Runs at the same place, which may
    share a seed, are never compared, unless a record has a single run: then records are compared as a whole, and the
    diagonal is NaN. Networks also share examples because the same classes are easy for both: `class_chance` says how
    many. `functional.split_half_matching` answers another question, how well the halves of one network's runs match:
    their size does not depend on other networks, and ties are shared.

    Args:
        records: name -> the record of a network. Or its Scores, which are compared as they are; then there are no other
            runs, and the diagonal is NaN, as it is where a record has a single run.
        score: Name of the score, unless Scores are given.
        fraction: Of the examples in each set.
        which: "easy" or "hard".
        checkpoint: Index of the record's checkpoint, negative from the end.
        ties: "broken" takes the sets of `Scores.easiest` and `hardest`, where the mean loss decides among examples
            that were classified equally often. "shared" takes the expected rate if a fair draw does: then nothing but
            the score counts, and a score of few values agrees less, even with itself.
        num_splits: Number of random splits of the runs; each distinct one counts once.
        seed: Seed of the splits.

    Raises:
        TypeError: If records and Scores are mixed.
        ValueError: If there are fewer than two networks, they were observed on different data, two records hold the
            same run, a score cannot be computed, or an argument is out of its range.

    Example:
        >>> loss = torch.arange(8.0)
        >>> named = {"a": loss, "b": loss.roll(1), "c": loss.roll(2)}
        >>> scores = {name: Scores(values, higher_is_easier=False) for name, values in named.items()}
        >>> print(compare_networks(scores, fraction=0.25))
        Matching rate of the easiest 25 % by score (all runs)
           a     b     c  chance
        a  -  0.50  0.00    0.25
        b  -     -  0.50    0.25
        c  -     -     -    0.25
    """
    sets = Ends(which, fraction, ties)
    sets.check("compare_networks")
    check.at_least("compare_networks", "num_splits", num_splits, least=1)
    _check_networks(records)
    held = [each for each in records.values() if isinstance(each, EasinessRecord)]
    size = min((record.num_runs // 2 for record in held), default=0)
    if size == 0:  # no other runs to compare with
        given = [each if isinstance(each, Scores) else each.score(score, checkpoint) for each in records.values()]
        score, num_runs, compared = given[0].name, min(each.num_runs for each in given), sets.sets(given)
        found = _compared(compared, compared, given[0].target)[None]
        found[:, :, range(len(given)), range(len(given))] = torch.nan
    else:
        num_runs, splits = size, _splits([record.num_runs for record in held], size, num_splits, seed)
        found = torch.stack([_of_split(held, split, score, checkpoint, sets) for split in splits])
    rates, by_class = found.mean(0)
    spread = found[:, 0].std(0) if len(found) > 1 else torch.full_like(rates, torch.nan)
    num_compared = len(found) if size else 0
    names = tuple(records)
    return MatchingMatrix(names, rates, spread, which, fraction, score, num_runs, num_compared, by_class)


def _check_networks(records: Mapping[str, EasinessRecord | Scores]) -> None:
    """Raise unless there are two networks or more, all records or all scores, of the same data."""
    wrong = next((each for each in records.values() if not isinstance(each, (EasinessRecord, Scores))), None)
    if wrong is not None or len({type(each) for each in records.values()}) > 1:
        got = "both" if wrong is None else type(wrong).__name__
        raise TypeError(
            f"The `records` of compare_networks must be EasinessRecords, or all Scores, by name; got {got}."
        )
    if len(records) < 2:
        raise ValueError(f"The `records` of compare_networks must be of two networks or more; got {len(records)}.")
    (first, one), *others = records.items()
    for name, other in others:
        way_out = "compare networks that were observed on the same examples, in the same order."
        one.identity.check_same(other.identity, f"Network {first!r}", f"network {name!r}", way_out)
    for (here, record), (there, other) in combinations(records.items(), 2):
        if isinstance(record, EasinessRecord) and isinstance(other, EasinessRecord):
            check_other_runs(record, other, f"Network {here!r}", f"network {there!r}")


def _splits(numbers: Sequence[int], size: int, num_splits: int, seed: int) -> list[tuple[_Split, ...]]:
    """Return distinct random splits: for each network two disjoint groups of its runs.

    Each place is on one side for all networks, so that the first group of one and the second group of another have no
    place in common.
    """
    found: dict[tuple[_Split, ...], None] = {}
    for number in range(num_splits):
        sides = _sides(min(numbers), max(numbers), size, seed, number)
        orders = {count: torch.randperm(count, generator=generator(seed, number, count)).tolist() for count in numbers}
        halves = [_on_sides(orders[count], sides, size) for count in numbers]
        swaps = sorted(halves[0][0]) > sorted(halves[0][1])  # the same split with the groups swapped
        found[tuple(_ascending(half, swaps) for half in halves)] = None
    return list(found)


def _sides(smallest: int, largest: int, size: int, seed: int, number: int) -> tuple[list[int], list[int]]:
    """Return `size` places of the smallest record on each side, and half of the places that only others have."""
    order = torch.randperm(smallest, generator=generator(seed, number, smallest)).tolist()
    spare = torch.randperm(largest - smallest, generator=generator(seed, number, smallest, largest)) + smallest
    first, second = spare.tensor_split(2)
    return order[:size] + first.tolist(), order[size : 2 * size] + second.tolist()


def _on_sides(order: list[int], sides: tuple[list[int], list[int]], size: int) -> tuple[list[int], list[int]]:
    """Return the first `size` places of an order on each side."""
    first, second = ([place for place in order if place in side][:size] for side in sides)
    return first, second


def _ascending(groups: tuple[list[int], list[int]], swaps: bool) -> _Split:
    first, second = (tuple(sorted(group)) for group in groups)
    return (second, first) if swaps else (first, second)


def _of_split(
    records: Sequence[EasinessRecord], split: tuple[_Split, ...], score: str, checkpoint: int, sets: Ends
) -> Tensor:
    """Return what `_compared` returns of first groups with second groups; both ways for two networks."""
    first, second = (
        sets.sets(
            [
                record.select_runs(groups[side]).score(score, checkpoint)
                for record, groups in zip(records, split, strict=True)
            ]
        )
        for side in (0, 1)
    )
    found = _compared(first, second, records[0].target)
    return (found + found.transpose(1, 2)) / 2


def _compared(a: Tensor, b: Tensor, target: Tensor) -> Tensor:
    """Return the rates of the sets of M networks with each other, and those by class alone, (2, M, M)."""
    rates = matching_matrix(a, b)
    return torch.stack([rates, class_chance(a, b, target).to(rates)])
