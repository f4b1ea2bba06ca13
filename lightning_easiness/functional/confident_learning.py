"""How many labels are wrong, from averaged or out-of-sample probabilities, without an assumption on the score."""

import torch
from torch import Tensor

from lightning_easiness.functional._checks import (
    check_floating,
    check_per_example,
    check_same_length,
    exact_dtype,
)
from lightning_easiness.functional._label_checks import check_probabilities

_BLOCK = 2**22  # probabilities that are worked on at once


def confident_joint(probabilities: Tensor, given: Tensor) -> Tensor:
    """Count the examples of each given label that are confidently of each class.

    An example is confidently of class j where its probability of j is at least the mean probability of j among the
    examples given j; of several such classes the most probable counts, of none it is not counted. "Confident Learning:
    Estimating Uncertainty in Dataset Labels" (Northcutt et al., 2021), section 3.1.

    Args:
        probabilities: Out of sample, or averaged over training, floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 where there is none.

    Returns:
        Shape (K, K), int64: row i, column j counts the examples given i that are confidently j. Examples without a
        label, or with a probability of NaN, are left out. On the device of `probabilities`.

    Raises:
        TypeError: If `probabilities` is not floating point or `given` no integer tensor.
        ValueError: If a shape is wrong, a label is K or above, or a row does not sum to 1.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
        >>> confident_joint(probabilities, torch.tensor([0, 0, 0, 1, 1]))
        tensor([[2, 1],
                [0, 1]])
    """
    probabilities, given = check_probabilities("confident_joint", probabilities, given)
    num_classes = probabilities.shape[1]
    thresholds = _mean_own(probabilities, given)
    joint = torch.zeros(num_classes**2, dtype=torch.int64, device=probabilities.device)
    length = max(1, _BLOCK // num_classes)
    for rows, labels in zip(torch.split(probabilities, length), torch.split(given, length), strict=True):
        confident = rows >= thresholds
        counted = confident.any(1) & (labels >= 0)
        candidate = torch.where(confident, rows, -1.0).argmax(1)
        joint += torch.bincount((labels * num_classes + candidate)[counted], minlength=num_classes**2)
    return joint.reshape(num_classes, num_classes)


def _mean_own(probabilities: Tensor, given: Tensor) -> Tensor:
    """Mean probability of each class among the examples given it, (K,); NaN, which nothing reaches, where none is."""
    own = probabilities.gather(1, given.clamp(min=0).unsqueeze(1)).squeeze(1)
    known = (given >= 0) & ~own.isnan()
    labels, own = given[known], own[known].to(exact_dtype(probabilities))
    num_classes = probabilities.shape[1]
    sums = torch.zeros(num_classes, dtype=own.dtype, device=own.device).index_add_(0, labels, own)
    return sums / torch.bincount(labels, minlength=num_classes)


def estimate_wrong_share(probabilities: Tensor, given: Tensor) -> Tensor:
    """Estimate the share of wrong labels among the examples given each class.

    The share of `confident_joint`'s row that is off its diagonal. What the model confuses counts as wrong, too: of a
    weak model this is an upper figure, and of one that has learnt wrong labels by heart a lower one.

    Args:
        probabilities: As in `confident_joint`.
        given: As in `confident_joint`.

    Returns:
        Shape (K,), float64 (float32 on Apple's devices), in [0, 1], 0 where no example of a class is confidently of
        any. The share of all labels is the mean over examples, `shares[given].mean()`.

    Raises:
        TypeError: As of `confident_joint`.
        ValueError: As of `confident_joint`.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
        >>> given = torch.tensor([0, 0, 0, 1, 1])
        >>> shares = estimate_wrong_share(probabilities, given)
        >>> shares, shares[given].mean()
        (tensor([0.3333, 0.0000], dtype=torch.float64), tensor(0.2000, dtype=torch.float64))
    """
    joint = confident_joint(probabilities, given)
    counted = joint.sum(1)
    wrong = (counted - joint.diagonal()).to(exact_dtype(probabilities))
    return wrong / counted.clamp(min=1)


def replace_confidence(probabilities: Tensor, given: Tensor, confidence: Tensor) -> Tensor:
    """Give each example another probability of its given label, and scale those of the other classes to match.

    Probabilities that were averaged over a training in which labels were learnt by heart say little else in the end.
    With the probability of the given label from the time of learning, `confidence(loss, learning_weights(accuracy))`,
    they tell again which other class the model saw.

    Args:
        probabilities: Floating point, shape (N, K), K >= 2.
        given: Given labels, integers, shape (N,); below 0 where there is none, whose rows stay.
        confidence: Probability of the given label in [0, 1], floating point, shape (N,).

    Returns:
        Shape (N, K), in the dtype of `probabilities` (float32 for half precision); NaN where `confidence` is. Where all
        of the probability was on the given label, the rest is shared by the other classes alike.

    Raises:
        TypeError: If a tensor is not floating point, or `given` no integer tensor.
        ValueError: If a shape is wrong, a label is K or above, a row does not sum to 1, or a confidence is outside
            [0, 1].

    Example:
        >>> import torch
        >>> replace_confidence(torch.tensor([[0.90, 0.08, 0.02]]), torch.tensor([0]), torch.tensor([0.5]))
        tensor([[0.5000, 0.4000, 0.1000]])
    """
    owner = "replace_confidence"
    probabilities, given = check_probabilities(owner, probabilities, given)
    confidence = check_floating(owner, "confidence", confidence)
    check_per_example(owner, "confidence", confidence)
    check_same_length(owner, "confidence", confidence, "given", given)
    if bool(((confidence < 0) | (confidence > 1)).any()):
        raise ValueError(
            f"The `confidence` of {owner} must be in [0, 1], probabilities; got {float(confidence.min()):g} to "
            f"{float(confidence.max()):g}."
        )
    index, new = given.clamp(min=0).unsqueeze(1), confidence.to(probabilities).unsqueeze(1)
    others = probabilities.scatter(1, index, 0.0)
    rest = others.sum(1, keepdim=True)
    alike = torch.full_like(probabilities, 1 / (probabilities.shape[1] - 1))
    replaced = (torch.where(rest > 0, others / rest, alike) * (1 - new)).scatter(1, index, new)
    return torch.where(given.unsqueeze(1) < 0, probabilities, replaced)
