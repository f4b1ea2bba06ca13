"""Draw the figures in examples/images again from the tables in examples/results, with no data and no training.

    python examples/redraw.py

The tables hold what was measured, rounded to a tenth of a percent.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lightning_easiness import draw_comparison

HERE = Path(__file__).parent


def tables(text: str) -> list[list[list[str]]]:
    """Read the tables of a Markdown text, as rows of cells without the rule below the head."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    return [
        [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in block.splitlines() if "---" not in line]
        for block in blocks
    ]


def percent(text: str) -> float:
    return round(float(text.strip(" %")) / 100, 6)


def comparison_rows(path: Path, equal: str) -> list[dict[str, Any]]:
    """Read the rows that compare_selections returned, from the table of a section "Equal epochs" or "Equal updates"."""
    section = path.read_text(encoding="utf-8").split(f"## Equal {equal}\n")[1]
    whole = re.search(r"Everything: ([\d.]+) ± ([\d.]+) %, (\d+) seeds", section)
    assert whole is not None
    about = {"metric": "test_accuracy", "num_seeds": int(whole[3]), "equal": equal}
    found = [{"method": "everything", "ratio": 0.0, "mean": percent(whole[1]), "spread": percent(whole[2]), **about}]
    head, *lines = tables(section)[0]
    for method, *cells in lines:
        for ratio, cell in zip(head[1:], cells, strict=True):
            if "±" in cell:
                mean, spread = map(percent, cell.split("±"))
                found.append({"method": method, "ratio": percent(ratio), "mean": mean, "spread": spread, **about})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "images")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for equal in ("epochs", "updates"):
        rows = comparison_rows(HERE / "results" / "compress_fashion_mnist.md", equal)
        draw_comparison(rows, output / f"fashion_mnist_equal_{equal}.png")


if __name__ == "__main__":
    main()
