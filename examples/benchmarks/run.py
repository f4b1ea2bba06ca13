"""How fast and how large is this, beside its limits and beside what else there is: all benchmarks, one table.

Runs the benchmarks of this folder one after the other, each with options of the mode, and writes `benchmarks.json` and
`benchmarks.md` into the output folder: what was measured, its median and range, the limit, whether it is met, and what
another tool takes for the same. A part that fails is a row that says so, and the exit status is 1.

"quick" takes about six minutes on two cores. "full" goes to 1e8 examples and 8 processes, as far as the memory
goes, and takes about an hour. "tiny" shows within a minute that everything runs; its figures mean nothing.

    python examples/benchmarks/run.py
    python examples/benchmarks/run.py --mode full --output benchmarks
    python examples/benchmarks/run.py --only step labels
    python examples/benchmarks/run.py --into docs/benchmarks.md    # puts the table between that page's markers

Other tools are compared with where they are installed: pip install -e ".[benchmarks]".
"""

from __future__ import annotations

import importlib
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from apart import stay_here
from figures import Row, tagged
from measuring import begin, load, make_parser
from parts import MODES, PARTS, Part
from table import about_machine, put_between_markers, rendered, written


def rows_of(part: Part, mode: str) -> Iterator[Row]:
    """Yield the rows of one part; of one that fails, a row that says so."""
    options = part.options[mode]
    assert options is not None
    command = f"python examples/benchmarks/{part.module}.py {options}".rstrip()
    try:
        module = importlib.import_module(part.module)
        yield from tagged(module.rows(module.parser().parse_args(shlex.split(options))), part.name, command)
    except Exception as error:
        note = f"failed: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        yield Row(part.about, None, note=note, part=part.name, command=command)


def run(parts: Sequence[Part], mode: str, output: Path, seconds: float = float("inf")) -> dict[str, Any]:
    """Run parts in a mode, write what is found after each of them, and return it; none begins after the seconds."""
    began = time.perf_counter()
    found: dict[str, Any] = {
        "command": shlex.join(["python", f"examples/benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "mode": mode,
        **about_machine(),
        "load": [load()],
        "rows": [],
    }
    found["left_out"] = [part.name for part in parts if part.options[mode] is None]
    for part in parts:
        if part.options[mode] is None:
            continue
        if time.perf_counter() - began > seconds:
            found["left_out"].append(f"{part.name} (no time was left)")
            continue
        for row in rows_of(part, mode):
            print(f"{part.name}: {row}", flush=True)
            found["rows"].append(row.as_dict())
        found["seconds"] = round(time.perf_counter() - began)
        found["load"][1:] = [load()]
        written(found, output)
    return found


def has_failed(found: dict[str, Any]) -> bool:
    return any(row["note"].startswith("failed: ") for row in found["rows"])


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mode", choices=MODES, default="quick")
    parser.add_argument("--only", choices=[part.name for part in PARTS], nargs="+", help="parts; by default all")
    parser.add_argument("--output", type=Path, default=Path("benchmarks"), help="default: %(default)s")
    parser.add_argument("--into", type=Path, help="a Markdown page whose table is replaced")
    given = parser.parse_args()
    begin()
    if given.mode == "tiny":
        stay_here()
    parts = [part for part in PARTS if given.only is None or part.name in given.only]
    found = run(parts, given.mode, given.output)
    print(f"\n{rendered(found)}")
    if given.into is not None:
        put_between_markers(rendered(found), given.into)
    raise SystemExit(has_failed(found))


if __name__ == "__main__":
    main()
