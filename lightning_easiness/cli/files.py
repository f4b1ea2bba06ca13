"""What the command line reads, writes and prints: labels, pictures, indices and tables."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_easiness._utils.tables import write_csv
from lightning_easiness.labels.table import LabelIssues
from lightning_easiness.scores import Scores

_LABEL_COLUMNS = ("target", "label", "given")


def read_images(path: Path) -> NDArray[Any]:
    """Maps pictures from a .npy file, of shape (N, H, W), (N, H, W, C) or (N, C, H, W).

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """
    images = _map(path)
    channels = images.ndim == 3 or (images.ndim == 4 and {images.shape[1], images.shape[3]} & {1, 3, 4})
    if not channels or images.dtype.kind not in "uf":
        raise ValueError(
            f"'{path}' must hold uint8 pictures (N, H, W), (N, H, W, C) or (N, C, H, W) of 1, 3 or 4 channels; got "
            f"{images.dtype} {images.shape}."
        )
    return images


def read_labels(path: Path) -> Tensor:
    """Reads the label of each example from .npy, or from text with a line for each.

    A .csv file of several columns has one that is named "target", "label" or "given"; a column "example" or "index"
    says which example a row is of, so that tables of this command line are understood. An empty cell is -1.

    Returns:
        int64 (N,).

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """
    if path.suffix == ".npy":
        labels = _map(path)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"'{path}' must hold labels, integers (N,); got {labels.dtype} {labels.shape}.")
        return torch.from_numpy(labels.astype(np.int64))
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    names = rows[0] if rows else []
    column = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    if column is not None:
        rows = rows[1:]
    elif len(names) != 1:
        raise ValueError(f"'{path}' must hold one label a line, or a column 'target', 'label' or 'given'; got {names}.")
    place = next((names.index(name) for name in ("example", "index") if name in names), None) if column else None
    try:
        found = torch.tensor([int(row[column or 0] or -1) for row in rows], dtype=torch.int64)
        if place is None:
            return found
        order = torch.tensor([int(row[place]) for row in rows])
        whole = torch.full((int(order.max()) + 1,), -1)
        whole[order] = found
        return whole
    except (ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"'{path}' must hold an integer label in each line, -1 where not known ({error}).") from error


def write_indices(indices: Tensor, path: Path | None) -> None:
    """Writes indices as .npy, int64, or as text, one a line, a .csv with a header; without a path to stdout."""
    if path is None:
        sys.stdout.writelines(f"{index}\n" for index in indices.tolist())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, indices.numpy(), allow_pickle=False)
    elif path.suffix == ".csv":
        write_csv(path, {"example": indices.numpy()})
    else:
        path.write_text("".join(f"{index}\n" for index in indices.tolist()), encoding="utf-8")


def write_table(table: Scores | LabelIssues, path: Path) -> None:
    """Writes a table as .csv or .parquet.

    Raises:
        ImportError: what .parquet needs is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path)


def write_scores(scores: Scores, examples: Tensor | None, path: Path) -> None:
    """Writes the scores of some examples, in that order, or of all, with the columns of `Scores.to_csv`."""
    if examples is None:
        write_table(scores, path)
    elif path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        scores.to_pandas().loc[examples.tolist()].to_parquet(path, engine="pyarrow")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {"score": scores.values, "spread": scores.spread, "target": scores.target, "rank": scores.ranks}
        chosen = {name: column[examples].numpy() for name, column in columns.items()}
        write_csv(path, {"example": examples.numpy(), **chosen})


def cells(values: Tensor) -> list[str]:
    """A column as text, "-" for what is not known.

    Example:
        >>> cells(torch.tensor([0.12345, float("nan")])), cells(torch.tensor([3, -1]))
        (['0.1235', '-'], ['3', '-'])
    """
    if values.dtype == torch.bool:
        return ["yes" if value else "no" for value in values.tolist()]
    if values.is_floating_point():
        return ["-" if value != value else f"{value:.4g}" for value in values.tolist()]
    return ["-" if value < 0 else str(value) for value in values.tolist()]


def print_table(columns: Mapping[str, Sequence[str]]) -> None:
    """Prints columns under their names, aligned to the right.

    Example:
        >>> print_table({"example": ["7", "12"], "score": ["0.25", "-"]})
        example  score
              7   0.25
             12      -
    """
    widths = [max(map(len, (name, *column))) for name, column in columns.items()]
    for row in (list(columns), *zip(*columns.values(), strict=True)):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _map(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"'{path}' is no .npy file of numbers ({error}).") from error
