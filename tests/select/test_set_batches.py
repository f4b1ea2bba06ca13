"""SampleEasinessTraining within batches: what is removed from each, and that the record has what is left."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord, Needs, Selection, SelectionState
from lightning_easiness.observe.tasks import PROBE_FIELDS
from lightning_easiness.select.batches import rows_of
from tests.selecting import IndexedBase, IndexedPoints, Traces, logged
from tests.set_fits import NO_NOISE, SIGMA2, Batches, NoNorm, easiness_at, fit, fitted, level_of, seeded, training

# `Batches` has the hook to see what is removed from a batch
pytestmark = pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer` in `LightningModule`")

SIZE, EVERYTHING = 53, list(range(53))


MEDIUM, EASY, MEDIUM_AND_HARD = ("medium",), ("easy",), ("medium", "hard")


@pytest.mark.parametrize(
    ("names", "share", "workers"),
    [(MEDIUM, 0, 0), (MEDIUM, 0, 2), (MEDIUM_AND_HARD, 0, 0), (EASY, 0, 2), (MEDIUM, 0.2, 0), (MEDIUM, 0.2, 2)],
)
def test_each_batch_keeps_its_levels_at_its_weights(names: tuple[str, ...], share: float, workers: int) -> None:
    """Algorithm 1: of a batch from all examples train on those of the levels, and skip it where it has none.

    A single one gets another beside it, for batch norm. With a fraction of the others, weights make up for the draw.
    """
    module, rule = seeded(Batches), training(*names, per="batch", others_share=share, early_epochs=1)
    fit(rule, module, max_epochs=3, data=IndexedBase(num_workers=workers))
    assert len(module.whole) == 3 * 7
    removed, steps = 0, iter(module.steps)
    for epoch, before, state in module.whole:
        easiness = easiness_at(state)
        expected = [i for i in before if level_of(easiness[i]) in names] if epoch else before
        others = len(before) - len(expected)
        drawn = max(1, int(share * others + 0.5)) if share and others else 0
        if not expected and not drawn:
            continue
        same, after, losses, weight = next(steps)
        assert (epoch, len(losses)) == (same, len(after))
        assert set(expected) <= set(after) <= set(before)
        assert len(after) == min(len(before), max(2, len(expected) + drawn))
        assert after == [i for i in before if i in after], "in the batch's order"
        drawn = len(after) - len(expected)
        weights = [1.0 if i in expected else others / drawn for i in after]
        assert weight is None if share == 0 or epoch == 0 else weight.tolist() == pytest.approx(weights)
        removed += len(before) - len(after)
    assert next(steps, None) is None
    assert removed > 5
    for epoch in range(3):
        assert sorted(i for at, indices, _ in module.whole for i in indices if at == epoch) == EVERYTHING
    for _, indices, labels in module.batches:
        assert labels == IndexedPoints().y[indices].tolist(), "labels stay with their inputs"


@pytest.mark.parametrize(("minimum", "least"), [(1, 1), (5, 5), (100, 8)])
def test_the_minimum_of_a_batch(minimum: int, least: int) -> None:
    module = seeded(NoNorm)
    rule = training(early_epochs=1, per="batch", minimum=minimum)
    fit(rule, module, max_epochs=2, data=IndexedBase(drop_last=True), reader=NO_NOISE)
    assert {len(indices) for epoch, indices, _ in module.batches if epoch == 1} == {least}


@pytest.mark.parametrize(("workers", "online"), [(0, True), (2, True), (0, False)])
def test_the_record_holds_what_batches_kept_under_the_right_index(workers: int, online: bool, tmp_path: Path) -> None:
    """The fraction that they kept is logged each epoch."""
    module, logger = seeded(Batches), CSVLogger(tmp_path, name="", version="")
    callback = EasinessCallback(tmp_path / "record", every_n_epochs=1, online=online, sigma2=SIGMA2)
    data = IndexedBase(num_workers=workers)
    fit(training(per="batch", early_epochs=1), module, [callback], data, max_epochs=4, logger=logger)
    fractions = [pytest.approx(size / SIZE) for size in module.lengths(4)]
    assert callback.usage.data_use == fractions
    assert [row["easiness/selected_share"] for row in logged(tmp_path)] == fractions
    assert callback.usage.data_use[0] == 1 > callback.usage.data_use[-1]
    if not online:
        return
    record = EasinessRecord.load(tmp_path / "record", series="train-online")
    for epoch in range(4):
        assert record.count[0, epoch].tolist() == [module.epoch(epoch).count(i) for i in EVERYTHING]
        for at, indices, losses, _ in module.steps:
            if at == epoch:
                torch.testing.assert_close(record.loss[0, epoch, indices].float(), losses)


def test_an_epoch_says_how_many_of_its_batches_held_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    module = seeded(Batches)
    _, made = fitted(training(per="batch", early_epochs=1), module, max_epochs=2, reader=NO_NOISE)
    lines = [record.getMessage() for record in caplog.records if "of the batches'" in record.getMessage()]
    rule = "SampleEasinessTraining trained on"
    assert lines == [
        f"Epoch 0: {rule} 100.0% of the batches' 53 examples.",
        f"Epoch 1: {rule} 0.0% of the batches' 53 examples; 7 of 7 batches held none.",
    ]
    assert (made.global_step, len(module.steps), module.validations) == (7, 7, 2)


class Numbers(Selection):
    """Keeps what a selection gets for each batch."""

    needs = Needs(every="batch", passes=True)

    def __init__(self) -> None:
        self.states: list[SelectionState] = []

    def select(self, state: SelectionState) -> Tensor:
        state.observe()
        self.states.append(state)
        return torch.arange(state.num_examples) != 0


def test_what_a_selection_gets_for_a_batch() -> None:
    rule, module = Numbers(), seeded(Batches)
    fit(rule, module, max_epochs=2)
    numbers = [(state.epoch, state.batch, state.num_examples, state.max_epochs) for state in rule.states]
    assert numbers == [(epoch, batch, 5 if batch == 6 else 8, 2) for epoch in range(2) for batch in range(7)]
    for state, (_, before, _), (_, after, _, _) in zip(rule.states, module.whole, module.steps, strict=True):
        assert state.target.tolist() == IndexedPoints().y[before].tolist()
        assert set(state.observed) == {"prediction", *PROBE_FIELDS}
        assert after == before[1:]


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
def test_a_step_that_takes_batches_by_itself_is_refused() -> None:
    class Takes(Traces):
        def training_step(self, dataloader_iter: Iterator[Any]) -> Tensor:
            batch, batch_idx, _ = next(dataloader_iter)
            return super().training_step(batch, batch_idx)

    module = seeded(Takes)
    with pytest.raises(TypeError, match="dataloader_iter"):
        fit(training(per="batch", early_epochs=1), module, max_epochs=2)
    assert not module.batches


Pair = namedtuple("Pair", "x y")


def test_rows_of_what_batches_hold() -> None:
    x, kept = torch.arange(12).reshape(3, 4), torch.tensor([0, 2])
    batch = {"x": x, "y": [x, (x[:, 0], "name")], "names": ["a", "b", "c"], "pair": Pair(x, 3), "scale": x.sum()}
    found = rows_of(batch, kept, 3)
    assert torch.equal(found["x"], x[kept])
    assert torch.equal(found["y"][0], x[kept])
    assert found["y"][1][0].tolist() == [0, 8]
    assert (found["y"][1][1], found["names"], found["scale"]) == ("name", ["a", "c"], 66)
    assert isinstance(found["pair"], Pair)
    assert torch.equal(found["pair"].x, x[kept])
    assert torch.equal(batch["x"], x), "the batch itself stays whole"
    with pytest.raises(TypeError) as error:
        rows_of((x, object()), kept, 3)
    assert str(error.value) == (
        "Examples cannot be taken out of a batch that holds a object; select per='epoch', or let the loader give"
        " tensors, mappings, tuples and lists."
    )
