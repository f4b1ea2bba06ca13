"""The rules themselves: what they choose, what they refuse, and that each choice is alike wherever it is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import Ablation, Hardest, Keep, Relabel, Scores, find_label_issues
from lightning_easiness.functional import ablate
from lightning_easiness.select.base import SelectionState
from tests.made_runs import whole
from tests.selecting import scores
from tests.small import Points

STATE = SelectionState(53, target=Points().y)


@pytest.mark.parametrize("remove", ["easy", "hard", "random"])
@pytest.mark.parametrize("higher_is_easier", [True, False])
def test_an_ablation_is_the_function_with_the_direction_of_the_scores(remove: str, higher_is_easier: bool) -> None:
    given = scores(higher_is_easier=higher_is_easier)
    found = Ablation(given, 0.4, remove=remove, sampling="top", seed=3).select(STATE)
    assert torch.equal(found, ablate(given.values, 0.4, remove, "top", higher_is_easier=higher_is_easier, seed=3))
    assert len(found) == 32, "the random baseline is of equal size"
    if remove == "easy":  # values grow with the index
        assert found.tolist() == (list(range(32)) if higher_is_easier else list(range(21, 53)))


def test_ties_of_an_ablation_are_broken_by_the_scores_tie_breaker() -> None:
    tied = Scores(torch.ones(4), higher_is_easier=True, tie_breaker=torch.tensor([4.0, 1, 3, 2]))
    assert Ablation(tied, 0.5, "easy", "top").select(SelectionState(4)).tolist() == [0, 2]


@pytest.mark.parametrize("which", ["easy", "hard", "random"])
def test_relabelled_are_those_that_an_ablation_removes(which: str) -> None:
    for sampling in ("beta", "proportional", "top"):
        rule = Relabel(scores(), 0.3, which=which, noise="next_class", sampling=sampling, seed=2)
        kept = Ablation(scores(), 0.3, remove=which, sampling=sampling, seed=2).select(STATE)
        assert sorted([*kept.tolist(), *rule.chosen_indices.tolist()]) == list(range(53))
        assert torch.equal(rule.changed_indices, rule.chosen_indices), "the next class is always another one"
        assert torch.equal(rule.new_labels[rule.chosen_indices], (Points().y[rule.chosen_indices] + 1) % 4)
        assert torch.equal(rule.new_labels[kept], Points().y[kept])
        assert torch.equal(rule.target, Points().y), "the true labels"
        selected = rule.select(STATE)
        assert selected.kept.tolist() == list(range(53))
        assert torch.equal(selected.labels, rule.new_labels)
        assert selected.weights is None


def test_uniform_noise_may_be_the_true_label() -> None:
    rule = Relabel(scores(4000), 0.5, which="random", noise="uniform")
    assert len(rule.chosen_indices) == 2000
    assert len(rule.changed_indices) / 2000 == pytest.approx(0.75, abs=0.04), "4 classes"
    assert set(rule.changed_indices.tolist()) <= set(rule.chosen_indices.tolist())


def test_given_labels() -> None:
    """None below 0 is taken, and none out of range; where labels are not known there may be more classes."""
    noise = torch.full((53,), 2)
    noise[50:] = -1
    rule = Relabel(scores(), 0.2, which="hard", sampling="top", noise=noise)
    assert rule.chosen_indices.tolist() == list(range(42, 53))
    expected = Points().y.clone()
    expected[42:50] = 2
    assert torch.equal(rule.new_labels, expected)
    assert len(Relabel(scores(), 0.3, noise=SOME_OUT_OF_RANGE, num_classes=10).new_labels) == 53
    assert len(Relabel(unlabelled(), 0.3, noise=SOME_OUT_OF_RANGE).new_labels) == 53


def test_scores_from_a_folder(tmp_path: Path) -> None:
    from lightning_easiness import EasinessCallback, EasinessRecord
    from tests.small import Net, loader, trainer

    trainer(callbacks=[EasinessCallback(tmp_path)], max_epochs=1).fit(Net(), loader())
    given = EasinessRecord.load(tmp_path).score("el2n")
    for folder in (tmp_path, str(tmp_path)):
        rule = Ablation(folder, 0.3, score="el2n")
        assert torch.equal(rule.select(STATE), Ablation(given, 0.3).select(STATE))
        assert len(Relabel(folder, 0.3).chosen_indices) == 16


SOME_OUT_OF_RANGE = torch.zeros(53, dtype=torch.int64)
SOME_OUT_OF_RANGE[[5, 11]] = 9


def nan_scores() -> Scores:
    given = scores()
    given.values[7] = torch.nan
    return given


def unlabelled() -> Scores:
    return scores(target=torch.where(torch.arange(53) == 9, -1, Points().y))


LABEL_9 = "Relabel gives example 5 the label 9, but there are 4 classes."
OTHER_DATA = "The `scores` of {} and the data set are not of the same data: "

# what is made, the error and its beginning; arguments that a function of `functional` refuses are tested there
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "ratio of one": (lambda: Ablation(scores(), 1.0), ValueError, "The `ratio` of ablate must be in [0, 1); got 1.0"),
    "which": (
        lambda: Relabel(scores(), 0.1, "medium"),
        ValueError,
        "The `which` of Relabel must be 'easy', 'hard' or 'random'; got 'medium'.",
    ),
    "NaN": (
        lambda: Ablation(nan_scores(), 0.1),
        ValueError,
        "The `scores` of Ablation hold 1 NaN of 53, the first at example 7, which can be neither kept nor removed by",
    ),
    "a tensor": (
        lambda: Ablation(torch.rand(4), 0.5),
        TypeError,
        "The `scores` of Ablation must be Scores, as record.score('mean_loss') returns, or the folder of a record; got",
    ),
    "unknown label": (
        lambda: Relabel(unlabelled(), 0.5),
        ValueError,
        "The `scores` of Relabel do not have the label of example 9; take them from an evaluation pass,",
    ),
    "label out of range": (
        lambda: Relabel(scores(), 0.5, num_classes=3),
        ValueError,
        "The `target` of relabel must be in [0, 3), the classes; got 3",
    ),
    "given label out of range": (lambda: Relabel(scores(), 0.3, noise=SOME_OUT_OF_RANGE), ValueError, LABEL_9),
    "given label out of the range that is given": (
        lambda: Relabel(scores(), 0.3, noise=SOME_OUT_OF_RANGE, num_classes=4),
        ValueError,
        LABEL_9,
    ),
    "other length": (
        lambda: Relabel(scores(), 0.5).select(SelectionState(54)),
        ValueError,
        OTHER_DATA.format("Relabel") + "the first has 53 examples",
    ),
    "other labels": (
        lambda: Ablation(scores(), 0.5).select(SelectionState(53, target=(Points().y + 1) % 4)),
        ValueError,
        OTHER_DATA.format("Ablation") + "example 0 has target",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    make, kind, message = BAD[case]
    with pytest.raises(kind) as error:
        make()
    assert str(error.value).startswith(message)


def test_keeping_what_a_rule_that_could_not_tell_leaves_is_warned_of_where_nothing_is_left_out() -> None:
    margins = torch.randn(400, generator=torch.Generator().manual_seed(0)) - 1
    alike = Scores(margins, higher_is_easier=True, name="area_under_margin", target=torch.arange(400) % 3)
    issues = find_label_issues(alike)
    assert issues.cannot_tell
    message = (
        "Keep leaves nothing out: rule 'contradicted' of its `data` cannot tell how many labels are wrong, and flags"
        " none; find_label_issues(record, Hardest(0.3)) flags as many as you say."
    )
    for everything in (issues.unflagged, torch.ones(400, dtype=torch.bool)):
        with pytest.warns(UserWarning, match=whole(message)) as warned:
            Keep(everything, data=issues)
        assert len(warned) == 1
        assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Keep(issues.unflagged[1:], data=issues)
        Keep(issues.unflagged, alike.target, data=issues)
        Keep(issues.unflagged, data=alike)
        some = find_label_issues(alike, Hardest(0.3))
        Keep(some.unflagged, data=some)


def test_labels_that_are_not_known_are_not_compared() -> None:
    target = torch.where(torch.arange(53) % 2 == 0, -1, Points().y)
    assert len(Ablation(scores(), 0.5).select(SelectionState(53, target=target))) == 26
    assert len(Ablation(unlabelled(), 0.5).select(STATE)) == 26
