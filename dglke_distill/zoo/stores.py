"""Stores by path or address."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import check_path, in_home
from dglke_distill.zoo.remote_stores import RemoteStore, WebStore
from dglke_distill.zoo.store import LocalStore, Store

__all__ = ["SCHEMES", "open_store"]

SCHEMES: dict[str, type[Union[RemoteStore, WebStore]]] = {
    "http": WebStore,
    "https": WebStore,
    "memory": RemoteStore,
    "s3": RemoteStore,
    "gs": RemoteStore,
    "hf": RemoteStore,
}
"""What addresses may begin with, besides ``file``."""


def open_store(place: Union[str, Path]) -> Store:
    """Return the store at a path or address, which is not looked at yet.

    Raises:
        UserError: the address begins with something else than ``file`` or one of ``SCHEMES``,
            or no file can be called so.
    """
    text = str(place)
    check_path(text)
    scheme, colon, rest = text.partition("://")
    if isinstance(place, Path) or not colon:
        return LocalStore(in_home(place))
    if scheme == "file":
        return LocalStore(Path(rest), place=text)
    if scheme not in SCHEMES:
        raise UserError(
            f"{text}: a store cannot be at {scheme}://; give a folder, or an address that begins "
            f"with file, {', '.join(SCHEMES)}"
        )
    return SCHEMES[scheme](text)
