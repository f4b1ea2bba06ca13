"""One training on less: its data, perhaps with wrong labels, its network, and what came of it."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_sets import Pictures, load
from device_data import DeviceData, HeldPictures
from experiment import Experiment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from needs import CIFAR_10N, need_cifar_10n
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from training import Classifier, Training

from less.scoring import record_of
from less.ways import Given, Way
from less.work import WorkMeter, edge_of, one_cycle, plan_of
from lightning_easiness import EasinessCallback, EasinessDataModule, Selected, Selection, SelectionState

PEAK = 0.1  # learning rate


@dataclass(frozen=True)
class LessTraining(Training):
    """One way of training on less: SGD and one cycle of the learning rate, by the share of the work done.

    A last batch that is not whole is left out: a step on a few examples costs points, and ways differ in how many.

    Args:
        wrong: Share of the training labels that are replaced by another class.
        held: Further training examples, with as many wrong labels, by which a training may be stopped early.
        shift: Move training pictures by up to so many pixels.
    """

    wrong: float = 0.0
    held: int = 1000
    shift: int = 0

    def module(self, num_examples: int | None = None, kind: type[Classifier] | None = None, **more: Any) -> Classifier:
        return super().module(num_examples, kind or LessClassifier, **more)

    @property
    def network_and_data(self) -> str:
        """What the seconds of a step depend on."""
        return f"{self.network} x {self.width:g} on {self.size or 'all'} of {self.data}"

    @property
    def known_wrong(self) -> float:
        """About what share of the labels is wrong."""
        return self.wrong

    def data_key(self) -> tuple[Any, ...]:
        return (*super().data_key(), self.wrong, self.held, self.shift)

    def augmentation(self) -> dict[str, Any]:
        return {"shift": self.shift, "flip": True, "drop_last": True}

    def data_of(self, pictures: Pictures) -> DeviceData:
        """Return given pictures, with wrong labels; `held` has the examples that are not trained on."""
        size = self.size or len(pictures.images) - self.held
        pictures = pictures.first(size + self.held, self.test_size)
        pictures = replace(pictures, target=made_wrong(pictures.target, self.wrong, len(pictures.classes)))
        held = pictures.images[size:], pictures.target[size:]
        made = replace(self, size=size)._data_of(pictures)
        rest = replace(pictures, images=held[0], target=held[1]).resized(self.image_size)
        made.held = HeldPictures(rest.images, rest.target)  # type: ignore[attr-defined]
        return made

    def made_up(self, size: int) -> DeviceData:
        return super(LessTraining, replace(self, size=size, held=size)).made_up(2 * size)

    def _data_of(self, pictures: Pictures) -> DeviceData:
        return super().data_of(pictures)


class LabelledByPeople(LessTraining):
    """CIFAR-10 with the labels of CIFAR-10N that single people gave: two in five are not those of the data set."""

    @property
    def known_wrong(self) -> float:
        return 0.4

    def data_key(self) -> tuple[Any, ...]:
        return (*super().data_key(), "by people")

    def data_module(self, root: Path | None) -> DeviceData:
        assert root is not None
        need_cifar_10n(root)
        labels = torch.from_numpy(np.load(root / CIFAR_10N)["worse"]).long()
        return self.data_of(replace(load(self.data, root), target=labels))


def made_wrong(target: Tensor, share: float, num_classes: int) -> Tensor:
    """Return labels of which a share, drawn once for all, is another class, each of the others equally likely."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randperm(len(target), generator=generator)[: round(share * len(target))]
    by = torch.randint(1, num_classes, (len(chosen),), generator=generator)
    return target.scatter(0, chosen, (target[chosen] + by) % num_classes)


class LessClassifier(Classifier):
    """A network with SGD, whose learning rate a WorkMeter sets, or its own schedule by steps, of the same form."""

    own_schedule = False

    def __init__(self, **form: Any) -> None:
        super().__init__(**form)
        self.model.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.contiguous(memory_format=torch.channels_last))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), PEAK, momentum=0.9, nesterov=True, weight_decay=5e-4)
        if not self.own_schedule:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        schedule = LambdaLR(optimizer, lambda step: one_cycle(min(1.0, (step + 0.5) / steps)))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def train(
    experiment: Experiment,
    name: str,
    way: Way,
    epochs: int,
    seed: int,
    *,
    selection: Selection | None = None,
    callbacks: Sequence[Callback] = (),
    follows: bool = False,
    num_kept: int | None = None,
) -> dict[str, Any]:
    """Train once and return the work, the seconds, the test accuracy, and that of the worst class.

    With `follows`, also the accuracies on the held examples and on the test examples after each epoch. A selection that
    is made once says how many examples it keeps, `num_kept`.
    """
    training, data = experiment.trainings[name], experiment.data(name)
    if way.keeps_last:
        data = copy.copy(data)
        data.drop_last = False
    seed_everything(seed, workers=True, verbose=False)
    size = len(data.train)
    given = Given(edge_of(epochs), seed, lambda series: record_of(experiment, name, series), training.known_wrong)
    chosen = way.make(given) if selection is None else selection
    sizes = sizes_of(chosen, size, epochs) if way.is_fixed else ()
    plan = plan_of(epochs, num_kept or size, training.batch_size, way.share, sizes, way.keeps_last)
    meter = WorkMeter(plan, size, None if way.own_schedule else PEAK)
    course = Course(meter, data)
    module = experiment.module(name)
    module.own_schedule = way.own_schedule
    with tempfile.TemporaryDirectory() as folder:
        watch = [EasinessCallback(folder, probe=None, num_images=0)] if way.online else []
        more = [*callbacks, *watch, meter, *([course] if follows else [])]
        trainer = experiment.trainer(name, more, max_epochs=epochs)
        trainer.fit(module, datamodule=data if chosen is None else EasinessDataModule(data, chosen))
    return {
        "work": meter.work, "trained": meter.trained, "looked_at": meter.looked_at, "steps": meter.steps,
        "wall": meter.wall, "cpu": meter.cpu, "by_epoch": meter.by_epoch,
        **accuracies(module, data, data.test), "course": course.points,
    }  # fmt: skip


def sizes_of(selection: Selection, size: int, epochs: int) -> list[int]:
    """Return the numbers of examples in each epoch of a selection that goes by nothing but the epoch."""
    states = [SelectionState(size, epoch=epoch, max_epochs=epochs) for epoch in range(epochs)]
    return [len(Selected.of(selection.select(state)).kept) for state in states]


class Course(Callback):
    """Keeps the accuracy on the held and on the test examples after each epoch, with the work so far."""

    def __init__(self, meter: WorkMeter, data: Any) -> None:
        self.meter, self.data = meter, data
        self.points: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self.meter.aside():
            held = accuracies(pl_module, self.data, self.data.held.to(pl_module.device))["accuracy"]
            test = accuracies(pl_module, self.data, self.data.test)["accuracy"]
        self.points.append({"work": self.meter.work, "held": held, "accuracy": test})


@torch.no_grad()
def accuracies(module: Any, data: Any, pictures: HeldPictures) -> dict[str, float]:
    """Return the accuracy on pictures as they are, in percent, and that of the worst class."""
    was_training = module.training
    module.eval()
    device = pictures.images.device
    right = torch.cat([
        module.to(device)(data.normalize(images)).argmax(1) == labels
        for images, labels in batches_of(pictures, data.test_batch_size)
    ]).float().cpu()  # fmt: skip
    module.train(was_training)
    of_classes = [right[pictures.targets == label].mean() for label in pictures.targets.unique()]
    return {"accuracy": 100 * float(right.mean()), "worst_class": 100 * float(min(of_classes))}


def batches_of(pictures: HeldPictures, size: int) -> Any:
    """Yield pictures and labels in their order."""
    for index in torch.arange(len(pictures)).split(size):
        yield pictures.__getitems__(index.tolist())
