"""Decisions files: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import Keep
from lightning_easiness.data.decisions import read_decisions, whole_fingerprint
from lightning_easiness.data.identity import DataIdentity

TARGET = torch.tensor([0, 1, 2, 0, 1, 2])


def write(folder: Path, *rows: dict[str, Any], **changes: Any) -> Path:
    about = {"format": "lightning_easiness.decisions", "version": 1, "num_examples": 6, "num_classes": 3}
    path = folder / "decisions.json"
    path.write_text(json.dumps({**about, "decisions": list(rows), **changes}))
    return path


def drop(example: int, **more: Any) -> dict[str, Any]:
    return {"example": example, "decision": "drop", **more}


def test_dropped_examples_are_left_out_and_relabelled_ones_get_their_label(tmp_path: Path) -> None:
    rows = [drop(1), {"example": 4, "decision": "relabel", "label": 2}, {"example": 5, "decision": "keep"}]
    decisions = read_decisions(write(tmp_path, *rows))
    assert decisions.kept.tolist() == [0, 2, 3, 4, 5]
    assert decisions.labels.tolist() == [-1, -1, -1, -1, 2, -1]


def test_a_file_without_decisions_keeps_everything(tmp_path: Path) -> None:
    decisions = read_decisions(write(tmp_path))
    assert decisions.kept.tolist() == list(range(6))
    assert decisions.identity.target is None


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        ([], {"format": "another"}, "is no decisions file"),
        ([], {"version": 2}, "version 2, and this package reads 1"),
        ([], {"num_examples": "6"}, "lacks 'num_examples' or 'decisions'"),
        ([drop(6)], {}, "example 6, but examples are numbered 0 to 5"),
        ([drop(-1)], {}, "is no decision"),
        ([drop(1.0)], {}, "is no decision"),
        ([drop(True)], {}, "is no decision"),
        ([{"example": 1, "decision": "burn"}], {}, "one of keep, drop, relabel"),
        (["drop 1"], {}, "is no decision"),
        ([drop(1), drop(1)], {}, "decides on example 1 twice"),
        ([drop(1, given="cat")], {}, "'given' of example 1 is 'cat': it is an integer"),
        ([drop(1, source=0.5)], {}, "'source' of example 1 is 0.5"),
        ([{"example": 1, "decision": "relabel"}], {}, "relabels example 1 to None"),
        ([{"example": 1, "decision": "relabel", "label": 3}], {}, "a label is an integer below 3"),
        ([drop(i) for i in range(6)], {}, "drops all of 6 examples"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    tmp_path: Path, rows: list[Any], changes: dict[str, Any], sentence: str
) -> None:
    path = write(tmp_path, *rows, **changes)
    with pytest.raises(ValueError, match=r"^[^\n]*\.$") as caught:
        read_decisions(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "decisions.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"download it again|is no decisions file"):
        read_decisions(path)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (torch.cat([TARGET, TARGET]), "6 examples and the second 12"),
        (torch.tensor([0, 2, 2, 0, 1, 2]), "example 1 has target 1 in the first and 2"),
        (torch.tensor([1, 1, 2, 0, 0, 2]), "the same in another order"),
    ],
)
def test_decisions_of_another_data_set_are_refused(tmp_path: Path, target: torch.Tensor, problem: str) -> None:
    path = write(tmp_path, drop(1, given=1), fingerprints=whole_fingerprint(DataIdentity.of_target(TARGET)))
    decisions = read_decisions(path)
    decisions.check_same(DataIdentity.of_target(TARGET), "Keep")
    with pytest.raises(ValueError, match=problem):
        decisions.check_same(DataIdentity.of_target(target), "Keep")


def test_labels_that_only_one_side_knows_are_not_compared(tmp_path: Path) -> None:
    decisions = read_decisions(write(tmp_path, drop(1, given=1)))
    decisions.check_same(DataIdentity(6), "Keep")
    decisions.check_same(DataIdentity.of_target(torch.tensor([-1, 1, -1, -1, -1, -1])), "Keep")


def test_the_place_in_the_source_tells_parts_of_one_data_set_apart(tmp_path: Path) -> None:
    decisions = read_decisions(write(tmp_path, drop(1, source=7)))
    part = torch.tensor([3, 7, 9, 20, 21, 22])
    decisions.check_same(DataIdentity(6, source_index=part), "Keep")
    with pytest.raises(ValueError, match="example 1 is item 7 of its source in the first and 8 in the second"):
        decisions.check_same(DataIdentity(6, source_index=part + 1), "Keep")


def test_digests_tell_data_sets_without_classes_apart(tmp_path: Path) -> None:
    digest = torch.arange(6) + 2**40
    decisions = read_decisions(write(tmp_path, drop(1), fingerprints=whole_fingerprint(DataIdentity(6, digest=digest))))
    decisions.check_same(DataIdentity(6, digest=digest.clone()), "Keep")
    decisions.check_same(DataIdentity(6), "Keep")
    with pytest.raises(ValueError, match="the same in another order"):
        decisions.check_same(DataIdentity(6, digest=digest.flip(0)), "Keep")


def test_a_length_that_is_not_that_of_the_data_takes_no_memory(tmp_path: Path) -> None:
    decisions = read_decisions(write(tmp_path, drop(1, given=0), num_examples=10**15))
    with pytest.raises(ValueError, match=r"the first has 1000000000000000 examples and the second 6, so an index"):
        decisions.check_same(DataIdentity(6, TARGET), "Keep")
    with pytest.raises(ValueError, match="are of 1000000000000000 examples, more than memory holds: download them"):
        Keep.from_decisions(tmp_path / "decisions.json")


@pytest.mark.parametrize("row", [drop(1, given=2**63), drop(1, source=10**30), drop(10**30), drop(1, given=True)])
def test_numbers_that_no_tensor_holds_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^'{tmp_path / 'decisions.json'}' [^\n]*\.$"):
        read_decisions(write(tmp_path, row))
