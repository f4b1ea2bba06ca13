"""EasinessDataModule: the user's datamodule in all but what it trains on."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, EasinessRecord, Keep, Relabel, Selection
from tests.selecting import Base, HighestLoss, IndexedBase, IndexedPoints, Sizes, Traces, scores
from tests.small import Net, Points, assert_identical, loader, streams, trainer


def fitted(data: LightningDataModule, module: Net | None = None, **options: Any) -> dict[str, Any]:
    seed_everything(7, verbose=False)
    module = module or Net("adam")
    fit = trainer(**options)
    fit.fit(module, datamodule=data)
    optimizer = fit.optimizers[0].state_dict()
    return {
        "weights": module.state_dict(),
        "optimizer": optimizer,
        "losses": module.losses,
        "metrics": {name: value for name, value in fit.callback_metrics.items() if not name.startswith("easiness/")},
        "streams": streams(),
    }


class OverSubset(Base):
    """What users do by hand: train on a torch Subset."""

    def __init__(self, indices: list[int], **options: Any) -> None:
        super().__init__(**options)
        self.indices = indices

    def setup(self, stage: str) -> None:
        self.train = Subset(Points(self.n), self.indices)


EVERYTHING = {
    "no selection": lambda: None,
    "a ratio of nothing": lambda: Ablation(scores(), ratio=0.0),
    "all indices": lambda: Keep(range(53)),
}
LOADERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "workers": {"num_workers": 2, "persistent_workers": True},
    "generator": {"drop_last": True},
}


@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("kind", EVERYTHING)
def test_everything_kept_is_the_users_training_to_the_bit(kind: str, options: str) -> None:
    plain = fitted(Base(**LOADERS[options]))
    assert_identical(plain, fitted(EasinessDataModule(Base(**LOADERS[options]), EVERYTHING[kind]())))


@pytest.mark.parametrize("options", LOADERS)
def test_a_selection_is_training_on_a_subset_to_the_bit(options: str) -> None:
    kept = list(range(3, 50, 2))
    subset = fitted(OverSubset(kept, **LOADERS[options]))
    assert_identical(subset, fitted(EasinessDataModule(Base(**LOADERS[options]), Keep(kept))))


def test_everything_kept_is_the_users_loader_itself() -> None:
    data = loader()
    assert EasinessDataModule(data).train_dataloader() is data
    assert EasinessDataModule(data, Keep(range(53))).train_dataloader() is data


# ------------------------------------------------------------------------------------------------- hooks and state


class Recorder(LightningDataModule):
    """Writes each call of a hook down."""

    def __init__(self, n: int = 24) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.prepare_data_per_node = False
        self.calls: list[str] = []
        self.batch_size = 4
        self.seen = 0

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append(f"setup {stage} {self.trainer is not None}")

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append(f"on_exception {exception}")

    def train_dataloader(self) -> DataLoader[Any]:
        self.calls.append("train_dataloader")
        return loader(Points(24), batch_size=self.batch_size)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        self.calls.append("val_dataloader")
        return [loader(Points(8, seed=1), shuffle=False)]

    def test_dataloader(self) -> DataLoader[Any]:
        self.calls.append("test_dataloader")
        return loader(Points(8, seed=2), shuffle=False)

    def predict_dataloader(self) -> DataLoader[Any]:
        self.calls.append("predict_dataloader")
        return loader(Points(8, seed=3), shuffle=False)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append("before")
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.calls.append("transfer")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls.append("after")
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"seen": len(self.calls)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Steps(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def test_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0])


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler`")
def test_each_hook_is_forwarded_as_often_as_lightning_calls_it() -> None:
    plain, wrapped = Recorder(), Recorder()
    for data in (plain, EasinessDataModule(wrapped, Keep(range(24)))):
        fit = trainer(max_epochs=1)
        fit.fit(Steps(), datamodule=data)
        fit.validate(Steps(), datamodule=data, verbose=False)
        fit.test(Steps(), datamodule=data, verbose=False)
        fit.predict(Steps(), datamodule=data)
    assert plain.calls == wrapped.calls
    assert {call.split()[0] for call in plain.calls} >= {"prepare_data", "setup", "teardown", "transfer", "before"}


def test_every_hook_of_lightnings_datamodule_is_taken_care_of() -> None:
    """A hook that a later Lightning adds fails here, until it is forwarded."""
    ours = {"from_datasets", "load_from_checkpoint", "save_hyperparameters", "remove_ignored_hparams"}
    names = {name for name in dir(LightningDataModule) if not name.startswith("_")}
    hooks = {name for name in names - ours if callable(getattr(LightningDataModule, name))}
    wrapped = Recorder()
    data = EasinessDataModule(wrapped)
    of_wrapped = {name for name in hooks if getattr(data, name).__self__ is wrapped}
    assert hooks - of_wrapped == hooks & set(vars(EasinessDataModule)) - {"val_dataloader"}
    assert {"prepare_data", "test_dataloader", "val_dataloader", "on_after_batch_transfer"} < of_wrapped


def test_lightning_sees_which_hooks_the_user_overrides() -> None:
    hooks = ("prepare_data", "val_dataloader", "test_dataloader", "predict_dataloader", "on_before_batch_transfer")
    for wrapped in (Recorder(), Base(), LightningDataModule()):
        data = EasinessDataModule(wrapped)
        assert [is_overridden(hook, data) for hook in hooks] == [is_overridden(hook, wrapped) for hook in hooks]
    assert not is_overridden("val_dataloader", EasinessDataModule(loader()))
    assert is_overridden("val_dataloader", EasinessDataModule(loader(), val_dataloaders=loader()))


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_hooks_of_the_module_are_used_where_the_datamodule_has_none() -> None:
    class Doubles(Net):
        transferred = 0

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            self.transferred += 1
            return batch

    module = Doubles()
    trainer(max_epochs=1).fit(module, datamodule=EasinessDataModule(Base(), Keep(range(16))))
    assert module.transferred >= 2


def test_attributes_are_the_wrapped_ones_both_ways() -> None:
    wrapped = Recorder(n=24)
    data = EasinessDataModule(wrapped)
    assert data.batch_size == 4
    data.batch_size = 2
    assert wrapped.batch_size == 2
    assert data.prepare_data_per_node is False
    assert dict(data.hparams) == {"n": 24}
    assert data.hparams_initial == wrapped.hparams_initial
    fit = trainer(max_epochs=1)
    fit.fit(Steps(), datamodule=data)
    assert wrapped.trainer is fit
    assert not hasattr(data, "nothing_of_that_name")


def test_copied_and_pickled() -> None:
    data = EasinessDataModule(Base(), Keep(range(20)))
    data.setup("fit")
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert other.datamodule is not data.datamodule
        assert other.datamodule.n == 53
        assert len(other.train_dataloader().dataset) == 20


def test_an_exception_reaches_the_wrapped_one_and_the_trainer_is_as_before() -> None:
    class Fails(Steps):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise ArithmeticError("on purpose")

    wrapped = Recorder()
    fit = trainer()
    with pytest.raises(ArithmeticError):
        fit.fit(Fails(), datamodule=EasinessDataModule(wrapped, Sizes([24, 24])))
    assert "on_exception on purpose" in wrapped.calls
    assert fit.reload_dataloaders_every_n_epochs == 0


def test_the_state_of_the_wrapped_one_is_restored(tmp_path: Path) -> None:
    fit = trainer(max_epochs=1)
    fit.fit(Steps(), datamodule=EasinessDataModule(Recorder(), Sizes([10, 20])))
    fit.save_checkpoint(tmp_path / "a.ckpt")
    again = Recorder()
    trainer(max_epochs=2).fit(
        Steps(), datamodule=EasinessDataModule(again, Sizes([10, 20])), ckpt_path=tmp_path / "a.ckpt"
    )
    assert again.seen > 0
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert held["datamodule_hyper_parameters"] == {"n": 24}
    assert Recorder.load_from_checkpoint(tmp_path / "a.ckpt").hparams.n == 24


# ------------------------------------------------------------------------------------------------ choosing per epoch


def test_lengths_grow_and_shrink_and_every_epoch_is_validated() -> None:
    sizes = [53, 20, 40, 2, 30]
    module = Traces()
    lengths = []

    class Looks(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
            lengths.append((trainer.num_training_batches, len(trainer.train_dataloader)))

    fit = trainer(max_epochs=5, callbacks=[Looks()])
    data = EasinessDataModule(IndexedBase(), Sizes(sizes, minimum=1))
    fit.fit(module, datamodule=data)
    assert [len(module.epoch(epoch)) for epoch in range(5)] == sizes
    assert all(len(set(module.epoch(epoch))) == size for epoch, size in enumerate(sizes))
    assert module.validations == 5
    assert lengths == [(-(-size // 8),) * 2 for size in sizes]
    assert sorted(module.epoch(4)) == data.selected_indices.tolist()
    assert fit.reload_dataloaders_every_n_epochs == 0


def test_too_few_are_filled_up_to_a_batch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    module = Traces()
    trainer(max_epochs=3).fit(module, datamodule=EasinessDataModule(IndexedBase(drop_last=True), Sizes([2, 53, 9])))
    assert [len(module.epoch(epoch)) for epoch in range(3)] == [8, 48, 8]
    told = [record.getMessage() for record in caplog.records if "trains on" in record.getMessage()]
    assert told[0].startswith("Epoch 0: Sizes trains on 8 of 53 examples (15.1%), chosen in ")
    assert "; 6 of them at random, up to the minimum" in told[0]
    assert len(told) == 3


def test_no_batch_of_a_single_example_which_batch_norm_refuses() -> None:
    module = Traces()
    trainer(max_epochs=3).fit(module, datamodule=EasinessDataModule(IndexedBase(), Sizes([17, 9, 18])))
    assert [len(module.epoch(epoch)) for epoch in range(3)] == [18, 10, 18]


def test_an_integer_validation_interval_gets_its_batches() -> None:
    module = Traces()
    trainer(max_epochs=2, val_check_interval=3).fit(
        module, datamodule=EasinessDataModule(IndexedBase(), Sizes([2, 40]))
    )
    assert [len(module.epoch(epoch)) for epoch in range(2)] == [24, 40]


def test_the_trainers_own_reload_interval_is_kept() -> None:
    module = Traces()
    fit = trainer(max_epochs=4, reload_dataloaders_every_n_epochs=2)
    fit.fit(module, datamodule=EasinessDataModule(IndexedBase(), Sizes([10, 99, 20, 99])))
    assert [len(module.epoch(epoch)) for epoch in range(4)] == [10, 10, 20, 20]
    assert fit.reload_dataloaders_every_n_epochs == 2


def test_a_rule_of_the_users_sees_the_current_weights() -> None:
    """Each epoch's selection is what the rule makes of the weights before the epoch, recomputed here."""

    class Recomputes(Callback):
        before: list[Tensor] = []  # noqa: RUF012

        def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
            assert pl_module.training
            state = {name: value.clone() for name, value in pl_module.state_dict().items()}
            self.before.append(state)

    module, looks = Traces(), Recomputes()
    trainer(max_epochs=3, callbacks=[looks]).fit(module, datamodule=EasinessDataModule(IndexedBase(), HighestLoss(0.4)))
    points = IndexedPoints()
    for epoch, state in enumerate(looks.before):
        other = Traces()
        other.load_state_dict(state)
        loss = torch.nn.functional.cross_entropy(other.eval()(points.x), points.y, reduction="none")
        assert set(module.epoch(epoch)) == set(loss.topk(21).indices.tolist())


def test_looking_at_the_examples_leaves_the_training_as_it_is() -> None:
    """A rule that looks and one that does not, with the same choice, train alike to the bit."""

    class Looks(Sizes):
        needs_observation = True

    sizes = [30, 20]
    plain = fitted(EasinessDataModule(Base(), Sizes(sizes)))
    assert_identical(plain, fitted(EasinessDataModule(Base(), Looks(sizes))))


def test_scalars_of_each_epoch(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    rule = HighestLoss(0.4)
    trainer(max_epochs=2, logger=logger).fit(Net(), datamodule=EasinessDataModule(Base(), rule))
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    shares = [float(row["easiness/selected_share"]) for row in table if row["easiness/selected_share"]]
    assert shares == [pytest.approx(21 / 53)] * 2
    counts = torch.bincount(Points().y).tolist()
    row = table[0]
    kept = sum(float(row[f"easiness/selected_share/class_{k}"]) * count for k, count in enumerate(counts))
    assert kept == pytest.approx(21)
    assert float(row["easiness/selection_seconds"]) > 0


def test_learning_rates_step_with_the_batches_of_each_epoch() -> None:
    class Steps(Traces):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            by_step = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": by_step, "interval": "step"}}

    module = Steps()
    fit = trainer(max_epochs=3)
    fit.fit(module, datamodule=EasinessDataModule(IndexedBase(), Sizes([16, 40, 8], minimum=1)))
    assert fit.global_step == 2 + 5 + 1
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.9**8)


def test_a_schedule_that_asks_for_the_number_of_steps_is_right_for_a_selection_made_once() -> None:
    steps = []

    class Asks(Net):
        def configure_optimizers(self) -> Any:
            steps.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    trainer(max_epochs=3).fit(Asks(), datamodule=EasinessDataModule(Base(), Keep(range(20))))
    assert steps == [9]


# ------------------------------------------------------------------------------------------------------- resuming


class Stop(Callback):
    def __init__(self, path: Path, epoch: int, batch: int) -> None:
        self.path, self.at = path, (epoch, batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            trainer.save_checkpoint(self.path)
            raise InterruptedError("stopped on purpose")


class Drawn(Selection):
    """Different at every call, so that only a selection that is kept comes twice."""

    every_epoch = True
    calls = 0

    def select(self, state: Any) -> Tensor:
        type(self).calls += 1
        return torch.randperm(state.num_examples, generator=torch.Generator().manual_seed(self.calls))[:24]


@pytest.mark.parametrize("asks", [False, True], ids=["plain", "asks for the number of steps"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resumed_within_an_epoch_keeps_its_selection(epoch: int, asks: bool, tmp_path: Path) -> None:
    class Asks(Traces):
        def configure_optimizers(self) -> Any:
            if asks:
                assert self.trainer.estimated_stepping_batches > 0
            return super().configure_optimizers()

    path = tmp_path / "stopped.ckpt"
    first, second = Asks(), Asks()
    with pytest.raises(InterruptedError):
        trainer(max_epochs=4, callbacks=[Stop(path, epoch, 1)]).fit(
            first, datamodule=EasinessDataModule(IndexedBase(), Drawn())
        )
    data = EasinessDataModule(IndexedBase(), Drawn())
    fit = trainer(max_epochs=4)
    fit.fit(second, datamodule=data, ckpt_path=path)
    held = torch.load(path, weights_only=True)["EasinessDataModule"]["selection"]
    assert held["epoch"] == epoch
    kept = set(first.epoch(epoch)) | set(second.epoch(epoch))
    assert len(first.epoch(epoch)) == 16
    assert len(second.epoch(epoch)) == 8  # the one batch that was left
    assert len(kept) <= 24
    if epoch < 3:
        assert len(set(second.epoch(epoch + 1))) == 24
        assert set(second.epoch(epoch + 1)) != kept


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_resumed_at_an_epochs_end_goes_on_with_the_next(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, every_n_epochs=1)
    whole = Traces()
    trainer(max_epochs=3, callbacks=[keeper], enable_checkpointing=True).fit(
        whole, datamodule=EasinessDataModule(IndexedBase(), Sizes([16, 40, 24]))
    )
    resumed = Traces()
    trainer(max_epochs=3, callbacks=[keeper], enable_checkpointing=True).fit(
        resumed, datamodule=EasinessDataModule(IndexedBase(), Sizes([16, 40, 24])), ckpt_path=tmp_path / "epoch=1.ckpt"
    )
    assert {epoch for epoch, _, _ in resumed.batches} == {2}
    assert set(resumed.epoch(2)) == set(whole.epoch(2))


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("sizes", [[16, 40, 24], [40, 16, 24]], ids=["longer", "shorter"])
def test_resumed_after_an_epochs_last_batch_trains_all_of_the_next(sizes: list[int], tmp_path: Path) -> None:
    """A checkpoint of that moment is of an epoch that is over, and the next one has another length."""
    keeper = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    for path in (None, tmp_path / f"step={sizes[0] // 8}.ckpt"):
        module = Traces()
        fit = trainer(max_epochs=3, callbacks=[keeper], enable_checkpointing=True)
        fit.fit(module, datamodule=EasinessDataModule(IndexedBase(), Sizes(sizes)), ckpt_path=path)
        assert [len(module.epoch(epoch)) for epoch in (1, 2)] == sizes[1:]
        assert fit.global_step == sum(sizes) // 8


def test_resumed_with_another_data_set(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(InterruptedError):
        trainer(callbacks=[Stop(path, 1, 0)]).fit(Net(), datamodule=EasinessDataModule(Base(), Sizes([20, 20])))
    with pytest.raises(
        ValueError, match="The data set and the selection in the checkpoint are not of the same data:"
    ) as error:
        trainer().fit(Net(), datamodule=EasinessDataModule(Base(40), Sizes([20, 20])), ckpt_path=path)
    assert str(error.value).endswith(
        "so an index no longer names the same example: resume with the data set that the checkpoint was written with."
    )


def test_a_second_fit_chooses_anew() -> None:
    data = EasinessDataModule(IndexedBase(), Drawn())
    first, second = Traces(), Traces()
    for module in (first, second):
        trainer(max_epochs=1).fit(module, datamodule=data)
    assert set(first.epoch(0)) != set(second.epoch(0))


# -------------------------------------------------------------------------------------------- beside the callback


def test_the_callback_records_under_the_whole_data_sets_indices(tmp_path: Path) -> None:
    module = Traces()
    data = EasinessDataModule(IndexedBase(), Sizes([20, 40, 53, 10]))
    trainer(max_epochs=4, callbacks=[EasinessCallback(tmp_path, every_n_epochs=1)]).fit(module, datamodule=data)
    online = EasinessRecord.load(tmp_path, series="train-online")
    for epoch in range(4):
        expected = torch.bincount(torch.tensor(module.epoch(epoch)), minlength=53)
        assert torch.equal(online.count[0, epoch].long(), expected)
    probe = EasinessRecord.load(tmp_path)
    points = IndexedPoints()
    loss = torch.nn.functional.cross_entropy(module.eval()(points.x), points.y, reduction="none")
    torch.testing.assert_close(probe.loss[0, -1], loss.detach())
    assert torch.equal(probe.target, points.y)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_record_holds_what_was_relabelled(workers: int, tmp_path: Path) -> None:
    relabel = Relabel(scores(), ratio=0.4, which="hard", noise="next_class")
    module = Traces()
    data = EasinessDataModule(IndexedBase(num_workers=workers), relabel)
    trainer(max_epochs=1, callbacks=[EasinessCallback(tmp_path, every_n_epochs=1)]).fit(module, datamodule=data)
    trained = torch.empty(53, dtype=torch.int64)
    for _, indices, labels in module.batches:
        trained[indices] = torch.tensor(labels)
    assert torch.equal(trained, relabel.new_labels)
    online, probe = (EasinessRecord.load(tmp_path, series=name) for name in ("train-online", "train-probe"))
    assert torch.equal((online.target != probe.target).nonzero()[:, 0], relabel.changed_indices)
    assert torch.equal(probe.target, Points().y), "the true labels"


def test_the_callback_leaves_a_selected_training_as_it_is(tmp_path: Path) -> None:
    def run(callbacks: list[Callback]) -> dict[str, Any]:
        return fitted(EasinessDataModule(Base(num_workers=2), Sizes([20, 40])), callbacks=callbacks)

    assert_identical(run([]), run([EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0, 3))]))


def test_epochs_that_keep_everything_between_others_beside_the_callback(tmp_path: Path) -> None:
    """The user's own loader, held by them, and copies of it take turns."""
    data = loader(IndexedPoints())
    module = Traces()
    wrapped = EasinessDataModule(data, Sizes([53, 20, 53, 20]), val_dataloaders=loader(Points(20), shuffle=False))
    trainer(max_epochs=4, callbacks=[EasinessCallback(tmp_path, every_n_epochs=1)]).fit(module, datamodule=wrapped)
    online = EasinessRecord.load(tmp_path, series="train-online")
    assert online.count.sum(-1).tolist() == [[53, 20, 53, 20]]
    assert type(data) is DataLoader
    assert module.validations == 4


# -------------------------------------------------------------------------------------------------------- bad input


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no datamodule": (
        lambda: EasinessDataModule(Points()),
        TypeError,
        "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got Points.",
    ),
    "validation twice": (
        lambda: EasinessDataModule(Base(), val_dataloaders=loader()),
        TypeError,
        "EasinessDataModule takes `val_dataloaders` beside a train DataLoader; Base has its own val_dataloader().",
    ),
    "no selection": (
        lambda: EasinessDataModule(Base(), [1, 2]),
        TypeError,
        "The `selection` of EasinessDataModule must be a Selection, as Ablation(...), or None; got list.",
    ),
    "nothing left": (
        lambda: EasinessDataModule(Base(), Keep([])),
        ValueError,
        "Keep keeps none of 53 examples; keep at least one.",
    ),
    "an index twice": (
        lambda: EasinessDataModule(Base(), Keep([1, 2, 1])),
        ValueError,
        "Keep keeps example 1 more than once; drop repeats with .unique().",
    ),
    "an index too large": (
        lambda: EasinessDataModule(Base(), Keep([1, 53])),
        ValueError,
        "Keep keeps example 53, but examples are numbered 0 to 52.",
    ),
    "less than a batch": (
        lambda: EasinessDataModule(Base(drop_last=True), Keep(range(7))),
        ValueError,
        (
            "Keep keeps 7 of 53 examples, but with drop_last=True an epoch of 1 process takes 8 at least; keep more, or"
            " set drop_last=False or a smaller batch_size."
        ),
    ),
    "scores of fewer": (
        lambda: EasinessDataModule(Base(), Ablation(scores(40), 0.1)),
        ValueError,
        (
            "The `scores` of Ablation and the data set are not of the same data: the first has 40 examples and the"
            " second 53, so an index no longer names the same example: give scores of this data set, or"
            " check_target=False if it lists other labels than it hands out."
        ),
    ),
    "two of them": (
        lambda: EasinessDataModule(EasinessDataModule(Base(), Keep(range(20))), Keep(range(5))),
        TypeError,
        (
            "EasinessDataModule cannot select from what another EasinessDataModule has selected; write one Selection"
            " whose select() and labels() do both, and give it to one EasinessDataModule."
        ),
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:Keep keeps no example")
def test_bad_input_is_an_error_before_training(case: str) -> None:
    make, kind, message = BAD[case]
    module = Net()
    with pytest.raises(kind) as error:
        trainer().fit(module, datamodule=make())
    assert str(error.value) == message
    assert not module.losses


def test_scores_of_another_data_set_of_the_same_size() -> None:
    class Listed(Base):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.train.targets = Points(53, seed=1).y

    given = scores(target=Points(53, seed=2).y)
    with pytest.raises(ValueError, match="The `scores` of Ablation and the data set are not of the same data: example"):
        trainer().fit(Net(), datamodule=EasinessDataModule(Listed(), Ablation(given, 0.1)))
    trainer(max_epochs=1).fit(Net(), datamodule=EasinessDataModule(Listed(), Ablation(given, 0.1), check_target=False))


def test_a_class_that_is_lost_is_named() -> None:
    target = torch.zeros(53, dtype=torch.int64)
    target[50:] = 2
    rule = Ablation(scores(target=target), 0.2, remove="hard", sampling="top")
    with pytest.warns(UserWarning, match="Ablation keeps no example of class 2, so that cannot be learnt"):
        EasinessDataModule(loader(), rule, check_target=False).train_dataloader()


def test_a_loader_before_the_fit_when_the_rule_needs_the_model() -> None:
    with pytest.raises(RuntimeError, match=r"HighestLoss chooses by the model's outputs"):
        EasinessDataModule(loader(), HighestLoss(0.5)).train_dataloader()
