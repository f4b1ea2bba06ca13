"""Selected fits that are resumed; tests/contracts/test_resume.py stops each selection anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import Tensor, nn
from torch.utils.data import RandomSampler, Sampler, SubsetRandomSampler, WeightedRandomSampler

from lightning_easiness import (
    BatchLoss,
    BatchReader,
    Control,
    EasinessCallback,
    EasinessDataModule,
    Keep,
    Needs,
    SampleEasinessTraining,
    Selection,
    SelectionState,
)
from tests.resuming import Plain, Resumable, Stop
from tests.selecting import (
    Base,
    HardestSizes,
    HighestLoss,
    IndexedBase,
    IndexedPoints,
    Listed,
    Selected,
    Sizes,
    fit,
    over,
)
from tests.set_fits import SIGMA2
from tests.small import assert_identical, loader

# many of these small selections have no example of some class
pytestmark = pytest.mark.filterwarnings("ignore:.* keeps no example of class")
SIZE = 53


def stopped(stop: Stop, *arguments: Any, **options: Any) -> Path:
    """The checkpoint of a fit that is stopped."""
    with pytest.raises(InterruptedError):
        fit(*arguments, callbacks=[stop], **options)
    return stop.path


# ------------------------------------------------------------------------------------- resuming with another rule


@pytest.fixture(scope="module")
def of_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the middle of an epoch that `Sizes` chose for."""
    path = stopped(Stop(tmp_path_factory.mktemp("sizes") / "a.ckpt", 1, 1), IndexedBase(), Sizes([24, 24]))
    assert torch.load(path, weights_only=True)["EasinessDataModule"]["selection"]["rule"] == "Sizes"
    return path


def another(ours: str) -> str:
    return f"The checkpoint holds a choice of Sizes, which does not count for {ours}: it chooses anew."


def test_a_choice_of_the_control_of_another_rule_does_not_count(tmp_path: Path) -> None:
    data, rules = IndexedBase(), [Control(Sizes([24, 24])), Control(BatchLoss(early_epochs=0, final_epochs=0))]
    path = stopped(Stop(tmp_path / "a.ckpt", 1, 1), data, rules[0])
    expected = (
        "The checkpoint holds a choice of Control of Sizes, which does not count for Control of BatchLoss: it chooses"
        " anew."
    )
    with pytest.warns(UserWarning, match=expected):
        fit(data, rules[1], max_epochs=3, ckpt_path=path)


KEPT = [list(range(20, 44)), list(range(5, 29)), list(range(30, 53))]
ONCE: dict[str, Selection | None] = {
    "Keep": Keep(KEPT[0]),
    "Once": type("Once", (HighestLoss,), {"needs": Needs(passes=True)})(0.5),
    "Sizes": type("Sizes", (Keep,), {})(KEPT[0]),  # a rule of that name that is made once by now
    "training on everything": None,
}


def test_a_choice_of_another_rule_counts_for_no_epoch(of_sizes: Path) -> None:
    rule = Listed(*map(torch.tensor, KEPT))
    with pytest.warns(UserWarning, match="holds a choice") as warned:
        module, _ = fit(IndexedBase(), rule, max_epochs=3, ckpt_path=of_sizes)
    assert [str(one.message) for one in warned if "holds a choice" in str(one.message)] == [another("Listed")]
    assert set(module.epoch(1)) <= set(KEPT[1]), "what is left of the epoch"
    assert len(module.epoch(1)) == 8
    assert sorted(module.epoch(2)) == KEPT[2]


@pytest.mark.parametrize("name", ONCE)
def test_a_choice_of_another_rule_does_not_count_for_one_that_is_made_once_or_for_none(
    name: str, of_sizes: Path
) -> None:
    data = EasinessDataModule(IndexedBase(), ONCE[name])
    with pytest.warns(UserWarning, match=another(name)):
        module, _ = fit(data, max_epochs=3, ckpt_path=of_sizes)
    chosen = range(SIZE) if ONCE[name] is None else data.selected_indices.tolist()
    assert sorted(module.epoch(2)) == list(chosen)
    assert not isinstance(ONCE[name], Keep) or chosen == KEPT[0]


def test_resumed_with_another_data_set(of_sizes: Path) -> None:
    with pytest.raises(ValueError, match="The data set and the selection in the checkpoint are not of") as error:
        fit(Base(40), Sizes([20, 20]), ckpt_path=of_sizes)
    assert str(error.value).endswith(
        " the same data: the first has 40 examples and the second 53, so an index no longer names the same example:"
        " resume with the data set that the checkpoint was written with."
    )


# ------------------------------------------------------------------------------------- the choice of the epoch holds


class Drawn(Selection):
    """Different at every call, so that only a selection that is kept comes twice."""

    needs = Needs(every="epoch")
    calls = 0

    def select(self, state: SelectionState) -> Tensor:
        type(self).calls += 1
        return torch.randperm(state.num_examples, generator=torch.Generator().manual_seed(self.calls))[:24]


@pytest.mark.parametrize("asks", [False, True], ids=["plain", "asks for the number of steps"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resumed_within_an_epoch_keeps_its_selection(epoch: int, asks: bool, tmp_path: Path) -> None:
    first = Plain(asks)
    path = stopped(Stop(tmp_path / "a.ckpt", epoch, 1), IndexedBase(), Drawn(), first, max_epochs=4)
    second, _ = fit(IndexedBase(), Drawn(), Plain(asks), max_epochs=4, ckpt_path=path)
    assert torch.load(path, weights_only=True)["EasinessDataModule"]["selection"]["epoch"] == epoch
    kept = set(first.epoch(epoch)) | set(second.epoch(epoch))
    assert len(first.epoch(epoch)) == 16
    assert len(second.epoch(epoch)) == 8  # the one batch that was left
    assert len(kept) <= 24
    assert len(set(second.epoch(epoch + 1))) == 24
    assert set(second.epoch(epoch + 1)) != kept


def assert_goes_on(stop: Stop, lengths: list[int], data: Any, rule: Selection, **options: Any) -> None:
    """Stopped and resumed, a fit equals one that was never stopped, to the bit."""

    def made(**more: Any) -> Plain:
        seed_everything(1, verbose=False)
        return fit(data(), rule, Plain(), max_epochs=len(lengths), **options, **more)[0]

    whole = made()
    assert whole.lengths(len(lengths)) == lengths
    with pytest.raises(InterruptedError):
        made(callbacks=[stop])
    resumed = made(ckpt_path=stop.path)
    assert 0 < len(resumed.batches) < len(whole.batches)
    assert resumed.batches == whole.batches[-len(resumed.batches) :]
    assert_identical(dict(whole.state_dict()), dict(resumed.state_dict()))


@pytest.mark.parametrize("batch", [(0, 1), (1, -1), (2, 0)])
def test_a_choice_that_holds_for_two_epochs(batch: tuple[int, int], tmp_path: Path) -> None:
    rule, stop = HardestSizes([30, 99, 12, 99]), Stop(tmp_path / "a.ckpt", *batch)
    assert_goes_on(stop, [30, 30, 12, 12], Resumable, rule, reload_dataloaders_every_n_epochs=2)


class Endless(Sampler[int]):
    """Has no length, which torch leaves to the sampler."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))

    def for_selection(self, selected: Any) -> Endless:
        return Endless(len(selected))


def test_resumed_at_an_epochs_end_with_a_sampler_without_a_length(tmp_path: Path) -> None:
    stop = Stop(tmp_path / "a.ckpt", 0, 0, "epoch")
    assert_goes_on(stop, [24, 16, 32], lambda: over(Endless()), Sizes([24, 16, 32]))


def trained(**options: Any) -> SampleEasinessTraining:
    return SampleEasinessTraining(**{"early_epochs": 1, **options})


def with_reader(data: Any, selection: Selection | None) -> EasinessDataModule:
    return EasinessDataModule(data, selection, reader=BatchReader(sigma2=SIGMA2))


def test_the_state_is_what_is_needed_and_no_more(tmp_path: Path) -> None:
    """Tensors and plain types; a bit per example for the choice, and what is remembered."""
    stop, observer = Stop(tmp_path / "a.ckpt", 3, 0), EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)
    rule = trained(online=True, rescore_every_n_epochs=2, others_share=0.4)
    with pytest.raises(InterruptedError):
        fit(Resumable(), rule, Plain(), max_epochs=5, callbacks=[stop, observer])
    state = torch.load(stop.path, weights_only=True)["EasinessDataModule"]
    assert set(state) == {"selection", "remembered", "of_rule"}
    assert state["of_rule"]["recorded_counts"].shape == (3, 4), "of each epoch that was selected for"
    assert set(state["remembered"]) == {"sample_easiness", "weakest_comparison"}
    assert {values.shape for values in state["remembered"].values()} == {(SIZE,)}
    assert len(state["selection"]["kept"]) == -(-SIZE // 8)
    assert state["selection"]["weights"].shape == (SIZE,)
    path = stopped(Stop(tmp_path / "b.ckpt", 3, 0), with_reader(Resumable(), trained(per="batch")), max_epochs=5)
    assert "EasinessDataModule" not in torch.load(path, weights_only=True)


@pytest.mark.parametrize("rescore", [1, None])
def test_a_checkpoint_of_before_the_weakest_comparison_observes_it_anew(rescore: int | None, tmp_path: Path) -> None:
    def observer() -> EasinessCallback:
        return EasinessCallback(tmp_path / "runs", probe=None, sigma2=SIGMA2)

    def rule() -> SampleEasinessTraining:
        return trained(online=True, rescore_every_n_epochs=rescore)

    stop, selected = Stop(tmp_path / "a.ckpt", 2, -1, "epoch"), Selected()
    with pytest.raises(InterruptedError):
        fit(Resumable(), rule(), Plain(), max_epochs=5, callbacks=[stop, observer()])
    state = torch.load(stop.path, weights_only=True)
    del state["EasinessDataModule"]["remembered"]["weakest_comparison"]
    torch.save(state, stop.path)
    with pytest.warns(
        UserWarning, match="The checkpoint holds no weakest_comparison of the examples, by which SampleEa"
    ):
        fit(Resumable(), rule(), Plain(), max_epochs=5, callbacks=[observer(), selected], ckpt_path=stop.path)
    sizes = [len(chosen) for chosen in selected.selected]  # of epochs 3 and 4
    assert sizes[1] <= sizes[0] < SIZE, "what is not observed again is trained on first"


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
    ("early", "hook"), [(1, "epoch"), (1, "batch"), (0, "epoch")], ids=["epoch-end", "mid-epoch", "never-whole"]
)
def test_a_resumed_schedule_is_planned_as_before(early: int, hook: str, tmp_path: Path) -> None:
    def planned(**options: Any) -> tuple[Scheduled, Any]:
        seed_everything(3, verbose=False)
        data = with_reader(Resumable(), trained(early_epochs=early, final_epochs=1 - early))
        modules.append(Scheduled())
        return fit(data, None, modules[-1], max_epochs=5, **options)

    modules: list[Scheduled] = []
    whole, ended = planned()
    with pytest.raises(InterruptedError):
        planned(callbacks=[Stop(tmp_path / "a.ckpt", 2, 0, hook)])
    resumed, ended_too = planned(ckpt_path=tmp_path / "a.ckpt")
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

    def data() -> EasinessDataModule:
        drawn = loader(IndexedPoints(), sampler=SAMPLERS[sampler](), shuffle=None, batch_size=2)
        return with_reader(drawn, trained(early_epochs=0, minimum=20))

    first = Scheduled()
    path = stopped(Stop(tmp_path / "a.ckpt", 2, 0, "epoch"), data(), None, first, max_epochs=5)
    second, _ = fit(data(), None, Scheduled(), max_epochs=5, ckpt_path=path)
    assert first.planned == second.planned


def test_a_fit_that_starts_between_two_passes_makes_one_at_once(tmp_path: Path) -> None:
    path = stopped(
        Stop(tmp_path / "a.ckpt", 2, 0, "epoch"), with_reader(IndexedBase(), None), None, Plain(), max_epochs=3
    )
    selected = Selected()
    rule = trained(rescore_every_n_epochs=4)  # passes before epochs 1 and 5
    module, _ = fit(with_reader(IndexedBase(), rule), None, Plain(), max_epochs=7, ckpt_path=path, callbacks=[selected])
    assert module.lengths(3) == [0, 0, 0]
    assert len(selected.selected) == 4
    assert max(map(len, selected.selected)) < SIZE
    assert selected.selected[0] == selected.selected[1], "what was found holds until the next pass"
    assert selected.selected[1] != selected.selected[2]
