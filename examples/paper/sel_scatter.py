"""Figure 1 of the sample easiness text: sample easiness against confidence, and how many examples have each level.

    python examples/paper/sel_scatter.py --setting small --data-root ROOT

A CNN of 12 thousand parameters is trained on Fashion-MNIST; easiness and confidence, the largest probability, are of
the test examples. The text says that few of them are medium, and that other variances of the noise give similar
results: the levels are also counted for its two other variances, and by drawing noise as it does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from experiment import Experiment, begin
from lightning.pytorch import seed_everything
from sel_runs import deviation, mean
from torch import Tensor
from training import Training

from lightning_easiness import functional
from lightning_easiness.view.style import BETWEEN, EASY, HARD, INK, MUTED, blank_figure, set_title, styled

SETTINGS = {
    "small": {"seeds": 3, "epochs": 10, "size": 10_000},
    "full": {"seeds": 5, "epochs": 50, "size": None},
}
LEVELS = ("hard", "medium", "easy")
WAYS = {  # how the levels are counted
    "exact, variance 1e-4": {"sigma2": 1e-4},
    "exact, variance 1e-6": {"sigma2": 1e-6},
    "exact, variance 1e-8": {"sigma2": 1e-8},
    "1,000 draws, variance 1e-4": {"sigma2": 1e-4, "method": "monte_carlo"},
}
FEW = 5.0  # percent
CELLS = 20  # of the scatter plot, each way


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    return {"cnn-12k": Training("cnn-12k", "fashion-mnist", "sel", setting.epochs, size=setting.size)}


def measured(experiment: Experiment, seed: int) -> dict[str, Any]:
    """Train once; return the counts of the levels by each way, and the points of the scatter plot."""
    seed_everything(seed, workers=True, verbose=False)
    module, data = experiment.module("cnn-12k"), experiment.data("cnn-12k")
    trainer = experiment.trainer("cnn-12k")
    trainer.fit(module, datamodule=data)
    logits, target = outputs(module, data)
    counts = {way: counted(logits, target, options) for way, options in WAYS.items()}
    return {"counts": counts, "points": points(logits, target)}


@torch.no_grad()
def outputs(module: Any, data: Any) -> tuple[Tensor, Tensor]:
    """Return the logits of the test examples and their labels."""
    module.eval()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    return torch.cat([module(x.to(module.device)) for x, _ in batches]).cpu(), torch.cat([y for _, y in batches]).cpu()


def counted(logits: Tensor, target: Tensor, options: dict[str, Any]) -> list[int]:
    wins = functional.sample_easiness(logits, target, per_class=True, **options)
    return torch.bincount(functional.easiness_level(wins), minlength=3).tolist()


def points(logits: Tensor, target: Tensor) -> list[list[float]]:
    """Return one row per cell that holds examples of one level: their mean place, number, level, and whether right."""
    wins = functional.sample_easiness(logits, target, per_class=True)
    easiness, confidence = wins.prod(1), logits.softmax(1).amax(1)
    level, right = functional.easiness_level(wins), (logits.argmax(1) == target).long()
    cell = (easiness * (CELLS - 1)).round() * CELLS + (confidence * (CELLS - 1)).round()
    rows = []
    for one in (key := (cell.long() * 3 + level) * 2 + right).unique().tolist():
        inside = key == one
        place = [float(easiness[inside].mean()), float(confidence[inside].mean())]
        rows.append([*place, int(inside.sum()), int(one // 2 % 3), int(one % 2)])
    return rows


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for way in WAYS:
        shares = shares_of(runs, way)
        row: dict[str, Any] = {"levels counted": way, "seeds": len(runs)}
        for level in LEVELS:
            row |= {f"{level} %": mean(shares[level]), f"{level} % deviation": deviation(shares[level])}
        made.append(row)
    return made


def shares_of(runs: list[dict[str, Any]], way: str) -> dict[str, list[float]]:
    counts = [run["counts"][way] for run in runs]
    return {level: [100 * count[place] / sum(count) for count in counts] for place, level in enumerate(LEVELS)}


def finding(runs: list[dict[str, Any]]) -> str:
    medium = {way: mean(shares_of(runs, way)["medium"]) for way in WAYS}
    exact, *others = medium.values()
    shares = shares_of(runs, "exact, variance 1e-4")
    known = mean(shares["easy"]) > mean(shares["hard"]) > mean(shares["medium"]) and exact < FEW
    text = ", ".join(f"{value:.2f} % ({way})" for way, value in medium.items())
    said = f"{mean(shares['easy']):.1f} % are easy and {mean(shares['hard']):.1f} % hard; medium are {text}"
    similar = all(exact / 2 <= other <= 2 * exact for other in others)
    return (
        f"{'agrees' if known and similar else 'differs'}: {said}; other variances"
        f" {'give similar numbers' if similar else 'do not give similar numbers'}"
    )


def figure(runs: list[dict[str, Any]]) -> Any:
    """Draw the cells of the first seed's plot: colour is the level, a filled mark is a right prediction."""
    drawn = blank_figure("sel_scatter.py", 7.2, 4.6)
    axes = styled(drawn.add_subplot())
    for easiness, confidence, count, level, right in runs[0]["points"]:
        colour = (HARD, BETWEEN, EASY)[level]
        size = 14 * (1 + torch.tensor(float(count)).log2().item())
        style = {"marker": "o", "facecolors": colour} if right else {"marker": "X", "facecolors": colour}
        axes.scatter(easiness, confidence, s=size, alpha=0.75, linewidths=0.4, edgecolors="white", **style)
    shares = shares_of(runs, "exact, variance 1e-4")
    for place, (level, colour) in enumerate(zip(LEVELS, (HARD, MUTED, EASY), strict=True)):
        text = f"{level}\n{mean(shares[level]):.1f} %"
        axes.text(
            (0.04, 0.5, 0.96)[place], 0.235, text, color=colour, ha=("left", "center", "right")[place], weight="bold"
        )
    axes.set(
        xlabel="sample easiness", ylabel="confidence: the largest probability", xlim=(-0.03, 1.03), ylim=(0.2, 1.03)
    )
    axes.xaxis.label.set_color(INK)
    note = (
        f"means of {len(runs)} runs; points of one; area by the logarithm of their number; crosses: wrong predictions"
    )
    set_title(axes, f"{mean(shares['medium']):.1f} % of the test examples are medium", note)
    return drawn


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    runs = [experiment.once(f"seed-{seed}", lambda: measured(experiment, seed)) for seed in experiment.seeds]  # noqa: B023
    experiment.finish(rows(runs), figure(runs), finding(runs))


if __name__ == "__main__":
    main()
