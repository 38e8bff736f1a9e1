"""What is wrong with the words of a command, in one line that names the option and the fix."""

# No `from __future__ import annotations`: as in all files that import typer.

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.spelling import near_words

_PROGRAM = "dglke-distill"
_MOST = 200
"""Characters of a word of the user's that a message repeats."""
_NUMBERS = {"integer": int, "int": int, "float": float}
"""Kinds of numbers by the names of their types in click."""


def is_usage_error(error: BaseException) -> bool:
    """Return whether an error is click's about the words of a command.

    typer may carry a copy of click, whose classes are others: they are known by what they hold.

    Args:
        error: of whatever origin. The help that a command without words prints is none.
    """
    known = (hasattr(error, "format_message"), hasattr(error, "ctx"), hasattr(error, "cmd"))
    return all(known) and type(error).__name__ != "NoArgsIsHelpError"


def is_path(parameter: Any) -> bool:
    """Return whether a parameter is the path of a file or folder.

    Args:
        parameter: of a command.
    """
    kind, _ = _descriptor(parameter)
    return kind is Path or getattr(kind, "path_type", None) is Path


def usage_line(error: Any) -> str:
    """Return one line that says which word is wrong, and what to write instead.

    Args:
        error: of click; see ``is_usage_error``.
    """
    kind, context = type(error).__name__, error.ctx
    if kind == "NoSuchOption":
        return _no_option(error.option_name, context)
    if kind == "BadOptionUsage":
        name = error.option_name
        if "not take" in error.message:
            return f"{name} takes no value; write {name} alone"
        return f"{name} needs a value; write it after {name}"
    parameter = getattr(error, "param", None)
    if parameter is not None:
        if kind == "MissingParameter":
            return f"{_command(context)} needs {named_parameter(parameter)}{_meaning(parameter)}"
        return _bad_value(error, parameter)
    no_command = re.match(r"No such command '(.*?)'\.", error.message, re.DOTALL)
    if no_command:
        return _no_command(no_command[1], context)
    extra = re.match(r"Got unexpected extra argument\S* \((.*)\)", error.message, re.DOTALL)
    if extra:
        return _too_many(extra[1], context)
    return f"{error.message.rstrip('.')}; {_help(context)}"


def _no_option(name: str, context: Any) -> str:
    known: list[str] = []
    if context is not None:
        own = (*context.command.params, context.command.get_help_option(context))
        known = [word for made in own if made is not None for word in _options(made)]
    said = f"{_command(context)} has no option {_short(name)}"
    return f"{said}; {_near(name, known) or _help(context)}"


def _no_command(name: str, context: Any) -> str:
    group = "" if context is None or context.parent is None else f"{_command(context)} "
    known = [] if context is None else list(context.command.commands)
    hint = _near(name, known) or f"known: {', '.join(known)}"
    return f"{_PROGRAM} {group}has no command '{_short(name)}'; {hint}"


def _too_many(words: str, context: Any) -> str:
    taken = [
        named_parameter(made)
        for made in (context.command.params if context is not None else ())
        if made.param_type_name == "argument"
    ]
    place = f"{' and '.join(taken)} alone" if taken else "options alone"
    return (
        f"{_command(context)} takes {place}, not '{_short(words)}' as well; "
        "put a name with spaces in quotes"
    )


def _bad_value(error: Any, parameter: Any) -> str:
    """Return the line for a value that is no number, out of range, or no choice."""
    name, value = named_parameter(parameter), _value(error)
    known = _choices(parameter)
    if known:
        wanted = f"give one of {', '.join(known)}"
    elif _number(parameter):
        wanted = f"give {_number(parameter)}"
    else:
        return f"{name}: {error.message.rstrip('.')}"
    return f"{name}: {wanted}" if value is None else f"{name} is {_quoted(value)}; {wanted}"


def _value(error: Any) -> Optional[str]:
    """Return what was given, or None where the error does not say it."""
    cause = error.__cause__
    if hasattr(cause, "errors"):  # pydantic's, which reads the values for newer versions of typer
        return str(cause.errors(include_url=False)[0]["input"])
    found = re.match(r"(.*?) is not ", error.message, re.DOTALL)
    return found[1].strip("'") if found else None


def _descriptor(parameter: Any) -> tuple[Any, Any]:
    """Return the class of a parameter's values, or click's type of it, and what bounds them."""
    described = getattr(parameter, "type_descriptor", None)
    if described is not None:
        return described.annotation, described.parameter_info
    return parameter.type, parameter.type


def _choices(parameter: Any) -> list[str]:
    described = getattr(parameter, "type_descriptor", None)
    holder = described if described is not None else parameter.type
    return [str(getattr(one, "value", one)) for one in getattr(holder, "choices", None) or ()]


def _number(parameter: Any) -> str:
    """Return which number is wanted, as in ``a whole number from 1 to 9``; empty: no number is."""
    kind, bounds = _descriptor(parameter)
    kind = _NUMBERS.get(str(getattr(kind, "name", "")).partition(" ")[0], kind)  # "integer range"
    if kind not in (int, float):
        return ""
    noun = "a whole number" if kind is int else "a number"
    ends = (getattr(bounds, "min", None), getattr(bounds, "max", None))
    least, most = ("" if end is None else f"{end:,}".removesuffix(".0") for end in ends)
    if least and most:
        return f"{noun} from {least} to {most}"
    return f"{noun} of at least {least}" if least else noun + f" of at most {most}" * bool(most)


def _options(parameter: Any) -> list[str]:
    if parameter.param_type_name != "option":
        return []
    return [*parameter.opts, *parameter.secondary_opts]


def named_parameter(parameter: Any) -> str:
    """Return how people write a parameter: ``--count (-k)``, ``NAME_OR_CHECKPOINT``."""
    names = _options(parameter)
    if not names:
        return str(parameter.metavar or parameter.name).strip("{}[]").upper()
    first, *others = sorted(names, key=lambda name: not name.startswith("--"))
    return f"{first} ({', '.join(others)})" if others else first


def _meaning(parameter: Any) -> str:
    """Return the first sentence of a parameter's help after a colon."""
    said = " ".join((getattr(parameter, "help", None) or "").split())
    sentence = re.split(r"(?<!e\.g)\.(?: |$)", said, maxsplit=1)[0]
    if not sentence:
        return ""
    abbreviation = sentence[1:2].isupper()
    return f": {sentence if abbreviation else sentence[0].lower() + sentence[1:]}"


def _command(context: Any) -> str:
    """Return the command's words after the program's name, or that where there are none."""
    words: list[str] = []
    while context is not None and context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(words) or _PROGRAM


def _help(context: Any) -> str:
    command = _command(context)
    return (
        f"see `{_PROGRAM} --help`" if command == _PROGRAM else f"see `{_PROGRAM} {command} --help`"
    )


def _near(word: str, known: Iterable[str]) -> str:
    bare = {name.lstrip("-"): name for name in known}
    near = near_words(word[:_MOST].lstrip("-"), bare, 2)
    return f"did you mean {' or '.join(bare[name] for name in near)}?" if near else ""


def _quoted(value: str) -> str:
    number = re.fullmatch(r"[-+.\w]*\d[-+.\w]*|nan|[-+]?inf", value)
    return _short(value) if number else f"'{_short(value)}'"


def _short(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."
