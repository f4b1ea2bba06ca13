"""The weights of what SampleEasinessTraining keeps: whom they reach, what they add up to, and that nothing stays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_easiness import SampleEasinessLoss, SELModule
from lightning_easiness.functional import sample_easiness_loss
from tests.selecting import IndexedBase, Traces
from tests.set_fits import (
    NO_NOISE,
    SIGMA2,
    HasLoss,
    Weighs,
    WithSEL,
    easiness_at,
    fit,
    level_of,
    seeded,
    training,
)

# `Batches` has the hook to see what is removed from a batch
pytestmark = pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer` in `LightningModule`")

SIZE, EVERYTHING = 53, list(range(53))


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_reach_the_loss_of_the_right_examples(workers: int) -> None:
    """By epoch: 1 for the levels asked for, and what makes up for the draw for the others."""
    module = seeded(Weighs)
    before = fit(training(others_share=0.4), module, data=IndexedBase(num_workers=workers))
    for epoch in range(5):
        given = module.weight_of(epoch)
        assert sorted(given) == before.selected[epoch]
        if epoch < 2:
            assert given == dict.fromkeys(EVERYTHING, 1.0)
            continue
        easiness = easiness_at(before.states[epoch])
        medium = [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]
        others = SIZE - len(medium)
        drawn = int(0.4 * others + 0.5)
        assert set(medium) <= set(given)
        assert len(given) == len(medium) + drawn
        for i, weight in given.items():
            assert weight == pytest.approx(1.0 if i in medium else others / drawn)
        assert sum(given.values()) == pytest.approx(SIZE), "as many as there are"


def test_a_loss_that_is_a_submodule_takes_the_weights() -> None:
    plain, held = modules = [kind("adam") for kind in (Weighs, HasLoss)]
    for module in modules:
        module.load_state_dict(seeded().state_dict())
        fit(training(others_share=0.4), module)
    assert plain.batches == held.batches
    for (_, _, _, ours), theirs in zip(plain.steps, held.weights, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_what_is_filled_up_keeps_the_sum_that_of_all_examples(per: str) -> None:
    """Drawn up to the minimum beyond `others_share`, too: no example counts for more than it stands for."""
    module = seeded(Weighs)
    fit(training(early_epochs=1, others_share=0.02, per=per, minimum=4), module, max_epochs=2, reader=NO_NOISE)
    sums = [float(weight.sum()) for epoch, _, _, weight in module.steps if epoch == 1]
    assert sum(sums) == pytest.approx(SIZE)
    assert per == "epoch" or sums == pytest.approx([8.0] * 6 + [5.0])


# ------------------------------------------------------------------------------------- sums and means of a batch


def surely() -> nn.Module:
    """A classifier to which few examples are medium."""
    net = nn.Linear(8, 4)
    net.load_state_dict({name: 6 * value for name, value in net.state_dict().items()})
    return net


class Steady(SELModule, Weighs):
    """Has neither dropout nor batch norm and never learns, so that only the draws of the others vary."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.net = surely()
        self.criterion = SampleEasinessLoss(sel_weight=0.1, sigma2=SIGMA2)
        self.shares: list[float] = []
        self.found: dict[str, list[tuple[float, float]]] = {}
        self.validated: list[tuple[float, float]] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.before = batch
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses, every = self.losses_of(batch), self.losses_of(self.before)
        self.keep(batch, losses, self.sample_weight)
        self.shares.append(len(losses) / len(every))
        assert self.batch_share == self.criterion.batch_share == self.shares[-1]
        pairs = {"weighted": (self.weighted(losses).sum(), every.sum())}
        pairs["weighted_mean"] = (self.weighted_mean(losses), every.mean())
        pairs["sel"] = (self.sel(self(batch[0]), batch[1]), 0.1 * self.losses_by_sel(self.before, "mean"))
        for reduction in ("sum", "mean"):
            self.criterion.reduction = reduction
            whole = nn.functional.cross_entropy(self(self.before[0]), self.before[1], reduction=reduction)
            whole = whole + 0.1 * self.losses_by_sel(self.before, reduction, SIGMA2)
            pairs[reduction] = (self.criterion(self(batch[0]), batch[1]), whole)
        for name, (ours, theirs) in pairs.items():
            self.found.setdefault(name, []).append((float(ours.detach()), float(theirs.detach())))
        return pairs["weighted_mean"][0]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """What is in eval weighs all alike: its means are whole, also between two batches that were narrowed."""
        losses = nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")
        self.validated.append((float(self.weighted_mean(losses)), float(losses.mean())))
        logits, sel = self(batch[0]), (0.1 * self.losses_by_sel(batch, "mean", noise) for noise in (1e-4, SIGMA2))
        self.validated.append((float(self.sel(logits, batch[1])), float(next(sel))))
        self.validated.append((float(self.criterion(logits, batch[1])), float(losses.mean() + next(sel))))
        self.log("val_loss", losses.mean())

    def losses_by_sel(self, batch: Any, reduction: Any, sigma2: float = 1e-4) -> Tensor:
        return sample_easiness_loss(self(batch[0]), batch[1], sigma2, reduction=reduction)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_sums_and_means_over_narrowed_batches_are_those_of_whole_ones_in_expectation() -> None:
    module = seeded(Steady)
    rule = training(early_epochs=0, per="batch", others_share=0.3)
    fit(rule, module, max_epochs=40, data=IndexedBase(batch_size=16, drop_last=True))
    for name, pairs in module.found.items():
        ours, theirs = torch.tensor(pairs, dtype=torch.float64).T
        gap, error = (ours - theirs).mean(), (ours - theirs).std() / math.sqrt(len(pairs))
        assert 0 < error < 0.1 * theirs.mean(), name
        assert abs(gap) < 4 * error, (name, float(ours.mean() / theirs.mean()))
    raw = {round(value, 5) for _, _, _, weight in module.steps for value in weight.tolist()}
    assert min(raw) == 1 < max(raw)
    for (_, _, losses, weight), share in zip(module.steps, module.shares, strict=True):
        assert float(weight.sum()) == pytest.approx(16), "each stands for what it stands for, and no more"
        assert share == len(losses) / 16 < 1
    assert [ours for ours, _ in module.validated] == pytest.approx([theirs for _, theirs in module.validated])
    for part in (module, module.criterion):
        assert part.batch_share == 1
        assert not {"batch_share", "sample_weight", "sample_weight_used"} & set(vars(part))


# ------------------------------------------------------------------------------------- whoever takes the weights


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_weights_that_nothing_takes_are_an_error_at_the_first_batch(per: str) -> None:
    """Before its gradients, though none has weights before the third epoch."""
    module = seeded(Traces)
    with pytest.raises(TypeError) as error:
        fit(training(others_share=0.4, per=per), module)
    assert str(error.value) == (
        "SampleEasinessTraining gives weights to the examples, but the training step of Traces returns one loss for all"
        ' of them: let it return one loss per example, as cross_entropy(logits, y, reduction="none"), or compute its'
        ' loss by SampleWeightedLoss(torch.nn.CrossEntropyLoss(reduction="none")).'
    )
    assert len(module.batches) == 1
    assert all(parameter.grad is None for parameter in module.parameters())
    fit(training(per=per), seeded(Traces), max_epochs=3)  # without weights nothing need take them


class DoesNotAsk(Weighs):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self.losses_of(batch)
        self.keep(batch, losses, None)
        return losses.mean()


@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("kind", [DoesNotAsk, WithSEL])
def test_weights_that_the_step_does_not_use_are_an_error_at_the_first_batch(kind: Any, per: str) -> None:
    module = seeded(kind)
    with pytest.raises(RuntimeError) as error:
        fit(training(others_share=0.4, per=per), module)
    assert str(error.value) == (
        "SampleEasinessTraining gives weights to the examples, but the training step did not use them: let its loss be"
        " self.weighted_mean(losses), with one loss per example, or SampleEasinessLoss."
    )
    assert len(module.batches) == 1


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_skips_a_batch_need_not_use_its_weights() -> None:
    class Skips(Weighs):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    module = seeded(Skips)
    fit(training(others_share=0.4), module, max_epochs=4)
    assert {epoch for epoch, _, _ in module.batches} == {0, 1, 2, 3}
