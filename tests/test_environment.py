from __future__ import annotations

import re
from pathlib import Path

import pytest

from dglke_distill.base.environment import Environment
from dglke_distill.base.errors import UserError
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


def test_the_manual_names_every_variable() -> None:
    named = re.findall(
        r"^\| `DGLKE_DISTILL_(\w+)` ",
        (ROOT / "docs" / "how-to" / "install.md").read_text(),
        re.MULTILINE,
    )
    assert [name.lower() for name in named] == list(Environment.model_fields)
