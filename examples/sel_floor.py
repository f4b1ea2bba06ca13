"""How the floor changes the gradient of SEL, for two classes: loss and slope against the probability of the label.

Slopes are derivatives with respect to the label's logit. SEL is weighted by 0.1, as in the paper:

    python examples/sel_floor.py --output examples/images/sel_floor.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_easiness.functional import sample_easiness_loss

WEIGHT = 0.1  # of SEL, relative to the cross-entropy


def slopes(floor: float | None, sigma2: float, logit: Tensor) -> tuple[Tensor, Tensor]:
    """Compute 0.1 SEL and its absolute slope with respect to the label's logit, where the other logit is 0."""
    logit = logit.clone().requires_grad_()
    logits = torch.stack([logit, torch.zeros_like(logit)], 1)
    target = torch.zeros(len(logit), dtype=torch.int64)
    loss = WEIGHT * sample_easiness_loss(logits, target, sigma2, floor, reduction="none")
    (slope,) = torch.autograd.grad(loss.sum(), logit)
    return loss.detach(), slope.abs()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("sel_floor.png"))
    path = parser.parse_args().output
    logit = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    probability = logit.sigmoid()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    cases = {
        "0.1 SEL, no floor": (None, 1e-4, "C3"),
        "0.1 SEL, floor log 1e-7 (default)": (math.log(1e-7), 1e-4, "C0"),
        "0.1 SEL, floor log 1e-3": (math.log(1e-3), 1e-4, "C2"),
        "0.1 SEL, sigma2 0.01, no floor": (None, 1e-2, "C1"),
    }
    for label, (floor, sigma2, colour) in cases.items():
        loss, slope = slopes(floor, sigma2, logit)
        left.plot(probability, loss, colour, label=label)
        right.plot(probability, slope, colour)
    cross_entropy = nn.functional.softplus(-logit)
    left.plot(probability, cross_entropy, "k--", label="cross-entropy")
    right.plot(probability, 1 - probability, "k--")
    left.set(xlabel="probability of the label", ylabel="loss", yscale="log", ylim=(1e-3, 1e3))
    right.set(xlabel="probability of the label", ylabel="slope in the label's logit", yscale="log", ylim=(1e-3, 1e3))
    left.legend(fontsize=8)
    left.grid(alpha=0.3)
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    steepest = {label: float(slopes(floor, sigma2, logit)[1].max()) for label, (floor, sigma2, _) in cases.items()}
    for label, value in steepest.items():
        print(f"{label:36s} steepest {value:8.2f} times the steepest of the cross-entropy")


if __name__ == "__main__":
    main()
