"""Makes a selection's choice for an epoch inside a fit: alike in all processes, never empty, logged, and resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness._utils.lightning import num_steps, trial_batches
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.loaders import examples_per_batch
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.subset import known_target
from lightning_easiness.data.subset_loader import drawable
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.select.base import (
    Selection,
    SelectionState,
    checked_indices,
    checked_labels,
    checked_weights,
    filled_up,
)

_MOST_CLASSES_LOGGED = 100


@dataclass(frozen=True)
class Choice:
    """What one epoch trains on.

    Attributes:
        epoch: that it was made for.
        num_examples: N, of the whole data set.
        kept: indices of the examples, ascending, int64 (n,).
        labels: new labels, int64 (N,), negative where an example keeps its own; None for no new ones.
        weights: of the examples' losses, float32 (N,); None for equal ones.
        num_left_out: examples that the loader's own sampler never draws, so that none of them is in `kept`.
    """

    epoch: int
    num_examples: int
    kept: Tensor
    labels: Tensor | None = None
    weights: Tensor | None = None
    num_left_out: int = 0

    @property
    def is_everything(self) -> bool:
        """Whether the user's data set is trained on as it is, perhaps with weights."""
        return len(self.kept) == self.num_drawable and self.labels is None

    @property
    def num_drawable(self) -> int:
        """How many examples training on everything would draw."""
        return self.num_examples - self.num_left_out

    def state_dict(self) -> dict[str, Any]:
        """The choice as tensors and plain types, eight examples a byte."""
        mask = np.zeros(self.num_examples, dtype=bool)
        mask[self.kept.numpy()] = True
        state: dict[str, Any] = {"epoch": self.epoch, "num_examples": self.num_examples}
        state["num_left_out"] = self.num_left_out
        state["kept"] = torch.from_numpy(np.packbits(mask))
        given = {"labels": self.labels, "weights": self.weights}
        return {**state, **{name: values for name, values in given.items() if values is not None}}

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Choice:
        """Reads what `state_dict` returned."""
        mask = np.unpackbits(state["kept"].cpu().numpy(), count=state["num_examples"])
        kept = torch.from_numpy(mask.nonzero()[0].astype(np.int64))
        given = state.get("labels"), state.get("weights"), state["num_left_out"]
        return Choice(state["epoch"], state["num_examples"], kept, *given)


class Chooser:
    """Makes a selection's choices for a user's loader.

    Args:
        selection: whose choices.
        reader: reads the observations that the selection needs off batches.
        check_target: compare the labels that the data set lists with those that the selection knows.
    """

    def __init__(
        self,
        selection: Selection,
        reader: BatchReader,
        check_target: bool = True,
    ) -> None:
        self.selection = selection
        self._reader = reader
        self._check_target = check_target
        self._latest: Observation | None = None
        self._heard: EasinessCallback | None = None
        self._has_heard = False
        self._target: tuple[Any, Tensor | None] = (None, None)  # of the data set that it was read off
        self.remembered: dict[str, Tensor] = {}  # field -> (N,), what was last seen

    @property
    def name(self) -> str:
        """The selection's, for messages."""
        return type(self.selection).__name__

    def choose(self, trainer: Trainer | None, loader: DataLoader[Any], epoch: int) -> Choice:
        """Chooses for an epoch, in all processes together.

        Raises:
            TypeError: the selection did not choose by indices or a mask.
            ValueError: it chose nothing, too little for one batch a process, or an example twice.
            RuntimeError: it needs an observation and there is no Trainer.
        """
        started = time.perf_counter()
        size = len(loader.dataset)  # type: ignore[arg-type]
        state = replace(self._state(trainer, loader, size, epoch), enough=self.enough(trainer, loader))
        may_be_empty = self.selection.every_epoch  # it is filled up then
        kept = checked_indices(self.name, self.selection.select(state), size, may_be_empty=may_be_empty)
        labels = checked_labels(self.name, self.selection.labels(state), size)
        weights = checked_weights(self.name, self.selection.weights(state), size)
        choice = _same_in_all_processes(trainer, Choice(epoch, size, kept, labels, weights))
        among = drawable(loader)
        kept, added = self._completed(loader, choice.kept, state, among)
        left_out = 0 if among is None else size - int(among.sum())
        choice = replace(choice, kept=kept, num_left_out=left_out)
        target = state.target if state.target is not None else self.selection.target
        self._tell(trainer, choice, target, added, time.perf_counter() - started)
        return choice

    def begin(self, heard: EasinessCallback | None) -> None:
        """Forgets an earlier fit, and learns of the callback whose observations serve this one."""
        self._latest, self._heard, self.remembered = None, heard, {}
        self._has_heard = False

    def listen(self, observation: Observation) -> None:
        """Takes in what the Trainer's EasinessCallback observed."""
        heard = self._heard
        reads_alike = heard is not None and replace(heard.reader, batch_size=self._reader.batch_size) == self._reader
        if observation.series == "train-probe" and reads_alike:
            self._latest = observation
        elif observation.series == "train-online" and self.selection.online:
            self._has_heard = True
            self._remember(observation)

    def probe(self, loader: DataLoader[Any]) -> EvaluationPass:
        """Makes what looks at the examples of a loader."""
        return EvaluationPass("train", loader, self._reader)

    def _state(self, trainer: Trainer | None, loader: DataLoader[Any], size: int, epoch: int) -> SelectionState:
        state = SelectionState(
            num_examples=size,
            epoch=epoch,
            seed=self.selection.seed,
            max_epochs=None if trainer is None else trainer.max_epochs,
            is_known=bool(self.remembered),
        )
        observation = self._observe(trainer, loader) if self.selection.looks_before(state) else None
        target = self._known_target(loader.dataset) if self._check_target else None
        if observation is not None and observation.target is not None:
            target = observation.target
        return replace(
            state,
            target=target if target is not None or self._check_target else self.selection.target,
            observed=self._observed(observation, size),
        )

    def _known_target(self, dataset: Any) -> Tensor | None:
        if self._target[0] is not dataset:  # reading a list of millions takes a second
            self._target = (dataset, known_target(dataset))
        return self._target[1]

    def _observed(self, observation: Observation | None, size: int) -> dict[str, Tensor] | None:
        if not self.selection.remembers:
            return None if observation is None else observation.fields
        if observation is not None:
            self._remember(observation)
        if any(len(values) != size for values in self.remembered.values()):
            self.remembered = {}  # of another data set
        if self.remembered or observation is not None or self._has_heard:
            return dict(self.remembered)  # perhaps without what the rule goes by, which it then says
        return None

    def _remember(self, observation: Observation) -> None:
        count = observation.fields.get("count")
        for name in self.selection.remembers:
            values = observation.fields.get(name)
            if values is None:
                continue
            known = self.remembered.get(name)
            if known is None or len(known) != len(values):
                known = torch.full_like(values, torch.nan)
            seen = ~values.isnan() if count is None else (count > 0) & ~values.isnan()
            self.remembered[name] = torch.where(seen, values, known)

    def _observe(self, trainer: Trainer | None, loader: DataLoader[Any]) -> Observation:
        if trainer is None:
            raise RuntimeError(
                f"{self.name} chooses by what the model makes of the examples, so its train_dataloader() is to be had"
                " inside trainer.fit(...) alone."
            )
        latest, self._latest = self._latest, None
        if latest is not None and latest.step == num_steps(trainer) and self._is_of(latest, loader):
            assert self._heard is not None
            self._heard.usage.count(latest.seconds)  # what else was left out, as a look for the record
            return latest  # the callback has just looked, at these weights
        trial = trial_batches(trainer) or None
        return self.probe(loader).run(trainer, trainer.lightning_module, limit=trial)[0]

    def _is_of(self, observation: Observation, loader: DataLoader[Any]) -> bool:
        """Whether the callback observed the data set at hand, and what the selection asks for."""
        sizes = {len(values) for values in observation.fields.values()}
        asked = self.selection.remembers or ("loss",)
        return sizes == {len(loader.dataset)} and all(name in observation.fields for name in asked)  # type: ignore[arg-type]

    def enough(self, trainer: Trainer | None, loader: DataLoader[Any]) -> Callable[[int], int]:
        """How many examples there must be, as a fit ends at an epoch without a batch for each process."""
        world_size = 1 if trainer is None else trainer.world_size
        batch = examples_per_batch(loader) * world_size
        if not self.selection.every_epoch:
            # what is chosen once stays as it is, and is refused where it is too little
            return lambda count: batch if loader.drop_last else 1
        least = batch if self.selection.minimum is None else self.selection.minimum
        least = max(least, _batches_asked_for(trainer) * batch, batch * bool(loader.drop_last))

        def enough(count: int) -> int:
            needed = max(count, least)
            if batch > world_size and not loader.drop_last and 0 < needed % batch <= world_size:
                needed += world_size  # else the last batch of a process would hold one example
            return min(needed, len(loader.dataset))  # type: ignore[arg-type]

        return enough

    def _completed(
        self, loader: DataLoader[Any], kept: Tensor, state: SelectionState, among: Tensor | None
    ) -> tuple[Tensor, int]:
        """Adds random examples where there are too few for an epoch, or refuses what was chosen once and for all."""
        if among is not None:
            kept = kept[among[kept]]
        needed = state.enough(len(kept))
        if self.selection.every_epoch:
            completed = filled_up(kept, state.num_examples, needed, state.generator(), among)
            return completed, len(completed) - len(kept)
        if not len(kept):
            raise ValueError(
                f"{self.name} keeps no example that the loader's {type(loader.sampler).__name__} draws; select from its"
                " examples, or drop the sampler."
            )
        if len(kept) < needed <= state.num_examples:
            processes = needed // examples_per_batch(loader)
            raise ValueError(
                f"{self.name} keeps {len(kept)} of {state.num_examples} examples, but with drop_last=True an epoch of"
                f" {processes} process{'es' if processes > 1 else ''} takes {needed} at least; keep more, or set"
                " drop_last=False or a smaller batch_size."
            )
        return kept, 0

    def _tell(self, trainer: Trainer | None, choice: Choice, target: Tensor | None, added: int, seconds: float) -> None:
        shares = _class_shares(choice, target)
        missing = _missing(shares)
        if missing and not self.selection.every_epoch:  # another epoch may have it; the line below says so
            rank_zero_warn(
                f"{self.name} keeps {missing}, so that cannot be learnt; keep some, as class_balanced=True does.",
                category=UserWarning,
            )
        count, size = len(choice.kept), choice.num_drawable
        epoch = f"Epoch {choice.epoch}" + ("" if self.selection.every_epoch else " and after")
        rank_zero_info(
            f"{epoch}: {self.name} trains on {count} of {size} examples ({count / size:.1%})"
            + ("" if choice.labels is None else ", some under other labels")
            + f", chosen in {seconds:.2f} s"
            + (f"; {added} of them at random, up to the minimum" if added else "")
            + (f"; {missing}" if missing else "")
            + "."
        )
        if trainer is not None and trainer.is_global_zero:
            metrics = {"easiness/selected_share": count / size, "easiness/selection_seconds": seconds}
            if len(shares) <= _MOST_CLASSES_LOGGED:
                metrics |= {f"easiness/selected_share/class_{label}": share for label, share in shares.items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=trainer.global_step)


def _missing(shares: dict[int, float]) -> str:
    lost = [str(label) for label, share in shares.items() if share == 0]
    if not lost:
        return ""
    named = ", ".join(lost[:10]) + (" ..." if len(lost) > 10 else "")
    return f"no example of class{'es' if len(lost) > 1 else ''} {named}"


def _batches_asked_for(trainer: Trainer | None) -> int:
    """Batches that an epoch must have: Lightning stops where a limit or an interval of the Trainer is not met."""
    if trainer is None:
        return 0
    least = 0
    limit = trainer.limit_train_batches
    if isinstance(limit, float) and 0 < limit < 1:
        least = math.ceil(1 / limit)
        least += int(least * limit) < 1  # as 49 * (1 / 49) is less than 1
    interval = trainer.val_check_interval
    validates = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches != 0
    if validates and isinstance(interval, int) and not isinstance(interval, bool):
        least = max(least, interval)
    return least


def _same_in_all_processes(trainer: Trainer | None, choice: Choice) -> Choice:
    """Rank 0's choice: a rule of the user's own may draw from a stream that differs by rank."""
    if trainer is None or trainer.world_size == 1:
        return choice
    return Choice.from_state_dict(trainer.strategy.broadcast(choice.state_dict()))


def _class_shares(choice: Choice, target: Tensor | None) -> dict[int, float]:
    """Class -> share of its examples that are kept, by their true labels."""
    if target is None or not len(target) or int(target.max()) < 0:
        return {}
    highest, front = int(target.max()), int(target.min()) < 0
    if front:  # what has no label comes in front
        target = target.long().clamp(min=-1) + 1
    # one count of (class, kept or not), in as few bytes an example as do: there may be millions
    pairs = target.to(torch.uint8 if highest < 126 else torch.int64) * 2
    kept = torch.zeros_like(pairs)
    kept[choice.kept] = 1
    counts = torch.bincount(pairs.add_(kept), minlength=2 * (highest + 1 + front)).view(-1, 2)[int(front) :]
    total = counts.sum(1).double()
    classes = total.nonzero()[:, 0]
    return dict(zip(classes.tolist(), (counts[classes, 1] / total[classes]).tolist(), strict=True))
