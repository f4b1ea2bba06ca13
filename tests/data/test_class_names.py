"""Names of classes: found in data sets, and what an argument must be."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, random_split

from lightning_easiness.data.class_names import check_class_names, class_names
from lightning_easiness.data.subset import SelectedDataset
from tests.made_runs import whole
from tests.small import Points


def listing(classes: Any) -> Points:
    points = Points()
    points.classes = classes
    return points


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (("cat", "dog"), ("cat", "dog")),
        (np.array(["cat", "dog"]), ("cat", "dog")),
        ([("tench", "Tinca tinca"), ("crane",)], ("tench", "crane")),  # as torchvision's ImageNet
        ([], None),
        ([3, 7], None),
        (["cat", None], None),
        (torch.tensor([3, 7]), None),
        ("cat", None),
        (10, None),
        (None, None),
    ],
)
def test_the_names_that_a_data_set_lists(listed: Any, names: Any) -> None:
    dataset = listing(listed)
    assert class_names(dataset) == names
    assert class_names(Subset(random_split(dataset, [40, 13])[0], range(9))) == names
    assert class_names(SelectedDataset(Subset(dataset, range(9)), torch.arange(3))) == names


def test_a_data_set_without_names() -> None:
    assert class_names(Points()) is class_names(torch.zeros(3)) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cat", 'must be a list of strings, one per class, as ["cat", "dog"]; got \'cat\'.'),
        ([], 'must be a list of strings, one per class, as ["cat", "dog"]; got [].'),
        ([0, 1], 'must be a list of strings, one per class, as ["cat", "dog"]; got [0, 1].'),
        (
            ["cat"],
            "must name the 2 classes, the outputs of the model in their order; got 1 names: give a name for each.",
        ),
    ],
)
def test_names_that_are_refused(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=whole(f"The `class_names` of EasinessCallback {message}")):
        check_class_names("EasinessCallback", names, 2)
    assert check_class_names("EasinessCallback", ["cat", "dog"], 2) == ("cat", "dog")
