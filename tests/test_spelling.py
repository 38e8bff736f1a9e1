from __future__ import annotations

import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.data import spelling
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
    best = difflib.get_close_matches(wrong.lower(), lowered, n=1)
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


def test_words_are_found_in_longer_names():
    names = ["hot dog", "Dog_house", "dogma", "cat", "dot"]
    assert spelling.likely_names("DOG", names) == ["hot dog", "Dog_house", "dogma"]
    assert spelling.likely_names("house", names) == ["Dog_house"]
    assert spelling.likely_names("hoses", names) == ["Dog_house"]
    assert spelling.likely_names("", names) == spelling.likely_names("zzz", names) == []
