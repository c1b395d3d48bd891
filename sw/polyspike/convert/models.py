"""The networks of the papers and of the field, each defined once: from the shape of an image to a float module.

Pooling is of averages unless asked for maxima, because that of spike counts is exact at any number of timesteps.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyspike.spec import ConversionError

Shape = tuple[int, int, int]


def _pool(kind: str, window: int = 2) -> nn.Module:
    pools: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
    if kind not in pools:
        raise ConversionError(f"pooling is {kind!r}; there are {', '.join(pools)}")
    return pools[kind](window)


def _convolution(inputs: int, outputs: int, window: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution that keeps the map's size (up to its stride), and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, window, stride, window // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class DemoVGG(nn.Sequential):
    """A small VGG with batch norm and average pooling: [batch, 1, 28, 28] in 0..1 to logits [batch, classes].

    Widths 32, 32, 64, 64, 128, then a global average and a linear layer: 141 k parameters, so that all weights are
    resident in the larger configurations.
    """

    def __init__(self, shape: Shape = (1, 28, 28), classes: int = 10):
        super().__init__()
        widths = (shape[0], 32, 32, 64, 64, 128)
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


class MLP(nn.Sequential):
    """A multi-layer perceptron with batch norm: the pixels, 256, 256, classes."""

    def __init__(self, shape: Shape = (1, 28, 28), classes: int = 10, hidden: Sequence[int] = (256, 256)):
        super().__init__(nn.Flatten())
        inputs = shape[0] * shape[1] * shape[2]
        for width in hidden:
            self.extend([nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()])
            inputs = width
        self.append(nn.Linear(inputs, classes))


class LeNetS(nn.Sequential):
    """LeNet-S of the spiking literature, 32C3-P2-32C3-P2-256-10, with batch norm after each convolution."""

    def __init__(self, shape: Shape = (1, 28, 28), classes: int = 10, pool: str = "average"):
        channels, height, width = shape
        super().__init__(
            *_convolution(channels, 32),
            nn.ReLU(),
            _pool(pool),
            *_convolution(32, 32),
            nn.ReLU(),
            _pool(pool),
            nn.Flatten(),
            nn.Linear(32 * (height // 4) * (width // 4), 256),
            nn.ReLU(),
            nn.Linear(256, classes),
        )


class VGG16(nn.Sequential):
    """VGG-16 (Simonyan and Zisserman, 2015) as it is used on images of 32 x 32: batch norm, one linear layer.

    `width` scales the numbers of channels. Five poolings by two: images are 32 pixels wide and high at least, or 28,
    of which the odd rows at the border are dropped.
    """

    STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10, pool: str = "average", width: float = 1.0):
        super().__init__()
        channels, height, columns = shape
        for stage in self.STAGES:
            for planned in stage:
                outputs = max(1, round(planned * width))
                self.extend([*_convolution(channels, outputs), nn.ReLU()])
                channels = outputs
            if min(height, columns) > 1:
                self.append(_pool(pool))
                height, columns = height // 2, columns // 2
        self.extend([nn.Flatten(), nn.Linear(channels * height * columns, classes)])


class DSCNN(nn.Sequential):
    """DS-CNN (Zhang et al., 2017) in MLPerf Tiny's size: a 10 x 4 convolution, four depthwise separable ones of 64.

    Meant for spectrograms of 49 x 10; works on any map. Batch norm and ReLU after each convolution.
    """

    def __init__(self, shape: Shape = (1, 28, 28), classes: int = 10, width: int = 64, blocks: int = 4):
        first = nn.Conv2d(shape[0], width, (10, 4), 2, (4, 1), bias=False)
        super().__init__(first, nn.BatchNorm2d(width), nn.ReLU())
        for _ in range(blocks):
            self.extend(_separable(width, width, 1))
        self.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)])


def _separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    depthwise = _convolution(inputs, inputs, 3, stride, groups=inputs)
    return [*depthwise, nn.ReLU(), *_convolution(inputs, outputs, 1), nn.ReLU()]


class MobileNetV1(nn.Sequential):
    """MobileNet (Howard et al., 2017) for images of 32 x 32: depthwise separable convolutions, strides 2 at three.

    `width` scales the numbers of channels; they stay multiples of 8.
    """

    BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10, width: float = 0.5):
        def scaled(channels: int) -> int:
            return max(8, 8 * round(channels * width / 8))

        channels = scaled(32)
        super().__init__(*_convolution(shape[0], channels), nn.ReLU())
        for outputs, stride in self.BLOCKS:
            self.extend(_separable(channels, scaled(outputs), stride))
            channels = scaled(outputs)
        self.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)])


class MobileNetV2(nn.Sequential):
    """MobileNetV2 (Sandler et al., 2018), small, for images of 32 x 32: inverted residuals with linear bottlenecks.

    The layers without a ReLU become neurons of both polarities. ReLU6 as in the paper.
    """

    #: expansion, channels, stride
    BLOCKS = ((1, 16, 1), (4, 24, 2), (4, 24, 1), (4, 32, 2), (4, 32, 1), (4, 64, 2), (4, 64, 1))

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10):
        super().__init__(*_convolution(shape[0], 16), nn.ReLU6())
        channels = 16
        for expansion, outputs, stride in self.BLOCKS:
            self.append(_InvertedResidual(channels, outputs, stride, expansion))
            channels = outputs
        self.extend([*_convolution(channels, 128, 1), nn.ReLU6()])
        self.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)])


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; a shortcut where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        expand = [*_convolution(inputs, hidden, 1), nn.ReLU6()] if expansion != 1 else []
        self.path = nn.Sequential(
            *expand,
            *_convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *_convolution(hidden, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, h / stride, w / stride]."""
        y: Tensor = self.path(x)
        return x + y if self.residual else y


class _Block(nn.Module):
    """Two convolutions and a shortcut: a copy, or where the shape changes a convolution of 1 x 1 or added zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.stride = stride
        self.extra = (outputs - inputs) // 2
        self.changes = stride != 1 or inputs != outputs
        if self.changes and shortcut == "convolution":
            self.shortcut = nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, inputs, h, w] to [batch, outputs, h / stride, w / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if hasattr(self, "shortcut"):
            x = self.shortcut(x)
        elif self.changes:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        result: Tensor = self.relu2(y + x)
        return result


class _ResNet(nn.Module):
    """A residual network for small images: a convolution, stages of blocks, a global average, a linear layer.

    Each stage after the first halves the map. Its state dict has `conv1`, `bn1`, `layer1` .. of blocks (`conv1`,
    `bn1`, `conv2`, `bn2`, `shortcut`) and `linear`.
    """

    def __init__(self, shape: Shape, classes: int, widths: Sequence[int], blocks: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu1 = nn.ReLU()
        self.stages = len(widths)
        inputs = widths[0]
        for index, width in enumerate(widths):
            strides = [1 if index == 0 else 2] + [1] * (blocks - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(_Block(inputs, width, stride, shortcut))
                inputs = width
            self.add_module(f"layer{index + 1}", stage)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, channels, height, width] to logits [batch, classes]."""
        x = self.relu1(self.bn1(self.conv1(x)))
        for index in range(self.stages):
            x = self.get_submodule(f"layer{index + 1}")(x)
        x = self.average(x)
        logits: Tensor = self.linear(torch.flatten(x, 1))
        return logits


class ResNet8(_ResNet):
    """The ResNet of MLPerf Tiny's image classification: three stages of one block, 16, 32, 64 channels; 78 k weights.

    Convolutions of 1 x 1 are the shortcuts where the shape changes.
    """

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10):
        super().__init__(shape, classes, (16, 32, 64), 1, "convolution")


class ResNet18(_ResNet):
    """ResNet-18 (He et al., 2016) as it is used on images of 32 x 32: four stages of two blocks, 64 to 512 channels.

    `width` scales the numbers of channels.
    """

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10, width: float = 1.0):
        widths = [max(1, round(channels * width)) for channels in (64, 128, 256, 512)]
        super().__init__(shape, classes, widths, 2, "convolution")


class ResNet20(_ResNet):
    """The CIFAR ResNet with 20 layers (He et al., 2016): shortcuts without parameters, zero channels where it widens.

    The published checkpoints were trained on images normalized by `MEAN` and `STD`.
    """

    MEAN = (0.485, 0.456, 0.406)
    STD = (0.229, 0.224, 0.225)

    def __init__(self, shape: Shape = (3, 32, 32), classes: int = 10):
        super().__init__(shape, classes, (16, 32, 64), 3, "zeros")


class EventNet(nn.Sequential):
    """A small network for counts of events: [batch, 2, 34, 34] of one time bin to logits [batch, classes].

    Three convolutions with stride 2 (widths 16, 32, 64), then a linear layer: 40 k parameters. What it makes of a
    recording is the mean of its logits over the bins; as a spiking network it keeps membranes from one bin to the next.
    """

    def __init__(self, classes: int = 10):
        super().__init__()
        widths = (2, 16, 32, 64)
        for index, kernel in enumerate((5, 3, 3), 1):
            conv = nn.Conv2d(widths[index - 1], widths[index], kernel, stride=2, padding=kernel // 2, bias=False)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", nn.BatchNorm2d(widths[index]))
            self.add_module(f"relu{index}", nn.ReLU())
        self.add_module("flatten", nn.Flatten())
        self.add_module("classifier", nn.Linear(widths[-1] * 5 * 5, classes))


class MeanOverBins(nn.Module):
    """A network of single bins for whole recordings: [batch, bins, ...] to the mean of its logits over the bins."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, bins, channels, height, width] to logits [batch, classes]."""
        batch, bins = x.shape[:2]
        logits: Tensor = self.network(x.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        return logits.view(batch, bins, -1).mean(1)


#: The networks by the names that commands and reports call them by.
NETWORKS: dict[str, type[nn.Module]] = {
    "demo": DemoVGG,
    "mlp": MLP,
    "lenet-s": LeNetS,
    "vgg16": VGG16,
    "resnet8": ResNet8,
    "resnet18": ResNet18,
    "resnet20": ResNet20,
    "ds-cnn": DSCNN,
    "mobilenet-v1": MobileNetV1,
    "mobilenet-v2": MobileNetV2,
}


def build(name: str, shape: Shape, classes: int = 10) -> nn.Module:
    """Return the network called `name` for images of `shape` (channels, height, width), untrained.

    Raises
    ------
    ConversionError
        There is none of that name, or it does not take images of that shape.
    """
    if name not in NETWORKS:
        raise ConversionError(f"there is no network {name!r}; there are {', '.join(NETWORKS)}")
    try:
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError("it must be (channels, height, width)")
        model = NETWORKS[name](shape, classes)
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape))
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"{name} does not take images of shape {shape}: {error}") from None
    return model.train()
