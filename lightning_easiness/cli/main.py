"""The command line, on what EasinessCallback and repeat_fit recorded.

The signatures of the commands are its options, read by jsonargparse. Whatever is slow to load is imported by the
command that needs it, so that `--help` is quick.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from lightning_easiness.__about__ import __version__
from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness.cli.answer import PROGRAM, Answer
from lightning_easiness.cli.commands import COMMANDS
from lightning_easiness.cli.source import Source

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_BROKEN_PIPE = 141  # as shells report a program that ends because nobody reads on
_REPORTED = (ValueError, TypeError, IndexError, OSError, ImportError)  # by which the package refuses input


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, or 2 after invalid input, which one line on stderr explains."""
    name, *options = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(__version__ if name == "--version" else _overview())
        return 0
    try:
        _run(name, options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python writes the rest at exit
        return _BROKEN_PIPE
    except _REPORTED as error:
        if "--traceback" in options:
            raise
        unexpected = isinstance(error, (TypeError, IndexError)) and not isinstance(error, ValueError)
        more = " (--traceback shows where)" if unexpected else ""
        print(f"{PROGRAM}: error: {_one_line(error)}{more}", file=sys.stderr)
        return 2
    return 0


def _overview() -> str:
    """Return the help of the program; that of a command takes jsonargparse, which is slower to load."""
    commands = "".join(f"  {name:9}{inspect.getdoc(command)}\n" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} [--version] COMMAND [--help] [PATH] [options]\n\nWhich training examples are easy, hard,"
        f" redundant or mislabelled? Reads the records of EasinessCallback and repeat_fit.\n\ncommands:\n{commands}"
    )


def _run(name: str, options: Sequence[str]) -> None:
    if name not in COMMANDS:
        raise ValueError(
            f"There is no command '{name}'{did_you_mean(name, COMMANDS)}: choose from {', '.join(COMMANDS)}."
        )
    given, owners = _parsed(name, options)
    if given.path is None and not (given.get("list") or given.get("score") == "list"):
        more = "; score --list names the scores without one" if "score" in given else ""
        raise ValueError(f"{name} needs the PATH of a record{more}.")
    said: list[str] = []
    with _kept_warnings(said), redirect_stdout(sys.stderr) if given.json else nullcontext():
        answer = _answer(COMMANDS[name], given, owners)
    if given.json:
        answer.print_json(name, said)
    else:
        answer.print_text()


def _answer(command: Callable[..., Answer], given: Any, owners: Mapping[Any, Sequence[str]]) -> Answer:
    """Import what the user named, and run a command."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in given.imports:
        importlib.import_module(module)  # may register scores
    options = {owner: {name: given[name.rstrip("_")] for name in names} for owner, names in owners.items()}
    return command(Source(**options[Source]), **options[command]) if Source in options else command(**options[command])


def _parsed(name: str, options: Sequence[str]) -> tuple[Any, dict[Any, list[str]]]:
    """Return the options, and the names of those of the command and of its Source."""
    from jsonargparse import ArgumentError, ArgumentParser

    command = COMMANDS[name]
    parser = ArgumentParser(f"{PROGRAM} {name}", exit_on_error=False, allow_abbrev=False)
    parser.description = inspect.getdoc(command)
    has_source = "source" in inspect.signature(command).parameters
    owners = {owner: _add_options(parser, owner) for owner in ((Source, command) if has_source else (command,))}
    parser.add_argument("--json", action="store_true", help="print one JSON object; its keys are documented")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], help="a module of yours, imported first"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    try:
        return parser.parse_args(list(options)), owners
    except ArgumentError as error:
        names = [*(each.rstrip("_") for owned in owners.values() for each in owned), "json", "import", "traceback"]
        raise ValueError(_sentence(_one_line(error), names)) from error


@contextmanager
def _kept_warnings(said: list[str]) -> Iterator[None]:
    """Show each warning on stderr, in one line, and keep its text."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        said.append(_one_line(message))
        print(f"{PROGRAM}: warning: {said[-1]}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _add_options(parser: ArgumentParser, owner: Any) -> list[str]:
    """Add an option for each parameter, annotated with its type and its help; return the names of the parameters."""
    hints = get_type_hints(owner, include_extras=True)
    parameters = {name: each for name, each in inspect.signature(owner).parameters.items() if name != "source"}
    for name, parameter in parameters.items():
        hint = hints[name]
        if get_origin(hint) is Union:  # Python 3.10 makes a default of None an Optional[Annotated[...]]
            hint = get_args(hint)[0]
        kind, text = get_args(hint)
        settings: dict[str, Any] = {"type": kind, "help": text}
        of_list = [each for each in (kind, *get_args(kind)) if get_origin(each) is list]
        if kind is bool:
            settings = {"action": "store_true", "help": text}
        elif of_list:
            settings |= {"type": get_args(of_list[0])[0], "nargs": "+"}
        if parameter.default is not parameter.empty and kind is not bool:
            settings["default"] = parameter.default
        if parameter.kind is parameter.KEYWORD_ONLY:
            settings |= {"required": True} if parameter.default is parameter.empty else {}
            parser.add_argument(f"--{name.rstrip('_').replace('_', '-')}", **settings)
        else:
            parser.add_argument(name, nargs="?", **settings)
    return list(parameters)


def _sentence(message: str, names: Sequence[str]) -> str:
    """Say in the words of the command line what jsonargparse says."""
    if value := re.fullmatch(r'Parser key "(\w+)".*?:(?:.*?Literal\[(.*?)\])?.*value: (.*)', message):
        choices = re.findall(r"'([^']*)'", value[2] or "")
        way_out = f"choose from {', '.join(choices)}" if choices else "--help says what it takes"
        return f"{_option(value[1])} cannot be '{value[3]}'{did_you_mean(value[3], choices)}: {way_out}."
    if unknown := re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message):
        return f"There is no option {unknown[1]}{did_you_mean(unknown[1], map(_option, names))}: --help lists them."
    if missing := re.fullmatch(r"the following arguments are required: (\w+)", message):
        return f"Give {_option(missing[1])}: --help says what it takes."
    if empty := re.fullmatch(r"argument (--[\w-]+): expected .* arguments?", message):
        return f"{empty[1]} needs a value: --help says what it takes."
    return message


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _beside(path: Path) -> str:
    """Return a remark that names the file beside a missing one that is spelt most like it."""
    if path.exists() or not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, [each.name for each in path.parent.iterdir()])


def _one_line(message: object) -> str:
    if isinstance(message, OSError) and message.filename and message.strerror:
        return f"{message.strerror}: '{message.filename}'{_beside(Path(message.filename))}."
    return " ".join(str(message).split())
