"""Does a step wait for the device, and how much of its memory does observing take?

Trains under `torch.cuda.set_sync_debug_mode("error")`, set from the start of each step but the first, which decides how
outputs are read, to its end: whatever waits for the device raises. An observer that reads a number in each step has to
be caught, or the check is worth nothing. The memory is the difference of the device's peaks with and without the
callback, for a number of examples and for ten times as many.

    PYTHONPATH=. python examples/benchmarks/gpu_steps.py
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from figures import Figure, Row, script
from held import Tiny, held_loader
from lightning.pytorch import Callback
from measuring import make_parser
from models import STEP_BATCH, Classifier, quiet_trainer, stack, vectors
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback

Guard = Callable[[str], object]
OPTIONS: dict[str, dict[str, Any]] = {
    "32-true": {},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "accumulation": {"accumulate_grad_batches": 3},
}
BATCH = 1_000


class Begins(Callback):
    """Goes before the observer: from here on, waiting raises."""

    def __init__(self, guard: Guard) -> None:
        self.guard, self.steps = guard, 0

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx:
            self.guard("error")

    def on_exception(self, *args: Any) -> None:
        self.guard("default")


class Ends(Callback):
    """Goes behind the observer, and counts the steps that did not wait."""

    def __init__(self, guard: Guard) -> None:
        self.guard, self.steps = guard, 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.guard("default")
        self.steps += 1


class Reads(Callback):
    """An observer as one would write it at first."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
        outputs["loss"].item()


def guard_of(device: str) -> Guard:
    """Return what makes waiting for a device raise; a CPU has nothing to wait for."""
    return torch.cuda.set_sync_debug_mode if device == "cuda" else lambda mode: None


def steps_without_waiting(observer: Callback, guard: Guard, arguments: argparse.Namespace, **options: Any) -> int:
    """Train one epoch, and return how many steps were made until one waited."""
    ends = Ends(guard)
    accelerator = "gpu" if arguments.device == "cuda" else "cpu"
    callbacks = [Begins(guard), observer, ends]
    trainer = quiet_trainer(accelerator=accelerator, max_epochs=1, callbacks=callbacks, **options)
    torch.manual_seed(0)
    loader = DataLoader(vectors(arguments.steps * STEP_BATCH), STEP_BATCH, shuffle=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype
            trainer.fit(Classifier(stack(2)), loader)
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
    return ends.steps


def waits(arguments: argparse.Namespace) -> Iterator[Row]:
    guard, steps = guard_of(arguments.device), arguments.steps
    for name, options in OPTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            made = steps_without_waiting(EasinessCallback(folder, probe=None), guard, arguments, **options)
        note = f"{made:,} of {steps:,} made" if arguments.device == "cuda" else "nothing to wait for on a CPU"
        yield Row(f"steps left when one waited for the device, {name}", Figure.of([steps - made], ""), 0, note=note)
    if arguments.device == "cuda":
        made = steps_without_waiting(Reads(), guard, arguments)
        what = "steps made by an observer that reads a number: more than the first, and the rows above say nothing"
        yield Row(what, Figure.of([made], ""), 1)


# ------------------------------------------------------------------------------------------------------------- memory


def device_peak(size: int, observed: bool, device: str) -> float:
    """Return the peak of the device's memory in two epochs over so many examples, in bytes; 0 on a CPU."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        observers = [EasinessCallback(folder, probe=None)] if observed else []
        accelerator = "gpu" if device == "cuda" else "cpu"
        trainer = quiet_trainer(accelerator=accelerator, max_epochs=2, callbacks=observers)
        trainer.fit(Tiny(), held_loader(size, min(BATCH, size)))
    return float(torch.cuda.max_memory_allocated()) if device == "cuda" else 0.0


def memory(arguments: argparse.Namespace) -> Iterator[Row]:
    device_peak(arguments.size, False, arguments.device)  # workspaces, which stay
    for size in (arguments.size, 10 * arguments.size):
        with_, without = (device_peak(size, observed, arguments.device) for observed in (True, False))
        figure = Figure.of([with_ - without], "bytes")
        note = f"{figure.median / size:.3g} bytes for each example"
        if arguments.device == "cpu":
            note = "a CPU has none of its own"
        yield Row(f"memory of the device that observing {size:,} takes", figure, note=note)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    yield from waits(arguments)
    yield from memory(arguments)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    made.add_argument("--steps", type=int, default=300, help="default: %(default)s")
    made.add_argument("--size", type=int, default=100_000, help="examples, and ten times as many")
    return made


if __name__ == "__main__":
    script(parser(), rows)
