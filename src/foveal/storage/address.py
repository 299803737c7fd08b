"""Addresses of objects: ``s3://bucket/photos/1.jpg``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foveal.errors import UserError

OBSTORE_SCHEMES = ("s3", "gs", "az", "http", "https")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)([^/]*)/?(.*)", re.DOTALL)  # two letters: C:/ is a path


@dataclass(frozen=True)
class Address:
    """``scheme://bucket/key``.

    Attributes:
        scheme: in lower case.
        bucket: bucket, container, or host and port; empty for drivers that have none (``hdfs:///photos``).
        key: without a slash at its start or end; of http addresses as written, with their query.
    """

    scheme: str
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.key}" if self.key else "")

    @property
    def http(self) -> bool:
        return self.scheme in ("http", "https")

    @property
    def name(self) -> str:
        """The last part of the key, without an http address's query."""
        return (self.key.partition("?")[0] if self.http else self.key).rpartition("/")[2]

    def at(self, key: str) -> Address:
        """Another object of the same store."""
        return Address(self.scheme, self.bucket, key)


def is_address(path: str | Path) -> bool:
    """Whether ``parse_address`` takes it; a file of this name goes before."""
    if isinstance(path, Path):  # Path("s3://bucket/key") is s3:/bucket/key
        return bool(_ADDRESS.fullmatch(path.as_posix())) and not path.exists()
    return "://" in path and bool(_ADDRESS.fullmatch(path))


def as_written(path: str | Path) -> str:
    """A path or address as a person writes it: ``Path`` makes one slash of an address's two."""
    return str(parse_address(path)) if is_address(path) else str(path)


def parse_address(path: str | Path) -> Address:
    """Take an address apart, also one that has been made a ``Path``.

    Raises:
        UserError: when it is none, or names no bucket or host.
    """
    text = path.as_posix() if isinstance(path, Path) else path
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UserError("this is no address", text, "An address is scheme://bucket/key, such as s3://photos/train/.")
    scheme = found[1].lower()
    if scheme in OBSTORE_SCHEMES and not found[3]:
        kind = "host" if scheme.startswith("http") else "bucket"
        raise UserError(f"this address names no {kind}", text, f"Write {scheme}://{kind}/..., with two slashes.")
    return Address(scheme, found[3], found[4] if scheme.startswith("http") else found[4].strip("/"))
