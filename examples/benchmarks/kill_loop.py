"""Is anything lost when training is killed at random moments, again and again?

Trains repeats in a child process, kills it (SIGKILL) at random moments, checks the folder after each kill, and
starts it again, until the number of kills is reached and all seeds are complete. Half of the kills come at any time,
the other half a few milliseconds after a new file appears, when something is being written. Every checkpoint that was
ever seen must still be there with the same content, or set aside until it is recorded again; every file must be
complete, and the final record must be bit-identical to that of a process that was never killed. The data is shuffled
and augmented and the model has dropout, so that all RNG states matter.

    python examples/benchmarks/kill_loop.py
    python examples/benchmarks/kill_loop.py --rounds 500 --seeds 5 --epochs 8
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from measuring import make_parser
from models import quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord, repeat_fit
from lightning_easiness.record.layout import is_complete, list_series

NUM_EXAMPLES, NUM_CLASSES, BATCH_SIZE = 300, 4, 20
LONGEST_LIFE = 1.5  # seconds
LONGEST_DELAY = 0.02  # seconds after a file's appearance
RESUME_FILE = "resume.ckpt"

Content = tuple[Any, bytes]


class Points(Dataset):
    """Points with a learnable class, augmented with each of the three global random generators."""

    def __init__(self) -> None:
        self.x = torch.randn(NUM_EXAMPLES, 8, generator=torch.Generator().manual_seed(0))
        self.y = self.x[:, :NUM_CLASSES].argmax(1)

    def __len__(self) -> int:
        return NUM_EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(8) + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.x[index] + 0.1 * noise, self.y[index]


class Net(LightningModule):
    """A small classifier with dropout, momentum and a schedule."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, NUM_CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


def train(folder: Path, num_seeds: int, num_epochs: int) -> None:
    """Run what the child process runs, each time from the beginning."""
    repeat_fit(
        lambda: quiet_trainer(
            accelerator="cpu",
            max_epochs=num_epochs,
            callbacks=[EasinessCallback(every_n_epochs=1, num_images=0, at_steps=(0, 20))],
        ),
        Net,
        DataLoader(Points(), batch_size=BATCH_SIZE, shuffle=True),
        seeds=range(num_seeds),
        dirpath=folder,
        progress=False,
    )


def start(work: Callable[[], None], log: Path) -> int:
    """Fork, since importing everything again would take longer than the training; return the process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        sys.stdout = sys.stderr = log.open("a", encoding="utf-8")
        work()
        status = 0
    except BaseException:
        logging.exception("The child process ended with an error.")
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, seconds: float | None = None, until: Callable[[], bool] = lambda: False) -> bool:
    """Wait until a process ends, the time is over, or `until` returns True; return whether the process ended.

    Raises:
        RuntimeError: The process ended with an error.
    """
    deadline = time.monotonic() + (float("inf") if seconds is None else seconds)
    while time.monotonic() < deadline and not until():
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise RuntimeError(f"The child process ended with status {os.waitstatus_to_exitcode(status)}.")
            return True
        time.sleep(0.0005)
    return False


def kill(child: int) -> bool:
    """Kill a process and return whether it was still running."""
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def checkpoint_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/[!.]*/step-*.safetensors"))


def content(path: Path) -> Content:
    """Read the header (parsed, since its order may differ) and the values of a safetensors file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


class Watcher:
    """All checkpoints ever seen on disk, checked again after each kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[Path, Content] = {}
        self.lost: set[Path] = set()
        self.changed: set[Path] = set()
        self.unreadable: list[str] = []
        self.torn = 0  # kills in the middle of writing, which leave a temporary file
        self.resumable = 0  # kills after which a run can resume from the end of an epoch

    def look(self) -> None:
        now: dict[Path, Content] = {}
        for path in checkpoint_files(self.folder):
            try:
                now[path] = content(path)
            except ValueError as error:
                self.unreadable.append(f"{path}: {error}")
        self.lost |= {path for path in self.seen.keys() - now.keys() if not self._is_aside(path)}
        self.changed |= {path for path in self.seen.keys() & now.keys() if now[path] != self.seen[path]}
        self.seen |= now
        self.torn += any(self.folder.rglob(".tmp-*"))
        self.resumable += any(self.folder.glob(f"*/{RESUME_FILE}"))
        for run in sorted({path.parents[1] for path in now}):
            self._read(run)

    def _is_aside(self, path: Path) -> bool:
        """Return whether a checkpoint was set aside whole: its run had nothing to resume from, and began anew."""
        run, place = path.parents[1], path.relative_to(path.parents[1])
        return any(content(aside) == self.seen[path] for aside in run.glob(f".earlier-*/{place}"))

    def _read(self, run: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # load warns about anything it leaves out
                for series in list_series(run):
                    record = EasinessRecord.load(run, series)
                    for field in record.fields:
                        record.field(field)
            if (run / RESUME_FILE).exists():
                torch.load(run / RESUME_FILE, weights_only=True)
        except Exception as error:
            self.unreadable.append(f"{run.name}: {error}")

    def sound(self) -> bool:
        return not (self.lost or self.changed or self.unreadable)


def kill_again_and_again(folder: Path, arguments: argparse.Namespace, log: Path) -> tuple[Watcher, int, int]:
    """Return the watcher, the number of kills and the number of seeds trained."""
    draw = random.Random(arguments.seed)
    watcher, kills, num_seeds = Watcher(folder), 0, arguments.seeds
    while True:
        child = start(lambda: train(folder, num_seeds, arguments.epochs), log)  # noqa: B023
        if kills >= arguments.rounds:
            wait(child)
            watcher.look()
            return watcher, kills, num_seeds
        if draw.random() < 0.5:
            ended = wait(child, draw.uniform(0, LONGEST_LIFE))
        else:
            number = len(checkpoint_files(folder)) + draw.randint(1, 5)
            ended = wait(child, until=lambda: len(checkpoint_files(folder)) >= number)  # noqa: B023
            time.sleep(draw.uniform(0, LONGEST_DELAY))
        if ended:
            num_seeds += arguments.seeds
        elif kill(child):
            kills += 1
            watcher.look()
            if not watcher.sound():
                return watcher, kills, num_seeds


def same_record(left: Path, right: Path, num_seeds: int) -> bool:
    """Return whether both folders contain the same runs, all complete, with the same content in each file."""
    found = [
        {path.relative_to(folder): content(path) for path in folder.rglob("*.safetensors")} for folder in (left, right)
    ]
    complete = [is_complete(folder / f"seed-{seed}") for folder in (left, right) for seed in range(num_seeds)]
    return all(complete) and found[0] == found[1] and len(found[0]) > 0


def run(folder: Path, arguments: argparse.Namespace) -> bool:
    """Run the kills and the comparison; return whether nothing was lost."""
    log = folder / "log.txt"
    begin = time.monotonic()
    watcher, kills, num_seeds = kill_again_and_again(folder / "killed", arguments, log)
    wait(start(lambda: train(folder / "whole", num_seeds, arguments.epochs), log))
    same = watcher.sound() and same_record(folder / "killed", folder / "whole", num_seeds)
    for problem in [*sorted(map(str, watcher.lost | watcher.changed)), *watcher.unreadable]:
        print(problem)
    print(
        f"{kills} kills ({watcher.torn} in the middle of writing a file, {watcher.resumable} with an epoch to resume"
        f" from) over {num_seeds} seeds of {arguments.epochs} epochs in {time.monotonic() - begin:.0f} s:"
        f" {len(watcher.seen)} checkpoints seen, {len(watcher.lost)} lost, {len(watcher.changed)} changed,"
        f" {len(watcher.unreadable)} unreadable; the record is"
        f" {'bit-identical to' if same else 'NOT THE SAME AS'} that of a process that was never killed."
    )
    return watcher.sound() and same


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="number of kills")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; when they are done, this many are added")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random kill times")
    parser.add_argument("--output", type=Path, default=None, help="keep the runs in this folder; it must not have any")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)  # a forked child has no other threads
    gc.freeze()  # each run ends with a garbage collection; scanning all imports would take longer than the training
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        sys.exit(not run(arguments.output, arguments))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not run(Path(folder), arguments))


if __name__ == "__main__":
    main()
