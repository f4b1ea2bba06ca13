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
from types import SimpleNamespace
from typing import Any

from less.answers import findings, pruning_findings  # first: the package knows where the modules of paper/ are
from less.figure import draw
from less.kept import Kept
from less.markdown import page
from less.pruned import pruned_rows
from less.runs import LessTraining
from less.table import Curve, rows_of
from less.ways import WAYS

from experiment import Experiment, begin, write_csv  # isort: skip

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "seeds": 4, "networks": {"fashion-mnist": "cnn-small", "cifar-10": "cnn-small"},
        "width": {"fashion-mnist": 0.5, "cifar-10": 1.0},
        "size": {"fashion-mnist": 10_000, "cifar-10": 5000}, "held": 1000,
        "image_size": {"fashion-mnist": 14, "cifar-10": 16}, "batch_size": 128, "shift": 0, "wrong": 0.4,
        "budgets": {"clean": (5, 8, 12, 18), "wrong": (5, 8, 14, 24), "classic": (3, 5, 8, 12, 18),
                    "classic, wrong": (3, 5, 9, 15, 24), "scores": 12, "held out": 6},
    },
    "full": {
        "seeds": 5, "networks": {"fashion-mnist": "resnet-18", "cifar-10": "resnet-18", "cifar-10, fast": "resnet-9"},
        "width": {}, "size": {}, "held": 5000, "image_size": {}, "batch_size": 128, "shift": 4, "wrong": 0.4,
        "budgets": {"clean": (20, 40, 80, 200), "wrong": (20, 40, 80, 200), "classic": (10, 20, 40, 80, 200),
                    "classic, wrong": (10, 20, 40, 80, 200), "scores": 200, "held out": 40},
    },
}  # fmt: skip


def trainings(setting: SimpleNamespace) -> dict[str, LessTraining]:
    """Return what is trained: each data set with its labels, and with wrong ones."""
    made = {}
    for name, network in setting.networks.items():
        data = name.partition(",")[0]
        form = {"size": setting.size.get(data), "image_size": setting.image_size.get(data)}
        form |= {"width": setting.width.get(data, 1.0), "batch_size": setting.batch_size}
        form |= {"held": setting.held, "shift": setting.shift}
        for labels, wrong in (("clean", 0.0), ("wrong", setting.wrong)):
            made[f"{name}, {labels}"] = LessTraining(network, data, "count", 0, wrong=wrong, **form)
    return made


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
            of_pruning += pruned_rows(data, labels, kept.pruned[name], kept.cost[name], Curve.of(runs))
    answers = findings(rows, {tuple(name.rsplit(", ", 1)): runs for name, runs in kept.runs.items()})
    if of_pruning:
        write_csv(of_pruning, experiment.output / f"{experiment.name}_pruned.csv")
        answers += pruning_findings(of_pruning)
    written = experiment.output / f"{experiment.name}.md"
    written.write_text(page(rows, of_pruning, answers), encoding="utf-8")
    experiment.finish(rows, lambda figure: draw(figure, rows), answers)


if __name__ == "__main__":
    main()
