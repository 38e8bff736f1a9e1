from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from format_fixtures import TEST, TRAIN, VALID, facts, write
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.data import text
from dglke_distill.data.formats import read_file, read_folder
from dglke_distill.data.layout import parse_format
from dglke_distill.data.name_order import in_name_order
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.data.writers import write_dataset

ORDERS = ["".join(order) for order in itertools.permutations("hrt")]
# Round trips

# Anything but what would end a cell or a line; Python's other line ends are ordinary letters here.
# Blanks at a name's ends are no part of it.
names = (
    st.text(
        st.characters(blacklist_characters="\t\n\r\0", blacklist_categories=("Cs",)), min_size=1
    )
    .map(text.strip_blanks)
    .filter(bool)
)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    entities = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    relations = draw(st.lists(names, min_size=1, max_size=3, unique=True))

    def triples(smallest: int) -> Triples:
        row = st.tuples(
            st.integers(0, len(entities) - 1),
            st.integers(0, len(relations) - 1),
            st.integers(0, len(entities) - 1),
        )
        rows = draw(st.lists(row, min_size=smallest, max_size=8))
        return Triples.from_array(np.array(rows, dtype=np.int64).reshape(-1, 3))

    return Dataset(
        "made",
        Vocabulary(entities),
        Vocabulary(relations, kind="relation"),
        triples(1),
        triples(0),
        triples(0),
        valid_negatives=draw(st.none() | st.builds(triples, st.just(0))),
    )


@given(dataset=datasets(), order=st.sampled_from(ORDERS))
def test_ids_with_dictionaries_round_trip(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, order: str
) -> None:
    folder = tmp_path_factory.mktemp("udd") / "out"
    write_dataset(dataset, folder, format=f"udd_{order}")
    again = read_folder(folder, format=f"UDD_{order}", name="made")
    assert again.fingerprint == dataset.fingerprint
    if dataset.valid_negatives is None:
        assert again.valid_negatives is None
    else:
        assert again.valid_negatives is not None
        assert again.valid_negatives.to_array().tolist() == (
            dataset.valid_negatives.to_array().tolist()
        )


@given(dataset=datasets())
def test_openke_round_trips(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> None:
    folder = tmp_path_factory.mktemp("openke") / "out"
    write_dataset(dataset, folder, format="openke")
    assert read_folder(folder).fingerprint == dataset.fingerprint


@given(
    dataset=datasets(), order=st.sampled_from(ORDERS), family=st.sampled_from(["names", "raw_udd"])
)
def test_names_round_trip(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, order: str, family: str
) -> None:
    folder = tmp_path_factory.mktemp("names") / "out"
    plain = Dataset(
        "made", dataset.entities, dataset.relations, dataset.train, dataset.valid, dataset.test
    )
    write_dataset(plain, folder, format=f"{family}_{order}")
    again = read_folder(folder, format=f"{family}_{order}")
    for split in ("train", "valid", "test"):
        assert facts(again, split) == facts(plain, split)
    used = {
        name
        for split in ("train", "valid", "test")
        for h, _, t in facts(plain, split)
        for name in (h, t)
    }
    assert list(again.entities) == sorted(used)


def test_openke_files_are_head_tail_relation_with_counts(tmp_path: Path) -> None:
    dataset = read_folder(write(tmp_path / "in", train=TRAIN, valid=VALID, test=TEST))
    written = write_dataset(dataset, tmp_path / "out", format="openke")
    assert {path.name for path in written} == {
        "entity2id.txt", "relation2id.txt", "train2id.txt", "valid2id.txt", "test2id.txt"
    }  # fmt: skip
    assert (tmp_path / "out/entity2id.txt").read_text() == "3\na\t0\nb\t1\nc\t2\n"
    assert (tmp_path / "out/train2id.txt").read_text() == "3\n1 0 0\n0 2 0\n2 1 1\n"


def test_udd_files_are_id_then_name(tmp_path: Path) -> None:
    dataset = read_folder(write(tmp_path / "in", train=TRAIN, valid=VALID, test=TEST))
    write_dataset(dataset, tmp_path / "out", format="udd_htr")
    assert (tmp_path / "out/relations.dict").read_text() == "0\tr\n1\ts\n"
    assert (tmp_path / "out/train.txt").read_text() == "1\t0\t0\n0\t2\t0\n2\t1\t1\n"


def test_writing_refuses_what_cannot_be_read_again(tmp_path: Path) -> None:
    one = Triples.from_array(np.array([[0, 0, 1]]))
    for bad, what in (("a\tb", "a tab"), ("", "nothing at all")):
        dataset = Dataset("d", Vocabulary(["x", bad]), Vocabulary(["r"]), one, one, one)
        with pytest.raises(UserError, match=f"contains {what}"):
            write_dataset(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    good = Dataset("d", Vocabulary(["x", "y"]), Vocabulary(["r"]), one, one, one)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="holds something already"):
        write_dataset(good, tmp_path / "full")
    with pytest.raises(UserError, match="say which format"):
        write_dataset(good, tmp_path / "out", format="auto")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


# What is recognised


def test_ids_follow_the_order_of_names_whatever_the_order_of_lines(tmp_path: Path) -> None:
    first = read_folder(write(tmp_path / "1", train=TRAIN, valid=VALID, test=TEST))
    shuffled = "".join(sorted(TRAIN.splitlines(keepends=True)))
    second = read_folder(write(tmp_path / "2", train=shuffled, valid=VALID, test=TEST))
    assert list(first.entities) == list(second.entities) == ["a", "b", "c"]
    assert list(first.relations) == ["r", "s"]
    assert first.train.to_array().tolist() == [[1, 0, 0], [0, 0, 2], [2, 1, 1]]
    assert first.name == "1"
    assert first.warnings == ()


@pytest.mark.parametrize("ending", ["__txt", "__tsv", "__txt__gz", "__tsv__gz", "__csv"])
def test_endings(tmp_path: Path, ending: str) -> None:
    def encode(content: str) -> bytes:
        content = content.replace("\t", ",") if "csv" in ending else content
        return gzip.compress(content.encode()) if "gz" in ending else content.encode()

    files = {"train": TRAIN, "valid": VALID, "test": TEST}
    folder = write(tmp_path, **{f"{k}{ending}": encode(v) for k, v in files.items()})
    dataset = read_folder(folder)
    assert facts(dataset, "train") == [("b", "r", "a"), ("a", "r", "c"), ("c", "s", "b")]


def test_csv_names_may_be_quoted(tmp_path: Path) -> None:
    train = '"Smith, Ann",knows,"the ""Boss"""\nx,knows,y\n'
    folder = write(tmp_path, train__csv=train, valid__csv="x,knows,y\n", test__csv="y,knows,x\n")
    assert facts(read_folder(folder), "train")[0] == ("Smith, Ann", "knows", 'the "Boss"')


def test_numbers_and_special_words_stay_names(tmp_path: Path) -> None:
    # WN18RR's synsets begin with zeros; careless readers make numbers or missing values of these.
    train = "00260881\t1\t0260881\nNA\tnull\tNaN\n1.0\ttrue\t1\n"
    folder = write(tmp_path, train=train, valid="NA\t1\t1\n", test="1\ttrue\t1.0\n")
    dataset = read_folder(folder)
    assert facts(dataset, "train") == [tuple(row.split("\t")) for row in train.splitlines()]
    assert dataset.num_entities == 6


def test_crlf_and_blank_lines_at_the_end_are_silent(tmp_path: Path) -> None:
    plain = read_folder(write(tmp_path / "a", train=TRAIN, valid=VALID, test=TEST))
    crlf = TRAIN.replace("\n", "\r\n") + "\r\n\n\r\n"
    other = read_folder(write(tmp_path / "b", train=crlf, valid=VALID.rstrip("\n"), test=TEST))
    assert other.fingerprint == plain.fingerprint
    assert other.warnings == ()


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 7, 11, 64])
def test_blocks_are_invisible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    folder = write(tmp_path, train=TRAIN.replace("\n", "\r\n") + "\r\n\r\n", valid=VALID, test=TEST)
    whole = read_folder(folder)
    write(tmp_path / "bad", train="a\tr\tb\nb\tr\tc\n\n\nb\tr\n")
    monkeypatch.setattr(text, "_BLOCK_BYTES", block_bytes)
    assert read_folder(folder).fingerprint == whole.fingerprint
    with pytest.raises(UserError, match=r"train\.txt, line 3: is blank"):
        read_file(tmp_path / "bad" / "train.txt")


@pytest.mark.parametrize("order", ORDERS)
def test_dictionaries_give_ids_to_names(tmp_path: Path, order: str) -> None:
    swapped = {"h": "b", "r": "r", "t": "a"}
    line = "\t".join(swapped[letter] for letter in order) + "\n"
    folder = write(
        tmp_path, train=line, valid=line, test=line,
        entities__dict="2\ta\n0\tb\n1\tunused\n", relations__dict="0\tr\n",
    )  # fmt: skip
    dataset = read_folder(folder, format=f"names_{order}")
    assert list(dataset.entities) == ["b", "unused", "a"]
    assert dataset.train.to_array().tolist() == [[0, 0, 2]]
    sorted_ids = in_name_order(dataset)
    assert list(sorted_ids.entities) == ["a", "b", "unused"]
    assert facts(sorted_ids, "train") == facts(dataset, "train") == [("b", "r", "a")]


def test_layout_is_told_from_the_files(tmp_path: Path) -> None:
    dictionaries = {"entities__dict": "0\ta\n1\tb\n", "relations__dict": "0\tr\n"}
    ids = write(
        tmp_path / "ids", train="1\t0\t0\n", valid="0\t0\t1\n", test="0\t0\t1\n", **dictionaries
    )
    assert facts(read_folder(ids), "train") == [("b", "r", "a")]
    named = write(
        tmp_path / "named", train="b\tr\ta\n", valid="a\tr\tb\n", test="a\tr\tb\n", **dictionaries
    )
    assert facts(read_folder(named), "train") == [("b", "r", "a")]
    # Name before id is understood where the other reading makes no sense.
    turned = {"entities__dict": "a\t0\nb\t1\n", "relations__dict": "r\t0\n"}
    other = write(
        tmp_path / "turned", train="1\t0\t0\n", valid="0\t0\t1\n", test="0\t0\t1\n", **turned
    )
    assert facts(read_folder(other), "train") == [("b", "r", "a")]
    unclear = write(
        tmp_path / "unclear",
        train="1\t0\t0\n",
        valid="0\t0\t1\n",
        test="0\t0\t1\n",
        entities__dict="0\t1\n1\t0\n",  # the same either way
        relations__dict="0\t0\n",
    )
    with pytest.raises(
        UserError, match=r"say which with --set data\.format=udd_hrt or --set data\.format=names"
    ):
        read_folder(unclear)
    assert facts(read_folder(unclear, format="udd_hrt"), "train") == [("0", "0", "1")]
    assert facts(read_folder(unclear, format="names_hrt"), "train") == [("1", "0", "0")]


def test_tsv_dictionaries_are_told_from_labels(tmp_path: Path) -> None:
    line = "b\tr\ta\n"
    folder = write(
        tmp_path, train=line, valid=line, test=line,
        entities__tsv="1\ta\n0\tb\n", relations__tsv="0\tr\n",
    )  # fmt: skip
    assert list(read_folder(folder).entities) == ["b", "a"]
    write(tmp_path, entities__tsv="a\tthe first\nb\tthe second\n")
    assert list(read_folder(folder).entities) == ["a", "b"]


def test_false_triples_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path, train=TRAIN, valid=VALID, test=TEST, valid_negatives="a\tr\tb\n")
    dataset = read_folder(folder)
    assert dataset.valid_negatives is not None
    assert dataset.valid_negatives.to_array().tolist() == [[0, 0, 1]]
    assert dataset.test_negatives is None
    write(folder, test_negatives="a\tr\tb\na\tr\tnobody\n")
    with pytest.raises(UserError, match=r"test_negatives\.txt, line 2: entity 'nobody'"):
        read_folder(folder)


def test_format_names() -> None:
    for word in ("raw_udd_hrt", "names", "NAMES_hrt", "raw_udd"):
        layout = parse_format(word)
        assert layout is not None
        assert (layout.family, layout.order) == ("names", "hrt")
    layout = parse_format("udd_trh")
    assert layout is not None
    assert (layout.family, layout.order) == ("udd", "trh")
    assert parse_format("auto") is None
    for word in ("csv", "udd_hhr", "names_hr", "openke_hrt"):
        with pytest.raises(UserError, match="unknown format"):
            parse_format(word)


# One file, split by us


def test_one_file_is_split(tmp_path: Path) -> None:
    rows = [f"e{i % 13}\tr{i % 3}\te{i * 7 % 11}" for i in range(500)]
    distinct = sorted(set(rows))
    write(tmp_path, all__tsv="\n".join(rows) + "\n")
    dataset = read_file(tmp_path / "all.tsv", split_seed=3)
    found = sorted(f for split in ("train", "valid", "test") for f in facts(dataset, split))
    assert found == sorted(tuple(row.split("\t")) for row in distinct)
    assert dataset.name == "all"
    assert f"all.tsv: {500 - len(distinct)} duplicate triples removed" in dataset.warnings
    assert any("split with seed 3 into" in warning for warning in dataset.warnings)
    assert not any("never seen" in warning or "also in" in warning for warning in dataset.warnings)


def test_one_file_beside_its_own_split(tmp_path: Path) -> None:
    rows = "".join(f"e{i % 5}\tr\te{i % 7}\n" for i in range(35))
    write(tmp_path, train=rows, test=TEST)
    warnings = read_file(tmp_path / "train.txt").warnings
    assert any("although a test file lies beside it" in warning for warning in warnings)


@pytest.mark.realdata
def test_published_folders(data_root: Path) -> None:
    seen = 0
    for name in ("fb15k237", "wn18rr", "umls"):
        if (data_root / name).is_dir():
            seen += 1
            dataset = read_folder(data_root / name)
            for split in ("train", "valid", "test"):
                lines = (data_root / name / f"{split}.txt").read_text("utf-8").splitlines()
                assert ["\t".join(fact) for fact in facts(dataset, split)] == lines
    if not seen:
        pytest.skip("the data root holds none of fb15k237, wn18rr, umls")


def test_names_in_two_unicode_forms_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "cafes.tsv"
    rows = ["caf\u00e9\tin\tParis", "cafe\u0301\tin\tOslo", "caf\u00e9\tin\tOslo"]
    path.write_text("\n".join([*rows, *(f"a\tin\t{i}\nb\tin\t{i}" for i in range(9))]) + "\n")
    (told,) = [line for line in read_file(path).warnings if "Unicode" in line]
    assert told.startswith("1 entity name in another Unicode form")
    assert r"'cafe\u0301'" in told and r"'caf\xe9'" in told
    path.write_text(path.read_text().replace("e\u0301", "\u00e9"))
    assert not [line for line in read_file(path).warnings if "Unicode" in line]
