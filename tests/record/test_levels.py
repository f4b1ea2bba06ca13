"""What a record says of easiness levels and of confidence, also one that was written before levels were recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.functional import easiness_level, margin, sample_easiness
from tests.made_runs import whole, write_run

SIZE = 300


def logits_of(num_classes: int) -> tuple[Tensor, Tensor]:
    """Outputs of all levels, some of which tie."""
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(SIZE, num_classes, generator=stream) * torch.linspace(0, 3, SIZE)[:, None]
    target = torch.arange(SIZE) % num_classes
    logits[torch.arange(0, SIZE, 3), target[::3]] += 15
    return logits, target


def write(folder: Path, num_classes: int, *, before: bool = False, online: bool = False, **changes: object) -> None:
    """Write a run whose one checkpoint is of `logits_of`; `before` levels were recorded."""
    logits, target = logits_of(num_classes)
    wins = sample_easiness(logits, target, per_class=True)
    fields = {
        "loss": torch.nn.functional.cross_entropy(logits, target, reduction="none"),
        "correct": logits.argmax(1) == target,
        "margin": margin(logits, target),
        "sample_easiness": wins.prod(1),
    }
    if not before:
        fields["weakest_comparison"] = wins.amin(1)
    if online:
        fields["count"] = torch.arange(SIZE, dtype=torch.int32) % 3
    write_run(folder, 0, steps=(10,), fields=fields, target=target, num_classes=num_classes, **changes)


@pytest.mark.parametrize("num_classes", [2, 12, 100])
def test_levels_of_a_record_are_those_of_the_outputs(num_classes: int, tmp_path: Path) -> None:
    write(tmp_path, num_classes)
    logits, target = logits_of(num_classes)
    record = EasinessRecord.load(tmp_path)
    for tol in (5e-4, 0.1):
        expected = easiness_level(sample_easiness(logits, target, per_class=True), tol)
        assert len(expected.unique()) == 3
        assert torch.equal(record.easiness_level(-1, tol), expected[None])
        assert torch.equal(record.easiness_level(tol=tol), expected[None, None])


def test_of_two_classes_a_record_of_before_has_the_same_levels(tmp_path: Path) -> None:
    write(tmp_path / "before", 2, before=True)
    write(tmp_path / "now", 2)
    before, now = (EasinessRecord.load(tmp_path / name) for name in ("before", "now"))
    assert before.has_levels
    assert torch.equal(before.easiness_level(), now.easiness_level())
    assert torch.equal(before.weakest_comparison, now.weakest_comparison)


def test_of_more_classes_a_record_of_before_has_none_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, 3, before=True)
    record = EasinessRecord.load(tmp_path)
    message = (
        "Series 'train-probe' was recorded before levels went by the weakest comparison, and sample easiness of more"
        " than two classes does not tell hard from medium: record it anew, or take the examples between two values of"
        " `sample_easiness`."
    )
    assert not record.has_levels
    with pytest.raises(ValueError, match=whole(message)):
        record.easiness_level()


def test_a_series_without_easiness_has_no_levels(tmp_path: Path) -> None:
    write_run(tmp_path, 0, fields={"loss": torch.rand(SIZE)})
    record = EasinessRecord.load(tmp_path)
    assert not record.has_levels
    with pytest.raises(ValueError, match="Sample easiness, which has levels, is not in series 'train-probe'"):
        record.easiness_level()


@pytest.mark.parametrize("num_classes", [2, 100])
def test_confidence_of_a_record_is_the_largest_softmax_output(num_classes: int, tmp_path: Path) -> None:
    write(tmp_path, num_classes)
    record, expected = EasinessRecord.load(tmp_path), logits_of(num_classes)[0].softmax(1).amax(1)
    torch.testing.assert_close(record.max_probability(0), expected[None], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(record.max_probability(), expected[None, None], rtol=1e-5, atol=1e-6)


def test_a_mean_over_several_outputs_has_no_confidence(tmp_path: Path) -> None:
    write(tmp_path, 3, online=True, series="train-online")
    found = EasinessRecord.load(tmp_path).max_probability(0)[0]
    assert found.isnan().tolist() == (torch.arange(SIZE) % 3 == 2).tolist()


def test_another_loss_has_no_confidence(tmp_path: Path) -> None:
    write(tmp_path, 3, loss_name="smoothed")
    with pytest.raises(ValueError, match="series 'train-probe' holds 'smoothed': record without `loss_fn`"):
        EasinessRecord.load(tmp_path).max_probability()
