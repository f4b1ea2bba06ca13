"""What is each rule for training on less worth, beside its random twin and beside classic training of equal work?

Each rule, its twin that trains on as many random examples, and classic training are trained to the end at several
budgets: accuracy on the test examples over work, in epochs' worth of the whole data. One cycle of the learning rate
follows the share of the work done, so that each training is finished at its own budget. Fashion-MNIST and CIFAR-10,
with their labels and with 40 % of the training labels made wrong; and pruning once, by scores of a classic training.

    python examples/train_less.py --setting small --data-root ROOT

Everything trained is kept; run it again to go on. `--minutes` starts nothing new after so long and makes the tables of
what there is; `--only fashion-mnist` trains on one data set alone, as one of two processes that share the work does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from less import pruned  # first: it knows where the modules of paper/ are
from less.answers import findings, pruning_findings
from less.figure import draw
from less.runs import LessTraining, train
from less.table import Curve, rows_of
from less.ways import CLASSIC, WAYS

from experiment import Experiment, begin, write_csv  # isort: skip

DATA = ("fashion-mnist", "cifar-10")
SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "seeds": 4, "networks": {"fashion-mnist": "cnn-small", "cifar-10": "cnn-small"}, "size": 5000, "held": 1000,
        "image_size": {"fashion-mnist": 14, "cifar-10": 16}, "batch_size": 64, "shift": 0, "wrong": 0.4,
        "budgets": {"clean": (5, 8, 12, 18), "wrong": (8, 12, 18, 28), "classic": (3, 5, 8, 12, 18),
                    "classic, wrong": (5, 8, 12, 18, 28), "pruned": 12, "memorization": 6},
    },
    "full": {
        "seeds": 5, "networks": {"fashion-mnist": "resnet-18", "cifar-10": "resnet-18", "cifar-10, fast": "resnet-9"},
        "size": None, "held": 5000, "image_size": {}, "batch_size": 128, "shift": 4, "wrong": 0.4,
        "budgets": {"clean": (20, 40, 80, 200), "wrong": (20, 40, 80, 200), "classic": (10, 20, 40, 80, 200),
                    "classic, wrong": (10, 20, 40, 80, 200), "pruned": 200, "memorization": 40},
    },
}  # fmt: skip


def trainings(setting: SimpleNamespace) -> dict[str, LessTraining]:
    """Return what is trained: each data set with its labels, and with wrong ones."""
    made = {}
    for name, network in setting.networks.items():
        data = name.partition(",")[0]
        for labels, wrong in (("clean", 0.0), ("wrong", setting.wrong)):
            made[f"{name}, {labels}"] = LessTraining(
                network, data, "count", 0, batch_size=setting.batch_size, size=setting.size, held=setting.held,
                image_size=setting.image_size.get(data), shift=setting.shift, wrong=wrong,
            )  # fmt: skip
    return made


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
        epochs = self.experiment.setting.budgets["pruned"]
        costs = {score: self._cost(name, score) for score in {one.score for one in pruned.PRUNINGS.values()}}
        self.cost[name] = {score: cost for score, cost in costs.items() if cost is not None}
        for how, ratio in ((how, ratio) for ratio in pruned.RATIOS for how in pruned.PRUNINGS):
            if pruned.PRUNINGS[how].score not in self.cost[name]:
                continue

            def make(how: str = how, ratio: float = ratio) -> Any:
                return pruned.pruned(self.experiment, name, how, ratio, epochs, seed)

            found = self.result(name, f"pruned, {how}, {ratio:g}, seed {seed}", make, epochs=epochs)
            if found is not None:
                self.pruned.setdefault(name, {}).setdefault((how, ratio), []).append(found)

    def _cost(self, name: str, score: str) -> float | None:
        budgets = self.experiment.setting.budgets
        if score == "memorization":
            epochs, make = budgets["memorization"], pruned.memorization_work
        else:
            epochs, make = budgets["pruned"], pruned.score_work
        what = "held out" if score == "memorization" else "scores"
        return self.result(name, what, lambda: make(self.experiment, name, epochs), epochs=epochs)


def cells(budgets: Mapping[str, Any], is_wrong: bool) -> Iterator[tuple[str, int]]:
    """Return the ways and epochs that are trained, each budget with classic training first."""
    classic = budgets["classic, wrong" if is_wrong else "classic"]
    less = budgets["wrong" if is_wrong else "clean"]
    for epochs in sorted({*classic, *less}):
        yield from ((way, epochs) for way in WAYS if epochs in (classic if way == CLASSIC else less))


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--only", default="")
    own, rest = parser.parse_known_args()
    experiment = begin(__doc__, SETTINGS, trainings, rest)
    kept = Kept(experiment, time.monotonic() + 60 * own.minutes, own.only)
    for seed in experiment.seeds:  # of two seeds of everything more is to be learnt than of four of a half
        for name in experiment.trainings:
            kept.frontier(name, seed)
        for name in experiment.trainings:
            if name.endswith("clean"):
                kept.prunings(name, seed)
    finish(experiment, kept)


def finish(experiment: Experiment, kept: Kept) -> None:
    """Write both tables and the figure, and print the answers."""
    rows, of_pruning = [], []
    for name, runs in kept.runs.items():
        data, labels = name.rsplit(", ", 1)
        rows += rows_of(data, labels, runs, WAYS)
        if name in kept.pruned:
            of_pruning += pruned.pruned_rows(data, labels, kept.pruned[name], kept.cost[name], Curve.of(runs))
    answers = findings(rows, {tuple(name.rsplit(", ", 1)): runs for name, runs in kept.runs.items()})
    if of_pruning:
        write_csv(of_pruning, experiment.output / f"{experiment.name}_pruned.csv")
        answers += pruning_findings(of_pruning)
    experiment.finish(rows, lambda figure: draw(figure, rows), answers)


if __name__ == "__main__":
    main()
