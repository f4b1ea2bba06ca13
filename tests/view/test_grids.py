import ast
import random
import re
import sys
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_easiness.scores import Scores
from lightning_easiness.view import drawing
from lightning_easiness.view import grids as views
from lightning_easiness.view import images as pictures
from lightning_easiness.view.drawing import Cell, Sheet

MARGIN = 20


def scores_of(values, target, *, spread=None, num_runs=10, **options):
    values, target = torch.tensor(values), torch.tensor(target)
    spread = None if spread is None else torch.tensor(spread)
    options = {"higher_is_easier": False, "name": "mean_loss", **options}
    return Scores(values=values, spread=spread, target=target, num_runs=num_runs, **options)


@pytest.fixture
def colours():
    """Bytes (3, 6, 5) that hold both ends of the range."""
    picture = torch.randint(0, 256, (3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture[:, 0, 0], picture[:, 0, 1] = 0, 255
    return picture


@pytest.fixture
def undrawn(monkeypatch):
    """Sheets come back as they are, before they are drawn."""
    monkeypatch.setattr(Sheet, "draw", lambda sheet: sheet)


class Noted:
    """A data set that notes what is read."""

    def __init__(self, pictures, targets=None):
        self.pictures, self.targets, self.read = pictures, targets, []

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        self.read.append(index)
        return self.pictures[index], 0 if self.targets is None else self.targets[index]


# --- sheets of pictures


def test_small_pictures_grow_by_a_whole_factor_without_smoothing(colours):
    sheet = views.image_grid([colours], [0], captions=[""], thumbnail=60)
    grown = colours.repeat_interleave(10, 1).repeat_interleave(10, 2)
    assert sheet[:, MARGIN : MARGIN + 60, MARGIN : MARGIN + 50].equal(grown)


def test_large_pictures_are_reduced_with_antialiasing():
    board = (torch.arange(240)[:, None] + torch.arange(240)) % 2
    sheet = views.image_grid([board.float()], [0], captions=[""], thumbnail=60)
    inside = sheet[:, MARGIN + 2 : MARGIN + 58, MARGIN + 2 : MARGIN + 58].int()
    assert ((inside - 128).abs() <= 4).all()


def test_pictures_stand_in_rows_in_the_order_of_the_indices():
    pictures = [torch.full((1, 4, 4), i / 10) for i in range(5)]
    sheet = views.image_grid(pictures, [4, 0, 3], captions=["", "", ""], columns=2, thumbnail=40)
    step = 40 + 16
    corners = [sheet[0, MARGIN + y * step + 5, MARGIN + x * step + 5].item() for y, x in ((0, 0), (0, 1), (1, 0))]
    assert corners == [102, 0, 76]
    assert sheet[:, MARGIN + step + 5, MARGIN + step + 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("title", [None, "Hardest", "A long title that goes on and on " * 5 + "\nnotes " * 40])
@pytest.mark.parametrize(
    "caption", ["#1", "#1234567  a rather long name of a class\n2.31 ± 0.40", "W" * 100, "naïve 日本\nx", " \n\n"]
)
def test_words_are_never_cut(colours, title, caption):
    sheet = views.image_grid([colours] * 4, range(4), [caption] * 4, columns=2, title=title)
    ink = (sheet < 255).any(0)
    rim = MARGIN - 2  # a frame is one pixel wide
    assert not ink[:rim].any()
    assert not ink[-rim:].any()
    assert not ink[:, :rim].any()
    assert not ink[:, -rim:].any()
    top = next(i for i, row in enumerate(sheet[0]) if (row == 0xD4).sum() > 50)  # first frame
    between = MARGIN + 112 + 2
    assert not ink[top:, between : between + 10].any()


@pytest.mark.parametrize("size", [14, 20])
def test_breaking_keeps_every_letter_and_the_width(size):
    text = "#12  a name of several words and Incomprehensibilities\n2.31"
    for width in (10, 40, 112, 1000):
        words = drawing._Words(text, size, width)
        assert "".join(words.lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")
        assert words.width <= max(width, 2 * size)
    assert words.lines == text.split("\n")


def test_captions_are_dark_on_white(colours):
    sheet = views.image_grid([colours], [0], ["#1234  label 7\n2.31 ± 0.40"], thumbnail=60)
    below = sheet[:, MARGIN + 60 + 2 :]
    assert below.min() < 80
    assert (below == 255).float().mean() > 0.8


def test_pictures_of_all_shapes_on_one_sheet():
    pictures = [torch.rand(1, 8, 8), torch.rand(3, 300, 20), torch.rand(20, 300), torch.rand(3, 80, 80), "none"]
    sheet = views.image_grid(pictures, range(5))
    assert sheet.dtype == torch.uint8
    assert sheet.shape[0] == 3


def test_errors_of_picture_sheet(colours):
    with pytest.raises(ValueError, match=r"^`indices` of image_grid is empty; give at least one example to show.$"):
        views.image_grid([colours], [])
    with pytest.raises(ValueError, match=r"^`captions` of image_grid must hold one text .* 1 indices; got 2.$"):
        views.image_grid([colours], [0], ["a", "b"])
    with pytest.raises(ValueError, match=r"^`columns` of image_grid must be at least 1; got 0.$"):
        views.image_grid([colours], [0], columns=0)
    with pytest.raises(views.NoImageError) as error:
        views.image_grid([(torch.zeros(16), 1)], [0])
    assert str(error.value) == (
        "list holds no pictures: found a float32 tensor of shape (16,) in place of one. An item must be a picture,"
        " a tuple with it first, or a mapping with one of the keys image, pixel_values, x, input, img, images, inputs,"
        " data."
    )


# --- sheets of scores


def captions_of(sheet):
    return [[cell.caption for cell in row] for row in sheet.rows]


@pytest.mark.usefixtures("undrawn")
def test_scores_sheet_shows_the_extreme_examples_with_their_numbers():
    scores = scores_of([0.001, 2.3051, torch.nan, 1200.0, 0.0], [0, 1, 1, -1, 2], spread=[0.0002, 0.4, 1, 30, 0])
    dataset = Noted(torch.rand(5, 8, 8))
    sheet = views.scores_grid(dataset, scores, 3)
    assert dataset.read == [3, 1, 0]
    assert captions_of(sheet) == [
        ["#3  no label\n1,200 ± 30.00", "#1  label 1\n2.31 ± 0.40"],
        ["#0  label 0\n0.001 ± 0.0002"],
    ]
    assert sheet.title == (
        "Hardest of 4 by mean loss over 10 runs\n"
        "index, label, mean loss ± standard deviation over runs; low is easy; 1 without a score left out"
    )


@pytest.mark.usefixtures("undrawn")
def test_scores_sheet_follows_the_direction_and_names_classes():
    scores = scores_of([0.1, 0.9], [0, 1], num_runs=1, higher_is_easier=True, name="count")
    sheet = views.scores_grid(torch.rand(2, 8, 8), scores, 1, "easy", class_names=["cat", "dog"])
    assert captions_of(sheet) == [["#1  dog\n0.90"]]
    assert sheet.title == "Easiest of 2 by count in one run\nindex, label, count; high is easy"


@pytest.mark.usefixtures("undrawn")
def test_scores_sheet_by_class():
    scores = scores_of([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 1, -1])
    sheet = views.scores_grid(torch.rand(5, 8, 8), scores, 2, by_class=True)
    assert sheet.row_heads == ["label 0", "label 1"]
    assert captions_of(sheet) == [["#1\n0.20"], ["#3\n0.40", "#2\n0.30"]]
    only = views.scores_grid(torch.rand(5, 8, 8), scores, classes=[1])
    assert captions_of(only) == [["#3  label 1\n0.40", "#2  label 1\n0.30"], ["#0  label 1\n0.10"]]
    assert only.title.startswith("Hardest of 3 of label 1 by mean loss")


@pytest.mark.usefixtures("undrawn")
def test_many_classes_make_no_endless_sheet():
    scores = scores_of([float(i) for i in range(60)], [i // 2 for i in range(60)])
    for sheet in (
        views.scores_grid(torch.rand(60, 8, 8), scores, 1, by_class=True),
        views.averages_grid(torch.rand(60, 8, 8), scores),
    ):
        assert len(sheet.rows) == len(sheet.row_heads) == 20
        assert sheet.title.endswith("; the first 20 of 30 classes")


def test_errors_of_scores_sheet():
    dataset, scores = torch.rand(3, 8, 8), scores_of([0.1, 0.2, 0.3], [0, 1, 2])
    messages = {
        "`dataset` has 2 items, but there are scores of 3 examples; pass the data set that was observed.": (
            lambda: views.scores_grid(dataset[:2], scores)
        ),
        "`class_names` must name the labels 0 to 2; got 2 names.": (
            lambda: views.scores_grid(dataset, scores, class_names=["a", "b"])
        ),
        "`num_images` of scores_grid must be at least 1; got 0.": lambda: views.scores_grid(dataset, scores, 0),
        '`which` of scores_grid must be "hard" or "easy"; got \'hardest\'.': (
            lambda: views.scores_grid(dataset, scores, which="hardest")
        ),
        "No example of the classes [7] has a score that is not NaN; there is nothing to show.": (
            lambda: views.scores_grid(dataset, scores, classes=[7])
        ),
        "No example has a score that is not NaN; there is nothing to show.": (
            lambda: views.scores_grid(dataset, scores_of([torch.nan] * 3, [0, 1, 2]))
        ),
        "`fraction` of averages_grid must be in (0, 1]; got 0.": lambda: views.averages_grid(dataset, scores, 0),
        "`most_pictures` of averages_grid must be at least 1; got 0.": (
            lambda: views.averages_grid(dataset, scores, most_pictures=0)
        ),
    }
    for message, call in messages.items():
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


# --- averages


def test_averages_stream():
    alive = weakref.WeakSet()

    class OneAtATime:
        most = 0

        def __len__(self):
            return 200

        def __getitem__(self, index):
            picture = torch.rand(3, 8, 8)
            alive.add(picture)
            self.most = max(self.most, len(alive))
            return picture, 0

    dataset = OneAtATime()
    views.average_images(dataset, range(200))
    views.averages_grid(dataset, scores_of([float(i) for i in range(200)], [0] * 200), 0.3)
    assert dataset.most <= 3


@pytest.mark.usefixtures("undrawn")
def test_averaged_sheet_averages_the_ends_of_each_class():
    target = [i % 2 for i in range(40)]
    pictures = torch.rand(40, 3, 8, 8)
    dataset = Noted(pictures)
    scores = scores_of([float(i) for i in range(40)], target)
    sheet = views.averages_grid(dataset, scores, 0.15, class_names=["cat", "dog"])
    assert sheet.column_heads == ("easy", "random", "hard")
    assert sheet.row_heads == ["cat\n3 pictures each", "dog\n3 pictures each"]
    assert sheet.title == "Averages of easy, random and hard examples\n15% of each class, by mean loss over 10 runs"
    for label, row in enumerate(sheet.rows):
        for members, cell in (([0, 2, 4], row[0]), ([34, 36, 38], row[2])):
            expected = pictures[[label + i for i in members]].mean(0).mul(255).round()
            assert (cell.picture - expected).abs().max() <= 1
    drawn = dataset.read[3:6]
    assert len(set(drawn)) == 3
    assert all(target[i] == 0 for i in drawn)


@pytest.mark.usefixtures("undrawn")
def test_the_random_column_comes_from_its_seed_and_from_no_global_stream():
    scores = scores_of([float(i) for i in range(100)], [0] * 100)

    def read(seed):
        dataset = Noted(torch.zeros(100, 8, 8))
        views.averages_grid(dataset, scores, seed=seed)
        return dataset.read

    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert read(0) == read(0)
    assert read(0)[10:20] != read(1)[10:20]
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert after[0].equal(before[0])
    assert after[1:] == before[1:]


@pytest.mark.usefixtures("undrawn")
def test_averages_take_so_many_pictures_at_most_and_one_at_least():
    scores = scores_of([float(i) for i in range(60)], [0] * 50 + [1] * 10)
    heads = views.averages_grid(torch.rand(60, 8, 8), scores, 0.01, most_pictures=5).row_heads
    assert heads == ["label 0\n1 picture each", "label 1\n1 picture each"]
    heads = views.averages_grid(torch.rand(60, 8, 8), scores, 0.5, most_pictures=5).row_heads
    assert heads == ["label 0\n5 pictures each", "label 1\n5 pictures each"]


@pytest.mark.usefixtures("undrawn")
def test_without_labels_one_row_averages_all():
    sheet = views.averages_grid(torch.rand(20, 8, 8), scores_of([float(i) for i in range(20)], [-1] * 20))
    assert sheet.row_heads == ["no label\n2 pictures each"]


# --- files


@pytest.mark.parametrize(
    "values", [torch.randn(1000).exp(), torch.tensor([2.0, 2.0]), torch.arange(5), torch.tensor([0.0, 1e-30, 30.0])]
)
def test_histogram_against_numpy(values):
    bins = views.histogram(torch.cat([values, torch.tensor([torch.nan, torch.inf, -torch.inf])]))
    known = values.double().numpy()
    if known.min() < known.max():
        counts, limits = np.histogram(known, bins=64)
        assert bins["bucket_counts"] == counts.tolist()
        np.testing.assert_allclose(bins["bucket_limits"], limits[1:])
    assert sum(bins["bucket_counts"]) == bins["num"] == len(known)
    assert (bins["min"], bins["max"]) == (known.min(), known.max())
    assert bins["sum"] == pytest.approx(known.sum())
    assert bins["sum_squares"] == pytest.approx((known**2).sum())


def test_histogram_of_nothing():
    assert views.histogram(torch.empty(0)) is None
    assert views.histogram(torch.tensor([torch.nan, torch.inf])) is None


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    return events


def test_write_tensorboard(tmp_path):
    target = [i % 3 for i in range(60)]
    dataset = [{"image": picture, "label": label} for picture, label in zip(torch.rand(60, 8, 8), target, strict=True)]
    scores = scores_of([*torch.rand(59).tolist(), torch.nan], target, step=120)
    names = ["ant", "bee", "cow"]
    views.write_tensorboard(scores, dataset, tmp_path, class_names=names, num_images=9, fraction=0.2)
    events = read_events(tmp_path)
    expected = {
        "hardest": views.scores_grid(dataset, scores, 9, "hard", names),
        "easiest": views.scores_grid(dataset, scores, 9, "easy", names),
        "hardest_by_class": views.scores_grid(dataset, scores, 9, "hard", names, by_class=True),
        "easiest_by_class": views.scores_grid(dataset, scores, 9, "easy", names, by_class=True),
        "averages": views.averages_grid(dataset, scores, 0.2, names),
    }
    assert Counter(events.Tags()["images"]) == Counter(f"easiness/mean_loss/{name}" for name in expected)
    for name, sheet in expected.items():
        (image,) = events.Images(f"easiness/mean_loss/{name}")
        assert (image.step, image.height, image.width) == (120, *sheet.shape[1:])
    (histogram,) = events.Histograms("easiness/mean_loss")
    assert (histogram.step, histogram.histogram_value.num) == (120, 59)


def test_write_tensorboard_without_pictures(tmp_path):
    scores = scores_of([0.1, 0.2], [0, 1])
    with pytest.warns(UserWarning, match="^Tensor holds no pictures: .* Only the histogram of the scores is written.$"):
        views.write_tensorboard(scores, torch.zeros(2, 16), tmp_path)
    tags = read_events(tmp_path).Tags()
    assert (tags["images"], tags["histograms"]) == ([], ["easiness/mean_loss"])


def test_nothing_is_written_after_an_error(tmp_path):
    scores = scores_of([0.1, 0.2], [0, 1])
    with pytest.raises(ValueError, match=r"^`class_names` must name the labels 0 to 1; got 1 names.$"):
        views.write_tensorboard(scores, torch.zeros(2, 8, 8), tmp_path / "log", class_names=["a"])
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("module", [views, drawing, pictures])
def test_views_need_no_trainer_and_no_plotting(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert packages <= {"PIL", "lightning_easiness", "numpy", "torch", "torchvision"}


def test_sheets_may_be_ragged_and_blank():
    sheet = Sheet([[Cell(None, "nothing")], []], "Title", ["a", "b"], ["one"])
    assert sheet.draw().shape[0] == 3
