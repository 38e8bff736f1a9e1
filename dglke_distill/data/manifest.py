"""Dataset manifests: one TOML file per known dataset, saying what it is and how to recognise it.

A manifest lives in ``datasets/<name>.toml``; the files of an embedded dataset lie beside it in
``datasets/<name>/``. The folder is at the top of the repository and travels inside the wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.base.parsing import read_toml
from dglke_distill.base.schema import (
    ConfigDict,
    Field,
    StrictModel,
    ValidationError,
    field_validator,
    model_validator,
)

SPLIT_FILES = ("train", "valid", "test", "valid_negatives", "test_negatives")
"""The roles a file of triples can have in a dataset."""

FileRole = Literal[
    "train",
    "valid",
    "test",
    "valid_negatives",
    "test_negatives",
    "entities",
    "relations",
    "entity_labels",
    "relation_labels",
    "licence",
]
VerifiedBy = Literal["sha256", "git_blob", "counts"]


class Counts(StrictModel):
    """What the dataset holds when it is complete.

    Attributes:
        entities: number of distinct entities over all splits.
        relations: number of distinct relations over all splits.
        train: number of train triples.
        valid: number of validation triples.
        test: number of test triples.
        entity_types: number of entity types, where entities are typed.
    """

    entities: int = Field(gt=0)
    relations: int = Field(gt=0)
    train: int = Field(gt=0)
    valid: int = Field(ge=0)
    test: int = Field(ge=0)
    entity_types: Optional[int] = Field(default=None, gt=0)

    @property
    def triples(self) -> int:
        """Number of triples in the three splits together."""
        return self.train + self.valid + self.test


class DatasetFile(StrictModel):
    """One published file and what identifies its bytes.

    Attributes:
        path: path in the repository, or in ``datasets/<name>/`` for an embedded dataset.
        sha256: hex digest of the content, where the content was at hand to hash.
        git_blob: sha1 of ``blob <size>``, NUL and the content: how git names it.
        bytes: size of the content.
        lines: number of lines.
        url: full address, when the source's pattern does not give it.
    """

    path: str = Field(min_length=1)
    sha256: Optional[str] = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    git_blob: Optional[str] = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    bytes: Optional[int] = Field(default=None, gt=0)
    lines: Optional[int] = Field(default=None, gt=0)
    url: Optional[str] = None

    @field_validator("path")
    @classmethod
    def _stay_inside(cls, value: str) -> str:
        """Refuse paths that lead out of their folder."""
        if value.startswith("/") or "\\" in value or ".." in value.split("/"):
            raise ValueError("must be a relative path with forward slashes and without '..'")
        return value

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def verified_by(self) -> VerifiedBy:
        """The strongest check that the manifest makes possible."""
        if self.sha256 is not None:
            return "sha256"
        return "git_blob" if self.git_blob is not None else "counts"


class LabelFile(DatasetFile):
    """Names that people know for the ids: published somewhere, or shipped with the package.

    Attributes:
        licence: the licence of the names, or an honest word that the publisher names none.
        origin: where the names come from, in words.
        url: full address; None: ``path`` lies in the folder of manifests.
    """

    licence: str = Field(min_length=1)
    origin: str = Field(min_length=1)


class Source(StrictModel):
    """Where the files come from.

    Attributes:
        kind: ``embedded`` (in ``datasets/<name>/``), ``files`` (one download per file) or ``ogb``
            (the official archive of the Open Graph Benchmark).
        repository: GitHub repository as ``owner/name``.
        commit: full commit id that pins the files.
        url: address pattern with ``{repository}``, ``{commit}`` and ``{path}``.
        format: format of the files of triples, as in ``dglke_distill.data.formats``.
    """

    kind: Literal["embedded", "files", "ogb"]
    repository: Optional[str] = Field(default=None, pattern=r"^[^/\s]+/[^/\s]+$")
    commit: Optional[str] = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    url: Optional[str] = None
    format: str = "names_hrt"


class OgbSource(StrictModel):
    """The official archive of a dataset of the Open Graph Benchmark.

    Nobody publishes digests of these archives: they are known by size, and by the counts of what
    is in them.

    Attributes:
        dataset: name in the ogb package, such as ``ogbl-wikikg2``.
        split: name of the official split: ``time`` or ``random``.
        url: address of the archive; None where it cannot be downloaded.
        folder: the folder in it.
        bytes: its size, where it is known to the byte.
        most_bytes: more than that is not downloaded.
        most_unpacked_bytes: more than that is not unpacked.
    """

    dataset: str
    split: str
    url: Optional[str] = Field(default=None, pattern=r"^https://[!-~]+$")
    folder: str = ""
    bytes: Optional[int] = Field(default=None, gt=0)
    most_bytes: int = Field(default=0, ge=0)
    most_unpacked_bytes: int = Field(default=0, ge=0)


class DglCopy(StrictModel):
    """The copy that ``dgl.data`` keeps of the same dataset.

    Attributes:
        dataset: class in ``dgl.data``.
        folder: folder below DGL's download folder (``~/.dgl`` unless configured otherwise).
    """

    dataset: str
    folder: str


class Manifest(StrictModel):
    """A validated ``datasets/<name>.toml``.

    Attributes:
        schema_version: version of this layout (``schema`` in the file).
        name: the name that users type.
        title: the name in the literature.
        aliases: other spellings that are accepted.
        description: one or two sentences.
        homepage: where to read more.
        licence: the licence, or an honest word that the publisher names none.
        citation: BibTeX.
        counts: entities, relations and triples.
        source: where the files come from.
        files: the files by role.
        ogb: details for source kind ``ogb``.
        dgl: DGL's own copy, where there is one.
        labels: names that people know for its entities, where the ids are none.
        notes: peculiarities a user should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    aliases: list[str] = Field(default_factory=list)
    description: str
    homepage: str
    licence: str = Field(min_length=1)
    citation: str
    counts: Counts
    source: Source
    files: dict[FileRole, DatasetFile] = Field(default_factory=dict)
    ogb: Optional[OgbSource] = None
    dgl: Optional[DglCopy] = None
    labels: Optional[LabelFile] = None
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        """Check that the source has what its kind needs."""
        if self.source.kind == "ogb":
            if self.ogb is None:
                raise ValueError("kind = 'ogb' needs an [ogb] table")
            return self
        missing = [role for role in ("train", "valid", "test") if role not in self.files]
        if missing:
            raise ValueError(f"[files] lacks {', '.join(missing)}")
        if self.source.kind == "files":
            for role in self.files:
                self.url(role)
        return self

    def url(self, role: FileRole) -> str:
        """Return the address of the file with the given role.

        Raises:
            ValueError: neither the file nor the source gives one.
        """
        file = self.files[role]
        if file.url is not None:
            return file.url
        if self.source.url is None:
            raise ValueError(f"files.{role} has no url and [source] has no url pattern")
        return self.source.url.format(
            repository=self.source.repository, commit=self.source.commit, path=file.path
        )


def datasets_dir() -> Path:
    """Return the folder of manifests: inside an installed package, else in the repository.

    Raises:
        UserError: neither exists, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_datasets", package.parent / "datasets"):
        if folder.is_dir():
            return folder
    raise UserError(
        f"the dataset manifests are missing beside {package}: install the package again"
    )


def read_manifest(path: Path) -> Manifest:
    """Read and validate one manifest.

    Raises:
        UserError: the file is not there, is not TOML or does not follow the schema.
    """
    content = read_toml(path, missing="there is no such manifest")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file as a whole"
        raise UserError(f"{path}: {where}: {fault_words(first)}") from None
    if manifest.name != path.stem:
        raise UserError(f"{path}: name is {manifest.name!r}; it must equal the file's name")
    return manifest


def manifest_names() -> list[str]:
    """Return the names of all manifests, sorted."""
    return sorted(path.stem for path in datasets_dir().glob("*.toml"))


def load_manifest(name: str) -> Optional[Manifest]:
    """Return the manifest of a dataset by name or alias in any letter case, or None.

    Args:
        name: what the user typed, such as ``fb15k237`` or ``FB15k-237``.

    Raises:
        UserError: the manifest is there but not valid.
    """
    wanted = name.lower()
    if wanted in manifest_names():
        return read_manifest(datasets_dir() / f"{wanted}.toml")
    for candidate in manifest_names():
        manifest = read_manifest(datasets_dir() / f"{candidate}.toml")
        if wanted in (alias.lower() for alias in manifest.aliases):
            return manifest
    return None
