"""The class that most runs predict, against counting by hand."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_easiness.functional import most_predicted_class


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
