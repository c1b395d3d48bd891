"""The trained CIFAR ResNet-20: real residuals, real shortcuts."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from polyspike.convert import Options, calibrate, load_state, to_network, trace
from polyspike.convert.datasets import cifar10_jpeg
from polyspike.convert.models import ResNet20
from polyspike.convert.training import predict
from polyspike.network import Layer, membrane_ranges

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("POLYSPIKE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


def test_residuals_join_in_one_membrane():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)
    quantized = calibrate(ResNet20(), images, Options(mean=ResNet20.MEAN, std=ResNet20.STD))
    network = to_network(quantized, "resnet20")
    layers = [node for node in network if isinstance(node, Layer)]
    # 19 convolutions and the linear layer; every second convolution of a block takes the shortcut in.
    assert len(layers) == 20
    assert sum(len(layer.synapses) == 2 for layer in layers) == 9
    reduced = network["layer2.0.conv2"]
    assert reduced.synapses[1].stride == (2, 2) and reduced.synapses[1].weight.shape == (32, 16, 1, 1)
    assert network.output.synapses[0].shared and network.output.synapses[0].window == (8, 8)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no trained ResNet-20 and no CIFAR-10 (JPEG) at {SHARED}")
def test_trained_network_keeps_its_accuracy():
    model = ResNet20()
    load_state(model, SHARED / "resnet20_cifar10.safetensors")
    network = trace(model, (3, 32, 32))
    options = Options(mean=ResNet20.MEAN, std=ResNet20.STD)
    quantized = calibrate(network, cifar10_jpeg("train", SHARED, limit=256).images, options)
    test = cifar10_jpeg("test", SHARED, limit=500)
    inputs = quantized.prepare(test.images)
    wanted = (predict(lambda x: network.run(x).flatten(1), inputs) == test.labels).mean()
    got = (predict(quantized, inputs) == test.labels).mean()
    assert wanted > 0.77
    assert got > wanted - 0.03
    bits = max(int(ranges.bits().max()) for ranges in membrane_ranges(to_network(quantized, "resnet20")).values())
    assert bits <= 24
