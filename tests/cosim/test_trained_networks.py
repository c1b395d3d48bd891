"""Trained networks on the simulated gateware of `large`: every spike count and membrane equals the golden model's."""

import os
from pathlib import Path

import pytest

from polyspike.compiler import compile
from polyspike.convert import Options, convert, demo, load_state, to_network
from polyspike.convert.datasets import cifar10_jpeg, fashion_mnist
from polyspike.convert.models import ResNet20
from polyspike.driver import compare, open_device
from polyspike.network import Network
from polyspike.spec import LARGE

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("POLYSPIKE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


def differing(network: Network, images: object) -> str:
    """Run images on both devices and return what the comparison says."""
    program = compile(network, LARGE)
    results = []
    for url in ("sim", "golden"):
        with open_device(url) as device:
            device.load(program)
            results.append(device.infer(images, trace=True))  # type: ignore[arg-type]
    comparison = compare(*results)
    assert comparison.compared > 100_000
    return str(comparison)


@pytest.mark.parametrize("timesteps", [1, 2])
def test_demo_network(timesteps: int) -> None:
    network = to_network(demo.load_finetuned(Options(timesteps=timesteps)), "demo")
    assert differing(network, fashion_mnist("test").first(2).images).startswith("0 of ")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no trained ResNet-20 and no CIFAR-10 (JPEG) at {SHARED}")
def test_resnet20() -> None:
    model = ResNet20()
    load_state(model, SHARED / "resnet20_cifar10.safetensors")
    calibration = cifar10_jpeg("train", SHARED, limit=128).images
    network = convert(model, calibration, Options(mean=ResNet20.MEAN, std=ResNet20.STD))
    assert differing(network, cifar10_jpeg("test", SHARED, limit=4).images).startswith("0 of ")
