"""The commands: functions whose signatures define their options. Importing this loads neither torch nor the package.

Each returns an Answer, which is printed when nothing can go wrong any more. Options that were not given are not passed
on, so that the defaults are those of the functions behind the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning_easiness as easiness  # whose names are loaded when they are first used
from lightning_easiness.cli.answer import Answer, rows_of
from lightning_easiness.cli.checks import check_at_least, check_fraction, check_output, check_ratio
from lightning_easiness.cli.drawing import view
from lightning_easiness.cli.source import ClassNames, Source, given, label_source
from lightning_easiness.cli.words import (
    about,
    describe,
    held_by,
    list_scores,
    mean_and_error,
    name_of,
    quantiles,
    quantiles_as_text,
    rows_as_text,
)

_TABLE = (".csv", ".parquet")

Sampling = Literal["proportional", "beta", "top", "stratified", "window"]


# --------------------------------------------------------------------------------------------------------- commands


def runs(path: Annotated[Path, "a folder of runs, one run, or a folder above folders of runs"]) -> Answer:
    """Show what a folder holds: runs, series, checkpoints, recipes, and what is left out and why."""
    from lightning_easiness.cli.holdings import holdings
    from lightning_easiness.record.inventory import take_inventory

    return holdings(take_inventory(path))


def score(
    source: Source,
    *,
    list_: Annotated[bool, "list the scores and their definitions"] = False,
    easiest: Annotated[float | None, "show only this fraction of the examples, easiest first"] = None,
    hardest: Annotated[float | None, "show only this fraction of the examples, hardest first"] = None,
    output: Annotated[Path | None, "file for the rows: .csv or .parquet"] = None,
    head: Annotated[int, "number of rows to print"] = 10,
    class_names: ClassNames = None,
) -> Answer:
    """Print a score per example, and optionally write a table."""
    if list_ or source.score == "list":
        return list_scores()
    if easiest is not None and hardest is not None:
        raise ValueError("--easiest is not allowed with --hardest: give one of them.")
    asked = given(easiest=easiest, hardest=hardest)
    for name, value in asked.items():
        check_fraction(name, value, rows="--head")
    check_output(output, *_TABLE)
    check_at_least("head", head, 0)
    return _score(source, asked, output, head, class_names)


def _score(
    source: Source, asked: dict[str, float], output: Path | None, head: int, class_names: list[str] | None
) -> Answer:
    from lightning_easiness.cli.files import write_table
    from lightning_easiness.cli.next_steps import drop_some, find_issues_in, look
    from lightning_easiness.scores import get_score
    from lightning_easiness.view.words import class_namer

    record, scores = source.read()
    class_namer(class_names, scores.target)  # raises for too few names
    scores.class_names = scores.class_names if class_names is None else tuple(class_names)
    table = scores.to_pandas()
    definition = get_score(scores.name)
    agreement = None
    if record.has_agreement(scores.name):
        agreement = record.agreement(scores.name, source.checkpoint, seed=source.seed)
    ends = {end: getattr(scores, end)(share).tolist() for end, share in (asked or {"easiest": 1, "hardest": 1}).items()}
    shown = {end: table.iloc[rows[:head]] for end, rows in ends.items() if rows[:head]}
    mean = mean_and_error(scores) if definition.over == "both" else None
    text = f"{about(source.path, record)}\n{describe(scores)}\n{quantiles_as_text(table['score'])}\n"
    text += (f"\n{mean}\n" if mean else "") + (f"\n{agreement}\n" if agreement else "")
    for end, rows in shown.items():
        of_all = f" {len(ends[end]):,}, the first" if asked else ""
        text += f"\nThe {name_of(end, scores)}{of_all} {len(rows)}:\n{rows_as_text(rows)}\n"
    if output is not None:
        rows = [index for end in ends.values() for index in end]
        write_table(table.loc[rows] if asked else table, output)
    values = {
        **held_by(source.path, record, scores),
        "mean": scores.values.nanmean(),
        "mean_standard_error": scores.spread.nanmean() if mean else None,
        "quantiles": quantiles(table["score"]),
        "agreement": agreement,
        **{end: rows_of(shown[end]) if end in shown else [] for end in ("easiest", "hardest")},
        "output": output,
    }
    drop = (drop_some(source),) if definition.ranks_difficulty else ()
    return Answer(values, text, next=(*find_issues_in(source.path, record, source.series), *drop, look(source)))


def select(
    source: Source,
    *,
    ratio: Annotated[float | None, "fraction to remove, in [0, 1)"] = None,
    decisions: Annotated[Path | None, "in place of --ratio: the file of decisions that a report page saved"] = None,
    remove: Annotated[Literal["easy", "hard", "random"], "which examples to remove"] = "easy",
    sampling: Annotated[Sampling, "how to choose them"] = "proportional",
    per_class: Annotated[bool, "remove the same fraction of each class"] = False,
    hardest_dropped: Annotated[float | None, "for stratified and window: see Ablation"] = None,
    num_strata: Annotated[int | None, "for stratified"] = None,
    output: Annotated[Path | None, "file for the indices: .npy, .txt or .csv; by default printed, one per line"] = None,
) -> Answer:
    """Print or write the indices of the examples kept, after removing a fraction or by the decisions on a report."""
    if (ratio is None) == (decisions is None):
        raise ValueError("select needs either --ratio, the fraction to remove, or --decisions, a file of a report.")
    check_output(output, ".npy", ".txt", ".csv")
    check_output(decisions, ".json")
    if ratio is not None:
        check_ratio(ratio)
    from lightning_easiness.cli.selecting import decided, selected  # slow to load

    if decisions is not None:
        return decided(source, decisions, output)
    assert ratio is not None
    options = given(hardest_dropped=hardest_dropped, num_strata=num_strata)
    return selected(source, output, ratio, remove, sampling, source.seed, class_balanced=per_class, **options)


def compare(
    source: Source,
    path_b: Annotated[Path | None, "the other record (the same by default)"] = None,
    *,
    score_b: Annotated[str | None, "score of B, if different"] = None,
    series_b: Annotated[str | None, "series of B, if different"] = None,
    checkpoint_b: Annotated[int | None, "checkpoint of B, if different"] = None,
    fractions: Annotated[list[float], "fractions of the examples that count as easy and hard"] = [0.1],  # noqa: B006
    of: Annotated[Literal["easiest", "hardest", "both"], "the ends to compare"] = "both",
    over_training: Annotated[bool, "also at each epoch that both have; without a B, each epoch with the last"] = False,
    output: Annotated[Path | None, "with --over-training: file for its rates, .csv, or their figure, .png"] = None,
) -> Answer:
    """Measure how well two records, scores or checkpoints agree on which examples are easy and hard."""
    other = given(path=path_b, score=score_b, series=series_b, checkpoint=checkpoint_b)
    if not other and not over_training:
        raise ValueError("compare needs a PATH_B; or --score-b, --series-b or --checkpoint-b, to compare within PATH.")
    for fraction in fractions:
        check_fraction("fractions", fraction)
    check_output(output, ".csv", ".png")
    if output is not None and not over_training:
        raise ValueError("--output of compare is for --over-training: give both, or --json for what is printed.")
    if over_training and (score_b is not None or checkpoint_b is not None):
        raise ValueError("--over-training compares one score at all epochs: leave out --score-b and --checkpoint-b.")
    ends = ("easiest", "hardest") if of == "both" else (of,)
    sides = (source, replace(source, **(other or {"checkpoint": 0})))
    return _compare(sides, ends, fractions, over_training, output)


def _compare(
    sides: tuple[Source, Source],
    ends: tuple[str, ...],
    fractions: list[float],
    over_training: bool,
    output: Path | None,
) -> Answer:
    from lightning_easiness import functional
    from lightning_easiness.cli.matching import matching_rows, matching_table
    from lightning_easiness.cli.next_steps import look, see_scores

    records, (a, b) = zip(*(side.read() for side in sides), strict=True)
    a.identity.check_same(b.identity, "A", "B", "compare records of one data set.")
    rows = matching_rows(a, b, ends, fractions)
    correlation = functional.rank_correlation(
        a.values, b.values if a.higher_is_easier == b.higher_is_easier else -b.values
    )
    values: dict[str, Any] = {}
    text = expected = ""
    for letter, side, record, scores in zip("AB", sides, records, (a, b), strict=True):
        text += f"{letter}  {about(side.path, record)}\n   {describe(scores)}\n"
        values[letter.lower()] = held_by(side.path, record, scores) | {"expected_agreement": None}
        if record.has_agreement(scores.name):
            agreement = record.agreement(scores.name, side.checkpoint, seed=side.seed).full_agreement
            values[letter.lower()]["expected_agreement"] = agreement
            expected += f"To expect between {letter} and {record.num_runs} other runs of its kind: {agreement:.4f}\n"
    text += f"\n{matching_table(rows)}\n\nRank correlation of easiness (Spearman): {float(correlation):.4f}\n{expected}"
    values |= {"matching": rows, "rank_correlation": correlation, "over_training": None, "output": output}
    if over_training:
        from lightning_easiness.cli.over_training import curves_of, rows_of_curves, text_of, write

        curves = curves_of(sides, records, fractions)
        write(curves, output)
        values["over_training"] = rows_of_curves(curves)
        text += f"\n{text_of(curves)}\n"
    other = sides[1].path
    last = look(sides[0]) if other == sides[0].path else see_scores(other, sides[1].series)
    return Answer(values, text, next=(last,))


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
) -> Answer:
    """List probable label errors, most suspicious first."""
    from lightning_easiness.cli.files import read_labels, write_table
    from lightning_easiness.cli.label_rules import label_rule
    from lightning_easiness.cli.next_steps import look
    from lightning_easiness.view.words import class_namer

    check_output(output, *_TABLE)
    check_output(target, ".npy", ".csv", ".txt")
    check_at_least("head", head, 0)
    asked = label_rule(rule, percentile, num_suspects)
    labels = None if target is None else read_labels(target)
    record, name = label_source(source)
    found = easiness.find_label_issues(
        record,
        asked,
        score=name,
        checkpoint=source.checkpoint,
        target=labels,
        refine=None if refine is None else easiness.Refine(refine),
        seed=source.seed,
    )
    if class_names is not None:
        class_namer(class_names, found.given)  # raises for too few names
        found = replace(found, class_names=tuple(class_names))
    table = found.head(head).to_pandas()
    if output is not None:
        write_table(found.to_pandas(), output)
    text = f"{found.explanation}\n{len(found.flagged):,} of {len(found):,} labels are flagged.\n\n{rows_as_text(table)}"
    remarks = (found.how_to_suggest,) if found.how_to_suggest else ()
    return Answer(_issue_values(source.path, found, table, output), text, remarks, (look(replace(source, score=None)),))


def _issue_values(path: Path, found: easiness.LabelIssues, table: Any, output: Path | None) -> dict[str, Any]:
    return {
        "path": path,
        "score": found.score_name,
        "rule": found.rule,
        "explanation": found.explanation,
        "num_examples": found.num_examples,
        "num_flagged": len(found.flagged),
        "num_slow": int(found.is_slow.sum()),
        "estimated_share": found.estimated_share,
        "estimated_interval": found.estimated_interval,
        "rows": rows_of(table),
        "output": output,
    }


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
) -> Answer:
    """Write one HTML page to look at and decide: what is easy, hard, memorised or wrong. It needs no network."""
    from lightning_easiness.cli.next_steps import decide
    from lightning_easiness.cli.report_page import make_report

    for path, *suffixes in ((output, ".html"), (images, ".npy"), (kept, ".npy"), (atlas, ".parquet")):
        check_output(path, *suffixes)
    if images is not None and dataset is not None:
        raise ValueError("--images is not allowed with --dataset: give one of them.")
    made = make_report(
        source, images, dataset, kept, class_names=class_names, title=title or source.path.resolve().name
    )
    made.save(output)
    text = f"{output} ({output.stat().st_size / 1e6:.1f} MB): open it in a browser, or send it.\n"
    text += 'Decisions that are downloaded from it go back with Keep.from_decisions("decisions.json").\n'
    command = None
    if atlas is not None:
        command = made.to_atlas(atlas)
        text += f"{atlas}: pip install embedding-atlas, then {command}\n"
    values = {
        "path": source.path,
        "output": output,
        "num_bytes": output.stat().st_size,
        "atlas": atlas,
        "atlas_command": command,
    }
    return Answer(values, text, next=(decide(source.path),))


COMMANDS: dict[str, Callable[..., Answer]] = {
    each.__name__: each for each in (runs, score, select, compare, issues, view, report)
}
