"""What a run trained on and held out, on disk: written, replaced, damaged, mixed and missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord
from lightning_easiness.data.observation import HeldOutProbabilities, TrainedOn
from lightning_easiness.record.layout import held_out_path, trained_on_path
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_CLASSES, NUM_EXAMPLES, append, load_and_catch, whole, write_run


def part(seed: int, size: int = NUM_EXAMPLES) -> Tensor:
    return torch.arange(size) % 4 == seed


def rows(seed: int, number: int, num_classes: int = NUM_CLASSES) -> Tensor:
    return torch.randn(number, num_classes, generator=torch.Generator().manual_seed(seed)).softmax(1).half()


def hold_out(
    folder: Path, seed: int, *, size: int = NUM_EXAMPLES, num_classes: int = NUM_CLASSES, predicts: bool = True
) -> Path:
    """Make the run of a seed one that held out every fourth example."""
    held_out = part(seed, size)
    with RunWriter(folder, f"seed-{seed}", seed=seed, resume=True) as writer:
        writer.write(TrainedOn(240, ~held_out, held_out))
        if predicts:
            example = held_out.nonzero()[:, 0]
            writer.write(HeldOutProbabilities(240, 2, example, rows(seed, len(example), num_classes)))
        writer.complete()
    return writer.path


def write(folder: Path, *seeds: int) -> Path:
    for seed in seeds:
        write_run(folder, seed)
        hold_out(folder, seed)
    return folder


def test_masks_and_probabilities_come_back(tmp_path: Path) -> None:
    record = EasinessRecord.load(write(tmp_path, 0, 1, 2))
    expected = torch.stack([part(seed) for seed in range(3)])
    assert record.holds_out
    assert torch.equal(record.held_out, expected)
    assert torch.equal(record.trained_on, ~expected)
    assert record.has_held_out_probabilities
    found = record.held_out_probabilities()
    for seed in range(3):
        kept = rows(seed, int(part(seed).sum())).float()
        torch.testing.assert_close(found[part(seed)], kept / kept.sum(1, keepdim=True))
    assert found[part(3)].isnan().all()


def test_probabilities_are_the_mean_over_the_runs_that_held_an_example_out(tmp_path: Path) -> None:
    write(tmp_path, 0, 1)
    held_out = torch.zeros(NUM_EXAMPLES, dtype=torch.bool)
    held_out[:5] = True
    made = [rows(9, 5), rows(10, 5)]
    made[1][3] = torch.nan  # that run had diverged on it
    for seed in (0, 1):
        with RunWriter(tmp_path, f"seed-{seed}", seed=seed, resume=True) as writer:
            writer.write(TrainedOn(240, ~held_out, held_out))
            writer.write(HeldOutProbabilities(240, 2, torch.arange(5), made[seed]))
            writer.complete()
    found = EasinessRecord.load(tmp_path).held_out_probabilities()
    expected = (made[0].float() + made[1].float()) / 2
    torch.testing.assert_close(found[:5], expected, atol=1e-3, rtol=0, equal_nan=True)
    assert found[3].isnan().all()
    assert found[5:].isnan().all()


def test_a_run_of_an_earlier_version_trained_on_everything(tmp_path: Path) -> None:
    record = EasinessRecord.load(write_run(tmp_path, 0))
    assert not record.holds_out
    assert record.trained_on.all()
    assert not record.held_out.any()
    assert not record.has_held_out_probabilities


@pytest.mark.parametrize("kept", [0, 20, 100])
def test_a_run_whose_masks_are_damaged_is_left_out_with_a_word(tmp_path: Path, kept: int) -> None:
    write(tmp_path, 0, 1)
    path = trained_on_path(tmp_path / "seed-1")
    path.write_bytes(path.read_bytes()[:kept])
    record, caught = load_and_catch(tmp_path)
    assert record.runs == ["seed-0"]
    assert len(caught) == 1
    assert caught[0].startswith(f"Left out: '{path}' is truncated or not a safetensors file")
    assert caught[0].endswith("What run 'seed-1' trained on is not known, so that all of it is left out.")


def test_masks_of_another_data_set_are_left_out_with_their_run(tmp_path: Path) -> None:
    write(tmp_path, 0, 1)
    hold_out(tmp_path, 1, size=30)
    record, caught = load_and_catch(tmp_path)
    assert record.runs == ["seed-0"]
    message = (
        f"Left out: '{trained_on_path(tmp_path / 'seed-1')}' is of 30 examples, series 'train-probe' of 37. What run"
        " 'seed-1' trained on is not known, so that all of it is left out."
    )
    assert caught == [message]


def test_loading_leaves_out_the_runs_that_did_not_hold_out(tmp_path: Path) -> None:
    write(tmp_path, 0, 1)
    write_run(tmp_path, 2)
    record, caught = load_and_catch(tmp_path)
    assert record.runs == ["seed-0", "seed-1"]
    assert len(caught) == 1
    assert "seed-2" in caught[0]


def test_merging_runs_that_held_out_and_runs_that_did_not_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", 0)
    write_run(tmp_path / "b", 1)
    records = [EasinessRecord.load(tmp_path / name) for name in "ab"]
    message = (
        "Run 'seed-0' held out a part of the examples and run 'seed-1' did not, so that their scores do not mean the"
        " same: load those of one kind with runs=[...]."
    )
    for order in (records, records[::-1]):
        with pytest.raises(ValueError, match=whole(message)):
            EasinessRecord.merge(*order)


def test_a_run_without_its_probabilities(tmp_path: Path) -> None:
    write(tmp_path, 0, 1)
    path = held_out_path(tmp_path / "seed-1")
    path.unlink()
    record, warnings = load_and_catch(tmp_path)
    assert warnings == [f"Left out: '{path}' is missing: copy it here again, or train the run anew."]
    assert not record.has_held_out_probabilities
    message = (
        "No probabilities of what was held out are recorded in 1 of 2 runs, the first is 'seed-1': its training is not"
        " complete, or it is no classification."
    )
    with pytest.raises(ValueError, match=whole(message)):
        record.held_out_probabilities()


def test_probabilities_of_another_module(tmp_path: Path) -> None:
    write(tmp_path, 0, 1)
    hold_out(tmp_path, 1, num_classes=7)
    with pytest.raises(ValueError, match=r"is of 7 classes and examples up to 33, but the record has 37 examples of 5"):
        EasinessRecord.load(tmp_path).held_out_probabilities()


def test_what_is_written_without_an_end_is_no_complete_run(tmp_path: Path) -> None:
    write(tmp_path, 0)
    with RunWriter(tmp_path, "seed-0", seed=0, resume=True) as writer:
        writer.write(TrainedOn(240, ~part(0), part(0)))
    assert not EasinessRecord.load(tmp_path)._runs[0].info.complete
    with RunWriter(tmp_path, "seed-0", seed=0, resume=True) as writer:
        append(writer, 360)
        writer.complete()
    assert EasinessRecord.load(tmp_path).holds_out


def test_a_saved_record_is_the_same(tmp_path: Path) -> None:
    record = EasinessRecord.load(write(tmp_path / "a", 0, 1, 2)).select_runs([2, 0])
    record.save(tmp_path / "b")
    again = EasinessRecord.load(tmp_path / "b", runs=record.runs)
    assert torch.equal(again.held_out, record.held_out)
    assert torch.equal(again.trained_on, record.trained_on)
    torch.testing.assert_close(again.held_out_probabilities(), record.held_out_probabilities(), equal_nan=True)
