"""SampleEasinessTraining in real fits, by epoch: each epoch's examples beside a slow recomputation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_easiness import BatchReader, EasinessCallback, EasinessDataModule, SampleEasinessTraining, SelectionState
from tests.functional.test_levels import is_inside, ranked_levels
from tests.resuming import Plain
from tests.selecting import CountsPasses, IndexedBase, IndexedPoints, Traces
from tests.set_fits import (
    NO_NOISE,
    SIGMA2,
    TOL,
    Easiness,
    NoNorm,
    Weighs,
    WithSEL,
    assert_clear,
    easiness_at,
    easiness_loop,
    fit,
    level_of,
    logits_at,
    loss_loop,
    seeded,
    training,
)
from tests.small import loader, trainer

BATCH, SIZE = 8, 53
EVERYTHING = list(range(SIZE))
ONLINE: dict[str, Any] = {"online": True, "rescore_every_n_epochs": None, "early_epochs": 1}


def assert_read(trained: list[int], selected: list[int]) -> None:
    """Each once, but that one is repeated where the last batch would hold a single example."""
    assert sorted(set(trained)) == selected
    assert len(trained) == len(selected) + (len(selected) % BATCH == 1)


def medium(easiness: list[float]) -> list[int]:
    return [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]


class OneIsMedium(SampleEasinessTraining):
    """Finds example 7 medium, and all others easy."""

    def select(self, state: SelectionState) -> Tensor:
        easiness = torch.ones(state.num_examples).index_fill(0, torch.tensor(7), 0.5)
        changed = dict.fromkeys(("sample_easiness", "weakest_comparison"), easiness)
        return super().select(replace(state, by_pass=lambda: ({**state.observe(), **changed}, None)))


ASKED: dict[str, tuple[Any, dict[str, Any], type[Traces]]] = {
    "EO": (("easy",), {}, Traces),
    "MHO": (("medium", "hard"), {}, Traces),
    "an interval and a name": (((0.2, 0.7), "easy"), {}, Traces),
    "MO, workers": (("medium",), {"num_workers": 2}, Traces),
    "SEL-SET": (("medium",), {}, WithSEL),
}


@pytest.mark.parametrize("asked", ASKED)
def test_each_epoch_trains_on_the_levels_at_the_weights_before_it(asked: str) -> None:
    levels, loaders, kind = ASKED[asked]
    module = seeded(kind)
    before = fit(training(*levels), module, data=IndexedBase(**loaders))
    for epoch in range(5):
        assert_read(module.epoch(epoch), before.selected[epoch])
        if epoch < 2:
            assert before.selected[epoch] == EVERYTHING
            continue
        easiness = easiness_at(before.states[epoch])
        assert kind is WithSEL or {level_of(value) for value in easiness} == {"hard", "medium", "easy"}
        asked = [i for i in EVERYTHING if is_inside(easiness[i], easiness[i].weakest, levels, TOL)]
        assert before.selected[epoch] == asked
    assert module.validations == 5


@pytest.mark.parametrize("levels", [("medium",), ("medium", "hard")], ids="+".join)
def test_by_loss_each_epoch_trains_on_as_many_by_rank(levels: tuple[str, ...]) -> None:
    before = fit(training(*levels, by="loss"), seeded())
    others = 0
    for epoch in (2, 3, 4):
        easiness = easiness_at(before.states[epoch])
        losses = loss_loop(logits_at(before.states[epoch]), IndexedPoints().y)
        ranked = ranked_levels(losses, [level_of(value) for value in easiness])
        expected = [i for i in EVERYTHING if ranked[i] in levels]
        assert before.selected[epoch] == expected
        others += sum(level_of(easiness[i]) not in levels for i in expected)
    assert others, "L-SET is not SET"


def test_early_final_and_rescored_epochs() -> None:
    before = fit(training(early_epochs=1, final_epochs=2, rescore_every_n_epochs=3), seeded(), max_epochs=8)
    assert [before.selected[epoch] == EVERYTHING for epoch in range(8)] == [True] + [False] * 5 + [True] * 2
    for scored, epochs in ((1, (1, 2, 3)), (4, (4, 5))):
        for epoch in epochs:
            assert before.selected[epoch] == medium(easiness_at(before.states[scored]))


def test_other_settings_of_the_noise_and_of_the_levels() -> None:
    sigma2, tol = 0.05, 0.1
    before = fit(training(tol=tol, early_epochs=1), seeded(), reader=BatchReader(sigma2=sigma2), max_epochs=4)
    for epoch in (1, 2, 3):
        easiness = easiness_at(before.states[epoch], sigma2=sigma2, tol=tol)
        assert before.selected[epoch] == [i for i in EVERYTHING if level_of(easiness[i], tol) == "medium"]


@pytest.mark.parametrize(("kind", "minimum", "size"), [(Traces, None, 2), (NoNorm, None, 1), (Traces, 20, 20)])
def test_without_a_medium_example_as_few_as_can_be_are_drawn_anew(
    kind: type[Traces], minimum: int | None, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Lightning ends a fit at an empty epoch, and batch norm refuses a single example."""
    caplog.set_level("INFO", logger="lightning.pytorch")
    module = seeded(kind)
    before = fit(training(early_epochs=1, minimum=minimum), module, reader=NO_NOISE, max_epochs=3)
    assert module.lengths(3) == [SIZE, size, size]
    assert before.selected[1] != before.selected[2], "drawn anew"
    lines = [record.getMessage() for record in caplog.records if "trains on" in record.getMessage()]
    assert [f"; {size} of them drawn at random, up to the minimum of {size}" in line for line in lines] == [0, 1, 1]


@pytest.mark.parametrize(("kind", "size"), [(Traces, 2), (NoNorm, 1)])
def test_a_single_medium_example_is_trained_on_alone_but_under_batch_norm(kind: type[Traces], size: int) -> None:
    module, rule = seeded(kind), OneIsMedium(early_epochs=1)
    before = fit(rule, module, max_epochs=3)
    assert [len(kept) for kept in before.selected] == [SIZE, size, size]
    assert all(7 in kept for kept in before.selected[1:])
    assert module.lengths(3) == [SIZE, size, size]


def test_a_schedule_that_asks_for_the_number_of_steps_before_the_fit() -> None:
    found = []
    for asks in (False, True):
        module = seeded(lambda optimizer, asks=asks: Plain(asks))
        before = fit(training(early_epochs=0), module, max_epochs=3)
        for epoch in range(3):
            assert_read(module.epoch(epoch), before.selected[epoch])
        found.append(before.selected[0])
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------------- online


class Heard(Traces):
    """Keeps the sample easiness and the loss that the training forward shows of each example, by slow loops.

    Of an example that an epoch repeats, the mean.
    """

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.rows: list[dict[int, list[tuple[Easiness, float]]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits, target = self(batch[0]), batch[1]
        exact = logits.detach().double()
        if self.current_epoch == len(self.rows):
            self.rows.append({})
        found = zip(easiness_loop(exact, target), loss_loop(exact, target), strict=True)
        for i, row in zip(batch[0][:, 8].long().tolist(), found, strict=True):
            self.rows[-1].setdefault(i, []).append(row)
        return nn.functional.cross_entropy(logits, target)

    def heard(self, epoch: int) -> dict[int, tuple[Easiness, float]]:
        """Example -> its easiness and its loss, for those of an epoch."""
        columns = {i: tuple(zip(*rows, strict=True)) for i, rows in self.rows[epoch].items()}
        return {i: (Easiness.mean(list(easiness)), fmean(loss)) for i, (easiness, loss) in columns.items()}


@pytest.mark.parametrize("by", ["sample_easiness", "loss"])
@pytest.mark.parametrize("rescore", [None, 2])
def test_online_goes_by_what_was_last_seen(rescore: int | None, by: str, tmp_path: Path) -> None:
    module = seeded(Heard)
    rule = training("medium", "hard", **{**ONLINE, "rescore_every_n_epochs": rescore, "by": by})
    before = fit(rule, module, [EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)], max_epochs=6)
    known: dict[int, tuple[float, float]] = {}
    drawn_from_fewer = 0
    for epoch in range(6):
        if rescore and epoch >= 1 and (epoch - 1) % rescore == 0:
            losses = loss_loop(logits_at(before.states[epoch]), IndexedPoints().y)
            known = dict(enumerate(zip(easiness_at(before.states[epoch]), losses, strict=True)))
        if epoch:
            easiness, loss = ([known[i][row] for i in EVERYTHING] for row in (0, 1))
            assert_clear(easiness)
            own = [level_of(value) for value in easiness]
            level = ranked_levels(loss, own) if by == "loss" else dict(enumerate(own))
            assert before.selected[epoch] == [i for i in EVERYTHING if level[i] != "easy"]
            drawn_from_fewer += len(before.selected[epoch]) < SIZE
        known.update(module.heard(epoch))
    assert drawn_from_fewer == 5


def test_online_what_was_never_seen_is_trained_on(tmp_path: Path) -> None:
    """Two batches an epoch alone: what no batch held yet is not known, and not left out."""
    module, callback = seeded(Heard), EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)
    before = fit(training((0.0, 0.4), **ONLINE), module, [callback], max_epochs=3, limit_train_batches=2)
    known: dict[int, float] = {}
    for epoch in (1, 2):
        known.update({i: easiness for i, (easiness, _) in module.heard(epoch - 1).items()})
        assert 10 < len(known) < SIZE
        assert min(abs(easiness - 0.4) for easiness in known.values()) > 1e-4
        assert before.selected[epoch] == [i for i in EVERYTHING if i not in known or known[i] <= 0.4]


def test_online_without_the_callback_names_the_way_out(tmp_path: Path) -> None:
    for callbacks in ([], [EasinessCallback(tmp_path, probe="train", online=False)]):
        module = seeded()
        with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
            fit(training(online=True), module, callbacks)
        assert str(error.value) == (
            "SampleEasinessTraining goes by what an EasinessCallback sees in training, and the Trainer has none that is"
            " online: add EasinessCallback(probe=None) to its callbacks."
        )
        assert not module.batches


# ----------------------------------------------------------------------------------------- beside the callback


# the passes over the data in a fit that selects before epochs 2, 3 and 4
BESIDE: dict[str, tuple[dict[str, Any], int]] = {
    "at each epoch's end": ({"every_n_epochs": 1}, 5),
    "at every other epoch's end": ({"every_n_epochs": 2}, 3),  # by the callback after 1 and 3, by the rule before 3
    "within an epoch, which is of no use": ({"every_n_epochs": 0, "at_steps": (10,)}, 1 + 3),
    "without an evaluation pass": ({"probe": None}, 3),
    "on validation examples": ({"probe": "val", "every_n_epochs": 1}, 5 + 3),
    "on another loader": ({"probe": loader(IndexedPoints(SIZE, seed=9)), "every_n_epochs": 1}, 5 + 3),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_callback_beside_it_chooses_alike_and_its_passes_are_used(case: str, tmp_path: Path) -> None:
    options, passes = BESIDE[case]
    alone = seeded()
    expected = fit(training(), alone).selected
    module = seeded(CountsPasses)
    before = fit(training(), module, [EasinessCallback(tmp_path, sigma2=SIGMA2, **options)], limit_val_batches=1)
    assert before.selected == expected
    assert module.batches == alone.batches
    batches = math.ceil(SIZE / BATCH)
    # a batch each is tried before training by the selection, for the training step and for a pass on other examples
    tried = 2 if options.get("probe", "train") in ("train", None) else 3
    validations = 1 + 5 + tried  # the sanity check, and one batch after each epoch
    if options.get("probe") == "val":
        assert module.forwards == 5 * math.ceil(20 / BATCH) + 3 * batches + validations
    else:
        assert module.forwards == passes * batches + validations


class Fails(Traces):
    failing_epoch = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == self.failing_epoch:
            raise ArithmeticError("on purpose")
        return super().training_step(batch, batch_idx)


FailsLater = type("FailsLater", (Fails,), {"failing_epoch": 1})
# the selection's options, the callback's, the Trainer's, what fails: then all is known, and in the second fit little
SECOND_FITS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], Any]] = {
    "what was seen online": (ONLINE, {"probe": None}, {"limit_train_batches": 2}, FailsLater),
    "what was observed at step 0": ({"levels": [(0.0, 0.4)], "early_epochs": 0}, {"at_steps": (0,)}, {}, Fails),
}


@pytest.mark.parametrize("case", SECOND_FITS)
def test_a_second_fit_has_nothing_of_one_that_failed(case: str, tmp_path: Path) -> None:
    """What another model's training showed must not choose for this one's."""
    rule, options, limits, fails = SECOND_FITS[case]

    def selected(data: EasinessDataModule) -> list[list[int]]:
        module, callbacks = seeded(seed=11), [EasinessCallback(tmp_path / str(id(data)), sigma2=SIGMA2, **options)]
        made = trainer(callbacks=callbacks if rule is ONLINE else [], max_epochs=2, **limits)
        made.fit(module, datamodule=data)
        return [sorted(module.epoch(epoch)) for epoch in range(2)]

    used, unused = (EasinessDataModule(IndexedBase(), SampleEasinessTraining(**rule)) for _ in range(2))
    made = trainer(callbacks=[EasinessCallback(tmp_path / "first", sigma2=SIGMA2, **options)], max_epochs=2)
    with pytest.raises(ArithmeticError):
        made.fit(seeded(fails, seed=5), datamodule=used)
    assert selected(used) == selected(unused)


# ------------------------------------------------------------------------------------------- tasks without easiness


class Regression(Traces):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.batches.append((self.current_epoch, x[:, 8].long().tolist(), y.tolist()))
        return nn.functional.mse_loss(self(x)[:, 0], y)


class Floats(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], self.x[index, 0]


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target) ** 2


@pytest.mark.parametrize(
    "options", [{}, {"by": "loss"}, ONLINE, {"per": "batch"}], ids=["pass", "loss", "online", "batch"]
)
def test_a_task_without_easiness_is_refused_before_training(options: Any, tmp_path: Path) -> None:
    module, is_online = seeded(Regression), "online" in options
    callbacks = [EasinessCallback(tmp_path, probe=None, loss_fn=squared)] if is_online else []
    rule = training(**{**options, "early_epochs": 2})
    with pytest.raises(ValueError, match="SampleEasinessTraining") as error:
        fit(
            rule, module, callbacks, loader(Floats()), None if is_online else BatchReader(loss_fn=squared), max_epochs=4
        )
    assert str(error.value) == (
        "SampleEasinessTraining goes by sample_easiness and weakest_comparison, which examples with one class each"
        " have, but not the task that was recognised, of loss 'squared': go by the loss, or pass batch_fn, a function"
        " that returns class indices (B,) as targets."
    )
    assert not module.batches


# -------------------------------------------------------------------------------------------- what Trainers ask for


def test_a_trainer_that_does_not_fit_is_refused_before_training() -> None:
    """By `check`, as in test_sample_easiness_training.py."""
    module = seeded(Weighs)
    with pytest.raises(ValueError, match="SampleEasinessTraining has early_epochs=5 and final_epochs=0 on everything"):
        fit(training(early_epochs=5), module)
    assert not module.steps


def test_loaders_that_hold_from_change_to_change() -> None:
    for options in ({"final_epochs": 2}, {"rescore_every_n_epochs": 2}):
        before = fit(training(**options), seeded(), max_epochs=6, reload_dataloaders_every_n_epochs=2)
        whole = [len(chosen) == SIZE for chosen in before.selected]
        assert whole == [True, True, False, False, *([True] * 2 if "final_epochs" in options else [False] * 2)]
        assert before.selected[2] == before.selected[3]
    module = seeded(Weighs)
    fit(training(early_epochs=1, per="batch"), module, max_epochs=3, reload_dataloaders_every_n_epochs=2)
    assert [len(module.epoch(epoch)) < SIZE for epoch in range(3)] == [False, True, True], "no choice is held"
