"""Stepwise compression: what goes, what is measured, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, EasinessRecord, StepwiseCompression
from lightning_easiness.functional import ablate
from lightning_easiness.record.files import write_whole
from tests.made_runs import whole
from tests.processes import run_script
from tests.repeated_runs import fast_collection, in_a_process  # noqa: F401
from tests.small import Net, Points, loader, streams, trainer

ARGUMENTS: dict[str, Any] = {"ratio": 0.25, "step": 0.1, "seeds": (1, 2), "progress": False}


class Data(LightningDataModule):
    def __init__(self, size: int = 53) -> None:
        super().__init__()
        self.points, self.checked = Points(size, augment=True), Points(20, seed=5)

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.points)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(self.checked, shuffle=False)

    test_dataloader = val_dataloader


class Logs(Net):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))


class Counts:
    """Makes modules and counts the fits; the one of a number dies in its second epoch."""

    def __init__(self, dies: int | None = None, error: BaseException | None = None) -> None:
        self.made, self.dies, self.error = 0, dies, error or ArithmeticError("on purpose")

    def __call__(self) -> Net:
        module = Logs()
        self.made += 1
        if self.made == self.dies:
            module.on_train_epoch_start = lambda: self.die(module)  # type: ignore[method-assign]
        return module

    def die(self, module: LightningModule) -> None:
        if module.current_epoch == 1:
            raise self.error


def compression(folder: Path, **changes: Any) -> StepwiseCompression:
    made = {"make_trainer": trainer, "make_module": Logs, "datamodule": Data(), "dirpath": folder}
    return StepwiseCompression(**{**made, **ARGUMENTS, **changes})


def step_of(folder: Path, number: int, share: float) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / f"step-{number}" / f"kept-{share}.safetensors")


def decided(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("kept-*.safetensors")}


def never(*arguments: Any) -> Any:
    raise AssertionError("what is measured is not measured again")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    before = streams()
    kept = compression(folder).run()
    assert streams() == before
    assert torch.equal(kept, step_of(folder, 3, 0.25)["kept"])
    return folder


# ------------------------------------------------------------------ what goes


def test_each_step_takes_its_share_of_the_original_data_set(undisturbed: Path) -> None:
    kept = [set(step_of(undisturbed, *step)["kept"].tolist()) for step in ((1, 0.1), (2, 0.2), (3, 0.25))]
    assert [len(one) for one in kept] == [53 - 5, 53 - 11, 53 - 13]
    assert kept[2] < kept[1] < kept[0]
    found = step_of(undisturbed, 3, 0.25)["kept"]
    assert (found.dtype, found.tolist()) == (torch.int64, sorted(found.tolist()))


def test_only_what_is_left_decides_and_by_what_was_measured_on_it(undisturbed: Path) -> None:
    left = torch.arange(53)
    for number, share in enumerate((0.1, 0.2, 0.25), 1):
        step = step_of(undisturbed, number, share)
        measured = EasinessRecord.load(undisturbed / f"step-{number}")
        assert (measured.seeds, measured.num_examples) == ([1, 2], 53)
        seen = EasinessRecord.load(undisturbed / f"step-{number}", "train-online").count.bool()
        assert torch.equal(seen.all(0).all(0).nonzero()[:, 0], left), "trained on what was left"
        assert torch.equal(seen.any(0).any(0).nonzero()[:, 0], left), "and on nothing else"
        loss = measured.loss[:, -1].mean(0)
        assert torch.equal(step["score"][left], loss[left])
        assert torch.equal((~step["score"].isnan()).nonzero()[:, 0], left)
        assert torch.equal(step["target"], Points().y)
        draw = 0 * 0x9E3779B97F4A7C15 + number  # seed 0
        going = len(left) - len(step["kept"])
        expected = left[ablate(loss[left], going / len(left), higher_is_easier=False, seed=draw)]
        assert torch.equal(step["kept"], expected)
        gone = left[~torch.isin(left, step["kept"])]
        assert loss[gone].mean() < 0.9 * loss[step["kept"]].mean(), "easy examples go"
        left = step["kept"]


def test_the_last_step_is_what_is_missing() -> None:
    assert compression(Path("unused"), ratio=0.3).shares() == [0.1, 0.2, 0.3]
    assert compression(Path("unused"), ratio=0.7, step=0.3).shares() == [0.3, 0.6, 0.7]
    assert compression(Path("unused"), ratio=0.1).shares() == [0.1]
    assert compression(Path("unused")).shares(0.15) == [0.1, 0.15]


def test_data_of_each_kind(undisturbed: Path, tmp_path: Path) -> None:
    kept = [
        compression(tmp_path / str(number), datamodule=given, ratio=0.2).run()
        for number, given in enumerate((Data, lambda: Data(), Data().train_dataloader(), Data().train_dataloader))
    ]
    for number in (0, 1):
        assert torch.equal(kept[number], step_of(undisturbed, 2, 0.2)["kept"])
    assert torch.equal(kept[2], kept[3]), "which do not validate, and so draw other numbers"


def test_seeds_decide(undisturbed: Path, tmp_path: Path) -> None:
    for changes in ({"seed": 1}, {"seeds": (2, 3)}):
        folder = tmp_path / str(changes)
        kept = compression(folder, ratio=0.1, **changes).run()
        assert not torch.equal(kept, step_of(undisturbed, 1, 0.1)["kept"])


def test_steps_of_less_than_an_example_train_nothing(tmp_path: Path) -> None:
    made = Counts()
    found = compression(tmp_path, datamodule=Data(10), ratio=0.14, step=0.02, seeds=(1,), make_module=made).run()
    assert (len(found), made.made) == (9, 1)


# ------------------------------------------------------------------ what is there already


@pytest.mark.parametrize("dies", [1, 4, 6])
def test_a_killed_compression_ends_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path, dies: int) -> None:
    with pytest.raises(ArithmeticError):
        compression(tmp_path, make_module=Counts(dies)).run()
    rest = Counts()
    compression(tmp_path, make_module=rest).run()
    assert decided(tmp_path) == decided(undisturbed)
    assert rest.made == 7 - dies, "2 seeds in 3 steps"


def test_nothing_is_measured_again(undisturbed: Path) -> None:
    again = compression(undisturbed, make_module=never, make_trainer=never)
    assert torch.equal(again.run(), step_of(undisturbed, 3, 0.25)["kept"])
    before = decided(undisturbed)
    assert len(again.kept_at(0.2)) == 53 - 11
    assert decided(undisturbed) == before
    smaller = again.kept_at(0.23)  # another last step, of the same measurement
    assert len(smaller) == 53 - 12
    (undisturbed / "step-3" / "kept-0.23.safetensors").unlink()


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:100]])
def test_a_damaged_step_is_decided_again(undisturbed: Path, damage: Any) -> None:
    before = decided(undisturbed)
    path = undisturbed / "step-2" / "kept-0.2.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = f"'{path}' is damaged, or not of a compression; its step is decided again."
    with pytest.warns(UserWarning, match=whole(message)):
        compression(undisturbed, make_module=never).run()
    assert decided(undisturbed) == before


def test_a_kill_between_the_last_run_and_the_decision(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path, data: bytes) -> None:
        if path.name == "kept-0.2.safetensors":
            raise ArithmeticError("on purpose")
        write_whole(path, data)

    with monkeypatch.context() as patched:
        patched.setattr("lightning_easiness.experiments.compression.write_whole", dies)
        with pytest.raises(ArithmeticError):
            compression(tmp_path).run()
    rest = Counts()
    compression(tmp_path, make_module=rest).run()
    assert decided(tmp_path) == decided(undisturbed)
    assert rest.made == 2, "the third step's"


class Dies(Counts):
    """Kills its process where others raise an error."""

    def die(self, module: LightningModule) -> None:
        if module.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    """Leave what one killed process leaves, and what two that work together do."""
    if "LOCAL_RANK" not in os.environ:  # else this is the second process of the two below
        assert in_a_process(lambda: compression(folder / "killed", make_module=Dies(3)).run()) == -signal.SIGKILL
    make = partial(trainer, devices=2, strategy="ddp")
    shared = compression(folder / "shared", make_trainer=make, ratio=0.2, seeds=(1,))
    for time in range(2):
        torch.save(shared.run(), folder / f"rank-{torch.distributed.get_rank()}-{time}.pt")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `main` leaves; in one start, as that takes longest."""
    folder = tmp_path_factory.mktemp("processes")
    ended = run_script("experiments.test_compression", folder, time_limit=240)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.mark.multiprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_kill_by_the_system(undisturbed: Path, processes: Path) -> None:
    folder = processes / "killed"
    assert list(decided(folder)) == ["step-1/kept-0.1.safetensors"]
    rest = Counts()
    compression(folder, make_module=rest).run()
    assert decided(folder) == decided(undisturbed)
    assert rest.made == 4


@pytest.mark.multiprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_every_rank_keeps_the_same(processes: Path) -> None:
    kept = [torch.load(processes / f"rank-{rank}-{time}.pt") for rank in (0, 1) for time in (0, 1)]
    assert all(torch.equal(one, step_of(processes / "shared", 2, 0.2)["kept"]) for one in kept)
    assert len(kept[0]) == 53 - 11
    assert not list(processes.rglob(".tmp-*"))


# ------------------------------------------------------------------ what is refused


RANGE = "The `ratio` of StepwiseCompression must be in (0, 1); got {}: 30 % to remove is 0.3."
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"ratio": 1.0}, ValueError, RANGE.format(1.0)),
    ({"ratio": 0}, ValueError, RANGE.format(0)),
    (
        {"step": 0.3},
        ValueError,
        (
            "The `step` of StepwiseCompression must be in (0, ratio], (0, 0.25]; got 0.3: it is the fraction of the"
            " original data set that goes in a step."
        ),
    ),
    ({"seeds": ()}, ValueError, "The `seeds` of StepwiseCompression are empty; give one for each run, as range(10)."),
    ({"seeds": (1, 1)}, ValueError, "The `seeds` of StepwiseCompression must differ, as a run each; got [1, 1]."),
    (
        {"datamodule": None},
        TypeError,
        "The `datamodule` of EasinessDataModule must be a LightningDataModule or the train DataLoader; got NoneType.",
    ),
]


@pytest.mark.parametrize(("changes", "kind", "message"), BAD)
def test_bad_arguments(changes: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=whole(message)):
        compression(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "before", "now"), [("step", 0.1, 0.05), ("seeds", [1, 2], [1, 2, 3]), ("seed", 0, 4)])
def test_another_compression_in_the_same_folder(undisturbed: Path, name: str, before: Any, now: Any) -> None:
    message = (
        f"'{undisturbed}' holds what came of {name}={before}, but `{name}` is {now} now; give another `dirpath`, or the"
        " same arguments to go on."
    )
    with pytest.raises(ValueError, match=whole(message)):
        compression(undisturbed, make_module=never, **{name: now}).run()


def test_other_data_in_the_same_folder(tmp_path: Path) -> None:
    compression(tmp_path, ratio=0.1, seeds=(1,)).run()
    other = Data()
    other.points.y = (other.points.y + 1) % 4
    with pytest.raises(ValueError, match=r"^The step before and the runs in .* are not of the same data: example 0 "):
        compression(tmp_path, ratio=0.2, seeds=(1,), datamodule=other).run()


def test_losses_that_are_not_known(tmp_path: Path) -> None:
    online = [lambda: trainer(callbacks=[EasinessCallback(probe=None)])]
    assert len(compression(tmp_path / "online", make_trainer=online[0]).run()) == 53 - 13, "online suffices"
    data = loader(Points(), drop_last=True)
    with pytest.raises(ValueError, match="of the 53 examples that are left have a NaN loss in a run in"):
        compression(tmp_path / "dropped", make_trainer=online[0], datamodule=data).run()


def test_a_record_of_validation_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must observe the training examples; its record in .* is of 'val-probe'"):
        compression(tmp_path, make_trainer=lambda: trainer(callbacks=[EasinessCallback(probe="val")])).run()


def test_a_run_that_is_not_complete_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness.experiments.compression.missing_run", lambda folder, seeds: "seed-2")
    message = (
        f"Run 'seed-2' in '{tmp_path / 'step-1'}' is not complete, or cannot be read, so that nothing is removed yet;"
        " run again to go on with it, after deleting what a warning says is damaged."
    )
    with pytest.raises(RuntimeError, match=whole(message)):
        compression(tmp_path).run()
    assert decided(tmp_path) == {}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
