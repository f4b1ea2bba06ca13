"""Contracts 4 and 9, of folders, disks and fits that fail: what to do is said, and nothing is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.observe.epoch_state import unpacked_epoch
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.writer import RunWriter
from tests.refusing import refused
from tests.small import Net, Points, loader, trainer

# ---------------------------------------------------------------------------------------------- the folder


def unwritable(folder: Path, run: str) -> str:
    return (
        f"Run '{run}' cannot be written into '{folder}' (Not a directory): give `dirpath` a folder that this process"
        " may write to."
    )


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for run, folder in (("mine", tmp_path / "file"), (None, tmp_path / "file" / "runs/of/today")):
        assert refused(RuntimeError, EasinessCallback(folder, run=run)) == unwritable(folder, run or "run-0")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_file_where_the_run_should_be(tmp_path: Path) -> None:
    for run in ("mine", "run-0"):
        (tmp_path / run).write_text("precious")
    assert refused(RuntimeError, EasinessCallback(tmp_path, run="mine")) == unwritable(tmp_path, "mine")
    # a run that the callback names itself takes another name
    trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=1).fit(Net(), loader())
    assert (tmp_path / "run-1" / "run.json").exists()


def test_two_callbacks_that_write_one_run(tmp_path: Path) -> None:
    callbacks: list[Callback] = [
        EasinessCallback(tmp_path, run="only"),
        EasinessCallback(tmp_path, run="only", probe="val"),
    ]
    message = f"Another callback is writing to run 'only' in '{tmp_path}'; give one of them another `run` or `dirpath`."
    assert refused(RuntimeError, callbacks, val=loader(shuffle=False)) == message
    # the run is released
    trainer(callbacks=callbacks[:1], max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path, "train-online").num_checkpoints == 1


class Full:
    """A disk without room, from one call of os.replace to another."""

    def __init__(self, patch: pytest.MonkeyPatch, first: int, last: float) -> None:
        self.calls, self.first, self.last, self.replace = 0, first, last, os.replace
        patch.setattr(os, "replace", self)

    def __call__(self, source: Any, target: Any) -> None:
        self.calls += 1
        if self.first <= self.calls <= self.last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.replace(source, target)

    def refuse(self, *_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced are run.json, the targets and step 0, and from the fourth on what is probed after."""
    Full(monkeypatch, 4, 5)
    callback = EasinessCallback(tmp_path, run="only", online=False, at_steps=(0, 2, 3, 4))
    with pytest.warns(UserWarning, match="EasinessCallback could not write") as caught:
        trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader())
    expected = [
        f"EasinessCallback could not write step 2 under '{tmp_path}' ([Errno 28] Step 2 of series 'train-probe' was not"
        f" written into '{tmp_path / 'only'}' (No space left on device): fix that; all checkpoints before it are"
        f" whole.); {number} checkpoints ({megabytes} MB) wait in memory for the next try. Make room on the disk."
        for number, megabytes in ((1, "0.00122"), (2, "0.00244"))
    ]
    assert [str(warning.message) for warning in caught if "EasinessCallback" in str(warning.message)] == expected
    record = EasinessRecord.load(tmp_path)
    assert record.steps.tolist() == [0, 2, 3, 4, 7]
    assert len(record.loss[0].unique(dim=0)) == 5
    assert not list(tmp_path.rglob(".tmp-*"))


class Later(Callback):
    """A callback after ours."""

    is_called = False

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.is_called = True


@pytest.mark.filterwarnings("ignore:EasinessCallback could not write step .* for the next try")
@pytest.mark.parametrize("what", ["step 2", "that run 'only' is complete"])
def test_a_disk_that_stays_full_loses_no_training(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once training is over; what waits is written when there is room, also in a later fit's time."""
    full, folder, later = Full(monkeypatch, 4, float("inf")), tmp_path / "record", Later()
    if what != "step 2":
        full.first = float("inf")
        monkeypatch.setattr(RunWriter, "complete", full.refuse)
    callback = EasinessCallback(folder, run="only", at_steps=(0, 2))
    fit = trainer(callbacks=[callback, later], max_epochs=1)
    with pytest.warns(UserWarning, match="after the fit: make room on the disk") as caught:
        fit.fit(Net(), loader())
    said = [str(warning.message) for warning in caught if "after the fit" in str(warning.message)]
    end = "make room on the disk, then call `write_waiting()` of the callback in this process."
    assert len(said) == 1
    assert said[0].endswith(end)
    assert said[0].startswith(f"EasinessCallback could not write {what} under '{folder}' (")
    assert later.is_called
    assert fit.global_step == 7
    assert not is_complete(folder / "only")
    with pytest.raises(OSError, match="No space left on device"):
        callback.write_waiting()
    monkeypatch.undo()
    # another fit of the callback does not forget it
    callback.run = "other"
    trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader())
    callback.write_waiting()
    assert is_complete(folder / "only")
    assert EasinessRecord.load(folder / "only").steps.tolist() == [0, 2, 7]
    assert EasinessRecord.load(folder / "only", "train-online").count.sum() == 53
    before = sorted(folder.rglob("*"))
    callback.write_waiting()
    assert sorted(folder.rglob("*")) == before, "nothing waits any more"


def test_a_full_disk_when_the_fit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be written is tried once more."""

    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 5:
                raise ArithmeticError("on purpose")
            return super().training_step(batch, batch_idx)

    Full(monkeypatch, 4, 4)
    callback = EasinessCallback(tmp_path, run="only", online=False, at_steps=(0, 2))
    with pytest.warns(UserWarning, match="could not write step 2"), pytest.raises(ArithmeticError, match="on purpose"):
        trainer(callbacks=[callback], max_epochs=1).fit(Fails(), loader())
    assert EasinessRecord.load(tmp_path).steps.tolist() == [0, 2]


# ---------------------------------------------------------------------------------------------- stopped by an error


class SavesOnException(Checkpoint):
    """As ModelCheckpoint(save_on_exception=True); Lightning calls it after us."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("when", ["step", "before us", "after us"])
def test_a_checkpoint_that_is_saved_on_an_exception(when: str, tmp_path: Path) -> None:
    """It holds the online sums of the examples that training is done with, each once after the fit is resumed."""

    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if when == "step" and batch_idx == 4 and armed:
                raise ArithmeticError("on purpose")
            return loss

    class FailsToo(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if when != "step" and batch_idx == 4 and armed:
                raise ArithmeticError("on purpose")

    def fit(ckpt_path: Path | None = None) -> None:
        observer = EasinessCallback(tmp_path / "easiness", run="only")
        callbacks = [FailsToo(), observer] if when == "before us" else [observer, FailsToo()]
        if ckpt_path is None:
            callbacks.append(SavesOnException(tmp_path / "failed.ckpt"))
        fit = trainer(callbacks=callbacks, max_epochs=1, enable_checkpointing=ckpt_path is None)
        fit.fit(Fails(), loader(shuffle=False), ckpt_path=ckpt_path)

    saved, armed = tmp_path / "failed.ckpt", True
    with pytest.raises(ArithmeticError):
        fit()
    state = torch.load(saved, weights_only=True)["callbacks"]
    online = next(value for key, value in state.items() if "Easiness" in key)["online"]
    epoch = unpacked_epoch(online, DataIdentity.of_target(Points().y))
    count = epoch.sums[-1]
    done = 4 if when == "step" else 5
    assert count.tolist() == [1.0] * done * 8 + [0.0] * (53 - done * 8)
    armed = False
    fit(saved)
    record = EasinessRecord.load(tmp_path / "easiness", series="train-online")
    # a plain loader begins anew, so that the first batches come again; Lightning knows how many are left
    assert record.count.sum() == done * 8 + (7 - done) * 8
