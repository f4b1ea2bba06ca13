"""Contract 7: no hook, patch or mode outlives a fit, also after an exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.contracts.cases import CALLBACKS, SELECTIONS, Case
from tests.resuming import Plain, Resumable
from tests.small import Net, loader, trainer

STRATEGY_METHODS = ("process_dataloader", "batch_to_device", "training_step", "teardown")


def traces(module: Net, fit: Any) -> list[Any]:
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


@pytest.mark.parametrize("make", [Plain, Fails], ids=["a fit that ends", "a fit that fails"])
@pytest.mark.parametrize("case", [*CALLBACKS, *SELECTIONS])
def test_nothing_outlives_the_fit(case: str, make: Callable[[], Plain], tmp_path: Path) -> None:
    tried: Case = {**CALLBACKS, **SELECTIONS}[case]
    module, base = make(), Resumable()
    fit = trainer(callbacks=tried.callbacks(tmp_path), max_epochs=3)
    attributes = dict(vars(base))
    if make is Fails:
        with pytest.raises(ArithmeticError, match="on purpose"):
            fit.fit(module, **tried.data(base))
    else:
        fit.fit(module, **tried.data(base))
        assert all(part.training for part in module.modules())
    assert traces(module, fit) == []
    assert (type(base), vars(base)) == (Resumable, attributes)
    assert fit.reload_dataloaders_every_n_epochs == 0


@pytest.mark.parametrize("count", [2, 3])
def test_several_callbacks_on_one_trainer(count: int, tmp_path: Path) -> None:
    module = Net()
    folders = [tmp_path / str(number) for number in range(count)]
    fit = trainer(callbacks=[EasinessCallback(folder) for folder in folders])
    fit.fit(module, loader())
    assert traces(module, fit) == []
    assert [EasinessRecord.load(folder, "train-probe").num_runs for folder in folders] == [1] * count


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_observed_before_an_exception_is_kept(count: int, tmp_path: Path) -> None:
    module = Fails()
    folders = [tmp_path / str(number) for number in range(count)]
    fit = trainer(callbacks=[EasinessCallback(folder, at_steps=[1]) for folder in folders])
    with pytest.raises(ArithmeticError, match="on purpose"):
        fit.fit(module, Resumable())
    assert traces(module, fit) == []
    assert EasinessRecord.load(folders[0], "train-probe").steps.tolist() == [1]


def test_modes_and_stage_after_an_evaluation_pass_that_fails(tmp_path: Path) -> None:
    class FailsInEval(Net):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                raise ArithmeticError("on purpose")
            return super().forward(x)

    module = FailsInEval()
    with pytest.raises(ArithmeticError):
        trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=0, at_steps=[3])]).fit(module, loader())
    assert all(part.training for part in module.modules())
