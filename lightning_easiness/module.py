"""SELModule, a mixin that adds the sample easiness-based loss and its metrics to a LightningModule."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from lightning_easiness._utils.lightning import add_hparams, logged_metric
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional.levels import DEFAULT_TOL
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2, log_sample_easiness_vector
from lightning_easiness.functional.sample_easiness_loss import DEFAULT_FLOOR, check_settings, loss_of_log_wins
from lightning_easiness.losses import WeighsExamples, check_weight
from lightning_easiness.metrics import EasinessError, Mean, count_medium

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_METRICS: dict[str, type[Metric]] = {
    "sel": Mean,
    "sel_weight": Mean,
    "medium_sample_rate": Mean,
    "sample_easiness_error": EasinessError,
}


def _uncompiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Exclude a function from torch.compile, since it reads the Trainer, which changes from step to step."""
    left_out: Callable[_Arguments, _Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return left_out


class SELModule(WeighsExamples):
    """Mixin that gives a LightningModule the sample easiness-based loss (SEL), to be added to its own loss.

    From "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks", equations 2 and 3. Put
    it before LightningModule in the bases and pass keywords on with `super().__init__(**kwargs)`: the settings are then
    arguments of your module, in its `hparams` and on the command line of LightningCLI. Nothing is added to the
    parameters, the submodules or the `state_dict`.

    In the training, validation and test steps of a Trainer `sel` logs, once per epoch and over all processes,
    "easiness/sel" (mean SEL, unweighted), "easiness/sel_weight", "easiness/medium_sample_rate" and
    "easiness/sample_easiness_error" (see `metrics`), with "val_" or "test_" after the slash outside training. They are
    also logged at a weight of 0, so that you can compare a run without SEL. Only the module run by the Trainer logs.
    Loss and logs are by the exact probability, since counts of draws have no gradient; for counts use `metrics`, or the
    EasinessCallback, with `num_draws`.

    Args:
        sel_weight: Weight of SEL after the warm-up, at least 0; lambda in the paper, which uses 0.1.
        sel_sigma2: Variance of the noise on each probability, above 0.
        sel_floor: Lower bound of log P, below 0; None for no floor.
        sel_start_epoch: First epoch with SEL.
        sel_warmup_epochs: Number n of epochs over which the weight increases: 1/(n + 1) of it in the first, 2/(n + 1)
            in the second, and the full weight after n.
        sel_ignore_index: Target to ignore.

    Raises:
        TypeError: If a subclass defines a setting in its class body.

    Example:
        >>> class Net(SELModule, LightningModule):
        ...     def __init__(self, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.layer = torch.nn.Linear(4, 3)
        ...
        ...     def training_step(self, batch):
        ...         x, y = batch
        ...         logits = self.layer(x)
        ...         return torch.nn.functional.cross_entropy(logits, y) + self.sel(logits, y)
        >>> net = Net(sel_weight=0.2)
        >>> float(net.sel(torch.tensor([[0.0, 0.0, -9.0]]), torch.tensor([0]))) / net.hparams.sel_weight
        0.6931...
    """

    # Defaults for a class whose `__init__` does not call the one below, for example with the mixin last in its bases.
    sel_weight: float = 0.1
    sel_sigma2: float = DEFAULT_SIGMA2
    sel_floor: float | None = DEFAULT_FLOOR
    sel_start_epoch: int = 0
    sel_warmup_epochs: int = 0
    sel_ignore_index: int = -100

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in sorted(vars(cls).keys() & _SETTINGS):
            raise TypeError(
                f"The `{name}` of {cls.__name__} must be given to __init__, not in the class body: write "
                f"super().__init__({name}={vars(cls)[name]!r})."
            )

    def __init__(
        self,
        *args: Any,
        sel_weight: float = 0.1,
        sel_sigma2: float = DEFAULT_SIGMA2,
        sel_floor: float | None = DEFAULT_FLOOR,
        sel_start_epoch: int = 0,
        sel_warmup_epochs: int = 0,
        sel_ignore_index: int = -100,
        **kwargs: Any,
    ) -> None:
        # First, so that values set by the next class are not overwritten.
        self.sel_weight, self.sel_sigma2, self.sel_floor = sel_weight, sel_sigma2, sel_floor
        self.sel_start_epoch, self.sel_warmup_epochs = sel_start_epoch, sel_warmup_epochs
        self.sel_ignore_index = sel_ignore_index
        super().__init__(*args, **kwargs)
        _check(self)
        if isinstance(self, LightningModule):
            add_hparams(self, {name: getattr(self, name) for name in _SETTINGS})

    def sel(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the current weight times mean SEL, to be added to the loss.

        The mean is over targets that are not ignored. In training, weights of a selection (`WeighsExamples`) multiply
        the loss of each example; the mean is not divided by their sum. At a weight of 0 the result is 0, without graph.

        Args:
            logits: Floating point, shape (B, K), K >= 2.
            target: Class indices in [0, K) or `sel_ignore_index`, integers, shape (B,).

        Returns:
            Shape (), float32 (float64 for float64 `logits`), differentiable.
        """
        logits, target = check.logits("SELModule.sel", logits, target)
        weight, stage = self._sel_weight_now(), _stage(self)
        if weight == 0 and stage is None:
            return logits.new_zeros(())
        with torch.set_grad_enabled(weight != 0 and torch.is_grad_enabled()):
            kept = target != self.sel_ignore_index
            known = target.where(kept, 0)
            try:
                log_wins = log_sample_easiness_vector(logits, known, self.sel_sigma2)
            except RuntimeError:
                check.target_range("SELModule.sel", logits, known)
                raise
            losses = loss_of_log_wins(log_wins, self.sel_floor).where(kept, 0)
        if stage is not None:
            easiness = log_wins.detach().sum(1).exp().where(kept, torch.nan)
            weakest = log_wins.detach().amin(1).exp()
            _log(
                self,
                stage,
                sel=(losses.detach().sum(), kept.sum()),
                sel_weight=(weight, 1),
                medium_sample_rate=count_medium(easiness, weakest, DEFAULT_TOL),
                sample_easiness_error=(easiness, logits.argmax(1) == target),
            )
        if weight == 0:
            return logits.new_zeros(())
        mean: Tensor = self._weighted(losses).sum() * self._share_of_batch / kept.sum()
        return weight * mean

    @_uncompiled
    def _sel_weight_now(self) -> float:
        """Return the weight in the current epoch; outside a LightningModule, `current_epoch` may be an attribute."""
        _check(self)
        num_epochs = getattr(self, "current_epoch", 0) - self.sel_start_epoch + 1
        return self.sel_weight * min(max(num_epochs / (self.sel_warmup_epochs + 1), 0.0), 1.0)


_SETTINGS = tuple(name for name in vars(SELModule) if name.startswith("sel_"))


def _check(module: SELModule) -> None:
    """Raise ValueError for a setting that is out of range."""
    owner = type(module).__name__
    check_weight(owner, "sel_weight", module.sel_weight)
    check_settings(owner, module.sel_sigma2, module.sel_floor)
    check.at_least(owner, "sel_start_epoch", module.sel_start_epoch, least=0)
    check.at_least(owner, "sel_warmup_epochs", module.sel_warmup_epochs, least=0)


@_uncompiled
def _stage(module: object) -> str | None:
    """Return the prefix of the logged names, or None if there is no Trainer to log to."""
    if not isinstance(module, LightningModule):
        return None
    try:
        trainer = module.trainer
    except RuntimeError:  # attached to no Trainer
        return None
    # Fabric has no epoch ends to log at, and a module within a module has no steps of its own.
    if not isinstance(trainer, Trainer) or trainer.barebones or trainer.lightning_module is not module:
        return None
    if trainer.training:
        return ""
    if trainer.validating or trainer.sanity_checking:
        return "val_"
    return "test_" if trainer.testing else None


@_uncompiled
def _log(module: Any, stage: str, **batch: tuple[Any, ...]) -> None:
    """Add a batch to each metric, and log a metric in its first step of an epoch.

    Logging it once is enough for Lightning to compute and reset it at the epoch's end, and costs more than adding.
    """
    for name, numbers in batch.items():
        logged_name = f"easiness/{stage}{name}"
        metric, is_running = logged_metric(module, logged_name)
        if metric is None:
            metric = _METRICS[name]().to(module.device)
        if not is_running:
            # Lightning uses the attribute to find a state in checkpoints; these metrics have none.
            module.log(logged_name, metric, on_step=False, on_epoch=True, batch_size=1, metric_attribute=logged_name)
        metric.update(*numbers)
