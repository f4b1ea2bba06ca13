"""Contract 3: stopped at any batch and resumed equals never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import Net, Points, loader, trainer

EPOCHS, BATCHES = 3, 7  # 53 examples in batches of 8


class ResumableLoader(DataLoader):
    """A loader that goes on where it was, by Lightning's protocol: an order of its own for each epoch."""

    def __init__(self) -> None:
        self.epoch, self.given = 0, 0
        super().__init__(Points(), batch_sampler=self)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[Any]:
        if self.given == BATCHES:  # Lightning does not read on to the end that comes after the last batch
            self.given = 0
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def batches(self) -> Iterator[list[int]]:
        order = torch.randperm(53, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        return iter([order[start : start + 8] for start in range(0, 53, 8)][self.given :])

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]


class Batches:
    """The loader's batch sampler; a loader cannot be its own, as a loader is iterated."""

    def __init__(self, owner: ResumableLoader) -> None:
        self.owner = owner
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        self.owner.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return self.owner.batches()

    def __len__(self) -> int:
        return BATCHES


class Plain(Net):
    """Draws nothing at random while it trains, as Lightning's checkpoints do not hold the random streams."""

    def __init__(self) -> None:
        super().__init__()
        self.net[3] = nn.Identity()


class Stop(Callback):
    """Saves a checkpoint at a hook of a batch and stops the fit there, before or after the other callbacks."""

    def __init__(self, path: Path, batch: int, hook: str) -> None:
        self.path, self.batch, self.hook = path, batch, hook

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.hook == "batch" and trainer.current_epoch * BATCHES + batch_idx == self.batch:
            self.stop(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.hook == "epoch" and trainer.current_epoch == self.batch // BATCHES:
            self.stop(trainer)

    def stop(self, trainer: Any) -> None:
        trainer.save_checkpoint(self.path)
        raise InterruptedError("stopped on purpose")


def resumable() -> ResumableLoader:
    made = ResumableLoader()
    made.__dict__["batch_sampler"] = Batches(made)
    return made


def fit(
    folder: Path, others: list[Callback], ckpt_path: Path | None = None, first: bool = True, **options: Any
) -> Plain:
    seed_everything(0, verbose=False)
    observer = EasinessCallback(folder, at_steps=(0, 5, 10), run="only")
    callbacks = [*others, observer] if first else [observer, *others]
    module = Plain()
    trainer(max_epochs=EPOCHS, callbacks=callbacks, **options).fit(module, resumable(), ckpt_path=ckpt_path)
    return module


def assert_same_record(left: Path, right: Path) -> None:
    for series in ("train-probe", "train-online"):
        a, b = EasinessRecord.load(left, series=series), EasinessRecord.load(right, series=series)
        assert a.steps.tolist() == b.steps.tolist()
        assert a.epochs.tolist() == b.epochs.tolist()
        assert torch.equal(a.target, b.target)
        for name in a.fields:
            torch.testing.assert_close(a.field(name), b.field(name), rtol=0, atol=0, equal_nan=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder, []).state_dict()


# ten batches, among them the first and the last of the training and of an epoch
@pytest.mark.parametrize("batch", [0, 1, 4, 6, 7, 9, 13, 14, 17, 20])
@pytest.mark.parametrize("first", [True, False], ids=["saved before us", "saved after us"])
def test_stopped_at_a_batch(whole: Any, batch: int, first: bool, tmp_path: Path) -> None:
    saved = tmp_path / "stopped.ckpt"
    with pytest.raises(InterruptedError):
        fit(tmp_path / "record", [Stop(saved, batch, "batch")], first=first)
    torch.load(saved, weights_only=True)
    module = fit(tmp_path / "record", [], ckpt_path=saved)
    assert_same_record(whole[0], tmp_path / "record")
    for name, value in module.state_dict().items():
        assert torch.equal(value, whole[1][name])


@pytest.mark.parametrize("batch", [0, 7])
@pytest.mark.parametrize("first", [True, False])
def test_stopped_at_an_epochs_end(whole: Any, batch: int, first: bool, tmp_path: Path) -> None:
    saved = tmp_path / "stopped.ckpt"
    with pytest.raises(InterruptedError):
        fit(tmp_path / "record", [Stop(saved, batch, "epoch")], first=first)
    fit(tmp_path / "record", [], ckpt_path=saved)
    assert_same_record(whole[0], tmp_path / "record")


def test_resumed_before_what_is_recorded_already(whole: Any, tmp_path: Path) -> None:
    """Training that is resumed further back repeats steps that the record has: they are replaced, by the same."""

    def keep() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=10, save_top_k=-1)

    fit(tmp_path / "record", [keep()], enable_checkpointing=True)
    assert_same_record(whole[0], tmp_path / "record")
    fit(tmp_path / "record", [keep()], ckpt_path=tmp_path / "step=10.ckpt", enable_checkpointing=True)
    assert_same_record(whole[0], tmp_path / "record")


def test_a_second_fit_of_the_same_trainer_goes_on(tmp_path: Path) -> None:
    observer = EasinessCallback(tmp_path)
    train, module = trainer(callbacks=[observer], max_epochs=1), Net()
    train.fit(module, loader())
    train.fit_loop.max_epochs = 3
    train.fit(module, loader())
    record = EasinessRecord.load(tmp_path)
    assert (record.num_runs, record.steps.tolist()) == (1, [7, 14, 21])


def test_starting_anew_over_a_run_is_an_error(tmp_path: Path) -> None:
    trainer(callbacks=[EasinessCallback(tmp_path, run="only")], max_epochs=1).fit(Net(), loader())
    before = sorted(path.name for path in tmp_path.rglob("*.safetensors"))
    with pytest.raises(RuntimeError) as error:
        trainer(callbacks=[EasinessCallback(tmp_path, run="only")], max_epochs=1).fit(Net(), loader())
    assert str(error.value) == (
        f"Run 'only' in '{tmp_path}' already holds checkpoints. Resume its training with trainer.fit(ckpt_path=...),"
        " delete the folder, give EasinessCallback another `run` or `dirpath`, or exist_ok=True to replace its"
        " checkpoints as training repeats them."
    )
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == before
    trainer(callbacks=[EasinessCallback(tmp_path, run="only", exist_ok=True)], max_epochs=1).fit(Net(), loader())
