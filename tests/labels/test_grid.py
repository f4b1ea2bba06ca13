"""Suspicious labels as images: which are shown, in which order, with which words, and what TensorBoard is given."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_easiness import LabelIssues, NoImageError, suspects_grid, write_suspects
from lightning_easiness.view.layout import Grid
from tests.made_runs import whole
from tests.small import streams
from tests.view.helpers import Noted, captions_of, read_events

N, K = 12, 3
ORDER = torch.randperm(N, generator=torch.Generator().manual_seed(3))  # most suspicious first
TARGET = torch.arange(N) % K
IMAGES = torch.arange(N, dtype=torch.uint8)[:, None, None, None].expand(N, 3, 8, 8) * 20  # each of a shade of its own
FLAGGED = 4
PLACE = "easiness/label_issues"
NAMES = ["ant", "bee", "cow"]


def issues_of(order: Tensor = ORDER, **changes: Any) -> LabelIssues:
    """A table of N examples, the first rows flagged, under made-up predictions and suggestions."""
    given, rows = order % K, len(order)
    columns: dict[str, Any] = {
        "index": order,
        "given": given,
        "predicted": (given + 1) % K,
        "suggested": (given + 1) % K,
        "score": torch.linspace(-3, 5, rows),
        "spread": torch.full((rows,), math.nan),
        "posterior": torch.linspace(1, 0, rows),
        "is_issue": torch.arange(rows) < FLAGGED,
        "is_slow": torch.zeros(rows, dtype=torch.bool),
        "unseen": torch.empty(0, dtype=torch.int64),
        "threshold": -1.0,
        "rule": "mixture",
        "estimated_share": 0.25,
        "estimated_interval": (math.nan, math.nan),
        "score_name": "area_under_margin",
        "higher_is_easier": True,
        "num_examples": N,
        "explanation": "How this came about.",
    }
    return LabelIssues(**{**columns, **changes})


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grids come back as they are, before they are drawn."""
    monkeypatch.setattr(Grid, "draw", lambda grid: grid)


def shown(grid: Any) -> list[int]:
    """The examples on a grid that is not drawn, by their images."""
    return [int(cell.image.amax()) // 20 for row in grid.rows for cell in row]


def words(grid: Any) -> list[str]:
    return [caption for row in captions_of(grid) for caption in row]


@pytest.mark.usefixtures("undrawn")
def test_images_stand_in_the_order_of_the_table() -> None:
    for order in (ORDER, ORDER.flip(0)):
        grid = suspects_grid(IMAGES, issues_of(order))
        assert shown(grid) == order.tolist()
        assert [caption.split()[0] for caption in words(grid)] == [f"#{index}" for index in order.tolist()]
    assert suspects_grid(IMAGES, issues_of(), thumbnail=40).thumbnail == 40  # type: ignore[attr-defined]


@pytest.mark.usefixtures("undrawn")
def test_as_many_as_are_asked_for_are_read_and_no_more_than_there_are() -> None:
    for number, rows in ((1, N), (5, N), (N, N), (10 * N, N), (10, 3)):
        dataset = Noted(IMAGES)
        assert shown(suspects_grid(dataset, issues_of().head(rows), number)) == ORDER[:rows][:number].tolist()
        assert dataset.read == ORDER[:rows][:number].tolist()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("label", range(K))
def test_of_one_given_label(label: int) -> None:
    wanted = [index for index in ORDER.tolist() if TARGET[index] == label]
    grid: Any = suspects_grid(IMAGES, issues_of(rule="gap", score_name="mean_loss"), class_names=NAMES, given=label)
    assert shown(grid) == wanted
    assert shown(suspects_grid(IMAGES, issues_of(), 2, given=label)) == wanted[:2]
    assert all(f"\n{NAMES[label]}\npredicted {NAMES[(label + 1) % K]}\n" in caption for caption in words(grid))
    assert grid.title == (
        f"The {len(wanted)} most suspicious labels of those labelled {NAMES[label]}\nindex, given label, predicted"
        " label, suggested label if it is another, mean loss; 4 of 12 are flagged by the rule 'gap', * marks them"
    )


@pytest.mark.usefixtures("undrawn")
def test_captions_say_index_labels_score_and_flag() -> None:
    issues = issues_of(
        torch.tensor([5, 0, 7, 1]),
        given=torch.tensor([2, 0, -1, 1]),
        predicted=torch.tensor([1, -1, 0, 1]),
        suggested=torch.tensor([1, -1, 2, 0]),
        score=torch.tensor([-1234.5, 0.0042, 7.318, 2.0]),
        is_issue=torch.tensor([True, False, True, False]),
    )
    grid: Any = suspects_grid(IMAGES, issues, class_names=NAMES)
    assert words(grid) == [
        "#5 *\ncow\npredicted bee\n-1,234",
        "#0\nant\n0.0042",
        "#7 *\nno label\npredicted ant\nsuggested cow\n7.32",
        "#1\nbee\npredicted bee\nsuggested ant\n2.00",
    ]
    assert grid.title == (
        "The 4 most suspicious labels\nindex, given label, predicted label, suggested label if it is another, area"
        " under margin; 2 of 4 are flagged by the rule 'mixture', * marks them"
    )
    assert words(suspects_grid(IMAGES, issues, 1)) == ["#5 *\n2, predicted 1\n-1,234"]


@pytest.mark.usefixtures("undrawn")
def test_without_predictions_captions_say_what_is_suggested() -> None:
    """Of scores alone, and of records that hold none."""
    issues = issues_of(torch.tensor([5, 0]), predicted=torch.tensor([-1, -1]))
    grid: Any = suspects_grid(IMAGES, issues, class_names=NAMES)
    lines = [caption.split("\n")[1:3] for caption in words(grid)]
    assert lines == [["cow", "suggested ant"], ["ant", "suggested bee"]]
    assert grid.title.split("\n")[1].startswith("index, given label, suggested label, area under margin; ")
    assert words(suspects_grid(IMAGES, issues))[0].startswith("#5 *\nlabel 2\nsuggested 0\n")


@pytest.mark.usefixtures("undrawn")
def test_names_are_those_given_else_of_the_issues_else_of_the_data_set() -> None:
    class Named(TensorDataset):
        classes = ("xyz", "yzx", "zxy")

    named = issues_of(class_names=tuple(NAMES))
    for issues, names, expected in (
        (issues_of(), None, ("xyz", "yzx", "zxy")),
        (named, None, NAMES),
        (named, ["one", "two", "three"], ["one", "two", "three"]),
    ):
        grid: Any = suspects_grid(Named(IMAGES), issues, 1, names)
        label = int(issues.given[0])
        assert words(grid)[0].split("\n")[1:3] == [expected[label], f"predicted {expected[(label + 1) % K]}"]


OTHER_LENGTH = (
    "The `dataset` of suspects_grid and the one that was observed are not of the same data: the first has 11 examples"
    " and the second 12, so an index no longer names the same example: pass the data set that was observed."
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": IMAGES[:-1]}, OTHER_LENGTH),
        ({"num_images": 0}, "The `num_images` of suspects_grid must be an integer of at least 1; got 0."),
        ({"num_images": 2.5}, "The `num_images` of suspects_grid must be an integer of at least 1; got 2.5."),
        ({"class_names": NAMES[:2]}, "`class_names` must name the labels 0 to 2; got 2 names."),
        (
            {"class_names": NAMES, "issues": issues_of(suggested=torch.full((N,), 4))},
            "`class_names` must name the labels 0 to 4; got 3 names.",
        ),
        ({"given": 7}, "No example with the label 7 has a label score, so suspects_grid has nothing to show."),
        (
            {"issues": issues_of(torch.empty(0, dtype=torch.int64))},
            "No example has a label score, so suspects_grid has nothing to show.",
        ),
    ],
)
def test_what_is_refused_and_then_nothing_is_written(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"dataset": IMAGES, "issues": issues_of(), **changes}
    with pytest.raises(ValueError, match=whole(message)):
        suspects_grid(**arguments)
    if "given" not in changes:
        with pytest.raises(ValueError, match=whole(message)):
            write_suspects(**arguments, log_dir=tmp_path / "log")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("item", [torch.zeros(16), ("text", 1), {"label": 3}])
def test_no_image_has_an_error_of_its_own(item: Any) -> None:
    with pytest.raises(NoImageError, match=r"^list holds no images: found "):
        suspects_grid([item] * N, issues_of())


@pytest.mark.usefixtures("undrawn")
def test_another_data_set_of_that_length_is_noticed_by_its_labels() -> None:
    suspects_grid(TensorDataset(IMAGES, TARGET), issues_of(), 3)
    with pytest.warns(UserWarning, match=rf"^{N} of {N} labels that the data set lists are not those of the issues"):
        suspects_grid(TensorDataset(IMAGES, (TARGET + 1) % K), issues_of(), 3)


@pytest.mark.usefixtures("undrawn")
def test_a_data_set_without_a_length_is_read() -> None:
    class Unsized:
        def __getitem__(self, index: int) -> Tensor:
            return IMAGES[index]

    assert shown(suspects_grid(Unsized(), issues_of(), 3)) == ORDER[:3].tolist()


# ------------------------------------------------------------------ TensorBoard


def decoded(events: Any) -> Tensor:
    (event,) = events.Images(f"{PLACE}/suspects")
    image = Image.open(io.BytesIO(event.encoded_image_string))
    assert (image.format, event.height, event.width) == ("PNG", image.height, image.width)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def test_what_is_written_for_tensorboard(tmp_path: Path) -> None:
    before = streams()
    write_suspects(IMAGES, issues_of(), tmp_path / "made" / "log", class_names=NAMES, num_images=5)
    assert streams() == before
    events = read_events(tmp_path / "made" / "log")
    assert {kind: tags for kind, tags in events.Tags().items() if isinstance(tags, list) and tags} == {
        "images": [f"{PLACE}/suspects"],
        "scalars": [f"{PLACE}/share_called_wrong"],
        "histograms": [f"{PLACE}/area_under_margin"],
        "distributions": [f"{PLACE}/area_under_margin"],  # tensorboard's other view of histograms
        "tensors": [f"{PLACE}/text_summary"],
    }
    assert torch.equal(decoded(events), suspects_grid(IMAGES, issues_of(), 5, NAMES))
    (scalar,) = events.Scalars(f"{PLACE}/share_called_wrong")
    assert scalar.value == pytest.approx(FLAGGED / N)
    (histogram,) = events.Histograms(f"{PLACE}/area_under_margin")
    values = issues_of().score.double()
    assert histogram.histogram_value.num == sum(histogram.histogram_value.bucket) == N
    assert (histogram.histogram_value.min, histogram.histogram_value.max) == (-3, 5)
    assert histogram.histogram_value.sum == pytest.approx(float(values.sum()))
    (text,) = events.Tensors(f"{PLACE}/text_summary")
    assert list(text.tensor_proto.string_val) == [b"How this came about."]


def test_it_shows_25_by_default(tmp_path: Path) -> None:
    data, issues = IMAGES.repeat(4, 1, 1, 1), issues_of(torch.arange(4 * N), num_examples=4 * N)
    write_suspects(data, issues, tmp_path)
    assert torch.equal(decoded(read_events(tmp_path)), suspects_grid(data, issues, 25))
    assert not torch.equal(decoded(read_events(tmp_path)), suspects_grid(data, issues, 24))


@pytest.mark.parametrize(
    ("score", "num"), [([2.5] * N, N), ([*range(N - 2), math.nan, math.inf], N - 2), ([-math.inf] * N, 0)]
)
def test_the_histogram_holds_what_is_finite(score: list[float], num: int, tmp_path: Path) -> None:
    write_suspects(IMAGES, issues_of(score=torch.tensor(score)), tmp_path)
    events = read_events(tmp_path)
    if num == 0:
        assert events.Tags()["histograms"] == []
    else:
        (histogram,) = events.Histograms(f"{PLACE}/area_under_margin")
        assert histogram.histogram_value.num == sum(histogram.histogram_value.bucket) == num
