"""Images of any kind: found in the items of a data set, read as tensors, averaged, and saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_easiness.data.subset import source

IMAGE_KEYS = ("image", "pixel_values", "x", "input", "img", "images", "inputs", "data")


def transforms() -> Any:
    """Import torchvision's functions, which take two seconds to load and are needed for images alone."""
    return import_module("torchvision.transforms.v2.functional")


class NoImageError(ValueError):
    """No example that was to be shown holds an image.

    Args:
        dataset: The data set.
        found: What stood in the place of an image in the last item.
    """

    def __init__(self, dataset: Any, found: object) -> None:
        super().__init__(
            f"{type(source(dataset)).__name__} holds no images: found {_kind(found)} in place of one. An item must"
            f" be an image, a tuple with it first, or a mapping with one of the keys {', '.join(IMAGE_KEYS)}."
        )


def item_image(item: object) -> object:
    """Find the image in an item: the item itself, the first of a tuple, or the value under one of `IMAGE_KEYS`."""
    if isinstance(item, Mapping):
        return next((item_image(item[key]) for key in IMAGE_KEYS if key in item), None)
    if isinstance(item, (tuple, list)):
        return item_image(item[0]) if item else None
    return item


def to_image(value: object) -> Tensor | None:
    """Read a Pillow image, an array or a tensor as float32 (1 or 3, H, W), bytes divided by 255; None if it is none."""
    image = _read(value)
    return image if image is None else transforms().to_dtype(image, torch.float32, scale=True)


def to_displayable(value: object) -> Tensor | None:
    """Convert an image to uint8; values neither bytes nor in [0, 1] are stretched between their extremes."""
    image = _read(value)
    if image is None or image.dtype == torch.uint8:
        return image
    known = image[image.isfinite()]
    if len(known) == 0 or (known.min() >= 0 and known.max() <= 1):
        return to_bytes(image, torch.tensor(0.0), torch.tensor(1.0))
    return to_bytes(image, known.min(), known.max())


def to_bytes(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Map floats to uint8, `low` to 0 and `high` to 255; mid-grey where the two are equal, dark where it is NaN."""
    span = (high - low).expand_as(image)
    fractions = torch.where(span > 0, (image - low) / span, 0.5).nan_to_num(0.0, 1.0, 0.0)
    return fractions.clamp(0, 1).mul(255).round().to(torch.uint8)


class Average(NamedTuple):
    """The mean of some images, float32 (C, H, W), and the range of all their pixels, (C, 1, 1) each."""

    mean: Tensor
    low: Tensor
    high: Tensor


def average(dataset: Any, indices: Iterable[int], longest: int | None = None) -> Average:
    """Average the images of some examples, read one at a time, and reduce the average to `longest` pixels a side.

    Pixels that are not finite count as 0, grey and colour together give colour, and an image of another size than the
    first is resized to it. Raise a NoImageError where no example is an image.
    """
    item: object = None
    total = low = high = torch.empty(0)
    count = 0
    for index in indices:
        item = item_image(dataset[int(index)])
        image = to_image(item)
        if image is None:
            continue
        image = image.nan_to_num(0.0, 0.0, 0.0).double()
        least, largest = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
        if count:
            total = total + transforms().resize(image, list(total.shape[1:]), antialias=True)
            low, high = torch.minimum(low, least), torch.maximum(high, largest)
        else:
            total, low, high = image, least, largest
        count += 1
    if not count:
        raise NoImageError(dataset, item)
    if longest is not None:
        total = transforms().resize(total, reduced_size(total, longest), antialias=True)
    return Average((total / count).float(), low, high)


def to_one_scale(averages: Sequence[Average]) -> list[Tensor]:
    """Map averages to uint8 on one scale, so that an even average looks even beside a varied one.

    Brightness is kept where all images lay in [0, 1]; else each channel is stretched between its extremes in any image,
    which also undoes a normalisation by channel.
    """
    channels = max(len(each.low) for each in averages)
    low = torch.stack([each.low.expand(channels, 1, 1) for each in averages]).amin(0)
    high = torch.stack([each.high.expand(channels, 1, 1) for each in averages]).amax(0)
    if low.min() >= 0 and high.max() <= 1:
        low, high = torch.zeros_like(low), torch.ones_like(high)
    return [to_bytes(each.mean.expand(channels, -1, -1), low, high) for each in averages]


def reduced_size(image: Tensor, longest: int) -> list[int]:
    """Compute the height and width of an image reduced to at most `longest` pixels a side."""
    scale = min(1.0, longest / max(image.shape[1:]))
    return [max(1, round(side * scale)) for side in image.shape[1:]]


def save_image(image: Any, path: str | os.PathLike[str]) -> Path:
    """Save an image grid, or any other image, in the format that the suffix of `path` names.

    Args:
        image: uint8 (3, H, W), as returned by `image_grid`; or another tensor, array or Pillow image. Values that are
            neither bytes nor in [0, 1] are stretched between their minimum and maximum.
        path: For example "hardest.png"; missing folders are created.

    Returns:
        The path.

    Raises:
        ValueError: If `image` is not an image, or the suffix is not that of an image format.

    Example:
        >>> import tempfile
        >>> save_image(torch.rand(3, 8, 8), Path(tempfile.mkdtemp()) / "new" / "noise.png").name
        'noise.png'
    """
    shown = to_displayable(image)
    if shown is None:
        raise ValueError(f"`image` of save_image must be an image, such as uint8 (3, H, W); got {_kind(image)}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    transforms().to_pil_image(shown).save(path)
    return path


def _read(value: object) -> Tensor | None:
    """Read an image as (1 or 3, H, W) on the CPU: uint8, or float32 in its own units; None for anything else."""
    channels_last = not isinstance(value, Tensor)
    if isinstance(value, Image.Image):
        value = _pillow_to_array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        value = torch.from_numpy(value.astype(np.uint8 if value.dtype == np.uint8 else np.float32))
    if not isinstance(value, Tensor) or value.is_complex():
        return None
    image = _channels_first(value.detach().as_subclass(Tensor).cpu(), channels_last)
    if image is None or min(image.shape[1:]) < 2:
        return None
    image = image if image.dtype == torch.uint8 else image.float()
    if len(image) == 4:  # lay it on white
        image = transforms().to_dtype(image, torch.float32, scale=True)
        image = image[:3] * image[3:] + (1 - image[3:])
    return image


def _pillow_to_array(image: Image.Image) -> np.ndarray[Any, Any]:
    if image.mode.startswith(("I", "F")):
        return np.asarray(image, dtype=np.float32)
    grey = image.mode in ("1", "L")
    return np.asarray(image.convert("L" if grey else "RGBA" if image.has_transparency_data else "RGB"))


def _channels_first(values: Tensor, channels_last: bool) -> Tensor | None:
    """Bring (H, W), (C, H, W), (H, W, C) or a batch of one to (C, H, W); `channels_last` decides where both fit."""
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        return None
    first, last = values.shape[0] in (1, 3, 4), values.shape[2] in (1, 3, 4)
    if last and (channels_last or not first):
        return values.permute(2, 0, 1)
    return values if first else None


def _kind(value: object) -> str:
    """Say in words what a value is, such as "a float32 tensor of shape (16,)"."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"
