"""Scores for pruning by how the probability of the label moves along training, and the draw that goes with one.

Each is a statistic of windows of consecutive checkpoints. NaN means that an example was not seen at a checkpoint, which
then does not count: the windows are over the checkpoints that saw it. An example seen at fewer than a window has one
window, all of them; where that is too few for the statistic the result is NaN. Results are float32, or float64 for
float64 input.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.functional.class_budgets import check_classes, in_each_class
from lightning_easiness.functional.easiness import hardest, round_half_up
from lightning_easiness.functional.sampling import positions, smallest, weighted_keys

_LARGEST_LOSS = 18.420680743952367  # of a probability of 1e-8
_LEAST = 1e-6  # how near a mean probability may come to 0 and 1, where the beta density may be infinite
_CONCENTRATION = 15  # of the beta distribution: its two parameters sum to one more
_MOST_WANTED = 10  # examples by which the beta distribution of a small ratio is placed


def dynamic_uncertainty(loss: Tensor, window: int = 10) -> Tensor:
    """Return how much the label's probability varies within windows, (N,): in [0, 0.71], high is uncertain: keep it.

    Mean over windows of the standard deviation (ddof=1) of exp(-loss). It is low both for easy examples and for those
    that are never learnt. "Large-scale Dataset Pruning with Dynamic Uncertainty" (He et al., 2024) keeps the highest.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); other losses do not give probabilities.
        window: Checkpoints per window, at least 2.

    Example:
        >>> dynamic_uncertainty(-torch.tensor([[0.2, 0.9], [0.4, 0.9], [0.2, 0.9]]).log(), window=2)
        tensor([0.1414, 0.0000])
    """
    rows = _probabilities("dynamic_uncertainty", loss, window, least=2)
    return _of_windows(_spread, rows, window).nanmean(dim=0)


def dual(loss: Tensor, window: int = 10) -> Tensor:
    """Return difficulty times uncertainty, (N,): in [0, 0.385], high is hard and uncertain: keep it.

    Mean over windows of (1 - m) s, with m the mean and s the standard deviation (ddof=1) of exp(-loss). Difficult
    examples become uncertain earlier than others, so that the first part of a training, 30 epochs of 200, ranks as the
    whole does without the first factor. The DUAL score of "Lightweight Dataset Pruning without Full Training via
    Example Difficulty and Prediction Uncertainty" (Cho et al., 2025), which keeps the highest, or draws as
    `draw_by_dual` does.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N); other losses do not give probabilities.
        window: Checkpoints per window, at least 2.

    Example:
        >>> dual(-torch.tensor([[0.2, 0.9], [0.4, 0.9], [0.2, 0.9]]).log(), window=2)
        tensor([0.0990, 0.0000])
    """
    rows = _probabilities("dual", loss, window, least=2)
    return _of_windows(lambda part: (1 - part.nanmean(dim=0)) * _spread(part), rows, window).nanmean(dim=0)


def tdds(loss: Tensor, window: int = 10, decay: float = 0.9) -> Tensor:
    """Return how unsteadily the loss changes, (N,): in [0, 9.22], high is informative: keep it.

    The size of the change of the loss from each checkpoint to the next, its population standard deviation within each
    window, and an exponential mean over windows, in which the last one weighs most. Temporal dual-depth scoring
    ("Spanning Training Progress: Temporal Dual-Depth Scoring for Enhanced Dataset Pruning", Zhang et al., 2024) takes
    the divergence between two checkpoints over all classes as the change. A record has the label's part of it alone,
    the loss, which is used here. It keeps the highest.

    Args:
        loss: Cross-entropy at each checkpoint, floating point, shape (C, N). Above 18.4, a probability of 1e-8, it
            counts as that.
        window: Checkpoints per window, at least 3.
        decay: Weight of the last window, in (0, 1]; each window before has (1 - decay) of the weight of the next.

    Example:
        >>> tdds(torch.tensor([[2.0, 2.0], [1.0, 1.5], [1.0, 1.0]]), window=3)
        tensor([0.5000, 0.0000])
    """
    check.fraction("tdds", decay, "decay", "the paper takes 0.9")
    rows = _numbers("tdds", loss, window, least=3).clamp(max=_LARGEST_LOSS)
    total, weight = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    for value in _of_windows(lambda part: _spread(part.diff(dim=0).abs(), ddof=0), rows, window):
        known = ~value.isnan()
        total = torch.where(known, decay * value + (1 - decay) * total, total)
        weight = torch.where(known, decay + (1 - decay) * weight, weight)
    return total / weight


def draw_by_dual(
    dual: Tensor,
    confidence: Tensor,
    ratio: float,
    c_d: float = 4.0,
    seed: int = 0,
    *,
    target: Tensor | None = None,
    class_balanced: bool = False,
) -> Tensor:
    """Return the indices of the examples KEPT, int64 (n,), ASCENDING, drawn by DUAL, and the easier the more must go.

    Kept examples are drawn without replacement with probability proportional to the score times the density of a beta
    distribution at the mean probability of the label. Its parameters are b = 15 (1 - m) (1 - ratio^c_d) and a = 16 - b,
    with m the mean probability of the ten examples of the highest score: for a small ratio its mean is near m, and for
    a large one near 1, where the easy examples are. From the same paper as `dual`. At small ratios, keeping exactly the
    highest is as good.

    Args:
        dual: Score of each example, at least 0, floating point, shape (N,).
        confidence: Mean probability of its label, in [0, 1], floating point, shape (N,), as `confidence` returns it.
        ratio: Fraction to remove, in [0, 1); the count is as in `ablate`.
        c_d: When to turn to the easy: a larger one turns at larger ratios. The paper takes more for easier data.
        seed: Seed of the draw.
        target: Class of each example, integers, shape (N,); for `class_balanced`.
        class_balanced: Whether to keep the same fraction of each class, as in `ablate`.

    Example:
        >>> score, probability = torch.tensor([0.1, 0.3, 0.2, 0.0]), torch.tensor([0.9, 0.5, 0.7, 1.0])
        >>> draw_by_dual(score, probability, ratio=0.5)
        tensor([0, 2])
    """
    owner = "draw_by_dual"
    score = check.floating(owner, "dual", dual, "N").detach().cpu()
    check.same_length(owner, "confidence", confidence, "dual", dual)
    mean = check.floating(owner, "confidence", confidence, "N").detach().cpu()
    _check_draw(score, mean, ratio, c_d)
    classes = check_classes(owner, target, class_balanced, "dual", dual)
    if not len(score):
        return torch.zeros(0, dtype=torch.int64, device=dual.device)
    kept = max(1, len(score) - round_half_up(ratio, len(score)))
    weights = _dual_weights(score.double(), mean.double(), ratio, c_d)

    def draw(members: Tensor, count: int, seed: int) -> Tensor:
        return positions(smallest(weighted_keys(weights[members], generator(seed)), count))

    drawn = draw(torch.arange(len(score)), kept, seed) if classes is None else in_each_class(draw, classes, kept, seed)
    return drawn.to(dual.device)


def _dual_weights(score: Tensor, mean: Tensor, ratio: float, c_d: float) -> Tensor:
    """Return the score times the beta density at the mean probability, up to a factor, the largest 1."""
    wanted = hardest(score, min(1.0, _MOST_WANTED / len(score)), higher_is_easier=False)
    b = _CONCENTRATION * (1 - float(mean[wanted].mean())) * (1 - ratio**c_d)
    mean = mean.clamp(_LEAST, 1 - _LEAST)
    log: Tensor = score.log() + (_CONCENTRATION - b) * mean.log() + (b - 1) * (1 - mean).log()
    return (log - log.amax()).exp()


def _of_windows(statistic: Callable[[Tensor], Tensor], rows: Tensor, window: int) -> Tensor:
    """Return a statistic (part, N) -> (N,) of each window of the checkpoints that saw an example, (W, N), or NaN."""
    seen_first = rows.gather(0, rows.isnan().byte().argsort(dim=0, stable=True))
    window = min(window, len(rows))
    found = [statistic(seen_first[first : first + window]) for first in range(len(rows) - window + 1)]
    values = torch.stack(found)
    values[1:].masked_fill_(seen_first[window:].isnan(), torch.nan)  # the first window may be a part of one
    return values


def _spread(part: Tensor, ddof: int = 1) -> Tensor:
    """Return the standard deviation of what is not NaN, (N,); NaN of fewer than two."""
    number = (~part.isnan()).sum(dim=0)
    squares = (part - part.nanmean(dim=0)).square().nansum(dim=0)
    return (squares / (number - ddof)).sqrt().masked_fill(number < 2, torch.nan)


def _probabilities(owner: str, loss: Tensor, window: int, least: int) -> Tensor:
    return (-_numbers(owner, loss, window, least)).exp()


def _numbers(owner: str, loss: Tensor, window: int, least: int) -> Tensor:
    """Return the losses in the dtype for computation."""
    check.at_least(owner, "window", window, least)
    return check.floating(owner, "loss", loss, "checkpoint")


def _check_draw(score: Tensor, mean: Tensor, ratio: float, c_d: float) -> None:
    owner = "draw_by_dual"
    if not (check.is_number(ratio) and 0 <= ratio < 1):
        check.refuse(owner, "ratio", "be in [0, 1)", ratio, "it is the fraction to remove, 30 % is 0.3")
    check.positive(owner, "c_d", c_d)
    wrong = positions(~((score >= 0) & score.isfinite()))
    if len(wrong) or (len(score) and not score.any()):
        got = f"{score[wrong[0]].item()} at index {int(wrong[0])}" if len(wrong) else "0 for each example"
        way = "give the values of record.score('dual') of the examples that have one"
        check.refuse(owner, "dual", "be finite and at least 0, and above 0 for an example", got, way)
    unknown = positions(mean.isnan())
    if len(unknown):
        check.refuse(owner, "confidence", "be known", f"NaN at index {int(unknown[0])}", "leave that example out")
    check.unit_interval(owner, "confidence", mean, "probabilities")
