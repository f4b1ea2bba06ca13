"""The scripts on the sample easiness text: what they compute from runs, and each of them in small on noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.datasets import cifar

from lightning_easiness import SelectionState
from tests.examples import archives
from tests.examples.conftest import RunScript

import experiment  # isort: skip
import sel_aum  # isort: skip
import sel_levels  # isort: skip
import sel_loss  # isort: skip
import sel_runs  # isort: skip
import sel_scatter  # isort: skip
import sel_training  # isort: skip

SCRIPTS = [sel_scatter, sel_loss, sel_training, sel_levels, sel_aum]


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize(
    ("claims", "expected"), [([1, 1], "agrees"), ([1, 0], "cannot tell"), ([1, -1, 0], "differs"), ([0], "cannot tell")]
)
def test_a_verdict_is_the_worst_that_is_decided(claims: list[int], expected: str) -> None:
    assert sel_runs.verdict(claims) == expected


def test_the_twin_draws_as_many_examples_in_each_epoch_anew() -> None:
    draw = sel_runs.twin("SET", 40)
    selection = draw(3, {"SET": {"data_use": [1.0, 0.25, 0.025]}})
    chosen = [selection.select(SelectionState(40, epoch=epoch, seed=3)) for epoch in range(4)]
    assert [len(set(one.tolist())) for one in chosen] == [40, 10, 1, 1]
    assert set(chosen[1].tolist()) != set(range(10))
    again = selection.select(SelectionState(40, epoch=1, seed=3))
    assert torch.equal(chosen[1], again)


def made_run(accuracy: float, seed: int, use: float = 1.0) -> dict[str, Any]:
    """A run of four epochs with about this accuracy."""
    value = accuracy + 0.001 * seed
    metrics = {"accuracy": value, "auroc": value, "msr": 0.1 * value, "ese": 0.001 * value}
    times = {"data_use": [1.0, use, use, use], "epoch_seconds": [4.0, use, use, use]}
    return {**metrics, **times, "accuracies": [value] * 4, "steps": 8}


def made_runs(**accuracies: float) -> dict[str, list[dict[str, Any]]]:
    return {name: [made_run(accuracy, seed) for seed in range(3)] for name, accuracy in accuracies.items()}


@pytest.mark.parametrize(("sel", "expected"), [(0.7, "differs"), (0.8, "cannot tell"), (0.9, "differs")])
def test_sel_is_judged_by_accuracy_msr_and_ese(sel: float, expected: str) -> None:
    """Here MSR and ESE rise with the accuracy: less of them costs accuracy, and more of them is not what is claimed."""
    runs = made_runs(baseline=0.8, SEL=sel)
    assert sel_loss.finding({"made up": runs}).startswith(f"{expected}: ")
    for run in runs["SEL"]:
        run |= {"accuracy": 0.8 + 0.01 * (run["msr"] > 0.0801), "msr": 0.01, "ese": 1e-6}
    assert sel_loss.finding({"made up": runs}).startswith("agrees: ")


def test_easy_examples_that_lead_to_more_errors_differ_from_the_text() -> None:
    names = {"SET": 0.8, "classic": 0.8, "EO": 0.81, "HO": 0.7, "EMO": 0.8, "MHO": 0.75}
    runs = made_runs(**names, **{f"random, size of {name}": 0.79 for name in names if name != "classic"})
    assert sel_levels.finding({"made up": runs}).startswith("agrees: ")
    assert sel_levels.errors(runs)["EO"]["by level"] == pytest.approx([19.0, 18.9, 18.8])
    runs["EO"] = [made_run(0.7, seed) for seed in range(3)]
    finding = sel_levels.finding({"made up": runs})
    assert finding.startswith("differs: ")
    assert "EO +10.00 (decided) against EMHO and +9.00 (decided) against random" in finding


def test_average_seconds_and_data_use_are_those_of_the_epochs_meant() -> None:
    measures = sel_training.measures([made_run(0.8, 0, use=0.01)], early=1)
    assert measures["ART s"] == [pytest.approx((4 + 3 * 0.01) / 4)]
    assert measures["ART s, later epochs"] == [pytest.approx(0.01)]
    assert measures["ADU %"] == [pytest.approx(1.0)]
    assert measures["epochs' worth of examples"] == [pytest.approx(1.03)]


def test_a_method_that_stops_early_has_no_later_epochs_and_no_error() -> None:
    runs = [made_run(0.8, seed) for seed in range(2)]
    for run in runs:
        run |= {"data_use": [1.0], "epoch_seconds": [4.0]}
    row = sel_training.rows({"made up": {"stop": runs}}, early=1)[0]
    assert row["ADU %"] != row["ADU %"]
    assert row["ADU % deviation"] != row["ADU % deviation"]
    assert row["ART s deviation"] == 0.0


def test_levels_are_counted_by_draws_as_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(300, 10, generator=generator), torch.arange(300) % 10
    exact, drawn = (sel_scatter.counted(logits, target, sel_scatter.WAYS[way]) for way in sel_scatter.WAYS_OF_FIGURE)
    assert sum(exact) == sum(drawn) == 300
    assert max(abs(one - other) for one, other in zip(exact, drawn, strict=True)) <= 6


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_full_training_names_a_network_and_a_data_set_that_there_are(script: Any) -> None:
    from data_sets import FORMS
    from networks import NAMES

    setting = sel_runs.SimpleNamespace(**script.SETTINGS["full"])
    trainings = getattr(script, "trainings", sel_runs.trainings_of)(setting)
    assert {one.network for one in trainings.values()} <= set(NAMES)
    assert {one.data for one in trainings.values()} <= set(FORMS)
    assert all(one.width == 1 and one.size is None and one.image_size in (None, 32) for one in trainings.values())


# ------------------------------------------------------------------ scripts


@pytest.mark.filterwarnings("ignore:The threshold", "ignore:Most labels of some classes")  # of so few examples
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_makes_its_table_its_figure_and_its_finding(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_script: RunScript
) -> None:
    pytest.importorskip("matplotlib")
    archives.fashion_mnist(tmp_path)
    archives.cifar_10(tmp_path)
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: Path(path).exists())
    less = {"seeds": 2, "epochs": 3, "early": 1, "size": 60, "width": 0.05}
    small = {**script.SETTINGS["small"], **{key: less[key] for key in less.keys() & script.SETTINGS["small"].keys()}}
    monkeypatch.setitem(script.SETTINGS, "small", small)
    made = run_script(script, tmp_path)
    finding = made.printed.splitlines()[-1]
    assert finding.startswith(experiment.VERDICTS)
    assert len(made.rows) > 3
    assert made.figure_bytes > 5000
    monkeypatch.setattr(sel_runs, "measured", None)  # what is kept is not trained again
    monkeypatch.setattr(sel_scatter, "measured", None)
    monkeypatch.setattr(sel_aum, "measured", None)
    assert run_script(script, tmp_path).printed.splitlines()[-1] == finding
