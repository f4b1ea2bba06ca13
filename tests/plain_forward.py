"""The numbers that a probe must have, by plain arithmetic and a forward without any Trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import Net, Points, loader, trainer

FIELDS = ("loss", "correct", "margin", "sample_easiness", "weakest_comparison", "el2n", "prediction")
TYPES = {"correct": torch.bool, "prediction": torch.int16}  # float32 otherwise


def expected(logits: list[float], target: int, sigma2: float = 1e-4) -> dict[str, float]:
    """All fields of one example, by plain arithmetic on floats."""
    exps = [math.exp(value - max(logits)) for value in logits]
    softmax = [value / sum(exps) for value in exps]
    easiness = weakest = 1.0
    for k, other in enumerate(softmax):
        if k != target:
            wins = 0.5 * math.erfc(-(softmax[target] - other) / math.sqrt(2 * sigma2) / math.sqrt(2))
            easiness, weakest = easiness * wins, min(weakest, wins)
    predicted = max(range(len(logits)), key=lambda k: logits[k])
    return {
        "loss": -math.log(softmax[target]),
        "correct": float(predicted == target),
        "prediction": predicted,
        "margin": logits[target] - max(value for k, value in enumerate(logits) if k != target),
        "sample_easiness": easiness,
        "weakest_comparison": weakest,
        "el2n": math.sqrt(sum((value - (k == target)) ** 2 for k, value in enumerate(softmax))),
    }


def check(record: EasinessRecord, checkpoint: int, forward: Callable[[Tensor], Tensor], points: Points) -> None:
    """Holds a checkpoint against one forward an example."""
    assert record.fields == FIELDS
    assert record.target.tolist() == points.y.tolist()
    fields = {name: record.field(name, checkpoint)[0] for name in FIELDS}
    assert all(values.dtype == TYPES.get(name, torch.float32) for name, values in fields.items())
    for index in range(len(points)):
        with torch.no_grad():
            logits = forward(points.x[index : index + 1])[0].double().tolist()
        for name, value in expected(logits, int(points.y[index])).items():
            # easiness divides differences of probabilities by 0.014
            tolerance = 2e-4 if name in ("sample_easiness", "weakest_comparison") else 1e-5
            assert float(fields[name][index]) == pytest.approx(value, abs=tolerance), (name, index)


def eval_forward(module: Net, weights: dict[str, Tensor] | None = None) -> Callable[[Tensor], Tensor]:
    """The forward of the usual net in eval mode, without any Trainer."""
    twin = Net()
    twin.load_state_dict(module.state_dict() if weights is None else weights)
    return twin.eval().net


class Traces(Net):
    """Keeps (epoch, index, loss, margin, correct, batch, class) and the softmax of each example of each step."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.trace: list[tuple[int, int, float, float, bool, int, int]] = []
        self.softmax: list[tuple[int, list[float]]] = []  # of an example of this index
        self.traced: tuple[int, int] | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x[:, :8])
        if self.traced != (self.current_epoch, batch_idx):  # a closure may run again
            self.traced = (self.current_epoch, batch_idx)
            for index, row, target in zip(x[:, 8].tolist(), logits.detach().float(), y.tolist(), strict=True):
                others = [float(value) for k, value in enumerate(row) if k != target]
                loss = -float(row.double().log_softmax(0)[target])
                margin, predicted = float(row[target]) - max(others), int(row.argmax())
                seen = (self.current_epoch, int(index), loss, margin, predicted == target, batch_idx, predicted)
                self.trace.append(seen)
                exps = row.double().exp()
                self.softmax.append((int(index), (exps / exps.sum()).tolist()))
        return nn.functional.cross_entropy(logits, y)


def check_online(record: EasinessRecord, trace: list[Any]) -> None:
    """Hold every value of an online series against the trace of all processes."""
    target = Points(record.num_examples).y.tolist()
    sighted = {entry[1] for entry in trace}
    assert record.target.tolist() == [y if index in sighted else -1 for index, y in enumerate(target)]
    for checkpoint, epoch in enumerate(record.epochs.tolist()):
        names = ("count", "loss", "margin", "correct", "prediction")
        fields = [record.field(name)[0, checkpoint].tolist() for name in names]
        for index, (count, loss, margin, correct, predicted) in enumerate(zip(*fields, strict=True)):
            seen = [entry for entry in trace if tuple(entry[:2]) == (epoch, index)]
            assert count == len(seen)
            mean = [sum(entry[column] for entry in seen) / len(seen) if seen else math.nan for column in (2, 3)]
            assert [loss, margin] == pytest.approx(mean, abs=1e-5, rel=1e-6, nan_ok=True)
            assert correct == (bool(seen) and sum(entry[4] for entry in seen) * 2 >= len(seen))
            # that of the last batch, and of one batch the largest class
            assert predicted == max((tuple(entry[5:7]) for entry in seen), default=(0, -1))[1]


class Snapshots(Callback):
    """Keeps the weights after each optimizer step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.weights[trainer.global_step] = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.on_train_start(trainer, pl_module)


def probed(
    folder: Path, module: Any = None, data: Any = None, /, fit: dict[str, Any] | None = None, **options: Any
) -> EasinessRecord:
    """The record of a fit of one epoch."""
    module, data = module or Net(), data if data is not None else loader()
    callback = EasinessCallback(folder, **{"online": False, **options})
    trainer(callbacks=[callback], **{"max_epochs": 1, **(fit or {})}).fit(module, data)
    return EasinessRecord.load(folder, series=callback.series)
