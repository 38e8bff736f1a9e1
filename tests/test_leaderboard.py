"""``dglke-distill ogb``: seeds, sheets, and what may go wrong with them."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fixtures import Outcome, called
from ogb_fixtures import write_biokg, write_wikikg2

from dglke_distill import cli
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.artifacts.results_files import results_text
from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog, ogb_download
from dglke_distill.data.manifest import load_manifest
from dglke_distill.data.ogb import load_ogb
from dglke_distill.data.ogb_package import official_package
from dglke_distill.leaderboard.settings import ogb_name
from dglke_distill.leaderboard.sheet_parts import Sheet
from dglke_distill.training import loop as train

TINY = ["--recipe", "none", "--epochs", "2", "--threads", "1", "--set", "shared.recipe=none"]
TINY += ["--set", "shared.negatives.count=4", "--set", "shared.training.batch_size=16"]
ABOUT = """\
method = "Tiny ComplEx"
contact_name = "Ada"
contact_email = "ada@example.org"
code = "https://example.org/code"
paper = "https://example.org/paper"
hyperparameters = "dim: [4, 8*]"
official = true
"""


@pytest.fixture
def ogb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing may be asked of the network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)

    def call(*arguments: Any) -> Outcome:
        return called(capsys, "ogb", *arguments)

    return call


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ogb")
    write_wikikg2(root, negatives=20)
    write_biokg(root, negatives=20)
    return root


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a chain of three sizes; tests copy it before they change anything."""
    folder = tmp_path_factory.mktemp("finished")
    about = folder / "mine.toml"
    about.write_text(ABOUT)
    out = folder / "out"
    arguments = ["ogb", "run", root / "ogbl_wikikg2", "--model", "complex", "--dims", "16,8,4"]
    arguments += ["--seeds", "2", *TINY, "--about", about, "--out", out]
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
    assert end.value.code == 0
    return out


def sheet_of(directory: Path) -> dict[str, Any]:
    sheet: dict[str, Any] = json.loads((directory / "submission.json").read_text())
    return sheet


def checkpoint_of(directory: Path, seed: int) -> Path:
    return directory / "seeds" / str(seed) / "stages" / "2-complex-dim4" / "checkpoint"


def test_the_form_is_complete(finished: Path) -> None:
    sheet = sheet_of(finished)
    form = sheet["form"]
    assert list(form) == [
        "ogb_version", "method", "external_data", "dataset", "test_performance",
        "validation_performance", "contact", "code", "paper", "parameters", "hardware",
        "official", "hyperparameters",
    ]  # fmt: skip
    assert form["ogb_version"] == official_version()
    assert form["method"] == "Tiny ComplEx"
    assert form["contact"] == {"name": "Ada", "email": "ada@example.org"}
    assert form["dataset"] == "ogbl-wikikg2"
    assert form["external_data"] is False
    assert "cores" in form["hardware"]
    # Only what a fixture with two seeds cannot have is missing.
    assert [what.partition(":")[0] for what in sheet["missing"]] == [
        "the published ogbl-wikikg2",
        "8 of 10 seeds",
    ]
    assert sheet["versions"][0]["torch"].startswith(torch.__version__.partition("+")[0])
    assert sheet["memory"]["peak_bytes"] > 1 << 20
    command = sheet["commands"]["all seeds"]
    assert command.startswith("dglke-distill ogb run /")
    assert "--dims 16,8,4 --seeds 2" in command
    assert "--set shared.negatives.count=4" in command


def official_version() -> str:
    from importlib import metadata

    return metadata.version("ogb")


def test_figures_are_those_of_the_official_evaluator_over_the_seeds(
    finished: Path, root: Path
) -> None:
    """From the checkpoints and the official files alone."""
    sheet, dataset = sheet_of(finished), load_ogb("ogbl-wikikg2", root)
    evaluator = official_package().Evaluator(name="ogbl-wikikg2")
    for split, key in (("test", "test_performance"), ("valid", "validation_performance")):
        triples, given = dataset.split(split), dataset.candidates(split)
        head, relation, tail = (
            torch.from_numpy(c.astype(np.int64))
            for c in (triples.head, triples.relation, triples.tail)
        )
        figures = []
        for seed in range(2):
            model = load_model(checkpoint_of(finished, seed)).model
            lists = []
            for side, known, true in (("head", tail, head), ("tail", head, tail)):
                scores = model.score_all(known, relation, side)
                negatives = torch.from_numpy(given.of(side).astype(np.int64))
                judged = evaluator.eval(
                    {
                        "y_pred_pos": scores.gather(1, true[:, None])[:, 0],
                        "y_pred_neg": scores.gather(1, negatives),
                    }
                )
                lists.append(judged["mrr_list"])
            figures.append(float(torch.cat(lists).mean()))
        stated = sheet["form"][key]
        assert stated["mean"] == pytest.approx(sum(figures) / 2, abs=1e-6)
        assert stated["std"] == pytest.approx(float(torch.std(torch.tensor(figures))), abs=1e-6)
        assert stated["text"] == f"{stated['mean']:.4f} ± {stated['std']:.4f}"
        assert [seed[split]["mrr"] for seed in sheet["seeds"]] == pytest.approx(figures, abs=1e-6)


def test_parameters_of_all_stages_are_counted(finished: Path) -> None:
    parameters = sheet_of(finished)["parameters"]
    counted = {}
    for number, dim in enumerate((16, 8, 4)):
        label = "0-teacher-complex-dim16" if number == 0 else f"{number}-complex-dim{dim}"
        place = finished / "seeds" / "0" / "stages" / label / "checkpoint"
        counted[label] = sum(p.numel() for p in load_model(place).model.parameters())
    assert {stage["name"]: stage["parameters"] for stage in parameters["stages"]} == counted
    assert parameters["all_stages"] == sum(counted.values()) == (30 + 5) * (16 + 8 + 4)
    assert parameters["deployed"] == (30 + 5) * 4


def test_seeds_differ_in_nothing_else(finished: Path) -> None:
    settings = []
    for seed in range(2):
        for place in sorted((finished / "seeds" / str(seed) / "stages").iterdir()):
            text = (place / "config.toml").read_text()
            assert f"\nseed = {seed}\n" in text
            settings.append(re.sub(r"\nseed = \d+\n", "\n", text))
    assert settings[:3] == settings[3:]
    test = [seed["test"]["mrr"] for seed in sheet_of(finished)["seeds"]]
    assert test[0] != test[1]


def test_the_markdown_says_the_same(finished: Path) -> None:
    text, sheet = (finished / "submission.md").read_text(), sheet_of(finished)
    assert text.startswith("# Tiny ComplEx on ogbl-wikikg2\n")
    for field, value in (
        ("OGB version", sheet["form"]["ogb_version"]),
        ("Test performance (MRR)", sheet["form"]["test_performance"]["text"]),
        ("Validation performance (MRR)", sheet["form"]["validation_performance"]["text"]),
        ("#Params", "980"),
        ("Contact", "Ada (ada@example.org)"),
        ("External data", "no"),
        ("Official implementation", "yes"),
    ):
        assert f"| {field} | {value} |" in text
    assert "(missing)" not in text
    control = sheet["popularity_control"]["test"]["mrr"]
    assert f"| test | relation popularity | {control:.4f} |" in text
    assert sheet["commands"]["all seeds"] in text


def test_the_command_ranks_a_checkpoint_as_the_sheet_says(
    ogb: Any, finished: Path, root: Path
) -> None:
    here = ["--dataset", root / "ogbl_wikikg2", "--threads", "1"]
    seed = sheet_of(finished)["seeds"][1]
    shown = ogb("evaluate", checkpoint_of(finished, 1), "--json", *here)
    assert shown.code == 0, shown.err
    figures = json.loads(shown.out)
    assert list(figures) == ["valid", "test"]
    for split, of in figures.items():
        assert of["mrr"] == seed[split]["mrr"]
        assert of["protocol"]["negatives"] == 20
    table = ogb("evaluate", checkpoint_of(finished, 1), "--split", "test", *here)
    assert "among the 20 given negatives" in table.out
    assert "relation popularity (control)" in table.out
    assert f"{seed['test']['mrr']:.4f}" in table.out
    assert "valid" not in table.out
    other = ogb("evaluate", checkpoint_of(finished, 1), "--dataset", "cldr")
    assert (other.code, len(other.err.splitlines())) == (2, 1)
    assert "cldr has no leaderboard" in other.err


def test_resumed_after_a_kill_nothing_differs(
    ogb: Any, finished: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second seed's student; the first seed is not touched again."""
    steps, real = 0, train.step

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3 * 6 + 6 + 4:  # batches of 16 out of 40: three a pass, two passes a stage
            raise KeyboardInterrupt
        return real(*arguments, **options)

    asked = [root / "ogbl_wikikg2", "--model", "complex", "--dims", "16,8,4", "--seeds", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "step", counted)
        cut = ogb("run", *asked, *TINY, "--out", "cut")
    assert cut.code == 130
    assert cut.err.splitlines()[-1] == "go on with: dglke-distill ogb run --resume --out cut"
    assert sheet_of(Path("cut"))["notes"][0] == "1 of 2 seeds are not done"
    kept = (Path("cut") / "seeds" / "0" / "results.json").stat().st_mtime_ns
    again = ogb("run", "--resume", "--out", "cut")
    assert again.code == 0, again.err
    assert "seed 0: done already" in again.out
    assert (Path("cut") / "seeds" / "0" / "results.json").stat().st_mtime_ns == kept
    for seed in range(2):
        name = "model.safetensors"
        ours, theirs = checkpoint_of(Path("cut"), seed), checkpoint_of(finished, seed)
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert sheet_of(Path("cut"))["performance"] == sheet_of(finished)["performance"]
    done = ogb("run", "--resume", "--out", "cut")
    assert (done.code, done.out.count("done already")) == (0, 2)


def test_more_seeds_may_follow_but_none_be_dropped(ogb: Any, finished: Path) -> None:
    shutil.copytree(finished, "more")
    done = ogb("run", "--resume", "--out", "more", "--seeds", "3")
    assert done.code == 0, done.err
    sheet = sheet_of(Path("more"))
    assert [seed["seed"] for seed in sheet["seeds"]] == [0, 1, 2]
    values = [seed["test"]["mrr"] for seed in sheet["seeds"]]
    assert sheet["form"]["test_performance"]["std"] == pytest.approx(statistics.stdev(values))
    fewer = ogb("run", "--resume", "--out", "more", "--seeds", "2")
    assert fewer.code == 2
    assert "--seeds 2: the run has 3 already" in fewer.err


def test_every_key_of_the_sheet_is_declared_in_its_order(finished: Path) -> None:
    text = (finished / "submission.json").read_text()
    sheet = Sheet.of(json.loads(text), "submission.json")
    assert results_text(sheet) == text
    assert not sheet.model_extra and not sheet.form.model_extra and not sheet.dataset.model_extra


def test_the_sheet_is_rebuilt_and_completed(ogb: Any, finished: Path) -> None:
    shutil.copytree(finished, "copy")
    before = (Path("copy") / "submission.json").read_bytes()
    for name in ("submission.json", "submission.md"):
        (Path("copy") / name).unlink()
    shown = ogb("sheet", "copy")
    assert shown.code == 0, shown.err
    commands = sheet_of(finished)["commands"]
    rebuilt = {**sheet_of(Path("copy")), "commands": commands}
    assert rebuilt == json.loads(before)
    Path("other.toml").write_text('method = "Another"\n')
    shown = ogb("sheet", "copy", "--about", "other.toml")
    assert "missing: the address of the code (code in about.toml)" in shown.out
    assert sheet_of(Path("copy"))["form"]["method"] == "Another"
    assert "| Code | (missing) |" in (Path("copy") / "submission.md").read_text()


def test_one_size_is_one_training_and_biokg_runs(ogb: Any, root: Path) -> None:
    done = ogb(
        *("run", root / "ogbl_biokg", "--model", "TransE", "--dims", "8", "--seeds", "1"),
        *(*TINY, "--set", "shared.negatives.sampler=typed", "--out", "one"),
    )
    assert done.code == 0, done.err
    assert "stage 1 of 1: direct-transe-dim8" in done.out
    sheet = sheet_of(Path("one"))
    assert sheet["form"]["method"] == "TransE (dim 8)"
    assert sheet["form"]["test_performance"]["std"] is None
    assert sheet["parameters"]["all_stages"] == sheet["parameters"]["deployed"] == (17 + 3) * 8
    about = (Path("one") / "about.toml").read_text()
    assert 'contact_email = ""' in about
    assert sheet["form"]["parameters"] == 160


def test_a_control_stands_aside(ogb: Any, root: Path) -> None:
    done = ogb(
        *("run", root / "ogbl_wikikg2", "--model", "DistMult", "--dims", "8,4", "--seeds", "1"),
        *(*TINY, "--set", "control=recipe", "--out", "controlled"),
    )
    assert done.code == 0, done.err
    sheet = sheet_of(Path("controlled"))
    assert sheet["parameters"]["all_stages"] == 35 * 12
    (control,) = sheet["controls"]
    assert control["name"] == "direct-distmult-dim4"
    results = json.loads((Path("controlled") / "seeds" / "0" / "results.json").read_text())
    direct = results["stages"][-1]["results"]["metrics"]["test"]["mrr"]
    assert control["test_mrr"]["mean"] == pytest.approx(direct)
    student = results["stages"][-2]["results"]["metrics"]["test"]["mrr"]
    assert sheet["form"]["test_performance"]["mean"] == pytest.approx(student)


def test_a_dry_run_leaves_nothing(ogb: Any, root: Path) -> None:
    shown = ogb(
        *("run", root / "ogbl_wikikg2", "--model", "complex", "--dims", "16,8", "--seeds", "10"),
        *(*TINY, "--dry-run"),
    )
    assert shown.code == 0, shown.err
    assert "840 parameters over all stages; 10 seeds take about " in shown.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "name ogbl-wikikg2 or ogbl-biokg"),
        (["run", "fb15k237"], "fb15k237 has no leaderboard"),
        (["run", "ogbl-wikikg3"], "ogbl-wikikg3 has no leaderboard"),
        (["run", "DATA", "--dims", "4,8"], "no size can be larger"),
        (["run", "DATA", "--dims", "x"], "--dims 'x'"),
        (["run", "DATA", "--model", "TransX"], "did you mean"),
        (["run", "DATA", "--about", "none.toml"], "none.toml: no such file"),
        (["run", "DATA", "--about", "bad.toml"], "bad.toml: unknown setting 'metod'"),
        (["run", "DATA", "--set", "student.model.nam=x"], "nam"),
        (["run", "--resume"], "--resume: say which run by --out"),
        (["run", "--resume", "--out", "empty"], "empty: there is no leaderboard run"),
        (
            ["run", "DATA", "--out", "used"],
            "used: holds 'letter.txt' already, which is not of this",
        ),
        (["sheet", "empty"], "empty: there is no leaderboard run"),
        (["evaluate", "empty"], "empty"),
        (["evaluate", "empty", "--split", "train"], "--split train: choose"),
    ],
)
def test_bad_input_is_one_line(ogb: Any, root: Path, arguments: list[str], words: str) -> None:
    Path("empty").mkdir()
    Path("used").mkdir()
    (Path("used") / "letter.txt").write_text("dear")
    Path("bad.toml").write_text('metod = "x"\n')
    tiny = ["--recipe", "none", "--epochs", "1"] if "DATA" in arguments else []
    shown = ogb(*(root / "ogbl_wikikg2" if a == "DATA" else a for a in arguments), *tiny)
    assert shown.code == 2, shown.out
    assert len(shown.err.splitlines()) == 1, shown.err
    assert words in shown.err
    assert not Path("runs").exists() or not any(Path("runs").rglob("checkpoint"))


@pytest.mark.slow
def test_a_directory_in_use_and_other_settings(ogb: Any, finished: Path, root: Path) -> None:
    shutil.copytree(finished, "copy")
    asked = ["run", root / "ogbl_wikikg2", "--model", "complex", "--dims", "16,8,4", "--seeds", "2"]
    taken = ogb(*asked, *TINY, "--out", "copy")
    assert taken.code == 2
    assert "holds a leaderboard run already; add --resume" in taken.err


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: r["stages"][-1]["results"]["metrics"].pop("valid"), "valid is missing"),
        (
            lambda r: r["stages"][-1]["results"]["metrics"]["test"]["protocol"].update(
                estimate=True
            ),
            "does not say that whole splits met given candidates",
        ),
        (
            lambda r: r["stages"][-1]["results"]["metrics"]["test"].update(mrr="high"),
            "mrr is no number",
        ),
        (lambda r: r.update(seed=5), "is not the run's seed 1"),
        (lambda r: r["chain"].update(dims=[16, 4]), "was run with other settings"),
        (
            lambda r: r["stages"][-1]["results"]["dataset"].update(fingerprint="0"),
            "different triples",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(
    ogb: Any, finished: Path, spoil: Any, words: str
) -> None:
    shutil.copytree(finished, "copy")
    path = Path("copy") / "seeds" / "1" / "results.json"
    results = json.loads(path.read_text())
    spoil(results)
    path.write_text(json.dumps(results))
    before = (Path("copy") / "submission.json").read_bytes()
    shown = ogb("sheet", "copy")
    assert shown.code == 2, shown.out
    assert len(shown.err.splitlines()) == 1
    assert words in shown.err
    assert (Path("copy") / "submission.json").read_bytes() == before


def test_no_seed_no_sheet(ogb: Any, finished: Path) -> None:
    shutil.copytree(finished, "my seeds")
    shutil.rmtree(Path("my seeds") / "seeds")
    shown = ogb("sheet", "my seeds")
    assert shown.code == 2
    command = "dglke-distill ogb run --resume --out 'my seeds'"
    assert f"no seed is done yet; go on with {command}" in shown.err


def test_nothing_is_downloaded_unasked(ogb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str, **options: Any) -> None:
        loaded.append(name)
        raise UserError("no network in tests")

    asked: list[str] = []
    monkeypatch.setattr(ogb_download, "fetch", lambda url, *args, **options: asked.append(url))
    monkeypatch.setattr(ogb_download, "unpack_zip", lambda *arguments: None)
    monkeypatch.setattr(catalog, "load", load)
    shown = ogb("run", "ogbl-biokg", "--dims", "8", "--out", "never")
    assert shown.code == 2
    assert "unasked (0.96 GB from https://snap.stanford.edu/ogb/" in shown.err
    assert "biokg.zip" in shown.err
    assert "add --yes" in shown.err
    assert "ogbl_biokg/ by --data-root" in shown.err
    assert loaded == asked == []
    agreed = ogb("run", "ogbl-biokg", "--recipe", "none", "--dims", "8", "--out", "agreed", "--yes")
    assert agreed.out.startswith("downloading 0.96 GB from https://snap.stanford.edu/ogb/")
    assert asked == ["https://snap.stanford.edu/ogb/data/linkproppred/biokg.zip"]
    assert loaded == ["ogbl-biokg"]
    assert "no network in tests" in agreed.err


def test_names_of_the_board(root: Path) -> None:
    assert ogb_name("wikikg2") == ogb_name("OGBL-wikikg2") == "ogbl-wikikg2"
    assert ogb_name(str(root / "ogbl_biokg")) == "ogbl-biokg"
    manifest = load_manifest("ogbl-biokg")
    assert manifest is not None and manifest.ogb is not None
    assert manifest.ogb.url == "https://snap.stanford.edu/ogb/data/linkproppred/biokg.zip"
    with pytest.raises(UserError, match="has no leaderboard"):
        ogb_name(str(root))
