"""What the report reads off a record: each column against a slow computation of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_easiness import EasinessRecord, Hardest, find_label_issues
from lightning_easiness.view.report import charts, columns
from tests.labels.test_find import WRONG, K, N
from tests.labels.test_find import write as write_labelled
from tests.made_runs import NUM_EXAMPLES, make_scores, write_run
from tests.record.test_held_out import write as write_held_out


@pytest.fixture
def record(tmp_path: Path) -> EasinessRecord:
    for seed in range(3):
        write_run(tmp_path, seed)
    return EasinessRecord.load(tmp_path)


def test_standing_counts_the_easier_and_half_of_the_equal_examples() -> None:
    values = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(0)).float()
    values[7] = torch.nan
    for higher in (True, False):
        found = columns.standing(values.numpy(), higher)
        for i, value in enumerate(values.tolist()):
            if i == 7:
                assert np.isnan(found[i])
                continue
            others = [v for j, v in enumerate(values.tolist()) if j not in (i, 7)]
            easier = sum((v > value) if higher else (v < value) for v in others)
            expected = (easier + 0.5 * sum(v == value for v in others)) / len(others)
            assert found[i] == pytest.approx(expected, abs=1e-6)


def test_the_hardness_of_a_run_is_that_of_its_own_loss(record: EasinessRecord) -> None:
    found = columns.hardness_by_run(record, "mean_loss", -1)
    assert found.shape == (3, NUM_EXAMPLES)
    for run in range(3):
        assert np.argmax(found[run]) == int(record.loss[run, -1].argmax())
        assert found[run].max() == 1
        assert found[run].min() == 0


def test_score_columns_are_those_of_the_table_of_scores(record: EasinessRecord) -> None:
    scores = record.score("mean_loss")
    table = scores.to_pandas()
    found = columns.score_columns(scores)
    assert found["rank"].tolist() == table["rank"].tolist()
    assert np.allclose(found["score"], table["score"])
    assert np.allclose(found["spread"], table["spread"])


def test_issue_columns_are_those_of_the_table_of_issues(tmp_path: Path) -> None:
    write_labelled(tmp_path, series="train-online")
    issues = find_label_issues(tmp_path, Hardest(8), probabilities=torch.rand(N, K).softmax(1))
    found = columns.issue_columns(issues)
    assert sorted(found["suspect"].nonzero()[0].tolist()) == WRONG
    for place, index in enumerate(issues.index.tolist()):
        assert found["suspicion"][index] == place + 1
        assert found["slow"][index] == bool(issues.is_slow[place])
        assert found["suggested"][index] == (int(issues.suggested[place]) if index in WRONG else -1)
    assert "posterior" not in found  # the rule gives none
    assert "suggested" not in columns.issue_columns(find_label_issues(tmp_path, Hardest(8)))


def test_one_checkpoint_has_no_data_map(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(10,))
    assert columns.dynamics_columns(EasinessRecord.load(tmp_path)) == {}


def test_kept_takes_indices_or_a_mask_and_refuses_what_is_neither(record: EasinessRecord) -> None:
    mask = torch.arange(NUM_EXAMPLES) % 2 == 0
    for kept in (mask, mask.nonzero()[:, 0]):
        assert columns.kept_columns(record, kept)["kept"].tolist() == mask.tolist()
    assert columns.kept_columns(record, None) == {}
    for wrong in (torch.tensor([NUM_EXAMPLES]), torch.tensor([-1]), torch.tensor([0.5]), mask[:-1]):
        with pytest.raises(ValueError, match="must be indices of this data set"):
            columns.kept_columns(record, wrong)


@pytest.mark.parametrize("higher", [True, False])
def test_a_histogram_counts_every_known_score_once(higher: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, generator=generator).exp().pow(4)
    values[:3] = torch.tensor([torch.nan, 0.0, torch.inf])
    scores = make_scores(values.tolist(), higher)
    chart = charts.histogram_chart(scores, columns.score_columns(scores))
    assert sum(chart["counts"]["all"]) == 498  # without NaN and infinity
    assert chart["log"] is not higher
    for end in ("easiest", "hardest"):
        assert sum(chart["counts"][end]) == pytest.approx(50, abs=1)
        assert all(part <= whole for part, whole in zip(chart["counts"][end], chart["counts"]["all"], strict=True))


def test_curves_are_quantiles_of_the_score_at_each_checkpoint(record: EasinessRecord) -> None:
    chart = charts.curves_chart(record, "mean_loss")
    assert chart is not None
    for place in range(3):
        values = record.loss[:, place].mean(0).double().numpy()
        assert [line[place] for line in chart["quantiles"]] == pytest.approx(
            np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)), rel=1e-5
        )
        assert chart["right"][place] == pytest.approx(float(record.correct[:, place].float().mean()))


def test_the_class_with_the_fewest_right_predictions_comes_first(record: EasinessRecord) -> None:
    found = {**columns.score_columns(record.score("mean_loss")), **columns.right_columns(record, -1)}
    rows = charts.class_rows(found, 3)
    right = [float(record.correct[:, -1, record.target == row["label"]].float().mean()) for row in rows]
    assert [row["right"] for row in rows] == pytest.approx(right)
    assert right == sorted(right)
    assert sum(row["size"] for row in rows) == NUM_EXAMPLES


def test_confusions_are_counted_among_the_suspects_alone() -> None:
    found = {
        "suspect": np.array([1, 1, 1, 0, 1], dtype=bool),
        "given": np.array([0, 0, 1, 0, 2]),
        "suggested": np.array([1, 1, 2, 1, -1]),
    }
    assert charts.confusions(found) == [
        {"given": 0, "suggested": 1, "count": 2},
        {"given": 1, "suggested": 2, "count": 1},
    ]


def test_disagreement_is_the_spread_of_what_the_runs_know() -> None:
    hardness = np.array([[0.1, 0.5, np.nan, np.nan], [0.3, 0.5, 0.2, np.nan], [0.8, 0.5, 0.4, 0.9]], dtype=np.float32)
    found = columns.seed_columns(hardness)
    assert found["mean_hardness"] == pytest.approx([0.4, 0.5, 0.3, 0.9])
    assert found["disagreement"][:3] == pytest.approx([np.std([0.1, 0.3, 0.8]), 0, 0.1], abs=1e-6)
    assert np.isnan(found["disagreement"][3])
    assert columns.seed_columns(hardness[:1]) == {}


def test_curves_of_many_checkpoints_are_drawn_at_forty(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=tuple(range(10, 1010, 10)))
    chart = charts.curves_chart(EasinessRecord.load(tmp_path), "mean_loss")
    assert chart is not None
    assert len(chart["steps"]) == len(chart["mean"]) == len(chart["right"]) == 40
    assert (chart["steps"][0], chart["steps"][-1]) == (10, 1000)


def test_what_held_out_runs_predict_is_their_likeliest_class(tmp_path: Path) -> None:
    held = EasinessRecord.load(write_held_out(tmp_path, 0, 1, 2))
    found = columns.held_out_columns(held)
    probabilities = held.held_out_probabilities()
    for example in range(NUM_EXAMPLES):
        if example % 4 == 3:  # held out by no run
            assert found["held_out_prediction"][example] == -1
            assert np.isnan(found["held_out_probability"][example])
            continue
        row = probabilities[example].tolist()
        assert found["held_out_prediction"][example] == row.index(max(row))
        assert found["held_out_probability"][example] == pytest.approx(max(row))


def test_columns_of_held_out_runs_are_only_of_records_that_have_them(record: EasinessRecord) -> None:
    assert columns.held_out_columns(record) == {}
    assert columns.memorization_columns(record) == {}


def test_memorization_is_that_of_the_score(tmp_path: Path) -> None:
    held = EasinessRecord.load(write_held_out(tmp_path, 0, 1, 2))
    with pytest.warns(UserWarning, match="memorization"):
        scores = held.score("memorization")
    found = columns.memorization_columns(held)
    np.testing.assert_allclose(found["memorization"], scores.values)
    np.testing.assert_allclose(found["memorization_error"], scores.spread)
