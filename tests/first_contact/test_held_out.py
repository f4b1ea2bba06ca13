"""Runs that hold out: what is refused, and what is said of a record without such runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_easiness import EasinessCallback, EasinessRecord, repeat_fit
from lightning_easiness.cli.main import main
from tests.made_runs import write_run
from tests.repeated_runs import never
from tests.small import Net, Points, loader, trainer


def make_trainer() -> Any:
    return trainer(callbacks=[EasinessCallback(online=False, num_images=0)], max_epochs=1)


def repeated(folder: Path, make_module: Any = Net, **options: Any) -> EasinessRecord:
    return repeat_fit(make_trainer, make_module, loader(Points(20)), dirpath=folder, progress=False, **options)


@pytest.mark.parametrize(
    ("hold_out", "got"),
    [
        *((share, f"{share}") for share in (0, 1, 1.0, -0.2, float("nan"))),
        (20, "20: 20 % is 0.2"),
        ("fold", "'fold'"),
        ("0.2", "'0.2'"),
        (True, "True"),
        ([0.2], "[0.2]"),
    ],
)
def test_what_is_neither_a_share_nor_folds(hold_out: Any, got: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="hold_out") as caught:
        repeated(tmp_path / "runs", never, seeds=range(3), hold_out=hold_out)
    start = "The `hold_out` of repeat_fit must be a fraction of the examples in (0, 1), as 0.2, or 'folds'"
    assert str(caught.value) == f"{start}; got {got}."
    assert not (tmp_path / "runs").exists()


def test_folds_of_one_seed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold_out") as caught:
        repeated(tmp_path / "runs", never, seeds=[3], hold_out="folds")
    assert str(caught.value) == (
        "The `hold_out` of repeat_fit is 'folds', which needs two seeds at least, and there is one: give all seeds in"
        " one call, or for a job array of 5 hold_out=0.2 and one of the seeds 0 to 4 to each job."
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("score", ["memorization", "held_out_loss", "held_out_correct"])
def test_a_score_of_what_was_held_out_where_nothing_was(
    score: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, 0)
    sentence = (
        f"Score '{score}' needs runs that held out a part of the examples, and these runs did not: train them with"
        " repeat_fit(..., hold_out=0.2)."
    )
    with pytest.raises(ValueError, match="held out") as caught:
        EasinessRecord.load(tmp_path).score(score)
    assert str(caught.value) == sentence
    assert main(["score", str(tmp_path), "--score", score]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"lightning-easiness: error: {sentence}\n")


def test_runs_that_hold_out_beside_runs_that_do_not(tmp_path: Path) -> None:
    whole = repeated(tmp_path / "whole", seeds=range(2))
    parts = repeated(tmp_path / "parts", seeds=range(2), hold_out="folds")
    assert parts.held_out.sum(0).tolist() == [1] * 20
    with pytest.raises(ValueError, match="held out") as caught:
        EasinessRecord.merge(whole, parts)
    assert str(caught.value) == (
        "Run 'seed-0-2' held out a part of the examples and run 'seed-0' did not, so that their scores do not mean the"
        " same: load those of one kind with runs=[...]."
    )
