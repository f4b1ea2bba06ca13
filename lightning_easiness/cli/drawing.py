"""The command `view`: figures and grids of a record as files. Importing this loads neither torch nor the package."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning_easiness as easiness  # whose names are loaded when they are first used
from lightning_easiness.cli.answer import PROGRAM, Answer
from lightning_easiness.cli.checks import check_at_least, check_output
from lightning_easiness.cli.source import ClassNames, Source


def view(
    source: Source,
    *,
    output: Annotated[Path, "folder for the figures; created if missing"],
    images: Annotated[
        Path | None,
        "a .npy file with the images of the data set, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), for grids of the "
        "easiest and hardest examples and of probable label errors",
    ] = None,
    num_images: Annotated[int, "number of images in a grid"] = 25,
    class_names: ClassNames = None,
    tensorboard: Annotated[bool, "also write OUTPUT/tensorboard"] = False,
) -> Answer:
    """Draw the histogram of a score, its curves, the data map, and grids of images."""
    from lightning_easiness.cli.next_steps import look
    from lightning_easiness.view.words import class_namer

    check_output(images, ".npy")
    check_at_least("num-images", num_images, 1)
    record, scores = source.read()
    class_namer(class_names, scores.target)  # raises for too few names
    data = None if images is None else _read_images(images, scores)
    output.mkdir(parents=True, exist_ok=True)
    drawing = _Drawing(source, record, scores, output, {"class_names": class_names, "num_images": num_images})
    try:
        drawing.figures()
    except ImportError as error:
        if data is None and not tensorboard:
            raise
        warnings.warn(str(error), stacklevel=1)
    found = None if data is None else drawing.grids(data)
    if tensorboard:
        drawing.tensorboard(data, found)
    values = {"path": source.path, "score": scores.name, "files": drawing.files, "not_drawn": drawing.missing}
    remarks = tuple(f"{PROGRAM}: no {name}: {reason}" for name, reason in drawing.missing.items())
    text = "".join(f"{path}\n" for path in drawing.files)
    return Answer(values, text, remarks, (look(source, images=images),))


def _read_images(path: Path, scores: easiness.Scores) -> Any:
    from lightning_easiness.cli.files import read_images
    from lightning_easiness.view.observed import observed

    way_out = "give the images of the data set that was recorded, in its order."
    if scores.source_index is not None:
        way_out = "give the images of the part that was recorded, in its order, or of the whole data set."
    return observed(f"'{path}'", read_images(path), scores.identity, "the record", way_out)


@dataclass
class _Drawing:
    """Figures of a score in a folder: those that were drawn, and why others were not."""

    source: Source
    record: easiness.EasinessRecord
    scores: easiness.Scores
    folder: Path
    options: dict[str, Any]
    files: list[Path] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def figures(self) -> None:
        name, checkpoint = self.scores.name, self.source.checkpoint
        self._draw(f"{name}_histogram.png", partial(easiness.draw_histogram, self.scores))
        self._draw(f"{name}_curves.png", partial(easiness.draw_curves, self.record, name, checkpoint=checkpoint))
        self._draw("data_map.png", partial(easiness.draw_data_map, self.record, checkpoint=checkpoint))

    def grids(self, images: Any) -> easiness.LabelIssues | None:
        for end in ("easiest", "hardest"):
            which: Literal["easy", "hard"] = "easy" if end == "easiest" else "hard"
            grid = easiness.scores_grid(images, self.scores, which=which, **self.options)
            self.files.append(easiness.save_image(grid, self.folder / f"{self.scores.name}_{end}.png"))
        found: easiness.LabelIssues | None = self._draw("suspects.png", partial(self._suspects, images))
        return found

    def tensorboard(self, images: Any, found: easiness.LabelIssues | None) -> None:
        from lightning_easiness.view.figures import scores_up_to

        log_dir = self.folder / "tensorboard"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of examples without a score: that was said
            checkpoints = scores_up_to(self.record, self.scores.name, self.source.checkpoint)
        easiness.write_tensorboard(checkpoints, images, log_dir, **self.options)
        if found is not None:
            easiness.write_suspects(images, found, log_dir, **self.options)
        self.files.append(log_dir)

    def _suspects(self, images: Any, path: Path) -> easiness.LabelIssues:
        """Draw what find_label_issues finds by its own score and series: those of the command may not show errors."""
        found = easiness.find_label_issues(self.source.path, seed=self.source.seed)
        easiness.save_image(easiness.suspects_grid(images, found, **self.options), path)
        return found

    def _draw(self, name: str, draw: Callable[[Path], Any]) -> Any:
        """Draw a figure and return what `draw` does; or keep why the record has none."""
        try:
            drawn = draw(self.folder / name)
        except ValueError as error:
            self.missing[name] = " ".join(str(error).split())
            return None
        self.files.append(self.folder / name)
        return drawn
