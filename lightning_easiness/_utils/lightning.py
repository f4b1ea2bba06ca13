"""Everything of Lightning that is not its public interface, in one place.

Each entry says why it is needed. `tests/_utils/test_lightning.py` tests each by name: a new Lightning that changes one
fails there, with its name, and is adapted to here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

# ----------------------------------------------------------------------------------------------- whose class a thing is


def is_named(value: object, class_name: str) -> bool:
    """Check a class by name: Lightning's classes exist twice, in `lightning` and in `pytorch_lightning`."""
    return any(base.__name__ == class_name for base in type(value).__mro__)


def defines_forward(module: nn.Module) -> bool:
    """Return whether a module has a `forward` of its own: LightningModule's raises an error."""
    owner = next(base for base in type(module).__mro__ if "forward" in vars(base))
    return owner.__name__ not in ("LightningModule", "Module")


def takes_dataloader_iter(module: Any) -> bool:
    """Return whether a training step takes batches from an iterator by itself, before any hook sees them."""
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

    return is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True)


def only_seeds_workers(worker_init_fn: Any) -> bool:
    """Return whether a loader's workers begin with what `seed_everything(workers=True)` adds, and nothing else."""
    function = worker_init_fn.func if isinstance(worker_init_fn, partial) else worker_init_fn
    return getattr(function, "__name__", "") == "pl_worker_init_function"


# ------------------------------------------------------------------------------------------------- where a fit stands


def num_steps(trainer: Any) -> int:
    """Count the optimizer steps so far: Lightning's count, or the batches where it counts none.

    Lightning does not see the steps of raw optimizers, `self.optimizers(use_pl_optimizer=False)`; by its count all
    epochs would be at step 0.
    """
    if trainer.global_step or trainer.lightning_module.automatic_optimization:
        return int(trainer.global_step)
    return int(trainer.fit_loop.total_batch_idx) + 1


def trial_batches(trainer: Any) -> int:
    """Return the batches of a trial run (`fast_dev_run`), which reads little and writes nothing; 0 for a real one."""
    return int(trainer.fast_dev_run)


def fit_progress(trainer: Any) -> float:
    """Return how far a fit is, from 0 to 1; where it has no end, 0.1 more whenever its epochs double."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs or -1
    part = min(1.0, batch_number(trainer) / batches) if 0 < batches < math.inf else 0.0
    done = trainer.current_epoch + part
    by_epochs = done / epochs if epochs > 0 else 0.0
    by_steps = trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0
    has_end = epochs > 0 or trainer.max_steps > 0
    return min(1.0, max(by_epochs, by_steps)) if has_end else math.log2(1 + done) / 10


def batch_number(trainer: Any) -> int:
    """Return the number of the batch whose step is about to begin: the loop counts it only when it has begun."""
    return int(trainer.fit_loop.epoch_loop.batch_idx) + 1


def accumulation(trainer: Any) -> tuple[bool, bool]:
    """Return whether the batch about to begin is the first, and the last, of those that gradients are accumulated over.

    The optimizer steps at the last one, which the last batch of an epoch is, too.
    """
    number, every = batch_number(trainer), trainer.accumulate_grad_batches
    ends_epoch = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return number % every == 0, (number + 1) % every == 0 or ends_epoch or number + 1 == trainer.num_training_batches


class StepsDone(NamedTuple):
    """How far a fit is, after a batch of the current epoch, in steps of the optimizer."""

    epoch: int
    step: int  # of this epoch; a step that is skipped counts
    steps: int  # that this epoch has
    made: int  # since the beginning of the fit
    epochs: int  # of the whole fit; -1 where it is not limited by epochs
    max_steps: int  # -1 where it is not limited by steps


def steps_done(trainer: Any) -> StepsDone:
    """Return how far a fit is, asked after a batch before the loop counts it as completed."""
    every, batch = trainer.accumulate_grad_batches, batch_number(trainer)
    step, steps = -(-batch // every), -(-trainer.num_training_batches // every)
    epochs = -1 if trainer.max_epochs is None else int(trainer.max_epochs)
    return StepsDone(trainer.current_epoch, step, steps, trainer.global_step, epochs, trainer.max_steps)


def batch_is_finished(trainer: Any) -> bool:
    """Return whether the training step of the last batch has ended, when a checkpoint asks in between."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(batches.processed == batches.ready)


def loads_training(trainer: Any) -> bool:
    """Return whether the loader processed now is the training's: a tuner loads validation too while it trains."""
    return trainer.train_dataloader is None or bool(trainer.fit_loop._should_reload_train_dl)


def data_share(trainer: Any) -> tuple[int, int]:
    """Return which share of the data this process reads, counted from 0, and how many shares there are.

    Under tensor parallelism all processes of a group read the same share, so that there are fewer than processes.
    """
    given = None if trainer is None else trainer.distributed_sampler_kwargs
    return (0, 1) if given is None else (int(given["rank"]), int(given["num_replicas"]))


def is_first_of_share(trainer: Any) -> bool:
    """Return whether this process is the first of those that read its share; all processes call it together."""
    rank, number = data_share(trainer)
    if number == trainer.world_size:
        return True
    strategy = trainer.strategy
    ranks = strategy.all_gather(torch.tensor(rank, device=strategy.root_device)).tolist()
    return bool(ranks.index(rank) == trainer.global_rank)


def is_writer() -> bool:
    """Return whether this process is the one that writes files, also outside a fit."""
    from lightning.pytorch.utilities import rank_zero_only

    return getattr(rank_zero_only, "rank", 0) == 0


# ----------------------------------------------------------------------------------------- what a module keeps and logs


def logged_metric(module: Any, name: str) -> tuple[Any, bool]:
    """Return the metric that this hook has logged under a name, and whether that was since Lightning's last reset.

    The Trainer keeps it per hook and validation loader, and resets it at an epoch's end and at the start of a run; only
    there can it be seen whether a metric must be logged again. None before the first time.
    """
    results = module.trainer._results
    loader = "" if results.dataloader_idx is None else f".{results.dataloader_idx}"
    entry = results.get(f"{module._current_fx_name}.{name}{loader}")
    return (None, False) if entry is None else (entry.value, not entry.has_reset)


def add_hparams(module: Any, hparams: dict[str, Any]) -> None:
    """Add to a module's hparams, and leave the rest as the user's own call of `save_hyperparameters` made it.

    A second call would by itself forget under which argument the user's are loaded again, and whether they are logged.
    """
    is_logged = module._log_hyperparams if module.hparams else True
    argument = getattr(module, "_hparams_name", None)
    module.save_hyperparameters(hparams, logger=is_logged)
    module._hparams_name = argument


def log_step(trainer: Any) -> int:
    """Return the step at which Lightning's own numbers are logged now: the last one, counted from 0."""
    loop = trainer.fit_loop.epoch_loop
    batches = loop.batch_progress.current
    return max(0, int(loop._batches_that_stepped) - int(batches.processed <= batches.completed))


def configured_optimizers(trainer: Any, module: Any) -> tuple[list[Any], list[Any]]:
    """Return the optimizers and the configured schedules of a module without a fit, with this Trainer at hand."""
    from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers

    trainer.strategy.connect(module)
    module.trainer = trainer
    return _init_optimizers_and_lr_schedulers(module)


def set_callback_metrics(trainer: Any, metrics: Mapping[str, float]) -> None:
    """Let monitors see values in hooks in which Lightning's `log` refuses them, as on_train_end, or defers them."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})


# -------------------------------------------------------------------------------------------- running the user's module


def on_device(trainer: Any, module: Any, batch: Any) -> Any:
    """Return a batch as the training step would get it: converted, through the user's transfer hooks, on the device."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def callable_module(trainer: Any, module: nn.Module) -> nn.Module:
    """Return what to call for the module's forward: the wrapper that gathers its shards, where there is one."""
    wrapped = type(trainer.model).__name__ == "FullyShardedDataParallel"
    return trainer.model if wrapped and trainer.model is not None else module


def is_sharded(trainer: Any) -> bool:
    """Return whether a strategy shards the module's parameters over the processes."""
    return any(
        is_named(trainer.strategy, name) for name in ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")
    )


@contextmanager
def as_validation(trainer: Any) -> Iterator[None]:
    """Let `trainer.training` be False for a block: batch hooks that augment on the device ask for it."""
    stage = trainer.state.stage
    trainer.validating = True
    try:
        yield
    finally:
        trainer.state.stage = stage


# ------------------------------------------------------------------------------------------- methods of the strategy


class StrategyHook:
    """Stands in for a method of the Trainer's strategy, until `remove`.

    Lightning has no hook where a loader is about to be iterated (`process_dataloader`), nor right before the training
    step when the batch is on the device (`batch_to_device`), nor for what the step returns (`training_step`), nor for
    the loss right before its gradients (`backward`), also where a module calls `manual_backward`. Several
    hooks may lie over each other, and are removed in any order. `before` takes the arguments, `change` the first of
    them, and returns what the method gets in its place, `after` what the method returned, and returns what the caller
    gets.
    """

    def __init__(
        self,
        trainer: Any,
        method: str,
        *,
        before: Callable[..., None] | None = None,
        change: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
    ) -> None:
        self._strategy, self._method = trainer.strategy, method
        self._before, self._change, self._after = before, change, after
        self._is_active = True
        self._previous: Callable[..., Any] = getattr(trainer.strategy, method)
        setattr(trainer.strategy, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        if self._is_active and self._before is not None:
            self._before(*args, **kwargs)
        if self._is_active and self._change is not None:
            args = (self._change(args[0]), *args[1:])
        result = self._previous(*args, **kwargs)
        return self._after(result) if self._is_active and self._after is not None else result

    def remove(self) -> None:
        """Give the method back; the last of several hooks to be removed takes all of them off."""
        self._is_active = False
        strategy, method = self._strategy, self._method
        current = strategy.__dict__.get(method)
        while isinstance(current, StrategyHook) and not current._is_active:
            current = current._previous
            setattr(strategy, method, current)
        if current is not None and current == getattr(type(strategy), method).__get__(strategy):
            del strategy.__dict__[method]


class PassedBatch:
    """Lets the training loop pass over a batch that is None as if there were none, while `is_passed`, until `remove`.

    By itself the loop makes no optimizer step for it, but steps the schedules and counts a step for the loggers, unless
    gradients are still accumulated; and it warns.
    """

    def __init__(self, trainer: Any) -> None:
        self.is_passed = False
        self._loop = trainer.fit_loop.epoch_loop
        by_itself = self._loop._should_accumulate
        self._loop._should_accumulate = lambda: self.is_passed or by_itself()
        self._loop._warning_cache.add("train_dataloader yielded None. If this was on purpose, ignore this warning...")

    def remove(self) -> None:
        """Give the loop back."""
        self._loop.__dict__.pop("_should_accumulate", None)


class ScheduleHook:
    """Decides how often a schedule that steps with the batches is moved after each step, until `remove`.

    By itself the loop moves it once, and not at all for a batch that is passed over. `moves` takes the number of the
    schedule and its `frequency`.
    """

    def __init__(self, trainer: Any, moves: Callable[[int, int], int]) -> None:
        self._trainer, self._moves = trainer, moves
        self._loop = trainer.fit_loop.epoch_loop
        self._by_itself = self._loop.update_lr_schedulers
        self._loop.update_lr_schedulers = self._update

    def remove(self) -> None:
        """Give the loop back."""
        self._loop.__dict__.pop("update_lr_schedulers", None)

    def _update(self, interval: str, update_plateau_schedulers: bool) -> None:
        if interval != "step" or update_plateau_schedulers or not self._trainer.lightning_module.automatic_optimization:
            self._by_itself(interval, update_plateau_schedulers=update_plateau_schedulers)
        elif not type(self._loop)._should_accumulate(self._loop):  # not of the instance, by which batches are passed
            for number, config in enumerate(self._trainer.lr_scheduler_configs):
                if config.interval == "step" and not config.reduce_on_plateau:
                    for _ in range(self._moves(number, config.frequency)):
                        self._move(config.scheduler)

    def _move(self, schedule: Any) -> None:
        from lightning.pytorch.trainer import call

        self._loop.scheduler_progress.increment_ready()
        call._call_lightning_module_hook(self._trainer, "lr_scheduler_step", schedule, None)
        self._loop.scheduler_progress.increment_completed()


# ---------------------------------------------------------------------------------------------------------- resuming


def begin_next_epoch(trainer: Any) -> None:
    """Let a fit that is resumed at an epoch's end come to its next epoch as one that was never left does.

    By itself Lightning takes the iterator that it made on the way here, before the RNG state is restored; and with
    `max_steps` it begins by training a batch of the epoch that has ended.
    """
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
    loop.epoch_loop.restarting = False  # its parts too
    for part in (loop, loop.epoch_loop):
        part.on_iteration_done()


def end_resumed_epoch(trainer: Any, num_batches: int) -> None:
    """Let a fit that is resumed after an epoch's last batch begin the next epoch at its first batch.

    Lightning compares the number of batches that are done with the length of the next epoch, and would go on within it
    where that one is longer.
    """
    loop = trainer.fit_loop.epoch_loop
    if getattr(loop, "restarted_on_train_batch_end", False):
        done = loop.batch_progress.current
        done.completed = max(done.completed, num_batches)


# ---------------------------------------------------------------------------------------- a datamodule within another


def restore_nested_hparams(datamodule: Any, argument: str) -> Any:
    """Return a datamodule that is given to another one, with hyperparameters of its own.

    LightningCLI lets `save_hyperparameters` find those of the outer datamodule in every datamodule that it makes. Its
    own are among them, under the name of the outer one's argument.
    """
    given = getattr(datamodule, "_hparams", {})
    own = given.get(argument) if "_instantiator" in given else None
    if isinstance(own, dict) and "class_path" in own:
        own = {"_class_path": own["class_path"], **own.get("init_args", {}), **own.get("dict_kwargs", {})}
        datamodule._hparams = type(given)({**own, "_instantiator": given["_instantiator"]})
        datamodule._hparams_initial = copy.deepcopy(datamodule._hparams)
    return datamodule


# --------------------------------------------------------------------------------- loaders that Lightning makes again

_SAVED_ARGS, _SAVED_KWARGS, _SAVED_DATASET = "__pl_saved_args", "__pl_saved_kwargs", "__dataset"


def replace_saved_dataset(loader: Any, dataset: Any, replacement: Any) -> None:
    """Let Lightning, when it makes a loader again with a distributed sampler, make it over another data set.

    It keeps the arguments of a loader that a hook made in the loader's `__dict__`.
    """
    held = loader.__dict__
    if _SAVED_ARGS not in held:
        return
    args, kwargs = held[_SAVED_ARGS], held[_SAVED_KWARGS]
    if any(value is dataset for value in (*args, *kwargs.values())):
        held[_SAVED_ARGS] = tuple(replacement if value is dataset else value for value in args)
        held[_SAVED_KWARGS] = {name: replacement if value is dataset else value for name, value in kwargs.items()}
        held[_SAVED_DATASET] = replacement
    else:  # a subclass that makes its data set by itself: Lightning goes by attributes then
        for name in [name for name in held if name.startswith("__pl_") or name == _SAVED_DATASET]:
            del held[name]
