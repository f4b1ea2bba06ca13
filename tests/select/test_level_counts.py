"""Counts of levels that a SET run hands over to L-SET: however they are given, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessCallback, EasinessRecord, LevelCounts, SampleEasinessTraining
from lightning_easiness.functional import easiness_level
from tests.made_runs import write_run
from tests.resuming import Stop
from tests.selecting import IndexedPoints
from tests.set_fits import SIGMA2, Weighs, easiness_at, fit, level_of, logits_at, loss_loop, seeded, training

SIZE, EPOCHS = 53, 5
COUNTS = {epoch: (10 + epoch, 5 * epoch, SIZE - 10 - 6 * epoch) for epoch in range(2, EPOCHS)}
NAMES = ("hard", "medium", "easy")


@pytest.fixture(scope="module")
def of_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleEasinessTraining, Path, list[Any]]:
    """A SET run, the folder of its record, and its weights before each epoch."""
    folder, rule = tmp_path_factory.mktemp("set"), training()
    callback = EasinessCallback(folder, every_n_epochs=1, sigma2=SIGMA2)
    return rule, folder, fit(rule, seeded(), [callback]).states


def test_counts_are_those_of_a_loop_over_the_weights_before_each_epoch(of_set: Any) -> None:
    rule, _, states = of_set
    for epoch in (2, 3, 4):
        found = [level_of(value) for value in easiness_at(states[epoch])]
        assert rule.recorded_counts.at(epoch) == tuple(found.count(name) for name in NAMES)
    assert sorted(rule.recorded_counts.epochs) == [2, 3, 4]


def test_another_model_trains_on_as_many_by_its_own_loss(of_set: Any) -> None:
    """Hardest first, as many are skipped as SET called hard, and as many taken as it called medium."""
    rule, before = of_set[0], fit(training(by="loss", level_counts=of_set[0]), seeded(seed=8))
    for epoch in (2, 3, 4):
        losses = loss_loop(logits_at(before.states[epoch]), IndexedPoints().y)
        hardest_first = sorted(range(SIZE), key=lambda i: -losses[i])
        hard, medium, _ = rule.recorded_counts.at(epoch)
        assert before.selected[epoch] == sorted(hardest_first[hard : hard + medium])
    own = fit(training(by="loss"), seeded(seed=8))
    assert [len(kept) for kept in own.selected] != [len(kept) for kept in before.selected]


def test_however_they_are_given(of_set: Any, tmp_path: Path) -> None:
    rule, folder, _ = of_set
    counts = rule.recorded_counts
    counts.to_csv(tmp_path / "counts.csv")
    record = EasinessRecord.load(folder)
    for given in (rule, counts, tmp_path / "counts.csv", str(tmp_path / "counts.csv"), record, folder, str(folder)):
        taken = SampleEasinessTraining(by="loss", level_counts=given).level_counts
        assert taken is not None
        assert all(taken.at(epoch) == counts.at(epoch) for epoch in (2, 3, 4))
    assert (tmp_path / "counts.csv").read_text().splitlines()[0] == "epoch,hard,medium,easy"
    assert LevelCounts.of(LevelCounts(COUNTS)) == LevelCounts(COUNTS) != counts


def test_counts_of_a_fit_that_was_resumed_are_those_of_one_that_never_stopped(of_set: Any, tmp_path: Path) -> None:
    stop, rule = Stop(tmp_path / "a.ckpt", 3, 0), training()
    with pytest.raises(InterruptedError):
        fit(training(), seeded(), [stop])
    fit(rule, seeded(seed=1), ckpt_path=stop.path)
    for epoch in (2, 3):
        assert rule.recorded_counts.at(epoch) == of_set[0].recorded_counts.at(epoch)
    assert sorted(rule.recorded_counts.epochs) == [2, 3, 4]


def test_a_second_fit_begins_to_count_anew() -> None:
    rule = training()
    fit(rule, seeded(), max_epochs=5)
    fit(rule, seeded(), max_epochs=3)
    assert sorted(rule.recorded_counts.epochs) == [2]


def test_what_is_unknown_counts_as_medium_and_batches_are_not_counted() -> None:
    counts = LevelCounts()
    counts.note(3, torch.tensor([0, -1, 2, 1, 1]))
    assert counts.epochs == {3: (1, 3, 1)}
    rule = training(per="batch", early_epochs=1)
    fit(rule, seeded(Weighs), max_epochs=2)
    assert rule.recorded_counts == LevelCounts()


def test_a_checkpoint_of_the_start_is_of_the_first_epoch(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, at_steps=(0,), every_n_epochs=1, sigma2=SIGMA2)
    rule = training(early_epochs=0)
    fit(rule, seeded(), [callback], max_epochs=2)
    record = EasinessRecord.load(tmp_path)
    counts = LevelCounts.of_record(record)
    assert {epoch: counts.at(epoch) for epoch in (0, 1)} == rule.recorded_counts.epochs
    level = easiness_level(
        record.field("sample_easiness", 0)[0].float(),
        weakest_comparison=record.field("weakest_comparison", 0)[0].float(),
    )
    assert counts.at(0) == tuple(int((level == number).sum()) for number in range(3))


# ----------------------------------------------------------------------------------------------- records of other runs

OTHER_RUNS = {
    "a run without SampleEasinessTraining": None,
    r"passes beside SampleEasinessTraining\(online=True\)": {"online": True},
    r"passes beside SampleEasinessTraining\(rescore_every_n_epochs=2\)": {"rescore_every_n_epochs": 2},
    r"passes beside SampleEasinessTraining\(by='loss'\)": {"by": "loss"},
    "tol=0.0005 where SET had tol=0.01": {"tol": 0.01},
}


@pytest.mark.parametrize("counted", list(OTHER_RUNS))
def test_a_record_of_another_run_is_warned_of(counted: str, tmp_path: Path) -> None:
    options = OTHER_RUNS[counted]
    rule = None if options is None else training(early_epochs=1, **options)
    fit(rule, seeded(), [EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2)], max_epochs=2)
    with pytest.warns(UserWarning, match=f"^The counts of levels are of {counted}, not of what SET called hard and"):
        training(by="loss", level_counts=tmp_path)


def test_a_record_is_counted_by_the_tolerance_of_the_selection(tmp_path: Path) -> None:
    rule = training(early_epochs=1, tol=0.1)
    fit(rule, seeded(), [EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2)], max_epochs=3)
    taken = training(by="loss", tol=0.1, level_counts=tmp_path).level_counts
    assert taken is not None
    assert {epoch: taken.at(epoch) for epoch in (1, 2)} == rule.recorded_counts.epochs
    with pytest.warns(UserWarning, match="tol=0.0005 where SET had tol=0.1"):
        assert LevelCounts.of(tmp_path).at(2) != taken.at(2)


def test_of_two_classes_easiness_alone_is_enough(tmp_path: Path) -> None:
    easiness = torch.tensor([0.0, 0.3, 0.6, 1.0, 1.0, 1.0])
    fields = {"loss": 1 - easiness, "correct": easiness > 0.5, "sample_easiness": easiness}
    write_run(tmp_path, 0, steps=(10,), fields=fields, target=torch.arange(6) % 2, num_classes=2)
    with pytest.warns(UserWarning, match="are of a run whose recipe is not known, not"):
        assert LevelCounts.of(tmp_path).at(1) == (1, 2, 3)


# ------------------------------------------------------------------------------------------------------ bad input

UNUSABLE = "The `level_counts` of SampleEasinessTraining are for by='loss' and per='epoch'; got"


@pytest.mark.parametrize("options", [{}, {"by": "loss", "per": "batch"}])
def test_counts_that_would_not_be_used_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=UNUSABLE):
        SampleEasinessTraining(level_counts=LevelCounts(COUNTS), **options)


def test_other_epochs_and_another_size_are_refused_before_training() -> None:
    module, rule = seeded(), training(by="loss", level_counts=LevelCounts(COUNTS))
    with pytest.raises(ValueError, match=r"^The counts of levels are of epochs 2 to 4, not of epoch 5; give those of"):
        fit(rule, module, max_epochs=6)
    assert not module.batches
    fewer = training(by="loss", level_counts=LevelCounts({2: (1, 2, 3)}))
    with pytest.raises(ValueError, match="are of 6 examples, but there are 53: give those of a SET run on the same"):
        fit(fewer, module, max_epochs=3)
    later = training(by="loss", level_counts=LevelCounts({2: COUNTS[2], 3: (1, 2, 3)}))
    with pytest.raises(ValueError, match="are of 6 examples, but there are 53"):
        fit(later, module, max_epochs=4)
    assert not module.batches, "no step was made, not even of the early epochs"


def test_sources_that_hold_no_counts(of_set: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^The `level_counts` must be LevelCounts, .*; got int.$"):
        LevelCounts.of(3)
    with pytest.raises(ValueError, match=r"^The `level_counts` hold no epoch: run SampleEasinessTraining"):
        LevelCounts.of(training())
    with pytest.raises(ValueError, match="must not be negative"):
        LevelCounts({1: (-1, 2, 3)})
    (tmp_path / "a.csv").write_text("epoch,hard\n1,2\n")
    with pytest.raises(ValueError, match="must have the columns epoch, hard, medium, easy of whole numbers"):
        LevelCounts.of(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError):
        LevelCounts.of("nowhere.csv")
    for seed in (3, 4):
        callback = EasinessCallback(tmp_path / "runs", every_n_epochs=1, sigma2=SIGMA2)
        fit(training(early_epochs=1), seeded(seed=seed), [callback], max_epochs=2)
    two = EasinessRecord.load(tmp_path / "runs")
    with pytest.raises(ValueError, match=r"^The record has 2 runs, whose counts differ; write LevelCounts.of_record"):
        LevelCounts.of(two)
    first, second = (LevelCounts.of_record(two, run=run) for run in (0, 1))
    assert first.at(1) != second.at(1)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"epoch,hard,medium,easy\n1,2,\xe9,3\n", b"\0", b"epoch\n1,2,3,4,5\n"]
)
def test_bytes_that_are_no_counts_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counts.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 'counts.csv'}' must have the columns"):
        LevelCounts.from_csv(tmp_path / "counts.csv")
