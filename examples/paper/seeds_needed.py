"""How many seeds, and how early: what is the cheapest probe of easiness that suffices?

Twenty runs of one network: ten are the reference, as in the 2019 text, and the other ten are taken in groups of 1, 2, 5
and 10, at several numbers T of updates. How well do their easiness and their hard examples agree with those of the
reference at the end? Ten runs at the end are the most to hope for, as they differ from the reference in seeds alone.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiment import begin
from training import Training

from lightning_easiness import EasinessCallback, ProbeAgreement, cheapest_probe, compare_probes

SETTINGS: dict[str, dict[str, Any]] = {
    "small": {
        "network": "cnn-18m", "width": 0.125, "image_size": 16, "size": 5000, "seeds": 20, "epochs": 8,
        "at_steps": (10, 20, 40, 80, 160, 320),
    },
    "full": {
        "network": "wrn-16-4", "width": 1.0, "image_size": None, "size": None, "seeds": 20, "epochs": 10,
        "at_steps": (50, 100, 200, 400, 800, 1600, 3910),
    },
}  # fmt: skip
SHARE = 0.9


def trainings(setting: SimpleNamespace) -> dict[str, Training]:
    made = Training(
        setting.network, "cifar-10", "count", setting.epochs, 300, width=setting.width, size=setting.size,
        image_size=setting.image_size,
    )  # fmt: skip
    return {"seeds_needed": made}


def main() -> None:
    experiment = begin(__doc__, SETTINGS, trainings)

    def watch() -> EasinessCallback:
        return EasinessCallback(at_steps=experiment.setting.at_steps, online=False, num_images=0, probe_batch_size=500)

    record = experiment.repeat("seeds_needed", watch)
    half = record.num_runs // 2
    candidates, reference = record.select_runs(range(half)), record.select_runs(range(half, record.num_runs))
    probes = compare_probes(candidates, reference)
    experiment.finish([row(probe) for probe in probes], lambda figure: draw(figure, probes), finding(probes))


def row(probe: ProbeAgreement) -> dict[str, Any]:
    names = ("num_runs", "step", "updates", "rank", "rank_spread", "easy", "easy_spread", "hard", "hard_spread")
    return {name: getattr(probe, name) for name in names}


def finding(probes: list[ProbeAgreement]) -> str:
    """Say whether it takes the texts' ten runs, or whether half their cost reaches 0.9 of what they share."""
    full = probes[-1]
    parts, costs = [], []
    for quantity in ("rank", "easy", "hard"):
        cheap, most = cheapest_probe(probes, quantity, SHARE), getattr(full, quantity)
        costs.append(cheap.updates / full.updates)
        spread = getattr(cheap, f"{quantity}_spread")
        parts.append(
            f"{quantity} {getattr(cheap, quantity):.2f} ± {spread:.2f} of {most:.2f} by {cheap.num_runs} runs of"
            f" {cheap.step} updates, {costs[-1]:.0%} of the cost"
        )
    verdict = "differs" if max(costs) <= 0.5 else "agrees" if min(costs) > 0.5 else "cannot tell"
    return (
        f"{verdict}: it takes the texts' {full.num_runs} runs: {SHARE} of what {full.num_runs} runs of {full.step}"
        f" updates share with {full.num_runs} others is reached in " + "; in ".join(parts)
    )


def draw(figure: Any, probes: list[ProbeAgreement]) -> None:
    """Draw each quantity against the cost of the probe, with a line for each number of runs."""
    titles = {"rank": "Rank correlation", "easy": "Matching rate, easy", "hard": "Matching rate, hard"}
    for axes, (quantity, title) in zip(figure.subplots(1, 3, sharex=True), titles.items(), strict=True):
        for runs in sorted({probe.num_runs for probe in probes}):
            line = [probe for probe in probes if probe.num_runs == runs]
            values, spreads = ([getattr(probe, name) for probe in line] for name in (quantity, f"{quantity}_spread"))
            spread = [0.0 if value != value else value for value in spreads]
            label = f"{runs} runs" if runs > 1 else "1 run"
            axes.errorbar([probe.updates for probe in line], values, spread, label=label, marker=".", capsize=2)
        axes.set(title=title, xscale="log", xlabel="updates of all runs")
    figure.axes[0].legend()


if __name__ == "__main__":
    main()
