"""Stepwise compression of a data set, and its comparison with one-shot selections and with random ones of equal size.

Both go on, once killed, from what is on disk, and decide as if they had not been killed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from safetensors import SafetensorError
from torch import Tensor
from tqdm.auto import tqdm

from lightning_easiness import functional
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.tables import write_csv
from lightning_easiness.experiments.comparison import (
    Comparison,
    agreed,
    row,
    takes,
    with_selection,
)
from lightning_easiness.experiments.repeats import repeat_fit, run_name
from lightning_easiness.record.files import write_whole
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.select.datamodule import EasinessDataModule
from lightning_easiness.select.static import Keep

__all__ = ["StepwiseCompression", "compare_selections"]

_METHODS = ("random", "easy", "hard", "stepwise", "stratified")


@dataclass(frozen=True)
class _Step:
    """What a step decided: examples kept (n,), the losses it went by (N,), NaN where gone before, and targets (N,)."""

    kept: Tensor
    score: Tensor
    target: Tensor


class StepwiseCompression:
    """Removes easy examples a share of the original data set at a time, with easiness measured anew at each step.

    "stepwise" of section 3.5 of "Empirical Study of Easy and Hard Examples in CNN Training" (2019). A step trains once
    a seed, from scratch, on what is left, and takes the mean loss at the last checkpoint (LOW is easy). What stays is
    drawn without replacement with probability proportional to it, from `seed` and the number of the step alone.

    On disk, `dirpath/step-2` holds the runs of the second step, as `repeat_fit` writes them, and `kept-0.2.safetensors`
    with "kept", the indices int64 (n,); "score", the mean loss float32 (N,), NaN where an example was gone before; and
    "target" int64 (N,). Killed at any moment, it goes on where it was. A larger `ratio` later goes on from a smaller.

    Args:
        make_trainer: returns a new Trainer for each run, as in `repeat_fit`.
        make_module: returns a new LightningModule, likewise.
        datamodule: a LightningDataModule, a DataLoader for training, or a function that returns one for each run.
        ratio: share of the examples that is removed in all, in (0, 1).
        step: share of the original data set that goes in a step, in (0, ratio]; the last step may be smaller.
        seeds: one run each, in every step.
        dirpath: the folder of the steps.
        seed: of the draws.
        progress: show bars over the steps and over the runs of a step.

    Raises:
        ValueError: `ratio` or `step` is out of its range; there is no seed, or one twice.
        TypeError: `datamodule` is none of these.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> compression = StepwiseCompression(Trainer, LightningModule, DataLoader(range(8)), ratio=0.25, seeds=[1, 2])
        >>> compression.shares()
        [0.1, 0.2, 0.25]
    """

    def __init__(
        self,
        make_trainer: Callable[..., Trainer],
        make_module: Callable[..., LightningModule],
        datamodule: Any,
        ratio: float,
        step: float = 0.1,
        seeds: Iterable[int] = range(10),
        dirpath: str | os.PathLike[str] = "compression",
        *,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        _check_ratio("StepwiseCompression", "ratio", ratio)
        if not 0 < step <= ratio:
            raise ValueError(
                f"The `step` of StepwiseCompression must be in (0, ratio], (0, {ratio}]; got {step}: it is the share of"
                " the original data set that goes in a step."
            )
        self.make_trainer, self.make_module, self.datamodule = make_trainer, make_module, datamodule
        self.ratio, self.step, self.seeds = ratio, step, _check_seeds("StepwiseCompression", seeds)
        self.dirpath, self.seed, self.progress = Path(dirpath), seed, progress
        with_selection(datamodule, None)

    def run(self) -> Tensor:
        """Compresses to `ratio`, and returns the indices of what is kept, ascending, int64 (n,).

        Raises:
            ValueError: `dirpath` holds another compression, or one of another data set; losses are NaN; the Trainer's
                callback observes no training examples.
            RuntimeError: a run of a step was not completed.
        """
        return self.kept_at(self.ratio)

    def kept_at(self, ratio: float) -> Tensor:
        """Returns what a compression to `ratio` keeps, int64 (n,); only steps that are not on disk are trained."""
        shares = self.shares(ratio)
        _claim(self.dirpath / "compression.json", {"step": self.step, "seeds": self.seeds, "seed": self.seed})
        done: _Step | None = None
        place = 3 if sys.stderr.isatty() else 0  # below the bar over runs
        with tqdm(total=len(shares), desc="Steps", unit="step", position=place, disable=not self.progress) as bar:
            for number, share in enumerate(shares, 1):
                done = self._do(number, share, done)
                bar.update()
        assert done is not None
        return done.kept

    def shares(self, ratio: float | None = None) -> list[float]:
        """The share of the original data set that is gone after each step, on the way to `ratio`."""
        ratio = self.ratio if ratio is None else ratio
        _check_ratio("StepwiseCompression", "ratio", ratio)
        whole, step = (Fraction(repr(float(number))) for number in (ratio, self.step))  # 3 * 0.1 is 0.3 here
        return [float(min(number * step, whole)) for number in range(1, math.ceil(whole / step) + 1)]

    def _do(self, number: int, share: float, before: _Step | None) -> _Step:
        if before is not None and _num_kept(share, len(before.score)) == len(before.kept):
            return before  # a step of less than an example
        path = self.dirpath / f"step-{number}" / f"kept-{share}.safetensors"
        done = agreed(lambda: _read_step(path))
        if done is None:
            record = self.measure(number, None if before is None else before.kept)
            return agreed(lambda: self._decide(path, record, number, share, before))
        if before is not None and not torch.equal((~done.score.isnan()).nonzero()[:, 0], before.kept):
            raise ValueError(f"'{path}' does not follow from the step before it; delete it to have it decided again.")
        return done

    def measure(self, number: int, left: Tensor | None) -> EasinessRecord:
        """Trains the runs of a step on what is left, None for everything, where they are not complete on disk."""
        data = with_selection(self.datamodule, None if left is None else Keep(left))
        folder = self.dirpath / f"step-{number}"
        record = repeat_fit(self.make_trainer, self.make_module, data, self.seeds, folder, progress=self.progress)
        agreed(lambda: self._check_runs(folder, record))  # the first process is the one that completes runs
        return record

    def _decide(self, path: Path, record: EasinessRecord, number: int, share: float, before: _Step | None) -> _Step:
        size = record.num_examples
        left = torch.arange(size) if before is None else before.kept
        if before is not None:
            _check_same_data(path.parent, record, before)
        # the probe reads the whole data set, but what is gone has no say
        loss = functional.mean_loss_easiness(record.field("loss", -1))[left]
        _check_known(path.parent, loss, left)
        going = len(left) - _num_kept(share, size)
        # the same draw in every process, and however often the step is decided
        draw = (self.seed * 0x9E3779B97F4A7C15 + number) % 2**63
        kept = left[functional.ablate(loss, going / len(left), higher_is_easier=False, seed=draw)]
        score = torch.full((size,), torch.nan)
        score[left] = loss.float()
        step = _Step(kept, score, record.target)
        if is_writer():
            write_whole(path, safetensors.torch.save({**vars(step)}, {"format": "lightning_easiness.step"}))
        return step

    def _check_runs(self, folder: Path, record: EasinessRecord) -> None:
        if not record.series.startswith("train-"):
            raise ValueError(
                "The EasinessCallback of StepwiseCompression must observe the training examples; its record in"
                f" '{folder}' is of '{record.series}': set probe='train', and delete that folder."
            )
        missing = [name for seed in self.seeds if not is_complete(folder / (name := run_name(seed)))]
        missing += [name for seed in self.seeds if (name := run_name(seed)) not in record.runs and name not in missing]
        if missing:
            raise RuntimeError(
                f"Run '{missing[0]}' in '{folder}' is not complete, or cannot be read, so that nothing is removed yet;"
                " run again to go on with it, after deleting what a warning says is damaged."
            )


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
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains on what each method keeps at each ratio, under each seed, and tabulates a metric: Figure 4 of 2019.

    Compare with "random" first; it is trained first, after everything, which is the first row. "easy" and "hard" remove
    in one shot by the proportional rule of 2019, "stepwise" is `StepwiseCompression`, "stratified" is coverage-centric
    selection. All go by the mean loss under the same seeds, measured once, in `dirpath/stepwise`. One-shot methods draw
    anew under each seed, so that their spread is also that of the draw; "stepwise" keeps one set a ratio.

    A smaller data set has fewer updates an epoch. `equal="epochs"` trains with the Trainer as it is; `equal="updates"`
    gives each run the number of updates that a run on everything makes, as the argument `max_steps` of `make_trainer`:

        def make_trainer(max_steps=-1):
            return Trainer(max_steps=max_steps, max_epochs=30 if max_steps < 0 else -1)

    Killed, it goes on; a run for the table that was under way starts again. An EasinessCallback of the Trainer observes
    the runs that measure, and is left out of those for the table. Results are in `dirpath/results`, a file a
    run with all metrics, and the table in `dirpath/comparison-<equal>-<metric>.csv`.

    Args:
        make_trainer: as in `repeat_fit`; with a parameter `max_steps` for `equal="updates"`.
        make_module: as in `repeat_fit`; must log `metric` in its validation or test.
        datamodule: as in `repeat_fit`, with validation or test data.
        ratios: shares that are removed, in (0, 1).
        methods: of "random", "easy", "hard", "stepwise" and "stratified".
        seeds: one run each.
        dirpath: the folder of all that is trained here.
        metric: name under which the module logs it.
        evaluate: "validate" or "test", at the end of each run.
        equal: "epochs" or "updates".
        step: share of the original data set that "stepwise" removes at a time.
        seed: of the draws of "stepwise".
        hardest_dropped: for "stratified", as in `functional.ablate`; at most the ratio is taken.
        progress: show bars.

    Returns:
        A row for "everything", then one for each method and ratio, random first: "method", "ratio", "num_kept",
        "metric", "mean", "spread" (sample standard deviation over seeds, NaN for one), "num_seeds", "equal" and
        "updates" (mean number of a run).

    Raises:
        ValueError: an argument is out of its range; `metric` is not logged.
        TypeError: `equal="updates"`, and `make_trainer` takes no `max_steps`.

    Example:
        >>> compare_selections(Trainer, LightningModule, [], ratios=[1.5], metric="val_acc")
        Traceback (most recent call last):
        ValueError: The `ratios` of compare_selections must be in (0, 1); got 1.5: 30 % to remove is 0.3.
    """
    methods, ratios = _check_methods(methods, ratios)
    listed = _check_seeds("compare_selections", seeds)
    _check_choice("evaluate", evaluate, ("validate", "test"))
    _check_choice("equal", equal, ("epochs", "updates"))
    if equal == "updates" and not takes(make_trainer, "max_steps"):
        raise TypeError(
            "The `make_trainer` of compare_selections takes no `max_steps`, which equal='updates' gives it; let it"
            " return Trainer(max_steps=max_steps, max_epochs=-1, ...), or take equal='epochs'."
        )
    _check_evaluates(datamodule, evaluate)
    folder = Path(dirpath)
    arguments = (make_trainer, make_module, datamodule, max(step, *ratios), step, listed, folder / "stepwise")
    compression = StepwiseCompression(*arguments, seed=seed, progress=progress)
    claimed = {"seeds": listed, "step": step, "seed": seed, "hardest_dropped": hardest_dropped}
    _claim(folder / "comparison.json", claimed)
    comparison = Comparison(compression, folder / "results", metric, evaluate, hardest_dropped)
    max_steps = comparison.result("everything", 0.0, listed[0], None)["updates"] if equal == "updates" else None
    rows = []
    cells = [("everything", 0.0), *((method, ratio) for method in methods for ratio in ratios)]
    with tqdm(total=len(cells) * len(listed), desc="Fits", unit="fit", disable=not progress) as bar:
        for method, ratio in cells:
            found = []
            for one in listed:
                found.append(comparison.result(method, ratio, one, max_steps))
                bar.update()
            rows.append(row(method, ratio, metric, equal, found))
    if is_writer():
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        write_csv(folder / f"comparison-{equal}-{metric.replace('/', '-')}.csv", table)
    return rows


def _read_step(path: Path) -> _Step | None:
    if not path.exists():
        return None
    try:
        return _Step(**safetensors.torch.load(path.read_bytes()))
    except (SafetensorError, TypeError):
        warnings.warn(f"'{path}' is damaged, or not of a compression; its step is decided again.", stacklevel=2)
        return None


def _claim(path: Path, arguments: dict[str, Any]) -> None:
    """Sees to it that a folder holds what one set of arguments leads to."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else arguments
    for name, value in arguments.items():
        if before.get(name) != value:
            raise ValueError(
                f"'{path.parent}' holds what came of {name}={before.get(name)}, but `{name}` is {value} now; give"
                " another `dirpath`, or the same arguments to go on."
            )
    if is_writer() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(arguments).encode())


def _num_kept(share: float, size: int) -> int:
    return size - min(functional.fraction_to_count(share, size), size - 1)


def _check_same_data(folder: Path, record: EasinessRecord, before: _Step) -> None:
    size = len(before.score)
    if record.num_examples != size:
        raise ValueError(
            f"The data set of the runs in '{folder}' has {record.num_examples} examples, but that of the step before"
            f" has {size}; go on with the data set of then, or in another `dirpath`."
        )
    differ = (record.target != before.target) & (record.target >= 0) & (before.target >= 0)
    if bool(differ.any()):
        example = int(differ.nonzero()[0])
        raise ValueError(
            f"The data set of the runs in '{folder}' is another one than in the step before: example {example} has the"
            f" label {int(record.target[example])}, and had {int(before.target[example])}; go on with the data set of"
            " then, or in another `dirpath`."
        )


def _check_known(folder: Path, loss: Tensor, left: Tensor) -> None:
    unknown = left[loss.isnan()]
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} of the {len(left)} examples that are left have a NaN loss in a run in '{folder}', the"
            f" first is example {int(unknown[0])}: training diverged, or, with no probe, an example was not trained on."
        )


def _check_ratio(owner: str, name: str, ratio: float) -> None:
    if not 0 < ratio < 1:
        raise ValueError(f"The `{name}` of {owner} must be in (0, 1); got {ratio}: 30 % to remove is 0.3.")


def _check_seeds(owner: str, seeds: Iterable[int]) -> list[int]:
    listed = [int(seed) for seed in seeds]
    if not listed:
        raise ValueError(f"The `seeds` of {owner} are empty; give one for each run, as range(10).")
    if len(set(listed)) < len(listed):
        raise ValueError(f"The `seeds` of {owner} must differ, as a run each; got {listed}.")
    return listed


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
    """Returns both without repeats, "random" first and ratios ascending."""
    if not len(methods) or not len(ratios):
        empty = "ratios" if len(methods) else "methods"
        raise ValueError(f"The `{empty}` of compare_selections are empty; give at least one.")
    for method in methods:
        _check_choice("methods", method, _METHODS)
    for ratio in ratios:
        _check_ratio("compare_selections", "ratios", ratio)
    return sorted(dict.fromkeys(methods), key=lambda method: method != "random"), sorted({float(one) for one in ratios})
