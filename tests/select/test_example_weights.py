"""Weights of a selection in losses that know nothing of it: trainings equal loops written by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Needs,
    SampleEasinessLoss,
    SampleEasinessTraining,
    SampleWeightedLoss,
    Selected,
    SelectionState,
    SELModule,
)
from lightning_easiness.losses import WeighsExamples
from tests.selecting import IndexedBase, IndexedPoints, Listed, Traces, fit
from tests.set_fits import SIGMA2, seeded
from tests.small import assert_identical, trainer

pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")

SIZE, BATCH, EPOCHS = 53, 8, 3
KEPT = [range(53), range(3, 41), range(20)]  # 7, 5 and 3 batches; the last of each is a smaller one


class Weighted(Listed):
    """Listed examples, with weights of 1 to 4 in the epochs after the first."""

    needs = Needs(every="epoch", weights=True)

    def select(self, state: SelectionState) -> Selected:
        return Selected(super().select(state), weights_of() if state.epoch else None)


def weights_of() -> Tensor:
    return 1 + (torch.arange(SIZE) % 7) / 2


class Plain(Traces):
    """Neither batch norm nor dropout."""

    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))

    def losses_of(self, batch: Any) -> Tensor:
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
        return cross_entropy(self(batch[0]), batch[1], reduction="none")


class Returns(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.losses_of(batch)


class ReturnsDict(Plain):
    """Keeps what callbacks get."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.losses_of(batch), "number": batch_idx}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert outputs.keys() == {"loss", "number"}
        assert (outputs["loss"].shape, outputs["number"]) == ((), batch_idx)


class HasCriterion(Plain):
    def __init__(self, optimizer: str = "sgd") -> None:
        super().__init__(optimizer)
        self.criterion = SampleWeightedLoss(nn.CrossEntropyLoss(reduction="none"))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.losses_of(batch)
        return self.criterion(self(batch[0]), batch[1])


class ByItself(HasCriterion):
    """Optimises by itself."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.optimizers().zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        self.optimizers().step()


def by_hand(module: Plain, batches: list[tuple[int, list[int], list[int]]], every: int, clip: float) -> None:
    """Trains on the batches that a fit had, one example at a time: sum of weight times loss over B, times the share.

    The share makes up for the number of batches of the epoch: of k batches of n examples each counts k / n on average,
    which is to be as in the epoch of 7 batches of 53.
    """
    points, weight = IndexedPoints(), weights_of().tolist()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for epoch, kept in enumerate(KEPT):
        steps = [indices for at, indices, _ in batches if at == epoch]
        assert len(steps) == ceil(len(kept) / BATCH)
        share = (7 / 53) / (len(steps) / len(kept)) if epoch else 1.0
        for number, indices in enumerate(steps):
            if number % every == 0:
                optimizer.zero_grad()
            for index in indices:
                x, y = points.x[index : index + 1, :8], points.y[index : index + 1]
                factor = (weight[index] if epoch else 1.0) * share / len(indices) / every
                (factor * cross_entropy(module.net(x), y)).backward()
            if (number + 1) % every == 0 or number + 1 == len(steps):
                if clip:
                    nn.utils.clip_grad_norm_(module.parameters(), clip)
                optimizer.step()


def seeded_fit(kind: type[Plain], rule: Any, reader: BatchReader | None = None, **options: Any) -> Plain:
    """A fit whose initial weights and orders are those of every other one."""
    module, data = seeded(kind, optimizer="sgd"), EasinessDataModule(IndexedBase(), rule, reader=reader)
    return fit(data, None, module, max_epochs=EPOCHS, **options)[0]


def assert_same_training(ours: Plain, theirs: Plain) -> None:
    assert ours.batches == theirs.batches
    assert_identical(dict(ours.net.state_dict()), dict(theirs.net.state_dict()))


KINDS = [Returns, ReturnsDict, HasCriterion]
OPTIONS: dict[str, tuple[int, float]] = {"plain": (1, 0.0), "accumulation": (2, 0.0), "both": (3, 0.5)}


@pytest.mark.parametrize(
    ("kind", "option"), [(kind, option) for kind in KINDS for option in OPTIONS] + [(ByItself, "plain")]
)
def test_trainings_are_those_of_a_loop_by_hand(kind: type[Plain], option: str) -> None:
    """With a smaller last batch, with gradients that are accumulated, the last ones over fewer batches, and clipped."""
    every, clip = OPTIONS[option]
    ours, theirs = seeded(kind, optimizer="sgd"), seeded(Plain, optimizer="sgd")
    options = {"accumulate_grad_batches": every, "gradient_clip_val": clip or None, "max_epochs": EPOCHS}
    fit(EasinessDataModule(IndexedBase(), Weighted(*KEPT)), None, ours, **options)
    for epoch, kept in enumerate(KEPT):
        assert sorted(ours.epoch(epoch)) == list(kept)
    by_hand(theirs, ours.batches, every, clip)
    for name, value in theirs.net.state_dict().items():
        torch.testing.assert_close(ours.net.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(precision: Any) -> None:
    """The mean is taken where the loss is computed, or right after it."""
    first, *others = (seeded_fit(kind, Weighted(*KEPT), precision=precision) for kind in KINDS)
    for module in others:
        assert_same_training(module, first)


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_easiness_weights_reach_returned_losses_as_they_reach_a_loss(per: Any) -> None:
    rule = SampleEasinessTraining(early_epochs=1, others_share=0.4, per=per)
    first, *others = (seeded_fit(kind, rule, reader=BatchReader(sigma2=SIGMA2)) for kind in KINDS)
    assert first.lengths(EPOCHS)[1] < SIZE
    for module in others:
        assert_same_training(module, first)
        assert not {"sample_weight", "batch_share"} & {name for part in module.modules() for name in vars(part)}


class Means(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.losses_of(batch).mean()


RULES: dict[str, Callable[[], Any]] = {"no selection": lambda: None, "without weights": lambda: Listed(*KEPT)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_without_weights_the_mean_is_taken(kind: type[Plain], rule: str) -> None:
    """So that a control needs no other module."""
    ours, theirs = (seeded_fit(one, RULES[rule]()) for one in (kind, Means))
    assert_same_training(ours, theirs)
    assert "training_step" not in vars(ours.trainer.strategy), "no trace"


def test_an_error_leaves_no_trace() -> None:
    class Fails(Returns):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise ArithmeticError
            return super().training_step(batch, batch_idx)

    made = trainer()
    with pytest.raises(ArithmeticError):
        made.fit(Fails(), datamodule=EasinessDataModule(IndexedBase()))
    assert "training_step" not in vars(made.strategy)


def test_the_callback_records_a_step_that_returns_losses(tmp_path: Path) -> None:
    module, points = seeded(Returns), IndexedPoints()
    fit(IndexedBase(), Weighted(*KEPT), module, max_epochs=EPOCHS, callbacks=[EasinessCallback(tmp_path, probe=None)])
    record = EasinessRecord.load(tmp_path)
    for epoch, kept in enumerate(KEPT):
        assert record.count[0, epoch].nonzero()[:, 0].tolist() == list(kept)
    assert torch.equal(record.target, points.y)


class OneElement(Plain):
    """Its loss has a dimension too many, which torch lets pass."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.losses_of(batch).mean().reshape(1)


def test_a_single_loss_in_a_dimension_of_its_own_is_left_as_it_is() -> None:
    assert_same_training(*(seeded_fit(kind, None) for kind in (OneElement, Means)))


# ------------------------------------------------------------------------------------- what takes no weights


class Drops(SELModule, Plain):
    """Takes weights only in the term that it adds."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.losses_of(batch).mean() + self.sel(self(batch[0]), batch[1])


class Both(HasCriterion):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.losses_of(batch)


class WeighsAndReturns(WeighsExamples, Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weighted(self.losses_of(batch))


class Square(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return torch.stack([self.losses_of(batch)] * 2, dim=1)


class ByHandAlone(Plain):
    automatic_optimization = False


COMPUTE = 'compute its loss by SampleWeightedLoss(torch.nn.CrossEntropyLoss(reduction="none")).'
HANDS = (
    "Weighted hands its weights to the {0} in {1}, but the training step returns one loss per example: let it return"
    " self.weighted_mean(losses), or the mean that SampleEasinessLoss or SampleWeightedLoss gives."
)
TAKES_NONE: dict[str, tuple[type[Plain], type[Exception], str]] = {
    "one loss": (
        Means,
        TypeError,
        (
            "Weighted gives weights to the examples, but the training step of Means returns one loss for all of them:"
            f' let it return one loss per example, as cross_entropy(logits, y, reduction="none"), or {COMPUTE}'
        ),
    ),
    "one loss, in a dimension": (
        OneElement,
        TypeError,
        (
            "Weighted gives weights to the examples, but the training step of OneElement returns one loss for all of"
            f' them: let it return one loss per example, as cross_entropy(logits, y, reduction="none"), or {COMPUTE}'
        ),
    ),
    "by hand": (
        ByHandAlone,
        TypeError,
        (
            "Weighted gives weights to the examples, but ByHandAlone optimizes by hand, and nothing in it takes them:"
            f" {COMPUTE}"
        ),
    ),
    "not used": (
        Drops,
        RuntimeError,
        (
            "Weighted gives weights to the examples, but the training step did not use them: let its loss be"
            " self.weighted_mean(losses), with one loss per example, or SampleEasinessLoss."
        ),
    ),
    "a criterion that is not called": (Both, TypeError, HANDS.format("SampleWeightedLoss", "Both")),
    "weighted twice": (WeighsAndReturns, TypeError, HANDS.format("WeighsAndReturns", "WeighsAndReturns")),
    "two losses an example": (
        Square,
        ValueError,
        (
            "The training step of Square must return one loss for the batch or one per example, 8; got shape (8, 2):"
            " take the mean over all but the first dimension."
        ),
    ),
}


@pytest.mark.parametrize("case", TAKES_NONE)
def test_weights_that_nothing_takes_are_an_error_before_the_first_gradient(case: str) -> None:
    """Also where the first epochs have no weights."""
    kind, error, message = TAKES_NONE[case]
    module = seeded(kind)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(error) as caught:
        fit(IndexedBase(), Weighted(*KEPT), module, max_epochs=EPOCHS)
    assert str(caught.value) == message
    assert len(module.batches) <= 1
    assert all(parameter.grad is None for parameter in module.parameters())
    assert_identical(dict(module.state_dict()), dict(before))


# ------------------------------------------------------------------------------------- the loss by itself


LOSSES: dict[str, Any] = {
    "cross-entropy": nn.CrossEntropyLoss(reduction="none"),
    "a function": lambda logits, target: cross_entropy(logits, target, reduction="none"),
    "a SEL loss": SampleEasinessLoss(sigma2=SIGMA2, reduction="none"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_of_a_loss_is_that_of_a_loop(loss: str) -> None:
    criterion = SampleWeightedLoss(LOSSES[loss])
    logits, target = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    each = [float(LOSSES[loss](row[None], label[None])) for row, label in zip(logits, target, strict=True)]
    assert float(criterion(logits, target)) == pytest.approx(sum(each) / 6)
    criterion.sample_weight, criterion.batch_share = torch.tensor([1.0, 2, 0, 1, 5, 1]), 0.75
    weighted = sum(weight * one for weight, one in zip([1, 2, 0, 1, 5, 1], each, strict=True))
    assert float(criterion(logits, target)) == pytest.approx(0.75 * weighted / 6)
    assert criterion.sample_weight_used
    assert float(criterion.eval()(logits, target)) == pytest.approx(sum(each) / 6)


WRITE = 'write SampleWeightedLoss(torch.nn.CrossEntropyLoss(reduction="none"))'
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a mean": (
        nn.CrossEntropyLoss(),
        ValueError,
        (
            "The `loss` of SampleWeightedLoss must have reduction=\"none\", for one loss per example; got 'mean':"
            f" {WRITE}."
        ),
    ),
    "a class": (
        nn.MSELoss,
        TypeError,
        f"The `loss` of SampleWeightedLoss must be a loss, as an object or a function; got {nn.MSELoss!r}: {WRITE}.",
    ),
    "a number": (
        0.5,
        TypeError,
        f"The `loss` of SampleWeightedLoss must be a loss, as an object or a function; got 0.5: {WRITE}.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_losses_that_are_not_one_per_example(case: str) -> None:
    given, error, message = REFUSED[case]
    with pytest.raises(error) as caught:
        SampleWeightedLoss(given)
    assert str(caught.value) == message
