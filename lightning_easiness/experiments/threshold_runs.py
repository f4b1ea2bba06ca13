"""The threshold protocol: two trainings in which some examples get an extra class, to find label errors.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.subset import num_examples
from lightning_easiness.experiments._factories import (
    agreed,
    check_claim,
    check_factories,
    check_seeds,
    claim,
    make,
    takes,
    with_selection,
)
from lightning_easiness.experiments.executor import Workers
from lightning_easiness.experiments.halves import ARGUMENTS_FILE, half_folders
from lightning_easiness.experiments.repeats import Repeats, missing_run, observers, run_name, train_all
from lightning_easiness.observe.checks import only_loader
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.record.layout import ONLINE_SERIES, is_complete
from lightning_easiness.record.next_command import quoted, recorded
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.select.base import Selected, Selection, SelectionState


class ThresholdExamples(Selection):
    """Trains on all examples, N / (K + 1) of them with the extra class K.

    The model needs K + 1 outputs. See `functional.threshold_examples` and `ThresholdRuns`.

    Args:
        num_classes: K, the number of real classes, 0 to K - 1.
        part: 0 or 1, one of two disjoint sets.
        seed: Seed of the draw, the same for both parts.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Raises:
        ValueError: There are less than two classes, or `part` is neither 0 nor 1.

    Example:
        >>> ThresholdExamples(num_classes=2, seed=1).select(SelectionState(num_examples=6)).labels
        tensor([-1,  2, -1, -1, -1,  2])
    """

    def __init__(
        self,
        num_classes: int,
        part: int = 0,
        seed: int = 0,
        *,
        replace_fn: Callable[[Any, int], Any] | None = None,
    ) -> None:
        self.num_classes, self.part, self.seed, self.replace_fn = num_classes, part, seed, replace_fn
        self.indices(2 * max(2, num_classes))  # raises what is wrong with the arguments

    def indices(self, num_examples: int) -> Tensor:
        """Return the examples that get the class K in a data set of this length, ascending, int64 (n,)."""
        nothing = torch.zeros(num_examples, dtype=torch.int64)  # the draw goes by the length alone
        return functional.threshold_examples(nothing, self.num_classes, self.part, self.seed)

    @override
    def select(self, state: SelectionState) -> Selected:
        if state.target is not None:
            self.check_real("ThresholdExamples", state.target)
        labels = torch.full((state.num_examples,), -1)
        labels[self.indices(state.num_examples)] = self.num_classes
        return Selected(torch.arange(state.num_examples), labels=labels)

    def check_real(self, owner: str, target: Tensor) -> None:
        """Raise a ValueError if an example already has the class K or a larger one."""
        wrong = (target >= self.num_classes).nonzero()[:, 0]
        if len(wrong):
            raise ValueError(
                f"The `num_classes` of {owner} is {self.num_classes}, which then is the threshold class, but example"
                f" {int(wrong[0])} has the label {int(target[wrong[0]])}, and so {len(wrong)} are outside 0 to"
                f" {self.num_classes - 1}: give the number of real classes."
            )


class ThresholdRuns:
    """The two runs of the threshold protocol, which find label errors without an assumption on the scores.

    Each trains with N / (K + 1) examples labelled with an extra class K; these are as hard as label errors. The two
    sets are disjoint, so that each example has its own label in at least one run, and most examples in both. It costs
    two trainings per seed. Find the label errors with

        find_label_issues(ThresholdRuns(...).run(), rule=Threshold())  # or from the folder

    On disk, `dirpath/half-0` and `dirpath/half-1` hold the runs, as `repeat_fit` writes them, and
    `dirpath/threshold.json` the arguments of the draw. After a kill, it continues where it stopped.

    If the Trainer has an EasinessCallback, it must observe online; otherwise one is added, without an evaluation pass
    and with averaged probabilities, for suggested labels. `Refine()` needs an evaluation pass.

    Args:
        make_trainer, datamodule, seeds: As in `repeat_fit`, of both halves; all of the data are trained on.
        make_module: As in `repeat_fit`; its parameter `num_classes` is given K + 1, the number of outputs that the
            module must have.
        num_classes: K, the number of real classes, 0 to K - 1.
        dirpath: The folder of the runs.
        seed: Seed of the draw of the threshold examples.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.
        progress: Show a bar over the runs.
        executor, retries: As in `repeat_fit`, for the runs of both halves.

    Raises:
        ValueError: There are less than two classes.
        TypeError: `datamodule` is none of these, or `make_module` takes no `num_classes`.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> def make_module(num_classes):
        ...     return LightningModule()
        >>> runs = ThresholdRuns(Trainer, make_module, DataLoader(range(40)), num_classes=3, dirpath="threshold_runs")
        >>> [folder.name for folder in runs.folders]
        ['half-0', 'half-1']
    """

    def __init__(
        self,
        make_trainer: Callable[..., Trainer],
        make_module: Callable[..., LightningModule],
        datamodule: Any,
        num_classes: int,
        dirpath: str | os.PathLike[str] = "threshold_runs",
        seeds: Iterable[int] = (0,),
        *,
        seed: int = 0,
        replace_fn: Callable[[Any, int], Any] | None = None,
        progress: bool = True,
        executor: Any = None,
        retries: int = 1,
    ) -> None:
        self._selections = [ThresholdExamples(num_classes, part, seed, replace_fn=replace_fn) for part in (0, 1)]
        check_factories("ThresholdRuns", make_trainer, make_module)
        if not takes(make_module, "num_classes"):
            raise TypeError(
                "The `make_module` of ThresholdRuns must take `num_classes`, the number of outputs, which is one more"
                f" than the {num_classes} classes of the data set: def make_module(num_classes): ..."
            )
        with_selection(datamodule, None)  # raises what is wrong with it
        self.make_trainer, self.make_module, self.datamodule = make_trainer, make_module, datamodule
        self.num_classes, self.seed, self.seeds = num_classes, seed, check_seeds("ThresholdRuns", seeds)
        self._workers = Workers("ThresholdRuns", executor, retries)
        self._workers.check_sendable(make_trainer=make_trainer, make_module=make_module, datamodule=datamodule)
        self.dirpath, self.progress = self._workers.folder(Path(dirpath)), progress

    @property
    def folders(self) -> list[Path]:
        """The folders of the two halves."""
        return half_folders(self.dirpath)

    @property
    def _arguments(self) -> tuple[Path, dict[str, Any]]:
        """The file of the arguments of the draw, and these."""
        return self.dirpath / ARGUMENTS_FILE, {"num_classes": self.num_classes, "seed": self.seed}

    def run(self) -> list[EasinessRecord]:
        """Train the runs that are not complete on disk, and return the online record of each half.

        Raises:
            ValueError: The module's head is not one wider than the real classes; a real label is the threshold class;
                `dirpath` holds another draw, or runs of another data set; the Trainer's callback does not observe
                online.
            RuntimeError: A run was not completed.
        """
        check_claim(*self._arguments)
        labels = self._known_labels()  # before anything is trained
        train_all(self._halves(), 2 * len(self.seeds), self._workers, self.progress)
        records = []
        for part, folder in enumerate(self.folders):
            missing = agreed(partial(missing_run, folder, self.seeds))
            if missing:
                raise RuntimeError(f"Run '{missing}' in '{folder}' is not complete: run again to go on with it.")
            records.append(EasinessRecord.load(folder, ONLINE_SERIES, map(run_name, self.seeds)))
            labels = self.check_labels(part, records[-1].target, labels)
        command = f"issues {quoted(self.dirpath)} --rule threshold"
        rank_zero_info(recorded(self.dirpath, "The threshold protocol", command))
        return records

    def _known_labels(self) -> DataIdentity | None:
        """Return the data set by its real labels, from the runs that are complete; raise where they do not fit."""
        labels: DataIdentity | None = None
        for part, folder in enumerate(self.folders):
            complete = [run for run in map(run_name, self.seeds) if is_complete(folder / run)]
            if complete:
                record = EasinessRecord.load(folder, ONLINE_SERIES, complete)
                labels = self.check_labels(part, record.target, labels)
        return labels

    def _halves(self) -> Iterator[Repeats]:
        """Yield what each half trains, when its turn comes."""
        for part, folder in enumerate(self.folders):
            make_trainer = partial(self._make_trainer, part, self._known_labels())
            data = with_selection(self.datamodule, self._selections[part])
            yield Repeats(make_trainer, self._make_module, data, self.seeds, folder)

    def __getattr__(self, name: str) -> Any:
        if name in ("find_label_issues", "threshold_indices"):
            raise AttributeError(f"ThresholdRuns has no `{name}` any more: find_label_issues(runs.run(), Threshold()).")
        raise AttributeError(f"'ThresholdRuns' object has no attribute {name!r}")

    def _make_module(self, seed: int) -> Any:
        return make(self.make_module, seed=seed, num_classes=self.num_classes + 1)

    def _make_trainer(self, part: int, labels: DataIdentity | None, seed: int, devices: Any = None) -> Trainer:
        of_place = {} if devices is None else {"devices": devices}
        trainer: Trainer = make(self.make_trainer, seed=seed, **of_place)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if not observers(trainer):
            callbacks.insert(0, EasinessCallback(probe=None, probabilities=True, num_images=0))
        if not any(isinstance(one, _Guard) for one in callbacks):  # of a Trainer that repeat_fit will refuse
            callbacks.insert(0, _Guard(self, part, labels, observers(trainer)[0]))
        return trainer

    def check_labels(self, part: int, trained: Tensor, known: DataIdentity | None) -> DataIdentity:
        """Return the data set by its real labels, from those a half was trained on; raise where they do not fit."""
        selection, real = self._selections[part], trained.clone()
        indices = selection.indices(len(trained))
        real[indices] = -1
        if bool(((trained[indices] >= 0) & (trained[indices] != self.num_classes)).any()):
            raise ValueError(
                f"The runs in '{self.folders[part]}' were not trained with the examples that `num_classes` and `seed`"
                " of ThresholdRuns draw now; give it the arguments of then, or another `dirpath`."
            )
        selection.check_real("ThresholdRuns", real)
        found, way_out = DataIdentity.of_target(real), "give it another `dirpath`, or the data of then to go on."
        if known is None:
            return found
        known.check_same(found, f"The runs in '{self.dirpath}'", "the data of ThresholdRuns", way_out)
        return known.merged(found)


class _Guard(Callback):
    """The checks of a run: its module, data and labels must fit the protocol, before it claims the folder."""

    def __init__(self, runs: ThresholdRuns, part: int, labels: DataIdentity | None, observer: EasinessCallback) -> None:
        if not observer.online:
            raise ValueError(
                "The EasinessCallback of ThresholdRuns must observe online, as the area under the margin is taken from"
                " training itself; give it online=True."
            )
        self._runs, self._part, self._labels, self._observer = runs, part, labels, observer
        self._is_checked = False

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._observer.subscribe(self._check_labels)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._observer.unsubscribe(self._check_labels)  # it may observe the other half too

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = only_loader(trainer.train_dataloader, "train")
        self._runs.check_labels(self._part, torch.full((num_examples(loader.dataset),), -1), self._labels)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._is_checked:
            self._is_checked = True
            self._check_head(trainer, batch)
            claim(*self._runs._arguments)  # only now that something is trained

    def _check_head(self, trainer: Trainer, batch: Any) -> None:
        loader = only_loader(trainer.train_dataloader, "train")
        outputs = EvaluationPass("train", loader, self._observer.reader).count_outputs(trainer, batch)
        classes = self._runs.num_classes
        if outputs != classes + 1:
            found = "no logits (B, classes)" if outputs is None else f"{outputs} outputs"
            raise ValueError(
                f"The module that `make_module` of ThresholdRuns returned has {found}, but with {classes} classes and"
                f" the one that does not exist it needs {classes + 1}: give its head the `num_classes` that make_module"
                " is given."
            )

    def _check_labels(self, observation: Observation) -> None:
        if observation.series == ONLINE_SERIES and observation.target is not None:
            self._runs.check_labels(self._part, observation.target, self._labels)
