"""EasinessDataModule and the selections from LightningCLI: arguments and YAML."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_easiness import Ablation, EasinessCallback, EasinessDataModule, Keep, Relabel, SampleEasinessTraining
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
    "--trainer.max_epochs=1",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls

    def called(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["train.py", "fit", *QUIET, *arguments])
        return LightningCLI(Net, save_config_callback=None)

    return called


@pytest.fixture
def record(tmp_path: Path) -> Path:
    trainer(callbacks=[EasinessCallback(tmp_path / "easiness")], max_epochs=1).fit(Net(), loader())
    return tmp_path / "easiness"


def test_nothing_selected(run: Callable[..., Any]) -> None:
    cli = run(
        "--data=lightning_easiness.EasinessDataModule",
        "--data.datamodule=tests.selecting.Base",
        "--data.datamodule.n=40",
    )
    assert isinstance(cli.datamodule, EasinessDataModule)
    assert cli.datamodule.datamodule.n == 40
    assert cli.trainer.global_step == 5


def test_arguments(run: Callable[..., Any]) -> None:
    cli = run(
        "--data=lightning_easiness.EasinessDataModule",
        "--data.datamodule=tests.selecting.Base",
        "--data.selection=lightning_easiness.Keep",
        "--data.selection.indices=[1,2,3,4,5,6,7,8,9,10]",
    )
    assert isinstance(cli.datamodule.selection, Keep)
    assert cli.trainer.global_step == 2


YAML = """
data:
  class_path: lightning_easiness.EasinessDataModule
  init_args:
    datamodule:
      class_path: tests.selecting.Base
      init_args: {{n: 53}}
    selection:
      class_path: lightning_easiness.{name}
      init_args: {{scores: {folder}, ratio: 0.4, {end}: hard, seed: 3, score: el2n}}
"""


YAML_OF_SAVED = """
data:
  class_path: lightning_easiness.EasinessDataModule
  init_args:
    datamodule:
      class_path: tests.selecting.SavesHyperparameters
      init_args: {n: 40}
    selection:
      class_path: lightning_easiness.Keep
      init_args: {indices: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]}
"""


@pytest.mark.parametrize(("kind", "end"), [(Ablation, "remove"), (Relabel, "which")])
def test_yaml(kind: type, end: str, record: Path, tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "config.yaml").write_text(YAML.format(name=kind.__name__, folder=record, end=end))
    cli = run(f"--config={tmp_path / 'config.yaml'}")
    assert type(cli.datamodule.selection) is kind
    assert cli.trainer.global_step == (4 if kind is Ablation else 7)


def test_a_wrapped_datamodule_that_saved_its_hyperparameters(tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "config.yaml").write_text(YAML_OF_SAVED)
    cli = run(f"--config={tmp_path / 'config.yaml'}")
    inner = cli.datamodule.datamodule
    assert (inner.hparams.n, inner.hparams.batch_size) == (40, 8)
    assert (cli.datamodule.hparams.n, cli.trainer.global_step) == (40, 3)
    cli.trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = type(inner).load_from_checkpoint(tmp_path / "a.ckpt")
    assert (type(again), again.n) == (type(inner), 40)


def test_a_rule_of_the_users_own(run: Callable[..., Any]) -> None:
    cli = run(
        "--data=lightning_easiness.EasinessDataModule",
        "--data.datamodule=tests.selecting.Base",
        "--data.selection=tests.selecting.HighestLoss",
        "--data.selection.share=0.4",
    )
    assert len(cli.datamodule.selected_indices) == 21


SET_YAML = """
data:
  class_path: lightning_easiness.EasinessDataModule
  init_args:
    datamodule:
      class_path: tests.selecting.Base
      init_args: {n: 53}
    selection:
      class_path: lightning_easiness.SampleEasinessTraining
      init_args:
        levels: [easy, [0.2, 0.8]]
        early_epochs: 1
        by: sample_easiness
        rescore_every_n_epochs: 2
        minimum: 20
trainer:
  max_epochs: 3
"""


def test_sample_easiness_training_in_yaml(tmp_path: Path, run: Callable[..., Any]) -> None:
    (tmp_path / "config.yaml").write_text(SET_YAML)
    cli = run(f"--config={tmp_path / 'config.yaml'}", "--trainer.max_epochs=3")
    selection = cli.datamodule.selection
    assert isinstance(selection, SampleEasinessTraining)
    assert (selection.levels, selection.rescore_every_n_epochs) == (("easy", (0.2, 0.8)), 2)
    assert 7 < cli.trainer.global_step <= 3 * 7


def test_sample_easiness_training_on_the_command_line(run: Callable[..., Any]) -> None:
    cli = run(
        "--data=lightning_easiness.EasinessDataModule",
        "--data.datamodule=tests.selecting.Base",
        "--data.selection=lightning_easiness.SampleEasinessTraining",
        "--data.selection.levels=[medium,hard]",
        "--data.selection.early_epochs=1",
        "--data.selection.per=batch",
        "--trainer.max_epochs=2",
    )
    assert cli.datamodule.selection.per_batch
    assert cli.trainer.global_step == 14
