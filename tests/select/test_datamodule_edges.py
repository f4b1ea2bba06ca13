"""EasinessDataModule at the edges: fits that must not end early, resumes, mistakes, and what Trainers are asked for."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

from lightning_easiness import (
    Ablation,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    Keep,
    Relabel,
    Selection,
)
from lightning_easiness.data.subset import SelectedDataset, known_target, replace_label
from lightning_easiness.data.subset_loader import select_from
from lightning_easiness.experiments.comparison import compare_selections
from lightning_easiness.select.base import SelectionState
from tests.resuming import Resumable
from tests.selecting import Base, HighestLoss, IndexedBase, IndexedPoints, Sizes, Traces, scores
from tests.small import Net, Points, assert_identical, loader, streams, trainer

# many of these small selections have no example of some class
pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")


def fit(
    data: Any, module: Traces | None = None, ckpt_path: Path | None = None, **options: Any
) -> tuple[Traces, Trainer]:
    """A fit, and that its Trainer is as before after it."""
    module = module or Traces()
    made = trainer(**options)
    own = made.reload_dataloaders_every_n_epochs
    made.fit(module, datamodule=data, ckpt_path=ckpt_path)
    assert made.reload_dataloaders_every_n_epochs == own
    return module, made


def lengths(module: Traces, epochs: int) -> list[int]:
    return [len(module.epoch(epoch)) for epoch in range(epochs)]


def refusal(kind: type[Exception], data: Any, module: Any = None, **options: Any) -> str:
    """The message of the error that a fit ends with before its first training step; the Trainer is as before."""
    module = module or Traces()
    made = trainer(**options)
    with pytest.raises(kind) as error:
        made.fit(module, datamodule=data)
    assert not module.batches
    assert not module.losses
    assert made.reload_dataloaders_every_n_epochs == options.get("reload_dataloaders_every_n_epochs", 0)
    return str(error.value)


class Rule(Selection):
    """Chooses by a list of what each epoch keeps."""

    every_epoch = True

    def __init__(self, *epochs: Any, **attributes: Any) -> None:
        self.epochs = epochs
        vars(self).update(attributes)

    def select(self, state: SelectionState) -> Tensor:
        return torch.as_tensor(self.epochs[state.epoch])


# ------------------------------------------------------------------------------------- resuming with another rule


class Once(HighestLoss):
    every_epoch = False


def another(rule: str, ours: str) -> str:
    return f"The checkpoint holds a choice of {rule}, which does not count for {ours}: it chooses anew."


@pytest.fixture(scope="module")
def of_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the middle of an epoch that `Sizes` chose for."""
    path = tmp_path_factory.mktemp("sizes") / "a.ckpt"
    with pytest.raises(InterruptedError):
        fit(EasinessDataModule(IndexedBase(), Sizes([24, 24])), callbacks=[Stop(path, 1, 1)])
    assert torch.load(path, weights_only=True)["EasinessDataModule"]["selection"]["rule"] == "Sizes"
    return path


class Stop(Callback):
    """Saves a checkpoint at a batch, and stops there by an error."""

    def __init__(self, path: Path | None, epoch: int, batch: int, error: BaseException | None = None) -> None:
        self.path, self.at, self.error = path, (epoch, batch), error or InterruptedError("stopped on purpose")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            if self.path is not None:
                trainer.save_checkpoint(self.path)
            raise self.error


def test_a_choice_of_another_rule_counts_for_no_epoch(of_sizes: Path) -> None:
    kept = [list(range(20, 44)), list(range(5, 29)), list(range(30, 53))]
    with pytest.warns(UserWarning, match="holds a choice") as warned:
        module, _ = fit(EasinessDataModule(IndexedBase(), Rule(*kept)), max_epochs=3, ckpt_path=of_sizes)
    assert [str(one.message) for one in warned if "holds a choice" in str(one.message)] == [another("Sizes", "Rule")]
    assert set(module.epoch(1)) <= set(kept[1]), "what is left of the epoch"
    assert len(module.epoch(1)) == 8
    assert sorted(module.epoch(2)) == kept[2]


@pytest.mark.parametrize("rule", [Keep(range(20, 44)), Ablation(scores(), 0.5, sampling="top"), Once(0.5)])
def test_a_choice_of_another_rule_does_not_count_for_one_that_is_made_once(rule: Selection, of_sizes: Path) -> None:
    """It used to be trained on to the end of the fit."""
    data = EasinessDataModule(IndexedBase(), rule)
    with pytest.warns(UserWarning, match="holds a choice") as warned:
        module, _ = fit(data, max_epochs=3, ckpt_path=of_sizes)
    name = type(rule).__name__
    assert another("Sizes", name) in [str(one.message) for one in warned]
    assert sorted(module.epoch(2)) == data.selected_indices.tolist()
    if name == "Keep":
        assert sorted(module.epoch(2)) == list(range(20, 44))


def test_a_rule_of_that_name_that_is_made_once_by_now_chooses_anew(of_sizes: Path) -> None:
    once = type("Sizes", (Keep,), {})(range(20, 44))
    with pytest.warns(UserWarning, match="holds a choice of Sizes, which does not count for Sizes"):
        module, _ = fit(EasinessDataModule(IndexedBase(), once), max_epochs=3, ckpt_path=of_sizes)
    assert sorted(module.epoch(2)) == list(range(20, 44))


def test_a_choice_of_the_same_rule_counts_and_nothing_is_said(of_sizes: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = EasinessDataModule(IndexedBase(), Sizes([24, 24]))
    fit(data, ckpt_path=of_sizes)
    assert not [one for one in recwarn if "holds a choice" in str(one.message)]


def test_without_a_selection_all_is_trained_on_after_one(of_sizes: Path) -> None:
    with pytest.warns(UserWarning, match="holds a choice of Sizes"):
        module, _ = fit(EasinessDataModule(IndexedBase()), max_epochs=3, ckpt_path=of_sizes)
    assert sorted(module.epoch(2)) == list(range(53))


# --------------------------------------------------------------------------------------- fits that do not end early


@pytest.mark.parametrize("minimum", [1, 4])
def test_a_minimum_below_a_batch_under_drop_last(minimum: int) -> None:
    data = EasinessDataModule(IndexedBase(drop_last=True), Sizes([53, 3, 40, 1], minimum=minimum))
    module, made = fit(data, max_epochs=4)
    assert lengths(module, 4) == [48, 8, 40, 8]
    assert module.validations == made.current_epoch == 4


def over(sampler: Sampler[int], **options: Any) -> DataLoader[Any]:
    return DataLoader(IndexedPoints(), **{"batch_size": 8, "sampler": sampler, **options})


@pytest.mark.parametrize("drop_last", [False, True])
def test_nothing_of_the_samplers_subset_is_kept(drop_last: bool) -> None:
    data = over(SubsetRandomSampler(range(40)), drop_last=drop_last)
    assert refusal(ValueError, EasinessDataModule(data, Keep(range(41, 53)))) == (
        "Keep keeps no example that the loader's SubsetRandomSampler draws; select from its examples, or drop the"
        " sampler."
    )


def test_less_than_a_batch_of_the_samplers_subset_is_kept_under_drop_last() -> None:
    data = over(SubsetRandomSampler(range(40)), drop_last=True)
    assert refusal(ValueError, EasinessDataModule(data, Keep(range(36, 53)))) == (
        "Keep keeps 4 of 53 examples, but with drop_last=True an epoch of 1 process takes 8 at least; keep more, or set"
        " drop_last=False or a smaller batch_size."
    )


class Lasts(Callback):
    """What is counted as selected, epoch for epoch."""

    def __init__(self) -> None:
        self.kept: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.kept.append(trainer.datamodule.selected_indices.tolist())  # type: ignore[attr-defined]


SPLIT = list(range(1, 53, 2))  # 26 of 53
SPLITS: dict[str, Any] = {
    "subset": lambda: over(SubsetRandomSampler(SPLIT)),
    "weights": lambda: over(WeightedRandomSampler(torch.arange(53) % 2, 26, replacement=False)),
    "subset in a batch sampler": lambda: DataLoader(
        IndexedPoints(), batch_sampler=BatchSampler(SubsetRandomSampler(SPLIT), 8, False)
    ),
}


@pytest.mark.parametrize("split", SPLITS)
def test_a_samplers_split_under_a_rule_for_each_epoch(split: str, tmp_path: Path) -> None:
    """The rule speaks of the whole data set; in two epochs nothing that it keeps is in the split."""
    evens = range(0, 53, 2)
    lasts, observed = Lasts(), EasinessCallback(tmp_path, probe=None)
    data = EasinessDataModule(SPLITS[split](), Rule(range(53), evens, range(30), evens))
    module, made = fit(data, max_epochs=4, callbacks=[lasts, observed])
    assert made.current_epoch == 4
    trained = [sorted(set(module.epoch(epoch))) for epoch in range(4)]
    assert all(set(one) <= set(SPLIT) for one in trained)
    assert all(set(one) <= set(SPLIT) for one in lasts.kept)
    assert [len(one) for one in lasts.kept] == [26, 8, 15, 8]
    if split != "weights":  # which draws a share of what it drew
        assert trained == lasts.kept
        assert lengths(module, 4) == [26, 8, 15, 8]
    count = EasinessRecord.load(tmp_path, series="train-online").count[0]
    assert [epoch.nonzero()[:, 0].tolist() for epoch in count] == trained


def test_weights_of_zero_for_all_that_is_kept() -> None:
    weights = torch.ones(53)
    weights[:20] = 0
    data = over(WeightedRandomSampler(weights, 53))
    assert refusal(ValueError, EasinessDataModule(data, Keep(range(20)))) == (
        "Keep keeps no example that the loader's WeightedRandomSampler draws; select from its examples, or drop the"
        " sampler."
    )


DRAWN_FROM: dict[str, Any] = {
    "all": lambda: RandomSampler(range(53)),
    "weights": lambda: WeightedRandomSampler((torch.arange(53) >= 19).float(), 53),
    "subset": lambda: SubsetRandomSampler(range(19, 53)),
}


@pytest.mark.parametrize("drawn", DRAWN_FROM)
@pytest.mark.parametrize("every_epoch", [False, True])
def test_everything_kept_is_the_users_training_also_where_a_sampler_draws_a_part(every_epoch: bool, drawn: str) -> None:
    """To the bit; with a rule for each epoch, that of a Trainer that reloads each epoch."""

    def made(selection: Selection | None, **options: Any) -> dict[str, Any]:
        seed_everything(7, verbose=False)
        module, _ = fit(EasinessDataModule(over(DRAWN_FROM[drawn]()), selection), **options)
        return {"batches": module.batches, "weights": dict(module.state_dict())}

    if every_epoch:
        assert_identical(made(None, reload_dataloaders_every_n_epochs=1), made(Sizes([53, 53])))
    else:
        assert_identical(made(None), made(Keep(range(53))))


NO_BATCH = (
    "What {0} keeps, {1} examples, gives no batch with the loader's sampler, batch_size and drop_last; keep more, or"
    " set drop_last=False or a smaller batch_size."
)


def test_a_selection_that_gives_no_batch() -> None:
    """A sampler of few draws makes the share of them that the selection is of the data set."""
    few = RandomSampler(range(53), num_samples=16)
    data = EasinessDataModule(over(few, drop_last=True), Keep(range(10)))
    assert refusal(ValueError, data) == NO_BATCH.format("Keep", 10)
    weighted = WeightedRandomSampler(torch.ones(53), 16)  # draws as many more as it takes
    made = select_from(
        DataLoader(IndexedPoints(), 8, sampler=weighted, drop_last=True),
        SelectedDataset(IndexedPoints(), torch.arange(10)),
        enough=lambda count: max(8, count),
    )
    assert (len(made), weighted.num_samples) == (1, 16)


class Wholes(BatchSampler):
    """A batch sampler of the user's own, of whole batches only."""

    def __init__(self, size: int) -> None:
        self.size, self.batch_size = size, 8

    def __iter__(self) -> Iterator[list[int]]:
        return iter([list(range(start, start + 8)) for start in range(0, self.size - 7, 8)])

    def __len__(self) -> int:
        return self.size // 8

    def for_selection(self, selected: Any) -> Wholes:
        return Wholes(len(selected))


def test_a_batch_sampler_of_the_users_own_that_gives_no_batch_is_an_error_and_no_early_end() -> None:
    data = EasinessDataModule(DataLoader(IndexedPoints(), batch_sampler=Wholes(53)), Sizes([53, 4], minimum=4))
    module, made = Traces(), trainer(max_epochs=3)
    with pytest.raises(ValueError, match="gives no batch") as error:
        made.fit(module, datamodule=data)
    assert str(error.value) == NO_BATCH.format("Sizes", 4)
    assert lengths(module, 2) == [48, 0]
    assert made.reload_dataloaders_every_n_epochs == 0


@pytest.mark.parametrize(("limit", "batch_size"), [(0.2, 8), (0.35, 8), (1 / 49, 1)])
def test_a_small_share_of_the_batches_of_shrinking_epochs(limit: float, batch_size: int) -> None:
    """Epochs are filled up so that the share is a batch: int(batches * limit) >= 1."""
    sizes = [53, 30, 9, 1]
    module = Traces()
    if batch_size == 1:
        module.net[1] = nn.Identity()  # type: ignore[assignment]
    data = EasinessDataModule(IndexedBase(batch_size=batch_size), Sizes(sizes))
    module, _ = fit(data, module, max_epochs=4, limit_train_batches=limit)
    least = next(count for count in range(1, 99) if int(count * limit) >= 1)
    batches = [max(math.ceil(size / batch_size), least) for size in sizes]
    taken = [int(count * limit) for count in batches]
    assert [len([one for one in module.batches if one[0] == epoch]) for epoch in range(4)] == taken
    assert module.validations == 4


# ---------------------------------------------------------------------------------- samplers of the user's own


class Own(Sampler[int]):
    def __init__(self, size: int = 53) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))

    def __len__(self) -> int:
        return self.size


class Asked(Own):
    def for_selection(self, selected: Any) -> Asked:
        return Asked(len(selected))


class OwnBatches(Wholes):
    for_selection = None  # type: ignore[assignment]


UNKNOWN = (
    "EasinessDataModule does not know what {} would draw from a part of the data set; give it a method"
    " `for_selection(selected)` that returns a sampler of positions 0 to len(selected) - 1 (`selected.indices` are"
    " their examples), or use shuffle=True."
)


@pytest.mark.parametrize("first", [53, 20])
def test_a_sampler_that_cannot_be_kept_is_known_before_training(first: int) -> None:
    assert refusal(TypeError, EasinessDataModule(over(Own()), Sizes([first, 20]))) == UNKNOWN.format("Own")


def test_a_sampler_that_can_be_kept_and_one_under_what_needs_no_selection() -> None:
    module, _ = fit(EasinessDataModule(over(Asked()), Sizes([53, 20])))
    assert lengths(module, 2) == [53, 20]
    module, _ = fit(EasinessDataModule(over(Own()), Keep(range(53))))
    assert lengths(module, 2) == [53, 53]
    module, _ = fit(EasinessDataModule(over(Own())))
    assert lengths(module, 2) == [53, 53]


def test_a_batch_sampler_that_cannot_be_kept_is_known_before_training() -> None:
    class Others:
        """Not derived from torch's."""

        def __iter__(self) -> Iterator[list[int]]:
            return iter([list(range(8))])

        def __len__(self) -> int:
            return 1

    data = DataLoader(IndexedPoints(), batch_sampler=Others())  # type: ignore[arg-type]
    assert refusal(TypeError, EasinessDataModule(data, Sizes([53, 20]))) == UNKNOWN.format("Others")


# ------------------------------------------------------------------------ resuming: stopped anywhere is never stopped


class Plain(Traces):
    """Draws nothing at random while it trains, as Lightning's checkpoints do not hold the random streams."""

    def __init__(self) -> None:
        super().__init__("adam")
        self.net[3] = nn.Identity()


class Looks(Sizes):
    """As many of the hardest at the current weights."""

    needs_observation = True

    def select(self, state: SelectionState) -> Tensor:
        assert state.observed is not None
        return state.observed["loss"].argsort(descending=True)[: self.sizes[state.epoch]]


class LooksOnce(Looks):
    every_epoch = False


RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Keep": (lambda: Keep(range(20, 44)), {}),
    "growing": (lambda: Sizes([16, 24, 37, 53]), {}),
    "shrinking": (lambda: Sizes([53, 37, 24, 16]), {}),
    "growing, looks": (lambda: Looks([16, 24, 37, 53]), {}),
    "shrinking, looks": (lambda: Looks([53, 37, 24, 16]), {}),
    "looks once": (lambda: LooksOnce([21]), {}),
    "every second epoch": (lambda: Looks([30, 99, 12, 99]), {"reload_dataloaders_every_n_epochs": 2}),
}


class Saves(Callback):
    """A checkpoint after each batch, and one at each epoch's end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.save_checkpoint(self.folder / f"{len(self.places)}.ckpt")
        self.places.append((trainer.current_epoch, len(pl_module.batches)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{len(self.places)}.ckpt")
        self.places.append((trainer.current_epoch, len(pl_module.batches)))


def whole_or_resumed(rule: str, ckpt_path: Path | None, callbacks: list[Callback]) -> tuple[Plain, Trainer]:
    make, options = RULES[rule]
    seed_everything(1, verbose=False)
    data = EasinessDataModule(Resumable(), make(), val_dataloaders=loader(IndexedPoints(20, seed=5), shuffle=False))
    module, made = fit(data, Plain(), max_epochs=4, callbacks=callbacks, ckpt_path=ckpt_path, **options)
    assert isinstance(module, Plain)
    return module, made


@pytest.mark.parametrize("rule", RULES)
def test_stopped_at_any_batch_and_resumed_equals_never_stopped(rule: str, tmp_path: Path) -> None:
    saves = Saves(tmp_path)
    whole, fitted = whole_or_resumed(rule, None, [saves])
    failed = {}
    for number, (epoch, done) in enumerate(saves.places):
        if done == len(whole.batches):
            continue
        module, made = whole_or_resumed(rule, tmp_path / f"{number}.ckpt", [])
        try:
            assert module.batches == whole.batches[done:]
            assert_identical(dict(whole.state_dict()), dict(module.state_dict()))
            assert_identical(fitted.optimizers[0].state_dict(), made.optimizers[0].state_dict())
            assert made.global_step == fitted.global_step
        except AssertionError as error:
            failed[epoch, done] = str(error)[:300]
    assert not failed
    sizes = lengths(whole, 4)
    expected = {"growing": [16, 24, 37, 53], "shrinking": [53, 37, 24, 16], "every": [30, 30, 12, 12]}
    assert sizes == expected.get(rule.split()[0].rstrip(","), [sizes[0]] * 4)
    assert len(saves.places) == len(whole.batches) + 4


class Endless(Sampler[int]):
    """Does not tell its length, which torch leaves to the sampler."""

    def __init__(self, size: int = 53) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))

    def for_selection(self, selected: Any) -> Endless:
        return Endless(len(selected))


def test_resumed_at_an_epochs_end_with_a_sampler_that_does_not_tell_its_length(tmp_path: Path) -> None:
    def made(**options: Any) -> Plain:
        seed_everything(1, verbose=False)
        module = Plain()
        fit(EasinessDataModule(over(Endless()), Sizes([24, 16, 32])), module, max_epochs=3, **options)
        return module

    saves = Saves(tmp_path)
    whole = made(callbacks=[saves])
    number = saves.places.index((0, 3)) + 1
    assert saves.places[number] == (0, 3), "after the epoch's last batch, and at its end"
    resumed = made(ckpt_path=tmp_path / f"{number}.ckpt")
    assert resumed.batches == whole.batches[3:]
    assert_identical(dict(whole.state_dict()), dict(resumed.state_dict()))


# ------------------------------------------------------------------------- the Trainer's own rhythm of reloading


@pytest.mark.parametrize("every", [2, 3])
def test_a_choice_holds_as_long_as_the_trainer_keeps_its_loaders(every: int) -> None:
    lasts = Lasts()
    data = EasinessDataModule(IndexedBase(), Looks([16, 24, 32, 40, 48]))
    module, _ = fit(data, max_epochs=5, reload_dataloaders_every_n_epochs=every, callbacks=[lasts])
    sizes = [[16, 24, 32, 40, 48][epoch - epoch % every] for epoch in range(5)]
    assert lengths(module, 5) == sizes
    for epoch in range(5):
        assert lasts.kept[epoch] == lasts.kept[epoch - epoch % every] == sorted(module.epoch(epoch))
    assert lasts.kept[0] != lasts.kept[every][: sizes[0]]


@pytest.mark.parametrize("own", [0, 1, 2])
@pytest.mark.parametrize("kind", [ArithmeticError, KeyboardInterrupt])
@pytest.mark.parametrize("batch", [(0, 0), (1, 1)])
def test_the_trainers_value_is_given_back_however_a_fit_ends(
    batch: tuple[int, int], kind: type[BaseException], own: int
) -> None:
    class Fails(Callback):
        during: Any = None

        def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
            self.during = trainer.reload_dataloaders_every_n_epochs

    looks = Fails()
    made = trainer(callbacks=[looks, Stop(None, *batch, kind("on purpose"))], reload_dataloaders_every_n_epochs=own)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((kind, SystemExit)):
            made.fit(Traces(), datamodule=EasinessDataModule(IndexedBase(), Sizes([20, 30])))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it from there on
    assert looks.during == 1
    assert made.reload_dataloaders_every_n_epochs == own


def test_the_trainers_value_is_given_back_where_the_rule_or_the_data_fails() -> None:
    class Fails(Sizes):
        def select(self, state: SelectionState) -> Tensor:
            if state.epoch == 1:
                raise ArithmeticError("on purpose")
            return super().select(state)

    made = trainer(reload_dataloaders_every_n_epochs=3, max_epochs=9)
    with pytest.raises(IndexError):
        made.fit(Traces(), datamodule=EasinessDataModule(IndexedBase(), Sizes([20])))
    assert made.reload_dataloaders_every_n_epochs == 3
    made = trainer()
    with pytest.raises(ArithmeticError):
        made.fit(Traces(), datamodule=EasinessDataModule(IndexedBase(), Fails([20, 20])))
    assert made.reload_dataloaders_every_n_epochs == 0


# ------------------------------------------------------------------------------------------------ validation


class Validated(IndexedBase):
    """Counts how often its validation loader is asked for; a split of its own each time."""

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
def test_the_validation_loader_is_made_once(options: dict[str, Any], validations: int) -> None:
    wrapped, module = Validated(), Validations()
    fit(EasinessDataModule(wrapped, Looks([16, 32, 48, 32, 16])), module, max_epochs=5, **options)
    assert len(wrapped.splits) == 1
    assert wrapped.overridden
    assert module.validations == validations
    assert module.seen == wrapped.splits[0] * validations, "the same split each time"


@pytest.mark.parametrize("every", [2, 3])
def test_the_validation_loader_is_made_as_often_as_the_trainer_would(every: int) -> None:
    plain, wrapped = Validated(), Validated()
    for data in (plain, EasinessDataModule(wrapped, Sizes([16, 32, 48, 32, 16]))):
        module, _ = fit(data, Validations(), max_epochs=5, reload_dataloaders_every_n_epochs=every)
        assert module.validations == 5
    assert len(wrapped.splits) == len(plain.splits) > 1


def test_hooks_of_a_wrapped_one_without_validation_are_seen_during_the_fit() -> None:
    class Sees(Callback):
        def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
            self.overridden = is_overridden("val_dataloader", trainer.datamodule)

    for data, overridden in ((loader(IndexedPoints()), False), (IndexedBase(), True)):
        sees = Sees()
        module, _ = fit(EasinessDataModule(data, Sizes([20, 30])), callbacks=[sees])
        assert (sees.overridden, module.validations) == (overridden, 2 * overridden)


def test_a_second_fit_asks_for_the_validation_loader_again() -> None:
    wrapped = Validated()
    data = EasinessDataModule(wrapped, Sizes([20, 30]))
    for fits in (1, 2):
        fit(data)
        assert len(wrapped.splits) == fits
    assert data.val_dataloader() is not data.val_dataloader(), "outside a fit it is the user's own hook"


# ------------------------------------------------------------------------------------------------ new labels


class OneHot(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x, nn.functional.one_hot(torch.tensor(y), 4).float()


class Soft(Traces):
    """Takes one-hot labels."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert batch[1].shape == (len(batch[0]), 4)
        assert torch.equal(batch[1].sum(1), torch.ones(len(batch[0])))
        return super().training_step((batch[0], batch[1].argmax(1)), batch_idx)


def test_one_hot_labels_are_replaced() -> None:
    relabel = Relabel(scores(), 0.4, noise="next_class", which="hard")
    module = Soft()
    fit(EasinessDataModule(loader(OneHot()), relabel), module, max_epochs=1)
    trained = {
        index: label for _, indices, labels in module.batches for index, label in zip(indices, labels, strict=True)
    }
    assert trained == dict(enumerate(relabel.new_labels.tolist()))
    assert len(relabel.changed_indices) == 21


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.float64])
def test_a_one_hot_label_stays_of_its_type(dtype: torch.dtype) -> None:
    old = torch.tensor([0, 0, 1, 0]).to(dtype)
    new = replace_label(("x", old), 1)[1]
    assert (new.tolist(), new.dtype) == (torch.tensor([0, 1, 0, 0]).to(dtype).tolist(), dtype)
    assert old.int().tolist() == [0, 0, 1, 0], "the data set's own label is left as it is"


NO_LABEL = (
    "A label that is a {} cannot be replaced by a class; give the selection replace_fn, a function that takes an item"
    " and a label."
)


@pytest.mark.parametrize(
    "label",
    [
        torch.tensor([0.5, 0.5, 0, 0]),
        torch.tensor([1.0, 1.0, 0, 0]),
        torch.tensor([2.0, 0, 0, 0]),
        torch.zeros(4),
        torch.eye(2),
    ],
)
def test_a_label_that_is_not_one_hot_is_not_replaced(label: Tensor) -> None:
    with pytest.raises(TypeError) as error:
        replace_label(("x", label), 1)
    assert str(error.value) == NO_LABEL.format("Tensor")


def test_a_class_that_a_one_hot_label_has_no_place_for() -> None:
    with pytest.raises(TypeError):
        replace_label(("x", torch.tensor([0, 1.0])), 2)


class Named(IndexedPoints):
    """Its labels are names."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x, f"class {y}"


class Odd(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return {"pixels": x, "fine": y}


class LastLabel(Selection):
    """Another label for the very last example only."""

    def select(self, state: SelectionState) -> Tensor:
        return torch.arange(state.num_examples)

    def labels(self, state: SelectionState) -> Tensor:
        labels = torch.full((state.num_examples,), -1)
        labels[-1] = 0
        return labels


def test_labels_that_cannot_be_replaced_are_known_before_training() -> None:
    """Nothing may be trained on before the one example that is relabelled comes, in the last batch."""
    for data, message in (
        (Named(), NO_LABEL.format("str")),
        (
            Odd(),
            (
                "The label in a dict cannot be found to be replaced: items must be (x, label, ...) or mappings with the"
                " usual keys; give the selection replace_fn, a function that takes an item and a label."
            ),
        ),
    ):
        assert refusal(TypeError, EasinessDataModule(loader(data, shuffle=False), LastLabel())) == message


class Relabelled(Points):
    """What users do by hand: a data set that hands out other labels."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__(augment=True)
        self.y = labels


def test_trying_a_label_leaves_the_training_as_it_is() -> None:
    relabel = Relabel(scores(), 0.4)

    def made(data: Any) -> dict[str, Any]:
        seed_everything(7, verbose=False)
        module = Net()
        trainer().fit(module, datamodule=data)
        return {"weights": dict(module.state_dict()), "losses": module.losses, "streams": streams()}

    by_hand = made(EasinessDataModule(loader(Relabelled(relabel.new_labels))))
    assert_identical(by_hand, made(EasinessDataModule(loader(Points(augment=True)), relabel)))


# ------------------------------------------------------------------------------- mistakes in a rule, in a fit


class Mistaken(Selection):
    def __init__(self, chosen: Any, **attributes: Any) -> None:
        self.chosen = chosen
        vars(self).update(attributes)

    def select(self, state: SelectionState) -> Any:
        return self.chosen


ASKED = "Mistaken must choose by indices (n,) or a bool mask (53,); got "
MISTAKES: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (
        None,
        TypeError,
        f"{ASKED}NoneType: let select() return a tensor, of topk(...) and sort(...) the second result.",
    ),
    "topk": (
        torch.rand(53).topk(20),
        TypeError,
        f"{ASKED}topk: let select() return a tensor, of topk(...) and sort(...) the second result.",
    ),
    "nonzero": (
        torch.eye(53)[:, :1].nonzero()[:, :1],
        ValueError,
        f"{ASKED}torch.int64 (1, 1): of nonzero() take [:, 0].",
    ),
    "zeros and ones": (
        torch.arange(53) % 2,
        ValueError,
        f"{ASKED}torch.int64 (53,) of zeros and ones: make a mask of it with .bool().",
    ),
    "floats": (torch.arange(20.0), TypeError, f"{ASKED}torch.float32 (20,)."),
    "repeats": ([3, 4, 4], ValueError, "Mistaken keeps example 4 more than once; drop repeats with .unique()."),
    "out of range": ([3, 53], ValueError, "Mistaken keeps example 53, but examples are numbered 0 to 52."),
}


@pytest.mark.parametrize("every_epoch", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_rule_are_errors_before_training(mistake: str, every_epoch: bool) -> None:
    chosen, kind, message = MISTAKES[mistake]
    assert refusal(kind, EasinessDataModule(IndexedBase(), Mistaken(chosen, every_epoch=every_epoch))) == message


def test_class_shares_in_the_log_are_those_of_a_loop(tmp_path: Path) -> None:
    class Listed(IndexedBase):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.train.targets = Points().y.tolist()  # type: ignore[attr-defined]

    logger, lasts = CSVLogger(tmp_path, name="", version=""), Lasts()
    data = EasinessDataModule(Listed(), Sizes([53, 20, 9, 40]))
    fit(data, max_epochs=4, logger=logger, callbacks=[lasts])
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    table = [row for row in table if row["easiness/selected_share"]]
    target = Points().y.tolist()
    assert len(table) == 4
    for row, kept in zip(table, lasts.kept, strict=True):
        assert float(row["easiness/selected_share"]) == pytest.approx(len(kept) / 53)
        for label in range(4):
            of_class = [index for index in range(53) if target[index] == label]
            share = len([index for index in of_class if index in kept]) / len(of_class)
            assert float(row[f"easiness/selected_share/class_{label}"]) == pytest.approx(share)


def test_the_labels_of_a_data_set_are_read_once_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of millions in a list that takes a second; another data set is read anew."""
    read: list[Any] = []

    def reads(dataset: Any) -> Tensor | None:
        read.append(dataset)
        return known_target(dataset)

    monkeypatch.setattr("lightning_easiness.select.chooser.known_target", reads)
    wrapped = IndexedBase()
    data = EasinessDataModule(wrapped, Sizes([20, 30, 16]))
    fit(data, max_epochs=3)
    assert read == [wrapped.train]
    fit(data)
    assert len(read) == 2
    assert read[1] is wrapped.train is not read[0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8])
def test_labels_that_a_rule_knows_may_be_of_any_integer_type(dtype: torch.dtype, tmp_path: Path) -> None:
    """Where the data set's own are not to be compared, they are what the log goes by."""
    target = torch.tensor([0, 1] * 26 + [100], dtype=dtype)
    logger = CSVLogger(tmp_path, name="", version="")
    data = EasinessDataModule(IndexedBase(), Rule(range(52), target=target), check_target=False)
    fit(data, max_epochs=1, logger=logger)
    header, row, *_ = (tmp_path / "metrics.csv").read_text().splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert [float(found[f"easiness/selected_share/class_{label}"]) for label in (0, 1, 100)] == [1, 1, 0]


# ------------------------------------------------------------------------------------------------ comparing


def unevaluated(hook: str, evaluate: str) -> str:
    return (
        f"compare_selections evaluates each run with evaluate={evaluate!r}, but the `datamodule` has no {hook}(); give"
        " a LightningDataModule that has one, or EasinessDataModule(loader, val_dataloaders=...)."
    )


class TrainOnly(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return loader()


COMPARED: dict[str, tuple[Any, str, str]] = {
    "a loader": (loader, "validate", unevaluated("val_dataloader", "validate")),
    "a datamodule": (TrainOnly, "validate", unevaluated("val_dataloader", "validate")),
    "no test": (Base, "test", unevaluated("test_dataloader", "test")),
}


@pytest.mark.parametrize("case", COMPARED)
def test_a_comparison_without_anything_to_evaluate_on_trains_nothing(case: str, tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("nothing is trained")

    make, evaluate, message = COMPARED[case]
    options: dict[str, Any] = {"seeds": [1], "dirpath": tmp_path / "new", "evaluate": evaluate, "progress": False}
    with pytest.raises(ValueError, match="compare_selections") as error:
        compare_selections(never, never, make(), [0.3], ["random"], metric="val_loss", **options)
    assert str(error.value) == message
    assert not (tmp_path / "new").exists()


# ----------------------------------------------------------------------------------------- what Trainers are asked for


class Plateau(Traces):
    """Its learning rate steps once an epoch by what is validated."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "monitor": "val_loss"}}


# of 53, 20 and 40 examples in batches of 8: 7, 3 and 5 batches
ASKS: dict[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    "nothing": ({}, {}, 15, 3),
    "workers that stay": ({"num_workers": 2, "persistent_workers": True}, {}, 15, 3),
    "accumulation": ({}, {"accumulate_grad_batches": 2}, 4 + 2 + 3, 3),
    "a limit": ({}, {"limit_train_batches": 4}, 4 + 3 + 4, 3),
    "a share": ({}, {"limit_train_batches": 0.5}, 3 + 1 + 2, 3),
    "fast_dev_run": ({}, {"fast_dev_run": True}, 1, 1),
    "fast_dev_run of 2": ({}, {"fast_dev_run": 2}, 2, 1),
    "an interval of a half": ({}, {"val_check_interval": 0.5}, 15, 2 + 3 + 2),
    "an interval of a quarter": ({}, {"val_check_interval": 0.25}, 15, 7 + 3 + 5),
    "an interval over epochs": ({}, {"val_check_interval": 4, "check_val_every_n_epoch": None}, 15, 3),
    "every other epoch": ({}, {"check_val_every_n_epoch": 2}, 15, 1),
    "bf16": ({}, {"precision": "bf16-mixed"}, 15, 3),
    "a number of steps": ({}, {"max_epochs": -1, "max_steps": 11}, 11, 2),
}


@pytest.mark.parametrize("rule", [Sizes, Looks])
@pytest.mark.parametrize("case", ASKS)
def test_steps_and_validations_are_as_computed_by_hand(case: str, rule: type[Sizes]) -> None:
    given, options, steps, validations = ASKS[case]
    module, made = fit(EasinessDataModule(IndexedBase(**given), rule([53, 20, 40])), **{"max_epochs": 3, **options})
    assert (made.global_step, module.validations) == (steps, validations)
    if steps == 15 or case == "accumulation":
        assert lengths(module, 3) == [53, 20, 40]
        assert all(len(set(module.epoch(epoch))) == size for epoch, size in enumerate([53, 20, 40]))


@pytest.mark.filterwarnings("ignore:.*overfit_batches.*")
@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_on_the_first_batches_of_each_selection() -> None:
    lasts = Lasts()
    data = EasinessDataModule(IndexedBase(), Sizes([53, 20, 40]))
    module, made = fit(data, max_epochs=3, overfit_batches=2, callbacks=[lasts])
    assert (made.global_step, module.validations) == (6, 3)
    assert [module.epoch(epoch) for epoch in range(3)] == [kept[:16] for kept in lasts.kept]


def test_a_schedule_that_waits_for_a_plateau() -> None:
    module = Plateau()
    _, made = fit(EasinessDataModule(IndexedBase(), Sizes([53, 20, 40])), module, max_epochs=3)
    assert (made.global_step, module.validations, module.schedule.last_epoch) == (15, 3, 3)


class Scaled(IndexedBase):
    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 2

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train, batch_size=self.batch_size)


@pytest.mark.parametrize("rule", [Sizes, Looks])
def test_the_batch_size_is_scaled_through_the_wrapper(rule: type[Sizes], tmp_path: Path) -> None:
    made, wrapped = trainer(max_epochs=3, default_root_dir=tmp_path), Scaled()
    data = EasinessDataModule(wrapped, rule([53, 20, 40]))
    module = Traces()
    Tuner(made).scale_batch_size(module, datamodule=data, max_trials=3, steps_per_trial=2, init_val=2)
    assert wrapped.batch_size == data.batch_size == 8
    assert made.reload_dataloaders_every_n_epochs == 0
    module = Traces()
    made.fit(module, datamodule=data)
    assert lengths(module, 3) == [53, 20, 40]
    assert made.global_step == 15
