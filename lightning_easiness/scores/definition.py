"""What the registry of scores knows of each: how it is computed from what was recorded, and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class ScoreDefinition:
    """How a score is computed from what was recorded, and how to read it.

    Attributes:
        name: the name for `EasinessRecord.score`.
        function: takes one tensor a field, in the order of `fields`, and options as keywords; returns `(N,)`. All are
            floats, NaN where an example was not seen; so `correct` is 1 right, 0 wrong, NaN not seen.
        fields: fields of the record that `function` takes.
        per: "checkpoint": `function` takes `(R, N)`, all runs at one checkpoint. "trajectory": it takes `(C, n)`, one
            run, a block of examples, all checkpoints of the part of the run that is asked for; the score is the mean
            over the runs that saw the example. It must treat examples apart: at a million examples the blocks keep
            memory flat.
        higher_is_easier: the direction.
        range: lowest and highest value that can be.
        paper: where the score comes from.
        doc: one sentence for people who choose a score.
        loss: name of the recorded loss that the score needs, None for any.
        ranks_difficulty: False for a score of which neither end is "easy", such as variability.
        weights: for "trajectory": from the share of examples that are right at each checkpoint `(C,)`, which needs the
            field "correct", the weights `(C,)` that `function` is given as its option `weights`. None for none.
        mean_over_runs: for "checkpoint": the score is the mean over runs of what each alone would give, so that runs
            that did not see an example can be left out of its mean. Otherwise `function` decides what they do.
    """

    name: str
    function: Callable[..., Tensor]
    fields: tuple[str, ...]
    per: Literal["checkpoint", "trajectory"]
    higher_is_easier: bool
    range: tuple[float, float]
    paper: str
    doc: str
    loss: str | None = None
    ranks_difficulty: bool = True
    weights: Callable[[Tensor], Tensor] | None = None
    mean_over_runs: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of a record that the score needs: those that the function takes, and those of the weights."""
        more = self.weights is not None and "correct" not in self.fields
        return (*self.fields, "correct") if more else self.fields
