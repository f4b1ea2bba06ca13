"""The scripts of the 2019 text: findings follow from the numbers, and each script runs on small archives."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord, Scores, matching_curves, matching_with_end
from lightning_easiness.record.writer import RunWriter
from tests.examples import archives
from tests.examples.conftest import RunScript
from tests.made_runs import append

import data_sets  # isort: skip
import loss_ablation  # isort: skip
import loss_beginning_and_end  # isort: skip
import loss_grids  # isort: skip
import loss_matching  # isort: skip
import loss_runs  # isort: skip

N, EPOCHS, SEEDS = 400, 3, 4


def record_of(folder: Path, model: int, *, shared: float = 0, kept: float = 0, changing: float = 0) -> EasinessRecord:
    """Losses of which a part is shared with all models, and a part with other epochs or other seeds of the model."""

    def noise(stream: int) -> torch.Tensor:
        return torch.rand(N, generator=torch.Generator().manual_seed(stream))

    for seed in range(SEEDS):
        with RunWriter(folder / f"model-{model}", f"seed-{seed}", seed=seed) as writer:
            for epoch in range(EPOCHS):
                loss = shared * noise(0) + kept * noise(10 + model) + changing * noise(100 * (model + 1) + epoch)
                loss += 0.1 * noise(10_000 * (model + 1) + 10 * seed + epoch)
                target = (torch.arange(N) // 7) % 5
                append(writer, 10 * (epoch + 1), epoch=epoch, fields={"loss": loss}, target=target)
            writer.complete()
    return EasinessRecord.load(folder / f"model-{model}")


@pytest.mark.parametrize(("shared", "verdict"), [(5.0, "agrees: "), (0.0, "differs: "), (0.25, "cannot tell: ")])
def test_networks_that_share_what_is_easy_agree_with_the_text(tmp_path: Path, shared: float, verdict: str) -> None:
    curves = matching_curves(
        {f"net-{model}": record_of(tmp_path, model, shared=shared, changing=1) for model in range(3)}
    )
    found = loss_matching.finding(curves)
    assert found.startswith(verdict), found
    assert "of 18 rates of two networks" in found


@pytest.mark.parametrize(("part", "agrees"), [("changing", True), ("kept", False)])
def test_what_changes_until_the_end_is_less_than_what_other_seeds_share(
    tmp_path: Path, part: str, agrees: bool
) -> None:
    records = {f"net-{model}": record_of(tmp_path, model, **{part: 1.0}) for model in range(2)}
    seeds = {name: matching_curves({name: record}) for name, record in records.items()}
    rows = loss_beginning_and_end.table(matching_with_end(records), seeds)
    assert len(rows) == 2 * 2 * (EPOCHS - 1)
    assert rows[0]["halves_of_seeds_at_the_end"] == seeds["net-0"].curves("easy")["net-0, other seeds"][-1].matched.rate
    assert loss_beginning_and_end.finding(rows, early=1).startswith("agrees: ") == agrees


# ------------------------------------------------------------------------------------------------------------ ablation


def results(**means: float) -> list[dict[str, Any]]:
    row = {"ratio": 0.5, "spread": 0.01, "num_seeds": 3}
    everything = {**row, "method": "everything", "ratio": 0.0, "mean": 0.9}
    return [everything, *({**row, "method": method, "mean": mean} for method, mean in means.items())]


@pytest.mark.parametrize(
    ("means", "verdict", "said"),
    [
        ({"easy": 0.6, "hard": 0.5, "random": 0.7, "stepwise": 0.8}, "agrees: ", "easy at 50% is below random"),
        ({"easy": 0.7, "hard": 0.5, "random": 0.7, "stepwise": 0.8}, "agrees: ", "easy at 50% is equal to random"),
        ({"easy": 0.7, "hard": 0.5, "random": 0.7, "stepwise": 0.71}, "cannot tell: ", "hard below random at 50%"),
        ({"easy": 0.8, "hard": 0.8, "random": 0.7, "stepwise": 0.9}, "differs: ", "easy at 50% is above random"),
        (
            {"easy": 0.6, "hard": 0.5, "random": 0.7, "stepwise": 0.5},
            "differs: ",
            "above random at none, the reverse at 50%",
        ),
    ],
)
def test_the_finding_of_the_ablation_is_what_its_claims_come_to(
    means: dict[str, float], verdict: str, said: str
) -> None:
    found = loss_ablation.finding(results(**means))
    assert found.startswith(verdict)
    assert said in found


# --------------------------------------------------------------------------------------------------------------- grids


def pictures_of(alike: str) -> tuple[data_sets.Pictures, Scores]:
    """Pictures of which the easiest tenth, or the hardest, of each class are the same, and the others noise."""
    size = 200
    images = torch.randint(256, (size, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    target, loss = torch.arange(size) % 2, torch.arange(size) / size
    same = slice(0, 20) if alike == "easy" else slice(size - 20, size)
    images[same] = images[:1]
    scores = Scores(loss, higher_is_easier=False, target=target, name="mean_loss")
    return data_sets.Pictures(images, target, images, target, ("one", "two")), scores


def test_pictures_that_are_alike_have_an_average_that_is_not_uniform() -> None:
    pictures, scores = pictures_of("easy")
    row = loss_grids.uniformity(pictures, scores)[0]
    one = pictures.images[0, 0].double().div(255).flatten().tolist()
    mean = math.fsum(one) / len(one)
    assert row["easy"] == pytest.approx(math.sqrt(math.fsum((x - mean) ** 2 for x in one) / (len(one) - 1)))
    assert row["random"] < 0.5 * row["easy"]
    assert row["hard"] < row["random"] + 3 * row["random_spread"]


@pytest.mark.parametrize(("alike", "verdict"), [("easy", "agrees: "), ("hard", "differs: ")])
def test_the_finding_of_the_grids_is_of_all_classes(alike: str, verdict: str) -> None:
    rows = [{"data": "made-up", **row} for _ in range(3) for row in loss_grids.uniformity(*pictures_of(alike))]
    for place, row in enumerate(rows):  # classes differ, else nothing is decided
        row["hard"] *= 0.8 + 0.01 * place if alike == "easy" else 1 + 0.01 * place
        row["hard_of_equal_contrast"] *= 0.8 + 0.01 * place if alike == "easy" else 1 + 0.01 * place
    found = loss_grids.finding(rows)
    assert found.startswith(verdict), found


# --------------------------------------------------------------------------------------------------------------- whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*keeps no example of class")  # of twenty examples
@pytest.mark.parametrize("script", [loss_grids, loss_matching, loss_beginning_and_end, loss_ablation])
def test_each_script_runs_from_archives_to_its_finding(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_script: RunScript
) -> None:
    archives.fashion_mnist(tmp_path)
    archives.cifar_10_folders(tmp_path)
    small = {"size": None, "image_size": 8, "epochs": 2, "early": 1, "seeds": 2, "ratios": (0.5,)}
    small["widths"] = dict.fromkeys(script.SETTINGS["small"]["widths"], 0.05)
    monkeypatch.setitem(script.SETTINGS, "small", {**script.SETTINGS["small"], **small})
    made = run_script(script, tmp_path, "--accelerator", "cpu")
    assert made.printed.startswith(("agrees: ", "differs: ", "cannot tell: "))
    assert made.figure_bytes > 5000
    assert len(made.rows) > 3


def test_the_full_settings_are_the_networks_of_the_text() -> None:
    assert {*loss_runs.FULL["widths"].values()} == {1.0}
    assert set(loss_beginning_and_end.PRINTED) == {loss_runs.TITLES[name] for name in loss_runs.FULL["widths"]}
    assert (loss_runs.FULL["seeds"], loss_runs.FULL["epochs"]) == (10, 300)
    assert loss_matching.SETTINGS["full"]["epochs"] == 200
