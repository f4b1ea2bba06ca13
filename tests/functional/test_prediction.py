"""The class that most runs predict, against counting by hand; confidence against the softmax itself."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import (
    class_accuracy,
    margin,
    max_probability,
    most_predicted_class,
    worst_class_accuracy,
)


def counted(column: list[int]) -> int:
    """The class with the most votes, the smallest of those with as many; -1 without a vote."""
    votes = Counter(predicted for predicted in column if predicted >= 0)
    return min((predicted for predicted in votes if votes[predicted] == max(votes.values())), default=-1)


@given(st.data(), st.integers(1, 9), st.integers(0, 12), st.integers(1, 5))
def test_the_most_frequent_class_wins_and_of_equals_the_smallest(data, runs, examples, classes):
    rows = [
        data.draw(st.lists(st.integers(-1, classes - 1), min_size=examples, max_size=examples)) for _ in range(runs)
    ]
    prediction = torch.tensor(rows, dtype=torch.int16).reshape(runs, examples)
    found = most_predicted_class(prediction)
    assert found.dtype == torch.int64
    assert found.tolist() == [counted(list(column)) for column in zip(*rows, strict=True)]
    assert torch.equal(most_predicted_class(prediction.flip(0)), found)


def test_a_run_alone_is_its_own_prediction():
    assert most_predicted_class(torch.tensor([[4, -1, 300]], dtype=torch.int16)).tolist() == [4, -1, 300]


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 100.0])
def test_confidence_is_the_largest_softmax_output_whatever_the_label(num_classes, scale):
    stream = torch.Generator().manual_seed(0)
    logits, target = scale * torch.randn(200, num_classes, generator=stream), torch.arange(200) % num_classes
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    found = max_probability(loss, margin(logits, target))
    torch.testing.assert_close(found, logits.softmax(1).amax(1), rtol=1e-4, atol=1e-6)
    assert (found <= 1).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 4)), max_size=20))
def test_the_accuracy_of_each_class_and_of_the_worst(answers):
    correct = torch.tensor([answer for answer, _ in answers], dtype=torch.bool)
    target = torch.tensor([label for _, label in answers], dtype=torch.int64)
    of_class = {}
    for label in range(max((label for _, label in answers), default=-1) + 1):
        own = [answer for answer, other in answers if other == label]
        of_class[label] = sum(own) / len(own) if own else float("nan")
    assert class_accuracy(correct, target).tolist() == pytest.approx(list(of_class.values()), nan_ok=True)
    worst = min((share for share in of_class.values() if share == share), default=float("nan"))
    assert float(worst_class_accuracy(correct, target)) == pytest.approx(worst, nan_ok=True)
