"""SampleEasinessTraining (SET): trains each epoch, or each batch, on examples of some easiness levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness._utils.epochs import whole_epochs
from lightning_easiness._utils.lightning import trial_batches
from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness.functional.levels import DEFAULT_TOL, Level, check_levels
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.select.base import Needs, Selected, SelectionState
from lightning_easiness.select.level_counts import LevelCounts
from lightning_easiness.select.schedule import Scheduled

_OWNER = "SampleEasinessTraining"


class SampleEasinessTraining(Scheduled):
    """Trains early epochs on everything, then on the examples of some levels of sample easiness at the current weights.

    The default is SET of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks": only
    medium examples (MO), found by a pass over the data before each epoch. ("easy",) is EO, ("hard",) HO,
    ("easy", "medium") EMO, ("medium", "hard") MHO; with SELModule or SampleEasinessLoss it is SEL-SET.

    Medium examples are few, and a model trained on them alone forgets the others. So also train on a random fraction r,
    `others_share`, of the other levels, drawn again in each epoch. Each of these has a weight of 1 / r. At fixed
    weights of the model, the gradients of an epoch's batches then add up, on average over draws and orders, to those of
    an epoch on everything with the same loader: for losses that are sums over a batch, and for those that are means,
    also where the last batch is a smaller one (`WeighsExamples.batch_share`). This is so where the loader draws each
    example once an epoch: under another sampler the means are not multiplied, and their average may differ. Add
    `final_epochs` on everything at the end:

        SampleEasinessTraining(
            early_epochs=2, others_share=0.5, final_epochs=2, online=True, rescore_every_n_epochs=None
        )

    Measured on small networks (docs/train-less.md), it was not found to beat its control.

    The weights reach the losses per example that the training step returns, or the loss through `SampleWeightedLoss`,
    `SELModule.weighted_mean` or `SampleEasinessLoss`. The noise variance of sample
    easiness, and whether it is exact or counted in draws, are `sigma2` and `num_draws` of the Trainer's
    EasinessCallback, or of the datamodule's `reader`.

    Args:
        levels: "hard", "medium", "easy", or intervals (low, high) of sample easiness.
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, a float in (0, 1);
            the paper uses 10 to 20 % of all.
        by: "sample_easiness"; or "loss", the control L-SET: the same numbers of examples, by rank of the loss.
        level_counts: For by="loss", how many examples SET called hard and medium before each epoch: the
            SampleEasinessTraining of a SET run, its `LevelCounts`, its record or folder with `every_n_epochs=1`,
            counted by `tol`, or a CSV file. None: as many as are by the sample easiness of the model itself.
        per: "epoch"; or "batch", Algorithm 1 of the paper: batches are drawn from everything, and examples of other
            levels are removed from each before the training step. A batch without one of the levels is skipped, with no
            step of the optimizer; of several processes, all skip it or none. Their common step is that of the
            mean over what all keep, so that the loss must be a mean over its batch. A single example gets another one
            beside it, drawn from its batch, if the module has batch norm. Where gradients are accumulated, a batch that
            is skipped counts as zero in their average.
        others_share: Fraction of the examples of other levels to train on as well, in [0, 1).
        final_epochs: The same at the end.
        rescore_every_n_epochs: Make a pass before every n-th epoch; in between, its result is reused. None, with
            `online`, for no passes at all.
        online: Update the easiness of the examples trained on from the training forward, through the Trainer's
            EasinessCallback, which is required. Without passes and without `others_share`, an example that is not
            trained on is never seen again, so their number only decreases.
        tol: Distance from 0 and from 1 that still counts as hard and as easy, in [0, 0.5).
        minimum: Minimum number of examples per epoch (or batch), filled up at random; None to train on exactly the
            examples of the levels. See `Selection`.
        seed: Seed of the draws.

    Attributes:
        recorded_counts: The numbers of hard, medium and easy examples before each epoch of the last fit that was
            selected for, `LevelCounts`; none where the selection is by batch.

    Raises:
        ValueError: If an argument is out of range or incompatible with another.

    Example:
        >>> training = SampleEasinessTraining(early_epochs=1)
        >>> observed = {"sample_easiness": torch.tensor([0.0, 0.4, 1.0, 0.9])}
        >>> observed["weakest_comparison"] = torch.tensor([0.0, 0.6, 1.0, 0.9])
        >>> training.select(SelectionState(4, epoch=1, observed=observed))
        tensor([1, 3])
    """

    @refuse_renamed(_OWNER, sigma2="give it to EasinessCallback, or without one to EasinessDataModule(reader=...)")
    def __init__(
        self,
        levels: Sequence[Level] = ("medium",),
        early_epochs: float = 5,
        *,
        by: Literal["sample_easiness", "loss"] = "sample_easiness",
        level_counts: LevelCounts | SampleEasinessTraining | EasinessRecord | str | None = None,
        per: Literal["epoch", "batch"] = "epoch",
        others_share: float = 0.0,
        final_epochs: float = 0,
        rescore_every_n_epochs: int | None = 1,
        online: bool = False,
        tol: float = DEFAULT_TOL,
        minimum: int | None = None,
        seed: int = 0,
    ) -> None:
        check_levels(_OWNER, levels)
        self.levels = tuple(level if isinstance(level, str) else (level[0], level[1]) for level in levels)
        self.set_schedule(early_epochs, final_epochs)
        self.by, self.per, self.others_share, self.tol = by, per, others_share, tol
        self.rescore_every_n_epochs, self.online = rescore_every_n_epochs, online
        self.minimum, self.seed = minimum, seed
        self._check_values()
        self.level_counts = None if level_counts is None else LevelCounts.of(level_counts, tol)
        self.recorded_counts = LevelCounts()
        self._check_combinations()
        fields = ("sample_easiness", "weakest_comparison", *(["loss"] if by == "loss" else []))
        self.needs = Needs(
            every=per,
            fields=fields if self.level_counts is None else ("loss",),
            passes=rescore_every_n_epochs is not None,
            online=online,
            weights=others_share > 0,
        )

    @override
    def select(self, state: SelectionState) -> Tensor | Selected:
        self._check_size(state)
        return super().select(state)

    @override
    def select_part(self, state: SelectionState) -> Tensor | Selected:
        observed = state.observe() if self.is_rescored(state) else state.observed
        assert observed is not None  # else the epoch is on everything
        chosen = self._in_levels(observed, state)
        if not self.others_share:
            return chosen.nonzero()[:, 0]
        others, count = (~chosen).nonzero()[:, 0], self._num_drawn(chosen, state)
        weights = torch.where(chosen, 1.0, len(others) / max(1, count))
        chosen[others[torch.randperm(len(others), generator=state.generator())[:count]]] = True
        return Selected(chosen.nonzero()[:, 0], weights)

    def is_rescored(self, state: SelectionState) -> bool:
        """Return whether an epoch or a batch that is not on everything is observed before it."""
        if self.rescore_every_n_epochs is None:
            return False
        if self.per == "batch" or not state.observed:
            return True
        return (state.epoch - self.num_early(state)) % self.rescore_every_n_epochs == 0

    @override
    def check(self, trainer: Trainer) -> None:
        super().check(trainer)
        if self.per != "batch" and not trial_batches(trainer):
            self._check_counts(trainer)
        self.recorded_counts = LevelCounts()

    @override
    def moments(self, max_epochs: int) -> dict[str, int]:
        every = self.rescore_every_n_epochs or 1
        rescores = {"`rescore_every_n_epochs`": every} if every > 1 else {}  # else each choice is made anew
        return {**super().moments(max_epochs), **rescores}

    def _check_counts(self, trainer: Trainer) -> None:
        if self.level_counts is not None and (trainer.max_epochs or -1) > 0:
            holds = max(1, getattr(trainer, "reload_dataloaders_every_n_epochs", 0))
            epochs = trainer.max_epochs or 0
            early, final = (whole_epochs(given, epochs) for given in (self.early_epochs, self.final_epochs))
            for epoch in range(early, epochs - final, holds):
                self.level_counts.at(epoch)

    def _check_size(self, state: SelectionState) -> None:
        """Raise unless the counts of all epochs to come are of this data set: at the first choice, before any step."""
        for epoch, counts in () if self.level_counts is None else self.level_counts.epochs.items():
            if epoch >= state.epoch and sum(counts) != state.num_examples:
                raise ValueError(
                    f"The `level_counts` of {_OWNER} are of {sum(counts)} examples, but there are"
                    f" {state.num_examples}: give those of a SET run on the same data set."
                )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"recorded_counts": self.recorded_counts.state()} if self.recorded_counts.epochs else {}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recorded_counts = LevelCounts.of_state(state["recorded_counts"])

    def _in_levels(self, observed: Mapping[str, Tensor], state: SelectionState) -> Tensor:
        if self.level_counts is not None:
            hard, medium, _ = self.level_counts.at(state.epoch)
            return functional.in_levels_by_count(observed["loss"], hard, medium, self.levels)
        if "sample_easiness" not in observed:
            raise ValueError(
                f"{_OWNER} goes by sample easiness, which needs logits (B, K) and class indices (B,); give"
                " EasinessCallback, or the `reader` of EasinessDataModule, a logits_fn or batch_fn to find them."
            )
        easiness, weakest = observed["sample_easiness"], observed.get("weakest_comparison")
        if state.batch is None:
            self.recorded_counts.note(
                state.epoch, functional.easiness_level(easiness, self.tol, weakest_comparison=weakest)
            )
        if self.by == "loss":
            loss = observed["loss"]
            return functional.in_levels_by_loss(loss, easiness, self.levels, self.tol, weakest_comparison=weakest)
        return functional.in_levels(easiness, self.levels, self.tol, weakest_comparison=weakest)

    def _num_drawn(self, chosen: Tensor, state: SelectionState) -> int:
        """Return how many of the others to draw: the requested fraction, or more if there would be too few examples."""
        count = int(chosen.sum())
        others = len(chosen) - count
        drawn = functional.fraction_to_count(self.others_share, others)
        return min(others, state.enough(count + drawn) - count)

    def _check_values(self) -> None:
        for name, choices in (("by", ("sample_easiness", "loss")), ("per", ("epoch", "batch"))):
            if getattr(self, name) not in choices:
                self._refuse(name, f"must be {choices[0]!r} or {choices[1]!r}")
        for name, least in (("rescore_every_n_epochs", 1), ("minimum", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
                self._refuse(name, "must be a whole number, and no fraction")
            if value is not None and value < least:
                self._refuse(name, f"must be at least {least}")
        if not 0 <= self.others_share < 1:
            self._refuse("others_share", "must be in [0, 1): half of them is 0.5, and with all nothing is selected")
        if not 0 <= self.tol < 0.5:
            self._refuse("tol", "must be in [0, 0.5)")

    def _check_combinations(self) -> None:
        makes_no_pass = self.rescore_every_n_epochs is None
        if self.level_counts is not None and (self.by != "loss" or self.per == "batch"):
            self._refuse("level_counts", "are for by='loss' and per='epoch'")
        if self.by == "loss" and not all(isinstance(level, str) for level in self.levels):
            self._refuse("levels", "must be names where by='loss'")
        if makes_no_pass and not self.online:
            raise ValueError(f"{_OWNER} with rescore_every_n_epochs=None never has an easiness; set online=True.")
        if self.per == "batch" and (self.online or self.rescore_every_n_epochs != 1):
            raise ValueError(
                f"{_OWNER} with per='batch' observes each batch by itself; leave out `online` and"
                " `rescore_every_n_epochs`."
            )
        if makes_no_pass and self.early_epochs == 0:
            raise ValueError(
                f"{_OWNER} with online=True and no pass has nothing to go by before an epoch on everything; set"
                " `early_epochs` to 1 or more, or `rescore_every_n_epochs`."
            )

    def _refuse(self, name: str, problem: str) -> Any:
        raise ValueError(f"The `{name}` of {_OWNER} {problem}; got {getattr(self, name)!r}.")
