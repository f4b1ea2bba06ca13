"""Scores as tables: pandas, CSV and Parquet bring back the same numbers."""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from lightning_easiness import EasinessRecord, Scores
from lightning_easiness._utils import tables
from lightning_easiness._utils.tables import names_for_labels, to_text, with_names
from tests.made_runs import make_scores, whole, write_run


@pytest.fixture
def some_unknown(tmp_path: Path) -> Scores:
    for seed in (0, 1):
        write_run(tmp_path, seed, steps=(240,), series="train-online")
    unknown = pytest.warns(UserWarning, match="have no area_under_margin")
    with pytest.warns(UserWarning, match="were seen in fewer than all 2 runs"), unknown:
        return EasinessRecord.load(tmp_path, "train-online").score("area_under_margin")


def assert_same_table(scores: Scores, table: pandas.DataFrame) -> None:
    assert list(table.columns) == ["score", "spread", "target", "rank"]
    assert table.index.name == "example"
    assert table.index.tolist() == list(range(len(scores)))
    for column, tensor in (("score", scores.values), ("spread", scores.spread)):
        read = torch.from_numpy(table[column].to_numpy("float32", copy=True))
        torch.testing.assert_close(read, tensor, rtol=0, atol=0, equal_nan=True)
    assert table["target"].tolist() == scores.target.tolist()
    assert table["rank"].fillna(0).tolist() == scores.ranks.tolist()


def test_a_table_holds_every_example(some_unknown: Scores) -> None:
    table = some_unknown.to_pandas()
    assert_same_table(some_unknown, table)
    assert 0 < some_unknown.num_nan == table["rank"].isna().sum()
    assert table["rank"].min() == 1
    assert table["score"].idxmin() == table["rank"].idxmin() == some_unknown.hardest(0.01)[0]
    about = {"name": "area_under_margin", "higher_is_easier": True, "num_runs": 2, "step": 240, "epoch": 0}
    assert table.attrs == {**about, "fingerprint": some_unknown.fingerprint}


def test_csv_brings_back_the_same_numbers(some_unknown: Scores, tmp_path: Path) -> None:
    some_unknown.to_csv(tmp_path / "scores.csv")
    table = pandas.read_csv(tmp_path / "scores.csv", index_col="example", dtype={"score": "float32"})
    assert_same_table(some_unknown, table)
    lines = list(csv.reader((tmp_path / "scores.csv").read_text().splitlines()))
    assert lines[0] == ["example", "score", "spread", "target", "rank"]
    unknown = int(some_unknown.values.isnan().nonzero()[0])
    assert lines[1 + unknown] == [str(unknown), "", "", str(unknown % 5), ""]


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_csv_in_parts_is_the_whole_table(
    rows: int, some_unknown: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", rows)
    for scores in (some_unknown, named_scores()):
        scores.to_csv(tmp_path / "parts.csv")
        scores.to_pandas().to_csv(tmp_path / "whole.csv")
        assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        scores.to_csv(tmp_path / "parts.csv.gz")
        assert gzip.decompress((tmp_path / "parts.csv.gz").read_bytes()) == (tmp_path / "whole.csv").read_bytes()


def test_parquet_brings_back_the_same_table(some_unknown: Scores, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    some_unknown.to_parquet(tmp_path / "scores.parquet")
    table = pandas.read_parquet(tmp_path / "scores.parquet")
    assert_same_table(some_unknown, table)
    assert table.attrs["name"] == "area_under_margin"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = "Scores.to_parquet() needs pyarrow: install it with pip install pyarrow."
    with pytest.raises(ImportError, match=whole(message)):
        make_scores([1.0, 2.0]).to_parquet(tmp_path / "scores.parquet")


NAMES = ("cat", "dog", "emu")


def named_scores() -> Scores:
    """Scores of a part of a data set, of which a label and a prediction are not known."""
    return make_scores(
        [0.5, 0.25, 0.125],
        target=torch.tensor([2, 0, -1]),
        prediction=torch.tensor([1, -1, 0]),
        source_index=torch.tensor([40, 7, 9]),
        class_names=NAMES,
    )


def test_a_table_shows_labels_predictions_their_names_and_the_source(tmp_path: Path) -> None:
    scores = named_scores()
    scores.to_csv(tmp_path / "scores.csv")
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        "example,score,spread,target,target_name,predicted,predicted_name,rank,source_index",
        "0,0.5,,2,emu,1,dog,3,40",
        "1,0.25,,0,cat,,,2,7",
        "2,0.125,,-1,,0,cat,1,9",
    ]
    pytest.importorskip("pyarrow")
    scores.to_parquet(tmp_path / "scores.parquet")
    read = pandas.read_parquet(tmp_path / "scores.parquet")
    assert read.predicted_name.fillna("").tolist() == ["dog", "", "cat"]
    assert read.predicted.isna().tolist() == [False, True, False]


def test_a_table_as_text_shows_names_in_place_of_labels() -> None:
    columns = named_scores().to_pandas().reset_index().to_dict("list")
    assert to_text(names_for_labels(columns)).splitlines() == [
        "example  score  spread  target  predicted  rank  source_index",
        "      0    0.5       -     emu        dog     3            40",
        "      1   0.25       -     cat          -     2             7",
        "      2  0.125       -       -        cat     1             9",
    ]


def test_a_class_may_have_any_name_and_a_label_none() -> None:
    """As the last class of the threshold protocol, which does not exist."""
    named = with_names({"given": np.array([0, 1, 2])}, ["None", "nan"], "given")
    assert named["given_name"].tolist() == ["None", "nan", None]
    assert to_text(names_for_labels(named)).split() == ["given", "None", "nan", "-"]


def test_a_name_does_not_break_its_line_or_control_the_terminal() -> None:
    assert to_text({"name": ["a\n\x1b[31mb", "é 猫"]}).splitlines() == ["    name", "a  [31mb", "     é 猫"]
