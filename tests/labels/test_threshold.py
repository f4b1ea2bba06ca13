"""The threshold rule on runs of the protocol: flags and spread, few or unseen threshold examples, what is refused."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, LabelIssues, Scores, Threshold, find_label_issues, functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.labels import threshold
from lightning_easiness.labels.sources import LabelScores
from lightning_easiness.labels.threshold import combine_runs, mean_of_runs
from tests.labels.test_find import refuses
from tests.made_runs import whole, write_run

NAN = math.nan
N, K = 300, 2  # 100 threshold examples in each half
TARGET = torch.arange(N) % K


def sets_of(number: int = N) -> list[Tensor]:
    return [functional.threshold_examples(torch.zeros(number, dtype=torch.int64), K, part) for part in (0, 1)]


def half(part: int, number: int = N, **changes: Any) -> Scores:
    """Scores of one half, whose threshold examples have the class K."""
    values = torch.randn(number, generator=torch.Generator().manual_seed(part)) + 3 * part
    target = torch.arange(number) % K
    target[sets_of(number)[part]] = K
    arguments = {"values": values, "target": target, "name": "area_under_margin", **changes}
    return Scores(higher_is_easier=True, **arguments)


def halves(number: int = N) -> list[Scores]:
    return [half(0, number), half(1, number)]


def find(record: Any, percentile: float = 99, **options: Any) -> LabelIssues:
    return find_label_issues(record, Threshold(percentile), **options)


def write_half(folder: Path, part: int, seeds: tuple[int, ...], **changes: Any) -> Tensor:
    """Write runs of one half; returns their margins (R, N), which are the areas under it of one checkpoint."""
    target = TARGET.clone()
    target[sets_of()[part]] = K
    rows = torch.randn(len(seeds), N, generator=torch.Generator().manual_seed(part)) + 3 * part
    for seed, margin in zip(seeds, rows, strict=True):
        fields = {"loss": -margin, "correct": margin > 0, "margin": margin, "count": torch.ones(N, dtype=torch.int32)}
        about = {"series": "train-online", "num_examples": N, "target": target, "num_classes": K + 1, **changes}
        write_run(folder, seed, steps=(10,), fields=fields, **about)
    return rows


# ------------------------------------------------------------------ flags, scores and their spread


@pytest.mark.parametrize("higher", [True, False])
def test_each_example_is_compared_in_the_runs_in_which_it_had_its_own_label(higher: bool) -> None:
    runs, sets = halves(), sets_of()
    sign = 1 if higher else -1
    given = [Scores(sign * one.values, higher_is_easier=higher, target=one.target) for one in runs]
    issues = find(given, probabilities=torch.full((N, K), 1 / K))
    assert (len(issues), len(issues.unseen), issues.rule) == (N, 0, "threshold")
    assert torch.equal(issues.given, TARGET[issues.index])
    assert (issues.suggested == 1 - issues.given).all()
    thresholds = [np.percentile(run.values[indices], 99) for run, indices in zip(runs, sets, strict=True)]
    assert sign * issues.threshold == pytest.approx(sum(thresholds) / 2)
    for row, example in enumerate(issues.index.tolist()):
        own = [run for run in (0, 1) if example not in sets[run].tolist()]
        distances = [float(runs[run].values[example]) - thresholds[run] for run in own]
        expected = sum(distances) / len(own)
        assert sign * float(issues.score[row]) == pytest.approx(expected + sum(thresholds) / 2, abs=1e-5)
        assert bool(issues.is_issue[row]) == (expected <= 0)
        spread = abs(distances[0] - distances[-1]) / math.sqrt(2) if len(own) > 1 else NAN
        assert float(issues.spread[row]) == pytest.approx(spread, abs=1e-5, nan_ok=True)
    assert issues.estimated_share == pytest.approx(len(issues.flagged) / N)


@pytest.mark.parametrize("seeds", [((0, 1, 2), (0, 1, 2)), ((0, 1, 2), (0,))])
def test_the_spread_is_that_of_all_runs_of_the_halves_that_count(seeds: Any, tmp_path: Path) -> None:
    sets = sets_of()
    rows = [write_half(tmp_path / f"half-{part}", part, seeds[part]) for part in (0, 1)]
    issues = find(tmp_path)
    distances = []
    for values, indices in zip(rows, sets, strict=True):
        own = values.double() - functional.threshold_of(values.mean(0)[indices])
        own[:, indices] = NAN
        distances.append(own)
    for example, spread in zip(issues.index.tolist(), issues.spread.tolist(), strict=True):
        known = torch.cat(distances)[:, example]
        known = known[~known.isnan()]
        assert spread == pytest.approx(float(known.std()) if len(known) > 1 else NAN, rel=1e-5, nan_ok=True)
    records = [EasinessRecord.load(tmp_path / f"half-{part}", "train-online") for part in (0, 1)]
    assert torch.equal(find(records).spread.nan_to_num(), issues.spread.nan_to_num())


def combined(*scores: Scores) -> Scores:
    return combine_runs([LabelScores(scores=one, given=one.target) for one in scores], 99, None).scores


def test_the_prediction_is_that_of_the_runs_that_count_and_never_the_class_that_does_not_exist() -> None:
    runs, sets = halves(), sets_of()
    predictions = torch.randint(-1, K + 1, (2, N), generator=torch.Generator().manual_seed(0))
    found = combined(*(half(part, prediction=row) for part, row in enumerate(predictions)))
    for example, predicted in enumerate(found.prediction.tolist()):
        own = [int(predictions[run, example]) for run in (0, 1) if example not in sets[run].tolist()]
        real = [each for each in own if 0 <= each < K]
        assert predicted == (min(real) if real else -1), "of one vote each the smaller"
    assert combined(*runs).prediction is None


def test_the_spread_of_scores_alone() -> None:
    spread = torch.full((N,), 0.5)
    spread[:5] = NAN  # seen in one run alone
    runs, (first, second) = (half(0, spread=spread, num_runs=4), half(1)), sets_of()
    found = combined(*runs).spread
    torch.testing.assert_close(found[second[second >= 5]], torch.full((int((second >= 5).sum()),), 0.5))
    assert found[first].isnan().all(), "one run alone has their own label"
    both = next(example for example in range(5) if example not in torch.cat([first, second]).tolist())
    distances = [
        float(one.values[both] - functional.threshold_of(one.values[own]))
        for one, own in zip(runs, (first, second), strict=True)
    ]
    assert float(found[both]) == pytest.approx(abs(distances[0] - distances[1]) / math.sqrt(2), rel=1e-5)


def test_the_runs_become_one_score() -> None:
    loss = [torch.rand(N, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    given = {"num_runs": 3, "step": 40, "epoch": 1}
    scores = combined(*(half(part, tie_breaker=loss[part], **given) for part in (0, 1)))
    assert (scores.name, scores.num_runs, scores.step, scores.epoch) == ("area_under_margin", 6, 40, 1)
    assert torch.equal(scores.target, TARGET)
    assert scores.fingerprint == DataIdentity(N, TARGET).fingerprint
    own = torch.stack(loss)
    for row, indices in zip(own, sets_of(), strict=True):
        row[indices] = NAN
    assert torch.equal(scores.tie_breaker, own.nanmean(0))
    other = combined(half(0, step=40, epoch=1), half(1, step=50, epoch=1))
    assert (other.step, other.epoch, other.tie_breaker) == (None, None, None)


# ------------------------------------------------------------------ few threshold examples, or some that were not seen


def test_too_few_threshold_examples_are_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "99 % of the 100 and 100 that were trained on are as hard as " in find(halves()).explanation
        find(halves(150), 98)
        find(halves(150), 100)
    message = (
        "The threshold, percentile=99 of 50 threshold examples, is decided by the easiest of them alone, so how many"
        " labels are flagged is a matter of chance: take percentile=98 or lower, or another rule."
    )
    with pytest.warns(UserWarning, match=whole(message)) as caught:
        find(halves(150))
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match=r"percentile=99 of 2 threshold examples, .* take another rule, as rule=Conf"):
        find(halves(6))


@pytest.mark.parametrize(
    ("percentile", "hint"),
    [(0.99, "did you mean 99?"), (0.5, "did you mean 50?"), (0, "the paper's is 99."), (101, "the paper's is 99.")],
)
def test_a_percentile_is_no_fraction(percentile: float, hint: str) -> None:
    message = f"The `percentile` of Threshold must be in [1, 100]; got {percentile}: {hint}"
    with pytest.raises(ValueError, match=whole(message)):
        Threshold(percentile)


@pytest.mark.filterwarnings("ignore:The threshold, percentile=:UserWarning")
def test_threshold_examples_that_were_never_seen_do_not_count() -> None:
    scores, sets = halves(), sets_of()
    for one, indices in zip(scores, sets, strict=True):
        unseen = indices[:60]
        one.values[unseen] = NAN
        one.target[unseen] = TARGET[unseen]  # as the data set lists it
    issues = find(scores)
    expected = [functional.threshold_of(one.values[own[60:]]) for one, own in zip(scores, sets, strict=True)]
    assert issues.threshold == pytest.approx(float(sum(expected)) / 2)
    assert "99 % of the 40 and 40 that were trained on" in issues.explanation
    assert torch.equal(issues.given, TARGET[issues.index])
    assert len(issues) == N, "each had its own label in the other half"
    scores[1].values[sets[1]] = NAN
    refuses(
        "No example with a score was trained under the last class, 2, in run 1, so there is no", scores, Threshold()
    )


# ------------------------------------------------------------------ a single run, and what is no run of the protocol


def test_one_run_leaves_its_threshold_examples_apart(tmp_path: Path) -> None:
    write_half(tmp_path, 0, (0,))
    rows = torch.rand(N, K + 1, generator=torch.Generator().manual_seed(7)).softmax(1)
    with pytest.warns(UserWarning, match=f"100 of {N} examples have no label score"):
        issues = find(tmp_path, target=TARGET, probabilities=rows)
    assert torch.equal(issues.unseen, sets_of()[0])
    assert issues.probabilities.shape == (N, K)
    torch.testing.assert_close(issues.probabilities.sum(1), torch.ones(N))
    message = r"^rule=Threshold\(\) cannot tell the threshold examples of a single run from a real class: give"
    refuses(message, tmp_path, Threshold())


def test_what_threshold_runs_wrote_needs_no_rule(tmp_path: Path) -> None:
    folders = [tmp_path / f"half-{part}" for part in (0, 1)]
    for part, folder in enumerate(folders):
        write_half(folder, part, (0, 1))
    (tmp_path / "threshold.json").write_text("{}")
    expected = find(tmp_path)
    records = [EasinessRecord.load(folder, "train-online") for folder in folders]
    for source in (tmp_path, folders, records):
        issues = find_label_issues(source)
        assert issues.rule == "threshold"
        assert torch.equal(issues.flagged, expected.flagged)
    refuses("must be one, but for", [records[0], records[0]])


def test_a_training_without_threshold_examples_is_refused(tmp_path: Path) -> None:
    """Its last class is real, whatever is given."""
    write_half(tmp_path, 0, (0, 1), target=TARGET, num_classes=K)
    record = EasinessRecord.load(tmp_path, "train-online")
    message = r"^Example 1 is of the last class, 1, {}, but threshold examples need a class"
    refuses(message.format("in `target`"), record, Threshold(), target=TARGET)
    for runs in ([record, record], [half(0, target=TARGET), half(1, target=TARGET)]):
        refuses(message.format("in more than one run"), runs, Threshold())


def test_the_threshold_class_is_the_models_last(tmp_path: Path) -> None:
    write_half(tmp_path, 0, (0,), num_classes=K + 3)
    message = r"^No example with a score was trained under the last class, 4, in run 0, so there"
    refuses(message, tmp_path, Threshold(), target=TARGET)


def test_runs_that_do_not_fit() -> None:
    first, second = halves()
    target = torch.where(second.target < K, 1 - second.target, second.target)
    message = r"^The first run of the threshold protocol and another are not of the same data: example 0 has"
    refuses(message, [first, half(1, target=target)], Threshold())
    message = "must hold the same score of the same data set; got 'area_under_margin' of"
    refuses(message, [first, half(1, 150)], Threshold())


# ------------------------------------------------------------------ averaged probabilities


@pytest.mark.parametrize("block", [1, 100, 2**22])
@pytest.mark.parametrize("num_classes", [None, 4])
def test_the_mean_of_the_runs_that_count(block: int, num_classes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "_BLOCK", block)
    generator = torch.Generator().manual_seed(5)
    rows = [torch.rand(53, 5, generator=generator).softmax(1) for _ in range(3)]
    rows[0][7] = NAN
    before = [row.clone() for row in rows]
    counted = torch.rand(3, 53, generator=torch.Generator().manual_seed(6)) < 0.7
    counted[:, 20] = False
    means = mean_of_runs(rows, counted, num_classes)
    kept = [row[:, : num_classes or 5] for row in rows]
    kept = [row / row.sum(1, keepdim=True) for row in kept]
    own = torch.stack([row.masked_fill(~mask.unsqueeze(1), NAN) for row, mask in zip(kept, counted, strict=True)])
    torch.testing.assert_close(means, own.nanmean(0), equal_nan=True)
    assert means[20].isnan().all()
    assert means.is_contiguous()
    for row, kept_row in zip(rows, before, strict=True):
        assert torch.equal(row.nan_to_num(), kept_row.nan_to_num()), "what is given stays as it is"
    assert mean_of_runs([torch.empty(0, 3)] * 2, torch.empty(2, 0, dtype=torch.bool)).shape == (0, 3)
