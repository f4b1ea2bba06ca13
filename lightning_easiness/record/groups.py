"""Which runs of a folder are averaged: those of one recipe and one data set, the largest such group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.layout import RUN_FILE
from lightning_easiness.record.recipes import between, differences
from lightning_easiness.record.series import RecordedSeries, recorded_differently


def largest_group(runs: Sequence[RecordedSeries]) -> tuple[list[RecordedSeries], list[str]]:
    """Return the runs of the largest group, in their order, and a sentence for each other group.

    A group's size is its number of complete runs, or of runs where none is complete; of groups of equal size, it is the
    one with the latest run. A run without a recipe belongs to the largest group of its data.
    """
    groups: list[_Group] = []
    for run in sorted(runs, key=lambda run: not run.info.recipe):  # those without a recipe at the end
        fitting = [group for group in groups if group.takes(run)]
        if fitting:
            max(fitting, key=lambda group: len(group.runs)).add(run)
        else:
            groups.append(_Group([run], run.identity))
    any_complete = any(run.info.complete for run in runs)
    kept = max(groups, key=lambda group: group.rank(any_complete))
    left_out = [_left_out(group.runs, kept.runs) for group in groups if group is not kept]
    return [run for run in runs if any(run is one for one in kept.runs)], left_out


def recipe_remarks(runs: Sequence[RecordedSeries]) -> Iterator[str]:
    """Yield a sentence where runs that are averaged have different recipes, and where some have none."""
    known = [run for run in runs if run.info.recipe]
    unknown = [run for run in runs if not run.info.recipe]
    if known and unknown:
        yield (
            f"{_named(unknown)} of an earlier version {_has(unknown)} no recipe: {_is(unknown)} taken to be of that of"
            f" the others, as run '{known[0].name}'."
        )
    for one, other in combinations(known, 2):
        found = _of_recipes(one, other)
        if found is not None:
            yield (
                f"Run '{other.name}' and run '{one.name}' {found}: they are in one record only because both were asked"
                " for by name."
            )
            return  # the first pair says enough


@dataclass
class _Group:
    """Runs that may be averaged, and their data set with all that is known of its targets."""

    runs: list[RecordedSeries]
    identity: DataIdentity

    def takes(self, run: RecordedSeries) -> bool:
        return self.identity.is_same(run.identity) and _difference(self.runs[0], run) is None

    def add(self, run: RecordedSeries) -> None:
        self.runs.append(run)
        self.identity = self.identity.merged(run.identity)

    def rank(self, any_complete: bool) -> tuple[int, float]:
        size = sum(run.info.complete for run in self.runs) if any_complete else len(self.runs)
        return size, max((run.info.path / RUN_FILE).stat().st_mtime for run in self.runs)


def _difference(one: RecordedSeries, other: RecordedSeries) -> str | None:
    """Return why two runs must not be averaged, a sentence without its subject; None if they may be."""
    problem = other.identity.difference(one.identity)
    if problem is not None:
        return f"are not of the same data: {problem}"
    recorded = recorded_differently(other, one)
    if recorded is not None:
        return recorded
    if one.holds_out != other.holds_out:
        return "are not of one kind: only one of them held out a part of the examples"
    return _of_recipes(one, other)


def _of_recipes(one: RecordedSeries, other: RecordedSeries) -> str | None:
    if not one.info.recipe or not other.info.recipe:
        return None
    found = differences(other.info.recipe, one.info.recipe, (other.info.seed, one.info.seed))
    return f"are of different recipes ({between(found)})" if found else None


def _left_out(group: Sequence[RecordedSeries], kept: Sequence[RecordedSeries]) -> str:
    names = [run.name for run in group]
    found = (((one, other), _difference(other, one)) for one in group for other in kept)
    (one, other), why = next((pair, why) for pair, why in found if why is not None)
    way_out = f"to load {'it' if len(group) == 1 else 'them'} instead, runs={names!r}"
    return f"{_named(group)}, as run '{one.name}' and run '{other.name}' {why}: {way_out}."


def _named(runs: Sequence[RecordedSeries]) -> str:
    return f"Run{'s' * (len(runs) > 1)} {', '.join(repr(run.name) for run in runs)}"


def _has(runs: Sequence[RecordedSeries]) -> str:
    return "has" if len(runs) == 1 else "have"


def _is(runs: Sequence[RecordedSeries]) -> str:
    return "it is" if len(runs) == 1 else "they are"
