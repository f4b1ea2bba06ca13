"""What is each rule for training on less worth, beside its random twin and beside classic training of equal work?

Each rule, its twin that trains on as many random examples, and classic training are trained to the end at several
budgets: accuracy on the test examples over work, in epochs' worth of the whole data. One cycle of the learning rate
follows the share of the work done, so that each training is finished at its own budget. Fashion-MNIST and CIFAR-10,
with their labels and with 40 % of the training labels made wrong; CIFAR-10N, whose labels people gave, two in five of
them wrong; and pruning once, by scores of a classic training.

    python examples/train_less.py --setting small --data-root ROOT

Everything trained is kept; run it again to go on. `--minutes` starts nothing new after so long and makes the tables of
what there is; `--only fashion-mnist` trains on what begins with that alone, as one of two processes that share the work
does, and `--ways classic "undecided half"` trains in these ways alone. `--ways seconds`, on a machine that does nothing
else, measures what a unit of work costs in each way, beside classic training in turn.
"""

from __future__ import annotations

import argparse
import time
from types import SimpleNamespace
from typing import Any

from less.answers import findings, pruning_findings  # first: the package knows where the modules of paper/ are
from less.figure import draw, draw_pruned
from less.kept import PRUNING, SECONDS, Kept
from less.markdown import page
from less.pruned import pruned_rows
from less.runs import LabelledByPeople, LessTraining
from less.table import Curve, rows_of
from less.ways import WAYS

from experiment import Experiment, begin, write_csv, write_figure  # isort: skip

CLEAN = {"less": (5, 8, 12, 18), "classic": (3, 5, 8, 12, 18)}
WRONG = {"less": (5, 8, 14, 24), "classic": (3, 5, 9, 15, 24)}
FASHION = {"network": "cnn-small", "data": "fashion-mnist", "width": 0.5, "size": 10_000, "image_size": 14}
CIFAR = {"network": "cnn-small", "data": "cifar-10", "width": 1.0, "size": 5000, "image_size": 16}
LONG = {"less": (20, 40, 80, 200), "classic": (10, 20, 40, 80, 200)}
WHOLE = {"network": "resnet-18", "shift": 4, "held": 5000}
ASKED = [*WAYS, PRUNING, SECONDS]
BY_PEOPLE = "cifar-10n"
SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "seeds": 4, "seeds_pruned": 2, "pairs": 3, "wrong": 0.4, "scores": 12, "held out": 6,
        "parts": {
            "fashion-mnist, clean": (FASHION, CLEAN), "fashion-mnist, wrong": (FASHION, WRONG),
            "cifar-10, clean": (CIFAR, CLEAN), "cifar-10, wrong": (CIFAR, WRONG),
            f"{BY_PEOPLE}, wrong": (CIFAR, WRONG),
            # few examples and a network that memorises their wrong labels
            "few of fashion-mnist, wrong": (
                FASHION | {"width": 1.0, "size": 2500}, {"less": (15, 40), "classic": (6, 12, 24, 40)},
            ),
        },
    },
    "full": {
        "seeds": 5, "seeds_pruned": 5, "pairs": 3, "wrong": 0.4, "scores": 200, "held out": 40,
        "parts": {
            f"{name}, {labels}": (WHOLE | form, LONG)
            for name, form in {
                "fashion-mnist": {"data": "fashion-mnist"},
                "cifar-10": {"data": "cifar-10"},
                "cifar-10 by a fast network": {"data": "cifar-10", "network": "resnet-9"},
            }.items()
            for labels in ("clean", "wrong")
        }
        | {f"{BY_PEOPLE}, wrong": (WHOLE | {"data": "cifar-10"}, LONG)},
    },
}  # fmt: skip


def trainings(setting: SimpleNamespace) -> dict[str, LessTraining]:
    """Return what is trained: each data set with its labels, and with wrong ones."""
    return {name: training(name, form, setting.wrong) for name, (form, _) in setting.parts.items()}


def training(name: str, form: dict[str, Any], wrong: float) -> LessTraining:
    """Return one of them: with wrong labels of people, with a share made wrong, or with the labels of the data set."""
    if name.startswith(BY_PEOPLE):
        return LabelledByPeople(text="count", epochs=0, **form)
    return LessTraining(text="count", epochs=0, wrong=wrong * name.endswith("wrong"), **form)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--only", nargs="+", default=[""])
    parser.add_argument("--ways", nargs="+", default=ASKED, choices=ASKED)
    own, rest = parser.parse_known_args()
    experiment = begin(__doc__, SETTINGS, trainings, rest)
    kept = Kept(experiment, time.monotonic() + 60 * own.minutes, tuple(own.only), tuple(own.ways))
    for seed in experiment.seeds:  # of two seeds of everything more is to be learnt than of four of a half
        for name in experiment.trainings:
            kept.frontier(name, seed)
        for name in experiment.trainings:
            if name.endswith("clean") and seed < experiment.setting.seeds_pruned:
                kept.prunings(name, seed)
            if name.endswith("clean") and seed < experiment.setting.pairs:
                kept.timed(name, seed)
    finish(experiment, kept)


def finish(experiment: Experiment, kept: Kept) -> None:
    """Write both tables and the figure, and print the answers."""
    rows, of_pruning = [], []
    for name, runs in kept.runs.items():
        data, labels = name.rsplit(", ", 1)
        rows += rows_of(data, labels, runs, WAYS, kept.seconds.get(experiment.trainings[name].network_and_data, {}))
        if name in kept.pruned:
            of_pruning += pruned_rows(data, labels, kept.pruned[name], kept.cost[name], Curve.of(runs))
    answers = findings(rows, {tuple(name.rsplit(", ", 1)): runs for name, runs in kept.runs.items()})
    if of_pruning:
        write_csv(of_pruning, experiment.output / f"{experiment.name}_pruned.csv")
        write_figure(
            lambda figure: draw_pruned(figure, of_pruning), experiment.output / f"{experiment.name}_pruned.png"
        )
        answers += pruning_findings(of_pruning)
    written = experiment.output / f"{experiment.name}.md"
    written.write_text(page(rows, of_pruning, answers), encoding="utf-8")
    experiment.finish(rows, lambda figure: draw(figure, rows), answers)


if __name__ == "__main__":
    main()
