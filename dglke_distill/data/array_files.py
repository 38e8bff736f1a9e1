"""Arrays and tables out of files that nobody vouches for: no object in them, no size believed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import check_regular, open_regular, reason

Array = NDArray[Any]

NUMBERS = frozenset(
    [*(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "b1", "f2", "f4", "f8"]
)
"""Element types that are read, without their byte order."""

_BLOCK_BYTES = 1 << 23
_LINE_BYTES = 1 << 16


def map_npy(path: Path, *, copy: bool = False) -> Array:
    """Open an array of numbers in numpy's own format, mapped into memory.

    Args:
        path: the ``.npy`` file.
        copy: whether to read it instead.

    Raises:
        UserError: it holds objects or something else, or is damaged.
        FileNotFoundError: there is no such file.
    """
    path.stat()
    try:
        check_regular(path)
        # A mapping, unlike a read, compares the size that is claimed with the file's.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.str[1:] not in NUMBERS:
            raise ValueError("it holds no numbers")
    except UserError:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes it raise
        problem = reason(error) or type(error).__name__
        raise UserError(f"{path}: not an array of numpy ({problem}); copy it anew") from None
    return np.array(array) if copy else array


def text_blocks(path: Path, most_bytes: int) -> Iterator[bytes]:
    """Yield the content of a gzipped text file in blocks of whole lines.

    Args:
        path: the file.
        most_bytes: what it may hold at most, uncompressed.

    Raises:
        UserError: it holds more, a line is absurdly long, or it is not gzip.
        FileNotFoundError: there is no such file.
    """
    path.stat()
    rest, total = b"", 0
    with open_regular(path) as packed, gzip.GzipFile(fileobj=packed) as stream:
        while True:
            try:
                block = stream.read(_BLOCK_BYTES)
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{path}: not whole gzip data ({error}); get it again") from None
            total += len(block)
            if total > most_bytes:
                raise UserError(f"{path}: holds more than {most_bytes} bytes; get it again")
            end = block.rfind(b"\n") + 1
            if block and not end and len(rest) > _LINE_BYTES:
                raise UserError(f"{path}: has a line that never ends; get it again")
            if not block:
                if rest:
                    yield rest
                return
            if end:
                yield rest + block[:end]
                rest = block[end:]
            else:
                rest += block
