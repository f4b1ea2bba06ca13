"""The networks of the three texts by name, at full width or narrower, each checked against its published size.

The residual and dense networks are torchvision's classes with another stem; the rest is short enough to write. Images
of at most 64 pixels get a stem that keeps their resolution, as is usual; `pretrained` ones keep torchvision's stem.

`width` scales the number of channels. The texts do not say how wide the perceptron's layers are, nor what the two CNNs
are made of; those are ours, of the size that the text gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from data_sets import refuse
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

_LARGEST_SMALL = 64  # images up to this side keep their resolution in the stem


class Size(NamedTuple):
    """The published number of parameters of a network, as a range, and for what images and classes it holds."""

    least: int
    most: int
    num_classes: int
    image_size: int
    channels: int = 3


SIZES = {
    # Zagoruyko and Komodakis (2016) print 2.7 M for WRN-16-4; Huang et al. (2017) 0.8 M; Xie et al. (2017) 34.4 M and
    # 68.1 M for 8 and 16 groups of 64, whose structure with 4 groups has 17.6 M
    "wrn-16-4": Size(2_700_000, 2_799_999, 10, 32),
    "densenet-bc-12-100": Size(750_000, 849_999, 10, 32),
    "resnext-29-8x64d": Size(34_350_000, 34_449_999, 10, 32),
    # torchvision's page of each model
    "alexnet": Size(61_100_840, 61_100_840, 1000, 224),
    "vgg11": Size(132_863_336, 132_863_336, 1000, 224),
    "vgg11-bn": Size(132_868_840, 132_868_840, 1000, 224),
    "vgg16": Size(138_357_544, 138_357_544, 1000, 224),
    "resnet-18": Size(11_689_512, 11_689_512, 1000, 224),
    "resnet-50": Size(25_557_032, 25_557_032, 1000, 224),
    "densenet-121": Size(7_978_856, 7_978_856, 1000, 224),
    # "with 12k features" and "with 18M parameters" in the SEL text
    "cnn-12k": Size(11_500, 12_499, 10, 28, channels=1),
    "cnn-18m": Size(17_500_000, 18_499_999, 10, 32),
    # Page's "How to Train Your ResNet" (2018), whose network this is: 6.6 M
    "resnet-9": Size(6_550_000, 6_649_999, 10, 32),
}


def network(
    name: str,
    num_classes: int = 10,
    image_size: int = 32,
    channels: int = 3,
    *,
    width: float = 1.0,
    pretrained: bool = False,
) -> nn.Module:
    """Make a network for images (B, channels, image_size, image_size), which returns logits (B, num_classes).

    Args:
        name: One of `NAMES`.
        num_classes: Number of outputs.
        image_size: Side of the images in pixels.
        channels: 3 for colour and 1 for grey.
        width: Scale of the number of channels; 1 is the published network, whose size is checked.
        pretrained: Begin with torchvision's weights of ImageNet, at full width and for 3 channels; downloads them once.
    """
    if name not in NAMES:
        refuse(f"there is no network '{name}': choose one of {', '.join(NAMES)}.")
    if width == 1:
        _check_builder(name)
    if pretrained:
        return _pretrained(name, num_classes, channels, width)
    return _BUILDERS[name](num_classes, image_size, channels, width)


def num_parameters(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def check_size(name: str, module: nn.Module) -> None:
    """End the program unless a network, made for what `SIZES` says, has the published number of parameters."""
    size, found = SIZES[name], num_parameters(module)
    if not size.least <= found <= size.most:
        published = f"{size.least:,}" if size.least == size.most else f"{size.least:,} to {size.most:,}"
        refuse(f"{name} must have {published} parameters, and this one has {found:,}: it is another network.")


@cache
def _check_builder(name: str) -> None:
    for checked in ("resnext-29-8x64d",) if name == "resnext-29-4x64d" else (name,):
        if checked in SIZES:
            size = SIZES[checked]
            with torch.device("meta"):  # without memory
                made = _BUILDERS[checked](size.num_classes, size.image_size, size.channels, 1.0)
            check_size(checked, made)


def _scaled(channels: int, width: float, of: int = 1) -> int:
    """Return a scaled number of channels, at least 4 and a multiple of `of`."""
    return max(4, of, round(channels * width / of) * of)


# ------------------------------------------------------------------------------------------------------------ networks


def _mlp(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
    hidden = _scaled(1000, width)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * image_size**2, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, num_classes),
    )  # fmt: skip


class _WideBlock(nn.Module):
    """Two convolutions with norm and activation before each, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True), nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        before = self.before(x)
        kept = x if self.shortcut is None else self.shortcut(before)
        return kept + self.convolutions(before)


def _wide_resnet(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
    """Make WRN-16-4: three stages of two blocks, of 4 x 16, 32 and 64 channels."""
    stages = [_scaled(4 * base, width) for base in (16, 32, 64)]
    inputs = _scaled(16, min(1.0, 4 * width))  # the stem is not widened
    parts: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, padding=1, bias=False)]
    for outputs, stride in zip(stages, (1, 2, 2), strict=True):
        parts += [_WideBlock(inputs, outputs, stride), _WideBlock(outputs, outputs, 1)]
        inputs = outputs
    parts += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return _initialized(nn.Sequential(*parts, nn.Linear(inputs, num_classes)))


class _ScaledResNet(ResNet):
    """Torchvision's ResNet and ResNeXt with another width, stem and number of stages."""

    def __init__(
        self, block: Any, layers: list[int], num_classes: int, image_size: int, channels: int, width: float, **more: Any
    ) -> None:
        self.__dict__["_width"], self.__dict__["_group"] = width, more.get("groups", 1)
        super().__init__(block, [*layers, 1] if len(layers) == 3 else layers, **more)
        stem = _scaled(64, width, self._group)
        if image_size <= _LARGEST_SMALL:
            self.conv1, self.maxpool = nn.Conv2d(channels, stem, 3, padding=1, bias=False), nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, stem, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(stem)
        features = self.inplanes
        if len(layers) == 3:
            self.layer4, features = nn.Identity(), _scaled(256, width, self._group) * block.expansion
        self.fc = nn.Linear(features, num_classes)

    def _make_layer(self, block: Any, planes: int, *arguments: Any, **more: Any) -> nn.Sequential:
        if planes == 64:  # the first stage follows the stem
            self.inplanes = _scaled(64, self._width, self._group)
        return super()._make_layer(block, _scaled(planes, self._width, self._group), *arguments, **more)


def _resnet(block: Any, layers: list[int], **more: Any) -> Callable[..., nn.Module]:
    def build(*form: Any) -> nn.Module:
        return _ScaledResNet(block, layers, *form, **more)

    return build


def _densenet(growth: int, blocks: tuple[int, ...], first: int, *, bare_stem: bool = False) -> Callable[..., nn.Module]:
    """Return a builder of torchvision's DenseNet; a bare stem is one convolution without a norm."""

    def build(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
        inputs = _scaled(first, width)
        made = models.DenseNet(_scaled(growth, width), blocks, inputs, num_classes=num_classes)
        small = image_size <= _LARGEST_SMALL
        stem = {"kernel_size": 3, "padding": 1} if small else {"kernel_size": 7, "stride": 2, "padding": 3}
        made.features.conv0 = nn.Conv2d(channels, inputs, bias=False, **stem)
        nn.init.kaiming_normal_(made.features.conv0.weight)
        if small:
            made.features.pool0 = nn.Identity()
        if bare_stem:
            made.features.norm0, made.features.relu0 = nn.Identity(), nn.Identity()
        return made

    return build


_VGG = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
}  # fmt: skip


def _vgg(layers: int, *, batch_norm: bool = False) -> Callable[..., nn.Module]:
    """Return a builder of VGG as torchvision has it; a map of 1 x 1 is not enlarged to 7 x 7."""

    def build(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
        channels_of = [part if part == "M" else _scaled(int(part), width) for part in _VGG[layers]]
        features = models.vgg.make_layers(_poolable(channels_of, image_size), batch_norm)
        features[0] = nn.Conv2d(channels, channels_of[0], 3, padding=1)
        side = 7 if image_size > _LARGEST_SMALL else 1
        outputs, hidden = channels_of[-2], _scaled(4096, width)
        return nn.Sequential(
            _initialized(features), nn.AdaptiveAvgPool2d(side), nn.Flatten(),
            nn.Linear(outputs * side**2, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Dropout(), nn.Linear(hidden, num_classes),
        )  # fmt: skip

    return build


def _poolable(plan: list[Any], image_size: int) -> list[Any]:
    """Leave out the last poolings of images of less than 32 pixels, which would be left with none."""
    places = [place for place, part in enumerate(plan) if part == "M"][image_size.bit_length() - 1 :]
    return [part for place, part in enumerate(plan) if place not in places]


def _alexnet(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
    """Make AlexNet as torchvision has it, with a stride of 1 for small images."""
    one, two, three, four = (_scaled(base, width) for base in (64, 192, 384, 256))
    hidden, stride = _scaled(4096, width), 1 if image_size <= _LARGEST_SMALL else 4
    return nn.Sequential(
        nn.Conv2d(channels, one, 11, stride, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(one, two, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(two, three, 3, padding=1), nn.ReLU(), nn.Conv2d(three, four, 3, padding=1), nn.ReLU(),
        nn.Conv2d(four, four, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Dropout(), nn.Linear(four * 36, hidden), nn.ReLU(),
        nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, num_classes),
    )  # fmt: skip


def _cnn(stages: tuple[int, ...], hidden: int) -> Callable[..., nn.Module]:
    """Return a builder of stages of a convolution with norm, activation and pooling, then two linear layers."""

    def build(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
        inputs, parts = channels, []
        for stage in stages:
            outputs = _scaled(stage, width)
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        side = image_size // 2 ** len(stages)
        top = _scaled(hidden, width)
        parts += [nn.Flatten(), nn.Linear(inputs * side**2, top), nn.ReLU(), nn.Linear(top, num_classes)]
        return nn.Sequential(*parts)

    return build


class _Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*_convolved(channels, channels), *_convolved(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolutions(x)


def _convolved(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _resnet_9(num_classes: int, image_size: int, channels: int, width: float) -> nn.Module:
    """Make Page's fast network for CIFAR: four stages, the second and the last with a residual part."""
    one, two, three, four = (_scaled(base, width) for base in (64, 128, 256, 512))
    return nn.Sequential(
        *_convolved(channels, one), *_convolved(one, two), nn.MaxPool2d(2), _Residual(two),
        *_convolved(two, three), nn.MaxPool2d(2), *_convolved(three, four), nn.MaxPool2d(2), _Residual(four),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(four, num_classes, bias=False),
    )  # fmt: skip


def _initialized(module: Any) -> Any:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return module


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": _mlp,
    "wrn-16-4": _wide_resnet,
    "densenet-bc-12-100": _densenet(12, (16, 16, 16), 24, bare_stem=True),
    "resnext-29-4x64d": _resnet(Bottleneck, [3, 3, 3], groups=4, width_per_group=64),
    "resnext-29-8x64d": _resnet(Bottleneck, [3, 3, 3], groups=8, width_per_group=64),
    "alexnet": _alexnet,
    "vgg11": _vgg(11),
    "vgg11-bn": _vgg(11, batch_norm=True),
    "vgg16": _vgg(16),
    "resnet-18": _resnet(BasicBlock, [2, 2, 2, 2]),
    "resnet-50": _resnet(Bottleneck, [3, 4, 6, 3]),
    "densenet-121": _densenet(32, (6, 12, 24, 16), 64),
    "cnn-12k": _cnn((8, 16, 16), 54),
    "cnn-18m": _cnn((128, 256, 512), 2000),
    "cnn-small": _cnn((16, 32), 256),
    "resnet-9": _resnet_9,
}
NAMES = tuple(_BUILDERS)


def _pretrained(name: str, num_classes: int, channels: int, width: float) -> nn.Module:
    """Return torchvision's network with its weights of ImageNet and a new last layer."""
    if width != 1 or channels != 3 or name not in _WEIGHTS:
        refuse(f"pretrained weights are for {', '.join(_WEIGHTS)} with width 1 and 3 channels, and not for {name}.")
    make, weights, last = _WEIGHTS[name]
    made = make(weights=weights)
    holder, key = made.get_submodule(last.rpartition(".")[0]), last.rpartition(".")[2]
    setattr(holder, key, nn.Linear(made.get_submodule(last).in_features, num_classes))
    return made


_WEIGHTS: dict[str, tuple[Callable[..., nn.Module], str, str]] = {
    "vgg16": (models.vgg16, "IMAGENET1K_V1", "classifier.6"),
    "resnet-50": (models.resnet50, "IMAGENET1K_V1", "fc"),
    "densenet-121": (models.densenet121, "IMAGENET1K_V1", "classifier"),
}
