"""Which labels are wrong? Finds errors in the human labels of CIFAR-10 (CIFAR-10N), and compares with cleanlab.

Trains under a few seeds on human labels, with one callback, and ranks the labels by several scores of the same runs.
Compares them with the threshold protocol and with cleanlab on five folds, with the same network and number of epochs.
Then retrains without the flagged examples and tests on clean labels. Everything is repeated with other seeds and folds.
An image grid of the most suspicious examples is saved next to the table.

    python examples/label_issues.py --data-root ROOT --labels worse

ROOT holds CIFAR-10 as torchvision.datasets.CIFAR10(ROOT, download=True) puts it there, and cifar10/cifar10n-labels.npz
with the labels "clean", "aggregate" and "worse" (uint8, in the order of CIFAR-10). With `--labels fashion` the suspects
are those of the original Fashion-MNIST, and nothing is compared. After an interruption, run it again: it resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
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
from needs import need_cifar_10n, need_packages
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchvision.models import resnet18

from lightning_easiness import (
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    LabelIssues,
    Threshold,
    ThresholdRuns,
    find_label_issues,
    repeat_fit,
    save_image,
    suspects_grid,
    write_suspects,
)

FOLDS = 5


def small_resnet18(num_classes: int) -> nn.Module:
    """Make ResNet-18 for images of 32 x 32."""
    model = resnet18(num_classes=num_classes)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


MODELS: dict[str, Callable[[int], nn.Module]] = {"cnn": cifar_cnn, "resnet18": small_resnet18, "fashion": small_cnn}


class Classifier(LightningModule):
    """An ordinary LightningModule; images of CIFAR-10 are flipped and shifted at random."""

    def __init__(self, model: nn.Module, augment: bool) -> None:
        super().__init__()
        self.model, self.augment = model, augment

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


def make_module(num_classes: int = 10) -> Classifier:
    fashion = ARGUMENTS.labels == "fashion"
    model = MODELS["fashion" if fashion else ARGUMENTS.model](num_classes)
    return Classifier(model, augment=not fashion and not ARGUMENTS.no_augmentation)


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
    """Return a result from disk, or compute and save it."""
    path = ARGUMENTS.output / f"{name}.json"
    if not path.exists():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
        print(f"{name}: done", flush=True)
    return json.loads(path.read_text())


def watched(data: LightningDataModule, repeat: int, alone: bool = False) -> EasinessRecord:
    """Return the online record of a repeat's trainings with the callback, or of the first training alone."""
    seeds = range(repeat * ARGUMENTS.seeds, (repeat + 1) * ARGUMENTS.seeds)
    folder = ARGUMENTS.output / "runs"
    repeat_fit(watched_trainer, make_module, data, seeds, folder, progress=False)
    names = [f"seed-{seed}" for seed in seeds]
    return EasinessRecord.load(folder, "train-online", names[:1] if alone else names)


def threshold_runs(data: LightningDataModule, repeat: int) -> ThresholdRuns:
    folder = ARGUMENTS.output / f"threshold-{repeat}"
    return ThresholdRuns(make_trainer, make_module, data, 10, folder, [repeat], seed=repeat, progress=False)


def out_of_sample(data: LightningDataModule, repeat: int, fold: int) -> dict[str, Any]:
    """Train on four of five folds and return the probabilities for the fifth."""
    place = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(repeat)) % FOLDS
    seed_everything(repeat * FOLDS + fold, workers=True, verbose=False)
    module, trainer = make_module(), make_trainer()
    held_out = (place == fold).nonzero()[:, 0].tolist()
    trainer.fit(module, DataLoader(Subset(data.train, (place != fold).nonzero()[:, 0].tolist()), 128, shuffle=True))
    predicted = torch.cat(trainer.predict(module, DataLoader(Subset(data.train, held_out), 1000)))
    return {"index": held_out, "probabilities": predicted.tolist()}


def out_of_sample_probabilities(data: LightningDataModule, repeat: int) -> np.ndarray:
    """Return each example's probabilities from the training that held it out, float64 (N, 10)."""
    probabilities = np.zeros((len(data.train), 10))
    for fold in range(FOLDS):
        found = kept(f"fold-{repeat}-{fold}", lambda: out_of_sample(data, repeat, fold))  # noqa: B023
        probabilities[found["index"]] = found["probabilities"]
    return probabilities / probabilities.sum(1, keepdims=True)


def measured(suspicious: Tensor, wrong: Tensor, flagged: Tensor | None) -> dict[str, float]:
    """Measure how well a ranking (high is suspicious) and its flags find label errors."""
    top = suspicious.argsort(descending=True)[: int(wrong.sum())]
    found = {
        "AUROC": float(binary_auroc(suspicious, wrong.long())),
        "AP": float(binary_average_precision(suspicious, wrong.long())),
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


def ranking(issues: LabelIssues, size: int) -> Tensor:
    """Return the rank from the end of the table, scaled to [0, 1] for torchmetrics; high is suspicious."""
    ranked = torch.zeros(size, dtype=torch.float64)
    ranked[issues.index] = torch.arange(len(issues), 0, -1, dtype=torch.float64) / size
    return ranked


SCORES = (
    "weighted_area_under_margin",
    "area_under_margin",
    "area_under_loss",
    "confidence",
    "correctness",
    "early_agreement",
    "self_confidence",
    "normalized_margin",
)
COLUMNS = ("AUROC", "AP", "precision at the true rate", "F1", "precision", "recall")


def compared(data: LightningDataModule, given: Tensor, wrong: Tensor, repeat: int) -> dict[str, dict[str, float]]:
    """Measure each way to find label errors; "trainings" is its cost in trainings on all examples."""
    size = len(given)
    runs, alone = watched(data, repeat), watched(data, repeat, alone=True)
    tables = {name: (find_label_issues(runs, score=name), ARGUMENTS.seeds) for name in SCORES}
    late = runs.score("area_under_margin", first=runs.num_checkpoints // 2)
    known = runs.probabilities()
    tables["area_under_margin, second half"] = find_label_issues(late, probabilities=known), ARGUMENTS.seeds
    tables["weighted_area_under_margin, one training"] = find_label_issues(alone), 1
    last = runs.score("mean_loss")
    tables["mean_loss, last epoch"] = find_label_issues(last, probabilities=known), ARGUMENTS.seeds
    if not ARGUMENTS.no_protocol:
        records = threshold_runs(data, repeat).run()
        tables["area_under_margin, threshold protocol"] = find_label_issues(records, Threshold()), 2
    rows = {
        name: {**measured(ranking(issues, size), wrong, flags(issues, size)), "trainings": cost}
        for name, (issues, cost) in tables.items()
    }
    return rows if ARGUMENTS.no_cleanlab else rows | by_cleanlab(data, given, wrong, repeat)


def by_cleanlab(data: LightningDataModule, given: Tensor, wrong: Tensor, repeat: int) -> dict[str, dict[str, float]]:
    """Measure the rankings by cleanlab's label quality (high is clean) and the flags of its filter."""
    from cleanlab.filter import find_label_issues as find_by_confident_learning
    from cleanlab.rank import get_label_quality_scores

    labels, probabilities = given.numpy(), out_of_sample_probabilities(data, repeat)
    flagged = torch.from_numpy(find_by_confident_learning(labels, probabilities))
    rows = {}
    for method in ("self_confidence", "normalized_margin"):
        quality = get_label_quality_scores(labels, probabilities, method=method)
        ranking = torch.from_numpy(1 - quality)  # in [0, 1]
        rows[f"cleanlab, {method}"] = {**measured(ranking, wrong, flagged), "trainings": FOLDS - 1}
    return rows


def compare(data: LightningDataModule, given: Tensor, wrong: Tensor) -> str:
    found = [compared(data, given, wrong, repeat) for repeat in range(ARGUMENTS.repeats)]
    lines = ["| score | " + " | ".join(COLUMNS) + " | trainings |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for name in found[0]:
        rows = [one[name] for one in found]
        cells = [with_spread([row[column] for row in rows], ".3f") for column in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {rows[0]['trainings']} |")
    return "\n".join(lines)


def with_spread(values: list[float], form: str) -> str:
    spread = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{spread}"


def retrained(data: LightningDataModule, keep: Tensor | None, seed: int) -> float:
    """Train on the kept examples and return the accuracy on clean test labels."""
    seed_everything(seed, workers=True, verbose=False)
    module, trainer = make_module(), make_trainer()
    trainer.fit(module, datamodule=EasinessDataModule(data, None if keep is None else Keep(keep)))
    return trainer.test(module, datamodule=data, verbose=False)[0]["accuracy"]


def compare_retrained(data: LightningDataModule, wrong: Tensor) -> str:
    size = len(wrong)
    results: dict[str, list[tuple[int, float]]] = {}
    for repeat in range(ARGUMENTS.repeats):
        flagged = flags(find_label_issues(watched(data, repeat)), size)
        random = torch.randperm(size, generator=torch.Generator().manual_seed(repeat))[: int((~flagged).sum())]
        choices = {
            "all labels as given": None,
            "as many dropped at random": random,
            "flagged ones dropped": (~flagged).nonzero()[:, 0],
            "the truly wrong ones dropped": (~wrong).nonzero()[:, 0],
        }
        for name, keep in choices.items():
            label = f"retrained-{name.replace(' ', '-')}-{repeat}"
            accuracy = kept(label, lambda: {"accuracy": retrained(data, keep, 100 + repeat)})["accuracy"]  # noqa: B023
            results.setdefault(name, []).append((size if keep is None else len(keep), accuracy))
    lines = ["| trained on | examples | accuracy on clean test labels |", "| --- | --- | --- |"]
    for name, runs in results.items():
        examples = round(np.mean([number for number, _ in runs]))
        lines.append(f"| {name} | {examples:,} | {with_spread([accuracy for _, accuracy in runs], '.1%')} |")
    return "\n".join(lines)


def load() -> tuple[LightningDataModule, Tensor | None]:
    """Return the data with the chosen labels, and a mask of the label errors where they are known."""
    if ARGUMENTS.labels == "fashion":
        return FashionData(ARGUMENTS.data_root, ARGUMENTS.size), None
    need_cifar_10n(ARGUMENTS.data_root)
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
    parser.add_argument("--size", type=int, help="use only the first SIZE training examples; all by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2, help="trainings with the callback in each repeat")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-augmentation", action="store_true", help="labels are memorised sooner without it")
    parser.add_argument("--no-cleanlab", action="store_true", help="skip cleanlab and its five folds")
    parser.add_argument("--no-protocol", action="store_true", help="skip the threshold protocol and its two trainings")
    parser.add_argument("--no-retraining", action="store_true")
    parser.add_argument("--accelerator", default="cpu")
    return parser.parse_args()


def main() -> None:
    data, wrong = load()
    if wrong is not None and not ARGUMENTS.no_cleanlab:
        need_packages("cleanlab")
    given = data.train.tensors[1]
    if wrong is None:
        issues = find_label_issues(watched(data, 0))
    else:
        table = compare(data, given, wrong)
        print(f"\n{len(given):,} labels, {float(wrong.double().mean()):.1%} wrong\n\n{table}\n")
        if not ARGUMENTS.no_retraining:
            retraining = compare_retrained(data, wrong)
            table += f"\n\n{retraining}"
            print(retraining)
        (ARGUMENTS.output / "table.md").write_text(table + "\n", encoding="utf-8")
        issues = find_label_issues(watched(data, 0))
    print(f"\n{issues.explanation}\n")
    issues.to_csv(ARGUMENTS.output / "suspects.csv")
    names = FASHION_CLASSES if wrong is None else CIFAR_CLASSES
    save_image(suspects_grid(data.train, issues, 50, names), ARGUMENTS.output / "suspects.png")
    write_suspects(data.train, issues, ARGUMENTS.output / "tensorboard", class_names=names)


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*logger=False.*")
    main()
