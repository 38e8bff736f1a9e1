"""Archives out of a download, unpacked within limits and only below the folder they go to."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import directory_aside
from dglke_distill.base.regular_files import open_regular

_MOST_MEMBERS = 10_000
_BLOCK_BYTES = 1 << 20


def unpack_zip(archive: Path, inside: str, target: Path, most_bytes: int) -> None:
    """Unpack one folder of a zip archive; ``target`` appears whole or not at all.

    Args:
        archive: the archive.
        inside: the folder that all of its files lie in.
        target: what that folder becomes; replaced if it exists.
        most_bytes: what all files may take together.

    Raises:
        UserError: it is no zip archive, is damaged, has links, paths that lead elsewhere or
            other folders, or takes more than it may.
    """
    try:
        with (
            open_regular(archive) as stream,
            zipfile.ZipFile(stream) as packed,
            directory_aside(target) as aside,
        ):
            members = packed.infolist()
            if len(members) > _MOST_MEMBERS:
                raise _refused(archive, f"it has {len(members)} files")
            left = most_bytes
            for member in members:
                place = aside.joinpath(*_parts(archive, member, inside))
                try:
                    (place if member.is_dir() else place.parent).mkdir(parents=True, exist_ok=True)
                    if not member.is_dir():
                        left = _unpack(packed, member, place, left, archive)
                except (FileExistsError, NotADirectoryError):
                    raise _refused(archive, f"{member.filename[:100]!r} is in it twice") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # another compression
        RuntimeError,  # a password
        ValueError,
    ) as error:
        reason = str(error).partition("\n")[0][:200]
        raise UserError(f"{archive}: cannot be unpacked ({reason}); nothing was kept") from None


def _parts(archive: Path, member: zipfile.ZipInfo, inside: str) -> list[str]:
    """Return the path of a member below ``inside``."""
    parts = member.filename.rstrip("/").split("/")
    wrong = any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts)
    if wrong or parts[0] != inside:
        raise _refused(archive, f"{member.filename[:100]!r} does not lie in {inside}/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, f"{member.filename[:100]!r} is a link or a device")
    return parts[1:]


def _unpack(
    packed: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path, left: int, archive: Path
) -> int:
    """Write a member, as long as it is, and return how many bytes the others may take."""
    with packed.open(member) as source, open(place, "xb") as out:
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise _refused(archive, "unpacked it is larger than it may be")
            out.write(block)
    return left


def _refused(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive}: is not unpacked: {reason}; nothing was kept")
