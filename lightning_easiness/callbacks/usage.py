"""How much of the data each epoch trains on, and how long it takes: average data use (ADU) and run time (ART)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any


class UsageMeter:
    """Notes the share of the data and the seconds of each epoch; what happens inside `paused` is not counted.

    Example:
        >>> meter = UsageMeter()
        >>> meter.start()
        >>> for share in (1.0, 0.5, 0.25):
        ...     meter.end_epoch(share)
        >>> meter.average_data_use(first_epoch=1)
        0.375
    """

    def __init__(self) -> None:
        self.data_use: list[float] = []
        self.epoch_seconds: list[float] = []
        self._started = 0.0
        self._paused = 0.0

    def start(self) -> None:
        """An epoch begins now, its selection with it."""
        self._started, self._paused = time.perf_counter(), 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what only looks on, as validation and a probe for the record."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def leave_out(self, seconds: float) -> None:
        """Leaves out what was measured elsewhere."""
        self._paused += seconds

    def end_epoch(self, share: float) -> None:
        """The epoch is over; the next begins."""
        self.data_use.append(share)
        self.epoch_seconds.append(time.perf_counter() - self._started - self._paused)
        self.start()

    def average_data_use(self, first_epoch: int = 0) -> float:
        """Mean share of the data that an epoch trained on, from an epoch on (ADU); NaN before there is one."""
        return fmean(self.data_use[first_epoch:]) if self.data_use[first_epoch:] else float("nan")

    def average_epoch_seconds(self, first_epoch: int = 0) -> float:
        """Mean seconds of an epoch, selection included, from an epoch on (ART); NaN before there is one."""
        return fmean(self.epoch_seconds[first_epoch:]) if self.epoch_seconds[first_epoch:] else float("nan")

    def state_dict(self) -> dict[str, Any]:
        """The epochs so far, as plain types."""
        return {"data_use": list(self.data_use), "epoch_seconds": list(self.epoch_seconds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.data_use, self.epoch_seconds = list(state["data_use"]), list(state["epoch_seconds"])
