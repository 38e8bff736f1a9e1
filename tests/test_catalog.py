from __future__ import annotations

import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from http_fixtures import Server, git_blob, server
from ogb_fixtures import SIZES, write_wikikg2

from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog, download, manifest
from dglke_distill.data.dgl_copies import DGL_FORMAT, find_dgl_copy
from dglke_distill.data.formats import read_folder
from dglke_distill.data.manifest import datasets_dir, load_manifest, manifest_names, read_manifest
from dglke_distill.data.triples import Dataset
from dglke_distill.data.writers import write_dataset

__all__ = ["server"]

SPLITS = {"train": "b\tr\ta\nc\tr\ta\nb\ts\tc\n", "valid": "c\ts\tb\n", "test": "a\tr\tb\n"}
COUNTS = {"entities": 3, "relations": 2, "train": 3, "valid": 1, "test": 1}

# Published figures, from the papers, here apart from the manifests that must agree with them.
PUBLISHED = {
    "fb15k237": (14541, 237, 272115, 17535, 20466),
    "wn18rr": (40943, 11, 86835, 3034, 3134),
    "fb15k": (14951, 1345, 483142, 50000, 59071),
    "wn18": (40943, 18, 141442, 5000, 5000),
    "yago3-10": (123182, 37, 1079040, 5000, 5000),
    "umls": (135, 46, 5216, 652, 661),
    "kinships": (104, 25, 8544, 1068, 1074),
    "nations": (14, 55, 1592, 199, 201),
    "codex-s": (2034, 42, 32888, 1827, 1828),
    "codex-m": (17050, 51, 185584, 10310, 10311),
    "codex-l": (77951, 69, 551193, 30622, 30622),
    "ogbl-biokg": (93773, 51, 4762678, 162886, 162870),
    "ogbl-wikikg2": (2500604, 535, 16109182, 429456, 598543),
}


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Keep tests away from the user's own caches and, mostly, from the data root."""
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DGL_DOWNLOAD_DIR", str(tmp_path / "dgl"))
    if request.node.get_closest_marker("realdata") is None:
        monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)


def toml(name: str, *, url: str = "", extra: str = "", **counts: int) -> str:
    """Return a small manifest of ``SPLITS``."""
    lines = [
        f'schema = 1\nname = "{name}"\ntitle = "Toy 1"\naliases = ["plaything"]',
        'description = "d"\nhomepage = "h"\nlicence = "MIT"\ncitation = "c"\n[counts]',
        *(f"{key} = {value}" for key, value in {**COUNTS, **counts}.items()),
        f'[source]\nkind = "files"\nurl = "{url}/{{path}}"' if url else
        '[source]\nkind = "embedded"',
    ]  # fmt: skip
    for split, content in SPLITS.items():
        # One file is known by its git blob id alone, like some of the published ones.
        digest = (
            f'git_blob = "{git_blob(content.encode())}"'
            if split == "train"
            else f'sha256 = "{hashlib.sha256(content.encode()).hexdigest()}"'
        )
        lines.append(f'[files.{split}]\npath = "data/{split}.txt"\n{digest}')
    return "\n".join([*lines, extra])


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that takes the place of the catalog."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setattr(manifest, "datasets_dir", lambda: folder)
    monkeypatch.setattr(catalog, "datasets_dir", lambda: folder)
    return folder


def place(folder: Path, **changes: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in {**SPLITS, **changes}.items():
        (folder / f"{split}.txt").write_bytes(content.encode())
    return folder


def facts(dataset: Dataset) -> str:
    return "".join(
        f"{dataset.entities[h]}\t{dataset.relations[r]}\t{dataset.entities[t]}\n"
        for h, r, t in dataset.train.to_array().tolist()
    )


# The manifests that ship


def test_every_promised_dataset_has_a_manifest() -> None:
    assert set(manifest_names()) == {*PUBLISHED, "cldr"}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_manifest_agrees_with_the_literature(name: str) -> None:
    known = read_manifest(datasets_dir() / f"{name}.toml")
    counts = known.counts
    assert (
        counts.entities, counts.relations, counts.train, counts.valid, counts.test
    ) == PUBLISHED[name]  # fmt: skip
    assert known.citation.strip().startswith("@")
    assert known.description.endswith(".")
    for role, file in known.files.items():
        assert file.verified_by in ("sha256", "git_blob")
        assert known.url(role).startswith("https://")
        assert file.lines is None or file.lines == getattr(counts, role.replace("_negatives", ""))


def test_names_are_found_in_any_case_and_by_alias() -> None:
    for word in ("fb15k237", "FB15k237", "FB15k-237", "fb15k-237"):
        found = load_manifest(word)
        assert found is not None
        assert found.name == "fb15k237"
    assert load_manifest("nonsense") is None


@pytest.mark.parametrize("name", ["nations", "kinships", "umls"])
def test_published_bytes_verify(name: str, tmp_path: Path) -> None:
    """PyKEEN carries these files, so that the real ones are at hand without a network."""
    pykeen = importlib.util.find_spec("pykeen")
    if pykeen is None or pykeen.origin is None:
        pytest.skip("pykeen is not installed")
    files = Path(pykeen.origin).parent / "datasets" / name
    shutil.copytree(files, tmp_path / "root" / name)
    known = load_manifest(name)
    assert known is not None
    for role, file in known.files.items():
        assert download.identify(files / f"{role}.txt", file) == "sha256"
        if file.git_blob is not None:
            blob = file.model_copy(update={"sha256": None})
            assert download.identify(files / f"{role}.txt", blob) == "git_blob"
    dataset = catalog.load(name, data_root=tmp_path / "root", offline=True)
    assert dataset.warnings == ()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["fb15k237", "wn18rr", "umls"])
def test_published_datasets_verify(name: str, data_root: Path) -> None:
    if not (data_root / name).is_dir():
        pytest.skip(f"the data root has no {name}")
    dataset = catalog.load(name, data_root=data_root, offline=True)
    # Nothing "differs from the published file", whatever its line ends.
    assert all("never seen in train" in warning for warning in dataset.warnings)
    assert bool(dataset.warnings) == (name != "umls")


def test_embedded_dataset_loads_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = catalog.load("cldr", offline=True)
    assert dataset.warnings == ()
    assert dataset.num_entities > 1000


# Manifests that are wrong


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("schema = 1", "schema = 2", r"toy\.toml: schema: must be 1"),
        ('licence = "MIT"', 'license = "MIT"', r"toy\.toml: licen[sc]e: "),
        ('name = "toy"', 'name = "joy"', r"name is 'joy'; it must equal the file's name"),
        ("entities = 3", "entities = 0", r"counts\.entities: must be more than 0"),
        ("[files.valid]", "[files.extra]", r"files\.extra"),
        ('"data/train.txt"', '"../train.txt"', r"files\.train\.path: .*without '\.\.'"),
        ('kind = "files"', 'kind = "ogb"', r"needs an \[ogb\] table"),
        ("schema = 1", "schema = = 1", r"toy\.toml: not valid TOML"),
        ("url = ", "commit = ", r"source\.commit: must be written as the pattern"),
    ],
)  # fmt: skip
def test_wrong_manifests(manifests: Path, before: str, after: str, message: str) -> None:
    good = toml("toy", url="http://host")
    assert before in good
    (manifests / "toy.toml").write_text(good.replace(before, after))
    with pytest.raises(UserError, match=message) as caught:
        load_manifest("toy")
    assert "\n" not in str(caught.value) or "TOML" in str(caught.value)


def test_addresses(manifests: Path) -> None:
    (manifests / "toy.toml").write_text(
        toml("toy", url="http://host/{repository}/{commit}").replace(
            "url =", f'repository = "a/b"\ncommit = "{"0" * 40}"\nurl ='
        )
    )
    known = load_manifest("toy")
    assert known is not None
    assert known.url("train") == f"http://host/a/b/{'0' * 40}/data/train.txt"
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(manifests / "other.toml")


# The order of places


def test_a_path_comes_first(
    manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (manifests / "toy.toml").write_text(toml("toy", url="http://127.0.0.1:9"))
    monkeypatch.chdir(tmp_path)
    place(tmp_path / "toy", train="mine\tr\tyours\n", valid="", test="")
    dataset = catalog.load("toy")
    assert facts(dataset) == "mine\tr\tyours\n"
    assert any("not from the catalog" in warning for warning in dataset.warnings)
    rows = "".join(f"e{i % 5}\tr\te{i % 7}\n" for i in range(35))
    (tmp_path / "all.tsv").write_text(rows)
    split = catalog.load(str(tmp_path / "all.tsv"), split_fractions=(0.6, 0.2, 0.2))
    assert len(split.train) + len(split.valid) + len(split.test) == 35
    more = catalog.load(str(tmp_path / "all.tsv"), split_fractions=(0.1, 0.45, 0.45))
    assert len(more.valid) + len(more.test) > len(split.valid) + len(split.test) >= 2


def test_places_in_their_order(
    manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place is used once those before it lack the dataset, and all give the same ids."""
    extra = '[dgl]\ndataset = "ToyDataset"\nfolder = "Toy-1"'
    (manifests / "toy.toml").write_text(toml("toy", url="http://127.0.0.1:9", extra=extra))
    known = load_manifest("toy")
    assert known is not None
    root = tmp_path / "root"
    root.mkdir()

    def where() -> str:
        return catalog.locate(known, data_root=root).place

    assert where() == "to download"
    with pytest.raises(
        UserError, match=r"toy: train\.txt, valid\.txt, test\.txt missing or damaged"
    ):
        catalog.load("toy", data_root=root, offline=True)
    copy = place(tmp_path / "dgl" / "Toy-1_0a1b2c3d")
    assert where() == "to download"  # the dictionaries are not there yet
    (copy / "entities.dict").write_text("0\tc\n1\tb\n2\ta\n")
    (copy / "relations.dict").write_text("0\ts\n1\tr\n")
    assert where() == "dgl.data"
    from_dgl = catalog.load("toy", data_root=root, offline=True)
    place(tmp_path / "cache" / "toy")
    assert where() == "cached"
    from_cache = catalog.load("toy", data_root=root, offline=True)
    place(root / "Toy 1")
    assert where() == "data root"
    from_root = catalog.load("PLAYTHING", data_root=root, offline=True)
    monkeypatch.setenv("DGLKE_DISTILL_DATA", str(root))
    assert catalog.locate(known).place == "data root"
    for dataset in (from_dgl, from_cache, from_root):
        assert dataset.name == "toy"
        assert list(dataset.entities) == ["a", "b", "c"]
        assert dataset.fingerprint == from_root.fingerprint
        assert facts(dataset) == SPLITS["train"]
        assert dataset.warnings == ()
    # By its path, DGL's copy keeps DGL's ids; its train split stays by itself.
    direct = read_folder(copy, format=DGL_FORMAT, header=False)
    assert list(direct.entities) == ["c", "b", "a"]
    assert direct.train.to_array().tolist() == [[1, 1, 2], [0, 1, 2], [1, 0, 0]]


def test_dgl_s_folder_is_the_one_dgl_names(tmp_path: Path) -> None:
    """DGL names the folder after the dataset and eight digits of its address's digest."""
    folder = tmp_path / "dgl" / f"FB15k-237_{hashlib.sha1(b'address').hexdigest()[:8]}"
    place(folder)
    known = load_manifest("fb15k237")
    assert known is not None
    assert find_dgl_copy(known) is None
    for name in ("entities.dict", "relations.dict"):
        (folder / name).write_text("0\ta\n")
    assert find_dgl_copy(known) == folder
    unknown = load_manifest("umls")
    assert unknown is not None
    assert find_dgl_copy(unknown) is None


# What is verified


def test_copies_with_other_counts_are_refused(manifests: Path, tmp_path: Path) -> None:
    (manifests / "toy.toml").write_text(toml("toy", url="http://127.0.0.1:9"))
    folder = place(tmp_path / "root" / "toy", valid="c\ts\tb\nc\tr\tb\n")
    with pytest.raises(UserError, match=r"toy holds 2 valid triples where Toy 1 has 1: replace"):
        catalog.load("toy", data_root=tmp_path / "root")
    place(folder, test="a\tr\td\n")
    with pytest.raises(UserError, match="4 entities where Toy 1 has 3"):
        catalog.load("toy", data_root=tmp_path / "root")
    with pytest.raises(UserError, match="--data-root: there is no folder"):
        catalog.load("toy", data_root=tmp_path / "nowhere")


def test_line_ends_are_silent_and_other_bytes_are_told(manifests: Path, tmp_path: Path) -> None:
    (manifests / "toy.toml").write_text(toml("toy", url="http://127.0.0.1:9"))
    crlf = {split: content.replace("\n", "\r\n") for split, content in SPLITS.items()}
    place(tmp_path / "root" / "toy", **crlf)
    assert catalog.load("toy", data_root=tmp_path / "root").warnings == ()
    turned = "".join(reversed(SPLITS["train"].splitlines(keepends=True)))
    place(tmp_path / "root" / "toy", train=turned)
    warnings = catalog.load("toy", data_root=tmp_path / "root").warnings
    assert len(warnings) == 1
    assert "train.txt differs from the published file (git_blob), though all counts" in warnings[0]


def test_any_format_in_the_data_root(manifests: Path, tmp_path: Path) -> None:
    (manifests / "toy.toml").write_text(toml("toy", url="http://127.0.0.1:9"))
    dataset = read_folder(place(tmp_path / "plain"))
    write_dataset(dataset, tmp_path / "root" / "toy", format="openke")
    again = catalog.load("toy", data_root=tmp_path / "root")
    assert again.fingerprint == dataset.fingerprint
    shutil.rmtree(tmp_path / "root" / "toy")
    write_dataset(dataset, tmp_path / "root" / "toy", format="udd_trh")
    again = catalog.load("toy", data_root=tmp_path / "root", format="udd_trh")
    assert again.fingerprint == dataset.fingerprint


def test_download_into_the_cache(manifests: Path, tmp_path: Path, server: Server) -> None:
    (manifests / "toy.toml").write_text(toml("toy", url=server.url))
    server.files = {f"/data/{split}.txt": content.encode() for split, content in SPLITS.items()}
    dataset = catalog.load("toy")
    assert facts(dataset) == SPLITS["train"]
    assert len(server.asked) == 3
    assert sorted(p.name for p in (tmp_path / "cache" / "toy").iterdir()) == [
        "test.txt", "train.txt", "valid.txt"
    ]  # fmt: skip
    # The second time nobody is asked; a damaged file alone is asked for again.
    catalog.load("toy")
    assert len(server.asked) == 3
    (tmp_path / "cache" / "toy" / "valid.txt").write_bytes(b"c\ts\tc\n")
    with pytest.raises(UserError, match=r"toy: valid\.txt missing or damaged.* switched off"):
        catalog.load("toy", offline=True)
    assert catalog.load("toy").fingerprint == dataset.fingerprint
    assert len(server.asked) == 4


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(UserError, match="did you mean 'fb15k237'"):
        catalog.load("fb15k23")
    with pytest.raises(UserError, match=r"the catalog has cldr, codex-l"):
        catalog.load("zzz")


def test_graphs_of_the_open_graph_benchmark(
    manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(entities: int) -> None:
        sizes = "".join(f"{split} = {count}\n" for split, count in SIZES.items())
        (manifests / "ogbl-wikikg2.toml").write_text(
            'schema = 1\nname = "ogbl-wikikg2"\ntitle = "ogbl-wikikg2"\ndescription = "d"\n'
            'homepage = "h"\nlicence = "CC-0"\ncitation = "c"\n'
            f"[counts]\nentities = {entities}\nrelations = 5\n{sizes}"
            '[source]\nkind = "ogb"\n[ogb]\ndataset = "ogbl-wikikg2"\nsplit = "time"\n'
        )

    describe(30)
    known = load_manifest("ogbl-wikikg2")
    assert known is not None
    assert catalog.locate(known).place == "to download"
    with pytest.raises(UserError):
        catalog.load("ogbl-wikikg2", offline=True)
    root = tmp_path / "root"
    splits = write_wikikg2(root)
    assert catalog.locate(known, data_root=root).place == "data root"
    dataset = catalog.load("ogbl-wikikg2", data_root=root, offline=True)
    np.testing.assert_array_equal(dataset.test.tail, splits["test"]["tail"])
    describe(31)
    with pytest.raises(UserError, match="30 entities where ogbl-wikikg2 has 31"):
        catalog.load("ogbl-wikikg2", data_root=root, offline=True)
    (root / "ogbl_wikikg2").rename(root / "ogbl-wikikg2")
    with pytest.raises(UserError, match="must be named ogbl_wikikg2"):
        catalog.load("ogbl-wikikg2", data_root=root, offline=True)
