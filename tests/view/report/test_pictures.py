"""Thumbnails and texts: what is in them, in which order, and how many fit."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_easiness.view.report.pictures import important_first, read_pictures, text_of, thumbnail_of


class Broken:
    """Some items cannot be read."""

    def __getitem__(self, index: int) -> Any:
        if index % 3 == 0:
            raise OSError(f"no file {index}")
        return torch.full((8, 8), index / 10)


def opened(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_a_small_image_loses_nothing(kind: str) -> None:
    image = torch.randint(0, 256, (8, 8), dtype=torch.uint8)
    assert (opened(thumbnail_of((image, 3), kind)) == image.numpy()).all()


def test_a_large_image_is_reduced_to_64_pixels() -> None:
    assert opened(thumbnail_of(torch.rand(3, 100, 200))).shape == (32, 64)


def test_pictures_end_where_the_next_begins_and_are_in_the_order_that_was_asked() -> None:
    images = torch.randint(0, 256, (5, 8, 8), dtype=torch.uint8)
    found = read_pictures(images, [4, 0, 2], 10**6)
    assert found.rows == [4, 0, 2]
    for place, row in enumerate(found.rows):
        part = found.data[found.ends[place - 1] if place else 0 : found.ends[place]]
        assert (opened(part) == images[row].numpy()).all()


def test_pictures_stop_at_the_limit() -> None:
    images = torch.rand(200, 3, 32, 32)
    found = read_pictures(images, range(200), 20_000)
    assert 0 < len(found.rows) < 200
    assert 18_000 < len(found.text()) <= 20_000


def test_what_cannot_be_read_is_noted_and_the_rest_is_shown() -> None:
    found = read_pictures(Broken(), range(6), 10**6)
    assert found.rows == [1, 2, 4, 5]
    assert found.unreadable == {0: "OSError: no file 0", 3: "OSError: no file 3"}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (("a  fine\nday", 1), "a fine day"),
        ({"id": 7, "text": "hello", "label": 0}, "hello"),
        ({"name": "first text"}, "first text"),
        (torch.tensor([0.5, 1.25]), "0.5, 1.25"),
        ((torch.arange(20), 1), "0, 1, 2, 3, 4, 5, 6, 7, … (20 values)"),
        ("x" * 500, "x" * 159 + "…"),
        (None, ""),
        ((), ""),
    ],
)
def test_an_item_without_an_image_is_shown_as_text(item: Any, text: str) -> None:
    assert thumbnail_of(item) == b""
    assert text_of(item) == text


def test_lists_take_turns_and_each_example_comes_once() -> None:
    assert list(important_first([np.array([1, 2, 3]), np.array([2, 9]), np.array([], dtype=int)])) == [1, 2, 9, 3]
