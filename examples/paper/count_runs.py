"""What the scripts on the 2018 text share: its networks, trained for the first few epochs, and altered images.

The text does not say after how many epochs m easiness is measured, nor from how many trials. Ours are in each script.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from data_sets import FORMS
from device_data import HeldPictures
from experiment import Experiment
from training import Training

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.functional import interpolate_grey, pattern_series, radial_mask, shuffle_tiles

NETWORKS = {  # by data set, as in Table 1
    "cifar-10": ("mlp", "wrn-16-4", "densenet-bc-12-100", "resnext-29-4x64d"),
    "mini-imagenet": ("mlp", "alexnet", "vgg11", "vgg11-bn", "resnet-18", "densenet-121"),
}
REFERENCE = {"cifar-10": "wrn-16-4", "mini-imagenet": "resnet-18"}  # of Figures 1 to 4
NAMES = {
    "mlp": "MLP",
    "wrn-16-4": "WRN",
    "densenet-bc-12-100": "DenseNet-BC",
    "resnext-29-4x64d": "ResNeXt",
    "alexnet": "AlexNet",
    "vgg11": "VGG",
    "vgg11-bn": "VGG-BN",
    "resnet-18": "ResNet",
    "densenet-121": "DenseNet",
}
EARLY = {  # the trainings that easiness is measured by
    "small": {"data": ["cifar-10"], "seeds": 4, "epochs": 4, "size": 4000, "image_size": 16, "batch_size": 64,
              "widths": {"mlp": 0.25, "wrn-16-4": 0.25, "densenet-bc-12-100": 0.125, "resnext-29-4x64d": 0.0625}},
    "full": {"data": ["cifar-10", "mini-imagenet"], "seeds": 20, "epochs": 10, "size": None, "image_size": None,
             "batch_size": None, "widths": {}},
}  # fmt: skip


def early_trainings(
    setting: SimpleNamespace, networks: dict[str, tuple[str, ...]] | None = None
) -> dict[str, Training]:
    """Return a training for each network of each data set, by "<data>-<network>", of 300 epochs that ends early."""
    return {
        f"early-{data}-{name}": Training(
            name,
            data,
            "count",
            setting.epochs,
            scheduled=300,
            batch_size=setting.batch_size or (128 if data == "cifar-10" else 64),
            width=setting.widths.get(name, 1.0),
            size=setting.size,
            image_size=setting.image_size,
        )
        for data in setting.data
        for name in (networks or NETWORKS)[data]
    }


def of_reference(setting: SimpleNamespace) -> dict[str, Training]:
    """Return the training of the text's reference network alone, for each data set."""
    return early_trainings(setting, {data: (name,) for data, name in REFERENCE.items()})


def patterns(side: int) -> dict[str, Callable[..., Any]]:
    """Return the altered images of Figure 2 for images of this side, by name.

    The network sees them after normalisation; grey is then still the mean of the three channels.
    """
    return {
        **pattern_series("grey", interpolate_grey, (0, 0.25, 0.5, 0.75, 1)),
        **pattern_series("tiles", shuffle_tiles, (0.125, 0.25, 0.5, 1)),
        **pattern_series(
            "radius", radial_mask, [side * share for share in (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)]
        ),
    }


def early_record(experiment: Experiment, data: str, name: str) -> EasinessRecord:
    """Train a network of a data set early, once per seed; the reference network also sees altered images at the end."""
    training = f"early-{data}-{name}"
    side = experiment.setting.image_size or FORMS[data].image_size
    shown = patterns(side) if name == REFERENCE.get(data) else None
    return experiment.repeat(training, lambda: EasinessCallback(patterns=shown, num_images=0, probe_batch_size=500))


def limit_test(experiment: Experiment, training: str, size: int | None) -> None:
    """Use only the first test examples of a training, where the setting says so."""
    held = experiment.data(training)
    if size is not None:
        held.test = HeldPictures(held.test.images[:size], held.test.targets[:size], held.test.classes)
