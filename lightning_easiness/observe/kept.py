"""What is kept of a module's output until the step that computed it is over, though somebody may write over it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

SMALL = 2**20  # bytes of an output that is copied and may wait; of a larger one the calls are not what costs


class Kept(NamedTuple):
    """A prediction, without gradients.

    Attributes:
        prediction: What is SMALL of it was copied.
        watched: The tensor of it that is read, where that is no copy.
        version: That of its memory when the module returned it.
        is_compiled: Whether it was kept within a compiled graph, which gives its memory to the next step.
    """

    prediction: Any
    watched: Tensor | None = None
    version: int = 0
    is_compiled: bool = False


def kept(prediction: Any, position: int | None) -> Kept:
    """Return what to keep of a prediction; of a tuple only the tensor at `position` is read, if that is known."""
    if isinstance(prediction, tuple):
        if position is None or position >= len(prediction):
            return Kept(tuple(copied(part) for part in prediction))
        one = kept(prediction[position], None)
        parts = [detached(part) for part in prediction]
        parts[position] = one.prediction
        return one._replace(prediction=tuple(parts))
    found = copied(prediction)
    if not isinstance(prediction, Tensor) or prediction.nbytes <= SMALL:
        return Kept(found)
    return Kept(found, watched=found, version=version_of(found))


def taken(one: Kept) -> Any:
    """Return a prediction that was kept; raise a ValueError where it was written over."""
    if one.watched is not None and version_of(one.watched) != one.version:
        raise ValueError(
            "The training step changes the module's output in place, so that EasinessCallback cannot read it any more:"
            " write logits = logits / 2 in place of logits /= 2, or pass logits_fn=torch.clone."
        )
    return copied(one.prediction) if one.is_compiled else one.prediction


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor's memory was written to; 0 for one of inference mode, which does not count it."""
    return 0 if tensor.is_inference() else tensor._version


def copied(prediction: Any) -> Any:
    """Return a tensor, or a tuple of some, without gradients, in memory of its own where it is SMALL."""
    if isinstance(prediction, Tensor):
        found = prediction.detach()
        # no nbytes, which a graph that is compiled for batches of any size has not
        return found.clone() if found.numel() * found.itemsize <= SMALL else found
    return tuple(copied(part) for part in prediction) if isinstance(prediction, tuple) else prediction


def detached(prediction: Any) -> Any:
    """Return a tensor, or a tuple of some, without gradients; anything else as it is."""
    if isinstance(prediction, tuple):
        return tuple(detached(part) for part in prediction)
    return prediction.detach() if isinstance(prediction, Tensor) else prediction
