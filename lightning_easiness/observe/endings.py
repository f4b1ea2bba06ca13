"""How a module's outputs end: in a softmax, a sigmoid or in logits, as far as the autograd graph shows it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

SOFTMAX, LOG_SOFTMAX, SIGMOID, LOGITS, MIXED = "softmax", "log_softmax", "sigmoid", "logits", "mixed"

_ENDINGS = {"Softmax": SOFTMAX, "LogSoftmax": LOG_SOFTMAX, "Sigmoid": SIGMOID}
_SAME_VALUES = {  # operations that move, copy or limit values
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "T", "Permute", "Select", "Slice"),
    *("Clone", "ToCopy", "Alias", "Clamp", "ClampMin", "ClampMax", "Expand", "Contiguous", "Movedim", "Flatten"),
}
_ARITHMETIC = {"Add", "Sub", "Rsub", "Mul", "Div", "Mean", "Sum", "Stack", "Cat", "Neg"}
_MOST_STEPS = 64


def endings_of(prediction: Any, module: nn.Module) -> Any:
    """Return how a prediction ends, or each of several; `module` is the one that returned it."""
    if isinstance(prediction, (tuple, list)):
        return [endings_of(part, module) for part in prediction]
    return _ending_of(prediction, module) if isinstance(prediction, Tensor) else None


def _ending_of(prediction: Tensor, module: nn.Module) -> str | None:
    """Return one of the endings, MIXED for a sum or product of some, None where nothing can be seen."""
    node = prediction.grad_fn
    if node is None or _name(node).startswith("CompiledFunction"):
        parts = [part for part in module.modules() if not any(part.children())]
        return _ENDINGS.get(type(parts[-1]).__name__) if parts else None
    for _ in range(_MOST_STEPS):
        if _name(node) not in _SAME_VALUES:
            break
        node = node.next_functions[0][0]
        if node is None:
            return None
    if _name(node) in _ARITHMETIC:
        return MIXED if _comes_from_probabilities(node) else LOGITS
    return _ENDINGS.get(_name(node), LOGITS)


def _comes_from_probabilities(node: Any) -> bool:
    """Return whether the terms of sums and products are outputs of a softmax or sigmoid."""
    waiting, steps = [node], 0
    while waiting and steps < _MOST_STEPS:
        node, steps = waiting.pop(), steps + 1
        if _name(node) in _ENDINGS:
            return True
        if _name(node) in _ARITHMETIC or _name(node) in _SAME_VALUES:
            waiting += [child for child, _ in node.next_functions if child is not None]
    return False


def _name(node: Any) -> str:
    """Return the name of an operation: "Softmax" for SoftmaxBackward0."""
    return str(node.name()).split("Backward")[0].removesuffix("ND")
