"""The page of all commands, made of the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tables


def commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield (*words, name), command
            yield from commands(command, (*words, name))
        elif not command.hidden:
            yield (*words, name), command


def _word(argument: Any) -> str:
    return str((argument.metavar or argument.name.upper()).strip("[]"))


def _default(option: Any) -> str:
    shown = getattr(option, "show_default", None)
    if isinstance(shown, str):
        return f"`{shown}`"
    default = option.default
    if default is None or callable(default) or default in ((), []):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`" if len(option.secondary_opts) else ""
    text = str(default)
    return f"`{text}`" if "Sentinel" not in text and "UNSET" not in text else ""


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _values(option: Any) -> str:
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return f"`{option.metavar}`"
    descriptor = getattr(option, "type_descriptor", None)  # typer's own; before 0.20 it was click's
    if descriptor is not None:
        return tables.type_text(descriptor.annotation)
    return str(getattr(option.type, "name", "text"))


def _section(words: tuple[str, ...], command: Any) -> str:
    depth = "#" * (1 + len(words))
    lines = [f"{depth} `dglke-distill {' '.join(words)}`\n", f"{(command.help or '').strip()}\n"]
    if hasattr(command, "commands"):
        return "\n".join(lines)
    given = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    options = [each for each in options if not each.hidden]
    usage = ["dglke-distill", *words]
    usage += [_word(each) for each in given if each.required]
    usage += [f"[{_word(each)}]" for each in given if not each.required]
    lines.append(f"```text\n{' '.join(usage)} [OPTIONS]\n```\n")
    if given:
        rows = ((f"`{_word(each)}`", _default(each), each.help or "") for each in given)
        lines.append(tables.table(("argument", "default", "meaning"), rows))
    rows = ((_names(each), _values(each), _default(each), each.help or "") for each in options)
    lines.append(tables.table(("option", "value", "default", "meaning"), rows))
    return "\n".join(lines)


def page() -> str:
    """Return the page."""
    import typer.main

    from dglke_distill.cli.app import app

    group = typer.main.get_command(app)
    intro = (
        "# Command line\n\nEvery command, argument and option. `dglke-distill COMMAND --help` "
        "prints the same. `--plugin` stands with every command. A mistake in what you type ends "
        "in one line on standard error and exit code 2; nothing is written then.\n"
    )
    return "\n".join([intro, *(_section(*each) for each in commands(group, ()))])
