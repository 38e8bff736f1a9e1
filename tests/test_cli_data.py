from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dglke_distill.base.errors import UserError
from dglke_distill.cli.data import data_app
from dglke_distill.data.catalog import manifests
from dglke_distill.data.formats import read_folder


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the user's own caches, data roots and folders."""
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DGL_DOWNLOAD_DIR", str(tmp_path / "dgl"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> str:
    """Run a data command; a ``UserError`` passes through, as the main program expects."""
    result = CliRunner().invoke(data_app, arguments)
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_dataset_and_its_place(tmp_path: Path) -> None:
    (tmp_path / "root" / "umls").mkdir(parents=True)
    lines = run("list", "--data-root", str(tmp_path / "root")).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines[1:]}
    assert set(rows) == {manifest.name for manifest in manifests()}
    assert "embedded" in rows["cldr"]
    assert "data root" in rows["umls"]
    assert "to download" in rows["fb15k237"]
    assert "310,116" in rows["fb15k237"]
    assert rows["codex-s"].rstrip().endswith("MIT")
    assert rows["fb15k"].rstrip().endswith("unspecified")


@pytest.mark.parametrize("name", [manifest.name for manifest in manifests()])
def test_info_tells_everything(name: str) -> None:
    output = run("info", name)
    manifest = next(manifest for manifest in manifests() if manifest.name == name)
    assert manifest.licence in output
    assert manifest.citation.strip() in output
    assert f"{manifest.counts.train:,} train" in output
    for file in manifest.files.values():
        for digest in (file.path, file.sha256, file.git_blob):
            assert digest is None or digest in output
    for note in manifest.notes:
        assert note in output


def test_info_says_how_files_are_verified() -> None:
    output = run("info", "fb15k")
    assert output.count("verified by git blob id (no sha256 known)") == 2
    assert output.count("verified by sha256") == 1
    with pytest.raises(UserError, match="did you mean 'fb15k"):
        run("info", "fb15kk")


def test_prepare_verifies_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = run("prepare", "cldr", "--offline", "--out", "out", "--out-format", "openke")
    assert output.startswith("cldr: 1,684 entities, 26 relations; 5,661 train")
    written = [line[len("wrote ") :] for line in output.splitlines() if line.startswith("wrote ")]
    assert len(written) == 5
    assert all(Path(path).is_file() for path in written)
    again = read_folder(tmp_path / "out")
    assert f"fingerprint {again.fingerprint}" in output
    with pytest.raises(UserError, match="out: holds something already"):
        run("prepare", "cldr", "--out", "out")
    monkeypatch.setattr("dglke_distill.cli.data.load_own", None)  # nothing is read before
    for wrong, said in (
        (("--out", "out"), "out: holds something already"),
        (("--out", "/proc/out"), "no file can be made below /proc"),
        (("--out-format", "csv"), "--out-format: unknown format 'csv': choose one of"),
        (("--out-format", "auto"), "--out-format: format 'auto' is for reading"),
        (("--fractions", "1"), "give three numbers"),
    ):
        with pytest.raises(UserError, match=said):
            run("prepare", "cldr", "--offline", *wrong)


def test_prepare_splits_one_file(tmp_path: Path) -> None:
    rows = sorted({f"e{i % 9}\tr\te{i * i % 11}\n" for i in range(200)})
    (tmp_path / "mine.tsv").write_text("".join(rows))
    arguments = ("prepare", "mine.tsv", "--fractions", "0.6,0.3,0.1")
    first = run(*arguments, "--seed", "1", "--out", "split")
    assert "warning: mine.tsv: split with seed 1 into" in first
    parts = [(tmp_path / "split" / f"{s}.txt").read_text() for s in ("train", "valid", "test")]
    assert sorted("".join(parts).splitlines(keepends=True)) == rows
    assert 8 < parts[1].count("\n") < 26  # binomial(54, 0.3)
    assert run(*arguments, "--seed", "1").splitlines()[1] == first.splitlines()[1]
    assert run(*arguments, "--seed", "2").splitlines()[1] != first.splitlines()[1]
    with pytest.raises(UserError, match="--fractions half: give three numbers"):
        run("prepare", "mine.tsv", "--fractions", "half")


def test_prepare_reads_other_orders(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("r\ta\tb\nr\tb\tc\n")
    assert "3 entities, 1 relation;" in run("prepare", str(tmp_path), "--format", "names_rht")
    with pytest.raises(UserError, match="unknown format 'names_rhx'"):
        run("prepare", str(tmp_path), "--format", "names_rhx")


def test_mistakes_are_for_the_main_program_to_print(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        run("list", "--data-root", "nowhere")
    with pytest.raises(UserError, match="downloads are switched off"):
        run("prepare", "nations", "--offline")


def triples(folder: Path, first: str = "") -> Path:
    folder.mkdir(parents=True)
    rows = "".join(f"e{i % 7}\tr{i % 2}\te{(3 * i + 1) % 7}\n" for i in range(14))
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(first + rows)
    return folder


def test_info_describes_a_folder_and_a_file(tmp_path: Path) -> None:
    folder = triples(tmp_path / "mine")
    for path in (folder, Path("mine"), folder / "train.txt"):
        assert "7 entities, 2 relations" in run("info", str(path))
    with pytest.raises(UserError, match="neither a file or folder 'elsewhere' nor a dataset"):
        run("info", "elsewhere")


def test_info_of_a_name_that_a_folder_has_too(tmp_path: Path) -> None:
    triples(tmp_path / "umls")
    output = run("info", "umls")
    assert f"`train umls` would read {tmp_path / 'umls'}" in output
    assert "135 entities" in output


@pytest.mark.parametrize("command", ["info", "prepare"])
def test_settings_of_the_data_are_taken(tmp_path: Path, command: str) -> None:
    folder = str(triples(tmp_path / "mine", "Kopf\tBeziehung\tEnde\n"))
    assert "9 entities, 3 relations" in run(command, folder)
    assert "7 entities, 2 relations" in run(command, folder, "--set", "data.header=true")
    assert "3 relations" in run(command, folder, "--set", "data.header=auto")
    assert "11 entities, 8 relations" in run(command, folder, "--set", "data.format=names_htr")
    for wrong in ("training.seed=1", "data.heading=true", "data.header=perhaps", "header"):
        with pytest.raises(UserError):
            run(command, folder, "--set", wrong)
