"""Writes runs that were read into another folder, in the form that they were read in."""

from collections.abc import Sequence
from pathlib import Path

from lightning_easiness.record.probabilities import have_probabilities, open_probabilities
from lightning_easiness.record.series import RecordedSeries
from lightning_easiness.record.writer import RunWriter


def save_runs(runs: Sequence[RecordedSeries], series: str, dirpath: str | Path) -> None:
    """Write one series of runs, and their averaged probabilities, into folders under `dirpath`.

    Raises:
        FileExistsError: `dirpath` holds checkpoints of a run of that name.
        OSError: it cannot be written to.
    """
    for run in runs:
        with RunWriter(dirpath, run.name, seed=run.info.seed, versions=run.info.versions) as writer:
            target = run.target()
            for file in run.checkpoints:
                writer.append(
                    series,
                    step=file.step,
                    epoch=file.epoch,
                    target=target,
                    fields={field: file.read(field) for field in file.fields},
                    num_classes=file.num_classes,
                    loss=file.loss,
                )
            if have_probabilities([run], series):
                (held,) = open_probabilities([run], series)
                writer.replace_probabilities(held.read(), held.read("count"), step=held.step, epoch=held.epoch)
            if run.info.complete:
                writer.complete()
