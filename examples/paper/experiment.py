"""What the scripts of this folder share: their arguments, trainings that continue, a CSV, a figure and a finding.

A script says in two dictionaries what its small and its full setting are, and which trainings it makes of them:

    SETTINGS = {"small": {"seeds": 3, "epochs": 2, ...}, "full": {"seeds": 10, "epochs": 10, ...}}

    def trainings(setting):
        return {"wrn": Training("wrn-16-4", "cifar-10", "count", setting.epochs, scheduled=300, width=setting.width)}

    def main():
        experiment = begin(__doc__, SETTINGS, trainings)
        record = experiment.repeat("wrn")                  # EasinessRecord of all seeds
        experiment.finish(rows, draw, f"agrees: {...}")

`--dry-run` makes each network at its full size and trains it for one batch of noise, and needs no data. Everything that
is trained is in a folder of its own under `--output`; run the script again to go on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from data_sets import refuse
from device_data import DeviceData
from folder_data import FolderData
from lightning.pytorch import Callback, Trainer, seed_everything
from networks import num_parameters
from training import Training

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, compare_selections, repeat_fit

Rows = Sequence[Mapping[str, Any]]
VERDICTS = ("agrees: ", "differs: ", "cannot tell: ")


@dataclass
class Experiment:
    """One script at one setting.

    Attributes:
        setting: What SETTINGS says, as attributes; `--seeds` replaces its `seeds`, a number.
        trainings: What is trained, by the name of its folder.
        root: Folder of the data.
        output: Folder of runs and results; scripts with the same training, seeds and callback may share its runs by
            giving them the same name.
        accelerator: The Trainer's.
    """

    name: str
    setting: SimpleNamespace
    trainings: dict[str, Training]
    root: Path | None
    output: Path
    accelerator: str = "auto"
    seconds: float = 0.0  # spent in trainings
    began: float = field(default_factory=time.perf_counter)
    _data: dict[Any, DeviceData | FolderData] = field(default_factory=dict)

    @property
    def seeds(self) -> range:
        """The seeds of the setting."""
        return range(self.setting.seeds)

    def data(self, name: str) -> DeviceData | FolderData:
        """Return the data of a training; read once for all that use the same."""
        training = self.trainings[name]
        key = training.data_key()
        if key not in self._data:
            self._data[key] = training.data_module(self.root)
        return self._data[key]

    def probe(self, name: str) -> Any:
        """Return the `probe` of an EasinessCallback that sees the training examples as they are, not augmented."""
        data = self.data(name)
        return data.probe_dataloader() if isinstance(data, FolderData) else "train"

    def trainer(self, name: str, callbacks: Iterable[Callback] = (), **options: Any) -> Trainer:
        """Make the Trainer of a training; bfloat16 on a GPU."""
        on_gpu = self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())
        given = {
            "max_epochs": self.trainings[name].epochs,
            "accelerator": self.accelerator,
            "devices": 1,
            "precision": "bf16-mixed" if on_gpu else "32-true",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return Trainer(callbacks=list(callbacks), **(given | options))

    def module(self, name: str) -> Any:
        """Make the network of a training with its optimizer."""
        return self.trainings[name].module(len(self.data(name).train))

    def repeat(
        self,
        name: str,
        callback: Callable[[], EasinessCallback] | None = None,
        datamodule: Any = None,
        *,
        seeds: Iterable[int] | None = None,
        folder: str | None = None,
        **options: Any,
    ) -> EasinessRecord:
        """Train once per seed and return the record; `options` are those of `repeat_fit`, `datamodule` other data."""

        def watch() -> EasinessCallback:
            return EasinessCallback(every_n_epochs=1, probe=self.probe(name), num_images=0, probe_batch_size=500)

        make = callback or watch
        with self._timed(name):
            return repeat_fit(
                lambda: self.trainer(name, [make()]),
                lambda: self.module(name),
                self.data(name) if datamodule is None else datamodule,
                seeds=self.seeds if seeds is None else seeds,
                dirpath=self.output / (folder or name),
                progress=False,
                **options,
            )

    def compare(
        self, name: str, ratios: Sequence[float], methods: Sequence[str], **options: Any
    ) -> list[dict[str, Any]]:
        """Return the rows of `compare_selections`, by accuracy on the test examples."""

        def make_trainer(max_steps: int = -1) -> Trainer:
            steps = {} if max_steps < 0 else {"max_steps": max_steps, "max_epochs": -1}
            return self.trainer(name, **steps)

        with self._timed(name):
            return compare_selections(
                make_trainer,
                lambda: self.module(name),
                self.data(name),
                ratios,
                methods,
                seeds=self.seeds,
                dirpath=self.output / name,
                metric="test_accuracy",
                evaluate="test",
                progress=False,
                **options,
            )

    def fit(self, name: str, seed: int, selection: Any = None, callbacks: Sequence[Callback] = ()) -> dict[str, float]:
        """Train one seed on what a selection keeps and return what was logged, with the accuracy on the test examples.

        Put it into `once` to keep the result.
        """
        with self._timed(f"{name}, seed {seed}"):
            seed_everything(seed, workers=True, verbose=False)
            module, trainer = self.module(name), self.trainer(name, callbacks)
            data = self.data(name)
            trainer.fit(module, datamodule=data if selection is None else EasinessDataModule(data, selection))
            logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
            return logged | dict(trainer.test(module, datamodule=data, verbose=False)[0])

    def once(self, name: str, make: Callable[[], Any], of: Iterable[str] | None = None, **more: Any) -> Any:
        """Return what was kept under a name, or make it and keep it as JSON, with what it was made of.

        What was made of other settings, trainings or data is refused, but the number of seeds may change. `of` are the
        only trainings that it depends on, and nothing of the setting; None for all. `more` is what else it depends on.
        """
        path = self.kept(name)
        made_of = json.loads(json.dumps(self._made_of(of) | more))
        if not path.exists():
            kept = {"made_of": made_of, "result": make()}
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".tmp")
            beside.write_text(json.dumps(kept))
            os.replace(beside, path)
        kept = json.loads(path.read_text())
        if not isinstance(kept, dict) or kept.get("made_of") != made_of:
            refuse(f"{path} was kept of other settings, or does not say of which: delete it, or give another --output.")
        return kept["result"]

    def kept(self, name: str) -> Path:
        """Return where `once` keeps a result."""
        return self.output / "kept" / self.name / f"{name}.json"

    def _made_of(self, of: Iterable[str] | None) -> dict[str, Any]:
        """Return what a result depends on."""
        names = self.trainings if of is None else of
        return {
            "setting": {} if of else {key: value for key, value in vars(self.setting).items() if key != "seeds"},
            "trainings": {name: asdict(self.trainings[name]) for name in names},
            "root": None if self.root is None else str(self.root.resolve()),
        }

    def finish(self, rows: Rows, draw: Callable[[Any], None] | Any, finding: str | Sequence[str]) -> None:
        """Write the CSV and the figure, and print the finding.

        Args:
            rows: The numbers, one dictionary a row, all with the same keys.
            draw: Draws into the matplotlib Figure that it is given; or a finished Figure, or an image.
            finding: One line, or several, computed from the numbers, each beginning with one of `VERDICTS`.
        """
        lines = [finding] if isinstance(finding, str) else finding
        for line in lines:
            if not line.startswith(VERDICTS) or "\n" in line:
                raise ValueError(f"A finding must be one line that begins with one of {VERDICTS}; got {line!r}.")
        text = "\n".join(lines)
        write_csv(rows, self.output / f"{self.name}.csv")
        write_figure(draw, self.output / f"{self.name}.png")
        (self.output / f"{self.name}.txt").write_text(text + "\n", encoding="utf-8")
        total = time.perf_counter() - self.began
        print(f"{self.name}: {total:.0f} s, of which {self.seconds:.0f} s in trainings", file=sys.stderr)
        print(text)

    def _timed(self, what: str) -> _Timed:
        return _Timed(self, what)


@dataclass
class _Timed:
    """Adds the seconds of a block to the experiment's, and says them."""

    experiment: Experiment
    what: str
    began: float = 0.0

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, kind: type | None, *rest: object) -> None:
        seconds = time.perf_counter() - self.began
        self.experiment.seconds += seconds
        if kind is None and seconds > 1:
            print(f"{self.experiment.name}: {self.what}: {seconds:.0f} s", file=sys.stderr, flush=True)


def begin(
    description: str | None,
    settings: Mapping[str, Mapping[str, Any]],
    trainings: Callable[[SimpleNamespace], dict[str, Training]],
    arguments: Sequence[str] | None = None,
) -> Experiment:
    """Read the arguments of a script; try each training and end the program if asked for a dry run."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=tuple(settings), default="small", help="the text's own is full")
    parser.add_argument("--data-root", type=Path, help="the folder that holds the data sets")
    parser.add_argument("--output", type=Path, default=Path("paper_output"), help="runs and results; used again")
    parser.add_argument("--seeds", type=int, help="number of seeds, in place of the setting's")
    parser.add_argument("--accelerator", default="auto", help="the Trainer's")
    parser.add_argument("--dry-run", action="store_true", help="make each network and train it for one batch of noise")
    given = parser.parse_args(arguments)
    quiet()
    setting = SimpleNamespace(**settings[given.setting])
    if given.seeds is not None:
        setting.seeds = given.seeds
    output = given.output / given.setting
    made = Experiment(_script(), setting, trainings(setting), given.data_root, output, given.accelerator)
    if given.dry_run:
        dry_run(made)
        raise SystemExit(0)
    if given.data_root is None:
        refuse("give --data-root ROOT, the folder that holds the data sets; --dry-run needs none.")
    return made


def dry_run(experiment: Experiment) -> None:
    """Make each network at its size and train it for one small batch of noise; print its number of parameters."""
    for name, training in experiment.trainings.items():
        module = training.module(pretrained=False)
        data = training.made_up(size=4)
        experiment.trainer(name, fast_dev_run=1).fit(module, datamodule=data)
        size = f"{training.data}, {num_parameters(module):,} parameters"
        print(f"{name}: {training.network} on {size}: one batch of noise trained")


def decided(ours: Sequence[float], others: Sequence[float], errors: float = 2.0) -> int:
    """Return 1 or -1 if the means of two samples differ by so many standard errors, and 0 if not, or of single values.

    A difference of 0 is not decided, whatever its error.
    """
    if min(len(ours), len(others)) < 2:
        return 0
    difference = statistics.fmean(ours) - statistics.fmean(others)
    error = (statistics.variance(ours) / len(ours) + statistics.variance(others) / len(others)) ** 0.5
    return 0 if abs(difference) <= errors * error else 1 if difference > 0 else -1


def write_csv(rows: Rows, path: Path) -> None:
    """Write rows of numbers, four digits after the point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({key: _rounded(value) for key, value in row.items()} for row in rows)


def write_figure(draw: Callable[[Any], None] | Any, path: Path) -> None:
    """Save an image, a Figure, or what a function draws into a Figure of 7 by 4.5 inches."""
    if hasattr(draw, "save"):
        draw.save(path)
    elif hasattr(draw, "savefig"):
        draw.savefig(path, dpi=100)
    else:
        _draw(draw, path)


def _draw(draw: Callable[[Any], None], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=100)


def quiet() -> None:
    """Leave out what Lightning says of each training."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    said = ".*num_workers.*|.*many workers.*|.*logger=False.*|.*LeafSpec.*"
    said += "|.*logging interval.*|.*have no `val_dataloader`.*"
    warnings.filterwarnings("ignore", message=said)


def _rounded(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def _script() -> str:
    return Path(sys.argv[0]).stem
