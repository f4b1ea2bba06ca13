"""Stepwise compression of a data set. After a kill it continues from disk, with the same result."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.checked_files import RecordFileError, json_checksum
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.experiments._factories import (
    agreed,
    bar,
    check_factories,
    check_ratio,
    check_seeds,
    claim,
    with_selection,
    writing,
)
from lightning_easiness.experiments.executor import Workers
from lightning_easiness.experiments.held_out import HoldOut
from lightning_easiness.experiments.recipe_check import check_recipe
from lightning_easiness.experiments.repeats import Repeats, missing_run, own_seeding, run_name, train_seeds
from lightning_easiness.functional._rng import mixed_seed
from lightning_easiness.record.files import ABOUT, read_arrays, write_arrays
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES, read_identity, read_run
from lightning_easiness.record.next_command import quoted, recorded
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.select.static import Keep
from lightning_easiness.view.words import count_of

_FORMAT = "lightning_easiness.step"


@dataclass(frozen=True)
class Step:
    """A step's decision: examples kept (n,), the losses it went by (N,), NaN where gone before, and targets (N,)."""

    kept: Tensor
    score: Tensor
    target: Tensor

    def __post_init__(self) -> None:
        dtypes = (self.kept.dtype, self.score.dtype, self.target.dtype)
        fits = self.kept.dim() == self.score.dim() == 1 and self.score.shape == self.target.shape
        scored = (~self.score.isnan()).nonzero().flatten()
        if not fits or dtypes != (torch.int64, torch.float32, torch.int64) or not torch.isin(self.kept, scored).all():
            raise ValueError("not the decision of a step")


class StepwiseCompression:
    """Removes easy examples in steps, a fraction of the original data set at a time, and measures easiness each time.

    "stepwise" of section 3.5 of "Empirical Study of Easy and Hard Examples in CNN Training" (2019). Each step trains
    once per seed, from scratch, on the remaining examples, and uses the mean loss at the last checkpoint (LOW is easy).
    The examples to keep are drawn without replacement with probability proportional to it, from `seed` and the step.

    On disk, `dirpath/step-2` holds the runs of the second step, as `repeat_fit` writes them, and `kept-0.2.safetensors`
    with "kept", the indices int64 (n,); "score", the mean loss float32 (N,), NaN for examples removed before; and
    "target" int64 (N,). After a kill, it continues where it stopped. A larger `ratio` continues from a smaller one.

    Args:
        make_trainer, make_module, datamodule, seeds: As in `repeat_fit`, of every step.
        ratio: Fraction of the examples to remove in total, in (0, 1).
        step: Fraction of the original data set to remove per step, in (0, ratio]; the last step may be smaller.
        dirpath: The folder of the steps.
        hold_out: As in `repeat_fit`, of what is left in each step, at most one half and with two seeds at least: what
            decides is the mean loss of the runs that trained on the example.
        seed: Seed of the draws.
        class_balanced: Remove the same fraction of each class in each step; all labels must be known.
        progress: Show bars over the steps and over the runs of a step.
        executor, retries: As in `repeat_fit`, for the runs of a step.

    Raises:
        ValueError: `ratio`, `step` or `hold_out` is out of its range; there is no seed, or one twice.
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
        hold_out: float | Literal["folds"] | None = None,
        seed: int = 0,
        class_balanced: bool = False,
        progress: bool = True,
        executor: Any = None,
        retries: int = 1,
    ) -> None:
        check_ratio("StepwiseCompression", "ratio", ratio)
        if not 0 < step <= ratio:
            raise ValueError(
                f"The `step` of StepwiseCompression must be in (0, ratio], (0, {ratio}]; got {step}: it is the fraction"
                " of the original data set that goes in a step."
            )
        check_factories("StepwiseCompression", make_trainer, make_module)
        with_selection(datamodule, None)  # raises what is wrong with it
        self.make_trainer, self.make_module, self.datamodule = make_trainer, make_module, datamodule
        self.ratio, self.step, self.seeds = ratio, step, check_seeds("StepwiseCompression", seeds)
        self.dirpath, self.seed, self.progress = Path(dirpath), seed, progress
        self.class_balanced = class_balanced
        self._is_checked = False
        is_part = isinstance(executor, Workers)
        self.workers = executor if is_part else Workers("StepwiseCompression", executor, retries)
        self.workers.check_sendable(make_trainer=make_trainer, make_module=make_module, datamodule=datamodule)
        self.hold_out = HoldOut.of("StepwiseCompression", hold_out, self.seeds)
        if self.hold_out is not None and (len(self.seeds) < 2 or self.hold_out.share > Fraction(1, 2)):
            raise ValueError(
                "The `hold_out` of StepwiseCompression must be at most 0.5, with two seeds at least, so that some run"
                f" trains on each example; got {hold_out!r} with {count_of(len(self.seeds), 'seed')}."
            )

    def run(self) -> Tensor:
        """Compress to `ratio` and return the indices of the kept examples, ascending, int64 (n,).

        Raises:
            ValueError: `dirpath` holds another compression, or one of another data set; losses are NaN; the Trainer's
                callback observes no training examples.
            RuntimeError: A run of a step was not completed.
        """
        kept = self.kept_at(self.ratio)
        command = f"score {quoted(self.dirpath / 'step-1')}"
        rank_zero_info(recorded(self.dirpath, f"The easiness of {len(self.shares())} steps", command))
        return kept

    def kept_at(self, ratio: float) -> Tensor:
        """Return the examples kept at `ratio`, int64 (n,); trains only steps that are not on disk."""
        shares = self.shares(ratio)
        claim(self.dirpath / "compression.json", self._arguments)
        done: Step | None = None
        with self.workers, bar("Step", len(shares), 3, self.progress) as steps:
            for number, share in enumerate(shares, 1):
                done = self._do(number, share, done)
                steps.update()
        assert done is not None
        return done.kept

    @property
    def _arguments(self) -> dict[str, Any]:
        hold_out = None if self.hold_out is None else self.hold_out.name
        balanced = self.class_balanced or None  # as the folders of before, which say nothing
        arguments = {"step": self.step, "seeds": self.seeds, "seed": self.seed, "hold_out": hold_out}
        return {**arguments, "class_balanced": balanced}

    def shares(self, ratio: float | None = None) -> list[float]:
        """Return the fraction of the original data set removed after each step, up to `ratio`."""
        ratio = self.ratio if ratio is None else ratio
        check_ratio("StepwiseCompression", "ratio", ratio)
        whole, step = (Fraction(repr(float(number))) for number in (ratio, self.step))  # 3 * 0.1 is 0.3 here
        return [float(min(number * step, whole)) for number in range(1, math.ceil(whole / step) + 1)]

    def measure(self, number: int, left: Tensor | None) -> EasinessRecord:
        """Train the runs of a step that are not complete on disk, on the examples in `left`, or on all for None."""
        data = with_selection(self.datamodule, None if left is None else Keep(left))
        folder = self.workers.folder(self.dirpath) / f"step-{number}"
        rule = None if self.hold_out is None else replace(self.hold_out, among=left)
        repeats = Repeats(self.make_trainer, self.make_module, data, self.seeds, folder, rule)
        record = train_seeds(repeats, self.workers, self.progress)
        agreed(lambda: self._check_runs(folder, record))  # the first process is the one that completes runs
        return record

    def _do(self, number: int, share: float, before: Step | None) -> Step:
        if before is not None and _num_kept(share, len(before.score)) == len(before.kept):
            return before  # a step of less than an example
        path = self.dirpath / f"step-{number}" / f"kept-{share}.safetensors"
        about = json_checksum({**self._arguments, "share": share})
        done = agreed(lambda: self._known(path, about))
        if done is None:
            record = self.measure(number, None if before is None else before.kept)
            step = agreed(lambda: self._decide(path.parent, record, number, share, before))
            if is_writer():
                write_step(path, step, about)
            return step
        self._check_recipe()
        if before is not None and not torch.equal((~done.score.isnan()).nonzero()[:, 0], before.kept):
            raise ValueError(f"'{path}' does not follow from the step before it; delete it to have it decided again.")
        return done

    def _known(self, path: Path, about: str) -> Step | None:
        """Return a step's decision, where it is on disk and of the data of the runs beside it."""
        step = read_step(path, about)
        if step is None:
            return None
        for run, series in product(map(run_name, self.seeds), (PASS_SERIES, ONLINE_SERIES)):
            with suppress(RecordFileError):  # `load` names it
                known = read_identity(path.parent / run, series)
                if not DataIdentity.of_target(step.target).is_same(known):
                    warn_user(f"'{path}' is of other data than the runs beside it; its step is decided again.")
                    return None
        return step

    def _check_recipe(self) -> None:
        """Check once that the steps on disk are of the recipe of now, where no run is trained that would compare it."""
        if not self._is_checked:
            self._is_checked = True
            with own_seeding():
                folder = self.dirpath / "step-1"
                check_recipe(self.make_trainer, self.make_module, self.datamodule, folder, self.seeds[0])

    def _decide(self, folder: Path, record: EasinessRecord, number: int, share: float, before: Step | None) -> Step:
        size = record.num_examples
        left = torch.arange(size) if before is None else before.kept
        if before is not None:
            way_out = "go on with the data set of then, or in another `dirpath`."
            identity = DataIdentity.of_target(before.target)
            identity.check_same(record.identity, "The step before", f"the runs in '{folder}'", way_out)
        # the evaluation pass reads the whole data set, but what is gone has no say
        loss = _in_sample_loss(record)[left]
        unknown = left[loss.isnan()]
        if len(unknown):
            raise ValueError(
                f"{len(unknown)} of the {len(left)} examples that are left have a NaN loss in a run in '{folder}',"
                f" the first is example {int(unknown[0])}: training diverged, or never saw it."
            )
        going = len(left) - _num_kept(share, size)
        draw = mixed_seed(self.seed, number)  # the same in every process, and however often the step is decided
        balance: dict[str, Any] = {"class_balanced": True, "target": record.target[left]} if self.class_balanced else {}
        kept = left[functional.ablate(loss, going / len(left), higher_is_easier=False, seed=draw, **balance)]
        score = torch.full((size,), torch.nan)
        score[left] = loss.float()
        return Step(kept, score, record.target)

    def _check_runs(self, folder: Path, record: EasinessRecord) -> None:
        if not record.series.startswith("train-"):
            raise ValueError(
                "The EasinessCallback of StepwiseCompression must observe the training examples; its record in"
                f" '{folder}' is of '{record.series}': set probe='train', and delete that folder."
            )
        unread = next((name for name in map(run_name, self.seeds) if name not in record.runs), None)
        missing = missing_run(folder, self.seeds) or unread
        if missing:
            raise RuntimeError(
                f"Run '{missing}' in '{folder}' is not complete, or cannot be read, so that nothing is removed yet;"
                " run again to go on with it, after deleting what a warning says is damaged."
            )
        lacking = next((name for name in record.runs if not _has_last(folder / name, record)), None)
        if lacking:
            raise RuntimeError(
                f"The last checkpoint of run '{lacking}' in '{folder}' is damaged, missing or of another run, so that"
                " nothing is removed yet: copy it here again, or delete the run's folder to train it anew."
            )


def _has_last(run_dir: Path, record: EasinessRecord) -> bool:
    """Return whether the last checkpoint that a run recorded is in the record."""
    step = read_run(run_dir).last(record.series).partition(" ")[0]
    return not step or int(EasinessRecord.load(run_dir.parent, record.series, run_dir.name).steps[-1]) == int(step)


def write_step(path: Path, step: Step, about: str = "") -> None:
    """Write a step's decision; `about` is a checksum of what it was decided by."""
    with writing(path):
        write_arrays(path, _FORMAT, vars(step), {ABOUT: about} if about else {})


def read_step(path: Path, about: str = "") -> Step | None:
    """Read a step's decision; None without the file, and where it is damaged, with a warning."""
    if not os.path.lexists(path):
        return None
    try:
        return Step(**read_arrays(path, _FORMAT, about))
    except (TypeError, ValueError):
        warn_user(f"'{path}' is damaged, or not of this compression; its step is decided again.")
        return None


def _in_sample_loss(record: EasinessRecord) -> Tensor:
    """Return the mean loss over the runs that trained on an example, (N,)."""
    loss = record.field("loss", -1)
    if record.holds_out:
        return functional.mean_over_runs(loss, record.trained_on)
    return functional.mean_loss_easiness(loss)


def _num_kept(share: float, size: int) -> int:
    return size - min(functional.fraction_to_count(share, size), size - 1)
