"""A pass over all examples at fixed weights that leaves no trace in the training."""

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
from torch.utils.data import DataLoader

from lightning_easiness._utils.lightning import (
    as_validation,
    callable_module,
    defines_forward,
    is_named,
    num_steps,
    on_device,
)
from lightning_easiness._utils.rng import OwnGenerators, isolated_streams
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.loaders import IndexedBatch, num_examples, ordered_loader
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.subset import whole
from lightning_easiness.observe.batch_reader import PROBE_FIELDS, BatchReader, count_classes
from lightning_easiness.observe.forward import call_module, candidate_modules

Pattern = Callable[[Any], Any]


class EvaluationPass:
    """Observes every example of a loader's data set at the current weights, in eval mode and the user's precision.

    Args:
        split: "train", "val" or "loader": the first word of the series' name.
        loader: whose data set is read, with its own way of loading, in order.
        reader: how batches and outputs are read.
        patterns: name -> function of the inputs; a further series each, "train-probe-<name>".
    """

    def __init__(
        self,
        split: str,
        loader: DataLoader[Any],
        reader: BatchReader,
        patterns: Mapping[str, Pattern] | None = None,
    ) -> None:
        self._loader = loader
        self._reader = reader
        self._num_classes: int | None = None
        self._views: dict[str, Pattern | None] = {f"{split}-probe": None}
        self._views.update({f"{split}-probe-{name}": pattern for name, pattern in (patterns or {}).items()})

    @property
    def dataset(self) -> Any:
        """The data set whose examples are observed: the whole of it, also where training uses a part."""
        return whole(self._loader.dataset)

    def run(
        self, trainer: Trainer, pl_module: LightningModule, *, epoch: int | None = None, limit: int | None = None
    ) -> list[Observation]:
        """Makes the pass, on all processes together.

        Args:
            trainer: in whose precision and strategy the module runs.
            pl_module: the module, unwrapped.
            epoch: the epoch that the weights come from; the current one when None.
            limit: batches to read at most, for a trial run.

        Returns:
            One observation a view, complete in every process.
        """
        loader, batches = ordered_loader(
            self._loader, batch_size=self._reader.batch_size, rank=trainer.global_rank, world_size=trainer.world_size
        )
        began = time.perf_counter()
        total = len(batches) if limit is None else min(limit, len(batches))
        columns = {series: _Columns(num_examples(self.dataset), pl_module.device) for series in self._views}
        forward = self._forward_of(trainer, pl_module)
        with _at_rest(trainer, pl_module), _untouched_streams(loader, self.dataset):
            items = zip(range(total), _with_bar(trainer, loader, total), strict=False)
            for position, (index, batch) in items:
                start = None if batches.is_padding(position) else int(index[0])
                for series, values in self._observe(trainer, pl_module, forward, batch, len(index)).items():
                    columns[series].write(start, values)
        found = [self._finish(trainer, series, held, epoch) for series, held in columns.items()]
        return [replace(observation, seconds=time.perf_counter() - began) for observation in found]

    def observe_batch(self, trainer: Trainer, pl_module: LightningModule, batch: Any, size: int) -> dict[str, Tensor]:
        """Observes one batch of `size` examples that is on the device already; in this process alone.

        Returns:
            name -> (B,) on the device, as `BatchReader.observe` returns them.
        """
        with _at_rest(trainer, pl_module), isolated_streams():
            prediction, target = self._predict(trainer, pl_module, batch)
            return self._reader.observe(prediction, target, size, fields=PROBE_FIELDS)

    def count_outputs(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> int | None:
        """Counts the classes that the module tells apart, on a batch that is on the device already; None without."""
        with _at_rest(trainer, pl_module), isolated_streams():
            return count_classes(self._predict(trainer, pl_module, batch)[0])

    def _predict(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> tuple[Any, Any]:
        """What the module makes of a batch that is on the device already, and its targets."""
        inputs, target = self._reader.unpack(batch)
        with trainer.precision_plugin.forward_context():
            output = self._forward_of(trainer, pl_module)(inputs)
        return self._reader.prediction(output), target

    def _observe(
        self, trainer: Trainer, pl_module: LightningModule, forward: Callable[[Any], Any], batch: Any, size: int
    ) -> dict[str, dict[str, Tensor]]:
        inputs, target = self._reader.unpack(on_device(trainer, pl_module, batch))
        observed = {}
        for series, pattern in self._views.items():
            shown = inputs if pattern is None else pattern(inputs)
            with trainer.precision_plugin.forward_context():
                output = forward(shown)
            prediction = self._reader.prediction(output)
            if self._num_classes is None:
                self._reader.warn_of_probabilities(prediction)
            self._num_classes = count_classes(prediction)
            observed[series] = self._reader.observe(prediction, target, size, fields=PROBE_FIELDS)
        return observed

    def _forward_of(self, trainer: Trainer, pl_module: LightningModule) -> Callable[[Any], Any]:
        """Finds out once a pass how inputs become the model's output."""
        whole = callable_module(trainer, pl_module)
        if self._reader.module is None:
            name = candidate_modules(pl_module)[0]
            part = pl_module.get_submodule(name)
            return lambda inputs: call_module(part if name else whole, inputs, signature_of=part)
        part = pl_module.get_submodule(self._reader.module)
        if not defines_forward(pl_module):
            return lambda inputs: call_module(part, inputs)

        def listening(inputs: Any) -> Any:
            # a part deep inside, as a head, does not take the batch's inputs: call the whole and listen to the part
            heard: list[Any] = []
            handle = part.register_forward_hook(lambda module, args, output: heard.append(output))
            try:
                call_module(whole, inputs, signature_of=pl_module)
            finally:
                handle.remove()
            return heard[0] if heard else call_module(part, inputs)

        return listening

    def _finish(self, trainer: Trainer, series: str, columns: _Columns, epoch: int | None) -> Observation:
        fields, target = columns.reduced(trainer)
        observation = Observation(
            series=series,
            step=num_steps(trainer),
            epoch=trainer.current_epoch if epoch is None else epoch,
            fields=fields,
            identity=DataIdentity(num_examples(self.dataset), target),
            num_classes=self._num_classes if target is not None else None,
            loss_name=self._reader.loss_name,
        )
        check_targets(observation)
        return observation


def check_targets(observation: Observation) -> None:
    """Raises a ValueError that names the first example whose target is no class of the model."""
    target, num_classes = observation.target, observation.num_classes
    if target is None or num_classes is None:
        return
    seen = (
        observation.fields["count"] > 0 if "count" in observation.fields else torch.ones_like(target, dtype=torch.bool)
    )
    wrong = (seen & ((target < 0) | (target >= num_classes))).nonzero()
    if len(wrong):
        example = int(wrong[0])
        raise ValueError(
            f"The targets of {len(wrong)} examples are outside the model's classes 0 to {num_classes - 1}; the first is"
            f" example {example} with target {int(target[example])}. Mend them, or pass a batch_fn that maps them."
        )


class _Columns:
    """A value of each field for each of N examples, on the device; zero where another process observes the example."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        self._columns: dict[str, Tensor] = {}

    def write(self, start: int | None, values: dict[str, Tensor]) -> None:
        """Keeps one batch's values from example `start` on; None only makes the columns, as all processes need them."""
        for name, value in values.items():
            if name not in self._columns:
                dtype = torch.int64 if name == "target" else torch.float32
                self._columns[name] = torch.zeros(self._size, dtype=dtype, device=self._device)
            if start is not None:
                self._columns[name][start : start + len(value)] = value

    def reduced(self, trainer: Trainer) -> tuple[dict[str, Tensor], Tensor | None]:
        """Adds the processes' shares up. Names come in a fixed order, so that all processes do the same."""
        columns = {
            name: trainer.strategy.reduce(self._columns[name], reduce_op="sum").cpu()
            for name in (*PROBE_FIELDS, "target")
            if name in self._columns
        }
        target = columns.pop("target", None)
        if "correct" in columns:
            columns["correct"] = columns["correct"] > 0
        return columns, target


@contextmanager
def _at_rest(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Fixed weights: eval mode, no gradients, rank 0's buffers everywhere, no compilation; afterwards all as before."""
    modes = [(module, module.training) for module in pl_module.modules()]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_same_buffers(pl_module))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and loading it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(as_validation(trainer))
        pl_module.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


@contextmanager
def _same_buffers(pl_module: LightningModule) -> Iterator[None]:
    """Lends rank 0's buffers to all ranks, as running statistics differ by rank and results must not; gives all back.

    Also of one process: a module may count its calls, or keep what it saw, in eval mode too.
    """
    buffers = [buffer for buffer in pl_module.buffers() if buffer.numel()]
    kept = [buffer.clone() for buffer in buffers]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in buffers:
            torch.distributed.broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, own in zip(buffers, kept, strict=True):
            buffer.copy_(own)


@contextmanager
def _untouched_streams(loader: DataLoader[Any], dataset: Any) -> Iterator[None]:
    # workers have copies of the data set, so that its own generators stay as they are in this process
    own = OwnGenerators(dataset) if loader.num_workers == 0 else nullcontext()
    with isolated_streams(), own:
        yield


def _with_bar(trainer: Trainer, loader: DataLoader[Any], total: int) -> Iterator[IndexedBatch]:
    """Reads the loader, with a progress bar where the Trainer shows one."""
    bar: Any = trainer.progress_bar_callback
    if is_named(bar, "TQDMProgressBar") and not bar.is_disabled:
        yield from _with_tqdm(loader, total)
    elif is_named(bar, "RichProgressBar") and bar.is_enabled and bar.progress is not None:
        yield from _with_rich(bar.progress, loader, total)
    else:
        yield from loader


def _with_tqdm(loader: DataLoader[Any], total: int) -> Iterator[IndexedBatch]:
    from tqdm.auto import tqdm

    yield from tqdm(loader, desc="Easiness", total=total, position=1, leave=False, dynamic_ncols=True, file=sys.stdout)


def _with_rich(progress: Any, loader: DataLoader[Any], total: int) -> Iterator[IndexedBatch]:
    task = progress.add_task("[white]Easiness", total=total)
    try:
        for item in loader:
            yield item
            progress.update(task, advance=1)
    finally:
        progress.remove_task(task)
