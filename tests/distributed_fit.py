"""Fits in several processes, for tests/contracts/test_ranks.py; each rank leaves what it saw in a file of its own.

python -m tests.distributed_fit <strategy> <number of processes> <folder> <scenario> ... [+ <strategy> ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback
from tests.contracts.cases import CALLBACKS
from tests.plain_forward import Traces
from tests.resuming import Order, Place, Resumable
from tests.selecting import IndexedPoints
from tests.small import Net, Points, loader, streams, trainer

STRATEGY: dict[str, Any] = {}


def make_trainer(**options: Any) -> Trainer:
    return trainer(**STRATEGY, **options)


class Keep(Callback):
    """Leaves a file at the training's end, or at its start."""

    def __init__(self, path: Path, read: Callable[[Any, Any], Any], at_start: bool = False) -> None:
        self.path, self.read, self.at_start = path, read, at_start

    def keep(self, trainer: Trainer, pl_module: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.read(trainer, pl_module), self.path.with_name(f"{self.path.name}-{trainer.global_rank}.pt"))

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.at_start:
            self.keep(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not self.at_start:
            self.keep(trainer, pl_module)


def weights(trainer: Trainer, pl_module: Any) -> dict[str, Tensor]:
    return dict(pl_module.state_dict())


class Constant(Net):
    """Has gradients of one, so that its weights are the same however many processes share the data."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return sum(part.sum() for part in self.parameters()) + 0 * self(batch[0]).sum()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def registry(folder: Path) -> None:
    """Each callback of the registry, at weights that are the same whatever the number of processes."""
    for name, case in CALLBACKS.items():
        seed_everything(3, verbose=False)
        callbacks = [*case.callbacks(folder / name / "record", run="only"), Keep(folder / name / "weights", weights)]
        fit = make_trainer(callbacks=callbacks, max_steps=2, max_epochs=-1)
        fit.fit(Constant(), loader(Points(augment=True)))


def default(folder: Path) -> None:
    """The callback without arguments, beside a logger, and a callback that monitors what it logs."""
    observer, stop = EasinessCallback(), EarlyStopping("easiness/train-online/mean_loss", patience=1, min_delta=99.0)

    def left(trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "seconds" not in name}
        return {"folder": str(observer.folder), "metrics": metrics, "epochs": trainer.current_epoch}

    seed_everything(9, verbose=False)
    callbacks = [observer, stop, Keep(folder / "seen", left)]
    make_trainer(callbacks=callbacks, logger=CSVLogger(folder, name="csv"), max_epochs=9).fit(Net(), loader())


class SpoilBuffers(Callback):
    """Makes each rank's running statistics another's; rank 0's are as they were."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        for buffer in pl_module.buffers():
            buffer.add_(trainer.global_rank)


def buffers(folder: Path) -> None:
    """Running statistics that differ by rank while the probe is made."""
    seed_everything(4, verbose=False)
    observer = EasinessCallback(folder / "record", every_n_epochs=0, at_steps=(0,), online=False)
    after = Keep(folder / "weights", weights, at_start=True)
    make_trainer(callbacks=[SpoilBuffers(), observer, after], max_steps=1, max_epochs=-1).fit(Net(), loader())


def online(folder: Path) -> None:
    seed_everything(5, verbose=False)
    trace = Keep(folder / "trace", lambda trainer, pl_module: pl_module.trace)
    observer = EasinessCallback(folder / "record", probe=None, probabilities=True)
    make_trainer(callbacks=[observer, trace]).fit(Traces(), loader(IndexedPoints()))


def untouched(folder: Path) -> None:
    """The same training with and without the callback."""

    def left(trainer: Trainer, pl_module: Any) -> dict[str, Any]:
        return {
            "weights": weights(trainer, pl_module),
            "optimizer": trainer.optimizers[0].state_dict(),
            "losses": pl_module.losses,
            "streams": str(streams()),
        }

    for name in ("without", "with"):
        seed_everything(6, verbose=False)
        observers = [EasinessCallback(folder / "record", every_n_epochs=1, at_steps=(0, 1))] if name == "with" else []
        fit = make_trainer(callbacks=[*observers, Keep(folder / name, left)])
        fit.fit(Net("adam"), loader(Points(augment=True)), loader(Points(20, seed=5), shuffle=False))


class Shard(Order):
    """This rank's four batches, in an order of the epoch's own."""

    def __init__(self, rank: int, ranks: int) -> None:
        super().__init__(Place(), 53)
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(53, generator=torch.Generator().manual_seed(self.place.epoch))
        mine = order[self.rank :: self.ranks].tensor_split(4)
        return iter([batch.tolist() for batch in mine[self.place.given :]])


class Still(Constant):
    """Draws nothing at random."""

    def train_dataloader(self) -> DataLoader:
        return Resumable(Shard(self.trainer.global_rank, self.trainer.world_size))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :8])

    training_step, configure_optimizers = Net.training_step, Net.configure_optimizers


def fit_by_order(folder: Path, name: str, ckpt_path: Path | None = None, **options: Any) -> None:
    """Train on batches of a known order, two epochs of four steps, with a checkpoint in the second one's middle."""
    seed_everything(7, verbose=False)
    callbacks = [
        EasinessCallback(folder / name, every_n_epochs=1, at_steps=(0, 3), run="only", probabilities=True),
        Keep(folder / f"{name}-weights", weights),
        ModelCheckpoint(folder / f"{name}-kept", filename="{step}", every_n_train_steps=6, save_top_k=-1),
    ]
    fit = make_trainer(callbacks=callbacks, use_distributed_sampler=False, enable_checkpointing=True, **options)
    fit.fit(Still(), ckpt_path=ckpt_path)


def resumed(folder: Path) -> None:
    """One training as a whole, and one that is stopped in its second epoch's middle and resumed."""
    fit_by_order(folder, "whole")
    fit_by_order(folder, "resumed", max_steps=6)
    fit_by_order(folder, "resumed", folder / "resumed-kept" / "step=6.ckpt")


def stopped(folder: Path) -> None:
    """A training that is stopped in its second epoch's middle."""
    fit_by_order(folder, "record", max_steps=6)


def gone_on(folder: Path) -> None:
    """The training that was stopped, resumed by as many processes as there are now."""
    begun = folder.with_name("stopped")
    fit_by_order(begun, "record", begun / "record-kept" / "step=6.ckpt")


class SaveOnException(Checkpoint):
    """As ModelCheckpoint(save_on_exception=True)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


class FailsAt(Callback):
    """Raises an error in every process, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ArithmeticError("on purpose")


def part_of_a_course(folder: Path) -> None:
    """Train as many processes' part of one course: steps 1 and 2 by one, 3 by three, the rest by two."""
    folder, processes = folder.with_name("course"), STRATEGY["devices"]
    begin, end = {1: (0, 2), 3: (2, 3), 2: (3, 8)}[processes]
    seed_everything(7, verbose=False)
    observer = EasinessCallback(folder / "record", every_n_epochs=1, run="only", probabilities=True)
    callbacks: list[Callback] = [observer]
    if end < 8:
        callbacks += [FailsAt(end), SaveOnException(folder / f"step={end}.ckpt")]
    fit = make_trainer(callbacks=callbacks, use_distributed_sampler=False, enable_checkpointing=end < 8)
    with nullcontext() if end == 8 else suppress(ArithmeticError):
        fit.fit(Still(), ckpt_path=folder / f"step={begin}.ckpt" if begin else None)


def failed(folder: Path) -> None:
    """A training that fails in its second epoch's middle, and is resumed from what is saved then."""

    def observer(name: str) -> EasinessCallback:
        return EasinessCallback(folder / name, every_n_epochs=1, run="only", probabilities=True)

    def make(callbacks: list[Callback]) -> Trainer:
        seed_everything(7, verbose=False)  # before the module is made
        saves = any(isinstance(one, Checkpoint) for one in callbacks)
        return make_trainer(callbacks=callbacks, use_distributed_sampler=False, enable_checkpointing=saves)

    make([observer("whole")]).fit(Still())
    with suppress(ArithmeticError):
        make([observer("failed"), FailsAt(6), SaveOnException(folder / "failed.ckpt")]).fit(Still())
    make([observer("failed")]).fit(Still(), ckpt_path=folder / "failed.ckpt")


def few(folder: Path) -> None:
    """More processes than batches, and batches than examples a process."""
    seed_everything(8, verbose=False)
    ends = [Keep(folder / "start", weights, at_start=True), Keep(folder / "end", weights)]
    fit = make_trainer(callbacks=[EasinessCallback(folder / "record", at_steps=(0,)), *ends], max_epochs=1)
    fit.fit(Constant(), loader(Points(3)))


def unwritable(folder: Path) -> None:
    """A file is where the folder of the runs should be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record").write_text("precious")
    (folder / f"pid-{os.environ.get('LOCAL_RANK', 0)}").write_text(str(os.getpid()))
    make_trainer(callbacks=[EasinessCallback(folder / "record")]).fit(Net(), loader())


def main(arguments: list[str]) -> None:
    strategy, devices, folder, *scenarios = arguments
    STRATEGY.update(strategy=strategy, devices=int(devices))
    for name in scenarios:
        globals()[name](Path(folder) / name)


if __name__ == "__main__":
    rest = sys.argv[1:]
    while rest:
        end = rest.index("+") if "+" in rest else len(rest)
        main(rest[:end])
        rest = rest[end + 1 :]
