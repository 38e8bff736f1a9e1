"""Dictionaries of ids: never read the wrong way round."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from format_fixtures import facts, write

from dglke_distill.base.errors import UserError
from dglke_distill.data.dictionaries import ambiguous_dictionary, is_dictionary, read_dictionary
from dglke_distill.data.formats import read_folder
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.data.writers import write_dataset
from dglke_distill.interop import dglke_folder

NAMES = ["2", "0", "1"]  # by id; the other reading has ["1", "2", "0"]
ID_NAME = "0\t2\n1\t0\n2\t1\n"
NAME_ID = "2\t0\n0\t1\n1\t2\n"


@pytest.mark.parametrize("content", [ID_NAME, NAME_ID])
@pytest.mark.parametrize("file", ["entities.dict", "entities.tsv"])
def test_what_can_be_read_both_ways_is_refused(tmp_path: Path, file: str, content: str) -> None:
    path = tmp_path / file
    path.write_text(content)
    assert is_dictionary(path)
    with pytest.raises(UserError, match=r"as ids and names or as names and ids; say which by a"):
        read_dictionary(path)


@pytest.mark.parametrize(
    ("heading", "rows"),
    [
        ("id\tname", ID_NAME), ("ID\tLabel", ID_NAME), ("#id\tentity", ID_NAME),
        ("name\tid", NAME_ID), ("entity\tid", NAME_ID), ("label\tindex", NAME_ID),
    ],
)  # fmt: skip
def test_a_heading_says_which(tmp_path: Path, heading: str, rows: str) -> None:
    path = tmp_path / "entities.dict"
    path.write_text(f"{heading}\n{rows}")
    assert read_dictionary(path) == NAMES
    assert is_dictionary(path)


def test_conventions_say_which(tmp_path: Path) -> None:
    path = tmp_path / "entity2id.txt"
    path.write_text(f"3\n{NAME_ID}")
    assert read_dictionary(path, openke=True) == NAMES
    path = tmp_path / "entity_ids.del"
    path.write_text(ID_NAME)
    assert read_dictionary(path, id_first=True) == NAMES


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("0\t5\n1\t7\n2\t1\n", ["5", "7", "1"]),  # one column alone holds 0 to 2
        ("5\t0\n7\t1\n1\t2\n", ["5", "7", "1"]),
        ("0\t1\n1\t0\n2\t2\n", ["1", "0", "2"]),  # the same either way
        ("2\t2\n0\t0\n1\t1\n", ["0", "1", "2"]),
        ("0\tid\n1\tname\n", ["id", "name"]),
    ],
)
def test_what_can_be_read_one_way_is_read(tmp_path: Path, content: str, names: list[str]) -> None:
    path = tmp_path / "entities.dict"
    path.write_text(content)
    assert read_dictionary(path) == names


def test_every_numbering_of_four(tmp_path: Path) -> None:
    """Whatever is read without an error is right both for id-name and for name-id."""
    path = tmp_path / "entities.dict"
    refused = 0
    for ids in itertools.permutations(range(4)):
        names = [str(i) for i in ids]
        id_first = "".join(f"{i}\t{name}\n" for i, name in enumerate(names))
        name_first = "".join(f"{name}\t{i}\n" for i, name in enumerate(names))
        for content in (id_first, name_first):
            path.write_text(content)
            try:
                assert read_dictionary(path) == names
            except UserError:
                refused += 1
                assert ambiguous_dictionary(names)
    assert refused == 2 * 14  # of 24 permutations ten are their own inverse


def test_a_folder_is_refused_and_mended_by_a_heading(tmp_path: Path) -> None:
    line = "n1\tr\tn2\n".replace("n", "")
    folder = write(
        tmp_path, train=line, valid=line, test=line,
        entities__dict=ID_NAME, relations__dict="0\tr\n",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"entities\.dict: its names are numbers too"):
        read_folder(folder)
    write(folder, entities__dict=f"id\tname\n{ID_NAME}")
    assert list(read_folder(folder, format="names_hrt").entities) == NAMES


def test_our_own_files_of_such_names_come_back(tmp_path: Path) -> None:
    triples = Triples.from_array(np.array([[0, 0, 1], [1, 0, 2]]))
    dataset = Dataset(
        "made", Vocabulary(NAMES), Vocabulary(["r"], kind="relation"), triples, triples, triples
    )
    write_dataset(dataset, tmp_path / "out", format="udd_hrt")
    again = read_folder(tmp_path / "out", format="udd_hrt")
    assert list(again.entities) == NAMES
    assert facts(again, "train") == [("2", "r", "0"), ("0", "r", "1")]


# DGL-KE's published arrays


def arrays(folder: Path, entities: str, **settings: str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(folder / "DRKG_TransE_l2_entity.npy", rows)
    np.save(folder / "DRKG_TransE_l2_relation.npy", rows[:1])
    (folder / "entities.tsv").write_text(entities)
    (folder / "relations.tsv").write_text("treats\t0\n")
    return folder


def test_rows_of_a_teacher_are_not_permuted(tmp_path: Path) -> None:
    folder = arrays(tmp_path, NAME_ID)
    (folder / "config.json").write_text('{"model_name": "TransE_l2", "dataset": "DRKG"}')
    with pytest.raises(UserError, match=r"entities\.tsv: its names are numbers too"):
        dglke_folder.open_folder(folder)
    arrays(folder, f"name\tid\n{NAME_ID}")
    assert dglke_folder.open_folder(folder).entities.names == NAMES


def test_settings_that_are_missing_are_spelled_out(tmp_path: Path) -> None:
    folder = arrays(tmp_path, "Gene::1\t0\nGene::2\t1\nGene::3\t2\n")
    with pytest.raises(UserError, match=r"config\.json: is missing; ") as caught:
        dglke_folder.open_folder(folder)
    message = str(caught.value)
    example = message[message.index("{") : message.index("}") + 1]
    for key in ("model_name", "gamma", "hidden_dim", "dataset"):
        assert f'"{key}"' in example
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"does not say which model it is; .*model_name"):
        dglke_folder.open_folder(folder)
    (folder / "config.json").write_text(example)  # as the message says
    opened = dglke_folder.open_folder(folder)
    assert opened.entities.names == ["Gene::1", "Gene::2", "Gene::3"]
    assert (opened.config.name, opened.config.dim) == ("TransE", 4)
