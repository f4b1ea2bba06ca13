"""Kills at random moments and faults of every kind: the quick round of examples/benchmarks/soak.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.processes import ROOT, run

SCRIPT = ROOT / "examples/benchmarks/soak.py"

pytestmark = [
    pytest.mark.multiprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
]


def test_nothing_is_lost_or_falsified() -> None:
    ended = run(SCRIPT, "--quick")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *_, total = (line for line in ended.stdout.splitlines() if line.startswith("| all"))
    kills, _, equal, named, wrong = map(int, total.split("|")[4:9])
    assert (kills, wrong) == (4, 0)
    assert equal + named >= 2 * 9


def test_what_is_wrong_ends_it_with_an_error(tmp_path: Path) -> None:
    """A record that takes whatever it finds is caught."""
    hurt = tmp_path / "hurt.py"
    hurt.write_text(
        "import runpy, sys\n"
        "import lightning_easiness.record.files as files\n"
        "files.is_as_written = lambda *arguments: True\n"
        "files.header_checksum = lambda metadata: metadata.get('checksum', '')\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    options = ["--driver", "repeats", "--kills", "0", "--trials", "3", "--fault", "a bit flipped"]
    ended = run(hurt, *options)
    assert ended.returncode == 1
    assert "WRONG: repeats, a bit flipped" in ended.stdout
