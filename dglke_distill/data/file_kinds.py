"""What a file is that is no table of triples, by its first bytes, and how to make one of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

HEAD_BYTES = 1 << 16
"""How much of a file's start is looked at."""

PACKINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Endings of compressed files that are read as they are."""

PARTITION_FILE = "partition.json"
"""What a dataset that was cut into parts has in its folder; see ``partitions``."""

_RARE = [[byte] for byte in (*range(1, 9), *range(14, 27), *range(28, 32))]
"""Control characters that text has none of; a zero byte may be one of a file with holes."""
_TAR_PLACE = 257
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is not read.

    Attributes:
        name: what it is, with an article.
        fix: what to do, a command where there is one.
    """

    name: str
    fix: str

    def __str__(self) -> str:
        """Return both as the end of a sentence."""
        return f"is {self.name}, which is not read; {self.fix}"


def binary_kind(path: Path, head: bytes) -> Optional[FileKind]:
    """Return what a file is whose bytes are no UTF-8 text.

    Args:
        path: the file, for the command.
        head: its first bytes, unpacked if it is compressed.
    """
    if head[_TAR_PLACE : _TAR_PLACE + 5] == b"ustar" and b"\0" in head[:_TAR_PLACE]:
        return FileKind("a tar archive", f"unpack it: tar -xf {_quoted(path)}")
    if head.startswith(_ZIP_STARTS):
        return _zip_kind(path, head)
    for start, name, fix in _MAGIC:
        # A gene may be called PAR1: where the bytes are letters, others must follow.
        if head.startswith(start) and (not start.isascii() or _CONTROL.search(head)):
            return FileKind(name, fix(path))
    others = sum(map(head.count, map(bytes, _RARE)))
    if others > 0.02 * len(head) and not _utf8(head):
        return _wide_text(path, head) or FileKind(
            "a binary file", "unpack it if it is an archive, or save its triples as text in columns"
        )
    return _wide_text(path, head)


def _utf8(head: bytes) -> bool:
    """Return whether the first bytes of a file are text; names may hold control characters."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end == len(head) and len(head) - error.start < 4  # a character that is cut
    return True


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _stem(path: Path) -> str:
    """Return the path without its endings."""
    name = path.name
    for _ in range(2):
        stem, dot, ending = name.rpartition(".")
        if dot and stem and ending.isalnum() and len(ending) <= 8:
            name = stem
    return str(path.with_name(name))


def python_command(code: str) -> str:
    """Return the shell's command that runs code; double quotes are easier to read."""
    plain = not any(sign in code for sign in ('"', "$", "`", "\\\\", "!"))
    return f'python -c "{code}"' if plain else f"python -c {shlex.quote(code)}"


def _by_pandas(reader: str) -> Callable[[Path], str]:
    """Return the advice to convert by a reader of pandas."""

    def fix(path: Path) -> str:
        out = f"{_stem(path)}.csv"
        call = f"pandas.{reader}({str(path)!r}).to_csv({out!r}, index=False)"
        return f"convert it: {python_command(f'import pandas; {call}')}"

    return fix


def _command(text: str) -> Callable[[Path], str]:
    """Return the advice to call a command; ``{}`` stands for the file."""
    return lambda path: f"unpack it: {text.format(_quoted(path))}"


def _sqlite(path: Path) -> str:
    query = '"select head, relation, tail from TABLE"'
    return (
        f"choose its columns: sqlite3 -csv {_quoted(path)} {query} > {shlex.quote(_stem(path))}.csv"
    )


_MAGIC: tuple[tuple[bytes, str, Callable[[Path], str]], ...] = (
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed (zstd)", _command("zstd -d {}")),
    (b"\x04\x22\x4d\x18", "lz4-compressed", _command("lz4 -d {}")),
    (b"\x1f\x9d", "compressed by compress (.Z)", _command("uncompress {}")),
    (b"LZIP", "lzip-compressed", _command("lzip -dk {}")),
    (b"\x89LZO\0", "lzop-compressed", _command("lzop -dk {}")),
    (b"\x5d\0\0", "LZMA-compressed", _command("xz -dk --format=lzma --suffix=.lzma {}")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _command("7z x {}")),
    (b"Rar!\x1a\x07", "a RAR archive", _command("unrar x {}")),
    (b"PAR1", "a Parquet file", _by_pandas("read_parquet")),
    (b"ARROW1", "an Arrow file (Feather)", _by_pandas("read_feather")),
    (b"FEA1", "a Feather file", _by_pandas("read_feather")),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream",
        lambda path: "save it as .csv, e.g. by pyarrow.ipc.open_stream(...).read_pandas().to_csv",
    ),
    (b"ORC", "an ORC file", _by_pandas("read_orc")),
    (b"Obj\x01", "an Avro file", lambda path: "save its three columns as tab-separated text"),
    (b"SQLite format 3\0", "an SQLite database", _sqlite),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook", _by_pandas("read_excel")),
    (b"\x89HDF\r\n", "an HDF5 file", lambda path: "save its three columns as tab-separated text"),
    (b"\x93NUMPY", "a NumPy array", lambda path: _array(path)),
    (b"%PDF-", "a PDF document", lambda path: "save its table as tab-separated text"),
    (b"$HDT", "an HDT file (RDF)", _command("hdt2rdf {0} {0}.nt")),
    (b"\x80\x02", "a pickle", lambda path: _pickle()),
    (b"\x80\x03", "a pickle", lambda path: _pickle()),
    (b"\x80\x04", "a pickle", lambda path: _pickle()),
    (b"\x80\x05", "a pickle", lambda path: _pickle()),
)  # fmt: skip


def _array(path: Path) -> str:
    code = (
        f"import numpy; numpy.savetxt({_stem(path) + '.tsv'!r}, numpy.load({str(path)!r}), "
        r"fmt='%s', delimiter='\t')"
    )
    return f"convert it: {python_command(code)}"


def _pickle() -> str:
    return (
        "it is not opened, since that can run any code; where you trust it, save its triples as "
        "tab-separated text"
    )


def _zip_kind(path: Path, head: bytes) -> FileKind:
    if b"xl/" in head or path.suffix.lower() in (".xlsx", ".xlsm"):
        return FileKind("an Excel workbook", _by_pandas("read_excel")(path))
    if b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet" in head:
        return FileKind("an OpenDocument sheet", _by_pandas("read_excel")(path))
    if b".npy" in head and path.suffix.lower() == ".npz":
        return FileKind("a set of NumPy arrays", "save the triples as tab-separated text")
    if b"data.pkl" in head:
        return FileKind("a file of PyTorch", _pickle())
    folder = shlex.quote(_stem(path))
    return FileKind(
        "a zip archive", f"unpack it: unzip {_quoted(path)} -d {folder}, and give what was in it"
    )


def _wide_text(path: Path, head: bytes) -> Optional[FileKind]:
    """Tell UTF-16 and UTF-32, with a byte-order mark or by where their zero bytes are."""
    found = None
    for start, code in (
        (b"\xff\xfe\0\0", "UTF-32"),
        (b"\0\0\xfe\xff", "UTF-32"),
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
    ):
        if head.startswith(start):
            found = code
            break
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    half = min(len(head), 4096) // 2
    if found is None and half >= 4 and max(even, odd) > 0.8 * half and min(even, odd) == 0:
        found = "UTF-16LE" if odd > even else "UTF-16BE"
    if found is None:
        return None
    out = shlex.quote(f"{path}.utf8")
    return FileKind(
        f"text in {found}",
        f"save it as UTF-8: iconv -f {found} -t UTF-8 {_quoted(path)} > {out}",
    )


_TERM = r"(?:<[^<>\s]*>|_:[^\s<>]+)"
_LITERAL = r'"(?:[^"\\]|\\.)*"(?:@[A-Za-z0-9-]+|\^\^<[^<>\s]*>)?'
_STATEMENT = re.compile(
    rf"{_TERM}\s+<[^<>\s]*>\s+(?:{_TERM}|{_LITERAL})(\s+{_TERM})?\s*\.\s*(#.*)?"
)
_TURTLE = re.compile(r"@prefix\s+\S*:\s*<|@base\s+<|prefix\s+\S*:\s*<|base\s+<", re.IGNORECASE)
_TO_TABS = r"s/^([^ \t]+)[ \t]+([^ \t]+)[ \t]+(.*[^ \t])[ \t]*\.[ \t]*$/\1\t\2\t\3/"


def text_kind(path: Path, head: bytes) -> Optional[FileKind]:
    """Return what a text is that has a grammar of its own, so that its lines are no rows.

    Args:
        path: the file, for the command.
        head: its first bytes, unpacked if it is compressed.
    """
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff")
    lines = [line.strip() for line in text.split("\n")[:200]]
    # The last line may be cut off.
    lines = (lines[:-1] if len(head) >= HEAD_BYTES and len(lines) > 1 else lines)[:50]
    lines = [line for line in lines if line]
    if not lines:
        return None
    first, lower = lines[0], lines[0].lower()
    if first.startswith("version https://git-lfs"):
        return FileKind(
            "a Git LFS pointer", "the file itself is not here: fetch it by git lfs pull"
        )
    if first.count("\t") == 2 or first.count(",") == 2:
        pass  # of a graph of tags, say
    elif lower.startswith(("<!doctype html", "<html")):
        return FileKind("a web page (HTML)", "download the file itself, not the page about it")
    elif lower.startswith(("<?xml", "<rdf:", "<graphml", "<!doctype rdf")):
        return _xml(path, text[:4096])
    if any(map(_TURTLE.match, lines)):
        return _rdf(path, "Turtle", "turtle")
    statements = [line for line in lines if not line.startswith("#")]
    found = [_STATEMENT.fullmatch(line) for line in statements]
    if statements and all(found):
        quads = any(match and match[1] for match in found)
        command = f"sed -E '{_TO_TABS}' {_quoted(path)} > {shlex.quote(_stem(path) + '.tsv')}"
        return FileKind("N-Quads (RDF)" if quads else "N-Triples (RDF)", f"convert it: {command}")
    return _json(path, lines)


def _xml(path: Path, text: str) -> FileKind:
    if "<rdf:" in text.lower():
        return _rdf(path, "RDF/XML", "xml")
    if "<graphml" in text.lower():
        return FileKind("GraphML", "write its edges as tab-separated head, relation, tail")
    return FileKind("XML", "write its triples as tab-separated head, relation, tail")


def _rdf(path: Path, name: str, format: str) -> FileKind:
    code = (
        f"import rdflib; rdflib.Graph().parse({str(path)!r}, format={format!r})"
        f".serialize({_stem(path) + '.nt'!r}, format='nt')"
    )
    return FileKind(
        f"{name} (RDF)",
        f"convert it to N-Triples, {python_command(code)}, and these by "
        f"sed -E '{_TO_TABS}' {shlex.quote(_stem(path) + '.nt')} > "
        f"{shlex.quote(_stem(path) + '.tsv')}",
    )


def _json(path: Path, lines: list[str]) -> Optional[FileKind]:
    objects = [re.match(r'\{\s*"[^"]*"\s*:', line) for line in lines]
    arrays = [
        re.fullmatch(r'\[\s*("(?:[^"\\]|\\.)*"|[-\d.]+)\s*,.*\]\s*,?', line) for line in lines
    ]
    out = f"{_stem(path)}.csv"
    if all(objects) or all(arrays):
        call = f"read_json({str(path)!r}, lines=True, dtype=str).to_csv({out!r}, index=False)"
        if len(lines) > 1 or all(objects):
            return FileKind(
                "JSON lines", f"convert it: {python_command(f'import pandas; pandas.{call}')}"
            )
    joined = "".join(lines[:3])
    if re.match(r'\[\s*(\{\s*"|\{$|\[\s*["\d-]|\[$|$)|\{\s*"|\{$', joined) and "\t" not in lines[0]:
        call = f"pandas.DataFrame(json.load(open({str(path)!r}))).to_csv({out!r}, index=False)"
        return FileKind("JSON", f"convert it: {python_command(f'import json, pandas; {call}')}")
    return None
