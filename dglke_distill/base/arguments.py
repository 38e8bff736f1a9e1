"""Arguments of calls in Python: one of the wrong kind is refused in a line that names it."""

from __future__ import annotations

import functools
import inspect
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Optional, ParamSpec, TypeVar, cast

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import check_path

P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[Any, str], Any]

_commanded: ContextVar[bool] = ContextVar("commanded", default=False)
_OPTION = re.compile(
    "`[^`]*`|dglke-distill [^;(]*"  # a command to type keeps its options
    r"|(?<![\w-])--(?:set ([a-z_.]+)=([^\s,;:()]+)|([a-z]+(?:-[a-z]+)*))"
)


def refused(value: object, name: str, wanted: str) -> UserError:
    """Return the error of an argument of the wrong kind.

    Args:
        value: what was given.
        name: the argument.
        wanted: what to give instead.
    """
    shown = " ".join(repr(value).split())
    if len(shown) > 100:
        shown = f"{shown[:97]}..."
    return UserError(f"{name} is {shown}: give {wanted}")


def plain(value: Any) -> Any:
    """Return the Python number of a NumPy scalar or a tensor without axes; all else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def whole(value: Any, name: str) -> int:
    """Return a whole number, be it of Python, NumPy or torch.

    Raises:
        UserError: it is none; a truth value is none either.
    """
    found = plain(value)
    try:
        if isinstance(found, bool) or hasattr(found, "shape"):
            raise TypeError
        return operator.index(found)
    except TypeError:
        raise refused(value, name, "a whole number") from None


def number(value: Any, name: str) -> float:
    """Return a number, be it of Python, NumPy or torch.

    Raises:
        UserError: it is none; a truth value or a text is none either.
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise refused(value, name, "a number")
    return float(found)


def items(value: Any, name: str, wanted: str) -> list[Any]:
    """Return what can be gone through as a list.

    Args:
        value: what was given; a text is one thing, not its letters.
        name: the argument.
        wanted: what to give, such as ``a list of names``.

    Raises:
        UserError: it cannot be gone through.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise refused(value, name, wanted)
    try:
        return list(value)
    except TypeError:  # a tensor without axes
        raise refused(value, name, wanted) from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise refused(value, name, "text")
    return str(value)


def _path(value: Any, name: str) -> Any:
    if not isinstance(value, (str, os.PathLike)):
        raise refused(value, name, "a path, as text or pathlib.Path")
    if not os.fspath(value):
        raise refused(value, name, "a path; an empty one names nothing")
    check_path(os.fspath(value))
    return value


def _truth(value: Any, name: str) -> bool:
    found = plain(value)
    if not isinstance(found, bool):
        raise refused(value, name, "True or False")
    return found


def _settings(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise refused(value, name, "a mapping, such as {'training.epochs': 5}")
    return value


def _called(value: Any, name: str) -> Any:
    if not callable(value):
        raise refused(value, name, "a function")
    return value


def _one_or_more(value: Any, name: str) -> Any:
    """Check what may be one thing or several; a path among them is checked."""
    if isinstance(value, (str, os.PathLike)):
        return _path(value, name)
    if hasattr(value, "checkpoint"):
        return value
    several = items(value, name, "a folder, what train returned, or a list of these")
    for each in several:
        if not hasattr(each, "checkpoint"):
            _path(each, name)
    return several


def _wholes(value: Any, name: str) -> list[int]:
    wanted = "a list of whole numbers"
    return [whole(each, f"{name}: one") for each in items(value, name, wanted)]


def _texts(value: Any, name: str) -> list[str]:
    return [_text(each, f"{name}: one") for each in items(value, name, "a list of texts")]


def _integer(value: Any, name: str) -> Any:
    """Make a number of NumPy or torch Python's; what a setting may be, the settings say."""
    found = plain(value)
    broken = isinstance(found, float) and not found.is_integer()
    if broken or isinstance(found, bool) or not isinstance(found, (int, float, str)):
        raise refused(value, name, "a whole number")
    return found


def _real(value: Any, name: str) -> Any:
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise refused(value, name, "a number")
    return found


def _time(value: Any, name: str) -> Any:
    return value if isinstance(value, str) else _real(value, name)


def _folder(value: Any, name: str) -> Path:
    return Path(_path(value, name))


def _device(value: Any, name: str) -> Any:
    if isinstance(value, str) or type(value).__name__ == "device":
        return value
    raise refused(value, name, "auto, cpu, cuda or cuda:N, as text")


def _of_class(wanted: type, value: Any, name: str) -> Any:
    if not isinstance(value, wanted):
        raise refused(value, name, f"a {wanted.__name__}")
    return value


def _or_path(wanted: str, *marks: str, paths: bool = True) -> Check:
    """Return a check of what may be a path, or something that has one of some attributes."""

    def check(value: Any, name: str) -> Any:
        if paths and isinstance(value, (str, os.PathLike)):
            return _path(value, name)
        if isinstance(value, type) or not any(hasattr(value, mark) for mark in marks):
            raise refused(value, name, wanted)
        return value

    return check


_data = _or_path(
    "a name, a folder, a file, a dataset, or tables in memory",
    "num_entities", "columns", "__arrow_c_stream__", "keys",
)  # fmt: skip
_model = _or_path("a name of the zoo, a folder, or a model", "model")
_dataset = _or_path("a dataset, such as load_dataset returns", "num_entities", paths=False)
_store = _or_path("shipped, a folder, or an address, as text", "fetch")


ANNOTATIONS: dict[str, Check] = {
    "str": _text,
    "bool": _truth,
    "int": _integer,
    "float": _real,
    "Search": _time,
    "AnyPath": _path,
    "AnyDataset": _data,
    "AnyModel": _model,
    "Dataset": _dataset,
    "Path": _folder,
    "Place": _store,
    "Union[str, Path]": _path,
    "Union[str, Path, None]": _path,
    "Union[AnyPath, LoadedModel, None]": _model,
    "Union[AnyTeacher, Sequence[AnyTeacher]]": _one_or_more,
    "Union[str, Path, AnyTable, Mapping[str, AnyTable]]": _data,
    "Union[str, Path, Dataset, None]": _data,
    "Union[str, torch.device]": _device,
    "Settings": _settings,
    "Sequence[int]": _wholes,
    "Sequence[str]": _texts,
    "Callable[[Progress], None]": _called,
    "Callable[[str], None]": _called,
}
"""What is looked at, by how a parameter is annotated; ``Optional`` of these, too."""


def checked(call: Callable[P, R]) -> Callable[P, R]:
    """Make a call refuse arguments of the wrong kind, by the annotations of its parameters.

    Numbers of NumPy and torch become Python's. None passes where it is the default, and an
    annotation that ``ANNOTATIONS`` has not is not looked at. Errors name parameters of the call
    where they name options of commands; see ``options_named``.
    """
    signature = inspect.signature(call)

    @functools.wraps(call)
    def checking(*arguments: P.args, **keywords: P.kwargs) -> R:
        bound = signature.bind(*arguments, **keywords)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if value is None and parameter.default is None:
                continue
            check = _check_of(parameter)
            if check is not None:
                bound.arguments[name] = check(value, name)
        try:
            return cast(Callable[..., R], call)(*bound.args, **bound.kwargs)
        except UserError as error:
            if not _commanded.get() and error.args:
                error.args = (_in_python(str(error), signature), *error.args[1:])
            raise

    return checking


def in_command() -> bool:
    """Return whether errors name the options of commands; see ``options_named``."""
    return _commanded.get()


@contextmanager
def options_named() -> Iterator[None]:
    """Within it, as in a command, errors name the options of commands, not parameters of calls."""
    before = _commanded.set(True)
    try:
        yield
    finally:
        _commanded.reset(before)


def _in_python(message: str, signature: inspect.Signature) -> str:
    """Return a message with the parameters of a call in place of the options of its command."""
    known = signature.parameters

    def named(found: re.Match[str]) -> str:
        setting, value, option = found.groups()
        if setting is not None:
            last = setting.rpartition(".")[2]
            if last in known:
                return f"{last}={value}"
            return f"settings={{{setting!r}: {value!r}}}" if "settings" in known else found[0]
        name = (option or "").replace("-", "_")
        if name not in known:
            return found[0]
        return f"{name}=True" if known[name].annotation == "bool" else name

    return _OPTION.sub(named, message)


def _check_of(parameter: inspect.Parameter) -> Optional[Check]:
    kind = str(parameter.annotation)
    if kind in ("Watcher", "StudyWatch"):
        return functools.partial(_of_class, type(parameter.default))
    if kind.startswith("Optional["):
        kind = kind[len("Optional[") : -1]
    return ANNOTATIONS.get(kind)
