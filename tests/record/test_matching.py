"""Matching rates of records: against counting by hand, and their standard errors against many repetitions."""

from __future__ import annotations

import math
import re
import statistics
import warnings
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, matching_curves, matching_with_end
from lightning_easiness.record.matching import Matched, Side
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_CLASSES, append, make_target, whole

N, FRACTION, COUNT = 60, 0.2, 12
SEEDS = (0, 1, 2)
MOMENTS = ((0, 0), (10, 0), (15, 1), (20, 1))  # steps and epochs: two observations in each epoch


def loss_of(model: int, seed: int, moment: int, size: int = N) -> Tensor:
    """What all models share, and noise of the model, and of the seed, which gets less."""
    streams = (0, 100 + model, 10_000 * (model + 1) + 10 * seed + moment)
    draws = [torch.rand(size, generator=torch.Generator().manual_seed(stream)) for stream in streams]
    return draws[0] + 0.3 * draws[1] + draws[2] / (1 + moment)


def write(
    folder: Path, model: int, seed: int, moments: tuple[tuple[int, int], ...], size: int = N, **changes: Any
) -> None:
    with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
        for place, (step, epoch) in enumerate(moments):
            loss: Any = changes.get("loss", loss_of(model, seed, place, size))
            made = {"target": make_target(len(loss)), **changes, "fields": {"loss": loss, "correct": loss < 0.5}}
            append(writer, step, epoch=epoch, **{key: value for key, value in made.items() if key != "loss"})
        writer.complete()


def record_of(
    folder: Path,
    model: int,
    moments: tuple[tuple[int, int], ...] = MOMENTS,
    seeds: tuple[int, ...] = SEEDS,
    size: int = N,
    **changes: Any,
) -> EasinessRecord:
    for seed in seeds:
        write(folder / f"model-{model}", model, seed, moments, size, **changes)
    return EasinessRecord.load(folder / f"model-{model}")


@pytest.fixture
def records(tmp_path: Path) -> dict[str, EasinessRecord]:
    return {name: record_of(tmp_path, model) for model, name in enumerate(("wide", "deep", "plain"))}


# ------------------------------------------------------------------------------------------------ the slow reference


def ends_by_hand(losses: list[Tensor]) -> dict[str, set[int]]:
    mean = [statistics.fmean(float(loss[example]) for loss in losses) for example in range(N)]
    order = sorted(range(N), key=mean.__getitem__)
    return {"easy": set(order[:COUNT]), "hard": set(order[-COUNT:])}


def rate_by_hand(a: list[Tensor], b: list[Tensor], which: str) -> float:
    one, two = (ends_by_hand(side)[which] for side in (a, b))
    return len(one & two) / max(len(one), len(two))


def matched(one: EasinessRecord, two: EasinessRecord, fraction: float = 0.1) -> Matched:
    """The hard examples at the end of each."""
    return Side(one, -1, "mean_loss", fraction).match(Side(two, -1, "mean_loss", fraction, draw=1), "hard")


def class_chance_by_hand(a: list[Tensor], b: list[Tensor], which: str) -> float:
    """What 2000 draws share that hold as many of each class; there are twelve of each of the five."""
    random, total = Random(0), 0
    one, two = (ends_by_hand(side)[which] for side in (a, b))
    for label in range(NUM_CLASSES):
        members = [example for example in range(N) if example % NUM_CLASSES == label]
        sizes = [len(side & {*members}) for side in (one, two)]
        draws = [len({*random.sample(members, sizes[0])} & {*random.sample(members, sizes[1])}) for _ in range(2000)]
        total += statistics.fmean(draws)
    return total / COUNT


def losses_of(model: int, moment: int) -> list[Tensor]:
    return [loss_of(model, seed, moment) for seed in SEEDS]


# ---------------------------------------------------------------------------------------------------- rates and errors


@pytest.mark.parametrize("which", ["easy", "hard"])
def test_curves_hold_the_rates_and_errors_that_counting_gives(records: dict[str, EasinessRecord], which: str) -> None:
    found = matching_curves(records, fraction=FRACTION, halves=False).curves(which)
    assert list(found) == ["wide, deep", "wide, plain", "deep, plain"]
    for (one, two), points in zip(combinations(range(3), 2), found.values(), strict=True):
        assert [(point.epoch, point.step) for point in points] == [(0, 0), (1, 10), (2, 20)], "the last of each epoch"
        for point, moment in zip(points, (0, 1, 3), strict=True):
            a, b = losses_of(one, moment), losses_of(two, moment)
            assert point.matched.rate == pytest.approx(rate_by_hand(a, b, which))
            assert point.matched.chance == pytest.approx(COUNT / N)
            assert point.matched.class_chance == pytest.approx(class_chance_by_hand(a, b, which), abs=0.01)
            assert point.num_runs == (3, 3)


def test_halves_of_the_runs_are_those_of_every_split(records: dict[str, EasinessRecord]) -> None:
    found = matching_curves({"wide": records["wide"]}, fraction=FRACTION).curves("hard")
    assert list(found) == ["wide, other seeds"]
    losses = losses_of(0, 3)  # three runs, of which each split leaves out one
    wanted = statistics.fmean(rate_by_hand([a], [b], "hard") for a, b in combinations(losses, 2))
    last = found["wide, other seeds"][-1]
    assert last.matched.rate == pytest.approx(wanted, abs=0.1), "20 random splits of the three"
    assert math.isnan(last.matched.error)


@pytest.mark.parametrize("which", ["easy", "hard"])
def test_the_beginning_and_the_end_are_of_the_same_runs(records: dict[str, EasinessRecord], which: str) -> None:
    found = matching_with_end(records["wide"], fraction=FRACTION, align="step").curves(which)["its end"]
    assert [point.step for point in found] == [0, 10, 15]
    assert {point.step_second for point in found} == {20}
    for moment, point in enumerate(found):
        assert point.matched.rate == pytest.approx(rate_by_hand(losses_of(0, moment), losses_of(0, 3), which))
    assert list(matching_with_end(records).curves(which)) == [f"{name}, its end" for name in records]


@pytest.mark.parametrize("num_runs", [2, 5])
def test_the_standard_error_is_the_spread_over_other_seeds(num_runs: int, tmp_path: Path) -> None:
    """Train anew many times: the errors are about the standard deviation of the rates."""
    size, repeats = 1000, 25
    every = [record_of(tmp_path, model, ((10, 0),), tuple(range(num_runs * repeats)), size) for model in (0, 1)]
    parts = [range(first, first + num_runs) for first in range(0, num_runs * repeats, num_runs)]
    found = [matched(*(record.select_runs(part) for record in every)) for part in parts]
    spread = statistics.stdev(each.rate for each in found)
    error = math.sqrt(statistics.fmean(each.error**2 for each in found))
    assert 0.7 * spread < error < 1.4 * spread  # the spread of 25 is known within 14 %


def test_what_the_same_runs_share_at_two_moments_is_not_in_the_error(tmp_path: Path) -> None:
    """Two moments with the same losses match exactly, whatever the seeds; two models with their own seeds do not."""
    moments = ((10, 0), (20, 1))
    for seed in SEEDS:
        write(tmp_path / "model-0", 0, seed, moments, loss=loss_of(0, seed, 0))
    record = EasinessRecord.load(tmp_path / "model-0")
    points = matching_with_end(record).points
    assert [(point.matched.rate, point.matched.error) for point in points] == [(1, 0), (1, 0)]
    assert matched(record, record_of(tmp_path, 1, moments)).error > 0


def test_sets_of_the_same_classes_share_more_by_chance(tmp_path: Path) -> None:
    """Where one class is easy for both and all else is noise, the rate is that chance, and far above the other."""
    target, size = torch.arange(20_000) % 5, 20_000
    easy = torch.where(target == 0, 0.0, 10.0)
    noise = [torch.rand(size, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    sides = [record_of(tmp_path, model, ((10, 0),), loss=easy + noise[model], target=target) for model in (0, 1)]
    found = Side(sides[0]).match(Side(sides[1], draw=1), "easy")
    assert (found.chance, found.class_chance) == (pytest.approx(0.1), pytest.approx(0.5))
    assert found.rate == pytest.approx(0.5, abs=0.02)
    unknown = [record_of(tmp_path / "unknown", model, ((10, 0),), target=None) for model in (0, 1)]
    assert math.isnan(matched(*unknown).class_chance)


def test_a_single_run_has_no_error(tmp_path: Path) -> None:
    one, two = (record_of(tmp_path, model, seeds=(0,)) for model in (0, 1))
    curves = matching_curves({"a": one, "b": two}, fraction=FRACTION)
    assert list(curves.curves("easy")) == ["a, b"], "a single run has no halves"
    assert all(math.isnan(point.matched.error) for point in curves.points)
    assert "±" not in str(curves)


def test_equal_losses_match_by_chance_and_not_by_their_order(tmp_path: Path) -> None:
    equal = torch.zeros(N)
    sides = {str(model): record_of(tmp_path, model, ((10, 0),), loss=equal) for model in (0, 1)}
    found = matching_curves(sides, fraction=FRACTION).curves("easy")["0, 1"][0].matched
    assert (found.rate, found.error) == (pytest.approx(FRACTION), pytest.approx(0, abs=1e-6))
    assert found.tied == (1, 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_loss_is_in_no_set_and_chance_is_that_of_the_smaller_set(tmp_path: Path) -> None:
    unknown = loss_of(0, 0, 0).masked_fill(torch.arange(N) >= 6, math.nan)
    sides = (record_of(tmp_path, 0, ((10, 0),), loss=unknown), record_of(tmp_path, 1, ((10, 0),)))
    found = matched(*sides, FRACTION)
    assert found.chance == pytest.approx(6 / N)
    assert found.rate <= 6 / COUNT
    record = record_of(tmp_path, 2, ((10, 0),), loss=torch.full((N,), math.nan))
    message = "A matching rate needs examples with a mean_loss; at step 10 none has one."
    with pytest.raises(ValueError, match=whole(message)):
        matched(record, sides[1])


# ------------------------------------------------------------------------------------------------------------- moments


def test_epochs_of_other_lengths_are_compared_at_their_ends(tmp_path: Path) -> None:
    """A batch twice as large makes half as many steps."""
    one = record_of(tmp_path, 0, ((0, 0), (10, 0), (20, 1), (40, 3)))
    two = record_of(tmp_path, 1, ((5, 0), (10, 1), (20, 3)))
    with pytest.warns(
        UserWarning, match=whole("matching_curves leaves out each epoch that only some of the records have: 0.")
    ):
        points = matching_curves({"a": one, "b": two}, halves=False).curves("easy")["a, b"]
    assert [(point.epoch, point.step, point.step_second) for point in points] == [(1, 10, 5), (2, 20, 10), (4, 40, 20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        by_step = matching_curves({"a": one, "b": two}, align="step", halves=False)
    assert [(point.step, point.step_second) for point in by_step.curves("easy")["a, b"]] == [(10, 10), (20, 20)]


def test_the_start_is_not_compared_with_the_end_of_the_first_epoch(tmp_path: Path) -> None:
    one, two = record_of(tmp_path, 0, ((0, 0),)), record_of(tmp_path, 1, ((10, 0), (20, 1)))
    message = (
        "The `records` of matching_curves share no epoch ('a' has 0; 'b' has 1, 2): observe them at the same epochs."
    )
    with pytest.raises(ValueError, match=whole(message)):
        matching_curves({"a": one, "b": two})


# -------------------------------------------------------------------------------------------------------- wrong input


def test_records_of_other_data_are_refused(records: dict[str, EasinessRecord], tmp_path: Path) -> None:
    other = record_of(tmp_path, 5, target=make_target(N).flip(0))
    with pytest.raises(
        ValueError, match="The record 'wide' and 'other' are not of the same data: example 0 has target"
    ):
        matching_curves({"wide": records["wide"], "other": other})


def test_a_run_is_not_compared_with_itself(records: dict[str, EasinessRecord]) -> None:
    wide = records["wide"]
    with pytest.raises(ValueError, match=r"The record 'a' and 'b' both hold the run '.*seed-1', which matches itself"):
        matching_curves({"a": wide.select_runs([0, 1]), "b": wide.select_runs([1, 2])})


def test_nothing_to_compare_is_said(records: dict[str, EasinessRecord]) -> None:
    with pytest.raises(ValueError, match="leave nothing to compare: give two records, or one of several runs"):
        matching_curves({"wide": records["wide"].select_runs([0])})
    with pytest.raises(ValueError, match=whole("The `records` of matching_curves are empty; give records by name.")):
        matching_curves({})
    with pytest.raises(
        ValueError, match=whole("The `align` of matching_curves must be 'epoch' or 'step'; got 'time'.")
    ):
        matching_curves(records, align="time")


def test_the_end_needs_something_before_it(tmp_path: Path) -> None:
    record = record_of(tmp_path, 0, ((10, 0), (20, 0)))
    with pytest.raises(ValueError, match="matching_with_end needs a record with at least 2 checkpoints"):
        matching_with_end(record)


# ------------------------------------------------------------------------------------------------------------- tables


def test_the_table_has_a_row_for_each_point_and_the_text_a_column_for_each_pair(
    records: dict[str, EasinessRecord], tmp_path: Path
) -> None:
    curves = matching_curves(records, fraction=FRACTION)
    table = curves.to_pandas()
    assert len(table) == len(curves.points) == 2 * 6 * 3
    one = table.loc["wide"].query("second == 'deep' and which == 'hard' and epoch == 2").iloc[0]
    point = curves.curves("hard")["wide, deep"][-1]
    assert (one.matching_rate, one.standard_error, one.step) == (point.matched.rate, point.matched.error, 20)
    curves.to_csv(tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text().count("\n") == 37
    easy, hard = str(curves).split("\n\n")
    title, head, *rows = easy.splitlines()
    assert title == "Matching rate of the easiest 20 %; 0.20 by chance"
    assert re.split("  +", head)[:3] == ["epoch", "wide, other seeds", "wide, deep"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert f"{point.matched.rate:.2f} ± {point.matched.error:.2f}" in hard.splitlines()[-1]
    assert curves._repr_html_().count("<table") == 2
