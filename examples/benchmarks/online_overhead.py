"""What does it cost to observe the training forward online?

Trains the same model with and without `EasinessCallback(probe=None)`, in turn, each time with a new Trainer, and takes
the epoch after a warm-up epoch. A step is timed from the epoch's start to its last batch's end, over the number of
steps: all that the callback, the loader's indices and the hooks add. The epoch's end, in which the sums are made and
the file is written, is a row of its own. A step should become at most 60 us longer, however long it is.

`--step` trains stacks of layers whose steps take so many milliseconds here. At the first of them the `aum` and
`datacull` packages track the same training, where they are installed: the former keeps margins, the latter writes the
logits of each example to a file.

    python examples/benchmarks/online_overhead.py
    python examples/benchmarks/online_overhead.py --step --model resnet18 --steps 6 --pairs 9
    python examples/benchmarks/online_overhead.py --accelerator gpu --steps 200
    OMP_NUM_THREADS=1 python examples/benchmarks/online_overhead.py --clock cpu   # on a shared machine
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from figures import Figure, Peer, Row, installed, number, script
from lightning.pytorch import Callback
from measuring import Clock, in_rounds, training_parser
from models import (
    ARCHITECTURES,
    STEP_BATCH,
    Classifier,
    Moments,
    image_loader,
    layers_for,
    make_classifier,
    quiet_trainer,
    stack,
    synthetic_images,
    vectors,
)
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessCallback

LIMIT = 60e-6  # seconds that a step becomes longer
RATIOS = {"resnet18": 1.02, "small_cnn": 1.10}
STEPS = {"resnet18": 2, "small_cnn": 64}  # a ResNet-18 step takes seconds on a CPU
EPOCH = 0.4  # seconds of a measured epoch of stacks
TOGETHER = 32  # steps of one arithmetic: with a multiple of it, each step's part is within the steps
PEER_STEPS, PEER_ROUNDS = 96, 3  # at most; a step of datacull takes many milliseconds


class Times(NamedTuple):
    """Seconds of an epoch: until its last batch's end, for each step, and of its end."""

    step: float
    end: float


class Subject(NamedTuple):
    """A training: its module, its loader, and the name and the number of its steps."""

    name: str
    module: Callable[[], Classifier]
    loader: Callable[[], DataLoader[Any]]
    steps: int


def epoch_of(subject: Subject, callbacks: list[Callback], arguments: argparse.Namespace) -> Times:
    """Train a warm-up epoch, and return the times of the next one."""
    clock = Clock(arguments.clock, arguments.accelerator)
    before, after = Moments(clock), Moments(clock)
    options = {"accelerator": arguments.accelerator, "precision": arguments.precision}
    trainer = quiet_trainer(max_epochs=2, callbacks=[before, *callbacks, after], **options)
    trainer.fit(subject.module(), subject.loader())
    return Times((before.ends[-1] - before.starts[-1]) / subject.steps, after.ends[-1] - before.ends[-1])


# ---------------------------------------------------------------------------------------------------------- trainings


def of_stack(milliseconds: float, steps: int, accelerator: str) -> Subject:
    layers = layers_for(milliseconds / 1e3, accelerator)
    loader = partial(DataLoader, vectors(steps * STEP_BATCH), STEP_BATCH, shuffle=True)
    return Subject(f"a step of {milliseconds:g} ms", partial(_stack, layers), loader, steps)


def stacks(arguments: argparse.Namespace) -> Iterator[Subject]:
    for milliseconds in arguments.step:
        steps = arguments.steps or TOGETHER * max(1, round(EPOCH / milliseconds * 1e3 / TOGETHER))
        yield of_stack(milliseconds, steps, arguments.accelerator)


def _stack(layers: int) -> Classifier:
    torch.manual_seed(0)
    return Classifier(stack(layers))


def networks(arguments: argparse.Namespace) -> Iterator[Subject]:
    for model in arguments.model:
        steps = arguments.steps or STEPS[model]
        loader = partial(image_loader, synthetic_images(model, steps * arguments.batch_size), arguments)
        yield Subject(model, partial(make_classifier, model), loader, steps)


# -------------------------------------------------------------------------------------------------------------- peers


class Indexed(TensorDataset):
    """Examples that carry their index, as the peers need them."""

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (*super().__getitem__(index), index)


class Shows(Classifier):
    """A module that hands its logits to a callback."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y, _ = batch
        logits = self(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits.detach()}


class Tracked(Callback):
    """Calls a peer with the epoch, the logits, the targets and the indices of each step."""

    def __init__(self, track: Callable[[int, Tensor, Tensor, Tensor], object]) -> None:
        self.track = track

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.track(trainer.current_epoch, outputs["logits"], batch[1], batch[2])


def peers(folder: str) -> Iterator[tuple[Peer, Callable[..., object] | None]]:
    """Yield each peer, with what tracks a step of it, or None where it is not installed."""
    aum, said = installed("aum")
    if aum is None:
        yield said, None
    else:
        calculator = aum.AUMCalculator(folder)  # writes nothing before finalize()
        yield said, lambda epoch, logits, target, index: calculator.update(logits, target, index.tolist())
    datacull, said = installed("datacull")
    if datacull is None:
        yield said, None
    else:
        log = datacull.DCLogger(folder + "/")
        yield said, lambda epoch, logits, target, index: log.log_metric(epoch, index, logits)


def tracked_epoch(subject: Subject, track: Callable[..., object], arguments: argparse.Namespace) -> Times:
    """Train what a stack trains, with a peer; the examples carry their indices."""
    shown = Shows(subject.module().model)
    dataset = Indexed(*subject.loader().dataset.tensors)  # type: ignore[attr-defined]
    loader = partial(DataLoader, dataset, STEP_BATCH, shuffle=True)
    return epoch_of(subject._replace(module=lambda: shown, loader=loader), [Tracked(track)], arguments)


def peer_rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield what each peer adds to the first of the steps, beside what we add to it in the same rounds."""
    subject = of_stack(arguments.step[0], min(arguments.steps or PEER_STEPS, PEER_STEPS), arguments.accelerator)
    rounds = min(arguments.pairs, PEER_ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        for peer, track in peers(folder):
            what = f"{subject.name} becomes longer by, in turn with {peer.name.split()[0]}"
            if track is None:
                yield Row(what, None, peer=peer)
                continue
            others = {"peer": partial(tracked_epoch, subject, track, arguments)}
            found = measured(subject, arguments, rounds, others)
            theirs, ours = added(found["peer"], found["without"]), added(found["with"], found["without"])
            times = f"{number(theirs.median / ours.median)} times ours" if ours.median > 0 else ""
            yield Row(what, ours, peer=Peer(peer.name, theirs, times))


# --------------------------------------------------------------------------------------------------------------- rows


def measured(
    subject: Subject, arguments: argparse.Namespace, rounds: int, others: dict[str, Callable[[], Times]]
) -> dict[str, list[Times]]:
    """Train with the callback, without, and as else wanted, in turn."""

    def observed() -> Times:
        with tempfile.TemporaryDirectory() as folder:
            return epoch_of(subject, [EasinessCallback(folder, probe=None)], arguments)

    works = {"with": observed, "without": lambda: epoch_of(subject, [], arguments), **others}
    return in_rounds(works, rounds)


def added(subject: list[Times], baseline: list[Times]) -> Figure:
    """Return the seconds that a step becomes longer by."""
    return Figure.of([one.step - other.step for one, other in zip(subject, baseline, strict=True)])


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for subject in [*stacks(arguments), *networks(arguments)]:
        found = measured(subject, arguments, arguments.pairs, {})
        bare = statistics.median(times.step for times in found["without"])
        ratio = [one.step / other.step for one, other in zip(*found.values(), strict=True)]
        note = f"{bare * 1e3:.3g} ms without, {number(statistics.median(ratio))} times as long with"
        if subject.name in RATIOS:
            yield Row(
                f"{subject.name}, an epoch's steps, with / without",
                Figure.of(ratio, ""),
                RATIOS[subject.name],
                note=note,
            )
            continue
        yield Row(f"{subject.name} becomes longer by", added(*found.values()), LIMIT, note=note)
        ends = Figure.of([times.end for times in found["with"]])
        yield Row(f"the end of such an epoch of {subject.steps * STEP_BATCH:,} examples", ends, note="writes a file")
    if arguments.step:
        yield from peer_rows(arguments)


def parser() -> argparse.ArgumentParser:
    made = training_parser(__doc__)
    made.add_argument(
        "--step", type=float, nargs="*", default=[0.7, 1.4, 20], help="milliseconds; default: %(default)s"
    )
    made.add_argument("--model", choices=tuple(ARCHITECTURES), nargs="*", default=[])
    made.add_argument("--steps", type=int, help=f"steps per epoch; by default {EPOCH} s of stacks, and {STEPS}")
    made.add_argument("--pairs", type=int, default=9, help="of fits; default: %(default)s")
    made.add_argument("--precision", default="32-true")
    return made


if __name__ == "__main__":
    script(parser(), rows)
