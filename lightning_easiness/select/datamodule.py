"""EasinessDataModule: wraps a user's datamodule so that a selection decides what each epoch trains on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_easiness._utils.lightning import restore_nested_hparams
from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness.data.merged import merged_loader
from lightning_easiness.data.subset_loader import check_selectable
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.select.base import Selection
from lightning_easiness.select.checks import check_selection
from lightning_easiness.select.example_weights import mean_of_losses
from lightning_easiness.select.fit import SelectedFit, warn_of_another_rule
from lightning_easiness.select.static import Everything

# every hook that Lightning calls on a datamodule
_HOOKS = tuple(
    name
    for base in (DataHooks, LightningDataModule)
    for name, value in vars(base).items()
    if inspect.isfunction(value) and not name.startswith("_")
)
_READER = "how batches are read is the EasinessCallback's; where there is none, give `reader=BatchReader({0}=...)`"


class EasinessDataModule(LightningDataModule):
    """Trains on a selection of a datamodule's training data, and otherwise behaves like that datamodule.

    Hooks, state, hyperparameters, attributes and the validation, test and prediction loaders are the wrapped
    datamodule's. The train loader keeps all the user's settings and reads the selected examples, optionally with other
    labels. Without a selection, or with one that keeps everything, it is the user's loader itself. Where batch norm
    would see a last batch of a single example, one of those selected is read twice.

    Indices are those of the whole data set. An EasinessCallback still records all of it: online the examples trained
    on, with the labels used in training (`count` is 0 for the others), and in its evaluation pass every example with
    its original label. A selection that observes the examples reads batches as the callback does, and reuses the
    callback's pass if it has just made one; otherwise it makes its own.

    A selection for every epoch is made before the epoch's loader, at the current weights, the same in all processes.
    The Trainer then reloads its train loader each epoch, or each `reload_dataloaders_every_n_epochs`, if the user has
    set it. Workers that stay (`persistent_workers`) go on from one epoch's selection to the next; the loader is then
    one over a selection also where that is everything. A fit resumed within an epoch keeps the epoch's selection.

    The training step may return one loss per example, (B,) or `{"loss": (B,), ...}`: their mean is trained on, with the
    weights of a selection that gives any. See `WeighsExamples` for other ways to take the weights.

    Learning-rate schedules that step with the batches, as those made for `trainer.estimated_stepping_batches` steps,
    take all epochs to be as long as the first. So each epoch, whatever its length, moves them by as many steps as the
    first one has, spread evenly over its own: at the end of the fit a schedule is at its end. Where a selection changes
    no length it moves by one step at a time, as ever. It goes on so where a fit is resumed on another selection, or on
    none. A schedule that the module moves by itself is left to it.

    Args:
        datamodule: A LightningDataModule with one train DataLoader over a map-style data set; or that DataLoader.
        selection: What to train on: `Ablation`, `Relabel`, `Keep`, or your own `Selection`. None: everything.
        val_dataloaders: For validation, if `datamodule` is a DataLoader.
        reader: How to read batches, for selections that observe the examples; only if the Trainer has no
            EasinessCallback.
        check_target: Compare the labels that the data set lists with those of the selection's scores.
        train_on_val: Train on the validation examples too, as the 2018 easiness paper does to measure their easiness:
            the train loader is over the training examples and, after them, those of the one validation loader, and a
            selection chooses among all of them. `EasinessCallback(probe="val")` records the validation examples alone.
            The recipe of the run holds both numbers. What validation then measures is no longer of unseen examples.

    Raises:
        TypeError: If `datamodule` or `selection` has the wrong type, or `val_dataloaders` is given with a datamodule.
            When training starts: with `train_on_val`, if there is not one validation loader, or the train loader has
            a sampler of its own.
        ValueError: If a fit starts with a `reader` and an EasinessCallback, or with a selection that observes and two
            callbacks that read batches differently.

    Example:
        >>> from lightning_easiness import Keep
        >>> loader = DataLoader(range(8), batch_size=2, shuffle=True)
        >>> datamodule = EasinessDataModule(loader, selection=Keep([1, 2, 5]))
        >>> sorted(int(x) for batch in datamodule.train_dataloader() for x in batch)
        [1, 2, 5]
    """

    @refuse_renamed(
        "EasinessDataModule",
        probe_batch_size=_READER.format("batch_size"),
        **{name: _READER.format(name) for name in ("module", "batch_fn", "logits_fn", "loss_fn")},
    )
    def __init__(
        self,
        datamodule: LightningDataModule | DataLoader[Any],
        selection: Selection | None = None,
        *,
        val_dataloaders: Any = None,
        reader: BatchReader | None = None,
        check_target: bool = True,
        train_on_val: bool = False,
    ) -> None:
        # LightningDataModule.__init__ is not called: the attributes that it would set are the wrapped datamodule's
        self.selection = check_selection(selection)
        if not (reader is None or isinstance(reader, BatchReader)):
            raise TypeError(f"The `reader` of EasinessDataModule must be a BatchReader or None; got {reader!r}.")
        self._reader, self._check_target, self.train_on_val = reader, check_target, train_on_val
        self.hold_out: float | str | None = None
        self._part: Callable[[int], Tensor] | None = None
        self._fit = self._new_fit()
        self._losses: Any = None
        self.datamodule = restore_nested_hparams(_as_datamodule(datamodule, val_dataloaders), "datamodule")
        for hook in _HOOKS:
            if getattr(type(self), hook) is getattr(LightningDataModule, hook):  # none of ours, nor of a subclass
                self.__dict__[hook] = getattr(self.datamodule, hook)

    @property
    def reader(self) -> BatchReader | None:
        """How batches are read where the Trainer has no EasinessCallback, as given."""
        return self._reader

    def _new_fit(self) -> SelectedFit | None:
        if self.selection is None and self._part is None:
            return None
        return SelectedFit(self.selection or Everything(), self._reader, self._check_target, self._part)

    def set_held_out(self, hold_out: float | str | None, part: Callable[[int], Tensor] | None) -> None:
        """Let the next fits hold out a part, by the rule of `repeat_fit(hold_out=...)`; None for none.

        `part` returns it for a data set of N examples, bool `(N,)`. It never enters training, whatever the selection.
        """
        self.hold_out, self._part = hold_out, part
        self._fit = self._new_fit()

    @override
    def train_dataloader(self) -> Any:
        """Return the user's train loader over the selection for the current epoch."""
        loader = self.with_validation(self.datamodule.train_dataloader())
        if self._fit is None:
            return loader
        self._fit.trainer = self.trainer
        return self._fit.train_loader(loader)

    def with_validation(self, loader: Any) -> Any:
        """Return a train loader, and with `train_on_val` one over the training and the validation examples."""
        if not self.train_on_val:
            return loader
        check_selectable(loader)
        has_own = is_overridden("val_dataloader", self.datamodule)
        return merged_loader(loader, self.datamodule.val_dataloader() if has_own else None)

    @property
    def val_dataloader(self) -> Any:
        """The wrapped datamodule's hook, which keeps its loaders while only the train loader is reloaded."""
        hook = self.datamodule.val_dataloader
        holds = self._fit is not None and self._fit.reloads and is_overridden("val_dataloader", self.datamodule)
        return partial(self._fit.validation, hook) if holds and self._fit is not None else hook

    @property
    def selected_indices(self) -> Tensor | None:
        """The examples of the latest selection, ascending, int64 `(n,)`; None before the first."""
        return None if self._fit is None or self._fit.choice is None else self._fit.choice.kept

    @property
    def share_of_batches(self) -> float | None:
        """Fraction of this epoch's examples that a selection for each batch has kept in this process; else None."""
        return None if self._fit is None or self._fit.batch_work is None else self._fit.batch_work.fraction

    @override
    def setup(self, stage: str) -> None:
        self.datamodule.setup(stage)
        if stage == "fit":
            self._fit = self._new_fit()
            if self.trainer is not None:
                if self._fit is not None:
                    self._fit.begin(self.trainer)
                # what gives weights comes first
                self._losses = mean_of_losses(self.trainer)

    @override
    def teardown(self, stage: str) -> None:
        self._end()
        self.datamodule.teardown(stage)

    @override
    def on_exception(self, exception: BaseException) -> None:
        self._end()
        self.datamodule.on_exception(exception)

    def _end(self) -> None:
        """Leave the Trainer and the module as they were."""
        if self._fit is not None:
            self._fit.end()
        if self._losses is not None:
            self._losses.remove()
            self._losses = None

    @override
    def state_dict(self) -> dict[str, Any]:
        wrapped = self.datamodule.state_dict()
        selected = {} if self._fit is None else self._fit.state_dict()
        return {"datamodule": wrapped, **selected} if wrapped else selected

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "datamodule" in state_dict:
            self.datamodule.load_state_dict(state_dict["datamodule"])
        if self._fit is not None:
            self._fit.load_state_dict(state_dict)
            return
        if "selection" in state_dict:
            warn_of_another_rule(state_dict["selection"].get("rule"), "training on everything")
        if "schedules" in state_dict and self.trainer is not None and self.trainer.state.fn == "fit":
            self._fit = SelectedFit(Everything(), None, self._check_target)
            self._fit.begin(self.trainer)
            self._fit.load_state_dict({"schedules": state_dict["schedules"]})

    # ------------------------------------------------------------------ the wrapped datamodule's attributes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "datamodule" not in self.__dict__:  # while it is copied or unpickled
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.__dict__["datamodule"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get("datamodule")
        if held is None or name in self.__dict__ or hasattr(type(self), name) or not hasattr(held, name):
            super().__setattr__(name, value)
        else:  # as a batch size finder sets `trainer.datamodule.batch_size`
            setattr(held, name, value)


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


def _as_datamodule(datamodule: Any, val_dataloaders: Any) -> LightningDataModule:
    """Return a datamodule as it is, and a train loader, perhaps with validation loaders, as one."""
    if isinstance(datamodule, DataLoader):
        return (_TrainLoader if val_dataloaders is None else _Loaders)(datamodule, val_dataloaders)
    if not isinstance(datamodule, LightningDataModule):
        way_out = ": write DataLoader(dataset, batch_size=..., shuffle=True)" if isinstance(datamodule, Dataset) else ""
        raise TypeError(
            "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got"
            f" {type(datamodule).__name__}{way_out}."
        )
    if val_dataloaders is not None:
        raise TypeError(
            f"EasinessDataModule takes `val_dataloaders` beside a train DataLoader; {type(datamodule).__name__} has its"
            " own val_dataloader()."
        )
    return datamodule
