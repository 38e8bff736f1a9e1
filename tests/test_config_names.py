"""Names in any letter case: settings hold the published ones, wherever a component is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distill_fixtures import write_clock
from zoo_fixtures import home

from dglke_distill import cli, zoo
from dglke_distill.base.errors import UserError
from dglke_distill.compression.storage import STORAGES, Storage
from dglke_distill.config import (
    Config,
    ModelConfig,
    components,
    compose,
    merge,
    read_recipe,
    validate_options,
)
from dglke_distill.config.names import fold, published
from dglke_distill.config.registry import Registry
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.methods import METHODS
from dglke_distill.distill.plan import compose_chain, plan
from dglke_distill.interop import FORMATS
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.training.losses import LOSSES, build_loss

__all__ = ["home"]

REGISTRIES: dict[str, Registry[Any]] = {
    found.setting: found for found in vars(components).values() if isinstance(found, Registry)
}
PLACES = [setting for setting in REGISTRIES if not setting.startswith("--")]
CHOICES = [
    ("negatives.sharing", "private"), ("negatives.sides", "both"), ("optimizer.schedule", "cosine"),
    ("training.mode", "k_vs_all"), ("training.dtype", "float64"), ("training.storage", "bfloat16"),
    ("training.tables", "file"), ("evaluation.split", "valid"),
    ("distillation.soft.candidates", "top"), ("distillation.soft.scale", "calibrate"),
]  # fmt: skip


@pytest.mark.parametrize("setting", REGISTRIES)
def test_what_is_listed_is_there_and_calls_itself_so(setting: str) -> None:
    registry = REGISTRIES[setting]
    assert len({fold(name) for name in registry}) == len(registry) > 0
    for name, found in registry.items():
        assert (getattr(found, "name", "") or name) == name
        assert registry.origin(name) is None


def tree_of(place: str, value: Any) -> dict[str, Any]:
    tree: Any = value
    for part in reversed(place.split(".")):
        tree = {part: tree}
    return dict(tree)


def value_of(config: Any, place: str) -> Any:
    for part in place.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize(
    ("place", "name"),
    [(place, name) for place in PLACES for name in REGISTRIES[place]] + CHOICES,
)
def test_settings_hold_published_names(place: str, name: str) -> None:
    for typed in (name, name.upper(), name.lower(), name.title(), name.replace("_", "-")):
        assert value_of(Config.from_mapping(tree_of(place, typed), "test"), place) == name
        assert value_of(compose([tree_of(place, typed)], recipe=None), place) == name


@pytest.mark.parametrize("place", PLACES)
def test_unknown_names_stay_for_their_own_room_to_refuse(place: str) -> None:
    assert value_of(Config.from_mapping(tree_of(place, "NoSuch"), "test"), place) == "NoSuch"


def test_direct_calls_are_as_forgiving() -> None:
    assert METHODS.find("IterDE") is METHODS["iterde"]
    assert FORMATS.find("DGLKE").name == "dglke"
    assert Storage.of("INT8") == Storage.of("int8")
    assert Storage.of("PQ", relations="Float16").relations.kind == "float16"
    assert all(Storage.of(name.upper()).entities.kind == name for name in STORAGES)
    loss = Config.from_mapping({"loss": {"name": "Self-Adversarial"}}, "test").loss
    assert type(build_loss(loss)) is LOSSES["self_adversarial"]
    assert ModelConfig(name="rotate", encoder="Node-Piece").encoder == "node_piece"
    options = validate_options(SCORE_FUNCTIONS["TransE"].Options, {"norm": "L1"}, "options")
    assert options == validate_options(SCORE_FUNCTIONS["TransE"].Options, {"norm": "l1"}, "options")
    assert published(3, ["3"]) == 3


def test_options_are_kept_where_a_name_is_only_spelt_otherwise() -> None:
    base = {"encoder": "node_piece", "encoder_options": {"anchors": 5}}
    assert merge(base, {"encoder": "Node-Piece"})["encoder_options"] == {"anchors": 5}
    assert "encoder_options" not in merge(base, {"encoder": "lookup"})


def test_recipes_in_any_letter_case() -> None:
    assert read_recipe("TransE")["recipe"] == "transe"
    assert compose([], recipe="ComplEx").recipe == "complex"
    assert compose([], recipe="None").recipe is None
    assert compose_chain("Best", "cldr", "ComplEx", []) == compose_chain(
        "best", "cldr", "ComplEx", []
    )
    chain = ChainConfig.from_mapping(
        {"method": "IterDE", "control": "None", "shared": {"model": {"name": "COMPLEX"}}}, "test"
    )
    assert (chain.method, chain.control) == ("iterde", "none")
    assert {stage.config.model.name for stage in plan(chain)} == {"ComplEx"}


@pytest.mark.parametrize("spelt", ["Lookup", "LOOKUP"])
def test_what_trains_can_be_published(
    tmp_path: Path,
    home: Path,
    spelt: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = write_clock(tmp_path / "clock"), tmp_path / "out"
    settings = [
        f"model.encoder={spelt}", "negatives.sampler=Uniform", "loss.name=Self-Adversarial",
        "optimizer.name=RowWise_Adagrad", "regularizer.name=None", "training.mode=Negatives",
        "optimizer.schedule=Linear",
    ]  # fmt: skip
    flags = [part for setting in settings for part in ("--set", setting)]
    small = ["--model", "DISTMULT", "--dim", "8", "--epochs", "1", "--threads", "1"]
    with pytest.raises(SystemExit) as end:
        cli.main(["train", str(folder), *small, *flags, "--device", "CPU", "--out", str(out)])
    assert end.value.code in (0, None), capsys.readouterr().err
    (entry,) = zoo.publish(out / "checkpoint", store=home / "store")
    assert entry.model == "DistMult"
    assert entry.name == "distmult-clock-dim8"
    assert zoo.load(entry.name, store=home / "store").config.model.encoder == "lookup"


def test_near_spellings_are_still_suggested() -> None:
    with pytest.raises(UserError, match="did you mean 'iterde'"):
        METHODS.find("iterdee")
