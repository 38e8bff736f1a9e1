"""``dglke-distill compress``."""

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_apart, check_new_checkpoint, load_given
from dglke_distill.cli.output import metrics_table, show_warnings
from dglke_distill.cli.say import say, warn

if TYPE_CHECKING:
    from dglke_distill.artifacts.loaded_model import LoadedModel
    from dglke_distill.calibration import Calibration
    from dglke_distill.compression import Storage
    from dglke_distill.data.identity import Lookup
    from dglke_distill.models.base import KGEModel


def compress(
    context: typer.Context,
    model: settings.CheckpointArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="How to store the tables: float16, int8, pq or binary; float32 turns a compressed "
            "model back into a plain one.",
        ),
    ],
    out: settings.NewCheckpointFlag,
    overwrite: settings.OverwriteFlag = False,
    assignments: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="OPTION=VALUE",
            help="An option of the storage, e.g. pieces=32 of pq, scale=column of int8; may be "
            "repeated.",
        ),
    ] = None,
    relations: Annotated[
        Optional[str],
        typer.Option(
            "--relations",
            help="How to store the relations, by the names of --to. If not given: bytes under "
            "int8, else float16.",
        ),
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate", help="Rank valid and test with the new model, and keep the figures."
        ),
    ] = False,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
) -> None:
    """Store a model's tables in fewer bytes; the new checkpoint loads, ranks and predicts alike."""
    from dglke_distill.artifacts.checkpoint import save_model
    from dglke_distill.artifacts.results import SplitFigures
    from dglke_distill.compression import Storage
    from dglke_distill.data.identity import Lookup

    check_apart(out, model)
    check_new_checkpoint(out, overwrite)
    storage = Storage.of(to, settings.options_of(assignments), relations)
    lookup = Lookup(dataset, data_root, allow_other_data=allow_other_data)
    before = load_given(model, store=store, offline=offline)
    if not evaluate and before.calibration is None:
        why = "is of what --evaluate ranks; give that too"
        refuse_idle(context, why, "dataset", "allow_other_data", "data_root")
    after = in_storage(before, storage)
    metrics: dict[str, Any] = {}
    if evaluate:
        metrics, warnings = _metrics(after, lookup)
        after.results["metrics"] = metrics
        if warnings:
            after.results["data_warnings"] = warnings
    names = after.entities, after.relations
    labels = before.saved_labels()
    anew, told = _calibration(before, after, lookup)
    parts = after.config, *names, after.results, labels
    save_model(out, after.model, *parts, calibration=anew, overwrite=overwrite)
    shared = after.results["model"]["shared_bytes"]
    if lost := _lost_codebooks(before.model, after.model):
        warn(lost)
    say(
        f"{out}: {before.model.bytes_per_entity} bytes per entity became "
        f"{after.model.bytes_per_entity}"
        + (f", and {shared:,} that all entities share" if shared else "")
        + f"; weights of {_weights(before.model):,} bytes became {_weights(after.model):,}"
    )
    if not storage.plain and _weights(after.model) > _weights(before.model):
        more = f"the {shared:,} bytes that all entities share are more than is saved"
        why = more if shared else to
        say(f"warning: the new model is larger than the old one ({why}); keep the old one")
    elif shared:
        plain = _weights(in_storage(before, Storage.of("int8", {}, relations)).model)
        if _weights(after.model) > plain:
            say(
                f"warning: int8 would take less, {plain:,} bytes, since the {shared:,} that all "
                f"entities share outweigh what {to} saves on {plural(len(names[0]), 'entity')}"
            )
    if told:
        say(told.replace("OUT", shlex.quote(str(out))), err=anew is None)
    if evaluate:
        SafeConsole().print(
            metrics_table({split: SplitFigures.of(of, split) for split, of in metrics.items()})
        )


def in_storage(loaded: "LoadedModel", storage: "Storage") -> "LoadedModel":
    """Return a loaded model with its tables stored in another way.

    Its results are those of the source but for ``model`` and ``metrics``: figures of ranking are
    not inherited (they stand under ``compressed_from``).

    Raises:
        UserError: an option of the storage is unknown or does not fit the model.
    """
    from dglke_distill.artifacts.loaded_model import LoadedModel
    from dglke_distill.compression import CompressedModel, compress, decompress
    from dglke_distill.models.base import KGEModel

    tree: dict[str, Any] = loaded.config.model_dump()
    tree["model"].update(encoder="lookup", encoder_options={})
    tree["training"].update(dtype="float32", storage=None)
    config = type(loaded.config).from_mapping(tree, "configuration")
    model: KGEModel = compress(loaded.model, config.model, storage)
    assert isinstance(model, CompressedModel)
    shared = model.shared_bytes
    if storage.plain:
        model, shared = decompress(model, config.model), 0
    source = {
        "bytes_per_entity": loaded.model.bytes_per_entity,
        "metrics": loaded.results.get("metrics", {}),
    }
    about = {
        **loaded.results.get("model", {}),
        "bytes_per_entity": model.bytes_per_entity,
        "shared_bytes": shared,
        "storage": storage.model_dump(mode="json"),
    }
    results = {**loaded.results, "model": about, "metrics": {}, "compressed_from": source}
    return LoadedModel(model, config, loaded.entities, loaded.relations, results)


def _lost_codebooks(before: "KGEModel", after: "KGEModel") -> str:
    """Return a line if a model's codebooks are replaced by others; else an empty text."""
    had, has = before.encoder.coded(), after.encoder.coded()
    if had is None or has is None:
        return ""
    if before.entity_embeddings.float().equal(after.entity_embeddings):
        return ""
    keep = f"--set pieces={len(had.codebooks)}" + " --set bits=4" * (had.codebooks.shape[1] == 16)
    return (
        f"warning: the model's own codebooks, and what training made of them, are lost: others of "
        f"{plural(len(has.codebooks), 'piece')} are learned by k-means; give {keep} to keep them"
    )


def _calibration(
    before: "LoadedModel", after: "LoadedModel", lookup: "Lookup"
) -> tuple[Optional["Calibration"], str]:
    """Return the calibration of the new model, and a line of what became of the old one's.

    That of the old model is of other scores, so it is never kept. Nothing is downloaded.
    """
    from dglke_distill.predict.calibrated import calibrate_loaded, settings_of

    if before.calibration is None:
        return None, ""
    lost = "warning: the new model is not calibrated, since {}; calibrate it by `{}`"
    call = "dglke-distill calibrate OUT"
    chosen = settings_of(before.calibration)
    if chosen is None:
        why = "the negatives that the old one was calibrated with are not kept"
        return None, lost.format(why, f"{call} --negatives @FILE")
    try:
        made = calibrate_loaded(after, chosen, lookup=lookup._replace(offline=True))
    except UserError as error:
        return None, lost.format(f"this needs its dataset ({error})", f"{call} --dataset DATASET")
    error_now = made.about["held_out"]["after"]["expected_calibration_error"]
    return made, f"calibrated anew as before: expected calibration error {error_now:.4f}"


def _weights(model: "KGEModel") -> int:
    """Return the bytes that all tables of a model take, as they are stored."""
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _metrics(loaded: "LoadedModel", lookup: "Lookup") -> tuple[dict[str, Any], list[str]]:
    from dglke_distill.data.datasets_made import of_the_data
    from dglke_distill.runs.measure import measure
    from dglke_distill.runs.workspace import prepare

    found, warnings = loaded.find_dataset("the model", lookup)
    show_warnings([*warnings, *of_the_data(found.warnings)])
    workspace = prepare(loaded.config, dataset=found)
    model = loaded.model.to(workspace.device)
    metrics = {
        split: measure(model, workspace, split, loaded.config)
        for split in ("valid", "test")
        if len(found.split(split))
    }
    return metrics, warnings
