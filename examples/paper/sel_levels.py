"""Table 3 of the sample easiness text: SET on each choice of levels, beside a random selection of its size.

    python examples/paper/sel_levels.py --setting small --data-root ROOT

After the early epochs, EO trains on easy examples, MO on medium ones, HO on hard ones, EMO on easy and medium, MHO on
medium and hard; EMHO is classic training. Error rates on the test examples. The control draws as many examples in each
epoch at random.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiment import begin, decided
from sel_runs import (
    Method,
    Run,
    change,
    deviation,
    draw_dots,
    mean,
    runs_of,
    shown,
    trainings_of,
    twin,
    values,
    verdict,
)
from training import Training

from lightning_easiness import SampleEasinessTraining

SETTINGS = {
    "small": {"small": True, "seeds": 5, "epochs": 10, "early": 2},
    "full": {"small": False, "seeds": 5, "epochs": 50, "early": 5},
}
LEVELS = {
    "EO": ("easy",),
    "MO": ("medium",),
    "HO": ("hard",),
    "EMO": ("easy", "medium"),
    "MHO": ("medium", "hard"),
}
SHARED = {"EMHO": "classic", "MO": "SET"}  # the names of the same runs in sel_training.py


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    return trainings_of(setting, ("fashion-mnist", "cifar-10", "cifar-100"))


def name_of(levels: str) -> str:
    return SHARED.get(levels, levels)


def methods(early: int, num_examples: int) -> dict[str, Method]:
    found = {name_of("EMHO"): Method()}
    for name, levels in LEVELS.items():
        found[name_of(name)] = Method(
            lambda seed, others, levels=levels: SampleEasinessTraining(levels, early, seed=seed)
        )
        found[f"random, size of {name_of(name)}"] = Method(twin(name_of(name), num_examples))
    return found


def errors(runs: dict[str, list[Run]]) -> dict[str, dict[str, list[float]]]:
    """Return the error rates of each row: chosen by level, and at random."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in (*LEVELS, "EMHO"):
        kinds = {"by level": name_of(name), "random, same size": f"random, size of {name_of(name)}"}
        found[name] = {
            kind: [100 - each for each in values(runs[method], "accuracy")]
            for kind, method in kinds.items()
            if method in runs
        }
    return found


def rows(runs: dict[str, dict[str, list[Run]]], early: int) -> list[dict[str, Any]]:
    made = []
    for training, found in runs.items():
        for name, by_kind in errors(found).items():
            use = [100 * mean(run["data_use"][early:]) for run in found[name_of(name)]]
            row: dict[str, Any] = {"training": training, "levels": name, "data use %": mean(use)}
            for kind in ("by level", "random, same size"):
                each = by_kind.get(kind, [float("nan")])
                row |= {f"error % {kind}": mean(each), f"deviation {kind}": deviation(each)}
            made.append(row | {"seeds": len(by_kind["by level"])})
    return made


def claims(found: dict[str, dict[str, list[float]]]) -> list[int]:
    """Return what the text says: easy examples lead to no more errors than classic training, hard ones to no fewer."""
    classic = found["EMHO"]["by level"]
    against = {name: decided(one["by level"], classic) for name, one in found.items()}
    return [*(1 if against[name] <= 0 else -1 for name in ("EO", "EMO")), 1 if against["HO"] >= 0 else -1]


def finding(runs: dict[str, dict[str, list[Run]]]) -> str:
    parts = []
    for training, each in runs.items():
        found = errors(each)
        compared = [
            f"{name} {change(found[name]['by level'], found['EMHO']['by level'])} against EMHO and"
            f" {change(found[name]['by level'], found[name]['random, same size'])} against random"
            for name in LEVELS
        ]
        parts.append(f"on {training} {', '.join(compared)}")
    every = [claim for each in runs.values() for claim in claims(errors(each))]
    return f"{verdict(every)}: in points of error, {'; '.join(parts)}"


def figure(runs: dict[str, dict[str, list[Run]]]) -> Any:
    found = {training: errors(each) for training, each in runs.items()}
    best = {name: min(one, key=lambda row: mean(one[row]["by level"])) for name, one in found.items()}
    fewest = ", ".join(
        f"{best[name]} on {shown(name)} ({mean(found[name][best[name]]['by level']):.1f}\u00a0%)" for name in found
    )
    note = "blue: the later epochs by level; grey: as many examples at random; a dot is a seed, a bar is the mean"
    panels = {f"{shown(name)}: error rate, %": one for name, one in found.items()}
    return draw_dots(panels, f"The fewest errors: {fewest}", note, columns=2)


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)
    early = experiment.setting.early
    runs = {
        name: runs_of(experiment, name, methods(early, len(experiment.data(name).train)))
        for name in experiment.trainings
    }
    experiment.finish(rows(runs, early), figure(runs), finding(runs))


if __name__ == "__main__":
    main()
