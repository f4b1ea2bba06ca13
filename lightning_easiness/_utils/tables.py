"""Columns as pandas tables, CSV, Parquet, text and HTML. pandas and pyarrow are loaded when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Columns = Mapping[str, NDArray[Any]]  # name -> (n,); what is masked, and NaN, is not known

_ROWS_AT_ONCE = 2**16  # of a CSV file
_MOST_ROWS, _AT_ENDS = 20, 5  # of a table in a notebook; of a longer one so many at each end


class Table(ABC):
    """A class whose `to_pandas` can be written to files."""

    @abstractmethod
    def to_pandas(self) -> pd.DataFrame:
        """Return the table."""

    def to_csv(self, path: str | Path) -> None:
        """Write the table of `to_pandas`, empty where not known, in as many digits as bring back the same numbers."""
        self.to_pandas().to_csv(path)

    def to_parquet(self, path: str | Path) -> None:
        """Write the table of `to_pandas` as Parquet.

        Raises:
            ImportError: pyarrow is not installed.
        """
        write_parquet(self.to_pandas(), path, f"{type(self).__name__}.to_parquet()")


class TitledTable(Table):
    """A table that is also written under a title: `str()` of it is text, and a notebook shows HTML."""

    @abstractmethod
    def _title(self) -> str:
        """Return the line above the columns."""

    @abstractmethod
    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the columns by name, all of one length."""

    def __str__(self) -> str:
        return f"{self._title()}\n{to_text(self._columns())}"

    def _repr_html_(self) -> str:
        columns = self._columns()
        return to_html(self._title(), columns, max(map(len, columns.values()), default=0))


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


def write_csv(columns: Columns, path: str | Path, *, index: str) -> None:
    """Write the table that `to_pandas` makes of columns, a part of the rows at a time: it is never there as a whole."""
    get_handle = import_module("pandas.io.common").get_handle
    with get_handle(path, "w", compression="infer", encoding="utf-8") as opened:
        for start in range(0, max(1, len(columns[index])), _ROWS_AT_ONCE):
            part = {name: values[start : start + _ROWS_AT_ONCE] for name, values in columns.items()}
            to_pandas(part, index=index).to_csv(opened.handle, header=start == 0)


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


def ends(count: int) -> list[int]:
    """Return the rows that a notebook shows of so many: all of a few, else the first and the last.

    Example:
        >>> ends(3), ends(1000)
        ([0, 1, 2], [0, 1, 2, 3, 4, 995, 996, 997, 998, 999])
    """
    return list(range(count)) if count <= _MOST_ROWS else [*range(_AT_ENDS), *range(count - _AT_ENDS, count)]


def to_html(title: str, columns: Mapping[str, Iterable[Any]], count: int) -> str:
    """Write a table for a notebook, in its own colours, light or dark; all text is escaped.

    The columns hold the rows `ends(count)` of `count` rows; a line says how many are between.

    Example:
        >>> "<b>dog</b>" in to_html("One", {"name": ["<b>dog</b>"]}, 1)
        False
    """
    rows = [_html_row("td", map(_to_cell, row)) for row in zip(*columns.values(), strict=True)]
    if count > len(rows):
        between = f"… {count - len(rows):,} more …"
        rows.insert(len(rows) // 2, f'<tr><td colspan="{len(columns)}" style="text-align:center">{between}</td></tr>')
    head = _html_row("th", columns)
    # the class is that of pandas' tables, for which every notebook has a style
    table = f'<table class="dataframe"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div><p style="margin:0 0 0.4em">{escape(title)}</p>{table}</div>'


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _to_cell(value: Any) -> str:
    if isinstance(value, str):  # a name may hold line breaks, or codes that control a terminal
        return value if value.isprintable() else "".join(each if each.isprintable() else " " for each in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if str(value) in ("nan", "<NA>", "None") or (isinstance(value, int) and value < 0):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
