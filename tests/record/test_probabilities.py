"""Probabilities averaged over training: their values, what they leave alone, stop and resume, and the file."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from lightning_easiness import Confident, EasinessCallback, EasinessRecord, Hardest, find_label_issues, functional
from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.observe import accumulate
from lightning_easiness.observe.accumulate import ProbabilitySums
from lightning_easiness.record.files import RecordFileError
from lightning_easiness.record.layout import open_probabilities
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import append, fork_server, make_fields, replace_forever, whole, write_run
from tests.observe.test_online import Told
from tests.resuming import BATCHES, Plain, Resumable, Stop
from tests.small import Net, Points, assert_identical, fitted, loader, trainer

NAN = float("nan")
FILE = Path("train-online") / "probabilities.safetensors"


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
    """Folds the processes as a collective would: all their parts first, then the sum for each."""
    if len(processes) == 1:
        processes[0].fold()
        return
    from threading import Barrier, Thread

    barrier, parts = Barrier(len(processes)), [torch.empty(0)] * len(processes)
    failed: list[BaseException] = []

    def work(rank: int) -> None:
        def reduce(values: Tensor) -> Tensor:
            parts[rank] = values
            barrier.wait(20)
            total = torch.stack(parts).sum(0).to(values.dtype)
            barrier.wait(20)
            return total

        try:
            processes[rank].fold(reduce)
        except BaseException as error:
            failed.append(error)
            barrier.abort()

    threads = [Thread(target=work, args=(rank,)) for rank in range(len(processes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_many_sightings_do_not_overflow() -> None:
    sums = ProbabilitySums(2)
    row = torch.tensor([[1.0, 0.0]]).half()
    for number in (2047, 1, 3000):
        sums.add(torch.zeros(number, dtype=torch.int64), row.expand(number, 2))
        sums.fold()
        assert sums.means()[0].tolist() == [1.0, 0.0]
    assert sums.count.tolist() == [5048, 0]
    assert sums.state()["sums"].dtype == torch.int64
    again = ProbabilitySums(2)
    again.restore(sums.state())
    again.add(torch.tensor([1]), row.flip(1))
    again.fold()
    assert torch.equal(again.means(), torch.tensor([[1.0, 0.0], [0.0, 1.0]]).half())


def test_a_softmax_of_nan_is_not_seen_and_a_state_is_a_copy() -> None:
    sums = ProbabilitySums(2)
    sums.add(torch.tensor([0, 1, 1]), torch.tensor([[NAN, NAN], [0.5, 0.5], [NAN, NAN]]).half())
    sums.fold()
    assert sums.count.tolist() == [0, 1]
    state = sums.state()
    sums.add(torch.tensor([0]), torch.tensor([[1.0, 0.0]]).half())
    sums.fold()
    assert state["count"].tolist() == [0, 1]
    assert int(state["sums"][0].sum()) == 0
    sums.add(torch.tensor([0]), torch.tensor([[1.0, 0.0]]).half())
    sums.drop_steps()
    sums.fold()
    assert sums.count.tolist() == [1, 1]


def test_what_the_sums_refuse() -> None:
    sums = ProbabilitySums(2)
    sums.add(torch.tensor([0]), torch.tensor([[0.5, 0.5]]).half())
    sums.fold()
    with pytest.raises(
        ValueError,
        match=whole(
            "The checkpoint holds probabilities of 2 examples, but the data set has 3, so an index no longer names the"
            " same example; resume with the data set of then."
        ),
    ):
        ProbabilitySums(3).restore(sums.state())
    sums.add(torch.tensor([0]), torch.tensor([[0.5, 0.25, 0.25]]).half())
    with pytest.raises(
        ValueError,
        match=whole(
            "The module tells 3 classes apart, but the probabilities that were averaged so far are of 2; train another"
            " module in another `run` or `dirpath`."
        ),
    ):
        sums.fold()


# ------------------------------------------------------------------ in a fit


class Traces(Net):
    """Keeps index and softmax of each example of each step, by plain arithmetic."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.trace: list[tuple[int, list[float]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x[:, :8])
        for index, row in zip(x[:, 8].tolist(), logits.detach().double(), strict=True):
            weights = [float(value) for value in (row - row.max()).exp()]
            self.trace.append((int(index), [weight / sum(weights) for weight in weights]))
        return nn.functional.cross_entropy(logits, y)


def observer(folder: Path, **options: Any) -> EasinessCallback:
    return EasinessCallback(folder, **{"probe": None, "probabilities": True, "run": "only", **options})


def wanted_of(trace: list[tuple[int, list[float]]], size: int = 53) -> Tensor:
    rows = [[row for index, row in trace if index == example] for example in range(size)]
    return torch.stack([torch.tensor(row).mean(0) if row else torch.full((4,), NAN) for row in rows])


LOADERS: dict[str, Any] = {
    "shuffled": lambda: loader(Told()),
    "workers": lambda: loader(Told(), num_workers=2),
    "drop last": lambda: loader(Told(), drop_last=True),
    "with replacement": lambda: loader(
        Told(), shuffle=False, sampler=WeightedRandomSampler(torch.arange(1.0, 54), 70, replacement=True)
    ),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}], ids=["32", "bf16"])
def test_values_against_a_trace(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    module = Traces()
    trainer(callbacks=[observer(tmp_path)], max_epochs=3, **options).fit(module, LOADERS[kind]())
    record = EasinessRecord.load(tmp_path, "train-online")
    found = record.probabilities()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted_of(module.trace), atol=6e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(found.sum(1).nan_to_num(1.0), torch.ones(53))
    file = open_probabilities(tmp_path / "only")
    assert (file.step, file.epoch) == (int(record.steps[-1]), 2)
    assert torch.equal(file.read("count"), record.count[0].sum(0))
    assert sorted(path.name for path in (tmp_path / "only" / "train-online").glob("prob*")) == [FILE.name]


def test_training_is_untouched_to_the_bit(tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [observer(tmp_path, probe="train")]):
        seed_everything(11, verbose=False)
        results.append(fitted(Net("adam"), loader(Points(augment=True)), callbacks))
    assert_identical(results[0], results[1])
    assert EasinessRecord.load(tmp_path).has_probabilities, "the probe is of the same examples"


def test_the_rest_of_the_record_is_the_same_with_and_without(tmp_path: Path) -> None:
    for name, asked in (("with", True), ("without", False)):
        seed_everything(1, verbose=False)
        trainer(callbacks=[observer(tmp_path / name, probabilities=asked)]).fit(Net(), loader())
    left, right = (EasinessRecord.load(tmp_path / name, "train-online") for name in ("with", "without"))
    assert left.fields == right.fields
    assert (left.has_probabilities, right.has_probabilities) == (True, False)
    for name in left.fields:
        torch.testing.assert_close(left.field(name), right.field(name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore:.*fast_dev_run")
def test_a_trial_run_writes_nothing(tmp_path: Path) -> None:
    trainer(callbacks=[observer(tmp_path)], fast_dev_run=2).fit(Net(), loader())
    assert not list(tmp_path.rglob("*.safetensors"))


# ------------------------------------------------------------------ stop and resume


def resumed(
    folder: Path, others: list[Callback], ckpt_path: Path | None = None, first: bool = True, **options: Any
) -> None:
    seed_everything(0, verbose=False)
    callbacks = [*others, observer(folder)] if first else [observer(folder), *others]
    trainer(max_epochs=3, callbacks=callbacks, **options).fit(Plain(), Resumable(), ckpt_path=ckpt_path)


def assert_same(left: Path, right: Path) -> None:
    a, b = (open_probabilities(folder / "only") for folder in (left, right))
    assert (a.step, a.epoch) == (b.step, b.epoch)
    assert torch.equal(a.read("count"), b.read("count"))
    assert torch.equal(a.read("probabilities"), b.read("probabilities"))


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    resumed(folder, [])
    assert open_probabilities(folder / "only").read("count").tolist() == [3] * 53
    return folder


@pytest.mark.parametrize("batch", [0, 3, 6, 7, 10, 13, 17, 20])
@pytest.mark.parametrize("first", [True, False], ids=["saved before us", "saved after us"])
def test_stopped_at_a_batch_and_resumed(never_stopped: Path, batch: int, first: bool, tmp_path: Path) -> None:
    saved = tmp_path / "stopped.ckpt"
    with pytest.raises(InterruptedError):
        resumed(tmp_path / "record", [Stop(saved, *divmod(batch, BATCHES))], first=first)
    torch.load(saved, weights_only=True)
    resumed(tmp_path / "record", [], ckpt_path=saved)
    assert_same(never_stopped, tmp_path / "record")


@pytest.mark.parametrize("first", [True, False])
def test_stopped_at_an_epochs_end_and_resumed(never_stopped: Path, first: bool, tmp_path: Path) -> None:
    saved = tmp_path / "stopped.ckpt"
    with pytest.raises(InterruptedError):
        resumed(tmp_path / "record", [Stop(saved, 1, 0, "epoch")], first=first)
    resumed(tmp_path / "record", [], ckpt_path=saved)
    assert_same(never_stopped, tmp_path / "record")


class Save(Callback):
    def __init__(self, path: Path, batch: int) -> None:
        self.path, self.batch = path, batch

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        if trainer.global_step == self.batch:
            trainer.save_checkpoint(self.path)


def test_a_state_in_the_middle_counts_nothing_twice_and_what_is_on_disk_is_replaced(
    never_stopped: Path, tmp_path: Path
) -> None:
    """The fit goes on after the state was taken; then training is resumed from behind what is on disk."""
    saved = tmp_path / "middle.ckpt"
    resumed(tmp_path / "record", [Save(saved, 10)])
    assert_same(never_stopped, tmp_path / "record")
    resumed(tmp_path / "record", [], ckpt_path=saved)
    assert_same(never_stopped, tmp_path / "record")


def test_further_fits_of_a_trainer_go_on_averaging(tmp_path: Path) -> None:
    module, train = Traces(), trainer(callbacks=[observer(tmp_path)], max_epochs=1)
    for epochs in (1, 2, 3):
        train.fit_loop.max_epochs = epochs
        train.fit(module, loader(Told()))
    record = EasinessRecord.load(tmp_path, "train-online")
    torch.testing.assert_close(record.probabilities(), wanted_of(module.trace), atol=6e-4, rtol=0)
    assert len(module.trace) == int(open_probabilities(tmp_path / "only").read("count").sum()) == 3 * 53


def test_a_checkpoint_that_is_saved_when_the_fit_is_over_holds_them(never_stopped: Path, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    train = trainer(callbacks=[observer(tmp_path)], max_epochs=1)
    train.fit(Plain(), Resumable())
    train.save_checkpoint(tmp_path / "over.ckpt")
    resumed(tmp_path, [], ckpt_path=tmp_path / "over.ckpt")
    assert_same(never_stopped, tmp_path)


def test_probabilities_may_be_asked_for_later_and_no_more(tmp_path: Path) -> None:
    saved = tmp_path / "middle.ckpt"
    for before in (True, False):
        folder = tmp_path / str(before)
        seed_everything(0, verbose=False)
        options = {"max_epochs": 2, "callbacks": [observer(folder, probabilities=before), Save(saved, 10)]}
        trainer(**options).fit(Plain(), Resumable())
        seed_everything(0, verbose=False)
        after = trainer(max_epochs=3, callbacks=[observer(folder, probabilities=not before)])
        after.fit(Plain(), Resumable(), ckpt_path=saved)
        record = EasinessRecord.load(folder, "train-online")
        assert record.num_checkpoints == 3
        file = open_probabilities(folder / "only")
        assert file.epoch == (1 if before else 2)
        assert int(file.read("count").sum()) == (2 * 53 if before else 3 * 53 - 10 * 8 + 3)  # 53 is 6 x 8 + 5


# ------------------------------------------------------------------ several processes


SCRIPT = """
import sys
from pathlib import Path
import torch
from lightning.pytorch import seed_everything
from lightning_easiness import EasinessCallback
from tests.distributed_fit import STRATEGY, Still, make_trainer
from tests.small import Points, loader, trainer
from tests.record.test_probabilities import Save, Stop
from tests.small import Net
from torch import nn

class Fixed(Net):
    "Learns nothing, so that its outputs do not depend on who trains on what."
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

folder, devices = Path(sys.argv[1]), int(sys.argv[2])

def fit(name, others=(), ckpt_path=None, size=53):
    seed_everything(5, verbose=False)
    callbacks = [EasinessCallback(folder / name, probe=None, probabilities=True, run="only"), *others]
    made = trainer(strategy="ddp", devices=devices, callbacks=callbacks, max_epochs=3)
    made.fit(Fixed(), loader(Points(size), batch_size=8 // devices), ckpt_path=ckpt_path)

fit("whole", [Save(folder / "middle.ckpt", 9)])
fit("few", size=3)
fit("resumed", ckpt_path=folder / "middle.ckpt")
"""


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "MASTER_"))}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = str(root)
    (tmp_path / "script.py").write_text(SCRIPT)
    for devices in ("1", "2"):
        (tmp_path / devices).mkdir()
        command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / devices), devices]
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
    for name, size in (("whole", 53), ("few", 3)):
        one, two = (open_probabilities(tmp_path / devices / name / "only") for devices in ("1", "2"))
        assert one.read("count").tolist() == [3] * size
        # padding repeats an example in each epoch, and its average is the same
        assert int(two.read("count").sum()) == 3 * (size + size % 2)
        # the same weights, but other batches, in which products are rounded otherwise
        left, right = (file.read("probabilities").float() for file in (one, two))
        torch.testing.assert_close(left, right, atol=2e-7, rtol=2**-10)
    whole_run, again = (open_probabilities(tmp_path / "2" / name / "only") for name in ("whole", "resumed"))
    state = torch.load(tmp_path / "2" / "middle.ckpt", weights_only=True)["callbacks"]
    (held,) = (value["online"]["probabilities"] for key, value in state.items() if "Easiness" in key)
    assert int(held["count"].sum()) == 9 * 8 - 2 * 1, "an epoch of 54 in batches of 4 a process, and two steps"
    assert int(held["sums"].sum()) == pytest.approx(int(held["count"].sum()) * 2**20, rel=1e-3)
    assert again.num_examples == whole_run.num_examples


# ------------------------------------------------------------------ the file


def made(seed: int = 0, size: int = 37, classes: int = 5) -> tuple[Tensor, Tensor]:
    rows = torch.randn(size, classes, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1).half()
    rows[seed] = NAN
    count = torch.full((size,), 3, dtype=torch.int32)
    count[seed] = 0
    return rows, count


def write_probabilities(folder: Path, seed: int, **changes: Any) -> tuple[Tensor, Tensor]:
    rows, count = made(seed, **changes)
    with RunWriter(folder, f"seed-{seed}", seed=seed, resume=True) as writer:
        writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
        writer.complete()
    return rows, count


def test_the_layout_on_disk(tmp_path: Path) -> None:
    write_run(tmp_path, 0, series="train-online")
    rows, count = write_probabilities(tmp_path, 0)
    with safe_open(tmp_path / "seed-0" / FILE, "pt") as file:
        assert file.metadata() == {
            "format": "lightning_easiness.probabilities",
            "format_version": "1",
            "step": "240",
            "epoch": "2",
            "num_examples": "37",
            "num_classes": "5",
        }
        assert file.keys() == ["probabilities", "count"] or set(file.keys()) == {"probabilities", "count"}
        assert file.get_tensor("probabilities").dtype == torch.float16
        torch.testing.assert_close(file.get_tensor("probabilities"), rows, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(file.get_tensor("count"), count)


def test_runs_are_averaged_over_those_that_saw_an_example(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, seed, series="train-online")
        write_run(tmp_path, seed)
    written = [write_probabilities(tmp_path, seed)[0].double() for seed in (0, 1, 2)]
    exact = [rows / rows.sum(1, keepdim=True) for rows in written]
    for series in ("train-online", "train-probe"):
        record = EasinessRecord.load(tmp_path, series)
        assert record.has_probabilities
        alone = record.probabilities(per_run=True)
        assert alone.shape == (3, 37, 5)
        torch.testing.assert_close(alone.double(), torch.stack(exact), atol=1e-6, rtol=0, equal_nan=True)
        wanted = np.nanmean(torch.stack(exact).numpy(), axis=0)
        torch.testing.assert_close(record.probabilities().double().numpy(), wanted, atol=1e-6, rtol=0)
        one = record.select_runs([1]).probabilities()
        assert one.isnan().any(1).nonzero().tolist() == [[1]]
    saved = EasinessRecord.load(tmp_path, "train-online")
    saved.save(tmp_path / "copy")
    copied = EasinessRecord.load(tmp_path / "copy", "train-online")
    torch.testing.assert_close(copied.probabilities(), saved.probabilities(), rtol=0, atol=0, equal_nan=True)
    assert EasinessRecord.merge(saved.select_runs([0]), copied.select_runs([1])).probabilities().shape == (37, 5)


def test_records_without_the_file_load_and_say_what_records_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed, series="train-online")
        write_run(tmp_path, seed, series="val-probe")
    write_probabilities(tmp_path, 0)
    record = EasinessRecord.load(tmp_path, "train-online")
    assert not record.has_probabilities
    with pytest.raises(
        ValueError,
        match=whole(
            "No averaged probabilities were recorded in 1 of 2 runs, the first is 'seed-1': train with"
            " EasinessCallback(probabilities=True)."
        ),
    ):
        record.probabilities()
    with pytest.raises(
        ValueError,
        match=whole(
            "Probabilities are averaged over training, but series 'val-probe' is not of training examples: load"
            " 'train-probe' or 'train-online'."
        ),
    ):
        EasinessRecord.load(tmp_path, "val-probe").probabilities()
    write_probabilities(tmp_path, 1, size=12)
    with pytest.raises(ValueError, match=r"holds 12 examples of 5 classes, but the record has 37 of 5"):
        record.probabilities()


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    write_run(tmp_path, 0, series="train-online")
    write_probabilities(tmp_path, 0)
    path = tmp_path / "seed-0" / FILE
    path.write_bytes(path.read_bytes()[:keep])
    record = EasinessRecord.load(tmp_path, "train-online")
    assert record.num_checkpoints == 3
    with pytest.raises(RecordFileError, match=f"^'{path}' is truncated or not a safetensors file"):
        record.probabilities()


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path, 0, series="train-online")
    (path / FILE).write_bytes((path / "train-online" / "targets.safetensors").read_bytes())
    with pytest.raises(RecordFileError, match=r"was not written as 'lightning_easiness.probabilities'"):
        EasinessRecord.load(tmp_path, "train-online").probabilities()


def test_a_full_disk_keeps_the_old_file_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, full = os.replace, [True]

    def refuse(source: Any, destination: Any) -> None:
        if full[0] and Path(destination).name == FILE.name and Path(destination).exists():
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
    told = [str(one.message) for one in caught if "could not write" in str(one.message)]
    # of two averages that wait only the latest is kept; what was observed waits no longer than it must
    assert [int(re.search(r"(\d+) checkpoints wait", message)[1]) for message in told] == [1, 2, 1]
    assert open_probabilities(tmp_path / "only").epoch == 3
    assert EasinessRecord.load(tmp_path, "train-online").num_checkpoints == 4


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    context, log = fork_server(), tmp_path / "log"
    log.touch()
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        process = context.Process(target=replace_forever, args=(tmp_path / "runs", log))
        process.start()
        time.sleep(0.3 + 0.3 * float(torch.rand((), generator=generator)))
        process.kill()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        said = max((int(line) for line in log.read_text().split()), default=0)
        if said:
            file = open_probabilities(tmp_path / "runs" / "a")
            assert file.step >= said
            assert (file.read("count") == file.step).all()
            assert (file.read("probabilities") == torch.tensor(file.step % 1000 / 1000).half()).all()
    assert said > 10


def test_a_run_that_is_complete_is_so_no_more_when_it_goes_on(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    rows, count = made()
    with RunWriter(tmp_path, "seed-0", resume=True) as writer:
        writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
        append(writer, step=360)
    with pytest.raises(RuntimeError, match="is closed: open a new one"):
        writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
    assert '"complete": false' in (tmp_path / "seed-0" / "run.json").read_text()


# ------------------------------------------------------------------ in the report on labels


def test_the_report_takes_the_probabilities_of_the_record(tmp_path: Path) -> None:
    for seed in (0, 1):
        fields = {**make_fields(seed), "count": torch.ones(37, dtype=torch.int32)}
        write_run(tmp_path, seed, series="train-online", fields=fields)
        write_probabilities(tmp_path, seed)
    record = EasinessRecord.load(tmp_path, "train-online")
    rows, target = record.probabilities(), record.target
    for source in (tmp_path, record):
        issues = find_label_issues(source, score="confidence", rule=Hardest(0.2))
        assert torch.equal(issues.suggested, functional.suggest_labels(rows, target)[issues.index])
        torch.testing.assert_close(issues.probabilities, rows, rtol=0, atol=0)
        bridge = find_label_issues(source, score="area_under_margin", rule=Hardest(0.2)).to_cleanlab()
        assert bridge["pred_probs"].shape == (len(bridge["labels"]), 5)
        for score in ("self_confidence", "normalized_margin"):
            issues = find_label_issues(source, Hardest(0.2), score=score)
            values = getattr(functional, score)(rows, target)
            torch.testing.assert_close(issues.score, values[issues.index])
            alone = torch.stack([getattr(functional, score)(one, target) for one in record.probabilities(per_run=True)])
            torch.testing.assert_close(issues.spread, alone.std(0)[issues.index], equal_nan=True)
    given = torch.full((37, 5), 0.2)
    issues = find_label_issues(record, Hardest(0.2), score="confidence", probabilities=given)
    assert torch.equal(issues.probabilities, given)
    assert "Rule 'confident'" in find_label_issues(record).explanation
    assert "Rule 'confident'" in find_label_issues(record, checkpoint=0, probabilities=given).explanation
    early = find_label_issues(record, checkpoint=0)
    assert "Rule 'confident'" not in early.explanation, "the probabilities are of all of training"
    with pytest.raises(ValueError, match=r"rule=Confident\(\) takes the recorded probabilities.*is not the last: take"):
        find_label_issues(record, rule=Confident(), checkpoint=0)
    with pytest.raises(
        ValueError,
        match=whole(
            "Score 'normalized_margin' is taken from probabilities averaged over all of training; got checkpoint=0:"
            " take -1, or score='area_under_margin', which may end anywhere."
        ),
    ):
        find_label_issues(record, score="normalized_margin", checkpoint=0)


def test_a_record_without_them_has_no_suggestions(tmp_path: Path) -> None:
    write_run(tmp_path, 0, series="train-online")
    with pytest.warns(UserWarning, match="have no label score"):
        issues = find_label_issues(tmp_path, rule=Hardest(0.2))
    assert issues.probabilities is None
    assert (issues.suggested == -1).all()
    with pytest.raises(
        ValueError,
        match=whole(
            "Score 'self_confidence' needs `probabilities`, averaged over training or out of sample, (N, K), and the"
            " record holds none: train with EasinessCallback(probabilities=True), give them, or take"
            " score='area_under_margin'."
        ),
    ):
        find_label_issues(tmp_path, score="self_confidence")


# ------------------------------------------------------------------ bad input


def test_probabilities_need_the_training_forward() -> None:
    with pytest.raises(
        ValueError,
        match=whole(
            "The `probabilities` of EasinessCallback come from the training forward, but online=False; turn it on."
        ),
    ):
        EasinessCallback(online=False, probabilities=True)


def test_probabilities_need_logits_and_classes(tmp_path: Path) -> None:
    class Regression(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return (self(batch[0]) ** 2).mean()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return (output**2).mean(1)

    def as_floats(batch: Any) -> Any:
        return batch[0], batch[1].float()

    callback = observer(tmp_path, loss_fn=loss, batch_fn=as_floats)
    with pytest.raises(
        ValueError,
        match=whole(
            "EasinessCallback(probabilities=True) averages the softmax of logits (B, classes) of examples that have a"
            " class each, and the training step shows no such logits and targets; see `logits_fn`, `module` and"
            " `batch_fn`, or set probabilities=False."
        ),
    ):
        trainer(callbacks=[callback]).fit(Regression(), loader())
