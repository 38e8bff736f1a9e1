"""The settings of a chain, the sizes on its way, and the stages that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, read_shipped, read_toml
from dglke_distill.distill.across import student_settings
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.chain_recipes import CHAINS, chain_recipe_names
from dglke_distill.distill.compare import ComparisonConfig, chain_of
from dglke_distill.distill.methods import METHODS, build_method
from dglke_distill.distill.plan import compose_chain, plan, read_chain
from dglke_distill.distill.settings import divided


@pytest.mark.parametrize(
    ("ratio", "dims"),
    [
        (1.5, [512, 342, 228, 152, 102, 68, 44, 32]),
        (2, [512, 256, 128, 64, 32]),
        (4, [512, 128, 32]),
        (16, [512, 32]),
        (1000, [512, 32]),
        (float("inf"), [512, 32]),
    ],
)
def test_sizes_by_ratio(ratio: float, dims: list[int]) -> None:
    assert divided(512, 32, ratio) == dims


@given(first=st.integers(2, 4096), data=st.data(), ratio=st.floats(1.01, 64))
def test_sizes_fall_evenly_from_the_first_to_the_last(first: int, data: Any, ratio: float) -> None:
    last = data.draw(st.integers(1, first - 1))
    dims = divided(first, last, ratio)
    assert (dims[0], dims[-1]) == (first, last)
    assert all(before > after for before, after in zip(dims, dims[1:]))
    assert all(dim % 2 == 0 for dim in dims[1:-1])
    for number, dim in enumerate(dims[1:-1], start=1):
        if number == 1:
            assert abs(dim - first / ratio) <= 1 or first / ratio > first - 2
    ChainConfig(dims=dims)


@pytest.mark.parametrize(
    ("first", "last", "ratio", "words"),
    [
        (512, 32, 1.0, "--ratio: must be above 1, at least 1.001, is 1"),
        (512, 32, 0.5, "--ratio"),
        (512, 32, float("nan"), "--ratio"),
        (32, 32, 2.0, "--to 32: must be at least 1 and below --from 32"),
        (32, 64, 2.0, "--to 64"),
        (32, 0, 2.0, "--to 0"),
        (32, -5, 2.0, "--to -5"),
    ],
)
def test_sizes_that_cannot_be(first: int, last: int, ratio: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        divided(first, last, ratio)


@pytest.mark.parametrize(
    ("method", "asked", "dims"),
    [
        ("iterde", [512, 256, 128, 64, 32], [512, 256, 128, 64, 32]),
        ("dgkd", [512, 256, 32], [512, 256, 32]),
        ("bkd", [512, 256, 128, 64, 32], [512, 32]),
        ("rkd", [512, 256, 32], [512, 32]),
        ("fitnet", [512, 256, 32], [512, 32]),
        ("ta", [512, 256, 128, 64, 32], [512, 128, 32]),
        ("ta", [512, 256, 64, 32], [512, 256, 32]),
        ("ta", [512, 32], [512, 128, 32]),
        ("ta", [500, 30], [500, 122, 30]),
        ("ta", [4, 3], [4, 3]),
        ("direct", [512, 256, 32], [32]),
    ],
)
def test_sizes_of_the_methods(method: str, asked: list[int], dims: list[int]) -> None:
    assert build_method(method, {}).dims(asked) == dims


def composed(*overrides: Any, recipe: str = "none", **settings: Any) -> ChainConfig:
    return compose_chain(recipe, settings.get("dataset", "cldr"), settings.get("model"), overrides)


def names(chain: ChainConfig, *loaded: str) -> list[str]:
    return [stage.name for stage in plan(chain, loaded)]


def test_stages_of_a_chain() -> None:
    chain = composed({"dims": [16, 8, 4]}, model="ComplEx")
    stages = plan(chain)
    assert [(s.name, s.role, s.teachers) for s in stages] == [
        ("0-teacher-complex-dim16", "teacher", ()),
        ("1-complex-dim8", "student", ("0-teacher-complex-dim16",)),
        ("2-complex-dim4", "student", ("1-complex-dim8",)),
        ("direct-complex-dim8", "direct", ()),
        ("direct-complex-dim4", "direct", ()),
    ]
    assert [s.config.model.dim for s in stages] == [16, 8, 4, 8, 4]
    taught = [s.config.distillation is not None for s in stages]
    assert taught == [False, True, True, False, False]
    without = composed({"dims": [16, 8], "control": "none"})
    assert names(without) == ["0-teacher-transe-dim16", "1-transe-dim8"]
    assert names(without, "/models/big") == ["0-transe-dim8"]
    assert plan(without, ["/models/big"])[0].teachers == ("/models/big",)


def test_who_teaches_whom() -> None:
    taught = {
        method: [
            stage.teachers
            for stage in plan(
                composed({"dims": [16, 8, 4, 2]}, {"method": method, "control": "none"})
            )
        ][1:]
        for method in ("iterde", "fan_out", "dgkd")
    }
    first, second, third = "0-teacher-transe-dim16", "1-transe-dim8", "2-transe-dim4"
    assert taught["iterde"] == [(first,), (second,), (third,)]
    assert taught["fan_out"] == [(first,), (first,), (first,)]
    assert taught["dgkd"] == [(first,), (first, second), (first, second, third)]


def test_every_method_has_a_plan() -> None:
    for name, kind in METHODS.items():
        chain = composed({"dims": [16, 8, 4], "method": name})
        if kind.least_teachers > 1:
            more = [{"model": {"name": "RotatE"}}] * (kind.least_teachers - 1)
            chain = composed({"dims": [16, 8, 4], "method": name, "more_teachers": more})
        stages = plan(chain)
        assert stages[-1].role == "direct"
        assert len({stage.name for stage in stages}) == len(stages)
        for stage in stages:
            if stage.role == "student":
                assert stage.config.distillation is not None
                assert stage.config.distillation.method == name


def test_settings_of_parts_are_laid_over_each_other() -> None:
    chain = composed(
        {
            "dims": [16, 8, 4],
            "shared": {"training": {"epochs": 3, "seed": 5}, "model": {"name": "RotatE"}},
            "teacher": {"training": {"epochs": 9}},
            "student": {"model": {"name": "ComplEx"}, "optimizer": {"learning_rate": 0.5}},
            "sizes": {"4": {"optimizer": {"learning_rate": 0.25}}},
        }
    )
    stages = plan(chain)
    assert [s.config.training.epochs for s in stages] == [9, 3, 3, 3, 3]
    assert [s.config.model.name for s in stages] == ["RotatE", *["ComplEx"] * 4]
    assert [s.config.optimizer.learning_rate for s in stages][1:] == [0.5, 0.25, 0.5, 0.25]
    assert {s.config.training.seed for s in stages} == {5}
    own = composed(
        {"dims": [16, 8], "student": {"training": {"epochs": 2}}},
        {"direct": {"training": {"epochs": 7}, "model": {"name": "SimplE"}}},
    )
    assert names(own)[-1] == "direct-simple-dim8"
    assert plan(own)[-1].config.training.epochs == 7


def test_the_last_word_wins_also_about_more_stages() -> None:
    first = {
        "dims": [16, 8, 4],
        "shared": {"training": {"epochs": 500}},
        "teacher": {"training": {"epochs": 1000, "batch_size": 64}},
        "student": {
            "training": {"epochs": 100},
            "loss": {"name": "margin", "options": {"margin": 3.0}},
        },
        "sizes": {"4": {"training": {"epochs": 50}, "optimizer": {"learning_rate": 0.5}}},
        "direct": {"training": {"epochs": 70}},
        "more_teachers": [{"training": {"epochs": 11}}],
    }

    def epochs(*overrides: Any) -> list[int]:
        return [s.config.training.epochs for s in plan(composed(first, *overrides))]

    few = {"shared": {"training": {"epochs": 2}}}
    assert epochs() == [1000, 11, 100, 50, 70, 70]
    assert epochs(few) == [2] * 6
    assert epochs({"student": {"training": {"epochs": 3}}}) == [1000, 11, 3, 3, 70, 70]
    assert epochs(few, {"student": {"training": {"epochs": 3}}}) == [2, 2, 3, 3, 2, 2]
    assert epochs(few, {"sizes": {"4": {"training": {"epochs": 4}}}}) == [2, 2, 2, 4, 2, 2]
    stages = plan(composed(first, few))
    assert stages[0].config.training.batch_size == 64
    assert stages[3].config.optimizer.learning_rate == 0.5
    other = plan(composed(first, {"shared": {"loss": {"name": "logistic"}}}))
    assert {s.config.loss.name for s in other} == {"logistic"}
    assert other[2].config.loss.options == {}
    same = plan(composed(first, {"shared": {"loss": {"name": "margin"}}}))
    assert same[2].config.loss.options == {"margin": 3.0}


def test_the_dataset_of_a_file_counts_unless_another_is_named() -> None:
    file = {"data": {"dataset": "umls", "split_seed": 3}}
    assert compose_chain("none", None, None, [file]).data.dataset == "umls"
    given_name = compose_chain("none", "kinship", None, [file]).data
    assert (given_name.dataset, given_name.split_seed) == ("kinship", 3)
    assert compose_chain("none", None, None, []).data.dataset == "cldr"


def test_a_student_may_be_as_large_as_its_teacher() -> None:
    chain = composed({"dims": [8, 8, 4], "control": "none"}, model="TransE")
    stages = plan(chain)
    assert [(stage.name, stage.teachers) for stage in stages] == [
        ("0-teacher-transe-dim8", ()),
        ("1-transe-dim8", ("0-teacher-transe-dim8",)),
        ("2-transe-dim4", ("1-transe-dim8",)),
    ]
    again = composed({"dims": [8, 8], "method": "ta", "control": "none"}, model="TransE")
    assert names(again) == ["0-teacher-transe-dim8", "1-transe-dim8"]
    with pytest.raises(UserError, match="needs two sizes or more"):
        plan(composed({"dims": [8], "method": "bkd"}))


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"dims": [8, 16]}, r"--dims is \[8, 16\].*no size can be larger"),
        ({"dims": [8, 0]}, "from 1 to 1048576"),
        ({"dims": []}, "--dims"),
        ({"dims": [8]}, "--dims: iterde needs two sizes or more"),
        ({"methods": "ta"}, "unknown setting 'methods'; did you mean 'method'"),
        ({"method": "itered", "dims": [8, 4]}, "did you mean 'iterde'"),
        ({"student": {"trainin": {}}, "dims": [8, 4]}, "unknown setting 'trainin'; did you mean"),
        ({"student": {"distillation": {"options": {"x": 1}}}}, "distillation.method iterde.*'x'"),
        ({"student": {"distillation": {"initialization": "sdv"}}}, "initialization: unknown"),
        ({"student": {"distillation": {"soft": {"name": "mse"}}}}, "soft.name: unknown"),
        ({"student": {"distillation": {"weight": {"name": "rising"}}}}, "weight.name: unknown"),
        ({"student": {"distillation": {"soft": {"candidates": "all"}}}}, "needs training.mode"),
        ({"student": {"loss": {"name": "hinge"}}}, "loss.name: unknown"),
        (
            {"student": {"training": {"mode": "k_vs_all"}}},
            "cannot train with training.mode",
        ),
        ({"student": {"optimizer": {"options": {"x": 1}}}}, "optimizer.options"),
        ({"shared": {"model": {"name": "ComplEx"}}, "dims": [8, 5]}, "5"),
        ({"control": "yes"}, "--control is 'yes'"),
        ({"student": 3}, "'student' is 3"),
        ({"training": {"epochs": 3}}, "'training'; did you mean 'shared.training.epochs' or 'tea"),
        ({"epochs": 3}, r"'epochs'; did you mean 'shared\.training\.epochs'\?"),
        ({"seed": 3}, r"did you mean 'seeds' or 'shared\.training\.seed'\?"),
        ({"shard": {"training": {"epochs": 3}}}, r"did you mean 'shared' or 'shared\.training\.ep"),
        ({"nothing": 3}, "unknown setting 'nothing'; known: recipe, data"),
    ],
)
def test_mistakes_are_explained(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(composed(tree))


def test_mistakes_in_a_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("dim = [8, 4]\n")
    with pytest.raises(UserError, match=r"mine.toml: unknown setting 'dim'; did you mean 'dims'"):
        read_chain(path)
    with pytest.raises(UserError, match="no such file"):
        read_chain(tmp_path / "none.toml")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
SCALARS = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-1e9, 1e9), TEXT)
TREES: Any = st.recursive(
    st.dictionaries(TEXT, SCALARS, max_size=3),
    lambda inner: st.dictionaries(
        TEXT, st.one_of(inner, st.lists(st.integers(-(2**63), 2**63 - 1))), max_size=3
    ),
    max_leaves=5,
)


@given(
    student=TREES,
    teacher=TREES,
    more=st.lists(TREES, max_size=2),
    direct=st.one_of(st.none(), TREES),
    control=st.sampled_from(["none", "recipe", "both"]),
)
def test_settings_survive_toml(
    tmp_path_factory: pytest.TempPathFactory,
    student: Any,
    teacher: Any,
    more: Any,
    direct: Any,
    control: Any,
) -> None:
    chain = ChainConfig(
        dims=[9, 3],
        student=student,
        teacher=teacher,
        more_teachers=more,
        direct=direct,
        control=control,
        sizes={"3": student},
    )
    path = tmp_path_factory.getbasetemp() / "chain.toml"
    path.write_bytes(chain.to_toml().encode())
    assert ChainConfig.from_mapping(read_toml(path), "test") == chain


@pytest.mark.parametrize("recipe", chain_recipe_names())
def test_shipped_recipes_have_a_plan(recipe: str) -> None:
    chain = composed(recipe=recipe)
    tree = read_shipped(CHAINS / f"{recipe}.toml")
    assert chain.recipe == recipe
    assert chain.dims == tree.get("dims", ChainConfig().dims)
    stages = plan(chain)
    assert len({stage.name for stage in stages}) == len(stages) >= 2
    for stage in plan(compose_chain(recipe, None, None, [{"shared": {"training": {"epochs": 2}}}])):
        assert stage.config.training.epochs == 2
    again = ChainConfig.from_mapping(chain.model_dump(), "test")
    assert plan(again) == stages


def test_recipes_are_found_by_family_model_and_dataset() -> None:
    assert "paper-transe-fb15k237" in chain_recipe_names()
    found = compose_chain("paper", "/data/FB15k237", "TransE", [])
    assert found.recipe == "paper-transe-fb15k237"
    assert found.data.dataset == "/data/FB15k237"
    with pytest.raises(UserError, match=r"--recipe: no chain recipe for 'paper TransE cldr'"):
        compose_chain("paper", "cldr", "TransE", [])
    with pytest.raises(UserError, match="did you mean 'paper-transe-fb15k237'"):
        compose_chain("paper-transe-fb15k", "cldr", None, [])
    assert compose_chain("auto", "no-such-data", None, []).recipe is None
    # A dataset's best recipe is also that of its students' score function.
    assert compose_chain("best", "fb15k237", "rescal", []).recipe == "best-fb15k237"
    assert compose_chain("best", "fb15k237", "transe", []).recipe == "best-transe-fb15k237"


def test_a_schedule_that_a_chain_names_wins_over_what_fan_out_prefers() -> None:
    def schedule(tree: dict[str, Any]) -> str:
        stage = plan(compose_chain("none", None, "TransE", [{"method": "fan_out"}, tree]))[1]
        assert stage.config.distillation is not None
        return stage.config.distillation.weight.name

    assert schedule({}) == "constant"
    assert schedule({"student": {"distillation": {"weight": {"name": "fading"}}}}) == "fading"


@pytest.mark.parametrize("method", ["iterde", "fan_out", "dgkd", "bkd", "ta", "rkd", "fitnet"])
def test_many_machines_begin_with_what_a_method_prefers(method: str) -> None:
    """A student's settings are those that a chain of the method gives it."""
    stage = plan(compose_chain("none", None, "TransE", [{"method": method}]))[1]
    alone = Config.from_mapping({"distillation": {"method": method}}, "test")
    assert student_settings(alone).distillation == stage.config.distillation
    weight = {"weight": {"name": "fading", "options": {"until": 0.5}}}
    said = Config.from_mapping({"distillation": {"method": "fan_out", **weight}}, "test")
    found = student_settings(said).distillation
    assert found is not None and found.weight.name == "fading"


def test_a_further_teacher_may_have_a_size_of_its_own() -> None:
    more = [{"model": {"name": "TransE"}}, {"model": {"name": "ComplEx", "dim": 24}}]
    tree = {"method": "fan_out", "dims": [16, 4], "more_teachers": more}
    stages = plan(compose_chain("none", None, "RotatE", [tree]))
    assert [stage.name for stage in stages[:4]] == [
        "0-teacher-rotate-dim16",
        "1-teacher-transe-dim16",
        "2-teacher-complex-dim24",
        "3-rotate-dim4",
    ]


@pytest.mark.parametrize(
    ("said", "hard"),
    [
        ({"method": "bkd"}, 0.0),
        ({"method": "dualde"}, 1.0),
        ({"method": "mulde"}, 1.0),
        ({"method": "dualde", "student": {"distillation": {"hard_weight": 0.5}}}, 0.5),
    ],
)
def test_weights_found_for_one_soft_loss_are_not_another_ones(
    said: dict[str, Any], hard: float
) -> None:
    # The recipe's students copy a distribution and leave out the facts. DualDE and MulDE bring soft
    # losses of their own, beside which the facts count, as published.
    chain = compose_chain("best-complex-wn18rr", "wn18rr", None, [{"dims": [512, 32]}, said])
    teachers = ["one", "two"] if said["method"] == "mulde" else ["one"]
    student = plan(chain, teachers)[-2].config
    assert student.distillation is not None
    assert student.distillation.hard_weight == hard
    compared = chain_of(
        ComparisonConfig(methods=[said["method"]], seeds=[3], chain=chain), said["method"], 3
    )
    assert compared.student["distillation"].get("hard_weight", 1.0) == hard


def test_a_comparison_takes_the_weights_of_a_recipe_only_where_they_fit() -> None:
    chain = compose_chain("best-complex-wn18rr", "wn18rr", None, [{"dims": [512, 32]}])
    comparison = ComparisonConfig(methods=["fan_out", "bkd", "dualde"], seeds=[0], chain=chain)
    weights = {
        method: chain_of(comparison, method, 0).student["distillation"].get("hard_weight")
        for method in comparison.methods
    }
    assert weights == {"fan_out": 0.0, "bkd": 0.0, "dualde": None}
