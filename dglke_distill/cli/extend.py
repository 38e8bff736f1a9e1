"""``dglke-distill extend``."""

import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Optional

import typer

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.given_data import DataSetFlag, data_flags, own_data
from dglke_distill.cli.models import check_apart, check_new_checkpoint, load_given
from dglke_distill.cli.say import say

_LOOKED_AT = 100
_SHOWN = 10


def extend(
    model: settings.CheckpointArgument,
    facts: Annotated[
        Path,
        typer.Argument(
            metavar="FACTS",
            help="File of facts, as `train` reads one: head<TAB>relation<TAB>tail on each line, "
            "or .csv, .nt, .parquet, compressed; entities may be new.",
        ),
    ],
    out: settings.NewCheckpointFlag,
    overwrite: settings.OverwriteFlag = False,
    data_out: Annotated[
        Optional[Path],
        typer.Option(
            "--data-out",
            help="New folder for the data of the new model, its dataset with the facts in the "
            "train split: what `evaluate --dataset` needs. If not given: they are not written.",
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Let the known entities that the facts touch move too. Without it, all that the "
            "model knew stays as it was, to the last digit.",
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=(1 << 31) - 1, help="Of the questions drawn.")
    ] = 0,
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    assignments: DataSetFlag = None,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Add entities to a trained model by their facts, in seconds, without training it again."""
    flags = locals()
    from dglke_distill.data.formats import read_facts
    from dglke_distill.data.identity import Lookup
    from dglke_distill.data.table_options import TableOptions
    from dglke_distill.data.writers import dataset_aside
    from dglke_distill.predict import NamedModel
    from dglke_distill.predict.growing import Growth

    check_apart(out, model)
    check_new_checkpoint(out, overwrite)
    if data_out is not None:
        one, other = resolved(out), resolved(data_out)
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise UserError(f"--data-out {data_out}: lies in --out, or holds it; choose another")
    own = own_data(str(facts), data_flags(flags), assignments)
    given, told = read_facts(
        facts, format=own.format, header=own.header, table=TableOptions.of(own)
    )
    for line in told:
        say(f"warning: {line}", err=True)
    named = NamedModel(load_given(model, store=store, offline=offline))
    lookup = Lookup(dataset, data_root, True, allow_other_data)
    made, data = named.grown(Growth(given, lookup, refresh, seed, data_out, overwrite))
    # Both, or neither where the disk is full: what is written first waits beside its place.
    with (
        nullcontext()
        if data_out is None
        else dataset_aside(data, resolved(data_out), overwrite=overwrite)
    ):
        made.save_pretrained(out, overwrite=overwrite)
    about = made.results["extended_from"]
    moved = f", {about['refreshed']} known ones refreshed" if refresh else ""
    new_ones = plural(about["entities"], "new entity")
    say(
        f"{out}: {new_ones} from {plural(about['facts'], 'fact')}{moved}, in "
        f"{about['seconds']:.1f} s; figures are not inherited"
    )
    new = list(made.entities)[len(named.entities) :]
    if named.calibration is not None and made.calibration is None:
        say(
            f"warning: {out} is not calibrated, since known entities have moved; calibrate it by "
            f"`dglke-distill calibrate {shlex.quote(str(out))} --dataset DATASET`",
            err=True,
        )
    looked_at = {name.casefold() for name in new[:_LOOKED_AT]}
    alike: dict[str, str] = {}
    for name in named.entities:
        if name.casefold() in looked_at:
            alike.setdefault(name.casefold(), name)
    for name in new[:_LOOKED_AT]:
        if name.casefold() in alike:
            old = alike[name.casefold()]
            say(f"warning: {name!r} is new, but {old!r} was known; is it the same?", err=True)
    say(f"new: {', '.join(new[:_SHOWN])}{' ...' if len(new) > _SHOWN else ''}")
    if data_out is not None:
        place = shlex.quote(str(data_out))
        say(f"evaluate it: dglke-distill evaluate {shlex.quote(str(out))} --dataset {place}")
    for line in made.known_warnings:
        say(f"warning: {line}; name the dataset it was trained on by --dataset", err=True)
