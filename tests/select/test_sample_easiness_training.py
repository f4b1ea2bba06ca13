"""SampleEasinessTraining without a fit: whom it chooses, with what weights, before which epochs it observes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness import SampleEasinessTraining
from lightning_easiness.select.base import SelectionState

NAMES = ("hard", "medium", "easy")
#                         0    1     2    3    4       5       6          7    8
EASINESS = torch.tensor([0.0, 0.4, 1.0, 0.9, 4e-4, 0.9996, torch.nan, 0.02, 1.0])
LEVELS = ("hard", "medium", "easy", "medium", "hard", "easy", None, "medium", "easy")
LOSS = torch.tensor([0.1, 9.0, 3.0, 2.0, 1.0, 8.0, 5.0, torch.nan, 7.0])
LATER = 7  # an epoch that is neither early nor final


def state(epoch: int = LATER, easiness: Tensor = EASINESS, loss: Tensor = LOSS, **options: Any) -> SelectionState:
    observed = {"sample_easiness": easiness, "loss": loss}
    return SelectionState(**{"num_examples": len(easiness), "epoch": epoch, "observed": observed, **options})


def of_levels(*names: str) -> list[int]:
    return [i for i, level in enumerate(LEVELS) if level in names or level is None]


def chosen(training: SampleEasinessTraining, at: SelectionState) -> list[int]:
    indices = training.select(at)
    assert indices.dtype == torch.int64
    assert indices.tolist() == sorted(set(indices.tolist()))
    return indices.tolist()


# --------------------------------------------------------------------------------------------------- which levels

VARIANTS = {
    "MO": ("medium",),
    "EO": ("easy",),
    "HO": ("hard",),
    "EMO": ("easy", "medium"),
    "MHO": ("medium", "hard"),
    "all": NAMES,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_papers_variants(variant: str) -> None:
    training = SampleEasinessTraining(VARIANTS[variant], early_epochs=1)
    assert chosen(training, state()) == of_levels(*VARIANTS[variant])
    assert training.weights(state()) is None
    assert training.labels(state()) is None


def test_the_default_is_medium_after_five_epochs() -> None:
    training = SampleEasinessTraining()
    for epoch in range(5):
        assert chosen(training, state(epoch)) == list(range(9))
    assert chosen(training, state(5)) == of_levels("medium")


def test_intervals_and_names_together() -> None:
    assert chosen(SampleEasinessTraining([(0.3, 0.9)]), state()) == [1, 3, 6]
    assert chosen(SampleEasinessTraining([(0.3, 0.5), "hard"]), state()) == [0, 1, 4, 6]
    listed = SampleEasinessTraining([[0.3, 0.5]])
    assert listed.levels == ((0.3, 0.5),), "as YAML gives it"
    assert chosen(listed, state()) == [1, 6]


def test_tol_moves_the_levels() -> None:
    assert chosen(SampleEasinessTraining(tol=0.05), state()) == [1, 3, 6]
    assert chosen(SampleEasinessTraining(tol=0), state()) == [1, 3, 4, 5, 6, 7]
    assert chosen(SampleEasinessTraining(["hard"], by="loss", tol=0.05), state()) == [1, 5, 6, 7]


def test_by_loss_takes_as_many_by_rank() -> None:
    # without 6 (NaN easiness) and 7 (NaN loss): hard 2, medium 2, easy 3; losses fall 1 5 8 2 3 4 0
    for names, expected in (
        (("hard",), [1, 5]),
        (("medium",), [2, 8]),
        (("easy",), [0, 3, 4]),
        (("medium", "hard"), [1, 2, 5, 8]),
    ):
        training = SampleEasinessTraining(names, by="loss")
        assert chosen(training, state()) == sorted([*expected, 6, 7])


def test_nothing_of_the_level_is_an_empty_choice() -> None:
    """The datamodule fills it up to its minimum."""
    assert chosen(SampleEasinessTraining(), state(easiness=torch.tensor([0.0, 1.0]))) == []


def test_no_random_number_is_drawn_from_a_global_stream() -> None:
    before = torch.get_rng_state()
    training = SampleEasinessTraining(others_share=0.5)
    training.select(state()), training.weights(state())
    assert torch.equal(torch.get_rng_state(), before)


# ----------------------------------------------------------------------------------------------- in which epochs


@pytest.mark.parametrize(("early", "final"), [(0, 0), (0, 2), (3, 0), (2, 3), (1, 1)])
def test_early_and_final_epochs_are_on_everything(early: int, final: int) -> None:
    training = SampleEasinessTraining(early_epochs=early, final_epochs=final, others_share=0.5)
    for epoch in range(8):
        everything = epoch < early or epoch >= 8 - final
        at = state(epoch, max_epochs=8)
        assert (len(chosen(training, at)) == 9) == everything
        assert (training.weights(at) is None) == everything
        assert training.observes_before(SelectionState(9, epoch, max_epochs=8)) == (not everything)


@pytest.mark.parametrize("max_epochs", [None, -1])
def test_without_an_end_no_epoch_is_final(max_epochs: int | None) -> None:
    training = SampleEasinessTraining(early_epochs=1)
    assert chosen(training, state(1000, max_epochs=max_epochs)) == of_levels("medium")
    assert training.observes_before(SelectionState(9, 1000, max_epochs=max_epochs))


@pytest.mark.parametrize("every", [1, 2, 3, None])
@pytest.mark.parametrize("early", [0, 1, 4])
def test_it_observes_before_every_nth_epoch_after_the_early_ones(early: int, every: int | None) -> None:
    online = every is None
    if online and early == 0:
        return  # refused, as below
    training = SampleEasinessTraining(
        early_epochs=early, rescore_every_n_epochs=every, online=online, final_epochs=2, others_share=0.3
    )
    observes = [epoch for epoch in range(12) if training.observes_before(SelectionState(9, epoch, max_epochs=12))]
    assert observes == ([] if every is None else list(range(early, 10, every)))


def test_per_batch_it_observes_every_batch_but_the_early_and_final_ones() -> None:
    training = SampleEasinessTraining(early_epochs=2, final_epochs=1, per="batch")
    observes = [
        [training.observes_before(SelectionState(4, epoch, max_epochs=5, batch=batch)) for batch in range(3)]
        for epoch in range(5)
    ]
    assert observes == [[False] * 3] * 2 + [[True] * 3] * 2 + [[False] * 3]


def test_what_nothing_is_known_of_is_trained_on() -> None:
    training = SampleEasinessTraining(early_epochs=1, online=True, rescore_every_n_epochs=None, others_share=0.5)
    at = state(observed=None)
    assert chosen(training, at) == list(range(9))
    assert training.weights(at) is None


# ----------------------------------------------------------------------------------- a share of the other levels


def rounded_half_up(value: float) -> int:
    return math.floor(value + 0.5)


@pytest.mark.parametrize("by", ["sample_easiness", "loss"])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("names", [("medium",), ("easy",), ("medium", "hard"), NAMES], ids="+".join)
def test_a_share_of_the_others_is_drawn_too(names: tuple[str, ...], share: float, by: str) -> None:
    alone = chosen(SampleEasinessTraining(names, by=by), state())
    training = SampleEasinessTraining(names, by=by, others_share=share)
    found = chosen(training, state())
    others = 9 - len(alone)
    drawn = max(1, rounded_half_up(share * others)) if others else 0
    assert set(alone) <= set(found)
    assert len(found) == len(alone) + drawn
    weights = training.weights(state())
    assert weights.shape == (9,)
    for i in range(9):
        assert float(weights[i]) == pytest.approx(1.0 if i in alone or not drawn else others / drawn)


def test_every_draw_is_as_likely_as_any_other() -> None:
    """Two of six others by 3000 epochs: each of the fifteen pairs 200 times, within five standard deviations."""
    easiness = torch.tensor([0.0, 0.5, 1.0, 0.0, 1.0, 0.0, 1.0])
    training = SampleEasinessTraining(early_epochs=0, others_share=1 / 3)
    losses = torch.arange(1.0, 8.0)
    counts: dict[tuple[int, ...], int] = {}
    sums = 0.0
    for epoch in range(3000):
        at = state(epoch, easiness, losses)
        found = training.select(at)
        sums += float((training.weights(at) * losses)[found].sum())
        pair = tuple(i for i in found.tolist() if i != 1)
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 15
    deviation = math.sqrt(3000 / 15 * 14 / 15)
    assert all(abs(count - 200) < 5 * deviation for count in counts.values())
    # one draw of two of six, each of weight 3, of losses 1 3 4 5 6 7
    spread = 3 * math.sqrt(2 * (torch.tensor([1.0, 3, 4, 5, 6, 7]).var(correction=0)) * 4 / 5)
    assert abs(sums / 3000 - float(losses.sum())) < 5 * spread / math.sqrt(3000)


def test_draws_differ_by_seed_epoch_and_batch_and_by_nothing_else() -> None:
    easiness = torch.zeros(200)
    easiness[0] = 0.5

    def drawn(seed: int = 0, epoch: int = LATER, batch: int | None = None) -> tuple[int, ...]:
        training = SampleEasinessTraining(others_share=0.3, seed=seed)
        at = SelectionState(200, epoch, observed={"sample_easiness": easiness}, seed=seed, batch=batch)
        return tuple(training.select(at).tolist())

    assert drawn() == drawn()
    different = {drawn(), drawn(seed=1), drawn(epoch=8), drawn(batch=0), drawn(batch=1), drawn(seed=1, epoch=8)}
    assert len(different) == 6


# ------------------------------------------------------------------------------------------------------ bad input

OWNER = "SampleEasinessTraining"
THE = "The `{}` of SampleEasinessTraining must be {}; got {}."
A_LEVEL = '"hard", "medium" or "easy", or intervals (low, high) of sample easiness in [0, 1]'
SEQUENCE = 'a sequence of levels, as ("medium",)'
OTHERS = "in [0, 1): half of them is 0.5, and with all nothing is selected"
WHOLE = "a whole number, and no fraction"
BATCHES = f"{OWNER} with per='batch' observes each batch by itself; leave out `online` and `rescore_every_n_epochs`."
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a level's name alone": ({"levels": "medium"}, THE.format("levels", SEQUENCE, "'medium'")),
    "no levels": ({"levels": []}, THE.format("levels", SEQUENCE, "[]")),
    "no such level": ({"levels": ["middle"]}, THE.format("levels", A_LEVEL, "'middle'")),
    "upside down": ({"levels": [(0.8, 0.2)]}, THE.format("levels", A_LEVEL, "(0.8, 0.2)")),
    "an interval alone": ({"levels": (0.2, 0.8)}, THE.format("levels", A_LEVEL, "0.2")),
    "an interval by loss": (
        {"levels": [(0.2, 0.8)], "by": "loss"},
        THE.format("levels", "names where by='loss'", "((0.2, 0.8),)"),
    ),
    "by": ({"by": "margin"}, THE.format("by", "'sample_easiness' or 'loss'", "'margin'")),
    "per": ({"per": "step"}, THE.format("per", "'epoch' or 'batch'", "'step'")),
    "early_epochs": ({"early_epochs": -1}, THE.format("early_epochs", "at least 0", -1)),
    "final_epochs": ({"final_epochs": -2}, THE.format("final_epochs", "at least 0", -2)),
    "every no epoch": ({"rescore_every_n_epochs": 0}, THE.format("rescore_every_n_epochs", "at least 1", 0)),
    "minimum": ({"minimum": -1}, THE.format("minimum", "at least 1", -1)),
    **{
        f"{name} of a fraction": ({name: value}, THE.format(name, WHOLE, value))
        for name, value in (
            ("early_epochs", 0.2),
            ("final_epochs", 0.5),
            ("rescore_every_n_epochs", 2.5),
            ("minimum", 1.5),
        )
    },
    **{
        f"others_share {value}": ({"others_share": value}, THE.format("others_share", OTHERS, value))
        for value in (1.0, -0.1)
    },
    "others_share of NaN": ({"others_share": math.nan}, THE.format("others_share", OTHERS, "nan")),
    **{f"tol {value}": ({"tol": value}, THE.format("tol", "in [0, 0.5)", value)) for value in (0.5, -1e-4)},
    "no easiness ever": (
        {"rescore_every_n_epochs": None},
        f"{OWNER} with rescore_every_n_epochs=None never has an easiness; set online=True.",
    ),
    "online in batches": ({"per": "batch", "online": True}, BATCHES),
    "rescoring in batches": ({"per": "batch", "rescore_every_n_epochs": 2}, BATCHES),
    "online from the start": (
        {"online": True, "rescore_every_n_epochs": None, "early_epochs": 0},
        (
            f"{OWNER} with online=True and no pass has nothing to go by before an epoch on everything; set"
            " `early_epochs` to 1 or more, or `rescore_every_n_epochs`."
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        SampleEasinessTraining(**options)
    assert str(error.value) == message


def test_sigma2_is_that_of_whatever_reads() -> None:
    with pytest.raises(TypeError) as error:
        SampleEasinessTraining(sigma2=1e-3)  # type: ignore[call-arg]
    assert str(error.value) == (
        f"{OWNER} has no `sigma2` any more: give it to EasinessCallback, or without one to"
        " EasinessDataModule(reader=...)."
    )


def refusal(training: SampleEasinessTraining, max_epochs: int | None, **options: Any) -> str:
    """The message with which a Trainer is refused."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        training.check(SimpleNamespace(max_epochs=max_epochs, **{"fast_dev_run": 0, **options}))  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(("early", "final", "epochs"), [(5, 0, 5), (5, 0, 3), (2, 2, 4), (0, 4, 4)])
def test_a_fit_in_which_nothing_would_be_selected(early: int, final: int, epochs: int) -> None:
    training = SampleEasinessTraining(early_epochs=early, final_epochs=final)
    assert refusal(training, epochs) == (
        f"{OWNER} has early_epochs={early} and final_epochs={final} on everything, but the Trainer trains for"
        f" {epochs}, so that nothing is ever selected; set `early_epochs` lower, as a tenth or a fifth of all epochs."
    )
    for fits in ({"max_epochs": early + final + 1, "fast_dev_run": 0}, {"max_epochs": 1, "fast_dev_run": 1}):
        training.check(SimpleNamespace(**fits))  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [None, -1])
def test_final_epochs_of_a_fit_without_an_end(epochs: int | None) -> None:
    assert refusal(SampleEasinessTraining(final_epochs=1), epochs, reload_dataloaders_every_n_epochs=2) == (
        f"The `final_epochs` of {OWNER} need a Trainer with max_epochs, as else it is not known which the last epochs"
        " are; set max_epochs, or final_epochs=0."
    )
    SampleEasinessTraining().check(SimpleNamespace(max_epochs=epochs, fast_dev_run=0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "named", "moment"),
    [
        ({"early_epochs": 1}, "`early_epochs`", 1),
        ({"early_epochs": 2, "final_epochs": 1}, "epoch at which `final_epochs` begin", 7),
        ({"early_epochs": 2, "rescore_every_n_epochs": 3}, "`rescore_every_n_epochs`", 3),
    ],
    ids=["early", "final", "rescore"],
)
def test_loaders_that_hold_over_a_change_are_refused(options: dict[str, Any], named: str, moment: int) -> None:
    assert refusal(SampleEasinessTraining(**options), 8, reload_dataloaders_every_n_epochs=2) == (
        f"The Trainer's reload_dataloaders_every_n_epochs=2 lets a choice hold for 2 epochs, so the {named} of"
        f" {OWNER}, {moment}, must be a multiple of it; or leave it at 0."
    )


def test_a_number_of_batches_is_refused_with_weights() -> None:
    training = SampleEasinessTraining(early_epochs=1, others_share=0.4)
    assert refusal(training, 5, limit_train_batches=2) == (
        "The Trainer's limit_train_batches=2 is as many batches of fewer examples, so that weights would make too much"
        " of them; give the limit as a fraction of the epoch, as 0.5."
    )
