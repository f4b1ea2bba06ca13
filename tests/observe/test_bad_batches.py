"""Contract 9, of batches, outputs and modules: what is an error, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.refusing import Counts, refused
from tests.small import Net, Points, loader, trainer

# ---------------------------------------------------------------------------------------------- targets and outputs


class Wrong(Points):
    """Example 17 has a class that the model does not have."""

    def __init__(self, target: int = 9) -> None:
        super().__init__()
        self.y[17] = target


class Lenient(Counts):
    """Trains on in spite of impossible targets, as a user's own loss may do."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step((batch[0], batch[1].clamp(0, 3)), batch_idx)


@pytest.mark.parametrize("target", [4, -100])
def test_targets_outside_the_classes(target: int, tmp_path: Path) -> None:
    message = (
        "The targets of 1 examples are outside the model's classes 0 to 3; the first is example 17 with target"
        f" {target}. Fix them, or pass a batch_fn that maps them."
    )
    callback = EasinessCallback(tmp_path / "start", at_steps=(0,))
    assert refused(ValueError, callback, loader(Wrong(target)), module=Lenient()) == message
    callback = EasinessCallback(tmp_path / "probe", online=False, every_n_epochs=1)
    assert refused(ValueError, callback, loader(Wrong(target)), module=Lenient(), steps=7) == message
    callback = EasinessCallback(tmp_path / "online", probe=None)
    online = refused(ValueError, callback, loader(Wrong(target)), module=Lenient(), steps=7)
    assert "the first is example 17 with" in online
    assert not list(tmp_path.rglob("step-*"))


def test_targets_outside_the_classes_that_batch_fn_mends(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, batch_fn=lambda batch: (batch[0], batch[1].clamp(max=3)))
    trainer(callbacks=[callback], max_epochs=1).fit(Lenient(), loader(Wrong()))
    assert EasinessRecord.load(tmp_path).target[17] == 3


def test_logits_of_another_batch_size(tmp_path: Path) -> None:
    class Halves(Counts):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[::2]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((batch[0], batch[1][::2]), batch_idx)

    message = (
        "The model's output has the shape (4, 4), but the batch holds 8 examples, so losses cannot be matched to"
        " examples; if the module drops or merges examples in training, pass online=False, and if the logits are"
        " elsewhere, `module` or `logits_fn`."
    )
    assert refused(ValueError, EasinessCallback(tmp_path / "a", at_steps=(0,)), module=Halves()) == message
    # the only child's output fits, and is what is observed
    trainer(callbacks=[EasinessCallback(tmp_path / "c", probe=None)], max_epochs=1).fit(Halves(), loader())
    assert EasinessRecord.load(tmp_path / "c", series="train-online").count.sum() == 53

    class Drops(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(1, 1)

    assert refused(ValueError, EasinessCallback(tmp_path / "d"), module=Drops(), steps=1) == message


def test_targets_of_another_batch_size(tmp_path: Path) -> None:
    def drop_first(examples: list[Any]) -> Any:
        return default_collate(examples[1:])

    assert refused(ValueError, EasinessCallback(tmp_path), loader(collate_fn=drop_first)) == (
        "The targets of a batch have the shape (7,), but the loader put 8 examples into it, so targets cannot be"
        " matched to examples; if the collate function drops or merges examples, pass online=False and"
        " probe=DataLoader(...), and if the targets are elsewhere, `batch_fn`."
    )


@pytest.mark.parametrize(
    ("collate", "found"),
    [
        (lambda examples: default_collate(examples)[0], "a Tensor"),
        (lambda examples: [default_collate(examples)], "a list of 1 item"),
        (lambda examples: {"left": default_collate(examples)[0]}, "a dict with the keys ['left']"),
    ],
)
@pytest.mark.parametrize("online", [True, False])
def test_a_batch_that_cannot_be_unpacked(collate: Any, found: str, online: bool, tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, online=online, at_steps=() if online else (0,))
    assert refused(TypeError, callback, loader(collate_fn=collate)) == (
        f"EasinessCallback cannot tell inputs from targets in {found}; pass batch_fn, a function that takes the batch"
        " and returns (inputs, targets)."
    )


def test_an_output_that_is_no_classification(tmp_path: Path) -> None:
    class Floats(Points):
        def __getitem__(self, index: int) -> Any:
            return self.x[index], self.x[index, 0]

    class Regresses(Counts):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.steps += 1
            return (self(batch[0])[:, 0] - batch[1]).square().mean()

    message = (
        "EasinessCallback reads logits (B, classes) and class indices (B,); got output torch.float32 (8, 4) and targets"
        " torch.float32 (8,). Pass logits_fn or batch_fn to find them, or loss_fn, a loss for each example, for another"
        " task."
    )
    callback = EasinessCallback(tmp_path / "a", at_steps=(0,))
    assert refused(TypeError, callback, loader(Floats()), module=Regresses()) == message
    callback = EasinessCallback(tmp_path / "b", probe=None)
    assert refused(TypeError, callback, loader(Floats()), module=Regresses(), steps=1) == message


def mean_loss(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target)


def test_a_loss_that_is_averaged(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, at_steps=(0,), loss_fn=mean_loss)
    assert refused(ValueError, callback) == (
        "loss_fn (mean_loss) must return one loss per example, shape (8,); got (). Use reduction='none' and average"
        " over everything but the first dimension."
    )


def test_a_logits_fn_that_fails_says_so_itself(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe=None, logits_fn=lambda output: output["nothing"])
    with pytest.raises(IndexError) as plain:
        torch.zeros(2, 2)["nothing"]  # type: ignore[call-overload]
    assert refused(IndexError, callback, steps=1) == str(plain.value)


# ---------------------------------------------------------------------------------------------- the module


class TwoParts(LightningModule):
    """Has no forward and two parts that may be meant."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.other, self.steps = nn.Linear(8, 4), nn.Linear(8, 4), 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return nn.functional.cross_entropy(self.other(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_no_forward_and_several_children(tmp_path: Path) -> None:
    assert refused(TypeError, EasinessCallback(tmp_path), module=TwoParts()) == (
        "TwoParts defines no forward() and has 2 submodules with parameters (net, other); pass EasinessCallback the"
        " name of the one that returns the logits, module='...'."
    )
    module = TwoParts()
    trainer(callbacks=[EasinessCallback(tmp_path, module="other")], max_epochs=1).fit(module, loader())
    plain = nn.functional.cross_entropy(module.other(Points().x), Points().y, reduction="none")
    torch.testing.assert_close(EasinessRecord.load(tmp_path).loss[0, -1], plain.detach())


def test_an_unknown_module(tmp_path: Path) -> None:
    assert refused(ValueError, EasinessCallback(tmp_path, module="head"), module=TwoParts()) == (
        "The `module` of EasinessCallback names no submodule of TwoParts: 'head'; its submodules are 'net', 'other'."
    )


def test_a_module_that_the_step_never_calls(tmp_path: Path) -> None:
    assert refused(RuntimeError, EasinessCallback(tmp_path, module="net"), module=TwoParts(), steps=1) == (
        "The training step gave EasinessCallback no output to read: it never called 'net'. Pass the name of the"
        " submodule that returns the logits, module='net', or online=False; a call of .forward() itself is not seen, so"
        " call the module, self(x)."
    )


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
def test_a_step_that_takes_batches_by_itself(tmp_path: Path) -> None:
    class Takes(Counts):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            batch, _, _ = next(dataloader_iter)
            return super().training_step(batch, 0)

    assert refused(TypeError, EasinessCallback(tmp_path), module=Takes()) == (
        "The training_step of Takes takes batches off a `dataloader_iter` by itself, so the examples of a step are"
        " unknown; give EasinessCallback online=False."
    )


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument", "ignore:You are using the `dataloader_iter`")
def test_the_way_out_of_it(tmp_path: Path) -> None:
    class Takes(Counts):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            batch, _, _ = next(dataloader_iter)
            return super().training_step(batch, 0)

    trainer(callbacks=[EasinessCallback(tmp_path, online=False)], max_epochs=1).fit(Takes(), loader())
    assert EasinessRecord.load(tmp_path).num_checkpoints == 1


# ---------------------------------------------------------------------------------------------- what is no error


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_steps_that_are_skipped(tmp_path: Path) -> None:
    """A step that returns None before it calls the model, and a rest of the epoch that a hook passes over."""

    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 4 else None

    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1)
    callbacks = [EasinessCallback(tmp_path / "easiness", every_n_epochs=1), keep]
    trainer(callbacks=callbacks, enable_checkpointing=True).fit(Skips(), loader(), loader(shuffle=False))
    record = EasinessRecord.load(tmp_path / "easiness", series="train-online")
    assert record.count.sum(-1).tolist() == [[24, 24]]
    assert EasinessRecord.load(tmp_path / "easiness").num_checkpoints == 2


def test_nan_losses_are_no_error(tmp_path: Path) -> None:
    class Breaks(Net):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1] > 1, torch.nan, super().forward(x))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).nanmean()

    trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=1).fit(Breaks(), loader())
    broken = Points().x[:, 0] > 1
    for series in ("train-probe", "train-online"):
        record = EasinessRecord.load(tmp_path, series=series)
        assert torch.equal(record.loss[0, 0].isnan(), broken)
        assert torch.equal(record.margin[0, 0].isnan(), broken)
        assert record.num_nan.tolist() == [int(broken.sum())]
