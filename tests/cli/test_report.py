"""The command `report`: what it writes, what it passes on, and what it refuses before it reads anything."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from lightning_easiness import EasinessRecord, Report, find_label_issues
from lightning_easiness.cli.main import main
from tests.labels.test_find import N
from tests.view.report.conftest import write_record

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "record"
    write_record(folder)
    return folder


def facts_of(page: Path) -> dict[str, Any]:
    """What the page gives to its script."""
    found = re.findall(r'<script type="application/json" id="facts">(.*?)</script>', page.read_text(), re.DOTALL)
    assert len(found) == 1
    return json.loads(found[0])


def call(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def refusal(capsys: Output, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr().err.strip()
    assert "\n" not in printed
    return printed


def test_the_command_writes_the_page_of_the_library(folder: Path, tmp_path: Path, capsys: Output) -> None:
    images = torch.randint(0, 256, (N, 8, 8), dtype=torch.uint8).numpy()
    np.save(tmp_path / "images.npy", images)
    output = tmp_path / "new" / "report.html"
    options = ("--images", tmp_path / "images.npy", "--title", "T")
    call("report", folder, *options, "--output", output)
    assert str(output) in capsys.readouterr().out
    record = EasinessRecord.load(folder, "train-probe")
    assert output.read_text() == Report.of(record, find_label_issues(folder), dataset=images, title="T").to_html()


def test_a_data_set_is_imported_by_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_data.py").write_text(
        "class Data(list):\n    classes = ['cat', 'dog', 'cow']\n"
        f"def make():\n    return Data([f'text {{i}}' for i in range({N})])\nmade = make()\n"
    )
    try:
        for name in ("make", "made"):
            call("report", folder, "--dataset", f"my_own_data:{name}", "--output", "report.html")
            facts = facts_of(tmp_path / "report.html")
            assert facts["class_names"] == ["cat", "dog", "cow"]
            assert facts["texts"]["3"] == "text 3"
    finally:
        sys.modules.pop("my_own_data", None)


def test_kept_examples_and_the_atlas(folder: Path, tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("pyarrow")
    np.save(tmp_path / "kept.npy", np.arange(40))
    options = ("--kept", tmp_path / "kept.npy", "--atlas", tmp_path / "all.parquet")
    call("report", folder, *options, "--output", tmp_path / "report.html")
    assert "--x variability --y confidence --export-application" in capsys.readouterr().out
    table = pandas.read_parquet(tmp_path / "all.parquet")
    assert table["kept"].tolist() == [True] * 40 + [False] * 20
    record = EasinessRecord.load(folder, "train-probe")
    assert np.allclose(table["score"], record.score("mean_loss").values)


@pytest.mark.filterwarnings("always")
def test_warnings_are_on_the_page_and_passed_on(tmp_path: Path, capsys: Output) -> None:
    write_record(tmp_path / "record")
    broken = sorted((tmp_path / "record" / "seed-1" / "train-probe").iterdir())[0]
    broken.write_bytes(b"broken")
    call("report", tmp_path / "record", "--output", tmp_path / "report.html")
    said = capsys.readouterr().err
    assert broken.name in said
    assert broken.name in (tmp_path / "report.html").read_text()


@pytest.mark.filterwarnings("always")
def test_one_evaluation_pass_takes_its_map_from_the_training_steps(tmp_path: Path) -> None:
    from tests.made_runs import write_run

    write_run(tmp_path / "record", 0, steps=(240,))
    write_run(tmp_path / "record", 0, series="train-online")
    call("report", tmp_path / "record", "--output", tmp_path / "report.html")
    facts = facts_of(tmp_path / "report.html")
    assert facts["series"] == "train-probe"
    assert facts["map_series"] == "train-online"
    assert "confidence" in facts["arrays"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--output", "report.pdf"), "must end in .html"),
        (("--output", "r.html", "--images", "i.png"), "must end in .npy"),
        (("--output", "r.html", "--atlas", "a.csv"), "must end in .parquet"),
        (("--output", "r.html", "--kept", "k.txt"), "must end in .npy"),
        (("--output", "r.html", "--images", "i.npy", "--dataset", "a:b"), "--images is not allowed with --dataset"),
        (("--output", "r.html", "--dataset", "a"), "must be MODULE:NAME"),
        (("--output", "r.html", "--dataset", "no_such_module:a"), "cannot be imported"),
        (("--output", "r.html", "--score", "nonsense"), "nonsense"),
        (("--output", "r.html", "--class-names", "a", "b"), "must name the labels 0 to 2"),
        ((), "Give --output"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, options: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(capsys, "report", folder, *options)
    assert not (tmp_path / "r.html").exists()


def test_a_folder_without_records_and_a_data_set_of_another_length_are_refused(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refusal(capsys, "report", tmp_path / "empty", "--output", tmp_path / "r.html")
    np.save(tmp_path / "images.npy", np.zeros((N + 1, 8, 8), dtype=np.uint8))
    images = ("--images", tmp_path / "images.npy")
    assert "61 examples" in refusal(capsys, "report", folder, *images, "--output", tmp_path / "r.html")


@pytest.mark.filterwarnings("always")
def test_a_run_of_other_data_is_left_out_and_named_on_the_page(tmp_path: Path) -> None:
    from tests.made_runs import write_run

    for seed in range(2):
        write_run(tmp_path / "record", seed)
    write_run(tmp_path / "record", 2, target=torch.arange(37) % 3)
    call("report", tmp_path / "record", "--output", tmp_path / "report.html")
    facts = facts_of(tmp_path / "report.html")
    assert [run["name"] for run in facts["runs"]] == ["seed-0", "seed-1"]
    assert "seed-2" in (tmp_path / "report.html").read_text()
