"""Experiments in several processes, for experiments/test_distributed.py; each rank leaves its own files.

python -m tests.distributed_experiments <folder> <scenario> ...: in two processes, by gloo on the CPU.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from lightning_easiness import LabelIssues, StepwiseCompression, Threshold, ThresholdRuns, find_label_issues, repeat_fit
from lightning_easiness.experiments.halves import ARGUMENTS_FILE
from tests.repeated_runs import Data, never
from tests.small import NUM_CLASSES, Net, Points, loader, trainer

SHARED: dict[str, Any] = {}  # what makes a Trainer share its work
N, SEEDS, SEED = 61, (3, 4), 7  # an odd number: with two processes one example is trained on twice
EPOCHS = 3
PERCENTILE = 75  # of 12 threshold examples a high one is decided by a single one
WRITTEN: list[str] = []  # the argument files that this process wrote


class Wide(Net):
    """Has as many outputs as asked for, no batch norm and no dropout; keeps the labels that it is trained on."""

    def __init__(self, num_classes: int, lr: float = 0.1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, num_classes))
        self.lr = lr
        self.trained: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trained.append(batch[1].clone())
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def still(num_classes: int) -> Wide:
    """A module whose weights stay, so that its margins do not depend on who trains on what."""
    return Wide(num_classes, lr=0.0)


def make_trainer(max_epochs: int = EPOCHS) -> Trainer:
    return trainer(max_epochs=max_epochs, **SHARED)


def protocol(folder: Path, make_module: Any = Wide, **options: Any) -> ThresholdRuns:
    given = {"make_trainer": make_trainer, "seeds": SEEDS, "seed": SEED, "progress": False, **options}
    data = loader(Points(N), batch_size=4)
    return ThresholdRuns(make_module=make_module, datamodule=data, num_classes=NUM_CLASSES, dirpath=folder, **given)


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: the argument file is written beside and moved to its place."""
    if event == "os.rename" and str(arguments[1]).endswith(ARGUMENTS_FILE):
        WRITTEN.append(ARGUMENTS_FILE)


def as_plain(issues: LabelIssues) -> dict[str, Any]:
    """The table as what `torch.load(weights_only=True)` reads."""
    names = ("index", "given", "suggested", "score", "spread", "is_issue", "unseen", "probabilities", "threshold")
    return {name: getattr(issues, name) for name in names}


def leave(folder: Path, name: str, **content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / f"{name}-{getattr(rank_zero_only, 'rank', 0)}.pt")


def found(folder: Path, make_module: Any = Wide, name: str = "table", make: Any = make_trainer) -> None:
    """Run, and leave the table and how often a Trainer was asked for."""
    made = []

    def counted() -> Trainer:
        made.append(1)
        return make()

    runs = protocol(folder / "runs", make_module, make_trainer=counted)
    WRITTEN.clear()
    issues = find_label_issues(runs.run(), Threshold(PERCENTILE))
    leave(folder, name, **as_plain(issues), made=len(made), written=list(WRITTEN))


def learning(folder: Path) -> None:
    """And at once again, in the same processes."""
    found(folder)
    found(folder, name="again", make=never)


def refused(folder: Path) -> None:
    """Errors reach every process: of another draw or data set in a folder, and of a head that is too narrow."""
    runs = folder.parent / "learning" / "runs"
    shorter = protocol(runs, seeds=(*SEEDS, 9))
    shorter.datamodule = loader(Points(N - 8), batch_size=4)
    narrow = protocol(folder / "narrow", lambda num_classes: Wide(num_classes - 1))
    for name, bad in {"draw": protocol(runs, seed=SEED + 1), "size": shorter, "head": narrow}.items():
        try:
            bad.run()
        except ValueError as error:
            leave(folder, name, message=str(error))


def compression(folder: Path) -> None:
    """Stepwise compression, and at once again from what is on disk."""
    arguments = {"ratio": 0.2, "seeds": (1,), "dirpath": folder / "runs", "progress": False}
    shared = StepwiseCompression(lambda: make_trainer(2), Net, Data(), **arguments)
    for name in ("first", "again"):
        leave(folder, name, kept=shared.run())


def held_out_runs(folder: Path, lr: float = 0.1, dies: bool = False) -> dict[str, Any]:
    """Repeats that hold out a part, and the inputs that this process trained on, by seed."""
    trained: dict[int, list[Tensor]] = {seed: [] for seed in SEEDS}

    class Notes(Wide):
        def __init__(self, seed: int) -> None:
            super().__init__(NUM_CLASSES, lr)
            self.seed = seed

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            trained[self.seed].append(batch[0].clone())
            return super().training_step(batch, batch_idx)

        def on_train_epoch_start(self) -> None:
            if dies and self.current_epoch == 1:
                raise ArithmeticError("on purpose")

    arguments = {"seeds": SEEDS, "dirpath": folder, "hold_out": 0.3, "progress": False}
    data = loader(Points(N), batch_size=4)
    record = repeat_fit(lambda: make_trainer(2), lambda seed: Notes(seed), data, **arguments)
    inputs = {str(seed): torch.cat(rows) for seed, rows in trained.items()}
    return {"inputs": inputs, "held_out": record.held_out, "probabilities": record.held_out_probabilities()}


def held_out(folder: Path) -> None:
    """Learning, where the first run dies and is gone on with, and with weights that stay."""
    with suppress(ArithmeticError):
        held_out_runs(folder / "runs", dies=True)
    leave(folder, "learning", **held_out_runs(folder / "runs"))
    leave(folder, "still", **held_out_runs(folder / "still-runs", lr=0.0))


class DrawsByRank(Net):
    """Each process draws other random numbers, for its dropout and its augmentations; one is killed where asked."""

    trained: list[list[float]] = []  # noqa: RUF012  # (epoch, loss) of each batch in this process

    def __init__(self, dies: bool) -> None:
        super().__init__()
        self.dies = dies

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.dies and self.trainer.global_rank == 1 and (self.current_epoch, batch_idx) == (2, 3):
            os.kill(os.getpid(), signal.SIGKILL)
        torch.rand(self.trainer.global_rank)
        loss = super().training_step(batch, batch_idx)
        self.trained.append([self.current_epoch, self.losses[-1]])
        return loss


def drawing_by_rank(folder: Path, dies: bool) -> None:
    DrawsByRank.trained.clear()
    data = loader(Points(N, augment=True), batch_size=4)
    arguments = {"seeds": (5,), "dirpath": folder / "runs", "progress": False}
    repeat_fit(make_trainer, lambda: DrawsByRank(dies), data, **arguments)
    leave(folder, "trained", batches=DrawsByRank.trained)


SCENARIOS: dict[str, Callable[[Path], None]] = {
    "still_weights": lambda folder: found(folder, still),
    "learning": learning,
    "gone_on": found,  # the folder holds a part of the runs already
    "refused": refused,
    "compression": compression,
    "held_out": held_out,
    "undisturbed": lambda folder: drawing_by_rank(folder, dies=False),
    "killed": lambda folder: drawing_by_rank(folder, dies=True),
    "resumed": lambda folder: drawing_by_rank(folder.with_name("killed"), dies=False),
}


def main(folder: Path, *scenarios: str) -> None:
    torch.set_num_threads(1)
    sys.addaudithook(note)
    SHARED.update(strategy="ddp", devices=2)
    for name in scenarios:
        SCENARIOS[name](folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
