"""Runs on disk with values made up from a seed, for the tests of what writes and reads them."""

import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from torch import Tensor

from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities, Observation, TrainedOn
from lightning_easiness.record.layout import open_probabilities, probabilities_path
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import Scores
from tests.processes import fork_server

STEPS = (0, 120, 240)
NUM_EXAMPLES = 37  # not a multiple of 8: the last byte of the packed bits is not full
NUM_CLASSES = 5


def make_target(num_examples: int = NUM_EXAMPLES) -> Tensor:
    return torch.arange(num_examples) % NUM_CLASSES


def make_fields(seed: int, num_examples: int = NUM_EXAMPLES, online: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(3, num_examples, generator=generator)
    weakest = draw[1] ** torch.rand(num_examples, generator=generator)  # the product of all is no larger
    margin = torch.randn(num_examples, generator=generator)
    fields = {"loss": draw[0] * 4, "correct": margin > 0, "margin": margin}
    if online:
        count = torch.randint(0, 3, (num_examples,), generator=generator, dtype=torch.int32)
        unseen = count == 0
        fields["loss"][unseen] = fields["margin"][unseen] = torch.nan
        return {**fields, "correct": fields["correct"] & ~unseen, "count": count}
    return {**fields, "sample_easiness": draw[1], "weakest_comparison": weakest, "el2n": draw[2] * 2**0.5}


def observed(step: int = 120, *, fields: dict[str, Tensor] | None = None, **changes: object) -> Observation:
    """A checkpoint of series "train-probe" of the values `make_fields(step)`; `target=None` is of unknown classes."""
    fields = make_fields(step) if fields is None else fields
    length = next((len(values) for values in fields.values()), 0)
    target, source_index = changes.pop("target", make_target(length)), changes.pop("source_index", None)
    identity = DataIdentity(length, target, source_index=source_index)
    about = {"series": "train-probe", "epoch": 1, "num_classes": NUM_CLASSES, **changes}
    return Observation(step=step, fields=fields, identity=identity, **about)


def append(writer: RunWriter, step: int = 120, **changes: object) -> Path:
    """Append the checkpoint `observed(step, **changes)`."""
    return writer.append(observed(step, **changes))


def write_run(
    dirpath: Path,
    seed: int,
    *,
    run: str | None = None,
    steps: tuple[int, ...] = STEPS,
    series: str = "train-probe",
    num_examples: int = NUM_EXAMPLES,
    complete: bool = True,
    fields: dict[str, Tensor] | None = None,
    class_names: list[str] | None = None,
    held_out: Tensor | None = None,
    **changes: object,
) -> Path:
    """Write one run, whose checkpoint at a step holds `make_fields(1000 * seed + step)`; return its folder.

    With `held_out`, bool (N,), it trained on the other examples.
    """
    with RunWriter(dirpath, run or f"seed-{seed}", seed=seed, resume=True, class_names=class_names) as writer:
        for epoch, step in enumerate(steps):
            made = fields or make_fields(1000 * seed + step, num_examples, online="online" in series)
            append(writer, step, fields=made, series=series, epoch=epoch, **changes)
        if held_out is not None:
            writer.replace_trained_on(TrainedOn(steps[-1], ~held_out, held_out))
        if complete:
            writer.complete()
    return writer.path


def write_probabilities(dirpath: Path, seed: int, size: int = NUM_EXAMPLES) -> AveragedProbabilities:
    """Write averaged probabilities of the run of a seed, which did not see the example of that number."""
    rows = torch.randn(size, NUM_CLASSES, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1).half()
    rows[seed] = torch.nan
    count = torch.full((size,), 3, dtype=torch.int32).index_fill(0, torch.tensor(seed), 0)
    averaged = AveragedProbabilities(240, 2, rows, count)
    with RunWriter(dirpath, f"seed-{seed}", seed=seed, resume=True) as writer:
        writer.replace_probabilities(averaged)
        writer.complete()
    return averaged


def make_scores(values: list[float], higher_is_easier: bool = True, **changes: object) -> Scores:
    """Scores of one run, as if from a record."""
    arguments: dict = {"target": torch.zeros(len(values), dtype=torch.int64), "name": "margin", **changes}
    return Scores(torch.tensor(values), higher_is_easier=higher_is_easier, **arguments)


def begin(work: Callable[[Path, Path], None], folder: Path, log: Path) -> None:
    log.with_name("begun").touch()
    work(folder, log)


def kills(work: Callable[[Path, Path], None], folder: Path, times: int, after: tuple[float, float]) -> Iterator[int]:
    """Let `work(folder, log)` begin, and kill it at some moment, many times; yield the last step in its log, or -1."""
    context, log, generator = fork_server(), folder / "log.txt", torch.Generator().manual_seed(0)
    begun = log.with_name("begun")
    log.touch()
    for _ in range(times):
        process = context.Process(target=begin, args=(work, folder, log))
        process.start()
        while not begun.exists():
            time.sleep(0.001)
        begun.unlink()
        time.sleep(after[0] + (after[1] - after[0]) * float(torch.rand((), generator=generator)))
        process.kill()
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        yield max(map(int, log.read_text().split()), default=-1)


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
            append(writer, step, fields=fields, target=target, series="train-online")
            said.write(f"{step}\n")


def replace_forever(dirpath: Path, log: Path) -> None:
    """Go on replacing the averaged probabilities of run "a", and say in `log` the step of each: to be killed."""
    torch.set_num_threads(1)
    with RunWriter(dirpath, "a", seed=0, resume=True) as writer, open(log, "a", buffering=1) as said:
        step = open_probabilities(writer.path).step if probabilities_path(writer.path).exists() else 0
        while True:
            step += 1
            rows = torch.full((20_000, 10), step % 1000 / 1000).half()
            count = torch.full((20_000,), step, dtype=torch.int32)
            writer.replace_probabilities(AveragedProbabilities(step, 0, rows, count))
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
