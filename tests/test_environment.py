from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dglke_distill.base.environment import Environment
from dglke_distill.base.errors import UserError
from dglke_distill.config import plugins
from dglke_distill.data import catalog
from dglke_distill.zoo import index

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Environment.model_fields:
        monkeypatch.delenv(f"DGLKE_DISTILL_{name.upper()}", raising=False)


def test_variables_are_read_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Environment().model_dump() == {"data": None, "cache": None, "stores": (), "plugins": ()}
    monkeypatch.setenv("DGLKE_DISTILL_DATA", str(tmp_path))
    monkeypatch.setenv("DGLKE_DISTILL_STORES", " one, ,hf://two/three ,")
    assert Environment().data == tmp_path
    assert Environment().stores == ("one", "hf://two/three")


def test_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGLKE_DISTILL_DATA", "")
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", "")
    assert Environment().data is None
    assert catalog.resolve_data_root() is None
    assert index.default_cache() == catalog.default_cache_dir().parent / "zoo"


def test_folders_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", "~/downloads")
    assert catalog.default_cache_dir() == tmp_path / "downloads"
    assert index.default_cache() == tmp_path / "downloads" / "zoo"
    monkeypatch.setenv("DGLKE_DISTILL_DATA", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="DGLKE_DISTILL_DATA: there is no folder"):
        catalog.resolve_data_root()
    assert catalog.resolve_data_root(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CACHE", "~nobody-of-this-name/x", "~nobody-of-this-name/x: there is no such home"),
        ("CACHE", "{file}", "is no folder"),
        ("DATA", "~nobody-of-this-name/x", "there is no folder ~nobody-of-this-name/x"),
        ("DATA", "{file}", "there is no folder"),
        ("STORES", "ftp://x", "a store cannot be at ftp://"),
        ("PLUGINS", "there_is_no_such", "there_is_no_such: there is no module"),
        ("PLUGINS", "~nobody-of-this-name/x.py", "there is no such file"),
    ],
)
def test_a_bad_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, words: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(f"DGLKE_DISTILL_{name}", value.format(file=tmp_path / "file"))
    readers: dict[str, Callable[[], object]] = {
        "CACHE": catalog.default_cache_dir,
        "DATA": catalog.resolve_data_root,
        "STORES": index.stores,
        "PLUGINS": plugins.load_environment,
    }
    with pytest.raises(UserError, match=f"^DGLKE_DISTILL_{name}.*{re.escape(words)}"):
        readers[name]()


def test_the_home_of_nobody_is_no_place_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data-root: there is no folder ~nobody-of-this-name"):
        catalog.resolve_data_root(Path("~nobody-of-this-name/x"))
    with pytest.raises(UserError, match="~nobody-of-this-name/x"):
        catalog.load("~nobody-of-this-name/x")


def test_the_manual_names_every_variable() -> None:
    named = re.findall(
        r"^\| `DGLKE_DISTILL_(\w+)` ",
        (ROOT / "docs" / "how-to" / "install.md").read_text(),
        re.MULTILINE,
    )
    assert [name.lower() for name in named] == list(Environment.model_fields)
