"""Weights & Biases and MLflow get what they can show: against the real packages, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

from lightning_easiness import EasinessCallback, EasinessRecord
from tests.callbacks.test_fit_log import Images, OfImages
from tests.small import loader, trainer

SERIES = "train-probe"
GALLERIES = ("easiest", "hardest", "most_changed", "suspects", "data_map")

pytestmark = pytest.mark.filterwarnings("default")  # those packages warn of themselves


def fit(logger: Any, folder: Path) -> list[float]:
    """Fit three epochs, and return the mean losses of the passes."""
    callback = EasinessCallback(folder / "record", every_n_epochs=1)
    trainer(callbacks=[callback], logger=logger, max_epochs=3).fit(OfImages(), loader(Images()))
    return EasinessRecord.load(folder / "record", SERIES).loss[0].mean(1).tolist()


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    rows: list[dict[str, Any]] = []
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="easiness")
    try:
        run, log = logger.experiment, logger.experiment.log
        monkeypatch.setattr(run, "log", lambda row, *args, **options: rows.append(row) or log(row, *args, **options))
        losses = fit(logger, tmp_path)
    finally:
        wandb.finish()
    tag = f"easiness/{SERIES}/mean_loss"
    shown = [(row["trainer/global_step"], row[tag]) for row in rows if tag in row]
    assert shown == [(step, pytest.approx(loss)) for step, loss in zip((6, 13, 20), losses, strict=True)]
    kinds = {name: type(value).__name__ for row in rows for name, value in row.items()}
    assert kinds[f"easiness/{SERIES}/log10_loss"] == kinds[f"easiness/{SERIES}/margin"] == "Histogram"
    for name in GALLERIES:
        assert list((tmp_path / "wandb").glob(f"offline-run*/files/media/images/easiness/{SERIES}/{name}_*.png")), name
    assert f"easiness-matching/{SERIES}/hardest_with_last" in kinds


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # of newer versions
    logger = MLFlowLogger("easiness", tracking_uri=f"file:{tmp_path / 'mlruns'}")
    losses = fit(logger, tmp_path)
    history = logger.experiment.get_metric_history(logger.run_id, f"easiness/{SERIES}/mean_loss")
    assert [(one.step, one.value) for one in history] == [
        (step, pytest.approx(loss)) for step, loss in zip((6, 13, 20), losses, strict=True)
    ]
    files = [path.name for path in (tmp_path / "mlruns").rglob("artifacts/images/*.png")]
    for name in GALLERIES:
        assert [file for file in files if f"{SERIES}~{name}+step+20+" in file], name
    (card,) = (tmp_path / "mlruns").rglob("artifacts/easiness/about.md")
    assert "| shown | means |" in card.read_text()
