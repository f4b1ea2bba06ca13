"""Columns to pandas, CSV and Parquet. pandas and pyarrow are optional, and loaded when they are needed."""

import csv
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[
    str, NDArray[Any]
]  # name -> (n,); a masked array is empty where it is masked, a float where it is NaN


def to_pandas(columns: Columns, *, index: str, caller: str) -> "pd.DataFrame":
    """Make a table whose index is the column named `index`.

    Args:
        columns: the columns, `(n,)` each.
        index: which of them is the index.
        caller: what the user called, for the error.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = import_for_tables("pandas", caller)
    series = {
        name: pandas.arrays.IntegerArray(values.data, mask=np.ma.getmaskarray(values))
        if isinstance(values, np.ma.MaskedArray)
        else values
        for name, values in columns.items()
    }
    table: pd.DataFrame = pandas.DataFrame(series).set_index(index)
    return table


def write_csv(path: str | Path, columns: Columns) -> None:
    """Write a header and a line for each row, with as many digits as bring back the same numbers. Needs no pandas."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*map(_as_text, columns.values()), strict=True))


def import_for_tables(module: str, caller: str) -> Any:
    """Import an optional package, or say how to install it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{caller} needs {module}: install it with pip install 'lightning-easiness[tables]'."
        ) from error


def _as_text(values: NDArray[Any]) -> list[str]:
    plain = np.asarray(values)
    empty = np.ma.getmaskarray(values) | (plain != plain)  # masked, or NaN
    return ["" if hidden else str(value) for value, hidden in zip(plain, empty, strict=True)]
