"""Are the examples that are easy at the beginning of training easy at its end? Table 1 of the 2019 text.

Matching rates between each epoch and the last one. Beside them, what the text lacks: their standard errors, and how
well an end of training is known at all, which is what one half of the seeds shares with the other half.
"""

from __future__ import annotations

from typing import Any

from experiment import begin
from loss_runs import FULL, SMALL, cifar_networks, records

from lightning_easiness import MatchingCurves, draw_matching_curves, matching_curves, matching_with_end

SETTINGS: dict[str, dict[str, Any]] = {"small": SMALL, "full": FULL}
PRINTED = {
    "WRN-16-4": {"easy": 0.18, "hard": 0.255},
    "DenseNet-BC": {"easy": 0.24, "hard": 0.279},
    "ResNeXt-29": {"easy": 0.129, "hard": 0.174},
}
ERRORS = 2


def main() -> None:
    experiment = begin(__doc__, SETTINGS, cifar_networks)
    held = records(experiment)
    with_end = matching_with_end(held)
    rows = table(with_end, {name: matching_curves({name: record}) for name, record in held.items()})
    experiment.finish(rows, draw_matching_curves(with_end), finding(rows, experiment.setting.early))


def table(with_end: MatchingCurves, other_seeds: dict[str, MatchingCurves]) -> list[dict[str, Any]]:
    """Return a row for each network, end and epoch."""
    rows = []
    for point in with_end.points:
        halves = {
            each.epoch: each.matched.rate for each in next(iter(other_seeds[point.first].curves(point.which).values()))
        }
        rows.append(
            {
                "network": point.first,
                "which": point.which,
                "epoch": point.epoch,
                "with_the_end": point.matched.rate,
                "standard_error": point.matched.error,
                "printed": PRINTED.get(point.first, {}).get(point.which, float("nan")),
                "chance": point.matched.chance,
                "class_chance": point.matched.class_chance,
                "halves_of_seeds": halves[point.epoch],
                "halves_of_seeds_at_the_end": halves[max(halves)],
            }
        )
    return rows


def finding(rows: list[dict[str, Any]], early: int) -> str:
    """Say whether the beginning and the end share less than halves of the seeds do, and more than the text prints.

    Agrees if they share less at either moment, in all networks; differs if they share more than is printed, in all
    networks for which it is.
    """
    first = [row for row in rows if row["epoch"] == early]
    less = [_differs(min(row["halves_of_seeds"], row["halves_of_seeds_at_the_end"]), row) for row in first]
    printed = [row for row in first if row["printed"] == row["printed"]]
    more = [_differs(row["printed"], row) for row in printed]
    said = ", ".join(
        f"{row['network']} {row['which']} {row['with_the_end']:.2f} ± {row['standard_error']:.2f}" for row in first
    )
    text = (
        f"what epoch {early} shares with the end is less than halves of the seeds share, by {ERRORS} standard errors,"
        f" in {less.count(1)} of {len(first)} rates, and more than is printed in {more.count(-1)} of {len(printed)}:"
        f" {said} (the text prints 0.13 to 0.28); {_hard_and_easy(first)}"
    )
    if printed and more.count(-1) == len(printed):
        return f"differs: {text}"
    return f"agrees: {text}" if less.count(1) == len(first) else f"cannot tell: {text}"


def _differs(value: float, row: dict[str, Any]) -> int:
    """Return 1 if a value is above the rate of a row by `ERRORS` standard errors, -1 if it is below, 0 if neither."""
    difference = value - row["with_the_end"]
    return 0 if abs(difference) <= ERRORS * row["standard_error"] else 1 if difference > 0 else -1


def _hard_and_easy(rows: list[dict[str, Any]]) -> str:
    """Say in how many networks hard examples stay more often than easy ones, as in all three of the text."""
    by = {(row["network"], row["which"]): row for row in rows}
    networks = list(dict.fromkeys(row["network"] for row in rows))
    signs = []
    for network in networks:
        easy, hard = (by[network, which] for which in ("easy", "hard"))
        error = (easy["standard_error"] ** 2 + hard["standard_error"] ** 2) ** 0.5
        difference = hard["with_the_end"] - easy["with_the_end"]
        signs.append(0 if abs(difference) <= ERRORS * error else 1 if difference > 0 else -1)
    return (
        f"hard examples stay more often than easy ones in {signs.count(1)} of {len(networks)} networks, less often in"
        f" {signs.count(-1)} (the text: more in 3 of 3)"
    )


if __name__ == "__main__":
    main()
