"""Listing and reading at any address."""

from __future__ import annotations

from collections.abc import Iterator

from foveal.errors import UserError
from foveal.storage import drivers, obstores
from foveal.storage.address import OBSTORE_SCHEMES, Address
from foveal.storage.objects import StoredObject

LARGEST_READ = 1 << 30  # bytes of one object that are taken into memory


def list_objects(address: Address) -> Iterator[StoredObject]:
    """Every object below ``address``; none for an http address, for servers have no list.

    Raises:
        UserError: when the store can't be reached, refuses, or has no such bucket.
    """
    if address.http:
        return
    try:
        if address.scheme in OBSTORE_SCHEMES:
            yield from obstores.list_objects(address)
        else:
            yield from drivers.list_objects(address)
    except FileNotFoundError:  # a file system's way to say that nothing is below
        return


def head(address: Address) -> StoredObject:
    """Size and version of one object. Raises UserError as ``list_objects`` does, FileNotFoundError."""
    return obstores.head(address) if address.scheme in OBSTORE_SCHEMES else drivers.head(address)


def read_range(address: Address, start: int, stop: int) -> tuple[StoredObject, bytes] | None:
    """Bytes ``start:stop`` (fewer at the end) of one object, and what they are part of; None without ranges.

    Raises UserError as ``list_objects`` does, FileNotFoundError.
    """
    if address.scheme in OBSTORE_SCHEMES:
        return obstores.read(address, start, stop)
    return drivers.read(address, start, stop)


def read_all(address: Address) -> tuple[StoredObject, bytes]:
    """One whole object. Raises UserError as ``list_objects`` does, FileNotFoundError."""
    found = obstores.read(address, 0, None) if address.scheme in OBSTORE_SCHEMES else drivers.read(address, 0, None)
    assert found is not None  # without a range there is nothing that a server might lack
    return found


def stream(address: Address) -> Iterator[bytes]:
    """One object from its start, in pieces. Raises UserError as ``list_objects`` does, FileNotFoundError."""
    if address.scheme in OBSTORE_SCHEMES:
        return obstores.stream(address)
    return iter([read_all(address)[1]])


def no_object(address: Address) -> UserError:
    """What to say of an object that is not there."""
    return UserError("there is no such object in the store", str(address), "Check the address.")
