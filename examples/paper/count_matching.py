"""Table 1 of the 2018 text: how many easy and hard examples do networks share?

Each element of the matrix compares groups of half of the runs; the diagonal is a network with other runs of itself. The
text does not say how it got its diagonal, but its 0.70 to 0.91 cannot be a network with the same runs, which is 1.
Beside them are random sets of the same size, sets that are random within each class, as networks also agree on which
classes are easy, and the rates if nothing but the count decides, where ties are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from statistics import fmean
from typing import Any

import torch
from count_runs import EARLY, NAMES, NETWORKS, early_record, early_trainings
from experiment import begin

from lightning_easiness import EasinessRecord, MatchingMatrix, compare_networks, draw_networks
from lightning_easiness.functional import matching_rate

ENDS = ("easy", "hard")


def main() -> None:
    experiment = begin(__doc__, EARLY, early_trainings)
    rows: list[dict[str, Any]] = []
    matrices: list[MatchingMatrix] = []
    verdicts: list[tuple[int, str]] = []
    for data in experiment.setting.data:
        records = {NAMES[name]: early_record(experiment, data, name) for name in NETWORKS[data]}
        for which in ENDS:
            matrix = compare_networks(records, "count", which=which)
            shared = compare_networks(records, "count", which=which, ties="shared")
            matrices.append(matrix)
            rows += rows_of(data, matrix, shared, records)
            verdicts.append(judged(data, matrix))
    agree = min(verdict for verdict, _ in verdicts)
    word = {1: "agrees", 0: "cannot tell", -1: "differs"}[agree]
    experiment.finish(rows, draw_networks(*matrices), f"{word}: {'; '.join(text for _, text in verdicts)}")


def rows_of(
    data: str, matrix: MatchingMatrix, shared: MatchingMatrix, records: dict[str, EasinessRecord]
) -> list[dict[str, Any]]:
    """Return a row for each pair of networks, and one for each network with random sets."""
    about = {"data": data, "which": matrix.which}
    rows = []
    for i, j in combinations_with_replacement(range(len(matrix.names)), 2):
        rates = {"matching_rate": float(matrix.rates[i, j]), "spread": float(matrix.spread[i, j])}
        rates |= {"ties_shared": float(shared.rates[i, j]), "class_chance": float(matrix.class_chance[i, j])}
        rows.append({**about, "network": matrix.names[i], "other": matrix.names[j], **rates})
    for name, record in records.items():
        rate, spread = of_random_sets(record, matrix)
        random = {"matching_rate": rate, "spread": spread, "ties_shared": matrix.chance, "class_chance": matrix.chance}
        rows.append({**about, "network": name, "other": "random", **random})
    return rows


def of_random_sets(record: EasinessRecord, matrix: MatchingMatrix, draws: int = 20) -> tuple[float, float]:
    """Return the mean matching rate of a network's examples with random sets of the same size, and its deviation."""
    scores = record.score("count")
    chosen = scores.easiest(matrix.fraction) if matrix.which == "easy" else scores.hardest(matrix.fraction)
    generator = torch.Generator().manual_seed(0)
    rates = [
        matching_rate(chosen, torch.randperm(len(scores), generator=generator)[: len(chosen)]) for _ in range(draws)
    ]
    found = torch.stack(rates)
    return float(found.mean()), float(found.std())


def judged(data: str, matrix: MatchingMatrix) -> tuple[int, str]:
    """Return 1, 0 or -1 by what the text says of convolutional networks and of the MLP, and the numbers.

    Convolutional networks share more than chance, here that of sets with as many examples of each class; in CIFAR-10
    the MLP shares less with each of them than they do.
    """
    cnns = [i for i, name in enumerate(matrix.names) if name != "MLP"]
    of_cnns, with_mlp = list(combinations(cnns, 2)), [(0, i) for i in cnns]
    beyond = matrix.rates - matrix.class_chance
    least = min(of_cnns, key=lambda pair: float(beyond[pair]))
    parts = [compared(float(beyond[least]), float(matrix.spread[least]))]
    if data == "cifar-10":
        difference = mean_rate(matrix, of_cnns)[0] - mean_rate(matrix, with_mlp)[0]
        errors = [mean_rate(matrix, pairs)[1] for pairs in (of_cnns, with_mlp)]
        parts.append(compared(difference, (errors[0] ** 2 + errors[1] ** 2) ** 0.5))
    words = {1: "yes", 0: "undecided", -1: "no"}
    claims = [f"CNN pairs share more than chance: {words[parts[0]]}"]
    claims += [f"the MLP shares less with them: {words[part]}" for part in parts[1:]]
    return min(parts), (
        f"{data} {matrix.which}: {', '.join(claims)} (CNN pairs {extent(matrix, of_cnns)}, CNNs with themselves"
        f" {extent(matrix, [(i, i) for i in cnns])}, MLP with CNNs {extent(matrix, with_mlp)}, chance"
        f" {matrix.chance:.2f}, by class {chance_of(matrix, of_cnns)})"
    )


def compared(difference: float, error: float) -> int:
    """Return 1 or -1 if a difference is more than two errors, and 0 if not."""
    return 0 if not abs(difference) > 2 * error else 1 if difference > 0 else -1


def mean_rate(matrix: MatchingMatrix, pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return the mean rate of some pairs, and as its error their root mean square spread: pairs share runs."""
    rates, spreads = ([float(table[pair]) for pair in pairs] for table in (matrix.rates, matrix.spread))
    return fmean(rates), fmean(spread**2 for spread in spreads) ** 0.5


def chance_of(matrix: MatchingMatrix, pairs: Sequence[tuple[int, int]]) -> str:
    """Write the highest rate that is to be expected by class."""
    return f"up to {max(float(matrix.class_chance[pair]) for pair in pairs):.2f}"


def extent(matrix: MatchingMatrix, pairs: Sequence[tuple[int, int]]) -> str:
    """Write the lowest and the highest rate."""
    rates = [float(matrix.rates[pair]) for pair in pairs]
    return f"{min(rates):.2f} to {max(rates):.2f}"


if __name__ == "__main__":
    main()
