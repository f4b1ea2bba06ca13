"""Checks of selections and of their results; callers pass the selection's name as `owner`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness.data.ordered_loader import examples_per_batch
from lightning_easiness.observe.batch_reader import kind_of
from lightning_easiness.select.base import BATCH_LOSS, Needs, Selected, Selection

_METHODS = ("select", "check", "state_dict", "load_state_dict")
_OBSERVE = "call state.observe() in select() where the rule goes by the current weights, with Needs(passes=True)"
_OLD = {  # what selections had -> what to write instead
    "sigma2": "give it to EasinessCallback, or without one to EasinessDataModule(reader=...)",
    "looks_before": _OBSERVE,
    "observes_before": _OBSERVE,
    "every_epoch": "write needs = Needs(every='epoch')",
    "per_batch": "write needs = Needs(every='batch', passes=True), and call state.observe() in select()",
    "needs_observation": "write needs = Needs(passes=True), and take the values from state.observe() in select()",
    "remembers": "write needs = Needs(fields=(...)), whose latest values are state.observed",
    "weighs": "write needs = Needs(weights=True), and let select() return Selected(kept, weights)",
}
_OLD_IN_CLASS = {  # words that a rule may have for values of its own
    "online": "write needs = Needs(every='epoch', fields=('loss',), online=True), with the fields that it goes by",
    "fields": "write needs = Needs(fields=(...))",
    "weights": "let select() return Selected(kept, weights), with needs = Needs(weights=True)",
    "labels": "let select() return Selected(kept, labels=labels)",
}


def check_selection(selection: Any) -> Selection | None:
    """Return a selection, or None, after checks that a user's own one is well-formed."""
    if selection is None:
        return None
    if not isinstance(selection, Selection):
        raise TypeError(
            "The `selection` of EasinessDataModule must be a Selection, as Ablation(...), or None; got"
            f" {type(selection).__name__}."
        )
    name = type(selection).__name__
    _refuse_old(name, selection)
    if not isinstance(selection.needs, Needs):
        raise TypeError(f"The `needs` of {name} must be Needs(...), as Needs(every='epoch'); got {selection.needs!r}.")
    for method in _METHODS:
        if not callable(getattr(selection, method)):
            raise TypeError(f"`{method}` of {name} must stay a method; keep the values under another name.")
    if not isinstance(selection.seed, int):
        raise TypeError(f"The `seed` of {name} must be an integer; got {selection.seed!r}.")
    least = selection.minimum
    if least is not None and (not isinstance(least, int) or least < 1):
        raise ValueError(f"The `minimum` of {name} must be at least 1 example; got {least!r}.")
    if least is not None and selection.needs.every == "fit":
        raise ValueError(
            f"The `minimum` of {name} is for selections with Needs(every='epoch' or 'batch'), and {name} is made once."
        )
    return selection


def _refuse_old(name: str, selection: Selection) -> None:
    """Raise a TypeError for what selections were declared by before `needs`, which would else have no effect."""
    for old, way_out in (_OLD | _OLD_IN_CLASS).items():
        if hasattr(selection if old in _OLD else type(selection), old):
            raise TypeError(f"{name} has a `{old}`, which selections have no more: {way_out}.")


def check_passes(owner: str, needs: Needs) -> None:
    """Raise a TypeError if a selection asks for a pass that its `needs` do not name."""
    if not needs.passes:
        raise TypeError(f"{owner} calls state.observe(), but its needs name no passes: write {_with(needs, 'passes')}.")


def checked_decision(owner: str, needs: Needs, decision: Any) -> Selected:
    """Return what a selection decided as a Selected, or raise a TypeError for parts that it cannot have."""
    selected = Selected.of(decision)
    if selected.weights is not None and not needs.weights:
        raise TypeError(f"{owner} gives weights, but its needs name none: write {_with(needs, 'weights')}.")
    if selected.labels is not None and needs.every == "batch":
        raise TypeError(f"{owner} gives labels for a batch: decide by Needs(every='epoch') which labels to train with.")
    return selected


def check_whole_batch(owner: str, selected: Selected, num_kept: int, size: int) -> None:
    """Raise a ValueError if a batch that was not observed, on which processes do not agree, is changed."""
    if num_kept < size or selected.weights is not None:
        raise ValueError(
            f"{owner} keeps {num_kept} of a batch of {size} examples, or weighs them, without a look at it: call"
            " state.observe() first, or decide by Needs(every='epoch')."
        )


def _with(needs: Needs, name: str) -> str:
    changed = [f"{key}={value!r}" for key, value in (vars(needs) | {name: True}).items() if value]
    return f"needs = Needs({', '.join(changed)})"


def checked_indices(owner: str, chosen: Any, num_examples: int, *, may_be_empty: bool = False) -> Tensor:
    """Return what a selection chose as ascending indices, int64 (n,), on the CPU."""
    try:
        given = torch.as_tensor(chosen).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        way_out = "let select() return a tensor, of topk(...) and sort(...) the second result."
        raise TypeError(f"{_asked(owner, chosen, num_examples)}: {way_out}") from None
    if given.dtype == torch.bool and given.shape == (num_examples,):
        kept = torch.from_numpy(np.flatnonzero(given.numpy()))
    else:
        kept = _ascending(owner, given, num_examples)
    if not len(kept) and not may_be_empty:
        raise ValueError(f"{owner} keeps none of {num_examples} examples; keep at least one.")
    return kept


def _ascending(owner: str, chosen: Tensor, num_examples: int) -> Tensor:
    """Return some indices in ascending order: sorting millions of them would take longer than all else here."""
    asked = _asked(owner, chosen, num_examples)
    if chosen.ndim == 2 and chosen.shape[1] == 1:
        raise ValueError(f"{asked}: of nonzero() take [:, 0].")
    if chosen.ndim != 1:
        raise ValueError(f"{asked}.")
    if not chosen.numel():
        return torch.empty(0, dtype=torch.int64)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"{asked}.")
    index = chosen.long().contiguous().numpy()
    if _is_ascending(index) and index[0] >= 0 and index[-1] < num_examples:
        return torch.from_numpy(index.copy())  # the rule may keep its own and change it
    if index.view(np.uint64).max() >= num_examples:  # what is negative is as large as can be
        lowest, highest = int(index.min()), int(index.max())
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{owner} keeps example {wrong}, but examples are numbered 0 to {num_examples - 1}.")
    mask = np.zeros(num_examples, dtype=bool)
    mask[index] = True
    kept = np.flatnonzero(mask)
    if len(kept) != len(index):
        if len(index) == num_examples and index.max() <= 1:
            raise ValueError(f"{asked} of zeros and ones: make a mask of it with .bool().")
        values, counts = np.unique(index, return_counts=True)
        twice = int(values[counts > 1][0])
        raise ValueError(f"{owner} keeps example {twice} more than once; drop repeats with .unique().")
    return torch.from_numpy(kept)


def _is_ascending(index: Any) -> bool:
    """Return whether each number is larger than the one before; most that are not show it at the beginning."""
    return all(bool((part[1:] > part[:-1]).all()) for part in (index[:100], index))


def checked_weights(owner: str, weights: Any, num_examples: int) -> Tensor | None:
    """Return a selection's weights as float32 (N,) on the CPU; None where all are equal."""
    if weights is None:
        return None
    if not isinstance(weights, Tensor) or weights.shape != (num_examples,):
        raise ValueError(
            f"{owner} must give its weights as ({num_examples},), one for each example; got {kind_of(weights)}."
        )
    given: Tensor = weights.detach().to("cpu", torch.float32)
    wrong = given[~(given >= 0) | given.isinf()]
    if len(wrong):
        raise ValueError(f"{owner} must give weights that are finite and not negative; got {float(wrong[0])}.")
    return given


def checked_labels(owner: str, labels: Any, num_examples: int, num_classes: int | None = None) -> Tensor | None:
    """Return a selection's labels as int64 (N,) on the CPU; None where it replaces none."""
    if labels is None:
        return None
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != (num_examples,):
        raise ValueError(
            f"{owner} must give its labels as integers ({num_examples},), one for each example; got {kind_of(labels)}."
        )
    given: Tensor = labels.detach().to("cpu", torch.int64)
    if num_classes is not None and int(given.max()) >= num_classes:
        raise ValueError(
            f"{owner} gives example {int(given.argmax())} the label {int(given.max())}, but there are {num_classes}"
            " classes."
        )
    return given


def _asked(owner: str, chosen: Any, num_examples: int) -> str:
    return f"{owner} must choose by indices (n,) or a bool mask ({num_examples},); got {kind_of(chosen)}"


def check_batch_size(selection: Selection, loader: DataLoader[Any]) -> None:
    """Raise a ValueError where a selection goes by the losses of batches, and these hold one example each."""
    if BATCH_LOSS in selection.needs.fields and examples_per_batch(loader) == 1:
        raise ValueError(
            f"{selection} goes by the mean losses of batches, but the train loader's hold one example"
            " each, whose loss alone that would be: give the loader a batch_size of 2 at least, or take a rule that"
            " goes by the losses of examples, as OrderDP."
        )
