"""Single models on the Hugging Face hub: ``zoo.push``, and ``zoo.load("hf://user/model")``.

A repository holds the files of a checkpoint, the model's entry as ``entry.toml`` and a card with
the hub's metadata. Files are data: nothing of a repository is run.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_text
from dglke_distill.zoo.card import render_card
from dglke_distill.zoo.entry_files import MAX_ENTRY_BYTES
from dglke_distill.zoo.index import shipped_store
from dglke_distill.zoo.registry_file import dump_entry, parse_entry
from dglke_distill.zoo.schema import Entry

SCHEME = "hf://"
ENTRY_FILE = "entry.toml"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")
# The names by which the hub knows licences of ours.
_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0", "odc-by"}


def is_hub(name: object) -> bool:
    """Return whether a model's name is an address on the hub."""
    return isinstance(name, str) and name.startswith(SCHEME)


def hub_files(address: str, *, offline: bool = False) -> tuple[Entry, dict[str, Path]]:
    """Download a model, or find it in the hub's own cache.

    Args:
        address: ``hf://user/model`` or ``hf://user/model@revision``.
        offline: whether to take it from the cache alone.

    Returns:
        What its entry says, and its files by name, not looked at yet.

    Raises:
        UserError: huggingface_hub is not installed, there is no such model, it cannot be
            downloaded, or its entry is not valid.
    """
    repository, revision = repository_of(address)
    api = _api(None)

    def get(name: str) -> Path:
        with _told(address, f"cannot get {name}"):
            place = api.hf_hub_download(
                repository, name, revision=revision, local_files_only=offline
            )
        return Path(place).resolve()  # its cache is of links to files that are named by content

    entry = parse_entry(read_text(get(ENTRY_FILE), MAX_ENTRY_BYTES), f"{address}, {ENTRY_FILE}")
    files: dict[str, Path] = {file.name: get(file.name) for file in entry.files}
    return entry, files


def upload(
    entry: Entry, files: Mapping[str, Path], hub: str, *, private: bool, token: Optional[str]
) -> str:
    """Upload a model as a repository of the hub.

    Args:
        entry: of the model.
        files: where its files lie, by name.
        hub: ``user/model``; made if it is not there.
        private: whether a new repository is seen by its owner alone.
        token: of the hub; None: the one that is logged in.

    Returns:
        The address, ``hf://user/model``.

    Raises:
        UserError: no such name for a repository, huggingface_hub is not installed, or the hub
            refuses.
    """
    repository, revision = repository_of(hub if is_hub(hub) else SCHEME + hub)
    if revision is not None:
        raise UserError(f"--hub {hub!r}: a model is pushed without a revision; write user/model")
    api = _api(token)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for file_name, path in files.items():
            shutil.copyfile(path, place / file_name)
        (place / ENTRY_FILE).write_text(dump_entry(entry), encoding="utf-8")
        (place / "README.md").write_text(hub_card(entry, repository), encoding="utf-8")
        with _told(SCHEME + repository, "cannot be written"):
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"Add {entry.pinned}"
            )
    return SCHEME + repository


def hub_card(entry: Entry, repository: str, *, matter: bool = True) -> str:
    """Return a model card with the metadata that the hub reads.

    Args:
        entry: of the model.
        repository: ``user/model``.
        matter: whether to begin with the metadata.
    """
    address = SCHEME + repository
    card = render_card(entry, shipped_store(), published=True, address=address)
    if not matter:
        return card
    licence = entry.licence.strip().lower()
    known = licence in _LICENCES
    about: dict[str, Any] = {
        "library_name": "dglke-distill",
        "pipeline_tag": "graph-ml",
        "tags": ["knowledge-graph", "link-prediction", "dgl", entry.model.lower()],
        "license": licence if known else "other",
        **({} if known or not licence else {"license_name": " ".join(entry.licence.split())[:200]}),
    }
    if entry.metrics is not None:
        figures = entry.metrics
        values = {
            "MRR": figures.mrr,
            "Hits@1": figures.hits_at_1,
            "Hits@3": figures.hits_at_3,
            "Hits@10": figures.hits_at_10,
        }
        data = {"name": entry.dataset, "type": entry.dataset, "split": figures.split}
        measured = [{"type": k.lower(), "name": k, "value": v} for k, v in values.items()]
        task = {"type": "link-prediction", "name": "Link prediction"}
        result = {"task": task, "dataset": data, "metrics": measured}
        about["model-index"] = [{"name": entry.name, "results": [result]}]
    # A line of JSON is YAML too; so no text of a registry can end the metadata or add to them.
    lines = [f"{key}: {json.dumps(value)}" for key, value in about.items()]
    return "\n".join(["---", *lines, "---", "", card])


def repository_of(address: str) -> tuple[str, Optional[str]]:
    """Return repository and revision of an address."""
    repository, at, revision = address.removeprefix(SCHEME).partition("@")
    right = _REPOSITORY.fullmatch(repository) and ".." not in repository
    if not right or (at and not _REVISION.fullmatch(revision)):
        raise UserError(
            f"{address!r:.200}: write hf://user/model, or hf://user/model@revision with a branch, "
            "tag or commit"
        )
    return repository, revision if at else None


def _api(token: Optional[str]) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError(
            "the Hugging Face hub needs the package huggingface_hub, which is not installed: "
            "pip install 'dglke-distill[hub]'"
        ) from None
    return HfApi(token=token)


@contextmanager
def _told(place: str, what: str) -> Iterator[None]:
    """Turn what the hub's library raises, of many kinds, into one line."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(f"{place}: {what} ({type(error).__name__}: {said})") from None
