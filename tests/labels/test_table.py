"""The table of label errors: its text, what to train on next, and other tools: cleanlab, columns, CSV and Parquet."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, Hardest, LabelIssues, Mixture, Scores, find_label_issues, functional
from tests.blobs import NUM_CLASSES, Blobs, watched
from tests.small import loader

N, WRONG, EPOCHS = 400, 40, 8
COLUMNS = ["given", "suggested", "score", "spread", "posterior", "is_issue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two watched trainings on blobs of which a tenth of the labels are wrong."""
    made = tmp_path_factory.mktemp("watched")
    for seed in (1, 2):
        watched(Blobs(N, wrong=0.1), made, EPOCHS, seed)
    return made


@pytest.fixture(scope="module")
def issues(folder: Path) -> LabelIssues:
    return find_label_issues(folder, Mixture())


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> LabelIssues:
    """Of a training that never saw the last examples, as its loader drops the last batch and does not shuffle."""
    made = tmp_path_factory.mktemp("partly")
    watched(loader(Blobs(N, wrong=0.1), batch_size=32, shuffle=False, drop_last=True), made, EPOCHS)
    with pytest.warns(UserWarning, match="16 of 400 examples have no label score"):
        return find_label_issues(made, Mixture())


@pytest.fixture(params=["whole", "partly"])
def table(request: pytest.FixtureRequest, issues: LabelIssues, partly: LabelIssues) -> LabelIssues:
    return {"whole": issues, "partly": partly}[request.param]


# ------------------------------------------------------------------ cleanlab


def test_cleanlab_gets_rows_in_the_order_of_the_data_set(table: LabelIssues) -> None:
    bridge = table.to_cleanlab()
    labels, rows, examples = bridge["labels"], bridge["pred_probs"], table.index.sort().values
    assert list(bridge) == ["labels", "pred_probs"]
    assert (labels.shape, labels.dtype) == ((len(table),), np.dtype(np.int64))
    assert (rows.shape, rows.dtype) == ((len(table), NUM_CLASSES), np.dtype(np.float32))
    assert labels.tolist() == Blobs(N, wrong=0.1).y[examples].tolist()
    np.testing.assert_array_equal(rows, table.probabilities[examples].numpy())
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    assert table.index.tolist() != examples.tolist(), "the table has another order"
    given, probabilities = table.given.clone(), table.probabilities.clone()
    labels[:], rows[:] = 0, 0
    assert torch.equal(table.given, given), "what other tools write does not reach the table"
    assert torch.equal(table.probabilities.nan_to_num(), probabilities.nan_to_num())


def test_cleanlab_rows_where_examples_in_the_middle_have_no_score() -> None:
    """Row r is the r-th of the examples that have one."""
    values = torch.linspace(3, -3, 20)
    values[[0, 7, 13]] = math.nan
    target = torch.arange(20) % NUM_CLASSES
    rows = (torch.rand(20, NUM_CLASSES, generator=torch.Generator().manual_seed(0)) + 0.1).softmax(1)
    scores = Scores(values, higher_is_easier=True, target=target, name="area_under_margin")
    with pytest.warns(UserWarning, match="3 of 20 examples have no label score"):
        bridge = find_label_issues(scores, probabilities=rows).to_cleanlab()
    left = [example for example in range(20) if example not in (0, 7, 13)]
    assert bridge["labels"].tolist() == target[left].tolist()
    np.testing.assert_array_equal(bridge["pred_probs"], rows[left].numpy())
    assert list(find_label_issues(Scores(rows[:, 0], higher_is_easier=True, target=target)).to_cleanlab()) == ["labels"]
    with pytest.raises(ValueError, match="that of example 0 is not known: give `target` to find_label_issues"):
        find_label_issues(Scores(rows[:, 0], higher_is_easier=True)).to_cleanlab()


def test_cleanlab_finds_what_was_made_wrong(table: LabelIssues) -> None:
    found = pytest.importorskip("cleanlab.filter").find_label_issues
    mask = found(**table.to_cleanlab(), n_jobs=1)
    wrong = Blobs(N, wrong=0.1).wrong[table.index.sort().values].numpy()
    assert (mask & wrong).sum() >= 0.8 * max(wrong.sum(), mask.sum())
    ranked = found(**table.to_cleanlab(), n_jobs=1, return_indices_ranked_by="self_confidence")
    assert set(ranked) == set(mask.nonzero()[0]), "rows are examples"
    ours = set(table.flagged.tolist())
    assert len(ours & set(ranked.tolist())) >= 0.8 * len(ours), "on such data the two agree"


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
def test_scores_of_the_same_name_are_cleanlabs(score: str, folder: Path) -> None:
    """cleanlab's normalized margin is (p of the given label - largest other + 1) / 2; here it is the same number."""
    quality = pytest.importorskip("cleanlab.rank").get_label_quality_scores
    issues = find_label_issues(folder, Hardest(0.1), score=score)
    theirs = quality(**issues.to_cleanlab(), method=score)
    np.testing.assert_allclose(issues.score[issues.index.argsort()].numpy(), theirs, rtol=1e-6, atol=1e-7)
    assert len(np.unique(theirs)) > N // 2
    assert np.all(np.diff(theirs[issues.index.numpy()]) >= -1e-6), "most suspicious first in both"


def test_a_tie_is_where_cleanlab_has_it() -> None:
    """At 0.5 the given label ties with another, whatever the number of classes."""
    quality = pytest.importorskip("cleanlab.rank").get_label_quality_scores
    rows = torch.tensor([[0.4, 0.4, 0.2], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])
    labels, expected = torch.tensor([0, 1, 2, 0]), [0.5, 0.35, 0.15, 1.0]
    assert quality(labels.numpy(), rows.numpy(), method="normalized_margin").tolist() == pytest.approx(expected)
    assert functional.normalized_margin(rows, labels).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16], ids=str)
def test_probabilities_of_any_precision_reach_cleanlab(dtype: torch.dtype, folder: Path) -> None:
    find = pytest.importorskip("cleanlab.filter").find_label_issues
    record = EasinessRecord.load(folder, "train-online")
    rows = record.probabilities().to(dtype)
    mask = find(**find_label_issues(record, probabilities=rows).to_cleanlab(), n_jobs=1)
    assert (mask & Blobs(N, wrong=0.1).wrong.numpy()).sum() >= 0.8 * WRONG


# ------------------------------------------------------------------ the table itself


def test_head_and_text(issues: LabelIssues) -> None:
    head = issues.head(3)
    assert (len(head), len(issues), len(issues.head())) == (3, N, 10)
    assert torch.equal(head.flagged, issues.flagged[:3])
    assert len(str(issues).splitlines()) == 12
    assert str(issues).splitlines()[-1] == f"... and {N - 10} more"
    flagged = len(issues.flagged)
    assert repr(issues).startswith(
        f"LabelIssues({flagged} of {N} labels called wrong by 'mixture': weighted_area_under"
    )
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        issues.head(-1)


def test_what_to_train_on_next(table: LabelIssues) -> None:
    flagged = set(table.flagged.tolist())
    assert table.unflagged.tolist() == [index for index in range(N) if index not in flagged]
    assert set(table.unseen.tolist()) <= set(table.unflagged.tolist()), "neither clean nor wrong: they stay"
    corrections = table.corrections()
    for index, given, suggested in zip(table.index, table.given, table.suggested, strict=True):
        assert int(corrections[index]) == (int(suggested) if int(index) in flagged else -1)
        assert suggested != given
    without = find_label_issues(Scores(torch.linspace(3, -3, 20), higher_is_easier=True))
    with pytest.raises(ValueError, match=r"corrections\(\) needs suggested labels"):
        without.corrections()


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


def test_csv_holds_each_row_once(table: LabelIssues, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "issues.csv")
    with open(tmp_path / "issues.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", *COLUMNS]
    numbers = [int(row["index"]) for row in rows]
    assert numbers == table.index.tolist(), "most suspicious first"
    assert sorted([*numbers, *table.unseen.tolist()]) == list(range(N))
    read = {"given": int, "suggested": int, "is_issue": {"True": True, "False": False}.__getitem__}
    for name in COLUMNS:
        kind: Any = read.get(name, lambda text: float(np.float32(text)))
        assert_same_cells([kind(row[name]) if row[name] else None for row in rows], getattr(table, name))


def test_parquet_reads_back_as_the_table(table: LabelIssues, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
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
