"""The ways of training that are compared: a dictionary, in which a new rule is one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning_easiness import Control, ImportanceSampling, InfoBatch, OrderDP, RandomShare, SampleEasinessTraining

Make = Callable[[int, int], Any]


@dataclass(frozen=True)
class Way:
    """One way of training.

    Attributes:
        make: (epochs on everything at each end, seed) -> Selection; None for everything.
        twin: Its control: the way that trains on as many examples, drawn at random. "" for classic and for controls.
        share: About what part of the data an epoch between the ends trains on.
        online: Goes by what an EasinessCallback sees in training.
    """

    make: Make
    twin: str = ""
    share: float = 0.5
    online: bool = True


CLASSIC, HALF = "classic", "random half"
WAYS: dict[str, Way] = {CLASSIC: Way(lambda edge, seed: None, share=1.0, online=False)}


def _rule(kind: Callable[..., Any], **options: Any) -> Make:
    return lambda edge, seed: kind(**options, early_epochs=edge, final_epochs=edge, seed=seed)


def _with_control(name: str, make: Make, share: float) -> None:
    """Add a rule that does not say how many examples it takes, and the control that takes as many in each epoch."""
    WAYS[name] = Way(make, f"control of {name}", share)
    WAYS[f"control of {name}"] = Way(lambda edge, seed: Control(make(edge, seed)), "", share)


WAYS[HALF] = Way(_rule(RandomShare), online=False)
WAYS["hardest half"] = Way(_rule(OrderDP, pool=1), HALF)
WAYS["OrderDP"] = Way(_rule(OrderDP), HALF)
WAYS["importance"] = Way(_rule(ImportanceSampling), HALF)
_with_control("InfoBatch", _rule(InfoBatch), 0.65)
_with_control("SET", _rule(SampleEasinessTraining, others_share=0.5, online=True, rescore_every_n_epochs=None), 0.65)
