"""repeat_fit where all runs are complete, and the data have changed since: it is noticed, though nothing is trained."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_easiness import EasinessDataModule, compare_selections, repeat_fit
from lightning_easiness._utils.checked_files import with_checksum
from lightning_easiness.record.layout import RUN_FILE
from tests.made_runs import whole
from tests.repeated_runs import never
from tests.small import Net, Points, loader, recorded, streams, trainer


class Split(LightningDataModule):
    """Splits in `setup`, as most do; the seed of the split is not among its hyperparameters."""

    def __init__(self, split_seed: int | None = 0, corrected: int = 0, needs_trainer: bool = False) -> None:
        super().__init__()
        self.split_seed, self.corrected, self.needs_trainer = split_seed, corrected, needs_trainer
        self.prepared = self.torn_down = 0

    def prepare_data(self) -> None:
        self.prepared += 1

    def setup(self, stage: str) -> None:
        assert stage == "fit"
        if self.needs_trainer:
            assert self.trainer.world_size == 1
        points = Points(40)
        points.y[: self.corrected] = (points.y[: self.corrected] + 1) % 4
        seed = {} if self.split_seed is None else {"generator": torch.Generator().manual_seed(self.split_seed)}
        self.train, _ = random_split(points, [30, 10], **seed)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train)

    def teardown(self, stage: str) -> None:
        self.torn_down += 1


def repeat(folder: Path, data: Any, seeds: Any = (1, 2), **options: Any) -> Any:
    return repeat_fit(trainer, Net, data, seeds=seeds, dirpath=folder, progress=False, **options)


def way_out(folder: Path) -> str:
    return (
        "and such runs cannot be averaged: where the data are split at random, fix the split, as random_split(...,"
        " generator=torch.Generator().manual_seed(0)), and give other data another `dirpath`, or delete"
        f" '{folder}' to train everything anew."
    )


@pytest.fixture(params=[{}, {"hold_out": 0.5}], ids=["plain", "held out"])
def options(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["a datamodule", "a function", "wrapped"])
def given(request: pytest.FixtureRequest) -> Callable[[Split], Any]:
    ways: dict[str, Callable[[Split], Any]] = {
        "a datamodule": lambda data: data,
        "a function": lambda data: lambda: data,
        "wrapped": lambda data: EasinessDataModule(data, None),
    }
    return ways[request.param]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero")
    return lambda: next(message for message in reversed(caplog.messages) if "nothing trained" in message)


def test_corrected_labels_and_another_split_are_noticed(
    tmp_path: Path, options: Any, given: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeat(tmp_path, given(Split()), **options)
    before, random = recorded(tmp_path), streams()
    monkeypatch.setattr(Trainer, "fit", never)
    assert repeat(tmp_path, given(Split()), **options).num_runs == 2
    assert said() == f"2 of 2 complete in '{tmp_path}': nothing trained."
    began = f"Run 'seed-1' in '{tmp_path}' was trained on other examples "
    with pytest.raises(ValueError, match=whole(f"{began}(other targets), {way_out(tmp_path)}")):
        repeat(tmp_path, given(Split(corrected=5)), **options)
    with pytest.raises(
        ValueError, match=whole(f"{began}(another part of their source, other targets), {way_out(tmp_path)}")
    ):
        repeat(tmp_path, given(Split(5)), **options)
    assert (recorded(tmp_path), streams()) == (before, random)


def test_runs_without_a_recipe_are_compared_by_what_they_recorded(tmp_path: Path) -> None:
    repeat(tmp_path, Split())
    for run in ("seed-1", "seed-2"):
        path = tmp_path / run / RUN_FILE
        path.write_text(json.dumps(with_checksum({**json.loads(path.read_text()), "recipe": None})))
    assert repeat(tmp_path, Split()).num_runs == 2
    for data, problem in ((Split(corrected=40), "has target"), (Split(5), "is item")):
        with pytest.raises(ValueError, match=rf"^Run 'seed-1' in .* was not trained on the data of now \(.* {problem}"):
            repeat(tmp_path, data)


def test_the_datamodule_is_prepared_set_up_and_torn_down_once(tmp_path: Path) -> None:
    repeat(tmp_path, Split())
    data = Split()
    repeat(tmp_path, data)
    assert (data.prepared, data.torn_down) == (1, 1)


def test_data_that_need_a_trainer_are_said_not_to_be_compared(tmp_path: Path, said: Any) -> None:
    repeat(tmp_path, Split(needs_trainer=True))
    assert repeat(tmp_path, Split(5, needs_trainer=True)).num_runs == 2
    begins = f"2 of 2 complete in '{tmp_path}': nothing trained; the data were not compared with those of then ("
    assert said().startswith(f"{begins}AttributeError: ")


def test_a_split_that_is_drawn_anew_is_said_not_to_be_compared(tmp_path: Path, said: Any) -> None:
    repeat(tmp_path, Split(None), seeds=(1,))
    assert repeat(tmp_path, Split(None), seeds=(1,)).num_runs == 1
    assert said() == (
        f"1 of 1 complete in '{tmp_path}': nothing trained; the data were not compared with those of then (they are"
        " drawn anew each time that they are made)."
    )


class Unlisted(Points):
    """Keeps its labels under a name that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = self.__dict__.pop("y")

    def __getitem__(self, index: int) -> Any:
        return self.x[index].float(), int(self.secret[index])


def test_labels_that_are_not_listed_are_said_not_to_be_compared(tmp_path: Path, said: Any) -> None:
    for _ in range(2):
        repeat(tmp_path, loader(Unlisted()))
    assert said().endswith("nothing trained; labels were not compared, as the data list none.")


class HoldsItsData(Net):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader()


def test_data_of_the_module_are_said_not_to_be_compared(tmp_path: Path, said: Any) -> None:
    for _ in range(2):
        repeat_fit(trainer, HoldsItsData, None, seeds=(1,), dirpath=tmp_path, progress=False)
    assert said().endswith("; the data were not compared with those of then (the module makes them).")


class Line(Net):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self(batch[0])[:, :1] - batch[1]).square().mean()


def test_a_number_of_a_regression_in_the_middle_of_the_data_is_noticed(tmp_path: Path) -> None:
    x, y = torch.randn(300, 8), torch.randn(300, 1)

    def run() -> None:
        data = loader(TensorDataset(x, y.clone()), batch_size=100)
        arguments = {"seeds": (1,), "dirpath": tmp_path, "progress": False}
        repeat_fit(lambda: trainer(callbacks=[observer()]), Line, data, **arguments)

    run()
    run()
    y[150] += 1
    with pytest.raises(ValueError, match=r"other examples \(other targets\)"):
        run()


def observer() -> Any:
    from lightning_easiness import EasinessCallback

    return EasinessCallback(
        num_images=0, logits_fn=lambda output: output[:, :1], loss_fn=lambda p, t: (p - t).square()[:, 0]
    )


class Compared(Split):
    def setup(self, stage: str) -> None:
        super().setup("fit")  # also to validate

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(Points(20, seed=5), shuffle=False)


def compare(folder: Path, data: Any) -> list[float]:
    given = {"ratios": [0.5], "methods": ["random"], "seeds": [1], "metric": "val_loss", "progress": False}
    return [row["mean"] for row in compare_selections(trainer, Net, data, dirpath=folder, **given)]


def test_kept_results_of_a_comparison_on_other_data_are_refused(
    tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, anew = tmp_path / "here", tmp_path / "there", tmp_path / "anew"
    means = compare(here, given(Compared()))
    others = compare(there, given(Compared(corrected=5)))
    assert others != means
    compare(anew, given(Compared(None)))
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", never)
        assert compare(here, given(Compared())) == means
        compare(anew, given(Compared(None)))
        message = (
            f"'{here}' holds what came of other data (other targets): give another `dirpath`, delete it to train"
            " everything anew, or go back to the data of then."
        )
        with pytest.raises(ValueError, match=whole(message)):
            compare(here, given(Compared(corrected=5)))
        for result in there.rglob("random-0.5/*.json"):
            shutil.copy(result, here / result.relative_to(there))
        with pytest.raises(ValueError, match="is the result of another run: delete it to have this one trained"):
            compare(here, given(Compared()))
    for result in here.rglob("random-0.5/*.json"):
        result.unlink()
    assert compare(here, given(Compared())) == means
