"""``dglke-distill evaluate``."""

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.cli import settings
from dglke_distill.cli.models import load_given
from dglke_distill.cli.output import metrics_table, show_warnings
from dglke_distill.cli.say import say, say_json
from dglke_distill.config.flags import stated_flags

if TYPE_CHECKING:
    from dglke_distill.artifacts.results import SplitFigures


def evaluate(
    model: settings.CheckpointArgument,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    split: Annotated[
        str, typer.Option("--split", help="Which triples to rank: train, valid or test.")
    ] = "test",
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="all: every triple and every entity, the standard; seen: without triples and "
            "candidates that train lacks, as PyKEEN; no-self: the question's own entity is no "
            "candidate, as in MuRP's code. Figures of different protocols do not compare.",
        ),
    ] = "all",
    against: Annotated[
        Optional[str],
        typer.Option(
            "--against",
            help="A second model, ranked on the same questions: by how much the first one's MRR "
            "is above its own, with an interval of 95 % (paired bootstrap over the triples; what "
            "another seed would change is not in it). If not given: none.",
        ),
    ] = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: settings.FiguresAsJsonFlag = False,
) -> None:
    """Rank a split with a trained model: every entity, both sides, known answers filtered."""
    split = split.lower()
    flags = stated_flags({**locals(), "model": None})
    from dglke_distill.distill.gains import gain_sentence, ranked
    from dglke_distill.evaluate.protocols import protocol_named

    protocol = protocol_named(protocol).name
    asked = [model] if against is None else [model, against]
    result = ranked(
        [(load_given(name, store=store, offline=offline), name) for name in asked],
        split,
        settings=settings.overrides(flags, None),
        data_root=data_root,
        allow_other_data=allow_other_data,
        protocol=protocol,
    )
    show_warnings(result.warnings, err=as_json)
    if as_json:
        say_json(result.to_tree())
    else:
        shown: dict[str, SplitFigures] = {split if against is None else model: result}
        if result.against is not None:
            shown[result.against.model] = result.against.metrics
        SafeConsole().print(metrics_table(shown))
        if result.against is not None:
            say(f"{model} against {result.against.model}: {gain_sentence(result.against.gain)}")
        if result.classification is not None:
            names = {"roc_auc": "ROC-AUC", "average_precision": "average precision"}
            names.update(accuracy="accuracy", f1="F1")
            figures = [
                f"{name} {getattr(result.classification, key):.4f}" for key, name in names.items()
            ]
            say(f"True and false test triples told apart: {', '.join(figures)}")
