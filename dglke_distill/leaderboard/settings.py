"""What a leaderboard run was asked to do, and what only its author can say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.base.schema import Field
from dglke_distill.config import Section, read_toml
from dglke_distill.data.manifest import load_manifest
from dglke_distill.data.ogb_package import OGB_DATASETS
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.plan import compose_chain, overlaid

SEEDS_FILE = "ogb.toml"
ABOUT_FILE = "about.toml"

_TEMPLATE = """\
# What the leaderboard's form asks and no measurement tells. Fill in what stands empty, then
# `dglke-distill ogb sheet DIR` writes the sheet anew.
method = ""            # name of the method on the board; if empty, one is made up of the chain
contact_name = ""      # who answers questions about method and code
contact_email = ""
code = ""              # public repository with all code and the exact commands
paper = ""             # paper that describes the method, preferably on arXiv
hyperparameters = ""   # what was tuned on valid, and among which values: "lr: [0.1*, 0.01]"
# official = true      # whether you are the method's own authors
# external_data = true # pretrained models, text or triples from elsewhere; say so in method
"""


class About(Section):
    """What the form asks of the author."""

    method: str = Field("", description="name on the board; empty: made up of the chain")
    contact_name: str = Field("", description="who answers questions")
    contact_email: str = Field("", description="and where")
    code: str = Field("", description="address of the public repository")
    paper: str = Field("", description="address of the paper")
    hyperparameters: str = Field("", description="what was tuned, and among which values")
    official: Optional[bool] = Field(None, description="whether by the method's own authors")
    external_data: bool = Field(False, description="whether anything but the dataset was used")


class SeedsConfig(Section):
    """All settings of a leaderboard run."""

    seeds: int = Field(10, ge=1, le=1000, description="runs, with the seeds 0, 1, 2 ...")
    command: str = Field("", description="the command line that began it")
    chain: ChainConfig = Field(default_factory=ChainConfig)


def ogb_name(dataset: str) -> str:
    """Return the official name of the OGB dataset that a name or a folder stands for.

    Raises:
        UserError: it is none.
    """
    path = in_home(dataset)
    if path.is_dir():
        name = resolved(path).name.replace("_", "-")
        if name in OGB_DATASETS and name != resolved(path).name:
            return name
    else:
        manifest = load_manifest(dataset)
        if manifest is not None and manifest.name in OGB_DATASETS:
            return manifest.name
    names = " or ".join(OGB_DATASETS)
    folders = " or ".join(name.replace("-", "_") for name in OGB_DATASETS)
    raise UserError(
        f"{dataset} has no leaderboard: name {names}, or a folder {folders} in the official layout"
    )


def compose_seeds(
    dataset: str,
    model: Optional[str],
    recipe: str,
    seeds: int,
    overrides: Sequence[Mapping[str, Any]],
    command: str = "",
) -> SeedsConfig:
    """Compose the settings of a leaderboard run.

    Every seed is a chain without a control; with a single size, it is one training.

    Args:
        dataset: name, or folder in the official layout.
        model: score function.
        recipe: as for ``compose_chain``.
        seeds: how many.
        overrides: partial ``ChainConfig`` trees, the last one winning.
        command: the command line, to be recorded.

    Raises:
        UserError: no such dataset or recipe, unknown key or bad value.
    """
    name = ogb_name(dataset)
    place = dataset if in_home(dataset).is_dir() else name
    chain = compose_chain(recipe, place, model, [{"control": "none"}, *overrides])
    if len(chain.dims) == 1:
        chain = overlaid(chain, {"method": "direct"})
    tree = {"seeds": seeds, "command": command, "chain": chain.model_dump()}
    return SeedsConfig.from_mapping(tree, "command line")


def chain_of(settings: SeedsConfig, seed: int) -> ChainConfig:
    """Return the chain of one seed, which is that of all its stages."""
    return overlaid(settings.chain, {"shared": {"training": {"seed": seed}}})


def saved_seeds(directory: Path) -> SeedsConfig:
    """Return the settings that a leaderboard run was started with.

    Raises:
        UserError: there is none, or its settings are damaged.
    """
    path = directory / SEEDS_FILE
    if not path.is_file():
        raise UserError(f"{directory}: there is no leaderboard run ({SEEDS_FILE} is missing)")
    return SeedsConfig.from_mapping(read_toml(path), str(path))


def read_about(path: Path) -> About:
    """Read what the author says.

    Raises:
        UserError: the file is missing or malformed, or has other keys.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check --about")
    return About.from_mapping(read_toml(path), str(path))


def about_template() -> str:
    """Return the file that an author fills in."""
    return _TEMPLATE
