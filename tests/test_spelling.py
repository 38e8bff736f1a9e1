from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base import spelling
from dglke_distill.data.catalog import load

COUNTRIES = ["Latvia", "Lithuania", "Norway", "Liberia", "latvia", "Niger", "Nigeria", "x", ""]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("Latvai", "Latvia"), ("NORWAY", "Norway"), ("Lithunia", "Lithuania"), ("Nigera", "Nigeria")],
)
def test_misspelled_names_are_found(wrong, right):
    assert right in spelling.near_spellings(wrong, COUNTRIES)


def test_strange_names_find_nothing():
    for wrong in ("", "q", "zzzzzz", "a" * 1000):
        assert [name for name in spelling.near_spellings(wrong, COUNTRIES) if name] == []


NAMES = st.text("abcXY ", max_size=8)


@given(names=st.lists(NAMES, unique=True, max_size=30), wrong=NAMES)
def test_few_names_give_what_difflib_gives(names, wrong):
    """The shortlist leaves nothing out while it is longer than the list of names."""
    lowered = list(dict.fromkeys(name.lower() for name in names))
    best = difflib.get_close_matches(wrong.lower(), lowered, n=1, cutoff=spelling.ALIKE)
    got = spelling.near_spellings(wrong, names)
    assert all(name in names for name in got)
    if best:
        score = difflib.SequenceMatcher(None, best[0], wrong.lower()).ratio()
        mine = difflib.SequenceMatcher(None, got[0].lower(), wrong.lower()).ratio()
        assert mine == pytest.approx(score)
    else:
        assert got == []


def test_the_shortlist_keeps_the_name_meant(monkeypatch):
    """Every name with two letters swapped, looked for among 1,684 names by a shortlist of 20."""
    monkeypatch.setattr(spelling, "SHORTLIST", 20)
    names = list(load("cldr").entities)
    for name in names[::40]:
        if len(name) > 6:
            middle = len(name) // 2
            wrong = name[:middle] + name[middle + 1] + name[middle] + name[middle + 2 :]
            assert name in spelling.near_spellings(wrong, names) or wrong in names, name


def test_a_name_far_longer_than_all_others_is_compared_with_none(monkeypatch):
    """A million letters took fourteen seconds, whatever they were compared with."""
    monkeypatch.setattr(difflib, "get_close_matches", lambda wrong, names, **_: list(names))
    assert spelling.near_spellings("x" * 10**6, COUNTRIES) == []


def test_words_are_found_in_longer_names():
    names = ["hot dog", "Dog_house", "dogma", "cat", "dot"]
    assert spelling.likely_names("DOG", names) == ["hot dog", "Dog_house", "dogma"]
    assert spelling.likely_names("house", names) == ["Dog_house"]
    assert spelling.likely_names("hoses", names) == ["Dog_house"]
    assert spelling.likely_names("", names) == spelling.likely_names("zzz", names) == []


def test_what_is_far_is_not_suggested():
    relations = ["/people/person/nationality", "/location/open", "/music/notes_of/one"]
    assert spelling.likely_names("nope", relations) == []
    assert spelling.near_spellings("nope", ["one", "person", "hop"]) == []
    assert spelling.near_spellings("dgo", ["dog"]) == ["dog"]


def test_the_first_names_are_shown_where_none_is_near():
    names = [f"name {number}" for number in range(7)]
    assert spelling.known_names(names[:2]) == "known: 'name 0', 'name 1'"
    five = ", ".join(map(repr, names[:5]))
    assert spelling.known_names(names) == f"known: {five} and 2 more"
    assert spelling.known_names(names, "`x`") == f"known: {five} and 2 more (`x` lists all)"
    assert spelling.known_names([]) == "there are none"
    assert len(spelling.known_names(["x" * 10_000] * 9)) < 400


UNKNOWN = [
    (
        "discover complex-cldr-dim32 --relation nope",
        "unknown relation 'nope'; known: 'also_writ",
    ),
    ("discover complex-cldr-dim32 --relation uses_curency", "did you mean 'uses_currency'?"),
    ("predict complex-cldr-dim32 --head qqqqq --relation borders", "unknown entity 'qqqqq'; known"),
    ("predict complex-cldr-dim32 --head Latvai --relation borders", "did you mean 'Latvia'?"),
    ("zoo info qqqqq", "no model 'qqqqq'; known: 'complex-cldr-dim"),
    ("zoo info complex-cldr-dim31", "did you mean complex-cldr-dim32"),
    ("data info qqqqq", "a dataset of that name; the catalog has cldr"),
    ("data info fb15k238", "did you mean 'fb15k237'"),
    ("recipes show qqqqq", "no recipe 'qqqqq'; known: "),
    ("recipes show complx", "did you mean 'complex'"),
    ("train cldr --recipe qqqqq", "no recipe 'qqqqq'; known: "),
    ("train cldr --model qqqqq", "known: TransE"),
    ("run cldr --method qqqqq", "known: iterde"),
    ("evaluate complex-cldr-dim32 --split qqqqq", "choose train, valid or test"),
    ("evaluate complex-cldr-dim32 --protocol qqqqq", "choose all, seen, no-self"),
    ("export complex-cldr-dim32 --format qqqqq --out x", "known: "),
    ("tune cldr --space qqqqq", "no such space or file; known: "),
    ("data prepare f.csv --columns head=x,relation=b,tail=c", "no column 'x' among a, b, c"),
]


@pytest.mark.parametrize(("line", "words"), UNKNOWN, ids=[line for line, _ in UNKNOWN])
def test_every_unknown_name_is_answered_by_names(line, words, tmp_path, monkeypatch, capsys):
    from cli_fixtures import called

    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text("a,b,c\n1,r,2\n2,r,3\n")
    said = called(capsys, *line.split())
    assert said.code == 2 and said.err.count("\n") == 1
    assert words in said.err
