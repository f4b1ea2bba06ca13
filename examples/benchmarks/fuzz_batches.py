"""What fuzz.py makes up beside files: batches, outputs and targets, and a plain computation of the losses."""

from __future__ import annotations

import inspect
import random
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from fuzz_target import READ, Target, Wrong
from torch import Tensor

from lightning_easiness.data.batch import INPUT_KEYS, TARGET_KEYS, unpack_batch
from lightning_easiness.observe.batch_reader import LOGITS_KEYS, BatchReader, kind_of
from lightning_easiness.observe.evidence import CLASSES, LABELS, REGRESSION, Evidence
from lightning_easiness.observe.reading import LOG, LOGIT, Reading
from lightning_easiness.observe.recognise import Recogniser
from lightning_easiness.observe.tasks import (
    PROBABILITIES,
    PROBE_FIELDS,
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
)

ARGUMENTS = ("batch_fn", "logits_fn", "loss_fn", "`module`", "num_classes", "let forward return logits")
_DTYPES = (
    *(torch.float32,) * 8,
    *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int64, torch.int32, torch.uint8, torch.bool),
    *(torch.complex64, torch.int8),
)
_FORWARDS: tuple[Callable[..., Any], ...] = (
    lambda x: x,
    lambda x, y: x,
    lambda *, image, features: image,
    lambda *parts: parts,
    lambda **parts: parts,
    lambda input_ids, attention_mask=None, **more: input_ids,
)
Pair = namedtuple("Pair", "x y")


def batch_targets() -> list[Target]:
    """Return the targets that are no files."""
    return [
        Target("batches", _batch, _unpacked, ("batch_fn",), 6.0),
        Target("outputs", _outputs, _read_outputs, ARGUMENTS, 12.0),
    ]


# -------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True)
class Batch:
    """A batch, and what takes its inputs."""

    batch: Any
    forward: inspect.Signature | None


def _batch(rng: random.Random) -> Batch:
    forward = rng.choice((None, *map(inspect.signature, _FORWARDS)))
    return Batch(_structure(rng, 2), forward)


def _structure(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(9 if depth else 5)
    if kind < 3:
        return _tensor(rng, tuple(rng.randrange(4) for _ in range(rng.randrange(4))))
    if kind == 3:
        return rng.choice((None, 0, 1.5, "cat", b"", float("nan"), object(), slice(1), {1, 2}, range(3)))
    if kind == 4:
        return SimpleNamespace(logits=_tensor(rng, (2, 3)), y=1)
    parts = [_structure(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind == 5:
        return parts
    if kind == 6:
        return tuple(parts)
    if kind == 7 and len(parts) >= 2:
        return Pair(parts[0], parts[1])
    keys: list[Any] = [*INPUT_KEYS, *TARGET_KEYS, "input_ids", "attention_mask", 0, None, "idx", "", "x y"]
    return dict(zip(rng.sample(keys, len(parts)), parts, strict=True))


def _unpacked(made: Batch) -> str:
    found = unpack_batch(made.batch, made.forward)
    if not isinstance(found, tuple) or len(found) != 2:
        raise Wrong(f"unpacked as {type(found).__name__}")
    held = list(made.batch.values()) if isinstance(made.batch, dict) else list(made.batch)
    inputs = list(found[0].values()) if isinstance(found[0], dict) and not _is_in(found[0], held) else [found[0]]
    if not _is_in(found[1], held) or not all(_is_in(part, held) for part in inputs):
        raise Wrong("inputs or targets that are no parts of the batch")
    if any(part is found[1] for part in inputs) and sum(part is found[1] for part in held) == 1:
        raise Wrong("the target is among the inputs")
    return READ


def _is_in(part: Any, parts: list[Any]) -> bool:
    return any(part is one for one in parts)


# -------------------------------------------------------------------------------------------------------------- outputs


@dataclass(frozen=True, repr=False)
class Outputs:
    """What a model returns for a batch, its targets, and what is known beside."""

    output: Any
    target: Any
    size: int
    ending: str | None
    evidence: Evidence

    def __repr__(self) -> str:
        return f"Outputs({self.output!r}, {self.target!r}, size={self.size}, {self.ending}, {self.evidence})"


def _outputs(rng: random.Random) -> Outputs:
    size, classes = rng.choice((1, 2, 3, 4, 4, 5)), rng.choice((1, 2, 2, 3, 4, 5))
    positions = tuple(rng.choice((1, 2, 3, classes)) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    shape = _bent((size, classes, *positions), rng)
    output: Any = _values(rng, shape, (*_DTYPES[:11],) if rng.random() < 0.9 else _DTYPES)
    target = _targets(rng, output, size, classes, positions)
    if rng.random() < 0.25:
        other = _values(rng, (size, rng.choice((1, 4, classes))), _DTYPES)
        output = _wrapped(rng, output, other)
    ignored = rng.choice(((-100,), (-100,), (255,), (-1, 0)))
    counts = rng.choice(({}, {classes: "the module's num_classes"}))
    loss = rng.choice((None, None, CLASSES, LABELS, REGRESSION))
    ending = rng.choice((None, None, "logits", "softmax", "log_softmax", "sigmoid", "mixed"))
    return Outputs(output, target, size, ending, Evidence(ignored, loss, lambda: counts))


def _bent(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    """Return a shape, seldom another one."""
    if rng.random() < 0.7:
        return shape
    bent = list(shape)
    rng.choice((bent.reverse, lambda: rng.shuffle(bent), bent.pop, lambda: bent.append(1), lambda: bent.insert(1, 1)))()
    return tuple(bent)


def _wrapped(rng: random.Random, output: Any, other: Any) -> Any:
    return rng.choice(
        (
            (output, other),
            (other, output),
            [output],
            {rng.choice((*LOGITS_KEYS, "loss")): output, "hidden": other},
            SimpleNamespace(logits=output),
            {"logits": None},
            None,
            "text",
        )
    )


def _tensor(rng: random.Random, shape: tuple[int, ...]) -> Tensor:
    return _values(rng, shape, _DTYPES)


def _values(rng: random.Random, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> Tensor:
    """Return values of all sizes: logits, probabilities, numbers, and seldom those that are none."""
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    values = torch.randn(shape, generator=generator) * rng.choice((0.0, 0.1, 1.0, 1.0, 5.0, 50.0, 1e6, 1e38))
    kind = rng.randrange(8)
    if kind == 0 and values.ndim > 1:
        values = values.softmax(1)
    elif kind == 1:
        values = values.sigmoid()
    elif kind == 2 and values.numel():
        values.view(-1)[rng.randrange(values.numel())] = rng.choice((torch.nan, torch.inf, -torch.inf))
    dtype = rng.choice(dtypes)
    return (
        values.to(dtype) if dtype.is_floating_point or dtype.is_complex else values.nan_to_num().clamp(-9, 9).to(dtype)
    )


def _targets(rng: random.Random, output: Tensor, size: int, classes: int, positions: tuple[int, ...]) -> Any:
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    shape, kind = (size, *positions), rng.randrange(12)
    labels = torch.randint(-1 if rng.random() < 0.1 else 0, max(2, classes), shape, generator=generator)
    if rng.random() < 0.1:
        labels[rng.randrange(size)] = rng.choice((-100, 255, classes, 2**40, -(2**62)))
    if kind < 5:
        return labels.to(rng.choice((torch.int64, torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32)))
    if kind == 5:
        return labels.unsqueeze(1)
    if kind == 6:  # one-hot
        return F.one_hot(labels.reshape(size, -1)[:, 0].clamp(0, classes - 1), classes).to(rng.choice(_DTYPES))
    if kind == 7:
        return torch.rand(output.shape, generator=generator).round().to(rng.choice(_DTYPES[:-2]))
    if kind == 8 and output.ndim > 1:
        return torch.rand(output.shape, generator=generator).softmax(1)
    if kind == 9:
        return rng.choice(
            (None, labels.tolist(), "cat", [labels, labels], {"label": labels}, labels[0], labels.float())
        )
    return _values(rng, rng.choice((output.shape, shape, (size,), (size, 1))), _DTYPES)


def _read_outputs(made: Outputs) -> str:
    reader = BatchReader()
    reader.check_target(made.target, made.size)
    prediction = reader.prediction(made.output)
    ending = [made.ending] * len(prediction) if isinstance(prediction, tuple) else made.ending
    reading = Recogniser(reader, made.evidence).read(prediction, made.target, made.size, ending)
    fields = (*PROBE_FIELDS, PROBABILITIES) if isinstance(reading.task, ClassTask) else reading.task.fields
    found = reading.observe(prediction, made.target, made.size, fields=fields)
    _check_fields(found, made.size)
    target = found.pop("target", None)
    found.pop(PROBABILITIES, None)
    settled, _, unlabelled = reading.task.settle(found, target)
    _check_losses(reading, prediction, made, settled["loss"], unlabelled)
    return READ


def _check_fields(found: dict[str, Tensor], size: int) -> None:
    for name, values in found.items():
        if len(values) != size or (name != PROBABILITIES and values.ndim != 1):
            raise Wrong(f"{name!r} is {kind_of(values)} for {size} examples")


def _check_losses(reading: Reading, prediction: Any, made: Outputs, loss: Tensor, unlabelled: Tensor | None) -> None:
    """Raise Wrong unless the losses are those of a plain computation, where that is finite."""
    raw = prediction[reading.position] if reading.position is not None else prediction
    expected = _plain_losses(reading, raw, made)
    finite = raw.isfinite().reshape(made.size, -1).all(1)  # torch has NaN for what is infinite, in some losses
    known = expected.isfinite() & (expected.abs() < 1e30) & finite
    if unlabelled is not None:
        known &= ~unlabelled
    near = torch.isclose(loss.double(), expected, rtol=1e-3, atol=1e-4)
    if not bool(near[known].all()):
        raise Wrong(f"losses {loss.tolist()} of {reading}, expected {expected.tolist()}")


def _plain_losses(reading: Reading, raw: Tensor, made: Outputs) -> Tensor:
    """Return the losses in double precision, one example and one position at a time."""
    kept = raw.dtype if raw.dtype is torch.float64 else torch.float32
    values, smallest, step = raw.to(kept).double(), torch.finfo(kept).tiny, torch.finfo(kept).eps
    if isinstance(reading.task, RegressionTask):
        given = made.target.to(kept).double()
        return torch.stack([(values[at].flatten() - given[at].flatten()).square().mean() for at in range(made.size)])
    rows = values.reshape(made.size, 1) if values.ndim == 1 else values.movedim(reading.axis, 1)
    if reading.link == LOG:
        rows = rows.clamp(min=smallest).log()
    elif reading.link == LOGIT:
        rows = rows.clamp(smallest, 1 - step / 2).logit()
    return torch.stack([_plain_loss(reading, rows[at], made.target[at]) for at in range(made.size)])


def _plain_loss(reading: Reading, row: Tensor, target: Tensor) -> Tensor:
    """Return the loss of one example, of logits (K, ...)."""
    task = reading.task
    if isinstance(task, MultiLabelTask):
        signed = torch.where(target.double() > 0, row, -row)
        return -F.logsigmoid(signed).mean()
    if len(row) == 1:
        row = torch.cat([torch.zeros_like(row), row])
    log = row.log_softmax(0)
    if isinstance(task, SoftTask):
        return -(target.double() * log).sum()
    if isinstance(task, DenseTask):
        labels = target.reshape(-1).long()
        places = [at for at in range(len(labels)) if int(labels[at]) not in task.ignored]
        flat = log.reshape(len(log), -1)
        unknown = torch.tensor(torch.nan, dtype=torch.float64)
        return torch.stack([-flat[int(labels[at]), at] for at in places]).mean() if places else unknown
    assert isinstance(task, ClassTask)
    label = int(target.int().argmax()) if task.encoding == "one_hot" else int(target.reshape(-1)[0])
    return -log[label] if 0 <= label < len(log) else torch.tensor(torch.nan).double()
