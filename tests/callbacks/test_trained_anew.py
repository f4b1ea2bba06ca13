"""exist_ok=True: a run is trained anew only by the same recipe, and earlier checkpoints never mix with new ones."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.record.inventory import take_inventory
from lightning_easiness.record.layout import is_complete
from tests.made_runs import whole
from tests.repeated_runs import in_a_process
from tests.small import Net, Points, loader, recorded, streams, trainer

STEPS = 7


class Tuned(Net):
    """A module of some learning rate, that ends its training before an epoch where it is told to."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.ends_before: int | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == self.ends_before:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(folder: Path, lr: float = 0.1, max_epochs: int = 4, data: Any = None, **options: Any) -> None:
    made = trainer(callbacks=[callback(folder)], max_epochs=max_epochs)
    module = Tuned(lr)
    module.ends_before = options.pop("ends_before", None)
    made.fit(module, loader() if data is None else data, **options)


def callback(folder: Path) -> EasinessCallback:
    return EasinessCallback(folder, every_n_epochs=1, run="only", exist_ok=True, num_images=0, probabilities=True)


@pytest.fixture
def done(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    fit(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("now", "what"),
    [
        ({"lr": 0.2}, "hyperparameters.lr: 0.1 then, 0.2 now; optimizers.0.lr: 0.1 then, 0.2 now"),
        ({"max_epochs": 3}, "max_epochs: 4 then, 3 now"),
        ({"data": loader(Points(seed=3))}, "other targets"),
        ({"data": loader(Points(seed=3), batch_size=9)}, "other targets; batch_size: 8 then, 9 now"),
    ],
    ids=["learning rate", "epochs", "data", "data and batches"],
)
def test_another_recipe_is_refused_before_training(done: Path, now: dict[str, Any], what: str) -> None:
    before, content = recorded(done), (done / "only/run.json").read_text()
    sentence = (
        f"Run 'only' in '{done}' was trained by another recipe ({what}), so exist_ok=True does not replace it: delete"
        f" '{done / 'only'}', or give EasinessCallback another `run` or `dirpath`."
    )
    with pytest.raises(RuntimeError, match=whole(sentence)):
        fit(done, **now)
    assert (recorded(done), (done / "only/run.json").read_text()) == (before, content)


def test_earlier_checkpoints_are_set_aside_whole(done: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, earlier = recorded(done / "only"), done / "only/.earlier-1"
    loss = EasinessRecord.load(done).loss.clone()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(done)
    assert (
        caplog.messages.count(
            f"Run 'only' in '{done}' is trained anew: its earlier checkpoints were moved to '{earlier}', which is not"
            " loaded with it."
        )
        == 1
    )
    assert recorded(earlier) == before
    after = recorded(done / "only", hidden=False)
    assert after.keys() == before.keys()
    record = EasinessRecord.load(done)
    assert record.runs == ["only"]
    assert not torch.equal(record.loss, loss)
    assert torch.equal(EasinessRecord.load(earlier).loss, loss), "it is a run that can be loaded by itself"
    assert [run.name for run in take_inventory(done).runs] == ["only"]
    fit(done)
    assert recorded(earlier) == before
    assert recorded(done / "only/.earlier-2") == after


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.multiprocess
def test_a_rerun_that_is_killed_holds_its_own_checkpoints_alone_and_is_incomplete(done: Path) -> None:
    assert is_complete(done / "only")
    assert in_a_process(lambda: fit(done, ends_before=0)) == -signal.SIGKILL
    assert not is_complete(done / "only")
    with pytest.raises(FileNotFoundError):
        EasinessRecord.load(done)
    assert in_a_process(lambda: fit(done, ends_before=2)) == -signal.SIGKILL
    assert not is_complete(done / "only")
    for series in ("train-probe", "train-online"):
        assert EasinessRecord.load(done, series).steps.tolist() == [STEPS, 2 * STEPS]
    fit(done)
    assert is_complete(done / "only")
    assert EasinessRecord.load(done).steps.tolist() == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]


def test_a_kill_while_checkpoints_are_moved_mixes_nothing(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename, moved = recorded(done / "only"), Path.rename, []

    def dies(path: Path, target: Path) -> None:
        if path.parent == done / "only" and moved:
            raise KeyboardInterrupt
        moved.append(path.name)
        rename(path, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(done)
    monkeypatch.undo()
    assert len(moved) == 1
    assert not is_complete(done / "only")
    fit(done)
    after = recorded(done / "only", hidden=False)
    assert after.keys() == before.keys()
    aside = {**recorded(done / "only/.earlier-1"), **recorded(done / "only/.earlier-2")}
    assert aside == before


def test_training_is_the_same_with_and_without_something_to_set_aside(tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
        torch.manual_seed(1)
        fit(folder)
        found.append((recorded(folder, hidden=False), streams()))
    assert found[0] == found[1] == found[2]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
def test_a_fit_that_is_resumed_goes_on_as_before(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    options = {"max_epochs": 3, "enable_checkpointing": True}
    trainer(callbacks=[callback(tmp_path / "a"), keep], **options).fit(Tuned(), loader())
    before = recorded(tmp_path / "a")
    trainer(callbacks=[callback(tmp_path / "a")], max_epochs=3).fit(
        Tuned(), loader(), ckpt_path=tmp_path / "epoch=1.ckpt"
    )
    assert recorded(tmp_path / "a", hidden=False).keys() == before.keys()
    aside = (tmp_path / "a/only").glob(".earlier-*/train-probe/step-*")
    assert [path.name for path in aside] == [f"step-{3 * STEPS:012d}.safetensors"], "of the epoch that comes again"
    trainer(callbacks=[callback(tmp_path / "a")], max_epochs=4).fit(
        Tuned(), loader(), ckpt_path=tmp_path / "epoch=2.ckpt"
    )
    assert EasinessRecord.load(tmp_path / "a").steps.tolist() == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]


def test_a_second_fit_of_the_same_trainer_goes_on(tmp_path: Path) -> None:
    made, module = trainer(callbacks=[callback(tmp_path)], max_epochs=1), Tuned()
    made.fit(module, loader())
    made.fit_loop.max_epochs = 2
    made.fit(module, loader())
    assert EasinessRecord.load(tmp_path).steps.tolist() == [STEPS, 2 * STEPS]
