"""Sample easiness against confidence: each example is drawn once, and the shares are those of its levels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_easiness import draw_levels, functional
from lightning_easiness.record.record import EasinessRecord
from lightning_easiness.view.levels import cells_of, shares_of_levels
from tests.made_runs import NUM_CLASSES, make_target, write_run

pytest.importorskip("matplotlib")
N = 300


def fields_of(seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """The fields of a network that knows half of the examples, and its logits."""
    target = make_target(N)
    logits = torch.randn(N, NUM_CLASSES, generator=torch.Generator().manual_seed(seed)) * 2
    logits[::2].scatter_add_(1, target[::2, None], torch.full((N // 2, 1), 8.0))
    own = logits.gather(1, target[:, None])[:, 0]
    margin = own - logits.scatter(1, target[:, None], -torch.inf).amax(1)
    wins = functional.sample_easiness(logits, target, per_class=True)
    levels = {"sample_easiness": wins.prod(1), "weakest_comparison": wins.amin(1)}
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return {"loss": loss, "margin": margin, "correct": margin > 0, **levels}, logits


@pytest.fixture
def record(tmp_path: Path) -> EasinessRecord:
    for seed in range(3):
        write_run(tmp_path / "runs", seed, steps=(5,), num_examples=N, fields=fields_of(seed)[0])
    return EasinessRecord.load(tmp_path / "runs")


def test_shares_are_means_over_runs_of_the_levels_that_are_known(record: EasinessRecord) -> None:
    level = record.easiness_level(-1)
    level[1, :50] = -1
    expected = []
    for one in range(3):
        counts = [Counter(row.tolist()) for row in level]
        expected.append(sum(count[one] / (N - count[-1]) for count in counts) / 3)
    assert shares_of_levels(level) == pytest.approx(expected)
    assert sum(expected) == pytest.approx(1)


def test_each_known_example_is_in_one_cell_with_others_of_its_level() -> None:
    fields, logits = fields_of(0)
    confidence = logits.softmax(1).amax(1)
    level = functional.easiness_level(fields["sample_easiness"], weakest_comparison=fields["weakest_comparison"])
    confidence[7], level[8] = torch.nan, -1
    cells = cells_of(fields["sample_easiness"], confidence, level, fields["correct"])
    known = [i for i in range(N) if i not in (7, 8)]
    expected = Counter((int(level[i]), bool(fields["correct"][i])) for i in known)
    drawn: Counter[tuple[int, bool]] = Counter()
    for cell in cells:
        drawn[cell.level, cell.is_right] += cell.count
    assert drawn == expected
    for name, values in (("easiness", fields["sample_easiness"]), ("confidence", confidence)):
        total = sum(getattr(cell, name) * cell.count for cell in cells)
        assert total == pytest.approx(sum(float(values[i]) for i in known), rel=1e-5)
    assert [cell.count for cell in cells] == sorted((cell.count for cell in cells), reverse=True)


def test_the_figure_says_the_shares_and_marks_wrong_predictions(record: EasinessRecord, tmp_path: Path) -> None:
    axes = draw_levels(record, tmp_path / "levels.png").axes[0]
    shares = shares_of_levels(record.easiness_level(-1))
    words = [text.get_text() for text in axes.texts]
    assert [f"easy: {100 * shares[2]:.1f} %" in words, f"hard: {100 * shares[0]:.1f} %" in words] == [True, True]
    assert "of 300 examples are medium" in axes.get_title("left")
    assert "means of 3 runs" in " ".join(words)
    shapes = {len(drawn.get_paths()[0].vertices) for drawn in axes.collections}
    assert len(shapes) == 2, "circles and crosses"
    points = torch.tensor([drawn.get_offsets()[0].tolist() for drawn in axes.collections])
    assert bool((points[:, 1] >= axes.get_ylim()[0]).all())
    assert (tmp_path / "levels.png").stat().st_size > 5000


def test_a_record_without_an_example_that_was_seen_is_refused(tmp_path: Path) -> None:
    fields = {name: torch.full((N,), torch.nan) for name in ("loss", "margin", "sample_easiness", "weakest_comparison")}
    write_run(tmp_path, 0, steps=(5,), num_examples=N, fields={**fields, "correct": torch.zeros(N, dtype=torch.bool)})
    with pytest.raises(ValueError, match="draw_levels has nothing to draw"):
        draw_levels(EasinessRecord.load(tmp_path))
