"""Arguments that the experiments refuse before they train anything, each in one whole sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    Keep,
    StepwiseCompression,
    ThresholdRuns,
    compare_selections,
    repeat_fit,
)
from tests.distributed_experiments import Wide
from tests.repeated_runs import Data, never
from tests.small import Net, Points, loader, trainer

REPEAT: dict[str, Any] = {"function": repeat_fit}
COMPARE: dict[str, Any] = {"function": compare_selections, "ratios": (0.1,), "metric": "val_loss"}
COMPRESS: dict[str, Any] = {"function": StepwiseCompression, "ratio": 0.25}
THRESHOLD: dict[str, Any] = {
    "function": lambda **given: ThresholdRuns(**given).run(),
    "num_classes": 4,
    "make_module": Wide,
}


class Case(NamedTuple):
    """What is refused, and the whole message."""

    base: dict[str, Any]
    changes: dict[str, Any]
    message: str
    error: type[Exception] = ValueError


def seeds_of(base: dict[str, Any], owner: str) -> list[Case]:
    empty = f"The `seeds` of {owner} are empty; give one for each run, as range(10)."
    twice = f"The `seeds` of {owner} must differ, as a run each; got [1, 2, 1]."
    return [Case(base, {"seeds": []}, empty), Case(base, {"seeds": [1, 2, 1]}, twice)]


def ratio_of(base: dict[str, Any], owner: str, name: str, given: float, value: Any) -> Case:
    return Case(base, {name: value}, f"The `{name}` of {owner} must be in (0, 1); got {given}: 30 % to remove is 0.3.")


def data_of(base: dict[str, Any], given: Any) -> Case:
    message = "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got {}."
    return Case(base, {"datamodule": given}, message.format(type(given).__name__), TypeError)


def observers(*observers: EasinessCallback, **options: Any) -> dict[str, Callable[[], Any]]:
    return {"make_trainer": lambda: trainer(callbacks=[*observers], **options)}


REFUSED = [
    *seeds_of(REPEAT, "repeat_fit"),
    *seeds_of(COMPARE, "compare_selections"),
    *seeds_of(COMPRESS, "StepwiseCompression"),
    ratio_of(COMPRESS, "StepwiseCompression", "ratio", 1.0, 1.0),
    ratio_of(COMPRESS, "StepwiseCompression", "ratio", 0, 0),
    ratio_of(COMPARE, "compare_selections", "ratios", 0.0, (0.5, 0.0)),
    data_of(COMPRESS, None),
    data_of(THRESHOLD, [1, 2]),
    Case(
        REPEAT,
        observers(EasinessCallback(), EasinessCallback(probe="val")),
        "The Trainer of repeat_fit has 2 EasinessCallbacks, but a run has one record; give it one.",
    ),
    Case(
        REPEAT,
        observers(fast_dev_run=True),
        "The Trainer of repeat_fit has fast_dev_run, which writes no record; try things out with trainer.fit(...), or"
        " with few `seeds`, max_epochs and limit_train_batches in another `dirpath`.",
    ),
    Case(
        COMPRESS,
        {"step": 0.3},
        "The `step` of StepwiseCompression must be in (0, ratio], (0, 0.25]; got 0.3: it is the fraction of the"
        " original data set that goes in a step.",
    ),
    Case(COMPARE, {"ratios": ()}, "The `ratios` of compare_selections are empty; give at least one."),
    Case(
        COMPARE,
        {"methods": ("middle",)},
        "The `methods` of compare_selections must be 'random' or 'easy' or 'hard' or 'stepwise' or 'stratified'; got"
        " 'middle'.",
    ),
    Case(
        COMPARE,
        {"equal": "time"},
        "The `equal` of compare_selections must be 'epochs' or 'updates'; got 'time'.",
    ),
    Case(
        COMPARE,
        {"equal": "updates"},
        "The `make_trainer` of compare_selections takes no `max_steps`, which equal='updates' gives it; let it return"
        " Trainer(max_steps=max_steps, max_epochs=-1, ...), or take equal='epochs'.",
        TypeError,
    ),
    Case(
        THRESHOLD,
        {"make_module": Net},
        "The `make_module` of ThresholdRuns must take `num_classes`, the number of outputs, which is one more than the"
        " 4 classes of the data set: def make_module(num_classes): ...",
        TypeError,
    ),
    Case(
        THRESHOLD,
        {"num_classes": 1},
        "The `num_classes` of threshold_examples must be at least 2; got 1: with one class no label can be wrong.",
    ),
    Case(THRESHOLD, {"seeds": ()}, "The `seeds` of repeat_fit are empty; give one for each run, as range(10)."),
    Case(
        THRESHOLD,
        observers(EasinessCallback(online=False)),
        "The EasinessCallback of ThresholdRuns must observe online, as the area under the margin is taken from training"
        " itself; give it online=True.",
    ),
    Case(
        THRESHOLD,
        {"make_trainer": trainer, "datamodule": loader(Points(1))},
        "The `target` of threshold_examples must have enough examples for two sets of N / (K + 1); got N = 1"
        " and K = 4.",
    ),
    Case(
        THRESHOLD,
        {"make_trainer": trainer, "datamodule": EasinessDataModule(loader(), Keep(range(9)))},
        "EasinessDataModule cannot select from what another EasinessDataModule has selected; write one Selection whose"
        " select() and labels() do both, and give it to one EasinessDataModule.",
        TypeError,
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.message[:60])
def test_what_is_refused_trains_nothing(case: Case, tmp_path: Path) -> None:
    arguments = {"make_trainer": never, "make_module": Net, "datamodule": Data(), "dirpath": tmp_path}
    arguments |= {"progress": False, **case.base, **case.changes}
    with pytest.raises(case.error) as caught:
        arguments.pop("function")(**arguments)
    assert str(caught.value) == case.message
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_is_not_logged(tmp_path: Path) -> None:
    arguments = {"datamodule": Data(), "ratios": (0.1,), "seeds": (1,), "dirpath": tmp_path, "progress": False}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        compare_selections(trainer, Net, metric="val_acc", **arguments)
    assert str(caught.value) == (
        "The `metric` of compare_selections must be one that the module logs in validate; got 'val_acc', but there are:"
        " 'val_loss'."
    )
