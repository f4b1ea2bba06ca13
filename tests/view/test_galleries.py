"""What stands below an image: the probability of the predicted class, from what is recorded."""

from __future__ import annotations

import pytest
import torch

from lightning_easiness.functional import margin
from lightning_easiness.view.galleries import gallery, predicted_probability
from lightning_easiness.view.words import ClassNamer


def test_the_probability_of_the_prediction_against_the_softmax() -> None:
    logits = 3 * torch.randn(200, 7, generator=torch.Generator().manual_seed(0))
    target = torch.arange(200) % 7
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    found = [predicted_probability(*map(float, pair)) for pair in zip(loss, margin(logits, target), strict=True)]
    assert found == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=1e-5)
    assert predicted_probability(1000.0, -1000.0) == 1
    assert predicted_probability(0.0, 5.0) == 1


def test_words_of_a_prediction() -> None:
    name = ClassNamer()
    assert name.with_prediction(8, 9, 0.934) == "8, predicted 9 (0.93)"
    assert name.with_prediction(8, 8, 0.934) == "label 8 (0.93)"
    assert name.with_prediction(8, 9) == "8, predicted 9"
    assert name.with_prediction(8, -1, 0.5) == "label 8"
    assert ClassNamer(["Bag", "Coat"]).with_prediction(0, 1, 0.5) == "Bag\npredicted Coat (0.50)"
    assert ClassNamer(["a", "b"]).with_prediction(0, 1, 0.5) == "a, predicted b (0.50)"


def test_a_gallery_is_as_wide_as_a_card() -> None:
    for size in (8, 28, 224):
        image = gallery(torch.rand(12, size, size), range(12), ["#1\nlabel, predicted 9 (0.93)"] * 12, "Hardest " * 9)
        assert 300 <= image.shape[2] <= 370
