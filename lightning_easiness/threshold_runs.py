"""The threshold protocol: two trainings in which a few examples have a class that does not exist, to find wrong labels.

From "Identifying Mislabeled Data using the Area Under the Margin Ranking" (Pleiss et al., 2020).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors import SafetensorError, safe_open
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.callbacks import EasinessCallback
from lightning_easiness.callbacks.checks import only_loader
from lightning_easiness.callbacks.probe import Probe
from lightning_easiness.checkpoint_file import write_whole
from lightning_easiness.comparison import agreed, is_writer, takes, with_selection
from lightning_easiness.label_issues import LabelIssues, find_label_issues
from lightning_easiness.observation import Observation
from lightning_easiness.record import EasinessRecord
from lightning_easiness.repeats import repeat_fit, run_name
from lightning_easiness.run_folder import ONLINE_SERIES, is_complete
from lightning_easiness.selection import Selection, SelectionState

__all__ = ["ThresholdExamples", "ThresholdRuns"]

SET_FILE = "threshold-examples.safetensors"
_FORMAT = "lightning_easiness.threshold_examples"


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
        return [self.dirpath / f"half-{part}" for part in (0, 1)]

    def run(self) -> list[EasinessRecord]:
        """Trains what is not complete on disk, and returns the online record of each half.

        Raises:
            ValueError: the module's head is not one wider than the real classes; a real label is the threshold class;
                `dirpath` holds another draw; the Trainer's callback does not observe online.
            RuntimeError: a run was not completed.
        """
        records = []
        for folder, selection in zip(self.folders, self._selections, strict=True):
            agreed(lambda folder=folder, selection=selection: _check_claim(folder / SET_FILE, selection))  # type: ignore[misc]
            data = with_selection(self.datamodule, selection)
            make_trainer = self._guarded(folder / SET_FILE, selection)
            repeat_fit(make_trainer, self._wider, data, self.seeds, folder, progress=self.progress)
            agreed(lambda folder=folder: self._check_complete(folder))  # type: ignore[misc]
            records.append(EasinessRecord.load(folder, ONLINE_SERIES, map(run_name, self.seeds)))
        return records

    @property
    def threshold_indices(self) -> list[Tensor]:
        """The examples that had the class K, of each half, int64 (n,), as they are on disk.

        Raises:
            RuntimeError: they are not there.
        """
        sets = [_read_set(folder / SET_FILE) for folder in self.folders]
        for folder, found in zip(self.folders, sets, strict=True):
            if found is None:
                raise RuntimeError(f"There is no '{folder / SET_FILE}' that can be read: call run() first.")
        return [found[0] for found in sets if found is not None]

    def find_label_issues(self, score: str = "area_under_margin", **options: Any) -> LabelIssues:
        """Runs, and judges the labels by both halves: `find_label_issues` with `rule="threshold"`.

        Args:
            score: as there.
            options: as there.
        """
        records, sets = self.run(), self.threshold_indices
        if options.get("refine") is not None and options.get("easiness") is None:
            checkpoint = options.get("checkpoint", -1)
            step = None if checkpoint == -1 else int(records[0].steps[checkpoint])
            options["easiness"] = self._easiness(sets, step)
        return find_label_issues(records, score, rule="threshold", threshold_indices=sets, **options)

    def _wider(self, seed: int) -> LightningModule:
        return _call(self.make_module, seed=seed, num_classes=self.num_classes + 1)  # type: ignore[no-any-return]

    def _guarded(self, path: Path, selection: ThresholdExamples) -> Callable[[int], Trainer]:
        def make_trainer(seed: int) -> Trainer:
            trainer: Trainer = _call(self.make_trainer, seed=seed)
            callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
            observers = [one for one in callbacks if isinstance(one, EasinessCallback)]
            if not observers:
                observers = [EasinessCallback(probe=None, probabilities=True, num_images=0)]
                callbacks.insert(0, observers[0])  # before the callbacks that save checkpoints
            if not any(isinstance(one, _Guard) for one in callbacks):  # of a Trainer that repeat_fit will refuse
                callbacks.insert(0, _Guard(observers[0], path, selection))
            return trainer

        return make_trainer

    def _check_complete(self, folder: Path) -> None:
        missing = [name for seed in self.seeds if not is_complete(folder / (name := run_name(seed)))]
        if missing:
            raise RuntimeError(f"Run '{missing[0]}' in '{folder}' is not complete: run again to go on with it.")

    def _easiness(self, sets: list[Tensor], step: int | None) -> Tensor:
        """Sample easiness at the given label, by the halves in which an example had its own, at a step or the last."""
        rows = []
        for folder, indices in zip(self.folders, sets, strict=True):
            record = EasinessRecord.load(folder, "train-probe", map(run_name, self.seeds))
            checkpoint = -1 if step is None else record.checkpoint_at(step=step)
            values = record.score("sample_easiness", checkpoint).values.clone()
            values[indices] = torch.nan
            rows.append(values)
        return torch.stack(rows).nanmean(0)


class _Guard(Callback):
    """Writes the set before the first step, and refuses a module or labels that do not fit it.

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
        loader = only_loader(trainer.train_dataloader, "train")
        indices = self._selection.indices(len(loader.dataset))  # type: ignore[arg-type]
        agreed(lambda: _write_set(self._path, indices, len(loader.dataset), self._selection))  # type: ignore[arg-type]

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._looked:
            return
        self._looked = True
        loader = only_loader(trainer.train_dataloader, "train")
        probe = Probe("train", loader, self._observer.reader, module=self._observer.module)
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


# ------------------------------------------------------------------------------------------------- the set on disk


def _about(selection: ThresholdExamples) -> dict[str, str]:
    return {
        "format": _FORMAT,
        "num_classes": str(selection.num_classes),
        "part": str(selection.part),
        "seed": str(selection.seed),
    }


def _check_claim(path: Path, selection: ThresholdExamples) -> None:
    """Sees to it that a folder holds what came of these arguments."""
    found = _read_set(path)
    for name, value in _about(selection).items():
        if found is not None and found[1].get(name) != value:
            raise ValueError(
                f"'{path.parent}' holds runs with {name}={found[1].get(name)}, but `{name}` is {value} now; give"
                " ThresholdRuns another `dirpath`, or the same arguments to go on."
            )


def _write_set(path: Path, indices: Tensor, num_examples: int, selection: ThresholdExamples) -> None:
    about = {**_about(selection), "num_examples": str(num_examples)}
    found = _read_set(path)
    if found is not None and found[1].get("num_examples") != about["num_examples"]:
        raise ValueError(
            f"'{path.parent}' holds runs of {found[1].get('num_examples')} examples, but the data set has"
            f" {num_examples}, so an index no longer names the same example; give ThresholdRuns another `dirpath`."
        )
    if found is None and is_writer():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, safetensors.torch.save({"indices": indices}, about))


def _read_set(path: Path) -> tuple[Tensor, dict[str, str]] | None:
    """The set and what is said of it; None where there is none that can be read: it is drawn again, and the same."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("indices").clone(), file.metadata() or {}
    except SafetensorError:
        warnings.warn(f"'{path}' is damaged, or no set of threshold examples; it is drawn again.", stacklevel=2)
        return None
