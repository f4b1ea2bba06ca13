"""The figure: points above classic training of equal work, over the work, one panel for each data set and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from less.table import Row
from less.ways import CLASSIC
from lightning_easiness.view.style import BETWEEN, INK, LINES, MUTED, LineEnd, label_ends, set_title, styled
from lightning_easiness.view.words import count_of

_SIZE = 5.8, 3.9  # inches, of a panel
_COLOURS = (*LINES[1:], "#8C510A", "#B8860B", "#7A0177", "#636363")  # of rules
_LOWEST = -4.0  # points: what is below is drawn at the edge, with its number


def draw(figure: Any, rows: Sequence[Row]) -> None:
    """Draw the panels, two in a row; of several seeds, only what has more than one."""
    panels = [(key, drawn(list(found))) for key, found in groupby(rows, key=lambda row: (row["data"], row["labels"]))]
    high, wide = -(-len(panels) // 2), min(2, len(panels))
    figure.set_size_inches(_SIZE[0] * wide, _SIZE[1] * high)
    rules = list(dict.fromkeys(row["way"] for row in rows if row["twin"]))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(rules)}
    for row in rows:  # a control has the colour of its rule, or of none where it is that of several
        if row["twin"]:
            colours[row["twin"]] = colours[row["way"]] if row["twin"].endswith(row["way"]) else MUTED
    for place, ((data, labels), found) in enumerate(panels, start=1):
        axes = styled(figure.add_subplot(high, wide, place))
        draw_panel(axes, f"{data}, {labels} labels", found, colours)


def drawn(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of more than one seed, if there are rules among them, else all."""
    several = [row for row in rows if row["seeds"] > 1]
    return several if any(row["twin"] for row in several) else list(rows)


def draw_panel(axes: Any, title: str, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Draw each way as a line; the band is two standard errors of classic training to each side."""
    classic = sorted((row for row in rows if row["way"] == CLASSIC), key=lambda row: row["work"])
    work, band = [row["work"] for row in classic], [2 * row["error"] for row in classic]
    axes.fill_between(work, [-by for by in band], band, color=BETWEEN, alpha=0.25, lw=0)
    axes.axhline(0, color=INK, linewidth=1.2)
    ends = [LineEnd(CLASSIC, 0.0, INK)]
    for name, colour in colours.items():
        line = [row for row in rows if row["way"] == name and not math.isnan(row["above_classic"])]
        if line:
            ends += draw_line(axes, name, line, colour)
    axes.set_xscale("log")
    axes.set_xticks(work, [f"{each:.3g}" for each in work])
    axes.minorticks_off()
    axes.set(xlabel="work, epochs' worth of the whole data", ylabel="points above classic training of equal work")
    axes.margins(x=0.02)
    axes.set_ylim(bottom=max(_LOWEST, axes.get_ylim()[0]))
    label_ends(axes, ends)
    seeds = min(row["seeds"] for row in rows)
    spans = f"classic training {classic[0]['accuracy']:.1f} to {classic[-1]['accuracy']:.1f} %"
    about = "grey: two standard errors; dashed: controls, in the colour of their rule"
    note = f"{spans}, {count_of(seeds, 'seed')}; {about}"
    set_title(axes, f"{title}: {highest(rows)}", note, width=_SIZE[0] - 0.6)


def draw_line(axes: Any, name: str, line: Sequence[Row], colour: str) -> list[LineEnd]:
    """Draw a way, and return its label; a control of a single rule has none."""
    is_rule, is_shared = bool(line[0]["twin"]), colour == MUTED
    x, y = [row["work"] for row in line], [row["above_classic"] for row in line]
    style = {"linewidth": 1.6, "marker": "o", "markersize": 3.5} if is_rule or is_shared else {"linewidth": 0.9}
    axes.plot(x, y, color=colour, linestyle="-" if is_rule else (0, (4, 2)), **style)
    said = name if y[-1] > _LOWEST else f"{name} {y[-1]:.1f}"
    return [LineEnd(said, y[-1], colour)] if is_rule or is_shared else []


def highest(rows: Sequence[Row]) -> str:
    """Say which rule is farthest above classic training, and where."""
    known = [row for row in rows if row["twin"] and not row["scored"] and not math.isnan(row["above_classic"])]
    best = max(known, key=lambda row: row["above_classic"], default=None)
    if best is None or best["above_classic"] <= 0:
        return "no rule is above classic training"
    return f"{best['way']} is {best['above_classic']:.1f} points above at {best['work']:.3g}"


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
        seeds = count_of(min(row["seeds"] for row in found), "seed")
        note = f"{seeds}, equal epochs; bars: standard errors; dashed: random examples"
        set_title(axes, f"{data}: {best_pruned(found)}", note, width=_SIZE[0] - 0.6)


def best_pruned(rows: Sequence[Row]) -> str:
    """Say what is kept best at each share."""
    shares = sorted({row["removed"] for row in rows})
    best = {
        share: max((row for row in rows if row["removed"] == share), key=lambda row: row["accuracy"])
        for share in shares
    }
    return "best kept by " + ", ".join(f"{row['by']} ({share:.0%})" for share, row in best.items())
