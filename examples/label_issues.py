"""Which labels are wrong? Human labels of CIFAR-10 (CIFAR-10N), found by watching one training, beside cleanlab.

Trains under a few seeds on labels that people gave, with one callback, ranks the labels by several scores of the
same runs, and compares with cleanlab's five-fold protocol, same network and epochs. Then trains again without
what was flagged, and tests on clean labels. A sheet of the top suspects is written beside the table.

    python examples/label_issues.py --data-root ROOT --labels worse

`ROOT/cifar10/{train,test}/<class>/<index>.jpg` are the pictures, `ROOT/cifar10/cifar10n-labels.npz` holds the labels
"clean", "aggregate" and "worse" (uint8, in the order of the index). With `--labels fashion` the suspects are those of
Fashion-MNIST as it is, and nothing is compared. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import CLASSES as CIFAR_CLASSES
from cifar10 import CifarData, cifar_cnn
from fashion_mnist import CLASSES as FASHION_CLASSES
from fashion_mnist import FashionData, small_cnn
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchvision.models import resnet18

from lightning_easiness import EasinessCallback, EasinessDataModule, Keep, find_label_issues, repeat_fit
from lightning_easiness.label_issues import LabelIssues
from lightning_easiness.label_views import suspects_sheet, write_suspects
from lightning_easiness.views import save_picture

FOLDS = 5


def small_resnet18() -> nn.Module:
    """ResNet-18 as it is used at 32 x 32."""
    model = resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {"cnn": cifar_cnn, "resnet18": small_resnet18, "fashion": small_cnn}


class Classifier(LightningModule):
    """An ordinary LightningModule; pictures of CIFAR-10 are flipped and shifted at random."""

    def __init__(self, model: nn.Module, epochs: int, augment: bool) -> None:
        super().__init__()
        self.model, self.epochs, self.augment = model, epochs, augment

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        if self.augment:
            flips = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(flips, x.flip(3), x)
            down, right = torch.randint(-2, 3, (2,)).tolist()
            x = torch.roll(nn.functional.pad(x, (2, 2, 2, 2)), (down, right), (2, 3))[:, :, 2:-2, 2:-2]
        return nn.functional.cross_entropy(self(x), y)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean(), on_epoch=True)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]).softmax(1)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_module() -> Classifier:
    fashion = ARGUMENTS.labels == "fashion"
    return Classifier(MODELS["fashion" if fashion else ARGUMENTS.model](), ARGUMENTS.epochs, augment=not fashion)


def make_trainer(callbacks: list[Any] | None = None) -> Trainer:
    return Trainer(
        max_epochs=ARGUMENTS.epochs,
        accelerator=ARGUMENTS.accelerator,
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def watched_trainer() -> Trainer:
    return make_trainer([EasinessCallback(probe=None, probabilities=True, num_images=0)])


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result from disk, or made."""
    path = ARGUMENTS.output / f"{name}.json"
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
        print(f"{name}: done", flush=True)
    return json.loads(path.read_text())


def watch(data: LightningDataModule) -> float:
    """Trains under all seeds with the callback; returns the seconds that it took."""

    def train() -> dict[str, Any]:
        start = time.perf_counter()
        folder = ARGUMENTS.output / "runs"
        repeat_fit(watched_trainer, make_module, data, range(ARGUMENTS.seeds), folder, progress=False)
        return {"seconds": time.perf_counter() - start}

    return kept("watched", train)["seconds"]


def out_of_sample(data: LightningDataModule, fold: int) -> dict[str, Any]:
    """One of five trainings on four fifths, and its probabilities for the last."""
    start = time.perf_counter()
    place = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)) % FOLDS
    seed_everything(fold, workers=True, verbose=False)
    module, trainer = make_module(), make_trainer()
    held_out = (place == fold).nonzero()[:, 0].tolist()
    trainer.fit(module, DataLoader(Subset(data.train, (place != fold).nonzero()[:, 0].tolist()), 128, shuffle=True))
    predicted = torch.cat(trainer.predict(module, DataLoader(Subset(data.train, held_out), 1000)))
    return {"seconds": time.perf_counter() - start, "index": held_out, "probabilities": predicted.tolist()}


def cleanlab_scores(data: LightningDataModule, given: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """Cleanlab's quality of each label (high is clean), its flags, and the seconds of its five trainings."""
    from cleanlab.filter import find_label_issues as find_by_confident_learning
    from cleanlab.rank import get_label_quality_scores

    probabilities, seconds = np.zeros((len(given), 10)), 0.0
    for fold in range(FOLDS):
        found = kept(f"fold-{fold}", lambda: out_of_sample(data, fold))  # noqa: B023
        probabilities[found["index"]] = found["probabilities"]
        seconds += found["seconds"]
    probabilities /= probabilities.sum(1, keepdims=True)
    qualities = {
        method: get_label_quality_scores(given, probabilities, method=method)
        for method in ("self_confidence", "normalized_margin")
    }
    return qualities, find_by_confident_learning(given, probabilities), seconds


def measured(suspicion: Tensor, wrong: Tensor, flagged: Tensor | None) -> dict[str, float]:
    """How well a ranking (high is suspicious) and its flags find what is wrong."""
    top = suspicion.argsort(descending=True)[: int(wrong.sum())]
    found = {
        "AUROC": float(binary_auroc(suspicion, wrong.long())),
        "AP": float(binary_average_precision(suspicion, wrong.long())),
        "precision at the true rate": float(wrong[top].double().mean()),
    }
    if flagged is not None:
        both = float((flagged & wrong).sum())
        precision, recall = both / max(1, int(flagged.sum())), both / int(wrong.sum())
        found |= {"F1": 2 * both / (int(flagged.sum()) + int(wrong.sum())), "precision": precision, "recall": recall}
    return found


def flags(issues: LabelIssues, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[issues.flagged] = True
    return mask


def suspicion(issues: LabelIssues, size: int) -> Tensor:
    """High is suspicious: the place in the table, from its end, as a share, since torchmetrics asks for [0, 1]."""
    ranked = torch.zeros(size, dtype=torch.float64)
    ranked[issues.index] = torch.arange(len(issues), 0, -1, dtype=torch.float64) / size
    return ranked


SCORES = ("area_under_margin", "normalized_margin", "self_confidence", "mean_loss", "confidence", "correctness")


def compare(data: LightningDataModule, given: Tensor, wrong: Tensor) -> tuple[str, LabelIssues]:
    size = len(given)
    seconds = watch(data)
    rows: dict[str, tuple[dict[str, float], float]] = {}
    tables = {name: find_label_issues(ARGUMENTS.output / "runs", name, series="train-online") for name in SCORES}
    for name, issues in tables.items():
        rows[f"{name} (ours)"] = measured(suspicion(issues, size), wrong, flags(issues, size)), seconds
    if not ARGUMENTS.no_cleanlab:
        qualities, flagged, cost = cleanlab_scores(data, given.numpy())
        for method, quality in qualities.items():
            ranking = torch.from_numpy(1 - quality)  # in [0, 1]
            rows[f"{method} (cleanlab, {FOLDS} folds)"] = measured(ranking, wrong, torch.from_numpy(flagged)), cost
    columns = ["AUROC", "AP", "precision at the true rate", "F1", "precision", "recall"]
    lines = ["| score | " + " | ".join(columns) + " | seconds |", "| --- " * (len(columns) + 2) + "|"]
    for name, (found, cost) in rows.items():
        cells = [f"{found[column]:.4f}" if column in found else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {cost:.0f} |")
    return "\n".join(lines), tables[ARGUMENTS.default]


def retrained(data: LightningDataModule, keep: Tensor | None, seed: int) -> float:
    """Accuracy on clean test labels after training on what is kept."""
    seed_everything(seed, workers=True, verbose=False)
    module, trainer = make_module(), make_trainer()
    trainer.fit(module, datamodule=EasinessDataModule(data, None if keep is None else Keep(keep)))
    return trainer.test(module, datamodule=data, verbose=False)[0]["accuracy"]


def compare_retrained(data: LightningDataModule, issues: LabelIssues, wrong: Tensor) -> str:
    size = len(wrong)
    flagged = flags(issues, size)
    random = torch.randperm(size, generator=torch.Generator().manual_seed(0))[: int((~flagged).sum())]
    choices = {
        "all labels as given": None,
        "as many dropped at random": random,
        "flagged ones dropped": (~flagged).nonzero()[:, 0],
        "the truly wrong ones dropped": (~wrong).nonzero()[:, 0],
    }
    lines = ["| trained on | examples | accuracy on clean test labels |", "| --- | --- | --- |"]
    for name, keep in choices.items():
        label = f"retrained-{name.replace(' ', '-')}"
        runs = [
            kept(f"{label}-{seed}", lambda: {"accuracy": retrained(data, keep, seed)})["accuracy"]  # noqa: B023
            for seed in range(ARGUMENTS.seeds)
        ]
        spread = f" ± {np.std(runs, ddof=1):.1%}" if len(runs) > 1 else ""
        lines.append(f"| {name} | {size if keep is None else len(keep):,} | {np.mean(runs):.1%}{spread} |")
    return "\n".join(lines)


def load() -> tuple[LightningDataModule, Tensor | None]:
    """Returns the data under the labels asked for, and which of these are wrong, where that is known."""
    if ARGUMENTS.labels == "fashion":
        return FashionData(ARGUMENTS.data_root, ARGUMENTS.size), None
    held = np.load(ARGUMENTS.data_root / "cifar10" / "cifar10n-labels.npz")
    given, clean = (torch.from_numpy(held[name].astype(np.int64)) for name in (ARGUMENTS.labels, "clean"))
    data = CifarData(ARGUMENTS.data_root, ARGUMENTS.size, labels=given)
    return data, (given != clean)[: len(data.train)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--labels", choices=("aggregate", "worse", "fashion"), default="worse")
    parser.add_argument("--model", choices=("cnn", "resnet18"), default="cnn")
    parser.add_argument("--output", type=Path, default=Path("label_issues_output"))
    parser.add_argument("--size", type=int, help="training examples, the first ones; all by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--default", choices=SCORES, default="area_under_margin", help="score of the sheet and the flags"
    )
    parser.add_argument("--no-cleanlab", action="store_true", help="leave the five folds out")
    parser.add_argument("--no-retraining", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    return parser.parse_args()


def main() -> None:
    data, wrong = load()
    given = data.train.tensors[1]
    if wrong is None:
        watch(data)
        issues = find_label_issues(ARGUMENTS.output / "runs", ARGUMENTS.default, series="train-online", rule=0.01)
    else:
        table, issues = compare(data, given, wrong)
        print(f"\n{len(given):,} labels, {float(wrong.double().mean()):.1%} wrong\n\n{table}\n\n{issues.explanation}\n")
        if not ARGUMENTS.no_retraining:
            retraining = compare_retrained(data, issues, wrong)
            table += f"\n\n{retraining}"
            print(retraining)
        (ARGUMENTS.output / "table.md").write_text(table + "\n", encoding="utf-8")
    issues.to_csv(ARGUMENTS.output / "suspects.csv")
    names = FASHION_CLASSES if wrong is None else CIFAR_CLASSES
    save_picture(suspects_sheet(data.train, issues, 50, names), ARGUMENTS.output / "suspects.png")
    write_suspects(data.train, issues, ARGUMENTS.output / "tensorboard", class_names=names)


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*logger=False.*")
    main()
