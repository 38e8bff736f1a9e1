"""``dglke-distill serve``."""

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from dglke_distill.cli import settings
from dglke_distill.cli.models import say_which
from dglke_distill.cli.say import say


def serve(
    model: settings.CheckpointArgument,
    other: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[NAME_OR_CHECKPOINT]",
            help="Another model to compare with. If not given: one is picked on the page.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", help="Port to listen on; 0 for any free one.")
    ] = 8350,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; by default only this machine reaches it."
        ),
    ] = "127.0.0.1",
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    types: Annotated[
        Optional[Path],
        typer.Option(
            "--types",
            help="File of lines entity<TAB>type, for questions with candidates=type:NAME. If not "
            "given: types.tsv in the folder of --dataset, if it is there.",
        ),
    ] = None,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    device: settings.LoadDeviceFlag = None,
    threads: settings.ThreadsFlag = None,
) -> None:
    """Look at models in the browser: ask them, compare two, see a map of their entities."""
    from dglke_distill.base import runtime
    from dglke_distill.serve import Gallery, PageServer
    from dglke_distill.serve.api import Api

    runtime.tune_allocator()
    runtime.speed_up_products()
    try:
        with PageServer(host, port) as server:
            gallery = Gallery(
                [name for name in (model, other) if name is not None],
                device=device or "cpu",
                store=store,
                offline=offline,
                data_root=data_root,
                threads=threads or 0,
                dataset=dataset,
                allow_other_data=allow_other_data,
                types=types,
            )
            server.api = api = Api(gallery)
            for name in gallery.given:
                say_which(name)
                if reason := gallery.get(name).no_facts:
                    gallery.notes.append(f"known facts of {name} are not marked: {reason}")
                gallery.notes += [
                    f"known facts of {name}: {note}" for note in gallery.get(name).fact_notes
                ]
            for note in gallery.notes:
                say(f"note: {note}", err=True)
            if not server.loopback:
                say("note: whoever reaches this machine can ask; there is no password", err=True)
            say(f"warmed up in {api.warm_up():.1f} s: the first question does not wait", err=True)
            say(f"{server.url} (Ctrl-C ends it)")
            server.serve_forever()
    except KeyboardInterrupt:  # while models were loaded
        pass
    say("ended")
    sys.stdout.flush()
    os._exit(0)  # threads that still load or score would have to be waited for
