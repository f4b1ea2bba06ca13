"""Examples without one class each, as sequences: what needs classes is not advised, and its refusal says why."""

import math
from pathlib import Path

import pytest
import torch

from lightning_easiness import Confident, EasinessRecord, HeldOut, find_label_issues
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import HeldOutProbabilities, Observation, TrainedOn
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import whole

N, EPOCHS = 120, 4
NONE = "only where each example has one class, and these runs record no classes"
WHY = f"held-out probabilities are recorded {NONE}"


def write(
    folder: Path, *, num_classes: int | None = None, holds_out: bool = True, written: int = 0, wrong: int = 10
) -> Path:
    """Write two runs that contradict the last `wrong` examples; the first `written` keep held-out probabilities."""
    target = None if num_classes is None else torch.arange(N) % num_classes
    for seed in range(2):
        out = (torch.arange(N) % 2 == seed) & holds_out
        margin = torch.where(torch.arange(N) < N - wrong, 1.0, -1.0) * torch.linspace(3, 5, N)
        with RunWriter(folder, f"seed-{seed}", seed=seed) as writer:
            for epoch in range(EPOCHS):
                values = (margin + 0.1 * epoch).masked_fill(out, math.nan)
                fields = {"loss": (-values).exp().log1p(), "correct": values > 0, "margin": values}
                fields["count"] = (~out).int()
                loss = "mean_cross_entropy" if num_classes is None else "cross_entropy"
                identity = DataIdentity(N, target)
                writer.append(Observation("train-online", epoch + 1, epoch, fields, identity, num_classes, loss))
            if holds_out:
                writer.replace_trained_on(TrainedOn(EPOCHS, ~out, out))
            if num_classes is not None and seed < written:
                rows = torch.nn.functional.one_hot(torch.arange(N) % num_classes, num_classes)[out].half()
                writer.replace_held_out(HeldOutProbabilities(EPOCHS, EPOCHS - 1, out.nonzero()[:, 0], rows))
            writer.complete()
    return folder


def test_held_out_runs_of_sequences_say_why_their_rule_does_not_apply(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with pytest.raises(ValueError, match=whole(f"rule=HeldOut() does not apply: {WHY}: take rule=Contradicted().")):
        find_label_issues(folder, HeldOut())
    issues = find_label_issues(folder)
    assert issues.rule == "contradicted"
    assert f" Runs held labels out, but {WHY}: so rule 'contradicted' decides." in issues.explanation


def test_held_out_runs_without_their_probabilities_are_counted(tmp_path: Path) -> None:
    folder, why = write(tmp_path, num_classes=3, written=1), "1 of 2 runs have no held-out probabilities: finish them"
    with pytest.raises(ValueError, match=whole(f"rule=HeldOut() does not apply: {why}: take rule=Contradicted().")):
        find_label_issues(folder, HeldOut())
    assert f"Runs held labels out, but {why}: so rule" in find_label_issues(folder).explanation


def test_nothing_is_said_of_held_out_runs_where_there_are_none_or_they_decide(tmp_path: Path) -> None:
    for name, options in {"none": {"holds_out": False}, "both": {"num_classes": 3, "written": 2}}.items():
        issues = find_label_issues(write(tmp_path / name, **options))
        assert issues.rule == ("held_out" if name == "both" else "contradicted")
        assert "held labels out, but" not in issues.explanation


def test_corrections_of_sequences_are_refused_without_advice_that_cannot_work(tmp_path: Path) -> None:
    issues = find_label_issues(write(tmp_path / "sequences", holds_out=False))
    assert not issues.has_classes
    sentence = f"corrections() needs suggested labels, which are known {NONE}."
    with pytest.raises(ValueError, match=whole(sentence)):
        issues.corrections()
    issues = find_label_issues(write(tmp_path / "classes", num_classes=3, holds_out=False))
    assert issues.has_classes
    with pytest.raises(ValueError, match=r"EasinessCallback\(probabilities=True\)"):
        issues.corrections()


def test_averaged_probabilities_are_not_advised_for_sequences(tmp_path: Path) -> None:
    folder = write(tmp_path)
    record = EasinessRecord.load(folder, "train-online")
    sentence = f"Probabilities are averaged {NONE}."
    for refused in (
        record.probabilities,
        lambda: find_label_issues(folder, Confident()),
        lambda: find_label_issues(folder, score="self_confidence"),
    ):
        with pytest.raises(ValueError, match="one class") as error:
            refused()
        assert "probabilities=True" not in str(error.value)
    with pytest.raises(ValueError, match=whole(sentence)):
        record.probabilities()


def test_held_out_runs_are_advised_only_where_they_can_decide(tmp_path: Path) -> None:
    for num_classes in (None, 3):
        folder = write(tmp_path / str(num_classes), num_classes=num_classes, holds_out=False, wrong=0)
        explanation = find_label_issues(folder).explanation
        assert "do not show either" in explanation
        assert ("repeat_fit" in explanation) == (num_classes is not None)
