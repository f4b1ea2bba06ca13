"""How far two scores agree on which examples are easiest and hardest, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning_easiness._utils.tables import to_text
from lightning_easiness.functional import expected_matching_rate, selection_probability
from lightning_easiness.scores import Scores

_TIED = (
    "Tied: examples that are equal at the edge of the set. A fair draw decides which of them are in it; the matching"
    " rate is the mean over all draws, so that no other score breaks the ties."
)


def matching_rows(a: Scores, b: Scores, ends: Iterable[str], fractions: Iterable[float]) -> list[dict[str, Any]]:
    """Return a row for each end and fraction; `tied_a` and `tied_b` are fractions of the examples."""
    fractions = list(fractions)
    return [_row(a, b, end, fraction) for end in ends for fraction in fractions]


def matching_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the table, and below it what ties are, where there are any."""
    rows = list(rows)
    columns = {
        "": [row["end"] for row in rows],
        "fraction": [f"{row['fraction']:g}" for row in rows],
        "examples": [f"{row['num_examples']:,}" for row in rows],
        "matching rate": [f"{row['matching_rate']:.4f}" for row in rows],
        "chance": [f"{row['chance']:.4f}" for row in rows],
    }
    tied = [name for name in ("tied_a", "tied_b") if any(row[name] for row in rows)]
    for name in tied:
        columns[f"tied {name[-1].upper()}"] = [f"{row[name]:.1%}" if row[name] else "-" for row in rows]
    return to_text(columns) + (f"\n\n{_TIED}" if tied else "")


def _row(a: Scores, b: Scores, end: str, fraction: float) -> dict[str, Any]:
    which = "easy" if end == "easiest" else "hard"
    chances = [
        selection_probability(scores.values, fraction, higher_is_easier=scores.higher_is_easier, which=which)
        for scores in (a, b)
    ]
    tied_a, tied_b = (float(((chance > 0) & (chance < 1)).double().mean()) for chance in chances)
    return {
        "end": end,
        "fraction": fraction,
        "num_examples": max(round(float(chance.double().sum())) for chance in chances),
        "matching_rate": float(expected_matching_rate(*chances)),
        "chance": fraction,
        "tied_a": tied_a,
        "tied_b": tied_b,
    }
