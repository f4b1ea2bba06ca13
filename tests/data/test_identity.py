"""`DataIdentity`: its recorded name, and when two can be of one data set."""

from itertools import product

import pytest
import torch

from lightning_easiness.data.identity import DataIdentity
from tests.made_runs import whole


def identity(*target: int) -> DataIdentity:
    return DataIdentity(len(target), torch.tensor(target))


def test_the_fingerprint_is_that_of_recorded_runs_and_of_length_and_targets() -> None:
    assert identity(0, 1, 1).fingerprint == "256f2f23ec35281d"  # is on disk in records of every version
    for dtype in (torch.uint8, torch.int32):
        assert DataIdentity(3, torch.tensor([0, 1, 1], dtype=dtype)).fingerprint == identity(0, 1, 1).fingerprint
    assert DataIdentity(3).fingerprint == identity(-1, -1, -100).fingerprint, "unknown"
    different = [identity(0, 1, 1), identity(0, 1, 2), identity(0, 1), identity(0, 1, 1, 0), identity(0, 1, -1)]
    assert len({one.fingerprint for one in [*different, DataIdentity(3), DataIdentity(4)]}) == 7


def test_a_known_fingerprint_is_kept_and_spares_the_targets() -> None:
    recorded = [DataIdentity(2, torch.tensor(target), "recorded") for target in ([0, 1], [1, 0])]
    assert recorded[0].fingerprint == "recorded"
    assert recorded[0].is_same(recorded[1]), "not read"
    assert recorded[0].merged(recorded[1]) is recorded[0]


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (identity(0, 1), "the first has 3 examples and the second 2"),
        (DataIdentity(4), "the first has 3 examples and the second 4"),
        (identity(2, 5, 2), "example 0 has target 0 in the first and 2 in the second (1 of 3 differ)"),
        (identity(-1, 2, 2), None),
        (DataIdentity(3), None),
    ],
)
def test_a_difference_is_one_of_length_or_of_targets_that_both_have(other: DataIdentity, problem: str | None) -> None:
    here = identity(0, -1, 2)
    assert here.is_same(other) == (problem is None)
    if problem is None:
        here.check_same(other, "A", "B", "load another.")
        return
    message = (
        f"A and B are not of the same data: {problem}, so an index no longer names the same example: load another."
    )
    with pytest.raises(ValueError, match=whole(message)):
        here.check_same(other, "A", "B", "load another.")


def test_merged_is_what_either_has_and_itself_where_that_adds_nothing() -> None:
    here = identity(0, -1, 2)
    assert here.merged(identity(-1, 5, -1)).known_target.tolist() == [0, 5, 2]
    for adds_nothing in (DataIdentity(3), identity(0, -1, -1), identity(0, -1, 2)):
        assert here.merged(adds_nothing) is here
    assert DataIdentity(3).merged(here) is here


def test_what_covers_another_is_what_the_two_are_merged_to() -> None:
    columns = [torch.tensor(column) for column in ([0, -1, 2], [0, 1, 2], [0, -1, -1], [0, -5, 2], [1, 1, 2])]
    kinds = [DataIdentity(3, column, changes=is_not) for column in (None, *columns) for is_not in (False, True)]
    kinds += [DataIdentity(3, digest=column) for column in columns]
    kinds += [DataIdentity(3, columns[0], source_index=column) for column in (columns[1], columns[4])]
    kinds += [DataIdentity(4)]
    for one, other in product(kinds, kinds):
        is_kept = one.is_same(other) and one.merged(other) is one
        assert one.covers(other) == (is_kept and not (one.changes or other.changes)), (one, other)


def test_source_indices_are_merged_too_and_not_in_the_fingerprint() -> None:
    source = torch.tensor([9, 4, 6])
    here, there = identity(0, 1, -1), DataIdentity(3, torch.tensor([0, 1, 2]), source_index=source)
    assert there.fingerprint == identity(0, 1, 2).fingerprint
    both = here.merged(there)
    assert (both.known_target.tolist(), both.source_index) == ([0, 1, 2], source)
    assert there.merged(here) is there
    recorded = DataIdentity(3, torch.tensor([0, 1, 2]), "recorded")
    assert recorded.merged(there).fingerprint == "recorded"
    assert recorded.merged(there).source_index is source


def test_source_indices_of_one_recorded_fingerprint_are_not_read() -> None:
    source = torch.tensor([9, 4, 6])
    known = DataIdentity(3, source_index=source).source_fingerprint
    here, there = (DataIdentity(3, source_index=one, known_source=known) for one in (source, torch.zeros(3).long()))
    assert here.is_same(there), "by the fingerprint alone"
    assert not here.is_same(DataIdentity(3, source_index=torch.tensor([9, 4, 7]), known_source="another"))
    assert not here.is_same(DataIdentity(3, source_index=torch.tensor([9, 4, 7]))), "of a record without one"
    assert DataIdentity(3).merged(here).source_fingerprint == known


def test_targets_that_change_are_compared_with_none_and_stay_so() -> None:
    here, there = DataIdentity(3, torch.tensor([0, 1, 2]), source_index=torch.tensor([9, 4, 6])), identity(1, 0, 2)
    changing = here.changing()
    assert changing.is_same(there)
    assert there.is_same(changing)
    assert changing.known_target.tolist() == [-1, -1, -1]
    assert changing.merged(there) is changing
    assert there.merged(changing).changes
    assert not changing.is_same(DataIdentity(3, source_index=torch.tensor([9, 4, 7])))
