"""A datamodule of the user's own in LightningCLI's YAML, wrapped by EasinessDataModule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from lightning_easiness import EasinessDataModule, EasinessRecord
from tests.small import Net, Points

pytest.importorskip("jsonargparse")


class PointsData(LightningDataModule):
    """Reads all of its settings from its hyperparameters, as Lightning's own examples do."""

    def __init__(self, num_points: int = 40, batch_size: int = 8, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        self.train = Points(self.hparams.num_points)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True, **(self.hparams.options or {}))

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Points(20, seed=5), self.hparams["batch_size"])


CONFIG = """
seed_everything: 3
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_easiness.EasinessCallback
      init_args: {{dirpath: {folder}}}
data:
  class_path: lightning_easiness.EasinessDataModule
  init_args:
    datamodule:
      class_path: tests.first_contact.test_yaml.PointsData
      init_args: {{num_points: 30, batch_size: 4, options: {{drop_last: true}}}}
    selection:
      class_path: lightning_easiness.Keep
      init_args: {{indices: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20]}}
"""


def test_a_wrapped_datamodule_with_saved_hyperparameters_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.yaml").write_text(CONFIG.format(folder=tmp_path / "easiness"))
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--config=given.yaml"])
    cli = LightningCLI(Net)
    data = cli.datamodule
    assert isinstance(data, EasinessDataModule)
    given = {"num_points": 30, "batch_size": 4, "options": {"drop_last": True}}
    assert {name: value for name, value in data.hparams.items() if not name.startswith("_")} == given
    assert cli.trainer.global_step == 2, "11 examples in batches of 4, without the rest"
    record = EasinessRecord.load(tmp_path / "easiness", "train-online")
    assert (record.num_examples, int((record.count > 0).sum())) == (30, 8)
    assert (tmp_path / "given.yaml").read_text() == CONFIG.format(folder=tmp_path / "easiness")
