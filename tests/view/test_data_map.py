"""The data map as an image: where points are, which colour they have, at any number of examples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_easiness.view.data_map import _HEIGHT, _LEFT, _TOP, _WIDTH, data_map_image


def inside(image: Tensor) -> Tensor:
    return image[:, _TOP + 1 : _TOP + _HEIGHT - 1, _LEFT + 1 : _LEFT + _WIDTH - 1]


def coloured(image: Tensor) -> tuple[Tensor, Tensor]:
    """The places of blue and of orange pixels, as (rows, columns), in fractions from the lower left."""
    red, blue = inside(image)[0].int(), inside(image)[2].int()
    size = torch.tensor([_HEIGHT, _WIDTH])
    found = []
    for mask in (blue > red + 60, red > blue + 60):
        places = mask.nonzero().double().mean(0) / size
        found.append(torch.tensor([1 - places[0], places[1]]))
    return found[0], found[1]


def test_points_are_where_their_numbers_say_in_the_colour_of_their_correctness() -> None:
    for repeats in (1, 20_000):  # with dots that cover several pixels, and with one pixel each
        confidence = torch.tensor([0.9, 0.2]).repeat(repeats)
        variability, correctness = torch.tensor([0.1, 0.35]).repeat(repeats), torch.tensor([1.0, 0.0]).repeat(repeats)
        right, wrong = coloured(data_map_image(confidence, variability, correctness))
        torch.testing.assert_close(right, torch.tensor([0.9, 0.2], dtype=torch.double), atol=0.02, rtol=0)
        torch.testing.assert_close(wrong, torch.tensor([0.2, 0.7], dtype=torch.double), atol=0.02, rtol=0)


def test_the_ends_of_the_ranges_are_inside() -> None:
    ends = torch.tensor([0.0, 1.0])
    image = data_map_image(ends, ends / 2, ends, "Title\nnotes")
    assert (image[:, _TOP : _TOP + 3, _LEFT + _WIDTH - 3 : _LEFT + _WIDTH] < 255).any()
    assert (image[:, _TOP + _HEIGHT - 3 : _TOP + _HEIGHT, _LEFT : _LEFT + 3] < 255).any()


def test_unknown_examples_are_left_out() -> None:
    known, unknown = torch.tensor([0.5]), torch.tensor([0.5, torch.nan])
    assert data_map_image(known, known, known).equal(data_map_image(unknown, known.repeat(2), known.repeat(2)))
    nothing = torch.full((3,), torch.nan)
    assert data_map_image(nothing, nothing, nothing).shape == data_map_image(known, known, known).shape


def test_parts_of_any_length_give_the_image_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = torch.rand(3, 5000)
    columns[0, ::7] = torch.nan
    whole = data_map_image(*columns)
    monkeypatch.setattr("lightning_easiness._utils.blocks.LENGTH", 11)
    assert data_map_image(*columns).equal(whole)


def test_words_are_never_cut() -> None:
    title = "Data map: 100.0 % of 1,281,167 are likely\n" + "train-online, " * 3
    ink = (data_map_image(*torch.rand(3, 9), title) < 255).any(0)
    for rim in (ink[:3], ink[-3:], ink[:, :3], ink[:, -3:]):
        assert not rim.any()
