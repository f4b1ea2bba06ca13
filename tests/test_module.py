"""SELModule in real fits: its value, settings, schedule and log, and that a module is otherwise as it was."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_easiness import SELModule
from tests.functional import loss_references as reference
from tests.functional.strategies import Reads
from tests.small import NUM_CLASSES, Points, assert_identical, loader, trainer

TRAINING = ("easiness/sel", "easiness/sel_weight", "easiness/medium_sample_rate", "easiness/sample_easiness_error")
SIGMA2 = 1e-2
SETTINGS = {
    "sel_weight": 0.1,
    "sel_sigma2": 1e-4,
    "sel_floor": math.log(1e-7),
    "sel_start_epoch": 0,
    "sel_warmup_epochs": 0,
    "sel_ignore_index": -100,
}


class Plain(LightningModule):
    """Keeps what it gave to `sel`, by stage, and what it got; saves its own argument as a hyperparameter."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))
        self.seen: list[tuple[str, int, Tensor, Tensor, float]] = []

    def sel(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.zeros(())

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


class Net(SELModule, Plain):
    """The mixin in front of a module that does not know it."""

    def __init__(self, rate: float = 0.1, **sel: Any) -> None:
        super().__init__(rate, **{"sel_weight": 0.5, "sel_sigma2": SIGMA2} | sel)


class Keeps(Logger):
    """Keeps each epoch's metrics, and the hyperparameters."""

    name, version = "keeps", "0"

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[dict[str, float]] = []
        self.hparams: Any = None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.hparams = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append(metrics)

    def of(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.metrics if name in metrics]


def fit(module: LightningModule, *, epochs: int = 1, val: Any = None, **options: Any) -> Keeps:
    """Trains on 21 examples in batches of 8, 8 and 5."""
    kept = Keeps()
    trainer(max_epochs=epochs, logger=kept, **options).fit(module, loader(Points(21), shuffle=False), val)
    return kept


def points(size: int, seed: int = 1) -> Any:
    return loader(Points(size, seed=seed), shuffle=False)


def mean_sel(logits: Tensor, target: Tensor, sigma2: float = SIGMA2, **options: Any) -> float:
    losses = [
        reference.sample_easiness_loss(row, label, sigma2, **options)
        for row, label in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    return math.fsum(losses) / len(losses)


def seen_of(module: Any, stage: str, epoch: int) -> tuple[Tensor, Tensor]:
    """All logits and targets of one epoch."""
    entries = [entry for entry in module.seen if entry[:2] == (stage, epoch)]
    return torch.cat([entry[2] for entry in entries]), torch.cat([entry[3] for entry in entries])


def expected(logits: Tensor, target: Tensor) -> dict[str, float]:
    """The numbers of all examples of an epoch, by the slow references."""
    return reference.easiness_numbers(logits.tolist(), target.tolist(), SIGMA2)


def assert_logged(kept: Keeps, module: Any, stage: str = "train", epoch: int = 0, suffix: str = "") -> None:
    """Over the examples of the epoch, the last batch of which is smaller: not the mean of the batches' numbers."""
    prefix = "easiness/val_" if stage.startswith("val") else "easiness/"
    for name, wanted in expected(*seen_of(module, stage, epoch)).items():
        found = kept.of(f"{prefix}{name}{suffix}")[epoch]
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-4), (stage, name)


def batch(size: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, NUM_CLASSES, generator=generator, dtype=torch.float64).to(dtype),
        torch.randint(NUM_CLASSES, (size,), generator=generator),
    )


# ------------------------------------------------------------------------------------ without a Trainer


class Lightning(SELModule, LightningModule): ...


class Behind(LightningModule, SELModule): ...


class Module(SELModule, nn.Module): ...


class Alone(SELModule): ...


every_kind = pytest.mark.parametrize("kind", [Lightning, Behind, Module, Alone])


@every_kind
def test_the_value_is_weight_times_the_mean_of_the_reference_at_its_settings(kind: Any) -> None:
    module, (logits, target) = kind(), batch()
    value = module.sel(logits, target)
    assert value.shape == ()
    assert value.item() == pytest.approx(0.1 * mean_sel(logits, target, 1e-4), rel=1e-9)
    module.sel_weight, module.sel_sigma2, module.sel_floor = 2.0, 1e-3, -3.0
    assert module.sel(logits, target).item() == pytest.approx(2 * mean_sel(logits, target, 1e-3, floor=-3.0), rel=1e-9)
    assert kind().sel_weight == 0.1
    if kind is not Behind:
        module = kind(sel_weight=2.0, sel_sigma2=1e-3, sel_floor=None)
        wanted = 2 * mean_sel(logits, target, 1e-3, floor=None)
        assert module.sel(logits, target).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("ignore_index", [-100, 2, 255])
def test_what_is_ignored_is_in_no_mean(ignore_index: int) -> None:
    logits, target = batch()
    target[1::3] = ignore_index
    kept = target != ignore_index
    value = Lightning(sel_ignore_index=ignore_index).sel(logits, target).item()
    assert value == pytest.approx(0.1 * mean_sel(logits[kept], target[kept], 1e-4), rel=1e-9)


@every_kind
def test_weights_of_examples_count_in_training_alone(kind: Any) -> None:
    module, (logits, target) = kind(), batch()
    plain = module.sel(logits, target).item()
    given = [0.0, 1.0, 4.0, 2.0, 0.5, 1.0]
    module.sample_weight = torch.tensor(given, dtype=torch.float64)
    losses = [mean_sel(logits[[i]], target[[i]], 1e-4) for i in range(6)]
    wanted = math.fsum(loss * weight for loss, weight in zip(losses, given, strict=True)) / 6
    assert module.sel(logits, target).item() == pytest.approx(0.1 * wanted, rel=1e-9)
    assert module.sample_weight_used is False, "a term beside the loss does not mean that the loss takes the weights"
    module.weighted_mean(torch.zeros(6, dtype=torch.float64))
    assert module.sample_weight_used is True
    if isinstance(module, nn.Module):
        assert module.eval().sel(logits, target).item() == pytest.approx(plain, rel=1e-12)
        module.train()
    module.sample_weight = torch.ones(5)
    with pytest.raises(ValueError, match=r"`sample_weight`"):
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
    assert (value.shape, value.item()) == ((), 0)
    (nn.functional.cross_entropy(logits, target) + value).backward()
    wanted = torch.autograd.grad(nn.functional.cross_entropy(logits, target), logits)[0]
    assert torch.equal(logits.grad, wanted)
    assert module.sel(torch.full((2, 3), math.nan), torch.tensor([0, 1])).item() == 0, "no unknown loss either"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda logits, target: (logits, torch.full((6,), 7)), r"`target`.*got 7"),
        (lambda logits, target: (logits, logits.softmax(1)), r"`target`.*argmax"),
        (lambda logits, target: (logits, target[:3]), "`target`"),
        (lambda logits, target: (logits[:, :1], target), "`logits`"),
    ],
    ids=["out of range", "probabilities", "another length", "one class"],
)
def test_bad_batches_are_named(spoil: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Lightning().sel(*spoil(*batch()))


# -------------------------------------------------------------------------------------------- the settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sel_sigma2", 0.0),
        ("sel_sigma2", -1.0),
        ("sel_floor", 0.5),
        ("sel_weight", -0.1),
        ("sel_weight", None),
        ("sel_weight", math.nan),
        ("sel_start_epoch", -1),
        ("sel_warmup_epochs", -1),
        ("sel_warmup_epochs", "a"),
    ],
)
def test_bad_settings_are_named(name: str, value: Any) -> None:
    module = Lightning()
    setattr(module, name, value)
    for call in (lambda: Lightning(**{name: value}), lambda: module.sel(*batch())):
        with pytest.raises(ValueError, match=name.removeprefix("sel_")) as caught:
            call()
        assert f"got {value}" in str(caught.value)


def test_a_setting_in_a_class_body_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        type("Mine", (SELModule, LightningModule), {"sel_weight": 0.2})
    assert str(caught.value) == (
        "The `sel_weight` of Mine must be given to __init__, not in the class body: write "
        "super().__init__(sel_weight=0.2)."
    )


class Silent(SELModule, LightningModule):
    """Saves no hyperparameters of its own."""

    def __init__(self, rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Late(Silent):
    """Saves them after the mixin has."""

    def __init__(self, rate: float = 0.1, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.save_hyperparameters()


class Behaves(SELModule, Plain):
    """In front of a module that saves its own."""


class Object(SELModule, LightningModule):
    """Takes a dictionary, and does not log it."""

    def __init__(self, conf: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters(conf, logger=False)


@pytest.mark.filterwarnings("ignore:The state dict in .* contains no parameters")
@pytest.mark.parametrize(
    ("module", "own"),
    [
        (Net(0.3, sel_weight=0.2), {"rate": 0.3, "sel_sigma2": SIGMA2}),
        (Silent(0.3, sel_weight=0.2), {}),
        (Late(0.3, sel_weight=0.2), {"rate": 0.3}),
        (Object({"rate": 0.3}, sel_weight=0.2), {"rate": 0.3}),
    ],
)
def test_settings_are_hyperparameters_beside_the_users_own(module: Any, own: dict[str, float], tmp_path: Path) -> None:
    wanted = {**SETTINGS, **own, "sel_weight": 0.2}
    assert dict(module.hparams) == dict(module.hparams_initial) == wanted
    assert module._log_hyperparams is not isinstance(module, Object)
    made = trainer()
    made.strategy.connect(module)
    made.save_checkpoint(tmp_path / "kept.ckpt")
    again = type(module).load_from_checkpoint(tmp_path / "kept.ckpt", weights_only=True)
    assert dict(again.hparams) == wanted
    if not isinstance(module, Object):
        assert again.sel_weight == 0.2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse, about Lightning
@pytest.mark.parametrize("kind", [Late, Silent, Behaves])
def test_settings_are_on_the_command_line(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fit.py"])
    arguments = ["--model.sel_weight=0.3", "--model.sel_warmup_epochs=2", "--model.rate=0.2", "--trainer.logger=false"]
    module = LightningCLI(kind, run=False, save_config_callback=None, seed_everything_default=1, args=arguments).model
    assert (module.sel_weight, module.sel_warmup_epochs) == (0.3, 2)
    assert module.hparams.sel_weight == 0.3
    assert module.hparams.get("rate") == (None if kind is Silent else 0.2)


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
    module = Net(sel_start_epoch=start, sel_warmup_epochs=warmup)
    kept = fit(module, epochs=len(factors))
    assert len(module.seen) == 3 * len(factors)
    for _, epoch, logits, target, value in module.seen:
        wanted = 0.5 * factors[epoch] * mean_sel(logits, target) if factors[epoch] else 0
        assert value == (pytest.approx(wanted, rel=1e-3) if wanted else 0)
    assert kept.of("easiness/sel_weight") == pytest.approx([0.5 * factor for factor in factors])


def test_a_weight_of_0_trains_as_without_it_to_the_bit() -> None:
    ends = []
    for make in (Plain, lambda: Net(sel_weight=0.0), Net):
        seed_everything(3, verbose=False)
        module = make()
        fit(module, epochs=2)
        ends.append(module.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert not torch.equal(ends[0]["net.0.weight"], ends[2]["net.0.weight"])


# --------------------------------------------------------------------------------------------- what it logs


def test_it_logs_the_epochs_numbers_of_every_stage() -> None:
    seed_everything(1, verbose=False)
    module = Net()
    kept = fit(module, epochs=2, val=points(19))
    for epoch in range(2):
        assert_logged(kept, module, "train", epoch)
        assert_logged(kept, module, "val", epoch)
    names = {name for metrics in kept.metrics for name in metrics if name != "epoch"}
    assert names == {name.replace("/", f"/{prefix}") for prefix in ("", "val_") for name in TRAINING}
    assert kept.hparams["sel_weight"] == 0.5
    assert 0 < kept.of("easiness/medium_sample_rate")[0] < 1, "else the test says little"
    module.seen.clear()
    made = trainer(logger=False)
    ends = made.test(module, points(11, 2), verbose=False)[0] | made.validate(module, points(19), verbose=False)[0]
    for stage in ("test", "val"):
        for name, wanted in expected(*seen_of(module, stage, 0)).items():
            assert ends[f"easiness/{stage}_{name}"] == pytest.approx(wanted, rel=1e-3, abs=1e-4)


def test_weights_of_examples_and_the_schedule_are_not_in_the_logged_loss() -> None:
    class Weighted(Net):
        def step(self, stage: str, batch: Any) -> Tensor:
            self.sample_weight = torch.full((len(batch[1]),), 3.0)
            return super().step(stage, batch)

    module = Weighted(sel_warmup_epochs=4)
    assert_logged(fit(module), module)
    values = [entry[4] for entry in module.seen]
    wanted = [3 * 0.5 / 5 * mean_sel(entry[2], entry[3]) for entry in module.seen]
    assert values == pytest.approx(wanted, rel=1e-3)


def test_validations_within_an_epoch() -> None:
    """Each has numbers of its own, and the epoch's are not cut by them."""
    module = Net()
    kept = fit(module, val=points(13), val_check_interval=1 / 3)
    entries = [entry for entry in module.seen if entry[0] == "val"]
    assert len(entries) == 3 * 2
    for run in range(3):
        logits, target = (torch.cat([entry[part] for entry in entries[2 * run : 2 * run + 2]]) for part in (2, 3))
        for name, wanted in expected(logits, target).items():
            assert kept.of(f"easiness/val_{name}")[run] == pytest.approx(wanted, rel=1e-3, abs=1e-4), name
    assert_logged(kept, module)


class Several(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.step(f"val {dataloader_idx}", batch)


def test_several_validation_loaders() -> None:
    """Each has numbers of its own, under the names that Lightning gives."""
    module = Several()
    kept = fit(module, epochs=2, val=[points(size, size) for size in (9, 14)])
    for epoch in range(2):
        for index in range(2):
            assert_logged(kept, module, f"val {index}", epoch, f"/dataloader_idx_{index}")


@pytest.mark.parametrize("same_trainer", [True, False])
def test_a_fit_that_was_broken_off_leaves_nothing_in_the_next(same_trainer: bool) -> None:
    class Breaks(Net):
        broken = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 2 and not self.broken:
                self.broken = True
                raise RuntimeError("broken off")
            return super().training_step(batch, batch_idx)

    module, kept = Breaks(), Keeps()
    made = trainer(max_epochs=1, logger=kept)
    with pytest.raises(RuntimeError, match="broken off"):
        made.fit(module, points(21))
    module.seen.clear()
    made = made if same_trainer else trainer(max_epochs=1, logger=kept)
    made.fit(module, points(21))
    assert_logged(kept, module)


class Watched(Net):
    def sel(self, logits: Tensor, target: Tensor) -> Tensor:
        with Reads():
            return super().sel(logits, target)


PARTS = ("train", "train_epoch", "train_batch", "validation", "validation_epoch", "validation_batch", "fit")
HOOKS = [f"on_{part}_{when}" for part in PARTS for when in ("start", "end")]
HOOKS += ["setup", "teardown", "on_save_checkpoint", "on_load_checkpoint", "on_before_zero_grad"]


def test_a_step_reads_nothing_back_and_hooks_stay_the_users(tmp_path: Path) -> None:
    """A module that overrides every hook, and calls none of the mixin's, logs as another does; monitors see it."""
    module = type("Overrides", (Watched,), dict.fromkeys(HOOKS, lambda self, *args, **kwargs: None))()
    monitor = ModelCheckpoint(tmp_path, monitor="easiness/val_sel", mode="min")
    kept = fit(module, epochs=2, val=points(9), callbacks=[monitor], enable_checkpointing=True)
    for epoch in range(2):
        assert_logged(kept, module, "train", epoch)
        assert_logged(kept, module, "val", epoch)
    assert float(monitor.best_model_score) == pytest.approx(min(kept.of("easiness/val_sel")))


@pytest.mark.parametrize(
    "options", [{"fast_dev_run": 2, "enable_progress_bar": False}, {"barebones": True, "max_epochs": 1}]
)
@pytest.mark.filterwarnings("ignore:.*barebones:UserWarning")
def test_other_ways_to_run(options: dict[str, Any]) -> None:
    module = Net()
    made = Trainer(accelerator="cpu", devices=1, **options)
    made.fit(module, loader(Points(21)))
    assert module.seen
    assert options.get("barebones") or set(TRAINING) <= set(made.callback_metrics), "also without a logger"
    module.predict_step = lambda batch, batch_idx: module.sel(module(batch[0]), batch[1])  # type: ignore[method-assign]
    assert len(trainer().predict(module, points(9))) == 2


# --------------------------------------------------------------------------------- a module as it was


def test_no_state_is_added_and_checkpoints_of_a_module_without_it_go_on_with_it(tmp_path: Path) -> None:
    module, plain, path = Net(rate=0.05), Plain(), tmp_path / "kept.ckpt"
    made = trainer(max_epochs=1)
    made.fit(module, loader(Points(21)), points(9))
    keys = list(plain.state_dict())
    assert list(module.state_dict()) == list(dict(module.named_parameters())) == keys
    assert [name for name, _ in module.named_children()] == ["net"]
    made.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    assert stored["hyper_parameters"] == {**SETTINGS, "rate": 0.05, "sel_weight": 0.5, "sel_sigma2": SIGMA2}
    plain.load_state_dict(stored["state_dict"])
    again = Net.load_from_checkpoint(path, weights_only=True)
    assert again.hparams.rate == 0.05
    assert_identical(again.state_dict(), module.state_dict())
    first = trainer(max_epochs=1)
    first.fit(plain, loader(Points(21)))
    first.save_checkpoint(path)
    module = Net()
    trainer(max_epochs=2).fit(module, loader(Points(21)), ckpt_path=path)
    assert {entry[1] for entry in module.seen} == {1}


def test_resumed_equals_never_stopped(tmp_path: Path) -> None:
    def run(epochs: int, **options: Any) -> tuple[Net, Keeps]:
        seed_everything(7, verbose=False)
        module, kept = Net(sel_start_epoch=1, sel_warmup_epochs=2), Keeps()
        made = trainer(max_epochs=epochs, logger=kept)
        made.fit(module, loader(Points(21), shuffle=False), **options)
        made.save_checkpoint(tmp_path / "kept.ckpt")
        return module, kept

    whole, of_whole = run(4)
    _, of_first = run(2)
    resumed, of_rest = run(4, ckpt_path=tmp_path / "kept.ckpt")
    assert_identical(whole.state_dict(), resumed.state_dict())
    for name in ("easiness/sel_weight", "easiness/sample_easiness_error"):
        assert of_first.of(name) + of_rest.of(name) == of_whole.of(name)
    assert of_whole.of("easiness/sel_weight") == pytest.approx([0, 0.5 / 3, 1 / 3, 0.5])


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_copy_and_a_second_fit_of_the_same_module(epochs: int) -> None:
    module = Net()
    if epochs:
        fit(module, epochs=2)
        module.seen.clear()
    again = copy.deepcopy(module)
    rows = batch(dtype=torch.float32)
    assert torch.equal(again.sel(*rows), module.sel(*rows))
    for one in (again, module):
        kept = fit(one)
        assert len(seen_of(one, "train", 0)[1]) == 21, "nothing is left of the first"
        assert_logged(kept, one)


class Manual(Net):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.step("train", batch))
        optimizer.step()


def test_manual_optimization_trains_and_logs_as_lightnings() -> None:
    ends = []
    for kind in (Net, Manual):
        seed_everything(2, verbose=False)
        module = kind()
        kept = fit(module, epochs=2)
        ends.append((module.net[0].weight.tolist(), [kept.of(name) for name in TRAINING]))
    assert ends[0] == ends[1]


class Inherits(LightningModule, SELModule):
    """Has the mixin behind Lightning's module."""

    forward, step, training_step = Plain.forward, Plain.step, Plain.training_step
    configure_optimizers = Plain.configure_optimizers

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1})
        self.sel_weight, self.sel_sigma2 = 0.5, SIGMA2
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, NUM_CLASSES))
        self.seen: list[Any] = []


class Twice(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step("train", batch) + self.step("train", batch)


@pytest.mark.parametrize(("kind", "options"), [(Inherits, {}), (Twice, {"accumulate_grad_batches": 2})])
def test_it_logs_from_behind_and_of_several_calls_in_a_step(kind: Any, options: dict[str, Any]) -> None:
    module = kind()
    assert_logged(fit(module, **options), module)


def test_mixed_precision() -> None:
    module = Net()
    kept = fit(module, precision="bf16-mixed")
    logits, target = seen_of(module, "train", 0)
    assert logits.dtype == torch.bfloat16
    assert kept.of("easiness/sel") == pytest.approx([mean_sel(logits, target)], rel=1e-2)


# torch's compiler looks at gradients of what stands between two graphs
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_module_in_a_fit() -> None:
    """What is logged breaks the graph, and no more: values, gradients and the log are the same."""

    class Short(SELModule, LightningModule):
        def __init__(self) -> None:
            super().__init__(sel_weight=0.5, sel_sigma2=SIGMA2)
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
        kept = fit(torch.compile(module, backend="aot_eager") if compiled else module)
        ends.append((module.net.weight.detach(), {name: kept.of(name)[0] for name in TRAINING}))
    torch.testing.assert_close(ends[0][0], ends[1][0])
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-5)
