"""Very many small examples, read a batch at a time: what is measured is what the package does with their number."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from measuring import Clock, clock_parser
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

NUM_CLASSES = 10


class Held(Dataset[Any]):
    """Examples of one byte each, and their labels."""

    def __init__(self, size: int, num_classes: int = NUM_CLASSES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randint(256, (size, 1), dtype=torch.uint8, generator=generator)
        self.targets = torch.randint(num_classes, (size,), generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.targets[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        index = torch.as_tensor(indices)
        return self.x[index], self.targets[index]


def as_batch(fetched: Any) -> Any:
    """Return what is a batch already; collate single examples."""
    return fetched if isinstance(fetched, tuple) else default_collate(fetched)


class AtRandom(Sampler[list[int]]):
    """Batches of all examples in random order, without a list of all of them."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        return (part.tolist() for part in torch.randperm(self.size).split(self.batch_size))


def held_loader(size: int, batch_size: int, num_classes: int = NUM_CLASSES, shuffle: bool = False) -> DataLoader[Any]:
    """Read all examples in order, or at random, a batch at a time."""
    held = Held(size, num_classes)
    if shuffle:
        return DataLoader(held, batch_sampler=AtRandom(size, batch_size), collate_fn=as_batch)
    return DataLoader(held, batch_size, collate_fn=as_batch)


class Tiny(LightningModule):
    """One linear layer."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float() / 255)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class EndOf(Callback):
    """Times at which an epoch's end reaches this place in the list of callbacks."""

    def __init__(self, kind: str) -> None:
        self.clock, self.times = Clock(kind), []

    def on_train_epoch_end(self, *args: Any) -> None:
        self.times.append(self.clock())


def many_parser(about: str | None, sizes: Sequence[int]) -> argparse.ArgumentParser:
    """Make a parser with numbers of examples."""
    made = clock_parser(about)
    made.add_argument("--examples", type=int, nargs="*", default=list(sizes), help="default: %(default)s")
    made.add_argument("--batch-size", type=int, default=65_536, help="default: %(default)s")
    return made
