"""What the callback logs: numbers that monitors can see, and histograms."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.callbacks.logging import log_observation
from tests.boards import read_events, scalars, seen, with_loggers
from tests.small import Net, loader, trainer


@pytest.fixture
def board(tmp_path: Path) -> TensorBoardLogger:
    return TensorBoardLogger(tmp_path, name="board")


LOSS = torch.linspace(0, 4.9, 50)
TARGET = torch.arange(50) % 5
NUMBERS = ("mean_loss", "loss_spread", "accuracy")
COUNTS = ("num_nan", "num_inf")

# ------------------------------------------------------------------------------------------- numbers and histograms


def test_numbers_go_to_every_logger_and_histograms_to_tensorboard(tmp_path: Path, board: Any) -> None:
    table = CSVLogger(tmp_path, name="table")
    fields = {"loss": LOSS, "correct": LOSS < 1.95, "margin": -LOSS, "el2n": LOSS / 10, "sample_easiness": LOSS / 9}
    for step in (0, 30):
        fit = with_loggers(table, board, steps=step)
        log_observation(fit, seen("train-probe", step, TARGET, 5, **fields))
    table.save()
    values = dict(zip(NUMBERS, (2.45, LOSS.std(correction=0).item(), 0.4), strict=True))
    with open(f"{table.log_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "29"]
    events = read_events(board)
    for name, value in values.items():
        tag = f"easiness/train-probe/{name}"
        assert float(rows[1][tag]) == pytest.approx(value)
        assert scalars(events, tag) == [(0, pytest.approx(value)), (29, pytest.approx(value))]
        assert float(fit.callback_metrics[tag]) == pytest.approx(value)
    for name in COUNTS:  # a line of zeros is not shown, but whoever monitors it finds it
        assert float(fit.callback_metrics[f"easiness/train-probe/{name}"]) == 0
        assert f"easiness/train-probe/{name}" not in [*rows[1], *events.Tags()["scalars"]]
    assert set(events.Tags()["histograms"]) == {
        f"easiness/train-probe/{name}" for name in ("log10_loss", "margin", "el2n", "log10_sample_easiness")
    }
    histograms = events.Histograms("easiness/train-probe/log10_loss")
    assert [event.step for event in histograms] == [0, 29]
    assert histograms[0].histogram_value.num == 50
    assert histograms[0].histogram_value.max == pytest.approx(math.log10(4.9))


def test_losses_that_are_not_finite(board: Any) -> None:
    loss = torch.tensor([1.0, 3.0, torch.nan, torch.inf])
    log_observation(with_loggers(board), seen(loss=loss, correct=torch.tensor([True, True, False, False])))
    log_observation(with_loggers(board, steps=2), seen(loss=torch.full((4,), torch.nan)))
    log_observation(with_loggers(board, steps=3), seen(loss=torch.tensor([1.0, 3.0, torch.inf])))
    events = read_events(board)
    assert scalars(events, "easiness/s/num_nan") == [(0, 1.0), (1, 4.0)]
    assert scalars(events, "easiness/s/num_inf") == [(0, 1.0), (2, 1.0)]
    for name, value in (("mean_loss", 2.0), ("loss_spread", 1.0)):
        logged = scalars(events, f"easiness/s/{name}")
        assert [value != value for _, value in logged] == [True, True, False], "a NaN is not averaged away"
        assert logged[2] == (2, value)
    assert scalars(events, "easiness/s/accuracy") == [(0, 0.5)]
    histogram, _ = events.Histograms("easiness/s/log10_loss")
    assert (histogram.histogram_value.num, histogram.histogram_value.max) == (2, pytest.approx(math.log10(3)))


def test_examples_that_were_not_seen_do_not_count(board: Any) -> None:
    fields = {
        "loss": torch.tensor([1.0, torch.nan, torch.nan]),
        "correct": torch.tensor([True, False, False]),
        "count": torch.tensor([2, 1, 0], dtype=torch.int32),
    }
    log_observation(with_loggers(board), seen(**fields))
    events = read_events(board)
    assert scalars(events, "easiness/s/accuracy") == [(0, 0.5)]
    assert scalars(events, "easiness/s/num_nan") == [(0, 1.0)]
    assert events.Tags()["histograms"] == ["easiness/s/log10_loss"]


def test_histograms_by_class(board: Any) -> None:
    target, loss = torch.tensor([2, 0, -1, 2, 7, 0]), torch.tensor([1.0, 5.0, 9.0, 2.0, 3.0, torch.nan])
    fit = with_loggers(board)
    log_observation(fit, seen("few", 3, target, 5, loss=loss), by_class=True)
    log_observation(fit, seen("none", 0, None, 5, loss=LOSS), by_class=True)
    log_observation(fit, seen("all", 0, TARGET, None, loss=LOSS), by_class=True)
    events = read_events(board)
    found = {tag: events.Histograms(tag)[0].histogram_value for tag in events.Tags()["histograms"]}
    assert set(found) == {
        *(f"easiness/{series}/log10_loss" for series in ("none", "few", "all")),
        *(f"easiness-loss-by-class/few/log10_loss_class_{label}" for label in (0, 2)),
        *(f"easiness-loss-by-class/all/log10_loss_class_{label}" for label in range(5)),
    }
    for label, losses in ((0, (5.0,)), (2, (1.0, 2.0))):
        one = found[f"easiness-loss-by-class/few/log10_loss_class_{label}"]
        assert (one.num, one.sum) == (len(losses), pytest.approx(sum(map(math.log10, losses))))


def test_shares_of_levels_add_up_to_one(board: Any) -> None:
    easiness = torch.tensor([0.0, 1e-5, 1e-5, 0.9999, 1.0, 1.0, 1.0, torch.nan])
    weakest = torch.tensor([0.0, 1e-4, 0.3, 0.9999, 1.0, 1.0, 1.0, torch.nan])
    fields = {"sample_easiness": easiness, "weakest_comparison": weakest}
    log_observation(with_loggers(board), seen(loss=torch.rand(8), **fields))
    unknown = {name: torch.full((2,), torch.nan) for name in fields}
    log_observation(with_loggers(board), seen("none", loss=torch.rand(2), **unknown))
    events = read_events(board)
    for name, share in (("hard", 2 / 7), ("medium", 1 / 7), ("easy", 4 / 7)):
        assert scalars(events, f"easiness-levels/s/{name}") == [(0, pytest.approx(share))]
    assert not [tag for tag in events.Tags()["scalars"] if "levels/none" in tag]


# --------------------------------------------------------------------------------------------------------- in a fit


def test_every_number_once_in_every_logger(tmp_path: Path, board: Any) -> None:
    """On one axis with Lightning's own numbers, which counts steps from 0."""
    table = CSVLogger(tmp_path, name="table")
    callback = EasinessCallback(tmp_path / "record", at_steps=(0, 3, 14), num_images=0)
    fit = trainer(callbacks=[callback], logger=[board, table], max_epochs=3, log_every_n_steps=1)
    fit.fit(Net(), loader())
    events = read_events(board)
    with open(f"{table.log_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    for series, steps in (("train-probe", [0, 2, 13, 20]), ("train-online", [6, 13, 20])):
        record = EasinessRecord.load(tmp_path / "record", series)
        losses = record.loss[0].mean(1).tolist()
        for name in NUMBERS:
            assert [step for step, _ in scalars(events, f"easiness/{series}/{name}")] == steps
        tag = f"easiness/{series}/mean_loss"
        assert [value for _, value in scalars(events, tag)] == pytest.approx(losses)
        logged = [(int(row["step"]), float(row[tag])) for row in rows if row[tag]]
        assert logged == [(step, pytest.approx(loss)) for step, loss in zip(steps, losses, strict=True)]
        assert float(fit.callback_metrics[tag]) == pytest.approx(losses[-1])
    for name in ("easiness/data_use", "easiness/epoch_seconds", *(f"easiness/train-online/{name}" for name in COUNTS)):
        assert name in fit.callback_metrics
        assert name not in [*rows[0], *events.Tags()["scalars"]], "a flat line, where nothing is selected"


@pytest.mark.parametrize("series", ["train-online", "train-probe"])
def test_what_is_observed_can_be_monitored(series: str, tmp_path: Path) -> None:
    """A checkpoint is kept, and the fit is stopped; the online loss by the callback's default."""
    tag = f"easiness/{series}/mean_loss"
    best = ModelCheckpoint(tmp_path, filename="{epoch}", monitor=tag, mode="max", save_top_k=1)
    observer = EasinessCallback(tmp_path / "record", every_n_epochs=1 if series == "train-probe" else None)
    stop = EarlyStopping(tag, patience=2, min_delta=9.0)
    fit = trainer(callbacks=[best, stop, observer], enable_checkpointing=True, max_epochs=9)
    fit.fit(Net(), loader(), loader(shuffle=False))
    losses = EasinessRecord.load(tmp_path / "record", series).loss[0].mean(1)
    assert float(best.best_model_score) == pytest.approx(float(losses.max()))
    assert Path(best.best_model_path).name == f"epoch={int(losses.argmax())}.ckpt"
    assert fit.current_epoch == 3
    probe = EasinessRecord.load(tmp_path / "record", "train-probe")
    assert probe.steps.tolist()[-1] == 21, "the end of a fit that stops early"


def test_a_training_that_diverges_is_seen_by_those_who_monitor_it(tmp_path: Path) -> None:
    class Diverges(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (torch.nan if self.current_epoch == 1 else 1.0)

    monitor = "easiness/train-online/mean_loss"
    best, stop = ModelCheckpoint(tmp_path, "{epoch}", monitor, save_top_k=1), EarlyStopping(monitor)
    fit = trainer(
        callbacks=[best, stop, EasinessCallback(tmp_path / "record")], max_epochs=6, enable_checkpointing=True
    )
    fit.fit(Diverges(), loader())
    assert fit.current_epoch == 2
    assert Path(best.best_model_path).name == "epoch=0.ckpt"
