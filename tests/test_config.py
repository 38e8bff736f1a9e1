"""Composing, validating and printing the configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from dglke_distill import config
from dglke_distill.base.errors import UserError
from dglke_distill.config import (
    Config,
    compose,
    parse_assignment,
    read_shipped,
    recipe_names,
    validate_options,
)


def test_later_layers_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[model]\nname = "RotatE"\ndim = 32\n[training]\nepochs = 7\n')
    resolved = compose(
        [{"training": {"epochs": 9}}, parse_assignment("training.batch_size=64")],
        file=file,
        recipe=None,
    )
    assert (resolved.model.name, resolved.model.dim) == ("RotatE", 32)
    assert (resolved.training.epochs, resolved.training.batch_size) == (9, 64)
    assert resolved.training.seed == Config().training.seed


def test_a_recipe_lies_below_the_users_settings(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "transe-toy-dim8.toml").write_text("[training]\nepochs = 3\nbatch_size = 5\n")
    (tmp_path / "transe-toy.toml").write_text("[training]\nepochs = 4\n")
    monkeypatch.setattr(config, "RECIPES", tmp_path)
    asked = {"data": {"dataset": "toy"}, "model": {"name": "TransE", "dim": 8}}
    resolved = compose([asked, {"training": {"batch_size": 6}}])
    assert resolved.recipe == "transe-toy-dim8"
    assert (resolved.training.epochs, resolved.training.batch_size) == (3, 6)
    asked["model"] = {"name": "TransE", "dim": 16}
    assert compose([asked]).recipe == "transe-toy"
    assert compose([asked], recipe=None).training.epochs == Config().training.epochs


def test_options_of_another_component_are_dropped() -> None:
    base = {"loss": {"name": "margin", "options": {"margin": 5.0}}}
    assert compose([base, {"loss": {"name": "softmax"}}], recipe=None).loss.options == {}
    kept = compose(
        [base, {"loss": {"name": "Margin", "options": {"temperature": 1.0}}}], recipe=None
    )
    assert kept.loss.options == {"margin": 5.0, "temperature": 1.0}


def test_toml_out_and_in_is_the_same_tree() -> None:
    resolved = compose([{"model": {"options": {"norm": "l2"}}, "training": {"patience": 4}}])
    assert Config.from_mapping(tomllib.loads(resolved.to_toml()), "round trip") == resolved


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_builds(name: str) -> None:
    from dglke_distill.models import build_score_function
    from dglke_distill.training.losses import build_loss
    from dglke_distill.training.regularizers import build_regularizer

    resolved = compose(recipe=name)
    assert resolved.recipe == name
    assert name.startswith(resolved.model.name.lower())
    build_score_function(resolved.model)
    build_loss(resolved.loss)
    build_regularizer(resolved.regularizer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 3\n", "unknown setting 'training.epoch'; did you mean 'epochs'"),
        ("[training]\nepochs = 0\n", "setting 'training.epochs' is 0"),
        ("[training]\nmode = 'all'\n", "setting 'training.mode' is 'all'"),
        ("[trainin]\nepochs = 1\n", "unknown setting 'trainin'; did you mean 'training'"),
        ("epochs = 1\n", "unknown setting 'epochs'; did you mean 'training.epochs'?"),
        ("[shared.training]\nepochs = 1\n", "'shared'; did you mean 'training.epochs'?"),
        ("[training\n", "not valid TOML: .*line 1"),
    ],
)
def test_bad_files_are_named_and_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        compose(file=file)
    assert str(file) in str(caught.value)


def test_missing_file_bad_assignment_and_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        compose(file=tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"write section\.key=value"):
        parse_assignment("training.epochs")
    with pytest.raises(UserError, match="no recipe 'transee'; did you mean"):
        compose(recipe="transee")


def test_assignments_are_toml_or_bare_words() -> None:
    assert parse_assignment("model.name=ComplEx") == {"model": {"name": "ComplEx"}}
    assert parse_assignment("a.b = 3") == {"a": {"b": 3}}
    assert parse_assignment("a={b=true}") == {"a": {"b": True}}


def test_component_options_are_validated_with_their_source() -> None:
    class Schema(BaseModel):
        model_config = ConfigDict(extra="forbid")
        margin: float = 1.0

    assert validate_options(Schema, {"margin": 2}, "loss.options").margin == 2.0
    with pytest.raises(UserError, match=r"loss\.options: unknown setting 'magin'; did you mean"):
        validate_options(Schema, {"magin": 2}, "loss.options")


def test_a_recipe_says_only_what_differs_from_the_one_it_is_based_on(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(
        '[model]\nname = "RotH"\ndim = 8\noptions = { curvature = 0.5 }\n[loss]\nname = "bce"\n'
    )
    (tmp_path / "second.toml").write_text('based_on = "first"\n[model]\ndim = 4\n')
    (tmp_path / "third.toml").write_text('based_on = "second"\n[model]\nname = "RotE"\n')
    assert read_shipped(tmp_path / "second.toml") == {
        "model": {"name": "RotH", "dim": 4, "options": {"curvature": 0.5}},
        "loss": {"name": "bce"},
    }
    assert read_shipped(tmp_path / "third.toml")["model"] == {"name": "RotE", "dim": 4}
    (tmp_path / "lost.toml").write_text('based_on = "none-there"\n')
    with pytest.raises(UserError, match=r"none-there\.toml: no such file"):
        read_shipped(tmp_path / "lost.toml")
