"""Errors about a setting, in the words of whoever typed it: an option, ``--set``, or a file."""

# No `from __future__ import annotations`: as in all files that import typer.

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Optional

from dglke_distill.base.arguments import options_named
from dglke_distill.base.errors import UserError

_STANDS_FOR = {
    "--student-model": "model.name",
    "--more-teachers": "model.name",
    "--method": "distillation.method",
    "--methods": "distillation.method",
}
"""Options of chains that stand for a setting of their stages."""


@contextmanager
def named_where_typed(words: Sequence[str]) -> Iterator[None]:
    """Within it an error about a setting names what the user typed; see ``where_typed``.

    Args:
        words: of the command line.
    """
    try:
        with options_named():
            yield
    except UserError as error:
        error.args = (where_typed(str(error), words),)
        raise


def where_typed(message: str, words: Sequence[str]) -> str:
    """Return a message about a setting with the option, ``--set`` or file that has its value.

    Args:
        message: such as ``loss.name: unknown loss 'x'; ...``, a stage's name in front perhaps.
        words: of the command line, e.g. ``["train", "--loss", "x"]``.

    Returns:
        The message; the same where the setting was typed nowhere, or is named already.
    """
    from dglke_distill.config.flags import FLAGS, option_of  # not before something is wrong

    options = {option_of(flag): setting for flag, setting in FLAGS.items()} | _STANDS_FOR
    settings = "|".join(map(re.escape, sorted({*options.values()}, key=len, reverse=True)))
    found = re.search(rf"(?:^|(?<=: ))({settings})(?=[: ])", message)
    if found is None:
        return message
    setting, quoted = found[1], re.search(r"'([^']*)'", message[found.end() :])
    for option, value in _typed(words):
        named = ""
        if options.get(option) == setting and _has(value, quoted[1] if quoted else None):
            named = f"{option} ({setting})"
        elif option == "--set" and value.partition("=")[0].strip().endswith(setting):
            named = f"--set {value.partition('=')[0].strip()}"
        elif option == "--config" and _file_has(Path(value), setting):
            named = f"{value}: {setting}"
        if named:
            return message[: found.start()] + named + message[found.end() :]
    return message


def _typed(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the long options of a command line with their values, the winning ones first."""
    found: list[tuple[str, str]] = []
    for word, after in zip(words, [*words[1:], ""]):
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            found.append((option, value if equals else after))
    kinds = ("--set", "", "--config")  # --set wins over flags, these over a file
    yield from sorted(
        reversed(found), key=lambda pair: kinds.index(pair[0] if pair[0] in kinds else "")
    )


def _has(value: str, quoted: Optional[str]) -> bool:
    """Return whether a value, or an item of a list separated by commas, is the quoted one."""
    return quoted is None or quoted in (value, *(part.strip() for part in value.split(",")))


def _file_has(path: Path, setting: str) -> bool:
    from dglke_distill.config import read_toml
    from dglke_distill.runs.settings import flattened

    with suppress(UserError):
        return any(key.endswith(setting) for key in flattened(read_toml(path)))
    return False
