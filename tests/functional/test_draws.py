"""Draws at a given seed are part of the contract: what a version drew, the next one draws too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.functional._rng import mixed_seed

VALUES, TARGET = torch.arange(20).sqrt(), torch.arange(20) % 2


def ablate(remove: str, sampling: str, **options: object) -> Callable[[], Tensor]:
    return lambda: functional.ablate(VALUES, 0.5, remove, sampling, higher_is_easier=False, seed=7, **options)


TIED = (torch.arange(40) * 7 % 13).float()


def cut(sampling: str, hardest_dropped: float = 0.0) -> Callable[[], Tensor]:
    """Keep a quarter; each edge goes through equal values."""
    options = {"higher_is_easier": False, "seed": 3, "hardest_dropped": hardest_dropped, "num_strata": 4}
    return lambda: functional.ablate(TIED, 0.75, "easy", sampling, **options)


DRAWN = {
    "weighted sample": (
        lambda: functional.weighted_sample(torch.arange(1, 13).double(), 5, seed=3),
        [0, 3, 6, 8, 10],
    ),
    "proportional, easy": (ablate("easy", "proportional"), [1, 6, 7, 10, 11, 12, 13, 14, 16, 18]),
    "proportional, hard": (ablate("hard", "proportional"), [0, 2, 3, 4, 5, 8, 9, 15, 17, 19]),
    "beta, easy": (ablate("easy", "beta"), [0, 2, 3, 5, 9, 13, 14, 16, 17, 19]),
    "beta, hard": (ablate("hard", "beta"), [0, 1, 2, 3, 4, 5, 6, 9, 14, 16]),
    "random": (ablate("random", "top"), [0, 1, 6, 10, 11, 12, 13, 14, 16, 18]),
    "in each class": (
        ablate("easy", "proportional", target=TARGET, class_balanced=True),
        [3, 6, 10, 11, 13, 14, 15, 16, 17, 18],
    ),
    "by DUAL": (
        lambda: functional.draw_by_dual(VALUES / 10, TARGET * 0.4 + 0.3, 0.5, seed=7),
        [1, 7, 9, 10, 11, 12, 13, 14, 16, 18],
    ),
    "uniform labels": (
        lambda: functional.relabel(TARGET, torch.tensor([0, 3, 5, 8]), "uniform", num_classes=5, seed=7),
        [3, 1, 0, 0, 0, 3, 0, 1, 4, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1],
    ),
    "threshold examples": (
        lambda: functional.threshold_examples(TARGET, 2, part=1, seed=7),
        [2, 3, 4, 8, 11, 14, 18],
    ),
    "corrupt labels": (
        lambda: functional.corrupt_labels(TARGET, 0.3, "uniform", num_classes=4, seed=7),
        [0, 3, 0, 1, 0, 1, 0, 0, 0, 2, 0, 1, 1, 1, 0, 2, 0, 3, 0, 1],
    ),
    "ties": (
        lambda: functional.easiest(torch.zeros(10), 0.5, higher_is_easier=False, seed=7),
        [2, 7, 1, 8, 0],
    ),
    "stratified": (cut("stratified"), [1, 5, 8, 17, 22, 23, 27, 30, 31, 39]),
    "stratified, without the hardest": (cut("stratified", 0.25), [5, 8, 12, 14, 17, 25, 27, 30, 34, 39]),
    "window": (cut("window", 0.25), [1, 3, 5, 12, 14, 16, 18, 25, 27, 29]),
    "top": (cut("top"), [7, 9, 11, 20, 22, 24, 31, 33, 35, 37]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_draw_of_a_seed_stays(name: str) -> None:
    draw, expected = DRAWN[name]
    assert draw().tolist() == expected


def test_a_seed_is_mixed_with_its_purpose_as_ever() -> None:
    assert mixed_seed(5) == 5
    assert mixed_seed(5, 3) == (5 * 0x9E3779B97F4A7C15 + 3) % 2**63
    assert mixed_seed(5, 3, 2) == (mixed_seed(5, 3) * 0xBF58476D1CE4E5B9 + 2 + 1) % 2**63
