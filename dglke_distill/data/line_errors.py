"""The error for a line that is no triple: what is wrong with it, and the way on."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.file_kinds import python_command
from dglke_distill.data.headings import named_columns
from dglke_distill.data.packings import inner_name, without_packing
from dglke_distill.data.text import decode

_SEPARATORS = {"\t": "tabs", ",": "commas"}
_OTHERS = {"\t": "tabs", ";": "semicolons", "||": "double bars", "|": "bars", ",": "commas"}
_TIME = re.compile(r"\d{4}(-\d\d?){0,2}([T ]\d\d?:\d\d.*)?|\d{1,2}[/.]\d{1,2}[/.]\d{4}|\d{8}")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def is_time(text: str) -> bool:
    """Return whether a cell is a date, with or without a time of day."""
    return _TIME.fullmatch(text.strip()) is not None


def separator_of(path: Path) -> str:
    """Return what separates the columns of a file of names: commas in .csv, tabs elsewhere."""
    return "," if inner_name(path).lower().endswith(".csv") else "\t"


def blame_names(
    path: Path, first_line: int, block: bytes, separator: str, otherwise: str
) -> NoReturn:
    """Raise for the first malformed line of a block of names.

    Args:
        path: the file.
        first_line: number of the block's first line.
        block: whole lines.
        separator: a comma or a tab.
        otherwise: what to say if no line by itself is malformed.
    """
    for number, raw in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        line = decode(path, number, raw)
        where = f"{path}, line {number}"
        if not line.strip():
            raise UserError(f"{where}: is blank; remove it")
        cells = _cells(where, line, separator)
        if len(cells) != 3:
            raise UserError(
                f"{where}: has {plural(len(cells), 'column')} where three separated by "
                f"{_SEPARATORS[separator]} are needed{_hint(path, number, line, cells, separator)}"
            )
        empty = [i for i, cell in enumerate(cells, 1) if not cell.strip()]
        if empty:
            raise UserError(
                f"{where}: the name in column {empty[0]} is empty; fill it in or remove the line"
            )
    raise UserError(f"{path}, in the lines from {first_line}: {otherwise}; correct the file")


def _cells(where: str, line: str, separator: str) -> list[str]:
    if separator != ",":
        return line.split(separator)
    try:
        # What comes after the end of a quoted cell is an error only where reading is strict.
        next(csv.reader([line + "\n"], skipinitialspace=True, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise UserError(
                f"{where}: a quoted name spans several lines; names must stand on one line, so "
                f"replace the line break in it, or close the quote"
            ) from None
    try:
        return next(csv.reader([line], skipinitialspace=True))
    except csv.Error as error:
        raise UserError(f"{where}: cannot be read ({error}); correct the line") from None


def _hint(path: Path, number: int, line: str, cells: list[str], separator: str) -> str:
    if line.lstrip().startswith(("#", "//", "%", "--")):
        return "; comments are not read: remove the line"
    if len(cells) > 3:
        return too_many(path, cells, separator)
    if line.strip().isdigit():
        return "; a line with a count alone belongs to the OpenKE format (--set data.format=openke)"
    if len(cells) == 1 and number > 1 and len(re.split(r"[\t,;|]", line)) == 3:
        return "; its columns are separated otherwise than in the lines before: correct the line"
    if len(cells) == 1:
        if separator == "\t" and line.count(",") == 2 and ";" not in line:
            return "; give the file a name in .csv if commas separate its columns"
        if separator == "," and line.count("\t") == 2:
            return "; give the file a name in .tsv if tabs separate its columns"
        for sign, name in _OTHERS.items():
            parts = line.split(sign)
            if sign != separator and len(parts) == 3:
                return (
                    f"; {name} separate them here: say --delimiter {shlex.quote(sign)}, or convert "
                    f"them: {_convert(path, sign, line)}"
                )
            if sign != separator and len(parts) > 3:
                count = f"{plural(len(parts), 'column')} separated by {name}"
                return f"; there are {count} instead{too_many(path, parts, sign)}"
        if len(line.split()) == 3:
            return f"; replace the spaces between columns by {_SEPARATORS[separator]}"
    elif len(re.split(r"[\t,;|]", line)) == 3:
        return "; the columns are separated by different signs: correct the line"
    return "; correct the line"


def too_many(path: Path, cells: list[str], separator: str) -> str:
    """Say which three columns of more to keep, and how, as the end of a sentence.

    Args:
        path: the file.
        cells: one line's columns.
        separator: what separates them; a blank for any number of them.
    """
    if all(not cell.strip() for cell in cells[3:]):
        return "; the last ones are empty: remove what follows the third column"
    named = named_columns(cells)
    if named is not None:
        chosen = shlex.quote("head={},relation={},tail={}".format(*named))
        return (
            f"; choose three of them, e.g. {', '.join(named)}, by --columns {chosen}, or cut them: "
            f"{_pandas(path, separator, named, True)}"
        )
    extra = cells[3].strip()
    what = (
        "; keep head, relation and tail; if these are the first three, say --ignore-extra (or "
        f"--columns), or cut them: {_cut(path, separator)}"
    )
    if _TIME.fullmatch(extra):
        return f"; the fourth holds times (such as {extra}), which are not read{what}"
    if _NUMBER.fullmatch(extra):
        return (
            f"; the fourth holds numbers, times or weights ({extra}), which are not read unless "
            f"they are weights and you say --weight-column 4{what}"
        )
    return what


def _place(path: Path, ending: str) -> str:
    """Return where a version of the file that is read may be put: in a folder of its own."""
    stem = without_packing(path.name)
    stem = stem.rpartition(".")[0] or stem
    return str(path.parent / "triples" / f"{stem}{ending}")


def _shell(path: Path, command: str, *more: str) -> str:
    """Return a shell's commands that work on a file, unpacked, and write tabs."""
    folder, source = shlex.quote(str(path.parent / "triples")), shlex.quote(str(path))
    packing = path.name.lower().rpartition(".")[2]
    unpack = {
        "gz": "gzip -dc", "bz2": "bzip2 -dc", "xz": "xz -dc", "zst": "zstd -dc", "zip": "unzip -p",
    }.get(packing)  # fmt: skip
    whole = f"{unpack} {source} | {command}" if unpack else f"{command} < {source}"
    whole = " | ".join((whole, *more))
    return f"mkdir -p {folder} && {whole} > {shlex.quote(_place(path, '.tsv'))}"


def _pandas(path: Path, separator: str, columns: Sequence[object], named: bool = False) -> str:
    """Return a command that takes columns of a file by pandas and writes commas."""
    options = ", dtype=str, keep_default_na=False" + ("" if named else ", header=None")
    if len(separator) > 1:
        options += f", sep={re.escape(separator)!r}, engine='python'"
    elif separator != ",":
        options += f", sep={separator!r}" + (", quoting=3" if separator == "\t" else "")
    code = (
        f"import pandas; pandas.read_csv({str(path)!r}{options})[{list(columns)!r}]"
        f".to_csv({_place(path, '.csv')!r}, index=False, header=False)"
    )
    folder = shlex.quote(str(path.parent / "triples"))
    return f"mkdir -p {folder} && {python_command(code)}"


def _cut(path: Path, separator: str) -> str:
    if separator == "\t":
        return _shell(path, "cut -f1-3")
    if separator == " ":
        return _shell(path, r"tr -s ' ' '\t'", "cut -f1-3")
    return _pandas(path, separator, range(3))


def _convert(path: Path, sign: str, line: str) -> str:
    """Return a command that puts tabs, or commas, in the place of another sign."""
    if len(sign) == 1 and '"' not in line:
        return _shell(path, rf"tr '{sign}' '\t'")
    return _pandas(path, sign, range(3))
