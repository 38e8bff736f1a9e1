"""Whether a published model is what its entry says: files, weights, names, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.zoo.fetch import checked_model, fetch_files
from dglke_distill.zoo.index import Place, find
from dglke_distill.zoo.schema import PROTOCOLS, TIES, Entry

TOLERANCE = 1e-4
"""How far a figure may be from the registered one: kernels may sum in another order elsewhere."""

_FIGURES = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")


@dataclass(frozen=True)
class Verification:
    """What was found out about a published model, whose files are as published.

    Attributes:
        entry: what the registry says.
        measured: MRR and hits as measured now, by the names of ``schema.Metrics``; empty if
            nothing was ranked.
        warnings: what must be known beside these figures.
    """

    entry: Entry
    measured: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def differences(self) -> dict[str, float]:
        """How far each measured figure is from the registered one."""
        return {
            name: abs(value - getattr(self.entry.metrics, name))
            for name, value in self.measured.items()
        }

    @property
    def reproduced(self) -> bool:
        """Whether every figure that was measured is the registered one."""
        return all(difference <= TOLERANCE for difference in self.differences.values())


@checked
def verify(
    name: str,
    *,
    metrics: bool = False,
    store: Place = None,
    cache_dir: Optional[Path] = None,
    offline: bool = False,
    data_root: Optional[Path] = None,
    settings: Sequence[Mapping[str, Any]] = (),
    allow_other_data: bool = False,
) -> Verification:
    """Check a published model: digests, sizes, weights, names and, if asked, its figures.

    Args:
        name: its name, or ``name@version``.
        metrics: whether to rank the split again that its figures are of.
        store: as for ``zoo.load``.
        cache_dir: as for ``zoo.load``.
        offline: as for ``zoo.load``.
        data_root: folder that holds datasets already.
        settings: partial trees merged over the settings of its training: device, threads, or where
            its dataset lies.
        allow_other_data: whether to rank other triples than it was trained on.

    Returns:
        What was found; a figure that differs is no error but shows in ``reproduced``.

    Raises:
        UserError: a file is not what was published; or there are no figures to compare with, or
            of another protocol, or the dataset cannot be read or is not the one trained on.
    """
    found = find(name, store=store, cache_dir=cache_dir, offline=offline)
    entry = found.entry
    files = fetch_files(found, cache_dir=cache_dir, offline=offline)
    loaded = checked_model(entry, files)
    if not metrics:
        return Verification(entry)
    stated = entry.metrics
    if stated is None:
        raise UserError(f"{entry.pinned}: the registry has no figures of it to compare with")
    if stated.protocol not in PROTOCOLS or stated.ties != TIES:
        raise UserError(
            f"{entry.pinned}: its figures are of the protocol '{stated.protocol}' with "
            f"'{stated.ties}' ties, which is not measured here"
        )
    from dglke_distill.data.identity import compare_data
    from dglke_distill.runs.train_run import rank_loaded

    # The registry's word is the one that counts; the checkpoint's is compared before the ranking.
    figures, dataset = rank_loaded(
        loaded,
        stated.split,
        name=entry.pinned,
        settings=settings,
        data_root=data_root,
        allow_other_data=allow_other_data,
    )
    identity = replace(loaded.identity, fingerprint=entry.dataset_fingerprint)
    told = compare_data(
        identity,
        dataset,
        who=entry.pinned,
        allow_other_data=allow_other_data,
        fix="name its own dataset by --dataset or --data-root",
    )
    warnings = tuple(dict.fromkeys([*told, *figures.warnings]))
    return Verification(entry, {name: getattr(figures, name) for name in _FIGURES}, warnings)
