"""Entries for a zoo that a finished chain leaves."""

from __future__ import annotations

import tomllib
from pathlib import Path

from distill_fixtures import chain_tree, write_clock

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.files import sha256_file
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.entries import zoo_entries
from dglke_distill.zoo.card import render_card
from dglke_distill.zoo.store import LocalStore


def test_every_student_has_an_entry_that_tells_the_truth(tmp_path: Path) -> None:
    tree = chain_tree(write_clock(tmp_path / "clock"))
    done = run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run")
    results = done.to_tree()
    registry = tomllib.loads((tmp_path / "run" / "zoo.toml").read_text(encoding="utf-8"))
    assert registry["schema"] == 1
    students = [stage for stage in results["stages"] if stage["role"] == "student"]
    names = [
        f"{s['results']['model']['name'].lower()}-clock-dim{d}" for s, d in zip(students, (8, 4))
    ]
    assert [entry["name"] for entry in registry["model"]] == names
    for entry, stage in zip(registry["model"], students):
        for file in entry["files"]:
            path = tmp_path / "run" / file["path"]
            assert file["sha256"] == sha256_file(path)
            assert file["bytes"] == path.stat().st_size
        loaded = load_model((tmp_path / "run" / entry["files"][0]["path"]).parent)
        assert entry["dim"] == loaded.model.floats_per_entity
        assert entry["bytes_per_entity"] == 4 * entry["dim"]
        assert entry["params"] == sum(p.numel() for p in loaded.model.parameters())
        assert entry["vocab"]["entities"]["sha256"] == loaded.entities.fingerprint
        (size,) = (s for s in results["verdict"]["sizes"] if s["student"] == stage["name"])
        assert "%" in entry["verdict"] and size["sentence"].startswith(entry["verdict"])
        assert str(tmp_path) not in entry["verdict"]  # it may be published
        time = size["time"]
        told = {
            "goal_valid_mrr": time["goal_valid_mrr"],
            "student_seconds": time["student_seconds"],
            "direct_seconds": time["control_seconds"],
            "teachers_loaded": False,
        }
        assert entry["time"] == {key: value for key, value in told.items() if value is not None}
        assert time["control_seconds"] is not None
        assert entry["metrics"]["mrr"] == stage["results"]["metrics"]["test"]["mrr"]
    cards = [
        render_card(zoo_entry, LocalStore(tmp_path / "run"))
        for zoo_entry in zoo_entries(tmp_path / "run", done)
    ]
    assert all("Verdict: " in card for card in cards)
    for card, entry in zip(cards, registry["model"]):
        reached = entry["time"].get("student_seconds")
        said = "not reached" if reached is None else f"reached after {reached:,.1f} s"
        assert f", was {said} by this model (its teachers are counted), and " in card
    # the last student's teachers, nearest first
    first = f"{students[0]['results']['model']['name'].lower()}-clock-dim16"
    assert registry["model"][1]["teacher"] == [names[0], first]
    # so they are where one has learnt from all models before it, and the largest stands first
    last = next(stage for stage in done.stages if stage.name == students[1]["name"])
    of = [done.stages[0].name, students[0]["name"]]
    dense = last.model_copy(update={"teacher": of[0], "teachers": of})
    stages = [dense if stage is last else stage for stage in done.stages]
    entries = zoo_entries(tmp_path / "run", done.model_copy(update={"stages": stages}))
    assert [entry.teacher for entry in entries] == [[first], [names[0], first]]
