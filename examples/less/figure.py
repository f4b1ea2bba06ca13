"""The figure: points above classic training of equal work, over the work, one panel for each data set and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from less.table import Row
from less.ways import CLASSIC
from lightning_easiness.view.style import BETWEEN, INK, LINES, MUTED, LineEnd, label_ends, set_title, styled

_SIZE = 6.6, 4.8  # inches, of a panel
_DASHES = ("-", (0, (5, 1.5)))


def draw(figure: Any, rows: Sequence[Row]) -> None:
    """Draw the panels, two in a row."""
    panels = [(key, list(found)) for key, found in groupby(rows, key=lambda row: (row["data"], row["labels"]))]
    high, wide = -(-len(panels) // 2), min(2, len(panels))
    figure.set_size_inches(_SIZE[0] * wide, _SIZE[1] * high)
    names = list(dict.fromkeys(row["way"] for row in rows if row["way"] != CLASSIC))
    for place, ((data, labels), found) in enumerate(panels, start=1):
        axes = styled(figure.add_subplot(high, wide, place))
        draw_panel(axes, f"{data}, {labels} labels", found, names)


def draw_panel(axes: Any, title: str, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Draw each way as a line; the band is two standard errors of classic training to each side."""
    classic = sorted((row for row in rows if row["way"] == CLASSIC), key=lambda row: row["work"])
    work, band = [row["work"] for row in classic], [2 * row["error"] for row in classic]
    axes.fill_between(work, [-by for by in band], band, color=BETWEEN, alpha=0.25, lw=0)
    axes.axhline(0, color=INK, linewidth=1.2)
    ends = [LineEnd("classic", 0.0, INK)]
    for name in names:
        line = [row for row in rows if row["way"] == name and not math.isnan(row["above_classic"])]
        if line:
            ends.append(draw_line(axes, name, line, names))
    axes.set_xscale("log")
    axes.set_xticks(work, [f"{each:.3g}" for each in work])
    axes.minorticks_off()
    axes.set(xlabel="work, epochs' worth of the whole data", ylabel="points above classic training of equal work")
    axes.margins(x=0.02)
    label_ends(axes, ends)
    seeds = min(row["seeds"] for row in rows)
    spans = f"{classic[0]['accuracy']:.1f} to {classic[-1]['accuracy']:.1f} %"
    note = f"classic training: {spans}; {seeds} seeds; grey: two standard errors of it; dashed: controls"
    set_title(axes, f"{title}: {highest(rows)}", note, width=_SIZE[0] - 1.8)


def draw_line(axes: Any, name: str, line: Sequence[Row], names: Sequence[str]) -> LineEnd:
    is_twin = not line[0]["twin"]
    place = names.index(name)
    colour = MUTED if is_twin else LINES[1:][place % (len(LINES) - 1)]
    dashes = _DASHES[1] if is_twin else "-" if place < len(LINES) - 1 else ":"
    x, y = [row["work"] for row in line], [row["above_classic"] for row in line]
    axes.plot(x, y, color=colour, linestyle=dashes, marker="o", markersize=3.5, linewidth=1.5)
    return LineEnd(name, y[-1], colour)


def highest(rows: Sequence[Row]) -> str:
    """Say which rule is farthest above classic training, and where."""
    known = [row for row in rows if row["twin"] and not math.isnan(row["above_classic"])]
    if not known:
        return "no rule"
    best = max(known, key=lambda row: row["above_classic"])
    if best["above_classic"] <= 0:
        return "no rule is above classic training"
    return f"{best['way']} is {best['above_classic']:.1f} points above at {best['work']:.3g}"
