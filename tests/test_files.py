from __future__ import annotations

import hashlib
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dglke_distill.base import files, places
from dglke_distill.base.disk import NotWritten, preallocate, writing


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
        "import os, sys; from pathlib import Path\n"
        "from dglke_distill.base.files import file_aside\n"
        "with file_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"
    assert len(leftovers(tmp_path)) == 1
    files.atomic_write_text(path, "new")
    assert leftovers(tmp_path) == []


def test_only_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    dead = [".file.0123456789ab.tmp", ".file.0123456789ac.tmp"]
    (tmp_path / dead[0]).mkdir()
    (tmp_path / dead[0] / "file").write_text("half")
    (tmp_path / dead[1]).write_text("half, by an earlier version")
    others = [".file.tmp", ".file.0123456789AB.tmp", ".files.0123456789ab.tmp", "file.tmp"]
    for name in others:
        (tmp_path / name).write_text("not ours")
    (tmp_path / ".file.0123456789ad.tmp").symlink_to("file.tmp")
    with files.file_aside(path) as living:
        living.write_text("slow")
        files.atomic_write_text(path, "fast")  # the one that is at work is left alone
        assert living.read_text() == "slow"
    assert path.read_text() == "slow"
    names = {found.name for found in tmp_path.iterdir()}
    assert names == {*others, "file", ".file.0123456789ad.tmp"}


def test_without_locks_only_what_is_old_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    old, young = tmp_path / ".file.0123456789ab.tmp", tmp_path / ".file.0123456789ac.tmp"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (1e9, 1e9))
    files.atomic_write_text(tmp_path / "file", "new")
    assert leftovers(tmp_path) == [young.name]


@pytest.mark.slow
def test_writers_to_one_place_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dglke_distill.base import files, places\n"
        "for i in range(60):\n"
        "    text = f'{sys.argv[2]} {i}\\n' * 1000\n"
        "    files.atomic_write_text(Path(sys.argv[1], 'file'), text)\n"
        "    ours = places.nothing_foreign\n"
        "    with files.directory_aside(Path(sys.argv[1], 'folder'), foreign=ours) as aside:\n"
        "        (aside / 'a').write_text(text); (aside / 'b').write_text(text)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE) for i in range(3)]
    for writer in writers:
        assert writer.communicate()[1] == b""
        assert writer.returncode == 0
    for path in (tmp_path / "file", tmp_path / "folder" / "a"):
        lines = path.read_text().splitlines()
        assert len(lines) == 1000 and len(set(lines)) == 1
    assert (tmp_path / "folder" / "a").read_text() == (tmp_path / "folder" / "b").read_text()
    assert leftovers(tmp_path) == []


def test_a_folder_replaces_one_that_another_writer_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a free place and the rename to it another writer's folder came there."""
    new, final = tmp_path / "new", tmp_path / "final"
    for folder in (new, final):
        folder.mkdir()
        (folder / "a").write_text(folder.name)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", lambda path: False)
        files.replace_directory(new, final)
    assert (final / "a").read_text() == "new" and not new.exists()


def test_what_is_left_of_a_look_at_a_place_goes_with_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is killed while it looks leaves an empty folder of a name that is known."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", lambda path: None)
        places.check_writable(tmp_path / "folder", tmp_path)
    assert len(leftovers(tmp_path)) == 1
    files.atomic_write_text(tmp_path / "folder", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.slow
def test_killed_at_random_moments_a_folder_is_whole(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from dglke_distill.base import files, places\n"
        "print('begun', flush=True)\n"
        "for i in range(100000):\n"
        "    ours = places.nothing_foreign\n"
        "    with files.directory_aside(Path(sys.argv[1], 'folder'), foreign=ours) as aside:\n"
        "        for name in 'ab': (aside / name).write_text(f'{i}\\n' * 5000)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pauses = np.random.default_rng(0).uniform(0, 0.05, 12)
    for pause in pauses:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
        if (tmp_path / "folder").exists():
            texts = [(tmp_path / "folder" / name).read_text() for name in "ab"]
            assert texts[0] == texts[1] and len(set(texts[0].split())) == 1
            assert texts[0].count("\n") == 5000
    with files.directory_aside(tmp_path / "folder", foreign=places.nothing_foreign):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_left_between_two_renames_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders cannot be exchanged, a writer killed between the renames leaves none."""
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    hidden = tmp_path / ".final.0123456789ab.old"
    hidden.mkdir()
    (hidden / "a").write_text("the only copy")
    with pytest.raises(KeyboardInterrupt), files.directory_aside(tmp_path / "final"):
        raise KeyboardInterrupt
    assert (tmp_path / "final" / "a").read_text() == "the only copy"
    assert leftovers(tmp_path) == []


def test_a_new_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert files.create_file(path, b"first")
    assert not files.create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert leftovers(path.parent) == []


@pytest.mark.parametrize("place", ["pipe", "folder", "device"])
def test_only_ordinary_files_are_replaced(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    if place == "pipe":
        os.mkfifo(path)
    elif place == "folder":
        path.mkdir()
    else:
        path.symlink_to(os.devnull)
    before = os.stat(path).st_mode
    with pytest.raises(NotWritten, match="is no ordinary file; choose another name"):
        files.atomic_write_text(path, "text")
    assert os.stat(path).st_mode == before


def test_places_are_looked_at_before(tmp_path: Path) -> None:
    """A check says what the write would have said, and leaves nothing."""
    (tmp_path / "file").write_text("here")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere" / "file")
    for good in ("new", "file", "a/b/new", "gone", "n" * 255):
        places.check_file_place(tmp_path / good)
    for bad, said in (
        ("folder", "folder: is a folder; name a file"),
        ("file/new", "file is a file, no folder"),
        ("file/a/b", "file is a file, no folder"),
        ("n" * 256, "choose a shorter name"),
        ("a/" + "n" * 256 + "/b", "choose a shorter name"),
        ("/proc/new", "no file can be made below /proc"),
        ("/proc/a/new", "no file can be made below /proc"),
        (os.devnull, "is no ordinary file"),
    ):
        with pytest.raises(NotWritten, match=said):
            places.check_file_place(tmp_path / bad)
        if bad not in ("folder", os.devnull):
            with pytest.raises(NotWritten, match=said):
                places.check_replaceable(tmp_path / bad)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "gone"]
    assert (tmp_path / "file").read_text() == "here" and not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(NotWritten, match="change the permissions"):
            places.check_file_place(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)


def test_a_directory_of_others_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "final"
    final.mkdir()
    (final / "README.md").write_text("precious")
    with pytest.raises(NotWritten, match=r"final: holds 'README.md', which .* move it away"):
        with files.directory_aside(final):
            raise AssertionError("refused before anything is computed")
    with pytest.raises(NotWritten, match=r"holds 'b'"):
        with files.directory_aside(tmp_path / "other") as aside:
            (aside / "a").write_text("1")
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "b").write_text("came meanwhile")
    assert (final / "README.md").read_text() == "precious"
    assert (tmp_path / "other" / "b").read_text() == "came meanwhile"
    assert leftovers(tmp_path) == []


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    files.atomic_write_text(path, "text")
    assert path.read_text() == "text"
    with pytest.raises(NotWritten, match="choose a shorter name"):
        files.atomic_write_text(tmp_path / ("n" * 256), "text")


def test_a_folder_that_vanishes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with pytest.raises(NotWritten, match=rf"{path}: not written: .*removed meanwhile"):
        with files.file_aside(path) as aside:
            shutil.rmtree(path.parent)
            aside.write_text("text")
    assert not path.parent.exists()


def test_trouble_with_other_files_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source"):
        with files.file_aside(tmp_path / "file"):
            (tmp_path / "source").read_text()
    with pytest.raises(ConnectionResetError):
        with files.file_aside(tmp_path / "file"):
            raise ConnectionResetError(104, "Connection reset by peer")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def by_numpy(path: Path) -> None:
    np.save(path, np.zeros(1 << 16))


def by_safetensors(path: Path) -> None:
    save_file({"table": torch.zeros(1 << 16)}, path)


def by_python(path: Path) -> None:
    path.write_bytes(b"0" * (1 << 18))


def test_what_torch_says_of_shared_memory_is_one_line(tmp_path: Path) -> None:
    said = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
    with pytest.raises(NotWritten, match="shm: not written: No space left on device; free some"):
        with writing(tmp_path / "shm"):
            raise RuntimeError(said)
    for other in ("index out of range (28)", "No space left on device"):
        with pytest.raises(RuntimeError), writing(tmp_path / "shm"):
            raise RuntimeError(other)


def test_a_part_without_room_is_named_where_it_would_have_been(tmp_path: Path) -> None:
    line = rf"^{tmp_path}/final/part: not written: File too large"
    with file_size_limit(100), pytest.raises(NotWritten, match=line):
        with files.directory_aside(tmp_path / "final") as folder:
            files.atomic_write_bytes(folder / "part", b"x" * 200)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [by_numpy, by_safetensors, by_python])
def test_what_finds_no_room_is_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "file.npy"
    path.write_text("old")
    line = rf"^{path}: not written: .*limit on file sizes|^{path}: not written: File too large; .*"
    with file_size_limit(1 << 14), pytest.raises(NotWritten, match=line):
        with files.file_aside(path) as aside:
            write(aside)
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_room_is_taken_before_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "wb") as stream:
        preallocate(stream.fileno(), 1 << 16, path)
        assert os.stat(path).st_size == 1 << 16
        assert os.stat(path).st_blocks * 512 >= 1 << 16
        with file_size_limit(1 << 17), pytest.raises(NotWritten, match="File too large"):
            preallocate(stream.fileno(), 1 << 18, path)


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
    with files.directory_aside(final, foreign=places.nothing_foreign) as aside:
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
    ours = places.nothing_foreign
    with pytest.raises(KeyboardInterrupt), files.directory_aside(final, foreign=ours) as aside:
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


def test_of_two_new_files_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the other comes in the last moment; without hard links a file is written still."""

    def first(source: Path, target: Path) -> None:
        Path(target).write_text("theirs")
        raise FileExistsError(17, "File exists")

    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    for link, kept in ((first, "theirs"), (no_links, "ours")):
        path = tmp_path / kept
        monkeypatch.setattr(os, "link", link)
        with nullcontext() if kept == "ours" else pytest.raises(NotWritten, match="is there"):
            with files.file_aside(path, overwrite=False) as aside:
                aside.write_text("ours")
        assert path.read_text() == kept
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    assert files.sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
