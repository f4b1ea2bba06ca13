"""Runs of other recipes or data: never averaged without being named, and always said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord
from lightning_easiness.record.recipes import differences
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import append, load_and_catch, loads_with_warnings, make_target, whole

STEPS = (0, 120)
RECIPE: dict[str, Any] = {"module": "Net", "hyperparameters": {"lr": 0.1}, "max_epochs": 5}


def write(folder: Path, run: str, *, complete: bool = True, at: int = 0, **changes: Any) -> None:
    """Write a run of RECIPE with these changes, at some second; `recipe=None` is of an earlier version."""
    target = changes.pop("target", make_target())
    recipe = {**RECIPE, **changes} if changes.pop("recipe", True) else None
    with RunWriter(folder, run, recipe=recipe) as writer:
        for step in STEPS:
            append(writer, step, target=target)
        if complete:
            writer.complete()
    os.utime(folder / run / "run.json", (1000 + at, 1000 + at))


def different(runs: Sequence[str], one: str, other: str, why: str) -> str:
    named = f"Run{'s' * (len(runs) > 1)} {', '.join(map(repr, runs))}"
    them = "it" if len(runs) == 1 else "them"
    return f"Left out: {named}, as run '{one}' and run '{other}' {why}: to load {them} instead, runs={list(runs)!r}."


def of_recipes(runs: Sequence[str], kept: str, difference: str) -> str:
    return different(runs, runs[0], kept, f"are of different recipes ({difference})")


def test_runs_of_one_recipe_are_loaded_without_a_word(tmp_path: Path) -> None:
    for run in "abc":
        write(tmp_path, run)
    record = loads_with_warnings(tmp_path)
    assert (record.runs, record.recipes) == (["a", "b", "c"], [RECIPE] * 3)


def test_the_largest_group_of_complete_runs_is_loaded(tmp_path: Path) -> None:
    for run in "ab":
        write(tmp_path, run)
    for run in "cde":
        write(tmp_path, run, complete=run == "c", at=9, max_epochs=2)
    message = of_recipes(["c", "d", "e"], "a", "max_epochs: 2 and 5")
    assert loads_with_warnings(tmp_path, message).runs == ["a", "b"]


@pytest.mark.parametrize(("later", "kept"), [("a", "ab"), ("d", "cd")])
def test_of_groups_of_one_size_it_is_the_latest(tmp_path: Path, later: str, kept: str) -> None:
    for run in "abcd":
        write(tmp_path, run, at=1 if run == later else 0, max_epochs=5 if run in "ab" else 2)
    assert load_and_catch(tmp_path)[0].runs == list(kept)


def test_where_no_run_is_complete_it_is_the_largest_group(tmp_path: Path) -> None:
    for run in "abc":
        write(tmp_path, run, complete=False, at=9 if run == "c" else 0, max_epochs=2 if run == "c" else 5)
    assert load_and_catch(tmp_path)[0].runs == ["a", "b"]


def test_each_other_group_has_its_sentence(tmp_path: Path) -> None:
    for run in "abc":
        write(tmp_path, run)
    write(tmp_path, "d", hyperparameters={"lr": 0.2})
    write(tmp_path, "e", max_epochs=6)
    write(tmp_path, "f", target=make_target().index_fill(0, torch.tensor([3]), 0))
    sentences = [
        of_recipes(["d"], "a", "hyperparameters.lr: 0.2 and 0.1"),
        of_recipes(["e"], "a", "max_epochs: 6 and 5"),
        different(
            ["f"],
            "f",
            "a",
            "are not of the same data: example 3 has target 0 in the first and 3 in the second (1 of 37 differ)",
        ),
    ]
    assert loads_with_warnings(tmp_path, *sentences).runs == ["a", "b", "c"]


def test_targets_that_only_another_run_of_the_group_knows_tell_data_apart(tmp_path: Path) -> None:
    target = make_target()
    write(tmp_path, "a", target=torch.where(torch.arange(37) < 30, target, -1))
    write(tmp_path, "b", target=target)
    write(tmp_path, "c", target=target.index_fill(0, torch.tensor([31]), 0))
    record, (message,) = load_and_catch(tmp_path)
    assert record.runs == ["a", "b"]
    assert message.startswith("Left out: Run 'c', as run 'c' and run 'b' are not of the same data: example 31 has")


def test_runs_that_are_named_are_loaded_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", max_epochs=2)
    message = (
        "Run 'b' and run 'a' are of different recipes (max_epochs: 2 and 5): they are in one record only because both"
        " were asked for by name."
    )
    assert loads_with_warnings(tmp_path, message, runs=["a", "b"]).num_runs == 2
    records = [EasinessRecord.load(tmp_path, runs=run) for run in "ab"]
    with pytest.warns(UserWarning, match=whole(message)):
        assert EasinessRecord.merge(*records).num_runs == 2


def test_runs_without_a_recipe_are_of_the_largest_group_with_a_remark(tmp_path: Path) -> None:
    for run in "abc":
        write(tmp_path, run, recipe=None)
    assert loads_with_warnings(tmp_path).recipes == [{}] * 3, "alone, without a word"
    for run in "def":
        write(tmp_path, run, max_epochs=2 if run == "f" else 5)
    remark = (
        "Runs 'a', 'b', 'c' of an earlier version have no recipe: they are taken to be of that of the others, as run"
        " 'd'."
    )
    record = loads_with_warnings(tmp_path, of_recipes(["f"], "d", "max_epochs: 2 and 5"), remark)
    assert record.runs == ["a", "b", "c", "d", "e"]


def test_the_seed_of_a_run_is_no_difference(tmp_path: Path) -> None:
    for seed in range(3):
        recipe = {**RECIPE, "hyperparameters": {"seed": seed}, "selection": {"class": "Ablation", "seed": seed}}
        with RunWriter(tmp_path, f"seed-{seed}", seed=seed, recipe=recipe) as writer:
            append(writer)
            writer.complete()
    assert loads_with_warnings(tmp_path).num_runs == 3


def test_a_saved_record_keeps_its_recipes(tmp_path: Path) -> None:
    write(tmp_path / "one", "a")
    EasinessRecord.load(tmp_path / "one").save(tmp_path / "other")
    record = EasinessRecord.load(tmp_path / "other")
    assert record.recipes == [RECIPE]
    record.recipes[0]["hyperparameters"]["lr"] = 7
    assert record.recipes == [RECIPE], "a copy"


def test_a_run_that_is_continued_with_another_recipe_is_like_no_other(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")
    write(tmp_path, "c")
    sentence = (
        f"Run 'c' in '{tmp_path}' is continued with another recipe (hyperparameters.lr: 0.1 then, 0.2 now), so"
        " EasinessRecord.load will not take it together with other runs: give another `run` or `dirpath` to record the"
        " two apart."
    )
    other = {**RECIPE, "hyperparameters": {"lr": 0.2}}
    with pytest.warns(UserWarning, match=whole(sentence)), RunWriter(tmp_path, "c", resume=True, recipe=other):
        pass
    with RunWriter(tmp_path, "c", resume=True, recipe=other):  # and again, without a word
        pass
    write(tmp_path, "d", hyperparameters={"lr": 0.2})
    write(tmp_path, "e", hyperparameters={"lr": 0.2})
    record, messages = load_and_catch(tmp_path)
    assert len(record.runs) == 2
    assert len(messages) == 2, "three groups"
    assert EasinessRecord.load(tmp_path, runs="c").recipes[0]["changed"] == {"hyperparameters.lr": 0.1}


def test_a_run_that_is_made_longer_is_of_the_new_length(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with RunWriter(tmp_path, "a", resume=True, recipe={**RECIPE, "max_epochs": 9}):
        pass
    assert EasinessRecord.load(tmp_path).recipes == [{**RECIPE, "max_epochs": 9}]


def test_the_layers_of_a_module_that_is_sharded_are_not_known() -> None:
    whole, sharded = {"module": "Net", "layers": {"net": "Linear(2, 3)"}, "num_parameters": 9}, {"module": "Net"}
    assert not differences(whole, sharded)
    assert not differences(sharded, whole)
    assert [one.name for one in differences(whole, {**whole, "layers": {}})] == ["layers.net"], "a layer less"
