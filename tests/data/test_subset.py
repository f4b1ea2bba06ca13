"""A selected data set, and a user's loader over it: each parameter survives."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
    random_split,
)

from lightning_easiness.data.indexed_loader import IndexedDataset, UserDatasetInWorker
from lightning_easiness.data.subset import (
    SelectedDataset,
    known_target,
    num_examples,
    replace_label,
    source_index,
    whole,
    with_indices,
)
from lightning_easiness.data.subset_loader import check_selectable, loader_over
from tests.made_runs import whole as raised
from tests.small import Points

KEPT = torch.tensor([2, 3, 5, 7, 11, 13, 17])
BY_FOUR = [[2, 3, 5, 7], [11, 13, 17]]
Pair = namedtuple("Pair", "x y")


class Numbers(Dataset):
    """Example i is i."""

    classes = ("a", "b")

    def __init__(self, size: int = 20) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        assert 0 <= index < self.size
        return index


class Lists(Numbers):
    """Is asked for whole batches."""

    def __getitem__(self, indices: Any) -> Tensor:
        return torch.tensor(indices)


class Fetches(Numbers):
    asked: tuple[int, ...] = ()

    def __getitems__(self, indices: list[int]) -> list[int]:
        self.asked = tuple(indices)
        return indices


class Loud(DataLoader):
    """A loader of the user's own, with an argument and an attribute of its own."""

    def __init__(self, dataset: Any, volume: int, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.volume = volume

    def __iter__(self) -> Iterator[Any]:
        return (batch * self.volume for batch in super().__iter__())


def selected_from(loader: DataLoader, kept: Tensor = KEPT) -> Any:
    return loader_over(loader, SelectedDataset(loader.dataset, kept))


def batches(loader: DataLoader) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


# ---------------------------------------------------------------------------------------------------- the data set


def test_positions_and_indices() -> None:
    selected = SelectedDataset(Numbers(), KEPT)
    assert [selected[position] for position in range(len(selected))] == KEPT.tolist()
    assert (selected[-1], selected.__getitems__([0, 6]), selected.classes) == (17, [2, 17], ("a", "b"))
    assert (whole(selected), num_examples(selected)) == (selected.dataset, 20)
    assert with_indices(selected, [1, 2]) == ([3, 5], [3, 5])
    assert with_indices(selected, torch.tensor([6])) == ([17], [17])
    assert with_indices(Numbers(), [1, 2]) == ([1, 2], [1, 2])
    assert pickle.loads(pickle.dumps(selected))[3] == 7
    with pytest.raises(AttributeError):
        _ = selected.nothing


@pytest.mark.parametrize(
    "keys", [[6, 0, -1], (6, 0, -1), torch.tensor([6, 0, -1]), np.array([6, 0, -1], np.int32), [np.int64(6), 0, -1]]
)
def test_positions_of_a_batch_in_every_form_that_samplers_yield(keys: Any) -> None:
    selected = SelectedDataset(Numbers(), KEPT)
    assert selected.indices_of_batch(keys) == [17, 2, 17]
    assert all(type(index) is int for index in selected.indices_of_batch(keys))
    assert IndexedDataset(selected).__getitems__(keys) == ([17, 2, 17], [17, 2, 17])
    with pytest.raises(IndexError):
        selected.indices_of_batch([len(KEPT)])


def test_the_indices_of_a_batch_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    selected, calls = SelectedDataset(Numbers(), KEPT), []
    whole_lookup = SelectedDataset.indices_of_batch
    monkeypatch.setattr(
        SelectedDataset, "indices_of_batch", lambda self, keys: calls.append(keys) or whole_lookup(self, keys)
    )
    assert IndexedDataset(selected).__getitems__([0, 6]) == ([2, 17], [2, 17])
    assert calls == [[0, 6]]


@pytest.mark.parametrize("selected", [False, True])
def test_a_data_set_may_sort_the_indices_that_it_is_asked_for(selected: bool) -> None:
    class Sorts(Dataset[int]):
        def __len__(self) -> int:
            return 30

        def __getitems__(self, keys: list[int]) -> list[int]:
            asked = list(keys)
            keys.sort()
            return asked

    data = SelectedDataset(Sorts(), torch.tensor([9, 3, 5, 1, 20, 11])) if selected else Sorts()
    indices, items = with_indices(data, [5, 0, 2])
    assert list(indices) == items == ([11, 9, 5] if selected else [5, 0, 2])


def test_a_data_set_that_is_asked_for_lists() -> None:
    dataset = Fetches()
    assert batches(selected_from(DataLoader(dataset, batch_size=4))) == BY_FOUR
    assert dataset.asked == (11, 13, 17)
    sampler = BatchSampler(SequentialSampler(Lists()), 4, drop_last=True)
    assert batches(selected_from(DataLoader(Lists(), sampler=sampler, batch_size=None))) == BY_FOUR[:1]
    relabelled = SelectedDataset(Lists(), KEPT, target=torch.ones(20, dtype=torch.int64))
    with pytest.raises(TypeError, match="The label in a Tensor cannot be found"):
        relabelled[[0, 1]]


class WholeBatches(Dataset[Any]):
    """Fetches batches of all examples asked for at once, as data in the memory of a device."""

    classes = ("a", "b", "c")

    def __init__(self, form: str) -> None:
        self.x = torch.arange(40.0).view(20, 2)
        labels = torch.arange(20) % 3
        self.y = torch.eye(3)[labels] if form == "one-hot" else labels.to(torch.int32)
        self.form = form

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: Any) -> Any:
        x, y = self.x[index], self.y[index]
        return {"image": x, "label": y} if self.form == "mapping" else (x, y, "extra")

    __getitems__ = __getitem__


def as_it_is(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("form", ["integers", "one-hot", "mapping"])
@pytest.mark.parametrize("batch_size", [2, 3, 4])
def test_labels_of_whole_batches_are_replaced_as_those_of_single_items(form: str, batch_size: int) -> None:
    new = torch.full((20,), -1)
    new[[3, 5, 11, 17]] = torch.tensor([2, 0, 0, 1])
    selected = SelectedDataset(WholeBatches(form), KEPT, target=new)
    loader = loader_over(DataLoader(selected.dataset, batch_size, collate_fn=as_it_is), selected)
    key = "label" if form == "mapping" else 1
    found = [row for batch in loader for row in batch[key]]
    alone = [selected[position][key] for position in range(len(selected))]
    assert len(found) == len(KEPT)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, alone, strict=True))
    labels = [int(row.argmax()) if form == "one-hot" else int(row) for row in found]
    assert labels == [int(new[i]) if new[i] >= 0 else int(i) % 3 for i in KEPT]


def test_labels_of_whole_batches_that_cannot_be_replaced() -> None:
    class Words(WholeBatches):
        def __getitems__(self, index: Any) -> Any:
            return self.x[index], ["a"] * len(index)

    ones = torch.ones(20, dtype=torch.int64)
    with pytest.raises(TypeError, match="a tensor of 2 class indices or one-hot rows to be replaced; got list"):
        SelectedDataset(Words("integers"), KEPT, target=ones).__getitems__([0, 1])
    own = SelectedDataset(WholeBatches("integers"), KEPT, target=ones, replace_fn=lambda item, label: item)
    with pytest.raises(TypeError, match="WholeBatches returns whole batches, and replace_fn replaces the label of one"):
        own.__getitems__([0, 1])


ITEMS: dict[str, tuple[Any, Any]] = {
    "tuple": (("x", 1, "z"), ("x", 3, "z")),
    "list": (["x", 1], ["x", 3]),
    "named tuple": (Pair("x", 1), Pair("x", 3)),
    "mapping": ({"image": "x", "label": 1}, {"image": "x", "label": 3}),
    "tensor": (("x", torch.tensor(1)), ("x", torch.tensor(3))),
    "tensor of one": (("x", torch.tensor([1.0])), ("x", torch.tensor([3.0]))),
    "numpy scalar": (("x", np.int32(1)), ("x", np.int32(3))),
    "numpy array": (("x", np.array(1)), ("x", np.array(3))),
    "float": (("x", 1.0), ("x", 3.0)),
    **{
        f"one-hot, {dtype}": (("x", torch.eye(4)[1].to(dtype)), ("x", torch.eye(4)[3].to(dtype)))
        for dtype in (torch.float32, torch.int64, torch.bool, torch.float64)
    },
}


@pytest.mark.parametrize("case", ITEMS)
def test_a_label_is_replaced_by_one_of_its_type(case: str) -> None:
    item, expected = ITEMS[case]
    before = repr(item)
    replaced = replace_label(item, 3)
    assert repr(replaced) == repr(expected)
    assert type(replaced) is type(item)
    assert repr(item) == before, "the data set's own item stays"


NO_LABELS: dict[str, Any] = {
    "a number": 1,
    "a text": "xy",
    "a mapping": {"a": 1},
    "inputs alone": ("x",),
    "a name": ("x", "cat"),
    "no class": ("x", torch.zeros(4)),
    "fractions": ("x", torch.tensor([0.5, 0.5, 0, 0])),
    "two classes": ("x", torch.tensor([1.0, 1.0, 0, 0])),
    "a count": ("x", torch.tensor([2.0, 0, 0, 0])),
    "a matrix": ("x", torch.eye(4)),
    "no place for the class": ("x", torch.tensor([0.0, 1.0])),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_a_label_that_cannot_be_replaced(case: str) -> None:
    with pytest.raises(TypeError, match=r"give the selection replace_fn, a function that takes an item and a label"):
        replace_label(NO_LABELS[case], 2)


def test_only_labels_that_are_given_are_replaced() -> None:
    points, target = Points(20), torch.full((20,), -1)
    target[5] = 9
    selected = SelectedDataset(points, KEPT, target)
    wanted = [9 if i == 5 else int(points.y[i]) for i in KEPT]
    assert [y for _, y in selected.__getitems__(range(7))] == [selected[i][1] for i in range(7)] == wanted
    mine = SelectedDataset(points, KEPT, target, replace_fn=lambda item, label: (label, *item))
    assert mine[2][0] == 9


class Listed(Numbers):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(3)
        vars(self).update(attributes)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_labels_that_a_data_set_lists(kind: Any) -> None:
    value = kind([2, 0, 1])
    assert known_target(Listed(targets=value)).tolist() == [2, 0, 1]
    assert known_target(Subset(Listed(labels=value), [2, 0])).tolist() == [1, 2]


UNKNOWN: list[Any] = [[1, 2], ["cat", "dog", "eel"], [0.5, 1.0, 2.0], [[1], [2], [3]]]


def test_labels_that_are_not_known() -> None:
    several = [TensorDataset(torch.zeros(3)), ConcatDataset([Numbers(3)]), range(3), Listed()]
    changed = Listed(targets=[1, 2, 3], target_transform=abs)
    for dataset in (*several, changed, *(Listed(targets=targets) for targets in UNKNOWN)):
        assert known_target(dataset) is None


# ------------------------------------------------------------------------------------------------------- the loader


def set_up(worker_id: int) -> None:
    """The worker sees the user's data set."""
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, Numbers)
    info.dataset.size = 1000  # as users open files or seed here


# each parameter of DataLoader with a value that is not its default
PARAMETERS: dict[str, dict[str, Any]] = {
    "batch_size": {"batch_size": 3},
    "shuffle": {"shuffle": True},
    "sampler": {"sampler": RandomSampler(range(20), replacement=True)},
    "batch_sampler": {"batch_sampler": BatchSampler(SequentialSampler(range(20)), 3, drop_last=True)},
    "num_workers": {"num_workers": 1},
    "collate_fn": {"collate_fn": list},
    "pin_memory": {"pin_memory": True},
    "drop_last": {"drop_last": True, "batch_size": 3},
    "timeout": {"timeout": 60, "num_workers": 1},
    "worker_init_fn": {"worker_init_fn": set_up, "num_workers": 1},
    "multiprocessing_context": {"multiprocessing_context": multiprocessing.get_context("fork"), "num_workers": 1},
    "generator": {"generator": torch.Generator().manual_seed(5), "shuffle": True},
    "prefetch_factor": {"prefetch_factor": 5, "num_workers": 1},
    "persistent_workers": {"persistent_workers": True, "num_workers": 1},
    "pin_memory_device": {"pin_memory_device": "cuda"},
    "in_order": {"in_order": False},
}
MADE_ANEW = {"dataset", "sampler", "batch_sampler", "shuffle", "worker_init_fn"}


def test_every_parameter_of_a_loader_is_tried() -> None:
    """A parameter that a later torch adds fails here, until it is tried below."""
    parameters = set(inspect.signature(DataLoader.__init__).parameters) - {"self", "dataset"}
    assert parameters <= set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.filterwarnings("ignore:.*pin_memory_device.*")
def test_every_parameter_of_a_loader_survives(name: str) -> None:
    if name not in inspect.signature(DataLoader.__init__).parameters:
        pytest.skip("not in this torch")
    loader = DataLoader(Numbers(), **PARAMETERS[name])
    before = dict(vars(loader))
    made = selected_from(loader)
    assert vars(loader) == before
    assert type(made) is DataLoader
    for attribute in set(inspect.signature(DataLoader.__init__).parameters) - MADE_ANEW - {"self"}:
        assert getattr(made, attribute) == getattr(loader, attribute), attribute
    for attribute in ("sampler", "batch_sampler"):
        assert type(getattr(made, attribute)) is type(getattr(loader, attribute))
    if name == "worker_init_fn":
        assert isinstance(made.worker_init_fn, UserDatasetInWorker)
        assert made.worker_init_fn.worker_init_fn is set_up
    if not made.pin_memory:
        read = [int(index) for batch in made for index in batch]
        assert set(read) <= set(KEPT.tolist())
        assert len(read) == (6 if name in ("drop_last", "batch_sampler") else 7)
        assert name == "sampler" or len(set(read)) == len(read)


@pytest.mark.parametrize(
    "options",
    [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}, {"shuffle": True, "num_workers": 2}],
    ids=str,
)
@pytest.mark.parametrize("generator", [False, True])
def test_the_order_is_that_of_a_subset(options: dict[str, Any], generator: bool) -> None:
    read = []
    for select in (lambda made: made, selected_from):
        streams = {"generator": torch.Generator().manual_seed(8)} if generator else {}
        dataset = Numbers() if select is selected_from else Subset(Numbers(), KEPT.tolist())
        made = select(DataLoader(dataset, batch_size=3, **options, **streams))
        torch.manual_seed(3)
        read.append(batches(made))
    assert read[0] == read[1]


def test_a_loader_class_of_the_users_own() -> None:
    made = selected_from(Loud(Numbers(), 10, batch_size=4))
    assert type(made) is Loud
    assert batches(made) == [[10 * i for i in batch] for batch in BY_FOUR]


def test_workers_of_the_users_loader_are_not_shared() -> None:
    loader = DataLoader(Numbers(), num_workers=1, persistent_workers=True, batch_size=10)
    assert sum(map(len, loader)) == 20
    made = selected_from(loader)
    for _ in range(2):
        assert [int(index) for batch in made for index in batch] == KEPT.tolist()
    assert sum(map(len, loader)) == 20


class Odd(Sampler[int]):
    """Draws odd examples, also of a selection."""

    def __init__(self, positions: list[int]) -> None:
        self.positions = positions

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)

    def for_selection(self, selected: SelectedDataset) -> Odd:
        return Odd([position for position, index in enumerate(selected.indices.tolist()) if index % 2])


class Backwards(BatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        return reversed(list(super().__iter__()))

    def for_selection(self, selected: SelectedDataset) -> Backwards:
        return Backwards(SequentialSampler(selected), self.batch_size, self.drop_last)


def drawn(sampler: Any = None, batch_sampler: Any = None) -> list[int]:
    made = selected_from(DataLoader(Numbers(), sampler=sampler, batch_sampler=batch_sampler))
    return [int(index) for batch in made for index in batch]


def test_samplers() -> None:
    weights = torch.zeros(20)
    weights[[3, 7, 4]] = 1.0
    weighted = WeightedRandomSampler(weights, 40, replacement=True)
    assert set(drawn(weighted)) == {3, 7}
    assert len(drawn(weighted)) == 27, "of 40 draws the share that 2 of 3 are"
    assert len(drawn(RandomSampler(Numbers(), replacement=True, num_samples=40))) == 14
    assert sorted(drawn(SubsetRandomSampler([0, 3, 17, 19, 2]))) == [2, 3, 17]
    shares = [DistributedSampler(Numbers(), 2, rank, shuffle=True, seed=4, drop_last=True) for rank in (0, 1)]
    for sampler in shares:
        sampler.set_epoch(5)
    made = [drawn(sampler) for sampler in shares]
    assert len(made[0]) == len(made[1]) == 3
    assert len({*made[0], *made[1]} & set(KEPT.tolist())) == 6
    assert drawn(Odd([1])) == [3, 5, 7, 11, 13, 17]
    backwards = Backwards(SequentialSampler(Numbers()), 4, drop_last=False)
    assert drawn(batch_sampler=backwards) == [11, 13, 17, 2, 3, 5, 7]


def test_a_weighted_sampler_draws_each_example_as_often_as_before() -> None:
    """Draws shrink by the weight of what is selected, and not by its number: 2 + 30 of 53 here, 2 of 20."""
    weights, points = torch.tensor([2.0, 30.0, 1.0, 20.0]), Points(4)
    sampler = WeightedRandomSampler(weights, 106)
    for kept, draws in (([0, 1], 64), ([1], 60), ([0, 2], 6), ([0, 1, 2, 3], 106)):
        found = selected_from(DataLoader(points, sampler=sampler), torch.tensor(kept)).sampler
        assert (found.num_samples, found.weights.tolist()) == (draws, weights[kept].tolist())
        assert sampler.num_samples == 106
    once = DataLoader(points, sampler=WeightedRandomSampler(weights, 3, replacement=False))
    assert selected_from(once, torch.tensor([1, 3])).sampler.num_samples == 2, "no more than there are"


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (
            [DataLoader(Numbers())],
            (
                "EasinessDataModule selects from one train DataLoader; got list. Return one DataLoader from"
                " train_dataloader(); several data sets can be one torch ConcatDataset."
            ),
        ),
        (
            DataLoader(Stream()),
            (
                "EasinessDataModule cannot select from Stream, whose examples have no index; use a map-style data set"
                " (with __getitem__ and __len__)."
            ),
        ),
    ],
    ids=["list", "stream"],
)
def test_what_cannot_be_selected_from(loader: Any, message: str) -> None:
    """tests/select/test_refused.py has samplers that cannot be kept, and a selection from a selection."""
    with pytest.raises(TypeError, match=raised(message)):
        check_selectable(loader)


def positions_by_hand(dataset: Any) -> list[int]:
    """Look up each item of a data set of numbers: example i of the source is i."""
    return [dataset[place] for place in range(len(dataset))]


@pytest.mark.parametrize("kind", ["list", "tensor", "numpy", "range", "nested", "random_split", "selected inside"])
def test_source_indices_lead_to_the_same_item_in_the_source(kind):
    source = Numbers()
    shuffled = [int(i) for i in torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    dataset = {
        "list": lambda: Subset(source, shuffled[:9]),
        "tensor": lambda: Subset(source, torch.tensor(shuffled[:9])),
        "numpy": lambda: Subset(source, np.array(shuffled[:9])),
        "range": lambda: Subset(source, range(3, 17, 2)),
        "nested": lambda: Subset(Subset(Subset(source, shuffled), shuffled[:11]), [4, 0, 4, -1]),
        "random_split": lambda: random_split(source, [0.5, 0.5], torch.Generator().manual_seed(3))[1],
        "selected inside": lambda: Subset(SelectedDataset(source, KEPT), [6, 0, 3]),
    }[kind]()
    index = source_index(dataset)
    assert index.dtype == torch.int64
    assert index.tolist() == positions_by_hand(dataset)


def test_source_indices_of_a_selection_are_those_of_the_whole_data_set():
    part = Subset(Numbers(), [9, 7, 5, 3])
    assert source_index(SelectedDataset(part, torch.tensor([2, 0]))).tolist() == [9, 7, 5, 3]


@pytest.mark.parametrize(
    "dataset", [Numbers(), ConcatDataset([Subset(Numbers(), [1])]), SelectedDataset(Numbers(), KEPT)]
)
def test_a_data_set_that_is_its_own_source_has_no_source_indices(dataset):
    assert source_index(dataset) is None
