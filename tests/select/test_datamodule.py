"""EasinessDataModule: the user's datamodule in all but what it trains on."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, seed_everything
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler, random_split

from lightning_easiness import (
    Ablation,
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    Needs,
    Relabel,
    Selection,
)
from tests.selecting import (
    Base,
    CountsPasses,
    HardestSizes,
    HighestLoss,
    IndexedBase,
    IndexedPoints,
    OverSubset,
    Sizes,
    Traces,
    fit,
    over,
    refusal,
    scores,
)
from tests.set_fits import NoNorm
from tests.small import Net, Points, assert_identical, loader, streams, trainer


def fitted(data: Any) -> dict[str, Any]:
    """Everything that a fit leaves behind."""
    seed_everything(7, verbose=False)
    module, made = Traces("adam"), trainer()
    made.fit(module, datamodule=data)
    optimizer = made.optimizers[0].state_dict()
    metrics = {name: value for name, value in made.callback_metrics.items() if not name.startswith("easiness")}
    left = {"weights": module.state_dict(), "optimizer": optimizer, "losses": module.losses, "metrics": metrics}
    return {**left, "streams": streams()}


SELECTIONS: dict[str, tuple[type[Base], Selection | None]] = {
    "no selection": (IndexedBase, None),
    "a ratio of nothing": (IndexedBase, Ablation(scores(), ratio=0.0)),
    "all indices": (IndexedBase, Keep(range(53))),
    "some indices": (OverSubset, Keep(OverSubset.kept)),
}
LOADERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "workers": {"num_workers": 2, "persistent_workers": True},
    "drop_last": {"drop_last": True},
}


@pytest.mark.parametrize("options", LOADERS)
@pytest.mark.parametrize("kind", SELECTIONS)
def test_training_is_what_users_do_by_hand_to_the_bit(kind: str, options: str) -> None:
    by_hand, selection = SELECTIONS[kind]
    plain = fitted(by_hand(**LOADERS[options]))
    assert_identical(plain, fitted(EasinessDataModule(IndexedBase(**LOADERS[options]), selection)))


def test_everything_kept_is_the_users_loader_itself() -> None:
    data = loader()
    assert EasinessDataModule(data).train_dataloader() is data
    assert EasinessDataModule(data, Keep(range(53))).train_dataloader() is data


def test_an_observation_leaves_the_training_as_it_is() -> None:
    """A rule that observes and one that does not, with the same choice, train alike to the bit."""
    observing = type("Observing", (Sizes,), {"needs": Needs(every="epoch", passes=True)})
    plain = fitted(EasinessDataModule(IndexedBase(), Sizes([30, 20])))
    assert_identical(plain, fitted(EasinessDataModule(IndexedBase(), observing([30, 20]))))


# ------------------------------------------------------------------------------------- a last batch of a single example


# a batch size, and selections after which the last batch would be of one, which batch norm refuses
ALONE: dict[str, tuple[int, Selection, int]] = {
    "kept": (10, Keep(range(51)), 51),
    "removed": (8, Ablation(scores(), ratio=4 / 53), 49),
    "relabelled": (13, Relabel(scores(), ratio=0.5), 53),
    "nothing else": (8, Keep([7]), 1),
}


@pytest.mark.filterwarnings("ignore:Keep keeps no example of classes")
@pytest.mark.parametrize("case", ALONE)
def test_a_selection_that_is_made_once_repeats_an_example_for_batch_norm_alone(case: str, tmp_path: Path) -> None:
    size, selection, number = ALONE[case]
    for norm, read in ((None, number + 1), (nn.Identity(), number)):
        module, observer = Traces(), EasinessCallback(tmp_path / str(read), probe=None)
        module.net[1] = norm or module.net[1]
        fit(IndexedBase(batch_size=size), selection, module, callbacks=[observer])
        assert module.lengths(2) == [read, read]
        assert [len(set(module.epoch(epoch))) for epoch in range(2)] == [number, number]
        assert observer.usage.data_use == pytest.approx([number / 53] * 2), "a repeat is no further example"
        count = EasinessRecord.load(tmp_path / str(read)).count[0]
        assert count.sum(1).tolist() == [read, read]
        assert (count > 0).sum(1).tolist() == [number, number]


def test_what_is_kept_is_repeated_for_no_other_reason() -> None:
    """It is the user's: too little for the Trainer's intervals, or for a batch, is refused in place of repeated."""
    assert "val_check_interval" in refusal(ValueError, IndexedBase(), Keep(range(49)), val_check_interval=8)
    assert "keeps 5 of 53 examples" in refusal(ValueError, IndexedBase(drop_last=True), Keep(range(5)))
    assert fit(IndexedBase(drop_last=True), Keep(range(49)))[0].lengths(2) == [48, 48]
    assert fit(IndexedBase(batch_size=1), Keep(range(9)), NoNorm())[0].lengths(2) == [9, 9]


def test_draws_by_weights_are_one_more_in_place_of_a_repeat() -> None:
    sampler = WeightedRandomSampler([1.0] * 53, 53)
    module, made = fit(over(sampler), Keep(range(49)))
    assert module.lengths(2) == [50, 50], "of 53 draws the 49 of what is kept"
    assert made.train_dataloader.sampler.weights.tolist() == [1.0] * 49 + [0.0]


# ------------------------------------------------------------------------------------------------- hooks and state


def noting(name: str, returned: Callable[..., Any]) -> Any:
    """A hook that writes down that it is called."""

    def hook(self: Recorder, *arguments: Any, **named: Any) -> Any:
        self.calls.append(name)
        return returned(*arguments, **named)

    return hook


class Recorder(LightningDataModule):
    """Writes each call of a hook down."""

    def __init__(self, n: int = 24) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.prepare_data_per_node = False
        self.calls: list[str] = []
        self.batch_size = 4
        self.seen = 0

    prepare_data = noting("prepare_data", lambda: None)

    def setup(self, stage: str) -> None:
        self.calls.append(f"setup {stage} {self.trainer is not None}")

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {stage}")

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append(f"on_exception {exception}")

    def train_dataloader(self) -> DataLoader[Any]:
        self.calls.append("train_dataloader")
        return loader(Points(24), batch_size=self.batch_size)

    val_dataloader = noting("val_dataloader", lambda *_: [loader(Points(8, seed=1), shuffle=False)])
    test_dataloader = noting("test_dataloader", lambda *_: loader(Points(8, seed=2), shuffle=False))
    predict_dataloader = noting("predict_dataloader", lambda *_: loader(Points(8, seed=3), shuffle=False))
    on_before_batch_transfer = noting("before", lambda batch, *_: batch)
    transfer_batch_to_device = noting("transfer", lambda batch, *_: batch)
    on_after_batch_transfer = noting("after", lambda batch, *_: batch)

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
def test_each_hook_is_called_as_often_as_lightning_calls_it() -> None:
    plain, wrapped = Recorder(), Recorder()
    for data in (plain, EasinessDataModule(wrapped, Keep(range(24)))):
        made = trainer(max_epochs=1)
        made.fit(Steps(), datamodule=data)
        made.validate(Steps(), datamodule=data, verbose=False)
        made.test(Steps(), datamodule=data, verbose=False)
        made.predict(Steps(), datamodule=data)
    assert plain.calls == wrapped.calls
    assert {call.split()[0] for call in plain.calls} >= {"prepare_data", "setup", "teardown", "transfer", "before"}


def test_every_hook_of_lightnings_datamodule_is_the_wrapped_ones_or_overridden() -> None:
    ours = {"from_datasets", "load_from_checkpoint", "save_hyperparameters", "remove_ignored_hparams"}
    names = {name for name in dir(LightningDataModule) if not name.startswith("_")}
    hooks = {name for name in names - ours if callable(getattr(LightningDataModule, name))}
    wrapped = Recorder()
    data = EasinessDataModule(wrapped)
    of_wrapped = {name for name in hooks if getattr(data, name).__self__ is wrapped}
    assert hooks - of_wrapped == hooks & set(vars(EasinessDataModule)) - {"val_dataloader"}
    assert {"prepare_data", "test_dataloader", "val_dataloader", "on_after_batch_transfer"} < of_wrapped


def test_lightning_sees_which_hooks_the_user_overrides() -> None:
    hooks = ["prepare_data", "val_dataloader", "test_dataloader", "predict_dataloader"]
    hooks += ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"]  # else the module's
    for wrapped in (Recorder(), Base(), LightningDataModule(), LightningDataModule.from_datasets(Points(), Points())):
        data = EasinessDataModule(wrapped)
        assert isinstance(data, LightningDataModule)
        assert [is_overridden(hook, data) for hook in hooks] == [is_overridden(hook, wrapped) for hook in hooks]
    assert not is_overridden("val_dataloader", EasinessDataModule(loader()))
    assert is_overridden("val_dataloader", EasinessDataModule(loader(), val_dataloaders=loader()))


def test_a_subclass_overrides_hooks_of_the_wrapped_one_which_may_be_attributes_of_the_instance() -> None:
    class Own(EasinessDataModule):
        def test_dataloader(self) -> DataLoader[Any]:
            return loader(Points(5))

    assert len(Own(Recorder()).test_dataloader().dataset) == 5
    data = EasinessDataModule(LightningDataModule.from_datasets(Points(), Points(9), batch_size=4), Keep(range(20)))
    assert (len(data.train_dataloader().dataset), len(data.val_dataloader().dataset)) == (20, 9)


def test_attributes_are_the_wrapped_ones_both_ways() -> None:
    wrapped = Recorder(n=24)
    data = EasinessDataModule(wrapped)
    assert data.batch_size == 4
    data.batch_size = 2
    assert wrapped.batch_size == 2
    assert data.prepare_data_per_node is False
    assert dict(data.hparams) == {"n": 24}
    assert data.hparams_initial == wrapped.hparams_initial
    made = trainer(max_epochs=1)
    made.fit(Steps(), datamodule=data)
    assert wrapped.trainer is made
    assert not hasattr(data, "nothing_of_that_name")


@pytest.mark.parametrize("wrapped", [Base, loader], ids=["datamodule", "loader"])
def test_copied_and_pickled(wrapped: Any) -> None:
    data = EasinessDataModule(wrapped(), Keep(range(20)))
    data.setup("fit")
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert other.datamodule is other.prepare_data.__self__ is not data.datamodule
        assert len(other.train_dataloader().dataset) == 20


def test_an_exception_reaches_the_wrapped_one() -> None:
    class Fails(Steps):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise ArithmeticError("on purpose")

    wrapped = Recorder()
    refusal(ArithmeticError, wrapped, Sizes([24, 24]), module=Fails())
    assert "on_exception on purpose" in wrapped.calls


def test_the_state_of_the_wrapped_one_is_restored(tmp_path: Path) -> None:
    made = trainer(max_epochs=1)
    made.fit(Steps(), datamodule=EasinessDataModule(Recorder(), Sizes([10, 20])))
    path = tmp_path / "a.ckpt"
    made.save_checkpoint(path)
    again = Recorder()
    fit(again, Sizes([10, 20]), Steps(), ckpt_path=path)
    assert again.seen > 0
    assert torch.load(path, weights_only=True)["datamodule_hyper_parameters"] == {"n": 24}
    assert Recorder.load_from_checkpoint(path).hparams.n == 24


# ------------------------------------------------------------------------------------------------ validation loaders


class Validated(IndexedBase):
    """Has a validation split of its own each time that it is asked for one."""

    def __init__(self) -> None:
        super().__init__()
        self.splits: list[list[int]] = []

    def val_dataloader(self) -> DataLoader[Any]:
        self.overridden = None if self.trainer is None else is_overridden("val_dataloader", self.trainer.datamodule)
        part, _ = random_split(IndexedPoints(), [10, 43])
        self.splits.append(list(part.indices))
        return loader(part, shuffle=False)


class Validations(Traces):
    """Keeps what it was validated on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if not self.trainer.sanity_checking:
            self.seen += batch[0][:, 8].long().tolist()


@pytest.mark.parametrize(
    ("options", "validations"),
    [
        ({}, 5),
        ({"num_sanity_val_steps": 0}, 5),
        ({"val_check_interval": 0.5}, 10),
        ({"check_val_every_n_epoch": 2}, 2),
    ],
)
def test_the_validation_loader_is_made_once_a_fit(options: dict[str, Any], validations: int) -> None:
    wrapped = Validated()
    data = EasinessDataModule(wrapped, HardestSizes([16, 32, 48, 32, 16]))
    for fits in (1, 2):
        module, _ = fit(data, None, Validations(), max_epochs=5, **options)
        assert len(wrapped.splits) == fits
        assert wrapped.overridden
        assert module.validations == validations
        assert module.seen == wrapped.splits[-1] * validations, "the same split each time"
    assert data.val_dataloader() is not data.val_dataloader(), "outside a fit it is the user's own hook"


@pytest.mark.parametrize("every", [2, 3])
def test_the_validation_loader_is_made_as_often_as_the_trainer_would(every: int) -> None:
    plain, wrapped = Validated(), Validated()
    for data, selection in ((plain, None), (wrapped, Sizes([16, 32, 48, 32, 16]))):
        module, _ = fit(data, selection, Validations(), max_epochs=5, reload_dataloaders_every_n_epochs=every)
        assert module.validations == 5
    assert len(wrapped.splits) == len(plain.splits) > 1


# ---------------------------------------------------------------------------------------------------- the reader


def passes(selection: Selection, *callbacks: EasinessCallback, **options: Any) -> float:
    """Passes over the data in a fit of three epochs."""
    module = CountsPasses()
    data = EasinessDataModule(IndexedBase(), selection, **options)
    trainer(max_epochs=3, callbacks=list(callbacks), limit_val_batches=0).fit(module, datamodule=data)
    return module.forwards / math.ceil(53 / 8)


def lambdas() -> dict[str, Any]:
    """New functions at each call, which are equal to no others."""
    return {"batch_fn": lambda batch: (batch[0], batch[1]), "logits_fn": lambda output: output}


def test_a_user_with_lambdas_pays_for_one_pass_per_epoch(tmp_path: Path) -> None:
    # one of a pass's seven batches is tried before training, by the selection and by the callback
    observes = EasinessCallback(tmp_path / "a", every_n_epochs=1, **lambdas())
    assert passes(HighestLoss(0.6), observes) == pytest.approx(2 / 7 + 1 + 3), (
        "before the first epoch and at the end of each"
    )
    assert passes(HighestLoss(0.6), EasinessCallback(tmp_path / "b", probe=None, **lambdas())) == pytest.approx(
        2 / 7 + 3
    )
    assert passes(HighestLoss(0.6), reader=BatchReader(**lambdas())) == pytest.approx(1 / 7 + 3)
    online = EasinessCallback(tmp_path / "c", probe=None)
    observes = EasinessCallback(tmp_path / "d", every_n_epochs=1, probe_batch_size=11)
    assert passes(HighestLoss(0.6), online, observes) == pytest.approx((3 + 7 + 3 * 5) / 7), (
        "of the one that has a pass"
    )


def test_a_selection_reads_as_the_callback_does(tmp_path: Path) -> None:
    """Also where the callback's own passes come at other steps."""
    seen = []

    def reversed_loss(logits: Tensor, target: Tensor) -> Tensor:
        return 50 - nn.functional.cross_entropy(logits, target, reduction="none")

    class Keeps(HighestLoss):
        def select(self, state: Any) -> Tensor:
            seen.append(float(state.observe()["loss"].mean()))
            return super().select(state)

    passes(Keeps(0.6), EasinessCallback(tmp_path, every_n_epochs=2, loss_fn=reversed_loss))
    passes(Keeps(0.6), reader=BatchReader(loss_fn=reversed_loss))
    assert len(seen) == 6
    assert min(seen) > 40


def test_a_reader_beside_a_callback_is_refused(tmp_path: Path) -> None:
    data = EasinessDataModule(IndexedBase(), Keep(range(20)), reader=BatchReader(module="net"))
    assert refusal(ValueError, data, callbacks=[EasinessCallback(tmp_path)]) == (
        "EasinessDataModule has a `reader`, but the Trainer has an EasinessCallback, which says how batches are read:"
        " leave out `reader`, and give its arguments to EasinessCallback."
    )


def test_two_callbacks_that_read_differently_are_refused_where_a_selection_observes(tmp_path: Path) -> None:
    def callbacks(name: str) -> list[Any]:
        return [EasinessCallback(tmp_path / name / str(sigma2), probe=None, sigma2=sigma2) for sigma2 in (1e-3, 1e-4)]

    assert refusal(ValueError, IndexedBase(), HighestLoss(0.5), callbacks=callbacks("a")) == (
        "The Trainer has 2 EasinessCallbacks that read batches differently, so it is not known by which of them"
        " HighestLoss chooses: give them the same `module`, `batch_fn`, `logits_fn`, `loss_fn`,"
        " `sigma2` and `num_draws`."
    )
    fit(IndexedBase(), Keep(range(48)), callbacks=callbacks("b"))


@pytest.mark.parametrize("name", ["module", "batch_fn", "logits_fn", "loss_fn", "probe_batch_size"])
def test_old_arguments_name_the_reader(name: str) -> None:
    with pytest.raises(TypeError) as error:
        EasinessDataModule(Base(), **{name: None})
    assert str(error.value) == (
        f"EasinessDataModule has no `{name}` any more: how batches are read is the EasinessCallback's; where there is"
        f" none, give `reader=BatchReader({name.removeprefix('probe_')}=...)`."
    )


# -------------------------------------------------------------------------------------------- beside the callback


def test_the_callback_records_under_the_whole_data_sets_indices(tmp_path: Path) -> None:
    """Also where the user's own loader, held by them, and copies of it take turns."""
    data, val = loader(IndexedPoints()), loader(Points(20), shuffle=False)
    wrapped = EasinessDataModule(data, Sizes([53, 20, 53, 10]), val_dataloaders=val)
    module, _ = fit(wrapped, max_epochs=4, callbacks=[EasinessCallback(tmp_path, every_n_epochs=1)])
    assert type(data) is DataLoader
    assert module.validations == 4
    online = EasinessRecord.load(tmp_path, series="train-online")
    for epoch in range(4):
        expected = torch.bincount(torch.tensor(module.epoch(epoch)), minlength=53)
        assert torch.equal(online.count[0, epoch].long(), expected)
    record, points = EasinessRecord.load(tmp_path, series="train-probe"), IndexedPoints()
    loss = nn.functional.cross_entropy(module.eval()(points.x), points.y, reduction="none")
    torch.testing.assert_close(record.loss[0, -1], loss.detach())
    assert torch.equal(record.target, points.y)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_record_holds_what_was_relabelled(workers: int, tmp_path: Path) -> None:
    relabel = Relabel(scores(), ratio=0.4, which="hard", noise="next_class")
    callback = EasinessCallback(tmp_path, every_n_epochs=1)
    module, _ = fit(IndexedBase(num_workers=workers), relabel, max_epochs=1, callbacks=[callback])
    trained = torch.empty(53, dtype=torch.int64)
    for _, indices, labels in module.batches:
        trained[indices] = torch.tensor(labels)
    assert torch.equal(trained, relabel.new_labels)
    online, probe = (EasinessRecord.load(tmp_path, series=name) for name in ("train-online", "train-probe"))
    assert torch.equal((online.target != probe.target).nonzero()[:, 0], relabel.changed_indices)
    assert torch.equal(probe.target, Points().y), "the true labels"


# ------------------------------------------------------------------------------------------------ new labels


class OneHot(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x, nn.functional.one_hot(torch.tensor(y), 4).float()


def test_one_hot_labels_are_replaced() -> None:
    relabel = Relabel(scores(), 0.4, noise="next_class", which="hard")
    batches = list(EasinessDataModule(loader(OneHot()), relabel).train_dataloader())
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    assert torch.equal(y, nn.functional.one_hot(relabel.new_labels[x[:, 8].long()], 4).float())
    assert len(y) == 53
    assert len(relabel.changed_indices) == 21


def test_new_labels_are_a_data_set_that_hands_them_out_to_the_bit() -> None:
    """What is tried before the fit, so that labels that cannot be replaced are known, leaves no trace."""
    relabel, data = Relabel(scores(), 0.4), IndexedPoints(augment=True)
    data.y = relabel.new_labels
    by_hand = fitted(EasinessDataModule(loader(data)))
    assert_identical(by_hand, fitted(EasinessDataModule(loader(IndexedPoints(augment=True)), relabel)))
