"""No training step waits for a device: shown on any machine, with tensors of a device that has no values to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback
from lightning_easiness.data import digest
from lightning_easiness.data.indexed_loader import follow, unfollow
from lightning_easiness.observe import waiting
from lightning_easiness.observe.online import OnlineObserver
from lightning_easiness.observe.reading import LOG, Reading
from lightning_easiness.observe.tasks import (
    ONLINE_FIELDS,
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
    Task,
)
from tests.small import Points

DEVICE = "cuda"  # there need be none
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "repeat_interleave")


class WaitsForNothing(TorchDispatchMode):
    """Refuses every operation that waits for the device: values that are read, and copies from or to it."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func._schema.name.removeprefix("aten::").lstrip("_")
        given = {one.device.type for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        if DEVICE in given:
            assert not name.startswith(tuple(one.lstrip("_") for one in WAITS)), f"{name} waits for the device"
            if name in ("index", "index_put", "index_put_"):
                indices = [one for one in args[1] if one is not None]
                assert all(one.dtype != torch.bool for one in indices), "a mask as an index waits for the device"
        target = kwargs.get("device")
        if name in ("copy_", "to_copy") and given:
            places = given | ({torch.device(target).type} if target is not None else set())
            assert len(places) == 1, f"{name} between devices waits"
        is_made_there = not given and target is not None and torch.device(target).type == DEVICE
        with self.mode if is_made_there else nullcontext():
            return func(*args, **kwargs)


class Multiplies(LightningModule):
    """Its outputs are on the device of its inputs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weights = [weight]

    def forward(self, x: Tensor) -> Any:
        return x @ self.weights[0]


class Deep(Multiplies):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).unsqueeze(2).expand(-1, -1, 5).contiguous()


class InATuple(Multiplies):
    def forward(self, x: Tensor) -> Any:
        return x, super().forward(x)


class Strategy:
    def process_dataloader(self, loader: Any) -> Any:
        return loader


def stand_in(module: LightningModule, loader: DataLoader) -> Any:
    """What a step asks of a Trainer."""
    return SimpleNamespace(
        lightning_module=module,
        strategy=Strategy(),
        train_dataloader=loader,
        distributed_sampler_kwargs=None,
        is_global_zero=True,
        training=True,
        world_size=1,
        current_epoch=0,
    )


@contextmanager
def observing(
    module: LightningModule, reading: Reading, folder: Path, names: tuple[str, ...], probabilities: bool
) -> Iterator[tuple[EasinessCallback, Any, DataLoader]]:
    """The callback in the middle of a fit: after its first step, which decides how outputs are read."""
    callback, loader = EasinessCallback(folder, probe=None), DataLoader(Points(), batch_size=8)
    trainer = stand_in(module, loader)
    observer = callback._online = OnlineObserver(trainer, callback.reader, names, probabilities)
    observer.listen()
    observer.start()
    observer._reading = reading
    assert observer._logits_hook is not None
    observer._logits_hook.notes_endings, observer._logits_hook.position = False, reading.position
    source = observer._loader_hook.source
    follow(loader, source)
    try:
        yield callback, trainer, loader
    finally:
        unfollow(loader, source)
        observer.close()


Run = Callable[..., tuple[int, list[int]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs steps with tensors of one mode; the constants of the device are made in it, and not kept."""
    mode, all_places = FakeTensorMode(), digest._all_places.__wrapped__

    def made_there(device: torch.device, is_one: bool) -> Tensor:
        with mode:
            found: Tensor = all_places(device, is_one)
            return found

    monkeypatch.setattr(digest, "_all_places", made_there)
    return partial(run_steps, mode, tmp_path)


def run_steps(
    mode: FakeTensorMode,
    folder: Path,
    reading: Reading,
    target: Callable[[int], Tensor],
    make: type[Multiplies] = Multiplies,
    names: tuple[str, ...] = ONLINE_FIELDS,
    probabilities: bool = False,
) -> tuple[int, list[int]]:
    """Run the steps of an epoch on the device; return how many steps wait, and the sizes of those that do not."""
    with mode:
        module = make(torch.empty(8, 4, device=DEVICE)).train()
    with observing(module, reading, folder, names, probabilities) as (callback, trainer, loader):
        for number, (x, _) in enumerate(loader):
            with mode:
                batch = (torch.empty(len(x), 8, device=DEVICE), target(len(x)))
            with WaitsForNothing(mode):
                callback.on_train_batch_start(trainer, module, batch, number)
                module(batch[0])
                callback.on_train_batch_end(trainer, module, {"loss": None}, batch, number)
        assert callback._online is not None
        assert callback._online._sums is not None
        return len(callback._online._waiting._indices), list(callback._online._sums.sizes)


def classes(size: int) -> Tensor:
    return torch.empty(size, dtype=torch.int64, device=DEVICE)


def rows(size: int) -> Tensor:
    return torch.empty(size, 4, device=DEVICE)


def positions(size: int) -> Tensor:
    return torch.empty(size, 5, dtype=torch.int64, device=DEVICE)


EVERY = ("loss", "correct", "margin", "sample_easiness", "weakest_comparison", "el2n")
CASES: dict[str, dict[str, Any]] = {
    "classes": {"task": ClassTask("cross_entropy", 4), "target": classes},
    "classes, probabilities": {"task": ClassTask("cross_entropy", 4), "target": classes, "probabilities": True},
    "classes, every field": {"task": ClassTask("cross_entropy", 4), "target": classes, "names": EVERY},
    "one-hot": {"task": ClassTask("cross_entropy", 4, encoding="one_hot"), "target": rows},
    "distributions": {"task": SoftTask("cross_entropy", 4), "target": rows},
    "several labels": {"task": MultiLabelTask("binary_cross_entropy"), "target": rows},
    "positions": {"task": DenseTask("cross_entropy"), "target": positions, "make": Deep},
    "numbers": {"task": RegressionTask("mse_loss"), "target": rows},
}


@pytest.mark.parametrize("most", [1, 3, 32])
@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing(case: str, most: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that observes those that waited."""
    monkeypatch.setattr(waiting, "_MOST_STEPS", most)
    options = dict(CASES[case])
    waits, sizes = run(Reading(options.pop("task")), **options)
    # seven steps, the last of five examples; the first is observed at once
    assert (waits, sizes) == {1: (0, [8] * 6 + [5]), 3: (0, [8] * 6 + [5]), 32: (6, [8])}[most]


def own_loss(output: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(output, target, reduction="none")


@pytest.mark.parametrize(
    ("reading", "options"),
    [
        (Reading(Task("own_loss"), loss_fn=own_loss), {}),
        (Reading(ClassTask("cross_entropy", 4), link=LOG), {}),
        (Reading(ClassTask("cross_entropy", 4), position=1), {"make": InATuple}),
    ],
    ids=["the user's loss", "probabilities", "a tuple"],
)
def test_however_outputs_are_read(reading: Reading, options: dict[str, Any], run: Run) -> None:
    run(reading, target=classes, **options)


BAD: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "item": lambda found: found["loss"].sum().item(),
    "float": lambda found: float(found["loss"].mean()),
    "if": lambda found: bool((found["loss"] > 0).any()) or None,
    "cpu": lambda found: found["loss"].cpu(),
    "to": lambda found: found["loss"].to("cpu", torch.float64),
    "tolist": lambda found: found["target"].tolist(),
    "mask": lambda found: found["loss"][found["correct"]],
    "nonzero": lambda found: found["correct"].nonzero(),
    "copy": lambda found: torch.empty(len(found["loss"])).copy_(found["loss"]),
    "to the device": lambda found: torch.zeros(len(found["loss"])).to(DEVICE),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_step_that_waits_would_be_seen(bad: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = Reading.observe_output

    def observe_badly(reading: Reading, *args: Any, **options: Any) -> dict[str, Tensor]:
        found = observe(reading, *args, **options)
        BAD[bad](found)
        return found

    monkeypatch.setattr(Reading, "observe_output", observe_badly)
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        run(Reading(ClassTask("cross_entropy", 4)), target=classes)
