"""Losses and margins for targets that are not one class index: soft targets, several labels, sequences and pixels.

For use in a training step: no value is read back from the device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_easiness.functional import _checks as check

IGNORE_INDEX = -100  # as in torch.nn.CrossEntropyLoss


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy with a distribution over the classes, (N,): in [0, inf), LOW is easy.

    - sum over k of target_k log softmax(logits)_k, as in torch.nn.CrossEntropyLoss. Its minimum is the entropy of the
    target, which is 0 only for a one-hot row.

    Args:
        logits: Floating point, shape (N, K), K >= 2.
        target: Probability of each class, floating point, shape (N, K).

    Example:
        >>> soft_cross_entropy(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.3, 0.7]]))
        tensor([0.6931, 0.6931])
    """
    logits = _rows("soft_cross_entropy", logits, least=2)
    target = check.floating("soft_cross_entropy", "target", target)
    check.same_length("soft_cross_entropy", "target", target, "logits", logits)
    return F.cross_entropy(logits, target.to(logits.dtype), reduction="none")


def multi_label_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy averaged over the labels of each example, (N,): in [0, inf), LOW is easy.

    Args:
        logits: One logit per label, floating point, shape (N, K).
        target: 1 for each label that the example has, 0 for the others, any real dtype, shape (N, K).

    Example:
        >>> multi_label_loss(torch.tensor([[0.0, 0.0], [2.0, -2.0]]), torch.tensor([[1, 1], [1, 0]]))
        tensor([0.6931, 0.1269])
    """
    logits, target = _labels("multi_label_loss", logits, target)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)


def multi_label_margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return the smallest signed logit of each example, (N,): in (-inf, inf), HIGH is easy, below 0 is a mistake.

    The sign of a label's logit is turned where the example does not have the label, so that the least certain (or most
    wrong) label counts. With one label and classes -1 and 1 this is the margin of a binary classifier.

    Args:
        logits: One logit per label, floating point, shape (N, K).
        target: 1 for each label that the example has, 0 for the others, any real dtype, shape (N, K).

    Example:
        >>> multi_label_margin(torch.tensor([[3.0, -1.0], [3.0, -1.0]]), torch.tensor([[1, 0], [1, 1]]))
        tensor([ 1., -1.])
    """
    logits, target = _labels("multi_label_margin", logits, target)
    return ((2 * target - 1) * logits).amin(1)


def dense_loss(logits: Tensor, target: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return the cross-entropy averaged over the labelled positions of each example, (N,): in [0, inf), LOW is easy.

    NaN for an example without a labelled position.

    Args:
        logits: Floating point, shape (N, K, P) for K classes at P positions (pixels, steps of a sequence), K >= 2.
        target: Class indices in [0, K), or `ignore_index` where a position is not labelled, integers, shape (N, P).
        ignore_index: The target of positions that do not count.

    Example:
        >>> dense_loss(torch.zeros(2, 4, 3), torch.tensor([[0, 1, -100], [-100, -100, -100]]))
        tensor([1.3863,    nan])
    """
    logits, target = _positions("dense_loss", logits, target)
    losses = F.cross_entropy(logits, target, reduction="none", ignore_index=ignore_index)
    return _mean_over_labelled(losses, target != ignore_index)


def dense_margin(logits: Tensor, target: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Return the margin averaged over the labelled positions of each example, (N,): in (-inf, inf), HIGH is easy.

    The margin of a position is the logit of its target minus the largest other logit. NaN for an example without a
    labelled position.

    Args:
        logits: Floating point, shape (N, K, P) for K classes at P positions (pixels, steps of a sequence), K >= 2.
        target: Class indices in [0, K), or `ignore_index` where a position is not labelled, integers, shape (N, P).
        ignore_index: The target of positions that do not count.

    Example:
        >>> logits = torch.tensor([[[3.0, 0.0], [1.0, 5.0]]])
        >>> dense_margin(logits, torch.tensor([[0, 0]])), dense_margin(logits, torch.tensor([[0, -100]]))
        (tensor([-1.5000]), tensor([2.]))
    """
    logits, target = _positions("dense_margin", logits, target)
    labelled = target != ignore_index
    index = torch.where(labelled, target, 0).unsqueeze(1)
    top = logits.topk(2, dim=1)  # unlike `margin`, without a copy of the logits, which may fill a device
    other = torch.where(top.indices[:, :1] == index, top.values[:, 1:], top.values[:, :1])
    return _mean_over_labelled((logits.gather(1, index) - other).squeeze(1), labelled)


def _mean_over_labelled(values: Tensor, labelled: Tensor) -> Tensor:
    return torch.where(labelled, values, 0).sum(1) / labelled.sum(1)  # 0 / 0 is NaN


def _rows(owner: str, logits: Tensor, least: int) -> Tensor:
    """Return logits (N, K) in the dtype for computation; raise unless they are that, with K >= `least`."""
    logits = check.floating(owner, "logits", logits)
    if logits.ndim != 2 or logits.shape[1] < least:
        must, way = f"have shape (N, K) with K >= {least}", "move the classes last and flatten the rest"
        check.refuse(owner, "logits", must, f"shape {tuple(logits.shape)}", way)
    return logits


def _labels(owner: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = _rows(owner, logits, least=1)
    check.real(owner, "target", target)
    check.same_length(owner, "target", target, "logits", logits)
    return logits, target.to(logits.dtype)


def _positions(owner: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = check.floating(owner, "logits", logits)
    check.tensor(owner, "target", target)
    if logits.ndim != 3 or logits.shape[1] < 2:
        way = "move the classes to dimension 1 and flatten the positions, logits.flatten(2)"
        check.refuse(owner, "logits", "have shape (N, K, P) with K >= 2", f"shape {tuple(logits.shape)}", way)
    expected = (logits.shape[0], logits.shape[2])
    if target.shape != expected:
        must = f"have shape (N, P) = {expected}, one class index per position of `logits`"
        check.refuse(owner, "target", must, f"shape {tuple(target.shape)}", "flatten the positions, target.flatten(1)")
    if not check.is_integer(target):
        way = "convert it with .long()"
        check.refuse(owner, "target", "hold integer class indices", target.dtype, way, error=TypeError)
    return logits, target.long()
