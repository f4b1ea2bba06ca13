"""The command line, on what EasinessCallback and repeat_fit recorded: score, select, compare, issues, view.

torch, and what else is slow to load, is imported by the command that needs it, so that `--help` is quick. Options that
were not given are not passed on: their defaults are those of the functions behind the commands.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lightning_easiness.cli.options import PROGRAM, make_parser

if TYPE_CHECKING:
    from lightning_easiness.labels.find import LabelIssues
    from lightning_easiness.record.record import EasinessRecord
    from lightning_easiness.scores import Scores

_TOLD = (ValueError, TypeError, IndexError, OSError, ImportError)  # by which the package says what the user can mend
_BROKEN_PIPE = 141  # as shells report a program that ends because nobody reads on
_ENDS: tuple[Literal["easiest", "hardest"], ...] = ("easiest", "hardest")
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, or 2 where the user has to mend something, which a line on stderr says.

    Example:
        >>> main(["select", "no-such-folder", "--ratio", "0.3"])
        2
    """
    arguments = make_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            for module in arguments.imports:
                _import(module)
            _COMMANDS[arguments.command](arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python writes the rest at exit
        return _BROKEN_PIPE
    except _TOLD as error:
        if arguments.traceback:
            raise
        more = " (--traceback shows where)" if isinstance(error, (TypeError, IndexError)) else ""
        print(f"{PROGRAM}: error: {_one_line(error)}{more}", file=sys.stderr)
        return 2
    return 0


# --------------------------------------------------------------------------------------------------------- commands


def _score(arguments: argparse.Namespace) -> None:
    from lightning_easiness.cli.files import cells, print_table, write_scores

    if arguments.list or arguments.score == "list":
        _list_scores()
        return
    if arguments.path is None:
        raise ValueError("score needs the PATH of a record; or --list, which names the scores.")
    record, scores = _read(arguments)
    print(f"{_about(arguments.path, record)}\n{_describe(scores)}")
    known = scores.values[scores.values.isfinite()].double().numpy()
    if len(known):
        import numpy as np

        levels = np.quantile(known, [level / 100 for level in _QUANTILES]).tolist()
        print(f"\nQuantiles of {len(known):,} examples:")
        print_table({f"{level} %": [f"{value:.4g}"] for level, value in zip(_QUANTILES, levels, strict=True)})
    if record.num_runs > 1:
        print(f"\n{record.agreement(scores.name, arguments.checkpoint, **_given(arguments, 'seed'))}")
    asked = [end for end in _ENDS if getattr(arguments, end) is not None]
    rows = None
    for end in asked or _ENDS:
        rows = getattr(scores, end)(getattr(arguments, end) or 1.0)
        shown = rows[: arguments.head]
        if not len(shown):
            continue
        print(f"\nThe {_name_of(end, scores)}{f' {len(rows):,}, the first' if asked else ''} {len(shown)}:")
        columns = {"score": scores.values, "spread": scores.spread, "target": scores.target, "rank": scores.ranks}
        print_table({"example": cells(shown), **{name: cells(column[shown]) for name, column in columns.items()}})
    if arguments.output is not None:
        write_scores(scores, rows if asked else None, arguments.output)


def _select(arguments: argparse.Namespace) -> None:
    from lightning_easiness.cli.files import write_indices
    from lightning_easiness.select.static import Ablation

    _, scores = _read(arguments)
    options = _given(arguments, "remove", "sampling", "seed", "class_balanced", "hardest_dropped", "num_strata")
    selection = Ablation(scores, arguments.ratio, **options)
    kept, labels = selection.kept, scores.target
    lost = [str(label) for label in sorted(set(labels.tolist()) - set(labels[kept].tolist())) if label >= 0]
    if lost:
        named = f"class{'es' if len(lost) > 1 else ''} {', '.join(lost[:10])}{' ...' if len(lost) > 10 else ''}"
        warnings.warn(f"no example of {named} is kept: see --per-class.", stacklevel=1)
    rule = "at random" if selection.remove == "random" else f"{selection.remove} ones, sampling '{selection.sampling}'"
    print(
        f"Kept {len(kept):,} of {len(scores):,} examples ({len(kept) / len(scores):.1%}), removed {rule}, seed "
        f"{selection.seed}. {_describe(scores)} Its mean is {scores.values.mean():.4g}, of those kept "
        f"{scores.values[kept].mean():.4g}.",
        file=sys.stderr,
    )
    write_indices(kept, arguments.output)


def _compare(arguments: argparse.Namespace) -> None:
    from lightning_easiness import functional
    from lightning_easiness.cli.files import print_table

    other = {name: getattr(arguments, f"{name}_b") for name in ("path", "score", "series", "checkpoint")}
    other = {name: value for name, value in other.items() if value is not None}
    if not other:
        raise ValueError(
            "compare needs a PATH_B; or --score-b, --series-b or --checkpoint-b, to compare within PATH_A."
        )
    sides = (arguments, argparse.Namespace(**{**vars(arguments), **other}))
    records, (a, b) = zip(*map(_read, sides), strict=True)
    for letter, side, record, scores in zip("AB", sides, records, (a, b), strict=True):
        print(f"{letter}  {_about(side.path, record)}\n   {_describe(scores)}")
    _check_same_data(a, b)
    rows = []
    for end in _ENDS if arguments.of == "both" else (arguments.of,):
        for fraction in arguments.fractions:
            sets = [getattr(scores, end)(fraction) for scores in (a, b)]
            rate = float(functional.matching_rate(*sets))
            rows.append((end, f"{fraction:g}", f"{max(map(len, sets)):,}", f"{rate:.4f}", f"{fraction:.4f}"))
    names = ("", "fraction", "examples", "matching rate", "chance")
    print()
    print_table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    values = b.values if a.higher_is_easier == b.higher_is_easier else -b.values
    print(f"\nRank correlation of easiness (Spearman): {float(functional.rank_correlation(a.values, values)):.4f}")
    for letter, side, record in zip("AB", sides, records, strict=True):
        if record.num_runs > 1:
            agreement = record.agreement(side.score, side.checkpoint, **_given(side, "seed")).full_agreement
            print(f"To expect between {letter} and {record.num_runs} other runs of its kind: {agreement:.4f}")


def _issues(arguments: argparse.Namespace) -> None:
    from lightning_easiness.cli.files import cells, print_table, read_labels, write_table
    from lightning_easiness.labels.find import find_label_issues
    from lightning_easiness.labels.threshold_issues import find_threshold_issues

    options = _given(arguments, "score", "rule", "checkpoint", "num_suspects", "refine", "series", "seed")
    if arguments.target is not None:
        options["target"] = read_labels(arguments.target)
    if options.get("rule") == "threshold":
        del options["rule"]
        issues = find_threshold_issues(arguments.path, **options)
    else:
        issues = find_label_issues(arguments.path, **options)
    head = issues.head(arguments.head)
    print(f"{issues.explanation}\n{len(issues.flagged):,} of {len(issues):,} labels are called wrong.\n")
    names = ("index", "given", "suggested", "score", "spread", "posterior", "is_issue")
    print_table({name: cells(getattr(head, name)) for name in names})
    if arguments.output is not None:
        write_table(issues, arguments.output)


def _view(arguments: argparse.Namespace) -> None:
    from lightning_easiness.cli.files import read_images
    from lightning_easiness.view import figures

    images = None if arguments.images is None else read_images(arguments.images)
    record, scores = _read(arguments)
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    name, end = scores.name, {"checkpoint": arguments.checkpoint}
    course = partial(figures.draw_curves, record, name, **end)
    data_map = partial(figures.draw_data_map, record, **end)
    try:
        _draw(folder / f"{name}_histogram.png", partial(figures.draw_histogram, scores))
        for figure, draw in ((f"{name}_course.png", course), ("data_map.png", data_map)):
            _draw(folder / figure, draw, may_lack=not arguments.traceback)
    except ImportError as error:
        if images is None and not arguments.tensorboard:
            raise
        warnings.warn(str(error), stacklevel=1)
    issues = None if images is None else _draw_sheets(arguments, scores, images)
    if arguments.tensorboard:
        _write_events(arguments, record, scores, images, issues)


_COMMANDS = {"score": _score, "select": _select, "compare": _compare, "issues": _issues, "view": _view}


# ------------------------------------------------------------------------------------------------- parts of commands


def _read(arguments: argparse.Namespace) -> tuple[EasinessRecord, Scores]:
    from lightning_easiness.record.record import EasinessRecord
    from lightning_easiness.scores import get_score

    get_score(arguments.score)  # says what is wrong before anything is read
    record = EasinessRecord.load(arguments.path, **_given(arguments, "series"))
    return record, record.score(arguments.score, arguments.checkpoint, **_given(arguments, "seed"))


def _check_same_data(a: Scores, b: Scores) -> None:
    if len(a) != len(b):
        raise ValueError(f"A has {len(a):,} examples and B {len(b):,}: compare records of one data set.")
    differ = ((a.target >= 0) & (b.target >= 0) & (a.target != b.target)).nonzero()[:, 0]
    if len(differ):
        first = int(differ[0])
        raise ValueError(
            f"A and B are of different data sets: example {first} has the label {int(a.target[first])} in A and "
            f"{int(b.target[first])} in B, and so {len(differ):,} of {len(a):,}: compare records of one data set."
        )


def _draw(path: Path, draw: Callable[[Path], object], may_lack: bool = False) -> None:
    """Draws a picture and prints where it is; or why there is none, of what the record need not hold."""
    try:
        draw(path)
    except ValueError as error:
        if not may_lack:
            raise
        print(f"{PROGRAM}: no {path.name}: {_one_line(error)}", file=sys.stderr)
    else:
        print(path)


def _draw_sheets(arguments: argparse.Namespace, scores: Scores, images: Any) -> LabelIssues | None:
    from lightning_easiness.labels.find import find_label_issues
    from lightning_easiness.labels.grid import suspects_grid
    from lightning_easiness.view.grids import scores_grid
    from lightning_easiness.view.images import save_image

    number, names = arguments.num_images, arguments.class_names
    which: Literal["easy", "hard"]
    for end, which in (("easiest", "easy"), ("hardest", "hard")):
        sheet = scores_grid(images, scores, number, which, names)
        print(save_image(sheet, arguments.output / f"{scores.name}_{end}.png"))
    found: list[LabelIssues] = []

    def draw(path: Path) -> None:
        # by the score and the series that find_label_issues takes, as this command's may not show wrong labels
        found.append(find_label_issues(arguments.path, **_given(arguments, "seed")))
        save_image(suspects_grid(images, found[0], number, names), path)

    _draw(arguments.output / "suspects.png", draw, may_lack=not arguments.traceback)
    return found[0] if found else None


def _write_events(
    arguments: argparse.Namespace, record: EasinessRecord, scores: Scores, images: Any, issues: LabelIssues | None
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from lightning_easiness.labels.grid import write_suspects
    from lightning_easiness.view.grids import histogram, write_tensorboard

    folder = arguments.output / "tensorboard"
    options = {"class_names": arguments.class_names, "num_images": arguments.num_images}
    with SummaryWriter(os.fspath(folder)) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of examples without a score: they were told of
        before = [record.score(scores.name, index) for index in range(arguments.checkpoint % record.num_checkpoints)]
        for at_checkpoint in before if images is not None else [*before, scores]:
            bins = histogram(at_checkpoint.values)
            if bins is not None:
                writer.add_histogram_raw(f"easiness/{scores.name}", **bins, global_step=at_checkpoint.step)
    if images is not None:
        write_tensorboard(scores, images, folder, **options)
    if issues is not None:
        write_suspects(images, issues, folder, **options)
    print(folder)


def _import(module: str) -> None:
    """Imports a module of the user's, which may register scores, from where the command was called."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.import_module(module)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given, or have a default here."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}


# ------------------------------------------------------------------------------------------------------------- words


def _about(path: Path, record: EasinessRecord) -> str:
    from lightning_easiness.record.layout import RUN_FILE, list_series

    steps = record.steps.tolist()
    at = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    classes = f" of {record.num_classes} classes" if record.num_classes else ""
    run = path if (path / RUN_FILE).exists() else path / record.runs[0]
    others = [name for name in list_series(run) if name != record.series]
    return (
        f"{path}: {_count(record.num_runs, 'run')}, {_count(record.num_checkpoints, 'checkpoint')} ({at}), "
        f"{_count(record.num_examples, 'example')}{classes}, series {record.series}"
        + (f" (there is also {', '.join(others)})" if others else "")
    )


def _describe(scores: Scores) -> str:
    from lightning_easiness.scores import get_score

    definition = get_score(scores.name)
    return f"{scores.name} at step {scores.step}, epoch {scores.epoch}: {_direction(definition)}. {definition.doc}"


def _name_of(end: str, scores: Scores) -> str:
    from lightning_easiness.scores import get_score

    if get_score(scores.name).ranks_difficulty:
        return end
    return "highest" if scores.higher_is_easier is (end == "easiest") else "lowest"


def _direction(definition: Any) -> str:
    if not definition.ranks_difficulty:
        return "neither end is easy"
    return f"{'high' if definition.higher_is_easier else 'low'} is easy"


def _list_scores() -> None:
    from lightning_easiness.scores import SCORES

    for definition in SCORES.values():
        low, high = definition.range
        print(
            f"{definition.name}: {definition.doc}\n    {_direction(definition)}; from {low:.3g} to {high:.3g}; needs "
            f"{', '.join(definition.needs)} of each {'checkpoint' if definition.per == 'trajectory' else 'run'}"
            + (f" with the loss {definition.loss}" if definition.loss else "")
            + (f"\n    {definition.paper}" if definition.paper else "")
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"{PROGRAM}: warning: {_one_line(message)}", file=sys.stderr)
