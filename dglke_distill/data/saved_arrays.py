"""Arrays out of files that nobody vouches for: no code in them is run, no size in them believed.

``torch.save`` writes pickles, and a pickle may name any function to be called. Those read here may
name only what plain arrays consist of, each name stands for a small class of ours, and only the
instructions that such files need are known. What an array takes must lie in the file.
"""

from __future__ import annotations

import math
import mmap
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, Optional, Union

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import open_regular, reason
from dglke_distill.data.array_files import NUMBERS

Array = NDArray[Any]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGES = {
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "i2",
    "IntStorage": "i4",
    "LongStorage": "i8",
    "HalfStorage": "f2",
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "BoolStorage": "b1",
}
_SMALL_BYTES = 1 << 16
"""Reads of up to this size are copied; longer ones stay views of the mapped file."""


def read_saved(path: Path) -> dict[str, Any]:
    """Read a mapping of names to arrays, lists, numbers or text that ``torch.save`` wrote.

    Both layouts of ``torch.save`` are read, numpy's arrays and, in the newer one, torch's tensors.
    Large arrays stay mapped and cannot be written to.

    Raises:
        UserError: it holds something else, or is damaged.
        FileNotFoundError: there is no such file.
    """
    path.stat()
    try:
        with open_regular(path) as stream:
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            found = _unpickle(stream, content)
        if type(found) is not dict:
            raise ValueError("it is no mapping of names to arrays")
        return {name: _plain(value) for name, value in found.items()}
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a damaged or hostile file makes it raise
        problem = reason(error) or type(error).__name__
        raise UserError(
            f"{path}: holds something else than arrays, or is damaged ({problem}); it is not read, "
            "because a pickle can run any code: get the official file again"
        ) from None


def _unpickle(stream: IO[bytes], content: memoryview) -> Any:
    """Return what is saved, its arrays not built yet."""
    if not zipfile.is_zipfile(stream):
        window = _Window(content)
        if [_Reader(window).load() for _ in range(2)] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL]:
            raise ValueError("it was not written by torch.save")
        _Reader(window).load()  # sizes of C types
        return _Reader(window).load()
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}

        def member(name: str) -> memoryview:
            return _stored(content, members[name])

        if "byteorder" in members and bytes(member("byteorder")[:9]) != b"little":
            raise ValueError("its byte order is not little")
        return _Reader(_Window(member("data.pkl")), lambda key: member(f"data/{key}")).load()


def _stored(content: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a member that is not compressed, as torch writes them all."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError("its parts are compressed, which torch.save never does")
    header = bytes(content[info.header_offset : info.header_offset + 30])
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ValueError("not a whole archive")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    begin = info.header_offset + 30 + lengths
    if begin + info.file_size > len(content):
        raise ValueError("not a whole archive")
    return content[begin : begin + info.file_size]


class _Window:
    """Bytes as the file that an unpickler reads; asking for more than there is fails at once."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def read(self, size: int) -> Union[bytes, memoryview]:
        if size < 0 or self._at + size > len(self._content):
            raise EOFError("it ends too early")
        block = self._content[self._at : self._at + size]
        self._at += size
        return bytes(block) if size <= _SMALL_BYTES else block

    def readline(self) -> bytes:
        line = bytes(self._content[self._at : self._at + 1000]).partition(b"\n")
        if not line[1]:
            raise EOFError("it ends too early")
        self._at += len(line[0]) + 1
        return line[0] + b"\n"


class _Made:
    """What a pickle may call, one for each call of ``read_saved``; it cannot be changed."""

    __slots__ = ("make",)
    make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "make", make)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


class _Dtype:
    """An element type in the making: a plain number, its byte order told afterwards."""

    def __init__(self, text: Any, *_: Any) -> None:
        if type(text) is not str or text.lstrip("<|>=") not in NUMBERS:
            raise ValueError(f"it has elements of type {str(text)[:50]!r}")
        self.dtype = np.dtype(text)

    def set(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(state[2:5]):
            raise ValueError("it has elements of an unknown kind")
        self.dtype = self.dtype.newbyteorder(order)


class _ArrayState:
    """An array in the making: filled after it is made."""

    def __init__(self, *_: Any) -> None:
        self.array: Optional[Array] = None

    def set(self, state: Any) -> None:
        _, shape, element, fortran, data = state
        self.array = _array(data, element, shape, "F" if fortran else "C")


def _array(data: Any, element: Any, shape: Any, order: str = "C") -> Array:
    if not isinstance(element, _Dtype) or not isinstance(data, (bytes, memoryview)):
        raise ValueError("it has elements of an unknown kind")
    lengths = _lengths(shape)
    if math.prod(lengths) * element.dtype.itemsize != len(data):
        raise ValueError("the size of an array is not that of its bytes")
    flat: Array = np.frombuffer(data, element.dtype)
    return flat.reshape(lengths, order="F" if order == "F" else "C")


def _lengths(shape: Any) -> tuple[int, ...]:
    lengths = (shape,) if type(shape) is int else shape
    if type(lengths) is not tuple or not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError("an array has no shape")
    return lengths


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Array:
    """Return a tensor's elements; only tensors that lie in memory one after the other."""
    lengths = _lengths(size)
    count = math.prod(lengths)
    steps = tuple(math.prod(lengths[i + 1 :]) for i in range(len(lengths)))
    if tuple(stride) != steps and count > 1:
        raise ValueError("a tensor's elements are not in order")
    if type(offset) is not int or offset < 0 or offset + count > len(storage):
        raise ValueError("a tensor is larger than its bytes")
    part: Array = storage[offset : offset + count].reshape(lengths)
    return part


def _encoded(text: Any, encoding: Any) -> bytes:
    """Return bytes as old protocols keep them, in text."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("it has text of an unknown encoding")
    return text.encode("latin1")


def _scalar(element: Any, data: Any) -> Any:
    return _array(data, element, ()).item()


def _names() -> dict[str, Any]:
    """Return what a pickle may name, and what stands for it here."""
    known: dict[str, Any] = {
        "numpy.ndarray": "ndarray",
        "numpy.dtype": _Made(_Dtype),
        "_codecs.encode": _Made(_encoded),
        "collections.OrderedDict": _Made(lambda: {}),
        "torch._utils._rebuild_tensor_v2": _Made(_rebuilt),
    }
    for module in ("numpy.core", "numpy._core"):
        known[f"{module}.multiarray._reconstruct"] = _Made(_ArrayState)
        known[f"{module}.multiarray.scalar"] = _Made(_scalar)
        known[f"{module}.numeric._frombuffer"] = _Made(_array)
    known.update({f"torch.{name}": ("storage", kind) for name, kind in _STORAGES.items()})
    return known


# Python's own unpickler in Python has its instructions in a table, of which a part is enough; the
# one in C allocates whatever a file claims to need.
_Instruction = Callable[[Any], None]
_UNPICKLER: Any = pickle._Unpickler  # type: ignore[attr-defined]
_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND "
    "APPENDS NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BINPUT LONG_BINPUT BINGET "
    "LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL BINPERSID"
).split()


class _Reader(_UNPICKLER):  # type: ignore[misc]
    """An unpickler that builds plain values and arrays."""

    def __init__(
        self, window: _Window, storage: Optional[Callable[[str], memoryview]] = None
    ) -> None:
        super().__init__(window)
        self._known = _names()
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[f"{module}.{name}"]
        except KeyError:
            raise ValueError(f"it names {module}.{name}"[:100]) from None

    def persistent_load(self, key: Any) -> Array:
        if self._storage is None or type(key) is not tuple or len(key) < 3:
            raise ValueError("it has tensors in the old layout; save it anew")
        if key[0] != "storage" or type(key[1]) is not tuple or type(key[2]) is not str:
            raise ValueError("it has tensors of an unknown kind")
        return np.frombuffer(self._storage(key[2]), np.dtype(key[1][1]).newbyteorder("<"))

    def _load_reduce(self) -> None:
        arguments = self.stack.pop()
        called = self.stack[-1]
        if type(called) is not _Made or type(arguments) is not tuple:
            raise ValueError("it calls what is no array")
        self.stack[-1] = called.make(*arguments)

    def _load_build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if type(built) not in (_Dtype, _ArrayState) or type(state) is not tuple:
            raise ValueError("it fills what is no array")
        built.set(state)

    def _load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._put({key: value} if type(key) is str else None)

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        if not all(type(key) is str for key in items[::2]):
            raise ValueError("it has a name that is no text")
        self._put(dict(zip(items[::2], items[1::2])))

    def _put(self, items: Optional[dict[str, Any]]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or items is None:
            raise ValueError("it has a name that is no text")
        target.update(items)

    def _load_bytearray(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _unknown(self) -> None:
        raise ValueError("it has instructions that no array needs")

    dispatch: ClassVar[dict[int, _Instruction]] = {
        **dict.fromkeys(range(256), _unknown),
        **{
            code: _UNPICKLER.dispatch[code]
            for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS)
        },
        pickle.REDUCE[0]: _load_reduce,
        pickle.BUILD[0]: _load_build,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }


def _plain(value: Any) -> Any:
    """Return a finished value of the mapping."""
    if isinstance(value, _ArrayState):
        value = value.array
        if value is None:
            raise ValueError("an array is empty")
    if not isinstance(value, (np.ndarray, list, int, float, str, type(None))):
        raise ValueError(f"it has a value of type {type(value).__name__}")
    return value
