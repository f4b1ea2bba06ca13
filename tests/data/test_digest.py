"""Digests of targets: equal where targets are, on every device and for every way of batching, and else different."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.data.digest import FIRST_DIGEST, kept_digest, row_digest, step_target
from tests.processes import run
from tests.small import trainer

M64 = 2**64 - 1


def signed(value: int) -> int:
    value &= M64
    return value - 2**64 if value >> 63 else value


def shifted(value: int, by: int) -> int:
    """The arithmetic shift of an int64."""
    return (signed(value) >> by) & M64


def mix(value: int) -> int:
    value = value * (-7046029254386353131) & M64
    value = (value ^ shifted(value, 29)) * (-4417276706812531889) & M64
    return value ^ shifted(value, 32)


def slow_digest(row: list[float] | list[int]) -> int:
    """One row, in Python's integers."""
    total = 0
    for place, value in enumerate(row[:4096], 1):
        if isinstance(value, float):
            value = 0x7FC00000 if value != value else struct.unpack("<i", struct.pack("<f", value + 0.0))[0]
        else:
            value = 0x3F800000 if value == 1 else max(value, 0)
        total += mix(value & M64) * (mix(place * -7723592293110705685) | 1)
    total &= M64
    total = (total ^ shifted(total, 31)) * -7046029254386353131 & M64
    return ((total ^ shifted(total, 27)) & (FIRST_DIGEST - 1)) | FIRST_DIGEST


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_it_is_that_of_plain_integers_for_floats(rows: list[list[float]]) -> None:
    expected = [-1 if all(value != value for value in row) else slow_digest(row) for row in rows]
    assert row_digest(torch.tensor(rows), len(rows)).tolist() == expected


@given(st.lists(st.lists(st.integers(-100, 2**40), min_size=4, max_size=4), min_size=1, max_size=5))
def test_it_is_that_of_plain_integers_for_integers(rows: list[list[int]]) -> None:
    assert row_digest(torch.tensor(rows), len(rows)).tolist() == [slow_digest(row) for row in rows]


def test_it_is_on_disk_in_records_of_every_version() -> None:
    assert row_digest(torch.tensor([0.5, -2.0]), 2).tolist() == [slow_digest([0.5]), slow_digest([-2.0])]
    assert row_digest(torch.tensor([0.5]), 1).tolist() == [2749284974211105]


def test_rows_do_not_collide() -> None:
    draw = torch.Generator().manual_seed(0)
    for rows in ((torch.rand(100_000, 16, generator=draw) < 0.5).float(), torch.rand(100_000, 2, generator=draw)):
        assert len(row_digest(rows, len(rows)).unique()) == len(rows.unique(dim=0))


def test_a_batch_may_be_cut_padded_and_of_another_type() -> None:
    rows = torch.tensor([[3, 1, 0, 0], [2, 0, 0, 0]])
    both = row_digest(rows, 2)
    assert torch.equal(both[1:], row_digest(rows[1:], 1))
    assert torch.equal(both, row_digest(torch.tensor([[3, 1], [2, -100]]), 2)), "padded"
    assert torch.equal(both, row_digest(rows.int(), 2))
    halves = torch.tensor([0.5, -0.0, 2.0])
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        assert torch.equal(row_digest(halves, 3), row_digest(halves.to(dtype), 3))
    assert torch.equal(row_digest(halves, 3), row_digest(halves.abs()[:, None], 3)), "no negative zero; (B, 1) is (B,)"


@pytest.mark.parametrize("target", [None, "words", {"boxes": torch.zeros(2)}, torch.tensor(1.0), torch.zeros(3)])
def test_what_is_no_tensor_of_rows_has_none(target: object) -> None:
    assert row_digest(target, 2) is step_target(target, 2) is None


def test_an_unlabelled_example_is_unknown() -> None:
    nan = float("nan")
    assert (row_digest(torch.tensor([[nan, nan], [nan, 1.0]]), 2) < 0).tolist() == [True, False]


LABELS = torch.rand(7, 5, generator=torch.Generator().manual_seed(1)) < 0.5
CASES = [torch.arange(7) / 3, torch.arange(7)[:, None] / 3, LABELS.float(), LABELS, torch.eye(7).long()]


@pytest.mark.parametrize("target", CASES, ids=lambda target: f"{target.dtype} {tuple(target.shape)}")
def test_what_a_step_keeps_comes_to_the_digest_of_an_evaluation_pass(target: Tensor) -> None:
    assert torch.equal(kept_digest(step_target(target, 7)), row_digest(target, 7))
    assert torch.equal(row_digest(target, 7), row_digest(target.float(), 7)), "zeros and ones are the same of any type"


def test_a_step_does_not_go_by_what_training_may_mix_or_cut() -> None:
    mixed = torch.tensor([[0.3, 0.7], [0.0, 1.0]])
    assert (kept_digest(step_target(mixed, 2)) < 0).tolist() == [True, False]
    long = step_target(torch.ones(2, 4097), 2)
    assert kept_digest(torch.cat([long, step_target(mixed, 2)])).tolist()[:2] == [-1, -1], "beside shorter ones"
    assert step_target(torch.zeros(2, 4, 4), 2) is None
    assert step_target(torch.zeros(2, dtype=torch.int64), 2) is None, "class indices are no digest"


class Made(TorchDispatchMode):
    """Lists what makes a tensor out of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names += [func.__name__] if func.__name__.startswith(("arange", "full", "_to_copy")) else []
        return func(*args, **(kwargs or {}))


def test_steps_of_other_lengths_make_no_factors_again() -> None:
    step_target(torch.ones(2, 3, dtype=torch.int64), 2)
    with Made() as made:
        for length in range(4, 40):  # as batches of sequences have them
            step_target(torch.ones(2, length, dtype=torch.int64), 2)
    assert made.names == []


@pytest.mark.parametrize("of", [row_digest, step_target])
@pytest.mark.parametrize("target", CASES, ids=lambda target: f"{target.dtype} {tuple(target.shape)}")
def test_it_reads_nothing_back(target: Tensor, of: Callable[[Tensor, int], Tensor | None]) -> None:
    found, known = of(target.to("meta"), 7), of(target, 7)
    assert found is not None
    assert known is not None
    assert (found.device.type, found.shape, found.dtype) == ("meta", (7,), known.dtype), "there are no values to read"
    assert len(known.unique()) == len(target.unique(dim=0)), "and where there are, it goes by them"


def test_it_is_the_same_in_another_process() -> None:
    code = "import torch; from lightning_easiness.data.digest import row_digest as d\n"
    code += "g = torch.Generator().manual_seed(3); print(d(torch.rand(50, 3, generator=g), 50).tolist())"
    here = row_digest(torch.rand(50, 3, generator=torch.Generator().manual_seed(3)), 50).tolist()
    assert run("-c", code).stdout.strip() == str(here)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_is_the_same_on_a_gpu() -> None:
    for target in (torch.randn(999), torch.randn(999, 300), (torch.rand(999, 20) < 0.5).float()):
        assert torch.equal(row_digest(target.cuda(), 999).cpu(), row_digest(target, 999))
        assert torch.equal(kept_digest(step_target(target.cuda(), 999)), kept_digest(step_target(target, 999)))


class Lengths(Dataset[Any]):
    """Pairs of sequences of labels, of which some are longer than a digest goes."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        length = 4100 if index < 2 else 5
        return torch.ones(3, length), torch.ones(length, dtype=torch.int64)


class OfSequences(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv1d(3, 4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_sequences_of_which_some_are_very_long(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe=None, num_images=0)
    trainer(max_epochs=1, callbacks=[callback]).fit(OfSequences(), DataLoader(Lengths(), 2))
    assert not EasinessRecord.load(tmp_path, "train-online").score("mean_loss").values.isnan().any()
