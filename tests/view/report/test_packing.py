"""Columns as text: read back as the page reads them."""

import base64
import gzip

import numpy as np
import pytest

from lightning_easiness.view.report.packing import pack

KINDS = {"u1": "<u1", "i1": "<i1", "u2": "<u2", "i2": "<i2", "u4": "<u4", "i4": "<i4", "f4": "<f4", "fraction": "<u2"}


def unpacked(columns: dict[str, np.ndarray], fractions: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    packed = pack(columns, fractions)
    data = gzip.decompress(base64.b64decode(packed.text))
    found = {}
    for name, about in packed.arrays.items():
        kind = np.dtype(KINDS[about["kind"]])
        assert about["offset"] % kind.itemsize == 0
        values = np.frombuffer(data, kind, about["length"], about["offset"])
        found[name] = np.where(values > 65534, np.nan, values / 65534) if about["kind"] == "fraction" else values
    return found


@pytest.mark.parametrize("highest", [1, 255, 256, 65_535, 65_536, 2**31 - 1])
@pytest.mark.parametrize("lowest", [0, -1])
def test_whole_numbers_come_back_exactly(highest: int, lowest: int) -> None:
    column = np.array([lowest, highest, 1], dtype=np.int64)
    assert unpacked({"odd": np.array([1], dtype=np.uint8), "column": column})["column"].tolist() == column.tolist()


def test_numbers_come_back_as_float32_with_what_is_unknown() -> None:
    column = np.array([1e-9, np.nan, -3.25, np.inf], dtype=np.float32)
    np.testing.assert_array_equal(unpacked({"mask": np.array([True]), "column": column})["column"], column)


def test_fractions_come_back_to_five_digits() -> None:
    column = np.append(np.random.default_rng(0).random(100), [0, 1, np.nan]).astype(np.float32)
    np.testing.assert_allclose(unpacked({"column": column}, ("column",))["column"], column, atol=1e-5)


def test_rows_of_a_table_follow_one_another() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert unpacked({"table": table})["table"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_same_columns_give_the_same_text() -> None:
    column = {"a": np.arange(5)}
    assert pack(column) == pack(column)
