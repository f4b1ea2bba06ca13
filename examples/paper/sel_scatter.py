"""Figure 1 of the sample easiness text: sample easiness against confidence, and how many examples have each level.

    python examples/paper/sel_scatter.py --setting small --data-root ROOT

A CNN of 12 thousand parameters is trained on Fashion-MNIST; easiness and confidence, the largest probability, are of
the test examples. The text says that few of them are medium, and that other variances of the noise give similar
results: the levels are also counted for its two other variances, and by drawing noise as it does.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from experiment import Experiment, begin
from lightning.pytorch import seed_everything
from sel_runs import deviation, mean
from torch import Tensor
from training import Training

from lightning_easiness import EasinessCallback, EasinessRecord, draw_levels, functional

SETTINGS = {
    "small": {"seeds": 3, "epochs": 10, "size": 5_000, "test_size": 5_000},
    "full": {"seeds": 5, "epochs": 50, "size": None, "test_size": None},
}
LEVELS = ("hard", "medium", "easy")
WAYS = {  # how the levels are counted
    "exact, variance 1e-4": {"sigma2": 1e-4},
    "exact, variance 1e-6": {"sigma2": 1e-6},
    "exact, variance 1e-8": {"sigma2": 1e-8},
    "1,000 draws, variance 1e-4": {"sigma2": 1e-4, "method": "monte_carlo"},
}
WAYS_OF_FIGURE = ("exact, variance 1e-4", "1,000 draws, variance 1e-4")
FEW = 5.0  # percent


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    form = {"size": setting.size, "test_size": setting.test_size, "validate": True}
    return {"cnn-12k": Training("cnn-12k", "fashion-mnist", "sel", setting.epochs, **form)}


def measured(experiment: Experiment, seed: int, folder: Path) -> dict[str, list[int]]:
    """Train once, record the test examples, and return the counts of the levels by each way."""
    seed_everything(seed, workers=True, verbose=False)
    module, data = experiment.module("cnn-12k"), experiment.data("cnn-12k")
    watch = EasinessCallback(folder, probe="val", online=False, num_images=0, exist_ok=True)
    experiment.trainer("cnn-12k", [watch], num_sanity_val_steps=0).fit(module, datamodule=data)
    logits, target = outputs(module, data)
    return {way: counted(logits, target, options) for way, options in WAYS.items()}


@torch.no_grad()
def outputs(module: Any, data: Any) -> tuple[Tensor, Tensor]:
    """Return the logits of the test examples and their labels."""
    module.eval()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    return torch.cat([module(x.to(module.device)) for x, _ in batches]).cpu(), torch.cat([y for _, y in batches]).cpu()


def counted(logits: Tensor, target: Tensor, options: dict[str, Any]) -> list[int]:
    wins = functional.sample_easiness(logits, target, per_class=True, **options)
    return torch.bincount(functional.easiness_level(wins), minlength=3).tolist()


def rows(runs: list[dict[str, list[int]]]) -> list[dict[str, Any]]:
    made = []
    for way in WAYS:
        shares = shares_of(runs, way)
        row: dict[str, Any] = {"levels counted": way, "seeds": len(runs)}
        for level in LEVELS:
            row |= {f"{level} %": mean(shares[level]), f"{level} % deviation": deviation(shares[level])}
        made.append(row)
    return made


def shares_of(runs: list[dict[str, list[int]]], way: str) -> dict[str, list[float]]:
    counts = [run[way] for run in runs]
    return {level: [100 * count[place] / sum(count) for count in counts] for place, level in enumerate(LEVELS)}


def finding(runs: list[dict[str, list[int]]]) -> str:
    """Say whether few are medium, as in the figure, and whether that is so for other variances, as in the text."""
    medium = {way: mean(shares_of(runs, way)["medium"]) for way in WAYS}
    exact, *others = medium.values()
    shares = {level: mean(found) for level, found in shares_of(runs, "exact, variance 1e-4").items()}
    is_few = shares["easy"] > shares["hard"] > shares["medium"] and exact < FEW
    are_similar = all(exact / 2 <= other <= 2 * exact for other in others)
    text = ", ".join(f"{value:.2f} % ({way})" for way, value in medium.items())
    said = f"{shares['easy']:.1f} % are easy and {shares['hard']:.1f} % hard; medium are {text}"
    verdict = "agrees" if is_few else "differs"
    return f"{verdict}: {said}, which is {'' if are_similar else 'not '}similar for all variances"


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    folder = experiment.output / "scatter"
    runs = [
        experiment.once(f"seed-{seed}", lambda: measured(experiment, seed, folder))  # noqa: B023
        for seed in experiment.seeds
    ]
    experiment.finish(rows(runs), draw_levels(EasinessRecord.load(folder)), finding(runs))


if __name__ == "__main__":
    main()
