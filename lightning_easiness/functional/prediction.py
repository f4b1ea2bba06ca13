"""What a model predicts for an example: the class that most runs predict, and how confident one is."""

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
