"""`Keep.from_decisions` in a fit: the decisions made on a report decide what is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessDataModule, Keep, Selection
from lightning_easiness.data.decisions import whole_fingerprint
from lightning_easiness.data.identity import DataIdentity
from tests.small import QUIET, Net

TARGET = torch.arange(24) % 4
ROWS = [
    {"example": 2, "decision": "drop", "given": 2},
    {"example": 5, "decision": "relabel", "label": 0, "given": 1},
    {"example": 7, "decision": "keep", "given": 3},
]


class SeesLabels(Net):
    """Keeps the number and the label of each example that it trains on; x[0] is the number."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen = {
            **getattr(self, "seen", {}),
            **dict(zip(batch[0][:, 0].int().tolist(), batch[1].tolist(), strict=True)),
        }
        return super().training_step(batch, batch_idx)


class Data(LightningDataModule):
    def __init__(self, target: Tensor = TARGET) -> None:
        super().__init__()
        numbers = torch.arange(len(target)).float()[:, None].expand(-1, 8)
        self.dataset = TensorDataset(numbers.contiguous(), target)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, batch_size=4, shuffle=True)


def write(folder: Path, target: Tensor = TARGET) -> Path:
    about: dict[str, Any] = {"format": "lightning_easiness.decisions", "version": 1, "num_examples": len(target)}
    path = folder / "decisions.json"
    path.write_text(
        json.dumps({**about, "fingerprints": whole_fingerprint(DataIdentity.of_target(target)), "decisions": ROWS})
    )
    return path


def test_a_fit_leaves_out_what_was_dropped_and_trains_with_the_new_labels(tmp_path: Path) -> None:
    module = SeesLabels()
    data = EasinessDataModule(Data(), selection=Keep.from_decisions(write(tmp_path)))
    Trainer(**QUIET).fit(module, datamodule=data)
    wanted = {number: label for number, label in enumerate(TARGET.tolist()) if number != 2}
    assert module.seen == {**wanted, 5: 0}


def test_decisions_of_another_data_set_stop_the_fit_before_training(tmp_path: Path) -> None:
    module = SeesLabels()
    data = EasinessDataModule(Data(TARGET.flip(0)), selection=Keep.from_decisions(write(tmp_path)))
    with pytest.raises(ValueError, match="not of the same data"):
        Trainer(**QUIET).fit(module, datamodule=data)
    assert not hasattr(module, "seen")


def test_without_a_new_label_the_items_are_not_touched(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("relabel", "keep"))
    assert Keep.from_decisions(path).new_labels is None


def test_yaml_names_a_decisions_file(tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--selection", type=Selection)
    class_path = "lightning_easiness.select.static.Keep.from_decisions"
    config = {"selection": {"class_path": class_path, "init_args": {"path": str(write(tmp_path))}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    parsed = parser.parse_args(["--config", str(tmp_path / "config.yaml")])
    made = (getattr(parser, "instantiate", None) or parser.instantiate_classes)(parsed)
    assert made.selection.indices.tolist() == [number for number in range(24) if number != 2]
