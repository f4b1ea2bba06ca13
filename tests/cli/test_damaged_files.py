"""Labels, indices and images that cannot be read are named in one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from lightning_easiness.cli.files import read_images, read_indices, read_labels


def as_file(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


WHOLE = as_file(np.arange(5))
BROKEN = {
    "cut": WHOLE[:-1],
    "cut header": WHOLE[:40],
    "empty": b"",
    "no header": WHOLE.replace(b"(5,)", b"(5,("),
    "objects": as_file(np.array([None])),
    "other shape": as_file(np.ones((2, 2, 2, 2, 2))),
}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe1", b"1,2\n3\n4,5,6,7\n", b"example,target\n10000000000,1\n0,2\n", b"example,target\n"]
)
def test_labels_in_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'{path}' [^\n]*\.$"):
        read_labels(path)


@pytest.mark.parametrize("read", [read_labels, read_indices, read_images])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_arrays(tmp_path: Path, read: object, content: bytes) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'{path}' [^\n]*\.$"):
        read(path)


def test_indices_below_zero(tmp_path: Path) -> None:
    path = tmp_path / "kept.npy"
    path.write_bytes(as_file(np.array([0, -1])))
    with pytest.raises(ValueError, match=rf"^'{path}' must hold indices of examples"):
        read_indices(path)
    path.write_bytes(as_file(np.array([0, 3], dtype=np.uint8)))
    assert read_indices(path).tolist() == [0, 3]
