"""S3, Google Cloud Storage, Azure and http through obstore.

Requests that fail for the network or the server are tried again, with pauses of 0.1 s that grow to 15 s; connecting may
take 5 s, one request 30 s (obstore's own values).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from foveal.errors import UserError
from foveal.storage.address import Address
from foveal.storage.credentials import NO_CREDENTIALS, s3_options
from foveal.storage.objects import StoredObject

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import RetryConfig

TRIES: RetryConfig = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}
STREAMED = 1 << 20  # bytes of a piece of a stream
_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_opened: dict[tuple[object, ...], Any] = {}


def list_objects(address: Address) -> Iterator[StoredObject]:
    """Every object below ``address``, a thousand a request. Raises UserError, FileNotFoundError."""
    store = _store(address)
    import obstore
    from obstore.exceptions import BaseError

    try:
        for chunk in obstore.list(store, address.key, chunk_size=1000):
            for meta in chunk:
                yield StoredObject(meta["path"], meta["size"], _version(meta))
    except BaseError as error:
        raise _told(error, address) from error


def head(address: Address) -> StoredObject:
    """Size and version of one object. Raises UserError, FileNotFoundError."""
    store = _store(address)
    import obstore
    from obstore.exceptions import BaseError

    try:
        meta = obstore.head(store, _path(address))
    except BaseError as error:
        raise _told(error, address) from error
    return StoredObject(address.key, meta["size"], _version(meta))


def read(address: Address, start: int, stop: int | None) -> tuple[StoredObject, bytes] | None:
    """Bytes ``start:stop`` of one object, and what they are part of; None where the server gives no ranges.

    Raises UserError, FileNotFoundError.
    """
    store = _store(address)
    import obstore
    from obstore.exceptions import BaseError, NotSupportedError

    options: Any = {} if stop is None else {"range": (start, stop)}
    try:
        answer = obstore.get(store, _path(address), options=options)
        meta = answer.meta
        return StoredObject(address.key, meta["size"], _version(meta)), bytes(answer.bytes())
    except NotSupportedError:
        return None
    except BaseError as error:
        raise _told(error, address) from error


def stream(address: Address) -> Iterator[bytes]:
    """One object from its start, in pieces. Raises UserError, FileNotFoundError."""
    store = _store(address)
    import obstore
    from obstore.exceptions import BaseError

    try:
        for piece in obstore.get(store, _path(address)).stream(min_chunk_size=STREAMED):
            yield bytes(piece)
    except BaseError as error:
        raise _told(error, address) from error


def _path(address: Address) -> str:
    return "" if address.http else address.key  # the store of an http address is the address itself, query included


def _store(address: Address) -> Any:
    """The store of an address, opened once as long as the environment stays as it is."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store
    except ModuleNotFoundError as error:
        raise UserError(
            f"{address.scheme}:// needs obstore, which isn't installed", str(address), 'pip install "foveal[cloud]"'
        ) from error
    known = tuple(sorted(item for item in os.environ.items() if item[0].startswith(_PREFIXES)))
    key = (address.scheme, str(address) if address.http else address.bucket, str(Path.home()), known)
    if key in _opened:
        return _opened[key]
    try:
        store: Any
        if address.http:
            return HTTPStore(str(address), client_options={"allow_http": address.scheme == "http"}, retry_config=TRIES)
        if address.scheme == "s3":
            store = S3Store(address.bucket, retry_config=TRIES, **s3_options(str(address)))
        elif address.scheme == "gs":
            store = GCSStore(address.bucket, retry_config=TRIES)
        else:
            store = AzureStore(address.bucket, retry_config=TRIES)
    except BaseError as error:
        raise _told(error, address) from error
    return _opened.setdefault(key, store)


def _version(meta: ObjectMeta) -> int:
    """Seconds of the last change, and a hash of the entity tag as a fraction, in ns; 0 where the store tells neither.

    So the time of change of a file can hold it.
    """
    changed: datetime = meta["last_modified"]
    seconds = max(0, int(changed.timestamp()))
    tag = (meta["e_tag"] or "").removeprefix("W/").strip('"')
    return seconds * 10**9 + (crc32(tag.encode()) % 10**7 * 100 if tag else 0)


def _told(error: Exception, address: Address) -> UserError:
    """The store's answer in a person's words."""
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    text = str(error)
    first = text.split("\n", 1)[0].partition(": <")[0]
    place = str(address)
    if isinstance(error, InvalidPathError):
        return UserError(
            f"a key in it can't be read: {first}", place, "Rename the object: no part of a key may be empty, . or .."
        )
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return UserError(f"there is no bucket {address.bucket}", place, "Check its name and whose account is asked.")
    if "PermanentRedirect" in text or "AuthorizationHeaderMalformed" in text:
        return UserError("the bucket lies in another region", place, "Set AWS_REGION to the region of the bucket.")
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        remedy = NO_CREDENTIALS if address.scheme == "s3" else "Set the variables of the cloud's own command line."
        return UserError(f"no credentials were found for {address.scheme}://", place, remedy)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return UserError(
            "the store refuses to let us read this", place, "Check whose credentials are used and what they may do."
        )
    return UserError(
        f"the store doesn't answer as it should: {first}",
        place,
        "Check the network and the endpoint, and start again: what was read is kept.",
    )
