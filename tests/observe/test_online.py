"""Online observation: every example's numbers come from the step that trained on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder, ModelCheckpoint
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
)

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.plain_forward import Traces
from tests.selecting import IndexedPoints
from tests.small import Net, Points, loader, trainer


def check(record: EasinessRecord, module: Traces) -> None:
    """Holds every value of an online series against the trace."""
    for checkpoint, epoch in enumerate(record.epochs.tolist()):
        for index in range(record.num_examples):
            seen = [entry for entry in module.trace if entry[:2] == (epoch, index)]
            count, loss, margin, correct = (
                record.field(name)[0, checkpoint, index] for name in ("count", "loss", "margin", "correct")
            )
            assert count == len(seen)
            mean = [sum(entry[column] for entry in seen) / len(seen) if seen else math.nan for column in (2, 3)]
            assert [float(loss), float(margin)] == pytest.approx(mean, abs=1e-5, rel=1e-6, nan_ok=True)
            assert bool(correct) == (bool(seen) and sum(entry[4] for entry in seen) * 2 >= len(seen))


def observe(
    folder: Path, data: DataLoader, module: Traces | None = None, others: tuple[Callback, ...] = (), **options: Any
) -> EasinessRecord:
    module = module or Traces()
    trainer(callbacks=[*others, EasinessCallback(folder, probe=None)], **options).fit(module, data)
    assert module.trace
    record = EasinessRecord.load(folder, series="train-online")
    check(record, module)
    return record


def drops_small(examples: list[Any]) -> Any:
    """Collates to None where the first example's index is divisible by three: Lightning passes such batches over."""
    return None if int(examples[0][0][8]) % 3 == 0 else default_collate(examples)


class Unsized(Sampler[int]):
    """A sampler without a length, for which Lightning fetches a batch ahead."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(53).tolist())


LOADERS: dict[str, Any] = {
    "shuffled": lambda: loader(IndexedPoints()),
    "two workers": lambda: loader(IndexedPoints(), num_workers=2),
    "persistent workers": lambda: loader(IndexedPoints(), num_workers=2, persistent_workers=True),
    "drop last": lambda: loader(IndexedPoints(), drop_last=True),
    "with replacement": lambda: loader(
        IndexedPoints(), shuffle=False, sampler=WeightedRandomSampler(torch.arange(1.0, 54), 70, replacement=True)
    ),
    "batches that are None": lambda: loader(IndexedPoints(), collate_fn=drops_small),
    "no length": lambda: loader(IndexedPoints(), shuffle=False, sampler=Unsized()),
    "whole index lists": lambda: DataLoader(
        Lists(), sampler=BatchSampler(RandomSampler(IndexedPoints()), 8, drop_last=False), batch_size=None
    ),
    "fetches lists": lambda: loader(Fetches(), batch_size=8),
}


class Lists(IndexedPoints):
    """A data set that is asked for whole batches."""

    def __getitem__(self, indices: Any) -> Any:
        return default_collate([super(Lists, self).__getitem__(index) for index in indices])


class Fetches(IndexedPoints):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.filterwarnings("ignore:train_dataloader yielded None")
def test_every_loader(kind: str, tmp_path: Path) -> None:
    observe(tmp_path, LOADERS[kind]())


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7), reason="in_order came later")
def test_batches_out_of_order(tmp_path: Path) -> None:
    observe(tmp_path, loader(IndexedPoints(), num_workers=2, in_order=False))


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("lbfgs", {}),
        ("sgd", {"accumulate_grad_batches": 3}),
        ("sgd", {"precision": "bf16-mixed"}),
        ("sgd", {"reload_dataloaders_every_n_epochs": 1}),
        ("sgd", {"limit_train_batches": 3}),
        ("sgd", {"overfit_batches": 2}),
        ("sgd", {"max_steps": 9, "max_epochs": -1}),
    ],
)
@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_every_way_of_training(optimizer: str, options: dict[str, Any], tmp_path: Path) -> None:
    observe(tmp_path, loader(IndexedPoints()), Traces(optimizer), **options)


def test_manual_optimization_and_a_dict_returned(tmp_path: Path) -> None:
    class Manual(Traces):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # type: ignore[override]
            optimizer = self.optimizers()
            loss = super().training_step(batch, batch_idx)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return {"loss": loss, "logits": torch.zeros(2, 2)}

    observe(tmp_path, loader(IndexedPoints()), Manual())


def test_another_callback_reads_the_loader(tmp_path: Path) -> None:
    class Reads(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            next(iter(trainer.train_dataloader))

    observe(tmp_path, loader(IndexedPoints()), others=(Reads(),))


def test_a_subset_counts_in_its_own_indices(tmp_path: Path) -> None:
    subset = Subset(Points(), list(range(40, 53)))
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Net(), loader(subset))
    record = EasinessRecord.load(tmp_path)
    assert record.num_examples == 13
    assert torch.equal(record.target, Points().y[40:])


def test_examples_never_seen_have_neither_loss_nor_target(tmp_path: Path) -> None:
    record = observe(tmp_path, loader(IndexedPoints(), drop_last=True), max_epochs=1)
    unseen = record.count[0, 0] == 0
    assert int(unseen.sum()) == 53 % 8
    assert torch.equal(record.loss[0, 0].isnan(), unseen)
    assert torch.equal(record.target == -1, unseen)


def test_nan_losses_are_recorded_as_such(tmp_path: Path) -> None:
    class Breaks(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return torch.where(x[:, :1] > 1, torch.nan, logits)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).nanmean()

    points = Points()
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Breaks(), loader(points))
    expected = points.x[:, 0] > 1
    for series in ("train-probe", "train-online"):
        record = EasinessRecord.load(tmp_path, series=series)
        assert torch.equal(record.loss[0, -1].isnan(), expected)
        assert record.num_nan.tolist() == [int(expected.sum())] * record.num_checkpoints
        assert not record.correct[0, -1][expected].any()
        with pytest.warns(UserWarning, match="examples have no count"):
            assert torch.equal(record.score("count").values.isnan(), expected)
    with pytest.warns(UserWarning, match=f"{int(expected.sum())} of 53 examples have no mean_loss"):
        scores = record.score("mean_loss")
    assert not set(scores.hardest(1.0).tolist()) & set(expected.nonzero().flatten().tolist())


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("max_trials", [1, 2])
def test_a_tuner_that_loads_validation_while_it_trains(tmp_path: Path, max_trials: int) -> None:
    class Tuned(Net):
        batch_size = 4

        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(Points(52), self.batch_size, shuffle=True)

        def val_dataloader(self) -> DataLoader[Any]:
            return DataLoader(Points(52, seed=1), self.batch_size)

    callbacks = [EasinessCallback(tmp_path / "easiness"), BatchSizeFinder(max_trials=max_trials)]
    trainer(callbacks=callbacks, max_epochs=2, default_root_dir=tmp_path).fit(Tuned())
    record = EasinessRecord.load(tmp_path / "easiness", series="train-online")
    assert torch.equal(record.target, Points(52).y)  # each under its own index
    assert record.count.sum(-1).tolist() == [[52, 52]]


def test_epochs_of_raw_optimizers_have_steps_of_their_own(tmp_path: Path) -> None:
    """Lightning counts no steps of theirs, so that every epoch would be at step 0."""

    class Raw(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0, 3))]).fit(Raw(), loader())
    assert EasinessRecord.load(tmp_path).steps.tolist() == [0, 3, 7, 14]
    assert EasinessRecord.load(tmp_path, series="train-online").epochs.tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_steps_that_are_skipped(tmp_path: Path) -> None:
    """A step that returns None before it calls the model, and a rest of the epoch that a hook passes over."""

    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 4 else None

    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1)
    callbacks = [EasinessCallback(tmp_path / "easiness", every_n_epochs=1), keep]
    trainer(callbacks=callbacks, enable_checkpointing=True).fit(Skips(), loader(), loader(shuffle=False))
    record = EasinessRecord.load(tmp_path / "easiness", series="train-online")
    assert record.count.sum(-1).tolist() == [[24, 24]]
    assert EasinessRecord.load(tmp_path / "easiness").num_checkpoints == 2
