"""Both readers refuse what is damaged, before they take memory for it, and agree on what is not."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_code_faults import CODE_FAULTS, CODE_SOUND, of_codes
from bundle_faults import DIM, ENTITIES, FAULTS, NAMES, RELATIONS, SOUND, joined, split, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from kg_bundle import Bundle
from reader_fixtures import JAVASCRIPT_READER

node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

FAULTS = {**FAULTS, **CODE_FAULTS}
SOUND = {**SOUND, **CODE_SOUND}

SCRIPT = """
import { Bundle } from "./kg_bundle.mjs";
import { readFileSync } from "node:fs";
const results = {};
for (const name of JSON.parse(readFileSync(process.argv[2], "utf-8"))) {
  const file = readFileSync(name);
  const content = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
  const before = performance.now();
  let error = null;
  let made = null;
  try {
    const bundle = new Bundle(content);
    const names = bundle.entities;
    made = { names, scores: Array.from(bundle.scores(1, 2, "tail")) };
  } catch (problem) {
    error = `${problem.name}: ${problem.message}`;
  }
  results[name] = { error, made, seconds: (performance.now() - before) / 1000 };
}
const polluted = {}.dtype ?? {}.a ?? {}.length ?? null;
console.log(JSON.stringify({ results, polluted, peak: process.resourceUsage().maxRSS }));
"""


def in_node(folder: Path, files: dict[str, bytes]) -> dict[str, Any]:
    """Read files by the JavaScript reader, in a process of little memory."""
    shutil.copy(JAVASCRIPT_READER, folder / "kg_bundle.mjs")
    (folder / "script.mjs").write_text(SCRIPT, encoding="utf-8")
    places = {}
    for number, (name, data) in enumerate(files.items()):
        places[str(folder / f"{number}.bundle")] = name
        (folder / f"{number}.bundle").write_bytes(data)
    (folder / "list.json").write_text(json.dumps(list(places)))
    done = subprocess.run(
        ["node", "--max-old-space-size=128", "script.mjs", "list.json"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["polluted"] is None
    return {places[place]: result for place, result in found["results"].items()}


@pytest.mark.parametrize("what", FAULTS)
def test_python_refuses(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(FAULTS[what]())
    size = path.stat().st_size
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with pytest.raises(ValueError, match=r"no bundle|damaged"):
            Bundle(path)
        assert time.perf_counter() - begun < 5
        assert tracemalloc.get_traced_memory()[1] < (1 << 20) + 40 * size
    finally:
        tracemalloc.stop()


@node
def test_javascript_refuses(tmp_path: Path) -> None:
    found = in_node(tmp_path, {what: make() for what, make in FAULTS.items()})
    accepted = [what for what, result in found.items() if result["error"] is None]
    assert accepted == []
    said = {what: result["error"] for what, result in found.items()}
    assert [e for e in said.values() if not e.startswith(("Error: no b", "Error: damaged"))] == []
    assert max(result["seconds"] for result in found.values()) < 5


@pytest.mark.parametrize("what", SOUND)
def test_python_reads_what_is_sound(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(SOUND[what]())
    scores = Bundle(tmp_path / "file").scores(1, 2, "tail")
    assert np.isfinite(scores).all() and len(scores) in (ENTITIES, 8)


@node
def test_javascript_reads_what_is_sound_alike(tmp_path: Path) -> None:
    files = {what: make() for what, make in SOUND.items()}
    for what, result in in_node(tmp_path, files).items():
        assert result["error"] is None, (what, result["error"])
        (tmp_path / "file").write_bytes(files[what])
        bundle = Bundle(tmp_path / "file")
        assert result["made"]["names"] == list(bundle.entities)
        np.testing.assert_allclose(result["made"]["scores"], bundle.scores(1, 2, "tail"), rtol=1e-6)
    assert list(Bundle(tmp_path / "0.bundle").entities) == NAMES


def test_what_is_written_scores_by_the_formula(tmp_path: Path) -> None:
    """The sound bundle's own scores, written out."""
    (tmp_path / "file").write_bytes(whole())
    vectors = np.arange(ENTITIES * DIM, dtype=np.float32).reshape(ENTITIES, DIM)
    query = vectors[1] * 1 - 1
    difference = vectors - query
    pairs = np.hypot(difference[:, :2], difference[:, 2:])
    scores = Bundle(tmp_path / "file").scores(1, RELATIONS - 1, "tail")
    np.testing.assert_allclose(scores, -pairs.sum(axis=1), rtol=1e-6)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.sampled_from([[], {}, [5, 4], 2**53, -1, "entity", "float32", {"array": "entity"}]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in inside:
        found.append((*path, key))
        if isinstance(inner, (dict, list)):
            found += places(inner, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A sound bundle with one or two changes: of a value in its header, or of a byte."""
    bundle = draw(st.sampled_from([whole(), SOUND["matrices"](), of_codes()]))
    text, body = split(bundle)
    header = json.loads(text)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(header)))
        inner = header
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = draw(JUNK)
    data = bytearray(joined(json.dumps(header), body, bundle[8]))
    if draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def outcome(path: Path) -> Any:
    """Return the scores of a file, or None where it is refused."""
    try:
        bundle = Bundle(path)
    except ValueError:
        return None
    with np.errstate(all="ignore"):
        return bundle.scores(0, 0, next(iter(bundle.header["query"])))


@settings(deadline=None)
@given(changed())
def test_python_refuses_or_scores(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(data)
    found = outcome(path)
    assert found is None or len(found) == ENTITIES


@node
@settings(deadline=None, max_examples=5)
@given(st.lists(changed(), min_size=60, max_size=60))
def test_both_refuse_the_same(
    tmp_path_factory: pytest.TempPathFactory, several: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    found = in_node(folder, {str(i): data for i, data in enumerate(several)})
    for i in range(len(several)):
        error = found[str(i)]["error"]
        refused = error is not None and error.startswith(("Error: no b", "Error: damaged"))
        assert refused == (outcome(folder / f"{i}.bundle") is None), (i, error)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull), "/dev/zero"):
        with pytest.raises(ValueError, match="no file"):
            Bundle(path)


def test_a_sparse_file_takes_no_memory(tmp_path: Path) -> None:
    """Sixty gigabytes of zeros behind a sound header."""
    path = tmp_path / "sparse"
    path.write_bytes(whole())
    os.truncate(path, 60 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(Bundle(path).scores(0, 0)) == ENTITIES
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < (100 << 10 if sys.platform == "linux" else 100 << 20)
