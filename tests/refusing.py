"""Fits and calls that end with an error, for the tests of errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import Callback
from torch import Tensor

from lightning_easiness import EasinessCallback
from tests.small import Net, loader, trainer


class Counts(Net):
    """Counts its training steps; `losses` holds one an ended step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += 1
        return super().training_step(batch, batch_idx)


def refused(
    error: type[Exception],
    callback: EasinessCallback | list[Callback],
    data: Any = None,
    val: Any = None,
    module: Any = None,
    steps: int = 0,
    **options: Any,
) -> str:
    """The message of the error that a fit ends with, after `steps` training steps; nothing outlives the fit."""
    module = module or Counts()
    callbacks = callback if isinstance(callback, list) else [callback]
    fit = trainer(callbacks=callbacks, **options)
    with pytest.raises(error) as caught:
        fit.fit(module, data if data is not None else loader(), val)
    assert module.steps == steps
    assert not any(part._forward_hooks for part in module.modules())
    assert "process_dataloader" not in vars(fit.strategy)
    return str(caught.value)


def refused_call(error: type[Exception], call: Callable[[], Any], name: str) -> str:
    """The message of the error that a call ends with: one sentence about the argument, with what was given."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.fullmatch(rf"The `{name}` of \w+ [^\n]*; got [^\n]*\.", message), message
    return message
