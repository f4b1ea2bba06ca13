"""Pages in TensorBoard after training: of scores, of a record over its seeds, of several architectures."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_easiness import EasinessRecord, averages_grid, scores_grid, write_tensorboard
from lightning_easiness.data.identity import DataIdentity
from lightning_easiness.data.observation import Observation
from lightning_easiness.functional import easiness_level, matching_rate
from lightning_easiness.record.writer import RunWriter
from lightning_easiness.view.galleries import scores_gallery
from tests.view.helpers import read_events, scores_of


def test_write_tensorboard(tmp_path: Path) -> None:
    target = [i % 3 for i in range(60)]
    dataset = [{"image": image, "label": label} for image, label in zip(torch.rand(60, 8, 8), target, strict=True)]
    scores = scores_of([*torch.rand(59).tolist(), torch.nan], target, step=120)
    names = ["ant", "bee", "cow"]
    write_tensorboard(scores, dataset, tmp_path, class_names=names, num_images=9, fraction=0.2)
    events = read_events(tmp_path)
    rows: dict[str, Any] = {"by_class": True, "thumbnail": 80}
    expected = {
        "easiness/mean_loss/hardest": scores_gallery(dataset, scores, 9, "hard", names),
        "easiness/mean_loss/easiest": scores_gallery(dataset, scores, 9, "easy", names),
        "easiness-by-class/mean_loss/hardest": scores_grid(dataset, scores, 4, "hard", names, **rows),
        "easiness-by-class/mean_loss/easiest": scores_grid(dataset, scores, 4, "easy", names, **rows),
        "easiness-by-class/mean_loss/averages": averages_grid(dataset, scores, 0.2, names),
    }
    assert Counter(events.Tags()["images"]) == Counter(list(expected))
    for tag, grid in expected.items():
        (image,) = events.Images(tag)
        assert (image.step, image.height, image.width) == (119, *grid.shape[1:])
    (histogram,) = events.Histograms("easiness/log10_mean_loss")
    assert (histogram.step, histogram.histogram_value.num) == (119, 59), "the step at which Lightning logs its 120th"


def test_tensorboard_without_images_has_the_histogram(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="^Tensor holds no images: .* Only numbers and histograms are written.$"):
        write_tensorboard(scores_of([0.1, 0.2]), torch.zeros(2, 16), tmp_path)
    tags = read_events(tmp_path).Tags()
    assert (tags["images"], tags["histograms"]) == ([], ["easiness/log10_mean_loss"])


def test_nothing_is_written_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^`class_names` must name the labels 0 to 1; got 1 names.$"):
        write_tensorboard(scores_of([0.0, 1.0], [0, 1]), torch.zeros(2, 8, 8), tmp_path / "log", class_names=["a"])
    assert not (tmp_path / "log").exists()


# --- records

SIZE, STEPS = 40, (7, 14, 21)


def record_of(folder: Path, num_runs: int, seed: int = 0) -> EasinessRecord:
    """Runs of three checkpoints with everything that an evaluation pass observes."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(SIZE) % 4
    for run in range(num_runs):
        with RunWriter(folder, f"seed-{run}", seed=run) as writer:
            for epoch, step in enumerate(STEPS):
                logits = (epoch + 1) * torch.randn(SIZE, 4, generator=generator)
                fields = {
                    "loss": torch.nn.functional.cross_entropy(logits, target, reduction="none"),
                    "correct": logits.argmax(1) == target,
                    "margin": logits[torch.arange(SIZE), target] - logits.mean(1),
                    "sample_easiness": torch.rand(SIZE, generator=generator).mul(1.2).sub(0.1).clamp(0, 1),
                    "weakest_comparison": torch.rand(SIZE, generator=generator).mul(1.2).sub(0.1).clamp(0, 1),
                    "prediction": logits.argmax(1).short(),
                }
                writer.append(Observation("train-probe", step, epoch, fields, DataIdentity(SIZE, target), 4))
    return EasinessRecord.load(folder)


def numbers(events: Any, tag: str) -> tuple[list[int], list[float]]:
    found = events.Scalars(tag)
    return [event.step for event in found], [event.value for event in found]


def ends(loss: Tensor, which: str, fraction: float) -> Tensor:
    order = loss.argsort()
    return order[: int(fraction * len(loss))] if which == "easiest" else order[-int(fraction * len(loss)) :]


def test_a_record_gives_a_page_over_all_its_seeds(tmp_path: Path) -> None:
    record, images = record_of(tmp_path / "runs", 3), torch.rand(SIZE, 8, 8)
    write_tensorboard(record, images, tmp_path / "log", fraction=0.2)
    events = read_events(tmp_path / "log")
    loss = record.loss  # (R, C, N)
    expected = {
        "easiness/train-probe/mean_loss": loss.mean((0, 2)).tolist(),
        "easiness/train-probe/accuracy": record.correct.float().mean((0, 2)).tolist(),
    }
    easiness, weakest = record.sample_easiness, record.weakest_comparison
    levels = [easiness_level(easiness[:, i].flatten(), weakest_comparison=weakest[:, i].flatten()) for i in range(3)]
    for value, name in enumerate(("hard", "medium", "easy")):
        expected[f"easiness-levels/train-probe/{name}"] = [float((level == value).float().mean()) for level in levels]
    for end in ("easiest", "hardest"):
        sets = [ends(loss[:, i].mean(0), end, 0.2) for i in range(3)]
        tag = f"easiness-matching/train-probe/{end}_with"
        expected[f"{tag}_previous"] = [float(matching_rate(a, b)) for a, b in pairwise(sets)]
        expected[f"{tag}_last"] = [float(matching_rate(a, sets[-1])) for a in sets[:-1]]
        seeds = [[ends(loss[r, i], end, 0.2) for r in range(3)] for i in range(3)]
        expected[f"{tag}_next_seed"] = [sum(float(matching_rate(a, b)) for a, b in pairwise(one)) / 2 for one in seeds]
    assert set(events.Tags()["scalars"]) == set(expected)
    for tag, values in expected.items():
        steps, found = numbers(events, tag)
        assert found == pytest.approx(values, abs=1e-6), tag
        skipped = {"previous": [6], "last": [20]}.get(tag.rsplit("_", 1)[-1], [])
        assert steps == [step - 1 for step in STEPS if step - 1 not in skipped]
    assert [event.step for event in events.Histograms("easiness/log10_mean_loss")] == [6, 13, 20]
    by_class = [f"easiness-by-class/mean_loss/{kind}" for kind in ("hardest", "easiest", "averages")]
    names = ("mean_loss/hardest", "mean_loss/easiest", "train-probe/data_map", "suspects", "seeds_differ")
    assert Counter(events.Tags()["images"]) == Counter([*by_class, *(f"easiness/{name}" for name in names)])
    text = events.Tensors("easiness/seeds/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| runs | 3 |" in text
    assert "do the seeds agree" in text


def test_a_record_of_one_run_without_images_says_nothing_of_seeds(tmp_path: Path) -> None:
    write_tensorboard(record_of(tmp_path / "runs", 1), None, tmp_path / "log")
    tags = read_events(tmp_path / "log").Tags()
    assert tags["images"] == ["easiness/train-probe/data_map"]
    assert not [tag for tag in tags["scalars"] if "seed" in tag]


def test_architectures_have_a_page_each_and_a_table_of_matching_rates(tmp_path: Path) -> None:
    records = {name: record_of(tmp_path / name, 2, seed) for seed, name in enumerate(("cnn", "mlp", "vit"))}
    write_tensorboard(records, None, tmp_path / "log", fraction=0.25)
    for name in records:
        assert read_events(tmp_path / "log" / name).Tags()["scalars"]
    events = read_events(tmp_path / "log" / "between")
    for end in ("easiest", "hardest"):
        text = events.Tensors(f"easiness-matching/{end}/text_summary")[0].tensor_proto.string_val[0].decode()
        rows = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in text.split("\n")[2:]}
        chosen = {name: ends(record.loss[:, -1].mean(0), end, 0.25) for name, record in records.items()}
        for a, b in combinations(records, 2):
            assert float(rows[a][list(records).index(b)]) == pytest.approx(
                float(matching_rate(chosen[a], chosen[b])), abs=0.005
            )


def test_records_of_other_data_are_not_compared(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "other", "seed-0") as writer:
        writer.append(Observation("train-probe", 7, 0, {"loss": torch.rand(9)}, DataIdentity(9)))
    records = {"cnn": record_of(tmp_path / "cnn", 1), "other": EasinessRecord.load(tmp_path / "other")}
    with pytest.raises(
        ValueError, match=r"the first has 40 examples and the second 9, .* compare records of one data set"
    ):
        write_tensorboard(records, None, tmp_path / "log")
    assert not (tmp_path / "log").exists()
