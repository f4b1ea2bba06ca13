"""SampleEasinessTraining in several processes, for test_sample_easiness_training_distributed.py; a file each rank.

python -m tests.distributed_set_fit <number of processes> <folder> <scenario> ...
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor, nn

from lightning_easiness import BatchReader, EasinessCallback, EasinessDataModule, SampleEasinessTraining
from tests.set_fits import SIGMA2, IndexedBase, Weighs
from tests.small import trainer

DEVICES: dict[str, int] = {}
SHARE = 0.4
LEVELS_ONLINE = ("medium", "hard")


class Learns(Weighs):
    """Without batch norm, whose statistics differ by rank; keeps each batch as it came, and the logits on it."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__("sgd")
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        with torch.no_grad():
            self.net[2].weight *= 8  # so that there are examples of all levels from the start
        self.lr = lr
        self.whole: list[tuple[int, list[int], dict[str, Tensor]]] = []
        self.logits: list[tuple[int, list[int], Tensor]] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer.training:
            state = {name: value.clone() for name, value in self.state_dict().items()}
            self.whole.append((self.current_epoch, batch[0][:, 8].long().tolist(), state))
        return batch

    def losses_of(self, batch: Any) -> Tensor:
        logits = self(batch[0])
        self.logits.append((self.current_epoch, batch[0][:, 8].long().tolist(), logits.detach()))
        return nn.functional.cross_entropy(logits, batch[1], reduction="none")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Keeps(Callback):
    """Leaves what a rank saw when training ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.selected: list[Tensor | None] = []
        self.states: list[dict[str, Tensor]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.selected.append(trainer.datamodule.selected_indices)
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        usage = [one.usage.data_use for one in trainer.callbacks if isinstance(one, EasinessCallback)]
        seen = {
            "selected": self.selected,
            "states": self.states,
            "steps": pl_module.steps,
            "whole": pl_module.whole,
            "logits": pl_module.logits,
            "weights": dict(pl_module.state_dict()),
            "data_use": usage,
        }
        torch.save(seen, self.folder / f"seen-{trainer.global_rank}.pt")


def fit(folder: Path, selection: SampleEasinessTraining, observed: bool = False, lr: float = 0.05) -> None:
    seed_everything(5, verbose=False)
    callbacks: list[Callback] = [Keeps(folder)]
    reader = None if observed else BatchReader(sigma2=SIGMA2)
    if observed:
        callbacks.append(EasinessCallback(folder / "record", probe=None, sigma2=SIGMA2))
    made = trainer(callbacks=callbacks, strategy="ddp", devices=DEVICES["n"], max_epochs=4, limit_val_batches=0)
    made.fit(Learns(lr), datamodule=EasinessDataModule(IndexedBase(batch_size=4), selection, reader=reader))


def training(*levels: Any, **options: Any) -> SampleEasinessTraining:
    return SampleEasinessTraining(levels or ("medium",), 1, **options)


def still(folder: Path) -> None:
    """Weights that do not move are the same for any number of processes."""
    fit(folder, training(others_share=SHARE), lr=0.0)


def still_by_loss(folder: Path) -> None:
    fit(folder, training("hard", by="loss", others_share=SHARE), lr=0.0)


def learning(folder: Path) -> None:
    fit(folder, training(others_share=SHARE, final_epochs=1))


def by_batch(folder: Path) -> None:
    fit(folder, training(others_share=SHARE, per="batch", minimum=1), observed=True)


def online(folder: Path) -> None:
    fit(folder, training(*LEVELS_ONLINE, online=True, rescore_every_n_epochs=None), observed=True)


def main(arguments: list[str]) -> None:
    devices, folder, *scenarios = arguments
    DEVICES["n"] = int(devices)
    for name in scenarios:
        globals()[name](Path(folder) / name)


if __name__ == "__main__":
    main(sys.argv[1:])
