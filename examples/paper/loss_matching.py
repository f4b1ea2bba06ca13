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
from lightning_easiness.record.matching_curves import CurvePoint

IMAGENET = ("alexnet", "resnet-18", "resnet-50", "densenet-121")
SETTINGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "full": {**FULL, "epochs": 200, "batch_size": 256, "widths": dict.fromkeys(IMAGENET, 1.0)},
}
ERRORS, MOST = 3, 0.9  # a rate must be so many standard errors above chance, in so large a part of the epochs


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
    """Say how many rates are above what random sets of the same classes share, and where pairs share most.

    Agrees if nine of ten rates are, at all epochs together; differs if fewer than half of them are.
    """
    pairs = [point.matched for point in curves.points if point.first != point.second]
    above = sum(each.rate - ERRORS * each.error > each.chance for each in pairs)
    by_class = sum(each.rate - ERRORS * each.error > each.class_chance for each in pairs)
    said = "; ".join(_said(curves, which) for which in ("easy", "hard"))
    text = (
        f"of {len(pairs)} rates of two networks {above} are above chance by {ERRORS} standard errors, and {by_class}"
        f" above that of random sets of the same classes; {said}"
    )
    if by_class >= MOST * len(pairs):
        return f"agrees: {text}"
    return f"differs: {text}" if 2 * by_class < len(pairs) else f"cannot tell: {text}"


def _said(curves: MatchingCurves, which: str) -> str:
    """Say the range over pairs at the first, the middle and the last epoch, beside other seeds at the last."""
    lines = curves.curves(which).values()
    pairs = [line for line in lines if line[0].first != line[0].second]
    places = (0, len(pairs[0]) // 2, -1)
    rates = [f"{_range(pairs, place)} at epoch {pairs[0][place].epoch}" for place in places]
    seeds = [line for line in lines if line[0].first == line[0].second]
    return f"{which} {', '.join(rates)} (halves of the seeds of one network {_range(seeds, -1)})"


def _range(lines: list[list[CurvePoint]], place: int) -> str:
    rates = [line[place].matched.rate for line in lines]
    return f"{min(rates):.2f} to {max(rates):.2f}"


if __name__ == "__main__":
    main()
