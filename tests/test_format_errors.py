from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest
from format_fixtures import TEST, TRAIN, VALID, facts, write

from dglke_distill.base.errors import UserError
from dglke_distill.data.formats import read_file, read_folder
from dglke_distill.data.text import lines

# One clear error each

GOOD_TRAIN = "a\tr\tb\n"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("a\tr\tb\na\tr\n", r"train\.txt, line 2: has 2 columns where three separated by tabs"),
        ("a\tr\tb\tc\n", r"line 1: has 4 columns"),
        ("a\tr\tb\na\tr\tb\tc\n", r"line 2: has 4 columns"),
        ("a\tr\n" * 3, r"line 1: has 2 columns"),
        ("a r b\n", r"line 1: has 1 column .*replace the spaces between columns by tabs"),
        ("a,r,b\n", r"line 1: has 1 column .*a name in \.csv"),
        ("1\n0 1 0\n", r"line 1: has 1 column .*--set data\.format=openke"),
        ("a\tr\tb\n\nb\tr\ta\n", r"line 2: is blank; remove it"),
        ("\na\tr\tb\n", r"line 1: is blank; remove it"),
        ("a\tr\tb\nb\t\ta\n", r"line 2: the name in column 2 is empty"),
        ("a\tr\tb\nb\tr\t\n", r"line 2: the name in column 3 is empty"),
        (b"a\tr\tb\n\xe9t\xe9\tr\tb\n", r"line 2: byte 1 is not UTF-8; save the file as UTF-8"),
        ("a\tr\tb\n".encode("utf-16"), r"train\.txt: is text in UTF-16, .*iconv -f UTF-16 "),
        ("a\tr\tb\n\0", r"line 2: contains a zero byte; save the file as UTF-8"),
        ("a\tr\tb\rb\tr\ta\r", r"line 1: contains a carriage return inside the line"),
        ("", r"the train split is empty"),
        ("\n\n", r"the train split is empty"),
        (gzip.compress(b"a\tr\tb\n", mtime=0), r"is gzip-compressed: rename it to train\.txt\.gz"),
    ],
)  # fmt: skip
def test_malformed_names(tmp_path: Path, train: str | bytes, message: str) -> None:
    folder = write(tmp_path, train=train, valid=GOOD_TRAIN, test=GOOD_TRAIN)
    with pytest.raises(UserError, match=message) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": "0\t0\t1\n2\t0\t0\n"}, r"train\.txt, line 2: entity id 2 is unknown: ids run"),
        ({"train": "0\t1\t1\n"}, r"line 1: relation id 1 is unknown"),
        ({"train": "0\t0\t-1\n"}, r"line 1: entity id -1 is unknown"),
        ({"train": "0\t0\t1\n0\tr\t1\n"}, r"line 2: 'r' is not an id"),
        ({"train": "0\t0\t1\n0\t0\t1.5\n"}, r"line 2: '1\.5' is not an id"),
        ({"train": f"0\t0\t{10**30}\n"}, r"line 1: '10+' is not an id"),
        ({"train": "0\t0\t1\n0\t0\n"}, r"line 2: has 2 columns"),
        ({"train": "0\t0\n" * 2}, r"line 1: has 2 columns"),
        ({"train": "0\t0\t1\t1\n"}, r"line 1: has 4 columns"),
        ({"train": "0\t0\t1\n\n0\t0\t1\n"}, r"line 2: is blank"),
        ({"entities__dict": "0\ta\n2\tb\n"}, r"entities\.dict, line 2: id 2 is too large"),
        ({"entities__dict": "0\ta\n0\tb\n"}, r"entities\.dict, line 2: id 0 was given before"),
        ({"entities__dict": "0\ta\n1\ta\n"}, r"entities\.dict, line 2: 'a' already stands"),
        ({"entities__dict": "0\ta\nx\tb\n"}, r"entities\.dict, line 2: 'x' is not an id"),
        ({"entities__dict": "0\ta\n1\n"}, r"entities\.dict, line 2: an id and a name"),
        ({"entities__dict": ""}, r"entities\.dict is empty"),
    ],
)  # fmt: skip
def test_malformed_ids(tmp_path: Path, change: dict[str, str], message: str) -> None:
    files = {
        "train": "0\t0\t1\n",
        "valid": "0\t0\t1\n",
        "test": "0\t0\t1\n",
        "entities__dict": "0\ta\n1\tb\n",
        "relations__dict": "0\tr\n",
    }
    folder = write(tmp_path, **{**files, **change})
    with pytest.raises(UserError, match=message):
        read_folder(folder, format="udd_hrt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train2id": "2\n0 1 0\n"}, r"train2id\.txt, line 1: promises 2 triples but 1 follow"),
        ({"train2id": "0 1 0\n"}, r"train2id\.txt, line 1: '0 1 0' is not a count"),
        ({"train2id": ""}, r"train2id\.txt is empty"),
        ({"train2id": "1\n0 1 7\n"}, r"train2id\.txt, line 2: relation id 7 is unknown"),
        ({"entity2id": "3\na\t0\nb\t1\n"}, r"entity2id\.txt, line 1: promises 3 names"),
        ({"entity2id": "a\t0\nb\t1\n"}, r"entity2id\.txt, line 1: 'a\\t0' is not a count"),
    ],
)  # fmt: skip
def test_malformed_openke(tmp_path: Path, change: dict[str, str], message: str) -> None:
    files = {
        "train2id": "1\n0 1 0\n",
        "valid2id": "1\n0 1 0\n",
        "test2id": "1\n1 0 0\n",
        "entity2id": "2\na\t0\nb\t1\n",
        "relation2id": "1\nr\t0\n",
    }
    assert facts(read_folder(write(tmp_path / "good", **files)), "test") == [("b", "r", "a")]
    with pytest.raises(UserError, match=message):
        read_folder(write(tmp_path / "bad", **{**files, **change}))


def test_names_outside_the_dictionary(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        train="a\tr\tb\nb\tr\tc\n",
        valid=GOOD_TRAIN,
        test=GOOD_TRAIN,
        entities__dict="0\ta\n1\tb\n",
        relations__dict="0\tr\n",
    )
    with pytest.raises(
        UserError, match=r"train\.txt, line 2: entity 'c' is not in .*entities\.dict"
    ):
        read_folder(folder)


def test_damaged_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(TRAIN.encode() * 100)
    for content in (packed[:-12], packed[:20] + b"\0\0\0" + packed[23:], b"not gzip"):
        folder = write(tmp_path, train__txt__gz=content, valid=VALID, test=TEST)
        with pytest.raises(UserError, match=r"train\.txt\.gz is not whole gzip data"):
            read_folder(folder)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no train\.txt, \.tsv or \.csv: give the path of a"):
        read_folder(write(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"has no valid\.txt.*train\.txt alone to have it split"):
        read_folder(write(tmp_path / "a", train=TRAIN))
    with pytest.raises(UserError, match=r"has no valid\.txt.*: add it \(it may be empty\)$"):
        read_folder(write(tmp_path / "b", train=TRAIN, test=TEST))
    with pytest.raises(UserError, match=r"holds both train\.txt and train\.tsv"):
        read_folder(write(tmp_path / "c", train=TRAIN, train__tsv=TRAIN, valid=VALID, test=TEST))
    with pytest.raises(UserError, match=r"has no entities\.dict: it must name the ids"):
        read_folder(write(tmp_path / "d", train=TRAIN, valid=VALID, test=TEST), format="udd_hrt")
    with pytest.raises(UserError, match="there is no file"):
        read_file(tmp_path / "nothing.tsv")


# Stated warnings


def read_with(tmp_path: Path, **files: str | bytes) -> tuple[str, ...]:
    splits = {"train": TRAIN, "valid": VALID, "test": TEST}
    return read_folder(write(tmp_path, **{**splits, **files})).warnings


def only(warnings: tuple[str, ...], pattern: str) -> None:
    assert len(warnings) == 1, warnings
    assert re.search(pattern, warnings[0]), warnings[0]


def test_byte_order_mark(tmp_path: Path) -> None:
    only(read_with(tmp_path, train=b"\xef\xbb\xbf" + TRAIN.encode()), r"train\.txt: the byte-order")
    assert "\ufeffb" not in read_folder(tmp_path).entities


def test_duplicates_are_counted_and_kept(tmp_path: Path) -> None:
    doubled = TRAIN + "c\ts\tb\nc\ts\tb\n"
    only(read_with(tmp_path, train=doubled), r"train: 2 duplicate triples kept, e\.g\. \(c, s, b\)")
    assert len(read_folder(tmp_path).train) == 5


def test_leakage_is_counted(tmp_path: Path) -> None:
    warnings = read_with(tmp_path, valid=VALID + "b\tr\ta\n", test=TEST + VALID)
    assert [w for w in warnings if w.startswith("valid: 1 triple also in train, e.g. (b, r, a)")]
    assert [w for w in warnings if w.startswith("test: 1 triple also in valid, e.g. (a, s, b)")]
    assert len(warnings) == 2


def test_unseen_names_are_counted_and_kept(tmp_path: Path) -> None:
    warnings = read_with(tmp_path, test="a\tr\tx\nx\tnew\ty\n")
    assert "test: 2 triples with 2 entities never seen in train, e.g. x" in warnings
    assert "test: 1 triple with 1 relation never seen in train, e.g. new" in warnings
    assert len(read_folder(tmp_path).test) == 2


def test_false_triples_that_are_facts(tmp_path: Path) -> None:
    only(
        read_with(tmp_path, valid_negatives=VALID), r"valid_negatives: 1 triple given as false but"
    )


def test_empty_valid_or_test_is_legal(tmp_path: Path) -> None:
    only(read_with(tmp_path, valid=""), "valid is empty: the last model is kept")
    assert len(read_folder(tmp_path).valid) == 0


def test_heading_and_wrong_order_are_suspected(tmp_path: Path) -> None:
    warnings = read_with(tmp_path / "1", train="Head\tRelation\tTail\n" + TRAIN)
    only(warnings, r"train\.txt, line 1: Head, Relation, Tail was taken for a heading and left out")
    turned = "b\ta\tr\na\tc\tr\nc\tb\ts\n"
    warnings = read_with(tmp_path / "2", train=turned, valid="a\tb\ts\n", test="c\ta\tr\n")
    assert any("not in the order hrt" in warning for warning in warnings)


@pytest.mark.parametrize("name", ["triples.tsv", "triples.tsv.gz"])
def test_what_is_no_file_of_text_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Neither waits for a writer, nor reads what never ends."""
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(UserError, match="is a pipe; a regular file is needed; save what it gives"):
        next(lines(path))
    folder = write(tmp_path / "splits", valid=VALID, test=TEST)
    os.mkfifo(folder / "train.txt")
    with pytest.raises(UserError, match=r"train\.txt: is a pipe; a regular file is needed"):
        read_folder(folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a device; a regular file is needed"):
        next(lines(path))


def test_a_file_of_holes_or_blanks_is_refused_after_its_first_block(tmp_path: Path) -> None:
    path = tmp_path / "triples.tsv"
    with open(path, "wb") as stream:
        stream.write(b"a\tr\tb\n")
        stream.truncate(64 << 30)
    with pytest.raises(UserError, match="line 2: contains a zero byte"):
        list(lines(path))
    with gzip.open(tmp_path / "blank.tsv.gz", "wb", compresslevel=1) as stream:
        stream.write(b"\n" * (65 << 20))
    with pytest.raises(UserError, match="line 1: contains over 64 MiB without text"):
        list(lines(tmp_path / "blank.tsv.gz"))
