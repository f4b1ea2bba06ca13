"""Rules for each epoch in real fits, against what their module saw: which examples, how many, with which weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import fsum
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_easiness import (
    AlignPrune,
    BatchLoss,
    Control,
    Curriculum,
    EasinessCallback,
    EasinessDataModule,
    ImportanceSampling,
    InfoBatch,
    Keep,
    OrderDP,
    RandomShare,
    RePB,
    SampleEasinessTraining,
    Selected,
    Selection,
    SelectionState,
    Undecided,
)
from lightning_easiness.callbacks.recipe import datamodule_recipe
from lightning_easiness.functional import inclusion_probability
from tests.made_runs import whole
from tests.selecting import IndexedBase, Traces, fit, refusal, scores
from tests.set_fits import Weighs
from tests.small import loader

SIZE = 53
EVERYTHING = list(range(SIZE))


class Sees(Weighs):
    """Without batch norm, for whose sake examples are repeated; keeps the logits of each step too."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.Identity()
        self.margins: list[Tensor] = []

    def losses_of(self, batch: Any) -> Tensor:
        logits, rows = self(batch[0]), torch.arange(len(batch[1]))
        own = logits[rows, batch[1]]
        self.margins.append((own - logits.index_put((rows, batch[1]), torch.tensor(-math.inf)).amax(1)).detach())
        return nn.functional.cross_entropy(logits, batch[1], reduction="none")

    def last(self, epoch: int, margin: bool = False) -> dict[int, float]:
        """Example -> its last loss, or margin, before an epoch."""
        known: dict[int, float] = {}
        for (at, indices, losses, _), margins in zip(self.steps, self.margins, strict=True):
            if at < epoch:
                known.update(zip(indices, (margins if margin else losses).tolist(), strict=True))
        return known

    def has_weights(self, epoch: int) -> bool:
        return any(weight is not None for at, _, _, weight in self.steps if at == epoch)


def trained(rule: Selection, folder: Path, **options: Any) -> Sees:
    callbacks = [EasinessCallback(folder, probe=None)]
    return fit(IndexedBase(), rule, Sees(), callbacks=callbacks, **{"max_epochs": 5, **options})[0]


def half_up(number: float) -> int:
    return math.floor(number + 0.5)


def highest(values: dict[int, float], count: int) -> list[int]:
    return sorted(sorted(values, key=lambda example: -values[example])[:count])


def below_mean(module: Sees, epoch: int) -> set[int]:
    known = module.last(epoch)
    return {example for example, loss in known.items() if loss < fmean(known.values())}


# by loss


def test_info_batch_leaves_out_a_share_below_the_mean_and_weighs_the_rest_of_them(tmp_path: Path) -> None:
    module = trained(InfoBatch(0.6, final_epochs=0.2), tmp_path)
    for epoch in (1, 2, 3):
        below = below_mean(module, epoch)
        left = len(below) - half_up(0.6 * len(below))
        found = module.epoch(epoch)
        assert set(EVERYTHING) - below <= set(found)
        assert len(found) == len(set(found)) == SIZE - len(below) + left
        for example, weight in module.weight_of(epoch).items():
            assert weight == pytest.approx(len(below) / left if example in below else 1.0)
    for epoch in (0, 4):
        assert sorted(module.epoch(epoch)) == EVERYTHING
        assert not module.has_weights(epoch)


def test_order_dp_of_all_is_the_hardest_share_by_last_loss(tmp_path: Path) -> None:
    module = trained(OrderDP(0.3, 1), tmp_path)
    assert sorted(module.epoch(0)) == EVERYTHING
    for epoch in range(1, 5):
        assert sorted(module.epoch(epoch)) == highest(module.last(epoch), 16)


def test_order_dp_keeps_what_only_few_in_its_pool_can_be_harder_than(tmp_path: Path) -> None:
    module = trained(OrderDP(0.3, 0.7), tmp_path)
    for epoch in range(1, 5):
        found, by_loss = module.epoch(epoch), highest(module.last(epoch), SIZE - half_up(0.7 * SIZE) + 16)
        assert len(set(found)) == 16
        assert set(found) <= set(by_loss), "16 of the pool, which is without 16 of all, are at least as hard"
    assert set(module.epoch(1)) != set(highest(module.last(1), 16))


def test_undecided_trains_on_what_is_nearest_to_the_boundary(tmp_path: Path) -> None:
    module = trained(Undecided(0.4), tmp_path)
    for epoch in range(1, 5):
        nearness = {example: -abs(margin) for example, margin in module.last(epoch, margin=True).items()}
        assert sorted(module.epoch(epoch)) == highest(nearness, 21)


def test_importance_sampling_weighs_by_the_inverse_of_the_probability(tmp_path: Path) -> None:
    module = trained(ImportanceSampling(0.5, uniform=0.4), tmp_path)
    for epoch in range(1, 5):
        losses = module.last(epoch)
        probability = inclusion_probability(torch.tensor([losses[one] for one in EVERYTHING]), 0.5, uniform=0.4)
        assert len(set(module.epoch(epoch))) == 27
        for example, weight in module.weight_of(epoch).items():
            assert weight == pytest.approx(1 / float(probability[example]), rel=1e-4)


# random


def test_a_random_share_is_a_fresh_one_in_each_epoch_and_everything_at_both_ends() -> None:
    module = fit(IndexedBase(), RandomShare(0.4, early_epochs=1, final_epochs=0.2), max_epochs=5)[0]
    assert [len(set(module.epoch(epoch))) for epoch in range(5)] == [SIZE, 21, 21, 21, SIZE]
    drawn = [tuple(sorted(set(module.epoch(epoch)))) for epoch in (1, 2, 3)]
    assert len(set(drawn)) == 3


def test_a_share_that_is_dealt_out_comes_to_everything_in_a_pass() -> None:
    module = fit(IndexedBase(), RandomShare(0.4, replacement=False, early_epochs=1), max_epochs=7)[0]
    for first in (1, 4):
        dealt = [set(module.epoch(epoch)) for epoch in range(first, first + 3)]
        assert [len(one) for one in dealt] == [22] * 3, "a share is rounded up"
        assert set.union(*dealt) == set(EVERYTHING)


def test_a_control_trains_on_as_many_as_its_rule_would_keep_of_what_it_sees_itself(tmp_path: Path) -> None:
    module = trained(Control(InfoBatch(0.6, final_epochs=1)), tmp_path)
    for epoch in (1, 2, 3):
        below, found = below_mean(module, epoch), set(module.epoch(epoch))
        assert len(found) == SIZE - half_up(0.6 * len(below))
        assert not set(EVERYTHING) - below <= found, "the rule itself keeps all of these"
    assert sorted(module.epoch(4)) == EVERYTHING
    assert not module.has_weights(4)


WEIGHING: dict[str, Callable[[], Selection]] = {
    "InfoBatch": lambda: InfoBatch(0.6, final_epochs=0),
    "ImportanceSampling": lambda: ImportanceSampling(0.5),
    "RePB": lambda: RePB(0.6),
}


class KeepsDecisions(Control):
    """Keeps what its rule decided, number of examples and their total weight, beside what it does itself."""

    def __init__(self, rule: Selection) -> None:
        super().__init__(rule)
        self.totals: list[tuple[int, float]] = []
        decide = rule.select

        def select(state: SelectionState) -> Any:
            decision = Selected.of(decide(state))
            if decision.weights is not None:
                self.totals.append((len(decision.kept), fsum(decision.weights[decision.kept].tolist())))
            return decision

        rule.select = select  # type: ignore[method-assign]


@pytest.mark.parametrize("name", WEIGHING)
def test_the_examples_of_a_control_have_all_the_mean_weight_of_what_its_rule_would_keep(
    name: str, tmp_path: Path
) -> None:
    control = KeepsDecisions(WEIGHING[name]())
    module = trained(control, tmp_path)
    assert len(control.totals) == 4
    for epoch, (count, total) in enumerate(control.totals, 1):
        weights = list(module.weight_of(epoch).values())
        assert len(weights) == count < SIZE
        assert max(weights) == min(weights)
        assert fsum(weights) == pytest.approx(total, rel=1e-5), "so the gradients of an epoch are as large"
    assert total > 1.05 * count


def test_the_control_of_a_rule_that_weighs_is_refused_where_nothing_takes_weights(tmp_path: Path) -> None:
    callbacks = [EasinessCallback(tmp_path, probe=None)]
    with pytest.raises(TypeError, match="Control of InfoBatch gives weights to the examples, but the training step"):
        fit(IndexedBase(), Control(InfoBatch()), callbacks=callbacks, max_epochs=4)


def test_a_control_keeps_the_labels_and_the_passes_of_its_rule(tmp_path: Path) -> None:
    labels = torch.full((SIZE,), -1).index_fill(0, torch.arange(20), 3)
    control = Control(Keep(range(10, 30), labels))
    module = fit(IndexedBase(), control, max_epochs=1)[0]
    seen = {index: label for _, indices, given in module.batches for index, label in zip(indices, given, strict=True)}
    assert len(seen) == 20
    assert set(seen) != set(range(10, 30))
    assert {label for index, label in seen.items() if index < 20} == {3}
    rule = SampleEasinessTraining(early_epochs=1, others_share=0.4)
    assert Control(rule).needs == type(rule.needs)(every="epoch", fields=rule.needs.fields, passes=True, weights=True)


def test_the_recipe_tells_controls_of_different_rules_apart() -> None:
    recipes = [
        datamodule_recipe(EasinessDataModule(loader(), Control(rule)))["selection"]
        for rule in (OrderDP(0.3), OrderDP(0.4), Undecided(0.3))
    ]
    assert [one["rule"]["class"].split(".")[-1] for one in recipes] == ["OrderDP", "OrderDP", "Undecided"]
    assert [one["rule"]["share"] for one in recipes] == [0.3, 0.4, 0.3]


# a curriculum


@pytest.mark.parametrize("first", ["easy", "hard"])
def test_a_curriculum_grows_in_equal_steps_from_its_start_to_everything(first: str) -> None:
    module = fit(IndexedBase(), Curriculum(scores(), 0.25, 0.6, first=first), max_epochs=5)[0]
    for epoch, count in enumerate((13, 27, 40, SIZE, SIZE)):  # 53 times 1/4, 1/2, 3/4, half up
        expected = range(count) if first == "easy" else range(SIZE - count, SIZE)
        assert sorted(set(module.epoch(epoch))) == list(expected)


# what is refused

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no share": (lambda: RandomShare(0), "The `share` of RandomShare must be in (0, 1]; got 0: half is 0.5."),
    "all left out": (
        lambda: InfoBatch(1.0),
        "The `share` of InfoBatch must be in [0, 1); got 1.0: it is the fraction to leave out, half of them is 0.5.",
    ),
    "all left out, RePB": (
        lambda: RePB(1.0),
        "The `share` of RePB must be in [0, 1); got 1.0: it is the fraction to leave out, half of them is 0.5.",
    ),
    "a small pool": (
        lambda: OrderDP(0.5, 0.4),
        "The `pool` of OrderDP must be in [share, 1], [0.5, 1]; got 0.4: both are fractions of all examples.",
    ),
    "a large pool": (
        lambda: Undecided(0.5, 2),
        "The `pool` of Undecided must be in [share, 1], [0.5, 1]; got 2: both are fractions of all examples.",
    ),
    "a power": (
        lambda: ImportanceSampling(power=-1),
        "The `power` of ImportanceSampling must be at least 0; got -1.",
    ),
    "epochs": (
        lambda: RandomShare(early_epochs=1.5),
        (
            "The `early_epochs` of RandomShare must be a whole number of epochs, or a fraction of all in (0, 1);"
            " got 1.5: an eighth of them is 0.125."
        ),
    ),
    "an order": (
        lambda: Curriculum(scores(), first="random"),
        "The `first` of Curriculum must be 'easy' or 'hard'; got 'random'.",
    ),
    "a start": (lambda: Curriculum(scores(), 0), "The `start` of Curriculum must be in (0, 1]; got 0: a fifth is 0.2."),
    "no growth": (
        lambda: Curriculum(scores(), growing_epochs=0),
        "The `growing_epochs` of Curriculum must be at least 1, or a fraction; got 0.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_out_of_range_are_refused(case: str) -> None:
    make, message = WRONG[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert str(caught.value) == message


def test_the_control_of_no_selection_is_refused() -> None:
    with pytest.raises(TypeError, match=r"The `rule` of Control must be a selection; got 0\.5: as Control\(InfoBatch"):
        Control(0.5)  # type: ignore[arg-type]


FEW = (
    "{} keeps 5 of 53 examples, but with drop_last=True an epoch of 1 process takes 8 at least; keep more, or set"
    " drop_last=False or a smaller batch_size."
)
NO_LENGTH = (
    "The `{0}` of {1} need a Trainer with max_epochs, as else it is not known which they are; set max_epochs, or"
    " {0}={2}."
)
BY_STEPS = {"max_epochs": -1, "max_steps": 9}
FITS: dict[str, tuple[type[Exception], Selection, dict[str, Any], str]] = {
    "no batch": (ValueError, RandomShare(0.1), {}, FEW.format("RandomShare")),
    "no batch of a control": (
        ValueError,
        Control(Curriculum(scores(), 0.1)),
        {"max_epochs": 4},
        FEW.format("Control of Curriculum"),
    ),
    "no max_epochs": (ValueError, InfoBatch(), BY_STEPS, NO_LENGTH.format("final_epochs", "InfoBatch", "0")),
    "no max_epochs for a fraction": (
        ValueError,
        RandomShare(early_epochs=0.2),
        BY_STEPS,
        NO_LENGTH.format("early_epochs", "RandomShare", "a whole number"),
    ),
    "no max_epochs to grow over": (
        ValueError,
        Curriculum(scores()),
        BY_STEPS,
        NO_LENGTH.format("growing_epochs", "Curriculum", "a whole number"),
    ),
    "nothing is selected": (
        ValueError,
        RandomShare(early_epochs=1, final_epochs=0.5),
        {"max_epochs": 2},
        (
            "RandomShare has early_epochs=1 and final_epochs=0.5 on everything, but the Trainer trains for 2, so that"
            " nothing is ever selected; set them lower, as an eighth of all epochs, 0.125, or train for longer."
        ),
    ),
    "choices that hold": (
        ValueError,
        RandomShare(early_epochs=1),
        {"max_epochs": 4, "reload_dataloaders_every_n_epochs": 2},
        (
            "The Trainer's reload_dataloaders_every_n_epochs=2 lets a choice hold for 2 epochs, so the"
            " `early_epochs` of"
            " RandomShare, 1, must be a multiple of it; or leave it at 0."
        ),
    ),
    "no callback": (ValueError, OrderDP(), {}, "the Trainer has none with online=True"),
}


@pytest.mark.parametrize("case", FITS)
def test_a_fit_that_a_rule_cannot_serve_is_refused_before_training(case: str) -> None:
    kind, rule, options, message = FITS[case]
    assert message in refusal(kind, IndexedBase(drop_last=True), rule, module=Traces(), **options)


UNKNOWN: dict[str, tuple[Callable[[], Selection], int, str]] = {  # rule, epochs, which are on everything
    "InfoBatch": (InfoBatch, 2, "early_epochs=0 and final_epochs=0.125 on everything, and the first epoch"),
    "OrderDP": (OrderDP, 1, "early_epochs=0 and final_epochs=0 on everything, and the first epoch"),
    "Undecided": (Undecided, 1, "early_epochs=0 and final_epochs=0 on everything, and the first epoch"),
    "RePB": (lambda: RePB(final_epochs=2), 3, "early_epochs=0 and final_epochs=2 on everything, and the first epoch"),
    "BatchLoss": (
        lambda: BatchLoss(early_epochs=0, final_epochs=0),
        1,
        "early_epochs=0 and final_epochs=0 on everything, and the first epoch",
    ),
    "AlignPrune": (
        lambda: AlignPrune(clean=[1], final_epochs=1),
        4,
        "early_epochs=0 and final_epochs=1 on everything, and the first 3 epochs",
    ),
    "a control": (
        lambda: Control(OrderDP()),
        1,
        "early_epochs=0 and final_epochs=0 on everything, and the first epoch",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_fit_that_ends_before_anything_is_known_is_refused(case: str, tmp_path: Path) -> None:
    make, epochs, found = UNKNOWN[case]
    options = {"callbacks": [EasinessCallback(tmp_path, probe=None)], "max_epochs": epochs}
    message = refusal(ValueError, IndexedBase(), make(), module=Sees(), **options)
    assert f" has {found} in any case, but the Trainer trains for {epochs}, so that nothing is ever" in message
    module = trained(make(), tmp_path / "longer", max_epochs=epochs + 1)
    assert [at for at in range(epochs + 1) if len(module.epoch(at)) < SIZE], "an epoch longer, it selects"


def test_final_epochs_that_a_number_of_steps_may_cut_off_are_warned_of() -> None:
    message = (
        "The `final_epochs` of RandomShare are the last of max_epochs=4, but the Trainer has max_steps=9 too, which"
        " may end the training before them: leave one of the two out, or final_epochs."
    )
    with pytest.warns(UserWarning, match=whole(message)):
        module = fit(IndexedBase(), RandomShare(0.4, final_epochs=1), max_epochs=4, max_steps=9)[0]
    assert len(module.epoch(2)) < SIZE, "it ended by steps, in an epoch on a part"
    fit(IndexedBase(), RandomShare(0.4), max_epochs=2, max_steps=9)  # no final epochs: no warning


def test_epochs_that_yaml_gives_as_floats_are_whole_numbers() -> None:
    rule = RandomShare(early_epochs=2.0, final_epochs=0.0)
    assert (rule.early_epochs, rule.final_epochs) == (2, 0)
    sizes = [len(rule.select(SelectionState(SIZE, epoch))) for epoch in range(4)]
    assert sizes == [SIZE, SIZE, 27, 27]
