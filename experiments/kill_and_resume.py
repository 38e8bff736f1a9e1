"""Kill a chain at random moments, resume it, and compare it with an undisturbed one.

``python experiments/kill_and_resume.py [DATASET] [--kills 10] [--seed 0]``

One chain runs undisturbed. A second one, with the same settings, is killed with SIGKILL and resumed
as often as asked, and then left to end. The moments are drawn evenly from the first four fifths of
the undisturbed chain's seconds of work, counted from where a process has saved its first state; one
kill in five, by chance, comes before that, while it loads, prepares or reads the state. Prints what
was cut, and the checksum of every stage's weights in both; ends with exit code 1 if any differ.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Optional

SETTINGS = {
    "shared.training.checkpoint_minutes": "0.001",
    "shared.training.evaluate_every": "1",
    "student.distillation.soft.candidates": "neighbors",
    "student.distillation.weight.name": "two_phase",
}


class Cut(NamedTuple):
    """Where a kill found the chain."""

    kill: int
    when: str
    stage: str
    saved: str


def command(options: argparse.Namespace, directory: Path) -> list[str]:
    """Return the command that starts a chain in a directory, or goes on with the one there."""
    start = [sys.executable, "-u", "-m", "dglke_distill", "run"]
    if (directory / "chain.toml").exists():
        return [*start, "--resume", "--out", str(directory)]
    chosen = ["--recipe", "none", "--model", options.model, "--dims", options.dims]
    chosen += ["--epochs", str(options.epochs), "--threads", str(options.threads)]
    chosen += ["--seed", str(options.seed), "--out", str(directory)]
    for key, value in SETTINGS.items():
        chosen += ["--set", f"{key}={value}"]
    return [*start, options.dataset, *chosen]


def begin(arguments: list[str], log: IO[str]) -> subprocess.Popen[str]:
    """Start a chain."""
    return subprocess.Popen(arguments, stdout=log, stderr=log, text=True)


def end(process: subprocess.Popen[str], log: IO[str]) -> None:
    """Wait for a chain's end.

    Raises:
        SystemExit: it failed.
    """
    if process.wait() != 0:
        raise SystemExit(f"the chain ended with {process.returncode}, see {log.name}")


def wait_for_work(process: subprocess.Popen[str], directory: Path) -> None:
    """Wait until a chain has saved a state of its own, or has ended."""

    def states() -> list[tuple[str, int]]:
        found = []
        for path in sorted((directory / "stages").glob("*/resume.safetensors")):
            with suppress(FileNotFoundError):  # its stage has just ended
                found.append((path.parent.name, path.stat().st_mtime_ns))
        return found

    before = states()
    while process.poll() is None and states() == before:
        time.sleep(0.005)


def weights(directory: Path) -> dict[str, str]:
    """Return the checksum of every finished stage's weights."""
    found = {}
    for place in sorted((directory / "stages").glob("*/checkpoint/model.safetensors")):
        found[place.parts[-3]] = hashlib.sha256(place.read_bytes()).hexdigest()
    return found


def state(directory: Path) -> tuple[str, str]:
    """Return the stage under way and how far its last saved state is."""
    stages = directory / "stages"
    present = [place for place in stages.glob("*") if place.is_dir()]
    if not present:
        return "(none yet)", "nothing"
    place = max(present, key=lambda path: path.stat().st_mtime)
    if (place / "checkpoint").exists():
        return place.name, "finished"
    saved = place / "resume.safetensors"
    if not saved.exists():
        return place.name, "nothing"
    with saved.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    texts = header.get("__metadata__", {}).values()
    for text in texts:
        about = json.loads(text)
        if isinstance(about, dict) and "state" in about:
            about = about["state"]
        if isinstance(about, dict) and "epoch" in about:
            return place.name, f"epoch {about['epoch']}, batch {about['batch']}"
    return place.name, "something"


def undisturbed(options: argparse.Namespace, directory: Path, log: IO[str]) -> tuple[float, float]:
    """Run a chain to its end; return the seconds before its first saved state and after it."""
    begun = time.monotonic()
    process = begin(command(options, directory), log)
    wait_for_work(process, directory)
    working = time.monotonic()
    end(process, log)
    return working - begun, time.monotonic() - working


def disturbed(
    options: argparse.Namespace, directory: Path, seconds: tuple[float, float], log: IO[str]
) -> list[Cut]:
    """Run a chain, kill it again and again, and let it end at last."""
    draw = random.Random(options.seed)
    early = [draw.random() < 0.2 for _ in range(options.kills)]
    moments = iter(sorted(draw.uniform(0, 0.8 * seconds[1]) for _ in range(early.count(False))))
    cuts: list[Cut] = []
    before = 0.0
    for kill, at_start in enumerate(early, start=1):
        process = begin(command(options, directory), log)
        if at_start:
            wait = draw.uniform(0, seconds[0])
        else:
            wait_for_work(process, directory)
            moment = next(moments)
            wait, before = moment - before, moment
        when = f"{wait:5.2f} s after {'its start' if at_start else 'its first state'}"
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            cuts.append(Cut(kill, when, *state(directory)))
        else:
            cuts.append(Cut(kill, when, "(had ended)", ""))
        print(f"kill {kill:2d}, {when}: {cuts[-1].stage}, {cuts[-1].saved}", flush=True)
    end(begin(command(options, directory), log), log)
    return cuts


def compare(options: argparse.Namespace, folder: Path) -> bool:
    """Run both chains, print what became of them, and return whether they are the same."""
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        seconds = undisturbed(options, folder / "whole", log)
        print(f"undisturbed: {seconds[0]:.1f} s to its first state, {seconds[1]:.1f} s after it")
        cuts = disturbed(options, folder / "cut", seconds, log)
    whole, cut = weights(folder / "whole"), weights(folder / "cut")
    width = max(map(len, whole))
    print(f"\n{'stage':{width}}  {'undisturbed':16}  {'killed':16}  same")
    rows = []
    for stage, digest in whole.items():
        other = cut.get(stage, "")
        rows.append([stage, digest, other, digest == other])
        print(f"{stage:{width}}  {digest[:16]}  {other[:16]}  {digest == other}")
    if options.csv is not None:
        write_csv(options.csv, ["stage", "undisturbed", "killed", "same"], rows)
        moments = options.csv.with_name(f"{options.csv.stem}-moments.csv")
        write_csv(moments, list(Cut._fields), [list(entry) for entry in cuts])
    return whole == cut


def write_csv(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([columns, *rows])


def main(arguments: Optional[list[str]] = None) -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="cldr")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the chain and of the moments")
    parser.add_argument("--model", default="ComplEx")
    parser.add_argument("--dims", default="32,16,8")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep both runs here; it must not exist")
    parser.add_argument("--csv", type=Path, help="write both tables")
    options = parser.parse_args(arguments)
    if options.out is not None:
        options.out.mkdir(parents=True)
        same = compare(options, options.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            same = compare(options, Path(folder))
    print("the same bytes" if same else "NOT the same bytes")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
