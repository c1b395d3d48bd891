"""What a conversion method is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from polyspike.network import CountRange

from ..options import Options

#: The counts of integrate-and-fire neurons. A layer without a ReLU emits a spike of either sign.
SINGLE_SPIKES = {"counts": CountRange(0, 1, 4), "signed_counts": CountRange(1, 1, 4)}

#: Calibration as in the papers: one range a layer, and weights as they were trained.
ONE_RANGE = {"per_channel": False, "reconstruct": False}

#: Largest unsigned count of 4 bits.
_MOST_LEVELS = 15


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

    def training_options(self, options: Options) -> Options:
        """Return what to fine-tune with for `options`: one timestep, with the levels that its timesteps can express.

        So QCFS trains: a neuron of one spike a timestep has T levels after T timesteps. As many as 4 bits hold;
        neurons that have those at one timestep already are trained at one.
        """
        unsigned = min(_MOST_LEVELS, options.timesteps * options.relu_counts.n_pos)
        signed = options.linear_counts
        positive, negative = (
            min(most, options.timesteps * count) for most, count in ((7, signed.n_pos), (8, signed.n_neg))
        )
        return options.replace(
            timesteps=1,
            counts=CountRange(0, unsigned, 4),
            signed_counts=CountRange(negative, positive, 4),
            initial_potential=0.5,
            negative_threshold=0.0,
            probabilistic=False,
        )
