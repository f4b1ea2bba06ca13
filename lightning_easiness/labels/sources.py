"""What a report on labels is made from: one score an example, from scores, a record or a folder of runs."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, Union

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.experiments.threshold_set import SET_FILE
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import SCORES, Scores, get_score

Source: TypeAlias = Union[Scores, EasinessRecord, str, "os.PathLike[str]"]

ONLINE, PROBE = "train-online", "train-probe"

#: Scores from averaged probabilities: function, and the value at which the given label ties with another, if any.
PROBABILITY_SCORES = {
    "self_confidence": (functional.self_confidence, None),
    "normalized_margin": (functional.normalized_margin, 0.5),
}
_TIES = {"area_under_margin": 0.0, "weighted_area_under_margin": 0.0, "margin": 0.0, "normalized_margin": 0.5}
_ONLINE_ONLY = ("area_under_margin", "weighted_area_under_margin")
_HOW_TO_RECORD = "EasinessCallback(online=True), its default, records it"


@dataclass(frozen=True)
class Suspicion:
    """One score of one series, and what is known of its labels.

    Attributes:
        scores: the score, with its direction, labels and ties.
        num_classes: K, None where not known.
        series: which the score is of; None for scores whose series is not known.
        easiness: sample easiness at the given label `(N,)`, where it was asked for.
        probabilities: averaged over training, `(N, K)`, where they were recorded.
        num_checkpoints: of the series.
        confidence: probability of the given label while the model was learning, `(N,)`, which belongs to
            `probabilities`; None where it was not recorded.
        agreed: whether most runs are right at the last checkpoint, bool `(N,)`; None where that was not recorded.
        learning: index of the last checkpoint at which the model still learnt half as much as ever, by
            `functional.learning_weights`.
    """

    scores: Scores
    num_classes: int | None
    series: str | None
    easiness: Tensor | None
    probabilities: Tensor | None = None
    num_checkpoints: int = 1
    confidence: Tensor | None = None
    agreed: Tensor | None = None
    learning: int | None = None

    def is_last(self, checkpoint: int) -> bool:
        """Whether this index is that of the last checkpoint."""
        return checkpoint in (-1, self.num_checkpoints - 1)


def tie_of(score: str) -> float | None:
    """The value of a score at which the given label ties with another; None where the score has none."""
    return _TIES.get(score)


def check_ranks(score: str) -> None:
    """Raise ValueError for a score that is registered and of which neither end is hard, or for none of that name."""
    if not get_score(score).ranks_difficulty:
        raise ValueError(
            f"The `score` of find_label_issues must rank difficulty, but neither end of '{score}' is hard: take "
            "'area_under_margin'."
        )


def default_score(by_threshold: bool) -> str:
    """The score of a report that names none: of the threshold protocol that of its paper."""
    return "area_under_margin" if by_threshold else "weighted_area_under_margin"


def read_source(
    source: Source,
    score: str | None,
    checkpoint: int,
    *,
    series: str | None,
    probabilities: Tensor | None,
    easiness: Tensor | Literal["read"] | None,
    seed: int,
    by_threshold: bool = False,
) -> Suspicion:
    """Read the score of one source.

    Args:
        source: scores, which are taken as they are; a record; or the folder of runs.
        score: name of a registered score or of one in `PROBABILITY_SCORES`; None for the default, or what the scores
            are.
        checkpoint: index in the series.
        series: of a folder, which to load; None for the one that suits the score.
        probabilities: averaged probabilities `(N, K)`; None to take those of the source, where it has them.
        easiness: sample easiness `(N,)`, "read" to take it from the source, None where it is not needed.
        seed: decides what is left of ties.
        by_threshold: whether the score is for the threshold protocol.

    Raises:
        TypeError: `source` is none of these.
        ValueError: the source does not hold what is needed.
        FileNotFoundError: there is no such folder, or no run in it.
    """
    if isinstance(source, Scores):
        _check_scores(source, asked=score)
        if easiness == "read":
            raise _no_easiness("Scores hold one score")
        return Suspicion(source, None, None, easiness)
    score = default_score(by_threshold) if score is None else score
    if score not in PROBABILITY_SCORES:
        check_ranks(score)
    record = _open(source, score, series, online_first=probabilities is None, by_threshold=by_threshold)
    _warn_of_nan(record, checkpoint)
    scores = _score(record, score, checkpoint, probabilities, seed)
    if isinstance(easiness, str):
        easiness = _easiness(source, record, scores, checkpoint)
    confidence = None
    if probabilities is None and record.has_probabilities:
        probabilities, confidence = record.probabilities(), _confidence(record)
    agreed, learning = _learnt(record)
    return Suspicion(
        scores,
        record.num_classes,
        record.series,
        easiness,
        probabilities,
        record.num_checkpoints,
        confidence,
        agreed,
        learning,
    )


def _learnt(record: EasinessRecord) -> tuple[Tensor | None, int | None]:
    if record.series != ONLINE or "correct" not in record.fields:
        return None, None
    right = [record.field("correct", checkpoint) for checkpoint in range(record.num_checkpoints)]
    weights = functional.learning_weights(torch.stack([rows.float().mean() for rows in right]))
    return right[-1].float().mean(0) > 0.5, int((weights >= weights.max() / 2).nonzero()[-1])


def _confidence(record: EasinessRecord) -> Tensor | None:
    if record.series != ONLINE or record.loss_name != "cross_entropy":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the score itself has told what there is to tell
        return record.score("weighted_confidence").values.clamp(0, 1)


def _check_scores(scores: Scores, *, asked: str | None) -> None:
    if asked is not None and asked != scores.name:
        raise ValueError(
            f"The `record` of find_label_issues is scores of '{scores.name}', but score='{asked}' was asked for: leave "
            "`score` out, or give the record."
        )
    if scores.name in SCORES:
        check_ranks(scores.name)


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


def _open(source: Source, score: str, series: str | None, *, online_first: bool, by_threshold: bool) -> EasinessRecord:
    if isinstance(source, EasinessRecord):
        _check_series(source, score, series)
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "The `record` of find_label_issues must be an EasinessRecord, Scores, the folder that EasinessCallback "
            f"wrote, or a list of such, one a run of the threshold protocol; got {type(source).__name__}."
        )
    path = Path(source)
    _check_no_protocol(path, by_threshold)
    if series is not None:
        return EasinessRecord.load(path, series)
    # averaged probabilities are those of the training, under the labels that were trained with
    online_first = online_first if score in PROBABILITY_SCORES else get_score(score).per == "trajectory"
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
            f"'{ONLINE}': {_HOW_TO_RECORD}; or take series='{PROBE}', whose margins are those at fixed weights."
        )
    return other


def _check_labels_of_probe(path: Path, record: EasinessRecord) -> None:
    """See to it that a probe tells of the labels that were trained on, where those are known."""
    if record.series != PROBE:
        return
    try:
        trained = EasinessRecord.load(path, ONLINE).target
    except FileNotFoundError:
        return
    differ = int(((record.target >= 0) & (trained >= 0) & (record.target != trained)).sum())
    if differ:
        raise ValueError(
            f"Series '{PROBE}' in '{path}' is of other labels than training for {differ} examples, as after "
            f"Keep(labels=...): take series='{ONLINE}', which is of those that were trained on, or series='{PROBE}'."
        )


def _check_no_protocol(path: Path, by_threshold: bool) -> None:
    """See to it that a class that does not exist is not taken for a real one."""
    whole = (path / "half-0").is_dir()
    if whole or ((path / SET_FILE).exists() and not by_threshold):
        folder = path if whole else path.parent
        raise ValueError(
            f"'{path}' holds runs of the threshold protocol, in which some examples have a class that does not exist: "
            f"call find_threshold_issues('{folder}'), or lightning-easiness issues with --rule threshold."
        )


def _check_series(record: EasinessRecord, score: str, series: str | None) -> None:
    wanted = ONLINE if series is None and score in _ONLINE_ONLY else series
    if wanted is None or record.series == wanted:
        return
    if series is not None:
        raise ValueError(
            f"The `record` of find_label_issues is of series '{record.series}', but series='{series}' was asked for: "
            "load that one."
        )
    raise ValueError(
        f"The area under the margin is taken from training itself, but this record is of series '{record.series}': "
        f"give EasinessRecord.load(path, '{ONLINE}') ({_HOW_TO_RECORD}), or series='{record.series}' to take its "
        "margins all the same."
    )


def _score(record: EasinessRecord, score: str, checkpoint: int, probabilities: Tensor | None, seed: int) -> Scores:
    if score in PROBABILITY_SCORES:
        return _score_of_probabilities(record, score, checkpoint, probabilities, seed)
    if score in _ONLINE_ONLY and record.series == ONLINE and "margin" not in record.fields:
        raise ValueError(
            f"The area under the margin needs field 'margin', but series '{ONLINE}' holds {', '.join(record.fields)}: "
            "the margin is recorded where EasinessCallback sees logits (N, K); see its `logits_fn` and `module`."
        )
    with warnings.catch_warnings():
        # The report says itself, and better, which examples were never seen.
        warnings.filterwarnings("ignore", message=r"\d+ of \d+ examples have no ")
        return record.score(score, checkpoint, seed=seed)


def _score_of_probabilities(
    record: EasinessRecord, score: str, checkpoint: int, probabilities: Tensor | None, seed: int
) -> Scores:
    function, _ = PROBABILITY_SCORES[score]
    target = record.target
    if probabilities is None:
        _check_recorded(record, score, checkpoint)
        values = function(record.probabilities(), target)
        # a run at a time, as R x N x K may not fit into memory
        alone = [function(record.select_runs([run]).probabilities(), target) for run in range(record.num_runs)]
    else:
        values = function(probabilities.detach().cpu(), target)
        alone = [values]
    return Scores(
        values=values,
        spread=torch.stack(alone).std(0) if len(alone) > 1 else None,
        higher_is_easier=True,
        target=target,
        name=score,
        num_runs=record.num_runs,
        fingerprint=record.fingerprint,
        seed=seed,
    )


def _check_recorded(record: EasinessRecord, score: str, checkpoint: int) -> None:
    if not record.has_probabilities:
        raise ValueError(
            f"Score '{score}' needs `probabilities`, averaged over training or out of sample, (N, K), and the record "
            "holds none: train with EasinessCallback(probabilities=True), give them, or take "
            "score='area_under_margin'."
        )
    if checkpoint not in (-1, record.num_checkpoints - 1):
        raise ValueError(
            f"Score '{score}' is taken from probabilities averaged over all of training; got checkpoint={checkpoint}: "
            "take -1, or score='area_under_margin', which may end anywhere."
        )


def _easiness(
    source: EasinessRecord | str | os.PathLike[str], record: EasinessRecord, scores: Scores, checkpoint: int
) -> Tensor:
    """Sample easiness at the moment of the score: of the record itself, or of the probe in the same folder."""
    if "sample_easiness" in record.fields:
        return record.score("sample_easiness", checkpoint).values
    if isinstance(source, EasinessRecord):
        raise _no_easiness(f"series '{record.series}' holds {', '.join(record.fields)}")
    try:
        probe = EasinessRecord.load(Path(source), PROBE)
    except FileNotFoundError as error:
        raise _no_easiness(str(error).rstrip(".")) from None
    differ = int(((probe.target >= 0) & (scores.target >= 0) & (probe.target != scores.target)).sum())
    if differ:
        raise _no_easiness(
            f"series '{PROBE}' is of other labels than training for {differ} examples, as after Keep(labels=...)"
        )
    last = checkpoint == -1 or scores.step is None
    index = checkpoint if last else probe.checkpoint_at(step=scores.step)
    return probe.score("sample_easiness", index).values


def _no_easiness(why: str) -> ValueError:
    return ValueError(
        f"`refine` needs the sample easiness of each example, but {why}: give "
        f"easiness=EasinessRecord.load(path).score('sample_easiness').values, of series '{PROBE}'."
    )
