"""SampleEasinessTraining without a fit: what it chooses, with what weights, before which epochs it observes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness import SampleEasinessTraining, Selected, SelectionState

NAMES = ("hard", "medium", "easy")
#                         0    1     2    3    4       5       6          7    8
EASINESS = torch.tensor([0.0, 0.4, 1.0, 0.9, 1e-9, 0.9996, torch.nan, 1e-9, 1.0])
WEAKEST = torch.tensor([0.0, 0.6, 1.0, 0.9, 4e-4, 0.9996, torch.nan, 0.02, 1.0])
MEDIUM = [1, 3, 6, 7]  # and what has no easiness
LOSS = torch.tensor([0.1, 9.0, 3.0, 2.0, 1.0, 8.0, 5.0, torch.nan, 7.0])
EVERYTHING = list(range(9))
LATER = 7  # an epoch that is neither early nor final


def state(epoch: int = LATER, easiness: Tensor = EASINESS, loss: Tensor = LOSS, **options: Any) -> SelectionState:
    weakest = WEAKEST if easiness is EASINESS else easiness
    observed = {"sample_easiness": easiness, "weakest_comparison": weakest, "loss": loss}
    return SelectionState(**{"num_examples": len(easiness), "epoch": epoch, "observed": observed, **options})


def chosen(training: SampleEasinessTraining, at: SelectionState) -> list[int]:
    indices = Selected.of(training.select(at)).kept
    assert indices.dtype == torch.int64
    assert indices.tolist() == sorted(set(indices.tolist()))
    return indices.tolist()


def passes_of(training: SampleEasinessTraining, at: SelectionState) -> int:
    """How many passes a decision asks for, of which each shows what the state has observed, or would."""
    asked, observed = [], at.observed or state().observed
    training.select(replace(at, by_pass=lambda: asked.append(at) or (observed, None)))
    return len(asked)


# --------------------------------------------------------------------------------------------------- which levels

CHOSEN: dict[str, tuple[dict[str, Any], list[int]]] = {
    "MO, the default": ({}, MEDIUM),
    "EO": ({"levels": ("easy",)}, [2, 5, 6, 8]),
    "HO": ({"levels": ("hard",)}, [0, 4, 6]),
    "EMO": ({"levels": ("easy", "medium")}, [1, 2, 3, 5, 6, 7, 8]),
    "MHO": ({"levels": ("medium", "hard")}, [0, 1, 3, 4, 6, 7]),
    "all": ({"levels": NAMES}, EVERYTHING),
    "an interval": ({"levels": [(0.3, 0.9)]}, [1, 3, 6]),
    "an interval and a name": ({"levels": [(0.3, 0.5), "hard"]}, [0, 1, 4, 6]),
    "an interval as YAML gives it": ({"levels": [[0.3, 0.5]]}, [1, 6]),
    "tol": ({"tol": 0.05}, [1, 3, 6]),
    "no tol": ({"tol": 0}, [1, 3, 4, 5, 6, 7]),
    # without 6 (NaN easiness) and 7 (NaN loss): hard 2, medium 2, easy 3; losses fall 1 5 8 2 3 4 0
    "HO by loss": ({"levels": ("hard",), "by": "loss"}, [1, 5, 6, 7]),
    "MO by loss": ({"by": "loss"}, [2, 6, 7, 8]),
    "EO by loss": ({"levels": ("easy",), "by": "loss"}, [0, 3, 4, 6, 7]),
    "MHO by loss": ({"levels": ("medium", "hard"), "by": "loss"}, [1, 2, 5, 6, 7, 8]),
    "EO by loss, tol": ({"levels": ["easy"], "by": "loss", "tol": 0.15}, [0, 2, 3, 4, 6, 7]),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_it_chooses_the_levels_and_what_has_no_easiness(case: str) -> None:
    options, expected = CHOSEN[case]
    training = SampleEasinessTraining(**options)
    assert chosen(training, state()) == expected
    assert isinstance(training.select(state()), Tensor), "no weights and no labels"


def test_nothing_of_the_level_is_an_empty_choice() -> None:
    """The datamodule fills it up to its minimum."""
    assert chosen(SampleEasinessTraining(), state(easiness=torch.tensor([0.0, 1.0]))) == []


# ----------------------------------------------------------------------------------------------- in which epochs


@pytest.mark.parametrize(
    ("early", "final", "every", "end"),
    [
        (0, 0, 1, 8),
        (0, 2, 2, 8),
        (3, 0, 3, 8),
        (2, 3, 1, 8),
        (1, 1, 2, 8),
        (4, 2, None, 8),
        (5, 0, 1, None),
        (1, 0, 1, -1),
    ],
)
def test_early_and_final_epochs_are_on_everything_and_every_nth_between_is_observed_before(
    early: int, final: int, every: int | None, end: int | None
) -> None:
    options: dict[str, Any] = {"early_epochs": early, "final_epochs": final, "rescore_every_n_epochs": every}
    training = SampleEasinessTraining(**options, online=every is None, others_share=0.5)
    for epoch in (*range(8), *([] if end == 8 else [1000])):
        everything = epoch < early or (end == 8 and epoch >= 8 - final)
        at = state(epoch, max_epochs=end)
        assert (chosen(training, at) == EVERYTHING) == everything
        assert (Selected.of(training.select(at)).weights is None) == everything
        observes = not everything and every is not None and (epoch - early) % every == 0
        assert passes_of(training, at) == observes
    assert SampleEasinessTraining().early_epochs == 5


def test_per_batch_it_observes_every_batch_but_the_early_and_final_ones() -> None:
    training = SampleEasinessTraining(early_epochs=2, final_epochs=1, per="batch")
    states = [state(epoch, max_epochs=5, batch=batch, observed=None) for epoch in range(5) for batch in range(3)]
    assert [at.epoch for at in states if passes_of(training, at)] == [2] * 3 + [3] * 3


def test_where_nothing_is_known_all_is_trained_on() -> None:
    training = SampleEasinessTraining(early_epochs=1, online=True, rescore_every_n_epochs=None, others_share=0.5)
    assert chosen(training, state(observed=None)) == EVERYTHING
    assert isinstance(training.select(state(observed=None)), Tensor), "no weights"


# ----------------------------------------------------------------------------------- a fraction of the other levels


@pytest.mark.parametrize("by", ["sample_easiness", "loss"])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("names", [("medium",), ("easy",), ("medium", "hard"), NAMES], ids="+".join)
def test_a_fraction_of_the_others_is_drawn_too(names: tuple[str, ...], share: float, by: str) -> None:
    alone = chosen(SampleEasinessTraining(names, by=by), state())
    training = SampleEasinessTraining(names, by=by, others_share=share)
    found = chosen(training, state())
    others = 9 - len(alone)
    drawn = max(1, math.floor(share * others + 0.5)) if others else 0
    assert set(alone) <= set(found)
    assert len(found) == len(alone) + drawn
    weights = training.select(state()).weights
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
        selected = training.select(at)
        found = selected.kept
        sums += float((selected.weights * losses)[found].sum())
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
        observed = {"sample_easiness": easiness, "weakest_comparison": easiness}
        at = SelectionState(200, epoch, observed=observed, seed=seed, batch=batch)
        return tuple(training.select(at).kept.tolist())

    assert drawn() == drawn()
    different = {drawn(), drawn(seed=1), drawn(epoch=8), drawn(batch=0), drawn(batch=1), drawn(seed=1, epoch=8)}
    assert len(different) == 6


# ------------------------------------------------------------------------------------------------------ bad input

OWNER = "SampleEasinessTraining"
THE = "The `{}` of SampleEasinessTraining must be {}; got {}."
A_LEVEL = '"hard", "medium" or "easy", or intervals (low, high) of sample easiness in [0, 1]'
SEQUENCE = 'a sequence of levels, such as ("medium",)'
OTHERS = "in [0, 1): half of them is 0.5, and with all nothing is selected"
WHOLE = "a whole number, and no fraction"
EPOCHS = "a whole number of epochs, or a fraction of all in (0, 1)"
COUNTS = {"rescore_every_n_epochs": 1, "minimum": 1}
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
    **{
        f"{name} {value}": ({name: value}, THE.format(name, f"at least {least}" if value < least else WHOLE, value))
        for name, least in COUNTS.items()
        for value in (least - 1, least + 0.5)
    },
    **{
        f"{name} {value}": ({name: value}, THE.format(name, EPOCHS, f"{value}: an eighth of them is 0.125"))
        for name in ("early_epochs", "final_epochs")
        for value in (-1, 1.5, -0.5)
    },
    **{
        f"others_share {value}": ({"others_share": value}, THE.format("others_share", OTHERS, value))
        for value in (1.0, -0.1, math.nan)
    },
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


WEIGHS: dict[str, Any] = {"early_epochs": 1, "others_share": 0.4}
A_FIT = {
    "max_epochs": 8,
    "max_steps": -1,
    "is_global_zero": True,
    "fast_dev_run": 0,
    "reload_dataloaders_every_n_epochs": 0,
    "limit_train_batches": 1.0,
}
NOTHING = (
    "{} has early_epochs={} and final_epochs={} on everything, but the Trainer trains for {}, so that nothing is ever"
    " selected; set them lower, as {}, or train for longer, with more max_epochs."
)
NO_END = (
    f"The `final_epochs` of {OWNER} need a Trainer with max_epochs, as else it is not known which they are; set"
    " max_epochs, or final_epochs=0."
)
HOLDS = (
    "The Trainer's reload_dataloaders_every_n_epochs=2 lets a choice hold for 2 epochs, so the {} of {}, {}, must be a"
    " multiple of it; or leave it at 0."
)

# the selection's arguments, the Trainer's, the message or None where both are fine
TRAINERS: list[tuple[dict[str, Any], dict[str, Any], str | None]] = [
    *(
        (
            {"early_epochs": early, "final_epochs": final},
            {"max_epochs": epochs},
            NOTHING.format(OWNER, early, final, epochs, "an eighth of all epochs, 0.125"),
        )
        for early, final, epochs in ((5, 0, 5), (5, 0, 3), (2, 2, 4), (0, 4, 4))
    ),
    ({"early_epochs": 5}, {"max_epochs": 6}, None),
    ({"early_epochs": 0.25, "final_epochs": 0.25}, {"max_epochs": 4}, None),
    ({"early_epochs": 0.25, "final_epochs": 0.25}, {"max_epochs": 2}, NOTHING.format(OWNER, 0.25, 0.25, 2, "0")),
    ({"early_epochs": 2, "final_epochs": 2}, {"max_epochs": 5}, None),
    ({"early_epochs": 5}, {"max_epochs": 1, "fast_dev_run": 1}, None),
    ({"final_epochs": 1}, {"max_epochs": None, "reload_dataloaders_every_n_epochs": 2}, NO_END),
    ({"final_epochs": 1}, {"max_epochs": -1, "reload_dataloaders_every_n_epochs": 2}, NO_END),
    ({}, {"max_epochs": None}, None),
    ({}, {"max_epochs": -1}, None),
    *(
        (options, {"reload_dataloaders_every_n_epochs": 2}, HOLDS.format(named, OWNER, moment))
        for options, named, moment in (
            ({"early_epochs": 1}, "`early_epochs`", 1),
            ({"early_epochs": 2, "final_epochs": 1}, "epoch at which `final_epochs` begin", 7),
            ({"early_epochs": 2, "rescore_every_n_epochs": 3}, "`rescore_every_n_epochs`", 3),
        )
    ),
    (WEIGHS, {"limit_train_batches": 2}, None),
    (WEIGHS, {"limit_train_batches": 0.5}, None),
    (WEIGHS, {"limit_train_batches": 2, "fast_dev_run": 2}, None),
    ({**WEIGHS, "per": "batch"}, {"limit_train_batches": 2}, None),
    ({"early_epochs": 1}, {"limit_train_batches": 2}, None),
    ({"early_epochs": 1, "per": "batch"}, {"reload_dataloaders_every_n_epochs": 2}, None),
    ({"early_epochs": 1}, {"reload_dataloaders_every_n_epochs": 2, "fast_dev_run": True}, None),
]


@pytest.mark.parametrize(("options", "trainer", "message"), TRAINERS)
def test_trainers_that_do_not_fit(options: dict[str, Any], trainer: dict[str, Any], message: str | None) -> None:
    given: Any = SimpleNamespace(**{**A_FIT, **trainer})
    training = SampleEasinessTraining(**options)
    if message is None:
        training.check(given)
        return
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        training.check(given)
    assert str(error.value) == message
