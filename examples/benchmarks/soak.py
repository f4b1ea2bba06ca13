"""Is anything lost or falsified where trainings are killed at any moment, and files and disks fail?

Kills trainings (SIGKILL) at random moments, half of them at any time, the other half a few milliseconds after a new
file appears, and starts them again until they have come to their end. After each kill every file is whole, and every
checkpoint that was ever seen is still there or set aside; in the end all files and all numbers are, to the bit, those
of a training that was never killed. Where processes share a training, one of them is killed.

Then it hurts a file of finished and of killed trainings, fills the disk, closes folders, or starts a second writer, and
runs again. Each number must be the undisturbed one, or be missing with an error or a warning that names the file and
the way out; that way is then gone, and must lead to the undisturbed result. Everything else is counted as WRONG, and
ends the command with status 1. A foreign file is one of the same name, of another seed or of other data.

    python examples/benchmarks/soak.py
    python examples/benchmarks/soak.py --kills 100 --trials 20 --seed 1
    python examples/benchmarks/soak.py --driver repeats --fault "a bit flipped" --said
    python examples/benchmarks/soak.py --quick
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from measuring import make_parser
from soak_driver import ALL_FAULTS, Soak
from soak_trainings import TRAININGS

COLUMNS = ("trials", "kills", "resumed", "equal", "named", "WRONG")
QUICK = ["fit, Lightning's checkpoints", "threshold protocol"]


def parsed() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=24, help="of each driver; default: %(default)s, 216 in all")
    parser.add_argument("--trials", type=int, default=3, help="of each fault for each driver; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and faults")
    parser.add_argument("--driver", action="append", choices=TRAININGS, help="only this one; may be repeated")
    parser.add_argument("--fault", action="append", choices=ALL_FAULTS, help="only this one; likewise")
    parser.add_argument("--quick", action="store_true", help="two drivers, 2 kills and one trial of each fault")
    parser.add_argument("--said", action="store_true", help="print what errors and warnings said")
    parser.add_argument("--jobs", type=int, default=2, help="drivers at a time; default: %(default)s")
    parser.add_argument("--output", type=Path, help="keep the folders here, where there must not be any of that name")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.driver, arguments.kills, arguments.trials = arguments.driver or QUICK, 2, 1
    arguments.fault, arguments.driver = arguments.fault or [*ALL_FAULTS], arguments.driver or [*TRAININGS]
    return arguments


# ---------------------------------------------------------------------------------------------------------- one driver


def soak_one(root: Path, arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Let one driver go through everything, and return its rows, what is wrong and what was said."""
    logging.disable(logging.INFO)
    torch.set_num_threads(1)  # a forked child has no other threads
    gc.freeze()  # each run ends with a garbage collection; scanning all imports would take longer than the training
    folder = root / "".join(letter if letter.isalnum() else "-" for letter in name)
    folder.mkdir()
    folder.chmod(0o755)  # another user works there too
    one = Soak(name, TRAININGS[name], folder, random.Random(f"{arguments.seed} {name}"))
    one.begin()
    rows = {"killed": one.kill(arguments.kills)}
    if one.training.ranks == 1 and arguments.trials:  # files are hurt where one process reads them
        one.others()
        rows |= {fault: one.befall(fault, arguments.trials) for fault in arguments.fault}
    return {"rows": rows, "wrong": one.wrong, "said": one.said}


def found_by(name: str, soak: Future[dict[str, Any]]) -> dict[str, Any]:
    try:
        return soak.result()
    except Exception as error:
        wrong = f"{name}: the soak itself ended with {type(error).__name__}: {error}"
        return {"rows": {}, "wrong": [wrong], "said": []}


# ----------------------------------------------------------------------------------------------------------- the table


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def soak_all(root: Path, arguments: argparse.Namespace) -> bool:
    """Let all drivers go through everything, print the table, and return whether anything is wrong."""
    begun, total, wrong, said = time.monotonic(), Counter[str](), [], []
    print_row("driver", "what befalls it", *COLUMNS)
    print_row(*["---"] * (2 + len(COLUMNS)))
    # forks have everything imported, and no threads, as a process must that forks
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("fork")) as pool:
        soaks = {name: pool.submit(soak_one, root, arguments, name) for name in arguments.driver}
        for name, soak in soaks.items():
            found = found_by(name, soak)
            for what, counts in found["rows"].items():
                print_row(name, what, *(counts.get(column, 0) for column in COLUMNS))
                total.update(counts)
            wrong += found["wrong"]
            said += found["said"]
    print_row("all", f"in {time.monotonic() - begun:.0f} s", *(total[column] for column in COLUMNS))
    for line in [*(said if arguments.said else []), *(f"WRONG: {one}" for one in wrong)]:
        print(line)
    return bool(wrong)


def opened(folder: Path) -> Path:
    """Open a folder to other users, as whom root trains where a file must not be read, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    closed = [path for path in folder.resolve().parents if not path.stat().st_mode & 0o001]
    if closed and os.getuid() == 0:
        sys.exit(f"Other users may not enter '{closed[-1]}', which root needs here: give another --output, or TMPDIR.")
    return folder.resolve()


def main() -> None:
    arguments = parsed()
    if arguments.output is not None:
        sys.exit(soak_all(opened(arguments.output), arguments))
    else:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(soak_all(opened(Path(folder)), arguments))


if __name__ == "__main__":
    main()
