"""Training by two trainers with a part each, on this host: figures, failures, and what is left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.cli import launching
from dglke_distill.cli.app import app
from dglke_distill.config import DataConfig
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.partitioning import partition
from dglke_distill.evaluate import evaluate
from dglke_distill.evaluate.counting import count_numba, count_share
from dglke_distill.runs import distributed_memory
from dglke_distill.runs.launching import launcher
from dglke_distill.runs.launching.agent import port_is_free
from dglke_distill.runs.launching.hosts import Host, read_hosts
from dglke_distill.runs.run_files import RESUME_FILE

SHARED = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="DGL's engine needs /dev/shm")

TRAIN = ["--recipe", "none", "--model", "transe", "--dim", "8", "--batch-size", "512",
         "--negatives", "32", "--threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist") / "parts"
    partition(catalog.load("cldr"), DataConfig(), place, 2, "random")
    return place


def command(parts: Path, out: Path, *more: str, local: int = 2) -> list[str]:
    words = ["dist", "launch", "--local", str(local), "--show-processes", "--", "train"]
    own = [str(parts), *TRAIN, "--out", str(out), *more]
    return [sys.executable, "-m", "dglke_distill", *words, *own]


def processes(said: str) -> dict[str, int]:
    """Return the process ids that a launch has printed."""
    found = re.findall(r"^((?:server|trainer) \d+): process (\d+)$", said, re.M)
    return {name: int(pid) for name, pid in found}


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def nothing_left(said: str, before: set[str]) -> None:
    started = processes(said)
    assert started.keys() == {"server 0", "server 1", "trainer 0", "trainer 1"}
    assert not [name for name, pid in started.items() if alive(pid)]
    assert not [path.name for path in SHARED.glob("dk*") if path.name not in before]


@pytest.fixture(scope="module")
def trained(parts: Path) -> Path:
    out = parts.parent / "run"
    before = {path.name for path in SHARED.glob("dk*")}
    # Adam, so that rows of relations without a gradient must stay where they are.
    done = subprocess.run(
        command(parts, out, "--epochs", "12", "--set", "optimizer.name=adam", "--lr", "0.02"),
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    nothing_left(done.stdout, before)
    return out


def test_ranks_are_those_of_one_process(trained: Path) -> None:
    loaded = load_model(trained / "checkpoint")
    dataset = catalog.load("cldr")
    splits = [dataset.train, dataset.valid, dataset.test]
    known = KnownAnswers.build(splits, dataset.num_entities)
    alone = evaluate(loaded.model, dataset.test, known, train=dataset.train).to_dict()
    told = json.loads((trained / "checkpoint" / "results.json").read_text())
    together = told["metrics"]["test"]
    for figures in (alone, together):
        del figures["seconds"]
    assert json.loads(json.dumps(alone)) == together
    assert told["training"]["trainers"] == told["training"]["machines"] == 2
    assert told["dataset"]["fingerprint"] == dataset.fingerprint


def test_files_are_those_of_any_run(trained: Path) -> None:
    latest, last = load_model(trained / "latest").model, load_model(trained / "checkpoint").model
    assert latest.entity_embeddings.shape == last.entity_embeddings.shape == (1684, 8)
    rows = (trained / "history.csv").read_text().splitlines()
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert len(losses) == 12
    assert losses[-1] < losses[0]


def test_a_finished_run_resumes_to_the_same(parts: Path, trained: Path) -> None:
    told = json.loads((trained / "checkpoint" / "results.json").read_text())["metrics"]
    words = ["dist", "launch", "--local", "2", "--", "train", str(parts), "--resume", "--out"]
    done = subprocess.run(
        [sys.executable, "-m", "dglke_distill", *words, str(trained)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch 12, batch 0" in done.stdout
    again = json.loads((trained / "checkpoint" / "results.json").read_text())["metrics"]
    for figures in (told, again):
        for split in figures.values():
            del split["seconds"]
    assert told == again


@pytest.mark.parametrize("victim", ["server 0"])
def test_a_killed_process_is_named_and_all_others_end(
    parts: Path, tmp_path: Path, victim: str
) -> None:
    before, log = {path.name for path in SHARED.glob("dk*")}, tmp_path / "log"
    more = ["--epochs", "100000", "--set", "training.checkpoint_minutes=0.001"]
    with log.open("w") as stream:
        started = subprocess.Popen(
            command(parts, tmp_path / "run", *more), stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        limit = time.monotonic() + 200
        while not (tmp_path / "run" / "latest").exists():
            assert started.poll() is None and time.monotonic() < limit, log.read_text()
            time.sleep(0.1)
        os.kill(processes(log.read_text())[victim], signal.SIGKILL)
        assert started.wait(60) == 2
    finally:
        started.kill()
    said = log.read_text()
    error = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and f"{victim} on this host ended by signal 9" in error[0], said
    assert "Traceback" not in said
    nothing_left(said, before)
    assert load_model(tmp_path / "run" / "latest").model.num_entities == 1684
    assert (tmp_path / "run" / "resume.safetensors").is_file()


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["dist", "launch", *map(str, arguments)])
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return str(result.exception)


def test_bad_calls_are_one_line(parts: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 30050\n127.0.0.1 30060\n127.0.0.1 30070\n")
    train = ["--", "train", parts, *TRAIN]
    assert "either --local N or --hosts" in refused(*train)
    assert "give a multiple of 2" in refused("--local", 3, *train)
    assert "names 3 hosts" in refused("--hosts", hosts, *train)
    assert "choose joint or local" in refused("--local", 2, "--negatives-from", "x", *train)
    assert "cannot run 'run'" in refused("--local", 2, "--", "run", parts)
    assert "name the folder" in refused("--local", 2, "--", "train")
    assert "is no partitioned dataset" in refused("--local", 2, "--", "train", tmp_path)
    assert "--search is not taken" in refused("--local", 2, *train, "--search", "5s")
    for setting, words in (
        ("training.mode=k_vs_all", "training.mode k_vs_all is for one machine"),
        ("model.encoder=node_piece", "model.encoder node_piece"),
        ("optimizer.clip_norm=1", "optimizer.clip_norm 1.0"),
        ("training.dtype=float64", "training.dtype float64"),
    ):
        assert words in refused("--local", 2, *train, "--set", setting)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--model", "transx"], "unknown score function 'transx'"),
        (["--model", "rotate", "--dim", 7], "even number of floats"),
        (["--set", "loss.name=foo"], "unknown loss 'foo'"),
        (["--set", "negatives.sampler=foo"], "unknown sampler 'foo'"),
        (["--set", "negatives.sampler=typed", "--set", "negatives.options.constraint=type"],
         "has no entity types"),
        (["--set", "optimizer.options.foo=1"], "has no 'foo'"),
        (["--set", "optimizer.name=sgd"], "adagrad, rowwise_adagrad or adam alone"),
        (["--set", "optimizer.name=adam", "--set", "optimizer.options.betas=3"], "of adam"),
        (["--set", "foo.bar=1"], "unknown setting 'foo'"),
        (["--out", "FILE"], "is a file, no folder"),
        (["--out", "FULL"], "holds 'mine'"),
        (["--resume", "--out", "EMPTY"], "EMPTY"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_a_process_starts(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[Any], words: str
) -> None:
    monkeypatch.setattr(launching, "launch", lambda *given, **more: pytest.fail("was started"))
    (tmp_path / "FILE").touch()
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "mine").touch()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    own = [tmp_path / word if str(word).isupper() else word for word in more]
    train = [] if "--resume" in own else TRAIN
    out = [] if "--out" in own else ["--out", tmp_path / "run"]
    assert words in refused("--local", 2, "--", "train", parts, *train, *out, *own)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_run_that_does_not_fit_is_refused(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "launch", lambda *given, **more: pytest.fail("was started"))
    monkeypatch.setattr(distributed_memory.runtime, "available_memory_bytes", lambda: 1 << 30)
    said = refused("--local", 2, "--", "train", parts, *TRAIN, "--out", tmp_path / "run")
    assert said.startswith("this run needs about ") and "1,024 MiB are available" in said


def test_going_on_is_named_where_something_was_saved(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stopped(*given: Any, **more: Any) -> None:
        if saves:
            out.mkdir()
            (out / RESUME_FILE).touch()
        raise launching.Ended

    monkeypatch.setattr(launching, "launch", stopped)
    for saves in (False, True):
        words = ["dist", "launch", "--local", "2", "--", "train", parts, *TRAIN, "--out", out]
        result = CliRunner().invoke(app, list(map(str, words)))
        assert result.exit_code == 130
        assert "interrupted" in result.output
        again = f"go on with: dglke-distill dist launch --local 2 -- train {parts} --resume --out"
        assert (again in result.output) is saves


def test_backtraces_are_not_quoted() -> None:
    said = ["starts", "Check failed: magicNum", "Stack trace:", "  [bt] (0) libdgl.so(+0x1)", ""]
    assert launcher._last(said) == "Check failed: magicNum"
    assert launcher._last([]) == ""


def test_a_damaged_part_is_named(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts, tmp_path / "parts")
    path = tmp_path / "parts" / "part1" / "graph.dgl"
    path.write_bytes(path.read_bytes()[:-1])
    words = ["--local", 2, "--", "train", tmp_path / "parts", *TRAIN, "--out", tmp_path / "run"]
    said = refused(*words)
    assert f"{path}: is damaged" in said and "dist partition" in said
    assert not (tmp_path / "run").exists()


def test_hosts_that_do_not_answer(parts: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("here 127.0.0.1 30051\nthere 127.0.0.1 30061  # the other one\n")
    silent, broken = tmp_path / "silent", tmp_path / "broken"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    broken.write_text('#!/bin/sh\necho "no route to $1"\nexit 255\n')
    for script in (silent, broken):
        script.chmod(0o755)
    common = ["--hosts", hosts, "--timeout", 1]
    train = ["--", "train", parts, *TRAIN, "--out", tmp_path / "run"]
    assert "does not answer within 1 s" in refused(*common, "--rsh", silent, *train)
    said = refused(*common, "--rsh", broken, *train)
    assert re.search(r"host (here|there) cannot be reached: no route to (here|there)", said)
    assert "cannot run" in refused(*common, "--rsh", tmp_path / "absent", *train)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no host"),
        ("a 10.0.0.1\nb 10.0.0.1\n", "line 2: 10.0.0.1 port 30050 is there twice"),
        ("a 10.0.0.1 99999", "must be 1024 to 65535"),
        ("a 10.0.0.1 5000 x", "is not NAME"),
        ("no-such-host.invalid", "has no IPv4 address"),
        ("-oProxyCommand=x 10.0.0.1", "is no host"),
    ],
)
def test_hosts_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UserError, match=re.escape(words)):
        read_hosts(tmp_path / "hosts", 30050)
    (tmp_path / "hosts").write_text("# two\nx 10.0.0.1\n10.0.0.2 4000\n")
    found = read_hosts(tmp_path / "hosts", 30050)
    assert found == (Host("x", "10.0.0.1", 30050), Host("10.0.0.2", "10.0.0.2", 4000))


def test_ports_in_use_are_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert "is in use" in str(port_is_free("127.0.0.1", number))
    assert port_is_free("127.0.0.1", number) is None
    assert "no address of this host" in str(port_is_free("192.0.2.1", 30050))


def test_counts_of_shares_add_up() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (6, 30)).astype(np.float32)  # with many ties
    offsets = np.array([0, 2, 3, 5, 6, 7, 9])
    targets = np.array([3, 29, 0, 14, 15, 2, 9, 10, 20])
    known = [np.unique(rng.integers(0, 30, 7)) for _ in range(6)]
    known_offsets = np.append(0, np.cumsum([len(ids) for ids in known]))
    flat = np.concatenate(known)
    greater, equal, bad = count_numba(scores, offsets, targets, known_offsets, flat)
    values = scores[np.repeat(np.arange(6), np.diff(offsets)), targets]
    sums = np.zeros((2, 9), np.int64)
    for first, last in ((0, 11), (11, 11), (11, 30)):
        own = [ids[(ids >= first) & (ids < last)] - first for ids in known]
        found = count_share(
            np.ascontiguousarray(scores[:, first:last]),
            offsets,
            np.where((targets >= first) & (targets < last), targets - first, -1),
            values,
            np.append(0, np.cumsum([len(ids) for ids in own])),
            np.concatenate(own),
        )
        assert found[2] == bad == -1
        sums += np.stack(found[:2])
    assert (sums == np.stack([greater, equal])).all()
    scores[4, 20] = np.nan
    parts = count_share(scores, offsets, targets, values, known_offsets, flat)
    assert parts[2] == 4
