"""How messages write names and numbers: what a misspelt one is meant for, and lists that may be long."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 6


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a remark with the existing name that is spelt most like another, or has its initials; empty for none.

    Names that differ only in their numbers, as "seed-1" and "seed-10", are no misspellings of each other.

    Example:
        >>> did_you_mean("margn", ["mean_loss", "margin"])
        " (did you mean 'margin'?)"
        >>> did_you_mean("aum", ["margin", "area_under_margin"])
        " (did you mean 'area_under_margin'?)"
        >>> did_you_mean("seed-1", ["seed-0", "seed-10"])
        ''
    """
    others = [each for each in names if re.sub(r"\d", "", each) != re.sub(r"\d", "", name)]
    of_initials = [each for each in others if "".join(re.findall(r"(?:^|[_-])([^\W_])", each)) == name]
    found = of_initials or get_close_matches(name, others, n=1, cutoff=0.75)
    return f" (did you mean '{found[0]}'?)" if found else ""


def shortened(numbers: Iterable[int]) -> str:
    """Write ascending numbers in one line, without the middle of many.

    Example:
        >>> shortened([3, 1]), shortened(range(9))
        ('1, 3', '0, 1, 2, ..., 7, 8')
    """
    words = [str(number) for number in sorted(numbers)]
    return ", ".join(words if len(words) <= _SHOWN else [*words[:3], "...", *words[-2:]])
