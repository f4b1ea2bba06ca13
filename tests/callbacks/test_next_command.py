"""The line at the end of a fit: said once, by the first process, and the command in it runs."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from lightning_easiness import EasinessCallback, StepwiseCompression, ThresholdRuns, repeat_fit
from tests.distributed_experiments import Wide
from tests.processes import run
from tests.small import Net, Points, loader, trainer

SAYS = "What was observed of each example"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """The lines said so far."""
    caplog.set_level("INFO", logger="lightning.pytorch")
    return lambda: [record.getMessage() for record in caplog.records if " is recorded in " in record.getMessage()]


def run_as_typed(line: str) -> str:
    """Run the command in a line as a shell reads it, and return what it prints."""
    command = line.partition("; next: ")[2]
    program, *arguments = shlex.split(command)
    assert program == "lightning-easiness"
    shown = f"printf '%s\\n' {command.removeprefix(program)}"
    words = subprocess.run(shown, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words == arguments
    done = run("-m", "lightning_easiness", *words, PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    assert words[0] in ("score", "issues")
    return done.stdout


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(prediction[:, 0], target.float(), reduction="none")


@pytest.mark.parametrize(
    ("options", "series"),
    [
        ({}, "train-probe"),
        ({"probe": None}, "train-online"),
        ({"probe": "val"}, "val-probe"),
        ({"online": False}, "train-probe"),
        ({"loss_fn": squared}, "train-probe"),
    ],
    ids=["default", "online", "validation", "evaluation", "the user's loss"],
)
def test_the_command_of_the_line_runs_and_reads_that_record(
    options: dict[str, Any], series: str, tmp_path: Path, said: Any
) -> None:
    folder = tmp_path / "my runs' best $HOME"
    callback = EasinessCallback(folder, **options)
    trainer(callbacks=[callback], max_epochs=1).fit(Net(), loader(), loader(Points(20), shuffle=False))
    (line,) = said()
    assert line.startswith(f"{SAYS} is recorded in '{folder}'; next: ")
    assert f"series {series}" in run_as_typed(line)


def test_seeds_say_it_once_at_the_end_of_all(tmp_path: Path, said: Any) -> None:
    def repeated(seeds: list[int]) -> list[str]:
        make = lambda: trainer(max_epochs=1)  # noqa: E731
        repeat_fit(make, Net, loader(), seeds, tmp_path / "my runs", progress=False)
        return said()

    (line,) = repeated([0, 1])
    assert line.startswith(f"{SAYS} in 2 runs is recorded in '{tmp_path / 'my runs'}'; next: ")
    assert "2 runs" in run_as_typed(line)
    assert len(repeated([0, 1])) == 2, "also where nothing was left to train"


def test_a_compression_says_it_once_for_all_steps(tmp_path: Path, said: Any) -> None:
    compression = StepwiseCompression(
        lambda: trainer(max_epochs=1), Net, loader(), 0.2, seeds=[0], dirpath=tmp_path, progress=False
    )
    compression.run()
    (line,) = said()
    assert line.startswith(f"The easiness of 2 steps is recorded in '{tmp_path}'; next: ")
    assert "53 examples" in run_as_typed(line)


def test_the_threshold_protocol_says_it_once_for_both_halves(tmp_path: Path, said: Any) -> None:
    runs = ThresholdRuns(
        lambda: trainer(max_epochs=1),
        Wide,
        loader(Points(60)),
        num_classes=4,
        seeds=[0],
        dirpath=tmp_path,
        progress=False,
    )
    runs.run()
    (line,) = said()
    assert line.startswith(f"The threshold protocol is recorded in '{tmp_path}'; next: lightning-easiness issues ")
    assert "of 60 labels are flagged" in run_as_typed(line)


def test_trial_runs_and_runs_whose_last_pass_fails_say_nothing(tmp_path: Path, said: Any) -> None:
    trainer(callbacks=[EasinessCallback(tmp_path / "trial")], fast_dev_run=True).fit(Net(), loader())

    class Fails(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.trainer.global_step and not self.training:
                raise RuntimeError("of the user")
            return super().forward(x)

    with pytest.warns(UserWarning, match="The evaluation pass at the end of the fit failed"):
        trainer(callbacks=[EasinessCallback(tmp_path / "fails")], max_epochs=1).fit(Fails(), loader())
    assert said() == []
