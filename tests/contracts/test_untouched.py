"""Contract 1: a fit leaves the same weights, buffers, optimizer, losses and RNG states, to the bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback
from tests.contracts.cases import CALLBACKS, EVERYTHING, SELECTIONS, TRAININGS
from tests.resuming import Plain, Resumable
from tests.small import Net, Points, assert_identical, fitted, loader, recorded, trainer

PAIRS = [*((training, "everything") for training in TRAININGS), *(("augmented", case) for case in CALLBACKS)]


@pytest.mark.parametrize(("training", "case"), dict.fromkeys(PAIRS))
def test_bit_identical_with_and_without_the_callback(training: str, case: str, tmp_path: Path) -> None:
    hard, results = TRAININGS[training], []
    for callbacks in ([], CALLBACKS[case].callbacks(tmp_path)):
        seed_everything(11, verbose=False)
        results.append(fitted(hard.module("adam"), hard.data(), callbacks, **hard.options))
    assert_identical(results[0], results[1])
    assert recorded(tmp_path), "the callback must have observed something"


@pytest.mark.parametrize("case", SELECTIONS)
def test_a_callback_that_observes_everything_changes_no_selected_training(case: str, tmp_path: Path) -> None:
    results, selected = [], SELECTIONS[case]
    for name, options in (("as it is", selected.options), ("everything", {**(selected.options or {}), **EVERYTHING})):
        seed_everything(11, verbose=False)
        case_of_options = selected._replace(options=options)
        callbacks, data = case_of_options.callbacks(tmp_path / name), case_of_options.data(Resumable())
        results.append(fitted(Plain(), data, callbacks, max_epochs=4))
    assert_identical(results[0], results[1])
    assert recorded(tmp_path / "everything")


class Users(Points):
    """Cannot be copied, and asks its worker for itself."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise copy.Error("on purpose")

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        info = torch.utils.data.get_worker_info()
        assert info is None or isinstance(info.dataset, Users)
        return super().__getitem__(index)


def check_worker(worker_id: int) -> None:
    assert isinstance(torch.utils.data.get_worker_info().dataset, Users)


class CheckLoader(Callback):
    def __init__(self, data: DataLoader, dataset: Points) -> None:
        self.data, self.dataset = data, dataset

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        assert trainer.train_dataloader is self.data
        assert isinstance(self.data, DataLoader)
        assert self.data.dataset is self.dataset


@pytest.mark.parametrize("options", [{}, {"num_workers": 1, "worker_init_fn": check_worker}], ids=["alone", "a worker"])
def test_loader_and_data_set_stay_the_users(options: dict[str, Any], tmp_path: Path) -> None:
    dataset = Users()
    data = loader(dataset, **options)
    before = dict(vars(data))
    trainer(callbacks=[CheckLoader(data, dataset), EasinessCallback(tmp_path)]).fit(Net(), data)
    assert (type(data), vars(data)) == (DataLoader, before)
