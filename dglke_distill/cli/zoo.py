"""``dglke-distill zoo``: published models."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import complete, settings
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import load_given
from dglke_distill.cli.output import show_warnings
from dglke_distill.cli.say import say, say_json, say_text
from dglke_distill.config.flags import stated_flags

if TYPE_CHECKING:
    from dglke_distill.artifacts.loaded_model import LoadedModel
    from dglke_distill.zoo import Verification

zoo_app = typer.Typer(
    help="Published models: list, load, publish, verify them.", no_args_is_help=True
)

NameArgument = Annotated[
    str, typer.Argument(help="Name of a model, or name@version.", autocompletion=complete.published)
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@zoo_app.command("list")
def zoo_list(
    pattern: Annotated[str, typer.Argument(help="Which names to list, with * and ?.")] = "*",
    model: Annotated[
        Optional[str],
        typer.Option("--model", help="List this score function only. If not given: all."),
    ] = None,
    dataset: Annotated[
        Optional[str],
        typer.Option("--dataset", help="List models of this dataset only. If not given: of all."),
    ] = None,
    max_dim: Annotated[
        Optional[int],
        typer.Option("--max-dim", help="Most floats that an entity may have. If not given: any."),
    ] = None,
    max_bytes: Annotated[
        Optional[int],
        typer.Option(
            "--max-bytes", help="Most bytes that all files of a model may have. If not given: any."
        ),
    ] = None,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="List all versions, not only the newest.")
    ] = False,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the models that there are."""
    for option, most in (("--max-dim", max_dim), ("--max-bytes", max_bytes)):
        if most is not None and most < 1:
            raise UserError(f"{option} {most}: give a whole number above 0")
    from dglke_distill.zoo.index import list_models
    from dglke_distill.zoo.listing import table_of

    found = list_models(
        pattern,
        model=model,
        dataset=dataset,
        max_dim=max_dim,
        max_bytes=max_bytes,
        all_versions=all_versions,
        store=store,
        offline=offline,
    )
    if as_json:
        say_json([{**one.to_tree(), "store": place} for one, place in zip(found, found.places)])
        return
    if not found:
        say("no such model")
        return
    for place in dict.fromkeys(found.places):
        of_place = [one for one, its in zip(found, found.places) if its == place]
        console = SafeConsole()
        table, left_out = table_of(of_place, console.width)
        for line in (place, *table):
            console.print(line, soft_wrap=True)
        if left_out:
            say(f"no room in {console.width} columns for {', '.join(left_out)}; --json has all")


@zoo_app.command("info")
def zoo_info(
    name: NameArgument,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the card of a model, or all that the registry says of it."""
    from dglke_distill.zoo.card import render_card
    from dglke_distill.zoo.index import find

    entry, place = find(name, store=store, offline=offline)
    if as_json:
        say_json({**entry.to_tree(), "store": place.place})
    else:
        say_text(render_card(entry, place))


@zoo_app.command("load")
def zoo_load(
    name: NameArgument,
    device: settings.LoadDeviceFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Load a model, as `zoo.load` in Python does, to see that it works here."""
    import time

    from dglke_distill import zoo

    begun = time.perf_counter()
    model = zoo.load(name, device=device or "cpu", store=store, offline=offline)
    milliseconds = (time.perf_counter() - begun) * 1000
    say(
        f"{name}: {plural(len(model.entities), 'entity')}, "
        f"{plural(len(model.relations), 'relation')}, loaded in "
        f"{milliseconds:.0f} ms, imports included"
    )


@zoo_app.command("pull")
def zoo_pull(name: NameArgument, store: settings.StoreFlag = None) -> None:
    """Download a model, so that it loads without a network."""
    from dglke_distill.zoo.fetch import fetch_files
    from dglke_distill.zoo.index import find

    found = find(name, store=store)
    files = fetch_files(found)
    for path in files.values():
        say(str(path))


@zoo_app.command("rm")
def zoo_rm(name: NameArgument, store: settings.StoreFlag = None) -> None:
    """Delete what was downloaded of a model, unless another downloaded one needs it.

    Published versions stay where they are: they never change.
    """
    from dglke_distill.zoo.fetch import remove

    for path in remove(name, store=store):
        say(f"deleted: {path}")


@zoo_app.command("publish")
def zoo_publish(
    context: typer.Context,
    run_dir: Annotated[
        Path, typer.Argument(help="A chain's directory, for all its students, or a checkpoint.")
    ],
    name: Annotated[
        Optional[str],
        typer.Option(
            "--name",
            help="Name to publish a checkpoint under, or the one student of a chain to publish. If "
            "not given: the usual name, and all students.",
        ),
    ] = None,
    with_known: Annotated[
        bool,
        typer.Option(
            "--with-known",
            help="Publish the dataset's facts too, for `predict --exclude-known` and `serve` where "
            "the dataset is not at hand.",
        ),
    ] = False,
    against: Annotated[
        Optional[str],
        typer.Option(
            "--against",
            help="A second model, such as one of the same size that was trained directly: both are "
            "ranked on the test split, and the card says by how much the published one's MRR is "
            "above its own, with an interval of 95 %. If not given: the card of a chain's student "
            "has the chain's verdict, and others have none.",
        ),
    ] = None,
    dataset: settings.OwnDatasetFlag = None,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
) -> None:
    """Publish models into a store: your own, unless --store names another.

    The same files under the same name again change nothing; other files, or a new verdict on them,
    are the next version.
    """
    from dglke_distill import zoo
    from dglke_distill.zoo.schema import KNOWN_FILE

    if not with_known and against is None:
        why = "is of the facts that --with-known publishes and --against ranks; give one too"
        refuse_idle(context, why, "dataset", "data_root")
    verdict = None
    if against is not None:
        from dglke_distill.distill.gains import verdict_text
        from dglke_distill.zoo.publish import check_single

        check_single(run_dir)
        verdict = verdict_text(
            [
                (load_given(str(run_dir)), str(run_dir)),
                (_control(against, store), against),
            ],
            settings=settings.overrides(stated_flags({"dataset": dataset}), None),
            data_root=data_root,
        )
    published = zoo.publish(
        run_dir,
        name,
        store=store,
        known=with_known,
        dataset=dataset,
        data_root=data_root,
        verdict=verdict,
    )
    for entry in published:
        facts = [file.bytes for file in entry.files if file.name == KNOWN_FILE]
        more = f", {facts[0]:,} of them known facts" if facts else ""
        say(f"{entry.pinned}: {entry.params:,} parameters, {entry.total_bytes:,} bytes{more}")
        show_warnings(entry.warnings or ())


def _control(against: str, store: Optional[str]) -> "LoadedModel":
    """Load the model of --against: a folder, or a name in --store or in the usual stores."""
    from dglke_distill.zoo.fetch import folder_of

    place = folder_of(against)
    if place is None and store is not None:
        with suppress(UserError):
            return load_given(against, store=store)
    return load_given(against)


@zoo_app.command("push")
def zoo_push(
    name: NameArgument,
    hub: Annotated[
        str, typer.Option("--hub", metavar="USER/MODEL", help="Repository of the Hugging Face hub.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is seen by its owner alone.")
    ] = False,
    store: settings.StoreFlag = None,
) -> None:
    """Upload a model to the Hugging Face hub; hf://USER/MODEL then names it everywhere.

    Log in first with `hf auth login`, or set HF_TOKEN.
    """
    from dglke_distill import zoo

    say(f"pushed: {zoo.push(name, hub, private=private, store=store)}")


@zoo_app.command("verify")
def zoo_verify(
    context: typer.Context,
    names: Annotated[
        Optional[list[str]], typer.Argument(help="Names of the models to check, if not --all.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Check every version in the stores that are searched.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Also rank again what the figures were measured on.")
    ] = False,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    threads: settings.ThreadsFlag = None,
) -> None:
    """Check files, weights and names against the registry; with --metrics, the figures too.

    Exit code 1 if a model is not what the registry says.
    """
    from dglke_distill import zoo

    if not metrics:
        why = "is of what --metrics ranks; give that too"
        refuse_idle(context, why, "dataset", "allow_other_data", "data_root", "threads")
    if bool(names) == everything:
        raise UserError("zoo verify: name models, or give --all")
    if everything:
        entries = zoo.list(store=store, offline=offline, all_versions=True)
        names = [entry.pinned for entry in entries]
        if not names:
            say("no models")
    failures = 0
    for name in names or ():
        try:
            found = zoo.verify(
                name,
                metrics=metrics,
                store=store,
                offline=offline,
                data_root=data_root,
                settings=settings.overrides(
                    stated_flags({"threads": threads, "dataset": dataset}), None
                ),
                allow_other_data=allow_other_data,
            )
        except (UserError, FloatingPointError) as error:
            failures += 1
            say(f"FAILED {name}: {error}")
            continue
        show_warnings(f"{found.entry.pinned}: {line}" for line in found.warnings)
        failures += not found.reproduced
        say(_verdict(found))
    if failures:
        whole = f"{failures} of {len(names or ())}"
        say(f"{whole} are not what the registry says, or could not be checked", err=True)
        raise typer.Exit(1)


def _verdict(found: "Verification") -> str:
    text = f"{'ok' if found.reproduced else 'FAILED'} {found.entry.pinned}"
    if not found.measured:
        return f"{text}: files, weights and names"
    registered: Any = found.entry.metrics
    figures = [
        f"{name} {value:.6f} (registered {getattr(registered, name):.6f})"
        for name, value in found.measured.items()
    ]
    return f"{text}: {registered.split} {', '.join(figures)}"
