"""The launcher: one agent for each host, and one clear end whatever happens to any of them."""

from __future__ import annotations

import json
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Optional

from dglke_distill import __version__
from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.errors import UserError
from dglke_distill.base.signals import signals_to, stop_numbers
from dglke_distill.runs.distributed_memory import DistributedNeed
from dglke_distill.runs.launching.hosts import Host
from dglke_distill.runs.launching.task import Task, listen
from dglke_distill.runs.launching.torchrun import Connection

_GRACE = 1.5
"""Seconds in which a failure draws others after it; the first cause is looked for among all."""
_NOTHING = ("[bt]", "Stack trace", "Client[")
_PATIENCE = 15.0
"""Seconds that agents may take to end what they have started."""


class Ended(Exception):
    """All trainers have stopped as they were asked to."""


@dataclass(frozen=True)
class Launch:
    """How processes are started.

    Attributes:
        hosts: one for each part.
        rsh: what runs a command on a host, given its name; empty: this host.
        python: interpreter on the hosts.
        timeout: seconds that hosts may take to answer, and then trainers to find each other.
        need: what each host needs of memory.
        connections: to agents that run already; None for those that are to be started.
    """

    hosts: tuple[Host, ...]
    rsh: tuple[str, ...]
    python: str
    timeout: float
    need: DistributedNeed
    connections: tuple[Optional[Connection], ...] = ()

    def command(self, host: Host) -> list[str]:
        """Return the command that starts a host's agent."""
        agent = [self.python, "-m", "dglke_distill.runs.launching.agent"]
        if not self.rsh:
            return agent
        if os.path.basename(self.rsh[0]) == "ssh":  # the other side's shell reads it
            agent = [shlex.quote(word) for word in agent]
        return [*self.rsh, host.name, *agent]


class _Agent:
    """An agent, seen from the launcher."""

    def __init__(
        self,
        number: int,
        host: Host,
        command: Sequence[str],
        events: Any,
        connection: Optional[Connection],
    ) -> None:
        self.number, self.host, self.answered = number, host, False
        self.tail: deque[str] = deque(maxlen=30)
        self.process: Any = connection
        try:
            self.process = connection or subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True, text=True, errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{host.name}: cannot run {command[0]!r}: {error.strerror}") from None
        self._reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._reader.start()

    def _read(self, events: Any) -> None:
        with suppress(OSError):  # of a connection that is lost
            listen(self.process.stdout, self.tail, lambda message: events.put((self, message)))
        events.put((self, {"lost": self.process.wait()}))

    def send(self, text: str) -> None:
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            return  # its end is said by its thread

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except OSError:
            return

    def wait(self, seconds: float) -> None:
        """Wait for its end, and end it where that takes longer."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            self.process.kill()
            self._reader.join()


def launch(
    task: Task,
    how: Launch,
    *,
    report: Callable[[Sequence[Any]], None] = lambda progress: None,
    validated: Callable[[int, float], None] = lambda epoch, mrr: None,
    announce: Callable[[str], None] = lambda line: None,
    started: Callable[[str, int, int], None] = lambda role, number, pid: None,
) -> TrainingResults:
    """Start everything, wait for its end, and leave no process behind.

    Ctrl-C, SIGTERM and SIGHUP ask the trainers to save and stop; a second one does not wait.

    Args:
        task: what is to be done.
        how: on which hosts.
        report: hears progress.
        validated: hears the figure of each validation.
        announce: lines for the user.
        started: hears role, number and process id of each process.

    Returns:
        What the checkpoint of the finished run says.

    Raises:
        UserError: a host does not answer, or a process failed; the message says which.
        Ended: it was asked to stop, and has saved.
    """
    watch = _Watch(task, how, report, validated, announce, started)
    try:
        return watch.run()
    finally:
        watch.end()


class _Watch:
    """One launch."""

    def __init__(self, task: Task, how: Launch, report: Any, validated: Any, announce: Any,
                 started: Any) -> None:  # fmt: skip
        self.task, self.how = task, how
        self.heard = {"report": report, "validated": validated, "announce": announce}
        self.started = started
        self.events: queue.Queue[tuple[_Agent, dict[str, Any]]] = queue.Queue()
        self.agents: list[_Agent] = []
        self.joined: set[int] = set()
        self.left = set(range(task.job.world))
        self.failures: list[tuple[int, str]] = []
        self.results: Optional[TrainingResults] = None
        self.stopped = self.stopping = False
        self.deadline = time.monotonic() + how.timeout

    def run(self) -> TrainingResults:
        with signals_to(self._stop, stop_numbers()):
            for number, host in enumerate(self.how.hosts):
                command, running = self.how.command(host), self.how.connections
                connection = running[number] if running else None
                self.agents.append(_Agent(number, host, command, self.events, connection))
            while self.left:
                self._next()
        if self.stopped or self.results is None:
            raise Ended
        return self.results

    def _stop(self, number: int, frame: Any) -> None:
        if self.stopping or len(self.joined) < self.task.job.world:
            raise KeyboardInterrupt
        self.stopping = True
        for agent in self.agents:
            agent.send("stop")

    def _next(self) -> None:
        """Handle a message, or a silence that has lasted too long."""
        waiting = len(self.joined) < self.task.job.world
        wait = max(0.05, self.deadline - time.monotonic()) if waiting else 3600.0
        if self.failures:
            wait = _GRACE
        try:
            agent, message = self.events.get(timeout=wait)
        except queue.Empty:
            if self.failures:
                raise UserError(min(self.failures)[1]) from None
            if waiting:
                raise UserError(self._silence()) from None
            return
        self._handle(agent, message)

    def _silence(self) -> str:
        limit = f"within {self.how.timeout:g} s (--timeout)"
        silent = [agent.host.name for agent in self.agents if not agent.answered]
        if silent:
            return f"host {silent[0]} does not answer {limit}; look whether it is up and reachable"
        number = min(set(range(self.task.job.world)) - self.joined)
        host = self.how.hosts[number // self.task.job.trainers].name
        return (
            f"trainer {number} on {host} did not reach the others {limit}; look whether the hosts "
            "can reach each other's ports, and whether --timeout is long enough for the data"
        )

    def _handle(self, agent: _Agent, message: dict[str, Any]) -> None:
        if "hello" in message:
            agent.answered = True
            theirs, ours = message.get("version"), __version__
            if theirs != ours:
                said = f"host {agent.host.name}: has version {theirs} of dglke-distill, and this "
                self.failures.append((0, f"{said}host has {ours}; install the same one on all"))
                return
            self.deadline = time.monotonic() + self.how.timeout
            need, number = self.how.need, agent.number
            about = {"task": self.task.to_dict(), "machine": number,
                     "shared_bytes": need.shared[number], "bytes": need.of(number)}  # fmt: skip
            agent.send(json.dumps(about))
        elif "started" in message:
            self.started(message["started"], message["number"], message["pid"])
        elif "joined" in message:
            self.joined.add(message["joined"])
        elif "line" in message:
            self.heard["announce"](message["line"])
        elif "progress" in message:
            self.heard["report"](message["progress"])
        elif "validated" in message:
            self.heard["validated"](*message["validated"])
        elif "results" in message:
            self.results = TrainingResults.of(message["results"], self.task.out)
        elif "unable" in message:
            self.failures.append((0, f"host {agent.host.name}: {message['unable']}"))
        elif "refused" in message:
            self.failures.append((1, message["refused"]))
        elif "lost" in message:
            self._lost(agent, message["lost"])
        elif "ended" in message:
            self._ended(agent, message)

    def _ended(self, agent: _Agent, message: dict[str, Any]) -> None:
        role, number, code = message["ended"], message["number"], message["code"]
        name = f"{role} {number} on {agent.host.name}"
        if role == "trainer" and code == 0:
            self.left.discard(number)
        elif role == "trainer" and code == 130:
            self.left.discard(number)
            self.stopped = True
        elif role == "server" and (code == 0 or not self.left):
            if self.left and not self.joined:
                self.failures.append((3, f"{name} ended before the trainers; {self._go_on()}"))
        elif code < 0:
            hint = "; perhaps memory ran out" if code == -signal.SIGKILL else ""
            said = f"{name} ended by signal {-code}{hint}. All others were stopped"
            self.failures.append((0, f"{said}; {self._go_on()}"))
        elif code != 2:  # what was refused has been said
            said = f"{name} ended with exit code {code}: {_last(message['tail'])}"
            self.failures.append((4, f"{said}. All others were stopped; {self._go_on()}"))
        elif not self.failures:
            self.failures.append((4, f"{name} ended with exit code {code}"))

    def _lost(self, agent: _Agent, code: int) -> None:
        ranks = {r for r in self.left if r // self.task.job.trainers == agent.number}
        if not ranks:
            return
        last = _last(agent.tail)
        said = f": {last}" if last else ""
        if not agent.answered:
            self.failures.append((0, f"host {agent.host.name} cannot be reached{said}"))
            return
        self.failures.append(
            (2, f"the connection to host {agent.host.name} ended (code {code}){said}. All others "
                f"were stopped; {self._go_on()}")
        )  # fmt: skip

    def _go_on(self) -> str:
        return "go on from what was last saved with --resume, if anything was"

    def end(self) -> None:
        """End all agents, and wait until they have ended what is theirs."""
        for agent in self.agents:
            agent.close()
        limit = time.monotonic() + _PATIENCE
        for agent in self.agents:
            if not agent.answered:  # it has started nothing
                agent.process.kill()
            agent.wait(max(0.1, limit - time.monotonic()))


def _last(tail: Sequence[str]) -> str:
    """Return the last line that says something: backtraces of C++ and DGL's farewell are none."""
    told = (line.strip() for line in reversed(tail))
    return next((s for s in told if s and not s.startswith(_NOTHING)), "")[:200]
