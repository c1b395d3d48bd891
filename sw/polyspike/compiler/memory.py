"""Spike memory allocation: buffers that are never alive together share words."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A map that needs `size` words from task `first` to task `last`, both inclusive."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        """Whether both are alive at the same task."""
        return self.first <= other.last and other.first <= self.last


def allocate(buffers: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Place buffers, largest first, each at the lowest address where it meets no other.

    Returns
    -------
    Address of each buffer by name, and the number of words used.
    """
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first, b.name)):
        address = 0
        for start, other in sorted(((a, b) for a, b in placed if b.meets(buffer)), key=lambda each: each[0]):
            if address + buffer.size <= start:
                break
            address = max(address, start + other.size)
        placed.append((address, buffer))
    return {b.name: a for a, b in placed}, max((a + b.size for a, b in placed), default=0)
