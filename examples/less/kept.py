"""All trainings of the tables, each kept under its name, so that a killed script goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiment import Experiment

from less import pruned
from less.runs import train
from less.ways import CLASSIC, WAYS


@dataclass
class Kept:
    """The results of all trainings, made until the time is up: by name of the data, then by way and budget, a list."""

    experiment: Experiment
    ends: float = float("inf")  # by time.monotonic
    only: str = ""  # the beginning of the names of the data that are trained on; what is kept of others is read
    runs: dict[str, dict[Any, list[Any]]] = field(default_factory=dict)
    pruned: dict[str, dict[Any, list[Any]]] = field(default_factory=dict)
    cost: dict[str, dict[str, float]] = field(default_factory=dict)  # epochs' worth of work for scores

    def may_make(self, name: str) -> bool:
        """Return whether something may still be trained."""
        return time.monotonic() < self.ends and name.startswith(self.only)

    def result(self, name: str, what: str, make: Callable[[], Any], **more: Any) -> Any:
        """Return a result that is kept, else make it if it may be made, else None."""
        key = f"{name}, {what}".replace("/", " ")
        if self.experiment.kept(key).exists() or self.may_make(name):
            return self.experiment.once(key, make, of=[name], **more)
        return None

    def frontier(self, name: str, seed: int) -> None:
        """Train each way at each budget, classic training beside the rules of its budget."""
        is_wrong = name.endswith("wrong")
        for way, epochs in cells(self.experiment.setting.budgets, is_wrong):

            def make(way: str = way, epochs: int = epochs) -> Any:
                return train(self.experiment, name, WAYS[way], epochs, seed, follows=is_wrong and way == CLASSIC)

            found = self.result(name, f"{way}, {epochs}, seed {seed}", make)
            if found is not None:
                self.runs.setdefault(name, {}).setdefault((way, epochs), []).append(found)

    def prunings(self, name: str, seed: int) -> None:
        """Score once, and train on what each way to prune keeps."""
        budgets, cost = self.experiment.setting.budgets, self.cost.setdefault(name, {"random": 0.0})
        for what, make, hows in (
            ("scores", pruned.score_work, set(pruned.PRUNINGS) - {"random", *pruned.BY_HELD_OUT}),
            ("held out", pruned.memorization_work, set(pruned.BY_HELD_OUT)),
        ):
            epochs = budgets[what]
            work = self.result(name, what, lambda: make(self.experiment, name, epochs), epochs=epochs)  # noqa: B023
            cost |= {} if work is None else dict.fromkeys(hows, work)
        epochs = budgets["scores"]
        for how, ratio in ((how, ratio) for ratio in pruned.RATIOS for how in pruned.PRUNINGS if how in cost):

            def train_one(how: str = how, ratio: float = ratio) -> Any:
                return pruned.pruned(self.experiment, name, how, ratio, epochs, seed)

            found = self.result(name, f"pruned, {how}, {ratio:g}, seed {seed}", train_one, epochs=epochs)
            if found is not None:
                self.pruned.setdefault(name, {}).setdefault((how, ratio), []).append(found)


def cells(budgets: Mapping[str, Any], is_wrong: bool) -> Iterator[tuple[str, int]]:
    """Return the ways and epochs that are trained, each budget with classic training first."""
    classic = budgets["classic, wrong" if is_wrong else "classic"]
    less = budgets["wrong" if is_wrong else "clean"]
    for epochs in sorted({*classic, *less}):
        yield from ((way, epochs) for way in WAYS if epochs in (classic if way == CLASSIC else less))
