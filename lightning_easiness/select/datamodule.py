"""EasinessDataModule: a user's datamodule, of whose training data a selection says what each epoch trains on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_easiness._utils.lightning import end_resumed_epoch
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.subset import SelectedDataset, try_label
from lightning_easiness.data.subset_loader import check_batches, check_selectable, select_from
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.select.base import Selection, check_selection
from lightning_easiness.select.batches import BatchWork, check_consumers
from lightning_easiness.select.chooser import Choice, Chooser
from lightning_easiness.select.forwarding import Forwarded, ForwardedValidation, as_datamodule


class EasinessDataModule(LightningDataModule):
    """Trains on what a selection chooses from a datamodule's training data, and is that datamodule in all else.

    Hooks, state, hyperparameters, attributes and the validation, test and prediction loaders are the wrapped
    datamodule's. The train loader keeps all that the user set; it reads the selected examples, perhaps under other
    labels. With no selection, or one that keeps everything, it is the user's loader itself.

    Indices are those of the whole data set. An EasinessCallback beside it goes on recording all of it: online what was
    trained on, under the labels that were trained with (`count` is 0 for the others), and in its probe every example
    under its true label.

    A selection for every epoch is made before the epoch's loader, at the current weights, alike in all processes; the
    Trainer then reloads its train loader each epoch; a choice holds for as many epochs as the Trainer's own
    `reload_dataloaders_every_n_epochs` says. A fit that is resumed within an epoch keeps the epoch's selection.
    Learning-rate schedules that ask for `trainer.estimated_stepping_batches` take all epochs to be as long as the
    first: let such a schedule step once an epoch.

    Args:
        datamodule: a LightningDataModule with one train DataLoader over a map-style data set; or that DataLoader.
        selection: what to train on: `Ablation`, `Relabel`, `Keep`, or a `Selection` of your own. None: everything.
        val_dataloaders: for validation, where `datamodule` is a DataLoader.
        module: as in EasinessCallback, like the next four, for selections that look at the examples.
        batch_fn: batch -> (inputs, targets).
        logits_fn: what the module returns -> logits (B, K).
        loss_fn: (logits, targets) -> (B,) losses.
        probe_batch_size: examples a batch where examples are looked at.
        check_target: compare the labels that the data set lists with those of the selection's scores.

    Raises:
        TypeError: `datamodule` is neither; `val_dataloaders` beside a datamodule.

    Example:
        >>> from lightning_easiness import Keep
        >>> loader = DataLoader(range(8), batch_size=2, shuffle=True)
        >>> datamodule = EasinessDataModule(loader, selection=Keep([1, 2, 5]))
        >>> sorted(int(x) for batch in datamodule.train_dataloader() for x in batch)
        [1, 2, 5]
    """

    # the hooks of a datamodule, and what Lightning reads off it
    prepare_data: Any = Forwarded()
    val_dataloader: Any = ForwardedValidation()
    test_dataloader: Any = Forwarded()
    predict_dataloader: Any = Forwarded()
    on_before_batch_transfer: Any = Forwarded()
    transfer_batch_to_device: Any = Forwarded()
    on_after_batch_transfer: Any = Forwarded()
    trainer: Any = Forwarded()
    prepare_data_per_node: Any = Forwarded()
    allow_zero_length_dataloader_with_multiple_devices: Any = Forwarded()
    hparams: Any = Forwarded()
    hparams_initial: Any = Forwarded()
    _log_hyperparams: Any = Forwarded()

    def __init__(
        self,
        datamodule: LightningDataModule | DataLoader[Any],
        selection: Selection | None = None,
        *,
        val_dataloaders: Any = None,
        module: str | None = None,
        batch_fn: Callable[[Any], tuple[Any, Any]] | None = None,
        logits_fn: Callable[[Any], Any] | None = None,
        loss_fn: Callable[[Any, Any], Tensor] | None = None,
        probe_batch_size: int | None = None,
        check_target: bool = True,
    ) -> None:
        super().__init__()
        self.selection = check_selection("EasinessDataModule", selection)
        sigma2 = 1e-4 if selection is None else selection.sigma2
        reader = BatchReader(module, batch_fn, logits_fn, loss_fn, probe_batch_size, sigma2)
        self._chooser = None if selection is None else Chooser(selection, reader, check_target)
        self._choice: Choice | None = None
        self._restored: Choice | None = None
        self._first: Choice | None = None  # of the first epoch; None, in a fit that is resumed, for everything
        self._is_resumed = False
        self._has_warned = False
        self._reloading: Any = None  # the Trainer that is made to reload its loaders each epoch, and how often it would
        self._val_loaders: Any = None  # the epoch and the loaders that hold meanwhile
        self._batch_work: BatchWork | None = None
        self._heard: EasinessCallback | None = None  # the callback that tells what it observes
        self.datamodule = as_datamodule(datamodule, val_dataloaders)

    # ------------------------------------------------------------------ the training data

    def train_dataloader(self) -> Any:
        """The user's train loader over what is selected for the epoch at hand."""
        loader = self.datamodule.train_dataloader()
        if self._chooser is None:
            return loader
        check_selectable(loader)
        if self.trainer is not None and self.selection is not None:
            check_consumers(self.selection, self.trainer.lightning_module)
        if self.selection is not None and self.selection.per_batch:
            return loader
        if self._is_made_again and self._choice is None:
            # a sampler that cannot be kept is better known now than at the first epoch that is no longer on everything
            select_from(loader, SelectedDataset(loader.dataset, torch.arange(len(loader.dataset))))
        if self._is_made_again and self._choice is not None and not self._has_warned:  # at the second epoch
            self._has_warned = True
            _warn_of_schedules(self.trainer)
        if self._is_asked_early:
            return self._of_first_size(loader)
        choice = self._choose(loader)
        if self._first is None and not self._is_resumed:
            self._first = choice
        if self._batch_work is not None:
            self._batch_work.weights = choice.weights
        return loader if choice.is_everything else self._selected(loader, choice)

    def _selected(self, loader: DataLoader[Any], choice: Choice) -> DataLoader[Any]:
        assert self.selection is not None
        selected = SelectedDataset(loader.dataset, choice.kept, choice.labels, self.selection.replace_fn)
        if choice.labels is not None:
            try_label(selected)
        assert self._chooser is not None
        made = select_from(loader, selected, self._chooser.enough(self.trainer, loader))
        check_batches(type(self.selection).__name__, made, self.trainer)
        return made

    @property
    def selected_indices(self) -> Tensor | None:
        """The examples of the latest selection, ascending, int64 (n,); None before the first."""
        return None if self._choice is None else self._choice.kept

    @property
    def share_of_batches(self) -> float | None:
        """The share of this epoch's examples so far that a selection `per_batch` kept, in this process; else None."""
        return None if self._batch_work is None else self._batch_work.share

    def _choose(self, loader: DataLoader[Any]) -> Choice:
        epoch = self.trainer.current_epoch if self.trainer is not None and self._is_made_again else 0
        if self._restored is not None and epoch < self._restored.epoch + self._rhythm:  # that epoch goes on
            self._choice = self._check_restored(self._restored, loader)
        elif self._choice is None or not self._holds(self._choice, epoch, loader):
            assert self._chooser is not None
            if self._restored is not None:
                _end_restored_epoch(self.trainer, loader)
            self._restored = None
            self._choice = self._chooser.choose(self.trainer, loader, epoch)
        return self._choice

    @property
    def _is_asked_early(self) -> bool:
        """Whether a fit is being resumed, and asks for a loader before it knows of its epoch: to count steps."""
        restored = self._restored
        return restored is not None and self._is_made_again and self.trainer.current_epoch < restored.epoch

    def _of_first_size(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """A loader as long as that of the first epoch, so that a schedule is planned as it was when the fit began."""
        assert self._restored is not None
        self._check_restored(self._restored, loader)
        return loader if self._first is None or self._first.is_everything else self._selected(loader, self._first)

    def _holds(self, choice: Choice, epoch: int, loader: DataLoader[Any]) -> bool:
        same_data = choice.num_examples == len(loader.dataset)  # type: ignore[arg-type]
        return same_data and choice.epoch <= epoch < choice.epoch + self._rhythm

    @property
    def _rhythm(self) -> int:
        """For how many epochs a choice holds: as many as the Trainer was told to keep its loaders."""
        return max(1, self._reloading[1]) if self._reloading is not None else 1

    @property
    def _is_made_again(self) -> bool:
        return self.selection is not None and self.selection.every_epoch

    def _check_restored(self, choice: Choice, loader: DataLoader[Any]) -> Choice:
        size = len(loader.dataset)  # type: ignore[arg-type]
        if choice.num_examples != size:
            raise ValueError(
                f"The data set holds {size} examples, but the selection that the checkpoint holds is one of"
                f" {choice.num_examples}, so an index no longer names the same example; resume with the data set of"
                " then."
            )
        return choice

    # ------------------------------------------------------------------ hooks that do something of their own

    @override
    def setup(self, stage: str) -> None:
        self.datamodule.setup(stage)
        if stage != "fit":
            return
        self._choice = self._restored = self._first = None
        self._is_resumed = False
        if self.selection is not None and self.trainer is not None:
            self.selection.check(self.trainer)
            self._take_part(self.trainer, self.selection)
        if self._is_made_again and self.trainer is not None:
            self._reloading = (self.trainer, self.trainer.reload_dataloaders_every_n_epochs)
            self.trainer.reload_dataloaders_every_n_epochs = 1

    @override
    def teardown(self, stage: str) -> None:
        self._restore_trainer()
        self.datamodule.teardown(stage)

    @override
    def on_exception(self, exception: BaseException) -> None:
        self._restore_trainer()
        self.datamodule.on_exception(exception)

    def _take_part(self, trainer: Any, selection: Selection) -> None:
        """Listens to the Trainer's EasinessCallback, and works on batches, where the selection asks for it."""
        assert self._chooser is not None
        if selection.needs_observation or selection.online:
            callbacks = [one for one in trainer.callbacks if isinstance(one, EasinessCallback)]
            self._heard = _heard_callback(selection, callbacks)
        self._chooser.begin(self._heard)
        if self._heard is not None:
            self._heard.subscribe(self._chooser.listen, selection.remembers if selection.online else ())
        if selection.per_batch or selection.weighs:
            self._batch_work = BatchWork(trainer, selection, self._chooser.probe)

    def _restore_trainer(self) -> None:
        if self._heard is not None and self._chooser is not None:
            self._heard.unsubscribe(self._chooser.listen)
            self._heard = None
        if self._batch_work is not None:
            self._batch_work.close()
            self._batch_work = None
        if self._reloading is not None:
            trainer, own = self._reloading
            trainer.reload_dataloaders_every_n_epochs = own
            self._reloading = self._val_loaders = None

    @override
    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if wrapped := self.datamodule.state_dict():
            state["datamodule"] = wrapped
        choice = self._choice
        if self.selection is not None and (self.selection.every_epoch or self.selection.needs_observation) and choice:
            state["selection"] = {"rule": type(self.selection).__name__, **choice.state_dict()}
            if self._first is not None and not self._first.is_everything:
                state["first_selection"] = self._first.state_dict()
        if self._chooser is not None and self._chooser.remembered:
            state["remembered"] = dict(self._chooser.remembered)
        return state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "datamodule" in state_dict:
            self.datamodule.load_state_dict(state_dict["datamodule"])
        if "selection" in state_dict and self._is_of_this_rule(state_dict["selection"].get("rule")):
            self._restored = Choice.from_state_dict(state_dict["selection"])
            self._is_resumed = True
            if "first_selection" in state_dict:
                self._first = Choice.from_state_dict(state_dict["first_selection"])
        if "remembered" in state_dict and self._chooser is not None:
            self._chooser.remembered = {name: values.cpu() for name, values in state_dict["remembered"].items()}

    def _is_of_this_rule(self, rule: str | None) -> bool:
        selection = self.selection
        ours = "training on everything" if selection is None else type(selection).__name__
        if rule == ours and selection is not None and (selection.every_epoch or selection.needs_observation):
            return True
        rank_zero_warn(
            f"The checkpoint holds a choice of {rule}, which does not count for {ours}: it chooses anew.",
            category=UserWarning,
        )
        return False

    # ------------------------------------------------------------------ whatever else the wrapped one has

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


def _end_restored_epoch(trainer: Any, loader: DataLoader[Any]) -> None:
    """Lets a fit that is resumed after an epoch's very last batch begin the next epoch at its first batch."""
    with suppress(TypeError):  # a sampler without a length: no epoch is known to be longer
        end_resumed_epoch(trainer, len(loader))


def _heard_callback(selection: Selection, callbacks: list[EasinessCallback]) -> EasinessCallback | None:
    """The callback of the Trainer whose observations serve the selection.

    Raises:
        ValueError: the selection lives by what is observed online, and there is none that does so, or with another
            noise.
    """
    name = type(selection).__name__
    usable = [
        one for one in callbacks if one.reader.sigma2 == selection.sigma2 and (one.online or not selection.online)
    ]
    if selection.online and not usable:
        raise ValueError(
            f"{name} with online=True goes by what an EasinessCallback sees in training, and the Trainer has none with"
            f" online=True and sigma2={selection.sigma2}: add EasinessCallback(probe=None, sigma2={selection.sigma2})"
            " to its callbacks."
        )
    return usable[0] if usable else None


def _warn_of_schedules(trainer: Any) -> None:
    """Warns of a schedule that knows its number of steps, and steps with the batches, whose number now changes."""
    for config in [] if trainer is None or trainer.strategy is None else trainer.lr_scheduler_configs:
        if config.interval == "step" and getattr(config.scheduler, "total_steps", None):
            rank_zero_warn(
                f"{type(config.scheduler).__name__} steps with each batch and was made for"
                f" {config.scheduler.total_steps} steps, but the epochs of a selection differ in length: let it step"
                " once an epoch, interval='epoch', and give it the number of epochs.",
                category=UserWarning,
            )
