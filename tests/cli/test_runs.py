"""The command `runs`: what it says of a folder is what the library finds in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord
from lightning_easiness.cli.main import main
from lightning_easiness.record.finding import folders_with_runs
from lightning_easiness.record.inventory import recipe_groups, take_inventory
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import NUM_EXAMPLES, STEPS, write_run

Output = pytest.CaptureFixture[str]
RECIPE = {
    "module": "train.Net",
    "optimizers": [{"class": "torch.optim.sgd.SGD", "lr": 0.1, "momentum": 0.9}],
    "max_epochs": 3,
    "batch_size": 32,
    "data": {"num_examples": NUM_EXAMPLES},
    "selection": {"class": "lightning_easiness.select.static.Ablation", "ratio": 0.3},
    "hold_out": 0.25,
}


def text_of(capsys: Output, path: Path) -> str:
    assert main(["runs", str(path)]) == 0
    return capsys.readouterr().out


def values_of(capsys: Output, path: Path) -> dict[str, Any]:
    assert main(["runs", str(path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def rows_of(text: str) -> list[list[str]]:
    """The cells of the first table, without its header; "29 to 58" is one cell."""
    lines = text.split("\n\n")[1].splitlines()
    return [line.replace(" to ", "..").replace(" MB", "MB").replace(" kB", "kB").split() for line in lines[1:]]


def set_recipe(run: Path, recipe: dict[str, Any]) -> None:
    content = json.loads((run / "run.json").read_text())
    del content["checksum"]
    (run / "run.json").write_text(json.dumps({**content, "recipe": recipe}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seed 10 is not complete and lacks the last checkpoint."""
    for seed in (0, 2):
        write_run(tmp_path / "record", seed)
        write_run(tmp_path / "record", seed, series="train-online", steps=(50, 100))
    write_run(tmp_path / "record", 10, steps=STEPS[:2], complete=False)
    return tmp_path / "record"


def test_runs_lists_seeds_series_checkpoints_and_data(folder: Path, capsys: Output) -> None:
    text = text_of(capsys, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert text.startswith(f"{folder}: 3 runs, 2 of them complete, {size / 1e3:.1f} kB\n")
    assert [row[:-1] for row in rows_of(text)] == [
        ["seed-0", "0", "yes", "train-online", "2", "50..100", "0..1", "37", "5"],
        ["seed-0", "0", "yes", "train-probe", "3", "0..240", "0..2", "37", "5"],
        ["seed-2", "2", "yes", "train-online", "2", "50..100", "0..1", "37", "5"],
        ["seed-2", "2", "yes", "train-probe", "3", "0..240", "0..2", "37", "5"],
        ["seed-10", "10", "no", "train-probe", "2", "0..120", "0..1", "37", "5"],
    ]
    online = folder / "seed-0" / "train-online"
    assert rows_of(text)[0][-1] == f"{sum(file.stat().st_size for file in online.iterdir()) / 1e3:.1f}kB"


@pytest.mark.filterwarnings("ignore")
def test_what_is_left_out_is_what_load_leaves_out(folder: Path, capsys: Output) -> None:
    text = text_of(capsys, folder)
    assert "Series train-probe is read from 2 runs: seed-0, seed-2.\n  left out: Run 'seed-10' is not complete" in text
    held = {each["series"]: each for each in values_of(capsys, folder)["series"]}
    for series, found in held.items():
        assert found["runs"] == EasinessRecord.load(folder, series).runs
    assert len(held["train-probe"]["left_out"]) == 1


def test_runs_of_other_data_or_recipes_are_said_to_be_left_out(tmp_path: Path, capsys: Output) -> None:
    for seed in range(3):
        set_recipe(write_run(tmp_path / "record", seed), RECIPE)
    slower = {**RECIPE, "optimizers": [{**RECIPE["optimizers"][0], "lr": 0.01}]}
    set_recipe(write_run(tmp_path / "record", 3), slower)
    set_recipe(write_run(tmp_path / "record", 4, target=torch.zeros(NUM_EXAMPLES).long()), RECIPE)
    text = text_of(capsys, tmp_path / "record")
    assert "Series train-probe is read from 3 runs: seed-0, seed-1, seed-2.\n" in text
    assert "left out: Run 'seed-3', as run 'seed-3' and run 'seed-0' are of different recipes" in text
    assert "are not of the same data: example 1 has target" in text
    facts = "module train.Net, optimizer SGD lr {}, max epochs 3, batch size 32, selection Ablation, hold out 0.25."
    assert f"Recipe of seed-0, seed-1, seed-2, seed-4: {facts.format(0.1)}\n" in text
    differs = " Differs from the first in optimizers.0.lr: 0.1 and 0.01.\n"
    assert f"Recipe of seed-3: {facts.format(0.01)}{differs}" in text
    recipes = values_of(capsys, tmp_path / "record")["recipes"]
    assert [(each["runs"][0], each["differs"]) for each in recipes] == [
        ("seed-0", None),
        ("seed-3", "optimizers.0.lr: 0.1 and 0.01"),
    ]


def test_runs_without_a_recipe_are_a_group_of_their_own(tmp_path: Path) -> None:
    set_recipe(write_run(tmp_path, 0), RECIPE)
    write_run(tmp_path, 1)
    groups = recipe_groups(take_inventory(tmp_path).runs)
    assert [[run.name for run in group] for group, _ in groups] == [["seed-0"], ["seed-1"]]


def test_a_series_that_cannot_be_averaged_is_said_and_is_no_error(tmp_path: Path, capsys: Output) -> None:
    write_run(tmp_path, 0, steps=(5,))
    write_run(tmp_path, 1, steps=(6,))
    text = text_of(capsys, tmp_path)
    assert "Series train-probe cannot be read: The runs share no checkpoint" in text
    found = values_of(capsys, tmp_path)
    assert found["series"][0]["problem"].startswith("The runs share no checkpoint")
    assert found["next"] == []


def test_a_damaged_run_is_named_and_the_others_are_listed(folder: Path, capsys: Output) -> None:
    (folder / "seed-2" / "run.json").write_text("{")
    text = text_of(capsys, folder)
    assert text.count("' is damaged (") == 3, "among the recipes, and by each series"
    assert [row[0] for row in rows_of(text)][-3:] == ["seed-2", "seed-2", "seed-10"]
    assert next(run for run in values_of(capsys, folder)["runs"] if run["name"] == "seed-2")["seed"] is None


def test_a_run_that_holds_out_says_how_many(tmp_path: Path, capsys: Output) -> None:
    part = torch.arange(NUM_EXAMPLES) % 5 == 0
    write_run(tmp_path, 0, held_out=part)
    assert rows_of(text_of(capsys, tmp_path))[0][-2] == str(int(part.sum()))
    assert values_of(capsys, tmp_path)["runs"][0]["num_held_out"] == int(part.sum())


def test_a_folder_above_records_names_those_below(folder: Path, tmp_path: Path, capsys: Output) -> None:
    shutil.copytree(folder, tmp_path / "logs" / "version_2" / "easiness")
    shutil.copytree(folder / "seed-0", tmp_path / "logs" / "version_10" / "easiness" / "seed-0")
    (tmp_path / "empty").mkdir()
    text = text_of(capsys, tmp_path)
    assert text.startswith(f"{tmp_path}: 3 folders of runs below it, no run of its own\n")
    assert [row[:5] for row in rows_of(text)] == [
        ["logs/version_2/easiness", "3", "2", "37", "5"],
        ["logs/version_10/easiness", "1", "1", "37", "5"],
        ["record", "3", "2", "37", "5"],
    ]
    found = values_of(capsys, tmp_path)
    assert found["runs"] == []
    assert [Path(each["path"]) for each in found["folders"]] == folders_with_runs(tmp_path)
    assert found["folders"][0]["num_bytes"] == sum(run["num_bytes"] for run in values_of(capsys, folder)["runs"])


def test_folders_below_a_folder_of_runs_are_named_too(folder: Path, capsys: Output) -> None:
    shutil.copytree(folder / "seed-0", folder / "more" / "seed-0")
    text = text_of(capsys, folder)
    assert f"\n\n{folder}: also 1 folder of runs below it\n\n" in text


def test_the_folder_of_one_run_and_one_without_a_checkpoint(tmp_path: Path, capsys: Output) -> None:
    path = write_run(tmp_path, 3)
    assert text_of(capsys, path).startswith(f"{path}: 1 run, complete, ")
    RunWriter(tmp_path / "begun", "seed-0", seed=0).close()
    text = text_of(capsys, tmp_path / "begun")
    assert ": 1 run, not complete, " in text
    assert rows_of(text)[0][:6] == ["seed-0", "0", "no", "no", "checkpoint", "0"]


@pytest.mark.parametrize("kind", ["none", "empty", "file"])
def test_a_folder_without_runs_is_refused_in_one_sentence(kind: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main(["runs", str(tmp_path / kind), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "give the folder that EasinessCallback(dirpath=...) wrote to." in printed.err
