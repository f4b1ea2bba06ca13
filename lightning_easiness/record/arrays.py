"""The arrays of a record, of shape (run, checkpoint, example), read on access."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from lightning_easiness._utils.warnings import warn_once
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.functional import easiness_level, max_probability, most_predicted_class
from lightning_easiness.functional.levels import DEFAULT_TOL, default_is_wide
from lightning_easiness.record.files import FIELDS, MOST_CLASSES
from lightning_easiness.record.held_out import (
    have_held_out_probabilities,
    held_out,
    held_out_probabilities,
    trained_on,
)
from lightning_easiness.record.layout import list_series
from lightning_easiness.record.probabilities import have_probabilities, read_probabilities
from lightning_easiness.record.score_runs import stack_rows
from lightning_easiness.record.series import RecordedSeries, merged_identity


class CheckpointIndexError(IndexError, ValueError):
    """There is no checkpoint of that index."""


class RecordedArrays:
    """One series of several runs, with the fields recorded for each example at each checkpoint."""

    def __init__(self, runs: Sequence[RecordedSeries], series: str) -> None:
        self._runs = tuple(runs)
        self.series = series

    @property
    def all_series(self) -> tuple[str, ...]:
        """Names of the series that each of these runs has on disk, this one among them."""
        held = [set(list_series(run.info.path)) for run in self._runs]
        return tuple(sorted(set.intersection(*held)))

    @property
    def num_runs(self) -> int:
        """Number of runs, R."""
        return len(self._runs)

    @property
    def num_checkpoints(self) -> int:
        """Number of checkpoints that the runs share, C."""
        return len(self._runs[0].checkpoints)

    @property
    def num_examples(self) -> int:
        """Number of examples in the data set, N."""
        return self._runs[0].identity.num_examples

    @property
    def num_classes(self) -> int | None:
        """Number of classes, K; None if unknown."""
        return next((run.num_classes for run in self._runs if run.num_classes), None)

    @cached_property
    def identity(self) -> DataIdentity:
        """The data set: its length, and the targets recorded by any of the runs."""
        for run in self._runs:
            run.verify_targets()
        return merged_identity(self._runs)

    @property
    def target(self) -> Tensor:
        """Class of each example, int64 `(N,)`, -1 where no run recorded it."""
        return self.identity.known_target

    @property
    def source_index(self) -> Tensor | None:
        """Index of each example in the data set of which the recorded one is a part, int64 `(N,)`.

        All other indices count examples in the data set that was trained on. Where that is a torch `Subset`, such as a
        part of a `random_split`, this one leads to the whole. None where it is a part of no other.
        """
        return self.identity.source_index

    @property
    def fingerprint(self) -> str:
        """Hash of the length and the targets of the data set."""
        return self.identity.fingerprint

    @property
    def steps(self) -> Tensor:
        """Optimizer steps before each checkpoint in the first run, int64 `(C,)`, ascending.

        Other runs have the same, unless they train on different numbers of examples: see `load`.
        """
        return torch.tensor([file.step for file in self._runs[0].checkpoints])

    @property
    def epochs(self) -> Tensor:
        """Epoch of each checkpoint in the first run, int64 `(C,)`."""
        return torch.tensor([file.epoch for file in self._runs[0].checkpoints])

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields that every checkpoint of every run has."""
        files = [file for run in self._runs for file in run.checkpoints]
        return tuple(name for name in FIELDS if all(name in file.fields for file in files))

    @property
    def has_probabilities(self) -> bool:
        """Whether each run has averaged probabilities of these examples."""
        return have_probabilities(self._runs, self.series)

    def probabilities(self, *, per_run: bool = False) -> Tensor:
        """Return the softmax of each example, averaged over all epochs, also those after the record's last checkpoint.

        EasinessCallback(probabilities=True) records them in the training forward. They apply to the series
        "train-online" and "train-probe", which have the same examples.

        Args:
            per_run: Do not average over runs.

        Returns:
            Mean over the runs that saw an example, float32 `(N, K)`, or `(R, N, K)` with `per_run`; rows sum to 1, and
            are NaN where an example was never seen.

        Raises:
            ValueError: If a run has none, they are of other examples, or a file is damaged.
        """
        return read_probabilities(self._runs, self.series, per_run)

    @property
    def holds_out(self) -> bool:
        """Whether the runs each held out a part of these examples."""
        return any(run.holds_out for run in self._runs)

    @property
    def held_out(self) -> Tensor:
        """Which examples each run held out by design, bool `(R, N)`; in the series of the training examples."""
        return held_out(self._runs)

    @property
    def trained_on(self) -> Tensor:
        """Which examples each run has trained on, bool `(R, N)`: neither held out, nor left out by a selection.

        True everywhere for a run of an earlier version, which does not say; such runs held out nothing.
        """
        return trained_on(self._runs)

    @property
    def has_held_out_probabilities(self) -> bool:
        """Whether each run has probabilities of the examples that it held out."""
        return self.series.startswith("train-") and have_held_out_probabilities(self._runs)

    def held_out_probabilities(self) -> Tensor:
        """Return the softmax of each example, averaged over the runs that held it out, in the latest evaluation pass.

        Returns:
            float32 `(N, K)`; rows sum to 1, and are NaN where an example was held out by no run.

        Raises:
            ValueError: If no run held out examples, a run did not come to its evaluation pass, or it is no
                classification.
        """
        return held_out_probabilities(self._runs)

    @property
    def loss(self) -> Tensor:
        """Loss, float32 `(R, C, N)`; NaN where an example was not seen."""
        return self.field("loss")

    @property
    def correct(self) -> Tensor:
        """Whether the prediction was right, bool `(R, C, N)`; False where an example was not seen."""
        return self.field("correct")

    @property
    def margin(self) -> Tensor:
        """Target logit minus the largest other logit, float32 `(R, C, N)`."""
        return self.field("margin")

    @property
    def sample_easiness(self) -> Tensor:
        """Sample easiness, float32 `(R, C, N)`, in [0, 1], 1 is easiest."""
        return self.field("sample_easiness")

    @property
    def weakest_comparison(self) -> Tensor:
        """Minimum over the other classes j of P(h_i > h_j), of which easiness is the product, float32 `(R, C, N)`."""
        return self.field(self.weakest_field)

    @property
    def el2n(self) -> Tensor:
        """Norm of the error vector, float32 `(R, C, N)`."""
        return self.field("el2n")

    @property
    def count(self) -> Tensor:
        """How often an example was seen since the last checkpoint, int32 `(R, C, N)`; only in an online series."""
        return self.field("count")

    @property
    def prediction(self) -> Tensor:
        """Predicted class, int16 `(R, C, N)`, -1 where the example was not seen or its outputs were NaN.

        An online series has the last prediction in the epoch. See `functional.most_predicted_class` for several runs.
        Records of before do not hold it, nor do those of more than 32,768 classes.
        """
        return self.field("prediction")

    @property
    def loss_name(self) -> str:
        """Name of the recorded loss: "cross_entropy", or the name of the user's function."""
        return self._runs[0].loss

    @property
    def num_nan(self) -> Tensor:
        """Number of NaN losses at each checkpoint, over runs and examples, int64 `(C,)`."""
        counts = [self.field("loss", checkpoint).isnan().sum() for checkpoint in range(self.num_checkpoints)]
        return torch.stack(counts)

    def field(self, name: str, checkpoint: int | None = None) -> Tensor:
        """Return one field at one checkpoint, `(R, N)`, from one file per run; or at all checkpoints, `(R, C, N)`.

        Args:
            name: One of `fields`.
            checkpoint: Index, negative from the end; None for all, which are read into memory.

        Raises:
            ValueError: If the record has no such field.
            IndexError: If there is no such checkpoint.
        """
        self._check_field(name, f"Field '{name}'")
        if checkpoint is not None:
            index = self._index(checkpoint)
            return stack_rows([run.checkpoints[index].read(name) for run in self._runs])
        values = torch.empty(self.num_runs, self.num_checkpoints, self.num_examples, dtype=FIELDS[name])
        for rows, run in zip(values, self._runs, strict=True):
            for row, file in zip(rows, run.checkpoints, strict=True):
                row.copy_(file.read(name))
        return values

    def predicted_class(self, checkpoint: int = -1) -> Tensor:
        """Return the class that most runs predict for each example, int64 `(N,)`, -1 where none does.

        See `functional.most_predicted_class`; of classes with as many runs it is the smallest.

        Args:
            checkpoint: Index, negative from the end.

        Raises:
            ValueError: If the record has no predictions.
            IndexError: If there is no such checkpoint.
        """
        return most_predicted_class(self.field("prediction", checkpoint))

    def prediction_reader(self, checkpoint: int = -1) -> Callable[[], Tensor] | None:
        """Return `predicted_class` of a checkpoint, to be called when it is needed; None without predictions."""
        return partial(self.predicted_class, checkpoint) if "prediction" in self.fields else None

    @property
    def weakest_field(self) -> str:
        """The field of the weakest comparison, which for two classes is the easiness itself.

        Raises:
            ValueError: If there is none, as in records of before.
        """
        if "weakest_comparison" in self.fields:
            return "weakest_comparison"
        self._check_field("sample_easiness", "Sample easiness, which has levels,")
        if self.num_classes != 2:
            raise ValueError(
                f"Series '{self.series}' was recorded before levels went by the weakest comparison, and sample easiness"
                " of more than two classes does not tell hard from medium: record it anew, or take the examples between"
                " two values of `sample_easiness`."
            )
        return "sample_easiness"

    @property
    def has_levels(self) -> bool:
        """Whether `easiness_level` is known."""
        return "sample_easiness" in self.fields and ("weakest_comparison" in self.fields or self.num_classes == 2)

    def easiness_level(self, checkpoint: int | None = None, tol: float = DEFAULT_TOL) -> Tensor:
        """Return the level of each example: 0 hard, 1 medium, 2 easy, -1 where it is not known.

        Args:
            checkpoint: Index, negative from the end; None for all.
            tol: As in `functional.easiness_level`. The default is too wide for easiness that was counted in 2,000 draws
                or more, which is warned of.

        Returns:
            int64 `(R, N)`, or `(R, C, N)` at all checkpoints.

        Raises:
            ValueError: If the record has no levels.
            IndexError: If there is no such checkpoint.
        """
        weakest = self.field(self.weakest_field, checkpoint)
        easiness = self.field("sample_easiness", checkpoint)
        counted = self._runs[0].info.recipe.get("sample_easiness") or {}
        problem = default_is_wide(counted.get("num_draws")) if tol == DEFAULT_TOL else None
        if problem is not None:
            warn_once(f"{problem}, as in record.easiness_level(tol=...).")
        levels = easiness_level(easiness.flatten(), tol, weakest_comparison=weakest.flatten())
        return levels.reshape(easiness.shape)

    def max_probability(self, checkpoint: int | None = None) -> Tensor:
        """Return the confidence, the largest softmax output, whatever its class: see `functional.max_probability`.

        Args:
            checkpoint: Index, negative from the end; None for all.

        Returns:
            float32 `(R, N)`, or `(R, C, N)` at all checkpoints; NaN where the example was not seen, or seen more than
            once between two checkpoints of an online series.

        Raises:
            ValueError: If the record has no margins, or another loss than the cross-entropy.
            IndexError: If there is no such checkpoint.
        """
        if self.loss_name != "cross_entropy":
            raise ValueError(
                f"The largest softmax output follows from the loss 'cross_entropy', but series '{self.series}' holds"
                f" '{self.loss_name}': record without `loss_fn`, and with one class per example."
            )
        loss, margin = self.field("loss", checkpoint), self.field("margin", checkpoint)
        found = max_probability(loss.flatten(), margin.flatten()).reshape(loss.shape)
        # a mean over several outputs says nothing of the largest one
        return found.masked_fill(self.field("count", checkpoint) > 1, torch.nan) if "count" in self.fields else found

    def checkpoint_at(self, *, step: int | None = None, epoch: int | None = None) -> int:
        """Return the index of the checkpoint at a step, or of the last one in an epoch, for `field` and `score`.

        Raises:
            ValueError: If there is none, or unless exactly one of `step` and `epoch` is given.
        """
        if (step is None) == (epoch is None):
            raise ValueError(f"checkpoint_at() takes either `step` or `epoch`; got step={step}, epoch={epoch}.")
        name, wanted, there = ("step", step, self.steps) if epoch is None else ("epoch", epoch, self.epochs)
        assert wanted is not None
        distance = (there - wanted).abs()
        if distance.amin() > 0:
            nearest = int(there[distance.argmin()])
            raise ValueError(f"There is no checkpoint at {name} {wanted}: the nearest is at {name} {nearest}.")
        return int((distance == 0).nonzero()[-1])

    def _check_field(self, name: str, what: str) -> None:
        if name not in self.fields:
            many = name == "prediction" and (self.num_classes or 0) > MOST_CLASSES
            why = f": predictions are recorded of at most {MOST_CLASSES:,} classes" if many else ""
            raise ValueError(f"{what} is not in series '{self.series}', which holds {', '.join(self.fields)}{why}.")

    def _index(self, checkpoint: int, argument: str = "checkpoint") -> int:
        count = self.num_checkpoints
        if not -count <= checkpoint < count:
            raise CheckpointIndexError(self._no_checkpoint(checkpoint, argument))
        return checkpoint % count

    def _no_checkpoint(self, index: int, argument: str) -> str:
        """Say which checkpoints there are, and where one is at the step or epoch of that number."""
        count, files = self.num_checkpoints, self._runs[0].checkpoints
        at = [
            (place, name)
            for name in ("epoch", "step")
            for place in range(count)
            if getattr(files[place], name) == index
        ]
        guess = f" (did you mean {at[-1][0]}, at {at[-1][1]} {index}?)" if at else ""
        have = f"{count} checkpoints, 0 to {count - 1}, or {-count} to -1 from the end"
        if count == 1:
            have = "only checkpoint, 0"
        return f"`{argument}` must be an index of the record's {have}; got {index}{guess}."
