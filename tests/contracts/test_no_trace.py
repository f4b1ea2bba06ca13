"""Contract 7: no hook, patch or mode outlives a fit, also after an exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.contracts.cases import CALLBACKS, SELECTIONS, Case
from tests.resuming import Plain, Resumable
from tests.small import trainer

STRATEGY_METHODS = ("process_dataloader", "batch_to_device", "training_step", "teardown")


def traces(module: Plain, fit: Any) -> list[Any]:
    hooks = [part for part in module.modules() if part._forward_hooks or part._forward_pre_hooks]
    patched = [name for name in vars(fit.strategy) if name in STRATEGY_METHODS]
    weighted = [type(part) for part in module.modules() if {"sample_weight", "batch_share"} & set(vars(part))]
    listened = [one for one in fit.callbacks if isinstance(one, EasinessCallback) and one._listeners]
    return hooks + patched + weighted + listened


class Fails(Plain):
    """Raises an error in its second epoch, which selections have chosen for."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if (self.current_epoch, batch_idx) == (1, 1):
            raise ArithmeticError("on purpose")
        return super().training_step(batch, batch_idx)


ENDS = pytest.mark.parametrize("make", [Plain, Fails], ids=["a fit that ends", "a fit that fails"])


def fit(made: Trainer, module: Plain, *args: Any, **data: Any) -> None:
    if isinstance(module, Fails):
        with pytest.raises(ArithmeticError, match="on purpose"):
            made.fit(module, *args, **data)
    else:
        made.fit(module, *args, **data)
    assert traces(module, made) == []


@ENDS
@pytest.mark.parametrize("case", [*CALLBACKS, *SELECTIONS])
def test_nothing_outlives_the_fit(case: str, make: Callable[[], Plain], tmp_path: Path) -> None:
    tried: Case = {**CALLBACKS, **SELECTIONS}[case]
    module, base = make(), Resumable()
    made = trainer(callbacks=tried.callbacks(tmp_path), max_epochs=4)
    attributes = dict(vars(base))
    fit(made, module, **tried.data(base))
    assert make is Fails or all(part.training for part in module.modules())
    assert (type(base), vars(base)) == (Resumable, attributes)
    assert made.reload_dataloaders_every_n_epochs == 0


@ENDS
@pytest.mark.parametrize("count", [2, 3])
def test_several_callbacks_leave_no_trace_and_keep_what_they_observed(
    count: int, make: Callable[[], Plain], tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(count)]
    fit(trainer(callbacks=[EasinessCallback(folder, at_steps=[1]) for folder in folders]), make(), Resumable())
    steps = [1] if make is Fails else [1, 14]
    assert [EasinessRecord.load(folder, "train-probe").steps.tolist() for folder in folders] == [steps] * count


def test_modes_after_an_evaluation_pass_that_fails(tmp_path: Path) -> None:
    class FailsInEval(Fails):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                raise ArithmeticError("on purpose")
            return super().forward(x)

    module = FailsInEval()
    fit(trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=0, at_steps=[3])]), module, Resumable())
    assert all(part.training for part in module.modules())
