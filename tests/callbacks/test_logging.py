import csv
import random

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_easiness.callbacks import logging as view
from lightning_easiness.callbacks.logging import log_observation, log_sheets


@pytest.fixture(autouse=True)
def _warnings_are_told_anew(monkeypatch):
    monkeypatch.setattr(view, "_told", set())


@pytest.fixture
def board(tmp_path):
    return TensorBoardLogger(tmp_path, name="board")


def read_events(logger):
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    return events


def scalars(events, name):
    return [(event.step, event.value) for event in events.Scalars(name)]


class Augmented:
    """Draws from every stream that a data set can draw from, its own among them."""

    def __init__(self, shape=(3, 8, 8)):
        self.shape = shape
        self.read = 0
        self.transforms = [torch.Generator().manual_seed(0), np.random.default_rng(0)]

    def __len__(self):
        return 50

    def __getitem__(self, index):
        self.read += 1
        noise = random.random() + np.random.rand() + self.transforms[1].random()  # noqa: NPY002
        return torch.rand(self.shape) + torch.rand(1, generator=self.transforms[0]) + noise, index % 5

    def streams(self):
        return [
            torch.get_rng_state().tolist(),
            str(np.random.get_state()),  # noqa: NPY002
            random.getstate(),
            self.transforms[0].get_state().tolist(),
            str(self.transforms[1].bit_generator.state),
        ]


LOSS = torch.linspace(0, 4.9, 50)
TARGET = torch.arange(50) % 5


# --- numbers and histograms


def test_numbers_go_to_every_logger_and_histograms_to_tensorboard(tmp_path, board):
    table = CSVLogger(tmp_path, name="table")
    fields = {"loss": LOSS, "correct": LOSS < 1.95, "margin": -LOSS, "el2n": LOSS / 10, "sample_easiness": LOSS / 9}
    for step in (0, 30):
        log_observation([table, board], fields, TARGET, 5, step, "train-probe")
    table.save()
    expected = {
        "mean_loss": 2.45,
        "loss_spread": LOSS.std(correction=0).item(),
        "accuracy": 0.4,
        "num_nan": 0,
        "num_inf": 0,
    }
    with open(f"{table.log_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "30"]
    events = read_events(board)
    for name, value in expected.items():
        tag = f"easiness/train-probe/{name}"
        assert float(rows[1][tag]) == pytest.approx(value)
        assert scalars(events, tag) == [(0, pytest.approx(value)), (30, pytest.approx(value))]
    assert set(events.Tags()["histograms"]) == {
        f"easiness/train-probe/{name}" for name in ("loss", "margin", "el2n", "sample_easiness")
    }
    histograms = events.Histograms("easiness/train-probe/loss")
    assert [event.step for event in histograms] == [0, 30]
    assert histograms[0].histogram_value.num == 50
    assert histograms[0].histogram_value.max == pytest.approx(4.9)


def test_losses_that_are_not_finite(board):
    loss = torch.tensor([1.0, 3.0, torch.nan, torch.inf])
    log_observation([board], {"loss": loss, "correct": torch.tensor([True, True, False, False])}, None, None, 1, "s")
    log_observation([board], {"loss": torch.full((4,), torch.nan)}, None, None, 2, "s")
    events = read_events(board)
    assert scalars(events, "easiness/s/num_nan") == [(1, 1.0), (2, 4.0)]
    assert scalars(events, "easiness/s/num_inf") == [(1, 1.0), (2, 0.0)]
    assert scalars(events, "easiness/s/mean_loss") == [(1, 2.0)]
    assert scalars(events, "easiness/s/loss_spread") == [(1, 1.0)]
    assert scalars(events, "easiness/s/accuracy") == [(1, 0.5)]
    (histogram,) = events.Histograms("easiness/s/loss")
    assert (histogram.histogram_value.num, histogram.histogram_value.max) == (2, 3.0)


def test_examples_that_were_not_seen_do_not_count(board):
    fields = {
        "loss": torch.tensor([1.0, torch.nan, torch.nan]),
        "correct": torch.tensor([True, False, False]),
        "count": torch.tensor([2, 1, 0], dtype=torch.int32),
    }
    log_observation([board], fields, None, None, 1, "train-online")
    events = read_events(board)
    assert scalars(events, "easiness/train-online/accuracy") == [(1, 0.5)]
    assert scalars(events, "easiness/train-online/num_nan") == [(1, 1.0)]
    assert events.Tags()["histograms"] == ["easiness/train-online/loss"]


def test_histograms_by_class_are_those_of_each_class(board):
    target = torch.tensor([2, 0, -1, 2, 7, 0])
    loss = torch.tensor([1.0, 5.0, 9.0, 2.0, 3.0, torch.nan])
    log_observation([board], {"loss": loss}, target, 5, 3, "s", by_class=True)
    events = read_events(board)
    by_class = {tag: events.Histograms(tag)[0].histogram_value for tag in events.Tags()["histograms"]}
    assert set(by_class) == {"easiness/s/loss", "easiness/s/loss/class_0", "easiness/s/loss/class_2"}
    assert (by_class["easiness/s/loss/class_0"].num, by_class["easiness/s/loss/class_0"].sum) == (1, 5.0)
    assert (by_class["easiness/s/loss/class_2"].num, by_class["easiness/s/loss/class_2"].sum) == (2, 3.0)


def test_by_class_without_labels_or_bound(board):
    log_observation([board], {"loss": LOSS}, None, 5, 0, "none", by_class=True)
    log_observation([board], {"loss": LOSS}, TARGET, None, 0, "all", by_class=True)
    tags = set(read_events(board).Tags()["histograms"])
    assert tags == {"easiness/none/loss", "easiness/all/loss", *(f"easiness/all/loss/class_{k}" for k in range(5))}


# --- pictures


def test_sheets_in_tensorboard(tmp_path, board, monkeypatch):
    drawn = []
    real = view.image_grid
    monkeypatch.setattr(
        view,
        "image_grid",
        lambda *args, **options: drawn.append((args, options, real(*args, **options))) or drawn[-1][2],
    )
    dataset = [{"pixel_values": torch.randn(3, 32, 32), "label": i % 5} for i in range(50)]
    loss = LOSS.clone()
    loss[49] = torch.nan
    for step in (10, 20):
        log_sheets([CSVLogger(tmp_path), board], dataset, {"loss": loss}, TARGET, step, "val-probe", 4)
    events = read_events(board)
    assert set(events.Tags()["images"]) == {"easiness/val-probe/hardest", "easiness/val-probe/easiest"}
    hardest, easiest = drawn[2:]
    assert hardest[0][1:] == (
        [48, 47, 46, 45],
        ["#48  label 3\n4.80", "#47  label 2\n4.70", "#46  label 1\n4.60", "#45  label 0\n4.50"],
    )
    assert hardest[1] == {"title": "Hardest of 49 by loss at step 20\nval-probe: index, label, loss"}
    assert easiest[0][1] == [0, 1, 2, 3]
    for name, sheet in (("hardest", hardest[2]), ("easiest", easiest[2])):
        images = events.Images(f"easiness/val-probe/{name}")
        assert [(image.step, image.height, image.width) for image in images] == [
            (step, *sheet.shape[1:]) for step in (10, 20)
        ]


def test_captions_without_labels_and_with_class_names(board, monkeypatch):
    captions = []
    monkeypatch.setattr(view, "image_grid", lambda *args, **_: captions.append(args[2]) or torch.zeros(3, 9, 9))
    dataset, fields = torch.rand(2, 8, 8), {"loss": torch.tensor([0.5, 1.5])}
    log_sheets([board], dataset, fields, None, 0, "s", 1)
    log_sheets([board], dataset, fields, torch.tensor([1, -1]), 0, "s", 1, ["cat", "dog"])
    assert captions == [["#1  no label\n1.50"], ["#0  no label\n0.50"], ["#1  no label\n1.50"], ["#0  dog\n0.50"]]
    with pytest.raises(ValueError, match=r"^`class_names` must name the labels 0 to 1; got 1 names.$"):
        log_sheets([board], dataset, fields, torch.tensor([1, -1]), 0, "s", 1, ["cat"])


@pytest.mark.parametrize("shape", [(3, 8, 8), (16,)], ids=["pictures", "vectors"])
@pytest.mark.filterwarnings("ignore:Augmented holds no images")
def test_random_streams_are_as_before(board, shape):
    dataset = Augmented(shape)
    before = dataset.streams()
    log_sheets([board], dataset, {"loss": LOSS}, TARGET, 0, "train-probe")
    assert dataset.read > 0
    assert dataset.streams() == before
    dataset[0]
    assert all(now != then for now, then in zip(dataset.streams(), before, strict=True))


def test_a_data_set_without_pictures_is_passed_over_with_one_warning(board):
    dataset = torch.zeros(50, 16)
    message = (
        r"^Tensor holds no images: found a float32 tensor of shape \(16,\) in place of one\. .*"
        r" Numbers and histograms are logged without pictures\.$"
    )
    with pytest.warns(UserWarning, match=message):
        log_sheets([board], dataset, {"loss": LOSS}, TARGET, 0, "train-probe")
    log_sheets([board], dataset, {"loss": LOSS}, TARGET, 1, "train-probe")  # a warning would be an error here
    assert read_events(board).Tags()["images"] == []


def test_nothing_is_read_where_nothing_is_shown(tmp_path, board, monkeypatch):
    dataset = Augmented()
    log_sheets([CSVLogger(tmp_path), DummyLogger()], dataset, {"loss": LOSS}, TARGET, 0, "s")
    log_sheets([], dataset, {"loss": LOSS}, TARGET, 0, "s")
    log_sheets([board], dataset, {"loss": LOSS}, TARGET, 0, "s", num_images=0)
    log_sheets([board], dataset, {"loss": torch.full((50,), torch.nan)}, TARGET, 0, "s")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_sheets([board], dataset, {"loss": LOSS}, TARGET, 0, "s")
    assert dataset.read == 0


def test_loggers_with_log_image_get_the_sheets():
    class Pictures(DummyLogger):
        def __init__(self):
            super().__init__()
            self.shown = []

        def log_image(self, key, images, step=None):
            self.shown.append((key, [image.mode for image in images], step))

    logger = Pictures()
    log_sheets([logger], Augmented(), {"loss": LOSS}, TARGET, 7, "train-probe")
    assert logger.shown == [("easiness/train-probe/hardest", ["RGB"], 7), ("easiness/train-probe/easiest", ["RGB"], 7)]


def test_a_picture_that_cannot_be_read_now_stops_nothing(board):
    class Flaky(Augmented):
        def __getitem__(self, index):
            raise OSError("the network drive is away")

    fields = {"loss": torch.rand(12)}
    with pytest.warns(UserWarning, match=r"Pictures could not be read \(OSError: the network drive is away\)"):
        log_sheets([board], Flaky(), fields, None, 1, "train-probe", 3)
