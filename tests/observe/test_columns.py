"""The columns of an evaluation pass: their numbers, padding, and outputs whose memory is used again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness.functional import el2n, margin, sample_easiness
from lightning_easiness.observe import evaluation
from lightning_easiness.observe.columns import Columns
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.tasks import ClassTask
from tests.plain_forward import check, eval_forward, probed
from tests.small import Net, Points

SIZE, CLASSES, BATCH = 5003, 10, 128


def filled(reading: Reading, logits: Tensor, target: Tensor) -> Columns:
    columns = Columns(reading, len(logits), torch.device("cpu"), num_epochs=1, rows=None)
    for index in torch.arange(len(logits)).split(BATCH):
        columns.add(index, logits[index], target[index])
    return columns


def test_columns_have_the_bits_of_each_example_alone() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(SIZE, CLASSES) * 5, torch.randint(CLASSES, (SIZE,))
    found = filled(Reading(ClassTask("cross_entropy", CLASSES)), logits, target)._columns
    rows = [(logits[i : i + 1], target[i : i + 1]) for i in range(SIZE)]
    expected = {
        "loss": torch.cat([torch.nn.functional.cross_entropy(x, y, reduction="none") for x, y in rows]),
        "margin": torch.cat([margin(x, y) for x, y in rows]),
        "el2n": torch.cat([el2n(x, y) for x, y in rows]),
        "sample_easiness": torch.cat([sample_easiness(x, y) for x, y in rows]),
    }
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
    assert torch.equal(found["prediction"], logits.argmax(1).int())
    assert torch.equal(found["target"], target)


def test_padding_makes_columns_and_no_value() -> None:
    columns = Columns(Reading(ClassTask("cross_entropy", 3)), 4, torch.device("cpu"), num_epochs=0, rows=None)
    columns.add(torch.arange(2), torch.ones(2, 3), torch.ones(2, dtype=torch.int64), is_padding=True)
    assert {"loss", "margin", "target"} <= columns._columns.keys()
    assert not any(values.any() for values in columns._columns.values())


class Reuses(Net):
    """Returns every batch's logits in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        if self.training or torch.is_grad_enabled():
            return found
        if len(self.memory) < len(x):
            self.memory = torch.empty(len(x), found.shape[1])
        return self.memory[: len(x)].copy_(found)


def test_outputs_whose_memory_the_module_uses_again(tmp_path: Path) -> None:
    module = Reuses()
    record = probed(tmp_path, module, probe_batch_size=4)
    check(record, -1, eval_forward(module), Points())


@pytest.mark.parametrize("size", [1, 7, 53])
def test_the_modules_parts_are_looked_up_once_a_pass(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    whole = evaluation.forward_signature
    monkeypatch.setattr(evaluation, "forward_signature", lambda *given: calls.append(given) or whole(*given))
    probed(tmp_path, probe_batch_size=size)
    assert len(calls) == 2  # in the trial before training, and in the pass
