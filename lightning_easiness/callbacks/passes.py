"""The evaluation pass of an EasinessCallback, and what a small batch shows before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_easiness.data.indexed_loader import check_indexable
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.checks import only_loader
from lightning_easiness.observe.evaluation import EvaluationPass, Pattern
from lightning_easiness.observe.reading import Reading


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
