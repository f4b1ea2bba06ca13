"""The data map as an image of a card's size, drawn from counts: it takes milliseconds for a million examples."""

from __future__ import annotations

import torch
from PIL import ImageColor, ImageDraw
from torch import Tensor

from lightning_easiness._utils.blocks import blocks
from lightning_easiness.view.images import transforms
from lightning_easiness.view.layout import Words
from lightning_easiness.view.style import BETWEEN, EASY, HARD, INK, MUTED

_WIDTH, _HEIGHT = 318, 240  # of the map, in pixels, one for each count
_LEFT, _TOP, _RIGHT, _BELOW = 28, 54, 14, 62
_MOST_VARIABILITY = 0.5
_DOTS = ((3_000, 5), (30_000, 3))  # up to so many examples, a dot is so many pixels wide


def data_map_image(confidence: Tensor, variability: Tensor, correctness: Tensor, title: str = "") -> Tensor:
    """Draw the data map: confidence upwards, variability to the right, coloured by correctness.

    Args:
        confidence: Mean probability of the label, (N,), NaN where unknown: such examples are left out.
        variability: Its standard deviation over checkpoints, (N,).
        correctness: Fraction of the checkpoints with a right prediction, (N,).
        title: The first line is large, the following lines are smaller.

    Returns:
        uint8 (3, H, W).

    Example:
        >>> data_map_image(torch.rand(50), torch.rand(50) / 2, torch.rand(50)).shape
        torch.Size([3, 356, 360])
    """
    page = torch.full((3, _TOP + _HEIGHT + _BELOW, _LEFT + _WIDTH + _RIGHT), 255, dtype=torch.uint8)
    inside = page[:, _TOP : _TOP + _HEIGHT, _LEFT : _LEFT + _WIDTH]
    inside.copy_(_points(confidence, variability, correctness))
    drawn = transforms().to_pil_image(page)
    _draw_words(ImageDraw.Draw(drawn), title)
    result: Tensor = transforms().pil_to_tensor(drawn)
    return result


def _points(confidence: Tensor, variability: Tensor, correctness: Tensor) -> Tensor:
    """Draw the points, uint8 (3, H, W): the more of them on a pixel, the less of the paper shines through."""
    count, right = (torch.zeros(_HEIGHT * _WIDTH, dtype=torch.float64) for _ in range(2))
    for up, aside, share in blocks(confidence, variability, correctness):
        known = (up + aside + share).isfinite()
        up, aside, share = (part[known].double() for part in (up, aside, share))
        x = (aside / _MOST_VARIABILITY * _WIDTH).long().clamp(0, _WIDTH - 1)
        y = ((1 - up) * _HEIGHT).long().clamp(0, _HEIGHT - 1)
        pixel = y * _WIDTH + x
        count += torch.bincount(pixel, minlength=len(count))
        right.index_add_(0, pixel, share)
    num_points = int(count.sum())
    count, right = (_widened(values.view(_HEIGHT, _WIDTH), num_points) for values in (count, right))
    colour = _colour(right / count.clamp(min=1))
    most = count.max().clamp(min=1)
    cover = torch.where(count > 0, 0.45 + 0.55 * count.log1p() / most.log1p(), 0.0)
    return (255 + (colour - 255) * cover).round().to(torch.uint8)


def _widened(values: Tensor, num_points: int) -> Tensor:
    """Let each point cover a square of pixels, if there are few."""
    side = next((side for most, side in _DOTS if num_points <= most), 1)
    kernel = torch.ones(1, 1, side, side, dtype=values.dtype)
    return torch.nn.functional.conv2d(values[None, None], kernel, padding=side // 2)[0, 0]


def _colour(correctness: Tensor) -> Tensor:
    """Return colours (3, ...) between those of hard, 0, and easy, 1, through grey."""
    low, middle, high = (torch.tensor(ImageColor.getrgb(colour)).double() for colour in (HARD, BETWEEN, EASY))
    share = correctness.unsqueeze(-1)
    mixed = torch.where(share < 0.5, low + (middle - low) * 2 * share, middle + (high - middle) * (2 * share - 1))
    return mixed.movedim(-1, 0)


def _draw_words(canvas: ImageDraw.ImageDraw, title: str) -> None:
    right, bottom = _LEFT + _WIDTH, _TOP + _HEIGHT
    canvas.rectangle((_LEFT - 1, _TOP - 1, right, bottom), outline="#d4d4d4")
    first, _, rest = title.partition("\n")
    for text, size, x, y, colour in (
        (first, 16, _LEFT, 6, INK),
        (rest, 12, _LEFT, 29, MUTED),
        ("1", 13, _LEFT - 14, _TOP - 4, MUTED),
        ("0", 13, _LEFT - 14, bottom - 14, MUTED),
        ("0", 13, _LEFT, bottom + 3, MUTED),
        ("0.5", 13, right - 20, bottom + 3, MUTED),
        ("right: variability of the probability", 12, _LEFT + 30, bottom + 4, MUTED),
        ("up: confidence, the mean probability of the label", 12, _LEFT, bottom + 20, MUTED),
        ("blue: predicted right at most checkpoints; orange: wrong", 12, _LEFT, bottom + 36, MUTED),
        ("easy", 14, right - 40, _TOP + 4, INK),
        ("ambiguous", 14, right - 80, (_TOP + bottom) // 2 - 9, INK),
        ("hard", 14, right - 40, bottom - 24, INK),
    ):
        Words(text, size, _WIDTH + _RIGHT).draw(canvas, x, y, colour)
