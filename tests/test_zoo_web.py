"""A zoo on a web server, the commands, and verification."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cli_fixtures import Outcome, called
from http_fixtures import Server, server
from zoo_fixtures import NAME, as_published, change_registry, home, store, trained, variant

from dglke_distill import zoo
from dglke_distill.base.errors import UserError

__all__ = ["home", "server", "store", "trained"]


def serve(server: Server, store: Path) -> None:
    """Serve what lies in a folder; anything else is an answer that is no registry."""
    files = (path for path in store.rglob("*") if path.is_file())
    server.files = {f"/{p.relative_to(store).as_posix()}": p.read_bytes() for p in files}
    server.content = b"no such page"


def test_publish_serve_load_tamper(
    server: Server, store: Path, trained: Path, tmp_path: Path
) -> None:
    """The walk: publish, serve over HTTP, load on an empty cache, tamper, be refused."""
    serve(server, store)
    cache = tmp_path / "empty"
    model = zoo.load(NAME, store=server.url, cache_dir=cache)
    assert model.results == as_published(zoo.load_checkpoint(trained).results)
    assert len(server.asked) == 6  # the registry and five files

    again = zoo.load(NAME, store=server.url, cache_dir=cache)
    assert len(server.asked) == 7  # the registry alone
    assert again.entity_embeddings.equal(model.entity_embeddings)
    zoo.load(NAME, store=server.url, cache_dir=cache, offline=True)
    assert len(server.asked) == 7

    file = zoo.info(NAME, store=store).file("model.safetensors")
    good = server.files[f"/{file.path}"]
    bad = good[:-1] + bytes([good[-1] ^ 1])
    kept = cache / "files" / file.sha256 / file.name
    assert kept.read_bytes() == good

    kept.write_bytes(bad)
    digests = (file.sha256, hashlib.sha256(bad).hexdigest())
    for offline in (False, True):
        with pytest.raises(UserError, match="tampered with, and not loaded") as caught:
            zoo.load(NAME, store=server.url, cache_dir=cache, offline=offline)
        assert all(digest in str(caught.value) for digest in digests)
        assert str(kept) in str(caught.value)

    server.files[f"/{file.path}"] = bad
    with pytest.raises(UserError, match=r"not the published model\.safetensors") as caught:
        zoo.load(NAME, store=server.url, cache_dir=tmp_path / "fresh")
    assert all(digest in str(caught.value) for digest in digests)
    assert list((tmp_path / "fresh" / "files").rglob("model.safetensors*")) == []


def test_a_server_that_never_ends(server: Server, store: Path, tmp_path: Path) -> None:
    serve(server, store)
    file = zoo.info(NAME, store=store).file("model.safetensors")
    server.files[f"/{file.path}"] += b"x" * (4 << 20)
    with pytest.raises(UserError, match="not the published"):
        zoo.load(NAME, store=server.url, cache_dir=tmp_path)
    assert list((tmp_path / "files").rglob("model.safetensors*")) == []


def test_a_download_that_breaks_off_goes_on(server: Server, store: Path, tmp_path: Path) -> None:
    serve(server, store)
    size = zoo.info(NAME, store=store).file("model.safetensors").bytes
    server.break_after = size - 10
    with pytest.raises(UserError):  # the registry itself is cut short
        zoo.load(NAME, store=server.url, cache_dir=tmp_path)
    server.break_after = None
    zoo.load(NAME, store=server.url, cache_dir=tmp_path)


def test_servers_without_a_zoo(server: Server, home: Path) -> None:
    server.files = {}
    with pytest.raises(UserError, match=r"zoo\.toml: not valid TOML"):
        zoo.load(NAME, store=server.url)
    server.status = 404
    with pytest.raises(UserError, match=f"there are none in {server.url}; check the place"):
        zoo.load(NAME, store=server.url)
    server.status = 500
    with pytest.raises(UserError, match="cannot be read"):
        zoo.load(NAME, store=server.url)
    server.server_close()
    with pytest.raises(UserError, match=r"cannot be read .* or use offline=True"):
        zoo.list(store=server.url)


def test_files_that_lie_elsewhere(server: Server, store: Path, home: Path) -> None:
    """An entry may give an address for a file: then only the registry must be in the store."""
    (place,) = store.rglob("model.safetensors")
    server.files = {"/far/away": place.read_bytes()}
    place.unlink()
    change_registry(store, lambda t: t["model"][0]["files"][0].update(url=f"{server.url}/far/away"))
    with pytest.raises(UserError, match="has not been downloaded"):
        zoo.load(NAME, store=store, offline=True)
    zoo.load(NAME, store=store)
    zoo.load(NAME, store=store, offline=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """Call the command line; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: Any) -> Outcome:
        return called(capsys, *arguments)

    return call


def test_commands(
    run: Any, store: Path, trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("zoo", "list", "complex-clock-*") == (0, "no such model\n", "")
    code, out, _ = run("zoo", "publish", trained)
    assert (code, out.split(":")[0]) == (0, f"{NAME}@1")
    code, out, _ = run("zoo", "list", "complex-clock-*")
    assert code == 0
    assert NAME in out
    code, out, _ = run("zoo", "list", "--json", "--store", store)
    (entry,) = json.loads(out)
    assert (entry["name"], entry["store"]) == (NAME, str(store))
    code, out, _ = run("zoo", "info", NAME)
    assert out.startswith(f"# {NAME}\n")
    assert json.loads(run("zoo", "info", NAME, "--json")[1])["dim"] == 8
    code, out, _ = run("zoo", "load", NAME)
    assert "24 entities, 3 relations" in out
    code, _, err = run("zoo", "info", "complex-clock-dim9", "--store", store)
    assert (code, len(err.splitlines())) == (2, 1)
    assert f"did you mean {NAME}?" in err


def test_pull_and_rm(run: Any, server: Server, store: Path, trained: Path, home: Path) -> None:
    zoo.publish(variant(trained, home / "v", 5), store=store)
    serve(server, store)
    for version in (1, 2):
        code, out, _ = run("zoo", "pull", f"{NAME}@{version}", "--store", server.url)
        assert code == 0
        assert all(Path(line).is_file() for line in out.splitlines())
    cache = home / "cache" / "zoo" / "files"
    files = sorted(cache.rglob("*.*"))
    assert len([path for path in files if path.name == "model.safetensors"]) == 2
    assert len([path for path in files if path.name == "entities.tsv"]) == 1
    code, out, _ = run("zoo", "rm", f"{NAME}@1", "--store", server.url)
    assert code == 0
    assert "entities.tsv" not in out  # the other version needs it
    zoo.load(f"{NAME}@2", store=server.url, offline=True)
    assert run("zoo", "rm", f"{NAME}@2", "--store", server.url)[0] == 0
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    code, _, err = run("zoo", "rm", NAME, "--store", server.url)
    assert code == 2
    assert "nothing of it lies in the cache" in err


def test_verify(run: Any, store: Path, trained: Path) -> None:
    found = zoo.verify(NAME, store=store)
    assert found.measured == {}
    assert found.reproduced
    found = zoo.verify(NAME, metrics=True, store=store)
    test = zoo.load_checkpoint(trained).results["metrics"]["test"]
    assert found.reproduced
    assert found.measured["mrr"] == pytest.approx(test["mrr"], abs=1e-9)
    code, out, err = run("zoo", "verify", "--all", "--metrics", "--store", store)
    assert (code, err) == (0, "")
    assert out.startswith(f"ok {NAME}@1: test mrr")


def test_a_figure_that_is_not_reproduced(run: Any, store: Path) -> None:
    change_registry(
        store, lambda t: t["model"][0]["metrics"].update(mrr=t["model"][0]["metrics"]["mrr"] - 2e-4)
    )
    found = zoo.verify(NAME, metrics=True, store=store)
    assert not found.reproduced
    assert found.differences["mrr"] == pytest.approx(2e-4)
    code, out, err = run("zoo", "verify", NAME, "--metrics", "--store", store)
    assert code == 1
    assert out.startswith(f"FAILED {NAME}")
    assert "1 of 1" in err


def test_verification_of_what_cannot_be(run: Any, store: Path) -> None:
    change_registry(store, lambda t: t["model"][0].update(dataset_fingerprint="0" * 64))
    with pytest.raises(UserError, match="are not those it was trained"):
        zoo.verify(NAME, metrics=True, store=store)
    change_registry(store, lambda t: t["model"][0]["metrics"].update(ties="optimistic"))
    with pytest.raises(UserError, match="'optimistic' ties, which is not measured here"):
        zoo.verify(NAME, metrics=True, store=store)
    change_registry(store, lambda t: t["model"][0].pop("metrics"))
    with pytest.raises(UserError, match="no figures"):
        zoo.verify(NAME, metrics=True, store=store)
    assert run("zoo", "verify")[0] == 2
    assert run("zoo", "verify", NAME, "--all")[0] == 2


def test_a_name_is_evaluated_like_a_checkpoint(
    run: Any, store: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DGLKE_DISTILL_STORES", str(store))
    code, out, _ = run("evaluate", NAME, "--json")
    assert code == 0
    named, direct = json.loads(out), json.loads(run("evaluate", trained, "--json")[1])
    for figures in (named, direct):
        figures.pop("seconds")
    assert named == direct
