"""What an evaluation pass sees of one series, a column per field."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness.data.digest import DIGEST, with_digest
from lightning_easiness.observe.held_out import HeldOutRows
from lightning_easiness.observe.processes import over_processes
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.tasks import MARKS, PREDICTION, PROBABILITIES, PROBE_FIELDS

_TYPES = {
    "target": torch.int64,
    DIGEST: torch.int64,
    PREDICTION: torch.int32,
}  # float32 otherwise; no int16, which some cannot add


class Columns:
    """Columns (N,), filled by the predictions of batches in order.

    Each batch is worked on at once. Predictions that waited for one arithmetic, a third of its cost, would lie in the
    heap between the activations of the batches, which then took new pages from the system each time: dearer by far.
    `rows` takes the softmax of what a run holds out; None for none.
    """

    def __init__(
        self, reading: Reading, num_examples: int, device: torch.device, num_epochs: int, rows: HeldOutRows | None
    ) -> None:
        self._reading, self._num_examples, self._device = reading, num_examples, device
        self._num_epochs, self._rows = num_epochs, rows
        self._fields = PROBE_FIELDS if rows is None else (*PROBE_FIELDS, PROBABILITIES)
        self._columns: dict[str, Tensor] = {}

    def add(self, index: Tensor, prediction: object, target: object, is_padding: bool = False) -> None:
        """Take a batch of examples that follow each other; of padding nothing but the names of the columns."""
        observed = self._observed(index, prediction, target)
        self._make(observed)
        if is_padding:
            return
        start = int(index[0])
        for name, values in observed.items():
            if name != PROBABILITIES:
                self._columns[name][start : start + len(values)] = values
            elif self._rows is not None:
                self._rows.add(start, values)

    def _observed(self, index: Tensor, prediction: object, target: object) -> dict[str, Tensor]:
        size, seeds = len(index), self._reading.task.draw_seeds(index, self._num_epochs)
        found = self._reading.observe(prediction, target, size, fields=self._fields, seeds=seeds)
        return with_digest(found, target, size)

    def _make(self, observed: dict[str, Tensor]) -> None:
        """Make the columns of what is observed, which all processes need, where there are none yet."""
        for name in observed.keys() - self._columns.keys() - {PROBABILITIES}:
            dtype = _TYPES.get(name, torch.float32)
            self._columns[name] = torch.zeros(self._num_examples, dtype=dtype, device=self._device)

    def added_up(self, trainer: Trainer) -> dict[str, Tensor]:
        """Add up over the processes, in a fixed order of names, so that all processes do the same."""
        named = [name for name in (*PROBE_FIELDS, PREDICTION, *MARKS, "target", DIGEST) if name in self._columns]
        fields = {name: over_processes(trainer, self._columns[name]) for name in named}
        if "correct" in fields:
            fields["correct"] = fields["correct"] > 0
        if PREDICTION in fields:
            fields[PREDICTION] = fields[PREDICTION].short()
        return fields
