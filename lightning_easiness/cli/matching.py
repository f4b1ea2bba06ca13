"""How far two scores agree on which examples are easiest and hardest, as text."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_easiness._utils.tables import to_text
from lightning_easiness.functional import expected_matching_rate, selection_probability
from lightning_easiness.scores import Scores

_TIED = (
    "Tied: examples that are equal at the edge of the set. A fair draw decides which of them are in it; the matching"
    " rate is the mean over all draws, so that no other score breaks the ties."
)


def matching_table(a: Scores, b: Scores, ends: Iterable[str], fractions: Iterable[float]) -> str:
    """Return the table, and below it what ties are, where there are any."""
    fractions = list(fractions)
    rows = [_row(a, b, end, fraction) for end in ends for fraction in fractions]
    tied = [name for name in ("tied A", "tied B") if any(row[name] != "-" for row in rows)]
    names = [name for name in rows[0] if not name.startswith("tied") or tied]
    return to_text({name: [row[name] for row in rows] for name in names}) + (f"\n\n{_TIED}" if tied else "")


def _row(a: Scores, b: Scores, end: str, fraction: float) -> dict[str, str]:
    which = "easy" if end == "easiest" else "hard"
    chances = [
        selection_probability(scores.values, fraction, higher_is_easier=scores.higher_is_easier, which=which)
        for scores in (a, b)
    ]
    tied = [float(((chance > 0) & (chance < 1)).double().mean()) for chance in chances]
    return {
        "": end,
        "fraction": f"{fraction:g}",
        "examples": f"{max(round(float(chance.double().sum())) for chance in chances):,}",
        "matching rate": f"{float(expected_matching_rate(*chances)):.4f}",
        "chance": f"{fraction:.4f}",
        **{f"tied {letter}": f"{share:.1%}" if share else "-" for letter, share in zip("AB", tied, strict=True)},
    }
