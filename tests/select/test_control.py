"""Controls of rules in real fits: as many examples, as much weight, and the epochs, labels and passes of the rule."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import (
    Control,
    EasinessCallback,
    EasinessDataModule,
    ImportanceSampling,
    InfoBatch,
    Keep,
    OrderDP,
    RePB,
    SampleEasinessTraining,
    Selected,
    Selection,
    SelectionState,
    Undecided,
)
from lightning_easiness.callbacks.recipe import datamodule_recipe
from tests.rule_fits import EVERYTHING, SIZE, below_mean, half_up, trained
from tests.selecting import IndexedBase, fit
from tests.small import loader


def test_a_control_trains_on_as_many_as_its_rule_would_keep_of_what_it_sees_itself(tmp_path: Path) -> None:
    module = trained(Control(InfoBatch(0.6, final_epochs=1)), tmp_path)
    for epoch in (1, 2, 3):
        below, found = below_mean(module, epoch), set(module.epoch(epoch))
        assert len(found) == SIZE - half_up(0.6 * len(below))
        assert not set(EVERYTHING) - below <= found, "the rule itself keeps all of these"
    assert sorted(module.epoch(4)) == EVERYTHING
    assert not module.has_weights(4)


WEIGHING: dict[str, Callable[[], Selection]] = {
    "InfoBatch": lambda: InfoBatch(0.6, final_epochs=0),
    "ImportanceSampling": lambda: ImportanceSampling(0.5),
    "RePB": lambda: RePB(0.6),
}


class KeepsDecisions(Control):
    """Keeps what its rule decided, number of examples and their total weight, beside what it does itself."""

    def __init__(self, rule: Selection) -> None:
        super().__init__(rule)
        self.totals: list[tuple[int, float]] = []
        decide = rule.select

        def select(state: SelectionState) -> Any:
            decision = Selected.of(decide(state))
            if decision.weights is not None:
                self.totals.append((len(decision.kept), fsum(decision.weights[decision.kept].tolist())))
            return decision

        rule.select = select  # type: ignore[method-assign]


@pytest.mark.parametrize("name", WEIGHING)
def test_the_examples_of_a_control_have_all_the_mean_weight_of_what_its_rule_would_keep(
    name: str, tmp_path: Path
) -> None:
    control = KeepsDecisions(WEIGHING[name]())
    module = trained(control, tmp_path)
    assert len(control.totals) == 4
    for epoch, (count, total) in enumerate(control.totals, 1):
        weights = list(module.weight_of(epoch).values())
        assert len(weights) == count < SIZE
        assert max(weights) == min(weights)
        assert fsum(weights) == pytest.approx(total, rel=1e-5), "so the gradients of an epoch are as large"
    assert total > 1.05 * count


def test_the_control_of_a_rule_that_weighs_is_refused_where_nothing_takes_weights(tmp_path: Path) -> None:
    callbacks = [EasinessCallback(tmp_path, probe=None)]
    with pytest.raises(TypeError, match="Control of InfoBatch gives weights to the examples, but the training step"):
        fit(IndexedBase(), Control(InfoBatch()), callbacks=callbacks, max_epochs=4)


def test_a_control_keeps_the_labels_and_the_passes_of_its_rule(tmp_path: Path) -> None:
    labels = torch.full((SIZE,), -1).index_fill(0, torch.arange(20), 3)
    control = Control(Keep(range(10, 30), labels))
    module = fit(IndexedBase(), control, max_epochs=1)[0]
    seen = {index: label for _, indices, given in module.batches for index, label in zip(indices, given, strict=True)}
    assert len(seen) == 20
    assert set(seen) != set(range(10, 30))
    assert {label for index, label in seen.items() if index < 20} == {3}
    rule = SampleEasinessTraining(early_epochs=1, others_share=0.4)
    assert Control(rule).needs == type(rule.needs)(every="epoch", fields=rule.needs.fields, passes=True, weights=True)


def test_the_recipe_tells_controls_of_different_rules_apart() -> None:
    recipes = [
        datamodule_recipe(EasinessDataModule(loader(), Control(rule)))["selection"]
        for rule in (OrderDP(0.3), OrderDP(0.4), Undecided(0.3))
    ]
    assert [one["rule"]["class"].split(".")[-1] for one in recipes] == ["OrderDP", "OrderDP", "Undecided"]
    assert [one["rule"]["share"] for one in recipes] == [0.3, 0.4, 0.3]


def test_the_control_of_no_selection_is_refused() -> None:
    with pytest.raises(TypeError, match=r"The `rule` of Control must be a selection; got 0\.5: as Control\(InfoBatch"):
        Control(0.5)  # type: ignore[arg-type]
