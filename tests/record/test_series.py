import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness.record.layout import checkpoint_paths
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, expected, load_and_catch, loads_with_warnings, make_target, whole, write_run

# ------------------------------------------------------------------ the rule for stacking


def test_complete_runs_are_stacked_at_the_checkpoints_that_they_share(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120, 240))
    write_run(tmp_path, 1, steps=(120, 240, 360))
    record = loads_with_warnings(tmp_path, "Left out: checkpoints that some runs lack: steps 0, 360.")
    assert record.steps.tolist() == [120, 240]
    assert torch.equal(record.loss, expected("loss", (0, 1), (120, 240)))


def test_an_incomplete_run_that_lacks_a_checkpoint_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, steps=(0, 120), complete=False)
    write_run(tmp_path, 2, steps=(0, 120, 240, 360), complete=False)
    record = loads_with_warnings(
        tmp_path,
        "Left out: Run 'seed-1' is not complete and lacks 1 of the 3 checkpoints that all complete runs share: "
        "train it to its end, or load it alone.",
    )
    assert record.runs == ["seed-0", "seed-2"]
    assert record.steps.tolist() == [0, 120, 240]


def test_where_no_run_is_complete_it_is_the_checkpoints_that_all_share(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120, 240), complete=False)
    write_run(tmp_path, 1, steps=(0, 120), complete=False)
    record = loads_with_warnings(tmp_path, "Left out: checkpoints that some runs lack: step 240.")
    assert record.runs == ["seed-0", "seed-1"]
    assert record.steps.tolist() == [0, 120]


def test_runs_that_share_no_checkpoint(tmp_path: Path) -> None:
    write_run(tmp_path, 0, steps=(0, 120))
    write_run(tmp_path, 1, steps=tuple(range(1, 100)))
    message = (
        "The runs share no checkpoint ('seed-0' holds steps 0, 120; 'seed-1' holds steps 1, 2, 3, ..., 98, 99): "
        "load those that were observed at the same steps, with runs=[...]."
    )
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path)


def test_a_run_without_the_series_is_left_out(folder: Path) -> None:
    write_run(folder, 0, series="val-probe", num_examples=8)
    RunWriter(folder, "begun").close()
    record = loads_with_warnings(
        folder,
        "Left out: Run 'begun' holds no series 'val-probe'; it holds no checkpoint yet; it is unfinished: run it again"
        " to its end.",
        "Left out: Run 'seed-2' holds no series 'val-probe'; it holds 'train-probe'.",
        "Left out: Run 'seed-10' holds no series 'val-probe'; it holds 'train-probe'.",
        series="val-probe",
    )
    assert record.runs == ["seed-0"]
    assert record.num_examples == 8


# ------------------------------------------------------------------ other data


LOAD_ONE = "load those of one data set, module and loss with runs=[...]."


def test_runs_of_other_data_sets_are_refused(tmp_path: Path) -> None:
    target = make_target()
    write_run(tmp_path, 0, target=torch.where(torch.arange(NUM_EXAMPLES) < 30, target, -1))
    write_run(tmp_path, 1, target=target.index_fill(0, torch.tensor([32]), -1))
    write_run(tmp_path, 2, target=target.index_fill(0, torch.tensor([32]), 0))
    write_run(tmp_path, 3, target=target.index_fill(0, torch.tensor([31]), 0))
    assert EasinessRecord.load(tmp_path, runs=["seed-0", "seed-1", "seed-2"]).num_runs == 3
    message = (
        "Run 'seed-1' and run 'seed-3' are not of the same data: example 31 has target 1 in the first and 0 in the"
        f" second (1 of 37 differ), so an index no longer names the same example: {LOAD_ONE}"
    )
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path, runs=[f"seed-{seed}" for seed in range(4)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 6}, f"Runs 'seed-0' and 'seed-1' recorded different numbers of classes (5 and 6): {LOAD_ONE}"),
        (
            {"loss_name": "focal"},
            f"Runs 'seed-0' and 'seed-1' recorded different losses ('cross_entropy' and 'focal'): {LOAD_ONE}",
        ),
        (
            {"num_examples": 40},
            (
                "Run 'seed-0' and run 'seed-1' are not of the same data: the first has 37 examples and the second 40,"
                f" so an index no longer names the same example: {LOAD_ONE}"
            ),
        ),
    ],
)
def test_runs_of_another_size_or_loss_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    write_run(tmp_path, 0)
    write_run(tmp_path, 1, steps=(1, 2), **changes)
    with pytest.raises(ValueError, match=whole(message)):
        EasinessRecord.load(tmp_path, runs=["seed-0", "seed-1"])


# ------------------------------------------------------------------ truncated and foreign files


@pytest.mark.parametrize("size", [0, 5, 60, 400, -1])
def test_a_truncated_checkpoint_is_left_out(folder: Path, size: int) -> None:
    path = checkpoint_paths(folder / "seed-2", "train-probe")[120]
    path.write_bytes(path.read_bytes()[:size])
    record, (damaged, left_out) = load_and_catch(folder)
    assert record.steps.tolist() == [0, 240]
    assert record.num_runs == 3
    assert damaged.startswith(f"Left out: '{path}' is truncated or not a safetensors file (")
    assert left_out == "Left out: checkpoints that some runs lack: step 120."


def test_a_checkpoint_of_another_length_is_left_out(folder: Path) -> None:
    path = write_run(folder.parent / "other", 0, num_examples=40)
    stranger = folder / "seed-0" / "train-probe" / "step-000000000240.safetensors"
    stranger.write_bytes(checkpoint_paths(path, "train-probe")[240].read_bytes())
    record = loads_with_warnings(
        folder,
        f"Left out: '{stranger}' holds 40 examples, its series 37: move it out of the folder.",
        "Left out: checkpoints that some runs lack: step 240.",
    )
    assert record.steps.tolist() == [0, 120]


def without_checksum(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    del content["checksum"]
    return content


def test_a_damaged_or_foreign_run_is_left_out(folder: Path) -> None:
    (folder / "seed-0" / "run.json").write_text("{")
    run_json = folder / "seed-2" / "run.json"
    run_json.write_text(json.dumps({**without_checksum(run_json), "seed": [2]}))
    write_run(folder, 3).joinpath("run.json").unlink()
    (folder / "lightning_logs" / "version_0").mkdir(parents=True)
    (folder / "notes.txt").write_text("not a run")
    record = loads_with_warnings(
        folder,
        f"Left out: '{folder}/seed-0/run.json' is damaged "
        "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): copy it here again.",
        f"Left out: '{run_json}' is damaged (seed [2] is not an integer, or versions not an object): "
        "copy it here again.",
        f"Left out: '{folder}/seed-3' is not a run: it holds no run.json; copy it here again.",
    )
    assert record.runs == ["seed-10"]


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0, steps=(120,))
    path = checkpoint_paths(run, "train-probe")[120]
    path.write_bytes(b"")
    message = f"Nothing of series 'train-probe' in '{tmp_path}' can be read: '{path}' is truncated or not"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        EasinessRecord.load(tmp_path)


def test_nothing_to_load(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    wrote = "that EasinessCallback(dirpath=...) wrote to."
    no_run = f"There is no run in '{empty}' (a run is a folder with run.json): give the folder {wrote}"
    not_held = f"No run in '{folder}' holds the series 'val-probe': there are 'train-probe'."
    begun = f"No run in '{empty}' holds the series 'train-probe': no run holds a checkpoint yet."

    def fails(message: str, path: Path, **arguments: str) -> None:
        with pytest.raises(FileNotFoundError, match=whole(message)):
            EasinessRecord.load(path, **arguments)

    fails(f"'{folder}/nothing' is not a folder: give the folder {wrote}", folder / "nothing")
    fails(no_run, empty)
    fails(not_held, folder, series="val-probe")
    RunWriter(empty, "begun").close()
    fails(begun, empty)
