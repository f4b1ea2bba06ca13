"""Small modules, data sets and Trainers that the tests share."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

NUM_CLASSES = 4


class Points(Dataset):
    """Examples whose class can be learnt; with `augment`, drawn anew from all three global streams at each access."""

    def __init__(self, size: int = 53, augment: bool = False, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, 8, generator=generator)
        self.y = self.x[:, :NUM_CLASSES].argmax(1)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = self.x[index]
        if self.augment:
            x = x + 0.1 * torch.randn(8) + 0.1 * random.random() + 0.1 * np.random.rand()  # noqa: NPY002
        return x.float(), int(self.y[index])


class Net(LightningModule):
    """An ordinary module with dropout and batch norm that keeps the losses it saw."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
        self.optimizer = optimizer
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.optimizer == "lbfgs":
            return torch.optim.LBFGS(self.parameters(), lr=0.05, max_iter=4)
        if self.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), lr=0.01)
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def loader(dataset: Dataset | None = None, **options: Any) -> DataLoader:
    options = {"batch_size": 8, "shuffle": True, **options}
    return DataLoader(Points() if dataset is None else dataset, **options)


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 2,
}


def trainer(**options: Any) -> Trainer:
    return Trainer(**{**QUIET, **options})


def streams() -> tuple[Any, ...]:
    """The states of the three global random streams."""
    return torch.get_rng_state().tolist(), [str(part) for part in np.random.get_state()], random.getstate()  # noqa: NPY002


def fitted(module: Net, data: Any, callbacks: list[Callback], **options: Any) -> dict[str, Any]:
    """Everything that a fit leaves behind."""
    data = data if isinstance(data, dict) else {"train_dataloaders": data}
    if "train_dataloaders" in data:
        data = {**data, "val_dataloaders": loader(Points(20, seed=5), shuffle=False)}
    fit = trainer(callbacks=callbacks, **options)
    fit.fit(module, **data)
    return {
        "weights": module.state_dict(),
        "optimizer": fit.optimizers[0].state_dict(),
        "losses": module.losses,
        "modes": [part.training for part in module.modules()],
        "streams": streams(),
    }


def assert_identical(left: Any, right: Any, where: str = "") -> None:
    """Compares nested containers of tensors and plain values, to the bit."""
    if isinstance(left, Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_identical(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for position, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_identical(a, b, f"{where}/{position}")
    else:
        assert left == right, where


def recorded(folder: Path, hidden: bool = True) -> dict[str, Any]:
    """Everything in the records under a folder, to the bit; metadata may come in any order.

    Without `hidden`, what was set aside is left out.
    """
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        if not hidden and any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        found[str(path.relative_to(folder))] = (json.loads(content[8:end]), content[end:])
    return found
