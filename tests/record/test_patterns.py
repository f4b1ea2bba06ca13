"""What is left of easy examples at each strength of a pattern, against plain Python, from one record."""

from __future__ import annotations

import math
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev, stdev

import pytest
import torch
from lightning.pytorch import seed_everything

from lightning_easiness import EasinessCallback, EasinessRecord, sweep_pattern
from lightning_easiness.functional import interpolate_grey, pattern_series
from lightning_easiness.record.ends import error_of_halves
from lightning_easiness.record.patterns import PatternRow
from tests.made_runs import write_run
from tests.small import Net, loader, trainer

N, FRACTION, COUNT, RUNS = 40, 0.25, 10, 4
STRENGTHS = {1.0: 0.0, 0.0: 2.0, 0.5: 0.3}  # and how much an altered image changes the loss
Loss = list[list[float]]


@pytest.fixture(scope="module")
def losses() -> dict[float | None, Loss]:
    """By strength, None for regular images: each example's loss in each run."""
    generator = torch.Generator().manual_seed(0)
    base, change = torch.rand(2, N, generator=generator)
    noise = 0.4 * torch.rand(RUNS, N, generator=generator)
    return {None: (base + noise).tolist()} | {s: (base + noise + by * change).tolist() for s, by in STRENGTHS.items()}


@pytest.fixture(scope="module")
def record(losses, tmp_path_factory) -> EasinessRecord:
    folder = tmp_path_factory.mktemp("patterns")
    for strength, rows in losses.items():
        series = "train-probe" if strength is None else f"train-probe-grey-{strength:g}"
        for run, row in enumerate(rows):
            fields = {"loss": torch.tensor(row), "correct": torch.tensor(row) < 0.8}
            write_run(folder, run, steps=(7,), num_examples=N, fields=fields, series=series, complete=False)
    return EasinessRecord.load(folder, "train-probe")


def set_of(rows: Loss, runs: list[int], which: str) -> set[int]:
    keys = [(-sum(rows[run][i] < 0.8 for run in runs), fmean(rows[run][i] for run in runs)) for i in range(N)]
    order = sorted(range(N), key=lambda i: keys[i])
    return set(order[:COUNT] if which == "easy" else order[-COUNT:])


@pytest.mark.parametrize("which", ["easy", "hard"])
def test_each_strength_has_the_rate_of_regular_and_altered_sets(record, losses, which) -> None:
    sweep = sweep_pattern(record, "grey", fraction=FRACTION, which=which)
    assert [row.strength for row in sweep.rows] == [0.0, 0.5, 1.0]
    everyone = list(range(RUNS))
    regular = set_of(losses[None], everyone, which)
    for row in sweep.rows:
        altered = losses[row.strength]
        assert row.matching_rate == pytest.approx(len(regular & set_of(altered, everyone, which)) / COUNT)
        right = [[loss < 0.8 for loss in run] for run in altered]
        assert row.accuracy == pytest.approx(fmean(run[i] for run in right for i in regular))
        assert row.accuracy_of_all == pytest.approx(fmean(ok for run in right for ok in run))
        assert row.chance == FRACTION
    assert sweep.rows[-1].matching_rate == 1, "the same images"
    assert sweep.rows[-1].error == 0
    assert sweep.rows[0].matching_rate < 1


def test_the_error_is_the_deviation_over_halves_of_the_runs(record, losses) -> None:
    (row, *_) = sweep_pattern(record, "grey", fraction=FRACTION, num_splits=200).rows
    rates = [
        len(set_of(losses[None], [a, b], "easy") & set_of(losses[0.0], [a, b], "easy")) / COUNT
        for a in range(RUNS)
        for b in range(a)
    ]
    assert row.error == pytest.approx(stdev(rates), rel=0.15), "of six halves, each drawn about 33 times"


@pytest.mark.parametrize("num_runs", [2, 3, 4, 5])
def test_the_error_of_a_mean_from_halves_is_the_error_of_the_mean(num_runs: int) -> None:
    values = [2.0, 3.5, 1.0, 7.0, 4.0][:num_runs]
    means = [fmean(half) for half in combinations(values, num_runs - num_runs // 2)]
    assert error_of_halves(means * 500, num_runs) == pytest.approx(stdev(values) / math.sqrt(num_runs), rel=1e-3)


def test_an_odd_number_of_runs_leaves_out_the_smaller_half(record, losses) -> None:
    (row, *_) = sweep_pattern(record.select_runs([0, 1, 2]), "grey", fraction=FRACTION, num_splits=200).rows
    pairs = [[0, 1], [0, 2], [1, 2]]
    rates = [len(set_of(losses[None], runs, "easy") & set_of(losses[0.0], runs, "easy")) / COUNT for runs in pairs]
    assert row.error == pytest.approx(math.sqrt(2) * pstdev(rates), rel=0.15)
    assert row.error > 0


def test_a_single_run_has_no_error(record) -> None:
    rows = sweep_pattern(record.select_runs([0]), "grey", fraction=FRACTION).rows
    assert all(row.error != row.error for row in rows)


def test_patterns_of_a_training_are_read_back(tmp_path: Path) -> None:
    patterns = pattern_series("shrunk", shrink, (0.5, 1, 0.25))
    seed_everything(0, verbose=False)
    trainer(callbacks=[EasinessCallback(tmp_path, patterns=patterns)], max_epochs=1).fit(Net(), loader())
    record = EasinessRecord.load(tmp_path, "train-probe")
    sweep = sweep_pattern(record, "shrunk", "mean_loss")
    assert [row.strength for row in sweep.rows] == [0.25, 0.5, 1.0]
    assert sweep.rows[-1].matching_rate == 1
    other = record.with_series("train-probe-shrunk-0.5").score("mean_loss")
    shared = set(other.easiest(0.1).tolist()) & set(record.score("mean_loss").easiest(0.1).tolist())
    assert sweep.rows[1].matching_rate == pytest.approx(len(shared) / 5)


def shrink(inputs: torch.Tensor, factor: float) -> torch.Tensor:
    return inputs * factor


def test_a_pattern_that_was_not_recorded_is_answered_by_those_that_were(record) -> None:
    with pytest.raises(ValueError, match=r"hold no series 'train-probe-gray-<strength>' \(did you mean 'grey'\?\)"):
        sweep_pattern(record, "gray")
    with pytest.raises(
        ValueError, match=r"they have no pattern at any strength: train with EasinessCallback\(patterns="
    ):
        sweep_pattern(record.with_series("train-probe-grey-0"), "grey")


def test_every_strength_is_read_back_however_it_is_written(tmp_path: Path) -> None:
    strengths = (-1, -0.5, 0, 1e-5, -2e-7, 1e20, 0.25)
    named = pattern_series("p", interpolate_grey, strengths)
    assert {"p--1", "p-1e-05", "p--2e-07", "p-1e+20"} <= set(named)
    for series in ("", *(f"-{name}" for name in named), "-other-0.5"):
        write_run(tmp_path, 0, steps=(7,), series=f"train-probe{series}", complete=False)
    record = EasinessRecord.load(tmp_path, "train-probe")
    assert [row.strength for row in sweep_pattern(record, "p", "mean_loss").rows] == sorted(strengths)
    assert [row.strength for row in sweep_pattern(record, "other", "mean_loss").rows] == [0.5]
    with pytest.raises(ValueError, match=r"hold no series 'train-probe-q-<strength>'.*; there is other, p: train with"):
        sweep_pattern(record, "q")


def test_names_and_strengths_of_a_pattern_series() -> None:
    made = pattern_series("grey", interpolate_grey, (0, 0.25, 1))
    assert list(made) == ["grey-0", "grey-0.25", "grey-1"]
    images = torch.rand(2, 3, 4, 4)
    assert isinstance(made["grey-0.25"], partial), "which can be pickled"
    torch.testing.assert_close(made["grey-0.25"](images), interpolate_grey(images, 0.25))
    for name, strengths, words in (
        ("a-b", (0,), "a name without a hyphen"),
        ("a", (1, 1.0), "each once"),
        ("a", (), "at"),
    ):
        with pytest.raises(ValueError, match=words):
            pattern_series(name, interpolate_grey, strengths)


def test_the_table_has_a_row_for_each_strength(record, tmp_path) -> None:
    sweep = sweep_pattern(record, "grey", fraction=FRACTION)
    sweep.to_csv(tmp_path / "sweep.csv")
    header, *rows = (tmp_path / "sweep.csv").read_text().splitlines()
    assert header == ",".join(PatternRow._fields)
    assert len(rows) == 3
    assert str(sweep).startswith("The easiest 25 % by count under grey (4 runs)")
    assert "<table" in sweep._repr_html_()
