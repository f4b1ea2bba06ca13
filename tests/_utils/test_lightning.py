"""What the package needs of Lightning beyond its public interface, each by name: a new Lightning fails here."""

from __future__ import annotations

import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader
from torchmetrics import SumMetric

from lightning_easiness._utils import lightning as private
from tests.selecting import Base, SavesHyperparameters
from tests.small import Net, Points, loader, trainer


class Asks(Callback):
    """Asks a function in some hook of a fit, and keeps the answers."""

    def __init__(self, hook: str, ask: Any) -> None:
        self.answers: list[Any] = []
        setattr(self, hook, lambda trainer, module, *rest: self.answers.append(ask(trainer, module, *rest)))


def asked(hook: str, ask: Any, **options: Any) -> list[Any]:
    callback = Asks(hook, ask)
    trainer(callbacks=[callback], **options).fit(Net(), loader(Points(16), batch_size=8))
    return callback.answers


class Raw(Net):
    """Steps by torch's own optimizer."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        loss = Net.training_step(self, batch, batch_idx)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Scheduled(Net):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Iterates(LightningModule):
    def training_step(self, dataloader_iter):
        raise AssertionError


class Hooked(Callback):
    """Hooks a method of the strategy, for the fit."""

    def __init__(self, method: str, **functions: Any) -> None:
        self.method, self.functions = method, functions

    def setup(self, trainer, pl_module, stage):
        self.hook = private.StrategyHook(
            trainer, self.method, **{when: partial(function, trainer) for when, function in self.functions.items()}
        )

    def teardown(self, trainer, pl_module, stage):
        self.hook.remove()


def test_what_is_asked_of_modules_and_trainers() -> None:
    assert private.is_named(Net(), "LightningModule"), "by its bases"
    assert not private.is_named(Net(), "LightningDataModule")
    assert (private.defines_forward(Net()), private.defines_forward(LightningModule())) == (True, False)
    assert (private.takes_dataloader_iter(Iterates()), private.takes_dataloader_iter(Net())) == (True, False)
    assert private.trial_batches(Trainer(fast_dev_run=3, logger=False)) == 3
    assert private.trial_batches(Trainer(logger=False)) == 0
    assert private.is_writer()


def test_the_share_of_the_data_that_a_process_reads() -> None:
    assert private.data_share(None) == private.data_share(trainer()) == (0, 1)
    assert private.data_share(trainer(strategy="ddp", devices=2)) == (0, 2)


@pytest.mark.parametrize(
    ("shares", "first"), [([0, 0, 1, 1], [0, 2]), ([0, 1, 0, 1], [0, 1]), ([0, 0, 0], [0]), ([0, 1, 2], [0, 1, 2])]
)
def test_one_of_the_processes_that_read_a_share_is_the_first(shares: list[int], first: list[int]) -> None:
    def process(rank: int) -> Any:
        kwargs = {"rank": shares[rank], "num_replicas": len(set(shares))}
        strategy = SimpleNamespace(root_device="cpu", all_gather=lambda own: torch.tensor(shares))
        numbers = {"world_size": len(shares), "global_rank": rank}
        return SimpleNamespace(distributed_sampler_kwargs=kwargs, strategy=strategy, **numbers)

    assert [rank for rank in range(len(shares)) if private.is_first_of_share(process(rank))] == first


def set_and_read_metrics(trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> float:
    private.set_callback_metrics(trainer, {"ours": float(batch_idx)})
    return float(trainer.callback_metrics["ours"])


@pytest.mark.parametrize(
    ("hook", "ask", "answers"),
    [
        ("on_train_batch_end", lambda trainer, *_: private.num_steps(trainer), [1, 2]),
        ("on_before_backward", lambda trainer, *_: private.batch_is_finished(trainer), [False] * 2),
        ("on_train_epoch_end", lambda trainer, *_: private.batch_is_finished(trainer), [True]),
        ("on_train_batch_end", set_and_read_metrics, [0.0, 1.0]),
        ("on_train_start", lambda trainer, module: private.callable_module(trainer, module) is module, [True]),
    ],
    ids=["num_steps", "a batch at work", "a finished batch", "set_callback_metrics", "callable_module"],
)
def test_what_is_asked_in_a_hook(hook: str, ask: Any, answers: list[Any]) -> None:
    assert asked(hook, ask, max_epochs=1) == answers


def test_num_steps_counts_those_of_raw_optimizers() -> None:
    callback = Asks("on_train_batch_end", lambda trainer, *_: (trainer.global_step, private.num_steps(trainer)))
    module = Raw()
    module.automatic_optimization = False
    trainer(max_epochs=2, callbacks=[callback]).fit(module, loader(Points(16), batch_size=8))
    assert callback.answers == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_batch_number_right_before_the_step() -> None:
    numbers: list[int] = []

    def note(trainer: Trainer, batch: Any) -> Any:
        if trainer.training:
            numbers.append(private.batch_number(trainer))
        return batch

    hooked = Hooked("batch_to_device", after=note)
    trainer(max_epochs=2, callbacks=[hooked]).fit(Net(), loader(Points(16), batch_size=8))
    assert numbers == [0, 1, 0, 1]


def test_loads_training() -> None:
    seen: list[tuple[int, bool]] = []

    def note(trainer: Trainer, processed: DataLoader[Any]) -> None:
        if not trainer.sanity_checking:  # before the training, whose loader is not there yet
            seen.append((len(processed.dataset), private.loads_training(trainer)))

    hooked = Hooked("process_dataloader", before=note)
    fit = trainer(max_epochs=2, callbacks=[hooked], reload_dataloaders_every_n_epochs=1)
    fit.fit(Net(), loader(Points(16)), loader(Points(8), shuffle=False))
    assert seen == [(16, True), (16, True), (8, False)], "the training's, loaded again, and the validation's"


def test_logged_metric_is_one_per_hook_and_loader_and_runs_until_the_epoch_ends() -> None:
    loaders = [loader(Points(16), shuffle=False), loader(Points(8), shuffle=False)]
    seen: list[tuple[int, int, bool]] = []

    class Validates(Net):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            metric, is_running = private.logged_metric(self, "seen")
            metric = metric or SumMetric()
            seen.append((dataloader_idx, id(metric), is_running))
            self.log("seen", metric, metric_attribute="seen")
            metric.update(1.0)

    fit = trainer(max_epochs=2, num_sanity_val_steps=0)
    fit.fit(Validates(), loader(Points(16)), loaders)
    assert [is_running for _, _, is_running in seen] == [False, True, False] * 2
    assert len({(index, metric) for index, metric, _ in seen}) == 2, "one for each loader"
    assert [float(fit.callback_metrics[f"seen/dataloader_idx_{index}"]) for index in (0, 1)] == [2, 1]


@pytest.mark.parametrize("logs", [True, False])
def test_add_hparams_leaves_the_users_own_as_they_are(logs: bool) -> None:
    class Saves(Net):
        def __init__(self, conf: dict) -> None:
            super().__init__()
            self.save_hyperparameters(conf, logger=logs)

    module, plain = Saves({"rate": 0.5}), Net()
    for one in (module, plain):
        private.add_hparams(one, {"added": 1})
    assert (dict(module.hparams), module._hparams_name) == ({"rate": 0.5, "added": 1}, "conf")
    assert (module._log_hyperparams, plain._log_hyperparams, dict(plain.hparams)) == (logs, True, {"added": 1})


def test_on_device_converts_and_calls_the_users_hooks() -> None:
    class Moves(Net):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            return [batch[0] + 1, batch[1]]

    def ask(trainer: Trainer, module: Any, *rest: Any) -> bool:
        batch = [torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)]
        return float(private.on_device(trainer, module, batch)[0].max()) == 1.0

    callback = Asks("on_train_start", ask)
    trainer(max_epochs=1, callbacks=[callback]).fit(Moves(), loader(Points(16)))
    assert callback.answers == [True]


def test_as_validation_gives_the_stage_back_after_an_error() -> None:
    def ask(trainer: Trainer, module: Any) -> tuple[bool, bool]:
        inside: list[bool] = []
        with pytest.raises(ZeroDivisionError), private.as_validation(trainer):
            inside.append(trainer.training or 1 / 0)
        return inside == [], trainer.training

    assert asked("on_train_epoch_start", ask, max_epochs=1) == [(True, True)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("method", ["process_dataloader", "batch_to_device", "training_step"])
def test_strategy_hook_leaves_no_trace(method: str, order: tuple[int, int]) -> None:
    owner = trainer()
    hooks = [private.StrategyHook(owner, method) for _ in range(2)]
    assert getattr(owner.strategy, method) is hooks[1]
    for place in order:
        hooks[place].remove()
    assert method not in vars(owner.strategy)


def test_strategy_hook_sees_what_goes_in_and_changes_what_comes_out() -> None:
    owner, seen = trainer(), []
    hook = private.StrategyHook(owner, "process_dataloader", before=seen.append, after=lambda result: (result, "after"))
    assert owner.strategy.process_dataloader("given") == ("given", "after")
    hook.remove()
    assert owner.strategy.process_dataloader("given") == "given"
    assert seen == ["given"]


def test_strategy_hook_changes_the_loss_before_its_gradients() -> None:
    """Once for each step."""
    module, seen = Net(), []
    hooked = Hooked("backward", change=lambda trainer, loss: seen.append(loss.detach()) or loss * 0)
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer(callbacks=[hooked], max_epochs=1).fit(module, loader(Points(16), batch_size=8))
    assert [float(loss) for loss in seen] == module.losses
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name])


def test_accumulation_is_where_lightning_steps() -> None:
    """Of 5 batches by threes the optimizer steps at the third and at the last."""
    found, steps = [], []
    before = Hooked("batch_to_device", before=lambda made, *rest, **more: found.append(private.accumulation(made)))
    after = Asks("on_train_batch_end", lambda made, *rest: steps.append(made.global_step))
    options = {"accumulate_grad_batches": 3, "max_epochs": 1, "limit_val_batches": 0}
    trainer(callbacks=[before, after], **options).fit(Net(), loader(Points(40), batch_size=8))
    assert found == [(True, False), (False, False), (False, True), (True, False), (False, True)]
    assert steps == [0, 0, 1, 1, 2]


def test_a_batch_that_is_passed_steps_no_schedule_and_no_count() -> None:
    class Passes(Callback):
        def setup(self, trainer, pl_module, stage):
            self.passed = private.PassedBatch(trainer)
            self.hook = private.StrategyHook(trainer, "batch_to_device", after=lambda batch: self.pass_over(batch))

        def pass_over(self, batch):
            self.passed.is_passed = private.batch_number(self.made) in (1, 4)
            return None if self.passed.is_passed else batch

        def on_train_end(self, trainer, pl_module):
            self.passed.remove()
            self.hook.remove()

    passes = Passes()
    made = trainer(callbacks=[passes], max_epochs=1, limit_val_batches=0)
    passes.made = made
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*yielded None")
        made.fit(Scheduled(), loader(Points(40), batch_size=8))
    assert made.global_step == made.fit_loop.epoch_loop._batches_that_stepped == 3
    assert made.optimizers[0].param_groups[0]["lr"] == 0.5**3
    assert "_should_accumulate" not in vars(made.fit_loop.epoch_loop)


@pytest.mark.parametrize(("every", "steps"), [(1, 5), (2, 3)])
def test_steps_done_counts_within_an_epoch_and_in_all(every: int, steps: int) -> None:
    seen: list[private.StepsDone] = []

    def moves(number: int, frequency: int) -> int:
        seen.append(private.steps_done(made))
        return 1

    made = trainer(max_epochs=2, accumulate_grad_batches=every)
    hook = private.ScheduleHook(made, moves)
    made.fit(Scheduled(), loader(Points(40), batch_size=8))
    hook.remove()
    by_hand = [(epoch, step + 1, steps, epoch * steps + step + 1, 2, -1) for epoch in range(2) for step in range(steps)]
    assert [tuple(one) for one in seen] == by_hand


def test_schedule_hook_decides_how_often_a_schedule_moves() -> None:
    """It is asked once for each step and schedule, and leaves those by epoch alone."""
    asked: list[tuple[int, int]] = []

    def moves(number: int, frequency: int) -> int:
        asked.append((number, frequency))
        return 2 * (len(asked) % 2)

    module, made = Scheduled(), trainer(max_epochs=1)
    configured = module.configure_optimizers()
    by_epoch, schedule = torch.optim.lr_scheduler.StepLR(configured["optimizer"], 1), configured["lr_scheduler"]
    module.configure_optimizers = lambda: ([configured["optimizer"]], [by_epoch, schedule])
    hook = private.ScheduleHook(made, moves)
    made.fit(module, loader(Points(40), batch_size=8))
    assert asked == [(1, 1)] * 5, "of the second schedule, in five steps"
    assert (by_epoch.last_epoch, schedule["scheduler"].last_epoch) == (1, 6)
    assert "update_lr_schedulers" in vars(made.fit_loop.epoch_loop)
    hook.remove()
    assert "update_lr_schedulers" not in vars(made.fit_loop.epoch_loop)


def test_only_seeds_workers_is_what_seed_everything_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_SEED_WORKERS", "1")  # as seed_everything(workers=True) sets it
    found = asked("on_train_epoch_start", lambda trainer, module: trainer.train_dataloader.worker_init_fn, max_epochs=1)
    assert [private.only_seeds_workers(one) for one in found] == [True]
    assert not private.only_seeds_workers(print)
    assert not private.only_seeds_workers(partial(print, end=""))


def test_what_resuming_reads_is_there() -> None:
    loop = trainer().fit_loop
    for name in ("restarted_on_epoch_end", "epoch_progress", "on_iteration_done"):
        assert hasattr(loop, name), name
    for name in ("restarting", "restarted_on_train_batch_end", "batch_progress", "on_iteration_done"):
        assert hasattr(loop.epoch_loop, name), name
    assert hasattr(loop.epoch_progress, "increment_completed")


def test_restore_nested_hparams_leaves_those_alone_that_no_command_line_made() -> None:
    """tests/select/test_cli.py has a datamodule that the command line makes within another."""
    data = SavesHyperparameters(n=20)
    assert private.restore_nested_hparams(data, "datamodule") is data
    assert (dict(data.hparams), dict(data.hparams_initial)) == ({"n": 20, "batch_size": 8},) * 2
    assert "_hparams" not in vars(private.restore_nested_hparams(Base(), "datamodule"))


def test_restore_nested_hparams_finds_them_where_lightnings_command_line_puts_them() -> None:
    from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

    inner = {"class_path": "tests.selecting.SavesHyperparameters", "init_args": {"n": 20}}
    with _given_hyperparameters_context({"_class_path": "Outer", "datamodule": inner, "selection": None}, "made by"):
        data = SavesHyperparameters(n=20)
    assert "n" not in data.hparams
    private.restore_nested_hparams(data, "datamodule")
    expected = {"_class_path": inner["class_path"], "n": 20, "_instantiator": "made by"}
    assert dict(data.hparams) == dict(data.hparams_initial) == expected
    assert data.hparams.n == 20


def test_replace_saved_dataset_where_lightning_makes_the_loader_again() -> None:
    class Makes(Net):
        def train_dataloader(self):
            return loader(Points(16), batch_size=8)

    def ask(trainer: Trainer, module: Any) -> tuple[bool, bool]:
        made = trainer.fit_loop._data_source.dataloader()
        return "__pl_saved_args" in vars(made), "__pl_saved_kwargs" in vars(made)

    callback = Asks("on_train_start", ask)
    trainer(max_epochs=1, callbacks=[callback]).fit(Makes())
    # a hook's loader holds its arguments only while the hook is called under Lightning's patch
    from lightning.fabric.utilities.data import _replace_dunder_methods

    with _replace_dunder_methods(DataLoader, "dataset"):
        made = DataLoader(Points(16), batch_size=8)
    other = Points(8)
    private.replace_saved_dataset(made, made.dataset, other)
    held = vars(made)
    assert other in (*held["__pl_saved_args"], *held["__pl_saved_kwargs"].values())
    assert held["__dataset"] is other
    assert callback.answers
