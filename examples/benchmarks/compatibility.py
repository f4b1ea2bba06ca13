"""Does the package do the same under the lowest and the newest versions, at each precision, and with modules of others?

Builds an environment for each Python that is given, with the newest versions, and one of the lowest versions that
pyproject.toml allows with the lowest Python; trains small fits in each, at each precision and compiled, and compares
the recorded losses with a plain evaluation. Then adds one line, the callback, to published LightningModules of several
fields, as they are, and compares again. An environment takes some 5 GB; `--environment` names one that exists.

    python examples/benchmarks/compatibility.py --python python3.10 --python python3.13
    python examples/benchmarks/compatibility.py --environment .venv --only fits
    python examples/benchmarks/compatibility.py --environment .venv --only modules --field vision
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import make_parser

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: What the published modules come in; their requirements are installed beside them, but not another torch.
PACKAGES = (
    "lightly",
    "torchgeo",
    "pytorch-tabular",
    "chemprop",
    "lightning-uq-box",
    "pytorch-forecasting",
    "transformers",
)
TIME_LIMIT = 1800  # seconds of one script


def lowest() -> list[str]:
    """Return the lowest versions that pyproject.toml allows, as requirements."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("]\n\n[project.scripts]")]
    named = re.findall(r'"([\w-]+)(\[[\w,]+\])?>=([\d.]+)"', block)
    return [f"{name}{extra}=={version}{'.*' if version.count('.') < 2 else ''}" for name, extra, version in named]


def build(folder: Path, python: str, requirements: list[str]) -> Path:
    """Make an environment and return its Python."""
    run = ["-q", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    made = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([str(made), "-m", "pip", "install", *run, *requirements, str(ROOT)], check=True)
    return made


def build_modules(folder: Path, base: Path) -> Path:
    """Make an environment on top of another one, with the packages of the published modules."""
    held = subprocess.run([str(base), "-c", "import torch; print(torch.__path__[0])"], capture_output=True, text=True)
    above = Path(held.stdout.strip()).parent
    subprocess.run([str(base), "-m", "venv", str(folder)], check=True)
    made = folder / "bin" / "python"
    site = subprocess.run(
        [str(made), "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    )
    (Path(site.stdout.strip()) / "base.pth").write_text(f"{above}\n")
    freeze = subprocess.run([str(base), "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True)
    pins = folder / "pins.txt"
    kept = [line for line in freeze.stdout.splitlines() if re.match(r"(torch|torchvision|lightning|numpy)==", line)]
    pins.write_text("\n".join(kept))
    for package in PACKAGES:  # one after another: where one cannot be installed, its row says so
        subprocess.run([str(made), "-m", "pip", "install", "-q", "-c", str(pins), package], check=False)
    return made


def ask(python: Path, script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a script in an environment and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [str(python), str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIME_LIMIT, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        found.append({"failed": " ".join(done.stderr.split())[-300:]})
    return found


def table_of_fits(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.get("fits", {})))
    head = f"| versions | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}\n"
    shown = (
        f"| {row['versions']} | {' | '.join(row['fits'].get(name, '') for name in names)} |"
        for row in rows
        if "fits" in row
    )
    return head + "\n".join([*shown, *(f"failed: {row['failed']}" for row in rows if "failed" in row)])


def table_of_modules(rows: list[dict[str, Any]]) -> str:
    lines = ["| field | module | recorded losses | the line |", "| --- | --- | --- | --- |"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| | | failed | {row['failed']} |")
            continue
        said = f"; without it: \u201c{row['refused'][:160]}\u201d" if "refused" in row else ""
        line = f"`EasinessCallback({', '.join(f'{name}=...' for name in row.get('arguments', ()))})`{said}"
        verdict = row["verdict"] + (
            f" (to {row['difference']:.0e})" if "difference" in row else f": {row.get('why', '')}"
        )
        lines.append(f"| {row['field']} | {row['package']} {row['module']} | {verdict} | {line} |")
    return "\n".join(lines)


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--python", action="append", default=[], help="build an environment for it; several times")
    parser.add_argument("--environment", action="append", default=[], type=Path, help="one that exists; several times")
    parser.add_argument("--modules-environment", type=Path, help="one that has the packages of the modules")
    parser.add_argument("--only", choices=("fits", "modules"))
    parser.add_argument("--field", action="append", default=[], help="of the modules; several times")
    parser.add_argument("--backend", default="inductor", help="of torch.compile; default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pythons = [path / "bin" / "python" for path in given.environment]
        for number, python in enumerate(given.python):
            pythons.append(build(Path(folder) / f"newest-{number}", python, []))
        if given.python:
            pythons.append(build(Path(folder) / "lowest", given.python[0], lowest()))
        if not pythons:
            parser.error("give --python or --environment")
        fits, modules = [], []
        if given.only != "modules":
            fits = [row for python in pythons for row in ask(python, "compatibility_fits.py", given.backend)]
            print(table_of_fits(fits), "\n", flush=True)
        if given.only != "fits":
            there = given.modules_environment
            made = there / "bin" / "python" if there else build_modules(Path(folder) / "modules", pythons[0])
            modules = ask(made, "compatibility_modules.py", *given.field)
            print(table_of_modules(modules), flush=True)
    return int("WRONG" in json.dumps([*fits, *modules]) or any("failed" in row for row in (*fits, *modules)))


if __name__ == "__main__":
    sys.exit(main())
