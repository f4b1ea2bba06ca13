"""The command line as it is called the first time: everything is checked before anything is printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, functional
from lightning_easiness.cli.main import main
from tests.made_runs import NUM_EXAMPLES, make_fields, write_run

Output = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of three checkpoints, at steps 0, 120 and 240."""
    for seed in range(2):
        write_run(tmp_path / "easiness", seed)
    return tmp_path / "easiness"


def refused(capsys: Output, *arguments: object) -> str:
    """The sentence that a command ends with; nothing else is printed."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    return printed.err.strip().removeprefix("lightning-easiness: error: ")


def printed(capsys: Output, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


# ------------------------------------------------------------------ where the record is


@pytest.mark.parametrize("command", ["score", "select --ratio 0.3", "compare --score-b margin", "issues"])
def test_the_folder_above_the_records(command: str, tmp_path: Path, capsys: Output) -> None:
    for version in (2, 10):
        write_run(tmp_path / "lightning_logs" / f"version_{version}" / "easiness", 0)
    logs = tmp_path / "lightning_logs"
    name, *options = command.split()
    both = f"'{logs / 'version_2' / 'easiness'}', '{logs / 'version_10' / 'easiness'}'"
    for above in (logs, tmp_path):
        assert refused(capsys, name, above, *options) == (
            f"There is no run in '{above}' itself, but in {both}: give one folder."
        )


def test_folders_of_records_beside_each_other(tmp_path: Path, capsys: Output) -> None:
    for number in range(7):
        write_run(tmp_path / f"model-{number}", 0)
    named = ", ".join(f"'{tmp_path / f'model-{number}'}'" for number in range(5))
    assert refused(capsys, "score", tmp_path) == (
        f"There is no run in '{tmp_path}' itself, but in {named} and 2 more: give one folder."
    )


def test_a_part_of_a_run(folder: Path, capsys: Output) -> None:
    series = folder / "seed-0" / "train-probe"
    assert refused(capsys, "score", series) == (
        f"'{series}' is a part of a run: give the run, '{folder / 'seed-0'}', or the folder of all runs."
    )


def test_a_misspelt_folder(folder: Path, capsys: Output) -> None:
    assert refused(capsys, "score", folder.with_name("easines")) == (
        f"'{folder.with_name('easines')}' is not a folder (did you mean 'easiness'?): give the folder that"
        " EasinessCallback(dirpath=...) wrote to."
    )


# ------------------------------------------------------------------ names


def test_a_misspelt_score_option_command_and_series(folder: Path, capsys: Output) -> None:
    for wrong, right in (("mean_los", "mean_loss"), ("aum", "area_under_margin"), ("forgeting", None)):
        guess = f" (did you mean '{right}'?)" if right else ""
        sentence = refused(capsys, "score", folder, "--score", wrong)
        assert sentence.startswith(f"There is no score '{wrong}'{guess}: choose from mean_loss, count, ")
    assert refused(capsys, "score", folder, "--hardst", 0.1) == (
        "There is no option --hardst (did you mean '--hardest'?): --help lists them."
    )
    assert refused(capsys, "issue", folder) == (
        "There is no command 'issue' (did you mean 'issues'?): choose from runs, score, select, compare, issues, view,"
        " report."
    )
    write_run(folder, 0, series="train-online")
    assert refused(capsys, "score", folder, "--series", "train-onlin") == (
        f"No run in '{folder}' holds the series 'train-onlin' (did you mean 'train-online'?): there are 'train-online',"
        " 'train-probe'."
    )
    assert refused(capsys, "select", folder, "--ratio", 0.1, "--remove", "easiest") == (
        "--remove cannot be 'easiest': choose from easy, hard, random."
    )


def test_a_misspelt_run(folder: Path) -> None:
    with pytest.raises(ValueError, match="there are 'seed-0', 'seed-1'") as caught:
        EasinessRecord.load(folder, runs=["sed-1"])
    assert str(caught.value) == (
        f"`runs` names 'sed-1', which is not in '{folder}' (did you mean 'seed-1'?): there are 'seed-0', 'seed-1'."
    )


# ------------------------------------------------------------------ numbers


def test_a_number_of_rows_in_place_of_a_fraction(folder: Path, capsys: Output) -> None:
    for option in ("hardest", "easiest"):
        assert refused(capsys, "score", folder, f"--{option}", 10) == (
            f"--{option} must be in (0, 1], a fraction of the examples; got 10: for 10 % write --{option} 0.1, for 10"
            " rows --head 10."
        )
    assert refused(capsys, "score", folder, "--hardest", -0.5) == (
        "--hardest must be in (0, 1], a fraction of the examples; got -0.5."
    )
    assert refused(capsys, "compare", folder, "--score-b", "margin", "--fractions", 0.1, 12.5) == (
        "--fractions must be in (0, 1], a fraction of the examples; got 12.5: for 12.5 % write --fractions 0.125."
    )
    assert refused(capsys, "select", folder, "--ratio", 30) == (
        "--ratio must be in [0, 1), the fraction to remove; got 30: for 30 % write --ratio 0.3."
    )
    assert refused(capsys, "issues", folder, "--rule", 10) == (
        "--rule must be in (0, 1], a fraction of the examples; got 10: for 10 % write --rule 0.1, for 10 rows"
        " --num-suspects 10."
    )
    assert refused(capsys, "score", folder, "--hardest") == "--hardest needs a value: --help says what it takes."
    assert refused(capsys, "view", folder) == "Give --output: --help says what it takes."


@pytest.mark.parametrize(
    "command", ["score", "select --ratio 0.3", "compare --score-b margin", "view --output out", "issues --score margin"]
)
def test_a_checkpoint_that_is_not_there(
    command: str, folder: Path, capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *options = command.split()
    have = "`checkpoint` must be an index of the record's 3 checkpoints, 0 to 2, or -3 to -1 from the end"
    for wrong, guess in ((99, ""), (240, " (did you mean 2, at step 240?)"), (-4, "")):
        assert refused(capsys, name, folder, *options, "--checkpoint", wrong) == f"{have}; got {wrong}{guess}."
    assert not (tmp_path / "out").exists()


def test_the_only_checkpoint(tmp_path: Path, capsys: Output) -> None:
    write_run(tmp_path, 0, steps=(7,))
    assert refused(capsys, "score", tmp_path, "--checkpoint", 1) == (
        "`checkpoint` must be an index of the record's only checkpoint, 0; got 1."
    )


def test_images_of_another_data_set_are_refused_before_a_figure_is_drawn(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "images.npy", np.zeros((4, 5, 5), dtype=np.uint8))
    options = ("--output", tmp_path / "out", "--images", tmp_path / "images.npy")
    assert refused(capsys, "view", folder, *options) == (
        f"'{tmp_path / 'images.npy'}' and the record are not of the same data: the first has 4 examples and the second"
        f" {NUM_EXAMPLES}, so an index no longer names the same example: give the images of the data set that was"
        " recorded, in its order."
    )
    assert refused(capsys, "view", folder, "--output", tmp_path / "out", "--class-names", "cat", "dog") == (
        "`class_names` must name the labels 0 to 4; got 2 names."
    )
    assert refused(capsys, "view", folder, "--output", tmp_path / "out", "--num-images", 0) == (
        "--num-images must be at least 1; got 0."
    )
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(folder: Path, tmp_path: Path, capsys: Output) -> None:
    for command in ("view", "report"):
        output = tmp_path / ("out" if command == "view" else "out.html")
        options = ("--output", output, "--images", tmp_path / "images.npy")
        sentence = f"No such file or directory: '{tmp_path / 'images.npy'}'."
        assert refused(capsys, command, folder, *options) == sentence
        assert not output.exists()


def test_records_of_two_data_sets_are_refused_before_anything_is_printed(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    write_run(tmp_path / "other", 0, num_examples=20)
    assert refused(capsys, "compare", folder, tmp_path / "other") == (
        f"A and B are not of the same data: the first has {NUM_EXAMPLES} examples and the second 20, so an index no"
        " longer names the same example: compare records of one data set."
    )


# ------------------------------------------------------------------ packages


@pytest.mark.parametrize(
    ("command", "module", "sentence"),
    [
        ("view --output out", "matplotlib.figure", "draw_histogram needs matplotlib: install it with pip install"),
        ("score --output rows.parquet", "pyarrow", "A .parquet file needs pyarrow: install it with pip install"),
    ],
)
def test_a_missing_package_is_named_by_what_an_index_has(
    command: str,
    module: str,
    sentence: str,
    folder: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    name, *options = command.split()
    assert refused(capsys, name, folder, *options) == f"{sentence} {module.partition('.')[0]}."


def test_no_hint_names_this_package_as_one_to_install_from_an_index() -> None:
    root = Path(__file__).parents[2]
    files = [*(root / "lightning_easiness").rglob("*.py"), *(root / "examples").rglob("*.py"), root / "README.md"]
    hints = [hint for file in files for hint in re.findall(r"pip install [^\n`]*", file.read_text())]
    assert len(hints) > 3
    assert not [hint for hint in hints if "easiness" in hint]


# ------------------------------------------------------------------ ties


def forgetful(folder: Path, num_examples: int = 200) -> tuple[Tensor, Tensor]:
    """A run in which 94 % of the examples are never forgotten; return the final losses and the forgetting events."""
    loss = torch.rand(num_examples, generator=torch.Generator().manual_seed(0)) * 4
    forgotten = torch.arange(num_examples) % 17 == 0
    for step, correct in ((0, torch.ones(num_examples, dtype=torch.bool)), (120, ~forgotten)):
        fields = {**make_fields(step, num_examples), "loss": loss, "correct": correct}
        write_run(folder, 0, steps=(step,), fields=fields, num_examples=num_examples, complete=step > 0)
    return loss, forgotten.long()


def slow_rate(loss: Tensor, forgotten: Tensor, count: int, hard: bool) -> float:
    """The mean matching rate over many draws among the examples that tie."""
    chosen = set(loss.sort(descending=hard).indices[:count].tolist())
    generator, rates, events = torch.Generator().manual_seed(1), [], forgotten.tolist()
    for _ in range(4000):
        drawn = torch.randperm(len(forgotten), generator=generator).tolist()
        order = sorted(drawn, key=lambda example: events[example], reverse=hard)  # stable: ties as drawn
        rates.append(len(chosen & set(order[:count])) / count)
    return float(np.mean(rates))


def test_a_score_of_which_nearly_all_examples_tie_matches_another_by_chance(tmp_path: Path, capsys: Output) -> None:
    loss, forgotten = forgetful(tmp_path / "run")
    out = printed(capsys, "compare", tmp_path / "run", "--score-b", "forgetting_events")
    rows = {
        line.split()[0]: line.split() for line in out.splitlines() if line.strip().startswith(("easiest", "hardest"))
    }
    assert [rows["easiest"][place] for place in (1, 2, 4, 5)] == ["0.1", "20", "0.1000", "94.0%"]
    assert [rows["hardest"][place] for place in (1, 2, 4, 5)] == ["0.1", "20", "0.1000", "94.0%"]
    for end in ("easiest", "hardest"):
        rate = slow_rate(loss, forgotten, 20, end == "hardest")
        assert float(rows[end][3]) == pytest.approx(rate, abs=0.01)
        assert rate < 0.3
    record = EasinessRecord.load(tmp_path / "run")
    sets = [record.score(name).easiest(0.1) for name in ("mean_loss", "forgetting_events")]
    assert functional.matching_rate(*sets) == 1, "what breaking the ties of one score by the other says"
    assert (
        "Tied: examples that are equal at the edge of the set. A fair draw decides which of them are in it; the"
        " matching rate is the mean over all draws, so that no other score breaks the ties.\n"
    ) in out


def test_without_ties_nothing_is_said_of_them(folder: Path, capsys: Output) -> None:
    assert "tied" not in printed(capsys, "compare", folder, "--score-b", "margin").lower()
