"""Starts scripts of the tests that run in several processes, as a user's own script would be started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_script(module: str, *arguments: object, time_limit: float) -> subprocess.CompletedProcess[str]:
    """Runs a module of the tests, which finds a free port by itself, without what an outer launcher may have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "MASTER_"))}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", f"tests.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=time_limit,
        check=False,
    )
