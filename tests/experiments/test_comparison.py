"""A comparison of selections: its table, its figure, what is trained once, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    StepwiseCompression,
    compare_selections,
    draw_comparison,
)
from lightning_easiness.experiments.compared_runs import ComparedRuns
from tests.distributed_experiments import Wide
from tests.made_runs import whole
from tests.repeated_runs import Data, Modules, TrainOnly, WithTest, never
from tests.selecting import Base
from tests.small import Points, loader, trainer


def make_compression(folder: Path) -> StepwiseCompression:
    """The compression of a balanced comparison, all of whose steps are on disk."""
    options = {"seeds": (1,), "dirpath": folder / "stepwise", "class_balanced": True, "progress": False}
    return StepwiseCompression(trainer, WithTest, Data(), 0.5, **options)


def compare(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    arguments = {"make_trainer": trainer, "make_module": WithTest, "datamodule": Data(), "ratios": (0.1, 0.2)}
    arguments |= {"seeds": (1, 2), "dirpath": folder, "metric": "val_loss", "progress": False}
    return compare_selections(**{**arguments, **changes})


def test_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArithmeticError):
        compare(tmp_path / "killed", make_module=Modules(12))
    rest = Modules()
    rows = compare(tmp_path / "killed", make_module=rest)
    assert rest.trained == 22 + 4 - 11, "22 fits for the table and 4 that measure, of which 11 were complete"
    made = Modules()
    assert compare(tmp_path / "whole", make_module=made) == rows
    assert made.trained == 26
    first = rows.pop(0)
    assert (first["method"], first["ratio"], first["num_kept"], first["updates"]) == ("everything", 0.0, 53, 14)
    assert [row["method"] for row in rows[::2]] == ["random", "easy", "hard", "stepwise", "stratified"]
    assert [(row["ratio"], row["num_kept"], row["updates"]) for row in rows[:2]] == [(0.1, 48, 12), (0.2, 42, 12)]
    assert len({row["mean"] for row in rows}) == 10
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", never)
        assert compare(tmp_path / "whole", make_module=Modules(), methods=("stepwise", "random"))[1:3] == rows[:2]
        with pytest.raises(ValueError, match=r"holds what came of another recipe \(max_epochs: 2 then, 3 now\): give"):
            compare(tmp_path / "whole", make_module=Modules(), make_trainer=lambda: trainer(max_epochs=3))
    one = json.loads((tmp_path / "whole/results/validate-epochs/easy-0.2/seed-1.json").read_text())
    other = json.loads((tmp_path / "whole/results/validate-epochs/easy-0.2/seed-2.json").read_text())
    values = torch.tensor([run["metrics"]["val_loss"] for run in (one, other)], dtype=torch.float64)
    assert rows[3]["mean"] == pytest.approx(float(values.mean()))
    assert rows[3]["spread"] == pytest.approx(float(values.std()))
    worst = torch.tensor([run["worst_class"] for run in (one, other)], dtype=torch.float64)
    assert rows[3]["worst_class"] == pytest.approx(float(worst.mean()))
    assert rows[3]["worst_class_spread"] == pytest.approx(float(worst.std()))


class KeepsAnswers(WithTest):
    """Remembers what it predicts in its tests, of every instance."""

    answers: ClassVar[list[tuple[int, int]]] = []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        if self.trainer.testing:
            self.answers.extend(zip(self(batch[0]).argmax(1).tolist(), batch[1].tolist(), strict=True))


def test_the_worst_class_is_that_of_the_evaluated_examples(tmp_path: Path) -> None:
    KeepsAnswers.answers.clear()
    options = {"make_module": KeepsAnswers, "metric": "test_loss", "evaluate": "test", "seeds": (1,)}
    (row, _) = compare(tmp_path, methods=("random",), ratios=(0.5,), **options)
    answers = KeepsAnswers.answers[:20]  # of the run on everything, the first
    shares = []
    for label in {given for _, given in answers}:
        own = [found == given for found, given in answers if given == label]
        shares.append(sum(own) / len(own))
    assert len(KeepsAnswers.answers) == 40
    assert row["worst_class"] == pytest.approx(min(shares))


class Regresses(WithTest):
    """Predicts a number, of which no class can be the worst."""

    def loss(self, batch: Any) -> Any:
        return torch.nn.functional.mse_loss(self(batch[0])[:, 0], batch[1].float())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def forward(self, x: Any) -> Any:
        return super().forward(x)[:, :1]


def test_without_classes_the_worst_class_is_not_known(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="The accuracy of the worst class is not known: The targets of 5 of"):
        rows = compare(tmp_path, make_module=Regresses, methods=("random",), ratios=(0.5,), seeds=(1,))
    assert [math.isnan(row["worst_class"]) for row in rows] == [True, True]


def test_a_balanced_comparison_keeps_each_class_in_proportion(tmp_path: Path) -> None:
    rows = compare(tmp_path, class_balanced=True, ratios=(0.5,), seeds=(1,))
    target, kept = Data().points.y, {}
    for method in ("random", "easy", "hard", "stratified"):
        runs = ComparedRuns(make_compression(tmp_path), tmp_path / "results", "val_loss", "validate", 0.0, "")
        kept[method] = runs._selection(method, 0.5, 1).kept
    kept["stepwise"] = make_compression(tmp_path).kept_at(0.5)
    assert {row["num_kept"] for row in rows[1:]} == {26}
    for method, indices in kept.items():
        for label in range(4):
            own = int((target == label).sum())
            assert abs(int((target[indices] == label).sum()) - own * 26 / 53) < (3 if method == "stepwise" else 1)
    with pytest.raises(ValueError, match="holds what came of class_balanced=True, but `class_balanced` is None now"):
        compare(tmp_path, ratios=(0.5,), seeds=(1,))


@pytest.mark.multiprocess
@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_strategy_that_trains_in_processes_of_its_own_gives_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a fit ends, its processes end, and what their Trainer and datamodule knew is gone."""
    monkeypatch.setenv("MASTER_PORT", "")  # which Lightning sets
    monkeypatch.delenv("MASTER_PORT")

    def made(folder: Path, **options: Any) -> list[dict[str, Any]]:
        def make_trainer(max_steps: int = -1) -> Trainer:
            return trainer(max_steps=max_steps, max_epochs=2 if max_steps < 0 else -1, **options)

        given = {"make_trainer": make_trainer, "make_module": lambda: Wide(4), "methods": ("random",), "ratios": (0.5,)}
        data = EasinessDataModule(loader(batch_size=53), val_dataloaders=loader(Points(20, seed=5), shuffle=False))
        return compare(folder, datamodule=data, seeds=(1,), equal="updates", **given)

    here, elsewhere = made(tmp_path / "here"), made(tmp_path / "elsewhere", strategy="ddp_fork")
    assert [(row["num_kept"], row["updates"]) for row in elsewhere] == [(53, 2), (26, 2)]
    for name in ("mean", "worst_class"):
        assert [row[name] for row in elsewhere] == pytest.approx([row[name] for row in here], abs=1e-6)


def test_the_table_and_the_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = compare(tmp_path, methods=("random",), seeds=(1,), metric="test_loss", evaluate="test")
    with open(tmp_path / "comparison-epochs-test_loss.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in table] == [row["mean"] for row in rows]
    assert [row["spread"] for row in table] == ["", "", ""], "of one seed"
    figure = draw_comparison(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    assert figure.axes[0].get_ylabel() == "test loss"


def test_runs_for_the_table_are_not_observed(tmp_path: Path) -> None:
    def observed() -> Trainer:
        return trainer(callbacks=[EasinessCallback(tmp_path / "own", run="same")])

    compare(tmp_path, make_trainer=observed, methods=("random", "easy"), ratios=(0.5,), seeds=(1,))
    assert not (tmp_path / "own").exists()
    assert [path.name for path in (tmp_path / "stepwise").iterdir() if path.is_dir()] == ["step-1"]


@pytest.mark.parametrize("name", ["recipe.json", "results/validate-epochs/everything-0.0/seed-1.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    compare(tmp_path, methods=("random",), ratios=(0.5,), seeds=(1,))
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=rf"^'{re.escape(str(tmp_path / name))}' is damaged \(.*\): delete it if '.*'"):
        compare(tmp_path, methods=("random",), ratios=(0.5,), seeds=(1,))


def test_a_ratio_below_a_step_and_more_ratios_later(tmp_path: Path) -> None:
    first = compare(tmp_path, methods=("stepwise",), ratios=(0.05,), seeds=(1,))[1:]
    both = compare(tmp_path, methods=("stepwise",), ratios=(0.15, 0.05), seeds=(1,))[1:]
    assert both[:1] == [{**first[0], "spread": both[0]["spread"]}]
    assert [row["num_kept"] for row in both] == [53 - 3, 53 - 8]


def test_equal_numbers_of_updates(tmp_path: Path) -> None:
    def make_trainer(max_steps: int = -1) -> Trainer:
        return trainer(max_steps=max_steps, max_epochs=2 if max_steps < 0 else -1)

    rows = compare(tmp_path, make_trainer=make_trainer, methods=("random",), ratios=(0.5,), equal="updates")
    assert [row["updates"] for row in rows] == [14, 14]
    with pytest.raises(ValueError, match="for max_steps=14 made 8 updates; let it return"):
        compare(
            tmp_path / "limited",
            make_trainer=lambda max_steps=-1: trainer(max_steps=max_steps),
            ratios=(0.5,),
            equal="updates",
        )


@pytest.mark.parametrize(
    ("make", "evaluate"),
    [(loader, "validate"), (TrainOnly, "validate"), (Base, "test")],
    ids=["a loader", "a datamodule", "no test"],
)
def test_a_comparison_without_anything_to_evaluate_on_trains_nothing(make: Any, evaluate: str, tmp_path: Path) -> None:
    hook = {"validate": "val_dataloader", "test": "test_dataloader"}[evaluate]
    message = (
        f"compare_selections evaluates each run with evaluate={evaluate!r}, but the `datamodule` has no {hook}(); give"
        " a LightningDataModule that has one, or EasinessDataModule(loader, val_dataloaders=...)."
    )
    with pytest.raises(ValueError, match=whole(message)):
        compare(tmp_path / "new", make_trainer=never, make_module=never, datamodule=make(), evaluate=evaluate)
    assert not (tmp_path / "new").exists()


def test_a_metric_that_is_not_logged(tmp_path: Path) -> None:
    message = (
        "The `metric` of compare_selections must be one that the module logs in validate; got 'val_acc', but there are:"
        " 'val_loss'."
    )
    with pytest.raises(ValueError, match=whole(message)):
        compare(tmp_path, metric="val_acc", seeds=(1,))
