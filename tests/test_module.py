"""SELModule in real fits: its value, its schedule, what it logs, and that a module is otherwise as it was."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import lightning_easiness
from lightning_easiness import SELModule
from lightning_easiness.losses import WeighsExamples
from tests.functional import loss_references as reference
from tests.functional import references
from tests.functional.test_sample_easiness_loss import Reads
from tests.small import NUM_CLASSES, Points, loader, trainer

TRAINING = ("easiness/sel", "easiness/sel_weight", "easiness/medium_sample_rate", "easiness/sample_easiness_error")
SIGMA2 = 1e-2


class Net(SELModule, LightningModule):
    """Keeps what it gave to `sel`, by stage, and what it got."""

    sel_weight = 0.5
    sel_sigma2 = SIGMA2

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))
        self.seen: list[tuple[str, int, Tensor, Tensor, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return 12 * self.net(x)  # wide enough for all levels of easiness

    def step(self, stage: str, batch: Any) -> Tensor:
        x, y = batch
        logits = self(x)
        value = self.sel(logits, y)
        stage = "sanity" if self._trainer is not None and self.trainer.sanity_checking else stage
        self.seen.append((stage, self.current_epoch, logits.detach().clone(), y, float(value.detach())))
        return nn.functional.cross_entropy(logits, y) + value

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.step("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)


class Keeps(Logger):
    """Keeps each epoch's metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        return "keeps"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append(metrics)

    def of(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.metrics if name in metrics]


def fit(module: LightningModule, *, epochs: int = 1, val: Any = None, **options: Any) -> Keeps:
    """Trains on 21 examples in batches of 8, 8 and 5."""
    kept = Keeps()
    fit = trainer(max_epochs=epochs, logger=kept, **options)
    fit.fit(module, loader(Points(21), shuffle=False), val)
    return kept


def mean_sel(logits: Tensor, target: Tensor, **options: Any) -> float:
    options = {"sigma2": SIGMA2, **options}
    losses = [
        reference.sample_easiness_loss(row, label, **options)
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    return math.fsum(losses) / len(losses)


def of_epoch(module: Any, stage: str, epoch: int) -> tuple[Tensor, Tensor]:
    """All logits and targets of one epoch."""
    entries = [entry for entry in module.seen if entry[:2] == (stage, epoch)]
    return torch.cat([entry[2] for entry in entries]), torch.cat([entry[3] for entry in entries])


def batch(size: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, NUM_CLASSES, generator=generator, dtype=torch.float64).to(dtype),
        torch.randint(NUM_CLASSES, (size,), generator=generator),
    )


# ------------------------------------------------------------------------------------ without a Trainer


def test_it_is_public_and_weighs_examples() -> None:
    assert "SELModule" in lightning_easiness.__all__
    assert issubclass(SELModule, WeighsExamples)


def test_the_defaults_are_those_of_the_paper() -> None:
    settings = (SELModule.sel_weight, SELModule.sel_sigma2, SELModule.sel_floor)
    assert settings == (0.1, 1e-4, math.log(1e-7))
    assert (SELModule.sel_start_epoch, SELModule.sel_warmup_epochs, SELModule.sel_ignore_index) == (0, 0, -100)


class Lightning(SELModule, LightningModule): ...


class LightningFirst(LightningModule, SELModule): ...


class Module(SELModule, nn.Module): ...


class Alone(SELModule): ...


every_kind = pytest.mark.parametrize("kind", [Lightning, LightningFirst, Module, Alone])


@every_kind
def test_the_value_is_weight_times_the_mean_of_the_reference(kind: Any) -> None:
    module = kind()
    logits, target = batch()
    value = module.sel(logits, target)
    assert value.shape == ()
    assert value.item() == pytest.approx(0.1 * mean_sel(logits, target, sigma2=1e-4), rel=1e-9)


@every_kind
def test_settings_of_a_class_and_of_an_object(kind: Any) -> None:
    class Mine(kind):
        sel_weight = 0.7
        sel_floor = -3.0

        def __init__(self) -> None:
            super().__init__()
            self.sel_sigma2 = 1e-3

    logits, target = batch()
    wanted = mean_sel(logits, target, sigma2=1e-3, floor=-3.0)
    module = Mine()
    assert module.sel(logits, target).item() == pytest.approx(0.7 * wanted, rel=1e-9)
    module.sel_weight = 2.0
    assert module.sel(logits, target).item() == pytest.approx(2 * wanted, rel=1e-9)
    assert kind().sel(logits, target).item() == pytest.approx(0.1 * mean_sel(logits, target, sigma2=1e-4), rel=1e-9)


def test_no_floor() -> None:
    module = Lightning()
    module.sel_floor = None
    logits, target = torch.tensor([[0.0, 5.0]], dtype=torch.float64), torch.tensor([0])
    wanted = 0.1 * mean_sel(logits, target, sigma2=1e-4, floor=None)
    assert module.sel(logits, target).item() == pytest.approx(wanted, rel=1e-9)


def test_its_gradient_is_that_of_the_reference() -> None:
    module = Lightning()
    module.sel_sigma2, module.sel_floor = SIGMA2, -30.0
    logits, target = batch()
    logits.requires_grad_()
    module.sel(logits, target).backward()
    for example, label in enumerate(target.tolist()):
        wanted = reference.slopes(
            lambda row: reference.sample_easiness_loss(row, label, SIGMA2, -30.0),  # noqa: B023
            logits[example].tolist(),
        )
        assert logits.grad is not None
        assert logits.grad[example].tolist() == pytest.approx([0.1 * slope / 6 for slope in wanted], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("ignore_index", [-100, 2, 255])
def test_what_is_ignored_is_in_no_mean(ignore_index: int) -> None:
    module = Lightning()
    module.sel_ignore_index = ignore_index
    logits, target = batch()
    target[1::3] = ignore_index
    kept = target != ignore_index
    wanted = 0.1 * mean_sel(logits[kept], target[kept], sigma2=1e-4)
    assert module.sel(logits, target).item() == pytest.approx(wanted, rel=1e-9)


@every_kind
def test_weights_of_examples_count_in_training_alone(kind: Any) -> None:
    module, (logits, target) = kind(), batch()
    plain = module.sel(logits, target).item()
    given = [0.0, 1.0, 4.0, 2.0, 0.5, 1.0]
    module.sample_weight = torch.tensor(given, dtype=torch.float64)
    losses = [mean_sel(logits[[i]], target[[i]], sigma2=1e-4) for i in range(6)]
    wanted = math.fsum(loss * weight for loss, weight in zip(losses, given, strict=True)) / 6
    assert module.sel(logits, target).item() == pytest.approx(0.1 * wanted, rel=1e-9)
    assert module.sample_weight_used is False, "a term beside the loss does not tell that the loss takes the weights"
    module.weighted_mean(torch.zeros(6, dtype=torch.float64))
    assert module.sample_weight_used is True
    if isinstance(module, nn.Module):
        module.eval()
        assert module.sel(logits, target).item() == pytest.approx(plain, rel=1e-12)
    module.sample_weight = torch.ones(5)
    if isinstance(module, nn.Module):
        module.train()
    with pytest.raises(ValueError, match=r"(sample_weight|losses)"):
        module.sel(logits, target)


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_at_weight_0_nothing_is_computed() -> None:
    module, (logits, target) = Lightning(), batch()
    logits.requires_grad_()
    with Operations() as operations:
        module.sel(logits, target)
    assert "aten::special_log_ndtr" in operations.names, "the watch itself"
    module.sel_weight = 0.0
    with Operations() as operations:
        value = module.sel(logits, target)
    assert "aten::special_log_ndtr" not in operations.names
    assert value.shape == ()
    assert value.item() == 0
    (nn.functional.cross_entropy(logits, target) + value).backward()
    wanted = torch.autograd.grad(nn.functional.cross_entropy(logits, target), logits)[0]
    assert torch.equal(logits.grad, wanted)


def test_at_weight_0_an_unknown_output_is_no_unknown_loss() -> None:
    module = Lightning()
    module.sel_weight = 0.0
    assert module.sel(torch.full((2, 3), math.nan), torch.tensor([0, 1])).item() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_smaller_types(dtype: torch.dtype) -> None:
    logits, target = batch(dtype=dtype)
    wanted = 0.1 * mean_sel(logits, target, sigma2=1e-4)
    assert Lightning().sel(logits, target).item() == pytest.approx(wanted, rel=max(1e-3, 2 * torch.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sel_sigma2", 0.0),
        ("sel_sigma2", -1.0),
        ("sel_floor", 0.5),
        ("sel_weight", -0.1),
        ("sel_weight", math.nan),
        ("sel_start_epoch", -1),
        ("sel_warmup_epochs", -1),
    ],
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    module = Lightning()
    setattr(module, name, value)
    with pytest.raises(ValueError, match=name.removeprefix("sel_")) as caught:
        module.sel(*batch())
    assert f"got {value}" in str(caught.value)


def test_a_target_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"`target`.*got 7"):
        Lightning().sel(batch()[0], torch.full((6,), 7))


def test_soft_targets_and_other_shapes_are_named() -> None:
    logits, target = batch()
    with pytest.raises((TypeError, ValueError), match=r"`target`.*argmax"):
        Lightning().sel(logits, logits.softmax(1))
    with pytest.raises(ValueError, match="`target`"):
        Lightning().sel(logits, target[:3])
    with pytest.raises(ValueError, match="`logits`"):
        Lightning().sel(logits[:, :1], target)


# torch's compiler looks at gradients of what stands between two graphs
between_graphs = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@between_graphs
def test_a_traced_graph_gives_the_same() -> None:
    class Compiled(SELModule, LightningModule):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, target) + self.sel(logits, target)

    module, (logits, target) = Compiled(), batch(dtype=torch.float32)
    ends = []
    for function in (module, torch.compile(module, backend="aot_eager")):
        rows = logits.clone().requires_grad_()
        value = function(rows, target)
        value.backward()
        ends.append((value.detach(), rows.grad))
    torch.testing.assert_close(*ends)


# -------------------------------------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("start", "warmup", "factors"),
    [
        (0, 0, [1, 1, 1]),
        (2, 0, [0, 0, 1, 1]),
        (0, 2, [1 / 3, 2 / 3, 1, 1]),
        (1, 3, [0, 1 / 4, 2 / 4, 3 / 4, 1, 1]),
        (9, 1, [0, 0]),
    ],
)
def test_the_weight_starts_and_rises_by_epochs(start: int, warmup: int, factors: list[float]) -> None:
    module = Net()
    module.sel_start_epoch, module.sel_warmup_epochs = start, warmup
    kept = fit(module, epochs=len(factors))
    assert len(module.seen) == 3 * len(factors)
    for _, epoch, logits, target, value in module.seen:
        if factors[epoch]:
            assert value == pytest.approx(0.5 * factors[epoch] * mean_sel(logits, target), rel=1e-3)
        else:
            assert value == 0
    assert kept.of("easiness/sel_weight") == pytest.approx([0.5 * factor for factor in factors])


def test_a_weight_of_0_trains_as_without_it() -> None:
    """To the bit."""

    class Without(Net):
        def sel(self, logits: Tensor, target: Tensor) -> Tensor:
            return torch.zeros(())

    ends = []
    for kind in (Without, Net):
        seed_everything(3, verbose=False)
        module = kind()
        module.sel_weight = 0.0
        fit(module, epochs=2)
        ends.append(module.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_weight_other_than_0_trains_otherwise() -> None:
    ends = []
    for weight in (0.0, 0.5):
        seed_everything(3, verbose=False)
        module = Net()
        module.sel_weight = weight
        fit(module)
        ends.append(module.net[0].weight.detach().clone())
    assert not torch.equal(*ends)


# --------------------------------------------------------------------------------------------- what it logs


def expected(logits: Tensor, target: Tensor) -> dict[str, float]:
    """The numbers of all examples of an epoch, by the slow references."""
    easiness = references.sample_easiness(logits.tolist(), target.tolist(), SIGMA2)
    correct = (logits.argmax(1) == target).tolist()
    return {
        "sel": mean_sel(logits, target),
        "medium_sample_rate": references.medium_sample_rate(easiness, 5e-4),
        "sample_easiness_error": references.expected_sample_easiness_error(easiness, correct, 5, False),
    }


def test_it_logs_the_epochs_numbers_of_every_stage() -> None:
    """Over the examples of the epoch, the last batch of which is smaller: not the mean of the batches' numbers."""
    seed_everything(1, verbose=False)
    module = Net()
    val, test = loader(Points(19, seed=1), shuffle=False), loader(Points(11, seed=2), shuffle=False)
    kept = fit(module, epochs=2, val=val)
    tested = trainer(logger=False).test(module, test, verbose=False)[0]
    for epoch in range(2):
        for stage, prefix in (("train", ""), ("val", "val_")):
            for name, wanted in expected(*of_epoch(module, stage, epoch)).items():
                assert kept.of(f"easiness/{prefix}{name}")[epoch] == pytest.approx(wanted, rel=1e-3, abs=1e-4), name
    examples = [entry for entry in module.seen if entry[0] == "test"]
    of_test = torch.cat([entry[2] for entry in examples]), torch.cat([entry[3] for entry in examples])
    for name, wanted in expected(*of_test).items():
        assert tested[f"easiness/test_{name}"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    assert 0 < kept.of("easiness/medium_sample_rate")[0] < 1, "else the test says little"


def test_the_names_that_it_logs() -> None:
    module = Net()
    kept = fit(module, val=loader(Points(9, seed=1), shuffle=False))
    names = {name for metrics in kept.metrics for name in metrics if name != "epoch"}
    assert set(TRAINING) <= names
    others = names - set(TRAINING)
    assert {"easiness/val_sel", "easiness/val_medium_sample_rate", "easiness/val_sample_easiness_error"} <= others
    assert all(name.startswith("easiness/val_") for name in others)
    assert not any(name.endswith(("_step", "_epoch")) for name in names)


def test_weights_of_examples_and_the_schedule_are_not_in_the_logged_loss() -> None:
    class Weighted(Net):
        def step(self, stage: str, batch: Any) -> Tensor:
            self.sample_weight = torch.full((len(batch[1]),), 3.0)
            return super().step(stage, batch)

    module = Weighted()
    module.sel_warmup_epochs = 4
    kept = fit(module)
    logits, target = of_epoch(module, "train", 0)
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-3)
    values = [entry[4] for entry in module.seen]
    wanted = [3 * 0.5 / 5 * mean_sel(entry[2], entry[3]) for entry in module.seen]
    assert values == pytest.approx(wanted, rel=1e-3)


def test_several_calls_in_a_step() -> None:
    class Twice(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.step("train", batch) + self.step("train", batch)

    module = Twice()
    kept = fit(module)
    logits, target = of_epoch(module, "train", 0)
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-3)
    rate = expected(logits, target)["medium_sample_rate"]
    assert kept.of("easiness/medium_sample_rate") == pytest.approx([rate], abs=1e-5)


def test_outside_a_fit_it_logs_nothing() -> None:
    """Also after one, when the Trainer is still known."""
    module = Net()
    fit(module)
    value = module.sel(*batch(dtype=torch.float32))
    assert value.item() == pytest.approx(0.5 * mean_sel(*batch(dtype=torch.float32)), rel=1e-3)


def test_a_fit_without_a_logger() -> None:
    module = Net()
    fit = trainer(max_epochs=1)
    fit.fit(module, loader(Points(21)))
    assert set(TRAINING) <= set(fit.callback_metrics)


def test_a_monitor_may_be_one_of_its_numbers(tmp_path: Path) -> None:
    monitor = ModelCheckpoint(tmp_path, monitor="easiness/val_sel", mode="min")
    fit(Net(), val=loader(Points(9, seed=1), shuffle=False), callbacks=[monitor], enable_checkpointing=True)
    assert monitor.best_model_score is not None


def test_a_validation_without_a_fit() -> None:
    module = Net()
    found = trainer().validate(module, loader(Points(19, seed=1), shuffle=False), verbose=False)[0]
    for name, wanted in expected(*of_epoch(module, "val", 0)).items():
        assert found[f"easiness/val_{name}"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_validations_within_an_epoch() -> None:
    """Each has numbers of its own, and the epoch's are not cut by them."""
    module = Net()
    kept = fit(module, val=loader(Points(13, seed=1), shuffle=False), val_check_interval=1 / 3)
    entries = [entry for entry in module.seen if entry[0] == "val"]
    assert len(entries) == 3 * 2
    for run in range(3):
        logits, target = (torch.cat([entry[part] for entry in entries[2 * run : 2 * run + 2]]) for part in (2, 3))
        for name, wanted in expected(logits, target).items():
            assert kept.of(f"easiness/val_{name}")[run] == pytest.approx(wanted, rel=1e-3, abs=1e-4), name
    for name, wanted in expected(*of_epoch(module, "train", 0)).items():
        assert kept.of(f"easiness/{name}") == pytest.approx([wanted], rel=1e-3, abs=1e-4), name


def test_several_validation_loaders() -> None:
    """Each has numbers of its own, under the names that Lightning gives."""

    class Several(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.step(f"val {dataloader_idx}", batch)

    module = Several()
    kept = fit(module, val=[loader(Points(size, seed=size), shuffle=False) for size in (9, 14)])
    for index in range(2):
        for name, wanted in expected(*of_epoch(module, f"val {index}", 0)).items():
            found = kept.of(f"easiness/val_{name}/dataloader_idx_{index}")
            assert found == pytest.approx([wanted], rel=1e-3, abs=1e-4), name


def test_a_fit_that_was_broken_off_leaves_nothing_in_the_next() -> None:
    class Breaks(Net):
        broken = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 2 and not self.broken:
                self.broken = True
                raise RuntimeError("broken off")
            return super().training_step(batch, batch_idx)

    module = Breaks()
    with pytest.raises(RuntimeError, match="broken off"):
        fit(module)
    module.seen.clear()
    kept = fit(module)
    for name, wanted in expected(*of_epoch(module, "train", 0)).items():
        assert kept.of(f"easiness/{name}") == pytest.approx([wanted], rel=1e-3, abs=1e-4), name


def test_a_step_reads_nothing_back() -> None:
    """Also what is logged waits for its device at the epoch's end alone."""

    class Watched(Net):
        def sel(self, logits: Tensor, target: Tensor) -> Tensor:
            with Reads():
                return super().sel(logits, target)

    module = Watched()
    kept = fit(module, val=loader(Points(9, seed=1), shuffle=False))
    assert kept.of("easiness/sel")


def test_hooks_stay_the_users() -> None:
    """A module that overrides every hook, and calls none of the mixin's, logs as another does."""

    def nothing(self: Any, *args: Any, **kwargs: Any) -> None: ...

    hooks = [
        f"on_{stage}_{when}"
        for stage in (
            "train",
            "train_epoch",
            "train_batch",
            "validation",
            "validation_epoch",
            "validation_batch",
            "fit",
        )
        for when in ("start", "end")
    ]
    others = ["setup", "teardown", "on_save_checkpoint", "on_load_checkpoint", "on_before_zero_grad"]
    kind = type("Overrides", (Net,), dict.fromkeys([*hooks, *others], nothing))
    module = kind()
    kept = fit(module, epochs=2, val=loader(Points(9, seed=1), shuffle=False))
    for epoch in range(2):
        for stage, prefix in (("train", ""), ("val", "val_")):
            for name, wanted in expected(*of_epoch(module, stage, epoch)).items():
                assert kept.of(f"easiness/{prefix}{name}")[epoch] == pytest.approx(wanted, rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize(
    "options", [{"fast_dev_run": 2, "enable_progress_bar": False}, {"barebones": True, "max_epochs": 1}]
)
@pytest.mark.filterwarnings("ignore:.*barebones:UserWarning")
def test_other_ways_to_run(options: dict[str, Any]) -> None:
    module = Net()
    made = Trainer(accelerator="cpu", devices=1, **options)
    made.fit(module, loader(Points(21)))
    assert module.seen


def test_predict() -> None:
    module = Net()
    module.predict_step = lambda batch, batch_idx: module.sel(module(batch[0]), batch[1])  # type: ignore[method-assign]
    values = trainer().predict(module, loader(Points(9), shuffle=False))
    assert len(values) == 2


# --------------------------------------------------------------------------------- a module as it was


def test_no_state_is_added(tmp_path: Path) -> None:
    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))

    module = Net(rate=0.05)
    module.sel_warmup_epochs = 2
    keys = list(Plain().state_dict())
    assert list(module.state_dict()) == keys
    kept = trainer(max_epochs=1, logger=False)
    kept.fit(module, loader(Points(21)), loader(Points(9), shuffle=False))
    assert list(module.state_dict()) == keys
    assert list(dict(module.named_parameters())) == keys
    kept.save_checkpoint(tmp_path / "kept.ckpt")
    stored = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert list(stored["state_dict"]) == keys
    assert stored["hyper_parameters"] == {"rate": 0.05}
    Plain().load_state_dict(stored["state_dict"])
    again = Net.load_from_checkpoint(tmp_path / "kept.ckpt", weights_only=True)
    assert again.hparams.rate == 0.05
    assert all(torch.equal(again.state_dict()[name], module.state_dict()[name]) for name in keys)


def test_a_checkpoint_of_a_module_without_it_goes_on_with_it(tmp_path: Path) -> None:
    class Without(Net):
        def sel(self, logits: Tensor, target: Tensor) -> Tensor:
            return torch.zeros(())

    first = trainer(max_epochs=1)
    first.fit(Without(), loader(Points(21)))
    first.save_checkpoint(tmp_path / "kept.ckpt")
    module = Net()
    trainer(max_epochs=2).fit(module, loader(Points(21)), ckpt_path=tmp_path / "kept.ckpt")
    assert {entry[1] for entry in module.seen} == {1}


def test_resumed_equals_never_stopped(tmp_path: Path) -> None:
    def run(epochs: int, **options: Any) -> tuple[Net, Keeps]:
        seed_everything(7, verbose=False)
        module = Net()
        module.sel_start_epoch, module.sel_warmup_epochs = 1, 2
        kept = Keeps()
        made = trainer(max_epochs=epochs, logger=kept)
        made.fit(module, loader(Points(21), shuffle=False), **options)
        made.save_checkpoint(tmp_path / "kept.ckpt")
        return module, kept

    whole, of_whole = run(4)
    _, of_first = run(2)
    resumed, of_rest = run(4, ckpt_path=tmp_path / "kept.ckpt")
    assert all(torch.equal(whole.state_dict()[name], resumed.state_dict()[name]) for name in whole.state_dict())
    for name in ("easiness/sel_weight", "easiness/sample_easiness_error"):
        assert of_first.of(name) + of_rest.of(name) == of_whole.of(name)
    assert of_whole.of("easiness/sel_weight") == pytest.approx([0, 0.5 / 3, 1 / 3, 0.5])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_copy_of_the_module(when: str) -> None:
    module = Net()
    if when == "after":
        fit(module)
    again = copy.deepcopy(module)
    rows = batch(dtype=torch.float32)
    assert torch.equal(again.sel(*rows), module.sel(*rows))
    assert list(again.state_dict()) == list(module.state_dict())


def test_a_second_fit_of_the_same_module() -> None:
    module = Net()
    fit(module, epochs=2)
    module.seen.clear()
    kept = fit(module)
    logits, target = of_epoch(module, "train", 0)
    assert len(target) == 21
    for name, wanted in expected(logits, target).items():
        assert kept.of(f"easiness/{name}") == pytest.approx([wanted], rel=1e-3, abs=1e-4), (
            "nothing is left of the first"
        )


def test_the_mixin_behind_lightnings_module() -> None:
    class Behind(LightningModule, SELModule):
        __init__ = Net.__init__
        forward, step, training_step = Net.forward, Net.step, Net.training_step
        configure_optimizers = Net.configure_optimizers
        sel_weight, sel_sigma2 = 0.5, SIGMA2

    # `super()` in a borrowed function is bound to the class it was written in
    def build(self: Any) -> None:
        LightningModule.__init__(self)
        self.save_hyperparameters({"rate": 0.1})
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))
        self.seen = []

    Behind.__init__ = build  # type: ignore[method-assign]
    module = Behind()
    kept = fit(module)
    logits, target = of_epoch(module, "train", 0)
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-3)


def test_manual_optimization() -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.step("train", batch))
            optimizer.step()

    ends = []
    for kind in (Net, Manual):
        seed_everything(2, verbose=False)
        module = kind()
        kept = fit(module, epochs=2)
        ends.append((module.net[0].weight.detach(), [kept.of(name) for name in TRAINING]))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_gradients_that_are_accumulated() -> None:
    module = Net()
    kept = fit(module, accumulate_grad_batches=2)
    logits, target = of_epoch(module, "train", 0)
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-3)


def test_mixed_precision() -> None:
    module = Net()
    kept = fit(module, precision="bf16-mixed")
    logits, target = of_epoch(module, "train", 0)
    assert logits.dtype == torch.bfloat16
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-2)


@between_graphs
def test_a_compiled_module_in_a_fit() -> None:
    """What is logged breaks the graph, and no more."""

    class Short(SELModule, LightningModule):
        sel_weight, sel_sigma2 = 0.5, SIGMA2

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, NUM_CLASSES)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self.net(batch[0])
            return nn.functional.cross_entropy(logits, batch[1]) + self.sel(logits, batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    ends = []
    for compiled in (False, True):
        seed_everything(4, verbose=False)
        module = Short()
        kept = fit(torch.compile(module, backend="eager") if compiled else module)
        ends.append((module.net.weight.detach(), {name: kept.of(name)[0] for name in TRAINING}))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-5)


def test_the_global_random_stream_is_neither_read_nor_moved() -> None:
    module, rows = Net(), batch(dtype=torch.float32)
    before = torch.get_rng_state()
    module.sel(*rows)
    assert torch.equal(torch.get_rng_state(), before)
