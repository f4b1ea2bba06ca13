"""Curves of several runs: the lines are means over runs, the bands standard deviations, each by a loop of its own."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness import draw_bands
from lightning_easiness.view.bands import mean_and_band

Text = pytest.importorskip("matplotlib.text").Text
NAN = float("nan")


def drawn_values(seed: int, runs: int = 5, points: int = 7) -> np.ndarray:
    values = torch.rand(runs, points, generator=torch.Generator().manual_seed(seed)).double().numpy()
    values[1, 5:] = NAN  # a run that was shorter
    values[2:, 6] = NAN
    values[0, 6] = NAN
    return values


def reference(values: np.ndarray) -> list[tuple[float, float]]:
    """Mean and standard deviation of what is known at each point."""
    found = []
    for point in values.T.tolist():
        known = [value for value in point if value == value]
        mean = statistics.fmean(known) if known else NAN
        found.append((mean, statistics.stdev(known) if len(known) > 1 else 0.0))
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_mean_and_band_are_those_of_the_runs_that_have_the_point(seed: int, form: Any) -> None:
    values = drawn_values(seed)
    mean, band = mean_and_band(form(values))
    assert list(zip(mean, band, strict=True)) == [pytest.approx(pair, nan_ok=True) for pair in reference(values)]


@pytest.mark.parametrize("values", [[0.1, 0.2], [[]], torch.zeros(0, 3), np.zeros((1, 2, 3))])
def test_another_shape_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(runs, points\)"):
        mean_and_band(values)
    with pytest.raises(ValueError, match=r"must have the shape \(runs, points\)"):
        draw_bands({"accuracy": {"classic": values}})


def test_lines_and_bands_are_drawn_where_they_are(tmp_path: Path) -> None:
    values = drawn_values(0)
    figure = draw_bands({"accuracy": {"SET": values}}, tmp_path / "bands.png", x=[5, 6, 7, 8, 9, 10, 11])
    (line,), (band,) = figure.axes[0].lines, figure.axes[0].collections
    expected = reference(values)
    assert line.get_xdata().tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert line.get_ydata() == pytest.approx([mean for mean, _ in expected], nan_ok=True)
    corners = {(x, round(y, 9)) for x, y in band.get_paths()[0].vertices.tolist()}
    for x, (mean, spread) in zip(range(5, 11), expected[:6], strict=True):
        assert {(x, round(mean - spread, 9)), (x, round(mean + spread, 9))} <= corners
    assert (tmp_path / "bands.png").stat().st_size > 5000


def test_a_method_has_the_same_colour_in_all_plots_and_a_label_at_its_end() -> None:
    use = {"SET": [[1.0, 0.002]], "classic": [[1.0, 1.0]]}
    accuracy = {"classic": [[0.5, 0.9], [0.7, 0.8]], "SET": [[0.5, 0.6], [0.6, 0.7]]}
    left, right = draw_bands({"data use": use, "accuracy": accuracy}, logarithmic=["data use"]).axes
    colours = [
        {text.get_text(): text.get_color() for text in axes.texts if text.get_text() in use} for axes in (left, right)
    ]
    assert colours[0] == colours[1]
    assert len(set(colours[0].values())) == 2
    assert [axes.get_yscale() for axes in (left, right)] == ["log", "linear"]
    assert right.get_title("left").replace("\n", " ") == "Accuracy: at the end 0.65 (SET) to 0.85 (classic)"
    assert "mean of 2 runs; bands: one standard deviation" in [text.get_text() for text in right.texts]


def test_a_band_below_zero_does_not_stretch_a_logarithmic_axis() -> None:
    use = {"SET": [[1.0, 0.0001, 0.001], [1.0, 0.0079, 0.001]], "classic": [[1.0] * 3], "none": [[0.0] * 3]}
    axes = draw_bands({"use": use}, logarithmic=["use"]).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] > 1e-4


@pytest.mark.parametrize("panels", [{}, {"accuracy": {}}])
def test_nothing_to_draw_is_refused(panels: Any) -> None:
    with pytest.raises(ValueError, match="`panels` of draw_bands are empty"):
        draw_bands(panels)


@pytest.mark.parametrize(("columns", "places"), [(1, [(0, 0), (1, 0), (2, 0)]), (2, [(0, 0), (0, 1), (1, 0)])])
def test_plots_stand_in_rows(columns: int, places: list[tuple[int, int]]) -> None:
    figure = draw_bands({name: {"SET": [[0.1, 0.2]]} for name in ("use", "accuracy", "loss")}, columns=columns)
    specs = [axes.get_subplotspec() for axes in figure.axes]
    assert [(spec.rowspan.start, spec.colspan.start) for spec in specs] == places
    with pytest.raises(ValueError, match="`columns` of draw_bands must be at least 1; got 0"):
        draw_bands({"accuracy": {"SET": [[0.1, 0.2]]}}, columns=0)


def test_a_logarithmic_axis_needs_a_value_and_a_name_that_is_drawn() -> None:
    with pytest.raises(ValueError, match="'use' of draw_bands has no value above 0"):
        draw_bands({"use": {"SET": [[0.0, 0.0]]}}, logarithmic=["use"])
    with pytest.raises(ValueError, match="names 'usage', which is not drawn: use"):
        draw_bands({"use": {"SET": [[0.1, 0.2]]}}, logarithmic=["usage"])


def test_too_few_places_are_refused() -> None:
    with pytest.raises(ValueError, match="`x` of draw_bands has 1 places, but a line has 2 points"):
        draw_bands({"accuracy": {"SET": [[0.1, 0.2]]}}, x=[1])


def test_titles_and_labels_stay_within_the_figure(tmp_path: Path) -> None:
    names = [f"classic for equal seconds {i}" for i in range(9)]
    figure = draw_bands(
        {label: {name: drawn_values(i) for i, name in enumerate(names)} for label in ("use", "accuracy")}
    )
    figure.savefig(tmp_path / "figure.png")
    for axes in figure.axes:
        for text in [axes._left_title, *(text for text in axes.texts if text.get_text())]:
            box = Text.get_window_extent(text)
            assert box.x0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1, text
