"""Are easy examples alike and hard ones diverse? Figures 1 and 2 of the 2019 text.

Writes grids of the easiest and the hardest pictures of a class, and the averages of easy, random and hard pictures of
each class. The text says that the average of hard ones is more uniform than the others. Here that is a number, the
standard deviation over the pixels of the averaged picture, with that of as many pictures drawn at random beside it.
Pictures of low contrast have a uniform average, too, so that the same is done with pictures of equal contrast.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from data_sets import Pictures, load
from device_data import HeldPictures, contrast_normalized
from experiment import Experiment, Rows, begin, decided
from loss_runs import FULL, SMALL, record, training
from torch import Tensor
from training import Training

from lightning_easiness import Scores, averages_grid, save_image, scores_grid

SETTINGS: dict[str, dict[str, Any]] = {"small": SMALL, "full": FULL}
NETWORK, FRACTION, DRAWS = "wrn-16-4", 0.1, 20
SHOWN = {"cifar-10": "dog", "fashion-mnist": "Sandal"}
KINDS = ("easy", "random", "hard")
SAID = {-1: "hard below", 0: "hard undecided from", 1: "hard above"}


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    """WRN-16-4 on CIFAR-10, as in the text, and on Fashion-MNIST for as long as it takes to see what is easy there."""
    cifar, fashion = (training(NETWORK, setting, data) for data in SHOWN)
    side = None if setting.image_size is None else 14
    fashion = replace(fashion, epochs=setting.early, scheduled=setting.epochs, image_size=side)
    return {f"loss-{NETWORK}": cifar, f"loss-{NETWORK}-fashion": fashion}


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    rows: list[dict[str, Any]] = []
    for name, made in experiment.trainings.items():
        found = record(experiment, name)
        scores = found.score("mean_loss", found.checkpoint_at(epoch=experiment.setting.early - 1))
        pictures = load(made.data, experiment.root).first(made.size)
        write_grids(experiment, made.data, pictures, scores)
        rows += [{"data": made.data, **row} for row in uniformity(pictures, scores)]
    experiment.finish(rows, lambda figure: draw(figure, rows), finding(rows))


def write_grids(experiment: Experiment, data: str, pictures: Pictures, scores: Scores) -> None:
    """Write Figure 1, the easiest and the hardest of one class, and Figure 2, averages of all classes."""
    held = HeldPictures(pictures.images, pictures.target, pictures.classes)
    label = list(pictures.classes).index(SHOWN[data])
    for which in ("easy", "hard"):
        grid = scores_grid(held, scores, which=which, num_images=16, classes=[label])
        save_image(grid, experiment.output / f"{experiment.name}_{data}_{which}.png")
    averages = averages_grid(held, scores, fraction=FRACTION)
    save_image(averages, experiment.output / f"{experiment.name}_{data}_averages.png")


def uniformity(pictures: Pictures, scores: Scores) -> list[dict[str, Any]]:
    """Return a row for each class: the deviation of the averages of its easy, random and hard pictures."""
    order, rows = scores.easiest(1.0), []
    for label, name in enumerate(pictures.classes):
        members = order[pictures.target[order] == label]  # easiest first
        count = max(1, round(FRACTION * len(members)))
        source = torch.Generator().manual_seed(label)
        drawn = [members[torch.randperm(len(members), generator=source)[:count]] for _ in range(DRAWS)]
        row: dict[str, Any] = {"class": name, "pictures": count}
        for suffix, images in (
            ("", pictures.images / 255),
            ("_of_equal_contrast", contrast_normalized(pictures.images)),
        ):
            random = torch.stack([deviation(images[some]) for some in drawn])
            row[f"easy{suffix}"] = float(deviation(images[members[:count]]))
            row[f"random{suffix}"], row[f"random_spread{suffix}"] = float(random.mean()), float(random.std())
            row[f"hard{suffix}"] = float(deviation(images[members[-count:]]))
        rows.append(row)
    return rows


def deviation(images: Tensor) -> Tensor:
    """Return how far the average of pictures (N, C, H, W) is from one colour: its deviation over pixels, 0 or more."""
    return images.mean(0).flatten(1).std(1).mean()


def finding(rows: Rows) -> str:
    """Say whether the averages of hard pictures are more uniform, over the classes of each data set.

    Agrees if they are more uniform than random and than easy ones, also at equal contrast; differs if they are less so.
    """
    outcomes, said = [], []
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        for suffix in ("", "_of_equal_contrast"):
            signs = [_sign(of_data, suffix, other) for other in ("random", "easy")]
            outcomes += signs
            easy, random, hard = (_mean(of_data, suffix, kind) for kind in KINDS)
            beside = ", ".join(f"{SAID[sign]} {other}" for sign, other in zip(signs, ("random", "easy"), strict=True))
            what = data + suffix.replace("_", " ")
            said.append(f"{what}: hard {hard / random:.2f} and easy {easy / random:.2f} times random ({beside})")
    text = f"the deviation of averaged pictures, mean over classes: {'; '.join(said)}"
    if all(sign == -1 for sign in outcomes):
        return f"agrees: {text}"
    return f"differs: {text}" if 1 in outcomes else f"cannot tell: {text}"


def _sign(rows: Rows, suffix: str, other: str) -> int:
    """Return -1 if the hard averages deviate less than others, over classes; 1 for more; 0 if it is not decided."""
    return decided([row[f"hard{suffix}"] / row[f"{other}{suffix}"] - 1 for row in rows], [0.0] * len(rows))


def _mean(rows: Rows, suffix: str, kind: str) -> float:
    return sum(row[f"{kind}{suffix}"] for row in rows) / len(rows)


def draw(figure: Any, rows: Rows) -> None:
    """Draw the deviation by class, a panel per data set."""
    from lightning_easiness.view.style import EASY, HARD, INK, set_title, styled

    names = list(dict.fromkeys(row["data"] for row in rows))
    figure.set_size_inches(6.2 * len(names), 4.6)
    for place, data in enumerate(names):
        axes, of_data = (
            styled(figure.add_subplot(1, len(names), place + 1)),
            [row for row in rows if row["data"] == data],
        )
        x = range(len(of_data))
        spread = [2 * row["random_spread"] for row in of_data]
        axes.errorbar(x, [row["random"] for row in of_data], spread, color=INK, fmt="_", capsize=3, label="random")
        for kind, colour, marker in (("easy", EASY, "o"), ("hard", HARD, "s")):
            axes.plot(x, [row[kind] for row in of_data], marker, color=colour, markersize=6, label=kind)
        axes.set_xticks(x, [row["class"] for row in of_data], rotation=40, ha="right")
        axes.set(ylabel="deviation of the average; 0 is uniform", ylim=(0, None))
        axes.legend(frameon=False, fontsize=9, loc="lower left", ncols=3)
        less = sum(row["hard"] < row["random"] for row in of_data)
        set_title(
            axes,
            f"{data}: hard pictures have a more uniform average than random ones in {less} of {len(of_data)} classes",
            f"{100 * FRACTION:.0f} % of each class; bars: two standard deviations over {DRAWS} draws",
            width=5.2,
        )


if __name__ == "__main__":
    main()
