"""All trainings of the tables, each kept under its name, so that a killed script goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiment import Experiment

from less import pruned
from less.runs import train
from less.ways import CLASSIC, WAYS

PRUNING = "pruning"  # once, before training
CLOCKS = ("wall", "cpu")
SECONDS = "seconds"  # of each way beside classic training, in turn


@dataclass
class Kept:
    """The results of all trainings, made until the time is up: by name of the data, then by way and budget, a list."""

    experiment: Experiment
    ends: float = float("inf")  # by time.monotonic
    only: tuple[str, ...] = ("",)  # how the names of the data begin that are trained on; of others what is kept is read
    ways: tuple[str, ...] = (*WAYS, PRUNING, SECONDS)  # what is trained
    runs: dict[str, dict[Any, list[Any]]] = field(default_factory=dict)
    pruned: dict[str, dict[Any, list[Any]]] = field(default_factory=dict)
    seconds: dict[str, dict[str, list[Any]]] = field(default_factory=dict)  # by network and data, then by way
    cost: dict[str, dict[str, float]] = field(default_factory=dict)  # epochs' worth of work for scores

    def result(self, name: str, what: str, make: Callable[[], Any], asked: bool = True, **more: Any) -> Any:
        """Return a result that is kept; else make it if it is asked for and there is time; else None."""
        key, is_due = f"{name}, {what}".replace("/", " "), asked and name.startswith(self.only)
        if self.experiment.kept(key).exists() or (is_due and time.monotonic() < self.ends):
            return self.experiment.once(key, make, of=[name], **more)
        return None

    def frontier(self, name: str, seed: int) -> None:
        """Train each way at each budget, classic training beside the rules of its budget."""
        is_wrong = name.endswith("wrong")
        for way, epochs in cells(self.experiment.setting.parts[name][1]):

            def make(way: str = way, epochs: int = epochs) -> Any:
                return train(self.experiment, name, WAYS[way], epochs, seed, follows=is_wrong and way == CLASSIC)

            if (is_wrong or not WAYS[way].for_wrong) and (not WAYS[way].scored or self.scored(name, "scores")):
                found = self.result(name, f"{way}, {epochs}, seed {seed}", make, way in self.ways)
                self._add(self.runs, name, (way, epochs), found)

    def prunings(self, name: str, seed: int) -> None:
        """Train on what each way to prune keeps."""
        epochs, cost = self.experiment.setting.scores, self.cost.setdefault(name, {})
        for ratio, how in ((ratio, how) for ratio in pruned.RATIOS for how in pruned.PRUNINGS):

            def make(how: str = how, ratio: float = ratio) -> Any:
                return pruned.pruned(self.experiment, name, how, ratio, epochs, seed)

            work = self.scored(name, "held out" if how in pruned.BY_HELD_OUT else "scores")
            if work is not None:
                cost[how] = 0.0 if how == "random" else work
                found = self.result(
                    name, f"pruned, {how}, {ratio:g}, seed {seed}", make, PRUNING in self.ways, epochs=epochs
                )
                self._add(self.pruned, name, (how, ratio), found)

    def timed(self, name: str, pair: int) -> None:
        """Train in each way and classically, one after the other, for the seconds of a unit of work.

        They are those of all trainings of this network on as many of these data, whatever their labels.
        """
        epochs = self.experiment.setting.parts[name][1]["less"][1]
        for way in WAYS:

            def make(way: str = way) -> Any:
                order = (way, CLASSIC) if pair % 2 else (CLASSIC, way)
                found = {one: train(self.experiment, name, WAYS[one], epochs, pair) for one in order}
                own, classic = (
                    {clock: run[clock] / run["work"] for clock in CLOCKS} for run in (found[way], found[CLASSIC])
                )
                return {clock: own[clock] / classic[clock] for clock in CLOCKS}

            if way != CLASSIC and (not WAYS[way].scored or self.scored(name, "scores")):
                found = self.result(name, f"seconds, {way}, pair {pair}", make, SECONDS in self.ways)
                self._add(self.seconds, self.experiment.trainings[name].network_and_data, way, found)

    def scored(self, name: str, what: str) -> float | None:
        """Train for scores, once, and return the work of it; None if there is no time."""
        make, epochs = pruned.SCORING[what], vars(self.experiment.setting)[what]
        return self.result(name, what, lambda: make(self.experiment, name, epochs), epochs=epochs)

    def _add(self, to: dict[str, dict[Any, list[Any]]], name: str, key: Any, found: Any) -> None:
        if found is not None:
            to.setdefault(name, {}).setdefault(key, []).append(found)


def cells(budgets: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, int]]:
    """Return the ways and epochs that are trained, each budget with classic training first."""
    for epochs in sorted({*budgets["classic"], *budgets["less"]}):
        yield from ((way, epochs) for way in WAYS if epochs in budgets["classic" if way == CLASSIC else "less"])
