"""Images and words laid out on a grid. Everything is measured before it is drawn, so that nothing is cut."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lightning_easiness.view.image_grid import ImageGrid
from lightning_easiness.view.images import reduced_size, transforms
from lightning_easiness.view.style import INK, MUTED

_EDGE, _BLANK = 0xD4, 0xF1
_TITLE_SIZE, _NOTE_SIZE, _TEXT_SIZE = 20, 14, 14
_MARGIN, _GAP, _BELOW_IMAGE = 20, 16, 5
_MOST_HEAD_WIDTH = 160
_FINE = 4  # text is drawn so many times larger and reduced: at its own size letters sit on whole pixels, unevenly

# Pillow's own font is the same everywhere but holds little beyond ASCII; other words need a font of the system.
_BUNDLED = frozenset(map(chr, range(32, 127))) | set("±·…")
_SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass(frozen=True)
class Cell:
    """An image, uint8 (1 or 3, H, W), with words below it; a blank box where it is None."""

    image: Tensor | None
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows of cells, a title whose first line is large, words left of each row, and words above each column."""

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    row_heads: Sequence[str] = ()
    column_heads: Sequence[str] = ()
    thumbnail: int = 112  # about the longer side of an image, in pixels
    title_width: int = 480  # the title is at least given so many pixels, and makes a narrow grid so wide

    def draw(self) -> ImageGrid:
        """Draw the grid, uint8 (3, H, W)."""
        return _Layout(self).draw()


class _Layout:
    """The places of everything on a grid, in pixels."""

    def __init__(self, grid: Grid) -> None:
        self.images = [[_thumbnail(cell.image, grid.thumbnail) for cell in row] for row in grid.rows]
        shapes = [list(image.shape[1:]) for row in self.images for image in row if image is not None]
        self.box_height, self.box_width = (max(sides) for sides in zip(*shapes or [[grid.thumbnail] * 2], strict=True))
        cell_width = max(self.box_width, grid.thumbnail)
        self.captions = [[Words(cell.caption, _TEXT_SIZE, cell_width) for cell in row] for row in grid.rows]
        self.column_heads = [Words(head, _TEXT_SIZE, cell_width) for head in grid.column_heads]
        self.row_heads = [Words(head, _TEXT_SIZE, _MOST_HEAD_WIDTH) for head in grid.row_heads]
        left = _MARGIN + max((head.width + _GAP for head in self.row_heads), default=0)
        self.lefts = [left + i * (cell_width + _GAP) for i in range(max(map(len, grid.rows), default=0))]
        right = self.lefts[-1] + cell_width if self.lefts else left
        first, _, rest = grid.title.partition("\n")
        title_width = max(right - _MARGIN, grid.title_width)
        self.title, self.notes = Words(first, _TITLE_SIZE, title_width), Words(rest, _NOTE_SIZE, title_width)
        self.width = max(right, _MARGIN + self.title.width, _MARGIN + self.notes.width) + _MARGIN
        self._set_tops()

    def _set_tops(self) -> None:
        title_height = self.title.height + self.notes.height
        self.heads_top = _MARGIN + title_height + (_GAP if title_height else 0)
        top = self.heads_top + max((head.height + _BELOW_IMAGE for head in self.column_heads), default=0)
        self.tops = []
        for row in self.captions:
            self.tops.append(top)
            captions = max((caption.height for caption in row), default=0)
            top += self.box_height + (_BELOW_IMAGE + captions if captions else 0) + _GAP
        self.height = top - _GAP + _MARGIN

    def draw(self) -> ImageGrid:
        page = torch.full((3, self.height, self.width), 255, dtype=torch.uint8)
        for images, top in zip(self.images, self.tops, strict=True):
            for image, left in zip(images, self.lefts, strict=False):
                self._draw_box(page, image, left, top)
        drawn = transforms().to_pil_image(page)
        canvas = ImageDraw.Draw(drawn)
        for words, left, top, colour in self._placed_words():
            words.draw(canvas, left, top, colour)
        pixels: Tensor = transforms().pil_to_tensor(drawn)
        return pixels.as_subclass(ImageGrid)

    def _placed_words(self) -> Iterator[tuple[Words, int, int, str]]:
        yield self.title, _MARGIN, _MARGIN, INK
        yield self.notes, _MARGIN, _MARGIN + self.title.height, MUTED
        for head, left in zip(self.column_heads, self.lefts, strict=False):
            yield head, left, self.heads_top, INK
        for head, top in zip(self.row_heads, self.tops, strict=False):
            yield head, _MARGIN, top + max(0, (self.box_height - head.height) // 2), INK
        for captions, top in zip(self.captions, self.tops, strict=True):
            for caption, left in zip(captions, self.lefts, strict=False):
                yield caption, left, top + self.box_height + _BELOW_IMAGE, INK

    def _draw_box(self, page: Tensor, image: Tensor | None, left: int, top: int) -> None:
        height, width = (self.box_height, self.box_width) if image is None else image.shape[1:]
        top += self.box_height - height  # stands on its caption
        # The frame is outside the image; without it a white background could not be distinguished from the paper.
        page[:, top - 1 : top + height + 1, left - 1 : left + width + 1] = _EDGE
        page[:, top : top + height, left : left + width] = _BLANK if image is None else image


def _thumbnail(image: Tensor | None, size: int) -> Tensor | None:
    """Enlarge by a whole factor, so that pixels stay square and equal, or reduce to `size`, to (3, H, W)."""
    if image is None:
        return None
    factor = int(size / max(image.shape[1:]) + 0.5)
    if size >= max(image.shape[1:]):
        image = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    else:
        image = transforms().resize(
            image, reduced_size(image, size), transforms().InterpolationMode.BICUBIC, antialias=True
        )
    return image.expand(3, -1, -1)


class Words:
    """A text broken into lines of at most `most_width` pixels, and their measures."""

    def __init__(self, text: str, size: int, most_width: int) -> None:
        self.font = _font(_FINE * size, _BUNDLED.issuperset(text.replace("\n", "")))
        self.lines = [line for part in text.split("\n") for line in self._break(part, most_width)] if text else []
        self.leading = round(1.3 * size)
        self.width = max((self._measure(line) for line in self.lines), default=0)
        self.height = self.leading * len(self.lines)

    def draw(self, canvas: ImageDraw.ImageDraw, left: int, top: int, colour: str) -> None:
        """Draw the lines with their upper left corner at a place."""
        if not self.lines:
            return
        fine = Image.new("L", (_FINE * (self.width + 2), _FINE * self.height))
        pen = ImageDraw.Draw(fine)
        for i, line in enumerate(self.lines):
            pen.text((0, _FINE * i * self.leading), line, fill=255, font=self.font)
        canvas.bitmap((left, top), fine.reduce(_FINE), fill=colour)

    def _measure(self, line: str) -> int:
        return math.ceil(self.font.getbbox(line)[2] / _FINE)

    def _break(self, line: str, most_width: int) -> list[str]:
        """Break at spaces, and within a word where it alone is too long."""
        lines = []
        while len(line) > 1 and self._measure(line) > most_width:
            fitting = next((n for n in range(len(line) - 1, 1, -1) if self._measure(line[:n]) <= most_width), 1)
            space = line.rfind(" ", 1, fitting + 1)
            end = space if space > 0 else fitting
            lines.append(line[:end].rstrip())
            line = line[end:].lstrip()
        return [*lines, line]


@functools.lru_cache
def _font(size: int, bundled: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in () if bundled else _SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
