"""Does any damaged file or strange batch do worse than be refused in a sentence?

Damages what a record and the experiments keep on disk, names of runs and series, and makes up batches and outputs of
models, and reads each. Each input must be refused by an error of this package that names the file or the argument, or
be read as what was written. Wrong is: any other exception, values that are not those that were written, more memory
than the file has bytes, a path out of the folder, a reader that does not come back, a crash. Inputs depend on `--seed`
and their number alone. Each target runs in a process of its own, which is started again after a crash.

    python examples/benchmarks/fuzz.py
    python examples/benchmarks/fuzz.py --inputs 5000 --only checkpoint --only decisions
    python examples/benchmarks/fuzz.py --only outputs --first 1234 --inputs 1

It ends with 1 where something was found; the inputs are kept in `--output`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import c_int64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fuzz_batches import batch_targets
from fuzz_files import file_targets
from fuzz_target import HARMLESS, READ, REFUSED, Target, Wrong
from measuring import make_parser

SPARE = 256 * 2**20  # bytes of address space above what a process has when it begins
MOST_GROWTH = 24 * 2**10  # KiB of memory in use that one input may add to the peak
TIME_LIMIT, SILENCE = 10, 60  # seconds of one input, and until a process that does not say anything is killed
MOST_KEPT = 5  # finds of a kind that are shown
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Count:
    """What became of the inputs of one target."""

    target: str
    number: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    finds: dict[int, str] = field(default_factory=dict)  # number of the input -> what was wrong
    seconds: float = 0.0

    def row(self) -> list[str]:
        rate = self.number / self.seconds if self.seconds else 0
        shown = [f"{self.outcomes[name]:,}" for name in (REFUSED, HARMLESS, READ)]
        return [self.target, f"{self.number:,}", *shown, str(len(self.finds)), f"{self.seconds:.0f}", f"{rate:,.0f}"]


class TooLong(BaseException):
    """A reader did not come back in time; no reader catches it as an Exception."""


def stream(target: Target, seed: int, number: int) -> random.Random:
    """Return the random numbers of one input."""
    return random.Random(f"{seed} {target.name} {number}")


def problem(target: Target, made: Any) -> str:
    """Read one input and return what became of it; raise Wrong with what is not as it must be."""
    before = _peak()
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        outcome = target.read(made)
    except Wrong:
        raise
    except (ValueError, TypeError, OSError) as error:
        sentence = str(error)
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and not target.may_fail_to_write:
            raise Wrong(f"{type(error).__name__} out of the operating system: {error}{_where(error)}") from error
        if not any(name in sentence for name in target.names):
            raise Wrong(f"{type(error).__name__} that names nothing: {sentence[:300]}{_where(error)}") from error
        outcome = REFUSED
    except TooLong:
        raise Wrong(f"did not come back in {TIME_LIMIT} s") from None
    except BaseException as error:
        raise Wrong(f"{type(error).__name__}: {str(error)[:300]}{_where(error)}") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = _peak() - before
    if grown > MOST_GROWTH:
        raise Wrong(f"took {grown / 1024:.0f} MiB of memory")
    return outcome


def fuzz(target: Target, seed: int, numbers: Sequence[int], done: Any = None) -> Count:
    """Read the inputs of these numbers; `done` holds the number of the one at work, for whoever watches."""
    count, start = Count(target.name), time.monotonic()
    with _watched():
        for number in numbers:
            if done is not None:
                done.value = number
            count.number += 1
            try:
                count.outcomes[problem(target, target.make(stream(target, seed, number)))] += 1
            except Wrong as wrong:
                count.finds[number] = str(wrong)
        target.clean()
    count.seconds = time.monotonic() - start
    return count


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" [{Path(frame.filename).name}:{frame.lineno}]"


@contextmanager
def _watched() -> Iterator[None]:
    """Make warnings other than those to users errors, and a reader that does not come back."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        signal.signal(signal.SIGALRM, before)


@contextmanager
def little_memory() -> Iterator[None]:
    """Let this process have little more address space than now."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE if sys.platform == "linux" else 0
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if in_use:
        resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


# ----------------------------------------------------------------------------------------------------------- processes


def in_process(target: Target, seed: int, first: int, last: int) -> Count:
    """Fuzz in child processes, so that a crash is a find and the inputs after it are read too."""
    total = Count(target.name)
    while first < last:
        part = _in_one_process(target, seed, range(first, last))
        total.number += part.number
        total.outcomes += part.outcomes
        total.finds |= part.finds
        total.seconds += part.seconds
        first += max(1, part.number)
    return total


def _in_one_process(target: Target, seed: int, numbers: range) -> Count:
    context = multiprocessing.get_context("fork")  # which has everything imported already
    receiver, sender = context.Pipe(duplex=False)
    done = context.RawValue(c_int64, numbers[0])
    process = context.Process(target=_child, args=(target, seed, numbers, done, sender))
    start = time.monotonic()
    process.start()
    sender.close()
    found = _answer(receiver, process, done)
    process.join()
    if isinstance(found, Count):
        return found
    why = "did not come back, also not to a signal" if found == "silent" else f"crashed (exit code {process.exitcode})"
    at = done.value
    return Count(target.name, at - numbers[0] + 1, Counter(), {at: why}, time.monotonic() - start)


def _child(target: Target, seed: int, numbers: range, done: Any, sender: Any) -> None:
    with little_memory():
        found = fuzz(target, seed, numbers, done)
    sender.send(found)


def _answer(receiver: Any, process: Any, done: Any) -> Count | str:
    """Return what a child found; a word where it crashed, or was killed as it stood still."""
    at, since = done.value, time.monotonic()
    while not receiver.poll(0.2):
        if done.value != at:
            at, since = done.value, time.monotonic()
        if time.monotonic() - since > SILENCE:
            process.kill()
            return "silent"
    try:
        found: Count = receiver.recv()
    except EOFError:
        return "crashed"
    return found


# -------------------------------------------------------------------------------------------------------------- report


def keep(folder: Path, target: Target, seed: int, finds: Mapping[int, str]) -> None:
    """Write the inputs of the finds into a folder, and what was wrong."""
    for number, wrong in finds.items():
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{target.name.replace(' ', '-')}-{seed}-{number}"
        made = target.make(stream(target, seed, number))
        stem.with_suffix(".input").write_bytes(made if isinstance(made, bytes) else repr(made).encode(errors="replace"))
        stem.with_suffix(".txt").write_text(f"{wrong}\n")


def table(counts: Sequence[Count]) -> str:
    """Return the counts as a Markdown table."""
    head = ["target", "inputs", "refused", "read as written", "other, but whole", "finds", "seconds", "per second"]
    whole = Count("all")
    for count in counts:
        whole.number += count.number
        whole.outcomes += count.outcomes
        whole.finds |= {len(whole.finds) + place: text for place, text in enumerate(count.finds.values())}
        whole.seconds += count.seconds
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *(count.row() for count in counts), whole.row()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def targets(folder: Path) -> list[Target]:
    """Return what there is to read; files are kept in a folder."""
    return [*file_targets(folder), *batch_targets()]


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=105_000, help="in all; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first input; default: %(default)s")
    parser.add_argument("--only", action="append", help="a target; may be given several times")
    parser.add_argument("--output", type=Path, default=Path("fuzz-finds"), help="default: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork has none of the others, and would wait for them
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as folder:
        chosen = [one for one in targets(Path(folder)) if not given.only or one.name in given.only]
        if not chosen:
            parser.error(f"--only must be among: {', '.join(one.name for one in targets(Path(folder)))}")
        for one in chosen:
            one.prepare()
        weights, counts = sum(one.weight for one in chosen), []
        for one in chosen:
            share = max(1, round(given.inputs * one.weight / weights))
            counts.append(in_process(one, given.seed, given.first, given.first + share))
            keep(given.output, one, given.seed, counts[-1].finds)
            print(*counts[-1].row(), sep=", ", flush=True)
            for number, wrong in list(counts[-1].finds.items())[:MOST_KEPT]:
                print(f"{one.name}, input {number}: {wrong}", flush=True)
    print(f"seed {given.seed}\n\n{table(counts)}")
    return int(any(count.finds for count in counts))


if __name__ == "__main__":
    sys.exit(main())
