"""A server or a trainer of a launch: ``python -m ...launching.role TASK ROLE NUMBER``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import parse_toml
from dglke_distill.config import Config
from dglke_distill.config.plugins import load_plugins
from dglke_distill.data.partitions import Partition, read_partition
from dglke_distill.runs.distributed_run import claim_run, train_part
from dglke_distill.runs.distributed_state import DistributedRun, Said
from dglke_distill.runs.launching.task import Task, tell
from dglke_distill.training.distributed.engine import join, leave, serve
from dglke_distill.training.loop import Interrupted, Progress
from dglke_distill.training.objective import Objective

REFUSED, STOPPED = 2, 130


class _Told(Said):
    """Tells the agent, which tells the launcher."""

    def line(self, text: str) -> None:
        tell(line=text)

    def progress(self, progress: Progress) -> None:
        tell(progress=list(progress))

    def validated(self, epoch: int, mrr: float) -> None:
        tell(validated=[epoch, mrr])


Setup = Callable[[Config, DistributedRun, Task], Objective]


def main(setup: Optional[Setup] = None) -> None:
    """Do what the arguments say; exit 2 for what the user can fix, 130 when stopped.

    Args:
        setup: gives a model its start and returns what to minimise; None: the hard objective.
    """
    path, role, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    task = Task.of(json.loads(path.read_text(encoding="utf-8")))
    code = 0
    try:
        load_plugins(task.plugins)
        partition = read_partition(Path(task.partition))
        if role == "server":
            serve(task.job, number, partition, path.parent)
        _train(task, number, partition, path.parent, setup)
    except (UserError, FloatingPointError) as error:
        tell(refused=str(error))
        code = REFUSED
    except Interrupted:
        code = STOPPED
    # DGL's own clean-up at exit waits for trainers that may be gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _train(
    task: Task, rank: int, partition: Partition, folder: Path, setup: Optional[Setup]
) -> None:
    source = "the launcher's settings"
    config = Config.from_mapping(parse_toml(task.settings, source), source)
    with ExitStack() as stack:
        claim = None
        if rank == 0:  # before anything is waited for
            claim = claim_run(config, Path(task.out), task.resume, stack)
        member = join(task.job, rank, partition, folder)
        tell(joined=rank)
        said = _Told() if member.leads else Said()
        drawn: Any = task.drawn
        stopped = False
        try:
            results = train_part(
                config, member, partition, claim, resume=task.resume, drawn=drawn, said=said,
                setup=None if setup is None else lambda config, run: setup(config, run, task),
                teacher=task.teacher_weights,
            )  # fmt: skip
        except Interrupted:
            stopped, results = True, None
        leave(member)
    if results is not None:
        tell(results=results.to_tree())
    if stopped:
        raise Interrupted


if __name__ == "__main__":
    main()
