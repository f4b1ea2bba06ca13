"""A run that diverged is named; ordinary seeds are not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness.record.divergence import is_far_above, is_far_below
from lightning_easiness.record.files import ArrayFile
from lightning_easiness.record.layout import checkpoint_paths
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import append, load_and_catch, loads_with_warnings
from tests.repeated_runs import never

N, NAN = 400, math.nan


def write(
    folder: Path,
    seed: int,
    accuracy: float,
    *,
    lost: float = 0.0,
    size: int = N,
    source_index: Tensor | None = None,
    **changes: object,
) -> None:
    """A run with this accuracy in its last checkpoint, and this share of its losses lost."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    correct = order < accuracy * size
    loss = torch.where(order < lost * size, NAN, torch.where(correct, 0.1, 2.0))
    fields: dict[str, Tensor] = {"loss": loss, "correct": correct, **changes}  # type: ignore[dict-item]
    with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
        append(writer, fields=fields, target=torch.arange(size) % 5, num_classes=5, source_index=source_index)
        writer.complete()


def sentence(run: str, why: str) -> str:
    return (
        f"Run '{run}' seems to have diverged ({why}) and is in every mean: leave it out with runs=[...], or delete its"
        " folder and train it again."
    )


def test_a_run_at_chance_among_good_ones_is_named(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.95, 0.2, 0.96)):
        write(tmp_path, seed, accuracy)
    message = sentence("seed-1", "its accuracy is 0.2, the median of the others 0.955")
    assert loads_with_warnings(tmp_path, message).num_runs == 3
    assert loads_with_warnings(tmp_path, runs=["seed-0", "seed-2"]).num_runs == 2


def test_a_run_whose_losses_are_nan_is_named_where_there_are_others(tmp_path: Path) -> None:
    for seed, lost in enumerate((0.0, 1.0, 0.3)):
        write(tmp_path, seed, 0.9, lost=lost)
    message = sentence("seed-1", "its losses are NaN or infinite")
    loads_with_warnings(tmp_path, message)
    loads_with_warnings(tmp_path, runs="seed-1")


def test_examples_that_were_not_seen_are_not_lost(tmp_path: Path) -> None:
    for seed in range(3):
        count = (torch.arange(N) < 100).int()
        write(tmp_path, seed, 0.9, lost=0.0, count=count, loss=torch.where(count > 0, 0.1, NAN))
    loads_with_warnings(tmp_path)


def test_many_runs_of_which_several_diverged(tmp_path: Path) -> None:
    for seed in range(10):
        write(tmp_path, seed, 0.2 if seed in (3, 7) else 0.9 + 0.005 * seed)
    _, messages = load_and_catch(tmp_path)
    assert [message.split("'")[1] for message in messages] == ["seed-3", "seed-7"]


def test_of_a_large_data_set_a_part_is_read(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.9, 0.21, 0.9)):
        write(tmp_path, seed, accuracy, size=200_000)
    _, (message,) = load_and_catch(tmp_path)
    assert message.startswith("Run 'seed-1' seems to have diverged (its accuracy is 0.21, the median of the others 0.9")


@pytest.mark.parametrize("counts", [False, True])
def test_loading_a_large_record_reads_no_whole_field(
    counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, read = 200_003, ArrayFile.read
    fields = {"count": torch.ones(size, dtype=torch.int32)} if counts else {}
    for seed in range(2):
        write(tmp_path, seed, 0.9, size=size, source_index=torch.arange(size), **fields)

    def mapped(file: ArrayFile, name: str) -> Tensor:
        assert name in ("target", "source_index"), "which are not looked at"
        monkeypatch.setattr(torch, "equal", never)
        return read(file, name)

    monkeypatch.setattr(ArrayFile, "read", mapped)
    assert EasinessRecord.load(tmp_path).num_runs == 2


def test_blocks_of_a_file_are_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, 0, 0.5, size=1001)
    (path,) = checkpoint_paths(tmp_path / "seed-0", "train-probe").values()
    file, blocks = ArrayFile.open(path), [slice(8, 24), slice(904, 1000)]
    for name in file.fields:
        assert torch.equal(file.read_blocks(name, blocks), torch.cat([file.read(name)[block] for block in blocks]))


@pytest.mark.parametrize("mean", [0.22, 0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("spread", [0.001, 0.02, 0.08])
@pytest.mark.parametrize("size", [150, 60_000])
def test_ordinary_seeds_are_not_named(mean: float, spread: float, size: int) -> None:
    """In 300 records of ten runs, at most one run of 3,000."""
    draw, named = np.random.default_rng(0), 0
    for _ in range(300):
        true = np.clip(draw.normal(mean, min(spread, (mean - 0.1) / 4), 10), 0.05, 0.999)  # all have learnt something
        found = (draw.binomial(size, true) / size).tolist()
        named += sum(is_far_below(found[at], found[:at] + found[at + 1 :], 0.1, size) for at in range(10))
    assert named <= 1


@pytest.mark.parametrize(("accuracy", "others", "chance"), [(0.1, [0.5, 0.6], 0.1), (0.5, [0.97], 0.5)])
def test_chance_is_far_below_what_was_learnt(accuracy: float, others: list[float], chance: float) -> None:
    assert is_far_below(accuracy, others, chance, 1000)
    assert not is_far_below(others[0], [accuracy, *others[1:]], chance, 1000)


def test_losses_without_correctness(tmp_path: Path) -> None:
    for seed, loss in enumerate((0.1, 3.0, 0.12, 0.09)):
        with RunWriter(tmp_path, f"seed-{seed}", seed=seed) as writer:
            append(writer, fields={"loss": torch.full((N,), loss)}, target=None, num_classes=None, loss_name="mse")
            writer.complete()
    loads_with_warnings(tmp_path, sentence("seed-1", "its mean loss is 3, the median of the others 0.1"))


def test_ordinary_losses_are_not_named() -> None:
    draw = np.random.default_rng(1)
    for _ in range(300):
        found = np.exp(0.3 * draw.standard_t(3, 10)).tolist()
        assert not any(is_far_above(found[at], found[:at] + found[at + 1 :]) for at in range(10) if found[at] < 10)
    assert not is_far_above(1.0, [])
    assert not is_far_above(1.0, [0.0, 0.0]), "of losses that may be zero nothing is said"
