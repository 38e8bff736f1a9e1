"""Tables as users have them: columns chosen, RDF, Parquet, compressed, with weights."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import zstandard

import dglke_distill as kd
from dglke_distill import cli
from dglke_distill.config import DataConfig
from dglke_distill.data import opening
from dglke_distill.data.graph import build_graph
from dglke_distill.data.identity import Lookup
from dglke_distill.data.table_options import TableOptions
from dglke_distill.data.triples import Dataset, Triples
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.sampling.negatives import build_sampler

RNG = np.random.default_rng(0)
ROWS = sorted({(f"e{h}", f"r{r}", f"e{t}") for h, r, t in RNG.integers(0, 9, (60, 3)) % (9, 2, 9)})
PLAIN = "".join("\t".join(row) + "\n" for row in ROWS)
WEIGHTS = [round(0.5 + i % 7, 2) for i in range(len(ROWS))]
WIDE = pandas.DataFrame(
    {
        "date": "2014-05-01", "to": [t for _, _, t in ROWS], "from": [h for h, _, _ in ROWS],
        "conf": WEIGHTS, "kind": [r for _, r, _ in ROWS],
    }
)  # fmt: skip
CHOSEN = {"columns": "head=from,relation=kind,tail=to"}


def facts(dataset: Dataset) -> set[tuple[str, str, str]]:
    return {
        (dataset.entities[h], dataset.relations[r], dataset.entities[t])
        for split in ("train", "valid", "test")
        for h, r, t in dataset.split(split).to_array().tolist()
    }


def rdf(form: str) -> str:
    if form == "ttl":
        return "@prefix x: <http://x/> .\n" + "".join(f"x:{h} x:{r} x:{t} .\n" for h, r, t in ROWS)
    graph = " <http://g>" if form == "nq" else ""
    x = "<http://x/{}>"
    return "".join(f"{x.format(h)} {x.format(r)} {x.format(t)}{graph} .\n" for h, r, t in ROWS)


def zipped(*members: tuple[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def parquet(frame: pandas.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


THREE = pandas.DataFrame(ROWS, columns=["head", "relation", "tail"])
COMMAS = PLAIN.replace("\t", ",")
READ: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "kg.tsv.zst": (lambda: zstandard.compress(PLAIN.encode()), {}),
    "two.tsv.zst": (
        lambda: zstandard.compress(PLAIN[:40].encode()) + zstandard.compress(PLAIN[40:].encode()),
        {},
    ),
    "kg.zip": (lambda: zipped(("data/kg.tsv", PLAIN), ("__MACOSX/._kg.tsv", "x")), {}),
    "commas.zip": (lambda: zipped(("kg.csv", COMMAS)), {}),
    "kg.csv.zip": (lambda: zipped(("anything", COMMAS)), {}),
    "kg.parquet": (lambda: parquet(THREE), {}),
    "turned.parquet": (lambda: parquet(THREE[["tail", "head", "relation"]]), {}),
    "unnamed.data": (lambda: parquet(THREE), {}),
    "wide.parquet": (lambda: parquet(WIDE), CHOSEN),
    "known.parquet": (
        lambda: parquet(WIDE.rename(columns={"kind": "relation"})), {"ignore_extra": True},
    ),
    "wide.csv": (lambda: WIDE.to_csv(index=False), CHOSEN),
    "WIDE.csv": (lambda: WIDE.to_csv(index=False), {"columns": "H=FROM,R=Kind,T=to"}),
    "numbers.csv": (
        lambda: WIDE.to_csv(index=False, header=False), {"columns": "head=3,relation=5,tail=2"},
    ),
    "semicolons.csv": (lambda: WIDE.to_csv(index=False, sep=";"), {**CHOSEN, "delimiter": ";"}),
    "words.csv": (lambda: WIDE.to_csv(index=False, sep=";"), {**CHOSEN, "delimiter": "semicolon"}),
    "bars.txt": (lambda: PLAIN.replace("\t", " ||| "), {"delimiter": " ||| "}),
    "blanks.txt": (lambda: PLAIN.replace("\t", "   "), {"delimiter": "space"}),
    "tabs.csv": (lambda: PLAIN, {"delimiter": "tab"}),
    "extra.tsv": (lambda: PLAIN.replace("\n", "\t2014-05-01\t7\n"), {"ignore_extra": True}),
    "extra.tsv.xz": (
        lambda: lzma.compress(PLAIN.replace("\n", "\t2014-05-01\n").encode()),
        {"ignore_extra": True},
    ),
    "quoted.csv": (
        lambda: "head,relation,tail,note\n"
        + "".join(f'"{h}","{r}","{t}","a, b"\n' for h, r, t in ROWS),
        {"ignore_extra": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_the_same_facts_whatever_the_file(tmp_path: Path, name: str) -> None:
    make, options = READ[name]
    content = make()
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    dataset = kd.load_dataset(path, **options)
    assert facts(dataset) == set(ROWS)
    (tmp_path / "plain.tsv").write_text(PLAIN)
    assert dataset.fingerprint == kd.load_dataset(tmp_path / "plain.tsv").fingerprint
    left = [line for line in dataset.warnings if "left out" in line and "column" in line]
    assert bool(left) == ("date" in str(content) or "2014" in str(content) or "wide" in name
                          or name in ("known.parquet", "extra.tsv.xz", "quoted.csv"))  # fmt: skip


@pytest.mark.parametrize("form", ["nt", "nq", "ttl", "txt"])
@pytest.mark.parametrize("pack", ["", ".gz"])
def test_rdf(tmp_path: Path, form: str, pack: str) -> None:
    text = rdf(form) + '<http://x/e0> <http://x/label> "Eins"@de .\n'
    text += '<http://x/e0> <http://x/label> "1"^^<http://x/int> .\n'
    path = tmp_path / f"kg.{form}{pack}"
    path.write_bytes(gzip.compress(text.encode()) if pack else text.encode())
    x = "http://x/{}"
    want = {(x.format(h), x.format(r), x.format(t)) for h, r, t in ROWS}
    dataset = kd.load_dataset(path)
    assert facts(dataset) == want
    assert any("2 statements about literals" in line for line in dataset.warnings)
    kept = facts(kd.load_dataset(path, literals="keep"))
    assert kept - want == {
        ("http://x/e0", "http://x/label", '"Eins"@de'),
        ("http://x/e0", "http://x/label", '"1"^^<http://x/int>'),
    }


def test_nodes_without_a_name_have_the_same_one_each_time(tmp_path: Path) -> None:
    text = "@prefix x: <http://x/> .\n" + "".join(
        f"x:{h} x:{r} [ x:of x:{t} ; x:in _:b{i % 3} ] .\n" for i, (h, r, t) in enumerate(ROWS)
    )
    (tmp_path / "kg.ttl").write_text(text)
    one, other = (kd.load_dataset(tmp_path / "kg.ttl") for _ in range(2))
    assert one.fingerprint == other.fingerprint
    assert {"_:b0", "_:b1", "_:b2"} < set(one.entities)
    assert {name for name in one.entities if name.startswith("_:kg-")} == {
        f"_:kg-{i}" for i in range(1, len(ROWS) + 1)
    }


@pytest.mark.parametrize("ending", ["nt", "ttl", "parquet", "tsv.zst", "tsv.bz2", "zip"])
def test_official_splits_are_found(tmp_path: Path, ending: str) -> None:
    parts = {"train": ROWS[:-8], "valid": ROWS[-8:-4], "test": ROWS[-4:]}
    for split, rows in parts.items():
        text = "".join("\t".join(row) + "\n" for row in rows)
        nt = "".join("".join(f"<{name}> " for name in row) + ".\n" for row in rows)
        made = {
            "nt": nt.encode(),
            "ttl": nt.encode(),
            "parquet": parquet(pandas.DataFrame(rows, columns=["h", "r", "t"])),
            "tsv.zst": zstandard.compress(text.encode()),
            "tsv.bz2": bz2.compress(text.encode()),
            "zip": zipped((f"{split}.tsv", text)),
        }[ending]
        (tmp_path / f"kg_{split}.{ending}").write_bytes(made)
    dataset = kd.load_dataset(tmp_path)
    strip = "urn:base:" if ending == "ttl" else ""
    for split, rows in parts.items():
        found = {
            (dataset.entities[h], dataset.relations[r], dataset.entities[t])
            for h, r, t in dataset.split(split).to_array().tolist()
        }
        assert {tuple(n.removeprefix(strip) for n in fact) for fact in found} == set(rows)


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("training", "dev", "testing")])
@pytest.mark.parametrize("inside", ["", "WN18RR/text/"])
def test_an_archive_of_splits(tmp_path: Path, names: tuple[str, ...], inside: str) -> None:
    parts = (ROWS[:-8], ROWS[-8:-4], ROWS[-4:])
    path = tmp_path / "wn.zip"
    path.write_bytes(
        zipped(
            ("readme.md", "about"),
            *(
                (f"{inside}{name}.txt", "".join("\t".join(row) + "\n" for row in rows))
                for name, rows in zip(names, parts)
            ),
        )
    )
    dataset = kd.load_dataset(path)
    assert [len(dataset.split(s)) for s in ("train", "valid", "test")] == list(map(len, parts))
    assert dataset.name == "wn"
    assert not any("dglke-zip" in line for line in dataset.warnings)


def test_splits_named_by_their_ending(tmp_path: Path) -> None:
    for split, rows in (("train", ROWS[:-8]), ("valid", ROWS[-8:-4]), ("test", ROWS[-4:])):
        (tmp_path / f"wn18rr.{split}").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert len(kd.load_dataset(tmp_path).test) == 4


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet", "unheaded.csv"])
def test_weights_stay_with_their_facts(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"kg.{ending}"
    twice = pandas.concat([WIDE, WIDE[:5]])
    columns, weight = "head=from,relation=kind,tail=to", "conf"
    if ending == "csv":
        twice.to_csv(path, index=False)
    elif ending == "parquet":
        twice.to_parquet(path)
    else:
        twice.to_csv(path, index=False, header=False)
        columns, weight = "head=3,relation=5,tail=2", "4"
    dataset = kd.load_dataset(path, columns=columns, weight_column=weight)
    want = {row: w * (2 if i < 5 else 1) for i, (row, w) in enumerate(zip(ROWS, WEIGHTS))}
    assert dataset.train_weight is not None
    for (h, r, t), weight_of in zip(dataset.train.to_array().tolist(), dataset.train_weight):
        fact = dataset.entities[h], dataset.relations[r], dataset.entities[t]
        assert weight_of == pytest.approx(want[fact])


def test_a_heading_is_left_out_with_its_weight(tmp_path: Path) -> None:
    text = "head\trelation\ttail\tscore\n" + "".join(
        "\t".join(row) + f"\t{w}\n" for row, w in zip(ROWS, WEIGHTS)
    )
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.tsv").write_text(text)
    for weight in ("score", "4"):
        dataset = kd.load_dataset(tmp_path, weight_column=weight)
        assert dataset.train_weight is not None
        assert dataset.train_weight.tolist() == pytest.approx(WEIGHTS)
        assert facts(dataset) == set(ROWS)
    (tmp_path / "valid.tsv").write_text(PLAIN)  # weights are those of train
    assert len(kd.load_dataset(tmp_path, weight_column="4").valid) == len(ROWS)


def loader(weights: Any, mode: str = "one_vs_all", weighting: Any = "loss") -> BatchLoader:
    ids = [(int(h[1]), int(r[1]), int(t[1])) for h, r, t in ROWS]
    graph = build_graph(Triples.from_array(np.array(ids)), 9, num_relations=2)
    sampler = build_sampler("uniform", graph, 2, count=3) if mode == "negatives" else None
    return BatchLoader(
        graph, 2, batch_size=16, mode=mode, sampler=sampler,  # type: ignore[arg-type]
        weights=np.array(weights, np.float32), weighting=weighting,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["one_vs_all", "negatives"])
def test_weights_count_in_the_loss(mode: str) -> None:
    mean = np.mean(WEIGHTS)
    for batch in loader(WEIGHTS, mode).epoch(0):
        for group in batch.queries:
            assert group.weight is not None
            want = np.array(WEIGHTS)[batch.edges.numpy()] / mean
            assert group.weight.tolist() == pytest.approx(want.tolist())


def test_a_query_counts_as_the_mean_of_its_facts() -> None:
    mean = np.mean(WEIGHTS)
    for batch in loader(WEIGHTS, "k_vs_all").epoch(0):
        for group in batch.queries:
            assert group.weight is not None
            for entity, relation, got in zip(group.entity, group.relation, group.weight):
                place = 0 if group.side == "tail" else 2
                own = [
                    w for row, w in zip(ROWS, WEIGHTS)
                    if row[place] == f"e{entity}" and row[1] == f"r{relation}"
                ]  # fmt: skip
                assert float(got) == pytest.approx(np.mean(own) / mean)


def test_weights_are_how_often_a_fact_is_visited() -> None:
    weights = [0.0 if i == 3 else w for i, w in enumerate(WEIGHTS)]
    made = loader(weights, weighting="sampling")
    epochs = 400
    seen = np.zeros(len(ROWS))
    for epoch in range(epochs):
        for batch in made.epoch(epoch):
            np.add.at(seen, batch.edges.numpy(), 1)
            assert batch.queries[0].weight is None
    expected = np.array(weights) / np.sum(weights) * len(ROWS) * epochs
    assert seen[3] == 0
    assert np.abs(seen - expected).max() < 6 * np.sqrt(expected.max())
    again = [batch.edges.tolist() for batch in made.epoch(7, start=1)]
    assert again == [batch.edges.tolist() for batch in made.epoch(7)][1:]


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["loss", "sampling"])
def test_the_command_trains_with_weights(tmp_path: Path, weighting: str) -> None:
    WIDE.to_csv(tmp_path / "kg.csv", index=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["train", str(tmp_path / "kg.csv"), "--columns", CHOSEN["columns"], "--weight-column",
             "conf", "--model", "distmult", "--dim", "4", "--epochs", "1", "--recipe", "none",
             "--search", "none", "--threads", "1", "--set", f"training.weighting={weighting}",
             "--out", str(tmp_path / "run")]
        )  # fmt: skip
    assert ended.value.code == 0
    model = kd.load(tmp_path / "run" / "checkpoint")
    dataset, warnings = model.loaded.find_dataset("it", Lookup(str(tmp_path / "kg.csv")))
    assert facts(dataset) == set(ROWS)
    assert warnings == []


# --- what is wrong --------------------------------------------------------------------------------

BOMB = zipped(("kg.tsv", "a\tr\tb\n" * 400_000))
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "kg.csv": (WIDE.to_csv(index=False), {}, r"line 1: has 5 columns.*say ignore_extra"),
    "a.csv": (WIDE.to_csv(index=False), {"columns": "head=x,relation=kind,tail=to"},
              "line 1: there is no column 'x' among date, to, from, conf, kind"),
    "b.csv": (WIDE.to_csv(index=False), {"columns": "head=from,relation=kind"}, "tail is missing"),
    "c.csv": (WIDE.to_csv(index=False), {"columns": "head=from,relation=from,tail=to"},
              "two of from, from, to are one column"),
    "cc.csv": (WIDE.to_csv(index=False), {"columns": "head=from,relation=FROM,tail=to"},
               "line 1: column 'from' is chosen twice"),
    "d.csv": (WIDE.to_csv(index=False), {"columns": "from,kind,to"}, "'from' is not understood"),
    "e.csv": (WIDE.to_csv(index=False), {**CHOSEN, "weight_column": "date"},
              "line 2: the weight '2014-05-01' is no number"),
    "f.csv": (WIDE.assign(conf=-1).to_csv(index=False), {**CHOSEN, "weight_column": "conf"},
              "line 2: the weight '-1' is no number from 0 to 3e38"),
    "g.csv": (WIDE.assign(conf=0).to_csv(index=False), {**CHOSEN, "weight_column": "conf"},
              "every weight is 0"),
    "h.csv": (WIDE.to_csv(index=False), {**CHOSEN, "weight_column": "kind"}, "holds a name"),
    "hh.tsv": (PLAIN, {"weight_column": "3"}, "has 3 columns, not three beside the weight's"),
    "i.csv": (WIDE.to_csv(index=False), {**CHOSEN, "delimiter": "ab"}, "may be part of names"),
    "j.csv": (WIDE.to_csv(index=False), {**CHOSEN, "delimiter": '"'}, "cannot separate columns"),
    "k.tsv": (PLAIN + "a\tb\n", {"ignore_extra": True}, r"line \d+: has 2 columns"),
    "l.tsv": (PLAIN + "a\t\tb\n", {"ignore_extra": True}, r"the name in column 2 is empty"),
    "m.tsv": (PLAIN + "a\tb\tc\td\n", {"ignore_extra": True}, r"has 4 columns.*line 1 has 3"),
    "n.txt": (PLAIN, {"delimiter": "|"}, "has 1 column, not three separated by '|'"),
    "kg.nt": ("<a> <b> <c> .\n<a> <b> .\n", {}, r"kg.nt, line 2: is not valid N-Triples"),
    "kg.ttl": ("x:a x:b x:c .\n", {}, r"line 1: is not valid Turtle"),
    "w.nt": (rdf("nt"), {"weight_column": "4"}, "have no columns to choose, and no weights"),
    "kg.parquet": (parquet(WIDE), {}, r"has 5 columns.*say by columns head="),
    "a.parquet": (parquet(WIDE), {"columns": "head=from,relation=kind,tail=conf"},
                  "column 'conf' is of type double"),
    "b.parquet": (parquet(THREE)[:-20], {}, "is no whole Parquet file"),
    "c.parquet": (parquet(THREE.assign(tail=None)), {}, "tail"),
    "d.parquet": (parquet(THREE.assign(tail="a\nb")), {}, "row 1: the name in column 'tail' has"),
    "kg.tsv.zst": (zstandard.compress(PLAIN.encode())[:-4], {}, "is not whole Zstandard data"),
    "x.tsv.zst": (b"\x28\xb5\x2f\xfd" + b"\x00" * 40, {}, "is not whole Zstandard data"),
    "two.zip": (zipped(("a.tsv", PLAIN), ("b.tsv", PLAIN)), {}, "zip archive of 2 files"),
    "none.zip": (zipped(), {}, "zip archive of 0 files"),
    "cut.zip": (zipped(("a.tsv", PLAIN))[:-30], {}, "is not whole zip data"),
    "many.zip": (zipped(*((f"{d}/{s}.txt", PLAIN) for d in "ab" for s in ("train", "test"))), {},
                 "several of its folders hold a train split"),
    "bad.zip": (zipped(("x/train.txt", "a\n"), ("x/valid.txt", ""), ("x/test.txt", "")), {},
                r"bad.zip/train.txt, line 1: has 1 column"),
    "bomb.zip": (BOMB, {}, "expands to more than 200 times its size"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_clear_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, options, message = WRONG[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    monkeypatch.setattr(opening, "_FREE_BYTES", 1 << 18)
    with pytest.raises(kd.UserError, match=message) as caught:
        kd.load_dataset(path, **options)
    assert "\n" not in str(caught.value)


def test_options_are_for_tables_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kd.UserError, match="umls has a layout of its own"):
        kd.load_dataset("umls", columns="head=1,relation=2,tail=3")
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "info", "umls", "--delimiter", ";"])
    assert ended.value.code == 2
    assert "umls is of the catalog" in capsys.readouterr().err


def test_what_may_be_said_of_columns() -> None:
    asked = {"columns": "t=c, h=a ,relation=b", "delimiter": "\\t", "weight_column": " w "}
    options = TableOptions.of(DataConfig(**asked))
    assert options.columns == ("a", "b", "c")
    assert (options.delimiter, options.weight_column) == ("\t", "w")
    assert not TableOptions.of(DataConfig(literals="keep")).of_text
