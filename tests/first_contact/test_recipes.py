"""The same folder again, after something has changed: nothing old is passed off as new, and nothing is mixed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_easiness import EasinessCallback, EasinessRecord, find_label_issues, repeat_fit
from tests.made_runs import load_and_catch
from tests.small import Net, Points, loader, trainer


class Line(Net):
    """A regression."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self(x), y)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().squeeze(1)


class SplitAtRandom(LightningDataModule):
    """Splits its data as tutorials do, without a generator."""

    def setup(self, stage: str) -> None:
        x = Points(40).x.float()
        self.train, self.val = random_split(TensorDataset(x, x.sum(1, keepdim=True)), [30, 10])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=8, shuffle=True)


class CutByHand(SplitAtRandom):
    """Splits its data without a Subset, so that no index tells which examples they are."""

    def setup(self, stage: str) -> None:
        x = Points(40).x.float()[torch.randperm(40)[:30]]
        self.train = TensorDataset(x, x.sum(1, keepdim=True))


def make_trainer(**options: Any) -> Any:
    return lambda: trainer(callbacks=[EasinessCallback(num_images=0, **options)])


@pytest.mark.parametrize("data", [SplitAtRandom, CutByHand])
def test_a_data_set_that_is_split_anew_for_each_seed(data: type[SplitAtRandom], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other examples") as caught:
        repeat_fit(make_trainer(loss_fn=squared_error), Line, data(), range(3), tmp_path, progress=False)
    message = str(caught.value)
    assert message.startswith(f"Run 'seed-0' in '{tmp_path}' was trained on other examples (")
    assert message.endswith(
        ", and such runs cannot be averaged: where the data are split at random, fix the split, as random_split(...,"
        " generator=torch.Generator().manual_seed(0)), and give other data another `dirpath`, or delete"
        f" '{tmp_path}' to train everything anew."
    )
    assert EasinessRecord.load(tmp_path).runs == ["seed-0"], "the second run is refused before it trains"


class Slow(Net):
    """Its learning rate stands in its code."""

    LR = 0.1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.LR)


@pytest.mark.parametrize("seeds", [range(2), range(3)], ids=["the same seeds", "one more seed"])
def test_another_learning_rate_in_the_same_folder(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeat_fit(make_trainer(), Slow, loader(), range(2), tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(Slow, "LR", 0.5)
    with pytest.raises(ValueError, match="recipe") as caught:
        repeat_fit(make_trainer(), Slow, loader(), seeds, tmp_path, progress=False)
    assert str(caught.value) == (
        f"Run 'seed-0' in '{tmp_path}' was trained by another recipe (optimizers.0.lr: 0.1 then, 0.5 now): give another"
        f" `dirpath`, delete '{tmp_path}' to train everything anew, or go back to the recipe of then."
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class Diverges(Net):
    """Loses its weights in the first epoch where it is told to."""

    def __init__(self, diverges: bool) -> None:
        super().__init__()
        self.diverges = diverges

    def on_train_epoch_end(self) -> None:
        if self.diverges:
            self.net[-1].weight.data.fill_(torch.nan)


def test_three_unseeded_trainings_of_which_one_diverged_and_one_is_shorter(tmp_path: Path) -> None:
    for diverges, max_epochs in ((False, 2), (True, 2), (False, 1)):
        callback = EasinessCallback(tmp_path / "easiness", num_images=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the training that diverges
            trainer(callbacks=[callback], max_epochs=max_epochs).fit(Diverges(diverges), loader())
    record, said = load_and_catch(tmp_path / "easiness")
    assert record.runs == ["run-0", "run-1"]
    shorter = (
        "Left out: Run 'run-2', as run 'run-2' and run 'run-0' are of different recipes (max_epochs: 1 and 2): to load"
        " it instead, runs=['run-2']."
    )
    diverged = (
        "Run 'run-1' seems to have diverged (its losses are NaN or infinite) and is in every mean: leave it out with"
        " runs=[...], or delete its folder and train it again."
    )
    assert said == [shorter, diverged]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        find_label_issues(tmp_path / "easiness")
    assert {shorter, diverged} <= {str(warning.message) for warning in caught}
