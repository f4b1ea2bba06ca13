"""What the soak test trains: small, random in every way that resuming must restore, and over in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd  # noqa: F401  # another user may not import what is needed later
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from soak_faults import on_another_disk
from soak_processes import Result
from soak_results import digest, observed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    SampleEasinessTraining,
    Selection,
    StepwiseCompression,
    Threshold,
    ThresholdRuns,
    compare_selections,
    find_label_issues,
    repeat_fit,
)

NUM_EXAMPLES, NUM_CLASSES, BATCH_SIZE, EPOCHS = 60, 4, 10, 4
SIGMA2 = 1e-3  # so that there are examples of all levels
EARLIER = 0.3  # how often a training is resumed from another checkpoint than its last
SHIFT = 10  # of the seeds of another run


class Points(Dataset):
    """Points with a learnable class; where augmented, with each of the three global random generators."""

    def __init__(self, seed: int = 0, augment: bool = False) -> None:
        self.x = torch.randn(NUM_EXAMPLES, 8, generator=torch.Generator().manual_seed(seed))
        self.y, self.augment = self.x[:, :NUM_CLASSES].argmax(1), augment

    def __len__(self) -> int:
        return NUM_EXAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        if self.augment:
            x = x + 0.1 * (torch.randn(8) + random.random() + float(np.random.rand()))  # noqa: NPY002
        return x, self.y[index]


class Net(LightningModule):
    """A small classifier with a schedule; where it drops units, it draws, which no checkpoint of Lightning restores."""

    def __init__(self, dropout: float = 0.2, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


class Data(LightningDataModule):
    """Training and validation data."""

    def __init__(self, seed: int, augment: bool = True) -> None:
        super().__init__()
        self.points, self.checked = Points(seed, augment), Points(seed + 1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.points, batch_size=BATCH_SIZE, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.checked, batch_size=BATCH_SIZE)


class Order:
    """Batches in an order of its own for each epoch, from the place on at which training is; copies share the place."""

    def __init__(self, size: int = NUM_EXAMPLES, place: dict[str, int] | None = None) -> None:
        self.size, self.batch_size, self.sampler = size, BATCH_SIZE, self  # where Lightning looks for set_epoch
        self.place = {"epoch": 0, "given": 0} if place is None else place

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.place["epoch"]:
            self.place.update(epoch=epoch, given=0)

    def for_selection(self, selected: Any) -> Order:
        return Order(len(selected), self.place)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.place["epoch"])
        return iter(torch.randperm(self.size, generator=generator).split(BATCH_SIZE)[self.place["given"] :])

    def __len__(self) -> int:
        return -(-self.size // BATCH_SIZE)


class StatefulLoader(DataLoader):
    """Goes on where it was, by Lightning's protocol, so that a checkpoint in mid-epoch is as good as at its end."""

    def __init__(self, dataset: Dataset, batch_sampler: Order | None = None) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler or Order())

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            self.batch_sampler.place["given"] += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return dict(self.batch_sampler.place)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batch_sampler.place.update(state)


class Given(NamedTuple):
    """Where a training works, what is other than usual about it, and a number in [0, 1) for what it draws."""

    folder: Path
    data_seed: int = 0
    shift: int = 0  # of its own seeds
    draw: float = 0.99


class Training(NamedTuple):
    """Trains to the end, from whatever is there already, and returns digests of all that was found."""

    work: Callable[[Given], Result]
    ranks: int = 1


def make_trainer(epochs: int = EPOCHS, **options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(**{"accelerator": "cpu", "devices": 1, "max_epochs": epochs, **quiet, **options})


def observer(**options: Any) -> EasinessCallback:
    return EasinessCallback(**{"every_n_epochs": 1, "num_images": 0, "at_steps": (0, 8), "sigma2": SIGMA2, **options})


# ------------------------------------------------------------------------------------ by Lightning's own checkpoints


class WithinEpochs(ModelCheckpoint):
    """Saves nothing at the last batch of an epoch, from which Lightning itself does not resume exactly."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 < trainer.num_training_batches:
            with on_another_disk():
                super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def checkpoints_of(folder: Path) -> Path:
    """Return the folder of Lightning's checkpoints: its files are not ours, and no fault meets them."""
    return folder.with_name(f"{folder.name}-lightning")


def chosen_checkpoint(folder: Path, draw: float) -> Path | None:
    """Return the last checkpoint, or now and then an earlier one."""
    found = sorted(checkpoints_of(folder).glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1].split("-")[0]))
    if not found:
        return None
    return found[int(draw / EARLIER * len(found)) if draw < EARLIER else -1]


def fit(given: Given, selection: Selection | None = None) -> Result:
    """One fit with the callback, resumed by a checkpoint that ModelCheckpoint wrote."""
    seed_everything(1 + given.shift, verbose=False)
    module, loader = Net(dropout=0.0), StatefulLoader(Points(given.data_seed))
    saves = WithinEpochs(checkpoints_of(given.folder), "{step}", every_n_train_steps=2, save_top_k=-1)
    watches = observer(dirpath=given.folder, run="only", exist_ok=True, probabilities=True)
    trainer = make_trainer(callbacks=[watches, saves], enable_checkpointing=True)
    data = loader if selection is None else EasinessDataModule(loader, selection)
    named = {"train_dataloaders" if selection is None else "datamodule": data}
    trainer.fit(module, ckpt_path=chosen_checkpoint(given.folder, given.draw), **named)
    return {"weights": digest(*module.state_dict().values()), **observed(given.folder)}


def selected_fit(given: Given) -> Result:
    return fit(given, medium())


def medium() -> SampleEasinessTraining:
    return SampleEasinessTraining(early_epochs=1, minimum=20)


# ----------------------------------------------------------------------------------------------------- by repeat_fit


def repeats(given: Given, **options: Any) -> Result:
    """Repeats whose order, augmentations and dropout are drawn from the global streams."""
    repeat_fit(
        lambda: make_trainer(callbacks=[observer()]),
        Net,
        DataLoader(Points(given.data_seed, augment=True), batch_size=BATCH_SIZE, shuffle=True),
        **{"seeds": seeds(given, 2), "dirpath": given.folder, "progress": False, **options},
    )
    return observed(given.folder)


def held_out(given: Given) -> Result:
    return repeats(given, hold_out=0.3)


def seeds(given: Given, number: int) -> list[int]:
    return [given.shift + 3 + place for place in range(number)]


def repeats_of_set(given: Given, **options: Any) -> Result:
    repeat_fit(
        lambda: make_trainer(callbacks=[observer(probabilities=True)], **options),
        Net,
        EasinessDataModule(Data(given.data_seed), medium()),
        seeds=seeds(given, 1 if options else 2),
        dirpath=given.folder,
        progress=False,
    )
    return observed(given.folder)


def two_ranks(given: Given) -> Result:
    """Return what two processes find that share each batch, and draw other numbers each."""
    return repeats_of_set(given, strategy="ddp", devices=2)


# ------------------------------------------------------------------------------------------------------- experiments


def compression(given: Given) -> Result:
    options = {"ratio": 0.2, "step": 0.1, "seeds": seeds(given, 2), "dirpath": given.folder, "progress": False}
    kept = StepwiseCompression(lambda: make_trainer(2), Net, Data(given.data_seed), **options).run()
    return {"kept": digest(kept), **observed(given.folder)}


def comparison(given: Given) -> Result:
    options = {"ratios": [0.2], "methods": ["random", "easy", "stepwise"], "seeds": seeds(given, 2), "step": 0.2}
    options |= {"dirpath": given.folder, "metric": "val_loss", "progress": False}
    rows = compare_selections(lambda: make_trainer(2), Net, Data(given.data_seed), **options)
    return {"rows": digest(rows), **observed(given.folder)}


def threshold(given: Given) -> Result:
    options = {"num_classes": NUM_CLASSES, "seeds": seeds(given, 1), "dirpath": given.folder, "progress": False}
    make_module = lambda num_classes: Net(num_classes=num_classes)  # noqa: E731
    runs = ThresholdRuns(lambda: make_trainer(2), make_module, Data(given.data_seed), **options).run()
    issues = [find_label_issues(source, Threshold()) for source in (runs, given.folder)]
    return {
        "issues": digest(*(one.score for one in issues), *(one.is_issue for one in issues)),
        **observed(given.folder),
    }


TRAININGS = {
    "fit, Lightning's checkpoints": Training(fit),
    "SET, Lightning's checkpoints": Training(selected_fit),
    "repeats": Training(repeats),
    "repeats, a part held out": Training(held_out),
    "repeats of SET": Training(repeats_of_set),
    "stepwise compression": Training(compression),
    "comparison of selections": Training(comparison),
    "threshold protocol": Training(threshold),
    "repeats of SET, two processes": Training(two_ranks, ranks=2),
}
