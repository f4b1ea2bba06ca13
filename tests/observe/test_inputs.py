"""What modules and batches of every kind record, or the sentence that refuses them before training.

Each number is held against plain arithmetic on a forward without any Trainer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness._utils.rng import isolated_rng
from tests.small import trainer
from tests.watching import watch_steps

N, D, K, T = 40, 8, 3, 5
POINTS = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
CLASSES = POINTS[:, :K].argmax(1)
POSITIVE = (POINTS[:, 0] > 0).long()
MANY = (POINTS[:, :K] > 0).long()
SOFT = POINTS[:, :K].softmax(1)
STEPS = POINTS[:, :T].abs().mul(10).long() % K  # a class per step of a sequence
HOLED = STEPS.masked_fill(POINTS[:, :T] > 0.5, -100)
HOLED[3] = -100


class Rows(Dataset):
    """Items with one row of each tensor, as a tuple or under names."""

    def __init__(self, *tensors: Tensor, names: tuple[str, ...] = ()) -> None:
        self.tensors, self.names = tensors, names

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> Any:
        rows = tuple(tensor[index] for tensor in self.tensors)
        return dict(zip(self.names, rows, strict=True)) if self.names else rows


class Stranger(LightningModule):
    """An ordinary module: `shape` makes its outputs of one linear layer's, `loss` is what it trains on."""

    def __init__(
        self, outputs: int = K, shape: Callable[[Tensor], Any] = lambda z: z, loss: Any = F.cross_entropy
    ) -> None:
        super().__init__()
        with isolated_rng():
            seed_everything(1, verbose=False)
            self.net = nn.Linear(D, outputs)
        self.shape, self.loss, self.steps = shape, loss, 0

    def forward(self, x: Tensor) -> Any:
        return self.shape(self.net(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return self.loss(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class ByKeyword(Stranger):
    """Takes a mapping as keywords, as models of the transformers library do."""

    def forward(self, **inputs: Tensor) -> Any:  # type: ignore[override]
        return self.net(inputs["pixel_values"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return self.loss(self(**batch), batch["labels"])


class Embeds(Stranger):
    """Its forward returns embeddings; the training step takes them to its head."""

    def __init__(self) -> None:
        super().__init__(16)
        self.head = nn.Linear(16, K)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return F.cross_entropy(self.head(self(batch[0])), batch[1])


class EncoderAndHead(LightningModule):
    """Defines no forward; the training step calls its two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.steps = nn.Linear(D, 16), nn.Linear(16, K), 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return F.cross_entropy(self.head(self.encoder(batch[0])), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def listing(**attributes: Any) -> Dataset:
    """A data set that has these attributes too."""
    rows = Rows(POINTS, CLASSES)
    vars(rows).update(attributes)
    return rows


# ------------------------------------------------------------------------ the numbers, an example at a time, in doubles


def of_class(logits: list[float], target: int) -> tuple[float, float, bool]:
    """Loss, margin and correctness of one class."""
    total = math.log(math.fsum(math.exp(value) for value in logits))
    margin = logits[target] - max(value for k, value in enumerate(logits) if k != target)
    return total - logits[target], margin, margin > 0


def of_one_logit(logit: float, target: float) -> tuple[float, float, bool]:
    return of_class([0.0, logit], int(target))


def of_one_hot(logits: list[float], target: list[float]) -> tuple[float, float, bool]:
    return of_class(logits, target.index(1))


def of_mask(logits: list[float], target: list[float]) -> tuple[float, float, bool]:
    """Of one logit and one label of 0 and 1 per pixel."""
    return of_positions([[0.0, logit] for logit in logits], [int(label) for label in target])


def of_number(value: float, target: float) -> tuple[float, None, None]:
    return of_numbers([value], [target])


def of_labels(logits: list[float], target: list[int]) -> tuple[float, float, bool]:
    signed = [logit if label else -logit for logit, label in zip(logits, target, strict=True)]
    losses = [math.log1p(math.exp(-value)) for value in signed]
    return math.fsum(losses) / len(losses), min(signed), min(signed) > 0


def of_distribution(logits: list[float], target: list[float]) -> tuple[float, float, bool]:
    losses = [weight * of_class(logits, k)[0] for k, weight in enumerate(target)]
    return math.fsum(losses), *of_class(logits, max(range(len(target)), key=lambda k: target[k]))[1:]


def of_positions(logits: list[list[float]], target: list[int]) -> tuple[float, float, bool]:
    """Of logits (T, K) and targets (T,), -100 where there is no label."""
    found = [of_class(rows, label) for rows, label in zip(logits, target, strict=True) if label != -100]
    if not found:
        return math.nan, math.nan, False
    losses, margins, right = zip(*found, strict=True)
    return math.fsum(losses) / len(found), math.fsum(margins) / len(found), all(right)


def of_numbers(values: list[float], target: list[float]) -> tuple[float, None, None]:
    return math.fsum((a - b) ** 2 for a, b in zip(values, target, strict=True)) / len(values), None, None


# ----------------------------------------------------------------------------------------------------- what is recorded


class Recorded(NamedTuple):
    module: Callable[[], Stranger]
    target: Any
    values: Callable[[Any, Any], tuple[float, Any, Any]]  # of one example
    logits: Callable[[Tensor], Tensor] = lambda z: z  # of the linear layer's outputs
    loss_name: str = "cross_entropy"
    recorded_target: Tensor | None = None
    rows: Callable[[Tensor], Dataset] = lambda target: Rows(POINTS, target)
    options: Mapping[str, Any] = {}
    line: str = ""


def sequence(z: Tensor) -> Tensor:
    """Outputs (B, K T) as (B, K, T)."""
    return z.reshape(len(z), K, T)


def bce(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, target.float().reshape(output.shape))


def mse(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target.reshape(output.shape))


def nll(output: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(output.log(), target)


def probabilities_bce(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy(output, target.float().reshape(output.shape))


class Holds(Stranger):
    """Holds its loss as a module, whose kind and `ignore_index` count."""

    def __init__(self, criterion: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__(*args, loss=lambda output, target: self.criterion(output, target), **options)
        self.criterion = criterion


ABOUT = "EasinessCallback reads {}, loss '{}'; pass loss_fn for another task."
TWO_CLASSES = ABOUT.format("targets of 0. and 1. as two classes", "cross_entropy")
ONE_HOT = ABOUT.format("one-hot targets as one class per example", "cross_entropy")
DISTRIBUTIONS = ABOUT.format("targets that add up to one as distributions over the classes", "soft_cross_entropy")
LABELS = ABOUT.format("targets of 0 and 1 as any number of labels per example", "binary_cross_entropy")
POSITIONS = ABOUT.format(
    "one class per position of an example, averaged over its labelled positions", "mean_cross_entropy"
)
NUMBERS = ABOUT.format("float targets as numbers to predict", "mse_loss")
AS_PROBABILITIES = "The outputs are probabilities, so EasinessCallback takes their {} for logits."
IGNORED = CLASSES.masked_fill(POINTS[:, 3] > 0.8, -100)
ONE_LABEL = F.one_hot(CLASSES, K)

RECORDED: dict[str, Recorded] = {
    "class indices": Recorded(Stranger, CLASSES, of_class, recorded_target=CLASSES),
    "class indices in a column": Recorded(
        lambda: Stranger(loss=lambda z, y: F.cross_entropy(z, y[:, 0])),
        CLASSES[:, None],
        of_class,
        recorded_target=CLASSES,
    ),
    **{
        f"{kind} beside an output of shape {shape}": Recorded(
            lambda shape=shape: Stranger(1, lambda z: z.reshape(shape), bce),  # type: ignore[misc]
            target,
            of_one_logit,
            recorded_target=POSITIVE,
            line=TWO_CLASSES if target.is_floating_point() else "",
        )
        for shape in ((-1, 1), (-1,))
        for kind, target in (
            ("0 and 1", POSITIVE),
            ("0. and 1.", POSITIVE.float()),
            ("0. and 1. in a column", POSITIVE.float()[:, None]),
            ("False and True", POSITIVE.bool()),
        )
    },
    "0. and 1. beside two logits as class indices": Recorded(
        lambda: Stranger(2), POSITIVE, of_class, recorded_target=POSITIVE
    ),
    **{
        f"one-hot targets of {target.dtype}": Recorded(
            lambda: Stranger(loss=lambda z, y: F.cross_entropy(z, y.float())),
            target,
            of_one_hot,
            recorded_target=CLASSES,
            line=ONE_HOT,
        )
        for target in (ONE_LABEL, ONE_LABEL.float(), ONE_LABEL.bool())
    },
    "soft targets": Recorded(
        Stranger, SOFT, of_distribution, loss_name="soft_cross_entropy", recorded_target=CLASSES, line=DISTRIBUTIONS
    ),
    **{
        f"several labels of {target.dtype}": Recorded(
            lambda: Stranger(loss=bce), target, of_labels, loss_name="binary_cross_entropy", line=LABELS
        )
        for target in (MANY, MANY.float(), MANY.bool())
    },
    "one label each, beside BCEWithLogitsLoss": Recorded(
        lambda: Holds(nn.BCEWithLogitsLoss()),
        ONE_LABEL.float(),
        of_labels,
        loss_name="binary_cross_entropy",
        line=LABELS,
    ),
    "sequences": Recorded(
        lambda: Stranger(K * T, sequence),
        HOLED,
        of_positions,
        lambda z: sequence(z).mT,
        "mean_cross_entropy",
        line=POSITIONS,
    ),
    "sequences, classes last": Recorded(
        lambda: Stranger(K * T, lambda z: sequence(z).mT, lambda z, y: F.cross_entropy(z.mT, y)),
        HOLED,
        of_positions,
        lambda z: sequence(z).mT,
        "mean_cross_entropy",
        line=POSITIONS,
    ),
    "sequences with an ignore_index": Recorded(
        lambda: Holds(nn.CrossEntropyLoss(ignore_index=255), K * T, sequence),
        HOLED.masked_fill(HOLED == -100, 255),
        lambda logits, target: of_positions(logits, [-100 if label == 255 else label for label in target]),
        lambda z: sequence(z).mT,
        "mean_cross_entropy",
        line=POSITIONS,
    ),
    "masks of two classes": Recorded(
        lambda: Stranger(4, lambda z: z.reshape(-1, 1, 2, 2), bce),
        (POINTS[:, :4] > 0).float().reshape(-1, 1, 2, 2),
        of_mask,
        loss_name="mean_cross_entropy",
        line=POSITIONS,
    ),
    "masks with a channel": Recorded(
        lambda: Stranger(K * 4, lambda z: z.reshape(-1, K, 2, 2), lambda z, y: F.cross_entropy(z, y[:, 0])),
        STEPS[:, :4].reshape(-1, 1, 2, 2),
        of_positions,
        lambda z: z.reshape(-1, K, 4).mT,
        "mean_cross_entropy",
        line=POSITIONS,
    ),
    "examples without a label": Recorded(
        Stranger,
        IGNORED,
        lambda logits, target: (math.nan, math.nan, False) if target == -100 else of_class(logits, target),
        recorded_target=IGNORED.clamp(min=-1),
    ),
    "numbers": Recorded(lambda: Stranger(2, loss=mse), POINTS[:, :2], of_numbers, loss_name="mse_loss", line=NUMBERS),
    "numbers in a column beside outputs (B,)": Recorded(
        lambda: Stranger(1, lambda z: z[:, 0], mse), POINTS[:, :1], of_number, loss_name="mse_loss", line=NUMBERS
    ),
    "0 and 1 to predict, beside MSELoss": Recorded(
        lambda: Holds(nn.MSELoss()), MANY.float(), of_numbers, loss_name="mse_loss", line=NUMBERS
    ),
    "a softmax": Recorded(
        lambda: Stranger(shape=lambda z: z.softmax(1), loss=nll),
        CLASSES,
        of_class,
        recorded_target=CLASSES,
        line=AS_PROBABILITIES.format("logarithms"),
    ),
    "a log-softmax": Recorded(
        lambda: Stranger(shape=lambda z: z.log_softmax(1), loss=F.nll_loss), CLASSES, of_class, recorded_target=CLASSES
    ),
    "a softmax over the classes of a sequence": Recorded(
        lambda: Stranger(K * T, lambda z: sequence(z).softmax(1), nll),
        HOLED,
        of_positions,
        lambda z: sequence(z).mT,
        "mean_cross_entropy",
        line=POSITIONS,
    ),
    "a sigmoid": Recorded(
        lambda: Stranger(1, torch.sigmoid, probabilities_bce),
        POSITIVE,
        of_one_logit,
        recorded_target=POSITIVE,
        line=AS_PROBABILITIES.format("log odds"),
    ),
    "a sigmoid, squeezed": Recorded(
        lambda: Stranger(1, lambda z: z.sigmoid().clamp(1e-6, 1).squeeze(1), probabilities_bce),
        POSITIVE.float(),
        of_one_logit,
        recorded_target=POSITIVE,
        line=AS_PROBABILITIES.format("log odds"),
    ),
    "a sigmoid for each of several labels": Recorded(
        lambda: Stranger(shape=torch.sigmoid, loss=probabilities_bce),
        MANY.float(),
        of_labels,
        loss_name="binary_cross_entropy",
        line=AS_PROBABILITIES.format("log odds"),
    ),
    "one logit between 0 and 1": Recorded(
        lambda: Stranger(1, lambda z: z / 100 + 0.5, bce), POSITIVE, of_one_logit, lambda z: z / 100 + 0.5
    ),
    "keywords": Recorded(
        ByKeyword, CLASSES, of_class, rows=lambda y: Rows(POINTS, y, names=("pixel_values", "labels"))
    ),
    "features beside logits, of a data set that lists its targets": Recorded(
        lambda: Stranger(shape=lambda z: (torch.cat([z, z], 1), z), loss=lambda out, y: F.cross_entropy(out[1], y)),
        CLASSES,
        of_class,
        rows=lambda y: listing(targets=y),
        line="EasinessCallback reads output[1], whose 3 outputs fit the data set's targets; pass logits_fn for another"
        " one.",
    ),
    "logits beside features, of a data set with classes": Recorded(
        lambda: Stranger(shape=lambda z: (z, torch.cat([z, z], 1)), loss=lambda out, y: F.cross_entropy(out[0], y)),
        CLASSES,
        of_class,
        rows=lambda y: listing(classes=["a", "b", "c"]),
        line="EasinessCallback reads output[0], whose 3 outputs fit the data set's classes; pass logits_fn for another"
        " one.",
    ),
    "logits beside the examples' index": Recorded(
        Stranger, CLASSES, of_class, rows=lambda y: Rows(POINTS, y, torch.arange(N))
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    case, module = RECORDED[name], RECORDED[name].module()
    data = DataLoader(case.rows(case.target), batch_size=8, shuffle=True)
    trainer(max_epochs=1, callbacks=[EasinessCallback(tmp_path, num_images=0, **case.options)]).fit(module, data)
    record = EasinessRecord.load(tmp_path, "train-probe")
    with torch.no_grad():
        logits = case.logits(module.net(POINTS))
    values = [case.values(*pair) for pair in zip(_plain(logits), _plain(case.target), strict=True)]
    loss, margin, correct = zip(*values, strict=True)
    assert record.loss[0, 0].tolist() == pytest.approx(list(loss), abs=2e-5, nan_ok=True)
    assert record.loss_name == case.loss_name
    if margin[0] is None:
        assert record.fields == ("loss",)
    else:
        assert record.margin[0, 0].tolist() == pytest.approx(list(margin), abs=2e-5, nan_ok=True)
        assert record.correct[0, 0].tolist() == list(correct)
    if case.recorded_target is not None:
        assert record.target.tolist() == case.recorded_target.tolist()
    online = EasinessRecord.load(tmp_path, "train-online")
    assert (online.loss_name, online.count.tolist()) == (case.loss_name, [[[1] * N]])
    assert online.loss.isnan().tolist() == record.loss.isnan().tolist()
    lines = [entry.message for entry in caplog.records]
    told = [line for line in lines if line.startswith("EasinessCallback reads") or "probabilities" in line]
    assert not case.line or lines.count(case.line) == 1
    assert case.line or not told


@pytest.mark.parametrize("name", RECORDED)
def test_no_step_after_the_first_reads_anything_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, case = watch_steps(monkeypatch), RECORDED[name]
    data = DataLoader(case.rows(case.target), batch_size=8)
    callback = EasinessCallback(tmp_path, probe=None, num_images=0, **case.options)
    trainer(max_epochs=1, callbacks=[callback]).fit(case.module(), data)
    assert watched == [False] * 5


def _plain(values: Tensor) -> list[Any]:
    """Values of each example: a number where there is one."""
    return (values[:, 0] if values.shape[1:] == (1,) else values.flatten(1) if values.ndim > 3 else values).tolist()
