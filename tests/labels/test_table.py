"""The table of label errors: its text, what to train on next, and other tools: cleanlab, columns, CSV and Parquet."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor

from lightning_easiness import (
    EasinessRecord,
    Hardest,
    LabelIssues,
    Mixture,
    Refine,
    Scores,
    find_label_issues,
    functional,
)
from lightning_easiness.labels.rules import Decision, Rule
from lightning_easiness.labels.sources import LabelScores
from tests.blobs import NUM_CLASSES, Blobs, watched

N, WRONG, EPOCHS = 400, 40, 8
DATA = Blobs(N, wrong=0.1)
UNSEEN = [0, 7, 13, 399]
COLUMNS = ["given", "predicted", "suggested", "score", "spread", "posterior", "is_issue", "is_slow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two watched trainings on blobs of which a tenth of the labels are wrong."""
    made = tmp_path_factory.mktemp("watched")
    for seed in (1, 2):
        watched(DATA, made, EPOCHS, seed)
    return made


@pytest.fixture(scope="module")
def issues(folder: Path) -> LabelIssues:
    return find_label_issues(folder, Mixture())


@pytest.fixture(scope="module")
def partly(folder: Path) -> LabelIssues:
    """Without the score and the probabilities of some, as of a training that never saw them."""
    record = EasinessRecord.load(folder, "train-online")
    scores, rows = record.score("area_under_margin"), record.probabilities()
    scores.values[UNSEEN], rows[UNSEEN] = math.nan, math.nan
    with pytest.warns(UserWarning, match="4 of 400 examples have no label score"):
        return find_label_issues(scores, Mixture(), probabilities=rows)


@pytest.fixture(params=["whole", "partly"])
def table(request: pytest.FixtureRequest, issues: LabelIssues, partly: LabelIssues) -> LabelIssues:
    return {"whole": issues, "partly": partly}[request.param]


# ------------------------------------------------------------------ rows


def test_flagged_rows_come_first_and_each_part_is_hardest_first(folder: Path) -> None:
    record = EasinessRecord.load(folder, "train-online")
    scores = record.score("area_under_margin")
    for rule in (Mixture(), Hardest(30), EveryFifth()):
        table = find_label_issues(record, rule, score="area_under_margin", probabilities=record.probabilities())
        by_rank = scores.hardest(1.0)
        flagged = torch.zeros(N, dtype=torch.bool).index_fill(0, table.flagged, True)
        order = by_rank[(~flagged[by_rank]).long().argsort(stable=True)]
        suggested = functional.suggest_labels(record.probabilities(), record.target)
        learnt = functional.mean_over_runs(record.correct[:, -1], record.trained_on) > 0.5
        assert torch.equal(table.index, order)
        assert torch.equal(table.is_issue, flagged[order])
        assert torch.equal(table.is_slow, (flagged & learnt)[order])
        assert torch.equal(table.suggested, suggested[order])
        assert torch.equal(table.predicted, scores.prediction[order])
        assert torch.equal(table.score, scores.values[order])
        assert torch.equal(table.spread, scores.spread[order])
        assert table.posterior.isnan().all() == (not isinstance(rule, Mixture))
    assert table.flagged.tolist() != by_rank[: len(table.flagged)].tolist()


class EveryFifth(Rule):
    name = "every fifth"

    def decide(self, labels: LabelScores) -> Decision:
        return self._decision(labels, torch.arange(N) % 5 == 0, "flags by index")


# ------------------------------------------------------------------ cleanlab


def test_cleanlab_gets_rows_in_the_order_of_the_data_set(table: LabelIssues) -> None:
    bridge = table.to_cleanlab()
    labels, rows, examples = bridge["labels"], bridge["pred_probs"], table.index.sort().values
    assert list(bridge) == ["labels", "pred_probs"]
    assert (labels.shape, labels.dtype) == ((len(table),), np.dtype(np.int64))
    assert (rows.shape, rows.dtype) == ((len(table), NUM_CLASSES), np.dtype(np.float32))
    assert labels.tolist() == DATA.y[examples].tolist()
    np.testing.assert_array_equal(rows, table.probabilities[examples].numpy())
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    assert table.index.tolist() != examples.tolist(), "the table has another order"
    given, probabilities = table.given.clone(), table.probabilities.clone()
    labels[:], rows[:] = 0, 0
    assert torch.equal(table.given, given), "what other tools write does not reach the table"
    assert torch.equal(table.probabilities.nan_to_num(), probabilities.nan_to_num())


def test_cleanlab_without_probabilities_or_labels() -> None:
    values, target = torch.linspace(3, -3, 20), torch.arange(20) % NUM_CLASSES
    assert list(find_label_issues(Scores(values, higher_is_easier=True, target=target)).to_cleanlab()) == ["labels"]
    with pytest.raises(ValueError, match="that of example 0 is not known: give `target` to find_label_issues"):
        find_label_issues(Scores(values, higher_is_easier=True)).to_cleanlab()


def test_cleanlab_finds_what_was_made_wrong(table: LabelIssues) -> None:
    found = pytest.importorskip("cleanlab.filter").find_label_issues
    mask = found(**table.to_cleanlab(), n_jobs=1)
    examples = table.index.sort().values
    wrong = DATA.wrong[examples].numpy()
    assert (mask & wrong).sum() >= 0.8 * max(wrong.sum(), mask.sum())
    ranked = found(**table.to_cleanlab(), n_jobs=1, return_indices_ranked_by="self_confidence")
    assert set(ranked) == set(mask.nonzero()[0]), "rows are examples"
    ours = set(table.flagged.tolist())
    assert len(ours & set(examples[ranked.tolist()].tolist())) >= 0.8 * len(ours), "on such data the two agree"


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
def test_scores_of_the_same_name_are_cleanlabs(score: str, folder: Path) -> None:
    """cleanlab's normalized margin is (p of the given label - largest other + 1) / 2; here it is the same number."""
    quality = pytest.importorskip("cleanlab.rank").get_label_quality_scores
    issues = find_label_issues(folder, Hardest(0.1), score=score)
    theirs = quality(**issues.to_cleanlab(), method=score)
    np.testing.assert_allclose(issues.score[issues.index.argsort()].numpy(), theirs, rtol=1e-6, atol=1e-7)
    assert len(np.unique(theirs)) > N // 2
    assert np.all(np.diff(theirs[issues.index.numpy()]) >= -1e-6), "most suspicious first in both"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16], ids=str)
def test_probabilities_of_any_precision_reach_cleanlab(dtype: torch.dtype, folder: Path) -> None:
    find = pytest.importorskip("cleanlab.filter").find_label_issues
    record = EasinessRecord.load(folder, "train-online")
    rows = record.probabilities().to(dtype)
    mask = find(**find_label_issues(record, probabilities=rows).to_cleanlab(), n_jobs=1)
    assert (mask & DATA.wrong.numpy()).sum() >= 0.8 * WRONG


# ------------------------------------------------------------------ the table itself


def test_head_and_text(issues: LabelIssues) -> None:
    head = issues.head(3)
    assert (len(head), len(issues), len(issues.head())) == (3, N, 10)
    assert torch.equal(head.flagged, issues.flagged[:3])
    assert len(str(issues).splitlines()) == 12
    assert str(issues).splitlines()[-1] == f"... and {N - 10} more"
    flagged = len(issues.flagged)
    assert repr(issues).startswith(f"LabelIssues({flagged} of {N} labels flagged by 'mixture': weighted_area_under")
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        issues.head(-1)


TEXTS = {  # labels that are wrong where the model is surest, none, and where it cannot be told
    "some": (torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)]), ": area_under_margin <= -2; 16.7 %"),
    "none": (torch.linspace(2, 6, 60), ": area_under_margin; 0.0 %"),
    "cannot tell": (
        torch.randn(400, generator=torch.Generator().manual_seed(0)) - 1,
        ": area_under_margin; the rule cannot tell how many are wrong)",
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_the_text_says_up_to_where_labels_are_flagged_or_that_the_rule_cannot_tell(case: str) -> None:
    margins, text = TEXTS[case]
    target = torch.arange(len(margins)) % 3
    found = find_label_issues(Scores(margins, higher_is_easier=True, target=target, name="area_under_margin"))
    assert f"labels flagged by 'contradicted'{text}" in repr(found)
    assert found.cannot_tell == (case == "cannot tell")
    assert (len(found.flagged) > 0) == (case == "some")


def test_a_rule_that_was_asked_to_flag_none_can_tell() -> None:
    margins = torch.linspace(-2, 6, 60)
    target = torch.arange(60) % 3
    scores = Scores(margins, higher_is_easier=True, target=target, name="area_under_margin")
    medium = torch.full((60, 3), 0.5).scatter(1, target.unsqueeze(1), 1.0)  # nowhere hard
    none_asked = find_label_issues(scores, Hardest(0))
    refined = find_label_issues(scores, Hardest(0.1), refine=Refine(easiness=medium))
    for found in (none_asked, refined):
        assert len(found.flagged) == 0
        assert not found.cannot_tell
        assert "cannot tell" not in repr(found)


def test_the_table_shows_what_is_predicted_at_the_end(folder: Path, issues: LabelIssues) -> None:
    rows = EasinessRecord.load(folder, "train-online").prediction[:, -1].tolist()
    for index, predicted in zip(issues.index.tolist(), issues.predicted.tolist(), strict=True):
        first, second = rows[0][index], rows[1][index]
        assert predicted == min(first, second), "of two runs, that of both or the smaller"
    wrong = DATA.wrong[issues.index]
    assert (issues.predicted == DATA.truth[issues.index])[wrong].float().mean() > 0.8


def test_names_and_source_indices_are_shown_and_cut_with_the_rows() -> None:
    target, source = torch.arange(20) % 2, torch.arange(20) * 10
    scores = Scores(
        torch.linspace(3, -3, 20),
        higher_is_easier=True,
        target=target,
        prediction=1 - target,
        source_index=source,
        class_names=["cat", "dog"],
    )
    issues = find_label_issues(scores, Hardest(2))
    assert issues.index.tolist() == list(range(19, -1, -1))
    assert torch.equal(issues.source_index, source[issues.index])
    head = issues.head(2)
    assert head.source_index.tolist() == [190, 180]
    assert str(head).splitlines() == [
        "index  given  predicted  suggested   score  spread  posterior  is_issue  is_slow  source_index",
        "   19    dog        cat          -      -3       -          -       yes       no           190",
        "   18    cat        dog          -  -2.684       -          -       yes       no           180",
    ]
    table = head.to_pandas()
    assert table.given.tolist() == [1, 0]
    assert table.given_name.tolist() == ["dog", "cat"]
    assert table.predicted_name.tolist() == ["cat", "dog"]
    assert table.source_index.tolist() == [190, 180]


def test_what_to_train_on_next(table: LabelIssues) -> None:
    flagged = set(table.flagged.tolist())
    assert table.unflagged.tolist() == [index for index in range(N) if index not in flagged]
    assert set(table.unseen.tolist()) <= set(table.unflagged.tolist()), "neither clean nor wrong: they stay"
    corrections = table.corrections()
    for index, given, suggested in zip(table.index, table.given, table.suggested, strict=True):
        assert int(corrections[index]) == (int(suggested) if int(index) in flagged else -1)
        assert suggested != given
    with pytest.raises(ValueError, match=r"corrections\(\) needs suggested labels"):
        find_label_issues(Scores(torch.linspace(3, -3, 20), higher_is_easier=True)).corrections()


@pytest.mark.parametrize("what", ["unflagged", "corrections", "to_columns"])
def test_a_part_of_the_table_is_refused_where_the_whole_is_needed(what: str, issues: LabelIssues) -> None:
    with pytest.raises(ValueError, match=rf"^{what}(\(\))? needs the whole table"):
        getattr(issues.head(3), what)()


# ------------------------------------------------------------------ files and columns


def assert_same_cells(cells: list[Any], column: Tensor) -> None:
    """What was read of a column: None where the table says that it is not known."""
    unknown = column.isnan() if column.is_floating_point() else column < 0
    if column.dtype == torch.bool:
        unknown = torch.zeros_like(column)
    assert [cell is None for cell in cells] == unknown.tolist()
    for cell, value, hidden in zip(cells, column.tolist(), unknown.tolist(), strict=True):
        assert hidden or cell == value


def test_csv_holds_each_example_once(table: LabelIssues, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "issues.csv")
    with open(tmp_path / "issues.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", *COLUMNS]
    numbers = [int(row["index"]) for row in rows]
    assert numbers == table.index.tolist(), "most suspicious first"
    assert sorted([*numbers, *table.unseen.tolist()]) == list(range(N))
    read = {"given": int, "suggested": int, "is_issue": "True".__eq__, "is_slow": "True".__eq__}
    for name in COLUMNS:
        kind: Any = read.get(name, lambda text: float(np.float32(text)))
        assert_same_cells([kind(row[name]) if row[name] else None for row in rows], getattr(table, name))


def test_parquet_reads_back_as_the_table(table: LabelIssues, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table.to_parquet(tmp_path / "issues.parquet")
    frame = table.to_pandas()
    assert (frame.index.name, list(frame.columns)) == ("index", COLUMNS)
    assert frame.attrs["threshold"] == table.threshold
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "issues.parquet"), frame)
    read = parquet.read_table(tmp_path / "issues.parquet").to_pydict()
    assert read["index"] == table.index.tolist()
    for name in COLUMNS:
        assert_same_cells([None if cell is None or cell != cell else cell for cell in read[name]], getattr(table, name))


def test_columns_are_plain_lists_in_the_order_of_the_data_set(table: LabelIssues) -> None:
    """As FiftyOne, a data frame and a JSON writer take them."""
    columns = table.to_columns()
    assert list(columns) == [*COLUMNS, "rank"]
    assert {len(values) for values in columns.values()} == {N}
    assert {type(value) for values in columns.values() for value in values} <= {int, float, bool, type(None)}
    assert json.loads(json.dumps(columns, allow_nan=False)) == columns
    ranks: list[Any] = columns["rank"]
    assert [example for example, rank in enumerate(ranks) if rank is None] == table.unseen.tolist()
    assert sorted(table.index.tolist(), key=ranks.__getitem__) == table.index.tolist()
    for name in COLUMNS:
        assert_same_cells([columns[name][example] for example in table.index.tolist()], getattr(table, name))
