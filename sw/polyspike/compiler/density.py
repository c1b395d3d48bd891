"""How many counts are not zero: what the cost model goes by."""

import dataclasses
from collections.abc import Mapping

DEFAULT_DENSITY = 0.5

#: How alike neighbours of a row are where that was not measured. In maps of the benchmarks' trained networks their
#: correlation is between 0.2 and 0.8, and 0.5 on average; with random weights it is almost 1.
ALIKE = 0.5


@dataclasses.dataclass(frozen=True)
class Share:
    """The share of a map's counts that are not zero, and how alike neighbours are."""

    one: float
    #: Correlation of two neighbours of a row, of which each is zero or not.
    alike: float = ALIKE

    def either(self, distance: int) -> float:
        """Return the share of two counts of a row of which either is not zero; the further apart, the less alike."""
        return self.one + (1 - self.alike**distance) * self.one * (1 - self.one)


#: One for all maps, or measured by map.
Density = float | Mapping[str, float | Share]


def share_of(density: Density, name: str) -> Share:
    """Return the share of a map's counts that are not zero: measured, or assumed where it was not."""
    share = density.get(name, DEFAULT_DENSITY) if isinstance(density, Mapping) else density
    return share if isinstance(share, Share) else Share(share)
