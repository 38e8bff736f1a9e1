"""``dglke-distill extend``."""

from pathlib import Path
from typing import Annotated

import typer

from dglke_distill.cli import settings
from dglke_distill.cli.models import check_apart, load_given
from dglke_distill.cli.say import say

__all__ = ["extend"]

_LOOKED_AT = 100
_SHOWN = 10


def extend(
    model: settings.CheckpointArgument,
    facts: Annotated[
        Path,
        typer.Argument(
            metavar="FACTS", help="File of lines head<TAB>relation<TAB>tail; entities may be new."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Directory of the new checkpoint, to be written.")
    ],
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
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Add entities to a trained model by their facts, in seconds, without training it again."""
    from dglke_distill.artifacts.checkpoint import check_place
    from dglke_distill.predict import NamedModel
    from dglke_distill.predict.extending import read_facts

    check_apart(out, model)
    check_place(out)
    given = read_facts(facts)
    named = NamedModel(load_given(model, store=store, offline=offline))
    made = named.add_entities(
        given,
        refresh=refresh,
        dataset=dataset,
        data_root=data_root,
        allow_other_data=allow_other_data,
        seed=seed,
    )
    made.save_pretrained(out)
    about = made.results["extended_from"]
    moved = f", {about['refreshed']} known ones refreshed" if refresh else ""
    say(
        f"{out}: {about['entities']} new entities from {about['facts']} facts{moved}, in "
        f"{about['seconds']:.1f} s; figures are not inherited"
    )
    new = list(made.entities)[len(named.entities) :]
    if named.calibration is not None and made.calibration is None:
        say(
            f"warning: {out} is not calibrated, since known entities have moved; calibrate it by "
            f"`dglke-distill calibrate {out} --dataset DATASET`",
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
    for line in made.known_warnings:
        say(f"warning: {line}; name the dataset it was trained on by --dataset", err=True)
