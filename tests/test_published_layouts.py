"""Folders and files as others publish them: read as they are, or refused with the way on."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from format_fixtures import facts, write

from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog
from dglke_distill.data.formats import read_file, read_folder

Fact = tuple[str, str, str]
TRAIN = [(f"e{i % 7}", f"r{i % 2}", f"e{(3 * i + 1) % 7}") for i in range(14)]
VALID = [("e1", "r0", "e5"), ("e2", "r1", "e6")]
TEST = [("e3", "r0", "e6"), ("e4", "r1", "e0")]
SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


def table(rows: list[Fact], separator: str = "\t") -> str:
    return "".join(separator.join(row) + "\n" for row in rows)


def folder_of(
    folder: Path, names: dict[str, str], encode: Callable[[list[Fact]], bytes | str] = table
) -> Path:
    """Write the three splits under given names."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in names.items():
        content = encode(SPLITS[split])
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    return folder


def named(pattern: str, **words: str) -> dict[str, str]:
    return {split: pattern.format(words.get(split, split)) for split in SPLITS}


def assert_as_published(folder: Path) -> tuple[str, ...]:
    dataset = read_folder(folder)
    assert {split: facts(dataset, split) for split in SPLITS} == SPLITS
    return dataset.warnings


def refused(path: Path, *parts: str) -> str:
    """Return the one line with which a path is refused; it holds all parts."""
    with pytest.raises(UserError) as caught:
        read_folder(path) if path.is_dir() else read_file(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def obey(message: str, start: str) -> None:
    """Run the shell's command that begins with some words and ends the message."""
    command = message[message.index(start) :]
    subprocess.run(command, shell=True, check=True, executable="/bin/bash")


# Read as they are


@pytest.mark.parametrize(
    "names",
    [
        named("{}.txt"),
        named("{}"),
        named("{}.del"),
        named("{}.TXT", train="TRAIN", valid="VALID", test="TEST"),
        named("{}.Tsv", train="Train", valid="Valid", test="Test"),
        {"train": "train.txt", "valid": "VALID.tsv", "test": "Test"},
    ],
)
def test_usual_names_are_found_in_any_case_and_with_any_ending(
    tmp_path: Path, names: dict[str, str]
) -> None:
    assert assert_as_published(folder_of(tmp_path, names)) == ()


@pytest.mark.parametrize(
    "names",
    [
        named("wikidata5m_transductive_{}.txt"),
        named("{}_sample.tsv", valid="val"),
        named("freebase_mtr100_mte100-{}.txt"),
        named("umls.{}.tsv", valid="dev"),
        named("WN18RR-{}-set.tsv", train="TRAINING", valid="Validation", test="Testing"),
    ],
)
def test_longer_names_are_found_where_they_are_alike(tmp_path: Path, names: dict[str, str]) -> None:
    folder_of(tmp_path, names)
    write(tmp_path, train_nodes__csv="e0\tgene\n", entities__tsv="e0\tlabel of it\n")
    (warning,) = assert_as_published(tmp_path)
    assert all(name in warning for name in names.values())


@pytest.mark.parametrize("word", ["dev", "val", "validation"])
def test_other_words_for_valid_are_read_and_named(tmp_path: Path, word: str) -> None:
    (warning,) = assert_as_published(folder_of(tmp_path, named("{}.txt", valid=word)))
    assert f"{word}.txt was read as valid" in warning
    write(tmp_path, valid=table(TEST))
    warnings = read_folder(tmp_path).warnings
    assert any(f"{word}.txt was left aside" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_files_are_read(
    tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]
) -> None:
    def encode(rows: list[Fact]) -> bytes:
        return pack(table(rows).encode())

    folder = folder_of(tmp_path / "splits", named("{}.txt" + ending), encode)
    assert assert_as_published(folder) == ()
    one = tmp_path / f"kg.tsv{ending.upper()}"
    # Two members, one after the other, as `cat a.gz b.gz` makes them.
    one.write_bytes(pack(table(TRAIN).encode()) + pack(table(VALID + TEST).encode()))
    dataset = read_file(one)
    assert dataset.name == "kg"
    found = {fact for split in SPLITS for fact in facts(dataset, split)}
    assert found == {*TRAIN, *VALID, *TEST}
    one.write_bytes(pack(table(TRAIN).encode())[:-9])
    refused(one, "is not whole", "data: compress or download it again")


def test_libkge_numbers_its_triples(tmp_path: Path) -> None:
    entities = ["e3", "e0", "e6", "e5", "e1", "e2", "e4"]

    def ids(rows: list[Fact]) -> str:
        return table([(str(entities.index(h)), r[1:], str(entities.index(t))) for h, r, t in rows])

    folder_of(tmp_path, named("{}.del"), ids)
    (tmp_path / "entity_ids.del").write_text("".join(f"{i}\t{e}\n" for i, e in enumerate(entities)))
    (tmp_path / "relation_ids.del").write_text("0\tr0\n1\tr1\n")
    assert assert_as_published(tmp_path) == ()
    assert list(read_folder(tmp_path).entities) == entities
    # Its names are numbers as often as not; the id stands first by its own convention.
    (tmp_path / "entity_ids.del").write_text("0\t1\n1\t2\n2\t0\n3\t3\n4\t4\n5\t5\n6\t6\n")
    assert list(read_folder(tmp_path).entities) == ["1", "2", "0", "3", "4", "5", "6"]


def test_openke_is_found_in_any_case(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        Entity2id="2\na\t0\nb\t1\n",
        relation2id="1\nr\t0\n",
        TRAIN2ID="1\n0 1 0\n",
        valid2id="1\n0 1 0\n",
        test2id="1\n1 0 0\n",
        type_constrain="1\n",
    )
    assert facts(read_folder(folder), "test") == [("b", "r", "a")]
    (folder / "relation2id.txt").unlink()
    refused(folder, "has no relation2id.txt")


# Official splits are never thrown away


def test_a_split_that_is_there_is_never_advised_away(tmp_path: Path) -> None:
    for missing in ("valid", "test"):
        folder = folder_of(tmp_path / missing, named("{}.txt"))
        (folder / f"{missing}.txt").unlink()
        message = refused(folder, f"has no {missing}.txt", "add it (it may be empty)")
        assert "split" not in message.partition(".csv")[2]
    folder = folder_of(tmp_path / "mixed", named("kg_{}.txt"))
    (folder / "kg_test.txt").rename(folder / "other_test.txt")
    message = refused(folder, "kg_train.txt, kg_valid.txt", "rename")
    assert "have it split" not in message


def test_splits_of_an_unknown_ending_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, named("{}.facts"))
    message = refused(folder, "train.facts, valid.facts, test.facts", "rename it to .tsv")
    assert "have it split" not in message


def test_several_sets_of_splits_are_listed(tmp_path: Path) -> None:
    folder_of(tmp_path, named("wikidata5m_transductive_{}.txt"))
    folder_of(tmp_path, named("wikidata5m_inductive_{}.txt"))
    refused(
        tmp_path, "several sets of splits", "wikidata5m_inductive_valid.txt",
        "wikidata5m_transductive_test.txt",
    )  # fmt: skip
    folder_of(tmp_path, named("{}.txt"))  # the usual names count first
    assert_as_published(tmp_path)


def test_two_spellings_of_one_split_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, named("{}.txt"))
    (tmp_path / "TRAIN.TXT").write_text(table(TEST))
    if len(list(tmp_path.iterdir())) == 4:  # not where the file system knows no letter case
        refused(tmp_path, "holds both TRAIN.TXT and train.txt")


def test_one_file_of_a_set_is_split_with_a_warning(tmp_path: Path) -> None:
    folder_of(tmp_path, named("kg_{}.tsv"))
    warnings = read_file(tmp_path / "kg_train.tsv").warnings
    assert any("although a" in w and "kg_test.tsv, kg_valid.tsv" in w for w in warnings)


def test_triples_in_a_folder_below_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data" / "triples", named("{}.txt"))
    message = refused(tmp_path, f"lie in {folder}")
    assert "split" not in message
    refused(tmp_path / "data", f"lie in {folder}")
    folder_of(tmp_path / "data" / "more", named("x_{}.txt"))
    refused(tmp_path, "these folders", str(folder), str(tmp_path / "data" / "more"))


def test_a_folder_of_one_table_names_it(tmp_path: Path) -> None:
    write(tmp_path, README="how it was made\n", edges__tsv=table(TRAIN))
    refused(tmp_path, f"give {tmp_path / 'edges.tsv'} to have it split")
    write(tmp_path, nodes__tsv="e0\tgene\n")
    refused(tmp_path, "edges.tsv, nodes.tsv", "a single file that holds all facts")


# More columns, and other signs between them


def test_times_in_a_fourth_column(tmp_path: Path) -> None:
    def dated(rows: list[Fact]) -> str:
        return "".join("\t".join((*row, "2014-01-01")) + "\n" for row in rows)

    folder = folder_of(tmp_path / "icews 14", named("{}.txt"), dated)
    for split in SPLITS:
        path = folder / f"{split}.txt"
        message = refused(path, "has 4 columns", "times (such as 2014-01-01), which are not read")
        obey(message, "mkdir -p")
    assert_as_published(folder / "triples")


@pytest.mark.parametrize("separator", ["\t", " ", "  "])
def test_times_beside_ids(tmp_path: Path, separator: str) -> None:
    """As ICEWS and GDELT come: ids, a time, and one more number."""

    def five(rows: list[Fact]) -> str:
        ids = [(h[1:], r[1:], t[1:], str(24 * i), "-1") for i, (h, r, t) in enumerate(rows)]
        return "".join(separator.join(row) + "\n" for row in ids)

    folder = folder_of(tmp_path / "gdelt", named("{}.txt"), five)
    entities = "".join(f"{i}\te{i}\n" for i in range(7))
    write(folder, entities__dict=entities, relations__dict="0\tr0\n1\tr1\n")
    for split in SPLITS:
        with pytest.raises(UserError, match="has 5 columns where three ids are needed") as caught:
            read_file(folder / f"{split}.txt", format="udd_hrt")
        obey(str(caught.value), "mkdir -p")
    write(folder / "triples", entities__dict=entities, relations__dict="0\tr0\n1\tr1\n")
    assert_as_published(folder / "triples")


def test_columns_of_openbiolink(tmp_path: Path) -> None:
    def six(rows: list[Fact]) -> bytes:
        lines = ["\t".join((*row, "STRING", "0.9", "1")) + "\n" for row in rows]
        return gzip.compress("".join(lines).encode())

    names = named("{}_sample.csv.gz", valid="val")
    folder = folder_of(tmp_path / "train_test_data", names, six)
    refused(folder, "train_sample.csv.gz, line 1", "6 columns separated by tabs")
    for name in names.values():
        obey(refused(folder / name), "mkdir -p")
    assert_as_published(folder / "triples")
    refused(tmp_path, f"lie in {folder}")


def test_columns_by_name(tmp_path: Path) -> None:
    heading = "relation,display_relation,x_index,x_id,x_type,x_name,y_index,y_id,y_type,y_name\n"
    rows = [
        f'{r},ppi,0,9000,gene/protein,"{h}, beta",1,5,gene/protein,{t}\n'
        for h, r, t in TRAIN + VALID + TEST
    ]
    path = write(tmp_path, kg__csv=heading + "".join(rows)) / "kg.csv"
    message = refused(path, "has 10 columns", "x_name, relation, y_name")
    obey(message.replace("python -c", f"{sys.executable} -c"), "mkdir -p")
    dataset = read_file(tmp_path / "triples" / "kg.csv")
    found = {fact for split in SPLITS for fact in facts(dataset, split)}
    assert found == {(f"{h}, beta", r, t) for h, r, t in TRAIN + VALID + TEST}


@pytest.mark.parametrize(
    ("ending", "separator", "what"),
    [
        (".csv", ";", "semicolons"), (".txt", ";", "semicolons"), (".tsv", "|", "bars"),
        (".csv", "|", "bars"), (".txt", "||", "double bars"),
    ],
)  # fmt: skip
def test_other_signs_between_columns(
    tmp_path: Path, ending: str, separator: str, what: str
) -> None:
    names = named("{}" + ending)
    folder = folder_of(tmp_path, names, lambda rows: table(rows, separator))
    refused(folder, f"train{ending}, line 1", f"{what} separate them here")
    for name in names.values():
        message = refused(folder / name)
        obey(message.replace("python -c", f"{sys.executable} -c"), "mkdir -p")
    assert_as_published(folder / "triples")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("a\tr b\n", "correct the line"),
        ("a\tr,b\n", "separated by different signs"),
        ("a,r,b\n", "separated otherwise than in the lines before"),
        ("a;r;b\n", "separated otherwise than in the lines before"),
        ("# of 1 March\n", "comments are not read"),
        ("a\tr\tb\t\n", "the last ones are empty"),
        ("a\tr\tb\t17\n", "holds numbers, times or weights"),
        ("a\tr\tb\tc d\n", "keep head, relation and tail"),
        ("\tr\tb\n", "the name in column 1 is empty"),
        (" \tr\tb\n", "empty but for blanks"),
    ],
)
def test_single_lines(tmp_path: Path, line: str, part: str) -> None:
    write(tmp_path, kg=table(TRAIN) + line + table(TEST).rstrip("\n"))
    refused(tmp_path / "kg.txt", f"kg.txt, line {len(TRAIN) + 1}", part)


def test_a_quoted_line_break_is_named(tmp_path: Path) -> None:
    train = table(TRAIN, ",") + '"two\nlines",r0,e1\n'
    folder = write(
        tmp_path, train__csv=train, valid__csv=table(VALID, ","), test__csv=table(TEST, ",")
    )
    line = len(TRAIN) + 1
    refused(folder, f"train.csv, line {line}: a quoted name spans several lines")
    write(tmp_path, train__csv=table(TRAIN, ",") + '"never closed,r0,e1\ne1,r0,e2\n')
    refused(folder, f"train.csv, line {line}: a quoted name spans several lines")


# Blanks around names


def test_blanks_around_names_are_taken_away_and_counted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "csv", named("{}.csv"), lambda rows: table(rows, ", "))
    warnings = assert_as_published(folder)
    assert len(warnings) == 3
    assert f"train.csv: blanks around names were removed {2 * len(TRAIN)} times" in warnings[0]
    padded = "".join(f"\u00a0{h} \t{r}\t{t}\u3000\u200b\r\n" for h, r, t in TRAIN)
    folder = folder_of(tmp_path / "txt", named("{}.txt"))
    (folder / "train.txt").write_text(padded, encoding="utf-8", newline="")
    (warning,) = assert_as_published(folder)
    assert f"removed {2 * len(TRAIN)} times" in warning


def test_blanks_before_quotes(tmp_path: Path) -> None:
    quoted = "".join(f'{h}, "{r}", "{t}, or so"\n' for h, r, t in TRAIN)
    folder = folder_of(tmp_path, named("{}.csv"), lambda rows: table(rows, ","))
    (folder / "train.csv").write_text(quoted)
    dataset = read_folder(folder)
    assert facts(dataset, "train") == [(h, r, f"{t}, or so") for h, r, t in TRAIN]
    assert any(f"removed {2 * len(TRAIN)} times" in warning for warning in dataset.warnings)


def test_blanks_in_dictionaries(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, named("{}.txt"))
    entities = "".join(f"{i}\te{i} \n" for i in range(7))
    write(folder, entities__dict=entities, relations__dict="0\tr0\n1\t r1\n")
    assert len(assert_as_published(folder)) == 2


# Archives


def test_a_zip_of_splits(tmp_path: Path) -> None:
    path = tmp_path / "my kg.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split, rows in SPLITS.items():
            archive.writestr(f"{split}.txt", table(rows))
    refused(tmp_path, f"my kg.zip holds them: give {path}")
    assert len(catalog.load(str(path)).train) == len(SPLITS["train"])
