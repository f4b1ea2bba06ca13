"""Seeded repeats: what is trained, skipped, gone on with and refused. Kills are in test_repeats_killed.py."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import re
import shutil
from contextlib import nullcontext
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from torch.utils.data import DataLoader, random_split

from lightning_easiness import EasinessCallback, EasinessRecord, repeat_fit
from lightning_easiness.record.layout import is_complete
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import whole
from tests.repeated_runs import Modules, OwnGenerators, TrainOnly, Validated, never
from tests.small import Net, Points, loader, recorded, streams, trainer

STEPS = 7  # 53 examples in batches of 8


def data() -> DataLoader:
    return loader(Points(augment=True))


def repeat(folder: Path, seeds: Any = (1,), **changes: Any) -> EasinessRecord:
    arguments = {"make_trainer": trainer, "make_module": Net, "datamodule": data, "progress": False, **changes}
    return repeat_fit(seeds=seeds, dirpath=folder, **arguments)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs that nothing disturbs."""
    folder = tmp_path_factory.mktemp("plain")
    repeat(folder, range(4))
    return folder


def with_callbacks(*callbacks: Callback, **options: Any) -> Any:
    return lambda: trainer(callbacks=[*callbacks], **options)


# ------------------------------------------------------------------ runs and their numbers


def test_a_run_for_each_seed(plain: Path) -> None:
    record = EasinessRecord.load(plain)
    assert (record.runs, record.seeds) == (["seed-0", "seed-1", "seed-2", "seed-3"], [0, 1, 2, 3])
    assert (record.series, record.steps.tolist(), record.num_examples) == ("train-probe", [STEPS, 2 * STEPS], 53)
    assert all(is_complete(plain / run) for run in record.runs)
    for left, right in combinations(record.loss, 2):
        assert not torch.equal(left, right), "each seed is another training"
    agreement = record.agreement()
    assert agreement.num_runs == 4
    assert 0.3 < agreement.half_agreement < agreement.full_agreement < agreement.extrapolated[8] < 1


def test_single_seed_calls_merge_into_the_same_record(plain: Path, tmp_path: Path) -> None:
    torch.rand(7)  # wherever the caller's streams are
    for seed in (2, 1):
        record = repeat(tmp_path, (seed,))
        assert record.seeds == [seed]
        assert recorded(tmp_path / f"seed-{seed}") == recorded(plain / f"seed-{seed}")
    assert EasinessRecord.load(tmp_path).seeds == [1, 2]


@pytest.mark.parametrize("make", [lambda: loader(generator=torch.Generator().manual_seed(7)), OwnGenerators])
def test_generators_of_shared_data_begin_each_run_as_they_were(tmp_path: Path, make: Any) -> None:
    made = make()
    shared = made if isinstance(made, DataLoader) else loader(made)
    repeat(tmp_path / "together", (1, 2), datamodule=shared)
    repeat(tmp_path / "apart", (2,), datamodule=shared)
    assert recorded(tmp_path / "apart" / "seed-2") == recorded(tmp_path / "together" / "seed-2")


def test_a_probe_is_optional(tmp_path: Path) -> None:
    online = with_callbacks(EasinessCallback(probe=None))
    for _ in range(2):  # trained, and then complete before
        record = repeat(tmp_path, make_trainer=online)
        assert record.series == "train-online"
        assert (record.count == 1).all()


# ------------------------------------------------------------------ the caller's things


def test_the_callers_streams_and_environment_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    shared = loader(OwnGenerators())
    own = shared.dataset.noise.get_state()
    before = streams()
    for name, module, ends in (
        ("whole", Net, nullcontext()),
        ("error", Modules(1), pytest.raises(ArithmeticError)),
        ("Ctrl-C", Modules(1, KeyboardInterrupt), pytest.raises(SystemExit)),
    ):
        with ends:
            repeat(tmp_path / name, make_module=module, datamodule=shared)
        assert streams() == before
        assert torch.equal(shared.dataset.noise.get_state(), own)
        assert os.environ["PL_GLOBAL_SEED"] == "77"
        assert "PL_SEED_WORKERS" not in os.environ


def test_a_checkpoint_of_the_users_is_as_without_repeat_fit(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "kept")
    repeat(tmp_path / "runs", make_trainer=with_callbacks(keep, enable_checkpointing=True))
    saved = torch.load(keep.best_model_path, weights_only=True)
    assert [name.split("{")[0] for name in saved["callbacks"]] == ["EasinessCallback", "ModelCheckpoint"]


def test_no_worker_lives_on(tmp_path: Path) -> None:
    fit = trainer(max_epochs=1, callbacks=[EasinessCallback(tmp_path)])
    gc.disable()
    try:
        fit.fit(Net(), loader(num_workers=1))
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


def test_the_bar_counts_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        repeat(tmp_path, (1, 2), progress=True)
        assert "Runs: 100%" in capsys.readouterr().err
    repeat(tmp_path, (1, 2))
    assert "Runs" not in capsys.readouterr().err


# ------------------------------------------------------------------ factories and data


def test_the_trainers_own_observer_keeps_its_options(tmp_path: Path) -> None:
    observer = EasinessCallback("elsewhere", at_steps=(0, 3), every_n_epochs=2, online=False, run="mine")
    record = repeat(tmp_path / "runs", (1, 2), make_trainer=with_callbacks(observer))  # one object in two Trainers
    assert record.steps.tolist() == [0, 3, 2 * STEPS]
    assert record.runs == ["seed-1", "seed-2"]
    assert [path.name for path in sorted((tmp_path / "runs" / "seed-1").iterdir()) if path.is_dir()] == ["train-probe"]
    assert not Path("elsewhere").exists()


class HoldsItsData(Net):
    def train_dataloader(self) -> DataLoader:
        return data()


KINDS = ["loader", "function", "datamodule", "class", "lambda", "of the module"]


@pytest.mark.parametrize("given", [data(), data, TrainOnly(), TrainOnly, lambda: TrainOnly(), None], ids=KINDS)
def test_data_of_each_kind(plain: Path, tmp_path: Path, given: Any) -> None:
    repeat(tmp_path, datamodule=given, make_module=HoldsItsData if given is None else Net)
    assert recorded(tmp_path / "seed-1") == recorded(plain / "seed-1")


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("name", "made"), [("make_trainer", trainer()), ("make_module", Net())])
def test_an_object_that_was_trained_already(tmp_path: Path, name: str, made: Any) -> None:
    message = (
        f"The `{name}` of repeat_fit returned the same {type(made).__name__} for a second run, which would go on from"
        " the first; let it make a new one at each call."
    )
    with pytest.raises(ValueError, match=whole(message)):
        repeat(tmp_path, (1, 2), **{name: lambda: made})
    assert not is_complete(tmp_path / "seed-2")


def test_data_that_each_run_splits_anew(tmp_path: Path) -> None:
    def split() -> DataLoader:
        return loader(random_split(Points(), [40, 13])[0])  # by the run's seed

    with pytest.raises(ValueError, match=r"^Run 'seed-1' in .* was trained on other examples .*fix the split"):
        repeat(tmp_path, (1, 2, 3), datamodule=split)
    assert not (tmp_path / "seed-2").exists(), "known before the second run is trained"


def test_a_run_that_is_being_trained_elsewhere(tmp_path: Path) -> None:
    message = (
        f"Another callback is writing to run 'seed-2' in '{tmp_path}'; give one of them another `run` or `dirpath`."
    )
    with RunWriter(tmp_path, "seed-2"), pytest.raises(RuntimeError, match=whole(message)):
        repeat(tmp_path, (1, 2))
    assert is_complete(tmp_path / "seed-1")
    assert repeat(tmp_path, (1, 2)).seeds == [1, 2]


# ------------------------------------------------------------------ runs that are there already


def test_complete_runs_are_skipped(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recorded(plain)
    again = {"datamodule": never}
    monkeypatch.setattr(Trainer, "fit", never)
    for seeds in ((1, 2), (2, 1), (2,)):
        record = repeat(plain, seeds, **again)
        assert record.seeds == list(seeds)
        assert torch.equal(record.loss, EasinessRecord.load(plain).loss[list(seeds)])
    monkeypatch.undo()
    assert repeat(plain, (1, 2, 4)).seeds == [1, 2, 4]
    shutil.rmtree(plain / "seed-4")
    assert recorded(plain) == before


def test_a_run_that_another_process_completes_in_the_meantime_is_skipped(plain: Path, tmp_path: Path) -> None:
    def make_module(seed: int) -> Net:
        assert seed == 1
        shutil.copytree(plain / "seed-2", tmp_path / "seed-2")
        return Net()

    assert repeat(tmp_path, (1, 2), make_module=make_module).seeds == [1, 2]


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_run_that_failed_goes_on(plain: Path, tmp_path: Path, error: type[BaseException]) -> None:
    module = Modules(1, error)
    with pytest.raises((ArithmeticError, SystemExit)):
        repeat(tmp_path, make_module=module)
    assert not is_complete(tmp_path / "seed-1")
    assert (tmp_path / "seed-1" / "resume.ckpt").exists()
    repeat(tmp_path, make_module=module)
    assert recorded(tmp_path / "seed-1") == recorded(plain / "seed-1")


def test_a_run_goes_on_where_its_folder_was_moved_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    observing = {"make_trainer": lambda: trainer(callbacks=[EasinessCallback(at_steps=(STEPS,))])}
    with pytest.raises(ArithmeticError):
        repeat(Path("before"), make_module=Modules(1), **observing)
    Path("before").rename("after")
    repeat(tmp_path / "after", **observing)
    repeat(tmp_path / "whole", **observing)
    assert recorded(tmp_path / "after") == recorded(tmp_path / "whole")


class Runs:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


def holding_code(content: bytes) -> bytes:
    torch.save({**torch.load(io.BytesIO(content), weights_only=True), "more": Runs()}, file := io.BytesIO())
    return file.getvalue()


def with_a_flipped_bit(content: bytes) -> bytes:
    """In the weights, where it is read as another number."""
    weights = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]["net.0.weight"]
    place = content.index(weights.numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = [
    lambda content: b"",
    lambda content: content[:500],
    lambda content: b"?" * 999,
    holding_code,
    with_a_flipped_bit,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["empty", "cut", "other", "code", "flipped"])
def test_a_damaged_resume_file(plain: Path, tmp_path: Path, damage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = Modules(1)
    with pytest.raises(ArithmeticError):
        repeat(tmp_path, make_module=module)
    resume = tmp_path / "seed-1" / "resume.ckpt"
    resume.write_bytes(damage(resume.read_bytes()))
    before = recorded(tmp_path / "seed-1")
    assert len(before) == 5  # a checkpoint and the targets of two series, and what was trained on
    pattern = (
        rf"^'{re.escape(str(resume))}' is damaged, or holds more than tensors and plain types, as hyperparameters may"
        r" \(\w+\); its run starts again\.$"
    )
    with pytest.warns(UserWarning, match=pattern):
        repeat(tmp_path, make_module=module)
    after = recorded(tmp_path / "seed-1", hidden=False)
    assert {name: after[name] for name in before} == before, "nothing is lost: the same came again"
    assert not (tmp_path / "seed-1/.earlier-1").exists(), "and what came again is not kept twice"
    assert not Path("unpickled").exists()
    assert after == recorded(plain / "seed-1")


# ------------------------------------------------------------------ training that ends early


class RunsOutOfTime(Net):
    """Says in its third batch that its time is over."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == 2:
            timer = next(callback for callback in self.trainer.callbacks if isinstance(callback, Timer))
            timer.load_state_dict({"time_elapsed": {"train": 1e9}})
        return super().training_step(batch, batch_idx)


def test_a_time_limit_completes_the_run(tmp_path: Path) -> None:
    limited = with_callbacks(max_time=timedelta(days=1), max_epochs=9)
    record = repeat(tmp_path, make_trainer=limited, make_module=RunsOutOfTime)
    assert record.steps.tolist() == [3]  # the epoch that was cut short is observed
    assert EasinessRecord.load(tmp_path, "train-online").count.sum() == 3 * 8
    repeat(tmp_path, make_trainer=limited, make_module=RunsOutOfTime, datamodule=never)


class Tempted(Validated):
    """A module whose validation loss stops falling at once, or only later, by the seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_validation_epoch_end(self) -> None:
        self.log("stop", -float(min(self.current_epoch, self.seed)))


def test_runs_that_stop_early_are_stacked_where_all_were_observed(tmp_path: Path) -> None:
    def make_trainer() -> Trainer:
        return trainer(max_epochs=9, callbacks=[EarlyStopping("stop", patience=1)])

    with pytest.warns(UserWarning, match=whole("Left out: checkpoints that some runs lack: steps 21, 28.")):
        record = repeat(tmp_path, (0, 2), make_trainer=make_trainer, make_module=Tempted)
    assert record.steps.tolist() == [STEPS, 2 * STEPS]
    assert EasinessRecord.load(tmp_path / "seed-2").steps.tolist() == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]


def test_a_run_with_no_training_is_not_complete(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        repeat(tmp_path, make_trainer=lambda: trainer(max_epochs=0))
    assert not is_complete(tmp_path / "seed-1")
    with RunWriter(tmp_path, "seed-1"):
        pass
    assert repeat(tmp_path).num_checkpoints == 2
