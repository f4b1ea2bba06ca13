"""Which examples does generalization need? Figure 4 of the 2019 text: easy, hard, random and stepwise removal.

Test accuracy after training on what is left, for the same number of epochs. "random" is the control of equal size.
examples/compress.py asks the same of Fashion-MNIST with the same number of updates, too.
"""

from __future__ import annotations

from math import sqrt
from types import SimpleNamespace
from typing import Any

from experiment import Rows, begin
from loss_runs import FULL, SMALL, training
from training import Training

from lightning_easiness import draw_comparison

# a wide residual network would take most of an hour for these sixty trainings; the three-stage CNN is a fifth of that
SMALL_CNN = {"network": "cnn-18m", "widths": {"cnn-18m": 0.0625}, "seeds": 3, "epochs": 10, "size": 5000}
SETTINGS: dict[str, dict[str, Any]] = {
    "small": {**SMALL, **SMALL_CNN, "ratios": (0.3, 0.6, 0.8)},
    "full": {**FULL, "network": "wrn-16-4", "ratios": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)},
}
NAME, METHODS = "loss-ablation", ("easy", "hard", "random", "stepwise")
ERRORS = 2


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    return {NAME: training(setting.network, setting)}


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    rows = experiment.compare(NAME, experiment.setting.ratios, METHODS)
    experiment.finish(rows, draw_comparison(rows), finding(rows))


def finding(rows: Rows) -> str:
    """Say what the text claims of each ratio, and whether it is so."""
    results = {(row["method"], row["ratio"]): row for row in rows}
    ratios = sorted({row["ratio"] for row in rows if row["method"] != "everything"})
    claims = {
        "hard below random": [_sign(results["random", ratio], results["hard", ratio]) for ratio in ratios],
        "stepwise above random": [_sign(results["stepwise", ratio], results["random", ratio]) for ratio in ratios],
        "stepwise above easy": [_sign(results["stepwise", ratio], results["easy", ratio]) for ratio in ratios],
    }
    largest = ratios[-1]
    sharply = _sign(results["random", largest], results["easy", largest])
    said = [
        f"{claim} at {_those(ratios, signs, 1)}, the reverse at {_those(ratios, signs, -1)}"
        for claim, signs in claims.items()
    ]
    said.append(f"easy at {largest:.0%} is {('equal to', 'below', 'above')[sharply]} random")
    text = f"of {len(ratios)} ratios, by {ERRORS} standard errors over {rows[0]['num_seeds']} seeds: {'; '.join(said)}"
    every = [sign for signs in claims.values() for sign in signs]
    if -1 in every:
        return f"differs: {text}"
    return f"agrees: {text}" if all(sign == 1 for sign in every) else f"cannot tell: {text}"


def _sign(higher: Any, lower: Any) -> int:
    """Return 1 if the first is higher by `ERRORS` standard errors, -1 if lower, 0 if neither."""
    error = sqrt((higher["spread"] ** 2 + lower["spread"] ** 2) / higher["num_seeds"])
    difference = higher["mean"] - lower["mean"]
    return 0 if abs(difference) <= ERRORS * error else 1 if difference > 0 else -1


def _those(ratios: list[float], signs: list[int], sign: int) -> str:
    return ", ".join(f"{ratio:.0%}" for ratio, found in zip(ratios, signs, strict=True) if found == sign) or "none"


if __name__ == "__main__":
    main()
