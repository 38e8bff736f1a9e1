"""What a launcher starts on each host: ``python -m dglke_distill.runs.launching.agent``.

It reads a task, one line of JSON, from its standard input, starts the host's server and trainers,
and says on standard output what becomes of them. When its input ends, as when the launcher is gone
or the connection is lost, it ends them all: none is left behind.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from dglke_distill import __version__
from dglke_distill.base.claims import LOCK_FILE
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.base.parsing import parse_toml
from dglke_distill.config import Config
from dglke_distill.config.plugins import load_plugins
from dglke_distill.data.partitions import check_files, read_partition
from dglke_distill.runs.distributed_memory import check_host_memory
from dglke_distill.runs.distributed_run import check_run
from dglke_distill.runs.launching.task import Task, listen, tell
from dglke_distill.training.distributed.engine import SHARED_MEMORY, clean_up

_TAIL = 30
_FAREWELL = 10.0
"""Seconds that a server may take to end once all trainers have left."""
_SIOCGIFADDR = 0x8915
_FROM = "the launcher's settings"


class _Process:
    """A server or a trainer, and the last lines that it printed."""

    def __init__(self, role: str, number: int, events: Any, command: list[str], env: Any) -> None:
        self.role, self.number, self.code = role, number, None
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.process = subprocess.Popen(
            [*command, role, str(number)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=env, start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: Any) -> None:
        assert self.process.stdout is not None
        listen(self.process.stdout, self.tail, events.put)
        events.put({"ended": self.role, "number": self.number, "code": self.process.wait(),
                    "tail": list(self.tail)})  # fmt: skip

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def main() -> None:
    """Serve a launcher until all is done, or it is gone."""
    for name in ("SIGINT", "SIGHUP"):  # a terminal's; the launcher decides what they mean
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    tell(hello=socket.gethostname(), pid=os.getpid(), version=__version__)
    line = sys.stdin.readline()
    if not line:
        return
    about = json.loads(line)
    try:
        task, machine = _asked(about)
        was_there = os.path.lexists(task.out)
        _check(task, machine, int(about["shared_bytes"]), int(about["bytes"]))
    except UserError as error:
        tell(unable=str(error))
        sys.stdin.read()
        return
    with tempfile.TemporaryDirectory(prefix="dglke-distill-") as folder:
        processes: list[_Process] = []

        def end(number: int, frame: Any) -> None:
            raise SystemExit

        signal.signal(signal.SIGTERM, end)
        try:
            _watch(task, machine, Path(folder), processes)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.process.wait()
            clean_up(task.job, machine)
            if machine == 0 and not was_there:
                _take_away(Path(task.out))


def _take_away(directory: Path) -> None:
    """Remove a run directory that was new, and in which a trainer that was ended began nothing."""
    with suppress(OSError):
        if [path.name for path in directory.iterdir()] == [LOCK_FILE]:
            (directory / LOCK_FILE).unlink()
            directory.rmdir()


def _asked(about: dict[str, Any]) -> tuple[Task, int]:
    """Return what is to be done, and which host this is."""
    try:
        return Task.of(about["task"]), int(about["machine"])
    except (TypeError, KeyError):
        raise UserError(
            "has another dglke-distill than the launcher; install the same one on all hosts"
        ) from None


def _check(task: Task, machine: int, shared: int, needed: int) -> None:
    """Look whether this host has what it needs."""
    partition = read_partition(Path(task.partition))
    if partition.id != task.partition_id:
        raise UserError(
            f"{task.partition}: is another partition than the launcher's; copy the same folder to "
            "every host"
        )
    check_files(partition, machine)
    address, port = task.job.addresses[machine]
    places = [(address, port, "")]
    if machine == 0:
        places.append((*task.job.master, " of the trainers"))
    for host, number, of in places:
        wrong = port_is_free(host, number)
        if wrong is not None:
            raise UserError(f"port {number} of {host}{of}: {wrong}")
    free = shutil.disk_usage(SHARED_MEMORY).free
    if shared > free:
        raise UserError(
            f"{SHARED_MEMORY} has {free >> 20:,} MiB left, and its part of the tables needs "
            f"{shared >> 20:,}; enlarge it, or cut the data into more parts"
        )
    check_host_memory(needed, "its part of the run")
    if machine == 0:
        if task.shared:
            _check_shared(*task.shared)
        load_plugins(task.plugins)
        config = Config.from_mapping(parse_toml(task.settings, _FROM), _FROM)
        weights = task.teacher_weights
        check_run(config, Path(task.out), partition, task.job.world, task.resume, weights)


def _check_shared(path: str, digest: str) -> None:
    """Look whether this host sees a file that the launcher has written."""
    place = Path(path)
    if not place.is_file() or sha256_file(place) != digest:
        raise UserError(
            f"{path}: is not the launcher's; start a chain on the first of --hosts, or give an "
            "--out that both hosts see at the same path"
        )


def port_is_free(address: str, port: int) -> Optional[str]:
    """Return what is wrong with listening there, None if nothing is."""
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((address, port))
            place.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is in use; choose another one (--port, or behind the host in --hosts)"
            if error.errno == errno.EADDRNOTAVAIL:
                return "is no address of this host; give its own in --hosts"
            return error.strerror or str(error)
    return None


def _interface(address: str) -> Optional[str]:
    """Return the name of the network interface that has an address."""
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place, suppress(OSError):
            packed = struct.pack("256s", name[:15].encode())
            found = fcntl.ioctl(place.fileno(), _SIOCGIFADDR, packed)[20:24]
            if socket.inet_ntoa(found) == address:
                return name
    return None


def _watch(task: Task, machine: int, folder: Path, processes: list[_Process]) -> None:
    """Start the processes and pass on what they say, until all have ended or the input has."""
    events: queue.Queue[dict[str, Any]] = queue.Queue()
    path = folder / "task.json"
    path.write_text(json.dumps(task.to_dict()), encoding="utf-8")
    command = [sys.executable, "-m", task.role, str(path)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(task.threads))
    interface = _interface(task.job.addresses[machine][0])
    if interface is not None:  # gloo else takes what the host's name stands for, perhaps 127.0.1.1
        environment["GLOO_SOCKET_IFNAME"] = interface
    ranks = range(machine * task.job.trainers, (machine + 1) * task.job.trainers)
    roles = [("server", machine), *(("trainer", rank) for rank in ranks)]
    for role, number in roles:
        processes.append(_Process(role, number, events, command, environment))
        tell(started=role, number=number, pid=processes[-1].process.pid)
    threading.Thread(target=_listen, args=(events,), daemon=True).start()
    left = {(role, number) for role, number in roles}
    farewell: Optional[float] = None
    while left:
        wait = None if farewell is None else max(0.0, farewell - time.monotonic())
        try:
            message = events.get(timeout=wait)
        except queue.Empty:
            return
        if message.get("asked") == "gone":
            return
        if message.get("asked") == "stop":
            for process in processes:
                if process.role == "trainer":
                    process.kill(signal.SIGTERM)
            continue
        if "ended" in message:
            left.discard((message["ended"], message["number"]))
            if not any(role == "trainer" for role, _ in left):
                farewell = farewell or time.monotonic() + _FAREWELL
        tell(**message)


def _listen(events: Any) -> None:
    """Pass on what the launcher asks; its end is asked for too."""
    with suppress(OSError):  # a connection that is lost is an end too
        for line in sys.stdin:
            events.put({"asked": line.strip()})
    events.put({"asked": "gone"})


if __name__ == "__main__":
    main()
