"""`Observation`: what was seen of every example at one moment of one training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_easiness.data.identity import DataIdentity


@dataclass(frozen=True)
class Observation:
    """One checkpoint of one series: a value per field and example, on the CPU, the same in every process.

    It goes whole to whoever takes observations in: the recorder, the loggers, listeners and selections.

    Attributes:
        series: "train-probe", "train-online", "val-probe" ...
        step: Optimizer steps before it.
        epoch: Epoch in which it was made.
        fields: name -> (N,); float32, but for `correct` (bool) and `count` (int32).
        identity: The data set, with its targets as far as they are class indices and were seen.
        num_classes: Of the logits; None without them.
        loss_name: "cross_entropy" or the name of the user's function.
        seconds: Duration of the pass; 0 for what is observed in the training forward.
    """

    series: str
    step: int
    epoch: int
    fields: dict[str, Tensor]
    identity: DataIdentity
    num_classes: int | None = None
    loss_name: str = "cross_entropy"
    seconds: float = 0.0

    @property
    def target(self) -> Tensor | None:
        """Class indices, int64 (N,), -1 where an example was not seen yet; None where targets are none."""
        return self.identity.target


@dataclass(frozen=True)
class AveragedProbabilities:
    """The softmax of each example, float16 (N, K), averaged over the training up to a step and epoch.

    It is NaN where an example was not seen; `count` are the times that it was, int32 (N,).
    """

    step: int
    epoch: int
    probabilities: Tensor
    count: Tensor
