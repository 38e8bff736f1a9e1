"""Models on the Hugging Face hub, with a folder in place of the hub."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dglke_distill import zoo
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.zoo.hub import hub_card

NAME, ADDRESS = "complex-cldr-dim32", "hf://someone/small"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub in a folder, called as the real one is; what is downloaded are links, as there."""
    root, links = tmp_path / "hub", tmp_path / "cache"

    class HfApi:
        def __init__(self, *, token: Any = None) -> None:
            pass

        def create_repo(self, repo_id: str, *, private: bool = False, exist_ok: bool = False):
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            (root / repo_id / ".private").write_text(str(private))

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

        def hf_hub_download(
            self, repo_id: str, filename: str, *, revision: Any, local_files_only: bool
        ) -> str:
            link = links / repo_id / filename
            if not local_files_only:
                if revision not in (None, "main") or not (root / repo_id / filename).is_file():
                    raise OSError(f"404 Client Error\n{filename} of {repo_id} is not there")
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(root / repo_id / filename)
            if not link.is_symlink():
                raise FileNotFoundError("not in the cache")
            return str(link)

    module = ModuleType("huggingface_hub")
    module.HfApi = HfApi  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return root


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_pushed_and_loaded_it_answers_as_before(hub: Path, capsys) -> None:
    assert call("zoo", "push", NAME, "--hub", "someone/small", "--private") == 0
    assert ADDRESS in capsys.readouterr().out
    assert (hub / "someone/small/.private").read_text() == "True"
    ask = ("Latvia", "uses_currency", 3)
    expected = zoo.load(NAME, store="shipped").predict_tails(*ask)
    assert expected[0].name == "Euro"
    for address in (ADDRESS, f"{ADDRESS}@main"):
        assert zoo.load(address).predict_tails(*ask) == expected
    assert zoo.load(ADDRESS, offline=True).predict_tails(*ask) == expected
    assert f'zoo.load("{ADDRESS}")' in zoo.load(ADDRESS).card
    question = ["--head", "Latvia", "--relation", "uses_currency", "-k", "1", "--json"]
    assert call("predict", ADDRESS, *question) == 0
    assert '"Euro"' in capsys.readouterr().out


def test_the_card_has_the_metadata_of_the_hub(hub: Path) -> None:
    yaml = pytest.importorskip("yaml")
    assert zoo.push(NAME, ADDRESS, store="shipped") == ADDRESS
    _, matter, text = (hub / "someone/small/README.md").read_text().split("---\n", 2)
    about, entry = yaml.safe_load(matter), zoo.info(NAME, store="shipped")
    assert about["library_name"] == "dglke-distill" and about["pipeline_tag"] == "graph-ml"
    assert (about["license"], about["license_name"]) == ("other", "Unicode-3.0")
    (result,) = about["model-index"][0]["results"]
    assert result["dataset"]["name"] == "cldr"
    assert result["metrics"][0] == {"type": "mrr", "name": "MRR", "value": entry.metrics.mrr}
    assert text.lstrip().startswith(f"# {NAME}")
    strange = entry.model_copy(update={"licence": 'x"\n---\nlicense: mit'})
    _, matter, _ = hub_card(strange, "a/b").split("---\n", 2)
    assert yaml.safe_load(matter)["license"] == "other"


def test_what_was_changed_on_the_hub_is_refused(hub: Path) -> None:
    zoo.push(NAME, "someone/small", store="shipped")
    place = hub / "someone/small/entities.tsv"
    place.write_text(place.read_text().replace("Latvia", "Latveria"))
    with pytest.raises(UserError, match="are not the"):
        zoo.load(ADDRESS)
    (hub / "someone/small/entry.toml").write_text("name = 3\n")
    with pytest.raises(UserError, match=r"entry\.toml"):
        zoo.load(ADDRESS)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://nobody/nothing", "cannot get entry.toml (OSError: 404 Client Error entry.toml"),
        ("hf://someone", "write hf://user/model"),
        ("hf://../../etc", "write hf://user/model"),
        ("hf://a/b/c", "write hf://user/model"),
        ("hf://a/b@", "write hf://user/model"),
        ("hf://a/b@other", "cannot get entry.toml"),
    ],
)
def test_wrong_addresses_are_one_line(hub: Path, address: str, words: str, capsys) -> None:
    assert call("predict", address, "--head", "a", "--relation", "b") == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_pushing_what_cannot_be_is_one_line(hub: Path, capsys, monkeypatch) -> None:
    for name, repository, words in (
        ("complex-cldr-dim3", "a/b", "did you mean"),
        (NAME, "a", "write hf://user/model"),
        (NAME, "a/b@v1", "without a revision"),
    ):
        assert call("zoo", "push", name, "--hub", repository) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert not hub.exists()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert call("zoo", "push", NAME, "--hub", "a/b") == 2
    assert "pip install 'dglke-distill[hub]'" in capsys.readouterr().err


def test_the_hubs_library_takes_what_it_is_given() -> None:
    """Where it is installed: the calls above are its own."""
    real = pytest.importorskip("huggingface_hub")
    import inspect

    for call_name, given in (
        ("create_repo", ("repo_id", "private", "exist_ok")),
        ("upload_folder", ("repo_id", "folder_path", "commit_message")),
        ("hf_hub_download", ("repo_id", "filename", "revision", "local_files_only")),
    ):
        known = inspect.signature(getattr(real.HfApi, call_name)).parameters
        assert json.dumps([name for name in given if name not in known]) == "[]"
