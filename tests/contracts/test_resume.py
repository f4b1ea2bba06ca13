"""Contract 3: stopped at any batch and resumed equals never stopped, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_easiness import EasinessCallback
from tests.contracts.cases import CALLBACKS, SELECTIONS
from tests.made_runs import whole as whole_message
from tests.resuming import BATCHES, Plain, Resumable, Stop
from tests.small import Net, assert_identical, loader, recorded, trainer

CASES = {**CALLBACKS, **SELECTIONS}
EPOCHS = {name: 3 if name in CALLBACKS else 5 for name in CASES}


def fit(
    case: str, folder: Path, others: list[Callback], ckpt_path: Path | None = None, first: bool = True, **options: Any
) -> Plain:
    seed_everything(0, verbose=False)
    ours = CASES[case].callbacks(folder, run="only")
    module = Plain()
    made = trainer(max_epochs=EPOCHS[case], callbacks=[*others, *ours] if first else [*ours, *others], **options)
    made.fit(module, ckpt_path=ckpt_path, **CASES[case].data(Resumable()))
    return module


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Plain]]:
    """The fits that were never stopped: their record and module."""
    made: dict[str, tuple[Path, Plain]] = {}

    def of(case: str) -> tuple[Path, Plain]:
        if case not in made:
            folder = tmp_path_factory.mktemp("whole")
            made[case] = folder, fit(case, folder, [])
        return made[case]

    return of


def assert_goes_on(case: str, whole: Any, stop: Stop, folder: Path, first: bool) -> None:
    """The rest of the batches, with their losses and weights; the same module and the same record in the end."""
    with pytest.raises(InterruptedError):
        fit(case, folder, [stop], first=first)
    torch.load(stop.path, weights_only=True)
    module = fit(case, folder, [], ckpt_path=stop.path)
    record, never_stopped = whole(case)
    done = len(never_stopped.steps) - len(module.steps)
    assert done > 0
    assert_identical(module.steps, never_stopped.steps[done:])
    assert_identical(module.state_dict(), never_stopped.state_dict())
    assert_identical(recorded(folder), recorded(record))


BATCHES_STOPPED_AT = [0, 1, 4, 6, 7, 9, 13, 14, 17, 20]  # among them the first and the last of training and of an epoch


@pytest.mark.parametrize("batch", BATCHES_STOPPED_AT)
@pytest.mark.parametrize("first", [True, False], ids=["saved before us", "saved after us"])
def test_stopped_at_any_batch(whole: Any, batch: int, first: bool, tmp_path: Path) -> None:
    stop = Stop(tmp_path / "stopped.ckpt", *divmod(batch, BATCHES))
    assert_goes_on("everything", whole, stop, tmp_path / "record", first)


STOPS = [(1, 1, True), (2, -1, False)]
# of an epoch on everything and of those that are selected for; the first batch, one in the middle, and the last
STOPS_OF_SELECTIONS = [(0, 3, True), (0, -1, False), (1, 0, True), (2, 1, False), (2, -1, True), (4, -1, True)]


@pytest.mark.parametrize("case", CASES)
def test_stopped_within_an_epoch(whole: Any, case: str, tmp_path: Path) -> None:
    for number, (epoch, batch, first) in enumerate(STOPS if case in CALLBACKS else STOPS_OF_SELECTIONS):
        stop = Stop(tmp_path / f"{number}.ckpt", epoch, batch)
        assert_goes_on(case, whole, stop, tmp_path / str(number), first)


# without a callback of ours there is no before and after
ENDS = [
    (case, first) for case, made in CASES.items() for first in ((True, False) if made.options is not None else (True,))
]


@pytest.mark.parametrize(("case", "first"), ENDS)
def test_stopped_at_the_end_of_an_epoch(whole: Any, first: bool, case: str, tmp_path: Path) -> None:
    """Also of the last one, where nothing is left to train."""
    for epoch in sorted({0, 2, EPOCHS[case] - 1}):
        stop = Stop(tmp_path / f"{epoch}.ckpt", epoch, 0, "epoch")
        assert_goes_on(case, whole, stop, tmp_path / f"{epoch}", first)


@pytest.mark.parametrize("case", SELECTIONS)
def test_what_is_resumed_is_a_selection(whole: Any, case: str) -> None:
    """Some epochs are trained on other examples, labels or weights than without it."""
    module = Plain()
    trainer(max_epochs=1).fit(module, Resumable())

    def labels_of(trained: Plain, epoch: int) -> dict[int, int]:
        batches = [zip(*batch, strict=True) for at, *batch in trained.batches if at == epoch]
        return {index: label for batch in batches for index, label in batch}

    epochs = [labels_of(whole(case)[1], epoch) for epoch in range(EPOCHS[case])]
    assert sum(epoch != labels_of(module, 0) for epoch in epochs) >= 2


def test_resumed_before_what_is_recorded_already(whole: Any, tmp_path: Path) -> None:
    """Training that is resumed further back repeats steps that the record has: they are replaced, by the same."""

    def keep() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=10, save_top_k=-1)

    record = recorded(whole("everything")[0])
    fit("everything", tmp_path / "record", [keep()], enable_checkpointing=True)
    assert_identical(recorded(tmp_path / "record"), record)
    fit("everything", tmp_path / "record", [keep()], tmp_path / "step=10.ckpt", enable_checkpointing=True)
    assert_identical(recorded(tmp_path / "record"), record)


def test_starting_anew_over_a_run_is_an_error(tmp_path: Path) -> None:
    def anew(**options: Any) -> None:
        trainer(callbacks=[EasinessCallback(tmp_path, run="only", **options)], max_epochs=1).fit(Net(), loader())

    anew()
    before = recorded(tmp_path / "only")
    message = (
        f"Run 'only' in '{tmp_path}' already holds checkpoints. Resume its training with trainer.fit(ckpt_path=...),"
        " delete the folder, give EasinessCallback another `run` or `dirpath`, or exist_ok=True to train it anew, with"
        " its checkpoints set aside."
    )
    with pytest.raises(RuntimeError, match=whole_message(message)):
        anew()
    assert recorded(tmp_path / "only") == before
    anew(exist_ok=True)
    assert recorded(tmp_path / "only/.earlier-1") == before
