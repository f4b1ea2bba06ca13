"""Scores of the trainings that were made for them, by name."""

from __future__ import annotations

from pathlib import Path

from experiment import Experiment

from lightning_easiness import EasinessRecord, Scores


def folder_of(experiment: Experiment, name: str, *, held_out: bool = False) -> Path:
    """Return where the trainings that score are recorded: one, or several that hold out a part."""
    return experiment.output / f"{'held-out' if held_out else 'scores'}-{name}"


def record_of(experiment: Experiment, name: str, series: str = "train-online") -> EasinessRecord:
    """Return the training steps of the training that scores, or its passes."""
    return EasinessRecord.load(folder_of(experiment, name), series)


def scores_of(experiment: Experiment, name: str, score: str) -> Scores:
    """Return a score: EL2N of the first pass, memorization of the trainings that hold out a part, others online."""
    if score == "memorization":
        return EasinessRecord.load(folder_of(experiment, name, held_out=True), "train-probe").score(score)
    if score == "el2n":
        return record_of(experiment, name, "train-probe").score(score, 0)
    return record_of(experiment, name).score(score)
