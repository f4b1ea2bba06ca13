import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from lightning_easiness.view.images import (
    NoImageError,
    RunningAverage,
    average_images,
    item_image,
    save_image,
    to_displayable,
    to_image,
    to_one_scale,
)


@pytest.fixture
def colours():
    """Bytes (3, 6, 5) that hold both ends of the range."""
    picture = torch.randint(0, 256, (3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture[:, 0, 0], picture[:, 0, 1] = 0, 255
    return picture


@pytest.mark.parametrize(
    "convert",
    [
        lambda p: p,
        lambda p: p.permute(1, 2, 0),
        lambda p: p[None],
        lambda p: p / 255,
        lambda p: (p / 255).double().requires_grad_(),
        lambda p: tv_tensors.Image(p),
        lambda p: p.numpy(),
        lambda p: p.permute(1, 2, 0).numpy(),
        lambda p: p.permute(1, 2, 0).numpy() / 255,
        lambda p: Image.fromarray(p.permute(1, 2, 0).numpy()),
        lambda p: Image.fromarray(p.permute(1, 2, 0).numpy()).convert("RGBA"),
        lambda p: p.int(),
        lambda p: p.float() * 0.02 - 2,
        lambda p: p.numpy().astype(np.uint16) * 257,
    ],
)
def test_the_same_picture_in_every_form(colours, convert):
    assert to_displayable(convert(colours)).equal(colours)


def test_half_precision_is_read(colours):
    for dtype in (torch.float16, torch.bfloat16):
        shown = to_displayable((colours / 255).to(dtype))
        assert (shown.int() - colours.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"])
def test_every_pillow_mode(mode):
    source = Image.fromarray(np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8))
    image = source.convert("I").convert(mode) if mode == "I;16" else source.convert(mode)
    shown = to_displayable(image)
    assert shown.dtype == torch.uint8
    assert shown.shape[0] in (1, 3)
    assert shown.shape[1:] == (6, 8)


def test_transparency_is_laid_on_white():
    picture = np.zeros((2, 2, 4), dtype=np.uint8)
    picture[0, 0, 3] = 255
    shown = to_displayable(Image.fromarray(picture))
    assert shown[:, 0, 0].tolist() == [0, 0, 0]
    assert shown[:, 1, 1].tolist() == [255, 255, 255]


def test_normalised_pictures_are_stretched_and_others_keep_their_brightness():
    dim = torch.tensor([[0.2, 0.4], [0.4, 0.3]])
    assert to_displayable(dim).max() == 102
    stretched = to_displayable((dim - 0.3) / 0.05)
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_pixels_that_are_no_numbers():
    shown = to_displayable(torch.tensor([[torch.nan, torch.inf], [-torch.inf, 0.5]]))
    assert shown.tolist() == [[[0, 255], [0, 128]]]
    assert to_displayable(torch.full((2, 2), torch.nan)).tolist() == [[[0, 0], [0, 0]]]
    assert to_displayable(torch.full((2, 2), 7.0)).tolist() == [[[128, 128], [128, 128]]]


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
def test_what_is_no_picture(value):
    assert to_displayable(value) is None


@pytest.mark.parametrize("key", ["image", "pixel_values", "x", "input"])
def test_pictures_are_found_in_items(key):
    for item in ("p", ("p", 1), ["p", 1, 2], {key: "p", "label": 1}, (("p", "q"), 1), {"label": 1, key: ("p",)}):
        assert item_image(item) == "p"
    assert item_image(()) is None
    assert item_image({"text": "p"}) is None


def test_average_is_the_mean_in_the_units_of_the_data():
    pictures = torch.randn(7, 3, 5, 4)
    torch.testing.assert_close(average_images(pictures, [0, 2, 6]), pictures[[0, 2, 6]].mean(0))
    as_bytes = torch.tensor([[[0, 255], [51, 0]], [[255, 255], [51, 0]]], dtype=torch.uint8)
    torch.testing.assert_close(average_images(as_bytes, [0, 1]), torch.tensor([[[0.5, 1.0], [0.2, 0.0]]]))


def test_average_of_grey_colour_other_sizes_and_no_pictures():
    pictures = [torch.zeros(1, 4, 4), torch.ones(3, 4, 4), torch.full((3, 8, 8), 0.5), "none"]
    torch.testing.assert_close(average_images(pictures, range(4)), torch.full((3, 4, 4), 0.5))
    with pytest.raises(NoImageError, match=r"^list holds no pictures: found a str in place of one."):
        average_images(pictures, [3])


def test_averages_share_one_scale_and_a_normalisation_is_undone():
    pictures = torch.rand(30, 3, 8, 8)
    pictures[0, :, 0, :2] = torch.tensor([0.0, 1.0])
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    shown = []
    for dataset in (pictures, (pictures - mean) / std):
        averages = [RunningAverage(), RunningAverage()]
        for i, picture in enumerate(dataset):
            averages[i // 15].add(to_image(picture))
        shown.append(torch.stack(to_one_scale(averages)).int())
    assert (shown[0] - shown[1]).abs().max() <= 1


def test_diverse_pictures_average_to_an_even_one():
    alike = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).round().expand(50, 1, 8, 8)
    diverse = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(1)).round()
    averages = [RunningAverage(), RunningAverage()]
    for each, group in zip(averages, (alike, diverse), strict=True):
        for picture in group * 3 - 1:
            each.add(picture)
    easy, hard = to_one_scale(averages)
    assert easy.float().std() > 5 * hard.float().std()


def test_large_averages_are_kept_small():
    average = RunningAverage()
    average.add(torch.rand(3, 400, 200))
    average.shrink(100)
    assert average.mean.shape == (3, 100, 50)


def test_save_picture(tmp_path, colours):
    path = save_image(colours, tmp_path / "new" / "picture.png")
    assert to_displayable(Image.open(path)).equal(colours)
    with pytest.raises(ValueError, match=r"^`picture` of save_image must be a picture, such as uint8 \(3, H, W\); got"):
        save_image(torch.zeros(3), tmp_path / "no.png")
