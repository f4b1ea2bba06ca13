"""A part that is held out enters no training: under any selection, sampler and way to load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, SubsetRandomSampler, WeightedRandomSampler

from lightning_easiness import (
    BatchReader,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    SampleEasinessTraining,
    Selected,
    Selection,
)
from lightning_easiness.functional import held_out_part
from tests.contracts.cases import HELD_OUT, SELECTIONS, level_counts
from tests.contracts.cases import trained as trained_cases
from tests.resuming import Resumable
from tests.selecting import HighestLoss, IndexedBase, IndexedPoints, Listed, Traces, over
from tests.set_fits import SIGMA2, Weighs
from tests.small import loader, trainer

SIZE = 53
PART = held_out_part(SIZE, 0, 0.3)
OUT, REST = (mask.nonzero()[:, 0].tolist() for mask in (PART, ~PART))


def holding_out(data: Any, selection: Selection | None = None, part: Tensor = PART, **options: Any) -> Any:
    made = EasinessDataModule(data, selection, **options)
    made.set_held_out(0.3, lambda size: part)
    return made


def trained(data: Any, module: Traces | None = None, **options: Any) -> Traces:
    module = Traces() if module is None else module
    trainer(**options).fit(module, datamodule=data)
    return module


def seen(module: Traces) -> set[int]:
    return {index for _, indices, _ in module.batches for index in indices}


# ------------------------------------------------------------------ selections


# counts are of what is trained on: those of all examples are refused
OF_THE_REST = {"SET by loss and the counts of another run": trained_cases(by="loss", level_counts=level_counts(37))}


@pytest.mark.parametrize("case", [name for name in SELECTIONS if name not in HELD_OUT])
def test_no_selection_trains_on_what_is_held_out_and_the_record_says_what_was_trained_on(
    tmp_path: Path, case: str
) -> None:
    found = {**SELECTIONS, **OF_THE_REST}[case]
    tried = found._replace(options=found.options or {}, hold_out=0.3)
    module, fit = Weighs(), trainer(max_epochs=5, callbacks=tried.callbacks(tmp_path))
    fit.fit(module, **tried.data(IndexedBase()))
    part = tried.part(SIZE)
    record = EasinessRecord.load(tmp_path)
    assert torch.equal(record.held_out[0], part)
    assert set(record.trained_on[0].nonzero()[:, 0].tolist()) == seen(module)
    assert not seen(module) & set(part.nonzero()[:, 0].tolist())
    assert len(seen(module)) > 5


OBSERVING: dict[str, Callable[[], Selection]] = {
    "highest loss": lambda: HighestLoss(0.5),
    "SET": lambda: SampleEasinessTraining(early_epochs=1),
    "SET by loss": lambda: SampleEasinessTraining(early_epochs=1, by="loss", rescore_every_n_epochs=2),
    "SET with weights": lambda: SampleEasinessTraining(early_epochs=1, others_share=0.4),
    "SET per batch": lambda: SampleEasinessTraining(early_epochs=1, per="batch", others_share=0.4),
}


@pytest.mark.parametrize("name", OBSERVING)
def test_a_decision_is_as_on_a_data_set_without_what_is_held_out(name: str) -> None:
    class Without(IndexedBase):
        def setup(self, stage: str) -> None:
            self.train = Subset(IndexedPoints(), REST)

    modules = []
    for data in (IndexedBase(), Without()):
        torch.manual_seed(1)
        selected = EasinessDataModule(data, OBSERVING[name](), reader=BatchReader(sigma2=SIGMA2))
        if not isinstance(data, Without):
            selected.set_held_out(0.3, lambda size: PART)
        modules.append(trained(selected, Weighs(), max_epochs=4))
    held_out, without = modules
    assert held_out.batches == without.batches
    assert len({epoch for epoch, *_ in without.batches}) == 4
    for left, right in zip(held_out.parameters(), without.parameters(), strict=True):
        torch.testing.assert_close(left, right)
    for (*_, weight), (*_, other) in zip(held_out.steps, without.steps, strict=True):
        assert (weight is None) == (other is None)
        assert weight is None or torch.equal(weight, other)


class NotesStates(HighestLoss):
    """Keeps the states that it is asked with."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.states: list[Any] = []

    def select(self, state: Any) -> Any:
        self.states.append(state)
        return Selected(super().select(state), labels=torch.where(torch.arange(state.num_examples) % 2 == 0, 3, -1))


def test_a_selection_that_observes_is_told_which_examples_it_sees() -> None:
    selection = NotesStates()
    module = trained(holding_out(IndexedBase(), selection))
    for state in selection.states:
        assert state.num_examples == len(REST)
        assert state.examples.tolist() == REST
        assert state.target.tolist() == IndexedPoints().y[REST].tolist()
        assert {len(values) for values in state.observed.values()} == {len(REST)}
    own = IndexedPoints().y.tolist()
    for _, indices, labels in module.batches:
        assert labels == [3 if REST.index(index) % 2 == 0 else own[index] for index in indices]


@pytest.mark.parametrize("chosen", [OUT, OUT[:1], []], ids=["all of the part", "one of it", "nothing"])
def test_what_is_drawn_for_an_empty_epoch_is_not_of_the_part(chosen: list[int]) -> None:
    module = trained(holding_out(IndexedBase(), Listed(*[torch.tensor(chosen, dtype=torch.int64)] * 2)))
    assert module.lengths(2) == [2, 2], "batch norm refuses one"
    assert seen(module) <= set(REST)


def test_a_minimum_of_more_than_is_left_takes_what_is_left() -> None:
    module = trained(holding_out(IndexedBase(), Listed(range(2), range(2), minimum=SIZE)))
    assert [sorted(module.epoch(epoch)) for epoch in (0, 1)] == [REST, REST]


def test_a_selection_of_nothing_but_the_part_is_refused() -> None:
    message = r"^Keep keeps no example that the loader's RandomSampler draws and that is not held out; select from"
    with pytest.raises(ValueError, match=message):
        trained(holding_out(IndexedBase(), Keep(OUT)))


# ------------------------------------------------------------------ loaders


def of_lists() -> DataLoader[Any]:
    """Reads whole batches by lists of indices."""

    class Whole(IndexedPoints):
        def __getitem__(self, index: Any) -> Any:
            if isinstance(index, int):
                return super().__getitem__(index)
            rows = [super(Whole, self).__getitem__(one) for one in index]
            return torch.stack([x for x, _ in rows]), torch.tensor([y for _, y in rows])

    data = Whole()
    return DataLoader(data, batch_size=None, sampler=BatchSampler(RandomSampler(data), 8, drop_last=False))


LOADERS: dict[str, Callable[[], Any]] = {
    "in order": lambda: loader(IndexedPoints(), shuffle=False),
    "workers": lambda: loader(IndexedPoints(), num_workers=2, persistent_workers=True),
    "drop last": lambda: loader(IndexedPoints(), drop_last=True),
    "subset sampler": lambda: over(SubsetRandomSampler(range(10, 50))),
    "weighted sampler": lambda: over(WeightedRandomSampler([1.0, 3.0, 0.5] * 17 + [1.0] * 2, 60)),
    "half of the draws": lambda: over(RandomSampler(range(SIZE), num_samples=26)),
    "batch sampler": lambda: DataLoader(
        IndexedPoints(), batch_sampler=BatchSampler(RandomSampler(range(SIZE)), 8, drop_last=False)
    ),
    "batches of lists": of_lists,
    "the user's sampler": Resumable,
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_of_any_kind(name: str) -> None:
    if name == "the user's sampler":
        assert hasattr(Resumable().batch_sampler, "for_selection")
    module = trained(holding_out(LOADERS[name]()))
    allowed = set(REST) & set(range(10, 50)) if name == "subset sampler" else set(REST)
    assert seen(module) <= allowed
    assert len(seen(module)) > 15


def test_the_users_sampler_without_for_selection_is_refused() -> None:
    class Own(RandomSampler):
        pass

    with pytest.raises(TypeError, match=r"cannot tell what Own would draw .*`for_selection\(selected\)`"):
        trained(holding_out(over(Own(range(SIZE)))))


def test_a_last_batch_of_a_single_example_gets_a_repeat_and_nothing_else_is_left_out(tmp_path: Path) -> None:
    part = torch.zeros(SIZE, dtype=torch.bool)
    part[:4] = True  # 49 are left, which are 6 batches of 8 and an example, at which batch norm raises an error
    tried = HELD_OUT["held out"]
    module, fit = Traces(), trainer(callbacks=tried.callbacks(tmp_path))
    fit.fit(module, datamodule=holding_out(IndexedBase(), part=part))
    assert module.lengths(2) == [50, 50]
    assert seen(module) == set(range(4, SIZE)) == set(module.epoch(0))
    record = EasinessRecord.load(tmp_path)
    assert torch.equal(record.held_out[0], part)
    assert torch.equal(record.trained_on[0], ~part)


def test_outside_a_fit_the_loader_is_without_the_part() -> None:
    batches = holding_out(loader(IndexedPoints())).train_dataloader()
    assert sorted(int(index) for x, _ in batches for index in x[:, 8]) == REST


def test_the_datamodule_trains_on_everything_again_afterwards() -> None:
    data = EasinessDataModule(loader(IndexedPoints()))
    data.set_held_out(0.3, lambda size: PART)
    assert len(seen(trained(data))) == len(REST)
    data.set_held_out(None, None)
    assert len(seen(trained(data))) == SIZE
