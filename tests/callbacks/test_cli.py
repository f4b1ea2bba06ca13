"""EasinessCallback from LightningCLI: options on the command line and in YAML, and fits that run with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.contracts.cases import negated
from tests.small import QUIET, Net, Points, loader

pytest.importorskip("jsonargparse")

STEPS = 7  # 53 examples in batches of 8


class Data(LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return loader()

    def val_dataloader(self) -> DataLoader:
        return loader(Points(20, seed=5), shuffle=False)


class FewPoints(DataLoader):
    """A loader of plain arguments: jsonargparse cannot make the data set that torch's DataLoader takes."""

    def __init__(self, size: int) -> None:
        super().__init__(Points(size), batch_size=4)


class SaysMore(Net):
    """Its training step has an output that only the user's function reads."""

    def forward(self, x: Tensor) -> Any:
        return {"answer": self.net(x)}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0])["answer"], batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def read_answer(output: dict[str, Tensor]) -> Tensor:
    return output["answer"]


def swapped(batch: Any) -> tuple[Any, Any]:
    return batch[0].flip(1), batch[1]


def absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction.argmax(1) - target).abs().float()


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    from lightning.pytorch.cli import LightningCLI

    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what LightningCLI calls
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # so that what the CLI sets is undone
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str, model: type[Net] = Net, **options: Any) -> Any:
        monkeypatch.setattr(sys, "argv", ["train.py", "fit", *arguments])
        settings = {"trainer_defaults": QUIET, "seed_everything_default": 5, "save_config_callback": None}
        return LightningCLI(model, Data, **{**settings, **options})

    return called


ADD = "--trainer.callbacks+=lightning_easiness.EasinessCallback"


def test_without_options_and_from_the_config_that_was_saved(fit: Callable[..., Any], tmp_path: Path) -> None:
    from lightning.pytorch.cli import SaveConfigCallback

    cli = fit(ADD, "--trainer.default_root_dir=first", save_config_callback=SaveConfigCallback)
    record = EasinessRecord.load(tmp_path / "first" / "easiness", "train-probe")
    assert (record.runs, record.seeds, record.steps.tolist()) == (["seed-5"], [5], [2 * STEPS])
    kept = {name: value for name, value in vars(EasinessCallback()).items() if not name.startswith("_")}
    defaults = {name: value for name, value in kept.items() if name not in ("usage", "folder")}
    (found,) = (callback for callback in cli.trainer.callbacks if isinstance(callback, EasinessCallback))
    assert {name: vars(found)[name] for name in defaults} == defaults
    fit("--config=first/config.yaml", "--trainer.callbacks.dirpath=again")
    assert torch.equal(EasinessRecord.load(tmp_path / "again", "train-probe").loss, record.loss)


def test_options_on_the_command_line(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit(
        ADD,
        "--trainer.callbacks.dirpath=runs",
        "--trainer.callbacks.every_n_epochs=2",
        "--trainer.callbacks.at_steps=[0,3]",
        "--trainer.callbacks.probe=val",
        "--trainer.callbacks.online=false",
        "--trainer.callbacks.patterns={negated: tests.contracts.cases.negated}",
        "--trainer.callbacks.run=mine",
        "--trainer.callbacks.module=net",
        "--trainer.callbacks.batch_fn=tests.callbacks.test_cli.swapped",
        "--trainer.callbacks.probe_batch_size=20",
        "--trainer.callbacks.num_images=0",
    )
    record = EasinessRecord.load(tmp_path / "runs", "val-probe")
    assert record.runs == ["mine"]
    assert record.steps.tolist() == [0, 3, 2 * STEPS]
    assert record.num_examples == 20
    assert EasinessRecord.load(tmp_path / "runs", "val-probe-negated").steps.tolist() == [0, 3, 2 * STEPS]
    assert not (tmp_path / "runs" / "mine" / "train-online").exists()


YAML = """
trainer:
  callbacks:
    - class_path: lightning_easiness.EasinessCallback
      init_args:
        dirpath: from_yaml
        every_n_epochs: 1
        at_steps: [0, 5]
        patterns: {negated: tests.contracts.cases.negated, reversed: torch.neg}
        logits_fn: tests.callbacks.test_cli.read_answer
        loss_fn: tests.callbacks.test_cli.absolute_error
        exist_ok: true
        by_class: true
    - class_path: lightning_easiness.EasinessCallback
      init_args:
        online: false
        exist_ok: true
        dirpath: another
        logits_fn: tests.callbacks.test_cli.read_answer
        probe:
          class_path: tests.callbacks.test_cli.FewPoints
          init_args: {size: 11}
"""


def test_two_callbacks_in_yaml(fit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(YAML)
    for _ in range(2):  # it may be run again, as exist_ok says
        cli = fit("--config=config.yaml", model=SaysMore)
    first, _ = (callback for callback in cli.trainer.callbacks if isinstance(callback, EasinessCallback))
    assert first.patterns == {"negated": negated, "reversed": torch.neg}
    record = EasinessRecord.load(tmp_path / "from_yaml", "train-probe")
    assert record.loss_name == "absolute_error"
    assert record.steps.tolist() == [0, 5, STEPS, 2 * STEPS]
    assert set(record.loss.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
    negative, reverse = (
        EasinessRecord.load(tmp_path / "from_yaml", f"train-probe-{name}") for name in ("negated", "reversed")
    )
    assert torch.equal(negative.loss, reverse.loss)
    assert not torch.equal(negative.loss, record.loss)
    assert EasinessRecord.load(tmp_path / "another", "loader-probe").num_examples == 11


@pytest.mark.parametrize("option", ["every_n_epoch=2", "probe=test", "at_steps=-1"])
def test_a_wrong_option_is_named(option: str, fit: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(ADD, f"--trainer.callbacks.{option}")
    assert option.split("=")[0] in capsys.readouterr().err
