"""Measures what the recipe of a run costs beside the writing of one checkpoint; it is made once, when a fit begins.

python examples/benchmarks/recipe_cost.py --examples 50000
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from figures import Figure, Row, script
from figures import number as number_of
from measuring import Clock, make_parser
from models import make_classifier, quiet_trainer
from record_size import NUM_CLASSES, make_fields
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness._utils.lightning import configured_optimizers
from lightning_easiness.callbacks.recipe import fit_recipe, loader_recipe
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter

LIMIT = 0.02  # of the writing of all checkpoints
REPEATS = 9


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    generator, size = torch.Generator().manual_seed(0), arguments.examples
    target = torch.randint(0, NUM_CLASSES, (size,), generator=generator)
    loader = DataLoader(TensorDataset(torch.zeros(size, 8), target), batch_size=128)
    trainer, module = quiet_trainer(max_epochs=arguments.checkpoints), make_classifier("resnet18")
    trainer.strategy.optimizers, _ = configured_optimizers(trainer, module)

    def recipe() -> dict[str, Any]:
        return {**fit_recipe(trainer, module), **loader_recipe(loader)}

    fields, identity, clock = make_fields(size, generator), DataIdentity(size, target), Clock("wall")
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), "seed-0", recipe=recipe()) as writer:

        def write(number: int) -> None:
            writer.append(Observation("train-probe", number, 0, fields, identity, num_classes=NUM_CLASSES))

        writing = statistics.median(clock.time(partial(write, number)) for number in range(REPEATS))
    making = [clock.time(lambda: json.dumps(recipe())) / (writing * arguments.checkpoints) for _ in range(REPEATS)]
    note = f"{len(json.dumps(recipe())) / 1e3:.1f} kB; a checkpoint takes {number_of(writing * 1e3)} ms"
    what = f"recipe of ResNet-18 / writing {arguments.checkpoints} checkpoints of {size:,}"
    yield Row(what, Figure.of(making, ""), LIMIT, note=note)


def parser() -> argparse.ArgumentParser:
    made = make_parser(__doc__)
    made.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    made.add_argument("--checkpoints", type=int, default=90, help="of the run; default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
