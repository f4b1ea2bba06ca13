"""A Trainer, a module and a number where repeat_fit and its kin take functions and seeds: the line to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    Keep,
    StepwiseCompression,
    ThresholdRuns,
    compare_selections,
    repeat_fit,
)
from tests.small import Net, Points, loader, trainer


def make_trainer() -> Any:
    return trainer(max_epochs=1)


def compress(*arguments: Any, **options: Any) -> Any:
    return StepwiseCompression(*arguments, ratio=0.2, **options).run()


def compare(*arguments: Any, **options: Any) -> Any:
    return compare_selections(*arguments, ratios=[0.3], metric="val_loss", **options)


def protocol(*arguments: Any, **options: Any) -> Any:
    return ThresholdRuns(*arguments, num_classes=4, **options).run()


EXPERIMENTS: dict[str, Callable[..., Any]] = {
    "repeat_fit": repeat_fit,
    "StepwiseCompression": compress,
    "compare_selections": compare,
    "ThresholdRuns": protocol,
}
every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


def refused(name: str, *arguments: Any, folder: Path, **options: Any) -> str:
    """The message of the TypeError that an experiment ends with, before it writes anything."""
    with pytest.raises(TypeError) as caught:
        EXPERIMENTS[name](*arguments, loader(), dirpath=folder / "runs", **options)
    assert not (folder / "runs").exists()
    return str(caught.value)


@every_experiment
def test_a_trainer_in_place_of_the_function_that_makes_one(name: str, tmp_path: Path) -> None:
    assert refused(name, make_trainer(), Net(), folder=tmp_path, seeds=3) == (
        f"The `make_trainer` of {name} must be a function that returns a new Trainer for each run; got one Trainer:"
        " write make_trainer=lambda: Trainer(...)."
    )


@every_experiment
def test_a_module_in_place_of_the_function_that_makes_one(name: str, tmp_path: Path) -> None:
    assert refused(name, make_trainer, Net(), folder=tmp_path, seeds=3) == (
        f"The `make_module` of {name} must be a function that returns a new LightningModule for each run; got one Net:"
        " write make_module=lambda: Net(...)."
    )


@every_experiment
@pytest.mark.parametrize(("seeds", "way_out"), [(3, "range(3)"), ([0.5, 1.5], "range(10)"), (None, "range(10)")])
def test_a_number_in_place_of_the_seeds(name: str, seeds: Any, way_out: str, tmp_path: Path) -> None:
    make_module = (lambda num_classes: Net()) if name == "ThresholdRuns" else Net
    assert refused(name, make_trainer, make_module, folder=tmp_path, seeds=seeds) == (
        f"The `seeds` of {name} must be integers, one for each run; got {seeds!r}: write seeds={way_out}."
    )


def test_nothing_in_place_of_a_function(tmp_path: Path) -> None:
    assert refused("repeat_fit", None, Net, folder=tmp_path) == (
        "The `make_trainer` of repeat_fit must be a function that returns a new Trainer for each run; got None: write"
        " make_trainer=lambda: Trainer(...)."
    )


def test_a_function_that_returns_nothing(tmp_path: Path) -> None:
    assert refused("repeat_fit", make_trainer, lambda: None, folder=tmp_path) == (
        "The `make_module` of repeat_fit must return a LightningModule; got None: give it a `return`."
    )
    assert refused("repeat_fit", lambda: None, Net, folder=tmp_path) == (
        "The `make_trainer` of repeat_fit must return a Trainer; got None: give it a `return`."
    )


def test_the_two_functions_in_the_wrong_order(tmp_path: Path) -> None:
    assert refused("repeat_fit", Net, make_trainer, folder=tmp_path) == (
        "The `make_module` of repeat_fit must return a LightningModule; got Trainer: let it make a new LightningModule."
    )


def test_a_data_set_in_place_of_its_loader(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        repeat_fit(make_trainer, Net, Points(), dirpath=tmp_path / "runs", progress=False)
    start = (
        "The `datamodule` of repeat_fit must be a LightningDataModule, a train DataLoader or a function that returns"
    )
    assert str(caught.value) == f"{start} one; got Points: write DataLoader(dataset, batch_size=..., shuffle=True)."
    with pytest.raises(TypeError) as caught:
        EasinessDataModule(Points())  # type: ignore[arg-type]
    assert str(caught.value) == (
        "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got Points:"
        " write DataLoader(dataset, batch_size=..., shuffle=True)."
    )


def test_a_comparison_whose_module_has_nothing_to_evaluate_ends_before_it_trains(tmp_path: Path) -> None:
    class Trains(Net):
        validation_step = LightningModule.validation_step

        def on_train_start(self) -> None:
            raise AssertionError("it trains")

    data = EasinessDataModule(loader(), val_dataloaders=loader(Points(20, seed=5), shuffle=False))
    with pytest.raises(ValueError, match="validation_step") as caught:
        compare_selections(
            make_trainer, Trains, data, ratios=[0.3], metric="val_loss", dirpath=tmp_path, progress=False
        )
    assert str(caught.value) == (
        "compare_selections evaluates each run with evaluate='validate', but Trains has no validation_step(); give it"
        " one that logs the `metric`."
    )


def test_the_table_of_label_issues_in_place_of_indices() -> None:
    class Issues:
        unflagged = torch.arange(3)

    with pytest.raises(TypeError) as caught:
        Keep(Issues())  # type: ignore[arg-type]
    assert str(caught.value) == "The `indices` of Keep must be indices or a mask; got Issues: give issues.unflagged."


def test_a_pattern_without_a_name() -> None:
    with pytest.raises(TypeError) as caught:
        EasinessCallback(patterns=torch.neg)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "The `patterns` of EasinessCallback must be functions by name; got builtin_function_or_method: write"
        ' patterns={"grey": ...}.'
    )
