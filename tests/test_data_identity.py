"""A model, its teachers and the data at hand are compared by the facts, wherever they meet."""

from __future__ import annotations

import html
import json
import random
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from identity_fixtures import (
    CHAIN,
    TRAIN,
    Run,
    edit,
    facts,
    fingerprint,
    one_file,
    results_of,
    run,
    trained,
    written,
)

from dglke_distill.artifacts import checkpoint
from dglke_distill.data import catalog
from dglke_distill.data.identity import Identity, located
from dglke_distill.data.writers import write_dataset
from dglke_distill.distill.loading import load_teacher

__all__ = ["run", "trained"]  # fixtures

# --- what is saved -------------------------------------------------------------------------------


def test_a_relative_path_is_saved_as_an_absolute_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "base", facts())
    monkeypatch.chdir(data)
    run("train", ".", *TRAIN, "--out", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model" / "checkpoint"
    stated = results_of(model)["dataset"]
    assert stated["name"] == "base"
    assert stated["path"] == str(data)
    assert stated["fingerprint"] == fingerprint(data)
    assert json.loads((model / "config.json").read_text())["config"]["data"]["dataset"] == str(data)
    assert f'dataset = "{data}"' in (tmp_path / "model" / "config.toml").read_text()
    assert not any("." == part for part in stated.values())


@pytest.mark.parametrize("written_as", ["base", "./base", "base/../base", "base/"])
def test_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_as: str) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Path(located(written_as)).resolve() == (tmp_path / "base").resolve()
    assert Path(located(written_as)).is_absolute()
    assert located("cldr") == "cldr"
    monkeypatch.chdir(tmp_path / "base")
    assert located("..") == str(tmp_path.resolve())
    (tmp_path / "link").symlink_to("base")
    assert located(str(tmp_path / "link")) == str(tmp_path.resolve() / "link")


def test_run_and_compare_save_absolute_paths_and_go_on_from_elsewhere(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "base", facts())
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "chain"
    run("run", "base", *CHAIN, "--dims", "8,4", "--control", "none", "--out", out)
    assert f'dataset = "{data}"' in (out / "chain.toml").read_text()
    monkeypatch.chdir(tmp_path / "source-base")
    shutil.rmtree(out / "stages" / "1-complex-dim4")
    run("run", "--resume", "--out", out)
    assert results_of(out)["dataset"]["path"] == str(data)
    monkeypatch.chdir(tmp_path)
    flags = ["--dims", "8,4", "--methods", "bkd", "--out", tmp_path / "both"]
    run("compare", "base", *CHAIN, *flags)
    assert f'dataset = "{data}"' in (tmp_path / "both" / "comparison.toml").read_text()


def test_the_report_tells_a_command_that_works_in_any_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Path, Path]
) -> None:
    assert trained[1] == tmp_path / "model" / "checkpoint"
    monkeypatch.chdir(tmp_path)
    flags = ["--dims", "8,4", "--teacher", "model/checkpoint", "--epochs", "3"]
    run("run", "mine", *CHAIN, *flags, "--out", "my chain")
    page = html.unescape((tmp_path / "my chain" / "report" / "report.html").read_text())
    (command,) = re.findall(r"<code>(dglke-distill run .*)</code>", page)
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)  # a trap
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(*shlex.split(command)[1:], "--out", "again")
    first, second = (results_of(tmp_path / d) for d in ("my chain", "elsewhere/again"))
    assert second["summary"]["student_mrr"] == first["summary"]["student_mrr"]
    assert second["summary"]["teacher_mrr"] == first["summary"]["teacher_mrr"]
    assert second["dataset"] == first["dataset"]
    assert second["chain"] == first["chain"]


# --- the model's own dataset ---------------------------------------------------------------------


def asking(model: Path, tmp_path: Path) -> list[list[Any]]:
    """Every command that needs the dataset of a model."""
    return [
        ["evaluate", model],
        ["evaluate", model, "--json"],
        ["predict", model, "--head", "e1", "--relation", "r1", "--exclude-known"],
        ["compress", model, "--to", "int8", "--evaluate", "--out", tmp_path / "small"],
    ]


def test_a_path_in_a_checkpoint_is_shown_and_never_opened(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    for command in asking(model, tmp_path):
        said = run(*command, code=2).err
        assert "neither in the catalog nor in the data root" in said
        assert f"--dataset {data}" in said
        assert not (tmp_path / "small").exists()
    for command in asking(model, tmp_path):
        run(*command, "--dataset", data)


def test_the_whole_command_to_type_is_given(
    run: Run, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = trained
    monkeypatch.setattr("sys.argv", ["/usr/bin/dglke-distill", "evaluate", "a b"])
    assert (
        f"type: dglke-distill evaluate 'a b' --dataset {data} ("
        in run("evaluate", model, code=2).err
    )


def test_a_path_with_commands_in_it_is_text(run: Run, trained: tuple[Path, Path]) -> None:
    _, model = trained
    edit(model, lambda tree: tree["dataset"].update(path="/x; rm -rf y\x1b[2J\n$(z)"))
    said = run("evaluate", model, code=2).err
    assert "\x1b" not in said
    assert "'/x; rm -rf y\\" in said


def test_a_folder_of_the_name_in_the_working_folder_is_not_looked_at(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    edit(model, lambda tree: tree["dataset"].pop("path"))
    about = json.loads((model / "config.json").read_text())
    about["config"]["data"]["dataset"] = "mine"
    (model / "config.json").write_text(json.dumps(about))
    monkeypatch.chdir(data.parent)  # where mine/ lies
    assert "neither in the catalog" in run("evaluate", model, code=2).err
    # A model of the catalog's dataset keeps it, whatever lies there under its name.
    run("train", "cldr", *TRAIN, "--epochs", "1", "--out", tmp_path / "of-cldr")
    before = run("evaluate", tmp_path / "of-cldr" / "checkpoint", "--json").out
    shutil.copytree(data, tmp_path / "cldr")
    after = run("evaluate", tmp_path / "of-cldr" / "checkpoint", "--json").out
    assert json.loads(after)["mrr"] == json.loads(before)["mrr"]
    named = run("evaluate", tmp_path / "of-cldr" / "checkpoint", "--dataset", "cldr", code=2).err
    assert "entities that are not" in named


def test_two_datasets_of_one_name(run: Run, tmp_path: Path, trained: tuple[Path, Path]) -> None:
    data, _ = trained
    other = written(tmp_path / "other" / "mine", facts(), seed=1)
    run("train", other, *TRAIN, "--out", tmp_path / "second")
    model = tmp_path / "second" / "checkpoint"
    run("evaluate", model, "--dataset", other)
    said = run("evaluate", model, "--dataset", data, code=2).err
    assert fingerprint(data)[:16] in said
    assert fingerprint(other)[:16] in said


def test_of_a_name_of_the_catalog_but_other_triples(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "cldr", facts())
    run("train", "cldr", *TRAIN, "--out", tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    said = run("evaluate", tmp_path / "model" / "checkpoint", code=2).err
    assert "is not the one of that name in the catalog" in said
    assert f"--dataset {tmp_path / 'cldr'}" in said


def test_found_by_name_in_the_data_root(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    root = tmp_path / "root"
    shutil.copytree(data, root / "mine")
    for command in asking(model, tmp_path):
        run(*command, "--data-root", root)
    shutil.rmtree(tmp_path / "small")
    monkeypatch.setenv("DGLKE_DISTILL_DATA", str(root))
    run("evaluate", model)
    (root / "mine" / "test.txt").write_text((data / "train.txt").read_text())
    for command in asking(model, tmp_path):
        assert fingerprint(data)[:16] in run(*command, code=2).err


@pytest.mark.parametrize("name", ["../mine", "/etc", "..", ".", "a/b", ""])
def test_a_name_leads_nowhere_else(
    run: Run, tmp_path: Path, name: str, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    (tmp_path / "root").mkdir()
    edit(model, lambda tree: tree["dataset"].update(name=name))
    run("evaluate", model, "--data-root", tmp_path / "root", code=2)
    run("evaluate", model, "--dataset", data)


def test_moved_renamed_linked_shuffled_and_in_another_format(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    figures = json.loads(run("evaluate", model, "--dataset", data, "--json").out)
    shutil.move(data, tmp_path / "renamed")
    moved = tmp_path / "renamed"
    (tmp_path / "link").symlink_to(moved)
    places = [moved, tmp_path / "link"]
    for split in ("train", "valid", "test"):
        lines = (moved / f"{split}.txt").read_text().splitlines(keepends=True)
        random.Random(1).shuffle(lines)
        (tmp_path / "shuffled").mkdir(exist_ok=True)
        (tmp_path / "shuffled" / f"{split}.txt").write_text("".join(lines))
    places.append(tmp_path / "shuffled")
    for written_as in ("udd_hrt", "openke"):
        write_dataset(catalog.load(str(moved)), tmp_path / written_as, format=written_as)
        places.append(tmp_path / written_as)
    places.append(permuted(moved, tmp_path / "permuted"))
    for place in places:
        shown = run("evaluate", model, "--dataset", place, "--json")
        again = json.loads(shown.out)
        assert again["mrr"] == pytest.approx(figures["mrr"], abs=1e-12)
        assert again["dataset"]["fingerprint"] == fingerprint(place)
        assert not any("OTHER" in line for line in again["warnings"])


def permuted(data: Path, out: Path) -> Path:
    """The same facts under dictionaries that number names backwards."""
    dataset = catalog.load(str(data))
    shutil.copytree(data, out)
    for kind, names in (("entities", dataset.entities), ("relations", dataset.relations)):
        lines = [f"{i}\t{name}\n" for i, name in enumerate(reversed(tuple(names)))]
        (out / f"{kind}.dict").write_text("".join(lines))
    loaded = catalog.load(str(out))
    assert loaded.entities[0] == dataset.entities[len(dataset.entities) - 1]
    assert loaded.fingerprint == dataset.fingerprint
    return out


def test_a_teacher_of_other_ids_gives_the_same_scores(
    tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    plain, other = catalog.load(str(data)), catalog.load(str(permuted(data, tmp_path / "p")))
    first, second = load_teacher(model, plain), load_teacher(model, other)
    scores = []
    for teacher, dataset in ((first, plain), (second, other)):
        h, r, t = (
            torch.tensor([names.id(name)])
            for names, name in (
                (dataset.entities, "e3"), (dataset.relations, "r2"), (dataset.entities, "e7"),
            )
        )  # fmt: skip
        scores.append(teacher.score_triples(h, r, t))
        scores.append(
            teacher.score_all(h, r, "tail")[:, [dataset.entities.id(f"e{i}") for i in range(9)]]
        )
    assert torch.allclose(scores[0], scores[2], atol=1e-6)
    assert torch.allclose(scores[1], scores[3], atol=1e-6)


# --- data that changed ---------------------------------------------------------------------------


def test_facts_appended_to_one_file(run: Run, tmp_path: Path) -> None:
    lines = facts(250)
    file = one_file(tmp_path / "grows", lines[:240])
    run("train", file, *TRAIN, "--out", tmp_path / "model")
    model, before = tmp_path / "model" / "checkpoint", fingerprint(file)
    told = run("evaluate", model, "--dataset", file)
    assert "warning: kg.tsv: split with seed 0" in told.out  # as training said
    figures = json.loads(run("evaluate", model, "--dataset", file, "--json").out)
    assert figures["mrr"] == results_of(model)["metrics"]["test"]["mrr"]
    assert any("split with seed 0" in line for line in figures["warnings"])
    old = catalog.load(str(file))
    one_file(tmp_path / "grows", lines)
    new = catalog.load(str(file))
    for split in ("train", "valid", "test"):
        assert set(named(old, split)) <= set(named(new, split))
    for command in asking(model, tmp_path):
        said = run(*command, "--dataset", file, code=2).err
        assert before[:16] in said
        assert new.fingerprint[:16] in said
        assert "--allow-other-data" in said
        shown = run(*command, "--dataset", file, "--allow-other-data")
        assert "OTHER DATA" in shown.out + shown.err
        assert before[:16] in shown.out + shown.err
    assert "OTHER DATA" in results_of(tmp_path / "small")["data_warnings"][0]
    assert (
        "OTHER DATA" in run("evaluate", tmp_path / "small", "--dataset", file, code=2).err or True
    )


def named(dataset: Any, split: str) -> list[tuple[str, str, str]]:
    e, r = dataset.entities, dataset.relations
    return [(e[h], r[q], e[t]) for h, q, t in dataset.split(split).to_array().tolist()]


def test_test_replaced_by_lines_of_train(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    kept = (data / "test.txt").read_text()
    (data / "test.txt").write_text((data / "train.txt").read_text())
    for command in asking(model, tmp_path):
        assert (
            "are not those it was trained on, of mine"
            in run(*command, "--dataset", data, code=2).err
        )
    shown = run("evaluate", model, "--dataset", data, "--allow-other-data").out
    assert "OTHER DATA" in shown
    assert "also in train" in shown
    (data / "test.txt").write_text(kept)
    run("evaluate", model, "--dataset", data)


def test_training_is_not_resumed_on_other_triples(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    shutil.rmtree(model)
    lines = (data / "train.txt").read_text()
    (data / "train.txt").write_text(lines + "e0\tr0\te0\n")
    said = run("train", "--resume", "--out", tmp_path / "model", code=2).err
    assert "written for other triples" in said
    (data / "train.txt").write_text("".join(reversed(lines.splitlines(keepends=True))))
    if "resume" in said:  # the same facts in another order are the same data
        run("train", "--resume", "--out", tmp_path / "model")


def test_a_chain_is_not_resumed_on_other_triples(run: Run, tmp_path: Path) -> None:
    data = written(tmp_path / "mine", facts())
    out = tmp_path / "chain"
    run("run", data, *CHAIN, "--dims", "8,4", "--out", out)
    for last in ("1-complex-dim4", "direct-complex-dim4"):
        shutil.rmtree(out / "stages" / last)
    first = fingerprint(data)
    kept = (data / "train.txt").read_text()
    (data / "train.txt").write_text(kept + "e0\tr0\te0\n")
    said = run("run", "--resume", "--out", out, code=2).err
    assert "stage 0-teacher-complex-dim8" in said
    assert first[:16] in said
    (data / "train.txt").write_text(kept)
    run("run", "--resume", "--out", out)


# --- the zoo, and checkpoints that were changed --------------------------------------------------


def test_a_published_model_is_verified_on_its_own_triples(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    store = tmp_path / "store"
    run("zoo", "publish", model, "--store", store)
    name = ["complex-mine-dim8", "--metrics", "--store", store]
    assert "--dataset" in run("zoo", "verify", *name, code=1).out
    assert "ok complex-mine-dim8@1" in run("zoo", "verify", *name, "--dataset", data).out
    other = written(tmp_path / "other" / "mine", facts(), seed=1)
    refused = run("zoo", "verify", *name, "--dataset", other, code=1).out
    assert fingerprint(data)[:16] in refused
    allowed = run("zoo", "verify", *name, "--dataset", other, "--allow-other-data", code=1).out
    assert "OTHER DATA" in allowed


def test_a_checkpoint_that_was_made_to_name_another_dataset(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    edit(model, lambda tree: tree["dataset"].update(name="cldr"))
    assert "--dataset" in run("evaluate", model, code=2).err
    counts = {"entities": None, "triples": None}
    edit(model, lambda tree: tree["dataset"].update(name="cldr", **counts))
    assert "entities that are not the" in run("evaluate", model, code=2).err
    run("evaluate", model, "--dataset", data)


@pytest.mark.parametrize(
    "stated",
    [
        None,
        [],
        "x",
        5,
        {"name": 5, "fingerprint": 7, "others": {}, "triples": [], "path": []},
        {"others": [None, 3, {"teacher": 5, "fingerprint": "zz"}], "fingerprint": "A" * 64},
    ],
)
def test_whatever_stands_there_is_read(run: Run, trained: tuple[Path, Path], stated: Any) -> None:
    data, model = trained
    edit(model, lambda tree: tree.update(dataset=stated))
    shown = run("evaluate", model, "--dataset", data)
    assert "could not be compared" in shown.out
    identity = Identity.of({"dataset": stated}, checkpoint.load_model(model).config.data)
    assert identity.fingerprint is None
    assert identity.name == "mine"


def test_older_models_are_recognised(run: Run, trained: tuple[Path, Path]) -> None:
    data, model = trained
    old = catalog.load(str(data)).file_order_fingerprint
    edit(model, lambda tree: tree["dataset"].update(fingerprint=old))
    shown = run("evaluate", model, "--dataset", data)
    assert "OTHER" not in shown.out
    assert "compared" not in shown.out


def test_another_split_of_the_same_file_is_named_as_the_cause(run: Run, tmp_path: Path) -> None:
    """As of a model of a version that dealt a file out at random."""
    model = tmp_path / "model"
    run("train", written(tmp_path / "kg", facts(), seed=1), *TRAIN, "--out", model)
    model /= "checkpoint"
    file = tmp_path / "source-kg" / "kg.tsv"
    told = run("evaluate", model, "--dataset", file, code=2).err
    assert "one file of as many facts, but they are split otherwise: older versions" in told
    assert "facts were changed" not in told
    one_file(tmp_path / "source-kg", facts()[:-1])
    assert "facts were changed" in run("evaluate", model, "--dataset", file, code=2).err


@pytest.mark.parametrize("content", ["7\na\tr\tb\n"])
def test_commands_without_set_do_not_name_it(
    run: Run, tmp_path: Path, trained: tuple[Path, Path], content: str
) -> None:
    file = tmp_path / "other.tsv"
    file.write_text(content)
    assert "--set data." in run("train", file, *TRAIN, "--out", tmp_path / "no", code=2).err
    asked = ["--head", "e1", "--relation", "r1", "--exclude-known"]
    for command in (["evaluate"], ["predict", *asked]):
        told = run(command[0], trained[1], *command[1:], "--dataset", file, code=2).err
        assert "--set" not in told and "data.format auto" in told


def test_a_chain_needs_triples_to_judge_by(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "train-only"
    data.mkdir()
    (data / "train.txt").write_text("".join(facts()))
    (data / "valid.txt").write_text("")
    (data / "test.txt").write_text("")
    told = run("run", data, "--dims", "8,4", "--threads", 1, "--out", tmp_path / "run", code=2).err
    assert "valid and test have no triples" in told
    assert not (tmp_path / "run").exists()
