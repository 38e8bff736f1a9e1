"""What a value must be is said in our words, with pydantic or without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pydantic
import pytest
from cli_fixtures import called

import dglke_distill as kd
from dglke_distill.base import plain_schema, plain_values
from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.config import Config


def checked(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("take an odd number")
    return value


# Each library passes over the other's.
Odd = Annotated[int, pydantic.AfterValidator(checked), plain_values.AfterValidator(checked)]


def one(library: Any) -> Any:
    """Return a class of fields of every kind, read by pydantic or by our own reader."""

    class Tree(library.BaseModel):  # type: ignore[misc]
        model_config = library.ConfigDict(extra="forbid", allow_inf_nan=False)

        count: int = library.Field(3, ge=1, le=9)
        rate: float = library.Field(0.5, gt=0, lt=1.5)
        name: str = library.Field("ab", min_length=1, max_length=3, pattern="^[a-z]*$")
        kind: Literal["a", "b"] = "a"
        sizes: list[int] = library.Field([1], min_length=1, max_length=2)
        on: bool = True
        below: Optional[dict[str, int]] = None
        odd: Odd = 1

    return Tree


CASES = [
    ({"count": 0}, "must be at least 1"),
    ({"count": 10}, "must be at most 9"),
    ({"count": "x"}, "must be a whole number"),
    ({"count": 1.5}, "must be a whole number"),
    ({"rate": 0}, "must be more than 0"),
    ({"rate": 2}, "must be less than 1.5"),
    ({"rate": float("nan")}, "must be a finite number"),
    ({"rate": []}, "must be a number"),
    ({"name": ""}, "must have at least 1 character"),
    ({"name": "abcd"}, "must have at most 3 characters"),
    ({"name": "A"}, "must be written as the pattern ^[a-z]*$ says"),
    ({"name": 3}, "must be a text"),
    ({"kind": "c"}, "must be 'a' or 'b'"),
    ({"sizes": []}, "must have at least 1 entry"),
    ({"sizes": [1, 2, 3]}, "must have at most 2 entries"),
    ({"sizes": 3}, "must be a list"),
    ({"on": "perhaps"}, "must be true or false"),
    ({"below": 3}, "must be a table of settings"),
    ({"odd": 2}, "take an odd number"),
    ({"other": 2}, "is not known here"),
]


@pytest.mark.parametrize(("tree", "words"), CASES, ids=[str(tree) for tree, _ in CASES])
def test_faults_in_our_words(tree: dict[str, Any], words: str) -> None:
    for library in (pydantic, plain_schema):
        with pytest.raises(library.ValidationError) as caught:
            one(library).model_validate(tree)
        assert fault_words(caught.value.errors()[0]) == words, library.__name__


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("train cldr --threads -1", "--threads (training.threads) is -1; it must be at least 1"),
        ("train cldr --lr 0", "--lr (optimizer.learning_rate) is 0.0; it must be more than 0"),
        ("train cldr --batch-size 0", "--batch-size (training.batch_size) is 0; it must be at le"),
        ("train cldr --set model.dim=1.5", "--set model.dim is 1.5; it must be a whole number"),
        ("train cldr --set training=3", "--set training is 3; it must be a table of settings"),
        ("config show --set trainin.epochs=3", "--set: unknown setting 'trainin'; did you mean"),
        ("tune cldr --set training.epochs=x", "--set training.epochs is 'x'; it must be a whole"),
        ("run cldr --set student.model.dim=x", "--set student.model.dim is 'x'; it must be a"),
        ("run cldr --set sizes.8.model.dim=0", "--set sizes.8.model.dim is 0; it must be at"),
        ("compare cldr --set bkd.training.epochs=x", "--set bkd.training.epochs is 'x'; it must"),
        ("compare cldr --set shared.training.epochs=x", "--set shared.training.epochs is 'x'; it"),
        ("ogb run ogbl-biokg --set shared.model.dim=x", "--set shared.model.dim is 'x'; it must"),
        (
            "evaluate complex-cldr-dim32 --offline --threads -1",
            "--threads (training.threads) is -1; it must be at least 1",
        ),
        ("run cldr --seeds 0", "--seeds is 0; it must be at least 1"),
        ("run cldr --dims 0", "--dims is [0]; sizes must be from 1 to "),
        ("tune cldr --threads 0", "--threads (training.threads) is 0; it must be at least 1"),
    ],
)
def test_a_command_names_its_option(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = called(capsys, *words.split())
    assert said.code == 2 and said.err.splitlines()[-1].startswith(f"error: {line}"), said.err


@pytest.mark.parametrize(
    ("call", "settings", "line"),
    [
        (kd.train, {"training.epochs": 1.5}, "setting 'training.epochs' is 1.5; it must be a"),
        (kd.distill, {"shared.model.dim": 0}, "setting 'model.dim' is 0; it must be at least 1"),
    ],
)
def test_a_call_names_no_option(call: Any, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        call("cldr", settings=settings)
    assert str(caught.value).startswith("settings=") and "--" not in str(caught.value)


def test_a_file_is_blamed_for_what_it_says(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        Config.from_mapping({"training": {"threads": -1}}, "my.toml")
    assert str(caught.value) == "my.toml: setting 'training.threads' is -1; it must be at least 1"
