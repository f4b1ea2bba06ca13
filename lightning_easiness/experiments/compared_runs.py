"""The runs of `compare_selections`: what each is trained on, how, and what came of it on disk."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.group import shared_values
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.data.subset import num_examples
from lightning_easiness.experiments._factories import (
    agreed,
    make,
    make_data,
    read_object,
    with_selection,
    write_object,
)
from lightning_easiness.experiments.compression import StepwiseCompression
from lightning_easiness.experiments.repeats import observers, own_seeding, run_name
from lightning_easiness.experiments.worker import Place
from lightning_easiness.experiments.worst_class import WorstClass
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.scores import Scores
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.static import Ablation, Keep


class Cell(NamedTuple):
    """A run of the table."""

    method: str
    ratio: float
    seed: int


@dataclass
class ComparedRuns:
    """The runs of a comparison, each trained and evaluated once."""

    compression: StepwiseCompression
    folder: Path
    metric: str
    evaluate: str
    hardest_dropped: float
    recipe: str  # checksum of what all are trained by
    max_steps: int | None = None  # None for the Trainer's own number of epochs
    scores: Scores | None = None

    def row(self, method: str, ratio: float, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the row of the table for the runs of one method at one ratio."""
        values = [result["metrics"][self.metric] for result in results]
        worst = [math.nan if result.get("worst_class") is None else result["worst_class"] for result in results]
        return {
            "method": method,
            "ratio": ratio,
            "num_kept": int(results[0]["num_kept"]),
            "metric": self.metric,
            "mean": statistics.fmean(values),
            "spread": _spread(values),
            "worst_class": statistics.fmean(worst),
            "worst_class_spread": _spread(worst),
            "num_seeds": len(values),
            "equal": "epochs" if self.max_steps is None else "updates",
            "updates": statistics.fmean(result["updates"] for result in results),
        }

    def train(self, cells: Iterable[Cell], fits: Any) -> dict[Cell, dict[str, Any]]:
        """Return the "metrics", "num_kept" and "updates" of runs, from disk or after training them."""
        results: dict[Cell, dict[str, Any]] = {}

        def keep(cell: Cell, result: dict[str, Any]) -> None:
            results[cell] = self._checked(result)
            if fits is not None:
                fits.update()

        def missing() -> Iterator[_Fit]:
            for cell in cells:
                fit = _Fit(self, cell)
                found = agreed(fit.read)
                if found is None:
                    yield replace(fit, selection=self._selection(*cell))
                else:
                    keep(cell, found)

        for fit, result in self.compression.workers.run(missing()):
            keep(fit.cell, result)
        return results

    def _checked(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.metric not in result["metrics"]:
            raise ValueError(
                f"The `metric` of compare_selections must be one that the module logs in {self.evaluate}; got"
                f" {self.metric!r}, but there are: {', '.join(map(repr, result['metrics'])) or 'none'}."
            )
        return result

    def _selection(self, method: str, ratio: float, seed: int) -> Selection | None:
        if method == "everything":
            return None
        balanced = self.compression.class_balanced
        if method == "random" and not balanced:  # which needs no scores
            return _Random(ratio, seed)
        if method == "stepwise":
            return Keep(self.compression.kept_at(ratio))
        if self.scores is None:
            self.scores = self.compression.measure(1, None).score("mean_loss")
        options: dict[str, Any] = {"remove": method}
        if method == "stratified":
            options = {"sampling": "stratified", "hardest_dropped": min(self.hardest_dropped, ratio)}
        return Ablation(self.scores, ratio, seed=seed, class_balanced=balanced, **options)


@dataclass(frozen=True)
class _Fit:
    """The training and evaluation of one run of the table: a job, which a worker may do."""

    runs: ComparedRuns
    cell: Cell
    selection: Selection | None = None

    @property
    def folder(self) -> Path:
        return self.runs.folder

    @property
    def name(self) -> str:
        return f"The run of '{self.cell.method}' at {self.cell.ratio} under seed {self.cell.seed}"

    @property
    def _path(self) -> Path:
        steps, cell = self.runs.max_steps, self.cell
        kind = f"{self.runs.evaluate}-{'epochs' if steps is None else f'{steps}-updates'}"
        return self.folder / kind / f"{cell.method}-{cell.ratio}" / f"{run_name(cell.seed)}.json"

    @property
    def _about(self) -> dict[str, Any]:
        return {**self.cell._asdict(), "recipe": self.runs.recipe}

    def read(self) -> dict[str, Any] | None:
        """Return what came of it from disk, None where it is not there."""
        return read_result(self._path, self._about)

    def __call__(self, place: Place) -> dict[str, Any]:
        """Train and evaluate it, unless that is done on disk, and write what came of it."""
        done = agreed(self.read)
        if done is not None:
            return done
        result = {**self._fit(place), "about": self._about}
        found = agreed(lambda: result)
        if is_writer():
            write_object(self._path, found)
        return found

    def _fit(self, place: Place) -> dict[str, Any]:
        runs, made = self.runs, self.runs.compression
        steps = {} if runs.max_steps is None else {"max_steps": runs.max_steps}
        with own_seeding():
            seed_everything(self.cell.seed, workers=True, verbose=False)
            module: LightningModule = make(made.make_module, seed=self.cell.seed)
            trainer = place.trainer(made.make_trainer, seed=self.cell.seed, **steps)
            _check_has_step(module, runs.evaluate)
            trained = _Trained()
            trainer.callbacks.append(trained)  # type: ignore[attr-defined]
            data = make_data(with_selection(made.datamodule, self.selection))
            reader = data.reader or BatchReader()
            for observer in observers(trainer):  # its runs have no place in the record of those that measure
                reader = observer.reader
                trainer.callbacks.remove(observer)  # type: ignore[attr-defined]
            with OwnGenerators(data):
                trainer.fit(module, datamodule=data)
                num_kept, updates = map(int, trained.noted)
                _check_trained(trainer, updates, runs.max_steps)
                worst = WorstClass(reader)
                trainer.callbacks.append(worst)  # type: ignore[attr-defined]
                found = getattr(trainer, runs.evaluate)(module, datamodule=data, verbose=False)
        metrics = {name: float(value) for of_loader in found for name, value in of_loader.items()}
        return {"metrics": metrics, "num_kept": num_kept, "updates": updates, "worst_class": worst.accuracy}


class _Trained(Callback):
    """Notes what a fit trained where the process that began it can read it, though others may have trained.

    Attributes:
        noted: The number of examples that it kept, and of its updates.
    """

    def __init__(self) -> None:
        self.noted = shared_values(0, 0)

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        loader: Any = trainer.train_dataloader
        num_kept = num_examples(loader.dataset) if data.selected_indices is None else len(data.selected_indices)
        self.noted.copy_(torch.tensor([num_kept, trainer.global_step]))


def read_result(path: Path, about: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Read the "metrics", "num_kept" and "updates" of one run, None without the file; a ValueError if it is damaged.

    `about` says which run it must be of, where the file says it.
    """
    found = read_object(path)
    if found is None:
        return None
    metrics, counts = found.get("metrics"), [found.get(name) for name in ("num_kept", "updates")]
    are_numbers = isinstance(metrics, dict) and all(type(value) in (int, float) for value in metrics.values())
    if not are_numbers or not all(type(count) is int and 0 <= count < 2**63 for count in counts):
        raise ValueError(f"'{path}' is damaged (it is no result of a run): delete it to have that run trained again.")
    if about is not None and found.get("about", about) != about:
        raise ValueError(f"'{path}' is the result of another run: delete it to have this one trained.")
    return found


class _Random(Selection):
    """As many as the others, drawn uniformly."""

    def __init__(self, ratio: float, seed: int) -> None:
        self.ratio, self.seed = ratio, seed

    @override
    def select(self, state: SelectionState) -> Tensor:
        nothing = torch.zeros(state.num_examples)
        return functional.ablate(nothing, self.ratio, remove="random", higher_is_easier=False, seed=self.seed)


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _check_trained(trainer: Trainer, updates: int, max_steps: int | None) -> None:
    if trainer.interrupted:
        raise KeyboardInterrupt
    if max_steps is not None and updates != max_steps:
        raise ValueError(
            f"The Trainer that `make_trainer` returned for max_steps={max_steps} made {updates} updates;"
            " let it return Trainer(max_steps=max_steps, max_epochs=-1, ...), with no other limit."
        )


def _check_has_step(module: LightningModule, evaluate: str) -> None:
    step = "validation_step" if evaluate == "validate" else "test_step"
    if not is_overridden(step, module):
        raise ValueError(
            f"compare_selections evaluates each run with evaluate={evaluate!r}, but {type(module).__name__} has no"
            f" {step}(); give it one that logs the `metric`."
        )
