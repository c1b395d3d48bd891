"""Training for few spikes: the measure, what it is weighted by, and that the integer network has fewer events."""

import dataclasses
import functools

import pytest
import torch
from torch import nn

from convert.zoo import halves
from polyspike.convert import Options, calibrate, convert, finetune
from polyspike.convert.float_training import normalized
from polyspike.convert.models import build
from polyspike.convert.sparsity import Watch, hoyer
from polyspike.convert.training import Schedule, train
from polyspike.golden import densities, run
from polyspike.network import quantize
from polyspike.spec import InputError

SCHEDULE = Schedule(epochs=12, rate=0.05, batch=32, flip=False, bfloat16=False)
PREPARE = functools.partial(normalized, mean=(0.0,), std=(1.0,))


def test_the_measure_is_the_share_where_all_are_equal():
    x = torch.zeros(3, 2, 5)
    x[0] = 7.0
    x[1, 0, :3] = 0.25
    x[2, 1, 4] = -2.0
    assert hoyer(x).item() == pytest.approx((1 + 0.3 + 0.1) / 3, rel=1e-5)
    assert hoyer(100 * x).item() == pytest.approx(hoyer(x).item(), rel=1e-5)
    assert hoyer(torch.zeros(2, 4)).item() == 0


def test_layers_count_by_the_products_of_their_inputs():
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.Linear(54, 2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last)
    watch = Watch(model)
    x = torch.rand(5, 1, 8, 8)
    model(x)
    before_second = first(x).relu()
    before_last = second(before_second).relu().flatten(1)
    # An output of the second layer is a sum of 2 channels x 9 taps, one of the last, of 54. The first sees the image.
    products = (6 * 3 * 3 * 2 * 9, 2 * 54)
    shares = [hoyer(each).item() for each in (before_second, before_last)]
    watch.take()
    model(x)
    expected = sum(share * each for share, each in zip(shares, products, strict=True)) / sum(products)
    assert watch.take().item() == pytest.approx(expected, rel=1e-5)
    assert watch.take().item() == 0
    watch.stop()
    model(x)
    assert watch.take().item() == 0


def test_training_for_few_spikes_makes_few_events():
    images, labels = halves(256)
    found = {}
    for sparsity in (0.0, 4.0):
        torch.manual_seed(0)
        conv, linear = nn.Conv2d(1, 8, 3, bias=False), nn.Linear(288, 2)
        model = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), linear)
        train(model, images, labels, PREPARE, dataclasses.replace(SCHEDULE, sparsity=sparsity), progress=False)
        network = convert(model, images[:64], Options())
        result = run(network, quantize(network.input, images), observe=True)
        classes = result.membranes.reshape(len(images), -1).argmax(1)
        assert (classes == labels).mean() > 0.95
        found[sparsity] = [share.one for name, share in densities(result.counts).items() if name != "input"]
    assert sum(found[4.0]) < 0.6 * sum(found[0.0])


def test_what_cannot_be_watched_is_refused():
    images, labels = halves(64)
    with pytest.raises(InputError, match="sparsity of a training schedule must not be negative, but it is -1"):
        dataclasses.replace(SCHEDULE, sparsity=-1.0)
    quantized = calibrate(build("mlp", (1, 8, 8), 2).eval(), images, Options())
    with pytest.raises(
        InputError, match="sparsity is for networks of convolutions and linear layers; QuantizedModel has none"
    ):
        finetune(quantized, images, labels, dataclasses.replace(SCHEDULE, sparsity=1.0), progress=False)
