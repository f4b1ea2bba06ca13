"""`compare_selections`: trains and evaluates on the examples that each selection keeps, and tabulates the results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_easiness._utils.checked_files import json_checksum
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness.experiments._factories import (
    agreed,
    bar,
    check_factories,
    check_ratio,
    check_seeds,
    claim,
    read_object,
    takes,
    with_selection,
    writing,
)
from lightning_easiness.experiments.compared_runs import Cell, ComparedRuns
from lightning_easiness.experiments.compression import StepwiseCompression
from lightning_easiness.experiments.executor import Workers
from lightning_easiness.experiments.recipe_check import RECIPE_FILE, claim_recipe
from lightning_easiness.experiments.repeats import own_seeding
from lightning_easiness.record.files import write_whole
from lightning_easiness.select.datamodule import EasinessDataModule

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
    executor: Any = None,
    retries: int = 1,
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
        executor: As in `repeat_fit`, for the runs that measure easiness and for those of the table.
        retries: As in `repeat_fit`.

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
    workers = Workers("compare_selections", executor, retries)
    workers.check_sendable(make_trainer=make_trainer, make_module=make_module, datamodule=datamodule)
    folder = workers.folder(Path(dirpath))
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
        executor=workers,
    )
    arguments = {"seeds": seeds, "step": step, "seed": seed, "hardest_dropped": hardest_dropped}
    claim(folder / "comparison.json", {**arguments, "class_balanced": class_balanced or None})
    with own_seeding():
        claim_recipe(make_trainer, make_module, datamodule, folder, seeds[0])
    recipe = agreed(lambda: json_checksum(read_object(folder / RECIPE_FILE) or {}))
    runs = ComparedRuns(compression, folder / "results", metric, evaluate, hardest_dropped, recipe)
    cells = [("everything", 0.0), *((method, ratio) for method in methods for ratio in ratios)]
    with workers:
        if equal == "updates":
            whole = runs.train([Cell("everything", 0.0, seeds[0])], None)
            runs.max_steps = next(iter(whole.values()))["updates"]
        with bar("Fit", len(cells) * len(seeds), 0, progress) as fits:
            results = runs.train([Cell(*cell, seed) for cell in cells for seed in seeds], fits)
    rows = [runs.row(*cell, [results[Cell(*cell, seed)] for seed in seeds]) for cell in cells]
    if is_writer():
        import pandas as pd  # takes a while

        path = folder / f"comparison-{equal}-{metric.replace('/', '-')}.csv"
        with writing(path):
            write_whole(path, pd.DataFrame(rows).to_csv(index=False).encode())
    return rows


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
