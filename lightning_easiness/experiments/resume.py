"""The checkpoint of a run at each epoch's end, from which it continues after a kill as if it had not been killed."""

from __future__ import annotations

import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed
from typing_extensions import override

from lightning_easiness._utils.checked_files import RecordFileError, check_folder
from lightning_easiness._utils.group import is_first_process, num_processes
from lightning_easiness._utils.lightning import begin_next_epoch, is_sharded
from lightning_easiness._utils.rng import OwnGenerators, get_rng_state, seed_rng, set_rng_state
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.callbacks.easiness import EasinessCallback
from lightning_easiness.experiments.shards import checksums_of, damaged_shard, write_checksums
from lightning_easiness.functional._rng import mixed_seed

_FILE = "resume.ckpt"
_BESIDE = ".tmp-resume.ckpt"  # while it is written
_BEFORE = ".before-resume.ckpt"  # the one before, while another takes its place
_METADATA = "meta.pt"  # of Lightning, in a checkpoint that is a folder
_T = TypeVar("_T")


class ResumePoint(Checkpoint):
    """A checkpoint of a run in the run's folder: a file or, under strategies that shard the model, a folder.

    Beside Lightning's checkpoint it has, of each process, the RNG states, the generators that loaders and data sets
    hold, and what was decided at the epoch's end. It is a `Checkpoint` so that Lightning calls it after the callbacks
    that it saves.
    """

    def __init__(self, folder: Path, observer: EasinessCallback | None = None) -> None:
        self.folder = folder
        self._observer = observer  # some of whose observations may be in memory alone
        self._begun: Path | None = None  # what is resumed from
        self._saved: dict[str, Any] = {}
        self._resumed: dict[str, Any] = {}

    def found(self, trainer: Trainer) -> str | None:
        """Return the checkpoint to resume from, where there is a whole one."""
        check_folder(self.folder)
        path = next((self.folder / name for name in (_FILE, _BEFORE) if (self.folder / name).exists()), None)
        if path is None:
            return None
        if path.is_dir() and not is_sharded(trainer):
            kind = type(trainer.strategy).__name__
            warn_user(f"'{path}' was saved under another strategy than {kind}; its run starts again.")
            return None
        held = path / _METADATA if path.is_dir() else path
        try:
            if held.exists():  # DeepSpeed has files of other names
                _check_whole(held)
        except Exception as error:
            warn_user(
                f"'{path}' is damaged, or holds more than tensors and plain types, as hyperparameters may"
                f" ({type(error).__name__}); its run starts again."
            )
            return None
        self._begun = path
        return str(path)

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._begun is None:
            return
        if not self._begun.exists():
            raise RuntimeError(
                f"'{self._begun}' is gone, as another process has trained its run in the meantime: run again to go on."
            )
        if self._begun.is_dir():
            self._check_shards(trainer, self._begun)

    def _check_shards(self, trainer: Trainer, folder: Path) -> None:
        """Raise a RecordFileError in every process if one finds a damaged file among its share of a folder."""
        found = _by_all_processes(damaged_shard(folder, trainer.global_rank, num_processes()))
        problem = next(filter(None, found), None)
        if problem is not None:
            raise RecordFileError(f"{problem}: copy it here again, or delete '{folder}' to let its run start again.")

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.broadcast(self._observer is not None and self._observer.is_waiting):
            return  # after a kill, the run goes on from where all that was observed is on disk
        beside = self.folder / _BESIDE
        if trainer.is_global_zero:
            remove(beside)  # what a kill left
        trainer.strategy.barrier()
        self._saved = {"ranks": _of_all_processes(_own_state(trainer))}
        is_saved = self._save(trainer, beside)
        if is_sharded(trainer):
            known = _of_all_processes(checksums_of(beside, trainer.global_rank, num_processes()) if is_saved else None)
            is_saved = is_saved and (not trainer.is_global_zero or self._sign(trainer, beside, known))
        self._saved = {}  # other callbacks' checkpoints are the user's
        if trainer.is_global_zero and is_saved:
            replace(beside, self.folder / _FILE, self.folder / _BEFORE)

    def _save(self, trainer: Trainer, path: Path) -> bool:
        """Save a checkpoint; a full disk stops no training, but the one before stays then."""
        try:
            trainer.save_checkpoint(path, weights_only=False)  # the optimizer too
        except OSError as error:
            trainer.strategy.barrier()  # at which the other processes wait in `save_checkpoint`
            self._warn(trainer, error.strerror or str(error))
            return False
        return True

    def _sign(self, trainer: Trainer, path: Path, known: list[dict[str, str] | None]) -> bool:
        """Write the checksums that all processes found into a folder; False where that fails."""
        try:
            write_checksums(path, known)
        except OSError as error:
            self._warn(trainer, error.strerror or str(error))
            return False
        return True

    def _warn(self, trainer: Trainer, reason: str) -> None:
        warn_user(
            f"'{self.folder / _FILE}' could not be saved in epoch {trainer.current_epoch} ({reason}), so that after a"
            " kill the run continues from an earlier epoch: make room on the disk."
        )

    @property
    @override
    def state_key(self) -> str:
        return "_Resume"  # as in the checkpoints of before

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._saved

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed = checkpoint["callbacks"][self.state_key]
        # else a run that was stopped early, and killed before it was complete, would train an epoch more
        trainer.should_stop = self._states[0]["should_stop"]

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._resumed:
            return
        begin_next_epoch(trainer)
        states, rank = self._states, trainer.global_rank
        own = states[min(rank, len(states) - 1)]
        _step_plateau_schedulers(trainer, pl_module, own["metrics"])
        _generators(trainer).set_states(own["generators"])
        set_rng_state(own["streams"])
        if rank >= len(states):  # more processes than then
            seed_rng(mixed_seed(torch.initial_seed(), rank))

    @property
    def _states(self) -> list[dict[str, Any]]:
        """What each process had; in checkpoints of before, what the first one had."""
        found: list[dict[str, Any]] = self._resumed.get("ranks", [self._resumed])
        return found


def remove_resume_point(folder: Path) -> None:
    """Remove the checkpoint of a run that is complete."""
    for name in (_FILE, _BESIDE, _BEFORE):
        remove(folder / name)


def replace(new: Path, path: Path, before: Path) -> None:
    """Move a file or a folder to `path`. A kill at any moment leaves a whole one, there or else at `before`."""
    if path.exists() and (new.is_dir() or path.is_dir()):
        remove(before)
        os.rename(path, before)
    os.replace(new, path)
    remove(before)


def remove(path: Path) -> None:
    """Remove a file or a folder, where there is one and its folder may be written to."""
    with suppress(PermissionError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _check_whole(path: Path) -> None:
    """Raise an error if a file that torch saved is damaged, of which it compares no checksum, or holds code."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)
    torch.load(path, map_location="cpu", weights_only=True)


def _own_state(trainer: Trainer) -> dict[str, Any]:
    return {
        "streams": get_rng_state(),
        "generators": _generators(trainer).get_states(),
        "metrics": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
        "should_stop": trainer.should_stop,
    }


def _of_all_processes(own: _T) -> list[_T]:
    """Return what each process has, by rank, in the first one, which writes; in the others their own."""
    if num_processes() == 1:
        return [own]
    found: list[Any] | None = [None] * num_processes() if is_first_process() else None
    distributed.gather_object(own, found)
    return found or [own]


def _by_all_processes(own: _T) -> list[_T]:
    """Return what each process has, by rank, in all of them."""
    if num_processes() == 1:
        return [own]
    found: list[Any] = [None] * num_processes()
    distributed.all_gather_object(found, own)
    return found


def _generators(trainer: Trainer) -> OwnGenerators:
    return OwnGenerators([trainer.train_dataloader, trainer.val_dataloaders])


def _step_plateau_schedulers(trainer: Trainer, pl_module: LightningModule, metrics: dict[str, Any]) -> None:
    """Make the steps that Lightning makes after `on_train_epoch_end`, and so after the file is saved."""
    trainer.callback_metrics.update(metrics)
    for config in trainer.lr_scheduler_configs if pl_module.automatic_optimization else ():
        due = config.interval == "epoch" and trainer.current_epoch % config.frequency == 0
        if config.reduce_on_plateau and due and config.monitor in metrics:
            pl_module.lr_scheduler_step(config.scheduler, metrics[config.monitor])
