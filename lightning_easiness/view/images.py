"""Pictures of any kind: found in the items of a data set, as floats, as bytes to look at, and averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import to_pil_image

PICTURE_KEYS = ("image", "pixel_values", "x", "input", "img", "images", "inputs", "data")


class NoImageError(ValueError):
    """No example of a data set that was looked at holds a picture.

    Args:
        dataset: the data set.
        found: what stood in the place of a picture in the last item.
    """

    def __init__(self, dataset: Any, found: object) -> None:
        super().__init__(
            f"{type(dataset).__name__} holds no pictures: found {_kind(found)} in place of one. An item must be a"
            f" picture, a tuple with it first, or a mapping with one of the keys {', '.join(PICTURE_KEYS)}."
        )


def item_image(item: object) -> object:
    """Finds the picture in an item of a data set.

    Args:
        item: the picture itself; a tuple or list with it first; or a mapping with it under a key such as "image",
            "pixel_values", "x" or "input".

    Returns:
        What stands there, a picture or not. None for an empty tuple and for a mapping without such a key.

    Example:
        >>> item_image(("a", 3)), item_image({"image": "a", "label": 3})
        ('a', 'a')
    """
    if isinstance(item, Mapping):
        return next((item_image(item[key]) for key in PICTURE_KEYS if key in item), None)
    if isinstance(item, (tuple, list)):
        return item_image(item[0]) if item else None
    return item


def to_image(image: object) -> Tensor | None:
    """Reads a Pillow image, an array or a tensor as channels-first floats, in its own units.

    Args:
        image: a Pillow image of any mode; a tensor (H, W), (C, H, W) or (H, W, C); or a numpy array of these shapes.
            C is 1, 3 or 4 (with opacity, laid on white). Where both ends could be the channels, a tensor has them
            first and an array last. A leading batch dimension of one is dropped.

    Returns:
        float32 (1, H, W) or (3, H, W) on the CPU. Unsigned bytes are divided by 255, other values are kept.
        None for anything else, and below 2 x 2 pixels: it is no picture.

    Example:
        >>> to_image(torch.zeros(8, 8, 3, dtype=torch.uint8)).shape
        torch.Size([3, 8, 8])
        >>> to_image(torch.zeros(16)) is None
        True
    """
    channels_last = not isinstance(image, Tensor)
    if isinstance(image, Image.Image):
        image = _pillow_to_array(image)
    values = _to_float(image)
    if values is None:
        return None
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    picture = _channels_first(values, channels_last)
    if picture is None or min(picture.shape[1:]) < 2:
        return None
    return _lay_on_white(picture) if len(picture) == 4 else picture


def to_displayable(image: object) -> Tensor | None:
    """Makes a picture ready to be looked at.

    Args:
        image: what `to_image` reads.

    Returns:
        uint8 (1, H, W) or (3, H, W); None when it is no picture. Bytes and values in [0, 1] keep their brightness.
        Others, such as pictures normalised by mean and standard deviation, are stretched between their own least and
        largest value. Infinite pixels are drawn at that end, NaN dark.

    Example:
        >>> to_displayable(torch.tensor([[-1.0, 0.0], [1.0, 3.0]]))
        tensor([[[  0,  64],
                 [128, 255]]], dtype=torch.uint8)
    """
    picture = to_image(image)
    if picture is None:
        return None
    known = picture[picture.isfinite()]
    if len(known) == 0 or (known.min() >= 0 and known.max() <= 1):
        return to_bytes(picture, torch.tensor(0.0), torch.tensor(1.0))
    return to_bytes(picture, known.min(), known.max())


def to_bytes(picture: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Maps floats to uint8, `low` to 0 and `high` to 255; mid-grey where the two are equal."""
    span = (high - low).expand_as(picture)
    shares = torch.where(span > 0, (picture - low) / span, 0.5).nan_to_num(0.0, 1.0, 0.0)
    return shares.clamp(0, 1).mul(255).round().to(torch.uint8)


class RunningAverage:
    """The average of pictures that come one at a time, and the range of their pixels.

    Attributes:
        count: pictures added.
        low, high: (C, 1, 1), least and largest pixel of each channel in all pictures added.

    Example:
        >>> average = RunningAverage()
        >>> for brightness in (0.0, 1.0):
        ...     average.add(torch.full((1, 2, 2), brightness))
        >>> average.mean
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """

    def __init__(self) -> None:
        self.count = 0
        self._total = torch.empty(0)
        self.low = torch.empty(0)
        self.high = torch.empty(0)

    def add(self, picture: Tensor) -> None:
        """Adds one float picture (1 or 3, H, W); pixels that are not finite count as 0, another size is resized."""
        picture = picture.nan_to_num(0.0, 0.0, 0.0).double()
        low, high = picture.amin((1, 2), keepdim=True), picture.amax((1, 2), keepdim=True)
        if self.count == 0:
            self._total, self.low, self.high = picture.clone(), low, high
        else:
            # Grey and colour broadcast to colour.
            self._total = self._total + resize(picture, self._total.shape[1:])
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.count += 1

    def shrink(self, longest: int) -> None:
        """Reduces the average to at most `longest` pixels a side, for less memory; add no picture afterwards."""
        height, width = self._total.shape[1:]
        scale = min(1.0, longest / max(height, width))
        self._total = resize(self._total, (max(1, round(height * scale)), max(1, round(width * scale))))

    @property
    def mean(self) -> Tensor:
        """The average, float32 (C, H, W)."""
        return (self._total / self.count).float()


def average_images(dataset: Any, indices: Iterable[int]) -> Tensor:
    """Averages the pictures of some examples, read and added one at a time.

    Args:
        dataset: read as `dataset[i]`; `item_image` says which items are understood.
        indices: examples; those without a picture are passed over.

    Returns:
        float32 (C, H, W) in the units of the data set, bytes divided by 255. Grey and colour pictures together give
        colour; a picture of another size than the first is resized to it.

    Raises:
        NoImageError: none of the examples is a picture.

    Example:
        >>> average_images(torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.5], [0.0, 1.0]]]), [0, 1])
        tensor([[[0.5000, 0.2500],
                 [0.0000, 0.5000]]])
    """
    return average(dataset, indices).mean


def average(dataset: Any, indices: Iterable[int]) -> RunningAverage:
    """As `average_images`, with the number of pictures and the range of their pixels."""
    running = RunningAverage()
    item: object = None
    for index in indices:
        item = item_image(dataset[int(index)])
        picture = to_image(item)
        if picture is not None:
            running.add(picture)
    if running.count == 0:
        raise NoImageError(dataset, item)
    return running


def to_one_scale(averages: Sequence[RunningAverage]) -> list[Tensor]:
    """Maps averages to uint8 on one scale, so that an even average looks even beside a varied one.

    Brightness is kept where all pictures lay in [0, 1]; else each channel is stretched between its least and largest
    pixel in any picture, which also undoes a normalisation by channel.
    """
    channels = max(len(each.low) for each in averages)
    low = torch.stack([each.low.expand(channels, 1, 1) for each in averages]).amin(0)
    high = torch.stack([each.high.expand(channels, 1, 1) for each in averages]).amax(0)
    if low.min() >= 0 and high.max() <= 1:
        low, high = torch.zeros_like(low), torch.ones_like(high)
    return [to_bytes(each.mean.expand(channels, -1, -1), low, high) for each in averages]


def save_image(picture: Tensor, path: str | os.PathLike[str]) -> Path:
    """Saves a sheet, or any picture that `to_displayable` reads, in the format that the suffix of `path` names.

    Args:
        picture: uint8 (3, H, W), for one.
        path: such as "hardest.png"; missing folders are made.

    Returns:
        The path.

    Raises:
        ValueError: `picture` is no picture.
    """
    shown = to_displayable(picture)
    if shown is None:
        raise ValueError(f"`picture` of save_image must be a picture, such as uint8 (3, H, W); got {_kind(picture)}.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil_image(shown).save(path)
    return path


def resize(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes floats (C, H, W) to (C, *size) with antialiasing; as it is where the size is right."""
    if tuple(picture.shape[1:]) == tuple(size):
        return picture
    return interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0]


def _pillow_to_array(image: Image.Image) -> np.ndarray[Any, Any]:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return np.asarray(image).astype(np.float32)
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _to_float(image: object) -> Tensor | None:
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif":
            return None
        scale = 255 if image.dtype == np.uint8 else 1
        return torch.from_numpy(image.astype(np.float32)) / scale
    if not isinstance(image, Tensor) or image.is_complex():
        return None
    scale = 255 if image.dtype == torch.uint8 else 1
    return image.detach().as_subclass(Tensor).to("cpu", torch.float32) / scale


def _channels_first(values: Tensor, channels_last: bool) -> Tensor | None:
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        return None
    first, last = values.shape[0] in (1, 3, 4), values.shape[2] in (1, 3, 4)
    if last and (channels_last or not first):
        return values.permute(2, 0, 1)
    return values if first else None


def _lay_on_white(picture: Tensor) -> Tensor:
    colour, opacity = picture[:3], picture[3:]
    if picture.min() < 0 or picture.max() > 1:  # normalised: the opacity can no longer be told
        return colour
    return colour * opacity + (1 - opacity)


def _kind(value: object) -> str:
    """Says in words what a value is, such as "a float32 tensor of shape (16,)"."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return "nothing" if value is None else f"a {type(value).__name__}"
