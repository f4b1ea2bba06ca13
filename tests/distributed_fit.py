"""Fits in several processes, for test_distributed.py; each rank leaves what it saw in a file of its own.

python -m tests.distributed_fit <strategy> <number of processes> <folder> <scenario> ... [+ <strategy> ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback
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

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
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


def probe(folder: Path) -> None:
    """The same weights at steps 0 and 2, whatever the number of processes."""
    seed_everything(3, verbose=False)
    observer = EasinessCallback(folder / "record", every_n_epochs=0, at_steps=(0, 2), online=False)
    fit = make_trainer(callbacks=[observer, Keep(folder / "weights", weights)], max_steps=2, max_epochs=-1)
    fit.fit(Constant(), loader(Points(augment=True)))


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


class Told(Points):
    """Tells the index of each example in its inputs."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(index)
        return torch.cat([x, torch.tensor([float(index)])]), y


class Traces(Net):
    """Keeps epoch, index, loss and margin of what it trains on."""

    def __init__(self) -> None:
        super().__init__()
        self.trace: list[tuple[int, int, float, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x[:, :8])
        for index, row, target in zip(x[:, 8].tolist(), logits.detach(), y.tolist(), strict=True):
            others = [float(value) for k, value in enumerate(row) if k != target]
            loss = -float(row.double().log_softmax(0)[target])
            self.trace.append((self.current_epoch, int(index), loss, float(row[target]) - max(others)))
        return nn.functional.cross_entropy(logits, y)


def online(folder: Path) -> None:
    seed_everything(5, verbose=False)
    trace = Keep(folder / "trace", lambda trainer, pl_module: pl_module.trace)
    observer = EasinessCallback(folder / "record", probe=None, probabilities=True)
    make_trainer(callbacks=[observer, trace]).fit(Traces(), loader(Told()))


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


class Shard:
    """This rank's batches, in an order of the epoch's own; goes on where it was, by Lightning's protocol."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks, self.epoch, self.given = rank, ranks, 0, 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(53, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        mine = order[self.rank :: self.ranks]
        size = -(-len(mine) // 4)
        yield from [mine[start : start + size] for start in range(0, len(mine), size)][self.given :]


class Resumable(DataLoader):
    def __init__(self, shard: Shard) -> None:
        super().__init__(Points(), batch_sampler=shard)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        shard: Any = self.batch_sampler
        if shard.given == len(shard):
            shard.epoch, shard.given = shard.epoch + 1, 0
        for batch in super().__iter__():
            shard.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        shard: Any = self.batch_sampler
        return {"epoch": shard.epoch, "given": shard.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        shard: Any = self.batch_sampler
        shard.epoch, shard.given = state["epoch"], state["given"]


class Still(Net):
    """Draws nothing at random."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def train_dataloader(self) -> DataLoader:
        return Resumable(Shard(self.trainer.global_rank, self.trainer.world_size))


def resumed(folder: Path) -> None:
    """One training as a whole, and one that is stopped in its second epoch's middle and resumed."""

    def fit(name: str, ckpt_path: Path | None = None, **options: Any) -> None:
        seed_everything(7, verbose=False)
        callbacks = [
            EasinessCallback(folder / name, every_n_epochs=1, at_steps=(0, 3), run="only", probabilities=True),
            Keep(folder / f"{name}-weights", weights),
            ModelCheckpoint(folder / f"{name}-kept", filename="{step}", every_n_train_steps=6, save_top_k=-1),
        ]
        fit = make_trainer(callbacks=callbacks, use_distributed_sampler=False, enable_checkpointing=True, **options)
        fit.fit(Still(), ckpt_path=ckpt_path)

    fit("whole")
    fit("resumed", max_steps=6)
    fit("resumed", folder / "resumed-kept" / "step=6.ckpt")


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
