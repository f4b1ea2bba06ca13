"""How the floor changes the gradient of SEL, for two classes: loss and slope against the probability of the label.

Slopes are derivatives with respect to the label's logit. SEL is weighted by 0.1, as in the paper:

    python examples/sel_floor.py --output examples/images/sel_floor.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_easiness.functional import sample_easiness_loss
from lightning_easiness.view.style import EASY, HARD, INK, blank_figure, saved, set_title, styled

WEIGHT = 0.1  # of SEL, relative to the cross-entropy
CROSS_ENTROPY = "cross-entropy"
CASES = {  # floor, sigma2, colour, and where the label stands in the left plot
    "0.1 SEL, no floor": (None, 1e-4, HARD, (0.36, 40), "center"),
    "0.1 SEL, floor log 1e-7 (default)": (math.log(1e-7), 1e-4, EASY, (0.48, 2.0), "center"),
    "0.1 SEL, floor log 1e-3": (math.log(1e-3), 1e-4, "#56B4E9", (0.0, 0.6), "top"),
    "0.1 SEL, sigma2 0.01, no floor": (None, 1e-2, "#CC79A7", (0.63, 0.01), "center"),
}


def slopes(floor: float | None, sigma2: float, logit: Tensor) -> tuple[Tensor, Tensor]:
    """Compute 0.1 SEL and its absolute slope with respect to the label's logit, where the other logit is 0."""
    logit = logit.clone().requires_grad_()
    logits = torch.stack([logit, torch.zeros_like(logit)], 1)
    target = torch.zeros(len(logit), dtype=torch.int64)
    loss = WEIGHT * sample_easiness_loss(logits, target, sigma2, floor, reduction="none")
    (slope,) = torch.autograd.grad(loss.sum(), logit)
    return loss.detach(), slope.abs()


def draw(probability: Tensor, found: dict[str, tuple[Tensor, Tensor]], steepest: dict[str, float], path: Path) -> None:
    figure = blank_figure("sel_floor.py", 10, 4)
    left, right = (styled(axes) for axes in figure.subplots(1, 2))
    for label, lines in found.items():
        *_, colour, place, side = CASES.get(label, (INK, (0.74, 0.5), "bottom"))
        for axes, line in zip((left, right), lines, strict=True):
            axes.plot(probability, line, color=colour, linestyle="--" if label == CROSS_ENTROPY else "-")
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
        left.text(*place, label.removeprefix("0.1 SEL, "), color=colour, fontsize=8.5, va=side, bbox=behind)
    for axes, what in ((left, "loss"), (right, "slope in the label's logit")):
        axes.set(xlabel="probability of the label", ylabel=what, yscale="log", ylim=(1e-3, 1e3))
    without, default = (steepest[label] for label in list(CASES)[:2])
    set_title(left, "A floor caps the loss of wrong predictions", f"{WEIGHT} SEL, two classes", width=4.5)
    note = f"as the cross-entropy at its steepest; {default:.0f} times with the default floor"
    set_title(right, f"Without one, SEL is up to {without:.0f} times as steep", note, width=4.5)
    saved(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("sel_floor.png"))
    path = parser.parse_args().output
    logit = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    probability = logit.sigmoid()
    found = {label: slopes(floor, sigma2, logit) for label, (floor, sigma2, *_) in CASES.items()}
    steepest = {label: float(slope.max()) for label, (_, slope) in found.items()}
    found[CROSS_ENTROPY] = nn.functional.softplus(-logit), 1 - probability
    draw(probability, found, steepest, path)
    for label, value in steepest.items():
        print(f"{label:36s} steepest {value:8.2f} times the steepest of the cross-entropy")


if __name__ == "__main__":
    main()
