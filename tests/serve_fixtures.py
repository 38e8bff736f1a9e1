"""Small models of a small town, and a page that shows them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlencode

import pytest

from dglke_distill.artifacts import checkpoint
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.models import build_model
from dglke_distill.serve import Gallery, Limits, PageServer
from dglke_distill.serve.api import Api

MARKUP = '<img src=x onerror="document.title=1"> & "Söhne"'
PEOPLE = ["Ada", "Adam", "Anaïs", "Bo Adler", "Zoë", MARKUP]
FACTS = [
    *((one, "knows", other) for one in PEOPLE[:4] for other in PEOPLE if one < other),
    ("Ada", "runs", "Mill"),
    ("Adam", "runs", "Café"),
    ("Zoë", "runs", "Café"),
    *((person, "lives in", "Old Town") for person in PEOPLE),
]
LOST = "no-such-dataset-here"


def write_town(folder: Path) -> Path:
    """Write the facts as a dataset; the last ones are valid and test."""
    folder.mkdir(parents=True)
    for split, part in (("train", FACTS[:-4]), ("valid", FACTS[-4:-2]), ("test", FACTS[-2:])):
        lines = ("\t".join(fact) + "\n" for fact in part)
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def write_model(
    target: Path, facts: Path, name: str, seed: int, dataset: Optional[str] = None
) -> Path:
    """Write a checkpoint of the facts, filled at random; it says that it is of ``dataset``."""
    town = catalog.load(str(facts))
    tree = {
        "data": {"dataset": dataset or str(facts)},
        "model": {"name": name, "dim": 8},
        "training": {"threads": 1},
    }
    config = Config.from_mapping(tree, "test")
    model = build_model(config.model, town.num_entities, town.num_relations)
    model.reset(seed, 0.8)
    checkpoint.save_model(target, model, config, town.entities, town.relations, {})
    return target


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of the town, and one of which the facts are lost."""
    folder = tmp_path_factory.mktemp("town")
    (folder / "data").mkdir()
    facts = write_town(folder / "data" / "facts")
    write_model(folder / "complex", facts, "ComplEx", 0)
    write_model(folder / "transe", facts, "TransE", 1)
    write_model(folder / "lost", facts, "RotatE", 2, LOST)
    return folder


class Page:
    """A page that is served, and a way to ask it."""

    def __init__(self, server: PageServer, gallery: Gallery) -> None:
        self.server = server
        self.gallery = gallery
        self.url = server.url

    def request(
        self, target: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (in lower case) and body."""
        connection = http.client.HTTPConnection(*self.server.server_address[:2], timeout=180)
        try:
            connection.request(
                method, target, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a question that is answered."""
        status, headers, body = self.request(f"/api/{path}?{urlencode(parameters)}".rstrip("?"))
        assert status == 200, body
        assert headers["content-type"] == "application/json"
        return json.loads(body)


@contextmanager
def served(names: list[str], limits: Optional[Limits] = None, **options: Any) -> Iterator[Page]:
    """Serve models on a free port of this machine."""
    gallery = Gallery(names, threads=1, **options)
    with PageServer(port=0, limits=limits) as server:
        server.api = Api(gallery)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Page(server, gallery)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def page(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The town's models, ComplEx first."""
    store = tmp_path_factory.mktemp("empty")
    names = [str(town / name) for name in ("complex", "transe", "lost")]
    with served(names, store=store, data_root=town / "data") as made:
        yield made
