"""What label errors are found from: a score per example, read from scores, a record or a folder of runs."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, Union

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.experiments._halves import protocol_folder
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores, get_score

Source: TypeAlias = Union[Scores, EasinessRecord, str, "os.PathLike[str]"]

ONLINE, PROBE = "train-online", "train-probe"

_PROBABILITY_SCORES = {
    "self_confidence": functional.self_confidence,
    "normalized_margin": functional.normalized_margin,
}
_TIES = {"area_under_margin": 0.0, "weighted_area_under_margin": 0.0, "margin": 0.0, "normalized_margin": 0.5}
_ONLINE_ONLY = ("area_under_margin", "weighted_area_under_margin")
_HOW_TO_RECORD = "EasinessCallback(online=True), its default, records it"


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """A label score per example, and what else is known about the labels.

    Attributes:
        scores: the label score.
        given: the labels, int64 `(N,)`, -1 where not known.
        seed: decides what is left of ties.
        num_classes: K, None where not known.
        probabilities: averaged over training, `(N, K)`, where known.
        easiness: sample easiness at the given label `(N,)`, where it was asked for.
        record: the record that the score is of; None for scores.
        probabilities_given: whether the user gave `probabilities`; else they are those of the record.
        ends_early: whether the score is of a checkpoint before the last.
    """

    scores: Scores
    given: Tensor
    seed: int = 0
    num_classes: int | None = None
    probabilities: Tensor | None = None
    easiness: Tensor | None = None
    record: EasinessRecord | None = None
    probabilities_given: bool = False
    ends_early: bool = False

    @property
    def values(self) -> Tensor:
        """The score on the CPU, `(N,)`, NaN where not known."""
        return self.scores.values.detach().cpu()

    @property
    def known(self) -> Tensor:
        """Which examples have a score, bool `(N,)`."""
        return ~self.values.isnan()

    @property
    def tie(self) -> float | None:
        """The value of the score at which the given label ties with another; None where the score has none."""
        return _TIES.get(self.scores.name)

    @property
    def lead(self) -> Tensor | None:
        """How far the given label is ahead of all others by the score, `(N,)`, 0 at a tie; None without a tie."""
        if self.tie is None:
            return None
        return self.values - self.tie if self.scores.higher_is_easier else self.tie - self.values

    @property
    def may_be_wrong(self) -> Tensor:
        """Which examples have a label that could be wrong: all, where no label is known."""
        labelled = self.given >= 0
        return labelled if bool(labelled.any()) else ~labelled

    def hardest_first(self) -> Tensor:
        """Return the examples that have a score, hardest first, ties by the tie breaker and then by a draw."""
        higher, breaker = self.scores.higher_is_easier, self.scores.tie_breaker
        return functional.rank_by_easiness(
            self.values, higher_is_easier=higher, tie_breaker=breaker, seed=self.seed
        ).flip(0)

    def easiest(self, chosen: Tensor) -> float:
        """Return the easiest score of the chosen examples; of none, an infinity that no score reaches."""
        values, higher = self.values[chosen], self.scores.higher_is_easier
        if len(values) == 0:
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
        """Return the same with the labels of `target` where no other is known, checked and on the CPU.

        Raises:
            ValueError: Labels have changed since training, there is one class, or no example has a score.
        """
        given = _filled_in(self.given, target)
        _check_classes(given, self.num_classes)
        if not bool(self.known.any()):
            raise ValueError(
                f"None of {len(given)} labels has a score: training saw no example under its own label, or every "
                "loss was NaN."
            )
        probabilities = self.probabilities
        if probabilities is not None:
            probabilities = probabilities.detach().cpu()
            shape, classes = probabilities.shape, self.num_classes
            if probabilities.ndim != 2 or len(probabilities) != len(given) or classes not in (None, shape[1]):
                raise ValueError(
                    "The `probabilities` of find_label_issues must have shape (N, K) = "
                    f"({len(given)}, {classes or 'K'}); got {tuple(shape)}: give a row for each example."
                )
        return replace(self, given=given, probabilities=probabilities)


def _filled_in(given: Tensor, target: Tensor | None) -> Tensor:
    """Return the labels that were trained on, filled in where only `target` has them."""
    if target is None:
        return given
    now = torch.as_tensor(target).detach().cpu()
    if now.shape != given.shape or now.is_floating_point():
        raise ValueError(
            f"The `target` of find_label_issues must be integers ({len(given)},), a label for each example that was "
            f"recorded; got {now.dtype} {tuple(now.shape)}: is this another data set?"
        )
    now = now.long().clamp(min=-1)
    changed = ((given >= 0) & (now >= 0) & (given != now)).nonzero()[:, 0]
    if len(changed):
        first = int(changed[0])
        raise ValueError(
            f"{len(changed)} of {len(given)} labels are not those that were trained on: example {first} has the label "
            f"{int(now[first])} now and {int(given[first])} in the record; train again, or give the labels of then."
        )
    return torch.where(given >= 0, given, now)


def _check_classes(given: Tensor, num_classes: int | None) -> None:
    labels = given[given >= 0]
    one = len(given) > 1 and len(labels) > 0 and int(labels.min()) == int(labels.max())
    if num_classes == 1 or one:
        raise ValueError(
            "find_label_issues needs labels of two classes or more; all are of class "
            f"{int(labels[0]) if one else 0}: of one class no label is wrong."
        )


@dataclass(frozen=True, kw_only=True)
class SourceReader:
    """What is asked of a source, as the arguments of `find_label_issues` say it.

    Attributes:
        score: name of the score; None for the default, or what the given scores are.
        checkpoint: index in the series.
        probabilities: averaged probabilities `(N, K)`; None to take those of the source, where it has them.
        needs_easiness: whether sample easiness is to be read.
        seed: decides what is left of ties.
        of_protocol: whether the source is a run of the threshold protocol.
    """

    score: str | None = None
    checkpoint: int = -1
    probabilities: Tensor | None = None
    needs_easiness: bool = False
    seed: int = 0
    of_protocol: bool = False

    def read(self, source: Source, runs: Iterable[str] | None = None) -> LabelScores:
        """Read a source; `runs` are names of runs in a folder.

        Raises:
            TypeError: The source is none of `Source`.
            ValueError: It does not have what is needed.
            FileNotFoundError: There is no such folder, or no run in it.
        """
        if isinstance(source, Scores):
            self._check_scores(source)
            if self.needs_easiness:
                raise _no_easiness("Scores hold one score")
            return self._found(source, probabilities=self.probabilities)
        score = self.score or ("area_under_margin" if self.of_protocol else "weighted_area_under_margin")
        if score not in _PROBABILITY_SCORES:
            _check_ranks(score)
        runs = None if runs is None else list(runs)
        record = self._open(source, score, runs)
        _warn_of_nan(record, self.checkpoint)
        scores = self._score(record, score)
        easiness = self._easiness(source, record, scores, runs) if self.needs_easiness else None
        probabilities = self.probabilities
        if probabilities is None and record.has_probabilities:
            probabilities = record.probabilities()
        return self._found(
            scores,
            num_classes=record.num_classes,
            probabilities=probabilities,
            easiness=easiness,
            record=record,
            ends_early=self._ends_early(record),
        )

    def _found(self, scores: Scores, **known: object) -> LabelScores:
        given = scores.target.detach().cpu()
        is_given = self.probabilities is not None
        return LabelScores(scores=scores, given=given, seed=self.seed, probabilities_given=is_given, **known)  # type: ignore[arg-type]

    def _ends_early(self, record: EasinessRecord) -> bool:
        return self.checkpoint not in (-1, record.num_checkpoints - 1)

    def _check_scores(self, scores: Scores) -> None:
        if self.score not in (None, scores.name):
            raise ValueError(
                f"The `record` of find_label_issues is scores of '{scores.name}', but score='{self.score}' was asked "
                "for: leave `score` out, or give the record."
            )
        if scores.name in SCORES:
            _check_ranks(scores.name)

    # ------------------------------------------------------------------ the series

    def _open(self, source: Source, score: str, runs: list[str] | None) -> EasinessRecord:
        """Return the record, of a folder the series that suits the score."""
        if isinstance(source, EasinessRecord):
            if score in _ONLINE_ONLY and source.series != ONLINE:
                raise ValueError(
                    f"The area under the margin is taken from training itself, but this record is of series "
                    f"'{source.series}': give EasinessRecord.load(path, '{ONLINE}') ({_HOW_TO_RECORD}), or "
                    f"record.score('{score}') to take its margins all the same."
                )
            return source
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
                f"exist: call find_label_issues('{protocol}', rule=Threshold()), or lightning-easiness issues with "
                "--rule threshold."
            )
        return self._open_folder(path, score)

    def _open_folder(self, path: Path, score: str) -> EasinessRecord:
        if score in _PROBABILITY_SCORES:  # averaged probabilities are of the training, under the labels trained with
            online_first = self.probabilities is None
        else:
            online_first = get_score(score).per == "trajectory"
        first, second = (ONLINE, PROBE) if online_first else (PROBE, ONLINE)
        try:
            record = EasinessRecord.load(path, first)
            _check_labels_of_probe(path, record)
            return record
        except FileNotFoundError as error:
            try:
                other = EasinessRecord.load(path, second)
            except FileNotFoundError:
                raise error from None
        if score in _ONLINE_ONLY:
            raise ValueError(
                f"The area under the margin is taken from training itself, but no run in '{path}' holds the series "
                f"'{ONLINE}': {_HOW_TO_RECORD}; or give EasinessRecord.load(path, '{PROBE}').score('{score}'), whose "
                "margins are those at fixed weights."
            )
        return other

    # ------------------------------------------------------------------ the score and sample easiness

    def _score(self, record: EasinessRecord, score: str) -> Scores:
        if score in _PROBABILITY_SCORES:
            return self._score_of_probabilities(record, score)
        if score in _ONLINE_ONLY and "margin" not in record.fields:
            raise ValueError(
                f"The area under the margin needs field 'margin', but series '{record.series}' holds "
                f"{', '.join(record.fields)}: the margin is recorded where EasinessCallback sees logits (N, K); see "
                "its `logits_fn` and `module`."
            )
        with warnings.catch_warnings():
            # find_label_issues itself warns, and better, of examples that were never seen
            warnings.filterwarnings("ignore", message=r"\d+ of \d+ examples have no ")
            return record.score(score, self.checkpoint, seed=self.seed)

    def _score_of_probabilities(self, record: EasinessRecord, score: str) -> Scores:
        function, target = _PROBABILITY_SCORES[score], record.target
        if self.probabilities is not None:
            values = function(self.probabilities.detach().cpu(), target)
            alone = [values]
        else:
            self._check_probabilities(record, score)
            values = function(record.probabilities(), target)
            # a run at a time, as R x N x K may not fit into memory
            alone = [function(record.select_runs([run]).probabilities(), target) for run in range(record.num_runs)]
        return Scores(
            values=values,
            spread=torch.stack(alone).std(0) if len(alone) > 1 else None,
            higher_is_easier=True,
            target=target,
            name=score,
            num_runs=record.num_runs,
            fingerprint=record.fingerprint,
            seed=self.seed,
        )

    def _check_probabilities(self, record: EasinessRecord, score: str) -> None:
        if not record.has_probabilities:
            raise ValueError(
                f"Score '{score}' needs `probabilities`, averaged over training or out of sample, (N, K), and the "
                "record holds none: train with EasinessCallback(probabilities=True), give them, or take "
                "score='area_under_margin'."
            )
        if self._ends_early(record):
            raise ValueError(
                f"Score '{score}' is taken from probabilities averaged over all of training; got checkpoint="
                f"{self.checkpoint}: take -1, or score='area_under_margin', which may end anywhere."
            )

    def _easiness(self, source: Source, record: EasinessRecord, scores: Scores, runs: list[str] | None) -> Tensor:
        """Return sample easiness at the moment of the score: of the record itself, or of the pass in its folder."""
        if "sample_easiness" in record.fields:
            return record.score("sample_easiness", self.checkpoint).values
        if isinstance(source, (EasinessRecord, Scores)):
            raise _no_easiness(f"series '{record.series}' holds {', '.join(record.fields)}")
        try:
            probe = EasinessRecord.load(Path(source), PROBE, runs)
        except (FileNotFoundError, ValueError) as error:
            raise _no_easiness(str(error).rstrip(".")) from None
        differ = 0 if self.of_protocol else _num_different(probe.target, scores.target)
        if differ:
            raise _no_easiness(
                f"series '{PROBE}' is of other labels than training for {differ} examples, as after Keep(labels=...)"
            )
        last = self.checkpoint == -1 or scores.step is None
        index = self.checkpoint if last else probe.checkpoint_at(step=scores.step)
        return probe.score("sample_easiness", index).values


def _check_ranks(score: str) -> None:
    if not get_score(score).ranks_difficulty:
        raise ValueError(
            f"The `score` of find_label_issues must rank difficulty, but neither end of '{score}' is hard: take "
            "'area_under_margin'."
        )


def _num_different(one: Tensor, other: Tensor) -> int:
    return int(((one >= 0) & (other >= 0) & (one != other)).sum())


def _check_labels_of_probe(path: Path, record: EasinessRecord) -> None:
    """Raise a ValueError where an evaluation pass is of other labels than those that were trained on."""
    if record.series != PROBE:
        return
    try:
        trained = EasinessRecord.load(path, ONLINE).target
    except FileNotFoundError:
        return
    differ = _num_different(record.target, trained)
    if differ:
        raise ValueError(
            f"Series '{PROBE}' in '{path}' is of other labels than training for {differ} examples, as after "
            f"Keep(labels=...): give EasinessRecord.load(path, '{ONLINE}'), which is of those that were trained on, or "
            f"EasinessRecord.load(path, '{PROBE}')."
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
            f"The loss of {number} of {record.num_examples} examples is NaN at the last checkpoint of the report, of "
            f"series '{record.series}': the training has diverged, or one of several, and scores of the whole training "
            "are of the time before."
        )


def _no_easiness(why: str) -> ValueError:
    return ValueError(
        f"`refine` needs the sample easiness of each example, but {why}: give the folder of runs with an evaluation "
        f"pass, or Refine(easiness=EasinessRecord.load(path, '{PROBE}').score('sample_easiness').values)."
    )
