"""Labels made wrong on purpose: exact counts, the law of each noise, truth untouched."""

import math
from collections import Counter
from fractions import Fraction

import pytest
import scipy.stats
import torch

from lightning_easiness.functional import corrupt_labels
from tests.functional.selection_references import LEAST_P

MATRIX = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
TARGET = torch.arange(30) % 3


@pytest.mark.parametrize("noise", ["next_class", "uniform"])
@pytest.mark.parametrize(("ratio", "n"), [(0.0, 10), (0.15, 10), (0.25, 10), (0.35, 10), (0.5, 1), (1.0, 7), (0.3, 0)])
def test_exactly_the_share_is_wrong_rounded_half_up(noise, ratio, n):
    target = torch.arange(n) % 4
    corrupted = corrupt_labels(target, ratio, noise, num_classes=4, seed=3)
    assert int((corrupted != target).sum()) == math.floor(Fraction(repr(ratio)) * n + Fraction(1, 2))
    assert corrupted.dtype == torch.int64
    assert all(0 <= label < 4 for label in corrupted.tolist())


def test_next_class_moves_by_one_and_the_last_to_the_first():
    corrupted = corrupt_labels(torch.tensor([0, 1, 2, 9]), 1.0, "next_class", num_classes=10)
    assert corrupted.tolist() == [1, 2, 3, 0]


def test_each_set_of_examples_is_as_likely_as_another():
    target = torch.tensor([0, 1, 2, 0, 1])
    sets = Counter()
    for seed in range(1000):
        wrong = (corrupt_labels(target, 0.4, "next_class", seed=seed) != target).nonzero()[:, 0]
        sets[tuple(wrong.tolist())] += 1
    assert len(sets) == 10
    assert scipy.stats.chisquare(list(sets.values())).pvalue > LEAST_P


def test_uniform_noise_draws_from_the_other_classes_alike():
    target = torch.zeros(3, dtype=torch.int64) + 2
    labels = Counter()
    for seed in range(600):
        labels.update(corrupt_labels(target, 1.0, "uniform", num_classes=4, seed=seed).tolist())
    assert set(labels) == {0, 1, 3}
    assert scipy.stats.chisquare(list(labels.values())).pvalue > LEAST_P


def test_a_matrix_says_what_becomes_of_each_class():
    target = torch.tensor([2, 0, 1]).repeat(3000)
    corrupted = corrupt_labels(target, None, MATRIX, seed=1)
    for true in range(3):
        labels = Counter(corrupted[target == true].tolist())
        possible = [label for label in range(3) if MATRIX[true, label] > 0]
        assert set(labels) == set(possible)  # what has no probability never comes
        expected = [3000 * float(MATRIX[true, label]) for label in possible]
        if len(possible) > 1:
            assert scipy.stats.chisquare([labels[label] for label in possible], expected).pvalue > LEAST_P


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", ["next_class", "uniform"])
def test_a_larger_ratio_adds_to_what_a_smaller_one_made_wrong(noise, seed):
    few, many = (corrupt_labels(TARGET, ratio, noise, num_classes=3, seed=seed) for ratio in (0.2, 0.7))
    wrong = few != TARGET
    assert torch.equal(few[wrong], many[wrong])
