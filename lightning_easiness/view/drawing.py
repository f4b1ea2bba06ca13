"""Pictures and words laid out on a sheet. Everything is measured before it is drawn, so that nothing is cut."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

_DARK, _GREY, _EDGE, _PAPER, _BLANK = "#1a1a1a", "#5f5f5f", "#d4d4d4", "#ffffff", "#f1f1f1"
_TITLE_SIZE, _NOTE_SIZE, _TEXT_SIZE = 20, 14, 14
_MARGIN, _GAP, _BELOW_PICTURE = 20, 16, 5
_LEAST_TITLE_WIDTH = 480
_MOST_HEAD_WIDTH = 160
_FINE = 4  # text is drawn so many times larger and reduced: at its own size letters sit on whole pixels, unevenly

# Pillow's own font is the same everywhere but holds little beyond ASCII; other words need a font of the system.
_BUNDLED = frozenset(map(chr, range(32, 127))) | set("±·…")
_SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")


@dataclass(frozen=True)
class Cell:
    """One place on a sheet.

    Attributes:
        picture: uint8 (1 or 3, H, W); None leaves a blank box.
        caption: words below it; lines are parted by a line feed, long ones are broken.
    """

    picture: Tensor | None
    caption: str = ""


@dataclass(frozen=True)
class Sheet:
    """Rows of cells and the words around them.

    Attributes:
        rows: row by row; rows may differ in length.
        title: the first line large, lines after it smaller.
        row_heads: words left of each row.
        column_heads: words above each column.
        thumbnail: length of a picture's longer side in pixels, about: small pictures are enlarged by a whole factor,
            so that their pixels stay square and equal; large ones are reduced to it.
    """

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    row_heads: Sequence[str] = ()
    column_heads: Sequence[str] = ()
    thumbnail: int = 112

    def draw(self) -> Tensor:
        """Draws the sheet.

        Returns:
            uint8 (3, H, W).

        Example:
            >>> import torch
            >>> cell = Cell(torch.zeros(1, 8, 8, dtype=torch.uint8), "#0")
            >>> Sheet([[cell]], thumbnail=64).draw().shape[0]
            3
        """
        return _Layout(self).draw()


class _Layout:
    """The places of everything on a sheet, in pixels."""

    def __init__(self, sheet: Sheet) -> None:
        self.pictures = [[_thumbnail(cell.picture, sheet.thumbnail) for cell in row] for row in sheet.rows]
        shown = [picture for row in self.pictures for picture in row if picture is not None]
        self.box_width = max((picture.width for picture in shown), default=sheet.thumbnail)
        self.box_height = max((picture.height for picture in shown), default=sheet.thumbnail)
        cell_width = max(self.box_width, sheet.thumbnail)
        self.captions = [[_Words(cell.caption, _TEXT_SIZE, cell_width) for cell in row] for row in sheet.rows]
        self.column_heads = [_Words(head, _TEXT_SIZE, cell_width) for head in sheet.column_heads]
        self.row_heads = [_Words(head, _TEXT_SIZE, _MOST_HEAD_WIDTH) for head in sheet.row_heads]
        left = _MARGIN + max((head.width + _GAP for head in self.row_heads), default=0)
        self.lefts = [left + i * (cell_width + _GAP) for i in range(max(map(len, sheet.rows), default=0))]
        right = self.lefts[-1] + cell_width if self.lefts else left
        self._set_title(sheet.title, max(right - _MARGIN, _LEAST_TITLE_WIDTH))
        self.width = max(right, *(_MARGIN + words.width for words in self.title)) + _MARGIN
        self._set_tops()

    def _set_title(self, title: str, width: int) -> None:
        first, _, rest = title.partition("\n")
        self.title = [_Words(first, _TITLE_SIZE, width), _Words(rest, _NOTE_SIZE, width)]

    def _set_tops(self) -> None:
        title_height = sum(words.height for words in self.title)
        self.heads_top = _MARGIN + title_height + (_GAP if title_height else 0)
        top = self.heads_top + max((head.height + _BELOW_PICTURE for head in self.column_heads), default=0)
        self.tops = []
        for row in self.captions:
            self.tops.append(top)
            captions = max((caption.height for caption in row), default=0)
            top += self.box_height + (_BELOW_PICTURE + captions if captions else 0) + _GAP
        self.height = top - _GAP + _MARGIN

    def draw(self) -> Tensor:
        page = Image.new("RGB", (self.width, self.height), _PAPER)
        canvas = ImageDraw.Draw(page)
        self._draw_words(canvas)
        for pictures, captions, top in zip(self.pictures, self.captions, self.tops, strict=True):
            for picture, caption, left in zip(pictures, captions, self.lefts, strict=False):
                self._draw_box(page, canvas, picture, left, top)
                caption.draw(canvas, left, top + self.box_height + _BELOW_PICTURE, _DARK)
        drawn: Tensor = pil_to_tensor(page)
        return drawn

    def _draw_words(self, canvas: ImageDraw.ImageDraw) -> None:
        title, notes = self.title
        title.draw(canvas, _MARGIN, _MARGIN, _DARK)
        notes.draw(canvas, _MARGIN, _MARGIN + title.height, _GREY)
        for head, left in zip(self.column_heads, self.lefts, strict=False):
            head.draw(canvas, left, self.heads_top, _DARK)
        for head, top in zip(self.row_heads, self.tops, strict=False):
            head.draw(canvas, _MARGIN, top + max(0, (self.box_height - head.height) // 2), _DARK)

    def _draw_box(
        self, page: Image.Image, canvas: ImageDraw.ImageDraw, picture: Image.Image | None, left: int, top: int
    ) -> None:
        if picture is None:
            right, bottom = left + self.box_width - 1, top + self.box_height - 1
            canvas.rectangle((left, top, right, bottom), fill=_BLANK, outline=_EDGE)
            return
        top += self.box_height - picture.height  # stands on its caption
        page.paste(picture, (left, top))
        # The frame is outside the picture; without it a white background could not be told from the paper.
        canvas.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=_EDGE)


def _thumbnail(picture: Tensor | None, size: int) -> Image.Image | None:
    if picture is None:
        return None
    image: Image.Image = to_pil_image(picture).convert("RGB")
    scale = size / max(image.size)
    if scale >= 1:
        factor = int(scale + 0.5)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    shape = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(shape, Image.Resampling.LANCZOS)


class _Words:
    """A text broken into lines of at most `most_width` pixels, and their measures."""

    def __init__(self, text: str, size: int, most_width: int) -> None:
        self.font = _font(_FINE * size, _BUNDLED.issuperset(text.replace("\n", "")))
        self.lines = [line for part in text.split("\n") for line in self._break(part, most_width)] if text else []
        self.leading = round(1.3 * size)
        self.width = max((self._measure(line) for line in self.lines), default=0)
        self.height = self.leading * len(self.lines)

    def draw(self, canvas: ImageDraw.ImageDraw, left: int, top: int, colour: str) -> None:
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
        """Breaks at spaces, and within a word where it alone is too long."""
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
