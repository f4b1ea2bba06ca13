"""Warnings that are the surroundings' and say nothing about this package; every other warning fails its test."""

from __future__ import annotations

import pytest

_NOISE = (
    # Lightning's and torch's advice about the number of workers depends on the machine's cores
    "ignore:The '\\w+_dataloader' does not have many workers",
    "ignore:This DataLoader will create \\d+ worker processes",
    # the tests train on the CPU, on machines with a GPU too
    "ignore:GPU available but not used",
    # few batches, by choice
    "ignore:The number of training batches .* is smaller than the logging interval",
    # Python 3.12 and later say so when a loader's workers are forked
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    for entry in _NOISE:
        config.addinivalue_line("filterwarnings", entry)
