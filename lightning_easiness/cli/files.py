"""What the command line reads and writes: images, labels, indices and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_easiness._utils.tables import write_parquet

if TYPE_CHECKING:
    import pandas as pd

_LABEL_COLUMNS, _INDEX_COLUMNS = ("target", "label", "given"), ("example", "index")
_MOST_PER_ROW = 10_000  # examples of a data set for each row of a table of some of them


def read_images(path: Path) -> NDArray[Any]:
    """Map images from a .npy file, of shape (N, H, W), (N, H, W, C) or (N, C, H, W)."""
    images = _map(path)
    channels = images.ndim == 3 or (images.ndim == 4 and {images.shape[1], images.shape[3]} & {1, 3, 4})
    if not channels or images.dtype.kind not in "uf":
        raise ValueError(
            f"'{path}' must hold uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) of 1, 3 or 4 channels; got "
            f"{images.dtype} {images.shape}."
        )
    return images


def read_labels(path: Path) -> Tensor:
    """Read the label of each example, int64 (N,), from .npy, or from text with one per line.

    A .csv file of several columns has one that is named "target", "label" or "given"; a column "example" or "index"
    says which example a row is of, so that tables of this command line are understood. An empty cell is -1.
    """
    if path.suffix == ".npy":
        labels = _map(path)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"'{path}' must hold labels, integers (N,); got {labels.dtype} {labels.shape}.")
        return torch.from_numpy(labels.astype(np.int64))
    import pandas

    try:
        rows = pandas.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except pandas.errors.EmptyDataError:
        raise ValueError(f"'{path}' is empty: it must hold one label per line.") from None
    except ValueError as error:  # of pandas, and of bytes that are no text
        raise ValueError(f"'{path}' must be a text file of one label per line, or a table ({_line(error)}).") from error
    names = rows.iloc[0].tolist()
    column, place = (_first(names, wanted) for wanted in (_LABEL_COLUMNS, _INDEX_COLUMNS))
    if column is None and len(names) != 1:
        raise ValueError(
            f"'{path}' must hold one label per line, or a column 'target', 'label' or 'given'; got {names}."
        )
    try:
        texts = rows[0] if column is None else rows[column][1:]
        found = torch.tensor([int(label or -1) for label in texts], dtype=torch.int64)
        if not len(found):
            raise ValueError("it has only a header")
        return found if column is None or place is None else _in_order(found, [int(index) for index in rows[place][1:]])
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"'{path}' must hold an integer label in each line, -1 where not known ({error}).") from error


def read_indices(path: Path) -> Tensor:
    """Read the indices of examples, int64 (n,), from a .npy file."""
    indices = _map(path)
    if indices.dtype.kind not in "iu" or indices.ndim != 1 or (len(indices) and int(indices.min()) < 0):
        raise ValueError(f"'{path}' must hold indices of examples, integers (n,); got {indices.dtype} {indices.shape}.")
    return torch.from_numpy(indices.astype(np.int64))


def index_lines(indices: Tensor) -> str:
    """Return indices as text, one per line."""
    return "".join(f"{index}\n" for index in indices.tolist())


def write_indices(indices: Tensor, path: Path, source_index: Tensor | None = None) -> None:
    """Write indices as .npy, int64, or as text, one per line, a .csv with a header.

    A .csv also has a column "source_index" where that is known, (N,) of all examples.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, indices.numpy(), allow_pickle=False)
    elif path.suffix == ".csv" and source_index is not None:
        rows = zip(indices.tolist(), source_index[indices].tolist(), strict=True)
        path.write_text("example,source_index\n" + "".join(f"{a},{b}\n" for a, b in rows), encoding="utf-8")
    else:
        path.write_text(("example\n" if path.suffix == ".csv" else "") + index_lines(indices), encoding="utf-8")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as .csv or .parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        write_parquet(table, path, "A .parquet file")
    else:
        table.to_csv(path)


def _in_order(labels: Tensor, examples: list[int]) -> Tensor:
    """Return the label of each example, -1 where none is given; a number far beyond the rows is an error."""
    order = torch.tensor(examples)
    if len(order) and not 0 <= int(order.min()) <= int(order.max()) < _MOST_PER_ROW * len(order) + _MOST_PER_ROW:
        raise ValueError(f"examples {int(order.min())} to {int(order.max())} in {len(order)} rows")
    return torch.full((len(order) and int(order.max()) + 1,), -1).scatter(0, order, labels)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _first(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy raises several for a damaged header
        raise ValueError(f"'{path}' is no .npy file of numbers ({_line(error)}).") from error
