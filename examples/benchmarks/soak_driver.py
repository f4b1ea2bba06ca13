"""One driver of the soak test: a training that is killed, hurt and watched."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from soak_faults import (
    FAULTS,
    Disk,
    Fault,
    Verdict,
    files,
    forbid_folder,
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
from soak_trainings import SHIFT, Given, Training, checkpoints_of

from lightning_easiness.record.layout import is_complete

LONGEST_LIFE = 0.6  # of the time that an undisturbed training takes
LONGEST_DELAY = 0.02  # seconds after a file's appearance
MOST_LIVES = 12  # in one folder; then a training is let live
MOST_HALVES = 3  # folders of killed trainings that are kept to be hurt
DISK, WRITERS = "disk full", "two writers"
ALL_FAULTS = (*FAULTS, DISK, WRITERS)


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

    def befall(self, fault: str, number: int) -> Counter[str]:
        """Let a fault befall it so often."""
        work = {DISK: self.fill_disk, WRITERS: self.two_writers}.get(fault)
        return self.hurt(fault, number) if work is None else work(number)

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
        as_nobody = fault.as_nobody and os.getuid() == 0
        if as_nobody:
            checkpoints_of(folder).mkdir(exist_ok=True)  # beside, where only root may make one
            give_away(folder)
            give_away(checkpoints_of(folder))
        fault.hurt(path, other, self.draw)
        first = judge(
            self.live(Given(folder), as_nobody=as_nobody).report(), self.whole.result, self.named(fault, path)
        )
        if first.kind == "named" and "delete it" in first.why and path.exists() and self.draw.random() < 0.5:
            path.unlink()
            again = self.judged_in(folder, self.live(Given(folder), as_nobody=as_nobody).report())
            if again.kind != "named":  # else what is gone has to be copied there
                return first if again.kind == "equal" else again
        if first.kind == "named":
            fault.undo(path, before)
            return self.after(first, folder, as_nobody)
        return first

    def named(self, fault: Fault, path: Path) -> Callable[[str], bool]:
        """Return whether a sentence names what is hurt: the file, or anything in the folder that is closed."""
        names, is_closed = naming(path), fault.hurt is forbid_folder
        return lambda sentence: names(sentence) or (is_closed and str(path.parent) in sentence)

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

    def after(self, first: Verdict, folder: Path, as_nobody: bool = False) -> Verdict:
        """Run again when the trouble is over, from an early checkpoint or else anew: that leads to the same result."""
        if first.kind == "wrong":
            return first
        for draw in (0.99, 0.0, 0.99):
            again = self.judged_in(folder, self.live(Given(folder, draw=draw), as_nobody=as_nobody).report())
            if again.kind == "equal":
                return first
            if again.kind == "wrong":
                break
            if draw == 0:
                for path in checkpoints_of(folder).glob("*.ckpt"):
                    path.unlink()
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
    """Remove a folder likewise, and open first what a fault has closed."""
    for one in (folder, checkpoints_of(folder)):
        if one.exists():
            one.chmod(0o755)
            for where, folders, _ in os.walk(one):
                for name in folders:
                    Path(where, name).chmod(0o755)
            shutil.rmtree(one)
