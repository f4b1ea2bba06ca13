"""What a module and a data set say of the task, besides the outputs and targets of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch import nn
from torch.utils.data import TensorDataset

from lightning_easiness._utils.lightning import is_named
from lightning_easiness.data.subset import known_target, source, whole
from lightning_easiness.functional.targets import IGNORE_INDEX

CLASSES, LABELS, REGRESSION = "classes", "labels", "regression"

_LOSSES = {
    **dict.fromkeys(("CrossEntropyLoss", "NLLLoss"), CLASSES),
    **dict.fromkeys(("BCEWithLogitsLoss", "BCELoss", "MultiLabelSoftMarginLoss"), LABELS),
    **dict.fromkeys(("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"), REGRESSION),
}


@dataclass(frozen=True)
class Evidence:
    """What decides where outputs and targets alone do not.

    Attributes:
        ignored: Targets that mean "no label": the `ignore_index` of the module's losses, else torch's default.
        loss: What the module's loss is for: CLASSES, LABELS or REGRESSION; None where it holds none, or several.
        class_counts: Function that returns number of classes -> where it is from, which may take a while.
    """

    ignored: tuple[int, ...] = (IGNORE_INDEX,)
    loss: str | None = None
    class_counts: Callable[[], Mapping[int, str]] = dict

    @classmethod
    def of(cls, module: nn.Module, dataset: Any) -> Evidence:
        """Gather what a LightningModule and a data set say."""
        parts = [part for part in module.modules() if not is_named(part, "Metric")]
        ignored = {value for part in parts if _is_integer(value := getattr(part, "ignore_index", None))}
        losses = {kind for part in parts for name, kind in _LOSSES.items() if is_named(part, name)}
        return cls(
            ignored=tuple(sorted(ignored)) or (IGNORE_INDEX,),
            loss=losses.pop() if len(losses) == 1 else None,
            class_counts=lambda: dict(reversed([*_counts_of(module), *_counts_of_data(dataset)])),
        )


def _counts_of(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield the numbers of classes that a module, its hyperparameters and its metrics name."""
    hparams = getattr(module, "hparams", {})
    for name in ("num_classes", "n_classes", "num_labels"):
        for value in (getattr(module, name, None), hparams.get(name)):
            if _is_integer(value) and value >= 2:
                yield value, f"the module's {name}"
    for part in module.modules():
        value = getattr(part, "num_classes", None)
        if part is not module and _is_integer(value) and value >= 2:
            yield value, f"the num_classes of its {type(part).__name__}"


def _counts_of_data(dataset: Any) -> Iterator[tuple[int, str]]:
    classes = getattr(source(dataset), "classes", None)
    if isinstance(classes, (list, tuple)) and len(classes) >= 2:
        yield len(classes), "the data set's classes"
    target = None if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 2 else known_target(whole(dataset))
    if target is not None and len(target) and int(target.max()) >= 1:
        yield int(target.max()) + 1, "the data set's targets"


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
