"""Schedules of the learning rate that step with the batches, where a selection changes the length of epochs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from lightning_easiness._utils.lightning import ScheduleHook, StepsDone, steps_done


class LRSchedules:
    """Moves each schedule so that every epoch of a fit is the same part of it, until `close`.

    Lightning, and so `trainer.estimated_stepping_batches`, takes all epochs to be as long as the first. A schedule made
    for so many steps is at its end when the fit is, and a warmup of the first tenth lasts a tenth of the fit. Where all
    epochs are as long as the first, it moves by one step at each step of the optimizer, as ever.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._steps_per_epoch: int | None = None  # that schedules are made for
        self._moved: dict[int, int] = {}  # number of the schedule -> how often it was moved
        self._hook = ScheduleHook(trainer, self._moves)

    def close(self) -> None:
        """Let Lightning move the schedules again."""
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return where the schedules are, as plain types; {} before the first step."""
        if self._steps_per_epoch is None:
            return {}
        return {"steps_per_epoch": self._steps_per_epoch, "moved": dict(self._moved)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._steps_per_epoch, self._moved = state.get("steps_per_epoch"), dict(state.get("moved", {}))

    def _moves(self, number: int, frequency: int) -> int:
        """Return how often to move a schedule now, after a batch that ends with a step of the optimizer, or is none."""
        done = steps_done(self._trainer)
        if self._steps_per_epoch is None:
            # those of the first epoch; of a fit that began without them, as many as it had on average
            self._steps_per_epoch = (done.made - done.step) // done.epoch if done.epoch else done.steps
        planned, moved = self._steps_per_epoch, self._moved.get(number)
        if moved is None:
            moved = position(done._replace(step=done.step - 1, made=done.made - 1), planned) // frequency
        # torch warns of a schedule that moves before the optimizer does
        now = max(moved, position(done, planned) // frequency) if done.made else moved
        self._moved[number] = now
        return now - moved


def position(done: StepsDone, steps_per_epoch: int) -> int:
    """Return how far a schedule is that was made for a fit of `steps_per_epoch`, in its own steps.

    It goes by the share of the fit that is done, in epochs of any length or in steps, whichever is to end it.
    """
    length = steps_per_epoch * done.epochs if done.epochs > 0 else done.max_steps
    if 0 < done.max_steps < length:
        length = done.max_steps
    by_epochs = length * (done.epoch * done.steps + done.step) // (done.epochs * done.steps) if done.epochs > 0 else 0
    by_steps = length * done.made // done.max_steps if done.max_steps > 0 else 0
    without_end = done.made if length < 0 else 0
    return max(by_epochs, by_steps, without_end)


def warn_of_manual_schedules(trainer: Any) -> None:
    """Warn of a schedule that has a number of steps, and that a module moves by itself."""
    module = None if trainer is None or trainer.strategy is None else trainer.lightning_module
    if module is None or module.automatic_optimization:
        return
    for config in trainer.lr_scheduler_configs:
        if getattr(config.scheduler, "total_steps", None):
            rank_zero_warn(
                f"{type(config.scheduler).__name__} was made for {config.scheduler.total_steps} steps, and"
                f" {type(module).__name__} moves it by itself, but the epochs of a selection differ in length: move it"
                " once an epoch, and give it the number of epochs.",
                category=UserWarning,
            )
