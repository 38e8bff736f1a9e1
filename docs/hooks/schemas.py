"""The pages of settings and of results, made of the classes that validate them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import tables
from pydantic import BaseModel


def _inner(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, alone or as Optional."""
    for each in (annotation, *typing.get_args(annotation)):
        if inspect.isclass(each) and issubclass(each, BaseModel):
            return each
    return None


def _sections(of: type[BaseModel], prefix: str, depth: int) -> Iterator[str]:
    inner = {name: _inner(field.annotation) for name, field in of.model_fields.items()}
    plain = [name for name, kind in inner.items() if kind is None]
    if plain:
        skip = [name for name, kind in inner.items() if kind is not None]
        yield tables.fields_table(of, prefix, skip)
    for name, kind in inner.items():
        if kind is not None:
            yield f"{'#' * depth} `[{prefix}{name}]`\n\n{tables.prose(kind)}\n"
            yield from _sections(kind, f"{prefix}{name}.", depth + 1)


_SETTINGS = """\
# Settings

A key is set on the command line by `--set section.key=value`, in Python by
`settings={"section.key": value}`, and in a file for `--config` by TOML:

```toml
[training]
epochs = 20
```

`none` as a default means that the key is not set; TOML has no such value, so leave the key out.
An unknown key or a value out of range is an error before anything is trained. `dglke-distill config
show` prints what a command would use. The `options` of a component are those of its class: see
[Components](components.md).
"""


def settings_page() -> str:
    """Return the page of every configuration key."""
    from dglke_distill.base.environment import Environment
    from dglke_distill.config import Config
    from dglke_distill.distill.chain_config import ChainConfig
    from dglke_distill.leaderboard.settings import About, SeedsConfig
    from dglke_distill.search.space import Range, Space

    parts = [_SETTINGS, "## A training\n\nOf `train`, `tune` and each stage of a chain.\n"]
    parts += _sections(Config, "", 3)
    parts.append(
        "## A chain\n\nOf `run`, `compare` and `kd.distill`; `chain.toml` holds them. What is "
        "below `shared`, `teacher`, `student`, `sizes` and `direct` are keys of a training, so the "
        "epochs of every stage are `shared.training.epochs`.\n"
    )
    data = ["data", "fit"]
    parts.append(tables.fields_table(ChainConfig, skip=data))
    parts.append("`data` is as above. `fit` holds:\n")
    kind = _inner(ChainConfig.model_fields["fit"].annotation)
    assert kind is not None
    parts.append(tables.fields_table(kind, "fit."))
    parts.append(f"## A search space\n\n{tables.prose(Space)}\n")
    parts.append(tables.fields_table(Space))
    parts.append(f"A range:\n\n{tables.fields_table(Range)}")
    parts.append("## A leaderboard entry\n\n`ogb.toml` holds its settings.\n")
    parts.append(tables.fields_table(SeedsConfig, skip=["chain"]))
    parts.append(f"`about.toml`: {tables.prose(About)}\n\n{tables.fields_table(About)}")
    rows = (
        (f"`DGLKE_DISTILL_{name.upper()}`", field.description or "")
        for name, field in Environment.model_fields.items()
    )
    parts.append(f"## Environment\n\n{tables.prose(Environment)}\n")
    parts.append(tables.table(("variable", "what it names"), rows))
    return "\n".join(parts)


_RESULTS = """\
# Results

Every run writes `results.json`. Python calls return the same tree, typed:
`run.results.metrics["test"].mrr`. Readers keep keys that they do not know, and refuse another
`schema`. Keys without a default are always there.
"""


def results_page() -> str:
    """Return the page of the layout of ``results.json``."""
    from dglke_distill.artifacts import results, results_parts, results_verdict

    first = (
        results.TrainingResults,
        results.EvaluationResults,
        results.ChainResults,
        results.StageResults,
        results.ComparisonResults,
    )
    rest = [
        kind
        for module in (results_parts, results_verdict)
        for name in module.__all__
        if inspect.isclass(kind := getattr(module, name)) and issubclass(kind, BaseModel)
    ]
    parts = [_RESULTS]
    for kind in dict.fromkeys((*first, *rest)):
        parts.append(f"## {kind.__name__}\n\n{tables.prose(kind)}\n\n{tables.fields_table(kind)}")
    return "\n".join(parts)
