"""A pass over all examples at fixed weights that does not affect the training."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness._utils.group import num_processes
from lightning_easiness._utils.lightning import (
    as_validation,
    data_share,
    is_named,
    is_sharded,
    num_steps,
    on_device,
    trial_batches,
)
from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness.data.digest import DIGEST
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.indexed_loader import IndexedBatch
from lightning_easiness.data.observation import HeldOutProbabilities, Observation
from lightning_easiness.data.ordered_loader import ordered_loader, sample_loader
from lightning_easiness.data.subset import held_out_of, known_target, source_index, whole
from lightning_easiness.functional._rng import of_examples
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.columns import Columns
from lightning_easiness.observe.endings import endings_of
from lightning_easiness.observe.evidence import Evidence
from lightning_easiness.observe.forward import find_forward, forward_signature
from lightning_easiness.observe.held_out import HeldOutRows
from lightning_easiness.observe.kept import detached
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.recognise import Recogniser, announce, check_only_target
from lightning_easiness.observe.refusals import not_called
from lightning_easiness.observe.tasks import PROBE_FIELDS, Task

Pattern = Callable[[Any], Any]

_MOST_TRIED = 64  # examples that are enough to recognise a task


class EvaluationPass:
    """Observes every example of a loader's data set at the current weights, in eval mode and the user's precision.

    The series is "<split>-probe", and "<split>-probe-<name>" for each pattern, a function of the inputs. The whole data
    set is read where training uses a part, in the loader's own way of loading. Where the run holds out some of it, the
    softmax of those is kept.
    """

    def __init__(
        self,
        split: str,
        loader: DataLoader[Any],
        reader: BatchReader,
        patterns: Mapping[str, Pattern] | None = None,
        reading: Reading | None = None,
    ) -> None:
        self.dataset = whole(loader.dataset)
        self._loader, self._reader = loader, reader
        self.held_out, self._source_index = held_out_of(loader.dataset), source_index(loader.dataset)
        self.reading = reading  # recognised before the first pass, if it is not known
        self._rows: HeldOutRows | None = None  # of the latest pass
        self._series: dict[str, Pattern | None] = {f"{split}-probe": None}
        self._series |= {f"{split}-probe-{name}": pattern for name, pattern in (patterns or {}).items()}

    def run(self, trainer: Trainer, *, epoch: int | None = None) -> list[Observation]:
        """Make the pass, on all processes together, and return an observation per series, complete in every process.

        A trial run reads as few batches as it trains on. `epoch` is the one that has ended, None before or within one.
        """
        began = time.perf_counter()
        if self.reading is None:
            self.try_batch(trainer)
        rank, shares = data_share(trainer)
        loader, batches = ordered_loader(self._loader, batch_size=self._reader.batch_size, rank=rank, num_shares=shares)
        total = min(len(batches), trial_batches(trainer) or len(batches))
        predict, columns = self._predictor(trainer), self._columns(trainer, epoch)
        with _at_rest(trainer), _isolated(loader, self.dataset):
            for position, read in zip(range(total), _with_bar(trainer, loader, total), strict=False):
                index, is_padding = read.examples, batches.is_padding(position)
                for series, prediction, target in predict(read.batch, index):
                    columns[series].add(index, prediction, target, is_padding)
        found = [self._observation(trainer, series, one.added_up(trainer), epoch) for series, one in columns.items()]
        return [replace(observation, seconds=time.perf_counter() - began) for observation in found]

    def _columns(self, trainer: Trainer, epoch: int | None) -> dict[str, Columns]:
        """Make the columns of each series; the softmax of what is held out is kept of the first."""
        assert self.reading is not None
        num_epochs = trainer.current_epoch if epoch is None else epoch + 1  # done, also where the next chooses by it
        self._rows = None if self.held_out is None else HeldOutRows(self.held_out, trainer)
        known = self.reading, len(self.dataset), trainer.lightning_module.device, num_epochs
        return {
            series: Columns(*known, rows=None if pattern is not None else self._rows)
            for series, pattern in self._series.items()
        }

    def held_out_probabilities(self, trainer: Trainer, epoch: int | None = None) -> HeldOutProbabilities | None:
        """Return the softmax of what is held out in the latest pass, on all processes together; None without any."""
        found = None if self._rows is None else self._rows.means()
        if self.held_out is None or found is None:
            return None
        epoch = trainer.current_epoch if epoch is None else epoch
        return HeldOutProbabilities(num_steps(trainer), epoch, self.held_out, found)

    @property
    def task(self) -> Task:
        """What is observed; known after `try_batch`."""
        assert self.reading is not None
        return self.reading.task

    def try_batch(self, trainer: Trainer, may_fail: bool = False, announces: bool = True) -> None:
        """Recognise the task from a small batch, alike in every process: what cannot be evaluated is refused by now.

        Where it `may_fail`, as no pass will be made, examples that only other batches hold together, and a module that
        cannot be called so or returns no output for each example, leave the task to the training step.
        """
        loader = sample_loader(self._loader, self._reader.batch_size, _MOST_TRIED)
        with _at_rest(trainer), _isolated(loader, self.dataset):
            read = _first_batch(loader, may_fail)
            if read is None:
                return
            index, batch = read.examples, read.batch
            inputs, target = self._unpack(trainer, on_device(trainer, trainer.lightning_module, batch))
            self._reader.check_target(target, len(index))
            try:
                prediction, ending = self._predict_with_ending(trainer, inputs)
            except Exception as error:
                if may_fail:
                    return
                raise not_called(error, inputs, batch) from error
            if may_fail and not _has_size(prediction, len(index)):
                return
            evidence = Evidence.of(trainer.lightning_module, self.dataset)
            recogniser = Recogniser(self._reader, evidence, index)
            self.reading = recogniser.read(prediction, target, len(index), ending, inputs)
            if self._reader.batch_fn is None:
                # a TensorDataset lists as targets what is second in it
                known = None if isinstance(self.dataset, TensorDataset) else known_target(self.dataset)
                check_only_target(batch, self.task, index, known)
            if announces:
                announce(self.reading)
            seeds = self.task.draw_seeds(index, trainer.current_epoch)
            self.reading.observe(prediction, target, len(index), fields=PROBE_FIELDS, seeds=seeds)
            if len(self._series) > 1:  # patterns
                for _, prediction, target in self._predictor(trainer)(batch, index):
                    self.reading.observe(prediction, target, len(index), fields=PROBE_FIELDS, seeds=seeds)

    def observe_batch(self, trainer: Trainer, batch: Any, index: Tensor) -> dict[str, Tensor]:
        """Observe one batch of the examples `index` that is on the device, in this process alone, on the CPU."""
        if self.reading is None:
            self.try_batch(trainer)
        assert self.reading is not None
        with _at_rest(trainer), isolated_rng():
            prediction, target = self._predict(trainer, batch)
            seeds = self.task.draw_seeds(index, trainer.current_epoch)
            observed = self.reading.observe(prediction, target, len(index), fields=PROBE_FIELDS, seeds=seeds)
        observed = {name: values.cpu() for name, values in observed.items()}
        fields, known, _ = self.task.settle(observed, observed.pop("target", None))
        return fields if known is None else {**fields, "target": known}

    def count_outputs(self, trainer: Trainer, batch: Any) -> int | None:
        """Count the classes in the module's outputs for a batch on the device; None where they are no logits."""
        with _at_rest(trainer), isolated_rng():
            prediction = self._predict(trainer, batch)[0]
        if not isinstance(prediction, Tensor) or not prediction.is_floating_point() or prediction.ndim not in (1, 2):
            return None
        return 2 if prediction.ndim == 1 else max(2, prediction.shape[1])

    def _unpack(self, trainer: Trainer, batch: Any) -> tuple[Any, Any]:
        return self._reader.unpack(batch, forward_signature(trainer.lightning_module, self._reader.module))

    def _predict(self, trainer: Trainer, batch: Any) -> tuple[Any, Any]:
        inputs, target = self._unpack(trainer, batch)
        with trainer.precision_plugin.forward_context():
            output = find_forward(trainer, self._reader.module)(inputs)
        return self._reader.prediction(output), target

    def _predict_with_ending(self, trainer: Trainer, inputs: Any) -> tuple[Any, Any]:
        """Return a prediction, and how it ends, which the graph for gradients shows."""
        forward = find_forward(trainer, self._reader.module)
        # a sharded module prepares for a backward pass in a forward with gradients
        with trainer.precision_plugin.forward_context(), torch.set_grad_enabled(not is_sharded(trainer)):
            prediction = self._reader.prediction(forward(inputs))
        part = trainer.lightning_module.get_submodule(self._reader.module or "")
        return detached(prediction), endings_of(prediction, part)

    def _predictor(self, trainer: Trainer) -> Callable[[Any, Tensor], Iterator[tuple[str, Any, Any]]]:
        """Return a function of a batch and its indices that yields each series, its prediction, and the targets."""
        module = trainer.lightning_module
        forward = find_forward(trainer, self._reader.module)
        signature = forward_signature(module, self._reader.module)  # which takes longer than the step of a small model

        def predict(batch: Any, index: Tensor) -> Iterator[tuple[str, Any, Any]]:
            inputs, target = self._reader.unpack(on_device(trainer, module, batch), signature)
            for series, pattern in self._series.items():
                with of_examples(index):
                    shown = inputs if pattern is None else pattern(inputs)
                with trainer.precision_plugin.forward_context():
                    output = forward(shown)
                yield series, self._reader.prediction(output), target

        return predict

    def _observation(self, trainer: Trainer, series: str, columns: dict[str, Tensor], epoch: int | None) -> Observation:
        target, digest = columns.pop("target", None), columns.pop(DIGEST, None)
        fields, target, unlabelled = self.task.settle(columns, target)
        return Observation(
            series=series,
            step=num_steps(trainer),
            epoch=trainer.current_epoch if epoch is None else epoch,
            fields=fields,
            identity=DataIdentity(len(self.dataset), target, source_index=self._source_index, digest=digest),
            num_classes=self.task.num_classes,
            loss_name=self.task.loss_name,
            unlabelled=unlabelled,
        )


def _first_batch(loader: DataLoader[Any], may_fail: bool) -> IndexedBatch | None:
    """Return the first batch; where it `may_fail`, None for examples of several lengths, and what a training skips."""
    try:
        found: IndexedBatch = next(iter(loader))
    except Exception:  # of the user's data set or collate function; training raises it too where it reads such a batch
        if not may_fail:
            raise
        return None
    return None if may_fail and found.batch is None else found


def _has_size(prediction: Any, size: int) -> bool:
    parts = prediction if isinstance(prediction, tuple) else (prediction,)
    return any(isinstance(part, Tensor) and part.ndim > 0 and len(part) == size for part in parts)


@contextmanager
def _at_rest(trainer: Trainer) -> Iterator[None]:
    """Set eval mode, no gradients, rank 0's buffers everywhere and no compilation; give all back as it was."""
    module = trainer.lightning_module
    modes = [(part, part.training) for part in module.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_same_buffers(module))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and loading it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(as_validation(trainer))
        module.eval()
        try:
            yield
        finally:
            for part, mode in modes:
                part.training = mode


@contextmanager
def _same_buffers(module: LightningModule) -> Iterator[None]:
    """Lend rank 0's buffers to all ranks, as running statistics differ by rank and results must not; give all back.

    Also of one process: a module may count its calls, or keep what it saw, in eval mode too.
    """
    buffers = [buffer for buffer in module.buffers() if buffer.numel()]
    kept = [buffer.clone() for buffer in buffers]
    if num_processes() > 1:
        for buffer in buffers:
            if not hasattr(buffer, "to_local"):  # one that is sharded is the same tensor for all
                torch.distributed.broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, own in zip(buffers, kept, strict=True):
            buffer.copy_(own)


@contextmanager
def _isolated(loader: DataLoader[Any], dataset: Any) -> Iterator[None]:
    # workers have copies of the data set, so that its own generators stay as they are in this process
    own = OwnGenerators(dataset) if loader.num_workers == 0 else nullcontext()
    with isolated_rng(), own:
        yield


def _with_bar(trainer: Trainer, loader: DataLoader[Any], total: int) -> Iterator[IndexedBatch]:
    """Read the loader, with a progress bar where the Trainer shows one."""
    bar: Any = trainer.progress_bar_callback
    if is_named(bar, "TQDMProgressBar") and not bar.is_disabled:
        from tqdm.auto import tqdm

        yield from tqdm(
            loader, desc="Easiness", total=total, position=1, leave=False, dynamic_ncols=True, file=sys.stdout
        )
    elif is_named(bar, "RichProgressBar") and bar.is_enabled and bar.progress is not None:
        task = bar.progress.add_task("[white]Easiness", total=total)
        try:
            for item in loader:
                yield item
                bar.progress.update(task, advance=1)
        finally:
            bar.progress.remove_task(task)
    else:
        yield from loader
