"""Runs a script of examples/paper from its command line to what it writes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest


class Made(NamedTuple):
    """What a script made in its small setting."""

    printed: str
    rows: list[dict[str, str]]  # of its table
    figure_bytes: int


RunScript = Callable[..., Made]


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunScript:
    """Call with the script, the folder of its data, and further options."""

    def run(script: ModuleType, root: Path, *options: str) -> Made:
        name, output = script.__name__, tmp_path / "out"
        arguments = ["--data-root", str(root), "--output", str(output), *options]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        script.main()
        with (output / "small" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        return Made(capsys.readouterr().out, rows, (output / "small" / f"{name}.png").stat().st_size)

    return run
