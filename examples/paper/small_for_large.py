"""Does the easiness that a small network finds prune the data for a larger one?

Half of the training examples are removed, mainly easy ones or mainly hard ones, by the easiness of the larger network
itself, by that of a cheaper network, and at random; then the larger network is trained on the rest. Small networks
whose easiness is another one (the perceptron's, by the 2018 text) are the control beside them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from experiment import Experiment, begin
from training import Training

from lightning_easiness import Ablation, Scores
from lightning_easiness.functional import rank_correlation

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "large": ("cnn-18m", 0.25), "small": {"cnn": ("cnn-18m", 0.0625), "perceptron": ("mlp", 0.1)},
        "image_size": 16, "size": 2500, "test_size": 2000, "seeds": 5, "early_seeds": 3, "epochs": 6,
        "early": 2, "ratio": 0.5,
    },
    "full": {
        "large": ("resnet-50", 1.0), "small": {"cnn": ("cnn-12k", 1.0), "perceptron": ("mlp", 1.0)},
        "image_size": None, "size": None, "test_size": None, "seeds": 10, "early_seeds": 10, "epochs": 300,
        "early": 10, "ratio": 0.5,
    },
}  # fmt: skip
ERRORS = 2.5


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    """Return what is trained: each network early, for its easiness, and the larger one to the end."""

    def one(network: str, width: float, epochs: int) -> Training:
        return Training(
            network, "cifar-10", "count", epochs, setting.epochs, width=width, size=setting.size,
            test_size=setting.test_size, image_size=setting.image_size,
        )  # fmt: skip

    early = {"own": setting.large, **setting.small}
    made = {f"small_for_large-{name}": one(*form, setting.early) for name, form in early.items()}
    return made | {"small_for_large": one(*setting.large, setting.epochs)}


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    scores = {name: easiness(experiment, name) for name in ("own", *experiment.setting.small)}
    # runs of the same seed as those that measured own easiness would share their beginning with them
    everything = [accuracy(experiment, "everything", seed, None) for seed in experiment.seeds]
    rows = [row("everything", "", 0.0, everything, scores)]
    found: dict[tuple[str, str], list[float]] = {}
    for by, remove in [("random", "random"), *((by, end) for by in scores for end in ("easy", "hard"))]:
        found[by, remove] = [
            pruned(experiment, scores[by if by in scores else "own"], by, remove, seed) for seed in experiment.seeds
        ]
        rows.append(row(by, remove, experiment.setting.ratio, found[by, remove], scores))
    experiment.finish(rows, lambda figure: draw(figure, rows), finding(found, everything, experiment.setting.ratio))


def easiness(experiment: Experiment, name: str) -> Scores:
    """Train a network early under seeds of its own, and return the mean loss.

    How many is no matter of `--seeds`: results that are kept would be of other scores.
    """
    seeds = range(100, 100 + experiment.setting.early_seeds)
    return experiment.repeat(f"small_for_large-{name}", seeds=seeds).score("mean_loss")


def pruned(experiment: Experiment, scores: Scores, by: str, remove: Any, seed: int) -> float:
    """Return the accuracy after removing examples in proportion to their easiness, as in the 2019 text."""
    selection = Ablation(scores, experiment.setting.ratio, remove=remove, seed=seed)
    return accuracy(experiment, f"{by}-{remove}", seed, selection)


def accuracy(experiment: Experiment, key: str, seed: int, selection: Ablation | None) -> float:
    logged = experiment.once(f"{key}-{seed}", lambda: experiment.fit("small_for_large", seed, selection))
    return float(logged["test_accuracy"])


def row(by: str, remove: str, ratio: float, accuracies: list[float], scores: dict[str, Scores]) -> dict[str, Any]:
    known = by in scores
    rank = rank_correlation(scores[by].values.double(), scores["own"].values.double()) if known else float("nan")
    return {
        "easiness": by, "removed": remove, "ratio": ratio, "accuracy": statistics.fmean(accuracies),
        "spread": statistics.stdev(accuracies), "num_seeds": len(accuracies), "rank_with_own": float(rank),
    }  # fmt: skip


def finding(found: dict[tuple[str, str], list[float]], everything: list[float], ratio: float) -> str:
    """Say whether pruning by the small network's easiness does what pruning by the larger one's own does.

    Where its own does nothing that random pruning does not, there is nothing to tell.
    """
    spread = pooled(found.values())
    same = {end: sign(found["cnn", end], found["own", end], spread) == 0 for end in ("easy", "hard")}
    signs = {key: sign(values, found["random", "random"], spread) for key, values in found.items()}
    own_matters = any(signs["own", end] for end in ("easy", "hard"))
    verdict = "cannot tell" if not own_matters else "agrees" if all(same.values()) else "differs"
    words = {0: "undecided against", 1: "better than", -1: "worse than"}
    said = "; ".join(
        f"{remove} removed by {by}: {statistics.fmean(values):.3f}, {words[signs[by, remove]]} random"
        for (by, remove), values in found.items()
        if by != "random"
    )
    return (
        f"{verdict}: a small network's easiness prunes for a larger one as its own does ({ratio:.0%} removed; small and"
        f" own differ in {sum(not equal for equal in same.values())} of 2; everything"
        f" {statistics.fmean(everything):.3f}, random {statistics.fmean(found['random', 'random']):.3f}): {said}"
    )


def pooled(samples: Iterable[list[float]]) -> float:
    """Return the standard deviation between seeds, from all ways of pruning: a few seeds of one do not show it."""
    return statistics.fmean(statistics.variance(values) for values in samples) ** 0.5


def sign(ours: list[float], others: list[float], spread: float) -> int:
    """Return 1 or -1 if two means differ by 2.5 standard errors, as several are compared, and 0 if not."""
    difference = statistics.fmean(ours) - statistics.fmean(others)
    error = spread * (1 / len(ours) + 1 / len(others)) ** 0.5
    return 0 if abs(difference) <= ERRORS * error else 1 if difference > 0 else -1


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    """Draw a bar for each way of pruning, with its spread, and a line for everything."""
    axes = figure.subplots()
    names = [f"{row['easiness']}\n{row['removed']}" if row["removed"] != "random" else "random" for row in rows[1:]]
    axes.bar(names, [row["accuracy"] for row in rows[1:]], yerr=[row["spread"] for row in rows[1:]], capsize=3)
    axes.axhline(rows[0]["accuracy"], linestyle="--", color="grey", label="everything")
    axes.set(ylabel="test accuracy of the larger network", title="By whose easiness, and what is removed")
    axes.set_ylim(min(row["accuracy"] - 3 * row["spread"] for row in rows))
    axes.legend()


if __name__ == "__main__":
    main()
