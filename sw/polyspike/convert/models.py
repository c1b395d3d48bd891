"""Float networks this project ships or reads checkpoints of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DemoVGG(nn.Sequential):
    """A small VGG with batch norm and average pooling: [batch, 1, 28, 28] in 0..1 to logits [batch, classes].

    Widths 32, 32, 64, 64, 128, then a global average and a linear layer: 141 k parameters, so that all weights are
    resident in the larger configurations. Average pooling, because that of spike counts is exact at any number of
    timesteps.
    """

    def __init__(self, classes: int = 10):
        super().__init__()
        widths = (1, 32, 32, 64, 64, 128)
        for index in range(1, len(widths)):
            conv = nn.Conv2d(widths[index - 1], widths[index], 3, padding=1, bias=False)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", nn.BatchNorm2d(widths[index]))
            self.add_module(f"relu{index}", nn.ReLU())
            if index in (2, 4):
                self.add_module(f"pool{index // 2}", nn.AvgPool2d(2))
        self.add_module("average", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())
        self.add_module("classifier", nn.Linear(widths[-1], classes))


class _Block(nn.Module):
    """Two convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.extra = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, h / stride, w / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """The CIFAR ResNet with 20 layers (He et al., 2016, option A shortcuts), for 3 x 32 x 32 images.

    Its state dict has `conv1`, `bn1`, `layer1` .. `layer3` of three blocks each (`conv1`, `bn1`, `conv2`, `bn2`) and
    `linear`.
    """

    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(_Block(16, 16, 1), _Block(16, 16, 1), _Block(16, 16, 1))
        self.layer2 = nn.Sequential(_Block(16, 32, 2), _Block(32, 32, 1), _Block(32, 32, 1))
        self.layer3 = nn.Sequential(_Block(32, 64, 2), _Block(64, 64, 1), _Block(64, 64, 1))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, 3, 32, 32] to logits [batch, classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, x.size(3))
        logits: Tensor = self.linear(torch.flatten(x, 1))
        return logits
