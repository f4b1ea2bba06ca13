"""Files of the experiments that rot or lie: named in one sentence, or decided again with a warning."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightning_easiness import EasinessDataModule, StepwiseCompression, compare_selections, repeat_fit
from lightning_easiness._utils.checked_files import with_checksum
from lightning_easiness.experiments._factories import claim, read_object
from lightning_easiness.experiments.compared_runs import read_result
from lightning_easiness.experiments.compression import Step, read_step, write_step
from tests.made_runs import whole
from tests.small import Net, loader, trainer

RESULT = {"metrics": {"val_acc": 0.75}, "num_kept": 90, "updates": 120}
STEP = Step(torch.tensor([0, 2]), torch.tensor([0.5, torch.nan, 2.0]), torch.tensor([1, 0, 1]))


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_flipped_digit_in_the_arguments_is_named(tmp_path: Path) -> None:
    path, arguments = tmp_path / "compression.json", {"step": 0.1, "seeds": [1, 2]}
    claim(path, arguments)
    assert read_object(path) == arguments
    flipped(path, path.read_bytes().index(b"0.1") + 2)
    with pytest.raises(ValueError, match=rf"^'{path}' is damaged \(by its checksum, .*\): delete it if .*\.$"):
        claim(path, arguments)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[[1, 2]]", "7", "{", "\0"], ids=["deep", "pairs", "number", "cut", "nul"]
)
def test_what_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=rf"^'{path}' is damaged .*: delete it if '{tmp_path}' is this experiment's\.$"
    ):
        read_object(path)


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may not be entered, also by root."""
    stat, closed = os.stat, tmp_path / "closed"
    closed.mkdir()

    def refuse(path: Any, *rest: Any, **options: Any) -> Any:
        if os.fspath(path).startswith(f"{closed}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, *rest, **options)

    monkeypatch.setattr(os, "stat", refuse)
    return closed


@pytest.mark.parametrize("what", ["repeats", "steps", "comparison"])
def test_a_folder_that_may_not_be_entered_is_named_and_not_taken_for_a_new_one(closed: Path, what: str) -> None:
    options = {"dirpath": closed, "seeds": [1], "progress": False}
    work = {
        "repeats": lambda: repeat_fit(trainer, Net, loader(), **options),
        "steps": lambda: StepwiseCompression(trainer, Net, loader(), ratio=0.5, **options).run(),
        "comparison": lambda: compare_selections(
            trainer, Net, EasinessDataModule(loader(), val_dataloaders=loader()), [0.5], metric="val_loss", **options
        ),
    }[what]
    message = f"'{closed}' cannot be read (Permission denied): check what it is and who may read it."
    with pytest.raises(ValueError, match=whole(message)):
        work()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "recipe.json")
    with pytest.raises(ValueError, match=r"is a pipe, not a file: move it away\.$"):
        read_object(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    "changes",
    [{"metrics": None}, {"metrics": {"val_acc": "0.75"}}, {"num_kept": "90"}, {"num_kept": -1}, {"updates": True}],
)
@pytest.mark.parametrize("write", [dict, with_checksum])
def test_what_is_no_result_is_named(tmp_path: Path, changes: dict[str, Any], write: Any) -> None:
    path = tmp_path / "seed-0.json"
    path.write_text(json.dumps(write(RESULT)))
    assert read_result(path) == RESULT
    path.write_text(json.dumps(write({**RESULT, **changes})))
    with pytest.raises(ValueError, match=rf"^'{path}' is damaged \(it is no result of a run\): delete it to have "):
        read_result(path)


def test_every_flipped_bit_of_what_a_step_kept_has_it_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "kept-0.1.safetensors"
    write_step(path, STEP)
    size = len(path.read_bytes())
    begin = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for place in range(begin, size):
        flipped(path, place)
        with pytest.warns(UserWarning, match=rf"^'{path}' is damaged, or not of this compression; its step is decided"):
            assert read_step(path) is None
        flipped(path, place)
    found = read_step(path)
    assert found is not None
    assert torch.equal(found.kept, STEP.kept)


def test_what_a_step_kept_is_read_from_files_of_before(tmp_path: Path) -> None:
    path = tmp_path / "kept-0.1.safetensors"
    save_file(vars(STEP), path, {"format": "lightning_easiness.step"})
    found = read_step(path)
    assert found is not None
    assert all(torch.equal(vars(found)[name].nan_to_num(9), vars(STEP)[name].nan_to_num(9)) for name in vars(STEP))
