"""The sentences of the report: what each part of it found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_easiness.record.agreement import Agreement
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import Scores
from lightning_easiness.view.report.columns import Columns
from lightning_easiness.view.words import count_of, in_digits, spoken

if TYPE_CHECKING:
    from lightning_easiness.labels.table import LabelIssues

Finding = dict[str, str]  # title, and text below it

_FEW_RUNS = 3  # that did not train on an example


def headline(columns: Columns, num_runs: int) -> str:
    """Say in one sentence what matters most: the suspects, or how much is learnt."""
    size = len(columns["score"])
    if "suspect" in columns:
        suspects = int(columns["suspect"].sum())
        if suspects:
            return f"{suspects:,} of {size:,} labels look wrong"
        return f"None of {size:,} labels looks wrong"
    if "runs_right" in columns:
        right = float((columns["runs_right"] == num_runs).mean())
        return f"{percent(right)} of {size:,} examples are predicted right in every run"
    return f"{size:,} examples, from easy to hard"


def tiles(
    record: EasinessRecord, columns: Columns, agreement: Agreement | None, issues: LabelIssues | None
) -> list[tuple[str, str, str]]:
    """Return the numbers of the overview: name, value, and what it means."""
    classes = f"of {record.num_classes:,} classes" if record.num_classes else ""
    last = f"{count_of(record.num_checkpoints, 'checkpoint')}, to step {int(record.steps[-1]):,}"
    found = [("Examples", f"{record.num_examples:,}", classes), ("Runs", f"{record.num_runs:,}", last)]
    if "runs_right" in columns:
        right = float(columns["runs_right"].mean()) / record.num_runs
        found.append(("Predicted right", percent(right), "at the last checkpoint, mean over runs"))
        never = int((columns["runs_right"] == 0).sum())
        found.append(("Right in no run", f"{never:,}", f"{percent(never / record.num_examples)} of the examples"))
    if issues is not None:
        found.append(("Suspect labels", f"{len(issues.flagged):,}", estimate_of(issues)))
    if agreement is not None:
        found.append(("Agreement", f"{agreement.full_agreement:.2f}", "with as many other runs; 1 is the same order"))
    return found


def estimate_of(issues: LabelIssues) -> str:
    """Say how many labels are estimated to be wrong, or how many are flagged where the rule gives no estimate."""
    share, (low, high) = issues.estimated_share, issues.estimated_interval
    if math.isnan(share):
        return f"{percent(len(issues.flagged) / max(len(issues), 1))} of the labels"
    interval = "" if math.isnan(low + high) else f" ({percent(low)} to {percent(high)})"
    return f"estimated wrong: {percent(share)}{interval}"


def map_finding(columns: Columns, loss: str = "cross_entropy") -> Finding:
    """Say what the data map shows; `loss` is the name of the loss that was recorded."""
    if "confidence" not in columns and loss != "cross_entropy":
        return {
            "title": "No data map",
            "text": f"It needs the cross-entropy of one class per example, and the recorded loss is '{loss}'.",
        }
    if "confidence" not in columns:
        return {
            "title": "No data map",
            "text": "It needs at least two checkpoints with the cross-entropy: train with "
            "EasinessCallback(every_n_epochs=1).",
        }
    confidence = columns["confidence"][np.isfinite(columns["confidence"])]
    likely, never = float((confidence >= 0.5).mean()), int((columns["correctness"] == 0).sum())
    always = f"{count_of(never, 'example')} {'is' if never == 1 else 'are'}" if never else "No example is"
    return {
        "title": f"{percent(likely)} of the examples are learnt with a confidence of 0.5 or more",
        "text": f"{always} wrong at every checkpoint. Draw a line around points to list them.",
    }


def histogram_finding(scores: Scores, columns: Columns, fraction: float = 0.1) -> Finding:
    """Say where the middle and the hard end of the score are."""
    values = columns["score"][np.isfinite(columns["score"])]
    if not len(values):
        return {"title": f"No example has a {spoken(scores.name)}", "text": "All of its values are NaN."}
    edge = float(columns["score"][scores.hardest(fraction).numpy()[-1]])
    less, more = ("more", "less") if scores.higher_is_easier else ("less", "more")
    half = f"{in_digits(float(np.median(values)))} or {less}"
    return {
        "title": f"Half of the examples have a {spoken(scores.name)} of {half}",
        "text": f"The hardest {percent(fraction)} have {in_digits(edge)} or {more}. Drag over bars to list examples.",
    }


def curves_finding(chart: dict[str, Any] | None, name: str, moving: EasinessRecord, series: str) -> Finding:
    """Say how the score moved over training, as the record `moving` has it; `series` is that of the page."""
    if chart is None and moving.num_checkpoints > 1:
        return {"title": "No training curves", "text": f"There is no {spoken(name)} of each checkpoint."}
    if chart is None:
        return {
            "title": "No training curves",
            "text": "They need at least two checkpoints: train with EasinessCallback(every_n_epochs=1).",
        }
    first, last = (in_digits(chart["quantiles"][2][place]) for place in (0, -1))
    right = chart["right"]
    text = f"The share of right predictions goes from {percent(right[0])} to {percent(right[-1])}." if right else ""
    if moving.series != series:
        text += f" All of this is of series {moving.series}; the scores on this page are of series {series}."
    return {"title": f"The median {spoken(name)} goes from {first} to {last}", "text": text}


def seeds_finding(agreement: Agreement | None, num_runs: int) -> Finding:
    """Say whether the seeds are enough."""
    if agreement is None and num_runs > 1:
        return {
            "title": f"How well {num_runs} runs agree is not known",
            "text": "No two groups of them trained on the same examples, or the score compares the runs itself.",
        }
    if agreement is None:
        return {
            "title": "One run: the spread over seeds is not known",
            "text": "Repeat the training under other seeds with repeat_fit to see which scores are chance.",
        }
    full = agreement.full_agreement
    which = "almost the same" if full >= 0.9 else "a similar" if full >= 0.7 else "a different"
    more, doubled = next(iter(agreement.extrapolated.items()), (0, full))
    enough = f"; between {more} runs and {more} others it would be {doubled:.2f}" if more else ""
    return {
        "title": f"{num_runs} other runs would give {which} order of the examples",
        "text": f"The expected rank correlation is {full:.2f}{enough}.",
    }


def memorization_finding(columns: Columns, record: EasinessRecord) -> Finding | None:
    """Say how many examples look memorized, how many would by chance, and by how many runs; None if not known."""
    if "memorization" not in columns:
        return None
    known = np.isfinite(columns["memorization"])
    values = columns["memorization"][known]
    if not len(values):
        return None
    if record.num_classes is None:
        return {
            "title": "Memorization says little of these examples",
            "text": "They have no single class, and one counts as right only where all of its labels are predicted "
            "right: see generalization_gap, which compares the loss.",
        }
    above, below = (float((end >= 0.5).mean()) for end in (values, -values))
    apart = (~record.trained_on).sum(0).numpy()[known]
    fewest, most = int(apart.min()), int(apart.max())
    runs = count_of(most, "run") if fewest == most else f"{fewest} to {count_of(most, 'run')}"
    doubt = ", so that little is known of a single one" if fewest < _FEW_RUNS else ""
    return {
        "title": f"{percent(above)} of the examples look memorized, and about {percent(below)} would by chance",
        "text": "They are right at least 50 points more often in the runs that trained on them than in those that did "
        f"not. Chance alone explains the {percent(below)} that are as much less often right, and about as many of the "
        f"others. Each example was left out of training by {runs}{doubt}.",
    }


def kept_finding(columns: Columns, scores: Scores) -> Finding | None:
    """Say how many examples were kept, and how their score differs; None where all were."""
    if "kept" not in columns:
        return None
    kept = columns["kept"].astype(bool)
    medians = [columns["score"][part & np.isfinite(columns["score"])] for part in (kept, ~kept)]
    if not all(map(len, medians)):
        return {"title": f"{int(kept.sum()):,} of {len(kept):,} examples were kept", "text": ""}
    stayed, dropped = (in_digits(float(np.median(each))) for each in medians)
    return {
        "title": f"{int(kept.sum()):,} of {len(kept):,} examples were kept ({percent(float(kept.mean()))})",
        "text": f"Their median {spoken(scores.name)} is {stayed}; that of the dropped is {dropped}.",
    }


def percent(share: float) -> str:
    """Write a share: "93.1 %", "0.04 %", "100 %".

    Example:
        >>> percent(0.5), percent(0.98765), percent(0.0004), percent(0.9999), percent(1.0)
        ('50 %', '98.8 %', '0.04 %', '99.99 %', '100 %')
    """
    value = 100 * share
    if value in (0.0, 100.0) or 0.1 <= value <= 99.9:
        return f"{value:.3g} %"
    return f"{value:.2f} %" if value > 50 else f"{value:.1g} %"
