"""What a worker trains on: a device and threads of its own, which its successor finds free."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness.experiments import worker
from lightning_easiness.experiments.claims import Claim
from lightning_easiness.experiments.executor import Workers
from lightning_easiness.experiments.worker import Ended, Place, own_devices, own_number, work
from tests.executed import claim_a_device, make_trainer, quick_pool
from tests.small import trainer


def claimed(executor: ProcessPoolExecutor, folder: Path) -> dict[int, list[int] | None]:
    """Returns the device of each of two workers, of two devices."""
    for name in ("claims", "here"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    found = [claim.result() for claim in [executor.submit(claim_a_device, 2, 2, folder) for _ in range(6)]]
    of_process = dict(found)
    assert all(devices == of_process[process] for process, devices in found), "each keeps its own"
    return of_process


@pytest.fixture
def number_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Returns the number that one more process would get, in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(worker, "_claims", [])
    yield own_number.__wrapped__
    for lock in worker._claims:
        lock.release()


@pytest.mark.multiprocess
def test_devices_are_taken_in_turn_and_are_free_for_a_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workers("repeat_fit", partial(quick_pool, 2)) as workers:
        first = workers.executor
        of_process = claimed(first, tmp_path)
        assert sorted(of_process.values()) == [[0], [1]]
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "claims"))
        monkeypatch.setattr(worker, "own_number", own_number.__wrapped__)
        monkeypatch.setattr(worker, "_claims", [])
        assert own_devices() == [0], "a third process shares the first device"
        worker._claims.pop().release()

        os.kill(next(iter(of_process)), signal.SIGKILL)
        with pytest.raises(BrokenExecutor):
            first.submit(time.sleep, 60).result()
        assert workers.replace(first)
        for mark in (tmp_path / "here").iterdir():
            mark.unlink()
        assert sorted(claimed(workers.executor, tmp_path).values()) == [[0], [1]]


def test_eight_devices_serve_ten_workers(number_of_now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(worker, "own_number", number_of_now)
    assert [own_devices() for _ in range(10)] == [[0], [1], [2], [3], [4], [5], [6], [7], [0], [1]]


def test_jobs_that_see_different_devices_number_them_apart(number_of_now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seen in ("0,1", "2,3", "0,1", "2,3"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        found.append(number_of_now())
    assert found == [0, 0, 1, 1]


@pytest.mark.parametrize(("count", "expected"), [(0, None), (1, [0])])
def test_a_single_device_needs_no_number(count: int, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(worker, "own_number", None)
    assert own_devices() == expected


def test_a_trainer_gets_the_devices_of_its_place() -> None:
    given: list[Any] = []

    def with_devices(devices: Any = "its default", seed: int = 0) -> Any:
        given.append(devices)
        return trainer()

    Place().trainer(with_devices, seed=1)
    Place([3], in_worker=True).trainer(with_devices, seed=1)
    Place([3], in_worker=True).trainer(make_trainer, seed=1)
    assert given == ["its default", [3]]


class CountsThreads:
    name, folder = "threads", Path()

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, place: Place) -> int:
        if self.error is not None:
            raise self.error
        return torch.get_num_threads()


@pytest.mark.parametrize(("num_workers", "threads"), [(None, 6), (1, 6), (2, 4), (3, 2), (16, 1)])
def test_workers_share_the_cores_and_leave_torch_as_it_was(
    num_workers: int | None, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_num_cores", lambda: 8)
    claim, before = Claim(tmp_path), torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        assert work(CountsThreads(), claim.sign, num_workers, 0) == Ended(threads)
        assert work(CountsThreads(KeyError("no")), claim.sign, num_workers, 0).error == "KeyError: 'no'"
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)
        claim.release()


def test_two_runs_in_one_process(tmp_path: Path) -> None:
    claim = Claim(tmp_path)

    class Nested:
        name, folder = "outer", tmp_path

        def __call__(self, place: Place) -> Ended:
            return work(self, claim.sign, None, 0)

    inner = work(Nested(), claim.sign, None, 0).value
    assert inner.error.startswith("RuntimeError: two runs in one process would share its random streams: give workers")
    claim.release()
