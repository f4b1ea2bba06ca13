"""Figure 3 of the sample easiness text: AUM and AUM-SE under labels moved from c to c + 1, over the epochs of training.

    python examples/paper/sel_aum.py --setting small --data-root ROOT

A ResNet is trained in the two runs of the threshold protocol on CIFAR-10. After each epoch, label errors are flagged by
the area under the margin (AUM), and by AUM-SE: AUM's flags refined by sample easiness at the given label. The text can
be read in two ways: a flag is kept where the example is easy, or where it is hard. Control: AUM with a threshold so
strict that it finds as many label errors as the second reading.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from data_sets import load
from experiment import Experiment, begin, decided
from sel_runs import change, deviation, mean, verdict
from torch import Tensor
from training import Training

from lightning_easiness import EasinessCallback, Refine, Threshold, ThresholdRuns, draw_bands, find_label_issues
from lightning_easiness.functional import corrupt_labels

SETTINGS = {
    "small": {"seeds": 3, "epochs": 8, "width": 0.25, "size": 3_000, "image_size": 16},
    "full": {"seeds": 5, "epochs": 300, "width": 1.0, "size": None, "image_size": None},
}
MOVED = 0.2  # share of the labels; the text does not print it
READINGS = {
    "AUM": None,
    "AUM-SE, kept where hard": Refine(which="hard"),
    "AUM-SE, kept where easy": Refine(which="easy"),
}
STRICT = "AUM, as strict"
NUM_CLASSES = 10

Rates = dict[str, dict[str, list[float]]]  # flags -> "TPR" or "FPR" -> after each epoch, in percent


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    form = {"width": setting.width, "size": setting.size, "image_size": setting.image_size}
    return {"aum": Training("resnet-18", "cifar-10", "loss", setting.epochs, **form)}


def measured(experiment: Experiment, seed: int) -> Rates:
    """Move labels, train both runs of the protocol, and return the rates of each kind of flags after each epoch."""
    training = experiment.trainings["aum"]
    pictures = load("cifar-10", experiment.root).first(training.size)
    given = corrupt_labels(pictures.target, MOVED, num_classes=NUM_CLASSES, seed=seed)
    wrong = given != pictures.target
    data = training.data_of(replace(pictures, target=given))
    runs = ThresholdRuns(
        lambda: experiment.trainer("aum", [EasinessCallback(every_n_epochs=1, num_images=0, probe_batch_size=500)]),
        lambda num_classes: training.module(len(given), num_classes=num_classes),
        data,
        NUM_CLASSES,
        experiment.output / "aum" / f"seed-{seed}",
        seeds=(seed,),
        seed=seed,
        progress=False,
    )
    epochs = range(runs.run()[0].num_checkpoints)
    found = {
        name: _by_rate([rates(runs.dirpath, wrong, epoch, reading) for epoch in epochs])
        for name, reading in READINGS.items()
    }
    recalls = found["AUM-SE, kept where hard"]["TPR"]
    found[STRICT] = _by_rate([stricter(runs.dirpath, wrong, epoch, recalls[epoch] / 100) for epoch in epochs])
    return found


def _by_rate(found: list[tuple[float, float]]) -> dict[str, list[float]]:
    return {"TPR": [100 * first for first, _ in found], "FPR": [100 * second for _, second in found]}


def rates(folder: Path, wrong: Tensor, epoch: int, reading: Refine | None) -> tuple[float, float]:
    """Compute the shares of the label errors and of the correct labels that are flagged after an epoch."""
    issues = find_label_issues(folder, Threshold(), checkpoint=epoch, refine=reading)
    flagged = torch.zeros(len(wrong), dtype=torch.bool)
    flagged[issues.flagged] = True
    return float(flagged[wrong].double().mean()), float(flagged[~wrong].double().mean())


def stricter(folder: Path, wrong: Tensor, epoch: int, recall: float) -> tuple[float, float]:
    """Compute the rates of AUM with a stricter threshold, which flags this share of the label errors."""
    ranked = wrong[find_label_issues(folder, Threshold(), checkpoint=epoch).index]
    found = ranked.double().cumsum(0) / wrong.sum()
    count = int((found >= recall - 1e-9).nonzero()[0]) + 1
    return float(found[count - 1]), float((~ranked[:count]).sum() / (~wrong).sum())


def last(runs: list[Rates], flags: str, rate: str) -> list[float]:
    return [run[flags][rate][-1] for run in runs]


def rows(runs: list[Rates]) -> list[dict[str, Any]]:
    made = []
    for flags in (*READINGS, STRICT):
        for epoch in range(len(runs[0][flags]["TPR"])):
            row: dict[str, Any] = {"flags": flags, "epoch": epoch + 1, "seeds": len(runs)}
            for rate in ("TPR", "FPR"):
                each = [run[flags][rate][epoch] for run in runs]
                row |= {f"{rate} %": mean(each), f"{rate} % deviation": deviation(each)}
            made.append(row)
    return made


def finding(runs: list[Rates]) -> str:
    """Say whether AUM-SE has fewer false positives at no loss of true ones, by the better reading."""
    better = max(
        ("AUM-SE, kept where hard", "AUM-SE, kept where easy"),
        key=lambda flags: mean(last(runs, flags, "TPR")) - mean(last(runs, flags, "FPR")),
    )
    true, false = ((last(runs, better, rate), last(runs, "AUM", rate)) for rate in ("TPR", "FPR"))
    claims = [-1 if decided(*true) < 0 else 1, -decided(*false)]
    strict = change(last(runs, better, "FPR"), last(runs, STRICT, "FPR"))
    control = f"; against AUM that is as strict, its false positives change by {strict}" * ("hard" in better)
    return (
        f"{verdict(claims)}: {better}, changes the true positives of AUM, {mean(true[1]):.1f} %, by"
        f" {change(*true)} points and its false positives, {mean(false[1]):.1f} %, by {change(*false)}{control}"
    )


def figure(runs: list[Rates]) -> Any:
    names = {"TPR": "flagged label errors, %", "FPR": "flagged correct labels, %"}
    shown = {"TPR": tuple(READINGS), "FPR": (*READINGS, STRICT)}
    return draw_bands(
        {names[rate]: {flags: [run[flags][rate] for run in runs] for flags in shown[rate]} for rate in names}
    )


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    runs = [experiment.once(f"seed-{seed}", lambda: measured(experiment, seed)) for seed in experiment.seeds]  # noqa: B023
    experiment.finish(rows(runs), figure(runs), finding(runs))


if __name__ == "__main__":
    main()
