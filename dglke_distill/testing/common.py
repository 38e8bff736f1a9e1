"""What the contracts of all kinds share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from dglke_distill.base.errors import UserError
from dglke_distill.config import validate_options
from dglke_distill.config.names import fold
from dglke_distill.config.registry import Registry
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

__all__ = [
    "ENTITIES",
    "RELATIONS",
    "check_component",
    "check_gradient",
    "check_name",
    "close",
    "options_of",
    "registered",
    "ring",
]

ENTITIES, RELATIONS = 11, 3


@contextmanager
def registered(registry: Registry[Any], kind: Any) -> Iterator[str]:
    """Within it a class is to be had by its name, whether it is registered elsewhere or not.

    Args:
        registry: of its kind, such as ``models.SCORE_FUNCTIONS``.
        kind: the class.

    Yields:
        The name.
    """
    name = str(getattr(kind, "name", "") or kind.__name__)
    if registry.knows(name) and registry.find(name) is kind:
        yield registry.spell(name)
        return
    registry.register(kind)
    try:
        yield name
    finally:
        registry.unregister(name)


def check_name(registry: Registry[Any], kind: Any) -> str:
    """Check what every registry asks, a base and a name; return the name.

    Args:
        registry: of its kind, such as ``models.SCORE_FUNCTIONS``.
        kind: the class.
    """
    with registered(registry, kind) as name:
        assert fold(name) == fold(registry.spell(name.upper())), f"{name}: the letter case counts"
        assert registry.find(name) is kind
    return name


def check_component(registry: Registry[Any], kind: Any) -> None:
    """Check what kinds with options ask: a base, a name, and a refusal of unknown options.

    Args:
        registry: of its kind, such as ``models.SCORE_FUNCTIONS``.
        kind: the class.
    """
    name = check_name(registry, kind)
    schema = kind.Options
    validate_options(schema, {}, f"{name}: without options")
    try:
        validate_options(schema, {"no_such_option": 1}, name)
    except UserError:
        return
    raise AssertionError(
        f"{name}: an unknown option is taken; derive Options from config.registry.NoOptions"
    )


def options_of(kind: Any, options: Optional[Mapping[str, Any]]) -> Any:
    """Return validated options of a class.

    Args:
        kind: the class.
        options: those that are not left as they are; None: none.
    """
    return validate_options(kind.Options, options or {}, f"options of {kind.__name__}")


def close(found: Tensor, expected: Tensor, what: str, rtol: float = 1e-7) -> None:
    """Check that numbers are those of a formula.

    Args:
        found: what the class gives.
        expected: what its formula gives.
        what: to be said where they differ.
        rtol: relative error that is allowed.
    """
    torch.testing.assert_close(
        found.detach(), expected, rtol=rtol, atol=rtol, msg=lambda text: f"{what}: {text}"
    )


def check_gradient(call: Callable[[Tensor], Tensor], where: Tensor, what: str) -> None:
    """Compare the gradient of a scalar with central differences.

    Args:
        call: the function.
        where: at which values, float64.
        what: to be said where they differ.
    """
    inputs = where.clone().requires_grad_()
    (found,) = torch.autograd.grad(call(inputs), inputs)
    step, expected = 1e-6, torch.empty_like(where)
    with torch.no_grad():
        for place in range(where.numel()):
            moved = torch.zeros_like(where)
            moved.view(-1)[place] = step
            change = call(where + moved) - call(where - moved)
            expected.view(-1)[place] = change / (2 * step)
    close(found, expected, what, 1e-6)


def ring(hours: int = 24) -> Dataset:
    """Return hours in a circle with steps of one, two and five: a dataset of the smallest."""
    facts = [(i, k, (i + step) % hours) for i in range(hours) for k, step in enumerate((1, 2, 5))]
    table = torch.tensor(facts, dtype=torch.int32)[
        torch.randperm(len(facts), generator=torch.Generator().manual_seed(0))
    ].numpy()
    train, valid, test = (Triples(*part.T.copy()) for part in (table[12:], table[:6], table[6:12]))
    return Dataset(
        "ring",
        Vocabulary([f"hour{i:02}" for i in range(hours)]),
        Vocabulary(["plus1", "plus2", "plus5"], kind="relation"),
        train,
        valid,
        test,
    )
