"""Online observation: what the training forward shows of each example, in one fit."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.lightning import batch_is_finished, num_steps, takes_dataloader_iter
from lightning_easiness.data.digest import with_digest
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.indexed_loader import check_index, lost_indices
from lightning_easiness.data.observation import AveragedProbabilities, Observation
from lightning_easiness.data.subset import num_examples, source_index
from lightning_easiness.observe.accumulate import EpochSums, ProbabilitySums, epoch_means, to_classes
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.checks import check_length, check_targets, only_loader
from lightning_easiness.observe.hooks import LoaderHook, LogitsHook
from lightning_easiness.observe.tasks import MOST_CLASSES, ONLINE_FIELDS, PREDICTION, PROBABILITIES, Task, recognise

SERIES = "train-online"


class OnlineObserver:
    """Keeps each example's loss, correctness and margin from the steps that train on it, until its epoch ends.

    `names` are the fields to observe, "loss" first; `probabilities` averages each example's softmax over all epochs.
    The train loaders are followed from now on, until `close`.
    """

    def __init__(
        self,
        trainer: Trainer,
        reader: BatchReader,
        names: tuple[str, ...] = ONLINE_FIELDS,
        probabilities: bool = False,
    ) -> None:
        if takes_dataloader_iter(trainer.lightning_module):
            raise TypeError(
                f"The training_step of {type(trainer.lightning_module).__name__} takes batches off a `dataloader_iter`"
                " by itself, so the examples of a step are unknown; give EasinessCallback online=False."
            )
        self._trainer = trainer
        self._reader = reader
        self._names = names
        self._asked = (*names, PROBABILITIES) if probabilities else names
        self._probabilities: ProbabilitySums | None = None
        self._loader_hook = LoaderHook(trainer)
        self._logits_hook: LogitsHook | None = None
        self._sums: EpochSums | None = None
        self._source_index: Tensor | None = None
        self._restored: tuple[Tensor, Tensor, Tensor] | None = None
        self._index: Tensor | None = None
        self._target: Any = None
        self._task: Task | None = None  # recognised at the first batch
        self._num_classes: int | None = None

    @property
    def num_examples(self) -> int:
        """N of the data set; 0 before training starts."""
        return 0 if self._sums is None else self._sums.num_examples

    def listen(self) -> None:
        """Listen to the module that returns the logits, when its parts are made."""
        self._logits_hook = LogitsHook(self._trainer.lightning_module, self._reader.module, self._reader.prediction)

    def start(self, state: dict[str, Any] | None = None) -> None:
        """Begin, or go on with the epoch that `state` is of, when the train loader is known."""
        dataset = self._loader().dataset
        self._sums, self._source_index = EpochSums(num_examples(dataset), self._names), source_index(dataset)
        if PROBABILITIES in self._asked:
            self._probabilities = ProbabilitySums(self.num_examples, keeps=self._trainer.is_global_zero)
        if state is not None:
            self._restore(state)

    def check_loader(self) -> None:
        """Raise a ValueError where a loader that was reloaded is of another data set."""
        if self._sums is not None:
            known = self.num_examples
            check_length(num_examples(self._loader().dataset), f"{known} when training began", known)

    def begin_batch(self, batch: Any) -> None:
        """Take the indices and targets of the batch that training begins with."""
        if self._logits_hook is None or self._sums is None:
            return
        self._index = self._loader_hook.source.take()
        if self._index is None:
            raise TypeError(lost_indices(self._trainer.train_dataloader))
        check_index(self._index, self._sums.num_examples)
        _, self._target = self._reader.unpack(batch)  # now, as a training step may take its batch apart
        self._reader.check_target(self._target, len(self._index))
        self._logits_hook.arm()

    def end_batch(self, skipped: bool) -> None:
        """Observe the batch at hand, unless training skipped it, perhaps before it called the model."""
        if not skipped:
            self._keep()
        else:
            self.keep_finished()
            self._index = self._target = None

    def keep_finished(self) -> None:
        """Observe the batch at hand unless training is still at it, or skipped it: a resumed fit then repeats it."""
        if self._logits_hook is not None and self._logits_hook.has_seen and batch_is_finished(self._trainer):
            self._keep()

    def end_epoch(self, epoch: int) -> Observation | None:
        """Return the epoch's observation, on all processes together, and forget it; None before training starts."""
        if self._sums is None:
            return None
        sums, target = self._totals(self._sums)
        means = epoch_means(sums, self._names)
        predictions = self._last_predictions(self._sums)
        if self._num_classes is not None and self._num_classes <= MOST_CLASSES:
            means[PREDICTION] = predictions
        self._sums.clear()
        self._restored = None
        known = ("loss", "count") if self._num_classes is None else means
        observation = Observation(
            series=SERIES,
            step=num_steps(self._trainer),
            epoch=epoch,
            fields={name: means[name] for name in known},
            identity=DataIdentity.of_steps(self.num_examples, target, self._source_index),
            num_classes=self._num_classes,
            loss_name=self._reader.loss_name,
        )
        check_targets(observation)
        return observation

    def averaged_probabilities(self, epoch: int) -> AveragedProbabilities | None:
        """Return each example's average softmax of the training so far, in the process that keeps it; else None."""
        if self._probabilities is None or self._sums is None:
            return None
        self._probabilities.fold(self._reduced)
        means = self._probabilities.means()
        if means is None:
            return None
        return AveragedProbabilities(num_steps(self._trainer), epoch, means, self._probabilities.count.int())

    def state(self, epoch_is_open: bool) -> dict[str, Any]:
        """Return the epoch so far, and the sums of probabilities, over all processes, as tensors and plain types."""
        self.keep_finished()
        state: dict[str, Any] = {"num_classes": self._num_classes}
        if self._probabilities is not None:
            if self._sums is not None:  # else the fit is over, and other processes may not take part any more
                self._probabilities.fold(self._reduced)
            state[PROBABILITIES] = self._probabilities.state()
        if epoch_is_open and self._sums is not None:
            state["sums"], state["target"] = self._totals(self._sums)
            state[PREDICTION] = self._last_predictions(self._sums)
            state["names"] = list(self._names)
        return state

    def close(self, keep_sums: bool = False) -> None:
        """Remove the hooks. The sums may be kept for a checkpoint that is saved after an exception."""
        self._loader_hook.remove()
        if self._logits_hook is not None:
            self._logits_hook.remove()
            self._logits_hook = None
        if not keep_sums:
            self._sums = None
            if self._probabilities is not None:
                self._probabilities.drop_steps()
        self._index = self._target = None

    def _restore(self, state: dict[str, Any]) -> None:
        self._num_classes = state["num_classes"]
        if self._probabilities is not None and PROBABILITIES in state:
            self._probabilities.restore(state[PROBABILITIES])
        if "sums" in state:
            held = dict(zip((*state["names"], "count"), state["sums"].cpu(), strict=True))
            known = len(held["count"])
            check_length(self.num_examples, f"the epoch that training resumes in was begun with {known}", known)
            unknown = torch.full_like(held["count"], torch.nan)  # of a field that was not asked for then
            sums = torch.stack([held.get(name, unknown) for name in (*self._names, "count")])
            target = state["target"].cpu()
            # checkpoints of before have no predictions
            self._restored = (sums, target, state.get(PREDICTION, torch.full_like(target, -1)).cpu().short())

    def _loader(self) -> Any:
        return only_loader(self._trainer.train_dataloader, "train")

    def _keep(self) -> None:
        """Observe the batch, once; a checkpoint may ask for it before the batch's end reaches the callback."""
        if self._index is None or self._logits_hook is None or self._sums is None:
            return
        index, target, self._index, self._target = self._index, self._target, None, None
        with torch.no_grad():
            prediction = self._logits_hook.take(len(index))
            if self._task is None:
                self._task = recognise(self._reader, prediction, target, len(index))
                self._num_classes = self._task.num_classes
            observed = self._task.observe(prediction, target, len(index), fields=self._asked)
        if self._probabilities is not None:
            self._probabilities.add(index, _taken_probabilities(observed))
        self._sums.add(index, with_digest(observed, target, len(index), of_step=True))

    def _reduced(self, values: Tensor, reduce_op: str = "sum") -> Tensor:
        """Return the sum or "max" over all processes; some devices, which are always alone, have no float64."""
        if self._trainer.world_size == 1:
            return values
        strategy = self._trainer.strategy
        reduced: Tensor = strategy.reduce(values.to(strategy.root_device), reduce_op=reduce_op)
        return reduced.cpu()

    def _totals(self, own: EpochSums) -> tuple[Tensor, Tensor]:
        """Return sums (F + 1, N) and targets (N,) of the epoch so far, over all processes and the restored state."""
        sums, target = own.totals()
        sums = self._reduced(sums)
        seen = self._reduced(torch.stack([(target + 1) * (target >= 0), (target >= 0).long()]))
        target = torch.where(seen[1] > 0, seen[0] // seen[1].clamp(min=1) - 1, -1)
        if self._restored is not None:
            sums = sums + self._restored[0]
            target = torch.where(target >= 0, target, self._restored[1])
        return sums, target

    def _last_predictions(self, own: EpochSums) -> Tensor:
        """Return the class predicted last for each example in the epoch so far, int16 (N,), over all processes."""
        last = self._reduced(own.last_classes(), "max")
        classes = to_classes(last)
        return classes if self._restored is None else torch.where(last > 0, classes, self._restored[2])


def _taken_probabilities(observed: dict[str, Tensor]) -> Tensor:
    """Remove the probabilities from the observed fields and return them."""
    if PROBABILITIES not in observed:
        raise ValueError(
            "EasinessCallback(probabilities=True) averages the softmax of logits (B, classes) of examples that have a"
            " class each, and the training step shows no such logits and targets; see `logits_fn`, `module` and"
            " `batch_fn`, or set probabilities=False."
        )
    return observed.pop(PROBABILITIES)
