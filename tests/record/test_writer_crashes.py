import errno
import os
import sys
from pathlib import Path

import pytest

from lightning_easiness.record import files as checkpoint_file
from lightning_easiness.record.layout import checkpoint_paths, list_series, open_checkpoint, read_identity
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import append, append_forever, kills, whole
from tests.processes import run


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]


# ------------------------------------------------------------------ folders that cannot be written to


CANNOT = "[Errno {}] Run 'a' cannot be written into '{}' ({}): give `dirpath` a folder that this process may write to."


@pytest.mark.parametrize("what", ["mkdir", "open"])
def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path if what == "mkdir" else checkpoint_file, what, refuse, raising=False)
    message = CANNOT.format(errno.EACCES, tmp_path, "Permission denied")
    with pytest.raises(PermissionError, match=whole(message)):
        RunWriter(tmp_path, "a")
    monkeypatch.undo()
    RunWriter(tmp_path, "a").close()  # and the lock was let go


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("before", [(), (120,)], ids=["first checkpoint", "later checkpoint"])
def test_a_full_disk_leaves_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: tuple[int, ...]
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    message = (
        f"[Errno 28] Step 240 of series 'train-probe' was not written into '{tmp_path}/a' (No space left on device): "
        "fix that; all checkpoints before it are whole."
    )
    with RunWriter(tmp_path, "a") as writer:
        for step in before:
            append(writer, step=step)
        files = sorted(tmp_path.rglob("*.safetensors"))
        with monkeypatch.context() as full:
            full.setattr(os, call, refuse)
            with pytest.raises(OSError, match=whole(message)) as caught:
                append(writer, step=240)
        assert caught.value.errno == errno.ENOSPC
        assert sorted(tmp_path.rglob("*.safetensors")) == files
        assert not leftovers(tmp_path)
        append(writer, step=240)  # the writer goes on when there is room again
        assert writer.steps("train-probe") == (*before, 240)


LIMITED = """
import resource, sys, torch
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with RunWriter(sys.argv[1], "a") as writer:
    fields = {"loss": torch.ones(100_000)}
    writer.append(Observation("train-probe", 1, 0, fields, DataIdentity(100_000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the kernel cuts the write in its middle
    try:
        writer.append(Observation("train-probe", 2, 0, fields, DataIdentity(100_000)))
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_write_that_the_kernel_cuts_short_leaves_nothing_partial(tmp_path: Path) -> None:
    done = run("-c", LIMITED, tmp_path)
    assert done.stdout == (
        f"Step 2 of series 'train-probe' was not written into '{tmp_path}/a' (File too large): "
        "fix that; all checkpoints before it are whole.\n"
    )
    assert not leftovers(tmp_path)
    assert tuple(checkpoint_paths(tmp_path / "a", "train-probe")) == (1,)


def test_a_file_is_on_disk_before_it_has_its_name_and_the_name_thereafter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a power cut, too, leaves the old file or the new one."""
    calls: list[object] = []
    rename = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("named"), rename(old, new)))
    checkpoint_file.write_whole(tmp_path / "a", b"12")
    assert calls == [(tmp_path / "a").stat().st_ino, "named", tmp_path.stat().st_ino]


def test_a_file_system_that_syncs_names_by_itself_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(checkpoint_file.os, "fsync", only_files)
    with RunWriter(tmp_path, "a") as writer:
        append(writer)


# ------------------------------------------------------------------ kills


def test_leftovers_of_a_kill_are_ignored_and_removed_by_the_next_writer(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "a") as writer:
        written = append(writer)
    run = written.parents[1]
    partial = [run / ".tmp-1-run.json", written.parent / f".tmp-1-{written.name}"]
    for path in partial:
        path.write_bytes(written.read_bytes()[:50])
    assert tuple(checkpoint_paths(run, "train-probe")) == (120,)
    assert list_series(run) == ("train-probe",)
    with RunWriter(run.parent, run.name, resume=True):
        assert not leftovers(run)
    assert written.exists()


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_kill_at_any_moment_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    last = before = -1
    for last in kills(append_forever, tmp_path, times=20, after=(0.0, 0.3)):
        files = [open_checkpoint(path) for path in checkpoint_paths(tmp_path / "a", "train-online").values()]
        assert [file.step for file in files] == list(range(len(files)))
        assert len(files) > last >= before
        for file in files[-3:]:
            assert (file.read("loss") == file.step).all()
            assert file.read("correct").all()
        if files:
            known = read_identity(tmp_path / "a", "train-online").target == 3
            assert known[: (files[-1].step + 1) * 500].all()
        before = last
    assert last > 20
