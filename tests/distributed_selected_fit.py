"""Fits on selections in several processes, for test_datamodule_distributed.py; each rank leaves a file of its own.

python -m tests.distributed_selected_fit <strategy> <number of processes> <folder> <scenario> ...
"""

from __future__ import annotations

import sys
from math import ceil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import Subset

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, Keep, Selection
from lightning_easiness.select.base import SelectionState
from tests.selecting import Base, HighestLoss, IndexedBase, IndexedPoints, Sizes, Traces, scores
from tests.small import trainer

STRATEGY: dict[str, Any] = {}
KEPT = list(range(1, 50, 3))


class OverSubset(Base):
    def setup(self, stage: str) -> None:
        self.train = Subset(IndexedPoints(self.n), KEPT)


class Scheduled(Traces):
    """Without batch norm, whose statistics differ by rank; its learning rate falls with each step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Keeps(Callback):
    """Leaves what a rank saw when training ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lengths: list[int] = []
        self.selected: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.lengths.append(int(trainer.num_training_batches))
        selected = getattr(trainer.datamodule, "selected_indices", None)
        if selected is not None:
            self.selected.append(selected)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        seen = {
            "batches": pl_module.batches,
            "lengths": self.lengths,
            "selected": self.selected,
            "validations": pl_module.validations,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "steps": trainer.global_step,
            "weights": dict(pl_module.state_dict()),
            "losses": pl_module.losses,
        }
        torch.save(seen, self.path.with_name(f"{self.path.name}-{trainer.global_rank}.pt"))


def fit(folder: Path, data: LightningDataModule, name: str = "seen", callbacks: Any = (), **options: Any) -> None:
    ckpt_path = options.pop("ckpt_path", None)
    seed_everything(5, verbose=False)
    made = trainer(callbacks=[*callbacks, Keeps(folder / name)], **{**STRATEGY, **options})
    made.fit(Scheduled(), datamodule=data, ckpt_path=ckpt_path)


def once(folder: Path) -> None:
    """A selection made once, and what users do by hand."""
    fit(folder, EasinessDataModule(IndexedBase(), Keep(KEPT)), "ours")
    fit(folder, OverSubset(), "by hand")


def kept_all(folder: Path) -> None:
    fit(folder, EasinessDataModule(IndexedBase(), Ablation(scores(), 0.0)), "ours")
    fit(folder, IndexedBase(), "by hand")


def lengths(folder: Path) -> None:
    sizes = Sizes([24, 53, 12, 48, 30])
    fit(
        folder,
        EasinessDataModule(IndexedBase(batch_size=4), sizes),
        max_epochs=5,
        callbacks=[EasinessCallback(folder / "record")],
    )


def observed(folder: Path) -> None:
    """The rule looks at the weights, which are the same whatever the number of processes before the first step."""
    fit(folder, EasinessDataModule(IndexedBase(batch_size=4), HighestLoss(0.6)), max_epochs=2)


class Unseeded(Selection):
    """Draws from the global stream, which differs by rank: what rank 0 draws counts."""

    every_epoch = True

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def select(self, state: SelectionState) -> Tensor:
        return torch.randperm(state.num_examples, generator=torch.Generator().manual_seed(self.rank))[:24]


class ByRank(EasinessDataModule):
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.selection.rank = self.trainer.global_rank


def unseeded(folder: Path) -> None:
    fit(folder, ByRank(IndexedBase(batch_size=4), Unseeded(0)), max_epochs=1)


def resumed(folder: Path) -> None:
    """Stopped in the second epoch's middle; the first epoch has one batch a process of at least three."""
    sizes = [12, 48, 24]
    keeper = ModelCheckpoint(folder / "kept", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    first_steps = ceil(12 / (4 * STRATEGY["devices"])) + 1
    options = {"callbacks": [keeper], "enable_checkpointing": True, "max_epochs": 3}
    fit(folder, EasinessDataModule(IndexedBase(batch_size=4), Sizes(sizes)), "whole", **options)
    path = folder / "kept" / f"step={first_steps}.ckpt"
    fit(folder, EasinessDataModule(IndexedBase(batch_size=4), Sizes(sizes)), "resumed", ckpt_path=path, **options)


def main(arguments: list[str]) -> None:
    strategy, devices, folder, *scenarios = arguments
    STRATEGY.update(strategy=strategy, devices=int(devices))
    for name in scenarios:
        globals()[name](Path(folder) / name)


if __name__ == "__main__":
    main(sys.argv[1:])
