"""What a notebook shows: IPython's own formatters are asked, and their HTML is parsed."""

from __future__ import annotations

import copy
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision.transforms.functional import pil_to_tensor

from lightning_easiness import (
    EasinessRecord,
    Hardest,
    Scores,
    find_label_issues,
    image_grid,
    scores_grid,
    suspects_grid,
)
from tests.made_runs import write_run
from tests.view.helpers import COLOURS

formatters = pytest.importorskip("IPython.core.formatters")
NASTY = ["<script>alert(1)</script>", 'a "b" & <b>c</b>', "日本"]


class Cells(HTMLParser):
    """The rows of the table and the text beside it; raises where tags are not closed in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.title = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.title += data


def shown(value: object) -> dict[str, Any]:
    """What a notebook stores of a value, by its kind."""
    data, _ = formatters.DisplayFormatter().format(value)
    return dict(data)


def cells(value: object) -> Cells:
    return Cells(shown(value)["text/html"])


def scores_of(count: int, **options: Any) -> Scores:
    values = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return Scores(values, higher_is_easier=False, name="mean_loss", target=torch.arange(count) % 3, **options)


def test_scores_show_the_hardest_and_the_easiest_with_the_names_of_their_classes() -> None:
    scores = scores_of(1000, prediction=torch.arange(1000) % 3, class_names=NASTY)
    scores.values[7] = torch.nan
    html = cells(scores)
    head, *rows = html.rows
    assert head == ["example", "score", "spread", "target", "predicted", "rank"]
    assert html.title == f"{scores!r}, hardest first"
    assert rows.pop(5) == ["… 989 more …"], "of the 999 that have a score"
    expected = [*scores.hardest(1.0)[:5].tolist(), *scores.hardest(1.0)[-5:].tolist()]
    assert [int(row[0]) for row in rows] == expected
    for index, row in zip(expected, rows, strict=True):
        assert row[1:5] == [f"{float(scores.values[index]):.4g}", "-", NASTY[index % 3], NASTY[index % 3]]


@pytest.mark.parametrize("name", NASTY)
def test_text_stays_text(name: str) -> None:
    scores = scores_of(4, class_names=[name] * 3)
    scores.name = name
    html = cells(scores)
    assert name in html.title
    assert [row[3] for row in html.rows[1:]] == [name] * 4
    assert html.tags <= {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


def test_few_scores_are_shown_whole_and_none_are_no_error() -> None:
    assert len(cells(scores_of(20)).rows) == 21
    assert len(cells(scores_of(21)).rows) == 12
    scores = scores_of(2)
    scores.values[:] = torch.nan
    assert len(cells(scores).rows) == 1


def test_issues_show_the_rows_of_their_table() -> None:
    margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
    target = torch.arange(72) % 3
    scores = Scores(margins, higher_is_easier=True, target=target, name="area_under_margin", class_names=NASTY)
    issues = find_label_issues(scores)
    head, *rows = cells(issues).rows
    assert head[:2] == ["index", "given"]
    assert rows.pop(5) == ["… 62 more …"]
    table = issues.to_pandas()
    assert [int(row[0]) for row in rows] == [*table.index[:5], *table.index[-5:]]
    assert [row[1] for row in rows] == [*table["given_name"][:5], *table["given_name"][-5:]]
    assert cells(issues).title == repr(issues)
    few = cells(issues.head(5)).rows
    assert len(few) == 6, "not one line"


def test_a_record_shows_its_runs_and_their_agreement(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, seed, steps=(0, 120, 240)[: seed + 1], run="<i>2" if seed == 2 else None)
    with pytest.warns(UserWarning, match="checkpoints that some runs lack"):
        record = EasinessRecord.load(tmp_path)
    html = cells(record)
    assert html.title == repr(record)
    assert html.rows[0] == ["run", "seed", "complete", "checkpoints", "last epoch", "last step"]
    assert html.rows[1:] == [
        ["<i>2", "2", "yes", "3", "2", "240"],
        ["seed-0", "0", "yes", "1", "0", "0"],
        ["seed-1", "1", "yes", "2", "1", "120"],
    ]
    agreement = record.agreement()
    html = cells(agreement)
    lines = [row[0].rjust(6) + "  " + row[1].rjust(9) + "  " + row[2] for row in html.rows[1:]]
    assert "\n".join([html.title, "  runs  agreement", *lines]) == str(agreement)


def test_grids_are_shown_as_the_pixels_they_hold() -> None:
    scores = Scores(torch.rand(72), higher_is_easier=True, target=torch.arange(72) % 3, name="margin")
    data = TensorDataset(torch.rand(72, 1, 8, 8), scores.target)
    for grid in (scores_grid(data, scores, 4), suspects_grid(data, find_label_issues(scores, Hardest(0.1)), 4)):
        data_of_grid = shown(grid)
        image = Image.open(io.BytesIO(data_of_grid["image/png"]))
        assert torch.equal(pil_to_tensor(image), grid.as_subclass(torch.Tensor))
        assert data_of_grid["text/plain"] == f"ImageGrid({image.width} x {image.height} pixels)"


def test_a_grid_is_a_tensor_as_before(tmp_path: Path) -> None:
    grid = image_grid([COLOURS], [0])
    assert isinstance(grid, torch.Tensor)
    assert (grid.dtype, grid.shape[0]) == (torch.uint8, 3)
    for plain in (
        grid[0],
        grid.float(),
        grid.clone(),
        copy.copy(grid).clone(),
        copy.deepcopy(grid),
        torch.stack([grid]),
    ):
        assert type(plain) is torch.Tensor
    torch.save(grid, tmp_path / "grid.pt")
    loaded = torch.load(tmp_path / "grid.pt")
    assert type(loaded) is torch.Tensor
    assert torch.equal(loaded, grid)
    assert "255" in repr(grid[:, :2, :2]), "what is computed from it shows its numbers"


def test_figures_are_shown_once_and_sharp(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from lightning_easiness import draw_histogram

    figure = draw_histogram(scores_of(50))
    data, about = formatters.DisplayFormatter().format(figure)
    image = Image.open(io.BytesIO(data["image/png"]))
    assert about["image/png"]["width"] * 2 == image.width
    assert "text/html" not in data
    figure.savefig(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")
