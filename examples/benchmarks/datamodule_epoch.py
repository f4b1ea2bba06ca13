"""How much longer does an epoch take when a datamodule is wrapped in `EasinessDataModule`?

Trains the same model with a user's own datamodule and with `EasinessDataModule` around it, alternating, each time with
a new Trainer. All examples are kept in two ways, without a selection and by `Keep` of all indices; the epoch should
take at most 1.02 times the user's own. `Ablation` that keeps 70 % is compared with the user's own epoch (the fraction
of its steps is printed too), and, at the same limit, with the user's datamodule over a `Subset` of the same examples.
So is a run that holds out 20 %, as those of `repeat_fit(..., hold_out=0.2)` do.
Finally the two loaders are read alone, without a model, which shows the cost of indexing the selected examples even
where training hides it; this has no target. Reading takes a hundredth of training, so each time it is read ten times.

What a pair of short fits differs by without any reason is more than 2 %: of few pairs, or epochs of less than a second,
look at the range, and at "selection=None", which changes nothing in a step.

An epoch is measured from the end of the previous one, so that work between epochs counts. With --clock cpu the time of
the loader's workers counts too.

    python examples/benchmarks/datamodule_epoch.py
    python examples/benchmarks/datamodule_epoch.py --workers 0 --pairs 15
    python examples/benchmarks/datamodule_epoch.py --accelerator gpu --steps 400 --model resnet18
    OMP_NUM_THREADS=1 python examples/benchmarks/datamodule_epoch.py --clock cpu   # on a shared machine
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from figures import Row, ratio_of, script
from lightning.pytorch import LightningDataModule
from measuring import Clock, Pair, clock_parser, in_turns
from models import ARCHITECTURES, Moments, image_loader, make_classifier, quiet_trainer, synthetic_images
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_easiness import Ablation, EasinessDataModule, Keep, Scores, Selection
from lightning_easiness.functional import held_out_part

Data = Callable[[], LightningDataModule]

LIMIT = 1.02
REMOVED = 0.3
HELD_OUT = 0.2
READINGS = 10


class Images(LightningDataModule):
    """A user's datamodule."""

    def __init__(self, dataset: TensorDataset, arguments: argparse.Namespace) -> None:
        super().__init__()
        self.dataset, self.arguments = dataset, arguments

    def train_dataloader(self) -> DataLoader:
        return image_loader(self.dataset, self.arguments)


class ClockOfAll(Clock):
    """A clock that also counts the CPU time of workers, once they have exited (at most an epoch later)."""

    def __init__(self, kind: str, accelerator: str) -> None:
        super().__init__(kind, accelerator)
        self.counts_workers = kind == "cpu"

    def __call__(self) -> float:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN) if self.counts_workers else None
        return super().__call__() + (ended.ru_utime + ended.ru_stime if ended else 0.0)


def selections(num_examples: int) -> dict[str, Selection | None]:
    """Make the selections, by their names in the table."""
    values = torch.rand(num_examples, generator=torch.Generator().manual_seed(0))
    scores = Scores(values, higher_is_easier=False, name="mean_loss")
    return {
        "selection=None": None,
        "Keep of all": Keep(torch.arange(num_examples)),
        f"Ablation, {100 * (1 - REMOVED):.0f} % kept": Ablation(scores, REMOVED),
    }


def epoch_seconds(make_data: Data, arguments: argparse.Namespace) -> float:
    """Train one warm-up epoch, and return the mean time of the epochs after it."""
    moments = Moments(ClockOfAll(arguments.clock, arguments.accelerator))
    trainer = quiet_trainer(accelerator=arguments.accelerator, max_epochs=1 + arguments.epochs, callbacks=[moments])
    trainer.fit(make_classifier(arguments.model), datamodule=make_data())
    return (moments.ends[-1] - moments.ends[0]) / arguments.epochs


def reading_seconds(make_data: Data, arguments: argparse.Namespace) -> float:
    """Return the mean time to read the loader alone, without a model."""
    loader = make_data().train_dataloader()
    for _ in loader:  # to warm up
        pass

    times = READINGS * arguments.epochs

    def read() -> None:
        for _ in range(times):
            for _ in loader:
                pass

    return ClockOfAll(arguments.clock, "cpu").time(read) / times


class Comparison(NamedTuple):
    """A subject, its baseline, and the largest acceptable ratio of their times."""

    name: str
    seconds: Callable[[Data, argparse.Namespace], float]
    subject: Data
    baseline: Data
    limit: float | None


def comparisons(arguments: argparse.Namespace) -> Iterator[Comparison]:
    num_examples = arguments.steps * arguments.batch_size
    dataset = synthetic_images(arguments.model, num_examples)
    own = partial(Images, dataset, arguments)
    for name, selection in selections(num_examples).items():
        wrapped = partial(lambda chosen: EasinessDataModule(own(), selection=chosen), selection)
        share = len(wrapped().train_dataloader()) / arguments.steps
        if share == 1:
            yield Comparison(f"{name} / own", epoch_seconds, wrapped, own, LIMIT)
            continue
        by_hand = partial(Images, Subset(dataset, kept_by(wrapped).tolist()), arguments)
        yield Comparison(f"{name} / own, {100 * share:.0f} % of the steps", epoch_seconds, wrapped, own, None)
        yield Comparison(f"{name} / own over a Subset", epoch_seconds, wrapped, by_hand, LIMIT)
        yield Comparison(f"{name} / own over a Subset, the loader alone", reading_seconds, wrapped, by_hand, None)
    part = held_out_part(num_examples, 0, HELD_OUT)
    rest = partial(Images, Subset(dataset, (~part).nonzero()[:, 0].tolist()), arguments)
    holds_out = partial(holding_out, own, part)
    yield Comparison(f"hold_out={HELD_OUT} / own over a Subset", epoch_seconds, holds_out, rest, LIMIT)


def holding_out(own: Data, part: Tensor) -> EasinessDataModule:
    """Make the datamodule of a run that holds out a part, bool (N,)."""
    made = EasinessDataModule(own())
    made.set_held_out(HELD_OUT, lambda size: part)
    return made


def measure(comparison: Comparison, arguments: argparse.Namespace) -> list[Pair]:
    subject, baseline = (
        partial(comparison.seconds, data, arguments) for data in (comparison.subject, comparison.baseline)
    )
    return in_turns(subject, baseline, arguments.pairs)


def kept_by(wrapped: Callable[[], EasinessDataModule]) -> Tensor:
    """Return the indices that a datamodule trains on."""
    datamodule = wrapped()
    datamodule.train_dataloader()
    kept = datamodule.selected_indices
    assert kept is not None
    return kept


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for workers in arguments.workers:
        chosen = argparse.Namespace(**{**vars(arguments), "workers": workers})
        for comparison in comparisons(chosen):
            pairs = measure(comparison, chosen)
            note = f"{statistics.median(pair.baseline for pair in pairs):.3g} s the user's own"
            yield Row(f"{workers} workers, {comparison.name}", ratio_of(pairs), comparison.limit, note=note)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--model", choices=tuple(ARCHITECTURES), default="small_cnn")
    made.add_argument("--steps", type=int, default=40, help="steps per epoch; default: %(default)s")
    made.add_argument("--epochs", type=int, default=2, help="epochs measured in each fit; default: %(default)s")
    made.add_argument("--pairs", type=int, default=7, help="pairs of fits; default: %(default)s")
    made.add_argument("--batch-size", type=int, default=128)
    made.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    return made


if __name__ == "__main__":
    script(parser(), rows)
