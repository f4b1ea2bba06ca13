"""EasinessCallback's arguments, where it writes, and the pass at the end of the fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.made_runs import whole
from tests.plain_forward import check, eval_forward
from tests.resuming import Plain, Resumable, Stop
from tests.small import Net, Points, assert_identical, loader, recorded, trainer

# -------------------------------------------------------------------------------------------------------- arguments


BATCH_SIZE = "The `batch_size` of BatchReader (`probe_batch_size` of EasinessCallback)"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"every_n_epochs": -1}, "The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got -1."),
    ({"every_n_epochs": 0.5}, "The `every_n_epochs` of EasinessCallback must be an integer >= 0 or None; got 0.5."),
    ({"at_steps": 100}, "The `at_steps` of EasinessCallback must be a list of steps; got 100."),
    ({"at_steps": [3, -2]}, "The `at_steps` of EasinessCallback must be integers >= 0; got -2."),
    ({"at_steps": "12"}, "The `at_steps` of EasinessCallback must be integers >= 0; got '1'."),
    ({"probe": "test"}, "The `probe` of EasinessCallback must be 'train', 'val', a DataLoader or None; got 'test'."),
    (
        {"probe": None, "online": False},
        "EasinessCallback(probe=None, online=False) observes nothing; turn one of them on.",
    ),
    (
        {"probabilities": True, "online": False},
        "The `probabilities` of EasinessCallback come from the training forward, but online=False; turn it on.",
    ),
    (
        {"probe": None, "patterns": {"grey": abs}},
        "The `patterns` of EasinessCallback are for the probe, but probe=None; turn it on.",
    ),
    (
        {"every_n_epochs": 0},
        "The `probe` of EasinessCallback never runs: set `every_n_epochs` or `at_steps`, or probe=None.",
    ),
    *(
        ({"probe_batch_size": size}, f"{BATCH_SIZE} must be an integer >= 1 or None; got {size!r}.")
        for size in (0, "a")
    ),
    *(
        (
            {"sigma2": value},
            f"The `sigma2` of EasinessCallback or BatchReader must be a finite number above 0; got {value}.",
        )
        for value in (0.0, -1, None)
    ),
    *(
        ({"run": run}, f"The `run` of EasinessCallback must be a folder's name; got {run!r}.")
        for run in ("a/b", "", ".hidden")
    ),
    (
        {"patterns": {"a/b": torch.neg}},
        "The `patterns` of EasinessCallback must have names that fit a folder's; got 'a/b'.",
    ),
    (
        {"patterns": {"grey": 0.5}},
        "The `patterns` of EasinessCallback must be functions of the inputs; got 0.5 for 'grey'.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=whole(message)):
        EasinessCallback(**arguments)


def test_arguments_that_are_fine() -> None:
    for arguments in ({"at_steps": {3, 1}}, {"at_steps": range(3), "every_n_epochs": 0}, {"run": "seed-0.5"}):
        EasinessCallback(**arguments)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- where it is written


LOGGERS = {
    "none": (lambda folder: False, ["easiness", "easiness-v1"]),
    "a version for each run": (
        lambda folder: TensorBoardLogger(folder, name="board"),
        ["board/version_0/easiness", "board/version_1/easiness"],
    ),
    "one version for all runs": (
        lambda folder: CSVLogger(folder, name="", version="mine"),
        ["mine/easiness", "mine/easiness-v1"],
    ),
}


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize("name", LOGGERS)
def test_a_script_that_runs_again_never_collides_and_never_mixes(name: str, tmp_path: Path) -> None:
    make_logger, folders = LOGGERS[name]
    for folder in folders:
        seed_everything(0, verbose=False)
        observer = EasinessCallback(num_images=0)
        fit = trainer(callbacks=[observer], logger=make_logger(tmp_path), default_root_dir=tmp_path, max_epochs=1)
        fit.fit(Net(), loader())
        assert observer.folder == tmp_path / folder
        assert observer.dirpath is None
    assert [EasinessRecord.load(tmp_path / folder).runs for folder in folders] == [["seed-0"], ["seed-0"]]


def test_two_callbacks_of_one_trainer_write_apart(tmp_path: Path) -> None:
    observers = [EasinessCallback(num_images=0), EasinessCallback(probe=None)]
    trainer(callbacks=observers, default_root_dir=tmp_path, max_epochs=1).fit(Net(), loader())
    assert [observer.folder for observer in observers] == [tmp_path / "easiness", tmp_path / "easiness-v1"]
    assert EasinessRecord.load(tmp_path / "easiness").series == "train-probe"
    assert EasinessRecord.load(tmp_path / "easiness-v1").series == "train-online"


@pytest.mark.parametrize("is_there", [True, False])
def test_resuming_goes_on_in_the_folder_where_it_began_if_that_is_there(is_there: bool, tmp_path: Path) -> None:
    def run(*others: Any, ckpt_path: Path | None = None) -> EasinessCallback:
        seed_everything(0, verbose=False)
        observer = EasinessCallback(at_steps=(0, 10), num_images=0)
        made = trainer(callbacks=[observer, *others], logger=TensorBoardLogger(tmp_path, name="board"), max_epochs=3)
        made.fit(Plain(), Resumable(), ckpt_path=ckpt_path)
        return observer

    with pytest.raises(InterruptedError):
        run(Stop(tmp_path / "stopped.ckpt", 1, 4))
    first = tmp_path / "board" / "version_0" / "easiness"
    if not is_there:
        first.rename(tmp_path / "moved")
    resumed = run(ckpt_path=tmp_path / "stopped.ckpt")
    assert resumed.folder == (first if is_there else tmp_path / "board" / "version_1" / "easiness")
    if is_there:
        assert_identical(recorded(first), recorded(run().folder))  # type: ignore[arg-type]


def test_a_checkpoint_without_its_state_is_warned_of(tmp_path: Path) -> None:
    first, checkpoint = trainer(max_epochs=1), tmp_path / "first.ckpt"
    first.fit(Net(), loader())
    first.save_checkpoint(checkpoint)
    fit = trainer(max_epochs=2, callbacks=[EasinessCallback(tmp_path / "record")])
    message = (
        "Training resumes at epoch 1, but the checkpoint holds no state of this EasinessCallback, so its record begins"
        " there; to continue an earlier record, give the callback the same `dirpath`, `run` and `probe` as then."
    )
    with pytest.warns(UserWarning, match=whole(message)):
        fit.fit(Net(), loader(), ckpt_path=checkpoint)


def test_a_second_fit_goes_on_in_its_folder_and_another_trainers_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each says at its end where the record is."""
    caplog.set_level("INFO", logger="lightning.pytorch")
    observer, module = EasinessCallback(), Net()
    first = trainer(callbacks=[observer], default_root_dir=tmp_path, max_epochs=1)
    first.fit(module, loader())
    first.fit_loop.max_epochs = 2
    first.fit(module, loader())
    record = EasinessRecord.load(tmp_path / "easiness", "train-probe")
    assert (record.num_runs, record.steps.tolist()) == (1, [7, 14])
    trainer(callbacks=[observer], default_root_dir=tmp_path, max_epochs=1).fit(module, loader())
    assert observer.folder == tmp_path / "easiness-v1"
    said = [record.getMessage() for record in caplog.records if "is recorded" in record.getMessage()]
    folders = [tmp_path / name for name in ("easiness", "easiness", "easiness-v1")]
    assert said == [
        f"What was observed of each example is recorded in '{folder}'; next: lightning-easiness score {folder}"
        for folder in folders
    ]


# -------------------------------------------------------------------------------------- the pass at the end of the fit


class CountsPasses(Net):
    """Counts its batches in eval mode: one is tried before training, and a pass over the 53 examples has 7."""

    batches = 0

    def forward(self, x: Tensor) -> Tensor:
        self.batches += not self.training
        return super().forward(x)


class StopsInEpoch(EarlyStopping):
    """Asks to stop within the second epoch."""

    def __init__(self) -> None:
        super().__init__("loss", strict=False)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == 9


ENDS: dict[str, tuple[dict[str, Any], int, int]] = {
    "max_epochs": ({"max_epochs": 3}, 21, 2),
    "max_steps": ({"max_epochs": -1, "max_steps": 10}, 10, 1),
    "max_time": ({"max_epochs": -1, "max_time": {"milliseconds": 1}}, -1, 0),
    "stopped within an epoch": ({"max_epochs": 5, "callbacks": [StopsInEpoch()]}, 9, 1),
    "a finder of learning rates": ({"max_epochs": 1, "callbacks": [LearningRateFinder(num_training_steps=3)]}, 7, 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_one_pass_at_the_final_weights(end: str, tmp_path: Path) -> None:
    options, step, epoch = ENDS[end]
    others = options.get("callbacks", [])
    module = CountsPasses()
    module.lr = 0.1  # type: ignore[assignment]
    observer = EasinessCallback(tmp_path / "record")
    made = {**options, "callbacks": [*others, observer], "default_root_dir": tmp_path}
    trainer(**made).fit(module, loader())
    record = EasinessRecord.load(tmp_path / "record", "train-probe")
    if end == "max_time":
        step, epoch = int(record.steps[-1]), int(EasinessRecord.load(tmp_path / "record", "train-online").epochs[-1])
    assert (record.steps.tolist(), record.epochs.tolist()) == ([step], [epoch])
    assert module.batches == 1 + 7
    check(record, -1, eval_forward(module), Points())
    assert json.loads((tmp_path / "record" / "run-0" / "run.json").read_text())["complete"]


@pytest.mark.parametrize(
    ("options", "epochs", "step"),
    [
        ({}, 2, 14),
        ({"at_steps": (14,)}, 2, 14),
        ({"every_n_epochs": 2}, 2, 14),
        ({"every_n_epochs": 2}, 3, 14),
        ({"every_n_epochs": 0, "at_steps": (3,)}, 3, 3),
    ],
)
def test_one_pass_is_made_also_where_the_end_is_asked_for_or_another_step_is(
    options: dict[str, Any], epochs: int, step: int, tmp_path: Path
) -> None:
    module = CountsPasses()
    trainer(callbacks=[EasinessCallback(tmp_path, **options)], max_epochs=epochs).fit(module, loader())
    assert module.batches == 1 + 7
    assert EasinessRecord.load(tmp_path, "train-probe").steps.tolist() == [step]


def test_what_cannot_be_evaluated_is_refused_before_training(tmp_path: Path) -> None:
    class Detects(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) if self.training else {"boxes": x}

    module = Detects()
    with pytest.raises(TypeError, match="EasinessCallback does not know what output NoneType"):
        trainer(callbacks=[EasinessCallback(tmp_path)]).fit(module, loader())
    assert module.losses == []


def test_a_head_that_forward_does_not_reach_is_refused_before_training(tmp_path: Path) -> None:
    class Headed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, 4)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return torch.nn.functional.cross_entropy(self.head(self(batch[0])), batch[1])

    fit = trainer(callbacks=[EasinessCallback(tmp_path, module="head")])
    with pytest.raises(RuntimeError) as caught:
        fit.fit(Headed(), loader())
    assert str(caught.value) == (
        "The module has a forward that never calls 'head', and its part 'head' does not take a batch's inputs"
        " (RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x8 and 4x4)), so an evaluation pass gets no"
        " logits: let a forward return them, or pass probe=None."
    )
    assert fit.global_step == 0


def test_an_example_that_cannot_be_read_at_the_end_does_not_lose_the_training(tmp_path: Path) -> None:
    class Broken(Points):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if index == 52:
                raise OSError("unreadable")
            return super().__getitem__(index)

    class Ends(Net):
        def on_fit_end(self) -> None:
            self.ended = True

    module, data = Ends(), Broken()
    with pytest.warns(UserWarning, match=r"evaluation pass at the end of the fit failed \(OSError: unreadable\)"):
        trainer(callbacks=[EasinessCallback(tmp_path)]).fit(
            module, loader(data, shuffle=False, sampler=torch.utils.data.SubsetRandomSampler(range(52)))
        )
    assert module.ended
    assert len(module.losses) == 14
    assert EasinessRecord.load(tmp_path, "train-online").num_checkpoints == 2
    assert not json.loads((tmp_path / "run-0" / "run.json").read_text())["complete"]


def test_the_last_pass_sees_weights_that_another_callback_changes_at_the_end(tmp_path: Path) -> None:
    module = Net()
    averaging = StochasticWeightAveraging(swa_lrs=0.5, swa_epoch_start=1)
    trainer(callbacks=[EasinessCallback(tmp_path), averaging], max_epochs=3).fit(module, loader())
    check(EasinessRecord.load(tmp_path, "train-probe"), -1, eval_forward(module), Points())


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_fit_that_fails_has_none(error: type[BaseException], tmp_path: Path) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.current_epoch == 1:
                raise error
            return super().training_step(batch, batch_idx)

    with pytest.raises((error, SystemExit)):
        trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=3).fit(Fails(), loader())
    assert EasinessRecord.load(tmp_path, "train-online").steps.tolist() == [7]
    assert not list(tmp_path.rglob("train-probe"))


def test_a_finished_fit_that_is_resumed_is_observed_once_more_at_its_end(tmp_path: Path) -> None:
    """As where it was killed between its last epoch's end and its own; also where the record was lost."""

    folder = tmp_path / "record"

    def run(ckpt_path: Path | None = None, **options: Any) -> None:
        seed_everything(0, verbose=False)
        callbacks = [EasinessCallback(folder, run="only"), ModelCheckpoint(tmp_path / "kept", save_last=True)]
        fit = trainer(callbacks=callbacks, enable_checkpointing=True, **options)
        fit.fit(Plain(), Resumable(), ckpt_path=ckpt_path)

    run()
    probe = {path: content for path, (_, content) in recorded(folder).items() if "train-probe" in path}
    shutil.rmtree(folder)
    run(tmp_path / "kept" / "last.ckpt", limit_train_batches=0)
    assert not folder.exists()
    run(tmp_path / "kept" / "last.ckpt")
    again = {path: content for path, (_, content) in recorded(folder).items() if "train-probe" in path}
    assert again == probe
    assert json.loads((folder / "only" / "run.json").read_text())["complete"]


class Counted(Points):
    reads = 0

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        Counted.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("batches", [True, 2])
@pytest.mark.parametrize("at_steps", [(), (0, 1)])
@pytest.mark.parametrize("dirpath", ["easiness", None])
def test_a_trial_run_writes_nothing_and_reads_little(
    dirpath: str | None, at_steps: Any, batches: bool | int, tmp_path: Path
) -> None:
    """A batch is tried, and every pass too, with as few batches as are trained on."""
    Counted.reads = 0
    shown: list[int] = []
    folder = None if dirpath is None else tmp_path / dirpath
    patterns = {"spied": lambda x: shown.append(len(x)) or x}
    observer = EasinessCallback(folder, at_steps=at_steps, patterns=patterns)
    trainer(callbacks=[observer], fast_dev_run=batches, default_root_dir=tmp_path).fit(Net(), loader(Counted()))
    passes = len({*at_steps, int(batches)})
    assert observer.folder == folder
    assert not list(tmp_path.iterdir())
    assert shown == [8] * (1 + int(batches) * passes)
    assert Counted.reads == 8 * (int(batches) + len(shown))
