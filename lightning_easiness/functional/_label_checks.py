"""Checks of labels and of averaged probabilities, for the functions about wrong labels."""

import torch
from torch import Tensor

from lightning_easiness.functional._checks import (
    check_floating,
    check_per_example,
    check_same_length,
    check_tensor,
    improbable_rows,
    is_integer,
)


def check_labels(owner: str, name: str, labels: Tensor, num_classes: int, *, unknown_too: bool = False) -> Tensor:
    """Return labels as int64; raise unless they are integers (N,) in [0, K), or negative where `unknown_too`."""
    check_tensor(owner, name, labels)
    check_per_example(owner, name, labels)
    if not is_integer(labels):
        raise TypeError(f"The `{name}` of {owner} must hold integers; got {labels.dtype}: use .long().")
    outside = labels >= num_classes
    if not unknown_too:
        outside = outside | (labels < 0)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"The `{name}` of {owner} must be in [0, {num_classes}), the classes; got {int(labels[first])} at index "
            f"{first}: raise the number of classes, or leave out examples without a label."
        )
    return labels.detach().long()


def check_num_classes(owner: str, num_classes: int) -> None:
    """Raise ValueError for a single class, among which no label can be wrong."""
    if not num_classes >= 2:
        raise ValueError(
            f"The `num_classes` of {owner} must be at least 2; got {num_classes}: of one class no label is wrong."
        )


def check_mask(owner: str, name: str, mask: Tensor) -> None:
    """Raise unless this is a bool tensor (N,)."""
    check_tensor(owner, name, mask)
    if mask.dtype != torch.bool or mask.ndim != 1:
        raise TypeError(
            f"The `{name}` of {owner} must be a bool tensor of shape (N,); got {mask.dtype} of shape "
            f"{tuple(mask.shape)}: mark the examples, as in `mask[indices] = True`."
        )


def check_probabilities(owner: str, probabilities: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K) in the dtype they are computed in, and labels as int64; a row may be NaN."""
    probabilities = check_floating(owner, "probabilities", probabilities)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise ValueError(
            f"The `probabilities` of {owner} must have shape (N, K) with K >= 2 classes; got shape "
            f"{tuple(probabilities.shape)}: give the whole softmax output of each example."
        )
    wrong = improbable_rows(probabilities, least=-1e-3)
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"The `probabilities` of {owner} must be at least 0 and sum to 1 in each row; row {first} sums to "
            f"{float(probabilities[first].sum()):g} with a least value of {float(probabilities[first].min()):g}: "
            "give softmax outputs, as logits.softmax(1)."
        )
    given = check_labels(owner, "given", given, probabilities.shape[1], unknown_too=True)
    check_same_length(owner, "given", given, "probabilities[:, 0]", probabilities[:, 0])
    return probabilities, given
