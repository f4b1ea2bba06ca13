"""Batches that SampleEasinessTraining skips: steps, schedules and gradients are those of a loop written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, EasinessRecord, Needs, Selection, SelectionState
from tests.selecting import IndexedBase, IndexedPoints, Traces
from tests.set_fits import NO_NOISE, SIGMA2, easiness_loop, fitted, level_of, seeded, training

SIZE, EPOCHS, FALLS = 53, 3, 0.9


class Plain(Traces):
    """Neither batch norm nor dropout; its learning rate falls where a step is due, also if there is none."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        with torch.no_grad():
            self.net[2].weight *= 2  # so that there are examples of all levels from the start

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: FALLS**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ByHand(Plain):
    """Optimises by itself; its learning rate falls with each step."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()
        self.lr_schedulers().step()
        return loss


class Steps(Callback):
    """Keeps after each batch whether it was trained on, the number of steps, and that of the loggers."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, int, int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((batch is not None, trainer.global_step, trainer.fit_loop.epoch_loop._batches_that_stepped))


def loop(module: Plain, size: int, every: int, data: IndexedPoints) -> list[bool]:
    """Algorithm 1 by hand, from one epoch on everything on, and whether each batch was trained on."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: FALLS**step)
    trained = []
    for epoch in range(EPOCHS):
        starts = range(0, len(data), size)
        for number, start in enumerate(starts):
            x, y = data.x[start : start + size], data.y[start : start + size]
            if number % every == 0:
                optimizer.zero_grad()
                is_pending = False
            with torch.no_grad():
                easiness = easiness_loop(module.net(x).double(), y)
            kept = [i for i in range(len(x)) if epoch == 0 or level_of(easiness[i]) == "medium"]
            if kept:
                (nn.functional.cross_entropy(module.net(x[kept]), y[kept]) / every).backward()
                is_pending = True
            trained.append(bool(kept))
            if (number + 1) % every == 0 or number + 1 == len(starts):
                if is_pending:
                    optimizer.step()
                if is_pending or module.automatic_optimization:
                    schedule.step()
    return trained


@pytest.mark.parametrize(("kind", "every"), [(Plain, 1), (Plain, 2), (Plain, 3), (ByHand, 1)])
def test_weights_are_those_of_a_loop_by_hand(kind: type[Plain], every: int) -> None:
    """Also where gradients are accumulated, and batches at the beginning or the end of them are skipped."""
    ours, theirs = seeded(kind), seeded(kind)
    options: dict[str, Any] = {"max_epochs": EPOCHS, "accumulate_grad_batches": every}
    rule, steps = training(per="batch", early_epochs=1), Steps()
    _, made = fitted(rule, ours, [steps], IndexedBase(batch_size=2, shuffle=False), **options)
    trained = loop(theirs, 2, every, IndexedPoints())
    assert 10 < sum(trained[27:]) < 44
    for name, value in theirs.net.state_dict().items():
        torch.testing.assert_close(ours.net.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    groups = [
        trained[27 * epoch :][start : min(start + every, 27)]
        for epoch in range(EPOCHS)
        for start in range(0, 27, every)
    ]
    made_steps = sum(any(group) for group in groups)
    assert made.global_step == made_steps <= len(groups)
    moved = len(groups) if kind is Plain else made_steps
    assert made.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * FALLS**moved)
    if every == 1 and kind is Plain:
        assert [was for was, _, _ in steps.seen] == trained
        assert [number for _, number, _ in steps.seen] == [sum(trained[: i + 1]) for i in range(len(trained))]
        assert made.fit_loop.epoch_loop._batches_that_stepped == made_steps, "the step that loggers show"


class EveryOther(Selection):
    """Takes a batch whole and unobserved, and nothing of the next one."""

    needs = Needs(every="batch", passes=True)

    def select(self, state: SelectionState) -> Tensor:
        if state.batch % 2 == 0:
            return torch.arange(state.num_examples)
        state.observe()
        return torch.zeros(0, dtype=torch.int64)


def test_gradients_of_a_batch_that_was_not_observed_are_not_lost_with_the_next() -> None:
    ours, theirs = seeded(Plain), seeded(Plain)
    data, options = IndexedBase(batch_size=2, shuffle=False), {"max_epochs": 1, "accumulate_grad_batches": 2}
    _, made = fitted(EveryOther(), ours, data=data, **options)
    configured, points = theirs.configure_optimizers(), IndexedPoints()
    for start in range(0, SIZE, 4):
        configured["optimizer"].zero_grad()
        x, y = points.x[start : start + 2], points.y[start : start + 2]
        (nn.functional.cross_entropy(theirs.net(x), y) / 2).backward()
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert made.global_step == 14
    for name, value in theirs.net.state_dict().items():
        torch.testing.assert_close(ours.net.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"val_check_interval": 0.5}, {"precision": "bf16-mixed"}, {"limit_train_batches": 9}]
)
def test_epochs_whose_batches_are_all_skipped(options: dict[str, Any]) -> None:
    module = seeded(Plain)
    _, made = fitted(training(per="batch", early_epochs=1), module, reader=NO_NOISE, max_epochs=3, **options)
    assert made.global_step == 7
    assert made.current_epoch == 3
    assert module.validations == (6 if "val_check_interval" in options else 3)
    assert "_should_accumulate" not in vars(made.fit_loop.epoch_loop), "no trace"


def test_the_record_counts_what_is_left(tmp_path: Path) -> None:
    """The batches after one that was skipped are recorded under their own indices."""
    module, callback = seeded(Plain), EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)
    fitted(training(per="batch", early_epochs=1), module, [callback], IndexedBase(batch_size=2), max_epochs=EPOCHS)
    record = EasinessRecord.load(tmp_path)
    for epoch in range(EPOCHS):
        trained = module.epoch(epoch)
        assert record.count[0, epoch].tolist() == [trained.count(i) for i in range(SIZE)]
        assert callback.usage.data_use[epoch] == pytest.approx(len(trained) / SIZE)
    assert callback.usage.data_use[1] < 1
