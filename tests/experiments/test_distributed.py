"""Experiments shared by two processes: gloo on the CPU, started as a user's script starts them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lightning_easiness import EasinessRecord, Threshold, ThresholdExamples, find_label_issues
from lightning_easiness.experiments.halves import ARGUMENTS_FILE
from lightning_easiness.functional import held_out_part
from lightning_easiness.record.layout import is_complete
from tests.distributed_experiments import (
    EPOCHS,
    PERCENTILE,
    SEED,
    SEEDS,
    N,
    as_plain,
    held_out_runs,
    make_trainer,
    protocol,
    still,
)
from tests.processes import run_script
from tests.small import NUM_CLASSES, Points, assert_identical, recorded

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

RUNS = [f"seed-{seed}" for seed in SEEDS]
TABLE = ("index", "given", "suggested", "score", "spread", "is_issue", "probabilities", "threshold")


def start(folder: Path, *scenarios: str) -> None:
    """Both processes end by themselves, and well."""
    ended = run_script("distributed_experiments", folder, *scenarios, time_limit=240, ranks=2)
    assert ended.returncode == 0, ended.stderr[-5000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("two")
    start(made, "still_weights", "learning", "refused", "compression", "held_out")
    return made


def left(folder: Path, scenario: str, name: str = "table") -> list[dict[str, Any]]:
    """What each process left, of which none may be missing."""
    return [torch.load(folder / scenario / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]


def records(folder: Path, scenario: str) -> list[EasinessRecord]:
    return [EasinessRecord.load(folder / scenario / "runs" / f"half-{part}", "train-online") for part in (0, 1)]


def test_both_processes_end_with_the_same_table_of_each_example(folder: Path) -> None:
    first, second = left(folder, "learning")
    for name in TABLE:
        assert_identical(first[name], second[name], name)
    assert sorted(first["index"].tolist()) == list(range(N))
    assert torch.equal(first["given"], Points(N).y[first["index"]]), "each under its own label"
    assert len(first["score"].unique()) > N // 2
    margins = [records(folder, scenario)[0].field("margin", -1) for scenario in ("still_weights", "learning")]
    assert (margins[0] - margins[1]).abs().mean() > 0.1, "learning moves the weights"


def test_whole_runs_are_written_once(folder: Path) -> None:
    runs = folder / "learning" / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["half-0", "half-1", ARGUMENTS_FILE]
    assert [path.name for half in sorted(runs.glob("half-*")) for path in sorted(half.iterdir())] == [*RUNS, *RUNS]
    assert all(is_complete(half / run) for half in runs.glob("half-*") for run in RUNS)
    first, second = left(folder, "learning")
    assert (first["written"], second["written"]) == ([ARGUMENTS_FILE], []), "once, whatever the number of runs"
    assert first["made"] == second["made"] == 2 * len(SEEDS)
    for part, record in enumerate(records(folder, "learning")):
        assert (record.runs, record.num_checkpoints, record.num_classes) == (RUNS, EPOCHS, NUM_CLASSES + 1)
        assert record.count.min() == 1
        assert record.count.sum(2).unique().tolist() == [N + 1], "the sampler fills up with one example"
        expected = Points(N).y
        expected[ThresholdExamples(NUM_CLASSES, part, SEED).indices(N)] = NUM_CLASSES
        assert torch.equal(record.target, expected)


def test_with_weights_that_stay_one_process_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    alone_records = protocol(tmp_path, still, make_trainer=make_trainer).run()
    alone = as_plain(find_label_issues(alone_records, Threshold(PERCENTILE)))
    together, _ = left(folder, "still_weights")
    for name in ("index", "given", "suggested", "is_issue", "unseen"):
        assert_identical(alone[name], together[name], name)
    assert alone["is_issue"].sum() > 0
    for name in ("score", "spread", "probabilities"):
        torch.testing.assert_close(alone[name], together[name], rtol=1e-5, atol=1e-5)
    assert alone["threshold"] == pytest.approx(together["threshold"], rel=1e-5)
    for one, two in zip(alone_records, records(folder, "still_weights"), strict=True):
        for field in ("loss", "margin"):
            torch.testing.assert_close(one.field(field), two.field(field), rtol=1e-3, atol=1e-3)


def test_run_again_in_the_same_processes_nothing_is_trained(folder: Path) -> None:
    for before, after in zip(left(folder, "learning"), left(folder, "learning", "again"), strict=True):
        assert (after["made"], after["written"]) == (2, []), "one for each half, to compare the recipe"
        for name in TABLE:
            assert_identical(before[name], after[name], name)


def test_another_start_skips_the_half_that_is_complete(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "gone_on" / "runs"
    shutil.copytree(folder / "learning" / "runs", runs)
    shutil.rmtree(runs / "half-1")
    kept = {path: path.stat().st_mtime_ns for path in (runs / "half-0").rglob("*.safetensors")}
    start(tmp_path, "gone_on")
    assert {path: path.stat().st_mtime_ns for path in (runs / "half-0").rglob("*.safetensors")} == kept
    assert [table["made"] for table in left(tmp_path, "gone_on")] == [len(SEEDS) + 1] * 2, "one to compare the recipe"
    assert recorded(runs) == recorded(folder / "learning" / "runs"), "as if it had not been stopped"


REFUSED = {
    "draw": "holds what came of seed=7, but `seed` is 8 now; give another `dirpath`",
    "size": "was trained on other examples (data.num_examples: 61 then, 53 now",
    "head": "has 4 outputs, but with 4 classes and the one that does not exist it needs 5",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_both_processes(name: str, folder: Path) -> None:
    first, second = left(folder, "refused", name)
    assert REFUSED[name] in first["message"]
    assert first["message"] == second["message"]


def test_every_rank_keeps_the_same_after_stepwise_compression(folder: Path) -> None:
    expected = load_file(folder / "compression" / "runs" / "step-2" / "kept-0.2.safetensors")["kept"]
    assert len(expected) == 53 - 11
    for name in ("first", "again"):
        assert all(torch.equal(one["kept"], expected) for one in left(folder, "compression", name))
    assert not list(folder.rglob(".tmp-*"))


def test_every_rank_holds_out_the_same_and_trains_on_the_rest(folder: Path) -> None:
    parts = torch.stack([held_out_part(N, place, 0.3, seed=SEEDS[0]) for place in (0, 1)])
    left_by = left(folder, "held_out", "learning")
    for one in left_by:
        assert torch.equal(one["held_out"], parts)
        assert torch.equal(one["probabilities"].nan_to_num(-1), left_by[0]["probabilities"].nan_to_num(-1))
    for seed, part in zip(SEEDS, parts, strict=True):
        seen = {tuple(row) for one in left_by for row in one["inputs"][str(seed)].tolist()}
        assert seen == {tuple(row) for row in Points(N).x[~part].tolist()}
    assert EasinessRecord.load(folder / "held_out" / "runs").trained_on.equal(~parts)


def test_what_is_held_out_has_the_same_probabilities_in_one_process(folder: Path, tmp_path: Path) -> None:
    alone = held_out_runs(tmp_path, lr=0.0)["probabilities"]
    for one in left(folder, "held_out", "still"):
        torch.testing.assert_close(one["probabilities"], alone, atol=2e-3, rtol=0, equal_nan=True)
        assert torch.equal(one["probabilities"][:, 0].isnan(), ~one["held_out"].any(0))


def test_killed_in_one_process_and_resumed_equals_undisturbed_where_processes_draw_differently(tmp_path: Path) -> None:
    killed = run_script("distributed_experiments", tmp_path, "killed", time_limit=240)
    assert killed.returncode != 0
    assert (tmp_path / "killed" / "runs" / "seed-5" / "resume.ckpt").exists()
    assert not list(tmp_path.rglob("trained-*.pt"))
    start(tmp_path, "resumed", "undisturbed")
    for rank in (0, 1):
        whole, resumed = (left(tmp_path, name, "trained")[rank]["batches"] for name in ("undisturbed", "killed"))
        assert {epoch for epoch, _ in resumed} == {2.0}, "of three epochs"
        assert resumed == [one for one in whole if one[0] == 2], f"losses of process {rank}"
    assert recorded(tmp_path / "killed" / "runs", hidden=False) == recorded(tmp_path / "undisturbed" / "runs")
