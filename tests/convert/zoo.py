"""Small networks, one for each thing that can be converted, with weights and statistics that are not trivial."""

import operator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Wrap(nn.Module):
    """A network whose forward is a function of itself and x."""

    def __init__(self, forward, **modules: nn.Module):
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def head(features: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, 4)]


def conv(inputs: int, outputs: int, kernel: int = 3, **kwargs) -> nn.Conv2d:
    kwargs.setdefault("padding", kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, **kwargs)


def residual(join):
    def forward(self, x):
        x = F.relu(self.bn0(self.conv0(x)))
        y = F.relu(self.bn1(self.conv1(x)))
        y = join(self.bn2(self.conv2(y)), x)
        return self.fc(torch.flatten(F.relu(y), 1))

    return Wrap(
        forward,
        conv0=conv(2, 5),
        bn0=nn.BatchNorm2d(5),
        conv1=conv(5, 5),
        bn1=nn.BatchNorm2d(5),
        conv2=conv(5, 5),
        bn2=nn.BatchNorm2d(5),
        fc=nn.Linear(5 * 36, 4),
    )


def downsampled():
    def forward(self, x):
        x = torch.relu(self.conv0(x))
        y = self.conv2(self.relu(self.conv1(x)))
        return self.fc(self.relu(y + self.short(x)).mean((2, 3)))

    return Wrap(
        forward,
        conv0=conv(2, 4),
        conv1=conv(4, 6, stride=2),
        conv2=conv(6, 6),
        short=nn.Conv2d(4, 6, 1, stride=2),
        relu=nn.ReLU(inplace=True),
        fc=nn.Linear(6, 4),
    )


def option_a():
    def forward(self, x):
        x = F.relu(self.conv0(x))
        y = self.conv1(x)
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return self.fc(F.relu(y + x).view(-1, 6 * 9))

    return Wrap(forward, conv0=conv(2, 4), conv1=conv(4, 6, stride=2), fc=nn.Linear(54, 4))


def shared_expression():
    def forward(self, x):
        y = self.conv0(x)
        return self.fc((F.relu(self.conv1(y)) + y).flatten(1))

    return Wrap(forward, conv0=conv(2, 4), conv1=conv(4, 4), fc=nn.Linear(144, 4))


def sizes():
    def forward(self, x):
        x = F.relu(self.conv0(x))
        x = F.avg_pool2d(x, x.size()[3])
        return self.fc(x.view(x.shape[0], -1))

    return Wrap(forward, conv0=conv(2, 4), fc=nn.Linear(4, 4))


def functional():
    def forward(self, x):
        x = F.conv2d(x, self.conv0.weight, self.conv0.bias, stride=2, padding=1)
        x = F.dropout(F.max_pool2d(x.relu(), 2, 1), 0.3, self.training)
        return F.linear(x.reshape(x.size(0), -1), self.fc.weight)

    return Wrap(forward, conv0=conv(2, 4), fc=nn.Linear(16, 4))


def in_place():
    def forward(self, x):
        x = F.relu(self.conv0(x))
        y = self.conv1(x)
        y += x
        y = self.relu(y)
        return self.fc(y.flatten(1))

    return Wrap(forward, conv0=conv(2, 4), conv1=conv(4, 4), relu=nn.ReLU(inplace=True), fc=nn.Linear(144, 4))


#: name -> (function that builds the network, shape of its input)
ZOO = {
    "plain": (lambda: nn.Sequential(conv(2, 5), nn.ReLU(), *head(180)), (2, 6, 6)),
    "stride": (lambda: nn.Sequential(conv(2, 5, stride=2), nn.ReLU(), *head(45)), (2, 6, 6)),
    "uneven": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, (3, 2), (1, 2), (0, 1)), nn.ReLU(), *head(80)),
        (2, 6, 6),
    ),
    "same": (lambda: nn.Sequential(conv(2, 5, padding="same"), nn.ReLU(), *head(180)), (2, 6, 6)),
    "valid": (lambda: nn.Sequential(conv(2, 5, padding="valid"), nn.ReLU(), *head(80)), (2, 6, 6)),
    "groups": (lambda: nn.Sequential(conv(2, 4), nn.ReLU(), conv(4, 6, groups=2), nn.ReLU(), *head(216)), (2, 6, 6)),
    "depthwise": (
        lambda: nn.Sequential(
            conv(2, 4), nn.ReLU(), conv(4, 4, groups=4), nn.ReLU(), conv(4, 6, 1), nn.ReLU(), *head(216)
        ),
        (2, 6, 6),
    ),
    "batchnorm": (
        lambda: nn.Sequential(conv(2, 4, bias=False), nn.BatchNorm2d(4), nn.ReLU(), *head(144)),
        (2, 6, 6),
    ),
    "batchnorm after relu": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.BatchNorm2d(4), conv(4, 4), nn.ReLU(), *head(144)),
        (2, 6, 6),
    ),
    "batchnorm1d": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4)),
        (2, 6, 6),
    ),
    "flatten first": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 4)), (2, 6, 6)),
    "no activation": (lambda: nn.Sequential(conv(2, 4), conv(4, 4), nn.ReLU(), *head(144)), (2, 6, 6)),
    "relu6": (lambda: nn.Sequential(conv(2, 4), nn.ReLU6(), conv(4, 4), nn.Hardtanh(0, 1), *head(144)), (2, 6, 6)),
    "average pooling": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.AvgPool2d(2), conv(4, 4), nn.ReLU(), *head(36)),
        (2, 6, 6),
    ),
    "overlapping average pooling": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.AvgPool2d(3, 2, 1), conv(4, 4), nn.ReLU(), *head(36)),
        (2, 6, 6),
    ),
    "average pooling before flatten": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.AvgPool2d(3, 2, 1), *head(36)),
        (2, 6, 6),
    ),
    "global average": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), *head(4)),
        (2, 6, 6),
    ),
    "average of a linear layer": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), conv(4, 4), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
        (2, 6, 6),
    ),
    "adaptive": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d((3, None)), conv(4, 4), nn.ReLU(), *head(72)),
        (2, 6, 6),
    ),
    "max pooling": (
        lambda: nn.Sequential(conv(2, 4), nn.MaxPool2d(2), nn.ReLU(), conv(4, 4), nn.ReLU(), *head(36)),
        (2, 6, 6),
    ),
    "padded max pooling": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(4, 4), nn.ReLU(), *head(36)),
        (2, 6, 6),
    ),
    "dropout": (
        lambda: nn.Sequential(conv(2, 4), nn.ReLU(), nn.Dropout2d(0.2), nn.Identity(), *head(144), nn.Dropout()),
        (2, 6, 6),
    ),
    "residual +": (lambda: residual(operator.add), (2, 6, 6)),
    "residual torch.add": (lambda: residual(torch.add), (2, 6, 6)),
    "residual +=": (in_place, (2, 6, 6)),
    "downsampled residual": (downsampled, (2, 6, 6)),
    "option A residual": (option_a, (2, 6, 6)),
    "shared expression": (shared_expression, (2, 6, 6)),
    "sizes": (sizes, (2, 6, 6)),
    "functional": (functional, (2, 6, 6)),
}

#: Max pooling is for one timestep only.
POOLED_BY_MAXIMUM = {"max pooling", "padded max pooling", "functional"}


def build(name: str) -> nn.Module:
    """Build a network of the zoo, seeded by its name's position, in evaluation mode."""
    torch.manual_seed(list(ZOO).index(name))
    model = ZOO[name][0]()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.2, 2.0)
    return model.eval()


def halves(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 8 x 8 with a bright left half against those with a bright right one: learned in an epoch."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, number)
    images = random.integers(0, 100, (number, 1, 8, 8), np.uint8)
    images[labels == 0, :, :, :4] += 100
    images[labels == 1, :, :, 4:] += 100
    return images, labels
