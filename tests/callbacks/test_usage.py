"""Average data use (ADU) and run time (ART), by a clock of the tests' own; and listeners of what is observed."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_easiness import (
    Control,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    RandomShare,
    SampleEasinessTraining,
)
from lightning_easiness.callbacks import usage
from lightning_easiness.callbacks.usage import UsageMeter
from lightning_easiness.data.observation import Observation
from lightning_easiness.observe import evaluation
from tests.made_runs import whole
from tests.resuming import Resumable, Stop
from tests.selecting import Sizes, Traces, logged
from tests.set_fits import SIGMA2, fit, seeded
from tests.small import Net, Points, loader, trainer

SIZE, BATCHES = 53, 7
STEP, VALIDATION, FORWARD = 1.0, 100.0, 10_000.0  # seconds that a batch takes


class Clock:
    """Stands still but for what the tests say."""

    def __init__(self) -> None:
        self.now = 1e6

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (usage, evaluation):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=made.perf_counter))
    return made


# ------------------------------------------------------------------------------------------------------- the meter


def test_seconds_of_an_epoch_without_what_serves_no_training(clock: Clock) -> None:
    meter = UsageMeter()
    assert math.isnan(meter.average_data_use())
    assert math.isnan(meter.average_epoch_seconds())
    clock.now += 5  # before it begins
    meter.start()
    clock.now += 1
    with meter.paused():
        clock.now += 100
    clock.now += 1.5
    meter.pause()
    clock.now += 100
    meter.go_on()
    meter.end_epoch(1.0)
    clock.now += 4
    meter.end_epoch(0.25)
    with suppress(ArithmeticError), meter.paused():
        clock.now += 10
        raise ArithmeticError
    clock.now += 8
    meter.end_epoch(0.5)
    assert meter.epoch_seconds == pytest.approx([2.5, 4, 8])
    assert meter.data_use == [1.0, 0.25, 0.5]
    assert (meter.average_data_use(), meter.average_data_use(1)) == (pytest.approx(1.75 / 3), pytest.approx(0.375))
    assert meter.average_epoch_seconds(1) == pytest.approx(6)
    assert math.isnan(meter.average_data_use(3))
    assert math.isnan(meter.average_epoch_seconds(3))


# -------------------------------------------------------------------------------------------------------- in a fit


class Takes(Traces):
    """Each training step takes a second, each of validation 100, each forward of an evaluation pass 10,000."""

    clock: Clock

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and not self.validates:
            self.clock.now += FORWARD
        return super().forward(x)

    validates = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.clock.now += STEP
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += VALIDATION
        self.validates = True
        super().validation_step(batch, batch_idx)
        self.validates = False


def takes(clock: Clock) -> Takes:
    module = seeded(Takes)
    module.clock = clock
    return module


@pytest.mark.parametrize(("online", "options"), [(True, {}), (False, {"val_check_interval": 0.5})], ids=str)
def test_validation_and_passes_for_the_record_are_left_out_and_each_fit_begins_anew(
    online: bool, options: dict[str, Any], clock: Clock, tmp_path: Path
) -> None:
    callback = EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0, 3), online=online)
    for epochs in (3, 2):
        fit(None, takes(clock), [callback], max_epochs=epochs, **options)
        assert callback.usage.epoch_seconds == pytest.approx([BATCHES * STEP] * epochs)
        assert callback.usage.data_use == [1.0] * epochs
        callback.run = "other"


@pytest.mark.parametrize(
    ("rule", "observer", "selected"),
    [
        ({}, {"probe": None}, (2, 3, 4)),
        ({"early_epochs": 0}, {"probe": None}, (0, 1, 2, 3, 4)),
        ({"rescore_every_n_epochs": 2}, {"every_n_epochs": 1}, (2, 4)),  # the other passes are for the record
        ({"online": True, "rescore_every_n_epochs": None, "early_epochs": 1}, {"every_n_epochs": 1}, ()),
    ],
)
def test_a_pass_that_a_selection_goes_by_is_a_part_of_its_epoch(
    rule: dict[str, Any], observer: dict[str, Any], selected: tuple[int, ...], clock: Clock, tmp_path: Path
) -> None:
    module = takes(clock)
    callback = EasinessCallback(tmp_path, sigma2=SIGMA2, **observer)
    fit(SampleEasinessTraining(**{"early_epochs": 2, **rule}), module, [callback])
    steps = [len([1 for at, _, _ in module.batches if at == epoch]) * STEP for epoch in range(5)]
    passes = [BATCHES * FORWARD * (epoch in selected) for epoch in range(5)]
    assert callback.usage.epoch_seconds == pytest.approx([a + b for a, b in zip(steps, passes, strict=True)])


def test_what_is_repeated_counts_once_and_what_is_cut_off_does_not(clock: Clock, tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path / "cut off", probe=None)
    fit(Sizes([53, 53]), takes(clock), [callback], max_epochs=2, limit_train_batches=3)
    assert callback.usage.data_use == [pytest.approx(24 / SIZE)] * 2
    drawn = torch.utils.data.RandomSampler(Points(), replacement=True, num_samples=40)
    again = EasinessCallback(tmp_path / "again", probe=None)
    trainer(max_epochs=1, callbacks=[again]).fit(Net(), loader(shuffle=False, sampler=drawn))
    online = EasinessRecord.load(tmp_path / "again", series="train-online")
    assert again.usage.data_use == [pytest.approx(int((online.count[0, 0] > 0).sum()) / SIZE)]
    assert again.usage.data_use[0] < 40 / SIZE


@pytest.mark.parametrize("early", [None, 1, 2])
def test_logged_each_epoch_and_in_one_line_at_the_end(
    early: int | None, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    callback = EasinessCallback(tmp_path / "record", probe=None, sigma2=SIGMA2)
    selection = SampleEasinessTraining(early_epochs=early) if early else None
    fit(selection, takes(clock), [callback], logger=CSVLogger(tmp_path, name="", version=""))
    for name, values in (("data_use", callback.usage.data_use), ("epoch_seconds", callback.usage.epoch_seconds)):
        tag = f"easiness/{name}"
        # without a selection it is a flat line, which is only for those who monitor it
        assert [row[tag] for row in logged(tmp_path, tag)] == (pytest.approx(values) if early else [])
    use, seconds = (sum(values) / 5 for values in (callback.usage.data_use, callback.usage.epoch_seconds))
    line = (
        f"Average data use {use:.1%} and {seconds:.2f} s per epoch, over 5 epochs, selection and early epochs included."
    )
    assert averages(caplog) == [line] * bool(early)


def averages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said at the end of fits."""
    return [record.getMessage() for record in caplog.records if "Average data use" in record.getMessage()]


@pytest.mark.parametrize("early", [0, 1, 0.25])
def test_a_rule_and_its_control_of_equal_steps_say_the_same(
    early: float, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    for number, selection in enumerate(
        (RandomShare(0.5, early_epochs=early), Control(RandomShare(0.5, early_epochs=early)))
    ):
        fit(selection, takes(clock), [EasinessCallback(tmp_path / str(number), probe=None)], max_epochs=4)
    of_rule, of_control = averages(caplog)
    assert of_rule == of_control
    whole = 27 / SIZE if early == 0 else (1 + 3 * 27 / SIZE) / 4
    assert f"{whole:.1%}" in of_rule


@pytest.mark.parametrize("stop", [(0, 2), (0, 6), (1, 0), (1, 2)], ids=str)
@pytest.mark.parametrize("online", [True, False])
def test_resumed_is_as_never_stopped(online: bool, stop: tuple[int, int], clock: Clock, tmp_path: Path) -> None:
    """Within an epoch and at the very end of one, of epochs of 7, 3 and 5 batches: its seconds are of all of it."""
    sizes = [53, 20, 40]

    def run(name: str, others: Any = (), ckpt_path: Path | None = None) -> UsageMeter:
        callback = EasinessCallback(tmp_path / name, run="only", online=online)
        data = EasinessDataModule(Resumable(), Sizes(sizes))
        made = trainer(max_epochs=3, callbacks=[*others, callback])
        made.fit(takes(clock), datamodule=data, ckpt_path=ckpt_path)
        return callback.usage

    saved = tmp_path / "a.ckpt"
    with pytest.raises(InterruptedError):
        run("stopped", [Stop(saved, *stop)])
    clock.now += 1e9  # until somebody resumes it
    resumed, never_stopped = run("stopped", ckpt_path=saved), run("whole")
    assert resumed.data_use == never_stopped.data_use == [pytest.approx(size / SIZE) for size in sizes]
    assert resumed.epoch_seconds == pytest.approx(never_stopped.epoch_seconds)


# ---------------------------------------------------------------------------------------------- listeners


def test_a_listener_is_called_with_each_complete_observation_until_it_is_removed(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0,))
    first: list[Observation] = []
    second: list[Observation] = []
    callback.subscribe(first.append, ("sample_easiness", "el2n"))
    callback.subscribe(second.append)
    fit(None, seeded(), [callback], max_epochs=2)
    assert [(one.series, one.step) for one in first] == [
        ("train-probe", 0),
        *(("train-online", 7), ("train-probe", 7)),
        *(("train-online", 14), ("train-probe", 14)),
    ]
    assert all(one is other for one, other in zip(first, second, strict=True))
    for one in first:
        assert {"loss", "correct", "margin", "sample_easiness", "el2n"} <= set(one.fields)
        assert {values.shape for values in one.fields.values()} == {(SIZE,)}
    record = EasinessRecord.load(tmp_path, series="train-online")
    assert torch.equal(record.loss[0, 0], first[1].fields["loss"])
    callback.unsubscribe(first.append)
    callback.unsubscribe(print)  # which never was one
    callback.run = "other"
    fit(None, seeded(), [callback], max_epochs=1)
    assert (len(first), len(second)) == (5, 8)
    assert set(second[6].fields) == {"loss", "correct", "margin", "count", "prediction"}, "not what the first asked for"


def test_a_field_that_is_none() -> None:
    message = (
        "EasinessCallback observes loss, correct, margin, sample_easiness, weakest_comparison, el2n, but no 'aum'."
    )
    with pytest.raises(ValueError, match=whole(message)):
        EasinessCallback().subscribe(print, ("aum",))
