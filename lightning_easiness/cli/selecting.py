"""What `select` keeps: after removing a fraction, or by the decisions that were made on a report."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

import lightning_easiness as easiness
from lightning_easiness.cli.answer import Answer
from lightning_easiness.cli.files import index_lines, write_indices
from lightning_easiness.cli.next_steps import look
from lightning_easiness.cli.source import Source
from lightning_easiness.cli.words import describe
from lightning_easiness.data.decisions import read_decisions
from lightning_easiness.view.words import count_of


def selected(source: Source, output: Path | None, ratio: float, *arguments: Any, **options: Any) -> Answer:
    """Keep what an Ablation keeps."""
    _, scores = source.read()
    selection = easiness.Ablation(scores, ratio, *arguments, **options)
    kept, labels = selection.kept, scores.target
    lost = [str(label) for label in sorted(set(labels.tolist()) - set(labels[kept].tolist())) if label >= 0]
    if lost:
        named = ", ".join(lost[:10]) + (" ..." if len(lost) > 10 else "")
        warnings.warn(f"no example with the label {named} is kept: see --per-class.", stacklevel=1)
    rule = "at random" if selection.remove == "random" else f"{selection.remove} ones, sampling '{selection.sampling}'"
    means = scores.values.mean(), scores.values[kept].mean()
    remark = (
        f"Kept {len(kept):,} of {len(scores):,} examples ({len(kept) / len(scores):.1%}), removed {rule}, seed "
        f"{selection.seed}. {describe(scores)} Its mean is {means[0]:.4g}, of those kept {means[1]:.4g}."
    )
    values = {
        "score": scores.name,
        "ratio": ratio,
        "remove": selection.remove,
        "sampling": selection.sampling,
        "seed": selection.seed,
        "mean": means[0],
        "mean_of_kept": means[1],
        "decisions": None,
        "num_relabelled": 0,
    }
    return _kept(source, kept, len(scores), scores.source_index, output, remark, values)


def decided(source: Source, decisions: Path, output: Path | None) -> Answer:
    """Keep what was decided on a report, checked against the record."""
    made = read_decisions(decisions)
    record = easiness.EasinessRecord.load(source.path, source.series)
    made.check_same(record.identity, f"'{decisions}'")
    relabelled = int((made.labels >= 0).sum())
    if relabelled:
        warnings.warn(
            f"'{decisions}' gives {count_of(relabelled, 'example')} a new label, which indices do not say: train with"
            " Keep.from_decisions(path).",
            stacklevel=1,
        )
    remark = f"Kept {len(made.kept):,} of {record.num_examples:,} examples, by the decisions of '{decisions}'."
    nothing = ("score", "ratio", "remove", "sampling", "seed", "mean", "mean_of_kept")
    values = {**dict.fromkeys(nothing), "decisions": decisions, "num_relabelled": relabelled}
    return _kept(source, made.kept, record.num_examples, record.source_index, output, remark, values)


def _kept(
    source: Source,
    kept: Tensor,
    num_examples: int,
    source_index: Tensor | None,
    output: Path | None,
    remark: str,
    values: dict[str, Any],
) -> Answer:
    if output is not None:
        write_indices(kept, output, source_index)
    if source_index is not None:
        remark += " Indices count in the part that was trained on; a .csv has those in the whole data set too."
    found = {"path": source.path, "num_examples": num_examples, "num_kept": len(kept), **values, "output": output}
    found["kept"] = kept if output is None else None
    steps = (look(source, kept=output),) if output is not None and output.suffix == ".npy" else ()
    return Answer(found, "" if output is not None else index_lines(kept), (remark,), steps)
