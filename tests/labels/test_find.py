"""`find_label_issues`: what it reads, how it ranks and flags, and what it refuses."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_easiness import (
    Confident,
    EasinessRecord,
    Gap,
    Hardest,
    LabelIssues,
    Mixture,
    Refine,
    Scores,
    Threshold,
    find_label_issues,
    functional,
)
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import AveragedProbabilities, Observation
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import whole, write_run

NAN = math.nan
N, K = 60, 3
TARGET = torch.arange(N) % K
WRONG = [3, 10, 17, 24, 31, 38, 45, 52]
RULES = [Confident(), Mixture(), Gap(), Hardest(0.2), Hardest(12)]


def margins(seed: int = 0) -> Tensor:
    """Around 4, of the wrong labels around -3."""
    values = torch.randn(N, generator=torch.Generator().manual_seed(seed)) * 0.5 + 4
    values[WRONG] -= 7
    return values


def scores_of(values: Tensor, higher: bool = True, name: str = "area_under_margin", target: Tensor = TARGET) -> Scores:
    return Scores(values, higher_is_easier=higher, name=name, target=target)


def write(folder: Path, seed: int = 0, series: str = "train-online", **changes: Any) -> Tensor:
    """Write a run whose last but one and last checkpoints differ; returns the mean margin."""
    values = margins(seed)
    fields = {"loss": (-values).exp().log1p(), "correct": values > 0, "margin": values}
    if series == "train-probe":
        fields["sample_easiness"] = torch.ones(N)
        fields["sample_easiness"][WRONG[:4]] = 0.0
        fields["sample_easiness"][WRONG[4:6]] = 0.0003  # a product of several
        fields["weakest_comparison"] = fields["sample_easiness"].masked_fill(fields["sample_easiness"] == 0.0003, 0.2)
    else:
        fields["count"] = torch.ones(N, dtype=torch.int32)
    arguments: dict[str, Any] = {"target": TARGET, "num_classes": K, "num_examples": N, **changes}
    arguments["fields"] = {**fields, **arguments.pop("extra", {})}
    write_run(folder, seed, series=series, **arguments)
    return values


def contradicting(spared: int = 0) -> Tensor:
    """Probabilities of a model that contradicts the wrong labels, but for some."""
    predicted = TARGET.clone()
    predicted[WRONG[: len(WRONG) - spared]] += 1
    return torch.nn.functional.one_hot(predicted % K, K).float() * 0.7 + 0.1


def refuses(message: str, record: Any, *rule: Any, error: type[Exception] = ValueError, **options: Any) -> None:
    with pytest.raises(error, match=message):
        find_label_issues(record, *rule, **options)


# ------------------------------------------------------------------ every rule


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("higher", [True, False])
def test_wrong_labels_come_first_and_are_flagged(rule: Any, higher: bool) -> None:
    values = margins()
    scores = scores_of(values if higher else -values, higher, "of_mine")
    issues = find_label_issues(scores, rule, probabilities=contradicting())
    assert issues.index.tolist() == values.argsort().tolist()
    number = 12 if isinstance(rule, Hardest) else len(WRONG)
    assert issues.flagged.tolist() == values.argsort()[:number].tolist()
    assert issues.rule == rule.name
    assert issues.threshold == pytest.approx(float(values.sort().values[number - 1]) * (1 if higher else -1))
    assert torch.equal(issues.given, TARGET[issues.index])
    assert f"Rule '{rule.name}': " in issues.explanation
    assert issues.posterior.isnan().all() == (not isinstance(rule, Mixture))
    if isinstance(rule, Hardest):
        assert math.isnan(issues.estimated_share), "what was asked for is no estimate"
        assert "estimated" not in repr(issues)
    else:
        assert issues.estimated_share == pytest.approx(len(WRONG) / N, abs=0.01)


@pytest.mark.parametrize("rule", RULES[:3], ids=str)
def test_a_label_that_the_model_prefers_is_never_flagged(rule: Any) -> None:
    values = margins() + 2.8  # the wrong ones are around -0.2
    issues = find_label_issues(scores_of(values), rule, probabilities=contradicting())
    assert sorted(issues.flagged.tolist()) == [index for index in WRONG if values[index] <= 0]
    assert 0 < len(issues.flagged) < len(WRONG)
    assert issues.threshold == float(values[issues.flagged].max()) <= 0
    assert issues.estimated_share == pytest.approx(len(WRONG) / N, abs=0.01)
    none = find_label_issues(scores_of(values + 10), rule, probabilities=contradicting())
    assert (len(none.flagged), none.threshold) == (0, -math.inf)
    other = find_label_issues(scores_of(values, name="of_mine"), rule, probabilities=contradicting())
    assert len(other.flagged) == len(WRONG), "of a score without a tie"


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_unknown_labels_are_never_flagged(rule: Any) -> None:
    target = TARGET.clone()
    target[WRONG[:3]] = -1
    issues = find_label_issues(scores_of(margins(), target=target), rule, probabilities=contradicting())
    assert set(issues.flagged.tolist()).isdisjoint(WRONG[:3])
    assert set(WRONG[3:]) <= set(issues.flagged.tolist())


@pytest.mark.parametrize("rule", [None, *RULES], ids=str)
def test_examples_without_a_score_are_apart(rule: Any) -> None:
    values = margins()
    values[[0, WRONG[0]]] = NAN
    with pytest.warns(UserWarning, match=f"2 of {N} examples have no label score"):
        issues = find_label_issues(scores_of(values), rule, probabilities=contradicting())
    assert issues.unseen.tolist() == [0, WRONG[0]]
    assert sorted([*issues.index.tolist(), *issues.unseen.tolist()]) == list(range(N))
    assert set(WRONG[1:]) <= set(issues.flagged.tolist())
    assert "2 without a score" in repr(issues)
    columns = issues.to_columns()
    assert columns["is_issue"][0] is columns["score"][0] is columns["rank"][0] is None


# ------------------------------------------------------------------ the default, and each rule's own


def test_the_confident_rule_counts_by_probabilities_and_ranks_by_the_score() -> None:
    values = margins()
    fewer = find_label_issues(scores_of(values), Confident(), probabilities=contradicting(3))
    assert fewer.flagged.tolist() == values.argsort()[: len(WRONG) - 3].tolist()
    assert f"Rule 'confident': {100 * 5 / N:.1f} % of labels" in fewer.explanation
    target, probabilities = TARGET.clone(), contradicting()
    target[0], probabilities[1], values[2] = -1, NAN, NAN
    with pytest.warns(UserWarning, match="have no label score"):
        issues = find_label_issues(scores_of(values, target=target), Confident(), probabilities=probabilities)
    assert sorted(issues.flagged.tolist()) == WRONG
    unknown = scores_of(margins(), target=torch.full_like(TARGET, -1))
    refuses(r"rule=Confident\(\) needs labels", unknown, Confident(), probabilities=contradicting())
    assert len(find_label_issues(unknown, probabilities=contradicting(), target=TARGET).flagged)
    message = r"rule=Confident\(\) needs averaged `probabilities`.*probabilities=True"
    refuses(message, scores_of(margins()), Confident())


def test_the_default_needs_margins_and_takes_those_of_probabilities() -> None:
    assert find_label_issues(scores_of(margins())).rule == "contradicted"
    without_a_tie = scores_of(margins(), name="of_mine")
    issues = find_label_issues(without_a_tie)
    assert (issues.rule, len(issues.flagged)) == ("contradicted", 0)
    assert math.isnan(issues.estimated_share)
    assert "it cannot be told how many labels are wrong, and nothing is flagged, as no margins" in issues.explanation
    assert "estimated wrong" not in repr(issues)


def test_hardest_is_exact_and_ties_are_not_by_index() -> None:
    ties, scores = scores_of(torch.ones(N)), scores_of(margins())
    first, second = (find_label_issues(ties, Hardest(0.1), seed=seed).flagged for seed in (1, 2))
    assert (len(first), first.tolist() != sorted(first.tolist())) == (6, True)
    assert not torch.equal(first, second)
    for number in (0, 5, N):
        issues = find_label_issues(scores, Hardest(number))
        assert torch.equal(issues.flagged, margins().argsort()[:number])
    assert find_label_issues(scores, Hardest(0)).threshold == -math.inf
    refuses(f"must be at most the {N} labels that have a score; got {N + 1}", scores, Hardest(N + 1))


def test_the_explanation_says_how_many_labels_the_model_contradicts() -> None:
    values = margins()
    share = 100 * float((values < 0).double().mean())
    sentence = f" On average over training, the model prefers another label in {share:.1f} % of examples."
    for known in (None, contradicting()):
        assert sentence in find_label_issues(scores_of(values), probabilities=known).explanation
    assert "train longer" in find_label_issues(scores_of(values - 6)).explanation
    assert "model prefers" not in find_label_issues(scores_of(values, name="of_mine")).explanation


def test_a_class_that_is_flagged_as_a_whole_is_warned_of() -> None:
    target, values = torch.arange(N) % 2, margins() + 2
    rare = torch.arange(2, N, 10)
    values[WRONG] = 9.0
    target[rare], values[rare] = 2, -3.0
    with pytest.warns(UserWarning, match=r"\(class 2: 6 of 6\), but 10.0 % of all: such a class may be rare or hard"):
        assert sorted(find_label_issues(scores_of(values, target=target)).flagged.tolist()) == rare.tolist()
    noisy = torch.linspace(-4, -3, N)
    noisy[: N // 4] += 8
    find_label_issues(scores_of(noisy), Gap())  # most of each class: no class stands out


def write_memorising(folder: Path, values: Tensor) -> None:
    """Write margins of two epochs of learning and four in which all is right; probabilities are of the latter."""
    with RunWriter(folder, "seed-0", seed=0) as writer:
        for epoch in range(6):
            margin = values if epoch < 2 else values.abs()
            fields = {"loss": (-margin).exp().log1p(), "correct": margin > 0, "margin": margin}
            fields["count"] = torch.ones(N, dtype=torch.int32)
            writer.append(Observation("train-online", epoch + 1, epoch, fields, DataIdentity(N, TARGET), K))
        rows = torch.nn.functional.one_hot(TARGET, K).half() * 0.97 + 0.01
        writer.replace_probabilities(AveragedProbabilities(6, 5, rows, torch.full((N,), 6, dtype=torch.int32)))
        writer.complete()


def test_memorised_labels_are_warned_of_and_slow(tmp_path: Path) -> None:
    write_memorising(tmp_path, margins())
    with pytest.warns(
        UserWarning, match="^8 of 8 flagged labels are what the model predicts in the end: it has memor"
    ) as caught:
        issues = find_label_issues(tmp_path)
    assert caught[0].filename == __file__
    assert torch.equal(issues.is_slow, issues.is_issue)
    find_label_issues(tmp_path, Gap())  # no warning where a rule was named


def test_no_memorised_labels_are_warned_of_where_few_or_none_are_wrong(tmp_path: Path) -> None:
    one_group = 1 + torch.randn(N, generator=torch.Generator().manual_seed(0))
    assert bool((one_group < 0).any())
    write_memorising(tmp_path, one_group)
    issues = find_label_issues(tmp_path)
    assert len(issues.flagged) == 0
    assert "label errors that were memorised within the first epoch do not show either" in issues.explanation


def test_flags_that_the_model_still_contradicts_are_not_slow(tmp_path: Path) -> None:
    write(tmp_path)
    issues = find_label_issues(tmp_path)
    assert sorted(issues.flagged.tolist()) == WRONG
    assert not issues.is_slow.any()


def test_the_weighted_margin_forgets_what_came_after_learning(tmp_path: Path) -> None:
    values = margins()
    write_memorising(tmp_path, values)
    issues = find_label_issues(tmp_path, Mixture())
    torch.testing.assert_close(issues.score, values.sort().values)
    assert sorted(issues.flagged.tolist()) == WRONG
    plain = find_label_issues(tmp_path, Mixture(), score="area_under_margin")
    assert len(plain.flagged) == 0, "in the plain mean four of six epochs say that all is well"


def test_numpy_is_taken() -> None:
    values, probabilities = margins(), contradicting()
    plain = find_label_issues(scores_of(values), Hardest(0.05), probabilities=probabilities)
    other = find_label_issues(scores_of(values), Hardest(np.float32(0.05)), probabilities=probabilities.numpy())
    assert torch.equal(plain.flagged, other.flagged)
    assert torch.equal(plain.suggested, other.suggested)


# ------------------------------------------------------------------ what is read


def test_a_folder_gives_its_online_margins(tmp_path: Path) -> None:
    means = torch.stack([write(tmp_path, seed) for seed in (0, 1, 2)])
    for seed in (0, 1, 2):
        write(tmp_path, seed, "train-probe", extra={"margin": -margins(seed)})
    for record in (tmp_path, str(tmp_path), EasinessRecord.load(tmp_path, "train-online")):
        assert find_label_issues(record).score_name == "weighted_area_under_margin"
        issues = find_label_issues(record, score="area_under_margin")
        assert sorted(issues.flagged.tolist()) == WRONG
        torch.testing.assert_close(issues.score, means.mean(0).sort().values)
        torch.testing.assert_close(issues.spread, means.std(0)[issues.index])
        assert issues.score_name == "area_under_margin"
    probe = EasinessRecord.load(tmp_path, "train-probe").score("area_under_margin")
    assert set(find_label_issues(probe, Hardest(0.1)).flagged.tolist()).isdisjoint(WRONG)
    assert find_label_issues(tmp_path, score="mean_loss").score[0] > 2


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
def test_scores_from_probabilities(tmp_path: Path, score: str) -> None:
    write(tmp_path, series="train-probe")
    probabilities = torch.rand(N, K, generator=torch.Generator().manual_seed(7)).softmax(1)
    issues = find_label_issues(tmp_path, Hardest(0.2), score=score, probabilities=probabilities)
    assert torch.equal(issues.score, getattr(functional, score)(probabilities, TARGET).sort().values)
    refuses(f"Score '{score}' needs `probabilities`", tmp_path, score=score)


def test_a_record_without_online_margins_says_what_records_them(tmp_path: Path) -> None:
    write(tmp_path, series="train-probe")
    message = (
        "The area under the margin is taken from training itself, but {}: EasinessCallback(online=True), its default,"
        " records it; give EasinessRecord.load(path, 'train-online'), or EasinessRecord.load(path, 'train-probe')"
        ".score('weighted_area_under_margin'), whose margins are those at fixed weights."
    )
    refuses(whole(message.format(f"no run in '{tmp_path}' holds the series 'train-online'")), tmp_path)
    record = EasinessRecord.load(tmp_path, "train-probe")
    refuses(whole(message.format("this record is of series 'train-probe'")), record)
    assert sorted(find_label_issues(record.score("area_under_margin")).flagged.tolist()) == WRONG
    losses = tmp_path / "losses"
    write_run(losses, 0, series="train-online", num_examples=N, fields={"loss": torch.rand(N)}, target=TARGET)
    refuses("needs field 'margin', but series 'train-online' holds loss", losses)
    refuses("is not a folder", tmp_path / "nothing", error=FileNotFoundError)


def test_the_record_of_an_evaluation_pass_is_read_as_its_folder_is(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, series="train-probe")
    record = EasinessRecord.load(tmp_path)
    assert record.series == "train-probe"
    for rule in (None, Hardest(0.2)):
        assert_same_issues(find_label_issues(record, rule), find_label_issues(tmp_path, rule))
    refined = find_label_issues(record, Hardest(0.2), refine=Refine())
    assert_same_issues(refined, find_label_issues(tmp_path, Hardest(0.2), refine=Refine()))


def assert_same_issues(a: LabelIssues, b: LabelIssues) -> None:
    for name in ("index", "score", "is_issue"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_an_evaluation_pass_under_other_labels_is_not_taken_for_the_training(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, series="train-probe", target=(TARGET + 1) % K)
    message = r"^The training in '.*' and its series 'train-probe' are not of the same data"
    refuses(message, tmp_path, score="mean_loss")
    message = r"^`refine` needs .* 'train-probe' is of other labels than training"
    refuses(message, tmp_path, Hardest(0.2), refine=Refine())
    record = EasinessRecord.load(tmp_path, "train-probe")
    assert len(find_label_issues(record, Hardest(0.2), score="mean_loss"))


def test_half_a_folder_of_the_threshold_protocol_names_its_rule(tmp_path: Path) -> None:
    (tmp_path / "half-0").mkdir()
    (tmp_path / "threshold.json").write_text("{}")
    refuses(r"call find_label_issues\('.*', rule=Threshold\(\)\)", tmp_path / "half-0")
    refuses("No run in '.*half-0' is complete", tmp_path)


def test_no_other_warnings_than_its_own(tmp_path: Path) -> None:
    values = margins()
    values[5] = NAN
    write(tmp_path, extra={"margin": values, "loss": values})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        issues = find_label_issues(tmp_path)
    assert [str(warning.message)[:27] for warning in caught] == [
        f"The loss of 1 of {N} example",
        f"1 of {N} examples have no la",
    ]
    assert {warning.filename for warning in caught} == {__file__}
    assert issues.unseen.tolist() == [5]


# ------------------------------------------------------------------ AUM-SE


@pytest.mark.parametrize(("which", "kept"), [("hard", WRONG[:4]), ("easy", WRONG[6:])])
def test_sample_easiness_refines_the_flags(tmp_path: Path, which: Any, kept: list[int]) -> None:
    values = write(tmp_path)
    write(tmp_path, series="train-probe")
    for checkpoint in (-1, 1):
        issues = find_label_issues(tmp_path, refine=Refine(which), checkpoint=checkpoint)
        assert sorted(issues.flagged.tolist()) == kept
        assert sorted(issues.index[:8].tolist()) == WRONG
        assert torch.equal(issues.is_issue, torch.arange(N) < len(kept))  # what is left comes first
        assert issues.threshold == pytest.approx(float(values[kept].max()))
        assert (
            f"Of 8 flags {len(kept)} are left, where sample easiness at the given label is {which}"
            in issues.explanation
        )
    online = EasinessRecord.load(tmp_path, "train-online")
    probe = EasinessRecord.load(tmp_path, "train-probe")
    easiness, weakest = (probe.score(name).values for name in ("sample_easiness", "weakest_comparison"))
    issues = find_label_issues(online, refine=Refine(which, easiness, weakest_comparison=weakest))
    assert sorted(issues.flagged.tolist()) == kept
    half = torch.full((N,), 0.5)
    none = find_label_issues(online, refine=Refine(which, half, weakest_comparison=half))
    assert (len(none.flagged), none.threshold) == (0, -math.inf)
    compared = torch.tensor([0.3, 1.0, 1.0]).expand(N, K)
    loose = find_label_issues(online, Mixture(), refine=Refine(easiness=compared, tol=0.4))
    assert sorted(loose.flagged.tolist()) == WRONG, "hard is the default"
    for source in (online, online.score("area_under_margin")):
        refuses("`refine` needs the sample easiness of each example, but", source, refine=Refine(which))
    refuses(r"must have shape \(60,\).*got \(3,\)", online, refine=Refine(which, easiness[:3]))


def test_a_pass_of_before_levels_were_recorded_refines_by_easy_alone(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, series="train-probe")
    shown = EasinessRecord.load(tmp_path, "train-probe")
    write(tmp_path / "before")
    fields = {name: shown.field(name, -1)[0] for name in shown.fields if name != "weakest_comparison"}
    write_run(tmp_path / "before", 0, series="train-probe", num_examples=N, fields=fields, target=TARGET, num_classes=K)
    refuses("recorded before levels went by the weakest comparison", tmp_path / "before", refine=Refine())
    easy = find_label_issues(tmp_path / "before", refine=Refine("easy"))
    assert sorted(easy.flagged.tolist()) == WRONG[6:]


# ------------------------------------------------------------------ bad input


def test_labels_that_changed_since_training_are_an_error() -> None:
    now = TARGET.clone()
    assert len(find_label_issues(scores_of(margins()), target=now)) == N
    now[[7, 9]] = torch.tensor([2, 1])
    message = (
        "The record and the `target` of find_label_issues are not of the same data: example 7 has target 1 in the first"
        f" and 2 in the second (2 of {N} differ), so an index no longer names the same example: train again, or give"
        " the labels that were trained on."
    )
    refuses(whole(message), scores_of(margins()), target=now)
    refuses("the first has 60 examples and the second 5", scores_of(margins()), target=now[:5])
    unknown = scores_of(margins(), target=torch.full((N,), -1))
    assert torch.equal(find_label_issues(unknown, target=TARGET).given, TARGET[margins().argsort()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"record": []}, r"must be one, but for rule=Threshold\(\); got 0"),
        ({"record": [scores_of(margins())] * 2}, r"must be one, but for rule=Threshold\(\); got 2"),
        ({"record": [], "rule": Threshold()}, r"must be one, but for rule=Threshold\(\); got 0"),
        ({"record": scores_of(margins(), target=torch.ones(N).long())}, "all are of class 1"),
        ({"record": scores_of(torch.full((N,), NAN))}, f"None of {N} labels has a score"),
        ({"record": scores_of(margins(), name="variability")}, "neither end of 'variability' is hard"),
        ({"target": TARGET.float()}, "must be integers"),
        ({"score": "aum"}, "is scores of 'area_under_margin', but score='aum' was asked for"),
        ({"probabilities": torch.ones(N, 1)}, "K >= 2"),
        ({"probabilities": torch.ones(5, 3) / 3}, r"must have shape \(N, K\) = \(60, K\)"),
        ({"probabilities": torch.ones(N, 2) / 2}, r"must be in \[0, 2\)"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], message: str) -> None:
    refuses(message, **{"record": scores_of(margins()), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"record": 3}, "must be an EasinessRecord, Scores, the folder"),
        ({"rule": "otsu"}, "got 'otsu': give HeldOut.*; a score is given as `score=`"),
        ({"rule": "confident"}, r"must be a rule; got 'confident': give `rule=Confident\(\)`\."),
        ({"rule": "held_out"}, r"give `rule=HeldOut\(\)`"),
        ({"rule": "threshold"}, r"give `rule=Threshold\(\)`"),
        ({"rule": Gap}, r"give an object, `rule=Gap\(\)`"),
        ({"rule": 0.05}, r"got 0.05: give `rule=Hardest\(0.05\)`"),
        ({"refine": "hard"}, r"got 'hard': give `Refine\(which='hard'\)`"),
        ({"refine": True}, r"got True: give `Refine\(\), or None"),
        *(
            ({old: None}, f"^find_label_issues has no `{old}` any more: ")
            for old in ("num_suspects", "percentile", "threshold_indices", "easiness", "tol", "series")
        ),
    ],
)
def test_bad_types_and_old_keywords_are_named(changes: dict[str, Any], message: str) -> None:
    refuses(message, error=TypeError, **{"record": scores_of(margins()), **changes})


@pytest.mark.parametrize("amount", [1.0, 0.0, -1, 1.5, True, "many"])
def test_hardest_takes_a_fraction_or_a_number(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a fraction in \(0, 1\) or a number of examples"):
        Hardest(amount)


def test_the_score_must_be_known_and_rank_difficulty(tmp_path: Path) -> None:
    write(tmp_path)
    refuses("neither end of 'variability' is hard", tmp_path, score="variability")
    refuses("There is no score 'aum'", tmp_path, score="aum")
    mine = scores_of(margins(), name="of_mine")
    assert find_label_issues(mine, score="of_mine").score_name == "of_mine"
