"""Measures how long the report page of a large record takes to make, how large it is, and when a browser paints it.

A page of 50,000 examples and 10 runs with thumbnails should take at most 20 s and 5 MB. In a checkout of the repository
and with Chromium on the machine, the first paint is measured too, which should come within 1 s:

    python examples/benchmarks/report_page.py --examples 50000 --runs 10
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from figures import Figure, Row, script
from measuring import make_parser

from lightning_easiness.cli.main import main as command_line
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter

NUM_CLASSES, NUM_CHECKPOINTS = 10, 10
EXAMPLES, SECONDS, BYTES, PAINT = 50_000, 20.0, 5e6, 1.0


def write_record(folder: Path, num_examples: int, num_runs: int) -> None:
    """Write runs that learn most examples, and a twenty-fifth of them under a wrong label."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, NUM_CLASSES, (num_examples,), generator=generator)
    other = (target + torch.randint(1, NUM_CLASSES, (num_examples,), generator=generator)) % NUM_CLASSES
    final = torch.randn(num_examples, generator=generator) * 2 + 3
    final[torch.rand(num_examples, generator=generator) < 0.04] -= 7
    for run in range(num_runs):
        own = final + torch.randn(num_examples, generator=generator)
        with RunWriter(folder, f"seed-{run}", seed=run) as writer:
            for checkpoint in range(NUM_CHECKPOINTS):
                noise = torch.randn(num_examples, generator=generator)
                margin = own * (1 - 0.7 ** (checkpoint + 1)) + 0.5 * noise
                fields = {
                    "loss": torch.nn.functional.softplus(-margin),
                    "correct": margin > 0,
                    "margin": margin,
                    "prediction": torch.where(margin > 0, target, other).short(),
                }
                identity = DataIdentity(num_examples, target)
                for series in ("train-probe", "train-online"):
                    about = {"num_classes": NUM_CLASSES}
                    writer.append(Observation(series, 100 * (checkpoint + 1), checkpoint, fields, identity, **about))
            writer.complete()


def first_paint(page: Path) -> float | None:
    """Return the milliseconds until a Chromium paints the page; None without one, or outside the repository."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    try:
        from tests.view.report.browser import chromium, find_chromium
    except ImportError:
        return None
    if find_chromium() is None:
        return None
    with chromium() as browser:
        browser.show()
        browser.open(page)
        return float(browser.run("performance.getEntriesByName('first-paint')[0].startTime"))


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_record(folder / "record", arguments.examples, arguments.runs)
        images = np.random.default_rng(0).integers(0, 256, (arguments.examples, 8, 8, 3), dtype=np.uint8)
        np.save(folder / "images.npy", images.repeat(4, 1).repeat(4, 2))
        options = ["--images", str(folder / "images.npy"), "--output", str(folder / "report.html")]
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            command_line(["report", str(folder / "record"), *options])
        seconds = time.perf_counter() - begin
        size = (folder / "report.html").stat().st_size
        what = f"report page of {arguments.examples:,} x {arguments.runs} runs"
        judged = arguments.examples == EXAMPLES
        yield Row(f"{what}, making it", Figure.of([seconds]), SECONDS if judged else None)
        yield Row(f"{what}, size", Figure.of([size], "bytes"), BYTES if judged else None)
        paint = first_paint(folder / "report.html")
        found = None if paint is None else Figure.of([paint / 1000])
        note = "no Chromium to paint it, or no checkout" if paint is None else ""
        yield Row(f"{what}, first paint", found, PAINT, note=note)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--examples", type=int, default=EXAMPLES)
    made.add_argument("--runs", type=int, default=10)
    return made


if __name__ == "__main__":
    script(parser(), rows)
