"""The tests and linters on every Python that pyproject.toml names, and what a release ships.

``nox`` runs all of it where the interpreters are (a Python that is not here is skipped), ``nox -s
tests-3.11`` one Python, ``nox -s dist`` builds wheel and sdist and tries both. The versions are
those in constraints.txt.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
PYTHONS = nox.project.python_versions(nox.project.load_toml(ROOT / "pyproject.toml"))
QUESTION = ("--head", "Latvia", "--relation", "uses_currency", "-k", "1", "--json")

nox.options.default_venv_backend = "venv"


def install(session: nox.Session, *what: str) -> None:
    """Install at the pinned versions, torch first, so that nothing else chooses its build."""
    constraints = str(ROOT / "constraints.txt")
    session.install("-c", constraints, "torch")
    session.install("-c", constraints, *what)
    if session.python == "3.13":
        # No wheel of dgl carries this Python's tag; the one for 3.12 works.
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = str(session.run("python", "-c", code, silent=True)).strip()
        chosen = ("--no-deps", "--target", site, "--python-version", "3.12")
        session.install(*chosen, "--only-binary=:all:", "dgl==2.1.0")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests; what stands behind ``--`` goes to pytest."""
    install(session, "-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[-1])
def lint(session: nox.Session) -> None:
    """Run what ``make lint`` runs."""
    install(session, "-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")


@nox.session(python=PYTHONS[-1])
def dist(session: nox.Session) -> None:
    """Build wheel and sdist into dist/, check them, and drive each in a folder of its own."""
    session.install("-c", str(ROOT / "constraints.txt"), "build", "twine")
    out = ROOT / "dist"
    for old in [*out.glob("*.whl"), *out.glob("*.tar.gz")]:
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(out), str(ROOT))
    built = sorted([*out.glob("*.whl"), *out.glob("*.tar.gz")])
    session.run("python", "-m", "twine", "check", "--strict", *map(str, built))
    # The constraints name torch for this Python; an own environment shows that nothing of the
    # checkout is needed, and the wheel of the sdist is built by pip.
    for path in built:
        with tempfile.TemporaryDirectory() as folder:
            try_out(session, path, Path(folder))


@nox.session(python=PYTHONS[-1])
def readers(session: nox.Session) -> None:
    """Build and check the packages of the bundle readers, and run their own tests."""
    session.install("-c", str(ROOT / "constraints.txt"), "build", "twine", "pytest", "numpy")
    place = ROOT / "readers" / "python"
    session.run("python", "-m", "build", "--outdir", str(place / "dist"), str(place))
    built = sorted(map(str, (place / "dist").glob("*")))
    session.run("python", "-m", "twine", "check", "--strict", *built)
    session.install("--force-reinstall", "--no-deps", *(path for path in built if "whl" in path))
    session.run("python", "-m", "pytest", "-c", str(place / "pyproject.toml"), str(place / "tests"))
    session.chdir(ROOT / "readers" / "js")
    session.run("npm", "test", external=True)
    session.run("npm", "pack", "--dry-run", external=True)


@nox.session(python=PYTHONS)
def walk(session: nox.Session) -> None:
    """Build the wheel; from nothing to a page of a model of one's own in under ten minutes."""
    session.install("-c", str(ROOT / "constraints.txt"), "build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--wheel", "--outdir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        script = str(ROOT / "examples" / "walk" / "ten_minutes.py")
        session.run("python", script, "--install", str(wheel), *session.posargs)


def try_out(session: nox.Session, path: Path, folder: Path) -> None:
    """Install one file into a new environment in ``folder`` and drive its command there."""
    session.run("python", "-m", "venv", str(folder / "venv"))
    run = {"external": True, "env": {**os.environ, "PYTHONPATH": ""}}
    python, command = (str(folder / "venv" / "bin" / name) for name in ("python", "dglke-distill"))
    for what in ("torch", str(path)):
        pinned = ("-c", str(ROOT / "constraints.txt"))
        session.run(python, "-m", "pip", "install", "--quiet", *pinned, what, **run)
    session.chdir(folder)
    session.run(command, "--version", **run)
    said = session.run(command, "predict", "complex-cldr-dim32", *QUESTION, silent=True, **run)
    if '"Euro"' not in str(said):
        session.error(f"{path.name}: the model that ships answers {said}")
    small = ("--dim", "8", "--epochs", "1", "--out", "run")
    session.run(command, "train", "cldr", "--model", "complex", *small, **run)
    session.chdir(ROOT)
