"""Rows of answers as CSV, JSON lines or Parquet, on standard output or in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import file_aside
from dglke_distill.base.places import begins, check_file_place, check_free
from dglke_distill.base.shown import json_text, plural
from dglke_distill.cli.say import say, say_json, say_text

if TYPE_CHECKING:
    import pandas

ROW_FORMATS = {"csv": (".csv",), "jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet", ".pq")}
"""Formats of rows, each with the endings of its files."""


def _has_rows(path: Path) -> bool:
    try:
        from pyarrow import ArrowException, parquet

        return _ROWS <= set(parquet.read_schema(path).names)
    except (ImportError, ArrowException):
        return False


_ROWS = {"rank", "head", "relation", "tail", "score"}
_OURS: dict[str, Callable[[Path], bool]] = {
    "csv": begins(rb"(question,)?rank,head,relation,tail,score[,\n]"),
    "jsonl": begins(rb'\{("question": \d+, )?"rank": [\d.]+, "head": "'),
    "parquet": _has_rows,
}
"""Which files of rows are replaced, by their format."""


def row_format(out: Optional[Path], format: Optional[str], overwrite: bool) -> str:
    """Return the format that rows are written in; called before anything is computed.

    Args:
        out: the file; None: standard output.
        format: what the user asked for; None: by the ending of the file, on standard output CSV.
        overwrite: whether a file that is there is replaced.

    Raises:
        UserError: an unknown format or ending, one that cannot be had here, or a place that cannot
            be written.
    """
    known = ", ".join(ROW_FORMATS)
    if format is not None:
        found = format.lower()
        if found not in ROW_FORMATS:
            raise UserError(f"--format {format!r:.100}: no such format; choose from {known}")
    elif out is None:
        found = "csv"
    else:
        ending = out.suffix.lower()
        fitting = [name for name, endings in ROW_FORMATS.items() if ending in endings]
        if not fitting:
            raise UserError(
                f"--out {out}: what to write does not follow from the ending {ending!r}; add "
                f"--format, one of {known}"
            )
        (found,) = fitting
    if out is not None:
        check_file_place(out)
        check_free(out, overwrite, _OURS[found])
    if found == "parquet":
        if out is None:
            raise UserError("--format parquet: is no text; name a file by --out")
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                "--format parquet: needs pyarrow; pip install 'dglke-distill[formats]', or "
                "choose csv or jsonl"
            ) from None
    return found


def write_rows(frame: pandas.DataFrame, out: Optional[Path], format: str, overwrite: bool) -> None:
    """Write rows: a file all at once or not at all, its names exact.

    Control characters in names are shown escaped on standard output.

    Args:
        frame: the rows.
        out: the file; None: standard output.
        format: as ``row_format`` returned it.
        overwrite: whether a file that is there by then is replaced.

    Raises:
        NotWritten: the file cannot be written.
    """
    from dglke_distill.predict.answers import plain_rank

    if format != "parquet" and frame["rank"].dtype.kind == "f":
        ranks = [plain_rank(rank) for rank in frame["rank"].tolist()]
        frame = frame.assign(rank=type(frame["rank"])(ranks, index=frame.index, dtype=object))
    if out is None:
        if format == "csv":
            say_text(frame.to_csv(index=False, lineterminator="\n").removesuffix("\n"))
        else:
            for row in _records(frame):
                say_json(row, indent=None)
        return
    from dglke_distill.base.table_frames import arrow_table

    with file_aside(out, overwrite=overwrite) as aside:
        if format == "parquet":
            from pyarrow import parquet

            parquet.write_table(arrow_table(frame), aside)
        elif format == "csv":
            frame.to_csv(aside, index=False, lineterminator="\n", encoding="utf-8")
        else:
            with aside.open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(json_text(row, indent=None) + "\n" for row in _records(frame))
    say(f"{out}: {plural(len(frame), 'row')}")


def _records(frame: pandas.DataFrame) -> Any:
    columns = [frame[name].tolist() for name in frame.columns]
    return (dict(zip(frame.columns, row)) for row in zip(*columns))
