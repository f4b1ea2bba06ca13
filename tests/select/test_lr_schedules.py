"""LRSchedules by steps where a selection changes the length of epochs: each epoch is the same part of a schedule."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, TQDMProgressBar
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, SequentialLR, StepLR

from lightning_easiness import BatchReader, EasinessCallback, EasinessDataModule, Keep, Selection
from lightning_easiness._utils.lightning import StepsDone
from lightning_easiness.select.lr_schedules import position
from tests.resuming import Stop
from tests.selecting import IndexedBase, IndexedPoints, Sizes, Traces, fit
from tests.small import loader, trainer

# many of these small selections have no example of some class
pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")

BATCH = 8


def two_parts(optimizer: Any, length: int) -> SequentialLR:
    falls = CosineAnnealingLR(optimizer, length - length // 4)
    rises = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (length // 4 + 1)))
    return SequentialLR(optimizer, [rises, falls], [length // 4])


KINDS: dict[str, Callable[[Any, int], Any]] = {
    "one cycle": lambda optimizer, length: OneCycleLR(optimizer, max_lr=0.1, total_steps=length),
    "cosine": lambda optimizer, length: CosineAnnealingLR(optimizer, T_max=length),
    "warmup": lambda optimizer, length: LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (0.3 * length))),
    "warmup, then cosine": two_parts,
    "stairs": lambda optimizer, length: StepLR(optimizer, max(1, length // 5), gamma=0.5),
}


class Scheduled(Traces):
    """Its learning rate is scheduled over the number of steps that the Trainer estimates; it keeps each one's."""

    def __init__(self, kind: str = "one cycle", frequency: int = 1) -> None:
        super().__init__()
        self.kind, self.frequency = kind, frequency
        self.used: list[tuple[int, float]] = []  # epoch and learning rate of each step of the optimizer

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.5)
        self.length = int(self.trainer.estimated_stepping_batches)
        self.schedule = KINDS[self.kind](optimizer, self.length)
        schedule = {"scheduler": self.schedule, "interval": "step", "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.used.append((self.current_epoch, optimizer.param_groups[0]["lr"]))


def rates(kind: str, length: int) -> list[float]:
    """What a schedule goes through by itself, one step after another."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05, momentum=0.5)
    schedule, found = KINDS[kind](optimizer, length), []
    for _ in range(length):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def expected(kind: str, steps: list[int]) -> tuple[list[tuple[int, float]], float]:
    """The learning rates of the steps of epochs of these lengths, and the last one: an epoch counts as an epoch."""
    length = steps[0] * len(steps)
    of_schedule, used = rates(kind, length), []
    for epoch, number in enumerate(steps):
        for step in range(number):
            done = (epoch + Fraction(step, number)) / len(steps)
            used.append((epoch, of_schedule[int(done * length)]))
    return used, of_schedule[length]


SHAPES = {
    "shrinking": [53, 30, 20, 9],
    "growing": [9, 20, 30, 53],
    "both": [20, 53, 9, 40, 9],
    "everything first and last": [53, 53, 16, 16, 53],
}
OPTIONS: dict[str, tuple[dict[str, Any], Callable[[int], int]]] = {
    "plain": ({}, lambda batches: batches),
    "accumulation": ({"accumulate_grad_batches": 2}, lambda batches: ceil(batches / 2)),
    "a number of batches": ({"limit_train_batches": 3}, lambda batches: min(3, batches)),
    "half": ({"limit_train_batches": 0.5}, lambda batches: int(batches * 0.5)),
    "clipping": ({"gradient_clip_val": 0.1}, lambda batches: batches),
    "half, accumulation": (
        {"limit_train_batches": 0.5, "accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
        lambda batches: ceil(int(batches * 0.5) / 2),
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("one cycle", "shrinking"), ("one cycle", "both"), ("cosine", "growing"), ("cosine", "everything first and last")],
)
def test_each_epoch_is_the_same_part_of_a_schedule_and_the_last_step_its_end(
    shape: str, option: str, kind: str
) -> None:
    options, steps_of = OPTIONS[option]
    sizes = SHAPES[shape]
    module, made = fit(IndexedBase(), Sizes(sizes), Scheduled(kind), max_epochs=len(sizes), **options)
    steps = [
        steps_of(max(2, ceil(size / BATCH))) if "half" in option else steps_of(ceil(size / BATCH)) for size in sizes
    ]
    assert made.global_step == len(module.used) == sum(steps)
    used, last = expected(kind, steps)
    assert module.used == used
    assert made.optimizers[0].param_groups[0]["lr"] == last
    assert module.schedule.last_epoch == module.length == steps[0] * len(steps)
    assert "update_lr_schedulers" not in vars(made.fit_loop.epoch_loop), "no trace"


@pytest.mark.parametrize("kind", KINDS)
def test_schedules_of_any_kind(kind: str) -> None:
    module, made = fit(IndexedBase(), Sizes(SHAPES["both"]), Scheduled(kind), max_epochs=5)
    used, last = expected(kind, [ceil(size / BATCH) for size in SHAPES["both"]])
    assert module.used == used
    assert made.optimizers[0].param_groups[0]["lr"] == last


@pytest.mark.parametrize("kind", KINDS)
def test_of_epochs_of_one_length_nothing_is_changed(kind: str) -> None:
    ours, _ = fit(IndexedBase(), Sizes([53, 53, 53]), Scheduled(kind), max_epochs=3)
    theirs = Scheduled(kind)
    trainer(max_epochs=3).fit(theirs, datamodule=IndexedBase())
    assert ours.used == theirs.used


def test_a_schedule_that_moves_at_every_other_step() -> None:
    module, _ = fit(IndexedBase(), Sizes([53, 20, 9, 53]), Scheduled("stairs", frequency=2), max_epochs=4)
    assert module.schedule.last_epoch == module.length // 2 == 14


@pytest.mark.parametrize("options", [{"max_epochs": -1}, {}], ids=["alone", "before the epochs end"])
@pytest.mark.parametrize("shape", ["shrinking", "growing"])
def test_a_fit_that_ends_by_its_number_of_steps(shape: str, options: dict[str, Any]) -> None:
    """Eight steps come within both the epochs asked for and those that Lightning takes to be as long as the first."""
    options = {"max_epochs": 4, "max_steps": 8, **options}
    module, made = fit(IndexedBase(), Sizes(SHAPES[shape]), Scheduled(), **options)
    assert made.global_step == module.length == module.schedule.last_epoch == 8
    moved = [rates("one cycle", 8).index(rate) for _, rate in module.used]
    assert moved == sorted(moved)
    if options["max_epochs"] == -1 or shape == "shrinking":
        assert moved == list(range(8)), "a step is a step"


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}], ids=["plain", "accumulation"])
@pytest.mark.parametrize("at", [(0, 1), (1, 2), (1, 3), (2, 0)])
def test_resumed_in_an_epoch_a_schedule_goes_on(at: tuple[int, int], options: dict[str, Any], tmp_path: Path) -> None:
    sizes = [30, 53, 20, 9]
    options = {"max_epochs": 4, **options}
    whole, _ = fit(IndexedBase(), Sizes(sizes), Scheduled(), **options)
    stop, first = Stop(tmp_path / "a.ckpt", *at), Scheduled()
    with pytest.raises(InterruptedError):
        fit(IndexedBase(), Sizes(sizes), first, callbacks=[stop], **options)
    second, made = fit(IndexedBase(), Sizes(sizes), Scheduled(), ckpt_path=stop.path, **options)
    assert first.used + second.used == whole.used
    assert second.schedule.last_epoch == whole.length
    assert made.optimizers[0].param_groups[0]["lr"] == rates("one cycle", whole.length)[-1]


def test_a_checkpoint_of_a_fit_without_a_selection(tmp_path: Path) -> None:
    """Its schedule was moved with the steps; from here on each epoch is the same part of what is left."""
    stop = Stop(tmp_path / "a.ckpt", 1, 6)
    with pytest.raises(InterruptedError):
        trainer(max_epochs=4, callbacks=[stop]).fit(Scheduled(), datamodule=IndexedBase())
    module, _ = fit(IndexedBase(), Sizes([53, 53, 20, 9]), Scheduled(), max_epochs=4, ckpt_path=stop.path)
    assert module.schedule.last_epoch == 28 == module.schedule.total_steps


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.filterwarnings("ignore:The checkpoint holds a choice of Sizes")
@pytest.mark.parametrize("at", [(0, 6), (1, 1), (2, 0), (2, 1)])
@pytest.mark.parametrize("kept", [None, 30], ids=["everything", "a choice for all epochs"])
def test_a_schedule_goes_on_where_a_fit_is_resumed_without_its_selection(
    kept: int | None, at: tuple[int, int], tmp_path: Path
) -> None:
    """Moved at each step it would be beyond its end before the fit's, or not come to it; resumed twice."""
    first, again = Stop(tmp_path / "a.ckpt", *at), Stop(tmp_path / "b.ckpt", 3, 1)
    with pytest.raises(InterruptedError):
        fit(IndexedBase(), Sizes([53, 20, 20, 9]), Scheduled(), callbacks=[first], max_epochs=4)

    def go_on(saved: Path, *stops: Callback) -> tuple[Scheduled, Trainer]:
        selection = None if kept is None else Keep(range(kept))
        return fit(IndexedBase(), selection, Scheduled(), callbacks=[*stops], max_epochs=4, ckpt_path=saved)

    with pytest.raises(InterruptedError):
        go_on(first.path, again)
    module, made = go_on(again.path)
    assert module.schedule.last_epoch == module.schedule.total_steps == 28
    assert made.optimizers[0].param_groups[0]["lr"] == rates("one cycle", 28)[-1]
    assert "update_lr_schedulers" not in vars(made.fit_loop.epoch_loop), "no trace"


@pytest.mark.filterwarnings("ignore:The checkpoint holds a choice of Sizes")
@pytest.mark.parametrize("selection", [None, Keep(range(30)), Sizes([53, 20, 20, 9])], ids=["none", "Keep", "Sizes"])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_checkpoint_of_a_selection_is_validated_and_tested(
    selection: Selection | None, stage: str, tmp_path: Path
) -> None:
    class Evaluated(Scheduled):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self(batch[0])

        test_step = validation_step

    class Data(IndexedBase):
        def val_dataloader(self) -> Any:
            return loader(IndexedPoints(self.n), shuffle=False)

        test_dataloader = val_dataloader

    stop = Stop(tmp_path / "a.ckpt", 1, 1)
    with pytest.raises(InterruptedError):
        fit(IndexedBase(), Sizes([53, 20, 20, 9]), Scheduled(), callbacks=[stop], max_epochs=4)
    data = EasinessDataModule(Data(), selection, **({} if selection else {"reader": BatchReader()}))
    evaluate = getattr(trainer(callbacks=[EasinessCallback(tmp_path / "easiness", probe=None)]), stage)
    evaluate(Evaluated(), datamodule=data, ckpt_path=stop.path)
    assert data._fit is None or data._fit._schedules is None


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_a_search_for_a_learning_rate_leaves_the_schedule_at_its_beginning(tmp_path: Path) -> None:
    class Found(Scheduled):
        def __init__(self) -> None:
            super().__init__()
            self.lr = 0.05

    finder = LearningRateFinder(num_training_steps=5)
    module, _ = fit(
        IndexedBase(), Sizes([53, 20, 9]), Found(), max_epochs=3, callbacks=[finder], default_root_dir=tmp_path
    )
    assert module.schedule.last_epoch == module.length == 21


class StepsByItself(Scheduled):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        return loss


def test_a_module_that_moves_its_schedule_by_itself_is_told() -> None:
    told = (
        "OneCycleLR was made for 14 steps, and StepsByItself moves it by itself, but the epochs of a selection differ"
        " in length: move it once an epoch, and give it the number of epochs."
    )
    with pytest.warns(UserWarning, match="OneCycleLR was made for") as warned:
        fit(IndexedBase(), Sizes([53, 20]), StepsByItself())
    assert told in [str(one.message) for one in warned]


# ------------------------------------------------------------------------------------- the position by itself


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9), st.integers(-1, 40))
def test_a_position_only_grows_and_comes_to_the_end(steps: list[int], planned: int, max_steps: int) -> None:
    max_steps = max_steps or -1
    length = planned * len(steps) if max_steps < 0 else min(planned * len(steps), max_steps)
    made, found = 0, []
    for epoch, number in enumerate(steps):
        for step in range(number):
            if 0 < max_steps <= made:
                continue
            made += 1
            found.append(position(StepsDone(epoch, step + 1, number, made, len(steps), max_steps), planned))
            by_epochs = length * (epoch + Fraction(step + 1, number)) / len(steps)
            by_steps = Fraction(length * made, max_steps) if max_steps > 0 else 0
            assert found[-1] == int(max(by_epochs, by_steps))
    assert found == sorted(found)
    assert found[-1] == length


def test_a_position_of_a_fit_without_an_end_is_the_number_of_steps() -> None:
    assert position(StepsDone(2, 3, 7, 17, -1, -1), 5) == 17


# ------------------------------------------------------------------------------------- progress bars, validation


class Bar(TQDMProgressBar):
    """Keeps the total and the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.totals: list[tuple[int, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.totals.append((self.train_progress_bar.total, self.train_progress_bar.n))
        super().on_train_epoch_end(trainer, pl_module)


@pytest.mark.parametrize("shape", ["shrinking", "growing", "both"])
def test_a_progress_bar_shows_each_epochs_own_length(shape: str) -> None:
    bar, sizes = Bar(), SHAPES[shape]
    made = trainer(max_epochs=len(sizes), callbacks=[bar], enable_progress_bar=True)
    made.fit(Traces(), datamodule=EasinessDataModule(IndexedBase(), Sizes(sizes)))
    assert bar.totals == [(ceil(size / BATCH),) * 2 for size in sizes]


class Validates(Callback):
    """Keeps the epoch and the batch of each validation."""

    def __init__(self) -> None:
        self.at: list[tuple[int, int]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.at.append((trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_idx + 1))


VALIDATIONS: dict[str, tuple[dict[str, Any], Callable[[list[int]], list[tuple[int, int]]]]] = {
    "each epoch": ({}, lambda steps: list(enumerate(steps))),
    "every other epoch": ({"check_val_every_n_epoch": 2}, lambda steps: [*enumerate(steps)][1::2]),
    "twice an epoch": (
        {"val_check_interval": 0.5},
        lambda steps: [(e, b) for e, n in enumerate(steps) for b in range(1, n + 1) if b % max(1, n // 2) == 0],
    ),
    "every second batch": (
        {"val_check_interval": 2},
        lambda steps: [(e, b) for e, n in enumerate(steps) for b in range(2, n + 1, 2)],
    ),
    "every third batch of all": (
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        lambda steps: [(e, b) for e, n in enumerate(steps) for b in range(1, n + 1) if (sum(steps[:e]) + b) % 3 == 0],
    ),
}


@pytest.mark.parametrize("case", VALIDATIONS)
@pytest.mark.parametrize("shape", ["shrinking", "growing"])
def test_validations_come_where_they_are_asked_for_in_epochs_of_any_length(shape: str, case: str) -> None:
    options, by_hand = VALIDATIONS[case]
    sizes, seen = SHAPES[shape], Validates()
    fit(IndexedBase(), Sizes(sizes), max_epochs=len(sizes), callbacks=[seen], **options)
    assert seen.at == by_hand([ceil(size / BATCH) for size in sizes])
