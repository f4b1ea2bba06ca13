"""Online observation: every example's numbers come from the step that trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    random_split,
)

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Keep
from lightning_easiness.observe.accumulate import StepList
from tests.plain_forward import Traces, check_online
from tests.selecting import IndexedPoints
from tests.small import Net, Points, loader, trainer
from tests.watching import MANY, watch_steps

# ------------------------------------------------------------------------------------------ loaders, models, options


def drops_some(examples: list[Any]) -> Any:
    """Collates to None where the first example's index is divisible by three: Lightning passes such batches over."""
    return None if int(examples[0][0][8]) % 3 == 0 else default_collate(examples)


class Unsized(Sampler[int]):
    """A sampler without a length, for which Lightning fetches a batch ahead."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(53).tolist())


class Lists(IndexedPoints):
    """A data set that is asked for whole batches."""

    def __getitem__(self, indices: Any) -> Any:
        return default_collate([super(Lists, self).__getitem__(index) for index in indices])


class Fetches(IndexedPoints):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Manual(Traces):
    """Optimizes by itself, and returns a dict."""

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


class ReadsTheLoader(Callback):
    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        next(iter(trainer.train_dataloader))


class Way(NamedTuple):
    """A way to train: the loader's options or the loader, the module, and the Trainer's options."""

    data: dict[str, Any] | Callable[[], DataLoader] = {}  # noqa: RUF012
    module: Callable[[], Traces] = Traces
    options: dict[str, Any] = {}  # noqa: RUF012


WITH_REPLACEMENT = WeightedRandomSampler(torch.arange(1.0, 54), 70, replacement=True)
WAYS: dict[str, Way] = {
    "two workers": Way({"num_workers": 2}),
    "persistent workers": Way({"num_workers": 2, "persistent_workers": True}),
    "out of order": Way({"num_workers": 2, "in_order": False}),
    "drop last": Way({"drop_last": True}),
    "with replacement": Way({"shuffle": False, "sampler": WITH_REPLACEMENT}),
    "batches that are None": Way({"collate_fn": drops_some}),
    "no length": Way({"shuffle": False, "sampler": Unsized()}),
    "whole index lists": Way(
        lambda: DataLoader(
            Lists(), sampler=BatchSampler(RandomSampler(IndexedPoints()), 8, drop_last=False), batch_size=None
        )
    ),
    "fetches lists": Way(lambda: loader(Fetches())),
    "lbfgs": Way(module=lambda: Traces("lbfgs")),
    "manual optimization": Way(module=Manual),
    "another callback reads the loader": Way(options={"callbacks": [ReadsTheLoader()]}),
    **{
        str(options): Way(options=options)
        for options in (
            {"accumulate_grad_batches": 3},
            {"precision": "bf16-mixed"},
            {"reload_dataloaders_every_n_epochs": 1},
            {"limit_train_batches": 3},
            {"overfit_batches": 2},
            {"max_steps": 9, "max_epochs": -1},
        )
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:train_dataloader yielded None", "ignore:You requested to overfit")
def test_every_value_is_that_of_the_step(way: str, tmp_path: Path) -> None:
    """Examples that no step saw have neither loss nor target."""
    data, make, options = WAYS[way]
    if way == "out of order" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
        pytest.skip("in_order came later")
    module, callbacks = make(), [*options.get("callbacks", []), EasinessCallback(tmp_path, probe=None)]
    made = data() if callable(data) else loader(IndexedPoints(), **data)
    trainer(**{**options, "callbacks": callbacks}).fit(module, made)
    assert module.trace
    check_online(EasinessRecord.load(tmp_path, series="train-online"), module.trace)


def test_a_subset_counts_in_its_own_indices_and_leads_to_its_source(tmp_path: Path) -> None:
    part = random_split(Points(), [40, 13], torch.Generator().manual_seed(0))[1]
    held_out = loader(Subset(Subset(Points(20), range(3, 20)), [5, 1, 4]), shuffle=False)
    callback = EasinessCallback(tmp_path, probe=held_out)
    trainer(callbacks=[callback]).fit(Net(), EasinessDataModule(loader(part), Keep(range(2, 13))))
    trained = EasinessRecord.load(tmp_path, "train-online")
    assert trained.num_examples == 13
    assert trained.source_index.tolist() == list(part.indices)
    kept = trained.target >= 0
    assert torch.equal(trained.target[kept], Points().y[trained.source_index[kept]])
    assert EasinessRecord.load(tmp_path, "loader-probe").source_index.tolist() == [8, 4, 7]


def test_a_whole_data_set_has_no_source_indices(tmp_path: Path) -> None:
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Net(), loader())
    for series in ("train-probe", "train-online"):
        assert EasinessRecord.load(tmp_path, series).source_index is None


def test_nan_losses_are_recorded_as_such(tmp_path: Path) -> None:
    class Breaks(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1] > 1, torch.nan, super().forward(x))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).nanmean()

    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Breaks(), loader())
    unknown = Points().x[:, 0] > 1
    for series in ("train-probe", "train-online"):
        record = EasinessRecord.load(tmp_path, series=series)
        assert torch.equal(record.loss[0, -1].isnan(), unknown)
        assert record.num_nan.tolist() == [int(unknown.sum())] * record.num_checkpoints
        assert not record.correct[0, -1][unknown].any()
        for score in ("count", "mean_loss"):
            with pytest.warns(UserWarning, match=f"{int(unknown.sum())} of 53 examples have no {score}"):
                scores = record.score(score)
            assert torch.equal(scores.values.isnan(), unknown)
            assert not unknown[scores.hardest(1.0)].any()


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

    class Raw(Manual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[:, :8])

        def optimizers(self) -> Any:
            return super().optimizers(use_pl_optimizer=False)

    callback = EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0, 3))
    trainer(callbacks=[callback]).fit(Raw(), loader(IndexedPoints()))
    assert EasinessRecord.load(tmp_path, "train-probe").steps.tolist() == [0, 3, 7, 14]
    assert EasinessRecord.load(tmp_path, "train-online").epochs.tolist() == [0, 1]


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


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_step_reads_nothing_back_and_holds_nothing_as_long_as_the_data(
    probabilities: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch_steps(monkeypatch)
    monkeypatch.setattr(StepList, "_MERGE_EVERY", 2)
    callback = EasinessCallback(tmp_path, probe=None, probabilities=probabilities)
    trainer(callbacks=[callback], max_epochs=1, limit_train_batches=5).fit(Net(), loader(Points(MANY)))
    assert watched == [False] * 5
    assert EasinessRecord.load(tmp_path).count.sum() == 40
