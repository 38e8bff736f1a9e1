"""Dataset folders and archives that mean ill: nothing in them runs, each ends in one line."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import called
from http_fixtures import Server, server
from ogb_fixtures import SIZES, write_biokg, write_wikikg2

from dglke_distill.base.errors import UserError
from dglke_distill.data import archives, catalog, manifest, ogb_download
from dglke_distill.data.array_files import map_npy, text_blocks
from dglke_distill.data.ogb import load_ogb
from dglke_distill.data.saved_arrays import read_saved
from dglke_distill.data.wikikg90m import load_wikikg90m

__all__ = ["server"]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


class Trap:
    """Makes a folder when it is unpickled without care."""

    sprung = Path("sprung")

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sprung.absolute()),)


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def tar_of(content: bytes) -> bytes:
    """A file in the layout that torch wrote before 2017."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def compressed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/data.pkl", content)
    return buffer.getvalue()


def stored(content: bytes, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in {"data.pkl": content, **more}.items():
            archive.writestr(f"train/{name}", part)
    return buffer.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    """An array whose header claims another shape than its bytes have."""
    content = pickle.dumps({"head": np.zeros(3, np.int64)}, protocol=4)
    header = b"K\x03\x85"  # the tuple (3,)
    assert header in content
    return stored(content.replace(header, pickle.dumps(shape, protocol=4)[11:-1]))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a pickle": lambda: pickle.dumps({"head": Trap()}),
    "protocol 0": lambda: pickle.dumps({"head": Trap()}, protocol=0),
    "torch's archive": lambda: saved({"head": Trap()}),
    "torch's old layout": lambda: saved({"head": Trap()}, _use_new_zipfile_serialization=False),
    "torch's oldest layout": lambda: tar_of(pickle.dumps(Trap())),
    "an array of objects": lambda: saved({"head": np.array([Trap()], dtype=object)}),
    "fields of objects": lambda: saved({"head": np.zeros(1, dtype=[("x", "O")])}),
    "a trap as a name": lambda: saved({Trap(): 1}),
    "a trap in a list": lambda: saved({"head_type": [Trap()]}),
    "a numpy function": lambda: stored(b"cnumpy\nload\n(S'x'\ntR."),
    "builtins": lambda: stored(b"cbuiltins\neval\n(V1\ntR."),
    "an attribute": lambda: stored(b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.sum\x93."),
    "an instance": lambda: stored(b"(Vmkdir\nios\nmkdir\n."),
    "a class with new": lambda: stored(b"\x80\x02cos\n_wrap_close\n)\x81."),
    "a zip bomb": lambda: compressed(b"\0" * (64 << 20)),
    "a huge memo": lambda: stored(b"\x80\x02Nr\xff\xff\xff\xff."),
    "huge bytes": lambda: stored(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"."),
    "a huge frame": lambda: stored(b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"."),
    "a huge array": lambda: claiming((1 << 45,)),
    "a negative shape": lambda: claiming((-3,)),
    "a deep tuple": lambda: stored(b"\x80\x02}N" + b"\x85" * 300_000 + b"Ns."),
    "a tensor out of its bytes": lambda: saved({"head": torch.arange(9)}).replace(
        b"K\tt", b"M\xff\xfft"
    ),
    "a sparse tensor": lambda: saved({"head": torch.eye(3).to_sparse()}),
    "long doubles": lambda: saved({"head": np.zeros(3, np.longdouble)}),
    "words": lambda: saved({"head": np.array(["a"])}),
    "nothing": lambda: b"",
    "text": lambda: b"head,tail\n",
    "a list": lambda: saved([1, 2]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_of_arrays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train.pt"
    path.write_bytes(HOSTILE[kind]())
    with pytest.raises(UserError, match=r"train\.pt: .* a pickle can run any code") as caught:
        read_saved(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not Trap.sprung.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_what_is_read_is_what_was_saved(tmp_path: Path, protocol: int, archive: bool) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "head": rng.integers(0, 1 << 40, 100_000),
        "head_neg": rng.integers(0, 9, (50, 7)),
        "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "other order": np.arange(3, dtype=">i4"),
        "halves": np.float16([0.5, 2]),
        "head_type": ["drug", "disease"] * 1000,
        "count": 7,
        "scalar": np.int64(5),
        "none": None,
    }
    path = tmp_path / "x.pt"
    options: dict[str, Any] = {"_use_new_zipfile_serialization": archive}
    torch.save(columns, path, pickle_protocol=protocol, **options)
    found = read_saved(path)
    assert list(found) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)


def test_tensors(tmp_path: Path) -> None:
    whole = torch.arange(12)
    columns = {"a": whole.reshape(3, 4), "part": whole[3:7], "half": torch.ones(3).half()}
    torch.save(columns, tmp_path / "x.pt")
    found = read_saved(tmp_path / "x.pt")
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column.numpy())


@pytest.mark.parametrize("kind", ["pickle", "objects", "npz", "claims", "words", "structured"])
def test_hostile_arrays_of_numpy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npy"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "npz":
        with open(path, "wb") as stream:
            np.savez(stream, x=np.array([Trap()], dtype=object))
    else:
        arrays = {
            "objects": np.array([Trap()], dtype=object),
            "claims": np.zeros(3),
            "words": np.array(["a"]),
            "structured": np.zeros(3, dtype=[("x", "f4")]),
        }
        np.save(path, arrays[kind], allow_pickle=True)
    if kind == "claims":
        path.write_bytes(path.read_bytes().replace(b"(3,)", b"(9" + b"9" * 9 + b",)"))
    with pytest.raises(UserError, match=r"x\.npy: not an array of numpy"):
        map_npy(path)
    assert not Trap.sprung.exists()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Call the command line; return exit code and errors."""
    code, _, err = called(capsys, *arguments)
    return code, err


@pytest.mark.parametrize("part", ["split", "processed", "description", "cache"])
@pytest.mark.parametrize("way", ["path", "data root", "evaluate"])
@pytest.mark.parametrize("name", ["ogbl_wikikg2", "ogbl_biokg"])
def test_a_folder_with_a_trap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, part: str, way: str
) -> None:
    """The places that the ogb package, or torch, would unpickle."""
    root = tmp_path / "root"
    (write_wikikg2 if name == "ogbl_wikikg2" else write_biokg)(root)
    folder = root / name
    split = folder / "split" / ("time" if name == "ogbl_wikikg2" else "random")
    if part == "split":
        (split / "valid.pt").write_bytes(HOSTILE["torch's archive"]())
        (split / "split_dict.pt").write_bytes(HOSTILE["torch's archive"]())
    elif part == "processed":
        # Never looked at: nothing of it is needed.
        (folder / "processed" / "data_processed").write_bytes(HOSTILE["a pickle"]())
        (split / "split_dict.pt").write_bytes(HOSTILE["torch's archive"]())
    else:
        load_ogb(name.replace("_", "-"), root)
        cache = folder / "processed" / "dglke_distill"
        if part == "cache":
            np.save(cache / "test_head.npy", np.array([Trap()], dtype=object), allow_pickle=True)
        else:
            (cache / "description.json").write_bytes(HOSTILE["a pickle"]())
    if way == "path":
        code, error = run(capsys, "data", "prepare", folder)
    elif way == "data root":
        code, error = run(capsys, "data", "prepare", name.replace("_", "-"), "--data-root", root)
    else:
        command = ("train", folder, "--dim", "4", "--epochs", "1", "--out", "run", "--dry-run")
        code, error = run(capsys, *command)
    assert not Trap.sprung.exists()
    if part in ("split", "cache") or way == "data root":
        assert code == 2, error
        assert len(error.splitlines()) == 1 and error.startswith("error: ")
    if part == "split":
        assert "a pickle can run any code" in error


@pytest.mark.parametrize(
    "part", ["split/time/train.pt", "raw/edge_reltype.csv.gz", "raw/num-node-list.csv.gz"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, part: str, kind: str) -> None:
    write_wikikg2(tmp_path)
    path = tmp_path / "ogbl_wikikg2" / part
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(UserError, match="a regular file is needed"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_gzipped_text_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"0\n" * 50_000_000, 1))
    with pytest.raises(UserError, match="holds more than 1000000 bytes"):
        list(text_blocks(path, 1_000_000))
    path.write_bytes(gzip.compress(b"0" * 50_000_000, 1))
    with pytest.raises(UserError, match="a line that never ends"):
        list(text_blocks(path, 1 << 40))
    path.write_bytes(gzip.compress(b"12\n34\n56")[:-9])
    with pytest.raises(UserError, match="not whole gzip"):
        list(text_blocks(path, 100))
    path.write_bytes(gzip.compress(b"12\n34\n56"))
    assert b"".join(text_blocks(path, 100)) == b"12\n34\n56"


@pytest.mark.parametrize(
    "part, text",
    [
        ("num-node-list", "99999999999999999999\n"),
        ("num-node-list", "-5\n"),
        ("num-node-list", ""),
        ("num-edge-list", "many\n"),
        ("edge_reltype", "1\nx\n"),
        ("edge_reltype", "-1\n"),
        ("edge_reltype", "99999999999999999999\n"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, part: str, text: str) -> None:
    write_wikikg2(tmp_path)
    path = tmp_path / "ogbl_wikikg2" / "raw" / f"{part}.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(UserError, match=rf"{part}\.csv\.gz: is no table") as caught:
        load_ogb("ogbl-wikikg2", tmp_path)
    assert "\n" not in str(caught.value)


def test_names_that_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_biokg(tmp_path)
    path = tmp_path / "ogbl_biokg" / "raw" / "triplet-type-list.csv.gz"
    path.write_bytes(gzip.compress(b"../../drug,x,drug\n"))
    with pytest.raises(UserError, match="is no name"):
        load_ogb("ogbl-biokg", tmp_path)


@pytest.mark.parametrize("change", ["ids", "columns", "rows", "keys", "negatives", "names"])
def test_a_converted_form_that_lies(tmp_path: Path, change: str) -> None:
    write_wikikg2(tmp_path, mapping=True)
    load_ogb("ogbl-wikikg2", tmp_path)
    cache = tmp_path / "ogbl_wikikg2" / "processed" / "dglke_distill"
    if change == "ids":
        np.save(cache / "test_head.npy", np.full(SIZES["test"], 30, np.int32))
    elif change == "columns":
        np.save(cache / "test_head.npy", np.zeros(3, np.int32))
    elif change == "rows":
        np.save(cache / "test_tail_negatives.npy", np.zeros((3, 4), np.int32))
    elif change == "negatives":
        np.save(cache / "test_tail_negatives.npy", np.zeros((SIZES["test"], 4)))
    elif change == "names":
        (cache / "entity_names.txt").write_text("a\nb\n")
    else:
        # What cannot be ours is written anew.
        (cache / "description.json").write_text('{"format": 1}')
        assert load_ogb("ogbl-wikikg2", tmp_path).num_entities == 30
        return
    with pytest.raises(UserError, match="dglke_distill: the converted ogbl-wikikg2 is damaged"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_negatives_that_are_no_entities(tmp_path: Path) -> None:
    from dglke_distill.evaluate.ogb import popularity_control

    write_wikikg2(tmp_path)
    load_ogb("ogbl-wikikg2", tmp_path)
    cache = tmp_path / "ogbl_wikikg2" / "processed" / "dglke_distill"
    for value in (30, -1):
        np.save(cache / "test_tail_negatives.npy", np.full((SIZES["test"], 4), value, np.int32))
        with pytest.raises(UserError, match=r"a given negative is outside 0\.\.29"):
            popularity_control(load_ogb("ogbl-wikikg2", tmp_path), "test")


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("column, value", [(0, 50), (1, 6), (2, -1)])
def test_wikikg90m_ids_out_of_range(tmp_path: Path, dtype: Any, column: int, value: int) -> None:
    from test_wikikg90m import write

    folder = write(tmp_path, dtype)
    path = folder / "processed" / "train_hrt.npy"
    load_wikikg90m(folder)
    rows = np.load(path)
    rows[-1, column] = value
    np.save(path, rows)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match=rf"an id of column {column} is outside"):
        load_wikikg90m(folder)


def test_wikikg90m_with_traps(tmp_path: Path) -> None:
    from test_wikikg90m import write

    folder = write(tmp_path)
    (folder / "meta.pt").write_bytes(HOSTILE["torch's archive"]())
    with pytest.raises(UserError, match="a pickle can run any code"):
        catalog.load(str(folder))
    objects = np.array([[Trap()] * 3], dtype=object)
    np.save(folder / "processed" / "train_hrt.npy", objects, allow_pickle=True)
    with pytest.raises(UserError, match="not an array of numpy"):
        catalog.load(str(folder))
    assert not Trap.sprung.exists()


# Archives


def zipped(path: Path, files: dict[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "in/../../x", "in//x", "in/./x", "other/x", "in\\..\\x", "C:/x", "in/a:b", "x"],
)
def test_paths_out_of_an_archive(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", {"in/good": b"1", name: b"2"})
    with pytest.raises(UserError, match="does not lie in in/; nothing was kept"):
        archives.unpack_zip(archive, "in", tmp_path / "out", 100)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_an_archive(tmp_path: Path, kind: int) -> None:
    archive = zipped(tmp_path / "a.zip", {"in/x": b"/etc/passwd"}, kind | 0o777)
    with pytest.raises(UserError, match="is a link or a device"):
        archives.unpack_zip(archive, "in", tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_too_large_or_damaged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    bomb = zipped(tmp_path / "a.zip", {f"in/{i}": b"\0" * 1_000_000 for i in range(9)})
    with pytest.raises(UserError, match="larger than it may be"):
        archives.unpack_zip(bomb, "in", out, 8_999_999)
    archives.unpack_zip(bomb, "in", out, 9_000_000)
    assert sorted(path.name for path in out.iterdir()) == [str(i) for i in range(9)]
    content = bytearray(bomb.read_bytes())
    content[60] ^= 255
    bomb.write_bytes(content)
    with pytest.raises(UserError, match="cannot be unpacked"):
        archives.unpack_zip(bomb, "in", tmp_path / "again", 9_000_000)
    bomb.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        archives.unpack_zip(bomb, "in", tmp_path / "again", 9_000_000)
    both = {"in/a": b"1", "in/a/b": b"2"}
    with pytest.raises(UserError, match="'in/a/b' is in it twice; nothing was kept"):
        archives.unpack_zip(zipped(tmp_path / "b.zip", both), "in", tmp_path / "again", 100)
    assert not (tmp_path / "again").exists()


@pytest.fixture
def toy_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """A server with the archive of a small ogbl-wikikg2, and a manifest that names it."""
    write_wikikg2(tmp_path / "made")
    folder = tmp_path / "made" / "ogbl_wikikg2"
    files = {
        f"wikikg-v2/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    server.content = zipped(tmp_path / "archive.zip", files).read_bytes()
    about = manifest.load_manifest("ogbl-wikikg2")
    assert about is not None and about.ogb is not None
    url = f"{server.url}/wikikg-v2.zip"
    source = about.ogb.model_copy(update={"url": url, "most_bytes": 1 << 20})
    counts = about.counts.model_copy(update={"entities": 30, "relations": 5, **SIZES})
    small = about.model_copy(update={"ogb": source, "counts": counts})
    for module in (catalog, ogb_download):
        monkeypatch.setattr(module, "load_manifest", lambda name: small if "wiki" in name else None)
    return server


def test_an_archive_is_downloaded_only_with_consent(
    tmp_path: Path, toy_board: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        UserError, match=r"not downloaded unasked .*data prepare ogbl-wikikg2 --yes"
    ):
        catalog.load("ogbl-wikikg2")
    for command in (
        ("data", "prepare", "ogbl-wikikg2"),
        ("train", "ogbl-wikikg2", "--dim", "4", "--out", "run"),
        ("run", "ogbl-wikikg2", "--dims", "8,4", "--out", "run"),
    ):
        code, error = run(capsys, *command)
        assert (code, len(error.splitlines())) == (2, 1), error
        assert "not downloaded unasked" in error and "--yes" in error
    with pytest.raises(UserError, match="unasked"):
        ogb_download.offer("ogbl-wikikg2", False, ask=lambda question: False)
    assert toy_board.asked == []
    assert not (tmp_path / "cache").exists()
    code, error = run(capsys, "data", "prepare", "ogbl-wikikg2", "--yes")
    assert (code, error) == (0, "")
    assert toy_board.asked == [""]
    cache = tmp_path / "cache"
    assert [path.name for path in cache.iterdir()] == ["ogbl_wikikg2"]
    assert catalog.load("ogbl-wikikg2").num_entities == 30


def test_an_answer_on_the_terminal_is_consent(tmp_path: Path, toy_board: Server) -> None:
    asked: list[str] = []
    ogb_download.offer("ogbl-wikikg2", False, ask=lambda question: not asked.append(question))
    assert "Download at most 0.00 GB from http://127.0.0.1" in asked[0]
    assert catalog.load("ogbl-wikikg2").num_relations == 5


@pytest.mark.parametrize("wrong", ["size", "large", "bomb"])
def test_another_archive_is_not_kept(
    tmp_path: Path, toy_board: Server, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    about = catalog.load_manifest("ogbl-wikikg2")
    assert about is not None and about.ogb is not None
    limits = {
        "size": {"bytes": len(toy_board.content) + 1},
        "large": {"most_bytes": len(toy_board.content) - 1},
        "bomb": {"most_unpacked_bytes": 1000},
    }
    changed = about.model_copy(update={"ogb": about.ogb.model_copy(update=limits[wrong])})
    for module in (catalog, ogb_download):
        monkeypatch.setattr(module, "load_manifest", lambda name: changed)
    with pytest.raises(UserError):
        ogb_download.offer("ogbl-wikikg2", True)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "cache" / "ogbl_wikikg2").exists()
