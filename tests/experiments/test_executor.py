"""Trainings side by side in the workers of an executor: the same runs, and what fails is named."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord, StepwiseCompression, ThresholdRuns, compare_selections, repeat_fit
from lightning_easiness.experiments.executor import WorkerError
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.writer import RunWriter
from tests.executed import (
    Dies,
    Fails,
    FailsStrangely,
    Here,
    data,
    failing,
    left_in,
    make_trainer,
    pool,
    quick_pool,
    wide,
)
from tests.made_runs import whole
from tests.repeated_runs import Data, WithTest
from tests.small import Net, loader, recorded, trainer

SPAWN = "ProcessPoolExecutor(2, multiprocessing.get_context('spawn'))"
SEEDS = (1, 2, 3)


def repeat(folder: Path, executor: Any, make_module: Any = Net, **changes: Any) -> EasinessRecord:
    arguments = {"make_trainer": make_trainer, "datamodule": data, "seeds": SEEDS, "progress": False, **changes}
    return repeat_fit(make_module=make_module, dirpath=folder, executor=executor, **arguments)


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Two workers that outlive what fails in them."""
    with pool() as made:
        yield made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The runs one after another, and with a part held out."""
    folder = tmp_path_factory.mktemp("plain")
    repeat(folder, None)
    return recorded(folder)


# ------------------------------------------------------------------ the same runs


@pytest.mark.multiprocess
def test_runs_equal_those_one_after_another(
    workers: ProcessPoolExecutor, plain: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record = repeat(tmp_path, workers, make_trainer=partial(trainer, enable_progress_bar=True), progress=True)
    assert record.seeds == list(SEEDS)
    assert recorded(tmp_path) == plain
    assert left_in(tmp_path) == ["seed-1", "seed-2", "seed-3"]
    shown = capfd.readouterr()
    assert "Runs: 100%" in shown.err
    assert "Epoch" not in shown.err + shown.out, "bars of several workers would overwrite each other"


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    "given", [lambda: loader(generator=torch.Generator().manual_seed(7)), Data], ids=["loader", "module"]
)
def test_objects_are_sent_as_they_are(workers: ProcessPoolExecutor, given: Any, tmp_path: Path) -> None:
    for name, executor in (("here", None), ("there", workers)):
        repeat(tmp_path / name, executor, datamodule=given(), seeds=(1, 2), hold_out=0.2)
    assert recorded(tmp_path / "here") == recorded(tmp_path / "there")


@pytest.mark.multiprocess
def test_steps_of_a_compression_equal(workers: ProcessPoolExecutor, tmp_path: Path) -> None:
    kept = [
        StepwiseCompression(
            make_trainer, Net, data, 0.2, 0.1, (1, 2), tmp_path / name, progress=False, executor=executor
        ).run()
        for name, executor in (("here", None), ("there", workers))
    ]
    assert torch.equal(*kept)
    assert recorded(tmp_path / "here") == recorded(tmp_path / "there")


@pytest.mark.multiprocess
def test_tables_of_a_comparison_equal(workers: ProcessPoolExecutor, tmp_path: Path) -> None:
    rows = [
        compare_selections(
            make_trainer, WithTest, Data(), (0.2,), ("easy", "stepwise", "stratified"), (1, 2), tmp_path / name,
            metric="val_loss", progress=False, executor=executor,
        )
        for name, executor in (("here", None), ("there", workers))
    ]  # fmt: skip
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]
    for name in ("comparison-epochs-val_loss.csv", "results/validate-epochs/easy-0.2/seed-2.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.multiprocess
def test_both_halves_of_the_threshold_protocol_equal(workers: ProcessPoolExecutor, tmp_path: Path) -> None:
    for name, executor in (("here", None), ("there", workers)):
        runs = ThresholdRuns(make_trainer, wide, loader(), 4, tmp_path / name, progress=False, executor=executor)
        assert [record.num_runs for record in runs.run()] == [1, 1]
    assert recorded(tmp_path / "here") == recorded(tmp_path / "there")


def test_what_is_complete_is_not_submitted(tmp_path: Path) -> None:
    for seeds, submitted in (((1,), 1), ((1, 2), 1), ((2, 1), 0)):
        here = Here()
        assert repeat(tmp_path, here, seeds=seeds).seeds == list(seeds)
        assert here.submitted == submitted


# ------------------------------------------------------------------ what fails


@pytest.mark.multiprocess
@pytest.mark.parametrize("kind", [Fails, FailsStrangely])
def test_a_run_that_fails_is_named_and_the_others_complete(
    workers: ProcessPoolExecutor, kind: Any, tmp_path: Path
) -> None:
    error = "ArithmeticError: on purpose" if kind is Fails else "tests.executed.WantsTwo: 1 of 2"
    message = (
        f"1 run of repeat_fit failed, 2 came to an end: Run 'seed-2' in '{tmp_path}' ({error}). Run again to go on with"
        " what failed."
    )
    with pytest.raises(RuntimeError, match=whole(message)) as caught:
        repeat(tmp_path, workers, failing(kind), retries=0)
    assert isinstance(caught.value.__cause__, WorkerError)
    assert "in on_train_epoch_start" in str(caught.value.__cause__)
    assert [is_complete(tmp_path / f"seed-{seed}") for seed in SEEDS] == [True, False, True]
    assert left_in(tmp_path) == ["seed-1", "seed-2", "seed-3"]


@pytest.mark.multiprocess
def test_a_run_that_fails_once_is_tried_again(
    workers: ProcessPoolExecutor, plain: dict[str, Any], tmp_path: Path
) -> None:
    said = f"Run 'seed-2' in '{tmp_path}/runs' failed and is tried again (ArithmeticError: on purpose)."
    with pytest.warns(UserWarning, match=whole(said)):
        repeat(tmp_path / "runs", workers, failing(Fails, tmp_path / "failed"))
    assert recorded(tmp_path / "runs", hidden=False) == plain


@pytest.mark.multiprocess
def test_what_another_process_trains_is_left_to_it(workers: ProcessPoolExecutor, tmp_path: Path) -> None:
    with (
        RunWriter(tmp_path, "seed-2"),
        pytest.raises(RuntimeError, match=r"1 run .*Another callback is writing to run"),
    ):
        repeat(tmp_path, workers, retries=0)
    assert repeat(tmp_path, workers).seeds == list(SEEDS)


@pytest.mark.multiprocess
def test_a_dead_worker_ends_a_pool(plain: dict[str, Any], tmp_path: Path) -> None:
    with (
        quick_pool() as dying,
        pytest.raises(RuntimeError, match=r"^A worker of the `executor` of repeat_fit died, .* again"),
    ):
        repeat(tmp_path / "runs", dying, failing(Dies, tmp_path / "died"))
    assert not is_complete(tmp_path / "runs" / "seed-2")
    repeat(tmp_path / "runs", None, failing(Dies, tmp_path / "died"))
    assert recorded(tmp_path / "runs", hidden=False) == plain


@pytest.mark.multiprocess
def test_a_function_makes_a_pool_again_and_the_others_complete(plain: dict[str, Any], tmp_path: Path) -> None:
    with (
        pytest.warns(UserWarning, match=r"failed and is tried again \(its worker died: BrokenProcessPool"),
        pytest.raises(RuntimeError, match=r"^1 run of repeat_fit failed, 2 .*: Run 'seed-2' .*\(its worker died: Brok"),
    ):
        repeat(tmp_path, partial(quick_pool, 1), failing(Dies))
    there = {name: part for name, part in recorded(tmp_path, hidden=False).items() if not name.startswith("seed-2")}
    assert there == {name: part for name, part in plain.items() if not name.startswith("seed-2")}


def unimportable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function of a module that a worker, which starts with another path, does not find."""
    (folder / "only_here.py").write_text("from tests.small import Net\ndef make(): return Net()\n")
    monkeypatch.syspath_prepend(folder)
    import only_here  # type: ignore[import-not-found]

    return only_here.make


@pytest.mark.multiprocess
def test_workers_that_cannot_import_the_functions(
    workers: ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers.submit(abs, -1).result() == 1  # started by now
    with pytest.raises(RuntimeError, match=r"cannot import what it is sent, ModuleNotFoundError: No .*set PYT"):
        repeat(tmp_path / "runs", workers, unimportable(tmp_path, monkeypatch), retries=0)
    assert workers.submit(abs, -1).result() == 1, "and live on"


def test_workers_that_do_not_see_the_folder(tmp_path: Path) -> None:
    class Elsewhere(Here):
        def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
            (tmp_path / ".driver").write_text("of another folder")
            return super().submit(function, *arguments)

    with pytest.raises(
        RuntimeError, match=r"FileNotFoundError: the worker on '.*' does not see '.*', or .*: give a `dirpath`"
    ):
        repeat(tmp_path, Elsewhere(), retries=0)
    assert left_in(tmp_path) == []


def test_a_trainer_that_would_start_processes_in_a_worker(tmp_path: Path) -> None:
    wants_two = partial(trainer, devices=2, strategy="ddp")
    with pytest.raises(
        RuntimeError, match=r"ValueError: the Trainer starts 2 processes, .*: let `make_trainer` have a"
    ):
        repeat(tmp_path, Here(), make_trainer=wants_two, seeds=(1,), retries=0)


# ------------------------------------------------------------------ what is refused before anything is submitted


def refused(executor: Any, tmp_path: Path, error: type[Exception] = ValueError, **changes: Any) -> str:
    with pytest.raises(error) as caught:
        repeat(tmp_path, executor, **changes)
    assert list(tmp_path.iterdir()) == []
    return str(caught.value)


class Client(Here):
    def get_executor(self) -> Executor:
        return self


def test_executors_that_cannot_do_it(tmp_path: Path) -> None:
    fork = ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
    begin = "The `executor` of repeat_fit "
    expected = {
        ThreadPoolExecutor(2): f"has threads, which share the random streams of one process: write executor={SPAWN}.",
        fork: f"forks, after which torch hangs and CUDA fails: write executor={SPAWN}.",
        Client(): "is dask's client, which takes two equal calls for one: write executor=client.get_executor().",
    }
    for executor, end in expected.items():
        assert refused(executor, tmp_path) == begin + end
    assert refused("slurm", tmp_path, TypeError).endswith(f"got 'slurm': write executor={SPAWN}.")
    assert refused(lambda: None, tmp_path, TypeError).endswith(f"got None: write executor=lambda: {SPAWN}.")
    assert refused(Here(), tmp_path, retries=-1) == "The `retries` of repeat_fit must be 0 or more; got -1."


@pytest.mark.parametrize("name", ["make_trainer", "make_module", "datamodule"])
def test_a_lambda_cannot_be_sent(name: str, tmp_path: Path) -> None:
    said = refused(pool(), tmp_path, TypeError, **{name: lambda: None})
    assert said.startswith(f"The `{name}` of repeat_fit cannot be sent to a worker of ProcessPoolExecutor (")
    assert said.endswith("or take an executor that sends any function, as loky.get_reusable_executor(2).")


def test_a_function_of_a_notebook_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = type(sys)("__main__")
    exec("def make(): pass", vars(notebook))
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    said = refused(pool(), tmp_path, TypeError, make_module=notebook.make)
    assert "(TypeError: make is of a notebook or a prompt, which workers do not run): write it as a function" in said
