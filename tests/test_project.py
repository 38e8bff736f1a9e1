"""The house rules that no other test can see."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from parsed import tree_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dglke_distill"


def modules() -> dict[str, Path]:
    """Dotted name to file, of every module in the package but its own ``__init__``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path
    del found["dglke_distill"]
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Every module of ours that a file imports, wherever in the file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield from [name for name in (whole, node.module) if name in MODULES][:1]


def test_rooms_import_from_those_below_them_alone() -> None:
    """The contract in pyproject.toml, which also says that every room is named there."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_no_import_goes_in_circles() -> None:
    waiting = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    while waiting:
        ready = {name for name, needs in waiting.items() if not needs & set(waiting)}
        assert ready, f"circular imports among {sorted(waiting)}"
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}


def test_the_import_reader_sees_all_forms(tmp_path: Path) -> None:
    """The tests above would pass if nothing was found."""
    code = (
        "import dglke_distill.base.errors\nfrom dglke_distill.base import files\n"
        "def f():\n    from dglke_distill.config import Config\n"
    )
    (tmp_path / "code.py").write_text(code)
    assert list(imported(tmp_path / "code.py")) == [
        "dglke_distill.base.errors",
        "dglke_distill.base.files",
        "dglke_distill.config",
    ]
    assert len(MODULES) > 20


def undocumented(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        if not ast.get_docstring(node):
            yield name
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for child in node.body:
                label = getattr(child, "name", "_")
                if not label.startswith("_"):
                    yield from undocumented(child, f"{name}.{label}")


def test_everything_public_is_documented() -> None:
    silent = []
    for module, path in MODULES.items():
        silent += undocumented(tree_of(path), module)
    assert silent == []


def tracked_files() -> list[Path]:
    """Every file of the project: what git tracks, or everything where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.decode().split("\0") if name]
    skipped = {".venv", ".git", "__pycache__", "runs"}
    return [p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.parts)]


def sources(*endings: str) -> list[Path]:
    return [path for path in tracked_files() if path.suffix in endings and path.exists()]


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(".py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines()))
        > (500 if "tests" in path.parts else 350)
    }
    assert long == {}


ANNOTATED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign)


def test_annotations_are_not_evaluated() -> None:
    """So that they cost nothing at import; typer reads them, so its commands keep them."""
    line = "from __future__ import annotations"
    for path in sources(".py"):
        text = path.read_text(encoding="utf-8")
        if PACKAGE in path.parents and "import typer" in text:
            assert line not in text.splitlines(), path
        elif line not in text.splitlines():
            assert not any(isinstance(node, ANNOTATED) for node in ast.walk(tree_of(path))), path


def test_nothing_is_unpickled() -> None:
    unpickling = re.compile(r"\b(?:torch\.load|pickle\.loads?|allow_pickle=True)\b")
    weights = re.compile(r"\btorch\.load\([^()]*, weights_only=True\)")  # torch's safe reader
    for path in MODULES.values():
        if not path.name.startswith("ogb"):  # the ogb package's own files are torch pickles
            text = weights.sub("", path.read_text(encoding="utf-8"))
            assert unpickling.findall(text) == [], path


def test_no_machine_of_ours_is_named() -> None:
    """Paths of one computer, and where packages come from, are the user's own affair."""
    paths = re.compile(r"(?<![\w.])/(?:work|tmp|root|home)/|--(?:extra-)?index-url|--find-links")
    texts = sources(".py", ".toml", ".md", ".yaml", ".sh", ".csv")
    for path in [*texts, *(ROOT / name for name in ("Makefile", ".ci/run", "constraints.txt"))]:
        if path != Path(__file__).resolve():
            found = paths.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{path}: {found}"


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.train"])
def test_images_call_commands_that_exist(name: str) -> None:
    """They are not built here: what they copy, install and call is compared with what there is."""
    from typer.testing import CliRunner

    from dglke_distill.cli import app

    text = (ROOT / name).read_text(encoding="utf-8")
    calls = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, flags=re.MULTILINE))
    words = [*json.loads(calls["ENTRYPOINT"]), *json.loads(calls["CMD"])]
    assert words.pop(0) == "dglke-distill"
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"}).output
    assert all(word in shown for word in words if word.startswith("--"))
    assert re.search(r"^FROM python:3\.1[123]-slim$", text, flags=re.MULTILINE)
    assert re.search(r"^USER kg$", text, flags=re.MULTILINE)
    torch = re.search(r'"(torch==[0-9.]+)"', text)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert torch is not None and torch[1] in pins
    left_out = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    build = ("README.md", "LICENSE", "datasets", "zoo.toml", "readers", "dglke_distill")
    assert left_out.isdisjoint(build) and ".git" in left_out


def test_the_gate_calls_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    commands = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert "make run" in commands
    assert "make test" in commands
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "make test" in gate
    assert "make docs" in gate
    assert "set -euo pipefail" in gate


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_command_in_readme_and_docs_exists() -> None:
    """Those that take hours or a network too, which no test runs."""
    from typer.testing import CliRunner

    from dglke_distill.cli import app

    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(
            r"```(?:bash|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
    ]
    text = "\n".join(blocks).replace("\\\n", " ")
    text = re.sub(r" -- (train|run) ", r"\ndglke-distill \1 ", text)  # what a launch runs
    under = "show|list|info|check|prepare|publish|push|verify|load|pull|run|evaluate|sheet"
    under += "|partition|launch"
    commands = re.findall(rf"dglke-distill ([a-z]+(?: (?:{under})\b)?)(.*)", text)
    assert commands
    helps: dict[str, str] = {}
    for command, rest in commands:
        if command not in helps:
            shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, command
            helps[command] = shown.output
        for flag in re.findall(r"(?<= )--[a-z-]+", rest.partition("#")[0]):
            assert flag in helps[command], f"{command} {flag}"


def test_targets_of_make_exist() -> None:
    for target in ("run", "test", "lint", "docs"):
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nexit 1\n")  # refuses, as an older Python would by sys.exit
    old.chmod(0o755)
    done = subprocess.run(
        ["make", f"PYTHON={old}", "test"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert str(old) in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_constraints_pin_what_the_project_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, equals, version = line.partition(";")[0].strip().partition("==")
            assert equals, line
            pins[name.lower().replace("_", "-")] = version
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["docs"]
    for requirement in wanted:
        name = re.split(r"[<>=;\s]", requirement)[0].lower()
        if "python_version" not in requirement:
            assert name in pins, requirement
            if "==" in requirement:
                assert requirement == f"{name}=={pins[name]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return zipfile.ZipFile(folder / done.stdout.split()[-1])


def test_wheel_holds_datasets_and_registry(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert wheel.read("dglke_distill/_zoo.toml") == (ROOT / "zoo.toml").read_bytes()
    shipped = [p for p in tracked_files() if ROOT / "datasets" in p.parents and p.exists()]
    assert len(shipped) > 5
    for path in shipped:
        place = "dglke_distill/_datasets/" + path.relative_to(ROOT / "datasets").as_posix()
        assert wheel.read(place) == path.read_bytes()
    for path in MODULES.values():
        assert path.relative_to(ROOT).as_posix() in names
    for path in ("python/kg_bundle.py", "js/kg_bundle.js"):
        place = "dglke_distill/_readers/" + path.partition("/")[2]
        assert wheel.read(place) == (ROOT / "readers" / path).read_bytes()
    inside = [p for p in tracked_files() if PACKAGE in p.parents and p.exists()]
    assert {"recipes", "report"} <= {path.parent.name for path in inside if path.suffix == ".toml"}
    assert all(path.relative_to(ROOT).as_posix() in names for path in inside)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_wheel_states_its_terms(wheel: zipfile.ZipFile) -> None:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    text = wheel.read(name).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    (name,) = [n for n in wheel.namelist() if n.endswith("/entry_points.txt")]
    assert "dglke-distill = dglke_distill.cli:main" in wheel.read(name).decode()
    (name,) = [n for n in wheel.namelist() if n.endswith("licenses/LICENSE")]
    assert "Apache License" in wheel.read(name).decode()


def test_registry_of_models_is_readable() -> None:
    registry = tomllib.loads((ROOT / "zoo.toml").read_text(encoding="utf-8"))
    assert registry["schema"] == 1
