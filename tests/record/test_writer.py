import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.record.files import FIELDS, ArrayFile
from lightning_easiness.record.layout import (
    checkpoint_paths,
    is_complete,
    list_series,
    read_identity,
    read_run,
    targets_path,
)
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, append, make_fields, make_target, try_to_write, whole, write_run
from tests.processes import fork_server

# ------------------------------------------------------------------ targets


def test_targets_grow_as_they_become_known(tmp_path: Path) -> None:
    names = []
    with RunWriter(tmp_path, "a") as writer:
        for target in (None, [0, -1, -1], [-1, -1, 2], None, [0, -1, 2], [0, 1, 2]):
            given = None if target is None else torch.tensor(target)
            path = append(writer, fields={"loss": torch.ones(3)}, target=given, step=len(names))
            names.append(ArrayFile.open(path).fingerprint)
    assert read_identity(writer.path, "train-probe").target.tolist() == [0, 1, 2]
    known = [[-1, -1, -1], [0, -1, -1], [0, -1, 2], [0, -1, 2], [0, -1, 2], [0, 1, 2]]
    assert names == [DataIdentity(3, torch.tensor(target)).fingerprint for target in known]
    assert read_identity(writer.path, "train-probe").fingerprint == names[-1]


def test_targets_on_disk_are_written_and_digested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunWriter(tmp_path, "a") as writer:
        append(writer)
        monkeypatch.setattr("lightning_easiness.data.identity.hashlib", None)
        written = targets_path(writer.path, "train-probe").stat().st_ino
        append(writer, step=240)
        append(writer, step=360, target=None)
        assert targets_path(writer.path, "train-probe").stat().st_ino == written
        monkeypatch.undo()
        append(writer, series="val-probe", fields={"loss": torch.ones(4)})
    assert list_series(tmp_path / "a") == ("train-probe", "val-probe")  # which may differ in length


def test_another_data_set_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    target = make_target()
    target[17] = 4
    with RunWriter(tmp_path, "seed-0", resume=True) as writer:
        for changes, what in (
            ({"target": target}, "example 17 has target 2 in the first and 4 in the second (1 of 37 differ)"),
            ({"fields": make_fields(0, 40)}, "the first has 37 examples and the second 40"),
        ):
            message = (
                f"Series 'train-probe' of run 'seed-0' in '{tmp_path}' and the observation are not of the same data:"
                f" {what}, so an index no longer names the same example: give another data set another `run` or"
                " `dirpath`."
            )
            with pytest.raises(ValueError, match=whole(message)):
                append(writer, step=360, **changes)
        assert writer.steps("train-probe") == (0, 120, 240)


# ------------------------------------------------------------------ what the writer refuses


LOSS = torch.zeros(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "An observation must hold fields of at least one example; got none of 0."),
        ({"fields": {"loss": LOSS[:0]}}, "An observation must hold fields of at least one example; got loss of 0."),
        ({"fields": {"entropy": LOSS}}, f"The fields of an observation must be of {', '.join(FIELDS)}; got 'entropy'."),
        (
            {"fields": {"loss": LOSS, "margin": LOSS[:2]}},
            "Field 'margin' of an observation must have shape (3,) and fit torch.float32; got (2,) of torch.float32.",
        ),
        (
            {"fields": {"correct": LOSS}},
            "Field 'correct' of an observation must have shape (3,) and fit torch.bool; got (3,) of torch.float32.",
        ),
        (
            {"fields": {"prediction": torch.tensor([0, 40_000, 1])}},
            "Field 'prediction' of an observation must fit torch.int16; got the value 40000.",
        ),
        (
            {"series": "../train-probe"},
            "`series` must be a plain folder name that does not begin with a dot; got '../train-probe'.",
        ),
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing(tmp_path: Path, changes: dict, message: str) -> None:
    with RunWriter(tmp_path, "a") as writer, pytest.raises(ValueError, match=whole(message)):
        append(writer, **changes)
    assert list_series(tmp_path / "a") == ()
    assert not list((tmp_path / "a").rglob("*.safetensors"))


@pytest.mark.parametrize("run", ["", ".", "..", ".hidden", "a/b", "a\\b"])
def test_a_run_is_a_plain_folder_name(tmp_path: Path, run: str) -> None:
    message = f"`run` must be a plain folder name that does not begin with a dot; got {run!r}."
    with pytest.raises(ValueError, match=whole(message)):
        RunWriter(tmp_path, run)


# ------------------------------------------------------------------ run.json, resuming


def test_run_json_says_who_wrote_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 3)
    content = json.loads((folder / "run.json").read_text())
    assert content.keys() >= {"files", "checksum"}
    assert {key: content[key] for key in content if key not in ("versions", "files", "checksum")} == {
        "format": "lightning_easiness.run",
        "format_version": 1,
        "run": "seed-3",
        "seed": 3,
        "complete": True,
    }
    assert {"python", "torch", "numpy", "safetensors"} <= content["versions"].keys()
    info = read_run(folder)
    assert (info.name, info.seed, info.complete) == ("seed-3", 3, True)


def test_a_run_is_complete_until_it_is_trained_on(tmp_path: Path) -> None:
    assert not is_complete(tmp_path / "nothing")
    assert not is_complete(write_run(tmp_path, 0, complete=False))
    folder = write_run(tmp_path, 1)
    averaged = AveragedProbabilities(360, 2, torch.rand(NUM_EXAMPLES, 5).half(), torch.ones(NUM_EXAMPLES).int())
    with RunWriter(tmp_path, "seed-1", resume=True) as writer:
        for write in (lambda: append(writer, step=360), lambda: writer.replace_probabilities(averaged)):
            assert is_complete(folder)
            write()
            assert not is_complete(folder)
            writer.complete()
    assert is_complete(folder)


def test_a_run_with_checkpoints_is_not_begun_anew(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    message = (
        f"Run 'seed-0' in '{tmp_path}' already holds checkpoints (3): give another `run` or `dirpath`, "
        "delete the folder, or continue the run with `resume=True`."
    )
    with pytest.raises(FileExistsError, match=whole(message)):
        RunWriter(tmp_path, "seed-0")
    RunWriter(tmp_path, "seed-0", resume=True).close()  # and the lock was released


def test_a_run_without_checkpoints_is_begun_anew(tmp_path: Path) -> None:
    for seed in (1, 2):
        RunWriter(tmp_path, "a", seed=seed).close()
        assert read_run(tmp_path / "a").seed == seed


def test_resuming_goes_on_with_the_first_seed_and_a_step_may_be_written_anew(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    message = (
        f"Run 'seed-0' in '{tmp_path}' was started with seed 0 and is resumed with seed 1: its record keeps seed 0;"
        f" if '{tmp_path / 'seed-0' / 'run.json'}' is another run's, copy its own here again."
    )
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        writer = RunWriter(tmp_path, "seed-0", seed=1, resume=True)
    assert caught[0].filename == __file__
    with writer:
        assert (writer.steps("train-probe"), writer.steps("val-probe")) == ((0, 120, 240), ())
        path = append(writer, step=240, fields={"loss": torch.ones(NUM_EXAMPLES)})
        append(writer, step=360)
        assert writer.steps("train-probe") == (0, 120, 240, 360)
    assert ArrayFile.open(path).fields == ("loss",)
    assert read_run(writer.path).seed == 0


def test_checkpoints_are_in_order_of_steps(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0, steps=(240, 10**11, 0, 10**6))
    assert tuple(checkpoint_paths(folder, "train-probe")) == (0, 240, 10**6, 10**11)


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "here", 0)
    shutil.move(folder, tmp_path / "there" / "renamed")
    assert read_run(tmp_path / "there" / "renamed").name == "renamed"
    with RunWriter(tmp_path / "there", "renamed", resume=True) as writer:
        assert len(writer.steps("train-probe")) == 3


# ------------------------------------------------------------------ one writer per run


SECOND_WRITER = "Another callback is writing to run 'a' in '{}'; give one of them another `run` or `dirpath`."


def test_a_second_writer_in_this_process_is_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        with pytest.raises(RuntimeError, match=whole(SECOND_WRITER.format(tmp_path))):
            RunWriter(tmp_path, "a", resume=True)
        append(writer)
        RunWriter(tmp_path, "b").close()
    RunWriter(tmp_path, "a", resume=True).close()


@pytest.mark.multiprocess
def test_a_second_writer_in_another_process_is_refused(tmp_path: Path) -> None:
    context = fork_server()
    queue = context.Queue()
    messages = []
    writer = RunWriter(tmp_path, "a")
    for _ in range(2):
        process = context.Process(target=try_to_write, args=(tmp_path, queue))
        process.start()
        messages.append(queue.get(timeout=60))
        process.join()
        process.close()
        writer.close()
    queue.close()
    assert messages == [SECOND_WRITER.format(tmp_path), "no error"]


def test_a_closed_writer_writes_no_more(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "a")
    writer.close()
    writer.close()
    averaged = AveragedProbabilities(1, 0, torch.rand(3, 2).half(), torch.ones(3).int())
    for write in (lambda: append(writer), lambda: writer.replace_probabilities(averaged)):
        message = f"The writer of run 'a' in '{tmp_path}' is closed: open a new one."
        with pytest.raises(RuntimeError, match=whole(message)):
            write()


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "no flock")])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    message = rf"Run 'a' cannot be written into '{tmp_path}' \(no flock\): give `dirpath` a folder"
    with pytest.raises(OSError, match=message):
        RunWriter(tmp_path, "a")
