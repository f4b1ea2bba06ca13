"""A LightningModule with the sample easiness-based loss beside its own, and what it does to the easiness."""

import weakref
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_easiness._utils.lightning import log_loader_index
from lightning_easiness.functional._checks import check_at_least, check_logits, check_target_range
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2, log_sample_easiness_vector
from lightning_easiness.functional.sample_easiness_loss import DEFAULT_FLOOR, check_settings, loss_of_log_wins
from lightning_easiness.losses import WeighsExamples, check_weight
from lightning_easiness.metrics import ErrorOfEasiness, Mean, RateOfEasiness

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _uncompiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Leave a function out of torch.compile: it reads the Trainer, which changes from step to step."""
    left_out: Callable[_Arguments, _Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return left_out


class SELModule(WeighsExamples):
    """Mixin that gives a LightningModule the sample easiness-based loss (SEL), to be added to its own loss.

    From "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural Networks", equations 2 and 3.
    Settings are class attributes: override them, or set them in `__init__`. Nothing is added to the parameters, the
    submodules or the `state_dict`.

    In the training, validation and test steps of a Trainer `sel` logs, once an epoch and over all processes,
    "easiness/sel" (mean SEL, of unit weight), "easiness/sel_weight", "easiness/medium_sample_rate" and
    "easiness/sample_easiness_error" (see `metrics`), with "val_" or "test_" behind the slash outside training. They are
    logged at a weight of 0 too, so that a run without SEL can be compared. Only the module that the Trainer runs logs.

    Attributes:
        sel_weight: Weight of SEL once it is warm, at least 0; lambda in the paper, which uses 0.1.
        sel_sigma2: Variance of the noise on each probability, above 0.
        sel_floor: Least log P that counts, below 0; None for no floor.
        sel_start_epoch: First epoch with SEL.
        sel_warmup_epochs: Number n of epochs over which the weight rises: 1/(n + 1) of it in the first, 2/(n + 1) in
            the second, all of it after n.
        sel_ignore_index: Target that counts for nothing.

    Example:
        >>> import torch
        >>> from lightning.pytorch import LightningModule
        >>> class Net(SELModule, LightningModule):
        ...     sel_weight = 0.2
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(4, 3)
        ...
        ...     def training_step(self, batch):
        ...         x, y = batch
        ...         logits = self.layer(x)
        ...         return torch.nn.functional.cross_entropy(logits, y) + self.sel(logits, y)
        >>> net = Net()
        >>> float(net.sel(torch.tensor([[0.0, 0.0, -9.0]]), torch.tensor([0]))) / 0.2
        0.6931...
    """

    sel_weight: float = 0.1
    sel_sigma2: float = DEFAULT_SIGMA2
    sel_floor: float | None = DEFAULT_FLOOR
    sel_start_epoch: int = 0
    sel_warmup_epochs: int = 0
    sel_ignore_index: int = -100

    def sel(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weight of the epoch times mean SEL, to be added to the loss.

        The mean is over what is not ignored. While training, weights of a selection (`WeighsExamples`) multiply the
        loss of each example; the mean is not divided by their sum. At a weight of 0 the result is 0 and has no graph.

        Args:
            logits: Floating point, shape (B, K), K >= 2.
            target: Class indices in [0, K) or `sel_ignore_index`, integers, shape (B,).

        Returns:
            Shape (), float32 (float64 for float64 `logits`), differentiable.

        Raises:
            TypeError: If `logits` is not floating point or `target` not integer.
            ValueError: If a shape is wrong, a target on the CPU is outside [0, K), a setting is out of range, or there
                is another number of weights than examples.
        """
        logits, target = check_logits("SELModule.sel", logits, target)
        weight, stage = self._sel_weight_now(), _stage(self)
        if weight == 0 and stage is None:
            return logits.new_zeros(())
        with torch.set_grad_enabled(weight != 0 and torch.is_grad_enabled()):
            kept = target != self.sel_ignore_index
            log_wins = _log_wins(logits, target.where(kept, 0), self.sel_sigma2)
            losses = loss_of_log_wins(log_wins, self.sel_floor).where(kept, 0)
        if stage is not None:
            easiness = log_wins.detach().sum(1).exp().where(kept, torch.nan)
            _log(self, stage, weight, losses.detach(), easiness, logits.argmax(1) == target, kept.sum())
        if weight == 0:
            return logits.new_zeros(())
        mean: Tensor = self._weighted(losses).sum() * self._share_of_batch / kept.sum()
        return weight * mean

    @_uncompiled
    def _sel_weight_now(self) -> float:
        owner = type(self).__name__
        check_weight(owner, "sel_weight", self.sel_weight)
        check_settings(owner, self.sel_sigma2, self.sel_floor)
        check_at_least(owner, "sel_start_epoch", self.sel_start_epoch, least=0)
        check_at_least(owner, "sel_warmup_epochs", self.sel_warmup_epochs, least=0)
        # A LightningModule without a Trainer is in epoch 0; what is no LightningModule may count its epochs so.
        num_epochs = getattr(self, "current_epoch", 0) - self.sel_start_epoch + 1
        return self.sel_weight * min(max(num_epochs / (self.sel_warmup_epochs + 1), 0.0), 1.0)


def _log_wins(logits: Tensor, target: Tensor, sigma2: float) -> Tensor:
    try:
        return log_sample_easiness_vector(logits, target, sigma2)
    except RuntimeError:
        check_target_range("SELModule.sel", logits, target)
        raise


@_uncompiled
def _stage(module: object) -> str | None:
    """Return the prefix of names in a log, None where there is nothing to log to."""
    if not isinstance(module, LightningModule):
        return None
    try:
        trainer = module.trainer
    except RuntimeError:  # attached to no Trainer
        return None
    # Fabric has no epochs to log at the end of. A module within a module has no step of its own.
    if not isinstance(trainer, Trainer) or trainer.barebones or trainer.lightning_module is not module:
        return None
    if trainer.training:
        return ""
    if trainer.validating or trainer.sanity_checking:
        return "val_"
    return "test_" if trainer.testing else None


class _EpochMetrics:
    """What is logged in an epoch of a stage: states on the device, added to in each step and logged in the first.

    Logging a metric tells the Trainer to compute and reset it at the end of the epoch, whoever adds to it meanwhile:
    once is enough, and a call costs more than adding.
    """

    def __init__(self, device: torch.device) -> None:
        self.sel = Mean().to(device)
        self.weight = Mean().to(device)
        self.rate = RateOfEasiness().to(device)
        self.error = ErrorOfEasiness().to(device)
        self.epoch = -1

    def begin(self, module: LightningModule, stage: str) -> None:
        """Log, if this is the first step since the Trainer has reset the metrics."""
        if self.sel.update_called and self.epoch == module.current_epoch:
            return
        self.epoch = module.current_epoch
        for name, metric in (
            ("sel", self.sel),
            ("sel_weight", self.weight),
            ("medium_sample_rate", self.rate),
            ("sample_easiness_error", self.error),
        ):
            # The attribute is there for a state in checkpoints, which these have not. The batch size weighs tensors.
            module.log(
                f"easiness/{stage}{name}", metric, on_step=False, on_epoch=True, batch_size=1, metric_attribute=name
            )

    def add(self, losses: Tensor, easiness: Tensor, correct: Tensor, count: Tensor, weight: float) -> None:
        """Add a batch."""
        self.sel.update(losses.sum(), count)
        self.weight.update(weight, 1)
        self.rate.update(easiness)
        self.error.update(easiness, correct)


class _MetricsOfFit:
    """Metrics by stage, of one Trainer: no part of the module that copies or files of it would hold."""

    def __init__(self, trainer: Trainer | None = None) -> None:
        self.trainer = None if trainer is None else weakref.ref(trainer)
        self.by_stage: dict[tuple[object, ...], _EpochMetrics] = {}

    def __reduce__(self) -> tuple[type["_MetricsOfFit"], tuple[()]]:
        return _MetricsOfFit, ()

    def belongs_to(self, trainer: Trainer) -> bool:
        return self.trainer is not None and self.trainer() is trainer

    def of(self, *key: object, device: torch.device) -> _EpochMetrics:
        key = (*key, device)
        if key not in self.by_stage:
            self.by_stage[key] = _EpochMetrics(device)
        return self.by_stage[key]


@_uncompiled
def _log(
    module: SELModule,
    stage: str,
    weight: float,
    losses: Tensor,
    easiness: Tensor,
    correct: Tensor,
    count: Tensor,
) -> None:
    assert isinstance(module, LightningModule)  # it has a stage
    kept = module.__dict__.get("_sel_metrics")
    if kept is None or not kept.belongs_to(module.trainer):
        kept = module.__dict__["_sel_metrics"] = _MetricsOfFit(module.trainer)
    # Each of several validation loaders has its own line in the log. The Trainer tells which one it is nowhere else;
    # if it stops telling, they share one.
    loader = log_loader_index(module)
    metrics = kept.of(stage, loader, device=losses.device)
    metrics.begin(module, stage)
    metrics.add(losses, easiness, correct, count, weight)
