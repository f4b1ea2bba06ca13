"""Levels by the exact rule beside the counting of the paper, on networks at several stages of training."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_easiness.functional import easiness_level, medium_sample_rate, sample_easiness
from lightning_easiness.functional.sample_easiness import draw_seeds, easiness_and_weakest

CLASSES = (2, 10, 100, 1000)
SHOWN = {2: 400, 10: 400, 100: 200, 1000: 50}  # examples
STAGES = (0, 5, 15, 40, 150)  # optimizer steps
DRAWS = 1000
TOLERANCE = 0.016  # of the share of medium examples


@cache
def outputs(num_classes: int) -> tuple[dict[int, Tensor], Tensor]:
    """Logits of some training examples after each number of steps, and their labels, one in ten of them wrong."""
    with torch.random.fork_rng():
        torch.manual_seed(num_classes)
        size, sides = max(1000, 4 * num_classes), 24
        true = torch.arange(size) % num_classes
        points = 0.7 * torch.randn(num_classes, sides)[true] + torch.randn(size, sides)
        given = torch.where(torch.rand(size) < 0.1, torch.randint(num_classes, (size,)), true)
        net = nn.Sequential(nn.Linear(sides, 128), nn.ReLU(), nn.Linear(128, num_classes))
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        shown = torch.randperm(size)[: SHOWN[num_classes]]
        found: dict[int, Tensor] = {}
        for step in range(max(STAGES) + 1):
            if step in STAGES:
                found[step] = net(points[shown]).detach()
            batch = torch.randint(size, (128,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(points[batch]), given[batch]).backward()
            optimizer.step()
    return found, given[shown]


def counted(logits: Tensor, target: Tensor, seed: int = 0) -> list[int]:
    """Levels by draws of noise on every output: hard where a class is above the true one in all, easy in none."""
    stream, levels = np.random.default_rng(seed), []
    for row, label in zip(logits.double().softmax(1).numpy(), target.tolist(), strict=True):
        drawn = row.astype(np.float32) + 0.01 * stream.standard_normal((DRAWS, len(row)), dtype=np.float32)
        times_above = (drawn > drawn[:, label : label + 1]).sum(0)  # of each class
        levels.append(0 if times_above.max() == DRAWS else 2 if times_above.max() == 0 else 1)
    return levels


@pytest.mark.parametrize("num_classes", CLASSES)
@pytest.mark.parametrize("stage", STAGES)
def test_the_share_of_medium_examples_is_that_of_counting(num_classes: int, stage: int) -> None:
    found, target = outputs(num_classes)
    expected = np.array(counted(found[stage], target))
    wins = sample_easiness(found[stage], target, per_class=True)
    assert abs(float(medium_sample_rate(wins)) - (expected == 1).mean()) <= TOLERANCE + 1 / len(target)
    assert (easiness_level(wins).numpy() != expected).mean() <= 0.05, "and level by level"


def test_the_product_of_the_comparisons_would_be_far_off() -> None:
    """As long as many classes tie, their product is next to 0 while each is won by half of the draws."""
    found, target = outputs(100)
    easiness = sample_easiness(found[5], target)
    by_product = ((easiness > 5e-4) & (easiness < 1 - 5e-4)).float().mean()
    wins = sample_easiness(found[5], target, per_class=True)
    assert float(medium_sample_rate(wins)) - float(by_product) > 0.3


@pytest.mark.parametrize("num_classes", CLASSES)
def test_of_counted_comparisons_the_rule_is_the_counting_itself(num_classes: int) -> None:
    found, target = outputs(num_classes)
    rows = torch.cat([found[stage][:20] for stage in STAGES])
    labels = target[:20].repeat(len(STAGES))
    wins = sample_easiness(rows, labels, method="monte_carlo", num_draws=DRAWS, per_class=True)
    lost = (DRAWS * (1 - wins)).round().long().amax(1)  # the draws that the strongest rival won
    expected = torch.where(lost == DRAWS, 0, torch.where(lost == 0, 2, 1))
    assert torch.equal(easiness_level(wins), expected)


# ------------------------------------------------------------------------------------------ one generator per example


def test_each_example_has_draws_of_its_own_whatever_the_batch() -> None:
    found, target = outputs(10)
    logits, index = found[5], torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
    easiness, weakest = easiness_and_weakest(
        logits, target, num_draws=50, seeds=draw_seeds(index.tolist(), num_epochs=3)
    )
    for part in (slice(0, 1), slice(7, 19), slice(19, 400)):
        seeds = draw_seeds(index[part].tolist(), num_epochs=3)
        again = easiness_and_weakest(logits[part], target[part], num_draws=50, seeds=seeds)
        assert torch.equal(again[0], easiness[part])
        assert torch.equal(again[1], weakest[part])
    torch.testing.assert_close(weakest * 50, (weakest * 50).round(), rtol=0, atol=1e-4)  # a share of the draws
    assert (easiness <= weakest).all()


def test_draws_differ_by_example_and_epoch() -> None:
    """Of two tied classes, the true one wins a binomial number of the draws, which differs."""
    logits, target = torch.zeros(300, 2), torch.zeros(300, dtype=torch.int64)
    seeds = [draw_seeds(range(300), epoch) for epoch in (0, 1)]
    at = [easiness_and_weakest(logits, target, num_draws=1000, seeds=each)[0] for each in seeds]
    for counts in at:
        assert counts.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(300 * 1000))
        assert counts.var().item() == pytest.approx(0.25 / 1000, rel=5 * math.sqrt(2 / 300))
    correlation = torch.corrcoef(torch.stack(at))[0, 1].abs()
    assert correlation < 5 / math.sqrt(300)


def test_draws_touch_no_global_stream_and_their_counts_have_no_gradient() -> None:
    logits, before = torch.zeros(3, 4, requires_grad=True), torch.get_rng_state()
    easiness, _ = easiness_and_weakest(logits, torch.arange(3), num_draws=10, seeds=draw_seeds(range(3)))
    assert torch.equal(torch.get_rng_state(), before)
    assert not easiness.requires_grad
    with pytest.raises(ValueError, match="`target` of sample_easiness"):
        easiness_and_weakest(logits, torch.tensor([0, 4, 1]), num_draws=10, seeds=draw_seeds(range(3)))
