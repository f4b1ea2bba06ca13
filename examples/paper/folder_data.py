"""ImageNet from its folders of JPEG files: too large for memory, so that workers decode and cut it."""

from __future__ import annotations

import os
from pathlib import Path

from data_sets import FORMS, check_classes, need, refuse
from device_data import Batch, contrast_normalized
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


class FolderData(LightningDataModule):
    """The pictures of ROOT/imagenet: training ones cut by scale and aspect ratio and mirrored, others at their centre.

    Args:
        root: Folder that holds imagenet/train and imagenet/val.
        batch_size: Examples in a batch.
        side: Side of the cut images in pixels.
        validate: Also evaluate the test examples after each epoch of training.
        workers: Processes that decode; None for as many as there are cores.
    """

    def __init__(
        self, root: Path | None, batch_size: int, side: int = 224, validate: bool = False, workers: int | None = None
    ) -> None:
        super().__init__()
        folder = need("imagenet", root) / "imagenet"
        tensor = transforms.PILToTensor()
        cut = transforms.Compose([transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), tensor])
        centre = transforms.Compose([transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side), tensor])
        self.augmented = ImageFolder(folder / "train", cut)
        self.train, self.test = ImageFolder(folder / "train", centre), ImageFolder(folder / "val", centre)
        if len(self.train.classes) != FORMS["imagenet"].num_classes:
            refuse(
                f"'{folder / 'train'}' must hold the 1000 classes of ILSVRC 2012, and holds {len(self.train.classes)}."
            )
        check_classes(self.test.classes, self.train.classes, folder / "val")
        self.batch_size = batch_size
        self.workers = (os.cpu_count() or 1) if workers is None else workers
        if validate:
            self.val_dataloader = self.test_dataloader

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.augmented, self.batch_size, shuffle=True, num_workers=self.workers, pin_memory=True)

    def probe_dataloader(self) -> DataLoader[Batch]:
        """Return the training examples as they are, for an evaluation pass: `EasinessCallback(probe=...)`."""
        return DataLoader(self.train, self.batch_size, num_workers=self.workers, pin_memory=True)

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.test, self.batch_size, num_workers=self.workers, pin_memory=True)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, target = batch
        return contrast_normalized(images), target
