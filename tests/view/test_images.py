"""Images in every form that a data set can hold them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from lightning_easiness import NoImageError, save_image
from lightning_easiness.view.images import average, item_image, to_displayable, to_one_scale
from tests.view.helpers import COLOURS


def shown(value: object) -> Tensor:
    image = to_displayable(value)
    assert image is not None
    assert image.dtype == torch.uint8
    return image


def last(image: Tensor) -> Any:
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        lambda image: image.permute(1, 2, 0),
        lambda image: image[None],
        lambda image: image / 255,
        lambda image: (image / 255).double().requires_grad_(),
        lambda image: tv_tensors.Image(image),
        lambda image: image.numpy(),
        last,
        lambda image: last(image) / 255,
        lambda image: Image.fromarray(last(image)),
        lambda image: Image.fromarray(last(image)).convert("RGBA"),
        lambda image: image.int(),
        lambda image: image.float() * 0.02 - 2,
        lambda image: image.numpy().astype(np.uint16) * 257,
    ],
)
def test_the_same_image_in_every_form(convert: Any) -> None:
    assert shown(convert(COLOURS)).equal(COLOURS)


def test_where_both_ends_could_be_channels_a_tensor_has_them_first_and_an_array_last() -> None:
    image = torch.randint(0, 256, (3, 5, 3), dtype=torch.uint8)
    assert shown(image).equal(image)
    assert shown(image.numpy()).equal(image.permute(2, 0, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(dtype: torch.dtype) -> None:
    assert (shown((COLOURS / 255).to(dtype)).int() - COLOURS.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_every_pillow_mode(mode: str) -> None:
    source = Image.fromarray(np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8))
    image = shown(source.convert("I").convert(mode) if mode == "I;16" else source.convert(mode))
    assert image.shape[0] in (1, 3)
    assert image.shape[1:] == (6, 8)
    assert image.float().std() > 50, "it is no even image"
    deep = Image.fromarray((np.arange(48, dtype=np.uint16) * 1000).reshape(6, 8))
    assert shown(deep).unique().numel() == 48, "sixteen bits are not cut at 255"


def test_transparency_is_laid_on_white() -> None:
    image = np.zeros((2, 2, 4), dtype=np.uint8)
    image[0, 0, 3] = 255
    for value in (Image.fromarray(image), image, torch.from_numpy(image) / 255):
        assert shown(value)[:, 0, 0].tolist() == [0, 0, 0]
        assert shown(value)[:, 1, 1].tolist() == [255, 255, 255]


def test_normalised_images_are_stretched_and_others_keep_their_brightness() -> None:
    dim = torch.tensor([[0.2, 0.4], [0.4, 0.3]])
    assert shown(dim).max() == 102
    stretched = shown((dim - 0.3) / 0.05)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert shown(torch.tensor([[-1.0, 0.0], [1.0, 3.0]])).tolist() == [[[0, 64], [128, 255]]]


def test_pixels_that_are_not_finite() -> None:
    assert shown(torch.tensor([[torch.nan, torch.inf], [-torch.inf, 0.5]])).tolist() == [[[0, 255], [0, 128]]]
    assert shown(torch.full((2, 2), torch.nan)).tolist() == [[[0, 0], [0, 0]]]
    assert shown(torch.full((2, 2), 7.0)).tolist() == [[[128, 128], [128, 128]]]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "a text",
        3,
        torch.zeros(16),
        torch.zeros(1, 784),
        torch.zeros(2, 8, 8),
        torch.zeros(2, 3, 8, 8),
        torch.zeros(0, 0),
        torch.zeros(8, 8, dtype=torch.complex64),
        np.array([["a", "b"], ["c", "d"]]),
        np.float32(1.0),
    ],
)
def test_what_is_no_image(value: object, tmp_path: Path) -> None:
    assert to_displayable(value) is None
    with pytest.raises(ValueError, match=r"^`image` of save_image must be an image, such as uint8 \(3, H, W\); got"):
        save_image(value, tmp_path / "no.png")


@pytest.mark.parametrize("key", ["image", "pixel_values", "x", "input"])
def test_images_are_found_in_items(key: str) -> None:
    for item in ("p", ("p", 1), ["p", 1, 2], {key: "p", "label": 1}, (("p", "q"), 1), {"label": 1, key: ("p",)}):
        assert item_image(item) == "p"
    assert item_image(()) is item_image({"text": "p"}) is None


def test_an_average_is_the_mean_in_the_units_of_the_data() -> None:
    images = torch.randn(7, 3, 5, 4)
    torch.testing.assert_close(average(images, [0, 2, 6]).mean, images[[0, 2, 6]].mean(0))
    as_bytes = torch.tensor([[[0, 255], [51, 0]], [[255, 255], [51, 0]]], dtype=torch.uint8)
    torch.testing.assert_close(average(as_bytes, [0, 1]).mean, torch.tensor([[[0.5, 1.0], [0.2, 0.0]]]))


def test_an_average_of_grey_colour_other_sizes_and_no_images() -> None:
    images = [torch.zeros(1, 4, 4), torch.ones(3, 4, 4), torch.full((3, 8, 8), 0.5), "none"]
    torch.testing.assert_close(average(images, range(4)).mean, torch.full((3, 4, 4), 0.5))
    assert average([torch.rand(3, 400, 200)], [0], longest=100).mean.shape == (3, 100, 50)
    with pytest.raises(NoImageError, match=r"^list holds no images: found a str in place of one."):
        average(images, [3])
    broken = torch.tensor([[torch.nan, torch.inf], [-torch.inf, 1.0]])
    assert average([broken, torch.ones(2, 2)], [0, 1]).mean.tolist() == [[[0.5, 0.5], [0.5, 1.0]]]


def test_averages_share_one_scale_and_a_normalisation_is_undone() -> None:
    images = torch.rand(30, 3, 8, 8)
    images[0, :, 0, :2] = torch.tensor([0.0, 1.0])
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    plain, undone = (
        torch.stack(to_one_scale([average(data, range(15)), average(data, range(15, 30))])).int()
        for data in (images, (images - mean) / std)
    )
    assert (plain - undone).abs().max() <= 1
    dim = to_one_scale([average([torch.full((2, 2), shade)], [0]) for shade in (0.2, 0.4)])
    assert [image.unique().tolist() for image in dim] == [[51], [102]], "brightness in [0, 1] is kept"


def test_diverse_images_average_to_an_even_one() -> None:
    alike = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).round().expand(50, 1, 8, 8)
    diverse = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    easy, hard = to_one_scale([average(group * 3 - 1, range(50)) for group in (alike, diverse)])
    assert easy.float().std() > 5 * hard.float().std()


def test_a_saved_image_is_read_back(tmp_path: Path) -> None:
    path = save_image(COLOURS, tmp_path / "new" / "image.png")
    assert shown(Image.open(path)).equal(COLOURS)
