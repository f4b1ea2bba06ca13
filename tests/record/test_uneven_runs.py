"""Runs that did not see the same examples, or were not observed at the same steps; and parts of a trajectory."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import SCORES, Scores
from tests.made_runs import NUM_EXAMPLES, append, expected, load_and_catch, make_fields, whole, write_run

NAN = math.nan
LONG, SHORT = (10, 20, 30, 40, 50), (5, 10, 15, 20)  # steps; 10 and 20 are shared
AT_OTHER_STEPS = (
    "The runs were observed at different steps: area_under_margin uses all checkpoints of each run, 4 to 5, "
    "also those that other runs lack; for the same steps in each run, load matching runs with runs=[...]."
)
FEWER = "{} of {} examples were seen in fewer than all {} runs: their {} is the mean over those runs."
UNKNOWN = "{} of {} examples have no {} (NaN in some run): they are in neither easiest() nor hardest()."


def write_margins(folder: Path, seed: int, margins: list[list[float]], counts: list[list[int]] | None = None) -> None:
    """A run with a checkpoint per row; the loss is the margin with its sign changed."""
    series = "train-probe" if counts is None else "train-online"
    with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
        for epoch, row in enumerate(margins):
            margin = torch.tensor(row)
            fields = {"loss": -margin, "margin": margin, "correct": margin > 0}
            if counts is not None:
                fields["count"] = torch.tensor(counts[epoch], dtype=torch.int32)
            append(writer, 10 * (epoch + 1), series=series, epoch=epoch, target=None, fields=fields)
        writer.complete()


def score_and_catch(record: EasinessRecord, name: str, **options: int) -> tuple[Scores, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = record.score(name, **options)
    assert all(warning.filename == __file__ for warning in caught)
    return scores, [str(warning.message) for warning in caught]


def mean_margin(seed: int, steps: tuple[int, ...]) -> Tensor:
    """Area under the margin of a run that `write_run` wrote, an example at a time."""
    rows = [make_fields(1000 * seed + step)["margin"].tolist() for step in steps]
    return torch.tensor([fmean(course) for course in zip(*rows, strict=True)])


# ------------------------------------------------------------------ runs that did not see the same examples


@pytest.fixture
def bagged(tmp_path: Path) -> EasinessRecord:
    """Five runs of two epochs, each on 32 of 40 examples, and none of them on the last."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        seen = torch.zeros(40, dtype=torch.bool).index_fill(0, torch.randperm(39, generator=generator)[:32], True)
        margins = torch.randn(2, 40, generator=generator).masked_fill(~seen, NAN)
        write_margins(tmp_path, seed, margins.tolist(), [seen.int().tolist()] * 2)
    return EasinessRecord.load(tmp_path)


def test_ties_among_examples_with_gaps_are_broken_by_the_loss_that_is_known(bagged: EasinessRecord) -> None:
    tie_breaker = score_and_catch(bagged, "correctness")[0].tie_breaker
    torch.testing.assert_close(tie_breaker, score_and_catch(bagged, "mean_loss")[0].values, equal_nan=True)


def test_a_score_that_is_no_mean_over_runs_decides_about_gaps_itself(
    bagged: EasinessRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = replace(SCORES["mean_loss"], name="worst", function=lambda loss: loss.amax(0), mean_over_runs=False)
    monkeypatch.setitem(SCORES, "worst", worst)
    for name in ("worst", "count"):
        scores, caught = score_and_catch(bagged, name)
        assert torch.equal(scores.values.isnan(), (bagged.field("count", -1) == 0).any(0))
        assert len(caught) == 1


DIVERGED = pytest.mark.filterwarnings("ignore:Run 'seed-.' seems to have diverged")


@DIVERGED
@pytest.mark.parametrize("name", ["area_under_margin", "correctness", "mean_loss"])
def test_a_nan_of_an_example_that_was_seen_is_not_hidden_by_other_runs(tmp_path: Path, name: str) -> None:
    # the last was seen by this run alone, and came out as NaN
    write_margins(tmp_path, 0, [[1.0, 2.0, 1.0, NAN]] * 2, [[1, 1, 1, 1]] * 2)
    # the first example was seen and came out as NaN; the third was seen in one epoch alone, and came out as NaN, too
    write_margins(tmp_path, 1, [[NAN] * 4] * 2, [[1, 0, 0, 0], [1, 0, 1, 0]])
    scores, caught = score_and_catch(EasinessRecord.load(tmp_path), name)
    assert scores.values.isnan().tolist() == [True, False, True, True]
    assert scores.spread.isnan().all()
    assert caught == [FEWER.format(1, 4, 2, name), UNKNOWN.format(3, 4, name)]


def test_a_nan_that_a_score_makes_of_what_was_seen_is_not_hidden_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = replace(SCORES["area_under_margin"], name="odd", function=lambda margin: (2 - margin.nanmean(0)).sqrt())
    monkeypatch.setitem(SCORES, "odd", odd)
    write_margins(tmp_path, 0, [[1.0, 3.0, NAN]], [[1, 1, 0]])
    write_margins(tmp_path, 1, [[1.0, 1.0, 1.0]], [[1, 1, 1]])
    assert score_and_catch(EasinessRecord.load(tmp_path), "odd")[0].values.isnan().tolist() == [False, True, False]


@DIVERGED
@pytest.mark.parametrize("online", [False, True])
def test_a_nan_at_some_checkpoints_of_what_was_seen_is_warned_of(tmp_path: Path, online: bool) -> None:
    counts = [[1, 1, 1], [1, 1, 0]] if online else None
    write_margins(tmp_path, 0, [[1.0, 2.0, 3.0], [NAN, 4.0, NAN]], counts)
    write_margins(tmp_path, 1, [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], [[1, 1, 1]] * 2 if online else None)
    scores, caught = score_and_catch(EasinessRecord.load(tmp_path), "area_under_margin")
    assert scores.values.tolist() == [1.5, 3.0, 3.5]
    message = (
        f"{1 if online else 2} of 3 examples of run 'seed-0' have a NaN at some of its 2 checkpoints: "
        "their area_under_margin is computed from the others."
    )
    assert caught == [message]


def test_a_probe_sees_everything_so_its_nan_stays(tmp_path: Path) -> None:
    write_margins(tmp_path, 0, [[1.0, 2.0]])
    write_margins(tmp_path, 1, [[NAN, 2.0]])
    for name in ("area_under_margin", "margin", "mean_loss"):
        scores, caught = score_and_catch(EasinessRecord.load(tmp_path), name)
        assert scores.values.isnan().tolist() == [True, False]
        assert caught == [UNKNOWN.format(1, 2, name)]


# ------------------------------------------------------------------ runs that were not observed at the same steps


@pytest.fixture
def uneven(tmp_path: Path) -> EasinessRecord:
    write_run(tmp_path / "runs", 0, steps=LONG)
    write_run(tmp_path / "runs", 1, steps=SHORT)
    record, caught = load_and_catch(tmp_path / "runs")
    assert caught == ["Left out: checkpoints that some runs lack: steps 5, 15, 30, 40, 50."]
    return record


@pytest.mark.parametrize(
    ("part", "of_the_first", "of_the_second", "lengths"),
    [
        ({}, LONG, SHORT, "4 to 5"),
        ({"checkpoint": 0}, (10,), (5, 10), "1 to 2"),
        ({"first": 1}, (20, 30, 40, 50), (20,), "1 to 4"),
    ],
)
def test_a_trajectory_is_that_of_the_run_itself_and_its_parts_end_at_the_same_steps(
    uneven: EasinessRecord, part: dict, of_the_first: tuple, of_the_second: tuple, lengths: str
) -> None:
    scores, caught = score_and_catch(uneven, "area_under_margin", **part)
    alone = torch.stack([mean_margin(0, of_the_first), mean_margin(1, of_the_second)])
    torch.testing.assert_close(scores.values, alone.mean(0))
    torch.testing.assert_close(scores.spread, alone.std(0))
    assert caught == [AT_OTHER_STEPS.replace("4 to 5", lengths)]


def test_what_needs_common_steps_keeps_to_them(uneven: EasinessRecord) -> None:
    assert uneven.steps.tolist() == [10, 20]
    assert torch.equal(uneven.margin, expected("margin", (0, 1), (10, 20)))
    scores, caught = score_and_catch(uneven, "margin")
    torch.testing.assert_close(scores.values, expected("margin", (0, 1), (20,)).mean((0, 1)))
    assert not caught


def test_a_part_that_the_runs_share_is_not_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(10, 20, 30))
    write_run(tmp_path, 1, steps=(10, 20, 30, 40))
    record, _ = load_and_catch(tmp_path)
    assert not score_and_catch(record, "area_under_margin", checkpoint=1)[1]
    assert score_and_catch(record, "area_under_margin")[1]


def test_agreement_of_trajectories_takes_those_of_the_runs_themselves(uneven: EasinessRecord) -> None:
    with pytest.warns(UserWarning, match=whole(AT_OTHER_STEPS)) as caught:
        agreement = uneven.agreement("area_under_margin", factor=())
    assert caught[0].filename == __file__
    ranks = [mean_margin(0, LONG).argsort().argsort(), mean_margin(1, SHORT).argsort().argsort()]
    assert agreement.half_agreement == pytest.approx(float(torch.corrcoef(torch.stack(ranks).double())[0, 1]), abs=1e-6)


@pytest.mark.filterwarnings("ignore:Left out:UserWarning")
def test_runs_keep_their_checkpoints_when_they_are_selected_saved_and_merged(
    uneven: EasinessRecord, tmp_path: Path
) -> None:
    one = uneven.select_runs(["seed-0"])
    assert one.steps.tolist() == [10, 20]
    torch.testing.assert_close(score_and_catch(one, "area_under_margin")[0].values, mean_margin(0, LONG))
    uneven.save(tmp_path / "copy")
    assert EasinessRecord.load(tmp_path / "copy", runs="seed-0").steps.tolist() == list(LONG)
    for record in (EasinessRecord.load(tmp_path / "copy"), EasinessRecord.merge(one, uneven.select_runs([1]))):
        assert record.steps.tolist() == [10, 20]
        assert torch.equal(record.margin, uneven.margin)
        assert torch.equal(*(score_and_catch(each, "area_under_margin")[0].values for each in (record, uneven)))


def test_checkpoints_that_lack_a_field_are_no_part_of_its_trajectory(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(10, 20), complete=False)
    write_run(tmp_path, 0, steps=(30,), fields={"loss": torch.rand(NUM_EXAMPLES)})
    write_run(tmp_path, 1, steps=(10, 20))
    scores, caught = score_and_catch(load_and_catch(tmp_path)[0], "area_under_margin")
    torch.testing.assert_close(scores.values, (mean_margin(0, (10, 20)) + mean_margin(1, (10, 20))) / 2)
    assert not caught


# ------------------------------------------------------------------ parts of a trajectory


@pytest.fixture
def even(tmp_path: Path) -> EasinessRecord:
    for seed in (0, 1):
        write_run(tmp_path, seed, steps=LONG)
    return EasinessRecord.load(tmp_path)


@pytest.mark.parametrize("last", [0, 1, 4, -1, -3])
@pytest.mark.parametrize("first", [0, 1, 2, 4, -1, -2, -5])
def test_a_part_of_a_trajectory_is_what_plain_loops_make_of_it(even: EasinessRecord, first: int, last: int) -> None:
    begin, end = range(5)[first], range(5)[last]
    if begin > end:
        with pytest.raises(ValueError, match=r"^A trajectory must not begin after its end"):
            even.score("area_under_margin", last, first=first)
        return
    scores = even.score("area_under_margin", last, first=first)
    alone = torch.stack([mean_margin(seed, LONG[begin : end + 1]) for seed in (0, 1)])
    torch.testing.assert_close(scores.values, alone.mean(0))
    torch.testing.assert_close(scores.spread, alone.std(0))
    assert scores.step == LONG[end]


def test_agreement_of_a_part_of_a_trajectory(even: EasinessRecord) -> None:
    of_the_last = even.agreement("area_under_margin", factor=(), first=-1)
    assert of_the_last == replace(even.agreement("margin", factor=()), name="area_under_margin")
    assert of_the_last != even.agreement("area_under_margin", factor=())


def test_where_a_trajectory_must_not_begin(even: EasinessRecord) -> None:
    message = "`first` must be an index of the record's 5 checkpoints, 0 to 4, or -5 to -1 from the end; got 5."
    with pytest.raises(IndexError, match=whole(message)):
        even.score("area_under_margin", first=5)
    after_its_end = (
        "A trajectory must not begin after its end; got `first` 3 and `checkpoint` 1, counted from 0: "
        "give an earlier `first`."
    )
    for ask in (even.score, even.agreement):
        with pytest.raises(ValueError, match=whole(after_its_end)):
            ask("area_under_margin", 1, first=-2)
    no_trajectory = (
        "`first` is where a trajectory begins, but score 'mean_loss' uses one checkpoint; got 2: "
        "give that one as `checkpoint`."
    )
    with pytest.raises(ValueError, match=whole(no_trajectory)):
        even.score("mean_loss", first=2)


def test_an_example_that_was_not_seen_has_no_nan_in_a_run(tmp_path: Path) -> None:
    write_margins(tmp_path, 0, [[1.0, NAN], [1.0, 2.0]], [[1, 0], [1, 1]])
    record = EasinessRecord.load(tmp_path)
    for checkpoint, name, why in ((0, "margin", "not seen at this checkpoint"), (0, "area_under_margin", "never seen")):
        scores, caught = score_and_catch(record, name, checkpoint=checkpoint)
        assert scores.values.isnan().tolist() == [False, True]
        assert caught == [UNKNOWN.replace("NaN in some run", why).format(1, 2, name)]
