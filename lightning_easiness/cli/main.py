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
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from lightning_easiness.__about__ import __version__
from lightning_easiness.cli.commands import COMMANDS, PROGRAM, Source

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

_BROKEN_PIPE = 141  # as shells report a program that ends because nobody reads on
_REPORTED = (ValueError, TypeError, IndexError, OSError, ImportError)  # by which the package refuses input


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments; those of the process when None.

    Returns:
        The exit status: 0, or 2 after invalid input, which one line on stderr explains.

    Example:
        >>> main(["select", "no-such-folder", "--ratio", "0.3"])
        2
    """
    name, *options = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(__version__ if name == "--version" else _overview())
        return 0
    traced = "--traceback" in options
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _run(name, options)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python writes the rest at exit
        return _BROKEN_PIPE
    except _REPORTED as error:
        if traced:
            raise
        more = " (--traceback shows where)" if isinstance(error, (TypeError, IndexError)) else ""
        print(f"{PROGRAM}: error: {_one_line(error)}{more}", file=sys.stderr)
        return 2
    return 0


def _overview() -> str:
    """Return the help of the program; that of a command takes jsonargparse, which is slower to load."""
    commands = "\n".join(f"  {name:9}{inspect.getdoc(command)}" for name, command in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND [PATH] [options]\n\nWhich training examples are easy, hard, redundant or wrong? Of"
        f" what EasinessCallback or repeat_fit recorded.\n\ncommands:\n{commands}\n\noptions:\n  -h, --help  of the"
        " program, or after COMMAND of a command\n  --version"
    )


def _run(name: str, options: Sequence[str]) -> None:
    if name not in COMMANDS:
        raise ValueError(f"There is no command '{name}': choose from {', '.join(COMMANDS)}.")
    command = COMMANDS[name]
    given = _parse(command, options)
    for module in given.pop("imports"):
        _import(module)
    source = Source(**{field: given.pop(field) for field in _parameters(Source)})
    command(source, **given)


def _parse(command: Callable[..., None], options: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a command and of its source by name; a ValueError is one sentence."""
    from jsonargparse import ArgumentError, ArgumentParser

    about = f"{PROGRAM} {command.__name__}"
    parser = ArgumentParser(prog=about, description=inspect.getdoc(command), exit_on_error=False, allow_abbrev=False)
    kinds = _add_options(parser, Source) | _add_options(parser, command)
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], help="module of yours to import first, again and again"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    try:
        given = parser.parse_args(list(options)).as_dict()
    except ArgumentError as error:
        raise ValueError(_sentence(_one_line(error), kinds)) from error
    del given["traceback"]
    return {name: given[name.rstrip("_")] if name in kinds else given[name] for name in [*kinds, "imports"]}


def _parameters(owner: Any) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(owner).parameters.items() if name != "source"}


def _add_options(parser: ArgumentParser, owner: Any) -> dict[str, Any]:
    """Add an option for each parameter, annotated with its type and its help; return the types by name."""
    hints = get_type_hints(owner, include_extras=True)
    kinds = {}
    for name, parameter in _parameters(owner).items():
        kinds[name], text = get_args(hints[name])
        settings: dict[str, Any] = {"type": kinds[name], "help": text}
        inner = [each for each in get_args(kinds[name]) if get_origin(each) is list] or [kinds[name]]
        if get_origin(inner[0]) is list:
            settings |= {"type": get_args(inner[0])[0], "nargs": "+"}
        flag = f"--{name.rstrip('_').replace('_', '-')}"
        if parameter.default is parameter.empty:
            settings["required"] = True
        elif kinds[name] is bool:
            settings = {"action": "store_true", "help": text}
        else:
            settings["default"] = parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY:
            flag, settings["nargs"] = name, "?"
        parser.add_argument(flag, **settings)
    return kinds


def _sentence(message: str, kinds: dict[str, Any]) -> str:
    """Say in the words of the command line what jsonargparse says of types."""
    found = re.match(r'Parser key "(\w+)".*value: (.*)', message)
    if found is None:
        return message
    kind = next((each for each in get_args(kinds[found[1]]) if each is not type(None)), kinds[found[1]])
    kind = kinds[found[1]] if get_origin(kinds[found[1]]) is Literal else kind
    words = {float: "a number", int: "an integer"}
    wanted = f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else words.get(kind, str(kind))
    return f"--{found[1].replace('_', '-')} must be {wanted}; got '{found[2]}'."


def _import(module: str) -> None:
    """Import a module of the user's, which may register scores, from where the command was called."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.import_module(module)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"{PROGRAM}: warning: {_one_line(message)}", file=sys.stderr)
