"""One way of training: a network on a data set with the optimizer and the schedule of one of the three texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from data_sets import FORMS, Pictures, load, made_up
from device_data import DeviceData, HeldPictures
from folder_data import FolderData
from lightning.pytorch import LightningModule
from networks import network
from torch import Tensor
from torch.nn import functional

from lightning_easiness import SELModule

Optimization = tuple[torch.optim.Optimizer, Any]


@dataclass(frozen=True)
class Training:
    """One way of training.

    Args:
        network: Name in `networks.NAMES`.
        data: Name in `data_sets.FORMS`.
        text: Whose optimizer, schedule and augmentation: "count" (2018), "loss" (2019) or "sel".
        epochs: Number of epochs that are trained.
        scheduled: Number of epochs that the schedule is made for; None for as many as are trained. The texts measure
            easiness early in a training of 300 epochs: `epochs=10, scheduled=300`.
        batch_size: Examples in a batch.
        width: Scale of the network's channels.
        size: Train only on the first `size` examples.
        test_size: Evaluate only the first `test_size` test examples.
        image_size: Average the images down to this side; None for as they are.
        sel_weight: Weight of the sample easiness-based loss beside the cross-entropy; 0 for none.
        pretrained: Begin with weights of ImageNet.
        validate: Also evaluate the test examples after each epoch.
    """

    network: str
    data: str
    text: str
    epochs: int
    scheduled: int | None = None
    batch_size: int = 128
    width: float = 1.0
    size: int | None = None
    test_size: int | None = None
    image_size: int | None = None
    sel_weight: float = 0.0
    pretrained: bool = False
    validate: bool = False

    def module(
        self,
        num_examples: int | None = None,
        kind: type[Classifier] | None = None,
        *,
        num_classes: int | None = None,
        pretrained: bool | None = None,
    ) -> Classifier:
        """Make the network with its optimizer, for a training set of so many examples.

        `kind` is a subclass of `Classifier`, `num_classes` the number of outputs where it is not the data set's, and
        `pretrained=False` leaves out the download, to try the network.
        """
        form = FORMS[self.data]
        return (kind or Classifier)(
            network=self.network,
            num_classes=num_classes or form.num_classes,
            image_size=self.image_size or form.image_size,
            channels=3 if self.pretrained else form.channels,
            width=self.width,
            pretrained=self.pretrained if pretrained is None else pretrained,
            text=self.text,
            scheduled=self.scheduled or self.epochs,
            batch_size=self.batch_size,
            num_examples=num_examples or self.size or 50_000,
            sel_weight=self.sel_weight,
        )

    def data_key(self) -> tuple[Any, ...]:
        """Return what the data depend on: trainings of equal keys share them."""
        size = (self.size, self.test_size, self.image_size, self.batch_size)
        return (self.data, self.text, *size, self.validate)

    def data_module(self, root: Path | None) -> DeviceData | FolderData:
        """Read the data set and return it with the text's augmentation; ImageNet stays in its folder."""
        if self.data == "imagenet":
            return FolderData(root, self.batch_size, self.image_size or 224, self.validate)
        return self.data_of(load(self.data, root))

    def data_of(self, pictures: Pictures) -> DeviceData:
        """Return given pictures with the text's augmentation."""
        pictures = pictures.first(self.size, self.test_size).resized(self.image_size)
        if self.pretrained:
            pictures = pictures.coloured()
        train = HeldPictures(pictures.images, pictures.target, pictures.classes)
        test = HeldPictures(pictures.test_images, pictures.test_target, pictures.classes)
        return DeviceData(train, test, self.batch_size, validate=self.validate, **self.augmentation())

    def augmentation(self) -> dict[str, Any]:
        """Return the text's augmentation: none in the SEL text."""
        if self.text == "sel":
            return {"normalize": "imagenet" if self.pretrained else "unit"}
        side = self.image_size or FORMS[self.data].image_size
        if side > 64:
            return {"crop": side, "flip": True}
        return {"shift": round(4 * side / 32), "flip": self.data != "svhn"}  # mirrored digits are other digits

    def made_up(self, size: int) -> DeviceData:
        """Return noise in the form of the data, to try one step."""
        return self.data_of(made_up(self.data, size, self.image_size))


class Classifier(SELModule, LightningModule):
    """A network with the optimizer and the schedule of a text; logs "test_accuracy", and "val_accuracy" if asked to."""

    def __init__(
        self,
        network: str,
        num_classes: int,
        image_size: int,
        channels: int,
        width: float,
        pretrained: bool,
        text: str,
        scheduled: int,
        batch_size: int,
        num_examples: int,
        sel_weight: float,
    ) -> None:
        super().__init__(sel_weight=sel_weight)
        self.save_hyperparameters()
        self.model = _network(network, num_classes, image_size, channels, width=width, pretrained=pretrained)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        # equal to the mean, unless a selection weighs examples
        loss = self.weighted_mean(functional.cross_entropy(logits, y, reduction="none"))
        return loss + self.sel(logits, y) if self.sel_weight else loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        x, y = batch
        logits = self(x)
        self.log(f"{stage}_accuracy", (logits.argmax(1) == y).float().mean(), on_epoch=True)
        self.log(f"{stage}_loss", functional.cross_entropy(logits, y), on_epoch=True)
        if self.hparams["text"] == "sel":
            self.sel(logits, y)  # logs the share of medium examples and the error of sample easiness

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer, schedule = OPTIMIZATIONS[self.hparams["text"]](self.parameters(), self.hparams)
        return {"optimizer": optimizer} | ({"lr_scheduler": schedule} if schedule is not None else {})


_network = network  # the module's argument has this name


def adamw(parameters: Iterable[Tensor], form: Any) -> Optimization:
    """AdamW of the 2018 text: 0.001, betas 0.9 and 0.99, normalised decay 0.05, cosine over T = 300 epochs.

    A normalised decay w means w sqrt(batch / (examples x T)) a step, whatever the learning rate; torch multiplies its
    own by the learning rate.
    """
    rate, normalized = 1e-3, 0.05
    decay = normalized * sqrt(form["batch_size"] / (form["num_examples"] * form["scheduled"]))
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=decay / rate)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, form["scheduled"])


def momentum(parameters: Iterable[Tensor], form: Any) -> Optimization:
    """SGD of the 2019 text: momentum 0.9, decay 0.0001, 0.1 divided by 10 at two or three epochs.

    These are 150 and 250 of 300 for CIFAR-10, and 100, 150 and 190 for ImageNet, of 200; a schedule of another length
    has them at the same shares.
    """
    large = form["image_size"] > 64
    shares = (100 / 200, 150 / 200, 190 / 200) if large else (150 / 300, 250 / 300)
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1e-4)
    steps = [round(share * form["scheduled"]) for share in shares]
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, steps, gamma=0.1)


def adam(parameters: Iterable[Tensor], form: Any) -> Optimization:
    """Adam of the SEL text: 0.001, without a schedule."""
    return torch.optim.Adam(parameters, 1e-3), None


OPTIMIZATIONS: dict[str, Callable[[Iterable[Tensor], Any], Optimization]] = {
    "count": adamw, "loss": momentum, "sel": adam,
}  # fmt: skip
