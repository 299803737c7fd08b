"""Every other address through fsspec, where it and the driver for the scheme are installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from zlib import crc32

from foveal.errors import UserError
from foveal.storage.address import OBSTORE_SCHEMES, Address
from foveal.storage.objects import StoredObject

VERSIONS = (
    "mtime",
    "LastModified",
    "last_modified",
    "modified",
    "updated",
    "created",
    "ETag",
    "etag",
    "md5",
    "checksum",
)
"""What drivers call the time of a file's last change, or a tag of its content."""


def list_objects(address: Address) -> Iterator[StoredObject]:
    """Every file below ``address``, folder by folder. Raises UserError, FileNotFoundError."""
    filesystem, root = _open(address)
    with _told(address):
        for _, _, files in filesystem.walk(root, detail=True, on_error="raise"):
            for info in files.values():
                yield _object(info, address, root)


def head(address: Address) -> StoredObject:
    """Size and version of one file. Raises UserError, FileNotFoundError."""
    filesystem, path = _open(address)
    with _told(address):
        info = filesystem.info(path)
    if info.get("type") == "directory":
        raise FileNotFoundError(str(address))
    return _object(info, address, path)


def read(address: Address, start: int, stop: int | None) -> tuple[StoredObject, bytes]:
    """Bytes ``start:stop`` of one file, and what they are part of. Raises UserError, FileNotFoundError."""
    filesystem, path = _open(address)
    with _told(address):
        content: bytes = filesystem.cat_file(path, start=start, end=stop)
        return _object(filesystem.info(path), address, path), content


def _open(address: Address) -> tuple[Any, str]:
    """The driver, and the path as it calls it."""
    scheme = address.scheme
    try:
        import fsspec
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise UserError(
            f"{scheme}:// needs fsspec and its driver for {scheme}, which aren't installed",
            str(address),
            "pip install fsspec, and the driver that its documentation names.",
        ) from error
    if scheme not in fsspec.available_protocols():
        known = ", ".join(f"{each}://" for each in OBSTORE_SCHEMES)
        raise UserError(
            f"{scheme}:// is a kind of address that neither Foveal nor fsspec knows",
            str(address),
            f"Known: {known}, and what fsspec and its drivers read.",
        )
    try:
        filesystem, path = url_to_fs(str(address))
    except ImportError as error:
        raise UserError(
            f"{scheme}:// needs a driver of fsspec: {error}", str(address), "Install it with pip."
        ) from error
    except (OSError, ValueError) as error:
        raise _unread(error, address) from error
    return filesystem, path


def _object(info: Mapping[str, Any], address: Address, root: str) -> StoredObject:
    name = str(info["name"])
    inside = name[name.index(root) + len(root) :].strip("/") if root in name else name.strip("/")
    key = "/".join(part for part in (address.key, inside) if part)
    return StoredObject(key, int(info["size"] or 0), _version(info))


def _version(info: Mapping[str, Any]) -> int:
    """From the time of change, in whole seconds: in fractions a driver's list and its answer for one file differ."""
    for name in VERSIONS:
        value = info.get(name)
        if isinstance(value, datetime):
            return int(value.timestamp()) * 10**9
        if isinstance(value, int | float):
            return int(value) * 10**9
        if value:
            return 10**9 + crc32(str(value).encode()) % 10**7 * 100
    return 0


@contextmanager
def _told(address: Address) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unread(error, address) from error


def _unread(error: Exception, address: Address) -> UserError:
    text = str(error).split("\n", 1)[0]
    return UserError(
        f"can't be read: {type(error).__name__}: {text}",
        str(address),
        "Check the address, the network and your log-in.",
    )
