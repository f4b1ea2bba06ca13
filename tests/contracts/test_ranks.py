"""Contracts 1 to 3 and 13 with several processes: gloo on the CPU, started as users' scripts start them, and forked."""

from __future__ import annotations

import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_easiness import EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.observe.epoch_state import unpacked_epoch
from lightning_easiness.record.layout import open_probabilities
from tests.contracts.cases import CALLBACKS
from tests.distributed_fit import Constant, Shard
from tests.plain_forward import check_online
from tests.processes import run_script
from tests.small import Net, Points, assert_identical, recorded

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

TIME_LIMIT = 240  # seconds; a machine under load takes a minute


def start(*arguments: str, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs the script; where Lightning starts other processes, it finds a free port by itself."""
    return run_script("distributed_fit", *arguments, time_limit=TIME_LIMIT, ranks=ranks)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All scenarios, by strategy and number of processes."""
    made: dict[str, Path] = {}

    def arguments(strategy: str, devices: int, *scenarios: str) -> list[str]:
        folder = tmp_path_factory.mktemp(f"{strategy}-{devices}")
        made[f"{strategy} {devices}"] = folder
        return [strategy, str(devices), str(folder), *scenarios]

    most = ("registry", "default", "buffers", "online", "few")
    forked = [*arguments("ddp_fork", 1, *most, "stopped"), "+", *arguments("ddp_fork", 2, *most, "stopped")]
    for before, now in ((1, 2), (2, 1)):
        forked += ["+", "ddp_fork", str(now), str(made[f"ddp_fork {before}"]), "gone_on"]
    arguments("auto", 1)
    two = arguments("ddp", 2, *most, "untouched", "resumed", "failed")
    for ranks, script in ((1, forked), (2, two), (3, arguments("ddp", 3, *most))):
        ended = start(*script, ranks=ranks)
        assert ended.returncode == 0, ended.stderr[-5000:]
    for number, part in ((1, "auto"), (3, "ddp"), (2, "ddp")):  # a script each, as a group of processes is
        ended = start(part, str(number), str(made["auto 1"]), "part_of_a_course", ranks=number)
        assert ended.returncode == 0, ended.stderr[-5000:]
    return made


ALL = pytest.mark.parametrize("kind", ["ddp_fork 1", "ddp_fork 2", "ddp 2", "ddp 3"])
SEVERAL = pytest.mark.parametrize("kind", ["ddp_fork 2", "ddp 2", "ddp 3"])


def ranks(kind: str) -> int:
    return int(kind.split()[1])


def kept(folder: Path, name: str, kind: str) -> list[Any]:
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(ranks(kind))]


def assert_same(left: EasinessRecord, right: EasinessRecord, steps: list[int]) -> None:
    assert left.fields == right.fields
    assert torch.equal(left.target, right.target)
    for step in steps:
        for name in left.fields:
            a, b = (record.field(name, record.checkpoint_at(step=step)) for record in (left, right))
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=f"{name} at step {step}")


# ---------------------------------------------------------------------------------------------- evaluation passes


@SEVERAL
@pytest.mark.parametrize("case", CALLBACKS)
def test_evaluation_passes_do_not_depend_on_the_number_of_processes(
    case: str, kind: str, fits: dict[str, Path]
) -> None:
    """To the bit: a batch holds the same examples, and the same augmentations, whichever process reads it."""
    one, several = (
        {path: kept for path, kept in recorded(fits[name] / "registry" / case).items() if "probe" in path}
        for name in ("ddp_fork 1", kind)
    )
    assert_identical(several, one)
    assert bool(several) == (case not in ("online only", "every other epoch")), "two steps are trained"
    expected = kept(fits["ddp_fork 1"] / "registry" / case, "weights", "ddp_fork 1")[0]
    for weights in kept(fits[kind] / "registry" / case, "weights", kind):
        assert_identical(weights, expected)


@ALL
def test_the_default_writes_into_one_folder_and_can_be_monitored(kind: str, fits: dict[str, Path]) -> None:
    folder = fits[kind] / "default"
    seen = kept(folder, "seen", kind)
    assert seen == seen[:1] * ranks(kind), "all processes see the same numbers, and stop together"
    assert seen[0]["folder"] == str(folder / "csv" / "version_0" / "easiness")
    assert seen[0]["epochs"] == 2
    record, online = (EasinessRecord.load(seen[0]["folder"], name) for name in ("train-probe", "train-online"))
    assert (record.runs, record.steps.tolist()) == (["seed-9"], online.steps.tolist()[-1:])
    for series, loss in (("train-probe", record.loss), ("train-online", online.loss)):
        assert seen[0]["metrics"][f"easiness/{series}/mean_loss"] == pytest.approx(float(loss[0, -1].mean()))


@ALL
def test_buffers_that_differ_by_rank_do_not_matter(kind: str, fits: dict[str, Path]) -> None:
    folder = fits[kind] / "buffers"
    weights = kept(folder, "weights", kind)
    for rank, found in enumerate(weights):
        assert torch.equal(found["net.1.running_mean"], torch.full((16,), float(rank))), "each rank has its own back"
        assert int(found["net.1.num_batches_tracked"]) == rank
    module = Net()
    module.load_state_dict(weights[0])
    module.eval()
    with torch.no_grad():
        plain = nn.functional.cross_entropy(module(Points().x), Points().y, reduction="none")
    record = EasinessRecord.load(folder / "record")
    torch.testing.assert_close(record.loss[0, 0], plain)
    one = EasinessRecord.load(fits["ddp_fork 1"] / "buffers" / "record")
    assert_same(record, one, [0])


@ALL
def test_more_processes_than_batches(kind: str, fits: dict[str, Path]) -> None:
    """Three examples in one batch; in training they are padded until every process has as many."""
    folder = fits[kind] / "few" / "record"
    record, online = EasinessRecord.load(folder), EasinessRecord.load(folder, series="train-online")
    assert (record.steps.tolist(), record.num_examples) == ([0, 1], 3)
    assert_same(record, EasinessRecord.load(fits["ddp_fork 1"] / "few" / "record"), [0, 1])
    module = Constant()
    for checkpoint, when in enumerate(("start", "end")):
        module.load_state_dict(kept(fits[kind] / "few", when, kind)[0])
        plain = nn.functional.cross_entropy(module(Points(3).x), Points(3).y, reduction="none")
        torch.testing.assert_close(record.loss[0, checkpoint], plain.detach())
    assert int(online.count.sum()) == -(-3 // ranks(kind)) * ranks(kind)
    assert int(online.count.min()) == 1


# ---------------------------------------------------------------------------------------------- online


@ALL
def test_online_values_and_padding(kind: str, fits: dict[str, Path]) -> None:
    folder = fits[kind] / "online"
    trace = [entry for part in kept(folder, "trace", kind) for entry in part]
    record = EasinessRecord.load(folder / "record", series="train-online")
    padded = -(-53 // ranks(kind)) * ranks(kind)
    assert record.count.sum(-1).tolist() == [[padded, padded]]
    check_online(record, trace)
    averaged = record.probabilities()[torch.arange(53), Points().y]
    for index in range(53):
        seen = [math.exp(-entry[2]) for entry in trace if entry[1] == index]
        assert float(averaged[index]) == pytest.approx(sum(seen) / len(seen), abs=6e-4)


# ---------------------------------------------------------------------------------------------- training, state


def test_training_is_untouched(fits: dict[str, Path]) -> None:
    folder = fits["ddp 2"] / "untouched"
    without, observed = (kept(folder, name, "ddp 2") for name in ("without", "with"))
    assert_identical(without, observed)
    assert without[0]["losses"] != without[1]["losses"], "each rank trains on its own share"
    assert EasinessRecord.load(folder / "record").steps.tolist() == [0, 1, 4, 8]


def test_the_state_in_an_epochs_middle_holds_every_ranks_sums(fits: dict[str, Path]) -> None:
    states = torch.load(fits["ddp 2"] / "resumed" / "resumed-kept" / "step=6.ckpt", weights_only=True)["callbacks"]
    state = next(value for key, value in states.items() if "Easiness" in key)
    epoch = unpacked_epoch(state["online"], DataIdentity.of_target(Points().y))
    count = epoch.sums[-1]
    assert count.sum() == 2 * 7 * 2  # two processes, batches of seven, two of them
    assert state["online"]["probabilities"]["count"].sum() == 53 + 2 * 7 * 2, "of all epochs"
    assert count.max() == 1
    assert torch.equal(epoch.target >= 0, count > 0)


def test_resumed_equals_never_stopped(fits: dict[str, Path]) -> None:
    folder = fits["ddp 2"] / "resumed"
    whole, again = (kept(folder, f"{name}-weights", "ddp 2") for name in ("whole", "resumed"))
    assert_identical(whole, again)
    for series in ("train-probe", "train-online"):
        left, right = (EasinessRecord.load(folder / name, series=series) for name in ("whole", "resumed"))
        # the stopped fit ended with a pass at step 6; its epoch went on, and is recorded once
        extra = {6} if series == "train-probe" else set()
        assert sorted({*left.steps.tolist(), *extra}) == right.steps.tolist()
        assert_same(left, right, left.steps.tolist())
        assert torch.equal(left.probabilities(), right.probabilities())
    online: Tensor = EasinessRecord.load(folder / "resumed", series="train-online").count[0, -1]
    assert online.tolist() == [1] * 53, "what was restored counts once, and not once a process"


def given(epoch: int, processes: int, batches: slice) -> list[int]:
    """The examples of some batches of each of so many processes."""
    shards = [Shard(rank, processes) for rank in range(processes)]
    for shard in shards:
        shard.set_epoch(epoch)
    return [index for shard in shards for batch in list(shard)[batches] for index in batch]


def assert_counts(record: EasinessRecord, step: int, indices: list[int]) -> None:
    count = torch.bincount(torch.tensor(indices), minlength=53)
    assert record.field("count", record.checkpoint_at(step=step))[0].tolist() == count.tolist()


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_another_number_of_processes_loses_no_observation_and_counts_none_twice(
    before: int, now: int, fits: dict[str, Path]
) -> None:
    folder = fits[f"ddp_fork {before}"] / "stopped" / "record"
    online = EasinessRecord.load(folder, "train-online")
    second = given(1, before, slice(2)) + given(1, now, slice(2, None))
    for step, indices in ((4, given(0, before, slice(None))), (8, second)):
        assert_counts(online, step, indices)
    assert EasinessRecord.load(folder).steps.tolist()[-1] == 8


def test_one_process_then_three_then_two_are_one_course(fits: dict[str, Path]) -> None:
    """Twice within one epoch; and the averaged probabilities are of all that was trained on."""
    folder = fits["auto 1"] / "course" / "record"
    online = EasinessRecord.load(folder, "train-online")
    first = given(0, 1, slice(2)) + given(0, 3, slice(2, 3)) + given(0, 2, slice(3, None))
    second = given(1, 2, slice(None))
    assert online.steps.tolist() == [4, 8]
    assert_counts(online, 4, first)
    assert_counts(online, 8, second)
    seen = torch.bincount(torch.tensor(first + second), minlength=53)
    assert open_probabilities(folder / "only").read("count").tolist() == seen.tolist()
    assert EasinessRecord.load(folder).steps.tolist() == [4, 8]
    assert not list((folder / "only").glob(".earlier-*"))


def test_a_checkpoint_on_an_error_holds_what_every_process_saw(fits: dict[str, Path]) -> None:
    folder = fits["ddp 2"] / "failed"
    states = torch.load(folder / "failed.ckpt", weights_only=True)["callbacks"]
    online = next(value for key, value in states.items() if "Easiness" in key)["online"]
    assert online["probabilities"]["count"].sum() == 53 + 2 * 7 * 2
    left, right = recorded(folder / "whole"), recorded(folder / "failed")
    assert EasinessRecord.load(folder / "failed", "train-online").count.sum() == 2 * 53
    assert_identical(right, left)


# ---------------------------------------------------------------------------------------------- errors


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_error_of_the_first_rank_ends_all(tmp_path: Path) -> None:
    ended = start("ddp", "2", str(tmp_path), "unwritable")
    folder = tmp_path / "unwritable"
    assert ended.returncode != 0
    assert (
        f"RuntimeError: Run 'run-0' cannot be written into '{folder / 'record'}' (Not a directory): give `dirpath` a"
        " folder that this process may write to."
    ) in ended.stderr
    processes = [int(path.read_text()) for path in folder.glob("pid-*")]
    assert len(processes) == 2
    deadline = time.monotonic() + 30
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, processes))
