"""The commands, put together."""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import typer.core
import typer.main

from dglke_distill import __version__
from dglke_distill.base.console import tolerant_output
from dglke_distill.base.errors import UserError
from dglke_distill.base.interrupts import started
from dglke_distill.cli.commands import Commands
from dglke_distill.cli.exits import STOPPED, fixable, standard_streams, stop_signals
from dglke_distill.cli.named_options import named_where_typed
from dglke_distill.cli.say import say
from dglke_distill.cli.usage import is_path, is_usage_error, named_parameter, usage_line

_PLUGINS = "DGLKE_DISTILL_PLUGINS"


def _load_plugins(plugins: Optional[list[str]]) -> None:
    if plugins or os.environ.get(_PLUGINS):
        from dglke_distill.config.plugins import load_plugins, registered

        load_plugins(plugins or ())
        for plugin in plugins or ():
            if Path(plugin.strip()).name.removesuffix(".py") not in registered:
                why = "registered no component; call register of the registry of its kind there"
                say(f"warning: --plugin {plugin}: {why}", err=True)


PluginFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--plugin",
        metavar="MODULE",
        is_eager=True,
        expose_value=False,
        callback=_load_plugins,
        help="Module, or .py file, whose components are then known by name; may be repeated. "
        f"Every command takes it. If not given: those of {_PLUGINS}, separated by commas.",
    ),
]


def _takes_plugins(plugin: PluginFlag = None) -> None:
    """Hold the option that is given to every command."""


class PlainErrors(typer.core.TyperGroup):
    """The commands; what is wrong with their words is said in one line.

    All of them take ``--plugin``.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        """Name the commands; each is imported when it is asked for."""
        super().__init__(*given, **more)
        holder = typer.Typer(add_completion=False)
        holder.command()(_takes_plugins)
        option = typer.main.get_command(holder).params[0]

        def finish(command: Any) -> None:
            _add_option(command, option)
            _refuse_empty_paths(command)
            _show_flags(command)

        self._commands = Commands(finish)
        self.commands = self._commands

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; see ``click.Command``."""
        with self._listed():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands and options that a word begins; see ``click.Command``."""
        with self._listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listed(self) -> Iterator[None]:
        """Have names and lines in place of the commands, within it: none is imported."""
        commands = self._commands
        self.commands = commands.listed()
        try:
            yield
        finally:
            self.commands = commands

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Read the arguments; see ``click.Command``."""
        _show_flags(self)  # not earlier: typer adds options of its own to what it has made
        with _plain_errors():
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see ``click.Command``."""
        with _plain_errors():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:  # before there was anything to go on with
                say("interrupted", err=True)
                raise typer.Exit(STOPPED) from None


def _add_option(command: Any, option: Any) -> None:
    for below in getattr(command, "commands", {}).values():
        _add_option(below, option)
    if not hasattr(command, "commands"):
        command.params.append(option)


def _refuse_empty_paths(command: Any) -> None:
    """Have a command refuse an empty path, which would stand for the working folder."""
    for below in getattr(command, "commands", {}).values():
        _refuse_empty_paths(below)
    for parameter in command.params:
        if is_path(parameter):
            parameter.process_value = _not_empty(parameter)


def _not_empty(parameter: Any) -> Callable[[Any, Any], Any]:
    process = parameter.process_value

    def checked(context: Any, value: Any) -> Any:
        if value == "":
            raise UserError(f"{named_parameter(parameter)}: names nothing; give a path")
        return process(context, value)

    return checked


def _show_flags(command: Any) -> None:
    """Have the help of a command, and of those below, show flags without the type of a value."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    if not isinstance(command, PlainErrors):  # whose commands are not imported yet
        for below in getattr(command, "commands", {}).values():
            _show_flags(below)
    if isinstance(getattr(command, "get_help_option", None), _HelpFlag):
        return
    command.get_help_option = _HelpFlag(command.get_help_option)


class _HelpFlag:
    """Makes ``--help`` itself a flag in the help."""

    def __init__(self, made: Callable[[Any], Any]) -> None:
        self._made = made

    def __call__(self, context: Any) -> Any:
        option = self._made(context)
        if option is not None:
            option.metavar = ""
        return option


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Within it, what is wrong with the words of a command is our error: one line, exit code 2."""
    try:
        yield
    except Exception as error:  # click's own, of which typer may carry a copy
        if not is_usage_error(error):
            raise
        raise UserError(usage_line(error)) from None


app = typer.Typer(
    cls=PlainErrors,
    name="dglke-distill",
    help="Small knowledge-graph embeddings over DGL graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        say(f"dglke-distill {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    plugin: PluginFlag = None,
) -> None:
    """Small knowledge-graph embeddings over DGL graphs."""


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line; what the user can fix is one line on stderr and exit code 2.

    Args:
        arguments: instead of those of the process.
    """

    def call() -> None:
        started()
        with stop_signals(), named_where_typed(sys.argv[1:] if arguments is None else arguments):
            app(args=None if arguments is None else list(arguments))

    if arguments is None:  # the process ends with the command: what is garbage then, may stay
        atexit.register(gc.freeze)
    standard_streams()
    tolerant_output()
    fixable(call)
