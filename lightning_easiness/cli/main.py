"""The command line, on what EasinessCallback and repeat_fit recorded: score, select, compare, issues, view.

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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from lightning_easiness.__about__ import __version__
from lightning_easiness._utils.spelling import did_you_mean
from lightning_easiness.cli.commands import COMMANDS, PROGRAM, Source

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
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
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
    from jsonargparse import ArgumentError, ArgumentParser

    if name not in COMMANDS:
        raise ValueError(
            f"There is no command '{name}'{did_you_mean(name, COMMANDS)}: choose from {', '.join(COMMANDS)}."
        )
    command = COMMANDS[name]
    parser = ArgumentParser(f"{PROGRAM} {name}", exit_on_error=False, allow_abbrev=False)
    parser.description = inspect.getdoc(command)
    names = [_add_options(parser, owner) for owner in (Source, command)]
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], help="a module of yours, imported first"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    try:
        given = parser.parse_args(list(options))
    except ArgumentError as error:
        raise ValueError(
            _sentence(_one_line(error), [each.rstrip("_") for owned in names for each in owned])
        ) from error
    if given.path is None and not (given.get("list") or given.score == "list"):
        raise ValueError(f"{name} needs the PATH of a record; score --list names the scores without one.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for module in given.imports:
        importlib.import_module(module)  # may register scores
    source, others = ({each: given[each.rstrip("_")] for each in owned} for owned in names)
    command(Source(**source), **others)


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
        choices = value[2] and f"choose from {value[2]}".replace("'", "")
        return f"{_option(value[1])} cannot be '{value[3]}': {choices or '--help says what it takes'}."
    if unknown := re.fullmatch(r"unrecognized arguments: (--[\w-]+).*", message):
        return f"There is no option {unknown[1]}{did_you_mean(unknown[1], map(_option, names))}: --help lists them."
    if missing := re.fullmatch(r"the following arguments are required: (\w+)", message):
        return f"Give {_option(missing[1])}: --help says what it takes."
    if empty := re.fullmatch(r"argument (--[\w-]+): expected .* arguments?", message):
        return f"{empty[1]} needs a value: --help says what it takes."
    return message


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _one_line(message: object) -> str:
    if isinstance(message, OSError) and message.filename and message.strerror:
        return f"{message.strerror}: '{message.filename}'."
    return " ".join(str(message).split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"{PROGRAM}: warning: {_one_line(message)}", file=sys.stderr)
