"""Contract 9: errors say what to do, come before the first training step where that can be, and cost no checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.refusing import Counts, refused
from tests.small import Net, Points, loader, trainer

# ---------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"every_n_epochs": -1},
            "The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got -1.",
        ),
        (
            {"every_n_epochs": 0.5},
            "The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got 0.5.",
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
            {"probe": None, "patterns": {"grey": abs}},
            "The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on.",
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
        f"The train loader's sampler yields keys that are no integers ({shown}), so examples have no index; give"
        " EasinessCallback online=False and a `probe` loader with integer indices."
    )


@pytest.mark.parametrize("key", [-1, 53])
def test_keys_that_number_no_example(key: int, tmp_path: Path) -> None:
    data = DataLoader(Named(60), batch_size=2, sampler=Sized([0, key]))
    data.dataset.__class__ = type("Short", (Named,), {"__len__": lambda self: 53})
    assert refused(IndexError, EasinessCallback(tmp_path), data) == (
        f"The train loader's sampler asks for example {key}, but examples are numbered 0 to 52; fix the sampler, or"
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
    fit = trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=1)], reload_dataloaders_every_n_epochs=1)
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
    differ = (other.y != Points().y).nonzero()[:, 0].tolist()
    assert message == (
        f"Series 'train-probe' of run 'only' in '{tmp_path}' and the observation are not of the same data: example"
        f" {differ[0]} has target {int(Points().y[differ[0]])} in the first and {int(other.y[differ[0]])} in the second"
        f" ({len(differ)} of 53 differ), so an index no longer names the same example: give another data set another"
        " `run` or `dirpath`."
    )
    assert torch.equal(EasinessRecord.load(tmp_path).loss, before)
