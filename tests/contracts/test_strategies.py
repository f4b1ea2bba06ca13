"""Strategies other than plain ddp give the numbers of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = [pytest.mark.multiprocess, pytest.mark.long, pytest.mark.timeout(900)]

# what is tried here; examples/benchmarks/strategies.py tries everything under each of them, and under more
CASES = {
    "ddp_spawn, 2": ("callback", "repeat_fit"),
    "tensor parallel, 1 x 2": ("callback", "datamodule", "selmodule", "repeat_fit"),
    "FSDP2, 2 x 1": ("callback", "repeat_fit", "experiments"),
    "two nodes of 2, torchrun": ("callback", "datamodule"),
}
ONE = "one process"
SCENARIOS = ("callback", "datamodule", "selmodule", "repeat_fit", "experiments")


def outcomes(strategy: str, scenarios: tuple[str, ...], folder: Path) -> dict[str, str]:
    """What came of each scenario under a strategy."""
    asked = [part for scenario in scenarios for part in ("--scenario", scenario)]
    script = ROOT / "examples/benchmarks/strategies.py"
    command = [sys.executable, str(script), "--only", strategy, "--folder", str(folder), *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=880, check=False)
    rows = [line.strip("| ").split(" | ") for line in printed.stdout.splitlines()[2:]]
    return {what: outcome for name, what, outcome in rows if name == strategy}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("strategies")
    assert set(outcomes(ONE, SCENARIOS, made)) == set(SCENARIOS)
    return made


@pytest.mark.parametrize("strategy", CASES)
def test_a_strategy_gives_the_numbers_of_one_process(strategy: str, folder: Path) -> None:
    scenarios = CASES[strategy]
    assert outcomes(strategy, scenarios, folder) == dict.fromkeys(scenarios, "equal to one process")
