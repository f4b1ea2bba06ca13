"""What all commands share: JSON on stdout, next steps that run, and nothing printed before everything is checked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness import EasinessRecord, find_label_issues
from lightning_easiness.cli import commands
from lightning_easiness.cli.answer import plain_json
from lightning_easiness.cli.main import main
from tests.labels.test_find import N
from tests.made_runs import NUM_EXAMPLES, write_run
from tests.view.report.conftest import write_record

Output = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, tuple[str, ...]] = {
    "runs": (),
    "score": ("--head", "2"),
    "select": ("--ratio", "0.3"),
    "compare": ("--score-b", "count"),
    "issues": ("--head", "2"),
    "view": ("--output", "figures"),
    "report": ("--output", "report.html"),
}
DOCUMENTED = ROOT / "docs" / "command-line.md"
pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of labels, some wrong, in a folder whose name has to be quoted; the tests work beside it."""
    monkeypatch.chdir(tmp_path)
    write_record(Path("the runs of 'today'"))
    return Path("the runs of 'today'")


def values_of(capsys: Output, *arguments: object) -> dict[str, Any]:
    """What a command prints as JSON; stdout has to be that and nothing else."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=_refused)
    return found


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


# ------------------------------------------------------------------ JSON


def test_every_command_is_tried_here() -> None:
    assert list(COMMANDS) == list(commands.COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_alone_on_stdout_and_names_its_command(name: str, folder: Path, capsys: Output) -> None:
    found = values_of(capsys, name, folder, *COMMANDS[name])
    assert found["command"] == name
    assert found["warnings"] == []
    assert all(set(step) == {"purpose", "command"} for step in found["next"])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_keys_of_json_are_documented(name: str, folder: Path, capsys: Output) -> None:
    section = DOCUMENTED.read_text().partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]
    keys = values_of(capsys, name, folder, *COMMANDS[name]).keys() - {"command", "warnings", "next"}
    assert keys
    assert not [key for key in keys if f"`{key}`" not in section]


def test_json_gives_the_numbers_of_the_library(folder: Path, capsys: Output) -> None:
    record = EasinessRecord.load(folder)
    scores = record.score("mean_loss")
    found = values_of(capsys, "score", folder, "--head", 3)
    assert (found["num_examples"], found["num_classes"], found["runs"]) == (N, record.num_classes, record.runs)
    assert [row["example"] for row in found["hardest"]] == scores.hardest(1.0)[:3].tolist()
    assert found["hardest"][0]["score"] == float(scores.values[int(scores.hardest(1.0)[0])])
    assert found["agreement"]["full_agreement"] == record.agreement().full_agreement
    issues = find_label_issues(folder)
    found = values_of(capsys, "issues", folder, "--head", N)
    assert [row["index"] for row in found["rows"] if row["is_issue"]] == issues.flagged.tolist()
    assert found["num_flagged"] == len(issues.flagged)
    found = values_of(capsys, "select", folder, "--ratio", 0.5)
    assert main(["select", str(folder), "--ratio", "0.5"]) == 0
    assert found["kept"] == [int(line) for line in capsys.readouterr().out.split()]
    names = [row["name"] for row in values_of(capsys, "score", "--list")["scores"]]
    assert names[0] == "mean_loss"


@pytest.mark.filterwarnings("always")
def test_what_is_not_a_number_is_null(tmp_path: Path, capsys: Output) -> None:
    loss = torch.full((NUM_EXAMPLES,), torch.nan)
    loss[4], loss[5] = torch.inf, 1.5
    path = write_run(tmp_path, 0, steps=(7,), fields={"loss": loss}, num_classes=None)
    found = values_of(capsys, "score", path)
    assert {row["example"]: row["score"] for row in found["hardest"]}[4] is None
    assert all(row["spread"] is None for row in found["hardest"])
    assert found["num_classes"] is None
    assert found["warnings"][0].startswith("35 of 37 examples have no mean_loss")
    assert plain_json([float("inf"), np.float32("nan"), torch.tensor([1.0, torch.nan])]) == [None, None, [1.0, None]]


def test_what_a_module_of_the_user_prints_is_not_on_stdout(folder: Path, capsys: Output) -> None:
    Path("chatty_scores.py").write_text("print('hello')\n")
    try:
        found = values_of(capsys, "score", folder, "--import", "chatty_scores")
        assert found["command"] == "score"
    finally:
        sys.modules.pop("chatty_scores", None)


# ------------------------------------------------------------------ next steps


@pytest.mark.filterwarnings("ignore:.*new label, which indices do not say")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_next_steps_run_as_they_stand(name: str, folder: Path, capsys: Output) -> None:
    arguments = [name, folder, *COMMANDS[name], *(("--output", "kept it.npy") if name == "select" else ())]
    steps = values_of(capsys, *arguments)["next"]
    assert steps
    write_decisions(folder)  # as downloaded from the page
    for step in steps:
        program, *words = shlex.split(step["command"])
        assert program == "lightning-easiness"
        assert main(words) == 0, step
    assert main([str(word) for word in arguments]) == 0
    said = capsys.readouterr().err
    assert all(f"next, {step['purpose']}: {step['command']}\n" in said for step in steps)


def test_options_carry_over_to_the_next_step(folder: Path, capsys: Output) -> None:
    options = ("--score", "margin", "--series", "train-probe", "--checkpoint", 0)
    steps = values_of(capsys, "score", folder, *options)["next"]
    assert steps[-1]["command"].endswith(" --score margin --series train-probe --checkpoint 0 --output report.html")


def test_a_record_without_classes_is_not_sent_to_label_errors(tmp_path: Path, capsys: Output) -> None:
    path = write_run(tmp_path, 0, fields={"loss": torch.rand(NUM_EXAMPLES)}, num_classes=None, target=None)
    for name in ("runs", "score"):
        steps = [shlex.split(step["command"])[1] for step in values_of(capsys, name, path)["next"]]
        assert "issues" not in steps
        assert "report" in steps


# ------------------------------------------------------------------ decisions


def write_decisions(folder: Path, **changes: Any) -> Path:
    """A file of decisions as the page of a report saves it."""
    target = EasinessRecord.load(folder).target.tolist()
    rows: list[dict[str, Any]] = [{"example": 3, "decision": "drop"}, {"example": 5, "decision": "drop"}]
    rows.append({"example": 7, "decision": "relabel", "label": 1})
    for row in rows:
        row["given"] = target[row["example"]]
    about = {"format": "lightning_easiness.decisions", "version": 1, "num_examples": len(target), "decisions": rows}
    Path("decisions.json").write_text(json.dumps({**about, **changes}))
    return Path("decisions.json")


@pytest.mark.filterwarnings("always")
def test_decisions_of_a_report_select(folder: Path, capsys: Output) -> None:
    found = values_of(capsys, "select", folder, "--decisions", write_decisions(folder))
    assert found["kept"] == [index for index in range(N) if index not in (3, 5)]
    assert found["num_relabelled"] == 1
    assert "Keep.from_decisions(path)" in found["warnings"][0]


def test_decisions_of_another_data_set_are_refused(folder: Path, capsys: Output) -> None:
    target = EasinessRecord.load(folder).target.tolist()
    other = [{"example": 3, "decision": "drop", "given": (target[3] + 1) % 3}]
    for changes, problem in (
        ({"num_examples": N + 1}, f"has {N + 1} examples and the second {N}"),
        ({"decisions": other}, "example 3 has target"),
        ({"format": "something"}, "is no decisions file"),
    ):
        write_decisions(folder, **changes)
        assert main(["select", str(folder), "--decisions", "decisions.json", "--output", "kept.npy"]) == 2
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == 1
        assert problem.replace("has ", "") in printed[0].replace("has ", "")
        assert not Path("kept.npy").exists()


# ------------------------------------------------------------------ bad input


def test_nothing_is_printed_before_everything_is_checked(folder: Path, capsys: Output) -> None:
    Path("file").touch()
    for arguments in (
        ("score", folder, "--output", "file/rows.csv"),
        ("select", folder, "--ratio", 0.3, "--output", "file/kept.npy"),
        ("issues", folder, "--output", "file/rows.csv"),
        ("view", folder, "--output", "file"),
        ("report", folder, "--output", "file/report.html"),
        ("score", folder, "--class-names", "a"),
        ("compare", folder, "none"),
    ):
        for more in ((), ("--json",)):
            assert main([*map(str, arguments), *more]) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert len(printed.err.splitlines()) == 1


def test_a_misspelt_file_is_guessed(folder: Path, capsys: Output) -> None:
    np.save("images.npy", np.zeros((N, 4, 4), dtype=np.uint8))
    assert main(["view", str(folder), "--output", "figures", "--images", "imges.npy"]) == 2
    assert capsys.readouterr().err == (
        "lightning-easiness: error: No such file or directory: 'imges.npy' (did you mean 'images.npy'?).\n"
    )


def truncated(path: Path) -> None:
    np.save(path, np.zeros((N, 8, 8), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("command", ["view --output figures", "report --output report.html"])
@pytest.mark.parametrize("spoil", [truncated, lambda path: path.write_bytes(b"PNG"), Path.mkdir])
def test_images_that_cannot_be_read(command: str, spoil: Callable[[Path], Any], folder: Path, capsys: Output) -> None:
    spoil(Path("images.npy"))
    name, *options = command.split()
    assert main([name, str(folder), *options, "--images", "images.npy"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "images.npy" in printed.err


@pytest.mark.filterwarnings("always")
def test_a_data_set_that_cannot_be_made_or_read(folder: Path, capsys: Output) -> None:
    Path("data_of_mine.py").write_text(
        f"class Torn:\n    def __len__(self):\n        return {N}\n"
        "    def __getitem__(self, index):\n        raise OSError('image file is truncated')\n"
        "def made():\n    raise RuntimeError('no disk')\n"
    )
    try:
        options = ("report", str(folder), "--output", "report.html", "--dataset")
        assert main([*options, "data_of_mine:made"]) == 2
        assert capsys.readouterr().err == (
            "lightning-easiness: error: --dataset 'data_of_mine:made' raised RuntimeError: no disk (--traceback shows"
            " where).\n"
        )
        assert not Path("report.html").exists()
        assert main([*options, "data_of_mine:Torn"]) == 0, "the page is of use without pictures"
        assert "image file is truncated" in Path("report.html").read_text(), "and says why there are none"
    finally:
        sys.modules.pop("data_of_mine", None)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Records of 1,000 classes with names, the first of which holds HTML and a line break."""
    target = torch.arange(2000) % 1000
    names = ["<b>ant</b>\n\x1b[31mred", *(f"class {index}" for index in range(1, 1000))]
    for seed in range(2):
        for series in ("train-probe", "train-online"):
            shared: dict[str, Any] = {"num_examples": 2000, "target": target, "num_classes": 1000, "series": series}
            write_run(tmp_path / "many", seed, class_names=names, **shared)
    return tmp_path / "many"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_thousand_classes(name: str, many: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many.parent)
    assert main([name, str(many), *COMMANDS[name]]) == 0
    printed = capsys.readouterr().out
    assert len(printed) < 20_000
    assert "\x1b" not in printed, "a name must not control the terminal"
    assert values_of(capsys, name, many, *COMMANDS[name])["command"] == name


@pytest.mark.filterwarnings("ignore")
def test_names_with_html_stay_text(many: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many.parent)
    assert main(["score", str(many), "--head", "2000"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "<b>ant</b>" in line]
    assert len(rows) == 4, "two examples at both ends, each in a line of its own"
    assert main(["report", str(many), "--output", "report.html"]) == 0
    assert "<b>ant</b>" not in Path("report.html").read_text()


# ------------------------------------------------------------------ speed


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_comes_at_once(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "lightning_easiness", *arguments]

    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return time.perf_counter() - begin

    assert any(seconds() < 0.2 for _ in range(7)), "beside others it may be late"
