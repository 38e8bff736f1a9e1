"""Names, plug-ins and what goes wrong with them."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dglke_distill import cli
from dglke_distill.artifacts.checkpoint import load_model, save_model
from dglke_distill.base.errors import UserError
from dglke_distill.cli.app import app
from dglke_distill.config import Config, RegularizerConfig, compose, plugins, recipe_names
from dglke_distill.config.registry import Component, NoOptions, Registry, nearest
from dglke_distill.data.triples import Vocabulary
from dglke_distill.models import SCORE_FUNCTIONS, ScoreFunction, build_model
from dglke_distill.training.losses import LOSSES
from dglke_distill.training.regularizers import N3, REGULARIZERS, Penalty, build_regularizer

PLUGIN = """
from dglke_distill.models import SCORE_FUNCTIONS, ScoreFunction

@SCORE_FUNCTIONS.register
class {name}(ScoreFunction):
    kernel = "dot"

    def query(self, entity, relation, side):
        return entity * relation
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Forget what a test's plug-ins registered."""
    monkeypatch.setenv(plugins.PLUGINS, "")
    monkeypatch.setattr(plugins, "_named", [])
    for registry in (SCORE_FUNCTIONS, LOSSES, REGULARIZERS):
        monkeypatch.setattr(registry, "_registered", {})
    path = list(sys.path)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = path
    plugins.offered.cache_clear()


def package(folder: Path, name: str, group: str, points: dict[str, str], **files: str) -> None:
    """Lay out an installed package and put it on the path."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[dglke_distill.{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, text in files.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(text))
    sys.path.insert(0, str(folder))
    plugins.offered.cache_clear()


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which a command ends."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- names --------------------------------------------------------------------------------------


class Thing(Component):
    """A component of a kind that only this test has."""

    name = "thing"

    class Options(NoOptions):
        """One option."""

        size: int = 3


def test_a_registry_finds_spells_suggests_and_builds() -> None:
    registry: Registry[type[Component]] = Registry(
        "thing", "things.name", {"thing": Thing, "far-off": "no_such_module:Nothing"}
    )
    assert list(registry) == ["thing", "far-off"] and len(registry) == 2
    assert registry.spell("Far_Off") == "far-off"
    assert registry.find("THING") is registry["thing"] is Thing
    assert registry.build("Thing", {"size": 4}).options.size == 4
    assert "thing" in registry and "THING" not in registry and registry.knows("THING")
    with pytest.raises(UserError, match=r"^things.name: unknown thing 'thnig'; did you mean 'th"):
        registry.find("thnig")
    with pytest.raises(UserError, match=r"unknown thing 'zzz'; known: thing, far-off$"):
        registry.find("zzz")
    with pytest.raises(UserError, match=r"things\.name thing: options: unknown setting 'sise'"):
        registry.build("thing", {"sise": 4})
    with pytest.raises(KeyError):
        registry["THING"]
    assert nearest("x", []) == "there are none"


def test_what_is_registered_is_had_by_name_and_can_be_registered_anew() -> None:
    class Twice(Penalty):
        name = "twice"

        class Options(NoOptions):
            power: float = 2.0

        def parts(self, usage: Any) -> Any:
            raise AssertionError

    assert REGULARIZERS.register(Twice) is Twice
    REGULARIZERS.register(Twice)
    config = RegularizerConfig(name="TWICE", weight=1.0, options={"power": 3.0})
    made = build_regularizer(config)
    assert config.name == "twice" and made is not None and made.penalty.options.power == 3.0
    with pytest.raises(UserError, match=r"regularizer\.options of twice: unknown setting 'pwoer'"):
        build_regularizer(RegularizerConfig(name="twice", weight=1.0, options={"pwoer": 3.0}))
    REGULARIZERS.unregister("twice")
    assert not REGULARIZERS.knows("twice")


def test_a_penalty_derived_from_one_with_a_kernel_is_its_own() -> None:
    """It would else be silently the other."""

    class Half(N3):
        name = "half"

    assert vars(N3)["sums_cubes"] and "sums_cubes" not in vars(Half)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (type("N3", (Penalty,), {}), "a regularizer 'N3', but that name is built in"),
        (type("NO_NE", (Penalty,), {"name": "None"}), "'None', but that name is built in"),
        (type("Loss", (), {}), "must be a class derived from .*regularizers.Penalty"),
        (lambda usage: usage, "a name is a letter, then"),
        (type("Odd", (Penalty,), {"name": "a b"}), "a name is a letter, then"),
        (type("Odd", (Penalty,), {"Options": dict}), "its Options must be a pydantic model"),
    ],
)
def test_what_cannot_be_registered(made: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        REGULARIZERS.register(made)


# --- packages -----------------------------------------------------------------------------------


def test_a_package_is_imported_when_its_component_is_asked_for(tmp_path: Path) -> None:
    package(
        tmp_path, "pack-a", "models", {"Mine": "pack_a:Mine"}, pack_a=PLUGIN.format(name="Mine")
    )
    assert (
        "Mine" in SCORE_FUNCTIONS.names()
        and Config.from_mapping({"model": {"name": "MINE"}}, "test").model.name == "Mine"
    )
    assert "pack_a" not in sys.modules
    assert issubclass(SCORE_FUNCTIONS.find("mine"), ScoreFunction)
    assert str(SCORE_FUNCTIONS.origin("mine")) == "the package pack-a 1.0"


def test_broken_packages_are_named_and_the_others_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"gone": "no_such:X", "bad": "pack_b:Bad", "lost": "pack_b:Lost", "exit": "pack_c:X"}
    points["other"] = "pack_d:Other"
    package(
        tmp_path,
        "pack-b",
        "losses",
        points,
        pack_b="Bad = 3",
        pack_c="raise SystemExit('stop')",
        pack_d="""
            from dglke_distill.training.losses import Loss
            class Other(Loss):
                name = "another"
        """,
    )
    for name, words in {
        "gone": "cannot be imported: ModuleNotFoundError: No module named 'no_such'",
        "bad": "must be a class derived from",
        "lost": "cannot be imported: AttributeError",
        "exit": "cannot be imported: SystemExit: stop",
        "other": "calls itself 'another'",
    }.items():
        with pytest.raises(UserError) as error:
            LOSSES.find(name)
        assert words in str(error.value) and "package pack-b 1.0" in str(error.value)
    assert LOSSES.find("bce").name == "bce"
    small = ["--dim", "4", "--epochs", "1", "--threads", "1", "--out", str(tmp_path / "out")]
    line = fails(capsys, "train", "cldr", "--loss", "gone", *small)
    assert "pack-b" in line and not (tmp_path / "out").exists()


def test_two_packages_of_one_name_and_names_that_are_built_in(tmp_path: Path) -> None:
    text = PLUGIN.format(name="Mine")
    package(tmp_path / "a", "pack-a", "models", {"Mine": "pack_a:Mine"}, pack_a=text)
    package(tmp_path / "b", "pack-b", "models", {"mine": "pack_b:Mine"}, pack_b=text)
    with pytest.raises(
        UserError, match=r"both the package pack-. 1\.0 and the package pack-. 1\.0"
    ):
        SCORE_FUNCTIONS.find("Mine")
    assert SCORE_FUNCTIONS.find("TransE").__name__ == "TransE"
    package(tmp_path / "c", "pack-c", "models", {"transe": "pack_c:Mine"}, pack_c=text)
    with pytest.raises(
        UserError, match=r"package pack-c 1\.0 offers .*'transe', but that name is b"
    ):
        SCORE_FUNCTIONS.find("TransE")
    assert not {"pack_a", "pack_b", "pack_c"} & set(sys.modules)


def test_recipes_of_packages(tmp_path: Path) -> None:
    package(
        tmp_path,
        "pack-r",
        "recipes",
        {"quick": "pack_r:QUICK", "transe": "pack_r:QUICK", "odd": "pack_r:ODD"},
        pack_r="QUICK = {'model': {'dim': 6}, 'training': {'epochs': 2}}\nODD = 3",
    )
    assert "quick" in recipe_names()
    config = compose([{"model": {"name": "RotatE"}}], recipe="Quick")
    assert (config.recipe, config.model.dim, config.training.epochs) == ("quick", 6, 2)
    with pytest.raises(UserError, match=r"package pack-r 1\.0 .*mapping of settings"):
        compose([], recipe="odd")


# --- modules named by the user ------------------------------------------------------------------


def test_every_command_takes_plugins() -> None:
    waiting: list[Any] = [typer.main.get_command(app)]
    seen = 0
    while waiting:
        command = waiting.pop()
        waiting.extend(getattr(command, "commands", {}).values())
        if not hasattr(command, "commands"):
            seen += 1
            assert "--plugin" in [name for option in command.params for name in option.opts]
    assert seen > 20


@pytest.mark.parametrize("before", [True, False])
def test_modules_and_files_are_plugins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    (tmp_path / "of_a_file.py").write_text(PLUGIN.format(name="OfAFile"))
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "of_a_module.py").write_text(PLUGIN.format(name="OfAModule"))
    sys.path.insert(0, str(tmp_path / "path"))
    named = ["--plugin", str(tmp_path / "of_a_file.py"), "--plugin", "of_a_module"]
    for name in ("ofafile", "OFAMODULE"):
        shown = ["config", "show", "--model", name]
        with pytest.raises(SystemExit) as end:
            cli.main([*named, *shown] if before else [*shown, *named])
        assert end.value.code == 0
        assert f'name = "{SCORE_FUNCTIONS.spell(name)}"' in capsys.readouterr().out
    assert os.environ[plugins.PLUGINS].split(",") == plugins.named_plugins()


def test_a_plugin_that_registers_nothing_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent.py").write_text("class Mine:\n    name = 'Mine'\n")
    (tmp_path / "speaks.py").write_text(PLUGIN.format(name="Speaks"))
    for name, words in (("silent", "registered no component; call register of"), ("speaks", "")):
        with pytest.raises(SystemExit) as end:
            cli.main(["recipes", "list", "--plugin", str(tmp_path / f"{name}.py")])
        said = capsys.readouterr().err
        assert end.value.code == 0 and said.count("\n") == bool(words) and words in said


def test_the_environment_names_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from_afar.py").write_text(PLUGIN.format(name="FromAfar"))
    monkeypatch.setenv(plugins.PLUGINS, f" {tmp_path / 'from_afar.py'} ,")
    assert SCORE_FUNCTIONS.knows("FromAfar")


@pytest.mark.parametrize(
    ("plugin", "text", "words"),
    [
        ("no_such_module_at_all", None, "there is no module 'no_such_module_at_all'; install"),
        ("gone.py", None, "there is no such file"),
        ("a/b", None, "give a module's name or the path of its .py file"),
        ("", None, "give a module's name or the path of its .py file"),
        ("json.py", "", "is another module's name"),
        ("syntax.py", "def", "cannot be imported: SyntaxError"),
        ("raises.py", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        (
            "needs.py",
            "import no_such_thing",
            "ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        ("takes.py", PLUGIN.format(name="RotatE"), "'RotatE', but that name is built in"),
    ],
)
def test_plugins_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plugin: str,
    text: Any,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(plugin).write_text(text)
    line = fails(capsys, "recipes", "list", "--plugin", plugin)
    assert line.startswith("error: --plugin") and words in line
    assert plugins.named_plugins() == []


# --- checkpoints --------------------------------------------------------------------------------


def saved(place: Path, model: str) -> Path:
    """Return a checkpoint of an untrained model."""
    config = Config.from_mapping({"model": {"name": model, "dim": 4}}, "test")
    made = build_model(config.model, 3, 2)
    made.reset(0)
    save_model(place, made, config, Vocabulary("abc"), Vocabulary("rs", kind="relation"), {})
    return place


def changed(place: Path, requires: Any) -> None:
    path = place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "requires": requires}))


def test_a_checkpoint_says_what_it_needs_and_imports_nothing(tmp_path: Path) -> None:
    package(
        tmp_path / "site", "pack-a", "models", {"Mine": "pack_a:Mine"},
        pack_a=PLUGIN.format(name="Mine"),
    )  # fmt: skip
    place = saved(tmp_path / "checkpoint", "Mine")
    about = json.loads((place / "config.json").read_text())
    assert about["requires"] == [
        {
            "kind": "score function",
            "name": "Mine",
            "package": "pack-a",
            "version": "1.0",
            "module": "pack_a",
        }
    ]
    assert load_model(place).config.model.name == "Mine"
    sys.path.remove(str(tmp_path / "site"))
    plugins.offered.cache_clear()
    SCORE_FUNCTIONS.unregister("Mine")
    (tmp_path / "site" / "pack_a-1.0.dist-info" / "METADATA").unlink()
    sys.path.insert(0, str(tmp_path / "site"))  # a module of that name, offered by no package
    del sys.modules["pack_a"]
    (tmp_path / "site" / "pack_a-1.0.dist-info" / "entry_points.txt").unlink()
    with pytest.raises(
        UserError, match=r"needs the score function 'Mine' of the package pack-a 1\.0"
    ):
        load_model(place)
    assert "pack_a" not in sys.modules


def test_a_component_of_another_package_is_not_taken_for_it(tmp_path: Path) -> None:
    text = PLUGIN.format(name="Mine")
    package(tmp_path / "a", "pack-a", "models", {"Mine": "pack_a:Mine"}, pack_a=text)
    place = saved(tmp_path / "checkpoint", "Mine")
    requires = json.loads((place / "config.json").read_text())["requires"]
    changed(place, [{**requires[0], "package": "pack-z"}])
    with pytest.raises(
        UserError, match=r"of the package pack-z 1\.0, but the one here is of the p"
    ):
        load_model(place)
    plain = saved(tmp_path / "plain", "TransE")
    changed(plain, [{**requires[0], "name": "TransE"}])
    with pytest.raises(UserError, match="but the one here is of this package"):
        load_model(plain)


@pytest.mark.parametrize(
    "requires",
    [
        3, {}, [3], [{}], [{"kind": "score function"}],
        [{"kind": "k", "name": "n", "package": "a; rm -rf", "version": None, "module": "m"}],
        [{"kind": "k", "name": "n", "package": None, "version": None, "module": "os.system('')"}],
        [{"kind": "k", "name": "n", "package": None, "version": "\x1b[31m", "module": "m"}],
        [{"kind": "k", "name": "n", "package": None, "version": None, "module": "m", "x": 1}],
        [{"kind": "k", "name": "n", "package": None, "version": None, "module": "m"}] * 9,
    ],
)  # fmt: skip
def test_hostile_requirements_are_refused(tmp_path: Path, requires: Any) -> None:
    place = saved(tmp_path / "checkpoint", "TransE")
    assert "requires" not in json.loads((place / "config.json").read_text())
    changed(place, requires)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(place)


@pytest.mark.parametrize(
    ("command", "file", "text"),
    [
        ("run", "chain.toml", 'method = "bkdd"\n'),
        ("compare", "comparison.toml", 'methods = ["bkdd"]\n'),
    ],
)
def test_a_resume_without_its_plugin_names_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, file: str, text: str
) -> None:
    """Also where a method that ships has a name like that of the plug-in's."""
    (tmp_path / file).write_text(text)
    line = fails(capsys, command, "--resume", "--out", str(tmp_path))
    assert "unknown method 'bkdd'; did you mean 'bkd'? " in line
    assert line.endswith("One of a plug-in needs its package installed, or --plugin MODULE")
