"""What must never happen, counted: a damaged input that passes, and a kill or a fault after which something is lost.

Runs fuzz.py and soak.py, each in a process of its own, and reads how they end: 0 is the limit of both.

    python examples/benchmarks/correctness.py
    python examples/benchmarks/correctness.py --inputs 2000 --no-soak
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, Row, script
from measuring import make_parser

HERE = Path(__file__).parent


def output_of(name: str, *options: str) -> tuple[list[str], bool]:
    """Return the lines that a script prints, and whether it ends as one that found nothing."""
    command = [sys.executable, str(HERE / name), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines(), done.returncode == 0


def cells_of_all(lines: list[str]) -> list[str]:
    """Return the cells of the table's row "all"."""
    (row,) = [line for line in lines if line.startswith("| all |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def fuzzed(inputs: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        lines, is_clean = output_of("fuzz.py", "--inputs", str(inputs), "--output", folder)
    _, read, *_, finds, seconds, _ = cells_of_all(lines)
    what = f"of {read} damaged inputs, neither refused in a sentence nor read as written"
    found = max(float(finds.replace(",", "")), not is_clean)
    return Row(what, Figure.of([found], ""), 0, note=f"{seconds} s")


def soaked() -> Row:
    lines, is_clean = output_of("soak.py")
    _, seconds, done, *_ = cells_of_all(lines)
    wrong = [line for line in lines if line.startswith("WRONG")]
    what = "kills and faults of trainings after which something was lost or other than undisturbed"
    return Row(what, Figure.of([max(len(wrong), not is_clean)], ""), 0, note=f"{done} tried {seconds}")


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    yield fuzzed(arguments.inputs)
    if arguments.soak:
        yield soaked()


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--inputs", type=int, default=105_000, help="of fuzz.py; default: %(default)s")
    made.add_argument("--soak", action=argparse.BooleanOptionalAction, default=True, help="five minutes of two cores")
    return made


if __name__ == "__main__":
    script(parser(), rows)
