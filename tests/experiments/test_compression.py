"""Stepwise compression: what goes, what is measured, and what a kill leaves."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_easiness import EasinessCallback, EasinessRecord, StepwiseCompression
from lightning_easiness.experiments.compression import Step, write_step
from lightning_easiness.functional import ablate
from tests.made_runs import whole
from tests.repeated_runs import Data, Modules, in_a_process, never
from tests.small import Net, Points, loader, streams, trainer

ARGUMENTS: dict[str, Any] = {"ratio": 0.25, "step": 0.1, "seeds": (1, 2), "progress": False}


def compression(folder: Path, **changes: Any) -> StepwiseCompression:
    made = {"make_trainer": trainer, "make_module": Net, "datamodule": Data(), "dirpath": folder}
    return StepwiseCompression(**{**made, **ARGUMENTS, **changes})


def step_of(folder: Path, number: int, share: float) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / f"step-{number}" / f"kept-{share}.safetensors")


def decided(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("kept-*.safetensors")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    before = streams()
    kept = compression(folder).run()
    assert streams() == before
    assert torch.equal(kept, step_of(folder, 3, 0.25)["kept"])
    return folder


# ------------------------------------------------------------------ what goes


def test_each_step_takes_its_share_by_what_was_measured_on_what_is_left(undisturbed: Path) -> None:
    left = torch.arange(53)
    for number, share, size in ((1, 0.1, 53 - 5), (2, 0.2, 53 - 11), (3, 0.25, 53 - 13)):
        step = step_of(undisturbed, number, share)
        kept, score = step["kept"], step["score"]
        assert (kept.dtype, len(kept)) == (torch.int64, size)
        measured = EasinessRecord.load(undisturbed / f"step-{number}")
        assert (measured.seeds, measured.num_examples) == ([1, 2], 53)
        seen = EasinessRecord.load(undisturbed / f"step-{number}", "train-online").count.bool()
        assert torch.equal(seen.all(0).all(0).nonzero()[:, 0], left), "trained on what was left"
        assert torch.equal(seen.any(0).any(0).nonzero()[:, 0], left), "and on nothing else"
        loss = measured.loss[:, -1].mean(0)
        assert torch.equal(score[left], loss[left])
        assert torch.equal((~score.isnan()).nonzero()[:, 0], left)
        assert torch.equal(step["target"], Points().y)
        draw = 0 * 0x9E3779B97F4A7C15 + number  # seed 0
        going = (len(left) - size) / len(left)
        assert torch.equal(kept, left[ablate(loss[left], going, higher_is_easier=False, seed=draw)])
        assert (kept.diff() > 0).all()
        gone = left[~torch.isin(left, kept)]
        assert loss[gone].mean() < 0.9 * loss[kept].mean(), "easy examples go"
        left = kept


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


@pytest.mark.parametrize("changes", [{"seed": 1}, {"seeds": (2, 3)}], ids=str)
def test_seeds_decide(undisturbed: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    kept = compression(tmp_path, ratio=0.1, **changes).run()
    assert not torch.equal(kept, step_of(undisturbed, 1, 0.1)["kept"])


def test_steps_of_less_than_an_example_train_nothing(tmp_path: Path) -> None:
    made = Modules()
    found = compression(tmp_path, datamodule=Data(10), ratio=0.14, step=0.02, seeds=(1,), make_module=made).run()
    assert (len(found), made.trained) == (9, 1)


# ------------------------------------------------------------------ runs that hold out


def test_each_run_of_a_step_holds_out_a_part_of_what_is_left(tmp_path: Path) -> None:
    compression(tmp_path, ratio=0.2, hold_out=0.25).run()
    left = torch.arange(53)
    for number, share in ((1, 0.1), (2, 0.2)):
        measured, step = EasinessRecord.load(tmp_path / f"step-{number}"), step_of(tmp_path, number, share)
        is_left = torch.zeros(53, dtype=torch.bool).index_fill(0, left, True)
        assert not (measured.held_out & ~is_left).any(), "of what is left"
        assert all(abs(int(part.sum()) - len(left) / 4) < 1 for part in measured.held_out)
        assert torch.equal(measured.trained_on, is_left & ~measured.held_out)
        for example in left.tolist():
            losses = measured.loss[measured.trained_on[:, example], -1, example]
            assert float(step["score"][example]) == pytest.approx(float(losses.mean()))
        left = step["kept"]


def test_folds_of_two_seeds_train_on_each_example_once(tmp_path: Path) -> None:
    kept = compression(tmp_path, ratio=0.1, hold_out="folds").run()
    assert (EasinessRecord.load(tmp_path / "step-1").trained_on.sum(0) == 1).all()
    assert len(kept) == 48


@pytest.mark.parametrize(("hold_out", "seeds", "given"), [(0.6, (1, 2), "2 seeds"), (0.2, (1,), "1 seed")])
def test_examples_that_no_run_would_train_on_are_refused(
    tmp_path: Path, hold_out: float, seeds: tuple[int, ...], given: str
) -> None:
    message = (
        "The `hold_out` of StepwiseCompression must be at most 0.5, with two seeds at least, so that some run trains on"
        f" each example; got {hold_out} with {given}."
    )
    with pytest.raises(ValueError, match=whole(message)):
        compression(tmp_path, hold_out=hold_out, seeds=seeds)


def test_a_folder_is_of_one_way_to_hold_out(undisturbed: Path, tmp_path: Path) -> None:
    message = (
        f"'{undisturbed}' holds what came of hold_out=None, but `hold_out` is 0.2 now; give another `dirpath`, or the"
        " same arguments to go on."
    )
    with pytest.raises(ValueError, match=whole(message)):
        compression(undisturbed, hold_out=0.2, make_module=never).run()


# ------------------------------------------------------------------ what is there already


def ends(undisturbed: Path, folder: Path, fits: int) -> None:
    """A compression that was stopped decides as the one that was not, after so many more fits."""
    rest = Modules()
    compression(folder, make_module=rest).run()
    assert decided(folder) == decided(undisturbed)
    assert rest.trained == fits


@pytest.mark.parametrize("dies", [1, 4, 6])
def test_a_stopped_compression_ends_as_if_it_had_not_been(undisturbed: Path, tmp_path: Path, dies: int) -> None:
    with pytest.raises(ArithmeticError):
        compression(tmp_path, make_module=Modules(dies)).run()
    ends(undisturbed, tmp_path, 7 - dies)  # 2 seeds in 3 steps


@pytest.mark.multiprocess
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_kill_by_the_system(undisturbed: Path, tmp_path: Path) -> None:
    killed = compression(tmp_path, make_module=Modules(3, error=None))
    assert in_a_process(killed.run) == -signal.SIGKILL
    assert list(decided(tmp_path)) == ["step-1/kept-0.1.safetensors"]
    ends(undisturbed, tmp_path, 4)


def test_a_kill_between_the_last_run_and_the_decision(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(path: Path, step: Step, about: str) -> None:
        if path.name == "kept-0.2.safetensors":
            raise ArithmeticError("on purpose")
        write_step(path, step, about)

    with monkeypatch.context() as patched:
        patched.setattr("lightning_easiness.experiments.compression.write_step", dies)
        with pytest.raises(ArithmeticError):
            compression(tmp_path).run()
    ends(undisturbed, tmp_path, 2)  # of the third step


def test_nothing_is_measured_again(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "fit", never)
    again = compression(undisturbed)
    assert torch.equal(again.run(), step_of(undisturbed, 3, 0.25)["kept"])
    before = decided(undisturbed)
    assert len(again.kept_at(0.2)) == 53 - 11
    assert decided(undisturbed) == before
    smaller = again.kept_at(0.23)  # another last step, of the same measurement
    assert len(smaller) == 53 - 12
    (undisturbed / "step-3" / "kept-0.23.safetensors").unlink()


def test_another_recipe_is_refused_also_where_all_steps_are_decided(undisturbed: Path) -> None:
    for changed in ({"make_module": lambda: Net("adam")}, {"make_trainer": lambda: trainer(max_epochs=3)}):
        with pytest.raises(ValueError, match=r"^Run 'seed-1' in '.*step-1' was trained by another recipe \("):
            compression(undisturbed, **changed).run()


def with_array(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[bytes], bytes]:
    """Return a function that changes one array in the file of a step."""

    def changed(content: bytes) -> bytes:
        arrays = safetensors.torch.load(content)
        return safetensors.torch.save({**arrays, name: change(arrays[name])}, {"format": "lightning_easiness.step"})

    return changed


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:100],
    "of-other-type": with_array("kept", Tensor.float),
    "of-other-length": with_array("target", lambda target: target[:-1]),
    "beyond-the-end": with_array("kept", lambda kept: kept + 100),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_step_is_decided_again(undisturbed: Path, damage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "fit", never)
    before = decided(undisturbed)
    path = undisturbed / "step-2" / "kept-0.2.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = f"'{path}' is damaged, or not of this compression; its step is decided again."
    with pytest.warns(UserWarning, match=whole(message)):
        compression(undisturbed).run()
    assert decided(undisturbed) == before


# ------------------------------------------------------------------ what is refused


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


def observed_by(**options: Any) -> Any:
    return lambda: trainer(callbacks=[EasinessCallback(**options)])


def test_losses_that_are_not_known(tmp_path: Path) -> None:
    online = observed_by(probe=None)
    assert len(compression(tmp_path / "online", make_trainer=online).run()) == 53 - 13, "online suffices"
    data = loader(Points(), drop_last=True)
    with pytest.raises(ValueError, match="of the 53 examples that are left have a NaN loss in a run in"):
        compression(tmp_path / "dropped", make_trainer=online, datamodule=data).run()


def test_a_record_of_validation_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must observe the training examples; its record in .* is of 'val-probe'"):
        compression(tmp_path, make_trainer=observed_by(probe="val")).run()


def test_a_run_that_is_not_complete_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_easiness.experiments.compression.missing_run", lambda folder, seeds: "seed-2")
    message = (
        f"Run 'seed-2' in '{tmp_path / 'step-1'}' is not complete, or cannot be read, so that nothing is removed yet;"
        " run again to go on with it, after deleting what a warning says is damaged."
    )
    with pytest.raises(RuntimeError, match=whole(message)):
        compression(tmp_path).run()
    assert decided(tmp_path) == {}
