"""How many labels are flagged: by the moments of training, by held-out runs, and nothing where neither can tell."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import Confident, Contradicted, EasinessRecord, HeldOut, Mixture, Scores, find_label_issues
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import HeldOutProbabilities, Observation, TrainedOn
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
    assert 'memorised within an epoch would not show: repeat_fit(..., hold_out="folds")' in issues.explanation


def test_a_model_that_has_learnt_nothing_cannot_tell(tmp_path: Path) -> None:
    issues = find_label_issues(write(tmp_path, torch.arange(N) % 3 > 0))
    assert len(issues.flagged) == 0
    assert math.isnan(issues.estimated_share)
    assert math.isnan(issues.estimated_interval[1])
    assert "it cannot be told how many labels are wrong, and nothing is flagged" in issues.explanation
    assert "estimated wrong" not in repr(issues)


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
    assert "label errors would show, as the model was not trained on these labels" in issues.explanation


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
