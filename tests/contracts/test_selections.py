"""What each selection keeps to by itself: it chooses alike wherever and however often it is asked, and draws nothing."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from lightning_easiness import SelectionState
from lightning_easiness.select.checks import checked_indices, checked_labels, checked_weights
from tests.contracts.cases import SELECTIONS
from tests.small import Points, assert_identical, streams

GENERATOR = torch.Generator().manual_seed(3)
OBSERVED = {
    name: torch.rand(53, generator=GENERATOR) for name in ("loss", "correct", "margin", "sample_easiness", "el2n")
}


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
        kept = checked_indices(case, one.select(state), 53)
        chosen.append(
            (kept, checked_labels(case, one.labels(state), 53), checked_weights(case, one.weights(state), 53))
        )
    for again in chosen[1:]:
        for first, other in zip(chosen[0], again, strict=True):
            assert (first is None) == (other is None)
            assert first is None or torch.equal(first, other)
    assert_identical(streams(), before)
