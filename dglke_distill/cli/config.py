"""``dglke-distill config`` and ``recipes``: the settings of a run, and those that ship."""

# No `from __future__ import annotations`: as in all files that import typer.

from pathlib import Path
from typing import Annotated

import tomli_w
import typer

from dglke_distill import config
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import toml_text
from dglke_distill.base.spelling import known_names, near_words
from dglke_distill.cli import settings
from dglke_distill.cli.say import say, say_text
from dglke_distill.config.flags import stated_flags
from dglke_distill.runs.settings import resolve

config_app = typer.Typer(help="The settings of a run.", no_args_is_help=True)
recipes_app = typer.Typer(help="The recipes that ship with the package.", no_args_is_help=True)


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
    """Print the settings that `train` with the same flags would use, as TOML.

    Your own files are read, since settings follow from their size; a search would change some.
    """
    flags = stated_flags(locals())
    changes = settings.assigned(assignments)
    resolved = resolve(flags, changes, file=file, recipe=recipe)
    own = Path(resolved.data.dataset)
    if own.is_absolute() and own.exists():
        from dglke_distill.runs.workspace import Workspaces
        from dglke_distill.search.beforehand import before_training

        resolved, _ = before_training(
            flags, changes, data={}, file=file, recipe=recipe, search="none",
            workspaces=Workspaces(),
        )  # fmt: skip
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
        known = [
            *config.recipe_names(),
            *(f"chains/{one}" for one in config.recipe_names("chains")),
        ]
        near = near_words(name.lower(), known)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else known_names(known, "`recipes list`")
        )
        raise UserError(f"no recipe {name!r:.200}; {hint}")
    if not folder and stem in config.PLUGIN_RECIPES:
        tree = config.read_recipe(stem)
        say_text(toml_text(tomli_w.dumps(tree)).rstrip("\n"))
        return
    path = config.RECIPES / folder / f"{stem}.toml"
    say_text(path.read_text(encoding="utf-8").rstrip("\n"))
