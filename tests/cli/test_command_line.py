"""The command line: each command says what the library says, and invalid input ends in one sentence."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import Subset

from lightning_easiness import (
    Ablation,
    EasinessCallback,
    EasinessRecord,
    Gap,
    Hardest,
    Keep,
    Mixture,
    Refine,
    __version__,
    find_label_issues,
    functional,
)
from lightning_easiness.cli import commands
from lightning_easiness.cli.main import main
from lightning_easiness.scores import SCORES
from lightning_easiness.select import static
from tests.labels.test_find import N as NUM_LABELS
from tests.labels.test_find import write as write_labelled
from tests.made_runs import NUM_EXAMPLES, write_run
from tests.processes import run
from tests.small import Net, Points, loader, trainer
from tests.view.helpers import read_events

ROOT = Path(__file__).parents[2]
Output = pytest.CaptureFixture[str]
pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs of three checkpoints, observed by a probe and online."""
    for seed in range(3):
        write_run(tmp_path / "record", seed)
        write_run(tmp_path / "record", seed, series="train-online", complete=False)
    return tmp_path / "record"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A run that shows eight of sixty labels to be wrong."""
    for series in ("train-online", "train-probe"):
        write_labelled(tmp_path / "labelled", series=series)
    return tmp_path / "labelled"


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Five folds."""
    for seed in range(5):
        write_run(tmp_path / "folds", seed, held_out=torch.arange(NUM_EXAMPLES) % 5 == seed)
    return tmp_path / "folds"


def call(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def error_of(capsys: Output, *arguments: object) -> str:
    """The one line that is printed for invalid input."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("lightning-easiness: error: ")
    return printed[0].removeprefix("lightning-easiness: error: ")


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------ score


def test_score_prints_what_was_recorded(folder: Path, capsys: Output) -> None:
    call("score", folder, "--head", 2)
    printed = capsys.readouterr().out
    record = EasinessRecord.load(folder)
    scores = record.score("mean_loss")
    assert printed.startswith(
        f"{folder}: 3 runs, 3 checkpoints (steps 0 to 240), 37 examples of 5 classes, series train-probe (there is also"
        " train-online)\nmean_loss at step 240, epoch 2: low is easy. Mean loss over runs.\n"
    )
    quantiles = printed.splitlines()[5].split()
    assert quantiles == [f"{np.quantile(scores.values.double(), q):.4g}" for q in (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)]
    assert str(record.agreement()) in printed
    for end in ("easiest", "hardest"):
        expected = [
            [str(i), f"{scores.values[i]:.4g}", f"{scores.spread[i]:.4g}", str(i % 5), str(int(scores.ranks[i]))]
            for i in getattr(scores, end)(1.0)[:2].tolist()
        ]
        assert [line.split() for line in printed.partition(f"The {end} 2:")[2].splitlines()[2:4]] == expected


@pytest.mark.filterwarnings("ignore:9 of 37 examples have no correctness")
@pytest.mark.filterwarnings("ignore:.*were seen in fewer than all")
def test_score_takes_the_series_the_checkpoint_and_the_seed(folder: Path, tmp_path: Path) -> None:
    options = ("--series", "train-online", "--checkpoint", 1, "--seed", 4, "--score", "correctness")
    call("score", folder, *options, "--hardest", 0.5, "--output", tmp_path / "rows.csv")
    expected = EasinessRecord.load(folder, "train-online").score("correctness", 1, seed=4).hardest(0.5)
    assert [int(row["example"]) for row in rows_of(tmp_path / "rows.csv")] == expected.tolist()


def test_score_writes_what_the_library_writes(folder: Path, tmp_path: Path) -> None:
    scores = EasinessRecord.load(folder).score("margin")
    scores.to_csv(tmp_path / "expected.csv")
    call("score", folder, "--score", "margin", "--output", tmp_path / "new" / "all.csv")
    assert (tmp_path / "new" / "all.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    call("score", folder, "--score", "margin", "--easiest", 0.2, "--output", tmp_path / "some.csv")
    whole = rows_of(tmp_path / "expected.csv")
    assert rows_of(tmp_path / "some.csv") == [whole[index] for index in scores.easiest(0.2).tolist()]


NAMES = ("ant", "bee", "cow", "dog")
PART = [11, 3, 40, 7, 52, 19, 28, 33, 5, 14]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit on a Subset of a data set that lists its classes."""
    path, data = tmp_path_factory.mktemp("named"), Points()
    data.classes = list(NAMES)  # type: ignore[attr-defined]
    callback = EasinessCallback(path, num_images=0)
    trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader(Subset(data, PART)))
    return path


def test_score_names_labels_and_predictions_and_leads_to_the_source(
    named: Path, tmp_path: Path, capsys: Output
) -> None:
    call("score", named, "--head", 1, "--output", tmp_path / "scores.csv")
    printed = capsys.readouterr().out
    record = EasinessRecord.load(named)
    assert "10 examples of 4 classes in a Subset (source_index leads to the whole), series train-probe" in printed
    hardest = int(record.score("mean_loss").hardest(1.0)[0])
    header, row = (line.split() for line in printed.partition("The hardest 1:")[2].splitlines()[1:3])
    assert header == ["example", "score", "spread", "target", "predicted", "rank", "source_index"]
    labels = [NAMES[int(record.target[hardest])], NAMES[int(record.prediction[0, -1, hardest])]]
    assert (row[0], row[3:5], row[6]) == (str(hardest), labels, str(PART[hardest]))
    rows = rows_of(tmp_path / "scores.csv")
    assert [int(row["source_index"]) for row in rows] == PART
    assert [Points().y[int(row["source_index"])] for row in rows] == [int(row["target"]) for row in rows]
    assert [NAMES[int(row["predicted"])] for row in rows] == [row["predicted_name"] for row in rows]


def test_issues_name_labels_and_predictions_and_lead_to_the_source(named: Path, tmp_path: Path, capsys: Output) -> None:
    warnings.simplefilter("ignore")
    call("issues", named, "--head", 1, "--rule", 0.2, "--output", tmp_path / "issues.csv")
    header, row = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    first = rows_of(tmp_path / "issues.csv")[0]
    assert header[:4] == ["index", "given", "predicted", "suggested"]
    assert row[:3] == [first["index"], first["given_name"], first["predicted_name"]]
    assert int(first["source_index"]) == PART[int(first["index"])]
    call("issues", named, "--head", 1, "--rule", 0.2, "--class-names", "w", "x", "y", "z")
    assert capsys.readouterr().out.splitlines()[-1].split()[1] == "wxyz"[int(first["given"])]


def test_a_selection_in_csv_leads_to_the_source(named: Path, tmp_path: Path, capsys: Output) -> None:
    call("select", named, "--ratio", 0.3, "--output", tmp_path / "kept.csv")
    assert capsys.readouterr().err.endswith(
        " Indices count in the part that was trained on; a .csv has those in the whole data set too.\n"
    )
    rows = rows_of(tmp_path / "kept.csv")
    assert len(rows) == 7
    assert all(int(row["source_index"]) == PART[int(row["example"])] for row in rows)


def test_class_names_come_from_the_option_first(named: Path, capsys: Output) -> None:
    call("score", named, "--head", 1, "--class-names", "w", "x", "y", "z")
    assert capsys.readouterr().out.splitlines()[-1].split()[3] in "wxyz"
    assert error_of(capsys, "score", named, "--class-names", "w") == (
        "`class_names` must name the labels 0 to 3; got 1 names."
    )


def test_score_writes_parquet(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    scores = EasinessRecord.load(folder).score("mean_loss")
    call("score", folder, "--output", tmp_path / "all.parquet")
    call("score", folder, "--hardest", 0.2, "--output", tmp_path / "some.parquet")
    expected = scores.to_pandas()
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "all.parquet"), expected)
    some = pandas.read_parquet(tmp_path / "some.parquet")
    pandas.testing.assert_frame_equal(some, expected.loc[scores.hardest(0.2).tolist()])


@pytest.mark.parametrize("arguments", [("--list",), ("--score", "list")])
def test_the_list_of_scores_is_that_of_the_registry(arguments: tuple[str, ...], capsys: Output) -> None:
    call("score", *arguments)
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+): ", printed, flags=re.MULTILINE) == list(SCORES)
    for definition in SCORES.values():
        assert definition.doc in printed
        assert definition.paper in printed
    assert printed.count("neither end is easy") == sum(not score.ranks_difficulty for score in SCORES.values()) == 4


def test_the_ends_of_a_score_that_ranks_no_difficulty_are_low_and_high(folder: Path, capsys: Output) -> None:
    call("score", folder, "--score", "variability", "--head", 1)
    printed = capsys.readouterr().out
    values = EasinessRecord.load(folder).score("variability").values
    for name, index in (("lowest", values.argmin()), ("highest", values.argmax())):
        assert re.search(rf"The {name} 1:\n.*\n +{int(index)} ", printed)


def test_a_score_of_the_users_own(
    folder: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scores_of_mine.py").write_text(
        "from math import inf\n"
        "from lightning_easiness.scores import ScoreDefinition, register_score\n"
        "register_score(ScoreDefinition('worst_loss', lambda loss: loss.amax(0), ('loss',), 'checkpoint', False,"
        " (0.0, inf), '', 'Largest loss of all runs.'))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    try:
        call("score", folder, "--import", "scores_of_mine", "--score", "worst_loss")
    finally:
        SCORES.pop("worst_loss", None)
    assert "worst_loss at step 240, epoch 2: low is easy. Largest loss of all runs." in capsys.readouterr().out
    assert error_of(capsys, "score", folder, "--import", "no_such_module") == "No module named 'no_such_module'"


@pytest.mark.filterwarnings("default")
def test_the_folder_of_one_run_and_examples_without_a_score(tmp_path: Path, capsys: Output) -> None:
    loss = torch.full((NUM_EXAMPLES,), torch.nan)
    loss[4] = 1.5
    path = write_run(tmp_path, 0, steps=(7,), fields={"loss": loss}, num_classes=None)
    call("score", path)
    printed = capsys.readouterr()
    assert f"{path}: 1 run, 1 checkpoint (step 7), 37 examples, series train-probe\n" in printed.out
    assert "Agreement" not in printed.out
    assert re.search(r"The hardest 1:\n.*\n +4 +1.5 +- +4 +1\n", printed.out)
    assert printed.err.startswith(
        "lightning-easiness: warning: 36 of 37 examples have no mean_loss (NaN in some run): they are in neither"
        " easiest() nor hardest().\n"
    )


# ------------------------------------------------------------------ select


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--remove", "random", "--seed", 3), {"remove": "random", "seed": 3}),
        (("--sampling", "beta", "--per-class"), {"sampling": "beta", "class_balanced": True}),
        (("--remove", "hard", "--sampling", "beta"), {"remove": "hard", "sampling": "beta"}),
        (("--sampling", "top", "--score", "count"), {"sampling": "top", "score": "count"}),
        (("--sampling", "window", "--hardest-dropped", 0.1), {"sampling": "window", "hardest_dropped": 0.1}),
        (("--sampling", "stratified", "--num-strata", 3), {"sampling": "stratified", "num_strata": 3}),
    ],
)
def test_select_keeps_what_ablation_keeps(
    arguments: tuple[object, ...], options: dict[str, Any], folder: Path, capsys: Output
) -> None:
    call("select", folder, "--ratio", 0.3, *arguments)
    printed = capsys.readouterr()
    kept = Ablation(folder, 0.3, **options).kept
    assert printed.out == "".join(f"{index}\n" for index in kept.tolist())
    assert printed.err.startswith("Kept 26 of 37 examples (70.3%), removed ")
    assert len(printed.err.splitlines()) == 1, "nothing was written, so that no next step can use it"


def test_a_selection_goes_into_keep(folder: Path, tmp_path: Path, capsys: Output) -> None:
    options = ("--ratio", 0.5, "--series", "train-probe", "--checkpoint", 0)
    expected = Ablation(EasinessRecord.load(folder).score("mean_loss", 0), 0.5).kept
    for suffix in ("npy", "txt", "csv"):
        call("select", folder, *options, "--output", tmp_path / "new" / f"kept.{suffix}")
    assert capsys.readouterr().out == ""
    found = np.load(tmp_path / "new" / "kept.npy", allow_pickle=False)
    assert found.dtype == np.int64
    assert torch.equal(Keep(found).indices, expected)
    assert np.loadtxt(tmp_path / "new" / "kept.txt", dtype=int).tolist() == expected.tolist()
    assert [int(row["example"]) for row in rows_of(tmp_path / "new" / "kept.csv")] == expected.tolist()


@pytest.mark.filterwarnings("default")
def test_a_class_that_is_lost_is_warned_of(folder: Path, capsys: Output) -> None:
    call("select", folder, "--ratio", 0.95, "--sampling", "top")
    printed = capsys.readouterr()
    lost = sorted(set(range(5)) - {int(line) % 5 for line in printed.out.split()})
    assert f"warning: no example with the label {', '.join(map(str, lost))} is kept: see --per-class." in printed.err


def test_the_samplings_are_those_of_ablation() -> None:
    assert get_args(commands.Sampling) == get_args(static.Sampling)


# ------------------------------------------------------------------ compare


def test_compare_gives_the_rates_of_the_library(folder: Path, tmp_path: Path, capsys: Output) -> None:
    for seed in (5, 6):
        write_run(tmp_path / "other", seed)
    call("compare", folder, tmp_path / "other", "--fractions", 0.1, 0.5)
    printed = capsys.readouterr().out
    records = [EasinessRecord.load(path) for path in (folder, tmp_path / "other")]
    a, b = (record.score("mean_loss") for record in records)
    for end in ("easiest", "hardest"):
        for fraction, count in ((0.1, 4), (0.5, 19)):
            rate = float(functional.matching_rate(getattr(a, end)(fraction), getattr(b, end)(fraction)))
            assert re.search(rf"{end} +{fraction} +{count} +{rate:.4f} +{fraction:.4f}\n", printed)
    assert f"Spearman): {float(functional.rank_correlation(a.values, b.values)):.4f}\n" in printed
    for letter, record in zip("AB", records, strict=True):
        expected = f"{letter} and {record.num_runs} other runs of its kind: {record.agreement().full_agreement:.4f}\n"
        assert expected in printed


@pytest.mark.filterwarnings("ignore")
def test_compare_within_a_record(folder: Path, capsys: Output) -> None:
    record = EasinessRecord.load(folder)
    loss, margin = record.score("mean_loss"), record.score("margin")
    call("compare", folder, "--score-b", "margin", "--of", "hardest")
    printed = capsys.readouterr().out
    assert "easiest" not in printed
    assert f"{float(functional.matching_rate(loss.hardest(0.1), margin.hardest(0.1))):.4f}  0.1000" in printed
    assert f"Spearman): {float(functional.rank_correlation(loss.values, -margin.values)):.4f}\n" in printed
    call("compare", folder, "--checkpoint-b", 0)
    first = record.score("mean_loss", 0)
    printed = capsys.readouterr().out
    assert f"Spearman): {float(functional.rank_correlation(loss.values, first.values)):.4f}\n" in printed
    assert f"B and 3 other runs of its kind: {record.agreement(checkpoint=0).full_agreement:.4f}\n" in printed
    call("compare", folder, "--series-b", "train-online")
    assert "series train-online (there is also train-probe)" in capsys.readouterr().out


def test_compare_refuses_other_data(folder: Path, tmp_path: Path, capsys: Output) -> None:
    write_run(tmp_path / "shorter", 0, num_examples=20)
    target = torch.arange(NUM_EXAMPLES) % 5
    target[8:10] = torch.tensor([0, -1])
    write_run(tmp_path / "relabelled", 0, target=target)
    for other, problem in (
        ("shorter", "the first has 37 examples and the second 20"),
        ("relabelled", "example 8 has target 3 in the first and 0 in the second (1 of 37 differ)"),
    ):
        assert error_of(capsys, "compare", folder, tmp_path / other) == (
            f"A and B are not of the same data: {problem}, so an index no longer names the same example: compare"
            " records of one data set."
        )
    assert error_of(capsys, "compare", folder).startswith("compare needs a PATH_B; or --score-b, ")


# ------------------------------------------------------------------ issues


def test_issues_are_those_of_the_library(labelled: Path, tmp_path: Path, capsys: Output) -> None:
    call("issues", labelled, "--output", tmp_path / "issues.csv", "--head", 3)
    printed, remarks = capsys.readouterr()
    expected = find_label_issues(labelled)
    expected.to_csv(tmp_path / "expected.csv")
    assert (tmp_path / "issues.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    assert printed.startswith(f"{expected.explanation}\n{len(expected.flagged)} of {NUM_LABELS} labels are flagged.\n")
    hint = "No label is suggested: training with EasinessCallback(probabilities=True) records what suggests them."
    assert printed.splitlines()[3:] == str(expected.head(3)).splitlines()
    assert remarks.splitlines()[0] == hint


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("--rule", "gap"), {"rule": Gap()}),
        (("--rule", 0.1, "--score", "mean_loss"), {"rule": Hardest(0.1), "score": "mean_loss"}),
        (("--num-suspects", 5, "--seed", 2), {"rule": Hardest(5), "seed": 2}),
        (("--refine", "hard", "--rule", "mixture"), {"refine": Refine("hard"), "rule": Mixture()}),
        (("--series", "train-probe", "--checkpoint", 0), {"series": "train-probe", "checkpoint": 0}),
    ],
)
def test_options_of_issues(
    arguments: tuple[object, ...], options: dict[str, Any], labelled: Path, tmp_path: Path, capsys: Output
) -> None:
    call("issues", labelled, *arguments, "--output", tmp_path / "issues.csv", "--head", 0)
    source: Any = labelled
    if "series" in options:
        record = EasinessRecord.load(labelled, options["series"])
        source, options = record.score("weighted_area_under_margin", options["checkpoint"]), {}
    expected = find_label_issues(source, **options)
    found = rows_of(tmp_path / "issues.csv")
    assert [int(row["index"]) for row in found if row["is_issue"] == "True"] == expected.flagged.tolist()
    assert capsys.readouterr().out.startswith(expected.explanation)


def test_labels_of_a_file_are_compared_with_the_record(labelled: Path, tmp_path: Path, capsys: Output) -> None:
    labels = np.arange(NUM_LABELS) % 3
    np.save(tmp_path / "same.npy", labels)
    (tmp_path / "same.csv").write_text("name,label\n" + "".join(f"a,{label}\n" for label in labels))
    (tmp_path / "same.txt").write_text("".join(f"{label}\n" for label in labels))
    rows = [f"{label},{index}\n" for index, label in enumerate(labels)]  # the label in column 0, rows in no order
    (tmp_path / "rows.csv").write_text("label,index\n" + "".join(reversed(rows)))
    rows = [f"{index},{label}\n" for index, label in enumerate(labels)]
    (tmp_path / "table.csv").write_text("index,label\n" + "".join(reversed(rows)))
    for name in ("same.npy", "same.csv", "same.txt", "rows.csv", "table.csv"):
        call("issues", labelled, "--target", tmp_path / name)
    capsys.readouterr()
    np.save(tmp_path / "other.npy", (labels + (labels == 0)).astype(np.uint8))
    message = error_of(capsys, "issues", labelled, "--target", tmp_path / "other.npy")
    assert (
        "`target` of find_label_issues are not of the same data: example 0 has target 0 in the first and 1" in message
    )


def test_files_that_hold_no_labels(labelled: Path, tmp_path: Path, capsys: Output) -> None:
    np.save(tmp_path / "float.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "empty.npy").touch()
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    (tmp_path / "words.txt").write_text("1\ncat\n")
    (tmp_path / "empty.txt").touch()
    for name, message in {
        "float.npy": "must hold labels, integers (N,); got float64 (3,).",
        "pickle.npy": "is no .npy file of numbers (",
        "empty.npy": "is no .npy file of numbers (",
        "two.csv": "must hold one label per line, or a column 'target', 'label' or 'given'; got ['a', 'b'].",
        "empty.txt": "is empty: it must hold one label per line.",
        "words.txt": "must hold an integer label in each line, -1 where not known (",
        "missing.npy": "No such file or directory",
    }.items():
        assert message in error_of(capsys, "issues", labelled, "--target", tmp_path / name)


def test_a_rule_that_needs_two_trainings(labelled: Path, capsys: Output) -> None:
    assert "give the folder of ThresholdRuns" in error_of(capsys, "issues", labelled, "--rule", "threshold")


# ------------------------------------------------------------------ view


def test_view_draws_what_needs_no_data(folder: Path, tmp_path: Path, capsys: Output) -> None:
    call("view", folder, "--output", tmp_path / "a" / "b", "--score", "el2n", "--tensorboard")
    names = ("el2n_histogram.png", "el2n_curves.png", "data_map.png", "tensorboard")
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a" / "b" / name) for name in names]
    assert all((tmp_path / "a" / "b" / name).exists() for name in names)
    histograms = read_events(tmp_path / "a" / "b" / "tensorboard").Histograms("easiness/el2n")
    assert [histogram.step for histogram in histograms] == [0, 119, 239]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (1, 8, 8)])
def test_view_draws_grids_of_images(shape: tuple[int, ...], labelled: Path, tmp_path: Path, capsys: Output) -> None:
    images = np.random.default_rng(0).integers(256, size=(NUM_LABELS, *shape), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    options = ("--images", tmp_path / "images.npy", "--num-images", 4, "--class-names", "one", "two", "three")
    call("view", labelled, "--output", tmp_path / "view", *options, "--tensorboard", "--checkpoint", 1)
    names = {path.name for path in (tmp_path / "view").iterdir()}
    assert names >= {"mean_loss_easiest.png", "mean_loss_hardest.png", "suspects.png", "mean_loss_histogram.png"}
    found = read_events(tmp_path / "view" / "tensorboard")
    assert {"easiness/mean_loss/hardest", "easiness/label_issues/suspects"} <= set(found.Tags()["images"])
    assert [histogram.step for histogram in found.Histograms("easiness/log10_mean_loss")] == [0, 119]
    assert len(capsys.readouterr().out.splitlines()) == len(names)


def test_what_a_record_cannot_show_is_said(tmp_path: Path, capsys: Output) -> None:
    path = write_run(tmp_path, 0, steps=(5,), target=torch.zeros(NUM_EXAMPLES, dtype=torch.int64))
    np.save(tmp_path / "images.npy", np.zeros((NUM_EXAMPLES, 4, 4), dtype=np.uint8))
    call("view", path, "--output", tmp_path / "view", "--images", tmp_path / "images.npy")
    printed = capsys.readouterr()
    drawn = [Path(line).name for line in printed.out.splitlines()]
    assert drawn == ["mean_loss_histogram.png", "mean_loss_easiest.png", "mean_loss_hardest.png"]
    reasons = [line.partition(": ")[2].split(": ")[0] for line in printed.err.splitlines()[:-1]]
    assert reasons == ["no mean_loss_curves.png", "no data_map.png", "no suspects.png"]


@pytest.mark.filterwarnings("default")
def test_view_without_matplotlib(folder: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    sentence = "draw_histogram needs matplotlib: install it with pip install matplotlib."
    assert error_of(capsys, "view", folder, "--output", tmp_path / "view") == sentence
    call("view", folder, "--output", tmp_path / "view", "--tensorboard")
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == f"lightning-easiness: warning: {sentence}"
    assert printed.out == f"{tmp_path / 'view' / 'tensorboard'}\n"


def test_files_that_hold_no_images(folder: Path, tmp_path: Path, capsys: Output) -> None:
    for array in (np.zeros((4, 9), dtype=np.uint8), np.zeros((4, 5, 5, 5), dtype=np.uint8), np.zeros((4, 5, 5), bool)):
        np.save(tmp_path / "images.npy", array)
        message = error_of(capsys, "view", folder, "--output", tmp_path, "--images", tmp_path / "images.npy")
        assert message.endswith(f"of 1, 3 or 4 channels; got {array.dtype} {array.shape}.")
    np.save(tmp_path / "images.npy", np.zeros((4, 5, 5), dtype=np.uint8))
    message = error_of(capsys, "view", folder, "--output", tmp_path / "view", "--images", tmp_path / "images.npy")
    assert "the first has 4 examples and the second 37" in message


# ------------------------------------------------------------------ invalid input, and the process


@pytest.mark.parametrize(
    "command", ["score", "select --ratio 0.3", "compare --score-b count", "issues", "view --output x"]
)
def test_a_folder_that_is_not_there(command: str, capsys: Output, tmp_path: Path) -> None:
    name, *options = command.split()
    assert error_of(capsys, name, tmp_path / "none", *options).startswith(
        f"'{tmp_path / 'none'}' is not a folder: give the folder"
    )
    assert error_of(capsys, name, tmp_path, *options).startswith(f"There is no run in '{tmp_path}'")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("There is no score 'nothing': choose from mean_loss", "score RECORD --score nothing"),
        (
            "`checkpoint` must be an index of the record's 3 checkpoints, 0 to 2, or -3 to -1 from the end; got 3.",
            "score RECORD --checkpoint 3",
        ),
        ("score needs the PATH of a record; score --list", "score"),
        ("select needs the PATH of a record", "select --ratio 0.3"),
        ("No run in", "score RECORD --series val-probe"),
        (
            "--easiest must be in (0, 1], a fraction of the examples; got 2: for 2 % write --easiest 0.02",
            "score RECORD --easiest 2",
        ),
        ("--ratio must be in [0, 1), the fraction to remove; got 1.", "select RECORD --ratio 1"),
        ("The `scores` of Ablation hold", "select RECORD --ratio 0.1 --series train-online --score count"),
        ("select needs either --ratio, the fraction to remove, or --decisions, a file", "select RECORD"),
        ("select needs either --ratio, the", "select RECORD --ratio 0.1 --decisions x.json"),
        ("The file must end in .json; got 'x.npy'.", "select RECORD --decisions x.npy"),
        ("--ratio cannot be 'half': --help says what it takes.", "select RECORD --ratio half"),
        (
            "--sampling cannot be 'best' (did you mean 'beta'?): choose from proportional, beta, top, stratified,",
            "select RECORD --ratio 0.1 --sampling best",
        ),
        ("--num-strata cannot be '0.5': --help says", "select RECORD --ratio 0.1 --num-strata 0.5"),
        ("--fractions cannot be 'all': --help says", "compare RECORD --score-b count --fractions all"),
        ("The file must end in .csv or .parquet; got 'x.txt'.", "score RECORD --output x.txt"),
        ("--easiest is not allowed with --hardest", "score RECORD --easiest 0.1 --hardest 0.1"),
        ("--head must be at least 0; got -1.", "issues RECORD --head -1"),
        (
            "--rule must be held_out, threshold, contradicted, confident, mixture, gap, or a fraction",
            "issues RECORD --rule x",
        ),
        ("--percentile is of --rule threshold: give both.", "issues RECORD --rule gap --percentile 95"),
        ("--num-suspects is not allowed with --rule", "issues RECORD --rule gap --num-suspects 3"),
        ("There is no option --nope: --help lists them.", "score RECORD --nope"),
        ("There is no command 'train': choose from runs, score, select,", "train"),
        ("There is no command 'isues' (did you mean 'issues'?): choose", "isues"),
        ("There is no score 'margn' (did you mean 'margin'?): choose", "score RECORD --score margn"),
        ("holds the series 'train-onlin' (did you mean 'train-online'?)", "score RECORD --series train-onlin"),
        ("There is no option --serie (did you mean '--series'?)", "score RECORD --serie train-probe"),
        ("There is no option --jsn (did you mean '--json'?)", "runs RECORD --jsn"),
        ("or a fraction such as 0.05; got 'mixtur' (did you mean 'mixture'?).", "issues RECORD --rule mixtur"),
        (
            "--remove cannot be 'esy' (did you mean 'easy'?): choose from easy, hard, random.",
            "select RECORD --ratio 0.1 --remove esy",
        ),
        ("runs needs the PATH of a record.", "runs"),
    ],
)
def test_invalid_input_ends_in_one_sentence(message: str, arguments: str, folder: Path, capsys: Output) -> None:
    assert message in error_of(capsys, *(folder if word == "RECORD" else word for word in arguments.split()))


def test_help_names_every_command_and_option(capsys: Output) -> None:
    call("--help")
    overview = capsys.readouterr().out
    assert all(f"\n  {name} " in overview for name in commands.COMMANDS)
    with pytest.raises(SystemExit) as ended:
        main(["view", "--help"])
    assert ended.value.code == 0
    assert "--class-names" in capsys.readouterr().out
    call("--version")
    assert capsys.readouterr().out.strip() == __version__


def test_a_refusal_can_be_traced_and_a_bug_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="There is no score"):
        main(["score", str(folder), "--score", "nothing", "--traceback"])
    monkeypatch.setattr(EasinessRecord, "load", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        main(["score", str(folder)])


@pytest.mark.filterwarnings("default")
def test_a_file_that_is_left_out_is_warned_of_in_one_line(folder: Path, capsys: Output) -> None:
    (folder / "seed-1" / "run.json").write_text("{")
    call("score", folder)
    printed = capsys.readouterr()
    assert ": 2 runs," in printed.out
    first = printed.err.splitlines()[0]
    assert re.fullmatch(r"lightning-easiness: warning: Left out: '[^\n]*' is damaged [^\n]*", first)
    assert warnings.showwarning.__module__ != "lightning_easiness.cli.main", "it is put back"


def test_python_m_and_the_entry_point(folder: Path, tmp_path: Path) -> None:
    done = run("-m", "lightning_easiness", "score", folder, "--easiest", 0.2, "--output", tmp_path / "rows.csv")
    assert done.returncode == 0
    assert all(line.startswith("next, ") for line in done.stderr.splitlines())
    assert [int(row["example"]) for row in rows_of(tmp_path / "rows.csv")] == (
        EasinessRecord.load(folder).score("mean_loss").easiest(0.2).tolist()
    )
    done = run("-m", "lightning_easiness", "score", folder / "none")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]\n")[2]
    assert scripts.startswith('lightning-easiness = "lightning_easiness.cli.main:main"\n')


@pytest.mark.skipif(os.name != "posix", reason="pipes of another kind")
def test_nobody_reads_on() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "lightning_easiness", "score", "--list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120, check=False, cwd=ROOT)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


_LOADED = """
import json, sys
from contextlib import suppress
from lightning_easiness.cli.main import main
slow = ("torch", "numpy", "lightning", "torchvision", "matplotlib", "tensorboard")
for command in json.loads(sys.argv[1]):
    with suppress(SystemExit):
        main(command)
    print("loaded", *(name for name in slow if name in sys.modules))
"""


def test_no_command_loads_what_it_does_not_need(folder: Path) -> None:
    def loaded(*commands: tuple[object, ...]) -> list[list[str]]:
        """What is loaded after each of the commands, one after another in a process."""
        given = json.dumps([list(map(str, command)) for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", _LOADED, given], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded")]

    assert loaded(("--help",), ("view", "--help"), ("select", folder)) == [[]] * 3
    commands = [
        ("score", folder),
        ("compare", folder, "--score-b", "count"),
        ("runs", folder),
        ("select", folder, "--ratio", 0.3),
        ("issues", folder),
        ("report", folder, "--output", folder / "report.html"),
    ]
    assert loaded(*commands) == [["torch", "numpy"]] * 6


# ------------------------------------------------------------------ runs that hold out


@pytest.mark.parametrize("name", ["memorization", "held_out_loss"])
def test_scores_of_runs_that_hold_out(held_out: Path, capsys: Output, name: str) -> None:
    call("score", held_out, "--score", name, "--hardest", 0.1)
    call("compare", held_out, "--score", name, "--score-b", "mean_loss")
    printed = capsys.readouterr().out
    record = EasinessRecord.load(held_out)
    hardest = record.score(name).hardest(0.1).tolist()
    assert f"\n{hardest[0]:>7}  " in printed
    assert "Agreement" not in printed, "each example is held out once"
    mean = record.score(name).values.mean()
    sentence = (
        f"\nMean {mean:.4g}; a standard error needs examples that two runs trained on and two held out, and there are"
        " none: train four seeds or more, as with hold_out=0.5."
    )
    assert (sentence in printed) == (name == "memorization")
    assert ("The most memorized 4, the first 4:" in printed) == (name == "memorization")
    assert "To expect between B and 5 other runs" in printed


def test_views_of_runs_that_hold_out(held_out: Path, tmp_path: Path) -> None:
    call("view", held_out, "--score", "memorization", "--output", tmp_path / "view")
    assert {path.name for path in (tmp_path / "view").iterdir()} >= {
        "memorization_histogram.png",
        "memorization_curves.png",
    }
