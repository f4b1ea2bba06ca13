"""Table 1 of the sample easiness text: cross-entropy alone (baseline) and with SEL; accuracy, AUROC, MSR and ESE.

    python examples/paper/sel_loss.py --setting small --data-root ROOT

The text says that SEL lowers the medium sample rate (MSR) and the error of the easiness (ESE) and costs no accuracy. It
does not say how log P is kept finite: "SEL" has this project's floor of log 1e-7, and "no floor" is equation 2 as it
stands. A weight of 0.01 in place of 0.1 is a control.
"""

from __future__ import annotations

from experiment import begin, decided
from sel_runs import (
    MEASURES,
    Method,
    Run,
    change,
    deviation,
    draw_dots,
    mean,
    runs_of,
    shown,
    trainings_of,
    values,
    verdict,
)

SETTINGS = {
    "small": {"small": True, "seeds": 5, "epochs": 10},
    "full": {"small": False, "seeds": 5, "epochs": 50},
}
METHODS = {
    "baseline": Method(),
    "SEL": Method(sel={"weight": 0.1}),
    "SEL, no floor": Method(sel={"weight": 0.1, "floor": None}),
    "SEL, weight 0.01": Method(sel={"weight": 0.01}),
}


def claims(runs: dict[str, list[Run]]) -> list[int]:
    """Return what the text says of MSR, ESE and accuracy: 1 as it says, -1 the opposite, 0 within the spread."""
    found = {name: decided(values(runs["SEL"], name), values(runs["baseline"], name)) for name in MEASURES}
    return [-found["msr"], -found["ese"], -1 if found["accuracy"] < 0 else 1]


def finding(runs: dict[str, dict[str, list[Run]]]) -> str:
    parts = []
    for name, found in runs.items():
        ours = {measure: [values(found[label], measure) for label in ("SEL", "baseline")] for measure in MEASURES}
        changes = ", ".join(f"{MEASURES[one][0]} {change(*ours[one])}" for one in ("accuracy", "msr", "ese"))
        parts.append(f"{name}: {changes}")
    every = [claim for found in runs.values() for claim in claims(found)]
    return f"{verdict(every)}: what SEL changes against the baseline is, for {'; for '.join(parts)}"


def rows(runs: dict[str, dict[str, list[Run]]]) -> list[dict[str, object]]:
    return [
        {"training": name, "method": method, "seeds": len(found)}
        | {measure: mean(values(found, measure)) for measure in MEASURES}
        | {f"{measure} deviation": deviation(values(found, measure)) for measure in MEASURES}
        for name, by_method in runs.items()
        for method, found in by_method.items()
    ]


def figure(runs: dict[str, dict[str, list[Run]]]) -> object:
    """Draw three metrics of each training; SEL without a floor, whose MSR is far off, is in the table alone."""
    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, by_method in runs.items():
        for measure in ("accuracy", "msr", "ese"):
            panels[f"{shown(name)}: {MEASURES[measure][0]}"] = {
                method: {"": values(found, measure)} for method, found in by_method.items() if method != "SEL, no floor"
            }
    moved = []
    for name, one in runs.items():
        before, after = (mean(values(one[method], "msr")) for method in ("baseline", "SEL"))
        moved.append(f"from {before:.2g} to {after:.2g} % on {shown(name)}")
    title = f"With SEL, the share of medium examples goes {', '.join(moved)}"
    return draw_dots(panels, title, "a dot is a seed, a bar is the mean", columns=3)


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings_of)
    runs = {name: runs_of(experiment, name, METHODS) for name in experiment.trainings}
    experiment.finish(rows(runs), figure(runs), finding(runs))


if __name__ == "__main__":
    main()
