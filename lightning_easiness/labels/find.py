"""`find_label_issues`: a table of probable label errors, most suspicious first."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_easiness import functional
from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness.experiments.halves import complete_runs, half_folders, protocol_folder
from lightning_easiness.labels.counted import Contradicted, HeldOut, why_not_held_out
from lightning_easiness.labels.rules import Confident, Decision, Gap, Mixture, Refine, Rule, Threshold
from lightning_easiness.labels.sources import ONLINE_ONLY, LabelScores, Source, SourceReader
from lightning_easiness.labels.table import LabelIssues
from lightning_easiness.labels.threshold import are_of_protocol, combine_runs
from lightning_easiness.labels.warnings import warn_of_classes, warn_of_memorised_labels, warn_of_unknown_scores

#: The rules that need no argument, by name.
RULES: dict[str, Callable[..., Rule]] = {
    each.name: each for each in (HeldOut, Threshold, Contradicted, Confident, Mixture, Gap)
}


@refuse_renamed(
    "find_label_issues",
    num_suspects="give `rule=Hardest(50)`, a number of examples",
    percentile="give `rule=Threshold(percentile=99)`",
    threshold_indices="they are the examples that the records have under the last class: leave it out",
    easiness="give `refine=Refine(easiness=...)`",
    tol="give `refine=Refine(tol=...)`",
    series="give EasinessRecord.load(path, series) as `record`, or its score(...)",
)
def find_label_issues(
    record: Source | Sequence[Source],
    rule: Rule | None = None,
    *,
    score: str | None = None,
    checkpoint: int = -1,
    probabilities: Tensor | None = None,
    target: Tensor | None = None,
    refine: Refine | None = None,
    seed: int = 0,
) -> LabelIssues:
    """Find probable label errors from the training record.

    Each rule states its assumption: `HeldOut()`, `Threshold()`, `Contradicted()`, `Confident()`, `Mixture()`, `Gap()`,
    and `Hardest(0.05)` or `Hardest(50)`, which flags exactly the given number. `Confident`, `Mixture` and `Gap` never
    flag a label that the model preferred to all others: no example with an area under the margin (or margin) above 0,
    or with a normalized margin above 0.5.

    Args:
        record: A record, such as `repeat_fit` returns; scores; the folder that EasinessCallback wrote (scores of the
            whole training, such as the area under the margin, use the online series of a record or folder, others the
            evaluation pass); or the folder that ThresholdRuns wrote, or a list of records or folders, one per run of
            the protocol.
        rule: None for what can be trusted most: `HeldOut()` where runs held labels out (`repeat_fit(...,
            hold_out="folds")`), `Threshold()` for the runs of ThresholdRuns, and else `Contradicted()`. Where they
            cannot tell, nothing is flagged, and `explanation` says so.
        score: Name of a registered score that ranks difficulty; or "self_confidence" or "normalized_margin", which are
            computed from averaged probabilities: `probabilities`, or those of the record. None for the given scores
            themselves, for "area_under_margin" with the threshold rule, and else for "weighted_area_under_margin",
            which also works if training continues until label errors are memorised.
        checkpoint: Index in the record; scores of the whole training end there. For a later start give
            `record.score(score, checkpoint, first=...)`, with `probabilities=record.probabilities()`.
        probabilities: Averaged over training or runs, or out of sample, floating point `(N, K)`: for suggested labels
            and other tools. A last column for the threshold class is removed. By default those of the record, if
            EasinessCallback(probabilities=True) wrote them; or of its held-out runs; none for scores.
        target: Current labels, integers `(N,)`, -1 where unknown, to compare with those trained on.
        refine: AUM-SE: keep a flag only where sample easiness at the given label is hard.
        seed: Breaks remaining ties.

    Returns:
        The table. Examples that were never seen, had NaN losses, or were threshold examples in each run are only in its
        `unseen`, and a `UserWarning` gives their number. Another warning names classes in which most labels are
        flagged, as these may just be rare or hard classes. Where no rule is given, another says if most flagged labels
        were memorised.

    Raises:
        TypeError: If `record`, `rule` or `refine` has the wrong type.
        ValueError: If the record lacks required fields, such as online margins; there is only one class; no example has
            a score; labels have changed since training; the threshold class is a real one; or an argument is out of
            range.

    Example:
        >>> from lightning_easiness import Hardest, Scores
        >>> margins = torch.cat([torch.linspace(2, 6, 60), torch.linspace(-4, -2, 12)])
        >>> scores = Scores(margins, higher_is_easier=True, target=torch.arange(72) % 3, name="area_under_margin")
        >>> find_label_issues(scores, rule=Hardest(0.05)).flagged
        tensor([60, 61, 62, 63])
    """
    _check_types(rule, refine)
    sources: list[Any] = list(record) if isinstance(record, Sequence) and not isinstance(record, str) else [record]
    if rule is None and are_of_protocol(sources):
        rule = Threshold()
    reader = SourceReader(
        score=score,
        checkpoint=checkpoint,
        probabilities=None if probabilities is None else torch.as_tensor(probabilities),
        level_fields=() if refine is None else refine.fields,
        seed=seed,
        of_protocol=isinstance(rule, Threshold),
    )
    found = _read(reader, sources)
    labels = combine_runs(found, rule.percentile, target) if isinstance(rule, Threshold) else found[0]
    labels = labels.with_labels(target)
    decision = _default(labels) if rule is None else rule.decide(labels)
    if refine is not None:
        decision = refine.apply(decision)
    warn_of_unknown_scores(decision)
    warn_of_classes(decision)
    return _table(decision)


def _check_types(rule: object, refine: object) -> None:
    """Raise a TypeError that suggests a correction, unless `rule` is a Rule and `refine` a Refine."""
    if rule is not None and not isinstance(rule, Rule):
        way_out = (
            "give HeldOut(), Threshold(), Contradicted(), Confident(), Mixture(), Gap(), Hardest(0.05) or None; a "
            "score is given as `score=`"
        )
        if isinstance(rule, str) and rule in RULES:
            way_out = f"give `rule={RULES[rule].__name__}()`"
        elif isinstance(rule, type) and issubclass(rule, Rule):
            way_out = f"give an object, `rule={rule.__name__}()`"
        elif isinstance(rule, Real):
            way_out = f"give `rule=Hardest({rule})`"
        raise TypeError(f"The `rule` of find_label_issues must be a rule; got {rule!r}: {way_out}.")
    if refine is not None and not isinstance(refine, Refine):
        way_out = f"Refine(which={refine!r})" if refine in ("hard", "easy") else "Refine(), or None to keep all flags"
        raise TypeError(f"The `refine` of find_label_issues must be a Refine; got {refine!r}: give `{way_out}`.")


def _read(reader: SourceReader, sources: list[Any]) -> list[LabelScores]:
    """Read the source, or the runs of the threshold protocol: from their common folder, or from one source each."""
    if len(sources) != 1 and not (reader.of_protocol and sources):
        raise ValueError(
            f"The `record` of find_label_issues must be one, but for rule=Threshold(); got {len(sources)}: put runs "
            "into one with EasinessRecord.merge()."
        )
    folder = Path(sources[0]) if reader.of_protocol and isinstance(sources[0], (str, os.PathLike)) else None
    if folder is not None and len(sources) == 1 and protocol_folder(folder) == folder:
        halves = [(half, complete_runs(half)) for half in half_folders(folder)]
        return [reader.read(half, runs) for half, runs in halves]
    return [reader.read(source) for source in sources]


def _default(labels: LabelScores) -> Decision:
    """Decide by the runs that held labels out, where there are any, and else by what the model contradicts."""
    decision = (Contradicted() if labels.held_out is None else HeldOut()).decide(labels)
    why = why_not_held_out(labels)
    if why is not None:
        remark = f" Runs held labels out, but {why}: so rule '{decision.rule}' decides."
        decision = replace(decision, explanation=decision.explanation + remark)
    warn_of_memorised_labels(decision)
    return decision


def _contradicted(labels: LabelScores) -> str:
    """Return a sentence on how many labels the model contradicts, to compare with an estimate."""
    if labels.lead is None:
        return ""
    share = int((labels.lead < 0).count_nonzero()) / int(labels.known.count_nonzero())  # NaN is not below 0
    doubt = ", more than half: train longer before you trust the report" if share > 0.5 else ""
    when = "On average over training, the model" if labels.scores.name in ONLINE_ONLY else "The model"
    return f" {when} prefers another label in {100 * share:.1f} % of examples{doubt}."


def _table(decision: Decision) -> LabelIssues:
    labels, scores = decision.labels, decision.labels.scores
    order, is_issue = _flagged_first(labels.hardest_first, decision.flagged)
    score = labels.values[order]
    suggested, is_slow = torch.full_like(order, -1), torch.zeros_like(is_issue)
    probabilities = labels.held_out if labels.probabilities is None else labels.probabilities
    if probabilities is not None:
        suggested = functional.suggest_labels(probabilities, labels.given)[order]
    if labels.learnt is not None:
        is_slow[is_issue] = labels.learnt[order[is_issue]]
    return LabelIssues(
        index=order,
        given=labels.given[order],
        predicted=torch.full_like(order, -1) if scores.prediction is None else scores.prediction.cpu()[order],
        suggested=suggested,
        score=score,
        spread=scores.spread[order],
        posterior=torch.full_like(score, torch.nan) if decision.posterior is None else decision.posterior[order],
        is_issue=is_issue,
        is_slow=is_slow,
        unseen=(~labels.known).nonzero()[:, 0],
        threshold=decision.threshold,
        rule=decision.rule,
        estimated_share=decision.share,
        estimated_interval=decision.interval,
        score_name=scores.name,
        higher_is_easier=scores.higher_is_easier,
        num_examples=len(labels.given),
        explanation=f"{scores!r}. {decision.explanation}{_contradicted(labels)}",
        has_classes=labels.has_classes,
        probabilities=probabilities,
        fingerprint=scores.fingerprint,
        source_index=None if scores.source_index is None else scores.source_index[order],
        class_names=scores.class_names,
    )


def _flagged_first(order: Tensor, flagged: Tensor) -> tuple[Tensor, Tensor]:
    """Return the examples of an order with the flagged ones first, and which are flagged, bool (M,)."""
    front = flagged[order]
    number = int(front.count_nonzero())
    if not bool(front[:number].all()):  # as where the given label is preferred
        order = torch.cat([order[front], order[~front]])
    return order, torch.arange(len(order)) < number
