"""On a CUDA device: no step waits for it, training is the same to the bit, and the numbers are those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.observe.accumulate import EpochSums
from lightning_easiness.observe.reading import AS_LOGITS, LOG, LOGIT, Reading
from lightning_easiness.observe.tasks import (
    ONLINE_FIELDS,
    PROBABILITIES,
    PROBE_FIELDS,
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
    Task,
)
from tests.functional.cases import CASES
from tests.plain_forward import check, eval_forward
from tests.small import Net, Points, loader, trainer

DEVICE = "cuda"


def on_gpu(test: Any) -> Any:
    """Marks a test, or a class of tests, as one for a machine with a CUDA device."""
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    early = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
    return pytest.mark.gpu(absent(early(test)))


def fit(module: Net, *callbacks: Callback, data: Any = None, **options: Any) -> Any:
    made = trainer(accelerator="gpu", callbacks=list(callbacks), **options)
    made.fit(module, loader() if data is None else data)
    return made


# --------------------------------------------------------------------------------------------- no step waits


class Silent(Net):
    """Reads no number back in its step, where the usual net keeps its losses."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)


class StepBegins(Callback):
    """From the second step on, whatever waits for the device raises; goes before the observer.

    The first step decides how outputs are read, for which it reads some of them.
    """

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step:
            torch.cuda.set_sync_debug_mode("error")

    def on_exception(self, *args: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


class StepEnds(Callback):
    """Ends that; goes behind the observer."""

    def on_train_batch_end(self, *args: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


class Reads(Callback):
    """An observer as one would write it at first."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        outputs["loss"].item()


@on_gpu
class TestNoStepWaits:
    @pytest.mark.parametrize(
        ("data", "options"),
        [
            ({}, {}),
            ({"pin_memory": True, "num_workers": 1}, {}),
            ({}, {"precision": "bf16-mixed"}),
            ({}, {"accumulate_grad_batches": 3}),
        ],
        ids=["plain", "pinned", "bf16-mixed", "accumulation"],
    )
    @pytest.mark.parametrize("probabilities", [False, True])
    def test_online(self, data: dict[str, Any], options: dict[str, Any], probabilities: bool, tmp_path: Path) -> None:
        observer = EasinessCallback(tmp_path, probe=None, probabilities=probabilities)
        fit(Silent(), StepBegins(), observer, StepEnds(), data=loader(**data), **options)
        count = EasinessRecord.load(tmp_path, series="train-online").count
        assert torch.equal(count, torch.ones_like(count))

    def test_the_guard_sees_an_observer_that_does(self) -> None:
        with pytest.raises(RuntimeError, match="synchroniz"):
            fit(Silent(), StepBegins(), Reads(), StepEnds())

    def test_merging_the_steps_of_a_long_epoch(self) -> None:
        sums = EpochSums(53)
        sums._MERGE_EVERY = 2
        logits, target = torch.randn(8, 4, device=DEVICE), torch.arange(8, device=DEVICE) % 4
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                sums.add(
                    torch.arange(8),
                    reading().observe(logits, target, 8, fields=ONLINE_FIELDS),
                )
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert sums.totals()[0][-1, :8].tolist() == [5.0] * 8


def reading(num_classes: int = 4) -> Reading:
    return Reading(ClassTask("cross_entropy", num_classes))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(8, 4), (8, 1), (8,)])
def test_an_observation_reads_nothing_back(shape: tuple[int, ...], full: bool) -> None:
    """On any machine: tensors on the meta device have no values, so reading one back is an error."""
    logits, target = torch.empty(shape, device="meta"), torch.empty(8, dtype=torch.int64, device="meta")
    observed = reading(4 if shape == (8, 4) else 2).observe(
        logits, target, 8, fields=PROBE_FIELDS if full else ONLINE_FIELDS
    )
    assert {values.device.type for values in observed.values()} == {"meta"}
    assert {values.shape for values in observed.values()} == {(8,)}
    rows = reading(4 if shape == (8, 4) else 2).observe(logits, target, 8, fields=("loss", PROBABILITIES))[
        PROBABILITIES
    ]
    assert (rows.device.type, rows.dtype, len(rows), rows.ndim) == ("meta", torch.float16, 8, 2)


@pytest.mark.parametrize("link", [AS_LOGITS, LOG, LOGIT])
@pytest.mark.parametrize(
    ("task", "outputs", "target"),
    [
        (ClassTask("cross_entropy", 2, (), encoding="float"), (8,), torch.zeros(8)),
        (ClassTask("cross_entropy", 4, (), encoding="one_hot"), (8, 4), torch.zeros(8, 4, dtype=torch.int64)),
        (SoftTask("soft_cross_entropy", 4, ()), (8, 4), torch.zeros(8, 4)),
        (MultiLabelTask("binary_cross_entropy", None, ()), (8, 4), torch.zeros(8, 4)),
        (DenseTask("mean_cross_entropy", None, (-100, 255)), (8, 4, 5), torch.zeros(8, 5, dtype=torch.int64)),
        (DenseTask("mean_cross_entropy"), (8, 1, 5, 5), torch.zeros(8, 1, 5, 5)),
        (RegressionTask("mse_loss"), (8, 3), torch.zeros(8, 3)),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'encoding', '')}" if isinstance(value, Task) else "",
)
def test_no_task_reads_anything_back(task: Task, outputs: tuple[int, ...], target: Tensor, link: str) -> None:
    observed = Reading(task, link=link).observe(
        torch.empty(outputs, device="meta"), target.to("meta"), 8, fields=PROBE_FIELDS
    )
    assert {values.device.type for values in observed.values()} == {"meta"}
    assert {values.shape for values in observed.values()} == {(8,)}
    assert {*task.fields, *task.marks} <= observed.keys()


# ------------------------------------------------------------------------------------- training is untouched


def trained(*callbacks: Callback, **options: Any) -> list[Tensor]:
    """Everything that a fit leaves behind: losses, weights, optimizer state and the random streams."""
    seed_everything(11, verbose=False)
    module = Net("adam")
    made = fit(module, *callbacks, data=loader(Points(augment=True)), **options)
    optimizer = [value for held in made.optimizers[0].state.values() for value in held.values()]
    streams = [torch.get_rng_state(), torch.cuda.get_rng_state()]
    values = [torch.tensor(module.losses), *module.state_dict().values(), *optimizer, *streams]
    return [torch.as_tensor(value).cpu() for value in values]


@pytest.fixture
def _any_algorithm() -> Any:
    yield
    torch.use_deterministic_algorithms(False)  # Trainer(deterministic=True) leaves it on


@on_gpu
@pytest.mark.usefixtures("_any_algorithm")
@pytest.mark.parametrize(
    "options", [{}, {"precision": "bf16-mixed"}, {"precision": "16-mixed"}, {"deterministic": True}]
)
def test_bit_identical_with_and_without(options: dict[str, Any], tmp_path: Path) -> None:
    without = trained(**options)
    observed = trained(EasinessCallback(tmp_path, at_steps=(0, 3), probe_batch_size=13), **options)
    assert len(without) == len(observed)
    for number, (left, right) in enumerate(zip(without, observed, strict=True)):
        assert torch.equal(left, right), number
    assert EasinessRecord.load(tmp_path).num_checkpoints == 4


# ------------------------------------------------------------------------------------ the numbers of the CPU


@on_gpu
def test_the_probe_has_the_numbers_of_a_forward_on_the_cpu(tmp_path: Path) -> None:
    module = Net()
    fit(module, EasinessCallback(tmp_path, online=False))
    check(EasinessRecord.load(tmp_path), -1, eval_forward(module), Points())


@on_gpu
def test_online_has_the_numbers_of_the_training_step(tmp_path: Path) -> None:
    module = Net()
    fit(module, EasinessCallback(tmp_path, probe=None), data=loader(Points(48)), max_epochs=1)  # six full batches
    record = EasinessRecord.load(tmp_path, series="train-online")
    assert float(record.loss.mean()) == pytest.approx(sum(module.losses) / len(module.losses), abs=1e-5)
    assert torch.equal(record.target, Points(48).y)


@on_gpu
@pytest.mark.parametrize(
    "case", [case for case in CASES if "generator" not in case.options], ids=lambda case: case.owner
)
def test_a_function_gives_what_it_gives_on_the_cpu(case: Any) -> None:
    expected = case()
    found = case(**{name: tensor.to(DEVICE) for name, tensor in case.inputs.items()})
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == DEVICE or not case.is_per_example
        # orders, counts and levels exactly
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-5, atol=1e-6)
