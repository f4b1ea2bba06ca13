"""The table of run.py: as JSON, and rendered from it as Markdown."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from figures import Row

PEERS = ("aum", "cleanlab", "datacull", "datagnosis")
VERSIONS = ("torch", "lightning", *PEERS)
HEAD = ("part", "what", "median (range)", "limit", "", "beside", "note")
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def about_machine() -> dict[str, Any]:
    """Return what figures depend on: versions of packages and the machine."""
    from lightning_easiness import __version__

    versions = {"lightning_easiness": __version__, "python": platform.python_version()}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    machine = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), **gpu}
    return {"versions": versions, "machine": machine}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()


def written(found: dict[str, Any], folder: Path) -> None:
    """Write what was found, both ways."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(rendered(found))


def rendered(found: dict[str, Any]) -> str:
    """Render what was found as Markdown: how it was made, the table, and how many limits are met."""
    rows = [Row.from_dict(row) for row in found["rows"]]
    lines = [_line(HEAD), _line(["---"] * len(HEAD)), *(_line([row.part, *row.cells()]) for row in rows)]
    return (
        "\n".join([*_about(found), "", *lines, "", *_summary(rows, found["mode"]), *_left_out(found), *_commands(rows)])
        + "\n"
    )


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _about(found: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    machine = found["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
    where += f", {machine['gpu']}" if "gpu" in machine else ""
    loads = " and ".join(found["load"])
    return [f"`{found['command']}`, {found['date']}, {found.get('seconds', 0)} s. {versions}. {where}; {loads}."]


def _summary(rows: list[Row], mode: str) -> list[str]:
    judged = [row for row in rows if row.verdict]
    missed = [row for row in judged if row.verdict.startswith("missed")]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} limits are met."]
    if missed:
        lines[0] += " Missed: " + "; ".join(f"{row.what}, {row.figure}" for row in missed) + "."
    if mode == "tiny":
        lines[0] += " In this mode figures and verdicts mean nothing."
    if any(row.verdict.endswith("*") for row in judged):
        lines[0] += " \\* The limit lies within the range of what was measured."
    return lines


def _left_out(found: dict[str, Any]) -> list[str]:
    names = ", ".join(found["left_out"])
    return ["", f"Not in the mode {found['mode']}: {names}."] if names else []


def _commands(rows: list[Row]) -> list[str]:
    commands = dict.fromkeys((row.part, row.command) for row in rows)
    return ["", "A part alone:", "", *(f"- {part}: `{command}`" for part, command in commands)] if commands else []


def put_between_markers(text: str, page: Path) -> None:
    """Replace what stands between the markers of a page."""
    whole = page.read_text()
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} needs the lines {BEGIN} and {END}, between which the table goes.")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
