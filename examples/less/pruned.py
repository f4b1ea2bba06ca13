"""Static pruning: scores from one classic training, and trainings on what they keep, beside random examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from experiment import Experiment

from less.runs import PEAK, train
from less.scoring import folder_of, scores_of
from less.table import Curve, Mean, Row, accuracy_of, deviation_of
from less.ways import CLASSIC, WAYS, Way
from less.work import FORWARD_ONLY, WorkMeter, plan_of
from lightning_easiness import Ablation, EasinessCallback, Keep, Scores, Selection, repeat_fit
from lightning_easiness.functional import draw_by_dual

RATIOS = (0.3, 0.5, 0.7, 0.9)
HARDEST_DROPPED = {0.3: 0.0, 0.5: 0.0, 0.7: 0.1, 0.9: 0.3}  # coverage-centric selection's own, for CIFAR-10
SEED = 100  # of the training that scores, another than those that are compared
HELD_OUT, HELD_OUT_RUNS = 0.3, 8


ScoresOf = Callable[[str], Scores]  # by name
Which = Literal["easy", "hard", "random"]


def top(name: str, remove: Which = "easy") -> Callable[[ScoresOf, float, int], Selection]:
    """Return a way to prune exactly one end of a score."""
    return lambda scores, ratio, seed: Ablation(scores(name), ratio, remove, "top", seed)


def _at_random(scores: ScoresOf, ratio: float, seed: int) -> Selection:
    return Ablation(scores("area_under_margin"), ratio, "random", seed=seed)


def _by_coverage(scores: ScoresOf, ratio: float, seed: int) -> Selection:
    dropped = HARDEST_DROPPED[ratio]
    return Ablation(scores("area_under_margin"), ratio, sampling="stratified", seed=seed, hardest_dropped=dropped)


def _by_dual(scores: ScoresOf, ratio: float, seed: int) -> Selection:
    dual = scores("dual")
    return Keep(draw_by_dual(dual.values, scores("confidence").values, ratio, seed=seed), data=dual)


PRUNINGS: dict[str, Callable[[ScoresOf, float, int], Selection]] = {
    "random": _at_random,
    "EL2N": top("el2n"),
    "forgetting": top("forgetting_events"),
    "AUM": top("area_under_margin"),
    "AUM, easy kept": top("area_under_margin", "hard"),
    "coverage-centric": _by_coverage,
    "dual": top("dual"),
    "dual, drawn": _by_dual,
    "memorization": top("memorization"),
}
BY_HELD_OUT = ("memorization",)  # of trainings that hold out a part; all others are of one training


def score_work(experiment: Experiment, name: str, epochs: int) -> float:
    """Train once on everything, record it, and return the work of it, passes included."""
    folder = folder_of(experiment, name)
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
    repeat_fit(
        make_trainer,
        lambda: experiment.module(name),
        data,
        seeds=seeds,
        dirpath=folder_of(experiment, name, held_out=True),
        hold_out=HELD_OUT,
        progress=False,
    )
    return HELD_OUT_RUNS * ((1 - HELD_OUT) * epochs + FORWARD_ONLY)


SCORING = {"scores": score_work, "held out": memorization_work}


def pruned(experiment: Experiment, name: str, how: str, ratio: float, epochs: int, seed: int) -> dict[str, Any]:
    """Train on what a way to prune keeps."""
    selection = PRUNINGS[how](lambda score: scores_of(experiment, name, score), ratio, seed)
    num_kept = round((1 - ratio) * len(experiment.data(name).train))
    way = Way(lambda given: None, share=1.0)
    return train(experiment, name, way, epochs, seed, selection=selection, num_kept=num_kept)


def pruned_rows(
    data: str, labels: str, runs: Mapping[Any, Sequence[Any]], cost: Mapping[str, float], curve: Curve
) -> list[Row]:
    """Return a row for each way to prune and each share, beside random pruning and classic training of equal work."""
    rows = []
    for (how, ratio), found in runs.items():
        # the more is removed, the larger is the spread
        spread = {key: sample for key, sample in runs.items() if key[1] == ratio}
        mean = {
            what: Mean.of([run[what] for run in found], deviation_of(spread, what))
            for what in ("work", "accuracy", "worst_class")
        }
        beside = accuracy_of(runs.get(("random", ratio), found), spread)
        above, classic = mean["accuracy"].minus(beside), curve.at(mean["work"].value)
        rows.append({
            "data": data, "labels": labels, "by": how, "removed": ratio, "seeds": len(found),
            "work": mean["work"].value, "work_of_scores": cost[how],
            "accuracy": mean["accuracy"].value, "error": mean["accuracy"].error,
            "worst_class": mean["worst_class"].value, "above_random": above.value, "above_random_margin": above.margin,
            "above_classic": mean["accuracy"].minus(classic).value,
        })  # fmt: skip
    return rows
