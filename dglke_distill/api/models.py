"""``kd.load`` and ``kd.evaluate``: trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from dglke_distill.api.datasets import AnyDataset, data_settings, read_as
from dglke_distill.api.given import AnyPath, path_of
from dglke_distill.api.outcomes import DistillationRun, TrainingRun
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.artifacts.results import EvaluationResults
from dglke_distill.base.arguments import checked
from dglke_distill.distill.gains import ranked
from dglke_distill.predict import NamedModel
from dglke_distill.runs.settings import flag_trees
from dglke_distill.zoo.fetch import load as load_published
from dglke_distill.zoo.fetch import load_checkpoint, names_a_folder

AnyModel = Union[str, Path, NamedModel, LoadedModel, TrainingRun, DistillationRun]
"""A name of the zoo, a folder, a model in memory, or what a call returned."""


@checked
def load(
    path_or_name: AnyPath,
    *,
    device: str = "cpu",
    store: Union[str, Path, None] = None,
    cache_dir: Optional[AnyPath] = None,
    offline: bool = False,
) -> NamedModel:
    """Load a model from its folder, or by its name in the zoo.

    Args:
        path_or_name: a folder that exists, or text with a path separator in it, is a folder, of
            a checkpoint or of a run (of a chain its last student); anything else is a name, or
            ``name@version``.
        device: where the model shall live.
        store: the one store that names are looked up in; None: all of them.
        cache_dir: folder for downloads.
        offline: whether to refuse to download.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    if names_a_folder(path_or_name):
        place = Path(path_or_name)
        return NamedModel(load_checkpoint(place, device=device), name=str(place)).eval()
    return load_published(
        str(path_or_name),
        device=device,
        cache_dir=path_of(cache_dir),
        offline=offline,
        store=None if store is None else str(store),
    )


@checked
def evaluate(
    model: AnyModel,
    *,
    split: str = "test",
    protocol: str = "all",
    dataset: Optional[AnyDataset] = None,
    allow_other_data: bool = False,
    against: Optional[AnyModel] = None,
    device: Optional[str] = None,
    threads: Optional[int] = None,
    data_root: Optional[AnyPath] = None,
    store: Union[str, Path, None] = None,
    offline: bool = False,
) -> EvaluationResults:
    """Rank a split with a trained model: ``dglke-distill evaluate``.

    Every entity is a candidate on both sides, and known answers are filtered; of OGB's datasets the
    given candidates are ranked. Figures of other protocols compare with published ones of the same
    protocol, and with no others.

    Args:
        model: a name of the zoo, a folder, a model in memory, or what a call returned.
        split: ``train``, ``valid`` or ``test``.
        protocol: ``all``, the standard; ``seen``, PyKEEN's; or ``no-self``, that of MuRP's code;
            see ``evaluate.protocols.PROTOCOLS``.
        dataset: what it was trained on, where that is not found by its name: a name, a folder, a
            file, a dataset or tables in memory.
        allow_other_data: whether to go on with other triples; ``warnings`` then says so.
        against: a second model for the same questions: ``against.gain`` of what is returned says
            by what share the first one's MRR is above its own, with an interval of 95 %.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch and the kernels; all cores if None.
        data_root: folder that holds datasets already.
        store: the one store that names are looked up in; None: all of them.
        offline: whether to refuse to download the model.

    Raises:
        UserError: no such model, dataset or protocol, other triples than the model's, or no triple
            to rank.
    """
    if isinstance(model, (TrainingRun, DistillationRun)):
        dataset = model.dataset if dataset is None else dataset

    def loaded(given: AnyModel, called: str) -> tuple[LoadedModel, str]:
        if isinstance(given, (TrainingRun, DistillationRun)):
            given = given.model
        name = str(given) if isinstance(given, (str, Path)) else getattr(given, "name", "")
        of = given.loaded if isinstance(given, NamedModel) else given
        if not isinstance(of, LoadedModel):
            of = load_checkpoint(of, store=store, offline=offline)
        return of, name or called

    models = [loaded(model, "the model")]
    if against is not None:
        models.append(loaded(against, "the other model"))
    data, read = data_settings(read_as(dataset, models[0][0].config.data))
    return ranked(
        models,
        split.lower(),
        settings=[*([data] if data else []), *flag_trees({"device": device, "threads": threads})],
        data_root=path_of(data_root),
        allow_other_data=allow_other_data,
        dataset=read,
        protocol=protocol,
    )
