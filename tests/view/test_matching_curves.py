"""Figures of matching rates over training: what is drawn is what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_easiness import EasinessRecord, draw_matching_curves, matching_curves, matching_with_end
from lightning_easiness.record.writer import RunWriter
from tests.made_runs import append

pytest.importorskip("matplotlib")


def record_of(folder: Path, model: int, num_runs: int = 2) -> EasinessRecord:
    for seed in range(num_runs):
        with RunWriter(folder / f"model-{model}", f"seed-{seed}", seed=seed) as writer:
            for epoch in range(3):
                draw = torch.Generator().manual_seed(100 * model + 10 * seed + epoch)
                loss = torch.linspace(0, 3, 80) + torch.rand(80, generator=draw)
                append(writer, 10 * (epoch + 1), epoch=epoch, fields={"loss": loss})
            writer.complete()
    return EasinessRecord.load(folder / f"model-{model}")


def drawn(axes: Any) -> list[tuple[list[float], list[float], str]]:
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_linestyle()) for line in axes.lines]


def written(axes: Any) -> str:
    return " ".join([axes.get_title("left"), *(text.get_text() for text in axes.texts)]).replace("\n", " ")


def test_each_pair_is_a_line_with_its_errors_and_other_seeds_are_dashed(tmp_path: Path) -> None:
    curves = matching_curves({"a": record_of(tmp_path, 0), "b": record_of(tmp_path, 1)})
    figure = draw_matching_curves(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    for axes, which in zip(figure.axes, ("easy", "hard"), strict=True):
        *lines, (_, chance, dotted) = drawn(axes)
        assert (chance[0], dotted) == (pytest.approx(0.1), ":")
        for (x, y, dashes), (label, points) in zip(lines, curves.curves(which).items(), strict=True):
            assert x == [1, 2, 3]
            assert y == [point.matched.rate for point in points]
            assert dashes == ("--" if "other seeds" in label else "-")
            assert label in written(axes)
        (band,) = axes.collections
        middle = curves.curves(which)["a, b"]
        heights = np.unique(band.get_paths()[0].vertices[:, 1].round(6))
        bounds = {round(p.matched.rate + sign * p.matched.error, 6) for p in middle for sign in (-1, 1)}
        assert bounds <= {*heights.tolist()}
        end = "easiest" if which == "easy" else "hardest"
        title = f"Two models share {middle[-1].matched.rate:.2f} of the {end} 10 % at epoch 3; chance is 0.10"
        assert axes.get_title("left").replace("\n", " ") == title


def test_what_is_compared_with_the_end_is_named_so(tmp_path: Path) -> None:
    curves = matching_with_end(record_of(tmp_path, 0, num_runs=1), align="step")
    axes = draw_matching_curves(curves).axes[1]
    assert axes.get_xlabel() == "optimizer updates"
    first = curves.curves("hard")["its end"][0].matched.rate
    assert f"{first:.2f} of the hardest 10 % at step 10 are so at the end; chance is 0.10" in written(axes)
    assert not axes.collections, "a single run has no band"
    assert "by mean loss; 1 run each" in written(axes)


def test_halves_alone_are_named_so(tmp_path: Path) -> None:
    axes = draw_matching_curves(matching_curves({"a": record_of(tmp_path, 0)})).axes[0]
    assert "Halves of the seeds share" in written(axes)
