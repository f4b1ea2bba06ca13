"""A run that is killed at any moment goes on and ends, to the bit, with the record of one that was never killed."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.record.layout import is_complete
from tests.repeated_runs import CASES, SEPARATE_SEEDS, SETUPS, fast_collection, observed, repeat  # noqa: F401

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.multiprocess, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]


def run_script(*arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    run_script("-m", "tests.repeated_runs", folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """What a setup observes when nothing kills it."""

    @cache
    def observe(setup: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        repeat(folder, SETUPS[setup])
        return observed(folder)

    return observe


@pytest.mark.parametrize(("setup", "moment"), CASES)
def test_a_killed_run_ends_as_if_it_had_not_been(killed: Path, whole, setup: str, moment: str) -> None:
    folder = killed / setup / moment
    before = observed(folder)
    assert is_complete(folder / "seed-3") == (moment == "when the run is complete")
    repeat(folder, SETUPS[setup])
    after = observed(folder)
    assert after.keys() == whole(setup).keys()
    assert [name for name in after if after[name] != whole(setup)[name]] == []
    assert [name for name in before if after[name] != before[name]] == [], "what was observed before must not change"
    assert is_complete(folder / "seed-3")
    assert sorted(path.name for path in (folder / "seed-3").iterdir() if path.is_file()) in (
        ["run.json"],
        [".lock", "run.json"],  # where locks are files that stay
    )


def test_setups_are_hard_enough(whole) -> None:
    steps = {setup: sum("online/step" in name for name in whole(setup)) for setup in SETUPS}
    assert steps.pop("early stopping") == 3  # and not 9, so there is something to stop
    assert set(steps.values()) == {4}


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "RandomState"])
def test_numpys_generators_fit_in_the_file(kind: str, tmp_path: Path) -> None:
    made = getattr(np.random, kind)(3)
    generator = made if kind == "RandomState" else np.random.Generator(made)
    generator.standard_normal(3)
    torch.save(OwnGenerators([generator]).get_states(), tmp_path / "states")
    drawn = generator.standard_normal(5).tolist()
    OwnGenerators([generator]).set_states(torch.load(tmp_path / "states", weights_only=True))
    assert generator.standard_normal(5).tolist() == drawn


def test_separate_processes_find_the_same(killed: Path, tmp_path: Path) -> None:
    repeat(tmp_path, SETUPS["plain"], seeds=SEPARATE_SEEDS)
    assert observed(killed / "separate") == observed(tmp_path)


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path) -> None:
    said = run_script("examples/benchmarks/kill_loop.py", "--rounds", 5, "--output", tmp_path)
    assert "5 kills" in said
    assert "0 lost, 0 changed, 0 unreadable" in said
    assert "bit-identical" in said
