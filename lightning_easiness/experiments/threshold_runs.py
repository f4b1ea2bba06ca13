"""The threshold protocol: two trainings in which a few examples have a class that does not exist, to find wrong labels.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.lightning import is_writer
from lightning_easiness._utils.rng import OwnGenerators, isolated_streams, set_streams
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.loaders import num_examples
from lightning_easiness.data.observation import Observation
from lightning_easiness.data.subset import known_target, whole
from lightning_easiness.experiments._factories import agreed, takes, with_selection
from lightning_easiness.experiments.repeats import repeat_fit, run_name
from lightning_easiness.experiments.threshold_set import (
    SET_FILE,
    arguments_of_draw,
    check_arguments,
    check_length,
    half_folders,
    lists_others,
    read_set,
    read_sets,
    write_set,
)
from lightning_easiness.labels.find import LabelIssues
from lightning_easiness.labels.threshold_issues import (
    Needs,
    check_observed,
    check_options,
    check_recorded,
    find_threshold_issues,
    needs_of,
)
from lightning_easiness.observe.checks import only_loader
from lightning_easiness.observe.evaluation import EvaluationPass
from lightning_easiness.record.layout import ONLINE_SERIES, is_complete
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.select.base import Selection, SelectionState
from lightning_easiness.select.datamodule import EasinessDataModule

__all__ = ["ThresholdExamples", "ThresholdRuns", "find_threshold_issues"]


class ThresholdExamples(Selection):
    """Trains on all examples, N / (K + 1) of them under the class K, which does not exist.

    The model needs K + 1 outputs. See `functional.threshold_examples` and `ThresholdRuns`.

    Args:
        num_classes: K, the number of real classes, 0 to K - 1.
        part: 0 or 1, of two sets without a common example.
        seed: of the draw, the same for both parts.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.

    Raises:
        ValueError: there are less than two classes, or `part` is neither 0 nor 1.

    Example:
        >>> ThresholdExamples(num_classes=2, seed=1).labels(SelectionState(num_examples=6))
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

    @property
    def arguments(self) -> dict[str, str]:
        """What the draw is known by on disk."""
        return arguments_of_draw(self.num_classes, self.part, self.seed)

    def indices(self, num_examples: int) -> Tensor:
        """The examples that get the class K, of a data set of this length: ascending, int64 (n,)."""
        nothing = torch.zeros(num_examples, dtype=torch.int64)  # the draw goes by the length alone
        return functional.threshold_examples(nothing, self.num_classes, self.part, self.seed)

    @override
    def select(self, state: SelectionState) -> Tensor:
        if state.target is not None:
            _check_real("ThresholdExamples", state.target, self.num_classes)
        return torch.arange(state.num_examples)

    @override
    def labels(self, state: SelectionState) -> Tensor:
        labels = torch.full((state.num_examples,), -1)
        labels[self.indices(state.num_examples)] = self.num_classes
        return labels


class ThresholdRuns:
    """Trains the two runs of the threshold protocol, from which labels are judged without an assumption on scores.

    Each of the two trains with N / (K + 1) examples under the class K, which does not exist. How hard they are is how
    hard a wrong label is. The sets have no example in common, so that each example is judged by a run in which it has
    its own label, and most by both. It costs two trainings, of each seed.

    On disk, `dirpath/half-0` and `dirpath/half-1` hold the runs, as `repeat_fit` writes them, and the set in
    `threshold-examples.safetensors`: "indices", int64 (n,). Killed at any moment, it goes on where it was.

    Where the Trainer has an EasinessCallback, that one observes, which it must do online; else one is added that takes
    no probe and averages probabilities, for suggested labels. `refine` of `find_label_issues` needs a probe.

    Args:
        make_trainer: returns a new Trainer for each run, as in `repeat_fit`.
        make_module: returns a new LightningModule, likewise; its parameter `num_classes` is given K + 1, the number of
            outputs that the module must have.
        datamodule: a LightningDataModule, a DataLoader for training, or a function that returns one for each run; the
            labels that are judged are those of its data set, from which nothing is selected.
        num_classes: K, the number of real classes, 0 to K - 1.
        dirpath: the folder of the runs.
        seeds: one run each, in both halves.
        seed: of the draw of the sets.
        replace_fn: (item, label) -> item, where items are neither (x, label, ...) nor mappings with the usual keys.
        progress: show bars over the runs.

    Raises:
        ValueError: there are less than two classes.
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
    ) -> None:
        self._selections = [ThresholdExamples(num_classes, part, seed, replace_fn=replace_fn) for part in (0, 1)]
        if not takes(make_module, "num_classes"):
            raise TypeError(
                "The `make_module` of ThresholdRuns must take `num_classes`, the number of outputs, which is one more"
                f" than the {num_classes} classes of the data set: def make_module(num_classes): ..."
            )
        with_selection(datamodule, None)
        self.make_trainer, self.make_module, self.datamodule = make_trainer, make_module, datamodule
        self.num_classes, self.seed, self.seeds = num_classes, seed, [int(one) for one in seeds]
        self.dirpath, self.progress = Path(dirpath), progress

    @property
    def folders(self) -> list[Path]:
        """The folders of the two halves."""
        return half_folders(self.dirpath)

    def run(self) -> list[EasinessRecord]:
        """Trains what is not complete on disk, and returns the online record of each half.

        Raises:
            ValueError: the module's head is not one wider than the real classes; a real label is the threshold class;
                `dirpath` holds another draw, or runs of another data set; the Trainer's callback does not observe
                online.
            RuntimeError: a run was not completed.
        """
        return self._run(Needs())

    @property
    def threshold_indices(self) -> list[Tensor]:
        """The examples that had the class K, of each half, int64 (n,), as they are on disk.

        Raises:
            RuntimeError: they are not there.
        """
        return read_sets(self.folders)

    def find_label_issues(self, score: str = "area_under_margin", **options: Any) -> LabelIssues:
        """Runs, and judges the labels by both halves, as `find_threshold_issues` does from the folder.

        Args:
            score: as of the function `find_label_issues`.
            options: as there, but `rule` and `threshold_indices`.

        Raises:
            TypeError: there is no such option.
            ValueError: an option is out of range, the runs would not hold what is asked for, or as of `run`.
        """
        check_options(score, options)
        self._run(needs_of(score, options))
        return find_threshold_issues(self.dirpath, score, runs=map(run_name, self.seeds), **options)

    def _run(self, needs: Needs) -> list[EasinessRecord]:
        agreed(lambda: self._check_folders(needs))
        self._check_data()
        records = []
        for folder, selection in zip(self.folders, self._selections, strict=True):
            data = with_selection(self.datamodule, selection)
            make_trainer = self._guarded(folder / SET_FILE, selection, needs)
            repeat_fit(make_trainer, self._wider, data, self.seeds, folder, progress=self.progress)
            agreed(lambda folder=folder: self._check_complete(folder))  # type: ignore[misc]
            records.append(record := EasinessRecord.load(folder, ONLINE_SERIES, map(run_name, self.seeds)))
            agreed(lambda path=folder / SET_FILE, of=record, by=selection: _restore_set(path, of, by))  # type: ignore[misc]
        return records

    def _check_folders(self, needs: Needs) -> None:
        """Sees to it that what is on disk came of the same arguments and holds what is needed, before any training."""
        for folder, selection in zip(self.folders, self._selections, strict=True):
            check_arguments(folder / SET_FILE, selection.arguments)
            for run in [folder / run_name(seed) for seed in self.seeds]:
                if is_complete(run):
                    check_recorded(run, needs)

    def _check_data(self) -> None:
        """Sees to it that runs on disk are of the data set that is given, also where nothing is left to train."""
        paths = [folder / SET_FILE for folder in self.folders]
        if not agreed(lambda: any(path.exists() for path in paths)):
            return
        found = self._look(0)
        if agreed(lambda: found is not None and self._are_others(paths, found)) and self._look(1) == found:
            raise ValueError(
                f"'{self.dirpath}' holds runs that were trained when the data set listed other labels, so they are of"
                " other data; give ThresholdRuns another `dirpath`, or the labels of then to go on."
            )

    @staticmethod
    def _are_others(paths: list[Path], found: tuple[int, str]) -> bool:
        for path in paths:
            check_length(path, found[0])
        return any(lists_others(path, *found) for path in paths)

    def _look(self, stream: int) -> tuple[int, str] | None:
        """The length of the data set and the fingerprint of the labels that it lists; None where it cannot be had.

        A data set that is split or labelled at random is another one each time, and not to be told from that of then:
        two looks with different random streams show that.
        """
        try:
            with isolated_streams():
                set_streams(stream)
                data = with_selection(self.datamodule, None)
                data = data if isinstance(data, EasinessDataModule) else data()
                with OwnGenerators(data):
                    data.setup("fit")
                    return _identity(only_loader(data.train_dataloader(), "train").dataset)
        except Exception as error:  # the user's code, which may need a Trainer
            warn_user(
                f"The data set of ThresholdRuns cannot be looked at outside of a training ({type(error).__name__}:"
                f" {error}), so it is not known whether '{self.dirpath}' holds runs of it."
            )
            return None

    def _wider(self, seed: int) -> LightningModule:
        return _call(self.make_module, seed=seed, num_classes=self.num_classes + 1)  # type: ignore[no-any-return]

    def _guarded(self, path: Path, selection: ThresholdExamples, needs: Needs) -> Callable[[int], Trainer]:
        def make_trainer(seed: int) -> Trainer:
            trainer: Trainer = _call(self.make_trainer, seed=seed)
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            observers = [one for one in callbacks if isinstance(one, EasinessCallback)]
            owner = "of your Trainer" if observers else "that ThresholdRuns adds"
            if not observers:
                observers = [EasinessCallback(probe=None, probabilities=True, num_images=0)]
                callbacks.insert(0, observers[0])  # before the callbacks that save checkpoints
            check_observed(needs, owner, observers[0].probe, observers[0].probabilities)
            if not any(isinstance(one, _Guard) for one in callbacks):  # of a Trainer that repeat_fit will refuse
                callbacks.insert(0, _Guard(observers[0], path, selection))
            return trainer

        return make_trainer

    def _check_complete(self, folder: Path) -> None:
        missing = [name for seed in self.seeds if not is_complete(folder / (name := run_name(seed)))]
        if missing:
            raise RuntimeError(f"Run '{missing[0]}' in '{folder}' is not complete: run again to go on with it.")


class _Guard(Callback):
    """Writes the set before the first step, and refuses a module, data or labels that do not fit it.

    Args:
        observer: the callback that observes the run.
        path: of the set.
        selection: whose set it is.
    """

    def __init__(self, observer: EasinessCallback, path: Path, selection: ThresholdExamples) -> None:
        if not observer.online:
            raise ValueError(
                "The EasinessCallback of ThresholdRuns must observe online, as the area under the margin is taken from"
                " training itself; give it online=True."
            )
        self._observer, self._path, self._selection = observer, path, selection
        self._looked = False
        observer.subscribe(self._check_labels)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        size = num_examples(only_loader(trainer.train_dataloader, "train").dataset)
        agreed(lambda: check_length(self._path, size))

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._looked:
            return
        self._looked = True
        loader = only_loader(trainer.train_dataloader, "train")
        self._check_head(trainer, pl_module, batch, loader)
        identity = _identity(loader.dataset)
        if is_writer():  # only now: a folder is claimed by what is trained in it
            write_set(self._path, self._selection.indices(identity[0]), self._selection.arguments, *identity)

    def _check_head(self, trainer: Trainer, pl_module: LightningModule, batch: Any, loader: Any) -> None:
        probe = EvaluationPass("train", loader, self._observer.reader)
        outputs, classes = probe.count_outputs(trainer, pl_module, batch), self._selection.num_classes
        if outputs != classes + 1:
            found = "no logits (B, classes)" if outputs is None else f"{outputs} outputs"
            raise ValueError(
                f"The module that `make_module` of ThresholdRuns returned has {found}, but with {classes} classes and"
                f" the one that does not exist it needs {classes + 1}: give its head the `num_classes` that make_module"
                " is given."
            )

    def _check_labels(self, observation: Observation) -> None:
        if observation.series == ONLINE_SERIES and observation.target is not None:
            target = observation.target.clone()
            target[self._selection.indices(len(target))] = -1
            _check_real("ThresholdRuns", target, self._selection.num_classes)


def _call(factory: Callable[..., Any], **given: Any) -> Any:
    return factory(**{name: value for name, value in given.items() if takes(factory, name)})


def _check_real(owner: str, target: Tensor, num_classes: int) -> None:
    wrong = (target >= num_classes).nonzero()[:, 0]
    if len(wrong):
        example = int(wrong[0])
        raise ValueError(
            f"The `num_classes` of {owner} is {num_classes}, which then is the threshold class, but example {example}"
            f" has the label {int(target[example])}, and so {len(wrong)} are outside 0 to {num_classes - 1}: give the"
            " number of real classes."
        )


def _identity(dataset: Any) -> tuple[int, str]:
    """The length of a data set, and the fingerprint of the labels that it lists."""
    everything = whole(dataset)
    return len(everything), DataIdentity(len(everything), known_target(everything)).fingerprint


def _restore_set(path: Path, record: EasinessRecord, selection: ThresholdExamples) -> None:
    """Draws the set of complete runs again where it was lost.

    Raises:
        ValueError: they were trained with another one.
    """
    if read_set(path) is not None or not is_writer():
        return
    size = record.num_examples
    indices, trained = selection.indices(size), (record.target == selection.num_classes).nonzero()[:, 0]
    if len(trained) == 0 or not bool(torch.isin(trained, indices).all()):
        raise ValueError(
            f"'{path}' is lost, and the runs beside it were not trained with the examples that `num_classes` and `seed`"
            " of ThresholdRuns draw now; give it the arguments of then, or another `dirpath`."
        )
    write_set(path, indices, selection.arguments, size, DataIdentity(size).fingerprint)
