"""How many labels are flagged: by the moments of training, by held-out runs, and nothing where neither can tell."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import (
    Confident,
    Contradicted,
    EasinessRecord,
    HeldOut,
    Mixture,
    Scores,
    find_label_issues,
    functional,
)
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import HeldOutProbabilities, Observation, TrainedOn
from lightning_easiness.labels.moments import Moment, count_by
from lightning_easiness.record.writer import RunWriter

N, K, EPOCHS, WRONG = 800, 4, 40, 80
TARGET = torch.arange(N) % K
IS_WRONG = torch.arange(N) >= N - WRONG


def margins(epoch: int, seed: int, wrong: Tensor, memorised: bool = False) -> Tensor:
    """Learnt at once, the hard examples late; wrong labels are contradicted, until they are memorised at epoch 5."""
    draw = torch.Generator().manual_seed(seed)
    ability = torch.randn(N, generator=draw) * 1.5 + 3.5
    noise = torch.randn(N, generator=torch.Generator().manual_seed(1000 * seed + epoch)) * 0.5
    sign = torch.where(wrong & (not memorised or epoch < 5), -1.0, 1.0)
    return sign * (ability + noise) + 0.1 * epoch


def write(
    folder: Path, wrong: Tensor = IS_WRONG, memorised: bool = False, epochs: int = 10, held_out: Tensor | None = None
) -> Path:
    """Write two runs; with `held_out` (N, K), each holds out half of the examples and predicts them so."""
    for seed in range(2):
        out = (torch.arange(N) // 2 % 2 == seed) & (held_out is not None)
        with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
            for epoch in range(epochs):
                margin = margins(epoch, seed, wrong, memorised).masked_fill(out, math.nan)
                fields = {"loss": (-margin).exp().log1p(), "correct": margin > 0, "margin": margin}
                fields["count"] = (~out).int()
                writer.append(Observation("train-online", epoch + 1, epoch, fields, DataIdentity(N, TARGET), K))
            if held_out is not None:
                writer.replace_trained_on(TrainedOn(epochs, ~out, out))
                example = out.nonzero()[:, 0]
                writer.replace_held_out(HeldOutProbabilities(epochs, epochs - 1, example, held_out[example].half()))
            writer.complete()
    return folder


def probabilities(wrong: Tensor, seed: int = 9) -> Tensor:
    """Those of a model that did not see the labels, and so contradicts the wrong ones, whose true class is the next."""
    margin = margins(0, seed, wrong).clamp(-12, 12)
    logits = torch.zeros(N, K)
    logits[torch.arange(N), TARGET] = margin.clamp(min=0)
    logits[torch.arange(N), (TARGET + 1) % K] = (-margin).clamp(min=0)
    return logits.softmax(1)


def test_training_says_how_many(tmp_path: Path) -> None:
    issues = find_label_issues(write(tmp_path))
    assert issues.rule == "contradicted"
    found = IS_WRONG[issues.flagged]
    assert 0.8 * WRONG <= int(found.sum()) <= len(issues.flagged) <= 1.2 * WRONG
    low, high = issues.estimated_interval
    assert low <= WRONG / N <= high
    assert issues.estimated_share == pytest.approx(len(issues.flagged) / N, abs=1 / N)
    assert f"{100 * issues.estimated_share:.1f} % of labels are estimated to be wrong ({100 * low:.1f} to" in (
        issues.explanation
    )
    assert f"({100 * low:.1f} to {100 * high:.1f} %) estimated wrong" in repr(issues)
    assert "called wrong" not in issues.explanation


def test_labels_memorised_later_are_counted_by_the_checkpoints_before(tmp_path: Path) -> None:
    folder = write(tmp_path, memorised=True, epochs=20)
    with pytest.warns(UserWarning, match="are what the model predicts in the end: it has memor"):
        issues = find_label_issues(folder)
    assert int(IS_WRONG[issues.flagged].sum()) >= 0.8 * WRONG
    assert len(issues.flagged) <= 1.2 * WRONG
    assert any(f"most clearly at checkpoint {epoch} of 20" in issues.explanation for epoch in range(1, 6))
    assert float(issues.is_slow[issues.is_issue].float().mean()) > 0.9
    with pytest.warns(UserWarning, match="has memor"):
        early = find_label_issues(folder, checkpoint=3)
    assert int(IS_WRONG[early.flagged].sum()) >= 0.8 * WRONG


@pytest.mark.parametrize("memorised", [True, False])
def test_clean_labels_are_not_flagged_and_not_warned_of(tmp_path: Path, memorised: bool) -> None:
    issues = find_label_issues(write(tmp_path, ~IS_WRONG & IS_WRONG, memorised))
    assert len(issues.flagged) == 0
    assert (issues.estimated_share, issues.estimated_interval[0]) == (0, 0)
    assert issues.estimated_interval[1] < 0.02
    assert (
        'that were memorised within the first epoch do not show either: repeat_fit(..., hold_out="folds")'
        in issues.explanation
    )


def test_a_model_that_has_learnt_nothing_cannot_tell(tmp_path: Path) -> None:
    issues = find_label_issues(write(tmp_path, torch.arange(N) % 3 > 0))
    assert len(issues.flagged) == 0
    assert math.isnan(issues.estimated_share)
    assert math.isnan(issues.estimated_interval[1])
    assert "it cannot be told how many labels are wrong, and nothing is flagged" in issues.explanation
    assert "estimated wrong" not in repr(issues)


def write_half_contradicted(folder: Path, falling: float) -> Path:
    """Write a run that contradicts three in five labels; this share of those becomes less probable in training."""
    contradicted = torch.arange(N) % 5 < 3
    with RunWriter(folder, "seed-0", seed=0) as writer:
        for epoch in range(6):
            chance = torch.where(torch.arange(N) // 5 % 10 < 10 * falling, 0.3 - 0.04 * epoch, 0.1 + 0.02 * epoch)
            chance = torch.where(contradicted, chance, 0.5)
            margin = torch.where(contradicted, (chance / 0.55).log(), (chance / 0.2).log())
            fields = {"loss": -chance.log(), "correct": margin > 0, "margin": margin}
            fields["count"] = torch.ones(N, dtype=torch.int32)
            writer.append(Observation("train-online", epoch + 1, epoch, fields, DataIdentity(N, TARGET), K))
        writer.complete()
    return folder


def test_where_half_is_contradicted_labels_must_become_less_probable(tmp_path: Path) -> None:
    issues = find_label_issues(write_half_contradicted(tmp_path / "learnt", 0.5))
    assert issues.estimated_share == pytest.approx(0.6, abs=0.01)
    assert issues.estimated_interval == pytest.approx((0.3, 0.6), abs=0.01)
    assert len(issues.flagged) == pytest.approx(0.6 * N, abs=1)
    assert "contradicts about half of the labels, and 50 % of those became less probable" in issues.explanation
    slow = find_label_issues(write_half_contradicted(tmp_path / "slow", 0.3))
    assert len(slow.flagged) == 0
    assert math.isnan(slow.estimated_share)


def moment(name: str, evidence: float, share: float, contradicted: float = 0.1) -> Moment:
    posterior = (torch.arange(100) < 100 * share).double()
    numbers = [torch.tensor(value) for value in (share, share / 2, share * 2, evidence, contradicted)]
    return Moment.of(name, functional.Contradiction(*numbers, posterior))


def test_a_model_must_contradict_fewer_labels_than_the_most_frequent_class() -> None:
    values = margins(0, 0, IS_WRONG)
    for name, rare, number in (("balanced", 2, WRONG), ("skewed", 12, 0)):
        target = (torch.arange(N) % rare == 0).long()
        issues = find_label_issues(Scores(values, higher_is_easier=True, target=target, name="area_under_margin"))
        assert len(issues.flagged) == pytest.approx(number, abs=0.2 * WRONG * (number > 0)), name
        assert math.isnan(issues.estimated_share) == (number == 0)
    assert "or as many as the most frequent class would: train longer" in issues.explanation


def test_the_first_moment_does_not_count_where_a_later_one_shows_as_much() -> None:
    first = moment("first", 90.0, 0.2)
    assert count_by([first, moment("second", 30.0, 0.1), moment("third", 15.0, 0.04)], 100).share == pytest.approx(0.1)
    memorised = count_by([first, moment("second", 20.0, 0.1)], 100)
    assert (memorised.share, memorised.basis) == (pytest.approx(0.2), "first")


def test_moments_that_show_about_as_much_are_averaged_and_little_evidence_is_none() -> None:
    moments = [moment("a", 1.0, 0.5), moment("b", 50.0, 0.1), moment("c", 40.0, 0.2), moment("d", 20.0, 0.05)]
    count = count_by(moments, 100)
    assert (count.share, count.basis) == (pytest.approx(0.15), "b")
    assert (count.low, count.high) == (pytest.approx(0.025), pytest.approx(0.4))
    little = count_by([moment("a", 2.2, 0.1), moment("b", 2.2, 0.1, contradicted=0.5)], 100)
    assert (little.share, little.low, little.high) == (0, 0, pytest.approx(0.2))


def test_of_many_checkpoints_the_early_ones_are_looked_at(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has memor"):
        issues = find_label_issues(write(tmp_path, memorised=True, epochs=45))
    assert int(IS_WRONG[issues.flagged].sum()) >= 0.8 * WRONG


# ------------------------------------------------------------------ runs that held out


def test_runs_that_held_labels_out_decide_by_default(tmp_path: Path) -> None:
    folder = write(tmp_path, held_out=probabilities(IS_WRONG))
    issues = find_label_issues(folder)
    assert issues.rule == "held_out"
    assert 0.8 * WRONG <= int(IS_WRONG[issues.flagged].sum()) <= len(issues.flagged) <= 1.2 * WRONG
    record = EasinessRecord.load(folder, "train-online")
    assert torch.equal(find_label_issues(record, HeldOut()).flagged, issues.flagged)
    assert find_label_issues(record, Contradicted()).rule == "contradicted"


def test_held_out_runs_veto_what_training_seems_to_show(tmp_path: Path) -> None:
    issues = find_label_issues(write(tmp_path, held_out=probabilities(~IS_WRONG & IS_WRONG)))
    assert (issues.rule, len(issues.flagged)) == ("held_out", 0)
    assert "more than that would show, as the model was not trained on these labels" in issues.explanation


def test_held_out_runs_show_what_was_memorised_at_once(tmp_path: Path) -> None:
    clean = ~IS_WRONG & IS_WRONG
    with pytest.warns(UserWarning, match="has memor"):
        issues = find_label_issues(write(tmp_path, clean, held_out=probabilities(IS_WRONG)))
    assert issues.rule == "held_out"
    assert 0.8 * WRONG <= len(issues.flagged) <= 1.2 * WRONG


def test_out_of_sample_probabilities_can_be_given(tmp_path: Path) -> None:
    record, given = write(tmp_path), probabilities(IS_WRONG)
    issues = find_label_issues(record, HeldOut(), probabilities=given)
    assert int(IS_WRONG[issues.flagged].sum()) >= 0.8 * WRONG
    with pytest.raises(ValueError, match=r"^rule=HeldOut\(\) needs runs that held labels out, and there are none: "):
        find_label_issues(record, HeldOut())


# ------------------------------------------------------------------ scores alone, and rules that estimate


def test_scores_alone_are_one_moment_and_probabilities_stand_in_for_margins() -> None:
    margin = margins(0, 0, IS_WRONG)
    scores = Scores(margin, higher_is_easier=True, target=TARGET, name="area_under_margin")
    issues = find_label_issues(scores)
    assert "most clearly over the training" in issues.explanation
    assert 0.8 * WRONG <= int(IS_WRONG[issues.flagged].sum()) <= len(issues.flagged) <= 1.2 * WRONG
    loss = Scores((-margin).exp().log1p(), higher_is_easier=False, target=TARGET, name="of_mine")
    by_probabilities = find_label_issues(loss, probabilities=probabilities(IS_WRONG))
    assert "most clearly in `probabilities`" in by_probabilities.explanation
    assert len(by_probabilities.flagged) > 0
    assert len(find_label_issues(loss).flagged) == 0


def test_unlabelled_examples_are_neither_counted_nor_flagged() -> None:
    target = TARGET.clone()
    target[IS_WRONG] = -1
    scores = Scores(margins(0, 0, IS_WRONG), higher_is_easier=True, target=target, name="area_under_margin")
    assert len(find_label_issues(scores).flagged) == 0


def test_a_mixture_whose_harder_component_is_the_majority_flags_nothing() -> None:
    margin = torch.where(torch.arange(N) % 4 > 0, -4.0, 4.0) + torch.randn(
        N, generator=torch.Generator().manual_seed(0)
    )
    scores = Scores(margin, higher_is_easier=True, target=TARGET, name="area_under_margin")
    issues = find_label_issues(scores, Mixture())
    assert len(issues.flagged) == 0
    assert math.isnan(issues.estimated_share)
    assert "but 75.0 % of labels belong to it, the majority, so nothing is flagged" in issues.explanation


def test_an_estimate_far_above_what_is_flagged_is_said() -> None:
    scores = Scores(margins(0, 0, IS_WRONG) + 4, higher_is_easier=True, target=TARGET, name="area_under_margin")
    issues = find_label_issues(scores, Confident(), probabilities=probabilities(IS_WRONG))
    assert len(issues.flagged) < 0.8 * issues.estimated_share * N
    assert "but the model prefers the given label in all but those that are flagged" in issues.explanation
