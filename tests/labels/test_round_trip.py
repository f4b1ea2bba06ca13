"""The whole way: labels go wrong, a training is watched, the table says which, and what is trained on it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import (
    EasinessDataModule,
    EasinessRecord,
    Gap,
    Keep,
    LabelIssues,
    Mixture,
    Relabel,
    Selection,
    find_label_issues,
)
from tests.blobs import Blobs, accuracy, fitted, watched
from tests.small import loader

N, WRONG = 400, 60  # 15 %
WATCHED, EPOCHS = 8, 18  # wrong labels are found before they are memorised
RULES = [None, Mixture(), Gap()]


class Noisy:
    """Blobs of which 15 % of the labels are wrong, a short training that is watched and a longer one that is not."""

    def __init__(self, folder: Path) -> None:
        self.data = Blobs(N, wrong=0.15)
        watched(self.data, folder, WATCHED)
        self.issues = {rule: find_label_issues(folder, rule) for rule in RULES}
        self.scores = EasinessRecord.load(folder, "train-online").score("weighted_area_under_margin")
        self.accuracy = accuracy(fitted(self.data, EPOCHS))

    def relabel(self, issues: LabelIssues, share: float) -> Relabel:
        return Relabel(self.scores, share, which="hard", noise=issues.corrections(), sampling="top")

    def gain(self, selection: Selection) -> float:
        """What the accuracy of the same longer training gains on what is selected."""
        data = EasinessDataModule(loader(self.data, batch_size=32), selection)
        return accuracy(fitted(data, EPOCHS)) - self.accuracy


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Noisy:
    return Noisy(tmp_path_factory.mktemp("noisy"))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_wrong_labels_are_found_and_training_without_them_is_better(rule: Any, noisy: Noisy) -> None:
    issues, wrong = noisy.issues[rule], noisy.data.wrong
    assert (int(wrong.sum()), len(issues), len(issues.unseen)) == (WRONG, N, 0)
    assert torch.equal(issues.given, noisy.data.y[issues.index]), "the labels that were trained on"
    found = int(wrong[issues.flagged].sum())
    assert found >= 0.85 * WRONG
    assert found >= 0.85 * len(issues.flagged)
    assert issues.estimated_share == pytest.approx(0.15, abs=0.04)
    rows = issues.is_issue & wrong[issues.index]
    assert (issues.suggested == noisy.data.truth[issues.index])[rows].float().mean() > 0.9
    assert sorted([*issues.unflagged.tolist(), *issues.flagged.tolist()]) == list(range(N))
    assert noisy.gain(Keep(issues.unflagged)) > 0.04


def test_as_many_dropped_at_random_help_less(noisy: Noisy) -> None:
    kept = noisy.issues[None].unflagged
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(0))[: len(kept)]
    assert noisy.gain(Keep(kept)) > noisy.gain(Keep(drawn)) + 0.03


@pytest.mark.parametrize("exact", [True, False], ids=["as many as flagged", "any share that takes them in"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_relabel_takes_the_suggested_labels(rule: Any, exact: bool, noisy: Noisy) -> None:
    issues, data = noisy.issues[rule], noisy.data
    selection = noisy.relabel(issues, len(issues.flagged) / N if exact else 0.9)
    flagged = issues.flagged.sort().values
    expected = data.y.clone()
    expected[flagged] = issues.corrections()[flagged]
    assert torch.equal(selection.new_labels, expected)
    assert torch.equal(selection.changed_indices, flagged)
    assert (selection.new_labels == data.truth).float().mean() > 0.95, "and 85 % before"


@pytest.mark.parametrize("kind", ["relabel", "keep"])
def test_under_the_suggested_labels_training_is_better(kind: str, noisy: Noisy) -> None:
    issues = noisy.issues[None]
    keep = Keep(torch.arange(N), labels=issues.corrections())
    assert noisy.gain(keep if kind == "keep" else noisy.relabel(issues, 0.9)) > 0.04
    assert int(noisy.data.wrong.sum()) == WRONG, "the data set keeps its labels"
