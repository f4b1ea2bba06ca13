"""What does the one-line default cost: `EasinessCallback()` beside no callback?

Trains stacks of layers whose steps take so many milliseconds here, with a TensorBoard logger, in turn: without a
callback, with `EasinessCallback()`, which observes online and evaluates once at the end of the fit, and with
`EasinessCallback(every_n_epochs=1)`, which evaluates at the end of each epoch. The default is judged by the whole fit,
the pass each epoch by the fit's last epoch.

    python examples/benchmarks/default_cost.py --step 0.7 1.4 20
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from figures import Row, ratio_of, script
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from measuring import Clock, Pair, clock_parser, in_rounds
from models import STEP_BATCH, Classifier, Moments, layers_for, stack, vectors
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback

EPOCHS = 3
EPOCH = 0.2  # seconds
FEWEST = 20


class Spent(NamedTuple):
    """Seconds of a fit, and of its last epoch."""

    fit: float
    epoch: float


def spent(layers: int, steps: int, arguments: argparse.Namespace, options: dict[str, Any] | None) -> Spent:
    """Train with the callback's options, or without it for None."""
    torch.manual_seed(0)
    moments = Moments(Clock(arguments.clock, arguments.accelerator))
    callbacks: list[Callback] = [] if options is None else [EasinessCallback(**options)]
    loader = DataLoader(vectors(steps * STEP_BATCH), STEP_BATCH, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=arguments.accelerator, devices=1, max_epochs=EPOCHS, callbacks=[*callbacks, moments],
            logger=TensorBoardLogger(folder), default_root_dir=folder, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        seconds = moments.clock.time(partial(trainer.fit, Classifier(stack(layers)), loader))
    return Spent(seconds, moments.ends[-1] - moments.ends[-2])


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    variants: dict[str, dict[str, Any] | None] = {"without": None, "default": {}, "each": {"every_n_epochs": 1}}
    for milliseconds in arguments.step:
        layers = layers_for(milliseconds / 1e3, arguments.accelerator)
        steps = arguments.steps or max(FEWEST, round(EPOCH / milliseconds * 1e3))
        works = {name: partial(spent, layers, steps, arguments, options) for name, options in variants.items()}
        found = in_rounds(works, arguments.pairs)
        without = found["without"]
        fits = [Pair(one.fit, other.fit) for one, other in zip(found["default"], without, strict=True)]
        epochs = [Pair(one.epoch, other.epoch) for one, other in zip(found["each"], without, strict=True)]
        what = f"steps of {milliseconds:g} ms"
        note = f"{statistics.median(pair.baseline for pair in fits):.3g} s without"
        yield Row(f"{what}, a fit of {EPOCHS} epochs with EasinessCallback() / without", ratio_of(fits), note=note)
        note = f"{statistics.median(pair.baseline for pair in epochs):.3g} s without"
        yield Row(f"{what}, an epoch with EasinessCallback(every_n_epochs=1) / without", ratio_of(epochs), note=note)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--step", type=float, nargs="*", default=[0.7, 1.4, 20], help="ms; default: %(default)s")
    made.add_argument("--steps", type=int, help=f"steps per epoch; by default {EPOCH} s of them")
    made.add_argument("--pairs", type=int, default=5, help="rounds of fits; default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
