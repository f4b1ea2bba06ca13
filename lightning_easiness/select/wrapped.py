"""What an EasinessDataModule wraps: a user's datamodule, or loaders as one."""

from __future__ import annotations

import inspect
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.core.hooks import DataHooks
from torch.utils.data import DataLoader
from typing_extensions import override

# every hook that Lightning calls on a datamodule
HOOKS = tuple(
    name
    for base in (DataHooks, LightningDataModule)
    for name, value in vars(base).items()
    if inspect.isfunction(value) and not name.startswith("_")
)


class _TrainLoader(LightningDataModule):
    """A train loader as a datamodule; Lightning must see no validation loader."""

    def __init__(self, train: DataLoader[Any], val: Any) -> None:
        super().__init__()
        self._train, self._val = train, val

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        return self._train


class _Loaders(_TrainLoader):
    """A train loader and validation loaders as a datamodule."""

    @override
    def val_dataloader(self) -> Any:
        return self._val


def as_datamodule(datamodule: Any, val_dataloaders: Any) -> LightningDataModule:
    """Return a datamodule as it is, and a train loader, perhaps with validation loaders, as one."""
    if isinstance(datamodule, DataLoader):
        return (_TrainLoader if val_dataloaders is None else _Loaders)(datamodule, val_dataloaders)
    if not isinstance(datamodule, LightningDataModule):
        raise TypeError(
            "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got"
            f" {type(datamodule).__name__}."
        )
    if val_dataloaders is not None:
        raise TypeError(
            f"EasinessDataModule takes `val_dataloaders` beside a train DataLoader; {type(datamodule).__name__} has its"
            " own val_dataloader()."
        )
    return datamodule
