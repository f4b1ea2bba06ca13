"""Lightning alone, without this package: how it resumes from a checkpoint of an epoch's last batch, as the docs say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Subset

from tests.small import Net, Points, trainer

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")
EPOCHS, BATCH = 4, 10


class Lengths(LightningDataModule):
    """So many batches in each epoch, in an order of its own."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        super().__init__()
        self.lengths = lengths

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        epoch = self.trainer.current_epoch
        order = torch.randperm(60, generator=torch.Generator().manual_seed(epoch))[: BATCH * self.lengths[epoch]]
        return DataLoader(Subset(Points(60), order.tolist()), batch_size=BATCH)


def batches(folder: Path, lengths: tuple[int, ...], resumed: Path | None = None) -> list[tuple[int, int]]:
    """Train, and return the epoch and the number of each batch trained on."""
    seed_everything(1, verbose=False)
    module, seen = Net(), []
    module.on_train_batch_start = lambda batch, place: seen.append((module.current_epoch, place))  # type: ignore
    saves = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    options = {"max_epochs": EPOCHS, "enable_checkpointing": True, "reload_dataloaders_every_n_epochs": 1}
    fit = trainer(callbacks=[saves], **options)
    fit.fit(module, datamodule=Lengths(lengths), ckpt_path=resumed)
    return seen


def test_batches_of_a_longer_next_epoch_are_skipped(tmp_path: Path) -> None:
    whole = batches(tmp_path, (6, 3, 4, 5))
    assert batches(tmp_path / "again", (6, 3, 4, 5), tmp_path / "step=6.ckpt") == whole[6:], "a shorter one is whole"
    assert batches(tmp_path / "longer", (6, 3, 4, 5), tmp_path / "step=9.ckpt") == [(2, 3), *whole[13:]]


@pytest.mark.parametrize("first", [6, 12])
def test_checkpoints_of_a_training_so_resumed_repeat_an_epoch(tmp_path: Path, first: int) -> None:
    whole = batches(tmp_path, (6,) * EPOCHS)
    assert batches(tmp_path / "once", (6,) * EPOCHS, tmp_path / f"step={first}.ckpt") == whole[first:]
    twice = batches(tmp_path / "twice", (6,) * EPOCHS, tmp_path / f"once/step={first + 6}.ckpt")
    assert twice == whole[first:], "and not the last of it"
