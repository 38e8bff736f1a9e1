"""Stores of many models: publishing looks at what is new, and misses nothing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from zoo_fixtures import NAME, change_registry, home, store, trained, variant

from dglke_distill import zoo
from dglke_distill.zoo import registry_file
from dglke_distill.zoo.entry_files import EntryFolder
from dglke_distill.zoo.index import shipped_store
from dglke_distill.zoo.publish import rebuild_index
from dglke_distill.zoo.schema import Entry
from dglke_distill.zoo.store import LocalStore

__all__ = ["home", "store", "trained"]


def fill(store: Path, count: int) -> list[Entry]:
    """Add entries of other names, without files, and rebuild the registry."""
    like = zoo.info(NAME, store=store)
    entries = [like.model_copy(update={"name": f"complex-x{i}-dim8"}) for i in range(count)]
    for entry in entries:
        path = store / "entries" / entry.name / "1.toml"
        path.parent.mkdir()
        path.write_text(registry_file.dump_entry(entry))
    rebuild_index(LocalStore(store))
    return entries


def test_only_new_entries_are_parsed(
    store: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 300)
    other = variant(trained, tmp_path / "other", 1)
    parsed: list[str] = []
    parse = registry_file.parse_entry

    def count(text: str, source: str) -> Entry:
        parsed.append(source)
        return parse(text, source)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the registry must not be parsed")

    publishing = importlib.import_module("dglke_distill.zoo.publish")
    monkeypatch.setattr(publishing, "parse_entry", count)
    monkeypatch.setattr(publishing, "read_store", refuse)
    (entry,) = zoo.publish(other, store=store)
    assert entry.version == 2
    assert parsed == [f"{store}/entries/{NAME}/2.toml"]
    monkeypatch.undo()
    text = (store / "zoo.toml").read_text(encoding="utf-8")
    entries = registry_file.parse_registry(text, "zoo.toml")
    assert len(entries) == 302
    assert text == registry_file.dump_entries(entries)
    assert entries == sorted(entries, key=lambda one: (one.name, one.version))


def test_blocks_are_what_a_writer_of_toml_makes() -> None:
    import tomli_w

    index = shipped_store().read_index()
    assert index is not None
    entries = registry_file.parse_registry(index.decode(), "zoo.toml")
    assert len(entries) > 10
    for entry in entries:
        whole = tomli_w.dumps({"model": [entry.to_tree()]})
        text = registry_file.dump_entry(entry)
        assert f"[[model]]\n{registry_file.block_of(text)}" == whole
    assert registry_file.split_blocks(index.decode()) == [
        registry_file.entry_block(entry) for entry in entries
    ]
    assert registry_file.block_of('name = """\n[x]"""') is None


def test_an_edited_registry_is_put_right(store: Path, trained: Path, tmp_path: Path) -> None:
    before = (store / "zoo.toml").read_bytes()
    change_registry(store, lambda tree: tree["model"][0].update(method="forged"))
    zoo.publish(trained, store=store)
    assert (store / "zoo.toml").read_bytes() == before


def test_new_files_are_seen_at_once_and_old_ones_kept(tmp_path: Path) -> None:
    place = tmp_path / "entries" / "a"
    place.mkdir(parents=True)
    folder = EntryFolder(tmp_path)
    for number in range(1, 30):  # faster than a file system's clock ticks
        (place / f"{number}.toml").write_text(f"{number}")
        assert folder.read()[f"entries/a/{number}.toml"] == str(number).encode()
    os.utime(place, ns=(1, 1))
    read = folder.read()
    (place / "1.toml").write_text("changed meanwhile")
    os.utime(place, ns=(1, 1))
    assert folder.read() == read  # a folder that has not changed for long is not looked into
    (place / "30.toml").write_text("30")
    assert folder.read()["entries/a/30.toml"] == b"30"
    (place / ".hidden.toml").write_text("x")
    assert len(folder.read()) == 30
    assert EntryFolder(tmp_path / "nowhere").read() == {}


def test_wrong_bytes_of_the_right_size_are_replaced_in_a_bucket(trained: Path, home: Path) -> None:
    files = fsspec.filesystem("memory")
    files.store.clear()
    try:
        (entry,) = zoo.publish(trained, store="memory://bucket/zoo")
        for file in entry.files:
            place = f"/bucket/zoo/{file.path}"
            files.pipe_file(place, b"x" * files.size(place))
        (again,) = zoo.publish(trained, store="memory://bucket/zoo")
        assert again == entry
        zoo.load(NAME, store="memory://bucket/zoo")
    finally:
        files.store.clear()
