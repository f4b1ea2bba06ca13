"""What the scripts share: arguments, trainings that continue, results and findings."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.examples import archives

import experiment  # isort: skip
import training  # isort: skip

SETTINGS = {"small": {"seeds": 2, "width": 0.05}, "full": {"seeds": 10, "width": 1.0}}


def trainings(setting: SimpleNamespace) -> dict[str, training.Training]:
    return {"mlp": training.Training("mlp", "fashion-mnist", "loss", 1, width=setting.width, image_size=7)}


def begin(*arguments: str) -> experiment.Experiment:
    return experiment.begin("About.", SETTINGS, trainings, arguments)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> experiment.Experiment:
    archives.fashion_mnist(tmp_path)
    monkeypatch.setattr(sys, "argv", ["count_made_up.py"])
    return begin("--data-root", str(tmp_path), "--output", str(tmp_path / "out"), "--accelerator", "cpu")


def test_a_dry_run_trains_a_batch_of_noise_at_full_size_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        begin("--dry-run", "--setting", "full", "--accelerator", "cpu")
    assert ended.value.code == 0
    parameters = 49 * 1000 + 1000 + 1000 * 1000 + 1000 + 10 * 1000 + 10
    assert f"mlp: mlp on fashion-mnist, {parameters:,} parameters: one batch" in capsys.readouterr().out


def test_without_a_data_root_it_says_so() -> None:
    with pytest.raises(SystemExit, match="give --data-root ROOT, the folder that holds the data sets"):
        begin()


def test_a_second_call_trains_nothing_and_more_seeds_only_those(
    small: experiment.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = small.repeat("mlp")
    assert (record.num_runs, record.num_examples) == (2, 20)
    made: list[Any] = []
    original = experiment.Experiment.trainer

    def counted(self: experiment.Experiment, *arguments: Any, **options: Any) -> Any:
        made.append(original(self, *arguments, **options))
        return made[-1]

    monkeypatch.setattr(experiment.Experiment, "trainer", counted)
    again = small.repeat("mlp")
    assert again.loss.equal(record.loss)
    assert sum(trainer.global_step for trainer in made) == 0
    assert small.repeat("mlp", seeds=range(3)).num_runs == 3
    assert sum(trainer.global_step for trainer in made) == 1  # one batch of 20 examples


def test_a_result_is_kept(small: experiment.Experiment) -> None:
    logged = small.once("seed-0", lambda: small.fit("mlp", 0))
    assert set(logged) >= {"test_accuracy", "test_loss"}
    assert small.once("seed-0", lambda: pytest.fail("it was kept")) == logged
    assert small.fit("mlp", 0) == logged  # the same seed, the same numbers


def test_a_result_of_another_setting_is_refused(small: experiment.Experiment) -> None:
    kept = small.once("seed-0", lambda: [1.0], sel={"weight": 0.1})
    more_seeds = replace(small, setting=SimpleNamespace(**{**vars(small.setting), "seeds": 5}))
    assert more_seeds.once("seed-0", lambda: pytest.fail("it was kept"), sel={"weight": 0.1}) == kept == [1.0]
    others = [
        replace(small, setting=SimpleNamespace(**vars(small.setting), early=2)),
        replace(small, trainings={"mlp": replace(small.trainings["mlp"], size=10)}),
        replace(small, trainings={"mlp": replace(small.trainings["mlp"], sel_weight=0.1)}),
        replace(small, root=small.output),
    ]
    for changed, weight in [*((other, 0.1) for other in others), (small, 0.2)]:
        with pytest.raises(
            SystemExit, match=r"seed-0\.json was kept of other settings, .*: delete it, or give another"
        ):
            changed.once("seed-0", lambda: pytest.fail("old numbers"), sel={"weight": weight})


@pytest.mark.parametrize("old", ["[1.0]", '{"test_accuracy": 0.5}'])
def test_a_result_that_does_not_say_of_which_setting_it_is_is_refused(small: experiment.Experiment, old: str) -> None:
    path = small.output / "kept" / small.name / "seed-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(old)
    with pytest.raises(SystemExit, match="or does not say of which"):
        small.once("seed-0", lambda: [1.0])


@pytest.mark.filterwarnings("ignore:.*keeps no example of class")
def test_selections_are_compared_on_the_test_examples(small: experiment.Experiment) -> None:
    rows = small.compare("mlp", [0.5], ["random", "hard"])
    assert [(row["method"], row["num_kept"]) for row in rows] == [("everything", 20), ("random", 10), ("hard", 10)]
    assert all(0 <= row["mean"] <= 1 for row in rows)


def size_of(made: experiment.Experiment) -> tuple[int, int]:
    with Image.open(made.output / f"{made.name}.png") as image:
        return image.size


def test_it_ends_with_a_table_a_figure_and_a_finding(
    small: experiment.Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"network": "mlp", "rate": 0.123456}, {"network": "wrn", "rate": 1.0}]
    small.finish(rows, lambda figure: figure.subplots().plot([1, 2]), "differs: by 0.1")
    assert capsys.readouterr().out == "differs: by 0.1\n"
    with (small.output / "count_made_up.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"network": "mlp", "rate": "0.1235"},
            {"network": "wrn", "rate": "1.0000"},
        ]
    assert size_of(small) == (700, 450)
    assert (small.output / "count_made_up.txt").read_text() == "differs: by 0.1\n"
    small.finish(rows, Image.new("RGB", (30, 20)), "agrees: to 0.1")
    assert size_of(small) == (30, 20)


@pytest.mark.parametrize("finding", ["it agrees", "agrees: one\nand two", "Agrees: so"])
def test_a_finding_is_one_line_that_begins_with_a_verdict(small: experiment.Experiment, finding: str) -> None:
    with pytest.raises(ValueError, match="A finding must be one line that begins with one of"):
        small.finish([{"a": 1}], Image.new("RGB", (3, 3)), finding)


@pytest.mark.parametrize(
    ("ours", "others", "expected"),
    [
        ([0.5, 0.6, 0.7], [0.1, 0.2, 0.3], 1),
        ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7], -1),
        ([0.5, 0.6, 0.7], [0.4, 0.6, 0.8], 0),
        ([0.5], [0.1], 0),
        ([0.5, 0.5], [0.5, 0.5], 0),
        ([1.0, 3.0], [0.0, 0.0], 0),  # 2 with a standard error of 1: just not
        ([1.0, 3.0], [-0.1, -0.1], 1),
    ],
)
def test_two_standard_errors_decide(ours: list[float], others: list[float], expected: int) -> None:
    assert experiment.decided(ours, others) == expected
