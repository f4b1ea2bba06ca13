"""SampleEasinessTraining at its edges: resumed schedules, other tasks, limits, rhythms, samplers, ties."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    SampleEasinessLoss,
    SampleEasinessTraining,
    SELModule,
)
from lightning_easiness.data.subset import SelectedDataset
from lightning_easiness.data.subset_loader import select_from
from lightning_easiness.functional import in_levels_by_loss, sample_easiness, sample_easiness_loss
from lightning_easiness.select.base import Selection, SelectionState
from tests.resuming import Plain, Resumable, Stop
from tests.selecting import Base, IndexedPoints, Traces
from tests.set_fits import SIGMA2, IndexedBase, Weighs, fit, seeded
from tests.small import Points, loader, trainer

SIZE = 53
READER = BatchReader(sigma2=SIGMA2)
OUT_OF_ORDER = "ignore:Detected call of `lr_scheduler.step.. before"


def training(*levels: Any, **options: Any) -> SampleEasinessTraining:
    return SampleEasinessTraining(levels or ("medium",), **{"early_epochs": 1, **options})


def whole_message(kind: type[Exception], function: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(kind) as error:
        function(*args, **options)
    return str(error.value)


# ----------------------------------------------------------------------------------------------- resumed schedules


class Scheduled(Plain):
    """Its learning rate falls to 0 over the steps that the Trainer estimates; keeps both."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.Identity()  # no batch norm, which refuses a last batch of one
        self.rates: list[tuple[int, float]] = []

    def configure_optimizers(self) -> Any:
        self.planned = steps = self.trainer.estimated_stepping_batches
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.rates.append((self.global_step, self.trainer.optimizers[0].param_groups[0]["lr"]))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("early", "epoch", "batch"), [(1, 2, None), (1, 2, 0), (0, 2, None)], ids=["epoch-end", "mid-epoch", "never-whole"]
)
def test_a_resumed_schedule_is_planned_as_before(early: int, epoch: int, batch: int | None, tmp_path: Path) -> None:
    saved = tmp_path / "a.ckpt"
    stop = Stop(saved, epoch, batch or 0, "epoch" if batch is None else "batch")

    def planned(others: Any, ckpt_path: Path | None = None) -> tuple[Scheduled, Trainer]:
        made, module = trainer(max_epochs=5, callbacks=others), seeded(lambda _: Scheduled())
        data = EasinessDataModule(Resumable(), training(early_epochs=early, final_epochs=1 - early), reader=READER)
        modules.append(module)
        made.fit(module, datamodule=data, ckpt_path=ckpt_path)
        return module, made

    modules: list[Scheduled] = []
    whole, ended = planned([])
    with pytest.raises(InterruptedError):
        planned([stop])
    resumed, ended_too = planned([], saved)
    assert modules[1].rates == whole.rates[: len(modules[1].rates)]
    assert resumed.planned == whole.planned
    assert whole.planned == 5 * len([step for step in whole.steps if step[0] == 0])
    assert len(whole.steps) != whole.planned, "a selection is at work"
    assert 0 < len(resumed.rates) < len(whole.rates)
    assert resumed.rates == whole.rates[-len(resumed.rates) :]
    assert ended.global_step == ended_too.global_step


SAMPLERS = {
    "random": lambda: RandomSampler(range(SIZE)),
    "subset": lambda: SubsetRandomSampler(range(30, SIZE)),
    "weighted": lambda: WeightedRandomSampler(torch.arange(1.0, SIZE + 1) ** 2, SIZE),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_fit_counts_its_steps_with_any_sampler(sampler: str, tmp_path: Path) -> None:
    """As many draws as in the first epoch, whichever examples those were."""

    class Given(Base):
        def train_dataloader(self) -> DataLoader[Any]:
            return loader(IndexedPoints(SIZE), sampler=SAMPLERS[sampler](), shuffle=None, batch_size=2)

    planned = []
    for others, ckpt in (([Stop(tmp_path / "a.ckpt", 2, 0, "epoch")], None), ([], tmp_path / "a.ckpt")):
        module = seeded(lambda _: Scheduled())
        data = EasinessDataModule(Given(), training(early_epochs=0, minimum=20), reader=READER)
        try:
            trainer(max_epochs=5, callbacks=others).fit(module, datamodule=data, ckpt_path=ckpt)
        except InterruptedError:
            assert not ckpt
        planned.append(module.planned)
    assert planned[0] == planned[1]


# ------------------------------------------------------------------------------------------- tasks without easiness


class Regression(Traces):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.batches.append((self.current_epoch, x[:, 8].long().tolist(), y.tolist()))
        return nn.functional.mse_loss(self(x)[:, 0], y)


class Floats(IndexedPoints):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], self.x[index, 0]


class FloatsBase(Base):
    def setup(self, stage: str) -> None:
        self.train = Floats(self.n)


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target) ** 2


@pytest.mark.parametrize(
    "options",
    [{}, {"by": "loss"}, {"online": True, "rescore_every_n_epochs": None}, {"per": "batch"}],
    ids=["pass", "by-loss", "online", "per-batch"],
)
def test_a_task_without_easiness_is_refused_when_it_is_first_selected_for(
    options: dict[str, Any], tmp_path: Path
) -> None:
    module = seeded(Regression)
    online = options.get("online", False)
    callbacks = [EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2, loss_fn=squared)] if online else []
    rule = training(**{"early_epochs": 2, **options})
    found = whole_message(
        ValueError,
        fit,
        rule,
        module,
        callbacks,
        data=FloatsBase(),
        max_epochs=4,
        wrapped={"reader": None if online else BatchReader(loss_fn=squared)},
    )
    assert found == (
        "SampleEasinessTraining goes by sample easiness, which needs logits (B, K) and class indices (B,); give"
        " EasinessCallback, or the `reader` of EasinessDataModule, a logits_fn or batch_fn to find them."
    )
    assert {epoch for epoch, *_ in module.batches} == {0, 1}, "the early epochs ask for none"


# ------------------------------------------------------------------------------------------------ weights of a batch


def surely() -> nn.Module:
    """A classifier to which few examples are medium."""
    net = nn.Linear(8, 4)
    net.load_state_dict({name: 6 * value for name, value in net.state_dict().items()})
    return net


class Steady(SELModule, Weighs):
    """Has neither dropout nor batch norm and never learns, so that only the draws of the others vary."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.net = surely()
        self.criterion = SampleEasinessLoss(sel_weight=0.1, sigma2=SIGMA2)
        self.shares: list[float] = []
        self.found: dict[str, list[tuple[float, float]]] = {}

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.before = batch
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses, every = self.losses_of(batch), self.losses_of(self.before)
        self.keep(batch, losses, self.sample_weight)
        self.shares.append(len(losses) / len(every))
        assert self.batch_share == self.criterion.batch_share == self.shares[-1]
        pairs = {"weighted": (self.weighted(losses).sum(), every.sum())}
        pairs["weighted_mean"] = (self.weighted_mean(losses), every.mean())
        pairs["sel"] = (self.sel(self(batch[0]), batch[1]), 0.1 * self.losses_by_sel(self.before, "mean"))
        for reduction in ("sum", "mean"):
            self.criterion.reduction = reduction
            whole = nn.functional.cross_entropy(self(self.before[0]), self.before[1], reduction=reduction)
            whole = whole + 0.1 * self.losses_by_sel(self.before, reduction, SIGMA2)
            pairs[reduction] = (self.criterion(self(batch[0]), batch[1]), whole)
        for name, (ours, theirs) in pairs.items():
            self.found.setdefault(name, []).append((float(ours.detach()), float(theirs.detach())))
        return pairs["weighted_mean"][0]

    def losses_by_sel(self, batch: Any, reduction: Any, sigma2: float = 1e-4) -> Tensor:
        return sample_easiness_loss(self(batch[0]), batch[1], sigma2, reduction=reduction)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:You have overridden `on_before_batch_transfer` in `LightningModule`")
def test_sums_and_means_over_narrowed_batches_are_those_of_whole_ones_in_expectation() -> None:
    module = seeded(Steady)
    rule = training(early_epochs=0, per="batch", others_share=0.3)
    fit(rule, module, max_epochs=40, data=IndexedBase(batch_size=16, drop_last=True))
    for name, pairs in module.found.items():
        ours, theirs = torch.tensor(pairs, dtype=torch.float64).T
        gap, error = (ours - theirs).mean(), (ours - theirs).std() / math.sqrt(len(pairs))
        assert 0 < error < 0.1 * theirs.mean(), name
        assert abs(gap) < 4 * error, (name, float(ours.mean() / theirs.mean()))
    raw = {round(value, 5) for _, _, _, weight in module.steps for value in weight.tolist()}
    assert min(raw) == 1 < max(raw)
    for (_, _, losses, weight), share in zip(module.steps, module.shares, strict=True):
        assert float(weight.sum()) == pytest.approx(16), "each stands for what it stands for, and no more"
        assert share == len(losses) / 16 < 1
    for part in (module, module.criterion):
        assert part.batch_share == 1
        assert not {"batch_share", "sample_weight", "sample_weight_used"} & set(vars(part))


def test_validation_knows_nothing_of_the_share_of_a_batch() -> None:
    """What is in eval weighs all alike: also its means are whole, between two batches that were narrowed."""
    found = []

    class Validates(SELModule, Weighs):
        def __init__(self, optimizer: str) -> None:
            super().__init__(optimizer)
            self.net = surely()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            losses = nn.functional.cross_entropy(self(batch[0]), batch[1], reduction="none")
            sel = 0.1 * sample_easiness_loss(self(batch[0]), batch[1])
            found.append((float(self.weighted_mean(losses)), float(losses.mean())))
            found.append((float(self.sel(self(batch[0]), batch[1])), float(sel)))

    module = seeded(Validates)
    fit(training(early_epochs=0, per="batch", others_share=0.3), module, max_epochs=1)
    assert sum(len(losses) for _, _, losses, _ in module.steps) < SIZE
    assert [ours for ours, _ in found] == pytest.approx([theirs for _, theirs in found])


# ------------------------------------------------------------------------------------------------- weighted samplers


def test_a_weighted_sampler_draws_each_example_as_often_as_before() -> None:
    """Draws shrink by the weight of what is selected, and not by its number: 2 + 30 of 53 here, 2 of 20."""
    weights = torch.tensor([2.0, 30.0, 1.0, 20.0])
    for kept, draws in (([0, 1], 64), ([1], 60), ([0, 2], 6), ([0, 1, 2, 3], 106)):
        sampler = WeightedRandomSampler(weights, 106)
        made = select_from(loader(Points(4), sampler=sampler, shuffle=None), SelectedDataset(Points(4), _at(kept)))
        assert made.sampler.num_samples == draws
        assert made.sampler.weights.tolist() == weights[kept].tolist()
        assert sampler.num_samples == 106
    once = WeightedRandomSampler(weights, 3, replacement=False)
    made = select_from(loader(Points(4), sampler=once, shuffle=None), SelectedDataset(Points(4), _at([1, 3])))
    assert made.sampler.num_samples == 2, "no more than there are"


def _at(kept: list[int]) -> Tensor:
    return torch.tensor(kept)


def test_weights_and_a_weighted_sampler_leave_the_expected_sum() -> None:
    size = 60
    stream = torch.Generator().manual_seed(3)
    values, chances = (torch.rand(size, generator=stream, dtype=torch.float64) for _ in range(2))
    easiness = torch.rand(size, generator=stream).round()
    easiness[:12] = 0.5
    chances[:12] *= 6  # the medium ones are drawn more often
    rule, data, sums = training(early_epochs=0, others_share=0.3), Points(size), []
    whole = loader(data, sampler=WeightedRandomSampler(chances, 6000), shuffle=None)
    for epoch in range(400):
        state = SelectionState(size, epoch=epoch, observed={"sample_easiness": easiness}, max_epochs=999)
        kept, weights = rule.select(state), rule.weights(state)
        sampler = select_from(whole, SelectedDataset(data, kept)).sampler
        often = sampler.num_samples * sampler.weights / sampler.weights.sum()
        sums.append(float((often * weights[kept] * values[kept]).sum()))
    found, expected = torch.tensor(sums), float(6000 * (chances * values).sum() / chances.sum())
    error = float(found.std()) / math.sqrt(len(sums))
    assert error < 0.02 * expected
    assert abs(float(found.mean()) - expected) < 4 * error


class First(Selection):
    """Everything, then the first examples."""

    every_epoch = True

    def select(self, state: SelectionState) -> Tensor:
        return torch.arange(16 if state.epoch else SIZE)


@pytest.mark.parametrize(
    ("options", "limits"),
    [({}, {}), ({"drop_last": True}, {}), ({"drop_last": True}, {"limit_train_batches": 0.5})],
    ids=["whole", "drop-last", "half"],
)
def test_light_examples_still_give_an_epoch_its_batches(options: dict[str, Any], limits: dict[str, Any]) -> None:
    """Kept examples that a weighted sampler hardly draws: an epoch has a batch, and no last batch of one."""
    module = seeded(Weighs)
    chances = torch.ones(SIZE).index_fill(0, torch.arange(16), 1e-3)
    given = loader(IndexedPoints(SIZE), sampler=WeightedRandomSampler(chances, SIZE), shuffle=None, **options)
    trainer(max_epochs=3, **limits).fit(module, datamodule=EasinessDataModule(given, First()))
    assert {epoch for epoch, *_ in module.steps} == {0, 1, 2}


# --------------------------------------------------------------------------------------------- limits of the Trainer


def test_a_number_of_batches_is_refused_with_weights() -> None:
    module = seeded(Weighs)
    found = whole_message(ValueError, fit, training(others_share=0.4), module, limit_train_batches=2)
    assert found == (
        "The Trainer's limit_train_batches=2 is as many batches of fewer examples, so that weights would make too much"
        " of them; give the limit as a fraction of the epoch, as 0.5."
    )
    assert not module.steps


@pytest.mark.parametrize(
    "options",
    [{"limit_train_batches": 0.5}, {"limit_train_batches": 1.0}, {"fast_dev_run": True}, {"fast_dev_run": 2}],
    ids=str,
)
def test_a_share_of_batches_and_a_trial_are_not(options: dict[str, Any]) -> None:
    module = seeded(Weighs)
    fit(training(others_share=0.4), module, max_epochs=2, **options)
    assert module.steps


def test_a_number_of_batches_without_weights_is_not() -> None:
    module = seeded(Weighs)
    fit(training(), module, max_epochs=2, limit_train_batches=2)
    assert [epoch for epoch, *_ in module.steps] == [0, 0, 1, 1]


def test_a_number_of_batches_is_fine_within_batches() -> None:
    """They are as many, of as many examples before they are narrowed, as without a selection."""
    module = seeded(Weighs)
    fit(training(others_share=0.4, per="batch"), module, max_epochs=2, limit_train_batches=2)
    assert [epoch for epoch, *_ in module.steps] == [0, 0, 1, 1]


# --------------------------------------------------------------------------------------------------- whole numbers


@pytest.mark.parametrize(
    ("name", "value"),
    [("early_epochs", 0.2), ("final_epochs", 0.5), ("rescore_every_n_epochs", 2.5), ("minimum", 1.5)],
)
def test_shares_of_epochs_are_refused(name: str, value: float) -> None:
    assert whole_message(ValueError, SampleEasinessTraining, **{name: value}) == (
        f"The `{name}` of SampleEasinessTraining must be a whole number, and no fraction; got {value}."
    )


# ------------------------------------------------------------------------------------------------------- rhythms


def test_a_fit_that_starts_off_the_beat_looks_at_once(tmp_path: Path) -> None:
    saved = tmp_path / "a.ckpt"
    with pytest.raises(InterruptedError):
        fit(None, seeded(Weighs), [Stop(saved, 2, 0, "epoch")])
    module = seeded(Weighs)
    rule = training(rescore_every_n_epochs=4)  # passes before epochs 1 and 5
    before = fit(rule, module, max_epochs=7, ckpt_path=saved)
    sizes = [len(chosen) for chosen in before.selected]
    assert [len(module.epoch(epoch)) for epoch in range(3)] == [0, 0, 0]
    assert len(sizes) == 4
    assert max(sizes) < SIZE, sizes
    assert before.selected[0] == before.selected[1], "what was found holds until the beat"
    assert before.selected[1] != before.selected[2]


@pytest.mark.parametrize(
    ("options", "named", "moment"),
    [
        ({"early_epochs": 1}, "`early_epochs`", 1),
        ({"early_epochs": 2, "final_epochs": 1}, "epoch at which `final_epochs` begin", 7),
        ({"early_epochs": 2, "rescore_every_n_epochs": 3}, "`rescore_every_n_epochs`", 3),
    ],
    ids=["early", "final", "rescore"],
)
def test_loaders_that_hold_over_a_change_are_refused(options: dict[str, Any], named: str, moment: int) -> None:
    module = seeded(Weighs)
    trial = {"max_epochs": 8, "reload_dataloaders_every_n_epochs": 2}
    assert whole_message(ValueError, fit, training(**options), module, **trial) == (
        f"The Trainer's reload_dataloaders_every_n_epochs=2 lets a choice hold for 2 epochs, so the {named} of"
        f" SampleEasinessTraining, {moment}, must be a multiple of it; or leave it at 0."
    )
    assert not module.steps


def test_loaders_that_hold_from_change_to_change_are_not() -> None:
    module = seeded(Weighs)
    rule = training(early_epochs=2, final_epochs=2)
    before = fit(rule, module, max_epochs=6, reload_dataloaders_every_n_epochs=2)
    assert [len(chosen) == SIZE for chosen in before.selected] == [True, True, False, False, True, True]
    assert before.selected[2] == before.selected[3]


def test_within_batches_no_choice_is_held() -> None:
    module = seeded(Weighs)
    fit(training(early_epochs=1, per="batch"), module, max_epochs=3, reload_dataloaders_every_n_epochs=2)
    assert [len(module.epoch(epoch)) < SIZE for epoch in range(3)] == [False, True, True]


def test_a_trial_has_no_rhythm() -> None:
    """As it may train on everything alone, too."""
    module = seeded(Weighs)
    rule = training(early_epochs=2, final_epochs=2)
    fit(rule, module, max_epochs=6, reload_dataloaders_every_n_epochs=2, fast_dev_run=True)
    assert len(module.steps) == 1


def test_a_fit_without_a_last_epoch_is_told_so_whatever_its_rhythm() -> None:
    options = {"max_epochs": -1, "max_steps": 30, "reload_dataloaders_every_n_epochs": 2}
    found = whole_message(ValueError, fit, training(early_epochs=2, final_epochs=2), seeded(Weighs), **options)
    assert "need a Trainer with max_epochs" in found


# --------------------------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("function", [sample_easiness, sample_easiness_loss])
def test_rows_that_are_no_probabilities_are_refused(function: Any) -> None:
    name, target = function.__name__, torch.tensor([0, 1])
    good = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    function(good, target, probabilities=True)
    function(good.double(), target, probabilities=True)
    function(good.bfloat16(), target, probabilities=True)
    for row, total in (([0.9, 0.9, 0.0], "1.8"), ([2.0, 1.0, -3.0], "0"), ([1.5, -0.5, 0.0], "1")):
        bad = torch.stack([good[0], torch.tensor(row)])
        assert whole_message(ValueError, function, bad, target, probabilities=True) == (
            f"The `logits` of {name} must hold probabilities that add up to 1 in each row; got a sum of {total} in row"
            " 1: leave out probabilities=True for logits."
        )
        function(bad, target)
    unknown = good.clone()
    unknown[0] = torch.nan
    keeps = {} if function is sample_easiness else {"reduction": "none"}
    assert function(unknown, target, probabilities=True, **keeps).isnan().tolist() == [True, False]
    wrong = torch.tensor([[0.9, 0.9, 0.0], [0.0, 1.0, 0.0]])
    assert "`target`" in whole_message(ValueError, function, wrong, torch.tensor([0, 3]), probabilities=True)
    assert "`target`" in whole_message(ValueError, function, wrong, torch.tensor([-1, 1]), probabilities=True)


def test_rows_that_are_no_probabilities_are_refused_with_draws() -> None:
    bad, target = torch.tensor([[0.9, 0.9]]), torch.tensor([0])
    found = whole_message(ValueError, sample_easiness, bad, target, method="monte_carlo", probabilities=True)
    assert "add up to 1" in found


# ---------------------------------------------------------------------------------------------------- ties, classes


def test_ties_of_the_loss_do_not_fall_by_index() -> None:
    size = 400
    easiness = torch.ones(size).index_fill(0, torch.arange(100), 0.5)
    loss = torch.zeros(size)
    inside = in_levels_by_loss(loss, easiness)
    assert int(inside.sum()) == 100
    places = inside.nonzero()[:, 0].double()
    assert abs(float(places.mean()) - size / 2) < 4 * size / math.sqrt(12 * 100)
    for quarter in inside.split(100):
        assert 10 < int(quarter.sum()) < 40
    state = torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(in_levels_by_loss(loss, easiness), inside), "always alike"
    torch.set_rng_state(state)
    higher = torch.arange(size).double()
    assert in_levels_by_loss(higher, easiness).nonzero()[:, 0].tolist() == [*range(300, 400)], "no tie, by rank"


@pytest.mark.parametrize("method", ["exact", "monte_carlo"])
@pytest.mark.parametrize("probabilities", [False, True])
def test_easiness_over_each_class(method: Any, probabilities: bool) -> None:
    stream = torch.Generator().manual_seed(0)
    given = torch.randn(40, 5, generator=stream).softmax(1)
    given = given if probabilities else given.log()
    target = torch.randint(5, (40,), generator=stream)
    options: dict[str, Any] = {"sigma2": 1e-2, "method": method, "probabilities": probabilities}
    wins, easiness = (sample_easiness(given, target, per_class=each, **options) for each in (True, False))
    assert wins.shape == (40, 5)
    assert wins.dtype == easiness.dtype
    torch.testing.assert_close(wins.prod(1), easiness)
    assert torch.equal(wins[torch.arange(40), target], torch.ones(40))
    h = given if probabilities else given.softmax(1)
    z = (h.gather(1, target[:, None]) - h) / math.sqrt(2e-2)
    expected = torch.special.ndtr(z).scatter(1, target[:, None], 1.0)
    torch.testing.assert_close(wins, expected, rtol=0, atol=1e-5 if method == "exact" else 0.08)


def test_both_methods_say_alike_what_is_not_known_of_a_class() -> None:
    given, target = torch.tensor([[torch.nan, 0.5, 0.5], [0.2, 0.5, 0.3]]), torch.tensor([1, 1])
    found = [sample_easiness(given, target, method=each, per_class=True).isnan() for each in ("exact", "monte_carlo")]
    assert found[0].tolist() == found[1].tolist()


# --------------------------------------------------------------------------------------------- what a user is told


class OneCycle(Traces):
    interval = "step"

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=900)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.interval}}


class OneCycleByEpoch(OneCycle):
    interval = "epoch"


@pytest.mark.filterwarnings(OUT_OF_ORDER)
@pytest.mark.parametrize(
    ("kind", "rule", "holds", "times"),
    [
        (OneCycle, training(early_epochs=2), 0, 1),
        (OneCycle, training(early_epochs=2), 2, 1),
        (OneCycleByEpoch, training(early_epochs=2), 0, 0),
        (OneCycle, training(early_epochs=2, per="batch"), 0, 0),
        (OneCycle, None, 0, 0),
    ],
    ids=["each-batch", "each-batch-holds-2", "each-epoch", "per-batch", "classic"],
)
def test_a_schedule_with_a_number_of_steps_is_warned_of_once(
    kind: type[LightningModule], rule: Any, holds: int, times: int
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(rule, seeded(kind), max_epochs=6, reload_dataloaders_every_n_epochs=holds)
    told = [str(one.message) for one in caught if "steps with each batch" in str(one.message)]
    expected = (
        "OneCycleLR steps with each batch and was made for 900 steps, but the epochs of a selection differ in length:"
        " let it step once an epoch, interval='epoch', and give it the number of"
        " epochs."
    )
    assert told == [expected] * times


def test_batches_without_a_medium_example_say_what_filled_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    module = seeded(Weighs)
    fit(training(per="batch", early_epochs=1), module, max_epochs=2)
    lines = [record.getMessage() for record in caplog.records if "of the batches'" in record.getMessage()]
    assert lines[0] == "Epoch 0: SampleEasinessTraining trained on 100.0% of the batches' 53 examples."
    caplog.clear()
    fit(training(per="batch"), seeded(Weighs), max_epochs=2, wrapped={"reader": BatchReader(sigma2=1e-14)})
    lines = [record.getMessage() for record in caplog.records if "of the batches'" in record.getMessage()]
    rule = "SampleEasinessTraining trained on"
    assert lines == [
        f"Epoch 0: {rule} 100.0% of the batches' 53 examples.",
        f"Epoch 1: {rule} 26.4% of the batches' 53 examples; 14 of them at random, up to the minimum.",
    ]
