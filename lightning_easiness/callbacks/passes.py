"""The evaluation pass of an EasinessCallback, and the task that a small batch shows before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_easiness.callbacks.checks import warn_of_failed_pass
from lightning_easiness.data.indexed_loader import check_indexable
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.checks import only_loader
from lightning_easiness.observe.evaluation import EvaluationPass, Pattern
from lightning_easiness.observe.online import OnlineObserver
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.tasks import Task
from lightning_easiness.record.layout import ONLINE_SERIES


def make_pass(trainer: Trainer, probe: Any, reader: BatchReader, patterns: Mapping[str, Pattern]) -> EvaluationPass:
    """Return the pass over the data that `probe` names: "train", "val" or a DataLoader."""
    if isinstance(probe, DataLoader):
        check_indexable(probe)
        return EvaluationPass("loader", probe, reader, patterns)
    loaders: Any = trainer.train_dataloader if probe == "train" else trainer.val_dataloaders
    return EvaluationPass(probe, only_loader(loaders, probe), reader, patterns)


def training_reading(trainer: Trainer, reader: BatchReader) -> Reading | None:
    """Return how a small batch of the training data is read; None where the training step decides."""
    trial = EvaluationPass("train", only_loader(trainer.train_dataloader, "train"), reader)
    trial.try_batch(trainer, may_fail=True)
    return trial.reading


def recognise_task(
    trainer: Trainer,
    probe: Any,
    reader: BatchReader,
    patterns: Mapping[str, Pattern],
    online: OnlineObserver | None,
    restored: dict[str, Any] | None,
) -> tuple[EvaluationPass | None, Task | None]:
    """Recognise the task before training; return the pass over `probe`, and its task, or that of the training step.

    `online` begins with it, from the state that was `restored`. Without a pass, the task may be known only at its first
    step.
    """
    found = None if probe is None else make_pass(trainer, probe, reader, patterns)
    if found is not None:
        found.try_batch(trainer)
    if online is not None:
        tried = found if probe == "train" else None
        online.start(restored, training_reading(trainer, reader) if tried is None else tried.reading)
    of_step = None if online is None else online.task
    return found, of_step if found is None else found.task


def sizes_of(series: str, evaluation: EvaluationPass | None, online: OnlineObserver | None) -> dict[str, int]:
    """Return the number of examples of the pass's `series` and of the online one, for those that there are."""
    sizes = {} if online is None else {ONLINE_SERIES: online.num_examples}
    return sizes if evaluation is None else {**sizes, series: len(evaluation.dataset)}


def run_last_pass(trainer: Trainer, evaluate: Callable[[], None], folder: Path | None) -> bool:
    """Make the pass at the end of a fit; return whether it succeeded.

    An error in it must not lose a training that is over. It is raised where other processes wait.
    """
    try:
        evaluate()
    except Exception as error:
        if trainer.world_size > 1:
            raise
        warn_of_failed_pass(error, folder)
        return False
    return True
