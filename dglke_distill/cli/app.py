"""The commands, put together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Optional

import tomli_w
import typer
import typer.core
import typer.main

from dglke_distill import __version__, config
from dglke_distill.base.console import tolerant_output
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import toml_text, visible
from dglke_distill.cli import settings
from dglke_distill.cli.calibrate import calibrate
from dglke_distill.cli.compare import compare
from dglke_distill.cli.compress import compress
from dglke_distill.cli.data import data_app
from dglke_distill.cli.discover import discover
from dglke_distill.cli.dist import dist_app
from dglke_distill.cli.evaluate import evaluate
from dglke_distill.cli.exits import STOPPED, fixable, standard_streams, stop_signals
from dglke_distill.cli.export import export, formats
from dglke_distill.cli.extend import extend
from dglke_distill.cli.importing import import_model
from dglke_distill.cli.ogb import ogb_app
from dglke_distill.cli.predict import predict
from dglke_distill.cli.report import report
from dglke_distill.cli.run import run
from dglke_distill.cli.say import say, say_text
from dglke_distill.cli.serve import serve
from dglke_distill.cli.train import train
from dglke_distill.cli.tune import tune
from dglke_distill.cli.zoo import zoo_app
from dglke_distill.config.plugins import PLUGINS, load_plugins
from dglke_distill.runs.settings import resolve

__all__ = ["app", "main"]


PluginFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--plugin",
        metavar="MODULE",
        is_eager=True,
        expose_value=False,
        callback=lambda plugins: load_plugins(plugins or ()),
        help="Module, or .py file, whose components are then known by name; may be repeated. "
        f"Every command takes it. If not given: those of {PLUGINS}, separated by commas.",
    ),
]


def _takes_plugins(plugin: PluginFlag = None) -> None:
    """Hold the option that is given to every command."""


class PlainErrors(typer.core.TyperGroup):
    """The commands; what is wrong with their arguments is said without the arguments' escapes.

    All of them take ``--plugin``.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        """Add the option to each."""
        super().__init__(*given, **more)
        holder = typer.Typer(add_completion=False)
        holder.command()(_takes_plugins)
        _add_option(self, typer.main.get_command(holder).params[0])

    def make_context(self, *given: Any, **more: Any) -> Any:
        """Read the arguments; see ``click.Command``."""
        _show_flags(self)  # not earlier: typer adds options of its own to what it has made
        with _visible_errors():
            return super().make_context(*given, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see ``click.Command``."""
        with _visible_errors():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:  # before there was anything to go on with
                say("interrupted", err=True)
                raise typer.Exit(STOPPED) from None


def _add_option(group: Any, option: Any) -> None:
    for command in group.commands.values():
        if hasattr(command, "commands"):
            _add_option(command, option)
        else:
            command.params.append(option)


def _show_flags(command: Any) -> None:
    """Have the help of a command, and of those below, show flags without the type of a value."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _show_flags(below)
    if isinstance(getattr(command, "get_help_option", None), _HelpFlag):
        return
    command.get_help_option = _HelpFlag(command.get_help_option)


class _HelpFlag:
    """Makes ``--help`` itself a flag in the help.

    Args:
        made: the command's own way to make the option.
    """

    def __init__(self, made: Callable[[Any], Any]) -> None:
        self._made = made

    def __call__(self, context: Any) -> Any:
        option = self._made(context)
        if option is not None:
            option.metavar = ""
        return option


@contextmanager
def _visible_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # click's own, of which typer may carry a copy
        if hasattr(error, "format_message") and isinstance(getattr(error, "message", None), str):
            error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    cls=PlainErrors,
    name="dglke-distill",
    help="Small knowledge-graph embeddings over DGL graphs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The settings of a run.", no_args_is_help=True)
recipes_app = typer.Typer(help="The recipes that ship with the package.", no_args_is_help=True)

app.command()(run)
app.command()(compare)
app.command()(train)
app.command()(tune)
app.command()(evaluate)
app.command()(predict)
app.command()(discover)
app.command()(calibrate)
app.command()(compress)
app.command()(extend)
app.command()(export)
app.command()(formats)
app.command("import")(import_model)
app.command()(serve)
app.command()(report)
app.add_typer(data_app, name="data")
app.add_typer(zoo_app, name="zoo")
app.add_typer(ogb_app, name="ogb")
app.add_typer(dist_app, name="dist")
app.add_typer(config_app, name="config")
app.add_typer(recipes_app, name="recipes")


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


@config_app.command("show")
def config_show(
    dataset: settings.DatasetArgument = None,
    model: settings.ModelFlag = None,
    dim: settings.DimFlag = None,
    recipe: settings.RecipeFlag = "auto",
    file: settings.ConfigFlag = None,
    assignments: settings.SetFlag = None,
    epochs: settings.EpochsFlag = None,
    batch_size: settings.BatchSizeFlag = None,
    learning_rate: settings.LearningRateFlag = None,
    negatives: settings.NegativesFlag = None,
    loss: settings.LossFlag = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    dtype: settings.DtypeFlag = None,
) -> None:
    """Print the settings that `train` with the same flags would use, as TOML."""
    flags = settings.given(locals())
    resolved = resolve(flags, settings.assigned(assignments), file=file, recipe=recipe)
    say_text(toml_text(resolved.to_toml()).rstrip("\n"))


@recipes_app.command("list")
def recipes_list() -> None:
    """Print the names of the recipes: those of `train`, then the chains of `run`."""
    for name in config.recipe_names():
        say(name)
    for name in config.recipe_names("chains"):
        say(f"chains/{name}")


@recipes_app.command("show")
def recipes_show(name: Annotated[str, typer.Argument(help="A name from `recipes list`.")]) -> None:
    """Print a recipe as it ships; `config show` says what it makes of a model."""
    folder, _, stem = name.lower().rpartition("/")
    if stem not in config.recipe_names(folder):
        raise UserError(f"no recipe {name!r}; see `dglke-distill recipes list`")
    if not folder and stem in config.PLUGIN_RECIPES:
        tree = config.read_recipe(stem)
        say_text(toml_text(tomli_w.dumps(tree)).rstrip("\n"))
        return
    path = config.RECIPES / folder / f"{stem}.toml"
    say_text(path.read_text(encoding="utf-8").rstrip("\n"))


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command line; what the user can fix is one line on stderr and exit code 2.

    Args:
        arguments: instead of those of the process.
    """

    def call() -> None:
        with stop_signals():
            app(args=None if arguments is None else list(arguments))

    standard_streams()
    tolerant_output()
    fixable(call)
