"""What each kind of logger takes beside numbers: histograms, images, text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from lightning_easiness._utils.lightning import is_named
from lightning_easiness._utils.warnings import warn_once
from lightning_easiness.view.histograms import bin_edges
from lightning_easiness.view.images import transforms

Bins = dict[str, Any]


@dataclass(frozen=True)
class Sink:
    """Functions of a tag, what is shown, and Lightning's step; None for what a logger does not take."""

    image: Callable[[str, Tensor, int], object] | None = None
    histogram: Callable[[str, Bins, int], object] | None = None
    text: Callable[[str, str, int], object] | None = None


def sinks_of(trainer: Any) -> list[Sink]:
    """Return what the loggers take, in the process that logs; nothing in the others."""
    return [sink_of(logger) for logger in trainer.loggers] if trainer.is_global_zero else []


def sink_of(logger: Any) -> Sink:
    """Return what a logger takes."""
    for name, make in (("TensorBoardLogger", _tensorboard), ("WandbLogger", _wandb), ("MLFlowLogger", _mlflow)):
        if is_named(logger, name):
            found = make(logger)
            break
    else:
        # asked of the class: the logger of a trial run answers to every name
        found = Sink(_log_image(logger)) if callable(getattr(type(logger), "log_image", None)) else Sink()
    owner = type(logger).__name__
    parts = (found.image, found.histogram, found.text)
    return Sink(*(None if write is None else _Guarded(write, owner) for write in parts))


class _Guarded:
    """Calls a logger's function; what is only for show stops no training where a server cannot be reached."""

    def __init__(self, write: Callable[..., object], owner: str) -> None:
        self._write, self._owner = write, owner

    def __call__(self, tag: str, shown: Any, step: int) -> None:
        try:
            self._write(tag, shown, step)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            warn_once(f"'{tag}' could not be logged ({problem}); the training goes on.", kind=self._owner)


def _log_image(logger: Any) -> Callable[[str, Tensor, int], object]:
    return lambda tag, image, step: logger.log_image(key=tag, images=[transforms().to_pil_image(image)], step=step)


def _tensorboard(logger: Any) -> Sink:
    board = logger.experiment
    return Sink(
        board.add_image,
        lambda tag, bins, step: board.add_histogram_raw(tag, **bins, global_step=step),
        board.add_text,
    )


def _wandb(logger: Any) -> Sink:
    def histogram(tag: str, bins: Bins, step: int) -> None:
        shown = import_module("wandb").Histogram(np_histogram=(bins["bucket_counts"], bin_edges(bins)))
        logger.log_metrics({tag: shown}, step)

    return Sink(_log_image(logger), histogram)


def _mlflow(logger: Any) -> Sink:
    """MLflow has images that go by step, and files; no histograms."""
    client, run = logger.experiment, logger.run_id

    def image(tag: str, image: Tensor, step: int) -> None:
        client.log_image(run, transforms().to_pil_image(image), key=tag, step=step)

    return Sink(image, text=lambda tag, text, step: client.log_text(run, text, f"{tag}.md"))
