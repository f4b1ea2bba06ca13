"""Checks at the public edge: each error is one sentence with the argument, the value got and the way out."""

import math

import torch
from torch import Tensor

_COMPUTED_AS_THEY_ARE = (torch.float32, torch.float64)


def widen(tensor: Tensor) -> Tensor:
    """Return float32 and float64 as they are, everything else (half types, integers, bool) as float32."""
    return tensor if tensor.dtype in _COMPUTED_AS_THEY_ARE else tensor.float()


def exact_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype for long sums: float64, or float32 on Apple's devices, which have no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def is_integer(tensor: Tensor) -> bool:
    """Return whether the tensor holds integers; bool is not one of them."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def check_tensor(owner: str, name: str, value: object) -> None:
    """Raise TypeError for anything but a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"The `{name}` of {owner} must be a tensor; got {type(value).__name__}: convert it with torch.as_tensor()."
        )


def check_floating(owner: str, name: str, tensor: Tensor) -> Tensor:
    """Return the tensor in the dtype it is computed in; raise TypeError unless it is a floating point tensor."""
    check_tensor(owner, name, tensor)
    if not tensor.is_floating_point():
        raise TypeError(
            f"The `{name}` of {owner} must be a floating point tensor; got {tensor.dtype}: convert it with .float()."
        )
    return widen(tensor)


def check_real(owner: str, name: str, tensor: Tensor) -> None:
    """Raise TypeError for anything but a tensor of real numbers."""
    check_tensor(owner, name, tensor)
    if tensor.is_complex():
        raise TypeError(
            f"The `{name}` of {owner} must hold real numbers; got {tensor.dtype}: take its .abs() or .real."
        )


def check_per_example(owner: str, name: str, tensor: Tensor) -> None:
    """Raise ValueError unless the shape is (N,)."""
    if tensor.ndim != 1:
        raise ValueError(
            f"The `{name}` of {owner} must have shape (N,), one number an example; got shape {tuple(tensor.shape)}."
        )


def check_rows(owner: str, name: str, tensor: Tensor, row: str) -> None:
    """Raise ValueError unless the shape is (rows, N) with at least one row; `row` says what a row is."""
    if tensor.ndim != 2 or tensor.shape[0] == 0:
        raise ValueError(
            f"The `{name}` of {owner} must have shape ({row}s, N) with at least one {row}; "
            f"got shape {tuple(tensor.shape)}: one {row} alone is `{name}[None]`."
        )


def check_same_length(owner: str, name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ValueError unless both tensors have the same shape."""
    if tensor.shape != other.shape:
        raise ValueError(
            f"The `{name}` of {owner} must have the shape of `{other_name}`, {tuple(other.shape)}; "
            f"got {tuple(tensor.shape)}: give both for the same examples."
        )


def check_correct(owner: str, tensor: Tensor) -> Tensor:
    """Return `correct` as bool; raise unless it is bool, or integers that are 0 and 1 alone."""
    check_tensor(owner, "correct", tensor)
    if tensor.dtype == torch.bool:
        return tensor
    if not is_integer(tensor):
        raise TypeError(
            f"The `correct` of {owner} must be a bool or integer tensor; got {tensor.dtype}: "
            "compare predictions with targets, as in `prediction == target`."
        )
    strange = tensor[(tensor != 0) & (tensor != 1)]
    if strange.numel():
        raise ValueError(
            f"The `correct` of {owner} must hold 0 and 1 alone; got {int(strange[0])}: "
            "compare predictions with targets, as in `prediction == target`."
        )
    return tensor.bool()


def check_logits(owner: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in the dtype they are computed in and target as int64; raise for a wrong shape or dtype.

    Values are not looked at: this runs in a training step, where reading one would wait for the device.
    """
    check_tensor(owner, "logits", logits)
    check_tensor(owner, "target", target)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"The `logits` of {owner} must have shape (N, K) with K >= 2 classes; got shape {tuple(logits.shape)}: "
            "move the classes last and flatten the rest, and give a single logit x as the two logits (0, x)."
        )
    if target.shape != logits.shape[:1]:
        raise ValueError(
            f"The `target` of {owner} must have shape (N,) = ({logits.shape[0]},), one class index a row of `logits`; "
            f"got shape {tuple(target.shape)}: turn one-hot or soft labels into indices with .argmax(1)."
        )
    if target.dtype != torch.int64:
        target = _as_indices(owner, target)
    return check_floating(owner, "logits", logits), target


def _as_indices(owner: str, target: Tensor) -> Tensor:
    if not is_integer(target):
        raise TypeError(
            f"The `target` of {owner} must hold integer class indices; got {target.dtype}: convert it with .long()."
        )
    return target.long()


def improbable_rows(values: Tensor, least: float) -> Tensor:
    """Return the indices of the rows (N, K) with a value below `least` or a sum that is not 1; NaN rows pass.

    A sum may be off by as much as a mean of half-precision softmax outputs needs.
    """
    sums = values.sum(1)
    return ((values < least).any(1) | ((sums - 1).abs() > 1e-2)).nonzero()[:, 0]


def check_outputs_are_probabilities(owner: str, logits: Tensor) -> None:
    """Raise ValueError where probabilities=True was said of rows that are none, if they are on the CPU."""
    if logits.device.type != "cpu":
        return
    wrong = improbable_rows(logits.detach(), least=0)
    if len(wrong):
        first = int(wrong[0])
        raise ValueError(
            f"The `logits` of {owner} must hold probabilities that add up to 1 in each row; got a sum of"
            f" {float(logits[first].detach().sum()):g} in row {first}: leave out probabilities=True for logits."
        )


def check_target_range(owner: str, logits: Tensor, target: Tensor) -> None:
    """Raise ValueError for a target outside [0, K), if it is on the CPU.

    Called only after torch has refused the indices, so that what goes well pays nothing, and another device, which
    refuses them later and elsewhere, is not waited for.
    """
    if target.device.type != "cpu":
        return
    classes = logits.shape[1]
    outside = target[(target < 0) | (target >= classes)]
    if outside.numel():
        raise ValueError(
            f"The `target` of {owner} must be in [0, {classes}), the classes of `logits`; got {int(outside[0])}: "
            "leave out examples without a label, and check the number of outputs of the model."
        )


def check_fraction(owner: str, fraction: float) -> None:
    """Raise ValueError unless the fraction is in (0, 1]."""
    if not 0 < fraction <= 1:
        raise ValueError(f"The `fraction` of {owner} must be in (0, 1]; got {fraction}: a tenth is 0.1.")


def check_tol(owner: str, tol: float) -> None:
    """Raise ValueError unless the tolerance is in [0, 0.5)."""
    if not 0 <= tol < 0.5:
        raise ValueError(f"The `tol` of {owner} must be in [0, 0.5), where hard and easy do not meet; got {tol}.")


def check_positive(owner: str, name: str, value: float) -> None:
    """Raise ValueError unless the number is finite and above 0."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"The `{name}` of {owner} must be a finite number above 0; got {value}.")


def check_at_least(owner: str, name: str, value: int, least: int) -> None:
    """Raise ValueError unless the number is at least `least`."""
    if not value >= least:
        raise ValueError(f"The `{name}` of {owner} must be at least {least}; got {value}.")


def check_images(owner: str, images: Tensor, channels: str = "C") -> None:
    """Raise unless the images have shape (N, C, H, W)."""
    check_tensor(owner, "images", images)
    if images.ndim != 4 or (channels != "C" and images.shape[1] != int(channels)):
        raise ValueError(
            f"The `images` of {owner} must have shape (N, {channels}, H, W); got shape {tuple(images.shape)}: "
            "a single image is `image[None]`, and channels come before height and width."
        )
