"""Which images does a network know only because it was trained on them? Memorization on Fashion-MNIST.

Trains a small CNN under ten seeds that each hold out 30 %. The memorization of an example is its mean correctness over
the runs that trained on it less that over the runs that did not (Feldman and Zhang, 2020). Prints its distribution and
its rank correlation with other scores, draws the 25 most memorised images, and trains again without the most memorised
examples, beside as many dropped at random.

    python examples/memorization.py --data-root ROOT     # ROOT/FashionMNIST/raw holds the four files of the data set

After an interruption, run it again: it resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from fashion_mnist import CLASSES, Classifier, FashionData
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from needs import need_packages
from torch import Tensor

from lightning_easiness import (
    Ablation,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Scores,
    draw_histogram,
    image_grid,
    repeat_fit,
    save_image,
)
from lightning_easiness.functional import rank_correlation

EDGES = (-1.0, -0.5, -0.25, -0.05, 0.05, 0.25, 0.5, 0.75, 1.0)
OTHERS = {  # name of the score -> series that it is taken from
    "held_out_correct": "train-probe",
    "held_out_loss": "train-probe",
    "mean_loss": "train-probe",
    "count": "train-probe",
    "margin": "train-probe",
    "area_under_margin": "train-online",
    "weighted_area_under_margin": "train-online",
    "forgetting_events": "train-online",
    "confidence": "train-online",
    "variability": "train-online",
}


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


def held_out_runs(data: LightningDataModule) -> Path:
    """Train the seeds, each without its part, and return their folder."""
    folder = ARGUMENTS.output / "runs"
    repeat_fit(
        lambda: make_trainer([EasinessCallback(num_images=0, probe_batch_size=1000)]),
        Classifier,
        data,
        seeds=range(ARGUMENTS.seeds),
        dirpath=folder,
        hold_out=ARGUMENTS.hold_out,
        progress=False,
    )
    return folder


def distribution(scores: Scores) -> str:
    """Return how many examples are memorised how far."""
    values = scores.values.double().numpy()
    counts = np.histogram(values[np.isfinite(values)], EDGES)[0]
    lines = ["| memorization | examples | share |", "| --- | --- | --- |"]
    for low, high, count in zip(EDGES, EDGES[1:], counts, strict=False):
        lines.append(f"| {low:+.2f} to {high:+.2f} | {count:,} | {count / len(values):.1%} |")
    between = scores.spread[(scores.values > 0.25) & (scores.values < 0.75)].nanmean()
    errors = f"Mean standard error of an example between 0.25 and 0.75: {between:.2f}."
    return "\n".join(lines) + f"\n\nMean {np.nanmean(values):.3f}. {errors}"


def most_memorised(data: LightningDataModule, folder: Path, scores: Scores) -> Tensor:
    """Draw the 25 most memorised images, with what the runs predict that did not train on them."""
    shown = scores.hardest(25 / len(data.train))[:25].tolist()
    predicted = EasinessRecord.load(folder, "train-probe").held_out_probabilities().argmax(1)
    given = data.train.tensors[1]
    captions = [f"#{one} {CLASSES[given[one]]}\nheld out: {CLASSES[predicted[one]]}" for one in shown]
    title = f"The most memorised of {len(given):,}\nlabel, and what is predicted without having seen it"
    return image_grid(data.train, shown, captions, title=title, thumbnail=84)


def correlations(folder: Path, scores: Scores) -> str:
    """Return Spearman's correlation with other scores, each turned so that high is hard."""
    lines = ["| score, high is hard | rank correlation with memorization |", "| --- | --- |"]
    for name, series in OTHERS.items():
        other = EasinessRecord.load(folder, series).score(name)
        hard = -other.values if other.higher_is_easier else other.values
        both = ~(hard.isnan() | scores.values.isnan())
        lines.append(f"| {name} | {rank_correlation(hard[both].double(), scores.values[both].double()):+.2f} |")
    return "\n".join(lines)


def accuracy(data: LightningDataModule, selection: Ablation | None, seed: int) -> float:
    """Train on what a selection keeps, and return the accuracy on the test images."""
    seed_everything(seed, workers=True, verbose=False)
    module, trainer = Classifier(), make_trainer()
    trainer.fit(module, datamodule=EasinessDataModule(data, selection))
    return trainer.test(module, datamodule=data, verbose=False)[0]["test_accuracy"]


def after_dropping(data: LightningDataModule, scores: Scores) -> str:
    """Return the test accuracy without the most memorised examples, and without as many at random."""
    lines = ["| dropped | the most memorised | at random |", "| --- | --- | --- |"]
    for fraction in (0.0, *ARGUMENTS.drop):
        cells = []
        for remove in ("hard", "random"):
            found = []
            for seed in range(ARGUMENTS.retrainings):
                sampling = "top" if remove == "hard" else "proportional"
                drop = Ablation(scores, fraction, remove=remove, sampling=sampling, seed=seed) if fraction else None
                found.append(kept(f"dropped-{remove if fraction else 'none'}-{fraction:g}-{seed}", data, drop, seed))
            cells.append(f"{np.mean(found):.1%} ± {np.std(found, ddof=1) if len(found) > 1 else 0:.1%}")
        lines.append(f"| {fraction:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept(name: str, data: LightningDataModule, selection: Ablation | None, seed: int) -> float:
    """Return an accuracy from disk, or train for it and save it."""
    path = ARGUMENTS.output / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(accuracy(data, selection, 1000 + seed)))
        print(f"{name}: {path.read_text()}", flush=True)
    return float(json.loads(path.read_text()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("memorization_output"))
    parser.add_argument("--size", type=int, help="use only the first SIZE training examples; all by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--hold-out", type=float, default=0.3)
    parser.add_argument("--drop", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--retrainings", type=int, default=3)
    parser.add_argument("--accelerator", default="cpu")
    return parser.parse_args()


def main() -> None:
    need_packages("matplotlib")
    data = FashionData(ARGUMENTS.data_root, ARGUMENTS.size)
    folder = held_out_runs(data)
    scores = EasinessRecord.load(folder, "train-probe").score("memorization")
    draw_histogram(scores, ARGUMENTS.output / "histogram.png")
    save_image(most_memorised(data, folder, scores), ARGUMENTS.output / "most_memorised.png")
    parts = [distribution(scores), correlations(folder, scores), after_dropping(data, scores)]
    text = "\n\n".join(parts)
    (ARGUMENTS.output / "memorization.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*many workers.*|.*logger=False.*|.*LeafSpec.*")
    main()
