"""The figure of patterns has a panel for each, with the rates that were measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_easiness import draw_patterns
from lightning_easiness.record.patterns import PatternRow, PatternSweep

pytest.importorskip("matplotlib")
RATES = {"easy": (0.3, 0.6, 1.0), "hard": (0.2, 0.5, 1.0)}


def sweep(name: str, which: str) -> PatternSweep:
    rows = [PatternRow(i / 2, rate, 0.02, 0.1, 0.7, 0.4) for i, rate in enumerate(RATES[which])]
    return PatternSweep(name, which, 0.1, "count", 4, tuple(rows))


def test_each_pattern_has_a_panel_with_its_rates_and_chance(tmp_path: Path) -> None:
    sweeps = [sweep(name, which) for name in ("grey", "tiles") for which in RATES]
    figure = draw_patterns(*sweeps, path=tmp_path / "patterns.png")
    assert (tmp_path / "patterns.png").stat().st_size > 5000
    assert [axes.get_xlabel() for axes in figure.axes] == ["grey", "tiles"]
    for axes in figure.axes:
        drawn = [tuple(line.get_ydata()) for line in axes.lines]
        assert set(RATES.values()) <= set(drawn)
        assert (0.1, 0.1) in [tuple(float(y) for y in line) for line in drawn]
        texts = [text.get_text() for text in axes.texts]
        assert {"easy", "hard", "chance"} <= set(texts)
        assert axes.get_title("left").replace("\n", " ") == f"30 % of the easiest 10 % remain at {axes.get_xlabel()} 0"


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw; give it what sweep_pattern returns"):
        draw_patterns()
