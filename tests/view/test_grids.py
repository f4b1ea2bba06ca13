"""Image grids: which examples are shown, where, with which words, and what TensorBoard is given."""

from __future__ import annotations

import ast
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lightning_easiness
from lightning_easiness import NoImageError, Scores, averages_grid, image_grid, scores_grid
from lightning_easiness.view import grids, images, layout, words
from lightning_easiness.view.layout import Cell, Grid
from tests.made_runs import whole
from tests.small import streams
from tests.view.helpers import COLOURS, Noted, captions_of, scores_of

MARGIN = 20


def rising(num: int, target: list[int] | None = None) -> Scores:
    return scores_of([float(i) for i in range(num)], target or [0] * num)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids come back as they are, before they are drawn."""
    monkeypatch.setattr(Grid, "draw", lambda grid: grid)


# --- grids of images


def test_small_images_grow_by_a_whole_factor_without_smoothing() -> None:
    grid = image_grid([COLOURS], [0], captions=[""], thumbnail=60)
    grown = COLOURS.repeat_interleave(10, 1).repeat_interleave(10, 2)
    assert grid[:, MARGIN : MARGIN + 60, MARGIN : MARGIN + 50].equal(grown)


def test_large_images_are_reduced_with_antialiasing() -> None:
    board = (torch.arange(240)[:, None] + torch.arange(240)) % 2
    grid = image_grid([board.float()], [0], captions=[""], thumbnail=60)
    inside = grid[:, MARGIN + 2 : MARGIN + 58, MARGIN + 2 : MARGIN + 58].int()
    assert ((inside - 128).abs() <= 4).all()


def test_images_stand_in_rows_in_the_order_of_the_indices() -> None:
    shades = [torch.full((1, 4, 4), i / 10) for i in range(5)]
    grid = image_grid(shades, [4, 0, 3], captions=["", "", ""], columns=2, thumbnail=40)
    step = 40 + 16
    corners = [grid[0, MARGIN + y * step + 5, MARGIN + x * step + 5].item() for y, x in ((0, 0), (0, 1), (1, 0))]
    assert corners == [102, 0, 76]
    assert grid[:, MARGIN + step + 5, MARGIN + step + 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("title", [None, "Hardest", "A long title that goes on and on " * 5 + "\nnotes " * 40])
@pytest.mark.parametrize(
    "caption", ["#1", "#1234567  a rather long name of a class\n2.31 ± 0.40", "W" * 100, "naïve 日本\nx", " \n\n"]
)
def test_words_are_never_cut(title: str | None, caption: str) -> None:
    grid = image_grid([COLOURS] * 4, range(4), [caption] * 4, columns=2, title=title)
    ink = (grid < 255).any(0)
    rim = MARGIN - 2  # a frame is one pixel wide
    assert not ink[:rim].any()
    assert not ink[-rim:].any()
    assert not ink[:, :rim].any()
    assert not ink[:, -rim:].any()
    top = next(i for i, row in enumerate(grid[0]) if (row == 0xD4).sum() > 50)  # first frame
    between = MARGIN + 112 + 2
    assert not ink[top:, between : between + 10].any()


@pytest.mark.parametrize("size", [14, 20])
def test_breaking_keeps_every_letter_and_the_width(size: int) -> None:
    text = "#12  a name of several words and Incomprehensibilities\n2.31"
    for width in (10, 40, 112, 1000):
        broken = layout.Words(text, size, width)
        assert "".join(broken.lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
        assert broken.width <= max(width, 2 * size)
    assert broken.lines == text.split("\n")
    assert " ".join(layout.Words(text, size, 250).lines).split() == text.split(), "broken between words"


def test_captions_are_dark_on_white() -> None:
    grid = image_grid([COLOURS], [0], ["#1234  label 7\n2.31 ± 0.40"], thumbnail=60)
    below = grid[:, MARGIN + 60 + 2 :]
    assert below.min() < 80
    assert (below == 255).float().mean() > 0.8


def test_images_of_all_shapes_on_one_grid() -> None:
    shapes = [torch.rand(1, 8, 8), torch.rand(3, 300, 20), torch.rand(20, 300), torch.rand(3, 80, 80), "none"]
    grid = image_grid(shapes, range(5))
    assert (grid.dtype, len(grid)) == (torch.uint8, 3)
    low = image_grid([torch.zeros(2, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)], [0, 1], ["", ""])
    black = (low[0] == 0).nonzero()[:, 0]
    assert (low[0, black.max()] == 0).sum() == 2 * 112, "images stand on one line"
    assert len(Grid([[Cell(None, "nothing")], []], "Title", ["a", "b"], ["one"]).draw()) == 3, "ragged and blank"


# --- grids of scores


@pytest.mark.usefixtures("undrawn")
def test_scores_grid_shows_the_extreme_examples_with_their_numbers() -> None:
    spread = torch.tensor([0.0002, 0.4, 1, 30, 0])
    scores = scores_of([0.001, 2.3051, torch.nan, 1200.0, 0.0], [0, 1, 1, -1, 2], spread=spread)
    dataset = Noted(torch.rand(5, 8, 8))
    grid: Any = scores_grid(dataset, scores, 3)
    assert dataset.read == [3, 1, 0]
    assert captions_of(grid) == [
        ["#3  no label\n1,200 ± 30.00", "#1  label 1\n2.31 ± 0.40"],
        ["#0  label 0\n0.001 ± 0.0002"],
    ]
    assert grid.title == (
        "Hardest of 4 by mean loss over 10 runs\n"
        "index, label, mean loss ± standard deviation over runs; low is easy; 1 without a score left out"
    )


@pytest.mark.usefixtures("undrawn")
def test_scores_grid_says_that_the_spread_of_a_comparison_is_its_standard_error() -> None:
    scores = scores_of([0.5, 0.0], [0, 1], spread=torch.tensor([0.2, 0.1]))
    scores.name = "memorization"
    grid: Any = scores_grid(Noted(torch.rand(2, 8, 8)), scores, 1)
    assert grid.title.endswith("index, label, memorization ± standard error; low is easy")


@pytest.mark.usefixtures("undrawn")
def test_scores_grid_follows_the_direction_and_names_classes() -> None:
    scores = scores_of([0.1, 0.9], [0, 1], num_runs=1, higher_is_easier=True, name="count")
    grid: Any = scores_grid(torch.rand(2, 8, 8), scores, 1, "easy", class_names=["cat", "dog"])
    assert captions_of(grid) == [["#1  dog\n0.90"]]
    assert grid.title == "Easiest of 2 by count in one run\nindex, label, count; high is easy"


@pytest.mark.usefixtures("undrawn")
def test_captions_say_what_was_predicted() -> None:
    scores = scores_of([0.1, 0.9, 0.5], [8, 2, -1], num_runs=1, prediction=torch.tensor([9, -1, 4]))
    grid: Any = scores_grid(torch.rand(3, 8, 8), scores)
    assert captions_of(grid) == [["#1  label 2\n0.90", "#2\nno label, predicted 4\n0.50"], ["#0\n8, predicted 9\n0.10"]]
    assert grid.title.split("\n")[1] == "index, label, predicted label, mean loss; low is easy"
    by_class: Any = scores_grid(torch.rand(3, 8, 8), scores, by_class=True)
    assert captions_of(by_class) == [["#1\n0.90"], ["#0\npredicted 9\n0.10"]]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("given", "scored", "listed", "shown"),
    [
        (None, None, None, "#0\n1, predicted 0\n0.10"),
        (None, None, ("x", "y"), "#0\ny, predicted x\n0.10"),
        (None, ("cat", "dog"), ("x", "y"), "#0\ndog\npredicted cat\n0.10"),
        (["a", "b"], ("cat", "dog"), ("x", "y"), "#0\nb, predicted a\n0.10"),
        (None, None, ("x",), "#0\n1, predicted x\n0.10"),
    ],
)
def test_names_are_those_given_else_of_the_scores_else_of_the_data_set(
    given: Any, scored: Any, listed: Any, shown: str
) -> None:
    class Named(list):
        classes = listed

    scores = scores_of([0.1], [1], prediction=torch.tensor([0]), class_names=scored)
    grid: Any = scores_grid(Named(torch.rand(1, 8, 8)), scores, class_names=given)
    assert captions_of(grid) == [[shown]]


@pytest.mark.usefixtures("undrawn")
def test_scores_grid_by_class() -> None:
    scores = scores_of([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 1, -1])
    grid: Any = scores_grid(torch.rand(5, 8, 8), scores, 2, by_class=True)
    assert grid.row_heads == ["label 0", "label 1"]
    assert captions_of(grid) == [["#1\n0.20"], ["#3\n0.40", "#2\n0.30"]]
    only: Any = scores_grid(torch.rand(5, 8, 8), scores, classes=[1])
    assert captions_of(only) == [["#3  label 1\n0.40", "#2  label 1\n0.30"], ["#0  label 1\n0.10"]]
    assert only.title.startswith("Hardest of 3 of label 1 by mean loss")


@pytest.mark.usefixtures("undrawn")
def test_many_classes_make_no_endless_grid() -> None:
    scores, dataset = rising(60, [i // 2 for i in range(60)]), torch.rand(60, 8, 8)
    grid: Any
    for grid in (scores_grid(dataset, scores, 1, by_class=True), averages_grid(dataset, scores)):
        assert len(grid.rows) == len(grid.row_heads) <= 20
        assert grid.title.endswith("; the first 20 of 30 classes")


DATA, THREE = torch.rand(3, 8, 8), scores_of([0.1, 0.2, 0.3], [0, 1, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image_grid(DATA, []), "`indices` of image_grid is empty; give at least one example to show."),
        (
            lambda: image_grid(DATA, [0], ["a", "b"]),
            "`captions` of image_grid must hold one text for each of the 1 indices; got 2.",
        ),
        (
            lambda: image_grid(DATA, [0], columns=0),
            "The `columns` of image_grid must be an integer of at least 1; got 0.",
        ),
        (
            lambda: scores_grid(DATA[:2], THREE),
            (
                "The `dataset` of scores_grid and the one that was observed are not of the same data: the first has 2"
                " examples and the second 3, so an index no longer names the same example: pass the data set that was"
                " observed."
            ),
        ),
        (
            lambda: scores_grid(DATA, THREE, class_names=["a", "b"]),
            "`class_names` must name the labels 0 to 2; got 2 names.",
        ),
        (
            lambda: scores_grid(DATA, THREE, 0),
            "The `num_images` of scores_grid must be an integer of at least 1; got 0.",
        ),
        (
            lambda: scores_grid(DATA, THREE, which="hardest"),  # type: ignore[arg-type]
            '`which` of scores_grid must be "hard" or "easy"; got \'hardest\'.',
        ),
        (
            lambda: scores_grid(DATA, THREE, classes=[7]),
            "No example of the classes [7] has a score that is not NaN; there is nothing to show.",
        ),
        (
            lambda: scores_grid(DATA, scores_of([torch.nan] * 3)),
            "No example has a score that is not NaN; there is nothing to show.",
        ),
        (lambda: averages_grid(DATA, THREE, 0), "`fraction` of averages_grid must be in (0, 1]; got 0."),
        (
            lambda: averages_grid(DATA, THREE, max_images=0),
            "The `max_images` of averages_grid must be an integer of at least 1; got 0.",
        ),
        (
            lambda: image_grid([(torch.zeros(16), 1)], [0]),
            (
                "list holds no images: found a float32 tensor of shape (16,) in place of one. An item must be an image,"
                " a tuple with it first, or a mapping with one of the keys image, pixel_values, x, input, img, images,"
                " inputs, data."
            ),
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=whole(message)) as caught:
        call()
    assert isinstance(caught.value, NoImageError) == ("no images" in message)


def test_old_names_are_refused_by_the_new_ones() -> None:
    with pytest.raises(ImportError, match=r"^lightning_easiness has no 'scores_sheet' any more: use scores_grid\.$"):
        _ = lightning_easiness.scores_sheet
    with pytest.raises(TypeError, match=r"^averages_grid has no `most_pictures` any more: give `max_images`\.$"):
        averages_grid(DATA, THREE, most_pictures=3)


# --- averages


def test_averages_hold_one_image_at_a_time() -> None:
    alive = weakref.WeakSet[Tensor]()
    most = 0

    class OneAtATime(Noted):
        def __getitem__(self, index: int) -> Any:
            nonlocal most
            image = torch.rand(3, 8, 8)
            alive.add(image)
            most = max(most, len(alive))
            return image, 0

    averages_grid(OneAtATime(range(200)), rising(200), 0.3)
    assert most <= 3


@pytest.mark.usefixtures("undrawn")
def test_averages_grid_averages_the_ends_of_each_class() -> None:
    target = [i % 2 for i in range(40)]
    dataset = Noted(torch.rand(40, 3, 8, 8))
    grid: Any = averages_grid(dataset, rising(40, target), 0.15, class_names=["cat", "dog"])
    assert grid.row_heads == ("easy", "random", "hard")
    assert captions_of(grid) == [["", ""], ["", ""], ["cat\n3 images each", "dog\n3 images each"]]
    assert grid.title == "Averages of easy, random and hard examples\n15% of each class, by mean loss over 10 runs"
    for label, column in enumerate(zip(*grid.rows, strict=True)):
        for members, cell in (([0, 2, 4], column[0]), ([34, 36, 38], column[2])):
            expected = dataset.images[[label + i for i in members]].mean(0).mul(255).round()
            assert (cell.image - expected).abs().max() <= 1
    drawn = dataset.read[3:6]
    assert len(set(drawn)) == 3
    assert all(target[i] == 0 for i in drawn)


@pytest.mark.usefixtures("undrawn")
def test_averages_of_many_classes_stand_in_blocks_of_ten() -> None:
    target = [i % 23 for i in range(230)]
    grid: Any = averages_grid(torch.rand(230, 8, 8), rising(230, target))
    assert grid.row_heads == ("easy", "random", "hard") * 2
    names = [caption.split("\n")[0] for row in captions_of(grid) for caption in row if caption]
    assert names == [f"label {label}" for label in range(20)]
    assert [len(row) for row in grid.rows] == [10] * 6
    assert "the first 20 of 23 classes" in grid.title


@pytest.mark.usefixtures("undrawn")
def test_the_random_row_comes_from_its_seed_and_from_no_global_generator() -> None:
    def read(seed: int) -> list[int]:
        dataset = Noted(torch.zeros(100, 8, 8))
        averages_grid(dataset, rising(100), seed=seed)
        return dataset.read

    before = streams()
    assert read(0) == read(0)
    assert read(0)[10:20] != read(1)[10:20]
    assert streams() == before


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("target", "options", "heads"),
    [
        ([0] * 50 + [1] * 10, {"fraction": 0.01}, ["label 0\n1 image each", "label 1\n1 image each"]),
        ([0] * 50 + [1] * 10, {"fraction": 0.5}, ["label 0\n5 images each", "label 1\n5 images each"]),
        ([-1] * 60, {}, ["no label\n5 images each"]),
    ],
)
def test_an_average_has_at_most_so_many_images_and_at_least_one(
    target: list[int], options: dict[str, Any], heads: list[str]
) -> None:
    grid: Any = averages_grid(torch.rand(60, 8, 8), rising(60, target), max_images=5, **options)
    assert captions_of(grid) == [[""] * len(heads), [""] * len(heads), heads]


# --- what they need


@pytest.mark.parametrize("module", [grids, layout, images, words])
def test_grids_need_no_trainer_and_no_plotting(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert packages <= {"PIL", "lightning_easiness", "numpy", "torch", "torchvision"}
