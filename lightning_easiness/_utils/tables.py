"""Columns as pandas tables, CSV, Parquet and text. pandas and pyarrow are loaded when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Columns = Mapping[str, NDArray[Any]]  # name -> (n,); what is masked, and NaN, is not known


class Table:
    """A class whose `to_pandas` can be written to files."""

    def to_pandas(self) -> pd.DataFrame:
        """Return the table."""
        raise NotImplementedError

    def to_csv(self, path: str | Path) -> None:
        """Write the table of `to_pandas`, empty where not known, in as many digits as bring back the same numbers."""
        self.to_pandas().to_csv(path)

    def to_parquet(self, path: str | Path) -> None:
        """Write the table of `to_pandas` as Parquet.

        Raises:
            ImportError: pyarrow is not installed.
        """
        write_parquet(self.to_pandas(), path, f"{type(self).__name__}.to_parquet()")


def masked(labels: Any) -> NDArray[Any]:
    """Return integers of a tensor or array with those below 0 as not known."""
    values = np.asarray(labels)
    return np.ma.masked_array(values, mask=values < 0)


def with_names(columns: Columns, class_names: Sequence[str] | None, *of: str) -> dict[str, NDArray[Any]]:
    """Add a column "<label>_name" after each of the columns of labels `of`; None where a label has no name."""
    if class_names is None:
        return dict(columns)
    known = np.array([*class_names, None], dtype=object)
    named: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        named[name] = values
        if name in of:
            labels = np.ma.getdata(values)
            named[f"{name}_name"] = known[np.where((labels >= 0) & (labels < len(class_names)), labels, -1)]
    return named


def names_for_labels(columns: Mapping[str, T]) -> dict[str, T]:
    """Put the names that `with_names` added in the place of the labels."""
    added = {f"{name}_name" for name in columns}
    return {name: columns.get(f"{name}_name", values) for name, values in columns.items() if name not in added}


def to_pandas(columns: Columns, *, index: str) -> pd.DataFrame:
    """Make a table whose index is the column named `index`."""
    pandas = import_module("pandas")
    series = {
        name: pandas.arrays.IntegerArray(values.data, mask=np.ma.getmaskarray(values))
        if isinstance(values, np.ma.MaskedArray)
        else values
        for name, values in columns.items()
    }
    table: pd.DataFrame = pandas.DataFrame(series).set_index(index)
    return table


def write_parquet(table: pd.DataFrame, path: str | Path, caller: str) -> None:
    """Write a table as Parquet, or say how to install what that needs."""
    check_parquet(caller)
    table.to_parquet(path, engine="pyarrow")


def check_parquet(caller: str) -> None:
    """Raise an ImportError unless Parquet files can be written."""
    try:
        import_module("pyarrow")
    except ImportError as error:
        raise ImportError(f"{caller} needs pyarrow: install it with pip install pyarrow.") from error


def to_text(columns: Mapping[str, Iterable[Any]]) -> str:
    """Align columns to the right under their names, "-" for what is not known.

    Example:
        >>> print(to_text({"example": [7, 12], "score": [0.25, float("nan")], "right": [True, False]}))
        example  score  right
              7   0.25    yes
             12      -     no
    """
    texts = [[name, *map(_to_cell, values)] for name, values in columns.items()]
    widths = [max(map(len, column)) for column in texts]
    rows = zip(*texts, strict=True)
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _to_cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if str(value) in ("nan", "<NA>", "None") or (isinstance(value, int) and value < 0):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
