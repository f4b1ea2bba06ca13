"""Modules and batches that are not understood: the sentence, before training, and the line of it that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.observe.refusals import BCE, MSE
from tests.observe.test_inputs import (
    CLASSES,
    MANY,
    ONE_LABEL,
    POINTS,
    POSITIVE,
    SOFT,
    STEPS,
    ByKeyword,
    Embeds,
    EncoderAndHead,
    Holds,
    K,
    N,
    Rows,
    Stranger,
    T,
    bce,
    listing,
    mse,
    probabilities_bce,
    sequence,
)
from tests.refusing import refused
from tests.small import trainer


class Refused(NamedTuple):
    module: Callable[[], Stranger]
    data: Dataset
    message: str
    ways: tuple[dict[str, Any], ...]  # the arguments of the sentence, each of which must do
    error: type[Exception] = ValueError
    steps: int = 0
    options: dict[str, Any] = {}  # noqa: RUF012


def line(text: str) -> Any:
    """The function in a line of a message, as a user pastes it."""
    return eval(text.split("=", 1)[1], {"torch": torch})


TOKENS = STEPS[:, :K]
TWO = (
    "The module returns several tensors that may be the logits (output[0] (8, {}), output[1] (8, {})): pass the one"
    " that they are, logits_fn=lambda output: output[0] or output[1]."
)
NUMBERS = (
    "Targets torch.float32 {} beside outputs torch.float32 {} may be numbers to predict or probabilities: pass"
    f" {MSE} for numbers, and {BCE} for probabilities."
)
UNLABELLED = CLASSES.masked_fill(POINTS[:, 3] > 0.3, -1)
FROM_ONE = CLASSES + 1
WHOLE = (POINTS[:, 0] * 10).round().long() + 40


def language(z: Tensor) -> Tensor:
    """Outputs for the tokens of a sequence, classes last."""
    return z.reshape(len(z), T, K)


class Tokens(Stranger):
    """A language model: tokens in, outputs for each, which it shifts in its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Embedding(K, K)  # type: ignore[assignment]

    def forward(self, input_ids: Tensor) -> Any:  # type: ignore[override]
        return {"logits": self.net(input_ids)}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return F.cross_entropy(self(batch["input_ids"])["logits"][:, :-1].mT, batch["labels"][:, 1:])


REFUSED: dict[str, Refused] = {
    "features beside logits": Refused(
        lambda: Stranger(shape=lambda z: (torch.cat([z, z], 1), z), loss=lambda out, y: F.cross_entropy(out[1], y)),
        Rows(POINTS, CLASSES),
        TWO.format(6, 3),
        ({"logits_fn": lambda output: output[1]},),
    ),
    "two sets of logits": Refused(
        lambda: Stranger(shape=lambda z: (z, -z), loss=lambda out, y: F.cross_entropy(out[0], y)),
        Rows(POINTS, CLASSES),
        TWO.format(3, 3),
        ({"logits_fn": lambda output: output[0]},),
    ),
    "labels of -1": Refused(
        lambda: Stranger(loss=lambda z, y: F.cross_entropy(z, y, ignore_index=-1)),
        Rows(POINTS, UNLABELLED),
        "The targets of 1 of the first batch's 8 examples are outside the model's classes 0 to 2, the first is example"
        " 25 with target -1: fix them, or, if -1 means that there is no label, pass batch_fn=lambda batch: (batch[0],"
        " batch[1].masked_fill(batch[1] == -1, -100)).",
        ({"batch_fn": lambda batch: (batch[0], batch[1].masked_fill(batch[1] == -1, -100))},),
    ),
    "labels from 1": Refused(
        lambda: Stranger(loss=lambda z, y: F.cross_entropy(z, y - 1)),
        Rows(POINTS, FROM_ONE),
        "The targets of the first batch are 1 to 3, but the model's classes are 0 to 2: if they count from 1, pass"
        " batch_fn=lambda batch: (batch[0], batch[1] - 1), and if 3 means that there is no label, batch_fn=lambda"
        " batch: (batch[0], batch[1].masked_fill(batch[1] == 3, -100)).",
        ({"batch_fn": lambda batch: (batch[0], batch[1] - 1)},),
    ),
    "whole numbers to predict": Refused(
        lambda: Stranger(1, loss=lambda z, y: F.mse_loss(z[:, 0], y.float())),
        Rows(POINTS, WHOLE),
        "The targets of 8 of the first batch's 8 examples are outside the model's classes 0 to 1, the first is example"
        f" 0 with target {int(WHOLE[0])}: fix them, or, if {int(WHOLE[0])} means that there is no label, pass"
        f" batch_fn=lambda batch: (batch[0], batch[1].masked_fill(batch[1] == {int(WHOLE[0])}, -100)), or, if they are"
        f" numbers to predict, {MSE}.",
        ({"loss_fn": line(MSE)},),
    ),
    "class indices as floats": Refused(
        lambda: Stranger(loss=lambda z, y: F.cross_entropy(z, y.long())),
        Rows(POINTS, CLASSES.float()),
        "Targets torch.float32 (8,) are whole numbers as floats, beside 3 outputs: if they are class indices, pass"
        " batch_fn=lambda batch: (batch[0], batch[1].long()).",
        ({"batch_fn": lambda batch: (batch[0], batch[1].long())},),
        TypeError,
    ),
    "numbers between 0 and 1": Refused(
        lambda: Stranger(1, loss=mse),
        Rows(POINTS, SOFT[:, 0]),
        NUMBERS.format("(8,)", "(8, 1)"),
        ({"loss_fn": line(MSE)}, {"loss_fn": line(BCE)}),
    ),
    "numbers between 0 and 1, several": Refused(
        lambda: Stranger(loss=mse),
        Rows(POINTS, SOFT * 0.7),
        NUMBERS.format("(8, 3)", "(8, 3)"),
        ({"loss_fn": line(MSE)}, {"loss_fn": line(BCE)}),
    ),
    "counts of the outputs' shape": Refused(
        lambda: Stranger(loss=lambda z, y: F.poisson_nll_loss(z, y.float())),
        Rows(POINTS, MANY * 2),
        "Targets torch.int64 (8, 3) have the shape of the outputs, as labels of 0 and 1 would, but hold 2: pass"
        " loss_fn=lambda output, target: losses, with one loss per example.",
        ({"loss_fn": lambda output, target: (output - target).abs().mean(1)},),
    ),
    "no labels beside a loss for one class": Refused(
        lambda: Holds(nn.CrossEntropyLoss()),
        Rows(POINTS, MANY.float()),
        "The module's loss is for one class per example, but targets of the first batch have none or several labels:"
        f" pass {BCE} for several labels, or a batch_fn that leaves out what has none.",
        ({"loss_fn": line(BCE)},),
    ),
    "as many steps as classes": Refused(
        lambda: Stranger(K * K, lambda z: z.reshape(-1, K, K), lambda z, y: F.cross_entropy(z, y)),
        Rows(POINTS, TOKENS),
        "The classes of outputs (8, 3, 3) with targets (8, 3) may be in dimension 1 or in the last: pass"
        " logits_fn=lambda output: output if they are in dimension 1, and logits_fn=lambda output: output.movedim(-1,"
        " 1) if they are last.",
        ({"logits_fn": lambda output: output}, {"logits_fn": lambda output: output.movedim(-1, 1)}),
    ),
    "another number of steps": Refused(
        lambda: Stranger(K * T, sequence, lambda z, y: F.cross_entropy(z[:, :, :4], y)),
        Rows(POINTS, STEPS[:, :4]),
        "EasinessCallback does not know what output torch.float32 (8, 3, 5) and targets torch.int64 (8, 4) are: pass"
        " logits_fn or batch_fn to find logits (B, classes) and class indices (B,), or, for another task,"
        " loss_fn=lambda output, target: losses, with one loss per example.",
        ({"logits_fn": lambda output: output[:, :, :4]},),
        TypeError,
    ),
    "targets that are the inputs": Refused(
        Tokens,
        Rows(STEPS, STEPS, names=("input_ids", "labels")),
        "The targets are the inputs, as language models take them that shift them by one themselves, so each position"
        " would be scored for its own token: pass logits_fn=lambda output: output.logits[:, :-1] and batch_fn=lambda"
        " batch: (batch, batch['labels'][:, 1:]).",
        (
            {
                "logits_fn": lambda output: output["logits"][:, :-1].mT,
                "batch_fn": lambda batch: (batch["input_ids"], batch["labels"][:, 1:]),
            },
        ),
    ),
    "a softmax of one output": Refused(
        lambda: Stranger(1, lambda z: z.softmax(1), probabilities_bce),
        Rows(POINTS, POSITIVE),
        "The outputs end in a softmax, which is 1 for every example: pass `module`, the part before the softmax, or let"
        " forward return logits.",
        ({"module": "net"},),
    ),
    "a softmax for several labels": Refused(
        lambda: Stranger(shape=lambda z: z.softmax(1), loss=probabilities_bce),
        Rows(POINTS, MANY),
        "The outputs end in a softmax, which adds up to one, but an example has any number of labels: pass `module`,"
        " the part before the softmax, or let forward return logits.",
        ({"module": "net"},),
    ),
    "a sigmoid for each of the classes": Refused(
        lambda: Stranger(shape=torch.sigmoid),
        Rows(POINTS, CLASSES),
        "The outputs end in a sigmoid for each of 3 classes, but an example has one class: if the largest output is the"
        " prediction, pass logits_fn=lambda output: output.logit().",
        ({"logits_fn": lambda output: output.logit()},),
    ),
    "an average of sigmoids": Refused(
        lambda: Stranger(2, lambda z: z.sigmoid().mean(1), probabilities_bce),
        Rows(POINTS, POSITIVE),
        "All outputs of the first batch are between 0 and 1, as probabilities are, and nothing says whether they are:"
        " pass logits_fn=lambda output: output.logit() if so, and logits_fn=lambda output: output if they are logits.",
        ({"logits_fn": lambda output: output.logit()}, {"logits_fn": lambda output: output}),
    ),
    "another item that may be the class": Refused(
        lambda: Stranger(loss=F.cross_entropy),
        Rows(POINTS, POSITIVE, CLASSES),
        "The second and the item number 3 of a batch of 3 may both be the classes: pass batch_fn=lambda batch:"
        " (batch[0], batch[1]), or (batch[0], batch[2]).",
        ({"batch_fn": lambda batch: (batch[0], batch[1])}, {"batch_fn": lambda batch: (batch[0], batch[2])}),
    ),
    "a head that does not take the inputs": Refused(
        EncoderAndHead,
        Rows(POINTS, CLASSES),
        "The module defines no forward, and its part 'head' does not take a batch's inputs (RuntimeError: mat1 and mat2"
        " shapes cannot be multiplied (8x8 and 16x3)), so an evaluation pass gets no logits: let a forward return them,"
        " or pass probe=None.",
        ({"module": "head", "probe": None},),
        RuntimeError,
        options={"module": "head"},
    ),
    "the order (y, x)": Refused(
        lambda: Stranger(loss=lambda z, y: z.mean()),
        Rows(CLASSES, POINTS),
        "The module raised RuntimeError (mat1 and mat2 must have the same dtype, but got Long and Float) when it was"
        " called with torch.int64 (8,) out of a batch that is (torch.int64 (8,), torch.float32 (8, 8)): pass"
        " batch_fn=lambda batch: (inputs, targets), with the inputs that forward takes.",
        (),
        RuntimeError,
    ),
    "embeddings, with a head in the training step": Refused(
        Embeds,
        listing(classes=["a", "b", "c"]),
        "",
        ({"module": "head", "probe": None},),
        steps=1,
    ),
    "one label each, in a loss for several": Refused(
        lambda: Stranger(loss=bce), Rows(POINTS, ONE_LABEL.float()), "", ({"loss_fn": line(BCE)},), steps=1
    ),
    "0 and 1 to predict": Refused(
        lambda: Stranger(1, loss=mse), Rows(POINTS, POSITIVE.float()), "", ({"loss_fn": line(MSE)},), steps=1
    ),
}


def of(data: Dataset) -> DataLoader:
    return DataLoader(data, batch_size=8, shuffle=True)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    case = REFUSED[name]
    callback = EasinessCallback(tmp_path, **case.options)
    message = refused(case.error, callback, of(case.data), module=case.module(), steps=case.steps)
    assert not case.message or message == case.message
    assert message.count(". ") == 0, "one sentence"
    assert not list(tmp_path.rglob("step-*"))


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, case in REFUSED.items() for options in case.ways]
)
def test_the_line_of_the_sentence_helps(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    case = REFUSED[name]
    callback = EasinessCallback(tmp_path, num_images=0, **options)
    trainer(max_epochs=1, callbacks=[callback]).fit(case.module(), of(case.data))
    record = EasinessRecord.load(tmp_path, callback.series)
    assert record.num_examples == N
    labelled = record.loss[0, 0][(UNLABELLED >= 0) | (case.data is not REFUSED["labels of -1"].data)]
    assert labelled.isfinite().all()


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("embeddings, with a head in the training step", "EasinessCallback reads 16 outputs, but there are 3 classes"),
        ("one label each, in a loss for several", f"and 'binary_cross_entropy' fits: pass {BCE}."),
        ("0 and 1 to predict", f"and 'mse_loss' fits: pass {MSE}."),
    ],
)
def test_the_first_step_decides_where_targets_can_be_read_in_two_ways(name: str, ways: str, tmp_path: Path) -> None:
    case = REFUSED[name]
    message = refused(ValueError, EasinessCallback(tmp_path), of(case.data), module=case.module(), steps=1)
    assert ways in message
    assert "the first training step's loss is" in message


def test_later_targets_that_are_not_those_of_the_first_batch_are_refused_at_the_end(tmp_path: Path) -> None:
    """Example 11 is in no batch that is tried, and has another kind of target than those."""
    for number, (module, target, other, valid) in enumerate(
        (
            (Stranger(loss=bce), MANY.float(), 0.5, "0 and 1, as the labels of the first batch were"),
            (Stranger(1, loss=bce), POSITIVE.float(), 0.5, "0. and 1., as those of the first batch were"),
            (
                Stranger(loss=lambda z, y: F.cross_entropy(z, y.float())),
                ONE_LABEL.float(),
                1.0,
                "one-hot, as those of the first batch were",
            ),
            (
                Stranger(K * T, sequence, lambda z, y: F.cross_entropy(z, y.clamp(0, 2))),
                STEPS,
                7,
                "classes of the model or its ignore_index at every position",
            ),
        )
    ):
        changed = target.clone()
        changed[11] = other
        for options in ({"online": False}, {"probe": None}):
            callback = EasinessCallback(tmp_path / f"{number}-{len(options)}", every_n_epochs=1, **options)
            message = refused(ValueError, callback, of(Rows(POINTS, changed)), module=module, steps=5)
            assert message == (
                f"The targets of 1 examples are not {valid}, the first is example 11: fix them, or, if the task is"
                " another one, pass loss_fn=lambda output, target: losses, with one loss per example."
            )
            module.steps = 0


def test_keywords_that_forward_names_are_passed_together_and_others_alone(tmp_path: Path) -> None:
    class Named(ByKeyword):
        def forward(self, pixel_values: Tensor, scale: Tensor | None = None) -> Tensor:  # type: ignore[override]
            assert scale is not None
            return self.net(pixel_values) * scale[:, None]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self(batch["pixel_values"], batch["scale"]), batch["labels"])

    data = Rows(
        POINTS, torch.full((N,), 2.0), torch.arange(N), CLASSES, names=("pixel_values", "scale", "id", "labels")
    )
    module = Named()
    trainer(max_epochs=1, callbacks=[EasinessCallback(tmp_path, num_images=0)]).fit(module, of(data))
    expected = F.cross_entropy(2 * module.net(POINTS), CLASSES, reduction="none")
    torch.testing.assert_close(EasinessRecord.load(tmp_path, "train-probe").loss[0, 0], expected.detach())


def test_embeddings_where_nothing_names_the_classes_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="EasinessCallback reads 16 outputs, but the first batch has 3 classes"):
        trainer(max_epochs=1, callbacks=[EasinessCallback(tmp_path, num_images=0)]).fit(
            Embeds(), of(Rows(POINTS, CLASSES))
        )
