"""`FollowsTraining`: a rule that keeps something of each example, which goes on as examples are trained on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness.select.base import TIMES_TRAINED, Selected, SelectionState
from lightning_easiness.select.schedule import Scheduled


class FollowsTraining(Scheduled):
    """Takes in, before each decision, what training has shown since the last one; `needs` have TIMES_TRAINED."""

    _times: Tensor  # int64 (N,), in how many batches each example was by the last decision

    @override
    def forget(self) -> None:
        self._times = torch.empty(0, dtype=torch.int64)

    @abstractmethod
    def start(self, num_examples: int) -> None:
        """Keep nothing yet of so many examples."""

    @abstractmethod
    def take_in(self, observed: Mapping[str, Tensor], is_old: Tensor) -> None:
        """Go on by the latest values, which for some examples, bool (N,), are those of the last decision."""

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        if len(self._times) != state.num_examples:
            self._times = torch.zeros(state.num_examples, dtype=torch.int64)
            self.start(state.num_examples)
        if state.observed:
            times = state.observed[TIMES_TRAINED].long()
            is_old = times == self._times
            if not is_old.all():
                self.take_in(state.observed, is_old)
                self._times = times
        return super().select(state)
