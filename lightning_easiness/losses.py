"""The SEL loss, and losses that use a selection's weights of examples."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_easiness._utils.renamed import refuse_renamed
from lightning_easiness.functional import _checks as check
from lightning_easiness.functional import sample_easiness_loss
from lightning_easiness.functional.sample_easiness import DEFAULT_SIGMA2
from lightning_easiness.functional.sample_easiness_loss import DEFAULT_FLOOR, check_reduction, check_settings


class WeighsExamples:
    """Mixin for a loss or a module that reduces a loss per example to one number, with the weights of a selection.

    A selection that drops examples can give more weight to some of the others, so that the expected gradient of an
    epoch is that of all examples. Before each training batch, `EasinessDataModule` sets `sample_weight` of every
    `WeighsExamples` in the LightningModule (the module itself or a submodule). Where there is none, it reduces the
    losses per example that the training step returns in the same way. The weights are used only in training;
    in `eval()` mode all examples have equal weight.

    Attributes:
        sample_weight: One weight per example of the current batch, shape (B,), or None for equal weights.
        batch_share: What means are multiplied by. In batches that a selection narrows it is the fraction that it kept,
            so that means are those over the whole batch. In the epochs of a selection it makes up for their number of
            batches, so that the sum of the means over an epoch is, on average, that of an epoch on everything.
        sample_weight_used: Whether the weights were used in training; reset by the code that sets `sample_weight`.

    Example:
        >>> loss = WeighsExamples()
        >>> loss.sample_weight = torch.tensor([1.0, 4.0])
        >>> loss.weighted_mean(torch.tensor([0.5, 1.0]))
        tensor(2.2500)
    """

    sample_weight: Tensor | None = None
    sample_weight_used: bool = False
    batch_share: float = 1.0

    def weighted(self, losses: Tensor) -> Tensor:
        """Multiply the losses of the current batch, floating point, shape (B,), by the weights of their examples.

        Raises:
            ValueError: If the shape of `losses` is not (B,), or not that of the weights.
        """
        if losses.ndim != 1:
            must, way = "have shape (B,), one loss per example", 'compute the loss with reduction="none"'
            check.refuse(type(self).__name__, "losses", must, f"shape {tuple(losses.shape)}", way)
        self._mark_used()
        return self._weighted(losses)

    def weighted_mean(self, losses: Tensor) -> Tensor:
        """Return the sum of weight times loss divided by B, shape (), dtype of `losses`; for `losses` as in `weighted`.

        It is not divided by the sum of the weights, but multiplied by `batch_share`: with the weights of a selection,
        the sum of an epoch's gradients is, on average over its draws and orders, that of an epoch on all examples.
        """
        return self.weighted(losses).mean() * self._share_of_batch

    @property
    def _share_of_batch(self) -> float:
        return self.batch_share if getattr(self, "training", True) else 1.0

    def _mark_used(self) -> None:
        """Record that the main loss, not an additional term, uses the weights."""
        if getattr(self, "training", True):
            self.sample_weight_used = True

    def _weighted(self, losses: Tensor) -> Tensor:
        weight = self._weight_of(len(losses))
        return losses if weight is None else losses * weight.to(losses)

    def _weight_of(self, num_examples: int) -> Tensor | None:
        """Return the weights of the current batch, None outside training."""
        weight = self.sample_weight if getattr(self, "training", True) else None
        if weight is not None and weight.shape != (num_examples,):
            must = f"have shape ({num_examples},), one weight per example of the losses"
            way = "give the losses of the whole batch, in its order"
            check.refuse(type(self).__name__, "sample_weight", must, f"shape {tuple(weight.shape)}", way)
        return weight


class SampleWeightedLoss(WeighsExamples, nn.Module):
    """The mean of a loss per example, with the weights of a selection: `WeighsExamples.weighted_mean`.

    In place of a loss with reduction="mean", in the `__init__` of a LightningModule. Without a selection that gives
    weights, and in `eval()` mode, it is the mean over the batch. It has no parameters of its own.

    With class weights or an `ignore_index` torch's mean is divided by the summed class weights of the batch; this one
    is divided by its number of examples.

    Args:
        loss: Returns one loss per example, floating point, shape (B,): a loss of torch with reduction="none", or a
            function.

    Raises:
        ValueError: If `loss` has another reduction, or what it returns another shape.
        TypeError: If `loss` cannot be called, or is a class.

    Example:
        >>> criterion = SampleWeightedLoss(nn.CrossEntropyLoss(reduction="none"))
        >>> logits, target = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0])
        >>> criterion(logits, target)
        tensor(0.3709)
        >>> criterion.sample_weight = torch.tensor([1.0, 4.0])  # as a selection does
        >>> criterion(logits, target)
        tensor(1.4106)
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        owner, way = type(self).__name__, 'write SampleWeightedLoss(torch.nn.CrossEntropyLoss(reduction="none"))'
        if isinstance(loss, type) or not callable(loss):
            check.refuse(owner, "loss", "be a loss, as an object or a function", repr(loss), way, error=TypeError)
        reduction = getattr(loss, "reduction", "none")
        if reduction != "none":
            check.refuse(owner, "loss", 'have reduction="none", for one loss per example', repr(reduction), way)
        self.loss = loss

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the weighted mean, shape (), of the losses of what is given to the loss, usually logits and target."""
        return self.weighted_mean(self.loss(*args, **kwargs))


class SampleEasinessLoss(WeighsExamples, nn.Module):
    """Cross-entropy + sel_weight * SEL, in place of `torch.nn.CrossEntropyLoss`.

    SEL is the sample easiness-based loss of "Medium Samples Are All You Need: Sample Easiness-Aware Learning for Neural
    Networks", equation 2, and the sum is its equation 3: see `functional.sample_easiness_loss`. Class weights and
    `ignore_index` apply to both terms, label smoothing only to the cross-entropy. With a `sel_weight` of 0 values and
    gradients are those of `torch.nn.CrossEntropyLoss`. It has no parameters.

    Weights of a selection (`WeighsExamples`) multiply the loss of each example, with every reduction; the mean is not
    divided by their sum. Class weights divide it by the summed class weights of the examples in the batch. If easiness
    levels and classes are correlated, the gradients of an epoch then no longer add up to those of all examples.

    Args:
        sel_weight: Weight of SEL, at least 0; lambda in the paper, which uses 0.1.
        sigma2: Variance of the noise on each probability, above 0.
        floor: Lower bound of log P in SEL, below 0; None for no floor.
        weight: Weight of each class, finite numbers, shape (K,), as in `torch.nn.CrossEntropyLoss`. None for equal
            weights.
        ignore_index: Target to ignore.
        label_smoothing: As in `torch.nn.CrossEntropyLoss`, in [0, 1].
        reduction: "mean" (divided by the summed class weights of the targets not ignored), "sum" or "none".

    Example:
        >>> loss = SampleEasinessLoss(sel_weight=0.1)
        >>> logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 0.0, -9.0]])
        >>> loss(logits, torch.tensor([0, 0]))
        tensor(0.3993)
    """

    weight: Tensor | None

    @refuse_renamed("SampleEasinessLoss", class_weight="give `weight`, as to torch.nn.CrossEntropyLoss")
    def __init__(
        self,
        sel_weight: float = 0.1,
        sigma2: float = DEFAULT_SIGMA2,
        floor: float | None = DEFAULT_FLOOR,
        *,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if isinstance(sel_weight, Tensor):
            got, way = f"a tensor of shape {tuple(sel_weight.shape)}", "give class weights as `weight`"
            check.refuse(owner, "sel_weight", "be a number, the weight of SEL", got, way, error=TypeError)
        check_weight(owner, "sel_weight", sel_weight)
        check_settings(owner, sigma2, floor)
        check_reduction(owner, reduction)
        if not (check.is_number(label_smoothing) and 0 <= label_smoothing <= 1):
            check.refuse(owner, "label_smoothing", "be in [0, 1]", label_smoothing)
        self.sel_weight = sel_weight
        self.sigma2 = sigma2
        self.floor = floor
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.reduction = reduction
        self.register_buffer("weight", _class_weight(owner, weight))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: Floating point, shape (N, K), (K,) or (N, K, d1, ...), K >= 2.
            target: Class indices in [0, K) or `ignore_index`, integers, shape (N,), () or (N, d1, ...).

        Returns:
            Shape (), or that of `target` for "none"; dtype of the cross-entropy. The mean is NaN if all targets are
            ignored.
        """
        target = self._checked(logits, target)
        self._mark_used()
        weight = self._weight_of(len(logits) if logits.ndim > 1 else 1)
        if weight is None:
            return self._loss(logits, target, self.reduction)
        # One weight per example, broadcast over its positions.
        losses = self._loss(logits, target, "none")
        losses = losses * weight.to(losses).reshape(target.shape[:1] + (1,) * (target.ndim - 1))
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        return losses.sum() * self._share_of_batch / self._counted(target, losses.dtype).sum()

    def extra_repr(self) -> str:
        """Return the settings for the module's repr."""
        return f"sel_weight={self.sel_weight}, sigma2={self.sigma2}, floor={self.floor}, reduction={self.reduction!r}"

    def _checked(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the target as int64; raise if logits, target and class weights do not match."""
        owner = type(self).__name__
        if not check.is_integer(target):
            way = (
                "sample easiness needs one true class, so for soft targets add functional.sample_easiness_loss() of "
                "their .argmax(1) to the cross-entropy, and convert anything else with .long()"
            )
            check.refuse(owner, "target", "hold integer class indices", target.dtype, way, error=TypeError)
        if not logits.ndim or target.shape != logits.shape[:1] * (logits.ndim > 1) + logits.shape[2:]:
            must = "have the shape of `logits` without its classes, (N,) for (N, K), (N, d1, ...) for (N, K, d1, ...)"
            got = f"{tuple(target.shape)} for {tuple(logits.shape)}"
            check.refuse(owner, "target", must, got, "turn one-hot labels into indices with .argmax(1)")
        num_classes = logits.shape[min(logits.ndim - 1, 1)]
        if self.weight is not None and len(self.weight) != num_classes:
            must = f"have shape (K,) = ({num_classes},), K the number of classes in `logits`"
            check.refuse(owner, "weight", must, len(self.weight), "give one weight per class")
        return target.long()

    def _loss(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor:
        loss = self._cross_entropy(logits, target, reduction)
        if self.sel_weight == 0:
            return loss
        return loss + (self.sel_weight * self._sample_easiness_loss(logits, target, reduction)).to(loss.dtype)

    def _cross_entropy(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor:
        options = {"ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing, "reduction": reduction}
        try:
            return cross_entropy(logits, target, self.weight, **options)  # type: ignore[arg-type]
        except (IndexError, RuntimeError):
            check.target_range(type(self).__name__, _rows(logits), target[target != self.ignore_index])
            raise

    def _sample_easiness_loss(self, logits: Tensor, target: Tensor, reduction: str) -> Tensor:
        # Ignored targets are replaced by class 0 and masked out again.
        classes = torch.where(target == self.ignore_index, 0, target).flatten()
        losses = sample_easiness_loss(_rows(logits), classes, self.sigma2, self.floor, "none").view(target.shape)
        counted = self._counted(target, losses.dtype)
        # Not only by multiplication: ignored losses may be NaN.
        losses = torch.where(counted == 0, 0, losses) * counted
        if reduction == "none":
            return losses
        return losses.sum() if reduction == "sum" else losses.sum() / counted.sum()

    def _counted(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the class weight of each target, 0 where it is ignored."""
        kept = target != self.ignore_index
        if self.weight is None:
            return kept.to(dtype)
        classes = torch.where(kept, target, 0)
        # index_select, since indexing with a 0-dimensional tensor would read it on the host
        return self.weight.to(dtype).index_select(0, classes.flatten()).view(classes.shape) * kept


def _rows(logits: Tensor) -> Tensor:
    """Return logits of shape (N, K), (K,) or (N, K, d1, ...) as rows of classes."""
    return logits.movedim(1, -1).flatten(0, -2) if logits.ndim > 1 else logits.unsqueeze(0)


def check_weight(owner: str, name: str, value: float) -> None:
    """Raise ValueError unless the weight of SEL is finite and at least 0."""
    if not (check.is_number(value) and 0 <= value < torch.inf):
        check.refuse(owner, name, "be a finite number of at least 0", value, "use for example 0.1")


def _class_weight(owner: str, weight: object) -> Tensor | None:
    """Return the class weights as a tensor; raise if they are invalid."""
    if isinstance(weight, int | float):
        must = "be the weights of the classes, as in torch.nn.CrossEntropyLoss"
        check.refuse(owner, "weight", must, weight, "give the weight of SEL as `sel_weight`", error=TypeError)
    if weight is None:
        return None
    weights = weight if isinstance(weight, Tensor) else torch.tensor(weight, dtype=torch.get_default_dtype())
    if weights.ndim != 1 or not weights.is_floating_point():
        must, got = "be a floating point tensor of shape (K,)", f"{weights.dtype} of shape {tuple(weights.shape)}"
        check.refuse(owner, "weight", must, got, "convert it with .float()")
    return weights
