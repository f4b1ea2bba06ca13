"""Train on the examples that still matter: SET in five changed lines of an ordinary script, and classic training.

The changed lines are numbered. The data is scikit-learn's handwritten digits. Two early epochs train on everything.
After that, each epoch trains on the medium examples, whose prediction could be changed by small noise, and on a random
half of the others with twice the weight, so that nothing is forgotten and the gradient stays unbiased. Easiness comes
from the training steps themselves. No download, under a minute on two CPU cores.

    python examples/train_faster.py
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lightning_easiness import EasinessCallback, EasinessDataModule, SampleEasinessTraining, SELModule
from lightning_easiness.functional import worst_class_accuracy


class Classifier(SELModule, LightningModule):  # 1: SELModule in front
    """Otherwise an ordinary module."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return self.weighted_mean(nn.functional.cross_entropy(self(x), y, reduction="none"))  # 2: one loss per example

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        right = self(x).argmax(1) == y
        self.log_dict({"accuracy": right.float().mean(), "worst_class": worst_class_accuracy(right, y)})

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        # one step per epoch, since the number of batches differs between epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def digits() -> tuple[TensorDataset, TensorDataset]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).div(16).unsqueeze(1)
    whole = TensorDataset(images, torch.tensor(data.target))
    train, test = random_split(whole, [1297, 500], generator=torch.Generator().manual_seed(0))
    return train, test


def train(seed: int, epochs: int, selects: bool) -> tuple[float, float, float, float]:
    """Train once, and return the accuracy, that of the worst class, the average data use and seconds per epoch."""
    seed_everything(seed, verbose=False)
    train_set, test_set = digits()
    loader = DataLoader(train_set, batch_size=64, shuffle=True)
    selection = None
    if selects:
        selection = SampleEasinessTraining(  # 3: what to train on
            early_epochs=2, others_share=0.5, final_epochs=2, online=True, rescore_every_n_epochs=None, seed=seed
        )
    with tempfile.TemporaryDirectory() as folder:
        watch = EasinessCallback(folder, probe=None, num_images=0)  # 4: observes the training forward
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Classifier()
        trainer.fit(module, datamodule=EasinessDataModule(loader, selection))  # 5: the loader, wrapped
        (found,) = trainer.test(module, DataLoader(test_set, batch_size=len(test_set)), verbose=False)
    return found["accuracy"], found["worst_class"], watch.usage.average_data_use(), watch.usage.average_epoch_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*")

    print("              accuracy         worst class  data use  seconds per epoch")
    for name, selects in (("classic", False), ("SET, unbiased", True)):
        found = [train(seed, arguments.epochs, selects) for seed in range(arguments.seeds)]
        accuracy, worst, use, seconds = zip(*found, strict=True)
        spread = statistics.stdev(accuracy) if len(accuracy) > 1 else float("nan")
        print(
            f"{name:13s} {statistics.fmean(accuracy):.3f} +- {spread:.3f}  {statistics.fmean(worst):11.3f}"
            f"  {statistics.fmean(use):8.0%}  {statistics.fmean(seconds):.2f}"
        )


if __name__ == "__main__":
    main()
