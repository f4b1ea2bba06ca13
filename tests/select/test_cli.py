"""EasinessDataModule and the selections from LightningCLI: arguments and YAML."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import (
    Ablation,
    Control,
    EasinessCallback,
    EasinessDataModule,
    Keep,
    RandomShare,
    Relabel,
    SampleEasinessTraining,
)
from tests.selecting import HighestLoss
from tests.small import Net, loader, trainer

pytest.importorskip("jsonargparse")

QUIET = [
    "--seed_everything=false",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls

    def called(*arguments: str, max_epochs: int = 1) -> Any:
        monkeypatch.setattr(sys, "argv", ["train.py", "fit", *QUIET, f"--trainer.max_epochs={max_epochs}", *arguments])
        return LightningCLI(Net, save_config_callback=None)

    return called


SET, RANDOM = "lightning_easiness.SampleEasinessTraining", "lightning_easiness.RandomShare"
# the selection and its arguments, the epochs, the class, the steps
ARGUMENTS: dict[str, tuple[list[str], int, type, int]] = {
    "nothing selected": ([], 1, type(None), 7),
    "indices": (["=lightning_easiness.Keep", ".indices=[1,2,3,4,5,6,7,8,9,10]"], 1, Keep, 2),
    "a selection of the user's own": (["=tests.selecting.HighestLoss", ".share=0.4"], 1, HighestLoss, 3),
    "a control": (
        ["=lightning_easiness.Control", ".rule=lightning_easiness.RandomShare", ".rule.share=0.4"],
        1,
        Control,
        3,
    ),
    "epochs as a fraction": (
        ["=lightning_easiness.RandomShare", ".share=0.4", ".early_epochs=0.5"],
        2,
        RandomShare,
        10,
    ),
    "per batch": ([f"={SET}", ".levels=[medium,hard]", ".early_epochs=1", ".per=batch"], 2, SampleEasinessTraining, 14),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case: str, run: Callable[..., Any]) -> None:
    given, max_epochs, kind, steps = ARGUMENTS[case]
    torch.manual_seed(0)  # a batch may hold no example of the levels, and make no step
    arguments = [f"--data.selection{one}" for one in given]
    wrapped = ["--data=lightning_easiness.EasinessDataModule", "--data.datamodule=tests.selecting.Base"]
    cli = run(*wrapped, "--data.datamodule.n=53", *arguments, max_epochs=max_epochs)
    assert isinstance(cli.datamodule, EasinessDataModule)
    assert type(cli.datamodule.selection) is kind
    assert (cli.datamodule.datamodule.n, cli.trainer.global_step) == (53, steps)


YAML = """
data:
  class_path: lightning_easiness.EasinessDataModule
  init_args:
    datamodule:
      class_path: tests.selecting.{base}
      init_args: {{n: {n}}}
    selection:
      class_path: lightning_easiness.{selection}
      init_args: {{{arguments}}}
"""


@pytest.fixture
def run_yaml(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def called(selection: str, arguments: str, base: str = "Base", n: int = 53, max_epochs: int = 1) -> Any:
        (tmp_path / "config.yaml").write_text(YAML.format(selection=selection, arguments=arguments, base=base, n=n))
        return run(f"--config={tmp_path / 'config.yaml'}", max_epochs=max_epochs)

    return called


@pytest.mark.parametrize(("kind", "word", "steps"), [(Ablation, "remove", 4), (Relabel, "which", 7)])
def test_scores_from_a_folder_in_yaml(
    kind: type, word: str, steps: int, tmp_path: Path, run_yaml: Callable[..., Any]
) -> None:
    folder = tmp_path / "easiness"
    trainer(callbacks=[EasinessCallback(folder)], max_epochs=1).fit(Net(), loader())
    cli = run_yaml(kind.__name__, f"scores: {folder}, ratio: 0.4, {word}: hard, seed: 3, score: el2n")
    assert type(cli.datamodule.selection) is kind
    assert cli.trainer.global_step == steps


def test_a_wrapped_datamodule_that_saved_its_hyperparameters(tmp_path: Path, run_yaml: Callable[..., Any]) -> None:
    cli = run_yaml("Keep", f"indices: {list(range(10, 31))}", base="SavesHyperparameters", n=40)
    inner = cli.datamodule.datamodule
    assert (inner.hparams.n, inner.hparams.batch_size) == (40, 8)
    assert (cli.datamodule.hparams.n, cli.trainer.global_step) == (40, 3)
    cli.trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = type(inner).load_from_checkpoint(tmp_path / "a.ckpt")
    assert (type(again), again.n) == (type(inner), 40)


def test_sample_easiness_training_in_yaml(run_yaml: Callable[..., Any]) -> None:
    arguments = "levels: [easy, [0.2, 0.8]], early_epochs: 1, rescore_every_n_epochs: 2, minimum: 20"
    cli = run_yaml("SampleEasinessTraining", arguments, max_epochs=3)
    selection = cli.datamodule.selection
    assert isinstance(selection, SampleEasinessTraining)
    assert (selection.levels, selection.rescore_every_n_epochs) == (("easy", (0.2, 0.8)), 2)
    assert 7 < cli.trainer.global_step <= 3 * 7
