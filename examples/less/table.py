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
Seconds = Mapping[
    str, Sequence[Mapping[str, float]]
]  # way -> by clock, those of a unit of work over classic training's
Row = dict[str, Any]


class Mean(NamedTuple):
    """A mean over seeds, its standard error, and the degrees of freedom that the error is known with."""

    value: float
    error: float
    freedom: float = math.inf

    @classmethod
    def of(cls, values: Sequence[float], deviation: Deviation) -> Mean:
        """Return the mean of some values, whose standard deviation is known."""
        return cls(statistics.fmean(values), deviation.value / len(values) ** 0.5, deviation.freedom)

    def minus(self, other: Mean) -> Mean:
        """Return the difference of two independent means, with the degrees of freedom of Welch and Satterthwaite."""
        error = math.hypot(self.error, other.error)
        parts = sum(one.error**4 / one.freedom for one in (self, other) if one.freedom > 0)
        return Mean(self.value - other.value, error, error**4 / parts if parts else min(self.freedom, other.freedom))

    @property
    def margin(self) -> float:
        """How far the true mean may be away, with a confidence of 95 %; NaN if nothing has two seeds."""
        return quantile(self.freedom) * self.error if self.freedom > 0 else math.nan

    @property
    def sign(self) -> int:
        """1 or -1 if it is beyond its margin from 0, else 0."""
        return 0 if not abs(self.value) > self.margin else 1 if self.value > 0 else -1


UNKNOWN = Mean(math.nan, math.nan, 0)


class Deviation(NamedTuple):
    """A standard deviation and its degrees of freedom."""

    value: float
    freedom: int


def quantile(freedom: float) -> float:
    """Return Student's 97.5 % quantile, at most 1 % too low; that of 1 or of 2 for what is below 3 degrees of freedom.

    Example:
        >>> [round(quantile(freedom), 2) for freedom in (1, 2, 4, 10, math.inf)]
        [12.71, 4.3, 2.77, 2.23, 1.96]
    """
    if freedom < 3:
        return 12.706 if freedom < 2 else 4.303
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / freedom**power for power, term in enumerate(terms))


def deviation_of(runs: Mapping[Any, Sequence[Result]], what: str = "accuracy", way: str | None = None) -> Deviation:
    """Return the standard deviation over seeds, pooled over the budgets of a way, or of all if it has no two seeds.

    Two or three seeds of one cell say little about it: by chance they may be as good as equal. NaN if nothing has two.
    """
    samples = [[run[what] for run in found] for key, found in runs.items() if len(found) > 1 and way in (None, key[0])]
    if way is not None and not samples:
        return deviation_of(runs, what)
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum(statistics.variance(sample) * (len(sample) - 1) for sample in samples)
    return Deviation((squares / freedom) ** 0.5 if freedom else math.nan, freedom)


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
            Mean(value=82.0, error=0.25, freedom=inf)
        """
        for place in range(len(self.work) - 1):
            low, high = self.work[place], self.work[place + 1]
            if low <= work <= high:
                part = math.log(work / low) / math.log(high / low)
                one, two = self.accuracy[place], self.accuracy[place + 1]
                error = math.hypot((1 - part) * one.error, part * two.error)
                return Mean((1 - part) * one.value + part * two.value, error, one.freedom)
        return UNKNOWN

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


def rows_of(data: str, labels: str, runs: Runs, ways: Mapping[str, Way], seconds: Seconds) -> list[Row]:
    """Return a row for each way and budget; classic training first, and each way beside its twin."""
    rows = [_row(data, labels, key, found, runs, ways, seconds) for key, found in runs.items()]
    order = list(ways)
    return sorted(rows, key=lambda row: (order.index(row["way"]), row["epochs"]))


def _row(
    data: str,
    labels: str,
    key: tuple[str, int],
    found: Sequence[Result],
    runs: Runs,
    ways: Mapping[str, Way],
    seconds: Seconds,
) -> Row:
    (name, epochs), twin, curve = key, ways[key[0]].twin, Curve.of(runs, len(found))
    mean = {
        what: Mean.of([run[what] for run in found], deviation_of(runs, what, name))
        for what in ("work", "accuracy", "worst_class")
    }
    work = mean["work"].value
    classic = curve.at(work)
    above = mean["accuracy"].minus(classic)
    row = {
        "data": data, "labels": labels, "way": name, "scored": ways[name].scored, "epochs": epochs,
        "seeds": len(found), "work": work,
        "accuracy": mean["accuracy"].value, "error": mean["accuracy"].error,
        "worst_class": mean["worst_class"].value, "worst_class_error": mean["worst_class"].error,
        "wall_ratio": seconds_of(name, seconds, "wall"), "cpu_ratio": seconds_of(name, seconds, "cpu"),
        "classic": classic.value, "above_classic": above.value, "above_classic_margin": above.margin,
    }  # fmt: skip
    row |= savings(curve, mean["accuracy"], work, row["cpu_ratio"])
    return row | {"twin": twin} | _of_twin((twin, epochs), runs, mean["accuracy"], len(found), seconds)


def savings(curve: Curve, accuracy: Mean, work: float, cpu_ratio: float) -> Row:
    """Return the parts of work and of CPU seconds saved, and those that they may be with a confidence of 95 %.

    It is that of the difference between the accuracy and classic training's where it is as good.
    """
    margin = accuracy.minus(curve.at(curve.needed(accuracy.value))).margin
    saved: Row = {}
    for unit, cost in {"saving": work, "cpu_saving": work * cpu_ratio}.items():
        for end, by in {"_low": -margin, "": 0.0, "_high": margin}.items():
            unknown = math.isnan(by) or math.isnan(cost)
            saved[unit + end] = math.nan if unknown else curve.saving(cost, accuracy.value + by)
    return saved


def _of_twin(key: tuple[str, int], runs: Runs, own: Mean, seeds: int, seconds: Seconds) -> Row:
    """Return what the twin of a row comes to, of the same seeds; NaN where it was not trained."""
    found, curve = runs.get(key, ())[:seeds], Curve.of(runs, seeds)
    work, worst, accuracy, ratio = math.nan, math.nan, UNKNOWN, math.nan
    if found:
        work, worst = (statistics.fmean(run[what] for run in found) for what in ("work", "worst_class"))
        accuracy, ratio = accuracy_of(found, runs, key[0]), seconds_of(key[0], seconds, "cpu")
    above, saved = own.minus(accuracy), savings(curve, accuracy, work, ratio)
    return {
        "twin_work": work, "twin_accuracy": accuracy.value, "twin_error": accuracy.error, "twin_worst_class": worst,
        "above_twin": above.value, "above_twin_margin": above.margin,
        **{f"twin_{name}": value for name, value in saved.items() if not name.endswith("_low")},
    }  # fmt: skip


def seconds_of(way: str, seconds: Seconds, clock: str) -> float:
    """Return the seconds of a unit of work beside classic training's, by a clock: the median over pairs."""
    if way == CLASSIC:
        return 1.0
    pairs = seconds.get(way, ())
    return statistics.median(pair[clock] for pair in pairs) if pairs else math.nan
