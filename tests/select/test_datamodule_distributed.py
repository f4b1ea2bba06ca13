"""A selection shared by 1, 2 and 3 processes: gloo on the CPU, started as a user's script starts them."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord
from tests.distributed_selected_fit import KEPT
from tests.processes import run_script
from tests.selecting import IndexedPoints
from tests.small import assert_identical

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 240  # seconds; a machine under load takes a minute
SCENARIOS = ("once", "kept_all", "lengths", "observed", "unseeded", "resumed")
SIZES = [24, 53, 12, 48, 30]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """All scenarios, by the number of processes."""
    made = {}
    for processes in (1, 2, 3):
        made[processes] = tmp_path_factory.mktemp(f"ddp-{processes}")
        arguments = "ddp", processes, made[processes], *SCENARIOS
        ended = run_script("distributed_selected_fit", *arguments, time_limit=TIME_LIMIT)
        assert ended.returncode == 0, ended.stderr[-5000:]
    return made


ANY = pytest.mark.parametrize("processes", [1, 2, 3])


def seen(folders: dict[int, Path], processes: int, scenario: str, name: str = "seen") -> list[dict[str, Any]]:
    folder = folders[processes] / scenario
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(processes)]


def examples(ranks: list[dict[str, Any]], epoch: int) -> list[int]:
    """What all ranks trained on in an epoch."""
    return [index for rank in ranks for at, indices, _ in rank["batches"] if at == epoch for index in indices]


@ANY
def test_each_rank_gets_its_share_and_no_example_is_missing(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "once", "ours")
    for epoch in (0, 1):
        trained = examples(ranks, epoch)
        assert set(trained) == set(KEPT)
        assert len(trained) == -(-len(KEPT) // processes) * processes, "padded by less than one example a rank"


@ANY
@pytest.mark.parametrize("scenario", ["once", "kept_all"])
def test_it_is_what_users_do_by_hand_to_the_bit(scenario: str, processes: int, folders: dict[int, Path]) -> None:
    for ours, theirs in zip(
        seen(folders, processes, scenario, "ours"), seen(folders, processes, scenario, "by hand"), strict=True
    ):
        for name in ("batches", "lengths", "validations", "weights", "losses"):
            assert_identical(ours[name], theirs[name], name)


@ANY
def test_lengths_grow_and_shrink(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "lengths")
    one = seen(folders, 1, "lengths")
    expected = [ceil(ceil(size / processes) / 4) for size in SIZES]
    for rank in ranks:
        assert rank["lengths"] == expected, "the progress bar's total"
        assert rank["validations"] == 5
        assert rank["steps"] == sum(expected)
        assert rank["lr"] == 0.5 ** sum(expected)
        for ours, theirs in zip(rank["selected"], one[0]["selected"], strict=True):
            assert torch.equal(ours, theirs), "the same selection, whatever the number of processes"
    for epoch, size in enumerate(SIZES):
        trained = set(examples(ranks, epoch))
        assert trained == set(ranks[0]["selected"][epoch].tolist())
        assert len(trained) == size


@ANY
def test_the_callback_counts_under_the_whole_data_sets_indices(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "lengths")
    online = EasinessRecord.load(folders[processes] / "lengths" / "record", series="train-online")
    for epoch in range(len(SIZES)):
        expected = torch.bincount(torch.tensor(examples(ranks, epoch)), minlength=53)
        assert torch.equal(online.count[0, epoch].long(), expected)
    probe = EasinessRecord.load(folders[processes] / "lengths" / "record")
    assert probe.num_examples == 53
    assert torch.equal(probe.target, IndexedPoints().y)


@ANY
def test_a_rule_that_looks_at_the_weights_chooses_alike(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "observed")
    for rank in ranks:
        assert_identical(rank["selected"], ranks[0]["selected"])
    assert torch.equal(ranks[0]["selected"][0], seen(folders, 1, "observed")[0]["selected"][0])
    for epoch in (0, 1):
        assert set(examples(ranks, epoch)) == set(ranks[0]["selected"][epoch].tolist())


@ANY
def test_a_rule_that_differs_by_rank_is_rank_zeros(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "unseeded")
    expected = torch.randperm(53, generator=torch.Generator().manual_seed(0))[:24].tolist()
    assert set(examples(ranks, 0)) == set(expected)
    assert sum(len(indices) for rank in ranks for _, indices, _ in rank["batches"]) == 24


@ANY
def test_stopped_and_resumed_within_a_selected_epoch(processes: int, folders: dict[int, Path]) -> None:
    whole, resumed = (seen(folders, processes, "resumed", name) for name in ("whole", "resumed"))
    assert {epoch for rank in resumed for epoch, _, _ in rank["batches"]} == {1, 2}
    for ours, theirs in zip(resumed, whole, strict=True):
        assert torch.equal(ours["selected"][-1], theirs["selected"][-1])
        assert ours["lengths"][-1] == theirs["lengths"][-1]
        assert ours["steps"] == theirs["steps"]
        assert ours["lr"] == theirs["lr"]
    assert set(examples(resumed, 1)) <= set(whole[0]["selected"][1].tolist())
    assert len(examples(resumed, 1)) == len(examples(whole, 1)) - 4 * processes, "all but the batch that was done"
    assert set(examples(resumed, 2)) == set(whole[0]["selected"][2].tolist())
