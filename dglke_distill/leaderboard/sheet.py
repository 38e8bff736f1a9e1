"""The submission sheet: every field of the leaderboard's form, from the seeds that are done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results import DatasetDescription, Provenance
from dglke_distill.artifacts.results_files import RESULTS_FILE, write_results
from dglke_distill.artifacts.results_parts import Hardware
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.data.manifest import load_manifest
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.leaderboard.markdown import markdown
from dglke_distill.leaderboard.results import (
    FIGURES,
    SPLITS,
    SeedResult,
    extra_parameters,
    figures_of,
    read_seed,
    sizes_of,
)
from dglke_distill.leaderboard.settings import (
    ABOUT_FILE,
    About,
    SeedsConfig,
    chain_of,
    read_about,
    saved_seeds,
)
from dglke_distill.leaderboard.sheet_parts import (
    Contact,
    Form,
    Mean,
    Memory,
    Parameters,
    SeedRow,
    Sheet,
    SheetDataset,
    StageRow,
)
from dglke_distill.report.comparison_results import Spread

SEEDS = "seeds"
JSON_FILE = "submission.json"
MARKDOWN_FILE = "submission.md"
WANTED_SEEDS = 10
"""Seeds that the leaderboard asks for, 0 to 9."""


def write_sheet(directory: Path) -> Sheet:
    """Write ``submission.json`` and ``submission.md`` of a leaderboard run, and return the former.

    Raises:
        UserError: no seed is done, or their results are not of one piece.
    """
    sheet = build_sheet(directory)
    atomic_write_text(directory / MARKDOWN_FILE, markdown(sheet))
    write_results(directory / JSON_FILE, sheet)
    return sheet


def build_sheet(directory: Path) -> Sheet:
    """Put the sheet together from the seeds that are done.

    Args:
        directory: of a leaderboard run.

    Raises:
        UserError: no seed is done, or their results are not of one piece.
    """
    settings = saved_seeds(directory)
    seeds = _finished(settings, directory)
    about_path = directory / ABOUT_FILE
    about = read_about(about_path) if about_path.is_file() else About()
    first, spreads = seeds[0], _spreads(seeds)
    versions = _distinct(_versions(seed.provenance) for seed in seeds)
    evaluators = _distinct(seed.evaluator for seed in seeds)
    form = Form(
        ogb_version=", ".join(text.rpartition(" ")[2] for text in evaluators),
        method=about.method or _method(first),
        external_data=about.external_data,
        dataset=first.dataset.name,
        test_performance=spreads["test"]["mrr"],
        validation_performance=spreads["valid"]["mrr"],
        contact=Contact(name=about.contact_name, email=about.contact_email),
        code=about.code,
        paper=about.paper,
        parameters=first.parameters,
        hardware="; ".join(_distinct(_hardware(seed.provenance) for seed in seeds)),
        official=about.official,
        hyperparameters=about.hyperparameters,
    )
    published = _published(first.dataset)
    return Sheet(
        schema_=1,
        kind="ogb submission",
        missing=_missing(about, seeds, published),
        notes=_notes(seeds, settings),
        form=form,
        metric="MRR of the official Evaluator, head and tail questions together",
        evaluator=", ".join(evaluators),
        performance=spreads,
        popularity_control=dict(first.popularity),
        parameters=Parameters(
            all_stages=first.parameters,
            deployed=sizes_of(first.deployed).parameters,
            stages=_stages(seeds, controls=False),
        ),
        controls=_stages(seeds, controls=True),
        seeds=[_seed(seed, directory) for seed in seeds],
        dataset=SheetDataset(**first.dataset.to_tree(), published=published),
        memory=Memory(peak_bytes=max(seed.peak_memory_bytes for seed in seeds)),
        seconds=sum(seed.seconds for seed in seeds),
        versions=versions,
        commands=_commands(settings, first, directory),
        settings=dict(first.settings),
        chain=settings.chain.model_dump(mode="json"),
    )


def _finished(settings: SeedsConfig, directory: Path) -> list[SeedResult]:
    places = [(seed, directory / SEEDS / str(seed)) for seed in range(settings.seeds)]
    seeds = []
    for number, place in places:
        if not (place / RESULTS_FILE).is_file():
            continue
        found = read_seed(place)
        chain = ChainConfig.from_mapping(found.chain.chain, str(place / RESULTS_FILE))
        if found.chain.seed != number or chain != chain_of(settings, number):
            raise UserError(
                f"{place}: is not the run's seed {number}, or was run with other settings; "
                "delete it, and add --resume to run it again"
            )
        seeds.append(found)
    if not seeds:
        raise UserError(
            f"{directory}: no seed is done yet; go on with "
            f"dglke-distill ogb run --resume --out {shlex.quote(str(directory))}"
        )
    if len({seed.dataset.fingerprint for seed in seeds}) > 1:
        raise UserError(f"{directory}: the seeds were run on different triples; run them anew")
    return seeds


def _spreads(seeds: Sequence[SeedResult]) -> dict[str, dict[str, Mean]]:
    """Return mean and unbiased deviation: split to figure, with those of the sides."""
    found: dict[str, dict[str, Mean]] = {}
    for split in SPLITS:
        figures = [figures_of(seed.deployed, split) for seed in seeds]
        found[split] = {key: _mean([of[key] for of in figures]) for key in FIGURES}
        for side in ("head", "tail"):
            values = [seed.sides[split][side]["mrr"] for seed in seeds]
            found[split][f"{side} mrr"] = _mean(values)
    return found


def _mean(values: Sequence[float]) -> Mean:
    of = Spread.of(values)
    text = f"{of.mean:.4f}" + ("" if of.deviation is None else f" ± {of.deviation:.4f}")
    return Mean(mean=of.mean, std=of.deviation, seeds=len(values), text=text)


def _stages(seeds: Sequence[SeedResult], controls: bool) -> list[StageRow]:
    """Return sizes and test figures of the stages of all seeds, or of the controls."""
    all_of = [seed.controls if controls else seed.stages for seed in seeds]
    rows = []
    for name in _distinct(stage.name for stages in all_of for stage in stages):
        same = [stage for stages in all_of for stage in stages if stage.name == name]
        ranked = [mrr for stage in same if (mrr := stage.mrr("test")) is not None]
        sizes = sizes_of(same[0])
        rows.append(
            StageRow(
                name=name,
                role=same[0].role,
                model=sizes.name,
                floats_per_entity=sizes.floats_per_entity,
                bytes_per_entity=sizes.bytes_per_entity,
                parameters=sizes.parameters,
                extra_parameters=extra_parameters(same[0]),
                test_mrr=_mean(ranked) if ranked else None,
            )
        )
    return rows


def _seed(seed: SeedResult, directory: Path) -> SeedRow:
    git = seed.provenance.git
    return SeedRow(
        seed=seed.chain.seed,
        directory=seed.directory.relative_to(directory).as_posix(),
        test=figures_of(seed.deployed, "test"),
        valid=figures_of(seed.deployed, "valid"),
        seconds=seed.seconds,
        peak_memory_bytes=seed.peak_memory_bytes,
        date=seed.provenance.date,
        revision=None if git is None else git.revision,
    )


def _method(seed: SeedResult) -> str:
    """Return a name for a method whose author has given none."""
    stages = [sizes_of(stage) for stage in seed.stages]
    first, last = stages[0], stages[-1]
    if seed.deployed.role != "student":
        return f"{last.name} (dim {last.floats_per_entity})"
    dims = ", ".join(str(sizes.floats_per_entity) for sizes in stages)
    origin = "" if len({sizes.name for sizes in stages}) == 1 else f" from {first.name}"
    return f"{last.name} distilled{origin} ({seed.chain.method}, dims {dims})"


def _hardware(provenance: Provenance) -> str:
    of = provenance.hardware or Hardware()
    memory = of.memory_bytes or 0
    parts = [f"{of.cpu or 'unknown processor'}, {of.cores or '?'} cores"]
    parts += [f"{memory / 2**30:.0f} GiB memory"] if memory else []
    parts += [f"GPU {name}" for name in of.cuda] or ["no GPU"]
    return ", ".join(parts)


def _versions(provenance: Provenance) -> dict[str, Optional[str]]:
    names = ("python", "torch", "dgl", "numba", "numpy", "platform")
    return {"dglke-distill": provenance.version, **{n: getattr(provenance, n) for n in names}}


def _published(dataset: DatasetDescription) -> bool:
    """Whether the counts are those of the published dataset."""
    manifest = load_manifest(dataset.name)
    if manifest is None:
        return False
    counts = manifest.counts
    return (dataset.entities, dataset.relations) == (counts.entities, counts.relations) and all(
        dataset.triples[split] == getattr(counts, split) for split in ("train", "valid", "test")
    )


def _missing(about: About, seeds: Sequence[SeedResult], published: bool) -> list[str]:
    found = []
    if not published:
        name = seeds[0].dataset.name
        found.append(f"the published {name}: these triples are others, so this is a rehearsal")
    if len(seeds) < WANTED_SEEDS:
        found.append(f"{WANTED_SEEDS - len(seeds)} of {WANTED_SEEDS} seeds")
    for key, what in (
        ("contact_name", "a person to contact"),
        ("contact_email", "an e-mail address to contact"),
        ("code", "the address of the code"),
        ("paper", "the address of the paper"),
        ("hyperparameters", "the tuned hyper-parameters"),
    ):
        if not getattr(about, key).strip():
            found.append(f"{what} ({key} in {ABOUT_FILE})")
    if about.official is None:
        found.append(f"whether the authors of the method submit it (official in {ABOUT_FILE})")
    return found


def _notes(seeds: Sequence[SeedResult], settings: SeedsConfig) -> list[str]:
    found = []
    if len(seeds) < settings.seeds:
        found.append(f"{settings.seeds - len(seeds)} of {settings.seeds} seeds are not done")
    states = [seed.provenance.git for seed in seeds]
    if any(state is not None and state.dirty for state in states):
        found.append("some seeds ran from a working tree with changes that were not committed")
    if len({state and state.revision for state in states}) > 1:
        found.append("the seeds ran from different revisions of the code")
    if len(_distinct(_versions(seed.provenance) for seed in seeds)) > 1:
        found.append("the seeds ran with different versions of libraries")
    best = max(seed.popularity["test"]["mrr"] for seed in seeds)
    if min(figures_of(seed.deployed, "test")["mrr"] for seed in seeds) <= best:
        found.append("a seed is no better than relation popularity, which ignores the question")
    return found


def _commands(settings: SeedsConfig, first: SeedResult, directory: Path) -> dict[str, str]:
    place = shlex.quote(f"{directory}/{SEEDS}/SEED")
    return {
        "all seeds": settings.command,
        "one seed again": "dglke-distill run --recipe none "
        f"--config {place}/chain.toml --out NEW_DIRECTORY",
        "rank one seed": f"dglke-distill ogb evaluate {place}/stages/{first.deployed.name}/"
        "checkpoint",
    }


def _distinct(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
