"""What fewer runs, earlier, keep of a reference: against counting by hand."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest

from lightning_easiness import EasinessRecord, ProbeAgreement, cheapest_probe, compare_probes
from lightning_easiness.functional import expected_matching_rate, selection_probability
from tests.record.test_matching import FRACTION, MOMENTS, N, loss_of, record_of

SEEDS, OTHERS = tuple(range(7)), tuple(range(10, 14))


@pytest.fixture
def records(tmp_path: Path) -> tuple[EasinessRecord, EasinessRecord]:
    return record_of(tmp_path / "a", 0, seeds=SEEDS), record_of(tmp_path / "b", 0, seeds=OTHERS)


def mean_by_hand(seeds: tuple[int, ...], moment: int) -> list[float]:
    rows = [loss_of(0, seed, moment).tolist() for seed in seeds]
    return [statistics.fmean(row[i] for row in rows) for i in range(N)]


def ranks_by_hand(values: list[float]) -> list[int]:
    return [sorted(values).index(value) for value in values]


def shared_by_hand(a: list[float], b: list[float], hard: bool) -> float:
    count = round(FRACTION * N)
    first, second = (set(sorted(range(N), key=lambda i: values[i], reverse=hard)[:count]) for values in (a, b))
    return len(first & second) / count


def test_a_probe_is_the_mean_over_groups_of_runs_that_share_none(
    records: tuple[EasinessRecord, EasinessRecord],
) -> None:
    record, reference = records
    probes = compare_probes(record, reference, num_runs=(3, 1, 50), fraction=FRACTION, reference_checkpoint=2)
    assert [(probe.checkpoint, probe.num_runs) for probe in probes] == [(c, m) for c in range(4) for m in (1, 3)]
    wanted = mean_by_hand(OTHERS, 2)
    for probe in probes:
        size = probe.num_runs
        groups = [SEEDS[first : first + size] for first in range(0, len(SEEDS) - size + 1, size)]
        means = [mean_by_hand(group, probe.checkpoint) for group in groups]
        found = {
            "rank": [statistics.correlation(ranks_by_hand(mean), ranks_by_hand(wanted)) for mean in means],
            "easy": [shared_by_hand(mean, wanted, hard=False) for mean in means],
            "hard": [shared_by_hand(mean, wanted, hard=True) for mean in means],
        }
        for quantity, values in found.items():
            assert getattr(probe, quantity) == pytest.approx(statistics.fmean(values), abs=1e-5)
            assert getattr(probe, f"{quantity}_spread") == pytest.approx(statistics.stdev(values), abs=1e-5)
        assert (probe.num_groups, probe.step) == (len(groups), MOMENTS[probe.checkpoint][0])
        assert probe.updates == size * MOMENTS[probe.checkpoint][0]


def test_more_runs_and_later_ones_agree_better(records: tuple[EasinessRecord, EasinessRecord]) -> None:
    probes = {(probe.checkpoint, probe.num_runs): probe for probe in compare_probes(*records, num_runs=(1, 7))}
    assert probes[3, 7].rank > probes[3, 1].rank > probes[0, 1].rank
    assert math.isnan(probes[3, 7].rank_spread)


def test_the_cheapest_probe_has_the_fewest_updates_of_those_that_suffice() -> None:
    def made(num_runs: int, step: int, hard: float) -> ProbeAgreement:
        return ProbeAgreement(num_runs, 0, step, 0.1, 0.0, 0.2, 0.0, hard, 0.0, 2)

    probes = [made(1, 100, 0.89), made(5, 10, 0.9), made(2, 20, 0.95), made(10, 100, 1.0), made(1, 1, 0.2)]
    assert cheapest_probe(probes, "hard", 0.9) is probes[2]
    assert cheapest_probe(probes, "hard", 1.0) is probes[3]
    assert cheapest_probe(probes, "rank", 1.0) is probes[4]  # all the same


def test_what_cannot_be_compared_is_refused(records: tuple[EasinessRecord, EasinessRecord], tmp_path: Path) -> None:
    record, reference = records
    with pytest.raises(ValueError, match=r"The `num_runs` of compare_probes must be 1 to 7; got \[8\]"):
        compare_probes(record, reference, num_runs=(8,))
    with pytest.raises(ValueError, match=r"hold the run '.*seed-2', which matches itself: give each its own runs"):
        compare_probes(record, record.select_runs([2, 3]))
    smaller = record_of(tmp_path / "c", 0, seeds=(20,), size=50)
    with pytest.raises(ValueError, match="are not of the same data"):
        compare_probes(record, smaller)


def test_a_score_where_high_is_easy_keeps_its_direction(tmp_path: Path) -> None:
    record, reference = (record_of(tmp_path / name, 0, seeds=seeds) for name, seeds in (("a", SEEDS), ("b", OTHERS)))
    found = compare_probes(record, reference, "count", num_runs=(7,), fraction=FRACTION)[-1]
    counts = [sum((loss_of(0, seed, 3) < 0.5).long() for seed in seeds) for seeds in (SEEDS, OTHERS)]
    rates = [
        expected_matching_rate(*(selection_probability(x, FRACTION, higher_is_easier=True, which=end) for x in counts))
        for end in ("easy", "hard")
    ]
    assert (found.easy, found.hard) == pytest.approx([float(rate) for rate in rates], abs=1e-6)
    assert found.easy != pytest.approx(found.hard)
