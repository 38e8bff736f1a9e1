"""Files that are no tables of triples: named for what they are, with a command that helps."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from format_fixtures import TEST, TRAIN, VALID, facts, write

from dglke_distill.base.errors import UserError
from dglke_distill.data import opening, text
from dglke_distill.data.formats import read_file, read_folder

ROWS = [("e1", "r1", "e2"), ("e2", "r2", "e3"), ("e3", "r1", "e1"), ("e1", "r2", "e3")] * 3
FRAME = pandas.DataFrame(ROWS, columns=["head", "relation", "tail"])
TABLE = "".join("\t".join(row) + "\n" for row in ROWS).encode()


def tar(mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        about = tarfile.TarInfo("train.txt")
        about.size = len(TABLE)
        archive.addfile(about, io.BytesIO(TABLE))
    return out.getvalue()


def zipped(name: str = "train.txt", content: bytes = TABLE) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def written_by(write_to: str) -> bytes:
    out = io.BytesIO()
    getattr(FRAME, write_to)(out)
    return out.getvalue()


def array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((4, 3), np.int64))
    return out.getvalue()


def saved_by_torch() -> bytes:
    out = io.BytesIO()
    torch.save(torch.zeros(3, 3), out)
    return out.getvalue()


OBJECTS = [dict(zip(("head", "relation", "tail"), row)) for row in ROWS]
KINDS = {
    "kg.tar": (tar, "a tar archive", "tar -xf"),
    "kg.tar.gz": (lambda: tar("w:gz"), "a tar archive", "tar -xf"),
    "kg.tsv.gz": (lambda: gzip.compress(tar()), "a tar archive", "tar -xf"),
    "kg.tar.bz2": (lambda: tar("w:bz2"), "a tar archive", "tar -xf"),
    "kg.tar.xz": (lambda: tar("w:xz"), "a tar archive", "tar -xf"),
    "kg.tgz": (lambda: tar("w:gz"), "gzip-compressed", "rename it"),
    "kg.xlsx": (lambda: zipped("xl/workbook.xml"), "an Excel workbook", "read_excel"),
    "kg.xls": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an Excel workbook", "read_excel"),
    "kg.pt": (saved_by_torch, "a file of PyTorch", "can run any code"),
    "kg.pkl": (lambda: b"\x80\x04\x95\0", "a pickle", "can run any code"),
    "kg.npy": (array, "a NumPy array", "numpy.savetxt"),
    "kg.feather": (lambda: written_by("to_feather"), "an Arrow file", "read_feather"),
    "kg.7z": (lambda: b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive", "7z x"),
    "kg.rar": (lambda: b"Rar!\x1a\x07\x01\0", "a RAR archive", "unrar x"),
    "kg.lz4": (lambda: b"\x04\x22\x4d\x18\x64", "lz4-compressed", "lz4 -d"),
    "kg.db": (lambda: b"SQLite format 3\0\x10\0", "an SQLite database", "sqlite3 -csv"),
    "kg.h5": (lambda: b"\x89HDF\r\n\x1a\n\0", "an HDF5 file", "tab-separated"),
    "kg.tsv": (lambda: TABLE.decode().encode("utf-16"), "text in UTF-16", "iconv -f UTF-16"),
    "le.tsv": (lambda: TABLE.decode().encode("utf-16-le"), "text in UTF-16LE", "iconv -f UTF-16LE"),
    "be.tsv": (lambda: TABLE.decode().encode("utf-16-be"), "text in UTF-16BE", "iconv -f UTF-16BE"),
    "32.tsv": (lambda: TABLE.decode().encode("utf-32"), "text in UTF-32", "iconv -f UTF-32"),
    "kg.rdf": (lambda: b'<?xml version="1.0"?>\n<rdf:RDF xmlns="x">\n', "RDF/XML", "rdflib"),
    "kg.graphml": (lambda: b'<?xml version="1.0"?>\n<graphml>\n', "GraphML", "tab-separated"),
    "kg.jsonl": (lambda: "\n".join(map(json.dumps, OBJECTS)).encode(), "JSON lines", "read_json"),
    "rows.csv": (lambda: "\n".join(map(json.dumps, ROWS)).encode(), "JSON lines", "read_json"),
    "kg.json": (lambda: json.dumps(OBJECTS, indent=1).encode(), "JSON", "json.load"),
    "flat.json": (lambda: json.dumps([list(row) for row in ROWS]).encode(), "JSON", "json.load"),
    "page.csv": (lambda: b"<!DOCTYPE html>\n<html><body>a\n", "a web page", "download the file"),
    "lfs.txt": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
                "a Git LFS pointer", "git lfs pull"),
    "kg.lzma": (lambda: lzma.compress(TABLE, lzma.FORMAT_ALONE), "LZMA-compressed", "xz -dk"),
    "kg.bin": (lambda: np.random.default_rng(0).bytes(5000), "a binary file", "unpack it"),
    "twice.gz": (lambda: gzip.compress(bz2.compress(TABLE)), "compressed twice", "unpack it once"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_named_for_what_it_is(tmp_path: Path, name: str) -> None:
    make, what, fix = KINDS[name]
    path = tmp_path / name
    path.write_bytes(make())
    with pytest.raises(UserError) as caught:
        read_file(path)
    message = str(caught.value)
    assert str(path) in message
    assert what in message
    assert fix in message
    assert "\n" not in message
    assert "zero byte" not in message


@pytest.mark.parametrize("name", ["kg.feather", "kg.jsonl", "kg.tar.gz", "kg.db"])
def test_a_folder_names_what_its_splits_are(tmp_path: Path, name: str) -> None:
    make, what, fix = KINDS[name]
    ending = name.partition(".")[2]
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.{ending}").write_bytes(make())
    with pytest.raises(UserError, match="train") as caught:
        read_folder(tmp_path)
    message = str(caught.value)
    assert what in message
    assert fix in message
    assert "have it split" not in message


# The commands do what they say


def obey(message: str, start: str) -> None:
    command = message[message.index(start) :].replace("python -c", f"{sys.executable} -c")
    subprocess.run(command, shell=True, check=True, executable="/bin/bash")


@pytest.mark.parametrize(
    ("name", "start", "made"),
    [
        ("kg.feather", "python -c", "kg.csv"),
        ("kg.jsonl", "python -c", "kg.csv"),
        ("kg.json", "python -c", "kg.csv"),
        ("kg.tsv", "iconv", "kg.tsv.utf8"),
        ("le.tsv", "iconv", "le.tsv.utf8"),
    ],
)
def test_what_the_command_makes_is_read(tmp_path: Path, name: str, start: str, made: str) -> None:
    folder = tmp_path / "it's a {folder} $HOME"
    folder.mkdir()
    path = folder / name
    path.write_bytes(KINDS[name][0]())
    with pytest.raises(UserError) as caught:
        read_file(path)
    obey(str(caught.value), start)
    result = folder / made
    if made.endswith(".utf8"):
        result = result.rename(folder / "utf8.tsv")
    dataset = read_file(result)
    found = {fact for split in ("train", "valid", "test") for fact in facts(dataset, split)}
    assert found == set(ROWS)


def test_the_columns_of_a_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "kg.db") as base:
        FRAME.to_sql("facts", base, index=False)
    kind = text.kind_of_file(tmp_path / "kg.db")
    assert kind is not None
    assert "sqlite3 -csv" in kind.fix


# What only looks like one


@pytest.mark.parametrize(
    "name", ["PAR1", "ORC", "ARROW1", "LZIP", "BZh9", "Obj", "%PDF-", "{a}", "[Na+]", "<b>",
             "<html>", "PK", "_:b1", "ustar", "@prefix", "[[x]]"]
)  # fmt: skip
@pytest.mark.parametrize("separator", ["\t", ","])
def test_names_that_begin_like_another_format(tmp_path: Path, name: str, separator: str) -> None:
    rows = [(name, "r", "b"), ("b", "r", name), ("b", "s", "c")] * 30
    content = "".join(separator.join(row) + "\n" for row in rows)
    path = tmp_path / ("kg.csv" if separator == "," else "kg.tsv")
    path.write_text(content)
    assert set(read_file(path).entities) == {name, "b", "c"}


def test_a_wrong_ending_of_compression_is_named(tmp_path: Path) -> None:
    for name, content, message in (
        ("kg.tsv.gz", zipped(), "is a zip archive in spite of its name; rename it"),
        ("kg.tsv", gzip.compress(TABLE), r"gzip-compressed: rename it to kg\.tsv\.gz"),
        ("kg.txt", bz2.compress(TABLE), r"bzip2-compressed: rename it to kg\.txt\.bz2"),
        ("kg.csv", lzma.compress(TABLE), r"xz-compressed: rename it to kg\.csv\.xz"),
        ("plain.tsv.xz", TABLE, "is not whole xz data"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_file(tmp_path / name)


# Bombs


@pytest.mark.parametrize(
    ("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_expansion_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, pack: object
) -> None:
    assert callable(pack)
    path = tmp_path / f"kg.tsv.{ending}"
    path.write_bytes(pack(b"a\tr\tb\n" * 2_000_000))
    monkeypatch.setattr(opening, "_FREE_BYTES", 1 << 20)
    monkeypatch.setattr(text, "_BLOCK_BYTES", 1 << 18)
    with pytest.raises(UserError, match="expands to more than 200 times its size"):
        read_file(path)
    monkeypatch.setattr(opening, "_FREE_BYTES", 1 << 26)
    write(tmp_path, train=TRAIN, valid=VALID, test=TEST)
    assert len(list(text.lines(path))) == 2_000_000
