"""What every store tells of an object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredObject:
    """One object.

    Attributes:
        size: in bytes.
        version: what changes with the content, as ns that a file's time can hold; 0 where the store doesn't tell.
    """

    key: str
    size: int
    version: int

    def is_like(self, other: StoredObject) -> bool:
        """Whether both may be one content: sizes are equal, and versions where both are known."""
        return self.size == other.size and (self.version == other.version or not (self.version and other.version))
