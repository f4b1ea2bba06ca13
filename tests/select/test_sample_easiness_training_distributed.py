"""SampleEasinessTraining shared by 1, 2 and 3 processes: gloo on the CPU, started as a user's script starts them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord
from tests.distributed_set_fit import LEVELS_ONLINE, SHARE, Learns
from tests.processes import run_script
from tests.selecting import IndexedPoints
from tests.set_fits import SIGMA2, assert_clear, easiness_loop, level_of, logits_at
from tests.small import assert_identical

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 240  # seconds; a machine under load takes a minute
SCENARIOS = ("still", "still_by_loss", "learning", "by_batch", "online")
SIZE, EVERYTHING = 53, list(range(53))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """All scenarios, by the number of processes."""
    made = {}
    for processes in (1, 2, 3):
        made[processes] = tmp_path_factory.mktemp(f"set-{processes}")
        arguments = processes, made[processes], *(SCENARIOS if processes > 1 else SCENARIOS[:2])
        ended = run_script("distributed_set_fit", *arguments, time_limit=TIME_LIMIT)
        assert ended.returncode == 0, ended.stderr[-5000:]
    return made


ANY = pytest.mark.parametrize("processes", [1, 2, 3])
SEVERAL = pytest.mark.parametrize("processes", [2, 3])  # one alone is tested without a strategy for many


def seen(folders: dict[int, Path], processes: int, scenario: str) -> list[dict[str, Any]]:
    folder = folders[processes] / scenario
    return [torch.load(folder / f"seen-{rank}.pt", weights_only=True) for rank in range(processes)]


def trained_on(ranks: list[dict[str, Any]], epoch: int) -> list[int]:
    """What all ranks trained on in an epoch; padding repeats examples."""
    return [i for rank in ranks for at, indices, _, _ in rank["steps"] if at == epoch for i in indices]


def easiness_at(state: dict[str, Any]) -> list[float]:
    easiness = easiness_loop(logits_at(state, Learns), IndexedPoints().y)
    assert_clear(easiness)
    return easiness


@ANY
@pytest.mark.parametrize("scenario", ["still", "still_by_loss"])
def test_any_number_of_processes_chooses_the_same_examples(
    scenario: str, processes: int, folders: dict[int, Path]
) -> None:
    one = seen(folders, 1, scenario)[0]
    ranks = seen(folders, processes, scenario)
    for epoch in range(4):
        expected, found = one["selected"][epoch].tolist(), ranks[0]["selected"][epoch].tolist()
        # one more each where the last batch of four would hold a single example
        enough = len(expected) + processes * (processes > 1 and 0 < len(expected) % (4 * processes) <= processes)
        assert set(expected) <= set(found)
        assert len(found) == min(SIZE, enough)
        for rank in ranks:
            assert rank["selected"][epoch].tolist() == found
        assert set(trained_on(ranks, epoch)) == set(found)
        assert (len(found) < SIZE) == (epoch > 0)


@SEVERAL
def test_each_rank_weighs_its_own_examples(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "learning")
    for rank in ranks:
        assert_identical(rank["selected"], ranks[0]["selected"], "selected")
        assert_identical(rank["states"], ranks[0]["states"], "weights of the model")
    for epoch in (1, 2):
        easiness = easiness_at(ranks[0]["states"][epoch])
        medium = [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]
        others = SIZE - len(medium)
        drawn = int(SHARE * others + 0.5)
        selected = ranks[0]["selected"][epoch].tolist()
        assert set(medium) <= set(selected)
        extra = len(selected) - len(medium) - drawn
        assert 0 <= extra <= processes, "one more each, so that no batch holds a single example"
        for rank in ranks:
            for at, indices, _, weight in rank["steps"]:
                if at == epoch:
                    assert weight.shape == (len(indices),)
                    if not extra:
                        expected = [1.0 if i in medium else others / drawn for i in indices]
                        assert weight.tolist() == pytest.approx(expected)
        assert set(trained_on(ranks, epoch)) == set(selected)
    for rank in ranks:
        assert all(weight is None for at, _, _, weight in rank["steps"] if at in (0, 3)), "early and final"


@SEVERAL
def test_within_batches_each_rank_takes_out_its_own(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "by_batch")
    taken_out = 0
    for rank in ranks:
        assert_identical(rank["weights"], ranks[0]["weights"], "weights of the model")
        for (epoch, before, state), (at, after, _, weight) in zip(rank["whole"], rank["steps"], strict=True):
            assert epoch == at
            if epoch == 0:
                assert (after, weight) == (before, None)
                continue
            everywhere = easiness_at(state)
            medium = [i for i in before if level_of(everywhere[i]) == "medium"]
            others = len(before) - len(medium)
            drawn = max(1, int(SHARE * others + 0.5)) if others else 0
            assert len(after) == len(weight) == len(medium) + drawn
            assert set(medium) <= set(after) <= set(before)
            taken_out += others - drawn
    assert taken_out > 10


@SEVERAL
def test_the_record_counts_what_batches_kept_in_all_processes(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "by_batch")
    online = EasinessRecord.load(folders[processes] / "by_batch" / "record", series="train-online")
    for epoch in range(4):
        trained = trained_on(ranks, epoch)
        assert online.count[0, epoch].tolist() == [trained.count(i) for i in EVERYTHING]
        for rank in ranks:
            assert rank["data_use"][0][epoch] == pytest.approx(len(set(trained)) / SIZE)
        losses: dict[int, list[float]] = {}
        for rank in ranks:
            for at, indices, values, _ in rank["steps"]:
                if at == epoch:
                    for i, value in zip(indices, values.tolist(), strict=True):
                        losses.setdefault(i, []).append(value)
        for i, values in losses.items():
            assert float(online.loss[0, epoch, i]) == pytest.approx(fmean(values), abs=1e-5)


@SEVERAL
def test_online_all_ranks_know_what_any_of_them_saw(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "online")
    for rank in ranks:
        assert_identical(rank["selected"], ranks[0]["selected"], "selected")
    known: dict[int, float] = {}
    target = IndexedPoints().y
    for epoch in range(4):
        selected = ranks[0]["selected"][epoch].tolist()
        if epoch:
            assert len(known) == SIZE
            asked = [i for i in EVERYTHING if level_of(known[i]) in LEVELS_ONLINE]
            assert set(asked) <= set(selected)
            assert len(selected) - len(asked) <= max(4 * processes - len(asked), processes)
            assert len(selected) < SIZE
        assert set(trained_on(ranks, epoch)) == set(selected)
        of_epoch: dict[int, list[float]] = {}
        for rank in ranks:
            for at, indices, logits in rank["logits"]:
                if at == epoch:
                    easiness = easiness_loop(logits.double(), target[indices], SIGMA2)
                    for i, value in zip(indices, easiness, strict=True):
                        of_epoch.setdefault(i, []).append(value)
        known.update({i: fmean(values) for i, values in of_epoch.items()})
        assert_clear(list(known.values()))
