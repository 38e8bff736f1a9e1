"""What the README, the files for contributors and the release promise."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from parsed import tree_of

import dglke_distill

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dglke_distill"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    last for line in PROJECT["classifiers"] if (last := line.rpartition(" :: ")[2]).startswith("3.")
]


def test_the_reader_in_javascript_passes_its_own_tests() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run(
        [node, "--test"], cwd=ROOT / "readers" / "js", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^# pass [1-9]", done.stdout, flags=re.MULTILINE)


def test_readers_are_of_one_version() -> None:
    package = json.loads((ROOT / "readers" / "js" / "package.json").read_text(encoding="utf-8"))
    text = (ROOT / "readers" / "python" / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    assert (package["name"], package["version"]) == (project["name"], project["version"])
    for name in (*package["files"], package["exports"]["."]["default"]):
        assert (ROOT / "readers" / "js" / name).is_file()


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_every_supported_python_is_tested() -> None:
    """By nox, and by the workflow: the gate's Python, and the others in its matrix."""
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--list", "--noxfile", str(ROOT / "noxfile.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    chosen = re.findall(r"^\* (\S+)", done.stdout, flags=re.MULTILINE)
    assert [name for name in chosen if name.startswith("tests")] == [f"tests-{v}" for v in PYTHONS]
    assert {name.partition("-")[0] for name in chosen} == {
        "tests",
        "lint",
        "dist",
        "readers",
        "walk",
    }
    jobs = workflow("ci.yml")["jobs"]
    gate = [s["with"]["python-version"] for s in jobs["gate"]["steps"] if "python" in str(s)]
    assert {*gate, *jobs["tests"]["strategy"]["matrix"]["python"]} == set(PYTHONS)


def test_the_walk_of_ten_minutes_is_walked_where_only_python_is() -> None:
    job = workflow("ci.yml")["jobs"]["walk"]
    assert job["strategy"]["matrix"]["python"] == ["3.12", "3.13"]
    assert job["steps"][-1]["run"] == "nox -s walk-${{ matrix.python }}"


def test_a_release_is_built_by_what_make_dist_runs() -> None:
    steps = [step.get("run", "") for step in workflow("release.yml")["jobs"]["build"]["steps"]]
    assert "nox -s dist readers" in steps
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^dist:.*\n\t.*nox --session dist readers$", makefile, flags=re.MULTILINE)


def test_slow_files_are_there_and_marked(request: pytest.FixtureRequest) -> None:
    import conftest

    there = {path.stem[len("test_") :] for path in (ROOT / "tests").glob("test_*.py")}
    assert there >= conftest.SLOW
    assert conftest.is_slow(ROOT / "tests" / "test_train.py")
    assert not conftest.is_slow(Path(__file__))
    assert "slow" not in request.node.keywords


def test_versions_agree() -> None:
    version = dglke_distill.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version
    headings = re.findall(
        r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert headings[0] == "Unreleased"
    assert f"{version} - {citation['date-released']}" in headings


def test_targets_that_contributors_are_told_of_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"test", "test-fast", "lint", "coverage", "dist"} <= targets
    for target in targets:
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    for path in re.findall(r"`(?:python )?([\w./]+\.(?:py|toml|cff|md))\b", text):
        assert (ROOT / path).exists() or (ROOT / "dglke_distill" / path).exists(), path


def test_files_to_copy_for_a_component_are_there() -> None:
    from dglke_distill.config import components

    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) == 7
    for _, outside, inside, registry, test in rows:
        (name,) = re.findall(r"`(\w+\.py)`", outside)
        assert (ROOT / "examples" / "plugin" / "distill_extras" / name).is_file()
        for place in re.findall(r"`(\w+/\w+\.(?:py|toml))`", inside):
            assert (PACKAGE / place).is_file() or (ROOT / place).is_file(), place
        for kind, place in re.findall(r"`(\w+)` in `([\w/.]+)`", inside):
            assert f"\nclass {kind}(" in (PACKAGE / place).read_text(encoding="utf-8")
        assert registry.startswith("none: ") or registry.strip("`") in components.__all__
        found = re.search(r"`(\w+\.py)`", test)
        assert found is not None and (ROOT / "tests" / found[1]).is_file()
        for listed in re.findall(r"`([A-Z]+)` of", test):
            lines = (ROOT / "tests" / found[1]).read_text(encoding="utf-8")
            assert re.search(rf"^{listed}\b", lines, re.MULTILINE), listed


def test_registries_of_plugins_are_where_the_page_says() -> None:
    text = (ROOT / "docs" / "how-to" / "plug-in.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `from (\S+) import ([A-Z_]+)` \| `(\w+\.py)` \|", text)
    assert len(rows) == 7
    for module, name, example in rows:
        registry = getattr(importlib.import_module(module), name)
        entry = f'entry-points."{registry.group}"]'
        project = ROOT / "examples" / "plugin" / "pyproject.toml"
        (_, of_kind) = project.read_text(encoding="utf-8").split(entry)
        assert of_kind.split('"')[1].startswith(f"distill_extras.{example[:-3]}:")


def entries(doc: str) -> list[str]:
    """The lines of the blocks ``Args:`` and ``Attributes:`` of a docstring, by their parameters."""
    found: list[str] = []
    for block in re.findall(r"^(?:Args|Attributes):\n((?:    .*\n?)+)", doc, flags=re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("     "):
                found[-1] += " " + line.strip()
            else:
                found.append(line.strip())
    return found


def parameters(node: ast.AST) -> set[str]:
    """Names that the blocks of a function or a class may describe."""
    names = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    for each in getattr(node, "body", []):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            names.add(each.target.id)
    return names


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_every_parameter_is_described_on_a_line_of_its_own(room: str) -> None:
    """So that an API reference can be made of the docstrings."""
    wrong = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            for entry in entries(ast.get_docstring(node) or ""):
                first = re.match(r"\*{0,2}(\w+): ", entry)
                more = re.findall(r"[.;)`] (?:\w+, )*(\w+): ", entry)
                if first is None or (more and parameters(node).intersection(more)):
                    wrong.append(f"{path.name}, {node.name}: {entry}")
    assert wrong == []


def test_parameters_that_share_a_line_are_seen() -> None:
    doc = "Args:\n    a: one. b: two.\n    c, d: three.\n    e: four,\n        five.\n"
    assert entries(doc) == ["a: one. b: two.", "c, d: three.", "e: four, five."]
    assert re.findall(r"[.;)`] (?:\w+, )*(\w+): ", "a: one. b: two.") == ["b"]
