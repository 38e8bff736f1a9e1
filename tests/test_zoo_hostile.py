"""Registries and checkpoints that mean ill, or were damaged: each refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo_fixtures import NAME, change_file, change_registry, home, store, trained

from dglke_distill import zoo
from dglke_distill.base.errors import UserError

__all__ = ["home", "store", "trained"]


def refused(store: Path, message: str) -> str:
    """Check that the model is not loaded, and why; return the message."""
    with pytest.raises(UserError, match=message) as caught:
        zoo.load(NAME, store=store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "models/../../secret",
        "/etc/passwd",
        "C:/secret",
        "models\\..\\secret",
        "models//x",
        "models/./x",
        ".hidden/x",
        "",
        "models/x\n",
        "file:///etc/passwd",
    ],
)
def test_paths_out_of_the_store(store: Path, path: str) -> None:
    change_registry(store, lambda tree: tree["model"][0]["files"][0].update(path=path))
    assert "files.0.path" in refused(store, "relative path")


@pytest.mark.parametrize("name", ["../model.safetensors", "/x", "model.pkl", "config.json"])
def test_names_of_other_files(store: Path, name: str) -> None:
    change_registry(store, lambda tree: tree["model"][0]["files"][0].update(name=name))
    refused(store, "files")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "javascript:alert(1)", "http://", "http://a b"]
)
def test_addresses_of_other_kinds(store: Path, url: str) -> None:
    change_registry(store, lambda tree: tree["model"][0]["files"][0].update(url=url))
    refused(store, "http or https address")


@pytest.mark.parametrize("part", ["file", "folder"])
def test_symbolic_links(store: Path, part: str) -> None:
    """Even to the very bytes that were published: a link can be turned elsewhere later."""
    (place,) = store.rglob("model.safetensors")
    moved = place if part == "file" else place.parent
    target = store.parent / "elsewhere"
    moved.rename(target)
    os.symlink(target, moved)
    refused(store, "a symbolic link leads elsewhere")


def test_symbolic_links_in_the_cache(store: Path, home: Path, trained: Path) -> None:
    change_registry(
        store, lambda tree: tree["model"][0]["files"][0].update(url="http://127.0.0.1:9/x")
    )
    file = zoo.info(NAME, store=store).files[0]
    place = home / "cache" / "zoo" / "files" / file.sha256 / file.name
    place.parent.mkdir(parents=True)
    os.symlink(trained / file.name, place)
    refused(store, "is a symbolic link")


def test_other_bytes(store: Path) -> None:
    (place,) = store.rglob("model.safetensors")
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    published = zoo.info(NAME, store=store).file("model.safetensors").sha256
    zoo.load(NAME, store=store)  # whose digest is known by now
    change_file(store, "model.safetensors", bytes(content), registered=False)
    message = refused(store, "broken or tampered with, and not loaded")
    assert published in message
    assert hashlib.sha256(content).hexdigest() in message
    assert str(place) in message


def test_another_size(store: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["model"][0]["files"][0]["bytes"] += 1

    change_registry(store, change)
    refused(store, "are not the .* that were published")


def test_a_missing_file(store: Path) -> None:
    (place,) = store.rglob("config.json")
    place.unlink()
    refused(store, r"config\.json: no such file; the store .* is incomplete")


@pytest.mark.parametrize("size", [2**63, 1 << 40, (1 << 20) + 1])
def test_an_oversized_header(store: Path, size: int) -> None:
    change_file(store, "model.safetensors", struct.pack("<Q", size) + b" " * 200_000)
    refused(store, f"its header claims {size} bytes")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle(store: Path, protocol: int, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    change_file(store, "model.safetensors", pickle.dumps([Trap()] * 300, protocol))
    refused(store, r"model\.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_torch_archive(store: Path, tmp_path: Path) -> None:
    torch.save({"x": torch.ones(500)}, tmp_path / "x")
    change_file(store, "model.safetensors", (tmp_path / "x").read_bytes())
    refused(store, r"model\.safetensors")


def rewrite(store: Path, change: Any) -> None:
    """Change the weights, and register the changed file."""
    (place,) = store.rglob("model.safetensors")
    tensors = load_file(place)
    change(tensors)
    save_file(tensors, place.with_name("changed"))
    change_file(store, "model.safetensors", place.with_name("changed").read_bytes())


def test_weights_that_are_no_numbers(store: Path) -> None:
    for value in (float("nan"), float("inf")):
        rewrite(store, lambda tensors, v=value: tensors["relation_weight"][0, 0].fill_(v))
        refused(store, "'relation_weight' has values that are not finite")


def test_weights_of_other_shapes(store: Path) -> None:
    rewrite(store, lambda tensors: tensors.update(relation_weight=torch.ones(3, 9)))
    refused(store, r"'relation_weight' is float32 of shape \(3, 9\)")


def test_weights_that_are_missing_or_unknown(store: Path) -> None:
    rewrite(store, lambda tensors: tensors.update(more=torch.ones(3)))
    refused(store, "'more' is unknown")
    rewrite(store, lambda tensors: (tensors.pop("more"), tensors.pop("relation_weight")))
    refused(store, "'relation_weight' is missing")


def test_settings_that_ask_for_all_memory(store: Path) -> None:
    (place,) = store.rglob("config.json")
    about = json.loads(place.read_text())
    about["config"]["model"]["dim"] = 2**20
    change_file(store, "config.json", json.dumps(about).encode())
    refused(store, r"of shape \(\d+, 8\), but the settings ask for .* 1048576\)")


def test_a_registry_that_promises_what_the_weights_cannot_hold(store: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["model"][0]["vocab"]["entities"]["count"] = 10**12

    change_registry(store, change)
    refused(store, "too small for 1000000000000 entities of 8 floats")


@pytest.mark.parametrize("kind", ["entities", "relations"])
def test_names_of_another_model(store: Path, kind: str) -> None:
    """Refused whether only the registry lies, or the checkpoint's settings too."""

    def change(tree: dict[str, Any]) -> None:
        tree["model"][0]["vocab"][kind]["sha256"] = "0" * 64

    change_registry(store, change)
    refused(store, rf"{kind}\.tsv: .* names with sha256 .* are not the .* with 0000")


def test_names_changed_with_their_digest(store: Path) -> None:
    (place,) = store.rglob("entities.tsv")
    change_file(store, "entities.tsv", place.read_bytes().replace(b"hour3\n", b"hourX\n"))
    refused(store, "names that are not the 24 the model was trained with")


def test_a_size_that_is_not_the_models(store: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["model"][0].update(dim=4, name="complex-clock-dim4")

    change_registry(store, change)
    with pytest.raises(UserError, match="8 floats per entity, but the registry says"):
        zoo.load("complex-clock-dim4", store=store)


def test_an_endless_registry(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dglke_distill.zoo import store as module

    monkeypatch.setattr(module, "MAX_INDEX_BYTES", 100)
    with pytest.raises(UserError, match="the registry is larger"):
        module.limited(b"x" * 101, "http://host/zoo.toml")


@pytest.mark.parametrize("name", ["model.safetensors", "entities.tsv", "relations.tsv"])
def test_a_file_of_holes_is_not_read_to_be_published(
    tmp_path: Path, trained: Path, home: Path, name: str
) -> None:
    """A digest of 64 GB takes minutes; what cannot be a model's file is refused before it."""
    directory = tmp_path / "model"
    shutil.copytree(trained, directory)
    with open(directory / name, "r+b") as stream:
        stream.truncate(0)
        stream.truncate(64 << 30)
    with pytest.raises(UserError, match=name):
        zoo.publish(directory, store=tmp_path / "store")
