"""Thumbnails and texts of examples for the report: as many as fit into a number of bytes, the important ones first."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import features
from torch import Tensor

from lightning_easiness.view.images import item_image, reduced_size, to_displayable, transforms

_LONGEST = 64  # pixels of a thumbnail's longer side
_LOSSLESS_BELOW = 24  # pixels: smaller images lose what little they show, and take few bytes anyway
_QUALITY = 72
_LONGEST_TEXT = 160
_TEXT_KEYS = ("text", "sentence", "question", "title", "content")
_MOST_VALUES = 8


@dataclass
class Pictures:
    """What examples look like.

    Attributes:
        rows: The examples that have a thumbnail, in the order of `ends`.
        ends: Where each thumbnail ends in the bytes.
        data: The bytes of all thumbnails.
        texts: Example -> what stands for a picture.
        unreadable: Example -> why it could not be read.
    """

    kind: str = "webp"
    rows: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    data: bytes = b""
    texts: dict[int, str] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the bytes of the thumbnails in base64."""
        return base64.b64encode(self.data).decode()


def read_pictures(dataset: Any, order: Iterable[int], limit: int) -> Pictures:
    """Read examples in this order until thumbnails and texts take `limit` bytes of the page; base64 adds a third.

    An example that cannot be read is noted, and costs nothing else.
    """
    found = Pictures("webp" if features.check("webp") else "png")
    parts, size, used = [], 0, 0
    for index in order:
        try:
            item = dataset[index]
            thumbnail = thumbnail_of(item, found.kind)
        except Exception as error:  # whatever the user's data set raises
            found.unreadable[index] = f"{type(error).__name__}: {error}"
            if len(found.unreadable) > 100 and not found.rows and not found.texts:
                break  # nothing can be read
            continue
        text = "" if thumbnail else text_of(item)
        used += len(thumbnail) * 4 // 3 + len(text.encode()) + 8
        if used > limit:
            break
        if thumbnail:
            size += len(thumbnail)
            parts.append(thumbnail)
            found.rows.append(index)
            found.ends.append(size)
        elif text:
            found.texts[index] = text
    found.data = b"".join(parts)
    return found


def thumbnail_of(item: Any, kind: str = "webp") -> bytes:
    """Encode the image in an item, reduced to at most 64 pixels a side; b"" where it holds none."""
    image = to_displayable(item_image(item))
    if image is None:
        return b""
    if max(image.shape[1:]) > _LONGEST:
        image = transforms().resize(image, reduced_size(image, _LONGEST), antialias=True)
    file = io.BytesIO()
    small = max(image.shape[1:]) < _LOSSLESS_BELOW
    options: dict[str, Any] = {"lossless": True} if small else {"quality": _QUALITY, "method": 2}
    transforms().to_pil_image(image).save(file, kind, **(options if kind == "webp" else {"optimize": True}))
    return file.getvalue()


def text_of(item: Any) -> str:
    """Describe an item that holds no image: its first text, or its first numbers; "" where there is neither."""
    found = _first_text(item)
    if found is not None:
        text = " ".join(found.split())
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    value = item_image(item)
    if isinstance(value, (Tensor, np.ndarray, int, float)):
        numbers = torch.as_tensor(value).flatten()
        shown = ", ".join(f"{number:.3g}" for number in numbers[:_MOST_VALUES].tolist())
        return f"{shown}, … ({len(numbers):,} values)" if len(numbers) > _MOST_VALUES else shown
    return ""


def important_first(lists: Sequence[NDArray[Any]]) -> Iterable[int]:
    """Take the examples of several lists by turns, each example once."""
    seen: set[int] = set()
    for place in range(max((len(each) for each in lists), default=0)):
        for each in lists:
            if place < len(each) and int(each[place]) not in seen:
                seen.add(int(each[place]))
                yield int(each[place])


def _first_text(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, (tuple, list)):
        return _first_text(item[0]) if item else None
    if isinstance(item, Mapping):
        keys = [key for key in _TEXT_KEYS if key in item] or list(item)
        return next((text for key in keys if isinstance(text := item[key], str)), None)
    return None
