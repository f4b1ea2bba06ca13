"""The scripts of the 2018 text: findings follow from the numbers, and each script runs on small archives."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from statistics import fmean
from types import ModuleType, SimpleNamespace

import pytest
import torch

from lightning_easiness import PatternSweep, Scores
from lightning_easiness.record.networks import MatchingMatrix
from lightning_easiness.record.patterns import PatternRow
from tests.examples import archives
from tests.examples.conftest import RunScript

import count_ablation  # isort: skip
import count_grids  # isort: skip
import count_matching  # isort: skip
import count_patterns  # isort: skip
import count_runs  # isort: skip
import count_validation  # isort: skip


# -------------------------------------------------------------------------------------------------------------- Table 1


def matrix_of(of_cnns: float, with_mlp: float, spread: float = 0.02) -> MatchingMatrix:
    rates = torch.full((4, 4), of_cnns).fill_diagonal_(0.9)
    rates[0, 1:] = rates[1:, 0] = with_mlp
    return MatchingMatrix(
        ("MLP", "WRN", "DenseNet-BC", "ResNeXt"),
        rates,
        torch.full((4, 4), spread),
        "easy",
        0.1,
        "count",
        2,
        3,
        torch.full((4, 4), 0.11),
    )


@pytest.mark.parametrize(
    ("of_cnns", "with_mlp", "verdict"),
    [(0.5, 0.2, 1), (0.13, 0.12, 0), (0.5, 0.49, 0), (0.3, 0.6, -1), (0.02, 0.0, -1)],
)
def test_cnns_share_more_than_chance_and_than_with_the_mlp(of_cnns: float, with_mlp: float, verdict: int) -> None:
    found, text = count_matching.judged("cifar-10", matrix_of(of_cnns, with_mlp))
    assert found == verdict
    assert f"(CNN pairs {of_cnns:.2f} to {of_cnns:.2f}" in text


def test_in_mini_imagenet_nothing_is_asked_of_the_mlp() -> None:
    assert count_matching.judged("mini-imagenet", matrix_of(0.3, 0.6))[0] == 1


# ------------------------------------------------------------------------------------------------------ Figures 2 and 3


def sweeps_of(grey: float, tiles: float, radius: float, error: float = 0.02) -> dict[str, PatternSweep]:
    rates = {"grey": grey, "tiles": tiles, "radius": radius}
    rows = {name: (PatternRow(0.0, rate, error, 0.1, 0.5, 0.4),) for name, rate in rates.items()}
    return {name: PatternSweep(name, "easy", 0.1, "count", 4, row) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("rates", "in_cifar", "in_mini"),
    [((0.5, 0.2, 0.3), 1, -1), ((0.2, 0.5, 0.4), -1, 1), ((0.5, 0.2, 0.49), 0, -1), ((0.3, 0.31, 0.3), 0, 0)],
)
def test_colour_against_structure_and_frequencies(rates, in_cifar: int, in_mini: int) -> None:
    assert count_patterns.judged("cifar-10", sweeps_of(*rates))[0] == in_cifar
    assert count_patterns.judged("mini-imagenet", sweeps_of(*rates))[0] == in_mini


# ------------------------------------------------------------------------------------------------------------- Figure 4

SETTING = SimpleNamespace(drop=[0.3, 0.9], labels=[0.9])


def results_of(**changes: float) -> count_ablation.Results:
    means = {"easy_03": 0.55, "hard_03": 0.45, "easy_09": 0.2, "hard_09": 0.3, "random_09": 0.4,
             "labels_easy": 0.15, "labels_hard": 0.3, **changes}  # fmt: skip
    around = (-0.01, 0.0, 0.01)
    found = {("drop", which, ratio): [means[f"{which}_{ratio}".replace(".", "")] + by for by in around]
             for which in ("easy", "hard") for ratio in SETTING.drop}  # fmt: skip
    found["drop", "random", 0.9] = [means["random_09"] + by for by in around]
    for which in ("easy", "hard"):
        found["labels", which, 0.9] = [means[f"labels_{which}"] + by for by in around]
    return found


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [({}, 1), ({"hard_03": 0.55}, 0), ({"hard_03": 0.6}, -1), ({"labels_easy": 0.4}, -1), ({"hard_09": 0.405}, 0)],
)
def test_the_verdict_of_the_ablation_is_that_of_its_weakest_claim(changes: dict[str, float], verdict: int) -> None:
    found, text = count_ablation.judged("cifar-10", results_of(**changes), SETTING)
    assert found == verdict
    assert text.count(": yes") == 4 - (verdict < 1)


# ------------------------------------------------------------------------------------------------------------- Figure 5


def test_each_value_of_easiness_has_the_mean_of_its_examples() -> None:
    easiness = Scores(torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]), higher_is_easier=True)
    probability = Scores(torch.tensor([0.0, 0.5, 1.0, 0.8, 0.6]), higher_is_easier=True)
    hard, easy = count_validation.by_easiness("made-up", easiness, probability)
    assert (hard["examples"], hard["classification_probability"], hard["never_classified"]) == (2, 0.25, 0.5)
    assert easy["classification_probability"] == pytest.approx(0.8)
    assert easy["error"] == pytest.approx(0.2 / 3**0.5)


def test_the_share_of_misclassified_examples_in_the_harder_half() -> None:
    easiness = Scores(torch.arange(8.0), higher_is_easier=True)
    misclassified = torch.tensor([True, True, False, True, True, False, False, False])
    assert count_validation.share_of_hard_half(easiness, misclassified) == 0.75


@pytest.mark.parametrize(("order", "verdict"), [("easy", 1), ("random", 0), ("hard", -1)])
def test_misclassified_examples_are_hard_easy_or_undecided(order: str, verdict: int) -> None:
    values = torch.arange(400.0) / 400
    probability = {"easy": values, "hard": 1 - values, "random": (torch.arange(400) % 2).float()}[order]
    easiness, probability = (Scores(each, higher_is_easier=True) for each in (values, probability))
    finished = SimpleNamespace(num_runs=3)
    found, text = count_validation.judged("made-up", easiness, easiness, probability, finished, ["wrn-16-4"])
    assert found == verdict
    assert "chance 50 %" in text


# ------------------------------------------------------------------------------------------------------ Figures 1 and 6


def test_distances_are_those_of_pairs_of_scaled_images() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 1, 4, 4), generator=generator, dtype=torch.uint8)
    scores = Scores(torch.arange(40.0), higher_is_easier=False, target=torch.zeros(40, dtype=torch.int64))
    found = count_grids.distances(images, scores)[0]

    def scaled(index: int) -> list[float]:
        pixels = images[index].double().flatten().tolist()
        mean = fmean(pixels)
        deviation = math.sqrt(fmean((pixel - mean) ** 2 for pixel in pixels))
        return [(pixel - mean) / deviation for pixel in pixels]

    for end, indices in (("easy", range(4)), ("hard", range(36, 40))):
        wanted = fmean(math.dist(scaled(a), scaled(b)) for a, b in combinations(indices, 2))
        assert found[end] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("means", "verdict"), [((1, 2, 3), 1), ((3, 2, 1), -1), ((1, 2, 2), 0)])
def test_easy_images_are_close_and_hard_ones_far(means: tuple[int, int, int], verdict: int) -> None:
    rows = [
        {
            end: mean + by * (1 + place) / 100
            for place, (end, mean) in enumerate(zip(count_grids.ENDS, means, strict=True))
        }
        for by in (-1, 0, 1)
    ]
    assert count_grids.judged("made-up", rows)[0] == verdict


# --------------------------------------------------------------------------------------------------------------- whole


@pytest.mark.filterwarnings("ignore:.*")  # twenty examples are few for all that is said of them
@pytest.mark.parametrize("script", [count_matching, count_grids, count_patterns, count_ablation, count_validation])
def test_each_script_runs_from_archives_to_its_finding(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_script: RunScript
) -> None:
    archives.fashion_mnist(tmp_path)
    archives.cifar_10_folders(tmp_path)
    settings = getattr(script, "SETTINGS", count_runs.EARLY)
    small = {"size": None, "image_size": 8, "epochs": 1, "seeds": 2, "early_epochs": 1, "early_seeds": 2,
             "batch_size": 8, "finished_epochs": 1, "finished_seeds": 2, "width": 0.05, "drop": [0.5],
             "labels": [0.5]}  # fmt: skip
    small = {name: value for name, value in small.items() if name in settings["small"]}
    if "widths" in settings["small"]:
        small["widths"] = dict.fromkeys(settings["small"]["widths"], 0.05)
    monkeypatch.setitem(settings, "small", {**settings["small"], **small})
    made = run_script(script, tmp_path, "--accelerator", "cpu")
    assert made.printed.startswith(("agrees: ", "differs: ", "cannot tell: "))
    assert made.figure_bytes > 1000
    assert len(made.rows) > 1


def test_the_full_settings_are_the_networks_of_the_text() -> None:
    early = count_runs.early_trainings(SimpleNamespace(**count_runs.EARLY["full"]))
    assert len(early) == 4 + 6
    assert {(training.width, training.scheduled, training.size) for training in early.values()} == {(1.0, 300, None)}
    assert {training.batch_size for training in early.values() if training.data == "mini-imagenet"} == {64}
    ablated = count_ablation.trainings(SimpleNamespace(**count_ablation.SETTINGS["full"]))
    assert ablated["ablated-cifar-10"].epochs == 300
    assert count_ablation.SETTINGS["full"]["seeds"] == 5
    assert count_validation.SETTINGS["full"]["finished_seeds"] == 15
