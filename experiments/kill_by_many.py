"""Kill a server or a trainer of a training by many at random moments, and resume it.

``python experiments/kill_by_many.py [--kills 10] [--parts 2] [--trainers 2] [--seed 0] [--chain]``

Each round starts the training on the embedded dataset, or goes on with what was saved, and sends
SIGKILL to one process, drawn among all servers and trainers: one time in three while they start and
find each other, else within three seconds of a first save. The launcher must then end with exit
code 2 and one line that names that process, no process of the launch may be alive, and nothing of
it may lie in shared memory. In the end ``--resume`` finishes, and the checkpoint is ranked by one
process. Prints a line for each round; ends with exit code 1 where something was otherwise.

With ``--chain`` a teacher, its student and a control are trained, one after the other. A process
that has done its work when it is killed then harms nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Optional

SHARED = Path("/dev/shm")
LIMIT = 300.0
"""Seconds that a launch may take to come to where it is killed, and to end after it."""
TRAIN = ["--recipe", "none", "--model", "transe", "--dim", "16", "--batch-size", "512",
         "--negatives", "32", "--threads", "1", "--set",
         "training.checkpoint_minutes=0.001"]  # fmt: skip
CHAIN = ["--recipe", "none", "--model", "transe", "--dims", "16,8", "--threads", "1",
         "--set", "shared.training.batch_size=512", "--set", "shared.negatives.count=32",
         "--set", "shared.training.checkpoint_minutes=0.001"]  # fmt: skip


class Round(NamedTuple):
    """What a kill came to.

    Attributes:
        victim: the process that was killed, such as ``server 0``.
        when: ``starting``, ``training``, or ``finished`` where nothing was left to kill.
        wrong: what was otherwise than it should be.
    """

    victim: str
    when: str
    wrong: list[str]


def launch(parts: Path, out: Path, trainers: int, epochs: int, chain: bool = False) -> list[str]:
    """Return the command that begins a run or a chain, or goes on with it."""
    words = [sys.executable, "-m", "dglke_distill", "dist", "launch", "--local", str(trainers)]
    words += ["--show-processes", "--", "run" if chain else "train", str(parts)]
    if (out / ("chain.toml" if chain else "resume.safetensors")).exists():
        return [*words, "--resume", "--out", str(out)]
    options = CHAIN if chain else TRAIN
    return [*words, *options, "--epochs", str(epochs), "--out", str(out)]


def processes(said: str) -> dict[str, int]:
    """Return the process ids that a launch has printed."""
    found = re.findall(r"^((?:server|trainer) \d+): process (\d+)$", said, re.M)
    return {name: int(pid) for name, pid in found}


def kill_once(command: list[str], out: Path, count: int, chance: random.Random) -> Round:
    """Start a launch of ``count`` processes, kill one, and look what becomes of the rest."""
    when = "starting" if chance.random() < 1 / 3 else "training"
    number, delay = chance.randrange(count), 3 * chance.random()
    saved = _saved_at(out)
    with tempfile.TemporaryFile("w+") as log:
        launcher = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            limit = time.monotonic() + LIMIT
            while len(processes(_text(log))) < count or (
                when == "training" and _saved_at(out) == saved
            ):
                if launcher.poll() == 0:
                    return Round("none", "finished", [])
                if launcher.poll() is not None or time.monotonic() > limit:
                    return Round("none", when, [f"did not come so far: {_text(log)[-300:]!r}"])
                time.sleep(0.05)
            time.sleep(delay)
            killed = False
            while not killed:  # between two stages of a chain there is nobody
                if launcher.poll() is not None:
                    wrong = [f"ended by itself: {_text(log)[-300:]!r}"] * bool(launcher.returncode)
                    return Round("none", "finished", wrong)
                victim, pid = sorted(processes(_text(log)).items())[number]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed = True
            code = launcher.wait(LIMIT)
            if code == 0:
                wrong = [f"{what} is left" for what in left(_text(log))]
                return Round(victim, "leaving", wrong)
        finally:
            launcher.kill()
            launcher.wait()
        return Round(victim, when, _wrong(code, _text(log), victim))


def left(said: str) -> list[str]:
    """Return what a launch, which has printed this, has left running or in shared memory."""
    jobs = re.findall(r"^job (\w+)$", said, re.M)
    alive = [name for name, pid in processes(said).items() if Path(f"/proc/{pid}").exists()]
    return alive + [path.name for job in jobs for path in SHARED.glob(f"{job}*")]


def _wrong(code: int, said: str, victim: str) -> list[str]:
    wrong = [] if code == 2 else [f"exit code {code}"]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if len(errors) != 1 or f"{victim} on this host ended by signal 9" not in errors[0]:
        wrong.append(f"said {errors or said[-300:]}")
    if "Traceback" in said:
        wrong.append("a traceback")
    return [*wrong, *(f"{what} is left" for what in left(said))]


def _saved_at(out: Path) -> Optional[int]:
    found = [path.stat().st_mtime_ns for path in out.rglob("resume.safetensors")]
    return max(found, default=None)


def _text(log: object) -> str:
    return os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")  # type: ignore[attr-defined]


def main() -> None:
    """Read the arguments, kill, resume, and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--trainers", type=int, default=2, help="in all")
    parser.add_argument("--epochs", type=int, help="if not given: 40 for each kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", action="store_true", help="a teacher, a student and a control")
    arguments = parser.parse_args()
    epochs = arguments.epochs or (15 if arguments.chain else 40) * arguments.kills
    chance, wrong = random.Random(arguments.seed), False
    ours = [sys.executable, "-m", "dglke_distill"]
    with tempfile.TemporaryDirectory() as folder:
        parts, out = Path(folder) / "parts", Path(folder) / "run"
        cut = ["dist", "partition", "cldr", "--parts", str(arguments.parts), "--method", "random"]
        subprocess.run([*ours, *cut, "--out", str(parts)], check=True, stdout=subprocess.DEVNULL)
        count = arguments.parts + arguments.trainers
        for number in range(arguments.kills):
            command = launch(parts, out, arguments.trainers, epochs, arguments.chain)
            found = kill_once(command, out, count, chance)
            wrong = wrong or bool(found.wrong)
            told = "; ".join(found.wrong) or "named, the others stopped"
            if found.victim == "none" and not found.wrong:
                told = "it had finished"
            how = "resumed" if "--resume" in command else "begun"
            print(f"{number + 1}: {how}, {found.victim} while {found.when}: {told}", flush=True)
        ended = finish(parts, out, arguments.trainers, epochs, arguments.chain)
        print(f"finished: {ended or 'ranked by one process'}")
    sys.exit(1 if wrong or ended else 0)


def finish(parts: Path, out: Path, trainers: int, epochs: int, chain: bool = False) -> str:
    """Go on to the end and rank the checkpoint; return what is wrong, nothing if all is right."""
    ours = [sys.executable, "-m", "dglke_distill"]
    goes_on = launch(parts, out, trainers, epochs, chain)
    made = out / "stages" / "1-transe-dim8" if chain else out
    for command in (goes_on, [*ours, "evaluate", str(made / "checkpoint")]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


if __name__ == "__main__":
    main()
