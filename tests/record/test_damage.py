"""Files that rot, lie or are no files: each is named in one sentence, and the rest of the record is read."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness import EasinessRecord
from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.record.checksums import array_checksum
from lightning_easiness.record.files import CHECKPOINT, ArrayFile
from lightning_easiness.record.inventory import take_inventory
from lightning_easiness.record.layout import (
    open_probabilities,
    probabilities_path,
    read_identity,
    read_run,
    targets_path,
)
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, append, expected, load_and_catch, make_fields, make_target, whole, write_run

# ---------------------------------------------------------------------------------------------- checksums


def by_hand(data: bytes) -> str:
    """The checksum in whole numbers, a word at a time."""
    totals = [0] * 8191
    for place in range(0, len(data), 8):
        column = place // 8 % 8191
        totals[column] = (totals[column] + int.from_bytes(data[place : place + 8], "little")) % 2**64
    return f"{zlib.crc32(struct.pack('<8191Q', *totals), len(data)):08x}"


@given(st.binary(max_size=100), st.sampled_from([0, 1, 8 * 8191 - 8, 3 * 8 * 8191]))
def test_a_checksum_is_that_of_the_definition(tail: bytes, before: int) -> None:
    data = bytes(range(256)) * (before // 256) + bytes(before % 256) + tail
    assert array_checksum(np.frombuffer(data, np.uint8)) == by_hand(data)


def test_a_header_holds_the_checksum_of_each_array(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        path = append(writer)
    with safetensors.safe_open(path, framework="numpy") as file:
        checksums, names = json.loads(file.metadata()["checksums"]), file.keys()
        assert checksums == {name: by_hand(file.get_tensor(name).tobytes()) for name in names}


def spans(path: Path) -> dict[str, slice]:
    """Where in a file each array lies."""
    with open(path, "rb") as file:
        start = 8 + (length := int.from_bytes(file.read(8), "little"))
        header = json.loads(file.read(length))
    arrays = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: slice(start + begin, start + end) for name, (begin, end) in arrays.items()}


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


ROTTEN = "'{}' is damaged (by its checksum, '{}' is not what was written): delete it or copy it here again."


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_any_array_is_named_when_it_is_read(tmp_path: Path, bit: int) -> None:
    with RunWriter(tmp_path, "a") as writer:
        path = append(writer)
    before = path.read_bytes()
    for name, span in spans(path).items():
        for place in (span.start, (span.start + span.stop) // 2, span.stop - 1):
            flip(path, place, bit)
            file = ArrayFile.open(path)
            with pytest.raises(RecordFileError, match=whole(ROTTEN.format(path, name))):
                file.read(name)
            for other in set(file.fields) - {name}:
                file.read(other)
            path.write_bytes(before)


def test_any_flipped_bit_is_named_or_changes_nothing(tmp_path: Path) -> None:
    """Also of the header: what comes out without an error is what was written."""
    with RunWriter(tmp_path, "a") as writer:
        path = append(writer)
    before, unnoticed, unnamed = path.read_bytes(), 0, 0
    about = vars(ArrayFile.open(path))
    for place in range(len(before)):
        flip(path, place, place % 8)
        try:
            file = ArrayFile.open(path)
            read = {name: file.read(name) for name in make_fields(120)}
        except RecordFileError as error:
            unnamed += str(path) not in str(error)
        else:
            unnoticed += 1
            assert vars(file) == about
            assert all(torch.equal(read[name], values) for name, values in make_fields(120).items())
        path.write_bytes(before)
    assert not unnamed
    assert unnoticed < len(before) / 20, "the spaces at the header's end"


@pytest.mark.parametrize("kind", ["targets", "probabilities"])
def test_flipped_targets_and_probabilities_are_named(tmp_path: Path, kind: str) -> None:
    run = write_run(tmp_path, 0, series="train-online")
    with RunWriter(tmp_path, run.name, resume=True) as writer:
        rows, count = torch.full((NUM_EXAMPLES, 5), 0.2).half(), torch.ones(NUM_EXAMPLES, dtype=torch.int32)
        writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
    path = {"targets": targets_path(run, "train-online"), "probabilities": probabilities_path(run)}[kind]
    name = kind.replace("targets", "target")
    flip(path, spans(path)[name].start)
    record = EasinessRecord.load(tmp_path, "train-online")
    read: Callable[[], Any] = (lambda: record.target) if kind == "targets" else record.probabilities
    with pytest.raises(RecordFileError, match=whole(ROTTEN.format(path, name))):
        read()
    if kind == "targets":
        with pytest.raises(RecordFileError, match=whole(ROTTEN.format(path, name))):
            read_identity(run, "train-online")


def test_a_damaged_checkpoint_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    paths = [write_run(tmp_path, seed) / "train-probe/step-000000000240.safetensors" for seed in (0, 2)]
    flip(paths[0], spans(paths[0])["loss"].start)
    record = EasinessRecord.load(tmp_path)
    assert torch.equal(record.field("loss", 1), expected("loss", (0, 2))[:, 1])
    with pytest.raises(RecordFileError, match=whole(ROTTEN.format(paths[0], "loss"))):
        record.field("loss", 2)


def test_a_file_that_is_repaired_is_read_again(tmp_path: Path) -> None:
    path = write_run(tmp_path, 0) / "train-probe/step-000000000240.safetensors"
    before = path.read_bytes()
    flip(path, spans(path)["loss"].start)
    with pytest.raises(RecordFileError):
        EasinessRecord.load(tmp_path).field("loss", 2)
    path.write_bytes(before)
    assert torch.equal(EasinessRecord.load(tmp_path).field("loss", 2)[0], make_fields(240)["loss"])


# ---------------------------------------------------------------------------------------------- foreign files


@pytest.mark.filterwarnings("ignore:Run")
def test_a_checkpoint_of_other_data_of_the_same_length_is_left_out(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", 0)
    theirs = write_run(tmp_path / "theirs", 0, target=make_target().flip(0))
    path = ours / "train-probe/step-000000000120.safetensors"
    shutil.copy(theirs / "train-probe" / path.name, path)
    record, warnings = load_and_catch(tmp_path / "ours")
    assert record.steps.tolist() == [0, 240]
    there, here = (read_identity(run, "train-probe").fingerprint for run in (theirs, ours))
    between = f"(fingerprint {there}, not {here})"
    assert warnings == [
        f"Left out: '{path}' is of other data than the targets beside it {between}: move it out of the folder."
    ]


@pytest.mark.parametrize("kind", ["probabilities", "held out"])
def test_probabilities_of_other_data_are_refused(tmp_path: Path, kind: str) -> None:
    rows, count = torch.full((NUM_EXAMPLES, 5), 0.2).half(), torch.ones(NUM_EXAMPLES, dtype=torch.int32)
    for name, target in (("ours", make_target()), ("theirs", make_target().flip(0))):
        run = write_run(tmp_path / name, 0, series="train-online", target=target)
        with RunWriter(tmp_path / name, run.name, resume=True) as writer:
            writer.replace_probabilities(AveragedProbabilities(240, 2, rows, count))
    ours, theirs = (probabilities_path(tmp_path / name / "seed-0") for name in ("ours", "theirs"))
    open_probabilities(ours.parents[1])
    shutil.copy(theirs, ours)
    with pytest.raises(RecordFileError, match=f"^'{re.escape(str(ours))}' is of other data than the targets beside it"):
        open_probabilities(ours.parents[1])


def test_checkpoints_of_when_fewer_targets_were_known_are_of_the_same_data(tmp_path: Path) -> None:
    known = make_target()
    with RunWriter(tmp_path, "a") as writer:
        for step in range(4):
            target = torch.where(torch.arange(NUM_EXAMPLES) < 10 * step, known, -1)
            append(writer, step, fields=make_fields(step), target=target)
    with RunWriter(tmp_path, "a", resume=True) as writer:
        append(writer, 4, fields=make_fields(4), target=known)
    record, warnings = load_and_catch(tmp_path)
    assert (record.steps.tolist(), warnings) == ([0, 1, 2, 3, 4], [])


# ---------------------------------------------------------------------------------------------- headers that lie


def write_header(path: Path, arrays: dict[str, Any], **metadata: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors.numpy.save(arrays, {"format_version": "1", **metadata}))


def test_a_small_file_of_a_huge_data_set_allocates_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0)
    path = run / "train-probe/step-000000000120.safetensors"
    about = {"step": "120", "epoch": "0", "series": "train-probe", "num_classes": "4", "fingerprint": "", "loss": "x"}
    write_header(path, {}, format=CHECKPOINT, num_examples=str(2 * 10**9), fields="{}", **about)
    assert path.stat().st_size < 400
    targets_path(run, "train-probe").unlink()
    for other in ("000000000000", "000000000240"):
        (run / f"train-probe/step-{other}.safetensors").unlink()
    reason = "it has none of the fields of a record"
    with pytest.raises(ValueError, match=re.escape(f"'{path}' is damaged ({reason}): delete it.")):
        EasinessRecord.load(tmp_path)


@pytest.mark.parametrize("changes", [{"num_examples": "-8"}, {"num_examples": "0"}, {"step": "-1"}])
def test_a_number_that_cannot_be_is_named(tmp_path: Path, changes: dict[str, str]) -> None:
    about = {"step": "1", "epoch": "0", "series": "a", "num_classes": "4", "fingerprint": "", "loss": "x"}
    path = tmp_path / "step-000000000001.safetensors"
    size = max(0, int(changes.get("num_examples", 3)))
    header = {**about, "num_examples": "3", "fields": '{"loss": "float32"}', **changes}
    write_header(path, {"loss": np.zeros(size, np.float32)}, format=CHECKPOINT, **header)
    with pytest.raises(RecordFileError, match=f"^'{re.escape(str(path))}' is damaged"):
        ArrayFile.open(path)


# ---------------------------------------------------------------------------------------------- no files at all


def be_pipe(path: Path) -> None:
    os.mkfifo(path)


def be_loop(path: Path) -> None:
    path.symlink_to(path)


def be_folder(path: Path) -> None:
    path.mkdir()


def be_newer(path: Path) -> None:
    path.write_text('{"format": "lightning_easiness.run", "format_version": 2}')


MOVE = "not a file: move it away."
IN_PLACE = {
    "pipe": (be_pipe, f"is a pipe, {MOVE}"),
    "loop": (be_loop, "cannot be read (Too many levels of symbolic links): check what it is and who may read it."),
    "folder": (be_folder, f"is a folder, {MOVE}"),
}
NEWER = "a newer lightning_easiness (format version 2; this one reads up to 1): upgrade lightning-easiness to read it."
RUN_ALONE = {**IN_PLACE, "newer": (be_newer, f"was written by {NEWER}")}


@pytest.mark.skipif(os.name == "nt", reason="pipes")
@pytest.mark.parametrize("kind", RUN_ALONE)
def test_what_is_no_run_json_is_named_and_the_other_runs_are_read(kind: str, tmp_path: Path) -> None:
    path = write_run(tmp_path, 1) / "run.json"
    be, message = RUN_ALONE[kind]
    path.unlink()
    be(path)
    with pytest.raises(RecordFileError, match=whole(f"'{path}' {message}")):
        read_run(path.parent)
    with pytest.raises(ValueError, match=re.escape(f"'{path}' {message}")):
        EasinessRecord.load(tmp_path)
    with pytest.raises(RecordFileError, match=whole(f"'{path}' {message}")):
        RunWriter(tmp_path, "seed-1", resume=True)
    write_run(tmp_path, 0)
    record, warnings = load_and_catch(tmp_path)
    assert (record.runs, warnings) == (["seed-0"], [f"Left out: '{path}' {message}"])
    assert [run.problem for run in take_inventory(tmp_path).runs] == [None, f"'{path}' {message}"]


@pytest.mark.skipif(os.name == "nt", reason="pipes")
@pytest.mark.parametrize("kind", IN_PLACE)
@pytest.mark.parametrize("name", ["step-000000000120", "targets"])
def test_what_is_no_file_of_a_series_is_named_and_the_rest_is_read(kind: str, name: str, tmp_path: Path) -> None:
    path = write_run(tmp_path, 0) / f"train-probe/{name}.safetensors"
    be, message = IN_PLACE[kind]
    path.unlink()
    be(path)
    record, warnings = load_and_catch(tmp_path)
    remark = " The targets of run 'seed-0' are not known." if name == "targets" else ""
    assert warnings == [f"Left out: '{path}' {message}{remark}"]
    assert record.steps.tolist() == ([0, 120, 240] if name == "targets" else [0, 240])


@pytest.mark.parametrize("part", ["seed-1", "seed-1/train-probe"])
def test_a_folder_that_cannot_be_read_is_named(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed)
    iterdir = Path.iterdir

    def refuse(folder: Path) -> Any:
        if folder == tmp_path / part:
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    record, warnings = load_and_catch(tmp_path)
    message = f"'{tmp_path / part}' cannot be read (Permission denied): check what it is and who may read it."
    assert (record.runs, warnings) == (["seed-0"], [f"Left out: {message}"])
    assert len(take_inventory(tmp_path).runs) == 2
    for run in ("seed-0", "seed-1"):
        (tmp_path / run / "run.json").unlink()
    with pytest.raises(ValueError, match=re.escape(message)):
        EasinessRecord.load(tmp_path / "seed-1")


@pytest.mark.parametrize("name", ["../seed-1/train-probe", "..", "a/b", "x" * 300, "\ud800", "a\0b"])
def test_a_series_that_is_no_folder_of_a_run_is_refused(tmp_path: Path, name: str) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed)
    with pytest.raises(
        ValueError, match=r"^`series` must be a plain folder name that does not begin with a dot; got '"
    ):
        EasinessRecord.load(tmp_path, series=name)


def test_a_checkpoint_of_another_series_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, 0)
    write_run(tmp_path, 0, series="val-probe")
    name = "step-000000000120.safetensors"
    shutil.copy(run / "val-probe" / name, run / "train-probe" / name)
    with pytest.warns(UserWarning, match=rf"{name}' is of series 'val-probe', not of 'train-probe': move it there\."):
        assert EasinessRecord.load(tmp_path, "train-probe").num_checkpoints == 2


def test_an_array_that_has_lost_its_name_is_missed(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        append(writer, source_index=torch.arange(NUM_EXAMPLES))
    path = targets_path(tmp_path / "a", "train-probe")
    content = path.read_bytes()
    path.write_bytes(content[:8] + content[8:].replace(b'"source_index": {', b'"source_indey": {'))
    with pytest.raises(RecordFileError, match="by its checksums, it has other arrays than were written"):
        read_identity(tmp_path / "a", "train-probe")
