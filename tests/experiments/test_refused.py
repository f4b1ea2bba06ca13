"""Arguments that the experiments refuse before they train anything, each in one whole sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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

Case = tuple[Callable[..., Any], dict[str, Any]]

compare = partial(compare_selections, ratios=(0.1,), metric="val_loss")
compress = partial(StepwiseCompression, ratio=0.25)


def protocol(**given: Any) -> Any:
    return ThresholdRuns(**{"num_classes": 4, **given}).run()


def observed(*observers: EasinessCallback, **options: Any) -> dict[str, Any]:
    return {"make_trainer": lambda: trainer(callbacks=[*observers], **options)}


EMPTY = "The `seeds` of {} are empty; give one for each run, as range(10)."
TWICE = "The `seeds` of {} must differ, as a run each; got [1, 2, 1]."
RATIO = "The `{} must be in (0, 1); got {}: 30 % to remove is 0.3."
DATA = "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got {}."

VALUES: dict[str, Case] = {
    EMPTY.format("repeat_fit"): (repeat_fit, {"seeds": []}),
    EMPTY.format("compare_selections"): (compare, {"seeds": []}),
    EMPTY.format("StepwiseCompression"): (compress, {"seeds": []}),
    TWICE.format("repeat_fit"): (repeat_fit, {"seeds": [1, 2, 1]}),
    TWICE.format("StepwiseCompression"): (compress, {"seeds": [1, 2, 1]}),
    RATIO.format("ratio` of StepwiseCompression", 1.0): (compress, {"ratio": 1.0}),
    RATIO.format("ratio` of StepwiseCompression", 0): (compress, {"ratio": 0}),
    RATIO.format("ratios` of compare_selections", 0.0): (compare, {"ratios": (0.5, 0.0)}),
    "The Trainer of repeat_fit has 2 EasinessCallbacks, but a run has one record; give it one.": (
        repeat_fit,
        {"make_module": Net, **observed(EasinessCallback(), EasinessCallback(probe="val"))},
    ),
    "The Trainer of repeat_fit has fast_dev_run, which writes no record; try things out with trainer.fit(...), or with"
    " few `seeds`, max_epochs and limit_train_batches in another `dirpath`.": (
        repeat_fit,
        {"make_module": Net, **observed(fast_dev_run=True)},
    ),
    "The `step` of StepwiseCompression must be in (0, ratio], (0, 0.25]; got 0.3: it is the fraction of the original"
    " data set that goes in a step.": (compress, {"step": 0.3}),
    "The `ratios` of compare_selections are empty; give at least one.": (compare, {"ratios": ()}),
    "The `methods` of compare_selections must be 'random' or 'easy' or 'hard' or 'stepwise' or 'stratified'; got"
    " 'middle'.": (compare, {"methods": ("middle",)}),
    "The `equal` of compare_selections must be 'epochs' or 'updates'; got 'time'.": (compare, {"equal": "time"}),
    "The `num_classes` of threshold_examples must be at least 2; got 1: with one class no label can be wrong.": (
        protocol,
        {"num_classes": 1},
    ),
    "The EasinessCallback of ThresholdRuns must observe online, as the area under the margin is taken from training"
    " itself; give it online=True.": (protocol, observed(EasinessCallback(online=False))),
    "The `target` of threshold_examples must have enough examples for two sets of N / (K + 1); got N = 1 and K = 4.": (
        protocol,
        {"make_trainer": trainer, "datamodule": loader(Points(1))},
    ),
}
TYPES: dict[str, Case] = {
    DATA.format("NoneType"): (compress, {"datamodule": None}),
    DATA.format("list"): (protocol, {"datamodule": [1, 2]}),
    "The `make_trainer` of compare_selections takes no `max_steps`, which equal='updates' gives it; let it return"
    " Trainer(max_steps=max_steps, max_epochs=-1, ...), or take equal='epochs'.": (compare, {"equal": "updates"}),
    "The `make_module` of ThresholdRuns must take `num_classes`, the number of outputs, which is one more than the 4"
    " classes of the data set: def make_module(num_classes): ...": (protocol, {"make_module": Net}),
    "EasinessDataModule cannot select from what another EasinessDataModule has selected; write one Selection whose"
    " select() does both, and give it to one EasinessDataModule.": (
        protocol,
        {"make_trainer": trainer, "datamodule": EasinessDataModule(loader(), Keep(range(9)))},
    ),
}


@pytest.mark.parametrize("message", [*VALUES, *TYPES], ids=lambda message: message[:60])
def test_what_is_refused_trains_nothing(message: str, tmp_path: Path) -> None:
    experiment, changes = {**VALUES, **TYPES}[message]
    arguments = {"make_trainer": never, "make_module": Wide, "datamodule": Data(), "dirpath": tmp_path}
    arguments |= {"progress": False, **changes}
    with pytest.raises(ValueError if message in VALUES else TypeError) as caught:
        experiment(**arguments)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []
