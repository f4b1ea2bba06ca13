"""The commands that make sense after a command, as they are typed: paths are quoted, and options carry over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_easiness.cli.answer import PROGRAM, Next
from lightning_easiness.cli.source import Source
from lightning_easiness.record.next_command import quoted

KEPT, PAGE, DECISIONS = Path("kept.npy"), Path("report.html"), Path("decisions.json")


def see_runs(path: Path) -> Next:
    """Look at what a folder holds."""
    return _step("to see what it holds", "runs", path)


def see_scores(path: Path, series: str | None = None) -> Next:
    """Rank the examples."""
    return _step("to rank the examples", "score", path, series=series)


def find_issues_in(path: Path, held: Any, series: str | None = None) -> tuple[Next, ...]:
    """Look for label errors, where a record or its series, `held`, is of classes."""
    if not held.num_classes or held.num_classes < 2 or "margin" not in held.fields:
        return ()
    return (_step("to find label errors", "issues", path, series=series),)


def drop_some(source: Source) -> Next:
    """Drop a part of the examples."""
    return _step("to drop 30 % of the examples", "select", source.path, **_of(source), ratio=0.3, output=KEPT)


def look(source: Source, **options: Any) -> Next:
    """Look at the examples on one page, by the score of a command."""
    return look_at(source.path, **_of(source), **options)


def look_at(path: Path, **options: Any) -> Next:
    """Look at the examples on one page."""
    return _step("to look and decide on one page", "report", path, **options, output=PAGE)


def decide(path: Path) -> Next:
    """Take over what was decided on a report."""
    options = {"decisions": DECISIONS, "output": KEPT}
    return _step(f"when '{DECISIONS}' is downloaded from the page", "select", path, **options)


def _of(source: Source) -> dict[str, Any]:
    checkpoint = None if source.checkpoint == -1 else source.checkpoint
    return {"score": source.score, "series": source.series, "checkpoint": checkpoint}


def _step(purpose: str, command: str, path: Path, **options: Any) -> Next:
    words = [PROGRAM, command, quoted(path)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", quoted(str(value))]
    return Next(purpose, " ".join(words))
