"""The accuracy of the worst class, beside whatever a module logs in its evaluation."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.group import shared_values
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.indexed_loader import check_indexable
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.evaluation import EvaluationPass


class WorstClass(Callback):
    """Measures the accuracy of the worst class by a pass over the examples of a `validate` or `test`.

    `accuracy` is None where examples have no class each, or the module cannot be read, of which a warning says why.
    """

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader
        self._noted = shared_values(math.nan)

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the worst class, in [0, 1]."""
        return None if bool(self._noted.isnan()) else float(self._noted)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._measure(trainer, "val", trainer.val_dataloaders)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._measure(trainer, "test", trainer.test_dataloaders)

    def _measure(self, trainer: Trainer, split: str, loaders: Any) -> None:
        listed = loaders if isinstance(loaders, (list, tuple)) else [loaders]
        with torch.inference_mode(mode=False):  # as recognising a task looks at gradients
            try:
                passes = [_tried(trainer, split, loader, self._reader) for loader in listed]
            except (TypeError, ValueError) as error:
                warn_user(f"The accuracy of the worst class is not known: {error}")
                return
            found = [observation for one in passes for observation in one.run(trainer)]
        if all("correct" in one.fields and one.identity.target is not None for one in found):
            correct = torch.cat([one.fields["correct"].cpu() for one in found])
            target = torch.cat([one.identity.known_target.cpu() for one in found])
            self._noted.fill_(functional.worst_class_accuracy(correct, target))


def _tried(trainer: Trainer, split: str, loader: Any, reader: BatchReader) -> EvaluationPass:
    check_indexable(loader)
    made = EvaluationPass(split, loader, reader)
    made.try_batch(trainer, announces=False)
    return made
