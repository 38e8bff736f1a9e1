"""Names that people know: read beside the triples, kept with a model, shown beside ids."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from distill_fixtures import write_clock
from typer.testing import CliRunner

from dglke_distill import cli, zoo
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.cli.app import app
from dglke_distill.config import Config
from dglke_distill.data import catalog, labels
from dglke_distill.data.labels import Labels, find_labels, read_labels
from dglke_distill.data.manifest import datasets_dir, load_manifest
from dglke_distill.runs.train_run import train_run

NOON = "hour12\tNoon\twhen the sun stands highest\nhour0\tMidnight\nhour1\tOne\nhour13\tone\n"


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_clock(tmp_path_factory.mktemp("labelled") / "clock")
    (folder / "labels.tsv").write_text("id\tlabel\n" + NOON + "elsewhere\tNot in the graph\n")
    return folder


@pytest.fixture(scope="module")
def model(clock: Path) -> Path:
    tree = {
        "data": {"dataset": str(clock)},
        "model": {"name": "ComplEx", "dim": 4},
        "loss": {"name": "softmax"},
        "training": {"mode": "k_vs_all", "epochs": 1, "threads": 1},
    }
    train_run(Config.from_mapping(tree, "test"), clock.parent / "run")
    return clock.parent / "run" / "checkpoint"


def test_they_are_kept_with_the_model_and_change_nothing_else(clock: Path, model: Path) -> None:
    assert (model / "labels.tsv").read_text() == NOON
    found = load_model(model).find_labels()
    assert found.of("hour12") == "Noon" and found.of("hour2") == ""
    assert found.shown("hour12") == "Noon (hour12)" and found.shown("hour2") == "hour2"
    with_labels = catalog.load(str(clock)).fingerprint
    (clock / "labels.tsv").rename(clock / "aside")
    try:
        assert catalog.load(str(clock)).fingerprint == with_labels
    finally:
        (clock / "aside").rename(clock / "labels.tsv")


def asked(model: Path, *more: str) -> Any:
    command = ["predict", str(model), "--relation", "plus2", "-k", "24", *more]
    return CliRunner().invoke(app, command)


def test_they_stand_beside_the_answers_and_name_the_question(model: Path) -> None:
    shown = asked(model, "--head", "noon")
    assert shown.exit_code == 0, shown.output
    assert "(Noon (hour12), plus2, ?)" in shown.output
    assert "Midnight" in shown.output
    told = json.loads(asked(model, "--head", "Noon", "--json").output)
    assert told["head"] == "hour12"
    by_name = {one["name"]: one for one in told["predictions"]}
    assert by_name["hour12"]["label"] == "Noon"
    assert by_name["hour12"]["description"] == "when the sun stands highest"
    assert by_name["hour2"]["label"] is None


def test_they_stand_in_the_tables_of_answers(model: Path, tmp_path: Path) -> None:
    import pickle

    from dglke_distill.predict import NamedModel

    named = NamedModel(load_model(model))
    answers = named.predict_tails("hour0", "plus2", 24)
    known = {"hour12": "Noon", "hour0": "Midnight", "hour1": "One", "hour13": "one"}
    for found in (answers, pickle.loads(pickle.dumps(answers))):
        frame = found.to_pandas()
        assert list(frame.columns) == ["rank", "name", "label", "id", "score"]
        assert frame["label"].tolist() == [known.get(answer.name, "") for answer in found]
        assert found.to_arrow()["label"].to_pylist() == frame["label"].tolist()
        assert [answer.label or "" for answer in found] == frame["label"].tolist()
    assert list(answers) == list(pickle.loads(pickle.dumps(answers)))
    noon = next(answer for answer in found if answer.name == "hour12")
    assert pickle.loads(pickle.dumps(noon)).label == "Noon" and len(noon) == 4
    assert repr(noon).endswith("probability=None, label='Noon')")
    for table in (named.predict_frame([("hour0", "plus2", None)]), named.discover(known=False)):
        for side in ("head", "tail"):
            assert list(table[f"{side}_label"]) == [known.get(name, "") for name in table[side]]
    assert "label" in named.predict_heads("plus2", "hour0").to_pandas()
    assert "label" in named.nearest_entities("hour0").to_pandas()
    assert "label" not in named.predict_relations("hour0", "hour2").to_pandas()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one", "'one': is the label of hour1, hour13; give the id"),
        ("Nono", r"unknown entity 'Nono'; did you mean .*Noon \(hour12\)"),
        ("xyzxyz", "unknown entity 'xyzxyz'; known: 'hour"),
        ("stands", "unknown entity 'stands'; known: 'hour"),  # of a description
        ("hour", "unknown entity 'hour'; did you mean 'hour"),  # an id
    ],
)
def test_what_a_label_does_not_say_is_asked_for(model: Path, text: str, message: str) -> None:
    import re

    error = asked(model, "--head", text).exception
    assert isinstance(error, UserError) and re.search(message, str(error))


def test_a_label_names_its_entity_in_every_question_of_python(model: Path) -> None:
    from dglke_distill.predict import NamedModel

    named = NamedModel(load_model(model))
    noon = named.entities.id("hour12")
    assert named.entity_ids(["noon", "hour12", noon]).tolist() == [noon] * 3
    for given in ("Noon", "nOOn", noon):
        assert named.predict_tails(given, "plus2") == named.predict_tails("hour12", "plus2")
        assert named.predict_heads("plus2", given) == named.predict_heads("plus2", "hour12")
        assert named.nearest_entities(given) == named.nearest_entities("hour12")
        asked = [(given, "plus2", None), (given, None, "Midnight"), (given, "plus2", "Midnight")]
        ids = [("hour12", "plus2", None), ("hour12", None, "hour0"), ("hour12", "plus2", "hour0")]
        assert named.predict_frame(asked, 3).equals(named.predict_frame(ids, 3))
    triples, by_id = [("Noon", "plus2", "Midnight")], [("hour12", "plus2", "hour0")]
    assert named.score(triples).equal(named.score(by_id))
    assert named.rank(triples, exclude_known=triples).equal(named.rank(by_id, exclude_known=by_id))
    with pytest.raises(UserError, match="'one': is the label of hour1, hour13; give the id"):
        named.predict_tails("one", "plus2")
    with pytest.raises(UserError, match=r"unknown entity 'Nono'; did you mean Noon \(hour12\)"):
        named.score([("hour0", "plus2", "Nono")])
    with pytest.raises(UserError, match="unknown relation 'Noon'"):
        named.predict_tails("Noon", "Noon")


@pytest.fixture(scope="module")
def animals(clock: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with longer labels."""
    import shutil

    made = tmp_path_factory.mktemp("animals") / "model"
    shutil.copytree(model, made)
    said = ["dog face", "hot dog", "Döner", "cat", "dig"]
    text = "".join(f"hour{i}\t{label}\n" for i, label in enumerate(said))
    (made / "labels.tsv").write_text(text, encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Dog", "hot dog (hour1), dog face (hour0), dig (hour4)"),
        ("faces", "dog face (hour0)"),
        ("doner", "Döner (hour2)"),
    ],
)
def test_a_word_of_a_label_is_understood(animals: Path, text: str, meant: str) -> None:
    for more in (["--head", text], ["--head", "cat", "--candidates", text]):
        error = asked(animals, *more).exception
        assert str(error) == f"unknown entity {text!r}; did you mean {meant}?"


def test_candidates_may_be_named_by_labels(animals: Path, tmp_path: Path) -> None:
    listed = tmp_path / "who.txt"
    listed.write_bytes(b"\xef\xbb\xbfDOG FACE\r\nhour7\r\n\r\n")
    for flags in (["--candidates", "dog face", "--candidates", "hour7"], ["--candidates", listed]):
        word = [f"@{one}" if one is listed else one for one in flags]
        told = json.loads(asked(animals, "--head", "cat", "--json", *word).output)
        assert {one["name"] for one in told["predictions"]} == {"hour0", "hour7"}
    listed.write_bytes("hour7\n".encode("utf-16"))
    wrong = asked(animals, "--head", "cat", "--candidates", f"@{listed}").exception
    assert "is text in UTF-16, which is not read; save it as UTF-8: iconv" in str(wrong)


def test_a_model_made_of_another_keeps_them(model: Path, tmp_path: Path) -> None:
    command = ["compress", str(model), "--to", "float16", "--out", str(tmp_path / "small")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "small" / "labels.tsv").read_text() == NOON
    assert load_model(tmp_path / "small").find_labels().of("hour0") == "Midnight"
    again = CliRunner().invoke(app, [*command, "--overwrite"])  # it is a checkpoint still
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hour0\n", "line 1: has 1 column; write id<TAB>label"),
        ("hour0\tMidnight\n\tOne\n", "line 2: has no id"),
        ("hour0\t \n", "line 1: has no label"),
        ("hour0\ta\tb\tc\n", "line 1: has 4 columns"),
        ("hour0\ta\nhour1\tb\nhour0\tc\n", "line 3: 'hour0' stands twice"),
        (f"hour0\t{'x' * 5000}\n", "line 1: has a label that is too long"),
        ("Midnight\thour0\n", "none of its 1 ids is an entity of the dataset, such as 'hour0'"),
    ],
)
def test_mistakes_end_a_run_before_it_begins(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_clock(tmp_path / "clock")
    (folder / "labels.tsv").write_text(text)
    flags = ["--recipe", "none", "--dim", "4", "--epochs", "1", "--threads", "1"]
    with pytest.raises(SystemExit) as end:
        cli.main(["train", str(folder), *flags, "--out", str(tmp_path / "run")])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder / 'labels.tsv'}" in line and message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("heading", ["", "id,label,description\n", "ID,Label\n"])
def test_a_table_with_commas_is_read_too(tmp_path: Path, heading: str) -> None:
    """Against what Python's own csv reads."""
    text = (
        heading + 'hour12,"Noon, or so",when the sun stands highest\nhour0, Midnight\nhour1,"1"\n'
    )
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    rows = list(csv.reader(text.splitlines(), skipinitialspace=True))[1 if heading else 0 :]
    found = labels.labels_in(tmp_path)
    assert found is not None
    assert found.labels == {row[0]: row[1] for row in rows}
    assert found.descriptions == {"hour12": "when the sun stands highest"}
    (tmp_path / "kept").mkdir()
    found.write(tmp_path / "kept", found.labels)
    assert labels.labels_in(tmp_path / "kept") == found
    (tmp_path / "labels.tsv").write_text("hour0\tTwelve\n", encoding="utf-8")
    assert labels.labels_in(tmp_path) == Labels({"hour0": "Twelve"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hour0\n", "line 1: has 1 column; write id,label,description"),
        ("hour0,a\nhour1,b,c,d\n", "line 2: has 4 columns; write id,label,description"),
        ("hour0,a\tb\n", "line 1: holds a tab"),
    ],
)
def test_mistakes_of_a_table_with_commas_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        labels.labels_in(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_bytes(b"a\t\xff\xfe\n")
    with pytest.raises(UserError, match=r"labels\.tsv.*line 1"):
        read_labels(tmp_path / "labels.tsv")


def test_the_synsets_of_wn18rr_have_names_wherever_the_data_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path))
    manifest = load_manifest("wn18rr")
    assert manifest is not None and manifest.labels is not None
    shipped = datasets_dir() / manifest.labels.path
    assert (sha256_file(shipped), shipped.stat().st_size) == (
        manifest.labels.sha256,
        manifest.labels.bytes,
    )
    assert shipped.stat().st_size < 1_500_000
    assert "WordNet 3.0 Copyright" in (shipped.parent / "LICENSE").read_text()
    model = zoo.load("complex-wn18rr-dim16-int8", store="shipped")
    assert all(name in model.labels.labels for name in model.entities)
    # Places of WordNet 3.0 that the literature names.
    known = {"02084071": "dog.n.01", "00001740": "breathe.v.01", "01835496": "travel.v.01"}
    for place, name in known.items():
        assert model.labels.of(place) == name
    assert model.labels.descriptions["02084071"].startswith("a member of the genus Canis")
    assert not find_labels("umls")


def test_labels_in_the_data_root_win_and_paths_of_a_model_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "root" / "wn18rr").mkdir(parents=True)
    with gzip.open(tmp_path / "root" / "wn18rr" / "labels.tsv.gz", "wt") as out:
        out.write("02084071\tmy dog\n")
    found = find_labels("wn18rr", data_root=tmp_path / "root")
    assert found is not None and found.labels == {"02084071": "my dog"} and not found.shipped
    (tmp_path / "labels.tsv").write_text("a\tb\n")
    assert find_labels("../wn18rr", data_root=tmp_path / "root") is None
    assert find_labels(str(tmp_path), data_root=tmp_path / "root") is None


def test_published_labels_are_downloaded_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path))
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    manifest = load_manifest("fb15k237")
    assert manifest is not None and manifest.labels is not None
    asked_for: list[Any] = []

    def fetched(url: str, target: Path, file: Any, **more: Any) -> None:
        asked_for.append((url, file.sha256))
        target.parent.mkdir(parents=True)
        target.write_text("/m/02mjmr\tBarack Obama\n")

    monkeypatch.setattr("dglke_distill.data.download.fetch", fetched)
    place = labels.fetch_labels(manifest)
    assert asked_for == [(manifest.labels.url, manifest.labels.sha256)]
    assert place is not None and place.parent.name == "fb15k237"
    found = find_labels("fb15k237")
    assert found is not None and found.of("/m/02mjmr") == "Barack Obama"
    wn18rr = load_manifest("wn18rr")
    assert wn18rr is not None and labels.fetch_labels(wn18rr) is None  # they are here


@pytest.mark.realdata
def test_entities_of_fb15k237_are_known_by_name(data_root: Path) -> None:
    found = find_labels("fb15k237", data_root=data_root)
    if found is None:
        pytest.skip("no labels.tsv beside the triples")
    assert found.name_of("Barack Obama", found.labels) == "/m/02mjmr"


def test_text_is_read_back(tmp_path: Path) -> None:
    written = Labels({"a": "A", "b": "B, c"}, {"b": "the second"})
    (tmp_path / "labels.tsv").write_text(written.text())
    assert read_labels(tmp_path / "labels.tsv") == written


# --- what leaves: exports, published models, parts ---------------------------------------------

SAID = {"hour12": "Noon", "hour0": "Midnight", "hour1": "One", "hour13": "one"}


def exported(model: Path, format: str, out: Path, *more: str) -> str:
    command = ["export", str(model), "--format", format, "--out", str(out), *more]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return result.output


def told_of(names: list[str], labels: list[str]) -> dict[str, str]:
    return {name: label for name, label in zip(names, labels, strict=True) if label}


def test_tables_that_are_exported_have_them(model: Path, tmp_path: Path) -> None:
    import numpy as np

    exported(model, "npz", tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        names = arrays["entity_names"].tolist()
        assert told_of(names, arrays["entity_labels"].tolist()) == SAID
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    exported(model, "parquet", tmp_path / "tables")
    rows = parquet.read_table(tmp_path / "tables" / "entities.parquet")
    assert told_of(rows["name"].to_pylist(), rows["label"].to_pylist()) == SAID
    assert rows["label"].null_count == 20
    relations = parquet.read_table(tmp_path / "tables" / "relations.parquet")
    assert "label" not in relations.column_names
    exported(model, "dglke", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "labels.tsv").read_text() == NOON
    command = ["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "back")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert load_model(tmp_path / "back").find_labels().of("hour12") == "Noon"


def test_graphs_that_are_exported_have_them(model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    exported(model, "onnx", tmp_path / "model.onnx")
    about = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert told_of(json.loads(about["entities"]), json.loads(about["labels"])) == SAID


def test_keys_of_word2vec_may_be_labels(model: Path, tmp_path: Path) -> None:
    exported(model, "word2vec", tmp_path / "plain")
    exported(model, "word2vec", tmp_path / "said", "--set", "keys=labels")
    plain, said = (
        [line.split(" ")[0] for line in (tmp_path / name).read_text().splitlines()[1:]]
        for name in ("plain", "said")
    )
    want = {**{name: name for name in plain}, **{i: f"{said}_({i})" for i, said in SAID.items()}}
    assert said == [want[name] for name in plain]  # One and one are two keys
    for more, message in (
        (["table=relations"], "relations have no labels"),
        (["table=entities"], "no entity of this model has a label"),
    ):
        which = str(model) if "table=relations" in more else "complex-cldr-dim32"
        command = ["export", which, "--format", "word2vec", "--out", str(tmp_path / "no")]
        command += ["--set", "keys=labels", "--set", *more]
        assert message in str(CliRunner().invoke(app, command).exception)
        assert not (tmp_path / "no").exists()


def test_bundles_have_them_and_both_readers_read_them(model: Path, tmp_path: Path) -> None:
    import shutil
    import subprocess

    from kg_bundle import Bundle

    output = exported(model, "bundle", tmp_path / "model.bundle")
    bundle = Bundle(tmp_path / "model.bundle")
    assert bundle.labels is not None and told_of(bundle.entities, bundle.labels) == SAID
    exported(model, "bundle", tmp_path / "bare", "--set", "labels=false")
    bare = Bundle(tmp_path / "bare")
    assert bare.labels is None
    text, ends = len("".join(SAID.values()).encode()), 4 * 24
    assert f"labels take {text + ends} bytes of it; --set labels=false" in output
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    reader = Path(__file__).resolve().parents[1] / "readers" / "js" / "kg_bundle.js"
    shutil.copy(reader, tmp_path / "kg_bundle.mjs")
    (tmp_path / "ask.mjs").write_text(
        'import { readFileSync } from "node:fs"; import { Bundle } from "./kg_bundle.mjs";\n'
        "for (const name of process.argv.slice(2)) {\n"
        "  const bytes = readFileSync(name);\n"
        "  const end = bytes.byteOffset + bytes.byteLength;\n"
        "  const bundle = new Bundle(bytes.buffer.slice(bytes.byteOffset, end));\n"
        '  const found = bundle.predictTails("hour0", 0, { k: 24 });\n'
        "  console.log(JSON.stringify([bundle.labels, found]));\n}\n"
    )
    command = ["node", "ask.mjs", "model.bundle", "bare"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (labels, found), (none, plain) = map(json.loads, done.stdout.splitlines())
    assert labels == bundle.labels and none is None
    assert {one["name"]: one["label"] for one in found if one["label"]} == SAID
    assert set(plain[0]) == {"id", "name", "score"}


@pytest.mark.slow
def test_vector_databases_have_them(model: Path, tmp_path: Path) -> None:
    import numpy as np

    exported(model, "pgvector", tmp_path / "pg", "--set", "questions=0")
    rows = [line.split("\t") for line in (tmp_path / "pg/entities.copy").read_text().splitlines()]
    assert {row[1]: row[3] for row in rows if row[3] != "\\N"} == SAID
    assert "    label text\n);" in (tmp_path / "pg" / "schema.sql").read_text()
    assert "(id, name, embedding, label) FROM" in (tmp_path / "pg" / "load.sql").read_text()
    with np.load(tmp_path / "pg" / "queries.npz") as arrays:
        names = arrays["entity_names"].tolist()
        assert told_of(names, arrays["entity_labels"].tolist()) == SAID
    pytest.importorskip("sqlite_vec", reason="sqlite-vec is not installed")
    import sqlite3

    exported(model, "sqlite-vec", tmp_path / "lite", "--set", "questions=0")
    base = sqlite3.connect(tmp_path / "lite" / "entities.db")
    found = base.execute("SELECT name, label FROM entities WHERE label NOT NULL").fetchall()
    assert dict(found) == SAID
    client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    exported(model, "qdrant", tmp_path / "q", "--set", "questions=0")
    points = client.QdrantClient(path=str(tmp_path / "q" / "qdrant")).scroll("entities", limit=99)
    payloads = [point.payload for point in points[0]]
    assert {one["name"]: one["label"] for one in payloads if "label" in one} == SAID


def test_they_are_published_with_the_model(model: Path, tmp_path: Path) -> None:
    import shutil

    store = tmp_path / "zoo"
    (entry,) = zoo.publish(model, store=store)
    assert entry.file("labels.tsv").path.startswith("vocabularies/")
    loaded = zoo.load(entry.name, store=store)
    assert loaded.labels.labels == SAID
    assert loaded.labels.descriptions == {"hour12": "when the sun stands highest"}
    command = ["predict", entry.name, "--head", "noon", "--relation", "plus2", "--store"]
    said = CliRunner().invoke(app, [*command, str(store)])
    assert "(Noon (hour12), plus2, ?)" in said.output, said.output
    assert zoo.publish(model, store=store)[0].version == 1  # nothing new
    spoiled = tmp_path / "spoiled"
    shutil.copytree(model, spoiled)
    (spoiled / "labels.tsv").write_text("hour0\n")
    with pytest.raises(UserError, match="line 1: has 1 column"):
        zoo.publish(spoiled, store=tmp_path / "other")
    (spoiled / "labels.tsv").unlink()
    (bare,) = zoo.publish(spoiled, store=store)
    assert bare.version == 2 and "labels.tsv" not in bare.content


def test_labels_of_the_catalog_are_published_with_their_licence(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dglke_distill.data import manifest

    known = load_manifest("fb15k237")
    assert known is not None and known.labels is not None
    monkeypatch.setattr(manifest, "load_manifest", lambda name: known)
    (entry,) = zoo.publish(model, store=tmp_path / "zoo")
    assert entry.licence.endswith(f"; labels: {known.labels.licence}")


@pytest.mark.slow
def test_parts_keep_them(clock: Path, tmp_path: Path) -> None:
    from dglke_distill.data.labels import labels_in

    command = ["dist", "partition", str(clock), "--parts", "2", "--out", str(tmp_path / "parts")]
    result = CliRunner().invoke(app, [*command, "--method", "random"])
    assert result.exit_code == 0, result.output
    found = labels_in(tmp_path / "parts")
    assert found is not None and found.labels == SAID
