"""The page of file formats names what runs really leave."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from distill_fixtures import chain_tree, write_clock

import dglke_distill as kd
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "files.md"


def rows(heading: str) -> dict[str, str]:
    """Return the last cell of each row of a section's table by the names in its first cell."""
    (section,) = re.findall(
        rf"^## {heading}\n(.*?)^## ", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return {name: row[-1] for row in cells[1:] for name in re.findall("`([^`]+)`", row[0])}


def left(folder: Path) -> set[str]:
    """Return what lies in a folder, subfolders with a slash."""
    return {place.name + "/" * place.is_dir() for place in folder.iterdir()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


def test_a_run_leaves_what_the_page_says(data: Path, tmp_path: Path) -> None:
    kd.train(data, model="distmult", recipe="none", dim=4, epochs=1, threads=1, out=tmp_path / "it")
    assert left(tmp_path / "it") == set(rows("A run"))
    sometimes = {"labels.tsv", "calibration.safetensors", "README.md"}
    assert left(tmp_path / "it" / "checkpoint") == set(rows("A checkpoint")) - sometimes


def test_a_chain_leaves_what_the_page_says(data: Path, tmp_path: Path) -> None:
    tree = chain_tree(data)
    run_chain(ChainConfig.from_mapping({**tree, "dims": [8, 4]}, "test"), tmp_path / "it")
    assert left(tmp_path / "it") == set(rows("A chain")) - {"searches/", "report/"}
    stays = {name for name, stage in rows("A run").items() if stage == "yes"}
    for stage in (tmp_path / "it" / "stages").iterdir():
        assert left(stage) == stays
