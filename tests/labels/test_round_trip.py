"""The whole way: labels go wrong, a training is watched, the table says which, and what is trained on it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

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
        self.folder, self.data = folder, Blobs(N, wrong=0.15)
        watched(self.data, folder, WATCHED)
        self.accuracy = accuracy(fitted(self.data, EPOCHS))

    def found(self, rule: Any) -> tuple[LabelIssues, Tensor]:
        """Return the table, and what is flagged as a mask."""
        issues = find_label_issues(self.folder, rule)
        flagged = torch.zeros(N, dtype=torch.bool)
        flagged[issues.flagged] = True
        return issues, flagged

    def retrained(self, selection: Selection) -> float:
        """Accuracy of the same longer training, on what is selected."""
        return accuracy(fitted(EasinessDataModule(loader(self.data, batch_size=32), selection), EPOCHS))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Noisy:
    return Noisy(tmp_path_factory.mktemp("noisy"))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_was_made_wrong_is_found(rule: Any, noisy: Noisy) -> None:
    (issues, flagged), wrong = noisy.found(rule), noisy.data.wrong
    assert (int(wrong.sum()), len(issues), len(issues.unseen)) == (WRONG, N, 0)
    assert torch.equal(issues.given, noisy.data.y[issues.index]), "the labels that were trained on"
    found = int((flagged & wrong).sum())
    assert found >= 0.85 * WRONG
    assert found >= 0.85 * int(flagged.sum())
    assert issues.estimated_share == pytest.approx(0.15, abs=0.04)
    rows = issues.is_issue & wrong[issues.index]
    assert (issues.suggested == noisy.data.truth[issues.index])[rows].float().mean() > 0.9


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_without_what_is_flagged_training_is_better(rule: Any, noisy: Noisy) -> None:
    issues, flagged = noisy.found(rule)
    assert issues.unflagged.tolist() == (~flagged).nonzero()[:, 0].tolist()
    assert noisy.retrained(Keep(issues.unflagged)) > noisy.accuracy + 0.04


def test_as_many_dropped_at_random_help_less(noisy: Noisy) -> None:
    kept = (~noisy.found(None)[1]).nonzero()[:, 0]
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(0))[: len(kept)]
    assert noisy.retrained(Keep(kept)) > noisy.retrained(Keep(drawn)) + 0.03


def hardest(noisy: Noisy, issues: LabelIssues) -> Relabel:
    """As many of the hardest as are flagged, and so the same."""
    scores = EasinessRecord.load(noisy.folder, "train-online").score(issues.score_name)
    share = len(issues.flagged) / N
    return Relabel(scores, share, which="hard", noise=issues.corrections(), sampling="top")


def most(noisy: Noisy, issues: LabelIssues) -> Relabel:
    """Any share that takes in what is flagged, as labels below 0 leave an example its own."""
    scores = EasinessRecord.load(noisy.folder, "train-online").score(issues.score_name)
    return Relabel(scores, 0.9, which="hard", noise=issues.corrections(), sampling="top")


def corrected(_: Noisy, issues: LabelIssues) -> Keep:
    return Keep(torch.arange(N), labels=issues.corrections())


@pytest.mark.parametrize("make", [hardest, most])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_relabel_takes_the_suggested_labels(rule: Any, make: Any, noisy: Noisy) -> None:
    issues, flagged = noisy.found(rule)
    selection = make(noisy, issues)
    assert torch.equal(selection.new_labels, torch.where(flagged, issues.corrections(), noisy.data.y))
    assert selection.changed_indices.tolist() == flagged.nonzero()[:, 0].tolist()
    assert (selection.new_labels == noisy.data.truth).float().mean() > 0.95, "and 85 % before"


@pytest.mark.parametrize("make", [hardest, most, corrected])
def test_under_the_suggested_labels_training_is_better(make: Any, noisy: Noisy) -> None:
    assert noisy.retrained(make(noisy, noisy.found(None)[0])) > noisy.accuracy + 0.04
    assert int(noisy.data.wrong.sum()) == WRONG, "the data set keeps its labels"
