"""Options that would do nothing beside the others of a call are refused, not ignored."""

# No `from __future__ import annotations`: as in all files that import typer.

from collections.abc import Iterable

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.cli.usage import named_parameter


def given(context: typer.Context, name: str) -> bool:
    """Return whether the user gave a parameter, be it with the value that it has anyway.

    Args:
        context: of the call.
        name: the parameter's name in Python.
    """
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_idle(context: typer.Context, why: str, *names: str) -> None:
    """Refuse parameters that would do nothing, if one was given.

    Args:
        context: of the call.
        why: what the option would need, and the fix.
        names: the parameters' names in Python.

    Raises:
        UserError: one was given.
    """
    for parameter in context.command.params:
        if parameter.name in names and given(context, parameter.name):
            raise UserError(f"{named_parameter(parameter)}: {why}")


def refuse_with_resume(context: typer.Context, kind: str, but: Iterable[str]) -> None:
    """Refuse what says how a run begins, where one goes on by its own settings.

    Args:
        context: of the call.
        kind: what goes on, such as ``chain``.
        but: names in Python of the parameters that still mean something.

    Raises:
        UserError: one was given.
    """
    taken = {"out", "resume", "plugin", *but}
    idle = [one.name for one in context.command.params if one.name and one.name not in taken]
    refuse_idle(context, f"the {kind} in --out goes on by its own settings; leave it out", *idle)
