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
    python examples/benchmarks/soak.py --kills 1000 --trials 20 --seed 1
    python examples/benchmarks/soak.py --driver repeats --fault "a bit flipped" --said
    python examples/benchmarks/soak.py --quick
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from measuring import make_parser
from soak_faults import (
    FAULTS,
    Disk,
    Verdict,
    files,
    give_away,
    judge,
    may_mount,
    naming,
    pages,
    put_another,
    small_files,
)
from soak_processes import Life, Report, Result, start
from soak_results import Watcher, contents, visible
from soak_trainings import SHIFT, TRAININGS, Given, Training, checkpoints_of

from lightning_easiness.record.layout import is_complete

LONGEST_LIFE = 0.6  # of the time that an undisturbed training takes
LONGEST_DELAY = 0.02  # seconds after a file's appearance
MOST_LIVES = 12  # in one folder; then a training is let live
MOST_HALVES = 3  # folders of killed trainings that are kept to be hurt
MOST_WAYS = 3  # that are gone out of one fault
DISK, WRITERS = "disk full", "two writers"
COLUMNS = ("trials", "kills", "resumed", "equal", "named", "WRONG")
QUICK = ["fit, Lightning's checkpoints", "threshold protocol"]


@dataclass
class Whole:
    """An undisturbed training."""

    folder: Path
    result: Result
    files: Result
    seconds: float


@dataclass
class Soak:
    """One driver: its folders, its draws and its counts."""

    name: str
    training: Training
    root: Path
    draw: random.Random
    wrong: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    halves: list[Path] = field(default_factory=list)

    @property
    def place(self) -> Path:
        """Where all is trained, as Lightning's checkpoints name the folder."""
        return self.root / "runs"

    def begin(self) -> None:
        """Train undisturbed, once; raise a RuntimeError where that fails."""
        begun = time.monotonic()
        report = self.live(Given(self.place)).report()
        if report is None or report.error:
            log = (self.root / "report.0.log").read_text()
            raise RuntimeError(f"'{self.name}' does not come to its end, even undisturbed: {log[-2000:]}")
        seconds, folder = time.monotonic() - begun, moved(self.place, self.root / "whole")
        self.whole = Whole(folder, report.result, contents(folder), seconds)

    def live(
        self, given: Given, name: str = "report", around: Callable[..., Result] | None = None, **how: bool
    ) -> Life:
        """Start a life of the training."""

        def work() -> Result:
            return self.training.work(given) if around is None else around(self.training.work, given)

        return start(work, self.root / name, self.training.ranks, **how)

    def count(self, counts: Counter[str], verdict: Verdict, what: str) -> None:
        counts["WRONG" if verdict.kind == "wrong" else verdict.kind] += 1
        if verdict.kind == "wrong":
            self.wrong.append(f"{self.name}, {what}: {verdict.why}")
            print(f"WRONG: {self.wrong[-1]}", file=sys.stderr, flush=True)
        elif verdict.why:
            self.said.append(f"{self.name}, {what}: {verdict.why}")

    # ---------------------------------------------------------------------------------------------- kills

    def kill(self, number: int) -> Counter[str]:
        """Kill so often, in as many folders as it takes."""
        counts: Counter[str] = Counter()
        while counts["kills"] < number:
            counts["trials"] += 1
            folder = self.place
            watcher = Watcher(folder)
            life = self.live_and_die(folder, watcher, counts, number)
            watcher.look()
            verdict = judge(life.report(), self.whole.result)
            self.count(counts, self.checked(verdict, folder, watcher), "killed")
            remove(folder)
        return counts

    def live_and_die(self, folder: Path, watcher: Watcher, counts: Counter[str], number: int) -> Life:
        """Start and kill in turn, and return the life that came to its end."""
        lives = 0
        while True:
            counts["resumed"] += can_resume(folder)
            life = self.live(Given(folder, draw=self.draw.random()))
            lives += 1
            is_last = counts["kills"] >= number or lives > MOST_LIVES
            if is_last or self.wait(life, folder):
                life.report()
                return life
            if life.kill(self.draw.randrange(self.training.ranks)):
                counts["kills"] += 1
                watcher.look()
                self.keep_half(folder)

    def wait(self, life: Life, folder: Path) -> bool:
        """Wait for a random moment; return whether the training came to its end before."""
        seconds = LONGEST_LIFE * self.whole.seconds
        if self.draw.random() < 0.5:
            return life.wait(self.draw.uniform(0, seconds))
        number = len(visible(folder, "*")) + self.draw.randint(1, 5)
        ended = life.wait(2 * seconds, until=lambda: len(visible(folder, "*")) >= number)
        return ended or life.wait(self.draw.uniform(0, LONGEST_DELAY))

    def checked(self, verdict: Verdict, folder: Path, watcher: Watcher) -> Verdict:
        """Return a verdict on the files too."""
        if watcher.wrong:
            return Verdict("wrong", watcher.wrong[0])
        found = contents(folder)
        other = sorted(
            name for name in found.keys() | self.whole.files if found.get(name) != self.whole.files.get(name)
        )
        return Verdict("wrong", f"{len(other)} files differ, the first is {other[0]}") if other else verdict

    def keep_half(self, folder: Path) -> None:
        """Keep a copy of a folder of a killed training, to be hurt later."""
        if len(self.halves) < MOST_HALVES and visible(folder, "step-*") and self.draw.random() < 0.3:
            self.halves.append(copied(folder, self.root / f"half-{len(self.halves)}"))

    # --------------------------------------------------------------------------------------------- faults

    def others(self) -> None:
        """Train with another seed, and with other data, for files that are foreign; runs keep their names."""
        for name, given in {"run": {"shift": SHIFT}, "data set": {"data_seed": 1}}.items():
            self.live(Given(self.place, **given)).report()
            folder = moved(self.place, self.root / f"other {name}")
            for run in sorted(folder.rglob("seed-1*")):
                run.rename(run.with_name(run.name.replace("seed-1", "seed-")))

    def hurt(self, name: str, number: int) -> Counter[str]:
        """Hurt files in copies of folders, one at a time."""
        counts: Counter[str] = Counter()
        for _ in range(number):
            begun = self.draw.choice([self.whole.folder, *self.halves])
            folder = copied(begun, self.place)
            other = self.root / f"other {name.removeprefix('of another ')}"
            anywhere = FAULTS[name].hurt is not put_another
            found = [path for path in files(folder) if anywhere or (other / path.relative_to(folder)).exists()]
            if found:
                counts["trials"] += 1
                path = self.draw.choice(found)
                verdict = self.hurt_one(name, path, folder, other / path.relative_to(folder))
                self.count(counts, verdict, f"{name}: {path.relative_to(folder)} of {begun.name}")
            remove(folder)
        return counts

    def hurt_one(self, name: str, path: Path, folder: Path, other: Path) -> Verdict:
        """Hurt one file, run again, and go the way out."""
        fault, before = FAULTS[name], path.read_bytes()
        how = {"as_nobody": fault.as_nobody and os.getuid() == 0}
        if fault.as_nobody:
            give_away(folder)
            give_away(checkpoints_of(folder))
        fault.hurt(path, other, self.draw)
        first = verdict = judge(self.live(Given(folder), **how).report(), self.whole.result, naming(path))
        for _ in range(MOST_WAYS):
            if verdict.kind != "named":
                break
            if "delete it" in verdict.why and ("copy" not in verdict.why or self.draw.random() < 0.5) and path.exists():
                path.unlink()
            else:
                fault.undo(path, before)
            verdict = judge(self.live(Given(folder), **how).report(), self.whole.result, naming(path))
        if verdict.kind == "equal":
            return first
        return Verdict("wrong", f"{verdict.why} (at first: {first.why})" if first is not verdict else verdict.why)

    def fill_disk(self, number: int) -> Counter[str]:
        """Let the disk be full from some moment on, and make room after."""
        counts: Counter[str] = Counter()
        is_own = may_mount(self.place)
        for _ in range(number):
            counts["trials"] += 1
            begun = self.draw.choice([None, *self.halves])
            verdict = (self.on_full_disk if is_own else self.with_small_files)(begun)
            self.count(counts, verdict, f"{DISK}: from {begun.name if begun else 'nothing'} on")
        return counts

    def on_full_disk(self, begun: Path | None) -> Verdict:
        disk = Disk(self.place)
        folder = disk.folder
        try:
            used = pages(copied(begun, folder)) if begun else 0
            disk.resize(used + self.draw.randint(2, 2 + max(4, pages(self.whole.folder) - used)))
            first = self.judged_in(folder, self.live(Given(folder)).report())
            disk.resize(10 * pages(self.whole.folder))
            return self.after(first, folder)
        finally:
            disk.close()
            remove(folder)

    def with_small_files(self, begun: Path | None) -> Verdict:
        folder = self.place
        if begun:
            copied(begun, folder)
        size = self.draw.randint(100, 60_000)

        def around(work: Callable[[Given], Result], given: Given) -> Result:
            with small_files(size):
                return work(given)

        first = self.judged_in(folder, self.live(Given(folder), around=around).report())
        verdict = self.after(first, folder)
        remove(folder)
        return verdict

    def two_writers(self, number: int) -> Counter[str]:
        """Start the same training twice in one folder, and once more when both have ended."""
        counts: Counter[str] = Counter()
        for _ in range(number):
            counts["trials"] += 1
            folder = self.place
            one = self.live(Given(folder), "one")
            time.sleep(self.draw.uniform(0, 0.5 * self.whole.seconds))
            two = self.live(Given(folder), "two")
            found = [self.judged_in(folder, life.report()) for life in (one, two)]
            worst = max(found, key=lambda verdict: ("equal", "named", "wrong").index(verdict.kind))
            self.count(counts, self.after(worst, folder), WRITERS)
            remove(folder)
        return counts

    def judged_in(self, folder: Path, report: Report | None) -> Verdict:
        """Judge where no file is hurt but the folder is in trouble, which is to be named."""
        return judge(report, self.whole.result, lambda sentence: str(folder) in sentence)

    def after(self, first: Verdict, folder: Path) -> Verdict:
        """Run again when the trouble is over, from an early checkpoint or else anew: that leads to the same result."""
        if first.kind == "wrong":
            return first
        for draw in (0.99, 0.0, 0.99):
            again = self.judged_in(folder, self.live(Given(folder, draw=draw)).report())
            if again.kind == "equal":
                return first
            if again.kind == "wrong":
                break
            if draw == 0:
                shutil.rmtree(checkpoints_of(folder), ignore_errors=True)
        return Verdict("wrong", f"{again.why} (at first: {first.why})")


def can_resume(folder: Path) -> bool:
    """Return whether there is something to go on from: a checkpoint, or a run that is complete."""
    kept = [*folder.rglob("resume.ckpt"), *checkpoints_of(folder).glob("*.ckpt")]
    return bool(kept) or any(is_complete(path.parent) for path in folder.rglob("run.json"))


def copied(folder: Path, to: Path) -> Path:
    """Copy a folder with Lightning's checkpoints beside it."""
    for source, target in ((folder, to), (checkpoints_of(folder), checkpoints_of(to))):
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True)
    return to


def moved(folder: Path, to: Path) -> Path:
    """Move a folder likewise."""
    for source, target in ((folder, to), (checkpoints_of(folder), checkpoints_of(to))):
        if source.exists():
            source.rename(target)
    return to


def remove(folder: Path) -> None:
    for one in (folder, checkpoints_of(folder)):
        shutil.rmtree(one, ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------- the table


def soak(name: str, root: Path, arguments: argparse.Namespace, show: Callable[..., None]) -> Soak:
    """Let one driver go through everything."""
    one = Soak(name, TRAININGS[name], root, random.Random(f"{arguments.seed} {name}"))
    one.begin()
    show(name, "killed", one.kill(arguments.kills))
    if one.training.ranks > 1 or not arguments.trials:
        return one
    one.others()
    for fault in arguments.fault:
        work = {DISK: one.fill_disk, WRITERS: one.two_writers}.get(fault)
        counts = one.hurt(fault, arguments.trials) if work is None else work(arguments.trials)
        show(name, fault, counts)
    return one


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def parsed() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=216, help="in all; default: %(default)s")
    parser.add_argument("--trials", type=int, default=4, help="of each fault for each driver; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and faults")
    parser.add_argument("--driver", action="append", choices=TRAININGS, help="only this one; may be repeated")
    parser.add_argument("--fault", action="append", choices=[*FAULTS, DISK, WRITERS], help="only this one; likewise")
    parser.add_argument("--quick", action="store_true", help="two drivers, 4 kills and one trial of each fault")
    parser.add_argument("--said", action="store_true", help="print what errors and warnings said")
    parser.add_argument("--output", type=Path, help="keep the folders here; there must not be any")
    arguments = parser.parse_args()
    arguments.fault = arguments.fault or [*FAULTS, DISK, WRITERS]
    if arguments.quick:
        arguments.driver, arguments.kills, arguments.trials = arguments.driver or QUICK, 4, 1
    arguments.driver = arguments.driver or [*TRAININGS]
    arguments.kills = -(-arguments.kills // len(arguments.driver))
    return arguments


def soak_all(root: Path, arguments: argparse.Namespace) -> list[str]:
    """Let all drivers go through everything, print the table, and return what is wrong."""
    begun, total, wrong = time.monotonic(), Counter(), []
    said: list[str] = []

    def show(driver: str, fault: str, counts: Counter[str]) -> None:
        total.update(counts)
        print_row(driver, fault, *(counts[kind] for kind in COLUMNS))

    print_row("driver", "what befalls it", *COLUMNS)
    print_row(*["---"] * (2 + len(COLUMNS)))
    for name in arguments.driver:
        folder = root / name.replace(" ", "-").replace("'", "").replace(",", "")
        folder.mkdir()
        folder.chmod(0o755)
        one = soak(name, folder, arguments, show)
        wrong += one.wrong
        said += one.said
    print_row("all", f"in {time.monotonic() - begun:.0f} s", *(total[kind] for kind in COLUMNS))
    print(*(said if arguments.said else []), sep="\n")
    return wrong


def main() -> None:
    arguments = parsed()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)  # a forked child has no other threads
    gc.freeze()  # each run ends with a garbage collection; scanning all imports would take longer than the training
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(soak_all(arguments.output.resolve(), arguments)))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # another user works there too
        sys.exit(bool(soak_all(Path(folder).resolve(), arguments)))


if __name__ == "__main__":
    main()
