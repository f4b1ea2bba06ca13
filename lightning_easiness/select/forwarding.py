"""What an EasinessDataModule hands on: the hooks and attributes of the datamodule, or loaders, that it wraps."""

from __future__ import annotations

from functools import wraps
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import override


class Forwarded:
    """A hook or an attribute that is the wrapped datamodule's.

    What is looked up is the wrapped one's own bound method, so that Lightning, which asks by its code whether a hook is
    overridden, gets the answer that the user's datamodule would give.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(LightningDataModule if instance is None else instance.datamodule, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if "datamodule" in instance.__dict__:  # else LightningDataModule.__init__ sets a default
            setattr(instance.datamodule, self._name, value)


class ForwardedValidation(Forwarded):
    """The wrapped datamodule's validation loaders, which stay what they are where training loaders alone are reloaded.

    The function that is looked up is a wrapper, which Lightning looks through when it asks what is overridden.
    """

    @override
    def __get__(self, instance: Any, owner: type) -> Any:
        hook = super().__get__(instance, owner)
        if instance is None or instance.__dict__.get("_reloading") is None:
            return hook

        @wraps(hook)
        def kept() -> Any:
            trainer, every = instance._reloading
            held = instance._val_loaders
            if held is None or (every and trainer.current_epoch >= held[0] + every):
                held = instance._val_loaders = (trainer.current_epoch, hook())
            return held[1]

        return kept


class _Loaders(LightningDataModule):
    """Loaders as a datamodule."""

    def __init__(self, train: DataLoader[Any], val: Any) -> None:
        super().__init__()
        self._train = train
        if val is not None:  # else Lightning must see no validation loader
            self.val_dataloader = _Given(val).get  # type: ignore[method-assign]

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        return self._train


class _Given:
    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        return self._value


def as_datamodule(datamodule: Any, val_dataloaders: Any) -> LightningDataModule:
    """Returns a datamodule as it is, and a train loader, perhaps with validation loaders, as one.

    Raises:
        TypeError: it is neither; `val_dataloaders` beside a datamodule.
    """
    if isinstance(datamodule, DataLoader):
        return _Loaders(datamodule, val_dataloaders)
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
