"""`Observation`: the values recorded for every example at one checkpoint of one training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from lightning_easiness._utils.blocks import count
from lightning_easiness.data.identity import DataIdentity


@dataclass(frozen=True)
class Observation:
    """One checkpoint of one series: one value per field and example, on the CPU, the same in every process.

    It is passed as a whole to the recorder, the loggers, listeners and selections.

    Attributes:
        series: "train-probe", "train-online", "val-probe" and so on.
        step: Optimizer steps before it.
        epoch: Epoch in which it was made.
        fields: name -> (N,); float32, except for `correct` (bool), `count` (int32) and `prediction` (int16).
        identity: The data set, with the targets seen so far, if they are class indices.
        num_classes: Number of logits; None without logits.
        loss_name: "cross_entropy" or the name of the user's function.
        unlabelled: Which examples have no label, bool (N,), so that fields are NaN and the target -1; None for none.
        seconds: Duration of the evaluation pass; 0 for online observations.
    """

    series: str
    step: int
    epoch: int
    fields: dict[str, Tensor]
    identity: DataIdentity
    num_classes: int | None = None
    loss_name: str = "cross_entropy"
    seconds: float = 0.0
    unlabelled: Tensor | None = None

    @property
    def target(self) -> Tensor | None:
        """Class indices, int64 (N,), -1 where an example was not seen yet; None if targets are not class indices."""
        return self.identity.target

    @cached_property
    def seen(self) -> Tensor | None:
        """Which examples were seen, bool (N,); None where all were."""
        seen = self.fields["count"] > 0 if "count" in self.fields else None
        return None if seen is None or count(seen) == len(seen) else seen

    @property
    def num_seen(self) -> int:
        """How many examples were seen."""
        return self.identity.num_examples if self.seen is None else count(self.seen)


@dataclass(frozen=True)
class TrainedOn:
    """Which examples a run has trained on up to a step, bool (N,), and which it holds out by design, bool (N,)."""

    step: int
    trained_on: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class HeldOutProbabilities:
    """The softmax of the examples that a run holds out, float16 (m, K), in one evaluation pass.

    `example` are their indices, int64 (m,).
    """

    step: int
    epoch: int
    example: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class AveragedProbabilities:
    """The softmax of each example, float16 (N, K), averaged over the training up to a step and epoch.

    It is NaN where an example was not seen; `count` is how often it was seen, int32 (N,).
    """

    step: int
    epoch: int
    probabilities: Tensor
    count: Tensor


#: What a run writes beside its checkpoints, in one file of each kind that is replaced.
Replaced = TrainedOn | HeldOutProbabilities | AveragedProbabilities
