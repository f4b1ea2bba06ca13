"""Probabilities averaged over training: the sums, and their values in a fit."""

from __future__ import annotations

import errno
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.observe import accumulate
from lightning_easiness.observe.accumulate import ProbabilitySums
from lightning_easiness.record.layout import open_probabilities, probabilities_path
from tests.made_runs import whole
from tests.plain_forward import Traces
from tests.resuming import Plain, Resumable
from tests.selecting import IndexedPoints
from tests.small import Net, assert_identical, loader, recorded, trainer

NAN = float("nan")

# ------------------------------------------------------------------ the sums, against plain loops


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9999)), max_size=5), max_size=8),
    cuts=st.sets(st.integers(0, 7)),
    ranks=st.sampled_from([1, 2, 3]),
    block=st.sampled_from([1, 7, 2**22]),
)
def test_sums_against_plain_loops(steps: list[list[tuple[int, int]]], cuts: set[int], ranks: int, block: int) -> None:
    """Whatever the cuts, the blocks and the number of processes, to the bit."""
    seen: dict[int, list[list[float]]] = {}
    processes = [ProbabilitySums(7, keeps=rank == 0) for rank in range(ranks)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(accumulate, "_BLOCK", block)
        for number, step in enumerate(steps):
            rows = [torch.randn(3, generator=torch.Generator().manual_seed(seed)).softmax(0).half() for _, seed in step]
            for (index, _), row in zip(step, rows, strict=True):
                seen.setdefault(index, []).append(row.tolist())
            if step:
                index = torch.tensor([index for index, _ in step])
                processes[number % ranks].add(index, torch.stack(rows))
            if number in cuts:
                fold(processes)
        fold(processes)
        means = processes[0].means()
    assert processes[0].count.tolist() == [len(seen.get(index, [])) for index in range(7)]
    assert all(process.means() is None for process in processes[1:])
    if means is None:
        assert not seen
        return
    for index in range(7):
        units = [[round(value * 2**20) for value in row] for row in seen.get(index, [])]
        wanted = np.array(units, dtype=np.float64).sum(0) / (len(units) * 2.0**20) if units else np.full(3, NAN)
        np.testing.assert_array_equal(means[index].numpy(), wanted.astype(np.float16))


def fold(processes: list[ProbabilitySums]) -> None:
    """Fold the processes as a collective would: all their parts first, then the sum for each."""
    barrier, parts = Barrier(len(processes), timeout=20), [torch.empty(0)] * len(processes)

    def work(rank: int) -> None:
        def reduce(values: Tensor) -> Tensor:
            parts[rank] = values
            barrier.wait()
            total = torch.stack(parts).sum(0).to(values.dtype)
            barrier.wait()
            return total

        processes[rank].fold(*([reduce] if len(processes) > 1 else []))

    with ThreadPoolExecutor(len(processes)) as pool:
        list(pool.map(work, range(len(processes))))


def add(sums: ProbabilitySums, index: list[int], rows: list[list[float]]) -> None:
    sums.add(torch.tensor(index), torch.tensor(rows).half())
    sums.fold()


def test_many_sightings_do_not_overflow() -> None:
    sums, again = ProbabilitySums(2), ProbabilitySums(2)
    for number in (2047, 1, 3000):
        add(sums, [0] * number, [[1.0, 0.0]] * number)
        assert sums.means()[0].tolist() == [1.0, 0.0]
    assert sums.count.tolist() == [5048, 0]
    assert sums.state()["sums"].dtype == torch.int64
    again.restore(sums.state())
    add(again, [1], [[0.0, 1.0]])
    assert again.means().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_softmax_of_nan_is_not_seen_and_a_state_is_a_copy() -> None:
    sums = ProbabilitySums(2)
    add(sums, [0, 1, 1], [[NAN, NAN], [0.5, 0.5], [NAN, NAN]])
    assert sums.count.tolist() == [0, 1]
    state = sums.state()
    add(sums, [0], [[1.0, 0.0]])
    assert state["count"].tolist() == [0, 1]
    assert int(state["sums"][0].sum()) == 0
    sums.add(torch.tensor([0]), torch.tensor([[1.0, 0.0]]).half())
    sums.drop_steps()
    sums.fold()
    assert sums.count.tolist() == [1, 1]


def test_what_the_sums_refuse() -> None:
    sums = ProbabilitySums(2)
    add(sums, [0], [[0.5, 0.5]])
    with pytest.raises(
        ValueError, match=r"^The checkpoint holds probabilities of 2 examples, but the data set has 3, "
    ):
        ProbabilitySums(3).restore(sums.state())
    with pytest.raises(ValueError, match=r"3 classes.* averaged so far are of 2; "):
        add(sums, [0], [[0.5, 0.25, 0.25]])


# ------------------------------------------------------------------ in a fit


def observer(folder: Path, **options: Any) -> EasinessCallback:
    return EasinessCallback(folder, **{"probe": None, "probabilities": True, "run": "only", **options})


def wanted_of(trace: list[tuple[int, list[float]]], size: int = 53) -> Tensor:
    rows = [[row for index, row in trace if index == example] for example in range(size)]
    return torch.stack([torch.tensor(row).mean(0) if row else torch.full((4,), NAN) for row in rows])


LOADERS: dict[str, dict[str, Any]] = {
    "drop last": {"drop_last": True},
    "with replacement": {
        "shuffle": False,
        "sampler": WeightedRandomSampler(torch.arange(1.0, 54), 70, replacement=True),
    },
}


@pytest.mark.parametrize(("kind", "precision"), [*((kind, "32-true") for kind in LOADERS), ("drop last", "bf16-mixed")])
def test_values_against_a_trace(kind: str, precision: Any, tmp_path: Path) -> None:
    """Also where the Trainer fits again, and goes on averaging."""
    module = Traces()
    made = trainer(callbacks=[observer(tmp_path)], max_epochs=1, precision=precision)
    for epochs in (1, 3):
        made.fit_loop.max_epochs = epochs
        made.fit(module, loader(IndexedPoints(), **LOADERS[kind]))
    record = EasinessRecord.load(tmp_path)
    found = record.probabilities()
    assert found.dtype == torch.float32
    rows = [[row for index, row in module.softmax if index == example] for example in range(53)]
    wanted = torch.stack([torch.tensor(row).mean(0) if row else torch.full((4,), NAN) for row in rows])
    torch.testing.assert_close(found, wanted, atol=6e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.sum(1).nan_to_num(1.0), torch.ones(53))
    file = open_probabilities(tmp_path / "only")
    assert (file.step, file.epoch) == (int(record.steps[-1]), 2)
    assert file.read("count").tolist() == record.count[0].sum(0).tolist() == [len(row) for row in rows]
    assert list(tmp_path.rglob("prob*")) == [probabilities_path(tmp_path / "only")]


def test_the_rest_of_the_record_is_the_same_with_and_without(tmp_path: Path) -> None:
    for name, asked in (("with", True), ("without", False)):
        seed_everything(1, verbose=False)
        trainer(callbacks=[observer(tmp_path / name, probabilities=asked)]).fit(Net(), loader())
    without = recorded(tmp_path / "without")
    assert {**recorded(tmp_path / "with"), **without} == recorded(tmp_path / "with")
    assert not EasinessRecord.load(tmp_path / "without").has_probabilities


def fit_resumable(max_epochs: int, callbacks: list[Callback], ckpt_path: Path | None = None, **options: Any) -> Trainer:
    seed_everything(0, verbose=False)
    train = trainer(max_epochs=max_epochs, callbacks=callbacks, **options)
    train.fit(Plain(), Resumable(), ckpt_path=ckpt_path)
    return train


def test_a_checkpoint_that_is_saved_when_the_fit_is_over_holds_them(tmp_path: Path) -> None:
    fit_resumable(3, [observer(tmp_path / "whole")])
    fit_resumable(1, [observer(tmp_path / "parts")]).save_checkpoint(tmp_path / "over.ckpt")
    fit_resumable(3, [observer(tmp_path / "parts")], tmp_path / "over.ckpt")
    assert_identical(recorded(tmp_path / "parts"), recorded(tmp_path / "whole"))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
@pytest.mark.parametrize(("before", "epoch", "count"), [(True, 1, 2 * 53), (False, 2, 3 * 53 - 10 * 8 + 3)])
def test_they_may_be_asked_for_later_and_no_more(before: bool, epoch: int, count: int, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=10)
    fit_resumable(2, [observer(tmp_path, probabilities=before), keep], enable_checkpointing=True)
    fit_resumable(3, [observer(tmp_path, probabilities=not before)], tmp_path / "middle.ckpt")
    assert EasinessRecord.load(tmp_path).num_checkpoints == 3
    # of those recorded after the resumed step nothing is left but what was set aside, as the fit records none
    file = open_probabilities(tmp_path / "only/.earlier-1" if before else tmp_path / "only")
    assert probabilities_path(tmp_path / "only").exists() == (not before)
    assert file.epoch == epoch
    assert file.read("count").sum() == count  # 53 is 6 x 8 + 5


@pytest.mark.filterwarnings("ignore:EasinessCallback could not write step:UserWarning")
def test_a_full_disk_keeps_the_old_file_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, full = os.replace, [True]

    def refuse(source: Any, destination: Any) -> None:
        if full[0] and Path(destination) == probabilities_path(tmp_path / "only") and Path(destination).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, destination)

    class Room(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 3:
                assert open_probabilities(tmp_path / "only").epoch == 0
                full[0] = False

    monkeypatch.setattr(os, "replace", refuse)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(callbacks=[observer(tmp_path), Room()], max_epochs=4).fit(Net(), loader())
    warned = [str(one.message) for one in caught if "could not write" in str(one.message)]
    # of two averages that wait only the latest is kept; what was observed waits no longer than it must
    assert [int(re.search(r"(\d+) checkpoints \(.+ MB\) wait", message)[1]) for message in warned] == [1, 2, 1]
    assert open_probabilities(tmp_path / "only").epoch == 3
    assert EasinessRecord.load(tmp_path).num_checkpoints == 4


def test_they_need_logits_and_classes(tmp_path: Path) -> None:
    class Regression(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return (self(batch[0]) ** 2).mean()

    callback = observer(
        tmp_path,
        loss_fn=lambda output, target: (output**2).mean(1),
        batch_fn=lambda batch: (batch[0], batch[1].float()),
    )
    message = (
        "EasinessCallback(probabilities=True) averages the softmax of logits (B, classes), which only examples with one"
        " class each have, not sequences, pixels, several labels or numbers, and the training step shows no such logits"
        " and targets: set probabilities=False, or see `logits_fn`, `module` and `batch_fn`."
    )
    with pytest.raises(ValueError, match=whole(message)):
        trainer(callbacks=[callback]).fit(Regression(), loader())
