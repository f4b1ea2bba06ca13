"""Targets that are drawn or mixed anew in each epoch: the training goes on, and the record holds no targets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from lightning_easiness import EasinessCallback, EasinessRecord, find_label_issues, repeat_fit
from tests.made_runs import whole
from tests.observe.test_inputs import CLASSES, POINTS, K, N, Rows, Stranger, bce, mse
from tests.small import trainer


class Drawn(Dataset):
    """Draws the target of an item anew at each access."""

    def __init__(self, draw: Callable[[int], Tensor]) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return POINTS[index], self.draw(index)


def mixed(examples: list[Any]) -> Any:
    """Collates as MixUp does."""
    x, y = default_collate(examples)
    weight, order = torch.rand(()), torch.randperm(len(y))
    one_hot = F.one_hot(y, K).float()
    return weight * x + (1 - weight) * x[order], weight * one_hot + (1 - weight) * one_hot[order]


KINDS: dict[str, tuple[Callable[[], DataLoader], Callable[[], Stranger]]] = {
    "mixed": (lambda: DataLoader(Rows(POINTS, CLASSES), 8, shuffle=True, collate_fn=mixed), Stranger),
    "numbers": (
        lambda: DataLoader(Drawn(lambda index: 9 + torch.randn(1)), 8, shuffle=True),
        lambda: Stranger(1, loss=mse),
    ),
    "several labels": (
        lambda: DataLoader(Drawn(lambda index: (torch.rand(K) > 0.5).float()), 8, shuffle=True),
        lambda: Stranger(loss=bce),
    ),
    "classes": (lambda: DataLoader(Drawn(lambda index: torch.randint(K, ())), 8, shuffle=True), Stranger),
}


@pytest.mark.parametrize(("data", "module"), KINDS.values(), ids=KINDS)
def test_training_goes_on_and_the_record_holds_no_targets(tmp_path: Path, data: Any, module: Any) -> None:
    callback = EasinessCallback(tmp_path, run="only", every_n_epochs=1, num_images=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(callbacks=[callback], max_epochs=3).fit(module(), data())
    said = [str(warning.message) for warning in caught if "differ from one epoch" in str(warning.message)]
    assert len(said) == 1
    assert said[0] == (
        f"Series 'train-online' of run 'only' in '{tmp_path}': the targets of the same examples differ from one epoch"
        " to the next, so the record holds none. Where they are drawn or mixed anew each time, its values are those of"
        " what was drawn; where it is the data set that changes, an index does not name one example, and the record is"
        " of no use."
    )
    online, probe = (EasinessRecord.load(tmp_path, series) for series in ("train-online", "train-probe"))
    assert (online.num_checkpoints, probe.num_checkpoints) == (3, 3)
    assert online.target.tolist() == [-1] * N
    assert online.loss.isfinite().all()


def test_runs_whose_targets_were_drawn_are_of_one_data_set(tmp_path: Path) -> None:
    data, module = KINDS["numbers"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repeat_fit(lambda: trainer(max_epochs=2), module, data, seeds=(1, 2), dirpath=tmp_path, progress=False)
        assert EasinessRecord.load(tmp_path, "train-online").runs == ["seed-1", "seed-2"]


def test_there_are_no_labels_to_look_at(tmp_path: Path) -> None:
    data, module = KINDS["classes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callbacks=[EasinessCallback(tmp_path, num_images=0)], max_epochs=3).fit(module(), data())
    with pytest.raises(ValueError, match=r"^The targets of series 'train-online' differ from one epoch to the next"):
        find_label_issues(tmp_path)


def test_another_data_set_in_a_run_that_goes_on_is_still_refused(tmp_path: Path) -> None:
    def fit(target: Tensor, max_epochs: int = 2, **options: Any) -> None:
        made = trainer(callbacks=[EasinessCallback(tmp_path, run="only", num_images=0)], max_epochs=max_epochs)
        made.fit(Stranger(), DataLoader(Rows(POINTS, target), 8), **options)
        made.save_checkpoint(tmp_path / "last.ckpt")

    fit(CLASSES)
    message = (
        f"Series 'train-online' of run 'only' in '{tmp_path}' and the observation are not of the same data: example 0"
        f" has target {int(CLASSES[0])} in the first and {int((CLASSES[0] + 1) % K)} in the second ({N} of {N} differ),"
        " so an index no longer names the same example: give another data set another `run` or `dirpath`."
    )
    with pytest.raises(ValueError, match=whole(message)):
        fit((CLASSES + 1) % K, 3, ckpt_path=tmp_path / "last.ckpt")
