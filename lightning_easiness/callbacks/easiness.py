"""EasinessCallback: what each example's loss, correctness and margin are as training goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_easiness._utils.lightning import num_steps, trial_batches
from lightning_easiness.callbacks.checks import check_arguments, check_patterns
from lightning_easiness.callbacks.logging import log_observation, log_sheets
from lightning_easiness.callbacks.recorder import RunRecorder
from lightning_easiness.callbacks.usage import UsageMeter, note_usage, tell_usage
from lightning_easiness.data.loaders import check_indexable, num_examples
from lightning_easiness.data.observation import Observation
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2
from lightning_easiness.observe.batch_reader import ONLINE_FIELDS, PROBE_FIELDS, BatchReader
from lightning_easiness.observe.checks import check_submodule, only_loader, val_loader
from lightning_easiness.observe.evaluation import EvaluationPass, Pattern, check_targets
from lightning_easiness.observe.forward import candidate_modules
from lightning_easiness.observe.online import OnlineObserver


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
        probabilities: online, average each example's softmax over all epochs, as suggested labels and cleanlab need;
            see `EasinessRecord.probabilities`. For N examples and K classes it takes 2 N K bytes on the device(s) until
            an epoch ends, 4 N K in the first process's memory and in each of Lightning's checkpoints, and one file of
            2 N K on disk, which each epoch replaces.
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
        sigma2: noise variance of sample easiness.

    Attributes:
        usage: the share of the data that each epoch trained on and its seconds, with their averages (ADU, ART).
        reader: how batches and outputs are read, by `module`, `batch_fn`, `logits_fn`, `loss_fn`, `probe_batch_size`
            and `sigma2`; selections use it too.

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
        probe: Literal["train", "val"] | DataLoader | None = "train",  # type: ignore[type-arg]  # for LightningCLI
        online: bool = True,
        patterns: Mapping[str, Pattern] | None = None,
        *,
        probabilities: bool = False,
        run: str | None = None,
        module: str | None = None,
        batch_fn: Callable[[Any], tuple[Any, Any]] | None = None,
        logits_fn: Callable[[Any], Any] | None = None,
        loss_fn: Callable[[Any, Any], Tensor] | None = None,
        probe_batch_size: int | None = None,
        exist_ok: bool = False,
        by_class: bool = False,
        num_images: int = 25,
        sigma2: float = DEFAULT_SIGMA2,
    ) -> None:
        check_arguments(every_n_epochs, at_steps, probe, online, probe_batch_size, run, patterns, probabilities)
        check_patterns(patterns or {})
        self.dirpath = Path(dirpath)
        self.every_n_epochs = every_n_epochs
        self.at_steps = tuple(sorted(set(at_steps)))
        self.probe = probe
        self.online = online
        self.patterns = dict(patterns or {})
        self.probabilities = probabilities
        self.run = run
        self.exist_ok = exist_ok
        self.by_class = by_class
        self.num_images = num_images
        self.usage = UsageMeter()
        self.reader = BatchReader(module, batch_fn, logits_fn, loss_fn, probe_batch_size, sigma2)
        self._listeners: list[tuple[Callable[[Observation], None], tuple[str, ...]]] = []
        # of the arguments as they were given: repeat_fit sets a folder, which may be another when a run is resumed
        self._state_key = self._generate_state_key(dirpath=str(dirpath), run=run, series=self.series)
        self._last_fit = (0, 0)  # the Trainer and the step at which it ended
        self._forget()

    def _forget(self) -> None:
        """The state of one fit, as it is before it."""
        self._online: OnlineObserver | None = None
        self._recorder: RunRecorder | None = None
        self._probe: EvaluationPass | None = None
        self._restored: dict[str, Any] | None = None
        self._run_name: str | None = None
        self._open_epoch = -1  # the epoch whose end is still to be observed
        self._probed_step = -1
        self._last_step = 0
        self._validation_began = 0.0
        self.usage = UsageMeter()

    def subscribe(self, listener: Callable[[Observation], None], online: Sequence[str] = ()) -> None:
        """Lets a function hear of every observation, in every process, as soon as it is complete.

        Args:
            listener: is called with each `Observation`: the series, the step, and a value an example of each field.
            online: fields to observe from the training forward too, from the next fit on: "sample_easiness", "el2n".

        Raises:
            ValueError: a field is no such field.
        """
        for name in online:
            if name not in PROBE_FIELDS:
                raise ValueError(f"EasinessCallback observes {', '.join(PROBE_FIELDS)}, but no {name!r}.")
        self._listeners.append((listener, tuple(online)))

    def unsubscribe(self, listener: Callable[[Observation], None]) -> None:
        """Calls a function no more; what was observed for it alone is observed no more either from the next fit on."""
        self._listeners = [(one, fields) for one, fields in self._listeners if one != listener]

    @property
    def series(self) -> str:
        """The name of the series that is looked at first: the probe's, or the online one where there is no probe."""
        if self.probe is None:
            return "train-online"
        return f"{self.probe}-probe" if isinstance(self.probe, str) else "loader-probe"

    # ------------------------------------------------------------------ the fit begins and ends

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._close()
        goes_on = self._last_fit == (id(trainer), num_steps(trainer)) and num_steps(trainer) > 0
        before = self.state_dict() if goes_on else {}
        self._forget()
        if goes_on:  # a further fit() of the same Trainer
            self._run_name, self._probed_step = before["run"], before["probed_step"]
            self._restored = before["online"]
        if self.online:
            names = tuple(dict.fromkeys((*ONLINE_FIELDS, *(name for _, asked in self._listeners for name in asked))))
            self._online = OnlineObserver(trainer, pl_module, self.reader, names, self.probabilities)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # later than setup: parts that LightningModule.setup or configure_model make are there only now
        if self.reader.module is None:
            candidate_modules(pl_module)
        else:
            check_submodule(pl_module, self.reader.module)
        if self._online is not None:
            self._online.listen(pl_module, self.reader.module)
        self.usage.start()  # before the first epoch's loader, and its selection, is made

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sizes = {}
        if self._online is not None:
            if self._restored is not None:
                self._online.restore(self._restored)
            self._online.start()
            sizes["train-online"] = self._online.num_examples
        if self.probe is not None:
            self._probe = self._make_probe(trainer)
            sizes[self.series] = num_examples(self._probe.dataset)
        goes_on = self.exist_ok or self._run_name is not None
        self._recorder = RunRecorder(self.dirpath, self._run_name or self.run, goes_on)
        self._run_name = self._recorder.open(trainer, sizes)
        if 0 <= self._open_epoch < trainer.current_epoch:
            # resumed from a checkpoint that was written after an epoch's last batch and before its end was observed
            self._end_epoch(trainer, pl_module, self._open_epoch)
        if num_steps(trainer) in self.at_steps:  # 0, or resumed from a checkpoint written just before the probe
            self._run_probe(trainer, pl_module)
        self._last_step = num_steps(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        tell_usage(self.usage, trainer)
        self._last_fit = (id(trainer), num_steps(trainer))
        if self._recorder is not None:
            self._recorder.complete()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._online is not None:
            self._online.keep_finished()
        if self._recorder is not None:
            with suppress(OSError):  # what the disk had no room for was warned of; this is the last chance
                self._recorder.write_waiting(last_chance=True)
        # a checkpoint that is saved on the exception comes after this; other processes may not take part any more
        self._close(keep_sums=trainer.world_size == 1)

    def _close(self, keep_sums: bool = False) -> None:
        if self._online is not None:
            self._online.close(keep_sums)
        if self._recorder is not None:
            self._recorder.close()
        self._probe = None

    # ------------------------------------------------------------------ batches and epochs

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open_epoch = trainer.current_epoch
        if self._online is not None:
            self._online.check_loader()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._online is not None:
            self._online.begin_batch(batch)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._online is not None:
            self._online.end_batch(skipped=not outputs and pl_module.automatic_optimization)
        # several optimizers may make several steps in a batch
        if any(self._last_step < step <= num_steps(trainer) for step in self.at_steps):
            self._run_probe(trainer, pl_module)
        self._last_step = num_steps(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_epoch(trainer, pl_module, trainer.current_epoch)

    def _end_epoch(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        observation = self._online.end_epoch(epoch) if self._online is not None else None
        note_usage(self.usage, trainer, observation)
        if observation is not None and self._online is not None:
            with self.usage.paused():
                self._record(trainer, observation)
                averages = self._online.averaged_probabilities(epoch)
                if averages is not None and self._recorder is not None:
                    self._recorder.add(averages)
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self._run_probe(trainer, pl_module, epoch)
        self._open_epoch = -1

    # ------------------------------------------------------------------ data use and run time

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.perf_counter()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.usage.leave_out(time.perf_counter() - self._validation_began)

    # ------------------------------------------------------------------ checkpoints

    def _make_probe(self, trainer: Trainer) -> EvaluationPass:
        if isinstance(self.probe, DataLoader):
            split, loader = "loader", self.probe
        elif self.probe == "train":
            split, loader = "train", only_loader(trainer.train_dataloader, "train")
        else:
            split, loader = "val", val_loader(trainer)
        check_indexable(loader)
        return EvaluationPass(split, loader, self.reader, self.patterns)

    def _run_probe(self, trainer: Trainer, pl_module: LightningModule, epoch: int | None = None) -> None:
        if self._probe is None or self._probed_step == num_steps(trainer):
            return
        trial = trial_batches(trainer) or None
        with self.usage.paused():
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
        self._probed_step = num_steps(trainer)

    def _record(self, trainer: Trainer, observation: Observation) -> None:
        check_targets(observation)
        for listener, _ in self._listeners:
            listener(observation)
        if self._recorder is None or not trainer.is_global_zero or trial_batches(trainer):
            return
        self._recorder.add(observation)
        log_observation(
            trainer.loggers,
            observation.fields,
            observation.target,
            observation.num_classes,
            observation.step,
            observation.series,
            self.by_class,
        )

    # ------------------------------------------------------------------ state in Lightning's checkpoints

    @property
    @override
    def state_key(self) -> str:
        return self._state_key

    @override
    def state_dict(self) -> dict[str, Any]:
        online = self._online.state(epoch_is_open=self._open_epoch >= 0) if self._online is not None else None
        return {
            "run": self._run_name,
            "open_epoch": self._open_epoch,
            "probed_step": self._probed_step,
            "online": online,
            "usage": self.usage.state_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._run_name = state_dict["run"]
        self._open_epoch = state_dict["open_epoch"]
        self._probed_step = state_dict["probed_step"]
        self._restored = state_dict["online"]
        self.usage.load_state_dict(state_dict["usage"])
