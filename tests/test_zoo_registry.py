"""Names, versions, stores and their order, listings; what a registry may not say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_fixtures import NAME, as_published, change_registry, home, store, trained, variant

from dglke_distill import zoo
from dglke_distill.artifacts import checkpoint, known_facts_file
from dglke_distill.base.errors import UserError
from dglke_distill.calibration.file import CALIBRATION_FILE
from dglke_distill.config import compose, recipe_names
from dglke_distill.data import labels
from dglke_distill.distill.chain_recipes import chain_recipe_names
from dglke_distill.distill.entries import _recipe as recipe_of_chain
from dglke_distill.distill.plan import compose_chain
from dglke_distill.zoo import index, registry_file, schema
from dglke_distill.zoo.entries import _recipe as recipe_of_model
from dglke_distill.zoo.index import find, list_models, read_store, shipped_store, stores
from dglke_distill.zoo.remote_stores import open_store
from dglke_distill.zoo.store import LocalStore

__all__ = ["home", "store", "trained"]


def test_a_model_loads_by_its_name(store: Path, trained: Path) -> None:
    model = zoo.load(NAME, store=store)
    plain = checkpoint.load_model(trained)
    for name, want in plain.model.state_dict().items():
        assert model.model.state_dict()[name].equal(want)
    assert list(model.entities) == list(plain.entities)
    assert model.results == as_published(plain.results)
    assert model.card.startswith(f"# {NAME}\n")
    assert not model.training
    assert len(model.predict_tails("hour3", "plus2", 4)) == 4


def test_an_entry_says_what_the_checkpoint_holds(store: Path, trained: Path) -> None:
    entry = zoo.info(NAME, store=store)
    loaded = checkpoint.load_model(trained)
    assert (entry.name, entry.version, entry.model, entry.dataset) == (NAME, 1, "ComplEx", "clock")
    assert (entry.dim, entry.dtype, entry.bytes_per_entity) == (8, "float32", 32)
    assert entry.params == sum(p.numel() for p in loaded.model.parameters())
    assert entry.vocab.entities.sha256 == loaded.entities.fingerprint
    assert entry.metrics is not None
    test = loaded.results["metrics"]["test"]
    assert (entry.metrics.split, entry.metrics.mrr) == ("test", test["mrr"])
    assert entry.metrics.hits_at_10 == test["hits@10"]
    assert (entry.method, entry.teacher) == ("direct", [])
    files = [store / file.path for file in entry.files]
    assert entry.total_bytes == sum(path.stat().st_size for path in files)
    assert len(files) == len(list(trained.iterdir()))


@pytest.mark.parametrize(
    ("time", "said"),
    [
        (
            {"student_seconds": 1204.55, "direct_seconds": 20.0},
            "0.3178, was reached after 1,204.5 s by this model (its teachers are counted), and "
            "reached after 20.0 s directly;",
        ),
        (
            {"direct_seconds": 20.0, "teachers_loaded": True},
            "was not reached by this model (teachers that were loaded are not counted), and",
        ),
    ],
)
def test_a_card_tells_the_seconds_to_the_quality_of_direct_training(
    store: Path, time: dict[str, Any], said: str
) -> None:
    def tell(tree: Any) -> None:
        tree["model"][0]["time"] = {"goal_valid_mrr": 0.31784, **time}

    change_registry(store, tell)
    entry = zoo.info(NAME, store=store)
    assert entry.to_tree()["time"] == {
        "goal_valid_mrr": 0.31784, "teachers_loaded": False, **time,
    }  # fmt: skip
    assert said in zoo.load(NAME, store=store).card
    assert registry_file.parse_entry(registry_file.dump_entry(entry), "x") == entry


def test_a_bare_name_is_the_newest_version(
    store: Path,
    trained: Path,
    tmp_path: Path,
) -> None:
    zoo.publish(variant(trained, tmp_path / "other", 7), store=store)
    assert zoo.info(NAME, store=store).version == 2
    assert zoo.info(f"{NAME}@1", store=store).version == 1
    first, second = (zoo.load(f"{NAME}@{n}", store=store) for n in (1, 2))
    assert not first.entity_embeddings.equal(second.entity_embeddings)
    assert [e.version for e in zoo.list(store=store)] == [2]
    assert [e.version for e in zoo.list(store=store, all_versions=True)] == [1, 2]
    with pytest.raises(UserError, match=rf"no '{NAME}@3'; it has {NAME}@1, {NAME}@2"):
        zoo.info(f"{NAME}@3", store=store)


def test_unknown_names_suggest_near_ones(store: Path) -> None:
    with pytest.raises(UserError, match=rf"'complex-clock-dim9'; did you mean {NAME}\?"):
        zoo.load("complex-clock-dim9", store=store)
    for text in (f"{NAME}@", f"{NAME}@0", f"{NAME}@x", f"{NAME}@1@2"):
        with pytest.raises(UserError, match="name@version"):
            zoo.load(text, store=store)


def test_listings_are_filtered(store: Path, trained: Path, tmp_path: Path) -> None:
    entry = zoo.info(NAME, store=store)
    for wanted in (
        {"pattern": "complex-*"},
        {"pattern": "*DIM8"},
        {"model": "complex"},
        {"dataset": "CLOCK"},
        {"max_dim": 8},
        {"max_bytes": entry.total_bytes},
    ):
        assert zoo.list(store=store, **wanted) == [entry]
    for unwanted in (
        {"pattern": "transe-*"},
        {"model": "TransE"},
        {"dataset": "umls"},
        {"max_dim": 7},
        {"max_bytes": entry.total_bytes - 1},
    ):
        assert zoo.list(store=store, **unwanted) == []


def test_a_list_prints_as_a_table_of_figures(store: Path) -> None:
    """Neither digests nor citations; what they are is still in each entry."""
    found = zoo.list(store=store)
    heading, row = str(found).splitlines()
    figures = ["MRR", "Hits@1", "Hits@10", "split", "MB"]
    assert heading.split() == ["name", "version", "B/entity", "params", *figures]
    (entry,) = found
    assert row.split()[:5] == [NAME, "1", "32", str(entry.params), f"{entry.metrics.mrr:.4f}"]
    for shown in (repr(found), str(entry), repr(entry), found._repr_html_()):
        assert NAME in shown and len(shown) < 500
        assert entry.file("config.json").sha256 not in shown
    assert "<td>32</td>" in found._repr_html_()
    assert str(zoo.list("nothing", store=store)) == "no models"


def test_the_first_store_that_has_a_name_answers(
    store: Path,
    trained: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoo.publish(variant(trained, home / "b", 1), store=home / "second")
    zoo.publish(variant(trained, home / "c", 2), store=home / "second")
    zoo.publish(variant(trained, home / "d", 3))  # into the user's own
    monkeypatch.setenv("DGLKE_DISTILL_STORES", f"{store}, {home / 'second'},")
    assert [place.place for place in stores()][:2] == [str(store), str(home / "second")]
    assert stores()[-1].place == "shipped"
    assert find(NAME).store.place == str(store)
    assert find(f"{NAME}@2").store.place == str(home / "second")
    assert list_models("complex-clock*").places == (str(store),)
    monkeypatch.delenv("DGLKE_DISTILL_STORES")
    assert str(home) in find(NAME).store.place


def test_a_store_of_the_environment_that_is_not_there_is_named(
    store: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("DGLKE_DISTILL_STORES", f"{home / 'no'},{store},{home / 'file'}")
    assert find(NAME).store.place == str(store)
    said = capsys.readouterr().err.splitlines()
    left = "warning: a store is left out: DGLKE_DISTILL_STORES: "
    assert said == [
        f"{left}{home / 'no'}: there is no such folder", f"{left}{home / 'file'}: is no folder"
    ]  # fmt: skip
    monkeypatch.setenv("DGLKE_DISTILL_STORES", str(store))
    assert find(NAME).store.place == str(store)
    assert capsys.readouterr().err == ""  # the user's own may be missing


def test_a_checkpoint_or_a_name(store: Path, trained: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(trained.parent)
    for place in (trained, str(trained), "checkpoint", "./checkpoint"):
        assert zoo.load_checkpoint(place).config.model.name == "ComplEx"
    assert zoo.load_checkpoint(NAME, store=store).config.model.name == "ComplEx"
    with pytest.raises(UserError, match="runs/nothing: no such checkpoint directory"):
        zoo.load_checkpoint("runs/nothing")
    with pytest.raises(UserError, match="the zoo has no model 'nothing'"):
        zoo.load_checkpoint("nothing", store=store)


def test_stores_by_address() -> None:
    assert isinstance(open_store("file:///a/b"), LocalStore)
    assert open_store("s3://bucket/zoo/").place == "s3://bucket/zoo"
    for place in ("ftp://host/zoo", "git+ssh://host", "simplecache::s3://bucket"):
        with pytest.raises(UserError, match="a store cannot be at"):
            open_store(place)


def test_what_ships_is_sound() -> None:
    """Every shipped model lies in the repository, whole, and every file there belongs to one."""
    shipped = shipped_store()
    entries = read_store(shipped)
    named = {file.path for entry in entries for file in entry.files if file.url is None}
    for entry in entries:
        zoo.verify(entry.pinned, store=shipped)
    there = {p.relative_to(shipped.root).as_posix() for p in shipped.root.rglob("*") if p.is_file()}
    known = {f"entries/{entry.name}/{entry.version}.toml" for entry in entries}
    cards = {path for path in there if re.search(r"/README(-[2-9]\d*)?\.md$", path)}
    assert there - known - named <= cards
    assert sum((shipped.root / path).stat().st_size for path in there) <= 30_000_000
    float_names = {"transe-fb15k237-dim32", "complex-fb15k237-dim32"}
    paper = {
        f"{model}-{dataset}-dim32-int8"
        for model in ("transe", "complex", "simple", "rotate")
        for dataset in ("fb15k237", "wn18rr")
    }
    # RotatE of 31 floats and a bias is better than the student of 32, and takes as many bytes.
    paper = paper - {"rotate-wn18rr-dim32-int8"} | {"rotate-wn18rr-dim31-int8"}
    assert float_names | paper <= {entry.name for entry in entries}


@pytest.mark.parametrize(
    ("dropped", "near"),
    [
        ("rote-wn18rr-dim63-int8", "rote-wn18rr-dim31-int8"),
        ("transe-fb15k237-dim64-int8", "transe-fb15k237-dim32-int8"),
        ("rotate-wn18rr-dim32-int8", "rotate-wn18rr-dim31-int8"),
    ],
)
def test_a_name_that_no_longer_ships_suggests_those_near(dropped: str, near: str) -> None:
    with pytest.raises(UserError, match=f"no model '{dropped}'; did you mean .*{near}"):
        find(dropped, store="shipped")


def test_the_registry_may_lie_beside_the_store(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of what ships does: at the top of the repository, the files in the package."""
    beside = LocalStore(tmp_path / "models", place="shipped", index=tmp_path / "zoo.toml")
    monkeypatch.setattr(index, "shipped_store", lambda: beside)
    (entry,) = zoo.publish(trained, store="shipped")
    assert registry_file.parse_registry((tmp_path / "zoo.toml").read_text(), "x") == [entry]
    assert not (tmp_path / "models" / "zoo.toml").exists()
    assert zoo.load(NAME, store="shipped").card.count('zoo.load("complex-clock-dim8@1")') == 1


def test_the_shipped_registry_describes_itself() -> None:
    text = shipped_store().index.read_text(encoding="utf-8")
    assert text == registry_file.dump_entries(registry_file.parse_registry(text, "zoo.toml"))


def test_names_of_files_agree() -> None:
    assert schema.CHECKPOINT_FILES == checkpoint.CHECKPOINT_FILES
    named = get_args(schema.FileEntry.model_fields["name"].annotation)
    beside = schema.KNOWN_FILE, schema.CALIBRATION_FILE, schema.LABELS_FILE
    assert named == (*schema.CHECKPOINT_FILES, *beside)
    assert schema.LABELS_FILE == labels.LABELS_FILE
    assert schema.CALIBRATION_FILE == CALIBRATION_FILE
    assert schema.KNOWN_FILE == known_facts_file.KNOWN_FILE


@given(st.text(max_size=30), st.integers(1, 9999), st.sampled_from(["float32", "int8"]))
def test_every_dataset_makes_a_name(dataset: str, dim: int, dtype: str) -> None:
    name = schema.compose_name("ComplEx", dataset, dim, dtype)
    assert schema.split_version(name) == (name, None)
    assert name.startswith("complex-")
    assert name.endswith(f"-dim{dim}" + ("-int8" if dtype == "int8" else ""))
    assert re.fullmatch("[a-z0-9][a-z0-9._-]*", name)


def test_an_encoder_without_a_table_is_named() -> None:
    name = schema.compose_name("ComplEx", "cldr", 64, "float32", "node_piece")
    assert name == "complex-node-piece-cldr-dim64"


def test_a_registry_comes_back(store: Path) -> None:
    entries = read_store(LocalStore(store))
    assert registry_file.parse_registry(registry_file.dump_entries(entries), "x") == entries
    assert registry_file.parse_entry(registry_file.dump_entry(entries[0]), "x") == entries[0]
    assert registry_file.parse_registry(registry_file.dump_entries([]), "x") == []


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_tables_of_other_models_are_skipped(store: Path, quotes: str) -> None:
    """Only where that cannot go wrong: not where a text may hold what looks like a table."""
    (entry,) = read_store(LocalStore(store))
    text = registry_file.dump_entries([entry])
    other = text.split("schema = 1\n")[1].replace(NAME, "complex-other-dim8")
    broken = text + other.replace("dim = 8", "dim = 'eight'")
    assert registry_file.parse_registry(broken, "x", NAME) == [entry]
    assert registry_file.parse_registry(text + other, "x", "no-such-name") == []
    with pytest.raises(UserError, match="dim"):
        registry_file.parse_registry(broken, "x")
    comment = f"\n[[model]]\nnote = {quotes}\n[[model]]\n{quotes}\n"
    with pytest.raises(UserError, match="model 2: setting 'name' is missing"):
        registry_file.parse_registry(text + comment, "x", NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(schema=2), r"schema 2 is not the one this version reads \(1\)"),
        (lambda t: t.pop("schema"), "is no registry of models, .*'schema' is missing"),
        (lambda t: t.update(modle=[]), "unknown setting 'modle'"),
        (lambda t: t.update(model="x"), r"under \[\[model\]\]"),
        (lambda t: t["model"].append(t["model"][0]), "stands there twice"),
        (lambda t: t["model"][0].update(nmae="x"), "unknown setting 'nmae'; did you mean 'name'"),
        (
            lambda t: t["model"][0]["files"][0].update(sha="x"),
            "unknown setting 'files.0.sha'; did you mean 'sha256'",
        ),
        (lambda t: t["model"][0].pop("dim"), "'dim'"),
        (lambda t: t["model"][0].update(version=0), "'version' is 0"),
        (lambda t: t["model"][0].update(dim=9), "end in '-dim9'"),
        (lambda t: t["model"][0].update(model="TransE"), "begin with 'transe-'"),
        (lambda t: t["model"][0].update(dtype="int8"), "end in '-dim8-int8'"),
        (lambda t: t["model"][0].update(name="../../x-dim8"), "'name'"),
        (lambda t: t["model"][0].update(licence="\x1b[2J"), "control characters"),
        (lambda t: t["model"][0]["files"].pop(), "files must be model.safetensors"),
        (lambda t: t["model"][0]["metrics"].update(mrr=1.5), "'metrics.mrr' is 1.5"),
        (lambda t: t["model"][0]["vocab"]["entities"].update(count=0), "count"),
        (lambda t: t["model"][0].update(time=3.0), "'time'"),
        (lambda t: t["model"][0].update(time={}), "'time.goal_valid_mrr'"),
        (
            lambda t: t["model"][0].update(time={"goal_valid_mrr": 0.3, "direct_seconds": -1.0}),
            "'time.direct_seconds' is -1",
        ),
        (
            lambda t: t["model"][0].update(
                time={"goal_valid_mrr": 0.3, "student_seconds": float("inf")}
            ),
            "inf is no finite number",
        ),
    ],
)
def test_a_bad_registry_is_one_sentence(
    store: Path,
    change: Any,
    message: str,
) -> None:
    change_registry(store, change)
    with pytest.raises(UserError, match=message) as caught:
        zoo.list(store=store)
    assert str(store / "zoo.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff", b"[[", b"schema = 1\nschema = 1\n"])
def test_what_is_no_registry_is_refused(store: Path, content: bytes) -> None:
    (store / "zoo.toml").write_bytes(content)
    with pytest.raises(UserError, match=r"zoo\.toml: not"):
        zoo.load(NAME, store=store)


def test_the_zoo_is_light() -> None:
    """What it imports decides how long a script waits before its first prediction."""
    code = (
        "import sys\nfrom dglke_distill import zoo\n"
        "assert 'torch' not in sys.modules\nzoo.list()\nassert 'torch' not in sys.modules\n"
        "import dglke_distill.predict, dglke_distill.artifacts.checkpoint\n"
        "heavy = {'dgl', 'ogb', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'numba', 'fsspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("option", ["--max-dim", "--max-bytes"])
def test_nothing_is_smaller_than_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    from dglke_distill import cli

    with pytest.raises(SystemExit) as end:
        cli.main(["zoo", "list", option, "-4"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {option} -4: give a whole number above 0\n"


@pytest.mark.parametrize(
    "words",
    [
        ["zoo", "list"],
        ["zoo", "info", "x"],
        ["zoo", "load", "x"],
        ["predict", "x", "--head", "a", "--relation", "b"],
        ["evaluate", "x"],
    ],
)
@pytest.mark.parametrize("kind", ["absent", "file"])
def test_a_store_that_is_not_there_is_named(
    words: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dglke_distill import cli

    place = tmp_path / kind
    if kind == "file":
        place.write_text("")
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--store", str(place)])
    fault = "is no folder" if kind == "file" else "there is no such folder"
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.startswith("error: ") and told.count("\n") == 1
    assert told.endswith(f" --store {place}: {fault}; name one that holds zoo.toml\n")


@pytest.mark.parametrize("name", recipe_names())
def test_an_entry_says_that_settings_differ_from_the_recipe(name: str) -> None:
    """Where a model was trained, and on what, is no change; a setting is one."""
    here = {"data": {"dataset": "toy"}, "training": {"seed": 3, "threads": 1, "device": "cpu"}}
    same = compose([here], recipe=name).model_dump(mode="json")
    assert recipe_of_model(same) == name
    other = compose([here, {"training": {"batch_size": 7}}], recipe=name)
    assert recipe_of_model(other.model_dump(mode="json")) == f"{name}, with changes"
    assert recipe_of_model({**same, "recipe": None}) == ""
    assert recipe_of_model({**same, "recipe": "of-another-version"}) == "of-another-version"


@pytest.mark.parametrize("name", chain_recipe_names())
def test_an_entry_says_that_a_chain_differs_from_its_recipe(name: str) -> None:
    here = {"data": {"dataset": "toy"}, "shared": {"training": {"seed": 3}}, "control": "both"}
    same = compose_chain(name, None, None, [here]).model_dump(mode="json")
    assert recipe_of_chain(same) == name
    other = compose_chain(name, None, None, [here, {"shared": {"training": {"epochs": 7}}}])
    assert recipe_of_chain(other.model_dump(mode="json")) == f"{name}, with changes"
