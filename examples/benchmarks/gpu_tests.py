"""Runs the tests that need a CUDA device, with no more than pytest, and counts those that fail.

PYTHONPATH=. python examples/benchmarks/gpu_tests.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from figures import Figure, Row, script
from measuring import make_parser

ROOT = Path(__file__).parents[2]
WITH_HYPOTHESIS = ("tests/data/test_digest.py",)
FILES = ("tests/callbacks/test_gpu.py",)
MARKERS = ("gpu", "multiprocess", "slow")


def outcomes(folder: Path, tests: list[str], options: list[str]) -> tuple[Counter[str], str]:
    """Run tests, and return how many had which outcome, and the last lines of what pytest said.

    The settings of pyproject.toml are left out: they name plugins that may not be there.
    """
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\nmarkers =\n" + "".join(f"    {name}: as in pyproject.toml\n" for name in MARKERS))
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-c", str(settings), f"--rootdir={ROOT}"]
    command += ["-p", "no:cacheprovider", f"--junitxml={report}", *options, *tests]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=alone)
    said = (done.stdout + done.stderr).strip().splitlines()
    if not report.exists():
        return Counter(error=1), " ".join(said[-3:])
    kinds = ("failure", "error", "skipped")
    cases = ElementTree.parse(report).getroot().iter("testcase")
    found = (next((kind for kind in kinds if case.find(kind) is not None), "passed") for case in cases)
    return Counter(found), " ".join(line for line in said if line.startswith(("FAILED", "ERROR")))


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    what = "tests that need a CUDA device and fail"
    if importlib.util.find_spec("pytest") is None:
        yield Row(what, None, 0, note="not run: pip install pytest")
        return
    has_hypothesis = importlib.util.find_spec("hypothesis") is not None
    tests = [*FILES, *(WITH_HYPOTHESIS if has_hypothesis else ())]
    with tempfile.TemporaryDirectory() as folder:
        found, said = outcomes(Path(folder), tests, [] if has_hypothesis else ["--noconftest"])
    failed = found["failure"] + found["error"]
    if not found["passed"] and arguments.device == "cuda":
        said, failed = f"none passed {said}", max(failed, 1)
    left_out = "" if has_hypothesis else f"; not run without hypothesis: {', '.join(WITH_HYPOTHESIS)}"
    note = f"{found['passed']} passed, {found['skipped']} skipped{left_out} {said}".rstrip()
    yield Row(what, Figure.of([failed], ""), 0, note=note)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="on cpu all of them are skipped")
    return made


if __name__ == "__main__":
    script(parser(), rows)
