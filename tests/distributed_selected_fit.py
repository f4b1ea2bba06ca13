"""Fits on selections in several processes, for tests/select/test_distributed.py; each rank leaves a file of its own.

python -m tests.distributed_selected_fit <number of processes> <folder> <scenario> ...
"""

from __future__ import annotations

import sys
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn
from torch.utils.data import dataloader

from lightning_easiness import (
    BatchLoss,
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    Keep,
    Needs,
    SampleEasinessTraining,
    Selection,
    SelectionState,
)
from lightning_easiness.select import fit as of_fit
from tests.contracts.cases import SELECTIONS
from tests.selecting import IndexedBase, NumberedBase, OverSubset, Selected, Sizes, Traces
from tests.set_fits import SIGMA2, Batches
from tests.small import trainer

DEVICES: dict[str, int] = {}
SHARE = 0.4
LEVELS_ONLINE = ("medium", "hard")
BATCH_RULES = ("RePB", "BatchLoss")  # go by the losses of batches, which differ where batches hold other examples


class Learns(Batches):
    """Without batch norm, whose statistics differ by rank; keeps the logits too. Its learning rate falls by steps."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__("sgd")
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        with torch.no_grad():
            self.net[2].weight *= 8  # so that there are examples of all levels from the start
        self.lr = lr
        self.logits: list[tuple[int, list[int], Tensor]] = []

    def losses_of(self, batch: Any) -> Tensor:
        logits = self(batch[0])
        if self.trainer.training:
            self.logits.append((self.current_epoch, batch[0][:, 8].long().tolist(), logits.detach()))
        return nn.functional.cross_entropy(logits, batch[1], reduction="none")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Drifts(Learns):
    """Sees other inputs in each epoch: so losses change where weights do not, alike for any number of processes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.7 * self.current_epoch)


class Normed(Learns):
    def __init__(self, lr: float) -> None:
        super().__init__(lr)
        self.net.insert(1, nn.BatchNorm1d(16))


class Keeps(Selected):
    """Leaves what a rank saw when training ends."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lengths: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.lengths.append(int(trainer.num_training_batches))
        if isinstance(trainer.datamodule, EasinessDataModule):
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        callbacks = [one for one in trainer.callbacks if isinstance(one, EasinessCallback)]
        seen = {name: getattr(pl_module, name) for name in ("batches", "steps", "whole", "logits", "validations")}
        seen |= {"lengths": self.lengths, "selected": self.selected, "states": self.states}
        seen |= {"lr": trainer.optimizers[0].param_groups[0]["lr"], "num_steps": trainer.global_step}
        seen |= {"weights": dict(pl_module.state_dict()), "data_use": [one.usage.data_use for one in callbacks]}
        torch.save(seen, self.path.with_name(f"{self.path.name}-{trainer.global_rank}.pt"))


def fit(folder: Path, data: Any, name: str = "seen", callbacks: Any = (), lr: float = 0.05, **options: Any) -> None:
    kind = options.pop("kind", Learns)
    ckpt_path = options.pop("ckpt_path", None)
    seed_everything(5, verbose=False)
    options = {"strategy": "ddp", "devices": DEVICES["n"], "max_epochs": 4, **options}
    made = trainer(callbacks=[*callbacks, Keeps(folder / name)], **options)
    made.fit(kind(lr), datamodule=data, ckpt_path=ckpt_path)


def registered(folder: Path) -> None:
    """Every selection of the contracts, at weights that do not move and are alike for any number of processes."""
    for number, (name, case) in enumerate(SELECTIONS.items()):
        data = case.data(IndexedBase(batch_size=4))["datamodule"]
        kind = Drifts if "AlignPrune" in name else Learns  # a course that does not change says nothing
        fit(folder, data, str(number), case.callbacks(folder / "records" / str(number)), lr=0.0, kind=kind)


def batch_losses(folder: Path) -> None:
    """Batches of twelve of all processes together, which hold the same examples in the first epoch."""
    for number, name in enumerate(BATCH_RULES):
        case = SELECTIONS[name]
        data = case.data(IndexedBase(48, batch_size=12 // DEVICES["n"]))["datamodule"]
        callbacks = case.callbacks(folder / "records" / str(number))
        fit(folder, data, str(number), callbacks, lr=0.0, max_epochs=3)


class Breaks(Callback):
    """Raises an error in all processes after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise InterruptedError("on purpose")


def batch_losses_saved(folder: Path) -> None:
    """The checkpoints of the sixth step, in the middle of the second epoch: saved by all, and on an error there."""
    keepers = {
        "saved": [ModelCheckpoint(folder, filename="{step}", every_n_train_steps=6, save_top_k=-1)],
        "stopped": [Breaks(6), OnExceptionCheckpoint(folder, "stopped")],
    }
    for name, callbacks in keepers.items():
        data = EasinessDataModule(IndexedBase(48, batch_size=12 // DEVICES["n"]), BatchLoss(early_epochs=1))
        with suppress(InterruptedError):
            fit(folder, data, name, callbacks, enable_checkpointing=True, max_epochs=9)


def by_hand(folder: Path) -> None:
    for name, ours, theirs in (("some", Keep(OverSubset.kept), OverSubset), ("all", Keep(range(53)), IndexedBase)):
        fit(folder, EasinessDataModule(IndexedBase(), ours), f"{name}-ours", max_epochs=2)
        fit(folder, theirs(), f"{name}-by-hand", max_epochs=2)


def merged(folder: Path) -> None:
    """Trains on the validation examples too, alone and under a selection."""
    for name, selection in (("all", None), ("some", Sizes([24, 60, 12, 48]))):
        callbacks = [EasinessCallback(folder / "records" / name, probe="val")]
        data = EasinessDataModule(NumberedBase(batch_size=4), selection, train_on_val=True)
        fit(folder, data, name, callbacks, lr=0.0)


def lengths(folder: Path) -> None:
    data = EasinessDataModule(IndexedBase(batch_size=4), Sizes([24, 53, 12, 48, 30]))
    fit(folder, data, callbacks=[EasinessCallback(folder / "record")], max_epochs=5)


class Unseeded(Selection):
    """Draws differently by rank: what rank 0 draws counts."""

    needs = Needs(every="epoch")

    def select(self, state: SelectionState) -> Tensor:
        stream = torch.Generator().manual_seed(torch.distributed.get_rank())
        return torch.randperm(state.num_examples, generator=stream)[:24]


def unseeded(folder: Path) -> None:
    fit(folder, EasinessDataModule(IndexedBase(batch_size=4), Unseeded()), max_epochs=1)


def resumed(folder: Path) -> None:
    """Stopped in the second epoch's middle; the first epoch has one batch a process of at least three."""
    keeper = ModelCheckpoint(folder / "kept", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    path = folder / "kept" / f"step={ceil(12 / (4 * DEVICES['n'])) + 1}.ckpt"
    for name, ckpt_path in (("whole", None), ("resumed", path)):
        data = EasinessDataModule(IndexedBase(batch_size=4), Sizes([12, 48, 24]))
        options = {"callbacks": [keeper], "enable_checkpointing": True, "max_epochs": 3, "ckpt_path": ckpt_path}
        fit(folder, data, name, **options)


def trained(folder: Path, *levels: Any, observed: bool = False, **options: Any) -> None:
    """A fit of SampleEasinessTraining."""
    callbacks = [EasinessCallback(folder / "record", probe=None, sigma2=SIGMA2)] if observed else []
    selection = SampleEasinessTraining(levels or ("medium",), 1, **options)
    reader = None if observed else BatchReader(sigma2=SIGMA2)
    fit(folder, EasinessDataModule(IndexedBase(batch_size=4), selection, reader=reader), callbacks=callbacks)


class Returns(Traces):
    """Like Learns, but knows nothing of weights: it returns one loss per example."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net, self.lr = Learns(lr).net, lr  # as in a fit of Learns
        self.steps, self.whole, self.logits = [], [], []

    configure_optimizers = Learns.configure_optimizers

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
        return nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")


def returned(folder: Path) -> None:
    """One selection with weights, once in a module that takes them and once in one that returns its losses."""
    for name, kind in (("taken", Learns), ("returned", Returns)):
        for per in ("epoch", "batch"):
            selection = SampleEasinessTraining(("medium",), 1, others_share=SHARE, per=per)
            data = EasinessDataModule(IndexedBase(batch_size=4), selection, reader=BatchReader(sigma2=SIGMA2))
            fit(folder, data, f"{name}-{per}", kind=kind, accumulate_grad_batches=2, gradient_clip_val=0.5)


def learning(folder: Path) -> None:
    trained(folder, others_share=SHARE, final_epochs=1)


def by_batch(folder: Path) -> None:
    trained(folder, others_share=SHARE, per="batch", minimum=1, observed=True)


def skipping(folder: Path) -> None:
    """Of batches of two a process keeps nothing, one or both; then with batch norm, which refuses a single one."""
    for name, kind, batch_size in (("plain", Learns, 2), ("norm", Normed, 4)):
        selection = SampleEasinessTraining(("medium",), 1, per="batch")
        data = EasinessDataModule(IndexedBase(batch_size=batch_size), selection)
        callback = EasinessCallback(folder / "record" / name, probe=None, sigma2=SIGMA2)
        fit(folder, data, name, [callback], kind=kind)


def online(folder: Path) -> None:
    trained(folder, *LEVELS_ONLINE, online=True, rescore_every_n_epochs=None, observed=True)


def workers(folder: Path) -> None:
    """With workers that stay, and with new ones for each epoch; leaves how often each rank started some."""
    kind, starts, own = (
        dataloader._MultiProcessingDataLoaderIter,
        [],
        dataloader._MultiProcessingDataLoaderIter.__init__,
    )
    kind.__init__ = lambda self, loader: (starts.append(loader.persistent_workers), own(self, loader))[1]
    for name in ("kept", "fresh"):
        if name == "fresh":
            of_fit.can_keep_workers = lambda loader: False
        starts.clear()
        loading = {"batch_size": 4, "num_workers": 1, "persistent_workers": True}
        fit(folder, EasinessDataModule(IndexedBase(**loading), Sizes([24, 53, 12])), name, max_epochs=3)
        (folder / f"{name}-starts-{torch.distributed.get_rank()}").write_text(str(sum(starts)))


def main(arguments: list[str]) -> None:
    devices, folder, *scenarios = arguments
    DEVICES["n"] = int(devices)
    for name in scenarios:
        globals()[name](Path(folder) / name)


if __name__ == "__main__":
    main(sys.argv[1:])
