"""Contract 1: a fit leaves the same weights, buffers, optimizer, losses and RNG states, to the bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
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


def test_loader_and_data_set_stay_the_users(tmp_path: Path) -> None:
    dataset = Points()
    data = loader(dataset)
    before = dict(vars(data))

    class Check(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            assert trainer.train_dataloader is data
            assert isinstance(data, DataLoader)
            assert data.dataset is dataset

    trainer(callbacks=[Check(), EasinessCallback(tmp_path)]).fit(Net(), data)
    assert vars(data) == before
    assert type(data) is DataLoader


class AsksItsWorker(Points):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        info = torch.utils.data.get_worker_info()
        assert info is None or isinstance(info.dataset, AsksItsWorker)
        return super().__getitem__(index)


def check_worker(worker_id: int) -> None:
    assert isinstance(torch.utils.data.get_worker_info().dataset, AsksItsWorker)


def test_a_worker_sees_the_users_data_set(tmp_path: Path) -> None:
    data = loader(AsksItsWorker(), num_workers=1, worker_init_fn=check_worker)
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Net(), data)


def test_compiled_module(tmp_path: Path) -> None:
    pytest.importorskip("torch._dynamo")
    results = []
    for callbacks in ([], [EasinessCallback(tmp_path)]):
        seed_everything(3, verbose=False)
        torch._dynamo.reset()
        module = Net()
        module.net = torch.compile(module.net, backend="eager")
        results.append(fitted(module, loader(), callbacks))
    assert_identical(results[0], results[1])
    assert EasinessRecord.load(tmp_path, series="train-online").count.sum() == 2 * 53


def test_device_hooks_see_no_training_in_an_evaluation_pass(tmp_path: Path) -> None:
    class Augments(Net):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            x, y = batch
            return (x + 100 if self.trainer.training else x), y

    module = Augments()
    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(module, loader())
    module.eval()
    points = Points()
    expected = nn.functional.cross_entropy(module(points.x), points.y, reduction="none")
    torch.testing.assert_close(EasinessRecord.load(tmp_path, "train-probe").loss[0, -1], expected.detach())


def test_a_data_set_that_cannot_be_copied(tmp_path: Path) -> None:
    class Uncopyable(Points):
        def __deepcopy__(self, memo: Any) -> Dataset:
            raise copy.Error("on purpose")

    trainer(callbacks=[EasinessCallback(tmp_path)]).fit(Net(), loader(Uncopyable()))
