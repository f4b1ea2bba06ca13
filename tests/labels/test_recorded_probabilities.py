"""Label errors by the probabilities that a record holds."""

from pathlib import Path

import pytest
import torch

from lightning_easiness import Confident, EasinessRecord, Hardest, find_label_issues, functional
from tests.made_runs import make_fields, write_probabilities, write_run


def write(folder: Path, *seeds: int) -> EasinessRecord:
    """Write runs in which all examples were seen in each epoch, with their averaged probabilities."""
    for seed in seeds:
        fields = {**make_fields(seed), "count": torch.ones(37, dtype=torch.int32)}
        write_run(folder, seed, series="train-online", fields=fields)
        write_probabilities(folder, seed)
    return EasinessRecord.load(folder)


def test_label_errors_are_found_by_the_probabilities_of_the_record(tmp_path: Path) -> None:
    record = write(tmp_path, 0, 1)
    rows, target = record.probabilities(), record.target
    for source in (tmp_path, record):
        issues = find_label_issues(source, score="confidence", rule=Hardest(0.2))
        assert torch.equal(issues.suggested, functional.suggest_labels(rows, target)[issues.index])
        torch.testing.assert_close(issues.probabilities, rows, rtol=0, atol=0)
        for score in ("self_confidence", "normalized_margin"):
            issues = find_label_issues(source, Hardest(0.2), score=score)
            torch.testing.assert_close(issues.score, getattr(functional, score)(rows, target)[issues.index])
            alone = torch.stack([getattr(functional, score)(one, target) for one in record.probabilities(per_run=True)])
            torch.testing.assert_close(issues.spread, alone.std(0)[issues.index], equal_nan=True)
    assert "Rule 'confident'" in find_label_issues(record, Confident()).explanation


def test_an_early_checkpoint_takes_given_probabilities_alone(tmp_path: Path) -> None:
    record, given = write(tmp_path, 0), torch.full((37, 5), 0.2)
    issues = find_label_issues(record, Confident(), checkpoint=0, probabilities=given)
    assert "Rule 'confident'" in issues.explanation
    assert torch.equal(issues.probabilities, given)
    with pytest.raises(ValueError, match=r"rule=Confident\(\) takes the recorded probabilities.*is not the last: take"):
        find_label_issues(record, rule=Confident(), checkpoint=0)
    with pytest.raises(
        ValueError, match=r"^Score 'normalized_margin' is taken from probabilities averaged over all of"
    ):
        find_label_issues(record, score="normalized_margin", checkpoint=0)


def test_a_record_without_them_has_no_suggestions(tmp_path: Path) -> None:
    write_run(tmp_path, 0, series="train-online")
    with pytest.warns(UserWarning, match="have no label score"):
        issues = find_label_issues(tmp_path, rule=Hardest(0.2))
    assert issues.probabilities is None
    assert (issues.suggested == -1).all()
