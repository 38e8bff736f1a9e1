"""How many requests a second the server of ``serve`` answers, and how long each takes.

    python benchmarks/serve_load.py --csv benchmarks/results/serve_load.csv

The server runs in a process of its own, on loopback; this process asks, over connections that stay
open, each sending its next request when it has read the answer. ``static`` is the page's style
sheet; ``answers`` are distinct questions for the ten best of 14,541 entities (ComplEx, 32 floats,
random weights), facts marked; ``health`` and ``floor`` are the smallest answers of our server and
of an application that does nothing else, on uvicorn with its own settings. Percentiles are over all
requests of the round with the most; a run fails where ``static`` or ``answers`` do not reach what
``--demand`` asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

ENTITIES, RELATIONS, FACTS, FLOATS = 14_541, 237, 100_000, 32
WANTED = {"static": 3000.0, "answers": 1000.0}
"""Requests a second."""

LATEST = 15.0
"""Milliseconds within which 99 of 100 are to be answered."""

FLOOR = """
import socket, uvicorn
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
listening = socket.socket(proto=socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(100)
print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
config = uvicorn.Config(app, lifespan="off", log_level="critical", access_log=False)
uvicorn.Server(config).run(sockets=[listening])
"""


class Round(NamedTuple):
    """What one round took.

    Attributes:
        per_second: requests.
        p50: milliseconds of the median request.
        p99: milliseconds within which 99 of 100 were answered.
        cpu: milliseconds of a core that the server spent on each.
    """

    per_second: float
    p50: float
    p99: float
    cpu: float


class Server(NamedTuple):
    """A server that runs: its process id and its port."""

    process: int
    port: int


async def ask(port: int, targets: Iterator[str], until: float, taken: list[float]) -> None:
    """Ask over one connection until the time is up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (begun := time.perf_counter()) < until:
        head = f"GET {next(targets)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{head!r} is answered by {answer!r}")
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        await reader.readexactly(int(length[1]))
        taken.append(time.perf_counter() - begun)
    writer.close()


def spent(process: int) -> float:
    """Return the seconds of a core that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(server: Server, targets: Iterator[str], connections: int, seconds: float) -> Round:
    """Ask over all connections for some seconds."""
    taken: list[float] = []
    before = spent(server.process)
    begun = time.perf_counter()
    until = begun + seconds
    await asyncio.gather(*(ask(server.port, targets, until, taken) for _ in range(connections)))
    elapsed = time.perf_counter() - begun
    taken.sort()
    return Round(
        len(taken) / elapsed,
        1e3 * taken[len(taken) // 2],
        1e3 * taken[int(0.99 * len(taken))],
        1e3 * (spent(server.process) - before) / len(taken),
    )


def write_model(folder: Path) -> Path:
    """Write a dataset of random facts, and a checkpoint of random weights that belongs to it."""
    from dglke_distill.artifacts.checkpoint import save_model
    from dglke_distill.config import Config
    from dglke_distill.data import catalog
    from dglke_distill.models import build_model

    facts = folder / "facts"
    facts.mkdir()
    rng = random.Random(0)
    lines = [f"e{i}\tr{i % RELATIONS}\te{(i + 1) % ENTITIES}\n" for i in range(ENTITIES)]
    lines += [
        f"e{rng.randrange(ENTITIES)}\tr{rng.randrange(RELATIONS)}\te{rng.randrange(ENTITIES)}\n"
        for _ in range(FACTS)
    ]
    (facts / "train.txt").write_text("".join(lines))
    for split in ("valid", "test"):
        (facts / f"{split}.txt").write_text(lines[0].replace("e1", "e2") + lines[5])
    data = catalog.load(str(facts))
    tree = {"data": {"dataset": str(facts)}, "model": {"name": "ComplEx", "dim": FLOATS}}
    config = Config.from_mapping(tree, "benchmark")
    model = build_model(config.model, data.num_entities, data.num_relations)
    model.reset(0, 0.8)
    save_model(folder / "checkpoint", model, config, data.entities, data.relations, {})
    return folder / "checkpoint"


@contextmanager
def running(*command: str) -> Iterator[Server]:
    """Start a server that prints its address, and yield where it is."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
            assert address is not None, "the server did not start"
            yield Server(process.pid, int(address[1]))
        finally:
            process.kill()


def questions() -> Iterator[str]:
    """Yield questions, none twice."""
    rng = random.Random(1)
    pairs = [(i, j) for i in range(0, ENTITIES, 3) for j in range(RELATIONS)]
    for entity, relation in rng.sample(pairs, len(pairs)):
        yield "/api/answers?" + urlencode({"entity": f"e{entity}", "relation": f"r{relation}"})


def main() -> None:
    """Measure, print, and write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="that score, at the server")
    parser.add_argument("--demand", action="store_true", help="fail where too few are answered")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    best: dict[str, Round] = {}

    def measure(what: str, server: Server, targets: Iterator[str]) -> None:
        asyncio.run(load(server, targets, 1, 0.5))  # what is worked out once is worked out
        for _ in range(arguments.rounds):
            made = asyncio.run(load(server, targets, arguments.connections, arguments.seconds))
            best[what] = max(best.get(what, made), made)

    with running("-c", FLOOR) as server:
        measure("floor", server, itertools.repeat("/"))
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder))
        command = ["-m", "dglke_distill", "serve", str(model), "--port=0", "--data-root", folder]
        with running(*command, f"--threads={arguments.threads}") as server:
            measure("health", server, itertools.repeat("/health"))
            measure("static", server, itertools.repeat("/page.css"))
            measure("answers", server, questions())
    floor = best["floor"].per_second
    rows: list[dict[str, Any]] = []
    for what, made in best.items():
        row = {
            "what": what,
            "per_second": round(made.per_second),
            "of_floor": round(made.per_second / floor, 2),
            "p50_ms": round(made.p50, 2),
            "p99_ms": round(made.p99, 2),
            "server_cpu_ms": round(made.cpu, 3),
            "connections": arguments.connections,
            "threads": arguments.threads,
        }
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append(row)
    if arguments.csv:
        from dglke_distill.base import runtime

        provenance = runtime.provenance()
        tail = {
            "cpu": provenance["hardware"]["cpu"],
            "revision": (provenance["git"] or {"revision": ""})["revision"],
            "date": provenance["date"],
        }
        with open(arguments.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*rows[0], *tail], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, **tail} for row in rows)
    missed = [
        what
        for what, wanted in WANTED.items()
        if best[what].per_second < wanted or best[what].p99 > LATEST
    ]
    if arguments.demand and missed:
        sys.exit(f"not as many as wanted: {json.dumps(missed)}")


if __name__ == "__main__":
    main()
