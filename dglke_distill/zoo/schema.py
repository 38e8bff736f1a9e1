"""What a registry of models says: ``zoo.toml``, validated.

A registry is a TOML file with ``schema = 1`` and a ``[[model]]`` table per published version of a
model. A registry comes from elsewhere, so nothing in it is trusted: names and paths cannot leave
their folder, addresses are HTTP, text has no control characters, and unknown keys are errors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Optional, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import AfterValidator, Field, StrictModel, model_validator

SCHEMA = 1
"""The version of the layout that this code reads and writes."""

PROTOCOL = "filtered, both sides, all entities"
"""The protocol of ``evaluate.evaluate``, as entries state it."""

PROTOCOLS = (PROTOCOL, "filtered, both sides, given entities")
"""All that are measured here; the second is that of ``evaluate.evaluate_given``."""

TIES = "realistic"
"""How ``evaluate.evaluate`` ranks ties, as entries state it."""

CHECKPOINT_FILES = (
    "model.safetensors",
    "config.json",
    "entities.tsv",
    "relations.tsv",
    "results.json",
)
"""The files that make up a checkpoint, all of them needed to load it."""

KNOWN_FILE = "known.safetensors"
"""The facts of the dataset, which may be published beside; see ``known_facts_file``."""

CALIBRATION_FILE = "calibration.safetensors"
"""What makes probabilities of scores, published where it lies beside the weights."""

LABELS_FILE = "labels.tsv"
"""Names that people know for the entities, likewise; see ``data.labels``."""

_BESIDE = (KNOWN_FILE, CALIBRATION_FILE, LABELS_FILE)

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]*"
"""What names of models look like."""
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def _plain_text(value: str) -> str:
    """Refuse control characters, which could rewrite what a terminal shows."""
    if any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in value):
        raise ValueError("must not hold control characters")
    return value


def _inside(value: str) -> str:
    """Refuse paths that lead out of a store."""
    if not all(_PATH_PART.fullmatch(part) for part in value.split("/")):
        raise ValueError(
            "must be a relative path of letters, digits and '._+-', with forward slashes, whose "
            "parts do not begin with a dot"
        )
    return value


def _web_address(value: str) -> str:
    """Refuse addresses of anything but the web."""
    if not re.fullmatch(r"https?://[!-~]+", value):
        raise ValueError("must be an http or https address")
    return value


Text = Annotated[str, Field(max_length=10_000), AfterValidator(_plain_text)]
Word = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_plain_text)]
Scalar = Union[bool, int, float, Text]
StorePath = Annotated[str, Field(max_length=500), AfterValidator(_inside)]
WebAddress = Annotated[str, Field(max_length=2_000), AfterValidator(_web_address)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class FileEntry(StrictModel):
    """One file of a checkpoint.

    Attributes:
        name: its name in a checkpoint directory, one of ``CHECKPOINT_FILES``, ``KNOWN_FILE``,
            ``CALIBRATION_FILE`` or ``LABELS_FILE``.
        path: its path in the store, relative, with forward slashes.
        sha256: hex digest of its content.
        bytes: its size.
        url: where it lies, if not in the store.
    """

    name: Literal[
        "model.safetensors",
        "config.json",
        "entities.tsv",
        "relations.tsv",
        "results.json",
        "known.safetensors",
        "calibration.safetensors",
        "labels.tsv",
    ]
    path: StorePath
    sha256: Digest
    bytes: int = Field(ge=0)
    url: Optional[WebAddress] = None


class Names(StrictModel):
    """The names of entities or relations: how many, and ``Vocabulary.fingerprint``."""

    count: int = Field(ge=1)
    sha256: Digest


class Vocabularies(StrictModel):
    """The names that a model's rows belong to."""

    entities: Names
    relations: Names


class PublishedMetrics(StrictModel):
    """Ranking figures, and what they are figures of."""

    split: Literal["valid", "test"]
    protocol: Word
    ties: Word
    mrr: Share
    hits_at_1: Share
    hits_at_3: Share
    hits_at_10: Share


class TimeToQuality(StrictModel):
    """Seconds until a student, and its size trained directly, had the latter's final quality.

    Attributes:
        goal_valid_mrr: that quality: the best validation MRR of direct training.
        student_seconds: of student, teachers and searches until then; None: never reached.
        direct_seconds: of direct training and its search until then.
        teachers_loaded: whether a teacher's time is not counted, since it was loaded.
    """

    goal_valid_mrr: Share
    student_seconds: Optional[Seconds] = None
    direct_seconds: Optional[Seconds] = None
    teachers_loaded: bool = False


class Entry(StrictModel):
    """One published version of a model; the header of a registry describes the keys."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=120)]
    version: int = Field(ge=1)
    model: Word
    options: Optional[dict[Word, Scalar]] = Field(None, max_length=50)
    dataset: Word
    dim: int = Field(ge=1)
    params: int = Field(ge=1)
    dtype: Annotated[str, Field(pattern="^[a-z0-9]+$", max_length=40)]
    bytes_per_entity: int = Field(ge=1)
    shared_bytes: int = Field(0, ge=0)
    dataset_fingerprint: Digest
    method: Text
    teacher: list[Word]
    recipe: Text
    commit: Text
    dirty: bool
    seed: int
    licence: Text
    citation: Text
    vocab: Vocabularies
    files: list[FileEntry]
    metrics: Optional[PublishedMetrics] = None
    verdict: Optional[Text] = None
    time: Optional[TimeToQuality] = None
    warnings: Optional[list[Text]] = Field(None, max_length=100)

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        """Check that the files are a checkpoint's, and that the name says what the entry does."""
        names: list[str] = sorted(file.name for file in self.files)
        for beside in _BESIDE:
            if names.count(beside) == 1:
                names.remove(beside)
        if names != sorted(CHECKPOINT_FILES):
            raise ValueError(f"files must be {', '.join(CHECKPOINT_FILES)}, each once")
        start, end = f"{self.model}-".lower(), _ending(self.dim, self.dtype)
        if not (self.name.startswith(start) and self.name.endswith(end)):
            raise ValueError(f"name must begin with {start!r} and end in {end!r}")
        return self

    def __repr__(self) -> str:
        of = self.metrics
        figures = "" if of is None else f", {of.split} MRR {of.mrr:.4f}"
        return (
            f"Entry({self.pinned}: {self.model} of {self.dataset}, {self.dim} floats in "
            f"{self.bytes_per_entity} bytes per entity{figures}, {self.total_bytes:,} bytes)"
        )

    __str__ = __repr__

    @property
    def pinned(self) -> str:
        """The name with its version, ``name@1``."""
        return f"{self.name}@{self.version}"

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def content(self) -> dict[str, str]:
        """The digest of each file by its name: what a version consists of."""
        return {file.name: file.sha256 for file in self.files}

    def file(self, name: str) -> FileEntry:
        """Return the file of that name, one of ``CHECKPOINT_FILES``."""
        return next(file for file in self.files if file.name == name)

    def to_tree(self) -> dict[str, Any]:
        """Return what a registry holds under ``[[model]]``."""
        return self.model_dump(mode="json", exclude_none=True)


def compose_name(model: str, dataset: str, dim: int, dtype: str, encoder: str = "") -> str:
    """Return ``<model>-<dataset>-dim<floats>``, and ``-<dtype>`` unless that is float32.

    An encoder that is no table of entities stands behind the model: ``complex-node-piece-...``; of
    a table nothing is said.
    Characters of the dataset's name that a name cannot have become ``-``; too long a one is cut.
    """
    kind = model.lower() + ("-" + encoder.replace("_", "-") if encoder else "")
    middle = re.sub(r"[^a-z0-9._]+", "-", dataset.lower()).strip("-._") or "data"
    ending = _ending(dim, dtype)
    middle = middle[: max(1, 119 - len(kind) - len(ending))].rstrip("-._")
    return f"{kind}-{middle}{ending}"


def _ending(dim: int, dtype: str) -> str:
    return f"-dim{dim}" + ("" if dtype == "float32" else f"-{dtype}")


def split_version(text: str) -> tuple[str, Optional[int]]:
    """Split ``name`` or ``name@version``; the version is None where none is asked for.

    Raises:
        UserError: what stands behind the ``@`` is no version.
    """
    name, at, version = text.partition("@")
    if at and not re.fullmatch("[1-9][0-9]{0,8}", version):
        raise UserError(f"{text!r}: write name or name@version, e.g. {name or 'name'}@1")
    return name, int(version) if at else None
