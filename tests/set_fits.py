"""Modules, loops and fits that the tests of SampleEasinessTraining share."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    SampleEasinessLoss,
    SampleEasinessTraining,
    Selection,
    SELModule,
)
from lightning_easiness.losses import WeighsExamples
from tests import selecting
from tests.selecting import IndexedBase, IndexedPoints, Selected, Traces

SIGMA2 = 1e-3  # with Adam and this noise a few epochs have examples of all three levels
TOL = 5e-4
NO_NOISE = BatchReader(sigma2=1e-14)  # no example is medium


class Weighs(WeighsExamples, Traces):
    """Weighs its losses, and keeps what each batch was: epoch, indices, losses and weights of its examples."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.steps: list[tuple[int, list[int], Tensor, Tensor | None]] = []

    def losses_of(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")

    def keep(self, batch: Any, losses: Tensor, weight: Tensor | None) -> None:
        indices = batch[0][:, 8].long().tolist()
        self.batches.append((self.current_epoch, indices, batch[1].tolist()))
        self.steps.append((self.current_epoch, indices, losses.detach(), weight))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self.losses_of(batch)
        self.keep(batch, losses, self.sample_weight)
        return self.weighted_mean(losses)

    def weight_of(self, epoch: int) -> dict[int, float]:
        """Example -> the weight that it came with in an epoch."""
        given = {}
        for at, indices, _, weight in self.steps:
            if at == epoch:
                given.update(zip(indices, [1.0] * len(indices) if weight is None else weight.tolist(), strict=True))
        return given


class Batches(Weighs):
    """Keeps what each batch was before any example was removed from it, and the model's weights then."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.whole: list[tuple[int, list[int], dict[str, Tensor]]] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            state = {name: value.clone() for name, value in self.state_dict().items()}
            self.whole.append((self.current_epoch, batch[0][:, 8].long().tolist(), state))
        return batch


class NoNorm(Traces):
    """Without batch norm."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.net[1] = nn.Identity()


class HasLoss(Traces):
    """Its loss is a submodule that takes weights; the module itself does not."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.criterion = SampleEasinessLoss(sel_weight=0)
        self.weights: list[Tensor | None] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
        self.weights.append(self.criterion.sample_weight)
        return self.criterion(self(batch[0]), batch[1])


class WithSEL(SELModule, Traces):
    """Trains with the SEL loss; its cross-entropy takes no weights."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer, sel_sigma2=SIGMA2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
        logits = self(batch[0])
        return nn.functional.cross_entropy(logits, batch[1]) + self.sel(logits, batch[1])


def fit(
    selection: Selection | None,
    module: LightningModule,
    callbacks: Any = (),
    data: Any = None,
    reader: BatchReader | None = None,
    **options: Any,
) -> Selected:
    """Trains on a selection from 53 examples that have their indices in them."""
    return fitted(selection, module, callbacks, data, reader, **options)[0]


def fitted(
    selection: Selection | None,
    module: LightningModule,
    callbacks: Any = (),
    data: Any = None,
    reader: BatchReader | None = None,
    **options: Any,
) -> tuple[Selected, Trainer]:
    """The same, with the Trainer."""
    selected = Selected()
    if reader is None and not any(isinstance(callback, EasinessCallback) for callback in callbacks):
        reader = BatchReader(sigma2=SIGMA2)
    datamodule = EasinessDataModule(IndexedBase() if data is None else data, selection, reader=reader)
    options = {"max_epochs": 5, **options}
    return selected, selecting.fit(datamodule, None, module, callbacks=[*callbacks, selected], **options)[1]


def seeded(module_class: Any = Traces, seed: int = 3, optimizer: str = "adam") -> Any:
    seed_everything(seed, verbose=False)
    return module_class(optimizer)


def training(*levels: Any, **options: Any) -> SampleEasinessTraining:
    return SampleEasinessTraining(levels or ("medium",), **{"early_epochs": 2, **options})


# -------------------------------------------------------------------------------------------------- a slow reference


def logits_at(state: dict[str, Tensor], module_class: Any = Traces, size: int = 53) -> Tensor:
    """The model's outputs in eval mode, at weights that were kept, in float64."""
    module = module_class()
    module.load_state_dict(state)
    with torch.no_grad():
        return module.double().eval()(IndexedPoints(size).x.double())


class Easiness(float):
    """E, with the weakest of the comparisons that it is the product of."""

    weakest: float

    def __new__(cls, product: float, weakest: float) -> Easiness:
        easiness = super().__new__(cls, product)
        easiness.weakest = weakest
        return easiness

    @classmethod
    def mean(cls, values: list[Easiness]) -> Easiness:
        return cls(math.fsum(values) / len(values), math.fsum(value.weakest for value in values) / len(values))


def easiness_loop(logits: Tensor, target: Tensor, sigma2: float = SIGMA2) -> list[Easiness]:
    """E = prod over j != i of P(h_i > h_j), one example and one class at a time: equation 1."""
    found = []
    for row, true in zip(logits.tolist(), target.tolist(), strict=True):
        powers = [math.exp(value - max(row)) for value in row]
        h = [power / math.fsum(powers) for power in powers]
        compared = []
        for other in range(len(row)):
            if other != true:
                # the difference of two noises of variance sigma2 has the variance 2 sigma2
                compared.append(0.5 * (1 + math.erf((h[true] - h[other]) / math.sqrt(2 * sigma2) / math.sqrt(2))))
        found.append(Easiness(math.prod(compared), min(compared)))
    return found


def loss_loop(logits: Tensor, target: Tensor) -> list[float]:
    return [
        math.log(math.fsum(math.exp(value - row[true]) for value in row))
        for row, true in zip(logits.tolist(), target.tolist(), strict=True)
    ]


def level_of(easiness: Easiness, tol: float = TOL) -> str:
    if easiness.weakest <= tol:
        return "hard"
    return "easy" if easiness >= 1 - tol else "medium"


def easiness_at(state: dict[str, Tensor], module_class: Any = Traces, sigma2: float = SIGMA2, tol: float = TOL) -> Any:
    """The easiness of all examples at weights that were kept, each clear of the ends of levels."""
    easiness = easiness_loop(logits_at(state, module_class), IndexedPoints().y, sigma2)
    assert_clear(easiness, tol)
    return easiness


def assert_clear(easiness: list[Easiness], tol: float = TOL) -> None:
    """None is so near to an end of a level that float32 and float64 could differ."""
    assert min(min(abs(value.weakest - tol), abs(value - 1 + tol)) for value in easiness) > 5e-7
