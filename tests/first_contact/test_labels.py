"""The README's recipe for label errors on scikit-learn's data as they are, with hardly a wrong label among them."""

from __future__ import annotations

import re
import runpy
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_easiness import EasinessCallback, LabelIssues, find_label_issues
from tests.small import trainer

pytest.importorskip("sklearn")


QUICKSTART = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "quickstart.py"))
Classifier, cnn, digits = (QUICKSTART[name] for name in ("Classifier", "cnn", "digits"))


def breast_cancer() -> TensorDataset:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x = torch.tensor(data.data, dtype=torch.float32)
    return TensorDataset((x - x.mean(0)) / x.std(0), torch.tensor(data.target))


def recipe(dataset: TensorDataset, model: nn.Module, folder: Path, max_epochs: int) -> tuple[LabelIssues, list[str]]:
    """What the README does; return the issues and what is warned of."""
    fit = trainer(max_epochs=max_epochs, callbacks=[EasinessCallback(folder, probe=None, probabilities=True)])
    fit.fit(Classifier(model), DataLoader(dataset, batch_size=64, shuffle=True))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        issues = find_label_issues(folder)
    return issues, [str(warning.message) for warning in caught]


def largest_share(explanation: str) -> float:
    """The largest percentage of labels that an explanation says are wrong."""
    return max(
        (float(share) for share in re.findall(r"([\d.]+) % of (?:the )?labels are estimated", explanation)), default=0
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_digits(seed: int, tmp_path: Path) -> None:
    seed_everything(seed, verbose=False)
    dataset = digits()
    issues, said = recipe(dataset, cnn(), tmp_path, 5)
    assert len(issues.flagged) <= 0.02 * len(dataset)
    assert largest_share(issues.explanation) <= 5
    assert not [sentence for sentence in said if "memor" in sentence]


def test_digits_of_which_a_tenth_is_wrong_are_still_found(tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    x, true = digits().tensors
    wrong = torch.rand(len(true), generator=torch.Generator().manual_seed(0)) < 0.1
    issues, _ = recipe(TensorDataset(x, torch.where(wrong, (true + 3) % 10, true)), cnn(), tmp_path, 5)
    found = wrong[issues.flagged].sum()
    assert found / len(issues.flagged) > 0.9
    assert found / wrong.sum() > 0.8


@pytest.mark.parametrize("seed", [0, 1])
def test_clean_breast_cancer_data(seed: int, tmp_path: Path) -> None:
    seed_everything(seed, verbose=False)
    dataset = breast_cancer()
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))
    issues, said = recipe(dataset, model, tmp_path, 5)
    assert len(issues.flagged) <= 0.02 * len(dataset)
    assert largest_share(issues.explanation) <= 5
    assert not [sentence for sentence in said if "memor" in sentence]
