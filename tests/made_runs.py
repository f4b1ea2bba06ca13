"""Runs on disk with values made up from a seed, for the tests of what writes and reads them."""

import multiprocessing
import re
import warnings
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from torch import Tensor

from lightning_easiness.record.files import ProbabilitiesFile
from lightning_easiness.record.layout import probabilities_path
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import Scores

STEPS = (0, 120, 240)
NUM_EXAMPLES = 37  # not a multiple of 8: the last byte of the packed bits is not full
NUM_CLASSES = 5


def make_target(num_examples: int = NUM_EXAMPLES) -> Tensor:
    return torch.arange(num_examples) % NUM_CLASSES


def make_fields(seed: int, num_examples: int = NUM_EXAMPLES, online: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(3, num_examples, generator=generator)
    margin = torch.randn(num_examples, generator=generator)
    fields = {"loss": draw[0] * 4, "correct": margin > 0, "margin": margin}
    if online:
        count = torch.randint(0, 3, (num_examples,), generator=generator, dtype=torch.int32)
        unseen = count == 0
        fields["loss"][unseen] = fields["margin"][unseen] = torch.nan
        return {**fields, "correct": fields["correct"] & ~unseen, "count": count}
    return {**fields, "sample_easiness": draw[1], "el2n": draw[2] * 2**0.5}


def append(writer: RunWriter, step: int = 120, **changes: object) -> Path:
    """Append a checkpoint of made up values to series "train-probe"."""
    arguments: dict = {
        "series": "train-probe",
        "epoch": 1,
        "target": make_target(),
        "fields": make_fields(step),
        "num_classes": NUM_CLASSES,
        **changes,
    }
    return writer.append(arguments.pop("series"), step=step, **arguments)


def write_run(
    dirpath: Path,
    seed: int,
    *,
    run: str | None = None,
    steps: tuple[int, ...] = STEPS,
    series: str = "train-probe",
    num_examples: int = NUM_EXAMPLES,
    target: Tensor | None = None,
    complete: bool = True,
    loss: str = "cross_entropy",
    fields: dict[str, Tensor] | None = None,
    num_classes: int | None = NUM_CLASSES,
) -> Path:
    """Write one run, whose checkpoint at a step holds `make_fields(1000 * seed + step)`; returns its folder."""
    with RunWriter(dirpath, run or f"seed-{seed}", seed=seed, resume=True) as writer:
        for epoch, step in enumerate(steps):
            writer.append(
                series,
                step=step,
                epoch=epoch,
                target=make_target(num_examples) if target is None else target,
                fields=fields or make_fields(1000 * seed + step, num_examples, online="online" in series),
                num_classes=num_classes,
                loss=loss,
            )
        if complete:
            writer.complete()
    return writer.path


def make_scores(values: list[float], higher_is_easier: bool = True, **changes: object) -> Scores:
    """Scores of one run, as if from a record."""
    arguments: dict = {"target": torch.zeros(len(values), dtype=torch.int64), "name": "margin", **changes}
    return Scores(torch.tensor(values), higher_is_easier=higher_is_easier, **arguments)


def fork_server() -> ForkServerContext:
    """A way to start processes that have this module, and with it torch, imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.made_runs"])
    return context


def append_forever(dirpath: Path, log: Path) -> None:
    """Go on with run "a", and say in `log` the step of each checkpoint that was appended: to be killed."""
    torch.set_num_threads(1)
    with RunWriter(dirpath, "a", seed=0, resume=True) as writer, open(log, "a", buffering=1) as said:
        step = max(writer.steps("train-online"), default=-1)
        while True:
            step += 1
            # 500 more targets are known with each checkpoint, so that they are written, too
            target = torch.where(torch.arange(50_000) < (step + 1) * 500, 3, -1)
            fields = {"loss": torch.full((50_000,), float(step)), "correct": torch.ones(50_000, dtype=torch.bool)}
            writer.append("train-online", step=step, epoch=0, target=target, fields=fields, num_classes=5)
            said.write(f"{step}\n")


def replace_forever(dirpath: Path, log: Path) -> None:
    """Go on replacing the averaged probabilities of run "a", and say in `log` the step of each: to be killed."""
    torch.set_num_threads(1)
    with RunWriter(dirpath, "a", seed=0, resume=True) as writer, open(log, "a", buffering=1) as said:
        path = probabilities_path(writer.path)
        step = ProbabilitiesFile.open(path).step if path.exists() else 0
        while True:
            step += 1
            rows = torch.full((20_000, 10), step % 1000 / 1000).half()
            writer.replace_probabilities(rows, torch.full((20_000,), step, dtype=torch.int32), step=step, epoch=0)
            said.write(f"{step}\n")


def expected(field: str, seeds: tuple[int, ...] = (0, 2, 10), steps: tuple[int, ...] = STEPS) -> Tensor:
    """What `write_run` wrote for each seed and step, `(R, C, N)`."""
    return torch.stack([torch.stack([make_fields(1000 * seed + step)[field] for step in steps]) for seed in seeds])


def loads_with_warnings(folder: Path, *messages: str, **arguments: object) -> EasinessRecord:
    """Load the record; what it warns of is exactly `messages`."""
    record, caught = load_and_catch(folder, **arguments)
    assert caught == list(messages)
    return record


def load_and_catch(folder: Path, **arguments: object) -> tuple[EasinessRecord, list[str]]:
    """Load the record, and return what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = EasinessRecord.load(folder, **arguments)
    assert all(warning.category is UserWarning for warning in caught)
    return record, [str(warning.message) for warning in caught]


def try_to_write(dirpath: Path, queue: "Queue[str]") -> None:
    """Open run "a", and put into the queue what comes of it."""
    try:
        RunWriter(dirpath, "a", resume=True).close()
    except RuntimeError as error:
        queue.put(str(error))
    else:
        queue.put("no error")


def whole(message: str) -> str:
    """A pattern for the whole of a message, for `match` of pytest.raises and pytest.warns."""
    return f"^{re.escape(message)}$"
