"""The parts of run.py: which script makes them, and with which options in each mode."""

from __future__ import annotations

from typing import NamedTuple

MODES = ("quick", "full", "tiny")


class Part(NamedTuple):
    """A part of the table: its name, what it measures, the script, and its options by mode; None: not in that mode."""

    name: str
    about: str
    module: str
    options: dict[str, str | None]


def part(name: str, about: str, module: str, quick: str | None, full: str | None, tiny: str | None) -> Part:
    return Part(name, about, module, {"quick": quick, "full": full, "tiny": tiny})


PARTS = (
    part(
        "step", "observing the training forward online", "online_overhead",
        quick="--pairs 7", full="--pairs 21 --model small_cnn resnet18", tiny="--step 0.7 --steps 8 --pairs 2",
    ),
    part(
        "decision", "what a rule decides for an epoch", "selection_rules",
        quick="", full="--examples 1000000 10000000", tiny="--examples 2000 --batch-size 16",
    ),
    part(
        "labels", "finding label errors", "finding_labels",
        quick="", full="--of-record 100000 1000000 10000000",
        tiny="--examples 500 --of-record 500 --pairs 1 --repeats 1",
    ),
)  # fmt: skip
