"""What every contract is tested on: callbacks, selections, and trainings that are hard on them.

A new option of the callback or a new selection is one line in CALLBACKS or SELECTIONS: it then goes through all of the
contract tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import (
    Ablation,
    AlignPrune,
    BatchLoss,
    BatchReader,
    Control,
    Curriculum,
    EasinessCallback,
    EasinessDataModule,
    ImportanceSampling,
    InfoBatch,
    Keep,
    LevelCounts,
    Needs,
    OrderDP,
    RandomShare,
    Relabel,
    RePB,
    SampleEasinessTraining,
    Selection,
    Undecided,
)
from lightning_easiness.functional import held_out_part
from lightning_easiness.select.static import Everything
from tests.selecting import HighestLoss, Sizes, scores
from tests.set_fits import SIGMA2
from tests.small import Net, Points, loader


class Case(NamedTuple):
    """One fit: with a callback of these options (None for no callback), on a selection, or both."""

    options: dict[str, Any] | None = None
    selection: Callable[[], Selection] | None = None
    hold_out: float | None = None

    def callbacks(self, folder: Path, **options: Any) -> list[Callback]:
        noise = {} if self.selection is None else {"sigma2": SIGMA2}
        return [] if self.options is None else [EasinessCallback(folder, **{**noise, **self.options, **options})]

    def data(self, base: Any) -> dict[str, Any]:
        """What to give `trainer.fit` for a loader or a datamodule."""
        if self.selection is None:
            return {"train_dataloaders": base}
        reader = BatchReader(sigma2=SIGMA2) if self.options is None else None
        data = EasinessDataModule(base, self.selection(), reader=reader)
        if self.hold_out is not None:
            data.set_held_out(self.hold_out, self.part)
        return {"datamodule": data}

    def part(self, size: int) -> Tensor:
        """What is held out, bool (N,)."""
        return held_out_part(size, 1, self.hold_out or 0, seed=4)


def negated(inputs: Tensor) -> Tensor:
    return -inputs


def halved_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, reduction="none") / 2


EVERYTHING: dict[str, Any] = {
    "every_n_epochs": 1,
    "at_steps": (0, 3, 5, 10),
    "patterns": {"negated": negated},
    "probabilities": True,
    "probe_batch_size": 13,
}
CALLBACKS: dict[str, Case] = {
    "everything": Case(EVERYTHING),
    "default": Case({}),
    "online only": Case({"probe": None}),
    "evaluation only": Case({"online": False, "every_n_epochs": 1}),
    "every other epoch": Case({"every_n_epochs": 2}),
    "counted easiness": Case({"every_n_epochs": 1, "num_draws": 20}),
    "at steps alone": Case({"every_n_epochs": 0, "at_steps": (0, 3, 10)}),
    "the user's loss and module": Case({"every_n_epochs": 1, "loss_fn": halved_loss, "module": "net"}),
    "another loader": Case({"every_n_epochs": 1, "probe": DataLoader(Points(19, augment=True), batch_size=5)}),
}


class HighestLossOnce(HighestLoss):
    needs = Needs(passes=True)


def trained(observer: dict[str, Any] | None = None, **options: Any) -> Case:
    """SampleEasinessTraining, alone or beside a callback of some options."""
    options = {"early_epochs": 1, **options}
    return Case(observer, lambda: SampleEasinessTraining(**options))


def online(rule: Callable[[], Selection]) -> Case:
    """A rule that goes by what training shows, through a callback."""
    return Case({}, rule)


def controlled(case: Case) -> Case:
    """The control of a case's rule."""
    make = case.selection
    assert make is not None
    return case._replace(selection=lambda: Control(make()))


def level_counts(size: int) -> LevelCounts:
    """What a SET run on so many examples may have counted: ever more easy ones."""
    hard, medium = size // 5, size // 2 - 2
    return LevelCounts({epoch: (hard, medium - 2 * epoch, size - hard - medium + 2 * epoch) for epoch in range(1, 9)})


# name -> Case(options of the callback or None, a function that makes the selection)
SELECTIONS: dict[str, Case] = {
    "Keep": Case(None, lambda: Keep(range(20, 44))),
    "Ablation": Case(None, lambda: Ablation(scores(), 0.4)),
    "Relabel": Case({"every_n_epochs": 1}, lambda: Relabel(scores(), 0.4)),
    "growing": Case(None, lambda: Sizes([16, 24, 24, 37, 53])),
    "shrinking": Case({"every_n_epochs": 1}, lambda: Sizes([53, 37, 24, 24, 16])),
    "highest loss": Case(None, lambda: HighestLoss(0.4)),
    "highest loss, once": Case(None, lambda: HighestLossOnce(0.9)),
    "SET": trained({"every_n_epochs": 1}),
    "SET, counted": trained({"every_n_epochs": 1, "num_draws": 20}, levels=("medium", "hard")),
    "SET online, counted": trained({"num_draws": 20}, online=True, rescore_every_n_epochs=None),
    "SET per batch, counted": trained({"num_draws": 20}, per="batch", levels=("medium", "hard")),
    "SET by loss, every other epoch": trained(by="loss", rescore_every_n_epochs=2),
    "SET by loss and the counts of another run": trained(by="loss", level_counts=level_counts(53)),
    "SET with weights": trained(others_share=0.4, final_epochs=1),
    "SET online": trained({}, online=True, rescore_every_n_epochs=None),
    "SET online and every other epoch": trained({}, online=True, rescore_every_n_epochs=2, others_share=0.4),
    "SET per batch": trained(per="batch", others_share=0.4),
    "SET per batch, observed": trained({"every_n_epochs": 1}, per="batch"),
}
SELECTIONS |= {
    "RandomShare": Case({}, lambda: RandomShare(0.4, final_epochs=1)),
    "RandomShare, dealt": Case(None, lambda: RandomShare(0.4, replacement=False, early_epochs=0.2)),
    "InfoBatch": online(lambda: InfoBatch(0.6, early_epochs=1, final_epochs=0.2)),
    "OrderDP": online(lambda: OrderDP(0.3, 0.7, early_epochs=1)),
    "ImportanceSampling": online(lambda: ImportanceSampling(early_epochs=1)),
    "Undecided": online(lambda: Undecided(0.4, 0.8, early_epochs=1)),
    "RePB": online(lambda: RePB(0.6, early_epochs=1, final_epochs=0.2)),
    "BatchLoss": Case(None, lambda: BatchLoss(0.6, momentum=0.5, early_epochs=1, final_epochs=0)),
    "AlignPrune": online(lambda: AlignPrune(0.4, clean=range(12), window=3)),
    "Curriculum": Case(None, lambda: Curriculum(scores(), 0.3, 3)),
    "Control of InfoBatch": online(lambda: Control(InfoBatch(0.6, early_epochs=1))),
    "Control of OrderDP": online(lambda: Control(OrderDP(0.3, 0.7, early_epochs=1))),
    "Control of BatchLoss": Case(None, lambda: Control(BatchLoss(0.6, momentum=0.5, early_epochs=1, final_epochs=0))),
    "Control of AlignPrune": online(lambda: Control(AlignPrune(0.4, clean=range(12), window=3))),
    "Control of RePB": online(lambda: Control(RePB(0.6, early_epochs=1))),
    "Control of SET with weights": controlled(trained(others_share=0.4)),
    "Control of SET per batch": controlled(trained({}, per="batch")),
    "Control of Ablation": Case(None, lambda: Control(Ablation(scores(), 0.4))),
}
# the same in a run that holds out a part
_ALSO = (
    "Ablation",
    "shrinking",
    "SET with weights",
    "SET online",
    "SET per batch",
    "InfoBatch",
    "BatchLoss",
    "AlignPrune",
    "RePB",
    "ImportanceSampling",
    "Control of InfoBatch",
)
HELD_OUT = {"held out": Case({"every_n_epochs": 1}, Everything, 0.3)}
HELD_OUT |= {f"held out, {name}": SELECTIONS[name]._replace(hold_out=0.3) for name in _ALSO}
SELECTIONS |= HELD_OUT


# ---------------------------------------------------------------------------------------------------- hard trainings


class HoldsGenerators(Points):
    """Draws its augmentations from generators that it holds, one of them nested in a transform."""

    def __init__(self) -> None:
        super().__init__()
        self.torch_generator = torch.Generator().manual_seed(3)
        self.transforms = [{"noise": np.random.default_rng(4)}]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        noise = torch.rand(8, generator=self.torch_generator) + float(self.transforms[0]["noise"].random())
        return x + noise, y


class FrozenNorm(Net):
    """Keeps its batch norm in eval mode while it trains."""

    def on_train_epoch_start(self) -> None:
        self.net[1].eval()


class CountsCalls(Net):
    """Has a buffer that changes in eval mode too."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Compiled(Net):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        torch._dynamo.reset()
        self.net = torch.compile(self.net, backend="eager")


class Training(NamedTuple):
    data: Callable[[], Any]
    module: type[Net] = Net
    options: dict[str, Any] = {}  # noqa: RUF012


TRAININGS: dict[str, Training] = {
    "plain": Training(lambda: loader()),
    "augmented": Training(lambda: loader(Points(augment=True))),
    "workers": Training(lambda: loader(Points(augment=True), num_workers=2)),
    "persistent workers": Training(lambda: loader(Points(augment=True), num_workers=2, persistent_workers=True)),
    "a generator of the loader": Training(lambda: loader(generator=torch.Generator().manual_seed(7))),
    "generators of the data set": Training(lambda: loader(HoldsGenerators())),
    "accumulation and clipping": Training(
        lambda: loader(), options={"accumulate_grad_batches": 3, "gradient_clip_val": 0.1}
    ),
    "bf16-mixed": Training(lambda: loader(Points(augment=True)), options={"precision": "bf16-mixed"}),
    "reload each epoch": Training(lambda: loader(), options={"reload_dataloaders_every_n_epochs": 1}),
    "frozen batch norm": Training(lambda: loader(), FrozenNorm),
    "buffers that change in eval mode": Training(lambda: loader(), CountsCalls),
    "a compiled part": Training(lambda: loader(), Compiled),
    "drop last, validation within the epoch": Training(
        lambda: loader(drop_last=True), options={"val_check_interval": 0.5}
    ),
}
