"""JSON that is compared with its checksum when it is read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness._utils.checked_files import RecordFileError, read_json, with_checksum

CONTENT: dict[str, Any] = {"seed": 31, "share": 0.25, "names": ["a", "ä"], "sizes": {10: 1.5, 9: float("nan")}}


def written(path: Path, content: dict[str, Any]) -> bytes:
    path.write_text(json.dumps(with_checksum(content), indent=1), encoding="utf-8")
    return path.read_bytes()


def plain(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def test_any_flipped_bit_is_named_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "about.json"
    data, unnoticed, unnamed = written(path, CONTENT), 0, 0
    whole = plain(read_json(path, "delete it"))
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            found = read_json(path, "delete it")
        except RecordFileError as error:
            unnamed += not re.fullmatch(rf"'{re.escape(str(path))}' is damaged \(.*\): delete it\.", str(error), re.S)
        else:
            unnoticed += 1
            found.pop("checksum", None)
            rest = {name: value for name, value in found.items() if name in CONTENT}
            assert plain(rest) == plain({name: value for name, value in json.loads(whole).items() if name in CONTENT})
    assert not unnamed
    assert unnoticed < len(data), "white space, and the name of the checksum itself"


@given(
    st.dictionaries(
        st.text() | st.integers(), st.integers() | st.floats() | st.text() | st.lists(st.booleans() | st.none())
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    content.pop("checksum", None)
    path = tmp_path_factory.getbasetemp() / "some.json"
    path.write_text(json.dumps(with_checksum(content)))
    found = read_json(path, "delete it")
    found.pop("checksum")
    assert plain(found) == plain(json.loads(json.dumps(content)))


def test_what_was_written_before_has_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "about.json"
    path.write_text('{"seed": 3}')
    assert read_json(path, "delete it") == {"seed": 3}
