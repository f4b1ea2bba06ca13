"""`Scheduled`: a rule for each epoch with epochs on everything at the beginning and at the end of a fit."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness._utils.epochs import whole_epochs
from lightning_easiness._utils.lightning import trial_batches
from lightning_easiness._utils.warnings import warn_user
from lightning_easiness.functional import _checks as check
from lightning_easiness.select.base import Needs, Selected, Selection, SelectionState

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Scheduled(Selection):
    """Trains on everything in the early and the final epochs, and on a part in those between.

    Attributes:
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all epochs, a float in
            (0, 1).
        final_epochs: The same at the end.
    """

    needs = Needs(every="epoch")
    early_epochs: float = 0
    final_epochs: float = 0

    def set_schedule(self, early_epochs: float, final_epochs: float) -> None:
        """Keep the numbers of epochs on everything, or raise a ValueError."""
        self.early_epochs = checked_epochs(type(self).__name__, "early_epochs", early_epochs)
        self.final_epochs = checked_epochs(type(self).__name__, "final_epochs", final_epochs)

    @property
    def least_early(self) -> int:
        """How many epochs at the beginning are on everything in any case: as many as show what the rule goes by."""
        return int((self.needs.online and not self.needs.passes) or self.needs.of_batches)

    def forget(self) -> None:
        """Begin a fit with nothing of another one, for a rule that keeps something between its decisions."""

    @abstractmethod
    def select_part(self, state: SelectionState) -> Tensor | Selected:
        """Return what an epoch trains on that is not on everything."""

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        return torch.arange(state.num_examples) if self.is_on_everything(state) else self.select_part(state)

    def is_on_everything(self, state: SelectionState) -> bool:
        """Return whether an epoch is early or final, or nothing is known yet of what the rule goes by."""
        if state.epoch < self.num_early(state):
            return True
        final, max_epochs = whole_epochs(self.final_epochs, state.max_epochs), state.max_epochs or -1
        goes_by_training_alone = self.needs.online and not self.needs.passes
        return (final > 0 and 0 <= max_epochs - final <= state.epoch) or (goes_by_training_alone and not state.observed)

    def num_early(self, state: SelectionState) -> int:
        """Return the number of early epochs."""
        return whole_epochs(self.early_epochs, state.max_epochs)

    @override
    def check(self, trainer: Trainer) -> None:
        self.forget()
        owner, epochs = type(self).__name__, trainer.max_epochs or -1
        check_has_length(owner, trainer, "early_epochs", self.early_epochs)
        check_has_length(owner, trainer, "final_epochs", self.final_epochs, from_the_end=True)
        if trial_batches(trainer):
            return
        early, final = whole_epochs(self.early_epochs, epochs), whole_epochs(self.final_epochs, epochs)
        if 0 <= epochs <= max(early, self.least_early) + final:
            first = "epoch" if self.least_early == 1 else f"{self.least_early} epochs"
            least = f" and the first {first} in any case,"
            raise ValueError(
                f"{owner} has early_epochs={self.early_epochs} and final_epochs={self.final_epochs} on everything,"
                f"{least * (early < self.least_early)} but the Trainer trains for {epochs}, so that nothing is ever"
                f" selected; {self._way_out(early, final, epochs)}train for longer, with more max_epochs."
            )
        if final and trainer.max_steps > 0 and trainer.is_global_zero:
            warn_user(
                f"The `final_epochs` of {owner} are the last of max_epochs={epochs}, but the Trainer has"
                f" max_steps={trainer.max_steps} too, which may end the training before them: leave one of the two"
                " out, or final_epochs."
            )
        if self.needs.every == "epoch":
            _check_holds(owner, trainer, self.moments(epochs))

    def _way_out(self, early: int, final: int, epochs: int) -> str:
        """Return to what to set numbers of epochs that leave none to select for; "" where no other number would."""
        for most, words in ((whole_epochs(0.125, epochs), "an eighth of all epochs, 0.125"), (0, "0")):
            if max(min(early, most), self.least_early) + min(final, most) < epochs:
                return f"set them lower, as {words}, or "
        return ""

    def moments(self, max_epochs: int) -> dict[str, int]:
        """Return, by name, the epochs at which a choice must not still hold that was made before."""
        final = whole_epochs(self.final_epochs, max_epochs)
        begin = {"epoch at which `final_epochs` begin": max_epochs - final} if final else {}
        return {"`early_epochs`": whole_epochs(self.early_epochs, max_epochs), **begin}


def _check_holds(owner: str, trainer: Trainer, moments: dict[str, int]) -> None:
    """Raise a ValueError where the Trainer lets a choice hold beyond one of the moments."""
    holds = getattr(trainer, "reload_dataloaders_every_n_epochs", 0)
    for name, moment in moments.items():
        if holds > 1 and moment % holds:
            raise ValueError(
                f"The Trainer's reload_dataloaders_every_n_epochs={holds} lets a choice hold for {holds} epochs, so the"
                f" {name} of {owner}, {moment}, must be a multiple of it; or leave it at 0."
            )


def check_has_length(owner: str, trainer: Trainer, name: str, given: float, from_the_end: bool = False) -> None:
    """Raise a ValueError where a number of epochs is of all, or from the end, and the Trainer has no max_epochs."""
    has_length = trainer.max_epochs is not None and trainer.max_epochs >= 0
    if given and not has_length and (from_the_end or isinstance(given, float)):
        raise ValueError(
            f"The `{name}` of {owner} need a Trainer with max_epochs, as else it is not known which they are; set"
            f" max_epochs, or {name}={'0' if from_the_end else 'a whole number'}."
        )


def checked_epochs(owner: str, name: str, given: float) -> float:
    """Return a number of epochs, whole or a fraction of all, or raise a ValueError."""
    if isinstance(given, float) and given.is_integer():  # as YAML may give whole numbers
        given = int(given)
    is_whole = isinstance(given, int) and not isinstance(given, bool) and given >= 0
    if not (is_whole or (isinstance(given, float) and 0 < given < 1)):
        way = "an eighth of them is 0.125"
        check.refuse(owner, name, "be a whole number of epochs, or a fraction of all in (0, 1)", repr(given), way)
    return given
