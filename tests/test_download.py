from __future__ import annotations

import gzip
import hashlib
import resource
import sys
import threading
from pathlib import Path

import pytest
from http_fixtures import CONTENT, Server, git_blob, server

from dglke_distill.base.disk import NotWritten
from dglke_distill.base.errors import UserError
from dglke_distill.data.download import console_progress, fetch, identify
from dglke_distill.data.manifest import DatasetFile

__all__ = ["server"]


def known(content: bytes = CONTENT, by: str = "sha256") -> DatasetFile:
    digests = {"sha256": hashlib.sha256(content).hexdigest(), "git_blob": git_blob(content)}
    return DatasetFile(path="data/train.txt", **({by: digests[by]} if by != "counts" else {}))


@pytest.mark.parametrize("by", ["sha256", "git_blob", "counts"])
def test_whole_download(server: Server, tmp_path: Path, by: str) -> None:
    seen: list[tuple[str, int, int | None]] = []
    target = tmp_path / "new" / "train.txt"
    fetch(f"{server.url}/a", target, known(by=by), progress=lambda *step: seen.append(step))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["train.txt"]
    assert seen[-1] == ("train.txt", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert server.asked == [""]


def test_resumes_where_it_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train.txt.part").write_bytes(CONTENT[:1000])
    seen: list[int] = []
    fetch(f"{server.url}/a", tmp_path / "train.txt", known(),
          progress=lambda name, done, total: seen.append(done))  # fmt: skip
    assert (tmp_path / "train.txt").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]
    assert seen[0] > 1000
    assert not (tmp_path / "train.txt.part").exists()


def test_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "train.txt.part").write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert (tmp_path / "train.txt").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_complete_part_needs_no_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train.txt.part").write_bytes(CONTENT)
    fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert (tmp_path / "train.txt").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]
    (tmp_path / "other.txt.part").write_bytes(CONTENT)
    sized = known().model_copy(update={"bytes": len(CONTENT)})
    fetch(f"{server.url}/a", tmp_path / "other.txt", sized)
    assert len(server.asked) == 1


@pytest.mark.parametrize("junk", [b"x" * 1000, b"x" * (len(CONTENT) + 1), b"x" * len(CONTENT)])
@pytest.mark.parametrize("sized", [True, False])
def test_part_of_something_else_is_thrown_away(
    server: Server, tmp_path: Path, junk: bytes, sized: bool
) -> None:
    (tmp_path / "train.txt.part").write_bytes(junk)
    file = known().model_copy(update={"bytes": len(CONTENT) if sized else None})
    fetch(f"{server.url}/a", tmp_path / "train.txt", file)
    assert (tmp_path / "train.txt").read_bytes() == CONTENT
    assert server.asked[-1] == ""


def test_lost_connections_are_tried_again(server: Server, tmp_path: Path) -> None:
    server.break_after = len(CONTENT) // 3 + 1
    fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert (tmp_path / "train.txt").read_bytes() == CONTENT
    assert len(server.asked) == 3
    assert server.asked[0] == ""
    assert server.asked[1] == f"bytes={server.break_after}-"


def test_what_came_is_kept_for_the_next_run(server: Server, tmp_path: Path) -> None:
    server.break_after = 1000
    with pytest.raises(UserError, match=r"failed 3 times after 3000 bytes .* run the same command"):
        fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt.part"]
    server.break_after = None
    fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert server.asked[-1] == "bytes=3000-"
    assert (tmp_path / "train.txt").read_bytes() == CONTENT


@pytest.mark.parametrize("by", ["sha256", "git_blob"])
def test_wrong_bytes_are_refused_and_nothing_is_left(
    server: Server, tmp_path: Path, by: str
) -> None:
    server.content = CONTENT.replace(b"head7\t", b"head8\t")
    with pytest.raises(UserError, match=rf"not the published train\.txt \(wrong {by}\)") as caught:
        fetch(f"{server.url}/a", tmp_path / "train.txt", known(by=by))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_copy_is_replaced_and_a_good_one_kept(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "train.txt"
    target.write_bytes(CONTENT[:-5])
    fetch(f"{server.url}/a", target, known(by="git_blob"))
    assert target.read_bytes() == CONTENT
    fetch(f"{server.url}/a", target, known(by="git_blob"))
    assert len(server.asked) == 1


def test_missing_file_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/missing: the server answers 404 Not Found") as caught:
        fetch(f"{server.url}/missing", tmp_path / "train.txt", known())
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_passing_trouble_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.status = 503
    with pytest.raises(UserError, match=r"failed 3 times after 0 bytes \(the server answers 503"):
        fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    assert len(server.asked) == 3


def test_nobody_there(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(UserError, match=r"failed 3 times after 0 bytes .* check the network"):
        fetch(f"{server.url}/a", tmp_path / "train.txt", known())
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch("nonsense://x/a", tmp_path / "train.txt", known())


def test_unwritable_place(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        fetch(f"{server.url}/a", tmp_path / "file" / "train.txt", known())


def test_two_at_once_share_one_download(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "train.txt"
    threads = [
        threading.Thread(target=fetch, args=(f"{server.url}/a", target, known())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert server.asked == [""]


def test_identity(tmp_path: Path) -> None:
    unix = tmp_path / "train.txt"
    unix.write_bytes(CONTENT)
    crlf = CONTENT.replace(b"\n", b"\r\n")
    for by in ("sha256", "git_blob"):
        assert identify(unix, known(by=by)) == by
        assert identify(unix, known(crlf, by)) == "line_ends"
        assert identify(unix, known(CONTENT[::-1], by)) == "differs"
    assert identify(unix, known(by="counts")) == "counts"
    windows = tmp_path / "windows.txt"
    windows.write_bytes(crlf)
    assert identify(windows, known()) == "line_ends"
    packed = tmp_path / "train.txt.gz"
    packed.write_bytes(gzip.compress(CONTENT))
    assert identify(packed, known()) == "sha256"
    assert (
        identify(packed, DatasetFile(path="train.txt.gz", git_blob=git_blob(packed.read_bytes())))
        == "git_blob"
    )


def test_git_blob_is_git_s_own(tmp_path: Path) -> None:
    # `printf 'what is up, doc?' | git hash-object --stdin`, from the book "Pro Git".
    path = tmp_path / "doc.txt"
    path.write_bytes(b"what is up, doc?")
    file = DatasetFile(path="doc.txt", git_blob="bd9dbf5aae1a3862dd1526723246b20206e5fc37")
    assert identify(path, file) == "git_blob"


def test_bars_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console_progress() as progress:
        progress("train.txt", 10, None)
        progress("train.txt", 2_000_000, 2_000_000)
    output = capsys.readouterr()
    assert output.out == ""
    assert "train.txt" in output.err
    assert "2.0/2.0 MB" in output.err


def test_a_full_disk_is_told_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    target, before = tmp_path / "train.txt", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, before[1]))
    try:
        with pytest.raises(NotWritten, match=rf"cannot write {target}: File too large; raise the"):
            fetch(server.url, target, known())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not target.exists()
    fetch(server.url, target, known())
    assert target.read_bytes() == CONTENT
