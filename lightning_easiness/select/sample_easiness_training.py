"""SampleEasinessTraining (SET): each epoch, or each batch, on the examples whose easiness level matters now."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.lightning import trial_batches
from lightning_easiness.functional.levels import Level, check_levels
from lightning_easiness.select.base import Selection, SelectionState


class SampleEasinessTraining(Selection):
    """Early epochs on everything, then on the examples of some levels of sample easiness at the current weights.

    By default SET of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks": medium
    examples alone (MO), of all examples, which a pass over the data before each epoch finds. ("easy",) is EO, ("hard",)
    HO, ("easy", "medium") EMO, ("medium", "hard") MHO; with SELModule or SampleEasinessLoss it is SEL-SET.

    Medium examples alone are few, and a model that sees them alone forgets the others. What to trust instead is
    `others_share`: of the other levels a share r is drawn anew each epoch and weighs 1 / r, so that the gradients of an
    epoch add up, in expectation, to those of all examples; with `final_epochs` on everything at the end:

        SampleEasinessTraining(
            early_epochs=2, others_share=0.5, final_epochs=2, online=True, rescore_every_n_epochs=None
        )

    The weights reach the loss through `SELModule.weighted_mean` or `SampleEasinessLoss`.

    Args:
        levels: "hard", "medium", "easy", or intervals (low, high) of sample easiness.
        early_epochs: epochs on everything at the beginning; the paper takes 10 to 20 % of all.
        by: "sample_easiness"; or "loss", the control L-SET: the same numbers of examples, by rank of the loss.
        per: "epoch"; or "batch", Algorithm 1 of the paper: batches are drawn from everything, and what is not of the
            levels is taken out of each before the training step.
        others_share: share of the examples of other levels that an epoch trains on too, in [0, 1).
        final_epochs: epochs on everything at the end.
        rescore_every_n_epochs: make the pass before every so many epochs; in between, what was found holds. None, with
            `online`, for no pass at all.
        online: learn the easiness of what is trained on from the training forward, through the EasinessCallback of the
            Trainer, which must have one. Without passes and without `others_share`, an example that is not trained on
            is never seen again, so that there are ever fewer.
        sigma2: noise variance of sample easiness.
        tol: distance from 0 and from 1 that still counts as hard and as easy.
        minimum: examples an epoch (or a batch) at least; what is missing is drawn. See `Selection`.
        seed: of the draws.

    Raises:
        ValueError: an argument is out of its range, or does not go with another.

    Example:
        >>> training = SampleEasinessTraining(early_epochs=1)
        >>> easiness = torch.tensor([0.0, 0.4, 1.0, 0.9])
        >>> training.select(SelectionState(4, epoch=1, observed={"sample_easiness": easiness}))
        tensor([1, 3])
    """

    def __init__(
        self,
        levels: Sequence[Level] = ("medium",),
        early_epochs: int = 5,
        *,
        by: Literal["sample_easiness", "loss"] = "sample_easiness",
        per: Literal["epoch", "batch"] = "epoch",
        others_share: float = 0.0,
        final_epochs: int = 0,
        rescore_every_n_epochs: int | None = 1,
        online: bool = False,
        sigma2: float = 1e-4,
        tol: float = 5e-4,
        minimum: int | None = None,
        seed: int = 0,
    ) -> None:
        self.levels = levels
        self.early_epochs, self.final_epochs = early_epochs, final_epochs
        self.by, self.per, self.others_share = by, per, others_share
        self.rescore_every_n_epochs, self.online = rescore_every_n_epochs, online
        self.sigma2, self.tol, self.minimum, self.seed = sigma2, tol, minimum, seed
        self._check_arguments()
        self.levels = tuple(level if isinstance(level, str) else (level[0], level[1]) for level in levels)
        self.per_batch = per == "batch"
        self.every_epoch = not self.per_batch
        self.needs_observation = True
        self.weighs = others_share > 0
        fields = ("sample_easiness", "loss") if by == "loss" else ("sample_easiness",)
        self.remembers = () if self.per_batch else fields

    @override
    def select(self, state: SelectionState) -> Tensor:
        if self._takes_everything(state):
            return torch.arange(state.num_examples)
        chosen = self._of_the_levels(state)
        if self.others_share:
            others = (~chosen).nonzero()[:, 0]
            drawn = torch.randperm(len(others), generator=state.generator())[: self._num_drawn(chosen, state)]
            chosen[others[drawn]] = True
        return chosen.nonzero()[:, 0]

    @override
    def weights(self, state: SelectionState) -> Tensor | None:
        if not self.others_share or self._takes_everything(state):
            return None
        chosen = self._of_the_levels(state)
        others = len(chosen) - int(chosen.sum())
        return torch.where(chosen, 1.0, others / max(1, self._num_drawn(chosen, state)))

    @override
    def looks_before(self, state: SelectionState) -> bool:
        if self._is_on_everything(state) or self.rescore_every_n_epochs is None:
            return False
        if self.per_batch or not state.is_known:
            return True
        return (state.epoch - self.early_epochs) % self.rescore_every_n_epochs == 0

    @override
    def check(self, trainer: Trainer) -> None:
        epochs, is_trial = trainer.max_epochs, bool(trial_batches(trainer))
        if epochs is None or epochs < 0:
            if self.final_epochs:
                raise ValueError(
                    "The `final_epochs` of SampleEasinessTraining need a Trainer with max_epochs, as else it is not"
                    " known which the last epochs are; set max_epochs, or final_epochs=0."
                )
        elif self.early_epochs + self.final_epochs >= epochs and not is_trial:
            raise ValueError(
                f"SampleEasinessTraining has early_epochs={self.early_epochs} and final_epochs={self.final_epochs} on"
                f" everything, but the Trainer trains for {epochs}, so that nothing is ever selected; set"
                " `early_epochs` lower, as a tenth or a fifth of all epochs."
            )
        if not (self.per_batch or is_trial):
            self._check_limit(trainer)
            self._check_rhythm(trainer)

    def _check_rhythm(self, trainer: Trainer) -> None:
        holds = getattr(trainer, "reload_dataloaders_every_n_epochs", 0)
        if holds <= 1:
            return
        begins = 0 if trainer.max_epochs is None else trainer.max_epochs - self.final_epochs
        moments = {"early_epochs": self.early_epochs, "rescore_every_n_epochs": self.rescore_every_n_epochs or 0}
        if (self.rescore_every_n_epochs or 1) == 1:
            del moments["rescore_every_n_epochs"]  # each choice is made anew
        if self.final_epochs:
            moments["epoch at which `final_epochs` begin"] = begins
        for name, moment in moments.items():
            if moment % holds:
                named = f"`{name}`" if "`" not in name else name
                raise ValueError(
                    f"The Trainer's reload_dataloaders_every_n_epochs={holds} lets a choice hold for {holds} epochs, so"
                    f" the {named} of SampleEasinessTraining, {moment}, must be a multiple of it; or leave it at 0."
                )

    def _check_limit(self, trainer: Trainer) -> None:
        limit = getattr(trainer, "limit_train_batches", 1.0)
        if isinstance(limit, int) and not isinstance(limit, bool) and self.others_share:
            raise ValueError(
                f"The Trainer's limit_train_batches={limit} is as many batches of fewer examples, so that weights would"
                " make too much of them; give the limit as a share of the epoch, as 0.5."
            )

    def _of_the_levels(self, state: SelectionState) -> Tensor:
        observed = state.observed or {}
        if "sample_easiness" not in observed:
            raise ValueError(
                "SampleEasinessTraining goes by sample easiness, which needs logits (B, K) and class indices (B,); give"
                " EasinessDataModule logits_fn or batch_fn to find them."
            )
        easiness = observed["sample_easiness"]
        if self.by == "loss":
            return functional.in_levels_by_loss(observed["loss"], easiness, self.levels, self.tol)
        return functional.in_levels(easiness, self.levels, self.tol)

    def _num_drawn(self, chosen: Tensor, state: SelectionState) -> int:
        """How many of the others: the share, or more where there would be too few examples in all."""
        count = int(chosen.sum())
        others = len(chosen) - count
        share = functional.fraction_to_count(self.others_share, others)
        return min(others, state.enough(count + share) - count)

    def _takes_everything(self, state: SelectionState) -> bool:
        # nothing is observed, too, where `online` alone tells, and training has not begun
        return self._is_on_everything(state) or state.observed is None

    def _is_on_everything(self, state: SelectionState) -> bool:
        is_final = state.max_epochs is not None and 0 <= state.max_epochs - self.final_epochs <= state.epoch
        return state.epoch < self.early_epochs or (self.final_epochs > 0 and is_final)

    def _check_arguments(self) -> None:
        owner = "SampleEasinessTraining"
        check_levels(owner, self.levels)
        for name, value in (("by", self.by), ("per", self.per)):
            choices = {"by": ("sample_easiness", "loss"), "per": ("epoch", "batch")}[name]
            if value not in choices:
                raise ValueError(f"The `{name}` of {owner} must be {choices[0]!r} or {choices[1]!r}; got {value!r}.")
        if self.by == "loss" and not all(isinstance(level, str) for level in self.levels):
            raise ValueError(f"The `levels` of {owner} must be names where by='loss'; got {self.levels!r}.")
        for name in ("early_epochs", "final_epochs", "rescore_every_n_epochs", "minimum"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
                raise ValueError(f"The `{name}` of {owner} must be a whole number, and no share; got {value!r}.")
        for name in ("early_epochs", "final_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"The `{name}` of {owner} must be at least 0; got {getattr(self, name)}.")
        if not 0 <= self.others_share < 1:
            raise ValueError(
                f"The `others_share` of {owner} must be in [0, 1); got {self.others_share}: half of them is 0.5, and"
                " with all of them nothing is selected."
            )
        if not 0 < self.sigma2 < float("inf"):
            raise ValueError(f"The `sigma2` of {owner} must be a finite number above 0; got {self.sigma2}.")
        if self.minimum is not None and self.minimum < 1:
            raise ValueError(f"The `minimum` of {owner} must be at least 1 example; got {self.minimum}.")
        if not 0 <= self.tol < 0.5:
            raise ValueError(f"The `tol` of {owner} must be in [0, 0.5); got {self.tol}.")
        if self.rescore_every_n_epochs is None and not self.online:
            raise ValueError(f"{owner} with rescore_every_n_epochs=None never knows an easiness; set online=True.")
        if self.rescore_every_n_epochs is not None and self.rescore_every_n_epochs < 1:
            raise ValueError(
                f"The `rescore_every_n_epochs` of {owner} must be at least 1, or None; got"
                f" {self.rescore_every_n_epochs}."
            )
        if self.per == "batch" and (self.online or self.rescore_every_n_epochs != 1):
            raise ValueError(
                f"{owner} with per='batch' looks at each batch by itself; leave out `online` and"
                " `rescore_every_n_epochs`."
            )
        if self.online and self.early_epochs == 0 and self.rescore_every_n_epochs is None:
            raise ValueError(
                f"{owner} with online=True and no pass knows nothing before an epoch on everything; set `early_epochs`"
                " to 1 or more, or `rescore_every_n_epochs`."
            )
