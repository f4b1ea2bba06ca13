"""How much longer does an epoch take when the training forward is observed online?

Trains the same model with and without `EasinessCallback(probe=None)`, alternating, each time with a new Trainer. After
a warm-up epoch, an epoch is measured from its start to its end inside the fit, including the callback's work at the
epoch's end and the writing of its file. The median ratio of the pairs should be at most 1.02 for ResNet-18 and 1.10
for the small CNN. On a busy machine the steps of a large model vary by more than that, so the benchmark also prints
the fraction of the observed epochs that is spent inside the callback's hooks.

    python examples/benchmarks/online_overhead.py
    python examples/benchmarks/online_overhead.py --model resnet18 --steps 6 --pairs 9
    python examples/benchmarks/online_overhead.py --accelerator gpu --steps 200
    OMP_NUM_THREADS=1 python examples/benchmarks/online_overhead.py --clock cpu   # on a shared machine
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from typing import Any

from measuring import Clock, Pair, begin, decision, in_turns, load, median_ratio, spread_of_ratios, training_parser
from models import ARCHITECTURES, Moments, image_loader, make_classifier, quiet_trainer, synthetic_images
from torch.utils.data import TensorDataset

from lightning_easiness import EasinessCallback

LIMITS = {"resnet18": 1.02, "small_cnn": 1.10}
STEPS = {"resnet18": 2, "small_cnn": 50}  # a ResNet-18 step takes seconds on a CPU
PAIRS = {"resnet18": 4, "small_cnn": 7}


class TimedObserver(EasinessCallback):
    """The callback, with the time spent in its hooks (everything except passing on the indices of a batch)."""

    def __init__(self, folder: str, clock: Clock) -> None:
        super().__init__(folder, probe=None)
        self.clock = clock
        self.seconds = 0.0

    def timed(self, hook: Any, *args: Any) -> None:
        start = self.clock()
        hook(*args)
        self.seconds += self.clock() - start

    def on_train_epoch_start(self, *args: Any) -> None:
        self.seconds = 0.0
        self.timed(super().on_train_epoch_start, *args)

    def on_train_batch_start(self, *args: Any) -> None:
        self.timed(super().on_train_batch_start, *args)

    def on_train_batch_end(self, *args: Any) -> None:
        self.timed(super().on_train_batch_end, *args)

    def on_train_epoch_end(self, *args: Any) -> None:
        self.timed(super().on_train_epoch_end, *args)


SHARES: dict[str, list[float]] = {}  # model -> fraction of each observed epoch spent in the callback's hooks


def epoch_seconds(dataset: TensorDataset, arguments: argparse.Namespace, model: str, observed: bool) -> float:
    """Train a warm-up epoch, and return the time of the next one, including the writing of the callback's file."""
    clock = Clock(arguments.clock, arguments.accelerator)
    before, after = Moments(clock), Moments(clock)
    with tempfile.TemporaryDirectory() as folder:
        observers = [TimedObserver(folder, clock)] if observed else []
        trainer = quiet_trainer(
            accelerator=arguments.accelerator,
            max_epochs=2,
            callbacks=[before, *observers, after],
            precision=arguments.precision,
        )
        trainer.fit(make_classifier(model), image_loader(dataset, arguments))
    seconds = after.ends[-1] - before.starts[-1]
    for observer in observers:
        SHARES.setdefault(model, []).append(observer.seconds / seconds)
    return seconds


def measure(model: str, arguments: argparse.Namespace) -> list[Pair]:
    steps = arguments.steps or STEPS[model]
    dataset = synthetic_images(model, steps * arguments.batch_size)
    seconds = partial(epoch_seconds, dataset, arguments, model)
    return in_turns(partial(seconds, True), partial(seconds, False), arguments.pairs or PAIRS[model])


def report(model: str, pairs: list[Pair], steps: int) -> None:
    without = min(pair.baseline for pair in pairs)
    print(
        f"{model:10s} {len(pairs)} pairs of epochs of {steps} steps, {1e3 * without / steps:.2f} ms per step at best;"
        f" with / without {spread_of_ratios(pairs)}; {decision(median_ratio(pairs), LIMITS[model])};"
        f" {statistics.median(SHARES[model]):.3%} of an observed epoch in the callback's hooks; {load()}",
        flush=True,
    )


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--model", choices=tuple(ARCHITECTURES), nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--steps", type=int, help=f"steps per epoch; by default {STEPS}")
    parser.add_argument("--pairs", type=int, help=f"pairs of fits; by default {PAIRS}")
    parser.add_argument("--precision", default="32-true")
    arguments = parser.parse_args()
    begin(arguments.accelerator)
    for model in arguments.model:
        report(model, measure(model, arguments), arguments.steps or STEPS[model])


if __name__ == "__main__":
    main()
