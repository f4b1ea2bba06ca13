"""The state of one fit on a selection: the choice, the resumed state, and the changes to the Trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness._utils.lightning import end_resumed_epoch
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.kept_workers import KeptWorkers, can_keep_workers, keep_workers
from lightning_easiness.data.subset import SelectedDataset, try_label
from lightning_easiness.data.subset_loader import check_batches, check_selectable, loader_over
from lightning_easiness.functional._rng import generator
from lightning_easiness.observe.batch_losses import BatchLosses
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.select.base import Selection
from lightning_easiness.select.batches import BatchWork, check_consumers
from lightning_easiness.select.checks import check_batch_size
from lightning_easiness.select.choice import Choice, check_fewest, mean_factor, repeated
from lightning_easiness.select.chooser import Chooser
from lightning_easiness.select.lr_schedules import LRSchedules, warn_of_manual_schedules


class SelectedFit:
    """One fit on a selection, from `begin` until `end`; without a Trainer, the use of loaders outside a fit."""

    def __init__(
        self,
        selection: Selection,
        reader: BatchReader | None,
        check_target: bool,
        hold_out: Callable[[int], Tensor] | None = None,
    ) -> None:
        self.trainer: Any = None
        self.choice: Choice | None = None  # the latest
        self.batch_work: BatchWork | None = None
        self._schedules: LRSchedules | None = None
        self._selection, self._reader, self._check_target = selection, reader, check_target
        self._hold_out = hold_out
        self._chooser = Chooser(selection, reader or BatchReader(), None, check_target)
        self._first: Choice | None = None  # of the first epoch; None, in a fit that is resumed, for everything
        self._restored: Choice | None = None  # of the epoch in which the checkpoint was written
        self._is_resumed = self._has_warned = False
        self._workers = KeptWorkers()
        self._own_reloading: int | None = None  # how often the Trainer would reload, where it is made to each epoch
        self._validation: tuple[int, Any] | None = None  # the epoch and the loaders that hold meanwhile

    def begin(self, trainer: Any) -> None:
        """Listen to the Trainer's EasinessCallback, work on batches and let train loaders be reloaded, as needed."""
        self.trainer, selection = trainer, self._selection
        selection.check(trainer)
        reader, callback = _reader_and_callback(selection, trainer, self._reader)
        self._chooser = Chooser(selection, reader, callback, self._check_target)
        if selection.needs.of_batches:
            self._chooser.batch_losses = BatchLosses(trainer, str(selection))
        if selection.needs.every == "batch" or selection.needs.weights:
            self.batch_work = BatchWork(trainer, selection, reader)
        if selection.needs.every != "fit":
            self._schedules = LRSchedules(trainer)
        if selection.needs.every == "epoch":
            self._own_reloading = trainer.reload_dataloaders_every_n_epochs
            trainer.reload_dataloaders_every_n_epochs = 1

    def end(self) -> None:
        """Leave the Trainer, its callback and its module as they were."""
        self._chooser.close()
        self._workers.close()
        if self.batch_work is not None:
            self.batch_work.close()
            self.batch_work = None
        if self._schedules is not None:
            self._schedules.close()
            self._schedules = None
        if self._own_reloading is not None and self.trainer is not None:
            self.trainer.reload_dataloaders_every_n_epochs = self._own_reloading
            self._own_reloading = self._validation = None

    # ------------------------------------------------------------------ loaders

    def train_loader(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return the user's train loader over the selection for the current epoch."""
        check_selectable(loader)
        if self.trainer is not None:
            check_consumers(self._selection, self.trainer.lightning_module)
            check_batch_size(self._selection, loader)
            self._chooser.recognise(self.trainer, loader)
            if self.batch_work is not None:
                self.batch_work.reading = self._chooser.reading
        self._chooser.held_out = self._held_out(len(loader.dataset))  # type: ignore[arg-type]
        if self._selection.needs.every == "batch":
            return self._without_held_out(loader)
        if self._selection.needs.every == "epoch":
            self._check_further_epochs(loader)
        if self._restored is not None and self._epoch < self._restored.epoch:
            # a fit that is resumed counts its steps before its epoch is restored: as long as the first epoch's loader
            _check_length(self._restored, loader)
            return self._without_held_out(loader) if self._first is None else self._selected(loader, self._first)
        choice = self._choose(loader)
        if self._first is None and not self._is_resumed:
            self._first = choice
        if self.batch_work is not None:
            self.batch_work.weights = choice.weights
            repeats = self._chooser.num_repeated(self.trainer, loader, choice)
            self.batch_work.mean_factor = mean_factor(self.trainer, loader, choice, repeats)
        return self._selected(loader, choice)

    def _held_out(self, size: int) -> Tensor | None:
        """Return the examples that this run holds out, int64 (m,), the same in all processes; None for none."""
        if self._hold_out is None:
            return None
        known = self._chooser.held_out
        if known is not None:  # a loader that is reloaded; of another data set it is refused by the callback
            return known
        held_out = self._hold_out(size).nonzero()[:, 0]
        if self.trainer is not None and self.trainer.world_size > 1:
            held_out = self.trainer.strategy.broadcast(held_out)
        rank_zero_info(f"Held out of this run: {len(held_out)} of {size} examples.")
        return held_out

    def _without_held_out(self, loader: DataLoader[Any], epoch: int = 0) -> DataLoader[Any]:
        if self._chooser.held_out is None and not self._keeps_workers(loader):
            return loader
        size = len(loader.dataset)  # type: ignore[arg-type]
        mask = torch.ones(size, dtype=torch.bool)
        if self._chooser.held_out is not None:
            mask[self._chooser.held_out] = False
        return self._loader_of(loader, Choice(epoch, size, mask.nonzero()[:, 0]))

    @property
    def reloads(self) -> bool:
        """Whether the Trainer is made to reload its loaders each epoch."""
        return self._own_reloading is not None

    def validation(self, hook: Callable[[], Any]) -> Any:
        """Return the user's validation loaders, made as often as the Trainer would by itself."""
        epoch, every = self.trainer.current_epoch, self._own_reloading
        if self._validation is None or (every and epoch >= self._validation[0] + every):
            self._validation = epoch, hook()
        return self._validation[1]

    def _check_further_epochs(self, loader: DataLoader[Any]) -> None:
        if self.choice is None:
            check_fewest(self._selection, self.trainer, loader)
            # a sampler that cannot be kept is better known now than at the first epoch that is no longer on everything
            loader_over(loader, SelectedDataset(loader.dataset, torch.arange(len(loader.dataset))))  # type: ignore[arg-type]
        elif not self._has_warned:  # at the second epoch
            self._has_warned = True
            warn_of_manual_schedules(self.trainer)

    @property
    def _epoch(self) -> int:
        is_every = self._selection.needs.every == "epoch"
        return self.trainer.current_epoch if self.trainer is not None and is_every else 0

    def _choose(self, loader: DataLoader[Any]) -> Choice:
        if self._restored is not None and self._holds(self._restored):  # that epoch goes on
            _check_length(self._restored, loader)
            self.choice = self._restored
        elif self.choice is None or not self._holds(self.choice) or self.choice.num_examples != len(loader.dataset):  # type: ignore[arg-type]
            if self._restored is not None:
                with suppress(TypeError):  # a sampler without a length: no epoch is known to be longer
                    end_resumed_epoch(self.trainer, len(loader))
                self._restored = None
            self.choice = self._chooser.choose(self.trainer, loader, self._epoch)
        return self.choice

    def _holds(self, choice: Choice) -> bool:
        """Whether a choice is for this epoch, too: it holds as long as the Trainer by itself would keep its loaders."""
        return choice.epoch <= self._epoch < choice.epoch + max(1, self._own_reloading or 1)

    def _selected(self, loader: DataLoader[Any], choice: Choice) -> DataLoader[Any]:
        if choice.is_everything:
            return self._without_held_out(loader, choice.epoch)
        return self._loader_of(loader, choice)

    def _loader_of(self, loader: DataLoader[Any], choice: Choice) -> DataLoader[Any]:
        """Return the user's loader over what is chosen, and over repeats where batches would be missing."""
        num_repeated, kept = self._chooser.num_repeated(self.trainer, loader, choice), choice.kept
        draw = generator(self._selection.seed, choice.epoch, num_repeated)
        selected = SelectedDataset(
            loader.dataset,
            repeated(kept, len(kept) + num_repeated, draw),
            choice.labels,
            self._selection.replace_fn,
            self._chooser.held_out,
            num_repeated,
        )
        if choice.labels is not None:
            try_label(selected)
        made = loader_over(loader, selected, partial(self._chooser.positions, self.trainer, loader))
        if choice.labels is None and self._keeps_workers(loader):
            keep_workers(made, self._workers)
        check_batches(str(self._selection), made, self.trainer)
        return made

    def _keeps_workers(self, loader: DataLoader[Any]) -> bool:
        """Whether the workers of a user who asks to keep them go on from one epoch's selection to the next."""
        return self._own_reloading == 0 and can_keep_workers(loader)

    # ------------------------------------------------------------------ state in Lightning's checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the current choice, the first epoch's, and the remembered fields, as tensors and plain types."""
        state: dict[str, Any] = {}
        if self.choice is not None and self._is_kept:
            state["selection"] = {"rule": str(self._selection), **self.choice.state_dict()}
            if self._first is not None and not self._first.is_everything:
                state["first_selection"] = self._first.state_dict()
        of_rule = self._selection.state_dict()
        if of_rule:
            state["of_rule"] = {"rule": str(self._selection), **of_rule}
        of_batches = {} if self._chooser.batch_losses is None else self._chooser.batch_losses.state()
        if of_batches:
            state["batch_losses"] = of_batches
        if self._chooser.latest.values:
            state["remembered"] = dict(self._chooser.latest.values)
        schedules = {} if self._schedules is None else self._schedules.state_dict()
        return {**state, "schedules": schedules} if schedules else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, unless it is another selection's."""
        rule, name = state.get("selection", {}).get("rule"), str(self._selection)
        if "selection" in state and rule == name and self._is_kept:
            self._restored, self._is_resumed = Choice.from_state_dict(state["selection"]), True
            if "first_selection" in state:
                self._first = Choice.from_state_dict(state["first_selection"])
        elif "selection" in state:
            warn_of_another_rule(rule, name)
        if state.get("of_rule", {}).get("rule") == name:
            self._selection.load_state_dict(state["of_rule"])
        # in steps alone they would no longer end with the fit; a validation or a test has none
        if self._schedules is None and "schedules" in state and self.trainer is not None:
            self._schedules = LRSchedules(self.trainer)
        if self._schedules is not None:
            self._schedules.load_state_dict(state.get("schedules", {}))
        if self._chooser.batch_losses is not None:
            self._chooser.batch_losses.restore(state.get("batch_losses", {}))
        held = {name: values.cpu() for name, values in state.get("remembered", {}).items()}
        lacking = [field for field in self._selection.needs.of_outputs if held and field not in held]
        if lacking:
            warn_of_lacking_fields(name, lacking)
        elif held:
            self._chooser.latest.values = held

    @property
    def _is_kept(self) -> bool:
        """Whether a choice could not be made again alike."""
        return self._selection.needs.every == "epoch" or self._selection.needs.passes


def _check_length(choice: Choice, loader: DataLoader[Any]) -> None:
    """Raise an error where a data set has another length than when a checkpoint was written."""
    here, there = DataIdentity(len(loader.dataset)), DataIdentity(choice.num_examples)  # type: ignore[arg-type]
    way_out = "resume with the data set that the checkpoint was written with."
    here.check_same(there, "The data set", "the selection in the checkpoint", way_out)


def warn_of_another_rule(rule: str | None, name: str) -> None:
    """Warn of a checkpoint that was written in a fit on another selection."""
    rank_zero_warn(
        f"The checkpoint holds a choice of {rule}, which does not count for {name}: it chooses anew.",
        category=UserWarning,
    )


def warn_of_lacking_fields(name: str, lacking: Sequence[str]) -> None:
    """Warn of a checkpoint of before a selection went by a field, which is then observed from now on."""
    rank_zero_warn(
        f"The checkpoint holds no {', '.join(lacking)} of the examples, by which {name} goes: it trains on those"
        " that are not observed again.",
        category=UserWarning,
    )


def _reader_and_callback(
    selection: Selection, trainer: Any, reader: BatchReader | None
) -> tuple[BatchReader, EasinessCallback | None]:
    """How batches are read, and the callback whose observations serve the selection; or an error before training."""
    name, needs = str(selection), selection.needs
    observes = needs.passes or needs.online
    callbacks = [callback for callback in trainer.callbacks if isinstance(callback, EasinessCallback)]
    usable = [callback for callback in callbacks if callback.online or not needs.online]
    if callbacks and reader is not None:
        raise ValueError(
            "EasinessDataModule has a `reader`, but the Trainer has an EasinessCallback, which says how batches are"
            " read: leave out `reader`, and give its arguments to EasinessCallback."
        )
    if needs.online and not usable:
        raise ValueError(
            f"{name} goes by what an EasinessCallback sees in training, and the Trainer has none that is online: add"
            " EasinessCallback(probe=None) to its callbacks."
        )
    if not callbacks:
        return reader or BatchReader(), None
    first = callbacks[0].reader
    if observes and any(replace(callback.reader, batch_size=first.batch_size) != first for callback in callbacks):
        raise ValueError(
            f"The Trainer has {len(callbacks)} EasinessCallbacks that read batches differently, so it is not known by"
            f" which of them {name} chooses: give them the same `module`, `batch_fn`, `logits_fn`, `loss_fn`,"
            " `sigma2` and `num_draws`."
        )
    # one that observes the same examples, if there is one, as its passes can be used
    return first, min(usable, key=lambda callback: callback.probe != "train") if observes else None
