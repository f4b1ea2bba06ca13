"""The commands: functions whose signatures define their options. Importing this loads neither torch nor the package.

Options that were not given are not passed on, so that the defaults are those of the functions behind the commands.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning_easiness as easiness  # whose names are loaded when they are first used
from lightning_easiness.cli.checks import check_at_least, check_fraction, check_output, check_ratio
from lightning_easiness.cli.words import about, describe, list_scores, mean_and_error, name_of, quantiles, rows_as_text

PROGRAM = "lightning-easiness"
_TABLE = (".csv", ".parquet")

ClassNames = Annotated[list[str] | None, "names of the classes 0, 1, ...; by default those that were recorded"]
Sampling = Literal["proportional", "beta", "top", "stratified", "window"]


@dataclass(frozen=True)
class Source:
    """A score of a record."""

    path: Annotated[Path, "the folder that EasinessCallback or repeat_fit wrote, or one run in it"]
    score: Annotated[str | None, "name of the score (usually mean_loss by default); see score --list"] = field(
        default=None, kw_only=True
    )
    series: Annotated[str | None, "for example train-probe or train-online"] = field(default=None, kw_only=True)
    checkpoint: Annotated[int, "0 is the first, -1 the last"] = field(default=-1, kw_only=True)
    seed: Annotated[int, "seed of draws and of remaining ties"] = field(default=0, kw_only=True)

    def read(self) -> tuple[easiness.EasinessRecord, easiness.Scores]:
        """Load the record and its score."""
        from lightning_easiness.scores import get_score

        name = self.score or "mean_loss"
        get_score(name)  # raises for a wrong name before anything is read
        record = easiness.EasinessRecord.load(self.path, self.series)
        return record, record.score(name, self.checkpoint, seed=self.seed)


# --------------------------------------------------------------------------------------------------------- commands


def score(
    source: Source,
    *,
    list_: Annotated[bool, "list the scores and their definitions"] = False,
    easiest: Annotated[float | None, "show only this fraction of the examples, easiest first"] = None,
    hardest: Annotated[float | None, "show only this fraction of the examples, hardest first"] = None,
    output: Annotated[Path | None, "file for the rows: .csv or .parquet"] = None,
    head: Annotated[int, "number of rows to print"] = 10,
    class_names: ClassNames = None,
) -> None:
    """Print a score per example, and optionally write a table."""
    from lightning_easiness.cli.files import write_table
    from lightning_easiness.scores import get_score
    from lightning_easiness.view.words import class_namer

    if list_ or source.score == "list":
        list_scores()
        return
    if easiest is not None and hardest is not None:
        raise ValueError("--easiest is not allowed with --hardest: give one of them.")
    asked = {name: value for name, value in (("easiest", easiest), ("hardest", hardest)) if value is not None}
    for name, value in asked.items():
        check_fraction(name, value, rows="--head")
    check_output(output, *_TABLE)
    check_at_least("head", head, 0)
    record, scores = source.read()
    class_namer(class_names, scores.target)  # raises for too few names
    scores.class_names = scores.class_names if class_names is None else tuple(class_names)
    table, rows = scores.to_pandas(), None
    print(f"{about(source.path, record)}\n{describe(scores)}\n{quantiles(table['score'])}")
    if get_score(scores.name).over == "both":
        print(f"\n{mean_and_error(scores)}")
    if record.has_agreement(scores.name):
        print(f"\n{record.agreement(scores.name, source.checkpoint, seed=source.seed)}")
    for end, fraction in (asked or {"easiest": 1.0, "hardest": 1.0}).items():
        rows = getattr(scores, end)(fraction).tolist()
        shown = rows[:head]
        if not shown:
            continue
        print(f"\nThe {name_of(end, scores)}{f' {len(rows):,}, the first' if asked else ''} {len(shown)}:")
        print(rows_as_text(table.iloc[shown]))
    if output is not None:
        write_table(table.loc[rows] if asked else table, output)


def select(
    source: Source,
    *,
    ratio: Annotated[float, "fraction to remove, in [0, 1)"],
    remove: Annotated[Literal["easy", "hard", "random"], "which examples to remove"] = "easy",
    sampling: Annotated[Sampling, "how to choose them"] = "proportional",
    per_class: Annotated[bool, "remove the same fraction of each class"] = False,
    hardest_dropped: Annotated[float | None, "for stratified and window: see Ablation"] = None,
    num_strata: Annotated[int | None, "for stratified"] = None,
    output: Annotated[Path | None, "file for the indices: .npy, .txt or .csv; by default printed, one per line"] = None,
) -> None:
    """Print or write the indices of the examples kept after removing a fraction."""
    from lightning_easiness.cli.files import write_indices

    check_ratio(ratio)
    check_output(output, ".npy", ".txt", ".csv")
    _, scores = source.read()
    options = _given(hardest_dropped=hardest_dropped, num_strata=num_strata)
    selection = easiness.Ablation(scores, ratio, remove, sampling, source.seed, class_balanced=per_class, **options)
    kept, labels = selection.kept, scores.target
    lost = [str(label) for label in sorted(set(labels.tolist()) - set(labels[kept].tolist())) if label >= 0]
    if lost:
        named = ", ".join(lost[:10]) + (" ..." if len(lost) > 10 else "")
        warnings.warn(f"no example with the label {named} is kept: see --per-class.", stacklevel=1)
    of_a_part = scores.source_index is not None
    rule = "at random" if selection.remove == "random" else f"{selection.remove} ones, sampling '{selection.sampling}'"
    print(
        f"Kept {len(kept):,} of {len(scores):,} examples ({len(kept) / len(scores):.1%}), removed {rule}, seed "
        f"{selection.seed}. {describe(scores)} Its mean is {scores.values.mean():.4g}, of those kept "
        f"{scores.values[kept].mean():.4g}."
        + (" Indices count in the part that was trained on; a .csv has those in the whole data set too." * of_a_part),
        file=sys.stderr,
    )
    write_indices(kept, output, scores.source_index)


def compare(
    source: Source,
    path_b: Annotated[Path | None, "the other record (the same by default)"] = None,
    *,
    score_b: Annotated[str | None, "score of B, if different"] = None,
    series_b: Annotated[str | None, "series of B, if different"] = None,
    checkpoint_b: Annotated[int | None, "checkpoint of B, if different"] = None,
    fractions: Annotated[list[float], "fractions of the examples that count as easy and hard"] = [0.1],  # noqa: B006
    of: Annotated[Literal["easiest", "hardest", "both"], "the ends to compare"] = "both",
) -> None:
    """Measure how well two records, scores or checkpoints agree on which examples are easy and hard."""
    from lightning_easiness import functional
    from lightning_easiness.cli.matching import matching_table

    other = _given(path=path_b, score=score_b, series=series_b, checkpoint=checkpoint_b)
    if not other:
        raise ValueError("compare needs a PATH_B; or --score-b, --series-b or --checkpoint-b, to compare within PATH.")
    for fraction in fractions:
        check_fraction("fractions", fraction)
    sides = (source, replace(source, **other))
    records, (a, b) = zip(*(side.read() for side in sides), strict=True)
    a.identity.check_same(b.identity, "A", "B", "compare records of one data set.")
    matching = matching_table(a, b, ("easiest", "hardest") if of == "both" else (of,), fractions)
    for letter, side, record, scores in zip("AB", sides, records, (a, b), strict=True):
        print(f"{letter}  {about(side.path, record)}\n   {describe(scores)}")
    print(f"\n{matching}")
    values = b.values if a.higher_is_easier == b.higher_is_easier else -b.values
    print(f"\nRank correlation of easiness (Spearman): {float(functional.rank_correlation(a.values, values)):.4f}")
    for letter, side, record, scores in zip("AB", sides, records, (a, b), strict=True):
        if record.has_agreement(scores.name):
            agreement = record.agreement(scores.name, side.checkpoint, seed=side.seed).full_agreement
            print(f"To expect between {letter} and {record.num_runs} other runs of its kind: {agreement:.4f}")


def issues(
    source: Source,
    *,
    rule: Annotated[
        float | str | None, "held_out, threshold, contradicted, confident, mixture, gap, or a fraction"
    ] = None,
    percentile: Annotated[float | None, "percentile of the rule threshold"] = None,
    num_suspects: Annotated[int | None, "flag exactly this number"] = None,
    refine: Annotated[Literal["easy", "hard"] | None, "keep only flags with this level of sample easiness"] = None,
    target: Annotated[Path | None, "current labels, to compare with those trained on: .npy, .csv or .txt"] = None,
    output: Annotated[Path | None, "file for the table: .csv or .parquet"] = None,
    head: Annotated[int, "number of rows to print"] = 20,
    class_names: ClassNames = None,
) -> None:
    """List probable label errors, most suspicious first."""
    from lightning_easiness.cli.files import read_labels, write_table
    from lightning_easiness.view.words import class_namer

    check_output(output, *_TABLE)
    check_output(target, ".npy", ".csv", ".txt")
    check_at_least("head", head, 0)
    record, name = label_source(source)
    found = easiness.find_label_issues(
        record,
        _label_rule(rule, percentile, num_suspects),
        score=name,
        checkpoint=source.checkpoint,
        target=None if target is None else read_labels(target),
        refine=None if refine is None else easiness.Refine(refine),
        seed=source.seed,
    )
    if class_names is not None:
        class_namer(class_names, found.given)  # raises for too few names
        found = replace(found, class_names=tuple(class_names))
    print(f"{found.explanation}\n{len(found.flagged):,} of {len(found):,} labels are flagged.\n")
    print(rows_as_text(found.head(head).to_pandas()))
    if output is not None:
        write_table(found.to_pandas(), output)


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
) -> None:
    """Draw the histogram of a score, its curves, the data map, and grids of images."""
    from lightning_easiness.cli.files import read_images
    from lightning_easiness.data.identity import DataIdentity
    from lightning_easiness.view.figures import scores_up_to
    from lightning_easiness.view.words import class_namer

    check_output(images, ".npy")
    check_at_least("num-images", num_images, 1)
    data = None if images is None else read_images(images)
    record, scores = source.read()
    class_namer(class_names, scores.target)  # raises for too few names
    if data is not None:
        way_out = "give the images of the data set that was recorded, in its order."
        DataIdentity(len(data)).check_same(scores.identity, f"'{images}'", "the record", way_out)
    output.mkdir(parents=True, exist_ok=True)
    try:
        _draw_figures(source, record, scores, output)
    except ImportError as error:
        if data is None and not tensorboard:
            raise
        warnings.warn(str(error), stacklevel=1)
    options: dict[str, Any] = {"class_names": class_names, "num_images": num_images}
    found = None
    if data is not None:
        for end in ("easiest", "hardest"):
            grid = easiness.scores_grid(data, scores, which="easy" if end == "easiest" else "hard", **options)
            print(easiness.save_image(grid, output / f"{scores.name}_{end}.png"))
        found = _draw(output / "suspects.png", partial(_save_suspects, source, data, **options))
    if tensorboard:
        log_dir = output / "tensorboard"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of examples without a score: that was said
            checkpoints = scores_up_to(record, scores.name, source.checkpoint)
        easiness.write_tensorboard(checkpoints, data, log_dir, **options)
        if found is not None:
            easiness.write_suspects(data, found, log_dir, **options)
        print(log_dir)


def report(
    source: Source,
    *,
    output: Annotated[Path, "the page, a file that ends in .html"],
    images: Annotated[
        Path | None, "a .npy file with the images of the data set, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W)"
    ] = None,
    dataset: Annotated[
        str | None, "MODULE:NAME of the data set, or of a function that makes it, for pictures, texts and class names"
    ] = None,
    class_names: ClassNames = None,
    kept: Annotated[Path | None, "a .npy file with the indices that were kept, as select writes it"] = None,
    title: Annotated[str | None, "title of the page; the name of the folder by default"] = None,
    atlas: Annotated[Path | None, "also write all examples as .parquet for Embedding Atlas"] = None,
) -> None:
    """Write one HTML page to look at and decide: what is easy, hard, memorised or wrong. It needs no network."""
    from lightning_easiness.cli.report_page import make_report

    for path, *suffixes in ((output, ".html"), (images, ".npy"), (kept, ".npy"), (atlas, ".parquet")):
        check_output(path, *suffixes)
    if images is not None and dataset is not None:
        raise ValueError("--images is not allowed with --dataset: give one of them.")
    made = make_report(
        source, images, dataset, kept, class_names=class_names, title=title or source.path.resolve().name
    )
    print(f"{made.save(output)} ({output.stat().st_size / 1e6:.1f} MB): open it in a browser, or send it.")
    print('Decisions that are downloaded from it go back with Keep.from_decisions("decisions.json").')
    if atlas is not None:
        print(f"{atlas}: pip install embedding-atlas, then {made.to_atlas(atlas)}")


COMMANDS: dict[str, Callable[..., None]] = {
    each.__name__: each for each in (score, select, compare, issues, view, report)
}


# ------------------------------------------------------------------------------------------------- parts of commands


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def label_source(source: Source) -> tuple[Any, str | None]:
    """Return what label issues are found in, and by which score: the folder, or the record or score of a series."""
    if source.series is None:
        return source.path, source.score
    record = easiness.EasinessRecord.load(source.path, source.series)
    name = source.score or "weighted_area_under_margin"
    if record.series == "train-online" or not name.endswith("area_under_margin"):
        return record, source.score
    return record.score(name, source.checkpoint, seed=source.seed), None


def _label_rule(name: float | str | None, percentile: float | None, num_suspects: int | None) -> Any:
    """Return the rule of a name, a fraction or a count."""
    if percentile is not None and name != "threshold":
        raise ValueError("--percentile is of --rule threshold: give both.")
    if num_suspects is not None:
        if name is not None:
            raise ValueError("--num-suspects is not allowed with --rule: give one of them.")
        return easiness.Hardest(num_suspects)
    if name is None:
        return None
    if isinstance(name, float):
        check_fraction("rule", name, rows="--num-suspects")
        return easiness.Hardest(name)
    known = (
        easiness.HeldOut,
        easiness.Threshold,
        easiness.Contradicted,
        easiness.Confident,
        easiness.Mixture,
        easiness.Gap,
    )
    rules: dict[str, Any] = {rule.name: rule for rule in known}
    if name not in rules:
        raise ValueError(f"--rule must be {', '.join(rules)}, or a fraction such as 0.05; got '{name}'.")
    return rules[name](**_given(percentile=percentile))


def _draw(path: Path, draw: Callable[[Path], Any]) -> Any:
    """Draw a figure, print where it is and return what `draw` does; or say why the record has none."""
    try:
        drawn = draw(path)
    except ValueError as error:
        print(f"{PROGRAM}: no {path.name}: {' '.join(str(error).split())}", file=sys.stderr)
        return None
    print(path)
    return drawn


def _draw_figures(source: Source, record: easiness.EasinessRecord, scores: easiness.Scores, folder: Path) -> None:
    easiness.draw_histogram(scores, folder / f"{scores.name}_histogram.png")
    print(folder / f"{scores.name}_histogram.png")
    curves = partial(easiness.draw_curves, record, scores.name, checkpoint=source.checkpoint)
    _draw(folder / f"{scores.name}_curves.png", curves)
    _draw(folder / "data_map.png", partial(easiness.draw_data_map, record, checkpoint=source.checkpoint))


def _save_suspects(source: Source, images: Any, path: Path, **options: Any) -> easiness.LabelIssues:
    """Draw what find_label_issues finds by its own score and series: those of the command may not show label errors."""
    found = easiness.find_label_issues(source.path, seed=source.seed)
    easiness.save_image(easiness.suspects_grid(images, found, **options), path)
    return found
