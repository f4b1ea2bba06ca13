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
        quick="--pairs 5", full="--pairs 21 --model small_cnn resnet18", tiny="--step 0.7 --steps 8 --pairs 2",
    ),
    part(
        "pieces of a step", "what observing adds, piece by piece", "step_profile",
        quick="--rounds 3", full="--rounds 15", tiny=None,
    ),
    part(
        "arithmetic", "the arithmetic of a step", "online_step",
        quick="--pairs 5 --examples 10000 10000000 --steps 2000", full="",
        tiny="--pairs 1 --examples 1000 --steps 20",
    ),
    part(
        "default", "EasinessCallback(), and a pass each epoch", "default_cost",
        quick="--pairs 3", full="--pairs 11", tiny="--step 0.7 --steps 4 --pairs 1",
    ),
    part(
        "pass", "an evaluation pass", "probe_share",
        quick="--model small_cnn --examples 5000", full="", tiny="--model small_cnn --examples 64 --epochs 2",
    ),
    part(
        "device", "an epoch on data in the device's memory", "device_epoch",
        quick=None, full="--width 0.25 --size 768 --pairs 5", tiny=None,
    ),
    part(
        "datamodule", "an epoch of EasinessDataModule", "datamodule_epoch",
        quick="--workers 0 --pairs 5 --steps 10 --epochs 1", full="",
        tiny="--workers 0 --pairs 1 --steps 4 --epochs 1 --batch-size 8",
    ),
    part(
        "SET", "an epoch of SET and of SEL", "set_epoch",
        quick=None, full="",
        tiny="--model small_cnn --examples 64 --batch-size 4 --pairs 1",
    ),
    part(
        "decision", "what a rule decides for an epoch", "selection_rules",
        quick="", full="--examples 1000000 10000000", tiny="--examples 2000 --batch-size 16",
    ),
    part(
        "rebuild", "the loader of a new selection", "selection_rebuild",
        quick="--examples 10000000 --form mask --pairs 5", full="",
        tiny="--examples 2000 --form mask --pairs 1",
    ),
    part(
        "record", "writing and reading a record", "record_size",
        quick="--checkpoints 8", full="", tiny="--examples 2000 --checkpoints 2",
    ),
    part(
        "checksums", "checksums of a record", "checksum_cost",
        quick="--pairs 5", full="--pairs 41", tiny="--examples 2000 --pairs 2",
    ),
    part("recipe", "the recipe of a run", "recipe_cost", quick=None, full="", tiny=None),
    part(
        "size", "Lightning's checkpoints and memory", "sizes",
        quick="--examples 2000000", full="--examples 10000000", tiny="--examples 2000",
    ),
    part(
        "labels", "finding label errors", "finding_labels",
        quick="--pairs 2 --repeats 1", full="--of-record 100000 1000000 10000000",
        tiny="--examples 500 --of-record 500 --pairs 1 --repeats 1",
    ),
    part(
        "other tools", "scores and selections beside other tools", "other_tools",
        quick="", full="--pairs 9", tiny="--trained 256 --examples 1000 --pairs 1",
    ),
    part(
        "sample easiness", "exact sample easiness", "sample_easiness_speed",
        quick=None, full="", tiny=None,
    ),
    part(
        "growth", "growth with the number of examples", "growth",
        quick="", tiny="--examples 1000 4000 --batch-size 500",
        full="--examples 100000 1000000 10000000 100000000 --csv 10000000",
    ),
    part("selection", "selecting from 1e8 examples", "selection", quick=None, full="", tiny=None),
    part(
        "TensorBoard", "a checkpoint in TensorBoard", "logging_cost",
        quick=None, full="", tiny="--examples 500 --checkpoints 3",
    ),
    part("report", "the report page", "report_page", quick=None, full="", tiny=None),
    part(
        "correctness", "what must never happen", "correctness",
        quick="--inputs 3000 --no-soak", full="", tiny=None,
    ),
    part("processes", "growth with the number of processes", "process_growth", quick=None, full="", tiny=None),
    part("side by side", "ten seeds side by side", "side_by_side", quick=None, full="", tiny=None),
)  # fmt: skip
