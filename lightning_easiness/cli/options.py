"""The options of the command line. Loads neither torch nor the rest of the package: `--help` is quick.

What has no default here has that of the function behind the command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from lightning_easiness.__about__ import __version__

PROGRAM = "lightning-easiness"
SAMPLINGS = ("proportional", "beta", "top", "stratified", "window")
_TABLE = (".csv", ".parquet")


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands; the name of the one that was called is in `command`.

    Example:
        >>> make_parser().parse_args(["select", "easiness", "--ratio", "0.3"]).ratio
        0.3
    """
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Which training examples are easy, hard, redundant or wrong? Of what was recorded by"
        " EasinessCallback or repeat_fit.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add, text in (
        ("score", _add_score, "print, and write as a table, one score of each example"),
        ("select", _add_select, "print, or write, the indices of the examples that stay when a share is removed"),
        ("compare", _add_compare, "say how far two records, scores or checkpoints agree on what is easy and hard"),
        ("issues", _add_issues, "list the labels that are probably wrong, most suspicious first"),
        ("view", _add_view, "draw the histogram of a score, its course, the data map, and sheets of pictures"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        add(command)
        _add_common(command)
    return parser


def _add_score(command: argparse.ArgumentParser) -> None:
    _add_path(command, nargs="?")
    _add_score_name(command)
    command.add_argument("--list", action="store_true", help="print the names of the scores, and what they are")
    ends = command.add_mutually_exclusive_group()
    for end in ("easiest", "hardest"):
        ends.add_argument(f"--{end}", type=float, metavar="FRACTION", help=f"only the {end} of the examples, in order")
    command.add_argument("--output", type=_file(*_TABLE), metavar="FILE", help="where the rows go: .csv or .parquet")
    _add_head(command, 10)


def _add_select(command: argparse.ArgumentParser) -> None:
    _add_path(command)
    command.add_argument("--ratio", type=float, required=True, help="share that is removed, in [0, 1)")
    command.add_argument("--remove", choices=("easy", "hard", "random"), help="what is removed (default: easy)")
    command.add_argument("--sampling", choices=SAMPLINGS, help="how it is found (default: proportional)")
    command.add_argument(
        "--per-class",
        dest="class_balanced",
        action="store_const",
        const=True,
        help="remove the same share of each class",
    )
    command.add_argument(
        "--hardest-dropped", type=float, metavar="SHARE", help="for stratified and window: see Ablation"
    )
    command.add_argument("--num-strata", type=int, metavar="N", help="for stratified")
    _add_score_name(command)
    command.add_argument(
        "--output",
        type=_file(".npy", ".txt", ".csv"),
        metavar="FILE",
        help="where the indices go: .npy, .txt or .csv (default: standard output, one a line)",
    )


def _add_compare(command: argparse.ArgumentParser) -> None:
    _add_path(command, metavar="PATH_A")
    command.add_argument("path_b", nargs="?", type=Path, metavar="PATH_B", help="the other record (default: the same)")
    _add_score_name(command)
    command.add_argument("--score-b", metavar="NAME", help="of B, where it is another score")
    command.add_argument("--series-b", metavar="NAME", help="of B, where it is another series")
    command.add_argument("--checkpoint-b", type=int, metavar="INDEX", help="of B, where it is another checkpoint")
    command.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=[0.1],
        metavar="FRACTION",
        help="that are called easy and hard (default: 0.1)",
    )
    command.add_argument("--of", choices=("easiest", "hardest", "both"), default="both", help="default: both")


def _add_issues(command: argparse.ArgumentParser) -> None:
    _add_path(command)
    command.add_argument("--score", metavar="NAME", help="that ranks; also self_confidence and normalized_margin")
    command.add_argument(
        "--rule",
        type=_rule,
        metavar="RULE",
        help="as find_label_issues has it: a name such as mixture, or a share such as 0.05",
    )
    command.add_argument("--num-suspects", type=int, metavar="N", help="call exactly so many wrong")
    command.add_argument("--refine", choices=("easy", "hard"), help="keep a flag only where sample easiness is this")
    command.add_argument(
        "--target",
        type=_file(".npy", ".csv", ".txt"),
        metavar="FILE",
        help="labels as they are now, to be held against those that were trained on: .npy, or one a line in .csv or"
        " .txt, perhaps in a column 'target' or 'label'",
    )
    command.add_argument("--output", type=_file(*_TABLE), metavar="FILE", help="where the table goes: .csv or .parquet")
    _add_head(command, 20)


def _add_view(command: argparse.ArgumentParser) -> None:
    _add_path(command)
    command.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="of the pictures; made if missing"
    )
    _add_score_name(command)
    command.add_argument(
        "--images",
        type=_file(".npy"),
        metavar="FILE",
        help="the pictures of the data set, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W): for sheets of the easiest,"
        " the hardest and those whose label is probably wrong",
    )
    command.add_argument("--num-images", type=int, default=25, metavar="N", help="on a sheet (default: 25)")
    command.add_argument("--class-names", nargs="+", metavar="NAME", help="words for the labels 0, 1, ...")
    command.add_argument("--tensorboard", action="store_true", help="write FOLDER/tensorboard, too")


def _add_path(command: argparse.ArgumentParser, metavar: str = "PATH", nargs: str | None = None) -> None:
    text = "the folder that EasinessCallback or repeat_fit wrote, or one run in it"
    command.add_argument("path", type=Path, metavar=metavar, nargs=nargs, help=text)


def _add_score_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("--score", default="mean_loss", metavar="NAME", help="default: mean_loss; see score --list")


def _add_head(command: argparse.ArgumentParser, default: int) -> None:
    command.add_argument("--head", type=_count, default=default, metavar="N", help=f"rows printed (default: {default})")


def _add_common(command: argparse.ArgumentParser) -> None:
    common = command.add_argument_group("of all commands")
    common.add_argument("--series", metavar="NAME", help="such as train-probe, the default of most, or train-online")
    common.add_argument(
        "--checkpoint", type=int, default=-1, metavar="INDEX", help="0 is the first, -1, the default, the last"
    )
    common.add_argument("--seed", type=int, metavar="N", help="of draws, and of what is left of ties (default: 0)")
    common.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of yours first, such as one that calls register_score()",
    )
    common.add_argument("--traceback", action="store_true", help="show where an error was raised")


def _file(*suffixes: str) -> Callable[[str], Path]:
    """A type of option: a file whose name ends in one of these."""

    def read(text: str) -> Path:
        if Path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"the file must end in {' or '.join(suffixes)}; got '{text}'")
        return Path(text)

    return read


def _rule(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"it must be at least 0; got {number}")
    return number
