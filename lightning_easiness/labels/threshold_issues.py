"""`find_threshold_issues`: the labels that the runs of the threshold protocol call wrong, from their folder.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.experiments.threshold_set import half_folders, read_sets
from lightning_easiness.labels.find import LabelIssues, check_choices, find_label_issues
from lightning_easiness.labels.sources import ONLINE, PROBABILITY_SCORES, PROBE, check_ranks
from lightning_easiness.labels.threshold_rule import check_percentile
from lightning_easiness.observe.batch_reader import ONLINE_FIELDS
from lightning_easiness.record.layout import RUN_FILE, checkpoint_paths, is_complete, probabilities_path
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.scores import get_score

__all__ = ["find_threshold_issues"]


def find_threshold_issues(
    dirpath: str | os.PathLike[str],
    score: str = "area_under_margin",
    *,
    runs: Iterable[str] | None = None,
    **options: Any,
) -> LabelIssues:
    """Judge labels by the two halves that `ThresholdRuns` trained: `find_label_issues` with `rule="threshold"`.

    Args:
        dirpath: the folder that ThresholdRuns wrote.
        score: as of `find_label_issues`, observed online.
        runs: names of the runs to judge by, which both halves hold; None for all that are complete.
        options: as of `find_label_issues`, but `rule` and `threshold_indices`.

    Returns:
        The table.

    Raises:
        TypeError: there is no such option.
        ValueError: an option is out of range; no run of a half is complete; or what the score or `refine` needs was not
            recorded.
        FileNotFoundError: there is no such folder.
        RuntimeError: the set of threshold examples of a half cannot be read.

    Example:
        >>> find_threshold_issues("threshold_runs", percentile=0.99)
        Traceback (most recent call last):
        ValueError: The `percentile` of find_label_issues must be in [1, 100]; got 0.99: did you mean 99?
    """
    check_options(score, options)
    folders = half_folders(dirpath)
    chosen = None if runs is None else list(runs)
    first, second = folders
    names = [chosen, chosen] if chosen is not None else [_complete_runs(first), _complete_runs(second)]
    needs = needs_of(score, options)
    for folder, of_half in zip(folders, names, strict=True):
        for name in of_half:
            check_recorded(folder / name, needs)
    sets = read_sets(folders)
    records = [EasinessRecord.load(folder, ONLINE, of_half) for folder, of_half in zip(folders, names, strict=True)]
    if needs.probe:
        checkpoint = options.get("checkpoint", -1)
        step = None if checkpoint == -1 else int(records[0].steps[checkpoint])
        probes = [EasinessRecord.load(folder, PROBE, of_half) for folder, of_half in zip(folders, names, strict=True)]
        options["easiness"] = _easiness(probes, sets, step)
    return find_label_issues(records, score, rule="threshold", threshold_indices=sets, **options)


@dataclass(frozen=True)
class Needs:
    """What a report needs beside losses, correctness and margins of the training forward.

    Attributes:
        score: its name.
        probe: sample easiness, of the probe.
        probabilities: averaged over training.
    """

    score: str = "area_under_margin"
    probe: bool = False
    probabilities: bool = False


def needs_of(score: str, options: Mapping[str, Any]) -> Needs:
    """What a report with these options needs."""
    return Needs(
        score,
        probe=options.get("refine") not in (None, False) and options.get("easiness") is None,
        probabilities=score in PROBABILITY_SCORES and options.get("probabilities") is None,
    )


def check_options(score: str, options: Mapping[str, Any]) -> None:
    """See to it that `find_threshold_issues` will take these options, as far as that is known without a record.

    Raises:
        TypeError: there is no such option.
        ValueError: one is out of range.
    """
    if "rule" in options:
        raise ValueError(
            f"What ThresholdRuns trains is judged by rule='threshold' alone; got rule={options['rule']!r}: leave `rule`"
            " out, or call find_label_issues() on a training without threshold examples."
        )
    parameters = inspect.signature(find_label_issues).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    known = [name for name in known if name not in ("rule", "threshold_indices")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"find_threshold_issues() has no option '{unknown[0]}': choose from {', '.join(known)}.")
    if score not in PROBABILITY_SCORES:
        check_ranks(score)
    check_choices(rule="threshold", num_suspects=options.get("num_suspects"), refine=options.get("refine"))
    check_percentile(options.get("percentile", 99.0))
    if options.get("series") not in (None, ONLINE):
        raise ValueError(
            f"The threshold rule takes what was observed in training itself, series '{ONLINE}'; got series="
            f"{options['series']!r}, in which threshold examples are under their own labels: leave `series` out."
        )


def check_recorded(run_dir: Path, needs: Needs) -> None:
    """See to it that a complete run holds what a report needs.

    Raises:
        ValueError: it does not.
    """
    if needs.probe and not checkpoint_paths(run_dir, PROBE):
        raise missing_probe(f"run '{run_dir.name}' in '{run_dir.parent}' holds no series '{PROBE}'")
    if needs.probabilities and not probabilities_path(run_dir).exists():
        raise missing_probabilities(needs.score, f"run '{run_dir.name}' in '{run_dir.parent}' holds none")


def check_observed(needs: Needs, owner: str, probe: Any, probabilities: bool) -> None:
    """See to it that a run that is to be trained will hold what a report needs.

    Args:
        needs: of the report.
        owner: of the callback, for messages.
        probe: of the EasinessCallback.
        probabilities: of the EasinessCallback.

    Raises:
        ValueError: it will not.
    """
    if needs.probe and probe != "train":
        raise missing_probe(f"the EasinessCallback {owner} has probe={probe!r}")
    if needs.probabilities and not probabilities:
        raise missing_probabilities(needs.score, f"the EasinessCallback {owner} has probabilities=False")
    fields = () if needs.score in PROBABILITY_SCORES else get_score(needs.score).needs
    missing = [field for field in fields if field not in ONLINE_FIELDS]
    if missing:
        raise ValueError(
            f"Score '{needs.score}' needs field '{missing[0]}', but the training forward shows"
            f" {', '.join(ONLINE_FIELDS)}: take score='area_under_margin'."
        )


def missing_probe(why: str) -> ValueError:
    """The error of `refine` without sample easiness."""
    return ValueError(
        f"`refine` needs sample easiness, which a probe observes, but {why}: let `make_trainer` return Trainers with"
        " EasinessCallback(probe='train', probabilities=True), and train into another `dirpath`; or give `easiness`."
    )


def missing_probabilities(score: str, why: str) -> ValueError:
    """The error of a score of averaged probabilities without them."""
    return ValueError(
        f"Score '{score}' needs averaged probabilities, but {why}: let `make_trainer` return Trainers with"
        " EasinessCallback(probabilities=True), and train into another `dirpath`; or give `probabilities`."
    )


def _complete_runs(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}': give the `dirpath` that ThresholdRuns wrote.")
    # one without a checkpoint was refused, or killed, before it came to anything
    found = [path for path in folder.iterdir() if (path / RUN_FILE).exists() and checkpoint_paths(path, ONLINE)]
    found.sort(key=lambda path: (len(path.name), path.name))  # seed-9 before seed-10
    complete = [path.name for path in found if is_complete(path)]
    if not complete:
        raise ValueError(f"No run in '{folder}' is complete: let ThresholdRuns(...).run() go on with it.")
    if len(complete) < len(found):
        left_out = next(path.name for path in found if path.name not in complete)
        warn_user(
            f"{len(found) - len(complete)} of {len(found)} runs in '{folder}' are not complete and are left out, the"
            f" first is '{left_out}': let ThresholdRuns(...).run() go on with it."
        )
    return complete


def _easiness(probes: Sequence[EasinessRecord], sets: Sequence[Tensor], step: int | None) -> Tensor:
    """Sample easiness at the given label, by the halves in which an example had its own, at a step or the last."""
    rows = []
    for record, indices in zip(probes, sets, strict=True):
        checkpoint = -1 if step is None else record.checkpoint_at(step=step)
        values = record.score("sample_easiness", checkpoint).values.clone()
        values[indices] = torch.nan
        rows.append(values)
    return torch.stack(rows).nanmean(0)
