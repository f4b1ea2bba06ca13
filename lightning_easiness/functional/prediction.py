"""The class that several runs predict for an example."""

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
