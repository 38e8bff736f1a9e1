"""What ``dist launch`` does: reads the command behind ``--``, starts it on all hosts, shows it."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

import typer
import typer.main

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.exits import STOPPED, with_plugins
from dglke_distill.cli.idle import refuse_with_resume
from dglke_distill.cli.models import check_run_folder
from dglke_distill.cli.output import TrainingDisplay, metrics_table
from dglke_distill.cli.say import say, warn
from dglke_distill.cli.train import check_idle, train
from dglke_distill.config import Config
from dglke_distill.config.flags import stated_flags
from dglke_distill.data.partitions import Partition, read_partition
from dglke_distill.distill import across
from dglke_distill.distill.across import check_taught, student_settings
from dglke_distill.distill.saved import teacher_place
from dglke_distill.runs.distributed_memory import check_host_memory, distributed_need
from dglke_distill.runs.distributed_run import check_run, check_settings
from dglke_distill.runs.launching import torchrun
from dglke_distill.runs.launching.cluster import Cluster
from dglke_distill.runs.launching.hosts import DEFAULT_PORT, free_ports, read_hosts
from dglke_distill.runs.launching.launcher import Ended, Launch, launch
from dglke_distill.runs.launching.task import Task
from dglke_distill.runs.memory import bytes_text
from dglke_distill.runs.run_files import RESUME_FILE
from dglke_distill.runs.settings import new_run_directory, saved_settings
from dglke_distill.training.loop import Progress

NOT_TAKEN = ("init", "store", "offline", "search", "data_root", "columns", "delimiter",
              "ignore_extra", "weight_column", "processes", "memory")  # fmt: skip
"""Options of ``train`` and ``run`` that a launch cannot do."""


class Given(NamedTuple):
    """The options of the command, see ``cli.dist``."""

    command: Sequence[str]
    local: Optional[int]
    hosts: Optional[Path]
    trainers: int
    negatives_from: str
    port: Optional[int]
    master_port: int
    rsh: str
    python: Optional[str]
    timeout: float
    show_processes: bool
    teacher: Optional[Path] = None
    torchrun: bool = False


def check_given(given: Given) -> Given:
    """Check the options that any launch has, and return them with the place of the teacher.

    Raises:
        UserError: one is wrong, or they do not go together.
    """
    if (given.local is not None) + (given.hosts is not None) + given.torchrun != 1:
        raise UserError("dist launch: give either --local N or --hosts FILE, or --torchrun")
    drawn = given.negatives_from.lower()
    if drawn not in ("joint", "local"):
        raise UserError(f"--negatives-from {given.negatives_from!r:.40}: choose joint or local")
    if not 1 <= given.timeout <= 1e6:
        raise UserError(f"--timeout {given.timeout:g}: give 1 to 1000000 seconds")
    if given.teacher is not None:
        given = given._replace(teacher=teacher_place(given.teacher))
    if given.hosts is not None:
        read_hosts(given.hosts, given.port or DEFAULT_PORT)  # wrong before all else
    return given


def run_launch(given: Given) -> None:
    """Start a training on all its hosts and show it as ``train`` does."""
    place, store = None, None
    if given.torchrun:
        place = torchrun.place_of(os.environ)
        if place.local:  # agents start trainers themselves
            return
    asked = asked_of(given.command, train, (*NOT_TAKEN, "track"))
    if place is not None:
        if place.host and asked["dry_run"]:  # the first process alone says what would be
            return
        if not asked["dry_run"]:
            store = torchrun.meet(place, given.timeout)
        if place.host:
            torchrun.become_agent(store, place)
            return
    partition = read_partition(Path(asked["dataset"]).absolute())
    cluster = cluster_of(given, partition, place)
    config = _settings(asked, partition, given.teacher is not None)
    dataset = partition.dataset()
    check_settings(config, dataset, partition.parts)
    taught: dict[str, Any] = {}
    if given.teacher is not None:
        taught = check_taught(config, given.teacher, dataset)
    weights = str(taught.get("weights", ""))
    out = asked["out"] or new_run_directory(config)
    teacher_dim = int((taught.get("model") or {}).get("dim", 0))
    need = distributed_need(config, partition, cluster.trainers, teacher_dim)
    for line in need.lines(bytes_text):
        say(line)
    if asked["dry_run"]:
        return
    if given.local is not None:
        check_host_memory(sum(map(need.of, range(partition.parts))), "this run")
    if given.hosts is None:  # else the first host looks itself, before it starts a process
        check_run_folder(None if asked["resume"] else Path(out))
        check_run(config, Path(out), partition, cluster.world, bool(asked["resume"]), weights)
    if place is not None:
        hosts, connections = torchrun.accept_agents(store, place, given.timeout)
        first = hosts[0].address
        port = next(free for free in free_ports(2, first) if free != hosts[0].port)
        cluster = replace(cluster, hosts=hosts, connections=connections, master=(first, port))
    role = _taught_role(given, weights)
    task, how = cluster.started(config, Path(out), need, resume=bool(asked["resume"]), **role)
    console = SafeConsole()
    console.print(
        f"{config.model.name}, {config.model.size}, on {config.data.dataset}, "
        f"{plural(cluster.world, 'trainer')} on "
        f"{plural(partition.parts, 'part' if cluster.local else 'host')}"
    )
    if given.show_processes:
        say(f"job {task.job.token}")  # begins the names of its shared memory
    try:
        results = _shown(task, how, console, given.show_processes)
    except (Ended, KeyboardInterrupt):
        say("interrupted", err=True)
        # Of a run on other hosts the first one alone knows.
        if given.hosts is not None or (Path(out) / RESUME_FILE).is_file():
            part, run = shlex.quote(str(asked["dataset"])), shlex.quote(str(out))
            again = f"train {part} --resume --out {run}"
            say(f"go on with: {with_plugins(launch_words(given))} -- {again}", err=True)
        raise typer.Exit(STOPPED) from None
    if results.metrics:
        console.print(metrics_table(results.metrics))
    elif partition.given_candidates:
        say(f"{partition.name} gives the candidates of its questions: rank with `ogb evaluate`")
    seconds = 0.0 if results.training is None else results.training.seconds
    say(f"trained in {seconds:.1f} s; checkpoint: {Path(out) / 'checkpoint'}")


def _shown(task: Task, how: Launch, console: SafeConsole, processes: bool) -> TrainingResults:
    def started(role: str, number: int, pid: int) -> None:
        if processes:
            say(f"{role} {number}: process {pid}")

    with TrainingDisplay(console) as display:
        return launch(
            task,
            how,
            report=lambda values: display.report(Progress(*values)),
            announce=display.announce,
            started=started,
        )


def _taught_role(given: Given, weights: str) -> dict[str, str]:
    if given.teacher is None:
        return {}
    place = str(given.teacher)
    return {"teacher": place, "teacher_weights": weights, "role": across.__name__}


def launch_words(given: Given) -> str:
    """Return the words of a command that begin such a launch again, up to ``--``."""
    drawn = " --negatives-from local" if given.negatives_from.lower() == "local" else ""
    if given.teacher is not None:
        drawn += f" --teacher {shlex.quote(str(given.teacher))}"
    if given.local is not None:
        return f"dglke-distill dist launch --local {given.local}{drawn}"
    if given.torchrun:
        return f"torchrun ... -m dglke_distill dist launch --torchrun{drawn}"
    hosts = shlex.quote(str(given.hosts))
    return f"dglke-distill dist launch --hosts {hosts} --trainers {given.trainers}{drawn}"


def asked_of(
    words: Sequence[str], command: Callable[..., None], not_taken: Sequence[str]
) -> dict[str, Any]:
    """Return what the command behind ``--`` asks for, by its parameters.

    Args:
        words: the command.
        command: ``train`` or ``run``, by its name the first word.
        not_taken: parameters that a launch cannot do.

    Raises:
        UserError: it is another command, or takes what a launch cannot do.
    """
    name = command.__name__
    if not words or words[0] != name:
        named = f" {words[0]!r:.30}" if words else ""
        raise UserError(
            f"dist launch: cannot run{named}; write `-- train PARTS ...` or `-- run PARTS ...`, "
            "PARTS being a folder that `dist partition` wrote"
        )
    found: dict[str, Any] = {}

    @functools.wraps(command)
    def catch(**values: Any) -> None:
        found.update(values)

    holder = typer.Typer(add_completion=False)
    holder.command(name)(catch)
    typer.main.get_command(holder).main(list(words[1:]), name, standalone_mode=False)
    if not found:  # its help was asked for
        raise typer.Exit
    for key in not_taken:
        if found[key] and not (key == "search" and found[key].lower() == "none"):
            raise UserError(
                f"dist launch: --{key.replace('_', '-')} is not taken by a training by many; "
                "leave it out"
            )
    context = found.pop("context")
    if name == "train":
        check_idle(context, resume=bool(found["resume"]), init=None)
    elif found["resume"]:
        refuse_with_resume(context, "chain", ("dataset", "track", "dry_run"))
    if found["dataset"] is None:
        raise UserError(f"dist launch: name the folder of parts: -- {name} PARTS ...")
    if found["resume"] and found["out"] is None:
        raise UserError("--resume: say which run by --out RUN_DIR")
    return found


def cluster_of(given: Given, partition: Partition, place: Optional[torchrun.Place]) -> Cluster:
    """Return a host for each part, none under torchrun and for this one alone.

    Args:
        given: the options.
        partition: what was cut.
        place: this process among those of torchrun, if it was started so.

    Raises:
        UserError: there are not as many hosts as parts, or no such hosts.
    """
    parts, drawn = partition.parts, given.negatives_from.lower()
    if place is not None:
        if place.hosts != parts:
            raise UserError(
                f"--torchrun: runs on {plural(place.hosts, 'host')}, but {partition.directory} has "
                f"{plural(parts, 'part')}; give --nnodes {parts}, or cut the data anew"
            )
        return Cluster(partition, place.trainers, drawn=drawn, timeout=given.timeout)
    if given.local is not None:
        if given.local % parts:
            raise UserError(
                f"--local {given.local}: {partition.directory} has {plural(parts, 'part')}, and "
                f"each takes as many trainers; give a multiple of {parts}, or cut the data anew"
            )
        return Cluster(partition, given.local // parts, drawn=drawn, timeout=given.timeout)
    assert given.hosts is not None
    hosts = read_hosts(given.hosts, given.port or DEFAULT_PORT)
    if len(hosts) != parts:
        raise UserError(
            f"{given.hosts}: names {plural(len(hosts), 'host')}, but {partition.directory} has "
            f"{plural(parts, 'part')}; give one host for each part, or cut the data into "
            f"{len(hosts)}"
        )
    try:
        rsh = tuple(shlex.split(given.rsh))
    except ValueError as error:
        raise UserError(f"--rsh {given.rsh!r:.80}: {error}; close it") from None
    if not rsh:
        raise UserError("--rsh is empty: name what runs a command on a host, such as ssh")
    return Cluster(
        partition, given.trainers, hosts, drawn, rsh, given.python or sys.executable,
        given.timeout, (hosts[0].address, given.master_port),
    )  # fmt: skip


def _settings(asked: dict[str, Any], partition: Partition, taught: bool) -> Config:
    """Return the settings of the run, as ``train`` composes them."""
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.beforehand import before_training

    flags = stated_flags({**asked, "dataset": None})
    if asked["resume"]:
        changes = settings.overrides(flags, asked["assignments"])
        config = saved_settings(Path(asked["out"]), changes)
        if taught != (config.distillation is not None):
            raise UserError(
                f"{asked['out']}: was begun {'without' if taught else 'with'} a teacher; go on "
                f"with{'out' if taught else ' its'} --teacher"
            )
        return config
    config, _ = before_training(
        flags,
        settings.assigned(asked["assignments"]),
        data={"data": partition.data.model_dump(exclude_none=True)},
        file=asked["config"],
        recipe=asked["recipe"],
        search="none",
        workspaces=Workspaces(dataset=partition.dataset()),
        taught=taught,
        announce=warn,
        over_all=False,
    )
    return student_settings(config) if taught else config.model_copy(update={"distillation": None})
