"""What the table answers, each as one line that says whether an aim is reached, computed from the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from less.markdown import between, share, with_error
from less.table import Mean, Row, Runs, accuracy_of, deviation_of
from less.ways import CLASSIC, WAYS

LEAST_SAVING, LEAST_ABOVE = 0.4, 3.0


def findings(rows: Sequence[Row], runs: Mapping[tuple[str, str], Runs]) -> list[str]:
    """Return the lines: savings by data set, which ways are never below classic training, and wrong labels."""
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        of_data = [row for row in rows if row["data"] == data]
        for labels in dict.fromkeys(row["labels"] for row in of_data):
            held = [row for row in of_data if row["labels"] == labels]
            what = f"{data}, {labels} labels"
            found += [saves(what, held, "saving", "work"), saves(what, held, "cpu_saving", "CPU seconds")]
        if len({row["labels"] for row in of_data}) > 1:
            found.append(never_below(data, of_data))
        if (data, "wrong") in runs:
            found.append(under_wrong_labels(data, runs[data, "wrong"]))
    return [*found, *beats_control(rows)]


def rules(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of rules that need no earlier training, whose work is not counted."""
    return [row for row in rows if row["twin"] and not row["scored"]]


def saves(data: str, rows: Sequence[Row], saving: str, unit: str) -> str:
    """Say where a rule saves enough at equal accuracy, and its twin less than half of that."""
    known = [
        row for row in rules(rows) if not math.isnan(row[f"{saving}_low"]) and not math.isnan(row[f"twin_{saving}"])
    ]
    reached = [row for row in known if row[saving] >= LEAST_SAVING and row[f"twin_{saving}"] < row[saving] / 2]
    sure = [
        row for row in reached
        if row[f"{saving}_low"] >= LEAST_SAVING and row[f"twin_{saving}_high"] < row[f"{saving}_low"] / 2
    ]  # fmt: skip
    verdict = "agrees" if sure else "cannot tell" if reached or not known else "differs"
    most = f"{LEAST_SAVING:.0%}"
    claim = f"{data}: some rule saves {most} of the {unit} at equal accuracy, its twin less than half of that"
    best = sorted(reached or known, key=lambda row: -row[saving])[: 4 if reached else 1]
    told = "; ".join(
        f"{row['way']} at {row['work']:.1f}: {between(row, saving)}, twin {share(row[f'twin_{saving}'])}"
        for row in best
    )
    return f"{verdict}: {claim}, in {len(sure)} of {len(known)} cells for sure, in {len(reached)} by the means: {told}"


def never_below(data: str, rows: Sequence[Row]) -> str:
    """Say which rules are nowhere below classic training of equal work by more than the spread."""
    known: dict[str, list[Row]] = {}
    for row in rules(rows):
        if row["seeds"] > 1 and not math.isnan(row["above_classic_margin"]):
            known.setdefault(row["way"], []).append(row)
    below = {way: [row for row in found if is_below(row)] for way, found in known.items()}
    never = [f"{way} (of {len(known[way])} cells)" for way, found in below.items() if not found]
    claim = f"{data}: a rule is nowhere below classic training of equal work for sure, with clean and wrong labels"
    told = [f"nowhere: {', '.join(never) or 'none'}"]
    told += [f"{way} in {len(found)} of {len(known[way])}" for way, found in below.items() if found]
    return f"{'agrees' if never else 'differs' if known else 'cannot tell'}: {claim}: {'; '.join(told)}"


def is_below(row: Row) -> bool:
    """Return whether a row is below classic training of equal work beyond the margin."""
    return bool(row["above_classic"] < -row["above_classic_margin"])


def beats_control(rows: Sequence[Row]) -> list[str]:
    """Say for each rule in how many cells it is above, and below, its control beyond the margin."""
    return [
        beats(way, [row for row in rows if row["way"] == way])
        for way in dict.fromkeys(row["way"] for row in rows if row["twin"])
    ]


def beats(way: str, rows: Sequence[Row]) -> str:
    """Say it of one rule, for each data set, by the cells of two seeds or more."""
    parts, above, below = [], 0, 0
    for data, labels in dict.fromkeys((row["data"], row["labels"]) for row in rows):
        cells = [row for row in rows if (row["data"], row["labels"]) == (data, labels)]
        known = [row for row in cells if row["seeds"] > 1 and not math.isnan(row["above_twin_margin"])]
        more = sum(row["above_twin"] > row["above_twin_margin"] for row in known)
        less = sum(row["above_twin"] < -row["above_twin_margin"] for row in known)
        mean = f" ({sum(row['above_twin'] for row in known) / len(known):+.2f} points)" if known else ""
        parts.append(f"{data}, {labels} labels, above in {more} of {len(known)} and below in {less}{mean}")
        above, below = above + more, below + less
    verdict = "cannot tell" if above == below == 0 else "agrees" if not below else "differs"
    return f"{verdict}: {way} is above its control for sure, and never below: {'; '.join(parts)}"


def under_wrong_labels(data: str, runs: Runs) -> str:
    """Say how far the best rule at the longest budget is above training to the end and above stopping early."""
    longest = max(epochs for way, epochs in runs if way == CLASSIC)
    full, (how, early) = accuracy_of(runs[CLASSIC, longest], runs, CLASSIC), stopped_early(runs)
    of_rules = {key: accuracy_of(found, runs, key[0]) for key, found in runs.items() if is_rule(key[0])}
    last = max((epochs for _, epochs in of_rules), default=0)
    ends = sorted(((found, way) for (way, epochs), found in of_rules.items() if epochs == last), reverse=True)
    claim = f"{data}, wrong labels: a rule ends {LEAST_ABOVE:g} points above full training and above stopping early"
    if not ends:
        return f"cannot tell: {claim}: no rule was trained"
    best, way = ends[0]
    over = [best.minus(other) for other in (full, early)]
    is_sure = all(one.value - one.margin >= LEAST_ABOVE for one in over)
    verdict = "agrees" if is_sure else "cannot tell" if min(one.value for one in over) >= LEAST_ABOVE else "differs"
    (other, epochs), top = max(of_rules.items(), key=lambda item: item[1].value)
    all_of_them = ", ".join(f"{name} {found.value:.1f}" for found, name in ends)
    scored = {key: accuracy_of(found, runs, key[0]) for key, found in runs.items() if is_rule(key[0], scored=True)}
    after = ""
    if scored:
        (how_scored, budget), its = max(scored.items(), key=lambda item: item[1].value)
        after = (
            f"; after an earlier training, {how_scored} of {budget} epochs is {said(its.minus(early), '+')} from that"
        )
    return (
        f"{verdict}: {claim}: of all, {way} is best after {last} epochs, {said(best)}: {said(over[0], '+')} from"
        f" {longest} epochs of classic training, {full.value:.1f}, and {said(over[1], '+')} from {how},"
        f" {early.value:.1f}; at its best budget, {epochs} epochs, {other} is {said(top.minus(early), '+')} from that"
        f"{after}; {all_of_them}"
    )


def said(mean: Mean, sign: str = "") -> str:
    """Return a mean and its error."""
    return with_error(mean.value, mean.error, sign=sign)


def is_rule(way: str, scored: bool = False) -> bool:
    """Return whether a way is a rule, and one that needs no earlier training, or, with `scored`, one that does."""
    return bool(WAYS[way].twin) and WAYS[way].scored == scored


def stopped_early(runs: Runs) -> tuple[str, Mean]:
    """Return the better of two ways to stop classic training early.

    Either the longest training at the epoch of the highest accuracy on examples held out, whose labels are as wrong; or
    the budget, finished by its own schedule, that is best on the test examples, which is more than one could know.
    """
    longest = max(epochs for way, epochs in runs if way == CLASSIC)
    courses = [run["course"] for run in runs[CLASSIC, longest]]
    held = [max(course, key=lambda point: point["held"])["accuracy"] for course in courses if course]
    stopped = Mean.of(held or [math.nan], deviation_of(runs, way=CLASSIC))
    finished = {epochs: accuracy_of(found, runs, way) for (way, epochs), found in runs.items() if way == CLASSIC}
    best = max(finished, key=lambda epochs: finished[epochs].value)
    if stopped.value > finished[best].value:
        return "stopping that by held-out examples", stopped
    return f"only {best} epochs of it", finished[best]


def pruning_findings(rows: Sequence[Row]) -> list[str]:
    """Say for each data set which ways to prune are better than random ones, and how often."""
    return [
        pruning_finding(data, [row for row in rows if row["data"] == data]) for data in {row["data"]: 0 for row in rows}
    ]


def pruning_finding(data: str, rows: Sequence[Row]) -> str:
    """Say which ways to prune once are decidedly better than random ones, at which shares."""
    others = [row for row in rows if row["by"] != "random"]
    known = [row for row in others if not math.isnan(row["above_random_margin"])]
    better = [row for row in known if row["above_random"] > row["above_random_margin"]]
    worse = [row for row in known if row["above_random"] < -row["above_random_margin"]]
    pays = [row for row in better if row["above_classic"] > 0]
    told = ", ".join(f"{row['by']} at {row['removed']:.0%} ({row['above_random']:+.1f})" for row in better) or "none"
    return (
        f"{'agrees' if better else 'differs'}: {data}: pruning once by a score is better than random pruning"
        f" for sure in {len(better)} of {len(known)} cells and worse in {len(worse)}; above classic"
        f" training of equal work, the scores not counted, in {len(pays)} of them: {told}"
    )
