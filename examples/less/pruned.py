"""Static pruning: scores from one classic training, and trainings on what they keep, beside random examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiment import Experiment

from less.runs import PEAK, train
from less.table import Curve, Mean, Row
from less.ways import CLASSIC, WAYS, Way
from less.work import FORWARD_ONLY, WorkMeter, plan_of
from lightning_easiness import Ablation, EasinessCallback, EasinessRecord, Scores, repeat_fit

RATIOS = (0.3, 0.5, 0.7, 0.9)
HARDEST_DROPPED = {0.3: 0.0, 0.5: 0.0, 0.7: 0.1, 0.9: 0.3}  # coverage-centric selection's own, for CIFAR-10
SEED = 100  # of the training that scores, another than those that are compared
HELD_OUT, HELD_OUT_RUNS = 0.3, 8


@dataclass(frozen=True)
class Pruning:
    """One way to prune.

    Attributes:
        score: Name of the score, of the training that scores; "memorization" is of further trainings.
        series: Where it is from: the training steps, or passes.
        checkpoint: Of the score: 0 for the first pass, -1 for the end.
        options: Of `Ablation`, made from the share to remove.
    """

    score: str
    series: str = "train-online"
    checkpoint: int = -1
    options: Callable[[float], Mapping[str, Any]] = lambda ratio: {"sampling": "top"}


PRUNINGS: dict[str, Pruning] = {
    "random": Pruning("area_under_margin", options=lambda ratio: {"remove": "random"}),
    "EL2N": Pruning("el2n", "train-probe", 0),
    "forgetting": Pruning("forgetting_events"),
    "AUM": Pruning("area_under_margin"),
    "coverage-centric": Pruning(
        "area_under_margin",
        options=lambda ratio: {"sampling": "stratified", "hardest_dropped": HARDEST_DROPPED[ratio]},
    ),
    "memorization": Pruning("memorization", "train-probe"),
    "easy kept (AUM)": Pruning("area_under_margin", options=lambda ratio: {"remove": "hard", "sampling": "top"}),
}


def score_work(experiment: Experiment, name: str, epochs: int) -> float:
    """Train once on everything, record it, and return the work of it, passes included."""
    folder = experiment.output / f"scores-{name}"

    watch = EasinessCallback(folder, every_n_epochs=max(1, epochs // 4), num_images=0, run="scores", exist_ok=True)
    return float(train(experiment, name, WAYS[CLASSIC], epochs, SEED, callbacks=[watch])["work"])


def memorization_work(experiment: Experiment, name: str, epochs: int) -> float:
    """Train several times, each without a part, record it, and return the work of it."""
    data, training = experiment.data(name), experiment.trainings[name]
    size = len(data.train)

    def make_trainer() -> Any:
        meter = WorkMeter(plan_of(epochs, round((1 - HELD_OUT) * size), training.batch_size, 1.0), size, PEAK)
        watch = EasinessCallback(every_n_epochs=epochs, online=False, num_images=0)
        return experiment.trainer(name, [watch, meter], max_epochs=epochs)

    seeds = range(SEED, SEED + HELD_OUT_RUNS)
    folder = experiment.output / f"held-out-{name}"
    repeat_fit(
        make_trainer,
        lambda: experiment.module(name),
        data,
        seeds=seeds,
        dirpath=folder,
        hold_out=HELD_OUT,
        progress=False,
    )
    return HELD_OUT_RUNS * ((1 - HELD_OUT) * epochs + FORWARD_ONLY)


def scores_of(experiment: Experiment, name: str, pruning: Pruning) -> Scores:
    """Return the scores that a way to prune goes by."""
    folder = experiment.output / f"{'held-out' if pruning.score == 'memorization' else 'scores'}-{name}"
    return EasinessRecord.load(folder, pruning.series).score(pruning.score, pruning.checkpoint)


def pruned(experiment: Experiment, name: str, how: str, ratio: float, epochs: int, seed: int) -> dict[str, Any]:
    """Train on what a way to prune keeps."""
    pruning = PRUNINGS[how]
    kept = Ablation(scores_of(experiment, name, pruning), ratio, seed=seed, **pruning.options(ratio))
    way = Way(lambda edge, seed: None, share=1.0)
    return train(experiment, name, way, epochs, seed, selection=kept, num_kept=len(kept.kept))


def pruned_rows(
    data: str, labels: str, runs: Mapping[Any, Sequence[Any]], cost: Mapping[str, float], curve: Curve
) -> list[Row]:
    """Return a row for each way to prune and each share, beside random pruning and classic training of equal work."""
    rows = []
    for (how, ratio), found in runs.items():
        mean = {what: Mean.of([run[what] for run in found]) for what in ("work", "accuracy", "worst_class")}
        beside = Mean.of([run["accuracy"] for run in runs["random", ratio]])
        above, classic = mean["accuracy"].minus(beside), curve.at(mean["work"].value)
        rows.append({
            "data": data, "labels": labels, "by": how, "removed": ratio, "seeds": len(found),
            "work": mean["work"].value, "work_of_scores": 0.0 if how == "random" else cost[PRUNINGS[how].score],
            "accuracy": mean["accuracy"].value, "error": mean["accuracy"].error,
            "worst_class": mean["worst_class"].value, "above_random": above.value, "above_random_error": above.error,
            "above_classic": mean["accuracy"].minus(classic).value,
        })  # fmt: skip
    return rows
