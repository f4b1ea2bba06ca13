"""A record tells one true course of a training, however often it was killed and resumed, and from wherever."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.record.layout import is_complete
from tests.resuming import BATCHES, SIZE, Plain, Resumable, Stop
from tests.small import Net, Points, assert_identical, loader, recorded, trainer

EPOCHS = 3
LAST = EPOCHS * BATCHES


class Scaled(Plain):
    """Another scale of the loss is another course, which the recipe does not show."""

    def __init__(self, scale: float) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.scale = scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.scale * super().training_step(batch, batch_idx)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class SaveEach(Callback):
    """Saves a checkpoint after each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")


class StopBefore(Callback):
    """Stops a fit before a step, as a kill would; the checkpoint of the step before is saved by then."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise InterruptedError("stopped on purpose")


def observer(folder: Path) -> EasinessCallback:
    options: dict[str, Any] = {"every_n_epochs": 1, "at_steps": (0, 9), "num_images": 0, "probabilities": True}
    return EasinessCallback(folder / "record", run="only", **options)


def train(folder: Path, scale: float, ckpt: Path | None = None, until: int = 0, **options: Any) -> Scaled:
    """Train in a folder, with a checkpoint after each step; `until` stops before that step."""
    callbacks = [observer(folder), SaveEach(folder / f"x{scale:g}"), *([StopBefore(until)] if until else [])]
    fit = trainer(callbacks=callbacks, **{"max_epochs": EPOCHS, **options})
    module = Scaled(scale)
    try:
        fit.fit(module, Resumable(), ckpt_path=ckpt)
    except InterruptedError:
        assert until
    return module


def at(folder: Path, step: int, scale: float) -> Path:
    return folder / f"x{scale:g}" / f"step={step}.ckpt"


def run(folder: Path) -> Path:
    return folder / "record/only"


def visible(folder: Path) -> dict[str, Any]:
    return recorded(run(folder), hidden=False)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, dict[str, Any]]:
    """The records of trainings that abandoned nothing: of one scale, and of two with the step where it changes."""
    found: dict[Any, dict[str, Any]] = {}
    for change in (None, (10, 2.0), (10, 3.0), (14, 2.0)):
        folder = tmp_path_factory.mktemp("told")
        train(folder, 1.0, until=change[0] if change else 0)
        if change:
            train(folder, change[1], at(folder, change[0], 1.0))
        found[change] = visible(folder)
        assert not list(run(folder).glob(".earlier-*"))
    return found


def assert_no_step_twice(folder: Path) -> None:
    for series in ("train-probe", "train-online"):
        record = EasinessRecord.load(run(folder), series)
        assert sorted(set(record.steps.tolist())) == record.steps.tolist()
        assert sorted(record.epochs.tolist()) == record.epochs.tolist()
    assert record.epochs.tolist() == [0, 1, 2], "one online checkpoint for each epoch"
    assert record.count.sum() == EPOCHS * SIZE


@pytest.mark.parametrize("step", [10, 14], ids=["within an epoch", "at an epoch's end"])
def test_what_was_recorded_beyond_the_resumed_step_is_set_aside(
    told: Any, step: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, 1.0)
    before, earlier = visible(tmp_path), run(tmp_path) / ".earlier-1"
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        train(tmp_path, 2.0, at(tmp_path, step, 1.0))
    sentence = (
        f"Run 'only' in '{tmp_path / 'record'}' goes on from step {step}: what another course recorded after it was"
        f" moved to '{earlier}', which is not loaded with it."
    )
    assert caplog.messages.count(sentence) == 1
    assert_identical(visible(tmp_path), told[(step, 2.0)])
    assert_no_step_twice(tmp_path)
    beyond = {name for name in before if "/step-" in name and int(name.partition("/step-")[2][:12]) > step}
    assert beyond
    aside = recorded(earlier)
    assert {name: aside[name] for name in beyond} == {name: before[name] for name in beyond}
    assert EasinessRecord.load(earlier).steps.tolist() == [LAST] if step == 14 else [14, LAST]


def test_twice_in_a_row_and_the_same_steps_again(told: Any, tmp_path: Path) -> None:
    train(tmp_path, 1.0)
    for number, scale in enumerate((2.0, 3.0), 1):
        before = visible(tmp_path)
        train(tmp_path, scale, at(tmp_path, 10, 1.0))
        assert_identical(visible(tmp_path), told[(10, scale)])
        aside = recorded(run(tmp_path) / f".earlier-{number}")
        checkpoints = {name for name in aside if "/step-" in name}
        assert {name: aside[name] for name in checkpoints} == {name: before[name] for name in checkpoints}
        assert "train-online/step-000000000014.safetensors" in checkpoints
    assert_no_step_twice(tmp_path)


def test_back_to_a_course_that_was_abandoned(told: Any, tmp_path: Path) -> None:
    """What it recorded comes back, though another course has recorded the same steps."""
    train(tmp_path, 1.0)
    train(tmp_path, 2.0, at(tmp_path, 5, 1.0), until=17)
    train(tmp_path, 1.0, at(tmp_path, 16, 1.0))
    assert_identical(visible(tmp_path), told[None])
    assert_no_step_twice(tmp_path)


def test_what_comes_again_to_the_bit_is_not_kept_twice(told: Any, tmp_path: Path) -> None:
    """As where a training is killed after its latest checkpoint, and resumed from it."""
    train(tmp_path, 1.0, until=20)
    train(tmp_path, 1.0, at(tmp_path, 10, 1.0), until=16)
    assert not is_complete(run(tmp_path))
    assert len(list(run(tmp_path).glob(".earlier-*"))) == 1
    train(tmp_path, 1.0, at(tmp_path, 16, 1.0))
    assert_identical(visible(tmp_path), told[None])
    assert not list(run(tmp_path).glob(".earlier-*"))
    assert is_complete(run(tmp_path))


def test_a_kill_while_files_are_set_aside(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, 1.0)
    before, rename, moved = visible(tmp_path), Path.rename, []

    def dies(path: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(path.name)
        rename(path, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tmp_path, 2.0, at(tmp_path, 10, 1.0))
    monkeypatch.undo()
    assert not is_complete(run(tmp_path))
    assert sorted(before.keys() - visible(tmp_path).keys()) == [f"train-online/step-{LAST:012d}.safetensors"]
    train(tmp_path, 2.0, at(tmp_path, 10, 1.0))
    assert_identical(visible(tmp_path), told[(10, 2.0)])
    aside = {**recorded(run(tmp_path) / ".earlier-1"), **recorded(run(tmp_path) / ".earlier-2")}
    assert {name: aside[name] for name in before if name in aside and "/step-" in name} == {
        name: before[name] for name in before if "/step-" in name and int(name.partition("/step-")[2][:12]) > 10
    }


def without_links(found: dict[str, Any]) -> dict[str, Any]:
    """The files, whatever checkpoint was recorded before each."""
    left = {}
    for name, (header, values) in found.items():
        about = {key: text for key, text in header["__metadata__"].items() if key not in ("previous", "checksum")}
        left[name] = ({**header, "__metadata__": about}, values)
    return left


def test_a_fit_that_ended_within_an_epoch_and_goes_on_records_the_epoch_once(told: Any, tmp_path: Path) -> None:
    train(tmp_path, 1.0, max_steps=10)
    assert EasinessRecord.load(run(tmp_path), "train-online").steps.tolist() == [7, 10]
    train(tmp_path, 1.0, at(tmp_path, 10, 1.0))
    assert_no_step_twice(tmp_path)
    after = visible(tmp_path)
    assert after.pop("train-probe/step-000000000010.safetensors"), "of the pass at the end of the first fit"
    assert_identical(without_links(after), without_links(told[None]))
    assert [path.name for path in run(tmp_path).glob(".earlier-1/*/step-*")] == ["step-000000000010.safetensors"]


def test_a_checkpoint_of_an_earlier_version_goes_by_the_step(told: Any, tmp_path: Path) -> None:
    train(tmp_path, 1.0)
    content = torch.load(at(tmp_path, 10, 1.0), weights_only=True)
    for key, state in content["callbacks"].items():
        if "Easiness" in key:
            del state["recorded"]
    torch.save(content, at(tmp_path, 10, 1.0))
    train(tmp_path, 2.0, at(tmp_path, 10, 1.0))
    assert_identical(visible(tmp_path), told[(10, 2.0)])


# ---------------------------------------------------------------------------------------------- epoch edges


def times_trained(*parts: tuple[Scaled, int | None]) -> list[int]:
    """How often each example was in a batch, of the first so many steps of each part of a course."""
    indices = [index for module, steps in parts for _, batch, *_ in module.steps[:steps] for index in batch]
    return torch.bincount(torch.tensor(indices), minlength=SIZE).tolist()


@pytest.mark.parametrize("saved", ["batch", "epoch"])
def test_stopped_at_an_epochs_exact_end_and_again_in_the_next(saved: str, tmp_path: Path) -> None:
    """Lightning calls no on_train_epoch_start for the epoch between, and may make that one longer."""
    stop, first = Stop(tmp_path / "first.ckpt", 0, -1, saved), Scaled(1.0)
    with pytest.raises(InterruptedError):
        trainer(callbacks=[observer(tmp_path), stop], max_epochs=EPOCHS).fit(first, Resumable())
    second = train(tmp_path, 1.0, stop.path, until=BATCHES + 3)
    third = train(tmp_path, 1.0, at(tmp_path, BATCHES + 3, 1.0))
    online = EasinessRecord.load(run(tmp_path), "train-online")
    trained = times_trained((first, None), (second, 3), (third, None))
    assert online.count.sum((0, 1)).tolist() == trained
    assert sum(trained) >= EPOCHS * SIZE
    if saved == "epoch":
        assert trained == [EPOCHS] * SIZE


class SkipsAnEpoch(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if self.current_epoch == 1 else None


def test_an_epoch_without_a_batch_writes_nothing(tmp_path: Path) -> None:
    """It ends at the step at which the one before it ended."""
    callback = EasinessCallback(tmp_path, run="only", probabilities=True)
    trainer(callbacks=[callback], max_epochs=3).fit(SkipsAnEpoch(), loader(Points()))
    record = EasinessRecord.load(tmp_path, "train-online")
    assert (record.steps.tolist(), record.epochs.tolist()) == ([7, 14], [0, 2])
    assert record.loss.isfinite().all()
    assert record.count.sum(-1).tolist() == [[53, 53]]
    assert callback.usage.data_use == [1.0, 0.0, 1.0]
