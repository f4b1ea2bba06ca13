"""Figure 4 of the 2018 text: accuracy without easy, hard or random examples, and with random labels on them.

Examples are sorted by easiness and drawn by Beta(3, 1), Beta(1, 3) or Beta(1, 1) of their rank. For labels the text
names the same three in another order, "easy, hard and random" for Beta(3, 1), (1, 1) and (1, 3); what it says of
the results fits the order of the ablation, which is taken here. Every choice has its random twin, and full training
beside it.
"""

from __future__ import annotations

from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

from count_runs import REFERENCE, limit_test
from experiment import Experiment, begin, decided
from training import Training

from lightning_easiness import Ablation, EasinessCallback, Relabel, Scores
from lightning_easiness.view.style import EASY, HARD, INK, MUTED, LineEnd, label_ends, set_title, styled

SETTINGS = {
    "small": {"data": ["cifar-10"], "seeds": 5, "epochs": 8, "early_epochs": 3, "early_seeds": 5, "size": 1000,
              "image_size": 16, "batch_size": 32, "width": 0.125, "test_size": 3000,
              "drop": [0.3, 0.6, 0.9], "labels": [0.3, 0.9]},
    "full": {"data": ["cifar-10", "mini-imagenet"], "seeds": 5, "epochs": 300, "early_epochs": 10, "early_seeds": 10,
             "size": None, "image_size": None, "batch_size": None, "width": 1.0, "test_size": None,
             "drop": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
             "labels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]},
}  # fmt: skip
METHODS = {"easy": EASY, "hard": HARD, "random": INK}
WORDS = {"drop": ("removed", "drop rate"), "labels": ("with random labels", "random label rate")}
Results = dict[tuple[str, str, float], list[float]]  # accuracies by what is done, to which examples, and how many


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    shared = {"width": setting.width, "size": setting.size, "image_size": setting.image_size}
    made = {}
    for data in setting.data:
        shared["batch_size"] = setting.batch_size or (128 if data == "cifar-10" else 64)
        of_data = {"network": REFERENCE[data], "data": data, "text": "count", **shared}
        made[f"ablated-{data}"] = Training(epochs=setting.epochs, **of_data)
        made[f"ablated-early-{data}"] = Training(epochs=setting.early_epochs, scheduled=300, **of_data)
    return made


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    rows: list[dict[str, Any]] = []
    found: dict[str, Results] = {}
    for data in experiment.setting.data:
        limit_test(experiment, f"ablated-{data}", experiment.setting.test_size)
        record = experiment.repeat(
            f"ablated-early-{data}",
            lambda: EasinessCallback(num_images=0, probe_batch_size=500),
            seeds=range(100, 100 + experiment.setting.early_seeds),  # other seeds than those of the comparison
        )
        found[data] = results_of(experiment, data, record.score("count"))
        rows += rows_of(data, found[data])
    verdicts = [judged(data, results, experiment.setting) for data, results in found.items()]
    word = {1: "agrees", 0: "cannot tell", -1: "differs"}[min(verdict for verdict, _ in verdicts)]
    text = "; ".join(text for _, text in verdicts)
    experiment.finish(rows, lambda figure: draw(figure, found), f"{word}: {text}")


def results_of(experiment: Experiment, data: str, scores: Scores) -> Results:
    """Train each choice with each seed, and on everything."""
    name, results = f"ablated-{data}", {}

    def trained(action: str, which: str, ratio: float) -> list[float]:
        accuracies = []
        for seed in experiment.seeds:
            selection: Any = None
            if action == "drop" and ratio:
                selection = Ablation(scores, ratio, remove=which, sampling="beta", seed=seed)
            elif ratio:
                selection = Relabel(scores, ratio, which=which, seed=seed, num_classes=10)
            key = f"{data}-{action}-{which}-{ratio:g}-{seed}"
            fitted = experiment.once(key, lambda: experiment.fit(name, seed, selection))  # noqa: B023  # at once
            accuracies.append(fitted["test_accuracy"])
        return accuracies

    results["nothing", "random", 0.0] = trained("nothing", "random", 0.0)
    for action in WORDS:
        for ratio in getattr(experiment.setting, action):
            for which in METHODS:
                results[action, which, ratio] = trained(action, which, ratio)
    return results


def rows_of(data: str, results: Results) -> list[dict[str, Any]]:
    """Return a row for each choice, with the mean and the standard deviation over seeds."""
    return [
        {"data": data, "action": action, "which": which, "ratio": ratio, "accuracy": fmean(found),
         "deviation": stdev(found), "seeds": len(found)}
        for (action, which, ratio), found in results.items()
    ]  # fmt: skip


def judged(data: str, results: Results, setting: SimpleNamespace) -> tuple[int, str]:
    """Return 1, 0 or -1 by four claims of the text, and each of them with its numbers."""
    few, many = min(setting.drop), max(setting.drop)
    claims = {
        f"without {few:.0%} of hard examples below without easy ones": (("drop", "easy", few), ("drop", "hard", few)),
        f"without {many:.0%} of easy ones below random": (("drop", "random", many), ("drop", "easy", many)),
        f"without {many:.0%} of hard ones below random": (("drop", "random", many), ("drop", "hard", many)),
        f"{max(setting.labels):.0%} random labels on easy ones below on hard ones": (
            ("labels", "hard", max(setting.labels)), ("labels", "easy", max(setting.labels)),
        ),
    }  # fmt: skip
    verdicts, parts = [], []
    for claim, (higher, lower) in claims.items():
        verdict = decided(results[higher], results[lower])
        verdicts.append(verdict)
        word = {1: "yes", 0: "undecided", -1: "no"}[verdict]
        parts.append(f"{claim}: {word} ({fmean(results[lower]):.3f} and {fmean(results[higher]):.3f})")
    return min(verdicts), f"{data}: {'; '.join(parts)}"


def draw(figure: Any, found: dict[str, Results]) -> None:
    """Draw a row of two panels for each data set, with one standard deviation over seeds."""
    figure.set_size_inches(10, 4.3 * len(found))
    for row, (data, results) in enumerate(found.items()):
        for column, action in enumerate(WORDS):
            axes = styled(figure.add_subplot(len(found), 2, 2 * row + column + 1))
            draw_panel(axes, data, action, results)


def draw_panel(axes: Any, data: str, action: str, results: Results) -> None:
    """Draw accuracy against the rate for easy, hard and random examples."""
    full = results["nothing", "random", 0.0]
    ends = []
    for which, colour in METHODS.items():
        points = {ratio: got for (kind, chosen, ratio), got in results.items() if (kind, chosen) == (action, which)}
        means, spread = [fmean(got) for got in points.values()], [stdev(got) for got in points.values()]
        style = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2.5, "elinewidth": 1}
        style["linestyle"] = "--" if which == "random" else "-"
        axes.errorbar([0, *points], [fmean(full), *means], yerr=[stdev(full), *spread], **style)
        ends.append(LineEnd(which, means[-1], colour))
    axes.axhline(0.1, color=MUTED, linestyle=":")
    axes.set(xlabel=WORDS[action][1], ylabel="test accuracy")
    axes.margins(x=0.03)
    label_ends(axes, [*ends, LineEnd("chance", 0.1, MUTED)])
    last = max(ratio for kind, _, ratio in results if kind == action)
    order = sorted(METHODS, key=lambda which: -fmean(results[action, which, last]))
    at = ", ".join(f"{which} {fmean(results[action, which, last]):.3f}" for which in order)
    title = f"{data}: {last:.0%} {WORDS[action][0]}, best if they are {order[0]}"
    set_title(axes, title, f"there {at}; {len(full)} seeds, bars: one standard deviation", width=4.2)


if __name__ == "__main__":
    main()
