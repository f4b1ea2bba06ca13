"""How much of the data each epoch trains on, and how long it takes: average data use (ADU) and run time (ART)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_easiness.callbacks.logging import log_scalars
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.subset import num_examples, num_selected
from lightning_easiness.view.words import count_of


class UsageMeter:
    """Keeps the share of the data and the seconds of each epoch; what happens inside `paused` is not counted."""

    def __init__(self) -> None:
        self.data_use: list[float] = []
        self.epoch_seconds: list[float] = []
        self._started = 0.0
        self._paused = 0.0  # of the seconds since then, those that do not count
        self._pause_began = 0.0
        self._carried = 0.0  # seconds of the epoch from before a fit was stopped

    def start(self) -> None:
        """Begin an epoch, its selection with it."""
        self._started, self._paused = time.perf_counter(), 0.0

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._started - self._paused + self._carried

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what serves no training, as an evaluation pass for the record."""
        began = time.perf_counter()  # not by `pause`: one may lie within another
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def pause(self) -> None:
        """Leave out what comes until `go_on`."""
        self._pause_began = time.perf_counter()

    def go_on(self) -> None:
        """End a pause."""
        self._paused += time.perf_counter() - self._pause_began

    def count(self, seconds: float) -> None:
        """Add time that was left out before to the current epoch."""
        self._carried += seconds

    def end_epoch(self, share: float) -> None:
        """End the epoch; the next begins."""
        self.data_use.append(share)
        self.epoch_seconds.append(self._seconds)
        self._carried = 0.0
        self.start()

    def average_data_use(self, first_epoch: int = 0) -> float:
        """Return the mean share of the data that an epoch trained on, from an epoch on (ADU); NaN without one."""
        return fmean(self.data_use[first_epoch:] or [float("nan")])

    def average_epoch_seconds(self, first_epoch: int = 0) -> float:
        """Return the mean seconds of an epoch, selection included, from an epoch on (ART); NaN without one."""
        return fmean(self.epoch_seconds[first_epoch:] or [float("nan")])

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs so far, as plain types."""
        epochs = {"data_use": list(self.data_use), "epoch_seconds": list(self.epoch_seconds)}
        return {**epochs, "open_seconds": self._seconds if self._started else 0.0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.data_use, self.epoch_seconds = list(state["data_use"]), list(state["epoch_seconds"])
        self._carried = state["open_seconds"]


def trained_share(trainer: Trainer, online: Observation | None) -> float:
    """Return the fraction of the data that the epoch trained on; `online` is its online observation, if any."""
    if online is not None:
        return online.num_seen / online.identity.num_examples
    of_batches: float | None = getattr(getattr(trainer, "datamodule", None), "share_of_batches", None)
    if of_batches is not None:
        return of_batches
    dataset: Any = getattr(trainer.train_dataloader, "dataset", None)
    return num_selected(dataset) / num_examples(dataset) if hasattr(dataset, "__len__") else 1.0


def log_usage(trainer: Trainer, meter: UsageMeter, at_epoch_end: bool) -> None:
    """Log the share of the data and the seconds of the last epoch; shown only where a selection is at work."""
    used = {"easiness/data_use": meter.data_use[-1], "easiness/epoch_seconds": meter.epoch_seconds[-1]}
    shown, monitored = (used, None) if _selection(trainer) is not None else ({}, used)
    log_scalars(trainer, shown, monitored=monitored, at_epoch_end=at_epoch_end, reduce="mean")


def _selection(trainer: Trainer) -> Any:
    return getattr(getattr(trainer, "datamodule", None), "selection", None)


def log_average_usage(meter: UsageMeter, trainer: Trainer) -> None:
    """Log what training by a selection saved, over all epochs as it is for its control: once, where one was at work."""
    epochs = len(meter.data_use)
    if _selection(trainer) is None or not epochs:
        return
    rank_zero_info(
        f"Average data use {meter.average_data_use():.1%} and {meter.average_epoch_seconds():.2f} s per epoch, over"
        f" {count_of(epochs, 'epoch')}, selection and early epochs included."
    )
