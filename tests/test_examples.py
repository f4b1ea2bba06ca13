"""The examples run, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    command = [
        sys.executable,
        str(EXAMPLES / "quickstart.py"),
        "--seeds",
        "2",
        "--epochs",
        "2",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    table = lines[lines.index("  index  digit   loss  spread") + 1 :][:10]
    losses = [float(line.split()[2]) for line in table]
    assert losses == sorted(losses, reverse=True)
    rates = [float(line.split()[-1]) for line in lines if line.startswith(("  easiest:", "  hardest:"))]
    assert len(rates) == 2
    assert min(rates) > 0.1, "two architectures must agree better than by chance"
    assert {"hardest.png", "averages.png", "tensorboard"} <= {path.name for path in tmp_path.iterdir()}
