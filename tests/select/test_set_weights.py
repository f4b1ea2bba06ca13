"""The weights of what SampleEasinessTraining keeps: whom they reach, what they add up to, and that nothing stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    SampleEasinessLoss,
    SampleEasinessTraining,
    SELModule,
)
from tests.selecting import IndexedPoints, Traces
from tests.set_fits import (
    SIGMA2,
    Batches,
    HasLoss,
    IndexedBase,
    Weighs,
    assert_clear,
    easiness_loop,
    fit,
    level_of,
    logits_at,
    seeded,
    training,
)
from tests.small import trainer

# `Batches` has the hook to see what is taken out of a batch
pytestmark = pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer` in `LightningModule`")

SIZE, EVERYTHING = 53, list(range(53))


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_reach_the_loss_of_the_right_examples(workers: int) -> None:
    """By epoch: 1 for the levels asked for, and what makes up for the draw for the others."""
    module = seeded(Weighs)
    before = fit(training(others_share=0.4), module, data=IndexedBase(num_workers=workers))
    checked = 0
    for epoch in range(5):
        given = module.weight_of(epoch)
        assert sorted(given) == before.selected[epoch]
        if epoch < 2:
            assert given == dict.fromkeys(EVERYTHING, 1.0)
            continue
        easiness = easiness_loop(logits_at(before.states[epoch]), IndexedPoints().y)
        assert_clear(easiness)
        medium = [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]
        others = SIZE - len(medium)
        drawn = int(0.4 * others + 0.5)
        assert set(medium) <= set(given)
        assert len(given) == len(medium) + drawn + ((len(medium) + drawn) % 8 == 1)
        if len(given) == len(medium) + drawn:
            checked += 1
            for i, weight in given.items():
                assert weight == pytest.approx(1.0 if i in medium else others / drawn)
            assert sum(given.values()) == pytest.approx(SIZE), "as many as there are"
    assert checked


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
    rule = SampleEasinessTraining(early_epochs=1, others_share=0.02, per=per, minimum=4)
    fit(rule, module, max_epochs=2, wrapped={"reader": BatchReader(sigma2=1e-14)})
    steps = [(len(losses), weight) for epoch, _, losses, weight in module.steps if epoch == 1]
    if per == "epoch":
        assert float(sum(weight.sum() for _, weight in steps)) == pytest.approx(SIZE)
    else:  # the mean weight of a batch is 1, or its sum that of the whole batch
        means = [float(weight.mean()) for _, weight in steps]
        sums = [float(weight.sum()) for _, weight in steps]
        assert means == pytest.approx([1.0] * 7) or sums == pytest.approx([8.0] * 6 + [5.0])


def test_within_batches_the_steps_add_up_to_those_on_everything() -> None:
    """Weighted means of what is kept, in expectation means of the whole batch: with equal losses, exactly."""

    class Equal(Weighs):
        def losses_of(self, batch: Any) -> Tensor:
            return super().losses_of(batch) * 0 + 1

    values = []

    class Looks(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *batch: Any) -> None:
            values.append((trainer.current_epoch, float(outputs["loss"])))

    fit(training(per="batch", others_share=0.5, early_epochs=1), seeded(Equal), [Looks()], max_epochs=3)
    assert [value for epoch, value in values if epoch] == pytest.approx([1.0] * 14)


def test_per_batch_weights_are_those_of_the_batch() -> None:
    module = seeded(Batches)
    fit(training(per="batch", others_share=0.5, early_epochs=1, minimum=1), module, max_epochs=3)
    weighted = 0
    for (epoch, before, state), (_, after, _, weight) in zip(module.whole, module.steps, strict=True):
        if epoch == 0:
            assert weight is None
            continue
        easiness = easiness_loop(logits_at(state)[before], IndexedPoints().y[before])
        assert_clear(easiness)
        medium = [i for i, value in zip(before, easiness, strict=True) if level_of(value) == "medium"]
        others = len(before) - len(medium)
        drawn = max(1, int(0.5 * others + 0.5)) if others else 0
        assert len(after) == len(medium) + drawn
        ratio = {i: 1.0 if i in medium else others / drawn for i in after}
        assert len(weight) == len(after)
        # up to a factor of the batch, by which its mean may be that of the whole batch
        scale = [float(value) / ratio[i] for i, value in zip(after, weight, strict=True)]
        assert scale == pytest.approx([scale[0]] * len(after))
        weighted += drawn
    assert weighted


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("fails_at", [None, (0, 1), (2, 0), (3, 1)])
def test_nothing_is_left_after_a_fit_or_an_exception(
    fails_at: tuple[int, int] | None, per: str, observed: bool, tmp_path: Path
) -> None:
    class Fails(HasLoss):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if (self.current_epoch, batch_idx) == fails_at:
                raise ArithmeticError("on purpose")
            return super().training_step(batch, batch_idx)

    module = seeded(Fails)
    callback = EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2)
    made = trainer(max_epochs=5, callbacks=[callback] if observed else [])
    before = dict(vars(made.strategy))
    data = EasinessDataModule(IndexedBase(), training(per=per, others_share=0.4))
    if fails_at is None:
        made.fit(module, datamodule=data)
        assert any(weight is not None for weight in module.weights)
    else:
        with pytest.raises(ArithmeticError):
            made.fit(module, datamodule=data)
    assert set(vars(made.strategy)) == set(before)
    assert not {"sample_weight", "sample_weight_used"} & set(vars(module.criterion))
    assert (module.criterion.sample_weight, module.criterion.sample_weight_used) == (None, False)
    assert made.reload_dataloaders_every_n_epochs == 0
    assert callback._listeners == []


def test_weights_that_nothing_takes_are_an_error_before_training() -> None:
    for per in ("epoch", "batch"):
        module = seeded(Traces)
        with pytest.raises(TypeError) as error:
            fit(training(others_share=0.4, per=per), module)
        assert str(error.value) == (
            "SampleEasinessTraining gives weights to the examples, but nothing in Traces takes them: use"
            " SampleEasinessLoss for its loss, or derive it from SELModule and let its loss be"
            " self.weighted_mean(losses), with one loss per example."
        )
        assert not module.batches
        fit(training(per=per), seeded(Traces), max_epochs=3)  # without weights nothing need take them


class DoesNotAsk(Weighs):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = self.losses_of(batch)
        self.keep(batch, losses, None)
        return losses.mean()


class AsksForSELAlone(SELModule, Traces):
    """The README's loss of SEL, whose cross-entropy knows of no weights."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer, sel_sigma2=SIGMA2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
        logits = self(batch[0])
        return nn.functional.cross_entropy(logits, batch[1]) + self.sel(logits, batch[1])


@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("kind", [DoesNotAsk, AsksForSELAlone])
def test_weights_that_the_step_does_not_use_are_an_error_at_the_second_batch(kind: Any, per: str) -> None:
    module = seeded(kind)
    with pytest.raises(RuntimeError) as error:
        fit(training(others_share=0.4, per=per), module)
    assert str(error.value).startswith(
        "SampleEasinessTraining gives weights to the examples, but the training step did not use them: let its loss be"
        " self.weighted_mean(losses), with one loss per example, or SampleEasinessLoss."
    )
    assert [epoch for epoch, _, _ in module.batches].count(2) == 1, "at the second batch that has weights"


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_step_that_skips_a_batch_need_not_use_its_weights() -> None:
    class Skips(Weighs):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    module = seeded(Skips)
    fit(training(others_share=0.4), module, max_epochs=4)
    assert {epoch for epoch, _, _ in module.batches} == {0, 1, 2, 3}


def test_several_consumers_and_validation() -> None:
    class Both(Weighs):
        def __init__(self, optimizer: str) -> None:
            super().__init__(optimizer)
            self.criterion = SampleEasinessLoss(sel_weight=0.1, sigma2=SIGMA2)
            self.seen: list[Tensor] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.keep(batch, self.losses_of(batch), self.sample_weight)
            same = self.sample_weight is self.criterion.sample_weight is None
            assert same or torch.equal(self.sample_weight, self.criterion.sample_weight)
            return self.criterion(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            # of 8 and of 4 examples, whatever the last training batch held
            self.seen.append(self.criterion(self(batch[0]), batch[1]))
            self.weighted_mean(self.losses_of(batch))

    module = seeded(Both)
    fit(training(others_share=0.4), module)
    assert len(module.seen) == 2 + 5 * 3
