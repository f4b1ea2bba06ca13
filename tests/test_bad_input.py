"""Contract 9: errors say what to do, come before the first training step where that can be, and cost no checkpoint."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.small import Net, Points, loader, trainer


class Counts(Net):
    """Counts its training steps; `losses` holds one an ended step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)


def refused(
    error: type[Exception],
    callback: EasinessCallback | list[Callback],
    data: Any = None,
    val: Any = None,
    module: Counts | None = None,
    steps: int = 0,
    **options: Any,
) -> str:
    """The message of the error that a fit ends with, after `steps` training steps; nothing outlives the fit."""
    module = module or Counts()
    callbacks = callback if isinstance(callback, list) else [callback]
    fit = trainer(callbacks=callbacks, **options)
    with pytest.raises(error) as caught:
        fit.fit(module, data if data is not None else loader(), val)
    assert module.steps == steps
    assert not any(part._forward_hooks for part in module.modules())
    assert "process_dataloader" not in vars(fit.strategy)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"every_n_epochs": -1},
            "The `every_n_epochs` of EasinessCallback must be an integer >= 0; got -1.",
        ),
        (
            {"every_n_epochs": 0.5},
            "The `every_n_epochs` of EasinessCallback must be an integer >= 0; got 0.5.",
        ),
        ({"at_steps": 100}, "The `at_steps` of EasinessCallback must be a list of steps; got 100."),
        ({"at_steps": [3, -2]}, "The `at_steps` of EasinessCallback must be integers >= 0; got -2."),
        ({"at_steps": "12"}, "The `at_steps` of EasinessCallback must be integers >= 0; got '1'."),
        (
            {"probe": "test"},
            "The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got 'test'.",
        ),
        (
            {"probe": None, "online": False},
            "EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.",
        ),
        (
            {"every_n_epochs": 0},
            "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None.",
        ),
        ({"probe_batch_size": 0}, "The `probe_batch_size` of EasinessCallback must be >= 1; got 0."),
        ({"run": "a/b"}, "The `run` of EasinessCallback must be a folder's name; got 'a/b'."),
        ({"run": ""}, "The `run` of EasinessCallback must be a folder's name; got ''."),
        ({"run": ".hidden"}, "The `run` of EasinessCallback must be a folder's name; got '.hidden'."),
        (
            {"patterns": {"a/b": torch.neg}},
            "The `patterns` of EasinessCallback must have names that fit a folder's; got 'a/b'.",
        ),
        (
            {"patterns": {"grey": 0.5}},
            "The `patterns` of EasinessCallback must be functions of the inputs; got 0.5 for 'grey'.",
        ),
    ],
)
def test_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
        EasinessCallback(**arguments)
    assert str(error.value) == message


def test_arguments_that_are_fine() -> None:
    for arguments in ({"at_steps": {3, 1}}, {"at_steps": range(3), "every_n_epochs": 0}, {"run": "seed-0.5"}):
        EasinessCallback(**arguments)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- no index


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        return (Points()[index] for index in range(53))


STREAM = (
    "The loader reads Stream, an IterableDataset, whose examples have no index; use a map-style data set (with"
    " __getitem__ and __len__), or pass online=False and probe=DataLoader(...)."
)


@pytest.mark.parametrize("online", [True, False])
def test_a_stream(online: bool, tmp_path: Path) -> None:
    assert refused(TypeError, EasinessCallback(tmp_path, online=online), DataLoader(Stream(), batch_size=8)) == STREAM


def test_a_stream_to_probe(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe=DataLoader(Stream(), batch_size=8))
    assert refused(TypeError, callback) == STREAM
    callback = EasinessCallback(tmp_path / "val", probe="val")
    assert refused(TypeError, callback, val=DataLoader(Stream(), batch_size=8)) == STREAM


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("kind", [dict, list])
def test_several_train_loaders(online: bool, kind: type, tmp_path: Path) -> None:
    data = {"a": loader(), "b": loader()} if kind is dict else [loader(), loader()]
    assert refused(TypeError, EasinessCallback(tmp_path, online=online), data) == (
        f"EasinessCallback observes one data set, but the train loaders are a {kind.__name__}, so an index names no"
        " example; pass online=False and the loader to observe, probe=DataLoader(...)."
    )


def test_a_list_of_one_train_loader(tmp_path: Path) -> None:
    """Its batches are lists of one batch, while the probe's would be batches."""
    assert "the train loaders are a list" in refused(TypeError, EasinessCallback(tmp_path), [loader()])


def test_several_validation_loaders(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe="val")

    class Two(Counts):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
            pass

    message = refused(TypeError, callback, val=[loader(shuffle=False), loader(shuffle=False)], module=Two())
    assert "but the val loaders are a list" in message


@pytest.mark.parametrize("options", [{}, {"limit_val_batches": 0}])
def test_no_validation_loader(options: dict[str, Any], tmp_path: Path) -> None:
    val = loader() if options else None
    assert refused(ValueError, EasinessCallback(tmp_path, probe="val"), val=val, **options) == (
        "EasinessCallback(probe='val') found no validation loader when training started; give the Trainer one, or pass"
        " the loader itself, probe=DataLoader(...)."
    )


class Batches:
    """An iterable of batches, which Lightning takes for a loader."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def test_batches_that_come_without_a_data_loader(tmp_path: Path) -> None:
    batches = [default_collate([Points()[0], Points()[1]])]
    assert refused(TypeError, EasinessCallback(tmp_path), Batches(batches)) == (
        "EasinessCallback follows examples through a torch DataLoader; got Batches. Return one DataLoader from"
        " train_dataloader(), or pass online=False and probe=DataLoader(...)."
    )


class Sized(Sampler[Any]):
    """Yields the keys that it is given."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class Named(Points):
    def __getitem__(self, key: Any) -> tuple[Tensor, int]:
        return super().__getitem__(int(key))


@pytest.mark.parametrize(
    ("keys", "shown"),
    # digits too: as text they would be taken for other examples than the data set's
    [([f"{n:02d}" for n in range(53)], "['00', '01']"), ([n + 0.5 for n in range(53)], "[0.5, 1.5]")],
)
def test_keys_that_are_no_integers(keys: list[Any], shown: str, tmp_path: Path) -> None:
    data = DataLoader(Named(), batch_size=2, sampler=Sized(keys))
    assert refused(TypeError, EasinessCallback(tmp_path), data) == (
        f"The train loader's sampler yields keys that are no integers ({shown}), so examples cannot be told apart; give"
        " EasinessCallback online=False and a `probe` loader with integer indices."
    )


def test_keys_in_a_worker(tmp_path: Path) -> None:
    data = DataLoader(Named(), batch_size=2, sampler=Sized(["00", "01"]), num_workers=1)
    assert "yields keys that are no integers (['00', '01'])" in refused(TypeError, EasinessCallback(tmp_path), data)


@pytest.mark.parametrize("key", [-1, 53])
def test_keys_that_number_no_example(key: int, tmp_path: Path) -> None:
    data = DataLoader(Named(60), batch_size=2, sampler=Sized([0, key]))
    data.dataset.__class__ = type("Short", (Named,), {"__len__": lambda self: 53})
    assert refused(IndexError, EasinessCallback(tmp_path), data) == (
        f"The train loader's sampler asks for example {key}, but examples are numbered 0 to 52; mend the sampler, or"
        " give EasinessCallback online=False."
    )


class Ready(Points):
    """Hands out whole batches by one index."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return self.x[index * 8 : index * 8 + 8], self.y[index * 8 : index * 8 + 8]


@pytest.mark.parametrize("online", [True, False])
def test_a_data_set_of_batches(online: bool, tmp_path: Path) -> None:
    data = DataLoader(Ready(), batch_size=None, shuffle=True)
    assert refused(TypeError, EasinessCallback(tmp_path, online=online), data) == (
        "The loader asks Ready for one index at a time and does not batch (batch_size=None), so an index names a batch"
        " and no example; use a data set of single examples with a batch size, a sampler that yields index lists,"
        " or pass online=False and probe=DataLoader(...)."
    )


# ---------------------------------------------------------------------------------------------- the data set changed


def only_probe(folder: Path, **options: Any) -> EasinessCallback:
    return EasinessCallback(folder, run="only", online=False, **options)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("probe", ["train", None])
def test_another_length_than_the_record(online: bool, probe: Any, tmp_path: Path) -> None:
    options = {"run": "only", "online": online or probe is None, "probe": probe}
    trainer(callbacks=[EasinessCallback(tmp_path, **options)], max_epochs=1).fit(Net(), loader())
    series = "train-online" if options["online"] else "train-probe"
    before = EasinessRecord.load(tmp_path, series=series)
    message = refused(RuntimeError, EasinessCallback(tmp_path, **options, exist_ok=True), loader(Points(40)))
    assert message == (
        f"The data set holds 40 examples, but series '{series}' of run 'only' in '{tmp_path}' has 53, so an index no"
        " longer names the same example; keep the data set as it was, or give another one another `run` or `dirpath`."
    )
    after = EasinessRecord.load(tmp_path, series=series)
    assert torch.equal(after.loss, before.loss)
    # the run is free again, and goes on with the right data set
    trainer(callbacks=[EasinessCallback(tmp_path, **options, exist_ok=True)], max_epochs=2).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path, series=series).steps.tolist() == [7, 14]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
def test_another_length_than_a_checkpoint_of_the_trainer(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, filename="mid", every_n_train_steps=5, save_top_k=-1)
    callbacks = [EasinessCallback(tmp_path / "a", run="only"), keep]
    trainer(callbacks=callbacks, max_epochs=1, enable_checkpointing=True).fit(Net(), loader())
    for path in (tmp_path / "a").rglob("step-*"):
        path.unlink()  # as when the run goes on in another folder
    module, callback = Counts(), EasinessCallback(tmp_path / "a", run="only")
    begun = "^The data set holds 40 examples, but the epoch that training resumes in was begun with 53, so an index"
    with pytest.raises(ValueError, match=begun):
        trainer(callbacks=[callback], max_epochs=1).fit(module, loader(Points(40)), ckpt_path=tmp_path / "mid.ckpt")
    assert module.steps == 0


def test_a_length_that_changes_as_loaders_are_reloaded(tmp_path: Path) -> None:
    class Grows(Counts):
        def train_dataloader(self) -> DataLoader:
            return loader(Points(53 + 10 * self.current_epoch))

    module = Grows()
    fit = trainer(callbacks=[EasinessCallback(tmp_path)], reload_dataloaders_every_n_epochs=1)
    begun = "^The data set holds 63 examples, but 53 when training began, so an index no longer names the same example"
    with pytest.raises(ValueError, match=begun):
        fit.fit(module)
    assert module.steps == 7, "none of the second epoch"
    for series in ("train-probe", "train-online"):
        assert EasinessRecord.load(tmp_path, series=series).steps.tolist() == [7]


def test_other_targets_than_the_record(tmp_path: Path) -> None:
    trainer(callbacks=[only_probe(tmp_path)], max_epochs=1).fit(Net(), loader())
    before = EasinessRecord.load(tmp_path).loss
    other = Points(seed=9)
    callback = only_probe(tmp_path, exist_ok=True, at_steps=(0,))
    message = refused(ValueError, callback, loader(other))
    first = int((other.y != Points().y).nonzero()[0])
    assert message == (
        f"`target` of example {first} is {int(other.y[first])}, but {int(Points().y[first])} in series 'train-probe' of"
        f" run 'only' in '{tmp_path}': give another data set another `run` or `dirpath`."
    )
    assert torch.equal(EasinessRecord.load(tmp_path).loss, before)


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
        f" {target}. Mend them, or pass a batch_fn that maps them."
    )
    callback = EasinessCallback(tmp_path / "start", at_steps=(0,))
    assert refused(ValueError, callback, loader(Wrong(target)), module=Lenient()) == message
    callback = EasinessCallback(tmp_path / "probe", online=False)
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
        "loss_fn (mean_loss) must return one loss an example, shape (8,); got (). Use reduction='none' and average over"
        " everything but the first dimension."
    )


def test_a_logits_fn_that_fails_says_so_itself(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path, probe=None, logits_fn=lambda output: output["nothing"])
    with pytest.raises(IndexError) as plain:
        torch.zeros(2, 2)["nothing"]  # type: ignore[call-overload]
    assert refused(IndexError, callback, steps=1) == str(plain.value)


# ---------------------------------------------------------------------------------------------- the module


class TwoParts(Counts):
    """Has no forward and two parts that may be meant."""

    forward = Net.__mro__[1].forward

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(8, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return nn.functional.cross_entropy(self.other(batch[0]), batch[1])


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
        " submodule that returns the logits, module='net', or online=False."
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
    callbacks = [EasinessCallback(tmp_path / "easiness"), keep]
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


# ---------------------------------------------------------------------------------------------- the folder


def unwritable(folder: Path, run: str) -> str:
    return (
        f"Run '{run}' cannot be written into '{folder}' (Not a directory): give `dirpath` a folder that this process"
        " may write to."
    )


@pytest.mark.parametrize("run", [None, "mine"])
@pytest.mark.parametrize("below", ["", "runs/of/today"])
def test_a_file_where_the_folder_should_be(run: str | None, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    folder = tmp_path / "file" / below if below else tmp_path / "file"
    assert refused(RuntimeError, EasinessCallback(folder, run=run)) == unwritable(folder, run or "run-0")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_file_where_the_run_should_be(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    assert refused(RuntimeError, EasinessCallback(tmp_path, run="mine")) == unwritable(tmp_path, "mine")
    # a run that is named for the callback goes round it
    (tmp_path / "run-0").write_text("precious")
    trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=1).fit(Net(), loader())
    assert (tmp_path / "run-1" / "run.json").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        message = refused(RuntimeError, EasinessCallback(tmp_path / "easiness"))
    finally:
        tmp_path.chmod(0o700)
    assert message.endswith("(Permission denied): give `dirpath` a folder that this process may write to.")


def busy(folder: Path) -> str:
    return f"Another callback is writing to run 'only' in '{folder}'; give one of them another `run` or `dirpath`."


def test_two_callbacks_that_write_one_run(tmp_path: Path) -> None:
    callbacks: list[Callback] = [
        EasinessCallback(tmp_path, run="only"),
        EasinessCallback(tmp_path, run="only", probe="val"),
    ]
    assert refused(RuntimeError, callbacks, val=loader(shuffle=False)) == busy(tmp_path)
    # the run is let go of
    trainer(callbacks=callbacks[:1], max_epochs=1).fit(Net(), loader())
    assert EasinessRecord.load(tmp_path).num_checkpoints == 1


HOLD = """
import sys
from lightning_easiness.store import RunWriter
writer = RunWriter(sys.argv[1], "only")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.multiprocess
def test_another_process_that_writes_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert refused(RuntimeError, EasinessCallback(tmp_path, run="only")) == busy(tmp_path)
        holder.kill()  # a killed process lets go
    trainer(callbacks=[EasinessCallback(tmp_path, run="only")], max_epochs=1).fit(Net(), loader())


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


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced are run.json, the targets and step 0, and from the fourth on what is probed after."""
    Full(monkeypatch, 4, 5)
    callback = EasinessCallback(tmp_path, run="only", online=False, at_steps=(0, 2, 3, 4))
    with pytest.warns(UserWarning, match="EasinessCallback could not write") as caught:
        trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader())
    expected = [
        f"EasinessCallback could not write step 2 under '{tmp_path}' ([Errno 28] Step 2 of series 'train-probe' was not"
        f" written into '{tmp_path / 'only'}' (No space left on device): mend that, then resume; all checkpoints before"
        f" it are whole.); {number} checkpoints wait in memory for the next try. Make room on the disk."
        for number in (1, 2)
    ]
    assert [str(warning.message) for warning in caught if "EasinessCallback" in str(warning.message)] == expected
    record = EasinessRecord.load(tmp_path)
    assert record.steps.tolist() == [0, 2, 3, 4, 7]
    assert len(record.loss[0].unique(dim=0)) == 5
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.filterwarnings("ignore:EasinessCallback could not write step")
@pytest.mark.filterwarnings("ignore:Left out")
def test_a_disk_that_stays_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Full(monkeypatch, 4, float("inf"))
    callback = EasinessCallback(tmp_path, run="only", online=False, at_steps=(0, 2))
    message = refused(OSError, callback, max_epochs=1, steps=7)
    assert "Step 2 of series 'train-probe' was not written into" in message
    assert "(No space left on device)" in message
    record = EasinessRecord.load(tmp_path)
    assert record.steps.tolist() == [0]
    assert record.loss.isfinite().all()


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
    count = next(value for key, value in state.items() if "Easiness" in key)["sums"][-1]
    done = 4 if when == "step" else 5
    assert count.tolist() == [1.0] * done * 8 + [0.0] * (53 - done * 8)
    armed = False
    fit(saved)
    record = EasinessRecord.load(tmp_path / "easiness", series="train-online")
    # a plain loader begins anew, so that the first batches come again; Lightning knows how many are left
    assert record.count.sum() == done * 8 + (7 - done) * 8
