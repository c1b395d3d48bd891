"""Membrane units: what one unit of a membrane is worth, for each output channel.

arithmetic.md in numbers: with the weights M = W * d_in in activation units (an input channel's step folded in), unit
u, and output step d_out, the integers are w = round(M / u), theta = round(d_out / u), b = round(B / u). Here u is
chosen, within what eight bits of weight allow, so that d_out / u is a whole number: then theta is exact. Where
several terms meet in one membrane, each has a shift (its weights count in units of u * 2^shift), and u is the one
with the least weight error.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from polyspike.spec import ConversionError

LARGEST_WEIGHT = 127
LARGEST_SHIFT = 7

#: Accumulator width that the largest thresholds are made for (arithmetic.md: theta <= 2^(A - 2) / 2^B).
_ACCUMULATOR = 24
_CANDIDATES = 24


def round_half_up(x: Tensor) -> Tensor:
    """Round to integers, halves upwards."""
    return torch.floor(x + 0.5)


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """`unit` is float [channels], `shifts` has one entry a term."""

    unit: Tensor
    shifts: tuple[int, ...]

    def worth(self, index: int) -> Tensor:
        """Return what one unit of weight of a term is worth, [channels, 1, 1, 1]."""
        return self.unit.view(-1, 1, 1, 1) * (1 << self.shifts[index])

    def weight(self, scaled: Tensor, index: int) -> Tensor:
        """Return a term's integer weights, as floats, for its weights in activation units."""
        return round_half_up(scaled / self.worth(index)).clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)


def largest_theta(bits: int) -> int:
    """Return the largest threshold for spike counts of so many bits."""
    return (1 << (_ACCUMULATOR - 2)) >> bits


def membrane_units(
    scaled: Sequence[Tensor],
    target: Tensor | None,
    bits: int,
    name: str,
    headroom: Tensor | None = None,
) -> Units:
    """Choose units and shifts for one layer.

    Parameters
    ----------
    scaled
        Every term's weights in activation units, [out, in / groups, kh, kw].
    target
        The output step [out]; None for a layer whose membranes are the result.
    bits
        Width of the layer's spike counts.
    name
        The layer's name, for errors.
    headroom
        Factor [out], at least 1, by which units are coarser than weights need, to keep membranes in the accumulator.

    Raises
    ------
    ConversionError
        The weights are too large for the output step at any shift.
    """
    sizes = [weight.abs().flatten(1).amax(1) for weight in scaled]

    def finest(shifts: Sequence[int]) -> Tensor:
        need = torch.stack([size / (LARGEST_WEIGHT << shift) for size, shift in zip(sizes, shifts, strict=True)])
        unit = need.amax(0)
        if target is not None:
            unit = unit.maximum(target / largest_theta(bits))
        # A channel without weights still has a bias to express.
        unit = torch.where(unit > 0, unit, unit.amax().clamp(min=1e-12))
        return unit if headroom is None else unit * headroom

    def fitted(shifts: Sequence[int], back: int = 0) -> Tensor:
        unit = finest(shifts)
        if target is None:
            return unit
        # A hair above, so that a whole number is not taken for the one below it, but never above the largest.
        whole = torch.floor(target / unit * (1 + 1e-5)).clamp(max=largest_theta(bits))
        return target / (whole - back).clamp(min=1)

    def error(units: Units) -> Tensor:
        total = torch.zeros_like(units.unit)
        for index, weight in enumerate(scaled):
            rest = weight - units.weight(weight, index) * units.worth(index)
            total = total + rest.square().flatten(1).sum(1)
        return total

    shifts = [0] * len(scaled)
    for index in range(1, len(scaled)):
        options = []
        for shift in range(LARGEST_SHIFT + 1):
            tried = (*shifts[:index], shift, *([LARGEST_SHIFT] * (len(scaled) - index - 1)))
            # The error relative to the step counts, whatever the channel.
            relative = error(Units(fitted(tried), tried)) / (target.square() if target is not None else 1.0)
            options.append(float(relative.sum()))
        shifts[index] = min(range(len(options)), key=options.__getitem__)
    while target is not None and bool((target * (1 + 1e-5) < finest(shifts)).any()):
        if max(shifts) == LARGEST_SHIFT:
            raise ConversionError(
                f"layer {name!r}: its weights are more than {LARGEST_WEIGHT << LARGEST_SHIFT} times larger than its "
                "output step, so one input spike would overrun the output's range. Calibrate with images like those it "
                "was trained on"
            )
        shifts = [shift + 1 for shift in shifts]
    chosen = tuple(shifts)
    best = fitted(chosen)
    if len(scaled) > 1 and target is not None:
        least = error(Units(best, chosen))
        for back in range(1, _CANDIDATES):
            unit = fitted(chosen, back)
            tried_error = error(Units(unit, chosen))
            best, least = torch.where(tried_error < least, unit, best), least.minimum(tried_error)
    return Units(best, chosen)
