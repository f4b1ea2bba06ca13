"""Strategies other than plain ddp give the numbers of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from tests.processes import ROOT

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

SCENARIOS = ("callback", "datamodule", "selmodule", "repeat_fit", "experiments")
STRATEGIES = ("ddp_spawn, 2", "two nodes of 2, torchrun", "FSDP2, 2 x 1", "tensor parallel, 1 x 2")
TIME_LIMIT = 280  # seconds


@cache
def table() -> dict[tuple[str, str], str]:
    """(strategy, what) -> outcome."""
    only = [part for name in STRATEGIES for part in ("--only", name)]
    command = [sys.executable, str(ROOT / "examples/benchmarks/strategies.py"), *only]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    rows = [line.strip("| ").split(" | ") for line in printed.stdout.splitlines()[2:]]
    return {(strategy, what): outcome for strategy, what, outcome in rows}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_gives_the_numbers_of_one_process(strategy: str, scenario: str) -> None:
    assert table()[strategy, scenario] == "equal to one process"
