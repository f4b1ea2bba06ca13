"""Pictures of suspicious labels: which are shown, in which order, with which words, and what TensorBoard is given."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_easiness import LabelIssues, find_label_issues
from lightning_easiness.labels.grid import suspects_grid, write_suspects
from lightning_easiness.scores import Scores
from lightning_easiness.view.images import NoImageError
from lightning_easiness.view.layout import Grid
from tests.made_runs import whole
from tests.small import streams

N, K = 12, 3
ORDER = torch.randperm(N, generator=torch.Generator().manual_seed(3))  # most suspicious first
TARGET = torch.arange(N) % K
FLAGGED = 4
PLACE = "easiness/label_issues"


def issues_of(order: Tensor = ORDER, **changes: Any) -> LabelIssues:
    """A table of N examples, the first rows flagged, under made-up suggestions."""
    given, rows = order % K, len(order)
    columns: dict[str, Any] = {
        "index": order,
        "given": given,
        "suggested": (given + 1) % K,
        "score": torch.linspace(-3, 5, rows),
        "spread": torch.full((rows,), math.nan),
        "posterior": torch.linspace(1, 0, rows),
        "is_issue": torch.arange(rows) < FLAGGED,
        "unseen": torch.empty(0, dtype=torch.int64),
        "threshold": -1.0,
        "rule": "mixture",
        "estimated_share": 0.25,
        "score_name": "area_under_margin",
        "higher_is_easier": True,
        "num_examples": N,
        "explanation": "How this came about.",
    }
    return LabelIssues(**{**columns, **changes})


# ------------------------------------------------------------------ pictures that are known by their colour


def colour_of(index: int) -> Tensor:
    """Of no other picture; its channels differ, so that it is no shade of the words, the frames or the paper."""
    return torch.tensor([10 + 15 * index, 245 - 15 * index, 60], dtype=torch.uint8)


def coloured(index: int, size: int = 8) -> Tensor:
    return colour_of(index)[:, None, None].expand(3, size, size).clone()


KINDS = {
    "bytes": lambda picture: picture,
    "float32 in [0, 1]": lambda picture: picture.float() / 255,
    "float64 in [0, 1]": lambda picture: picture.double() / 255,
    "array, channels last": lambda picture: picture.permute(1, 2, 0).numpy(),
    "Pillow": lambda picture: Image.fromarray(picture.permute(1, 2, 0).numpy()),
    "with its label": lambda picture: (picture, 1),
    "mapping": lambda picture: {"label": 1, "image": picture},
}


def pictures(kind: str = "bytes") -> list[Any]:
    return [KINDS[kind](coloured(index)) for index in range(N)]


def places(sheet: Tensor, colours: list[Tensor], side: int = 112) -> dict[int, tuple[int, int]]:
    """Top and left of each picture of one colour that is on the sheet as a whole square, in reading order."""
    found = {}
    for index, colour in enumerate(colours):
        own = (sheet == colour[:, None, None]).all(0)
        sums = nn.functional.pad(own.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
        area = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        squares = (area == side * side).nonzero().tolist()
        if squares:
            ((top, left),) = squares  # once, and no larger
            found[index] = (top, left)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def shown(sheet: Tensor, side: int = 112) -> list[int]:
    assert sheet.dtype == torch.uint8
    assert sheet.ndim == 3
    assert sheet.shape[0] == 3
    return list(places(sheet, [colour_of(index) for index in range(N)], side))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_stand_in_the_order_of_the_table(kind: str) -> None:
    sheet = suspects_grid(pictures(kind), issues_of())
    assert shown(sheet) == ORDER.tolist()
    reverse = suspects_grid(pictures(kind), issues_of(ORDER.flip(0)))
    assert shown(reverse) == ORDER.flip(0).tolist()


@pytest.mark.parametrize("scale", [1, 255])
def test_grey_pictures_keep_their_brightness(scale: int) -> None:
    shades = [torch.full((3,), 30 + 10 * index, dtype=torch.uint8) for index in range(N)]
    data = [shade[:1, None, None].expand(1, 8, 8) for shade in shades]
    data = data if scale == 255 else [picture.float() / 255 for picture in data]
    data[0] = data[0][0]  # one without a channel
    assert list(places(suspects_grid(data, issues_of()), shades)) == ORDER.tolist()


def test_so_many_as_are_asked_for_and_no_more_than_there_are() -> None:
    data = pictures()
    for number in (1, 5, N):
        assert shown(suspects_grid(data, issues_of(), number)) == ORDER[:number].tolist()
    beyond = suspects_grid(data, issues_of(), 10 * N)
    assert torch.equal(beyond, suspects_grid(data, issues_of(), N))
    assert shown(suspects_grid(data, issues_of().head(3))) == ORDER[:3].tolist()


def test_only_what_is_shown_is_read() -> None:
    read = []

    class Noted(list):
        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return super().__getitem__(index)

    suspects_grid(Noted(pictures()), issues_of(), 3)
    assert read == ORDER[:3].tolist()


@pytest.mark.parametrize("label", range(K))
def test_of_one_given_label(label: int) -> None:
    wanted = [index for index in ORDER.tolist() if TARGET[index] == label]
    assert shown(suspects_grid(pictures(), issues_of(), given=label)) == wanted
    assert shown(suspects_grid(pictures(), issues_of(), 2, given=label)) == wanted[:2]


def test_the_size_of_the_thumbnails() -> None:
    small, large = (suspects_grid(pictures(), issues_of(), thumbnail=size) for size in (40, 160))
    assert shown(small, 40) == shown(large, 160) == ORDER.tolist()
    assert small.shape[1] < large.shape[1]


def test_an_example_without_a_picture_leaves_its_place_blank() -> None:
    data = pictures()
    data[int(ORDER[1])] = "no picture"
    at = places(suspects_grid(data, issues_of()), [colour_of(index) for index in range(N)])
    before = places(suspects_grid(pictures(), issues_of()), [colour_of(index) for index in range(N)])
    del before[int(ORDER[1])]
    assert at == before


# ------------------------------------------------------------------ words


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets come back as they are, before they are drawn."""
    monkeypatch.setattr(Grid, "draw", lambda sheet: sheet)


def captions(sheet: Any) -> list[str]:
    return [cell.caption for row in sheet.rows for cell in row]


@pytest.mark.usefixtures("undrawn")
def test_captions_say_index_labels_score_and_flag() -> None:
    order = torch.tensor([5, 0, 7])
    given, suggested = torch.tensor([2, 0, -1]), torch.tensor([1, -1, 2])
    issues = issues_of(
        order,
        given=given,
        suggested=suggested,
        score=torch.tensor([-1234.5, 0.0042, 7.318]),
        is_issue=torch.tensor([True, False, True]),
    )
    sheet: Any = suspects_grid(pictures(), issues, class_names=["ant", "bee", "cow"])
    assert captions(sheet) == [
        "#5 *\ncow -> bee\n-1,234",
        "#0\nant\n0.0042",
        "#7 *\nno label -> cow\n7.32",
    ]
    assert sheet.title == (
        "The 3 most suspicious labels\n"
        "index, given label -> suggested one, area under margin; 2 of 3 are flagged by the rule 'mixture',"
        " * marks them"
    )
    unnamed: Any = suspects_grid(pictures(), issues, 1)
    assert captions(unnamed) == ["#5 *\nlabel 2 -> label 1\n-1,234"]


@pytest.mark.usefixtures("undrawn")
def test_the_title_of_one_given_label_and_of_another_rule() -> None:
    issues = issues_of(rule="gap", score_name="mean_loss")
    sheet: Any = suspects_grid(pictures(), issues, 3, ["ant", "bee", "cow"], given=1)
    first, second = sheet.title.split("\n")
    assert first == "The 3 most suspicious labels of those labelled bee"
    assert second.startswith("index, given label -> suggested one, mean loss; 4 of 12 are flagged by the rule 'gap'")
    assert all("\nbee -> cow\n" in caption for caption in captions(sheet))


def words_below(sheet: Tensor, index: int, side: int = 112) -> Tensor:
    """What is drawn below a picture, without its frame."""
    top, left = places(sheet, [colour_of(number) for number in range(N)])[index]
    return sheet[:, top + side + 1 : top + side + 50, left : left + side]


def test_the_words_that_are_drawn_follow_the_table() -> None:
    plain = issues_of()
    first, second = ORDER[:2].tolist()
    before = suspects_grid(pictures(), plain)
    assert (words_below(before, first) < 128).any(), "something is written"
    for name, value in {"suggested": (TARGET[first] + 2) % K, "is_issue": False, "score": -9.0, "given": 2}.items():
        column = getattr(plain, name).clone()
        assert column[0] != value
        column[0] = value
        after = suspects_grid(pictures(), issues_of(**{name: column}))
        assert not torch.equal(words_below(before, first), words_below(after, first)), name
        assert torch.equal(words_below(before, second), words_below(after, second)), f"{name} is of one example"
        assert shown(after) == ORDER.tolist()
    # with no suggestion there is no arrow to nowhere
    column = plain.suggested.clone()
    column[0] = -1
    after = suspects_grid(pictures(), issues_of(suggested=column))
    assert (words_below(after, first) < 128).sum() < (words_below(before, first) < 128).sum()


def test_a_title_with_another_number_of_flags_is_drawn_otherwise() -> None:
    last = issues_of().is_issue.clone()
    last[-1] = True  # below what is shown
    before, after = (suspects_grid(pictures(), issues, 4) for issues in (issues_of(), issues_of(is_issue=last)))
    top = min(top for top, _ in places(before, [colour_of(index) for index in range(N)]).values())
    assert not torch.equal(before[:, : top - 1], after[:, : top - 1])
    assert torch.equal(before[:, top - 1 :], after[:, top - 1 :])


# ------------------------------------------------------------------ what is refused


OTHER_LENGTH = (
    "The `dataset` of suspects_grid and the one that was observed are not of the same data: the first has 11 examples"
    " and the second 12, so an index no longer names the same example: pass the data set that was observed."
)
NO_PICTURES = (
    "list holds no images: found a float32 tensor of shape (16,) in place of one. An item must be an image, a tuple"
    " with it first, or a mapping with one of the keys image, pixel_values, x, input, img, images, inputs, data."
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": pictures()[:-1]},
            OTHER_LENGTH,
        ),
        ({"num_images": 0}, "The `num_images` of suspects_grid must be an integer of at least 1; got 0."),
        ({"class_names": ["ant", "bee"]}, "`class_names` must name the labels 0 to 2; got 2 names."),
        ({"given": 7}, "No example with the label 7 has a label score, so suspects_grid has nothing to show."),
        (
            {"issues": issues_of(torch.empty(0, dtype=torch.int64))},
            "No example has a label score, so suspects_grid has nothing to show.",
        ),
        (
            {"dataset": [torch.zeros(16)] * N},
            NO_PICTURES,
        ),
    ],
)
def test_what_is_refused_and_then_nothing_is_written(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"dataset": pictures(), "issues": issues_of(), **changes}
    with pytest.raises(ValueError, match=whole(message)):
        suspects_grid(**arguments)
    if "given" not in changes:
        with pytest.raises(ValueError, match=whole(message)):
            write_suspects(**arguments, log_dir=tmp_path / "log")
        assert list(tmp_path.iterdir()) == []


def test_a_suggested_class_needs_a_name_too() -> None:
    suggested = torch.full((N,), 4)
    with pytest.raises(ValueError, match=re.escape("`class_names` must name the labels 0 to 4; got 3 names.")):
        suspects_grid(pictures(), issues_of(suggested=suggested), class_names=["ant", "bee", "cow"])


def test_no_picture_has_an_error_of_its_own() -> None:
    for item in (torch.zeros(16), ("text", 1), {"label": 3}):
        with pytest.raises(NoImageError):
            suspects_grid([item] * N, issues_of())


# ------------------------------------------------------------------ TensorBoard


def read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0, "scalars": 0})
    events.Reload()
    return events


def written(events: Any) -> dict[str, list[str]]:
    """The tags of each kind that holds some."""
    return {kind: tags for kind, tags in events.Tags().items() if isinstance(tags, list) and tags}


def decoded(events: Any) -> Tensor:
    (event,) = events.Images(f"{PLACE}/suspects")
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert picture.format == "PNG"
    assert (event.height, event.width) == (picture.height, picture.width)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def test_what_is_written(tmp_path: Path) -> None:
    names = ["ant", "bee", "cow"]
    write_suspects(pictures(), issues_of(), tmp_path / "made" / "log", class_names=names, num_images=5)
    events = read(tmp_path / "made" / "log")
    assert written(events) == {
        "images": [f"{PLACE}/suspects"],
        "scalars": [f"{PLACE}/share_called_wrong"],
        "histograms": [f"{PLACE}/area_under_margin"],
        "distributions": [f"{PLACE}/area_under_margin"],  # tensorboard's other view of histograms
        "tensors": [f"{PLACE}/text_summary"],
    }
    assert torch.equal(decoded(events), suspects_grid(pictures(), issues_of(), 5, names))
    (scalar,) = events.Scalars(f"{PLACE}/share_called_wrong")
    assert scalar.value == pytest.approx(FLAGGED / N)
    (histogram,) = events.Histograms(f"{PLACE}/area_under_margin")
    values = issues_of().score.double()
    assert histogram.histogram_value.num == sum(histogram.histogram_value.bucket) == N
    assert (histogram.histogram_value.min, histogram.histogram_value.max) == (-3, 5)
    assert histogram.histogram_value.sum == pytest.approx(float(values.sum()))
    (text,) = events.Tensors(f"{PLACE}/text_summary")
    assert list(text.tensor_proto.string_val) == [b"How this came about."]


def test_it_shows_25_unless_told(tmp_path: Path) -> None:
    data = [coloured(index % N) for index in range(40)]
    issues = issues_of(torch.arange(40), num_examples=40)
    write_suspects(data, issues, tmp_path)
    assert torch.equal(decoded(read(tmp_path)), suspects_grid(data, issues, 25))
    assert not torch.equal(decoded(read(tmp_path)), suspects_grid(data, issues, 24))


def test_scores_that_are_all_equal(tmp_path: Path) -> None:
    values = torch.full((N,), 2.5)
    scores = Scores(values, higher_is_easier=True, target=TARGET, name="area_under_margin")
    issues = find_label_issues(scores, rule=0.25)
    assert shown(suspects_grid(pictures(), issues)) == issues.index.tolist()
    write_suspects(pictures(), issues, tmp_path)
    events = read(tmp_path)
    assert [event.value for event in events.Scalars(f"{PLACE}/share_called_wrong")] == [0.25]
    (histogram,) = events.Histograms(f"{PLACE}/area_under_margin")
    assert histogram.histogram_value.num == sum(histogram.histogram_value.bucket) == N
    assert histogram.histogram_value.min == histogram.histogram_value.max == 2.5
    assert torch.equal(decoded(events), suspects_grid(pictures(), issues))


@pytest.mark.parametrize("rule", ["mixture", "gap", 0.5])
def test_a_single_example(rule: Any, tmp_path: Path) -> None:
    scores = Scores(torch.tensor([-2.0]), higher_is_easier=True, target=torch.tensor([1]), name="margin")
    issues = find_label_issues(scores, rule=rule)
    data = [coloured(4)]
    assert shown(suspects_grid(data, issues)) == [4]
    write_suspects(data, issues, tmp_path)
    events = read(tmp_path)
    (histogram,) = events.Histograms(f"{PLACE}/margin")
    assert histogram.histogram_value.num == 1
    assert events.Scalars(f"{PLACE}/share_called_wrong")[0].value == float(issues.is_issue.sum())
    assert torch.equal(decoded(events), suspects_grid(data, issues))


def test_examples_that_were_never_seen_are_not_shown_as_suspects(tmp_path: Path) -> None:
    values = torch.linspace(-3, 5, N)
    values[[2, 7]] = math.nan
    scores = Scores(values, higher_is_easier=True, target=TARGET, name="area_under_margin")
    with pytest.warns(UserWarning, match="2 of 12 examples could not be judged"):
        issues = find_label_issues(scores, rule=0.1)
    assert shown(suspects_grid(pictures(), issues)) == [index for index in range(N) if index not in (2, 7)]
    write_suspects(pictures(), issues, tmp_path)
    (histogram,) = read(tmp_path).Histograms(f"{PLACE}/area_under_margin")
    assert histogram.histogram_value.num == N - 2


def test_no_finite_score_has_no_histogram(tmp_path: Path) -> None:
    write_suspects(pictures(), issues_of(score=torch.full((N,), -math.inf)), tmp_path)
    assert set(written(read(tmp_path))) == {"images", "scalars", "tensors"}


def test_no_global_random_stream_is_touched_and_the_same_is_drawn_twice(tmp_path: Path) -> None:
    before = streams()
    sheets = [suspects_grid(pictures(), issues_of()) for _ in range(2)]
    write_suspects(pictures(), issues_of(), tmp_path)
    assert streams() == before
    assert torch.equal(*sheets)


def test_another_data_set_of_that_length_is_noticed_by_its_labels() -> None:
    pictures = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    suspects_grid(TensorDataset(pictures, TARGET), issues_of(), 3)
    with pytest.warns(UserWarning, match=rf"^{N} of {N} labels that the data set lists are not those of the issues"):
        suspects_grid(TensorDataset(pictures, (TARGET + 1) % K), issues_of(), 3)


class Unsized:
    def __getitem__(self, index: int) -> Tensor:
        return coloured(index)


def test_a_data_set_without_a_length_is_read() -> None:
    assert suspects_grid(Unsized(), issues_of(), 3).shape[0] == 3
    with pytest.raises(ValueError, match=r"must be an integer of at least 1; got 2.5"):
        suspects_grid(Unsized(), issues_of(), 2.5)  # type: ignore[arg-type]
