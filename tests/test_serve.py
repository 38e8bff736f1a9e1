from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from serve_fixtures import FACTS, LOST, MARKUP, PEOPLE, Page, page, served, town
from zoo_fixtures import NAME, home, store, trained, variant

from dglke_distill import cli, zoo
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.serve import Gallery, PageServer
from dglke_distill.serve import gallery as gallery_module
from dglke_distill.serve.projections import PCA, PROJECTIONS, projections

__all__ = ["home", "page", "store", "town", "trained"]

ENTITIES = sorted({name for head, _, tail in FACTS for name in (head, tail)})
RELATIONS = sorted({relation for _, relation, _ in FACTS})


def known_answers(entity: str, relation: str, side: str) -> set[str]:
    if side == "tail":
        return {t for h, r, t in FACTS if (h, r) == (entity, relation)}
    return {h for h, r, t in FACTS if (r, t) == (relation, entity)}


@pytest.mark.parametrize("model", ["complex", "transe"])
@pytest.mark.parametrize("side", ["tail", "head"])
def test_answers_are_the_models_own(page: Page, town: Path, model: str, side: Any) -> None:
    """Against the scores of all entities, sorted here, and facts looked up in the list."""
    loaded = load_model(town / model)
    names, asked = list(loaded.entities), {"model": str(town / model), "side": side, "k": 100}
    for entity in (MARKUP, "Ada", "Café"):
        for relation in RELATIONS:
            ids = loaded.entities.id(entity), loaded.relations.id(relation)
            scores = loaded.model.score_all(*(torch.tensor([i]) for i in ids), side)[0].numpy()
            order = np.argsort(-scores)
            found = page.get("answers", entity=entity, relation=relation, **asked)
            known = known_answers(entity, relation, side)
            assert [a["name"] for a in found["answers"]] == [names[i] for i in order]
            np.testing.assert_allclose([a["score"] for a in found["answers"]], scores[order], 1e-5)
            assert {a["name"] for a in found["answers"] if a["known"]} == known
            assert found["known"] == len(known)
            hidden = page.get("answers", entity=entity, relation=relation, known="hide", **asked)
            left = [names[i] for i in order if names[i] not in known]
            assert [a["name"] for a in hidden["answers"]] == left


def test_fewer_answers_are_the_best_ones(page: Page) -> None:
    question = {"entity": "Ada", "relation": "knows"}
    everything = page.get("answers", k=100, **question)["answers"]
    assert page.get("answers", k=3, **question)["answers"] == everything[:3]
    assert page.get("answers", **question)["answers"] == everything[:10]


def test_scores_are_those_of_triples(page: Page, town: Path) -> None:
    from dglke_distill.predict import NamedModel

    named = NamedModel(load_model(town / "complex"))
    found = page.get("answers", entity="Zoë", relation="runs")["answers"]
    scores = named.score([("Zoë", "runs", answer["name"]) for answer in found])
    np.testing.assert_allclose([answer["score"] for answer in found], scores, rtol=1e-5)


def test_what_a_model_is(page: Page, town: Path) -> None:
    found = page.get("models")
    given = [str(town / n) for n in ("complex", "transe", "lost")]
    assert found == {"given": given, "offered": [], "projections": projections()}
    about = page.get("model", model=str(town / "transe"))
    assert (about["model"], about["dim"], about["bytes_per_entity"]) == ("TransE", 8, 32)
    assert (about["entities"], about["relations"]) == (len(ENTITIES), len(RELATIONS))
    assert (about["facts"], about["no_facts"], about["mrr"]) == (len(set(FACTS)), "", None)


def test_maps_are_offered_as_packages_allow(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = page.get("map")
    assert page.get("map", projection="pca") == plain and plain["projection"] == "pca"
    monkeypatch.setattr("dglke_distill.serve.projections.find_spec", lambda name: None)
    assert page.get("models")["projections"] == ["pca"]
    question = "entity=Ada&relation=knows"
    for path in ("map?projection=umap", f"answers?{question}&projection=umap"):
        status, _, body = page.request(f"/api/{path}")
        told = json.loads(body)
        assert (status, told["field"], told["suggestions"]) == (400, "projection", ["pca"])
        assert told["error"].endswith("not installed: pip install 'dglke-distill[umap]'")
    status, _, body = page.request("/api/map?projection=tsme")
    assert status == 400 and "give pca or umap" in json.loads(body)["error"]


def test_umap_keeps_what_pca_does_not_on_the_map_and_in_answers(page: Page) -> None:
    pytest.importorskip("umap", reason="umap-learn is not installed")
    assert page.get("models")["projections"] == ["pca", "umap"]
    drawn = page.get("map", projection="umap")
    plain = page.get("map")
    assert drawn["names"] == plain["names"] and drawn["places"] != plain["places"]
    assert (drawn["projection"], drawn["shares"]) == ("umap", None)
    place = dict(zip(drawn["names"], drawn["places"], strict=True))
    found = page.get("answers", entity="Ada", relation="knows", projection="umap")
    assert found["place"] == pytest.approx(place["Ada"], rel=1e-5)
    for answer in found["answers"]:
        assert answer["place"] == pytest.approx(place[answer["name"]], rel=1e-5)


def test_other_questions_are_answered_while_a_map_is_laid_out(
    town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, fits = threading.Event(), threading.Event(), []

    class Slow(PCA):
        def _fit(self, vectors: np.ndarray) -> np.ndarray:
            fits.append(len(vectors))
            begun.set()
            assert go_on.wait(60)
            return super()._fit(vectors)

    monkeypatch.setitem(PROJECTIONS, "umap", Slow)
    asked = {"entity": "Ada", "relation": "knows"}
    names = [str(town / "complex"), str(town / "transe")]
    options = {"store": tmp_path / "none", "data_root": town / "data"}
    with served(names, **options) as page, ThreadPoolExecutor(6) as pool:
        try:
            waiting = [pool.submit(page.get, "map", projection="umap") for _ in range(4)]
            waiting.append(pool.submit(page.get, "answers", projection="umap", **asked))
            assert begun.wait(60)
            for model in names:
                assert page.get("answers", model=model, **asked)["answers"]
                assert page.get("entities", model=model, text="ad")["names"]
                assert page.get("map", model=model)["projection"] == "pca"
            assert not any(one.done() for one in waiting)
        finally:
            go_on.set()
        *maps, answers = [one.result(60) for one in waiting]
    assert maps[1:] == maps[:-1] and fits == [len(ENTITIES)]
    place = dict(zip(maps[0]["names"], maps[0]["places"], strict=True))
    assert answers["place"] == pytest.approx(place["Ada"])


def test_facts_that_cannot_be_found(page: Page, town: Path) -> None:
    lost = str(town / "lost")
    about = page.get("model", model=lost)
    assert about["facts"] is None
    assert LOST in about["no_facts"]
    found = page.get("answers", model=lost, entity="Ada", relation="runs")
    assert found["known"] is None
    assert {answer["known"] for answer in found["answers"]} == {None}
    assert page.get("relations", model=lost, entity="Ada")["known"] is None
    assert page.get("map", model=lost)["roles"] == []
    hide = f"/api/answers?model={quote(lost)}&entity=Ada&relation=runs&known=hide"
    status, _, body = page.request(hide)
    assert status == 400
    assert "cannot be hidden" in json.loads(body)["error"]


def test_entities_are_found_by_a_part_of_their_names(page: Page) -> None:
    def names(text: str, **more: Any) -> list[str]:
        found: list[str] = page.get("entities", text=text, **more)["names"]
        return found

    assert names("ADA") == ["Ada", "Adam"]
    assert names("ad") == ["Ada", "Adam", "Bo Adler"]  # by facts; a later word comes later
    assert names("anais") == ["Anaïs"]
    assert names("soh") == [MARKUP]
    assert names("own") == ["Old Town"]
    assert names("nobody") == []
    everyone = names("", limit=100)
    degrees = {name: sum(name in (h, t) for h, _, t in FACTS) for name in ENTITIES}
    assert everyone == sorted(ENTITIES, key=lambda name: -degrees[name])
    assert names("", limit=2) == everyone[:2]


def test_relations_with_facts_come_first(page: Page) -> None:
    found = page.get("relations", entity="Zoë", side="tail")
    counts = {r: len(known_answers("Zoë", r, "tail")) for r in RELATIONS}
    assert dict(zip(found["names"], found["known"])) == counts
    assert found["names"] == ["lives in", "runs", "knows"]
    found = page.get("relations", entity="Zoë", side="head")
    assert (found["names"][0], found["known"][0]) == ("knows", 4)
    assert page.get("relations", entity="nobody") == {"names": RELATIONS, "known": None}
    assert page.get("relations", text="liv")["names"] == ["lives in"]


MISTAKES = [
    ("answer", 404, "there is no /api/answer", ["/api/answers"]),
    ("", 404, "there is no /api/", []),
    ("answers?entity=Adda&relation=runs", 404, "no entity 'Adda'", ["Ada", "Adam"]),
    ("answers?entity=Ada&relation=rums", 404, "no relation 'rums'", ["runs"]),
    ("answers?relation=runs", 400, "entity is missing", []),
    ("answers?entity=Ada&relation=", 400, "relation is missing", []),
    ("answers?entity=Ada&relation=runs&k=0", 400, "k is '0': give a number from 1 to 1000", []),
    ("answers?entity=Ada&relation=runs&k=1001", 400, "k is '1001'", []),
    ("answers?entity=Ada&relation=runs&k=-1", 400, "k is '-1'", []),
    ("answers?entity=Ada&relation=runs&k=%C2%B2", 400, "k is '²'", []),
    ("answers?entity=Ada&relation=runs&side=tial", 400, "give tail or head", ["tail"]),
    ("answers?entity=Ada&relation=runs&known=no", 400, "give show or hide", []),
    ("answers?entity=Ada&relation=runs&candidates=seen", 400, "give observed, typed", []),
    ("answers?entity=Ada&relation=runs&candidates=@/etc/passwd", 400, "give observed", []),
    ("answers?entity=Ada&relation=runs&candidates=%5B%5D", 400, "give observed", []),
    ("answers?entity=Ada&relation=runs&candidates=%5B1%5D", 400, "give observed", []),
    (
        "answers?entity=Ada&relation=runs&candidates=%5B%22Mil%22%5D",
        404,
        "no entity 'Mil'",
        ["Mill"],
    ),
    ("answers?entity=Ada&relation=runs&candidates=type:shop", 400, "no types are known", []),
    ("answers?entity=Ada&entity=Bo&relation=runs", 400, "entity is given 2 times", []),
    ("answers?entty=Ada", 400, "no parameter 'entty'", ["entity"]),
    ("entities?limit=many", 400, "limit is 'many'", []),
    ("map?model=complexe", 404, "no model 'complexe' is shown here", []),
    ("entities?text=%FF", 400, "not percent-encoded UTF-8", []),
]


@pytest.mark.parametrize(("path", "status", "message", "suggestions"), MISTAKES)
def test_mistakes(page: Page, path: str, status: int, message: str, suggestions: list[str]) -> None:
    found, headers, body = page.request(f"/api/{path}")
    told = json.loads(body)
    assert (found, told["suggestions"]) == (status, suggestions)
    assert message in told["error"]
    assert headers["content-type"] == "application/json"


def test_only_its_own_files_are_served(page: Page) -> None:
    status, headers, body = page.request("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<!doctype html>" in body
    for name in ("page.css", "page.js", "combobox.js", "map.js", "names.js", "why.js", "icon.svg"):
        assert page.request(f"/{name}")[0] == 200
        assert name in "map.js combobox.js names.js why.js" or f'"/{name}"'.encode() in body
    names = ["server.py", "../server.py", "/etc/passwd", "..%2fserver.py", "%2e%2e/server.py"]
    for name in [*names, "assets/page.css", "page.css/", "page.css%00", "index.html", "."]:
        assert page.request(f"/{name}")[0] == 404, name


def test_nothing_is_fetched_from_elsewhere(page: Page) -> None:
    for name in (
        "",
        "page.css",
        "page.js",
        "combobox.js",
        "map.js",
        "names.js",
        "why.js",
        "icon.svg",
    ):
        text = page.request(f"/{name}")[2].decode().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(?m)(^| )// .*", "", text), name
        assert not re.search(r"innerHTML|insertAdjacentHTML|<style| style=| on\w+=", text), name


@pytest.mark.parametrize("target", ["/", "/api/models", "/api/nothing", "/nothing", "/api/map?x=1"])
def test_every_answer_is_fenced_in(page: Page, target: str) -> None:
    headers = page.request(target)[1]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:80", 200),
        ("127.0.0.1:8350", 200),
        ("127.9.9.9", 200),
        ("[::1]:8350", 200),
        ("", 403),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8350", 403),
        ("localhost.evil.example", 403),
        ("evil.example@localhost", 403),
        ("[::1", 403),
        ("10.0.0.1", 403),
    ],
)
def test_other_names_of_this_machine_are_refused(page: Page, host: str, status: int) -> None:
    assert page.server.loopback
    assert page.request("/", Host=host)[0] == status
    assert page.request("/api/models", Host=host)[0] == status


def test_other_sites_may_not_ask(page: Page) -> None:
    assert page.request("/api/models", Sec_Fetch_Site="cross-site")[0] == 403
    assert page.request("/api/models", Sec_Fetch_Site="same-origin")[0] == 200


def test_without_loopback_any_name_will_do(town: Path) -> None:
    with PageServer("0.0.0.0", 0) as server:
        assert not server.loopback
        assert server.accepts(["models.example.org"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "ODD"])
def test_methods(page: Page, method: str) -> None:
    status, _, body = page.request("/api/models", method)
    assert (status, json.loads(body)["error"]) == (405, "only GET and HEAD are answered")


def test_head_has_no_body(page: Page) -> None:
    status, headers, body = page.request("/api/models", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) == len(page.request("/api/models")[2])


@pytest.mark.parametrize(
    "line", [b"GET\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff\xfe / HTTP/1.1\r\n\r\n", b"x" * 65_537]
)
def test_what_is_no_request(page: Page, line: bytes) -> None:
    with socket.create_connection(page.server.server_address[:2], timeout=30) as connection:
        connection.sendall(line)
        answer = connection.makefile("rb").read()
    assert b'"error"' in answer
    assert page.get("models")  # it is still there


def test_a_mistake_of_ours_is_told_apart(page: Page, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setattr(page.server.api, "answer", lambda path, query: 1 / 0)
    status, _, body = page.request("/api/models")
    assert status == 500
    assert "ZeroDivisionError" not in body.decode()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_many_at_once(page: Page) -> None:
    questions = [
        {"entity": e, "relation": r, "side": s, "model": m}
        for e in PEOPLE
        for r in RELATIONS
        for s in ("tail", "head")
        for m in page.gallery.given
    ]
    alone = [page.get("answers", **question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda question: page.get("answers", **question), questions))
    assert together == alone


def test_models_of_the_zoo_are_offered(store: Path, trained: Path, tmp_path: Path) -> None:
    more = [f"complex-clock{i}-dim8" for i in range(gallery_module.MOST_PICKED + 2)]
    for number, name in enumerate(more):
        zoo.publish(variant(trained, tmp_path / name, number), name, store=store)
    with served([NAME], store=store) as page:
        models = page.get("models")
        assert (models["given"], models["offered"]) == ([NAME], more)
        about = page.get("model")
        registered = zoo.info(NAME, store=store).metrics
        assert registered is not None
        assert (about["dataset"], about["split"]) == ("clock", "test")
        assert about["mrr"] == pytest.approx(registered.mrr)
        question = {"entity": "hour3", "relation": "plus1", "k": 5}
        for name in more:
            found = page.get("answers", model=name, **question)["answers"]
            wanted = zoo.load(name, store=store).predict_tails("hour3", "plus1", k=5)
            assert [a["name"] for a in found] == [answer.name for answer in wanted]
        kept = list(page.gallery._kept)
        assert kept == [NAME, *more[-gallery_module.MOST_PICKED :]]
        status, _, body = page.request("/api/model?model=complex-clock9-dim8")
        assert status == 404
        assert set(json.loads(body)["suggestions"]) < {NAME, *more}
        (store / "zoo.toml").write_text("no TOML")
        assert page.request(f"/api/model?model={more[0]}")[0] == 400


def test_a_broken_registry_only_costs_the_offers(store: Path, trained: Path, home: Path) -> None:
    (store / "zoo.toml").write_text("no TOML")
    gallery = Gallery([str(trained)], store=store, threads=1)
    assert gallery.offered == []
    assert "zoo.toml" in gallery.notes[0]


def failure(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", *map(str, arguments)])
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1
    return text


def test_mistakes_of_the_command(
    capsys: pytest.CaptureFixture[str], town: Path, store: Path, page: Page
) -> None:
    model = town / "complex"
    assert "ports go from 1 to 65535" in failure(capsys, model, "--port", 65536)
    assert "ports go from 1 to 65535" in failure(capsys, model, "--port", -1)
    taken = page.server.server_port
    assert f"--port {taken}: in use" in failure(capsys, model, "--port", taken)
    assert "no such host here" in failure(capsys, model, "--host", "no such host", "--port", 0)
    assert "cannot listen there" in failure(capsys, model, "--host", "192.0.2.1", "--port", 0)
    near = failure(capsys, "complex-clock-dim9", "--store", store, "--port", 0)
    assert f"did you mean {NAME}" in near
    assert "no such checkpoint" in failure(capsys, town / "nothing", "--port", 0)
    assert "no such checkpoint" in failure(capsys, model, town / "nothing", "--port", 0)
    assert "is named twice" in failure(capsys, model, model, "--port", 0)
    assert "--threads -1" in failure(capsys, model, "--threads", -1, "--port", 0)


def test_the_command(town: Path, home: Path) -> None:
    command = [sys.executable, "-m", "dglke_distill", "serve", "--port=0", "--threads=1"]
    command += ["--data-root", str(town / "data")]
    with subprocess.Popen(
        [*command, str(town / "complex"), str(town / "lost")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:")
            port = int(line.partition(" ")[0].rstrip("/").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0
            assert f"note: known facts of {town / 'lost'} are not" in process.stderr.read()
        finally:
            process.kill()


def test_names_of_a_gallery(town: Path, tmp_path: Path) -> None:
    model = str(town / "complex")
    with pytest.raises(UserError, match="named twice"):
        Gallery([model, model], store=tmp_path)
    gallery = Gallery([model], store=tmp_path, threads=1)
    with pytest.raises(KeyError):
        gallery.get(str(town / "transe"))  # paths are the terminal's, not the page's
