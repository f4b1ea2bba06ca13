"""What is missing, or of another run of the same data, is named and never read in its place."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch

from lightning_easiness import EasinessRecord
from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.record.chain import _foreign
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.layout import checkpoint_path, probabilities_path, read_run, targets_path
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, append, expected, load_and_catch, make_fields, make_target, whole, write_run

STEPS = (0, 120, 240, 360)
COPY = "copy it here again, or train the run anew."


def file_of(run: Path, step: int) -> Path:
    return checkpoint_path(run, "train-probe", step)


def test_each_checkpoint_names_the_one_before_and_run_json_the_last(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0, steps=STEPS)
    files = [ArrayFile.open(file_of(run, step)) for step in STEPS]
    named = [f"{file.step} {file.checksum}" for file in files]
    assert [file.previous for file in files] == ["", *named[:-1]]
    assert read_run(run).last("train-probe") == named[-1]
    assert read_run(run).last("val-probe") == ""


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_a_checkpoint_that_is_gone_is_named(tmp_path: Path, step: int, complete: bool) -> None:
    path = file_of(write_run(tmp_path, 0, steps=STEPS, complete=complete), step)
    path.unlink()
    record, warnings = load_and_catch(tmp_path)
    is_known = complete or step != STEPS[-1]  # what was recorded last before a kill, nothing names
    assert warnings == [f"Left out: '{path}' is missing: {COPY}"] * is_known
    assert record.steps.tolist() == [each for each in STEPS if each != step]


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_a_checkpoint_of_another_run_of_the_same_data_is_left_out(tmp_path: Path, step: int, complete: bool) -> None:
    ours = write_run(tmp_path / "ours", 0, steps=STEPS, complete=complete)
    path = file_of(ours, step)
    shutil.copy(file_of(write_run(tmp_path / "theirs", 1, steps=STEPS), step), path)
    record, warnings = load_and_catch(tmp_path / "ours")
    assert warnings == [
        f"Left out: '{path}' is of another run than those beside it: copy the one of this run here again."
    ]
    left = [place for place, each in enumerate(STEPS) if each != step]
    assert record.steps.tolist() == [STEPS[place] for place in left]
    for index, place in enumerate(left):
        assert torch.equal(record.field("loss", index)[0], make_fields(STEPS[place])["loss"])


def test_a_checkpoint_of_another_run_at_a_step_of_its_own_is_left_out(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", 0, steps=STEPS)
    theirs = write_run(tmp_path / "theirs", 1, steps=(0, 130))
    shutil.copy(file_of(theirs, 130), file_of(ours, 130))
    record, warnings = load_and_catch(tmp_path / "ours")
    assert len(warnings) == 1
    assert str(file_of(ours, 130)) in warnings[0]
    assert record.steps.tolist() == list(STEPS)


def test_run_json_of_another_run_is_named(tmp_path: Path) -> None:
    ours, theirs = (write_run(tmp_path / name, seed, steps=STEPS) for seed, name in enumerate(("ours", "theirs")))
    shutil.copy(theirs / "run.json", ours / "run.json")
    message = f"'{ours / 'run.json'}' is of another run than the checkpoints of 'train-probe' beside it"
    with pytest.raises(ValueError, match=message):
        EasinessRecord.load(tmp_path / "ours")


def test_replaced_files_that_are_gone_or_of_another_run_are_named(tmp_path: Path) -> None:
    runs = []
    for seed, name in enumerate(("ours", "theirs")):
        run = write_run(tmp_path / name, seed, series="train-online", complete=False)
        with RunWriter(tmp_path / name, run.name, resume=True) as writer:
            rows, count = torch.rand(NUM_EXAMPLES, 5).half(), torch.ones(NUM_EXAMPLES, dtype=torch.int32)
            writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
            writer.complete()
        runs.append(run)
    path = probabilities_path(runs[0])
    shutil.copy(probabilities_path(runs[1]), path)
    record = EasinessRecord.load(tmp_path / "ours", "train-online")
    message = f"'{path}' and '{runs[0] / 'run.json'}' are not of the same run: copy the right one here again."
    with pytest.raises(ValueError, match=whole(message)):
        record.probabilities()
    path.unlink()
    _, warnings = load_and_catch(tmp_path / "ours", series="train-online")
    assert warnings == [f"Left out: '{path}' is missing: {COPY}"]


def test_what_a_run_trained_on_is_not_guessed_where_it_is_gone(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    path = write_run(tmp_path, 1, held_out=torch.arange(NUM_EXAMPLES) < 9) / "trained-on.safetensors"
    path.unlink()
    record, warnings = load_and_catch(tmp_path)
    assert record.runs == ["seed-0"]
    unknown = "What run 'seed-1' trained on is not known, so that all of it is left out."
    assert warnings == [f"Left out: '{path}' is missing: {COPY} {unknown}"]


def test_targets_of_another_data_set_are_named_in_place_of_all_checkpoints(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", 0, complete=False)
    theirs = write_run(tmp_path / "theirs", 0, complete=False, target=make_target().flip(0))
    path = targets_path(ours, "train-probe")
    shutil.copy(targets_path(theirs, "train-probe"), path)
    with pytest.raises(ValueError, match=f"'{path}' is of other data than the 3 checkpoints beside it: copy the one"):
        EasinessRecord.load(tmp_path / "ours")


def test_a_run_that_goes_on_after_its_end_names_no_last_checkpoint(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0)
    with RunWriter(tmp_path, run.name, resume=True) as writer:
        assert read_run(run).files, "as long as nothing is written"
        append(writer, 360, fields=make_fields(360))
        assert read_run(run).files == {}
        writer.complete()
    record, warnings = load_and_catch(tmp_path)
    assert (record.steps.tolist(), warnings) == ([0, 120, 240, 360], [])
    assert torch.equal(record.field("loss", 1)[0], expected("loss", (0,))[0, 1])


def test_a_file_that_is_gone_stays_known_where_a_complete_run_is_opened_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0, held_out=torch.arange(NUM_EXAMPLES) < 9)
    (run / "trained-on.safetensors").unlink()
    with RunWriter(tmp_path, run.name, resume=True) as writer:
        writer.complete()
    assert "trained-on.safetensors" in read_run(run).files


def test_the_foreign_ones_are_found_by_their_broken_links() -> None:
    """One foreign checkpoint anywhere in a chain of two to five breaks the links to it and from it."""
    for size, attested in itertools.product(range(2, 6), (True, False)):
        for place in range(size):
            broken = [each in (place - 1, place) for each in range(size)]
            broken[-1] = attested and place == size - 1
            found = _foreign(broken, attested)
            expected = [each == place for each in range(size)]
            if size == 2 and not attested:
                expected = [True, True]  # it cannot be told which
            assert found == expected, (size, attested, place)
