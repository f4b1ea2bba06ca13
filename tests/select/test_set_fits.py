"""SampleEasinessTraining in real fits, by epoch: each epoch's examples beside a slow recomputation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from lightning_easiness import (
    BatchReader,
    EasinessCallback,
    EasinessDataModule,
    EasinessRecord,
    SampleEasinessTraining,
    SELModule,
)
from tests.functional.test_levels import is_inside, ranked_levels
from tests.selecting import IndexedPoints, Traces
from tests.set_fits import (
    SIGMA2,
    TOL,
    IndexedBase,
    assert_clear,
    easiness_loop,
    fit,
    level_of,
    logits_at,
    loss_loop,
    seeded,
    training,
)
from tests.small import loader, trainer

BATCH, SIZE = 8, 53
NO_NOISE = BatchReader(sigma2=1e-14)
EVERYTHING = list(range(SIZE))


def assert_filled_up(selected: list[int], expected: list[int]) -> None:
    """The examples of the levels, and so many others that there is one batch, and none of a single example."""
    assert set(expected) <= set(selected)
    least = max(len(expected), BATCH)
    assert len(selected) == (least + 1 if least % BATCH == 1 else least)


ASKED = {
    "MO": ("medium",),
    "EO": ("easy",),
    "HO": ("hard",),
    "MHO": ("medium", "hard"),
    "an interval and a name": ((0.2, 0.7), "easy"),
}


LOADERS = {"0 workers": {}, "2 workers": {"num_workers": 2}}


@pytest.mark.parametrize(("asked", "workers"), [*((asked, "0 workers") for asked in ASKED), ("MO", "2 workers")])
def test_each_epoch_trains_on_the_levels_at_the_weights_before_it(asked: str, workers: str) -> None:
    module = seeded()
    before = fit(training(*ASKED[asked]), module, data=IndexedBase(**LOADERS[workers]))
    for epoch in range(5):
        assert sorted(module.epoch(epoch)) == before.selected[epoch]
        if epoch < 2:
            assert before.selected[epoch] == EVERYTHING
            continue
        easiness = easiness_loop(logits_at(before.states[epoch]), IndexedPoints().y)
        assert_clear(easiness)
        assert {level_of(value) for value in easiness} == {"hard", "medium", "easy"}, "else little is tested"
        expected = [i for i in EVERYTHING if is_inside(easiness[i], ASKED[asked], TOL)]
        assert_filled_up(before.selected[epoch], expected)
    assert module.validations == 5


@pytest.mark.parametrize("asked", ["MO", "MHO"])
def test_by_loss_each_epoch_trains_on_as_many_by_rank(asked: str) -> None:
    module = seeded()
    before = fit(training(*ASKED[asked], by="loss"), module)
    others = 0
    for epoch in (2, 3, 4):
        logits = logits_at(before.states[epoch])
        easiness, loss = easiness_loop(logits, IndexedPoints().y), loss_loop(logits, IndexedPoints().y)
        assert_clear(easiness)
        ranked = ranked_levels(loss, easiness, TOL)
        expected = [i for i in EVERYTHING if ranked[i] in ASKED[asked]]
        assert_filled_up(before.selected[epoch], expected)
        others += sum(level_of(easiness[i]) not in ASKED[asked] for i in expected)
    assert others, "L-SET is not SET"


def test_early_final_and_rescored_epochs() -> None:
    module = seeded()
    before = fit(training(early_epochs=1, final_epochs=2, rescore_every_n_epochs=3), module, max_epochs=8)
    assert [before.selected[epoch] == EVERYTHING for epoch in range(8)] == [True] + [False] * 5 + [True] * 2
    for scored, epochs in ((1, (1, 2, 3)), (4, (4, 5))):
        easiness = easiness_loop(logits_at(before.states[scored]), IndexedPoints().y)
        assert_clear(easiness)
        for epoch in epochs:
            expected = [i for i in EVERYTHING if level_of(easiness[i]) == "medium"]
            assert_filled_up(before.selected[epoch], expected)


def test_other_settings_of_the_noise_and_of_the_levels() -> None:
    sigma2, tol = 0.05, 0.1
    before = fit(
        training(tol=tol, early_epochs=1), seeded(), wrapped={"reader": BatchReader(sigma2=sigma2)}, max_epochs=4
    )
    for epoch in (1, 2, 3):
        easiness = easiness_loop(logits_at(before.states[epoch]), IndexedPoints().y, sigma2)
        assert_clear(easiness, tol)
        assert_filled_up(before.selected[epoch], [i for i in EVERYTHING if tol < easiness[i] < 1 - tol])


def test_no_medium_example_is_the_minimum_and_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    module = seeded()
    logger = CSVLogger(tmp_path, name="", version="")
    before = fit(
        SampleEasinessTraining(early_epochs=1), module, wrapped={"reader": NO_NOISE}, max_epochs=3, logger=logger
    )
    assert [len(module.epoch(epoch)) for epoch in range(3)] == [SIZE, BATCH, BATCH]
    assert before.selected[1] != before.selected[2], "drawn anew"
    told = [record.getMessage() for record in caplog.records if "trains on" in record.getMessage()]
    assert told[0].startswith("Epoch 0: SampleEasinessTraining trains on 53 of 53 examples (100.0%), chosen in ")
    for epoch in (1, 2):
        assert told[epoch].startswith(f"Epoch {epoch}: SampleEasinessTraining trains on 8 of 53 examples (15.1%), ")
        assert "; 8 of them at random, up to the minimum" in told[epoch]
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    shares = [dict(zip(header.split(","), row.split(","), strict=True))["easiness/selected_share"] for row in rows]
    assert [float(share) for share in shares if share] == [pytest.approx(size / SIZE) for size in (SIZE, 8, 8)]


@pytest.mark.parametrize("minimum", [2, 20])
def test_the_users_minimum(minimum: int) -> None:
    module = seeded()
    fit(SampleEasinessTraining(early_epochs=1, minimum=minimum), module, wrapped={"reader": NO_NOISE}, max_epochs=3)
    assert [len(module.epoch(epoch)) for epoch in range(3)] == [SIZE, minimum, minimum]


def test_sel_set() -> None:
    """SET with the SEL loss: SELModule beside it."""

    class WithSEL(SELModule, Traces):
        def __init__(self, optimizer: str = "adam") -> None:
            super().__init__(optimizer, sel_sigma2=SIGMA2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), batch[1].tolist()))
            logits = self(batch[0])
            return torch.nn.functional.cross_entropy(logits, batch[1]) + self.sel(logits, batch[1])

    module = seeded(WithSEL)
    before = fit(training(), module)
    for epoch in (2, 3, 4):
        easiness = easiness_loop(logits_at(before.states[epoch]), IndexedPoints().y)
        assert_clear(easiness)
        assert_filled_up(before.selected[epoch], [i for i in EVERYTHING if level_of(easiness[i]) == "medium"])


def test_a_schedule_that_asks_for_the_number_of_steps_before_the_fit() -> None:
    class Asks(Traces):
        def configure_optimizers(self) -> Any:
            assert self.trainer.estimated_stepping_batches > 0
            return super().configure_optimizers()

    found = []
    for kind in (Traces, Asks):
        module = seeded(kind)
        before = fit(training(early_epochs=0), module, max_epochs=3)
        assert [sorted(module.epoch(epoch)) for epoch in range(3)] == before.selected
        found.append(before.selected[0])
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------------- online


class Heard(Traces):
    """Keeps the sample easiness and the loss that the training forward shows of each example, by slow loops."""

    def __init__(self, optimizer: str = "adam") -> None:
        super().__init__(optimizer)
        self.heard: list[dict[int, tuple[float, float]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits, target = self(batch[0]), batch[1]
        self.batches.append((self.current_epoch, batch[0][:, 8].long().tolist(), target.tolist()))
        exact = logits.detach().double()
        self.heard += [{} for _ in range(self.current_epoch + 1 - len(self.heard))]
        values = zip(easiness_loop(exact, target), loss_loop(exact, target), strict=True)
        self.heard[-1].update(zip(batch[0][:, 8].long().tolist(), values, strict=True))
        return torch.nn.functional.cross_entropy(logits, target)


@pytest.mark.parametrize("by", ["sample_easiness", "loss"])
@pytest.mark.parametrize("rescore", [None, 2])
def test_online_goes_by_what_was_last_seen(rescore: int | None, by: str, tmp_path: Path) -> None:
    module = seeded(Heard)
    rule = training("medium", "hard", online=True, rescore_every_n_epochs=rescore, early_epochs=1, by=by)
    before = fit(rule, module, [EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)], max_epochs=6)
    known: dict[int, tuple[float, float]] = {}
    drawn_from_fewer = 0
    for epoch in range(6):
        if rescore and epoch >= 1 and (epoch - 1) % rescore == 0:
            logits = logits_at(before.states[epoch])
            easiness = easiness_loop(logits, IndexedPoints().y)
            known = dict(enumerate(zip(easiness, loss_loop(logits, IndexedPoints().y), strict=True)))
        if epoch:
            easiness, loss = ([known[i][row] for i in EVERYTHING] for row in (0, 1))
            assert_clear(easiness)
            ranked = ranked_levels(loss, easiness, TOL)
            level = {i: ranked[i] if by == "loss" else level_of(easiness[i]) for i in EVERYTHING}
            assert_filled_up(before.selected[epoch], [i for i in EVERYTHING if level[i] != "easy"])
            drawn_from_fewer += len(before.selected[epoch]) < SIZE
        known.update(module.heard[epoch])
    assert drawn_from_fewer == 5


def test_online_what_was_never_seen_is_trained_on(tmp_path: Path) -> None:
    """Two batches an epoch alone: what no batch held yet is not known, and not left out."""
    module = seeded(Heard)
    rule = training((0.0, 0.4), online=True, rescore_every_n_epochs=None, early_epochs=1)
    callback = EasinessCallback(tmp_path, probe=None, sigma2=SIGMA2)
    before = fit(rule, module, [callback], max_epochs=3, limit_train_batches=2)
    known: dict[int, float] = {}
    for epoch in (1, 2):
        known.update({i: easiness for i, (easiness, _) in module.heard[epoch - 1].items()})
        assert 10 < len(known) < SIZE
        assert min(abs(easiness - 0.4) for easiness in known.values()) > 1e-4
        assert_filled_up(before.selected[epoch], [i for i in EVERYTHING if i not in known or known[i] <= 0.4])


def test_a_second_fit_knows_nothing_of_the_first(tmp_path: Path) -> None:
    """What another model's training showed must not choose for this one's."""

    def selected(data: EasinessDataModule, name: str, **options: Any) -> list[int]:
        module = seeded(Traces, seed=4)
        callback = EasinessCallback(tmp_path / name, probe=None, sigma2=SIGMA2)
        made = trainer(callbacks=[callback], max_epochs=2, **options)
        made.fit(module, datamodule=data)
        return sorted(module.epoch(1))

    def rule() -> SampleEasinessTraining:
        return training(online=True, rescore_every_n_epochs=None, early_epochs=1)

    used = EasinessDataModule(IndexedBase(), rule())
    selected(used, "first")
    fresh = selected(EasinessDataModule(IndexedBase(), rule()), "fresh", limit_train_batches=2)
    assert selected(used, "second", limit_train_batches=2) == fresh


def test_online_without_the_callback_names_the_way_out(tmp_path: Path) -> None:
    message = (
        "SampleEasinessTraining with online=True goes by what an EasinessCallback sees in training, and the Trainer has"
        " none with online=True: add EasinessCallback(probe=None) to its callbacks."
    )
    unfit = (
        [],
        [EasinessCallback(tmp_path, every_n_epochs=1, probe="train", online=False, sigma2=SIGMA2)],
    )
    for callbacks in unfit:
        module = seeded()
        with pytest.raises(ValueError) as error:  # noqa: PT011  (the whole message is compared)
            fit(training(online=True), module, callbacks)
        assert str(error.value) == message
        assert not module.batches


# ----------------------------------------------------------------------------------------- beside the callback


class CountsLooks(Traces):
    """Counts its forward passes in eval mode."""

    looks = 0

    def forward(self, x: Tensor) -> Tensor:
        self.looks += not self.training
        return super().forward(x)


def test_the_callbacks_probe_is_reused_and_chooses_alike(tmp_path: Path) -> None:
    batches = math.ceil(SIZE / BATCH)
    found = []
    for callbacks in ([], [EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2)]):
        module = seeded(CountsLooks)
        before = fit(training(), module, callbacks, limit_val_batches=0)
        found.append((before.selected, module.batches, module.looks))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == 3 * batches, "before epochs 2, 3 and 4"
    assert found[1][2] == 5 * batches, "at the end of each epoch, and not once more"


def test_a_callback_that_looks_at_every_other_epochs_end_or_with_other_noise(tmp_path: Path) -> None:
    batches = math.ceil(SIZE / BATCH)
    alone = fit(training(), seeded(CountsLooks), limit_val_batches=0).selected
    for name, options, looks in (
        ("every other", {"every_n_epochs": 2}, 3),  # by the callback after 1 and 3, by the rule before 3
        ("no probe", {"probe": None}, 3),
    ):
        module = seeded(CountsLooks)
        callback = EasinessCallback(tmp_path / name, **{"every_n_epochs": 1, "sigma2": SIGMA2, **options})
        assert fit(training(), module, [callback], limit_val_batches=0).selected == alone, name
        assert module.looks == looks * batches, name


def test_what_a_callback_sees_of_validation_or_of_another_loader_chooses_nothing(tmp_path: Path) -> None:
    alone = fit(training(), seeded()).selected
    for name, probe in (("val", "val"), ("loader", loader(IndexedPoints(SIZE, seed=9)))):
        callback = EasinessCallback(tmp_path / name, every_n_epochs=1, probe=probe, sigma2=SIGMA2)
        assert fit(training(), seeded(), [callback]).selected == alone, name


def test_a_callback_with_another_loss_does_not_choose_for_the_datamodule(tmp_path: Path) -> None:
    """By the loss that EasinessDataModule was given, also where a callback has just computed another."""

    def reversed_loss(logits: Any, target: Any) -> Tensor:
        return 50 - torch.nn.functional.cross_entropy(logits, target, reduction="none")

    found = []
    for callbacks in ([], [EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2, loss_fn=reversed_loss)]):
        wrapped = {} if callbacks else {"reader": BatchReader(loss_fn=reversed_loss, sigma2=SIGMA2)}
        found.append(fit(training(by="loss"), seeded(), callbacks, wrapped=wrapped).selected)
    assert found[0] == found[1]


def test_a_probe_of_a_fit_that_failed_does_not_choose_for_the_next(tmp_path: Path) -> None:
    """Both begin at step 0, where the first fit's callback looked at other weights."""

    class Fails(Traces):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise ArithmeticError("on purpose")

    def selected(data: EasinessDataModule) -> list[int]:
        data._reader = BatchReader(sigma2=SIGMA2)
        module = seeded(Traces, seed=11)
        trainer(max_epochs=1).fit(module, datamodule=data)
        return sorted(module.epoch(0))

    def rule() -> SampleEasinessTraining:
        return training((0.0, 0.4), early_epochs=0)

    used = EasinessDataModule(IndexedBase(), rule())
    with pytest.raises(ArithmeticError):
        trainer(callbacks=[EasinessCallback(tmp_path, every_n_epochs=1, at_steps=(0,), sigma2=SIGMA2)]).fit(
            seeded(Fails, seed=5), datamodule=used
        )
    assert selected(used) == selected(EasinessDataModule(IndexedBase(), rule()))


def test_the_record_of_an_online_training_counts_what_was_trained_on(tmp_path: Path) -> None:
    module = seeded(Heard)
    rule = training("medium", "hard", online=True, rescore_every_n_epochs=None, early_epochs=1)
    fit(rule, module, [EasinessCallback(tmp_path, every_n_epochs=1, sigma2=SIGMA2)])
    online = EasinessRecord.load(tmp_path, series="train-online")
    for epoch in range(5):
        assert online.count[0, epoch].tolist() == [int(i in module.heard[epoch]) for i in EVERYTHING]
        for i, (easiness, loss) in module.heard[epoch].items():
            assert float(online.loss[0, epoch, i]) == pytest.approx(loss, abs=1e-5)
            assert float(online.field("sample_easiness")[0, epoch, i]) == pytest.approx(easiness, abs=1e-3)


def test_a_trainer_that_would_reload_when_no_pass_is_made_is_refused() -> None:
    """Loaders anew before 0, 2 and 4, passes before 1, 3 and 5: the easiness would never be known."""
    module = seeded()
    with pytest.raises(ValueError, match="must be a multiple of it; or leave it at 0"):
        fit(
            training(early_epochs=1, rescore_every_n_epochs=2),
            module,
            max_epochs=6,
            reload_dataloaders_every_n_epochs=2,
        )
    assert not module.batches
    fit(training(early_epochs=2, rescore_every_n_epochs=2), module, max_epochs=6, reload_dataloaders_every_n_epochs=2)
    assert [len(module.epoch(epoch)) < SIZE for epoch in (2, 4)] == [True, True]


@pytest.mark.parametrize("early", [5, 7])
def test_only_early_epochs_is_an_error_before_training(early: int) -> None:
    module = seeded()
    with pytest.raises(ValueError, match=f"early_epochs={early} and final_epochs=0 on everything") as error:
        fit(training(early_epochs=early), module)
    assert str(error.value).startswith("SampleEasinessTraining has early_epochs=")
    assert not module.batches
