"""``dglke-distill data``: what datasets there are, what is known of them, and getting one ready."""

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.table import Table

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.check import FailOnFlag, ThresholdFlag, TopFlag, show_check
from dglke_distill.cli.given_data import DataSetFlag, data_flags, load_own
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.say import say
from dglke_distill.config.sections import MOST_SEED
from dglke_distill.data import catalog
from dglke_distill.data.identity import check_named
from dglke_distill.data.labels import Labels, fetch_labels, find_labels
from dglke_distill.data.layout import FORMAT_NAMES
from dglke_distill.data.manifest import Manifest, load_manifest
from dglke_distill.data.sources import DATASETS
from dglke_distill.data.triples import Dataset
from dglke_distill.data.writers import check_new, write_dataset, writing_format

data_app = typer.Typer(
    help="The datasets: list them, look at one, get one ready.", no_args_is_help=True
)

YesFlag = Annotated[
    bool, typer.Option("--yes", help="Agree to downloading an archive of gigabytes.")
]
OfflineFlag = Annotated[
    bool, typer.Option("--offline", help="Download nothing; use what is there.")
]

_OF_TABLES = ("columns", "delimiter", "ignore_extra", "weight_column", "assignments")
"""Parameters that say how a table is read."""
_CHECKS = {
    "sha256": "sha256",
    "git_blob": "git blob id (no sha256 known)",
    "counts": "counts only (no digest known)",
}


def agree_to_download(dataset: str, yes: bool, data_root: Optional[Path]) -> None:
    """Download an archive that was agreed to, by ``--yes`` or on the terminal; refuse another.

    Args:
        dataset: a name of the catalog, or a path.
        yes: whether the user has agreed.
        data_root: folder of pre-placed datasets.
    """
    from dglke_distill.data.ogb_download import offer

    ask = typer.confirm if sys.stdin.isatty() and sys.stderr.isatty() else None
    offer(dataset, yes, data_root, ask=ask, tell=say)


@data_app.command("list")
def data_list(data_root: settings.DataRootFlag = None) -> None:
    """List the datasets of the catalog, and where each is now."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("name", no_wrap=True)
    for heading in ("entities", "relations", "triples"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("now", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    for manifest in catalog.manifests():
        counts = manifest.counts
        location = catalog.locate(manifest, data_root=data_root)
        table.add_row(
            manifest.name,
            f"{counts.entities:,}",
            f"{counts.relations:,}",
            f"{counts.triples:,}",
            location.place,
            # The first word is the licence, or "unspecified"; `data info` has the rest.
            manifest.licence.partition(" ")[0],
        )
    for name in DATASETS:
        unknown = ("?", "?", "?")
        try:
            licence = DATASETS.find(name).licence
        except UserError as error:
            table.add_row(name, *unknown, "broken", str(error))
        else:
            table.add_row(name, *unknown, "plug-in", licence.partition(" ")[0])
    SafeConsole().print(table)


@data_app.command("info")
def data_info(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A name from `data list`, or your own folder or file of facts.")
    ],
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    data_root: settings.DataRootFlag = None,
    assignments: DataSetFlag = None,
) -> None:
    """Print what is known of a dataset: counts, licence, citation, files and their digests.

    Of a folder or file of your own it says what it holds, as `data prepare` does.
    """
    reading = data_flags(locals())
    check_named(name)
    manifest = load_manifest(name)
    own = in_home(name)
    console = SafeConsole(soft_wrap=True)
    if manifest is None:
        if not own.exists() and DATASETS.knows(name):
            _print_source(console, DATASETS.spell(name))
            return
        if not own.exists():
            raise catalog.unknown_name(name)
        dataset = load_own(name, reading, assignments, data_root, offline=True)
        _print_dataset(console, dataset)
        _print_labels(console, dataset, name, data_root, True)
        return
    why = f"is for your own tables, and {name} is of the catalog; leave it out"
    refuse_idle(context, why, *_OF_TABLES)
    if own.exists():
        note = f"note: this is the catalog's {manifest.name}; `train {name}` would read"
        console.print(f"{note} {resolved(own)}")
    location = catalog.locate(manifest, data_root=data_root)
    counts = manifest.counts
    types = f", {counts.entity_types} entity types" if counts.entity_types is not None else ""
    console.print(f"{manifest.title} ({manifest.name})", style="bold")
    console.print(manifest.description)
    console.print(
        f"{counts.entities:,} entities{types}, {counts.relations:,} relations; "
        f"{counts.train:,} train, {counts.valid:,} valid, {counts.test:,} test triples"
    )
    for note in manifest.notes:
        console.print(f"note: {note}")
    console.print(f"licence: {manifest.licence}")
    console.print(f"homepage: {manifest.homepage}")
    console.print(f"now: {location.place}, {location.folder!s}")
    _print_files(console, manifest)
    if manifest.labels is not None:
        console.print(f"labels: {manifest.labels.origin}")
        console.print(f"  licence: {manifest.labels.licence}")
        console.print(f"  {manifest.labels.url or 'ship with the package'}")
    console.print("citation:")
    for line in manifest.citation.strip().splitlines():
        console.print(line)


def _print_source(console: SafeConsole, name: str) -> None:
    """Print what a plug-in says of its dataset."""
    source = DATASETS.find(name)
    console.print(f"{name} of {DATASETS.origin(name)}", style="bold")
    for line in (source.description, f"licence: {source.licence}", f"homepage: {source.homepage}"):
        if line:
            console.print(line)
    if source.citation:
        console.print("citation:")
        console.print(source.citation.strip())


@data_app.command("prepare")
def data_prepare(
    context: typer.Context,
    name_or_path: settings.FactsArgument,
    data_root: settings.DataRootFlag = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            "--out",
            help="New folder to write the splits into. If not given: nothing is written.",
            show_default=False,
        ),
    ] = None,
    overwrite: settings.OverwriteFlag = False,
    write_format: Annotated[
        str,
        typer.Option("--out-format", help="Format of what --out writes, by the names of --format."),
    ] = "names_hrt",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help=f"Format of your files: {', '.join(FORMAT_NAMES)}; letters in any order.",
        ),
    ] = "auto",
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=MOST_SEED, help="Seed by which one file is split.")
    ] = 0,
    fractions: Annotated[
        str, typer.Option("--fractions", help="Shares of train,valid,test when one file is split.")
    ] = "0.8,0.1,0.1",
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    assignments: DataSetFlag = None,
    yes: YesFlag = False,
    offline: OfflineFlag = False,
) -> None:
    """Download a dataset if need be, verify it, and say what it holds.

    Labels of its entities come with it, where the catalog knows where they are.
    """
    flags = {"format": format, "split_seed": seed, **data_flags(locals())}
    shares = _fractions(fractions)
    try:
        writing_format(write_format)
    except UserError as error:
        raise UserError(f"--out-format: {error}") from None
    if out is None:
        why = "is of what --out writes; give that too"
        refuse_idle(context, why, "overwrite", "write_format")
    else:
        check_new(out, overwrite)  # before anything is read
        if resolved(in_home(name_or_path)).is_relative_to(resolved(out)):
            raise UserError(f"--out {out}: holds the data itself; choose another folder")
    dataset = _loaded(
        name_or_path, flags, assignments, data_root, yes, offline, split_fractions=shares
    )
    console = SafeConsole(soft_wrap=True)
    _print_dataset(console, dataset)
    _print_labels(console, dataset, name_or_path, data_root, offline)
    if out is not None:
        for path in write_dataset(dataset, out, format=write_format, overwrite=overwrite):
            console.print(f"wrote {path!s}")


@data_app.command("check")
def data_check(
    context: typer.Context,
    name_or_path: settings.FactsArgument,
    threshold: ThresholdFlag = 0.8,
    top: TopFlag = 10,
    fail_on: FailOnFlag = None,
    data_root: settings.DataRootFlag = None,
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    assignments: DataSetFlag = None,
    yes: YesFlag = False,
    offline: OfflineFlag = False,
    as_json: settings.FiguresAsJsonFlag = False,
) -> None:
    """Look for leaks between the splits, telling relations, unseen names and skew.

    Each kind is stated with the filtered MRR that a rule reaches which knows of nothing else.
    """
    from dglke_distill.evaluate.data_check import check_dataset, check_threshold
    from dglke_distill.evaluate.data_findings import parse_limit

    if as_json:
        refuse_idle(context, "is of the table, and --json has all; leave it out", "top")
    check_threshold(threshold)
    for text in fail_on or ():
        parse_limit(text)  # before anything is read
    flags = data_flags(locals())
    dataset = _loaded(name_or_path, flags, assignments, data_root, yes, offline)
    check = check_dataset(dataset, threshold)
    show_check(check, as_json=as_json, top=top, fail_on=fail_on)


def _loaded(
    name_or_path: str,
    flags: dict[str, Any],
    assignments: Optional[list[str]],
    data_root: Optional[Path],
    yes: bool,
    offline: bool,
    **options: Any,
) -> Dataset:
    """Load a dataset by what was given, after a download where that is needed and agreed to."""
    if not offline:
        agree_to_download(name_or_path, yes, data_root)
    return load_own(name_or_path, flags, assignments, data_root, offline=offline, **options)


def _fractions(text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = (float(share) for share in text.split(","))
    except ValueError:
        raise UserError(
            f"--fractions {text}: give three numbers with commas between, such as 0.8,0.1,0.1"
        ) from None
    return train, valid, test


def _print_files(console: SafeConsole, manifest: Manifest) -> None:
    source = manifest.source
    if source.kind == "ogb":
        console.print("files: one archive without a published digest; we verify size and counts")
        return
    origin = f" of {source.repository} at {source.commit}" if source.repository else ""
    console.print(f"files{origin}:")
    for role, file in manifest.files.items():
        size = f", {file.bytes:,} bytes" if file.bytes is not None else ""
        console.print(f"  {role}: {file.path}{size}")
        console.print(f"    verified by {_CHECKS[file.verified_by]}")
        for kind, digest in (("sha256", file.sha256), ("git blob", file.git_blob)):
            if digest is not None:
                console.print(f"    {kind} {digest}")


def _print_labels(
    console: SafeConsole, dataset: Dataset, place: str, data_root: Optional[Path], offline: bool
) -> None:
    """Print how many entities have a label, after a download where that is needed and allowed."""

    def found() -> Optional[Labels]:
        return find_labels(
            dataset.name, place=place, data_root=data_root, entities=dataset.entities
        )

    labels, manifest = found(), None if Path(place).exists() else load_manifest(place)
    if labels is None and manifest is not None and not offline:
        labels = None if fetch_labels(manifest) is None else found()
    if labels is not None:
        count = sum(name in labels.labels for name in dataset.entities)
        console.print(f"labels of {count:,} entities")


def _print_dataset(console: SafeConsole, dataset: Dataset) -> None:
    console.print(
        f"{dataset.name}: {plural(dataset.num_entities, 'entity')}, "
        f"{plural(dataset.num_relations, 'relation')}; {len(dataset.train):,} train, "
        f"{len(dataset.valid):,} valid, {len(dataset.test):,} test triples"
    )
    console.print(f"fingerprint {dataset.fingerprint}")
    weight = dataset.train_weight
    if weight is not None:
        console.print(
            f"weights of train: {weight.min():g} to {weight.max():g}, mean {weight.mean():g}"
        )
    for warning in dataset.warnings:
        console.print(f"warning: {warning}")
