"""``dglke-distill discover``."""

from typing import Annotated, Any, Optional

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.cli import settings
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_outside, load_given
from dglke_distill.cli.output import show_warnings
from dglke_distill.cli.rows import row_format, write_rows


def discover(
    context: typer.Context,
    model: settings.CheckpointArgument,
    relation: Annotated[
        Optional[list[str]],
        typer.Option(
            "--relation", help="A relation; may be repeated for several. Without it, all of them."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--count", "-k", min=1, max=1_000_000, help="How many triples of each."),
    ] = 100,
    candidates: Annotated[
        Optional[str],
        typer.Option(
            "--candidates",
            help="Who may be head and tail: observed (entities that train facts of the relation "
            "have there) or typed (those, and others of their types). Without it, every entity.",
        ),
    ] = None,
    types: settings.TypesFlag = None,
    min_probability: settings.MinProbabilityFlag = None,
    no_loops: Annotated[
        bool,
        typer.Option("--no-loops", help="Leave out triples whose head and tail are the same."),
    ] = False,
    out: settings.RowsOutFlag = None,
    overwrite: settings.OverwriteFlag = False,
    format: settings.RowsFormatFlag = None,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Find the best new facts: triples over all heads and tails that the dataset does not hold.

    Each relation has its own list, since scores of two relations do not compare. A reverse with
    the same score as a triple before it is left out. A model that is calibrated says how probable
    each is. Memory does not grow with the entities.
    """
    from dglke_distill.predict import NamedModel

    if out is None:
        refuse_idle(context, "goes with --out; give that too", "overwrite")
    else:
        check_outside(out, model, reads=(dataset, types))
    chosen = row_format(out, format, overwrite)
    if candidates not in (None, "observed", "typed"):
        raise UserError(
            f"--candidates {candidates!r:.100}: heads and tails are both asked for; give observed "
            "or typed"
        )
    if types is not None and candidates != "typed":
        raise UserError("--types: says what types are; give --candidates typed too")
    named = NamedModel(load_given(model, store=store, offline=offline))
    named.checked_probability(min_probability)
    named.load_labels(data_root, dataset=dataset)
    if relation is not None:
        named.relation_ids(relation)  # before facts are read
    place: dict[str, Any] = {"dataset": dataset, "allow_other_data": allow_other_data}
    named.load_known(data_root, **place)
    told = list(named.known_warnings)
    if types is not None:
        named.load_types(types)
    if candidates is not None:
        named.load_ranges(data_root, **place)
        told += [line for line in named.range_warnings if line not in told]
    show_warnings(told, err=True)
    loops = not no_loops
    frame = named.discover(
        relation, count, candidates=candidates, loops=loops, min_probability=min_probability
    )
    write_rows(frame, out, chosen, overwrite)
