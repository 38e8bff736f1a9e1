"""Training by two trainers with a part each, on this host: figures, failures, and what is left."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dist_fixtures import parts as parts
from documents import ROOT, blocks, commands
from scripts import imported
from typer.testing import CliRunner

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.cli import launching
from dglke_distill.cli.app import app
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.evaluate import evaluate
from dglke_distill.evaluate.counting import count_numba, count_share
from dglke_distill.runs import distributed_memory
from dglke_distill.runs.launching import launcher, torchrun
from dglke_distill.runs.launching.agent import port_is_free
from dglke_distill.runs.launching.hosts import Host, free_ports, read_hosts
from dglke_distill.runs.run_files import RESUME_FILE

SHARED = Path("/dev/shm")
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="DGL's engine needs /dev/shm")

SCRIPT = ROOT / "experiments" / "kill_by_many.py"

TRAIN = ["--recipe", "none", "--model", "transe", "--dim", "8", "--batch-size", "512",
         "--negatives", "32", "--threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def kill_by_many() -> Any:
    return imported(SCRIPT)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, kill_by_many: Any) -> Path:
    """Walk the page from one file of facts to a student, with trainings of a few epochs."""
    home = tmp_path_factory.mktemp("walk")
    facts = catalog.load("cldr")
    names = facts.entities, facts.relations
    lines = [
        f"{names[0][h]}\t{names[1][r]}\t{names[0][t]}\n"
        for split in (facts.train, facts.valid, facts.test)
        for h, r, t in split.to_array().tolist()
    ]
    (home / "countries.tsv").write_text("".join(lines), encoding="utf-8")
    (home / "labels.tsv").write_text("Latvia\tRepublic of Latvia\n", encoding="utf-8")
    page = ROOT / "docs" / "how-to" / "many-machines.md"
    (walk,) = (block for block in blocks(page) if "--out runs/teacher" in block.code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line, _ in commands(walk):
        words = shlex.split(line)
        launches = words[1:3] == ["dist", "launch"]
        if launches:
            words[3:3] = ["--show-processes"]
            # Adam, so that rows of relations without a gradient must stay as they are.
            adam = ["--set", "optimizer.name=adam", "--lr", "0.02"]
            own = ["--batch-size", "128", "--lr", "0.3"] if "--teacher" in words else adam
            words += ["--epochs", "12", *own]
        done = subprocess.run(
            [sys.executable, "-m", "dglke_distill", *words[1:]],
            cwd=home, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        if launches:
            started = kill_by_many.processes(done.stdout)
            assert started.keys() == {"server 0", "server 1", "trainer 0", "trainer 1"}
            assert kill_by_many.left(done.stdout) == []
    (home / "evaluated").write_text(done.stdout)
    return home


def figures_of(run: Path) -> Any:
    return json.loads((run / "checkpoint" / "results.json").read_text())


def compared(figures: dict[str, Any]) -> Any:
    """Return figures without the time that they took."""
    return json.loads(
        json.dumps({name: each for name, each in figures.items() if name != "seconds"})
    )


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_ranks_are_those_of_one_process(walked: Path, name: str) -> None:
    loaded = load_model(walked / "runs" / name / "checkpoint")
    dataset = catalog.load(str(walked / "countries.tsv"))
    splits = [dataset.train, dataset.valid, dataset.test]
    known = KnownAnswers.build(splits, dataset.num_entities)
    alone = evaluate(loaded.model, dataset.test, known, train=dataset.train).to_dict()
    told = figures_of(walked / "runs" / name)
    assert compared(alone) == compared(told["metrics"]["test"])
    assert told["training"]["trainers"] == told["training"]["machines"] == 2
    assert told["dataset"]["fingerprint"] == dataset.fingerprint


def test_the_student_has_learnt_of_its_teacher(walked: Path) -> None:
    teacher, student = (figures_of(walked / "runs" / name) for name in ("teacher", "student"))
    (named,) = student["distillation"]["teachers"]
    assert named["weights"] == sha256_file(
        walked / "runs" / "teacher" / "checkpoint" / "model.safetensors"
    )
    assert "distillation" not in teacher
    rows = list(csv.DictReader((walked / "runs" / "student" / "history.csv").open()))
    assert {"hard", "soft", "soft_weight"} <= rows[0].keys()
    mrr = student["metrics"]["test"]["mrr"]
    assert f"{mrr:.4f}" in (walked / "evaluated").read_text()
    assert mrr > 0.2  # one process, with all settings equal, comes to .27


def test_models_keep_the_labels_of_their_parts(walked: Path) -> None:
    models = [path.parent for path in walked.rglob("checkpoint/model.safetensors")]
    assert models
    for model in models:
        assert (model / "labels.tsv").read_text() == "Latvia\tRepublic of Latvia\n", model


def test_files_are_those_of_any_run(walked: Path) -> None:
    run = walked / "runs" / "teacher"
    latest, last = load_model(run / "latest").model, load_model(run / "checkpoint").model
    assert latest.entity_embeddings.shape == last.entity_embeddings.shape == (1684, 64)
    losses = [float(row["loss"]) for row in csv.DictReader((run / "history.csv").open())]
    assert len(losses) == 12
    assert losses[-1] < losses[0]


def test_a_finished_run_resumes_to_the_same(walked: Path) -> None:
    run = walked / "runs" / "student"
    told = figures_of(run)["metrics"]
    words = ["--", "train", walked / "parts", "--resume", "--out", run]
    assert "was begun with a teacher" in refused("--local", 2, *words)
    other = walked / "runs" / "student" / "checkpoint"
    assert "written with another teacher" in refused("--local", 2, "--teacher", other, *words)
    teacher = walked / "runs" / "teacher" / "checkpoint"
    own = ["-m", "dglke_distill", "dist", "launch", "--torchrun", "--teacher", teacher, *words]
    (port,) = free_ports(1)
    nodes = []
    for number in range(2):  # two hosts, as torchrun has them
        start = ["--nnodes", 2, "--node-rank", number, "--nproc-per-node", 1]
        start += ["--master-addr", "127.0.0.1", "--master-port", port]
        command = [sys.executable, "-m", "torch.distributed.run", *start, *own]
        nodes.append(
            subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    first, second = (node.communicate(timeout=300)[0] for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0], first + second
    assert "resuming after epoch 12, batch 0" in first
    again = figures_of(run)["metrics"]
    assert {s: compared(told[s]) for s in told} == {s: compared(again[s]) for s in again}


def test_what_no_student_can_learn_is_refused(walked: Path, parts: Path, tmp_path: Path) -> None:
    teacher = walked / "runs" / "student" / "checkpoint"
    train = ["--", "train", walked / "parts", *TRAIN, "--out", tmp_path / "run"]

    def said(*more: Any, teacher: Path = teacher) -> str:
        return refused("--local", 2, "--teacher", teacher, *train, *more)

    assert "neither a checkpoint" in said(teacher=tmp_path)
    # The folder of a run stands for its checkpoint.
    assert "cannot start from a teacher of 16" in refused(
        "--local", 2, "--teacher", walked / "runs" / "student", *train, "--dim", 32
    )
    assert "cannot start from a teacher of 16; set it to random" in said("--dim", 32)
    for setting, words in (
        ("method=dualde", "distillation.method dualde is for one machine"),
        ("method=direct", "distillation.method direct is for one machine"),
        ("method=foo", "foo"),
        ("soft.candidates=top", "distillation.soft.candidates top is for one machine"),
        ("soft.extra=1", "distillation.soft.extra 1.0 is for one machine"),
        ("soft.name=foo", "unknown soft loss 'foo'"),
    ):
        assert words in said("--set", f"distillation.{setting}")
    words = ["--", "train", parts, *TRAIN, "--out", tmp_path / "run"]
    assert "train the teacher on this very split" in refused(
        "--local", 2, "--teacher", teacher, *words
    )
    assert not (tmp_path / "run").exists()


def test_a_killed_process_is_named_all_others_end_and_the_run_goes_on(
    parts: Path, tmp_path: Path, kill_by_many: Any
) -> None:
    out, chance = tmp_path / "run", random.Random(0)
    found = kill_by_many.kill_once(kill_by_many.launch(parts, out, 2, 60), out, 4, chance)
    assert found.when == "training" and found.wrong == []
    assert load_model(out / "latest").model.num_entities == 1684
    assert kill_by_many.finish(parts, out, 2, 60) == ""
    rows = csv.DictReader((out / "history.csv").open())
    assert [float(row["epoch"]) for row in rows] == list(range(1, 61))


def refused(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["dist", "launch", *map(str, arguments)])
    assert isinstance(result.exception, UserError), (result.output, result.exception)
    return str(result.exception)


def test_bad_calls_are_one_line(parts: Path, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 30050\n127.0.0.1 30060\n127.0.0.1 30070\n")
    two = tmp_path / "two"
    two.write_text("127.0.0.1 30050\n127.0.0.1 30060\n")
    train = ["--", "train", parts, *TRAIN]
    assert "either --local N or --hosts" in refused(*train)
    assert "give a multiple of 2" in refused("--local", 3, *train)
    assert "names 3 hosts" in refused("--hosts", hosts, *train)
    assert "choose joint or local" in refused("--local", 2, "--negatives-from", "x", *train)
    assert "cannot run 'evaluate'" in refused("--local", 2, "--", "evaluate", parts)
    assert "--rsh 'a \"b': No closing quotation" in refused("--hosts", two, "--rsh", 'a "b', *train)
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
        (["--out", "FILE"], "is no folder"),
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


def test_the_environment_of_torchrun_is_understood(parts: Path) -> None:
    given = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2",
             "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}  # fmt: skip
    assert torchrun.place_of(given) == torchrun.Place(2, 3, 1, 2, ("node0", 29500))
    for change, words in (
        ({"RANK": ""}, "RANK is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"RANK": "x"}, "must be whole numbers"),
        ({"RANK": "6"}, "do not go together"),
        ({"LOCAL_RANK": "2"}, "do not go together"),
        ({"WORLD_SIZE": "7"}, "do not go together"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT 99999 is no port"),
    ):
        with pytest.raises(UserError, match=words):
            torchrun.place_of({**given, **change})
    train = ["--", "train", parts, *TRAIN]
    assert "RANK is not set; start it as `torchrun" in refused("--torchrun", *train)
    assert "or --torchrun" in refused("--torchrun", "--local", 2, *train)


def test_who_cannot_be_reached_is_said() -> None:
    (port,) = free_ports(1)
    place = torchrun.Place(1, 2, 0, 1, ("127.0.0.1", port))
    with pytest.raises(UserError, match=f"127.0.0.1 port {port} .* is not reached"):
        torchrun.meet(place, 0.3)
    with pytest.raises(UserError, match=r"no-such\.invalid port 1 .* is not reached"):
        torchrun.meet(place._replace(master=("no-such.invalid", 1)), 30)
    store = type("Store", (), {"get": lambda *given: f"127.0.0.1 {port} x".encode()})()
    with pytest.raises(UserError, match=r"the launcher at 127\.0\.0\.1 is gone"):
        torchrun.become_agent(store, place)


def test_agents_are_known_by_a_password() -> None:
    class Store(dict[str, bytes]):
        def set(self, name: str, value: str) -> None:
            self[name] = value.encode()
            threading.Thread(target=call, args=(value.split(),), daemon=True).start()

    calls: list[socket.socket] = []

    def call(where: list[str]) -> None:
        for password in ("wrong", "\xe9", where[2]):
            calls.append(socket.create_connection((where[0], int(where[1]))))
            calls[-1].sendall(f"{password} 1 127.0.0.1 4000\n".encode())

    place = torchrun.Place(0, 2, 0, 1, ("127.0.0.1", 1))
    hosts, (own, other) = torchrun.accept_agents(Store(), place, 30)
    assert own is None and other is not None
    assert hosts[1] == Host("node 1 (127.0.0.1)", "127.0.0.1", 4000)
    assert calls[0].recv(1) == calls[1].recv(1) == b""  # hung up
    other.stdin.write("stop\n")
    assert calls[2].recv(5) == b"stop\n"
    for each in calls:
        each.close()
    assert other.stdout.read() == ""
    silent = type("Silent", (), {"set": lambda *given: None})()
    with pytest.raises(UserError, match=r"host 1 of torchrun does not answer within 0\.1 s"):
        torchrun.accept_agents(silent, place, 0.1)
    for strange in ("no-such.invalid", "192.0.2.1"):  # the latter is nobody's (RFC 5737)
        with pytest.raises(UserError, match=f"MASTER_ADDR {strange} is no IPv4 address of"):
            torchrun.accept_agents(silent, place._replace(master=(strange, 1)), 0.1)


@pytest.mark.parametrize("host", [0, 1])
def test_a_dry_run_under_torchrun_waits_for_nobody(
    parts: Path, monkeypatch: pytest.MonkeyPatch, host: int
) -> None:
    """The first process says what would be needed; the others have nothing to say."""
    (port,) = free_ports(1)
    for name, value in (
        ("RANK", host), ("LOCAL_RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 1),
        ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port),
    ):  # fmt: skip
        monkeypatch.setenv(name, str(value))
    words = ["dist", "launch", "--torchrun", "--timeout", "1", "--", "train", parts, *TRAIN]
    result = CliRunner().invoke(app, [*map(str, words), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert bool(result.output.strip()) is (host == 0)


def test_backtraces_are_not_quoted() -> None:
    said = ["starts", "Check failed: magicNum", "Stack trace:", "  [bt] (0) libdgl.so(+0x1)", ""]
    said.append("Client[0] in group[0] is exiting...")
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


def test_free_ports_are_none_of_outgoing_connections() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = free_ports(50)
    assert len(set(found)) == 50
    assert max(found) < first
    assert all(port_is_free("127.0.0.1", number) is None for number in found)
    with pytest.raises(OSError, match="assign requested address"):
        free_ports(1, "192.0.2.1")


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
