"""`find_label_issues`: what it reads, how it ranks, what it refuses, and the table's way to other tools."""

import csv
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness import LabelIssues, find_label_issues, functional
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities, Observation
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.scores import Scores
from tests.made_runs import whole, write_run

NAN = math.nan
N, K = 60, 3
TARGET = torch.arange(N) % K
WRONG = [3, 10, 17, 24, 31, 38, 45, 52]


def margins(seed: int = 0) -> Tensor:
    """Around 4, of the wrong around -3."""
    values = torch.randn(N, generator=torch.Generator().manual_seed(seed)) * 0.5 + 4
    values[WRONG] -= 7
    return values


def scores_of(values: Tensor, higher: bool = True, name: str = "area_under_margin", **changes: object) -> Scores:
    arguments: dict = {"target": TARGET, **changes}
    return Scores(values, higher_is_easier=higher, name=name, **arguments)


def write(folder: Path, seed: int = 0, series: str = "train-online", **changes: object) -> Tensor:
    """A run whose last but one and last checkpoints differ; returns the mean margin."""
    values = margins(seed)
    fields = {"loss": (-values).exp().log1p(), "correct": values > 0, "margin": values}
    if series == "train-probe":
        easiness = torch.ones(N)
        easiness[WRONG[:4]] = 0.0
        fields["sample_easiness"] = easiness
    else:
        fields["count"] = torch.ones(N, dtype=torch.int32)
    arguments: dict = {"target": TARGET, "num_classes": K, "num_examples": N, **changes}
    arguments["fields"] = {**fields, **arguments.pop("extra", {})}
    write_run(folder, seed, series=series, **arguments)
    return values


def probabilities_of(target: Tensor, classes: int = K) -> Tensor:
    draw = torch.rand(len(target), classes, generator=torch.Generator().manual_seed(7)) + 0.1
    return draw / draw.sum(1, keepdim=True)


# the percentile of fifteen threshold examples, of which test_threshold_rule.py sees to it that it is warned
few_examples = pytest.mark.filterwarnings("ignore:The threshold, percentile")


# ------------------------------------------------------------------ ranking and flags


@pytest.mark.parametrize("rule", ["mixture", "gap"])
@pytest.mark.parametrize("higher", [True, False])
def test_the_wrong_ones_come_first_and_are_flagged(rule: str, higher: bool) -> None:
    values = margins()
    issues = find_label_issues(scores_of(values if higher else -values, higher, "mean_loss"), rule=rule)
    assert issues.index.tolist() == values.argsort().tolist()
    assert sorted(issues.flagged.tolist()) == WRONG
    assert issues.rule == rule
    assert issues.estimated_share == pytest.approx(len(WRONG) / N, abs=0.01)
    assert issues.threshold == pytest.approx(float(values[WRONG].max()) * (1 if higher else -1))
    assert torch.equal(issues.given, TARGET[issues.index])
    assert (issues.suggested == -1).all()
    assert issues.posterior.isnan().all() == (rule == "gap")
    assert f"Rule '{rule}': wrong labels are assumed" in issues.explanation


def test_a_label_that_the_model_prefers_is_not_called_wrong() -> None:
    values = margins() + 2.8  # the wrong ones are around -0.2
    issues = find_label_issues(scores_of(values))
    assert sorted(issues.flagged.tolist()) == [index for index in WRONG if values[index] <= 0]
    assert 0 < len(issues.flagged) < len(WRONG)
    assert len(find_label_issues(scores_of(values, name="of_mine")).flagged) == len(WRONG)


def telling(shift: int = 0) -> Tensor:
    """Probabilities of a model that contradicts the wrong labels, `shift` of them by mistake."""
    said = TARGET.clone()
    said[WRONG[: len(WRONG) - shift]] += 1
    return torch.nn.functional.one_hot(said % K, K).float() * 0.7 + 0.1


def test_the_confident_rule_counts_by_probabilities_and_ranks_by_the_score() -> None:
    values = margins()
    issues = find_label_issues(scores_of(values), probabilities=telling(), target=TARGET)
    assert issues.rule == "confident", "which is the default where probabilities are known"
    assert issues.flagged.tolist() == values.argsort()[: len(WRONG)].tolist()
    assert issues.estimated_share == pytest.approx(len(WRONG) / N)
    assert issues.threshold == pytest.approx(float(values[WRONG].max()))
    assert issues.posterior.isnan().all()
    fewer = find_label_issues(scores_of(values), rule="confident", probabilities=telling(3))
    assert fewer.flagged.tolist() == values.argsort()[: len(WRONG) - 3].tolist()
    more = find_label_issues(scores_of(values), probabilities=telling(3))
    assert (more.rule, len(more.flagged)) == ("mixture", len(WRONG)), "the default is what calls more wrong"
    assert f"Rule 'confident' would call {len(WRONG) - 3} wrong" in more.explanation
    assert find_label_issues(scores_of(values)).rule == "mixture"
    assert f"Rule 'confident': {100 * len(WRONG) / N:.1f} % of labels" in issues.explanation


def test_what_the_model_prefers_is_told() -> None:
    values = margins()
    share = 100 * float((values < 0).double().mean())
    told = f"The model prefers another label in {share:.1f} % of examples."
    assert told in find_label_issues(scores_of(values)).explanation
    assert told in find_label_issues(scores_of(values), probabilities=telling()).explanation
    assert "train longer" in find_label_issues(scores_of(values - 6)).explanation
    assert "The model prefers" not in find_label_issues(scores_of(values, name="of_mine")).explanation


def test_a_class_that_is_called_wrong_as_a_whole_is_warned_of() -> None:
    values = margins() + 5
    rare = (TARGET == 2).nonzero()[:4, 0]
    target = TARGET.clone()
    target[TARGET == 2] = 0
    target[rare] = 2
    values[rare] = -3.0
    with pytest.warns(UserWarning, match=r"\(class 2: 4 of 4\), but 6.7 % of all: such a class may be rare or hard"):
        assert sorted(find_label_issues(scores_of(values, target=target)).flagged.tolist()) == rare.tolist()
    noisy = torch.linspace(-4, -3, N)
    noisy[: N // 4] += 8
    find_label_issues(scores_of(noisy), rule="gap")  # most of each class: no class stands out


def test_where_nothing_can_be_judged_an_error_says_so() -> None:
    with pytest.raises(ValueError, match=f"None of {N} labels can be judged"):
        find_label_issues(scores_of(torch.full((N,), NAN)))


def test_the_better_reading_is_the_default_one() -> None:
    values, easiness = margins(), torch.ones(N)
    easiness[WRONG[:4]] = 0.0
    given: dict = {"rule": "mixture", "easiness": easiness}
    hard = find_label_issues(scores_of(values), refine="hard", **given)
    assert torch.equal(find_label_issues(scores_of(values), refine=True, **given).flagged, hard.flagged)
    plain = find_label_issues(scores_of(values), **given)
    assert torch.equal(find_label_issues(scores_of(values), refine=False, **given).flagged, plain.flagged)
    flagged = plain.to_pandas().sort_index()["is_issue"].to_numpy()
    assert functional.refine_by_sample_easiness(torch.tensor(flagged), easiness).sum() == 4


def test_labels_that_are_not_known_are_never_called_wrong() -> None:
    values, target = margins(), TARGET.clone()
    target[WRONG[:3]] = -1
    for options in ({"rule": "mixture"}, {"rule": "gap"}, {"rule": 0.2}, {"probabilities": telling()}):
        issues = find_label_issues(scores_of(values, target=target), **options)
        assert set(issues.flagged.tolist()).isdisjoint(WRONG[:3])
        assert set(WRONG[3:]) <= set(issues.flagged.tolist())


def test_without_a_tie_the_default_is_the_confident_rule() -> None:
    values = margins()
    assert find_label_issues(scores_of(values, name="of_mine"), probabilities=telling(3)).rule == "confident"


def write_by_heart(folder: Path, values: Tensor) -> None:
    """Margins of two epochs of learning and four in which all is right; probabilities are of the latter."""
    with RunWriter(folder, "seed-0", seed=0) as writer:
        for epoch in range(6):
            margin = values if epoch < 2 else values.abs()
            fields = {"loss": (-margin).exp().log1p(), "correct": margin > 0, "margin": margin}
            fields["count"] = torch.ones(N, dtype=torch.int32)
            writer.append(Observation("train-online", epoch + 1, epoch, fields, DataIdentity(N, TARGET), K))
        rows = torch.nn.functional.one_hot(TARGET, K).half() * 0.97 + 0.01
        writer.replace_probabilities(AveragedProbabilities(6, 5, rows, torch.full((N,), 6, dtype=torch.int32)))
        writer.complete()


def test_labels_learnt_by_heart_are_warned_of(tmp_path: Path) -> None:
    one_bell = 1 + torch.randn(N, generator=torch.Generator().manual_seed(0))
    number = int((one_bell < 0).sum())
    write_by_heart(tmp_path, one_bell)
    with pytest.warns(
        UserWarning, match=rf"^{number} labels that the model contradicted .* checkpoint=1 shows the time"
    ):
        issues = find_label_issues(tmp_path)
    assert len(issues.flagged) < number
    find_label_issues(tmp_path, rule="gap")  # who names a rule is not told of another


def test_the_weighted_margin_forgets_what_came_after_learning(tmp_path: Path) -> None:
    values = margins()
    write_by_heart(tmp_path, values)
    issues = find_label_issues(tmp_path)
    torch.testing.assert_close(issues.score, values.sort().values)
    assert sorted(issues.flagged.tolist()) == WRONG
    plain = find_label_issues(tmp_path, "area_under_margin", rule="mixture")
    assert len(plain.flagged) == 0, "in the plain mean four of six epochs say that all is well"


def test_a_folder_of_the_protocol_names_its_own_report(tmp_path: Path) -> None:
    (tmp_path / "half-0").mkdir()
    with pytest.raises(ValueError, match="call find_threshold_issues"):
        find_label_issues(tmp_path)


def test_a_probe_under_other_labels_is_not_taken_for_the_training(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, series="train-probe", target=(TARGET + 1) % K)
    with pytest.raises(ValueError, match=f"is of other labels than training for {N} examples"):
        find_label_issues(tmp_path, "mean_loss")
    with pytest.raises(ValueError, match=f"is of other labels than training for {N} examples"):
        find_label_issues(tmp_path, rule=0.2, refine="hard")
    assert len(find_label_issues(tmp_path, "mean_loss", series="train-probe", rule=0.2))


def test_after_a_refinement_the_threshold_is_that_of_what_is_left() -> None:
    values, easiness = margins(), torch.ones(N)
    easiness[WRONG[:4]] = 0.0
    left = find_label_issues(scores_of(values), refine="hard", easiness=easiness)
    assert left.threshold == pytest.approx(float(values[WRONG[:4]].max()))
    easiness[:] = 0.5
    assert find_label_issues(scores_of(values), refine="hard", easiness=easiness).threshold == -math.inf


def test_a_score_that_ranks_no_difficulty_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="neither end of 'variability' is hard"):
        find_label_issues(tmp_path, "variability")
    with pytest.raises(ValueError, match="There is no score 'aum'"):
        find_label_issues(tmp_path, "aum")


def test_the_score_of_scores_is_theirs() -> None:
    with pytest.raises(ValueError, match="is scores of 'area_under_margin', but score='self_confidence' was asked"):
        find_label_issues(scores_of(margins()), "self_confidence")
    with pytest.raises(ValueError, match="neither end of 'variability' is hard"):
        find_label_issues(scores_of(margins(), name="variability"))
    assert find_label_issues(scores_of(margins(), name="of_mine"), "of_mine").score_name == "of_mine"


def test_numpy_is_taken() -> None:
    values, probabilities = margins(), telling()
    plain = find_label_issues(scores_of(values), rule=0.05, probabilities=probabilities)
    other = find_label_issues(scores_of(values), rule=np.float32(0.05), probabilities=probabilities.numpy())
    assert torch.equal(plain.flagged, other.flagged)
    assert torch.equal(plain.suggested, other.suggested)


def test_the_confident_rule_spares_what_the_model_prefers() -> None:
    values = margins() + 2.8
    issues = find_label_issues(scores_of(values), probabilities=telling())
    assert sorted(issues.flagged.tolist()) == [index for index in WRONG if values[index] <= 0]
    assert issues.threshold == float(values[issues.flagged].max()) <= 0
    assert issues.estimated_share == pytest.approx(len(WRONG) / N)
    none = find_label_issues(scores_of(values + 10), probabilities=telling())
    assert (len(none.flagged), none.threshold) == (0, -math.inf)


def test_the_confident_rule_judges_by_what_is_known() -> None:
    values, target, probabilities = margins(), TARGET.clone(), telling()
    target[0], probabilities[1], values[2] = -1, NAN, NAN
    with pytest.warns(UserWarning, match=f"1 of {N} examples could not be judged"):
        issues = find_label_issues(scores_of(values, target=target), probabilities=probabilities)
    assert sorted(issues.flagged.tolist()) == WRONG
    unknown = torch.full_like(TARGET, -1)
    with pytest.raises(ValueError, match="rule='confident' needs labels"):
        find_label_issues(scores_of(values, target=unknown), rule="confident", probabilities=telling())
    assert len(find_label_issues(scores_of(margins(), target=unknown), probabilities=telling(), target=TARGET).flagged)
    with pytest.raises(ValueError, match=r"rule='confident' needs averaged `probabilities`.*probabilities=True"):
        find_label_issues(scores_of(margins()), rule="confident")


def test_a_share_and_a_number_are_exact_and_ties_are_not_by_index() -> None:
    values = torch.tensor([1.0] * N)
    issues = find_label_issues(scores_of(values), rule=0.1, seed=1)
    assert (len(issues.flagged), issues.rule) == (6, "share")
    assert math.isnan(issues.estimated_share), "what was asked for is no estimate"
    assert "estimated" not in repr(issues)
    assert issues.flagged.tolist() != sorted(issues.flagged.tolist())
    assert not torch.equal(issues.flagged, find_label_issues(scores_of(values), rule=0.1, seed=2).flagged)
    for number in (0, 5, N):
        issues = find_label_issues(scores_of(margins()), num_suspects=number)
        assert torch.equal(issues.flagged, margins().argsort()[:number])
        assert issues.estimated_share == pytest.approx(len(WRONG) / N, abs=0.01)  # still the rule's
    assert find_label_issues(scores_of(margins()), num_suspects=0).threshold == -math.inf


def test_examples_never_seen_are_apart() -> None:
    values = margins()
    values[[0, WRONG[0]]] = NAN
    with pytest.warns(UserWarning, match=f"2 of {N} examples could not be judged"):
        issues = find_label_issues(scores_of(values))
    assert issues.unseen.tolist() == [0, WRONG[0]]
    assert len(issues) == N - 2
    assert not set(issues.unseen.tolist()) & set(issues.index.tolist())
    assert sorted(issues.flagged.tolist()) == WRONG[1:]
    assert "2 not judged" in repr(issues)
    columns = issues.to_columns()
    assert columns["is_issue"][0] is columns["score"][0] is columns["rank"][0] is None


def test_suggestions_are_the_largest_other_class() -> None:
    probabilities = probabilities_of(TARGET)
    issues = find_label_issues(scores_of(margins()), probabilities=probabilities.half())
    for example, given, suggested in zip(issues.index, issues.given, issues.suggested, strict=True):
        others = probabilities[example].half().tolist()
        others[given] = -1
        assert others[suggested] == max(others)


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
def test_scores_from_probabilities(tmp_path: Path, score: str) -> None:
    write(tmp_path, series="train-probe")
    probabilities = probabilities_of(TARGET)
    issues = find_label_issues(tmp_path, score, rule=0.2, probabilities=probabilities)
    wanted = getattr(functional, score)(probabilities, TARGET)
    assert torch.equal(issues.score, wanted.sort().values)
    with pytest.raises(ValueError, match=f"Score '{score}' needs `probabilities`"):
        find_label_issues(tmp_path, score)


# ------------------------------------------------------------------ what is read


def test_a_folder_gives_its_online_margins(tmp_path: Path) -> None:
    means = torch.stack([write(tmp_path, seed) for seed in (0, 1, 2)])
    for seed in (0, 1, 2):
        write(tmp_path, seed, "train-probe", extra={"margin": -margins(seed)})
    for record in (tmp_path, str(tmp_path), EasinessRecord.load(tmp_path, "train-online")):
        assert find_label_issues(record).score_name == "weighted_area_under_margin"
        issues = find_label_issues(record, "area_under_margin")
        assert sorted(issues.flagged.tolist()) == WRONG
        torch.testing.assert_close(issues.score, means.mean(0).sort().values)
        torch.testing.assert_close(issues.spread, means.std(0)[issues.index])
        assert issues.score_name == "area_under_margin"
    probe = find_label_issues(tmp_path, series="train-probe", rule=0.1)
    assert set(probe.flagged.tolist()).isdisjoint(WRONG)
    assert find_label_issues(tmp_path, "mean_loss").score[0] > 2


def test_a_record_without_online_margins_says_what_records_them(tmp_path: Path) -> None:
    write(tmp_path, series="train-probe")
    with pytest.raises(
        ValueError,
        match=whole(
            f"The area under the margin is taken from training itself, but no run in '{tmp_path}' holds the series "
            "'train-online': EasinessCallback(online=True), its default, records it; or take series='train-probe', "
            "whose margins are those at fixed weights."
        ),
    ):
        find_label_issues(tmp_path)
    record = EasinessRecord.load(tmp_path)
    with pytest.raises(ValueError, match=r"this record is of series 'train-probe': give EasinessRecord.load\(path"):
        find_label_issues(record)
    assert sorted(find_label_issues(record, series="train-probe").flagged.tolist()) == WRONG
    with pytest.raises(ValueError, match="is of series 'train-probe', but series='val-probe' was asked for"):
        find_label_issues(record, series="val-probe")
    losses = tmp_path / "losses"
    write_run(losses, 0, series="train-online", num_examples=N, fields={"loss": torch.rand(N)}, target=TARGET)
    with pytest.raises(ValueError, match="needs field 'margin', but series 'train-online' holds loss"):
        find_label_issues(losses)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        find_label_issues(tmp_path / "nothing")


def test_no_warning_but_that_of_the_report(tmp_path: Path) -> None:
    values = margins()
    values[5] = NAN
    write(tmp_path, extra={"margin": values, "loss": values})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        issues = find_label_issues(tmp_path)
    assert [str(warning.message)[:27] for warning in caught] == [
        f"The loss of 1 of {N} example",
        f"1 of {N} examples could not ",
    ]
    assert caught[0].filename == __file__
    assert issues.unseen.tolist() == [5]


# ------------------------------------------------------------------ AUM-SE


@pytest.mark.parametrize(("reading", "kept"), [("hard", WRONG[:4]), ("easy", WRONG[4:])])
def test_sample_easiness_refines_the_flags(tmp_path: Path, reading: str, kept: list[int]) -> None:
    write(tmp_path)
    write(tmp_path, series="train-probe")
    for checkpoint in (-1, 1):
        issues = find_label_issues(tmp_path, refine=reading, checkpoint=checkpoint)
        assert sorted(issues.flagged.tolist()) == kept
        assert sorted(issues.index[:8].tolist()) == WRONG
        assert torch.equal(issues.is_issue, torch.arange(N) < 4)  # what is left comes first
        assert f"Of 8 flags 4 are left, where sample easiness at the given label is {reading}" in issues.explanation
    online = EasinessRecord.load(tmp_path, "train-online")
    easiness = EasinessRecord.load(tmp_path).score("sample_easiness").values
    assert sorted(find_label_issues(online, refine=reading, easiness=easiness).flagged.tolist()) == kept
    for source in (online, online.score("area_under_margin")):
        with pytest.raises(ValueError, match="`refine` needs the sample easiness of each example, but"):
            find_label_issues(source, refine=reading)
    with pytest.raises(ValueError, match=r"must have shape \(60,\).*got \(3,\)"):
        find_label_issues(online, refine=reading, easiness=easiness[:3])


# ------------------------------------------------------------------ threshold examples


def protocol(num_real: int = K) -> tuple[list[Scores], list[Tensor]]:
    """Two runs in which threshold examples have margins around -1."""
    sets = [functional.threshold_examples(TARGET, K, part) for part in (0, 1)]
    runs = []
    for seed, indices in enumerate(sets):
        values, target = margins(seed), TARGET.clone()
        values[indices] = torch.linspace(-2, -1, len(indices)) - seed
        target[indices] = num_real
        runs.append(scores_of(values, target=target))
    return runs, sets


@few_examples
def test_two_runs_judge_every_example_by_a_run_in_which_it_had_its_own_label() -> None:
    runs, sets = protocol()
    probabilities = torch.full((N, K), 1 / K)
    issues = find_label_issues(runs, rule="threshold", threshold_indices=sets, probabilities=probabilities)
    assert (len(issues), len(issues.unseen)) == (N, 0)
    assert ((issues.suggested - issues.given) != 0).all()
    assert sorted(issues.flagged.tolist()) == WRONG
    assert torch.equal(issues.given, TARGET[issues.index])
    thresholds = [np.percentile(run.values[indices], 99) for run, indices in zip(runs, sets, strict=True)]
    assert issues.threshold == pytest.approx(sum(thresholds) / 2)
    for row, example in enumerate(issues.index.tolist()):
        own = [run for run in (0, 1) if example not in sets[run].tolist()]
        distances = [float(runs[run].values[example]) - thresholds[run] for run in own]
        assert float(issues.score[row]) == pytest.approx(sum(distances) / len(own) + issues.threshold, abs=1e-5)
        spread = abs(distances[0] - distances[-1]) / math.sqrt(2) if len(own) > 1 else NAN
        assert float(issues.spread[row]) == pytest.approx(spread, abs=1e-5, nan_ok=True)
    assert torch.equal(issues.is_issue, issues.score <= issues.threshold)


@few_examples
def test_one_run_leaves_its_threshold_examples_apart(tmp_path: Path) -> None:
    runs, sets = protocol()
    extra = {"margin": runs[0].values, "loss": runs[0].values}
    write(tmp_path, target=runs[0].target, num_classes=K + 1, extra=extra)
    probabilities = probabilities_of(TARGET, K + 1)
    with pytest.warns(UserWarning, match=f"{len(sets[0])} of {N} examples could not be judged"):
        issues = find_label_issues(
            tmp_path, rule="threshold", threshold_indices=sets[0], probabilities=probabilities, target=TARGET
        )
    assert torch.equal(issues.unseen, sets[0])
    assert set(issues.flagged.tolist()) == set(WRONG) - set(sets[0].tolist())
    assert issues.probabilities.shape == (N, K)
    torch.testing.assert_close(issues.probabilities.sum(1), torch.ones(N))


def test_the_threshold_class_must_be_its_own(tmp_path: Path) -> None:
    runs, sets = protocol(num_real=2)
    with pytest.raises(ValueError, match=r"The threshold class of run 0 is 2, but example \d+ and so \d+ in all have"):
        find_label_issues(runs, rule="threshold", threshold_indices=sets)
    unchanged = [scores_of(margins()), scores_of(margins(1))]
    with pytest.raises(ValueError, match=r"under one class that does not exist; the record has them under \[0, 1, 2\]"):
        find_label_issues(unchanged, rule="threshold", threshold_indices=sets)
    runs, sets = protocol(num_real=K + 1)
    write(tmp_path, target=runs[0].target, num_classes=K + 3)
    with pytest.raises(ValueError, match="is 4, but the model has 6 outputs"):
        find_label_issues(tmp_path, rule="threshold", threshold_indices=sets[0])


@few_examples
def test_the_protocol_needs_its_sets() -> None:
    runs, sets = protocol()
    with pytest.raises(ValueError, match="needs `threshold_indices`"):
        find_label_issues(runs, rule="threshold")
    with pytest.raises(ValueError, match="got 1 for 2 records"):
        find_label_issues(runs, rule="threshold", threshold_indices=sets[0])
    with pytest.raises(ValueError, match="disjoint"):
        find_label_issues([runs[0], runs[0]], rule="threshold", threshold_indices=[sets[0], sets[0]])
    with pytest.raises(ValueError, match="must be one, but for rule='threshold'; got 2"):
        find_label_issues(runs)
    other = scores_of(runs[1].values, target=(runs[1].target + 1) % (K + 1))
    other.target[sets[1]] = K
    other.target[(other.target == K) & ~torch.isin(torch.arange(N), sets[1])] = 1
    with pytest.raises(ValueError, match="are of different labels: example"):
        find_label_issues([runs[0], other], rule="threshold", threshold_indices=sets)


# ------------------------------------------------------------------ bad input


def test_labels_that_changed_since_training_are_an_error() -> None:
    now = TARGET.clone()
    assert len(find_label_issues(scores_of(margins()), target=now)) == N
    now[[7, 9]] = torch.tensor([2, 1])
    with pytest.raises(
        ValueError,
        match=whole(
            f"2 of {N} labels are not those that were trained on: example 7 has the label 2 now and 1 in the record; "
            "train again, or give the labels of then."
        ),
    ):
        find_label_issues(scores_of(margins()), target=now)
    with pytest.raises(ValueError, match="is this another data set"):
        find_label_issues(scores_of(margins()), target=now[:5])
    unknown = scores_of(margins(), target=torch.full((N,), -1))
    assert torch.equal(find_label_issues(unknown, target=TARGET).given, TARGET[margins().argsort()])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"record": 3}, TypeError, "must be an EasinessRecord, Scores, the folder"),
        ({"record": []}, ValueError, "must be one, but for rule='threshold'; got 0"),
        ({"record": scores_of(margins(), target=torch.ones(N).long())}, ValueError, "all are of class 1"),
        ({"score": "aum"}, ValueError, "is scores of 'area_under_margin', but score='aum' was asked for"),
        ({"rule": "otsu"}, ValueError, "got 'otsu'"),
        ({"rule": 1.0}, ValueError, "got 1.0"),
        ({"num_suspects": -1}, ValueError, "got -1"),
        ({"refine": "medium"}, ValueError, "got 'medium'"),
        ({"probabilities": torch.ones(N, 1)}, ValueError, "K >= 2"),
        ({"probabilities": torch.ones(5, 3) / 3}, ValueError, r"must have shape \(N, K\) = \(60, K\)"),
        ({"probabilities": torch.ones(N, 2) / 2}, ValueError, r"must be in \[0, 2\)"),
    ],
)
def test_bad_arguments_are_named(changes: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_label_issues(**{"record": scores_of(margins()), **changes})


# ------------------------------------------------------------------ the table


@pytest.fixture
def issues() -> LabelIssues:
    return find_label_issues(scores_of(margins()), rule="mixture", probabilities=probabilities_of(TARGET))


def test_the_table_in_pandas_and_parquet(issues: LabelIssues, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = issues.to_pandas()
    assert table.index.name == "index"
    assert list(table.columns) == ["given", "suggested", "score", "spread", "posterior", "is_issue"]
    assert table.index.tolist() == issues.index.tolist()
    assert table["suggested"].tolist() == issues.suggested.tolist()
    assert table.attrs["threshold"] == issues.threshold
    issues.to_parquet(tmp_path / "issues.parquet")
    back = pandas.read_parquet(tmp_path / "issues.parquet")
    pandas.testing.assert_frame_equal(back, table)


def test_csv_leaves_unknown_cells_empty(tmp_path: Path) -> None:
    issues = find_label_issues(scores_of(margins()), rule="gap")
    issues.to_csv(tmp_path / "issues.csv")
    header, first, *rest = csv.reader((tmp_path / "issues.csv").read_text().splitlines())
    assert header == ["index", "given", "suggested", "score", "spread", "posterior", "is_issue"]
    assert first[:3] == [str(int(issues.index[0])), str(int(issues.given[0])), ""]
    assert (float(np.float32(first[3])), first[4:]) == (float(issues.score[0]), ["", "", "True"])
    assert len(rest) == N - 1


def test_cleanlab_gets_rows_in_the_order_of_the_data_set(issues: LabelIssues) -> None:
    bridge = issues.to_cleanlab()
    assert set(bridge) == {"labels", "pred_probs"}
    assert bridge["labels"].tolist() == TARGET.tolist()
    np.testing.assert_array_equal(bridge["pred_probs"], probabilities_of(TARGET).numpy())
    assert set(find_label_issues(scores_of(margins())).to_cleanlab()) == {"labels"}
    values = margins()
    values[4] = NAN
    with pytest.warns(UserWarning, match="could not be judged"):
        part = find_label_issues(scores_of(values), probabilities=probabilities_of(TARGET))
    assert part.to_cleanlab()["pred_probs"].shape == (N - 1, K)
    unlabelled = find_label_issues(scores_of(margins(), target=torch.full((N,), -1)))
    with pytest.raises(ValueError, match="that of example 0 is not known"):
        unlabelled.to_cleanlab()


def test_plain_columns_have_one_value_for_each_example(issues: LabelIssues) -> None:
    columns = issues.to_columns()
    assert list(columns) == ["given", "suggested", "score", "spread", "posterior", "is_issue", "rank"]
    assert columns["given"] == TARGET.tolist()
    assert [example for example, flag in enumerate(columns["is_issue"]) if flag] == WRONG
    assert columns["rank"][int(issues.index[0])] == 1
    assert columns["spread"] == [None] * N
    assert {type(value) for values in columns.values() for value in values} <= {int, float, bool, type(None)}
    with pytest.raises(ValueError, match="needs the whole table"):
        issues.head().to_columns()


def test_what_to_train_on_next(issues: LabelIssues) -> None:
    flagged = set(issues.flagged.tolist())
    assert issues.unflagged.tolist() == [index for index in range(N) if index not in flagged]
    corrections = issues.corrections()
    for index, given, suggested in zip(issues.index, issues.given, issues.suggested, strict=True):
        assert int(corrections[index]) == (int(suggested) if int(index) in flagged else -1)
        assert suggested != given
    values = margins()
    values[3] = NAN
    with pytest.warns(UserWarning, match="could not be judged"):
        part = find_label_issues(scores_of(values), rule="mixture")
    assert 3 in part.unflagged.tolist(), "neither clean nor wrong: it stays"
    with pytest.raises(ValueError, match=r"corrections\(\) needs suggested labels"):
        part.corrections()
    with pytest.raises(ValueError, match="unflagged needs the whole table"):
        _ = issues.head(3).unflagged
    with pytest.raises(ValueError, match=r"corrections\(\) needs the whole table"):
        issues.head(3).corrections()


def test_head_and_text(issues: LabelIssues) -> None:
    head = issues.head(3)
    assert (len(head), len(issues)) == (3, N)
    assert torch.equal(head.flagged, issues.flagged[:3])
    assert len(issues.head()) == 10
    assert len(str(issues).splitlines()) == 12
    assert str(issues).splitlines()[-1] == f"... and {N - 10} more"
    assert repr(issues).startswith(f"LabelIssues(8 of {N} labels called wrong by 'mixture': area_under_margin <= -")
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        issues.head(-1)


def test_the_name_is_loaded_late() -> None:
    script = "import lightning_easiness, sys; assert 'torch' not in sys.modules; lightning_easiness.find_label_issues"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
