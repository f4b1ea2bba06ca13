"""The figures: points above classic training of equal work, over the work, by rule and data set; and pruning once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from less.table import Row
from less.ways import CLASSIC
from lightning_easiness.view.style import BETWEEN, EASY, INK, LINES, MUTED, LineEnd, label_ends, set_title, styled
from lightning_easiness.view.words import count_of

_SIZE = 5.8, 3.9  # inches, of a panel of pruning
_SMALL = 1.8, 1.0  # inches, of a panel of the frontier
_COLOURS = (*LINES[1:], "#8C510A", "#B8860B", "#7A0177", "#636363")  # of ways to prune
_LOWEST = -3.0  # points: what is below is told, not drawn


def draw(figure: Any, rows: Sequence[Row]) -> None:
    """Draw a small panel for each rule, and a column for each data set: the rule, and its control, beside classic 0."""
    columns = {key: list(found) for key, found in groupby(rows, key=lambda row: (row["data"], row["labels"]))}
    rules = list(dict.fromkeys(row["way"] for row in rows if row["twin"])) or [CLASSIC]
    figure.set_size_inches(1.2 + _SMALL[0] * len(columns), 0.9 + _SMALL[1] * len(rules))
    grid = figure.subplots(len(rules), len(columns), squeeze=False, sharex="col", sharey="col")
    for column, ((data, labels), found) in enumerate(columns.items()):
        known = [row["above_classic"] for row in found if not math.isnan(row["above_classic"])]
        low, high = max(_LOWEST, min(known, default=0.0)), max(known, default=0.0)
        margin = 0.1 * (high - low) or 1.0
        grid[0][column].set_ylim(low - margin, high + margin)  # of the whole column
        for row, name in enumerate(rules):
            draw_panel(grid[row][column], found, name)
        grid[0][column].set_title(f"{data}\n{labels} labels", fontsize=9, color=INK)
    for row, name in enumerate(rules):
        grid[row][0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle("Points above classic training of equal work", x=0.01, ha="left", color=INK, weight="bold")
    note = (
        "work, epochs' worth of the whole data; dashed: the control, as many random examples; grey: two standard errors"
    )
    figure.supxlabel(f"{note} of classic training", fontsize=9, color=MUTED)


def draw_panel(axes: Any, rows: Sequence[Row], name: str) -> None:
    """Draw a rule and its control; the band is two standard errors of classic training to each side."""
    styled(axes)
    classic = sorted((row for row in rows if row["way"] == CLASSIC), key=lambda row: row["work"])
    work, band = [row["work"] for row in classic], [2 * row["error"] for row in classic]
    axes.fill_between(work, [-by for by in band], band, color=BETWEEN, alpha=0.25, lw=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    own = [row for row in rows if row["way"] == name]
    for way in [own[0]["twin"], name] if own else []:
        line = [row for row in rows if row["way"] == way and not math.isnan(row["above_classic"])]
        style = {"color": EASY, "marker": "o"} if way == name else {"color": MUTED, "linestyle": (0, (4, 2))}
        x, y = [row["work"] for row in line], [row["above_classic"] for row in line]
        axes.plot(x, y, linewidth=1.3, markersize=3, **style)
    axes.set_xscale("log")
    axes.set_xticks(work, [f"{each:.0f}" for each in work])
    axes.minorticks_off()
    axes.tick_params(labelsize=7)
    lowest = min((row["above_classic"] for row in own), default=0.0)
    if lowest < axes.get_ylim()[0]:
        axes.annotate(f"to {lowest:.1f}", (0.03, 0.06), xycoords="axes fraction", fontsize=7, color=EASY)


def draw_pruned(figure: Any, rows: Sequence[Row]) -> None:
    """Draw the accuracy over the share removed once, a panel for each data set; bars are standard errors."""
    panels = {data: list(found) for data, found in groupby(rows, key=lambda row: row["data"])}
    figure.set_size_inches(_SIZE[0] * len(panels), _SIZE[1])
    for place, (data, found) in enumerate(panels.items(), start=1):
        axes, ends = styled(figure.add_subplot(1, len(panels), place)), []
        for number, by in enumerate(dict.fromkeys(row["by"] for row in found)):
            line = sorted((row for row in found if row["by"] == by), key=lambda row: row["removed"])
            colour, dashes = (INK, (0, (4, 2))) if by == "random" else (_COLOURS[number - 1], "-")
            removed, mean = [100 * row["removed"] for row in line], [row["accuracy"] for row in line]
            style = {"linestyle": dashes, "marker": "o", "markersize": 3.5, "linewidth": 1.6, "elinewidth": 1}
            axes.errorbar(removed, mean, yerr=[row["error"] for row in line], color=colour, **style)
            ends.append(LineEnd(by, mean[-1], colour))
        axes.set(xlabel="removed before training, % of the examples", ylabel="test accuracy, %")
        axes.set_xticks(sorted({100 * row["removed"] for row in found}))
        label_ends(axes, ends)
        note = f"{seeds_of(found)}, equal epochs; bars: standard errors; dashed: random examples"
        set_title(axes, f"{data}: {best_pruned(found)}", note, width=_SIZE[0] - 0.6)


def seeds_of(rows: Sequence[Row]) -> str:
    """Say how many seeds rows have."""
    least, most = min(row["seeds"] for row in rows), max(row["seeds"] for row in rows)
    return count_of(most, "seed") if least == most else f"{least} to {count_of(most, 'seed')}"


def best_pruned(rows: Sequence[Row]) -> str:
    """Say at how many shares no way to prune is above random examples."""
    shares = sorted({row["removed"] for row in rows})
    best = [
        max((row for row in rows if row["removed"] == share), key=lambda row: row["accuracy"])["by"] for share in shares
    ]
    return f"random examples are best at {best.count('random')} of {count_of(len(shares), 'share')}"
