"""Whatever lies in a folder of triples, the answer is a dataset or one line of our own."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.data.formats import read_file, read_folder

ROWS = [
    b"a\tr\tb\n",
    b"b\tr\tc\n",
    b"c\ts\ta\n",
    b"a,r,b\n",
    b'"x, y",r,"z"\n',
    b"0\t1\t2\n",
    b"2 1 0\n",
    b"head\trelation\ttail\n",
    b"<a> <b> <c> .\n",
    b'{"h": 1}\n',
    b"# more\n",
    b"\n",
    b" a \tr\tb\xc2\xa0\r\n",
    b"3\n",
    b"0\ta\n",
    b"1\tb\n",
    b"2\tc\n",
    b"a\t0\n",
    b"id\tname\n",
    b"a;r;b\n",
    b"a\tr\tb\t2014-01-01\n",
    b'"open\n',
    b"\xef\xbb\xbfa\tr\tb\n",
    b"\xff\xfea\0\n",
    b"PK\x03\x04",
    b"\0",
]
NAMES = [
    "train.txt",
    "valid.txt",
    "test.txt",
    "TRAIN.CSV",
    "dev.tsv",
    "train",
    "train.del",
    "x_train.tsv",
    "x_valid.tsv",
    "x_test.tsv",
    "train.nt",
    "kg.tsv",
    "kg.zip",
    "entities.dict",
    "relations.dict",
    "entity_ids.del",
    "relation_ids.del",
    "entity2id.txt",
    "relation2id.txt",
    "train2id.txt",
    "valid_negatives.txt",
    "train.txt.gz",
    "valid.csv.bz2",
    "test.xz",
]
PACKS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}

texts = st.lists(st.sampled_from(ROWS), max_size=6).map(b"".join)
contents = texts | st.tuples(texts, st.binary(max_size=4), texts).map(b"".join)
SPLITS = {name: texts for name in ("train.txt", "valid.txt", "test.txt")}
folders = st.dictionaries(st.sampled_from(NAMES), contents, max_size=5) | st.builds(
    lambda some, splits: {**some, **splits},
    st.dictionaries(st.sampled_from(NAMES), contents, max_size=2),
    st.fixed_dictionaries(SPLITS),
)


@settings(max_examples=150, deadline=None)
@given(
    files=folders,
    format=st.sampled_from(["auto", "names_hrt", "udd_htr", "openke"]),
    header=st.none() | st.booleans(),
)
def test_only_our_own_errors(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    format: str,
    header: bool | None,
) -> None:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    for name, content in files.items():
        pack = PACKS.get(Path(name).suffix, bytes)
        (folder / name).write_bytes(pack(content))
    for path in (folder, *sorted(folder.iterdir())):
        try:
            read = read_folder if path.is_dir() else read_file
            dataset = read(path, format=format, header=header)
        except UserError as error:
            assert "\n" not in str(error)
            assert folder.name in str(error)
        else:
            assert len(dataset.train)
            assert all(name == name.strip() and name for name in dataset.entities)
