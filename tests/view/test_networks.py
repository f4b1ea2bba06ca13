"""The figure of matching rates between networks shows what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightning_easiness import Scores, draw_networks
from lightning_easiness.record.networks import MatchingMatrix, compare_networks

pytest.importorskip("matplotlib")


def matrix(which: str = "easy", num_splits: int = 3) -> MatchingMatrix:
    rates = torch.tensor([[0.9, 0.5, 0.2], [0.5, 0.8, 0.3], [0.2, 0.3, 0.7]])
    return MatchingMatrix(("mlp", "wide", "dense"), rates, rates / 10, which, 0.1, "count", 4, num_splits, rates / 5)


def test_each_rate_above_the_diagonal_stands_in_its_cell_with_its_spread(tmp_path: Path) -> None:
    figure = draw_networks(matrix(), matrix("hard"), path=tmp_path / "networks.png")
    assert (tmp_path / "networks.png").stat().st_size > 5000
    easy, hard = figure.axes
    written = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in easy.texts[::-1]}
    assert {place: text for place, text in written.items() if not text.startswith(("±", "chance"))} == {
        (0, 0): "0.90", (0, 1): "0.50", (0, 2): "0.20", (1, 1): "0.80", (1, 2): "0.30", (2, 2): "0.70",
    }  # fmt: skip
    assert [text.get_text() for text in easy.texts].count("± 0.05") == 1
    assert "share 0.20 to 0.50 of the easiest 10 % of examples" in easy.get_title("left").replace("\n", " ")
    assert "hardest" in hard.get_title("left")
    assert "chance is 0.10; by count" in " ".join(text.get_text() for text in easy.texts)
    assert "furthest apart are mlp and dense" in " ".join(text.get_text().replace("\n", " ") for text in easy.texts)


def test_scores_have_no_diagonal() -> None:
    scores = {name: Scores(torch.arange(20.0).roll(by), higher_is_easier=False) for name, by in (("a", 0), ("b", 5))}
    texts = [text.get_text() for text in draw_networks(compare_networks(scores, fraction=0.5)).axes[0].texts]
    assert texts.count("-") == 2
    assert "0.50" in texts
    assert not any(text.startswith("±") for text in texts)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw; give it what compare_networks returns"):
        draw_networks()
