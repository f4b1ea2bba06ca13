"""repeat_fit and recipes: runs of another recipe are refused before training, with what differs and the ways out."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_easiness import Ablation, EasinessDataModule, EasinessRecord, Scores, repeat_fit
from lightning_easiness._utils.checked_files import with_checksum
from lightning_easiness.record.layout import RUN_FILE, is_complete, read_run
from tests.made_runs import whole
from tests.repeated_runs import never
from tests.small import Net, loader, recorded, streams, trainer


class Tuned(Net):
    """A module that saves no hyperparameters; its settings are only in its optimizer and its parts."""

    lr, dropout, width, weight_decay = 0.1, 0.2, 16, 0.0

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self.net = nn.Sequential(nn.Linear(8, self.width), nn.Dropout(self.dropout), nn.Linear(self.width, 4))
        self.loss = nn.CrossEntropyLoss(label_smoothing=settings.get("smoothing", 0.0))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


class Seeded(Net):
    def __init__(self, seed: int, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


def repeat(folder: Path, make_module: Any = Tuned, seeds: Any = (1, 2), data: Any = loader, **options: Any) -> Any:
    return repeat_fit(lambda: trainer(**options), make_module, data, seeds=seeds, dirpath=folder, progress=False)


def way_out(folder: Path) -> str:
    return f"give another `dirpath`, delete '{folder}' to train everything anew, or go back to the recipe of then."


def tuned(**settings: Any) -> Any:
    return lambda: Tuned(**settings)


CHANGES = {
    "learning rate": (tuned(lr=0.01), {}, "optimizers.0.lr: 0.1 then, 0.01 now"),
    "weight decay": (tuned(weight_decay=0.1), {}, "optimizers.0.weight_decay: 0.0 then, 0.1 now"),
    "dropout": (
        tuned(dropout=0.5),
        {},
        "layers.net.1: Dropout(p=0.2, inplace=False) then, Dropout(p=0.5, inplace=False) now",
    ),
    "loss": (tuned(smoothing=0.1), {}, "layers.loss: "),
    "accumulation": (Tuned, {"accumulate_grad_batches": 2}, "accumulate_grad_batches: 1 then, 2 now"),
    "clipping": (Tuned, {"gradient_clip_val": 1.0}, "gradient_clip_val: none then, 1.0 now"),
    "precision": (Tuned, {"precision": "bf16-mixed"}, "precision: 32-true then, bf16-mixed now"),
    "batches": (Tuned, {"limit_train_batches": 3}, "limit_train_batches: none then, 3 now"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete runs."""
    folder = tmp_path_factory.mktemp("done")
    repeat(folder)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_another_recipe_is_refused_where_all_runs_are_complete(
    done: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_module, options, difference = CHANGES[change]
    monkeypatch.setattr(Trainer, "fit", never)
    before, random = recorded(done), streams()
    with pytest.raises(ValueError, match=r"^Run 'seed-1' in '.*' was trained by another recipe \(") as caught:
        repeat(done, make_module, **options)
    assert difference in str(caught.value)
    assert str(caught.value).endswith(way_out(done))
    assert (recorded(done), streams()) == (before, random)


def test_the_whole_sentence(done: Path) -> None:
    sentence = (
        f"Run 'seed-1' in '{done}' was trained by another recipe (optimizers.0.lr: 0.1 then, 0.01 now): {way_out(done)}"
    )
    for seeds in ((1, 2), (1, 2, 3), (7,)):  # complete, one more, a job of an array
        with pytest.raises(ValueError, match=whole(sentence)):
            repeat(done, tuned(lr=0.01), seeds)
    assert not (done / "seed-3").exists()


def test_a_longer_training_is_another_recipe(done: Path) -> None:
    sentence = (
        f"Run 'seed-1' in '{done}' was trained by another recipe (max_epochs: 2 then, 3 now): runs of another length"
        f" are trained from the start, so {way_out(done)}"
    )
    with pytest.raises(ValueError, match=whole(sentence)):
        repeat(done, max_epochs=3)


def test_another_batch_size_is_refused_before_the_first_step(done: Path) -> None:
    def make_module() -> Net:
        module = Tuned()
        module.training_step = never  # type: ignore[method-assign]
        return module

    with pytest.raises(ValueError, match="batch_size: 8 then, 16 now"):
        repeat(done, make_module, (1, 3), data=lambda: loader(batch_size=16))
    assert not (done / "seed-3" / "train-online").exists()


def test_the_same_recipe_is_said_to_be_complete_and_trains_nothing(
    done: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "fit", never)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        repeat(done)
    assert f"2 of 2 complete in '{done}': nothing trained." in caplog.messages


def test_it_says_how_many_are_still_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        repeat(tmp_path, seeds=(1,))
        assert not any("complete in" in message for message in caplog.messages), "nothing was there"
        repeat(tmp_path, seeds=(0, 1, 2))
    assert f"1 of 3 complete in '{tmp_path}', training 2." in caplog.messages


LABELS = torch.arange(300) % 4
ROWS = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


def tensors(x: torch.Tensor = ROWS, y: torch.Tensor = LABELS, **options: Any) -> DataLoader:
    return loader(TensorDataset(x, y), **options)


@pytest.fixture(scope="module")
def of_tensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete runs on tensors."""
    folder = tmp_path_factory.mktemp("tensors")
    repeat(folder, data=tensors())
    return folder


@pytest.mark.parametrize(
    ("now", "part"),
    [
        (tensors(y=LABELS.index_fill(0, torch.tensor(150), 0)), "examples (other targets), and"),
        (tensors(ROWS + 1), "examples (other values in the first or last of them), and"),
        (tensors(ROWS[:299], LABELS[:299]), "data.num_examples: 300 then, 299 now"),
        (tensors(batch_size=16), "batch_size: 8 then, 16 now"),
        (loader(random_split(TensorDataset(ROWS, LABELS), [300, 0])[0]), "examples (other targets, other values"),
    ],
    ids=["a label", "inputs", "length", "batches", "order"],
)
def test_another_loader_is_refused_where_all_runs_are_complete(
    of_tensors: Path, now: DataLoader, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "fit", never)
    assert repeat(of_tensors, data=tensors()).num_runs == 2
    with pytest.raises(ValueError, match=re.escape(part)):
        repeat(of_tensors, data=now)


def test_another_selection_is_refused_where_all_runs_are_complete(tmp_path: Path) -> None:
    def selected(ratio: float) -> Any:
        scores = Scores(torch.arange(300.0), higher_is_easier=False)
        return EasinessDataModule(tensors(), Ablation(scores, ratio, "easy"))

    repeat(tmp_path, data=selected(0.3))
    assert repeat(tmp_path, data=selected(0.3)).num_runs == 2
    with pytest.raises(ValueError, match=re.escape("(selection.ratio: 0.3 then, 0.5 now)")):
        repeat(tmp_path, data=selected(0.5))
    with pytest.raises(ValueError, match=r"selection: lightning_easiness\.select\.static\.Ablation then, none now"):
        repeat(tmp_path, data=tensors())


class Transformed(TensorDataset):
    def __init__(self, transform: Any) -> None:
        super().__init__(ROWS, LABELS)
        self.transform = transform


def test_another_transform_of_the_data_is_another_recipe(tmp_path: Path) -> None:
    for _ in range(2):
        data = random_split(Transformed(nn.Sequential(nn.Dropout(0.1))), [300, 0], torch.Generator().manual_seed(0))[0]
        repeat(tmp_path, data=loader(data))
    data.dataset.transform = nn.Sequential(nn.Dropout(0.2))
    with pytest.raises(ValueError, match=r"\(transform: .*, .* now\)"):
        repeat(tmp_path, data=loader(data))
    repeat(tmp_path / "a function", data=loader(Transformed(lambda x: x)))
    assert repeat(tmp_path / "a function", data=loader(Transformed(lambda x: x))).num_runs == 2


class Augmented(LightningDataModule):
    def __init__(self, augment: bool = False, data_dir: str = "here", num_workers: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader:
        return tensors()


def test_hyperparameters_of_the_data_are_compared_but_not_where_and_how_they_are_read(tmp_path: Path) -> None:
    repeat(tmp_path, data=Augmented())
    assert repeat(tmp_path, data=Augmented(data_dir="there", num_workers=3)).num_runs == 2
    for data in (Augmented(augment=True), EasinessDataModule(Augmented(augment=True), None)):
        with pytest.raises(ValueError, match=re.escape("(data_hyperparameters.augment: false then, true now)")):
            repeat(tmp_path, data=data)


# ------------------------------------------------------------------ within a call, and of runs that were stopped


def test_a_seed_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    for _ in range(2):
        assert repeat(tmp_path, lambda seed: Seeded(seed), (3, 4, 5)).num_runs == 3
    assert EasinessRecord.load(tmp_path).recipes[0]["hyperparameters"] == {"seed": 3, "width": 3}


class Named(Net):
    def __init__(self, name: str, folder: str) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_a_name_that_holds_the_seed_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    for _ in range(2):
        make = lambda seed: Named(f"net-{seed}", folder=str(tmp_path / f"seed{seed}-logs"))  # noqa: E731
        assert repeat(tmp_path / "runs", make, (3, 10)).num_runs == 2
    with pytest.raises(ValueError, match=r"hyperparameters\.name: net-10 then, net-30 now"):
        repeat(tmp_path / "runs", lambda: Named("net-30", folder="seed3-logs"), (3,))


class Placed(Net):
    def __init__(self, log_dir: Path, output_dim: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_where_a_module_writes_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    for name in ("today", "tomorrow"):
        assert repeat(tmp_path / "runs", lambda name=name: Placed(tmp_path / name)).num_runs == 2
    with pytest.raises(ValueError, match=r"hyperparameters\.output_dim: 1 then, 2 now"):
        repeat(tmp_path / "runs", lambda: Placed(tmp_path, output_dim=2))


def test_two_seeds_of_different_recipes_are_refused_before_the_second_trains(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'seed-1' in .*\(hyperparameters\.width: 1 then, 2 now\)"):
        repeat(tmp_path, lambda seed: Seeded(seed, width=seed), (1, 2))
    assert is_complete(tmp_path / "seed-1")
    assert not (tmp_path / "seed-2").exists()


@pytest.mark.parametrize(("make_module", "difference"), [(tuned(lr=0.01), "lr: 0.1"), (tuned(width=5), "layers.net.0")])
def test_a_stopped_run_is_not_continued_by_another_recipe(tmp_path: Path, make_module: Any, difference: str) -> None:
    class Stops(Tuned):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 1:
                raise ArithmeticError

    Stops.__qualname__, Stops.__module__ = Tuned.__qualname__, Tuned.__module__
    with pytest.raises(ArithmeticError):
        repeat(tmp_path, Stops, (1,))
    before = recorded(tmp_path)
    with pytest.raises(ValueError, match=difference):
        repeat(tmp_path, make_module, (1,))
    assert recorded(tmp_path) == before
    assert repeat(tmp_path, Tuned, (1,)).num_checkpoints == 2


def test_nothing_is_asked_of_a_run_that_came_to_no_checkpoint(tmp_path: Path) -> None:
    class Fails(Tuned):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        repeat(tmp_path, Fails, (1,))
    assert (tmp_path / "seed-1" / RUN_FILE).exists()
    assert repeat(tmp_path, tuned(lr=0.01), (1,)).recipes[0]["optimizers"][0]["lr"] == 0.01


# ------------------------------------------------------------------ what cannot be known without a fit


def test_a_module_that_makes_its_parts_in_a_fit_is_not_refused(tmp_path: Path) -> None:
    class Late(Tuned):
        def configure_model(self) -> None:
            self.more = nn.Linear(2, 2)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1 / self.trainer.estimated_stepping_batches)

    for _ in range(2):
        assert repeat(tmp_path, Late).num_runs == 2


def test_factories_that_fail_are_warned_of_where_nothing_is_to_be_trained(done: Path) -> None:
    sentence = (
        f"The recipe of the runs in '{done}' could not be compared with that of now, as make_trainer or make_module"
        " raised AssertionError: what is complete is not trained again"
    )
    with pytest.warns(UserWarning, match=whole(sentence)):
        assert repeat(done, never).num_runs == 2


def test_runs_without_a_recipe_are_not_refused(tmp_path: Path) -> None:
    repeat(tmp_path)
    for run in ("seed-1", "seed-2"):
        path = tmp_path / run / RUN_FILE
        path.write_text(json.dumps(with_checksum({**json.loads(path.read_text()), "recipe": None})))
        assert read_run(tmp_path / run).recipe == {}
    assert repeat(tmp_path, tuned(lr=0.01)).recipes == [{}, {}]
