"""Files and settings that anyone may have written: read within limits, or refused in one line."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from dglke_distill.base import parsing
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_bytes, read_text
from dglke_distill.config import compose, parse_assignment

DEEP = 100_000


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    """Call what must refuse, soon and in one line; return the line."""
    begin = time.monotonic()
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert time.monotonic() - begin < 5
    message = str(caught.value)
    assert "\n" not in message and "\0" not in message and len(message) < 1000
    message.encode()
    return message


@pytest.mark.parametrize("call", [parsing.read_json, parsing.read_toml])
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, call: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        assert "is a socket" in refused(call, tmp_path / "socket")
    assert "is a pipe" in refused(call, tmp_path / "pipe")
    assert "is a pipe" in refused(call, tmp_path / "link")
    assert "is a folder" in refused(call, tmp_path / "folder")
    assert "is a device" in refused(call, Path("/dev/zero"))
    assert "cannot be read" in refused(call, tmp_path / "loop")
    assert "cannot be read" in refused(call, tmp_path / ("n" * 5000))
    assert r"a\0b: cannot be read" in refused(call, "a\0b")
    assert "no such file" in refused(call, tmp_path / "nothing")
    assert "no such file" in refused(call, Path("/dev/null/nothing"))


def test_a_file_of_holes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "holes"
    with open(path, "wb") as stream:
        stream.truncate(64 << 30)
    for call in (parsing.read_json, parsing.read_toml):
        assert "68,719,476,736 bytes, where at most" in refused(call, path)
    assert "contains a zero byte" in refused(read_text, path, 1 << 40)


def test_the_limit_is_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_bytes(path, 10) == b"x" * 10
    assert "10 bytes, where at most 9" in refused(read_bytes, path, 9)
    # What lies about its size is stopped where it passes the limit.
    assert "more bytes than it says" in refused(read_bytes, "/proc/self/maps", 9)


JSON = {
    "deep lists": ("[" * DEEP + "]" * DEEP, "nested more than 64 deep"),
    "deep objects": ('{"a":' * DEEP + "1" + "}" * DEEP, "nested more than 64 deep"),
    "open": ("[" * DEEP, "nested more than 64 deep"),
    "long integer": ("1" * 5000, "an integer of 5000 digits"),
    "longer integer": ("[" + "1" * 10**6 + "]", "an integer of 1000000 digits"),
    "nan": ("[NaN]", "NaN is no finite number"),
    "infinity": ('{"a": -Infinity}', "-Infinity is no finite number"),
    "beyond floats": ("1e999", "1e999 is no finite number"),
    "twice": ('{"a": 1, "b": 2, "a": 1}', "the key 'a' stands twice"),
    "nul": (r'"\u0000"', "NUL"),
    "nul key": (r'{"\u0000": 1}', "NUL"),
    "half a pair": (r'["\ud800"]', "half a surrogate pair"),
    "cut": ('{"a": [1', "line 1 column"),
    "empty": ("", "line 1 column 1"),
    "latin": (b'"\xe9"', "byte 2 is not UTF-8"),
}


@pytest.mark.parametrize("text, problem", JSON.values(), ids=JSON)
def test_json_beyond_reason_is_one_line(tmp_path: Path, text: Any, problem: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = refused(parsing.read_json, path)
    assert message.startswith(f"{path}: not valid JSON (") and problem in message


def test_json_within_reason_is_read() -> None:
    tree = {
        "text": 'br[ack{ets "and" \\ quotes \\" [[[[ ' * 40, "n": 10**39, "x": [0.1, -1e-300, None],
        "deep": json.loads("[" * 60 + "]" * 60), "é": "\U0001f600", "empty": {},
    }  # fmt: skip
    for ascii_only in (True, False):
        assert parsing.parse_json(json.dumps(tree, ensure_ascii=ascii_only), "x") == tree
    assert parsing.parse_json("[Infinity]", "x", finite=False) == [float("inf")]
    assert parsing.parse_json(b"\xef\xbb\xbf[1]", "x") == [1]


TOML = {
    "long key": (".".join(["a"] * 50_000) + " = 1", "a key of more than 16 parts"),
    "quoted key": (".".join(['"."'] * 50_000) + " = 1", "a key of more than 16 parts"),
    "hidden key": ("'=' . " + " . ".join(["'='"] * 50_000) + " = 1", "a key of more than 16 parts"),
    "long table": ("[" + ".".join(["a"] * 50_000) + "]", "a key of more than 16 parts"),
    "inline key": ("x = {" + ".".join(["a"] * 50_000) + " = 1}", "a key of more than 16 parts"),
    "deep lists": ("x = " + "[" * DEEP + "]" * DEEP, "nested more than 64 deep"),
    "deep lines": ("x = " + "[\n" * DEEP + "]" * DEEP, "nested more than 64 deep"),
    "deep tables": ("x = " + "{a=" * DEEP + "1" + "}" * DEEP, "nested more than 64 deep"),
    "long integer": ("x = " + "1" * 5000, "digits"),
    "long hex": ("x = 0x" + "f" * 100_000, "more than 64 bits"),
    "2^63": (f"x = {2**63}", "more than 64 bits"),
    "nan": ("x = nan", "nan is no finite number"),
    "inf": ("x = [1.0, -inf]", "-inf is no finite number"),
    "nul": ('x = "a\\u0000"', "NUL"),
    "twice": ("x = 1\nx = 2\n", "line 2"),
    "cut": ('x = """a', "Unterminated string"),
}


@pytest.mark.parametrize("text, problem", TOML.values(), ids=TOML)
def test_toml_beyond_reason_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    message = refused(parsing.read_toml, path)
    assert message.startswith(f"{path}: not valid TOML: ") and problem in message
    assert refused(compose, file=path) == message


def test_toml_within_reason_is_read() -> None:
    text = (
        "# [[[[ a.b.c." + "." * 99 + "\n"
        'text = "[[[ \\" ' + "." * 99 + '"\n'
        + "lines = '''\n" + "[{." * 99 + "'''\n"
        + "more = \"\"\"\n'\\\"\"\" " + "{." * 99 + '"""\n'
        + "floats = [" + "0.5, " * 99 + "]\n"
        + "".join(f"[[table.a{i}.b]]\nc.d = {{e = [{i}]}}\n" for i in range(99))
    )  # fmt: skip
    tree = parsing.parse_toml(text, "x")
    assert len(tree["floats"]) == 99 and len(tree["table"]) == 99
    assert tree["lines"] == "[{." * 99 and tree["more"].startswith('\'""" {.')


SETTINGS = {
    "lines": ("training.epochs=1\nb=2", "no line breaks"),
    "tables": ("training.epochs=1\n[model]\ndim=3", "no line breaks"),
    "carriage": ("training.epochs=1\rb=2", "no line breaks"),
    "nul": ("data.dataset=a\0b", "control characters"),
    "escaped nul": ('data.dataset="a\\u0000b"', "NUL"),
    "long key": (".".join(["a"] * 50_000) + "=1", "write section.key=value"),
    "empty part": ("training..epochs=1", "write section.key=value"),
    "nul in the key": ("training.\0=1", "write section.key=value"),
    "line in the key": ("a\nb=1", "write section.key=value"),
    "deep": ("model.options.x=" + "[" * DEEP, "nested more than 64 deep"),
    "deep tables": ("model.options.x=" + "{a=" * DEEP, "nested more than 64 deep"),
    "dotted": ("model.options={" + ".".join(["a"] * 50_000) + "=1}", "a key of more than 16 parts"),
    "digits": ("training.seed=" + "9" * 5000, "digits"),
    "2^64": (f"training.seed={2**64}", "more than 64 bits"),
    "nan": ("optimizer.learning_rate=nan", "nan is no finite number"),
    "inf": ("optimizer.learning_rate=+inf", "inf is no finite number"),
}


@pytest.mark.parametrize("text, problem", SETTINGS.values(), ids=SETTINGS)
def test_an_assignment_beyond_reason_is_one_line(text: str, problem: str) -> None:
    message = refused(parse_assignment, text)
    assert re.match(r"--set '", message) and problem in message


def test_an_assignment_is_one_value() -> None:
    assert parse_assignment("model.name = ComplEx ") == {"model": {"name": "ComplEx"}}
    assert parse_assignment('a.b="x = y # [["') == {"a": {"b": "x = y # [["}}
    assert parse_assignment("a=[1, [2.5]]  # that") == {"a": [1, [2.5]]}
    assert parse_assignment("a=") == {"a": ""}
