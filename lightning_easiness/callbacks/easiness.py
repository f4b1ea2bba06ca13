"""EasinessCallback: the loss, correctness and margin of each example as training goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_easiness._utils.lightning import StrategyHook, num_steps
from lightning_easiness.callbacks.checks import check_arguments, checked_patterns, warn_of_lost_state
from lightning_easiness.callbacks.class_names import names_of_fit
from lightning_easiness.callbacks.fit_log import FitLog
from lightning_easiness.callbacks.listeners import HasListeners, Listeners
from lightning_easiness.callbacks.passes import recognise_task, run_last_pass, sizes_of
from lightning_easiness.callbacks.recipe import data_recipe, easiness_recipe, fit_recipe
from lightning_easiness.callbacks.recorder import WRITE_LATER, RunRecorder, folder_of_fit
from lightning_easiness.callbacks.usage import UsageMeter, log_average_usage, log_usage, trained_share
from lightning_easiness.data.class_names import check_class_names
from lightning_easiness.data.observation import Observation
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2
from lightning_easiness.observe.batch_reader import BatchReader
from lightning_easiness.observe.checks import check_submodule
from lightning_easiness.observe.evaluation import EvaluationPass, Pattern
from lightning_easiness.observe.forward import candidate_modules
from lightning_easiness.observe.held_out import TrainedExamples
from lightning_easiness.observe.online import OnlineObserver
from lightning_easiness.observe.tasks import ONLINE_FIELDS
from lightning_easiness.record.earlier import Course
from lightning_easiness.record.layout import ONLINE_SERIES


class EasinessCallback(HasListeners, Callback):
    """Records each example's loss, correctness and margin, and leaves your training bit-for-bit unchanged.

    It observes in two ways, both on by default. *Online* records the outputs of the training steps themselves, with
    changing weights and augmentations, at next to no cost. The *probe* is an evaluation pass over all examples at fixed
    weights, in eval mode: by default one, at the end of the fit. It costs about as much as the forward passes of an
    epoch; `every_n_epochs` and `at_steps` request more.

    A run is written under `dirpath`, one file per checkpoint; `EasinessRecord.load(dirpath)` reads all runs there. The
    loggers of the Trainer show numbers, and those that can, as TensorBoardLogger, histograms, the data map and
    galleries of examples. The numbers "easiness/<series>/mean_loss" and "accuracy" can be monitored by ModelCheckpoint
    and EarlyStopping, as "easiness/train-online/mean_loss".

    Args:
        dirpath: Folder of the runs. By default "easiness" in the first logger's version folder, or in
            `default_root_dir` without a logger; "easiness-v1" and so on if that exists. A fit resumed from a checkpoint
            continues in its original folder, if that still exists.
        every_n_epochs: Evaluate at the end of each n-th epoch; 0 for never. None: once, at the end of the fit.
        at_steps: Evaluate also after these numbers of optimizer steps; 0 is before the first.
        probe: Data of the evaluation pass: "train", "val", a DataLoader, or None for no pass.
        online: Observe the training forward.
        patterns: name -> function of the inputs (on the device); each is evaluated too, as "train-probe-<name>".
        probabilities: Online, average each example's softmax over all epochs, for suggested labels and cleanlab; see
            `EasinessRecord.probabilities`. For N examples and K classes it takes 2 N K bytes on the device(s) until
            an epoch ends, 4 N K in the first process's memory and in each of Lightning's checkpoints, and one file of
            2 N K on disk, which is replaced in each epoch.
        run: Name of the run under `dirpath`. By default "seed-<n>" after `seed_everything(n)`, else the next "run-<k>".
        module, batch_fn, logits_fn, loss_fn, probe_batch_size, sigma2, num_draws: How batches are read, as in
            `BatchReader`, whose `batch_size` is `probe_batch_size`.
        exist_ok: Train a run of this name that already has checkpoints anew, if it is of the same recipe. They are
            moved to a hidden folder of the run, as `.earlier-1`, which is not loaded. Not needed if the Trainer
            resumes from a Lightning checkpoint.
        by_class: Log histograms for each class too.
        num_images: Images in a gallery of the easiest, hardest, most changed or suspicious examples; 0 for none.
        class_names: Names of the classes, in the order of the model's outputs, for tables and grids. By default
            `dataset.classes`, as torchvision's data sets have it.

    Attributes:
        usage: The fraction of the data that each epoch trained on and its seconds, with their averages (ADU, ART).
        reader: The `BatchReader`; selections use it too.
        folder: Folder of the runs of the latest fit; None before the first, and in trial runs without a `dirpath`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> from lightning_easiness import EasinessCallback
        >>> callback = EasinessCallback(dirpath="easiness", every_n_epochs=2, at_steps=(0, 100))
        >>> callback.probe, callback.at_steps
        ('train', (0, 100))
    """

    # set by repeat_fit
    says_where = True  # at the end of a fit; it does so once for all
    one_recipe = False  # refuse a run of another recipe than the others in the folder

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        every_n_epochs: int | None = None,
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
        num_images: int = 12,
        sigma2: float = DEFAULT_SIGMA2,
        num_draws: int | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.every_n_epochs = every_n_epochs
        self.probe = probe
        self.online = online
        self.patterns = checked_patterns(patterns)
        self.probabilities = probabilities
        self.run = run
        self.exist_ok = exist_ok
        self.by_class = by_class
        self.num_images = num_images
        self.class_names = class_names
        check_arguments(self, at_steps)
        self.at_steps = tuple(sorted(set(at_steps)))
        self.reader = BatchReader(module, batch_fn, logits_fn, loss_fn, probe_batch_size, sigma2, num_draws)
        self._listeners = Listeners()
        # of the arguments as they were given: repeat_fit sets a folder, which may be another when a run is resumed
        self._state_key = self._generate_state_key(dirpath=str(dirpath), run=run, series=self.series)
        self._recorder = RunRecorder()
        self._let_go: list[RunRecorder] = []  # of earlier fits, with something that is still to be written
        self._last_fit = (0, 0)  # the Trainer and the step at which it ended
        self._forget()

    def _forget(self) -> None:
        """Set the state of a fit as it is before it."""
        self.usage, self._log = UsageMeter(), FitLog(self.by_class, self.num_images, self.class_names)
        self.folder: Path | None = None
        self._end_hook: StrategyHook | None = None
        self._online: OnlineObserver | None = None
        self._let_go += [self._recorder] if self._recorder.is_waiting else []
        self._recorder = RunRecorder()
        self._recipe: dict[str, Any] = {}
        self._pass: EvaluationPass | None = None
        self._trained: TrainedExamples | None = None
        self._trained_before: Tensor | None = None
        self._restored: dict[str, Any] | None = None
        self._run_name: str | None = None
        self._recorded: dict[str, dict[int, str]] | None = None
        self._is_resumed = self._has_begun = self._is_over = False
        self._open_epoch = self._last_epoch = -1  # whose end is still to be observed, and that ended last
        self._evaluated_step, self._last_step = -1, 0

    @property
    def is_waiting(self) -> bool:
        """Whether something that was observed could not be written yet."""
        return self._recorder.is_waiting

    def write_waiting(self) -> None:
        """Write what could not be written as the disk was full; it waits in memory, also after the fit.

        Raises:
            OSError: If it still cannot be written; it is kept, so that this can be called again.
        """
        for recorder in [*self._let_go, self._recorder]:
            recorder.write_later()
        self._let_go = []

    @property
    def series(self) -> str:
        """Name of the main series: that of the evaluation pass, or the online one without a pass."""
        if self.probe is None:
            return ONLINE_SERIES
        return f"{self.probe}-probe" if isinstance(self.probe, str) else "loader-probe"

    # ------------------------------------------------------------------ the fit begins and ends

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._close()
        goes_on = self._last_fit == (id(trainer), num_steps(trainer)) and num_steps(trainer) > 0
        before = self.state_dict() if goes_on else None
        self._forget()
        if before is not None:  # a further fit() of the same Trainer
            self._go_on(before)
        if self.online:
            names = tuple(dict.fromkeys((*ONLINE_FIELDS, *self._listeners.fields)))
            self._online = OnlineObserver(trainer, self.reader, names, self.probabilities)
        # after on_train_end, in which other callbacks may still change the weights; and Lightning calls no hook of ours
        # where a fit that is resumed has nothing left to train
        self._end_hook = StrategyHook(trainer, "teardown", before=lambda: self._end(trainer))

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # later than setup: parts that LightningModule.setup or configure_model make are there only now; and before the
        # optimizers are restored from a checkpoint, with the learning rates of then
        self._recipe = fit_recipe(trainer, pl_module)
        if self.reader.module is None:
            candidate_modules(pl_module)
        else:
            check_submodule(pl_module, self.reader.module)
        if self._online is not None:
            self._online.listen()
        self.usage.start()  # before the first epoch's loader, and its selection, is made

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)
        if 0 <= self._open_epoch < trainer.current_epoch:
            # resumed from a checkpoint that was written after an epoch's last batch and before its end was observed
            self._end_epoch(trainer, self._open_epoch)
        if num_steps(trainer) in self.at_steps:  # 0, or resumed from a checkpoint written just before the pass
            self._evaluate(trainer)
        self._last_step = num_steps(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_over = True

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._online is not None:
            self._online.keep_finished()
        if self._recorder.is_waiting:
            self._recorder.write_waiting(WRITE_LATER)
        self._close(keep_sums=True)  # for a checkpoint that is saved on the exception, which comes after this

    def _begin(self, trainer: Trainer) -> None:
        """Open the run, when the loaders are known."""
        if trainer.ckpt_path is not None and trainer.current_epoch > 0 and not self._is_resumed:
            warn_of_lost_state(trainer)
        with self.usage.paused():
            self._pass, task = recognise_task(
                trainer, self.probe, self.reader, self.patterns, self._online, self._restored
            )
        folder = folder_of_fit(trainer, self.dirpath, self.folder)
        goes_on = self._run_name is not None or (self.exist_ok and num_steps(trainer) > 0)
        anew = self.exist_ok and not goes_on
        probed = None if self._pass is None else self._pass.dataset
        names = names_of_fit(trainer, probed, self.class_names, None if task is None else task.num_classes)
        course = Course(num_steps(trainer), self._recorded, self._open_epoch) if goes_on else None
        self._recorder = RunRecorder(folder, self._run_name or self.run, goes_on, self.one_recipe, names, anew, course)
        sizes = sizes_of(self.series, self._pass, self._online)
        self._recorder.open(trainer, sizes, {**self._recipe, **data_recipe(trainer), **easiness_recipe(self.reader)})
        self._trained = TrainedExamples.of(trainer, self._trained_before)
        if self._trained is not None and self._trained.is_known:  # from the beginning: a run that goes on goes by it
            self._recorder.add(self._trained.found(num_steps(trainer)))
        if self._recorder.has_moved and self._online is not None:
            self._recorder.add(self._online.averaged_probabilities(max(self._open_epoch, self._last_epoch)))
        self.folder, self._run_name = self._recorder.dirpath, self._recorder.run
        self._log.begin(trainer, self.folder, self._run_name)
        self._has_begun, self._is_over = True, False

    def _end(self, trainer: Trainer) -> None:
        """Make the pass at the end of the fit, and complete the run."""
        if self._is_resumed and not self._has_begun and trainer.train_dataloader is not None:
            self._begin(trainer)  # resumed with nothing left to train, as where it was stopped at its very end
            if self._open_epoch >= 0:
                self._end_epoch(trainer, self._open_epoch)
            if num_steps(trainer) in self.at_steps:
                self._evaluate(trainer, self._last_epoch)
        elif not self._is_over:
            return
        last = partial(self._evaluate, trainer, self._last_epoch)
        is_evaluated = self.every_n_epochs is not None or run_last_pass(trainer, last, self.folder)
        self._log.end(trainer)
        log_average_usage(self.usage, trainer)
        self._last_fit = (id(trainer), num_steps(trainer))
        if is_evaluated:
            self._recorder.complete()
            if self.says_where:
                self._recorder.say_where(self.series)

    def _close(self, keep_sums: bool = False) -> None:
        if self._online is not None:
            self._online.close(keep_sums)
        self._recorder.close()
        if self._end_hook is not None:
            self._end_hook.remove()
            self._end_hook = None
        self._pass = None

    # ------------------------------------------------------------------ batches and epochs

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open_epoch = trainer.current_epoch
        if self._online is not None:
            self._online.check_loader()

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._open_epoch = trainer.current_epoch  # no hook says so where a fit is resumed at an epoch's end
        if self._online is not None:
            self._online.begin_batch(batch)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._online is not None:
            self._online.end_batch(not outputs and pl_module.automatic_optimization, outputs)
        if self.at_steps:  # several optimizers may make several steps in a batch
            last, self._last_step = self._last_step, num_steps(trainer)
            if any(last < step <= self._last_step for step in self.at_steps):
                self._evaluate(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_epoch(trainer, trainer.current_epoch, at_epoch_end=True)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.usage.pause()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.usage.go_on()

    def _end_epoch(self, trainer: Trainer, epoch: int, at_epoch_end: bool = False) -> None:
        observation = self._online.end_epoch(epoch) if self._online is not None else None
        self.usage.end_epoch(trained_share(trainer, observation))
        log_usage(trainer, self.usage, at_epoch_end)
        if observation is not None and self._online is not None and observation.num_seen:
            with self.usage.paused():
                self._record(trainer, observation, at_epoch_end)
                self._recorder.add(self._online.averaged_probabilities(epoch))
        if self._trained is not None and self._trained.add(trainer, observation):
            self._recorder.add(self._trained.found(num_steps(trainer)))
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self._evaluate(trainer, epoch, at_epoch_end)
        self._open_epoch, self._last_epoch = -1, epoch

    # ------------------------------------------------------------------ checkpoints

    def _evaluate(self, trainer: Trainer, epoch: int | None = None, at_epoch_end: bool = False) -> None:
        if self._pass is None or self._evaluated_step == num_steps(trainer):
            return
        with self.usage.paused():
            for observation in self._pass.run(trainer, epoch=epoch):
                self._record(trainer, observation, at_epoch_end)
                self._log.show_examples(trainer, self._pass.dataset, observation)
            self._recorder.add(self._pass.held_out_probabilities(trainer, epoch))
        self._evaluated_step = num_steps(trainer)

    def _record(self, trainer: Trainer, observation: Observation, at_epoch_end: bool) -> None:
        if self.class_names is not None:
            check_class_names("EasinessCallback", self.class_names, observation.num_classes)
        self._listeners(observation)
        self._recorder.add(observation)
        self._log.show(trainer, observation, at_epoch_end)

    # ------------------------------------------------------------------ state in Lightning's checkpoints

    @property
    @override
    def state_key(self) -> str:
        return self._state_key

    @override
    def state_dict(self) -> dict[str, Any]:
        online = self._online.state(epoch_is_open=self._open_epoch >= 0) if self._online is not None else None
        return {
            "folder": None if self.folder is None else str(self.folder),
            "run": self._run_name,
            "open_epoch": self._open_epoch,
            "last_epoch": self._last_epoch,
            "probed_step": self._evaluated_step,
            "recorded": self._recorder.recorded(),
            "online": online,
            "trained_on": None if self._trained is None else self._trained.state(),
            "usage": self.usage.state_dict(),
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_resumed = True
        self._go_on(state_dict)
        self._open_epoch = state_dict["open_epoch"]
        self._last_epoch = state_dict.get("last_epoch", -1)
        self.usage.load_state_dict(state_dict["usage"])

    def _go_on(self, state: dict[str, Any]) -> None:
        """Go on with the run of a state."""
        folder = state.get("folder")  # which old checkpoints do not have
        self.folder = None if folder is None else Path(folder)
        self._run_name, self._evaluated_step = state["run"], state["probed_step"]
        self._recorded = state.get("recorded")
        self._restored, self._trained_before = state["online"], state.get("trained_on")
