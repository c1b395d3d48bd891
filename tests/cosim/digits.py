"""A network small enough for an event-driven simulator, trained on real handwritten digits in seconds."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from polyspike.convert import Options, convert
from polyspike.network import Network

#: The first images are for training, the others for testing.
TRAINING = 1400


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images, uint8 [1797, 1, 8, 8], and labels."""
    data = load_digits()
    return (data.images * 15).astype(np.uint8)[:, None], data.target.astype(np.int64)


def train(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> nn.Module:
    """Return a trained network."""
    torch.manual_seed(0)
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    for _ in range(15):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval()


class DigitsNet(nn.Module):
    """8 x 8 pixels to 10 classes: a convolution, a residual block, average pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.second = nn.Conv2d(16, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.output = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.relu(self.third(F.relu(self.second(x))) + x)
        logits: torch.Tensor = self.output(self.pool(x).flatten(1))
        return logits


def digits_networks(timesteps: Iterable[int]) -> tuple[list[Network], NDArray[np.uint8], NDArray[np.int64]]:
    """Return one trained network converted for several numbers of timesteps, and images and labels it has not seen."""
    images, labels = digits()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small are not worth sharing
    try:
        model = train(images[:TRAINING], labels[:TRAINING])
        networks = [convert(model, images[:TRAINING], Options(timesteps=t), name=f"digits{t}") for t in timesteps]
    finally:
        torch.set_num_threads(threads)
    return networks, images[TRAINING:], labels[TRAINING:]
