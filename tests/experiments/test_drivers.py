"""A driver that is killed while its workers are at work, and two drivers of one folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lightning_easiness import repeat_fit
from lightning_easiness.experiments.claims import Claim
from tests.executed import Here, compare_killed, data, done, drive, left_in, make_trainer, repeat_killed
from tests.made_runs import whole
from tests.small import Net, recorded

FORKSERVER = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="forks")


def wait_for_the_end_of(processes: list[int]) -> None:
    deadline = time.monotonic() + 30
    for process in processes:
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.02)
            pytest.fail("a worker lives on without its driver")


@FORKSERVER
@pytest.mark.multiprocess
@pytest.mark.parametrize("experiment", [repeat_killed, compare_killed])
def test_a_driver_that_was_killed_is_gone_on_with(experiment: Any, tmp_path: Path) -> None:
    driver = multiprocessing.get_context("forkserver").Process(target=drive, args=(experiment, tmp_path))
    driver.start()
    driver.join(120)
    assert driver.exitcode == -signal.SIGKILL
    wait_for_the_end_of([int(path.name) for path in (tmp_path / "workers").iterdir()])
    before = {path: path.stat().st_mtime_ns for path in done(tmp_path / "runs")}
    assert before

    here = Here()
    experiment(tmp_path, here)
    after = done(tmp_path / "runs")
    assert here.submitted == len(after) - len(before), "what was done is not repeated"
    assert [path for path in before if path.stat().st_mtime_ns != before[path]] == []
    if experiment is repeat_killed:
        killed = (tmp_path / "killed").read_text()
        assert (tmp_path / f"epochs-{killed}").read_text() == "011", "it goes on from its last whole epoch"

    (tmp_path / "undisturbed").mkdir()
    experiment(tmp_path / "undisturbed", None)
    assert recorded(tmp_path / "runs", hidden=False) == recorded(tmp_path / "undisturbed" / "runs", hidden=False)
    assert tables(tmp_path / "runs") == tables(tmp_path / "undisturbed" / "runs")
    assert ".driver" not in left_in(tmp_path / "runs")


def tables(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("*.csv"), *folder.glob("results/**/*.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class Twice(Here):
    """Does each job twice, as engines may that take a slow worker for a dead one."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
        super().submit(function, *arguments, **named)
        return super().submit(function, *arguments, **named)


@pytest.mark.parametrize(("experiment", "fits"), [(repeat_killed, 1), (compare_killed, 3)])
def test_a_job_that_an_engine_does_again_is_trained_once(experiment: Any, fits: int, tmp_path: Path) -> None:
    experiment(tmp_path, Twice())
    assert (tmp_path / "epochs-1").read_text() == "01" * fits


def test_a_second_driver_of_a_folder_is_refused(tmp_path: Path) -> None:
    first, here = Claim(tmp_path), Here()
    said = (
        f"'{tmp_path}' is being trained into by the workers of process {os.getpid()} on '{os.uname().nodename}': wait"
        " until it ends, or give another `dirpath`."
    )
    with pytest.raises(RuntimeError, match=whole(said)):
        repeat_fit(make_trainer, Net, data, (1, 2), tmp_path, progress=False, executor=here)
    assert here.submitted == 0
    first.sign.check()
    first.release()
    assert left_in(tmp_path) == []
    assert repeat_fit(make_trainer, Net, data, (1, 2), tmp_path, progress=False, executor=here).num_runs == 2


def test_what_a_killed_driver_has_left_to_come_turns_back(tmp_path: Path) -> None:
    first = Claim(tmp_path)
    first._lock.release()  # as the system does when it is killed
    Claim(tmp_path).sign.check()
    with pytest.raises(FileNotFoundError, match=r"does not see '.*', or its driver has ended: give a `dirpath` on"):
        first.sign.check()
