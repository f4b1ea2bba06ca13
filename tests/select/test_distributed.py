"""Selections in 1, 2 and 3 processes: gloo on the CPU, started as a user's script starts them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import nn

from lightning_easiness import EasinessRecord
from tests.contracts.cases import SELECTIONS
from tests.distributed_selected_fit import BATCH_RULES, LEVELS_ONLINE, SHARE, Learns
from tests.processes import run_script
from tests.selecting import IndexedPoints, OverSubset
from tests.set_fits import SIGMA2, Easiness, assert_clear, easiness_at, easiness_loop, level_of
from tests.small import assert_identical

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

TIME_LIMIT = 400  # seconds; a machine under load takes two minutes
OF_ANY_NUMBER = (
    "registered",
    "batch_losses",
    "batch_losses_saved",
    "by_hand",
    "merged",
    "lengths",
    "unseeded",
    "resumed",
)
# one process alone is tested without a strategy
OF_SEVERAL = ("learning", "returned", "by_batch", "skipping", "online", "workers")
SIZES = [24, 53, 12, 48, 30]
SIZE, EVERYTHING = 53, list(range(53))
ANY = pytest.mark.parametrize("processes", [1, 2, 3])
SEVERAL = pytest.mark.parametrize("processes", [2, 3])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """All scenarios, by the number of processes."""
    made = {}
    for processes in (1, 2, 3):
        made[processes] = tmp_path_factory.mktemp(f"ddp-{processes}")
        scenarios = OF_ANY_NUMBER if processes == 1 else OF_ANY_NUMBER + OF_SEVERAL
        arguments = ("distributed_selected_fit", processes, made[processes], *scenarios)
        ended = run_script(*arguments, time_limit=TIME_LIMIT, ranks=processes)
        assert ended.returncode == 0, ended.stderr[-5000:]
    return made


def seen(folders: dict[int, Path], processes: int, scenario: str, name: str = "seen") -> list[dict[str, Any]]:
    folder = folders[processes] / scenario
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(processes)]


def examples(ranks: list[dict[str, Any]], epoch: int) -> list[int]:
    """What all ranks trained on in an epoch; padding repeats examples."""
    return [index for rank in ranks for at, indices, _ in rank["batches"] if at == epoch for index in indices]


# ------------------------------------------------------------------------------------------- each selection


@ANY
@pytest.mark.parametrize("case", SELECTIONS)
def test_any_number_of_processes_chooses_the_same_examples(case: str, processes: int, folders: dict[int, Path]) -> None:
    name = str(list(SELECTIONS).index(case))
    (one,), ranks = seen(folders, 1, "registered", name), seen(folders, processes, "registered", name)
    for rank in ranks:
        assert_identical(rank["selected"], ranks[0]["selected"])
    if "AlignPrune" in case:
        assert [len(kept) < SIZE for kept in one["selected"]][-2:] == ["held out" in case, True], "after three epochs"
        assert len(one["selected"][3]) < len(one["selected"][2])
    for epoch in range(4):
        expected, found = one["selected"][epoch], ranks[0]["selected"][epoch]
        if not found:  # within batches nothing is selected for the epoch
            assert not expected
            continue
        if not any(rule in case for rule in BATCH_RULES):  # held out, or its control, likewise
            assert found == expected, "whatever the number of processes"
        trained = examples(ranks, epoch)
        assert set(trained) == set(found)
        assert len(trained) == -(-len(found) // processes) * processes, "padded by less than one example a rank"


@SEVERAL
@pytest.mark.parametrize("case", BATCH_RULES)
def test_batches_of_the_same_examples_give_the_same_choice(case: str, processes: int, folders: dict[int, Path]) -> None:
    """The second epoch's, as the first is on everything; later batches hold other examples."""
    name = str(BATCH_RULES.index(case))
    (one,), ranks = seen(folders, 1, "batch_losses", name), seen(folders, processes, "batch_losses", name)
    assert 24 < len(one["selected"][1]) < 48
    for rank in ranks:
        assert rank["selected"][:2] == one["selected"][:2]
        assert rank["selected"] == ranks[0]["selected"]


@ANY
def test_an_error_loses_no_batch_of_any_process(processes: int, folders: dict[int, Path]) -> None:
    folder = folders[processes] / "batch_losses_saved"
    saved, stopped = (
        torch.load(folder / f"{name}.ckpt", weights_only=True)["EasinessDataModule"]["batch_losses"]
        for name in ("step=6", "stopped")
    )
    assert_identical(stopped, saved)
    assert int(saved["totals"][1].sum()) == 24, "two batches of twelve"
    assert saved["num_steps"] == 6


@ANY
@pytest.mark.parametrize("kept", ["some", "all"])
def test_it_is_what_users_do_by_hand_to_the_bit(kept: str, processes: int, folders: dict[int, Path]) -> None:
    ours, theirs = (seen(folders, processes, "by_hand", f"{kept}-{who}") for who in ("ours", "by-hand"))
    for name in ("batches", "lengths", "validations", "weights", "steps"):
        assert_identical([rank[name] for rank in ours], [rank[name] for rank in theirs], name)
    assert set(examples(ours, 1)) == set(OverSubset.kept if kept == "some" else EVERYTHING)


@ANY
def test_validation_examples_are_trained_on_in_every_process(processes: int, folders: dict[int, Path]) -> None:
    for name, sizes in (("all", [73] * 4), ("some", [24, 60, 12, 48])):
        ranks = seen(folders, processes, "merged", name)
        for epoch, size in enumerate(sizes):
            chosen = ranks[0]["selected"][epoch] or list(range(73))
            assert len(chosen) == size
            assert set(examples(ranks, epoch)) == set(chosen)
            assert len(examples(ranks, epoch)) == -(-size // processes) * processes
        one, several = (
            EasinessRecord.load(folders[number] / "merged" / "records" / name, "val-probe") for number in (1, processes)
        )
        torch.testing.assert_close(several.loss, one.loss)
        assert several.num_examples == 20


# ------------------------------------------------------------------------------------------- epochs


@ANY
def test_lengths_grow_and_shrink(processes: int, folders: dict[int, Path]) -> None:
    ranks, one = seen(folders, processes, "lengths"), seen(folders, 1, "lengths")
    expected = [ceil(ceil(size / processes) / 4) for size in SIZES]
    for rank in ranks:
        assert rank["lengths"] == expected, "the progress bar's total"
        assert (rank["validations"], rank["num_steps"]) == (5, sum(expected))
        assert rank["lr"] == pytest.approx(0.05 * 0.9 ** (5 * expected[0])), (
            "an epoch moves a schedule as the first one"
        )
        assert rank["selected"] == one[0]["selected"], "the same selection, whatever the number of processes"
    online = EasinessRecord.load(folders[processes] / "lengths" / "record", series="train-online")
    for epoch, size in enumerate(SIZES):
        trained = examples(ranks, epoch)
        assert sorted(set(trained)) == ranks[0]["selected"][epoch]
        assert len(set(trained)) == size
        assert torch.equal(online.count[0, epoch].long(), torch.bincount(torch.tensor(trained), minlength=SIZE))
    assert torch.equal(online.target, IndexedPoints().y)


@ANY
def test_a_rule_that_differs_by_rank_is_rank_zeros(processes: int, folders: dict[int, Path]) -> None:
    trained = examples(seen(folders, processes, "unseeded"), 0)
    expected = torch.randperm(SIZE, generator=torch.Generator().manual_seed(0))[:24].tolist()
    assert sorted(trained) == sorted(expected)


@ANY
def test_stopped_and_resumed_within_a_selected_epoch(processes: int, folders: dict[int, Path]) -> None:
    whole, resumed = (seen(folders, processes, "resumed", name) for name in ("whole", "resumed"))
    assert {epoch for rank in resumed for epoch, _, _ in rank["batches"]} == {1, 2}
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours["selected"][-1] == theirs["selected"][-1]
        assert ours["lengths"][-1] == theirs["lengths"][-1]
        assert (ours["num_steps"], ours["lr"]) == (theirs["num_steps"], theirs["lr"])
    assert set(examples(resumed, 1)) <= set(whole[0]["selected"][1])
    assert len(examples(resumed, 1)) == len(examples(whole, 1)) - 4 * processes, "all but the batch that was done"
    assert set(examples(resumed, 2)) == set(whole[0]["selected"][2])


# ------------------------------------------------------------------------------------------- SampleEasinessTraining


@SEVERAL
def test_each_rank_weighs_its_own_examples(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "learning")
    for rank in ranks:
        assert_identical(rank["selected"], ranks[0]["selected"], "selected")
        assert_identical(rank["states"], ranks[0]["states"], "weights of the model")
        assert all(weight is None for at, _, _, weight in rank["steps"] if at in (0, 3)), "early and final"
    for epoch in (1, 2):
        easiness = easiness_at(ranks[0]["states"][epoch], Learns)
        medium = [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]
        others = SIZE - len(medium)
        drawn = int(SHARE * others + 0.5)
        selected = ranks[0]["selected"][epoch]
        assert set(medium) <= set(selected)
        assert len(selected) == len(medium) + drawn
        for at, indices, _, weight in (step for rank in ranks for step in rank["steps"]):
            if at == epoch:
                assert weight.shape == (len(indices),)
                expected = [1.0 if i in medium else others / drawn for i in indices]
                assert weight.tolist() == pytest.approx(expected)
        assert set(examples(ranks, epoch)) == set(selected)


@SEVERAL
def test_within_batches_each_rank_removes_its_own(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "by_batch")
    removed = 0
    for rank in ranks:
        assert_identical(rank["weights"], ranks[0]["weights"], "weights of the model")
        for (epoch, before, state), (at, after, _, weight) in zip(rank["whole"], rank["steps"], strict=True):
            assert epoch == at
            if epoch == 0:
                assert (after, weight) == (before, None)
                continue
            everywhere = easiness_at(state, Learns)
            medium = [i for i in before if level_of(everywhere[i]) == "medium"]
            others = len(before) - len(medium)
            drawn = max(1, int(SHARE * others + 0.5)) if others else 0
            assert len(after) == len(weight) == len(medium) + drawn
            assert set(medium) <= set(after) <= set(before)
            removed += others - drawn
    assert removed > 10


@SEVERAL
@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_losses_that_are_returned_are_weighed_as_by_a_module_that_takes_the_weights(
    per: str, processes: int, folders: dict[int, Path]
) -> None:
    """With gradients that are accumulated and clipped."""
    taken, returned = (seen(folders, processes, "returned", f"{name}-{per}") for name in ("taken", "returned"))
    assert len(examples(taken, 3)) < SIZE
    for ours, theirs in zip(returned, taken, strict=True):
        assert ours["batches"] == theirs["batches"]
        assert (ours["num_steps"], ours["lr"]) == (theirs["num_steps"], theirs["lr"])
        assert_identical(ours["weights"], theirs["weights"])
        assert_identical(ours["weights"], returned[0]["weights"])


@SEVERAL
def test_a_training_with_weights_is_that_of_a_loop_by_hand(processes: int, folders: dict[int, Path]) -> None:
    """The gradient is the mean over the processes, of the sum of weight times loss over B, times the epoch's share."""
    ranks, points = seen(folders, processes, "returned", "taken-epoch"), IndexedPoints()
    module = Learns()
    module.load_state_dict(ranks[0]["states"][0])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    whole = ceil(ceil(SIZE / processes) / 4)  # batches
    for epoch in range(4):
        rounds = list(zip(*([step for step in rank["steps"] if step[0] == epoch] for rank in ranks), strict=True))
        share = (whole / SIZE) / (len(rounds) / len(ranks[0]["selected"][epoch]))
        steps = ceil(len(rounds) / 2)
        for number, batches in enumerate(rounds):
            if number % 2 == 0:
                optimizer.zero_grad()
            for _, indices, _, weight in batches:
                losses = nn.functional.cross_entropy(module.net(points.x[indices]), points.y[indices], reduction="none")
                total = losses.sum() if weight is None else share * (weight * losses).sum()
                (total / len(indices) / processes / 2).backward()
            if number % 2 or number + 1 == len(rounds):
                moved = int(ceil(whole / 2) * (epoch + Fraction(number // 2, steps)))
                optimizer.param_groups[0]["lr"] = 0.05 * 0.9**moved
                nn.utils.clip_grad_norm_(module.parameters(), 0.5)
                optimizer.step()
    assert any(weight is not None for rank in ranks for *_, weight in rank["steps"])
    for name, value in module.state_dict().items():
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-4, atol=1e-6)


def at_weights(state: dict[str, Any], indices: list[int]) -> dict[str, torch.Tensor]:
    """The gradients of the mean cross-entropy of some examples, in float64."""
    module, data = Learns().double(), IndexedPoints()
    module.load_state_dict(state)
    nn.functional.cross_entropy(module.net(data.x[indices].double()), data.y[indices]).backward()
    return {name: value.grad for name, value in module.named_parameters()}


@SEVERAL
def test_a_step_is_that_of_one_process_on_what_all_keep_and_there_is_none_where_none_keeps_any(
    processes: int, folders: dict[int, Path]
) -> None:
    ranks = seen(folders, processes, "skipping", "plain")
    numbers, kept_by = [], []
    steps = 0
    for batches in zip(*(rank["whole"] for rank in ranks), strict=True):
        epoch, _, state = batches[0]
        for _, _, other in batches:
            assert_identical(other, state, "weights before the batch")
        everywhere = easiness_at(state, Learns)
        kept = [[i for i in held if epoch == 0 or level_of(everywhere[i]) == "medium"] for _, held, _ in batches]
        numbers.append((state, [i for own in kept for i in own], 0.05 * 0.9 ** len(numbers)))
        kept_by.append([len(own) for own in kept])
        steps += any(kept)
    assert all(rank["num_steps"] == steps for rank in ranks)
    assert len({min(sizes) for sizes in kept_by} | {max(sizes) for sizes in kept_by}) == 3, "nothing, one and both"
    assert [0, 1] in kept_by or [1, 0] in kept_by or processes > 2
    afterwards = [state for state, _, _ in numbers[1:]] + [ranks[0]["weights"]]
    for (state, indices, rate), after in zip(numbers, afterwards, strict=True):
        gradients = at_weights(state, indices) if indices else {}
        for name, value in state.items():
            expected = value if not indices else value - rate * gradients[name]
            torch.testing.assert_close(after[name].double(), expected.double(), rtol=1e-4, atol=1e-6)


@SEVERAL
def test_under_batch_norm_ranks_stay_in_step_and_the_record_has_what_was_kept(
    processes: int, folders: dict[int, Path]
) -> None:
    for name in ("plain", "norm"):
        ranks = seen(folders, processes, "skipping", name)
        assert len({rank["num_steps"] for rank in ranks}) == 1
        for rank in ranks:
            for key, value in ranks[0]["weights"].items():
                assert "running" in key or torch.equal(rank["weights"][key], value), key
        online = EasinessRecord.load(folders[processes] / "skipping" / "record" / name)
        use = [float((count > 0).float().mean()) for count in online.count[0]]
        for rank in ranks:
            assert rank["data_use"][0] == pytest.approx(use)
        assert use[1] < use[0] == 1


@SEVERAL
def test_the_record_counts_what_batches_kept_in_all_processes(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "by_batch")
    online = EasinessRecord.load(folders[processes] / "by_batch" / "record", series="train-online")
    for epoch in range(4):
        trained = examples(ranks, epoch)
        assert online.count[0, epoch].tolist() == [trained.count(i) for i in EVERYTHING]
        for rank in ranks:
            assert rank["data_use"][0][epoch] == pytest.approx(len(set(trained)) / SIZE)
        losses: dict[int, list[float]] = {}
        for at, indices, values, _ in (step for rank in ranks for step in rank["steps"]):
            if at == epoch:
                for i, value in zip(indices, values.tolist(), strict=True):
                    losses.setdefault(i, []).append(value)
        for i, values in losses.items():
            assert float(online.loss[0, epoch, i]) == pytest.approx(fmean(values), abs=1e-5)


@SEVERAL
def test_online_all_ranks_have_what_any_of_them_saw(processes: int, folders: dict[int, Path]) -> None:
    ranks = seen(folders, processes, "online")
    known: dict[int, Easiness] = {}
    target = IndexedPoints().y
    for epoch in range(4):
        selected = ranks[0]["selected"][epoch]
        assert all(rank["selected"][epoch] == selected for rank in ranks)
        if epoch:
            assert len(known) == SIZE
            asked = [i for i in EVERYTHING if level_of(known[i]) in LEVELS_ONLINE]
            assert selected == asked
            assert len(selected) < SIZE
        assert set(examples(ranks, epoch)) == set(selected)
        of_epoch: dict[int, list[Easiness]] = {}
        for at, indices, logits in (entry for rank in ranks for entry in rank["logits"]):
            if at == epoch:
                easiness = easiness_loop(logits.double(), target[indices], SIGMA2)
                for i, value in zip(indices, easiness, strict=True):
                    of_epoch.setdefault(i, []).append(value)
        known.update({i: Easiness.mean(values) for i, values in of_epoch.items()})
        assert_clear(list(known.values()))


@SEVERAL
def test_workers_that_stay_read_what_new_ones_read(processes: int, folders: dict[int, Path]) -> None:
    kept, fresh = (seen(folders, processes, "workers", name) for name in ("kept", "fresh"))
    for name in ("batches", "weights", "selected"):
        assert_identical([rank[name] for rank in kept], [rank[name] for rank in fresh], name)
    folder = folders[processes] / "workers"
    starts = [
        [(folder / f"{name}-starts-{rank}").read_text() for rank in range(processes)] for name in ("kept", "fresh")
    ]
    assert starts == [["1"] * processes, ["3"] * processes]
