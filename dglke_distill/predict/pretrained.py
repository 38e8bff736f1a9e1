"""Loading and saving a model in one call each, as other libraries name them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TypeVar, Union

from dglke_distill.artifacts.checkpoint import save_model
from dglke_distill.base.arguments import checked
from dglke_distill.calibration.file import belongs_to
from dglke_distill.predict.part import Part

Kind = TypeVar("Kind", bound="Pretrained")


class Pretrained(Part):
    """What makes a model come and go by ``from_pretrained`` and ``save_pretrained``."""

    @classmethod
    def from_pretrained(
        cls: type[Kind],
        path_or_name: Union[str, Path],
        *,
        device: str = "cpu",
        store: Union[str, Path, None] = None,
        offline: bool = False,
    ) -> Kind:
        """Load a model from its folder, or by its name in the zoo; the same as ``kd.load``.

        Args:
            path_or_name: as for ``zoo.load_checkpoint``.
            device: where the model shall live.
            store: the one store that names are looked up in; None: all of them.
            offline: whether to refuse to download.

        Raises:
            UserError: there is no such model, or it is damaged.
        """
        from dglke_distill import load

        found = load(path_or_name, device=device, store=store, offline=offline)
        assert isinstance(found, cls)
        return found

    @checked
    def save_pretrained(self, path: Union[str, Path], *, overwrite: bool = True) -> Path:
        """Write the model as a folder that ``from_pretrained`` and every command read.

        A calibration is written too, unless weights have changed since: a warning then says so.

        Args:
            path: the folder.
            overwrite: whether an earlier checkpoint there is replaced, as a whole.

        Returns:
            The folder.

        Raises:
            UserError: something else is there, or a weight is not finite.
        """
        of = self.loaded
        grown = "extended_from" in of.results  # no dataset has all its facts
        known = self._known_or_saved() if grown else None
        parts = of.entities, of.relations, of.results, of.saved_labels()
        calibration = of.calibration
        if calibration is not None and not belongs_to(calibration, of.model):
            warnings.warn(
                f"{path}: written without the calibration, since weights have changed after it; "
                "call calibrate() anew",
                stacklevel=2,
            )
            calibration = None
        save_model(
            Path(path),
            of.model,
            of.config,
            *parts,
            known=known,
            calibration=calibration,
            overwrite=overwrite,
        )
        return Path(path)
