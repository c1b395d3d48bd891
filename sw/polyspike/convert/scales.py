"""Membrane units: what one unit of a membrane is worth, for each output channel.

arithmetic.md in numbers: with the weights M = W * d_in in activation units (an input channel's step folded in), unit
u, and output step d_out, the integers are w = round(M / u), theta = round(d_out / u), b = round(B / u). Here u is
chosen, within what eight bits of weight allow, so that d_out / u is a whole number: then theta is exact. Where
several terms meet in one membrane, each has a shift (its weights count in units of u * 2^shift), and u is the one
with the least weight error.

Weights of 4 bits have 15 values, and clipping the largest ones may do less harm than a coarse unit does to all. There u
is searched below what the largest weight needs as well. Weights that are integer multiples of some unit already find
that unit again, because with it the error is zero.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from polyspike.spec import ConversionError

LARGEST_SHIFT = 7

#: Accumulator width that the largest thresholds are made for (arithmetic.md: theta <= 2^(A - 2) / 2^B).
_ACCUMULATOR = 24
_CANDIDATES = 24

#: Shares of the largest weight that weights of 4 bits are tried to be clipped at.
_CLIPPING = torch.linspace(0.4, 1.0, 49, dtype=torch.double)
#: Shifts that are tried for the first term, if its weights have 4 bits and others join it.
_FIRST_SHIFTS = 4


def largest_weight(bits: int) -> int:
    """Return the largest magnitude of weights of so many bits; they are symmetric."""
    return (1 << (bits - 1)) - 1


def round_half_up(x: Tensor) -> Tensor:
    """Round to integers, halves upwards."""
    return torch.floor(x + 0.5)


@dataclasses.dataclass(frozen=True, eq=False)
class Units:
    """`unit` is float [channels]; `shifts` and `bits`, the widths of weights, have one entry a term."""

    unit: Tensor
    shifts: tuple[int, ...]
    bits: tuple[int, ...]

    def worth(self, index: int) -> Tensor:
        """Return what one unit of weight of a term is worth, [channels, 1, 1, 1]."""
        return self.unit.view(-1, 1, 1, 1) * (1 << self.shifts[index])

    def weight(self, scaled: Tensor, index: int) -> Tensor:
        """Return a term's integer weights, as floats, for its weights in activation units."""
        return self.integers(scaled / self.worth(index), index)

    def integers(self, multiples: Tensor, index: int) -> Tensor:
        """Return a term's integer weights, as floats, for its weights in units of `worth`."""
        limit = largest_weight(self.bits[index])
        return round_half_up(multiples).clamp(-limit, limit)


def largest_theta(bits: int) -> int:
    """Return the largest threshold for spike counts of so many bits."""
    return (1 << (_ACCUMULATOR - 2)) >> bits


def membrane_units(
    scaled: Sequence[Tensor],
    target: Tensor | None,
    bits: int,
    name: str,
    headroom: Tensor | None = None,
    weight_bits: Sequence[int] | None = None,
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
    weight_bits
        Width of every term's weights, 4 or 8; 8 if left out.

    Raises
    ------
    ConversionError
        The weights are too large for the output step at any shift.
    """
    widths = tuple(weight_bits or (8,) * len(scaled))
    limits = [largest_weight(width) for width in widths]
    sizes = [weight.abs().flatten(1).amax(1) for weight in scaled]

    def finest(shifts: Sequence[int]) -> Tensor:
        need = torch.stack([z / (limit << shift) for z, limit, shift in zip(sizes, limits, shifts, strict=True)])
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

    def error(unit: Tensor, shifts: Sequence[int]) -> Tensor:
        units = Units(unit, tuple(shifts), widths)
        total = torch.zeros_like(unit)
        for index, weight in enumerate(scaled):
            rest = weight - units.weight(weight, index) * units.worth(index)
            total = total + rest.square().flatten(1).sum(1)
        return total

    def searched(first: int) -> list[int]:
        """Return shifts for the later terms, given that of the first."""
        shifts = [first, *[0] * (len(scaled) - 1)]
        for index in range(1, len(scaled)):
            options = []
            for shift in range(LARGEST_SHIFT + 1):
                tried = (*shifts[:index], shift, *([LARGEST_SHIFT] * (len(scaled) - index - 1)))
                # The error relative to the step counts, whatever the channel.
                relative = error(fitted(tried), tried) / (target.square() if target is not None else 1.0)
                options.append(float(relative.sum()))
            shifts[index] = min(range(len(options)), key=options.__getitem__)
        return shifts

    def best(shifts: Sequence[int]) -> Tensor:
        """Return the units with the least weight error."""
        units = [fitted(shifts, back) for back in range(_CANDIDATES if len(scaled) > 1 and target is not None else 1)]
        if headroom is None or not bool((headroom > 1).any()):
            for index in (index for index, width in enumerate(widths) if width == 4):
                units += _clipped(sizes[index] / (1 << shifts[index]), target, largest_theta(bits))
        chosen, least = units[0], error(units[0], shifts)
        for unit in units[1:]:
            unit = torch.where(unit > 0, unit, chosen)
            tried = error(unit, shifts)
            chosen, least = torch.where(tried < least, unit, chosen), least.minimum(tried)
        return chosen

    shifts = searched(0)
    while target is not None and bool((target * (1 + 1e-5) < finest(shifts)).any()):
        if max(shifts) == LARGEST_SHIFT:
            raise ConversionError(
                f"layer {name!r}: its weights are more than {limits[0] << LARGEST_SHIFT} times larger than its "
                "output step, so one input spike would overrun the output's range. Calibrate with images like those it "
                "was trained on"
            )
        shifts = [shift + 1 for shift in shifts]
    if widths[0] == 4 and len(scaled) > 1 and target is not None and max(shifts) < LARGEST_SHIFT - _FIRST_SHIFTS:
        # Terms of 8 bits beside it may need a finer unit than its few values do.
        tries = [shifts, *(searched(first) for first in range(shifts[0] + 1, shifts[0] + _FIRST_SHIFTS + 1))]
        shifts = min(tries, key=lambda tried: float((error(best(tried), tried) / target.square()).sum()))
    return Units(best(shifts), tuple(shifts), widths)


def _clipped(size: Tensor, target: Tensor | None, largest: int) -> list[Tensor]:
    """Return units [out] to try for weights of 4 bits that reach up to `size` [out]."""
    limit = largest_weight(4)
    # Were the weights rounded before, then their largest is one of these codes in the unit of then.
    units = [size / code for code in range(1, limit + 1)] + [size * float(share) / limit for share in _CLIPPING]
    if target is None:
        return units
    wholes = [torch.round(target / unit.clamp(min=1e-30)).clamp(1, largest) for unit in units]
    return [target / whole for whole in wholes]
