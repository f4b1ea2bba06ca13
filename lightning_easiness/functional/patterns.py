"""Remove one pattern from images: colour, structure or high frequencies.

From section 6 of "Empirical Study of Easy and Hard Examples in CNN Training" (2018): train on regular images, then
measure easiness on altered ones, to find out which patterns make examples easy. All functions keep the shape and dtype
of the images, so that the same model accepts them; they compute in float32 or higher.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import draws_of_examples


def interpolate_grey(images: Tensor, alpha: float) -> Tensor:
    """Return colour images blended with grey: alpha in [0, 1], 1 leaves the image unchanged, 0 is grey.

    alpha X + (1 - alpha) grey, grey the mean of R, G and B.

    Args:
        images: Floating point, shape (N, 3, H, W), any value range.
        alpha: Fraction of colour to keep.

    Example:
        >>> interpolate_grey(torch.tensor([3.0, 0.0, 6.0]).reshape(1, 3, 1, 1), alpha=0.5).flatten()
        tensor([3.0000, 1.5000, 4.5000])
    """
    check.images("interpolate_grey", images, channels="3")
    if not 0 <= alpha <= 1:
        check.refuse("interpolate_grey", "alpha", "be in [0, 1]", alpha)
    wide = check.floating("interpolate_grey", "images", images)
    return torch.lerp(wide.mean(dim=1, keepdim=True), wide, alpha).to(images.dtype)


def shuffle_tiles(images: Tensor, tile_size: float, generator: torch.Generator | None = None) -> Tensor:
    """Return images cut into tiles in random order: tile_size in (0, 1], 1 changes nothing.

    Each image has its own draw, which all its channels share. 1 / `tile_size`, rounded, is the number of tiles per
    side; a tile's height and width are rounded down to whole pixels, at least one. If the tiles do not fill the image,
    they start at the top left, and the remainder at the bottom and the right stays in place.

    Args:
        images: Any dtype, shape (N, C, H, W).
        tile_size: Side of a tile, as a fraction of the side of the image: 0.5 makes 2 x 2 tiles, 0.33 makes 3 x 3.
        generator: Source of the draw, on any device. By default there is one fixed draw for each example: in the
            `patterns` of EasinessCallback by its index in the data set, so that it is alike in each pass, for any batch
            size and number of processes; elsewhere by its position in `images`.

    Example:
        >>> shuffle_tiles(torch.arange(4.0).reshape(1, 1, 2, 2), 0.5, torch.Generator().manual_seed(0)).sum()
        tensor(6.)
    """
    check.images("shuffle_tiles", images)
    check.fraction("shuffle_tiles", tile_size, "tile_size", "half the side is 0.5")
    if images.numel() == 0:
        return images.clone()
    # By the rounded number of tiles per side: 0.33 means three of them, although it is less than a third.
    tile_height, tile_width = (max(1, side // math.floor(1 / tile_size + 0.5)) for side in images.shape[2:])
    rows, columns = images.shape[2] // tile_height, images.shape[3] // tile_width
    if generator is None:
        draw = draws_of_examples(len(images), rows * columns, images.device)
    else:
        draw = torch.rand(len(images), rows * columns, generator=generator, device=generator.device)
    shuffled = images.clone()
    tiled = shuffled[:, :, : rows * tile_height, : columns * tile_width]
    tiled.copy_(_permute_tiles(tiled, rows, columns, draw.argsort(dim=1).to(images.device)))
    return shuffled


def _permute_tiles(images: Tensor, rows: int, columns: int, order: Tensor) -> Tensor:
    """Put tile order[n, i] of image n at position i; the tiles fill the images."""
    n, channels, height, width = images.shape
    tile = (height // rows, width // columns)
    tiles = images.reshape(n, channels, rows, tile[0], columns, tile[1]).permute(0, 2, 4, 1, 3, 5)
    tiles = tiles.reshape(n, rows * columns, channels, *tile)
    tiles = tiles[torch.arange(n, device=images.device)[:, None], order]
    tiles = tiles.reshape(n, rows, columns, channels, *tile)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def radial_mask(images: Tensor, radius: float) -> Tensor:
    """Return images without high frequencies: a larger radius keeps more; 0 keeps only each channel's mean.

    Keeps frequencies within `radius` of the zero frequency in the centred Fourier domain (Jo and Bengio, 2017). The
    centre is the zero frequency, at index floor(s / 2) of a side s; s / 2 itself would be half a step off where s is
    odd, and the mask would not be symmetric.

    Args:
        images: Floating point, shape (N, C, H, W), any value range; the result may exceed that range.
        radius: In steps of the frequency index (periods per image side); from hypot(H / 2, W / 2) on it keeps all.

    Example:
        >>> radial_mask(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), radius=0).flatten()
        tensor([3., 3., 3., 3.])
    """
    check.images("radial_mask", images)
    if not radius >= 0:
        check.refuse("radial_mask", "radius", "be at least 0", radius)
    wide = check.floating("radial_mask", "images", images)
    if images.numel() == 0:
        return images.clone()
    height, width = images.shape[2:]
    spectrum = torch.fft.rfft2(wide) * _within(radius, height, width, wide.device)
    masked: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return masked.to(images.dtype)


def _within(radius: float, height: int, width: int, device: torch.device) -> Tensor:
    """Return a mask over the half plane of rfft2, which represents the other half, too."""
    y = torch.arange(height, device=device)
    y = torch.minimum(y, height - y)
    x = torch.arange(width // 2 + 1, device=device)
    within: Tensor = (y.square()[:, None] + x.square()).float().sqrt() <= radius
    return within


def pattern_series(
    name: str, pattern: Callable[..., Tensor], strengths: Iterable[float]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return a pattern at several strengths by name, for `EasinessCallback(patterns=...)`: "grey-0.25", "grey-0.5", ...

    `sweep_pattern` reads them back from the record, as for Figure 2 of the 2018 paper.

    Args:
        name: Name of the pattern, without a hyphen.
        pattern: A function of the images and a strength, its second argument, as `interpolate_grey`.
        strengths: Numbers, each once.

    Example:
        >>> greys = pattern_series("grey", interpolate_grey, (0, 0.5, 1))
        >>> list(greys), greys["grey-0"](torch.rand(1, 3, 2, 2)).shape
        (['grey-0', 'grey-0.5', 'grey-1'], torch.Size([1, 3, 2, 2]))
    """
    numbers = list(strengths)
    if not name or "-" in name:
        check.refuse("pattern_series", "name", "be a name without a hyphen", repr(name))
    named = {f"{name}-{strength:g}": strength for strength in numbers}
    if not numbers or len(named) < len(numbers):
        check.refuse("pattern_series", "strengths", "be at least one number, each once", numbers)
    parameter = list(inspect.signature(pattern).parameters)[1]
    return {key: partial(pattern, **{parameter: strength}) for key, strength in named.items()}
