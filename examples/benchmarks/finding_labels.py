"""How long does it take to find label errors, beside cleanlab on the same probabilities?

Labels are drawn for 10 classes, 8 % of them replaced by others, and probabilities that mostly agree with the true ones.
Three things are timed in turn with cleanlab, where it is installed:

- the label quality of each example: `functional.self_confidence` and `normalized_margin`, and
  `cleanlab.rank.get_label_quality_scores`;
- the table of `find_label_issues` from scores and these probabilities by `Confident()`, and
  `cleanlab.filter.find_label_issues` (its confident joint, one process) with its ranking;

and then, at more examples, `find_label_issues` of a record of a training, by the default rule, in a process of its own
for its memory: 1e7 examples should take at most 10 s and 1 GB more than the record's labels and the imports.

    python examples/benchmarks/finding_labels.py --examples 100000 1000000 --of-record 10000000
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from apart import in_process, peak_bytes
from figures import Figure, Row, beside, installed, script
from measuring import Clock, clock_parser, in_turns
from torch import Tensor

from lightning_easiness import Confident, EasinessRecord, Scores, find_label_issues, functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.writer import RunWriter

NUM_CLASSES, WRONG = 10, 0.08
SECONDS, BYTES = 10.0, 1e9  # of 1e7 examples
CHECKPOINTS = 3


def made_up(size: int) -> tuple[Tensor, Tensor]:
    """Draw probabilities (N, K) and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(NUM_CLASSES, (size,), generator=generator)
    logits = torch.randn(size, NUM_CLASSES, generator=generator)
    logits[torch.arange(size), true] += 4
    wrong = torch.rand(size, generator=generator) < WRONG
    other = (true + torch.randint(1, NUM_CLASSES, (size,), generator=generator)) % NUM_CLASSES
    return logits.softmax(1), torch.where(wrong, other, true)


# ------------------------------------------------------------------------------------------------- beside cleanlab


def table_of(probabilities: Tensor, target: Tensor) -> object:
    values = functional.normalized_margin(probabilities, target)
    scores = Scores(values, higher_is_easier=True, target=target, name="normalized_margin")
    return find_label_issues(scores, Confident(), probabilities=probabilities)


def compared(size: int, arguments: argparse.Namespace) -> Iterator[Row]:
    probabilities, target = made_up(size)
    clock = Clock(arguments.clock)
    rank, said = installed("cleanlab", "cleanlab.rank")
    rows_of, labels = probabilities.numpy(), target.numpy()
    ours = {
        "self-confidence": partial(functional.self_confidence, probabilities, target),
        "normalized margin": partial(functional.normalized_margin, probabilities, target),
        "table of label issues": partial(table_of, probabilities, target),
    }
    for what, work in ours.items():
        name = f"{what} of {size:,} x {NUM_CLASSES}"
        clock.time(work)
        if rank is None:
            yield Row(name, Figure.of([clock.time(work) for _ in range(arguments.pairs)]), peer=said)
            continue
        theirs = partial(_of_cleanlab, what, labels, rows_of)
        clock.time(theirs)  # its imports
        pairs = in_turns(lambda: clock.time(work), lambda: clock.time(theirs), arguments.pairs)  # noqa: B023
        yield beside(name, pairs, said.name)


def _of_cleanlab(what: str, labels: object, probabilities: object) -> object:
    from cleanlab import filter as issues  # installed, or it is not called
    from cleanlab import rank

    if what == "table of label issues":
        return issues.find_label_issues(labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1)
    return rank.get_label_quality_scores(labels, probabilities, method=what.replace("-", "_").replace(" ", "_"))


# ------------------------------------------------------------------------------------------------------- of a record


def write_record(folder: Path, size: int) -> None:
    """Write what training observes online of labels of which some are wrong."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(NUM_CLASSES, (size,), generator=generator)
    final = torch.randn(size, generator=generator) * 2 + 3
    final[torch.rand(size, generator=generator) < WRONG] -= 7
    other = (target + 1) % NUM_CLASSES
    with RunWriter(folder, "seed-0", seed=0) as writer:
        for epoch in range(CHECKPOINTS):
            margin = final * (1 - 0.5 ** (epoch + 1))
            fields = {
                "loss": torch.nn.functional.softplus(-margin),
                "correct": margin > 0,
                "margin": margin,
                "prediction": torch.where(margin > 0, target, other).short(),
                "count": torch.ones(size, dtype=torch.int32),
            }
            identity = DataIdentity(size, target)
            writer.append(Observation("train-online", epoch, epoch, fields, identity, num_classes=NUM_CLASSES))
        writer.complete()


def of_record(folder: str, repeats: int, kind: str) -> tuple[list[float], float]:
    """Return the seconds of each time, and the bytes that the memory grew by."""
    warnings.simplefilter("ignore")
    before, clock, seconds = peak_bytes(), Clock(kind), []
    for _ in range(repeats):
        record = EasinessRecord.load(folder)
        seconds.append(clock.time(partial(find_label_issues, record)))
    return seconds, peak_bytes() - before


def recorded(size: int, arguments: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), size)
        seconds, grown = in_process(of_record, folder, arguments.repeats, arguments.clock)
    share = size / 1e7
    name = f"find_label_issues of a record of {size:,}, {CHECKPOINTS} epochs"
    yield Row(name, Figure.of(seconds), SECONDS if share == 1 else None)
    note = f"{grown / size:.0f} bytes for each example"
    yield Row(f"{name}, memory", Figure.of([grown], "bytes"), BYTES if share == 1 else None, note=note)


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    for size in arguments.examples:
        yield from compared(size, arguments)
    for size in arguments.of_record:
        yield from recorded(size, arguments)


def parser() -> argparse.ArgumentParser:
    made = clock_parser(__doc__)
    made.add_argument("--examples", type=int, nargs="*", default=[100_000, 1_000_000], help="beside cleanlab")
    made.add_argument("--of-record", type=int, nargs="*", default=[1_000_000], help="of a record")
    made.add_argument("--pairs", type=int, default=5, help="default: %(default)s")
    made.add_argument("--repeats", type=int, default=3, help="of a record; default: %(default)s")
    return made


if __name__ == "__main__":
    script(parser(), rows)
