"""What anybody may hand us, as functions of bytes: a valid file comes out changed, then is read.

``run(name, data)`` returns whether what was read was accepted; anything but our own error
passes through. ``test_fuzz.py`` calls them for seconds, ``fuzz.py`` for as long as it is told.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from kg_bundle import Bundle
from reader_fixtures import JAVASCRIPT_READER

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.checkpoint import CHECKPOINT_FILES
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import SavedState
from dglke_distill.config import Config, compose, parse_assignment
from dglke_distill.data.formats import read_folder
from dglke_distill.interop import export_model
from dglke_distill.predict import NamedModel
from dglke_distill.runs.train_run import train_run
from dglke_distill.zoo.index import read_store
from dglke_distill.zoo.publish import publish
from dglke_distill.zoo.store import LocalStore

__all__ = ["TARGETS", "run", "run_in_node"]

Target = Callable[[bytes, Path], None]
_CHUNKS = (
    b"", b"\0", b"\xff", b"-1", b"NaN", b"1e999", b'"', b"[" * 99, b"{", b"}", b"\n", b"\t",
    b"9" * 50, b"\\u0000", b"\\ud800", b"null", b"true", b"\xf0\x9f", b"..", b"/", b"=", b",",
    b"4611686018427387904", b'"a"', b"[]", b"1.5", b"0",
)  # fmt: skip
"""What may be laid into a valid file."""


def mutated(whole: bytes, data: bytes) -> bytes:
    """Change a valid file by what the bytes say; with none left it stays as it is.

    Every change takes five of them: what to do, where (two), how much, and with what.
    """
    for step in range(0, min(len(data), 40) - 4, 5):
        what, high, low, size, chunk = data[step : step + 5]
        # The front of a file, where headers are, is as likely as all the rest.
        room = len(whole) if what & 64 else min(len(whole), 400)
        at = room * (high << 8 | low) >> 16
        laid = _CHUNKS[chunk % len(_CHUNKS)]
        action = what % 6
        if action == 0:
            whole = whole[:at]
        elif action == 1:
            whole = whole[:at] + laid + whole[at:]
        elif action == 2:
            whole = whole[:at] + laid + whole[at + size % 16 :]
        elif action == 3:
            whole = whole[:at] + bytes([chunk]) + whole[at + 1 :]
        elif action == 4:
            whole = whole[:at] + whole[at + size :]
        else:
            whole = whole[:at] + whole[at : at + size] * (1 + chunk % 4) + whole[at + size :]
    return whole


@functools.lru_cache(None)
def base() -> Path:
    """Return a folder with a valid file of every kind; it is made once in a process."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    data = place / "data"
    data.mkdir()
    facts = [f"e{i}\tr{(i + j) % 2}\te{j}\n" for i, j in itertools.permutations(range(6), 2)]
    for name, part in (("train", facts[8:]), ("valid", facts[:4]), ("test", facts[4:8])):
        (data / f"{name}.txt").write_text("".join(part))
    train_run(settings(data), place / "run")
    (place / "all.toml").write_text(settings(data).to_toml())
    model = place / "run" / "checkpoint"
    export_model(checkpoint.load_model(model), "bundle", place / "m.bundle", {})
    publish(model, store=place / "store")
    shutil.copytree(model, place / "model")
    shutil.rmtree(model)
    return place


def settings(data: Path) -> Config:
    """Return those of the run in ``base``."""
    training = {"epochs": 1, "batch_size": 16, "threads": 1}
    tree = {"model": {"name": "TransE", "dim": 4}, "negatives": {"count": 2}, "training": training}
    return compose([{**tree, "data": {"dataset": str(data)}}], recipe=None)


def triples(data: bytes, place: Path) -> None:
    """A folder of triples, one of its files changed."""
    shutil.copytree(base() / "data", place / "data")
    path = place / "data" / ("train.txt", "valid.txt", "test.txt")[data[0] % 3 if data else 0]
    path.write_bytes(mutated(path.read_bytes(), data[1:]))
    read_folder(place / "data")


def model(data: bytes, place: Path) -> None:
    """A checkpoint, one of its files changed; what loads must answer."""
    shutil.copytree(base() / "model", place / "model")
    path = place / "model" / CHECKPOINT_FILES[data[0] % len(CHECKPOINT_FILES) if data else 0]
    path.write_bytes(mutated(path.read_bytes(), data[1:]))
    named = NamedModel(checkpoint.load_model(place / "model"))
    try:
        named.predict_tails(named.entities[0], named.relations[0], 3)
    except FloatingPointError:  # weights may have become too large to be compared
        raise UserError("not finite") from None


def registry(data: bytes, place: Path) -> None:
    """The registry of a store."""
    whole = (base() / "store" / "zoo.toml").read_bytes()
    (place / "zoo.toml").write_bytes(mutated(whole, data))
    read_store(LocalStore(place))


def resume(data: bytes, place: Path) -> None:
    """The file that a run goes on from; what is accepted must end."""
    shutil.copytree(base() / "run", place / "run")
    path = place / "run" / ("resume.safetensors", "best.safetensors")[data[0] % 2 if data else 0]
    path.write_bytes(mutated(path.read_bytes(), data[1:]))
    train_run(settings(base() / "data"), place / "run", resume=True)


def bundle(data: bytes, place: Path) -> None:
    """A bundle, by the reader in Python, whose own error is ValueError."""
    path = place / "m.bundle"
    path.write_bytes(mutated((base() / "m.bundle").read_bytes(), data))
    try:
        read = Bundle(path)
        read.predict_tails(read.entities[0], read.relations[0], 3)
    except ValueError as error:
        raise UserError(str(error)) from None


def settings_file(data: bytes, place: Path) -> None:
    """A file of settings."""
    (place / "c.toml").write_bytes(mutated((base() / "all.toml").read_bytes(), data))
    compose(file=place / "c.toml")


def assignment(data: bytes, place: Path) -> None:
    """A setting as --set has it."""
    whole = (b"training.epochs=5", b"model.options={norm='l1'}", b"optimizer.learning_rate=0.1")
    text = mutated(whole[data[0] % 3 if data else 0], data[1:])
    compose([parse_assignment(text.decode("utf-8", "surrogateescape"))])


def raw(target: Target) -> Target:
    """Return a target that is given the bytes themselves in the place of a valid file."""

    def call(data: bytes, place: Path) -> None:
        (place / "resume.safetensors").write_bytes(data)
        (place / "zoo.toml").write_bytes(data)
        target(data, place)

    return call


def _raw_state(data: bytes, place: Path) -> None:
    state = SavedState(place / "resume.safetensors")
    for name in state:
        state[name].clone()


def _raw_registry(data: bytes, place: Path) -> None:
    read_store(LocalStore(place))


TARGETS: dict[str, Target] = {
    "triples": triples,
    "model": model,
    "registry": registry,
    "resume": resume,
    "bundle": bundle,
    "settings_file": settings_file,
    "assignment": assignment,
    "raw_state": raw(_raw_state),
    "raw_registry": raw(_raw_registry),
}


def run(name: str, data: bytes) -> bool:
    """Return whether a target accepts what the bytes make of its file.

    Raises:
        Exception: anything but our own error; or our own one that is not one short line.
    """
    base()
    with tempfile.TemporaryDirectory() as place:
        try:
            TARGETS[name](data, Path(place))
        except UserError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 2000, message
            message.encode("utf-8", "surrogateescape")
            return False
    return True


_SCRIPT = """
import { readFileSync, readdirSync } from "node:fs";
import { Bundle } from "./kg_bundle.mjs";
for (const name of readdirSync("."). filter((n) => n.endsWith(".bundle"))) {
  try {
    const bytes = readFileSync(name);
    const read = new Bundle(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    read.predictTails(0, 0, { k: 3 });
  } catch (error) {
    if (error.constructor !== Error) console.log(name, error.stack);
  }
}
"""


def run_in_node(many: list[bytes]) -> str:
    """Read changed bundles by the reader in JavaScript; return what is not its own error."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copyfile(JAVASCRIPT_READER, place / "kg_bundle.mjs")
        (place / "script.mjs").write_text(_SCRIPT)
        whole = (base() / "m.bundle").read_bytes()
        for number, data in enumerate(many):
            (place / f"{number}.bundle").write_bytes(mutated(whole, data))
        command = ["node", "script.mjs"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr
