"""The weights of a batch's examples on their way into the loss, and losses per example that a training step returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_easiness._utils.lightning import StrategyHook
from lightning_easiness.losses import WeighsExamples

_RETURN = 'let it return one loss per example, as cross_entropy(logits, y, reduction="none")'
_COMPUTE = 'compute its loss by SampleWeightedLoss(torch.nn.CrossEntropyLoss(reduction="none"))'


class ExampleWeights:
    """Hands out the weights of each batch's examples, and checks that the loss uses them, until `close`.

    They go to each `WeighsExamples` in the module. Where there is none, the losses per example that the training step
    returns are reduced with them.
    """

    def __init__(self, trainer: Any, owner: str) -> None:
        self._trainer, self._owner = trainer, owner
        self._returned = WeighsExamples()  # reduces what the training step returns
        self._in_module: list[WeighsExamples] | None = None
        self._size = 0  # of the batch at hand
        self._must_be_used = True
        self._hook = StrategyHook(trainer, "training_step", after=self._note_step)

    def close(self) -> None:
        """Take the weights back."""
        self._hook.remove()
        for consumer in consumers(self._trainer.lightning_module):
            for name in ("sample_weight", "sample_weight_used", "batch_share"):
                consumer.__dict__.pop(name, None)

    def hand_out(self, weights: Tensor | None, size: int, share: float) -> None:
        """Hand out the weights of a batch of this size, None for equal ones, and the share that means are worth."""
        module = self._trainer.lightning_module
        if self._in_module is None:
            self._in_module = consumers(module)
        self._size = size
        self._must_be_used = self._must_be_used or weights is not None
        for consumer in self._in_module or [self._returned]:
            consumer.sample_weight = None if weights is None else weights.to(module.device, non_blocking=True)
            consumer.sample_weight_used = False
            consumer.batch_share = share

    def _note_step(self, output: Any) -> Any:
        automatic = self._trainer.lightning_module.automatic_optimization
        if output is None and automatic:
            return output  # the step skipped the batch
        losses = losses_of(output, self._size) if automatic else None
        if losses is not None:
            output = with_loss(output, self._mean_of(losses))
        self._check_used()
        return output

    def _mean_of(self, losses: Tensor) -> Tensor:
        if self._in_module:
            raise TypeError(
                f"{self._owner} hands its weights to the {type(self._in_module[0]).__name__} in"
                f" {type(self._trainer.lightning_module).__name__}, but the training step returns one loss per example:"
                " let it return self.weighted_mean(losses), or the mean that SampleEasinessLoss or SampleWeightedLoss"
                " gives."
            )
        if losses.shape != (self._size,):
            raise ValueError(
                f"The training step of {type(self._trainer.lightning_module).__name__} must return one loss for the"
                f" batch or one per example, {self._size}; got shape {tuple(losses.shape)}: take the mean over all but"
                " the first dimension."
            )
        return self._returned.weighted_mean(losses)

    def _check_used(self) -> None:
        """Raise an error in the first step, before its gradients, or in one with weights, where nothing used them."""
        expected, self._must_be_used = self._must_be_used, False
        if not expected or any(one.sample_weight_used for one in self._in_module or [self._returned]):
            return
        if not self._in_module:
            raise TypeError(
                f"{self._owner} gives weights to the examples, but the training step of"
                f" {type(self._trainer.lightning_module).__name__} returns one loss for all of them: {_RETURN}, or"
                f" {_COMPUTE}."
            )
        raise RuntimeError(
            f"{self._owner} gives weights to the examples, but the training step did not use them: let its loss be"
            " self.weighted_mean(losses), with one loss per example, or SampleEasinessLoss."
        )


def check_takes_weights(owner: str, module: LightningModule) -> None:
    """Raise a TypeError before training where a module that optimizes by hand has nothing that takes weights."""
    if not module.automatic_optimization and not consumers(module):
        raise TypeError(
            f"{owner} gives weights to the examples, but {type(module).__name__} optimizes by hand, and nothing in it"
            f" takes them: {_COMPUTE}."
        )


def consumers(module: Any) -> list[WeighsExamples]:
    """Return what takes weights in a LightningModule: itself or parts of it."""
    return [part for part in module.modules() if isinstance(part, WeighsExamples)] if module is not None else []


def losses_of(output: Any, size: int | None = None) -> Tensor | None:
    """Return the losses per example that a training step returned, of a batch of this size; None for a single loss."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, Tensor) or loss.ndim == 0 or (loss.numel() == 1 and size != 1):
        return None
    return loss


def with_loss(output: Any, loss: Tensor) -> Any:
    """Return what a training step returned, with another loss."""
    return {**output, "loss": loss} if isinstance(output, Mapping) else loss


def mean_of_losses(trainer: Any) -> StrategyHook:
    """Let a training step return one loss per example, of which the mean is taken, until the hook's `remove`."""

    def reduced(output: Any) -> Any:
        losses = losses_of(output) if trainer.lightning_module.automatic_optimization else None
        return output if losses is None or losses.ndim != 1 else with_loss(output, torch.mean(losses))

    return StrategyHook(trainer, "training_step", after=reduced)
