"""Modules and fits that the tests of rules for each epoch share."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, Selection
from tests.selecting import IndexedBase, fit
from tests.set_fits import Weighs

SIZE = 53
EVERYTHING = list(range(SIZE))


class Plain(Weighs):
    """Without batch norm, for whose sake examples are repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.Identity()


class Sees(Plain):
    """Keeps the margins of each step too."""

    def __init__(self) -> None:
        super().__init__()
        self.margins: list[Tensor] = []

    def losses_of(self, batch: Any) -> Tensor:
        logits, rows = self(batch[0]), torch.arange(len(batch[1]))
        own = logits[rows, batch[1]]
        self.margins.append((own - logits.index_put((rows, batch[1]), torch.tensor(-math.inf)).amax(1)).detach())
        return nn.functional.cross_entropy(logits, batch[1], reduction="none")

    def last(self, epoch: int, margin: bool = False) -> dict[int, float]:
        """Example -> its last loss, or margin, before an epoch."""
        known: dict[int, float] = {}
        for (at, indices, losses, _), margins in zip(self.steps, self.margins, strict=True):
            if at < epoch:
                known.update(zip(indices, (margins if margin else losses).tolist(), strict=True))
        return known

    def has_weights(self, epoch: int) -> bool:
        return any(weight is not None for at, _, _, weight in self.steps if at == epoch)


def trained(rule: Selection, folder: Path, **options: Any) -> Sees:
    seed_everything(3, verbose=False)
    callbacks = [EasinessCallback(folder, probe=None)]
    return fit(IndexedBase(), rule, Sees(), callbacks=callbacks, **{"max_epochs": 5, **options})[0]


def half_up(number: float) -> int:
    return math.floor(number + 0.5)


def highest(values: dict[int, float], count: int) -> list[int]:
    return sorted(sorted(values, key=lambda example: -values[example])[:count])


def below_mean(module: Sees, epoch: int) -> set[int]:
    known = module.last(epoch)
    return {example for example, loss in known.items() if loss < fmean(known.values())}
