"""The runs of a comparison of selections, each trained and evaluated once, and their table as a figure.

`compression.compare_selections` decides which; what is here also serves the steps of a compression: one decision for
all processes, and a selection under whatever `repeat_fit` takes as data.
"""

from __future__ import annotations

import inspect
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.lightning import is_named, is_writer
from lightning_easiness._utils.rng import OwnGenerators
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.loaders import num_examples
from lightning_easiness.experiments.repeats import own_seeding, run_name
from lightning_easiness.record.files import write_whole
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.datamodule import EasinessDataModule
from lightning_easiness.select.static import Ablation, Keep

if TYPE_CHECKING:
    from lightning_easiness.experiments.compression import StepwiseCompression

_T = TypeVar("_T")


@dataclass
class Comparison:
    """Trains and evaluates the runs of a comparison, each once.

    Args:
        compression: has the factories, the data and the steps.
        folder: of the results.
        metric: that is asked for.
        evaluate: "validate" or "test".
        hardest_dropped: of "stratified".
    """

    compression: StepwiseCompression
    folder: Path
    metric: str
    evaluate: str
    hardest_dropped: float
    scores: Any = field(default=None)

    def result(self, method: str, ratio: float, seed: int, max_steps: int | None) -> dict[str, Any]:
        """Returns the "value" of the metric, "num_kept" and "updates" of one run, from disk or after training it."""
        kind = f"{self.evaluate}-{'epochs' if max_steps is None else f'{max_steps}-updates'}"
        path = self.folder / kind / f"{method}-{ratio}" / f"{run_name(seed)}.json"
        found = agreed(lambda: json.loads(path.read_text(encoding="utf-8")) if path.exists() else None)
        if found is None:
            fitted = self._fit(self._selection(method, ratio, seed), seed, max_steps)
            found = agreed(lambda: fitted)
            if is_writer():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(found, indent=1).encode())
        if self.metric not in found["metrics"]:
            held = ", ".join(map(repr, found["metrics"])) or "none"
            raise ValueError(
                f"The `metric` of compare_selections must be one that the module logs in {self.evaluate}; got"
                f" {self.metric!r}, but there are: {held}."
            )
        return {"value": found["metrics"][self.metric], "num_kept": found["num_kept"], "updates": found["updates"]}

    def _selection(self, method: str, ratio: float, seed: int) -> Selection | None:
        if method == "everything":
            return None
        if method == "random":
            return _Random(ratio, seed)
        if method == "stepwise":
            return Keep(self.compression.kept_at(ratio))
        if self.scores is None:
            self.scores = self.compression.measure(1, None).score("mean_loss")
        if method == "stratified":
            dropped = min(self.hardest_dropped, ratio)
            return Ablation(self.scores, ratio, sampling="stratified", seed=seed, hardest_dropped=dropped)
        return Ablation(self.scores, ratio, "easy" if method == "easy" else "hard", seed=seed)

    def _fit(self, selection: Selection | None, seed: int, max_steps: int | None) -> dict[str, Any]:
        given = {"seed": seed} if max_steps is None else {"seed": seed, "max_steps": max_steps}
        with own_seeding():
            seed_everything(seed, workers=True, verbose=False)
            module: LightningModule = _call(self.compression.make_module, seed=seed)
            trainer: Trainer = _call(self.compression.make_trainer, **given)
            _leave_out_observers(trainer)
            data = with_selection(self.compression.datamodule, selection)
            data = data if isinstance(data, EasinessDataModule) else data()
            with OwnGenerators(data):
                trainer.fit(module, datamodule=data)
                _check_trained(trainer, max_steps)
                updates, chosen = trainer.global_step, data.selected_indices
                num_kept = len(chosen) if chosen is not None else _num_examples(trainer)
                found = getattr(trainer, self.evaluate)(module, datamodule=data, verbose=False)
        metrics = {name: float(value) for of_loader in found for name, value in of_loader.items()}
        return {"metrics": metrics, "num_kept": num_kept, "updates": updates}


class _Random(Selection):
    """As many as the others, drawn uniformly."""

    def __init__(self, ratio: float, seed: int) -> None:
        self.ratio, self.seed = ratio, seed

    @override
    def select(self, state: SelectionState) -> Tensor:
        return functional.ablate(
            torch.zeros(state.num_examples), self.ratio, "random", higher_is_easier=False, seed=self.seed
        )


def row(method: str, ratio: float, metric: str, equal: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the row of a table for the runs of one method at one ratio.

    Example:
        >>> runs = [{"value": value, "num_kept": 70, "updates": 20} for value in (0.5, 0.7)]
        >>> row("random", 0.3, "val_acc", "epochs", runs)["mean"]
        0.6
    """
    values = [result["value"] for result in results]
    return {
        "method": method,
        "ratio": ratio,
        "num_kept": int(results[0]["num_kept"]),
        "metric": metric,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else float("nan"),
        "num_seeds": len(values),
        "equal": equal,
        "updates": statistics.fmean(result["updates"] for result in results),
    }


def with_selection(datamodule: Any, selection: Selection | None) -> Any:
    """Returns data as `repeat_fit` takes it, of which the selection is trained on: a datamodule, or a function.

    Raises:
        TypeError: it is none of what `repeat_fit` takes, or None.
    """
    if callable(datamodule) and not is_named(datamodule, "LightningDataModule"):
        return lambda: EasinessDataModule(datamodule(), selection)
    return EasinessDataModule(datamodule, selection)


def takes(factory: Callable[..., Any], name: str) -> bool:
    """Tells whether a user's function has a parameter of that name.

    Example:
        >>> takes(lambda max_steps=-1: None, "max_steps"), takes(lambda: None, "max_steps")
        (True, False)
    """
    try:
        return name in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False


def agreed(decide: Callable[[], _T]) -> _T:
    """Returns what the first process decides, or raises its error, in all processes of a group that is at work."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return decide()
    answer: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            answer[1] = error
    distributed.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    decided: _T = answer[0]
    return decided


def _call(factory: Callable[..., Any], **given: Any) -> Any:
    return factory(**{name: value for name, value in given.items() if takes(factory, name)})


def _leave_out_observers(trainer: Trainer) -> None:
    """A run for the table is not observed: it has no place in the record of the runs that measure."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [one for one in callbacks if not isinstance(one, EasinessCallback)]


def _num_examples(trainer: Trainer) -> int:
    loader: Any = trainer.train_dataloader
    return num_examples(loader.dataset)


def _check_trained(trainer: Trainer, max_steps: int | None) -> None:
    if trainer.interrupted:
        raise KeyboardInterrupt
    if max_steps is not None and trainer.global_step != max_steps:
        raise ValueError(
            f"The Trainer that `make_trainer` returned for max_steps={max_steps} made {trainer.global_step} updates;"
            " let it return Trainer(max_steps=max_steps, max_epochs=-1, ...), with no other limit."
        )
