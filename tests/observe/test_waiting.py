"""Steps that wait for one arithmetic: each has the numbers that it has alone, whatever becomes of its memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.observe import kept, waiting
from lightning_easiness.observe.kept import SMALL
from lightning_easiness.observe.reading import Reading
from lightning_easiness.observe.tasks import (
    PROBABILITIES,
    PROBE_FIELDS,
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
    Task,
)
from lightning_easiness.observe.waiting import WaitingSteps
from tests.plain_forward import Traces, check_online
from tests.selecting import IndexedPoints
from tests.small import loader, trainer

# ----------------------------------------------------------------------------------------------------- the same numbers


def classes(size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, num_classes) * 5, torch.randint(num_classes, (size,))


def rows(size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, num_classes) * 5, torch.randn(size, num_classes).softmax(1)


def labels(size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, num_classes) * 5, torch.randint(2, (size, num_classes))


def positions(size: int, num_classes: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, num_classes, 7) * 5, torch.randint(num_classes, (size, 7))


TASKS: dict[str, tuple[Callable[[int], Task], Callable[[int, int], tuple[Tensor, Tensor]]]] = {
    "classes": (lambda num_classes: ClassTask("cross_entropy", num_classes), classes),
    "distributions": (lambda num_classes: SoftTask("cross_entropy", num_classes), rows),
    "several labels": (lambda num_classes: MultiLabelTask("binary_cross_entropy"), labels),
    "positions": (lambda num_classes: DenseTask("cross_entropy"), positions),
    "numbers": (lambda num_classes: RegressionTask("mse_loss"), rows),
}


class Observed:
    """Observes what it is given."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.fields: dict[str, list[Tensor]] = {}
        self.sizes: list[list[int]] = []

    def __call__(self, index: Tensor, sizes: list[int], output: Tensor, target: Tensor) -> None:
        self.sizes.append(sizes)
        found = self.reading.observe_output(output, target, len(index), fields=(*PROBE_FIELDS, PROBABILITIES))
        for name, values in {"index": index, **found}.items():
            self.fields.setdefault(name, []).append(values)

    def joined(self) -> dict[str, Tensor]:
        return {name: torch.cat(values) for name, values in self.fields.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_classes", [2, 3, 10, 33, 1001])
@pytest.mark.parametrize("task", TASKS)
def test_steps_together_give_the_bits_of_each_alone(task: str, num_classes: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make, draw = TASKS[task]
    alone, together = Observed(Reading(make(num_classes))), Observed(Reading(make(num_classes)))
    steps = WaitingSteps(together)
    for number, size in enumerate((5, 1, 32, 31, 1, 1, 2, 17)):
        output, target = draw(size, num_classes)
        index = torch.arange(size) + 100 * number
        alone(index, [size], output.to(dtype), target)
        steps.add(index, output.to(dtype), target, may_wait=True)
    steps.flush()
    assert together.sizes == [[5], [1, 32, 31, 1, 1, 2, 17]]  # the first shows whether there is an error in it
    expected, found = alone.joined(), together.joined()
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert torch.equal(values, found[name]), name


# ------------------------------------------------------------------------------------------------------ who waits


def kinds() -> dict[str, tuple[Any, Any]]:
    logits, target = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    large = torch.zeros(4, SMALL // 16 + 1)
    return {
        "large": (large, target),
        "large target": (logits.bfloat16(), torch.zeros(4, SMALL // 16 + 1)),
        "long rows": (torch.zeros(4, waiting._LONGEST_ROW + 1), target),
        "float64": (logits.double(), target),
        "transposed": (torch.zeros(3, 4).T, target),
        "no tensor": ((logits, logits), target),
        "no target": (logits, None),
        "other examples": (torch.zeros(5, 3), target),
        "a number": (torch.zeros(()), target),
    }


@pytest.mark.parametrize("kind", kinds())
def test_a_step_that_cannot_wait_is_observed_in_its_turn(kind: str) -> None:
    seen: list[tuple[list[int], list[int]]] = []
    steps = WaitingSteps(lambda index, sizes, output, target: seen.append((index.tolist(), sizes)))
    plain = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    for number, step in enumerate((plain, plain, kinds()[kind], kinds()[kind], plain)):
        steps.add(torch.full((4,), number), *step, may_wait=True)
    steps.flush()
    assert seen == [([0] * 4, [4]), *(([number] * 4, [4]) for number in (1, 2, 3, 4))]


def test_what_waits_is_bounded_in_steps_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    steps = WaitingSteps(lambda index, sizes, output, target: seen.append(len(sizes)))
    for size, width, count in ((4, 3, 33), (SMALL // 4096, 1024, 16)):
        for _ in range(count + 1):
            steps.add(torch.arange(size), torch.zeros(size, width), torch.zeros(size), may_wait=True)
    steps.flush()
    assert seen == [1, 32, 1, 1, 8, 8]


def test_what_waited_for_an_arithmetic_that_was_stopped_still_waits() -> None:
    seen: list[list[int]] = []

    def observe(index: Tensor, sizes: list[int], output: Tensor, target: Tensor) -> None:
        if len(sizes) > 1 and len(seen) == 1:
            seen.append([])
            raise KeyboardInterrupt
        seen.append(sizes)

    steps = WaitingSteps(observe)
    for _ in range(4):
        steps.add(torch.arange(2), torch.zeros(2, 3), torch.zeros(2), may_wait=True)
    with pytest.raises(KeyboardInterrupt):
        steps.flush()
    steps.flush()
    steps.flush()
    assert seen == [[2], [], [2, 2, 2]]


def test_other_shapes_do_not_wait_with_these() -> None:
    seen: list[list[int]] = []
    steps = WaitingSteps(lambda index, sizes, output, target: seen.append(sizes))
    for width in (3, 3, 3, 4, 3, 4, 4):
        steps.add(torch.arange(2), torch.zeros(2, width), torch.zeros(2), may_wait=True)
    steps.flush()
    assert seen == [[2], [2, 2], [2], [2], [2, 2]]


# ------------------------------------------------------------------------------------- memory that is written over


class UsesItsMemoryAgain(Traces):
    """A CUDA graph gives every step's output the same memory, and counts no version of it; so does this."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.last is not None:
            self.last.data.fill_(torch.nan)
        self.last = super().forward(x)
        return self.last


class WritesOverIt(UsesItsMemoryAgain):
    """Its step divides the logits in place."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        assert self.last is not None
        with torch.no_grad():
            self.last.div_(3)
        return loss


class ChangesItsPart(Traces):
    """Its forward returns the memory that its part returned, with other values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mul_(2)


@pytest.mark.parametrize("module", [UsesItsMemoryAgain, WritesOverIt, ChangesItsPart])
@pytest.mark.parametrize("steps", [1, 3, 32])
def test_outputs_are_those_that_the_module_returned(
    module: type[Traces], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_MOST_STEPS", steps)
    made = module()
    trainer(callbacks=[EasinessCallback(tmp_path, probe=None)]).fit(made, loader(IndexedPoints()))
    check_online(EasinessRecord.load(tmp_path, series="train-online"), made.trace)


class GraphMemory:
    """A compiler whose graphs write over what they returned before, as those of CUDA do."""

    def __call__(self, graph: Any, inputs: Any) -> Any:
        returned: list[Tensor] = []

        def run(*args: Any) -> Any:
            for tensor in returned:
                tensor.data.fill_(torch.nan)
            found = graph(*args)
            returned[:] = [one for one in found if isinstance(one, Tensor) and one.is_floating_point()]
            return found

        return run


def test_outputs_of_a_compiled_graph_are_copied_outside_of_it(tmp_path: Path) -> None:
    module = Traces()
    module.net.compile(backend=GraphMemory(), dynamic=True)
    callback = EasinessCallback(tmp_path, probe=None, module="net")
    trainer(callbacks=[callback]).fit(module, loader(IndexedPoints()))
    check_online(EasinessRecord.load(tmp_path, series="train-online"), module.trace)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_step_that_writes_over_what_a_compiled_part_returned(backend: str, tmp_path: Path) -> None:
    """A copy at the step's end would be of what was written; the hook's own copy is a part of the graph."""
    torch._dynamo.reset()
    module = WritesOverIt()
    module.net.compile(backend=backend, dynamic=True)
    callback = EasinessCallback(tmp_path, probe=None, module="net")
    trainer(callbacks=[callback]).fit(module, loader(IndexedPoints()))
    check_online(EasinessRecord.load(tmp_path, series="train-online"), module.trace)


@pytest.mark.parametrize("in_a_tuple", [False, True])
def test_a_large_output_that_is_written_over_is_refused(
    in_a_tuple: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "SMALL", 16)

    class InATuple(WritesOverIt):
        def __call__(self, x: Tensor) -> Any:  # the step sees the logits alone
            found = super().__call__(x)
            return found[1] if isinstance(found, tuple) else found

        def forward(self, x: Tensor) -> Any:
            return torch.zeros(len(x), 7, 3), super().forward(x)

    module = InATuple() if in_a_tuple else WritesOverIt()
    with pytest.raises(ValueError, match=r"changes the module's output in place.* pass logits_fn=torch.clone\."):
        trainer(callbacks=[EasinessCallback(tmp_path, probe=None)]).fit(module, loader(IndexedPoints()))


def test_a_large_output_that_is_copied_by_the_user_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SMALL", 16)
    module = WritesOverIt()
    callback = EasinessCallback(tmp_path, probe=None, logits_fn=torch.clone)
    trainer(callbacks=[callback]).fit(module, loader(IndexedPoints()))
    check_online(EasinessRecord.load(tmp_path, series="train-online"), module.trace)


def test_targets_that_a_loader_writes_over(tmp_path: Path) -> None:
    class Again(Traces):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # after the callback's
            batch[1].fill_(-7)

    module = Again()
    trainer(callbacks=[EasinessCallback(tmp_path, probe=None)]).fit(module, loader(IndexedPoints()))
    check_online(EasinessRecord.load(tmp_path, series="train-online"), module.trace)


def test_a_step_may_call_the_model_in_inference_mode_before(tmp_path: Path) -> None:
    class LabelsItself(Traces):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            with torch.inference_mode():
                self(batch[0][:, :8])
            return super().training_step(batch, batch_idx)

    callback = EasinessCallback(tmp_path, probe=None, num_images=0)
    trainer(max_epochs=1, callbacks=[callback]).fit(LabelsItself(), loader(IndexedPoints(), shuffle=False))
    assert not EasinessRecord.load(tmp_path, "train-online").score("mean_loss").values.isnan().any()


def test_an_index_outside_the_data_is_refused_also_in_a_step_that_waits(tmp_path: Path) -> None:
    class Around(IndexedPoints):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return super().__getitem__(index % len(self))

    data = Around(24)
    loads = DataLoader(data, 8, sampler=[*range(23), len(data)])  # type: ignore[arg-type]
    callback = EasinessCallback(tmp_path, probe=None)
    fit = trainer(max_epochs=1, callbacks=[callback])
    with pytest.raises(IndexError, match="asks for example 24, but examples are numbered 0 to 23"):
        fit.fit(Traces(), loads)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert callback.state_dict()["online"] is not None, "a checkpoint can still be saved"
