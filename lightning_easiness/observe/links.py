"""Whether outputs are logits or probabilities: decided by how they end, and by the values of the first batch."""

from __future__ import annotations

from torch import Tensor

from lightning_easiness.observe.endings import LOGITS, SIGMOID, SOFTMAX
from lightning_easiness.observe.reading import AS_LOGITS, LOG, LOGIT
from lightning_easiness.observe.tasks import SUM_TOLERANCE, MultiLabelTask, RegressionTask, Task

_BEFORE_SOFTMAX = "pass `module`, the part before the softmax, or let forward return logits"


def link_of(task: Task, outputs: Tensor, axis: int, ending: str | None, fallback: str | None) -> str:
    """Return what makes logits of the outputs, `fallback` where that cannot be seen.

    Raises:
        ValueError: If the end of the outputs does not fit the task, or nothing decides.
    """
    if isinstance(task, RegressionTask) or not outputs.numel():
        return AS_LOGITS
    values = outputs.detach().float()
    one_output = outputs.ndim == 1 or outputs.shape[axis] == 1
    if isinstance(task, MultiLabelTask) or one_output:
        return _link_of_labels(values, one_output, ending, fallback)
    return _link_of_classes(values, axis, ending)


def _link_of_classes(values: Tensor, axis: int, ending: str | None) -> str:
    sums = values.sum(axis)
    add_up = bool((values >= 0).all()) and bool(((sums - 1).abs() <= SUM_TOLERANCE).all())
    if add_up and (ending != LOGITS or sums.numel() > 1):  # a single row of logits may do so by chance
        return LOG
    if ending == SOFTMAX:
        raise ValueError(f"The outputs end in a softmax, but do not add up to one over the classes: {_BEFORE_SOFTMAX}.")
    if ending == SIGMOID:
        raise ValueError(
            f"The outputs end in a sigmoid for each of {values.shape[axis]} classes, but an example has one class: if"
            " the largest output is the prediction, pass logits_fn=lambda output: output.logit()."
        )
    return AS_LOGITS


def _link_of_labels(values: Tensor, one_output: bool, ending: str | None, fallback: str | None) -> str:
    in_unit = bool(((values >= 0) & (values <= 1)).all())
    if ending == SOFTMAX and not (one_output and in_unit and bool((values < 1).any())):
        why = "is 1 for every example" if one_output else "adds up to one, but an example has any number of labels"
        raise ValueError(f"The outputs end in a softmax, which {why}: {_BEFORE_SOFTMAX}.")
    if in_unit and ending in (SIGMOID, SOFTMAX):
        return LOGIT
    if not in_unit or ending == LOGITS:
        return AS_LOGITS
    if fallback is not None:
        return fallback
    raise ValueError(
        "All outputs of the first batch are between 0 and 1, as probabilities are, and nothing says whether they are:"
        " pass logits_fn=lambda output: output.logit() if so, and logits_fn=lambda output: output if they are logits."
    )
