"""Names of classes: from the data set or an argument, recorded when a fit begins, and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, Keep
from lightning_easiness._utils.checked_files import with_checksum
from tests.made_runs import NUM_CLASSES, whole, write_run
from tests.small import Net, Points, loader, trainer

NAMES = ("ant", "bee", "cow", "dog")


class Named(Points):
    def __init__(self) -> None:
        super().__init__()
        self.classes = list(NAMES)


def recorded(folder: Path, dataset: Any, **options: Any) -> EasinessRecord:
    callback = EasinessCallback(folder, **options)
    trainer(callbacks=[callback], max_epochs=1).fit(
        Net(), dataset if not isinstance(dataset, Points) else loader(dataset)
    )
    return EasinessRecord.load(folder, callback.series)


@pytest.mark.parametrize("probe", ["train", None])
def test_the_names_of_the_data_set_are_recorded(probe: Any, tmp_path: Path) -> None:
    record = recorded(tmp_path, Named(), probe=probe)
    assert record.class_names == NAMES == record.score("mean_loss").class_names
    (run,) = tmp_path.glob("*/run.json")
    assert json.loads(run.read_text())["class_names"] == list(NAMES)
    record.save(tmp_path / "saved")
    assert EasinessRecord.load(tmp_path / "saved").class_names == NAMES


def test_the_names_are_found_through_a_subset_and_a_selection(tmp_path: Path) -> None:
    data = EasinessDataModule(loader(Subset(Named(), range(30))), Keep(range(3, 30)))
    assert recorded(tmp_path, data).class_names == NAMES


def test_the_names_of_the_evaluated_data_are_taken_where_training_lists_none(tmp_path: Path) -> None:
    assert recorded(tmp_path, Points(), probe=loader(Named(), shuffle=False)).class_names == NAMES


def test_an_argument_comes_first(tmp_path: Path) -> None:
    assert recorded(tmp_path, Named(), class_names=["a", "b", "c", "d"]).class_names == ("a", "b", "c", "d")


def test_without_names_there_are_none(tmp_path: Path) -> None:
    record = recorded(tmp_path, Points())
    assert record.class_names is None
    (run,) = tmp_path.glob("*/run.json")
    assert "class_names" not in json.loads(run.read_text())


def test_names_of_a_data_set_that_are_not_one_per_class_are_left_out_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = Named()
    few.classes = ["ant", "bee"]
    with caplog.at_level("INFO"):
        assert recorded(tmp_path, few).class_names is None
    assert (
        "The data set lists 2 `classes` and the model has 4, so the record has no names of classes;"
        " EasinessCallback(class_names=[...]) gives them."
    ) in caplog.messages


@pytest.mark.parametrize("options", [{}, {"at_steps": (0,)}, {"probe": None}])
def test_an_argument_that_is_not_one_per_class_is_refused_before_training(options: Any, tmp_path: Path) -> None:
    class Stops(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise AssertionError("trained")

    message = (
        "The `class_names` of EasinessCallback must name the 4 classes, the outputs of the model in their order; got 2"
        " names: give a name for each."
    )
    callback = EasinessCallback(tmp_path, class_names=["ant", "bee"], **options)
    with pytest.raises(ValueError, match=whole(message)):
        trainer(callbacks=[callback]).fit(Stops(), loader())


def test_an_argument_that_is_no_names_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="The `class_names` of EasinessCallback must be a list of strings"):
        EasinessCallback(class_names=[0, 1])  # type: ignore[list-item]


def test_runs_with_other_names_have_none_together(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(NUM_CLASSES)]
    for seed, listed in enumerate((names, None, names, names[::-1])):
        write_run(tmp_path, seed, class_names=listed)
    record = EasinessRecord.load(tmp_path)
    assert record.class_names is None
    assert record.select_runs([0, 1, 2]).class_names == tuple(names)
    assert record.select_runs([3]).class_names == tuple(names[::-1])


def test_names_are_kept_by_a_run_that_goes_on_without(tmp_path: Path) -> None:
    write_run(tmp_path, 0, class_names=["a", "b"], num_classes=2)
    write_run(tmp_path, 0, steps=(360,), num_classes=2)
    assert EasinessRecord.load(tmp_path).class_names == ("a", "b")


@pytest.mark.parametrize("names", [["a", 1], "ab", [], {"a": 1}])
def test_a_damaged_list_of_names_is_said(names: Any, tmp_path: Path) -> None:
    path = write_run(tmp_path, 0) / "run.json"
    path.write_text(json.dumps(with_checksum({**json.loads(path.read_text()), "class_names": names})))
    with pytest.raises(ValueError, match=r"is damaged \(its class_names are not strings\): copy it here again"):
        EasinessRecord.load(tmp_path)


def test_the_probe_predictions_are_shown_by_name(tmp_path: Path) -> None:
    table = recorded(tmp_path, Named()).score("mean_loss").to_pandas()
    assert table.target_name.tolist() == [NAMES[label] for label in Points().y]
    assert table.predicted_name.tolist() == [NAMES[label] for label in table.predicted]
    assert torch.tensor(table.predicted.tolist()).unique().numel() > 1
