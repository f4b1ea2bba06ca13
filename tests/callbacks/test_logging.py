"""What the callback logs: numbers that monitors can see, histograms, grids of images."""

from __future__ import annotations

import csv
import random
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord, Observation
from lightning_easiness.callbacks import logging as view
from lightning_easiness.callbacks.logging import log_images, log_observation
from lightning_easiness.data.identity import DataIdentity
from tests.small import Net, loader, streams, trainer


@pytest.fixture(autouse=True)
def _each_warning_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "_warned", set())


@pytest.fixture
def board(tmp_path: Path) -> TensorBoardLogger:
    return TensorBoardLogger(tmp_path, name="board")


def with_loggers(*loggers: Any, rank: int = 0, steps: int = 1) -> Any:
    """What the functions need of a Trainer, after so many steps."""
    batches = SimpleNamespace(current=SimpleNamespace(processed=steps, completed=steps))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=steps, batch_progress=batches))
    return SimpleNamespace(loggers=list(loggers), is_global_zero=rank == 0, callback_metrics={}, fit_loop=loop)


def seen(
    series: str = "s", step: int = 1, target: Tensor | None = None, num_classes: Any = None, **fields: Tensor
) -> Any:
    identity = DataIdentity(len(fields["loss"]), target)
    return Observation(series, step, 0, fields, identity, num_classes, "cross_entropy")


def read_events(logger: TensorBoardLogger) -> Any:
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    return events


def scalars(events: Any, name: str) -> list[Any]:
    return [(event.step, event.value) for event in events.Scalars(name)]


class Augmented:
    """Draws from every generator that a data set can draw from, its own among them."""

    def __init__(self, shape: Any = (3, 8, 8)) -> None:
        self.shape = shape
        self.read = 0
        self.transforms = [torch.Generator().manual_seed(0), np.random.default_rng(0)]

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        noise = random.random() + np.random.rand() + self.transforms[1].random()  # noqa: NPY002
        return torch.rand(self.shape) + torch.rand(1, generator=self.transforms[0]) + noise, index % 5

    def states(self) -> list[Any]:
        own = [self.transforms[0].get_state().tolist(), str(self.transforms[1].bit_generator.state)]
        return [*streams(), *own]


LOSS = torch.linspace(0, 4.9, 50)
TARGET = torch.arange(50) % 5
NUMBERS = ("mean_loss", "loss_spread", "accuracy", "num_nan", "num_inf")

# ------------------------------------------------------------------------------------------- numbers and histograms


def test_numbers_go_to_every_logger_and_histograms_to_tensorboard(tmp_path: Path, board: Any) -> None:
    table = CSVLogger(tmp_path, name="table")
    fields = {"loss": LOSS, "correct": LOSS < 1.95, "margin": -LOSS, "el2n": LOSS / 10, "sample_easiness": LOSS / 9}
    for step in (0, 30):
        fit = with_loggers(table, board, steps=step)
        log_observation(fit, seen("train-probe", step, TARGET, 5, **fields))
    table.save()
    values = dict(zip(NUMBERS, (2.45, LOSS.std(correction=0).item(), 0.4, 0, 0), strict=True))
    with open(f"{table.log_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "29"]
    events = read_events(board)
    for name, value in values.items():
        tag = f"easiness/train-probe/{name}"
        assert float(rows[1][tag]) == pytest.approx(value)
        assert scalars(events, tag) == [(0, pytest.approx(value)), (29, pytest.approx(value))]
        assert float(fit.callback_metrics[tag]) == pytest.approx(value)
    assert set(events.Tags()["histograms"]) == {
        f"easiness/train-probe/{name}" for name in ("loss", "margin", "el2n", "sample_easiness")
    }
    histograms = events.Histograms("easiness/train-probe/loss")
    assert [event.step for event in histograms] == [0, 29]
    assert histograms[0].histogram_value.num == 50
    assert histograms[0].histogram_value.max == pytest.approx(4.9)


def test_losses_that_are_not_finite(board: Any) -> None:
    loss = torch.tensor([1.0, 3.0, torch.nan, torch.inf])
    log_observation(with_loggers(board), seen(loss=loss, correct=torch.tensor([True, True, False, False])))
    log_observation(with_loggers(board, steps=2), seen(loss=torch.full((4,), torch.nan)))
    log_observation(with_loggers(board, steps=3), seen(loss=torch.tensor([1.0, 3.0, torch.inf])))
    events = read_events(board)
    assert scalars(events, "easiness/s/num_nan") == [(0, 1.0), (1, 4.0), (2, 0.0)]
    assert scalars(events, "easiness/s/num_inf") == [(0, 1.0), (1, 0.0), (2, 1.0)]
    for name, value in (("mean_loss", 2.0), ("loss_spread", 1.0)):
        logged = scalars(events, f"easiness/s/{name}")
        assert [value != value for _, value in logged] == [True, True, False], "a NaN is not averaged away"
        assert logged[2] == (2, value)
    assert scalars(events, "easiness/s/accuracy") == [(0, 0.5)]
    histogram, _ = events.Histograms("easiness/s/loss")
    assert (histogram.histogram_value.num, histogram.histogram_value.max) == (2, 3.0)


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
    assert events.Tags()["histograms"] == ["easiness/s/loss"]


def test_histograms_by_class(board: Any) -> None:
    target, loss = torch.tensor([2, 0, -1, 2, 7, 0]), torch.tensor([1.0, 5.0, 9.0, 2.0, 3.0, torch.nan])
    fit = with_loggers(board)
    log_observation(fit, seen("few", 3, target, 5, loss=loss), by_class=True)
    log_observation(fit, seen("none", 0, None, 5, loss=LOSS), by_class=True)
    log_observation(fit, seen("all", 0, TARGET, None, loss=LOSS), by_class=True)
    events = read_events(board)
    found = {tag: events.Histograms(tag)[0].histogram_value for tag in events.Tags()["histograms"]}
    assert set(found) == {
        "easiness/none/loss",
        *(f"easiness/few/loss{name}" for name in ("", "/class_0", "/class_2")),
        *(f"easiness/all/loss{name}" for name in ("", *(f"/class_{k}" for k in range(5)))),
    }
    assert (found["easiness/few/loss/class_0"].num, found["easiness/few/loss/class_0"].sum) == (1, 5.0)
    assert (found["easiness/few/loss/class_2"].num, found["easiness/few/loss/class_2"].sum) == (2, 3.0)


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
    for name in ("data_use", "epoch_seconds"):
        assert [step for step, _ in scalars(events, f"easiness/{name}")] == [6, 13, 20]


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


# ---------------------------------------------------------------------------------------------------------- images


def test_grids_in_tensorboard(tmp_path: Path, board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    real = view.image_grid

    def spy(*args: Any, **options: Any) -> Any:
        drawn.append((args, options, real(*args, **options)))
        return drawn[-1][2]

    monkeypatch.setattr(view, "image_grid", spy)
    dataset = [{"pixel_values": torch.randn(3, 32, 32), "label": i % 5} for i in range(50)]
    loss = LOSS.clone()
    loss[49] = torch.nan
    for step in (10, 20):
        fit = with_loggers(CSVLogger(tmp_path), board, steps=step)
        log_images(fit, dataset, seen("val-probe", step, TARGET, loss=loss), 4)
    events = read_events(board)
    assert set(events.Tags()["images"]) == {"easiness/val-probe/hardest", "easiness/val-probe/easiest"}
    hardest, easiest = drawn[2:]
    assert hardest[0][1:] == (
        [48, 47, 46, 45],
        ["#48  label 3\n4.80", "#47  label 2\n4.70", "#46  label 1\n4.60", "#45  label 0\n4.50"],
    )
    assert hardest[1] == {"title": "Hardest of 49 by loss at step 20\nval-probe: index, label, loss"}
    assert easiest[0][1] == [0, 1, 2, 3]
    for name, grid in (("hardest", hardest[2]), ("easiest", easiest[2])):
        images = events.Images(f"easiness/val-probe/{name}")
        assert [(image.step, image.height, image.width) for image in images] == [
            (step, *grid.shape[1:]) for step in (9, 19)
        ]


def test_captions_where_labels_are_not_known(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[Any] = []
    monkeypatch.setattr(view, "image_grid", lambda *args, **_: captions.append(args[2]) or torch.zeros(3, 9, 9))
    for target in (None, torch.tensor([1, -1])):
        log_images(with_loggers(board), torch.rand(2, 8, 8), seen(target=target, loss=torch.tensor([0.5, 1.5])), 1)
    assert captions == [["#1  no label\n1.50"], ["#0  no label\n0.50"], ["#1  no label\n1.50"], ["#0  label 1\n0.50"]]


NO_IMAGES = (
    r"^Augmented holds no images: found a float32 tensor of shape \(16,\) in place of one\. .*"
    r" Numbers and histograms are logged without images\.$"
)


@pytest.mark.parametrize("shape", [(3, 8, 8), (16,)], ids=["images", "vectors"])
def test_rng_states_are_restored_and_no_images_are_warned_of_once(board: Any, shape: Any) -> None:
    dataset = Augmented(shape)
    before = dataset.states()
    with pytest.warns(UserWarning, match=NO_IMAGES) if shape == (16,) else nullcontext():
        log_images(with_loggers(board), dataset, seen(target=TARGET, loss=LOSS))
    log_images(with_loggers(board), dataset, seen(target=TARGET, loss=LOSS))  # a warning would be an error here
    assert (len(read_events(board).Tags()["images"]) == 0) == (shape == (16,))
    assert dataset.read > 0
    assert dataset.states() == before
    dataset[0]
    assert all(now != then for now, then in zip(dataset.states(), before, strict=True))


def test_nothing_is_read_where_nothing_is_shown(tmp_path: Path, board: Any) -> None:
    dataset, observation = Augmented(), seen(target=TARGET, loss=LOSS)
    log_images(with_loggers(CSVLogger(tmp_path), DummyLogger()), dataset, observation)
    log_images(with_loggers(), dataset, observation)
    log_images(with_loggers(board), dataset, observation, num_images=0)
    log_images(with_loggers(board), dataset, seen(loss=torch.full((50,), torch.nan)))
    log_images(with_loggers(board, rank=1), dataset, observation)
    assert dataset.read == 0


def test_loggers_with_log_image_get_the_grids() -> None:
    class Images(DummyLogger):
        def __init__(self) -> None:
            super().__init__()
            self.shown: list[Any] = []

        def log_image(self, key: str, images: Any, step: Any = None) -> None:
            self.shown.append((key, [image.mode for image in images], step))

    logger = Images()
    log_images(with_loggers(logger, steps=7), Augmented(), seen("train-probe", 7, TARGET, loss=LOSS))
    assert logger.shown == [(f"easiness/train-probe/{end}", ["RGB"], 6) for end in ("hardest", "easiest")]


def test_an_image_that_cannot_be_read_now_stops_nothing(board: Any) -> None:
    class Flaky(Augmented):
        def __getitem__(self, index: int) -> Any:
            raise OSError("the network drive is away")

    with pytest.warns(UserWarning, match=r"Images could not be read \(OSError: the network drive is away\)"):
        log_images(with_loggers(board), Flaky(), seen(loss=torch.rand(12)), 3)
