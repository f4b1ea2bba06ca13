"""Names and numbers as views and the command line write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


def spoken(name: str) -> str:
    """Write the name of a score as words: "mean loss", "held-out loss"."""
    return name.replace("held_out", "held-out").replace("_", " ")


def count_of(number: int, noun: str) -> str:
    """Write a number of things: "1 run", "1,200 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_digits(value: float) -> str:
    """Write a number for a caption: "2.31", "0.0042", "12,000"."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


_SHORT = 2  # letters of a name that stands beside another


@dataclass(frozen=True)
class ClassNamer:
    """Writes labels: by their names, and where there are none as "label 8"."""

    names: Sequence[str] | None = None

    def __call__(self, label: int) -> str:
        """Write a label alone."""
        return self._name(label) or f"label {label}"

    def with_prediction(self, label: int, predicted: int, probability: float | None = None) -> str:
        """Write a label and what was predicted, -1 where unknown: "8, predicted 9 (0.93)", or names in two lines.

        Where the prediction has a probability and is the label, that is "8 (0.93)".
        """
        sure = "" if probability is None else f" ({probability:.2f})"
        if predicted < 0 or (predicted == label and sure):
            return f"{self(label)}{sure if predicted >= 0 else ''}"
        given, other = self.short(label), self.short(predicted)
        between = ", " if max(len(given), len(other)) <= _SHORT or self.names is None else "\n"  # broken there anyway
        return f"{given}{between}predicted {other}{sure}"

    def short(self, label: int) -> str:
        """Write a label where it is clear that it is one: "8"."""
        return self._name(label) or str(label)

    def _name(self, label: int) -> str | None:
        if label < 0:
            return "no label"
        return None if self.names is None or label >= len(self.names) else str(self.names[label])


def class_namer(class_names: Sequence[str] | None, target: Tensor, known: Sequence[str] | None = None) -> ClassNamer:
    """Make what writes labels, by `class_names`, or else by those `known`; raise a ValueError for too few names."""
    largest = int(target.max()) if len(target) else -1
    if class_names is not None and len(class_names) <= largest:
        raise ValueError(f"`class_names` must name the labels 0 to {largest}; got {len(class_names)} names.")
    return ClassNamer(known if class_names is None else class_names)
