"""`compare --over-training`: the rates at each epoch are those of the library."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from lightning_easiness import EasinessRecord, matching_curves, matching_with_end
from lightning_easiness.cli.main import main
from tests.made_runs import write_run

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, first in (("a", 0), ("b", 10)):
        for seed in (first, first + 1):
            write_run(tmp_path / name, seed, steps=(10, 20, 30))
    return tmp_path / "a", tmp_path / "b"


def call(*arguments: object) -> None:
    assert main(["compare", *map(str, arguments)]) == 0


def refused(capsys: Output, *arguments: object) -> str:
    assert main(["compare", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_two_records_are_compared_at_each_epoch(folders: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    records = dict(zip("AB", map(EasinessRecord.load, folders), strict=True))
    call(*folders, "--over-training", "--fractions", 0.1, 0.3, "--output", tmp_path / "curves.csv")
    printed = capsys.readouterr().out
    for fraction in (0.1, 0.3):
        assert str(matching_curves(records, fraction=fraction)) in printed
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{row["fraction"] for row in rows}, len(rows)] == [{"0.1", "0.3"}, 2 * 2 * 3 * 3]
    call(*folders, "--over-training", "--json")
    found = json.loads(capsys.readouterr().out)["over_training"]
    (row,) = (
        row for row in found if (row["second"], row["first"], row["which"], row["epoch"]) == ("B", "A", "hard", 3)
    )
    point = matching_curves(records).curves("hard")["A, B"][-1]
    assert (row["matching_rate"], row["standard_error"]) == (point.matched.rate, point.matched.error)


def test_one_record_is_compared_with_its_end(folders: tuple[Path, Path], tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("matplotlib")
    call(folders[0], "--over-training", "--output", tmp_path / "curves.png")
    printed = capsys.readouterr().out
    assert str(matching_with_end(EasinessRecord.load(folders[0]))) in printed
    assert re.search(r"B .*\n.* step 10", printed), "and, as a whole, its first checkpoint with its last"
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_what_does_not_go_with_it_is_refused(folders: tuple[Path, Path], capsys: Output) -> None:
    assert "leave out --score-b and --checkpoint-b" in refused(
        capsys, *folders, "--over-training", "--score-b", "margin"
    )
    assert "--output of compare is for --over-training" in refused(capsys, *folders, "--output", "x.csv")
    assert "must end in .csv or .png" in refused(capsys, *folders, "--over-training", "--output", "x.txt")
    write_run(folders[1].parent / "single", 3, steps=(10,))
    assert "at least 2 checkpoints" in refused(capsys, folders[1].parent / "single", "--over-training")
