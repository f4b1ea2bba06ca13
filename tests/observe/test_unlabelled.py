"""Examples without a label: NaN, counted, in no ranking, in no logged mean; the task of a fit that is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_easiness import EasinessCallback, EasinessDataModule, EasinessRecord, SampleEasinessTraining
from lightning_easiness.observe.tasks import (
    ClassTask,
    DenseTask,
    MultiLabelTask,
    RegressionTask,
    SoftTask,
    Task,
    restore_task,
)
from tests.observe.test_inputs import (
    CLASSES,
    HOLED,
    MANY,
    POINTS,
    POSITIVE,
    Holds,
    K,
    N,
    Rows,
    Stranger,
    T,
    bce,
    mse,
    sequence,
)
from tests.small import assert_identical, recorded, trainer

IGNORED = CLASSES.masked_fill(POINTS[:, 3] > 0.3, -100)
UNLABELLED = (IGNORED == -100).nonzero()[:, 0].tolist()


def of(data: Dataset, **options: Any) -> DataLoader:
    return DataLoader(data, batch_size=8, **{"shuffle": True, **options})


@pytest.mark.filterwarnings("ignore:.* of 40 examples have no mean_loss")
@pytest.mark.parametrize("series", ["train-probe", "train-online"])
def test_examples_without_a_label_are_counted_and_in_no_ranking_and_no_mean(
    series: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    logger = CSVLogger(tmp_path / "log", name="", version="")
    keep = ModelCheckpoint(tmp_path / "kept", monitor=f"easiness/{series}/mean_loss", save_on_train_epoch_end=True)
    callbacks = [EasinessCallback(tmp_path / "record", every_n_epochs=1), keep]
    fit = trainer(callbacks=callbacks, max_epochs=1, logger=logger, enable_checkpointing=True)
    fit.fit(Stranger(), of(Rows(POINTS, IGNORED)))
    record = EasinessRecord.load(tmp_path / "record", series)
    assert record.target.tolist() == IGNORED.clamp(min=-1).tolist()
    fields = [record.field(name)[0, -1] for name in record.fields if name not in ("count", "prediction")]
    for values in fields:
        assert not values[UNLABELLED].any() if values.dtype == torch.bool else values[UNLABELLED].isnan().all()
    known = record.loss[0, -1][IGNORED >= 0]
    assert known.isfinite().all()
    metrics = fit.callback_metrics
    assert float(metrics[f"easiness/{series}/mean_loss"]) == pytest.approx(float(known.mean()))
    right = record.correct[0, -1][IGNORED >= 0].float().mean()
    assert float(metrics[f"easiness/{series}/accuracy"]) == pytest.approx(float(right))
    assert metrics[f"easiness/{series}/num_nan"] == 0
    assert metrics[f"easiness/{series}/num_unlabelled"] == len(UNLABELLED)
    scores = record.score("mean_loss")
    assert set(scores.hardest(1.0).tolist()) == set(range(N)) - set(UNLABELLED)
    line = f"{len(UNLABELLED)} of 40 examples have no label: their values are NaN, and they are in no ranking."
    assert caplog.messages.count(line) == 1


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("probe", ["train", None])
@pytest.mark.parametrize(
    ("target", "module"),
    [(HOLED, lambda: Stranger(K * T, sequence)), (MANY, lambda: Stranger(loss=bce)), (IGNORED, Stranger)],
    ids=["sequences", "several labels", "unlabelled"],
)
def test_resumed_equals_never_stopped(probe: Any, target: Tensor, module: Any, tmp_path: Path) -> None:
    folder = tmp_path / "record"

    def run(checkpoint: Path | None = None) -> dict[str, Any]:
        keep = ModelCheckpoint(tmp_path / "kept", filename="{epoch}", save_on_train_epoch_end=True, save_top_k=-1)
        observer = EasinessCallback(folder, probe=probe, run="only", num_images=0)
        fit = trainer(callbacks=[observer, keep], max_epochs=2, enable_checkpointing=True)
        fit.fit(module(), of(Rows(POINTS, target), shuffle=False), ckpt_path=checkpoint)
        return recorded(folder)

    never = run()
    removed = list(folder.rglob("step-*10.safetensors"))  # of the second epoch, and of the pass at the end
    assert len(removed) == (1 if probe is None else 2)
    for path in removed:
        path.unlink()
    assert_identical(run(tmp_path / "kept" / "epoch=0.ckpt"), never)


@pytest.mark.parametrize("ignored", [255, 0, -1])
@pytest.mark.parametrize("series", ["train-probe", "train-online"])
def test_an_example_without_a_label_has_no_target_whatever_stands_for_none(
    ignored: int, series: str, tmp_path: Path
) -> None:
    target = IGNORED.masked_fill(IGNORED < 0, ignored)
    fit = trainer(callbacks=[EasinessCallback(tmp_path / "record")], max_epochs=1)
    fit.fit(Holds(nn.CrossEntropyLoss(ignore_index=ignored)), of(Rows(POINTS, target)))
    record = EasinessRecord.load(tmp_path / "record", series)
    assert record.target.tolist() == target.masked_fill(target == ignored, -1).tolist()
    assert torch.equal(record.loss[0, -1].isnan(), target == ignored)


def test_a_task_is_restored_as_it_was() -> None:
    for task in (
        ClassTask("cross_entropy", 3, (-100, 255), 0.5, "one_hot"),
        SoftTask("soft_cross_entropy", 3, ()),
        MultiLabelTask("binary_cross_entropy", None, ()),
        DenseTask("mean_cross_entropy", None, (255,)),
        RegressionTask("mse_loss"),
        Task("squared_error"),
    ):
        assert restore_task(task.state()) == task


@pytest.mark.parametrize(
    ("target", "module", "loss_name"),
    [
        (MANY.float(), lambda: Stranger(loss=bce), "binary_cross_entropy"),
        (POINTS[:, :K], lambda: Stranger(loss=mse), "mse_loss"),
        (HOLED, lambda: Stranger(K * T, sequence), "mean_cross_entropy"),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_selection_by_sample_easiness_refuses_a_task_without_it_before_training(
    beside: bool, target: Tensor, module: Any, loss_name: str, tmp_path: Path
) -> None:
    stranger = module()
    callbacks = [EasinessCallback(tmp_path, probe=None)] if beside else []
    data = EasinessDataModule(of(Rows(POINTS, target)), SampleEasinessTraining(early_epochs=1))
    with pytest.raises(ValueError, match="SampleEasinessTraining") as caught:
        trainer(callbacks=callbacks).fit(stranger, datamodule=data)
    assert str(caught.value) == (
        "SampleEasinessTraining goes by sample_easiness and weakest_comparison, which examples with one class each"
        f" have, but not the task that was recognised, of loss '{loss_name}': go by the loss, or pass batch_fn, a"
        " function that returns class indices (B,) as targets."
    )
    assert stranger.steps == 0


def test_averaged_probabilities_of_several_labels_are_refused_before_training(tmp_path: Path) -> None:
    stranger = Stranger(loss=bce)
    callback = EasinessCallback(tmp_path, probabilities=True)
    with pytest.raises(ValueError, match="averages the softmax of logits"):
        trainer(callbacks=[callback]).fit(stranger, of(Rows(POINTS, MANY.float())))
    assert stranger.steps == 0


def test_float_targets_of_two_classes_give_the_numbers_and_the_identity_of_class_indices(tmp_path: Path) -> None:
    for name, target in (("floats", POSITIVE.float()), ("indices", POSITIVE)):
        callback = EasinessCallback(tmp_path / name, run="only", num_images=0)
        trainer(max_epochs=1, callbacks=[callback]).fit(
            Stranger(1, lambda z: z[:, 0], bce), of(Rows(POINTS, target), shuffle=False)
        )
    floats, indices = (EasinessRecord.load(tmp_path / name, "train-probe") for name in ("floats", "indices"))
    assert floats.fingerprint == indices.fingerprint
    assert torch.equal(floats.loss, indices.loss)
    assert floats.loss_name == "cross_entropy"
