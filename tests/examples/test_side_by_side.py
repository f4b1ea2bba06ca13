"""The price of seeds side by side: what is measured, what is compared, and that the measured script trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_easiness import EasinessRecord
from tests.examples import EXAMPLES

BENCHMARKS = EXAMPLES / "benchmarks"
SECONDS = {"together": 40.0, "alone": 10.0, "in turn": 70.0, "more threads": 50.0}


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def rows_of(monkeypatch: pytest.MonkeyPatch, losses: dict[str, Any], *options: str) -> dict[str, str]:
    """Returns what each row says, of trainings that take SECONDS and have these losses in each round."""
    import side_by_side

    def time(self: Any, name: str, seeds: int, workers: int = 0, threads: int = 1) -> float:
        assert seeds == (1 if name == "alone" else 10)
        assert (workers, threads) == {"together": (2, 1), "more threads": (0, 2)}.get(name, (0, 1))
        self._keep(name, losses[name].pop(0))
        return SECONDS[name]

    monkeypatch.setattr(side_by_side.Trainings, "time", time)
    found = side_by_side.rows(side_by_side.parser().parse_args(["--pairs", "2", *options]))
    return {row.what: f"{row.figure}, {row.limit}: {row.verdict}" for row in found}


def test_prices_and_differences_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = torch.rand(10, 3, 5, generator=torch.Generator().manual_seed(0))
    wrong = loss.clone()
    wrong[3, 2, 4] = torch.nextafter(wrong[3, 2, 4], torch.tensor(2.0))
    same = {name: [loss.clone(), loss.clone()] for name in ("together", "in turn", "more threads")}
    start = "10 seeds by 2 workers, in "
    for together, different, changed in ((loss, "0", "0"), (wrong, "1", "1")):
        alone = [loss[:1].clone(), loss[:1].clone()]
        losses = {**same, "together": [together.clone(), loss.clone()], "alone": alone}
        losses = {name: list(several) for name, several in losses.items()}
        verdict = "met" if different == "0" else "missed"
        assert rows_of(monkeypatch, losses) == {
            start + "processes that train one seed": "4 (4 to 4), 5.0: met",
            start + "shares of one process that trains all in turn, with 1 thread": "5.71 (5.71 to 5.71), 5.0: missed",
            start + "shares of one process that trains all in turn, with 2 threads": "8 (8 to 8), 5.0: missed",
            "seeds whose losses differ, to the bit, from those of one process": f"{different}, 0: {verdict}",
            "trainings whose losses differ, to the bit, when repeated": f"{changed}, 0: {verdict}",
        }


def test_the_process_trains_what_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import side_by_side_process

    options = "--accelerator cpu --seeds 2 --workers 0 --threads 1 --examples 20 --epochs 2 --batch-size 10"
    monkeypatch.setattr(sys, "argv", ["side_by_side_process.py", str(tmp_path), *options.split()])
    side_by_side_process.main()
    assert EasinessRecord.load(tmp_path).loss.shape == (2, 2, 20)
