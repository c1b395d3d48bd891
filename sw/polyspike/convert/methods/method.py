"""What a conversion method is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from polyspike.network import CountRange

from ..options import Options

#: The counts of integrate-and-fire neurons. A layer without a ReLU emits a spike of either sign.
SINGLE_SPIKES = {"counts": CountRange(0, 1, 4), "signed_counts": CountRange(1, 1, 4)}


@dataclasses.dataclass(frozen=True)
class ConversionMethod:
    """A conversion method: the options in which it differs from those of `Options`.

    `name` is what users call it, `paper` where it is published.
    """

    name: str
    paper: str
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def options(self, **chosen: Any) -> Options:
        """Return the method's options. What is `chosen`, fields of `Options`, goes before what is its own."""
        return Options(**{**self.own, **chosen})
