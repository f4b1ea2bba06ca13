"""Are easy and hard examples common to different networks? Figure 3 of the 2019 text.

Matching rates of each two networks at each epoch, by the mean loss over seeds. The text shows them for ImageNet; the
small setting is CIFAR-10 with narrow networks. Beside them, what the text lacks: their standard errors, what other
seeds of the same network share, and what sets would share that were drawn at random with the same number of each class.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiment import begin
from loss_runs import FULL, SMALL, cifar_networks, records, training
from training import Training

from lightning_easiness import MatchingCurves, draw_matching_curves, matching_curves

IMAGENET = ("alexnet", "resnet-18", "resnet-50", "densenet-121")
SETTINGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "full": {**FULL, "epochs": 200, "batch_size": 256, "widths": dict.fromkeys(IMAGENET, 1.0)},
}
ERRORS = 3  # standard errors by which a rate must differ from chance, at each of many epochs


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    if "alexnet" in setting.widths:
        return {f"imagenet-{network}": training(network, setting, "imagenet") for network in IMAGENET}
    return cifar_networks(setting)


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    curves = matching_curves(records(experiment))
    experiment.finish(
        curves.to_pandas().reset_index().to_dict("records"), draw_matching_curves(curves), finding(curves)
    )


def finding(curves: MatchingCurves) -> str:
    """Say whether each pair is above chance, also that of its classes, at each epoch, and when it shares most."""
    pairs = [point.matched for point in curves.points if point.first != point.second]
    above = sum(each.rate - ERRORS * each.error > each.chance for each in pairs)
    by_class = sum(each.rate - ERRORS * each.error > each.class_chance for each in pairs)
    said = "; ".join(_said(curves, which) for which in ("easy", "hard"))
    text = (
        f"of {len(pairs)} rates of two networks {above} are above chance by {ERRORS} standard errors, and {by_class}"
        f" above that of random sets of the same classes; {said}"
    )
    if above == by_class == len(pairs):
        return f"agrees: {text}"
    return f"differs: {text}" if 2 * by_class < len(pairs) else f"cannot tell: {text}"


def _said(curves: MatchingCurves, which: str) -> str:
    """Say the range over pairs at the epoch where they share most, and at the last one, beside other seeds."""
    lines = curves.curves(which).values()
    pairs = [line for line in lines if line[0].first != line[0].second]
    means = [sum(line[place].matched.rate for line in pairs) / len(pairs) for place in range(len(pairs[0]))]
    most = means.index(max(means))
    seeds = [line[most].matched.rate for line in lines if line[0].first == line[0].second]
    rates = [line[most].matched.rate for line in pairs]
    last = [line[-1].matched.rate for line in pairs]
    return (
        f"{which}: most at epoch {pairs[0][most].epoch}, {min(rates):.2f} to {max(rates):.2f}"
        f" (halves of the seeds of one network {min(seeds):.2f} to {max(seeds):.2f}),"
        f" and {min(last):.2f} to {max(last):.2f} at the end"
    )


if __name__ == "__main__":
    main()
