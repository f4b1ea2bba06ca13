"""Table 2 and Figure 2 of the sample easiness text: classic training, SET, L-SET and SEL-SET, with controls.

    python examples/paper/sel_training.py --setting small --data-root ROOT

Accuracy at the end (ACC); seconds of an epoch (ART), over all epochs and over the later ones, selection included; share
of the data that the later epochs train on (ADU). The figure shows data use and accuracy over epochs, mean and band.
L-SET takes in each epoch as many examples as the SET run of its seed called hard and medium.

Controls: stopping after the early epochs; classic training for as many seconds, or for as many examples, as SET; and in
each epoch as many random examples as SET takes. Beyond the text: the unbiased variant, and classic training for its
work.
"""

from __future__ import annotations

from typing import Any

from experiment import Experiment, begin, decided
from sel_runs import Method, Run, change, deviation, mean, runs_of, shown, trainings_of, twin, values, verdict

from lightning_easiness import LevelCounts, SampleEasinessTraining, Selection, draw_bands

SETTINGS = {
    "small": {"small": True, "seeds": 5, "epochs": 10, "early": 2},
    "full": {"small": False, "seeds": 5, "epochs": 50, "early": 5},
}
DRAWN = ("classic", "SET", "L-SET", "SEL-SET", "random, size of SET")


def methods(early: int, epochs: int, num_examples: int) -> dict[str, Method]:
    """Return the rows of the table, each after those whose runs it needs."""

    def set_(**options: Any) -> Any:
        return lambda seed, others: SampleEasinessTraining(early_epochs=early, seed=seed, **options)

    def l_set(seed: int, others: dict[str, Run]) -> Selection:
        levels = LevelCounts(others["SET"]["levels"])
        return SampleEasinessTraining(early_epochs=early, by="loss", level_counts=levels, seed=seed)

    def by_seconds(others: dict[str, Run]) -> int:
        classic, ours = others["classic"], others["SET"]
        return max(1, round(sum(ours["epoch_seconds"]) / sum(classic["epoch_seconds"]) * classic["steps"]))

    def by_work(of: str) -> Any:
        return lambda others: max(1, round(sum(others[of]["data_use"]) / epochs * others["classic"]["steps"]))

    unbiased = set_(others_share=0.5, final_epochs=1, online=True, rescore_every_n_epochs=None)
    return {
        "classic": Method(),
        "SET": Method(set_()),
        "L-SET": Method(l_set),
        "SEL-SET": Method(set_(), {"weight": 0.1}),
        "SET, batch by batch": Method(set_(per="batch")),
        "stop after the early epochs": Method(epochs=early),
        "classic, seconds of SET": Method(steps=by_seconds),
        "classic, work of SET": Method(steps=by_work("SET")),
        "random, size of SET": Method(twin("SET", num_examples)),
        "unbiased SET": Method(unbiased),
        "classic, work of unbiased SET": Method(steps=by_work("unbiased SET")),
    }


def measures(runs: list[Run], early: int) -> dict[str, list[float]]:
    """Return ACC, ART and ADU of each run."""
    return {
        "ACC %": values(runs, "accuracy"),
        "ART s": [mean(run["epoch_seconds"]) for run in runs],
        "ART s, later epochs": [mean(run["epoch_seconds"][early:] or [float("nan")]) for run in runs],
        "ADU %": [100 * mean(run["data_use"][early:] or [float("nan")]) for run in runs],
        "epochs' worth of examples": [sum(run["data_use"]) for run in runs],
    }


def rows(runs: dict[str, dict[str, list[Run]]], early: int) -> list[dict[str, Any]]:
    made = []
    for name, by_method in runs.items():
        for method, found in by_method.items():
            row: dict[str, Any] = {"training": name, "method": method, "seeds": len(found)}
            for measure, each in measures(found, early).items():
                row |= {measure: mean(each), f"{measure} deviation": deviation(each)}
            made.append(row)
    return made


def claims(runs: dict[str, list[Run]], early: int) -> list[int]:
    """Return what the text says: SET is not below classic, and faster; L-SET is worse; SEL-SET is not below SET.

    That two are equal cannot be decided: where they do not differ it is 0.
    """
    accuracy = {method: values(found, "accuracy") for method, found in runs.items()}
    seconds, use = (
        {method: measures(found, early)[name] for method, found in runs.items()} for name in ("ART s", "ADU %")
    )
    return [
        min(0, decided(accuracy["SET"], accuracy["classic"])),
        -decided(seconds["SET"], seconds["classic"]),
        decided(accuracy["SET"], accuracy["L-SET"]),
        min(0, decided(accuracy["SEL-SET"], accuracy["SET"])),
        -decided(use["SEL-SET"], use["SET"]),
    ]


def finding(runs: dict[str, dict[str, list[Run]]], early: int) -> str:
    parts = []
    for name, found in runs.items():
        accuracy = {method: values(each, "accuracy") for method, each in found.items()}
        use = mean(measures(found["SET"], early)["ADU %"])
        against = [
            f"{change(accuracy['SET'], accuracy[other])} against {other}"
            for other in ("classic", "L-SET", "SEL-SET", "stop after the early epochs", "random, size of SET")
        ]
        parts.append(f"on {name} SET, with {use:.2g} % of the data in later epochs, has {', '.join(against)}")
    every = [claim for found in runs.values() for claim in claims(found, early)]
    return f"{verdict(every)}: in points of accuracy, {'; '.join(parts)}"


def figure(runs: dict[str, dict[str, list[Run]]]) -> Any:
    panels = {}
    for name, found in runs.items():
        panels[f"{shown(name)}: data use, %"] = {
            method: [[100 * use for use in run["data_use"]] for run in found[method]] for method in DRAWN
        }
        panels[f"{shown(name)}: test accuracy, %"] = {
            method: [[100 * one for one in run["accuracies"]] for run in found[method]] for method in DRAWN
        }
    return draw_bands(panels, logarithmic=[label for label in panels if "data use" in label])


def trained(experiment: Experiment) -> dict[str, dict[str, list[Run]]]:
    early, epochs = experiment.setting.early, experiment.setting.epochs
    return {
        name: runs_of(experiment, name, methods(early, epochs, len(experiment.data(name).train)))
        for name in experiment.trainings
    }


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings_of)
    runs, early = trained(experiment), experiment.setting.early
    experiment.finish(rows(runs, early), figure(runs), finding(runs, early))


if __name__ == "__main__":
    main()
