"""Online observation: what the training forward shows of each example, in one fit."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness._utils.handover import leave, take
from lightning_easiness._utils.lightning import batch_is_finished, is_first_of_share, num_steps, takes_dataloader_iter
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.digest import with_digest
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.indexed_loader import check_index, lost_indices
from lightning_easiness.data.observation import AveragedProbabilities, Observation
from lightning_easiness.data.subset import known_target, num_examples, source_index, whole
from lightning_easiness.observe.accumulate import EpochSums, ProbabilitySums, epoch_means, to_classes
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.checks import check_length, only_loader
from lightning_easiness.observe.epoch_state import begun_with, packed_epoch, unpacked_epoch
from lightning_easiness.observe.evidence import Evidence
from lightning_easiness.observe.first_step import contradiction, doubt, loss_of_step
from lightning_easiness.observe.hooks import LoaderHook, LogitsHook
from lightning_easiness.observe.processes import check_same_share, over_processes, same_task
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.recognise import Recogniser, announce
from lightning_easiness.observe.refusals import NO_PROBABILITIES, lacks_fields
from lightning_easiness.observe.tasks import (
    MARKS,
    MOST_CLASSES,
    ONLINE_FIELDS,
    PREDICTION,
    PROBABILITIES,
    UNSEEN_TARGET,
    Task,
    restore_task,
)
from lightning_easiness.observe.waiting import WaitingSteps
from lightning_easiness.record.layout import ONLINE_SERIES

_numbers = count()  # of the observers that a process made


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
        self._listed_then: str | None = None  # fingerprint of the labels that the data set listed at the start
        self._restored: tuple[Tensor, Tensor, Tensor] | None = None
        self._index: Tensor | None = None
        self._target: Any = None
        self._inputs: Any = None  # of the first batch
        self._like: Reading | None = None  # how a trial batch was read, or the task of a fit that is resumed
        self._reading: Reading | None = None  # of the training step, known at its first batch
        self._number = next(_numbers)  # the same in every process
        self._is_first = True  # of the processes that read its share of the data
        self._is_stopped = False  # by an error, after which other processes may not take part any more
        self._has_gathered = False
        self._waiting = WaitingSteps(self._observe)
        self._others: list[EpochSums] = []  # what those that stopped too left of the epoch

    @property
    def num_examples(self) -> int:
        """N of the data set; 0 before training starts."""
        return 0 if self._sums is None else self._sums.num_examples

    @property
    def task(self) -> Task | None:
        """What is observed; None until it is known."""
        known = self._reading or self._like
        return None if known is None else known.task

    def listen(self) -> None:
        """Listen to the module that returns the logits, when its parts are made."""
        self._logits_hook = LogitsHook(self._trainer.lightning_module, self._reader.module, self._reader.prediction)

    def start(self, state: dict[str, Any] | None = None, like: Reading | None = None) -> None:
        """Begin, or go on with the epoch that `state` is of, when the train loader is known.

        `like` is how a trial batch was read; None where there was none, so that the first step decides on the task.
        """
        dataset, self._is_first = self._loader().dataset, is_first_of_share(self._trainer)
        self._sums, self._source_index = EpochSums(num_examples(dataset), self._names), source_index(dataset)
        known = None if state is None else state.get("task")
        self._like = like if like is not None or known is None else Reading(restore_task(known))
        if self.task is not None:
            self._check_task(self.task)
        if PROBABILITIES in self._asked:
            self._probabilities = ProbabilitySums(self.num_examples, keeps=self._trainer.is_global_zero)
        listed = self._listed()
        self._listed_then = None if listed is None else listed.fingerprint
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
        if not len(self._index):  # the batch takes part for the sake of other processes, and counts for nothing
            self._index = None
            return
        if self._reading is None:  # of later batches, when they are observed
            check_index(self._index, self.num_examples)
            check_same_share(self._trainer, self._index)
        inputs, self._target = self._reader.unpack(batch)  # now, as a training step may take its batch apart
        self._inputs = inputs if self._reading is None else None
        self._reader.check_target(self._target, len(self._index))
        self._logits_hook.arm()

    def end_batch(self, skipped: bool, outputs: Any = None) -> None:
        """Observe the batch at hand, unless training skipped it, perhaps before it called the model.

        `outputs` is what the training step returned.
        """
        if not skipped:
            self._keep(outputs)
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
        self._waiting.flush()
        means, target = self._means(self._sums)
        task = self.task or Task(self._reader.loss_name)
        self._sums.clear()
        self._restored = None
        known = {*task.fields, *task.marks, "count"}
        if task.num_classes is not None and task.num_classes <= MOST_CLASSES:
            known.add(PREDICTION)
        fields, settled, unlabelled = task.settle({name: means[name] for name in means if name in known}, target)
        return Observation(
            series=ONLINE_SERIES,
            step=num_steps(self._trainer),
            epoch=epoch,
            fields=fields,
            identity=DataIdentity.of_steps(self.num_examples, settled, self._source_index),
            num_classes=task.num_classes,
            loss_name=task.loss_name,
            unlabelled=unlabelled,
        )

    def averaged_probabilities(self, epoch: int) -> AveragedProbabilities | None:
        """Return each example's average softmax of the training so far, in the process that keeps it; else None."""
        if self._probabilities is None or self._sums is None:
            return None
        self._waiting.flush()
        self._probabilities.fold(partial(over_processes, self._trainer))
        means = self._probabilities.means()
        if means is None:
            return None
        return AveragedProbabilities(num_steps(self._trainer), epoch, means, self._probabilities.count.int())

    def state(self, epoch_is_open: bool) -> dict[str, Any]:
        """Return the epoch so far, and the sums of probabilities, over all processes, as tensors and plain types."""
        self.keep_finished()
        self._waiting.flush()
        if self._is_stopped and self._sums is not None and not self._has_gathered:
            self._gather()
        state: dict[str, Any] = {"task": None if self.task is None else self.task.state()}
        if self._probabilities is not None:
            if self._sums is not None:  # else the fit is over, and other processes may not take part any more
                self._probabilities.fold(self._over)
            state[PROBABILITIES] = self._probabilities.state()
        if epoch_is_open and self._sums is not None:
            totals, names = self._totals(self._sums), self._sums.names
            state["epoch"] = packed_epoch(names, *totals, self._last_predictions(self._sums), self._same_as_at_start())
        return state

    def close(self, keep_sums: bool = False) -> None:
        """Remove the hooks. The sums may be kept for a checkpoint that is saved after an exception."""
        self._is_stopped = keep_sums
        self._loader_hook.remove()
        if self._logits_hook is not None:
            self._logits_hook.remove()
            self._logits_hook = None
        if not keep_sums:
            self._sums, self._others = None, []
            self._waiting.clear()
            if self._probabilities is not None:
                self._probabilities.drop_steps()
        self._index = self._target = None

    def _gather(self) -> None:
        """Gather in the first process, once, what all saw of the epoch that an error stopped."""
        assert self._sums is not None
        trainer, name, self._has_gathered = self._trainer, f"stopped-{self._number}", True
        lists = {"sums": self._sums, "probabilities": self._probabilities}
        if not trainer.is_global_zero:
            held = {at: one.handed() for at, one in lists.items() if one is not None and self._is_first}
            leave(name, trainer.global_rank, {f"{at}/{key}": held[at][key] for at in held for key in held[at]})
            return
        others = take(name, range(1, trainer.world_size))
        for handed in filter(None, others.values()):
            self._others.append(EpochSums(self.num_examples, self._sums.names))
            self._others[-1].take(_of(handed, "sums"))
            if self._probabilities is not None:
                self._probabilities.take(_of(handed, "probabilities"))
        missing = [rank for rank, handed in others.items() if handed is None]
        if missing:
            warn_user(
                f"The checkpoint lacks what processes {', '.join(map(str, missing))} saw of this epoch, as they did not"
                " stop with the first one: to lose nothing, resume from the checkpoint before."
            )

    def _over(self, values: Tensor, reduce_op: str = "sum") -> Tensor:
        """Return the "sum" or "max" over all processes; of what this one has where an error stopped them."""
        return values.cpu() if self._is_stopped else over_processes(self._trainer, values, reduce_op)

    def _restore(self, state: dict[str, Any]) -> None:
        if self._probabilities is not None and PROBABILITIES in state:
            self._probabilities.restore(state[PROBABILITIES])
        known = begun_with(state)
        if known is not None:
            check_length(self.num_examples, f"the epoch that training resumes in was begun with {known}", known)
        epoch = unpacked_epoch(state, self._listed())
        if epoch is not None:
            held = dict(zip((*epoch.names, "count"), epoch.sums, strict=True))
            unknown = torch.full_like(held["count"], torch.nan)  # of a field that was not asked for then
            sums = torch.stack([held.get(name, unknown) for name in (*self._names, *MARKS, "count")])
            target = torch.where(held["count"] > 0, epoch.target, UNSEEN_TARGET)
            self._restored = (sums, target, epoch.prediction)

    def _listed(self) -> DataIdentity | None:
        """Return the identity of the labels that the whole data set lists."""
        found = known_target(whole(self._loader().dataset))
        return None if found is None else DataIdentity.of_target(found)

    def _same_as_at_start(self) -> DataIdentity | None:
        """Return the same where it is that of the start, which a resumed fit finds again; else None."""
        listed = self._listed()
        return listed if listed is not None and listed.fingerprint == self._listed_then else None

    def _loader(self) -> Any:
        return only_loader(self._trainer.train_dataloader, "train")

    def _keep(self, outputs: Any = None) -> None:
        """Observe the batch, once; a checkpoint may ask for it before the batch's end reaches the callback."""
        if self._index is None or self._logits_hook is None or self._sums is None:
            return
        index, target, self._index, self._target = self._index, self._target, None, None
        prediction = self._logits_hook.take(len(index))
        reading = self._reading or self._first_reading(self._logits_hook, prediction, target, index, outputs)
        self._waiting.add(index, reading.output(prediction), target, may_wait=reading.is_by_row)

    def _first_reading(self, hook: LogitsHook, prediction: Any, target: Any, index: Tensor, outputs: Any) -> Reading:
        """Decide by the first batch how outputs are read, and hold that against what its step returned."""
        with torch.no_grad():
            reading = self._reading = self._recognised(prediction, target, index, hook.ending)
            hook.notes_endings, hook.position = False, reading.position
            if outputs is not None:
                losses = reading.observe(prediction, target, len(index), fields=())["loss"]
                self._check_first_step(prediction, target, losses, outputs)
        return reading

    def _observe(self, index: Tensor, sizes: list[int], output: Any, target: Any) -> None:
        """Observe steps of these sizes as one batch."""
        assert self._reading is not None
        assert self._sums is not None
        try:
            check_index(index, self.num_examples)
        except IndexError:
            self._waiting.clear()  # so that a checkpoint can still be saved
            raise
        with torch.no_grad():
            seeds = self._reading.task.draw_seeds(index, self._trainer.current_epoch)
            observed = self._reading.observe_output(output, target, len(index), fields=self._asked, seeds=seeds)
            probabilities = None if self._probabilities is None else _taken_probabilities(observed)
            observed = with_digest(observed, target, len(index), of_step=True)
            if self._probabilities is not None and probabilities is not None:
                self._probabilities.add(index, probabilities)
            self._sums.add(index, observed, sizes)

    def _recognised(self, prediction: Any, target: Any, index: Tensor, ending: Any) -> Reading:
        """Return how the training step's outputs are read, from its first batch: the same task in every process."""
        dataset, trainer = self._loader().dataset, self._trainer
        recogniser = Recogniser(self._reader, Evidence.of(trainer.lightning_module, dataset), index)
        batch = (prediction, target, len(index), ending, self._inputs)
        like = self._like
        if like is None and trainer.world_size > 1:
            like = Reading(same_task(trainer, lambda: recogniser.read(*batch).task))
        reading = recogniser.read(*batch, like=like)
        if self._like is None:
            self._check_task(reading.task)
        announce(reading, before=self._like)
        return reading

    def _check_first_step(self, prediction: Any, target: Any, losses: Tensor, outputs: Any) -> None:
        """Raise a ValueError, in all processes, where the loss of the first step shows another task in one of them."""
        problem, step_loss, trainer = None, loss_of_step(outputs), self._trainer
        is_given = self._reader.logits_fn is not None or self._reader.module is not None
        if step_loss is not None and self._reading is not None and not is_given:
            step_loss *= trainer.accumulate_grad_batches  # Lightning divides by it
            counts = Evidence.of(trainer.lightning_module, self._loader().dataset).class_counts()
            problem = contradiction(self._reading, prediction, target, losses, step_loss, counts)
            remark = None if counts or problem else doubt(self._reading, target, losses, step_loss)
            if remark is not None and trainer.is_global_zero:
                warn_user(remark)
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(problem is not None, all=False):
            problem = (
                problem or "The first training step's loss shows in another process that outputs were read wrongly."
            )
        if problem is not None:
            raise ValueError(problem)

    def _check_task(self, task: Task) -> None:
        """Take in the task, or raise a ValueError where it has not what is asked for."""
        assert self._sums is not None
        lacking = [name for name in self._names if name not in (*ONLINE_FIELDS, *task.fields)]
        if lacking:
            raise ValueError(lacks_fields("A listener of EasinessCallback", lacking, task.loss_name))
        if PROBABILITIES in self._asked and task.num_classes is None:
            raise ValueError(NO_PROBABILITIES)
        self._sums.names = (*self._names, *task.marks)

    def _means(self, own: EpochSums) -> tuple[dict[str, Tensor], Tensor]:
        """Return the means of the epoch's fields and the classes predicted last, by name, and targets, (N,) each."""
        is_all = self._trainer.world_size == 1 and self._restored is None and not self._others
        once = own.once() if is_all else None  # in a tenth of the time
        if once is not None:
            return once
        sums, target = self._totals(own)
        return {**epoch_means(sums, own.names), PREDICTION: self._last_predictions(own)}, target

    def _totals(self, own: EpochSums) -> tuple[Tensor, Tensor]:
        """Return sums (F + 1, N) and targets (N,) of the epoch so far, over all processes and the restored state."""
        parts = [part.totals() for part in (own, *self._others)]
        sums = self._over(torch.stack([part for part, _ in parts]).sum(0))
        found = torch.stack([target for _, target in parts])
        is_seen = found != UNSEEN_TARGET
        seen = self._over(torch.stack([found.masked_fill(~is_seen, 0).sum(0), is_seen.sum(0)]))
        target = torch.where(seen[1] > 0, seen[0] // seen[1].clamp(min=1), UNSEEN_TARGET)
        if self._restored is not None:
            rows = dict(zip((*self._names, *MARKS, "count"), self._restored[0], strict=True))
            sums = sums + torch.stack([rows[name] for name in (*own.names, "count")])
            target = torch.where(target != UNSEEN_TARGET, target, self._restored[1])
        return sums, target

    def _last_predictions(self, own: EpochSums) -> Tensor:
        """Return the class predicted last for each example in the epoch so far, int16 (N,), over all processes."""
        last = torch.stack([part.last_classes() for part in (own, *self._others)]).amax(0)
        last = self._over(last, "max")
        classes = to_classes(last)
        return classes if self._restored is None else torch.where(last > 0, classes, self._restored[2])


def _of(handed: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return one part of what a process handed over."""
    return {name.removeprefix(f"{part}/"): handed[name] for name in handed if name.startswith(f"{part}/")}


def _taken_probabilities(observed: dict[str, Tensor]) -> Tensor:
    """Remove the probabilities from the observed fields and return them."""
    if PROBABILITIES not in observed:
        raise ValueError(NO_PROBABILITIES)
    return observed.pop(PROBABILITIES)
