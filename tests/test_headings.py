"""First lines that name the columns: recognised, warned of, left out on request."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_fixtures import facts, write

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, parse_assignment
from dglke_distill.data import catalog
from dglke_distill.data.formats import read_file, read_folder
from dglke_distill.data.headings import heading_order, named_columns

ROWS = [(f"e{i % 7}", f"r{i % 2}", f"e{(3 * i + 1) % 7}") for i in range(14)]
TRAIN, VALID, TEST = ROWS, [("e1", "r0", "e5")], [("e3", "r0", "e6")]
BODY = {
    "train": "".join("\t".join(row) + "\n" for row in TRAIN),
    "valid": "\t".join(VALID[0]) + "\n",
    "test": "\t".join(TEST[0]) + "\n",
}


def folder_of(folder: Path, **headings: str) -> Path:
    """Write the three splits, each with its own first line."""
    return write(folder, **{split: headings.get(split, "") + body for split, body in BODY.items()})


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("head\trelation\ttail", "hrt"), ("Head\tRelation\tTail", "hrt"), ("h\tr\tt", "hrt"),
        ("SUBJECT\tPREDICATE\tOBJECT", "hrt"), ("s\tp\to", "hrt"),
        ("source\tmetaedge\ttarget", "hrt"),
        ("from\trel\tto", "hrt"), ("#head\trelation\ttail", "hrt"),
        ("head_id\trelation\ttail_id", "hrt"),
        ("start_id\ttype\tend_id", "hrt"), (":START_ID\t:END_ID\t:TYPE", "htr"),
        ("source\ttarget\trelation", "htr"), ("predicate\tsubject\tobject", "rht"),
        ("Node 1\tEdge\tNode 2", "hrt"), ("subject\tproperty\tvalue", None), ("x\tr\ty", None),
        ("a\tr\tb", None), ("head\thead\ttail", None), ("head\ttail", None),
    ],
)  # fmt: skip
def test_known_words(line: str, order: str | None) -> None:
    assert heading_order(line.split("\t")) == order


@pytest.mark.parametrize(
    "line", ["head\trelation\ttail\n", "Source\tMetaedge\tTarget\n", "from\trel\tto\n"]
)
def test_a_known_heading_is_left_out(tmp_path: Path, line: str) -> None:
    one = write(tmp_path / "one", kg=line + BODY["train"]) / "kg.txt"
    dataset = read_file(one)
    plain = read_file(write(tmp_path / "plain", kg=BODY["train"]) / "kg.txt")
    assert dataset.fingerprint == plain.fingerprint
    assert f"{', '.join(line.split())} was taken for a heading and left out" in dataset.warnings[0]
    folder = folder_of(tmp_path / "all", train=line, valid=line, test=line)
    dataset = read_folder(folder)
    assert facts(dataset, "train") == TRAIN
    assert facts(dataset, "valid") == VALID
    assert facts(dataset, "test") == TEST
    assert list(dataset.entities) == [f"e{i}" for i in range(7)]
    assert list(dataset.relations) == ["r0", "r1"]
    assert len([w for w in dataset.warnings if "left out" in w]) == 3


def test_each_file_has_its_own_heading(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train="h\tr\tt\n", test="subject\tpredicate\tobject\n")
    dataset = read_folder(folder)
    assert [facts(dataset, split) for split in BODY] == [TRAIN, VALID, TEST]
    assert len(dataset.warnings) == 2


def test_a_known_heading_stays_on_request(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train="head\trelation\ttail\n")
    dataset = read_folder(folder, header=False)
    assert facts(dataset, "train") == [("head", "relation", "tail"), *TRAIN]
    assert dataset.warnings == ()


def test_words_that_are_names_elsewhere_are_no_heading(tmp_path: Path) -> None:
    rows = "from\trel\tto\n" + BODY["train"] + "to\tr1\te1\n"
    dataset = read_folder(write(tmp_path, train=rows, valid=BODY["valid"], test=BODY["test"]))
    assert facts(dataset, "train")[0] == ("from", "rel", "to")
    (warning,) = dataset.warnings
    assert "was read as a fact, but its words are those of headings" in warning


@pytest.mark.parametrize(
    "words", ["Gene A\tlinked by\tGene B", "Kopf\tBeziehung\tEnde", "x\ty\tz", "node\tedge\tnode"]
)
def test_unknown_words_stay_and_are_warned_of(tmp_path: Path, words: str) -> None:
    line = f"{words}\n"
    folder = folder_of(tmp_path / "all", train=line, valid=line, test=line)
    dataset = read_folder(folder)
    fact = tuple(words.split("\t"))
    assert facts(dataset, "valid") == [fact, *VALID]
    suspected = [w for w in dataset.warnings if "its words occur nowhere else" in w]
    assert [Path(w.partition(",")[0]).stem for w in suspected] == ["train", "valid", "test"]
    assert all("--set data.header=true" in w for w in suspected)
    dataset = read_folder(folder, header=True)
    assert [facts(dataset, split) for split in BODY] == [TRAIN, VALID, TEST]
    assert fact[0] not in dataset.entities
    assert fact[1] not in dataset.relations
    one = write(tmp_path, kg=line + BODY["train"]) / "kg.txt"
    assert "its words occur nowhere else" in read_file(one).warnings[0]
    assert len(read_file(one, header=True).entities) == 7


def test_a_first_fact_of_new_names_stays(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, test="solo\tunique\tother\n")
    dataset = read_folder(folder)
    assert facts(dataset, "test") == [("solo", "unique", "other"), *TEST]
    assert any("test.txt, line 1: solo, unique, other was read as a fact" in w
               for w in dataset.warnings)  # fmt: skip


def test_files_of_one_line_each_are_facts(tmp_path: Path) -> None:
    line = "a\tr\tb\n"
    dataset = read_folder(write(tmp_path, train=line, valid=line, test=line))
    assert facts(dataset, "train") == [("a", "r", "b")]
    assert not any("heading" in warning for warning in dataset.warnings)


def test_on_request_only_what_can_be_a_heading_goes(tmp_path: Path) -> None:
    """Train's first line is left out as asked; a valid file without a heading loses nothing."""
    dataset = read_folder(folder_of(tmp_path, train="Kopf\tBeziehung\tEnde\n"), header=True)
    assert [facts(dataset, split) for split in BODY] == [TRAIN, VALID, TEST]
    kept = [w for w in dataset.warnings if "was kept as a fact" in w]
    assert [Path(w.partition(",")[0]).stem for w in kept] == ["valid", "test"]


def test_a_heading_of_other_width(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, train="the facts of 1 March\n")
    with pytest.raises(UserError, match="line 1: has 1 column"):
        read_folder(folder)
    assert facts(read_folder(folder, header=True), "train") == TRAIN


def test_a_heading_says_the_order_of_columns(tmp_path: Path) -> None:
    rows = "".join(f"{h},{t},{r}\n" for h, r, t in TRAIN)
    path = write(tmp_path, kg__csv=":START_ID,:END_ID,:TYPE\n" + rows) / "kg.csv"
    dataset = read_file(path)
    found = {fact for split in BODY for fact in facts(dataset, split)}
    assert found == {*TRAIN}
    assert any("the columns are head, tail, relation; they were read so" in w
               for w in dataset.warnings)  # fmt: skip
    given = read_file(path, format="names_hrt").warnings
    assert any("--set data.format=names_htr" in warning for warning in given)


def test_headings_beside_dictionaries(tmp_path: Path) -> None:
    dictionaries = {
        "entities__dict": "".join(f"{i}\te{i}\n" for i in range(7)),
        "relations__dict": "0\tr0\n1\tr1\n",
    }
    folder = folder_of(tmp_path / "names", train="head\trelation\ttail\n")
    write(folder, **dictionaries)
    assert facts(read_folder(folder), "train") == TRAIN
    folder_of(folder, train="Kopf\tBeziehung\tEnde\n")
    with pytest.raises(UserError, match=r"line 1: entity 'Kopf' is not in .*data\.header=true"):
        read_folder(folder)
    assert facts(read_folder(folder, header=True), "train") == TRAIN
    ids = {split: body.replace("e", "").replace("r", "") for split, body in BODY.items()}
    ids["train"] = "head\trelation\ttail\n" + ids["train"]
    folder = write(tmp_path / "ids", **ids, **dictionaries)
    dataset = read_folder(folder)
    assert facts(dataset, "train") == TRAIN
    assert "was taken for a heading and left out" in dataset.warnings[0]
    ids["train"] = ids["train"].replace("head", "Kopf")
    write(folder, **ids)
    with pytest.raises(UserError, match=r"'Kopf' is not an id; .*--set data\.header=true"):
        read_folder(folder, format="udd_hrt")
    dataset = read_folder(folder, format="udd_hrt", header=True)
    assert [facts(dataset, split) for split in BODY] == [TRAIN, VALID, TEST]
    assert len([w for w in dataset.warnings if "holds ids" in w]) == 2


def test_openke_has_no_headings(tmp_path: Path) -> None:
    folder = write(
        tmp_path, train2id="1\n0 1 0\n", valid2id="1\n0 1 0\n", test2id="1\n1 0 0\n",
        entity2id="2\na\t0\nb\t1\n", relation2id="1\nr\t0\n",
    )  # fmt: skip
    with pytest.raises(UserError, match="a count in their first line, and no heading"):
        read_folder(folder, header=True)


def test_false_triples_have_headings_too(tmp_path: Path) -> None:
    line = "head\trelation\ttail\n"
    folder = folder_of(tmp_path, train=line, valid=line, test=line)
    write(folder, valid_negatives=line + "e1\tr1\te2\n")
    dataset = read_folder(folder)
    assert dataset.valid_negatives is not None
    assert len(dataset.valid_negatives) == 1
    assert list(dataset.entities) == [f"e{i}" for i in range(7)]


def test_columns_of_wide_tables() -> None:
    wide = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_name"
    assert named_columns(wide.split(",")) == ("x_name", "relation", "y_name")
    assert named_columns(["subject_id", "predicate", "object_id", "weight"]) == (
        "subject_id", "predicate", "object_id"
    )  # fmt: skip
    assert named_columns(["a", "b", "c", "d"]) is None


# The setting


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("false", False), ("auto", None), ("Auto", None), ("True", True)],
)
def test_the_setting(text: str, value: bool | None) -> None:
    tree = parse_assignment(f"data.header={text}")
    assert Config.from_mapping(tree, "--set").data.header is value
    with pytest.raises(UserError, match=r"data\.header"):
        Config.from_mapping(parse_assignment("data.header=perhaps"), "--set")
    assert "header" not in Config().to_toml()


def test_the_setting_reaches_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path, kg="Kopf\tBeziehung\tEnde\n" + BODY["train"]) / "kg.txt"
    assert catalog.load(str(path)).num_entities == 9
    assert catalog.load(str(path), header=True).num_entities == 7
