"""Records of earlier versions are read, with the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from lightning_easiness import EasinessRecord

NAN = float("nan")


def write_as_version_0_1_0(run: Path) -> None:
    """Write, with nothing of this package, a run of three examples of which one is seen in the first epoch alone."""
    (run / "train-online").mkdir(parents=True)
    about = {"format": "lightning_easiness.run", "format_version": 1, "run": run.name, "seed": 3, "complete": True}
    (run / "run.json").write_text(json.dumps({**about, "versions": {"lightning-easiness": "0.1.0"}}))

    def write(name: str, kind: str, arrays: dict, **header: str) -> None:
        metadata = {"format": f"lightning_easiness.{kind}", "format_version": "1", "num_examples": "3", **header}
        (run / "train-online" / f"{name}.safetensors").write_bytes(safetensors.numpy.save(arrays, metadata))

    named, dtypes = {"fingerprint": "256f2f23ec35281d"}, {"loss": "float32", "correct": "bool", "count": "int32"}
    write("targets", "targets", {"target": np.array([0, 1, 1])}, **named)
    epochs = [([0.5, 2.0, 1.0], [1, 0, 1], [1, 1, 1]), ([0.25, 1.0, NAN], [1, 1, 0], [1, 2, 0])]
    for epoch, (loss, correct, count) in enumerate(epochs):
        arrays = {"loss": np.float32(loss), "correct": np.packbits(np.array(correct, bool)), "count": np.int32(count)}
        moment = {"step": str(120 * (epoch + 1)), "epoch": str(epoch)}
        more = {"series": "train-online", "num_classes": "2", "loss": "cross_entropy", "fields": json.dumps(dtypes)}
        write(f"step-{120 * (epoch + 1):012d}", "checkpoint", arrays, **named, **moment, **more)
    rows = {"probabilities": np.float16([[1, 0], [0.75, 0.25], [NAN, NAN]]), "count": np.int32([2, 3, 0])}
    write("probabilities", "probabilities", rows, step="240", epoch="1", num_classes="2")


@pytest.mark.filterwarnings("ignore:1 of 3 examples have no mean_loss")
def test_a_record_of_version_0_1_0_is_read_with_the_same_numbers(tmp_path: Path) -> None:
    write_as_version_0_1_0(tmp_path / "seed-3")
    record = EasinessRecord.load(tmp_path)
    assert repr(record) == (
        "EasinessRecord('train-online': 1 run, 2 checkpoints, 3 examples of 2 classes; loss, correct, count)"
    )
    assert (record.runs, record.seeds, record.fingerprint) == (["seed-3"], [3], "256f2f23ec35281d")
    assert (record.steps.tolist(), record.epochs.tolist()) == ([120, 240], [0, 1])
    assert record.target.tolist() == [0, 1, 1]
    assert record.correct.tolist() == [[[True, False, True], [True, True, False]]]
    expected = {"mean_loss": [0.25, 1.0, NAN], "area_under_loss": [0.375, 1.5, 1.0], "correctness": [1.0, 0.5, 1.0]}
    for name, values in expected.items():
        torch.testing.assert_close(record.score(name).values, torch.tensor(values), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(
        record.probabilities(), torch.tensor([[1, 0], [0.75, 0.25], [NAN, NAN]]), equal_nan=True, rtol=0, atol=0
    )
