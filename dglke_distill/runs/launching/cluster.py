"""Where trainings by many are launched, one or several, one after the other."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from dglke_distill.config import Config
from dglke_distill.config.plugins import named_plugins
from dglke_distill.data.partitions import Partition
from dglke_distill.runs.distributed_memory import DistributedNeed
from dglke_distill.runs.launching.hosts import Host, free_ports, local_hosts
from dglke_distill.runs.launching.launcher import Launch
from dglke_distill.runs.launching.task import Task
from dglke_distill.runs.launching.torchrun import Connection
from dglke_distill.training.distributed.engine import Job


@dataclass(frozen=True)
class Cluster:
    """The hosts of a launch, and how processes are started there.

    Attributes:
        partition: what they train on.
        trainers: of each host.
        hosts: one for each part; none: this one alone, by ports that are free.
        drawn: where negatives come from.
        rsh: what runs a command on a host, given its name; empty: this host.
        python: interpreter on the hosts.
        timeout: see ``Launch``.
        master: address and port where trainers find each other; None: of this host, a free one.
        connections: see ``Launch``.
    """

    partition: Partition
    trainers: int
    hosts: tuple[Host, ...] = ()
    drawn: str = "joint"
    rsh: tuple[str, ...] = ()
    python: str = sys.executable
    timeout: float = 300.0
    master: Optional[tuple[str, int]] = None
    connections: tuple[Optional[Connection], ...] = ()

    @property
    def local(self) -> bool:
        """Whether this host alone takes part."""
        return not self.hosts

    @property
    def world(self) -> int:
        """Number of all trainers."""
        return self.trainers * self.partition.parts

    def started(
        self, config: Config, out: Path, need: DistributedNeed, *, resume: bool, **role: Any
    ) -> tuple[Task, Launch]:
        """Return what ``launch`` takes for a training; each has a job of its own.

        Args:
            config: its settings.
            out: its run directory, on the first host.
            need: what each host needs of memory.
            resume: whether to go on with what the directory holds.
            role: further fields of the ``Task``.
        """
        hosts = self.hosts or local_hosts(self.partition.parts)
        master = self.master or ("127.0.0.1", free_ports(1)[0])
        addresses = tuple((host.address, host.port) for host in hosts)
        job = Job(f"dk{secrets.token_hex(4)}", addresses, self.trainers, master)
        task = Task(
            job, str(self.partition.directory), self.partition.id, config.to_toml(),
            str(out.absolute()), resume, self.drawn, tuple(named_plugins()),
            config.training.threads or 1, **role,
        )  # fmt: skip
        how = Launch(hosts, self.rsh, self.python, self.timeout, need, self.connections)
        return task, how
