"""Methods side by side: chains that share a teacher, their seeds and everything else they can."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Callable, Optional

from dglke_distill.artifacts.results import (
    ChainResults,
    ComparisonResults,
    StageResults,
)
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_training_results, write_results
from dglke_distill.base.claims import Kind, among, claimed
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.config import Config, Section, merge, read_toml
from dglke_distill.config.components import MethodName
from dglke_distill.config.sections import MOST_SEED
from dglke_distill.data.identity import located_data, short
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.chain import CHAIN_FILE, run_chain, saved_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.compared import CONTROL, comparison_results
from dglke_distill.distill.controls import SEARCHES
from dglke_distill.distill.finished import (
    STAGES,
    chain_results,
    check_finished,
)
from dglke_distill.distill.gains import chain_folder, gains_over, saved_ranks
from dglke_distill.distill.loading import import_teacher
from dglke_distill.distill.methods import METHODS
from dglke_distill.distill.plan import Stage, plan, taken_over
from dglke_distill.distill.rehearsal import check_stages
from dglke_distill.distill.stages import run_stage
from dglke_distill.distill.teacher_data import check_teachers, teacher_data
from dglke_distill.distill.tuner import Searches, Tuned, saved_tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.workspace import Workspaces

COMPARISON_FILE = "comparison.toml"
CHAINS = "chains"
TEACHERS = "teachers"
_PARTS = (STAGES, CHAINS, TEACHERS, RESULTS_FILE, "report")
Tree = dict[str, Any]


class ComparisonConfig(Section):
    """All settings of a comparison of methods."""

    methods: list[MethodName] = Field(min_length=1, description="see distill.methods.METHODS")
    seeds: list[Annotated[int, Field(ge=0, le=MOST_SEED)]] = Field(
        default_factory=lambda: [0], min_length=1, max_length=1000
    )
    loaded: list[str] = Field(
        default_factory=list, description="trained teachers in place of the chain's first stage"
    )
    chain: ChainConfig = Field(default_factory=ChainConfig)
    own: dict[str, Tree] = Field(
        default_factory=dict, description="student settings of one method alone"
    )
    search_seconds: Optional[float] = Field(
        None,
        gt=0,
        le=1e9,
        description="how long settings of each method are searched for, direct training as one of "
        "them; None: not",
    )


def saved_comparison(directory: Path) -> ComparisonConfig:
    """Return the settings that a comparison was started with.

    Raises:
        UserError: there is no comparison, or its settings are damaged.
    """
    path = directory / COMPARISON_FILE
    if not path.is_file():
        raise UserError(
            f"{directory}: there is no comparison to resume ({COMPARISON_FILE} is missing)"
        )
    return ComparisonConfig.from_mapping(read_toml(path), str(path))


def chain_of(comparison: ComparisonConfig, method: str, seed: int) -> ChainConfig:
    """Return the chain of one method and seed; the teacher's own seed stays what it is."""
    chain = comparison.chain
    student: Tree = chain.student
    if method != chain.method:
        student = taken_over(student, method, chain.recipe)
    seeded: Tree = {"training": {"seed": seed}}
    student = merge(merge(student, comparison.own.get(method, {})), seeded)
    direct = None if chain.direct is None else merge(chain.direct, seeded)
    changes: Tree = {"method": method, "control": "none", "student": student, "direct": direct}
    if comparison.search_seconds is not None:
        # Half of a chain's time for searches is the controls', of which there are none.
        changes.update(search_seconds=2 * comparison.search_seconds, seeds=1)
    return chain.model_copy(update=changes)


def teachers_of(comparison: ComparisonConfig) -> list[Stage]:
    """Return the stages that train the teachers all methods share."""
    taught = comparison.chain.model_copy(
        update={"method": "iterde", "control": "none", "student": {}, "sizes": {}}
    )
    return [stage for stage in plan(taught) if stage.role == "teacher"]


def run_comparison(
    comparison: ComparisonConfig,
    directory: Path,
    *,
    resume: bool = False,
    data_root: Optional[Path] = None,
    workspaces: Optional[Workspaces] = None,
    watcher: Watcher = Watcher(),  # noqa: B008 (immutable)
    searches: Optional[Searches] = None,
) -> ComparisonResults:
    """Run every method with every seed under the same teacher, and lay the figures side by side.

    Args:
        comparison: the settings.
        directory: receives ``comparison.toml``, ``stages/`` with the teacher, a chain for each
            method and seed below ``chains/``, and ``results.json``.
        resume: go on with the comparison that is there; what is done stays as it is.
        data_root: folder of pre-placed datasets.
        workspaces: the prepared data; None: found by the settings.
        watcher: hears of progress.
        searches: for settings; a comparison that searches for them needs it.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: bad settings or data, or a directory in use.
        Interrupted: asked to stop; the comparison can be resumed.
    """
    begun = saved_comparison(directory).model_dump() if resume else {}
    data = located_data(comparison.chain.data, begun.get("chain"))
    chain = comparison.chain.model_copy(update={"data": data})
    comparison = comparison.model_copy(update={"chain": chain})
    _check(comparison)
    if chain.init is not None:
        raise UserError("init: a comparison trains its teachers anew; leave it out, or use `run`")
    if comparison.search_seconds is not None and searches is None:
        raise UserError("search_seconds: they need a search, as `dglke-distill compare` has it")
    workspaces = workspaces or Workspaces(data_root, saved=resume)
    if not resume and not (directory / COMPARISON_FILE).exists():  # before anything is written
        places = [Path(path) for path in comparison.loaded]
        teachers = teachers_of(comparison)
        config, allowed = teachers[0].config, bool(chain.allow_other_data)
        dataset = workspaces.of(config).dataset
        if not len(dataset.test):
            raise UserError(
                f"{dataset.name}: test has no triples, and methods are compared by them; put "
                "held-out triples there, or give the file of train alone to have it split"
            )
        check_teachers(places, lambda: workspaces.of(config), allowed)
        _check_stages(comparison, [] if places else teachers, workspaces, directory)
    with claimed(
        directory,
        Kind("comparison", COMPARISON_FILE, (COMPARISON_FILE,), among(*_PARTS)),
        comparison.to_toml(),
        lambda: saved_comparison(directory) == comparison,
        resume=resume,
        announce=watcher.announce,
    ):
        return _run_chains(comparison, directory, workspaces, watcher, searches)


def _run_chains(
    comparison: ComparisonConfig,
    directory: Path,
    workspaces: Workspaces,
    watcher: Watcher,
    searches: Optional[Searches],
) -> ComparisonResults:
    """Do what ``run_comparison`` does in a directory that no other process writes to."""
    allowed = bool(comparison.chain.allow_other_data)
    teachers: list[StageResults] = []
    if comparison.loaded:
        config = teachers_of(comparison)[0].config
        places = [
            _imported(Path(path), number, directory, workspaces, config)
            for number, path in enumerate(comparison.loaded)
        ]
        dataset = workspaces.of(config).dataset
        teachers = [_loaded(place, dataset, allowed) for place in places]
    else:
        trained = teachers_of(comparison)
        check_finished(trained, directory, workspaces)
        for number, stage in enumerate(trained):
            watcher.stage(stage, number, len(trained))
            teachers.append(
                run_stage(stage, directory, workspaces, watcher, allow_other_data=allowed)
            )
        places = [
            (directory / STAGES / stage.name / CHECKPOINT_DIRECTORY).resolve() for stage in trained
        ]
    chains: list[ChainResults] = []
    common = teachers_of(comparison)[0].config
    first = comparison.seeds[0]
    for seed in comparison.seeds:
        for method in comparison.methods:
            watcher.announce(f"{method}, seed {seed}")
            chain = chain_of(comparison, method, seed)
            place = chain_folder(directory / CHAINS, method, seed)
            loaded = _asked(method, places)
            results = _finished(place, chain, loaded)
            if results is None:
                results = run_chain(
                    chain,
                    place,
                    resume=(place / CHAIN_FILE).exists(),
                    loaded=loaded,
                    workspaces=workspaces,
                    watcher=watcher,
                    searches=_searches(searches, chain_folder(directory / CHAINS, method, first)),
                )
            chains.append(results)
            _check_alike(chains, place, lambda: workspaces.of(common).dataset)
            gains = gains_over(CONTROL, saved_ranks(chains, directory / CHAINS))
            # What there is can be looked at while the rest is running.
            compared = comparison_results(chains, teachers, gains, directory / CHAINS)
            write_results(directory / RESULTS_FILE, compared)
    return compared


def _searches(searches: Optional[Searches], first: Path) -> Optional[Searches]:
    """Return the searches of a method's chain; behind its first seed, what that one's has found.

    Args:
        searches: for settings.
        first: the chain of the method's first seed, which may be the one that asks.
    """
    saved = [saved_tuned(first / SEARCHES / role) for role in ("student", "direct")]
    found = next((tuned for tuned in saved if tuned is not None), None)
    if searches is None or found is None:
        return searches
    known = found

    def again(*_: Any, **__: Any) -> Tuned:
        return known

    return searches._replace(race=again)


def _check(comparison: ComparisonConfig) -> None:
    """Plan every chain, so that bad settings are told before anything is trained."""
    for name, given in (("methods", comparison.methods), ("seeds", comparison.seeds)):
        if len(set(given)) < len(given):
            raise UserError(f"--{name}: something is there twice; name each once")
    stray = sorted(set(comparison.own) - set(comparison.methods))
    if stray:
        raise UserError(f"--set {stray[0]}...: the method is not among --methods; add it there")
    count = len(comparison.loaded) or 1 + len(comparison.chain.more_teachers)
    for method in comparison.methods:
        chain = chain_of(comparison, method, comparison.seeds[0])
        for stage in plan(chain, _asked(method, [Path(f"teacher {i}") for i in range(count)])):
            if stage.config.evaluation.split != "test":
                raise UserError("evaluation.split: test figures are compared; leave it at test")


def _check_stages(
    comparison: ComparisonConfig,
    teachers: Sequence[Stage],
    workspaces: Workspaces,
    directory: Path,
) -> None:
    """Look at the stages of all methods; see ``check_stages``."""
    names = [stage.name for stage in teachers] or comparison.loaded
    for method in comparison.methods:
        stages = plan(chain_of(comparison, method, comparison.seeds[0]), _asked(method, names))
        check_stages([*teachers, *stages], workspaces, directory)


def _asked(method: str, places: Sequence[Any]) -> list[Any]:
    """Return the teachers among all that a method learns from."""
    kind = METHODS.find(method)
    if not kind.taught:
        return []
    return list(places if kind.least_teachers > 1 else places[:1])


def _imported(
    place: Path, number: int, directory: Path, workspaces: Workspaces, config: Config
) -> Path:
    """Return a teacher's checkpoint; a model of DGL-KE becomes one, so that it is ranked once."""
    if (place / RESULTS_FILE).is_file():
        return place
    target = (directory / TEACHERS / str(number)).resolve()
    if not target.is_dir():
        import_teacher(place, target, workspaces.of(config), config)
    return target


def _check_alike(
    chains: Sequence[ChainResults], place: Path, dataset: Callable[[], Dataset]
) -> None:
    """Refuse to lay figures of different triples side by side."""
    first, last = (chain.dataset.fingerprint or "" for chain in (chains[0], chains[-1]))
    if first != last and not all(dataset().has_fingerprint(each) for each in (first, last)):
        raise UserError(
            f"{place}: was run on other triples ({short(last)}) than the chain before it "
            f"({short(first)}); put the data back as they were, or begin anew with another --out"
        )


def _loaded(place: Path, dataset: Dataset, allow_other_data: bool) -> StageResults:
    """Return the stage that a loaded teacher stands for."""
    path = place / RESULTS_FILE
    results = read_training_results(path)
    if "test" not in results.metrics:
        raise UserError(f"{path}: a comparison needs the teacher's test figures, and has none")
    others = teacher_data(place, dataset, allow_other_data=allow_other_data)
    stated = results.dataset
    ranked_on = None if stated is None else stated.fingerprint or stated.ranked_on
    found = {
        "data_warnings": [other.line(dataset.name, dataset.fingerprint) for other in others],
        "other_test": ranked_on is not None and not dataset.has_fingerprint(ranked_on),
    }
    return StageResults(
        name=str(place),
        role="teacher",
        teacher=None,
        teachers=[],
        directory=str(place),
        results=results.model_copy(update=found),
    )


def _finished(place: Path, chain: ChainConfig, loaded: Sequence[Path]) -> Optional[ChainResults]:
    """Return what a chain has left, if it ran to its end by these settings."""
    path, names = place / RESULTS_FILE, [str(each) for each in loaded]
    same = path.is_file() and saved_chain(place) == (chain, names)
    return chain_results(path) if same else None
