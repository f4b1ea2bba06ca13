"""Whole files of other runs, in the place of one's own: named, or done again, and never taken for what they are not."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessCallback, StepwiseCompression, compare_selections, repeat_fit
from lightning_easiness.experiments.compression import Step, read_step, write_step
from lightning_easiness.experiments.resume import ResumePoint, remove_resume_point
from lightning_easiness.record import writer
from tests.repeated_runs import Data, Modules, WithTest
from tests.small import Net, Points, loader, recorded, trainer


def repeat(folder: Path, seed: int, make_module: Any = Net, **options: Any) -> None:
    data = loader(Points(augment=True))
    arguments = {"seeds": (seed,), "dirpath": folder, "progress": False, **options}
    repeat_fit(lambda: trainer(max_epochs=3), make_module, data, **arguments)


def begun(folder: Path, seed: int, **options: Any) -> None:
    with pytest.raises(ArithmeticError):
        repeat(folder, seed, Modules(1), **options)


def test_the_run_json_of_another_seed_does_not_complete_a_run(tmp_path: Path) -> None:
    begun(tmp_path / "here", 1)
    repeat(tmp_path / "there", 2)
    path = tmp_path / "here/seed-1/run.json"
    own = path.read_bytes()
    shutil.copy(tmp_path / "there/seed-2/run.json", path)
    message = (
        f"'{path}' is of another run, of seed 2: copy the one of this run here again, or delete '{path.parent}' to"
        " train it anew."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        repeat(tmp_path / "here", 1)
    path.write_bytes(own)
    repeat(tmp_path / "here", 1)
    repeat(tmp_path / "whole", 1)
    assert recorded(tmp_path / "here", hidden=False) == recorded(tmp_path / "whole")


def test_a_run_does_not_hold_out_what_another_seed_holds_out(tmp_path: Path) -> None:
    for folder, seed in (("here", 1), ("there", 2)):
        begun(tmp_path / folder, seed, hold_out=0.3)
    path = tmp_path / "here/seed-1/trained-on.safetensors"
    own = path.read_bytes()
    shutil.copy(tmp_path / "there/seed-2/trained-on.safetensors", path)
    run_file = path.with_name("run.json")
    message = f"'{path}' and '{run_file}' are not of the same run: copy the right one here again."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        repeat(tmp_path / "here", 1, hold_out=0.3)
    path.write_bytes(own)
    repeat(tmp_path / "here", 1, hold_out=0.3)
    repeat(tmp_path / "whole", 1, hold_out=0.3)
    assert recorded(tmp_path / "here", hidden=False) == recorded(tmp_path / "whole")


@pytest.mark.parametrize("other", [{"seeds": (3, 4)}, {"datamodule": loader(Points(seed=1))}], ids=["seeds", "data"])
def test_what_another_compression_kept_is_decided_again(tmp_path: Path, other: dict[str, Any]) -> None:
    def compress(folder: Path, **changes: Any) -> torch.Tensor:
        given = {"datamodule": loader(Points()), "seeds": (1, 2), "progress": False, **changes}
        data = given.pop("datamodule")
        return StepwiseCompression(trainer, Net, data, ratio=0.2, step=0.1, dirpath=folder, **given).run()

    kept = compress(tmp_path / "here")
    compress(tmp_path / "there", **other)
    path = Path("step-1/kept-0.1.safetensors")
    own = (tmp_path / "here" / path).read_bytes()
    shutil.copy(tmp_path / "there" / path, tmp_path / "here" / path)
    with pytest.warns(UserWarning, match=r"kept-0.1.safetensors' is .*; its step is decided again"):
        assert torch.equal(compress(tmp_path / "here"), kept)
    assert (tmp_path / "here" / path).read_bytes() == own


def test_what_a_step_kept_says_what_it_was_decided_by(tmp_path: Path) -> None:
    path = tmp_path / "kept-0.1.safetensors"
    step = Step(torch.tensor([0]), torch.tensor([0.5, 1.0]), torch.tensor([1, 0]))
    write_step(path, step, "12345678")
    assert read_step(path, "12345678") is not None
    with pytest.warns(UserWarning, match="not of this compression; its step is decided again"):
        assert read_step(path, "87654321") is None
    write_step(path, step)
    assert read_step(path, "12345678") is not None, "of an earlier version"


def test_no_run_goes_on_from_an_epoch_of_which_something_is_in_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the record is full from the second epoch on, until the process is gone."""
    repeat(tmp_path / "whole", 1)
    append = writer.RunWriter.append

    def full(self: Any, observation: Any) -> Any:
        if observation.epoch > 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(self, observation)

    with monkeypatch.context() as patched:
        patched.setattr(writer.RunWriter, "append", full)
        with pytest.warns(UserWarning, match="wait in memory"):
            repeat(tmp_path / "full", 1)
    run = tmp_path / "full/seed-1"
    assert torch.load(run / "resume.ckpt", weights_only=True)["epoch"] == 0
    repeat(tmp_path / "full", 1)
    assert recorded(tmp_path / "full", hidden=False) == recorded(tmp_path / "whole")


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *data: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("lightning_easiness.experiments.comparison.write_whole", refuse)
    given = {"ratios": (0.5,), "methods": ("random",), "seeds": (1,), "metric": "val_loss", "progress": False}
    message = r"comparison-epochs-val_loss.csv' was not written \(Permission denied\): make room on the disk, or let it"
    with pytest.raises(OSError, match=message):
        compare_selections(trainer, WithTest, Data(), dirpath=tmp_path, **given)


def test_what_is_left_in_a_folder_that_is_closed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resume.ckpt").touch()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    remove_resume_point(tmp_path)
    assert (tmp_path / "resume.ckpt").exists()


def test_a_callback_says_whether_it_waits() -> None:
    assert not EasinessCallback().is_waiting
    assert ResumePoint(Path()).state_dict() == {}
