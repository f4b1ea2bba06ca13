"""What is settled at once is what looking at each target gives; what is seen is counted as by a sum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness.callbacks.usage import trained_share
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.observe.held_out import TrainedExamples
from lightning_easiness.observe.tasks import OUTSIDE_TARGET, UNSEEN_TARGET, ClassTask, Task

LABELS = {
    "all": [0, 1, 2, 2],
    "some unseen": [0, UNSEEN_TARGET, 2, 2],
    "none seen": [UNSEEN_TARGET] * 4,
    "one without a label": [0, -100, 2, 1],
    "one unseen and one without a label": [0, -100, UNSEEN_TARGET, 1],
    "too large": [0, 1, 3, 1],
    "too large, one unseen": [0, UNSEEN_TARGET, 3, 1],
    "negative": [0, -1, 1, 1],
    "negative, one unseen": [0, -1, UNSEEN_TARGET, 1],
    "no class": [0, OUTSIDE_TARGET, UNSEEN_TARGET, 1],
}


def outcome(settle: Any, target: Tensor) -> Any:
    fields = {"loss": torch.arange(4.0), "correct": torch.ones(4, dtype=torch.bool), "count": torch.ones(4).int()}
    try:
        settled, target, unlabelled = settle(fields, target)
    except ValueError as error:
        return str(error)
    return [*settled], [str(values.tolist()) for values in settled.values()], target.tolist(), str(unlabelled)


@pytest.mark.parametrize("ignored", [(-100,), (), (-100, 2)], ids=str)
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_targets_are_settled_as_by_a_look_at_each(labels: list[int], ignored: tuple[int, ...]) -> None:
    task, target = ClassTask("cross_entropy", 3, ignored), torch.tensor(labels)
    assert outcome(task.settle, target) == outcome(lambda *given: Task.settle(task, *given), target)


def observed(*count: int) -> Observation:
    counts = torch.tensor(count, dtype=torch.int32)
    fields = {"loss": torch.ones(len(count)), "count": counts}
    return Observation("train-online", 1, 0, fields, DataIdentity(len(count)))


@pytest.mark.parametrize("count", [(1, 1, 1), (1, 0, 2), (0, 0, 0), (2, 1, 1), (0, 0, 1)])
def test_what_was_seen_is_what_has_a_count(count: tuple[int, ...]) -> None:
    found, seen = observed(*count), torch.tensor(count) > 0
    assert found.num_seen == int(seen.sum())
    assert (found.seen is None) == bool(seen.all())
    assert found.seen is None or torch.equal(found.seen, seen)
    trainer: Any = SimpleNamespace(train_dataloader=None)
    assert trained_share(trainer, found) == seen.double().mean().item()
    trained = TrainedExamples(3, None)
    assert trained.add(trainer, found) == bool(seen.any())
    assert not trained.add(trainer, found)
    assert torch.equal(trained.mask, seen)


def test_without_a_count_all_were_seen() -> None:
    found = Observation("train-probe", 1, 0, {"loss": torch.ones(3)}, DataIdentity(3))
    assert (found.seen, found.num_seen) == (None, 3)
