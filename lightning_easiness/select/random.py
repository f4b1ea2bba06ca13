"""Random examples: a share of them in each epoch, and the control of any other rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from lightning_easiness import functional
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional._rng import generator
from lightning_easiness.functional.dynamic import dealt_count, drawn
from lightning_easiness.select.base import Selected, Selection, SelectionState
from lightning_easiness.select.checks import checked_indices, checked_weights
from lightning_easiness.select.schedule import Scheduled

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class RandomShare(Scheduled):
    """Trains each epoch on a fresh random share of the examples.

    "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning" (Okanovic et al., 2024), RS2. It needs no
    observation and no weights, and is what every other rule should be compared with: a rule that does not beat it at
    equal work has chosen nothing.

    Args:
        share: Fraction of the examples to train on in each epoch, in (0, 1].
        replacement: Draw each epoch's share from all examples, whatever the epochs before it had. False deals whole
            passes out over the epochs: in each ceil(1 / share) epochs every example is once, or twice where that does
            not come out even, which are few for shares such as 1/2 or 1/3; the share is rounded up then.
        early_epochs: Epochs on everything at the beginning: a whole number, or a fraction of all, as 0.125.
        final_epochs: The same at the end.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument is out of range. When training starts: `final_epochs`, or a fraction, without
            max_epochs; nothing is ever selected; or the share leaves no batch.

    Example:
        >>> from lightning_easiness import SelectionState
        >>> RandomShare(0.5).select(SelectionState(num_examples=6))
        tensor([1, 2, 4])
    """

    def __init__(
        self,
        share: float = 0.5,
        *,
        replacement: bool = True,
        early_epochs: float = 0,
        final_epochs: float = 0,
        seed: int = 0,
    ) -> None:
        check.fraction("RandomShare", share, "share", "half is 0.5")
        self.set_schedule(early_epochs, final_epochs)
        self.share, self.replacement, self.seed = share, replacement, seed

    @override
    def select_part(self, state: SelectionState) -> Tensor:
        if self.replacement:
            return functional.random_share(state.num_examples, self.share, generator=state.generator())
        epoch = state.epoch - self.num_early(state)
        return functional.dealt_share(state.num_examples, self.share, epoch, seed=state.seed)

    @override
    def fewest(self, num_examples: int) -> int:
        count = functional.fraction_to_count if self.replacement else dealt_count
        return count(self.share, num_examples)


class Control(Selection):
    """Trains on as many random examples as another rule would have kept: its control, matched epoch by epoch.

    The rule decides as ever, by what it observes in the training of the control, and in each epoch, or batch, as many
    examples are drawn at random. Schedules, epochs on everything and labels are then those of the rule; only which
    examples it keeps is not. The number of steps is about the rule's, as the training of the control shows the rule
    other losses than its own would. All examples of the control of a rule that weighs have the same weight, the mean of
    those that the rule would keep: so its steps are as large as the rule's, and its weights must reach the loss too.

    Args:
        rule: The selection to be compared with.

    Raises:
        TypeError: If `rule` is no selection.

    Example:
        >>> from lightning_easiness import Keep, SelectionState
        >>> Control(Keep([1, 3])).select(SelectionState(num_examples=6)).kept
        tensor([0, 1])
    """

    def __init__(self, rule: Selection) -> None:
        if not isinstance(rule, Selection):
            check.refuse("Control", "rule", "be a selection", repr(rule), "as Control(InfoBatch())", error=TypeError)
        self.rule, self.needs = rule, rule.needs
        self.seed, self.minimum, self.target, self.replace_fn = rule.seed, rule.minimum, rule.target, rule.replace_fn

    @override
    def __str__(self) -> str:
        return f"Control of {self.rule}"

    @override
    def select(self, state: SelectionState) -> Selected:
        size, decision, name = state.num_examples, Selected.of(self.rule.select(state)), str(self.rule)
        of_rule = checked_indices(name, decision.kept, size, may_be_empty=True)
        weights = checked_weights(name, decision.weights, size)
        if weights is not None:
            weights = torch.full_like(weights, float(weights[of_rule].double().mean()) if len(of_rule) else 1.0)
        stream = generator(state.seed, state.epoch, state.batch or 0, 1)  # not the one that the rule draws from
        return Selected(drawn(size, len(of_rule), stream), weights, decision.labels)

    @override
    def check(self, trainer: Trainer) -> None:
        self.rule.check(trainer)

    @override
    def fewest(self, num_examples: int) -> int | None:
        return self.rule.fewest(num_examples)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.rule.state_dict()

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rule.load_state_dict(state)
