from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dglke_distill import files


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_write_creates_parents_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.txt"
    files.atomic_write_text(path, "one\r\nzwei ü\n")
    assert path.read_bytes() == "one\r\nzwei ü\n".encode()
    files.atomic_write_bytes(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert leftovers(path.parent) == []


def test_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    files.atomic_write_text(tmp_path / "atomic", "")
    mode = stat.S_IMODE(os.stat(tmp_path / "ordinary").st_mode)
    assert stat.S_IMODE(os.stat(tmp_path / "atomic").st_mode) == mode


def test_failure_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.file_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to(target)
    files.atomic_write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    script = (
        "import os, sys; from pathlib import Path; from dglke_distill.files import file_aside\n"
        "with file_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


@pytest.fixture(params=["exchange", "two renames"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    return request.param


def test_directory_appears_and_is_replaced_whole(tmp_path: Path, swap: str) -> None:
    final = tmp_path / "deep" / "final"
    with files.directory_aside(final) as aside:
        (aside / "a").write_text("1")
        assert not final.exists()
    assert {p.name for p in final.iterdir()} == {"a"}
    with files.directory_aside(final) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "b").write_text("2")
        assert (final / "a").read_text() == "1"
    assert {p.name for p in final.iterdir()} == {"sub"}
    assert (final / "sub" / "b").read_text() == "2"
    assert leftovers(final.parent) == []


def test_failure_while_filling_leaves_the_old_directory(tmp_path: Path, swap: str) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt), files.directory_aside(final) as aside:
        (aside / "b").write_text("2")
        raise KeyboardInterrupt
    assert {p.name for p in final.iterdir()} == {"a"}
    assert leftovers(tmp_path) == []


def test_failed_rename_brings_the_old_directory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, final = tmp_path / "new", tmp_path / "final"
    new.mkdir()
    final.mkdir()
    (final / "a").write_text("1")
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if Path(source) == new:
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no space"):
        files.replace_directory(new, final)
    assert (final / "a").read_text() == "1"


def test_a_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "final").write_text("precious")
    with pytest.raises(NotADirectoryError):
        files.replace_directory(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final").read_text() == "precious"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert files.sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
