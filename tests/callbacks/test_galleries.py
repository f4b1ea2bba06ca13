"""Galleries in the loggers: which examples, with which words, and nothing of the user's data set touched."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from lightning_easiness._utils import warnings
from lightning_easiness.callbacks import galleries
from lightning_easiness.callbacks.history import History
from lightning_easiness.functional import margin
from tests.boards import Augmented, read_events, seen, with_loggers

LOSS = torch.linspace(0, 4.9, 50)
TARGET = torch.arange(50) % 5


@pytest.fixture(autouse=True)
def _each_warning_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "_said", set())


@pytest.fixture
def board(tmp_path: Path) -> TensorBoardLogger:
    return TensorBoardLogger(tmp_path, name="board")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The indices, captions and title of each gallery, by the first word of the title."""
    found: dict[str, Any] = {}

    def note(dataset: Any, indices: Any, captions: Any, title: str) -> Tensor:
        found[title.split()[0]] = (indices, captions, title)
        return torch.zeros(3, 9, 9, dtype=torch.uint8)

    monkeypatch.setattr(galleries, "gallery", note)
    return found


def history_of(*checkpoints: Any) -> History:
    history = History(len(checkpoints[0].fields["loss"]))
    for epoch, one in enumerate(checkpoints):
        history.add(one.fields, epoch, one.step, one.loss_name)
    return history


def log(trainer: Any, dataset: Any, *checkpoints: Any, **options: Any) -> None:
    """Log the last of several checkpoints of a series."""
    history = history_of(*checkpoints)
    galleries.log_galleries(trainer, dataset, checkpoints[-1], history, history, **options)


def of_logits(logits: Tensor, target: Tensor, step: int) -> Any:
    return seen(
        "train-probe",
        step,
        target,
        logits.shape[1],
        loss=torch.nn.functional.cross_entropy(logits, target, reduction="none"),
        margin=margin(logits, target),
        correct=logits.argmax(1) == target,
        prediction=logits.argmax(1).short(),
    )


def test_all_four_galleries_against_a_reading_by_hand(board: Any, drawn: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, last = (2 * torch.randn(50, 5, generator=generator) for _ in range(2))
    fit = with_loggers(board, steps=20)
    log(fit, torch.rand(50, 8, 8), of_logits(first, TARGET, 10), of_logits(last, TARGET, 20), num_images=4)

    p_first, p_last = (logits.softmax(1)[torch.arange(50), TARGET] for logits in (first, last))
    mean_margin = (margin(first, TARGET) + margin(last, TARGET)) / 2
    expected = {
        "Hardest": p_last.argsort()[:4],
        "Easiest": p_last.argsort(descending=True)[:4],
        "Most": (p_last - p_first).abs().argsort(descending=True)[:4],
        "Suspicious": mean_margin.argsort()[:4],
    }
    assert {name: indices for name, (indices, _, _) in drawn.items()} == {k: v.tolist() for k, v in expected.items()}
    for indices, captions, _ in drawn.values():
        for index, caption in zip(indices, captions, strict=True):
            predicted, probability = int(last[index].argmax()), float(last[index].softmax(0).max())
            label = int(TARGET[index])
            is_right = predicted == label
            words = f"label {label}" if is_right else f"{label}, predicted {predicted}"
            assert caption.startswith(f"#{index}\n{words} ({probability:.2f})\n")
    indices, captions, title = drawn["Most"]
    assert title.startswith("Most changed since the last pass, after 20 steps\ntrain-probe: index, label, predicted")
    before, now = (float(caption) for caption in captions[0].split("\n")[-1].split(" to "))
    assert (before, now) == (
        pytest.approx(float(p_first[indices[0]]), abs=0.005),
        pytest.approx(float(p_last[indices[0]]), abs=0.005),
    )
    assert drawn["Hardest"][2].split("\n")[0] == "Hardest of 50 after 20 steps"
    names = ("easiest", "hardest", "most_changed", "suspects")
    assert set(read_events(board).Tags()["images"]) == {f"easiness/train-probe/{name}" for name in names}


def test_names_of_classes_and_labels_that_are_not_known(board: Any, drawn: dict[str, Any]) -> None:
    class Named(list):
        classes = ("cat", "dog", "eel")

    target = torch.tensor([1, -1])
    prediction = torch.tensor([2, 0], dtype=torch.int16)
    log(with_loggers(board), Named([0, 0]), seen(target=target, loss=torch.tensor([0.5, 1.5]), prediction=prediction))
    assert drawn["Hardest"][1] == ["#1\nno label\npredicted cat\n1.50", "#0\ndog\npredicted eel\n0.50"]
    log(with_loggers(board), [0, 0], seen(loss=torch.tensor([0.5, 1.5])), num_images=1)
    assert drawn["Hardest"][1] == ["#1  no label\n1.50"]
    assert drawn["Hardest"][2] == "Hardest of 2 after 1 step\ns: index, label, loss"


def test_examples_without_a_loss_are_in_no_gallery(board: Any, drawn: dict[str, Any]) -> None:
    loss = torch.tensor([1.0, torch.nan, 2.0])
    other = torch.tensor([3.0, 1.0, torch.nan])
    margins = torch.tensor([-1.0, torch.nan, 0.0])
    log(with_loggers(board), [0] * 3, seen(loss=other, margin=margins), seen(loss=loss, margin=margins), num_images=9)
    assert {name: indices for name, (indices, _, _) in drawn.items()} == {
        "Hardest": [2, 0],
        "Easiest": [0, 2],
        "Most": [0],
        "Suspicious": [0, 2],
    }


def test_a_loss_that_is_no_cross_entropy_has_no_probabilities(board: Any, drawn: dict[str, Any]) -> None:
    checkpoints = [
        replace(
            seen(loss=loss, margin=torch.zeros(2), prediction=torch.zeros(2, dtype=torch.int16)), loss_name="mse_loss"
        )
        for loss in (torch.tensor([-7.0, 9.0]), torch.tensor([-7.5, 19.0]))
    ]
    log(with_loggers(board), [0, 0], *checkpoints)
    changes = ((1, "9.00 to 19.00"), (0, "-7.00 to -7.50"))
    captions = [f"#{index}\nno label, predicted 0\n{change}" for index, change in changes]
    assert drawn["Most"][:2] == ([1, 0], captions)
    assert drawn["Most"][2].endswith("predicted label, loss before and now")


NO_IMAGES = (
    r"^Augmented holds no images: found a float32 tensor of shape \(16,\) in place of one\. .*"
    r" Numbers, histograms and the data map are logged without images\.$"
)


@pytest.mark.parametrize("shape", [(3, 8, 8), (16,)], ids=["images", "vectors"])
def test_rng_states_are_restored_and_no_images_are_warned_of_once(board: Any, shape: Any) -> None:
    dataset = Augmented(shape)
    before = dataset.states()
    with pytest.warns(UserWarning, match=NO_IMAGES) if shape == (16,) else nullcontext():
        log(with_loggers(board), dataset, seen(target=TARGET, loss=LOSS))
    log(with_loggers(board), dataset, seen(target=TARGET, loss=LOSS))  # a warning would be an error here
    assert (len(read_events(board).Tags()["images"]) == 0) == (shape == (16,))
    assert dataset.read > 0
    assert dataset.states() == before
    dataset[0]
    assert all(now != then for now, then in zip(dataset.states(), before, strict=True))


def test_nothing_is_read_where_nothing_is_shown(tmp_path: Path, board: Any) -> None:
    dataset, observation = Augmented(), seen(target=TARGET, loss=LOSS)
    log(with_loggers(CSVLogger(tmp_path), DummyLogger()), dataset, observation)
    log(with_loggers(), dataset, observation)
    log(with_loggers(board), dataset, observation, num_images=0)
    log(with_loggers(board), dataset, seen(loss=torch.full((50,), torch.nan)))
    log(with_loggers(board, rank=1), dataset, observation)
    assert dataset.read == 0


def test_loggers_with_log_image_get_the_galleries() -> None:
    class Images(DummyLogger):
        def __init__(self) -> None:
            super().__init__()
            self.shown: list[Any] = []

        def log_image(self, key: str, images: Any, step: Any = None) -> None:
            self.shown.append((key, [image.mode for image in images], step))

    logger = Images()
    log(with_loggers(logger, steps=7), Augmented(), seen("train-probe", 7, TARGET, loss=LOSS))
    assert logger.shown == [(f"easiness/train-probe/{end}", ["RGB"], 6) for end in ("hardest", "easiest")]


def test_an_image_that_cannot_be_read_now_stops_nothing(board: Any) -> None:
    class Flaky(Augmented):
        def __getitem__(self, index: int) -> Any:
            raise OSError("the network drive is away")

    with pytest.warns(UserWarning, match=r"Images could not be read \(OSError: the network drive is away\)"):
        log(with_loggers(board), Flaky(), seen(loss=torch.rand(12)), num_images=3)
