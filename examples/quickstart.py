"""Which handwritten digits are hard? The main use of the package, on real data, with no download.

Trains a small CNN and an MLP on scikit-learn's 1,797 digits under ten seeds with one callback added, prints the hardest
digits and how far the two networks agree on them, and writes a data map, image grids and TensorBoard logs.

    python examples/quickstart.py
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import (
    EasinessCallback,
    EasinessRecord,
    averages_grid,
    draw_data_map,
    repeat_fit,
    save_image,
    scores_grid,
    write_tensorboard,
)
from lightning_easiness.functional import matching_rate

FRACTION = 0.1  # as in the papers, a tenth of the examples is called easy and a tenth hard


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


class Classifier(LightningModule):
    """An ordinary LightningModule with no code for easiness."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def digits() -> TensorDataset:
    data = load_digits()
    return TensorDataset(torch.tensor(data.images, dtype=torch.float32).div(16).unsqueeze(1), torch.tensor(data.target))


def score(name: str, dataset: TensorDataset, folder: Path, seeds: int, epochs: int) -> EasinessRecord:
    """Train one architecture under all seeds."""

    def make_trainer(seed: int) -> Trainer:
        return Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            # the only line that your own project needs; one pass per epoch, for curves in TensorBoard
            callbacks=[EasinessCallback(every_n_epochs=1, probe_batch_size=256)],
            logger=TensorBoardLogger(folder / "tensorboard", name=name, version=f"seed-{seed}"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
        )

    make_model = {"cnn": cnn, "mlp": mlp}[name]
    return repeat_fit(
        make_trainer,
        lambda: Classifier(make_model()),
        DataLoader(dataset, batch_size=64, shuffle=True),
        seeds=range(seeds),
        dirpath=folder / name,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"))
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*")

    dataset = digits()
    records = {
        name: score(name, dataset, arguments.output, arguments.seeds, arguments.epochs) for name in ("cnn", "mlp")
    }
    scores = {name: record.score("mean_loss") for name, record in records.items()}

    print(f"\nThe ten hardest of {len(dataset)} digits, by mean loss over {arguments.seeds} runs of the CNN:")
    print("  index  digit  predicted   loss  spread")
    for index in scores["cnn"].hardest(10 / len(dataset)).tolist():
        found = scores["cnn"]
        labels = f"{found.target[index]:5d}  {found.prediction[index]:9d}"
        print(f"  {index:5d}  {labels}  {found.values[index]:5.2f}  {found.spread[index]:6.2f}")

    print("\nDo the CNN and the MLP find the same digits easy and hard?")
    print(f"Matching rates of the easiest and hardest {FRACTION:.0%} (by chance: {FRACTION}):")
    for which in ("easiest", "hardest"):
        a, b = (getattr(scores[name], which)(FRACTION) for name in ("cnn", "mlp"))
        print(f"  {which}: {matching_rate(a, b):.2f}")
    print(f"\nAre {arguments.seeds} seeds enough?\n{records['cnn'].agreement()}")

    hardest = save_image(scores_grid(dataset, scores["cnn"], 25, which="hard"), arguments.output / "hardest.png")
    averages = save_image(averages_grid(dataset, scores["cnn"], FRACTION), arguments.output / "averages.png")
    write_tensorboard(records, dataset, arguments.output / "tensorboard" / "all-seeds")
    draw_data_map(records["cnn"], arguments.output / "data_map.png", dataset=dataset)
    print(f"\nImages: {arguments.output / 'data_map.png'}, {hardest} and {averages}")
    print(f"Each training, and a page over all seeds: tensorboard --logdir {arguments.output / 'tensorboard'}")


if __name__ == "__main__":
    main()
