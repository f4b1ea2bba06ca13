"""Each selection by itself: it chooses alike wherever and however often it is asked, from no global stream."""

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
OBSERVED["weakest_comparison"] = OBSERVED["sample_easiness"].sqrt()


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
        given = checked_labels(case, one.labels(state), 53), checked_weights(case, one.weights(state), 53)
        chosen.append((checked_indices(case, one.select(state), 53), *given))
    for again in chosen[1:]:
        assert_identical(again, chosen[0])
    assert_identical(streams(), before)
