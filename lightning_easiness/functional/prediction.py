"""What a model predicts: the class that most runs predict, how confident one is, how right it is in each class."""

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check


def most_predicted_class(prediction: Tensor) -> Tensor:
    """Return the class that most runs predict for each example, int64 (N,); -1 where no run predicts one.

    Runs that predict none (a negative class) do not vote. Of classes with as many votes, the smallest wins, so that the
    order of the runs does not matter.

    Args:
        prediction: The class that each run predicts for each example, integers, shape (R, N).

    Example:
        >>> most_predicted_class(torch.tensor([[3, 0, 2, -1], [1, 0, -1, -1], [3, 2, 1, -1]]))
        tensor([ 3,  0,  1, -1])
    """
    owner = "most_predicted_class"
    check.tensor(owner, "prediction", prediction)
    if not check.is_integer(prediction):
        way = "take the classes of logits with .argmax(-1)"
        check.refuse(owner, "prediction", "hold integer classes", prediction.dtype, way, error=TypeError)
    check.shaped(owner, "prediction", prediction, "run")
    if len(prediction) == 1:
        return prediction[0].long().clamp(min=-1)
    ordered = prediction.long().sort(0).values  # equal classes stand together, the smallest first
    best, previous = torch.full_like(ordered[0], -1), torch.full_like(ordered[0], -1)
    votes, most = torch.zeros_like(best), torch.zeros_like(best)
    for row in ordered:
        votes = torch.where(row == previous, votes + 1, 1)
        wins = (row >= 0) & (votes > most)
        best, most, previous = torch.where(wins, row, best), torch.where(wins, votes, most), row
    return best


def max_probability(loss: Tensor, margin: Tensor) -> Tensor:
    """Return the confidence max(h), (N,), h the softmax output, from loss and margin: in [1/K, 1], 1 is certain.

    With i the true class and k the largest other, loss = -log h_i and margin = log h_i - log h_k, so that
    max(h) = exp(-(loss + min(margin, 0))). It says nothing of whether the prediction is right.

    Args:
        loss: Cross-entropy, floating point, shape (N,). The result is NaN where loss or margin is.
        margin: Margin of the logits, see `margin`, shape (N,).

    Example:
        >>> h = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
        >>> max_probability(-h[:, 0].log(), torch.tensor([0.7 / 0.2, 0.2 / 0.7]).log())
        tensor([0.7000, 0.7000])
    """
    owner = "max_probability"
    loss, margin = check.floating(owner, "loss", loss, "N"), check.floating(owner, "margin", margin, "N")
    check.same_length(owner, "margin", margin, "loss", loss)
    return (-(loss + margin.clamp(max=0))).exp().clamp(max=1)


def class_accuracy(correct: Tensor, target: Tensor) -> Tensor:
    """Return the fraction of the examples of each class that are predicted right, (K,), K the largest class plus one.

    In [0, 1], high is right; NaN for a class without an example.

    Args:
        correct: Whether the prediction is the label, bool or integers 0 and 1, shape (N,).
        target: Class of each example, integers, shape (N,); one below 0 is unknown and does not count.

    Example:
        >>> class_accuracy(torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 0, 2, 2, -1]))
        tensor([0.5000,    nan, 1.0000])
    """
    owner = "class_accuracy"
    correct = check.correct(owner, correct, "N")
    check.integers(owner, "target", target)
    check.same_length(owner, "target", target, "correct", correct)
    known = target >= 0
    classes = target[known].long()
    right = torch.bincount(classes, weights=correct[known].double())
    return (right / torch.bincount(classes)).float()


def worst_class_accuracy(correct: Tensor, target: Tensor) -> Tensor:
    """Return the accuracy of the class that is predicted worst, a single number, in [0, 1]; NaN without a known class.

    It shows what a selection costs a class, where the mean hides it.

    Args:
        correct: Whether the prediction is the label, as in `class_accuracy`.
        target: Class of each example, as in `class_accuracy`.

    Example:
        >>> worst_class_accuracy(torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 0, 2, 2, -1]))
        tensor(0.5000)
    """
    of_classes = class_accuracy(correct, target)
    known = of_classes[~of_classes.isnan()]
    return known.amin() if len(known) else of_classes.new_tensor(torch.nan)
