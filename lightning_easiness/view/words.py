"""Names and numbers as views and the command line write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def spoken(name: str) -> str:
    """Write the name of a score as words: "mean loss"."""
    return name.replace("_", " ")


def count_of(number: int, noun: str) -> str:
    """Write a number of things: "1 run", "1,200 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_digits(value: float) -> str:
    """Write a number for a caption: "2.31", "0.0042", "12,000"."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def class_namer(class_names: Sequence[str] | None, target: Tensor) -> Callable[[int], str]:
    """Make the function from a label to its name; raise a ValueError where `class_names` are too few."""
    largest = int(target.max()) if len(target) else -1
    if class_names is not None and len(class_names) <= largest:
        raise ValueError(f"`class_names` must name the labels 0 to {largest}; got {len(class_names)} names.")

    def name(label: int) -> str:
        if label < 0:
            return "no label"
        if class_names is None or label >= len(class_names):
            return f"label {label}"
        return str(class_names[label])

    return name
