"""Figures of a record: what is drawn is what was recorded, and what cannot be drawn is refused."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness import NoImageError, draw_comparison, draw_curves, draw_data_map, draw_histogram
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.view.style import LineEnd, apart, empty_figure, label_ends
from tests.made_runs import NUM_EXAMPLES, make_scores, whole, write_run

Text = pytest.importorskip("matplotlib.text").Text
N = 200


def record_of(folder: Path, losses: dict[int, torch.Tensor], seeds: tuple[int, ...] = (0,)) -> EasinessRecord:
    """A record with these losses by step, correct below log 2; each seed adds a little."""
    for seed in seeds:
        for step, loss in losses.items():
            values = loss + 0.001 * seed
            fields = {"loss": values, "correct": values < np.log(2)}
            write_run(folder, seed, steps=(step,), num_examples=len(loss), fields=fields, complete=False)
    return EasinessRecord.load(folder)


def losses(seed: int = 0) -> torch.Tensor:
    return torch.randn(N, generator=torch.Generator().manual_seed(seed)).mul(2).sub(2).exp()


def words(axes: Any) -> list[str]:
    """The title, and all that is written beside it and beside lines."""
    return [axes.get_title("left"), *(text.get_text().replace("\n", " ") for text in axes.texts)]


def bars(axes: Any) -> list[tuple[Any, Any]]:
    return [(patch.get_data().values, patch.get_data().edges) for patch in axes.patches]


# ------------------------------------------------------------------ histogram


@pytest.mark.parametrize("higher", [False, True])
def test_a_histogram_holds_every_example_and_its_ends(higher: bool, tmp_path: Path) -> None:
    values = torch.randn(N, generator=torch.Generator().manual_seed(1))
    scores = make_scores(values.tolist(), higher, name="margin")
    figure = draw_histogram(scores, tmp_path / "histogram.png", fraction=0.2)
    (total, edges), (not_easy, _), (hard, _) = bars(figure.axes[0])
    assert total.sum() == N
    assert (total - not_easy).sum() == hard.sum() == 40
    assert np.array_equal(total, np.histogram(values.numpy(), edges)[0])
    assert hard[-1 if higher else 0] == 0
    assert figure.axes[0].get_xlabel() == f"margin, {'high' if higher else 'low'} is easy"
    assert (tmp_path / "histogram.png").stat().st_size > 5000
    left, right = sorted(figure.axes[0].texts[:2], key=lambda text: text.xy[0])
    assert [left.get_text(), right.get_text()] == ["easiest 20 %", "hardest 20 %"][:: -1 if higher else 1]


def test_a_loss_of_several_powers_of_ten_is_drawn_on_a_logarithmic_axis() -> None:
    values = [0.0, 1e-30, *losses().tolist()]
    axes = draw_histogram(make_scores(values, False, name="mean_loss")).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    counts, edges = bars(axes)[0]
    assert counts.sum() == len(values), "what is 0 stands at the left end"
    assert edges[0] > 1e-10
    assert f"half of {len(values)} examples have {np.median(values):.3g} or less" in words(axes)[0]
    assert draw_histogram(make_scores(losses().tolist(), True)).axes[0].get_xscale() == "linear", "where high is easy"


def test_ties_are_in_the_colours_of_what_they_are_called() -> None:
    axes = draw_histogram(make_scores([1.0] * 90 + [0.5] * 2, name="count")).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log"), "one bar holds most"
    (total, _), (not_easy, _), (hard, _) = bars(axes)
    assert (total[-1], total[-1] - not_easy[-1], hard[-1], hard[0]) == (90, 9, 7, 2)


def test_a_score_without_an_easy_end_has_a_low_and_a_high_one() -> None:
    figure = draw_histogram(make_scores([0.1, 0.2, 0.3, 0.4], False, name="variability"), fraction=0.25)
    assert figure.axes[0].get_xlabel() == "variability"
    assert {"lowest 25 %", "highest 25 %"} < set(words(figure.axes[0]))


def test_one_value_and_values_that_are_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    axes = draw_histogram(make_scores([nan, inf, 2.0, 2.0], False)).axes[0]
    assert bars(axes)[0][0].sum() == 2
    message = "draw_histogram has nothing to draw: no example has a finite margin."
    with pytest.raises(ValueError, match=whole(message)):
        draw_histogram(make_scores([nan, nan]))


# ------------------------------------------------------------------ curves


def test_a_course_is_that_of_the_scores(tmp_path: Path) -> None:
    record = record_of(tmp_path / "record", {0: losses(0), 50: losses(1) / 9, 70: losses(2) / 99}, seeds=(0, 1))
    figure = draw_curves(record, path=tmp_path / "curves.pdf")
    median, mean = figure.axes[0].lines
    at = [record.score("mean_loss", index).values.double().numpy() for index in range(3)]
    assert median.get_xdata().tolist() == mean.get_xdata().tolist() == [0, 50, 70]
    assert median.get_ydata() == pytest.approx([np.median(values) for values in at])
    assert mean.get_ydata() == pytest.approx([values.mean() for values in at])
    assert figure.axes[0].get_yscale() == "log"
    assert "2 runs, step 70" in words(figure.axes[0])[-1]
    assert set(words(figure.axes[0])) > {"mean", "median", "the middle half", "9 of 10 examples"}
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
    earlier = draw_curves(record, checkpoint=1)
    assert earlier.axes[0].lines[0].get_xdata().tolist() == [0, 50]
    assert draw_curves(record, "count").axes[0].get_yscale() == "linear"


def test_examples_that_were_not_seen_are_told_once(tmp_path: Path) -> None:
    hidden = losses()
    hidden[3] = torch.nan
    record = record_of(tmp_path, {0: hidden, 10: hidden})
    with pytest.warns(UserWarning, match=f"1 of {N} examples have no mean_loss") as caught:
        draw_curves(record)
    assert len(caught) == 1


# ------------------------------------------------------------------ data map


def test_a_data_map_has_a_point_an_example_in_its_colour(tmp_path: Path) -> None:
    record = record_of(tmp_path, {step: losses(step) for step in (0, 10, 20)}, seeds=(0, 1))
    figure = draw_data_map(record, tmp_path / "map.png")
    points = figure.axes[0].collections[0]
    drawn = np.column_stack([points.get_offsets(), points.get_array()])
    names = ("variability", "confidence", "correctness")
    expected = np.column_stack([record.score(name).values.numpy() for name in names])
    assert np.array_equal(drawn[np.lexsort(drawn.T)], expected[np.lexsort(expected.T)])
    assert (np.diff(points.get_array()) <= 0).all(), "the few that are wrong lie on top"
    likely = float((record.score("confidence").values >= 0.5).float().mean())
    wrong = int((record.score("correctness").values < 0.5).sum())
    assert words(figure.axes[0])[0] == f"{wrong} of {N} examples are wrong more often than right"
    assert words(figure.axes[0])[-1] == f"{100 * likely:.1f} % have a confidence of 0.5 or more; 2 runs, step 20"
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_a_data_map_of_many_draws_some_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness.view.map_figure._MOST_POINTS", 50)
    record = record_of(tmp_path, {0: losses(0), 10: losses(1)})
    before = torch.get_rng_state()
    first, again, other = (draw_data_map(record, seed=seed).axes[0].collections[0].get_offsets() for seed in (0, 0, 1))
    assert len(first) == 50
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("draw", [draw_curves, draw_data_map])
def test_one_checkpoint_is_no_course(draw: Any, tmp_path: Path) -> None:
    record = record_of(tmp_path, {0: losses(0), 10: losses(1)})
    with pytest.raises(ValueError, match=f"{draw.__name__} needs at least 2 checkpoints; got 1: observe more often"):
        draw(record, checkpoint=-2)


def test_what_a_record_lacks_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, 0, loss_name="mine")
    record = EasinessRecord.load(tmp_path)
    with pytest.raises(ValueError, match="Score 'confidence' needs the loss 'cross_entropy', but 'mine' was recorded"):
        draw_data_map(record)
    assert record.num_examples == NUM_EXAMPLES
    with pytest.raises(ValueError, match="There is no score 'nothing'"):
        draw_curves(record, "nothing")


# ------------------------------------------------------------------ comparison


def test_a_comparison_has_a_line_per_method_with_the_spread_of_its_seeds() -> None:
    def row(method: str, ratio: float, mean: float, spread: float = 0.1) -> dict[str, Any]:
        metric = {"metric": "val_acc", "num_seeds": 3, "equal": "epochs"}
        return {"method": method, "ratio": ratio, "mean": mean, "spread": spread, **metric}

    rows = [row("everything", 0.0, 0.9), row("easy", 0.5, 0.7), row("easy", 0.3, 0.8), row("random", 0.3, 0.6, np.nan)]
    axes = draw_comparison(rows).axes[0]
    assert [0.9, 0.9] in [list(line.get_ydata()) for line in axes.get_lines()]
    easy, random = axes.containers
    assert easy.lines[0].get_xydata().tolist() == [[30, 0.8], [50, 0.7]]
    assert random.lines[0].get_linestyle() == "--"
    bars = [segment[:, 1].tolist() for each in (easy, random) for segment in each.lines[2][0].get_segments()]
    assert bars == [pytest.approx(ends) for ends in ([0.7, 0.9], [0.6, 0.8], [0.6, 0.6])]
    assert set(words(axes)) > {"everything", "easy removed", "random removed"}
    with pytest.raises(ValueError, match="The `rows` of draw_comparison are empty"):
        draw_comparison([])


NEAR = "within one standard deviation of everything (0.900)"


def compared(seeds: int = 3, **means: list[float]) -> list[dict[str, Any]]:
    """Rows of methods with these means at 10, 20, ... % removed; everything is 0.9, and spreads are 0.01."""
    about = {"metric": "val_acc", "num_seeds": seeds, "equal": "epochs", "spread": 0.01 if seeds > 1 else np.nan}
    rows = [{"method": "everything", "ratio": 0.0, "mean": 0.9, **about}]
    for method, values in means.items():
        rows += [{"method": method, "ratio": (i + 1) / 10, "mean": mean, **about} for i, mean in enumerate(values)]
    return rows


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (
            compared(random=[0.9, 0.8, 0.9], easy=[0.91, 0.895, 0.7], hard=[0.6, 0.9, 0.9]),
            f"Up to 20 % can be removed {NEAR}: the easy ones",
        ),
        (
            compared(easy=[0.9, 0.7], stepwise=[0.9, 0.7], mine=[0.9, 0.7]),
            f"Up to 10 % can be removed {NEAR}: the easy ones or the easy ones stepwise or mine",
        ),
        (compared(easy=[0.8, 0.9], hard=[0.7, 0.9]), f"No choice stays {NEAR}"),
        (compared(1, easy=[0.9, 0.9]), "Val acc where a part of the examples is removed"),
        (compared(easy=[0.9])[1:], "Val acc where a part of the examples is removed"),
    ],
)
def test_a_comparison_says_how_much_can_be_removed(rows: list[dict[str, Any]], title: str) -> None:
    assert words(draw_comparison(rows).axes[0])[0].replace("\n", " ") == title


def test_a_comparison_names_the_ends_at_the_largest_fraction() -> None:
    axes = draw_comparison(compared(random=[0.9, 0.8], easy=[0.91, 0.895], hard=[0.6, 0.5])).axes[0]
    note = "at 20 %: easy removed 0.895, hard removed 0.500; 3 seeds, equal epochs; bars: one standard deviation"
    assert words(axes)[-1] == note


# ------------------------------------------------------------------ images beside a data map


def test_a_data_map_shows_images_of_its_regions_and_rings_their_points(tmp_path: Path) -> None:
    record = record_of(tmp_path, {step: losses(step) for step in (0, 10, 20)}, seeds=(0, 1))
    images = (torch.arange(N * 16) % 251).to(torch.uint8).view(N, 1, 4, 4)
    figure = draw_data_map(record, dataset=images)
    plot, *places = figure.axes
    shown = [place.images[0].get_array() for place in places]
    rings = np.concatenate([ring.get_offsets() for ring in plot.collections[1:]])
    confidence, variability = (record.score(name).values for name in ("confidence", "variability"))
    assert len(shown) == len(rings) == 12
    for image, (x, y) in zip(shown, rings, strict=True):
        example = int(((variability - x).abs() + (confidence - y).abs()).argmin())
        assert np.array_equal(image[:, :, 0], images[example, 0].numpy())
    assert rings[0, 1] == pytest.approx(float(confidence.max()))
    assert rings[4, 0] == pytest.approx(float(variability.max()))
    assert rings[8, 1] == pytest.approx(float(confidence.min()))


def test_the_images_beside_a_data_map_are_of_different_classes(tmp_path: Path) -> None:
    record = record_of(tmp_path, {step: losses(step) for step in (0, 10)})
    figure = draw_data_map(record, dataset=torch.rand(N, 4, 4), class_names=["ant", "bee", "<b>", r"$\frac$", "e"])
    captions = [axes.get_xlabel() for axes in figure.axes[1:]]
    for row in (captions[:4], captions[4:8], captions[8:]):
        assert len(set(row)) == 4
    figure.savefig(tmp_path / "map.png")


def test_what_cannot_stand_beside_a_data_map_is_refused(tmp_path: Path) -> None:
    record = record_of(tmp_path, {step: losses(step) for step in (0, 10)})
    with pytest.raises(ValueError, match="The `dataset` of draw_data_map"):
        draw_data_map(record, dataset=torch.rand(N - 1, 4, 4))
    with pytest.raises(NoImageError):
        draw_data_map(record, dataset=["text"] * N)


# ------------------------------------------------------------------ style


@pytest.mark.parametrize("count", [7, 1_281_167])
def test_titles_stay_within_the_figure(count: int, tmp_path: Path) -> None:
    long = [0.895] * 9
    drawn = [
        draw_comparison(compared(easy=long, hard=long, random=long, stepwise=long, stratified=long)),
        draw_comparison(compared(random=[0.9, 0.9, 0.8], easy=[0.9], hard=[0.5, 0.2, 0.1])),
        draw_histogram(make_scores(torch.linspace(1e-4, 123456.7, count).tolist(), False, name="mean_loss")),
    ]
    record = record_of(tmp_path, {step: losses(step) for step in (0, 10_000, 123_456)}, seeds=(0, 1))
    drawn += [draw_curves(record), draw_data_map(record), draw_data_map(record, dataset=torch.rand(N, 4, 4))]
    for figure in drawn:
        figure.savefig(tmp_path / "figure.png")
        for axes in figure.axes:
            texts = [axes._left_title, *(text for text in axes.texts if text.get_text())]
            boxes = [Text.get_window_extent(text) for text in texts if text.get_text()]
            assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 for box in boxes), texts


@pytest.mark.parametrize("heights", [[0.0], [0.1, 0.1, 0.1], [0.0, 0.04, 0.5, 0.51, 0.52, 0.9], []])
def test_labels_are_moved_apart_no_further_than_needed(heights: list[float]) -> None:
    moved = apart(heights, 0.05)
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(heights)), "around where they were"
    assert apart([0.0, 1.0], 0.05) == [0.0, 1.0]


def test_labels_at_line_ends_do_not_overlap_when_they_are_drawn(tmp_path: Path) -> None:
    figure, axes = empty_figure("here")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label_ends(axes, [LineEnd(f"line {i}", height, "black") for i, height in enumerate((0.5, 0.51, 0.5, 0.9))])
    figure.savefig(tmp_path / "labels.png")
    extent = Text.get_window_extent  # without the line that leads to the label
    boxes = sorted((extent(text) for text in axes.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes), "nothing is cut"


@pytest.mark.parametrize(("draw", "given"), [(draw_histogram, make_scores([1.0])), (draw_comparison, [{}])])
def test_matplotlib_is_named_where_it_is_missing(draw: Any, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = f"{draw.__name__} needs matplotlib: install it with pip install matplotlib."
    with pytest.raises(ImportError, match=whole(message)):
        draw(given)
