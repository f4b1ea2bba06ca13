"""Slow references for the losses: plain Python, one example and one pair of classes at a time.

Nothing here imports torch. Where a probability is too small for a double its logarithm comes from an integral.
"""

import math
from collections.abc import Callable, Sequence

from tests.functional import references

LOG_1E_7 = math.log(1e-7)


def log_normal_cdf(z: float) -> float:
    """Log of the chance that a standard normal number is below `z`, at any z."""
    if z > 0:
        return math.log1p(-0.5 * math.erfc(z / math.sqrt(2)))
    if z > -10:
        return math.log(0.5 * math.erfc(-z / math.sqrt(2)))
    return log_normal_cdf_by_integral(z)


def log_normal_cdf_by_integral(z: float, steps: int = 4000) -> float:
    """The same for z < 0: density(z) / |z| * integral over t > 0 of exp(-t - t^2 / (2 z^2)), by Simpson's rule.

    It is the integral of the density below z, with x = z - t / |z| put in.
    """
    width = 40 / steps

    def term(index: int) -> float:
        t = index * width
        return math.exp(-t - t * t / (2 * z * z))

    inner = math.fsum((4 if index % 2 else 2) * term(index) for index in range(1, steps))
    integral = (term(0) + inner + term(steps)) * width / 3
    return -z * z / 2 - 0.5 * math.log(2 * math.pi) - math.log(-z) + math.log(integral)


def softmax(row: Sequence[float]) -> list[float]:
    """In one pass, as for the losses of a hundred thousand classes."""
    largest = max(row)
    weights = [math.exp(logit - largest) for logit in row]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def log_easiness_vector(row: Sequence[float], label: int, sigma2: float, probabilities: bool = False) -> list[float]:
    """Log P(h_i > h_j) for each j; the true class meets itself in a coin toss."""
    h = list(row) if probabilities else softmax(row)
    # The difference of two independent noises has variance 2 sigma2.
    return [log_normal_cdf((h[label] - other) / math.sqrt(2 * sigma2)) for other in h]


def divergence(aim: Sequence[float], log_easiness: Sequence[float]) -> float:
    """Kullback-Leibler sum of aim * log(aim / easiness), as the paper writes its loss."""
    return math.fsum(wanted * (math.log(wanted) - found) for wanted, found in zip(aim, log_easiness, strict=True))


def sample_easiness_loss(
    row: Sequence[float],
    label: int,
    sigma2: float = 1e-4,
    floor: float | None = LOG_1E_7,
    probabilities: bool = False,
) -> float:
    """One example: the divergence of the aim, 1 everywhere and 0.5 at the true class, from the floored easiness."""
    logs = log_easiness_vector(row, label, sigma2, probabilities)
    if floor is not None:
        logs = [log if index == label else max(log, floor) for index, log in enumerate(logs)]
    return divergence([0.5 if index == label else 1.0 for index in range(len(row))], logs)


def easiness_numbers(rows: Sequence[Sequence[float]], labels: Sequence[int], sigma2: float) -> dict[str, float]:
    """What metrics and logs say of these examples: mean SEL, medium sample rate and sample easiness error."""
    losses = [sample_easiness_loss(row, label, sigma2) for row, label in zip(rows, labels, strict=True)]
    easiness = references.sample_easiness(rows, labels, sigma2)
    compared = references.comparisons(rows, labels, sigma2)
    correct = [row.index(max(row)) == label for row, label in zip(rows, labels, strict=True)]
    return {
        "sel": math.fsum(losses) / len(losses),
        "medium_sample_rate": references.medium_sample_rate(compared, 5e-4),
        "sample_easiness_error": references.expected_sample_easiness_error(easiness, correct, 5, False),
    }


def cross_entropy(
    row: Sequence[float], label: int, weight: Sequence[float] | None = None, label_smoothing: float = 0.0
) -> float:
    """One example: - sum over k of w_k y_k log h_k, y the smoothed one-hot vector."""
    largest = max(row)
    log_total = largest + math.log(math.fsum(math.exp(logit - largest) for logit in row))
    losses = []
    for index, logit in enumerate(row):
        share = label_smoothing / len(row) + (1 - label_smoothing) * (index == label)
        losses.append((weight[index] if weight else 1.0) * share * (log_total - logit))
    return math.fsum(losses)


def slopes(function: Callable[[list[float]], float], row: Sequence[float], step: float = 1e-5) -> list[float]:
    """Central finite differences of a function of one row."""
    found = []
    for index in range(len(row)):
        up, down = list(row), list(row)
        up[index] += step
        down[index] -= step
        found.append((function(up) - function(down)) / (2 * step))
    return found


def total_loss(
    rows: Sequence[Sequence[float]],
    labels: Sequence[int],
    *,
    sel_weight: float,
    sigma2: float = 1e-4,
    floor: float | None = LOG_1E_7,
    weight: Sequence[float] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    sample_weight: Sequence[float] | None = None,
    reduction: str = "mean",
) -> float | list[float]:
    """Cross-entropy and `sel_weight` times sample easiness loss over positions, reduced as torch documents it.

    The mean is over the summed class weights of what is not ignored; sample weights do not count in its divisor.
    """
    losses, divisor = [], 0.0
    for position, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if label == ignore_index:
            losses.append(0.0)
            continue
        of_class = weight[label] if weight else 1.0
        loss = cross_entropy(row, label, weight, label_smoothing)
        loss += sel_weight * of_class * sample_easiness_loss(row, label, sigma2, floor)
        losses.append(loss * (sample_weight[position] if sample_weight else 1.0))
        divisor += of_class
    if reduction == "none":
        return losses
    total = math.fsum(losses)
    if reduction == "sum":
        return total
    return total / divisor if divisor else math.nan
