"""What ``dist launch -- run`` does: a chain, each stage of which is trained by many processes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.chain_shown import run_shown
from dglke_distill.cli.launching import NOT_TAKEN, Given, asked_of, cluster_of, launch_words
from dglke_distill.cli.models import check_run_folder
from dglke_distill.cli.run import composed, run
from dglke_distill.cli.say import say, warn
from dglke_distill.cli.tracked import check_tracker
from dglke_distill.data.partitions import Partition, read_partition
from dglke_distill.distill.chain import CHAIN_FILE, saved_chain
from dglke_distill.distill.many import StagesByMany, check_stages
from dglke_distill.distill.plan import loaded_in, plan, read_chain
from dglke_distill.distill.saved import teacher_place
from dglke_distill.distill.settings import new_chain_directory
from dglke_distill.runs.distributed_memory import check_host_memory
from dglke_distill.runs.memory import bytes_text
from dglke_distill.runs.workspace import DataAlone, Workspaces
from dglke_distill.search.beforehand import before_chain

if TYPE_CHECKING:
    from dglke_distill.distill.chain_config import ChainConfig


def launch_chain(given: Given) -> None:
    """Run a chain on all its hosts and show it as ``run`` does.

    Args:
        given: the options of the launch, whose command begins with ``run``.

    Raises:
        UserError: what cannot be trained by many, hosts that do not answer, or a process that
            failed.
    """
    if given.torchrun:
        raise UserError(
            "dist launch: --torchrun starts one training; start a chain by --hosts, or its "
            "trainings one by one"
        )
    if given.teacher is not None:
        raise UserError(
            "dist launch: --teacher is of `-- train`; a chain has its teacher behind `-- run`, as "
            "`run` does"
        )
    asked = asked_of(given.command, run, NOT_TAKEN)
    partition = read_partition(Path(asked["dataset"]).absolute())
    cluster = cluster_of(given, partition, None)
    check_tracker(asked["track"])
    dataset = partition.dataset()
    workspaces = DataAlone(dataset=dataset)
    if asked["resume"]:
        chain, loaded = saved_chain(asked["out"])
    else:
        check_run_folder(asked["out"])
        loaded = [str(teacher_place(p)) for p in asked["teacher"] or loaded_in(asked["config"])]
        chain = _chain(asked, partition, workspaces, loaded)
    _check_chain(chain, partition)
    stages = plan(chain, loaded)
    need = check_stages(stages, [Path(place) for place in loaded], cluster, dataset)
    for line in need.lines(bytes_text):
        say(line)
    if cluster.local:
        check_host_memory(sum(map(need.of, range(partition.parts))), "this chain")
    where = "part" if cluster.local else "host"
    say(
        f"{plural(len(stages), 'stage')}, each by {plural(cluster.world, 'trainer')} on "
        f"{plural(partition.parts, where)}: {', '.join(stage.name for stage in stages)}"
    )
    if asked["dry_run"]:
        return
    directory = asked["out"] or new_chain_directory(chain)

    def launched(job: str) -> None:
        if given.show_processes:
            say(f"job {job}")  # begins the names of its shared memory

    def started(role: str, number: int, pid: int) -> None:
        if given.show_processes:
            say(f"{role} {number}: process {pid}")

    command = f"{launch_words(given)} -- run {shlex.quote(str(partition.directory))}"
    trainer = StagesByMany(cluster, dataset, command, directory / CHAIN_FILE, launched, started)
    track, resume = asked["track"], asked["resume"]
    run_shown(chain, directory, resume, loaded, workspaces, track, trainer=trainer)


def _chain(
    asked: dict[str, Any], partition: Partition, workspaces: Workspaces, loaded: Sequence[str]
) -> ChainConfig:
    """Compose the settings of a new chain; controls are trained by their recipe, if not stated."""
    file = asked["config"]
    stated = asked["control"] or (read_chain(file).get("control") if file else None)
    own = {"data": partition.data.model_dump(exclude_none=True)}
    chain = composed({**asked, "dataset": None}, [own], control=stated or "recipe")
    changes = settings.assigned_chain(asked["assignments"])
    return before_chain(
        chain, changes, file=file, recipe=asked["recipe"], search="none", workspaces=workspaces,
        loaded=loaded, announce=warn, over_all=False,
    )  # fmt: skip


def _check_chain(chain: ChainConfig, partition: Partition) -> None:
    """Refuse parts of other data than the chain's, and what is for one machine."""
    if chain.data.dataset != partition.data.dataset:
        raise UserError(
            f"dist launch: the chain is of {chain.data.dataset}, and {partition.directory} of "
            f"{partition.data.dataset}; name the parts of the chain's own data"
        )
    if chain.init is not None:
        raise UserError("dist launch: a chain that goes on from a model (init) is for one machine")
    if chain.control == "tuned" or chain.search_seconds is not None:
        raise UserError(
            "dist launch: settings are searched for on one machine; choose --control recipe, both "
            "or none, and leave search_seconds out"
        )
