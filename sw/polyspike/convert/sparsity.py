"""Training for few spikes: a penalty on the share of activations that are not zero, which are events on the hardware.

The share is not differentiable. Its stand-in is Hoyer's measure of each map, (sum |x|)^2 / (N sum x^2), which is the
share where all that is not zero is equal, does not change with the map's scale, and draws small activations to
zero more than large ones (Kurtz et al., "Inducing and exploiting activation sparsity", ICML 2020; Yang, Wen and Li,
"DeepHoyer", ICLR 2020). Each layer counts by the products that its input takes part in.
"""

from typing import Any

import torch
from torch import Tensor, nn

from polyspike.spec import InputError


class Watch:
    """What the convolutions and linear layers of a model see, but for those that see the image itself.

    Raises
    ------
    InputError
        The model has no such layers: a quantized one, for example, computes with their weights alone.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        if not layers:
            raise InputError(
                f"sparsity is for networks of convolutions and linear layers; {type(model).__name__} has none"
            )
        self._hooks = [layer.register_forward_hook(self._see) for layer in layers]
        self._shares: list[Tensor] = []
        self._products: list[int] = []

    def _see(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        (x,) = inputs
        if x.requires_grad:
            weight = layer.get_parameter("weight")
            self._shares.append(hoyer(x.float()))
            self._products.append(output[0].numel() * weight[0].numel())

    def take(self) -> Tensor:
        """Return the share of products that are not with zero, by Hoyer's measure, since the last call; a scalar."""
        total = torch.zeros(())
        for share, products in zip(self._shares, self._products, strict=True):
            total = total + share * (products / sum(self._products))
        self._shares, self._products = [], []
        return total

    def stop(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()


def hoyer(x: Tensor) -> Tensor:
    """Return Hoyer's measure of the samples of a batch [batch, ...], on average: 0 to 1, a scalar."""
    x = x.flatten(1)
    return (x.abs().sum(1).square() / (x.square().sum(1) * x.shape[1] + 1e-9)).mean()
