"""A subset of a data set, optionally with other labels, and the mapping back to the whole data set.

Positions in a `SelectedDataset` run from 0 to n - 1, as samplers expect. Records use the index in the whole data set:
`with_indices` and `whole` convert to it, for subsets and for ordinary data sets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from lightning_easiness._utils.rng import OwnGenerators, isolated_rng
from lightning_easiness.data.batch import TARGET_KEYS
from lightning_easiness.data.digest import row_digest
from lightning_easiness.data.identity import DataIdentity

_TARGET_ATTRIBUTES = ("targets", "target", "labels", "label", "y")


class SelectedDataset(Dataset[Any]):
    """Some examples of a map-style data set, in the order of `indices`, with some labels replaced.

    Missing attributes, such as `classes`, are looked up in the user's data set. `indices` is int64 (n,); `target` has
    new labels for all examples, int64 (N,), negative to keep the original one; `replace_fn` (item, label) -> item is
    for items that are neither (x, label, ...) nor mappings with the usual keys. `held_out` are the examples that the
    whole run leaves out to be tested on, int64 (m,), None where it holds out none. The last `num_repeated` indices are
    repeats of others, which complete the batches.
    """

    def __init__(
        self,
        dataset: Any,
        indices: Tensor,
        target: Tensor | None = None,
        replace_fn: Callable[[Any, int], Any] | None = None,
        held_out: Tensor | None = None,
        num_repeated: int = 0,
    ) -> None:
        self.dataset = dataset
        self.indices = indices
        self.target = target
        self.replace_fn = replace_fn or replace_label
        self.held_out = held_out
        self.num_repeated = num_repeated
        self.kept_workers: Any = None  # those of the loaders before, if they go on
        pass_state_on(self, dataset)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: Any) -> Any:
        index = self.indices_of_key(key)
        item = self.dataset[index]
        return self._relabelled(index, item) if self.target is not None else item

    def __getitems__(self, keys: Sequence[int]) -> Any:
        return self.items_of(self.indices_of_batch(keys))

    def items_of(self, indices: list[int]) -> Any:
        """Read the examples of some indices in the whole data set, with their new labels."""
        items = fetch(self.dataset, list(indices))  # which a data set may sort
        if self.target is None:
            return items
        if not (isinstance(items, list) and len(items) == len(indices)):  # a whole batch, as of data on a device
            return self._relabelled(indices, items)
        return [self._relabelled(index, item) for index, item in zip(indices, items, strict=True)]

    def indices_of_key(self, key: Any) -> Any:
        """Return the index in the whole data set of a position, or a list for several positions."""
        return self.indices[key].tolist()

    def indices_of_batch(self, keys: Sequence[int]) -> list[int]:
        """Return the indices in the whole data set of a batch's positions."""
        # numpy takes a third of the time of torch for a list
        indices: list[int] = self.indices.numpy()[np.asarray(keys, dtype=np.int64)].tolist()
        return indices

    def _relabelled(self, index: Any, item: Any) -> Any:
        """Return an item with its new label, or a whole batch, of a list of indices, with its new labels."""
        assert self.target is not None
        new = self.target[index]
        if isinstance(index, int):
            return item if new < 0 else self.replace_fn(item, int(new))
        if self.replace_fn is not replace_label:
            raise TypeError(
                f"{type(self.dataset).__name__} returns whole batches, and replace_fn replaces the label of one item;"
                " leave replace_fn out for batches (x, labels, ...), or let the data set return a list of items."
            )
        return replace_labels(item, new)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataset" not in self.__dict__:  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.__dict__["dataset"], name)


def fetch(dataset: Any, keys: Sequence[Any]) -> Any:
    """Read several items in the same way as torch's own fetcher."""
    if callable(getattr(dataset, "__getitems__", None)):
        return dataset.__getitems__(keys)
    return [dataset[key] for key in keys]


def replace_label(item: Any, label: int) -> Any:
    """Return an item `(x, label, ...)` or a mapping with the usual keys with another label of the same type."""
    return _with_label(item, lambda old: _like(old, label))


def replace_labels(batch: Any, target: Tensor) -> Any:
    """Return a batch `(x, labels, ...)` or a mapping with other labels, int64 (B,), negative to keep the batch's."""
    return _with_label(batch, lambda old: _all_like(old, target))


def _with_label(item: Any, replaced: Callable[[Any], Any]) -> Any:
    if isinstance(item, Mapping):
        key = next((key for key in TARGET_KEYS if key in item), None)
        if key is not None:
            copied: Any = copy.copy(item)
            copied[key] = replaced(item[key])
            return copied
    elif isinstance(item, (tuple, list)) and len(item) >= 2:
        new = replaced(item[1])
        fields: Any = getattr(item, "_fields", None)
        if fields is not None:  # a named tuple
            return item._replace(**{fields[1]: new})  # type: ignore[union-attr]
        return type(item)([item[0], new, *item[2:]])
    raise TypeError(
        f"The label in a {type(item).__name__} cannot be found: items must be (x, label, ...) or"
        " mappings with the usual keys; give the selection replace_fn, a function that takes an item and a label."
    )


def try_label(selected: SelectedDataset) -> None:
    """Read one item with a replaced label, so that a label that cannot be replaced raises before training starts."""
    assert selected.target is not None
    places = (selected.target[selected.indices] >= 0).nonzero()[:1, 0]
    if len(places):
        with isolated_rng(), OwnGenerators(selected.dataset):
            fetch(selected, [int(places[0])])


def _like(old: Any, label: int) -> Any:
    if isinstance(old, Tensor) and _is_one_hot(old) and label < len(old):
        return torch.zeros_like(old).index_fill_(0, torch.tensor(label, device=old.device), 1)
    if isinstance(old, Tensor) and old.numel() == 1:
        return torch.full_like(old, label)
    if isinstance(old, np.ndarray) and old.size == 1:
        return np.full_like(old, label)
    if isinstance(old, (int, float, np.generic)):
        return type(old)(label)
    raise TypeError(
        f"A label of type {type(old).__name__} cannot be replaced by a class; give the selection replace_fn, a"
        " function that takes an item and a label."
    )


def _all_like(old: Any, new: Tensor) -> Tensor:
    """Return a batch's labels, integers (B,) or one-hot (B, K), with those of `new` that are not negative."""
    if not isinstance(old, Tensor) or old.ndim not in (1, 2) or len(old) != len(new):
        raise TypeError(
            f"Labels of a whole batch must be a tensor of {len(new)} class indices or one-hot rows to be replaced; got"
            f" {f'shape {tuple(old.shape)}' if isinstance(old, Tensor) else type(old).__name__}."
        )
    new = new.to(old.device, non_blocking=True)
    kept = new < 0
    if old.ndim == 1:
        return torch.where(kept, old, new.to(old.dtype))
    rows = torch.zeros_like(old).scatter_(1, new.clamp(min=0)[:, None], 1)
    return torch.where(kept[:, None], old, rows)


def _is_one_hot(label: Tensor) -> bool:
    return label.ndim == 1 and len(label) > 1 and bool((label != 0).sum() == 1) and bool(label.sum() == 1)


def whole(dataset: Any) -> Any:
    """Return the user's data set inside a SelectedDataset; any other data set unchanged."""
    return dataset.dataset if isinstance(dataset, SelectedDataset) else dataset


def held_out_of(dataset: Any) -> Tensor | None:
    """Return the examples that a run holds out, int64 (m,), by the data set of its train loader; None for none."""
    return dataset.held_out if isinstance(dataset, SelectedDataset) else None


def pass_state_on(wrapper: Any, dataset: Any) -> None:
    """Give a wrapper the methods by which a loader keeps the state of the data set itself, where it has one."""
    for name in ("state_dict", "load_state_dict"):
        if callable(getattr(dataset, name, None)):
            wrapper.__dict__[name] = getattr(dataset, name)  # where a check of protocols finds it


def num_selected(dataset: Any) -> int:
    """Return the number of examples that a data set holds, without repeats."""
    return len(dataset) - (dataset.num_repeated if isinstance(dataset, SelectedDataset) else 0)


def num_examples(dataset: Any) -> int:
    """Return the length of a map-style data set; for a SelectedDataset that of the whole data set."""
    return len(whole(dataset))


def with_indices(dataset: Any, keys: Sequence[Any]) -> tuple[Sequence[Any], Any]:
    """Return the indices in the whole data set of a sampler's keys, and their items, looked up once."""
    if not isinstance(dataset, SelectedDataset):
        return copy.copy(keys), fetch(dataset, keys)
    indices = dataset.indices_of_batch(keys)
    return indices, dataset.items_of(indices)


def source_index(dataset: Any) -> Tensor | None:
    """Return the index of each example of `dataset` in its source, int64 (N,); None if it is itself the source.

    The source of a torch `Subset` or a part of a `random_split` is the data set that it was taken from, through any
    depth. N is `num_examples(dataset)`: examples are counted in the whole data set behind an outer SelectedDataset.
    """
    return _positions(whole(dataset))


def source(dataset: Any) -> Any:
    """Return what the items of a data set are taken from: itself, or the innermost data set of a Subset."""
    while isinstance(dataset, (Subset, SelectedDataset)):
        dataset = dataset.dataset
    return dataset


def _positions(dataset: Any) -> Tensor | None:
    if not isinstance(dataset, (Subset, SelectedDataset)):
        return None
    index, outer = torch.as_tensor(dataset.indices, dtype=torch.int64), _positions(dataset.dataset)
    return index if outer is None else outer[index]


def known_target(dataset: Any) -> Tensor | None:
    """Return the labels that a data set lists, int64 (N,); None if they cannot be found without reading items."""
    if isinstance(dataset, Subset):
        inner = known_target(dataset.dataset)
        return None if inner is None else inner[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if isinstance(dataset, TensorDataset):
        return _as_target(dataset.tensors[1], len(dataset)) if len(dataset.tensors) > 1 else None
    if getattr(dataset, "target_transform", None) is not None:
        return None
    found = (vars(dataset).get(name) for name in _TARGET_ATTRIBUTES) if hasattr(dataset, "__dict__") else ()
    return next((target for value in found if (target := _as_target(value, len(dataset))) is not None), None)


def known_identity(dataset: Any) -> DataIdentity:
    """Return what is known of a data set without reading items: its length, listed labels and place in its source."""
    known = DataIdentity(len(dataset), known_target(dataset), source_index=source_index(dataset))
    return known if known.target is not None else replace(known, digest=_known_digest(dataset))


def _known_digest(dataset: Any) -> Tensor | None:
    """Return the digests of targets that tensors in memory hold, int64 (N,); None for other data."""
    if type(dataset) is Subset:
        inner = _known_digest(dataset.dataset)
        return None if inner is None else inner[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if type(dataset) is not TensorDataset or len(dataset.tensors) < 2:
        return None
    return row_digest(dataset.tensors[1], len(dataset))


def _as_target(value: Any, size: int) -> Tensor | None:
    if not isinstance(value, (Tensor, np.ndarray, list, tuple)) or len(value) != size:
        return None
    try:
        target = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    whole_numbers = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    return target.to("cpu", torch.int64) if whole_numbers and target.shape == (size,) else None
