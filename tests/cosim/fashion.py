"""A network small enough for an event-driven simulator, trained on real Fashion-MNIST images in seconds."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from polyspike.convert import Options, convert
from polyspike.convert.datasets import fashion_mnist
from polyspike.network import Network

#: Training images, and images to test on.
TRAINING, TEST = 5000, 500


def small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images of half the size, uint8 [N, 1, 14, 14]: the mean of each 2 x 2 pixels."""
    return images.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)).astype(np.uint8)


class FashionNet(nn.Module):
    """14 x 14 pixels to 10 classes: a strided convolution, a residual block, a global average and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, stride=4, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AvgPool2d(4)
        self.output = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.relu(self.third(F.relu(self.second(x))) + x)
        logits: torch.Tensor = self.output(self.pool(x).flatten(1))
        return logits


def train(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> nn.Module:
    """Return a trained network."""
    torch.manual_seed(0)
    model = FashionNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    for _ in range(4):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval()


def fashion_networks(timesteps: Iterable[int]) -> tuple[list[Network], NDArray[np.uint8], NDArray[np.int64]]:
    """Return one trained network converted for several numbers of timesteps, and images and labels it has not seen."""
    training, test = fashion_mnist("train").first(TRAINING), fashion_mnist("test").first(TEST)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small are not worth sharing
    try:
        images = small(training.images)
        model = train(images, training.labels)
        networks = [convert(model, images[:500], Options(timesteps=t), name=f"fashion{t}") for t in timesteps]
    finally:
        torch.set_num_threads(threads)
    return networks, small(test.images), test.labels
