"""Warnings that depend on the machine and say nothing about this package; pyproject.toml lists the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from lightning_utilities.core.inheritance import get_all_subclasses
from torch.utils.data import BatchSampler, DataLoader

from tests.quick import do_not_wait_for_the_disk, keep_what_is_imported, look_for_plugins_once

pytest.register_assert_rewrite("tests.plain_forward", "tests.refusing")
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

_NOISE = (
    # torch's advice about the number of workers goes by the machine's cores
    "ignore:This DataLoader will create \\d+ worker processes",
    # the tests train on the CPU, on machines with a GPU too
    "ignore:GPU available but not used",
    # Python 3.12 and later say so when a loader's workers are forked
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning",
    # checkpoints beside a record, or beside those of the fit that is resumed
    "ignore:Checkpoint directory .* exists and is not empty",
)


def pytest_configure(config: pytest.Config) -> None:
    do_not_wait_for_the_disk()
    look_for_plugins_once()
    torch.set_num_threads(1)  # as in the processes that tests start: sums of several threads differ in the last bit
    for entry in _NOISE:
        config.addinivalue_line("filterwarnings", entry)


def pytest_collection_finish() -> None:
    keep_what_is_imported()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest tests come first where several processes share them, so that none is left with one at the end."""
    if hasattr(config, "workerinput"):
        long = ("slow", "multiprocess")
        items.sort(key=lambda item: not any(map(item.get_closest_marker, long)))


@pytest.fixture(autouse=True)
def no_seed_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """`seed_everything` leaves the seed in the environment, where the next test's run would take its name from."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "")  # so that it is put back after the test, whoever sets it
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Scripts leave out what Lightning logs of each training, and a test may run them in this process."""
    logger, disabled = logging.getLogger("lightning.pytorch"), logging.root.manager.disable
    level = logger.level
    yield
    logger.setLevel(level)
    logging.disable(disabled)


@pytest.fixture(autouse=True)
def without_lightnings_traces() -> Iterator[None]:
    """Lightning patches loader classes while it asks for a loader, and leaves them so when that raises an error."""
    names = ("__init__", "__setattr__", "__delattr__")
    classes = get_all_subclasses(DataLoader) | get_all_subclasses(BatchSampler) | {DataLoader, BatchSampler}
    before = {kind: {name: vars(kind)[name] for name in names if name in vars(kind)} for kind in classes}
    yield
    for kind, methods in before.items():
        for name in names:
            if f"__old{name}" in vars(kind):
                delattr(kind, f"__old{name}")
            if name in methods:
                setattr(kind, name, methods[name])
            elif name in vars(kind):
                delattr(kind, name)
