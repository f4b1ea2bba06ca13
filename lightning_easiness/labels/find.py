"""`find_label_issues`: which labels are probably wrong, as a table with the most suspicious first."""

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Literal

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness.labels.rules import Verdict, contradicted, easiest_of, exactly, judge, more_wrong
from lightning_easiness.labels.sources import (
    Source,
    Suspicion,
    read_source,
    tie_of,
)
from lightning_easiness.labels.table import LabelIssues
from lightning_easiness.labels.threshold_rule import judge_thresholds, judged_scores, mean_over_judges
from lightning_easiness.labels.warnings import (
    check_any,
    warn_of_classes,
    warn_of_labels_learnt_by_heart,
    warn_of_what_was_not_judged,
)
from lightning_easiness.scores import Scores

__all__ = ["LabelIssues", "find_label_issues"]


def find_label_issues(
    record: Source | Sequence[Source],
    score: str | None = None,
    *,
    rule: Literal["confident", "mixture", "gap", "threshold"] | float | None = None,
    checkpoint: int = -1,
    probabilities: Tensor | None = None,
    threshold_indices: Tensor | Sequence[Tensor] | None = None,
    percentile: float = 99.0,
    num_suspects: int | None = None,
    refine: Literal["easy", "hard"] | bool | None = None,
    easiness: Tensor | None = None,
    tol: float = 5e-4,
    target: Tensor | None = None,
    series: str | None = None,
    seed: int = 0,
) -> LabelIssues:
    """Find the labels that are probably wrong, from what was recorded in training.

    The rules, each with what it assumes:

    - "confident": as many are called wrong as averaged probabilities contradict by confident learning, the hardest by
      the score; see `functional.estimate_wrong_share`. No second training, nothing assumed of the score's distribution.
      Where score and probabilities are of the online record, the probability of the given label is that of the time of
      learning; see `functional.replace_confidence`. What the model itself confuses is counted as wrong: of a weak model
      too many are flagged, and few of one that soon learns wrong labels by heart, of which a `UserWarning` tells.
    - "mixture": wrong labels are the harder of two Gaussian bells; see `functional.split_by_mixture`. No second
      training. Too many are flagged where clean examples are skewed towards hard.
    - "gap": two groups of similar spread and not too unequal size; see `functional.split_by_gap`.
    - "threshold": wrong labels look like examples that were given a class that does not exist. Needs a run, or two,
      trained with `functional.threshold_examples`; assumes nothing of the score's distribution.
    - a share of the judged examples, such as 0.05: the hardest of them, exactly as many.

    By the first three rules a label that the model preferred to all others is never called wrong: no area under
    the margin (or margin) above 0, and no normalized margin above 0.5.

    Args:
        record: a record; scores; the folder that EasinessCallback wrote, of which the online series is taken for scores
            of the whole training, such as the area under the margin, and else the probe; or for `rule="threshold"` a
            list of such, one for each run of the protocol.
        score: name of a registered score that ranks difficulty; or "self_confidence" or "normalized_margin", which are
            taken from averaged probabilities: `probabilities`, or those of the record. None for what the given
            scores are, "area_under_margin" by the threshold rule, and else "weighted_area_under_margin", which also
            stands a training that goes on until wrong labels are learnt by heart.
        rule: see above; None for that of "confident" and "mixture" which calls more labels wrong, as each misses where
            the other sees: the first what was learnt by heart, the second a group that overlaps with the rest. It is
            "confident" alone for a score that has no value at which the given label ties with another, and "mixture"
            where no averaged probabilities are known.
        checkpoint: index in the record; scores of the whole training end there. For a window that begins later give
            `record.score(score, checkpoint, first=...)`, with `probabilities=record.probabilities()`.
        probabilities: averaged over training or runs, or out of sample, floating point `(N, K)`: for suggested labels
            and other tools. With a last column for the threshold class, that is taken out. By default those of the
            record, where EasinessCallback(probabilities=True) wrote them; none for scores.
        threshold_indices: for "threshold": the examples that were given the class that does not exist, of each run.
        percentile: for "threshold": of the scores of the threshold examples.
        num_suspects: call exactly so many wrong, the hardest, whatever `rule` says; its estimate stays.
        refine: AUM-SE: keep a flag only where sample easiness at the given label is "hard", which True is too, or
            "easy"; see `functional.refine_by_sample_easiness`.
        easiness: sample easiness at the given label `(N,)`, for `refine`; by default that of the record, or of the
            probe in the folder.
        tol: for `refine`.
        target: labels as they are now, integers `(N,)`, -1 where not known: compared with those that were trained on.
        series: of a folder, which to take; of a record, that its margins are meant though they are not online.
        seed: decides what is left of ties.

    Returns:
        The table. Examples that were never seen, had losses of NaN, or were threshold examples in each run, are in its
        `unseen` alone, and a `UserWarning` says how many. Another one names classes of which most is called wrong,
        which may be rare or hard ones instead.

    Raises:
        TypeError: `record` is of another type.
        ValueError: the record lacks what is asked for, as online margins; there is one class; no example has a score;
            labels have changed since they were trained on; the threshold class is a real one; or an argument is out of
            range.

    Example:
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> scores = Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3, name="area_under_margin")
        >>> find_label_issues(scores, rule=0.05).flagged
        tensor([60, 61, 62, 63])
    """
    rule = float(rule) if isinstance(rule, Real) else rule
    refine = ("hard" if refine else None) if isinstance(refine, bool) else refine
    check_choices(rule, num_suspects, refine)
    probabilities = None if probabilities is None else torch.as_tensor(probabilities)
    by_threshold = rule == "threshold"
    wanted: Tensor | Literal["read"] | None = None
    if refine is not None:
        wanted = "read" if easiness is None else easiness
    sources = [record] if isinstance(record, (str, os.PathLike)) or not isinstance(record, Sequence) else list(record)
    found = [
        read_source(
            source,
            score,
            checkpoint,
            series=series,
            probabilities=probabilities,
            easiness=wanted,
            seed=seed,
            by_threshold=by_threshold,
        )
        for source in sources
    ]
    if len(found) == 0 or (len(found) > 1 and not by_threshold):
        raise ValueError(
            f"The `record` of find_label_issues must be one, but for rule='threshold'; got {len(found)}: put runs into "
            "one with EasinessRecord.merge()."
        )
    scores, classes = found[0].scores, _num_classes(found, by_threshold)
    protocol = judge_thresholds(found, threshold_indices, percentile) if by_threshold else None
    given = _current_target(scores.target if protocol is None else protocol.given, target)
    _check_classes(given, classes)
    check_any(scores.values)
    known = opposed = _known_probabilities(probabilities, found, len(given), classes, protocol)
    if protocol is not None:
        verdict = replace(protocol, given=given)
        scores = judged_scores(found, verdict)
    else:
        rules = _rules(rule, known, given, found[0], None if probabilities is not None else checkpoint)
        learning = found[0].confidence
        if known is not None and learning is not None:
            opposed = functional.replace_confidence(known, given, learning)
        tie = tie_of(scores.name)
        verdict = more_wrong([judge(scores, given, one, opposed, tie, seed) for one in rules])
        verdict = replace(verdict, explanation=verdict.explanation + contradicted(verdict, tie))
        if rule is None:
            warn_of_labels_learnt_by_heart(verdict, tie, found[0].agreed, found[0].learning)
    if num_suspects is not None:
        verdict = exactly(verdict, num_suspects, scores.tie_breaker, seed)
    if refine is not None:
        verdict = _refined(verdict, found, refine, tol)
    warn_of_what_was_not_judged(verdict)
    warn_of_classes(verdict)
    return _table(verdict, scores, known, seed)


def _rules(
    rule: str | float | None, known: Tensor | None, given: Tensor, source: Suspicion, checkpoint: int | None
) -> tuple[str | float, ...]:
    """The rule that was asked for, or the default ones; `checkpoint` is None where probabilities were given."""
    whole = checkpoint is None or source.is_last(checkpoint)
    if rule is None:
        labelled = (given >= 0) & ~source.scores.values.isnan()
        if known is None or not whole or not bool(labelled.any()):
            return ("mixture",)
        # without a limit a mixture may call most labels wrong, where the model knows little yet
        return ("confident",) if tie_of(source.scores.name) is None else ("confident", "mixture")
    if rule == "confident" and known is not None and not whole:
        raise ValueError(
            "rule='confident' takes the recorded probabilities, which are averaged over all of training; got "
            f"checkpoint={checkpoint}: take -1, give `probabilities`, or take rule='mixture'."
        )
    return (rule,)


def check_choices(rule: object, num_suspects: int | None, refine: str | bool | None) -> None:
    """See to it that these arguments of `find_label_issues` are possible.

    Raises:
        ValueError: one is not.
    """
    is_share = isinstance(rule, float) and 0 < rule < 1
    if not is_share and rule not in (None, "confident", "mixture", "gap", "threshold"):
        raise ValueError(
            "The `rule` of find_label_issues must be 'confident', 'mixture', 'gap', 'threshold', a share in (0, 1), or "
            f"None; got {rule!r}."
        )
    if num_suspects is not None and (not isinstance(num_suspects, Integral) or num_suspects < 0):
        raise ValueError(
            f"The `num_suspects` of find_label_issues must be an integer of at least 0; got {num_suspects!r}: a share "
            "is given as `rule`."
        )
    if refine not in (None, False, True, "easy", "hard"):
        raise ValueError(
            f"The `refine` of find_label_issues must be 'easy', 'hard', True, False or None; got {refine!r}."
        )


def _num_classes(found: Sequence[Suspicion], by_threshold: bool) -> int | None:
    known = next((suspicion.num_classes for suspicion in found if suspicion.num_classes), None)
    return known - 1 if known is not None and by_threshold else known


def _check_classes(given: Tensor, num_classes: int | None) -> None:
    labels = given[given >= 0]
    one = len(given) > 1 and len(labels) > 0 and int(labels.min()) == int(labels.max())
    if num_classes == 1 or one:
        raise ValueError(
            "find_label_issues needs labels of two classes or more; all are of class "
            f"{int(labels[0]) if one else 0}: of one class no label is wrong."
        )


def _current_target(given: Tensor, target: Tensor | None) -> Tensor:
    """The labels that were trained on, filled in where only `target` knows them."""
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


def _known_probabilities(
    probabilities: Tensor | None,
    found: Sequence[Suspicion],
    number: int,
    num_classes: int | None,
    protocol: Verdict | None,
) -> Tensor | None:
    """The averaged probabilities that were given, or those of the records that judge an example; None without."""
    by_threshold = protocol is not None
    if probabilities is not None:
        return _probabilities(probabilities, number, num_classes, by_threshold)
    rows = [suspicion.probabilities for suspicion in found if suspicion.probabilities is not None]
    if len(rows) < len(found):
        return None
    if protocol is None:
        return _probabilities(rows[0], number, num_classes, by_threshold)
    # a run has learnt that its own threshold examples are of no class
    return mean_over_judges(rows, protocol.judges, num_classes)


def _probabilities(probabilities: Tensor, number: int, num_classes: int | None, by_threshold: bool) -> Tensor:
    """The averaged probabilities of the real classes, on the CPU."""
    known: Tensor = probabilities.detach().cpu()
    if by_threshold and num_classes is not None and known.shape[1:] == (num_classes + 1,):
        known = known[:, :-1] / known[:, :-1].sum(1, keepdim=True)
    if known.ndim != 2 or len(known) != number or num_classes not in (None, known.shape[1]):
        raise ValueError(
            f"The `probabilities` of find_label_issues must have shape (N, K) = ({number}, {num_classes or 'K'}); got "
            f"{tuple(known.shape)}: give a row for each example of the data set."
        )
    return known


def _refined(verdict: Verdict, found: Sequence[Suspicion], reading: Literal["easy", "hard"], tol: float) -> Verdict:
    """The verdict with fewer flags, by sample easiness at the given label in the runs that judge an example."""
    rows = [suspicion.easiness for suspicion in found if suspicion.easiness is not None]
    for row in rows:
        if row.shape != verdict.given.shape:
            raise ValueError(
                f"The `easiness` of find_label_issues must have shape ({len(verdict.given)},), a value for each "
                f"example that was recorded; got {tuple(row.shape)}."
            )
    stacked = torch.stack([row.detach().cpu() for row in rows])
    easiness = stacked.masked_fill(~verdict.judges, torch.nan).nanmean(0)
    flagged = functional.refine_by_sample_easiness(verdict.flagged, easiness, reading, tol)
    called = verdict.score[flagged]
    return replace(
        verdict,
        flagged=flagged,
        threshold=easiest_of(called, verdict.higher_is_easier),
        explanation=f"{verdict.explanation} Of {int(verdict.flagged.sum())} flags {int(flagged.sum())} are left, where "
        f"sample easiness at the given label is {reading}.",
    )


def _table(verdict: Verdict, scores: Scores, probabilities: Tensor | None, seed: int) -> LabelIssues:
    order = verdict.hardest_first(scores.tie_breaker, seed)
    # Stable: what the refinement calls clean comes after what it leaves, each by score.
    order = order[(~verdict.flagged[order]).long().argsort(stable=True)]
    given = verdict.given
    suggested = torch.full_like(given, -1)
    if probabilities is not None:
        suggested = functional.suggest_labels(probabilities, given)
    return LabelIssues(
        index=order,
        given=given[order],
        suggested=suggested[order],
        score=verdict.score[order],
        spread=verdict.spread[order],
        posterior=verdict.posterior[order],
        is_issue=verdict.flagged[order],
        unseen=verdict.score.isnan().nonzero()[:, 0],
        threshold=verdict.threshold,
        rule=verdict.rule,
        estimated_share=verdict.share,
        score_name=scores.name,
        higher_is_easier=scores.higher_is_easier,
        num_examples=len(given),
        explanation=f"{scores!r}. {verdict.explanation}",
        probabilities=probabilities,
        fingerprint=scores.fingerprint,
    )
