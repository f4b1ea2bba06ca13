"""Each selection by itself: it chooses alike wherever and however often it is asked, from no global stream."""

from __future__ import annotations

import copy
import pickle
from statistics import fmean

import pytest
import torch

from lightning_easiness import Control, SampleEasinessTraining, SelectionState
from lightning_easiness.select.checks import checked_decision, checked_indices, checked_labels, checked_weights
from tests.contracts.cases import SELECTIONS
from tests.small import Points, assert_identical, streams

GENERATOR = torch.Generator().manual_seed(3)
OBSERVED = {
    name: torch.rand(53, generator=GENERATOR) for name in ("loss", "correct", "margin", "sample_easiness", "el2n")
}
OBSERVED["sample_easiness"] = (3 * OBSERVED["sample_easiness"] - 1).clamp(0, 1)  # all three levels
OBSERVED["weakest_comparison"] = OBSERVED["sample_easiness"].sqrt()
OBSERVED |= {"batch_loss": OBSERVED["el2n"], "times_trained": torch.ones(53), "last_batch": torch.arange(53) // 8 + 1}


HARD, MEDIUM = 16, 17  # of those levels, by `OBSERVED`
BELOW, BELOW_OF_BATCHES = (
    sum(loss < fmean(OBSERVED[name].tolist()) for loss in OBSERVED[name].tolist()) for name in ("loss", "batch_loss")
)
SIZES = {  # in epochs 0 and 2
    "Keep": (24, 24),
    "Ablation": (32, 32),  # without 40 % of 53
    "Relabel": (53, 53),
    "growing": (16, 24),
    "shrinking": (53, 24),
    "highest loss": (21, 21),
    "highest loss, once": (48, 48),
    "SET by loss and the counts of another run": (53, 20),
    "held out": (53, 53),
    "RandomShare": (21, 21),
    "RandomShare, dealt": (53, 22),
    "InfoBatch": (53, 53 - round(0.6 * BELOW)),
    "OrderDP": (53, 16),
    "ImportanceSampling": (53, 27),
    "Undecided": (53, 21),
    "Curriculum": (16, 41),
    "RePB": (53, 37),  # each below the mean by a draw of its own
    "BatchLoss": (53, 53 - round(0.6 * BELOW_OF_BATCHES)),
    "AlignPrune": (53, 53),  # of a single loss there is no course
}


def size_of(case: str, epoch: int) -> int:
    """How many examples a selection is defined to choose."""
    name, make = case.removeprefix("held out, ").removeprefix("Control of "), SELECTIONS[case].selection
    if name in SIZES:
        return SIZES[name][epoch > 0]
    assert make is not None
    training = make()
    training = training.rule if isinstance(training, Control) else training
    assert isinstance(training, SampleEasinessTraining)
    chosen = MEDIUM + HARD * ("hard" in training.levels)
    return chosen + round(training.others_share * (53 - chosen)) if epoch else 53


@pytest.mark.parametrize("case", SELECTIONS)
@pytest.mark.parametrize("epoch", [0, 2])
def test_it_chooses_alike_and_touches_no_stream(epoch: int, case: str) -> None:
    state = SelectionState(53, epoch, target=Points().y, observed=OBSERVED, max_epochs=5)
    make = SELECTIONS[case].selection
    assert make is not None
    before = streams()
    selection = make()
    chosen = []
    for one in (selection, selection, make(), copy.deepcopy(selection), pickle.loads(pickle.dumps(selection))):
        selected = checked_decision(case, one.needs, one.select(state))
        given = checked_labels(case, selected.labels, 53), checked_weights(case, selected.weights, 53)
        chosen.append((checked_indices(case, selected.kept, 53), *given))
    assert len(chosen[0][0]) == size_of(case, epoch)
    for again in chosen[1:]:
        assert_identical(again, chosen[0])
    assert_identical(streams(), before)
