"""Figures 1, 6 and 7 of the 2018 text: the easiest and the hardest examples of each class.

The text says of them that easy examples are visually similar to each other and hard ones are not. Measured here: the
mean distance between images of one class, each scaled to mean 0 and deviation 1, among the easiest 10 % of the class,
the hardest and a random 10 %. The grids of all data sets are written beside the results; the figure is the first's.
"""

from __future__ import annotations

from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import torch
from count_runs import EARLY, REFERENCE, early_record, early_trainings
from device_data import contrast_normalized
from experiment import begin
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from training import Training

from lightning_easiness import Scores, save_image, scores_grid
from lightning_easiness.functional import fraction_to_count

NETWORK = {**REFERENCE, "fashion-mnist": "wrn-16-4"}
SETTINGS = {
    "small": {**EARLY["small"], "data": ["cifar-10", "fashion-mnist"]},
    "full": EARLY["full"],
}
FRACTION, IMAGES = 0.1, 8
ENDS = ("easy", "random", "hard")


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    return early_trainings(setting, {data: (name,) for data, name in NETWORK.items()})


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    rows: list[dict[str, Any]] = []
    verdicts, grids = [], []
    for data in experiment.setting.data:
        scores = early_record(experiment, data, NETWORK[data]).score("count")
        held = experiment.data(f"early-{data}-{NETWORK[data]}").train
        found = distances(held.images.cpu(), scores)
        rows += [{"data": data, "class": held.classes[label], **row} for label, row in found.items()]
        verdicts.append(judged(data, list(found.values())))
        for which in ("easy", "hard"):
            grids.append(scores_grid(held, scores, IMAGES, which, by_class=True, thumbnail=96))
            save_image(grids[-1], experiment.output / f"count_grids_{data}_{which}.png")
    word = {1: "agrees", 0: "cannot tell", -1: "differs"}[min(verdict for verdict, _ in verdicts)]
    experiment.finish(rows, to_pil_image(grids[-2]), f"{word}: {'; '.join(text for _, text in verdicts)}")


def distances(images: Tensor, scores: Scores) -> dict[int, dict[str, float]]:
    """Return for each class the mean distance between two of its easiest, random and hardest images."""
    shapes = contrast_normalized(images).flatten(1)
    order, generator = scores.easiest(1.0), torch.Generator().manual_seed(0)
    found = {}
    for label in scores.target.unique().tolist():
        members = order[scores.target[order] == label]
        count = max(2, fraction_to_count(FRACTION, len(members)))
        random = members[torch.randperm(len(members), generator=generator)[:count]]
        chosen = dict(zip(ENDS, (members[:count], random, members[-count:]), strict=True))
        found[label] = {end: float(torch.pdist(shapes[indices]).mean()) for end, indices in chosen.items()}
    return found


def judged(data: str, rows: list[dict[str, float]]) -> tuple[int, str]:
    """Return 1, 0 or -1 by whether easy images are closer to each other than random ones, and hard ones farther."""
    parts = []
    for closer, farther in (("easy", "random"), ("random", "hard")):
        differences = [row[farther] - row[closer] for row in rows]
        error = stdev(differences) / len(differences) ** 0.5  # over classes
        parts.append(0 if abs(fmean(differences)) <= 2 * error else 1 if fmean(differences) > 0 else -1)
    means = ", ".join(f"{fmean(row[end] for row in rows):.1f} of {end} ones" for end in ENDS)
    words = {1: "yes", 0: "undecided", -1: "no"}
    return min(parts), (
        f"{data}: mean distance between images of a class {means}; easy closer than random: {words[parts[0]]}, hard"
        f" farther: {words[parts[1]]}"
    )


if __name__ == "__main__":
    main()
