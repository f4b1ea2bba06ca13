"""What `compare --over-training` adds: matching rates at each epoch, of two records or of one with its end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_easiness.cli.files import write_table
from lightning_easiness.cli.source import Source
from lightning_easiness.record.matching_curves import MatchingCurves, matching_curves, matching_with_end
from lightning_easiness.record.record import EasinessRecord

Curves = tuple[MatchingCurves, ...]


def curves_of(sides: tuple[Source, Source], records: tuple[EasinessRecord, EasinessRecord], fractions: Any) -> Curves:
    """Return the curves for each fraction."""
    name = sides[0].score or "mean_loss"
    if (sides[0].path, sides[0].series) == (sides[1].path, sides[1].series):
        return tuple(matching_with_end(records[0], name, fraction=fraction) for fraction in fractions)
    named = dict(zip("AB", records, strict=True))
    return tuple(matching_curves(named, name, fraction=fraction) for fraction in fractions)


def rows_of_curves(curves: Curves) -> list[dict[str, Any]]:
    """Return the rows of the tables, with the fraction of each."""
    return [
        {"fraction": each.fraction, **row}
        for each in curves
        for row in each.to_pandas().reset_index().to_dict("records")
    ]


def text_of(curves: Iterable[MatchingCurves]) -> str:
    """Return the tables."""
    return "\n\n".join(map(str, curves))


def write(curves: Curves, path: Path | None) -> None:
    """Write a table of all fractions, or the figure of the first."""
    if path is None:
        return
    if path.suffix == ".png":
        from lightning_easiness.view.matching_curves import draw_matching_curves

        draw_matching_curves(curves[0], path)
        return
    import pandas

    write_table(pandas.DataFrame(rows_of_curves(curves)).set_index("fraction"), path)
