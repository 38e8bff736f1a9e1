"""From one file of facts to a student that two hosts have trained: docs/how-to/many-machines.md.

    sudo python walk.py             # minutes on two cores
    sudo python walk.py --quick     # trainings of two epochs, no control, no question

The hosts are network namespaces of this machine, which need root and iproute2 (see ``network``).
Every command is printed before it runs, with what it says. The walk fails where an answer is wrong.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from network import NetHost, namespaces, obstacle

FACTS = """
import dglke_distill as kd
data = kd.load_dataset("cldr")
with open("countries.tsv", "w", encoding="utf-8") as stream:
    for split in (data.train, data.valid, data.test):
        for h, r, t in split.to_array().tolist():
            print(data.entities[h], data.relations[r], data.entities[t], sep="\\t", file=stream)
"""
CUT = "dglke-distill dist partition countries.tsv --parts 2 --out parts"
RUN = (
    "dglke-distill dist launch --hosts hosts.txt --rsh 'ip netns exec' -- "
    "run parts --model transe --dims 64,16 --epochs 20 --out runs/countries"
)
STUDENT = "runs/countries/stages/1-transe-dim16/checkpoint"
RANK = f"dglke-distill evaluate {STUDENT} --dataset countries.tsv"
ASK = f"dglke-distill predict {STUDENT} --head Latvia --relation uses_currency -k 3"


class Walk:
    """The commands, run one after the other in a folder.

    Args:
        folder: where everything is written.
        quick: whether to train for two epochs, without control and question.
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick

    def run(self, command: str, more: str = "") -> str:
        """Print a command, run it, and return what it prints.

        Args:
            command: as a user types it.
            more: further options.

        Raises:
            SystemExit: it fails.
        """
        print(f"\n$ {command}{more}", flush=True)
        words = [sys.executable, "-m", "dglke_distill", *shlex.split(command + more)[1:]]
        begun = time.monotonic()
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        print(done.stdout, end="", flush=True)
        if done.returncode:
            raise SystemExit(f"failed: {done.stderr.strip()}")
        print(f"({time.monotonic() - begun:.0f} s)", flush=True)
        return done.stdout

    def figures(self) -> dict[str, float]:
        """Return the figures of the student's test split, as the two hosts ranked it."""
        path = self.folder / STUDENT / "results.json"
        found: dict[str, float] = json.loads(path.read_text("utf-8"))["metrics"]["test"]
        return found

    def all(self, hosts: list[NetHost]) -> None:
        """Walk from the file to the answer."""
        subprocess.run([sys.executable, "-c", FACTS], cwd=self.folder, check=True)
        self.run(CUT)
        lines = "".join(f"{host.name} {host.address}\n" for host in hosts)
        (self.folder / "hosts.txt").write_text(lines, encoding="utf-8")
        print(f"\n$ cat hosts.txt\n{lines}", end="")
        before = [sent(host) for host in hosts]
        self.run(RUN, " --epochs 2 --control none" if self.quick else "")
        crossed = [sent(host) - was for host, was in zip(hosts, before)]
        for host, count in zip(hosts, crossed):
            print(f"{host.name} has sent {count / 1e6:,.1f} MB")
        ranked = self.run(RANK)
        mrr = f"{self.figures()['mrr']:.4f}"
        answers = "" if self.quick else self.run(ASK)
        for wrong, told in (
            (min(crossed) < 1e5, f"the hosts have sent {crossed} bytes"),
            (mrr not in ranked, f"two hosts rank the student at {mrr}, one process does not"),
            (not self.quick and "Euro" not in answers, "Latvia has no Euro"),
        ):
            if wrong:
                raise SystemExit(f"failed: {told}")
        print("\nranked alike by two hosts and by one process")


def sent(host: NetHost) -> int:
    """Return the bytes that a host has sent."""
    return int(Path(f"/sys/class/net/{host.wire}/statistics/rx_bytes").read_text())


def main() -> None:
    """Read the arguments, make the hosts, walk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs, no control, no question")
    parser.add_argument("--out", type=Path, help="new folder; if not given: a temporary one")
    arguments = parser.parse_args()
    hindered = obstacle()
    if hindered is not None:
        sys.exit(f"no hosts can be made: {hindered}")
    with tempfile.TemporaryDirectory() as folder, namespaces(2) as hosts:
        if arguments.out is not None:
            arguments.out.mkdir(parents=True)
        Walk(arguments.out or Path(folder), arguments.quick).all(hosts)


if __name__ == "__main__":
    main()
