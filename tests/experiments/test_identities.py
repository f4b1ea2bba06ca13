"""Runs on other examples are never averaged, whatever the targets are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from lightning_easiness import EasinessCallback, EasinessRecord, repeat_fit
from lightning_easiness.record.layout import is_complete
from tests.small import trainer

N = 60
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
TARGETS: dict[str, Tensor] = {
    "floats": X[:, 0] * 2,
    "columns": X[:, :2] * 2,
    "labels": (X[:, :3] > 0).float(),
    "pixels": (X[:, :4].reshape(N, 2, 2) > 0).long(),
}


class Listed(Dataset):
    """Examples that nobody can list without reading them."""

    def __init__(self, x: Tensor, y: Any) -> None:
        self.held = [(one, y[at]) for at, one in enumerate(x)]

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> Any:
        return self.held[index]


class Anything(LightningModule):
    """Predicts the sum of the inputs, whatever is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def loss_fn(prediction: Tensor, target: Any) -> Tensor:
    return prediction.square().flatten(1).mean(1)


class Split(LightningDataModule):
    """Splits the data in `setup`, by the run's seed."""

    def __init__(self, make: Callable[[], Dataset]) -> None:
        super().__init__()
        self.make = make

    def setup(self, stage: str) -> None:
        self.train = self.make()

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=8, shuffle=True)


def repeat(folder: Path, data: Any, seeds: Any = (1, 2), **options: Any) -> EasinessRecord:
    def make_trainer() -> Any:
        return trainer(max_epochs=1, callbacks=[EasinessCallback(loss_fn=loss_fn, **options)])

    return repeat_fit(make_trainer, Anything, data, seeds=seeds, dirpath=folder, progress=False)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("probe", ["train", None])
def test_an_unseeded_random_split_is_refused_before_the_second_run_trains(
    tmp_path: Path, target: str, probe: Any
) -> None:
    data = Split(lambda: random_split(Listed(X, TARGETS[target]), [40, 20])[0])
    with pytest.raises(ValueError, match=r"^Run 'seed-1' in .* was trained on other examples .*fix the split"):
        repeat(tmp_path, data, probe=probe)
    assert is_complete(tmp_path / "seed-1")
    assert not (tmp_path / "seed-2").exists()


def test_tensors_that_are_cut_by_hand_are_too(tmp_path: Path) -> None:
    def cut() -> Dataset:
        part = torch.randperm(N)[:40]
        return TensorDataset(X[part], TARGETS["floats"][part])

    with pytest.raises(ValueError, match=r"other examples \(other targets, other values in the first"):
        repeat(tmp_path, Split(cut))
    assert not (tmp_path / "seed-2").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_other_targets_are_known_after_the_second_run_and_on_load(tmp_path: Path, target: str) -> None:
    def cut() -> Dataset:
        part = torch.randperm(N)[:40]
        return Listed(X[part], TARGETS[target][part])

    message = r"^Run 'seed-1' and run 'seed-2' are not of the same data: example \d+ has another target in the first"
    with pytest.raises(ValueError, match=message):
        repeat(tmp_path, Split(cut), (1, 2, 3))
    assert not (tmp_path / "seed-3").exists()
    with pytest.warns(UserWarning, match=r"^Left out: Run 'seed-1', as .* another target .* runs=\['seed-1'\]"):
        assert EasinessRecord.load(tmp_path).runs == ["seed-2"]


@pytest.mark.parametrize("target", ["floats", "labels"])
def test_targets_are_known_without_an_evaluation_pass(tmp_path: Path, target: str) -> None:
    def cut() -> Dataset:
        part = torch.randperm(N)[:40]
        return Listed(X[part], TARGETS[target][part])

    with pytest.raises(ValueError, match="another target in the first than in the second"):
        repeat(tmp_path, Split(cut), probe=None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("probe", ["train", None])
def test_the_same_examples_are_the_same(tmp_path: Path, target: str, probe: Any) -> None:
    record = repeat(tmp_path, lambda: DataLoader(Listed(X, TARGETS[target]), 8, shuffle=True), probe=probe)
    assert record.num_runs == 2
    again = EasinessRecord.load(tmp_path)
    assert again.fingerprint == record.fingerprint
    assert (again.target == -1).all(), "no class indices"


def test_the_online_series_and_the_pass_know_the_same_targets(tmp_path: Path) -> None:
    for target in ("floats", "labels"):
        folder = tmp_path / target
        repeat(folder, lambda target=target: DataLoader(Listed(X, TARGETS[target]), 8, shuffle=True))
        one, other = (EasinessRecord.load(folder, series) for series in ("train-probe", "train-online"))
        assert one.identity.digest is not None
        assert torch.equal(one.identity.digest, other.identity.digest)
        assert one.fingerprint == other.fingerprint


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
@pytest.mark.filterwarnings("ignore:.*ModelCheckpoint:UserWarning")
def test_an_epoch_that_is_gone_on_with_knows_the_targets_of_before(tmp_path: Path) -> None:
    def fit(folder: str, order: range, saved: str | None = None, **options: Any) -> None:
        callback = EasinessCallback(tmp_path / "runs", run=folder, loss_fn=loss_fn, probe=None)
        keep = ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=3, save_top_k=-1)
        made = trainer(**{"max_epochs": 1, "callbacks": [callback, keep], "enable_checkpointing": True, **options})
        made.fit(Anything(), DataLoader(Listed(X, TARGETS["floats"]), 8, sampler=order), ckpt_path=saved)

    fit("resumed", range(N), max_steps=3)
    fit("resumed", range(N)[::-1], str(tmp_path / "mid.ckpt"))  # 40 others: Lightning begins a plain loader again
    fit("whole", range(N))
    whole, resumed = (EasinessRecord.load(tmp_path / "runs", runs=run).identity for run in ("whole", "resumed"))
    assert (whole.digest >= 0).all()
    assert torch.equal(whole.digest, resumed.digest)


class Unlabelled(Anything):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[0][:, :1])


def test_without_targets_it_is_the_source_indices(tmp_path: Path) -> None:
    def make_trainer() -> Any:
        callback = EasinessCallback(loss_fn=loss_fn, batch_fn=lambda batch: (batch[0], None))
        return trainer(max_epochs=1, callbacks=[callback])

    def split(seed: int) -> Any:
        part = random_split(Listed(X, X), [40, 20], generator=torch.Generator().manual_seed(seed))[0]
        return DataLoader(part, 8, shuffle=True)

    for seed in (1, 2):
        repeat_fit(make_trainer, Unlabelled, split(seed), [seed], tmp_path / str(seed), progress=False)
    records = [EasinessRecord.load(tmp_path / str(seed)) for seed in (1, 2)]
    assert records[0].fingerprint != records[1].fingerprint
    with pytest.raises(ValueError, match=r"example \d+ is item \d+ of its source in the first and \d+ in the second"):
        EasinessRecord.merge(*records)
