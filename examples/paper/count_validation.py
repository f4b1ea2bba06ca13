"""Figure 5 of the 2018 text: are misclassified validation examples hard ones?

Easiness of a validation example is from runs that train on it too and end early; whether it is classified is from other
runs, which train on the training examples alone to their end. Its control is easiness from runs that never trained on
it, and a random order.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from count_runs import NAMES, limit_test
from experiment import Experiment, begin
from torch import Tensor
from training import Training

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Scores
from lightning_easiness.functional import rank_correlation
from lightning_easiness.view.style import EASY, INK, MUTED, LineEnd, label_ends, set_title, styled

SETTINGS = {
    "small": {"data": {"cifar-10": ["wrn-16-4"]}, "seeds": 8, "finished_seeds": 6, "epochs": 2, "finished_epochs": 12,
              "size": 2000, "image_size": 16, "batch_size": 64, "test_size": 2000, "width": 0.125},
    "full": {"data": {"cifar-10": ["wrn-16-4", "resnext-29-4x64d"], "mini-imagenet": ["resnet-18", "densenet-121"]},
             "seeds": 20, "finished_seeds": 15, "epochs": 10, "finished_epochs": 300, "size": None, "image_size": None,
             "batch_size": None, "test_size": None, "width": 1.0},
}  # fmt: skip
_LATER = 100  # the first seed of the finished runs


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    made = {}
    for data, networks in setting.data.items():
        for name in networks:
            shared: dict[str, Any] = {
                "width": setting.width, "size": setting.size, "image_size": setting.image_size, "validate": True,
                "batch_size": setting.batch_size or (128 if data == "cifar-10" else 64),
            }  # fmt: skip
            made[f"val-early-{data}-{name}"] = Training(name, data, "count", setting.epochs, scheduled=300, **shared)
            made[f"val-finished-{data}-{name}"] = Training(name, data, "count", setting.finished_epochs, **shared)
    return made


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    rows: list[dict[str, Any]] = []
    panels, verdicts = [], []
    for data, networks in experiment.setting.data.items():
        for name in networks:
            for kind in ("early", "finished"):
                limit_test(experiment, f"val-{kind}-{data}-{name}", experiment.setting.test_size)
        merged = early(experiment, f"val-early-{data}-{networks[0]}", merge=True).score("count")
        unseen = early(experiment, f"val-early-{data}-{networks[0]}", merge=False).score("count")
        finished = EasinessRecord.merge(*(finish(experiment, f"val-finished-{data}-{name}") for name in networks))
        probability = finished.score("classification_probability")
        table = by_easiness(data, merged, probability)
        rows += table
        panels.append((data, table, probability))
        verdicts.append(judged(data, merged, unseen, probability, finished, networks))
    word = {1: "agrees", 0: "cannot tell", -1: "differs"}[min(verdict for verdict, _ in verdicts)]
    text = "; ".join(text for _, text in verdicts)
    experiment.finish(rows, lambda figure: draw(figure, panels), f"{word}: {text}")


def early(experiment: Experiment, training: str, *, merge: bool) -> EasinessRecord:
    """Train early, on the validation examples too or without them, and read them out."""
    data = EasinessDataModule(experiment.data(training), train_on_val=merge)
    return experiment.repeat(training, watch, data, folder=f"{training}-{'merged' if merge else 'unseen'}")


def finish(experiment: Experiment, training: str) -> EasinessRecord:
    """Train to the end on the training examples alone, with seeds of their own."""
    seeds = range(_LATER, _LATER + experiment.setting.finished_seeds)
    return experiment.repeat(training, watch, seeds=seeds)


def watch() -> EasinessCallback:
    return EasinessCallback(probe="val", online=False, num_images=0, probe_batch_size=500)


def by_easiness(data: str, easiness: Scores, probability: Scores) -> list[dict[str, Any]]:
    """Return a row for each value of easiness: how many examples have it, and how they are classified in the end."""
    rows = []
    for value in easiness.values.unique().tolist():
        of_value = probability.values[easiness.values == value].double()
        error = float(of_value.std()) / len(of_value) ** 0.5 if len(of_value) > 1 else 0.0
        rows.append({"data": data, "easiness": value, "examples": len(of_value),
                     "classification_probability": float(of_value.mean()), "error": error,
                     "never_classified": float((of_value == 0).double().mean())})  # fmt: skip
    return rows


def share_of_hard_half(easiness: Scores, misclassified: Tensor) -> float:
    """Return which share of the misclassified examples is in the harder half."""
    hard = torch.zeros(len(easiness), dtype=torch.bool)
    hard[easiness.hardest(0.5)] = True
    return float((hard & misclassified).sum() / misclassified.sum())


def judged(
    data: str, merged: Scores, unseen: Scores, probability: Scores, finished: EasinessRecord, networks: list[str]
) -> tuple[int, str]:
    """Return 1, 0 or -1 by whether most misclassified examples are in the harder half, and the numbers.

    Misclassified are those that at most half of the finished runs classify. One half of all examples is chance.
    """
    misclassified = probability.values <= 0.5
    share, of_unseen = (share_of_hard_half(scores, misclassified) for scores in (merged, unseen))
    error = (0.25 / float(misclassified.sum())) ** 0.5  # of a share by chance
    verdict = 0 if abs(share - 0.5) <= 2 * error else 1 if share > 0.5 else -1
    correlation = float(rank_correlation(merged.values, probability.values))
    return verdict, (
        f"{data}: {share:.0%} of the {int(misclassified.sum())} misclassified validation examples are in the harder"
        f" half (chance 50 %, by runs that never saw them {of_unseen:.0%}); rank correlation of easiness and"
        f" classification probability {correlation:.2f}; {finished.num_runs} finished runs of"
        f" {' and '.join(NAMES[name] for name in networks)}"
    )


def draw(figure: Any, panels: list[tuple[str, list[dict[str, Any]], Scores]]) -> None:
    """Draw classification probability against easiness, a panel for each data set."""
    figure.set_size_inches(7, 4.5 * len(panels))
    for place, (data, rows, probability) in enumerate(panels):
        axes = styled(figure.add_subplot(len(panels), 1, place + 1))
        easiness, means = ([row[name] for row in rows] for name in ("easiness", "classification_probability"))
        never = [row["never_classified"] for row in rows]
        overall = float(probability.values.mean())
        axes.errorbar(easiness, means, yerr=[2 * row["error"] for row in rows], color=EASY, marker="o", capsize=2.5)
        axes.plot(easiness, never, color=INK, marker="s", markersize=4, linestyle="--")
        axes.axhline(overall, color=MUTED, linestyle=":")
        axes.set(xlabel="easiness of validation examples", ylabel="in finished runs", ylim=(-0.03, 1.03))
        axes.margins(x=0.03)
        ends = [("classification\nprobability", means[-1], EASY), ("never classified", never[-1], INK)]
        label_ends(axes, [LineEnd(*end) for end in (*ends, ("all examples", overall, MUTED))])
        title = f"{data}: the hardest are classified in {means[0]:.0%} of finished runs, the easiest in {means[-1]:.0%}"
        note = f"{sum(row['examples'] for row in rows):,} validation examples; bars: two standard errors"
        set_title(axes, title, note, width=5.6)


if __name__ == "__main__":
    main()
