"""Measures what the recipe of a run costs beside the writing of one checkpoint; it is made once, when a fit begins.

python examples/benchmarks/recipe_cost.py --examples 50000
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import make_parser
from models import make_classifier, quiet_trainer
from record_size import NUM_CLASSES, make_fields
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness._utils.lightning import configured_optimizers
from lightning_easiness.callbacks.recipe import fit_recipe, loader_recipe
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter


def median_seconds(work: Callable[[int], Any], repeats: int) -> float:
    seconds = []
    for number in range(repeats):
        begin = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--examples", type=int, default=1_280_000, help="default: %(default)s")
    parser.add_argument("--checkpoints", type=int, default=90, help="of the run; default: %(default)s")
    arguments = parser.parse_args()
    generator, size = torch.Generator().manual_seed(0), arguments.examples
    target = torch.randint(0, NUM_CLASSES, (size,), generator=generator)
    loader = DataLoader(TensorDataset(torch.zeros(size, 8), target), batch_size=128)
    trainer, module = quiet_trainer(max_epochs=arguments.checkpoints), make_classifier("resnet18")
    trainer.strategy.optimizers, _ = configured_optimizers(trainer, module)

    def recipe() -> dict[str, Any]:
        return {**fit_recipe(trainer, module), **loader_recipe(loader)}

    fields, identity = make_fields(size, generator), DataIdentity(size, target)
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), "seed-0", recipe=recipe()) as writer:

        def write(number: int) -> None:
            writer.append(Observation("train-probe", number, 0, fields, identity, num_classes=NUM_CLASSES))

        writing = median_seconds(write, 9)
    making = median_seconds(lambda _: json.dumps(recipe()), 9)
    share = making / (writing * arguments.checkpoints)
    print(f"{size} examples, {arguments.checkpoints} checkpoints, ResNet-18")
    print(f"recipe, once per run       {making * 1e3:8.2f} ms, {len(json.dumps(recipe())) / 1e3:.1f} kB")
    print(f"writing a checkpoint       {writing * 1e3:8.2f} ms")
    print(f"recipe / checkpoints       {share:8.2%}   target 2 %")


if __name__ == "__main__":
    main()
