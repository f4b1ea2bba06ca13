"""Sums over the steps of an epoch and of a training, from tensors alone.

A step only puts its tensors on a list: its cost does not depend on the number of examples, and nothing is read back
from the device. Sums are exact (float64 of float32 values, or integers), so that the order of the steps, the number of
processes and the cuts of a training that is stopped and resumed leave no trace in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_easiness._utils.blocks import blocks, count
from lightning_easiness.data.digest import DIGEST, kept_digest
from lightning_easiness.observe.tasks import ONLINE_FIELDS, PREDICTION, UNSEEN_TARGET

_UNITS = 2**20  # in a probability of 1
_MOST_IN_INT32 = 2**31 // _UNITS - 1  # times that an example may be seen
_UNSEEN: dict[str, tuple[Any, torch.dtype]] = {  # what stands for a value of an example that was not seen; else NaN
    "correct": (False, torch.bool),
    PREDICTION: (-1, torch.int16),
    "target": (UNSEEN_TARGET, torch.int64),
    DIGEST: (UNSEEN_TARGET, torch.int64),
}
_STEP = 2**16  # above any class, for numbers made of a step and a class
_BLOCK = 2**22  # probabilities that are worked on at once
_LARGE = 2**14  # examples of a tensor that stays as it is


class StepList:
    """What steps showed of their examples, in order."""

    _MERGE_EVERY = 1024  # steps that become one tensor, as many small ones on the device waste memory

    def __init__(self) -> None:
        self.clear()

    def add(self, index: Tensor, observed: Mapping[str, Tensor], sizes: Sequence[int] = ()) -> None:
        """Take one batch: indices (B,) on the CPU and values (B,) or (B, K) by name on any device.

        It may be of several steps: `sizes` are theirs.
        """
        self.index.append(index)
        self.sizes.extend(sizes or (len(index),))
        for name, values in observed.items():
            self.values.setdefault(name, []).append(values)
        if len(self.index) - self._merged >= self._MERGE_EVERY:
            self.merge()

    def merge(self) -> None:
        """Make one tensor of the steps since the last time: copying all of the epoch again would cost more and more.

        Steps of very many examples are not copied at all.
        """
        added = self.index[self._merged :]
        if sum(map(len, added)) < _LARGE * len(added):
            for parts in (self.index, *self.values.values()):
                parts[self._merged :] = [torch.cat(parts[self._merged :])]
        self._merged: int = len(self.index)

    def clear(self) -> None:
        """Forget the steps."""
        self.index: list[Tensor] = []
        self.sizes: list[int] = []  # of the steps
        self.values: dict[str, list[Tensor]] = {}
        self._merged = 0  # tensors at the head of each list that hold many examples

    def handed(self) -> dict[str, Tensor]:
        """Return the steps as a few tensors, for another process to `take` them."""
        if not self.index:
            return {}
        held = {"index": torch.cat(self.index), "sizes": torch.tensor(self.sizes)}
        return held | {f"value.{name}": torch.cat(values) for name, values in self.values.items()}

    def take(self, handed: Mapping[str, Tensor]) -> None:
        """Take the steps of another process in place of one's own."""
        self.clear()
        if handed:
            self.index, self.sizes = [handed["index"]], handed["sizes"].tolist()
            self.values = {name.removeprefix("value."): [handed[name]] for name in handed if name.startswith("value.")}


class _Seen(NamedTuple):
    """Which examples steps saw, bool (N,), and how many they are."""

    mask: Tensor
    num: int


class EpochSums(StepList):
    """Sums of what the training forward showed of each example in one epoch, of one process.

    Examples that come twice (sampling with replacement, padding) are counted apart.
    """

    def __init__(self, num_examples: int, names: tuple[str, ...] = ONLINE_FIELDS) -> None:
        super().__init__()
        self.num_examples, self.names = num_examples, names

    def totals(self) -> tuple[Tensor, Tensor]:
        """Return sums (F + 1, N), float64, of the fields `names` and of the times seen, and targets (N,), on the CPU.

        Targets that are no class indices are digests of them: see `data.digest`.
        A field that was not recorded is zero; the target of an example that was not seen is UNSEEN_TARGET.
        """
        sums = torch.zeros(len(self.names) + 1, self.num_examples, dtype=torch.float64)
        target = torch.full((self.num_examples,), UNSEEN_TARGET, dtype=torch.int64)
        if self.index:
            index, values = torch.cat(self.index), self.values
            for row, name in enumerate(self.names):
                if name in values:
                    sums[row].index_add_(0, index, torch.cat(values[name]).cpu().double())
            sums[-1].index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
            if "target" in values:
                target[index] = torch.cat(values["target"]).cpu()
            elif DIGEST in values:
                target[index] = kept_digest(torch.cat(values[DIGEST]))
        return sums, target

    def once(self) -> tuple[dict[str, Tensor], Tensor] | None:
        """Return means by name, as `epoch_means` does, with the classes predicted, and targets, as `totals` does.

        None where an example was seen twice, or nothing was: else there is nothing to add up, and each value is put
        where it belongs.
        """
        self.merge()
        seen = self._seen()
        if not self.index or seen.num != sum(self.sizes):
            return None
        means = {name: self._placed(name, seen) for name in self.names if name in self.values}
        means["count"] = seen.mask.int()
        if PREDICTION in self.values:
            means[PREDICTION] = self._placed(PREDICTION, seen)
        return means, self._placed(DIGEST if DIGEST in self.values else "target", seen)

    def _seen(self) -> _Seen:
        mask, ones = torch.zeros(self.num_examples, dtype=torch.bool), torch.ones(0, dtype=torch.bool)
        for index in self.index:
            ones = ones if len(ones) >= len(index) else torch.ones(len(index), dtype=torch.bool)
            mask.scatter_(0, index, ones)
        return _Seen(mask, count(mask))

    def _placed(self, name: str, seen: _Seen) -> Tensor:
        """Return one value of each example, (N,)."""
        (unseen, dtype), parts = _UNSEEN.get(name, (torch.nan, torch.float32)), self.values.get(name, [])
        placed = torch.empty(self.num_examples, dtype=dtype)
        if seen.num < self.num_examples or not parts:
            placed.fill_(unseen)
        pairs = zip(self.index, parts, strict=False)
        for index, values in chain.from_iterable(blocks(*pair) for pair in pairs):  # threads would wait for each other
            found = kept_digest(values) if name == DIGEST else values.cpu()
            found = found + 0.0 if found.is_floating_point() else found  # no negative zero
            placed.scatter_(0, index, found.to(dtype))
        return placed

    def last_classes(self) -> Tensor:
        """Return the step that saw each example last and the class predicted then, as one number, int64 (N,).

        A later step has the larger number, and of the same step the larger class, so that the maximum over processes is
        that of all of them; 0 where no step saw an example. `to_classes` returns the classes.
        """
        last = torch.zeros(self.num_examples, dtype=torch.int64)
        if PREDICTION in self.values:
            step = torch.repeat_interleave(torch.arange(1, len(self.sizes) + 1), torch.tensor(self.sizes))
            predicted = torch.cat(self.values[PREDICTION]).cpu().long()
            last.scatter_reduce_(0, torch.cat(self.index), step * _STEP + predicted + 1, "amax")
        return last


def to_classes(last: Tensor) -> Tensor:
    """Return the classes in what `EpochSums.last_classes` returns, int16 (N,), -1 where there is none."""
    return (last % _STEP).sub_(1).short()


def epoch_means(sums: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Turn sums (F + 1, N) of `names` and count into a record's fields: means, NaN where an example was not seen."""
    count = sums[-1]
    unseen = torch.where(count > 0, 1.0, torch.nan)
    means = {name: (row / count.clamp(min=1) * unseen).float() for name, row in zip(names, sums[:-1], strict=True)}
    if "correct" in means:
        means["correct"] = means["correct"] >= 0.5
    return {**means, "count": count.to(torch.int32)}


class ProbabilitySums:
    """Sums of each example's softmax over all epochs so far, in multiples of 2^-20.

    Until `fold` adds it up, a step holds 2 K bytes per example on the device. The sums hold 4 K bytes per example in
    main memory, of the one process that `keeps` them; all keep the counts.
    """

    def __init__(self, num_examples: int, keeps: bool = True) -> None:
        self.num_examples = num_examples
        self.count = torch.zeros(num_examples, dtype=torch.int64)
        self._keeps = keeps
        self._num_classes = 0  # not known yet
        self._sums: Tensor | None = None
        self._steps = StepList()

    def add(self, index: Tensor, probabilities: Tensor) -> None:
        """Take one batch: indices (B,) on the CPU and probabilities, float16 (B, K), on any device."""
        self._steps.add(index, {"": probabilities})

    def handed(self) -> dict[str, Tensor]:
        """Return the steps that were not added up yet, for another process to `take` them."""
        return self._steps.handed()

    def take(self, handed: Mapping[str, Tensor]) -> None:
        """Add the steps of another process."""
        if handed:
            self.add(handed["index"], handed["value."])

    def drop_steps(self) -> None:
        """Discard the observations that were not added up yet."""
        self._steps.clear()

    def fold(self, reduce: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """Add up the observations since the last call; `reduce` sums over processes, so all of them must call this."""
        index, rows = self._take()
        # a process may have seen nothing, and have no number of classes
        total, known = reduce(torch.tensor([rows.shape[1], rows.shape[1] > 0])).tolist()
        num_classes = total // max(1, known)
        if not num_classes:
            return
        self._check_classes(num_classes)
        rows = rows if len(rows) else rows.new_empty(0, num_classes)
        self.count += reduce(torch.bincount(index, minlength=self.num_examples))
        dtype = torch.int32 if int(self.count.max()) <= _MOST_IN_INT32 else torch.int64
        if self._keeps:
            so_far = torch.zeros(self.num_examples, num_classes, dtype=dtype) if self._sums is None else self._sums
            self._sums = so_far.to(dtype)
        for block, sums in self._sums_of_blocks(index, rows, dtype):
            added = reduce(sums)
            if self._sums is not None:
                self._sums[block] += added

    def means(self) -> Tensor | None:
        """Return the average, float16 (N, K), NaN where an example was not seen; None where nothing is kept here."""
        if self._sums is None:
            return None
        means = torch.empty(self._sums.shape, dtype=torch.float16)
        for block in _blocks(*self._sums.shape):
            # 0 / 0 is NaN
            means[block] = (self._sums[block].double() / (self.count[block].double() * _UNITS).unsqueeze(1)).half()
        return means

    def state(self) -> dict[str, Any]:
        """Return the sums so far, as tensors; only the counts in a process that keeps no sums."""
        state: dict[str, Any] = {"count": self.count.clone(), "num_classes": self._num_classes}
        return state if self._sums is None else {**state, "sums": self._sums.clone()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, which must be of as many examples."""
        if len(state["count"]) != self.num_examples:
            raise ValueError(
                f"The checkpoint holds probabilities of {len(state['count'])} examples, but the data set has"
                f" {self.num_examples}, so an index no longer names the same example; resume with the data set of then."
            )
        self.count, self._num_classes = state["count"].cpu(), state["num_classes"]
        self._sums = state["sums"].cpu() if self._keeps and "sums" in state else None

    def _take(self) -> tuple[Tensor, Tensor]:
        """Take indices (M,) and probabilities (M, K) of the steps since the last time to main memory; without NaN."""
        parts = self._steps.values.get("", [])
        if not parts:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, 0)
        index = torch.cat(self._steps.index)
        rows = torch.empty(len(index), parts[0].shape[1], dtype=parts[0].dtype)
        start = 0
        for part in parts:  # one after the other: the device has no room for all of it twice
            rows[start : start + len(part)] = part
            start += len(part)
        self._steps.clear()
        known = ~rows[:, 0].isnan()  # a softmax is NaN as a whole
        return (index, rows) if bool(known.all()) else (index[known], rows[known])

    def _check_classes(self, num_classes: int) -> None:
        if self._num_classes not in (0, num_classes):
            raise ValueError(
                f"The module has {num_classes} classes, but the probabilities that were averaged so far are of"
                f" {self._num_classes}; train another module in another `run` or `dirpath`."
            )
        self._num_classes = num_classes

    def _sums_of_blocks(self, index: Tensor, rows: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        ordered, order = index.sort()
        for block in _blocks(self.num_examples, rows.shape[1]):
            low, high = torch.searchsorted(ordered, torch.tensor([block.start, block.stop])).tolist()
            units = rows.index_select(0, order[low:high]).float().mul_(_UNITS).round_().to(dtype)
            sums = torch.zeros(block.stop - block.start, rows.shape[1], dtype=dtype)
            yield block, sums.index_add_(0, ordered[low:high] - block.start, units)


def _blocks(num_examples: int, num_classes: int) -> Iterator[slice]:
    length = max(1, _BLOCK // num_classes)
    for start in range(0, num_examples, length):
        yield slice(start, min(start + length, num_examples))
