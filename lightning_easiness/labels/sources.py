"""What label errors are found from: a score per example, read from scores, a record or a folder of runs."""

import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, Union

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.experiments.halves import protocol_folder
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES
from lightning_easiness.record.probabilities import NO_CLASSES
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores, get_score

Source: TypeAlias = Union[Scores, EasinessRecord, str, "os.PathLike[str]"]

ONLINE, PROBE = ONLINE_SERIES, PASS_SERIES

_PROBABILITY_SCORES = {
    "self_confidence": functional.self_confidence,
    "normalized_margin": functional.normalized_margin,
}
_TIES = {"area_under_margin": 0.0, "weighted_area_under_margin": 0.0, "margin": 0.0, "normalized_margin": 0.5}
ONLINE_ONLY = ("area_under_margin", "weighted_area_under_margin")


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """A label score per example, and what else is known about the labels."""

    scores: Scores
    given: Tensor  # the labels, int64 (N,), -1 where not known
    seed: int = 0  # decides what is left of ties
    probabilities: Tensor | None = None  # averaged, (N, K)
    probabilities_given: bool = False  # by the user; else they are those of the record
    easiness: Tensor | None = None  # sample easiness at the given label (N,), where it was asked for
    weakest_comparison: Tensor | None = None  # the same of the weakest comparison
    record: EasinessRecord | None = None  # that the score is of
    last: int | None = None  # the checkpoint that the score is of, where it is not the last of the record
    held_out: Tensor | None = None  # probabilities of runs that held an example out, (N, K)
    learnt: Tensor | None = None  # whether the model ends by predicting the label as given, bool (N,)

    @property
    def values(self) -> Tensor:
        """The score on the CPU, `(N,)`, NaN where not known."""
        return self.scores.values.detach().cpu()

    @cached_property
    def known(self) -> Tensor:
        """Which examples have a score, bool `(N,)`."""
        return ~self.values.isnan()

    @property
    def ends_early(self) -> bool:
        """Whether the score is of a checkpoint before the last."""
        return self.last is not None

    @property
    def num_classes(self) -> int | None:
        """K, where known."""
        return None if self.record is None else self.record.num_classes

    @property
    def has_classes(self) -> bool:
        """Whether each example has one class, so that labels can be suggested; False only where a record says so."""
        return self.record is None or self.record.num_classes is not None

    @property
    def tie(self) -> float | None:
        """The value of the score at which the given label ties with another; None where the score has none."""
        return _TIES.get(self.scores.name)

    @property
    def lead(self) -> Tensor | None:
        """How far the given label is ahead of all others by the score, `(N,)`, 0 at a tie; None without a tie."""
        if self.tie is None:
            return None
        if not self.scores.higher_is_easier:
            return self.tie - self.values
        return self.values - self.tie if self.tie else self.values

    @cached_property
    def may_be_wrong(self) -> Tensor:
        """Which examples have a label that could be wrong: all, where no label is known."""
        labelled = self.given >= 0
        return labelled if bool(labelled.any()) else ~labelled

    @cached_property
    def hardest_first(self) -> Tensor:
        """The examples that have a score, hardest first, ties by the tie breaker and then by a draw."""
        higher, breaker = self.scores.higher_is_easier, self.scores.tie_breaker
        ranked = functional.rank_by_easiness(self.values, higher_is_easier=higher, tie_breaker=breaker, seed=self.seed)
        return ranked.flip(0)

    def easiest(self, chosen: Tensor) -> float:
        """Return the easiest score of the chosen examples; of none, an infinity that no score reaches."""
        values, higher = self.values[chosen], self.scores.higher_is_easier
        if not len(values):
            return -torch.inf if higher else torch.inf
        return float(values.max() if higher else values.min())

    def probabilities_while_learning(self) -> Tensor | None:
        """Return the probabilities, with that of the given label from the time of learning where it was recorded."""
        record, known = self.record, self.probabilities
        if known is None or record is None or self.probabilities_given:
            return known
        if record.series != ONLINE or record.loss_name != "cross_entropy":
            return known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the label score has warned already
            confidence = record.score("weighted_confidence").values.clamp(0, 1)
        return functional.replace_confidence(known, self.given, confidence)

    def with_labels(self, target: Tensor | None) -> "LabelScores":
        """Return the same with `target` where no other label is known, or raise a ValueError for what cannot be."""
        given = self.given if target is None else self._filled_in(torch.as_tensor(target))
        highest, known = int(given.max()) if len(given) else -1, self.probabilities
        is_one = highest >= 0 and not bool(((given != highest) & (given >= 0)).any())
        if self.num_classes == 1 or (is_one and len(given) > 1):
            raise ValueError(
                "find_label_issues needs labels of two classes or more; all are of class "
                f"{max(highest, 0)}: with one class no label can be wrong."
            )
        if not bool(self.known.any()):
            raise ValueError(f"None of {len(given)} labels has a score: none was trained on, or every loss was NaN.")
        if known is not None:
            known = known.detach().cpu()
            if known.ndim != 2 or len(known) != len(given) or self.num_classes not in (None, known.shape[1]):
                raise ValueError(
                    "The `probabilities` of find_label_issues must have shape (N, K) = "
                    f"({len(given)}, {self.num_classes or 'K'}); got {tuple(known.shape)}: give a row for each example."
                )
        return replace(self, given=given, probabilities=known)

    def _filled_in(self, target: Tensor) -> Tensor:
        """Return the labels that were trained on, filled in where only `target` has them."""
        if target.is_floating_point() or target.ndim != 1:
            raise ValueError(
                f"The `target` of find_label_issues must be integers ({len(self.given)},), a label for each example; "
                f"got {target.dtype} {tuple(target.shape)}."
            )
        trained, now = DataIdentity(len(self.given), self.given), DataIdentity.of_target(target)
        way_out = "train again, or give the labels that were trained on."
        trained.check_same(now, "The record", "the `target` of find_label_issues", way_out)
        return trained.merged(now).known_target


@dataclass(frozen=True, kw_only=True)
class SourceReader:
    """A reader of sources, with what the arguments of `find_label_issues` ask of them."""

    score: str | None = None
    checkpoint: int = -1
    probabilities: Tensor | None = None
    level_fields: tuple[str, ...] = ()  # what levels of sample easiness are asked of
    seed: int = 0
    of_protocol: bool = False  # the source is a run of the threshold protocol

    def read(self, source: Source, runs: Sequence[str] | None = None) -> LabelScores:
        """Read a source; `runs` are names of runs in a folder."""
        if isinstance(source, Scores):
            self._check_scores(source)
            return self._label_scores(source, self.probabilities)
        score = self.score or ("area_under_margin" if self.of_protocol else "weighted_area_under_margin")
        if score not in _PROBABILITY_SCORES:
            _check_ranks(score)
        record = self._open(source, score, runs)
        if record.identity.changes:
            raise ValueError(
                f"The targets of series '{record.series}' differ from one epoch to the next, as where they are drawn or"
                " mixed, so that there are no labels to look at: record a training on the labels as they are."
            )
        _warn_of_nan(record, self.checkpoint)
        ends_early = self.checkpoint not in (-1, record.num_checkpoints - 1)
        probabilities = self.probabilities
        if probabilities is None and record.has_probabilities:
            probabilities = record.probabilities()
        if score in _PROBABILITY_SCORES:
            scores = self._score_of_probabilities(record, score, probabilities, ends_early)
        else:
            scores = self._score(record, score)
        return self._label_scores(
            scores,
            probabilities,
            **self._level_scores(source, record, scores, runs),
            record=record,
            last=self.checkpoint % record.num_checkpoints if ends_early else None,
            held_out=record.held_out_probabilities() if record.has_held_out_probabilities else None,
            learnt=_learnt(record),
        )

    def _label_scores(self, scores: Scores, probabilities: Tensor | None, **known: Any) -> LabelScores:
        known |= {"given": scores.target.detach().cpu(), "probabilities_given": self.probabilities is not None}
        return LabelScores(scores=scores, seed=self.seed, probabilities=probabilities, **known)

    def _check_scores(self, scores: Scores) -> None:
        if self.score not in (None, scores.name):
            raise ValueError(
                f"The `record` of find_label_issues is scores of '{scores.name}', but score='{self.score}' was asked "
                "for: leave `score` out, or give the record."
            )
        if scores.name in SCORES:
            _check_ranks(scores.name)
        if self.level_fields:
            raise _no_easiness("Scores hold one score")

    def _open(self, source: Source, score: str, runs: Sequence[str] | None) -> EasinessRecord:
        """Return the record, of a folder the series that suits the score."""
        if isinstance(source, EasinessRecord):
            return _online_series(source, score) if score in ONLINE_ONLY and source.series != ONLINE else source
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(
                "The `record` of find_label_issues must be an EasinessRecord, Scores, the folder that EasinessCallback "
                f"wrote, or a list of such, one per run of the threshold protocol; got {type(source).__name__}."
            )
        path = Path(source)
        if self.of_protocol:
            return EasinessRecord.load(path, ONLINE, runs)
        protocol = protocol_folder(path)
        if protocol is not None:
            raise ValueError(
                f"'{path}' holds runs of the threshold protocol, in which some examples have a class that does not "
                f"exist: call find_label_issues('{protocol}', rule=Threshold())."
            )
        if score in _PROBABILITY_SCORES:  # averaged probabilities are of the training, under the labels trained with
            online_first = self.probabilities is None
        else:
            online_first = get_score(score).per == "trajectory"
        return _open_folder(path, score, *((ONLINE, PROBE) if online_first else (PROBE, ONLINE)))

    def _score(self, record: EasinessRecord, score: str) -> Scores:
        if score in ONLINE_ONLY and "margin" not in record.fields:
            raise ValueError(
                f"The area under the margin needs field 'margin', but series '{record.series}' holds "
                f"{', '.join(record.fields)}: give EasinessCallback the `logits_fn` or `module` that returns logits."
            )
        with warnings.catch_warnings():
            # find_label_issues itself warns, and better, of examples that were never seen
            warnings.filterwarnings("ignore", message=r"\d+ of \d+ examples have no ")
            return record.score(score, self.checkpoint, seed=self.seed)

    def _score_of_probabilities(
        self, record: EasinessRecord, score: str, probabilities: Tensor | None, ends_early: bool
    ) -> Scores:
        function, target = _PROBABILITY_SCORES[score], record.target
        if probabilities is None and record.num_classes is None:
            raise ValueError(
                f"Score '{score}' needs `probabilities` (N, K), which are recorded {NO_CLASSES}: give them, or take "
                "score='area_under_margin'."
            )
        if probabilities is None:
            raise ValueError(
                f"Score '{score}' needs `probabilities` (N, K), and the record holds none: train with "
                "EasinessCallback(probabilities=True), give them, or take score='area_under_margin'."
            )
        spread = None
        if self.probabilities is None:
            if ends_early:
                raise ValueError(
                    f"Score '{score}' is taken from probabilities averaged over all of training; got checkpoint="
                    f"{self.checkpoint}: take -1, or score='area_under_margin', which may end anywhere."
                )
            if record.num_runs > 1:  # a run at a time, as R x N x K may not fit into memory
                alone = (record.select_runs([run]).probabilities() for run in range(record.num_runs))
                spread = torch.stack([function(rows, target) for rows in alone]).std(0)
        return Scores(
            function(probabilities.detach().cpu(), target),
            spread=spread,
            higher_is_easier=True,
            target=target,
            name=score,
            num_runs=record.num_runs,
            fingerprint=record.fingerprint,
            source_index=record.source_index,
            prediction=record.prediction_reader(),
            class_names=record.class_names,
            seed=self.seed,
        )

    def _level_scores(
        self, source: Source, record: EasinessRecord, scores: Scores, runs: Sequence[str] | None
    ) -> dict[str, Tensor]:
        """Return what levels of sample easiness are asked of, at the moment of the score."""
        if not self.level_fields:
            return {}
        found, checkpoint = self._of_easiness(source, record, scores, runs)
        levels = {"easiness": found.score("sample_easiness", checkpoint).values}
        if "weakest_comparison" in self.level_fields:
            levels["weakest_comparison"] = found.score(found.weakest_field, checkpoint).values
        return levels

    def _of_easiness(
        self, source: Source, record: EasinessRecord, scores: Scores, runs: Sequence[str] | None
    ) -> tuple[EasinessRecord, int]:
        """Return the record with sample easiness, itself or of the pass in its folder, and the score's checkpoint."""
        if "sample_easiness" in record.fields:
            return record, self.checkpoint
        if isinstance(source, EasinessRecord) and source is not record:
            probe: EasinessRecord | None = source  # whose runs' online series the score is of
        elif isinstance(source, (EasinessRecord, Scores)):
            raise _no_easiness(f"series '{record.series}' holds {', '.join(record.fields)}")
        else:
            probe = _load(Path(source), PROBE, runs)
        if probe is None:
            raise _no_easiness(f"no run in '{source}' has it")
        if not self.of_protocol and not scores.identity.is_same(probe.identity):
            raise _no_easiness(f"series '{PROBE}' is of other labels than training, as after Keep(labels=...)")
        if self.checkpoint == -1 or scores.step is None:
            return probe, self.checkpoint
        return probe, probe.checkpoint_at(step=scores.step)


def _load(path: Path, series: str, runs: Sequence[str] | None = None) -> EasinessRecord | None:
    with suppress(FileNotFoundError):
        return EasinessRecord.load(path, series, runs)
    return None


def _open_folder(path: Path, score: str, first: str, second: str) -> EasinessRecord:
    """Return the first series, of the labels that were trained on, or where there is none of it, the second."""
    record = _load(path, first)
    if record is None:
        record = _load(path, second) or EasinessRecord.load(path, first)  # which says what is missing
        if score in ONLINE_ONLY:
            raise _not_online(f"no run in '{path}' holds the series '{ONLINE}'", score)
        return record
    trained = _load(path, ONLINE) if first == PROBE else None
    if trained is not None:
        way_out = f"give EasinessRecord.load(path, '{ONLINE}'), or EasinessRecord.load(path, '{PROBE}')."
        trained.identity.check_same(record.identity, f"The training in '{path}'", f"its series '{PROBE}'", way_out)
    return record


def _online_series(record: EasinessRecord, score: str) -> EasinessRecord:
    """Return what the training itself showed of the runs of an evaluation pass."""
    found = None
    if record.series == PROBE:
        with suppress(FileNotFoundError):
            found = record.with_series(ONLINE)
    if found is None:
        raise _not_online(f"this record is of series '{record.series}'", score)
    way_out = f"give EasinessRecord.load(path, '{ONLINE}') or EasinessRecord.load(path, '{PROBE}')."
    found.identity.check_same(record.identity, "The training of these runs", f"their series '{PROBE}'", way_out)
    return found


def _learnt(record: EasinessRecord) -> Tensor | None:
    """Return whether most runs that trained on an example predict its label at their end, bool (N,)."""
    if "correct" not in record.fields:
        return None
    return functional.mean_over_runs(record.field("correct", -1), record.trained_on) > 0.5


def _check_ranks(score: str) -> None:
    if not get_score(score).ranks_difficulty:
        raise ValueError(
            f"The `score` of find_label_issues must rank difficulty, but neither end of '{score}' is hard: take "
            "'area_under_margin'."
        )


def _warn_of_nan(record: EasinessRecord, checkpoint: int) -> None:
    """Warn of a training that has diverged: scores of the whole training would still be those of before."""
    if "loss" not in record.fields:
        return
    lost = record.field("loss", checkpoint).isnan()
    if "count" in record.fields:
        lost &= record.field("count", checkpoint) > 0
    number = int(lost.any(0).sum())
    if number:
        warn_user(
            f"The loss of {number} of {record.num_examples} examples is NaN at the last checkpoint, of series "
            f"'{record.series}': a training has diverged, and scores of the whole training are of the time before."
        )


def _not_online(why: str, score: str) -> ValueError:
    return ValueError(
        f"The area under the margin is taken from training itself, but {why}: EasinessCallback(online=True), its "
        f"default, records it; give EasinessRecord.load(path, '{ONLINE}'), or EasinessRecord.load(path, '{PROBE}')"
        f".score('{score}'), whose margins are those at fixed weights."
    )


def _no_easiness(why: str) -> ValueError:
    return ValueError(
        f"`refine` needs the sample easiness of each example, but {why}: give the folder of runs with an evaluation "
        f"pass, or Refine(easiness=EasinessRecord.load(path, '{PROBE}').score('sample_easiness').values, and its "
        "weakest_comparison=.score('weakest_comparison').values)."
    )
