"""A run that is killed at any moment goes on and ends, to the bit, with the record of one that was never killed."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lightning_easiness.record.layout import is_complete
from tests.processes import run_script
from tests.repeated_runs import CASES, SEPARATE_SEEDS, SETUPS, repeat
from tests.small import recorded

pytestmark = [pytest.mark.multiprocess, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    ended = run_script("repeated_runs", folder, time_limit=280)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """What a setup observes when nothing kills it."""

    @cache
    def observe(setup: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        repeat(folder, SETUPS[setup])
        return recorded(folder)

    return observe


@pytest.mark.parametrize(("setup", "moment"), CASES)
def test_a_killed_run_ends_as_if_it_had_not_been(killed: Path, whole, setup: str, moment: str) -> None:
    folder = killed / setup / moment
    before = recorded(folder)
    assert is_complete(folder / "seed-3") == (moment == "when the run is complete")
    repeat(folder, SETUPS[setup])
    after = recorded(folder, hidden=False)
    assert after.keys() == whole(setup).keys()
    assert [name for name in after if after[name] != whole(setup)[name]] == []
    kept = [name for name in before if "held-out" not in name and "trained-on" not in name]  # which are replaced
    assert [name for name in kept if after[name] != before[name]] == [], "what was observed before must not change"
    assert is_complete(folder / "seed-3")
    assert sorted(path.name for path in (folder / "seed-3").iterdir() if path.is_file()) in (
        ["run.json", "trained-on.safetensors"],
        [".lock", "run.json", "trained-on.safetensors"],  # where locks are files that stay
    )


def test_setups_are_hard_enough(whole) -> None:
    steps = {setup: sum("online/step" in name for name in whole(setup)) for setup in SETUPS}
    assert steps.pop("early stopping") == 3  # and not 9, so there is something to stop
    assert set(steps.values()) == {4}


def test_separate_processes_find_the_same(killed: Path, tmp_path: Path) -> None:
    repeat(tmp_path, SETUPS["plain"], seeds=SEPARATE_SEEDS)
    assert recorded(killed / "separate") == recorded(tmp_path)
