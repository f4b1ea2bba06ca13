"""Data on the device: augmented in training alone, watched and selected as any other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import resized_crop

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, EasinessRecord, Relabel, Scores
from tests.examples import PAPER  # noqa: F401  (the path of device_data)
from tests.small import trainer as small_trainer

import device_data  # isort: skip

SIZE = 40


def pictures(size: int, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (size, *shape), generator=generator, dtype=torch.uint8)


# --------------------------------------------------------------------------------------------------------- the batches


def shifted_alone(image: Tensor, down: int, right: int, mirrored: bool) -> Tensor:
    """An independent reference: one image, pixel by pixel; what comes in from outside is black."""
    height, width = image.shape[1:]
    found = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + down, (width - 1 - column if mirrored else column) + right
            if 0 <= y < height and 0 <= x < width:
                found[:, row, column] = image[:, y, x]
    return found


def test_a_shift_is_one_of_all_that_there_are_and_each_of_them_occurs() -> None:
    most, image = 1, pictures(1, 2, 5, 4)[0]
    torch.manual_seed(0)
    found = device_data.shifted(image.expand(400, -1, -1, -1), most, flip=True)
    moves = [(down, right, mirrored) for down in (-1, 0, 1) for right in (-1, 0, 1) for mirrored in (False, True)]
    possible = torch.stack([shifted_alone(image, *move) for move in moves])
    same = (found[:, None] == possible[None]).flatten(2).all(2)
    assert same.sum(1).tolist() == [1] * 400
    counts = same.sum(0)
    assert int(counts.min()) >= 8  # 22 are expected of each of the 18


def test_without_flip_no_image_is_mirrored() -> None:
    image = torch.arange(6, dtype=torch.uint8).view(1, 1, 1, 6).expand(50, 1, 4, 6)
    found = device_data.shifted(image, 1, flip=False).float()
    inside = found[:, :, 1:3, 1:5]
    assert bool((inside.diff(dim=3) == 1).all())


def test_contrast_normalisation_is_that_of_each_image() -> None:
    images = torch.cat([pictures(5, 3, 6, 6), torch.full((1, 3, 6, 6), 7, dtype=torch.uint8)])
    found = device_data.contrast_normalized(images)
    for image, one in zip(images[:5], found, strict=False):
        values = image.double().flatten()
        expected = (values - values.mean()) / (values - values.mean()).square().mean().sqrt()
        torch.testing.assert_close(one.flatten().double(), expected, atol=1e-5, rtol=1e-5)
    assert found[5].abs().max() == 0  # of one colour


def test_crops_are_those_of_torchvision_inside_their_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the box in whole pixels, torchvision cuts and scales the same; but for its edge, where it sees no more."""
    image = pictures(1, 3, 64, 64).float()
    box = {"top": 10, "left": 20, "high": 32, "wide": 24}
    affine = device_data.crop_transforms(*(torch.tensor([box[key] / 64]) for key in ("top", "left", "high", "wide")))
    found = device_data.cut(image, affine, 48)
    expected = resized_crop(image, 10, 20, 32, 24, [48, 48], antialias=False)
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-3, rtol=1e-4)


def test_boxes_have_the_areas_and_ratios_that_are_asked_for() -> None:
    torch.manual_seed(0)
    top, left, high, wide = device_data.crop_boxes(4000, torch.device("cpu"))
    area, ratio = high * wide, wide / high
    assert float(area.max()) <= 1 + 1e-6
    assert float(area.min()) >= 0.07
    assert 0.74 <= float(ratio.min()) < 0.8 < 1.25 < float(ratio.max()) <= 1.34
    assert bool(((top >= 0) & (left >= 0) & (top + high <= 1 + 1e-6) & (left + wide <= 1 + 1e-6)).all())
    assert float(area.mean()) == pytest.approx(0.53, abs=0.03)


# -------------------------------------------------------------------------------------------------- in a watched fit


class Linear(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 4)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.append((x.clone(), y.clone()))
        return functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.01)


def data(**options: Any) -> device_data.DeviceData:
    train, test = (
        device_data.HeldPictures(pictures(SIZE, 3, 8, 8, seed=seed), torch.arange(SIZE) % 4) for seed in (0, 1)
    )
    return device_data.DeviceData(train, test, batch_size=6, **{"shift": 2, "flip": True, **options})


def fitted(datamodule: Any, callback: EasinessCallback | None, epochs: int = 2) -> Linear:
    seed_everything(3, verbose=False)
    module = Linear()
    trainer: Trainer = small_trainer(max_epochs=epochs, callbacks=[callback] if callback else [])
    trainer.fit(module, datamodule=datamodule)
    return module


def test_training_is_the_same_with_and_without_the_callback(tmp_path: Path) -> None:
    watched = fitted(data(), EasinessCallback(tmp_path, every_n_epochs=1, num_images=0))
    alone = fitted(data(), None)
    assert torch.equal(watched.layer.weight, alone.layer.weight)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(watched.seen, alone.seen, strict=True))


def test_the_pass_sees_each_example_as_it_is_and_training_sees_it_augmented(tmp_path: Path) -> None:
    held = data()
    module = fitted(held, EasinessCallback(tmp_path, num_images=0))
    record = EasinessRecord.load(tmp_path, "train-probe")
    x = device_data.contrast_normalized(held.train.images)
    with torch.no_grad():
        expected = functional.cross_entropy(module(x), held.train.targets, reduction="none")
    torch.testing.assert_close(record.loss[0, -1], expected, atol=1e-5, rtol=1e-4)
    batch = module.seen[0][0]
    assert not any(torch.equal(one, other) for one in batch for other in x)


def test_online_an_example_is_told_by_its_index(tmp_path: Path) -> None:
    """The colour of each image is that of its index, which training saw in the order that the record says."""
    images = torch.zeros(SIZE, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = (torch.arange(SIZE, dtype=torch.uint8) * 3)[:, None, None]
    train = device_data.HeldPictures(images, torch.arange(SIZE) % 4)
    held = device_data.DeviceData(train, train, batch_size=6, normalize="unit")
    module = fitted(held, EasinessCallback(tmp_path, probe=None, num_images=0), epochs=1)
    record = EasinessRecord.load(tmp_path, "train-online")
    colours = torch.cat([x[:, 0, 0, 0] * 255 / 3 for x, _ in module.seen]).round().long()
    assert sorted(colours.tolist()) == list(range(SIZE))
    assert torch.equal(torch.cat([y for _, y in module.seen]), colours % 4)
    assert bool((record.field("count")[0, 0] == 1).all())


def scores() -> Scores:
    return Scores(torch.arange(float(SIZE)), higher_is_easier=True, target=torch.arange(SIZE) % 4)


def test_a_selection_trains_on_what_it_keeps(tmp_path: Path) -> None:
    selected = EasinessDataModule(data(), Ablation(scores(), 0.5, remove="hard", sampling="top", seed=0))
    module = fitted(selected, EasinessCallback(tmp_path, num_images=0), epochs=1)
    count = EasinessRecord.load(tmp_path, "train-online").field("count")[0, 0]
    assert count.tolist() == [0] * (SIZE // 2) + [1] * (SIZE // 2)
    assert sum(len(x) for x, _ in module.seen) == SIZE // 2
    assert EasinessRecord.load(tmp_path, "train-probe").loss.shape[-1] == SIZE


def test_new_labels_are_trained_on(tmp_path: Path) -> None:
    held = data(shift=0, flip=False)
    module = fitted(EasinessDataModule(held, Relabel(scores(), 0.5, which="hard", seed=0)), None, epochs=1)
    x, y = (torch.cat(parts) for parts in zip(*module.seen, strict=True))
    known = device_data.contrast_normalized(held.train.images)
    place = torch.stack([(known == one).flatten(1).all(1).nonzero()[0, 0] for one in x])
    changed = y != held.train.targets[place]
    assert 8 <= int(changed.sum()) <= 20  # of the 20 about 15 get another of 4 classes
    assert int(place[changed].max()) < SIZE


def test_a_batch_of_single_examples_is_collated() -> None:
    train = data().train
    x, y = device_data.as_batch([train[3], train[5]])
    assert torch.equal(x, train.images[[3, 5]])
    assert y.tolist() == [3, 1]
