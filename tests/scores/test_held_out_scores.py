"""Scores of runs that held out a part: over the runs that trained on an example, over the others, and compared."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, register_score
from lightning_easiness.data.observation import TrainedOn
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import SCORES, ScoreDefinition
from tests.functional import references as reference
from tests.made_runs import NUM_EXAMPLES, STEPS, make_fields, whole, write_run

SEEDS = range(5)
NAN = math.nan
LACKING = [r"ignore:\d+ of 37 examples have no \w+:UserWarning", "ignore:.* seen in fewer than all:UserWarning"]
COMPARED = ("memorization", "generalization_gap")
HELD_OUT = ("held_out_loss", "held_out_correct", *COMPARED)


def masks() -> Tensor:
    """Which examples each run trained on, (R, N): example 0 in all runs, 1 in none, the others in some."""
    trained = torch.rand(len(SEEDS), NUM_EXAMPLES, generator=torch.Generator().manual_seed(9)) < 0.6
    trained[:, 0], trained[:, 1] = True, False
    return trained


def write(folder: Path, series: str = "train-probe", held_out: bool = True) -> EasinessRecord:
    for seed, trained in zip(SEEDS, masks(), strict=True):
        write_run(folder, seed, series=series)
        with RunWriter(folder, f"seed-{seed}", seed=seed, resume=True) as writer:
            writer.replace_trained_on(TrainedOn(240, trained, ~trained & held_out))
            writer.complete()
    return EasinessRecord.load(folder, series)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> EasinessRecord:
    return write(tmp_path_factory.mktemp("runs"))


def counted(rows: list[list[float]], counts: list[list[bool]], example: int) -> list[float]:
    return [float(row[example]) for row, does in zip(rows, counts, strict=True) if does[example]]


def rows_of(field: str, step: int = STEPS[-1]) -> list[list[float]]:
    return [make_fields(1000 * seed + step)[field].tolist() for seed in SEEDS]


# ------------------------------------------------------------------ each score against plain Python


@pytest.mark.filterwarnings(*LACKING)
@pytest.mark.parametrize(
    ("name", "field", "which"),
    [
        ("mean_loss", "loss", True),
        ("margin", "margin", True),
        ("el2n", "el2n", True),
        ("held_out_loss", "loss", False),
        ("held_out_correct", "correct", False),
    ],
)
@pytest.mark.parametrize("checkpoint", [0, -1])
def test_a_mean_is_over_the_runs_that_count(
    record: EasinessRecord, name: str, field: str, which: bool, checkpoint: int
) -> None:
    counts = (masks() == which).tolist()
    alone = [counted(rows_of(field, STEPS[checkpoint]), counts, example) for example in range(NUM_EXAMPLES)]
    scores = record.score(name, checkpoint)
    torch.testing.assert_close(scores.values, torch.tensor([fmean(v) if v else NAN for v in alone]), equal_nan=True)
    spread = torch.tensor([stdev(values) if len(values) > 1 else NAN for values in alone])
    torch.testing.assert_close(scores.spread, spread, equal_nan=True)


@pytest.mark.filterwarnings(*LACKING)
def test_a_trajectory_is_of_the_runs_that_trained(record: EasinessRecord) -> None:
    margins = [torch.tensor(rows_of("margin", step)) for step in STEPS]
    alone = torch.stack(margins).mean(0).tolist()
    values = [counted(alone, masks().tolist(), example) for example in range(NUM_EXAMPLES)]
    expected = torch.tensor([fmean(v) if v else NAN for v in values])
    torch.testing.assert_close(record.score("area_under_margin").values, expected, equal_nan=True)


@pytest.mark.filterwarnings(*LACKING)
def test_weights_of_checkpoints_go_by_the_examples_trained_on(record: EasinessRecord) -> None:
    values = []
    for seed, trained in zip(SEEDS, masks(), strict=True):
        fields = [make_fields(1000 * seed + step) for step in STEPS]
        accuracy = [fmean(field["correct"][trained].float().tolist()) for field in fields]
        weights = torch.tensor([(place + 1) * (a * (1 - a)) ** 2 for place, a in enumerate(accuracy)])
        rows = torch.stack([field["margin"] for field in fields])
        values.append(((rows * weights[:, None]).sum(0) / weights.sum()).tolist())
    counts = masks().tolist()
    alone = [counted(values, counts, example) for example in range(NUM_EXAMPLES)]
    expected = torch.tensor([fmean(v) if v else NAN for v in alone])
    torch.testing.assert_close(record.score("weighted_area_under_margin").values, expected, equal_nan=True)


@pytest.mark.filterwarnings(*LACKING)
def test_count_is_the_fraction_of_the_runs_that_trained_over_its_maximum(record: EasinessRecord) -> None:
    alone = [counted(rows_of("correct"), masks().tolist(), example) for example in range(NUM_EXAMPLES)]
    fractions = [fmean(values) if values else NAN for values in alone]
    most = max(value for value in fractions if not math.isnan(value))
    expected = torch.tensor([value / most for value in fractions])
    torch.testing.assert_close(record.score("count").values, expected, equal_nan=True)


@pytest.mark.filterwarnings(*LACKING)
@pytest.mark.parametrize(
    ("name", "field", "sign"), [("memorization", "correct", 1), ("generalization_gap", "loss", -1)]
)
def test_a_comparison_and_its_standard_error(record: EasinessRecord, name: str, field: str, sign: int) -> None:
    rows, trained = rows_of(field), masks().tolist()
    scores = record.score(name)
    expected = sign * torch.tensor(reference.memorization(rows, trained))
    torch.testing.assert_close(scores.values, expected, equal_nan=True)
    error = torch.tensor(reference.difference_error(rows, trained))
    torch.testing.assert_close(scores.spread, error, equal_nan=True)
    assert scores.values[:2].isnan().all(), "trained on by all, and by none"


@pytest.mark.filterwarnings(*LACKING)
def test_ties_are_broken_by_the_loss_of_the_runs_that_count(record: EasinessRecord) -> None:
    for name, which in (("count", True), ("memorization", True), ("held_out_correct", False)):
        alone = [counted(rows_of("loss"), (masks() == which).tolist(), example) for example in range(NUM_EXAMPLES)]
        expected = torch.tensor([fmean(values) if values else NAN for values in alone])
        torch.testing.assert_close(record.score(name).tie_breaker, expected, equal_nan=True)


@pytest.mark.filterwarnings(*LACKING)
def test_a_score_of_the_users_own_sees_the_runs_that_trained(
    record: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_easiness.scores.definition.SCORES", SCORES)
    definition = ScoreDefinition(
        "best_margin", lambda margin: margin.nan_to_num(-9).amax(0), ("margin",), "checkpoint", True
    )
    register_score(definition)
    try:
        values = record.score("best_margin").values
    finally:
        del SCORES["best_margin"]
    alone = [counted(rows_of("margin"), masks().tolist(), example) for example in range(NUM_EXAMPLES)]
    torch.testing.assert_close(values, torch.tensor([max(v) if v else -9.0 for v in alone]))


@pytest.mark.filterwarnings(*LACKING)
@pytest.mark.parametrize("name", HELD_OUT)
def test_a_definition_has_a_text_and_its_range_and_direction_hold(record: EasinessRecord, name: str) -> None:
    definition = SCORES[name]
    assert definition.doc.endswith(".")
    assert definition.paper
    values = record.score(name).values
    known = values[~values.isnan()]
    assert ((known >= definition.range[0]) & (known <= definition.range[1])).all()
    assert definition.higher_is_easier == (name == "held_out_correct")


# ------------------------------------------------------------------ what is warned of and refused


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mean_loss", "trained on by none"),
        ("held_out_loss", "held out by none"),
        ("memorization", "trained on by all or none"),
    ],
)
def test_examples_without_a_score_are_counted(record: EasinessRecord, name: str, why: str) -> None:
    by_all, by_none = int(masks().all(0).sum()), int((~masks()).all(0).sum())
    number = {"mean_loss": by_none, "held_out_loss": by_all, "memorization": by_all + by_none}[name]
    message = f"{number} of 37 examples have no {name} ({why}): they are in neither"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}") as caught:
        record.score(name)
    assert len(caught) == 1, "no word of runs that did not see an example, as none should"


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_record_whose_runs_held_out_nothing(tmp_path: Path, name: str) -> None:
    message = (
        f"Score '{name}' needs runs that held out a part of the examples, and these runs did not: train them with"
        " repeat_fit(..., hold_out=0.2)."
    )
    with pytest.raises(ValueError, match=whole(message)):
        write(tmp_path, held_out=False).score(name)
    write_run(tmp_path / "old", 0)
    old = EasinessRecord.load(tmp_path / "old")
    with pytest.raises(ValueError, match=whole(message)):
        old.score(name)
    with pytest.raises(ValueError, match=whole(message.replace(f"Score '{name}'", "held_out_probabilities()"))):
        old.held_out_probabilities()


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_series_that_does_not_see_what_is_held_out(tmp_path: Path, name: str) -> None:
    message = (
        f"Score '{name}' needs what runs predict for examples that they held out, which training does not see: load"
        " series 'train-probe' in place of 'train-online'."
    )
    with pytest.raises(ValueError, match=whole(message)):
        write(tmp_path, "train-online").score(name)


def test_a_series_of_other_examples(tmp_path: Path) -> None:
    record = write(tmp_path, "val-probe")
    with pytest.raises(ValueError, match=r"these runs did not: load series 'train-probe'\.$"):
        record.score("memorization")
    assert not record.held_out.any()


def test_scores_of_runs_that_did_not_hold_out_are_over_all_of_them(tmp_path: Path) -> None:
    values = write(tmp_path, held_out=False).score("mean_loss").values
    torch.testing.assert_close(values, torch.tensor(rows_of("loss")).mean(0))


# ------------------------------------------------------------------ agreement


@pytest.mark.parametrize("name", ["mean_loss", "held_out_loss", "count"])
def test_agreement_goes_by_the_runs_that_count(record: EasinessRecord, name: str) -> None:
    agreement = record.agreement(name)
    assert -1 < agreement.half_agreement < 1
    assert agreement.num_runs == 5


@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_has_no_agreement_but_a_standard_error(record: EasinessRecord, name: str) -> None:
    message = (
        f"agreement() compares groups of runs that each have a score, but {name} is a difference between runs: see its"
        f" standard error, score('{name}').spread."
    )
    with pytest.raises(ValueError, match=whole(message)):
        record.agreement(name)


def test_folds_give_no_agreement_of_what_is_held_out(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_run(tmp_path, seed, held_out=torch.arange(NUM_EXAMPLES) % 5 == seed)
    record = EasinessRecord.load(tmp_path)
    message = (
        "agreement() of held_out_loss needs examples that count in two runs at least, and each counts in one: hold out"
        " a share in place of folds, or more runs."
    )
    with pytest.raises(ValueError, match=whole(message)):
        record.agreement("held_out_loss")
    assert not math.isnan(record.agreement().half_agreement)
    assert record.score("memorization").spread.isnan().all(), "of one run there is no standard error"
