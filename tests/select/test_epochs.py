"""A selection for every epoch: lengths, minima, limits and intervals of the Trainer, samplers, reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Keep, Selection
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.subset import known_identity
from tests.selecting import (
    HardestSizes,
    HighestLoss,
    IndexedBase,
    IndexedPoints,
    Listed,
    ListsTargets,
    Selected,
    Sizes,
    Traces,
    fit,
    logged,
    over,
)
from tests.small import Points, assert_identical, loader, trainer

# many of these small selections have no example of some class
pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")


# the Trainer's and the loader's settings, the sizes that a rule asks for, and how many examples an epoch reads
READ: dict[str, tuple[dict[str, Any], dict[str, Any], Sizes, list[int]]] = {
    "a small minimum": ({}, {}, Sizes([53, 20, 40, 2, 30], minimum=1), [53, 20, 40, 2, 30]),
    "as few as one batch": ({}, {}, Sizes([2, 53, 9]), [2, 53, 10]),
    "a batch, where others are dropped": ({}, {"drop_last": True}, Sizes([2, 53, 9]), [8, 48, 8]),
    "no last batch of one, which batch norm refuses": ({}, {}, Sizes([17, 9, 18]), [18, 10, 18]),
    "an interval in batches": ({"val_check_interval": 3}, {}, Sizes([2, 40]), [18, 40]),
    "a minimum below a batch, drop_last": ({}, {"drop_last": True}, Sizes([53, 3, 40, 1], minimum=1), [48, 8, 40, 8]),
    "a minimum of 4, drop_last": ({}, {"drop_last": True}, Sizes([53, 3, 40, 1], minimum=4), [48, 8, 40, 8]),
    "two epochs a choice": ({"reload_dataloaders_every_n_epochs": 2}, {}, Sizes([10, 99, 20, 99]), [10, 10, 20, 20]),
}


@pytest.mark.parametrize("case", READ)
def test_an_epoch_is_what_was_selected_and_repeats_of_it_where_batches_are_missing(case: str) -> None:
    options, loaders, rule, expected = READ[case]
    selected = Selected()
    module, made = fit(IndexedBase(**loaders), rule, max_epochs=len(expected), callbacks=[selected], **options)
    assert module.lengths(len(expected)) == expected
    held = max(1, options.get("reload_dataloaders_every_n_epochs", 1))
    for epoch, kept in enumerate(selected.selected):
        asked, read = rule.sizes[epoch - epoch % held], module.epoch(epoch)
        assert len(kept) == max(asked, 2, rule.minimum or 1), "what was asked for, and no single example"
        assert set(read) <= set(kept)
        often = [read.count(index) for index in kept]
        assert max(often) - min(often) <= 1, "repeats are spread evenly"
    assert len(made.train_dataloader) == made.num_training_batches == -(-expected[-1] // 8), "the progress bar's total"
    assert module.validations == made.current_epoch == len(expected)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_rule_of_the_users_sees_the_weights_before_the_epochs_that_a_choice_holds_for(every: int) -> None:
    """Each selection is what the rule makes of the weights before the epoch, recomputed here."""
    selected, points = Selected(), IndexedPoints()
    options = {"reload_dataloaders_every_n_epochs": every, "callbacks": [selected]}
    module, _ = fit(IndexedBase(), HardestSizes([16, 24, 32, 40, 48]), max_epochs=5, **options)
    for epoch in range(5):
        chosen_at = epoch - epoch % every
        other = Traces()
        other.load_state_dict(selected.states[chosen_at])
        loss = nn.functional.cross_entropy(other.eval()(points.x), points.y, reduction="none")
        expected = loss.topk(16 + 8 * chosen_at).indices.sort().values.tolist()
        assert sorted(module.epoch(epoch)) == selected.selected[epoch] == expected


@pytest.mark.parametrize(("limit", "batch_size"), [(0.2, 8), (0.35, 8), (1 / 49, 1)])
def test_a_small_fraction_of_the_batches_of_shrinking_epochs(limit: float, batch_size: int) -> None:
    """Epochs are repeated so that the fraction is a batch: int(batches * limit) >= 1."""
    sizes, module = [53, 30, 9, 1], Traces()
    if batch_size == 1:
        module.net[1] = nn.Identity()  # type: ignore[assignment]
    fit(IndexedBase(batch_size=batch_size), Sizes(sizes), module, max_epochs=4, limit_train_batches=limit)
    least = next(count for count in range(1, 99) if int(count * limit) >= 1)
    taken = [int(max(math.ceil(size / batch_size), least) * limit) for size in sizes]
    assert [len([one for one in module.batches if one[0] == epoch]) for epoch in range(4)] == taken
    assert module.validations == 4


# ----------------------------------------------------------------------------------------- what Trainers are asked for


# of 53, 20 and 40 examples in batches of 8: 7, 3 and 5 batches
ASKS: dict[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    "nothing": ({}, {}, 15, 3),
    "workers that stay": ({"num_workers": 2, "persistent_workers": True}, {}, 15, 3),
    "accumulation": ({}, {"accumulate_grad_batches": 2}, 4 + 2 + 3, 3),
    "a limit": ({}, {"limit_train_batches": 4}, 4 + 3 + 4, 3),
    "half": ({}, {"limit_train_batches": 0.5}, 3 + 1 + 2, 3),
    "fast_dev_run": ({}, {"fast_dev_run": True}, 1, 1),
    "fast_dev_run of 2": ({}, {"fast_dev_run": 2}, 2, 1),
    "an interval of a half": ({}, {"val_check_interval": 0.5}, 15, 2 + 3 + 2),
    "an interval of a quarter": ({}, {"val_check_interval": 0.25}, 15, 7 + 3 + 5),
    "an interval over epochs": ({}, {"val_check_interval": 4, "check_val_every_n_epoch": None}, 15, 3),
    "every other epoch": ({}, {"check_val_every_n_epoch": 2}, 15, 1),
    "bf16": ({}, {"precision": "bf16-mixed"}, 15, 3),
    "a number of steps": ({}, {"max_epochs": -1, "max_steps": 11}, 11, 2),
}


@pytest.mark.parametrize("rule", [Sizes, HardestSizes])
@pytest.mark.parametrize("case", ASKS)
def test_steps_and_validations_are_as_computed_by_hand(case: str, rule: type[Sizes]) -> None:
    given, options, steps, validations = ASKS[case]
    module, made = fit(IndexedBase(**given), rule([53, 20, 40]), **{"max_epochs": 3, **options})
    assert (made.global_step, module.validations) == (steps, validations)
    if steps == 15 or case == "accumulation":
        assert module.lengths(3) == [53, 20, 40]
        assert all(len(set(module.epoch(epoch))) == size for epoch, size in enumerate([53, 20, 40]))


@pytest.mark.filterwarnings("ignore:.*overfit_batches.*")
@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_on_the_first_batches_of_each_selection() -> None:
    selected = Selected()
    module, made = fit(IndexedBase(), Sizes([53, 20, 40]), max_epochs=3, overfit_batches=2, callbacks=[selected])
    assert (made.global_step, module.validations) == (6, 3)
    assert [module.epoch(epoch) for epoch in range(3)] == [kept[:16] for kept in selected.selected]


class Scheduled(Traces):
    """Its learning rate falls with each step, and with each epoch's validation; it asks for the number of steps."""

    def configure_optimizers(self) -> Any:
        self.planned = self.trainer.estimated_stepping_batches
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        by_step = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        schedules = {"scheduler": by_step, "interval": "step"}, {"scheduler": self.plateau, "monitor": "val_loss"}
        return [optimizer], list(schedules)


@pytest.mark.parametrize(
    ("rule", "planned", "steps"),
    [(Sizes([16, 40, 8], minimum=1), 3 * 2, 2 + 5 + 1), (Keep(range(20)), 9, 9)],
    ids=["each epoch", "once"],
)
def test_learning_rates_step_with_the_batches_and_the_validations_of_each_epoch(
    rule: Selection, planned: int, steps: int
) -> None:
    """The planned number of steps is that of epochs as long as the first, and schedules move by as many."""
    module, made = fit(IndexedBase(), rule, Scheduled(), max_epochs=3)
    assert (module.planned, made.global_step) == (planned, steps)
    assert made.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.9**planned)
    assert module.plateau.last_epoch == 3


class Scaled(IndexedBase):
    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 2

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train, batch_size=self.batch_size)


@pytest.mark.parametrize("rule", [Sizes, HardestSizes])
def test_the_batch_size_is_scaled_through_the_wrapper(rule: type[Sizes], tmp_path: Path) -> None:
    made, wrapped = trainer(max_epochs=3, default_root_dir=tmp_path), Scaled()
    data = EasinessDataModule(wrapped, rule([53, 20, 40]))
    Tuner(made).scale_batch_size(Traces(), datamodule=data, max_trials=3, steps_per_trial=2, init_val=2)
    assert wrapped.batch_size == data.batch_size == 8
    assert made.reload_dataloaders_every_n_epochs == 0
    module = Traces()
    made.fit(module, datamodule=data)
    assert module.lengths(3) == [53, 20, 40]
    assert made.global_step == 15


# ------------------------------------------------------------------------------------------------------- samplers


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
    callbacks = [Selected(), EasinessCallback(tmp_path, probe=None)]
    rule = Listed(range(53), evens, range(30), evens)
    module, made = fit(SPLITS[split](), rule, max_epochs=4, callbacks=callbacks)
    kept = callbacks[0].selected
    trained = [sorted(set(module.epoch(epoch))) for epoch in range(4)]
    assert made.current_epoch == 4
    assert all(set(one) <= set(SPLIT) for one in (*trained, *kept))
    assert [len(one) for one in kept] == [26, 2, 15, 2]
    if split != "weights":  # which draws a fraction of what it drew
        assert trained == kept
        assert module.lengths(4) == [26, 2, 15, 2]
    count = EasinessRecord.load(tmp_path, series="train-online").count[0]
    assert [epoch.nonzero()[:, 0].tolist() for epoch in count] == trained


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
        torch.manual_seed(7)
        module, _ = fit(over(DRAWN_FROM[drawn]()), selection, **options)
        return {"batches": module.batches, "weights": dict(module.state_dict())}

    if every_epoch:
        assert_identical(made(None, reload_dataloaders_every_n_epochs=1), made(Sizes([53, 53])))
    else:
        assert_identical(made(None), made(Keep(range(53))))


class Asked(list[int]):
    def for_selection(self, selected: Any) -> Any:
        return range(len(selected))


@pytest.mark.parametrize(
    ("sampler", "rule", "lengths"),
    [
        (Asked(range(53)), Sizes([53, 20]), [53, 20]),
        (range(53), Keep(range(53)), [53, 53]),
        (range(53), None, [53, 53]),
    ],
    ids=["asked", "all is kept", "no selection"],
)
def test_a_sampler_of_the_users_own_is_asked_for_one_and_left_alone_where_all_is_kept(
    sampler: Any, rule: Selection | None, lengths: list[int]
) -> None:
    assert fit(over(sampler), rule)[0].lengths(2) == lengths


@pytest.mark.parametrize(
    ("options", "limits"),
    [({}, {}), ({"drop_last": True}, {}), ({"drop_last": True}, {"limit_train_batches": 0.5})],
    ids=["whole", "drop-last", "half"],
)
def test_light_examples_still_give_an_epoch_its_batches(options: dict[str, Any], limits: dict[str, Any]) -> None:
    """Kept examples that a weighted sampler hardly draws: an epoch has a batch, and no last batch of one."""
    chances = torch.ones(53).index_fill(0, torch.arange(16), 1e-3)
    given = over(WeightedRandomSampler(chances, 53), **options)
    module, _ = fit(given, Listed(range(53), range(16), range(16)), max_epochs=3, **limits)
    assert {epoch for epoch, *_ in module.batches} == {0, 1, 2}


# ------------------------------------------------------------------------------------------------------- reports


def test_a_line_for_each_epoch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    fit(IndexedBase(drop_last=True), Sizes([2, 53, 9]), max_epochs=3)
    lines = [record.getMessage() for record in caplog.records if "trains on" in record.getMessage()]
    assert len(lines) == 3
    assert lines[0].startswith("Epoch 0: Sizes trains on 2 of 53 examples (3.8%), chosen in ")
    assert "; 6 repeats of them to complete the batches" in lines[0]
    assert "repeat" not in lines[1]


@pytest.mark.parametrize(("data", "rule"), [(ListsTargets, Sizes), (IndexedBase, HardestSizes)])
def test_scalars_of_each_epoch_are_those_of_a_loop(data: Any, rule: type[Sizes], tmp_path: Path) -> None:
    """The classes are those that the data set lists, or that the pass saw."""
    selected, target = Selected(), Points().y.tolist()
    options = {"logger": CSVLogger(tmp_path, name="", version=""), "callbacks": [selected]}
    _, made = fit(data(), rule([53, 20, 9, 40]), max_epochs=4, **options)
    assert float(made.callback_metrics["easiness/selected_share"]) == pytest.approx(40 / 53), "can be monitored"
    for row, kept in zip(logged(tmp_path), selected.selected, strict=True):
        assert row["easiness/selected_share"] == pytest.approx(len(kept) / 53)
        assert row["easiness/selection_seconds"] > 0
        for label in range(4):
            of_class = [index for index in range(53) if target[index] == label]
            fraction = len([index for index in of_class if index in kept]) / len(of_class)
            assert row[f"easiness-selected-share/class_{label}"] == pytest.approx(fraction)


def test_where_labels_are_not_compared_the_log_goes_by_those_of_the_selection(tmp_path: Path) -> None:
    """They may be of the type that files hold."""
    target = torch.tensor([0, 1] * 26 + [100], dtype=torch.uint8)
    data = EasinessDataModule(IndexedBase(), Listed(range(52), target=target), check_target=False)
    fit(data, max_epochs=1, logger=CSVLogger(tmp_path, name="", version=""))
    (row,) = logged(tmp_path)
    assert [row[f"easiness-selected-share/class_{label}"] for label in (0, 1, 100)] == [1, 1, 0]


def test_the_labels_of_a_data_set_are_read_once_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of millions in a list that takes a second; another data set is read anew."""
    read: list[Any] = []

    def reads(dataset: Any) -> DataIdentity:
        read.append(dataset)
        return known_identity(dataset)

    monkeypatch.setattr("lightning_easiness.select.chooser.known_identity", reads)
    wrapped = IndexedBase()
    data = EasinessDataModule(wrapped, Sizes([20, 30, 16]))
    fit(data, max_epochs=3)
    assert read == [wrapped.train]
    fit(data)
    assert len(read) == 2
    assert read[1] is wrapped.train is not read[0]


def test_a_second_fit_chooses_anew() -> None:
    data = EasinessDataModule(IndexedBase(), HighestLoss(0.4))
    first, second = (fit(data, max_epochs=1)[0] for _ in range(2))
    assert set(first.epoch(0)) != set(second.epoch(0))
