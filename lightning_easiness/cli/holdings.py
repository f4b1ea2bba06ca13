"""What `runs` says of a folder: an inventory as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from lightning_easiness._utils.tables import to_text
from lightning_easiness.cli.answer import Answer, Next
from lightning_easiness.cli.next_steps import find_issues_in, look_at, see_runs, see_scores
from lightning_easiness.record.finding import DEFAULT_SERIES
from lightning_easiness.record.inventory import (
    HeldRun,
    HeldSeries,
    Inventory,
    Loaded,
    main_facts,
    recipe_groups,
)
from lightning_easiness.view.words import count_of

_MOST_STEPS = 2  # next steps for folders below


def holdings(found: Inventory) -> Answer:
    """Say what a folder holds."""
    parts = [*_of_runs(found), *_of_folders(found)]
    return Answer(_values(found), "\n\n".join(parts), next=tuple(_next(found)))


def _of_runs(found: Inventory) -> Iterator[str]:
    if not found.runs:
        return
    yield f"{found.path}: {count_of(len(found.runs), 'run')}, {_complete(found)}, {_size(found.num_bytes)}"
    rows = [_cells(run, series) for run in found.runs for series in run.series or (None,)]
    names = [name for name in rows[0] if name != "held out" or any(row[name] for row in rows)]
    yield to_text({name: [row[name] for row in rows] for name in names})
    yield "\n".join(_recipes(found.runs))
    if found.loaded:
        yield "\n".join(line for loaded in found.loaded for line in _loaded(loaded, len(found.runs)))


def _of_folders(found: Inventory) -> Iterator[str]:
    if not found.below:
        return
    folders = found.below
    yield (
        f"{found.path}: {'also ' if found.runs else ''}{count_of(len(folders), 'folder')} of runs below it"
        f"{'' if found.runs else ', no run of its own'}"
    )
    series = [next((each for run in folder.runs for each in run.series), None) for folder in folders]
    yield to_text(
        {
            "folder": [str(folder.path.relative_to(found.path)) for folder in folders],
            "runs": [len(folder.runs) for folder in folders],
            "complete": [folder.num_complete for folder in folders],
            "examples": [each.num_examples if each else None for each in series],
            "classes": [each.num_classes if each else None for each in series],
            "size": [_size(folder.num_bytes) for folder in folders],
        }
    )


def _complete(found: Inventory) -> str:
    if found.num_complete in (0, len(found.runs)):
        number = "" if len(found.runs) == 1 else "all " if found.num_complete else "none "
        return f"{number}complete" if found.num_complete or number else "not complete"
    return f"{found.num_complete} of them complete"


def _cells(run: HeldRun, series: HeldSeries | None) -> dict[str, Any]:
    return {
        "run": run.name,
        "seed": run.seed,
        "complete": run.complete,
        "series": series.name if series else "no checkpoint",
        "checkpoints": len(series.steps) if series else 0,
        "steps": _span(series.steps) if series else None,
        "epochs": _span(series.epochs) if series else None,
        "examples": series.num_examples if series else None,
        "classes": series.num_classes if series else None,
        "held out": run.num_held_out,
        "size": _size(series.num_bytes if series else run.num_bytes),
    }


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"


def _recipes(runs: Sequence[HeldRun]) -> Iterator[str]:
    groups = recipe_groups(runs)
    for group, different in groups:
        facts = [
            f"{name.replace('_', ' ')} {_fact(value)}" for name, value in main_facts(group[0].recipe).items() if value
        ]
        of = "" if len(groups) == 1 else f" of {', '.join(run.name for run in group)}"
        yield f"Recipe{of}: {', '.join(facts) or 'not recorded'}." + (
            f" Differs from the first in {different}." if different else ""
        )
    yield from (run.problem for run in runs if run.problem)


def _fact(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _loaded(loaded: Loaded, num_runs: int) -> Iterator[str]:
    if loaded.problem:
        yield f"Series {loaded.series} cannot be read: {loaded.problem}"
    elif len(loaded.runs) == num_runs:
        yield f"Series {loaded.series} is read from {'all runs' if num_runs > 1 else 'this run'}."
    else:
        yield f"Series {loaded.series} is read from {count_of(len(loaded.runs), 'run')}: {', '.join(loaded.runs)}."
    yield from (f"  left out: {sentence}" for sentence in loaded.left_out)
    yield from (f"  warning: {sentence}" for sentence in loaded.warnings)


def _next(found: Inventory) -> Iterator[Next]:
    readable = [loaded for loaded in found.loaded if not loaded.problem]
    if readable:
        held = {series.name: series for run in found.runs for series in run.series}
        name = readable[0].series
        yield see_scores(found.path, name if len(held) > 1 and name != DEFAULT_SERIES else None)
        yield from find_issues_in(found.path, held[name])
        yield look_at(found.path)
    yield from (see_runs(folder.path) for folder in found.below[:_MOST_STEPS])


def _values(found: Inventory) -> dict[str, Any]:
    return {
        "path": found.path,
        "num_runs": len(found.runs),
        "num_complete": found.num_complete,
        "num_bytes": found.num_bytes,
        "runs": [asdict(run) | {"hold_out": run.recipe.get("hold_out")} for run in found.runs],
        "recipes": [
            {"runs": [run.name for run in group], **main_facts(group[0].recipe), "differs": different or None}
            for group, different in recipe_groups(found.runs)
        ],
        "series": [asdict(loaded) for loaded in found.loaded],
        "folders": [
            {
                "path": folder.path,
                "num_runs": len(folder.runs),
                "num_complete": folder.num_complete,
                "num_bytes": folder.num_bytes,
            }
            for folder in found.below
        ],
    }
