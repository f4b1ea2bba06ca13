"""Rules for each epoch in real fits, against what their module saw: which examples, how many, with which weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import (
    AlignPrune,
    BatchLoss,
    Control,
    Curriculum,
    EasinessCallback,
    ImportanceSampling,
    InfoBatch,
    OrderDP,
    RandomShare,
    RePB,
    Selection,
    SelectionState,
    Undecided,
)
from lightning_easiness.functional import inclusion_probability
from lightning_easiness.select.schedule import Scheduled
from tests.made_runs import whole
from tests.rule_fits import EVERYTHING, SIZE, Sees, below_mean, half_up, highest, trained
from tests.selecting import IndexedBase, Traces, fit, refusal, scores
from tests.small import trainer

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
            " nothing is ever selected; set them lower, as 0, or train for longer, with more max_epochs."
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
    "no callback": (
        ValueError,
        OrderDP(),
        {},
        (
            "OrderDP goes by what an EasinessCallback sees in training, and the Trainer has none that is online: add"
            " EasinessCallback(probe=None) to its callbacks."
        ),
    ),
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


EIGHTH, ZERO = "set them lower, as an eighth of all epochs, 0.125, or ", "set them lower, as 0, or "
ADVICE: dict[str, tuple[Callable[[], Scheduled], int, str]] = {
    "halves": (lambda: RandomShare(early_epochs=0.5, final_epochs=0.5), 8, EIGHTH),
    "more than there are": (lambda: RandomShare(early_epochs=20), 8, EIGHTH),
    "eighths": (BatchLoss, 2, ZERO),
    "eighths of one epoch": (BatchLoss, 1, ""),
    "three in any case": (lambda: AlignPrune(clean=[1]), 3, ""),
    "three and an eighth": (lambda: AlignPrune(clean=[1], final_epochs=0.125), 4, ZERO),
    "three and half": (lambda: AlignPrune(clean=[1], final_epochs=0.7), 8, EIGHTH),
}


@pytest.mark.parametrize("case", ADVICE)
def test_what_is_advised_where_nothing_is_ever_selected_helps(case: str) -> None:
    make, epochs, advice = ADVICE[case]
    made = trainer(max_epochs=epochs)
    with pytest.raises(
        ValueError, match=rf"nothing is ever selected; {advice}train for longer, with more max_epochs\."
    ):
        make().check(made)
    for number, words in ((0.125, EIGHTH), (0, ZERO)):
        rule = make()
        rule.set_schedule(min(rule.early_epochs, number), min(rule.final_epochs, number))
        if advice == words:
            rule.check(made)
        elif advice != EIGHTH:
            with pytest.raises(ValueError, match="nothing is ever selected"):
                rule.check(made)
    if advice != EIGHTH:  # fractions may be of any number of epochs
        make().check(trainer(max_epochs=24))


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
