"""SampleEasinessTraining within batches: what is taken out of each, and that the record knows."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessRecord,
    SampleEasinessTraining,
    Selection,
)
from lightning_easiness.select.base import SelectionState
from lightning_easiness.select.batches import rows_of
from tests.selecting import IndexedPoints, Traces
from tests.set_fits import (
    SIGMA2,
    Batches,
    IndexedBase,
    assert_clear,
    easiness_loop,
    fit,
    level_of,
    logits_at,
    seeded,
    training,
)

# `Batches` has the hook to see what is taken out of a batch
pytestmark = pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer` in `LightningModule`")

SIZE, EVERYTHING = 53, list(range(53))


# ------------------------------------------------------------------------------------------------------- per batch


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("names", [("medium",), ("medium", "hard"), ("easy",)], ids="+".join)
def test_each_batch_keeps_its_levels_at_its_weights(names: tuple[str, ...], workers: int) -> None:
    """Algorithm 1: of a batch from all examples train on those of the levels; two at least, for batch norm."""
    module = seeded(Batches)
    fit(training(*names, per="batch", early_epochs=1), module, max_epochs=3, data=IndexedBase(num_workers=workers))
    assert len(module.whole) == len(module.steps) == 3 * 7
    taken_out = 0
    for (epoch, before, state), (same, after, losses, weight) in zip(module.whole, module.steps, strict=True):
        assert epoch == same
        assert weight is None
        assert len(losses) == len(after)
        if epoch == 0:
            assert after == before
            continue
        easiness = easiness_loop(logits_at(state)[before], IndexedPoints().y[before])
        assert_clear(easiness)
        expected = [i for i, value in zip(before, easiness, strict=True) if level_of(value) in names]
        assert set(expected) <= set(after) <= set(before)
        assert len(after) == min(len(before), max(2, len(expected)))
        assert after == [i for i in before if i in after], "in the batch's order"
        taken_out += len(before) - len(after)
    assert taken_out > 5
    for epoch in range(3):
        assert sorted(i for at, indices, _ in module.whole for i in indices if at == epoch) == EVERYTHING


def test_labels_stay_with_their_inputs() -> None:
    module = seeded(Batches)
    fit(training(per="batch", early_epochs=1), module, max_epochs=3)
    for _, indices, labels in module.batches:
        assert labels == IndexedPoints().y[indices].tolist()


@pytest.mark.parametrize(("minimum", "least"), [(None, 2), (1, 1), (5, 5), (100, 8)])
def test_the_minimum_of_a_batch(minimum: int | None, least: int) -> None:
    class NoBatchNorm(Traces):
        def __init__(self, optimizer: str) -> None:
            super().__init__(optimizer)
            self.net[1] = nn.Identity()

    module = seeded(NoBatchNorm)
    rule = SampleEasinessTraining(early_epochs=1, per="batch", minimum=minimum)
    fit(rule, module, max_epochs=2, data=IndexedBase(drop_last=True), wrapped={"reader": BatchReader(sigma2=1e-14)})
    assert {len(indices) for epoch, indices, _ in module.batches if epoch == 1} == {least}


def test_the_record_holds_what_batches_kept_under_the_right_index(tmp_path: Path) -> None:
    for workers in (0, 2):
        module = seeded(Batches)
        callback = EasinessCallback(tmp_path / str(workers), every_n_epochs=1, sigma2=SIGMA2)
        fit(
            training(per="batch", early_epochs=1),
            module,
            [callback],
            max_epochs=4,
            data=IndexedBase(num_workers=workers),
        )
        online = EasinessRecord.load(tmp_path / str(workers), series="train-online")
        for epoch in range(4):
            trained = [i for at, indices, _, _ in module.steps for i in indices if at == epoch]
            assert online.count[0, epoch].tolist() == [trained.count(i) for i in EVERYTHING]
            for at, indices, losses, _ in module.steps:
                if at == epoch:
                    torch.testing.assert_close(online.loss[0, epoch, indices].float(), losses)
        assert callback.usage.data_use == [pytest.approx(len(set(module.epoch(epoch))) / SIZE) for epoch in range(4)]
        assert callback.usage.data_use[0] == 1 > callback.usage.data_use[-1]


def test_the_callback_leaves_a_training_within_batches_as_it_is(tmp_path: Path) -> None:
    runs = []
    observers = (
        EasinessCallback(tmp_path / "a", every_n_epochs=1, at_steps=(3,), sigma2=SIGMA2),
        EasinessCallback(tmp_path / "b", every_n_epochs=1, sigma2=SIGMA2),
    )
    for callbacks in ([], [observers[0]], [observers[1]]):
        module = seeded(Batches)
        fit(training(per="batch", early_epochs=1, others_share=0.3), module, callbacks, max_epochs=3)
        runs.append((module.batches, module.state_dict()))
    for batches, weights in runs[1:]:
        assert batches == runs[0][0]
        assert all(torch.equal(value, runs[0][1][name]) for name, value in weights.items())


def test_the_share_that_batches_kept_is_logged_each_epoch(tmp_path: Path) -> None:
    module = seeded(Batches)
    logger = CSVLogger(tmp_path, name="", version="")
    fit(training(per="batch", early_epochs=1), module, max_epochs=4, logger=logger)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    named = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    shares = [float(row["easiness/selected_share"]) for row in named if row.get("easiness/selected_share")]
    assert shares == [pytest.approx(len(module.epoch(epoch)) / SIZE) for epoch in range(4)]


def test_the_share_of_data_without_online_observation(tmp_path: Path) -> None:
    module = seeded(Batches)
    callback = EasinessCallback(tmp_path, every_n_epochs=1, online=False, sigma2=SIGMA2)
    fit(training(per="batch", early_epochs=1), module, [callback], max_epochs=4)
    assert callback.usage.data_use == [pytest.approx(len(module.epoch(epoch)) / SIZE) for epoch in range(4)]


class Numbers(Selection):
    """Keeps what a selection is told of each batch."""

    per_batch = needs_observation = True

    def __init__(self) -> None:
        self.states: list[SelectionState] = []

    def select(self, state: SelectionState) -> Tensor:
        self.states.append(state)
        return torch.arange(state.num_examples) != 0


def test_what_a_selection_is_told_of_a_batch() -> None:
    rule, module = Numbers(), seeded(Batches)
    fit(rule, module, max_epochs=2)
    told = [(state.epoch, state.batch, state.num_examples, state.max_epochs) for state in rule.states]
    assert told == [(epoch, batch, 5 if batch == 6 else 8, 2) for epoch in range(2) for batch in range(7)]
    for state, (_, before, _), (_, after, _, _) in zip(rule.states, module.whole, module.steps, strict=True):
        assert state.target.tolist() == IndexedPoints().y[before].tolist()
        assert set(state.observed) == {"loss", "correct", "margin", "sample_easiness", "el2n"}
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
    assert found["y"][1][1] == "name"
    assert found["names"] == ["a", "c"]
    assert isinstance(found["pair"], Pair)
    assert torch.equal(found["pair"].x, x[kept])
    assert found["scale"] == 66
    assert torch.equal(batch["x"], x), "the batch itself stays whole"
    with pytest.raises(TypeError) as error:
        rows_of((x, object()), kept, 3)
    assert str(error.value) == (
        "Examples cannot be taken out of a batch that holds a object; select per='epoch', or let the loader give"
        " tensors, mappings, tuples and lists."
    )
