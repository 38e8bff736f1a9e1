"""The files of a training run, and to which run they belong."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Optional

from dglke_distill.artifacts.results_files import RESULTS_FILE, read_results_tree
from dglke_distill.base.claims import Claim, Kind, among
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import SavedState

RESUME_FILE = "resume.safetensors"
BEST_FILE = "best.safetensors"
CONFIG_FILE = "config.toml"
HISTORY_FILE = "history.csv"
CHECKPOINT_DIRECTORY = "checkpoint"
LATEST_DIRECTORY = "latest"
"""The model as a training by many last saved it, in the form of any checkpoint."""


def run_kind(same: Callable[[], bool]) -> Kind:
    """Return what a training claims its directory for.

    Args:
        same: whether the settings that are there are this run's: a start that came to nothing has
            left them.
    """

    def foreign(directory: Path) -> Optional[str]:
        with suppress(UserError):  # a file of that name that is none of ours
            if (directory / CONFIG_FILE).is_file() and same():
                return None
        return among(CONFIG_FILE, BEST_FILE, HISTORY_FILE)(directory)

    return Kind("run", CONFIG_FILE, (RESUME_FILE, CHECKPOINT_DIRECTORY), foreign)


@contextmanager
def begun_or_gone(directory: Path) -> Iterator[None]:
    """Within it a run begins; if nothing was saved at the end of it, nothing is left."""
    try:
        yield
    finally:
        if not any((directory / name).exists() for name in (RESUME_FILE, CHECKPOINT_DIRECTORY)):
            for name in (CONFIG_FILE, BEST_FILE):
                with suppress(OSError):
                    (directory / name).unlink()


class RunFiles(NamedTuple):
    """Sees to it that nothing of another run is taken for this one's, or replaced.

    A claim does so where directories can be locked; the identity of the run, which stands in all
    that it saves, does so everywhere.

    Attributes:
        claim: of the directory.
        run: the identity.
    """

    claim: Claim
    run: str

    def check(self, path: Path) -> None:
        """Check a file of tensors before it is read or replaced.

        Raises:
            UserError: it is another run's, or the directory is not this process's any more.
        """
        self.claim.check()
        if not path.is_file():
            return
        try:
            run = SavedState(path).metadata.get("run", self.run)
        except UserError:  # damaged: nobody's
            return
        self._compare(run, path)

    def check_checkpoint(self) -> None:
        """Check the checkpoint that is there; see ``check``."""
        self.claim.check()
        path = self.claim.directory / CHECKPOINT_DIRECTORY / RESULTS_FILE
        if path.is_file():
            about = read_results_tree(path).get("provenance")
            self._compare(about.get("run", self.run) if isinstance(about, dict) else self.run, path)

    def _compare(self, run: str, path: Path) -> None:
        if run != self.run:
            raise UserError(
                f"{path}: is of another run that writes to the same directory; nothing was "
                "replaced. Train anew in another --out"
            )


def history_csv(history: Sequence[dict[str, float]]) -> str:
    """Return the records of epochs as a table; a column for each key that one of them has."""
    columns = list(dict.fromkeys(key for record in history for key in record))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return out.getvalue()
