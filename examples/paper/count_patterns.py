"""Figures 2 and 3 of the 2018 text: how many easy examples remain so without colour, structure or high frequencies?

Training is regular; only the evaluation pass at its end sees altered images. The images themselves, Figure 3, are
written beside the results as count_patterns_images_<data>.png. The controls are chance, and strength 1 or all
frequencies, where the images are the regular ones.
"""

from __future__ import annotations

from typing import Any

import torch
from count_runs import EARLY, REFERENCE, early_record, of_reference, patterns
from experiment import Experiment, begin
from torch import Tensor

from lightning_easiness import PatternSweep, draw_patterns, image_grid, save_image, sweep_pattern

NAMES = ("grey", "tiles", "radius")


def main() -> None:
    experiment = begin(__doc__, EARLY, of_reference)
    rows: list[dict[str, Any]] = []
    sweeps: list[PatternSweep] = []
    verdicts = []
    for data in experiment.setting.data:
        record = early_record(experiment, data, REFERENCE[data])
        of_data = [sweep_pattern(record, name, which=which) for name in NAMES for which in ("easy", "hard")]
        sweeps += of_data
        rows += [{"data": data, "pattern": sweep.name, "which": sweep.which, **row._asdict()}
                 for sweep in of_data for row in sweep.rows]  # fmt: skip
        verdicts.append(judged(data, {sweep.name: sweep for sweep in of_data if sweep.which == "easy"}))
        write_images(experiment, data)
    word = {1: "agrees", 0: "cannot tell", -1: "differs"}[min(verdict for verdict, _ in verdicts)]
    experiment.finish(rows, draw_patterns(*sweeps), f"{word}: {'; '.join(text for _, text in verdicts)}")


def judged(data: str, sweeps: dict[str, PatternSweep]) -> tuple[int, str]:
    """Return 1, 0 or -1 by what the text says of what is left at the lowest strengths, and the numbers.

    In CIFAR-10 structure and high frequencies matter more than colour; in mini ImageNet it is the other way round.
    """
    lowest = {name: sweep.rows[0] for name, sweep in sweeps.items()}
    more = 1 if data == "cifar-10" else -1
    grey = lowest["grey"]
    parts = []
    for name in ("tiles", "radius"):
        other = lowest[name]
        error = (grey.error**2 + other.error**2) ** 0.5
        difference = more * (grey.matching_rate - other.matching_rate)
        parts.append(0 if not abs(difference) > 2 * error else 1 if difference > 0 else -1)
    left = ", ".join(
        f"{row.matching_rate:.2f} ± {row.error:.2f} at {name} {row.strength:g}" for name, row in lowest.items()
    )
    return min(parts), f"{data}: of the easiest 10 %, {left} (chance {grey.chance:.2f})"


def write_images(experiment: Experiment, data: str, count: int = 2) -> None:
    """Write the altered images of a few examples, a row for each example and pattern."""
    held = experiment.data(f"early-{data}-{REFERENCE[data]}").train
    images = held.images[:count].float().cpu() / 255
    made = patterns(images.shape[-1])
    rows = [[name for name in made if name.startswith(pattern)] for pattern in NAMES]
    columns = max(map(len, rows))
    shown: list[Tensor] = []
    captions: list[str] = []
    for names in rows:
        for image in images:
            blank = columns - len(names)
            shown += [made[name](image[None])[0].clamp(0, 1) for name in names] + [torch.ones_like(image)] * blank
            captions += [name.replace("-", " ") for name in names] + [""] * blank
    title = "The same images with less colour, structure or high frequencies"
    grid = image_grid(shown, range(len(shown)), captions, columns=columns, title=title)
    save_image(grid, experiment.output / f"count_patterns_images_{data}.png")


if __name__ == "__main__":
    main()
