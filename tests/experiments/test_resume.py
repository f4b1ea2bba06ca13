"""The checkpoint that a run continues from: a file or a folder, replaced in any order of kills, of any strategy."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io import torch_io
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from lightning_easiness import EasinessCallback, repeat_fit
from lightning_easiness.experiments.resume import ResumePoint, remove_resume_point, replace
from tests.repeated_runs import Modules
from tests.small import Net, Points, loader, recorded, trainer

KINDS = ("file", "folder")


def put(path: Path, kind: str, content: str) -> None:
    """A whole checkpoint."""
    if kind == "folder":
        path.mkdir()
        for name in ("a", "b"):
            (path / name).write_text(content)
    else:
        path.write_text(content)


def content_of(path: Path) -> set[str]:
    """What a checkpoint holds; a part of a folder is none."""
    if path.is_dir():
        assert sorted(part.name for part in path.iterdir()) == ["a", "b"], "a whole one"
        return {part.read_text() for part in path.iterdir()}
    return {path.read_text()}


class Killed(BaseException):
    pass


def killed_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th operation on files be the last; one that removes a folder ends halfway."""
    operations: Iterator[int] = count()

    def guarded(operation: Any) -> Any:
        def run(path: Any, *rest: Any, **options: Any) -> Any:
            is_last = next(operations) == moment
            if is_last and operation is shutil.rmtree:
                next(Path(path).iterdir()).unlink()
            if is_last:
                raise Killed
            return operation(path, *rest, **options)

        return run

    for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, guarded(getattr(owner, name)))


@pytest.mark.parametrize("moment", range(5))
@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(
    new: str, old: str, moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, path, before = (tmp_path / name for name in ("beside", "path", "before"))
    put(path, old, "old")
    put(beside, new, "new")
    with monkeypatch.context() as patched:
        killed_at(moment, patched)
        try:
            replace(beside, path, before)
            ended = True
        except Killed:
            ended = False
    found = path if path.exists() else before
    assert content_of(found) == ({"new"} if ended else content_of(found) & {"old", "new"})
    assert content_of(found)
    if beside.exists():
        shutil.rmtree(beside) if new == "folder" else beside.unlink()
    put(beside, new, "newer")
    replace(beside, path, before)
    assert [part.name for part in tmp_path.iterdir()] == ["path"], "and nothing else stays"
    assert content_of(path) == {"newer"}


def test_nothing_is_left_of_a_run_that_is_complete(tmp_path: Path) -> None:
    for name, kind in (("resume.ckpt", "folder"), (".tmp-resume.ckpt", "folder"), (".before-resume.ckpt", "file")):
        put(tmp_path / name, kind, "whole")
    (tmp_path / "run.json").touch()
    remove_resume_point(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def under(strategy: Any) -> Any:
    return SimpleNamespace(strategy=strategy)


SHARDED, PLAIN = under(ModelParallelStrategy(1, 1)), under(DDPStrategy())


def a_folder(path: Path) -> Path:
    path.mkdir()
    torch.save({"epoch": 1}, path / "meta.pt")
    return path


def test_it_is_sent_to_processes_that_a_strategy_starts_with_the_callback_that_it_asks(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path)
    sent, point = pickle.loads(pickle.dumps([callback, ResumePoint(tmp_path, callback)]))
    assert point._observer is sent


def test_a_folder_is_resumed_from_under_a_strategy_that_saves_folders(tmp_path: Path) -> None:
    point = ResumePoint(tmp_path)
    assert point.found(SHARDED) is None
    before = a_folder(tmp_path / ".before-resume.ckpt")
    assert point.found(SHARDED) == str(before), "a kill while the next one took its place"
    path = a_folder(tmp_path / "resume.ckpt")
    assert point.found(SHARDED) == str(path)
    (path / "meta.pt").unlink()
    assert point.found(SHARDED) == str(path), "another strategy's"


def test_a_folder_under_another_strategy_or_with_damaged_metadata_begins_the_run_again(tmp_path: Path) -> None:
    point, path = ResumePoint(tmp_path), a_folder(tmp_path / "resume.ckpt")
    with pytest.warns(UserWarning, match=r"'.*resume.ckpt' was saved under another strategy than DDPStrategy; its run"):
        assert point.found(PLAIN) is None
    (path / "meta.pt").write_bytes(b"?")
    with pytest.warns(UserWarning, match=r"'.*resume.ckpt' is damaged, or holds more .*; its run starts again"):
        assert point.found(SHARDED) is None


def test_a_checkpoint_that_another_process_removed_as_it_completed_the_run_is_named(tmp_path: Path) -> None:
    point, path = ResumePoint(tmp_path), a_folder(tmp_path / "resume.ckpt")
    fit: Any = (SHARDED, None, "fit")
    assert point.found(SHARDED) == str(path)
    shutil.rmtree(path)
    with pytest.raises(RuntimeError, match=r"resume.ckpt' is gone, as another process has trained its run in the mean"):
        point.setup(*fit)


def repeat(folder: Path, make_module: Any) -> dict[str, Any]:
    data = loader(Points(augment=True))
    repeat_fit(lambda: trainer(max_epochs=3), make_module, data, seeds=(1,), dirpath=folder, progress=False)
    return recorded(folder, hidden=False)


def test_a_full_disk_keeps_the_checkpoint_before_and_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, kept = torch_io._atomic_save, []

    def full(checkpoint: dict[str, Any], path: Any) -> None:
        if checkpoint["epoch"] == 1:
            kept.append(Path(path).with_name("resume.ckpt").exists())
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, path)

    monkeypatch.setattr(torch_io, "_atomic_save", full)
    message = r"'.*resume.ckpt' could not be saved in epoch 1 \(No space left on device\), so that after a kill the run"
    with pytest.warns(UserWarning, match=message):
        found = repeat(tmp_path / "full", Net)
    assert kept == [True]
    monkeypatch.undo()
    assert found == repeat(tmp_path / "whole", Net)


def test_a_checkpoint_of_before_with_the_state_of_the_first_process_alone_is_gone_on_with(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    module = Modules(1)
    with pytest.raises(ArithmeticError):
        repeat(tmp_path / "old", module)
    path = tmp_path / "old" / "seed-1" / "resume.ckpt"
    held = torch.load(path, weights_only=True)
    (held["callbacks"]["_Resume"],) = held["callbacks"]["_Resume"]["ranks"]
    torch.save(held, path)
    assert repeat(tmp_path / "old", module) == repeat(tmp_path / "whole", Net)
    assert not [one for one in recwarn if "starts again" in str(one.message)]
