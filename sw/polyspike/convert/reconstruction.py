"""Reconstruction: a layer's weights and bias, chosen anew so that from quantized inputs it computes the float sums.

For one layer, with its quantized inputs x over some positions of the calibration images and the float network's sums y
there, the weights W and the bias b minimize

    mean |W x + b - y|^2 + lambda |W - W0|^2

which is ridge regression towards the trained weights W0, solved in closed form. Layers are taken in order, so each one
makes up for what those before it lost. Lambda is chosen for each layer by images that the regression has not seen.
What a neuron does with a sum is taken into account as in Zhang et al., "Accelerating Very Deep Convolutional Networks"
(TPAMI 2016): a sum below zero is as good as zero before a ReLU, and one above the range as good as the range. There,
the prediction itself becomes the target where it is on the right side, and the regression is repeated. The second
moments of the inputs stay the same, so that costs little.

Weights of 4 bits are then rounded one input after the other, and what each rounding changes in the sums is made up for
by the weights not rounded yet: GPTQ (Frantar et al., ICLR 2023), which is optimal brain surgery with the same second
moments.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .graph import Role, Term
from .quantized import QuantizedLayer, scale_inputs

#: Lambdas, relative to the mean second moment of an input; the last one leaves the weights nearly as they are.
_STRENGTHS = (0.003, 0.03, 0.3, 3.0, 1e4)
#: Share of the images that decide between them.
_HELD_OUT = 0.25
#: Regressions of a rectified layer.
_ROUNDS = 3
#: What keeps the second moments invertible in rounding.
_DAMPING = 0.01
#: Positions to learn from: so many for each weight of an output channel, within these limits.
_POSITIONS_PER_WEIGHT = 64
_POSITIONS = (8192, 32768)


@torch.no_grad()
def reconstruct(layer: QuantizedLayer, inputs: Sequence[Tensor], steps: Sequence[Tensor], wanted: Tensor) -> None:
    """Change a layer's weights and bias in place.

    Parameters
    ----------
    layer
        A layer that is not pooling; its range is chosen already.
    inputs
        The quantized activations that each of its terms sees, the mean over timesteps, [batch, in, height, width].
    steps
        What one spike of each of these is worth, [in].
    wanted
        The float network's sums, [batch, out, height, width].
    """
    node = layer.node
    places = _places(wanted, max(term.weight[0].numel() for term in node.terms))
    images = places // (wanted.shape[2] * wanted.shape[3])
    held = images >= round(len(wanted) * (1 - _HELD_OUT))
    target = _rows(wanted)[places]
    sums = [
        _rows(term.apply(x, weight))[places] for term, x, weight in zip(node.terms, inputs, layer.weights, strict=True)
    ]
    limits = _limits(layer)
    for index, term in enumerate(node.terms):
        if term.fixed:
            continue
        rest = sum((value for other, value in enumerate(sums) if other != index), start=torch.zeros_like(target))
        taps = _taps(term, inputs[index], places)
        weight = _regress(taps, layer.weights[index].detach(), target, rest, limits, held)
        layer.weights[index].copy_(weight)
        if layer.weight_bits[index] == 4:
            _round(layer, index, taps, steps)
        sums[index] = _multiply(taps, _matrix(layer.weights[index].detach(), term.groups))
    total = torch.stack(sums).sum(0)
    layer.bias.copy_((_matter(target, total + layer.bias, limits) - total).mean(0))


_Limits = tuple[Tensor, Tensor] | None


def _limits(layer: QuantizedLayer) -> _Limits:
    """Return below and above which sums all mean the same."""
    if layer.node.role is not Role.RELU:
        return None
    assert layer.range is not None
    return torch.zeros(()), layer.range.detach()


def _matter(target: Tensor, got: Tensor, limits: _Limits) -> Tensor:
    """Return targets that ask for nothing where a limit makes what was got as good as what was wanted."""
    if limits is None:
        return target
    low, high = limits
    target = torch.where(target <= low, got.minimum(low), target)
    return torch.where(target >= high, got.maximum(high), target)


class _Moments:
    """Moments of some rows of `taps` [groups, rows, number], from which any number of ridge regressions follow."""

    def __init__(self, taps: Tensor):
        self.taps = taps
        self.mean = taps.mean(1, keepdim=True)
        centered = taps - self.mean
        self.second = (centered.transpose(1, 2) @ centered / taps.shape[1]).double()

    def cross(self, goal: Tensor) -> Tensor:
        """Return the second moments with a goal [rows, out], [groups, number, out / groups]."""
        groups, rows = self.taps.shape[:2]
        centered = (goal - goal.mean(0)).reshape(rows, groups, -1).transpose(0, 1)
        return (self.taps.transpose(1, 2) @ centered / rows).double()

    def factor(self, strength: float) -> tuple[Tensor, Tensor]:
        """Return lambda, and the Cholesky factor of the second moments with it."""
        absolute = strength * self.second.diagonal(dim1=1, dim2=2).mean().clamp(min=1e-12)
        eye = torch.eye(self.second.shape[1], dtype=torch.double)
        return absolute, torch.linalg.cholesky(self.second + absolute * eye)

    def bias(self, weight: Tensor, goal: Tensor) -> Tensor:
        """Return the bias [out] with which weights meet a goal on average."""
        return goal.mean(0) - (self.mean @ weight.float()).reshape(-1)


def _regress(taps: Tensor, weight: Tensor, target: Tensor, rest: Tensor, limits: _Limits, held: Tensor) -> Tensor:
    """Return weights for inputs `taps`, so that with `rest` they make up `target` [rows, out].

    `held` tells the rows that decide on lambda.
    """
    trained = _matrix(weight, taps.shape[0]).double()
    strength = _STRENGTHS[-1]
    if bool(held.any()) and not bool(held.all()):
        kept = ~held
        moments = _Moments(taps[:, kept])
        goal = target[kept] - rest[kept]
        cross = moments.cross(goal)
        errors = []
        for tried in _STRENGTHS:
            absolute, factor = moments.factor(tried)
            found = torch.cholesky_solve(cross + absolute * trained, factor)
            got = _multiply(taps[:, held], found) + rest[held] + moments.bias(found, goal)
            errors.append(float((_matter(target[held], got, limits) - got).square().mean()))
        strength = _STRENGTHS[errors.index(min(errors))]
    moments = _Moments(taps)
    absolute, factor = moments.factor(strength)
    goal = target - rest
    for again in range(1 if limits is None else _ROUNDS):
        if again:
            got = _multiply(taps, found) + rest + moments.bias(found, goal)
            goal = _matter(target, got, limits) - rest
        found = torch.cholesky_solve(moments.cross(goal) + absolute * trained, factor)
    return found.transpose(1, 2).reshape(weight.shape).float()


def _round(layer: QuantizedLayer, index: int, taps: Tensor, steps: Sequence[Tensor]) -> None:
    """Round one term's weights to what their integers stand for."""
    term, weight = layer.node.terms[index], layer.weights[index].detach()
    units = layer.units(steps)
    groups, rows, number = taps.shape
    # In units of the membrane, where integers are; inputs become counts.
    ratio = scale_inputs(torch.ones_like(weight), steps[index], term)
    spans = ratio.reshape(groups, -1, number)[:, :1]
    ratio = ratio / units.worth(index)
    counts = (taps - taps.mean(1, keepdim=True)) / spans
    moments = (counts.transpose(1, 2) @ counts / rows).double()
    size = moments.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12).view(-1, 1, 1)
    moments += _DAMPING * size * torch.eye(number, dtype=torch.double)
    # Rows of the upper factor of the inverse say how the rest makes up for a rounding.
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)
    work = (weight * ratio).double().reshape(groups, -1, number)
    for tap in range(number):
        code = units.integers(work[:, :, tap], index)
        rest = (work[:, :, tap] - code) / upper[:, tap, tap, None]
        work[:, :, tap + 1 :] -= rest[:, :, None] * upper[:, None, tap, tap + 1 :]
        work[:, :, tap] = code
    layer.weights[index].copy_(work.reshape(weight.shape) / ratio)


def _places(sums: Tensor, weights: int) -> Tensor:
    """Return the positions to learn from, as indices into the rows of `_rows`."""
    total = sums.numel() // sums.shape[1]
    low, high = _POSITIONS
    number = min(max(low, _POSITIONS_PER_WEIGHT * weights), high)
    if total <= number:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:number]


def _rows(sums: Tensor) -> Tensor:
    """Return [batch, out, height, width] as [positions, out]."""
    return sums.permute(0, 2, 3, 1).flatten(0, 2)


def _taps(term: Term, x: Tensor, places: Tensor) -> Tensor:
    """Return what the weights of a group's output channel see, [groups, rows, in / groups * kh * kw]."""
    window, stride, padding = term.window, term.stride, term.padding
    if term.shared:
        x = F.avg_pool2d(x, window, stride, padding) * term.taps
        window, stride, padding = (1, 1), (1, 1), (0, 0)
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height, width = ((size - k) // s + 1 for size, k, s in zip(x.shape[2:], window, stride, strict=True))
    image, row, column = places // (height * width), places // width % height * stride[0], places % width * stride[1]
    found = torch.stack([x[image, :, row + y, column + z] for y in range(window[0]) for z in range(window[1])], 2)
    return found.reshape(len(places), term.groups, -1).transpose(0, 1).contiguous()


def _matrix(weight: Tensor, groups: int) -> Tensor:
    """Return weights [out, in / groups, kh, kw] as [groups, taps, out / groups]."""
    return weight.reshape(groups, -1, weight[0].numel()).transpose(1, 2)


def _multiply(taps: Tensor, matrix: Tensor) -> Tensor:
    """Return the sums [rows, out] of `_taps` with weights as of `_matrix`."""
    return (taps @ matrix.float()).transpose(0, 1).reshape(taps.shape[1], -1)
