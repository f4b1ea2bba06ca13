"""Makes a selection's choices in one fit: alike in all processes, never empty, and reported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness._utils.lightning import num_steps
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.ordered_loader import examples_per_batch
from lightning_easiness.data.subset import known_identity
from lightning_easiness.data.subset_loader import drawable
from lightning_easiness.observe.batch_losses import BatchLosses
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.refusals import lacks_fields
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.checks import (
    check_passes,
    checked_decision,
    checked_indices,
    checked_labels,
    checked_weights,
)
from lightning_easiness.select.choice import Choice, batches_asked_for, filled_up, least_chosen, positions_needed
from lightning_easiness.select.latest import Latest
from lightning_easiness.select.report import Added, ClassShares, report_choice


class Chooser:
    """Makes a selection's choices for a user's loader, and listens to a callback that reads alike, until `close`."""

    def __init__(
        self,
        selection: Selection,
        reader: BatchReader,
        callback: EasinessCallback | None = None,
        check_target: bool = True,
        held_out: Tensor | None = None,
    ) -> None:
        self.held_out = held_out  # int64 (m,), the examples never to be trained on; None for none
        self.latest = Latest(selection.needs.fields)
        self._shares = ClassShares()
        self._selection, self._name, self._needs = selection, str(selection), selection.needs
        self._reader, self._callback, self._check_target = reader, callback, check_target
        self.reading: Reading | None = None  # how outputs are read, once it is known
        self._is_tried = False
        self._of_callback: Observation | None = None  # its latest pass
        self.batch_losses: BatchLosses | None = None  # of the fit, where the selection goes by them
        self._known: tuple[Any, DataIdentity | None] = (None, None)  # of the data set that it was read from
        if callback is not None:
            callback.subscribe(self.listen, self._needs.of_outputs if self._needs.online else ())

    def close(self) -> None:
        """Stop listening to the callback and to training steps."""
        if self.batch_losses is not None:
            self.batch_losses.close()
        if self._callback is not None:
            self._callback.unsubscribe(self.listen)

    def listen(self, observation: Observation) -> None:
        """Take in what the Trainer's EasinessCallback observed."""
        if observation.series == PASS_SERIES:
            self._of_callback = observation
        elif observation.series == ONLINE_SERIES and self._needs.online:
            self.latest.note(observation)

    def recognise(self, trainer: Trainer, loader: DataLoader[Any]) -> None:
        """Recognise the task, once a fit, or raise a ValueError where it lacks what the selection goes by."""
        needs = self._needs
        if self._is_tried or not (needs.passes or needs.of_outputs):
            return
        self._is_tried = True
        trial = EvaluationPass("train", loader, self._reader)
        with nullcontext() if self._callback is None else self._callback.usage.paused():
            trial.try_batch(trainer, may_fail=needs.online, announces=self._callback is None)
        self.reading = trial.reading
        lacking = [] if trial.reading is None else [one for one in needs.of_outputs if one not in trial.task.fields]
        if lacking:
            raise ValueError(lacks_fields(self._name, lacking, trial.task.loss_name))

    def choose(self, trainer: Trainer | None, loader: DataLoader[Any], epoch: int) -> Choice:
        """Choose for an epoch, in all processes together."""
        started = time.perf_counter()
        state, among = self._state(trainer, loader, epoch), self._drawable(loader)
        choice = _same_in_all_processes(trainer, self._asked(state))
        drawn = choice.kept if among is None else choice.kept[among[choice.kept]]
        kept = self._completed(drawn, loader, state, among)
        num_left_out = 0 if among is None else state.num_examples - int(among.sum())
        choice = replace(choice, kept=kept, num_left_out=num_left_out)
        target = state.target if state.target is not None else self._selection.target
        seconds = time.perf_counter() - started
        added = Added(len(kept) - len(drawn), self.num_repeated(trainer, loader, choice))
        report_choice(self._selection, trainer, choice, self._shares.of(choice.kept, target), added, seconds)
        return choice

    def num_repeated(self, trainer: Trainer | None, loader: DataLoader[Any], choice: Choice) -> int:
        """Return how many examples of a choice an epoch reads again; none where it is the user's own loader's."""
        if choice.is_everything and self.held_out is None:
            return 0
        return self.positions(trainer, loader, len(choice.kept)) - len(choice.kept)

    def positions(self, trainer: Trainer | None, loader: DataLoader[Any], count: int) -> int:
        """Return how many examples an epoch on `count` of them reads, with its repeats.

        A selection that is made once gets no further batches by repeats: where it is too small it is refused.
        """
        completes = self._needs.every == "epoch" or self.held_out is not None
        batches = max(batches_asked_for(trainer), 1) if completes else 0
        return positions_needed(trainer, loader, count, batches)

    def _asked(self, state: SelectionState) -> Choice:
        """Return what the selection itself chooses, which for an epoch may be nothing: it is filled up then."""
        seen, name = self._seen(state), self._name
        size, every_epoch = seen.num_examples, self._needs.every == "epoch"
        selected = checked_decision(name, self._needs, self._selection.select(seen))
        kept = checked_indices(name, selected.kept, size, may_be_empty=every_epoch)
        labels, weights = checked_labels(name, selected.labels, size), checked_weights(name, selected.weights, size)
        choice = Choice(state.epoch, size, kept, labels, weights)
        return choice if seen.examples is None else choice.of_whole(state.num_examples, seen.examples)

    def _seen(self, state: SelectionState) -> SelectionState:
        """Return what the selection sees: nothing observed of the examples held out may have a say."""
        if self.held_out is None or not self._needs.observes:
            return state
        rest = torch.ones(state.num_examples, dtype=torch.bool)
        rest[self.held_out] = False
        return state.of_examples(rest.nonzero()[:, 0])

    def _drawable(self, loader: DataLoader[Any]) -> Tensor | None:
        """Return the examples that may be trained on, bool (N,); None for all."""
        among = drawable(loader)
        if self.held_out is not None:
            among = torch.ones(len(loader.dataset), dtype=torch.bool) if among is None else among  # type: ignore[arg-type]
            among[self.held_out] = False
        return among

    def _completed(self, kept: Tensor, loader: DataLoader[Any], state: SelectionState, among: Tensor | None) -> Tensor:
        """Add random examples if there are too few for an epoch; raise if the selection is made only once."""
        needed = state.enough(len(kept))
        if self._needs.every == "epoch":
            return filled_up(kept, state.num_examples, needed, state.generator(), among)
        if not len(kept):
            raise ValueError(
                f"{self._name} keeps no example that the loader's {type(loader.sampler).__name__} draws"
                f"{'' if self.held_out is None else ' and that is not held out'}; select from its examples, or drop the"
                " sampler."
            )
        if len(kept) < needed <= state.num_examples:
            processes = needed // examples_per_batch(loader)
            raise ValueError(
                f"{self._name} keeps {len(kept)} of {state.num_examples} examples, but with drop_last=True an epoch of"
                f" {processes} process{'es' if processes > 1 else ''} takes {needed} at least; keep more, or set"
                " drop_last=False or a smaller batch_size."
            )
        return kept

    # ------------------------------------------------------------------ what the selection can go by

    def _state(self, trainer: Trainer | None, loader: DataLoader[Any], epoch: int) -> SelectionState:
        selection, size = self._selection, len(loader.dataset)  # type: ignore[arg-type]
        known = self._known_identity(loader.dataset)
        if self.batch_losses is not None:
            self.latest.note_batches(*self.batch_losses.take(size))
        return SelectionState(
            num_examples=size,
            epoch=epoch,
            target=selection.target if known is None else known.target,
            observed=self.latest.known(size),
            seed=selection.seed,
            max_epochs=None if trainer is None else trainer.max_epochs,
            enough=partial(max, least_chosen(selection, trainer, loader)),
            known=known,
            by_pass=cache(partial(self._by_pass, trainer, loader)),
        )

    def _known_identity(self, dataset: Any) -> DataIdentity | None:
        if not self._check_target:
            return None
        if self._known[0] is not dataset:  # reading a list of millions takes a second
            found = known_identity(dataset)
            self._known = (dataset, found if self._reader.batch_fn is None else replace(found, digest=None))
        return self._known[1]

    def _by_pass(self, trainer: Trainer | None, loader: DataLoader[Any]) -> tuple[Mapping[str, Tensor], Tensor | None]:
        """Return the fields and the targets that a pass sees at these weights."""
        check_passes(self._name, self._needs)
        observation = self._observe(trainer, loader)
        self.latest.note(observation)
        return observation.fields, observation.target

    def _observe(self, trainer: Trainer | None, loader: DataLoader[Any]) -> Observation:
        """Return what a pass sees at these weights: the callback's pass, where it has just made one."""
        if trainer is None:
            raise RuntimeError(
                f"{self._name} chooses by the model's outputs, so that there is a train_dataloader() only within"
                " trainer.fit(...)."
            )
        latest, self._of_callback = self._of_callback, None
        if self._callback is not None and latest is not None and self._serves(latest, trainer, loader):
            self._callback.usage.count(latest.seconds)  # it was left out, as a pass for the record
            return latest
        return EvaluationPass("train", loader, self._reader, reading=self.reading).run(trainer)[0]

    def _serves(self, observation: Observation, trainer: Trainer, loader: DataLoader[Any]) -> bool:
        """Whether the callback observed the data set at hand at these weights, and what the selection asks for."""
        is_whole = observation.identity.num_examples == len(loader.dataset)  # type: ignore[arg-type]
        has_fields = observation.fields.keys() >= set(self._needs.of_outputs or ("loss",))
        return is_whole and has_fields and observation.step == num_steps(trainer)


def _same_in_all_processes(trainer: Trainer | None, choice: Choice) -> Choice:
    """Return rank 0's choice: a user's own selection may draw from a generator that differs by rank."""
    if trainer is None or trainer.world_size == 1:
        return choice
    return Choice.from_state_dict(trainer.strategy.broadcast(choice.state_dict()))
