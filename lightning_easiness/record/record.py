"""`EasinessRecord`: recorded values per example, checkpoint and run, memory-mapped from disk."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness._utils.tables import ends, to_html
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.record.agreement import Agreement, measure_agreement
from lightning_easiness.record.arrays import RecordedArrays
from lightning_easiness.record.held_out import written
from lightning_easiness.record.loading import Opened, open_folder, stacked
from lightning_easiness.record.probabilities import averaged_probabilities, have_probabilities
from lightning_easiness.record.score_runs import RunScores, score_runs
from lightning_easiness.record.series import RecordedSeries, read_runs, with_own_names
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import Scores, get_score


class EasinessRecord(RecordedArrays):
    """One series of several runs, with fields of shape (run, checkpoint, example) that are read on access.

    Created by `load`, `merge` and `select_runs`.

    Example:
        >>> import tempfile
        >>> from lightning_easiness.data.identity import DataIdentity
        >>> from lightning_easiness.data.observation import Observation
        >>> folder, identity = tempfile.mkdtemp(), DataIdentity(3, torch.tensor([0, 1, 1]))
        >>> for seed, loss in enumerate(([0.1, 2.0, 0.7], [0.3, 1.0, 0.9])):
        ...     fields = {"loss": torch.tensor(loss)}
        ...     with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
        ...         _ = writer.append(Observation("train-probe", 120, 0, fields, identity, num_classes=2))
        ...         writer.complete()
        >>> record = EasinessRecord.load(folder)
        >>> record
        EasinessRecord('train-probe': 2 runs, 1 checkpoint, 3 examples of 2 classes; loss)
        >>> record.score("mean_loss").values
        tensor([0.2000, 1.5000, 0.8000])
        >>> record.score("mean_loss").hardest(0.3)
        tensor([1])
    """

    # ------------------------------------------------------------------ making records

    @classmethod
    def load(
        cls, path: str | Path, series: str | None = None, runs: str | Iterable[str] | None = None
    ) -> EasinessRecord:
        """Open a folder of runs, or the folder of one run; reads little more than headers.

        Runs of different recipes (see `recipes`) or different data are never averaged: the record is that of the
        largest group of complete runs, and a warning says what is left out, why, and how to load it. Runs from versions
        without recipes are taken to be of the same one. A run that seems to have diverged is warned of.

        Truncated and foreign files are left out, with a warning. The record has the checkpoints shared by all complete
        runs (by all runs if none is complete); an incomplete run that lacks one of these is left out, with a warning.
        The other checkpoints still count in trajectory scores: see `score`. Checkpoints are shared that are at the same
        step, or, where a selection or held-out examples give the runs epochs of different lengths, in the same epoch.

        Args:
            path: The `dirpath` of EasinessCallback, or the folder of one run in it.
            series: "train-probe", "train-online", "val-probe", "loader-probe", or that of a pattern, for example
                "train-probe-grey". None: the only series if there is just one, else "train-probe".
            runs: Names of the runs to load, in that order; None for all, in the order of the numbers in their names.
                Named runs of different recipes are loaded, with a warning.

        Raises:
            FileNotFoundError: If there is no such folder, no run in it, or none with that series.
            ValueError: If nothing can be read, the runs share no checkpoint, or named runs are of different data sets.
        """
        return cls._of(open_folder(Path(path), series, runs))

    @classmethod
    def merge(cls, *records: EasinessRecord) -> EasinessRecord:
        """Combine the runs of several records into one, by the rules of `load` for runs that are named.

        If a name is already taken, the next free number is appended: "seed-0", "seed-0-2".

        Raises:
            ValueError: If there is no record, or they have different series, the same run, or different data sets.
        """
        if not records:
            raise ValueError("merge() takes at least one record; got none.")
        if len({record.series for record in records}) > 1:
            held = ", ".join(f"'{record.series}'" for record in records)
            raise ValueError(f"merge() takes records of one series; got {held}: load them with the same `series`.")
        runs = with_own_names([run for record in records for run in record._runs])
        return cls._of(stacked(runs, records[0].series))

    @classmethod
    def _of(cls, opened: Opened) -> EasinessRecord:
        _warn(f"Left out: {sentence}" for sentence in opened.left_out)
        _warn(opened.remarks)
        return cls(opened.runs, opened.series)

    def select_runs(self, runs: Iterable[int | str]) -> EasinessRecord:
        """Return the record with only some of its runs, by index or name, in that order.

        Raises:
            ValueError: If no run is named, or one does not exist.
        """
        chosen: list[RecordedSeries] = []
        for run in runs:
            index = self.runs.index(run) if run in self.runs else run
            if isinstance(index, str) or not -self.num_runs <= index < self.num_runs:
                guess = did_you_mean(str(run), self.runs)
                raise ValueError(f"`runs` names {run!r}{guess}: this record holds {', '.join(self.runs)}.")
            chosen.append(self._runs[index])
        if not chosen:
            raise ValueError(f"`runs` must name at least one of {', '.join(self.runs)}; got none.")
        return EasinessRecord(chosen, self.series)

    def with_series(self, series: str) -> EasinessRecord:
        """Return the record of another series of the same runs, by the rules of `load` for runs that are named.

        Raises:
            FileNotFoundError: If none of the runs has that series.
        """
        folders = [run.info.path for run in self._runs]
        found, problems = read_runs(folders[0].parent, folders, series)
        return self._of(stacked(found, series, problems))

    def save(self, dirpath: str | Path) -> None:
        """Write each run, with all of its own checkpoints, to a folder under `dirpath` that `load` can read.

        Raises:
            FileExistsError: If `dirpath` already has checkpoints of a run with that name.
            OSError: If it cannot be written to.
        """
        for run in self._runs:
            info = run.info
            about: dict[str, Any] = {"versions": info.versions, "recipe": info.recipe, "class_names": info.class_names}
            with RunWriter(dirpath, run.name, seed=info.seed, **about) as writer:
                for file in run.own:
                    writer.append(run.observation(file))
                if have_probabilities([run], self.series):
                    writer.replace_probabilities(averaged_probabilities(run))
                for found in written(run):
                    writer.write(found)
                if run.info.complete:
                    writer.complete()

    # ------------------------------------------------------------------ what it holds

    def __repr__(self) -> str:
        classes = f" of {self.num_classes} classes" if self.num_classes else ""
        return (
            f"EasinessRecord('{self.series}': {_plural(self.num_runs, 'run')}, "
            f"{_plural(self.num_checkpoints, 'checkpoint')}, {self.num_examples} examples{classes}; "
            f"{', '.join(self.fields)})"
        )

    def _repr_html_(self) -> str:
        rows = ends(self.num_runs)
        shown = [self._runs[row] for row in rows]
        columns: dict[str, list[Any]] = {
            "run": [run.name for run in shown],
            "seed": [run.info.seed for run in shown],
            "complete": [run.info.complete for run in shown],
            "checkpoints": [len(run.own) for run in shown],
            "last epoch": [run.own[-1].epoch for run in shown],
            "last step": [run.own[-1].step for run in shown],
        }
        return to_html(repr(self), columns, self.num_runs)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, K, as the data set listed them or EasinessCallback was given them.

        None where they are unknown, or where runs have different ones.
        """
        found = {run.info.class_names for run in self._runs} - {None}
        names = found.pop() if len(found) == 1 else None
        return names if names is not None and self.num_classes in (None, len(names)) else None

    @property
    def runs(self) -> list[str]:
        """Names of the runs."""
        return [run.name for run in self._runs]

    @property
    def paths(self) -> list[Path]:
        """Folder of each run."""
        return [run.info.path for run in self._runs]

    @property
    def seeds(self) -> list[int | None]:
        """Seed of each run, None if unknown."""
        return [run.info.seed for run in self._runs]

    @property
    def versions(self) -> list[dict[str, str]]:
        """Versions of the packages that wrote each run."""
        return [dict(run.info.versions) for run in self._runs]

    @property
    def recipes(self) -> list[dict[str, Any]]:
        """What each run was trained by, as plain JSON: module, optimizers, length; empty where it is unknown."""
        return [copy.deepcopy(run.info.recipe) for run in self._runs]

    # ------------------------------------------------------------------ scores

    def score(self, name: str, checkpoint: int = -1, *, first: int = 0, seed: int = 0, **options: Any) -> Scores:
        """Compute a score, one value per example; `lightning_easiness.scores.SCORES` lists the names.

        A score of one checkpoint reads one file per run; a trajectory score reads one run after another. Each run has
        its own trajectory: it includes checkpoints that other runs lack, and the record's first and last checkpoint
        stand for the first and the last of each run. If trajectories differ, there is a `UserWarning`.

        Mean and spread are over the runs that saw the example; a `UserWarning` gives the number of examples seen in
        fewer than all runs (for these, `count` is NaN). An example with a recorded NaN has no score at that checkpoint;
        its trajectory score is computed from the other checkpoints, with a warning.

        Where runs held out a part of the examples, mean and spread are over the runs that trained on the example, and
        for `held_out_loss` and `held_out_correct` over those that did not. `memorization` and `generalization_gap`
        compare the two, and their spread is the standard error.

        Args:
            name: Name of the score.
            checkpoint: Index, negative from the end. Trajectories end there.
            first: Index, negative from the end. Trajectories begin there: `num_checkpoints // 2` for the second half.
            seed: Breaks remaining ties in `Scores`.
            options: Passed to the function of the score.

        Raises:
            ValueError: If there is no such score, the record lacks a field that it needs, or `first` is after
                `checkpoint` or given for a score of one checkpoint.
            IndexError: If there is no such checkpoint.
        """
        index = self._index(checkpoint)
        found = self.run_scores(name, index, first=first, **options)
        _warn(found.gaps)
        has_ties = "loss" in self.fields and name != "mean_loss"
        loss = _mean_loss(self.field("loss", index), found.counts) if has_ties else None
        scores = Scores(
            found.values,
            higher_is_easier=get_score(name).higher_is_easier,
            spread=found.spread(),
            target=self.identity.target,
            name=name,
            num_runs=self.num_runs,
            step=int(self.steps[index]),
            epoch=int(self.epochs[index]),
            fingerprint=self.fingerprint,
            source_index=self.source_index,
            digest=self.identity.digest,
            prediction=self.prediction_reader(index),
            class_names=self.class_names,
            tie_breaker=loss,
            seed=seed,
        )
        if scores.num_nan:
            warn_user(
                f"{scores.num_nan} of {len(scores)} examples have no {name} ({found.unknown}): "
                "they are in neither easiest() nor hardest()."
            )
        return scores

    def agreement(
        self,
        name: str = "mean_loss",
        checkpoint: int = -1,
        factor: Sequence[float] = (2,),
        *,
        first: int = 0,
        seed: int = 0,
        num_splits: int = 20,
    ) -> Agreement:
        """Measure whether the seeds are enough: how well the score agrees with that of the same number of other runs.

        Args:
            name: Name of the score.
            checkpoint: As in `score`.
            factor: Multiples of the number of runs to extrapolate to.
            first: As in `score`.
            seed: Seed of the random splits.
            num_splits: Number of random splits of the runs into halves.

        Raises:
            ValueError: If the record has a single run or lacks a field of the score, or `score` refuses `first`.
        """
        if self.num_runs < 2:
            raise ValueError("agreement() needs at least 2 runs; got 1: repeat the training with other seeds.")
        if get_score(name).over == "both":
            raise ValueError(
                f"agreement() compares groups of runs that each have a score, but {name} is a difference between runs:"
                f" see its standard error, score({name!r}).spread."
            )
        found = self.run_scores(name, checkpoint, first=first)
        return measure_agreement(name, found.alone, factor, counts=found.counts, seed=seed, num_splits=num_splits)

    def has_agreement(self, name: str = "mean_loss") -> bool:
        """Return whether `agreement` of a score can be measured: two runs each have a score of the same examples.

        A comparison of runs, as `memorization`, has none, and neither has `held_out_loss` of folds.
        """
        definition = get_score(name)
        if self.num_runs < 2 or definition.over == "both":
            return False
        return definition.over == "trained_on" or int((~self.trained_on).sum(0).max()) > 1

    def run_scores(self, name: str, checkpoint: int = -1, *, first: int = 0, **options: Any) -> RunScores:
        """Compute a score as `score` does, with that of each run alone, (R, N), which is NaN for a run without one.

        Raises:
            ValueError: As `score`.
            IndexError: If there is no such checkpoint.
        """
        definition = get_score(name)
        for field in definition.needs:
            self._check_field(field, f"Score '{name}' needs field '{field}', which")
        found = score_runs(definition, self._runs, self._index(checkpoint), options, self._index(first, "first"))
        _warn(found.remarks)
        return found


def _mean_loss(rows: Tensor, counts: Tensor | None) -> Tensor:
    """Return the mean over the runs that saw an example and count for it, (N,)."""
    return _nanmean(rows if counts is None else rows.masked_fill(~counts, torch.nan))


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        warn_user(sentence)


def _nanmean(rows: Tensor) -> Tensor:
    means = rows.mean(0)  # much faster than `nanmean`
    return rows.nanmean(0) if means.isnan().any() else means


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
