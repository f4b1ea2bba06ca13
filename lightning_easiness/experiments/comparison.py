"""`compare_selections`: trains and evaluates on the examples that each selection keeps, and tabulates the results."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.checked_files import json_checksum
from lightning_easiness._utils.group import shared_values
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.data.subset import num_examples
from lightning_easiness.experiments._factories import (
    agreed,
    bar,
    check_factories,
    check_ratio,
    check_seeds,
    claim,
    make,
    make_data,
    read_object,
    takes,
    with_selection,
    write_object,
)
from lightning_easiness.experiments.compression import StepwiseCompression
from lightning_easiness.experiments.recipe_check import RECIPE_FILE, claim_recipe
from lightning_easiness.experiments.repeats import observers, own_seeding, run_name
from lightning_easiness.experiments.worst_class import WorstClass
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.scores import Scores
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.datamodule import EasinessDataModule
from lightning_easiness.select.static import Ablation, Keep

_METHODS = ("random", "easy", "hard", "stepwise", "stratified")


def compare_selections(
    make_trainer: Callable[..., Trainer],
    make_module: Callable[..., LightningModule],
    datamodule: Any,
    ratios: Sequence[float],
    methods: Sequence[str] = _METHODS,
    seeds: Iterable[int] = range(10),
    dirpath: str | os.PathLike[str] = "comparison",
    *,
    metric: str,
    evaluate: Literal["validate", "test"] = "validate",
    equal: Literal["epochs", "updates"] = "epochs",
    step: float = 0.1,
    seed: int = 0,
    hardest_dropped: float = 0.0,
    class_balanced: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train on the examples that each method keeps at each ratio, under each seed, and tabulate a metric.

    Figure 4 of the 2019 paper. "random" is the baseline and is trained first, after the runs on everything. "easy" and
    "hard" remove in one shot by the proportional rule of 2019, "stepwise" is `StepwiseCompression`, "stratified" is
    coverage-centric selection. All use the mean loss over the same seeds, measured once in `dirpath/stepwise`. One-shot
    methods draw again for each seed, so that their spread includes the draw; "stepwise" has one set per ratio.

    A smaller data set has fewer updates per epoch. `equal="epochs"` uses the Trainer unchanged; `equal="updates"` gives
    each run the number of updates of a run on everything, as the argument `max_steps` of `make_trainer`:

        def make_trainer(max_steps=-1):
            return Trainer(max_steps=max_steps, max_epochs=30 if max_steps < 0 else -1)

    After a kill it continues; an interrupted run for the table starts again. The Trainer's EasinessCallback, if any, is
    used in the runs that measure easiness, and removed from those for the table. Results are in `dirpath/results`, one
    file per run with all metrics, and the table in `dirpath/comparison-<equal>-<metric>.csv`.

    Args:
        make_trainer: As in `repeat_fit`; with a parameter `max_steps` for `equal="updates"`.
        make_module: As in `repeat_fit`; must log `metric` in its validation or test.
        datamodule: As in `repeat_fit`, with validation or test data.
        seeds: One run each.
        ratios: Fractions to remove, in (0, 1).
        methods: Some of "random", "easy", "hard", "stepwise" and "stratified".
        dirpath: Folder for all runs and results.
        metric: Name of the metric that the module logs.
        evaluate: "validate" or "test", at the end of each run.
        equal: "epochs" or "updates".
        step: Fraction of the original data set that "stepwise" removes at a time.
        seed: Seed of the draws of "stepwise".
        hardest_dropped: For "stratified", as in `functional.ablate`; limited to the ratio.
        class_balanced: Remove the same fraction of each class, whatever the method; all labels must be known.
        progress: Show progress bars.

    Returns:
        A row for "everything", then one for each method and ratio, random first: "method", "ratio", "num_kept",
        "metric", "mean", "spread" (sample standard deviation over seeds, NaN for one), "worst_class" and
        "worst_class_spread" (the same of the accuracy of the class that is predicted worst, by a pass over all
        evaluated examples; NaN where examples have no class each), "num_seeds", "equal" and "updates" (mean number of a
        run).

    Raises:
        ValueError: If an argument is out of range, or `metric` is not logged.
        TypeError: If `equal="updates"` and `make_trainer` has no parameter `max_steps`.

    Example:
        >>> compare_selections(Trainer, LightningModule, [], ratios=[1.5], metric="val_acc")
        Traceback (most recent call last):
        ValueError: The `ratios` of compare_selections must be in (0, 1); got 1.5: 30 % to remove is 0.3.
    """
    methods, ratios = _check_methods(methods, ratios)
    check_factories("compare_selections", make_trainer, make_module)
    seeds = check_seeds("compare_selections", seeds)
    _check_choice("evaluate", evaluate, ("validate", "test"))
    _check_choice("equal", equal, ("epochs", "updates"))
    if equal == "updates" and not takes(make_trainer, "max_steps"):
        raise TypeError(
            "The `make_trainer` of compare_selections takes no `max_steps`, which equal='updates' gives it; let it"
            " return Trainer(max_steps=max_steps, max_epochs=-1, ...), or take equal='epochs'."
        )
    _check_evaluates(datamodule, evaluate)
    folder = Path(dirpath)
    compression = StepwiseCompression(
        make_trainer,
        make_module,
        datamodule,
        ratio=max(step, *ratios),
        step=step,
        seeds=seeds,
        dirpath=folder / "stepwise",
        seed=seed,
        class_balanced=class_balanced,
        progress=progress,
    )
    arguments = {"seeds": seeds, "step": step, "seed": seed, "hardest_dropped": hardest_dropped}
    claim(folder / "comparison.json", {**arguments, "class_balanced": class_balanced or None})
    with own_seeding():
        claim_recipe(make_trainer, make_module, datamodule, folder, seeds[0])
    recipe = agreed(lambda: json_checksum(read_object(folder / RECIPE_FILE) or {}))
    runs = _Runs(compression, folder / "results", metric, evaluate, hardest_dropped, recipe)
    if equal == "updates":
        runs.max_steps = runs.result("everything", 0.0, seeds[0])["updates"]
    cells = [("everything", 0.0), *((method, ratio) for method in methods for ratio in ratios)]
    with bar("Fit", len(cells) * len(seeds), 0, progress) as fits:
        rows = [runs.row(method, ratio, fits) for method, ratio in cells]
    if is_writer():
        import pandas as pd  # takes a while

        pd.DataFrame(rows).to_csv(folder / f"comparison-{equal}-{metric.replace('/', '-')}.csv", index=False)
    return rows


@dataclass
class _Runs:
    """The runs of a comparison, each trained and evaluated once."""

    compression: StepwiseCompression
    folder: Path
    metric: str
    evaluate: str
    hardest_dropped: float
    recipe: str  # checksum of what all are trained by
    max_steps: int | None = None  # None for the Trainer's own number of epochs
    scores: Scores | None = None

    def row(self, method: str, ratio: float, fits: Any) -> dict[str, Any]:
        """Return the row of the table for the runs of one method at one ratio."""
        results = []
        for seed in self.compression.seeds:
            results.append(self.result(method, ratio, seed))
            fits.update()
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

    def result(self, method: str, ratio: float, seed: int) -> dict[str, Any]:
        """Return the "metrics", "num_kept" and "updates" of one run, from disk or after training it."""
        kind = f"{self.evaluate}-{'epochs' if self.max_steps is None else f'{self.max_steps}-updates'}"
        path = self.folder / kind / f"{method}-{ratio}" / f"{run_name(seed)}.json"
        about = {"method": method, "ratio": ratio, "seed": seed, "recipe": self.recipe}
        found = agreed(lambda: read_result(path, about))
        if found is None:
            fitted = {**self._fit(self._selection(method, ratio, seed), seed), "about": about}
            found = agreed(lambda: fitted)
            if is_writer():
                write_object(path, found)
        if self.metric not in found["metrics"]:
            raise ValueError(
                f"The `metric` of compare_selections must be one that the module logs in {self.evaluate}; got"
                f" {self.metric!r}, but there are: {', '.join(map(repr, found['metrics'])) or 'none'}."
            )
        return found

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

    def _fit(self, selection: Selection | None, seed: int) -> dict[str, Any]:
        given = {"seed": seed} if self.max_steps is None else {"seed": seed, "max_steps": self.max_steps}
        with own_seeding():
            seed_everything(seed, workers=True, verbose=False)
            module: LightningModule = make(self.compression.make_module, seed=seed)
            trainer: Trainer = make(self.compression.make_trainer, **given)
            _check_has_step(module, self.evaluate)
            trained = _Trained()
            trainer.callbacks.append(trained)  # type: ignore[attr-defined]
            data = make_data(with_selection(self.compression.datamodule, selection))
            reader = data.reader or BatchReader()
            for observer in observers(trainer):  # its runs have no place in the record of those that measure
                reader = observer.reader
                trainer.callbacks.remove(observer)  # type: ignore[attr-defined]
            with OwnGenerators(data):
                trainer.fit(module, datamodule=data)
                num_kept, updates = map(int, trained.noted)
                _check_trained(trainer, updates, self.max_steps)
                worst = WorstClass(reader)
                trainer.callbacks.append(worst)  # type: ignore[attr-defined]
                found = getattr(trainer, self.evaluate)(module, datamodule=data, verbose=False)
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


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        named = " or ".join(map(repr, choices))
        raise ValueError(f"The `{name}` of compare_selections must be {named}; got {value!r}.")


def _check_evaluates(datamodule: Any, evaluate: str) -> None:
    data = with_selection(datamodule, None)
    hook = "val_dataloader" if evaluate == "validate" else "test_dataloader"
    if isinstance(data, EasinessDataModule) and not is_overridden(hook, data):
        raise ValueError(
            f"compare_selections evaluates each run with evaluate={evaluate!r}, but the `datamodule` has no {hook}();"
            " give a LightningDataModule that has one, or EasinessDataModule(loader, val_dataloaders=...)."
        )


def _check_has_step(module: LightningModule, evaluate: str) -> None:
    step = "validation_step" if evaluate == "validate" else "test_step"
    if not is_overridden(step, module):
        raise ValueError(
            f"compare_selections evaluates each run with evaluate={evaluate!r}, but {type(module).__name__} has no"
            f" {step}(); give it one that logs the `metric`."
        )


def _check_methods(methods: Sequence[str], ratios: Sequence[float]) -> tuple[list[str], list[float]]:
    """Return both without repeats, "random" first and ratios ascending."""
    for name, given in (("methods", methods), ("ratios", ratios)):
        if not len(given):
            raise ValueError(f"The `{name}` of compare_selections are empty; give at least one.")
    for method in methods:
        _check_choice("methods", method, _METHODS)
    for ratio in ratios:
        check_ratio("compare_selections", "ratios", ratio)
    return sorted(dict.fromkeys(methods), key=lambda method: method != "random"), sorted({float(one) for one in ratios})
