"""The effects of SEL and SET: tables 1, 2 and 3 of "Medium Samples Are All You Need" at small scale, with controls.

    python examples/sample_easiness.py sel --data-root ROOT        # accuracy, AUROC, MSR, ESE with and without SEL
    python examples/sample_easiness.py set --data-root ROOT        # SET and its variants: accuracy, data use, run time
    python examples/sample_easiness.py search --data-root ROOT     # a grid of noise, floor, weight and start of SEL

`ROOT/FashionMNIST/raw` holds Fashion-MNIST; for `--data cifar10`, ROOT holds CIFAR-10 as
torchvision.datasets.CIFAR10(ROOT, download=True) puts it there. After an interruption, run it again: it resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cifar10 import CifarData, cifar_cnn
from fashion_mnist import FashionData, small_cnn
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from lightning_easiness import EasinessCallback, EasinessDataModule, SampleEasinessTraining, Selection, SELModule
from lightning_easiness.metrics import ExpectedSampleEasinessError, MediumSampleRate


class Net(SELModule, LightningModule):
    """A classifier whose loss includes SEL and the weights of a selection; Adam with a cosine schedule."""

    def __init__(self, model: nn.Module, epochs: int, **sel: Any) -> None:
        super().__init__(**{"sel_weight": 0.0} | {f"sel_{name}": value for name, value in sel.items()})
        self.model, self.epochs = model, epochs
        self.measures = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(10, average="micro"),
                "auroc": MulticlassAUROC(10),
                "msr": MediumSampleRate(),
                "ese": ExpectedSampleEasinessError(),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        losses = nn.functional.cross_entropy(logits, y, reduction="none")
        return self.weighted_mean(losses) + self.sel(logits, y)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.measures.update(self(x), y)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.measures.compute())

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.5 + 0.5 * math.cos(math.pi * epoch / self.epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


class InfoBatch(Selection):
    """InfoBatch (Qin et al., 2024): of the examples with a loss below the mean, drops half and doubles the others."""

    every_epoch = online = weighs = True
    remembers = ("loss",)

    def __init__(self, seed: int = 0, share: float = 0.5, final_share: float = 0.125) -> None:
        self.seed, self.share, self.final_share = seed, share, final_share

    def _low(self, state: Any) -> Tensor:
        if state.observed is None or state.epoch >= (1 - self.final_share) * state.max_epochs:
            return torch.zeros(state.num_examples, dtype=torch.bool)
        loss = state.observed["loss"]
        return loss < loss.nanmean()

    def select(self, state: Any) -> Tensor:
        drawn = torch.rand(state.num_examples, generator=state.generator()) < self.share
        return ~(self._low(state) & drawn)

    def weights(self, state: Any) -> Tensor:
        return torch.where(self._low(state), 1 / (1 - self.share), 1.0)


_THIRD = "unbiased, a third, one early epoch, online"


def methods(early: int, seed: int) -> dict[str, tuple[Callable[[], Selection] | None, dict[str, Any]]]:
    """Return each method's selection and SEL settings by name."""

    def set_(*levels: str, **options: Any) -> Callable[[], Selection]:
        return lambda: SampleEasinessTraining(levels or ("medium",), early, seed=seed, **options)

    unbiased = {"others_share": 0.5, "final_epochs": 1}
    return {
        "classic": (None, {}),
        "stop after the early epochs": (None, {}),
        "classic, seconds of SET (MO)": (None, {}),
        f"classic, work of {_THIRD}": (None, {}),
        "SET (MO)": (set_(), {}),
        "L-SET": (set_(by="loss"), {}),
        "SEL-SET": (set_(), {"weight": 0.1}),
        "EO": (set_("easy"), {}),
        "HO": (set_("hard"), {}),
        "EMO": (set_("easy", "medium"), {}),
        "MHO": (set_("medium", "hard"), {}),
        "MO, a batch at a time": (set_(per="batch"), {}),
        "unbiased": (set_(**unbiased), {}),
        "unbiased, online": (set_(**unbiased, online=True, rescore_every_n_epochs=None), {}),
        "unbiased hard and medium, online": (
            set_("medium", "hard", others_share=0.4, final_epochs=1, online=True, rescore_every_n_epochs=None),
            {},
        ),
        _THIRD: (
            lambda: SampleEasinessTraining(
                ("medium",), 1, others_share=1 / 3, final_epochs=1, online=True, rescore_every_n_epochs=None, seed=seed
            ),
            {},
        ),
        "unbiased hard and medium, a fifth, one early epoch, online": (
            lambda: SampleEasinessTraining(
                ("medium", "hard"),
                1,
                others_share=0.2,
                final_epochs=1,
                online=True,
                rescore_every_n_epochs=None,
                seed=seed,
            ),
            {},
        ),
        "InfoBatch": (lambda: InfoBatch(seed), {}),
    }


def fit(data: LightningDataModule, selection: Selection | None, seed: int, epochs: int, **sel: Any) -> dict[str, float]:
    """Train and test once, and return the metrics, the average data use and the seconds of an epoch."""
    seed_everything(seed, workers=True, verbose=False)
    early = getattr(selection, "early_epochs", 0)
    with tempfile.TemporaryDirectory() as folder:
        watch = EasinessCallback(folder, probe=None, num_images=0)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator=ARGUMENTS.accelerator,
            devices=1,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Net(MODELS[ARGUMENTS.data](), epochs, **sel)
        trainer.fit(module, datamodule=EasinessDataModule(data, selection))
        found = trainer.test(module, datamodule=data, verbose=False)[0]
    found |= {
        "data_use": watch.usage.average_data_use(early),
        "epoch_seconds": watch.usage.average_epoch_seconds(early),
    }
    return {**found, "total_seconds": sum(watch.usage.epoch_seconds), "examples": sum(watch.usage.data_use)}


def kept_fit(
    name: str, data: LightningDataModule, make: Callable[[], Selection] | None, seed: int, epochs: int, **sel: Any
) -> dict[str, float]:
    """Return the results of a run, from disk or after training it."""
    path = ARGUMENTS.output / f"{name.replace(' ', '_').replace(',', '')}-{seed}.json"
    if not path.exists():
        found = fit(data, make() if make else None, seed, epochs, **sel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
        print(f"{name}, seed {seed}: " + "  ".join(f"{key} {value:.4f}" for key, value in found.items()), flush=True)
    return json.loads(path.read_text())


COLUMNS = {
    "accuracy": ("accuracy %", 100.0),
    "auroc": ("AUROC %", 100.0),
    "msr": ("MSR %", 100.0),
    "ese": ("ESE x 1000", 1000.0),
    "data_use": ("data use %", 100.0),
    "epoch_seconds": ("s per epoch", 1.0),
    "examples": ("epochs' worth of examples", 1.0),
}


def table(rows: dict[str, list[dict[str, float]]], columns: list[str]) -> str:
    """Format mean and spread over seeds as a Markdown table."""
    lines = ["| | " + " | ".join(COLUMNS[name][0] for name in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for label, runs in rows.items():
        cells = []
        for name in columns:
            values = [run[name] * COLUMNS[name][1] for run in runs]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare_settings(data: LightningDataModule, kind: str, settings: dict[str, dict[str, Any]]) -> str:
    rows = {
        label: [
            kept_fit(f"{kind} {label}", data, None, seed, ARGUMENTS.epochs, **sel) for seed in range(ARGUMENTS.seeds)
        ]
        for label, sel in settings.items()
    }
    return table(rows, ["accuracy", "auroc", "msr", "ese"])


def compare_sel(data: LightningDataModule) -> str:
    """Make table 1: the baseline and SEL, with the paper's and with other settings."""
    late = ARGUMENTS.epochs // 2
    settings = {
        "baseline": {},
        "SEL 0.1": {"weight": 0.1},
        "SEL 0.1, no floor": {"weight": 0.1, "floor": None},
        "SEL 0.01": {"weight": 0.01},
        f"SEL 0.1 from epoch {late}": {"weight": 0.1, "start_epoch": late},
        "SEL 0.1, sigma2 0.01": {"weight": 0.1, "sigma2": 1e-2},
        f"SEL 0.1, sigma2 0.01, from epoch {late}": {"weight": 0.1, "sigma2": 1e-2, "start_epoch": late},
    }
    return compare_settings(data, "sel", settings)


def search_sel(data: LightningDataModule) -> str:
    """Search noise, floor, weight and start of SEL on a grid."""
    settings: dict[str, dict[str, Any]] = {"baseline": {}}
    grid = itertools.product((1e-4, 1e-3, 1e-2), (None, math.log(1e-7), math.log(1e-3)), (0.01, 0.1), (0, 0.5))
    for sigma2, floor, weight, start in grid:
        label = f"sigma2 {sigma2:g}, floor {'none' if floor is None else f'{math.exp(floor):.0e}'}, weight {weight}"
        sel = {"sigma2": sigma2, "floor": floor, "weight": weight, "start_epoch": int(start * ARGUMENTS.epochs)}
        settings[f"{label}, from {start:.0%}"] = sel
    return compare_settings(data, "search", settings)


def compare_set(data: LightningDataModule) -> str:
    """Make tables 2 and 3: SET, its variants, and the controls."""
    epochs, early = ARGUMENTS.epochs, ARGUMENTS.early_epochs
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods(early, 0)}
    for seed in range(ARGUMENTS.seeds):
        controls_last = sorted(methods(early, seed).items(), key=lambda item: item[0].startswith("classic, "))
        for name, (make, sel) in controls_last:
            length = epochs
            if name.startswith("stop"):
                length = early
            elif name.startswith("classic, seconds"):
                classic, chosen = rows["classic"][seed], rows["SET (MO)"][seed]
                length = max(1, round(chosen["total_seconds"] / classic["epoch_seconds"]))
            elif name.startswith("classic, work"):
                length = max(1, round(rows[_THIRD][seed]["examples"]))
            rows[name].append(kept_fit(f"set {name}", data, make, seed, length, **sel))
    return table(rows, ["accuracy", "auroc", "msr", "ese", "data_use", "epoch_seconds", "examples"])


MODELS: dict[str, Callable[[], nn.Module]] = {"fashion": small_cnn, "cifar10": cifar_cnn}
TABLES = {"sel": compare_sel, "set": compare_set, "search": search_sel}


def load() -> LightningDataModule:
    if ARGUMENTS.data == "fashion":
        return FashionData(ARGUMENTS.data_root, ARGUMENTS.size)
    return CifarData(ARGUMENTS.data_root, ARGUMENTS.size)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--data", choices=MODELS, default="fashion")
    parser.add_argument("--output", type=Path, default=Path("sample_easiness_output"))
    parser.add_argument("--size", type=int, help="use only the first SIZE training examples; all by default")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--early-epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--accelerator", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = parse()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*num_workers.*|.*logger=False.*|.*no logger.*")
    found = TABLES[ARGUMENTS.table](load())
    ARGUMENTS.output.mkdir(parents=True, exist_ok=True)
    (ARGUMENTS.output / f"{ARGUMENTS.table}.md").write_text(found + "\n", encoding="utf-8")
    print(f"\n{ARGUMENTS.data}, {ARGUMENTS.size or 'all'} examples, {ARGUMENTS.epochs} epochs\n\n{found}")
