"""Argument checks for all of this package: each error is one sentence with the argument, the value and the way out."""

import math
from typing import NoReturn

import torch
from torch import Tensor


def refuse(
    owner: str, name: str, must: str, got: object, way: str = "", *, error: type[Exception] = ValueError
) -> NoReturn:
    """Raise the error for an invalid argument."""
    raise error(f"The `{name}` of {owner} must {must}; got {got}{': ' if way else ''}{way}.")


def widen(values: Tensor) -> Tensor:
    """Return float32 and float64 unchanged, everything else (half precision, integers, bool) as float32."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def exact_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype for long sums: float64, or float32 on Apple's devices, which have no float64."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def is_integer(values: Tensor) -> bool:
    """Return whether the dtype is an integer type; bool is not."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def tensor(owner: str, name: str, value: object) -> None:
    """Raise TypeError for anything but a tensor."""
    if not isinstance(value, Tensor):
        way = "convert it with torch.as_tensor()"
        refuse(owner, name, "be a tensor", type(value).__name__, way, error=TypeError)


def floating(owner: str, name: str, values: Tensor, shape: str = "") -> Tensor:
    """Return a tensor in the dtype for computation; raise unless it is floating point, of `shape` (see `shaped`)."""
    tensor(owner, name, values)
    if not values.is_floating_point():
        refuse(owner, name, "be a floating point tensor", values.dtype, "convert it with .float()", error=TypeError)
    shaped(owner, name, values, shape)
    return widen(values)


def runs(owner: str, name: str, values: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless this says for each run and example of another tensor whether the run counts, bool (R, N)."""
    mask(owner, name, values, ndim=2, rows="R")
    same_length(owner, name, values, other_name, other)


def real(owner: str, name: str, values: Tensor, shape: str = "") -> None:
    """Raise unless this is a tensor of real numbers, of `shape` (see `shaped`)."""
    tensor(owner, name, values)
    if values.is_complex():
        refuse(owner, name, "hold real numbers", values.dtype, "take its .abs() or .real", error=TypeError)
    shaped(owner, name, values, shape)


def shaped(owner: str, name: str, values: Tensor, shape: str) -> None:
    """Raise ValueError unless the shape is (N,) for "N", or (rows, N) for the name of a row, with at least one row."""
    if shape == "N" and values.ndim != 1:
        refuse(owner, name, "have shape (N,), one number per example", f"shape {tuple(values.shape)}")
    if shape not in ("", "N") and (values.ndim != 2 or values.shape[0] == 0):
        must, way = f"have shape ({shape}s, N) with at least one {shape}", f"one {shape} alone is `{name}[None]`"
        refuse(owner, name, must, f"shape {tuple(values.shape)}", way)


def same_length(owner: str, name: str, values: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless the values are a tensor with the shape of the other."""
    tensor(owner, name, values)
    if values.shape != other.shape:
        must = f"have the shape of `{other_name}`, {tuple(other.shape)}"
        refuse(owner, name, must, tuple(values.shape), "give both for the same examples")


def integers(owner: str, name: str, values: Tensor) -> None:
    """Raise unless this is an integer tensor (N,); an empty list becomes an empty float tensor, which passes."""
    tensor(owner, name, values)
    shaped(owner, name, values, "N")
    if not is_integer(values) and values.numel():
        way = "take the indices of a mask with .nonzero()[:, 0]" if values.dtype == torch.bool else "use .long()"
        refuse(owner, name, "hold integers", values.dtype, way, error=TypeError)


def mask(owner: str, name: str, values: Tensor, ndim: int = 1, rows: str = "C") -> None:
    """Raise unless this is a bool tensor with `ndim` dimensions, the first of two named `rows`."""
    tensor(owner, name, values)
    if values.dtype != torch.bool or values.ndim != ndim:
        got, way = f"{values.dtype} of shape {tuple(values.shape)}", "mark the examples, as in `mask[indices] = True`"
        shape = "(N,)" if ndim == 1 else f"({rows}, N)"
        refuse(owner, name, f"be a bool tensor of shape {shape}", got, way, error=TypeError)


def correct(owner: str, values: Tensor, shape: str = "") -> Tensor:
    """Return `correct`, bool or integers 0 and 1, as bool; raise unless it is that, of `shape` (see `shaped`)."""
    tensor(owner, "correct", values)
    if values.dtype != torch.bool:
        way = "compare predictions with targets, as in `prediction == target`"
        if not is_integer(values):
            refuse(owner, "correct", "be a bool or integer tensor", values.dtype, way, error=TypeError)
        strange = values[(values != 0) & (values != 1)]
        if strange.numel():
            refuse(owner, "correct", "contain only 0 and 1", int(strange[0]), way)
    shaped(owner, "correct", values, shape)
    return values.bool()


def images(owner: str, values: Tensor, channels: str = "C") -> None:
    """Raise unless the images have shape (N, C, H, W)."""
    tensor(owner, "images", values)
    if values.ndim != 4 or (channels != "C" and values.shape[1] != int(channels)):
        way = "a single image is `image[None]`, and channels come before height and width"
        refuse(owner, "images", f"have shape (N, {channels}, H, W)", f"shape {tuple(values.shape)}", way)


def logits(owner: str, rows: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in the dtype for computation and target as int64; raise for a wrong shape or dtype.

    Values are not checked: this runs in a training step, where reading one would wait for the device.
    """
    tensor(owner, "logits", rows)
    tensor(owner, "target", target)
    if rows.ndim != 2 or rows.shape[1] < 2:
        way = "move the classes last and flatten the rest, and give a single logit x as the two logits (0, x)"
        refuse(owner, "logits", "have shape (N, K) with K >= 2 classes", f"shape {tuple(rows.shape)}", way)
    if target.shape != rows.shape[:1]:
        must = f"have shape (N,) = ({rows.shape[0]},), one class index per row of `logits`"
        way = "turn one-hot or soft labels into indices with .argmax(1)"
        refuse(owner, "target", must, f"shape {tuple(target.shape)}", way)
    if not is_integer(target):
        refuse(owner, "target", "hold integer class indices", target.dtype, "convert it with .long()", error=TypeError)
    return floating(owner, "logits", rows), target.long()


def target_range(owner: str, rows: Tensor, target: Tensor) -> None:
    """Raise ValueError for a target outside [0, K), if it is on the CPU.

    Called only after torch has raised an error for the indices, so that valid input costs nothing. Other devices, which
    raise later and elsewhere, are not waited for.
    """
    if target.device.type != "cpu":
        return
    outside = target[(target < 0) | (target >= rows.shape[1])]
    if outside.numel():
        way = "leave out examples without a label, and check the number of outputs of the model"
        refuse(owner, "target", f"be in [0, {rows.shape[1]}), the classes of `logits`", int(outside[0]), way)


def labels(owner: str, name: str, values: Tensor, num_classes: int, *, unknown_too: bool = False) -> Tensor:
    """Return labels as int64; raise unless they are integers (N,) in [0, K), or negative if `unknown_too`."""
    integers(owner, name, values)
    outside = values >= num_classes
    if not unknown_too:
        outside = outside | (values < 0)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        way = "raise `num_classes`, or leave out examples without a label"
        refuse(owner, name, f"be in [0, {num_classes}), the classes", f"{int(values[first])} at index {first}", way)
    return values.detach().long()


def _improbable_rows(values: Tensor, least: float) -> Tensor:
    """Return the indices of the rows (N, K) with a value below `least` or a sum that is not 1; NaN rows pass.

    The tolerance of the sum allows for means of half-precision softmax outputs.
    """
    return ((values < least).any(1) | ((values.sum(1) - 1).abs() > 1e-2)).nonzero()[:, 0]


def outputs(owner: str, rows: Tensor) -> None:
    """Raise ValueError if rows given with probabilities=True are not probabilities; checks only on the CPU."""
    if rows.device.type != "cpu":
        return
    wrong = _improbable_rows(rows.detach(), least=0)
    if len(wrong):
        first = int(wrong[0])
        got = f"a sum of {float(rows[first].detach().sum()):g} in row {first}"
        way = "omit probabilities=True for logits"
        refuse(owner, "logits", "hold probabilities that sum to 1 in each row", got, way)


def probabilities(owner: str, values: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K) in the dtype for computation, and labels as int64; a row may be NaN."""
    name, values = "probabilities", floating(owner, "probabilities", values)
    if values.ndim != 2 or values.shape[1] < 2:
        way = "give the whole softmax output of each example"
        refuse(owner, name, "have shape (N, K) with K >= 2 classes", f"shape {tuple(values.shape)}", way)
    wrong = _improbable_rows(values, least=-1e-3)
    if len(wrong):
        first = values[int(wrong[0])]
        got = f"a sum of {float(first.sum()):g} and a minimum of {float(first.min()):g} in row {int(wrong[0])}"
        way = "give softmax outputs, for example logits.softmax(1)"
        refuse(owner, name, "be at least 0 and sum to 1 in each row", got, way)
    given = labels(owner, "given", given, values.shape[1], unknown_too=True)
    same_length(owner, "given", given, "probabilities[:, 0]", values[:, 0])
    return values, given


def is_number(value: object) -> bool:
    """Return whether this can be compared with numbers."""
    return isinstance(value, int | float) or hasattr(value, "__float__")


def choice(owner: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        refuse(owner, name, f"be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}", repr(value))


def direction(owner: str, higher_is_easier: object) -> None:
    """Raise TypeError for anything but a bool; the direction is never guessed."""
    if not isinstance(higher_is_easier, bool):
        refuse(owner, "higher_is_easier", "be True or False", repr(higher_is_easier), error=TypeError)


def unit_interval(owner: str, name: str, values: Tensor, what: str) -> None:
    """Raise ValueError for a value outside [0, 1]; NaN passes."""
    if bool(((values < 0) | (values > 1)).any()):
        refuse(owner, name, f"be in [0, 1], {what}", f"{float(values.min()):g} to {float(values.max()):g}")


def fraction(owner: str, value: float, name: str = "fraction", way: str = "a tenth is 0.1") -> None:
    """Raise ValueError unless the fraction is in (0, 1]."""
    if not (is_number(value) and 0 < value <= 1):
        refuse(owner, name, "be in (0, 1]", value, way)


def tol(owner: str, value: float) -> None:
    """Raise ValueError unless the tolerance is in [0, 0.5)."""
    if not (is_number(value) and 0 <= value < 0.5):
        refuse(owner, "tol", "be in [0, 0.5), so that hard and easy do not overlap", value)


def positive(owner: str, name: str, value: float) -> None:
    """Raise ValueError unless the number is finite and above 0."""
    if not (is_number(value) and value > 0 and math.isfinite(value)):
        refuse(owner, name, "be a finite number above 0", value)


def at_least(owner: str, name: str, value: int, least: int) -> None:
    """Raise ValueError unless the number is at least `least`."""
    if not (is_number(value) and value >= least):
        refuse(owner, name, f"be at least {least}", value)


def num_draws(owner: str, value: object) -> None:
    """Raise ValueError unless this is a number of draws, or None for exact easiness."""
    if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        refuse(owner, "num_draws", "be a whole number of at least 1, or None", repr(value), "the paper draws 1,000")


def num_classes(owner: str, value: int) -> None:
    """Raise ValueError for fewer than two classes."""
    if not (is_number(value) and value >= 2):
        refuse(owner, "num_classes", "be at least 2", value, "with one class no label can be wrong")
