"""The scripts that ask more than the texts: their arithmetic, and that each runs in small."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.examples import archives
from tests.examples.conftest import RunScript

import everything  # isort: skip
import hard_examples  # isort: skip
import seeds_needed  # isort: skip
import small_for_large  # isort: skip


def test_an_example_is_learnt_memorised_or_missed() -> None:
    held_out = torch.tensor([0.9, 0.4, 0.2, 0.5, float("nan")])
    memorization = torch.tensor(
        [0.1, 0.5, 0.1, 0.5, float("nan")]
    )  # those that trained on it are right so much more often
    assert hard_examples.kinds_of(held_out, memorization).tolist() == [0, 1, 2, 1, -1]


def test_groups_are_tenths_of_the_right_labels_and_all_wrong_ones() -> None:
    loss, wrong = torch.arange(100.0).flip(0), torch.zeros(100, dtype=torch.bool)
    wrong[:10] = True  # the ten of the highest loss
    groups = {name: chosen.nonzero()[:, 0].tolist() for name, chosen in hard_examples.groups_of(loss, wrong).items()}
    assert groups["easiest tenth"] == list(range(91, 100))
    assert groups["hardest tenth"] == list(range(10, 19))
    assert groups["wrong labels"] == list(range(10))
    assert len(groups["random tenth"]) == 9
    assert min(groups["random tenth"]) >= 10


@pytest.mark.parametrize(
    ("learnt", "memorised", "verdict"), [(0.2, 0.7, "agrees"), (0.7, 0.2, "differs"), (0.45, 0.47, "cannot tell")]
)
def test_hard_examples_are_memorised_more_than_learnt_or_not(learnt: float, memorised: float, verdict: str) -> None:
    def row(name: str, learnt: float, memorised: float) -> dict[str, Any]:
        kinds = torch.tensor([0] * round(100 * learnt) + [1] * round(100 * memorised))
        kinds = torch.cat([kinds, torch.full((100 - len(kinds),), 2)])
        return hard_examples.row(name, torch.ones(100, dtype=torch.bool), kinds)

    rows = [row("hardest tenth", learnt, memorised), row("random tenth", 0.9, 0.05)]
    found = hard_examples.finding(rows, SimpleNamespace(seeds=10, epochs=5, early=1))
    assert found.startswith(f"{verdict}: ")
    assert f"{learnt:.0%} learnt, {memorised:.0%} memorised" in found


@pytest.mark.parametrize(
    ("own", "cnn", "verdict"),
    [
        ([0.40, 0.41, 0.42], [0.40, 0.41, 0.42], "agrees"),  # both worse than random
        ([0.40, 0.41, 0.42], [0.60, 0.61, 0.62], "differs"),
        ([0.60, 0.61, 0.62], [0.60, 0.61, 0.62], "cannot tell"),  # as random pruning
    ],
)
def test_a_small_network_prunes_as_the_larger_one_or_not(own: list[float], cnn: list[float], verdict: str) -> None:
    random = [0.60, 0.61, 0.62]
    found = {("random", "random"): random}
    found |= {(by, end): values for by, values in (("own", own), ("cnn", cnn)) for end in ("easy", "hard")}
    assert small_for_large.finding(found, [0.7, 0.7], 0.5).startswith(f"{verdict}: ")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    archives.fashion_mnist(tmp_path)
    images = torch.from_numpy(archives.noise(80, 3, 32, 32))
    for split in ("train", "test"):
        (tmp_path / "cifar10").mkdir(exist_ok=True)
        save_file({"images": images, "labels": torch.arange(80) % 10}, tmp_path / "cifar10" / f"{split}.safetensors")
    return tmp_path


SMALLER: dict[Any, dict[str, Any]] = {
    seeds_needed: {"size": 80, "seeds": 4, "epochs": 2, "width": 0.02, "at_steps": (1,)},
    small_for_large: {"size": 80, "seeds": 2, "early_seeds": 2, "epochs": 1, "early": 1, "large": ("cnn-18m", 0.02)},
    hard_examples: {"seeds": 4, "epochs": 2, "early": 1, "width": 0.02},
}


@pytest.mark.filterwarnings("ignore:.*keeps no example of class")
@pytest.mark.parametrize("script", SMALLER, ids=lambda script: script.__name__)
def test_a_script_writes_its_table_its_figure_and_one_finding(
    script: Any, root: Path, monkeypatch: pytest.MonkeyPatch, run_script: RunScript
) -> None:
    monkeypatch.setitem(script.SETTINGS, "small", script.SETTINGS["small"] | SMALLER[script])
    made = run_script(script, root, "--accelerator", "cpu")
    assert len(made.printed.splitlines()) == 1
    assert len(made.rows) >= 4
    assert made.figure_bytes > 5000


def test_everything_runs_each_script_of_the_three_texts_and_of_what_goes_beyond() -> None:
    names = [path.name for path in everything.scripts()]
    assert {"count_matching.py", "loss_matching.py", *everything.BEYOND} <= set(names)
    assert not {"count_runs.py", "loss_runs.py", "networks.py", "experiment.py", "everything.py"} & set(names)
    assert [name.split("_")[0] for name in names] == sorted((name.split("_")[0] for name in names), key=order)


def order(prefix: str) -> int:
    known = ["count", "loss", "sel"]
    return known.index(prefix) if prefix in known else len(known)
