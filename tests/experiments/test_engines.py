"""Runs on loky, dask and submitit equal those one after another, of lambdas and with a worker killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import repeat_fit
from tests.executed import Dies, data, data_without_augmentation, failing
from tests.small import Net, recorded, trainer

pytestmark = [
    pytest.mark.multiprocess,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of the engines
]


@contextmanager
def of_loky(folder: Path) -> Iterator[Any]:
    loky = pytest.importorskip("loky")
    yield lambda: loky.get_reusable_executor(1, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def of_dask(folder: Path) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    import dask

    method = "spawn"
    if "forkserver" in multiprocessing.get_all_start_methods():
        method = "forkserver"
        forkserver.ensure_running()  # with what tests.executed preloads, before dask gives it a list of its own
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(folder)}
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@contextmanager
def of_submitit(folder: Path) -> Iterator[Any]:
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(folder / "logs", cluster="local")
    executor.update_parameters(timeout_min=5)
    yield executor


@pytest.mark.parametrize(("engine", "seeds"), [(of_loky, (1, 2)), (of_dask, (1, 2)), (of_submitit, (2,))])
def test_an_engine_trains_what_one_process_does(
    engine: Any, seeds: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # dask's own threads draw from Python's global stream, as the augmentations of `data` do
    given = data_without_augmentation if engine is of_dask else data
    arguments = {"datamodule": given, "seeds": seeds, "progress": False}
    repeat_fit(trainer, Net, dirpath=tmp_path / "plain", **arguments)
    died = tmp_path / "died"
    with engine(tmp_path / "engine") as executor, ExitStack() as stack:
        if engine is not of_dask:  # which trains again by itself
            stack.enter_context(pytest.warns(UserWarning, match=r"^Run 'seed-2' in '.*' failed and is tried again \("))
        make = lambda: trainer(max_epochs=2)  # noqa: E731  (the engine's own serialiser sends it)
        repeat_fit(make, failing(Dies, died), dirpath=tmp_path / "runs", executor=executor, **arguments)
    assert died.exists()
    assert recorded(tmp_path / "runs", hidden=False) == recorded(tmp_path / "plain", hidden=False)
