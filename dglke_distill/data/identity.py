"""Which triples a model was trained on, and whether they are those at hand."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.config import DataConfig
from dglke_distill.data.layout import SPLITS
from dglke_distill.data.packings import without_packing
from dglke_distill.data.table_options import IN_MEMORY
from dglke_distill.data.triples import Dataset

_SHOWN = 16
_DIGEST = re.compile("[0-9a-f]{64}")


class Lookup(NamedTuple):
    """Where a model's own dataset is looked for, and what may be found.

    Attributes:
        dataset: name or path of it, as the user gives it; None: it is found by its name.
        data_root: folder of datasets already there; see ``catalog.load``.
        offline: whether to refuse to download.
        allow_other_data: whether to go on with other triples than those trained on; None: never.
    """

    dataset: Optional[str] = None
    data_root: Optional[Path] = None
    offline: bool = False
    allow_other_data: Optional[bool] = False


@dataclass(frozen=True)
class OtherData:
    """Triples, other than its dataset's, that a model may know through a teacher.

    Attributes:
        teacher: name of the teacher.
        dataset: name of the teacher's dataset; empty if that is not recorded.
        fingerprint: of the teacher's triples; None if that is not recorded.
    """

    teacher: str
    dataset: str
    fingerprint: Optional[str]

    def line(self, dataset: str, fingerprint: str) -> str:
        """Return the warning that belongs beside every figure.

        Args:
            dataset: name of the student's dataset.
            fingerprint: its fingerprint.
        """
        here = f"{dataset} ({short(fingerprint)})"
        if self.fingerprint is None:
            return (
                f"teacher {self.teacher}: which triples it was trained on is not recorded and "
                f"could not be compared with those of {here}; it may know test facts"
            )
        return (
            f"OTHER DATA: teacher {self.teacher} was trained on the triples of "
            f"{self.dataset or 'a dataset'} ({short(self.fingerprint)}), not on those of {here}; "
            "it may know test facts, and figures may be too high"
        )


@dataclass(frozen=True)
class Identity:
    """What a model says of the triples it was trained on.

    Attributes:
        name: of the dataset.
        fingerprint: of the triples, None if it is not recorded.
        counts: entities, relations, train, valid and test triples; None if they are not recorded.
        path: where the dataset lay, if it was given by a path; never to be opened.
        data: options with which it was read.
        others: what it may know besides, through teachers.
    """

    name: str
    fingerprint: Optional[str]
    counts: Optional[tuple[int, ...]]
    path: Optional[str]
    data: DataConfig
    others: tuple[OtherData, ...] = ()

    @classmethod
    def of(cls, results: Mapping[str, Any], data: DataConfig) -> Identity:
        """Return what results and settings of a model say; they may be anybody's.

        Args:
            results: what ``results.json`` holds.
            data: the section ``data`` of its settings.
        """
        stated = results.get("dataset")
        stated = stated if isinstance(stated, Mapping) else {}
        name, path = stated.get("name"), stated.get("path")
        if not isinstance(path, str):
            grown = "extended_from" in results  # what lies there has fewer facts
            path = data.dataset if _is_path(data.dataset) and not grown else None
        if not isinstance(name, str) or not name:
            name = Path(data.dataset).name
        triples = stated.get("triples")
        triples = triples if isinstance(triples, Mapping) else {}
        counts = [stated.get("entities"), stated.get("relations")]
        counts += [triples.get(split) for split in SPLITS]
        whole = all(isinstance(count, int) for count in counts)
        others = stated.get("others")
        return cls(
            name=name,
            fingerprint=_digest(stated.get("fingerprint")),
            counts=tuple(counts) if whole else None,  # type: ignore[arg-type]
            path=path,
            data=data,
            others=tuple(_other(one) for one in others) if isinstance(others, list) else (),
        )


def label_of(place: str) -> str:
    """Return what a dataset is called in names of folders: a file's name without its endings.

    Args:
        place: a name of the catalog, or a path.
    """
    path = Path(place)
    name = Path(without_packing(path.name)).stem if path.is_file() else path.name
    return name or "data"


def check_named(place: str) -> None:
    """Refuse an empty name, as of a variable that a shell does not know.

    Raises:
        UserError: it is empty.
    """
    if not place.strip():
        raise UserError("the name of the dataset is empty; name one of the catalog, or a path")


def located(place: str) -> str:
    """Return a name as it is, and the path of an existing folder or file as an absolute one.

    What is saved with a run must mean the same in every folder.

    Args:
        place: what the user typed: a name of the catalog, or a path.

    Raises:
        UserError: it is empty.
    """
    check_named(place)
    path = in_home(place)
    if not path.exists():
        return place
    if path.name in ("", ".."):
        return str(resolved(path))
    return str(resolved(path.parent) / path.name)


def located_data(data: DataConfig, begun: Optional[Mapping[str, Any]] = None) -> DataConfig:
    """Return settings whose dataset, if it was given by a path, is an absolute one.

    A table in memory has a name, which no folder of that name is.

    Args:
        data: of a run or a chain.
        begun: all settings of the run that is to be resumed: what stands there stays as it is.
    """
    if data.format == IN_MEMORY:
        return data
    stated = (begun or {}).get("data")
    if isinstance(stated, Mapping) and stated.get("dataset") == data.dataset:
        return data
    found = located(data.dataset)
    return data if found == data.dataset else data.model_copy(update={"dataset": found})


def describe_data(
    dataset: Dataset, data: DataConfig, others: Iterable[OtherData] = ()
) -> dict[str, Any]:
    """Return the section ``dataset`` of results: what is needed to find the same triples again.

    Args:
        dataset: the dataset.
        data: the settings it was read with; ``dataset`` is a name or an absolute path.
        others: what teachers may know besides.
    """
    found: dict[str, Any] = {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "entities": dataset.num_entities,
        "relations": dataset.num_relations,
        "triples": {split: len(dataset.split(split)) for split in SPLITS},
        "format": data.format,
        "split_seed": data.split_seed,
    }
    if data.header is not None:
        found["header"] = data.header
    for option in ("columns", "delimiter", "ignore_extra", "weight_column", "literals"):
        if getattr(data, option) is not None:
            found[option] = getattr(data, option)
    if _is_path(data.dataset):
        found["path"] = data.dataset
    strangers = [dataclasses.asdict(other) for other in others]
    if strangers:
        found["others"] = strangers
    return found


def compare_data(
    identity: Identity, dataset: Dataset, *, who: str, allow_other_data: Optional[bool], fix: str
) -> list[str]:
    """Compare the triples that a model was trained on with those at hand.

    Args:
        identity: of the model.
        dataset: what is at hand.
        who: what to call the model.
        allow_other_data: whether to go on with other triples; None: never, and no option allows it.
        fix: how to get the right ones, for the message.

    Returns:
        Warnings for every output, of what could not be compared, or is other and allowed.

    Raises:
        UserError: the triples are others, and that is not allowed.
    """
    here = f"{dataset.name} ({short(dataset.fingerprint)})"
    if identity.fingerprint is None:
        return [
            f"{who}: which triples it was trained on is not recorded, and could not be compared "
            f"with those of {here}"
        ]
    if dataset.has_fingerprint(identity.fingerprint):
        return []
    said = (
        f"{who}: the triples of {here} are not those it was trained on, of "
        f"{shown(identity.name)} ({short(identity.fingerprint)})"
    )
    if not allow_other_data:
        cause = _cause(identity, dataset)
        more = "" if allow_other_data is None else ", or go on with --allow-other-data"
        raise UserError(f"{said}: {cause}; {fix}{more}")
    return [f"OTHER DATA: {said}; figures may rest on facts that it has seen"]


def _cause(identity: Identity, dataset: Dataset) -> str:
    """Return why triples may be others than a model's."""
    if identity.counts is not None and any("split with seed" in line for line in dataset.warnings):
        facts = sum(len(dataset.split(split)) for split in SPLITS)
        entities, relations, *triples = identity.counts
        if (dataset.num_entities, dataset.num_relations, facts) == (
            entities, relations, sum(triples),
        ):  # fmt: skip
            return (
                "it is one file of as many facts, but they are split otherwise: older versions "
                "dealt a file out at random, and now a triple's side follows from its names; train "
                "anew, or give the folder of the train, valid and test that the model had"
            )
    return "facts were changed, or it is another dataset or split"


def short(fingerprint: str) -> str:
    """Return the part of a fingerprint that messages show."""
    return fingerprint[:_SHOWN]


def shown(text: str) -> str:
    """Return text from a checkpoint, quoted for a shell and safe on a terminal."""
    text = text if len(text) <= 1000 else f"{text[:1000]}..."
    return shlex.quote(text) if text.isprintable() else ascii(text)


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or text in (".", "..") or text.startswith("~")


def _digest(value: object) -> Optional[str]:
    return value if isinstance(value, str) and _DIGEST.fullmatch(value) else None


def _other(value: object) -> OtherData:
    tree = value if isinstance(value, Mapping) else {}
    teacher, dataset = (str(tree.get(key) or "")[:200] for key in ("teacher", "dataset"))
    return OtherData(teacher or "unnamed", dataset, _digest(tree.get("fingerprint")))
