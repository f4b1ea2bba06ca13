"""train_less.py: its answers follow from the trainings, work is counted, and it runs from archives to its findings."""

from __future__ import annotations

import csv
import math
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessDataModule, Keep
from tests.examples import archives
from tests.examples.conftest import RunScript

import train_less  # isort: skip
from less import answers, kept, markdown, pruned, runs, table, work  # isort: skip
from less.ways import CLASSIC, HALF, WAYS, Way  # isort: skip

ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------------------------------------------- the answers

CURVE = {3: 80.0, 6: 84.0, 12: 86.0, 24: 87.0}


def found(work_done: float, accuracy: float, spread: float = 0.1) -> list[dict[str, Any]]:
    return [
        {"work": work_done, "accuracy": accuracy + by, "worst_class": accuracy - 20, "course": []}
        for by in (-spread, 0.0, spread)
    ]  # fmt: skip


def rows_with(accuracy: float, twin: float, seconds: float = 1.0) -> list[table.Row]:
    made = {(CLASSIC, epochs): found(epochs, value) for epochs, value in CURVE.items()}
    made |= {("rule", 12): found(6.0, accuracy), (HALF, 12): found(6.0, twin)}
    ways = {CLASSIC: WAYS[CLASSIC], HALF: Way(lambda given: None), "rule": Way(lambda given: None, HALF)}
    pairs = [{"wall": 1.0, "cpu": seconds}, {"wall": 3.0, "cpu": seconds}, {"wall": 0.9, "cpu": 9.0}]
    return table.rows_of("made-up", "clean", made, ways, {"rule": pairs, HALF: pairs})


@pytest.mark.parametrize(
    ("accuracy", "twin", "saving", "verdict"),
    [
        (86.0, 84.0, 0.5, "agrees"),  # as good as twice the work, its twin as its own
        (86.0, 85.9, 0.5, "differs"),  # the twin saves as much
        (84.1, 83.0, 0.03, "differs"),
        (85.5, 84.0, 0.41, "cannot tell"),  # a standard error less is no longer 40 %
        (88.0, 84.0, 0.75, "agrees"),  # above all of classic training: at least so much
        (79.0, 79.0, -1.0, "differs"),  # below all of it: at most so much
    ],
)
def test_the_saving_is_over_the_work_that_classic_training_needs(accuracy, twin, saving, verdict) -> None:
    rows = rows_with(accuracy, twin)
    rule = next(row for row in rows if row["way"] == "rule")
    assert rule["saving"] == pytest.approx(saving, abs=0.01)
    assert rule["classic"] == pytest.approx(84.0)
    assert answers.saves("made-up", rows, "saving", "work").startswith(f"{verdict}: ")


def test_seconds_count_beside_work() -> None:
    rows = rows_with(86.0, 84.0, seconds=1.5)
    rule = next(row for row in rows if row["way"] == "rule")
    assert rule["cpu_ratio"] == pytest.approx(1.5)
    assert rule["wall_ratio"] == pytest.approx(1.0)
    assert rule["cpu_saving"] == pytest.approx(1 - 0.5 * 1.5)
    assert answers.saves("made-up", rows, "cpu_saving", "CPU seconds").startswith("differs: ")


@pytest.mark.parametrize(("accuracy", "is_never"), [(84.5, True), (83.95, True), (83.0, False)])
def test_below_classic_training_of_equal_work_means_beyond_the_margin(accuracy: float, is_never: bool) -> None:
    line = answers.never_below("made-up", rows_with(accuracy, 84.0))
    assert line.startswith("agrees: " if is_never else "differs: ")
    assert ("rule in 1 of 1" in line) is not is_never


@pytest.mark.parametrize(("rule", "verdict"), [(79.0, "agrees"), (75.0, "differs"), (77.1, "cannot tell")])
def test_under_wrong_labels_a_rule_is_held_against_stopping_early(rule, verdict, monkeypatch) -> None:
    monkeypatch.setitem(WAYS, "rule", Way(lambda given: None, HALF))
    course = [{"work": 1.0, "held": 50.0, "accuracy": 74.0}, {"work": 2.0, "held": 40.0, "accuracy": 66.0}]
    made = {(CLASSIC, 6): found(6, 73.0), (CLASSIC, 24): [run | {"course": course} for run in found(24, 66.0)]}
    line = answers.under_wrong_labels("made-up", made | {("rule", 24): found(15, rule)})
    assert line.startswith(f"{verdict}: ")
    assert "stopping that by held-out examples, 74.0" in line
    line = answers.under_wrong_labels("made-up", made | {("rule", 24): found(15, rule), (CLASSIC, 8): found(8, 90.0)})
    assert line.startswith("differs: ")
    assert "only 8 epochs of it, 90.0" in line
    assert "earlier training" not in line
    monkeypatch.setitem(WAYS, "after", Way(lambda given: None, HALF, scored=True))
    line = answers.under_wrong_labels("made-up", made | {("rule", 24): found(15, rule), ("after", 8): found(9, 77.0)})
    assert "after an earlier training, after of 8 epochs is +3.0" in line


@pytest.mark.parametrize(
    ("by", "verdict", "above", "below"), [(0.5, "agrees", 1, 0), (0.1, "cannot tell", 0, 0), (-0.5, "differs", 0, 1)]
)
def test_a_rule_beats_its_control_beyond_the_margin(by: float, verdict: str, above: int, below: int) -> None:
    (line,) = answers.beats_control(rows_with(84.0 + by, 84.0))
    assert line.startswith(f"{verdict}: rule is above its control for sure")
    assert line.endswith(f"made-up, clean labels, above in {above} of 1 and below in {below} ({by:+.2f} points)")


def test_beyond_the_best_of_classic_training_the_saving_is_over_its_best_budget() -> None:
    curve = table.Curve([4.0, 8.0, 16.0], [table.Mean(value, 0.1) for value in (80.0, 84.0, 70.0)])
    assert curve.needed(85.0) == 8.0
    assert curve.saving(4.0, 85.0) == 0.5


def test_what_needs_an_earlier_training_saves_nothing() -> None:
    rows = [row | {"scored": row["way"] == "rule"} for row in rows_with(86.0, 84.0)]
    assert answers.saves("made-up", rows, "saving", "work").startswith("cannot tell: ")


def test_the_spread_is_pooled_over_the_budgets_of_a_way() -> None:
    made = {("a", 1): found(1, 80.0, spread=0.1), ("a", 2): found(1, 81.0, spread=0.3), ("b", 1): found(1, 70.0)[:1]}
    pooled = pytest.approx(((0.1**2 + 0.3**2) / 2) ** 0.5)
    assert table.deviation_of(made, way="a").value == pooled
    assert table.accuracy_of(made["b", 1], made, "b").error == pooled  # of the others, as it has no two seeds
    made["b", 2] = found(1, 70.0, spread=2.0)
    assert table.deviation_of(made, way="a").value == pooled
    assert table.deviation_of(made, way="b").value == pytest.approx(2.0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 8, 30])
def test_margins_are_by_students_distribution(freedom: int) -> None:
    exact = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 8: 2.306, 30: 2.042}[freedom]
    assert table.Mean(1.0, 0.5, freedom).margin == pytest.approx(0.5 * exact, rel=0.01)


def test_the_difference_of_two_means_has_the_freedom_of_welch() -> None:
    difference = table.Mean(3.0, 0.3, 4).minus(table.Mean(1.0, 0.4, 8))
    assert difference.error == pytest.approx(0.5)
    assert difference.freedom == pytest.approx(0.5**4 / (0.3**4 / 4 + 0.4**4 / 8))
    assert (difference.sign, table.Mean(0.5, 0.5, 4).sign, table.Mean(-3.0, 0.5, 4).sign) == (1, 0, -1)
    assert math.isnan(table.UNKNOWN.minus(difference).margin)


def test_a_way_of_fewer_seeds_is_held_against_classic_training_of_the_same_seeds() -> None:
    made = {(CLASSIC, epochs): found(epochs, value) for epochs, value in CURVE.items()}
    made |= {("rule", 12): found(6.0, 84.0)[:1], (HALF, 12): found(6.0, 84.0)}  # the first seed is 0.1 below the others
    ways = {CLASSIC: WAYS[CLASSIC], HALF: Way(lambda given: None), "rule": Way(lambda given: None, HALF)}
    rule = next(row for row in table.rows_of("made-up", "clean", made, ways, {}) if row["way"] == "rule")
    assert rule["above_classic"] == pytest.approx(0)
    assert rule["twin_accuracy"] == pytest.approx(83.9)


def test_a_single_seed_decides_nothing() -> None:
    made = {(CLASSIC, epochs): found(epochs, value)[:1] for epochs, value in CURVE.items()} | {
        (HALF, 12): found(6, 70.0)[:1]
    }
    rows = table.rows_of("made-up", "clean", made, {CLASSIC: WAYS[CLASSIC], HALF: Way(lambda given: None)}, {})
    assert not any(answers.is_below(row) for row in rows)
    assert all(math.isnan(row["error"]) and math.isnan(row["saving_low"]) for row in rows)
    assert answers.saves("made-up", [rows[0] | {"twin": HALF, "saving": 0.5}], "saving", "work").startswith("cannot")


# ------------------------------------------------------------------------------------------------------ what is counted


class Small(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 2)
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        with torch.no_grad():
            self.model(batch[0][:1])
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 9.0)


def test_work_is_what_was_trained_on_and_a_third_of_what_was_looked_at() -> None:
    data = TensorDataset(torch.randn(20, 3), torch.arange(20) % 2)
    module = Small()
    meter = work.WorkMeter(work.plan_of(4, 12, 4, share=1.0), 20, peak=0.5)
    trainer = Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False,
                      enable_progress_bar=False, enable_model_summary=False, callbacks=[meter])  # fmt: skip
    trainer.fit(module, datamodule=EasinessDataModule(DataLoader(data, 4, shuffle=True), Keep(range(12))))
    assert (meter.trained, meter.steps, meter.looked_at) == (48, 12, 12)
    assert meter.work == pytest.approx((48 + 12 / 3) / 20)
    wanted = [0.5 * work.one_cycle((step + 0.5) / 12) for step in range(12)]
    assert module.rates == pytest.approx(wanted)


@pytest.mark.parametrize(("size", "trained"), [(8, 8), (11, 8), (3, 3)])
def test_a_last_batch_that_is_not_whole_is_left_out(size: int, trained: int) -> None:
    form = {"image_size": 8, "batch_size": 4, "size": size}
    data = train_less.training("fashion-mnist, clean", train_less.FASHION | form, 0.0).made_up(size)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == trained
    assert work.plan_of(3, size, 4, share=1.0).batches_from(2, -(-trained // 4)) == -(-trained // 4)


def test_the_plan_takes_the_length_of_later_epochs_from_this_one() -> None:
    plan = work.Plan(epochs=6, edge=1, whole=10, share=0.5)
    assert plan.batches_from(0, 10) == 10 + 4 * 5 + 10
    assert plan.batches_from(2, 7) == 7 + 2 * 7 + 10
    assert plan.batches_from(5, 10) == 10
    assert work.Plan(3, 1, 10, known=(2, 5, 10)).batches_from(1, 5) == 15


def test_wrong_labels_are_of_another_class_and_as_many_as_asked_for() -> None:
    target = torch.arange(200) % 10
    wrong = runs.made_wrong(target, 0.4, 10)
    assert int((wrong != target).sum()) == 80
    assert torch.equal(wrong, runs.made_wrong(target, 0.4, 10))
    assert torch.equal(runs.made_wrong(target, 0.0, 10), target)
    assert {int(label) for label in wrong} <= set(range(10))


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    training = runs.LessTraining("cnn-small", "fashion-mnist", "count", 1, size=12, held=4, image_size=8, wrong=0.5)
    pictures = runs.Pictures(
        torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 8, 8), torch.arange(20) % 10,
        torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), [str(label) for label in range(10)],
    )  # fmt: skip
    data = training.data_of(pictures)
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(12))
    assert data.held.images[:, 0, 0, 0].tolist() == list(range(12, 16))
    assert (
        int((data.train.targets != torch.arange(12) % 10).sum())
        + int((data.held.targets != torch.arange(12, 16) % 10).sum())
        == 8
    )
    assert data.test.targets.tolist() == [0, 1]


@pytest.mark.parametrize("setting", train_less.SETTINGS)
def test_a_dry_run_has_examples_to_train_on(setting: str) -> None:
    for training in train_less.trainings(SimpleNamespace(**train_less.SETTINGS[setting])).values():
        data = training.made_up(4)
        assert (len(data.train), len(data.held)) == (4, 4)


def test_labels_of_people_are_in_place_of_those_of_the_data_set(tmp_path: Path) -> None:
    archives.cifar_10_folders(tmp_path)
    small = {"size": 12, "held": 4, "image_size": 8}
    by_people = train_less.training("cifar-10n, wrong", train_less.CIFAR | small, 0.4)
    with pytest.raises(SystemExit, match="there are no labels of CIFAR-10N"):
        by_people.data_module(tmp_path)
    np.savez(tmp_path / "cifar10" / "cifar10n-labels.npz", worse=np.arange(20, dtype=np.uint8) % 7)
    data = by_people.data_module(tmp_path)
    own = train_less.training("cifar-10, wrong", train_less.CIFAR | small, 0.0).data_module(tmp_path)
    assert data.train.targets.tolist() == [index % 7 for index in range(12)]
    assert data.held.targets.tolist() == [index % 7 for index in range(12, 16)]
    assert torch.equal(data.train.images, own.train.images)
    assert torch.equal(data.test.targets, own.test.targets)


# ----------------------------------------------------------------------------------------------------------- the whole


@pytest.mark.filterwarnings("ignore:.*")  # twenty examples are few for all that is said of them
def test_it_runs_from_archives_to_its_findings_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_script: RunScript
) -> None:
    archives.fashion_mnist(tmp_path)
    archives.cifar_10_folders(tmp_path)
    form = {"network": "cnn-small", "width": 0.25, "size": 16, "held": 4, "batch_size": 8, "image_size": 8}
    parts = {
        f"{data}, {labels}": (form | {"data": data}, {"less": (3, 4), "classic": (2, 3)})
        for data in ("fashion-mnist", "cifar-10")
        for labels in ("clean", "wrong")
    }
    tiny = {"seeds": 2, "seeds_pruned": 1, "pairs": 1, "scores": 2, "held out": 1, "parts": parts}
    monkeypatch.setitem(train_less.SETTINGS, "small", train_less.SETTINGS["small"] | tiny)
    monkeypatch.setattr(pruned, "RATIOS", (0.5,))
    for name in list(WAYS)[3:]:
        monkeypatch.delitem(WAYS, name)
    first = run_script(train_less, tmp_path, "--accelerator", "cpu", "--only", "fashion-mnist")
    assert {row["data"] for row in first.rows} == {"fashion-mnist"}
    monkeypatch.setattr(kept, "train", None)
    again = run_script(train_less, tmp_path, "--accelerator", "cpu", "--minutes", "0")
    assert again.rows == first.rows
    assert again.printed == first.printed
    assert again.figure_bytes > 1000


def rows_in(name: str) -> list[table.Row]:
    with (ROOT / "examples" / "results" / name).open(newline="", encoding="utf-8") as file:
        return [{key: number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def number(text: str) -> Any:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text


def test_the_docs_show_the_results() -> None:
    docs = (ROOT / "docs" / "train-less.md").read_text(encoding="utf-8")
    for _, found in groupby(rows_in("train_less.csv"), key=lambda row: (row["data"], row["labels"])):
        assert markdown.compact(list(found)) in docs
    for _, found in groupby(rows_in("train_less_pruned.csv"), key=lambda row: row["data"]):
        assert markdown.pruning(list(found)) in docs


def test_each_rule_has_a_twin_that_is_trained() -> None:
    assert WAYS[CLASSIC].twin == ""
    assert {way.twin for way in WAYS.values()} - {""} <= set(WAYS)


def test_the_full_setting_is_of_whole_data_sets() -> None:
    made = train_less.trainings(SimpleNamespace(**train_less.SETTINGS["full"]))
    assert {(training.size, training.image_size, training.width) for training in made.values()} == {(None, None, 1.0)}
    assert {training.network for training in made.values()} == {"resnet-18", "resnet-9"}
    assert {training.wrong for name, training in made.items() if name.endswith("clean")} == {0.0}
    of_people = made.pop("cifar-10n, wrong")
    assert isinstance(of_people, runs.LabelledByPeople)
    assert of_people.wrong == 0.0  # beside those that people gave
    assert {training.wrong for name, training in made.items() if name.endswith("wrong")} == {0.4}
