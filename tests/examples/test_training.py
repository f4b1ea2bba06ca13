"""The optimizers and schedules of the texts."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sqrt

import pytest
import torch

from tests.examples import PAPER  # noqa: F401  (the path of training)

import training  # isort: skip

FORM = {"batch_size": 128, "num_examples": 50_000, "scheduled": 300, "image_size": 32}


def test_adamw_decays_by_the_normalised_weight_whatever_the_rate() -> None:
    """Loshchilov and Hutter: x - eta (alpha m / (sqrt(v) + eps) + lambda x), lambda = w sqrt(b / (B T))."""
    weights = torch.nn.Parameter(torch.tensor([2.0, -3.0], dtype=torch.float64))
    optimizer, schedule = training.adamw([weights], FORM)
    expected, decay = weights.detach().clone(), 0.05 * sqrt(128 / (50_000 * 300))
    first, second = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for epoch in range(3):
        gradient = torch.tensor([0.3, -0.1], dtype=torch.float64) * (epoch + 1)
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        unbiased = first / (1 - 0.9 ** (epoch + 1)), second / (1 - 0.99 ** (epoch + 1))
        eta = 0.5 * (1 + cos(pi * epoch / 300))
        expected = expected - eta * (0.001 * unbiased[0] / (unbiased[1].sqrt() + 1e-8) + decay * expected)
        weights.grad = gradient
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(weights.detach(), expected, rtol=1e-9, atol=1e-12)


def rates(form: dict[str, int], epochs: int) -> list[float]:
    optimizer, schedule = training.momentum([torch.nn.Parameter(torch.zeros(1))], form)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("form", "places"),
    [
        (FORM, [150, 250]),
        (FORM | {"image_size": 224, "scheduled": 200}, [100, 150, 190]),
        (FORM | {"scheduled": 6}, [3, 5]),
    ],
)
def test_momentum_divides_its_rate_by_ten_at_the_printed_epochs(form: dict[str, int], places: list[int]) -> None:
    found = rates(form, form["scheduled"])
    expected = [0.1 / 10 ** sum(epoch >= place for place in places) for epoch in range(form["scheduled"])]
    assert found == pytest.approx(expected)


SMALL = training.Training("mlp", "cifar-10", "count", 2, 300, width=0.05, size=8, image_size=8)


@pytest.mark.parametrize("text", ["count", "loss", "sel"])
def test_a_training_takes_the_optimizer_and_the_augmentation_of_its_text(text: str) -> None:
    one = replace(SMALL, text=text)
    module, data = one.module(), one.made_up(8)
    configured = module.configure_optimizers()
    kind = {"count": torch.optim.AdamW, "loss": torch.optim.SGD, "sel": torch.optim.Adam}[text]
    assert type(configured["optimizer"]) is kind
    assert ("lr_scheduler" in configured) == (text != "sel")
    assert (data.shift, data.flip) == ((0, False) if text == "sel" else (1, True))  # 4 of 32 pixels is 1 of 8
    x, y = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (x.shape, x.dtype, y.dtype) == ((8, 3, 8, 8), torch.float32, torch.int64)
    assert (float(x.min()) >= 0) == (text == "sel")


def test_images_of_224_pixels_are_cut_by_scale_and_grey_ones_coloured_for_pretrained_networks() -> None:
    large = training.Training("resnet-18", "mini-imagenet", "count", 1, batch_size=64)
    assert large.augmentation() == {"crop": 224, "flip": True}
    grey = training.Training("vgg16", "fashion-mnist", "sel", 1, pretrained=True, image_size=32)
    data = grey.made_up(4)
    assert data.train.images.shape == (4, 3, 32, 32)
    assert data.on_after_batch_transfer((data.train.images, data.train.targets), 0)[0].min() < -1


def test_digits_are_not_mirrored() -> None:
    assert training.Training("mlp", "svhn", "count", 1).augmentation() == {"shift": 4, "flip": False}
