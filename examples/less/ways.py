"""The ways of training that are compared: a dictionary, in which a new rule is one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning_easiness import SampleEasinessTraining


@dataclass(frozen=True)
class Way:
    """One way of training.

    Attributes:
        make: (epochs on everything at each end, seed) -> Selection; None for everything.
        twin: Its control: the way that trains on as many examples, drawn at random. "" for classic and for controls.
        share: About what part of the data an epoch between the ends trains on.
        online: Goes by what an EasinessCallback sees in training.
    """

    make: Callable[[int, int], Any]
    twin: str = ""
    share: float = 0.5
    online: bool = False


CLASSIC, HALF = "classic", "random half"


def _set(edge: int, seed: int) -> SampleEasinessTraining:
    return SampleEasinessTraining(
        early_epochs=edge, final_epochs=edge, others_share=0.5, online=True, rescore_every_n_epochs=None, seed=seed
    )


WAYS: dict[str, Way] = {
    CLASSIC: Way(lambda edge, seed: None, share=1.0),
    "SET, unbiased": Way(_set, HALF, online=True),
}
