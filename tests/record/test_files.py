"""The files of a record: what is written is read, and what cannot be read is named."""

import json
import re
from pathlib import Path

import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from lightning_easiness._utils.checked_files import RecordFileError
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities
from lightning_easiness.record.files import CHECKPOINT, PROBABILITIES, TARGETS, ArrayFile
from lightning_easiness.record.layout import (
    is_complete,
    open_checkpoint,
    probabilities_path,
    read_identity,
    read_run,
    targets_path,
)
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, append, make_fields, make_target, whole


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint of run "seed-0"."""
    with RunWriter(tmp_path, "seed-0", seed=0) as writer:
        rows, count = torch.full((NUM_EXAMPLES, 5), 0.2).half(), torch.ones(NUM_EXAMPLES, dtype=torch.int32)
        writer.replace_probabilities(AveragedProbabilities(120, 1, rows, count))
        return append(writer)


def write_and_open(folder: Path, fields: dict[str, Tensor], **changes: object) -> ArrayFile:
    with RunWriter(folder, "a") as writer:
        return ArrayFile.open(append(writer, fields=fields, **changes))


def assert_same_bits(given: Tensor, read: Tensor) -> None:
    assert given.dtype == read.dtype
    assert given.numpy().tobytes() == read.numpy().tobytes()


# ------------------------------------------------------------------ what is written is read


@pytest.mark.parametrize("online", [False, True])
def test_every_field_comes_back_bit_for_bit(tmp_path: Path, online: bool) -> None:
    fields = make_fields(3, online=online)
    file = write_and_open(tmp_path, fields)
    assert set(file.fields) == set(fields)
    for name in fields:
        assert_same_bits(fields[name], file.read(name))


def test_a_file_that_is_written_in_pieces_is_that_of_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = append(RunWriter(tmp_path / "one", "a")).read_bytes()
    monkeypatch.setattr("lightning_easiness.record.files._PIECE", 7)
    assert append(RunWriter(tmp_path / "pieces", "a")).read_bytes() == one


def test_the_header_holds_what_was_given(tmp_path: Path) -> None:
    about = {"step": 240, "epoch": 7, "series": "val-probe", "num_classes": None}
    file = write_and_open(tmp_path, make_fields(3), loss_name="focal", **about)
    assert file == ArrayFile(
        path=file.path,
        num_examples=NUM_EXAMPLES,
        fields=("loss", "correct", "margin", "sample_easiness", "weakest_comparison", "el2n"),
        fingerprint=DataIdentity(NUM_EXAMPLES, make_target()).fingerprint,
        loss="focal",
        **about,
    )


@given(
    correct=st.lists(st.booleans(), min_size=1, max_size=40),
    loss=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
)
def test_any_length_and_any_float_come_back(
    tmp_path_factory: pytest.TempPathFactory, correct: list, loss: float
) -> None:
    fields = {"correct": torch.tensor(correct), "loss": torch.full((len(correct),), loss)}
    file = write_and_open(tmp_path_factory.mktemp("runs"), fields, target=None)
    for name in fields:
        assert_same_bits(fields[name], file.read(name))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_dtype_and_views_are_stored_as_the_float32_that_they_show(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    values = torch.rand(2, NUM_EXAMPLES, 2).to(dtype).requires_grad_()
    file = write_and_open(tmp_path, {"loss": values[1, :, 0], "margin": values[1, :, 0]})
    for name in ("loss", "margin"):
        assert_same_bits(values[1, :, 0].detach().float(), file.read(name))


def test_files_are_plain_safetensors_of_one_dtype_per_field_with_eight_flags_per_byte(tmp_path: Path) -> None:
    count = torch.ones(NUM_EXAMPLES, dtype=torch.int64)
    file = write_and_open(tmp_path, {**make_fields(3), "count": count})
    stored = load_file(file.path)
    assert stored["correct"].shape == ((NUM_EXAMPLES + 7) // 8,)
    dtypes = {"correct": torch.uint8, "count": torch.int32}
    assert all(array.dtype == dtypes.get(name, torch.float32) for name, array in stored.items())
    assert load_file(targets_path(tmp_path / "a", "train-probe"))["target"].dtype == torch.int64


@pytest.mark.parametrize(
    ("classes", "stored"),
    [([0, 254, -1, 7], torch.uint8), ([0, 255, -1, 7], torch.int16), ([32_767, -1], torch.int16), ([-1], torch.uint8)],
)
def test_a_prediction_takes_a_byte_where_its_classes_and_none_fit(
    tmp_path: Path, classes: list[int], stored: torch.dtype
) -> None:
    prediction = torch.tensor(classes, dtype=torch.int16)
    file = write_and_open(tmp_path, {"prediction": prediction})
    assert load_file(file.path)["prediction"].dtype == stored
    assert_same_bits(prediction, file.read("prediction"))


@given(st.lists(st.integers(-1, 32_767), min_size=1, max_size=40))
def test_any_prediction_comes_back(tmp_path_factory: pytest.TempPathFactory, classes: list[int]) -> None:
    prediction = torch.tensor(classes)
    file = write_and_open(tmp_path_factory.mktemp("runs"), {"prediction": prediction})
    assert file.read("prediction").tolist() == classes
    assert file.read("prediction").dtype == torch.int16


def test_reading_maps_the_file_and_a_change_in_place_stays_in_memory(written: Path) -> None:
    before = written.read_bytes()
    loss = ArrayFile.open(written).read("loss")
    loss.zero_()
    assert written.read_bytes() == before
    assert not torch.equal(ArrayFile.open(written).read("loss"), loss)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux which pages are in memory")
def test_opening_and_mapping_reads_no_payload(tmp_path: Path) -> None:
    num_examples = 8_000_000
    file = write_and_open(tmp_path, {"loss": torch.ones(num_examples)}, target=None)
    loss = file.read("loss")
    assert mapped_kilobytes(file.path) < 8_000  # the pages around the header, which the kernel brings in as it likes
    assert loss.sum() == num_examples
    assert mapped_kilobytes(file.path) > 31_000


def mapped_kilobytes(path: Path) -> int:
    """Resident part of the mappings of a file."""
    entries = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    resident = [re.search(r"^Rss:\s+(\d+) kB", entry, re.M) for entry in entries if str(path) in entry]
    return sum(int(match[1]) for match in resident if match)


# ------------------------------------------------------------------ truncated and foreign files


def test_a_file_that_goes_after_its_header_was_read_is_named(written: Path) -> None:
    file = ArrayFile.open(written)
    written.unlink()  # as another process sets aside what it does not continue
    with pytest.raises(RecordFileError, match=f"^'{re.escape(str(written))}' cannot be read"):
        file.read("loss")


@pytest.mark.parametrize("file_format", [CHECKPOINT, TARGETS, PROBABILITIES])
def test_a_truncated_file_is_named(written: Path, file_format: str) -> None:
    run = written.parents[1]
    paths = {TARGETS: targets_path(run, "train-probe"), PROBABILITIES: probabilities_path(run)}
    path = paths.get(file_format, written)
    content = path.read_bytes()
    assert ArrayFile.open(path, file_format)
    for size in {*range(0, len(content), 3), 7, 8, len(content) - 1}:
        path.write_bytes(content[:size])
        message = rf"^'{path}' is truncated or not a safetensors file \(.+\): delete it or copy it here again\.$"
        with pytest.raises(RecordFileError, match=message):
            ArrayFile.open(path, file_format)


@given(content=st.binary(max_size=400))
def test_no_bytes_do_more_than_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("runs") / "step-000000000001.safetensors"
    path.write_bytes(content)
    with pytest.raises(RecordFileError, match=re.escape(str(path))):
        ArrayFile.open(path)


def rewritten(path: Path, arrays: dict | None = None, **metadata: str | None) -> Path:
    """The same file with another header, or other arrays; without checksums, as an earlier version wrote it."""
    with safetensors.safe_open(path, framework="numpy") as file:
        changed = {**file.metadata(), "checksum": None, "checksums": None, **metadata}
    kept = {key: value for key, value in changed.items() if value is not None}
    held = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save({**held, **(arrays or {})}, kept))
    return path


FOREIGN = "was not written as '{}' (its format is {}): move it out of the record's folder."
NEWER = (
    "was written by a newer lightning_easiness (format version {}; this one reads up to 1): "
    "upgrade lightning-easiness to read it."
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, FOREIGN.format(CHECKPOINT, None)),
        ({"format": "pt"}, FOREIGN.format(CHECKPOINT, "'pt'")),
        ({"format": TARGETS}, FOREIGN.format(CHECKPOINT, f"'{TARGETS}'")),
        ({"format_version": "2"}, NEWER.format(2)),
        ({"format_version": "one"}, "is damaged (format_version is 'one'): delete it."),
        ({"step": None}, "is damaged (its header has no 'step'): delete it."),
        ({"num_examples": "36"}, "is damaged ('loss' is not float32 with one value per example): delete it."),
        ({"num_examples": "41"}, "is damaged ('loss' is not float32 with one value per example): delete it."),
        (
            {"arrays": {"correct": torch.zeros(NUM_EXAMPLES, dtype=torch.uint8).numpy()}},
            "is damaged ('correct' is not bool with one value per example): delete it.",
        ),
    ],
)
def test_a_foreign_newer_or_damaged_checkpoint_is_named(written: Path, changes: dict, message: str) -> None:
    with pytest.raises(RecordFileError, match=whole(f"'{written}' {message}")):
        ArrayFile.open(rewritten(written, **changes))


def test_targets_and_probabilities_of_another_length_or_kind_are_named(written: Path) -> None:
    run = written.parents[1]
    for path, file_format, changes in (
        (targets_path(run, "train-probe"), TARGETS, {"num_examples": "36"}),
        (targets_path(run, "train-probe"), TARGETS, {"arrays": {"target": torch.zeros(NUM_EXAMPLES).numpy()}}),
        (probabilities_path(run), PROBABILITIES, {"num_classes": "6"}),
        (probabilities_path(run), PROBABILITIES, {"format": CHECKPOINT}),
    ):
        with pytest.raises(RecordFileError, match=rf"^'{path}' (is damaged|was not written as)"):
            ArrayFile.open(rewritten(path, **changes), file_format)


def test_fields_that_this_version_does_not_have_are_left_out(written: Path) -> None:
    dtypes = json.dumps({"loss": "float32", "entropy": "float32"})
    assert ArrayFile.open(rewritten(written, fields=dtypes)).fields == ("loss",)
    with pytest.raises(RecordFileError, match=r"is damaged \(maximum recursion depth exceeded"):
        ArrayFile.open(rewritten(written, fields="[" * 10**5))


def test_a_renamed_checkpoint_is_named(written: Path) -> None:
    path = written.rename(written.with_name("step-000000000121.safetensors"))
    message = f"'{path}' holds step 120, not the one in its name: restore its name."
    with pytest.raises(RecordFileError, match=whole(message)):
        open_checkpoint(path)


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    message = f"'{tmp_path}' is not a run: it holds no run.json; copy it here again."
    with pytest.raises(RecordFileError, match=whole(message)):
        read_run(tmp_path)
    path = targets_path(tmp_path, "train-probe")
    with pytest.raises(RecordFileError, match=whole(f"'{path}' does not exist: copy it here again.")):
        read_identity(tmp_path, "train-probe")
    path.mkdir(parents=True)
    with pytest.raises(RecordFileError, match=whole(f"'{path}' is a folder, not a file: move it away.")):
        read_identity(tmp_path, "train-probe")


OF_A_RUN = '{"format": "lightning_easiness.run", %s}'
NO_NUMBER = "is not an integer, or versions not an object): copy it here again."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged (Expecting value: line 1 column 1 (char 0)): copy it here again."),
        pytest.param("[" * 10**5, "is damaged (maximum recursion depth exceeded", id="deep"),
        *((text, FOREIGN.format("lightning_easiness.run", None)) for text in ("[]", "null", "{}")),
        (OF_A_RUN % '"format_version": 3', NEWER.format(3)),
        (OF_A_RUN % '"format_version": 1, "seed": [1]', f"is damaged (seed [1] {NO_NUMBER}"),
        (OF_A_RUN % '"format_version": 1, "versions": 2', f"is damaged (seed None {NO_NUMBER}"),
        (
            OF_A_RUN % '"format_version": 1, "recipe": [1]',
            "is damaged (its recipe is not an object): copy it here again.",
        ),
    ],
)
def test_a_damaged_run_json_is_named(written: Path, content: str, message: str) -> None:
    run = written.parents[1]
    (run / "run.json").write_text(content)
    for read in (lambda: read_run(run), lambda: RunWriter(run.parent, run.name, resume=True)):
        with pytest.raises(RecordFileError, match="^" + re.escape(f"'{run}/run.json' {message}")):
            read()
    assert not is_complete(run)
