"""Data held in the device's memory as uint8, augmented and normalised a batch at a time: the network is the bound.

Batches are augmented while training only: an evaluation pass over the training examples sees each of them as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate

Batch = tuple[Tensor, Tensor]


class HeldPictures(Dataset[Batch]):
    """Images, uint8 (N, C, H, W), and their labels, int64 (N,), in the memory of a device; whole batches at once."""

    def __init__(self, images: Tensor, target: Tensor, classes: Sequence[str] = ()) -> None:
        self.images = images
        self.targets = target.cpu()  # listed, so that no example is read to know the labels
        self.classes = list(classes)
        self._labels = target.to(images.device)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self._labels[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch as one gather on the device."""
        index = torch.tensor(indices).to(self.images.device, non_blocking=True)
        return self.images[index], self._labels[index]

    def to(self, device: torch.device | str) -> HeldPictures:
        """Return the data set on a device; itself, if it is there."""
        moved = self.images.to(device)
        return self if moved is self.images else HeldPictures(moved, self.targets, self.classes)


class DeviceData(LightningDataModule):
    """Training and test images in the memory of the Trainer's device.

    Args:
        train: Training examples.
        test: Test examples.
        batch_size: Examples in a batch of training.
        shift: Move training images by up to so many pixels each way; what comes in is black.
        flip: Mirror half of the training images.
        crop: Cut training images by scale and aspect ratio to this side, and test images at their centre; None: not.
        normalize: "contrast", each image to mean 0 and standard deviation 1; "unit", all to [0, 1]; or "imagenet", as
            torchvision's weights of ImageNet need it.
        validate: Also evaluate the test examples after each epoch of training, as validation.
        test_batch_size: Examples in a batch of evaluation.
        drop_last: Leave out a last batch of training that is not whole, if it is not the only one.
    """

    def __init__(
        self,
        train: HeldPictures,
        test: HeldPictures,
        batch_size: int = 128,
        *,
        shift: int = 0,
        flip: bool = False,
        crop: int | None = None,
        normalize: str = "contrast",
        validate: bool = False,
        test_batch_size: int = 500,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.test = train, test
        self.drop_last = drop_last and len(train) >= batch_size
        self.batch_size, self.test_batch_size = batch_size, test_batch_size
        self.shift, self.flip, self.crop = shift, flip, crop
        self.normalize = NORMALIZATIONS[normalize]
        if validate:
            self.val_dataloader = self.test_dataloader  # a hook that returns nothing is warned of

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        self.train, self.test = self.train.to(device), self.test.to(device)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, self.batch_size, shuffle=True, collate_fn=as_batch, drop_last=self.drop_last)

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.test, self.test_batch_size, collate_fn=as_batch)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, target = batch
        augmented = self.trainer is not None and self.trainer.training
        images = self._augmented(images) if augmented else self._at_centre(images)
        return self.normalize(images), target

    def _augmented(self, images: Tensor) -> Tensor:
        if self.crop is not None:
            return random_crops(images, self.crop, flip=self.flip)
        return shifted(images, self.shift, flip=self.flip) if self.shift or self.flip else images

    def _at_centre(self, images: Tensor) -> Tensor:
        if self.crop is None:
            return images
        edge = (images.shape[-1] - self.crop) // 2
        return images[..., edge : edge + self.crop, edge : edge + self.crop]


def as_batch(fetched: Any) -> Batch:
    """Return what is a batch already; collate single examples, as a data set around this one may fetch them."""
    return fetched if isinstance(fetched, tuple) else default_collate(fetched)


def contrast_normalized(images: Tensor) -> Tensor:
    """Scale each image (N, C, H, W) to mean 0 and standard deviation 1 over all its pixels and channels, float32.

    Global contrast normalisation. An image of one colour becomes zeros.
    """
    images = images.float()
    deviation, mean = torch.std_mean(images, dim=(1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp(min=1e-3)


def unit_scaled(images: Tensor) -> Tensor:
    """Scale images of 0 to 255 to [0, 1], float32."""
    return images.float() / 255


def imagenet_scaled(images: Tensor) -> Tensor:
    """Scale images of three channels by the mean and the standard deviation of ImageNet, float32."""
    mean, deviation = (torch.tensor(of, device=images.device).view(3, 1, 1) for of in (_MEAN, _DEVIATION))
    return (images.float() - mean) / deviation


_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "contrast": contrast_normalized, "unit": unit_scaled, "imagenet": imagenet_scaled,
}  # fmt: skip


def shifted(images: Tensor, most: int, *, flip: bool) -> Tensor:
    """Move each image by up to `most` pixels each way, over black, and mirror half of them; of any type, same shape."""
    size, channels, height, width = images.shape
    device = images.device
    down, right = torch.randint(2 * most + 1, (2, size, 1), device=device)
    rows = down + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(size, width)
    if flip:
        columns = torch.where(torch.rand(size, 1, device=device) < 0.5, width - 1 - columns, columns)
    padded = functional.pad(images, [most] * 4)
    # one flat index per pixel of a channel: a gather over all channels at once
    places = (rows[:, :, None] * padded.shape[3] + (columns + right)[:, None, :]).view(size, 1, -1)
    return padded.flatten(2).gather(2, places.expand(size, channels, -1)).view(images.shape)


def random_crops(images: Tensor, side: int, *, flip: bool) -> Tensor:
    """Cut a part of each image, of 8 to 100 % of its area and sides as 3:4 to 4:3, and scale it to `side`, float32."""
    affine = crop_transforms(*crop_boxes(len(images), images.device))
    if flip:
        affine[:, 0, 0] *= torch.where(torch.rand(len(images), device=images.device) < 0.5, -1, 1)
    return cut(images, affine, side)


def crop_boxes(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a box for each image: top, left, height and width as shares of the image, each (size,)."""
    area = torch.empty(size, device=device).uniform_(0.08, 1)
    ratio = torch.empty(size, device=device).uniform_(-1, 1).mul(log(4 / 3)).exp()
    high, wide = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    top, left = torch.rand(2, size, device=device)
    return top * (1 - high), left * (1 - wide), high, wide


def crop_transforms(top: Tensor, left: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """Return what takes coordinates in the cut image, from -1 to 1, to those in the whole, (size, 2, 3)."""
    zero = torch.zeros_like(top)
    right, down = 2 * left + wide - 1, 2 * top + high - 1  # the centre of the box
    return torch.stack([wide, zero, right, zero, high, down], dim=1).view(-1, 2, 3)


def cut(images: Tensor, affine: Tensor, side: int) -> Tensor:
    """Return the part of each image that a transform shows, interpolated to `side`, float32."""
    grid = functional.affine_grid(affine, [*images.shape[:2], side, side], align_corners=False)
    return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
