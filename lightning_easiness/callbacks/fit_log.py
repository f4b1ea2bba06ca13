"""`FitLog`: everything that one fit shows in its loggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_easiness._utils.lightning import fit_progress, log_step, trial_batches
from lightning_easiness.callbacks.explained import explain
from lightning_easiness.callbacks.galleries import log_galleries
from lightning_easiness.callbacks.history import History
from lightning_easiness.callbacks.logging import log_observation, show
from lightning_easiness.callbacks.sinks import sinks_of
from lightning_easiness.data.observation import Observation
from lightning_easiness.record.layout import ONLINE_SERIES, PASS_SERIES
from lightning_easiness.view.data_map import data_map_image
from lightning_easiness.view.words import count_of

_IMAGES_PER_FIT = 10  # of each kind: TensorBoard keeps ten per card


class FitLog:
    """Shows the checkpoints of a fit: numbers and histograms each time, images about ten times and at the end.

    Sums over checkpoints are kept in the process that logs, where there is a logger; a fit that is resumed takes them
    from its run on disk.
    """

    def __init__(self, by_class: bool = False, num_images: int = 12, class_names: Sequence[str] | None = None) -> None:
        self._by_class, self._num_images, self._names = by_class, num_images, class_names
        self._run: Path | None = None
        self._is_on = False
        self._num_unlabelled = 0
        self._histories: dict[str, History] = {}
        self._drawn_at: dict[str, int] = {}  # tag -> tenth of the fit
        self._waiting: dict[str, Callable[[], None]] = {}  # tag -> what to draw if nothing newer comes

    def begin(self, trainer: Trainer, folder: Path | None, run: str | None) -> None:
        """Explain the tags; `run` in `folder` may hold checkpoints from before."""
        self._is_on = trainer.is_global_zero and bool(trainer.loggers) and not trial_batches(trainer)
        self._run = None if folder is None or run is None else folder / run
        if self._is_on:
            explain(trainer, folder)

    def show(self, trainer: Trainer, observation: Observation, at_epoch_end: bool) -> None:
        """Show a checkpoint, in all processes."""
        self._count_unlabelled(observation)
        log_observation(trainer, observation, by_class=self._by_class, at_epoch_end=at_epoch_end)
        if not self._is_on:
            return
        series, history = observation.series, self._history(observation)
        history.add(observation.fields, observation.epoch, log_step(trainer), observation.loss_name)
        show(trainer, _rates(series, "previous", history.matching_with_previous()), log_step(trainer))
        if history.num_checkpoints > 1 and history.is_probability and self._takes_images(trainer):
            self._draw(trainer, f"easiness/{series}/data_map", lambda: _log_data_map(trainer, series, history))

    def show_examples(self, trainer: Trainer, dataset: Any, observation: Observation) -> None:
        """Show examples of a checkpoint of an evaluation pass."""
        if self._is_on and self._num_images and self._takes_images(trainer):
            own = self._histories[observation.series]
            online = self._histories.get(ONLINE_SERIES) if observation.series == PASS_SERIES else None
            options: dict[str, Any] = {"num_images": self._num_images, "names": self._names}
            draw: Callable[[], None] = lambda: log_galleries(  # noqa: E731
                trainer, dataset, observation, own, online or own, **options
            )
            self._draw(trainer, f"easiness/{observation.series}/examples", draw)

    def end(self, trainer: Trainer) -> None:
        """Draw the last checkpoints, and compare all others with them."""
        for draw in self._waiting.values():
            draw()
        self._waiting = {}
        for series, history in self._histories.items():
            for step, rates in history.matching_with_last():
                show(trainer, _rates(series, "last", rates), step)

    def _count_unlabelled(self, observation: Observation) -> None:
        """Say once how many examples have no label."""
        found = 0 if observation.unlabelled is None else int(observation.unlabelled.sum())
        if found > self._num_unlabelled:
            self._num_unlabelled = found
            rank_zero_info(
                f"{found} of {len(observation.fields['loss'])} examples have no label: their values are NaN, and they"
                " are in no ranking."
            )

    def _history(self, observation: Observation) -> History:
        series = observation.series
        if series not in self._histories:
            self._histories[series] = History(len(observation.fields["loss"]))
            if self._run is not None:
                self._histories[series].restore(self._run, series, before=observation.step)
        return self._histories[series]

    def _draw(self, trainer: Trainer, tag: str, draw: Callable[[], None]) -> None:
        """Draw at once, if the fit is a tenth further than at the last time, else at the end if nothing newer comes."""
        tenth = int(_IMAGES_PER_FIT * fit_progress(trainer))
        if tenth > self._drawn_at.get(tag, -1):
            self._drawn_at[tag] = tenth
            self._waiting.pop(tag, None)
            draw()
        else:
            self._waiting[tag] = draw

    def _takes_images(self, trainer: Trainer) -> bool:
        return any(sink.image is not None for sink in sinks_of(trainer))


def _rates(series: str, other: str, rates: dict[str, float]) -> dict[str, float]:
    return {f"easiness-matching/{series}/{end}_with_{other}": rate for end, rate in rates.items()}


def _log_data_map(trainer: Trainer, series: str, history: History) -> None:
    confidence = history.confidence
    known = confidence[confidence.isfinite()]
    if not len(known):
        return
    likely = 100 * float((known >= 0.5).double().mean())
    title = (
        f"Data map: {likely:.1f} % of {len(known):,} are likely\n"
        f"{series}, {count_of(history.num_checkpoints, 'checkpoint')}; likely: confidence 0.5 or more"
    )
    image = data_map_image(confidence, history.variability, history.correctness, title)
    for sink in sinks_of(trainer):
        if sink.image is not None:
            sink.image(f"easiness/{series}/data_map", image, log_step(trainer))
