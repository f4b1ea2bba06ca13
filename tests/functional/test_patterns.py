"""The three patterns that are taken out of pictures: colour, structure, high frequencies."""

import math
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import interpolate_grey, radial_mask, shuffle_tiles
from lightning_easiness.functional._rng import of_examples
from tests.functional import references as reference
from tests.functional.strategies import FLOAT_TYPES, assert_pictures_match, few, filled, float_types, moderate

pixels = st.sampled_from([0.0, 1.0, 0.5]) | st.floats(-3, 3)


@st.composite
def pictures(
    draw: st.DrawFn,
    channels: st.SearchStrategy = st.integers(1, 3),  # noqa: B008
    sides: st.SearchStrategy = st.integers(1, 4),  # noqa: B008
) -> torch.Tensor:
    shape = (draw(st.integers(0, 2)), draw(channels), draw(sides), draw(sides))
    return filled(draw, shape, pixels, draw(float_types))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(num_images: int, num_channels: int, height: int, width: int) -> torch.Tensor:
    """Each pixel of each channel of each picture has a value of its own."""
    shape = (num_images, num_channels, height, width)
    return torch.arange(math.prod(shape)).reshape(shape).float()


# colour


@moderate
@given(pictures(channels=st.just(3)), st.floats(0, 1) | st.sampled_from([0.0, 0.25, 1.0]))
def test_grey_interpolation(images, alpha):
    wanted = [reference.interpolate_grey(image, alpha) for image in images.tolist()]
    result = interpolate_grey(images, alpha)
    assert result.shape == images.shape
    assert_pictures_match(result, torch.tensor(wanted, dtype=torch.float64), images.dtype)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_alpha_1_is_the_picture_and_alpha_0_has_no_colour(dtype):
    images = torch.rand(2, 3, 4, 5, generator=generator()).to(dtype)
    torch.testing.assert_close(interpolate_grey(images, 1.0), images, rtol=0, atol=0)
    grey = interpolate_grey(images, 0.0)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])


# structure


@moderate
@given(
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from([(1, 1.0), (2, 0.5), (3, 1 / 3), (3, 0.34), (4, 0.25), (5, 0.2)]),
    st.tuples(st.integers(2, 4), st.integers(2, 4)),
    st.integers(0, 1000),
    float_types,
)
def test_each_picture_keeps_its_tiles(num_images, num_channels, split, tile, seed, dtype):
    per_side, tile_size = split
    tile_height, tile_width = tile
    images = numbered(num_images, num_channels, per_side * tile_height, per_side * tile_width).remainder(251).to(dtype)
    shuffled = shuffle_tiles(images, tile_size, generator(seed))
    assert shuffled.shape == images.shape
    for before, after in zip(images.tolist(), shuffled.tolist(), strict=True):
        assert Counter(reference.tiles(before, *tile)) == Counter(reference.tiles(after, *tile))


@pytest.mark.parametrize(("side", "tile_size"), [(10, 0.33), (7, 0.5), (9, 0.4), (8, 0.01), (5, 0.9)])
def test_a_tile_that_does_not_divide_the_picture_loses_no_pixel(side, tile_size):
    images = numbered(2, 2, side, side + 2)
    shuffled = shuffle_tiles(images, tile_size, generator())
    assert shuffled.shape == images.shape
    for before, after in zip(images, shuffled, strict=True):
        colours = [Counter(map(tuple, image.flatten(1).T.tolist())) for image in (before, after)]
        assert colours[0] == colours[1]


@pytest.mark.parametrize(("side", "pieces"), [(5, 5), (10, 5), (10, 10), (33, 3), (98, 49)])
def test_a_share_that_binary_cannot_write_still_divides_the_picture(side, pieces):
    # 98 * (1 / 49) is 1.9999999999999998: tiles of 2 pixels all the same.
    tile = side // pieces
    images = numbered(1, 1, side, side)
    shuffled = shuffle_tiles(images, 1 / pieces, generator())
    before, after = (Counter(reference.tiles(image.tolist()[0], tile, tile)) for image in (images, shuffled))
    assert before == after
    assert not torch.equal(shuffled, images)


def test_every_tile_is_as_likely_in_every_place():
    images, own = numbered(1, 1, 2, 2), generator()
    orders = Counter(tuple(shuffle_tiles(images, 0.5, own).flatten().int().tolist()) for _ in range(1200))
    assert len(orders) == 24
    assert sum((count - 50) ** 2 / 50 for count in orders.values()) < 58  # 23 degrees of freedom, probability 1e-4


def test_pictures_of_a_batch_are_shuffled_apart():
    images = numbered(1, 1, 4, 4).expand(32, 1, 4, 4)
    shuffled = shuffle_tiles(images, 0.25, generator())
    assert len({tuple(image.flatten().tolist()) for image in shuffled}) == 32


def test_the_shuffle_is_that_of_the_generator():
    images, own = numbered(2, 3, 8, 8), generator(3)
    first, second = (shuffle_tiles(images, 0.25, own) for _ in range(2))
    assert torch.equal(first, shuffle_tiles(images, 0.25, generator(3)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, images)


# high frequencies


@few
@given(pictures(), st.floats(0, 4) | st.integers(0, 4).map(float))
def test_radial_mask_keeps_the_frequencies_within_the_radius(images, radius):
    wanted = [[reference.radial_mask(channel, radius) for channel in image] for image in images.tolist()]
    result = radial_mask(images, radius)
    assert result.shape == images.shape
    assert_pictures_match(result, torch.tensor(wanted, dtype=torch.float64), images.dtype)


@pytest.mark.parametrize("size", [16, 15])
def test_the_radius_is_in_frequency_indices_and_includes_itself(size):
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    wave = torch.cos(2 * math.pi * (3 * y + 4 * x) / size).reshape(1, 1, size, size)  # of frequency (3, 4)
    torch.testing.assert_close(radial_mask(wave, 5), wave, rtol=0, atol=1e-6)
    torch.testing.assert_close(radial_mask(wave, 4.999), torch.zeros_like(wave), rtol=0, atol=1e-6)


def test_the_mask_applies_to_both_sides_of_a_long_picture_alike():
    # Frequency 3 along the short side and along the long side: a mask relative to the sides would part them.
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(32.0), indexing="ij")
    waves = torch.stack([torch.cos(2 * math.pi * 3 * y / 8), torch.cos(2 * math.pi * 3 * x / 32)]).unsqueeze(1)
    torch.testing.assert_close(radial_mask(waves, 3), waves, rtol=0, atol=1e-5)
    torch.testing.assert_close(radial_mask(waves, 2.9), torch.zeros_like(waves), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (5, 8), (8, 7), (9, 1), (6, 6)])
@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3])
def test_the_mask_is_centred_on_the_zero_frequency_for_odd_sides_too(height, width, radius):
    """By the whole spectrum, shifted so that the zero frequency is at (H // 2, W // 2)."""
    image = torch.rand(1, 2, height, width, generator=generator(), dtype=torch.float64)
    y, x = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    within = (y[:, None].double().square() + x.double().square()).sqrt() <= radius
    spectrum = torch.fft.fftshift(torch.fft.fft2(image), dim=(2, 3)) * within
    found = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(2, 3)))
    if height % 2 and width % 2:
        assert found.imag.abs().max() < 1e-12, "the mask is symmetric"
    torch.testing.assert_close(radial_mask(image, radius), found.real)


def orders_of(size: int, index: torch.Tensor | None = None) -> list[tuple[int, ...]]:
    """The order of four tiles in each of several pictures."""
    images = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(size, 1, 1, 1)
    with nullcontext() if index is None else of_examples(index):
        return [tuple(image.flatten().int().tolist()) for image in shuffle_tiles(images, 0.5)]


def test_by_default_each_example_has_one_draw_of_its_own():
    """By its index, in whatever batch; and each of the 24 orders is as likely as any other."""
    size = 4800
    alone = orders_of(size)
    counts = Counter(alone)
    assert len(counts) == 24
    assert all(abs(count - 200) < 5 * math.sqrt(200 * 23 / 24) for count in counts.values())
    index = torch.randperm(size, generator=generator(1))
    for part in index.split(700):
        assert orders_of(len(part), part) == [alone[i] for i in part.tolist()]
    assert orders_of(size) == alone
    neighbours = sum(one == other for one, other in pairwise(alone))
    assert abs(neighbours - size / 24) < 5 * math.sqrt(size / 24)
    large = orders_of(3, torch.tensor([0, 2**40, 2**62]))
    assert large[0] == alone[0]


def test_where_a_batch_is_not_of_the_examples_at_hand_it_draws_by_position():
    with of_examples(torch.tensor([7, 8])):
        assert orders_of(5) == orders_of(5)
    assert orders_of(5, torch.tensor([7, 8])) == orders_of(5)
