"""EasinessCallback: what each example's loss, correctness and margin are as training goes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_easiness.callbacks.probe import Pattern, Probe, check_targets
from lightning_easiness.callbacks.taps import LoaderTap, LogitsTap
from lightning_easiness.callbacks.view import log_observation, log_sheets
from lightning_easiness.calling import candidate_modules
from lightning_easiness.loaders import IndexSource, check_index, check_indexable, lost_indices, num_examples
from lightning_easiness.observation import (
    ONLINE_FIELDS,
    BatchReader,
    EpochSums,
    Observation,
    count_classes,
    find_logits,
    unpack_batch,
)
from lightning_easiness.store import RunWriter, checkpoint_paths, open_targets


class EasinessCallback(Callback):
    """Records each example's loss, correctness and margin, and changes nothing in the training.

    Two ways of observing, on by default both. The *probe* is a pass over all examples at fixed weights, in eval mode,
    at epoch ends and at given steps: it costs about the forward's share of an epoch. *Online* keeps what the training
    forward computes anyway: it costs next to nothing, while weights move and augmentations vary.

    A run is written under `dirpath`, one file a checkpoint; `EasinessRecord.load(dirpath)` reads all runs there. With
    any TensorBoardLogger, the Trainer's log shows histograms of the losses and the hardest and easiest pictures.

    Args:
        dirpath: the folder of the runs.
        every_n_epochs: probe at the end of each n-th epoch; 0 for never.
        at_steps: probe also when these many optimizer steps are made; 0 is before the first.
        probe: what the probe reads: "train", "val", a DataLoader, or None for no probe.
        online: observe the training forward.
        patterns: name -> function of the inputs (on the device); each is probed too, as "train-probe-<name>".
        run: the run's name under `dirpath`. By default "seed-<n>" after `seed_everything(n)`, else the next "run-<k>".
        module: name of the submodule that returns the logits, as "net" or "model.head". By default the
            LightningModule's `forward`, or its only child with parameters.
        batch_fn: batch -> (inputs, targets), where a batch is neither (x, y, ...) nor a mapping with the usual keys.
        logits_fn: what the module returns -> logits (B, K), where that is no tensor, tuple or object with `logits`.
        loss_fn: (logits, targets) -> (B,) losses, one an example, for tasks other than classification.
        probe_batch_size: examples a batch in the probe; the loader's own by default.
        exist_ok: go on writing where a run of this name has checkpoints already; training that repeats a step replaces
            its file. A Trainer that resumes from a Lightning checkpoint goes on in its run without it.
        by_class: log histograms for each class too.
        num_images: pictures on a sheet of the easiest and hardest; 0 for no sheets.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from lightning_easiness import EasinessCallback
        >>> callback = EasinessCallback(dirpath="easiness", every_n_epochs=2, at_steps=(0, 100))
        >>> callback.probe, callback.at_steps
        ('train', (0, 100))
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] = "easiness",
        every_n_epochs: int = 1,
        at_steps: Sequence[int] = (),
        probe: Literal["train", "val"] | DataLoader[Any] | None = "train",
        online: bool = True,
        patterns: Mapping[str, Pattern] | None = None,
        *,
        run: str | None = None,
        module: str | None = None,
        batch_fn: Callable[[Any], tuple[Any, Any]] | None = None,
        logits_fn: Callable[[Any], Any] | None = None,
        loss_fn: Callable[[Any, Any], Tensor] | None = None,
        probe_batch_size: int | None = None,
        exist_ok: bool = False,
        by_class: bool = False,
        num_images: int = 25,
    ) -> None:
        _check_arguments(every_n_epochs, at_steps, probe, online, probe_batch_size, run)
        _check_patterns(patterns or {})
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs
        self.at_steps = tuple(sorted(set(at_steps)))
        self.probe = probe
        self.online = online
        self.patterns = dict(patterns or {})
        self.run = run
        self.module = module
        self.probe_batch_size = probe_batch_size
        self.exist_ok = exist_ok
        self.by_class = by_class
        self.num_images = num_images
        self._reader = BatchReader(batch_fn or unpack_batch, logits_fn or find_logits, loss_fn)
        self._last_fit = (0, 0)  # the Trainer and the step at which it ended
        self._forget()

    def _forget(self) -> None:
        """The state of one fit, as it is before it."""
        self._trainer: Trainer | None = None
        self._writer: RunWriter | None = None
        self._probe: Probe | None = None
        self._source = IndexSource()
        self._loader_tap: LoaderTap | None = None
        self._logits_tap: LogitsTap | None = None
        self._sums: EpochSums | None = None
        self._restored: tuple[Tensor, Tensor] | None = None
        self._index: Tensor | None = None
        self._target: Any = None
        self._num_classes: int | None = None
        self._open_epoch = -1  # the epoch whose end is still to be observed
        self._probed_step = -1
        self._last_step = 0
        self._run_name: str | None = None
        self._unwritten: list[Observation] = []

    @property
    def series(self) -> str:
        """The name of the series that is looked at first: the probe's, or the online one where there is no probe."""
        if self.probe is None:
            return "train-online"
        return f"{self.probe}-probe" if isinstance(self.probe, str) else "loader-probe"

    # ------------------------------------------------------------------ the fit begins and ends

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(dirpath=str(self.dirpath), run=self.run, series=self.series)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._remove_taps()
        goes_on = self._last_fit == (id(trainer), trainer.global_step) and trainer.global_step > 0
        run_name, probed_step = self._run_name, self._probed_step
        self._forget()
        if goes_on:  # a further fit() of the same Trainer
            self._run_name, self._probed_step = run_name, probed_step
        self._trainer = trainer
        if self.online:
            _check_step(pl_module)
            self._loader_tap = LoaderTap(trainer, self._source)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # later than setup: parts that LightningModule.setup or configure_model make are there only now
        if self.module is None:
            candidate_modules(pl_module)
        else:
            _check_submodule(pl_module, self.module)
        if self.online:
            self._logits_tap = LogitsTap(pl_module, self.module, self._reader.prediction)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.online:
            loader = _only_loader(trainer.train_dataloader, "train")
            self._sums = EpochSums(num_examples(loader.dataset))
            if self._restored is not None:
                known = self._restored[0].shape[1]
                held = f"the epoch that training resumes in was begun with {known}"
                _check_length(self._sums.num_examples, held, known)
        if self.probe is not None:
            self._probe = self._make_probe(trainer)
        self._open_run(trainer)
        if 0 <= self._open_epoch < trainer.current_epoch:
            # resumed from a checkpoint that was written after an epoch's last batch and before its end was observed
            self._end_epoch(trainer, pl_module, self._open_epoch)
        if trainer.global_step in self.at_steps:  # 0, or resumed from a checkpoint written just before the probe
            self._run_probe(trainer, pl_module)
        self._last_step = trainer.global_step

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last_fit = (id(trainer), trainer.global_step)
        if self._writer is not None:
            self._write_pending(final=True)
            self._writer.complete()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._keep_finished_batch()
        with suppress(OSError):  # what the disk had no room for was warned of; this is the last chance
            self._write_pending(final=True)
        sums = self._sums if trainer.world_size == 1 else None  # other processes may not take part any more
        self._close()
        self._trainer, self._sums = trainer, sums  # a checkpoint that is saved on the exception comes after this

    def _close(self) -> None:
        self._remove_taps()
        if self._writer is not None:
            self._writer.close()
        self._writer = self._probe = self._sums = self._trainer = None
        self._source = IndexSource()  # it holds the last iterator, whose workers would live on
        self._index = self._target = None

    def _remove_taps(self) -> None:
        for tap in (self._loader_tap, self._logits_tap):
            if tap is not None:
                tap.remove()
        self._loader_tap = self._logits_tap = None

    # ------------------------------------------------------------------ online

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open_epoch = trainer.current_epoch
        if self._sums is not None:
            known = self._sums.num_examples
            found = num_examples(_only_loader(trainer.train_dataloader, "train").dataset)
            _check_length(found, f"{known} when training began", known)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._logits_tap is None:
            return
        self._index = self._source.take()
        if self._index is None:
            raise TypeError(lost_indices(trainer.train_dataloader))
        if self._sums is not None:
            check_index(self._index, self._sums.num_examples)
        _, self._target = self._reader.batch_fn(batch)  # now, as a training step may take its batch apart
        self._reader.check_target(self._target, len(self._index))
        self._logits_tap.arm()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs or not pl_module.automatic_optimization:
            self._keep_batch()
        else:  # training_step returned None, perhaps before it called the model
            self._keep_finished_batch()
        # several optimizers may make several steps in a batch
        if any(self._last_step < step <= trainer.global_step for step in self.at_steps):
            self._run_probe(trainer, pl_module)
        self._last_step = trainer.global_step

    def _keep_batch(self) -> None:
        """Takes the batch in, once. A checkpoint may ask for it before the batch's end reaches this callback."""
        if self._index is None or self._logits_tap is None or self._sums is None:
            return
        index, target, self._index, self._target = self._index, self._target, None, None
        with torch.no_grad():
            prediction = self._logits_tap.take(len(index))
            observed = self._reader.observe(prediction, target, len(index), full=False)
        self._sums.add(index, observed)
        if self._num_classes is None and "margin" in observed:
            self._num_classes = count_classes(prediction)

    def _keep_finished_batch(self) -> None:
        """Takes in the batch at hand unless training is still at it, or skipped it: a resumed fit then repeats it."""
        if self._trainer is None or self._logits_tap is None or not self._logits_tap.heard:
            return
        batches: Any = self._trainer.fit_loop.epoch_loop.batch_progress.current
        if batches.processed == batches.ready:
            self._keep_batch()

    def _epoch_totals(self) -> tuple[Tensor, Tensor] | None:
        """Sums (4, N) and targets (N,) of the epoch so far, over all processes and what was restored."""
        if self._sums is None or self._trainer is None:
            return None
        sums, target = self._sums.totals()
        seen = torch.stack([(target + 1) * (target >= 0), (target >= 0).long()])
        strategy, device = self._trainer.strategy, self._trainer.strategy.root_device
        sums = strategy.reduce(sums.to(device), reduce_op="sum").cpu()
        seen = strategy.reduce(seen.to(device), reduce_op="sum").cpu()
        target = torch.where(seen[1] > 0, seen[0] // seen[1].clamp(min=1) - 1, -1)
        if self._restored is not None:
            sums = sums + self._restored[0]
            target = torch.where(target >= 0, target, self._restored[1])
        return sums, target

    # ------------------------------------------------------------------ checkpoints

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_epoch(trainer, pl_module, trainer.current_epoch)

    def _end_epoch(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        if self._sums is not None:
            self._end_online(trainer, epoch)
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self._run_probe(trainer, pl_module, epoch)
        self._open_epoch = -1

    def _end_online(self, trainer: Trainer, epoch: int) -> None:
        totals = self._epoch_totals()
        if totals is None or self._sums is None:
            return
        sums, target = totals
        self._sums.clear()
        self._restored = None
        names = tuple(name for name in ONLINE_FIELDS if name == "loss" or self._num_classes is not None)
        self._record(
            trainer,
            Observation(
                series="train-online",
                step=trainer.global_step,
                epoch=epoch,
                fields=EpochSums.means(sums, names),
                target=target if bool((target >= 0).any()) else None,
                num_classes=self._num_classes,
                loss_name=self._reader.loss_name,
            ),
        )

    def _make_probe(self, trainer: Trainer) -> Probe:
        if isinstance(self.probe, DataLoader):
            split, loader = "loader", self.probe
        elif self.probe == "train":
            split, loader = "train", _only_loader(trainer.train_dataloader, "train")
        else:
            split, loader = "val", _val_loader(trainer)
        check_indexable(loader)
        return Probe(
            split,
            loader,
            self._reader,
            module=self.module,
            batch_size=self.probe_batch_size,
            patterns=self.patterns,
        )

    def _run_probe(self, trainer: Trainer, pl_module: LightningModule, epoch: int | None = None) -> None:
        if self._probe is None or self._probed_step == trainer.global_step:
            return
        trial = _trial_batches(trainer) or None
        for observation in self._probe.run(trainer, pl_module, epoch=epoch, limit=trial):
            self._record(trainer, observation)
            if trainer.is_global_zero and self.num_images and not trial:
                log_sheets(
                    trainer.loggers,
                    self._probe.dataset,
                    observation.fields,
                    observation.target,
                    observation.step,
                    observation.series,
                    self.num_images,
                )
        self._probed_step = trainer.global_step

    def _record(self, trainer: Trainer, observation: Observation) -> None:
        check_targets(observation)
        if not trainer.is_global_zero or _trial_batches(trainer):
            return
        self._unwritten.append(observation)
        self._write_pending()
        log_observation(
            trainer.loggers,
            observation.fields,
            observation.target,
            observation.num_classes,
            observation.step,
            observation.series,
            self.by_class,
        )

    def _write_pending(self, final: bool = False) -> None:
        """Writes what is not on disk yet. A disk that is full for a while costs no checkpoint and stops no training."""
        while self._unwritten and self._writer is not None:
            observation = self._unwritten[0]
            try:
                self._writer.append(
                    observation.series,
                    step=observation.step,
                    epoch=observation.epoch,
                    target=observation.target,
                    fields=observation.fields,
                    num_classes=observation.num_classes,
                    loss=observation.loss_name,
                )
            except OSError as error:
                if final:
                    raise
                warnings.warn(
                    f"EasinessCallback could not write step {observation.step} under '{self.dirpath}' ({error});"
                    f" {len(self._unwritten)} checkpoints wait in memory for the next try. Make room on the disk.",
                    stacklevel=2,
                )
                return
            self._unwritten.pop(0)

    def _open_run(self, trainer: Trainer) -> None:
        """Claims the run's folder on rank 0; all ranks fail together where that fails."""
        problem: str | None = None
        if trainer.is_global_zero and not _trial_batches(trainer):
            resume = self.exist_ok or self._run_name is not None
            seed = _seed()
            name = ""
            try:
                name = self._run_name or self.run or _run_name(self.dirpath, seed)
                self._writer = RunWriter(self.dirpath, name, seed=seed, resume=resume)
                self._run_name = name
                self._check_run(self._writer.path)
            except FileExistsError:
                problem = (
                    f"Run '{name}' in '{self.dirpath}' already holds checkpoints. Resume its training with"
                    " trainer.fit(ckpt_path=...), delete the folder, give EasinessCallback another `run` or `dirpath`,"
                    " or exist_ok=True to replace its checkpoints as training repeats them."
                )
            except OSError as error:
                problem = error.strerror or str(error)
            except (RuntimeError, ValueError) as error:
                problem = str(error)
        self._run_name, problem = trainer.strategy.broadcast((self._run_name, problem))
        if problem is not None:
            raise RuntimeError(problem)

    def _check_run(self, path: Path) -> None:
        """Sees to it that a run that is gone on with is of the same data set: before training, not an epoch later."""
        sizes = {} if self._sums is None else {"train-online": self._sums.num_examples}
        if self._probe is not None:
            sizes[self.series] = num_examples(self._probe.dataset)
        for series, size in sizes.items():
            if checkpoint_paths(path, series):
                known = open_targets(path, series).num_examples
                _check_length(size, f"series '{series}' of run '{path.name}' in '{self.dirpath}' has {known}", known)

    # ------------------------------------------------------------------ state in Lightning's checkpoints

    @override
    def state_dict(self) -> dict[str, Any]:
        self._keep_finished_batch()
        state: dict[str, Any] = {
            "run": self._run_name,
            "open_epoch": self._open_epoch,
            "probed_step": self._probed_step,
            "num_classes": self._num_classes,
        }
        if self._open_epoch >= 0 and (totals := self._epoch_totals()) is not None:
            state["sums"], state["target"] = totals
        return state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run_name = state_dict["run"]
        self._open_epoch = state_dict["open_epoch"]
        self._probed_step = state_dict["probed_step"]
        self._num_classes = state_dict["num_classes"]
        if "sums" in state_dict:
            self._restored = (state_dict["sums"].cpu(), state_dict["target"].cpu())


def _check_arguments(
    every_n_epochs: int,
    at_steps: Sequence[int],
    probe: Any,
    online: bool,
    probe_batch_size: int | None,
    run: str | None,
) -> None:
    if not isinstance(every_n_epochs, int) or every_n_epochs < 0:
        raise ValueError(f"The `every_n_epochs` of EasinessCallback must be an integer >= 0; got {every_n_epochs!r}.")
    if not isinstance(at_steps, Collection):
        raise ValueError(f"The `at_steps` of EasinessCallback must be a list of steps; got {at_steps!r}.")
    wrong = [step for step in at_steps if not isinstance(step, int) or step < 0]
    if wrong:
        raise ValueError(f"The `at_steps` of EasinessCallback must be integers >= 0; got {wrong[0]!r}.")
    if not (probe is None or isinstance(probe, DataLoader) or probe in ("train", "val")):
        raise ValueError(
            f"The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got {probe!r}."
        )
    if probe is None and not online:
        raise ValueError("EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.")
    if probe is not None and not every_n_epochs and not at_steps:
        raise ValueError(
            "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None."
        )
    if probe_batch_size is not None and probe_batch_size < 1:
        raise ValueError(f"The `probe_batch_size` of EasinessCallback must be >= 1; got {probe_batch_size!r}.")
    if run is not None and (not run or Path(run).name != run or run.startswith(".")):
        raise ValueError(f"The `run` of EasinessCallback must be a folder's name; got {run!r}.")


def _check_patterns(patterns: Mapping[str, Pattern]) -> None:
    for name, pattern in patterns.items():
        if not name or any(separator in name for separator in "/\\\0"):
            raise ValueError(f"The `patterns` of EasinessCallback must have names that fit a folder's; got {name!r}.")
        if not callable(pattern):
            raise ValueError(
                f"The `patterns` of EasinessCallback must be functions of the inputs; got {pattern!r} for {name!r}."
            )


def _check_submodule(pl_module: LightningModule, name: str) -> None:
    try:
        pl_module.get_submodule(name)
    except AttributeError:
        children = ", ".join(repr(child) for child, _ in pl_module.named_children())
        raise ValueError(
            f"The `module` of EasinessCallback names no submodule of {type(pl_module).__name__}: {name!r};"
            f" its submodules are {children}."
        ) from None


def _check_step(pl_module: LightningModule) -> None:
    if is_param_in_hook_signature(pl_module.training_step, "dataloader_iter", explicit=True):
        raise TypeError(
            f"The training_step of {type(pl_module).__name__} takes batches off a `dataloader_iter` by itself, so the"
            " examples of a step are unknown; give EasinessCallback online=False."
        )


def _check_length(found: int, held: str, known: int) -> None:
    if found != known:
        raise ValueError(
            f"The data set holds {found} examples, but {held}, so an index no longer names the same example; keep the"
            " data set as it was, or give another one another `run` or `dirpath`."
        )


def _only_loader(loaders: Any, split: str) -> DataLoader[Any]:
    """Returns the loader of a split, which must be one."""
    # not for training, where the batches of a list of one loader are lists of one batch
    if split == "val" and isinstance(loaders, (list, tuple)) and len(loaders) == 1:
        loaders = loaders[0]
    if not isinstance(loaders, DataLoader):
        raise TypeError(
            f"EasinessCallback observes one data set, but the {split} loaders are a {type(loaders).__name__}, so an"
            " index names no example; pass online=False and the loader to observe, probe=DataLoader(...)."
        )
    check_indexable(loaders)
    return loaders


def _val_loader(trainer: Trainer) -> DataLoader[Any]:
    loaders = trainer.val_dataloaders
    if loaders is None:
        raise ValueError(
            "EasinessCallback(probe='val') found no validation loader when training started; give the Trainer one, or"
            " pass the loader itself, probe=DataLoader(...)."
        )
    return _only_loader(loaders, "val")


def _trial_batches(trainer: Trainer) -> int:
    """Batches of a trial run (`fast_dev_run`), which reads few examples and writes nothing; 0 for a real one."""
    return int(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _seed() -> int | None:
    """The seed of this run, as `seed_everything` leaves it for the processes that it starts."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed is not None else None


def _run_name(dirpath: Path, seed: int | None) -> str:
    if seed is not None:
        return f"seed-{seed}"
    for number in range(10**6):
        # claims it, also against other processes; what else is wrong with the folder, RunWriter says better
        with suppress(OSError):
            (dirpath / f"run-{number}").mkdir(parents=True)
            return f"run-{number}"
        if not (dirpath / f"run-{number}").exists():
            return f"run-{number}"
    raise RuntimeError(f"'{dirpath}' holds a million runs; give EasinessCallback another `dirpath`.")
