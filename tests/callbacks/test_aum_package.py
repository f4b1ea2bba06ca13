"""The online area under the margin is that of PyPI's `aum`, fed by hand from the same training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import loader, trainer

aum = pytest.importorskip("aum")
datasets = pytest.importorskip("sklearn.datasets")

EPOCHS, TOLERANCE = 5, 5e-6  # margins here are below 30


class Digits(Dataset):
    """The handwritten digits of scikit-learn, a tenth of the labels wrong; with their indices, as `aum` needs them."""

    def __init__(self) -> None:
        pixels, labels = datasets.load_digits(return_X_y=True)
        self.x, self.y = torch.from_numpy(pixels).float() / 16, torch.from_numpy(labels).long()
        self.y[::10] = (self.y[::10] + 1) % 10

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        return self.x[index], self.y[index], index


class Fed(LightningModule):
    """Feeds an `AUMCalculator` in its training step, as that package's guide says."""

    def __init__(self, calculator: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
        self.calculator = calculator

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, index = batch
        logits = self(x)
        self.calculator.update(logits, y, index.tolist())
        return nn.functional.cross_entropy(logits, y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("size", [64, 100])  # the last batch is one of 5, or of 97
def test_area_under_margin_is_that_of_the_package(size: int, tmp_path: Path) -> None:
    calculator = aum.AUMCalculator(str(tmp_path / "aum"), compressed=True)
    seed_everything(0, verbose=False)
    callback = EasinessCallback(tmp_path / "easiness", probe=None, num_images=0)
    trainer(max_epochs=EPOCHS, callbacks=[callback]).fit(Fed(calculator), loader(Digits(), batch_size=size))

    calculator.finalize()
    with open(tmp_path / "aum" / "aum_values.csv", newline="") as file:
        theirs = {int(row["sample_id"]): float(row["aum"]) for row in csv.DictReader(file)}
    scores = EasinessRecord.load(tmp_path / "easiness", "train-online").score("area_under_margin")
    assert scores.higher_is_easier
    assert sorted(theirs) == list(range(len(scores.values)))
    expected = torch.tensor([theirs[index] for index in range(len(theirs))], dtype=torch.float64)
    assert set(calculator.counts.values()) == {EPOCHS}

    # theirs adds in float64 what ours keeps as float32
    torch.testing.assert_close(scores.values.double(), expected, rtol=0, atol=TOLERANCE)
    ours, order = scores.hardest(1.0), expected.argsort(stable=True)
    assert ((expected[ours] - expected[order]).abs() <= 2 * TOLERANCE).all()  # places change between equal ones alone
    assert (ours == order).double().mean() > 0.99
    wrong = torch.arange(0, len(expected), 10)
    found = torch.isin(scores.hardest(0.1), wrong).double().mean()
    assert found > 0.8  # a training that learnt, so that the agreement means something
