"""The latest values of the fields that a selection goes by, from evaluation passes and from the training forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_easiness.data.observation import Observation
from lightning_easiness.record.layout import PASS_SERIES
from lightning_easiness.select.base import BATCH_LOSS, LAST_BATCH, TIMES_TRAINED


class Latest:
    """Keeps the latest value of each example of some fields: field -> `(N,)`, NaN where there is none yet."""

    def __init__(self, fields: Sequence[str] = ()) -> None:
        self.fields, self.values = tuple(fields), dict[str, Tensor]()
        self._has_seen = False  # whatever it is that it saw

    def note(self, observation: Observation) -> None:
        """Take in what was observed of all examples in a pass, or of those trained on in an epoch."""
        self._has_seen = True
        for name in self.fields:
            values = observation.fields.get(name)
            if values is not None:
                self.values[name] = self._latest(name, values, observation)

    def note_batches(self, loss: Tensor, times: Tensor, last: Tensor) -> None:
        """Take in the batches since the last decision, (N,) each: their mean loss, how many, and which was the last."""
        if not bool(times.any()):
            return
        self._has_seen = True
        none = torch.zeros_like(times)
        found = {
            BATCH_LOSS: torch.where(loss.isnan(), self.values.get(BATCH_LOSS, loss), loss),
            TIMES_TRAINED: times + self.values.get(TIMES_TRAINED, none),
            LAST_BATCH: torch.where(last > 0, last, self.values.get(LAST_BATCH, none)),
        }
        self.values |= {name: values for name, values in found.items() if name in self.fields}

    def known(self, size: int) -> Mapping[str, Tensor] | None:
        """Return the values of a data set of `size` examples; None where nothing was observed of it.

        It may be without what a selection goes by, where a task has no such fields.
        """
        if any(len(values) != size for values in self.values.values()):
            self.values = {}  # of another data set
        return dict(self.values) if self.values or self._has_seen else None

    def _latest(self, name: str, values: Tensor, observation: Observation) -> Tensor:
        values, known = values if values.is_floating_point() else values.float(), self.values.get(name)
        if observation.series == PASS_SERIES:
            return values
        if known is None or len(known) != len(values):
            known = torch.full_like(values, torch.nan)
        return torch.where((observation.fields["count"] > 0) & ~values.isnan(), values, known)
