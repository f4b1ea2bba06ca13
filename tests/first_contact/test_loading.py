"""A record is loaded by the folder's name alone."""

from __future__ import annotations

from pathlib import Path

from lightning_easiness import EasinessCallback, EasinessRecord
from lightning_easiness.cli.main import main
from tests.small import Net, loader, trainer


def test_a_folder_without_an_evaluation_pass_is_loaded_by_its_only_series(tmp_path: Path) -> None:
    callback = EasinessCallback(tmp_path / "watched", probe=None)
    trainer(callbacks=[callback]).fit(Net(), loader())
    record = EasinessRecord.load(tmp_path / "watched")
    assert record.series == "train-online"
    assert record.score("mean_loss").values.isfinite().all()
    assert main(["score", str(tmp_path / "watched"), "--hardest", "0.1"]) == 0
