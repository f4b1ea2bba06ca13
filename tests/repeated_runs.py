"""What the tests of repeat_fit train, and repeats that die in the middle, for test_repeats_killed.py.

python -m tests.repeated_runs <folder>: starts each of CASES in a process of its own that kills itself at its moment,
and a process for each of SEPARATE_SEEDS that lives.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    SampleEasinessTraining,
    repeat_fit,
)
from tests.small import Net, Points, loader, trainer

EPOCHS = 4
SEPARATE_SEEDS = (1, 2)


class Validated(Net):
    """Draws while it validates, too."""

    def val_dataloader(self) -> DataLoader:
        return loader(Points(20, augment=True, seed=5), shuffle=False)


class WithTest(Net):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))


class Plateau(Validated):
    """Its learning rate falls after each epoch but the first, as no epoch is good enough."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.3, threshold=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class OneCycle(Net):
    """Asks for the number of steps, for which Lightning makes the train loader's first iterator early."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class OwnGenerators(Points):
    """Draws its augmentations from generators that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.Generator().manual_seed(3)
        self.shift = [np.random.default_rng(4), np.random.RandomState(5)]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        return x + torch.rand(8, generator=self.noise) + float(sum(one.normal() for one in self.shift)), y


@dataclass
class Modules:
    """Makes modules and counts those that train; the one of a number ends its training in the second epoch."""

    dies: int | None = None
    error: type[BaseException] | None = ArithmeticError
    trained: int = 0

    def __call__(self) -> Net:
        module = Net()
        module.on_train_start = self.count  # type: ignore[method-assign]
        module.on_train_epoch_start = lambda: self.end(module)  # type: ignore[method-assign]
        return module

    def count(self) -> None:
        self.trained += 1

    def end(self, module: Net) -> None:
        if module.current_epoch == 1 and self.trained == self.dies:
            die(self.error)


def die(error: type[BaseException] | None) -> None:
    """Raise an error, or without one kill the process, with no chance to tidy up."""
    if error is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise error("on purpose")


def never(*arguments: Any) -> Any:
    raise AssertionError("what is complete is not trained again")


class TrainOnly(LightningDataModule):
    def __init__(self, size: int = 53) -> None:
        super().__init__()
        self.points, self.checked = Points(size, augment=True), Points(20, seed=5)

    def train_dataloader(self) -> DataLoader:
        return loader(self.points)


class Data(TrainOnly):
    def val_dataloader(self) -> DataLoader:
        return loader(self.checked, shuffle=False)

    test_dataloader = val_dataloader


@dataclass(frozen=True)
class Setup:
    """What is trained; the data is shuffled and augmented, and the module drops units, in each of them."""

    module: Callable[[], Net] = Net
    data: Callable[[], Any] = lambda: loader(Points(augment=True))
    options: dict[str, Any] = field(default_factory=dict)
    callbacks: Callable[[], list[Callback]] = list
    observer: Callable[[], EasinessCallback] = lambda: EasinessCallback(num_images=0, at_steps=(0, 10))
    hold_out: float | None = None


SETUPS = {
    "plain": Setup(observer=lambda: EasinessCallback(every_n_epochs=1, num_images=0, at_steps=(0, 10))),
    "online only, workers": Setup(
        data=lambda: loader(Points(augment=True), num_workers=1), observer=lambda: EasinessCallback(probe=None)
    ),
    "a generator of the loader's own": Setup(data=lambda: loader(generator=torch.Generator().manual_seed(7))),
    "generators of the data set's own": Setup(data=lambda: loader(OwnGenerators())),
    "datamodule": Setup(Validated, Data, {"val_check_interval": 0.5}),
    "reload each epoch": Setup(Validated, options={"reload_dataloaders_every_n_epochs": 1}),
    "plateau": Setup(Plateau),
    "one cycle": Setup(OneCycle),
    "accumulation": Setup(options={"accumulate_grad_batches": 3}),
    "a part held out": Setup(data=lambda: loader(Points(augment=True)), hold_out=0.3),
    "a part held out of a selection": Setup(
        data=lambda: EasinessDataModule(
            loader(Points(augment=True)), SampleEasinessTraining(early_epochs=1, minimum=30)
        ),
        hold_out=0.3,
    ),
    "max_steps": Setup(OneCycle, options={"max_steps": 24, "max_epochs": -1}),
    "early stopping": Setup(
        Validated,
        options={"max_epochs": 9},
        callbacks=lambda: [EarlyStopping("val_loss", patience=2, min_delta=9.0)],
    ),
}


class Moment(NamedTuple):
    """When a run dies: at a hook, in an epoch, before or after the observer's own hook."""

    hook: str
    epoch: int
    batch: int = 0
    before: bool = True


MOMENTS = {
    "in the first epoch": Moment("on_train_batch_end", 0, 3),
    "at a step that is probed": Moment("on_train_batch_end", 1, 2, before=False),
    "in the last batch": Moment("on_train_batch_end", 1, 6),
    "before an epoch is observed": Moment("on_train_epoch_end", 1),
    "before an epoch is saved": Moment("on_train_epoch_end", 1, before=False),
    "when an epoch begins": Moment("on_train_epoch_start", 2),
    "in mid-epoch": Moment("on_train_batch_end", 2, 3),
    "before the run is complete": Moment("on_train_end", -1),
    "when the run is complete": Moment("on_fit_end", -1),
}
CASES = [
    *(("plain", moment) for moment in MOMENTS),
    *((setup, "in mid-epoch") for setup in SETUPS if setup != "plain"),
    ("max_steps", "before the run is complete"),
    ("early stopping", "before the run is complete"),
]


class Kill(Callback):
    """Ends a training at a moment: with an error, or without one by killing its process."""

    def __init__(self, moment: Moment, error: type[BaseException] | None = None) -> None:
        self.moment, self.error = moment, error
        setattr(self, moment.hook, self.kill)

    def kill(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        ends = self.moment.hook in ("on_train_end", "on_fit_end")
        if ends or (trainer.current_epoch == self.moment.epoch and (not batch or batch[-1] == self.moment.batch)):
            die(self.error)


def repeat(folder: Path, setup: Setup, seeds: tuple[int, ...] = (3,), kill: Moment | None = None) -> EasinessRecord:
    def make_trainer() -> Any:
        callbacks = [*setup.callbacks(), setup.observer()]
        if kill is not None:
            callbacks.insert(len(callbacks) - kill.before, Kill(kill))
        return trainer(**{"max_epochs": EPOCHS, "callbacks": callbacks, **setup.options})

    options = {"dirpath": folder, "hold_out": setup.hold_out, "progress": False}
    return repeat_fit(make_trainer, setup.module, setup.data, seeds=seeds, **options)


def in_a_process(work: Callable[[], object]) -> int:
    """Forks, so that nothing is imported again; returns the exit status, or minus the signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # a fork does not take threads along
    gc.freeze()  # else looking through all that is imported would take each run longer than its training
    for setup, moment in CASES:
        status = in_a_process(lambda: repeat(folder / setup / moment, SETUPS[setup], kill=MOMENTS[moment]))  # noqa: B023
        assert status == -signal.SIGKILL, f"{setup}, killed {moment}: ended with {status}"
    for seed in SEPARATE_SEEDS:
        assert in_a_process(lambda: repeat(folder / "separate", SETUPS["plain"], seeds=(seed,))) == 0  # noqa: B023


if __name__ == "__main__":
    main(Path(sys.argv[1]))
