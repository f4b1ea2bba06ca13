"""Rules that go by batches and by courses of losses, in real fits, against what their module saw; what they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import correlation, fmean
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn

from lightning_easiness import (
    AlignPrune,
    BatchLoss,
    EasinessCallback,
    EasinessDataModule,
    Hardest,
    Needs,
    RePB,
    Scores,
    Selected,
    Selection,
    SelectionState,
    find_label_issues,
)
from tests.made_runs import whole
from tests.rule_fits import Plain
from tests.selecting import IndexedBase, fit, refusal, scores

SIZE = 53
EVERYTHING = set(range(SIZE))


class Batches(Plain):
    def batch_losses(self, epoch: int) -> dict[int, float]:
        """Example -> the mean loss of its batch in an epoch that had it."""
        return {one: float(losses.mean()) for at, indices, losses, _ in self.steps if at == epoch for one in indices}

    def own_losses(self, epoch: int) -> dict[int, float]:
        """Example -> its loss in an epoch that had it."""
        rows = [(indices, losses.tolist()) for at, indices, losses, _ in self.steps if at == epoch]
        return {one: loss for indices, losses in rows for one, loss in zip(indices, losses, strict=True)}


def half_up(number: float) -> int:
    return math.floor(number + 0.5)


def check_below_mean(module: Any, share: float, momentum: float, epochs: range) -> None:
    """That in each epoch a share of what has a score below the mean is left out, and nothing else."""
    score: dict[int, float] = {}
    for epoch in range(epochs.stop):
        if epoch in epochs:
            below = {one for one in score if score[one] < fmean(score.values())}
            found = module.epoch(epoch)
            assert set(found) >= EVERYTHING - below
            assert len(found) == len(set(found)) == SIZE - half_up(share * len(below))
            assert 0 < len(found) < SIZE
        for one, loss in module.batch_losses(epoch).items():
            score[one] = momentum * score[one] + (1 - momentum) * loss if one in score else loss


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 3}, {"gradient_clip_val": 0.1}])
def test_batch_loss_leaves_out_a_share_of_what_was_in_batches_of_low_loss(options: dict[str, Any]) -> None:
    rule = BatchLoss(0.6, momentum=0.5, early_epochs=2, final_epochs=0)
    module = fit(IndexedBase(), rule, Batches(), max_epochs=6, **options)[0]
    check_below_mean(module, 0.6, 0.5, range(2, 6))
    assert set(module.epoch(1)) == EVERYTHING


def test_the_same_rule_begins_each_fit_anew() -> None:
    rule = BatchLoss(0.6, momentum=0.9, early_epochs=1, final_epochs=0)
    for _ in range(2):
        check_below_mean(fit(IndexedBase(), rule, Batches(), max_epochs=4)[0], 0.6, 0.9, range(1, 4))


class NoLogits(Batches):
    """Optimizes by itself, has no labels, and one loss of a whole batch, which it returns beside something else."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.code = nn.Linear(8, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x = batch[0][:, :8]
        loss = (self.code(x) @ self.code.weight - x).square().mean()
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.keep(batch, loss.detach().expand(len(x)), None)
        return {"loss": loss.detach(), "more": x}


class Skips(Batches):
    """Makes no step for some batches; keeps the number of each that it makes, with its examples."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[tuple[int, int, list[int]]] = []
        self.number = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.number += 1
        if batch_idx % 3 == 1:
            return None
        self.numbers.append((self.current_epoch, self.number, batch[0][:, 8].long().tolist()))
        return super().training_step(batch, batch_idx)


def test_any_module_will_do() -> None:
    rule = BatchLoss(0.6, momentum=0.5, early_epochs=1, final_epochs=0)
    check_below_mean(fit(IndexedBase(), rule, NoLogits(), max_epochs=4)[0], 0.6, 0.5, range(1, 4))


class Notes(Selection):
    """Keeps what it could go by in each epoch."""

    needs = Needs(every="epoch", fields=("batch_loss", "times_trained", "last_batch"))

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def select(self, state: SelectionState) -> Tensor:
        self.seen.append(state.observed)
        return torch.arange(state.num_examples)[state.epoch % 3 :: 2]


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_fields_of_batches_are_those_of_the_steps_that_were_made() -> None:
    notes = Notes()
    module = fit(IndexedBase(), notes, Skips(), max_epochs=5)[0]
    assert not notes.seen[0], "nothing is known before the first step"
    known: dict[int, float] = {}
    times, last = torch.zeros(SIZE, dtype=torch.int64), torch.zeros(SIZE, dtype=torch.int64)
    for epoch, observed in enumerate(notes.seen[1:]):
        for at, number, indices in module.numbers:
            if at == epoch:
                last[indices] = number
        trained = module.batch_losses(epoch)
        known.update(trained)
        times[list(trained)] += 1
        wanted = torch.tensor([known.get(one, math.nan) for one in range(SIZE)])
        torch.testing.assert_close(observed["batch_loss"], wanted, equal_nan=True)
        assert torch.equal(observed["times_trained"], times)
        assert torch.equal(observed["last_batch"], last)


class Chosen(RePB):
    """Keeps what each epoch was to train on."""

    def __init__(self, share: float) -> None:
        super().__init__(share)
        self.chosen: list[set[int]] = []

    def select(self, state: SelectionState) -> Any:
        decision = super().select(state)
        self.chosen.append(set(Selected.of(decision).kept.tolist()))
        return decision


def hard_of(module: Batches, epoch: int) -> set[int]:
    """What was above the mean of its own batch in an epoch."""
    rows = [(indices, losses) for at, indices, losses, _ in module.steps if at == epoch]
    return {
        one
        for indices, losses in rows
        for one, loss in zip(indices, losses.tolist(), strict=True)
        if loss > float(losses.mean())
    }


def check_repb(share: float, folder: Path, **options: Any) -> Batches:
    """That hard examples are all kept, others by chance, and each with its weight."""
    seed_everything(3, verbose=False)
    rule, callback = Chosen(share), EasinessCallback(folder, probe=None)
    module = fit(IndexedBase(), rule, Batches(), callbacks=[callback], **options)[0]
    assert rule.chosen[0] == EVERYTHING
    times, kept, asked = dict.fromkeys(EVERYTHING, 1), 0, 0
    for epoch, chosen in enumerate(rule.chosen[1:], 1):
        hard = hard_of(module, epoch - 1)
        assert hard
        assert hard <= chosen
        kept, asked = kept + len(chosen - hard), asked + SIZE - len(hard)
        for one in chosen:
            times[one] += 1
        for one, weight in module.weight_of(epoch).items():
            assert one in chosen
            assert weight == pytest.approx((epoch + 1) / times[one])
    assert abs(kept - asked * (1 - share)) <= 4 * math.sqrt(asked * share * (1 - share)), "left out, and put back"
    return module


@pytest.mark.parametrize("share", [0.6, 0.0])
def test_repb_keeps_what_was_above_the_mean_of_its_batch_and_weighs_by_how_often_each_was_in(
    share: float, tmp_path: Path
) -> None:
    module = check_repb(share, tmp_path, max_epochs=8)
    assert (len(set(module.epoch(7))) < SIZE) == (share > 0)


def test_repb_takes_what_an_epoch_did_not_reach_for_left_out(tmp_path: Path) -> None:
    """Its last loss is of a batch that others have left since, so it is not compared with what is left of that."""
    check_repb(0.9, tmp_path, max_epochs=8, limit_train_batches=3)


def test_repb_decides_alike_for_an_epoch_that_it_is_asked_for_again_after_it_was_resumed() -> None:
    def state(epoch: int) -> SelectionState:
        noise = torch.Generator().manual_seed(epoch)
        # the examples of the second half were not reached in the last epoch
        last = torch.arange(40) // 4 + 1 + 10 * (epoch - 1)
        return SelectionState(
            40, epoch=epoch, observed={"loss": torch.rand(40, generator=noise), "last_batch": last.clamp(max=16)}
        )

    rule, resumed = RePB(0.6), RePB(0.6)
    for epoch in (1, 2):
        first = rule.select(state(epoch))
    resumed.load_state_dict(rule.state_dict())
    again = resumed.select(state(2))
    assert isinstance(first, Selected)
    assert isinstance(again, Selected)
    assert torch.equal(first.kept, again.kept)
    assert first.weights is not None
    assert again.weights is not None
    assert torch.equal(first.weights, again.weights)


# ------------------------------------------------------------------------------------------------- AlignPrune


CLEAN = list(range(0, 24, 2))


def check_aligned(module: Batches, share: float, window: int, epochs: range) -> None:
    for epoch in epochs:
        courses = [module.own_losses(at) for at in range(max(0, epoch - window), epoch)]
        means = [fmean([course[one] for one in CLEAN if one in course]) for course in courses]
        score = {}
        for one in EVERYTHING:
            pairs = [(course[one], mean) for course, mean in zip(courses, means, strict=True) if one in course]
            if len(pairs) > 2:
                score[one] = correlation(*zip(*pairs, strict=True))
        gone = sorted(score, key=lambda one: score[one])[: half_up(share * SIZE)]
        assert EVERYTHING - set(module.epoch(epoch)) == set(gone)
        assert gone


@pytest.mark.parametrize("window", [3, 4, 10])
def test_align_prune_leaves_out_what_goes_least_with_the_clean_part(window: int, tmp_path: Path) -> None:
    rule, callback = AlignPrune(0.3, clean=torch.tensor(CLEAN), window=window), EasinessCallback(tmp_path, probe=None)
    module = fit(IndexedBase(), rule, Batches(), callbacks=[callback], max_epochs=8)[0]
    assert all(set(module.epoch(epoch)) == EVERYTHING for epoch in range(3))
    check_aligned(module, 0.3, window, range(3, 8))


def test_label_issues_are_a_clean_part_without_what_they_flag(tmp_path: Path) -> None:
    issues = find_label_issues(scores(), rule=Hardest(29))
    assert issues.unflagged.tolist() == list(range(24)), "values grow with the index"
    options = {"callbacks": [EasinessCallback(tmp_path, probe=None)], "max_epochs": 4}
    module = fit(IndexedBase(), AlignPrune(0.3, clean=issues), Batches(), **options)[0]
    assert len(set(module.epoch(3))) == SIZE - 16
    other = find_label_issues(scores(54), rule=Hardest(29))
    message = refusal(ValueError, IndexedBase(), AlignPrune(clean=other), **options)
    assert message.startswith("The `clean` part of AlignPrune and the data set are not of the same data"), message


def test_courses_that_do_not_fall_are_left_out_and_come_back_when_nothing_is_known_of_them() -> None:
    """Ten of forty examples have wrong labels, whose losses rise, whatever their height."""
    noise, steps = torch.Generator().manual_seed(0), torch.linspace(0, 1, 12)
    height = 1 + 3 * torch.rand(40, generator=noise)
    slope = torch.where(torch.arange(40) < 10, 1.0, -1.0)
    rule, times, kept = AlignPrune(0.25, clean=range(30, 40)), torch.zeros(40, dtype=torch.int64), torch.arange(40)
    returned = 0
    for epoch, step in enumerate(steps.tolist(), 1):
        times[kept] += 1
        loss = height + slope * step + 0.02 * torch.randn(40, generator=noise)
        state = SelectionState(40, epoch=epoch, observed={"loss": loss, "times_trained": times.clone()})
        kept, before = rule.select(state), set(kept.tolist())
        if epoch >= 3:
            returned += len(set(kept.tolist()) - before)
            assert {one for one in range(40) if one not in kept.tolist()} <= set(range(10)) or epoch > 10
    assert returned, "after eight epochs without it a course has fewer than three losses"


# ------------------------------------------------------------------------------------------------- what is refused


class ReturnsNothing(NoLogits):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)


class TakesItsBatches(Batches):
    def training_step(self, dataloader_iter: Any) -> Any:
        return super().training_step(next(dataloader_iter)[0], 0)


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter`")
def test_what_batch_loss_refuses_before_training() -> None:
    message = (
        "BatchLoss goes by the mean losses of batches, but the train loader's hold one example each, whose loss alone"
        " that would be: give the loader a batch_size of 2 at least, or take a rule that goes by the losses of"
        " examples, as OrderDP."
    )
    assert refusal(ValueError, IndexedBase(batch_size=1), BatchLoss(), max_epochs=9) == message
    message = refusal(TypeError, IndexedBase(), BatchLoss(), module=TakesItsBatches(), max_epochs=9)
    assert message.startswith("BatchLoss works on each batch, but the training_step of TakesItsBatches takes batches")


def test_a_step_that_optimizes_by_itself_must_return_its_loss() -> None:
    message = (
        "BatchLoss goes by the loss that a training step returns, but that of ReturnsNothing returned NoneType: let it"
        " return the loss, also where it optimizes by itself."
    )
    with pytest.raises(TypeError, match=whole(message)):
        fit(IndexedBase(), BatchLoss(early_epochs=1, final_epochs=0), ReturnsNothing(), max_epochs=3)


BAD = [
    (lambda: BatchLoss(1.0), "The `share` of BatchLoss must be in [0, 1); got 1.0: it is the fraction to leave out"),
    (lambda: BatchLoss(momentum=1), "The `momentum` of BatchLoss must be in [0, 1); got 1: the weight of what was"),
    (lambda: AlignPrune(), "The `clean` of AlignPrune must be given; got None: give the indices of examples whose"),
    (lambda: AlignPrune(clean=[]), "The `clean` of AlignPrune must hold an example; got none: give the indices of"),
    (lambda: AlignPrune(clean=torch.zeros(5) > 0), "The `clean` of AlignPrune must hold an example; got none: give"),
    (lambda: AlignPrune(clean="all"), "The `clean` of AlignPrune must be indices or a mask; got str: give the"),
    (lambda: AlignPrune(clean=[1], window=2), "The `window` of AlignPrune must be at least 3; got 2."),
    (lambda: AlignPrune(1.0, clean=[1]), "The `share` of AlignPrune must be in [0, 1); got 1.0: it is the fraction"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_arguments_out_of_range(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_a_rule_that_could_not_tell_gives_no_clean_part() -> None:
    margins = torch.randn(400, generator=torch.Generator().manual_seed(0)) - 1
    alike = Scores(margins, higher_is_easier=True, name="area_under_margin", target=torch.arange(400) % 3)
    issues = find_label_issues(alike)
    assert math.isnan(issues.estimated_share)
    message = (
        "The `clean` of AlignPrune must be label issues of which some are flagged; got none of a rule (contradicted)"
        " that cannot tell, for which all labels would be right: find_label_issues(record, Hardest(0.3)) flags as many"
        " as you say, and indices of examples whose labels are right need no rule."
    )
    with pytest.raises(ValueError, match=whole(message)):
        AlignPrune(clean=issues)
    AlignPrune(clean=find_label_issues(alike, Hardest(0.3)))


def test_a_clean_part_of_other_data_is_refused_before_training(tmp_path: Path) -> None:
    options = {"callbacks": [EasinessCallback(tmp_path, probe=None)], "max_epochs": 4}
    message = refusal(ValueError, IndexedBase(), AlignPrune(clean=[1, 53]), **options)
    assert message == "The `clean` part of AlignPrune keeps example 53, but examples are numbered 0 to 52."


@pytest.mark.parametrize(
    ("clean", "message"),
    [
        ([1, 53], "The `clean` part of AlignPrune keeps example 53, but examples are numbered 0 to 52."),
        (find_label_issues(scores(54), rule=Hardest(29)), "The `clean` part of AlignPrune and the data set are not of"),
    ],
)
def test_a_clean_part_of_other_data_is_refused_in_a_run_that_holds_out_examples(
    clean: Any, message: str, tmp_path: Path
) -> None:
    data = EasinessDataModule(IndexedBase(), AlignPrune(clean=clean))
    data.set_held_out(0.3, lambda size: torch.arange(size) < 16)
    found = refusal(ValueError, data, callbacks=[EasinessCallback(tmp_path, probe=None)], max_epochs=5)
    assert found.startswith(message), found


def test_an_infinite_loss_in_the_clean_part_takes_no_epoch_from_the_courses() -> None:
    epochs = torch.arange(5.0)
    losses = torch.stack([4 - epochs] * 6 + [epochs] * 4, 1)
    losses[2, 0] = math.inf
    rule = AlignPrune(0.4, clean=range(3))
    for epoch, loss in enumerate(losses, 1):
        observed = {"loss": loss, "times_trained": torch.full((10,), epoch)}
        kept = rule.select(SelectionState(10, epoch=epoch, observed=observed))
    assert kept.tolist() == list(range(6))


def test_fields_of_batches_are_for_a_rule_of_each_epoch() -> None:
    message = (
        "The fields 'batch_loss', 'times_trained', 'last_batch' of Needs are known from epoch to epoch: write"
        " Needs(every='epoch', fields=...); got every='fit'."
    )
    with pytest.raises(ValueError, match=whole(message)):
        Needs(fields=("batch_loss",))
