"""torchdata's StatefulDataLoader under any selection: stopped within an epoch and resumed equals never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader

from lightning_easiness.data.merged import merged_loader
from lightning_easiness.select.choice import Choice, mean_factor
from tests.contracts.cases import CALLBACKS, SELECTIONS
from tests.resuming import BATCH, SIZE, Plain, Stop
from tests.selecting import IndexedPoints, Numbered, Sizes, refusal
from tests.selecting import fit as selected_fit
from tests.small import assert_identical, recorded, trainer

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # by its loader

torchdata = pytest.importorskip("torchdata.stateful_dataloader")

CASES = {"everything": CALLBACKS["everything"], **SELECTIONS}
EPOCHS = 5
# epoch and batch, or the last batch but one: from the last one Lightning goes on otherwise (docs/distributed.md)
STOPS = [(0, 0), (1, 1), (2, 0)]


class CountsReads(IndexedPoints):
    """Shows each example otherwise whenever one is read, by a number that is a part of the loader's state."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.num_reads = 0

    def __getitem__(self, index: int) -> Any:
        (x, y), self.num_reads = super().__getitem__(index), self.num_reads + 1
        x[:8] += 0.01 * self.num_reads
        return x, y

    def state_dict(self) -> dict[str, int]:
        return {"num_reads": self.num_reads}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.num_reads = state["num_reads"]


def loader(dataset: Any = None, **options: Any) -> Any:
    dataset = IndexedPoints(SIZE) if dataset is None else dataset
    return torchdata.StatefulDataLoader(dataset, **{"batch_size": BATCH, "shuffle": True, **options})


def fit(case: str, folder: Path, stop: Stop | None = None, ckpt_path: Path | None = None, **loading: Any) -> Plain:
    seed_everything(0, verbose=False)
    callbacks = CASES[case].callbacks(folder, run="only")
    module, made = Plain(), trainer(max_epochs=EPOCHS, callbacks=[*callbacks, *([] if stop is None else [stop])])
    made.fit(module, ckpt_path=ckpt_path, **CASES[case].data(loader(**loading)))
    return module


def series_in(folder: Path) -> dict[str, Any]:
    return {name: kept for name, kept in recorded(folder).items() if "trained-on" not in name}


def assert_goes_on(case: str, stops: list[tuple[int, int]], folder: Path, loading: Any = dict) -> None:
    whole = fit(case, folder / "whole", **loading())
    for number, (epoch, batch) in enumerate(stops):
        last = sum(at == epoch for at, *_ in whole.batches) - 1
        assert last > 0
        stop, record = Stop(folder / f"{number}.ckpt", epoch, min(batch, last - 1)), folder / str(number)
        with pytest.raises(InterruptedError):
            fit(case, record, stop, **loading())
        module = fit(case, record, ckpt_path=stop.path, **loading())
        done = len(whole.steps) - len(module.steps)
        assert done > 0
        assert_identical(module.steps, whole.steps[done:])
        assert_identical(module.state_dict(), whole.state_dict())
        assert_identical(*(series_in(place) for place in (record, folder / "whole")))


@pytest.mark.parametrize("case", CASES)
def test_stopped_within_an_epoch(case: str, tmp_path: Path) -> None:
    assert_goes_on(case, STOPS, tmp_path)


@pytest.mark.parametrize("case", ["OrderDP", "InfoBatch"])
def test_resumed_from_the_last_batch_the_next_epoch_is_chosen_alike(case: str, tmp_path: Path) -> None:
    """Its order is another one, and no epoch is skipped."""
    whole, stop = fit(case, tmp_path / "whole"), Stop(tmp_path / "last.ckpt", 1, -1)
    with pytest.raises(InterruptedError):
        fit(case, tmp_path / "resumed", stop)
    module = fit(case, tmp_path / "resumed", ckpt_path=stop.path)
    assert [at for at, *_ in module.batches] == [at for at, *_ in whole.batches if at > 1]
    drawn = [sorted(i for at, indices, _ in made.batches if at == 2 for i in indices) for made in (module, whole)]
    assert drawn[0] == drawn[1]


LOADERS: dict[str, Callable[[], dict[str, Any]]] = {
    "in order": lambda: {"shuffle": False},
    "drop last": lambda: {"drop_last": True},
    "workers": lambda: {"num_workers": 2},
    "a data set with a state": lambda: {"dataset": CountsReads()},
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("case", ["Ablation", "growing"])
def test_loaders_of_any_kind(case: str, kind: str, tmp_path: Path) -> None:
    assert_goes_on(case, [(2, 0)], tmp_path, LOADERS[kind])


@pytest.mark.parametrize("given", ["sampler", "batch_sampler"])
def test_a_sampler_that_cannot_be_kept_is_an_error_before_training(given: str) -> None:
    options = {"sampler": [*range(SIZE)]} if given == "sampler" else {"batch_sampler": [[0, 1], [2, 3]]}
    made = torchdata.StatefulDataLoader(IndexedPoints(SIZE), **options)
    assert refusal(TypeError, made, Sizes([SIZE, 20])) == (
        "EasinessDataModule cannot tell what list would draw from a part of the data set; give it a method"
        " `for_selection(selected)` that returns a sampler of positions 0 to len(selected) - 1 (`selected.indices` are"
        " their examples), or use shuffle=True."
    )


@pytest.mark.parametrize("given", ["sampler", "batch_sampler"])
def test_torchdatas_own_samplers_draw_from_a_selection(given: str) -> None:
    samplers = pytest.importorskip("torchdata.stateful_dataloader.sampler")
    draws = samplers.RandomSampler(IndexedPoints(SIZE))
    batches = {"sampler": draws, "batch_size": BATCH} if given == "sampler" else {}
    options = batches or {"batch_sampler": samplers.BatchSampler(draws, BATCH, False)}
    made = torchdata.StatefulDataLoader(IndexedPoints(SIZE), **options)
    module, _ = selected_fit(made, Sizes([SIZE, 20, 30]), max_epochs=3)
    assert [len(set(module.epoch(epoch))) for epoch in range(3)] == module.lengths(3) == [SIZE, 20, 30]


def test_means_of_weighted_epochs_are_as_with_torchs_own_loader() -> None:
    choice, points = Choice(0, 250, torch.arange(130)), IndexedPoints(250)
    plain = DataLoader(points, batch_size=64, shuffle=True)
    factors = [mean_factor(None, made, choice, 0) for made in (loader(points, batch_size=64), plain)]
    assert factors == [pytest.approx((4 / 250) / (3 / 130))] * 2


@pytest.mark.parametrize("shuffle", [True, False])
def test_validation_examples_are_trained_on_too(shuffle: bool) -> None:
    made = merged_loader(loader(Numbered(20), shuffle=shuffle), loader(Numbered(9, first=20)))
    assert type(made) is torchdata.StatefulDataLoader
    drawn = [int(index) for x, _ in made for index in x[:, 8]]
    assert sorted(drawn) == list(range(29))
    assert (drawn == sorted(drawn)) is not shuffle
