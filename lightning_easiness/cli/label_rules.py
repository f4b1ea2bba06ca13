"""The rules of `issues`, by name."""

from __future__ import annotations

from typing import Any

import lightning_easiness as easiness
from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness.cli.checks import check_at_least, check_fraction
from lightning_easiness.cli.source import given
from lightning_easiness.labels.find import RULES


def label_rule(name: float | str | None, percentile: float | None, num_suspects: int | None) -> Any:
    """Return the rule of a name, a fraction or a count."""
    if percentile is not None and name != "threshold":
        raise ValueError("--percentile is of --rule threshold: give both.")
    if num_suspects is not None:
        if name is not None:
            raise ValueError("--num-suspects is not allowed with --rule: give one of them.")
        check_at_least("num-suspects", num_suspects, 0)
        return easiness.Hardest(num_suspects)
    if name is None:
        return None
    if isinstance(name, float):
        check_fraction("rule", name, rows="--num-suspects")
        return easiness.Hardest(name)
    return _by_name(name)(**given(percentile=percentile))


def _by_name(name: str) -> Any:
    if name not in RULES:
        guess = did_you_mean(name, RULES)
        raise ValueError(f"--rule must be {', '.join(RULES)}, or a fraction such as 0.05; got '{name}'{guess}.")
    return RULES[name]
