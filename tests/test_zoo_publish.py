"""Publishing: what it leaves, twice, at once, and when it is killed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from cli_fixtures import called
from distill_fixtures import chain_tree, write_clock
from zoo_fixtures import NAME, change_file, home, store, trained, variant

import dglke_distill as kd
from dglke_distill import zoo
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.zoo.index import read_store
from dglke_distill.zoo.publish import check_single, rebuild_index
from dglke_distill.zoo.remote_stores import RemoteStore
from dglke_distill.zoo.store import LocalStore, Store

__all__ = ["home", "store", "trained"]


@pytest.fixture
def memory() -> Iterator[str]:
    """A bucket that lives in this process."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield "memory://bucket/zoo"
    files.store.clear()


@pytest.fixture
def others(trained: Path, tmp_path: Path) -> list[Path]:
    """Checkpoints that would go by the same name, each with weights of its own."""
    return [variant(trained, tmp_path / f"other{seed}", seed) for seed in range(1, 5)]


def content(folder: Path) -> dict[str, str]:
    """Digests of all files of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def test_a_published_version_never_changes(store: Path, trained: Path, others: list[Path]) -> None:
    before = content(store)
    (entry,) = zoo.publish(trained, store=store)
    assert entry.version == 1
    assert content(store) == before
    (entry,) = zoo.publish(others[0], store=store)
    assert entry.version == 2
    (entry,) = zoo.publish(trained, store=store)
    assert entry.version == 1
    after = content(store)
    assert {name: after[name] for name in before if name != "zoo.toml"} == {
        name: digest for name, digest in before.items() if name != "zoo.toml"
    }


def test_another_verdict_is_another_version(
    store: Path, trained: Path, others: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = kd.evaluate(trained).mrr
    theirs = kd.evaluate(others[0]).mrr
    command = ["zoo", "publish", str(trained), "--store", str(store), "--against", str(others[0])]
    weights = set(store.rglob("*.safetensors"))
    for _ in range(2):  # the second time changes nothing
        said = called(capsys, *command)
        assert (said.code, said.out.split(":")[0]) == (0, f"{NAME}@2"), said.err
    first, second = zoo.list(store=store, all_versions=True)
    assert first.verdict is None and second.verdict is not None
    assert second.verdict.startswith(
        f"against ComplEx of 8 floats, trained directly, test MRR {theirs:.4f}: "
    )
    share = 100 * (ours / theirs - 1)
    alike = "not distinguishable" in second.verdict
    assert f" {share if alike else abs(share):.1f} % [" in second.verdict
    assert set(store.rglob("*.safetensors")) == weights
    folder = (store / first.files[0].path).parent
    assert "Verdict" not in (folder / "README.md").read_text()
    assert f"test MRR {theirs:.4f}" in (folder / "README-2.md").read_text()


@pytest.mark.parametrize("verdict", ["", " ", "a\nb", "\x00", "\ud800", "x" * 1001])
def test_a_verdict_that_no_registry_can_hold_is_refused_before_anything_is_written(
    store: Path, trained: Path, verdict: str
) -> None:
    before = content(store)
    with pytest.raises(UserError, match="verdict: give one line of printable text"):
        zoo.publish(trained, store=store, verdict=verdict)
    assert content(store) == before


def test_a_former_verdict_is_a_new_version_again(
    store: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, verdict in ((2, "one"), (3, "two"), (4, "one")):
        (entry,) = zoo.publish(trained, store=store, verdict=verdict)
        assert (entry.version, entry.verdict) == (number, verdict)
    (entry,) = zoo.publish(trained, store=store)  # none is given: the newest stays
    assert (entry.version, entry.verdict) == (4, "one")
    said = called(capsys, "zoo", "publish", str(trained), "--against", str(trained))
    assert said.code == 2
    assert said.err == f"error: --against {trained}: is the model itself; name another one\n"


def test_the_students_of_a_chain_have_its_verdict(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained, tmp_path / "chain" / "stages" / "a")
    (tmp_path / "chain" / "zoo.toml").write_text("")
    with pytest.raises(UserError, match="the students of a chain have its verdict"):
        check_single(tmp_path / "chain")
    check_single(trained)


def test_models_of_a_dataset_share_its_names(store: Path, others: list[Path]) -> None:
    zoo.publish(others[0], store=store)
    first, second = zoo.list(store=store, all_versions=True)
    for name in ("entities.tsv", "relations.tsv"):
        assert first.file(name).path == second.file(name).path
        assert first.file(name).path.startswith("vocabularies/")
    assert first.file("model.safetensors").path != second.file("model.safetensors").path
    assert len(list(store.rglob("entities.tsv"))) == 1


def test_a_card_lies_beside_the_model(store: Path) -> None:
    (card,) = store.rglob("README.md")
    text = card.read_text(encoding="utf-8")
    entry = zoo.info(NAME, store=store)
    assert entry.metrics is not None
    for part in (NAME, f"{entry.metrics.mrr:.4f}", entry.metrics.protocol, "zoo.load("):
        assert part in text
    size = (store / entry.file("model.safetensors").path).stat().st_size
    assert f"In all {entry.params:,} parameters" in text
    assert f"in {size:,} bytes of weights" in text
    assert all(file.sha256 in text for file in entry.files)


def test_the_students_of_a_chain(tmp_path: Path, home: Path) -> None:
    tree = chain_tree(write_clock(tmp_path / "clock"))
    run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run")
    (one,) = zoo.publish(tmp_path / "run", "complex-clock-dim4", store=tmp_path / "one")
    assert one.name == "complex-clock-dim4"
    published = zoo.publish(tmp_path / "run")
    assert [entry.name for entry in published] == [NAME, "complex-clock-dim4"]
    assert published[1].teacher == [NAME, "complex-clock-dim16"]
    for entry in published:
        assert entry.method == "iterde"
        assert zoo.load(entry.name).model.floats_per_entity == entry.dim
    with pytest.raises(UserError, match=f"no student is called 'x'; there is {NAME}, complex"):
        zoo.publish(tmp_path / "run", "x")
    weights = tmp_path / "run" / "stages" / "1-complex-dim8" / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="broken or tampered with"):
        zoo.publish(tmp_path / "run", store=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_compressed_models_have_names_of_their_own(
    trained: Path, home: Path, tmp_path: Path
) -> None:
    from dglke_distill import cli

    for kind, options, end, size in (
        ("int8", [], "int8", 10),
        ("pq", ["--set", "pieces=4"], "pq4", 4),
        ("pq", ["--set", "pieces=2"], "pq2", 2),
    ):
        out = tmp_path / end
        cli.app(
            ["compress", str(trained), "--to", kind, *options, "--out", str(out)],
            standalone_mode=False,
        )
        (entry,) = zoo.publish(out, store=home / "s")
        assert (entry.name, entry.bytes_per_entity) == (f"{NAME}-{end}", size)
        model = zoo.load(entry.name, store=home / "s").model
        assert (model.bytes_per_entity, getattr(model, "shared_bytes", 0)) == (
            size,
            entry.shared_bytes,
        )
    assert len(zoo.list(store=home / "s")) == 3


def test_names_are_chosen_within_the_rules(trained: Path, home: Path) -> None:
    (entry,) = zoo.publish(trained, "complex-acme-dim8", store=home / "s")
    assert zoo.info("complex-acme-dim8", store=home / "s") == entry
    for name in ("acme", "transe-acme-dim8", "complex-acme-dim9", "complex-../x-dim8"):
        with pytest.raises(UserError, match="name"):
            zoo.publish(trained, name, store=home / "s")
    (again,) = zoo.publish(trained.parent, store=home / "t")  # the run that holds the checkpoint
    assert again.name == NAME


def test_what_cannot_be_published(trained: Path, home: Path) -> None:
    with pytest.raises(UserError, match="neither a checkpoint"):
        zoo.publish(home, store=home / "s")
    copy = shutil.copytree(trained, home / "copy")
    (copy / "results.json").write_text("{}")
    with pytest.raises(UserError, match="does not tell what a zoo must know"):
        zoo.publish(copy, store=home / "s")
    (copy / "results.json").unlink()
    with pytest.raises(UserError, match=r"results\.json: no such file"):
        zoo.publish(copy, store=home / "s")
    with pytest.raises(UserError, match="can only be read"):
        zoo.publish(trained, store="http://127.0.0.1:9/zoo")
    assert not (home / "s").exists()


def test_a_bucket(trained: Path, others: list[Path], memory: str, home: Path) -> None:
    (entry,) = zoo.publish(trained, store=memory)
    (second,) = zoo.publish(others[0], store=memory)
    (again,) = zoo.publish(trained, store=memory)
    assert (entry.version, second.version, again) == (1, 2, entry)
    assert [e.version for e in zoo.list(store=memory, all_versions=True)] == [1, 2]
    model = zoo.load(f"{NAME}@1", store=memory)
    ours = zoo.load_checkpoint(trained).results
    assert model.results["metrics"] == ours["metrics"]
    assert {**model.results["dataset"], "path": ours["dataset"]["path"]} == ours["dataset"]
    fsspec.filesystem("memory").store.clear()
    assert zoo.load(NAME + "@1", store=memory, offline=True).results == model.results
    with pytest.raises(UserError, match=r"model\.safetensors has not been downloaded"):
        zoo.load(NAME, store=memory, offline=True)


def test_a_bucket_that_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str) -> None:
        raise ImportError("install huggingface_hub")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(
        UserError, match=r"hf://x/y: cannot reach zoo\.toml: install huggingface_hub"
    ):
        zoo.list(store="hf://x/y")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_publishers_at_once_lose_nothing(
    others: list[Path], home: Path, memory: str, kind: str
) -> None:
    place = home / "store" if kind == "folder" else memory
    failures: list[BaseException] = []

    def work(checkpoint: Path, name: str) -> None:
        try:
            zoo.publish(checkpoint, name, store=place)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(checkpoint, name))
        for checkpoint in others
        for name in (NAME, f"complex-{checkpoint.name}-dim8")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = zoo.list(store=place, all_versions=True)
    assert [e.version for e in found if e.name == NAME] == [1, 2, 3, 4]
    assert len({e.file("model.safetensors").sha256 for e in found if e.name == NAME}) == 4
    assert {e.name for e in found} == {NAME, *(f"complex-{c.name}-dim8" for c in others)}


class Interrupting(LocalStore):
    """A folder in which something happens before the given write."""

    def __init__(self, root: Path, when: int, what: Any) -> None:
        super().__init__(root)
        self.left, self.what = when, what

    def _count(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.what()

    def put(self, path: str, source: Path) -> None:
        self._count()
        super().put(path, source)

    def create(self, path: str, data: bytes) -> bool:
        self._count()
        return super().create(path, data)

    def replace_index(self, data: bytes) -> None:
        self._count()
        super().replace_index(data)


class Killed(BaseException):
    """Nobody catches it."""


def kill() -> None:
    raise Killed


def test_a_publisher_killed_at_any_moment(store: Path, others: list[Path], tmp_path: Path) -> None:
    before = read_store(LocalStore(store))
    moments = 0
    while True:
        place = shutil.copytree(store, tmp_path / f"store{moments}")
        try:
            zoo.publish(others[0], store=Interrupting(place, moments, kill))
        except Killed:
            moments += 1
        else:
            break
        now = read_store(LocalStore(place))
        assert now[:1] == before
        for entry in now:
            zoo.verify(entry.pinned, store=place)
        (entry,) = zoo.publish(others[0], store=place)
        assert entry.version == 2
        assert len(zoo.list(store=place, all_versions=True)) == 2
    assert moments >= 7  # five files, the entry, the registry


@pytest.mark.parametrize("moment", range(9))
def test_another_publishes_in_between(
    store: Path, others: list[Path], tmp_path: Path, moment: int
) -> None:
    """Whatever the first had seen by then, both are in the registry afterwards."""
    where = Interrupting(store, moment, lambda: zoo.publish(others[1], store=store))
    (mine,) = zoo.publish(others[0], store=where)
    found = zoo.list(store=store, all_versions=True)
    assert [entry.version for entry in found] == ([1, 2, 3] if where.left < 0 else [1, 2])
    assert mine in found
    assert len({str(entry.content) for entry in found}) == len(found)


def test_a_forgetful_store_is_given_up(trained: Path, tmp_path: Path) -> None:
    class Forgetful(LocalStore):
        def read_entries(self) -> dict[str, bytes]:
            return {}

    with pytest.raises(UserError, match="could not be registered"):
        zoo.publish(trained, store=Forgetful(tmp_path))


def test_a_registry_made_by_other_means_is_kept(store: Path, others: list[Path]) -> None:
    shutil.rmtree(store / "entries")
    zoo.publish(others[0], store=store)
    assert [e.version for e in zoo.list(store=store, all_versions=True)] == [1, 2]
    assert len(rebuild_index(LocalStore(store))) == 2


def test_an_entry_in_a_place_of_another_is_refused(store: Path, others: list[Path]) -> None:
    entries = store / "entries" / NAME
    shutil.copy(entries / "1.toml", entries / "2.toml")
    with pytest.raises(UserError, match=rf"2\.toml: holds {NAME}@1, which belongs elsewhere"):
        zoo.publish(others[0], store=store)


def test_a_spoiled_file_is_mended_by_publishing_again(store: Path, trained: Path) -> None:
    change_file(store, "model.safetensors", b"spoiled", registered=False)
    with pytest.raises(UserError, match="broken or tampered"):
        zoo.load(NAME, store=store)
    zoo.publish(trained, store=store)
    zoo.load(NAME, store=store)


def test_every_kind_of_store_can_be_published_to() -> None:
    for kind in (LocalStore, RemoteStore):
        for method in ("put", "create", "read_entries", "replace_index"):
            assert getattr(kind, method) is not getattr(Store, method)
