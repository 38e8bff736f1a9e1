"""A disk without room, or a place that cannot be written to: one line from every command.

A limit on file sizes stands for the disk: a write that meets it fails as one on a full disk does.
"""

from __future__ import annotations

import re
import resource
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
import typer
from cli_fixtures import exit_code as call
from distill_fixtures import write_clock
from http_fixtures import Server, server
from ogb_fixtures import write_wikikg2
from zoo_fixtures import NAME, home, trained

from dglke_distill import zoo
from dglke_distill.base.disk import NotWritten
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state
from dglke_distill.cli.app import app
from dglke_distill.interop import FORMATS

__all__ = ["home", "server", "trained"]

TINY = ["--recipe", "none", "--epochs", "1", "--threads", "1"]
READERS = {
    "config show", "data check", "data info", "data list", "evaluate", "formats", "ogb evaluate",
    "recipes list", "recipes show", "serve", "zoo info", "zoo list", "zoo push", "zoo rm",
}  # fmt: skip
"""Commands that write no file."""


class Place(NamedTuple):
    """What a command works on, and where it writes."""

    folder: Path
    data: Path
    checkpoint: Path
    server: Server

    @property
    def out(self) -> Path:
        return self.folder / "out"


Make = Callable[[Place], list[Any]]


def remote(*command: str) -> Make:
    """Return a command on a model in a store on the web, nothing of which is here yet."""

    def make(place: Place) -> list[Any]:
        store = place.folder / "store"
        zoo.publish(place.checkpoint, NAME, store=store)
        place.server.files = {f"/{path}": data for path, data in tree(store).items()}
        return [*command, NAME, "--store", place.server.url]

    return make


def export(format: str) -> Make:
    return lambda place: ["export", place.checkpoint, "--format", format, "--out", place.out]


def chain(place: Place) -> list[Any]:
    return ["run", place.data, "--dims", "4,2", "--out", place.out, *TINY]


def report(place: Place) -> list[Any]:
    assert call(*chain(place)) == 0
    return ["report", place.out]


def ogb_run(place: Place) -> list[Any]:
    write_wikikg2(place.folder, negatives=5)
    data = place.folder / "ogbl_wikikg2"
    return ["ogb", "run", data, "--dims", "4", "--seeds", "1", "--out", place.out, *TINY]


def ogb_sheet(place: Place) -> list[Any]:
    assert call(*ogb_run(place)) == 0
    return ["ogb", "sheet", place.out]


def import_(place: Place) -> list[Any]:
    foreign = place.folder / "foreign"
    assert call("export", place.checkpoint, "--format", "dglke", "--out", foreign) == 0
    return ["import", foreign, "--out", place.out]


def extend(place: Place) -> list[Any]:
    known = read_vocabulary(place.data)
    facts = place.folder / "facts.tsv"
    facts.write_text(f"newcomer\t{known[1]}\t{known[0]}\n")
    return ["extend", place.checkpoint, facts, "--dataset", place.data, "--out", place.out]


def read_vocabulary(data: Path) -> tuple[str, str]:
    """Return an entity and a relation of a folder of triples."""
    head, relation, _ = (data / "train.txt").read_text().split("\n")[0].split("\t")
    return head, relation


def questions(place: Place) -> list[Any]:
    (place.folder / "questions.tsv").write_text("hour0\tplus2\t?\n" * 200)
    asked = place.folder / "questions.tsv"
    return ["predict", place.checkpoint, "--file", asked, "--out", place.out / "answers.jsonl"]


WRITERS: dict[str, Make] = {
    "train": lambda place: ["train", place.data, "--dim", 4, "--out", place.out, *TINY],
    "run": chain,
    "compare": lambda place: [
        "compare", place.data, "--dims", "4,2", "--methods", "direct", "--out", place.out, *TINY
    ],
    "tune": lambda place: [
        "tune", place.data, "--model", "distmult", "--dim", 4, "--trials", 1, "--epochs", 1,
        "--threads", 1, "--out", place.out,
    ],
    "calibrate": lambda place: [
        "calibrate", "complex-cldr-dim32", "--dataset", "cldr", "--out", place.out
    ],
    "dist partition": lambda place: [
        "dist", "partition", "cldr", "--parts", "2", "--method", "random", "--out", place.out
    ],
    "ogb run": ogb_run,
    "ogb sheet": ogb_sheet,
    "compress": lambda place: ["compress", place.checkpoint, "--to", "int8", "--out", place.out],
    "import": import_,
    "extend": extend,
    "predict": questions,
    "discover": lambda place: [
        "discover", place.checkpoint, "--relation", "plus2", f"--dataset={place.data}", "--out",
        place.out / "found.csv",
    ],
    "report": report,
    "data prepare": lambda place: ["data", "prepare", place.data, "--out", place.out],
    "zoo publish": lambda place: [
        "zoo", "publish", place.checkpoint, "--name", NAME, "--store", place.out
    ],
    "zoo load": remote("zoo", "load"),
    "zoo pull": remote("zoo", "pull"),
    "zoo verify": remote("zoo", "verify"),
    **{f"export {name}": export(name) for name in FORMATS},
}  # fmt: skip


def commands(group: Any, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


def test_every_command_is_known_here() -> None:
    """A new one is to be entered above: as a writer with its arguments, or as a reader."""
    known = {"export" if name.startswith("export ") else name for name in WRITERS}
    # What dist launch starts writes in processes of its own: test_dist_launch stops those.
    assert set(commands(typer.main.get_command(app))) == known | READERS | {"dist launch"}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by path, the hidden ones too; empty folders end in a /."""
    found = (p for p in folder.rglob("*") if p.is_file() or not any(p.iterdir()))
    return {
        p.relative_to(folder).as_posix() + "/" * p.is_dir(): b"" if p.is_dir() else p.read_bytes()
        for p in found
    }


@pytest.fixture
def place(home: Path, trained: Path, server: Server) -> Place:
    return Place(home, write_clock(home / "clock"), trained, server)


@pytest.mark.parametrize("size", [0, 700, 6000])
@pytest.mark.parametrize("name", WRITERS)
def test_no_room_is_one_line_and_nothing_half_written(
    name: str, size: int, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name](place)
    before = tree(place.folder)
    capsys.readouterr()
    with file_size_limit(size):
        code = call(*arguments)
    said, after = capsys.readouterr(), tree(place.folder)
    if code == 0:  # all that it writes is smaller
        assert size > 0 and max(map(len, (after[new] for new in after.keys() - before))) <= size
        return
    errors = (said.out if name == "zoo verify" else said.err).splitlines()
    *errors, line = errors[:1] if name == "zoo verify" else errors
    assert errors == []
    assert code == (1 if name == "zoo verify" else 2)
    assert line.startswith("FAILED " if name == "zoo verify" else "error: ")
    assert re.search("File too large|limit on file sizes", line), line
    assert str(place.folder) in line and ".tmp" not in line
    assert not [p for p in after.keys() - before if ".tmp" in p or p.endswith((".lock", "/"))]
    assert {one for one in before.items() if one[1]} <= after.items()
    going_on = re.search(r"go on with: dglke-distill (.*)", line)
    if name in ("run", "compare", "ogb run") and size > 700:
        assert going_on is not None
    elif going_on is None and not name.startswith(
        "zoo"
    ):  # what is published is complete file by file
        assert after == before
    assert call(*(shlex.split(going_on[1]) if going_on else arguments)) == 0, capsys.readouterr()


STEPS = ["--epochs", "6", "--set", "training.checkpoint_minutes=1e-9", "--set",
         "training.evaluate_every=1"]  # fmt: skip


def test_a_training_that_finds_no_room_goes_on_from_its_last_save(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as one that was never stopped."""
    from dglke_distill.runs import train_run as pipeline

    saved = pipeline.save_state
    saves: list[Path] = []

    def save_state(path: Path, *what: Any) -> None:
        saves.append(path)
        if len(saves) == 4:
            with file_size_limit(100):
                saved(path, *what)
        saved(path, *what)

    arguments = ["train", place.data, "--recipe", "none", "--dim", "4", "--threads", "1", *STEPS]
    monkeypatch.setattr(pipeline, "save_state", save_state)
    assert call(*arguments, "--out", place.out) == 2
    line = capsys.readouterr().err
    command = re.search(r"Then go on with: dglke-distill (train --resume --out .*)\n$", line)
    assert command is not None and line.count("\n") == 1
    assert call(*shlex.split(command[1])) == 0
    assert call(*arguments, "--out", place.folder / "whole") == 0
    for file in ("resume.safetensors", "best.safetensors"):
        ends = [load_state(folder / file)[0] for folder in (place.out, place.folder / "whole")]
        assert all(ends[0][key].equal(tensor) for key, tensor in ends[1].items())


SHOWN: dict[str, Make] = {
    "config show": lambda place: ["config", "show", "fb15k237"],
    "recipes list": lambda place: ["recipes", "list"],
    "formats": lambda place: ["formats"],
    "data list": lambda place: ["data", "list"],
    "evaluate": lambda place: ["evaluate", place.checkpoint, f"--dataset={place.data}", "--json"],
    "zoo list": lambda place: ["zoo", "list", "--json"],
    "compress": WRITERS["compress"],
    "train": WRITERS["train"],
    "run": chain,
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_standard_output_without_room_is_an_error(
    name: str, place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = SHOWN[name](place)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = call(*arguments)
        monkeypatch.undo()
    assert code == 2
    assert capsys.readouterr().err == (
        "error: standard output: No space left on device; free some space there, or choose another "
        "place\n"
    )
    if name == "run":  # what was computed is there all the same
        assert (place.out / "report" / "report.html").is_file()


@pytest.mark.parametrize("name", ["compress", "import", "export npz", "export dglke"])
def test_the_users_own_folder_stays(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name](place)
    place.out.mkdir()
    for file in ("README.md", "config.json"):
        (place.out / file).write_text("{}")
        assert call(*arguments) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and str(place.out) in line and line.count("\n") == 1
        assert {path.name for path in place.out.iterdir()} == {file}
        (place.out / file).unlink()


REPLACING = {"calibrate", "compress", "data prepare", "discover", "export", "extend", "import",
             "predict"}  # fmt: skip
"""Commands that take --overwrite: each writes one folder or file, all at once."""
GOING_ON = {"compare", "dist partition", "ogb run", "run", "train", "tune"}
"""Commands whose folders are added to, and so removed by hand."""


def taken(group: Any, prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield each command with the options that it takes."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from taken(command, f"{prefix}{name} ")
        else:
            yield prefix + name, {word for one in command.params for word in one.opts}


def test_every_command_that_writes_says_whether_it_replaces() -> None:
    known = dict(taken(typer.main.get_command(app)))
    assert {name for name, options in known.items() if "--overwrite" in options} == REPLACING
    assert {name for name, options in known.items() if "--out" in options} == REPLACING | GOING_ON


@pytest.mark.parametrize("name", [n for n in WRITERS if n.partition(" ")[0] in REPLACING
                                  or n in REPLACING])  # fmt: skip
def test_what_is_there_stays_without_overwrite(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name](place)
    assert call(*arguments) == 0
    before = tree(place.folder)
    capsys.readouterr()
    assert call(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("(is there|holds something) already; add --overwrite to replace it", line)
    assert tree(place.folder) == before
    assert call(*arguments, "--overwrite") == 0, capsys.readouterr()
    assert tree(place.folder).keys() == before.keys()


FILES = [n for n in WRITERS if n.partition(" ")[0] in {"export", "predict", "discover"}]
FOREIGN = [b"x,y\n1,2\n", b'{"rank": "high"}\n', b"PK\x03\x04 somebody's archive", b"PAR1 PAR1",
           b"# 300 25\n", b"\x08\x08\x12\x07pytorch", b"\0" * 100]  # fmt: skip


@pytest.mark.parametrize("name", [*FILES, "calibrate --plot"])
def test_overwrite_replaces_no_file_of_others(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name.partition(" --")[0]](place)
    if name == "calibrate --plot":
        arguments += ["--plot", place.folder / "plot.png"]
    out = Path(arguments[arguments.index("--plot" if "--plot" in arguments else "--out") + 1])
    assert call(*arguments) == 0, capsys.readouterr()
    if out.is_dir():
        return  # what replaces folders is looked at above
    ours = out.read_bytes()
    for theirs in FOREIGN:
        out.write_bytes(theirs)
        capsys.readouterr()
        assert call(*arguments, "--overwrite") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(out) in line and "is no file that such a command writes" in line
        assert out.read_bytes() == theirs
    for before in (ours, b"") if "--plot" not in arguments else ():  # which takes long
        out.write_bytes(before)
        assert call(*arguments, "--overwrite") == 0, capsys.readouterr()
        assert out.read_bytes()[:8] == ours[:8]


@pytest.mark.parametrize("name", ["train", "dist partition"])
def test_a_run_that_is_there_stays(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name](place)
    assert call(*arguments) == 0
    before = tree(place.folder)
    capsys.readouterr()
    assert call(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(place.out) in line
    assert tree(place.folder) == before


@pytest.mark.parametrize("name", ["compress", "data prepare", "export dglke"])
def test_overwrite_deletes_nothing_that_is_not_written_anew(
    name: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = WRITERS[name](place)
    assert call(*arguments) == 0
    (place.out / "notes.md").write_text("notes")
    before = tree(place.out)
    capsys.readouterr()
    for more in ([], ["--overwrite"]):
        assert call(*arguments, *more) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert tree(place.out) == before
    assert call(*arguments, "--overwrite") == 2
    assert "holds 'notes.md', which would be deleted" in capsys.readouterr().err


def test_overwrite_never_replaces_what_is_read(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the data, the questions, or a file of the model."""
    model, data = place.checkpoint, place.data
    asked, facts = place.folder / "asked.tsv", place.folder / "facts.tsv"
    asked.write_text("hour0\tplus2\t?\n")
    facts.write_text("newcomer\tplus2\thour0\n")
    out, file = ["--overwrite", "--out"], model / "results.json"
    before = tree(place.folder)
    for arguments in (
        ["data", "prepare", data, *out, data],
        ["data", "prepare", data / "train.txt", *out, data],
        ["extend", model, facts, "--dataset", data, "--data-out", data, *out, place.out],
        ["predict", model, "--file", asked, "--format", "csv", *out, asked],
        ["predict", model, "--file", asked, "--format", "csv", *out, file],
        ["discover", model, "--format", "csv", *out, file],
        ["export", model, "--format", "npz", *out, file],
        ["compress", model, "--to", "int8", *out, model],
    ):
        capsys.readouterr()
        assert call(*arguments) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search("itself|of the questions|lies in the checkpoint", line), line
        assert tree(place.folder) == before


def test_notes_in_a_report_stay(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = report(place)
    assert call(*arguments) == 0
    (place.out / "report" / "notes.md").write_text("notes")
    before = tree(place.out)
    assert call(*arguments) == 2
    assert "holds 'notes.md', which would be deleted" in capsys.readouterr().err
    assert tree(place.out) == before


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    from dglke_distill.base.files import atomic_write_text, directory_aside

    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        for write in (lambda p: atomic_write_text(p, ""), lambda p: directory_aside(p).__enter__()):
            with pytest.raises(
                UserError, match=f"{tmp_path / 'file'} is a file, no folder; choose"
            ):
                write(place)
    if Path("/proc/self").exists():
        with pytest.raises(UserError, match="no file can be made below /proc; choose"):
            directory_aside(Path("/proc/nobody/b")).__enter__()


@pytest.mark.parametrize("command", ["train", "run", "compare", "tune"])
def test_a_run_does_not_spread_among_other_files(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dglke_distill import cli

    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.log").write_text("x")
    with pytest.raises(SystemExit) as end:
        cli.main([command, "cldr", "--out", str(tmp_path)])
    assert end.value.code == 2 and "holds 'notes.txt', which no run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "notes.txt"]


def test_logs_may_lie_in_the_folder_of_a_run(tmp_path: Path) -> None:
    from dglke_distill.cli.models import check_run_folder

    for name in ("a.log", "nohup.out", ".hidden"):
        (tmp_path / name).write_text("x")
    check_run_folder(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "checkpoint").mkdir()  # what a run has left is told of elsewhere
    check_run_folder(tmp_path)


def test_extend_leaves_both_or_neither(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = place.folder / "grown"
    arguments = [*WRITERS["extend"](place), "--data-out", grown]

    def full(model: object, path: Path, **options: bool) -> None:
        raise NotWritten(f"{path}: not written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dglke_distill.predict.NamedModel.save_pretrained", full)
        assert call(*arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not grown.exists() and not place.out.exists()
    assert call(*arguments) == 0
    assert grown.is_dir() and place.out.is_dir()
