"""The ways of training that are compared: a dictionary, in which a new rule is one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lightning_easiness import (
    AlignPrune,
    BatchLoss,
    Contradicted,
    Control,
    Curriculum,
    EasinessRecord,
    Hardest,
    ImportanceSampling,
    InfoBatch,
    Keep,
    LabelIssues,
    OrderDP,
    RandomShare,
    RePB,
    SampleEasinessTraining,
    Undecided,
    find_label_issues,
)


@dataclass(frozen=True)
class Given:
    """What a selection is made of.

    Attributes:
        edge: Epochs on everything at each end.
        seed: Of its draws.
        record: series -> the record of a classic training.
        wrong: About what share of the labels is wrong, which a user may know.
    """

    edge: int
    seed: int
    record: Callable[[str], EasinessRecord]
    wrong: float = 0.0


Make = Callable[[Given], Any]


@dataclass(frozen=True)
class Way:
    """One way of training.

    Attributes:
        make: Given -> Selection; None for everything.
        twin: Its control: the way that trains on as many examples, drawn at random. "" for classic and for controls.
        share: About what part of the data an epoch between the ends trains on.
        online: Goes by what an EasinessCallback sees in training.
        scored: Goes by the record of an earlier training, whose work is not counted.
        is_fixed: Says beforehand how many examples each epoch has.
        own_schedule: The learning rate is led by the module's own schedule by steps, which the datamodule moves, in
            place of one by the share of the work.
        keeps_last: Trains on a last batch that is not whole, too.
        for_wrong: Is for data with wrong labels alone.
    """

    make: Make
    twin: str = ""
    share: float = 0.5
    online: bool = True
    scored: bool = False
    is_fixed: bool = False
    own_schedule: bool = False
    keeps_last: bool = False
    for_wrong: bool = False


CLASSIC, HALF, THIRD = "classic", "random half", "random third"
WAYS: dict[str, Way] = {CLASSIC: Way(lambda given: None, share=1.0, online=False)}


def _rule(kind: Callable[..., Any], **options: Any) -> Make:
    return lambda given: kind(**options, early_epochs=given.edge, final_epochs=given.edge, seed=given.seed)


def _with_control(name: str, way: Way) -> None:
    """Add a rule that does not say how many examples it takes, and the control that takes as many in each epoch."""
    twin = f"control of {name}"
    WAYS[name] = replace(way, twin=twin)
    WAYS[twin] = replace(way, make=lambda given: Control(way.make(given)))


def _curriculum(given: Given) -> Curriculum:
    return Curriculum(given.record("train-probe").score("mean_loss"))


def _issues(given: Given, told: float = 0.0) -> LabelIssues:
    """Return label issues: the hardest, as many as are told or known to be wrong; else those of the default rule."""
    share = told or given.wrong
    return find_label_issues(given.record("train-online"), Hardest(share) if share else Contradicted())


def _without_issues(given: Given, told: float = 0.0) -> Keep:
    issues = _issues(given, told)
    return Keep(issues.unflagged, data=issues)


def _align(given: Given) -> AlignPrune:
    clean = _issues(given)
    return AlignPrune(0.5, clean=clean, early_epochs=given.edge, final_epochs=given.edge, seed=given.seed)


WAYS[HALF] = Way(_rule(RandomShare), online=False)
WAYS["hardest half"] = Way(_rule(OrderDP, pool=1), HALF)
WAYS["OrderDP"] = Way(_rule(OrderDP), HALF)
WAYS["undecided half"] = Way(_rule(Undecided), HALF)
WAYS[THIRD] = Way(_rule(RandomShare, share=1 / 3), share=1 / 3, online=False)
WAYS["undecided third"] = Way(_rule(Undecided, share=1 / 3), THIRD, share=1 / 3)
_with_control("importance", Way(_rule(ImportanceSampling)))
_with_control("InfoBatch", Way(_rule(InfoBatch), share=0.65))
_with_control("BatchLoss", Way(_rule(BatchLoss), share=0.75, online=False))
_with_control("RePB", Way(_rule(RePB), share=0.65))
_with_control("AlignPrune", Way(_align, scored=True, for_wrong=True))
_set = _rule(SampleEasinessTraining, others_share=0.5, online=True, rescore_every_n_epochs=None)
_with_control("SET", Way(_set, share=0.65))
_with_control(
    "curriculum",
    Way(_curriculum, share=1.0, online=False, scored=True, is_fixed=True),
)
_with_control(
    "issues left out",
    Way(_without_issues, share=0.6, online=False, scored=True, is_fixed=True),
)
_wrongly_told = Way(_without_issues, share=0.6, online=False, scored=True, is_fixed=True, for_wrong=True)
WAYS["issues left out, told 30 %"] = replace(_wrongly_told, make=lambda given: _without_issues(given, 0.3))
WAYS["issues left out, told 50 %"] = replace(_wrongly_told, make=lambda given: _without_issues(given, 0.5))
WAYS["random third, own schedule"] = replace(WAYS[THIRD], own_schedule=True)
WAYS["undecided third, own schedule"] = replace(
    WAYS["undecided third"], twin="random third, own schedule", own_schedule=True
)
WAYS["classic, last batch kept"] = replace(WAYS[CLASSIC], keeps_last=True)
