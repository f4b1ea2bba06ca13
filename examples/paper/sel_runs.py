"""What the scripts on the sample easiness text share: trainings on a selection and what they are measured by."""

from __future__ import annotations

import math
import statistics
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from experiment import Experiment, decided
from lightning.pytorch import seed_everything
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC
from training import Classifier, Training

from lightning_easiness import EasinessCallback, EasinessDataModule, Needs, Selection, SelectionState
from lightning_easiness.metrics import ExpectedSampleEasinessError, MediumSampleRate
from lightning_easiness.view.style import BETWEEN, EASY, INK, MUTED, blank_figure, styled

MEASURES = {  # name -> how it is written, and by what it is multiplied
    "accuracy": ("accuracy %", 100.0),
    "auroc": ("AUROC %", 100.0),
    "msr": ("MSR %", 100.0),
    "ese": ("ESE x 1000", 1000.0),
}
Run = dict[str, Any]  # the results of one training
Draw = Callable[[int, dict[str, Run]], Selection | None]  # seed, the seed's other runs -> what is trained on


class Measured(Classifier):
    """A classifier with the four metrics of the text on the test examples, and its accuracy after each epoch."""

    def __init__(self, **form: Any) -> None:
        super().__init__(**form)
        classes = form["num_classes"]
        self.accuracies: list[float] = []
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.measures = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "auroc": MulticlassAUROC(classes),
                "msr": MediumSampleRate(),
                "ese": ExpectedSampleEasinessError(),
            }
        )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.accuracy.update(self(x), y)

    def on_validation_epoch_end(self) -> None:
        self.accuracies.append(float(self.accuracy.compute()))
        self.accuracy.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.measures.update(self(x), y)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.measures.compute())


@dataclass(frozen=True)
class Method:
    """One row of a table: what is trained on, for how long, and with which loss.

    Args:
        selection: Makes the selection from the seed and the runs of the same seed so far; None for all examples.
        sel: Settings of SEL by their names without "sel_".
        epochs: Number of epochs; None for those of the setting.
        steps: Number of steps in place of epochs, from the runs of the same seed so far.
    """

    selection: Draw | None = None
    sel: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    steps: Callable[[dict[str, Run]], int] | None = None


def measured(experiment: Experiment, name: str, seed: int, method: Method, others: dict[str, Run]) -> Run:
    """Train and test once; return the metrics at the end, and accuracy, data use and seconds of each epoch."""
    seed_everything(seed, workers=True, verbose=False)
    module = experiment.trainings[name].module(len(experiment.data(name).train), kind=Measured)
    for setting, value in method.sel.items():
        setattr(module, f"sel_{setting}", value)
    length = {"max_epochs": method.epochs or experiment.trainings[name].epochs}
    if method.steps is not None:
        length = {"max_epochs": -1, "max_steps": method.steps(others)}
    selection = None if method.selection is None else method.selection(seed, others)
    with tempfile.TemporaryDirectory() as folder:
        watch = EasinessCallback(folder, probe=None, num_images=0)
        trainer = experiment.trainer(name, [watch], num_sanity_val_steps=0, **length)
        trainer.fit(module, datamodule=EasinessDataModule(experiment.data(name), selection))
        found = trainer.test(module, datamodule=experiment.data(name), verbose=False)[0]
    usage = {"data_use": watch.usage.data_use, "epoch_seconds": watch.usage.epoch_seconds}
    levels = getattr(getattr(selection, "recorded_counts", None), "epochs", None)  # of SET, for L-SET
    return {**found, **usage, "accuracies": module.accuracies, "steps": trainer.global_step, "levels": levels}


def runs_of(experiment: Experiment, name: str, methods: Mapping[str, Method]) -> dict[str, list[Run]]:
    """Train each method under each seed and return its runs; those of other scripts with the same output are used."""
    shared = replace(experiment, name="sel", trainings={name: experiment.trainings[name]})
    runs: dict[str, list[Run]] = {label: [] for label in methods}
    for seed in experiment.seeds:
        others: dict[str, Run] = {}
        for label, method in methods.items():
            kept = f"{name}-{experiment.setting.epochs}-epochs/{label.replace(' ', '_').replace(',', '')}-{seed}"
            with experiment._timed(f"{name}, {label}, seed {seed}"):
                others[label] = shared.once(
                    kept,
                    lambda: measured(experiment, name, seed, method, others),  # noqa: B023
                    sel=dict(method.sel),
                    epochs=method.epochs,
                )
            runs[label].append(others[label])
    return runs


class RandomOfSizes(Selection):
    """As many examples in each epoch as another selection took, drawn anew from all of them."""

    needs = Needs(every="epoch")

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self.sizes, self.seed = sizes, seed

    def select(self, state: SelectionState) -> Tensor:
        size = self.sizes[min(state.epoch, len(self.sizes) - 1)]
        return torch.randperm(state.num_examples, generator=state.generator())[:size]


def twin(of: str, num_examples: int) -> Draw:
    """Return a random draw of as many examples in each epoch as a method trained on."""
    return lambda seed, others: RandomOfSizes([round(use * num_examples) for use in others[of]["data_use"]], seed)


_PRETRAINED = ("vgg16", "resnet-50", "densenet-121")


def trainings_of(
    setting: SimpleNamespace, data: Sequence[str] = ("cifar-10", "cifar-100", "svhn")
) -> dict[str, Training]:
    """Return the trainings of a table by name: two small ones, or the text's four networks on each of the data sets."""
    given = {"text": "sel", "epochs": setting.epochs, "validate": True}
    if setting.small:
        small = {"test_size": 2_500, **given}
        return {
            "fashion-mnist": Training("cnn-12k", "fashion-mnist", size=8_000, image_size=14, **small),
            "cifar-10": Training("cnn-18m", "cifar-10", size=5_000, image_size=16, width=0.05, **small),
        }
    own = [] if "fashion-mnist" in data else ["cnn-18m"]  # the table of levels has the pretrained ones alone
    enlarged = {"fashion-mnist": 32}  # VGG16 halves an image five times
    return {
        f"{name} {network}": Training(
            network, name, pretrained=network in _PRETRAINED, image_size=enlarged.get(name), **given
        )
        for name in data
        for network in (*_PRETRAINED, *own)
    }


_SHOWN = {"fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10", "cifar-100": "CIFAR-100", "svhn": "SVHN"}


def shown(training: str) -> str:
    """Write the name of a training in a figure: "CIFAR-10", "CIFAR-10 vgg16"."""
    data, _, network = training.partition(" ")
    return f"{_SHOWN.get(data, data)} {network}".strip()


def values(runs: Sequence[Run], measure: str) -> list[float]:
    """Return a measure of each run, in the unit of the tables."""
    return [run[measure] * MEASURES[measure][1] for run in runs]


def mean(found: Sequence[float]) -> float:
    return statistics.fmean(found)


def deviation(found: Sequence[float]) -> float:
    """Return the standard deviation over seeds; NaN of a single one, and where a value is NaN."""
    known = len(found) > 1 and not any(math.isnan(value) for value in found)
    return statistics.stdev(found) if known else float("nan")


def verdict(claims: Sequence[int]) -> str:
    """Say what claims amount to, each 1 as the text has it, -1 the opposite, 0 within the spread."""
    return "differs" if -1 in claims else "agrees" if all(claims) else "cannot tell"


def change(ours: Sequence[float], others: Sequence[float]) -> str:
    """Write the difference of two means: "-1.6 (decided)"."""
    alone = min(len(ours), len(others)) < 2
    known = "one seed" if alone else "decided" if decided(ours, others) else "within the spread"
    return f"{mean(ours) - mean(others):+.2f} ({known})"


def draw_dots(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], title: str, note: str, columns: int
) -> Any:
    """Draw values as dots, one per seed, with a bar at their mean: panel -> row -> series -> values."""
    labels = list(next(iter(panels.values())))
    lines = math.ceil(len(panels) / columns)
    figure = blank_figure("draw_dots", 1.2 + 3.1 * columns, 1 + (0.8 + 0.27 * len(labels)) * lines)
    for place, (name, found) in enumerate(panels.items()):
        axes = styled(figure.add_subplot(lines, columns, place + 1))
        _draw_rows(axes, found)
        axes.set(xlabel=name, ylim=(len(labels) - 0.5, -0.5))
        axes.set_yticks(range(len(labels)), [] if place % columns else labels)
    figure.suptitle(textwrap.fill(title, 32 * columns + 10), x=0.01, ha="left", fontsize=11.5, weight="bold", color=INK)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=9, color=MUTED)
    return figure


def _draw_rows(axes: Any, rows: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    series = list(dict.fromkeys(label for row in rows.values() for label in row))
    for place, row in enumerate(rows.values()):
        for label, found in row.items():
            number = series.index(label)
            at, colour = place + 0.24 * (number - (len(series) - 1) / 2), (EASY, BETWEEN)[number]
            axes.scatter(found, [at] * len(found), s=14, color=colour, alpha=0.5, linewidths=0)
            axes.scatter([mean(found)], [at], s=70, marker="|", color=colour, linewidths=2)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
