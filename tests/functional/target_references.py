"""Slow references of `functional/targets.py`: plain Python, one example, label and position at a time, in doubles."""

import math
from collections.abc import Sequence


def _log_softmax(row: Sequence[float]) -> list[float]:
    largest = max(row)
    total = math.fsum(math.exp(value - largest) for value in row)
    return [value - largest - math.log(total) for value in row]


def soft_cross_entropy(logits: Sequence[Sequence[float]], target: Sequence[Sequence[float]]) -> list[float]:
    return [
        -math.fsum(wanted * log for wanted, log in zip(row, _log_softmax(given), strict=True))
        for given, row in zip(logits, target, strict=True)
    ]


def _binary_loss(logit: float, label: float) -> float:
    """- log of the probability of the label, without overflow."""
    signed = logit if label else -logit
    return math.log1p(math.exp(-signed)) if signed > 0 else -signed + math.log1p(math.exp(signed))


def multi_label_loss(logits: Sequence[Sequence[float]], target: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(map(_binary_loss, given, row)) / len(row) for given, row in zip(logits, target, strict=True)]


def multi_label_margin(logits: Sequence[Sequence[float]], target: Sequence[Sequence[float]]) -> list[float]:
    return [
        min(logit if label else -logit for logit, label in zip(given, row, strict=True))
        for given, row in zip(logits, target, strict=True)
    ]


def _labelled(
    logits: Sequence[Sequence[float]], target: Sequence[int], ignore_index: int
) -> list[tuple[list[float], int]]:
    """The logits (K,) and the target of each labelled position of an example, given (K, P) and (P,)."""
    return [
        ([row[position] for row in logits], label) for position, label in enumerate(target) if label != ignore_index
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def dense_loss(logits: list, target: Sequence[Sequence[int]], ignore_index: int) -> list[float]:
    return [
        _mean([-_log_softmax(rows)[label] for rows, label in _labelled(given, row, ignore_index)])
        for given, row in zip(logits, target, strict=True)
    ]


def dense_margin(logits: list, target: Sequence[Sequence[int]], ignore_index: int) -> list[float]:
    return [
        _mean(
            [
                rows[label] - max(value for k, value in enumerate(rows) if k != label)
                for rows, label in _labelled(given, row, ignore_index)
            ]
        )
        for given, row in zip(logits, target, strict=True)
    ]
