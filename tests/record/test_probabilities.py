"""The file of probabilities that were averaged over training, and what a record makes of it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lightning_easiness import EasinessRecord
from lightning_easiness.record.layout import open_probabilities, probabilities_path
from tests.made_runs import kills, replace_forever, write_probabilities, write_run


def test_the_layout_on_disk(tmp_path: Path) -> None:
    written = write_probabilities(tmp_path, 0)
    with safe_open(probabilities_path(tmp_path / "seed-0"), "pt") as file:
        metadata, held = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    about = {"step": "240", "epoch": "2", "num_examples": "37", "num_classes": "5"}
    assert metadata.keys() >= {"checksum", "checksums"}
    shown = {name: text for name, text in metadata.items() if not name.startswith("checksum")}
    assert shown == {"format": "lightning_easiness.probabilities", "format_version": "1", **about}
    assert held.keys() == {"probabilities", "count"}
    torch.testing.assert_close(held["probabilities"], written.probabilities, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(held["count"], written.count)


def test_runs_are_averaged_over_those_that_saw_an_example(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, seed, series="train-online")
        write_run(tmp_path, seed)
    written = [write_probabilities(tmp_path, seed).probabilities.double() for seed in (0, 1, 2)]
    exact = [rows / rows.sum(1, keepdim=True) for rows in written]
    for series in ("train-online", "train-probe"):
        record = EasinessRecord.load(tmp_path, series)
        assert record.has_probabilities
        alone = record.probabilities(per_run=True)
        assert alone.shape == (3, 37, 5)
        torch.testing.assert_close(alone.double(), torch.stack(exact), atol=1e-6, rtol=0, equal_nan=True)
        wanted = np.nanmean(torch.stack(exact).numpy(), axis=0)
        torch.testing.assert_close(record.probabilities().double().numpy(), wanted, atol=1e-6, rtol=0)
        one = record.select_runs([1]).probabilities()
        assert one.isnan().any(1).nonzero().tolist() == [[1]]
    saved = EasinessRecord.load(tmp_path, "train-online")
    saved.save(tmp_path / "copy")
    copied = EasinessRecord.load(tmp_path / "copy", "train-online")
    torch.testing.assert_close(copied.probabilities(), saved.probabilities(), rtol=0, atol=0, equal_nan=True)
    assert EasinessRecord.merge(saved.select_runs([0]), copied.select_runs([1])).probabilities().shape == (37, 5)


def test_records_without_the_file_load_and_say_what_records_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, seed, series="train-online")
        write_run(tmp_path, seed, series="val-probe")
    write_probabilities(tmp_path, 0)
    record = EasinessRecord.load(tmp_path, "train-online")
    assert not record.has_probabilities
    messages = {
        "train-online": "No averaged probabilities were recorded in 1 of 2 runs, the first is 'seed-1': train with ",
        "val-probe": "Probabilities are averaged over training, but series 'val-probe' is not of training examples: ",
    }
    for series, message in messages.items():
        with pytest.raises(ValueError, match=f"^{message}"):
            EasinessRecord.load(tmp_path, series).probabilities()
    write_probabilities(tmp_path, 1, size=12)
    with pytest.raises(ValueError, match=r"holds 12 examples of 5 classes, but the record has 37 of 5"):
        record.probabilities()


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    last = 0
    for last in kills(replace_forever, tmp_path, times=12, after=(0.3, 0.6)):
        if last >= 0:
            file = open_probabilities(tmp_path / "a")
            assert file.step >= last
            assert (file.read("count") == file.step).all()
            assert (file.read("probabilities") == torch.tensor(file.step % 1000 / 1000).half()).all()
    assert last > 10
