"""Kills at random moments and faults of every kind: the quick round of examples/benchmarks/soak.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

SCRIPT = ROOT / "examples/benchmarks/soak.py"

pytestmark = [
    pytest.mark.multiprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]


def soak(*arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_nothing_is_lost_or_falsified() -> None:
    ended = soak("--quick")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *_, total = (line for line in ended.stdout.splitlines() if line.startswith("| all"))
    kills, _, equal, named, wrong = map(int, total.split("|")[4:9])
    assert (kills, wrong) == (4, 0)
    assert equal + named >= 2 * 9


def test_what_is_wrong_ends_it_with_an_error(tmp_path: Path) -> None:
    """A record that takes whatever it finds is caught."""
    (tmp_path / "sitecustomize.py").write_text(
        "import lightning_easiness.record.files as files\n"
        "files.is_as_written = lambda *arguments: True\n"
        "files.header_checksum = lambda metadata: metadata.get('checksum', '')\n"
    )
    options = ["--driver", "repeats", "--kills", "0", "--trials", "3", "--fault", "a bit flipped"]
    ended = soak(*options, path=str(tmp_path))
    assert ended.returncode == 1
    assert "WRONG: repeats, a bit flipped" in ended.stdout
