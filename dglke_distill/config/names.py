"""Names of components as published, from names in any letter case.

Settings hold published names alone: what is compared, saved and shown then is one word, whoever
typed it. A name that is not listed here passes as it is; the component's own room refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Optional, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator

__all__ = [
    "NAMES",
    "EncoderName",
    "InitializationName",
    "LossName",
    "MethodName",
    "ModelName",
    "OptimizerName",
    "RegularizerName",
    "SamplerName",
    "ScheduleName",
    "SoftLossName",
    "fold",
    "published",
    "spell_choices",
]

NAMES: Mapping[str, tuple[str, ...]] = {
    "model": (
        "TransE", "DistMult", "ComplEx", "SimplE", "RotatE", "RotE", "RotH", "RESCAL", "HolE",
        "TransR", "PairRE", "TripleRE", "AutoSF", "TuckER", "MEIM",
    ),
    "encoder": ("lookup", "neighbor", "node_piece"),
    "sampler": ("uniform", "bernoulli", "degree", "typed"),
    "loss": ("margin", "logistic", "self_adversarial", "softmax", "bce"),
    "regularizer": ("none", "l2", "n3", "dura"),
    "optimizer": ("adagrad", "rowwise_adagrad", "adam", "sgd"),
    "soft loss": ("huber", "kl"),
    "schedule": ("constant", "fading", "linear", "power", "two_phase"),
    "method": (
        "iterde", "fan_out", "bkd", "ta", "dualde", "mulde", "rkd", "fitnet", "direct",
    ),
    "initialization": ("random", "pca", "svd", "truncate"),
}  # fmt: skip
"""What the registries of the rooms below list; a test holds them together."""


def fold(name: str) -> str:
    """Return what two spellings of a name share: letter case and hyphens do not count."""
    return name.lower().replace("-", "_")


def published(name: Any, known: Iterable[str]) -> Any:
    """Return the known name that a name spells, or what was given where there is none."""
    if not isinstance(name, str):
        return name
    known = list(known)
    return name if name in known else {fold(one): one for one in known}.get(fold(name), name)


def _of(kind: str) -> BeforeValidator:
    return BeforeValidator(lambda name: published(name, NAMES[kind]))


ModelName = Annotated[str, _of("model")]
EncoderName = Annotated[str, _of("encoder")]
SamplerName = Annotated[str, _of("sampler")]
LossName = Annotated[str, _of("loss")]
RegularizerName = Annotated[str, _of("regularizer")]
OptimizerName = Annotated[str, _of("optimizer")]
SoftLossName = Annotated[str, _of("soft loss")]
ScheduleName = Annotated[str, _of("schedule")]
MethodName = Annotated[str, _of("method")]
InitializationName = Annotated[str, _of("initialization")]


def spell_choices(kind: type[BaseModel], tree: Any) -> Any:
    """Return a mapping with every choice (``Literal``) of a settings class as it is published."""
    if not isinstance(tree, Mapping):
        return tree
    spelt = dict(tree)
    for key in spelt.keys() & kind.model_fields.keys():
        choices = _choices(kind.model_fields[key].annotation)
        if choices:
            spelt[key] = published(spelt[key], choices)
    return spelt


def _choices(annotation: Optional[Any]) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if get_origin(annotation) in (Union, Annotated):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []
