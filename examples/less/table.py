"""From trainings to the table: each way at each budget beside classic training of equal work and beside its twin."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from less.ways import CLASSIC, Way

Result = Mapping[str, Any]  # what `runs.train` returned
Runs = Mapping[tuple[str, int], Sequence[Result]]  # way and epochs -> one result a seed
Row = dict[str, Any]


class Mean(NamedTuple):
    """A mean over seeds and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float], deviation: float) -> Mean:
        """Return the mean of some values, whose standard deviation is known."""
        return cls(statistics.fmean(values), deviation / len(values) ** 0.5)

    def minus(self, other: Mean) -> Mean:
        """Return the difference of two independent means."""
        return Mean(self.value - other.value, math.hypot(self.error, other.error))


def deviation_of(runs: Mapping[Any, Sequence[Result]], what: str = "accuracy", way: str | None = None) -> float:
    """Return the standard deviation over seeds, pooled over the budgets of a way, or of all if it has no two seeds.

    Two or three seeds of one cell say little about it: by chance they may be as good as equal. NaN if nothing has two.
    """
    samples = [[run[what] for run in found] for key, found in runs.items() if len(found) > 1 and way in (None, key[0])]
    if way is not None and not samples:
        return deviation_of(runs, what)
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(statistics.variance(sample) * (len(sample) - 1) for sample in samples)
    return (squares / freedom) ** 0.5 if freedom else math.nan


@dataclass(frozen=True)
class Curve:
    """Accuracy over work of classic training; between its budgets it is linear in the logarithm of the work."""

    work: Sequence[float]  # ascending
    accuracy: Sequence[Mean]

    @classmethod
    def of(cls, runs: Runs, seeds: int | None = None) -> Curve:
        """Return the curve of the classic trainings, or of the first seeds of them, to be beside others of these."""
        deviation = deviation_of(runs, way=CLASSIC)
        points = sorted(
            (
                statistics.fmean(run["work"] for run in found[:seeds]),
                Mean.of([run["accuracy"] for run in found[:seeds]], deviation),
            )
            for (way, _), found in runs.items()
            if way == CLASSIC
        )
        return cls([work for work, _ in points], [mean for _, mean in points])

    def at(self, work: float) -> Mean:
        """Return the accuracy at some work, NaN where no budget is as small or as large.

        Example:
            >>> curve = Curve([2.0, 8.0], [Mean(80.0, 0.3), Mean(84.0, 0.4)])
            >>> curve.at(4.0)
            Mean(value=82.0, error=0.25)
        """
        for place in range(len(self.work) - 1):
            low, high = self.work[place], self.work[place + 1]
            if low <= work <= high:
                part = math.log(work / low) / math.log(high / low)
                one, two = self.accuracy[place], self.accuracy[place + 1]
                error = math.hypot((1 - part) * one.error, part * two.error)
                return Mean((1 - part) * one.value + part * two.value, error)
        return Mean(math.nan, math.nan)

    def needed(self, accuracy: float) -> float:
        """Return the least work for an accuracy: of the smallest budget where that is better, of the best if none is.

        Example:
            >>> curve = Curve([2.0, 8.0], [Mean(80.0, 0.3), Mean(84.0, 0.4)])
            >>> [round(curve.needed(accuracy), 3) for accuracy in (79.0, 82.0, 85.0)]
            [2.0, 4.0, 8.0]
        """
        if accuracy <= self.accuracy[0].value:
            return self.work[0]
        for place in range(len(self.work) - 1):
            one, two = self.accuracy[place].value, self.accuracy[place + 1].value
            if one < accuracy <= two:
                low, high = self.work[place], self.work[place + 1]
                return low * (high / low) ** ((accuracy - one) / (two - one))
        return self.work[max(range(len(self.work)), key=lambda place: self.accuracy[place].value)]

    def saving(self, work: float, accuracy: float) -> float:
        """Return which part of classic training's work for an accuracy is saved; a lower bound beyond its best."""
        return 1 - work / self.needed(accuracy)


def accuracy_of(found: Sequence[Result], runs: Mapping[Any, Sequence[Result]], way: str | None = None) -> Mean:
    """Return the accuracy of some of the trainings, of one way."""
    return Mean.of([run["accuracy"] for run in found], deviation_of(runs, way=way))


def rows_of(data: str, labels: str, runs: Runs, ways: Mapping[str, Way]) -> list[Row]:
    """Return a row for each way and budget; classic training first, and each way beside its twin."""
    rows = [_row(data, labels, key, found, runs, ways) for key, found in runs.items()]
    order = list(ways)
    return sorted(rows, key=lambda row: (order.index(row["way"]), row["epochs"]))


def _row(
    data: str,
    labels: str,
    key: tuple[str, int],
    found: Sequence[Result],
    runs: Runs,
    ways: Mapping[str, Way],
) -> Row:
    (name, epochs), twin, curve = key, ways[key[0]].twin, Curve.of(runs, len(found))
    mean = {
        what: Mean.of([run[what] for run in found], deviation_of(runs, what, name))
        for what in ("work", "accuracy", "worst_class", "wall")
    }
    work = mean["work"].value
    classic = curve.at(work)
    above = mean["accuracy"].minus(classic)
    row = {
        "data": data, "labels": labels, "way": name, "scored": ways[name].scored, "epochs": epochs,
        "seeds": len(found), "work": work,
        "accuracy": mean["accuracy"].value, "error": mean["accuracy"].error,
        "worst_class": mean["worst_class"].value, "worst_class_error": mean["worst_class"].error,
        "seconds": mean["wall"].value, "seconds_ratio": seconds_ratio(found, runs, epochs),
        "classic": classic.value, "above_classic": above.value, "above_classic_error": above.error,
    }  # fmt: skip
    row |= savings(curve, mean["accuracy"], work, row["seconds_ratio"])
    return row | {"twin": twin} | _of_twin(twin, epochs, runs, len(found))


def savings(curve: Curve, accuracy: Mean, work: float, seconds_ratio: float) -> Row:
    """Return the parts of work and of seconds saved, and those one standard error less and more.

    The error is that of the difference between the accuracy and classic training's where it is as good.
    """
    error = math.hypot(accuracy.error, curve.at(curve.needed(accuracy.value)).error)
    saved: Row = {}
    for unit, cost in {"saving": work, "seconds_saving": work * seconds_ratio}.items():
        for end, by in {"_low": -error, "": 0.0, "_high": error}.items():
            saved[unit + end] = math.nan if math.isnan(by) else curve.saving(cost, accuracy.value + by)
    return saved


def _of_twin(twin: str, epochs: int, runs: Runs, seeds: int) -> Row:
    found, curve = runs.get((twin, epochs), ())[:seeds], Curve.of(runs, seeds)
    if not found:
        nothing = Mean(math.nan, math.nan)
        return _twin_row(math.nan, nothing, math.nan, dict.fromkeys(savings(curve, nothing, 1, 1), math.nan))
    work, accuracy = statistics.fmean(run["work"] for run in found), accuracy_of(found, runs, twin)
    worst = statistics.fmean(run["worst_class"] for run in found)
    return _twin_row(work, accuracy, worst, savings(curve, accuracy, work, seconds_ratio(found, runs, epochs)))


def _twin_row(work: float, accuracy: Mean, worst_class: float, saved: Row) -> Row:
    return {
        "twin_work": work, "twin_accuracy": accuracy.value, "twin_error": accuracy.error,
        "twin_worst_class": worst_class,
        **{f"twin_{name}": value for name, value in saved.items() if not name.endswith("_low")},
    }  # fmt: skip


def seconds_ratio(found: Sequence[Result], runs: Runs, epochs: int) -> float:
    """Return the seconds of a unit of work beside classic training's: the median over pairs of equal seeds.

    The classic training of a pair is the one of about as many epochs, which ran beside it.
    """
    classic = {key[1]: runs_of for key, runs_of in runs.items() if key[0] == CLASSIC}
    if not classic:
        return math.nan
    beside = classic[min(classic, key=lambda other: abs(other - epochs))]
    pairs = zip(found, beside, strict=False)
    return statistics.median((own["cpu"] / own["work"]) / (other["cpu"] / other["work"]) for own, other in pairs)
