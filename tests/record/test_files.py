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

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.record.files import CHECKPOINT, FIELDS, TARGETS, ArrayFile, RecordFileError
from lightning_easiness.record.layout import is_complete, open_checkpoint, read_run
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, append, make_fields, make_target, whole


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with RunWriter(tmp_path, "seed-0", seed=0) as writer:
        return append(writer)


def assert_same_bits(given: Tensor, read: Tensor) -> None:
    assert given.dtype == read.dtype
    assert given.numpy().tobytes() == read.numpy().tobytes()


# ------------------------------------------------------------------ what is written is read


@pytest.mark.parametrize("online", [False, True])
def test_every_field_comes_back_bit_for_bit(tmp_path: Path, online: bool) -> None:
    fields = make_fields(3, online=online)
    with RunWriter(tmp_path, "seed-3", seed=3) as writer:
        path = append(writer, fields=fields)
    file = ArrayFile.open(path)
    assert set(file.fields) == set(fields)
    for name in fields:
        assert_same_bits(fields[name], file.read(name))


def test_header_says_what_was_given(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "seed-3") as writer:
        path = append(writer, step=240, epoch=7, series="val-probe", num_classes=None, loss_name="focal")
    assert ArrayFile.open(path) == ArrayFile(
        path=path,
        step=240,
        epoch=7,
        series="val-probe",
        num_examples=NUM_EXAMPLES,
        num_classes=None,
        fingerprint=DataIdentity(NUM_EXAMPLES, make_target()).fingerprint,
        loss="focal",
        fields=("loss", "correct", "margin", "sample_easiness", "el2n"),
    )


@given(
    correct=st.lists(st.booleans(), min_size=1, max_size=40),
    loss=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
)
def test_any_length_and_any_float_come_back(
    tmp_path_factory: pytest.TempPathFactory, correct: list, loss: float
) -> None:
    fields = {"correct": torch.tensor(correct), "loss": torch.full((len(correct),), loss)}
    with RunWriter(tmp_path_factory.mktemp("runs"), "a") as writer:
        file = ArrayFile.open(append(writer, fields=fields, target=None))
    assert_same_bits(fields["correct"], file.read("correct"))
    assert_same_bits(fields["loss"], file.read("loss"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_are_stored_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    loss = torch.rand(NUM_EXAMPLES).to(dtype).requires_grad_()
    with RunWriter(tmp_path, "a") as writer:
        file = ArrayFile.open(append(writer, fields={"loss": loss}))
    assert_same_bits(loss.detach().float(), file.read("loss"))


def test_a_view_is_stored_as_what_it_shows(tmp_path: Path) -> None:
    values = torch.rand(2, NUM_EXAMPLES, 2)
    with RunWriter(tmp_path, "a") as writer:
        file = ArrayFile.open(append(writer, fields={"loss": values[1, :, 0], "margin": values[1, :, 0]}))
    assert torch.equal(file.read("loss"), values[1, :, 0])
    assert torch.equal(file.read("margin"), values[1, :, 0])


def test_files_are_plain_safetensors_with_an_eighth_of_a_byte_for_correct(written: Path) -> None:
    stored = load_file(written)
    assert stored["loss"].dtype == torch.float32
    assert stored["correct"].dtype == torch.uint8
    assert stored["correct"].shape == ((NUM_EXAMPLES + 7) // 8,)
    assert load_file(written.with_name("targets.safetensors"))["target"].dtype == torch.int64


def test_reading_maps_the_file_and_a_change_in_place_stays_in_memory(written: Path) -> None:
    before = written.read_bytes()
    loss = ArrayFile.open(written).read("loss")
    loss.zero_()
    assert written.read_bytes() == before
    assert not torch.equal(ArrayFile.open(written).read("loss"), loss)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux which pages are in memory")
def test_opening_and_mapping_reads_no_payload(tmp_path: Path) -> None:
    num_examples = 8_000_000
    with RunWriter(tmp_path, "a") as writer:
        path = append(writer, fields={"loss": torch.ones(num_examples)}, target=None)
    loss = ArrayFile.open(path).read("loss")
    assert mapped_kilobytes(path) < 8_000  # the pages around the header, which the kernel brings in as it likes
    assert loss.sum() == num_examples
    assert mapped_kilobytes(path) > 31_000


def mapped_kilobytes(path: Path) -> int:
    """Resident part of the mappings of a file."""
    entries = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    resident = [re.search(r"^Rss:\s+(\d+) kB", entry, re.M) for entry in entries if str(path) in entry]
    return sum(int(match[1]) for match in resident if match)


# ------------------------------------------------------------------ truncated and foreign files


def cuts(size: int) -> list[int]:
    return [0, 1, 7, 8, 9, 100, size // 2, size - 1]


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("name", ["checkpoint", "targets"])
def test_a_truncated_file_is_named(written: Path, place: int, name: str) -> None:
    path, kind = {
        "checkpoint": (written, CHECKPOINT),
        "targets": (written.with_name("targets.safetensors"), TARGETS),
    }[name]
    content = path.read_bytes()
    path.write_bytes(content[: cuts(len(content))[place]])
    with pytest.raises(RecordFileError) as caught:
        ArrayFile.open(path, kind)
    assert re.fullmatch(
        rf"'{re.escape(str(path))}' is truncated or not a safetensors file \(.+\): delete it or copy it here again\.",
        str(caught.value),
    )


@given(content=st.binary(max_size=400))
def test_no_bytes_do_more_than_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("runs") / "step-000000000001.safetensors"
    path.write_bytes(content)
    with pytest.raises(RecordFileError, match=re.escape(str(path))):
        ArrayFile.open(path)


def test_every_cut_of_the_header_is_noticed(written: Path) -> None:
    content = written.read_bytes()
    for size in range(0, len(content), 3):
        written.write_bytes(content[:size])
        with pytest.raises(RecordFileError):
            ArrayFile.open(written)


def rewritten(path: Path, arrays: dict | None = None, **metadata: str | None) -> Path:
    """The same file with another header, or other arrays."""
    with safetensors.safe_open(path, framework="numpy") as file:
        changed = {**file.metadata(), **metadata}
    kept = {key: value for key, value in changed.items() if value is not None}
    held = safetensors.numpy.load_file(path)
    path.write_bytes(safetensors.numpy.save({**held, **(arrays or {})}, kept))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": None},
            (
                "was not written as 'lightning_easiness.checkpoint' (its format is None): "
                "move it out of the record's folder."
            ),
        ),
        (
            {"format": "pt"},
            (
                "was not written as 'lightning_easiness.checkpoint' (its format is 'pt'): "
                "move it out of the record's folder."
            ),
        ),
        (
            {"format_version": "2"},
            (
                "was written by a newer lightning_easiness (format version 2; this one reads up to 1): "
                "upgrade lightning-easiness to read it."
            ),
        ),
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


def test_fields_unknown_to_this_version_are_not_in_the_way(written: Path) -> None:
    dtypes = json.dumps({"loss": "float32", "entropy": "float32"})
    assert ArrayFile.open(rewritten(written, fields=dtypes)).fields == ("loss",)


def test_targets_are_not_a_checkpoint(written: Path) -> None:
    path = written.with_name("targets.safetensors")
    message = (
        f"'{path}' was not written as 'lightning_easiness.checkpoint' "
        "(its format is 'lightning_easiness.targets'): move it out of the record's folder."
    )
    with pytest.raises(RecordFileError, match=whole(message)):
        ArrayFile.open(path)


def test_a_renamed_checkpoint_is_named(written: Path) -> None:
    path = written.rename(written.with_name("step-000000000121.safetensors"))
    with pytest.raises(
        RecordFileError, match=whole(f"'{path}' holds step 120, not the one in its name: give it its name back.")
    ):
        open_checkpoint(path)


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordFileError, match=whole(f"'{tmp_path}/step' does not exist.")):
        ArrayFile.open(tmp_path / "step")
    with pytest.raises(RecordFileError, match=r"cannot be read \(.+\): check what it is and who may read it\."):
        ArrayFile.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged (Expecting value: line 1 column 1 (char 0)): copy it here again."),
        ("[]", "is damaged (it holds no JSON object): copy it here again."),
        (
            "{}",
            "was not written as 'lightning_easiness.run' (its format is None): move it out of the record's folder.",
        ),
        (
            '{"format": "lightning_easiness.run", "format_version": 3}',
            (
                "was written by a newer lightning_easiness (format version 3; this one reads up to 1): "
                "upgrade lightning-easiness to read it."
            ),
        ),
    ],
)
def test_a_damaged_run_json_is_named(written: Path, content: str, message: str) -> None:
    run = written.parents[1]
    (run / "run.json").write_text(content)
    with pytest.raises(RecordFileError, match=whole(f"'{run}/run.json' {message}")):
        read_run(run)
    assert not is_complete(run)
    with pytest.raises(RecordFileError, match=whole(f"'{run}/run.json' {message}")):
        RunWriter(run.parent, run.name, resume=True)


def test_a_folder_without_run_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordFileError, match=whole(f"'{tmp_path}' is not a run: it holds no run.json.")):
        read_run(tmp_path)


def test_fields_have_one_dtype_each() -> None:
    assert FIELDS["correct"] is torch.bool
    assert FIELDS["count"] is torch.int32
    assert {FIELDS[name] for name in ("loss", "margin", "sample_easiness", "el2n")} == {torch.float32}
