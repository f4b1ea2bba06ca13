"""The networks of the texts have their published sizes, and those of torchvision their published outputs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision import models

from tests.examples import PAPER  # noqa: F401  (the path of networks)

import networks  # isort: skip

PRINTED = {  # millions, as their authors print them
    "wrn-16-4": 2.7, "densenet-bc-12-100": 0.8, "resnext-29-8x64d": 34.4, "alexnet": 61.1, "vgg11": 132.9,
    "vgg11-bn": 132.9, "vgg16": 138.4, "resnet-18": 11.7, "resnet-50": 25.6, "densenet-121": 8.0, "cnn-18m": 18,
}  # fmt: skip


@pytest.mark.parametrize("name", networks.SIZES)
def test_a_network_has_its_published_number_of_parameters(name: str) -> None:
    size = networks.SIZES[name]
    with torch.device("meta"):
        made = networks.network(name, size.num_classes, size.image_size, size.channels)
    networks.check_size(name, made)
    if name in PRINTED:  # cut off after the digit, or rounded
        millions = networks.num_parameters(made) / 1e6
        assert abs(millions - PRINTED[name]) < (0.5 if name == "cnn-18m" else 0.06)


def test_resnext_with_four_groups_has_the_structure_whose_size_is_published_for_eight() -> None:
    """Half of what is inside the nine blocks is left, and all of the rest."""
    with torch.device("meta"):
        four, eight = (networks.network(f"resnext-29-{groups}x64d") for groups in (4, 8))
    blocks = [part for part in four.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert [(conv.groups, conv.in_channels // conv.groups) for conv in blocks] == [
        (4, 64), (4, 64), (4, 64), (4, 128), (4, 128), (4, 128), (4, 256), (4, 256), (4, 256)
    ]  # fmt: skip

    def inner(module: nn.Module) -> int:
        named = module.named_parameters()
        return sum(weights.numel() for name, weights in named if re.search(r"\.(conv\d|bn[12])\.", name))

    assert inner(eight) == 2 * inner(four)
    assert networks.num_parameters(four) - inner(four) == networks.num_parameters(eight) - inner(eight)


THEIRS: dict[str, Callable[[], nn.Module]] = {
    "resnet-18": models.resnet18, "resnet-50": models.resnet50, "densenet-121": models.densenet121,
}  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_with_torchvisions_weights_a_network_returns_what_torchvisions_returns(name: str) -> None:
    theirs, own = THEIRS[name]().eval(), networks.network(name, 1000, 224).eval()
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(own(x), theirs(x))


@pytest.mark.parametrize(("name", "make"), [("alexnet", models.AlexNet), ("vgg11-bn", models.vgg11_bn)])
def test_networks_written_in_a_row_have_torchvisions_layers(name: str, make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        theirs, own = make(), networks.network(name, 1000, 224)
    kinds = (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.BatchNorm2d, nn.Dropout, nn.AdaptiveAvgPool2d)
    listed = [
        [
            str(part).replace(", inplace=False", "").replace("inplace=True", "")
            for part in net.modules()
            if type(part) in kinds
        ]
        for net in (theirs, own)
    ]
    assert [line.replace("(7, 7)", "7").replace("(6, 6)", "6") for line in listed[0]] == listed[1]


@pytest.mark.parametrize("name", networks.NAMES)
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (28, 1)])
def test_a_narrow_network_takes_small_images(name: str, side: int, channels: int) -> None:
    narrow = networks.network(name, 7, side, channels, width=0.125)
    with torch.device("meta"):
        wide = networks.network(name, 7, side, channels)
    assert narrow.eval()(torch.randn(2, channels, side, side)).shape == (2, 7)
    assert networks.num_parameters(narrow) < 0.25 * networks.num_parameters(wide)


@pytest.mark.parametrize("name", sorted(set(networks.NAMES) - {"alexnet"}))
def test_all_but_alexnet_take_sixteen_pixels(name: str) -> None:
    assert networks.network(name, 10, 16, 3, width=0.125).eval()(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_a_network_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks._BUILDERS, "wrn-16-4", networks._BUILDERS["mlp"])
    networks._check_builder.cache_clear()
    with pytest.raises(
        SystemExit, match=r"wrn-16-4 must have 2,700,000 to 2,799,999 parameters, and this one has 4,084,010"
    ):
        networks.network("wrn-16-4")
    networks._check_builder.cache_clear()


def test_an_unknown_name_and_weights_of_a_narrow_network_are_refused() -> None:
    with pytest.raises(SystemExit, match="there is no network 'wrn': choose one of mlp, wrn-16-4"):
        networks.network("wrn")
    with pytest.raises(SystemExit, match="with width 1 and 3 channels"):
        networks.network("vgg16", width=0.5, pretrained=True)
