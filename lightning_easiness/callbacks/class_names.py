"""The names of the classes that a fit records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_easiness.data.class_names import check_class_names, class_names


def names_of_fit(
    trainer: Trainer, probed: Any, given: Sequence[str] | None, num_classes: int | None
) -> tuple[str, ...] | None:
    """Return the names that were given, or those that the train loader's data set or `probed` lists, one per class."""
    if given is not None:
        return check_class_names("EasinessCallback", given, num_classes)
    loader: Any = trainer.train_dataloader
    found = class_names(getattr(loader, "dataset", None)) or class_names(probed)
    if found is None or num_classes in (None, len(found)):
        return found
    rank_zero_info(
        f"The data set lists {len(found)} `classes` and the model has {num_classes}, so the record has no names of"
        " classes; EasinessCallback(class_names=[...]) gives them."
    )
    return None
