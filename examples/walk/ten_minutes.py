"""From a Python with the package, or with nothing, to a page of your own model: the README, timed.

    python ten_minutes.py                            # with the Python that has the package
    python ten_minutes.py --install dglke-distill    # installs it into a new environment first

Each step is a command of the README. Its answer is looked at, its seconds are printed, and the walk
fails where an answer is wrong or all together take longer than ``--limit``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

FACTS = """
import dglke_distill as kd
data = kd.load_dataset("cldr")
with open("countries.tsv", "w", encoding="utf-8") as stream:
    for split in (data.train, data.valid, data.test):
        for h, r, t in split.to_array().tolist():
            print(data.entities[h], data.relations[r], data.entities[t], sep="\\t", file=stream)
"""
QUESTION = {"entity": "Latvia", "relation": "uses_currency", "k": "3"}
QUICK = "--epochs 1 --search none --control none --threads 1".split()


class Walk:
    """The steps, each with its seconds.

    Args:
        folder: where everything is written.
        quick: whether to train for one epoch.
    """

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.python = sys.executable
        self.seconds: dict[str, float] = {}

    def step(self, name: str, action: Callable[[], str]) -> None:
        """Do one step and print what came of it."""
        begun = time.monotonic()
        said = action()
        self.seconds[name] = time.monotonic() - begun
        print(f"{self.seconds[name]:7.1f} s  {name}: {said}", flush=True)

    def call(self, *words: str) -> str:
        """Run a command of the package; return what it prints."""
        return self.run(self.python, "-m", "dglke_distill", *words)

    def run(self, *words: str) -> str:
        """Run a program in the folder.

        Raises:
            SystemExit: it fails; its last lines are shown.
        """
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines()[-15:]
            raise SystemExit("\n".join([f"failed: {' '.join(words)}", *last]))
        return done.stdout

    # --- the steps ------------------------------------------------------------------------------

    def install(self, what: str) -> str:
        """Make an environment and install the package."""
        place = self.folder / "venv"
        self.run(sys.executable, "-m", "venv", str(place))
        self.python = str(place / "bin" / "python")
        pip = (self.python, "-m", "pip", "install", "--quiet")
        self.run(*pip, str(Path(what).resolve()) if Path(what).exists() else what)
        if sys.version_info >= (3, 13):  # no wheel of DGL has its tag; the one for 3.12 works
            code = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = self.run(self.python, "-c", code).strip()
            chosen = ("--no-deps", "--target", site, "--python-version", "3.12")
            self.run(*pip, *chosen, "--only-binary=:all:", "dgl==2.1.0")
        return self.call("--version").strip()

    def ask(self) -> str:
        """Ask a model of the zoo that ships."""
        words = "--head Latvia --relation uses_currency -k 3 --json".split()
        found = json.loads(self.call("predict", "complex-cldr-dim32", *words))
        names = [one["name"] for one in found["predictions"]]
        if names[0] != "Euro":
            raise SystemExit(f"failed: the currency of Latvia is {names}")
        return ", ".join(names)

    def ask_in_words(self) -> str:
        """Ask a model whose ids nobody can read, by label."""
        words = "--head riga.n.01 --relation _instance_hypernym -k 3 --json".split()
        found = json.loads(self.call("predict", "rote-wn18rr-dim31-int8", *words))
        labels = [one["label"] for one in found["predictions"]]
        if found["head"] != "09013353" or not all(labels):
            raise SystemExit(f"failed: {found}")
        return f"riga.n.01 ({found['head']}) is an instance of {', '.join(labels)}"

    def look(self) -> str:
        """Write a file of facts, and look what is found in it."""
        self.run(self.python, "-c", FACTS)
        said = self.call("data", "info", "countries.tsv")
        return said.strip().splitlines()[0]

    def distil(self) -> str:
        """Train a teacher on it and distil it."""
        out = ["--out", "runs/countries"]
        self.call("run", "countries.tsv", "--dims", "64,16", *out, *(QUICK if self.quick else ()))
        report = self.folder / "runs" / "countries" / "report" / "report.html"
        results = json.loads((self.folder / "runs/countries/results.json").read_text("utf-8"))
        sizes = [stage["results"]["model"]["bytes_per_entity"] for stage in results["stages"]]
        told = f"{report.relative_to(self.folder)}, {report.stat().st_size:,} bytes"
        return f"{sizes} bytes per entity; {told}"

    def page(self) -> str:
        """Open the page of the student and ask it by HTTP."""
        command = [self.python, "-u", "-m", "dglke_distill", "serve", "runs/countries"]
        command += ["--dataset", "countries.tsv", "--port", "0"]
        log = self.folder / "serve.log"
        with log.open("w") as said:
            server = subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said)
        ending = threading.Timer(300, server.kill)  # it may hang, the walk may not
        ending.start()
        try:
            while not (found := re.search(r"http://\S+", log.read_text())):
                if server.poll() is not None:
                    raise SystemExit(f"failed: serve ended\n{log.read_text()}")
                time.sleep(0.1)
            address = found[0].rstrip("/")
            if b"<html" not in get(f"{address}/") or not json.loads(get(f"{address}/health")):
                raise SystemExit("failed: the page is not there")
            asked = f"{address}/api/answers?{urllib.parse.urlencode(QUESTION)}"
            answer: dict[str, Any] = json.loads(get(asked))
        finally:
            server.terminate()
            server.wait()  # the timer kills what does not end
            ending.cancel()
        names = [one["name"] for one in answer["answers"]]
        if answer["entity"] != "Latvia" or len(names) != 3:
            raise SystemExit(f"failed: {answer}")
        return f"{urllib.parse.urlsplit(asked).path} says {', '.join(names)}"


def get(address: str) -> bytes:
    """Return what an address answers."""
    with urllib.request.urlopen(address, timeout=60) as reply:
        return bytes(reply.read())


def main() -> None:
    """Walk, and say how long it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--install",
        metavar="WHAT",
        help="install this into a new environment first: a wheel, or a name for pip. If not given: "
        "the Python that runs this has the package",
    )
    parser.add_argument(
        "--quick", action="store_true", help="train for one epoch, and without the controls"
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="most seconds in all (default: %(default)g)"
    )
    given = parser.parse_args()
    os.environ.setdefault("COLUMNS", "100")
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(Path(folder), given.quick)
        if given.install:
            walk.step("install", lambda: walk.install(given.install))
        walk.step("ask a model of the zoo", walk.ask)
        walk.step("ask in words", walk.ask_in_words)
        walk.step("look at your file", walk.look)
        walk.step("distil it", walk.distil)
        walk.step("open the page and ask", walk.page)
    total = sum(walk.seconds.values())
    print(f"{total:7.1f} s  in all; {given.limit:g} s are allowed")
    if total > given.limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
