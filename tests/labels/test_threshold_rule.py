"""The threshold rule: spread over all runs, threshold examples that are few or never seen, averaged probabilities."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, find_label_issues, functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.labels import threshold_rule
from lightning_easiness.labels.sources import Suspicion
from lightning_easiness.labels.threshold_rule import judge_thresholds, judged_scores, mean_over_judges
from lightning_easiness.scores import Scores
from tests.made_runs import whole, write_run

NAN = math.nan
N, K = 300, 2  # 100 threshold examples in each half
TARGET = torch.arange(N) % K
few = pytest.mark.filterwarnings("ignore:The threshold, percentile=:UserWarning")


def sets_of(number: int = N) -> list[Tensor]:
    return [functional.threshold_examples(torch.zeros(number, dtype=torch.int64), K, part) for part in (0, 1)]


def half(part: int, number: int = N, **changes: object) -> Scores:
    """Scores of one half, whose threshold examples have the class K."""
    values = torch.randn(number, generator=torch.Generator().manual_seed(part)) + 3 * part
    target = torch.arange(number) % K
    target[sets_of(number)[part]] = K
    arguments: dict = {"target": target, "name": "area_under_margin", **changes}
    return Scores(arguments.pop("values", values), higher_is_easier=True, **arguments)


def suspicions(*scores: Scores) -> list[Suspicion]:
    return [Suspicion(one, K + 1, "train-online", None) for one in scores]


def write_half(folder: Path, part: int, seeds: tuple[int, ...]) -> Tensor:
    """Runs of one half; returns their mean margins (R, N), which are the areas under it of one checkpoint."""
    target = TARGET.clone()
    target[sets_of()[part]] = K
    rows = torch.randn(len(seeds), N, generator=torch.Generator().manual_seed(part)) + 3 * part
    for seed, margin in zip(seeds, rows, strict=True):
        fields = {"loss": -margin, "correct": margin > 0, "margin": margin, "count": torch.ones(N, dtype=torch.int32)}
        changes = {"series": "train-online", "num_examples": N, "target": target, "num_classes": K + 1}
        write_run(folder, seed, steps=(10,), fields=fields, **changes)
    return rows


# ------------------------------------------------------------------ spread


@pytest.mark.parametrize("seeds", [((0, 1, 2), (0, 1, 2)), ((0, 1, 2), (0,)), ((0,), (0,))])
def test_the_spread_is_that_of_all_runs_of_the_halves_that_judge(
    seeds: tuple[tuple[int, ...], ...], tmp_path: Path
) -> None:
    sets = sets_of()
    rows = [write_half(tmp_path / str(part), part, seeds[part]) for part in (0, 1)]
    records = [EasinessRecord.load(tmp_path / str(part), "train-online") for part in (0, 1)]
    issues = find_label_issues(records, rule="threshold", threshold_indices=sets)
    distances = []
    for values, indices in zip(rows, sets, strict=True):
        own = values.double() - functional.threshold_of(values.mean(0)[indices])
        own[:, indices] = NAN
        distances.append(own)
    for example, spread in zip(issues.index.tolist(), issues.spread.tolist(), strict=True):
        known = torch.cat(distances)[:, example]
        known = known[~known.isnan()]
        wanted = float(known.std()) if len(known) > 1 else NAN
        assert spread == pytest.approx(wanted, rel=1e-5, nan_ok=True)


def test_the_spread_of_scores_alone() -> None:
    spread = torch.full((N,), 0.5)
    spread[:5] = NAN  # seen in one run alone
    found = suspicions(half(0, spread=spread, num_runs=4), half(1))
    verdict = judge_thresholds(found, sets_of(), 99)
    first, second = sets_of()
    by_first_alone = torch.isin(torch.arange(N), second)
    torch.testing.assert_close(verdict.spread[by_first_alone][5:], torch.full_like(verdict.spread[second][5:], 0.5))
    assert verdict.spread[first].isnan().all(), "one run judges them"
    both = int((~torch.isin(torch.arange(5), torch.cat([first, second]))).nonzero()[0])
    thresholds = [functional.threshold_of(one.scores.values[own]) for one, own in zip(found, sets_of(), strict=True)]
    distances = [float(one.scores.values[both] - limit) for one, limit in zip(found, thresholds, strict=True)]
    assert float(verdict.spread[both]) == pytest.approx(abs(distances[0] - distances[1]) / math.sqrt(2), rel=1e-5)


# ------------------------------------------------------------------ how many threshold examples, and which percentile


def test_too_few_threshold_examples_are_told_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = judge_thresholds(suspicions(half(0), half(1)), sets_of(), 99)
    assert "99 % of the 100 and 100 that were trained on are as hard as " in verdict.explanation
    lowest = suspicions(half(0, 150), half(1, 150))
    message = (
        "The threshold, percentile=99 of 50 threshold examples, is decided by the easiest of them alone, so how many"
        " labels are called wrong is a matter of chance: take percentile=98 or lower, or another rule."
    )
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        verdict = judge_thresholds(lowest, sets_of(150), 99)
    assert len(caught) == 1
    assert "99 % of the 50 and 50 that were trained on" in verdict.explanation
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_thresholds(lowest, sets_of(150), 98)
        judge_thresholds(lowest, sets_of(150), 100)
    with pytest.warns(
        UserWarning, match=r"percentile=99 of 2 threshold examples, .* take another rule, as find_label_"
    ):
        judge_thresholds(suspicions(half(0, 6), half(1, 6)), sets_of(6), 99)


def test_the_warning_points_at_the_caller() -> None:
    scores = [half(0, 150), half(1, 150)]
    with pytest.warns(UserWarning, match="is a matter of chance") as caught:
        find_label_issues(scores, rule="threshold", threshold_indices=sets_of(150))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("percentile", "hint"),
    [(0.99, "did you mean 99?"), (0.5, "did you mean 50?"), (0, "the paper's is 99."), (101, "the paper's is 99.")],
)
def test_a_percentile_that_is_a_fraction(percentile: float, hint: str) -> None:
    message = f"The `percentile` of find_label_issues must be in [1, 100]; got {percentile}: {hint}"
    with pytest.raises(ValueError, match=whole(message)):
        find_label_issues([half(0), half(1)], rule="threshold", threshold_indices=sets_of(), percentile=percentile)


# ------------------------------------------------------------------ threshold examples that were never seen


@few
def test_threshold_examples_that_were_never_seen_do_not_count() -> None:
    sets = sets_of()
    scores = [half(0), half(1)]
    for one, indices in zip(scores, sets, strict=True):
        unseen = indices[:60]
        one.values[unseen] = NAN
        one.target[unseen] = TARGET[unseen]  # as the data set lists it
    issues = find_label_issues(scores, rule="threshold", threshold_indices=sets)
    wanted = [functional.threshold_of(one.values[own[60:]]) for one, own in zip(scores, sets, strict=True)]
    assert issues.threshold == pytest.approx(float(sum(wanted)) / 2)
    assert "99 % of the 40 and 40 that were trained on" in issues.explanation
    assert torch.equal(issues.given, TARGET[issues.index])
    assert len(issues) == N, "each is judged by the other half"
    scores[1].values[sets[1]] = NAN
    with pytest.raises(ValueError, match="None of the 100 threshold examples of run 1 has a score, so there is no"):
        find_label_issues(scores, rule="threshold", threshold_indices=sets)


# ------------------------------------------------------------------ what is judged


def test_what_is_judged_is_one_score_of_all_runs() -> None:
    loss = [torch.rand(N, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    given = {"num_runs": 3, "step": 40, "epoch": 1, "fingerprint": "of a half"}
    found = suspicions(*(half(part, tie_breaker=loss[part], **given) for part in (0, 1)))
    verdict = judge_thresholds(found, sets_of(), 99)
    judged = judged_scores(found, verdict)
    known = verdict.score
    assert repr(judged) == (
        f"Scores('area_under_margin' of {N} examples, high is easy: {known.min():.4g} to {known.max():.4g}; 6 runs; "
        "step 40, epoch 1)"
    )
    assert torch.equal(judged.target, TARGET)
    assert judged.fingerprint == DataIdentity(N, TARGET).fingerprint
    wanted = torch.stack(loss).masked_fill(~verdict.judges, NAN).nanmean(0)
    assert torch.equal(judged.tie_breaker, wanted)
    other = suspicions(half(0, step=40, epoch=1), half(1, step=50, epoch=1))
    judged = judged_scores(other, judge_thresholds(other, sets_of(), 99))
    assert (judged.step, judged.epoch, judged.tie_breaker) == (None, None, None)


# ------------------------------------------------------------------ averaged probabilities


def rows_of(number: int, columns: int, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand(number, columns, generator=generator).softmax(1) for _ in range(count)]


@pytest.mark.parametrize("block", [1, 100, 2**22])
@pytest.mark.parametrize("num_classes", [None, 4])
def test_the_mean_over_judges(block: int, num_classes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold_rule, "_BLOCK", block)
    rows = rows_of(53, 5, 3)
    rows[0][7] = NAN
    before = [row.clone() for row in rows]
    judges = torch.rand(3, 53, generator=torch.Generator().manual_seed(6)) < 0.7
    judges[:, 20] = False
    means = mean_over_judges(rows, judges, num_classes)
    columns = num_classes or 5
    kept = [row[:, :columns] / row[:, :columns].sum(1, keepdim=True) for row in rows]
    own = torch.stack([row.masked_fill(~mask.unsqueeze(1), NAN) for row, mask in zip(kept, judges, strict=True)])
    torch.testing.assert_close(means, own.nanmean(0), equal_nan=True)
    assert means[20].isnan().all()
    assert means.is_contiguous()
    for row, kept_row in zip(rows, before, strict=True):
        assert torch.equal(row.nan_to_num(), kept_row.nan_to_num()), "what is given stays as it is"


def test_the_mean_over_judges_of_no_examples() -> None:
    assert mean_over_judges([torch.empty(0, 3)] * 2, torch.empty(2, 0, dtype=torch.bool)).shape == (0, 3)
