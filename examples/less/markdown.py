"""The tables as Markdown, as they are in the docs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from less.table import Row

_WHOLE = (
    "way", "epochs", "seeds", "work", "accuracy %", "worst class %", "above classic of equal work", "work saved",
    "its twin saves", "CPU seconds of a unit of work, classic 1", "wall clock of it", "CPU seconds saved",
)  # fmt: skip


_ABOUT = """# What training on less is worth

    python examples/train_less.py --setting small --data-root ROOT

Work is in epochs' worth of the whole data. After an accuracy ± is its standard error over seeds, by a deviation pooled
over the budgets of a way, of all ways where it has one seed; "above classic" has ± the margin of 95 %, by Student's
distribution. "Work saved" is over what classic training needs for the same accuracy, in brackets by the same margin;
beyond the best of classic training it is a lower bound. What has a star needs an earlier training, whose work of 13.3
is not counted. Seconds are those of a unit of work beside classic training's, trained in turn with right labels at the
second budget, the median over three pairs, where they were measured. What it means:
[Train on less](../../docs/train-less.md)."""


def page(rows: Sequence[Row], of_pruning: Sequence[Row], answers: Sequence[str]) -> str:
    """Return the answers and all tables."""
    parts = [_ABOUT, "## Answers", "\n".join(f"- {answer}" for answer in answers)]
    for (data, labels), found in groupby(rows, key=lambda row: (row["data"], row["labels"])):
        parts += [f"## {data}, {labels} labels", whole(list(found))]
    for data, found in groupby(of_pruning, key=lambda row: row["data"]):
        parts += [f"## {data}, pruned once", pruning(list(found))]
    return "\n\n".join(parts) + "\n"


def whole(rows: Sequence[Row]) -> str:
    """Return a line for each way and budget."""
    lines = [
        (
            named(row), row["epochs"], row["seeds"], f"{row['work']:.1f}", with_error(row["accuracy"], row["error"]),
            with_error(row["worst_class"], row["worst_class_error"], 0),
            with_error(row["above_classic"], row["above_classic_margin"], sign="+"),
            *(("", "") if row["way"] == "classic" else (between(row, "saving"), share(row["twin_saving"]))),
            *("" if math.isnan(row[ratio]) else f"{row[ratio]:.2f}" for ratio in ("cpu_ratio", "wall_ratio")),
            "" if row["way"] == "classic" else share(row["cpu_saving"]),
        )
        for row in rows
    ]  # fmt: skip
    return table(_WHOLE, lines)


def compact(rows: Sequence[Row]) -> str:
    """Return the line of classic training, and a table with a line for each other way and a column for each budget."""
    classic = "; ".join(cell(row) for row in rows if row["way"] == "classic")
    rest = [row for row in rows if row["way"] != "classic"]
    epochs = sorted({row["epochs"] for row in rest})
    lines = []
    for way, found in groupby(rest, key=named):
        cells = {row["epochs"]: cell(row) for row in found}
        lines.append((way, *(cells.get(budget, "") for budget in epochs)))
    heads = ("way", *(f"{budget} epochs" for budget in epochs))
    return f"Classic training: {classic}.\n\n{table(heads, lines)}"


def named(row: Row) -> str:
    """Return the name of a way, with a star where it needs an earlier training, whose work is not counted."""
    return f"{row['way']} *" if row["scored"] in (True, "True") else row["way"]


def cell(row: Row) -> str:
    """Return the work, the accuracy, the points above classic training where known, and the worst class's accuracy."""
    is_known = row["way"] != "classic" and not math.isnan(row["above_classic"])
    above = f" ({row['above_classic']:+.1f})" if is_known else ""
    return f"{row['work']:.1f}: {with_error(row['accuracy'], row['error'])}{above}, {row['worst_class']:.0f}"


def pruning(rows: Sequence[Row]) -> str:
    """Return a line for each way to prune, with the accuracy at each share."""
    shares = sorted({row["removed"] for row in rows})
    lines = []
    for by in dict.fromkeys(row["by"] for row in rows):
        found = {row["removed"]: row for row in rows if row["by"] == by}
        cells = [with_error(found[one]["accuracy"], found[one]["error"]) if one in found else "" for one in shares]
        worst = [f"{found[one]['worst_class']:.0f}" if one in found else "" for one in shares]
        lines.append((by, f"{next(iter(found.values()))['work_of_scores']:.1f}", *cells, " / ".join(worst)))
    return table(("kept by", "work of the scores", *(f"{one:.0%} removed" for one in shares), "worst class"), lines)


def with_error(value: float, error: float, digits: int = 1, sign: str = "") -> str:
    """Return a value and its standard error; nothing where it is not known.

    Example:
        >>> with_error(87.123, 0.21), with_error(float("nan"), 0.1)
        ('87.1 ± 0.2', '')
    """
    if math.isnan(value):
        return ""
    return f"{value:{sign}.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")


def between(row: Row, name: str) -> str:
    """Return a saving, with those of an accuracy that is the margin of 95 % less, and more."""
    low, high = (share(row[name + end]) for end in ("_low", "_high"))
    return f"{share(row[name])} ({low} to {high})" if low else share(row[name])


def share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}".replace("%", " %")


def table(heads: Sequence[object], lines: Sequence[Sequence[object]]) -> str:
    """Return a table of Markdown; the first column is text, the others numbers."""
    made = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in made)
