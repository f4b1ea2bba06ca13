"""The trainings that the scripts loss_*.py share: those of "Empirical Study of Easy and Hard Examples in CNN Training".

Networks differ in their seeds, too: runs of one seed may see the examples in the same order, and match by that.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiment import Experiment
from training import Training

from lightning_easiness import EasinessRecord

# 4,000 pictures of half the side, and a tenth of the channels: minutes on one core of a CPU
SMALL: dict[str, Any] = {
    "seeds": 4, "epochs": 14, "early": 2, "size": 4000, "image_size": 16, "batch_size": 64,
    "widths": {"wrn-16-4": 0.25, "resnet-18": 0.125, "resnext-29-4x64d": 0.0625},
    "most_seeds": {"resnext-29-4x64d": 3},  # the slowest
}  # fmt: skip
FULL: dict[str, Any] = {
    "seeds": 10, "epochs": 300, "early": 10, "size": None, "image_size": None, "batch_size": 128,
    "widths": {"wrn-16-4": 1.0, "densenet-bc-12-100": 1.0, "resnext-29-4x64d": 1.0}, "most_seeds": {},
}  # fmt: skip
TITLES = {
    "wrn-16-4": "WRN-16-4",
    "densenet-bc-12-100": "DenseNet-BC",
    "resnext-29-4x64d": "ResNeXt-29",
    "alexnet": "AlexNet",
    "resnet-18": "ResNet-18",
    "resnet-50": "ResNet-50",
    "densenet-121": "DenseNet-121",
}


def training(network: str, setting: SimpleNamespace, data: str = "cifar-10") -> Training:
    """Return a training of the text: momentum SGD, 0.1 divided by 10 at half and at five sixths of the epochs."""
    return Training(
        network,
        data,
        "loss",
        setting.epochs,
        batch_size=setting.batch_size,
        width=setting.widths[network],
        size=setting.size,
        image_size=setting.image_size,
    )


def cifar_networks(setting: SimpleNamespace) -> dict[str, Training]:
    """Return the training of each network on CIFAR-10, by the name of its folder."""
    return {f"loss-{network}": training(network, setting) for network in setting.widths}


def records(experiment: Experiment) -> dict[str, EasinessRecord]:
    """Train each network under seeds of its own; return the records by the networks' titles."""
    return {TITLES[made.network]: record(experiment, name) for name, made in experiment.trainings.items()}


def record(experiment: Experiment, name: str) -> EasinessRecord:
    """Train one network under its own seeds."""
    network = experiment.trainings[name].network
    first, count = 100 * list(TITLES).index(network), len(experiment.seeds)
    count = min(count, experiment.setting.most_seeds.get(network, count))
    return experiment.repeat(name, seeds=range(first, first + count))
