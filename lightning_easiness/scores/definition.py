"""The registry of scores: how each is computed from a record, and how to interpret it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

from torch import Tensor

from lightning_easiness._utils.spelling import did_you_mean


@dataclass(frozen=True)
class ScoreDefinition:
    """How a score is computed from a record, and how to interpret it.

    Attributes:
        name: Name for `EasinessRecord.score`.
        function: Takes one tensor per field, in the order of `fields`, and options as keywords; returns `(N,)`. All are
            floats, NaN where an example was not seen; so `correct` is 1 for right, 0 for wrong, NaN for not seen.
        fields: Fields of the record that `function` takes.
        per: "checkpoint": `function` takes `(R, N)`, all runs at one checkpoint. "trajectory": it takes `(C, n)`, one
            run at the requested checkpoints, for a block of examples; the score is the mean over the runs that saw the
            example. It must treat each example independently, since blocks limit the memory.
        higher_is_easier: The direction.
        range: Lowest and highest possible value.
        paper: Source of the score.
        doc: One sentence for users who choose a score.
        loss: Name of the recorded loss that the score needs, None for any.
        ranks_difficulty: False for a score without an "easy" end, such as variability.
        weights: For "trajectory": a function from the accuracy at each checkpoint `(C,)`, computed from the field
            "correct", to the weights `(C,)` that `function` takes as its option `weights`.
        mean_over_runs: For "checkpoint": the score is the mean over runs of the score of each run alone, so that runs
            that did not see an example can be left out. Otherwise `function` must handle them.
        over: The runs that count for an example, where runs have held out a part: "trained_on" for those that trained
            on it, "held_out" for those that did not; "both" for a comparison of the two, whose `function` takes the
            option `trained_on`, bool `(R, N)`. Where nothing was held out, all runs count, and the other two are
            refused.
        spread: For "both": a function of the same arguments that returns the spread `(N,)`.
    """

    name: str
    function: Callable[..., Tensor]
    fields: tuple[str, ...]
    per: Literal["checkpoint", "trajectory"]
    higher_is_easier: bool
    range: tuple[float, float] = (-inf, inf)
    paper: str = ""
    doc: str = ""
    loss: str | None = None
    ranks_difficulty: bool = True
    weights: Callable[[Tensor], Tensor] | None = None
    mean_over_runs: bool = False
    over: Literal["trained_on", "held_out", "both"] = "trained_on"
    spread: Callable[..., Tensor] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of a record that the score needs: those of `function` and of the weights."""
        more = self.weights is not None and "correct" not in self.fields
        return (*self.fields, "correct") if more else self.fields

    @property
    def takes_trained_on(self) -> bool:
        """Whether `function` takes the option `trained_on`."""
        return "trained_on" in inspect.signature(self.function).parameters


#: All scores by name.
SCORES: dict[str, ScoreDefinition] = {}


def register_score(definition: ScoreDefinition) -> ScoreDefinition:
    """Make a score available by its name to `EasinessRecord.score` and the command line.

    Raises:
        TypeError: If it is no ScoreDefinition.
        ValueError: If the name is taken, or `per` or `over` is none of its values.

    Example:
        >>> worst = ScoreDefinition("worst_loss", lambda loss: loss.amax(0), ("loss",), "checkpoint", False)
        >>> register_score(worst).name
        'worst_loss'
        >>> del SCORES["worst_loss"]
    """
    if not isinstance(definition, ScoreDefinition):
        raise TypeError(f"register_score() takes a ScoreDefinition; got {definition!r}.")
    if definition.name in SCORES:
        raise ValueError(f"A score {definition.name!r} is registered already: give yours another `name`.")
    if definition.per not in ("checkpoint", "trajectory"):
        raise ValueError(f"`per` must be 'checkpoint' or 'trajectory'; got {definition.per!r}.")
    if definition.over not in ("trained_on", "held_out", "both"):
        raise ValueError(f"`over` must be 'trained_on', 'held_out' or 'both'; got {definition.over!r}.")
    SCORES[definition.name] = definition
    return definition


def get_score(name: str) -> ScoreDefinition:
    """Return a registered score; if there is none with that name, raise a ValueError that lists them all.

    Example:
        >>> get_score("mean_loss").higher_is_easier
        False
    """
    if name not in SCORES:
        raise ValueError(
            f"There is no score {name!r}{did_you_mean(str(name), SCORES)}: choose from {', '.join(SCORES)}, or"
            " register_score() yours."
        )
    return SCORES[name]
